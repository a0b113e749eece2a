"""One tenant's roles, bindings and relationships in SQL, the same on SQLite and PostgreSQL.

A `View` is bound to a connection, a tenant and a moment: what has expired by then does not exist. A `Change` is a view
inside of a transaction that also writes; everything that it writes has one revision.
"""

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Table,
    TextClause,
    bindparam,
    column,
    delete,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog, schema, statements
from pyairtable_mesh.permission.domain import (
    Changed,
    Fact,
    Filter,
    Inheritance,
    Relationship,
    Resource,
    Role,
    RoleBinding,
    ScopeMode,
    Subject,
)
from pyairtable_mesh.permission.evaluator import Closure, Grant, Held
from pyairtable_mesh.permission.tables import INHERITANCE, RELATIONSHIP, REVISION, ROLE, ROLE_BINDING
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.columns import by_key

RelationshipKey = tuple[str, str, str]
"""Resource, relation and subject: the order that relationships are listed in."""

_ROWS_OF_A_PART = 500


@dataclass(frozen=True, slots=True)
class View:
    """What a tenant's data say at a moment."""

    connection: AsyncConnection
    tenant_id: str
    now: datetime
    decisions: list[auditing.Decision] = field(default_factory=list, kw_only=True)
    """What an act in it rests on: one at most, and none where nobody's permission was asked about."""

    async def closure(self, resources: Collection[str], subjects: Collection[str], limit: int) -> Closure:
        """See `evaluator.Reads`."""
        parameters = {"tenant": self.tenant_id, "now": self.now, "most": limit}
        rows = await self._about(statements.CLOSURE, resources, subjects, parameters)
        parents = {child: parent for kind, child, parent in rows if kind == "link"}
        sure = [(member, joined) for kind, member, joined in rows if kind == "membership"]
        return Closure(parents, sure, [(member, joined) for kind, member, joined in rows if kind == "conditional"])

    async def held(self, resources: Collection[str], subjects: Collection[str]) -> Held:
        """See `evaluator.Reads`."""
        parameters = {"tenant": self.tenant_id, "now": self.now}
        grants: list[Grant] = []
        modes: dict[str, ScopeMode] = {}
        revision = 0
        custom: dict[str, frozenset[str]] = {}
        rows = await self._about(statements.HELD, resources, subjects, parameters)
        for kind, name, value, resource, subject, permissions, condition in rows:
            if kind == "grant":
                held = schema.SYSTEM_ROLES.get(value) or custom.get(value)
                if held is None:
                    held = custom[value] = frozenset(permissions.split())
                grants.append(Grant(name, value, resource, subject, held, conditional=bool(condition)))
            elif kind == "mode":
                modes[resource] = ScopeMode(value)
            else:
                revision = int(value)
        return Held(grants, modes, revision)

    async def _about(
        self,
        by_dialect: Mapping[str, TextClause],
        resources: Collection[str],
        subjects: Collection[str],
        parameters: Mapping[str, Any],
    ) -> Sequence[Any]:
        listed = {"resources": self._list(resources), "subjects": self._list(subjects)}
        statement = by_dialect[self.connection.dialect.name]
        return (await self.connection.execute(statement, {**parameters, **listed})).all()

    async def revision(self) -> int:
        """How many changes the tenant has seen."""
        stored = select(REVISION.c.revision).where(REVISION.c.tenant_id == self.tenant_id)
        return (await self.connection.execute(stored)).scalar_one_or_none() or 0

    async def role(self, role_id: str) -> Role | None:
        """A custom role."""
        rows = await self._rows(by_key(select(ROLE).where(ROLE.c.role_id == role_id)), ROLE)
        return _role(rows[0]) if rows else None

    async def role_id_of(self, display_name: str) -> str | None:
        """The id of the custom role that has this display name, however it is capitalised."""
        named = select(ROLE.c.role_id).where(ROLE.c.display_key == _display_key(display_name))
        rows = await self._rows(named, ROLE)
        return rows[0].role_id if rows else None

    async def roles(self, limit: int, after: str = "") -> list[Role]:
        """Custom roles behind an id, in the order of their ids."""
        page = select(ROLE).where(ROLE.c.role_id > after).order_by(ROLE.c.role_id).limit(limit)
        return [_role(row) for row in await self._rows(page, ROLE)]

    async def binding(self, binding_id: str) -> RoleBinding | None:
        """A role binding, expired or not."""
        of_id = by_key(select(ROLE_BINDING).where(ROLE_BINDING.c.binding_id == binding_id))
        rows = await self._rows(of_id, ROLE_BINDING)
        return _binding(rows[0]) if rows else None

    async def bindings(
        self, limit: int, *, resource: str = "", subject: str = "", role: str = "", after: str = ""
    ) -> list[RoleBinding]:
        """Role bindings behind an id, in the order of their ids; empty arguments match everything."""
        columns = ROLE_BINDING.c
        wanted = {columns.resource: resource, columns.subject: subject, columns.role: role}
        conditions = [each == value for each, value in wanted.items() if value]
        page = select(ROLE_BINDING).where(*conditions, columns.binding_id > after, self._alive(ROLE_BINDING))
        return [_binding(row) for row in await self._rows(page.order_by(columns.binding_id).limit(limit), ROLE_BINDING)]

    async def bindings_of(self, subjects: Collection[str], limit: int) -> list[RoleBinding]:
        """Role bindings of any of these subjects."""
        bound = select(ROLE_BINDING).where(self._in(ROLE_BINDING.c.subject, subjects), self._alive(ROLE_BINDING))
        return [_binding(row) for row in await self._rows(bound.limit(limit), ROLE_BINDING)]

    async def roles_of(self, role_ids: Collection[str]) -> dict[str, frozenset[str]]:
        """The permissions of these roles, custom and system, by their id."""
        rows = await self._rows(select(ROLE).where(self._in(ROLE.c.role_id, role_ids)), ROLE)
        custom = {row.role_id: frozenset(row.permissions.split()) for row in rows}
        return custom | {each: schema.SYSTEM_ROLES[each] for each in role_ids if each in schema.SYSTEM_ROLES}

    async def relationships(
        self, wanted: Filter, limit: int, after: RelationshipKey | None = None
    ) -> list[Relationship]:
        """Relationships that match, behind a key, in the order of their keys."""
        columns = RELATIONSHIP.c
        key = tuple_(columns.resource, columns.relation, columns.subject)
        page = select(RELATIONSHIP).where(*_matching(wanted), self._alive(RELATIONSHIP)).order_by(*key).limit(limit)
        if after is not None:
            page = page.where(key > tuple_(*after))
        return [_relationship(row) for row in await self._rows(page, RELATIONSHIP)]

    async def stored(self, keys: Collection[Relationship]) -> set[Relationship]:
        """Which of these keys are there."""
        found = await self.at_keys(keys)
        return {key for key, each in found.items() if each.expire_time is None or each.expire_time > self.now}

    async def at_keys(self, keys: Collection[Relationship]) -> dict[Relationship, Relationship]:
        """The relationships that are stored at these keys, expired or not, by their key."""
        subjects = {str(key.subject) for key in keys}
        resources = {str(key.resource) for key in keys}
        columns = RELATIONSHIP.c
        near = select(RELATIONSHIP).where(self._in(columns.resource, resources), self._in(columns.subject, subjects))
        found = map(_relationship, await self._rows(near, RELATIONSHIP))
        wanted = set(keys)
        return {each.key: each for each in found if each.key in wanted}

    async def parents(self, children: Collection[str]) -> dict[str, Relationship]:
        """The links of these children to their parents, by child."""
        columns = RELATIONSHIP.c
        links = select(RELATIONSHIP).where(
            self._in(columns.resource, children), columns.relation.in_(sorted(schema.LINKS))
        )
        return {row.resource: _relationship(row) for row in await self._rows(links, RELATIONSHIP)}

    async def everything(self) -> AsyncIterator[Sequence[Fact]]:
        """All facts of the tenant, expired or not, in parts of some thousand: roles, modes, relationships, bindings."""
        custom = await self._rows(select(ROLE), ROLE)
        modes = await self._rows(select(INHERITANCE), INHERITANCE)
        yield [_role(row) for row in custom]
        yield [Inheritance(_resource(row.resource), ScopeMode(row.mode)) for row in modes]
        of: Callable[[Any], Fact]
        for table, of in ((RELATIONSHIP, _relationship), (ROLE_BINDING, _binding)):
            rows = await self.connection.stream(select(table).where(table.c.tenant_id == self.tenant_id))
            async for part in rows.partitions(_ROWS_OF_A_PART):
                yield [of(row) for row in part]

    async def _rows(self, statement: Select[Any], table: Table) -> Sequence[Any]:
        found: Sequence[Any] = (
            await self.connection.execute(statement.where(table.c.tenant_id == self.tenant_id))
        ).all()
        return found

    def _alive(self, table: Table) -> ColumnElement[bool]:
        return or_(table.c.expire_time.is_(None), table.c.expire_time > self.now)

    def _in(self, where: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
        listed = text(statements.LISTED[self.connection.dialect.name].format(where.key))
        rows: Select[str] = select(column("value", String())).select_from(
            listed.bindparams(bindparam(where.key, self._list(values)))
        )
        return where.in_(rows)

    def _list(self, values: Collection[str]) -> str | list[str]:
        return json.dumps(list(values)) if self.connection.dialect.name == "sqlite" else list(values)


@dataclass(frozen=True, slots=True)
class Change(View):
    """A view inside of a transaction that writes; what it writes carries `at`."""

    at: int
    made: datetime | None
    """When the revision before was made, as far as that is kept."""
    changes: list[Changed] = field(default_factory=list)
    """What was written so far, as it stands in the changelog."""

    @classmethod
    async def begin(cls, connection: AsyncConnection, tenant_id: str, now: datetime) -> "Change":
        """Take the tenant's next revision; writes of one tenant are serial, so no other change has the same."""
        raised = await statements.RAISE(connection, {"tenant": tenant_id})
        if raised is not None:
            revision, made = raised
            return cls(connection, tenant_id, now, revision, made)
        await statements.INSERT[REVISION](connection, [{"tenant_id": tenant_id, "revision": 1}])
        return cls(connection, tenant_id, now, 1, None)

    async def put_role(self, role: Role) -> None:
        """Store a custom role in the place of the one with its id."""
        await self._record([Changed(role, before=await self.role(role.id))])
        await self._delete(ROLE, ROLE.c.role_id == role.id)
        values = {
            "role_id": role.id,
            "display_name": role.display_name,
            "display_key": _display_key(role.display_name),
            "description": role.description,
            "permissions": " ".join(sorted(role.permissions)),
            "create_time": role.create_time,
            "update_time": role.update_time,
            "creator": role.creator,
        }
        await self._insert(ROLE, [values])

    async def delete_role(self, role_id: str) -> None:
        """Delete a custom role."""
        if (role := await self.role(role_id)) is not None:
            await self._record([Changed(role, kept=False, before=role)])
        await self._delete(ROLE, ROLE.c.role_id == role_id)

    async def put_binding(self, binding: RoleBinding) -> RoleBinding | None:
        """Store a role binding, in the place of an expired one of the same role, resource and subject.

        Nothing is stored where such a one is there and has not expired: it is returned.
        """
        values = {
            "tenant_id": self.tenant_id,
            "revision": self.at,
            "binding_id": binding.id,
            "role": binding.role,
            "resource": str(binding.resource),
            "subject": str(binding.subject),
            "condition": binding.condition,
            "context": binding.context,
            "expire_time": binding.expire_time,
            "create_time": binding.create_time,
            "creator": binding.creator,
        }
        # Almost always there is none, and the index says so without being asked first.
        if await statements.INSERT_BINDING(self.connection, [values]) == 0:
            there = await self._bound(binding)
            if there.expire_time is None or there.expire_time > self.now:
                return there
            await self._record([Changed(there, kept=False, before=there)])
            await self._delete(ROLE_BINDING, ROLE_BINDING.c.binding_id == there.id)
            await statements.INSERT_BINDING(self.connection, [values])
        await self._record([Changed(binding)])
        return None

    async def _bound(self, binding: RoleBinding) -> RoleBinding:
        columns = ROLE_BINDING.c
        of_role = select(ROLE_BINDING).where(columns.role == binding.role)
        same = of_role.where(columns.resource == str(binding.resource), columns.subject == str(binding.subject))
        return _binding((await self._rows(same, ROLE_BINDING))[0])

    async def delete_binding(self, binding_id: str) -> None:
        """Delete a role binding."""
        if (binding := await self.binding(binding_id)) is not None:
            await self._record([Changed(binding, kept=False, before=binding)])
        await self._delete(ROLE_BINDING, ROLE_BINDING.c.binding_id == binding_id)

    async def put_relationships(
        self, relationships: Sequence[Relationship], stored: Mapping[Relationship, Relationship]
    ) -> None:
        """Store relationships in the place of those with their keys, which are `stored` (`at_keys`)."""
        if relationships:
            await self._record([Changed(each, before=stored.get(each.key)) for each in relationships])
            await self._delete_by_key([each for each in relationships if each.key in stored])
            await self._insert(RELATIONSHIP, [_row(each) for each in relationships])

    async def delete_relationships(
        self, relationships: Sequence[Relationship], stored: Mapping[Relationship, Relationship]
    ) -> None:
        """Delete relationships by their keys, of those that are `stored`."""
        gone = [stored[each.key] for each in relationships if each.key in stored]
        await self._record([Changed(each, kept=False, before=each) for each in gone])
        await self._delete_by_key(gone)

    async def _delete_by_key(self, relationships: Sequence[Relationship]) -> None:
        if relationships:
            keys = [{f"at_{name}": value for name, value in _key(each).items()} for each in relationships]
            await statements.DELETE_BY_KEY(self.connection, [{"tenant": self.tenant_id, **each} for each in keys])

    async def set_mode(self, resource: str, mode: ScopeMode) -> None:
        """Set the scope mode of a resource."""
        place = Resource.parse(resource)
        stored = await self._rows(select(INHERITANCE).where(INHERITANCE.c.resource == resource), INHERITANCE)
        before = ScopeMode(stored[0].mode) if stored else ScopeMode.INHERIT
        await self._record([Changed(Inheritance(place, mode), before=Inheritance(place, before))])
        await self._delete(INHERITANCE, INHERITANCE.c.resource == resource)
        if mode is not ScopeMode.INHERIT:
            await self._insert(INHERITANCE, [{"resource": resource, "mode": mode.value}])

    async def _record(self, changes: Sequence[Changed]) -> None:
        await changelog.append(self.connection, self.tenant_id, self.at, self.now, len(self.changes), changes)
        self.changes.extend(changes)

    async def _delete(self, table: Table, *conditions: ColumnElement[bool]) -> None:
        await self.connection.execute(by_key(delete(table).where(table.c.tenant_id == self.tenant_id, *conditions)))

    async def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        common = {"tenant_id": self.tenant_id, "revision": self.at}
        await statements.INSERT[table](self.connection, [{**common, **row} for row in rows])


def _display_key(display_name: str) -> str:
    return " ".join(display_name.casefold().split())


def _key(relationship: Relationship) -> dict[str, str]:
    return {
        "resource": str(relationship.resource),
        "relation": relationship.relation,
        "subject": str(relationship.subject),
    }


def _row(relationship: Relationship) -> dict[str, Any]:
    held = {"condition": relationship.condition, "context": relationship.context}
    return {**_key(relationship), **held, "expire_time": relationship.expire_time}


def _matching(wanted: Filter) -> list[ColumnElement[bool]]:
    columns = RELATIONSHIP.c
    exact = {columns.resource: wanted.resource, columns.relation: wanted.relation, columns.subject: wanted.subject}
    types = {columns.resource: wanted.resource_type, columns.subject: wanted.subject_type}
    return [
        *(each == value for each, value in exact.items() if value),
        *(each.between(f"{value}:", f"{value};") for each, value in types.items() if value),
    ]


def _role(row: Any) -> Role:
    return Role(
        row.role_id,
        row.display_name,
        frozenset(row.permissions.split()),
        row.description,
        row.create_time,
        row.update_time,
        row.creator,
        row.revision,
    )


def _binding(row: Any) -> RoleBinding:
    return RoleBinding(
        row.binding_id,
        row.role,
        _resource(row.resource),
        _subject(row.subject),
        row.creator,
        row.create_time,
        row.expire_time,
        row.revision,
        row.condition,
        row.context,
    )


def _relationship(row: Any) -> Relationship:
    held = row.expire_time, row.condition, row.context
    return Relationship(_resource(row.resource), row.relation, _subject(row.subject), *held)


def _resource(stored: str) -> Resource:
    kind, _, identifier = stored.partition(":")
    return Resource(kind, identifier)


def _subject(stored: str) -> Subject:
    plain, _, relation = stored.partition("#")
    kind, _, identifier = plain.partition(":")
    return Subject(kind, identifier, relation)
