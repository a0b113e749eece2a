"""A server in the test's own process, behind the real stack: only the tokens' issuer and the authorizer are fakes."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_mesh.runtime import access, interceptors, registration, telemetry
from pyairtable_mesh.runtime.authorizer import Answer, Undecided
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator

SERVICE = "pyairtable.permission.v1.PermissionService"
TENANT = "ten" + "0" * 26
ALICE = "usr" + "0" * 25 + "a"
BASE = "app" + "0" * 26
VALIDATOR = SchemaValidator()
"""One for all tests, because it compiles the rules of each type once."""


class FakeAuthenticator:
    """Takes ``Bearer alice`` and ``Bearer workload:<name>`` at their word, until they have `expired`."""

    def __init__(self) -> None:
        self.expired = False
        self.seconds = 60.0
        """How long a token that is verified now holds."""

    def known(self, _header: str) -> Identity | None:
        return None

    async def verify(self, header: str) -> Identity:
        name = header.removeprefix("Bearer ")
        if self.expired:
            raise Unauthenticated("the token has expired; log in again", reason="TOKEN_EXPIRED")
        if name == "alice":
            return Identity(Actor("user", f"user:{ALICE}"), TENANT, time.time() + self.seconds)
        if name.startswith("workload:"):
            return Identity(
                Actor("workload", f"spiffe://test/ns/default/sa/{name[9:]}"), "", time.time() + self.seconds
            )
        raise Unauthenticated("unknown", reason="TOKEN_INVALID")


@dataclass
class FakeAuthorizer:
    """Allows what it was told."""

    allowed: set[tuple[str, str]] = field(default_factory=set)
    undecided: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def check(self, _caller: RequestContext, questions: Sequence[tuple[str, str]]) -> Sequence[Answer]:
        self.asked.extend(questions)
        return [
            Undecided(self.undecided[each]) if each in self.undecided else each in self.allowed for each in questions
        ]


@dataclass
class Served:
    """A stub on the running server, and its fakes."""

    stub: permission_pb2_grpc.PermissionServiceStub
    channel: grpc.aio.Channel
    authorizer: FakeAuthorizer
    authenticator: FakeAuthenticator
    metrics: telemetry.Telemetry
    address: str

    def as_alice(self, **more: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", "Bearer alice"), *((key.replace("_", "-"), value) for key, value in more.items()))


@asynccontextmanager
async def served(
    servicer: object,
    rows: access.AccessTable,
    *,
    settings: Mapping[str, Any] | None = None,
    observe: Callable[[telemetry.Telemetry], None] = lambda _: None,
) -> AsyncIterator[Served]:
    """Serve a PermissionService servicer behind the whole stack on a free port of loopback."""
    chosen = Settings(**(settings or {}))
    observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=1)
    observe(observer)
    authorizer, authenticator = FakeAuthorizer(), FakeAuthenticator()
    stack = interceptors.stack(chosen, observer, authenticator, authorizer, VALIDATOR)  # type: ignore[arg-type]
    server = new_server(chosen.max_message_bytes)
    registrations = [(permission_pb2_grpc.add_PermissionServiceServicer_to_server, servicer)]
    registration.register(server, registrations, {SERVICE: rows}, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = permission_pb2_grpc.PermissionServiceStub(channel)
        yield Served(stub, channel, authorizer, authenticator, observer, f"127.0.0.1:{port}")
    await server.stop(0)
    observer.close()


def check_request(**fields: Any) -> permission_pb2.CheckPermissionRequest:
    """A CheckPermission request that breaks no rule."""
    return permission_pb2.CheckPermissionRequest(**{"resource": f"base:{BASE}", "permission": "read", **fields})
