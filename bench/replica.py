"""From a grant or a revoke to the last of two replicas that holds it, and calls that come with the change's token.

The platform runs as `make run` starts it, with two user services. The replicas are the runtime's own, each in a process
that tells when it holds a revision. The clock starts when the permission service has answered; a replica that was
faster counts as 0. After each revoke both user services are called with its token, and must not allow the call.
"""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.figures import Figure, Goal
from bench.measure import END_SECONDS, BenchmarkError, Process, middle, percentile, process
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime import telemetry
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.replica.authorizer import claimed_revision
from pyairtable_mesh.runtime.replica.copy import Copy
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted
from pyairtable_mesh.runtime.retries import RetryPolicy

CHANGES, QUICK_CHANGES = 300, 6
PAUSE_SECONDS = 0.02
MOST_BYTES = 1 << 20
CALL_SECONDS = 10.0
USERS = ("user", "user-2")
Metadata = tuple[tuple[str, str], ...]


def measure(*, quick: bool) -> Iterator[Figure]:
    """The 50th and 99th percentile over all changes, and the answers that were older than their token."""
    with ExitStack() as running:
        data = running.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        command = ("-m", "pyairtable_laptop", "run", "--free-ports", "--instances", "user=2", "--output", "json")
        platform = running.enter_context(process(*command, "--data", data))
        while (told := json.loads(platform.line()))["event"] != "ready":
            pass
        addresses = {each["name"]: each["address"] for each in told["processes"]}
        token_file = str(DataFolder(Path(data)).tokens / "user.jwt")
        replica = ("-m", "bench.replica", addresses["permission"], token_file)
        replicas = [running.enter_context(process(*replica)) for _ in range(2)]
        for each in replicas:
            each.line()
        delays, stale = _measured(addresses, data, replicas, QUICK_CHANGES if quick else CHANGES)
        platform.popen.send_signal(signal.SIGINT)
        platform.popen.wait(END_SECONDS)
    yield Figure("grant or revoke seen by every replica, p50", middle(delays), "ms")
    yield Figure("grant or revoke seen by every replica, p99", percentile(delays, 0.99), "ms", Goal("at most", 50))
    yield Figure("calls with a revoke's token that were allowed", stale, goal=Goal("at most", 0))


def _measured(
    addresses: dict[str, str], data: str, replicas: Sequence[Process], changes: int
) -> tuple[list[float], int]:
    signer = issuer.users(DataFolder(Path(data)))
    owner, reader = (_as(signer, person) for person in (people.ALICE, people.CAROL))
    delays: list[float] = []
    stale = 0
    with grpc.insecure_channel(addresses["permission"]) as there, ExitStack() as channels:
        permission: Any = permission_pb2_grpc.PermissionServiceStub(there)  # type: ignore[arg-type] # knows asyncio only
        users = [channels.enter_context(grpc.insecure_channel(addresses[name])) for name in USERS]
        grant = pb.GrantRoleRequest(
            role="roles/viewer", resource=f"tenant:{people.TENANT}", subject=people.CAROL.subject
        )
        for _ in range(changes // 2):
            granted = permission.GrantRole(grant, metadata=owner, timeout=CALL_SECONDS)
            delays.append(_held_by_all(replicas, granted.consistency_token, time.monotonic()))
            gone = pb.RevokeRoleRequest(name=granted.role_binding.name)
            revoked = permission.RevokeRole(gone, metadata=owner, timeout=CALL_SECONDS)
            begun = time.monotonic()
            seen = (*reader, ("x-consistency-token", revoked.consistency_token))
            stale += sum(_is_allowed(each, seen) for each in users)
            delays.append(_held_by_all(replicas, revoked.consistency_token, begun))
            time.sleep(PAUSE_SECONDS)
    return delays, stale


def _held_by_all(replicas: Sequence[Process], token: str, begun: float) -> float:
    """Milliseconds from a moment until the last replica holds the state of a token; 0 where all did."""
    revision, moments = claimed_revision(token) or 0, []
    for each in replicas:
        held, moment = 0, 0.0
        while held < revision:
            words = each.line().split()
            held, moment = int(words[0]), float(words[1])
        moments.append(moment)
    return max(0.0, max(moments) - begun) * 1e3


def _is_allowed(user: grpc.Channel, metadata: Metadata) -> bool:
    try:
        stub: Any = user_pb2_grpc.UserServiceStub(user)  # type: ignore[arg-type] # knows asyncio only
        stub.ListUsers(user_pb2.ListUsersRequest(page_size=1), metadata=metadata, timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        code = error.code()
        if code is not grpc.StatusCode.PERMISSION_DENIED:
            raise BenchmarkError(f"a call failed with {code.name}") from None
        return False
    return True


def _as(signer: issuer.Signer, person: people.Person) -> Metadata:
    return (("authorization", f"Bearer {issuer.user_token(signer, person.id, people.TENANT)}"),)


async def _follow(address: str, token_file: str) -> None:
    """Hold a replica, and print each revision that it comes to with the moment on the machine's monotonic clock."""
    peers = Peers(
        control_plane="",
        addresses={"permission": address},
        own_token=WorkloadToken(token_file),
        telemetry=telemetry.start("bench", namespace="default", instance="1", sample_ratio=0),
        retries=RetryPolicy(),
        max_message_bytes=4 << 20,
    )
    copy = Copy(people.TENANT, lambda size: size <= MOST_BYTES)
    stub = peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission")
    following = asyncio.create_task(Follower(copy, stub, Wanted(frozenset({"tenant"}), 5.0)).run())
    while await copy.reaches(copy.revision + 1, 3600.0):
        print(copy.revision, time.monotonic(), flush=True)
    following.cancel()


if __name__ == "__main__":
    uvloop.run(_follow(*sys.argv[1:]))
