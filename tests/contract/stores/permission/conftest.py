"""The use cases on a fresh database, with a clock that a test may turn."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from pyairtable.common.v1 import audit_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.audit.messages import taken_apart
from pyairtable_mesh.permission import messages
from pyairtable_mesh.permission.domain import (
    Inheritance,
    Operation,
    Relationship,
    Resource,
    Role,
    ScopeMode,
    Subject,
    Update,
)
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.spaces import SpaceLoader
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.changes import Acts
from pyairtable_mesh.permission.usecases.checks import Checks, Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import States, Tokens
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.roles import Grant, Roles
from pyairtable_mesh.permission.usecases.space_questions import SpaceQuestions
from pyairtable_mesh.permission.usecases.spaces import Spaces
from pyairtable_mesh.runtime import auditing, outbox
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.pagination import Sealer
from tests.unit.permission.world import ALICE, BASE, TABLE, TENANT, TENANT_ID, WORKSPACE


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


def caller(subject: str, tenant_id: str = TENANT_ID, method: str = "Test") -> RequestContext:
    method = f"/pyairtable.permission.v1.PermissionService/{method}"
    return RequestContext(method, actor=Actor("user", subject), tenant_id=tenant_id)


TENANT_SERVICE = RequestContext(
    "/pyairtable.permission.v1.PermissionService/GrantRole",
    actor=Actor("workload", "spiffe://pyairtable.local/ns/default/sa/tenant"),
)


@dataclass
class Permissions:
    """All use cases, with the short forms that tests are written in."""

    database: Database
    clock: Clock
    tokens: Tokens = field(init=False)
    engines: Engines[State] = field(init=False)
    states: States[State] = field(init=False)
    log: DecisionLog = field(init=False)
    acts: Acts = field(init=False)
    checks: Checks = field(init=False)
    relationships: Relationships = field(init=False)
    roles: Roles = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Tokens(Sealer(b"k" * 32))
        self.engines = Engines(self.database, Loader(self.database))
        authority = Authority(NaiveEvaluator(), self.engines)
        self.log = DecisionLog(self.database, self.clock, 0.5, capacity=30, share=20, chance=lambda: 0.4)
        self.states = States(self.engines, self.tokens)
        acts = self.acts = Acts(self.database, self.tokens, messages.changed, self.engines, self.log)
        self.checks = Checks(self.states, self.tokens, self.clock, self.log)
        self.relationships = Relationships(self.database, acts, authority, self.tokens, self.clock)
        self.roles = Roles(self.database, acts, authority, self.tokens, self.clock)

    async def grant(
        self,
        by: str | RequestContext,
        role: str,
        resource: str,
        subject: str,
        expire_time: datetime | None = None,
        condition: str = "",
        context: str = "",
    ) -> pb.GrantRoleResponse:
        grant = Grant(role, Resource.parse(resource), Subject.parse(subject), expire_time, condition, context)
        return await self.roles.grant(
            by if isinstance(by, RequestContext) else caller(by, method="GrantRole"),
            grant,
            lambda binding, token: pb.GrantRoleResponse(
                role_binding=messages.from_binding(binding), consistency_token=token
            ),
        )

    async def revoke(self, by: str, name: str, etag: str = "") -> str:
        answer = await self.roles.revoke(
            caller(by), name, etag, lambda token: pb.RevokeRoleResponse(consistency_token=token)
        )
        return answer.consistency_token

    async def write(
        self,
        by: str | RequestContext,
        *updates: tuple[Operation, Relationship],
        preconditions: list = [],  # noqa: B006
    ) -> str:
        answer = await self.relationships.write(
            by if isinstance(by, RequestContext) else caller(by),
            [Update(*each) for each in updates],
            preconditions,
            lambda token: pb.WriteRelationshipsResponse(consistency_token=token),
        )
        return answer.consistency_token

    async def define_role(self, display_name: str, *permissions: str, by: str = ALICE) -> str:
        draft = Role("", display_name, frozenset(permissions))
        made = await self.roles.create(caller(by), draft, messages.from_role)
        return made.name.removeprefix("roles/")

    async def set_mode(self, by: str, resource: str, mode: ScopeMode) -> str:
        answer = await self.roles.set_inheritance(
            caller(by),
            Inheritance(Resource.parse(resource), mode),
            lambda _, token: pb.SetInheritanceResponse(consistency_token=token),
        )
        return answer.consistency_token

    async def may(self, subject: str, verb: str, resource: str, tenant_id: str = TENANT_ID) -> bool:
        decision, _ = await self.checks.check(caller(subject, tenant_id), Question(resource, verb), Circumstances())
        return decision.allowed

    async def events(self) -> list[outbox.Event]:
        async with self.database.read(background()) as connection:
            page = await outbox.read(connection, outbox.Position())
        return [event for _, event in page.events]

    async def audited(self) -> list[audit_pb2.AuditEvent]:
        """What the audit service makes of its events."""
        found: list[audit_pb2.AuditEvent] = []
        for event in await self.events():
            if event.type == auditing.EVENT_TYPE:
                found.append(audit_pb2.AuditEvent.FromString(event.data))
            elif event.type == auditing.DECISIONS_TYPE:
                found += taken_apart(audit_pb2.AuditDecisions.FromString(event.data))
        return found


def in_spaces(permissions: Permissions) -> tuple[Spaces, SpaceQuestions]:
    """The use cases of the model spaces of its tenants."""
    database, tokens, clock = permissions.database, permissions.tokens, permissions.clock
    engines = Engines(database, SpaceLoader(database))
    authority = Authority(NaiveEvaluator(), permissions.engines)
    spaces = Spaces(database, engines, permissions.acts, authority, tokens, clock)
    return spaces, SpaceQuestions(States(engines, tokens), permissions.states, tokens, clock, permissions.log)


def link(child: str, parent: str) -> Relationship:
    subject = Subject.parse(parent)
    return Relationship(Resource.parse(child), subject.type, subject)


def member(
    group: str, subject: str, expire_time: datetime | None = None, condition: str = "", context: str = ""
) -> Relationship:
    return Relationship(Resource.parse(group), "member", Subject.parse(subject), expire_time, condition, context)


def with_request_id(context: RequestContext, digest: bytes = b"digest") -> RequestContext:
    return RequestContext(
        context.method,
        actor=context.actor,
        tenant_id=context.tenant_id,
        request_id=str(uuid.uuid4()),
        request_digest=digest,
    )


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.permission.migrations"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database_clock(clock: Clock) -> Callable[[], datetime]:
    return clock


@pytest.fixture
async def permissions(database: Database, clock: Clock) -> Permissions:
    """A tenant that Alice owns, with a workspace, a base and a table."""
    made = Permissions(database, clock)
    await made.grant(TENANT_SERVICE, "owner", TENANT, ALICE)
    await made.write(ALICE, (Operation.CREATE, link(BASE, WORKSPACE)), (Operation.CREATE, link(TABLE, BASE)))
    await made.engines.at_least(TENANT_ID)
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that nobody tells of are looked for every 20 ms."""
    monkeypatch.setattr("pyairtable_mesh.permission.engines.POLL_SECONDS", 0.02)
    monkeypatch.setattr("pyairtable_mesh.permission.usecases.watching.POLL_SECONDS", 0.02)
