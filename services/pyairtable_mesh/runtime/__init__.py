"""What every service of the mesh runs on; public, for services in other repositories too.

::

    from pyairtable_mesh import runtime

    service = runtime.Service(name="greeter", settings=runtime.Settings, build=build, access={...})
    runtime.run(service)

Names are imported when they are first used: who needs only the error tree does not pay for a database.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyairtable_mesh.runtime import access, errors
    from pyairtable_mesh.runtime.authorizer import Authorizer
    from pyairtable_mesh.runtime.context import Actor, RequestContext, current
    from pyairtable_mesh.runtime.database import Database, Transaction
    from pyairtable_mesh.runtime.pagination import Page, Sealer, page_of
    from pyairtable_mesh.runtime.peers import Peers
    from pyairtable_mesh.runtime.process import run
    from pyairtable_mesh.runtime.service import Parts, Runtime, Service
    from pyairtable_mesh.runtime.settings import Settings

__all__ = [
    "Actor",
    "Authorizer",
    "Database",
    "Page",
    "Parts",
    "Peers",
    "RequestContext",
    "Runtime",
    "Sealer",
    "Service",
    "Settings",
    "Transaction",
    "access",
    "current",
    "errors",
    "page_of",
    "run",
]

_HOME = {
    "Actor": "context",
    "Authorizer": "authorizer",
    "Database": "database",
    "Page": "pagination",
    "Parts": "service",
    "Peers": "peers",
    "RequestContext": "context",
    "Runtime": "service",
    "Sealer": "pagination",
    "Service": "service",
    "Settings": "settings",
    "Transaction": "database",
    "current": "context",
    "page_of": "pagination",
    "run": "process",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _HOME:
        return import_module(f"{__name__}.{name}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
