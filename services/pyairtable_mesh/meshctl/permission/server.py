"""permission.v1 as the commands ask it: which server, as whom, and what all questions have in common."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import caller, control_plane, output, rpc
from pyairtable_mesh.meshctl.environment import Environment, control_plane_option
from pyairtable_mesh.meshctl.problems import USAGE, Problem

SERVICE = "permission"
"""The name of the server in the mesh."""
_METHODS = {
    method.input_type.full_name: method
    for method in pb.DESCRIPTOR.services_by_name["PermissionService"].methods_by_name.values()
}


class Client:
    """A connected server; which method is called is told by the type of the request."""

    def __init__(self, connection: rpc.Connection, metadata: rpc.Metadata, seconds: float | None) -> None:
        self._connection = connection
        self._metadata = metadata
        self._seconds = seconds

    async def ask(self, request: Message, answer: type[rpc.Answer]) -> rpc.Answer:
        """Call a unary method. Raises `CallError`."""
        method, seconds = _METHODS[request.DESCRIPTOR.full_name], self._seconds or caller.UNARY_SECONDS
        return await rpc.unary(self._connection, method, request, answer, metadata=self._metadata, seconds=seconds)

    def stream(self, request: Message) -> AsyncIterator[Message]:
        """Call a method that answers with a stream. Raises `CallError`."""
        method = _METHODS[request.DESCRIPTOR.full_name]
        return self._connection.call(method, [request], metadata=self._metadata, seconds=self._seconds)


@dataclass(frozen=True, slots=True)
class Server:
    """The server that the command line means; `address` is empty for one that the control plane at `plane` tells."""

    environment: Environment
    address: str
    plane: str
    user: str
    timeout: float | None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Client]:
        """A connection that carries the person's token."""
        metadata = caller.authorization(self.environment, self.user)
        address = self.address or await self._locate()
        caller.require_private(address, metadata)
        async with self.environment.connect(address) as connection:
            yield Client(connection, metadata, self.timeout)

    async def _locate(self) -> str:
        inventory = await caller.inventory(self.environment, self.plane)
        return control_plane.address_of(control_plane.find(inventory, SERVICE))


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the server, as `server`, and of the output, as `form`."""

    @output.output_option
    @caller.user_option
    @caller.address_option
    @caller.timeout_option
    @control_plane_option
    @wraps(command)
    def wrapped(*args: Any, address: str, plane: str, user: str, timeout: float | None, **kwargs: Any) -> Any:
        environment = click.get_current_context().obj
        return command(*args, server=Server(environment, address, plane, user, timeout), **kwargs)

    return wrapped


subject_option = click.option("--subject", default="", metavar="SUBJECT", help="Ask about this subject. [default: you]")
space_option = click.option(
    "--space", default="", metavar="modelSpaces/SPACE", help="The model space. [default: the platform's]"
)


def circumstances_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what a question is asked under, as `given`: the fields of its request."""

    @click.option(
        "--context",
        "contexts",
        multiple=True,
        metavar="NAME=VALUE|JSON",
        help="Values for conditions; may be repeated. VALUE is JSON, or else text.",
    )
    @click.option(
        "--at-least", "token", default="", metavar="TOKEN", help="Answer from a state that is at least as fresh."
    )
    @space_option
    @wraps(command)
    def wrapped(*args: Any, contexts: Sequence[str], token: str, space: str, **kwargs: Any) -> Any:
        given: dict[str, Any] = {"space": space}
        if contexts:
            given["context"] = context_of(contexts)
        if token:
            given["consistency"] = pb.Consistency(at_least_as_fresh=token)
        return command(*args, given=given, **kwargs)

    return wrapped


def context_of(texts: Sequence[str]) -> Struct:
    """The context that the texts make together: each a JSON object or ``name=value``."""
    context = Struct()
    for text in texts:
        try:
            context.update(_values(text))
        except (ValueError, RecursionError):
            words, steps = f"{text} is no context.", "write --context NAME=VALUE, or a JSON object in quotes"
            raise Problem(words, steps, exit_code=USAGE) from None
    return context


def _values(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    if text.lstrip().startswith("{"):
        values: dict[str, Any] = _json(text)
        return values
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError
    try:
        return {name: _json(value)}
    except ValueError:
        return {name: value}


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    """JSON has no NaN and no infinities, whatever Python reads."""
    raise ValueError(name)
