"""``meshctl doctor``: looks at a running platform, and says what is wrong and what to do."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from grpc_health.v1 import health_pb2

from pyairtable.common.v1 import common_pb2
from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl import control_plane, mesh, output, rpc
from pyairtable_mesh.meshctl.cluster import diagnosis, preflight
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import CONTROL_PLANE, Place, cluster_options
from pyairtable_mesh.meshctl.control_plane import Inventory
from pyairtable_mesh.meshctl.credentials import Credentials, Token
from pyairtable_mesh.meshctl.environment import Environment, control_plane_option
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.meshctl.findings import Finding, report
from pyairtable_mesh.meshctl.problems import WRONG, Problem

LOG_IN = "meshctl login --user NAME"
AT_ONCE = 32
"""Endpoints that are looked at at the same time."""
_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]
_DIAGNOSTICS = common_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"].methods_by_name["GetHealthReport"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What an endpoint has answered: its health, and its report or why there is none."""

    service: str
    address: str
    serving: bool = False
    failure: CallError | None = None
    report: common_pb2.HealthReport | None = None
    refusal: CallError | None = None


@click.command()
@cluster_options
@output.output_option
@control_plane_option
@click.pass_obj
def doctor(environment: Environment, form: output.Form, plane: str, place: Place | None) -> None:
    """Look for what is wrong with a running platform.

    Asks the control plane for services and clients, every endpoint for its health and dependencies, and tries your
    token. With --cluster: looks at a release, its pods, Lease and tokens, and at what its control plane knows. Ends
    with 1 when something is wrong.
    """
    if not report(asyncio.run(examine_release(environment, place) if place else examine(environment, plane)), form):
        click.get_current_context().exit(WRONG)


async def examine(environment: Environment, address: str) -> list[Finding]:
    """Every finding about the platform behind a control plane."""
    token, findings = _token(Credentials(environment.variables), environment.now())
    try:
        async with control_plane.opened(environment.connect, address, environment.control_plane_token) as plane:
            inventory, clients = await plane.inventory(), await plane.clients()
    except Problem as problem:
        return [Finding("fail", "control plane", problem.message, problem.next_step), *findings]
    reached = Finding("ok", "control plane", f"answers at {address}, snapshot {inventory.snapshot_version[:12]}")
    visits = await _visit_all(environment.connect, inventory, token)
    return [
        reached,
        *(finding for service in inventory.services for finding in of_service(service)),
        *(finding for visit in visits for finding in of_visit(visit)),
        *findings,
        *of_token(token, visits),
        *of_clients(clients),
    ]


async def examine_release(environment: Environment, place: Place) -> list[Finding]:
    """Every finding about a release in a cluster; its endpoints can't be asked from here, so its pods are looked at."""
    kubectl = Kubectl(environment.run_program, place.context)
    reached = await asyncio.to_thread(preflight.reached, kubectl)
    if any(finding.state == "fail" for finding in reached):
        return reached
    findings = reached + await diagnosis.examine(kubectl, place, environment.now())
    return findings + await _of_control_plane(environment, kubectl, place)


async def _of_control_plane(environment: Environment, kubectl: Kubectl, place: Place) -> list[Finding]:
    try:
        async with (
            kubectl.forwarded(place.namespace, *CONTROL_PLANE) as address,
            control_plane.opened(environment.connect, address, environment.control_plane_token) as plane,
        ):
            inventory, clients = await plane.inventory(), await plane.clients()
        members = await asyncio.to_thread(diagnosis.members, kubectl, place)
    except CallError as refusal:
        step = "meshctl looks at the rest without; give it a token as the words above say"
        return [Finding("warn", "control plane", f"does not tell what it knows: {refusal.message}", step)]
    except Problem as problem:
        return [Finding("fail", "control plane", problem.told(), problem.next_step)]
    return [
        Finding("ok", "control plane", f"answers, snapshot {inventory.snapshot_version[:12]}"),
        *(finding for service in inventory.services for finding in of_service(service)),
        *diagnosis.of_registered(members, inventory.services),
        *of_clients(clients),
    ]


def _token(credentials: Credentials, now: datetime) -> tuple[Token | None, list[Finding]]:
    try:
        token = credentials.token()
    except Problem as problem:
        return None, [Finding("fail", "token", problem.message, problem.next_step)]
    if token is None:
        return None, [Finding("warn", "token", "there is none, so dependencies cannot be asked for", LOG_IN)]
    if token.expired(now):
        return None, [Finding("fail", "token", f"expired at {token.expiry:%Y-%m-%d %H:%M} UTC", LOG_IN)]
    return token, []


async def _visit_all(connect: rpc.Connect, inventory: Inventory, token: Token | None) -> list[Visit]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def visit(service: str, address: str) -> Visit:
        async with limit:
            return await _visit(connect, service, address, token)

    places = [
        (service.short_name, endpoint.address) for service in inventory.services for endpoint in service.endpoints
    ]
    return await asyncio.gather(*(visit(service, address) for service, address in places))


async def _visit(connect: rpc.Connect, service: str, address: str, token: Token | None) -> Visit:
    async with connect(address) as connection:
        try:
            health = await rpc.unary(
                connection, _HEALTH, health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse
            )
        except CallError as error:
            return Visit(service, address, failure=error)
        serving = health.status == health_pb2.HealthCheckResponse.SERVING
        if token is None or not rpc.is_loopback(address):
            return Visit(service, address, serving)
        try:
            request = common_pb2.GetHealthReportRequest()
            metadata = [("authorization", f"Bearer {token.text}")]
            answer = await rpc.unary(connection, _DIAGNOSTICS, request, common_pb2.HealthReport, metadata=metadata)
        except CallError as error:
            return Visit(service, address, serving, refusal=error)
        return Visit(service, address, serving, report=answer)


def of_service(service: mesh_pb2.Service) -> Iterator[Finding]:
    """What the control plane knows to be wrong with a service."""
    name = control_plane.label(service)
    if mesh.service_state(service) == "no endpoints":
        words = "no endpoint takes calls" if service.endpoints else "no endpoint is registered"
        yield Finding("fail", name, words, f"start it, or look at the log of {name}")
    for problem in service.problems:
        yield Finding("warn" if service.endpoints else "fail", name, problem, "correct what it names")


def of_visit(visit: Visit) -> Iterator[Finding]:
    """What an endpoint itself has told."""
    subject = f"{visit.service} {visit.address}"
    if visit.failure is not None:
        words = f"does not answer ({visit.failure.code})"
        yield Finding("fail", subject, words, f"look whether its process runs, and at the log of {visit.service}")
        return
    sick = (
        [row for row in visit.report.dependencies if row.state != common_pb2.HEALTH_STATE_HEALTHY]
        if visit.report
        else []
    )
    for row in sick:
        state = common_pb2.HealthState.Name(row.state).removeprefix("HEALTH_STATE_").lower()
        words = f"{row.name} is {state}" + (f": {row.message}" if row.message else "")
        yield Finding("fail" if row.required else "warn", subject, words, f"look at {row.name}")
    if not visit.serving:
        yield Finding("fail", subject, "answers NOT_SERVING", f"look at the log of {visit.service}")
    if visit.refusal is not None and visit.refusal.code != "UNAUTHENTICATED":
        words = f"does not report its dependencies ({visit.refusal.code})"
        yield Finding("warn", subject, words, f"look at the log of {visit.service}")
    if visit.serving and not sick:
        healthy = output.joined(row.name for row in visit.report.dependencies) if visit.report else ""
        yield Finding("ok", subject, f"SERVING; healthy: {healthy}" if healthy else "SERVING")


def of_token(token: Token | None, visits: Sequence[Visit]) -> Iterator[Finding]:
    """Whether the services accept the token: one finding, not one for each of them."""
    refused = [visit for visit in visits if visit.refusal is not None and visit.refusal.code == "UNAUTHENTICATED"]
    if refused and refused[0].refusal is not None:
        names = output.joined(sorted({visit.service for visit in refused}))
        yield Finding("fail", "token", f"refused by {names} ({refused[0].refusal.reason or 'no reason given'})", LOG_IN)
    elif token is not None and any(visit.report for visit in visits):
        until = f" until {token.expiry:%Y-%m-%d %H:%M} UTC" if token.expiry else ""
        yield Finding("ok", "token", f"{token.subject} in {token.tenant}{until}")


def of_clients(clients: Sequence[mesh_pb2.Client]) -> Iterator[Finding]:
    """Which clients refuse what is served to them (NACK), or have not answered yet."""
    for client in clients:
        subject = f"client {client.node_id}"
        for row in control_plane.refusals(client):
            kind = mesh.SHORT_TYPES.get(row.type, "?")
            words = f"refuses {kind} {row.refused_version[:12]} and stays with the version before: {row.refusal}"
            yield Finding("fail", subject, words, "correct what its words name; meshctl services shows problems")
        if mesh.client_state(client) == "behind":
            yield Finding("warn", subject, "has not answered what was sent last", "if it stays so, look at its log")
    if all(mesh.client_state(client) == "current" for client in clients):
        yield Finding("ok", "clients", f"{len(clients)} connected, all take what is served")
