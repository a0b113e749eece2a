"""Releases of the chart on the cluster of KUBECONFIG: images built and loaded, Helm, port-forwards, tokens."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from tests import helm, tools

RUN_SECONDS, BUILD_SECONDS, INSTALL_SECONDS = 60, 900, 240
SERVICES_IMAGE = "ghcr.io/pyairtable/services:0.1.0"
"""What the chart takes without values."""
POSTGRESQL_IMAGE = "pyairtable-postgresql:e2e"
POSTGRESQL = "postgresql.image.repository=pyairtable-postgresql,postgresql.image.tag=e2e"
"""Values that name it."""
TRUST_DOMAIN = "pyairtable.local"
PERMISSION, USER = "pyairtable.permission.v1.PermissionService", "pyairtable.user.v1.UserService"
AUDIT = "pyairtable.common.v1.AuditService"
SERVICES = {"permission": PERMISSION, "user": USER, "audit": AUDIT}


def run(*command: str | Path, seconds: float = RUN_SECONDS, stdin: str = "") -> str:
    """What a command prints; AssertionError with its words when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """A new namespace, as restricted as there is; when the block ends it goes with all that a release has made."""
    with removed(name):
        run("kubectl", "create", "namespace", name)
        run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield


@contextmanager
def removed(name: str) -> Iterator[None]:
    """A namespace that may be made in the block, and goes with its end."""
    try:
        yield
    finally:
        subprocess.run([helm.program(), "uninstall", "mesh", "--namespace", name], capture_output=True, check=False)
        gone = ["kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait"]
        subprocess.run(gone, capture_output=True, check=False)


def make(target: str) -> None:
    """Make a target; AssertionError with what it printed when it fails."""
    run("make", "-C", tools.REPOSITORY, target, seconds=BUILD_SECONDS)


def build_and_load_postgresql() -> None:
    """The PostgreSQL of tests, where the official image may be out of reach."""
    base = [f"--build-arg=BASE_IMAGE={value}"] if (value := os.environ.get("BASE_IMAGE")) else []
    folder = tools.REPOSITORY / "tests/e2e/postgresql"
    run("docker", "build", "--tag", POSTGRESQL_IMAGE, *base, folder, seconds=BUILD_SECONDS)
    run(tools.REPOSITORY / "tests/cluster.sh", "load", POSTGRESQL_IMAGE, seconds=BUILD_SECONDS)


def script_pod(name: str, script: Path, *command: str, **variables: str) -> dict[str, Any]:
    """A ConfigMap with a script and a pod of the services' image that has it in ``/scripts``, as restricted as ours."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": name,
        "image": SERVICES_IMAGE,
        "command": ["python", *command],
        "env": [{"name": variable, "value": value} for variable, value in variables.items()],
        "securityContext": security,
        "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "scripts", "configMap": {"name": name}}],
    }
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": name}}
    scripts = {script.name: script.read_text()}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": scripts}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return {"apiVersion": "v1", "kind": "List", "items": [config, pod]}


@dataclass(frozen=True, slots=True)
class Release:
    """A release named ``mesh`` in a namespace of its own, which takes the development issuer's tokens of `folder`."""

    namespace: str
    folder: DataFolder

    def install(self, *values: str) -> str:
        """Install or upgrade, and wait until it is ready; the notes."""
        issuer.users(self.folder)
        done = helm.run(
            *("upgrade", "--install", "mesh", helm.MESH, "--namespace", self.namespace),
            *("--wait", "--timeout", f"{INSTALL_SECONDS}s", "--set", f"auth.issuer={issuer.ISSUER}"),
            *("--set-file", f"auth.jwks={issuer.jwks_file(self.folder, 'users')}", *values),
            seconds=INSTALL_SECONDS + RUN_SECONDS,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.kubectl('get', 'pods', '--output=wide')}"
        return done.stdout

    def helm(self, *words: str) -> str:
        """What a Helm command says about the release."""
        return run(helm.program(), *words, "--namespace", self.namespace, seconds=INSTALL_SECONDS)

    def kubectl(self, *words: str, stdin: str = "", seconds: float = RUN_SECONDS) -> str:
        """What kubectl says in the namespace."""
        return run("kubectl", "--namespace", self.namespace, *words, stdin=stdin, seconds=seconds)

    def objects(self, kinds: str) -> list[dict[str, Any]]:
        """The objects of some kinds, such as ``pods,services``, and with options behind them."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *kinds.split(), "--output=json"))["items"]
        return found

    def user_token(self, person: people.Person) -> str:
        """An access token of a demo user."""
        return issuer.user_token(issuer.users(self.folder), person.id, people.TENANT)

    def workload_token(self, account: str) -> str:
        """A token of a service account, as its pods have it."""
        return self.kubectl("create", "token", account, f"--audience={TRUST_DOMAIN}").strip()

    def make_owner(self, person: people.Person) -> str:
        """Make a demo user owner of the demo tenant, as the tenant service will; the user's access token."""
        self.kubectl("create", "serviceaccount", "tenant")
        grant = {"role": "roles/owner", "resource": f"tenant:{people.TENANT}", "subject": person.subject}
        with self.forwarded("service/permission") as address:
            grpcurl(address, f"{PERMISSION}/GrantRole", token=self.workload_token("tenant"), body=grant)
        return self.user_token(person)

    def pods(self, workload: str) -> list[str]:
        """The names of a workload's pods, without those that leave."""
        pods = self.objects(f"pods --selector=app.kubernetes.io/name={workload}")
        return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"])

    def rolled(self, workload: str) -> None:
        """Wait until every pod of a Deployment is of its newest revision, and ready."""
        timeout = f"--timeout={INSTALL_SECONDS}s"
        self.kubectl("rollout", "status", f"deployment/{workload}", timeout, seconds=INSTALL_SECONDS + RUN_SECONDS)

    @contextmanager
    def forwarded(self, target: str, port: int = 50051) -> Iterator[str]:
        """``host:port`` here that leads to a port of a Service or a pod, until the block ends."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", said)
            assert found is not None, f"no port-forward to {target}: {said}"
            try:
                yield found[0]
            finally:
                process.terminate()


def grpcurl(address: str, *words: str, token: str = "", body: object = None) -> str:
    """What grpcurl prints; AssertionError when the call fails."""
    header = ["-H", f"authorization: Bearer {token}"] if token else []
    data = ["-d", json.dumps(body)] if body is not None else []
    return run(tools.grpcurl(), "-plaintext", "-max-time", "30", *header, *data, address, *words)
