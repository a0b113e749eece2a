"""The file provider: the mesh is what one YAML file says now, or all those in a folder together. For laptops and tests,
and for clusters of another kind.

Level-triggered: the files are looked at, not their events. A look is one `stat` of 2 microseconds for each file, so it
can be taken every few milliseconds, on every operating system and however a file was replaced; watchfiles would wake a
thread as often to be as quick.
"""

import asyncio
import dataclasses
import itertools
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers import document

_LOOK_SECONDS = 0.005
_LOOKS_PER_READING = 200
_SUFFIX = ".yaml"

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]
_Stamps = Mapping[pathlib.Path, _Stamp | None]


class FileProvider:
    """Follows a document (its form: `pyairtable_operator.providers.document`), or all ``*.yaml`` of a folder.

    A file that is missing, or broken as a whole, leaves its last good services in place and says so. In a folder a
    file that is gone has taken its services with it, but a folder without any file is taken for a mistake. Every
    second all is read again even if it looks the same, for file systems whose clocks are too coarse to show a change.
    """

    reviews = None
    """Nobody knows callers here."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._files: dict[pathlib.Path, _File] = {}

    async def run(self, inventory: Inventory) -> None:
        """Follow the file or the folder until cancelled."""
        before: _Stamps = {}
        for look in itertools.count():
            now = self._look(inventory)
            if now != before or look % _LOOKS_PER_READING == 0:
                self._read(now, inventory)
            before = now
            await asyncio.sleep(_LOOK_SECONDS)

    def _look(self, inventory: Inventory) -> _Stamps:
        """The files that there are; none, and the reason in the inventory, when that can't be told."""
        try:
            names = sorted(name for name in os.listdir(self._path) if name.endswith(_SUFFIX))
        except NotADirectoryError:
            return {self._path: _stamp(self._path)}
        except OSError as error:
            _keep(inventory, model.Problem(str(self._path), f"can't be read: {error.strerror}"))
            return {}
        if not names:
            _keep(inventory, model.Problem(str(self._path), f"is a folder without any *{_SUFFIX} file"))
        return {self._path / name: _stamp(self._path / name) for name in names}

    def _read(self, paths: Iterable[pathlib.Path], inventory: Inventory) -> None:
        files = {path: self._files.get(path) or _File(path) for path in paths}
        if not files:
            return
        self._files = files
        for file in files.values():
            file.read()
        troubles = tuple(file.trouble for file in files.values() if file.trouble is not None)
        if any(file.mesh is not None for file in files.values()):
            _tell(inventory, troubles)
            inventory.replace(_together(files.values()), troubles)
        else:
            _keep(inventory, *troubles)


class _File:
    """One file, and what it said when it was last good."""

    def __init__(self, path: pathlib.Path) -> None:
        self.name = path.name
        self.mesh: model.Mesh | None = None
        self.trouble: model.Problem | None = None
        self._path = path
        self._content: bytes | None = None

    def read(self) -> None:
        """Read it again; `mesh` stays when it can't be read, and `trouble` says why."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self.trouble = model.Problem(self.name, f"can't be read: {error.strerror}")
            self._content = None
            return
        if content == self._content:
            return
        self._content = content
        try:
            mesh = document.parse(content)
        except document.DocumentError as error:
            self.trouble = self._named(error.problem)
        else:
            self.mesh = dataclasses.replace(mesh, problems=tuple(map(self._named, mesh.problems)))
            self.trouble = None

    def _named(self, problem: model.Problem) -> model.Problem:
        return dataclasses.replace(problem, where=f"{self.name}:{problem.where}")


def _together(files: Iterable[_File]) -> model.Mesh:
    """One mesh of all files; a service that an earlier file has is an error of the later one."""
    services: list[model.Service] = []
    problems: list[model.Problem] = []
    homes: dict[str, str] = {}
    for file in files:
        mesh = file.mesh or model.Mesh()
        problems += mesh.problems
        for service in mesh.services:
            name = service.canonical_name
            if (home := homes.setdefault(name, file.name)) == file.name:
                services.append(service)
            else:
                reason = f"{name} is in {home} already, so this one was left out"
                problems.append(model.Problem(file.name, reason, service=name))
    return model.Mesh(tuple(services), tuple(problems))


def _keep(inventory: Inventory, *troubles: model.Problem) -> None:
    _tell(inventory, troubles)
    inventory.keep(*troubles)


def _tell(inventory: Inventory, troubles: Iterable[model.Problem]) -> None:
    for trouble in troubles:
        if trouble not in inventory.troubles:
            _log.error("the mesh stays as it is: %s", trouble)


def write_inventory(path: pathlib.Path, services: Iterable[model.Service]) -> None:
    """Replace the file with one that describes these services: a reader sees the old one or the new one, whole."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as new:
        new.write(document.render(services))
    pathlib.Path(new.name).replace(path)


def _stamp(path: pathlib.Path) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
