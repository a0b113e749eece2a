"""The databases of these tests are the user service's."""

import pytest


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.user.migrations"
