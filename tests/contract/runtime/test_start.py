"""What the start of a service does not import."""

import subprocess
import sys

import pytest

UNUSED = ("alembic", "cel_expr_python", "lark")
"""None of it is used by a service that starts on a database with its tables, and without conditions in its schemas."""


@pytest.mark.parametrize("name", ["permission", "user", "audit"])
def test_a_service_starts_without_what_it_does_not_use(name: str) -> None:
    program = (
        f"import sys, pyairtable_mesh.runtime.process, pyairtable_mesh.{name}.app;"
        f"print('sqlalchemy' in sys.modules, sorted(set({UNUSED!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"
