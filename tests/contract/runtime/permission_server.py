"""A permission service in memory, over gRPC: streams replicas and answers checks, and fails as a test wants it to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import moments, telemetry
from pyairtable_mesh.runtime.authorization import Circumstances, RoleChange, ScopedEngine, dump, product
from pyairtable_mesh.runtime.pagination import Sealer
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.replica.messages import change
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.signals import Signal

TENANT_ID = "ten" + "0" * 26
TENANT = f"tenant:{TENANT_ID}"
ALICE, BOB = "user:usr" + "0" * 25 + "a", "user:usr" + "0" * 25 + "b"
_SEALER = Sealer(b"s" * 32)


def token(revision: int) -> str:
    return _SEALER.seal("revision", b"%x" % revision, TENANT_ID)


def bound(name: str, role: str, subject: str, resource: str = TENANT, *, removed: bool = False) -> pb.PermissionChange:
    kind = pb.PermissionChange.KIND_DELETE if removed else pb.PermissionChange.KIND_PUT
    binding = pb.RoleBinding(name=f"roleBindings/{name}", role=f"roles/{role}", resource=resource, subject=subject)
    return pb.PermissionChange(kind=kind, role_binding=binding)


@dataclass
class PermissionServer(permission_pb2_grpc.PermissionServiceServicer):
    """The truth of any tenant, and the requests that came. `subject` is who asks; `silent` streams send nothing."""

    subject: str = ALICE
    heartbeat: float = 0.02
    silent: bool = False
    away: bool = False
    spoil: Any = None
    """Called with each message of a stream; what it returns is sent."""
    oldest: int = 0
    engine: ScopedEngine = field(init=False)
    history: dict[int, Sequence[pb.PermissionChange]] = field(default_factory=dict)
    streams: list[pb.StreamReplicaRequest] = field(default_factory=list)
    open_streams: int = 0
    checks: list[pb.BatchCheckPermissionsRequest] = field(default_factory=list)
    signal: Signal = field(default_factory=Signal)

    def __post_init__(self) -> None:
        self.engine = ScopedEngine(product.policy(), TENANT)
        self.engine.apply(0, [RoleChange(name, held) for name, held in product.system_roles().items()])

    def write(self, *changes: pb.PermissionChange) -> int:
        """Commit a revision; its number."""
        revision = self.engine.revision + 1
        self.engine.apply(revision, [change(each) for each in changes])
        self.history[revision] = changes
        self.signal.notify()
        return revision

    def interrupt(self) -> None:
        """End every stream."""
        self.epoch += 1
        self.signal.notify()

    epoch: int = 0

    async def StreamReplica(self, request: pb.StreamReplicaRequest, context: Any) -> AsyncIterator[Any]:
        self.streams.append(request)
        self.open_streams += 1
        try:
            async for message in self._messages(request, context):
                yield self.spoil(message) if self.spoil is not None else message
        finally:
            self.open_streams -= 1

    async def _messages(
        self, request: pb.StreamReplicaRequest, context: Any
    ) -> AsyncIterator[pb.StreamReplicaResponse]:
        epoch, at = self.epoch, None
        await self._answer_or_abort(context)
        if request.checkpoint_token:
            at = int(Sealer.claimed(request.checkpoint_token), 16)
            if token(at) != request.checkpoint_token:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unknown")
        if at is None or at < self.oldest:
            at = self.engine.revision
            data = dump(self._of(request.tenant))
            size = len(data) // 3 + 1
            for first in range(0, len(data), size):
                last = first + size >= len(data)
                chunk = pb.ReplicaSnapshotChunk(data=data[first : first + size], total_bytes=len(data), last=last)
                yield self._message(at, snapshot=chunk, is_resumable=last)
        while epoch == self.epoch:
            upcoming = self.signal.upcoming()
            if self.silent:
                await upcoming.wait()
                continue
            while at < self.engine.revision:
                at += 1
                yield self._message(at, changes=pb.ReplicaChanges(changes=self.history[at]))
            yield self._message(at)
            await Signal.wait(upcoming, self.heartbeat)

    def _of(self, tenant: str) -> ScopedEngine:
        if tenant == f"tenants/{TENANT_ID}":
            return self.engine
        return ScopedEngine(product.policy(), f"tenant:{tenant.removeprefix('tenants/')}")

    async def _answer_or_abort(self, context: Any) -> None:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    @staticmethod
    def _message(revision: int, is_resumable: bool = True, **payload: Any) -> pb.StreamReplicaResponse:
        checkpoint = token(revision) if is_resumable else ""
        time = moments.to_timestamp(moments.utc_now())
        return pb.StreamReplicaResponse(revision=revision, checkpoint_token=checkpoint, time=time, **payload)

    async def BatchCheckPermissions(self, request: pb.BatchCheckPermissionsRequest, context: Any) -> Any:
        self.checks.append(request)
        await self._answer_or_abort(context)
        given = Circumstances(moments.utc_now().timestamp())
        results = []
        for item in request.items:
            found = self.engine.check((item.resource, item.permission, self.subject), given)
            result = pb.Decision.RESULT_ALLOWED if found.allowed else pb.Decision.RESULT_DENIED
            result = pb.Decision.RESULT_CONDITIONAL if found.missing else result
            decision = pb.Decision(result=result, missing_context=sorted(found.missing))
            results.append(pb.CheckResult(decision=decision))
        return pb.BatchCheckPermissionsResponse(results=results, consistency_token=token(self.engine.revision))


@asynccontextmanager
async def stub_of(server: PermissionServer) -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
    """The server on a free port, called as every peer is."""
    listening = new_server(4 << 20)
    permission_pb2_grpc.add_PermissionServiceServicer_to_server(server, listening)
    observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=0)
    peers = Peers(
        control_plane="",
        addresses={"permission": f"127.0.0.1:{bind(listening, '127.0.0.1', 0, 'PORT')}"},
        own_token=WorkloadToken(""),
        telemetry=observer,
        retries=RetryPolicy(),
        max_message_bytes=4 << 20,
    )
    await listening.start()
    yield peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission")
    await peers.close()
    await listening.stop(0)
    observer.close()


async def until(what: str, condition: Any, seconds: float = 20.0) -> None:
    """Wait for a condition, looking every 5 ms; fail with the words after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the state is another task's
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s for {what}") from None
