"""The API server in memory."""

from collections.abc import AsyncIterator

import pytest

from pyairtable_operator.providers.kubernetes import lease, provider
from tests.contract.operator.cluster import namespace, service, slice_of
from tests.contract.operator.kubernetes_api import KubernetesApi


@pytest.fixture
async def api(quick: None) -> AsyncIterator[KubernetesApi]:
    """An API server with a namespace of the mesh, and the service `user` in it."""
    server = KubernetesApi()
    await server.start()
    await server.put("namespaces", namespace("shop"))
    await server.put("services", service("user"))
    await server.put("endpointslices", slice_of("user", "10.0.0.1"))
    yield server
    await server.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that waits for little."""
    monkeypatch.setattr(lease, "STEP_SECONDS", 0.02)
    monkeypatch.setattr(provider, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("pyairtable_operator.providers.kubernetes.watch._BACKOFF_SECONDS", (0.02, 0.02))
    monkeypatch.setattr(provider, "_KINDS_SECONDS", 0.02)
    monkeypatch.setattr(provider, "_COUNT_SECONDS", 0.02)
