"""``meshctl services``, ``endpoints``, ``clients``: what the control plane knows."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import click

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl import caller, control_plane, output
from pyairtable_mesh.meshctl.control_plane import Inventory
from pyairtable_mesh.meshctl.environment import Environment, control_plane_option
from pyairtable_mesh.meshctl.output import Form, Table

SHORT_TYPES = {
    mesh_pb2.RESOURCE_TYPE_LISTENER: "LDS",
    mesh_pb2.RESOURCE_TYPE_ROUTE_CONFIGURATION: "RDS",
    mesh_pb2.RESOURCE_TYPE_CLUSTER: "CDS",
    mesh_pb2.RESOURCE_TYPE_ENDPOINTS: "EDS",
    mesh_pb2.RESOURCE_TYPE_POLICY: "policy",
}
State = tuple[Inventory, list[mesh_pb2.Client]]


@click.command()
@output.output_option
@control_plane_option
@click.pass_obj
def services(environment: Environment, form: Form, plane: str) -> None:
    """List the services that clients can reach by name, `xds:///NAME`."""
    inventory = asyncio.run(caller.inventory(environment, plane))
    output.emit(form, [output.to_data(service) for service in inventory.services], lambda: services_table(inventory))


@click.command()
@click.argument("service", required=False)
@output.output_option
@control_plane_option
@click.pass_obj
def endpoints(environment: Environment, service: str | None, form: Form, plane: str) -> None:
    """List the addresses that services answer at, of all services or of SERVICE."""
    inventory = asyncio.run(caller.inventory(environment, plane))
    shown = [control_plane.find(inventory, service)] if service else inventory.services
    data = [{"service": known.name, **output.to_data(endpoint)} for known in shown for endpoint in known.endpoints]
    output.emit(form, data, lambda: endpoints_table(shown))


@click.command()
@output.output_option
@control_plane_option
@click.pass_obj
def clients(environment: Environment, form: Form, plane: str) -> None:
    """List who is connected to the control plane, and who refuses what it serves."""
    connected = asyncio.run(_clients(environment, plane))
    output.emit(form, [output.to_data(client) for client in connected], lambda: clients_table(connected))


async def _clients(environment: Environment, address: str) -> list[mesh_pb2.Client]:
    async with control_plane.opened(environment.connect, address, environment.control_plane_token) as plane:
        return await plane.clients()


def status_data(address: str, state: State) -> dict[str, Any]:
    """The state for a program."""
    inventory, connected = state
    return {
        "controlPlane": address,
        "snapshotVersion": inventory.snapshot_version,
        "services": [
            {
                "name": service.name,
                "state": service_state(service),
                "endpoints": len(service.endpoints),
                "healthyEndpoints": len(_healthy(service)),
                "problems": list(service.problems),
            }
            for service in inventory.services
        ],
        "clients": len(connected),
        "refusingClients": sum(bool(control_plane.refusals(client)) for client in connected),
    }


def status_table(address: str, state: State) -> Table:
    """The state for a person."""
    inventory, connected = state
    rows = [
        (
            control_plane.label(service),
            service_state(service),
            f"{len(_healthy(service))}/{len(service.endpoints)}",
            f"{service.acknowledgement.acknowledged_clients}/{service.acknowledgement.subscribed_clients}",
            output.joined(service.problems, 1),
        )
        for service in inventory.services
    ]
    refusing = sum(bool(control_plane.refusals(client)) for client in connected)
    seen = f"{len(connected)} clients, {refusing} refusing."
    note = f"{seen} Control plane {address}, snapshot {inventory.snapshot_version[:12]}."
    return Table(("SERVICE", "STATE", "HEALTHY", "CURRENT CLIENTS", "PROBLEM"), rows, [note])


def services_table(inventory: Inventory) -> Table:
    """One row for each service."""
    rows = [
        (
            control_plane.label(service),
            service.canonical_name,
            f"{len(_healthy(service))}/{len(service.endpoints)}",
            output.joined(service.identities, 1),
            service.version[:12],
        )
        for service in inventory.services
    ]
    return Table(("SERVICE", "CANONICAL NAME", "HEALTHY", "IDENTITY", "VERSION"), rows, _nothing(rows, "services"))


def endpoints_table(shown: Iterable[mesh_pb2.Service]) -> Table:
    """One row for each endpoint."""
    rows = [
        (
            control_plane.label(service),
            endpoint.address,
            mesh_pb2.EndpointState.Name(endpoint.state).removeprefix("ENDPOINT_STATE_").lower(),
            str(endpoint.weight),
            endpoint.locality.zone or endpoint.locality.region,
            endpoint.instance,
        )
        for service in shown
        for endpoint in service.endpoints
    ]
    return Table(("SERVICE", "ADDRESS", "STATE", "WEIGHT", "ZONE", "INSTANCE"), rows, _nothing(rows, "endpoints"))


def clients_table(connected: Iterable[mesh_pb2.Client]) -> Table:
    """One row for each client."""
    rows = [
        (
            client.node_id,
            client.peer_address,
            client.user_agent,
            f"{client.connect_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC",
            output.joined(
                (f"{SHORT_TYPES.get(one.type, '?')} {len(one.resource_names)}" for one in client.subscriptions), 5
            ),
            client_state(client),
            next((one.refusal for one in control_plane.refusals(client)), ""),
        )
        for client in connected
    ]
    titles = ("NODE", "ADDRESS", "LIBRARY", "SINCE", "SUBSCRIPTIONS", "STATE", "REFUSAL")
    return Table(titles, rows, _nothing(rows, "clients"))


def service_state(service: mesh_pb2.Service) -> str:
    """The worst that is to be said of a service, in a word."""
    if service.problems and not service.endpoints:
        return "problem"
    if not _healthy(service):
        return "no endpoints"
    if service.acknowledgement.refused_clients:
        return "refused"
    return "problem" if service.problems else "ready"


def client_state(client: mesh_pb2.Client) -> str:
    """Whether a client has taken what was sent to it, in a word."""
    if control_plane.refusals(client):
        return "refused"
    behind = any(one.sent_version != one.acknowledged_version for one in client.subscriptions)
    return "behind" if behind else "current"


def _healthy(service: mesh_pb2.Service) -> list[mesh_pb2.Endpoint]:
    return [endpoint for endpoint in service.endpoints if endpoint.state == control_plane.HEALTHY]


def _nothing(rows: Sequence[tuple[str, ...]], what: str) -> list[str]:
    return [] if rows else [f"No {what}."]
