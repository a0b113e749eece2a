"""What a run starts: a process for each instance of each service and one for the control plane, with all settings."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

import pyairtable_mesh
from pyairtable_laptop import issuer, ports
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime import xds

CONTROL_PLANE = "control-plane"
REMOVAL_SECONDS = 0.3
DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one process; 0 where it has none."""

    grpc: int
    health: int
    metrics: int = 0

    def named(self) -> Iterator[tuple[str, int]]:
        """Each port that is there with what it is for; one that serves two purposes once."""
        for purpose, port in (("gRPC", self.grpc), ("health", self.health), ("metrics", self.metrics)):
            if port and not (purpose == "health" and port == self.grpc):
                yield purpose, port


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start one process.

    `name` tells it from other instances of `service`. `follows` is the process that must be SERVING first (the one
    that brings the shared database up to date).
    """

    name: str
    service: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: Ports
    log: Path
    follows: str = ""

    @property
    def address(self) -> str:
        """``host:port`` of its RPCs."""
        return f"{ports.HOST}:{self.ports.grpc}"

    @property
    def health_address(self) -> str:
        """``host:port`` of grpc.health.v1."""
        return f"{ports.HOST}:{self.ports.health}"


FIXED_PORTS: Mapping[str, Ports] = {
    CONTROL_PLANE: Ports(18000, 18000),
    "permission": Ports(50051, 50053, 9464),
    "user": Ports(50061, 50063, 9465),
    "audit": Ports(50071, 50073, 9466),
}
"""Whoever is not here (a service that `make new-service` made) gets free ports."""


def services() -> list[str]:
    """Every service of this checkout; those with fixed ports first."""
    known = [name for name in FIXED_PORTS if name != CONTROL_PLANE]
    # Not by `pyairtable_mesh.__main__`, which imports a whole service: that would delay every start by a second.
    folders = [Path(place) for place in pyairtable_mesh.__path__]
    found = sorted(app.parent.name for folder in folders for app in folder.glob("*/app.py"))
    return known + [name for name in found if name not in {*known, "meshctl"}]


def plans(folder: DataFolder, instances: Mapping[str, int], *, free_ports: bool) -> list[Plan]:
    """The control plane first, then every instance; those beyond a service's first get free ports in any case."""
    root = folder.root.resolve()
    chosen = ports.free()
    wanted = {CONTROL_PLANE: _free(chosen, metrics=False) if free_ports else FIXED_PORTS[CONTROL_PLANE]}
    for service in services():
        wanted[service] = _free(chosen) if free_ports or service not in FIXED_PORTS else FIXED_PORTS[service]
        for number in range(2, instances.get(service, 1) + 1):
            wanted[f"{service}-{number}"] = _free(chosen)
    absolute = DataFolder(root)
    control_plane = _control_plane(absolute, wanted.pop(CONTROL_PLANE))
    return [control_plane, *(_ours(absolute, name, taken, control_plane.address) for name, taken in wanted.items())]


def joined(folder: DataFolder, name: str, command: Sequence[str], control_plane: str, port: int = 0) -> Plan:
    """A service of one's own, run by any command, beside the platform at `control_plane`; 0 is any free port.

    Its environment has the xDS bootstrap too: what our runtime makes of the settings, other languages can't.
    """
    chosen = (each for each in ports.free() if each != port)
    taken = Ports(port or next(chosen), next(chosen), next(chosen))
    made = _instance(DataFolder(folder.root.resolve()), name, name, command, taken, control_plane)
    environment = dict(made.environment)
    xds.configure(
        environment, control_plane=control_plane, service=name, namespace=issuer.NAMESPACE, instance=made.name
    )
    return replace(made, environment=environment)


def check_ports(wanted: Sequence[Plan], option: str = "--free-ports") -> None:
    """click.ClickException that names every port in use, what it is for, who has it and what to do."""
    taken = [
        f"  {port} ({plan.name}, {purpose}): used by {ports.user_of(port)}"
        for plan in wanted
        for purpose, port in plan.ports.named()
        if not ports.is_free(port)
    ]
    if taken:
        raise click.ClickException(
            "\n".join(["nothing was started, because these ports are in use:", *taken])
            + f"\nStop what uses them, or run on other ports: {option}"
        )


def _free(chosen: Iterator[int], *, metrics: bool = True) -> Ports:
    port = next(chosen)
    return Ports(port, next(chosen), next(chosen)) if metrics else Ports(port, port)


def _inherited() -> dict[str, str]:
    """The environment without what would lead gRPC past this platform."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_XDS_BOOTSTRAP")}
    return {**kept, "no_grpc_proxy": ",".join(filter(None, (kept.get("no_grpc_proxy"), "127.0.0.1,localhost")))}


def _control_plane(folder: DataFolder, taken: Ports) -> Plan:
    environment = {
        "PYAIRTABLE_OPERATOR_MESH_FILE": str(folder.mesh),
        "PYAIRTABLE_OPERATOR_HOST": ports.HOST,
        "PYAIRTABLE_OPERATOR_PORT": str(taken.grpc),
        "PYAIRTABLE_OPERATOR_LOG_FORMAT": "console",
    }
    return Plan(
        CONTROL_PLANE,
        CONTROL_PLANE,
        (sys.executable, "-m", "pyairtable_operator"),
        {**_inherited(), **environment},
        taken,
        folder.logs / f"{CONTROL_PLANE}.log",
    )


def _ours(folder: DataFolder, name: str, taken: Ports, control_plane: str) -> Plan:
    service = name.partition("-")[0]
    return _instance(folder, name, service, (sys.executable, "-m", "pyairtable_mesh", service), taken, control_plane)


def _instance(
    folder: DataFolder, name: str, service: str, command: Sequence[str], taken: Ports, control_plane: str
) -> Plan:
    first = name == service
    environment = {
        "PYAIRTABLE_ENVIRONMENT": "development",
        "PYAIRTABLE_HOST": ports.HOST,
        "PYAIRTABLE_GRPC_PORT": str(taken.grpc),
        "PYAIRTABLE_HEALTH_PORT": str(taken.health),
        "PYAIRTABLE_METRICS_PORT": str(taken.metrics),
        "PYAIRTABLE_DATABASE_URL": f"sqlite:///{folder.databases / service}.db",
        "PYAIRTABLE_MIGRATE": str(first).lower(),
        "PYAIRTABLE_NAMESPACE": issuer.NAMESPACE,
        "PYAIRTABLE_INSTANCE": name,
        "PYAIRTABLE_CONTROL_PLANE": control_plane,
        "PYAIRTABLE_TRUST_DOMAIN": issuer.TRUST_DOMAIN,
        "PYAIRTABLE_JWKS": str(issuer.jwks_file(folder, "users")),
        "PYAIRTABLE_TOKEN_ISSUER": issuer.ISSUER,
        "PYAIRTABLE_TOKEN_AUDIENCE": issuer.AUDIENCE,
        "PYAIRTABLE_WORKLOAD_JWKS": str(issuer.jwks_file(folder, "workloads")),
        "PYAIRTABLE_WORKLOAD_ISSUER": issuer.WORKLOAD_ISSUER,
        "PYAIRTABLE_WORKLOAD_TOKEN_FILE": str(folder.tokens / f"{service}.jwt"),
        "PYAIRTABLE_REMOVAL_SECONDS": str(REMOVAL_SECONDS),
        "PYAIRTABLE_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "PYAIRTABLE_LOG_FORMAT": "console",
    }
    return Plan(
        name,
        service,
        tuple(command),
        {**_inherited(), **environment},
        taken,
        folder.logs / f"{name}.log",
        follows="" if first else service,
    )
