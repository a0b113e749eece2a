"""A service as a process: how it starts, tells its health, is observed, and leaves."""

import asyncio
import json
import signal
import socket
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from pyairtable.common.v1 import events_pb2, events_pb2_grpc
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_mesh.runtime.ids import new_id
from tests.contract.processes import SECONDS, Running, Site
from tests.databases import PostgresServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PERMISSION = "pyairtable.permission.v1.PermissionService"
USER, TENANT = new_id("usr"), new_id("ten")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def check(site: Site, permission: Running) -> Any:
    request = permission_pb2.CheckPermissionRequest(resource=f"tenant:{TENANT}", permission="read")
    async with permission.channel() as channel:
        stub = permission_pb2_grpc.PermissionServiceStub(channel)
        return await stub.CheckPermission(request, metadata=site.as_user(USER, TENANT), timeout=5)


async def until(what: str, condition: Any) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110 - the state is another process's
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {SECONDS:g} s for {what}") from None


async def test_it_leaves_in_two_stages_and_finishes_what_it_has_begun(site: Site) -> None:
    async with site.running("permission", removal_seconds=1.5) as permission:
        with closing(sqlite3.connect(site.folder / "permission.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            in_flight = asyncio.create_task(site.grant_owner(permission, USER, TENANT))
            await check(site, permission)  # by now the grant waits for the database
            permission.terminate()
            for name in ("", PERMISSION):
                await permission.turns(NOT_SERVING, name)
            await check(site, permission)
            assert await permission.health("liveness") == SERVING
            await until("the listener to close", lambda: not _listens(permission.ports["grpc_port"]))
            assert not in_flight.done()
            other.execute("ROLLBACK")
        granted = await in_flight
        assert await permission.ended() == 0
    async with site.running("permission") as again:
        assert (await check(site, again)).decision.result == permission_pb2.Decision.RESULT_ALLOWED
    assert granted.role_binding.name


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_calls_cancelled_in_the_midst_of_their_change_leave_the_database_to_others(site: Site) -> None:
    async with site.running("permission") as permission:
        for moment in range(20):
            call = asyncio.create_task(site.grant_owner(permission, new_id("usr"), new_id("ten")))
            await asyncio.wait([call], timeout=moment / 1000)
            call.cancel()
            await asyncio.wait([call])
        begun = time.monotonic()
        await site.grant_owner(permission, USER, TENANT)
        assert time.monotonic() - begun < 4, "the change waited for a lock that nobody should hold"


async def test_a_watch_of_health_hears_not_serving_and_holds_no_shutdown_up(site: Site) -> None:
    async with site.running("permission", drain_seconds=60) as permission, permission.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest())
        while (await stream.read()).status != SERVING:
            pass
        permission.terminate()
        begun = time.monotonic()
        assert (await stream.read()).status == NOT_SERVING
        assert await stream.read() is grpc.aio.EOF
        assert await permission.ended() == 0
        assert time.monotonic() - begun < 10


async def test_a_stream_without_an_end_ends_when_the_process_leaves(site: Site) -> None:
    async with site.running("permission", drain_seconds=60) as permission, permission.channel() as channel:
        stub = events_pb2_grpc.EventServiceStub(channel)
        stream = stub.Subscribe(events_pb2.SubscribeRequest(), metadata=site.as_workload("audit"))
        await stream.read()
        permission.terminate()
        begun = time.monotonic()
        async with asyncio.timeout(SECONDS):
            while await stream.read() is not grpc.aio.EOF:
                pass
        assert await stream.code() is grpc.StatusCode.OK
        assert await permission.ended() == 0
        assert time.monotonic() - begun < 10


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "a port that is none": ({"grpc_port": "many"}, "PYAIRTABLE_GRPC_PORT"),
    "a level that is none": ({"log_level": "LOUD"}, "PYAIRTABLE_LOG_LEVEL"),
    "another database": ({"database_url": "mysql://app:secret@host/mesh"}, "PYAIRTABLE_DATABASE_URL"),
    "no URL": ({"database_url": "secret"}, "PYAIRTABLE_DATABASE_URL"),
    "no file": ({"database_url": "sqlite://"}, "PYAIRTABLE_DATABASE_URL"),
    "peers": ({"peers": "permission"}, "PYAIRTABLE_PEERS"),
    "a key that is not there": ({"sealing_key_file": "/nowhere/secret"}, "PYAIRTABLE_SEALING_KEY_FILE"),
}


@pytest.mark.parametrize(("settings", "variable"), WRONG.values(), ids=WRONG.keys())
async def test_wrong_settings_are_said_in_words(site: Site, settings: dict[str, object], variable: str) -> None:
    code, words = await site.refused("permission", **settings)
    assert (code, words.partition(":")[0], words.count("\n")) == (2, variable, 1)
    assert "secret" not in words


@pytest.mark.parametrize("port", ["grpc_port", "health_port", "metrics_port"])
async def test_a_port_in_use_is_said_in_words(site: Site, port: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        code, words = await site.refused("permission", **{port: number})
    assert (code, "Traceback" in words) == (1, False)
    assert f"port {number}" in words
    assert f"PYAIRTABLE_{port.upper()}" in words


@pytest.mark.parametrize(
    "url", ["postgresql://app:secret@127.0.0.1:1/mesh", "sqlite:////proc/nowhere/x.db"], ids=["postgresql", "sqlite"]
)
async def test_an_unreachable_database_is_said_in_words(site: Site, url: str) -> None:
    code, words = await site.refused("permission", database_url=url, database_wait_seconds=0)
    assert code == 1
    assert "secret" not in words
    assert "database" in words or "folder" in words
    assert "Traceback" not in words


@dataclass
class Relay:
    """A TCP port in front of PostgreSQL's socket, that can be closed and opened; `absent` calls find nobody first."""

    folder: Path
    port: int = 0
    absent: float = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.called.set()
        if self.absent > 0:
            self.absent -= 1
            writer.transport.abort()
            return
        behind, database = await asyncio.open_unix_connection(self.folder / ".s.PGSQL.5432")
        self.open |= {writer, database}
        await asyncio.gather(_pump(reader, database), _pump(behind, writer))
        self.open -= {writer, database}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()


@pytest.mark.postgresql
async def test_a_database_that_is_away_turns_readiness_and_not_liveness(
    site: Site, postgres_server: PostgresServer
) -> None:
    name = await postgres_server.create("pyairtable_mesh.permission.migrations")
    relay = Relay(postgres_server.folder)
    await relay.start()
    url = f"postgresql://pyairtable@127.0.0.1:{relay.port}/{name}"
    async with site.running("permission", database_url=url) as permission:
        await relay.stop()
        await permission.turns(NOT_SERVING, PERMISSION)
        assert await permission.health("liveness") == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(site, permission)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await relay.start()
        await permission.turns(SERVING, PERMISSION)
        await check(site, permission)
        permission.terminate()
        assert await permission.ended() == 0
    await relay.stop()
    await postgres_server.drop(name)


@pytest.mark.postgresql
async def test_a_database_that_comes_later_is_waited_for(site: Site, postgres_server: PostgresServer) -> None:
    name = await postgres_server.create("pyairtable_mesh.permission.migrations")
    relay = Relay(postgres_server.folder, absent=1)
    await relay.start()
    url = f"postgresql://pyairtable@127.0.0.1:{relay.port}/{name}"
    async with site.running("permission", database_url=url) as permission:
        assert any("does not answer" in line and "asked again" in line for line in permission.lines)
        await check(site, permission)
        permission.terminate()
        assert await permission.ended() == 0
    await relay.stop()
    await postgres_server.drop(name)


async def test_a_process_that_waits_for_its_database_ends_when_it_is_told_to(site: Site, tmp_path: Path) -> None:
    relay = Relay(tmp_path, absent=float("inf"))
    await relay.start()
    url = f"postgresql://pyairtable@127.0.0.1:{relay.port}/nowhere"
    async with site.started("permission", database_url=url) as process:
        await asyncio.wait_for(relay.called.wait(), SECONDS)
        process.send_signal(signal.SIGTERM)
        _, words = await asyncio.wait_for(process.communicate(), SECONDS)
    assert (process.returncode, "Traceback" in words.decode()) == (0, False)
    await relay.stop()


@pytest.mark.parametrize("reflection", [True, False])
async def test_reflection_can_be_switched_off(site: Site, reflection: bool) -> None:
    switched: dict[str, Any] = {"reflection": str(reflection).lower()}
    async with site.running("permission", **switched) as permission, permission.channel() as channel:
        # Not as a stream: a client whose message is on its way when the answer comes calls UNIMPLEMENTED INTERNAL.
        method: Any = channel.unary_unary(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        try:
            answer = await method(reflection_pb2.ServerReflectionRequest(list_services=""))
            names = {each.name for each in answer.list_services_response.service}
        except grpc.aio.AioRpcError as error:
            names = {error.code().name}
    assert (PERMISSION in names) is reflection
    assert reflection or names == {"UNIMPLEMENTED"}


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP endpoint that keeps the spans, each with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, trace_pb2.Span]] = []

    async def Export(self, request: Any, context: Any) -> Any:
        for each in request.resource_spans:
            named = {pair.key: pair.value.string_value for pair in each.resource.attributes}
            self.spans += [(named["service.name"], span) for scope in each.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def collected() -> AsyncIterator[tuple[Sink, str]]:
    sink, server = Sink(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield sink, f"http://127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("choice", ["lean", "official"])
async def test_one_trace_goes_over_two_processes(site: Site, choice: str) -> None:
    async with collected() as (sink, endpoint):
        observed = {
            "telemetry_grpc": choice,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": 100,
        }
        async with site.running("permission", **observed) as permission:
            await site.grant_owner(permission, USER, TENANT)
            peers = f"permission=127.0.0.1:{permission.ports['grpc_port']}"
            async with site.running("user", peers=peers, **observed) as user, user.channel() as channel:
                await user_pb2_grpc.UserServiceStub(channel).ListUsers(
                    user_pb2.ListUsersRequest(),
                    metadata=(*site.as_user(USER, TENANT), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")),
                    timeout=10,
                )
                for process in (user, permission):
                    process.terminate()
                    assert await process.ended() == 0
    spans = [(service, span) for service, span in sink.spans if span.trace_id.hex() == "ab" * 16]
    server, client = trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_CLIENT
    by = {(service, span.kind): span for service, span in spans}
    assert set(by) == {("user", server), ("user", client), ("permission", server)}
    assert by["user", server].parent_span_id.hex() == "cd" * 8
    assert by["user", client].parent_span_id == by["user", server].span_id
    assert by["permission", server].parent_span_id == by["user", client].span_id


@pytest.mark.parametrize("choice", ["lean", "official"])
async def test_prometheus_sees_how_long_calls_took_and_events_know_their_trace(site: Site, choice: str) -> None:
    async with site.running("permission", telemetry_grpc=choice) as permission:
        await site.grant_owner(permission, USER, TENANT)
        address = f"http://127.0.0.1:{permission.ports['metrics_port']}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=5).read().decode())
        async with permission.channel() as channel:
            stream: Any = events_pb2_grpc.EventServiceStub(channel).Subscribe(
                events_pb2.SubscribeRequest(), metadata=site.as_workload("audit")
            )
            events = list((await stream.read()).events)
            stream.cancel()
    (granted,) = [line for line in text.splitlines() if "_count" in line and "GrantRole" in line]
    assert granted.startswith("rpc_server_call_duration_seconds_count{")
    assert 'rpc_response_status_code="OK"' in granted
    assert granted.endswith(" 1.0")
    flags = [int(event.traceparent.split("-")[3], 16) for event in events]
    assert not any(each & trace.TraceFlags.SAMPLED for each in flags), "nothing is exported, so nothing is sampled"
    (audited,) = [event for event in events if event.type == "common.audit_event.recorded"]
    assert audited.traceparent.split("-")[1].encode() in audited.data.value


async def test_the_log_is_json_and_holds_no_token(site: Site) -> None:
    async with site.running("permission", log_level="DEBUG") as permission:
        await site.grant_owner(permission, USER, TENANT)
        permission.terminate()
        await permission.ended()
    for line in permission.lines:
        assert json.loads(line)["service"] == "permission"
    assert "Bearer" not in "".join(permission.lines)
    assert "eyJ" not in "".join(permission.lines)
