"""Where a provider puts the mesh and the control plane picks it up: the newest state, never a queue of changes."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from pyairtable_operator import model
from pyairtable_operator.workloads import Workloads


class Reception(Protocol):
    """How many clients subscribe to a service, hold what is served of it now, and have refused it."""

    subscribed: int
    acknowledged: int
    refused: int
    refusal: str


class Inventory:
    """The newest mesh, None until a provider has read one, and what keeps the provider from reading newer parts of it.

    `workloads` is what the provider knows of clients; `receptions` is for it, and gives by canonical name what clients
    have made of the mesh.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self.mesh: model.Mesh | None = None
        self.troubles: tuple[model.Problem, ...] = ()
        self.workloads = Workloads()
        self.receptions: Callable[[], Mapping[str, Reception]] = dict
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


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is, in a cluster's terms: the name is such as `system:serviceaccount:shop:web`."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Reviews(Protocol):
    """Asks a cluster who somebody is and what they may do."""

    audience: str

    async def caller(self, token: str) -> Caller | None:
        """Return whose token it is, None when it is not a good one for `audience`. Raises OSError."""

    async def allows(self, caller: Caller, verb: str, namespace: str) -> bool:
        """Whether the caller may `verb` on `meshstatus` in a namespace, in all where it is empty. Raises OSError."""


class Provider(Protocol):
    """Reads the mesh from somewhere: a file now, Kubernetes in a cluster.

    `reviews` is who to ask about callers; None where nobody knows them.
    """

    @property
    def reviews(self) -> Reviews | None:
        """See the class."""

    async def run(self, inventory: Inventory) -> None:
        """Put the mesh into the inventory, now and whenever it changes, until cancelled."""
