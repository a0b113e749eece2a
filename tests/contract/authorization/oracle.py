"""The semantics straight from their definition (verdicts.py): every ground question at once, as plain sets.

Nothing here is shared with the engine but the syntax tree and the kinds of facts. It is slow, and meant to be read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        return self.answers(relationships, [target], subject)[target, relation]

    def answers(
        self, relationships: Iterable[Relationship], targets: Iterable[str], subject: str
    ) -> dict[Key, Verdict]:
        """What the subject is to each object that is named anywhere, and to the targets."""
        stored = [(each, self.term(each)) for each in relationships]
        world = World(self.schema, stored, subject)
        keys = world.keys(targets)
        sure, possible = set[Key](), set(keys)
        while True:
            lower = world.least(keys, possible, optimistic=False)
            upper = world.least(keys, lower, optimistic=True)
            if (lower, upper) == (sure, possible):
                break
            sure, possible = lower, upper
        undecided = possible - sure
        return {key: True if key in sure else key in undecided and world.missing(key, undecided) for key in keys}

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

    def keys(self, targets: Iterable[str]) -> set[Key]:
        named = {*targets, *(each.object for each, _ in self.stored)}
        named |= {each.subject.partition("#")[0] for each, _ in self.stored}
        named.add(self.subject.partition("#")[0])
        return {
            (name, relation)
            for name in named
            if not name.endswith(":*")
            for relation in self.schema.types[kind(name)].relations
        }

    def missing(self, key: Key, undecided: set[Key]) -> Verdict:
        """What context the questions lack that an undecided one hangs on; False where it is undecided by itself."""
        reached, new, names = set[Key](), {key}, set[str]()
        while new:
            reached |= new
            terms, asked = zip(*(each for key in new for each in self.mentioned(key)), strict=True)
            names |= {name for term in terms if isinstance(term, frozenset) for name in term}
            new = (set(asked) & undecided) - reached
        return frozenset(names) or False

    def mentioned(self, key: Key) -> Iterator[tuple[Verdict, Key | None]]:
        """The terms that a question looks at, and the questions behind them or alone."""
        found = self.schema.relation(kind(key[0]), key[1])
        yield from [] if found is None else self.within(key, found.rewrite)

    def within(self, key: Key, rewrite: Rewrite) -> Iterator[tuple[Verdict, Key | None]]:
        match rewrite:
            case Direct():
                yield from self.direct(key)
            case Computed(other):
                yield True, (key[0], other)
            case Indirect(other, tupleset):
                yield from ((term, (each.subject, other)) for each, term in self.related(key[0], tupleset))
            case Union(children) | Intersection(children):
                yield from (found for each in children for found in self.within(key, each))
            case Exclusion(base, subtracted):
                yield from self.within(key, base)
                yield from self.within(key, subtracted)

    def direct(self, key: Key) -> Iterator[tuple[Verdict, Key | None]]:
        for each, term in self.related(*key):
            name, is_userset, relation = each.subject.partition("#")
            if self.names(each.subject):
                yield term, None
            elif is_userset:
                yield term, (name, relation)

    def related(self, target: str, relation: str) -> list[tuple[Relationship, Verdict]]:
        return [(each, term) for each, term in self.stored if (each.object, each.relation) == (target, relation)]

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
            each for each, term in self.related(target, relation) if term is True or (optimistic and term is not False)
        ]
