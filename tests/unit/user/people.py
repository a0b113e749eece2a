"""People to test with, and a store in memory that is written as plainly as it can be: the oracle of the real one."""

import operator
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.filters import All, Either, Filter, Not, Restriction
from pyairtable_mesh.user import search
from pyairtable_mesh.user.domain import (
    Group,
    Key,
    Member,
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

EPOCH = datetime(2026, 11, 23, tzinfo=UTC)
TENANT = "ten" + "0" * 26
OTHER_TENANT = "ten" + "1" * 26
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def identifier(prefix: str, number: int) -> str:
    return f"{prefix}{number:026d}"


def person(number: int, display_name: str = "Ada Lovelace", **more: Any) -> User:
    moment = EPOCH + timedelta(minutes=number)
    given = {"email": f"person{number}@example.com", "create_time": moment, "update_time": moment, **more}
    return User(id=identifier("usr", number), display_name=display_name, **given)


def team(number: int, display_name: str = "Engines", **more: Any) -> Group:
    moment = EPOCH + timedelta(minutes=number)
    return Group(identifier("grp", number), display_name, moment, moment, **more)


def caller(tenant_id: str = TENANT, user: str = identifier("usr", 1), method: str = "Change") -> RequestContext:
    return RequestContext(
        method=f"/pyairtable.user.v1.UserService/{method}",
        actor=Actor("user", f"user:{user}"),
        tenant_id=tenant_id,
    )


def sort_value(resource: User | Group, name: str) -> Any:
    return display_key(resource) if name == "display_name" else getattr(resource, name)


def holds(tree: Filter, resource: User | Group) -> bool:
    match tree:
        case All(of=parts):
            return all(holds(part, resource) for part in parts)
        case Either(of=parts):
            return any(holds(part, resource) for part in parts)
        case Not(of=part):
            return not holds(part, resource)
        case Restriction(value=Text() as text):
            return _like(sort_value(resource, tree.field), text) == (tree.operator == "=")
        case Restriction():
            return _COMPARE[tree.operator](sort_value(resource, tree.field), tree.value)


def _like(value: str, text: Text) -> bool:
    match text.before, text.after:
        case True, True:
            return text.value in value
        case True, False:
            return value.endswith(text.value)
        case False, True:
            return value.startswith(text.value)
        case _:
            return value == text.value


def in_order(resources: Sequence[Any], order: Sequence[Order]) -> list[Any]:
    found = sorted(resources, key=lambda each: each.id)
    for each in reversed(order):
        found.sort(key=lambda resource: sort_value(resource, each.field), reverse=each.descending)
    return found


@dataclass
class FakeChange:
    """Works on a copy of the rows; the store takes them over when the block ends."""

    rows: dict[tuple[str, type, str], Any]
    tenant: str
    now: datetime
    announced: list[tuple[str, Stored, Mapping[str, str] | None]] = field(default_factory=list)
    answers: list[Stored | Membership | None] = field(default_factory=list)

    async def find(self, kind: type[StoredT], key: str) -> StoredT | None:
        return self.rows.get((self.tenant, kind, key))

    async def put(self, resource: Stored) -> None:
        key = resource.id if isinstance(resource, User | Group) else resource.user_id
        self.rows[self.tenant, type(resource), key] = resource

    async def remove(self, group: Group) -> None:
        del self.rows[self.tenant, Group, group.id]

    async def email_owner(self, email: str) -> str | None:
        owners = [
            row.id
            for (tenant, kind, _), row in self.rows.items()
            if tenant == self.tenant and kind is User and row.email == email and row.delete_time is None
        ]
        return owners[0] if owners else None

    def announce(self, verb: str, resource: Stored, details: Mapping[str, str] | None = None) -> None:
        self.announced.append((verb, resource, details))

    def answer(self, resource: Stored | Membership | None) -> None:
        self.answers.append(resource)


@dataclass
class FakeStore:
    """Rows by (tenant, kind, key); pages are cut by offset."""

    rows: dict[tuple[str, type, str], Any] = field(default_factory=dict)
    changes: list[FakeChange] = field(default_factory=list)
    now: datetime = EPOCH + timedelta(days=1)

    def add(self, *resources: Stored, tenant: str = TENANT) -> "FakeStore":
        for resource in resources:
            key = resource.id if isinstance(resource, User | Group) else resource.user_id
            self.rows[tenant, type(resource), key] = resource
        return self

    @property
    def announced(self) -> list[str]:
        return [
            f"{type(resource).__name__} {verb}" for change in self.changes for verb, resource, _ in change.announced
        ]

    @asynccontextmanager
    async def change(self, caller: RequestContext) -> AsyncIterator[FakeChange]:
        change = FakeChange(deepcopy(self.rows), caller.tenant_id, self.now)
        yield change
        self.rows = change.rows
        self.changes.append(change)

    async def find(self, caller: RequestContext, kind: type[StoredT], key: str) -> StoredT | None:
        return self.rows.get((caller.tenant_id, kind, key))

    def of(self, caller: RequestContext, kind: type[StoredT]) -> list[StoredT]:
        return [row for (tenant, of, _), row in self.rows.items() if tenant == caller.tenant_id and of is kind]

    async def users(self, caller: RequestContext, ids: Sequence[str]) -> Mapping[str, User]:
        return {user.id: user for user in self.of(caller, User) if user.id in ids}

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
        found = [user for user in self.of(caller, User) if show_deleted or user.delete_time is None]
        return _cut([user for user in in_order(found, order) if holds(where, user)], size, after)

    async def list_groups(
        self, caller: RequestContext, where: Filter, order: Sequence[Order], size: int, after: Key
    ) -> Slice[Group]:
        return _cut([group for group in in_order(self.of(caller, Group), order) if holds(where, group)], size, after)

    async def candidates(self, caller: RequestContext, words: Sequence[str], limit: int) -> Sequence[User]:
        hidden = {settings.user_id for settings in self.of(caller, Settings) if not settings.discoverable}
        findable = [user for user in self.of(caller, User) if user.delete_time is None and user.id not in hidden]
        return [user for _, user in search.ranked(words, findable)][:limit]


def _cut(found: Sequence[Any], size: int, after: Key) -> Slice[Any]:
    begin = int(after[0]) if after else 0
    return Slice(found[begin : begin + size], (begin + size,) if len(found) > begin + size else None)


@dataclass
class FakeMemberships:
    """Members by group; pages are cut by offset."""

    members: dict[str, list[Member]] = field(default_factory=dict)
    failure: Exception | None = None

    async def add(self, group_id: str, member: Member) -> None:
        if member not in self.members.setdefault(group_id, []):
            self.members[group_id].append(member)

    async def remove(self, group_id: str, member: Member) -> None:
        self.members[group_id] = [each for each in self.members.get(group_id, []) if each != member]

    async def clear(self, group_id: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.members.pop(group_id, None)
        for group in self.members:
            await self.remove(group, Member("group", group_id))

    async def page(self, group_id: str, size: int, token: str) -> tuple[Sequence[Member], str]:
        begin, found = int(token or 0), self.members.get(group_id, [])
        return found[begin : begin + size], str(begin + size) if len(found) > begin + size else ""


def kept_for(user: User) -> tuple[Preferences, Settings]:
    return Preferences(user.id, user.create_time), Settings(user.id, user.create_time)
