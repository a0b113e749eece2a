"""One tenant's engine at one revision, led along the permission service's stream by the server's own code."""

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.signals import Signal

if TYPE_CHECKING:
    from pyairtable_mesh.runtime.authorization import ScopedEngine


class DamagedError(Exception):
    """What came does not follow what is held; the way on is a snapshot."""


class TooLargeError(Exception):
    """The tenant's state is larger than what may be held."""


class Copy:
    """What is held of one tenant. Reading and applying a message are one step of the event loop, so whoever uses
    `engine` without awaiting sees one revision.
    """

    def __init__(
        self, tenant_id: str, admit: Callable[[int], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`admit` says whether there is room for a snapshot of so many bytes."""
        self.tenant_id = tenant_id
        self.engine: ScopedEngine | None = None
        """None until a snapshot is loaded, and whenever one is needed again."""
        self.checkpoint = ""
        """Resumes the stream behind what is held; it is also the consistency token of that state."""
        self.heard = -inf
        """When the server was last heard, in seconds of the clock: what is held was the newest state then."""
        self.delay = 0.0
        """How long the last change was on its way, in seconds between two machines' clocks."""
        self.skew = 0.0
        """How far our clock was before the server's (negative: behind) when that was last heard, in seconds; what was
        on its way for long looks like a clock that is before.
        """
        self.loads = 0
        self._admit = admit
        self._clock = clock
        self.loading = 0
        """How many bytes the snapshot has that is on its way, or being read."""
        self._parts = bytearray()
        self._moved = Signal()

    @property
    def revision(self) -> int:
        """The revision that is held; 0 without any."""
        return self.engine.revision if self.engine is not None else 0

    @property
    def weight(self) -> int:
        """How many relationships, bindings and names are held."""
        if self.engine is None:
            return 0
        graph = self.engine.graph
        return len(graph.names) + graph.count + len(self.engine.bindings)

    def forget(self) -> None:
        """Hold nothing: the next stream begins with a snapshot."""
        self.engine, self.checkpoint, self.heard = None, "", -inf
        self.resume()

    def resume(self) -> None:
        """Be ready for a new stream: of a snapshot that the last one broke off nothing is kept."""
        self._parts, self.loading = bytearray(), 0

    async def take(self, message: pb.StreamReplicaResponse, since: float) -> None:
        """Take over a message of a stream that was last heard, or else begun, at `since`.

        `DamagedError` for one that cannot follow, `TooLargeError` for a snapshot that is too large.
        """
        if message.WhichOneof("payload") == "snapshot":
            await self._take_chunk(message, since)
        elif self._parts or self.engine is None:
            raise DamagedError("a snapshot is not complete")
        else:
            self._lead_on(self.engine, message)
        self._moved.notify()

    async def reaches(self, revision: int, seconds: float) -> bool:
        """Wait until a revision is held; False when it is not after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self.revision < revision:
                    await self._moved.upcoming().wait()
        except TimeoutError:
            return False
        return True

    async def _take_chunk(self, message: pb.StreamReplicaResponse, since: float) -> None:
        chunk = message.snapshot
        if self.engine is not None:
            self.forget()
        if not self._parts:
            if not self._admit(chunk.total_bytes):
                raise TooLargeError
            self.loading = chunk.total_bytes
        self._parts += chunk.data
        if message.HasField("time"):
            # It may have been on its way for long, which says nothing about a clock; one that is behind shows.
            self.skew = min(0.0, _ahead(message))
        size = len(self._parts)
        if chunk.total_bytes != self.loading or size > self.loading or (chunk.last and size != self.loading):
            raise DamagedError("a snapshot has another size than it says")
        if not chunk.last:
            return
        # To read a large one takes seconds, while calls go on; what it says was true when the server began to read.
        engine = await asyncio.to_thread(_loaded, bytes(self._parts), self.tenant_id)
        self._parts = bytearray()
        if engine.revision != message.revision:
            raise DamagedError("a snapshot has another revision than it says")
        self.engine, self.checkpoint, self.heard = engine, message.checkpoint_token, since
        self.loading = 0
        self.loads += 1

    def _lead_on(self, engine: "ScopedEngine", message: pb.StreamReplicaResponse) -> None:
        from pyairtable_mesh.runtime.replica.messages import change  # noqa: PLC0415 # the engine, there by now

        changes = [change(each) for each in message.changes.changes]
        if message.revision < engine.revision or (changes and message.revision == engine.revision):
            raise DamagedError("the stream went back")
        if message.revision != engine.revision:
            engine.apply(message.revision, changes)
        if message.HasField("time"):
            self.skew = _ahead(message)
            if message.HasField("changes"):
                self.delay = max(0.0, self.skew)
        self.checkpoint, self.heard = message.checkpoint_token or self.checkpoint, self._clock()


def _ahead(message: pb.StreamReplicaResponse) -> float:
    return time.time() - message.time.ToNanoseconds() / 1e9


def _loaded(data: bytes, tenant_id: str) -> "ScopedEngine":
    from pyairtable_mesh.runtime.authorization import SnapshotError, load_scoped  # noqa: PLC0415 # with the first copy
    from pyairtable_mesh.runtime.authorization.product import policy  # noqa: PLC0415 # with the first copy

    try:
        engine = load_scoped(data, policy())
    except SnapshotError as error:
        raise DamagedError(str(error)) from None
    if engine.graph.names.texts[engine.root] != f"tenant:{tenant_id}":
        raise DamagedError("the snapshot is another tenant's")
    return engine
