"""Control planes that run here and read a cluster, and what calls them and what they find: for this folder's tests."""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import yaml
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_operator.xds import ads
from tests.mesh.control_plane import processes

Object = dict[str, Any]

ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


class ControlPlane:
    """One replica."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def serves(self) -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def services(self) -> list[mesh_pb2.Service]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub: Any = mesh_pb2_grpc.StatusServiceStub(channel)
            answer = await stub.ListServices(mesh_pb2.ListServicesRequest(), timeout=10)
            return list(answer.services)

    async def endpoints(self, namespace: str) -> dict[str, str]:
        """State by address of all endpoints in a namespace."""
        return {
            endpoint.address: mesh_pb2.EndpointState.Name(endpoint.state).removeprefix("ENDPOINT_STATE_")
            for found in await self.services()
            if found.namespace == namespace
            for endpoint in found.endpoints
        }


class Stage:
    """Starts control planes, backends and clients."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    async def control_plane(
        self, lease_namespace: str, identity: str = "replica-0", **environment: str
    ) -> ControlPlane:
        port = processes.free_port()
        process = await processes.start(
            "-m",
            "pyairtable_operator",
            PYAIRTABLE_OPERATOR_PROVIDER="kubernetes",
            PYAIRTABLE_OPERATOR_PORT=str(port),
            PYAIRTABLE_OPERATOR_IDENTITY=identity,
            PYAIRTABLE_OPERATOR_LEASE_NAMESPACE=lease_namespace,
            PYAIRTABLE_OPERATOR_DRAIN_SECONDS="0",
            **environment,
        )
        self._stack.push_async_callback(processes.end, process)
        replica = ControlPlane(process, port)
        await until("a snapshot", replica.serves)
        return replica

    async def backend(self, name: str) -> int:
        """An echo server that answers with its name; its port."""

        async def echo(_request: bytes, _context: object) -> bytes:
            return name.encode()

        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": method}),))
        port = server.add_insecure_port("0.0.0.0:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        return port

    async def client(self, control_plane: ControlPlane, namespace: str) -> processes.Client:
        address = f"127.0.0.1:{control_plane.port}"
        server = {"server_uri": address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
        bootstrap = {"xds_servers": [server], "node": {"id": f"{namespace}/web/web-1"}}
        process = await processes.start(
            str(processes.HERE / "echo_client.py"), GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(bootstrap)
        )
        self._stack.push_async_callback(processes.end, process)
        return processes.Client(process)

    async def relay(self) -> "Relay":
        """A way to the API server that can be cut."""
        relay = Relay()
        self._stack.push_async_callback(relay.cut)
        return relay


class Relay:
    """Forwards TCP to the API server."""

    def __init__(self) -> None:
        found = yaml.safe_load(command("config", "view", "--raw", "--minify"))
        host, _, port = found["clusters"][0]["cluster"]["server"].removeprefix("https://").partition(":")
        self._target = (host, int(port or 443))
        self._kubeconfig = found
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = processes.free_port()

    def kubeconfig(self) -> str:
        here = json.loads(json.dumps(self._kubeconfig))
        here["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        return yaml.safe_dump(here)

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._writers -= {writer, back}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


class Stream:
    """An ADS stream that asks for the endpoints of one service."""

    def __init__(self, channel: grpc.aio.Channel, name: str, namespace: str) -> None:
        method: Any = channel.stream_stream(
            f"/{ads.SERVICE_NAME}/StreamAggregatedResources",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )
        self._call = method(wait_for_ready=True)
        self._name = name
        self._node = base_pb2.Node(id=f"{namespace}/test/test-1")
        self._asked = False

    async def until_endpoint(self, address: str) -> float:
        """Read until an answer has the address; when it came, in seconds of the monotonic clock."""
        if not self._asked:
            self._asked = True
            await self._call.write(
                discovery_pb2.DiscoveryRequest(node=self._node, type_url=ENDPOINTS, resource_names=[self._name])
            )
        async with asyncio.timeout(60):
            while True:
                answer = await self._call.read()
                came = time.monotonic()
                await self._call.write(
                    discovery_pb2.DiscoveryRequest(
                        type_url=ENDPOINTS,
                        resource_names=[self._name],
                        version_info=answer.version_info,
                        response_nonce=answer.nonce,
                    )
                )
                if address in _addresses(answer):
                    return came


def _addresses(answer: discovery_pb2.DiscoveryResponse) -> Iterator[str]:
    for packed in answer.resources:
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(packed.value)
        for locality in assignment.endpoints:
            for endpoint in locality.lb_endpoints:
                yield endpoint.endpoint.address.socket_address.address


async def kubectl(*arguments: str, given: Object | None = None) -> str:
    return await asyncio.to_thread(command, *arguments, given=given)


def command(*arguments: str, given: Object | None = None) -> str:
    text = json.dumps(given) if given is not None else None
    done = subprocess.run(["kubectl", *arguments], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def own_address() -> str:
    """An address of this machine that is not loopback, which EndpointSlices may not have. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address


async def until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    await processes.until(what, condition, seconds=60)
