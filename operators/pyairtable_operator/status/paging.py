"""Pages of a list that is in memory (AIP-158)."""

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from typing import TypeVar

from pyairtable_mesh.runtime import errors

_DEFAULT_SIZE = 100

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """At most `size` items behind the key `after`, of the list as it was in the snapshot `version`."""

    size: int
    arguments: str
    version: str = ""
    after: str = ""

    def cut(self, items: Sequence[tuple[str, _T]], version: str = "") -> tuple[list[_T], str]:
        """Return this page out of all items, sorted by their keys, and the next page's token."""
        rest = [(key, item) for key, item in items if key > self.after]
        chosen = rest[: self.size]
        token = _token(version, chosen[-1][0], self.arguments) if len(rest) > self.size else ""
        return [item for _, item in chosen], token


def page_of(token: str, size: int, arguments: str) -> Page:
    """Return the page that a token stands for. Raises InvalidArgument where it is of other arguments, or none of ours.

    Tokens are not sealed: they hold names that their holder has seen, and give access to nothing.
    """
    size = size or _DEFAULT_SIZE
    if not token:
        return Page(size, arguments)
    try:
        version, after, bound_to = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError):
        raise invalid_token() from None
    if bound_to != arguments or not isinstance(version, str) or not isinstance(after, str):
        raise invalid_token()
    return Page(size, arguments, version, after)


def invalid_token() -> errors.InvalidArgument:
    """Return the error for a token that can't be used, or not any more."""
    words = "is not from a page of this list with the same arguments, or too old; begin again without one"
    return errors.InvalidArgument.of_field("page_token", words, reason="PAGE_TOKEN_INVALID")


def _token(version: str, after: str, arguments: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, after, arguments]).encode()).decode()
