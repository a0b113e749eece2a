"""The permission service in the test's own process, with its real stack and database; tokens are believed."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import grpc
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, Phase, settings

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission.app import service
from pyairtable_mesh.permission.settings import PermissionSettings
from pyairtable_mesh.runtime import interceptors, moments, pagination, registration, telemetry
from pyairtable_mesh.runtime.context import Actor
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.service import Runtime
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator

few = settings(
    max_examples=int(os.environ.get("PYAIRTABLE_TEST_EXAMPLES", "12")),
    deadline=None,
    phases=[each for each in settings.default.phases if each is not Phase.explain],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""For examples that take a service and a database."""
VALIDATOR = SchemaValidator()
"""One for all tests, because it compiles the rules of each type once."""
Metadata = tuple[tuple[str, str], ...]


class TokenReader:
    """Takes ``Bearer user:usr…@ten…`` and ``Bearer <workload>`` at their word."""

    def known(self, _header: str) -> Identity | None:
        return None

    async def verify(self, header: str) -> Identity:
        name, _, tenant = header.removeprefix("Bearer ").partition("@")
        if not name:
            raise Unauthenticated("unknown", reason="TOKEN_INVALID")
        actor = Actor("user", name) if tenant else Actor("workload", f"spiffe://test/ns/default/sa/{name}")
        return Identity(actor, tenant, time.time() + 60)


def bearer(who: str, tenant: str = "") -> Metadata:
    return (("authorization", f"Bearer {who}@{tenant}"),)


def details_of(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """The reason of an error, and the fields that are to blame."""
    (raw,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    info, broken = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(raw).details:
        detail.Unpack(info)
        detail.Unpack(broken)
    return info.reason, [violation.field for violation in broken.field_violations]


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of an error."""
    return details_of(error)[0]


@asynccontextmanager
async def served(
    database: Database, code_file: str = "", clock: Callable[[], datetime] = moments.utc_now
) -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
    settings = PermissionSettings(first_administrator_code_file=code_file)
    observer = telemetry.start("permission", namespace="default", instance="1", sample_ratio=0.01)
    peers = Peers(
        control_plane="",
        addresses={},
        own_token=WorkloadToken(""),
        telemetry=observer,
        retries=RetryPolicy(),
        max_message_bytes=settings.max_message_bytes,
    )
    validator = VALIDATOR
    runtime = Runtime(settings, peers, validator, clock, database, pagination.Sealer(bytes(32)))
    parts = service.build(runtime)
    assert parts.authorizer is not None

    reader = TokenReader()
    stack = interceptors.stack(settings, observer, reader, parts.authorizer, validator)  # type: ignore[arg-type]
    server = new_server(settings.max_message_bytes)
    registration.register(server, parts.servicers, service.access, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield permission_pb2_grpc.PermissionServiceStub(channel)
    await server.stop(0)
    await peers.close()
    observer.close()
