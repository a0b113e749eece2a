"""``meshctl call``: any method of any service, found through the mesh."""

import asyncio
import base64
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import click
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from pyairtable_mesh.meshctl import caller, control_plane, descriptors, failures, output, payload, reflection, rpc
from pyairtable_mesh.meshctl.descriptors import Target
from pyairtable_mesh.meshctl.environment import Environment, control_plane_option
from pyairtable_mesh.meshctl.problems import USAGE, Problem

_BODY = re.compile(r"^\s*[\[{]|^@|^-$")
_KEY = re.compile(r"^[a-z0-9._-]+$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for.

    `address` is empty for one that the control plane at `plane` is to tell; `timeout` is in seconds,
    None for the default of the kind of call.
    """

    target: Target
    address: str
    plane: str
    metadata: rpc.Metadata
    timeout: float | None


@click.command(epilog="A call that fails ends with 64 and its gRPC status, as grpcurl does.")
@click.argument("words", nargs=-1, required=True, metavar="[SERVICE/]METHOD [JSON|@FILE|-]")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="KEY:VALUE", help="Metadata to send; may be repeated."
)
@caller.user_option
@caller.address_option
@caller.timeout_option
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["json", "yaml"]),
    help="Form of responses and errors. [default: json, and errors in words]",
)
@control_plane_option
@click.pass_obj
def call(
    environment: Environment,
    words: tuple[str, ...],
    headers: tuple[str, ...],
    user: str,
    address: str,
    timeout: float | None,
    form: Literal["json", "yaml"] | None,
    plane: str,
) -> None:
    """Call a method of a service with a request in JSON, and print the response.

    \b
      meshctl call user GetMe
      meshctl call permission CheckPermission '{"resource": "base:app...", "permission": "read"}'
      meshctl call pyairtable.user.v1.UserService/ListUsers '{"page_size": 2}'
      meshctl call --as bob user UpdateUser @change.json
      meshctl call audit TailAuditEvents
      echo '{}' | meshctl call --address 127.0.0.1:50061 user GetMe -

    SERVICE is a name of the mesh, or the full name of a gRPC service. Methods come from the installed protos, else from
    the server's reflection. A stream of requests is several JSON objects after each other; a stream of responses is
    printed as one JSON object a line.

    The token of the last login goes with the call (or PYAIRTABLE_TOKEN); -H authorization:... takes its place.
    """
    names, body = split(words)
    metadata = [header(text) for text in headers]
    if not any(key == "authorization" for key, _ in metadata):
        metadata += caller.authorization(environment, user)
    wanted = Wanted(Target.parse(names), address, plane, metadata, timeout)
    with failures.told(form):
        asyncio.run(perform(environment, wanted, body, form or "json"))


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names before the request, and the request as given; empty when there is none."""
    *names, last = words
    if names and _BODY.search(last):
        words, body = tuple(names), last
    else:
        body = ""
    if len(words) > 2:  # noqa: PLR2004 - SERVICE and METHOD
        raise Problem(f"{words[2]} is no request.", "write the request as JSON in quotes, @FILE, or -", exit_code=USAGE)
    return words, body


def header(text: str) -> tuple[str, str | bytes]:
    """A metadata pair from ``key:value``; the value of a key in ``-bin`` is base64."""
    key, colon, value = text.partition(":")
    key, value = key.strip().lower(), value.strip()
    if colon and _KEY.match(key) and value.isascii() and value.isprintable():
        if not key.endswith("-bin"):
            return key, value
        with suppress(ValueError):
            return key, base64.b64decode(value, validate=True)
    raise Problem(f"{key or text} is no header that can be sent.", "write -H 'key: value'", exit_code=USAGE)


async def perform(environment: Environment, wanted: Wanted, body: str, form: Literal["json", "yaml"]) -> None:
    """Find the method and its server, call, and print what comes."""
    target = wanted.target
    known = descriptors.candidates(target, descriptors.installed())
    method = descriptors.choose(target, known) if known else None
    address = wanted.address or await locate(environment, wanted, method)
    caller.require_private(address, wanted.metadata)
    async with environment.connect(address) as connection:
        if method is None:
            full_name = target.grpc_service if "." in target.grpc_service else ""
            method = descriptors.choose(target, await reflection.services(connection, address, full_name))
        text = await asyncio.to_thread(payload.read, body)
        seconds = wanted.timeout or (None if method.server_streaming else caller.UNARY_SECONDS)
        responses = connection.call(method, payload.requests(method, text), metadata=wanted.metadata, seconds=seconds)
        async for response in responses:
            show(response, form, lines=method.server_streaming)


async def locate(environment: Environment, wanted: Wanted, method: MethodDescriptor | None) -> str:
    """The address of an endpoint that serves the target, as the control plane knows it."""
    target = wanted.target
    full_name = method.containing_service.full_name if method is not None else target.grpc_service
    names = [target.service] if target.service else descriptors.guessed_names(full_name)
    if names[0] == descriptors.CONTROL_PLANE:
        return wanted.plane
    inventory = await caller.inventory(environment, wanted.plane)
    served = [name for name in names if any(control_plane.matches(service, name) for service in inventory.services)]
    if not served and not target.service:
        words = f"It is not known which service of the mesh serves {full_name}."
        raise Problem(words, f"name it before the method: meshctl call SERVICE {target.method}", exit_code=USAGE)
    return control_plane.address_of(control_plane.find(inventory, (served or names)[0]))


def show(response: Message, form: Literal["json", "yaml"], *, lines: bool) -> None:
    """Print a response; with `lines` as one of many."""
    try:
        data = output.to_data(response)
    except TypeError:
        words = f"The {response.DESCRIPTOR.name} holds a message of a type that is not installed here."
        raise Problem(words, "install the protos of the service that it comes from") from None
    output.print_data(form, data, lines=lines)
