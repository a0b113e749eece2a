"""Keeps a file of the mesh true: which instances there are, and which of them take calls."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pyairtable_laptop import issuer, ports
from pyairtable_laptop.folder import is_held
from pyairtable_laptop.plan import CONTROL_PLANE, Plan
from pyairtable_operator.model import Endpoint, Health, Service
from pyairtable_operator.providers import document
from pyairtable_operator.providers.file import write_inventory

CANONICAL_PORT = 50051


class MeshFile:
    """A file of the control plane's inventory. Its services are in it from the start, so that their names are known."""

    def __init__(self, path: Path, plans: Sequence[Plan]) -> None:
        self._path = path
        self._plans = {plan.name: plan for plan in plans if plan.service != CONTROL_PLANE}
        self._health: dict[str, Health] = {}
        self._write()

    def put(self, name: str, health: Health | None) -> None:
        """Say how an instance is; None takes it out. Writes the file when that is news."""
        if name not in self._plans or self._health.get(name) is health:
            return
        if health is None:
            del self._health[name]
        else:
            self._health[name] = health
        self._write()

    def _write(self) -> None:
        names = dict.fromkeys(plan.service for plan in self._plans.values())
        services = {name: Service(name, issuer.NAMESPACE, CANONICAL_PORT) for name in names}
        for name, plan in self._plans.items():
            if (health := self._health.get(name)) is not None:
                service = services[plan.service]
                endpoint = Endpoint(ports.HOST, plan.ports.grpc, health=health)
                services[plan.service] = replace(service, endpoints=(*service.endpoints, endpoint))
        write_inventory(self._path, services.values())


def lock_of(file: Path) -> Path:
    """Locked by the `join` that a file of the mesh belongs to."""
    return file.with_suffix(".lock")


def remove_left_over(mesh: Path) -> None:
    """Remove the files of those that joined and were killed; files that a person wrote have no lock, and stay."""
    for file in mesh.glob("*.yaml"):
        lock = lock_of(file)
        if lock.exists() and not is_held(lock):
            file.unlink()


def home_of(service: str, mesh: Path) -> Path | None:
    """The file of the mesh that has this service, if any does."""
    for file in sorted(mesh.glob("*.yaml")):
        try:
            found = document.parse(file.read_bytes())
        except (FileNotFoundError, document.DocumentError):
            continue
        if any((each.name, each.namespace) == (service, issuer.NAMESPACE) for each in found.services):
            return file
    return None
