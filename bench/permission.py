"""CheckPermission over gRPC against an echo on the same runtime: what an answer of the engine costs; batches, grants.

The permission service runs as `make run` starts it, with a role that a user holds two levels above the table that is
asked about. The echo is a service with the same settings that answers the same RPC with nothing. Both verify the
same token; servers and clients are processes of their own; rounds alternate.
"""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc

from bench import load
from bench.figures import Figure, Goal
from bench.measure import middle, middle_ratio, process
from bench.mesh import wait_until_serving
from bench.start import plans, running
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_laptop.plan import Plan
from pyairtable_mesh import runtime
from pyairtable_mesh.runtime import access, ids
from tests import postgres

Stub = permission_pb2_grpc.PermissionServiceStub
SERVICE = "pyairtable.permission.v1.PermissionService"
REQUEST = permission_pb2.CheckPermissionRequest(resource=people.TABLE, permission="create_record")
IN_FLIGHT = 16
BATCH = 1_000
ALLOWED = ("read", "create_record")
HALF_DENIED = (*ALLOWED, "delete", "manage_access")
CALLS, ROUNDS = 1_600, 10
QUICK_CALLS, QUICK_ROUNDS = 32, 1


class Echo(permission_pb2_grpc.PermissionServiceServicer):
    async def CheckPermission(self, request: Any, context: Any) -> permission_pb2.CheckPermissionResponse:
        return permission_pb2.CheckPermissionResponse()


def build(_runtime: runtime.Runtime[runtime.Settings]) -> runtime.Parts:
    return runtime.Parts([(permission_pb2_grpc.add_PermissionServiceServicer_to_server, Echo())])


ECHO = runtime.Service(
    name="echo",
    settings=runtime.Settings,
    build=build,
    access={SERVICE: {"CheckPermission": access.authenticated()}},
)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Calls a second and server CPU of both, and the ratio of the calls."""
    calls, rounds = (QUICK_CALLS, QUICK_ROUNDS) if quick else (CALLS, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = DataFolder(Path(place))
        permission, second = (each for each in plans(folder.root, permission=2) if each.service == "permission")
        echo = replace(second, command=(sys.executable, "-m", "bench.permission"))
        with running(permission) as checking, running(echo) as echoing:
            wait_until_serving(checking, permission.ports.health)
            wait_until_serving(echoing, echo.ports.health)
            asyncio.run(_prepare(permission.address, folder))
            with process(*_client(permission, folder)) as checks, process(*_client(echo, folder)) as echoes:
                contenders = {
                    "CheckPermission": load.Contender(checks, checking),
                    "echo": load.Contender(echoes, echoing),
                }
                samples = load.alternate(contenders, calls, rounds)
            bare = asyncio.run(_bare(echo.address, folder, 50 * rounds))
            grant = asyncio.run(_grants(permission.address, folder, 50 * rounds))
            # Few enough that all of their denials are audited: no tenant may bring more at once.
            batches = {
                what: asyncio.run(_batches(permission.address, folder, verbs, 3 * rounds))
                for what, verbs in (("all allowed", ALLOWED), ("half denied and audited", HALF_DENIED))
            }
    for name, each in samples.items():
        yield Figure(f"{name}, {IN_FLIGHT} in flight", middle(each.rates), "calls/s")
        yield Figure(f"server CPU of a call, {name}", middle(each.microseconds), "us")
    yield Figure("echo at the client, one after the other, median", bare * 1_000, "ms")
    ratio = middle_ratio(samples["CheckPermission"].rates, samples["echo"].rates)
    yield Figure("CheckPermission against an echo on the same runtime, calls/s", ratio, goal=Goal("at least", 0.85))
    for what, batch in batches.items():
        words = f"BatchCheckPermissions of {BATCH:,} items at the client, {what}, median"
        yield Figure(words, batch * 1_000, "ms", goal=Goal("at most", 5))
    yield Figure("GrantRole at the client, durable on SQLite, median", grant * 1_000, "ms", goal=Goal("at most", 2))
    yield from _on_postgresql(rounds)


def _on_postgresql(rounds: int) -> Iterator[Figure]:
    """The same grants, where the database is a PostgreSQL of its own that syncs each commit to the disk."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place, postgres.running(fsync=True) as socket:
        folder = DataFolder(Path(place))
        planned = next(each for each in plans(folder.root) if each.service == "permission")
        url = asyncio.run(_database(socket))
        on_postgres = replace(planned, environment={**planned.environment, "PYAIRTABLE_DATABASE_URL": url})
        with running(on_postgres) as started:
            wait_until_serving(started, on_postgres.ports.health)
            asyncio.run(_prepare(on_postgres.address, folder))
            grant = asyncio.run(_grants(on_postgres.address, folder, 50 * rounds))
    yield Figure("GrantRole at the client, durable on PostgreSQL, median", grant * 1_000, "ms", goal=Goal("at most", 5))


async def _database(socket: Path) -> str:
    """The URL of a new database, whose owner row-level security binds."""
    connection = await asyncpg.connect(host=str(socket), user="postgres", database="postgres")
    try:
        await connection.execute("CREATE ROLE pyairtable LOGIN")
        await connection.execute("CREATE DATABASE bench OWNER pyairtable")
    finally:
        await connection.close()
    return f"postgresql://pyairtable@/bench?host={socket}"


async def _prepare(address: str, folder: DataFolder) -> None:
    """Give the demo tenant an owner, a table in a base, and an editor of the base."""
    tenants = issuer.workload_token(issuer.workloads(folder), "tenant")
    links = [
        permission_pb2.Relationship(resource=people.BASE, relation="workspace", subject=people.WORKSPACE),
        permission_pb2.Relationship(resource=people.TABLE, relation="base", subject=people.BASE),
    ]
    async with grpc.aio.insecure_channel(address, load.OPTIONS) as channel:
        stub = Stub(channel)
        await _grant(stub, tenants, "roles/owner", f"tenant:{people.TENANT}", people.ALICE.subject)
        owner = _token(folder, people.ALICE)
        for link in links:
            update = permission_pb2.RelationshipUpdate(
                operation=permission_pb2.RelationshipUpdate.OPERATION_TOUCH, relationship=link
            )
            request = permission_pb2.WriteRelationshipsRequest(updates=[update], request_id=str(uuid.uuid4()))
            await stub.WriteRelationships(request, metadata=_bearer(owner), timeout=load.CALL_SECONDS)
        await _grant(stub, owner, "roles/editor", people.BASE, people.BOB.subject)


async def _median(address: str, calls: int, call: Callable[[Stub], Awaitable[object]]) -> float:
    """Seconds of a call at the client, one after the other."""
    spent = list[float]()
    async with grpc.aio.insecure_channel(address, load.OPTIONS) as channel:
        stub = Stub(channel)
        for _ in range(calls):
            begin = time.perf_counter()
            await call(stub)
            spent.append(time.perf_counter() - begin)
    return middle(spent)


async def _bare(address: str, folder: DataFolder, calls: int) -> float:
    """Of a call that does nothing: what the others bear besides their own work."""
    metadata = _bearer(_token(folder, people.BOB))
    return await _median(
        address, calls, lambda stub: stub.CheckPermission(REQUEST, metadata=metadata, timeout=load.CALL_SECONDS)
    )


async def _grants(address: str, folder: DataFolder, calls: int) -> float:
    """Of a grant to somebody else each time."""
    owner = _token(folder, people.ALICE)
    return await _median(
        address, calls, lambda stub: _grant(stub, owner, "roles/viewer", people.BASE, f"user:{ids.new_id('usr')}")
    )


async def _batches(address: str, folder: DataFolder, verbs: Sequence[str], calls: int) -> float:
    """Of a batch about the caller itself."""
    items = [permission_pb2.CheckItem(resource=people.TABLE, permission=verbs[at % len(verbs)]) for at in range(BATCH)]
    many = permission_pb2.BatchCheckPermissionsRequest(items=items)
    editor = _bearer(_token(folder, people.BOB))
    return await _median(
        address, calls, lambda stub: stub.BatchCheckPermissions(many, metadata=editor, timeout=load.CALL_SECONDS)
    )


async def _grant(stub: Stub, token: str, role: str, resource: str, subject: str) -> None:
    request = permission_pb2.GrantRoleRequest(
        role=role, resource=resource, subject=subject, request_id=str(uuid.uuid4())
    )
    await stub.GrantRole(request, metadata=_bearer(token), timeout=load.CALL_SECONDS)


def _client(server: Plan, folder: DataFolder) -> tuple[str, ...]:
    metadata = _bearer(_token(folder, people.BOB))
    method = f"/{SERVICE}/CheckPermission"
    return load.arguments(server.address, method, IN_FLIGHT, REQUEST.SerializeToString(), metadata)


def _token(folder: DataFolder, person: people.Person) -> str:
    return issuer.user_token(issuer.users(folder), person.id, people.TENANT)


def _bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


if __name__ == "__main__":
    runtime.run(ECHO)
