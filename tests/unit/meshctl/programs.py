"""Fake `helm` and `kubectl` on PATH: small programs that answer from tables, and note how they were called."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = """#!{python} -SE
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
name = os.path.basename(__file__)
words = sys.argv[1:]
with open(os.path.join(here, name + ".calls"), "a") as calls:
    calls.write(json.dumps(words) + "\\n")
with open(os.path.join(here, name + ".json")) as answers:
    for match, stdout, stderr, code, stay in json.load(answers):
        if all(word in words for word in match):
            sys.stdout.write(stdout)
            sys.stdout.flush()
            sys.stderr.write(stderr)
            time.sleep(stay)
            sys.exit(code)
sys.exit(f"{{name}}: no answer to {{words}}")
"""

Object = dict[str, Any]
RECORDED = Path(__file__).with_name("recorded")
"""What kubectl said of a release on kind in which one pod has no room and another crashes, less what nobody reads."""


@dataclass(slots=True)
class Program:
    """One of them; the first answer whose words are all in the command line is given."""

    path: Path
    answers: list[tuple[list[str], str, str, int, float]] = field(default_factory=list)

    def answer(self, words: str, said: object = "", *, stderr: str = "", code: int = 0, stay: float = 0.0) -> None:
        """Answer command lines with these words; what is no text is said as JSON. A later answer goes first."""
        text = said if isinstance(said, str) else json.dumps(said)
        self.answers.insert(0, (words.split(), text, stderr, code, stay))
        self.path.with_name(f"{self.path.name}.json").write_text(json.dumps(self.answers))

    def respond(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """What the program would do, without a process for it."""
        if not self.path.exists():
            raise FileNotFoundError(self.path.name)
        words = list(command[1:])
        with self.path.with_name(f"{self.path.name}.calls").open("a") as noted:
            noted.write(json.dumps(words) + "\n")
        answer = next(found for found in self.answers if all(word in words for word in found[0]))
        return subprocess.CompletedProcess(command, answer[3], answer[1], answer[2])

    def calls(self, *words: str) -> list[list[str]]:
        """The command lines with these words, as they came."""
        noted = self.path.with_name(f"{self.path.name}.calls")
        calls = [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []
        return [call for call in calls if all(word in call for word in words)]


@dataclass(frozen=True, slots=True)
class Programs:
    helm: Program
    kubectl: Program

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """For `Environment.run_program`, which only kubectl is run by: most tests need no process for each question."""
        assert command[0] == "kubectl", command
        return self.kubectl.respond(command)


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """The two programs, and nothing else, on PATH."""
    found = []
    for name in ("helm", "kubectl"):
        path = folder / name
        path.write_text(_PROGRAM.format(python=sys.executable))
        path.chmod(0o755)
        program = Program(path)
        program.answer("", "", stderr=f"{name}: no answer is set", code=99)
        found.append(program)
    monkeypatch.setenv("PATH", str(folder))
    return Programs(*found)


def recorded(name: str) -> Object:
    found: Object = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def items(*objects: Object) -> Object:
    return {"kind": "List", "items": list(objects)}


def deployment(
    name: str,
    *,
    ready: int = 1,
    desired: int = 1,
    image: str = "services:1",
    audience: str = "pyairtable.local",
    **variables: str,
) -> Object:
    told = {"PYAIRTABLE_TRUST_DOMAIN": "pyairtable.local", "PYAIRTABLE_WORKLOAD_ISSUER": ISSUER} | variables
    token = {"serviceAccountToken": {"path": "token", "audience": audience}}
    pod = {
        "containers": [{"name": name, "image": image, "env": [{"name": key, "value": told[key]} for key in told]}],
        "volumes": [{"name": "identity", "projected": {"sources": [token]}}],
    }
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": "mesh"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "pyairtable", "generation": 1, "labels": labels},
        "spec": {"replicas": desired, "selector": {"matchLabels": labels}, "template": {"spec": pod}},
        "status": {
            "observedGeneration": 1,
            "replicas": desired,
            "updatedReplicas": desired,
            "readyReplicas": ready,
        },
    }


def pod(name: str, workload: str, **status: Any) -> Object:
    labels = {"app.kubernetes.io/name": workload, "app.kubernetes.io/instance": "mesh", "pod-template-hash": "1"}
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "status": {"phase": "Pending", **status}}


def container(name: str, *, image: str = "services:1", restarts: int = 0, **state: Any) -> Object:
    return {"name": name, "image": image, "ready": False, "restartCount": restarts, "state": {}, **state}


ISSUER = "https://kubernetes.default.svc.cluster.local"
NOTES = "PyAirtable Mesh 0.1.0 is in namespace pyairtable\n\n  kubectl port-forward ...\n"
MANIFEST = """---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: user-data, annotations: {helm.sh/resource-policy: keep}}
spec: {resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: user}
spec: {replicas: 1, template: {spec: {containers: [{name: user, image: "services:1"}]}}}
"""


def release(revision: int = 1, status: str = "deployed", manifest: str = MANIFEST, **config: Any) -> Object:
    info = {"status": status, "last_deployed": "2026-03-01T11:58:00.1Z", "notes": NOTES}
    return {
        "name": "mesh",
        "namespace": "pyairtable",
        "version": revision,
        "info": info,
        "manifest": manifest,
        "config": config,
    }


def healthy_cluster(programs: Programs, *, installed: Object | None = None) -> None:
    """A cluster that has what a release needs; with a release, its three workloads are ready."""
    kubectl, helm = programs.kubectl, programs.helm
    config = {
        "contexts": [{"name": "kind-mesh"}],
        "clusters": [{"cluster": {"server": "https://127.0.0.1:41041"}}],
    }
    kubectl.answer("config view", config)
    kubectl.answer("version", {side: {"gitVersion": "v1.34.4"} for side in ("clientVersion", "serverVersion")})
    kubectl.answer("get namespace", {"metadata": {"name": "pyairtable"}} if installed else "")
    kubectl.answer("auth can-i", "yes\n")
    classes = {"metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    kubectl.answer("get storageclasses", items(classes))
    kubectl.answer("get --raw=/.well-known/openid-configuration", {"issuer": ISSUER})
    kubectl.answer("get crds", "")
    kubectl.answer("get events", items())
    claims = [{"metadata": {"name": "user-data"}}, {"metadata": {"name": "data-postgresql-0"}}]
    kubectl.answer("get persistentvolumeclaims", items(*claims))
    workloads = [deployment("permission"), deployment("user"), operator()]
    kubectl.answer("get deployments", items(*workloads))
    kubectl.answer("get deployments,statefulsets,jobs,pods", items(*workloads))
    lease = {"holderIdentity": "pyairtable-operator-1", "renewTime": "2026-03-01T11:59:58.000000Z"}
    kubectl.answer("get lease", {"spec": {**lease, "leaseDurationSeconds": 15}})
    kubectl.answer("get namespaces", items({"metadata": {"name": "pyairtable"}}))
    kubectl.answer("get services", items(*(grpc_service(name) for name in ("permission", "user"))))
    kubectl.answer("port-forward", "Forwarding from 127.0.0.1:18000 -> 18000\n", stay=60)
    helm.answer("version", "v3.22")
    helm.answer("show chart", "name: pyairtable\nversion: 0.1.0\nappVersion: 0.1.0\n")
    helm.answer("get all", "name: pyairtable\nversion: 0.1.0\nappVersion: 0.1.0\n")
    if installed:
        helm.answer("status", installed)
    else:
        helm.answer("status", stderr="Error: release: not found\n", code=1)
    helm.answer("upgrade", release(2 if installed else 1))
    helm.answer("uninstall", 'release "mesh" uninstalled\n')
    helm.answer("history", [{"revision": 1, "status": "deployed"}, {"revision": 2, "status": "failed"}])


def operator(**variables: str) -> Object:
    selector = "kubernetes.io/metadata.name=pyairtable"
    made = deployment(
        "pyairtable-operator", image="operator:1", PYAIRTABLE_OPERATOR_NAMESPACE_SELECTOR=selector, **variables
    )
    made["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "PYAIRTABLE_OPERATOR_NAMESPACE_SELECTOR", "value": selector}
    ]
    return made


def grpc_service(name: str) -> Object:
    ports = [{"name": "grpc", "port": 50051, "appProtocol": "kubernetes.io/h2c"}]
    return {"metadata": {"name": name, "namespace": "pyairtable"}, "spec": {"ports": ports}}


def arguments(call: Sequence[str], option: str) -> list[str]:
    """What an option was given in a command line, each time."""
    return [call[at + 1] for at, word in enumerate(call) if word == option]
