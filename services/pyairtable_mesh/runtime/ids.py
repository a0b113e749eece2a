"""Identifiers of resources: three letters that say what it is, then a UUIDv7 (RFC 9562, section 5.7) in 26 lower-case
Crockford base32 characters. They sort by the time of their making, by bytes, and hold nothing that PostgreSQL or
SQLite would collate in different ways.
"""

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable

ID_PATTERN = re.compile(r"[a-z]{3}[0-9a-hjkmnp-tv-z]{26}")
"""What `re.fullmatch` of an id needs; the same expression as in common.v1."""

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_SHIFTS = range(120, -1, -10)
"""Of the 13 pairs of digits, which hold 130 bits, the first one highest."""
_RANDOM_BITS = 74
_RANDOM_MASK = (1 << _RANDOM_BITS) - 1
_LOW_BITS = 62
_LOW_MASK = (1 << _LOW_BITS) - 1
_STEP_BITS = 32
_RANDOM_DIGITS = 16
"""What follows the time, which fills the ten digits before."""


class IdSource:
    """Makes UUIDv7s that grow strictly within one source (RFC 9562, section 6.2, method 2).

    Within a millisecond, and while the clock stands behind the last id, the 74 random bits are taken as a counter
    that is raised by a random step, so that an id does not tell its neighbour.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._milliseconds = -1
        self._random = 0

    def uuid7(self) -> int:
        """The next UUIDv7 as a 128 bit integer."""
        with self._lock:
            now = self._clock_ns() // 1_000_000
            if now > self._milliseconds:
                self._milliseconds, self._random = now, secrets.randbits(_RANDOM_BITS)
            else:
                self._random += 1 + secrets.randbits(_STEP_BITS)
                if self._random > _RANDOM_MASK:
                    self._milliseconds, self._random = self._milliseconds + 1, secrets.randbits(_RANDOM_BITS)
            return _number(self._milliseconds, self._random)

    def new_id(self, prefix: str) -> str:
        """``usr`` gives ``usr`` and 26 characters; `prefix` is three lower-case letters."""
        return prefix + _digits(self.uuid7())


def derived(origin: str, part: int) -> str:
    """The id of a part of what has the id `origin`: of the same kind and time, and the same one whenever it is asked
    for. Its random bits are those of a SHA-256 of both.
    """
    digest = hashlib.sha256(f"{origin}/{part}".encode()).digest()
    digits = _digits(_number(0, int.from_bytes(digest) & _RANDOM_MASK))
    return origin[:-_RANDOM_DIGITS] + digits[-_RANDOM_DIGITS:]


def _number(milliseconds: int, random: int) -> int:
    return milliseconds << 80 | 0x7 << 76 | (random >> _LOW_BITS) << 64 | 0b10 << 62 | random & _LOW_MASK


def _digits(number: int) -> str:
    return "".join([_PAIRS[number >> shift & 0x3FF] for shift in _SHIFTS])


new_id = IdSource().new_id
"""The process's own source: order within the process needs one state, as the clock is one."""
