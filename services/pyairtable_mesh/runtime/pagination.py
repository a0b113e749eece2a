"""Pages (AIP-158) and the tokens that a client carries for us and must not be able to write.

A token is the payload with an HMAC-SHA256 over what it is, for whom, and for which arguments. It is sealed, not
encrypted: payloads hold what their holder has seen anyway. Replicas of a service share the key (`sealing_key`).
"""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from sqlalchemy import select

from pyairtable_mesh.runtime.columns import insert_missing
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.tables import RUNTIME_VALUES

DEFAULT_SIZE = 50
MAXIMUM_SIZE = 1000
_MAC_BYTES = 16
KEY_BYTES = 32
_KEY_NAME = "sealing.key"

Key = tuple[str | int, ...]
"""Where a page ends: the last row's values in the order that the rows are sorted by."""


class SealBrokenError(Exception):
    """The token was not made here, or not for this purpose and this caller."""


class Sealer:
    """Seals payloads for clients to carry. `kind` separates uses, `binding` ties a token to what must not change."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a sealing key has at least {KEY_BYTES} bytes")
        self._key = key

    def seal(self, kind: str, payload: bytes, *binding: str | bytes) -> str:
        """The token, in base64url without padding."""
        return base64.urlsafe_b64encode(self._mac(kind, payload, binding) + payload).rstrip(b"=").decode()

    def open(self, kind: str, token: str, *binding: str | bytes) -> bytes:
        """The payload of a token that was sealed with the same key, kind and binding, else `SealBrokenError`."""
        mac, payload = _opened(token)
        if not hmac.compare_digest(mac, self._mac(kind, payload, binding)):
            raise SealBrokenError
        return payload

    @staticmethod
    def claimed(token: str) -> bytes:
        """The payload of a token that somebody else sealed: what it claims, which nobody has verified.
        `SealBrokenError` for what is no token.
        """
        return _opened(token)[1]

    def _mac(self, kind: str, payload: bytes, binding: Sequence[str | bytes]) -> bytes:
        parts = (part.encode() if isinstance(part, str) else part for part in (kind, *binding, payload))
        message = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]


def _opened(token: str) -> tuple[bytes, bytes]:
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealBrokenError from None
    return sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]


async def sealing_key(database: Database) -> bytes:
    """The key that all replicas on this database share: made by whichever of them starts first.

    Whoever can read the database can forge a token; such a token shows nothing that is not in the database.
    """
    async with database.transaction(background()) as transaction:
        fresh = {"name": _KEY_NAME, "value": secrets.token_bytes(KEY_BYTES)}
        await transaction.connection.execute(insert_missing(RUNTIME_VALUES), fresh)
        stored = select(RUNTIME_VALUES.c.value).where(RUNTIME_VALUES.c.name == _KEY_NAME)
        key: bytes = (await transaction.connection.execute(stored)).scalar_one()
        return key


@dataclass(frozen=True, slots=True)
class Page:
    """What a list method was asked for: at most `size` rows behind `after` (empty on the first page)."""

    size: int
    after: Key
    _sealer: Sealer
    _binding: tuple[str | bytes, ...]

    def next_token(self, last: Key | None) -> str:
        """The token of the page behind `last`; empty when there is none."""
        if last is None:
            return ""
        return self._sealer.seal("page", json.dumps(last, separators=(",", ":")).encode(), *self._binding)


def page_of(sealer: Sealer, caller: RequestContext, request: Message, *, default: int = DEFAULT_SIZE) -> Page:
    """The page that `request` (with `page_size` and `page_token`) asks for.

    A token belongs to its caller, tenant, method and all other arguments; the size may change from page to page.
    InvalidArgument PAGE_TOKEN_INVALID for any other token.
    """
    size: int = request.page_size  # type: ignore[attr-defined]
    token: str = request.page_token  # type: ignore[attr-defined]
    if size < 0:
        raise InvalidArgument.of_field("page_size", "must not be negative")
    arguments = type(request)()
    arguments.CopyFrom(request)
    arguments.ClearField("page_size")
    arguments.ClearField("page_token")
    binding = (caller.method, caller.tenant_id, caller.actor.subject, arguments.SerializeToString(deterministic=True))
    after = _open(sealer, token, binding) if token else ()
    return Page(min(size or default, MAXIMUM_SIZE), after, sealer, binding)


def _open(sealer: Sealer, token: str, binding: tuple[str | bytes, ...]) -> Key:
    try:
        return tuple(json.loads(sealer.open("page", token, *binding)))
    except SealBrokenError:
        raise InvalidArgument.of_field(
            "page_token",
            "is not from a page of this list with the same arguments; begin again without one",
            reason="PAGE_TOKEN_INVALID",
        ) from None
