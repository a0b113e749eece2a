"""Short names for ids, and facts without a database: what the tests of this folder speak of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import Relationship, ScopeMode
from pyairtable_mesh.permission.evaluator import Answers, Closure, Grant, Held, NaiveEvaluator

TENANT_ID = "ten" + "0" * 26


def ref(kind: str, number: int | str = 1) -> str:
    """``ref("base", 2)`` is the reference of the second base."""
    if kind == schema.TENANT and number == 1:
        return f"{schema.TENANT}:{TENANT_ID}"
    return f"{kind}:{schema.TYPES[kind].prefix}{str(number).zfill(26)}"


def members(number: int | str = 1) -> str:
    return f"{ref('group', number)}#member"


TENANT, WORKSPACE, BASE, TABLE = ref("tenant"), ref("workspace"), ref("base"), ref("table")
ALICE, BOB, CAROL = ref("user", "a1"), ref("user", "b1"), ref("user", "c1")


@dataclass
class Facts:
    """`evaluator.Reads` from memory: the plainest thing that can be right."""

    parents: dict[str, str] = field(default_factory=dict)
    memberships: set[tuple[str, str]] = field(default_factory=set)
    bound: list[Grant] = field(default_factory=list)
    modes: dict[str, ScopeMode] = field(default_factory=dict)

    def grant(self, subject: str, resource: str, role: str = "", permissions: Collection[str] = ()) -> None:
        held = frozenset(permissions) or schema.SYSTEM_ROLES[role]
        self.bound.append(Grant(f"rbn{len(self.bound)}", role or "rolcustom", resource, subject, held))

    async def closure(self, resources: Collection[str], subjects: Collection[str], limit: int) -> Closure:
        links, reached = dict[str, str](), set(resources)
        while new := {each: self.parents[each] for each in reached if each in self.parents and each not in links}:
            links.update(new)
            reached |= set(new.values())
        found, known = set[tuple[str, str]](), set(subjects)
        while joined := {pair for pair in self.memberships if pair[0] in known} - found:
            found |= joined
            known |= {f"{group}#member" for _, group in joined}
        return Closure(links, sorted(found)[:limit])

    async def held(self, resources: Collection[str], subjects: Collection[str]) -> Held:
        grants = [grant for grant in self.bound if grant.resource in resources and grant.subject in subjects]
        return Held(grants, {each: mode for each, mode in self.modes.items() if each in resources}, 1)

    async def answers(
        self, resources: Collection[str], subjects: Collection[str], contextual: Sequence[Relationship] = ()
    ) -> Answers:
        return await NaiveEvaluator().answers(self, TENANT_ID, resources, subjects, contextual)


def hierarchy() -> dict[str, str]:
    """One workspace, base and table, with a field, a view and a record."""
    leaves: Mapping[str, str] = {ref(kind): TABLE for kind in ("field", "view", "record")}
    return {TABLE: BASE, BASE: WORKSPACE, **leaves}
