"""A tenant's hierarchy with role bindings, as the permission service and OpenFGA have it, and questions about it."""

import random
from dataclasses import dataclass
from typing import Any

from bench import fga
from pyairtable_laptop import people
from pyairtable_mesh.runtime import authorization as az
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.authorization import product

ROLES = ("owner", "creator", "editor", "commenter", "viewer")
ABOVE = {"workspace": "", "base": "workspace", "table": "base", "record": "table"}
PREFIXES = {"user": "usr", "group": "grp", "workspace": "wsp", "base": "app", "table": "tbl", "record": "rec"}
RELATIONS = {"read": "viewer", "update": "editor"}
TENANT = f"tenant:{people.TENANT}"
Question = tuple[str, str, str]
"""(resource, verb, subject)."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many there are, of bases and below in each of what they are in; how many rounds of how many seconds."""

    workspaces: int = 2
    bases: int = 4
    tables: int = 5
    records: int = 20
    users: int = 100
    groups: int = 10
    bindings: int = 300
    questions: int = 200
    seconds: float = 2.0
    rounds: int = 6


SIZES = (Size(), Size(records=1_000))
QUICK = Size(1, 2, 2, 3, 10, 2, 24, 20, 0.05, 1)


class Data:
    """A tenant's hierarchy, groups and role bindings, the same each time but for ids, and questions about them."""

    def __init__(self, size: Size) -> None:
        chance = random.Random(9)
        self.users, groups = _new("user", size.users), _new("group", size.groups)
        resources = {"workspace": _new("workspace", size.workspaces)}
        self.links: list[az.Relationship] = []
        for kind, count in (("base", size.bases), ("table", size.tables), ("record", size.records)):
            for above in resources[ABOVE[kind]]:
                children = _new(kind, count)
                resources.setdefault(kind, []).extend(children)
                self.links += [az.Relationship(child, ABOVE[kind], above) for child in children]
        self.members = [
            az.Relationship(group, "member", user) for user in self.users for group in chance.sample(groups, 2)
        ]
        bound: dict[tuple[str, str], str] = {}
        for number in range(size.bindings):
            at = chance.choice(resources[list(ABOVE)[number % 4]])
            who = f"{chance.choice(groups)}#member" if number % 5 == 0 else chance.choice(self.users)
            bound[at, who] = chance.choice(ROLES[1:])
        self.bindings = [az.Binding(f"{at} {who}", role, at, who) for (at, who), role in bound.items()]
        self.questions: list[Question] = [
            (chance.choice(resources["record"]), chance.choice(list(RELATIONS)), chance.choice(self.users))
            for _ in range(size.questions)
        ]
        self.hops = [(at, "viewer", who) for at, who in bound if at.startswith("table:") and who in self.users]
        self.single: list[Question] = [(at, "read", who) for at, _, who in chance.choices(self.hops, k=size.questions)]

    def tuples(self) -> list[fga.Tuple]:
        """All of it as relationships."""
        return [
            *((each.object, each.relation, each.subject) for each in (*self.links, *self.members)),
            *((each.resource, each.role, each.subject) for each in self.bindings),
        ]

    def engine(self) -> az.ScopedEngine:
        """All of it in an engine."""
        engine = az.ScopedEngine(product.policy(), TENANT)
        engine.apply(1, [az.RoleChange(role, each) for role, each in product.system_roles().items()])
        engine.apply(2, [*map(az.Change, (*self.links, *self.members)), *map(az.BindingChange, self.bindings)])
        return engine


def _new(kind: str, count: int) -> list[str]:
    return [f"{kind}:{ids.new_id(PREFIXES[kind])}" for _ in range(count)]


def hierarchy() -> list[dict[str, Any]]:
    """The hierarchy in OpenFGA's JSON form: a role is bound, or comes with the one above it, or from the parent."""
    types = [{"type": "user"}, _type("group", {"member": {"this": {}}}, {"member": ["user", "group#member"]})]
    for kind, parent in ABOVE.items():
        link: dict[str, Any] = {parent: {"this": {}}} if parent else {}
        roles = {role: _role(number, parent) for number, role in enumerate(ROLES)}
        admitted = {parent: [parent]} if parent else {}
        types.append(_type(kind, {**link, **roles}, admitted | {role: ["user", "group#member"] for role in ROLES}))
    return types


def single_hop() -> list[dict[str, Any]]:
    """A model of one relation."""
    return [{"type": "user"}, _type("table", {"viewer": {"this": {}}}, {"viewer": ["user"]})]


def _role(number: int, parent: str) -> dict[str, Any]:
    ways: list[dict[str, Any]] = [{"this": {}}]
    if number:
        ways.append({"computedUserset": {"relation": ROLES[number - 1]}})
    if parent:
        above = {"tupleset": {"relation": parent}, "computedUserset": {"relation": ROLES[number]}}
        ways.append({"tupleToUserset": above})
    return {"union": {"child": ways}} if len(ways) > 1 else ways[0]


def _type(kind: str, relations: dict[str, Any], admitted: dict[str, list[str]]) -> dict[str, Any]:
    directly = {
        name: {"directly_related_user_types": [_subject_type(each) for each in found]}
        for name, found in admitted.items()
    }
    return {"type": kind, "relations": relations, "metadata": {"relations": directly}}


def _subject_type(text: str) -> dict[str, str]:
    kind, _, relation = text.partition("#")
    return {"type": kind, "relation": relation} if relation else {"type": kind}
