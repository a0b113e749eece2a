"""Server CPU of a call: the full stack against a bare grpc.aio servicer, both on uvloop.

The full stack verifies identity (a warm token), authorizes (an authorizer that says yes at once), validates from the
schema, traces and measures. Servers and clients are processes of their own. Rounds alternate between the variants, so
that the machine's noise falls on all of them.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import uvloop

from bench import load
from bench.figures import Figure, Goal
from bench.measure import middle, middle_ratio, process
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_mesh.runtime import access, interceptors, registration, telemetry
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.garbage import settle
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.tokens import Identity
from pyairtable_mesh.runtime.validation import SchemaValidator

SERVICE = "pyairtable.permission.v1.PermissionService"
REQUEST = permission_pb2.CheckPermissionRequest(resource="base:app" + "0" * 26, permission="read")
IN_FLIGHT = 16
CALLS, ROUNDS = 4_000, 12
QUICK_CALLS, QUICK_ROUNDS = 160, 1
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = UNSAMPLED[:-2] + "01"
VARIANTS = ("bare", "full, parent unsampled", "full, 1 % sampled", "full, all sampled")
GOALS = (Goal("at least", 0.80), Goal("at least", 0.80), None)


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


async def serve(variant: str) -> None:
    server = new_server(4 << 20)
    if variant == "bare":
        permission_pb2_grpc.add_PermissionServiceServicer_to_server(Servicer(), server)
    else:
        ratio = 0.01 if "1 %" in variant else 1.0
        observer = telemetry.start("bench", namespace="default", instance="1", sample_ratio=ratio)
        stack: Any = interceptors.stack(Settings(), observer, WarmToken(), Yes(), SchemaValidator())  # type: ignore[arg-type]
        rows = {SERVICE: {"CheckPermission": access.on("resource", "read")}}
        registrations = [(permission_pb2_grpc.add_PermissionServiceServicer_to_server, Servicer())]
        registration.register(server, registrations, rows, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    if variant != "bare":
        settle()
    print(port, flush=True)
    await server.wait_for_termination()


def measure(*, quick: bool) -> Iterator[Figure]:
    """Microseconds of server CPU a call for each variant, and the ratios of bare to each."""
    calls, rounds = (QUICK_CALLS, QUICK_ROUNDS) if quick else (CALLS, ROUNDS)
    with ExitStack() as running:
        servers = {variant: running.enter_context(process("-m", "bench.stack", variant)) for variant in VARIANTS}
        contenders = {
            variant: load.Contender(running.enter_context(process(*_client(server.line(), variant))), server)
            for variant, server in servers.items()
        }
        samples = load.alternate(contenders, calls, rounds)
    for variant in VARIANTS:
        yield Figure(f"server CPU of a call, {variant}", middle(samples[variant].microseconds), "us")
    for variant, goal in zip(VARIANTS[1:], GOALS, strict=True):
        ratio = middle_ratio(samples["bare"].microseconds, samples[variant].microseconds)
        yield Figure(f"bare against {variant}, server CPU", ratio, goal=goal)


def _client(port: str, variant: str) -> tuple[str, ...]:
    parents = {"full, parent unsampled": [("traceparent", UNSAMPLED)], "full, all sampled": [("traceparent", SAMPLED)]}
    metadata = [("authorization", "Bearer token"), ("x-correlation-id", "bench"), *parents.get(variant, [])]
    method = f"/{SERVICE}/CheckPermission"
    return load.arguments(f"127.0.0.1:{port}", method, IN_FLIGHT, REQUEST.SerializeToString(), metadata)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
