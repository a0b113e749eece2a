"""What an engine is told and asked, and what it answers. Times are Unix seconds; references are texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyairtable_mesh.runtime.errors import InvalidArgument, ResourceExhausted

WILDCARD = "*"
Verdict = bool | frozenset[str]
"""True: allowed; False: denied; a set: conditional, on values for these parameters. Never an empty set."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a relationship or binding holds under: a condition with stored values, an expiry, or both."""

    condition: str = ""
    context: Mapping[str, Any] = field(default_factory=dict, hash=False)
    expires: float | None = None

    def __bool__(self) -> bool:
        return bool(self.condition) or self.expires is not None


ALWAYS = Term()


@dataclass(frozen=True, slots=True)
class Relationship:
    """``object#relation@subject``; the subject is ``type:id``, ``type:*`` or ``type:id#relation``."""

    object: str
    relation: str
    subject: str
    term: Term = ALWAYS

    def __str__(self) -> str:
        return f"{self.object}#{self.relation}@{self.subject}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What can be stored only once."""
        return self.object, self.relation, self.subject


@dataclass(frozen=True, slots=True)
class Change:
    """A relationship that is stored (touched: condition and expiry replace the old ones) or removed."""

    relationship: Relationship
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a question is asked under: the time, values for conditions, relationships that count as stored."""

    now: float
    context: Mapping[str, Any] = field(default_factory=dict)
    contextual: Sequence[Relationship] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer: allowed, denied, or (`missing` is not empty) conditional; and the revision that it was made from."""

    allowed: bool
    revision: int
    missing: frozenset[str] = frozenset()

    @classmethod
    def of(cls, verdict: Verdict, revision: int) -> "Decision":
        """The decision that a verdict stands for."""
        if verdict is True or verdict is False:
            return cls(verdict, revision)
        return cls(False, revision, verdict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may cost before it ends with ResourceExhausted EVALUATION_LIMIT."""

    depth: int = 100
    """How many questions may be open within each other."""
    steps: int = 100_000
    """How many relationships and questions may be looked at, about 1,000 to a millisecond; conditions count by time."""
    list_steps: int = 2_000_000
    """How many of these a part of a list may take: where they are spent, the part ends there and can be resumed."""


def exhausted(words: str, path: Sequence[str]) -> ResourceExhausted:
    """The error of a bound, with the first steps of the path that led to it."""
    return ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": " ".join(path[:10])})


def refused(field_name: str, words: str, reason: str) -> InvalidArgument:
    """The error of a reference that the schema does not have."""
    return InvalidArgument.of_field(field_name, words, reason=reason)
