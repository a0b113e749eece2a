"""Every RPC that answers about the platform, and the embedded replica, held against the definition of roles and scope
modes at every revision of generated histories.

Each example is a tenant of its own. The clock stands still, and is turned forward between two rounds of questions.
`PYAIRTABLE_TEST_EXAMPLES` asks for more examples; a failure prints the facts and the question.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission import schema
from pyairtable_mesh.runtime.authorization.facts import Relationship, Term, Verdict
from pyairtable_mesh.runtime.authorization.roles import Binding, BindingChange, ScopedChange
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.replica.authorizer import HERE, ReplicaAuthorizer, claimed_revision
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from tests.contract.permission.asking import Asking, Listed, Question, Under, agree, message, verdict
from tests.contract.permission.serving import bearer, few
from tests.contract.permission.tenants import (
    EXPIRED,
    FIELDS,
    QUESTIONS,
    RECORDS,
    TABLES,
    USERS,
    WRITTEN,
    Tenant,
    World,
    contexts,
    histories,
    kind_of,
    links,
    memberships,
)
from tests.contract.permission.trees import says
from tests.contract.stores.permission.conftest import Clock
from tests.unit.permission.world import ALICE, members, ref


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
    resource = data.draw(st.sampled_from(world.managed))
    for subject in USERS:
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
        turned = more.holds(subject, resource, f"{kind_of(resource)}.{verb}")
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
    kind, definition = kind_of(resource), world.definition

    def held(place: str, types: set[str] | frozenset[str]) -> list[str]:
        wanted = sorted(each for each in schema.PERMISSIONS if each.partition(".")[0] in types)
        return [each for each in wanted if definition.holds(subject, place, each) is True]

    def verbs(place: str, of: str) -> list[str]:
        return [each.partition(".")[2] for each in held(place, {of})]

    def unsure_agree(told: Iterable[pb.ConditionalPermission], place: str) -> None:
        missing: dict[str, Verdict] = {each.permission: frozenset(each.missing_context) for each in told}
        assert all(missing.values()), world.case()
        for permission in schema.PERMISSIONS:
            if permission.partition(".")[0] in schema.descendants(kind_of(place)):
                expected = definition.holds(subject, place, permission)
                found = missing.pop(permission, expected is True)
                assert agree(found, expected), world.case()
        assert not missing, world.case()

    unsure_agree(found.conditional_permissions, resource)
    assert list(found.permissions) == verbs(resource, kind), world.case()
    assert list(found.inherited_permissions) == held(resource, schema.descendants(kind) - {kind}), world.case()
    masks = {each.field: list(each.permissions) for each in found.field_permissions}
    for each in found.field_permissions:
        unsure_agree(each.conditional_permissions, each.field)
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

        def has(leaf: pb.ExpansionNode, user: str = user) -> bool:
            return any(world.definition.counts_as(user, each) is True for each in leaf.subjects)

        found = says(tree, has)
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
