"""Users and groups in SQLite or PostgreSQL. Every statement is bound to the caller's tenant."""

import operator
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.runtime.columns import by_key
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, Transaction
from pyairtable_mesh.runtime.filters import All, Either, Filter, Not, Operator, Restriction
from pyairtable_mesh.user import messages, search
from pyairtable_mesh.user.domain import (
    Group,
    Key,
    Membership,
    Preferences,
    Settings,
    Slice,
    Stored,
    StoredT,
    User,
    display_key,
)
from pyairtable_mesh.user.filters import Order, Text
from pyairtable_mesh.user.tables import GROUPS, PREFERENCES, SETTINGS, TERMS, USERS

_TABLES: Mapping[type[Stored], Table] = {
    User: USERS,
    Preferences: PREFERENCES,
    Settings: SETTINGS,
    Group: GROUPS,
}
_OPERATORS: Mapping[Operator, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_CHARACTER = "\U0010ffff"


class StoredChange:
    """One transaction (`usecases.changes.Change`)."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._connection = transaction.connection
        self._tenant = transaction.caller.tenant_id

    @property
    def now(self) -> datetime:
        """The moment of the change."""
        return self._transaction.now

    async def find(self, kind: type[StoredT], key: str) -> StoredT | None:
        """The stored value of a kind, by its user's or its own id."""
        return await _find(self._connection, self._tenant, kind, key)

    async def put(self, resource: Stored) -> None:
        """Store a value, new or instead of the one before; keep what users are found by in step."""
        table = _TABLES[type(resource)]
        values = _values(resource)
        same_row = _row_of(table, self._tenant, _key(resource))
        replaced = await self._connection.execute(by_key(update(table).where(same_row).values(values)))
        if replaced.rowcount == 0:
            await self._connection.execute(by_key(insert(table).values(tenant_id=self._tenant, **values)))
        match resource:
            case User():
                settings = await self.find(Settings, resource.id)
                await self._index(resource, discoverable=settings is None or settings.discoverable)
            case Settings():
                user = await self.find(User, resource.user_id)
                if user is not None:
                    await self._index(user, discoverable=resource.discoverable)

    async def remove(self, group: Group) -> None:
        """Forget a group."""
        await self._connection.execute(by_key(delete(GROUPS).where(_row_of(GROUPS, self._tenant, group.id))))

    async def email_owner(self, email: str) -> str | None:
        """The id of the user, not deleted, who has this address."""
        named = and_(USERS.c.tenant_id == self._tenant, USERS.c.email == email, USERS.c.delete_time.is_(None))
        return (await self._connection.execute(by_key(select(USERS.c.id).where(named)))).scalar_one_or_none()

    def announce(self, verb: str, resource: Stored, details: Mapping[str, str] | None = None) -> None:
        """An event ``user.group.created`` with the resource, and an audit event with `details`."""
        kind = type(resource).__name__.lower()
        owner = "group" if isinstance(resource, Group) else "user"
        self._transaction.publish(f"user.{kind}.{verb}", resource.name, messages.from_stored(resource))
        self._transaction.audit(f"{owner}:{_key(resource)}", details=details)

    def answer(self, resource: Stored | Membership | None) -> None:
        """Keep the answer for repetitions of this request; None stands for the empty message."""
        answer = b"" if resource is None else messages.from_stored(resource).SerializeToString()
        self._transaction.remember(answer)

    async def _index(self, user: User, *, discoverable: bool) -> None:
        wanted = search.index_keys(user) if discoverable and user.delete_time is None else {}
        own = and_(TERMS.c.tenant_id == self._tenant, TERMS.c.user_id == user.id)
        stored = (await self._connection.execute(select(TERMS.c.term, TERMS.c.edits).where(own))).all()
        if {row.term: row.edits for row in stored} == wanted:
            return
        await self._connection.execute(delete(TERMS).where(own))
        if wanted:
            same = {"tenant_id": self._tenant, "user_id": user.id}
            rows = [{**same, "term": term, "edits": edits} for term, edits in wanted.items()]
            await self._connection.execute(insert(TERMS), rows)


class DatabaseStore:
    """`usecases.changes.Store` on the runtime's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def change(self, caller: RequestContext) -> AsyncIterator[StoredChange]:
        """Begin a transaction; those of one tenant are serial."""
        async with self._database.transaction(caller) as transaction:
            yield StoredChange(transaction)

    async def find(self, caller: RequestContext, kind: type[StoredT], key: str) -> StoredT | None:
        """As `StoredChange.find`, outside of a change."""
        async with self._database.read(caller) as connection:
            return await _find(connection, caller.tenant_id, kind, key)

    async def users(self, caller: RequestContext, ids: Sequence[str]) -> Mapping[str, User]:
        """Those of the users that there are, by id, deleted ones too."""
        wanted = select(USERS).where(USERS.c.tenant_id == caller.tenant_id, USERS.c.id.in_(ids))
        async with self._database.read(caller) as connection:
            return {row.id: _value(User, row) for row in await connection.execute(wanted)}

    async def list_users(
        self,
        caller: RequestContext,
        where: Filter,
        order: Sequence[Order],
        size: int,
        after: Key,
        *,
        show_deleted: bool,
    ) -> Slice[User]:
        """Up to `size` users behind the sort key `after`."""
        statement = select(USERS).where(USERS.c.tenant_id == caller.tenant_id, _condition(USERS, where))
        if not show_deleted:
            statement = statement.where(USERS.c.delete_time.is_(None))
        return await self._slice(caller, statement, User, order, size, after)

    async def list_groups(
        self, caller: RequestContext, where: Filter, order: Sequence[Order], size: int, after: Key
    ) -> Slice[Group]:
        """Up to `size` groups behind the sort key `after`."""
        statement = select(GROUPS).where(GROUPS.c.tenant_id == caller.tenant_id, _condition(GROUPS, where))
        return await self._slice(caller, statement, Group, order, size, after)

    async def _slice(
        self,
        caller: RequestContext,
        statement: Select[Any],
        kind: type[StoredT],
        order: Sequence[Order],
        size: int,
        after: Key,
    ) -> Slice[StoredT]:
        table = _TABLES[kind]
        columns = [(_column(table, each.field), each.descending) for each in (*order, Order("id"))]
        sorting = [column.desc() if descending else column.asc() for column, descending in columns]
        if after:
            statement = statement.where(_behind(columns, after))
        async with self._database.read(caller) as connection:
            rows = (await connection.execute(statement.order_by(*sorting).limit(size + 1))).all()
        items = [_value(kind, row) for row in rows[:size]]
        last = tuple(_portable(rows[size - 1]._mapping[column]) for column, _ in columns) if len(rows) > size else None
        return Slice(items, last)

    async def candidates(self, caller: RequestContext, words: Sequence[str], limit: int) -> Sequence[User]:
        """Users whose index keys begin with every word, or with a form of it with one letter left out."""
        matches = [_matches(caller.tenant_id, word).subquery(f"word{at}") for at, word in enumerate(words)]
        statement = select(USERS).where(USERS.c.tenant_id == caller.tenant_id)
        cost: ColumnElement[int] = literal(0)
        for found in matches:
            statement = statement.join(found, found.c.user_id == USERS.c.id)
            cost = cost + found.c.cost
        statement = statement.order_by(cost, USERS.c.display_key, USERS.c.id).limit(limit)
        async with self._database.read(caller) as connection:
            return [_value(User, row) for row in await connection.execute(statement)]


async def _find(connection: AsyncConnection, tenant: str, kind: type[StoredT], key: str) -> StoredT | None:
    table = _TABLES[kind]
    row = (await connection.execute(by_key(select(table).where(_row_of(table, tenant, key))))).one_or_none()
    return None if row is None else _value(kind, row)


def _row_of(table: Table, tenant: str, key: str) -> ColumnElement[bool]:
    tenant_id, identifier = table.primary_key.columns
    return and_(tenant_id == tenant, identifier == key)


def _key(resource: Stored) -> str:
    return resource.id if isinstance(resource, User | Group) else resource.user_id


def _value(kind: type[StoredT], row: Row[Any]) -> StoredT:
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def _values(resource: Stored) -> dict[str, Any]:
    values = {field.name: getattr(resource, field.name) for field in fields(resource)}
    return values | {"display_key": display_key(resource)} if isinstance(resource, User | Group) else values


def _column(table: Table, field: str) -> ColumnElement[Any]:
    return table.c["display_key" if field == "display_name" else field]


def _condition(table: Table, tree: Filter) -> ColumnElement[bool]:
    match tree:
        case Restriction():
            return _comparison(_column(table, tree.field), tree)
        case Not():
            return not_(_condition(table, tree.of))
        case All():
            return and_(true(), *(_condition(table, part) for part in tree.of))
        case Either():
            return or_(*(_condition(table, part) for part in tree.of))


def _comparison(column: ColumnElement[Any], restriction: Restriction) -> ColumnElement[bool]:
    if isinstance(restriction.value, Text):
        alike = _likeness(column, restriction.value)
        return alike if restriction.operator == "=" else not_(alike)
    return _OPERATORS[restriction.operator](column, restriction.value)


def _likeness(column: ColumnElement[str], text: Text) -> ColumnElement[bool]:
    """Equality with what may stand before and after; LIKE would fold ASCII on SQLite, and on PostgreSQL not."""
    value, length = text.value, len(text.value)
    if not value and (text.before or text.after):
        return true()
    match text.before, text.after:
        case True, True:
            return func.replace(column, value, "") != column
        case True, False:
            return and_(func.length(column) >= length, func.substr(column, func.length(column) - length + 1) == value)
        case False, True:
            return func.substr(column, 1, length) == value
        case _:
            return column == value


def _behind(columns: Sequence[tuple[ColumnElement[Any], bool]], after: Key) -> ColumnElement[bool]:
    """The rows behind a sort key, where each column may run its own way."""
    behind: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(columns, after, strict=True):
        bound = _EPOCH + timedelta(microseconds=value) if isinstance(value, int) else value
        behind.append(and_(*same, column < bound if descending else column > bound))
        same.append(column == bound)
    return or_(*behind)


def _portable(value: str | datetime) -> str | int:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def _matches(tenant: str, word: str) -> Select[tuple[str, int]]:
    """Who may match a word, and the cost that `search.match` gives it, or less.

    One range scan for each form of the word: of ranges joined by OR, SQLite would read the whole tenant.
    """
    whole = case((TERMS.c.edits == 1, search.FORGIVEN), (TERMS.c.term == word, search.EXACT), else_=search.PREFIX)
    reach = TERMS.c.edits <= int(search.forgiving(word))
    scans = [_scan(tenant, word, whole).where(reach)]
    scans += [_scan(tenant, form, literal(search.FORGIVEN)) for form in sorted(search.deletes(word))]
    found = union_all(*scans).subquery()
    return select(found.c.user_id, func.min(found.c.cost).label("cost")).group_by(found.c.user_id)


def _scan(tenant: str, form: str, cost: ColumnElement[int]) -> Select[tuple[str, int]]:
    begins = and_(TERMS.c.term >= form, TERMS.c.term < form + _LAST_CHARACTER)
    return select(TERMS.c.user_id, cost.label("cost")).where(TERMS.c.tenant_id == tenant, begins)
