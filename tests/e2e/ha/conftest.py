"""The release with the values for high availability, on the PostgreSQL that comes along for tests."""

from collections.abc import Iterator

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from tests import helm
from tests.e2e import releases
from tests.e2e.ha import loads
from tests.e2e.releases import Release

# Its PostgreSQL serves another release of these tests as well, in another namespace: no policies.
VALUES = (*helm.HA, "--set", f"postgresql.enabled=true,networkPolicy.enabled=false,{releases.POSTGRESQL}")


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """Where the development issuer keeps the keys that the releases here trust."""
    return DataFolder(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="package")
def replicated(images: None, postgresql_image: None, folder: DataFolder) -> Iterator[Release]:
    """Three replicas of each service."""
    with releases.namespace("mesh-ha"):
        made = Release("mesh-ha", folder)
        made.install(*VALUES)
        # The autoscaler begins with one, and comes to its least number a moment later.
        three = "--for=jsonpath={.status.readyReplicas}=3"
        made.kubectl(
            "wait", three, *(f"deployment/{each}" for each in releases.SERVICES), "--timeout=150s", seconds=160
        )
        yield made


@pytest.fixture(scope="package")
def owner(replicated: Release) -> str:
    """The token of Alice, who owns the demo tenant."""
    return replicated.make_owner(people.ALICE)


@pytest.fixture(scope="package")
def caller(replicated: Release, owner: str) -> loads.Caller:
    """A pod in which clients of the mesh can be started."""
    return loads.caller(replicated, owner)
