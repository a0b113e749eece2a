"""The tree of subjects behind a permission of the product: bindings, and how scope modes combine them."""

from pyairtable_mesh.runtime.authorization.bindings import Bound
from pyairtable_mesh.runtime.authorization.explanation import Node
from pyairtable_mesh.runtime.authorization.facts import Circumstances
from pyairtable_mesh.runtime.authorization.identities import View
from pyairtable_mesh.runtime.authorization.roles import OWNER, ScopeMode
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine


def expand_scoped(engine: ScopedEngine, resource: str, verb: str, now: float, depth: int = 10) -> Node:
    """The tree behind a verb of a resource; what lies more than `depth` levels up is truncated. Subjects of a leaf are
    those that roles with the permission are bound to there: groups stand as their members' usersets.
    """
    with engine.view(Circumstances(now)) as view:
        target = engine.graph.names.object(resource, "resource")
        return _Tree(engine, view, engine.verb(target, verb)).node(target, depth)


class _Tree:
    def __init__(self, engine: ScopedEngine, view: View, permission: int) -> None:
        self._engine = engine
        self._view = view
        self._permission = permission
        self._name = engine.policy.names(permission)[0]

    def node(self, resource: int, depth: int) -> Node:
        name = f"{self._engine.graph.names.texts[resource]}#{self._name}"
        if depth == 0:
            return Node("leaf", name, truncated=True)
        bound = list(self._engine.bindings.here(resource))
        own = self._leaf(name, [each for each in bound if self._gives(each)])
        parent = self._engine.parent(resource)
        if parent is None:
            return own
        above = self.node(parent, depth - 1)
        mode = self._engine.modes.get(resource, ScopeMode.INHERIT)
        if mode is ScopeMode.INHERIT:
            return Node("union", name, children=(own, above))
        if mode is ScopeMode.RESTRICT:
            reduced = Node("intersection", name, children=(own, above))
        else:
            others = Node("exclusion", name, children=(above, self._leaf(name, bound)))
            reduced = Node("union", name, children=(own, others))
        owners = [each for place in self._engine.chain(resource) for each in self._engine.bindings.here(place)]
        return Node("union", name, children=(reduced, self._leaf(name, [each for each in owners if self._owns(each)])))

    def _gives(self, bound: Bound) -> bool:
        return self._engine.roles.get(bound.role, 0) & self._permission != 0

    def _owns(self, bound: Bound) -> bool:
        return bound.role == OWNER and self._gives(bound)

    def _leaf(self, name: str, bound: list[Bound]) -> Node:
        term, texts = self._engine.identities.term, self._engine.graph.names.texts
        held = {
            texts[each.subject] for each in bound if term(each.term, self._view.now, self._view.context) is not False
        }
        return Node("leaf", name, tuple(sorted(held)))
