"""A replica, led by the messages of the stream, says what the server's engine says, at every revision."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages, schema
from pyairtable_mesh.permission.domain import (
    Changed,
    Fact,
    Inheritance,
    Relationship,
    Resource,
    Role,
    RoleBinding,
    ScopeMode,
    Subject,
)
from pyairtable_mesh.permission.platform import State, as_change
from pyairtable_mesh.permission.usecases.watching import type_of, with_ancestors
from pyairtable_mesh.runtime.authorization import Circumstances, RoleChange, ScopedEngine, dump, product
from pyairtable_mesh.runtime.replica.copy import Copy
from pyairtable_mesh.runtime.replica.messages import change
from tests.unit.permission.world import ALICE, BASE, BOB, TABLE, TENANT, TENANT_ID, WORKSPACE, members, ref

NOW = datetime(2026, 11, 25, tzinfo=UTC)
RECORD, FIELD, GROUPS, ROLE = ref("record"), ref("field"), [ref("group"), ref("group", 2)], "rol" + "0" * 26
CHAIN = [TENANT, WORKSPACE, BASE, TABLE, RECORD, FIELD]
LINKS = [(BASE, "workspace", WORKSPACE), (TABLE, "base", BASE), (RECORD, "table", TABLE), (FIELD, "table", TABLE)]
SUBJECTS = [ALICE, BOB, *(members(number) for number in (1, 2))]

expiries = st.sampled_from([None, None, NOW - timedelta(microseconds=1), NOW, NOW + timedelta(seconds=1)])
ANYWHERE = "in_network", '{"network": "::/0"}'
conditions = st.sampled_from([("", ""), ("", ""), ANYWHERE, ("in_network", '{"address": "10.0.0.1"}')])
links = st.sampled_from(LINKS).map(lambda each: Relationship(Resource.parse(each[0]), each[1], Subject.parse(each[2])))


def _joined(
    group: Resource, subject: Subject, expire_time: datetime | None, condition: tuple[str, str]
) -> Relationship:
    # The model has conditions for users in groups, and for no groups in groups.
    term = condition if subject.is_principal else ("", "")
    return Relationship(group, "member", subject, expire_time, *term)


memberships = st.builds(
    _joined,
    st.sampled_from(GROUPS).map(Resource.parse),
    st.sampled_from(SUBJECTS).map(Subject.parse),
    expiries,
    conditions,
)


def _bound(
    place: str, number: int, role: str, subject: str, expire_time: datetime | None, condition: tuple[str, str]
) -> RoleBinding:
    # A binding never moves: its id belongs to one resource.
    where, who = Resource.parse(place), Subject.parse(subject)
    return RoleBinding(f"rbn{number}-{place}", role, where, who, ALICE, NOW, expire_time, 0, *condition)


bindings = st.builds(
    _bound,
    st.sampled_from(CHAIN),
    st.sampled_from([1, 2]),
    st.sampled_from([*schema.SYSTEM_ROLES, ROLE]),
    st.sampled_from(SUBJECTS),
    expiries,
    conditions,
)
roles = st.builds(
    Role, st.just(ROLE), st.just("Own"), st.sampled_from([frozenset({"table.read"}), frozenset({"record.update"})])
)
modes = st.builds(Inheritance, st.sampled_from(CHAIN[1:]).map(Resource.parse), st.sampled_from(ScopeMode))
facts: st.SearchStrategy[Fact] = st.one_of(links, memberships, bindings, bindings, roles, modes)
changes = st.builds(Changed, facts, st.sampled_from([True, True, True, False]))
histories = st.lists(st.lists(changes, min_size=1, max_size=3), min_size=4, max_size=15)
followed = st.sampled_from([(), ("tenant",), ("base",), ("table",), ("record", "webhook")])


def _is_sound(changed: Changed) -> bool:
    """Scope modes are set and never removed, and links are added before they are taken away."""
    return changed.kept or not isinstance(changed.what, Inheritance)


async def _agree(history: list[list[Changed]], types: tuple[str, ...], anew: set[int]) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(0, [RoleChange(role, held) for role, held in schema.SYSTEM_ROLES.items()])
    server, copy, wanted = State(engine), Copy(TENANT_ID, lambda _: True), with_ancestors(types)
    await copy.take(_snapshot(server), 0.0)
    asked = [
        (resource, verb, subject)
        for resource in CHAIN
        for verb in schema.TYPES[resource.partition(":")[0]].verbs
        for subject in (ALICE, BOB)
        if not wanted or resource.partition(":")[0] in wanted
    ]
    for revision, batch in enumerate(history, 1):
        server.apply(revision, batch)
        if revision in anew and not wanted:
            await copy.take(_snapshot(server), 0.0)
        else:
            told = [each for each in batch if not wanted or type_of(each.what) in wanted]
            sent = pb.ReplicaChanges(changes=messages.from_changes(told)) if told else None
            wire = pb.StreamReplicaResponse(revision=revision, changes=sent).SerializeToString()
            await copy.take(pb.StreamReplicaResponse.FromString(wire), 0.0)
        assert copy.engine is not None
        for context in ({}, {"address": "10.9.9.9"}, {"address": "::1", "network": "::/0"}):
            given_now = Circumstances(NOW.timestamp(), context)
            assert copy.engine.batch(asked, given_now) == server.engine.batch(asked, given_now)


def _snapshot(server: State) -> pb.StreamReplicaResponse:
    data = dump(server.engine)
    chunk = pb.ReplicaSnapshotChunk(data=data, total_bytes=len(data), last=True)
    return pb.StreamReplicaResponse(snapshot=chunk, revision=server.revision, checkpoint_token="t")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories, followed, st.sets(st.integers(1, 15), max_size=3))
def test_a_replica_agrees_with_the_server_at_every_revision(
    history: list[list[Changed]], types: tuple[str, ...], anew: set[int]
) -> None:
    sound = [[each for each in batch if _is_sound(each)] for batch in history]
    asyncio.run(_agree(sound, types, anew))


def test_every_kind_of_change_arrives_as_the_server_s_own_engine_takes_it() -> None:
    kinds = [
        Relationship(Resource.parse(GROUPS[0]), "member", Subject.parse(ALICE), NOW),
        Relationship(Resource.parse(GROUPS[0]), "member", Subject.parse(ALICE), None, *ANYWHERE),
        RoleBinding("rbn1", "viewer", Resource.parse(BASE), Subject.parse(BOB), ALICE, NOW, NOW),
        RoleBinding("rbn1", "viewer", Resource.parse(BASE), Subject.parse(BOB), ALICE, NOW, None, 0, "in_network"),
        Role(ROLE, "Own", frozenset({"table.read"})),
        Inheritance(Resource.parse(BASE), ScopeMode.RESTRICT),
    ]

    for fact in kinds:
        for kept in (True, False) if not isinstance(fact, Inheritance) else (True,):
            changed = Changed(fact, kept)
            assert [change(each) for each in messages.from_changes([changed])] == [as_change(changed)]
