"""What the control plane knows, over ``pyairtable.mesh.v1.StatusService``."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.message import Message

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.meshctl.problems import NO_CONTROL_PLANE, Problem

TOKEN_VARIABLE = "PYAIRTABLE_CONTROL_PLANE_TOKEN"  # noqa: S105 - a variable's name
PAGE_SIZE = 1_000
HEALTHY = mesh_pb2.ENDPOINT_STATE_HEALTHY
_METHODS = mesh_pb2.DESCRIPTOR.services_by_name["StatusService"].methods_by_name


@dataclass(frozen=True, slots=True)
class Inventory:
    """The services of one snapshot, sorted by name."""

    snapshot_version: str
    services: list[mesh_pb2.Service]


class ControlPlane:
    """A connected control plane; `token` says who asks, where it wants to know that."""

    def __init__(self, connection: rpc.Connection, token: str = "") -> None:
        self._connection = connection
        self._metadata: rpc.Metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def inventory(self) -> Inventory:
        """All services with their endpoints."""
        services: list[mesh_pb2.Service] = []
        request = mesh_pb2.ListServicesRequest(page_size=PAGE_SIZE)
        while True:
            page = await self._unary("ListServices", request, mesh_pb2.ListServicesResponse)
            services += page.services
            if not page.next_page_token:
                return Inventory(page.snapshot_version, services)
            request.page_token = page.next_page_token

    async def clients(self) -> list[mesh_pb2.Client]:
        """All clients that are connected to this control plane."""
        clients: list[mesh_pb2.Client] = []
        request = mesh_pb2.ListClientsRequest(page_size=PAGE_SIZE)
        while True:
            page = await self._unary("ListClients", request, mesh_pb2.ListClientsResponse)
            clients += page.clients
            if not page.next_page_token:
                return clients
            request.page_token = page.next_page_token

    async def watch(self) -> AsyncGenerator[tuple[Inventory, list[mesh_pb2.Client]], None]:
        """The whole state, again after each change. Runs until cancelled."""
        services: dict[str, mesh_pb2.Service] = {}
        clients: dict[str, mesh_pb2.Client] = {}
        request = mesh_pb2.WatchStatusRequest()
        stream = self._connection.call(_METHODS["WatchStatus"], [request], metadata=self._metadata)
        replacing = False
        async for response in stream:
            if not isinstance(response, mesh_pb2.WatchStatusResponse):
                raise TypeError("WatchStatus does not answer with WatchStatusResponse")
            if response.initial and not replacing:
                services.clear()
                clients.clear()
            replacing = response.initial
            for change in response.changes:
                match change.WhichOneof("change"):
                    case "service":
                        services[change.service.name] = change.service
                    case "client":
                        clients[change.client.name] = change.client
                    case "removed_name":
                        services.pop(change.removed_name, None)
                        clients.pop(change.removed_name, None)
            if response.changes or response.initial:
                inventory = Inventory(response.snapshot_version, [services[name] for name in sorted(services)])
                yield inventory, [clients[name] for name in sorted(clients)]

    async def _unary(self, method: str, request: Message, answer: type[rpc.Answer]) -> rpc.Answer:
        return await rpc.unary(self._connection, _METHODS[method], request, answer, metadata=self._metadata)


@asynccontextmanager
async def opened(connect: rpc.Connect, address: str, token: str = "") -> AsyncIterator[ControlPlane]:
    """The control plane at an address; a `Problem` in words as soon as a call shows that none answers there.

    A token is sent over the loopback alone, such as to a forwarded port.
    """
    if token and not rpc.is_loopback(address):
        step = "forward a port (kubectl port-forward service/pyairtable-operator 18000:18000) and name that"
        raise Problem(f"The token in {TOKEN_VARIABLE} does not go to {address} unencrypted.", step)
    async with connect(address) as connection:
        try:
            yield ControlPlane(connection, token)
        except CallError as error:
            if error.code == "UNAUTHENTICATED":
                error.next_step = f"put such a token into {TOKEN_VARIABLE}"
            if error.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
                raise
            raise Problem(
                f"No control plane answers at {address}.",
                "start the platform (make run), or name its address: --control-plane or PYAIRTABLE_CONTROL_PLANE;"
                " status and doctor find one in a cluster with --cluster",
                exit_code=NO_CONTROL_PLANE,
            ) from None


def label(service: mesh_pb2.Service) -> str:
    """What a person calls a service: its short name; for one that has none, the place of what is wrong."""
    return service.short_name or service.name.removeprefix("services/")


def matches(service: mesh_pb2.Service, name: str) -> bool:
    """Whether a person who says `name` may mean this service: short or canonical, in its forms."""
    host = service.canonical_name.partition(":")[0]
    return name in {service.short_name, f"{service.short_name}.{service.namespace}", host, service.canonical_name}


def find(inventory: Inventory, name: str) -> mesh_pb2.Service:
    """The one service that a person means. Raises `Problem` for none or several."""
    found = [service for service in inventory.services if matches(service, name)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{service.short_name}.{service.namespace}" for service in found)
        raise Problem(f"{name} is in several namespaces.", f"name one of {names}")
    known = ", ".join(sorted({service.short_name for service in inventory.services} - {""})) or "none"
    raise Problem(f"The mesh has no service {name}; it has: {known}.", "meshctl services")


def address_of(service: mesh_pb2.Service) -> str:
    """The first address that takes calls. Raises `Problem` when none does."""
    for endpoint in service.endpoints:
        if endpoint.state == HEALTHY:
            return endpoint.address
    raise Problem(f"No endpoint of {service.short_name} takes calls.", "meshctl doctor")


def refusals(client: mesh_pb2.Client) -> list[mesh_pb2.ClientSubscription]:
    """What the client has refused (NACK) and not accepted since."""
    return [subscription for subscription in client.subscriptions if subscription.refused_version]
