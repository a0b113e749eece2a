"""The relationships of one space in memory: per slot two maps of integers, one in each direction.

A value is one handle, or a roaring bitmap of them from the second on; most objects have one parent. Relationships
with a condition or an expiry are in the maps like all others, and their terms beside them.
"""

from collections.abc import Iterable, Iterator

from pyroaring import BitMap

from pyairtable_mesh.runtime.authorization.facts import Change, Relationship, Term, refused
from pyairtable_mesh.runtime.authorization.names import Names, Slots

Targets = int | BitMap
Map = dict[int, Targets]
_NOTHING = BitMap()


def add(table: Map, key: int, value: int) -> None:
    """Put a value into a map."""
    found = table.get(key)
    if found is None:
        table[key] = value
    elif isinstance(found, int):
        if found != value:
            table[key] = BitMap((found, value))
    else:
        found.add(value)


def discard(table: Map, key: int, value: int) -> None:
    """Take a value out of a map, where it is there."""
    found = table.get(key)
    if isinstance(found, int):
        if found == value:
            del table[key]
    elif found is not None:
        found.discard(value)
        if len(found) == 1:
            table[key] = found[0]


def every(targets: Targets | None) -> Iterable[int]:
    """The handles of a value."""
    return () if targets is None else (targets,) if isinstance(targets, int) else targets


def bitmap(targets: Targets | None) -> BitMap:
    """The handles of a value as a bitmap, which must not be changed."""
    return _NOTHING if targets is None else BitMap((targets,)) if isinstance(targets, int) else targets


class Edges:
    """The relationships of one slot: objects to plain subjects and to usersets, subjects to objects."""

    __slots__ = ("objects", "sets", "subjects", "terms")

    def __init__(self) -> None:
        self.subjects: Map = {}
        self.sets: Map = {}
        self.objects: Map = {}
        self.terms: dict[tuple[int, int], Term] = {}


class Graph:
    """Relationships by handles. Changes are validated as a whole before the first one is applied."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.names = Names(slots)
        self.edges = [Edges() for _ in range(len(slots))]
        self.count = 0

    def validate(self, relationship: Relationship, field: str = "relationship") -> None:
        """InvalidArgument on a part of `field` for what the schema does not admit."""
        mark = len(self.names)
        try:
            self.resolve(relationship, field)
        finally:
            self.names.rollback(mark)

    def resolve(self, relationship: Relationship, field: str = "relationship") -> tuple[int, int, int]:
        """(slot, object, subject) of a relationship that the schema admits; InvalidArgument else."""
        names = self.names
        target = names.object(relationship.object, f"{field}.resource")
        slot = self.slots.of(names.types[target], relationship.relation, f"{field}.relation")
        subject = names.subject(relationship.subject, f"{field}.subject")
        kind, condition = names.kind(subject), relationship.term.condition
        if (kind, condition) not in self.slots.admitted[slot]:
            self._refuse(slot, kind, condition, field)
        return slot, target, subject

    def _refuse(self, slot: int, kind: str, condition: str, field: str) -> None:
        if condition and condition not in self.slots.schema.conditions:
            raise refused(f"{field}.condition", f"there is no condition {condition!r}", "UNKNOWN_CONDITION")
        admits = ", ".join(map(str, self.slots.relations[slot].admitted)) or "no relationships: it is computed"
        given = f"{kind} with {condition}" if condition else kind
        words = f"{self.slots.name(slot)} does not admit {given}; it admits {admits}"
        raise refused(f"{field}.subject", words, "SUBJECT_NOT_ADMITTED")

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes that `validate` has passed; a removal of what is not there does nothing."""
        for change in changes:
            each = change.relationship
            if change.removed:
                if (found := self.find(each)) is not None:
                    self.remove(*found)
            else:
                self.put(*self.resolve(each), each.term)

    def put(self, slot: int, target: int, subject: int, term: Term) -> None:
        """Store one relationship, or replace its term."""
        edges = self.edges[slot]
        self.count += not self.holds(slot, target, subject)
        add(edges.sets if subject in self.names.usersets else edges.subjects, target, subject)
        add(edges.objects, subject, target)
        if term:
            edges.terms[target, subject] = term
        else:
            edges.terms.pop((target, subject), None)

    def find(self, relationship: Relationship) -> tuple[int, int, int] | None:
        """(slot, object, subject) of a relationship that is stored; None else."""
        handles = self.names.handles
        target, subject = handles.get(relationship.object), handles.get(relationship.subject)
        if target is None or subject is None:
            return None
        slot = self.slots.by_type[self.names.types[target]].get(relationship.relation)
        return None if slot is None or not self.holds(slot, target, subject) else (slot, target, subject)

    def remove(self, slot: int, target: int, subject: int) -> None:
        """Remove one relationship that is stored, whatever its term."""
        edges = self.edges[slot]
        self.count -= 1
        discard(edges.sets if subject in self.names.usersets else edges.subjects, target, subject)
        discard(edges.objects, subject, target)
        edges.terms.pop((target, subject), None)

    def holds(self, slot: int, target: int, subject: int) -> bool:
        """Whether the relationship is stored."""
        edges = self.edges[slot]
        found = (edges.sets if subject in self.names.usersets else edges.subjects).get(target)
        return found == subject if isinstance(found, int) else found is not None and subject in found

    def relationships(self) -> Iterator[Relationship]:
        """All that is stored, slot by slot."""
        texts = self.names.texts
        for slot, edges in enumerate(self.edges):
            relation = self.slots.relations[slot].name
            for table in (edges.subjects, edges.sets):
                for target, subjects in table.items():
                    for subject in every(subjects):
                        term = edges.terms.get((target, subject), Term())
                        yield Relationship(texts[target], relation, texts[subject], term)
