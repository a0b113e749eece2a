"""The semantics straight from their definition (verdicts.py): every ground question at once, as plain sets.

Nothing here is shared with the engine but the syntax tree and the kinds of facts. It is slow, and meant to be read.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyairtable_mesh.runtime.authorization.facts import Relationship, Verdict
from pyairtable_mesh.runtime.authorization.language.syntax import (
    Computed,
    Direct,
    Exclusion,
    Indirect,
    Intersection,
    Rewrite,
    Schema,
    Union,
)

Key = tuple[str, str]
Evaluate = Callable[[str, Mapping[str, Any]], Verdict]


def kind(reference: str) -> str:
    return reference.partition(":")[0]


@dataclass
class Oracle:
    """Relationships of a schema; `evaluate` answers a condition by its name and values."""

    schema: Schema
    evaluate: Evaluate
    now: float
    context: Mapping[str, Any] = field(default_factory=dict)

    def check(self, relationships: Iterable[Relationship], target: str, relation: str, subject: str) -> Verdict:
        stored = [(each, self.term(each)) for each in relationships]
        world = World(self.schema, stored, subject)
        keys = world.keys(target)
        sure, possible = set[Key](), set(keys)
        while True:
            lower = world.least(keys, possible, optimistic=False)
            upper = world.least(keys, lower, optimistic=True)
            if (lower, upper) == (sure, possible):
                break
            sure, possible = lower, upper
        if (target, relation) in sure:
            return True
        if (target, relation) not in possible:
            return False
        return frozenset(name for _, term in stored if isinstance(term, frozenset) for name in term) or False

    def term(self, each: Relationship) -> Verdict:
        if each.term.expires is not None and self.now >= each.term.expires:
            return False
        if not each.term.condition:
            return True
        return self.evaluate(each.term.condition, {**self.context, **each.term.context})


@dataclass
class World:
    schema: Schema
    stored: Sequence[tuple[Relationship, Verdict]]
    subject: str

    def keys(self, target: str) -> set[Key]:
        named = {target, *(each.object for each, _ in self.stored)}
        named |= {each.subject.partition("#")[0] for each, _ in self.stored}
        named.add(self.subject.partition("#")[0])
        return {
            (name, relation)
            for name in named
            if not name.endswith(":*")
            for relation in self.schema.types[kind(name)].relations
        }

    def least(self, keys: set[Key], against: set[Key], *, optimistic: bool) -> set[Key]:
        found = set[Key]()
        while more := {key for key in keys - found if self.holds(key, found, against, optimistic=optimistic)}:
            found |= more
        return found

    def holds(self, key: Key, positive: set[Key], negative: set[Key], *, optimistic: bool) -> bool:
        target, relation = key
        if self.subject == f"{target}#{relation}":
            return True
        found = self.schema.relation(kind(target), relation)
        return found is not None and self.rewrite(key, found.rewrite, positive, negative, optimistic=optimistic)

    def rewrite(self, key: Key, rewrite: Rewrite, positive: set[Key], negative: set[Key], *, optimistic: bool) -> bool:
        target, relation = key
        match rewrite:
            case Direct():
                return any(
                    self.names(each.subject) or tuple(each.subject.split("#")) in positive
                    for each in self.at(target, relation, optimistic=optimistic)
                )
            case Computed(other):
                return (target, other) in positive
            case Indirect(other, tupleset):
                return any(
                    (each.subject, other) in positive for each in self.at(target, tupleset, optimistic=optimistic)
                )
            case Union(children):
                return any(self.rewrite(key, each, positive, negative, optimistic=optimistic) for each in children)
            case Intersection(children):
                return all(self.rewrite(key, each, positive, negative, optimistic=optimistic) for each in children)
            case Exclusion(base, subtracted):
                return self.rewrite(key, base, positive, negative, optimistic=optimistic) and not self.rewrite(
                    key, subtracted, negative, positive, optimistic=not optimistic
                )

    def names(self, subject: str) -> bool:
        is_object = "#" not in self.subject and not self.subject.endswith(":*")
        return subject == self.subject or (is_object and subject == f"{kind(self.subject)}:*")

    def at(self, target: str, relation: str, *, optimistic: bool) -> list[Relationship]:
        return [
            each
            for each, term in self.stored
            if (each.object, each.relation) == (target, relation)
            and (term is True or (optimistic and term is not False))
        ]
