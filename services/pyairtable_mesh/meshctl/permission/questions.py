"""``meshctl permission check`` and ``explain``: one question, its answer, and the reasons."""

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import failures, output
from pyairtable_mesh.meshctl.output import Form, Table
from pyairtable_mesh.meshctl.permission.server import Server, circumstances_options, server_options, subject_option
from pyairtable_mesh.meshctl.problems import WRONG


@click.command(epilog="Ends with 0 when it is allowed, with 1 when it is denied or conditional (or cannot be asked).")
@click.argument("resource")
@click.argument("permission")
@subject_option
@circumstances_options
@server_options
def check(resource: str, permission: str, subject: str, given: dict[str, Any], server: Server, form: Form) -> None:
    """Say whether a subject holds PERMISSION on RESOURCE.

    \b
      meshctl permission check table:tbl... create_record
      meshctl permission check base:app... read --subject user:usr...
      meshctl permission check document:1 view --space modelSpaces/spc... --context region=eu --context level=3
    """
    request = pb.CheckPermissionRequest(resource=resource, permission=permission, subject=subject, **given)
    with failures.told(form):
        response = asyncio.run(_check(server, request))
    if form == "table":
        _print_decision(response.decision, f"{permission} on {resource} for {subject or 'you'}")
    else:
        output.print_data(form, output.to_data(response))
    if response.decision.result != pb.Decision.RESULT_ALLOWED:
        click.get_current_context().exit(WRONG)


async def _check(server: Server, request: pb.CheckPermissionRequest) -> pb.CheckPermissionResponse:
    async with server.opened() as client:
        return await client.ask(request, pb.CheckPermissionResponse)


@click.command()
@click.argument("resource")
@click.argument("permission")
@subject_option
@circumstances_options
@server_options
def explain(resource: str, permission: str, subject: str, given: dict[str, Any], server: Server, form: Form) -> None:
    """Say why a subject holds PERMISSION on RESOURCE, or what is missing.

    \b
      meshctl permission explain base:app... delete --subject user:usr...

    First a sentence; then the path from the subject to the resource, or the grants that would turn a denial around,
    nearest first, and the conditions that failed.
    """
    request = pb.ExplainPermissionRequest(resource=resource, permission=permission, subject=subject, **given)
    with failures.told(form):
        response = asyncio.run(_explain(server, request))
    if form == "table":
        output.print_line(response.sentence)
        for table in reasons(response):
            click.echo()
            output.print_table(table)
    else:
        output.print_data(form, output.to_data(response))


async def _explain(server: Server, request: pb.ExplainPermissionRequest) -> pb.ExplainPermissionResponse:
    async with server.opened() as client:
        return await client.ask(request, pb.ExplainPermissionResponse)


def _print_decision(decision: pb.Decision, question: str) -> None:
    output.print_line(f"  {question}", state=result_word(decision.result))
    if decision.missing_context:
        names = ", ".join(decision.missing_context)
        output.print_line(f"It depends on {names}. Next: give values with --context NAME=VALUE")
    output.print_line(f"token: {decision.consistency_token or '-'}")


def reasons(response: pb.ExplainPermissionResponse) -> Iterator[Table]:
    """A table for each kind of reason that there is."""
    if response.path:
        steps = [
            (each.subject, _step_word(each), each.relation, each.object, each.role_binding) for each in response.path
        ]
        yield Table(("SUBJECT", "STEP", "RELATION", "OBJECT", "ROLE BINDING"), steps)
    if response.missing_grants:
        grants = [(each.permission, each.resource, each.role) for each in response.missing_grants]
        yield Table(("MISSING PERMISSION", "AT", "SMALLEST ROLE"), grants)
    if response.failed_conditions:
        conditions = [
            (each.condition, each.carrier, ", ".join(each.missing_context)) for each in response.failed_conditions
        ]
        yield Table(("FAILED CONDITION", "OF", "MISSING CONTEXT"), conditions)


def _step_word(step: pb.ExplanationStep) -> str:
    return pb.ExplanationStep.Kind.Name(step.kind).removeprefix("KIND_").lower().replace("_", " ")


def result_word(result: "pb.Decision.Result.ValueType") -> str:
    """``allowed``, ``denied`` or ``conditional``."""
    return pb.Decision.Result.Name(result).removeprefix("RESULT_").lower()
