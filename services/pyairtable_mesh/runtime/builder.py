"""Builds a service's process from its `Service` value and settings: the runtime's composition root."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from pyairtable.common.v1 import common_pb2, common_pb2_grpc, events_pb2_grpc
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import (
    access,
    database,
    engines,
    interceptors,
    maintenance,
    migrations,
    pagination,
    registration,
    telemetry,
)
from pyairtable_mesh.runtime.authorizer import Authorizer, PeerAuthorizer
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.diagnostics import DiagnosticsServicer
from pyairtable_mesh.runtime.errors import FailedPrecondition
from pyairtable_mesh.runtime.events import EventServicer
from pyairtable_mesh.runtime.health import Dependency, Health
from pyairtable_mesh.runtime.interceptors.call import Interceptor
from pyairtable_mesh.runtime.pagination import Sealer
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.reflection import enable
from pyairtable_mesh.runtime.replica.asked import types_asked
from pyairtable_mesh.runtime.replica.authorizer import ReplicaAuthorizer
from pyairtable_mesh.runtime.replica.follower import Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from pyairtable_mesh.runtime.replica.report import Report
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.server import Running, new_server
from pyairtable_mesh.runtime.service import Background, Parts, Registration, Runtime, S, Service
from pyairtable_mesh.runtime.settings import Settings, SettingsError
from pyairtable_mesh.runtime.tokens import Authenticator, KeyAccess, KeySet
from pyairtable_mesh.runtime.validation import SchemaValidator

_DIAGNOSTICS = "DiagnosticsService"


def runtime_access(subscribers: Iterable[str]) -> dict[str, access.AccessTable]:
    """Rows of what the runtime adds to every service."""
    return {
        "pyairtable.common.v1.DiagnosticsService": {
            "GetHealthReport": access.authenticated() | access.workload(access.ANY),
            "GetServiceInfo": access.tenant("manage_access") | access.workload(access.ANY),
        },
        "pyairtable.common.v1.EventService": {"Subscribe": access.workload(*subscribers)},
    }


def database_url(service: str, settings: Settings) -> str:
    """Where the service's data is; a SQLite file in the working directory when nothing is set."""
    return settings.database_url or f"sqlite:///{service}.db"


def check(service: Service[S], settings: S) -> None:
    """`SettingsError` for values that fit their types and not their purpose; they are not repeated."""
    problems: list[str] = []
    if service.migrations is not None:
        try:
            engines.parsed(database_url(service.name, settings))
        except ValueError as error:
            problems.append(f"{settings.prefix}DATABASE_URL: {error}")
    if any("=" not in pair for pair in settings.peers.split(",") if pair):
        problems.append(f"{settings.prefix}PEERS: Expected service=host:port,service=host:port")
    if settings.sealing_key_file and not _is_sealing_key(Path(settings.sealing_key_file)):
        problems.append(
            f"{settings.prefix}SEALING_KEY_FILE: Expected a file with at least {pagination.KEY_BYTES} bytes"
        )
    if problems:
        raise SettingsError(problems)


def _is_sealing_key(path: Path) -> bool:
    try:
        return path.stat().st_size >= pagination.KEY_BYTES
    except OSError:
        return False


async def migrate(service: Service[S], settings: S) -> None:
    """Bring the service's database up to date; nothing to do for one without."""
    if service.migrations is not None:
        wait = timedelta(seconds=settings.database_wait_seconds)
        async with database.opened(database_url(service.name, settings), service=service.name, wait=wait) as store:
            await migrations.upgrade(store, service.migrations)


async def build(
    service: Service[S], settings: S, instance: str, clock: Callable[[], datetime], resources: AsyncExitStack
) -> Running:
    """Everything of the process but its listening; what must be closed is entered into `resources`."""
    observer = telemetry.start(
        service.name,
        namespace=settings.namespace,
        instance=instance,
        sample_ratio=settings.trace_sample_ratio if telemetry.exports() else 0.0,
        lean=settings.telemetry_grpc == "lean",
    )
    resources.callback(observer.close)
    store, sealer = await _data(service, settings, clock, resources)
    peers = Peers(
        control_plane=settings.control_plane,
        addresses=dict(pair.split("=", 1) for pair in settings.peers.split(",") if pair),
        own_token=WorkloadToken(settings.workload_token_file),
        telemetry=observer,
        retries=RetryPolicy(),
        max_message_bytes=settings.max_message_bytes,
    )
    resources.push_async_callback(peers.close)
    validator = SchemaValidator()
    leaving = asyncio.Event()
    parts = service.build(Runtime(settings, peers, validator, clock, store, sealer, leaving, observer.meter))
    authorization = _authorization(service, settings, parts, peers, store, observer, clock)
    stack = interceptors.stack(settings, observer, _authenticator(settings), authorization.authorizer, validator)
    return _assemble(service, settings, parts, stack, store, observer, leaving, authorization)


async def _data(
    service: Service[Any], settings: Settings, clock: Callable[[], datetime], resources: AsyncExitStack
) -> tuple[Database | None, Sealer | None]:
    if service.migrations is None:
        return None, None
    url = database_url(service.name, settings)
    wait = timedelta(seconds=settings.database_wait_seconds)
    store = await resources.enter_async_context(database.opened(url, service=service.name, clock=clock, wait=wait))
    if settings.migrate:
        await migrations.upgrade(store, service.migrations)
    elif await migrations.pending(store, service.migrations):
        words = f"the database's schema is older than this release: run `{service.name} migrate`"
        raise FailedPrecondition(words)
    if settings.sealing_key_file:
        return store, Sealer(await asyncio.to_thread(Path(settings.sealing_key_file).read_bytes))
    return store, Sealer(await pagination.sealing_key(store))


@dataclass(frozen=True, slots=True)
class _Authorization:
    """Who authorizes calls, what runs for it beside them, and what the health report says of it."""

    authorizer: Authorizer
    background: Sequence[Background] = ()
    reports: Sequence[Callable[[], Dependency]] = ()


def _authorization(
    service: Service[Any],
    settings: Settings,
    parts: Parts,
    peers: Peers,
    store: Database | None,
    observer: telemetry.Telemetry,
    clock: Callable[[], datetime],
) -> _Authorization:
    if parts.authorizer is not None:
        return _Authorization(parts.authorizer)
    stub = peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission")
    server = PeerAuthorizer(stub)
    if settings.authorizer == "peer":
        return _Authorization(server)
    described = [*map(registration.describe, parts.servicers), common_pb2.DESCRIPTOR.services_by_name[_DIAGNOSTICS]]
    types = types_asked(described, {**service.access, **runtime_access(service.subscribers)})
    bounds = Bounds(settings.replica_tenants, settings.replica_facts, settings.replica_idle_seconds)
    replicas = Replicas(stub, Wanted(types, settings.replica_budget_seconds, settings.replica_skew_seconds), bounds)
    log = DecisionLog(store, clock, settings.audit_allowed_ratio) if store is not None else None
    if log is not None:
        log.observe(observer.meter)
    authorizer = ReplicaAuthorizer(replicas, server, log, clock)
    report = Report(replicas, authorizer)
    report.observe(observer.meter)
    return _Authorization(authorizer, [replicas.run, *([log.run] if log is not None else ())], [report.dependency])


def _authenticator(settings: Settings) -> Authenticator:
    to_workload_keys = KeyAccess(settings.workload_jwks_authority_file, settings.workload_jwks_token_file)
    return Authenticator(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        keys=KeySet(settings.jwks),
        trust_domain=settings.trust_domain,
        workload_issuer=settings.workload_issuer,
        workload_keys=KeySet(settings.workload_jwks, to_workload_keys),
    )


def _assemble(
    service: Service[Any],
    settings: Settings,
    parts: Parts,
    stack: tuple[Interceptor, ...],
    store: Database | None,
    observer: telemetry.Telemetry,
    leaving: asyncio.Event,
    authorization: _Authorization,
) -> Running:
    server = new_server(settings.max_message_bytes, telemetry.official(settings.telemetry_grpc, observer))
    checks = dict(parts.health)
    registrations: list[Registration] = [*parts.servicers]
    if store is not None:
        checks["database"] = store.ping
        registrations.append(
            (events_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(store, leaving=leaving))
        )
    names = [registration.describe(item).full_name for item in parts.servicers]
    health = Health(names, checks)
    telemetry.observe_dependencies(observer, health.answering)
    diagnostics = DiagnosticsServicer(service.name, settings, health, names, authorization.reports)
    registrations.append((common_pb2_grpc.add_DiagnosticsServiceServicer_to_server, diagnostics))
    served = registration.register(
        server, registrations, {**service.access, **runtime_access(service.subscribers)}, stack
    )
    _add_standard(server, health, served, reflection=settings.reflection)
    background = [health.watch, *parts.background, *authorization.background]
    if store is not None:
        background.append(partial(maintenance.run, store))
    probes = new_server(settings.max_message_bytes)
    return Running(service.name, settings, server, probes, health, background, observer.registry, leaving)


def _add_standard(server: grpc.aio.Server, health: Health, served: list[str], *, reflection: bool) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    if reflection:
        enable(server, [*served, "grpc.health.v1.Health"])
