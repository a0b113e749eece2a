"""The audit log of a tenant: a chain of entries, each hashed together with the hash of the one before.

What is hashed is an entry's content in canonical JSON (RFC 8785), so that anybody can compute the chain anew from
what ListAuditEvents answers: ``hash = SHA-256(previous_hash + content)``, 32 zero bytes before the first. Personal
data is not part of it; a SHA-256 over a random salt and that data is. Erasing both leaves the chain whole, and the
digest then tells nothing, because the salt is gone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

GENESIS = bytes(32)
"""The hash before the first entry."""


class Outcome(StrEnum):
    """How an act ended."""

    SUCCEEDED = "SUCCEEDED"
    DENIED = "DENIED"
    FAILED = "FAILED"


class Answer(StrEnum):
    """The answer to a question about a permission."""

    UNSPECIFIED = ""
    ALLOWED = "ALLOWED"
    DENIED = "DENIED"
    CONDITIONAL = "CONDITIONAL"


@dataclass(frozen=True, slots=True)
class Decision:
    """The authorization decision that an act rests on, or is."""

    subject: str
    resource: str
    permission: str
    answer: Answer
    grant: str
    revision: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One act, or one refusal to let it happen. `event_id` is its writer's: an entry is written once."""

    event_id: str
    tenant_id: str
    event_time: datetime
    subject: str
    workload: str
    action: str
    resource: str
    outcome: Outcome
    decision: Decision | None = None
    correlation_id: str = ""
    trace_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PersonalData:
    """What could identify a person in an entry."""

    display_name: str = ""
    email: str = ""
    ip_address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a writer wants in the log."""

    entry: Entry
    personal: PersonalData | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Personal data in canonical JSON, and the salt of its digest; erased together."""

    salt: bytes
    data: bytes

    def digest(self) -> bytes:
        """What the chain holds of it: SHA-256 over 32 bytes of salt and the data."""
        return hashlib.sha256(self.salt + self.data).digest()

    def opened(self) -> PersonalData:
        """What was sealed; ValueError for bytes that nobody sealed."""
        try:
            return PersonalData(**json.loads(self.data))
        except TypeError as error:
            raise ValueError("these bytes are not personal data") from error


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a tenant's chain: the entry's id, its number from 1, its hash."""

    audit_id: str
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """An entry in its place in the chain. `personal` is None when there was none, or when it was erased."""

    audit_id: str
    sequence: int
    entry: Entry
    personal_digest: bytes
    previous_hash: bytes
    hash: bytes
    personal: Sealed | None = None

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.audit_id, self.sequence, self.hash)

    @property
    def erased(self) -> bool:
        """Whether there was personal data once."""
        return bool(self.personal_digest) and self.personal is None


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain; an empty chain has the number 0."""

    sequence: int = 0
    hash: bytes = GENESIS


def canonical(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON (RFC 8785) of texts, booleans and small integers under ASCII keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def content(audit_id: str, sequence: int, entry: Entry, personal_digest: bytes) -> bytes:
    """What is hashed, and stored: everything but the personal data and the hashes."""
    return canonical(
        {
            **_fields(entry),
            "decision": entry.decision and _fields(entry.decision),
            "details": dict(entry.details),
            "audit_id": audit_id,
            "sequence": sequence,
            "event_time": entry.event_time.astimezone(UTC).isoformat(timespec="microseconds"),
            "personal_data_digest": personal_digest.hex(),
        }
    )


def _fields(value: Entry | Decision) -> dict[str, Any]:
    """As `dataclasses.asdict`, which copies all values, too, and takes ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def from_content(stored: bytes) -> tuple[str, int, Entry, bytes]:
    """The arguments of `content` again; ValueError for bytes that it never made."""
    try:
        values = json.loads(stored)
        audit_id, sequence = values.pop("audit_id"), values.pop("sequence")
        personal_digest = bytes.fromhex(values.pop("personal_data_digest"))
        decision = values.pop("decision")
        entry = Entry(
            **{
                **values,
                "event_time": datetime.fromisoformat(values["event_time"]),
                "outcome": Outcome(values["outcome"]),
                "decision": decision and Decision(**{**decision, "answer": Answer(decision["answer"])}),
            }
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("these bytes are not an entry") from error
    return audit_id, sequence, entry, personal_digest


def chain_hash(previous: bytes, stored: bytes) -> bytes:
    """The hash of an entry, from the hash of the one before and its content."""
    return hashlib.sha256(previous + stored).digest()


def append(head: Head, draft: Draft, audit_id: str, salt: bytes) -> Link:
    """The link that puts `draft` behind `head`; `salt` are 32 random bytes."""
    personal = draft.personal or PersonalData()
    sealed = Sealed(salt, canonical(asdict(personal))) if personal != PersonalData() else None
    digest = sealed.digest() if sealed else b""
    sequence = head.sequence + 1
    stored = content(audit_id, sequence, draft.entry, digest)
    return Link(audit_id, sequence, draft.entry, digest, head.hash, chain_hash(head.hash, stored), sealed)
