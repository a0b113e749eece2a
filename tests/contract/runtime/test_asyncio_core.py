"""What the start of a service does not import, and that others still find it."""

import subprocess
import sys

import pytest

UNUSED = ("alembic", "cel_expr_python", "lark", "sqlalchemy.orm")
"""None of it is used by a service that starts on a database with its tables; the ORM alone takes 0.25 s."""


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", ["permission", "user", "audit"])
def test_a_service_starts_without_what_it_does_not_use(name: str) -> None:
    program = (
        f"import sys, pyairtable_mesh.runtime.process, pyairtable_mesh.{name}.app;"
        f"print('sqlalchemy.ext.asyncio.engine' in sys.modules, sorted(set({UNUSED!r}) & sys.modules.keys()))"
    )
    assert printed(program) == "True []"


def test_who_has_sessions_still_finds_them() -> None:
    program = (
        "from pyairtable_mesh.runtime import asyncio_core;"
        "from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker;"
        "print(AsyncEngine is asyncio_core.AsyncEngine, issubclass(async_sessionmaker()().__class__, AsyncSession))"
    )
    assert printed(program) == "True True"
    assert (
        printed(
            "import sqlalchemy.ext.asyncio as whole; import " + "pyairtable_mesh.runtime.asyncio_core as core;"
            "print(whole.AsyncEngine is core.AsyncEngine)"
        )
        == "True"
    )


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    program = (
        "from pyairtable_mesh.runtime import asyncio_core; import sqlalchemy.ext.asyncio as package;"
        "print(hasattr(package, 'nothing'), hasattr(package, 'nothing'), hasattr(package, 'AsyncSession'))"
    )
    assert printed(program) == "False False True"
