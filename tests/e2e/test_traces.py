"""One call, one trace across both services at an OTLP endpoint: with our interceptor, and with the official one."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from tests import tools
from tests.e2e import releases
from tests.e2e.releases import USER, Release, run, script_pod
from tests.mesh.platform import until

SINK = "http://otlp:4317"
SCRIPT = tools.REPOSITORY / "tests/e2e/otlp_sink.py"


@pytest.fixture(scope="module")
def release(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with releases.namespace("mesh-traces"):
        made = Release("mesh-traces", DataFolder(tmp_path_factory.mktemp("issuer")))
        made.kubectl("apply", "-f", "-", stdin=json.dumps(_sink()))
        made.install("--set", f"telemetry.otlpEndpoint={SINK}")
        yield made


@pytest.fixture(scope="module")
def owner(release: Release) -> str:
    return release.make_owner(people.ALICE)


@pytest.mark.parametrize("instrumentation", ["lean", "official"])
async def test_one_trace_has_the_spans_of_both_services(release: Release, owner: str, instrumentation: str) -> None:
    release.install("--set", f"telemetry.otlpEndpoint={SINK},telemetry.grpc={instrumentation}")
    trace = secrets.token_hex(16)
    parent = f"traceparent: 00-{trace}-{secrets.token_hex(8)}-01"
    with release.forwarded("service/user") as address:
        headers = ("-H", parent, "-H", f"authorization: Bearer {owner}")
        run(tools.grpcurl(), "-plaintext", *headers, "-d", "{}", address, f"{USER}/ListUsers")

    def complete() -> bool:
        spans = map(json.loads, release.kubectl("logs", "otlp").splitlines())
        return {"user", "permission"} <= {span["service"] for span in spans if span["trace"] == trace}

    await until(f"spans of user and permission in trace {trace}", complete)


def _sink() -> dict[str, Any]:
    sink = script_pod("otlp", SCRIPT, f"/scripts/{SCRIPT.name}")
    spec = {"selector": {"app.kubernetes.io/name": "otlp"}, "ports": [{"name": "otlp", "port": 4317}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "otlp"}, "spec": spec}
    return {**sink, "items": [*sink["items"], service]}
