"""Generated histories of tenants, made by RPC and told to the definition, and what is right at each revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import grpc
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
from pyairtable_mesh.runtime.ids import new_id
from tests.contract.authorization.definition import Definition
from tests.contract.permission.asking import Asking, Question, Under, carried, message
from tests.contract.permission.serving import bearer, reason_of
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

contexts: st.SearchStrategy[Mapping[str, Any]] = st.sampled_from(
    [
        {},
        {"address": "10.1.2.3"},
        {"address": "192.168.0.1", "port": 443},
        {"network": "10.0.0.0/8"},
        {"address": "192.168.0.1", "network": "192.168.0.0/16"},
    ]
)
"""What the conditions of `terms` need: nothing of it, a part, or all, and what none of them needs."""
moments = st.sampled_from([None, None, EXPIRED, EXPIRED + 1])
values: st.SearchStrategy[Mapping[str, Any]] = st.sampled_from(
    [
        {},
        {"network": "10.0.0.0/8"},
        {"network": "192.168.0.0/16"},
        {"network": "10.0.0.1/8"},  # is no network: its first address is another
        {"address": "10.1.2.3"},
        {"address": "10.1.2.3", "network": "10.0.0.0/8"},
        {"address": "192.168.0.1", "network": "10.0.0.0/8"},
    ]
)
unconditional = moments.map(lambda moment: Term(expires=moment))
terms = st.one_of(unconditional, st.builds(Term, st.just("in_network"), values, moments))
"""What a role binding or the membership of a user may carry."""
of_users, of_groups = (
    st.builds(Relationship, st.sampled_from(GROUPS), st.just("member"), st.sampled_from(subjects), held_under)
    for subjects, held_under in ((USERS, terms), ([members(1), members(2)], unconditional))
)
memberships = st.one_of(of_users, of_users, of_groups)
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
    st.lists(joined, min_size=2, max_size=3),
    st.lists(moded, min_size=1, max_size=3),
    st.lists(changes, max_size=8),
).map(lambda parts: [each for part in parts for each in part])


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
        if (before := self.definition.bindings.get(binding.id)) is not None:
            # Where that is refused, for the last owner, nothing is bound in its place either.
            gone = BindingChange(before, removed=True)
            self.token = await self._change([gone])
            self.definition.apply(gone)
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


def kind_of(reference: str) -> str:
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
        managed = [each for each in RESOURCES if stored.holds(ALICE, each, f"{kind_of(each)}.manage_access") is True]
        return cls(definition.at(now, under.context, under.contextual), under, managed)

    def questions(self, offset: int, step: int) -> list[Question]:
        """Some of those that Alice may ask."""
        return [each for each in QUESTIONS if each[0] in self.managed][offset % step :: step]

    def answer(self, question: Question) -> Verdict:
        resource, verb, subject = question
        return self.definition.holds(subject, resource, f"{kind_of(resource)}.{verb}")

    def hold(self, found: Verdict, question: Question, rpc: str) -> None:
        expected = self.answer(question)
        assert found == expected, f"{rpc} says {found} of {question}, {expected} is right{self.case()}"

    def case(self) -> str:
        """The facts, for a person to write a case from."""
        lines = [""]
        for name in ("links", "members", "bindings", "modes"):
            lines += [f"{name}:", *(f"  {key}: {each}" for key, each in getattr(self.definition, name).items())]
        own = {role: sorted(each) for role, each in self.definition.roles.items() if role not in schema.SYSTEM_ROLES}
        lines.append(f"roles of its own: {own}")
        return "\n".join([*lines, f"now: {self.definition.now}, context: {dict(self.under.context)}"])
