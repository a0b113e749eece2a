"""Every RPC that answers about the platform, and the embedded replica, held against the definition of roles and scope
modes at every revision of generated histories.

Each example is a tenant of its own. The clock stands still, and is turned forward between two rounds of questions.
`PYAIRTABLE_TEST_EXAMPLES` asks for more examples; a failure prints the facts and the question.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Relationship, Verdict
from pyairtable_mesh.runtime.authorization.roles import OWNER, Binding, BindingChange, ScopedChange
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer, Undecided
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.replica.authorizer import HERE, ReplicaAuthorizer, claimed_revision
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from tests.contract.authorization.definition import Definition
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
@given(st.data(), histories)
async def test_every_rpc_says_what_the_definition_says_at_every_revision(
    service: permission_pb2_grpc.PermissionServiceStub,
    clock: Clock,
    data: st.DataObject,
    history: list[ScopedChange],
) -> None:
    clock.now = datetime.fromtimestamp(WRITTEN, UTC)
    tenant = await Tenant.make(service)
    states = [(tenant.token, tenant.definition.copy())]
    for change in history:
        await tenant.attempt([change])
        states.append((tenant.token, tenant.definition.copy()))
        under = Under(pb.Consistency(at_least_as_fresh=tenant.token), data.draw(contexts))
        world = World.of(tenant.definition, WRITTEN, under)
        some = world.questions(len(states), 3)
        for question, found in zip(some, await tenant.asking.batch(some, under), strict=True):
            world.hold(found, question, "BatchCheckPermissions")
    for now in (WRITTEN, EXPIRED):
        clock.now = datetime.fromtimestamp(now, UTC)
        for token, definition in [states[-1], *data.draw(st.lists(st.sampled_from(states), max_size=2))]:
            under = Under(pb.Consistency(at_exact_snapshot=token), data.draw(contexts))
            world = World.of(definition, now, under)
            await questions_agree(tenant.asking, world, data)
            some = world.questions(data.draw(st.integers(0, 4)), 5)
            for question, found in zip(some, await tenant.asking.stream(some, under), strict=True):
                world.hold(found, question, "StreamCheckPermissions")
            await own_questions_agree(tenant, world, data.draw(st.sampled_from(USERS)))
            for user in USERS:
                await questions_about_others_agree(tenant, world, user)
            await expansion_agrees(tenant.asking, world, data)
            await relationships_are_those(tenant.asking, world)
            contextual = replace(under, contextual=[data.draw(st.one_of(links, memberships.map(unending)))])
            await questions_agree(tenant.asking, World.of(definition, now, contextual), data)


def unending(each: Relationship) -> Relationship:
    return replace(each, term=replace(each.term, expires=None))


async def questions_agree(asking: Asking, world: World, data: st.DataObject) -> None:
    """What takes assumed relationships."""
    some = world.questions(data.draw(st.integers(0, 1)), 2)
    for question, found in zip(some, await asking.batch(some, world.under), strict=True):
        world.hold(found, question, "BatchCheckPermissions")
    unsure = [each for each in some if not isinstance(world.answer(each), bool)]
    drawn = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=2))
    for question in [*drawn, data.draw(st.sampled_from(unsure or some))]:
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


async def questions_about_others_agree(tenant: Tenant, world: World, user: str) -> None:
    """Who asks about another manages access there by what is stored: no context that it gives can do that for it."""
    asking = replace(tenant.asking, metadata=bearer(user, tenant.id))
    stored = world.definition.at(world.definition.now, {})
    questions = [each for each in QUESTIONS if each[2] != user][::6]
    for question, found in zip(questions, await asking.tried(questions, world.under), strict=True):
        manages = stored.holds(user, question[0], f"{kind_of(question[0])}.manage_access") is True
        assert (found is not None) == manages, f"{user} is told {found} of {question}{world.case()}"
        if found is not None:
            world.hold(found, question, "BatchCheckPermissions about another")


async def explanation_agrees(asking: Asking, world: World, question: Question) -> None:
    explained = await asking.explain(question, world.under)
    world.hold(verdict(explained.decision), question, "ExplainPermission")
    assert bool(explained.path) == (explained.decision.result == pb.Decision.RESULT_ALLOWED)
    resource, verb, subject = question
    definition, kinds = world.definition, pb.ExplanationStep
    for step in explained.path:
        match step.kind:
            case kinds.KIND_MEMBERSHIP:
                is_so = any(
                    definition.term(term) is True
                    for *membership, term in definition.memberships()
                    if membership == [step.object, step.subject]
                )
            case kinds.KIND_ROLE_BINDING:
                is_so = definition.counts_as(subject, step.subject) is True and any(
                    definition.term(each.term) is True
                    for each in definition.bindings.values()
                    if (each.resource, each.subject) == (step.object, step.subject)
                )
            case _:
                is_so = definition.parent(step.object) == step.subject
        assert is_so, f"ExplainPermission leads through {step}{world.case()}"
    failures_agree(explained, world, question)
    denied = explained.decision.result == pb.Decision.RESULT_DENIED
    assert bool(explained.missing_grants) == denied, f"ExplainPermission misses nothing for a denial{world.case()}"
    if denied:
        more = definition.copy()
        for number, each in enumerate(explained.missing_grants):
            grant = Binding(f"more{number}", each.role.removeprefix("roles/"), each.resource, subject)
            more.apply(BindingChange(grant))
        turned = more.holds(subject, resource, f"{kind_of(resource)}.{verb}")
        assert turned is True, f"ExplainPermission misses {explained.missing_grants}{world.case()}"


def failures_agree(explained: pb.ExplainPermissionResponse, world: World, question: Question) -> None:
    """The conditions that are told of were not met, and lack whatever the answer lacks."""
    definition, lacked = world.definition, set[str]()
    chain = definition.chain(question[0])
    unmet = [(f"{group}#member@{member}", term) for group, member, term in definition.memberships()]
    unmet += [("", each.term) for each in definition.bindings.values() if each.resource in chain]
    for failed in explained.failed_conditions:
        carrier = "" if failed.carrier.startswith("roleBindings/") else failed.carrier
        verdict: Verdict = frozenset(failed.missing_context)
        assert any(
            each == (carrier, failed.condition, verdict or False)
            for each in ((where, term.condition, definition.term(term)) for where, term in unmet)
        ), f"ExplainPermission tells of {failed}{world.case()}"
        lacked.update(failed.missing_context)
    lacking = set(explained.decision.missing_context) - lacked
    assert not lacking, f"ExplainPermission does not tell what lacks {lacking} for {question}{world.case()}"


async def lists_agree(asking: Asking, world: World, subject: str) -> None:
    for kind, places in (("record", RECORDS), ("table", TABLES)):
        listed = await asking.resources(kind, "read", subject, world.under)
        assert listed.keys() <= set(places)
        assert all(each.verdict is not False for each in listed.values())
        for place in places:
            world.hold(listed.get(place, Listed(False)).verdict, (place, "read", subject), "LookupResources")
        place = next((each for each in places if each in world.managed), "")
        if place:
            await subjects_agree(asking, world, place)


async def subjects_agree(asking: Asking, world: World, place: str) -> None:
    users = await asking.subjects(place, "read", "user", world.under)
    assert all(each.verdict is not False for each in users.values())
    everyone = users.get("user:*", Listed(False))
    for user in [*USERS, ALICE, ref("user", "nobody")]:
        question = place, "read", user
        if user in users or user in everyone.excluded:
            world.hold(users.get(user, Listed(False)).verdict, question, "LookupSubjects")
        else:  # What a wildcard lacks is named, and not what each whom it stands for may lack besides.
            expected = world.answer(question)
            assert agree(everyone.verdict, expected), f"LookupSubjects: {question} is {expected}{world.case()}"
    if kind_of(place) == "table":
        groups = await asking.subjects(place, "read", "group#member", world.under)
        assert all(each.verdict is not False for each in groups.values())
        for group in map(members, (1, 2)):
            world.hold(groups.get(group, Listed(False)).verdict, (place, "read", group), "LookupSubjects")


async def effective_permissions_agree(asking: Asking, world: World, resource: str, subject: str) -> None:
    found = await asking.effective(resource, subject, world.under)
    definition, kind = world.definition, kind_of(resource)

    def held(place: str) -> dict[str, Verdict]:
        """What is held at a place, and below it where nothing else is said."""
        types = schema.descendants(kind_of(place))
        wanted = [each for each in schema.PERMISSIONS if each.partition(".")[0] in types]
        verdicts = {each: definition.holds(subject, place, each) for each in wanted}
        return {each: verdict for each, verdict in verdicts.items() if verdict is not False}

    def told(place: str, answer: Any, below: Sequence[str] = ()) -> dict[str, Verdict]:
        unsure = {each.permission: frozenset(each.missing_context) for each in answer.conditional_permissions}
        for listed in (answer.permissions, below, unsure):
            assert list(listed) == sorted(set(listed)), world.case()
        sure = [*(f"{kind_of(place)}.{verb}" for verb in answer.permissions), *below]
        assert unsure.keys().isdisjoint(sure), world.case()
        return {**dict.fromkeys(sure, True), **unsure}

    everything = held(resource)
    assert told(resource, found, found.inherited_permissions) == everything, world.case()
    assert kind not in {each.partition(".")[0] for each in found.inherited_permissions}
    fields = [each for each in FIELDS if definition.parent(each) == resource]
    masks = {each.field: told(each.field, each) for each in found.field_permissions}
    assert masks.keys() <= set(fields)
    usual = {each: verdict for each, verdict in everything.items() if each.startswith("field.")}
    for field in fields:
        assert masks.get(field, usual) == held(field), world.case()


async def expansion_agrees(asking: Asking, world: World, data: st.DataObject) -> None:
    """A tree is asked for without context, and does not tell which of its subjects are conditional."""
    bare = World.of(world.definition, world.definition.now, replace(world.under, context={}))
    resource, verb, _ = data.draw(st.sampled_from(bare.questions(0, 1)))
    tree = await asking.expand(resource, verb, bare.under)
    is_sure = all(isinstance(bare.definition.term(each), bool) for each in bare.definition.terms())
    for user in USERS:

        def has(leaf: pb.ExpansionNode, user: str = user) -> bool | None:
            found = [listed(bare.definition, leaf, each, user) for each in leaf.subjects]
            return True if True in found else None if None in found else False

        found = says(tree, has)
        assert found is not None or not is_sure
        if found is not None:
            bare.hold(found, (resource, verb, user), "ExpandPermission")


def listed(definition: Definition, leaf: pb.ExpansionNode, subject: str, user: str) -> bool | None:
    """Whether a user is what a leaf names; None where only one of the bindings that may have put it there holds."""
    above = definition.chain(leaf.resource)
    held = {
        definition.term(each.term)
        for each in definition.bindings.values()
        if each.subject == subject
        and (each.resource == leaf.resource or (each.role == OWNER and each.resource in above))
    } - {False}
    assert held, f"ExpandPermission names {subject}, to whom nothing is bound at {leaf.resource}"
    counts = definition.counts_as(user, subject)
    return counts if counts is False or (counts is True and held == {True}) else None


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
@given(histories, st.sampled_from(USERS), contexts)
async def test_the_embedded_replica_says_what_the_definition_says_at_every_revision(
    service: permission_pb2_grpc.PermissionServiceStub,
    clock: Clock,
    history: list[ScopedChange],
    user: str,
    context: Mapping[str, Any],
) -> None:
    clock.now = datetime.fromtimestamp(WRITTEN, UTC)
    tenant = await Tenant.make(service)
    own = [each for each in QUESTIONS if each[2] == user]
    async with following(Workload(service, user, tenant.id), tenant.id, clock) as (follower, authorizer):
        for number, change in enumerate(history):
            await tenant.attempt([change])
            await replica_agrees(follower, authorizer, tenant, context, own[number % 3 :: 3])
        for now in (WRITTEN, EXPIRED):
            clock.now = datetime.fromtimestamp(now, UTC)
            await replica_agrees(follower, authorizer, tenant, context, own)
        assert authorizer.answers[HERE] + authorizer.answers["denied"] == authorizer.answers.total()
        assert follower.copy.loads == 1


async def replica_agrees(
    follower: Follower,
    authorizer: ReplicaAuthorizer,
    tenant: Tenant,
    context: Mapping[str, Any],
    questions: Sequence[Question],
) -> None:
    """The authorizer, which knows no context, and the engine that it holds."""
    revision = claimed_revision(tenant.token)
    assert revision is not None
    assert await follower.copy.reaches(revision, 10.0), "the stream did not bring the change"
    now = authorizer._clock().timestamp()
    bare, world = (World.of(tenant.definition, now, Under(context=each)) for each in ({}, context))
    user = questions[0][2]
    caller = RequestContext(
        "/t.v1.Test/Do", actor=Actor("user", user), tenant_id=tenant.id, consistency_token=tenant.token
    )
    engine = follower.copy.engine
    assert engine is not None
    for question in questions:
        (found,) = await authorizer.check(caller, [question[:2]])
        bare.hold(found.missing if isinstance(found, Undecided) else found, question, "the embedded replica")
        decision = engine.check(question, Circumstances(now, context))
        world.hold(decision.missing or decision.allowed, question, "the embedded replica's engine")
