"""The user service in the test's own process: its real stack and database, with fakes for who is who and who may what.

The permission service is a fake too, but one that is called over gRPC.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2_grpc
from pyairtable_mesh.runtime import interceptors, moments, pagination, registration, telemetry
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.service import Runtime
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator
from pyairtable_mesh.user.app import service

TENANT = "ten" + "0" * 26
OTHER_TENANT = "ten" + "1" * 26
ADMIN = "usr" + "0" * 25 + "a"
MEMBER = "usr" + "0" * 25 + "b"
VALIDATOR = SchemaValidator()
"""One for all tests, because it compiles the rules of each type once."""


class TokenReader:
    """Takes ``Bearer <user>@<tenant>`` at its word."""

    def known(self, _header: str) -> Identity | None:
        return None

    async def verify(self, header: str) -> Identity:
        user, _, tenant = header.removeprefix("Bearer ").partition("@")
        if not tenant:
            raise Unauthenticated("unknown", reason="TOKEN_INVALID")
        return Identity(Actor("user", f"user:{user}"), tenant, time.time() + 60)


class Roles:
    """ADMIN may everything in its tenant, everyone else reads."""

    async def check(self, caller: RequestContext, questions: Sequence[tuple[str, str]]) -> Sequence[bool]:
        own = f"tenant:{caller.tenant_id}"
        admin = caller.actor.subject == f"user:{ADMIN}"
        return [resource == own and (admin or verb == "read") for resource, verb in questions]


@dataclass
class Relationships(permission_pb2_grpc.PermissionServiceServicer):
    """The relationships of one tenant, the writes under their request ids, and the tokens that calls came with."""

    stored: list[tuple[str, str, str]] = field(default_factory=list)
    written: dict[str, permission_pb2.WriteRelationshipsRequest] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    def _seen(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.add(str(metadata["authorization"]))

    async def WriteRelationships(
        self, request: permission_pb2.WriteRelationshipsRequest, context: Any
    ) -> permission_pb2.WriteRelationshipsResponse:
        self._seen(context)
        VALIDATOR.check(request)
        assert self.written.setdefault(request.request_id, request) == request, "an id for two contents"
        for update in request.updates:
            row = (update.relationship.resource, update.relationship.relation, update.relationship.subject)
            self.stored = [each for each in self.stored if each != row]
            if update.operation == permission_pb2.RelationshipUpdate.OPERATION_TOUCH:
                self.stored.append(row)
        return permission_pb2.WriteRelationshipsResponse()

    async def DeleteRelationships(
        self, request: permission_pb2.DeleteRelationshipsRequest, context: Any
    ) -> permission_pb2.DeleteRelationshipsResponse:
        self._seen(context)
        VALIDATOR.check(request)
        gone = self._matching(request.filter)
        self.stored = [each for each in self.stored if each not in gone]
        return permission_pb2.DeleteRelationshipsResponse(deleted_count=len(gone))

    async def ReadRelationships(
        self, request: permission_pb2.ReadRelationshipsRequest, context: Any
    ) -> permission_pb2.ReadRelationshipsResponse:
        self._seen(context)
        VALIDATOR.check(request)
        found, begin = self._matching(request.filter), int(request.page_token or 0)
        end = begin + request.page_size
        rows = [permission_pb2.Relationship(resource=a, relation=b, subject=c) for a, b, c in found[begin:end]]
        token = str(end) if len(found) > end else ""
        return permission_pb2.ReadRelationshipsResponse(relationships=rows, next_page_token=token)

    def _matching(self, which: permission_pb2.RelationshipFilter) -> list[tuple[str, str, str]]:
        return [
            (resource, relation, subject)
            for resource, relation, subject in self.stored
            if which.resource in {"", resource}
            and which.resource_type in {"", resource.partition(":")[0]}
            and which.relation in {"", relation}
            and which.subject in {"", subject}
        ]


@dataclass
class Served:
    """The running service: its stub, its channel for raw calls, and the fake permission service."""

    stub: user_pb2_grpc.UserServiceStub
    channel: grpc.aio.Channel
    relationships: Relationships


def as_user(user: str = ADMIN, tenant: str = TENANT) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {user}@{tenant}"),)


@asynccontextmanager
async def served(database: Database) -> AsyncIterator[Served]:
    settings = Settings()
    observer = telemetry.start("user", namespace="default", instance="1", sample_ratio=1)
    relationships = Relationships()
    permission, server = new_server(settings.max_message_bytes), new_server(settings.max_message_bytes)
    permission_pb2_grpc.add_PermissionServiceServicer_to_server(relationships, permission)
    peers = Peers(
        control_plane="",
        addresses={"permission": f"127.0.0.1:{bind(permission, '127.0.0.1', 0, 'PORT')}"},
        own_token=WorkloadToken(""),
        telemetry=observer,
        retries=RetryPolicy(),
        max_message_bytes=settings.max_message_bytes,
    )
    validator = VALIDATOR
    sealer = pagination.Sealer(bytes(32))
    parts = service.build(Runtime(settings, peers, validator, moments.utc_now, database, sealer))

    stack = interceptors.stack(settings, observer, TokenReader(), Roles(), validator)  # type: ignore[arg-type]
    registration.register(server, parts.servicers, service.access, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await permission.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(user_pb2_grpc.UserServiceStub(channel), channel, relationships)
    await server.stop(0)
    await peers.close()
    await permission.stop(0)
    observer.close()
