"""Reading a cluster with the program ``kubectl``: bounded in time, never through a shell, its failures in words."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pyairtable_mesh.meshctl.problems import Problem

REQUEST_TIMEOUT = "--request-timeout=15s"
FORWARD_SECONDS = 10.0
SOURCE = "https://kubernetes.io/docs/tasks/tools"
CHOOSE = "start the cluster, or choose another one: kubectl config get-contexts, and --context NAME"
_FORWARDED = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+)")
_AWAY = ("refused", "unable to connect", "no such host", "i/o timeout", "deadline exceeded", "no route to host")
_UNCHOSEN = ("current-context", "cannot locate context", "context was not found", 'error: context "')
_MAX_WORDS = 300

Object = dict[str, Any]
"""An object of Kubernetes, as JSON."""
Run = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster's kubectl. Every method raises `Problem` in words when it cannot be told."""

    run: Run
    context: str = ""
    """Of the kubeconfig; its current one when it is empty."""

    def text(self, *words: str) -> str:
        """What kubectl prints."""
        done = self._done(*words)
        if done.returncode:
            raise _failure(words, done.stderr or done.stdout)
        return done.stdout

    def read(self, *words: str) -> Any:
        """What kubectl prints as JSON."""
        text = self.text(*words)
        try:
            return json.loads(text)
        except ValueError:
            raise Problem(f"kubectl {words[0]} does not answer in JSON.", f"try: kubectl {' '.join(words)}") from None

    def items(self, kinds: str, *words: str) -> list[Object]:
        """The objects of some kinds, such as ``pods,services``."""
        found: list[Object] = self.read("get", kinds, *words, "--output=json")["items"]
        return found

    def allowed(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether who asks may do this; in the whole cluster without a namespace."""
        where = ("--namespace", namespace) if namespace else ("--all-namespaces",)
        done = self._done("auth", "can-i", verb, resource, *where)
        if done.returncode and done.stdout.strip() != "no":
            raise _failure(("auth",), done.stderr)
        return done.stdout.strip() == "yes"

    def find(self, kind: str, name: str, *words: str) -> Object | None:
        """An object; None when there is none."""
        text = self.text("get", kind, name, *words, "--ignore-not-found", "--output=json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def command(self, *words: str) -> list[str]:
        """The command line of kubectl with these words."""
        return ["kubectl", *(("--context", self.context) if self.context else ()), REQUEST_TIMEOUT, *words]

    def _done(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return self.run(self.command(*words))
        except FileNotFoundError:
            raise Problem("kubectl is not on PATH.", f"install it: {SOURCE}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Problem(f"kubectl {words[0]} does not end ({type(error).__name__}).", CHOOSE) from None

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncIterator[str]:
        """``host:port`` of the loopback that leads to a port of a Service or a pod, as long as the block runs."""
        words = self.command("--namespace", namespace, "port-forward", target, f":{port}")
        words.remove(REQUEST_TIMEOUT)  # it would cut the forwarding
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
        except OSError:
            raise Problem("kubectl is not on PATH.", f"install it: {SOURCE}") from None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(FORWARD_SECONDS):
                found = _FORWARDED.match(await process.stdout.readline())
            if found is None:
                raise Problem(f"{target} cannot be reached by a port-forward.", "look whether its pods run")
            yield found[1].decode()
        except TimeoutError:
            raise Problem(f"A port-forward to {target} does not begin.", "look whether its pods run") from None
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _failure(words: Sequence[str], said: str) -> Problem:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = (lines[-1] if lines else "it says nothing")[:_MAX_WORDS]
    if "forbidden" in last.lower():
        return Problem(f"The cluster refuses: {last}", "ask who administers it for the right, or use another --context")
    if any(sign in last.lower() for sign in _AWAY):
        return Problem(f"The cluster does not answer: {last}", CHOOSE)
    if any(sign in last for sign in _UNCHOSEN):
        return Problem(f"No cluster is chosen: {last}", CHOOSE)
    return Problem(f"kubectl {words[0]} fails: {last}", f"try: kubectl {' '.join(words)}")
