"""``meshctl permission schema test`` and ``diff``: a schema before it is stored."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import click
from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import failures, payload, rpc
from pyairtable_mesh.meshctl.output import Form
from pyairtable_mesh.meshctl.permission import differences, store_file, trial
from pyairtable_mesh.meshctl.permission.server import Server, server_options, space_option
from pyairtable_mesh.meshctl.problems import USAGE, WRONG, Problem

FILE = click.Path(path_type=Path)
local_option = click.option("--local", is_flag=True, help="Answer in this process; no server is asked.")


class Asked(Protocol):
    """Whoever answers: a server, or this process."""

    async def ask(self, request: Message, answer: type[rpc.Answer]) -> rpc.Answer:
        """The answer to a request. Raises `CallError`."""


@click.group()
def schema() -> None:
    """Try a schema before it is stored."""


@schema.command(epilog="Ends with 1 when an assertion fails.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@local_option
@click.option("--space", default="", metavar="modelSpaces/SPACE", help="Add the relationships that are stored here.")
@server_options
def test(files: Sequence[Path], local: bool, space: str, server: Server, form: Form) -> None:
    """Try the schemas of FILEs with the relationships and assertions there.

    \b
      meshctl permission schema test --local model.fga.yaml
      meshctl permission schema test --space modelSpaces/spc... model.fga.yaml

    A FILE is a store file of OpenFGA (.fga.yaml): model or model_file, tuples, and tests with check, list_objects and
    list_users. Where an answer hangs on missing context, a check expects the list of its names. Lists are asked as
    checks of everything that the file names.
    """
    if local and space:
        raise Problem("--local knows nothing that is stored.", "leave out one of --local and --space", exit_code=USAGE)
    read = [store_file.read(path) for path in files]
    with failures.told(form):
        outcomes = asyncio.run(_try(server, read, space, local=local))
    trial.report(outcomes, form)
    if any(outcome.failures for outcome in outcomes):
        click.get_current_context().exit(WRONG)


async def _try(
    server: Server, files: Sequence[store_file.StoreFile], space: str, *, local: bool
) -> list[trial.Outcome]:
    async with _asked(server, local=local) as asked:
        return [await trial.run(asked.ask, each, space) for each in files]


@schema.command(epilog="Ends with 1 when something is breaking.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="[OLD] NEW")
@click.option("--stored", is_flag=True, help="Compare with the stored schema of the space, instead of OLD.")
@space_option
@local_option
@server_options
def diff(files: Sequence[Path], stored: bool, space: str, local: bool, server: Server, form: Form) -> None:
    """Say what differs between two schemas, and what of that is breaking.

    \b
      meshctl permission schema diff --local old.fga new.fga
      meshctl permission schema diff --stored --space modelSpaces/spc... new.fga

    Breaking is what is gone, a kind of subject that a relation no longer admits, a parameter that a condition no longer
    takes, and what leaves stored relationships without a meaning. Any other change may give other answers.
    """
    if len(files) != (1 if stored else 2):
        raise Problem("It takes two schemas to compare.", "name OLD and NEW, or --stored and NEW", exit_code=USAGE)
    if local and stored:
        raise Problem("--local knows nothing that is stored.", "leave out one of --local and --stored", exit_code=USAGE)
    *old, new = [pb.SchemaSource(text=payload.read(f"@{path}")) for path in files]
    with failures.told(form):
        response = asyncio.run(_compare(server, old, new, space, local=local))
    found = [differences.judge(each) for each in response.differences]
    differences.report(found, form)
    if any(each.breaking for each in found):
        click.get_current_context().exit(WRONG)


async def _compare(
    server: Server, old: Sequence[pb.SchemaSource], new: pb.SchemaSource, space: str, *, local: bool
) -> pb.DiffSchemasResponse:
    async with _asked(server, local=local) as asked:
        if old:
            before = old[0]
        else:
            current = await asked.ask(pb.GetSchemaRequest(space=space), pb.Schema)
            before = pb.SchemaSource(name=current.name)
        return await asked.ask(pb.DiffSchemasRequest(before=before, after=new), pb.DiffSchemasResponse)


@asynccontextmanager
async def _asked(server: Server, *, local: bool) -> AsyncIterator[Asked]:
    if local:
        # The grammar and CEL are imported for those who ask for them.
        from pyairtable_mesh.meshctl.permission.local import LocalSchemas  # noqa: PLC0415

        yield LocalSchemas(server.environment.now().timestamp())
        return
    async with server.opened() as client:
        try:
            yield client
        except failures.CallError as error:
            if error.code == "UNIMPLEMENTED":
                error.next_step = "try it in this process, with --local"
            raise
