"""Server CPU of one call: the full stack against a bare grpc.aio servicer, both on uvloop, the client elsewhere.

The full stack verifies identity (a warm token), authorizes (an authorizer that says yes at once), validates from the
schema, traces and measures. Rounds alternate between the two, so that the machine's noise falls on both.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import grpc
import uvloop
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc

from bench.measure import cpu_seconds, middle, process
from pyairtable_mesh.runtime import access, interceptors, registration, telemetry
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.server import bind, new_server, settle
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator

SERVICE = "pyairtable.permission.v1.PermissionService"
REQUEST = permission_pb2.CheckPermissionRequest(resource="base:app" + "0" * 26, permission="read")
CALLS, IN_FLIGHT, ROUNDS = 4000, 16, 6
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = UNSAMPLED[:-2] + "01"
VARIANTS = ("bare", "full, parent unsampled", "full, 1 % sampled", "full, all sampled")


class Servicer(permission_pb2_grpc.PermissionServiceServicer):
    async def CheckPermission(self, request: Any, context: Any) -> Any:
        return permission_pb2.CheckPermissionResponse()


class WarmToken:
    """Stands for the table of verified tokens."""

    _identity = Identity(Actor("user", "user:usr" + "0" * 26), "ten" + "0" * 26, time.time() + 3600)

    def known(self, _header: str) -> Identity:
        return self._identity

    async def verify(self, _header: str) -> Identity:
        return self._identity


class Yes:
    async def check(self, _caller: RequestContext, questions: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return [True] * len(questions)


async def unanswered(_caller: RequestContext) -> bytes | None:
    return None


async def serve(variant: str) -> None:
    server = new_server(4 << 20)
    if variant == "bare":
        permission_pb2_grpc.add_PermissionServiceServicer_to_server(Servicer(), server)
    else:
        ratio = 0.01 if "1 %" in variant else 1.0
        observer = telemetry.start("bench", namespace="default", instance="1", sample_ratio=ratio)
        stack: Any = interceptors.stack(Settings(), observer, WarmToken(), Yes(), SchemaValidator(), unanswered)  # type: ignore[arg-type]
        rows = {SERVICE: {"CheckPermission": access.on("resource", "read")}}
        registrations = [(permission_pb2_grpc.add_PermissionServiceServicer_to_server, Servicer())]
        registration.register(server, registrations, rows, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    if variant != "bare":
        settle()
    print(port, flush=True)
    await server.wait_for_termination()


async def load(port: str, variant: str, calls: int) -> None:
    parents = {"full, parent unsampled": [("traceparent", UNSAMPLED)], "full, all sampled": [("traceparent", SAMPLED)]}
    metadata = (("authorization", "Bearer token"), ("x-correlation-id", "bench"), *parents.get(variant, []))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = permission_pb2_grpc.PermissionServiceStub(channel)

        async def worker() -> None:
            for _ in range(calls // IN_FLIGHT):
                await stub.CheckPermission(REQUEST, metadata=metadata, timeout=30)

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def main() -> dict[str, float]:
    """Microseconds of server CPU per call and variant, and the ratios of bare to each."""
    spent: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with (
        process("-m", "bench.stack", "bare") as bare,
        process("-m", "bench.stack", VARIANTS[1]) as full,
        process("-m", "bench.stack", VARIANTS[2]) as some,
    ):
        servers = dict(zip(VARIANTS, (bare, full, some, full), strict=True))
        for round_number in range(ROUNDS + 1):
            for variant, (pid, port) in servers.items():
                before = cpu_seconds(pid)
                uvloop.run(load(port, variant, CALLS))
                if round_number:
                    spent[variant].append((cpu_seconds(pid) - before) / CALLS * 1e6)
    result = {f"{variant}, us": middle(values) for variant, values in spent.items()}
    for variant in VARIANTS[1:]:
        ratios = [one / other for one, other in zip(spent["bare"], spent[variant], strict=True)]
        result[f"bare / {variant}"] = middle(ratios)
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(sys.argv[1]))
    else:
        for name, value in main().items():
            print(f"{name:40} {value:8.2f}")
