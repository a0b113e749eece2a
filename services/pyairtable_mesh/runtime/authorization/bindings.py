"""Role bindings by handles, each held once: found by its id, by where it is, and by whom it names."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pyairtable_mesh.runtime.authorization.facts import Term
from pyairtable_mesh.runtime.authorization.graph import Map, add, discard
from pyairtable_mesh.runtime.authorization.names import Names
from pyairtable_mesh.runtime.authorization.roles import Binding


class Bound(NamedTuple):
    """A binding by handles."""

    subject: int
    role: str
    term: Term
    id: str
    resource: int


class Bindings(Mapping[str, Binding]):
    """All bindings by their ids, as they were given; `at` and `places` are for those who hold handles."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._by_id: dict[str, Bound] = {}
        self.at: dict[int, dict[int, tuple[Bound, ...]]] = {}
        """For each resource its bindings by their subject: there may be thousands, and few count for one subject."""
        self.places: Map = {}
        """For each subject the resources where it has bindings."""

    def __getitem__(self, identifier: str) -> Binding:
        bound, texts = self._by_id[identifier], self._names.texts
        return Binding(bound.id, bound.role, texts[bound.resource], texts[bound.subject], bound.term)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def stored(self) -> Iterable[Bound]:
        """All bindings."""
        return self._by_id.values()

    def here(self, resource: int) -> Iterator[Bound]:
        """The bindings at a resource."""
        for found in self.at.get(resource, {}).values():
            yield from found

    def put(self, bound: Bound) -> None:
        """Store a binding; none of its id may be stored."""
        self._by_id[bound.id] = bound
        here = self.at.setdefault(bound.resource, {})
        here[bound.subject] = (*here.get(bound.subject, ()), bound)
        add(self.places, bound.subject, bound.resource)

    def pop(self, identifier: str) -> Bound | None:
        """Remove a binding, if it is stored."""
        bound = self._by_id.pop(identifier, None)
        if bound is None:
            return None
        here = self.at[bound.resource]
        here[bound.subject] = left = tuple(each for each in here[bound.subject] if each is not bound)
        if not left:
            del here[bound.subject]
            discard(self.places, bound.subject, bound.resource)
        if not here:
            del self.at[bound.resource]
        return bound
