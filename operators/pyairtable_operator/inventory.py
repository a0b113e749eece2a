"""Where a provider puts the mesh and the control plane picks it up: the newest state, never a queue of changes."""

import asyncio
from typing import Protocol

from pyairtable_operator import model


class Inventory:
    """The newest mesh, None until a provider has read one, and what keeps the provider from reading newer parts of it.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self.mesh: model.Mesh | None = None
        self.troubles: tuple[model.Problem, ...] = ()
        self._changed = asyncio.Event()

    def replace(self, mesh: model.Mesh, troubles: tuple[model.Problem, ...] = ()) -> None:
        """Put in a new state of the mesh; `troubles` are about parts that stay as they were."""
        self.troubles = troubles
        if mesh != self.mesh:
            self.mesh = mesh
            self._changed.set()

    def keep(self, *troubles: model.Problem) -> None:
        """Stay with the last mesh because the newer one can't be read."""
        self.troubles = troubles

    async def next(self) -> model.Mesh:
        """Wait for a change since the last call and return the newest mesh."""
        while self.mesh is None or not self._changed.is_set():
            await self._changed.wait()
        self._changed.clear()
        return self.mesh


class Provider(Protocol):
    """Reads the mesh from somewhere: a file now, Kubernetes in a cluster."""

    async def run(self, inventory: Inventory) -> None:
        """Put the mesh into the inventory, now and whenever it changes, until cancelled."""
