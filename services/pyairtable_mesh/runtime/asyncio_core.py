"""SQLAlchemy's asyncio engine without its ORM, which nothing here uses and which is a sixth of a service's start.

The package `sqlalchemy.ext.asyncio` imports its sessions, and with them the ORM; its engine needs neither. So the
package is entered here without being executed. It still is, whole, as soon as anybody asks it for something else: a
service of another team that has sessions finds them where it expects them.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def _postpone(package: str) -> None:
    """Let submodules of `package` be imported before the package itself is executed, which its first use does."""
    spec = find_spec(package)
    if spec is None or spec.loader is None or package in sys.modules:
        return
    loader, module = spec.loader, module_from_spec(spec)

    def execute(name: str) -> Any:
        if name.startswith("__") or find_spec(f"{package}.{name}"):
            raise AttributeError(name)  # the import system asks before it imports a submodule
        del module.__getattr__
        loader.exec_module(module)
        return getattr(module, name)

    module.__getattr__ = execute  # type: ignore[method-assign]
    sys.modules[package] = module


_postpone("sqlalchemy.ext.asyncio")

from sqlalchemy.ext.asyncio.engine import AsyncConnection, AsyncEngine, create_async_engine  # noqa: E402

__all__ = ["AsyncConnection", "AsyncEngine", "create_async_engine"]
