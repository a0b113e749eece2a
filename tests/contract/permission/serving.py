"""The permission service in the test's own process, with its real stack and database; tokens are believed."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission.app import service
from pyairtable_mesh.permission.settings import PermissionSettings
from pyairtable_mesh.runtime import idempotency, interceptors, moments, pagination, registration, telemetry
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.service import Runtime
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator

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


@asynccontextmanager
async def served(database: Database, code_file: str = "") -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
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
    validator = SchemaValidator()
    runtime = Runtime(settings, peers, validator, moments.utc_now, database, pagination.Sealer(bytes(32)))
    parts = service.build(runtime)
    assert parts.authorizer is not None

    async def answered(caller: RequestContext) -> bytes | None:
        key = idempotency.Key.of(caller)
        async with database.read(caller) as connection:
            record = await idempotency.lookup(connection, key) if key else None
        return record.response if record else None

    reader = TokenReader()
    stack = interceptors.stack(settings, observer, reader, parts.authorizer, validator, answered)  # type: ignore[arg-type]
    server = new_server(settings.max_message_bytes)
    registration.register(server, parts.servicers, service.access, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield permission_pb2_grpc.PermissionServiceStub(channel)
    await server.stop(0)
    await peers.close()
    observer.close()
