"""Keeps one tenant's copy on the permission service's stream."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError, OutOfRange, Unavailable
from pyairtable_mesh.runtime.replica.copy import Copy, DamagedError, TooLargeError

_FIRST_DELAY = 0.05
_LONGEST_AWAY = 2.0
"""Longest pause before a server that is away is tried again: it is back within the budget, or soon after."""
_LONGEST_REFUSED = 30.0
"""The same where it answers, but not with what can be followed: a snapshot costs it more than a refusal."""
_BEGIN_SECONDS = 60.0
"""How long the first message and each part of a snapshot may take."""
_ORDERLY = "the server ended it"
_TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a reason
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is followed: types of resources (none: all), how long a silent stream is believed, and how far the server's
    clock may be from ours (both in seconds).
    """

    types: frozenset[str]
    budget: float
    skew: float = 2.0

    def request(self, copy: Copy) -> pb.StreamReplicaRequest:
        """The stream behind what a copy holds."""
        request = pb.StreamReplicaRequest(
            tenant=f"tenants/{copy.tenant_id}",
            checkpoint_token=copy.checkpoint,
            resource_types=sorted(self.types),
        )
        # Several to a budget, so that one that is late does not cost the copy its freshness.
        request.heartbeat_interval.FromTimedelta(timedelta(seconds=min(60.0, max(1.0, self.budget / 4))))
        return request


class Follower:
    """A copy, and the task that leads it on. `begun` and `used` are when it was first and last asked for."""

    def __init__(
        self,
        copy: Copy,
        stub: permission_pb2_grpc.PermissionServiceStub,
        wanted: Wanted,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.copy = copy
        self.begun = self.used = clock()
        self.refused = False
        """Whether the tenant is too large to be held here."""
        self.newest = 0
        """The newest revision that the server has answered a question from."""
        self.interruptions = 0
        self._stub = stub
        self._wanted = wanted
        self._clock = clock
        self._delay = _FIRST_DELAY

    @property
    def is_fresh(self) -> bool:
        """Whether the server was heard within the budget, and something is held."""
        return self._clock() - self.copy.heard <= self._wanted.budget

    @property
    def is_skewed(self) -> bool:
        """Whether the server's clock is too far from ours for us to say what has expired."""
        return abs(self.copy.skew) > self._wanted.skew

    def refuse(self) -> None:
        """Give up what is held, because there is no room for it."""
        self.refused = True
        self.copy.forget()

    async def run(self) -> None:
        """Follow until cancelled, or until the tenant turns out to be too large."""
        while not self.refused:
            longest = _LONGEST_REFUSED
            try:
                await self._follow()
                reason = _ORDERLY
            except (TimeoutError, Unavailable) as error:
                longest, reason = _LONGEST_AWAY, getattr(error, "reason", "no sign of life")
            except TooLargeError:
                _logger.warning("the permissions of %s are too many to be held here", self.copy.tenant_id)
                self.refuse()
                return
            except DamagedError as error:
                self.copy.forget()
                reason = str(error)
            except MeshError as error:
                if isinstance(error, InvalidArgument | OutOfRange):  # a checkpoint that the server does not know
                    self.copy.forget()
                reason = error.reason
            except Exception:
                _logger.exception("a replica of permissions could not take over what came")
                self.copy.forget()
                reason = "a fault here"
            await self._pause(reason, longest)

    async def _pause(self, reason: str, longest: float) -> None:
        level = logging.DEBUG
        if self._delay == _FIRST_DELAY:
            level = logging.INFO if reason in {_ORDERLY, _TOKEN_EXPIRED} else logging.WARNING
        _logger.log(level, "the stream of permissions of %s is interrupted: %s", self.copy.tenant_id, reason)
        self.interruptions += 1
        await asyncio.sleep(self._delay * (0.5 + random.random()))  # noqa: S311 - spreads reconnects
        self._delay = min(self._delay * 2, longest)

    async def _follow(self) -> None:
        since = self._clock()
        self.copy.resume()
        call = self._stub.StreamReplica(self._wanted.request(self.copy))
        try:
            messages = aiter(call)
            is_begun = False
            while True:
                async with asyncio.timeout(self._wanted.budget if is_begun else _BEGIN_SECONDS):
                    message = await anext(messages, None)
                if message is None:
                    return
                await self.copy.take(message, since)
                is_begun = message.WhichOneof("payload") != "snapshot"
                if is_begun:
                    # Not behind a part of a snapshot: all of it is as old as its beginning, however long it takes.
                    since = self._clock()
                    self._delay = _FIRST_DELAY
        finally:
            call.cancel()
