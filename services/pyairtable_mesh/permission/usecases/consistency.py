"""Consistency: which state of the data a read must see, and the tokens that stand for states."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic

from pyairtable_mesh.permission.changelog import ExpiredError, Point
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.held import S
from pyairtable_mesh.runtime.errors import InvalidArgument, OutOfRange, Unavailable
from pyairtable_mesh.runtime.pagination import SealBrokenError, Sealer

_KIND = "revision"
_MOST_TOKENS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Consistency:
    """What a read must see: what is nearest, the `newest` state, one as fresh as `token`, or exactly the token's."""

    token: str = ""
    exact: bool = False
    newest: bool = False


NEAREST = Consistency()
NEWEST = Consistency(newest=True)


class Tokens:
    """Seals revisions: a token stands for one state of one scope (engines.py), and cannot be made by anybody else."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._made: dict[tuple[str, int], str] = {}

    def of(self, scope: str, revision: int) -> str:
        """The token of a state."""
        made = self._made.get((scope, revision))
        if made is None:
            if len(self._made) >= _MOST_TOKENS:
                self._made.clear()
            made = self._made[scope, revision] = self._sealer.seal(_KIND, b"%x" % revision, scope)
        return made

    def checkpoint(self, scope: str, at: Point) -> str:
        """The token of a state that says of which history it is, for what is resumed behind it."""
        if at.made is None:
            return self.of(scope, at.revision)
        return self._sealer.seal(_KIND, b"%x.%x" % (at.revision, _number(at.made)), scope)

    def revision(self, scope: str, token: str, field: str) -> int:
        """The revision of a token; InvalidArgument INVALID_CONSISTENCY_TOKEN on `field` for one that is not ours, or
        another scope's.
        """
        return self.point(scope, token, field).revision

    def point(self, scope: str, token: str, field: str) -> Point:
        """The same, and of which history it is, where the token says so."""
        try:
            revision, _, made = self._sealer.open(_KIND, token, scope).partition(b".")
        except SealBrokenError:
            words = "is not a consistency token of this tenant and space"
            raise InvalidArgument.of_field(field, words, reason="INVALID_CONSISTENCY_TOKEN") from None
        return Point(int(revision, 16), _EPOCH + int(made, 16) * _MICROSECOND if made else None)

    def wanted(self, scope: str, consistency: Consistency) -> int:
        """The revision that a read must have seen; 0 where it need not have seen any."""
        if not consistency.token:
            return 0
        field = "consistency.at_exact_snapshot" if consistency.exact else "consistency.at_least_as_fresh"
        return self.revision(scope, consistency.token, field)

    def read_at(self, scope: str, consistency: Consistency, revision: int) -> int:
        """The revision that a read of the database, which is at `revision`, must show; Unavailable where that is behind
        the token.
        """
        wanted = self.wanted(scope, consistency)
        if wanted > revision:
            raise _unseen()
        return wanted if consistency.exact else revision

    @contextmanager
    def kept(self, scope: str) -> Iterator[None]:
        """Turn `ExpiredError` into the error of the RPC."""
        try:
            yield
        except ExpiredError as error:
            raise self.expired(scope, error.oldest) from None

    def expired(self, scope: str, oldest: int) -> OutOfRange:
        """The error for a state that is kept no longer."""
        metadata = {"oldest_token": self.of(scope, oldest)}
        return OutOfRange("that state is not kept any longer", reason="REVISION_EXPIRED", metadata=metadata)


class States(Generic[S]):
    """Finds the state that a read must see."""

    def __init__(self, engines: Engines[S], tokens: Tokens) -> None:
        self._engines = engines
        self._tokens = tokens

    def at_hand(self, scope: str, consistency: Consistency) -> S | None:
        """The state where it is held already, without waiting for anything; errors as for `seen`."""
        if consistency.newest or consistency.exact:
            return None
        state = self._engines.nearest(scope)
        if state is None or not consistency.token:
            return state
        return state if state.revision >= self._tokens.wanted(scope, consistency) else None

    @asynccontextmanager
    async def seen(self, scope: str, consistency: Consistency) -> AsyncIterator[S]:
        """The state that a read must see, to be used without awaiting in between.

        InvalidArgument INVALID_CONSISTENCY_TOKEN; OutOfRange REVISION_EXPIRED with the oldest token when the state is
        kept no longer; Unavailable when the database is behind the token.
        """
        wanted = self._tokens.wanted(scope, consistency)
        if consistency.exact:
            async with self.at(scope, wanted) as state:
                yield state
        elif consistency.newest:
            yield await self._engines.newest(scope)
        else:
            yield _reached(await self._engines.at_least(scope, wanted), wanted)

    @asynccontextmanager
    async def at(self, scope: str, revision: int) -> AsyncIterator[S]:
        """The state at a revision, to be used without awaiting in between; errors as for `seen`."""
        with self._tokens.kept(scope):
            async with self._engines.exactly(scope, revision) as state:
                yield _reached(state, revision)


def _number(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _reached(state: S, wanted: int) -> S:
    if state.revision < wanted:
        raise _unseen()
    return state


def _unseen() -> Unavailable:
    return Unavailable("the database has not seen that state yet", reason="DEPENDENCY_UNAVAILABLE")
