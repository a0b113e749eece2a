"""Clients of the mesh in a pod: calls that go on while something else is done to the release."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyairtable_laptop import people
from tests import tools
from tests.e2e.releases import USER, Release, grpcurl, script_pod

SCRIPT = tools.REPOSITORY / "tests/mesh/platform_load.py"
PAUSE_SECONDS = 0.2
"""Between the calls of a worker: two cores also start pods meanwhile."""
CALLS = 50
"""What a load makes at least, also where its block is a short one: fewer show nothing."""
END_SECONDS = 60


@dataclass
class Load:
    """What a load did, known when its block has ended."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Caller:
    """The pod, and the person for whom it calls."""

    release: Release
    token: str

    @contextmanager
    def load(self, name: str = people.BOB.resource_name) -> Iterator[Load]:
        """Get a user over ``xds:///user``, or ask ``xds:///permission`` about a resource, until the block ends."""
        arguments = (self.token, name, str(PAUSE_SECONDS), str(CALLS))
        command = ["kubectl", "--namespace", self.release.namespace, "exec", "--stdin", "caller", "--"]
        made = Load()
        with subprocess.Popen(
            [*command, "python", f"/scripts/{SCRIPT.name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n", "the load ended before its first call"
            try:
                yield made
            finally:
                said, _ = process.communicate(timeout=END_SECONDS)
                told = json.loads(said)
                made.calls, made.failures = told["calls"], told["failures"]


def caller(release: Release, token: str) -> Caller:
    """Start the pod, and make Bob, so that there is somebody to get."""
    bob = {"user": {"email": "bob@example.com", "display_name": "Bob"}, "user_id": people.BOB.id}
    with release.forwarded("service/user") as address:
        grpcurl(address, f"{USER}/CreateUser", token=token, body=bob)
    release.kubectl("apply", "-f", "-", stdin=json.dumps(_pod(release.namespace)))
    release.kubectl("wait", "--for=condition=Ready", "pod/caller", "--timeout=50s")
    return Caller(release, token)


def _pod(namespace: str) -> dict[str, Any]:
    server = {
        "server_uri": f"pyairtable-operator.{namespace}.svc.cluster.local:18000",
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    bootstrap = {"xds_servers": [server], "node": {"id": f"{namespace}/default/caller", "cluster": "caller"}}
    waiting = ("-c", "import signal; signal.sigwait([signal.SIGTERM])")
    return script_pod("caller", SCRIPT, *waiting, GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(bootstrap))
