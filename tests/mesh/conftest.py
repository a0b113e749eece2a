"""The platform that the tests of this folder share; those that end or break it start one of their own."""

from collections.abc import Iterator

import pytest

from tests.mesh.platform import Platform, started


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The whole platform on free ports, with two instances of the user service."""
    with started(tmp_path_factory.mktemp("platform"), "--instances", "user=2") as running:
        yield running
