"""The ADS server: clients' streams on one side, the newest snapshot on the other."""

import asyncio
import dataclasses
import ipaddress
import itertools
import logging
import time
from collections.abc import AsyncIterator
from typing import TypeAlias
from urllib import parse

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator import model
from pyairtable_operator.workloads import Workloads
from pyairtable_operator.xds.responses import Responses
from pyairtable_operator.xds.session import Limits, ProtocolError, Session
from pyairtable_operator.xds.snapshot import Snapshot

SERVICE_NAME = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_KEPT_SNAPSHOTS = 16
_PROOF_SECONDS = 10.0
"""How long an address may take to become known: less than the 15 seconds that clients wait for an answer."""

_log = logging.getLogger(__name__)

_Context: TypeAlias = "grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, bytes]"


@dataclasses.dataclass(slots=True, eq=False)
class Client:
    """A connected stream: who it is and what it holds. `connected_at` is in seconds since the epoch.

    It gets no answer before it is `admitted`; `workload` is what is proven about it.
    """

    id: int
    peer: str
    connected_at: float
    session: Session
    admitted: bool = False
    workload: model.Workload | None = None
    wake: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class NotProvenError(Exception):
    """The client claims a namespace that its address does not prove; the message is for the client."""


class Hub:
    """The newest answers, the clients that wait for them, and the last few snapshots by version.

    `published` counts snapshots, `refused` answers that clients refused; both since the process began.
    `changed` is set, and another event put in its place, with a new snapshot and with whatever clients do: who takes
    it before looking misses nothing. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self.responses: Responses | None = None
        self.kept: dict[str, Snapshot] = {}
        self.clients: dict[int, Client] = {}
        self.published = 0
        self.refused = 0
        self.closing = False
        self._ids = itertools.count(1)
        self._changed: asyncio.Event | None = None

    @property
    def changed(self) -> asyncio.Event:
        """See the class. Nobody looks at most changes, so it is made when somebody does."""
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    def publish(self, snapshot: Snapshot) -> None:
        """Let every client have the snapshot. One that is busy finds the newest when it is done.

        One of the same version differs in what is told about services, not in what they are served as.
        """
        if self.responses is not None and self.responses.snapshot.version == snapshot.version:
            self.kept[snapshot.version] = self.responses.snapshot = snapshot
            self._tell()
            return
        self.published += 1
        self.responses = Responses(snapshot)
        self.kept.pop(snapshot.version, None)
        self.kept[snapshot.version] = snapshot
        if len(self.kept) > _KEPT_SNAPSHOTS:
            del self.kept[next(iter(self.kept))]
        self._wake_all()

    def close(self) -> None:
        """End every stream: its client turns to another replica, or waits for this one to come back."""
        self.closing = True
        self._wake_all()

    def connect(self, peer: str, session: Session) -> Client:
        """Take a client in."""
        client = Client(next(self._ids), peer, time.time(), session)
        self.clients[client.id] = client
        self._tell()
        return client

    def receive(self, client: Client, request: discovery_pb2.DiscoveryRequest) -> None:
        """Take in what a client asks or says. Raises ProtocolError."""
        self.refused += request.HasField("error_detail")
        client.session.receive(request)
        if self.responses is not None and client.session.may_need(self.responses):
            client.wake.set()
        self._tell()

    def disconnect(self, client: Client) -> None:
        """Forget a client."""
        del self.clients[client.id]
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _wake_all(self) -> None:
        for client in self.clients.values():
            client.wake.set()
        self._tell()


class AggregatedDiscovery:
    """`StreamAggregatedResources`, state of the world. Delta is left unimplemented: C-core does not speak it.

    With `workloads` a client is believed the namespace of its node id only when a workload of that namespace has the
    address that it is connected from. Who claims none gets canonical names alone.
    """

    def __init__(self, hub: Hub, *, limits: Limits, max_streams: int, workloads: Workloads | None = None) -> None:
        self._hub = hub
        self._limits = limits
        self._max_streams = max_streams
        self._workloads = workloads

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to add to a server. Answers are bytes already."""
        method: grpc.RpcMethodHandler[discovery_pb2.DiscoveryRequest, bytes] = grpc.stream_stream_rpc_method_handler(
            self.stream, request_deserializer=discovery_pb2.DiscoveryRequest.FromString
        )
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"StreamAggregatedResources": method})

    async def stream(self, _: AsyncIterator[discovery_pb2.DiscoveryRequest], context: _Context) -> None:
        """Serve one client until it leaves, breaks a limit, or the server stops."""
        if len(self._hub.clients) >= self._max_streams:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "this control plane has all the streams it takes")
        client = self._hub.connect(context.peer(), Session(self._limits))
        reader = asyncio.create_task(self._read(context, client))
        reader.add_done_callback(lambda _: client.wake.set())
        try:
            await self._write(client, reader, context)
            if reader.done():
                reader.result()
            else:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
        except ProtocolError as error:
            _log.warning("client refused", extra={"node": client.session.node.id, "peer": client.peer})
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except NotProvenError as error:
            _log.warning("client not believed", extra={"node": client.session.node.id, "peer": client.peer})
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        finally:
            reader.cancel()
            self._hub.disconnect(client)

    async def _write(self, client: Client, reader: "asyncio.Task[None]", context: _Context) -> None:
        while not reader.done() and not self._hub.closing:
            client.wake.clear()
            # Each answer is made from what is newest then; write() returns when the transport has taken it, so a
            # client that reads slowly holds up itself alone.
            while client.admitted and self._hub.responses is not None:
                message = client.session.next_response(self._hub.responses)
                if message is None:
                    break
                await context.write(message)
            await client.wake.wait()

    async def _read(self, context: _Context, client: Client) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            self._hub.receive(client, request)
            if not client.admitted:
                await self._admit(client)

    async def _admit(self, client: Client) -> None:
        if self._workloads is not None:
            claimed, address = client.session.node.namespace, address_of(client.peer)
            client.workload = await self._workloads.at(address, _PROOF_SECONDS if claimed else 0)
            if claimed and client.workload is None:
                raise NotProvenError(
                    f"no pod of the cluster is known at {address}, so that namespace {claimed} in the node id is not "
                    "proven: connect from a pod with an address of its own, or use a node id without a namespace "
                    "and canonical names"
                )
            if claimed and client.workload is not None and client.workload.namespace != claimed:
                raise NotProvenError(
                    f"the node id claims namespace {claimed}, and the pod at {address} is not of it: a node id is "
                    "<namespace of the pod>/<service>/<instance>"
                )
        client.admitted = True
        client.wake.set()


def address_of(peer: str) -> str:
    """Return the IP address of a peer as gRPC writes it, such as `ipv4:10.0.0.1:9` or `ipv6:%5B::1%5D:9`."""
    address = parse.unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)
