"""The product's space in memory: one tenant's engine, loaded from its rows."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime

from pyairtable_mesh.permission import changelog, schema
from pyairtable_mesh.permission.domain import Changed, Fact, Inheritance, Relationship, Role, RoleBinding
from pyairtable_mesh.permission.held import MOST_FACTS, require_room
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.runtime.authorization import (
    Binding,
    BindingChange,
    Change,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopedEngine,
    ScopedLookup,
    ScopeMode,
    Term,
    facts,
    product,
)
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.moments import utc_now


class State:
    """A tenant's engine, at the revision that the engine says, and its lists."""

    __slots__ = ("engine", "lookup", "made")

    def __init__(self, engine: ScopedEngine) -> None:
        self.made: datetime | None = None
        self.engine = engine
        self.lookup = ScopedLookup(engine)

    @property
    def revision(self) -> int:
        """The revision that it is at."""
        return self.engine.revision

    @property
    def weight(self) -> int:
        """How many facts and names it holds."""
        graph = self.engine.graph
        return len(graph.names) + graph.count + len(self.engine.bindings)

    def apply(self, revision: int, changes: Sequence[Changed], made: datetime | None = None) -> None:
        """Take over the changes that lead to a revision, and when it was made."""
        if revision != self.revision:
            self.made = made
        self.engine.apply(revision, map(as_change, changes))


class Loader:
    """Loads tenants' engines; a scope is the tenant's id."""

    def __init__(self, database: Database, most_facts: int = MOST_FACTS) -> None:
        self._database = database
        self._most_facts = most_facts

    async def load(self, tenant_id: str, wanted: Callable[[Fact], bool] | None = None) -> State:
        """A new engine from the tenant's rows, or those that are wanted; ResourceExhausted for too many."""
        engine = ScopedEngine(product.policy(), f"{schema.TENANT}:{tenant_id}")
        state = State(engine)
        engine.apply(0, [RoleChange(role, permissions) for role, permissions in schema.SYSTEM_ROLES.items()])
        async with self._database.read(background(tenant_id)) as connection:
            at = await changelog.point(connection, tenant_id)
            revision, state.made = at.revision, at.made
            async for part in View(connection, tenant_id, utc_now()).everything():
                engine.apply(revision, (as_change(Changed(each)) for each in part if wanted is None or wanted(each)))
                require_room(state.weight, self._most_facts)
                await asyncio.sleep(0)
        return state


def as_change(changed: Changed) -> ScopedChange:
    """A change as the engine takes it."""
    match changed.what:
        case Relationship():
            return Change(as_relationship(changed.what), removed=not changed.kept)
        case RoleBinding() as each:
            binding = Binding(each.id, each.role, str(each.resource), str(each.subject), _term(each))
            return BindingChange(binding, removed=not changed.kept)
        case Role():
            return RoleChange(changed.what.id, changed.what.permissions if changed.kept else None)
        case Inheritance():
            return ModeChange(str(changed.what.resource), ScopeMode(changed.what.mode.value))
        case _:
            raise ValueError(f"{type(changed.what).__name__} is not of the product's space")


def as_relationship(each: Relationship) -> facts.Relationship:
    """A relationship as the engine takes it."""
    return facts.Relationship(str(each.resource), each.relation, str(each.subject), _term(each))


def require_context(each: Relationship | RoleBinding, field: str) -> None:
    """InvalidArgument on a part of `field` for values that a known condition has no use for, or of another type."""
    if each.condition:
        product.conditions().validate(_term(each), field)


def _term(each: Relationship | RoleBinding) -> Term:
    if not each.condition and each.expire_time is None:
        return facts.ALWAYS
    expires = each.expire_time.timestamp() if each.expire_time else None
    return Term(each.condition, json.loads(each.context) if each.context else {}, expires)
