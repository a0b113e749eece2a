"""Every RPC that answers about the platform, and the embedded replica, held against the definition of roles and scope
modes at every revision of generated histories.

Each example is a tenant of its own. The clock stands still, and is turned forward between two rounds of questions.
`PYAIRTABLE_TEST_EXAMPLES` asks for more examples; a failure prints the facts and the question.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission import schema
from pyairtable_mesh.runtime.authorization.facts import Change, Relationship, Term, Verdict
from pyairtable_mesh.runtime.authorization.roles import (
    Binding,
    BindingChange,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopeMode,
)
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.ids import new_id
from pyairtable_mesh.runtime.replica.authorizer import HERE, ReplicaAuthorizer, claimed_revision
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from tests.contract.permission.asking import Asking, Listed, Question, Under, agree, carried, message, verdict
from tests.contract.permission.serving import bearer, few, reason_of
from tests.contract.permission.trees import says
from tests.unit.authorization.definition import Definition
from tests.unit.permission.conftest import Clock
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, WORKSPACE, members, ref

WRITTEN = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
EXPIRED = WRITTEN + 10
GROUPS, BASES, TABLES = [ref("group"), ref("group", 2)], [BASE, ref("base", 2)], [TABLE, ref("table", 2)]
RECORDS, FIELDS = [ref("record", number) for number in range(3)], [ref("field", number) for number in range(2)]
CHAIN = [WORKSPACE, BASE, TABLE, RECORDS[0], FIELDS[0]]
RESOURCES = [WORKSPACE, *BASES, *TABLES, *RECORDS, *FIELDS]
USERS = [BOB, CAROL, ref("user", "d1")]
SUBJECTS = [*USERS, "user:*", *map(members, (1, 2))]
OWN_ROLE = "own"
"""Stands in the histories for the id of a role that each example makes."""
LINKS = [
    *(Relationship(base, "workspace", WORKSPACE) for base in BASES),
    *(Relationship(table, "base", BASE) for table in TABLES),
    *(Relationship(record, "table", TABLE) for record in RECORDS[:2]),
    *(Relationship(field, "table", TABLE) for field in FIELDS),
]
VERBS = {"record": ["read", "update", "comment"], "table": ["read", "create_record"], "field": ["read", "edit"]}
QUESTIONS: list[Question] = [
    (resource, verb, subject)
    for resource in RESOURCES
    for verb in VERBS.get(resource.partition(":")[0], ["read", "manage_access"])
    for subject in [*USERS, members(1)]
]
REFUSED = {
    "LAST_OWNER",
    "RESOURCE_HAS_PARENT",
    "ROLE_BINDING_EXISTS",
    "ROLE_BINDING_NOT_FOUND",
    "ROLE_IN_USE",
    "ROLE_NOT_FOUND",
    "PERMISSION_DENIED",
    "NOT_FOUND",
}
"""How a change may be refused: then nothing changes."""

contexts: st.SearchStrategy[Mapping[str, Any]] = st.just({})
# What a membership or a role binding may carry; conditions belong here, and what they need into `contexts`.
terms = st.sampled_from([None, None, EXPIRED, EXPIRED + 1]).map(lambda moment: Term(expires=moment))
memberships = st.builds(
    Relationship, st.sampled_from(GROUPS), st.just("member"), st.sampled_from([*USERS, *map(members, (1, 2))]), terms
)
links = st.sampled_from(
    [
        *LINKS,
        Relationship(TABLE, "base", BASES[1]),
        Relationship(RECORDS[0], "table", TABLES[1]),
        Relationship(RECORDS[2], "table", TABLES[1]),
    ]
)
bindings = st.builds(
    Binding,
    st.sampled_from("12345678"),
    st.sampled_from([*schema.SYSTEM_ROLES, "viewer", "editor", OWN_ROLE, OWN_ROLE]),
    st.sampled_from([*RESOURCES, *CHAIN, *CHAIN]),
    st.sampled_from([*SUBJECTS, BOB, members(1)]),
    terms,
)
granted = bindings.map(BindingChange)
moded = st.builds(ModeChange, st.sampled_from([*RESOURCES, *CHAIN, *CHAIN]), st.sampled_from(ScopeMode))
joined = memberships.map(Change)
changes: st.SearchStrategy[ScopedChange] = st.one_of(
    granted,
    granted,
    bindings.map(lambda each: BindingChange(each, removed=True)),
    joined,
    memberships.map(lambda each: Change(each, removed=True)),
    links.map(Change),
    links.map(lambda each: Change(each, removed=True)),
    moded,
    moded,
    st.builds(
        RoleChange,
        st.just(OWN_ROLE),
        st.sampled_from([frozenset({"record.read", "field.read"}), frozenset({"table.read", "record.update"}), None]),
    ),
)
# What makes answers hang on each other comes first, so that few examples are worth something.
histories: st.SearchStrategy[list[ScopedChange]] = st.tuples(
    st.lists(granted, min_size=4, max_size=6),
    st.lists(joined, min_size=1, max_size=2),
    st.lists(moded, min_size=1, max_size=3),
    st.lists(changes, max_size=8),
).map(lambda parts: [each for part in parts for each in part])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Tenant:
    """A tenant that Alice owns, and what the definition says of it: whatever is changed here is changed there."""

    asking: Asking
    definition: Definition
    token: str
    names: dict[str, str]
    """The names of bindings and roles, by what the histories call them."""
    own_role: str = ""

    @classmethod
    async def make(cls, stub: permission_pb2_grpc.PermissionServiceStub) -> "Tenant":
        tenant = new_id("ten")
        first = pb.GrantRoleRequest(role="roles/owner", resource=f"tenant:{tenant}", subject=ALICE)
        bound = await stub.GrantRole(first, metadata=bearer("tenant"))
        asking = Asking(stub, bearer(ALICE, tenant))
        definition = Definition(f"tenant:{tenant}", WRITTEN, roles=dict(schema.SYSTEM_ROLES))
        definition.apply(BindingChange(Binding("", "owner", definition.tenant, ALICE)))
        made = cls(asking, definition, bound.consistency_token, {})
        await made.attempt([Change(each) for each in LINKS])
        await made.attempt([RoleChange(OWN_ROLE, frozenset({"base.read", "record.read"}))])
        return made

    @property
    def id(self) -> str:
        return self.definition.tenant.partition(":")[2]

    async def attempt(self, batch: Sequence[ScopedChange]) -> None:
        """Make a change, or be refused."""
        if len(batch) == 1 and isinstance(batch[0], Change) and not batch[0].removed:
            batch = self._move(batch[0])
        try:
            self.token = await self._change(batch)
        except grpc.aio.AioRpcError as error:
            if reason_of(error) not in REFUSED:
                raise
            return
        for each in batch:
            self.definition.apply(self._named(each))

    def _named(self, change: ScopedChange) -> ScopedChange:
        """The change with the id of the own role that was made last."""
        match change:
            case RoleChange(role, permissions) if role == OWN_ROLE:
                return RoleChange(self.own_role, permissions)
            case BindingChange(binding, removed) if binding.role == OWN_ROLE:
                return BindingChange(replace(binding, role=self.own_role), removed)
        return change

    def _move(self, put: Change) -> list[ScopedChange]:
        """A link takes the place of the one before in the same write."""
        each = put.relationship
        parent = self.definition.links.get(each.object)
        if parent is None or parent == each.subject:
            return [put]
        return [Change(replace(each, subject=parent), removed=True), put]

    async def _change(self, batch: Sequence[ScopedChange]) -> str:
        stub, owner = self.asking.stub, self.asking.metadata
        match batch[0]:
            case Change():
                request = pb.WriteRelationshipsRequest(updates=[_update(each) for each in batch if _is_change(each)])
                return (await stub.WriteRelationships(request, metadata=owner)).consistency_token
            case BindingChange(Binding(id=id_), True):
                request = pb.RevokeRoleRequest(name=self.names.get(id_, "roleBindings/rbn" + "0" * 26))
                answer = await stub.RevokeRole(request, metadata=owner)
                return answer.consistency_token
            case BindingChange(binding):
                return await self._grant(binding)
            case ModeChange(resource, mode):
                number = pb.ScopeMode.Value(f"SCOPE_MODE_{mode.name}")
                request = pb.SetInheritanceRequest(resource=resource, mode=number)
                return (await stub.SetInheritance(request, metadata=owner)).consistency_token
            case RoleChange(role, permissions):
                return await self._define(role, permissions)

    async def _grant(self, binding: Binding) -> str:
        if binding.id in self.definition.bindings:
            await self.attempt([BindingChange(self.definition.bindings[binding.id], removed=True)])
        name = self.names.get(OWN_ROLE, "") if binding.role == OWN_ROLE else f"roles/{binding.role}"
        place = {"resource": binding.resource, "subject": binding.subject}
        request = pb.GrantRoleRequest(role=name or "roles/rol" + "0" * 26, **place, **carried(binding.term))
        answer = await self.asking.stub.GrantRole(request, metadata=self.asking.metadata)
        self.names[binding.id] = answer.role_binding.name
        return answer.consistency_token

    async def _define(self, role: str, permissions: frozenset[str] | None) -> str:
        stub, owner = self.asking.stub, self.asking.metadata
        if permissions is None:
            request = pb.DeleteRoleRequest(name=self.names.get(role, "roles/rol" + "0" * 26))
            token = (await stub.DeleteRole(request, metadata=owner)).consistency_token
            del self.names[role]
            return token
        draft = pb.Role(display_name="Own", permissions=sorted(permissions), name=self.names.get(role, ""))
        if draft.name:
            return (await stub.UpdateRole(pb.UpdateRoleRequest(role=draft), metadata=owner)).consistency_token
        made = await stub.CreateRole(pb.CreateRoleRequest(role=draft), metadata=owner)
        self.names[role], self.own_role = made.name, made.name.removeprefix("roles/")
        return made.consistency_token


def _kind(reference: str) -> str:
    return reference.partition(":")[0]


def _is_change(each: ScopedChange) -> bool:
    return isinstance(each, Change)


def _update(each: Any) -> pb.RelationshipUpdate:
    operation = pb.RelationshipUpdate.OPERATION_DELETE if each.removed else pb.RelationshipUpdate.OPERATION_TOUCH
    return pb.RelationshipUpdate(operation=operation, relationship=message(each.relationship))


@dataclass
class World:
    """What a tenant was at one revision, asked at a moment and with a context."""

    definition: Definition
    under: Under
    managed: list[str]
    """The resources whose access Alice manages, so that she may ask about others there."""

    @classmethod
    def of(cls, definition: Definition, now: float, under: Under) -> "World":
        stored = definition.at(now, {})
        managed = [each for each in RESOURCES if stored.holds(ALICE, each, f"{_kind(each)}.manage_access") is True]
        return cls(definition.at(now, under.context, under.contextual), under, managed)

    def questions(self, offset: int, step: int) -> list[Question]:
        """Some of those that Alice may ask."""
        return [each for each in QUESTIONS if each[0] in self.managed][offset % step :: step]

    def answer(self, question: Question) -> Verdict:
        resource, verb, subject = question
        return self.definition.holds(subject, resource, f"{_kind(resource)}.{verb}")

    def hold(self, found: Verdict, question: Question, rpc: str) -> None:
        expected = self.answer(question)
        assert agree(found, expected), f"{rpc} says {found} of {question}, {expected} is right{self.case()}"

    def case(self) -> str:
        """The facts, for a person to write a case from."""
        lines = [""]
        for name in ("links", "members", "bindings", "modes"):
            lines += [f"{name}:", *(f"  {key}: {each}" for key, each in getattr(self.definition, name).items())]
        own = {role: sorted(each) for role, each in self.definition.roles.items() if role not in schema.SYSTEM_ROLES}
        lines.append(f"roles of its own: {own}")
        return "\n".join([*lines, f"now: {self.definition.now}, context: {dict(self.under.context)}"])


@few
@given(st.data(), histories, contexts)
async def test_every_rpc_says_what_the_definition_says_at_every_revision(
    service: permission_pb2_grpc.PermissionServiceStub,
    clock: Clock,
    data: st.DataObject,
    history: list[ScopedChange],
    context: Mapping[str, Any],
) -> None:
    clock.now = datetime.fromtimestamp(WRITTEN, UTC)
    tenant = await Tenant.make(service)
    states = [(tenant.token, tenant.definition.copy())]
    for change in history:
        await tenant.attempt([change])
        states.append((tenant.token, tenant.definition.copy()))
        under = Under(pb.Consistency(at_least_as_fresh=tenant.token), context)
        world = World.of(tenant.definition, WRITTEN, under)
        some = world.questions(len(states), 3)
        for question, found in zip(some, await tenant.asking.batch(some, under), strict=True):
            world.hold(found, question, "BatchCheckPermissions")
    for now in (WRITTEN, EXPIRED):
        clock.now = datetime.fromtimestamp(now, UTC)
        for token, definition in [states[-1], *data.draw(st.lists(st.sampled_from(states), max_size=2))]:
            under = Under(pb.Consistency(at_exact_snapshot=token), context)
            world = World.of(definition, now, under)
            await questions_agree(tenant.asking, world, data)
            some = world.questions(data.draw(st.integers(0, 4)), 5)
            for question, found in zip(some, await tenant.asking.stream(some, under), strict=True):
                world.hold(found, question, "StreamCheckPermissions")
            await own_questions_agree(tenant, world, data.draw(st.sampled_from(USERS)))
            await expansion_agrees(tenant.asking, world, data)
            await relationships_are_those(tenant.asking, world)
            contextual = replace(under, contextual=[data.draw(st.one_of(links, memberships.map(unending)))])
            await questions_agree(tenant.asking, World.of(definition, now, contextual), data)


def unending(each: Relationship) -> Relationship:
    return replace(each, term=Term())


async def questions_agree(asking: Asking, world: World, data: st.DataObject) -> None:
    """What takes assumed relationships."""
    some = world.questions(data.draw(st.integers(0, 1)), 2)
    for question, found in zip(some, await asking.batch(some, world.under), strict=True):
        world.hold(found, question, "BatchCheckPermissions")
    for question in data.draw(st.lists(st.sampled_from(some), min_size=2, max_size=3)):
        world.hold(await asking.check(question, world.under), question, "CheckPermission")
        await explanation_agrees(asking, world, question)
    await lists_agree(asking, world, data.draw(st.sampled_from([*USERS, members(1)])))
    subject, resource = data.draw(st.sampled_from(USERS)), data.draw(st.sampled_from(world.managed))
    await effective_permissions_agree(asking, world, resource, subject)


async def own_questions_agree(tenant: Tenant, world: World, user: str) -> None:
    """Who asks about itself needs no permission, and is told the same wherever nobody else may ask."""
    asking = replace(tenant.asking, metadata=bearer(user, tenant.id))
    questions = [each for each in QUESTIONS if each[2] == user]
    own = [(resource, verb, "") for resource, verb, _ in questions]
    for question, found in zip(questions, await asking.batch(own, world.under), strict=True):
        world.hold(found, question, "BatchCheckPermissions about oneself")


async def explanation_agrees(asking: Asking, world: World, question: Question) -> None:
    explained = await asking.explain(question, world.under)
    world.hold(verdict(explained.decision), question, "ExplainPermission")
    assert bool(explained.path) == (explained.decision.result == pb.Decision.RESULT_ALLOWED)
    resource, verb, subject = question
    definition, kinds = world.definition, pb.ExplanationStep
    for step in explained.path:
        match step.kind:
            case kinds.KIND_MEMBERSHIP:
                is_so = definition.term(definition.members[step.object, step.subject]) is True
            case kinds.KIND_ROLE_BINDING:
                is_so = definition.counts_as(subject, step.subject) is True and any(
                    definition.term(each.term) is True
                    for each in definition.bindings.values()
                    if (each.resource, each.subject) == (step.object, step.subject)
                )
            case _:
                is_so = definition.parent(step.object) == step.subject
        assert is_so, f"ExplainPermission leads through {step}{world.case()}"
    if explained.missing_grants:
        more = definition.copy()
        for number, each in enumerate(explained.missing_grants):
            grant = Binding(f"more{number}", each.role.removeprefix("roles/"), each.resource, subject)
            more.apply(BindingChange(grant))
        turned = more.holds(subject, resource, f"{_kind(resource)}.{verb}")
        assert turned is True, f"ExplainPermission misses {explained.missing_grants}{world.case()}"


async def lists_agree(asking: Asking, world: World, subject: str) -> None:
    for kind, places in (("record", RECORDS), ("table", TABLES)):
        listed = await asking.resources(kind, "read", subject, world.under)
        assert listed.keys() <= set(places)
        for place in places:
            world.hold(listed.get(place, Listed(False)).verdict, (place, "read", subject), "LookupResources")
        place = next((each for each in places if each in world.managed), "")
        if not place:
            continue
        users = await asking.subjects(place, "read", "user", world.under)
        for user in [*USERS, ALICE, ref("user", "nobody")]:
            everyone = users.get("user:*", Listed(False))
            entry = users.get(user, Listed(False) if user in everyone.excluded else everyone)
            world.hold(entry.verdict, (place, "read", user), "LookupSubjects")


async def effective_permissions_agree(asking: Asking, world: World, resource: str, subject: str) -> None:
    found = await asking.effective(resource, subject, world.under)
    kind, definition = _kind(resource), world.definition

    def held(place: str, types: set[str] | frozenset[str]) -> list[str]:
        wanted = sorted(each for each in schema.PERMISSIONS if each.partition(".")[0] in types)
        return [each for each in wanted if definition.holds(subject, place, each) is True]

    def verbs(place: str, of: str) -> list[str]:
        return [each.partition(".")[2] for each in held(place, {of})]

    assert list(found.permissions) == verbs(resource, kind), world.case()
    assert list(found.inherited_permissions) == held(resource, schema.descendants(kind) - {kind}), world.case()
    masks = {each.field: list(each.permissions) for each in found.field_permissions}
    if kind == "table":
        for field in FIELDS:
            if definition.parent(field) == resource:
                assert masks.get(field, verbs(resource, "field")) == verbs(field, "field"), world.case()
    else:
        assert not masks


async def expansion_agrees(asking: Asking, world: World, data: st.DataObject) -> None:
    if any(each.term.condition for each in world.definition.bindings.values()):
        return  # A tree is asked for without context, and does not tell which of its subjects are conditional.
    resource, verb, _ = data.draw(st.sampled_from(world.questions(0, 1)))
    tree = await asking.expand(resource, verb, world.under)
    for user in USERS:
        found = says(tree, lambda each, user=user: world.definition.counts_as(user, each) is True)
        assert found is not None
        world.hold(found, (resource, verb, user), "ExpandPermission")


async def relationships_are_those(asking: Asking, world: World) -> None:
    """What is stored is exported as it was, without what has expired."""
    definition = world.definition
    linked = [Relationship(child, parent.partition(":")[0], parent) for child, parent in definition.links.items()]
    joined = [Relationship(group, "member", each, term) for (group, each), term in definition.members.items()]
    alive = [each for each in (*linked, *joined) if each.term.expires is None or each.term.expires > definition.now]
    expected = sorted(map(message, alive), key=lambda each: (each.resource, each.relation, each.subject))
    assert await asking.exported(world.under) == expected
    groups = await asking.stored("group", world.under)
    assert groups == [each for each in expected if each.resource.startswith("group:")]


class Workload:
    """The stub as a workload's process has it: each call says who it is, and for which user."""

    def __init__(self, stub: permission_pb2_grpc.PermissionServiceStub, user: str, tenant: str) -> None:
        self._stub = stub
        self._user = bearer(user, tenant)

    def StreamReplica(self, request: pb.StreamReplicaRequest) -> Any:
        return self._stub.StreamReplica(request, metadata=bearer("user"))

    async def BatchCheckPermissions(self, request: pb.BatchCheckPermissionsRequest) -> Any:
        return await self._stub.BatchCheckPermissions(request, metadata=self._user)


@asynccontextmanager
async def following(
    workload: Workload, tenant_id: str, clock: Callable[[], datetime]
) -> AsyncIterator[tuple[Follower, ReplicaAuthorizer]]:
    """A service's replica of the tenant, and what answers its interceptor."""
    replicas = Replicas(workload, Wanted(frozenset(), 60.0), Bounds(1, 100_000, 60.0))  # type: ignore[arg-type]
    sweeping = asyncio.create_task(replicas.run())
    follower = replicas.of(tenant_id)
    assert follower is not None
    yield follower, ReplicaAuthorizer(replicas, PeerAuthorizer(workload), None, clock)  # type: ignore[arg-type]
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


@few
@given(histories, st.sampled_from(USERS))
async def test_the_embedded_replica_says_what_the_definition_says_at_every_revision(
    service: permission_pb2_grpc.PermissionServiceStub, clock: Clock, history: list[ScopedChange], user: str
) -> None:
    clock.now = datetime.fromtimestamp(WRITTEN, UTC)
    tenant = await Tenant.make(service)
    own = [each for each in QUESTIONS if each[2] == user]
    async with following(Workload(service, user, tenant.id), tenant.id, clock) as (follower, authorizer):
        for number, change in enumerate(history):
            await tenant.attempt([change])
            await replica_agrees(follower, authorizer, tenant, user, own[number % 3 :: 3])
        for now in (WRITTEN, EXPIRED):
            clock.now = datetime.fromtimestamp(now, UTC)
            await replica_agrees(follower, authorizer, tenant, user, own)
        assert authorizer.answers[HERE] + authorizer.answers["denied"] == authorizer.answers.total()
        assert follower.copy.loads == 1


async def replica_agrees(
    follower: Follower,
    authorizer: ReplicaAuthorizer,
    tenant: Tenant,
    user: str,
    questions: Sequence[Question],
) -> None:
    revision = claimed_revision(tenant.token)
    assert revision is not None
    assert await follower.copy.reaches(revision, 10.0), "the stream did not bring the change"
    world = World.of(tenant.definition, authorizer._clock().timestamp(), Under())
    caller = RequestContext(
        "/t.v1.Test/Do", actor=Actor("user", user), tenant_id=tenant.id, consistency_token=tenant.token
    )
    for question in questions:
        (found,) = await authorizer.check(caller, [question[:2]])
        world.hold(found, question, "the embedded replica")
