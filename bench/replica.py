"""From a grant or a revoke to the first call that shows it, at each of two user services with replicas of their own.

The platform runs as `make run` starts it. A reader's role is revoked and granted again, while calls that need it go to
both instances, one after the other. The clock starts when the permission service has answered, and stops with the
answer that shows the change at the last of both: an upper bound, for it has a whole call in it. A grant is shown at
once, because a denial is asked of the server; a revoke is shown by the replicas alone, and is what the goal is for.
"""

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.figures import Figure, Goal
from bench.measure import END_SECONDS, BenchmarkError, middle, percentile, process
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder

ROUNDS, QUICK_ROUNDS = 300, 5
USERS = ("user", "user-2")
LIMIT_SECONDS = 5.0
Metadata = tuple[tuple[str, str], ...]


def measure(*, quick: bool) -> Iterator[Figure]:
    """The 50th and 99th percentile of both kinds of change, and answers that were older than their token."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = ("-m", "pyairtable_laptop", "run", "--free-ports", "--instances", "user=2", "--output", "json")
        with process(*command, "--data", folder) as platform:
            while (told := json.loads(platform.line()))["event"] != "ready":
                pass
            addresses = {each["name"]: each["address"] for each in told["processes"]}
            found = uvloop.run(_measured(addresses, DataFolder(Path(folder)), QUICK_ROUNDS if quick else ROUNDS))
            platform.popen.send_signal(signal.SIGINT)
            platform.popen.wait(END_SECONDS)
    for kind in ("revoke", "grant"):
        yield Figure(f"{kind} seen by every replica, p50", middle(found[kind]), "ms")
        yield Figure(f"{kind} seen by every replica, p99", percentile(found[kind], 0.99), "ms", Goal("at most", 50))
    yield Figure("calls with the change's token that did not see it", sum(found["stale"]), goal=Goal("at most", 0))


async def _measured(addresses: dict[str, str], folder: DataFolder, rounds: int) -> dict[str, list[float]]:
    signer = issuer.users(folder)
    owner, reader = (_as(signer, person) for person in (people.ALICE, people.CAROL))
    found: dict[str, list[float]] = {"revoke": [], "grant": [], "stale": []}
    async with grpc.aio.insecure_channel(addresses["permission"]) as there:
        permission = permission_pb2_grpc.PermissionServiceStub(there)
        channels = [grpc.aio.insecure_channel(addresses[name]) for name in USERS]
        users = [user_pb2_grpc.UserServiceStub(each) for each in channels]
        for number in range(rounds):
            wanted = permission_pb2.GrantRoleRequest(
                role="roles/viewer", resource=f"tenant:{people.TENANT}", subject=people.CAROL.subject
            )
            granted = await permission.GrantRole(wanted, metadata=owner)
            found["grant"].append(await _shown(users, reader, allowed=True))
            gone = permission_pb2.RevokeRoleRequest(name=granted.role_binding.name)
            revoked = await permission.RevokeRole(gone, metadata=owner)
            if number % 2:
                seen: Metadata = (*reader, ("x-consistency-token", revoked.consistency_token))
                found["stale"] += [float(await _is_allowed(each, seen)) for each in users]
            else:
                found["revoke"].append(await _shown(users, reader, allowed=False))
        for each in channels:
            await each.close()
    return found


async def _shown(users: list[Any], reader: Metadata, *, allowed: bool) -> float:
    """Milliseconds until every user service answers as it should."""
    begun = time.perf_counter()
    await asyncio.gather(*(_until(each, reader, allowed=allowed) for each in users))
    return (time.perf_counter() - begun) * 1e3


async def _until(user: Any, reader: Metadata, *, allowed: bool) -> None:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while await _is_allowed(user, reader) is not allowed:
                pass
    except TimeoutError:
        raise BenchmarkError(f"a change was not seen within {LIMIT_SECONDS:g} s") from None


async def _is_allowed(user: Any, metadata: Metadata) -> bool:
    try:
        await user.ListUsers(user_pb2.ListUsersRequest(page_size=1), metadata=metadata, timeout=LIMIT_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise BenchmarkError(f"a call failed with {error.code().name}: {error.details()}") from None
        return False
    return True


def _as(signer: issuer.Signer, person: people.Person) -> Metadata:
    return (("authorization", f"Bearer {issuer.user_token(signer, person.id, people.TENANT)}"),)
