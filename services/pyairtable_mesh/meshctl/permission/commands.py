"""``meshctl permission``: the group of its commands."""

import click

from pyairtable_mesh.meshctl.permission.lists import what, who
from pyairtable_mesh.meshctl.permission.questions import check, explain
from pyairtable_mesh.meshctl.permission.schemas import schema


@click.group()
def permission() -> None:
    """Ask who may do what, and why; try and compare schemas.

    \b
      meshctl permission check table:tbl... create_record
      meshctl permission explain base:app... delete --subject user:usr...
      meshctl permission who base:app... update
      meshctl permission what read table
      meshctl permission schema test --local model.fga.yaml

    RESOURCE is written TYPE:ID, PERMISSION is a verb such as read, and a subject TYPE:ID, TYPE:ID#RELATION or TYPE:*.
    The token of the last login goes with each question (or PYAIRTABLE_TOKEN), and the subject is you unless another is
    named.
    """


for command in (check, explain, who, what, schema):
    permission.add_command(command)
