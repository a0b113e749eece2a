"""What keeps the unit tests quick: they stand on no database."""

import pytest


@pytest.fixture
def database_url() -> str:
    """In place of the one of `tests/databases.py`."""
    pytest.fail("a test that takes a database belongs in tests/contract/stores, where it runs on SQLite and PostgreSQL")
