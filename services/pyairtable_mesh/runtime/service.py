"""What a service is: one `Service` value that it hands to `run`."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from opentelemetry.metrics import Meter, NoOpMeter

from pyairtable_mesh.runtime.access import AccessTable
from pyairtable_mesh.runtime.authorizer import Authorizer
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.health import Check
from pyairtable_mesh.runtime.pagination import Sealer
from pyairtable_mesh.runtime.peers import Peers
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.validation import SchemaValidator

S = TypeVar("S", bound=Settings)

Registration = tuple[Callable[[Any, Any], None], object]
"""A generated ``add_XServicer_to_server`` and the servicer for it."""
Background = Callable[[], Coroutine[Any, Any, None]]
"""Work beside the RPCs, such as an event consumer; it runs until it is cancelled at shutdown."""


@dataclass(frozen=True, slots=True)
class Runtime(Generic[S]):
    """What a service is given to build itself from; `leaving` is set when streams without an end should end, and
    instruments of `meter` are served with the process's metrics.
    """

    settings: S
    peers: Peers
    validator: SchemaValidator
    clock: Callable[[], datetime]
    database_or_none: Database | None = None
    sealer_or_none: Sealer | None = None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    meter: Meter = field(default_factory=lambda: NoOpMeter("pyairtable_mesh"))

    @property
    def database(self) -> Database:
        """The service's database; RuntimeError in a service that was declared without migrations."""
        if self.database_or_none is None:
            raise RuntimeError("this service has no database: give its Service value `migrations`")
        return self.database_or_none

    @property
    def sealer(self) -> Sealer:
        """Seals page and consistency tokens; there with the database, which keeps its key."""
        if self.sealer_or_none is None:
            raise RuntimeError("this service has no database: give its Service value `migrations`")
        return self.sealer_or_none


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is built of. `authorizer` is given by the permission service alone; others ask it."""

    servicers: Sequence[Registration]
    authorizer: Authorizer | None = None
    background: Sequence[Background] = ()
    health: Mapping[str, Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """A service of the mesh.

    `name` is its mesh name and its service account; `access` has a table for each gRPC service by its full name;
    `migrations` is the package of its Alembic versions (None: no database). `subscribers` are the service accounts that
    may follow its events, which are those of every tenant.
    """

    name: str
    settings: type[S]
    build: Callable[[Runtime[S]], Parts]
    access: Mapping[str, AccessTable]
    migrations: str | None = None
    subscribers: Sequence[str] = ()
