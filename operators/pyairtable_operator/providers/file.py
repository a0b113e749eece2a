"""The file provider: the mesh is what one YAML file says now. For laptops and tests, and for clusters of another kind.

Level-triggered: the file is looked at, not its events. A look is one `stat` of 2 microseconds, so it can be taken
every few milliseconds, on every operating system and however the file was replaced; watchfiles would wake a thread
as often to be as quick.
"""

import asyncio
import dataclasses
import itertools
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers import document

_LOOK_SECONDS = 0.005
_LOOKS_PER_READING = 200

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class FileProvider:
    """Reads a document (its form: `pyairtable_operator.providers.document`) and follows it.

    A file that is missing, or broken as a whole, leaves the last good state in place and says so. Every second the
    file is read again even if it looks the same, for file systems whose clocks are too coarse to show a change.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._content: bytes | None = None

    async def run(self, inventory: Inventory) -> None:
        """Follow the file until cancelled."""
        before: _Stamp | None = None
        for look in itertools.count():
            now = _stamp(self._path)
            if now != before or look % _LOOKS_PER_READING == 0:
                self._read(inventory)
            before = now
            await asyncio.sleep(_LOOK_SECONDS)

    def _read(self, inventory: Inventory) -> None:
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._keep(inventory, model.Problem(str(self._path), f"can't be read: {error.strerror}"))
            self._content = None
            return
        if content == self._content:
            return
        self._content = content
        try:
            mesh = document.parse(content)
        except document.DocumentError as error:
            where = f"{self._path.name}:{error.problem.where}"
            self._keep(inventory, dataclasses.replace(error.problem, where=where))
            return
        inventory.replace(mesh)

    def _keep(self, inventory: Inventory, trouble: model.Problem) -> None:
        if trouble != inventory.trouble:
            _log.error("the mesh stays as it is: %s", trouble)
            inventory.keep(trouble)


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
