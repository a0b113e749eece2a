"""Computing a chain anew, and saying where it breaks first. No I/O: the stored rows come in, findings go out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyairtable_mesh.audit import domain
from pyairtable_mesh.audit.domain import Head, Position, Sealed


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it was found: what is hashed, the hashes beside it, and the columns that lists are filtered by."""

    audit_id: str
    sequence: int
    content: bytes
    previous_hash: bytes
    hash: bytes
    columns: Mapping[str, object]
    expected_columns: Mapping[str, object] | None
    """The columns that the content gives; None when it cannot be read."""
    personal_digest: bytes
    personal: Sealed | None

    @property
    def erased(self) -> bool:
        """Whether there was personal data once."""
        return bool(self.personal_digest) and self.personal is None


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain breaks first, and how, in a sentence."""

    sequence: int
    reason: str


@dataclass(slots=True)
class Verifier:
    """Walks along a chain from `head`; `broken` is the first break."""

    head: Head
    verified: int = 0
    erased: int = 0
    last: Position | None = None
    broken: Break | None = None

    def walk(self, rows: Iterable[Stored]) -> None:
        """Go on with the next rows; after a break nothing more is looked at."""
        for row in rows:
            if self.broken is not None:
                return
            reason = self._fault(row)
            if reason:
                self.broken = Break(min(row.sequence, self.head.sequence + 1), reason)
                return
            self.head = Head(row.sequence, row.hash)
            self.last = Position(row.audit_id, row.sequence, row.hash)
            self.verified += 1
            self.erased += row.erased

    def end(self, sequence: int) -> None:
        """The chain was said to go on to `sequence`."""
        if self.broken is None and self.head.sequence < sequence:
            self.broken = Break(self.head.sequence + 1, "the event is missing: the chain was longer than this")

    def _fault(self, row: Stored) -> str:
        checks = (
            (row.sequence != self.head.sequence + 1, "the event is missing"),
            (row.previous_hash != self.head.hash, "the event does not follow the one before it"),
            (domain.chain_hash(row.previous_hash, row.content) != row.hash, "the event is not what was written"),
            (row.columns != row.expected_columns, "what the event is found by is not what was written"),
            (
                row.personal is not None and row.personal.digest() != row.personal_digest,
                "the personal data is not what was written",
            ),
        )
        return next((reason for failed, reason in checks if failed), "")
