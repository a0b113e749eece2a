"""The whole platform as real processes, started by its own command line, for the tests of this folder."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder

START_SECONDS = 60.0
END_SECONDS = 20.0

Event = dict[str, Any]


@dataclass
class Platform:
    """A platform that runs, and all that it has told so far (`events`: the lines of ``--output json``)."""

    supervisor: subprocess.Popen[str]
    data: Path
    events: list[Event] = field(default_factory=list)

    @property
    def ready(self) -> Event:
        """What the first screen shows."""
        return next(event for event in self.events if event["event"] == "ready")

    def address(self, name: str) -> str:
        """``host:port`` of an instance (`user`, `user-2`) or of the control plane (`control-plane`)."""
        return str(self._process(name)["address"])

    def health_address(self, name: str) -> str:
        """``host:port`` of an instance's grpc.health.v1."""
        return str(self._process(name)["health_address"])

    def pid(self, name: str) -> int:
        """The process id of an instance's present process."""
        mine = [event for event in self.events if event["event"] == "started" and event["process"] == name]
        return int(mine[-1]["pid"])

    def pids(self) -> set[int]:
        """Every process that the supervisor ever started."""
        return {int(event["pid"]) for event in self.events if event["event"] == "started"}

    def token(self, user: str) -> str:
        """An access token of a demo user (alice, bob, carol)."""
        return issuer.user_token(issuer.users(DataFolder(self.data)), people.BY_NAME[user].id, people.TENANT)

    def workload_token(self, service: str) -> str:
        """A token of a service account."""
        return issuer.workload_token(issuer.workloads(DataFolder(self.data)), service)

    def metadata(self, user: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a call by a demo user."""
        return (("authorization", f"Bearer {self.token(user)}"),)

    def channel(self, name: str) -> grpc.aio.Channel:
        """A plain channel to one instance."""
        return grpc.aio.insecure_channel(self.address(name), [("grpc.enable_http_proxy", 0)])

    def bootstrap(self, client: str) -> dict[str, str]:
        """Environment of a process that calls ``xds:///<service>``."""
        server = {"server_uri": self.address("control-plane"), "channel_creds": [{"type": "insecure"}]}
        node = {"id": f"{issuer.NAMESPACE}/{client}/1", "cluster": client}
        config = {"xds_servers": [{**server, "server_features": ["xds_v3"]}], "node": node}
        return {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(config)}

    async def event(self, kind: str, process: str, after: int = 0) -> Event:
        """Wait for an event of a process among those from number `after` on."""
        found: list[Event] = []

        def look() -> bool:
            found[:] = [each for each in self.events[after:] if each["event"] == kind and each["process"] == process]
            return bool(found)

        await until(f"{process} to be {kind}", look)
        return found[0]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the supervisor a signal and wait for its end; its exit status."""
        self.supervisor.send_signal(number)
        return self.supervisor.wait(END_SECONDS)

    def _process(self, name: str) -> Event:
        return next(process for process in self.ready["processes"] if process["name"] == name)


@contextlib.contextmanager
def started(data: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Platform]:
    """Run ``python -m pyairtable_laptop run`` on free ports until it is ready; end it behind the test."""
    command = [*COMMAND, "--data", str(data), "--free-ports", "--output", "json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as supervisor:
        platform = Platform(supervisor, data)
        reader = threading.Thread(target=_read, args=(platform,), daemon=True)
        reader.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not any(event["event"] == "ready" for event in platform.events):
                if not reader.is_alive() or time.monotonic() > deadline:
                    raise AssertionError(f"the platform was not ready in {START_SECONDS} s: {platform.events}")
                time.sleep(0.02)
            yield platform
        finally:
            if supervisor.poll() is None:
                platform.end()
            reader.join()


COMMAND = (sys.executable, "-m", "pyairtable_laptop", "run")


def run_failing(*arguments: str) -> str:
    """Run the platform's command, which must refuse to start: what it says on standard error."""
    found = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert found.returncode == 1, found
    assert "Traceback" not in found.stderr
    return found.stderr


async def until(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition, looking every 20 ms; fail with the words after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the state is another process's
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s for {what}") from None


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


def _read(platform: Platform) -> None:
    assert platform.supervisor.stdout is not None
    for line in platform.supervisor.stdout:
        platform.events.append(json.loads(line))
