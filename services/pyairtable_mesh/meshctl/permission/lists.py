"""``meshctl permission who`` and ``what``: lists that are printed as they come, to their end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import click

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import failures, output
from pyairtable_mesh.meshctl.output import Form
from pyairtable_mesh.meshctl.permission.server import (
    Client,
    Server,
    circumstances_options,
    server_options,
    subject_option,
)
from pyairtable_mesh.meshctl.problems import WRONG, Problem

MAX_LIMIT = 1_000_000
SHOWN_EXCLUDED = 5
"""How many subjects that a wildcard does not stand for are shown in a line."""

Request = pb.LookupSubjectsRequest | pb.LookupResourcesRequest
Response = pb.LookupSubjectsResponse | pb.LookupResourcesResponse

limit_option = click.option(
    "--limit", type=click.IntRange(0, MAX_LIMIT), default=0, metavar="N", help="How many at most. [default: all]"
)


@click.command()
@click.argument("resource")
@click.argument("permission")
@click.option(
    "--type",
    "kind",
    default="user",
    show_default=True,
    metavar="TYPE[#RELATION]",
    help="The type of the subjects, such as user or group#member.",
)
@limit_option
@circumstances_options
@server_options
def who(
    resource: str, permission: str, kind: str, limit: int, given: dict[str, Any], server: Server, form: Form
) -> None:
    """List who holds PERMISSION on RESOURCE.

    \b
      meshctl permission who base:app... update
      meshctl permission who document:1 view --space modelSpaces/spc... --type group#member --limit 20

    Subjects come in byte order, one a line, as they are found. What is conditional says on what; TYPE:* stands for all
    of a type but those that are excluded. The last line says how many they are, and whether that is all.
    """
    type_name, _, relation = kind.partition("#")
    request = pb.LookupSubjectsRequest(
        resource=resource,
        permission=permission,
        subject_type=type_name,
        subject_relation=relation,
        limit=limit,
        **given,
    )
    _list(server, request, form)


@click.command()
@click.argument("permission")
@click.argument("resource_type", metavar="TYPE")
@subject_option
@limit_option
@circumstances_options
@server_options
def what(
    permission: str, resource_type: str, subject: str, limit: int, given: dict[str, Any], server: Server, form: Form
) -> None:
    """List the resources of TYPE on which a subject holds PERMISSION.

    \b
      meshctl permission what read table
      meshctl permission what update base --subject user:usr... --limit 20

    Resources come in byte order, one a line, as they are found. What is conditional says on what. The last line says
    how many they are, and whether that is all.
    """
    request = pb.LookupResourcesRequest(
        resource_type=resource_type, permission=permission, subject=subject, limit=limit, **given
    )
    _list(server, request, form)


def _list(server: Server, request: Request, form: Form) -> None:
    with failures.told(form):
        summary = asyncio.run(_print(server, request, form))
    limited = bool(request.limit) and summary.count >= request.limit
    if form == "table":
        end = "" if summary.complete else "; there may be more" if limited else "; the list is not complete"
        output.print_line(f"{summary.count} found{end}.")
    if not summary.complete and not limited:
        click.get_current_context().exit(WRONG)


async def _print(server: Server, request: Request, form: Form) -> pb.LookupSummary:
    summary = None
    async with server.opened() as client:
        async for response in responses(client, request):
            if response.HasField("summary"):
                summary = response.summary
            if form == "table":
                for each in _entries(response):
                    output.print_line(_line(each))
            else:
                output.print_data(form, output.to_data(response), lines=True)
    if summary is None:
        raise Problem("The server ended the list without saying whether it is complete.", "meshctl doctor")
    return summary


async def responses(client: Client, request: Request) -> AsyncIterator[Response]:
    """Everything that is found, over all parts of the list, and the summary of the last part.

    A part that ends before the list does is continued behind its last message, until the limit of the request; one that
    brings nothing new ends the list.
    """
    found, cursor = 0, ""
    while True:
        part: Any = type(request)()
        part.CopyFrom(request)
        part.cursor, part.limit = cursor, request.limit and request.limit - found
        end = None
        async for response in client.stream(part):
            if not isinstance(response, Response):
                raise TypeError(f"a look-up does not answer with {type(response).__name__}")
            cursor = response.cursor or cursor
            found += len(_entries(response))
            if response.HasField("summary"):
                end = response
            else:
                yield response
        if end is None:
            return
        if end.summary.complete or 0 < request.limit <= found or cursor == part.cursor:
            yield end
            return
        if _entries(end):
            end.ClearField("summary")
            yield end


def _entries(response: Response) -> Sequence[pb.FoundResource | pb.FoundSubject]:
    return response.resources if isinstance(response, pb.LookupResourcesResponse) else response.subjects


def _line(found: pb.FoundResource | pb.FoundSubject) -> str:
    missing = found.missing_context
    if isinstance(found, pb.FoundResource):
        reference, excluded = found.resource, ""
    else:
        reference, excluded = found.subject, output.joined(found.excluded_subjects, SHOWN_EXCLUDED)
    conditional = f"  depends on {', '.join(missing)}" if missing else ""
    return reference + conditional + (f"  but not {excluded}" if excluded else "")
