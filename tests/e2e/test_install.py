"""One command installs a mesh that works, on a real cluster and without values."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from tests.e2e import releases
from tests.e2e.releases import AUDIT, PERMISSION, SERVICES, USER, Release, grpcurl
from tests.mesh.platform import until

LIST_SERVICES = "pyairtable.mesh.v1.StatusService/ListServices"
REMOVING = ("helm uninstall", "kubectl delete")
"""How lines of the notes begin that another test runs, last of all."""


@pytest.fixture(scope="module")
def release(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release without values but for images and keys; its namespace goes at the end."""
    with releases.namespace("mesh-install"):
        made = Release("mesh-install", DataFolder(tmp_path_factory.mktemp("issuer")))
        made.install()
        yield made


@pytest.fixture(scope="module")
def owner(release: Release) -> str:
    """Alice's token, once the tenant's service account has made her the first owner."""
    return release.make_owner(people.ALICE)


def test_no_pod_had_to_be_restarted(release: Release) -> None:
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in release.objects("pods")
        for status in pod["status"]["containerStatuses"]
    }
    assert set(restarts.values()) == {0}, restarts


@pytest.mark.parametrize("service", SERVICES)
def test_grpcurl_lists_and_describes(release: Release, service: str) -> None:
    with release.forwarded(f"service/{service}") as address:
        assert SERVICES[service] in grpcurl(address, "list").split()
        assert f"service {SERVICES[service].rpartition('.')[2]}" in grpcurl(address, "describe", SERVICES[service])


def test_the_control_plane_knows_every_service(release: Release) -> None:
    with release.forwarded("service/pyairtable-operator", 18000) as address:
        with pytest.raises(AssertionError, match="Unauthenticated"):
            grpcurl(address, LIST_SERVICES, body={})
        told = json.loads(grpcurl(address, LIST_SERVICES, token=release.workload_token("pyairtable-viewer"), body={}))
    known = {service["short_name"]: service for service in told["services"]}
    assert {*SERVICES, "pyairtable-operator"} <= set(known)
    for name in SERVICES:
        assert known[name]["identities"] == [f"spiffe://{releases.TRUST_DOMAIN}/ns/{release.namespace}/sa/{name}"]


async def test_a_policy_is_taken_or_refused_in_words(release: Release) -> None:
    reference = {"group": "", "kind": "Service", "name": "user"}
    policy = {
        "apiVersion": "mesh.pyairtable.io/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "user"},
        "spec": {"targetRef": reference, "maxConcurrentRequests": 99, "retry": {"maxBackoff": "1s"}},
    }
    release.kubectl("apply", "--filename=-", stdin=json.dumps(policy))

    def accepted() -> bool:
        (found,) = release.objects("trafficpolicies")
        return any(each["reason"] == "Accepted" for each in found.get("status", {}).get("conditions", ()))

    await until("the policy in force", accepted)
    policy["spec"] = {"targetRef": reference, "retry": {"maxBackoff": "1ms"}}
    with pytest.raises(AssertionError, match=r"initialBackoff .* must not be longer than maxBackoff"):
        release.kubectl("apply", "--filename=-", stdin=json.dumps(policy))
    release.kubectl("delete", "trafficpolicy", "user")


def test_a_person_with_a_token_asks_and_changes(release: Release, owner: str) -> None:
    question = {"resource": f"tenant:{people.TENANT}", "permission": "manage_users"}
    with release.forwarded("service/permission") as address:
        answer = json.loads(grpcurl(address, f"{PERMISSION}/CheckPermission", token=owner, body=question))
    assert answer["decision"]["result"] == "RESULT_ALLOWED"
    user = {"user": {"email": "dora@example.com", "display_name": "Dora"}}
    with release.forwarded("service/user") as address:
        made = json.loads(grpcurl(address, f"{USER}/CreateUser", token=owner, body=user))
    assert made["email"] == "dora@example.com"


async def test_changes_reach_the_audit_log_by_the_services_own_tokens(release: Release, owner: str) -> None:
    with release.forwarded("service/audit") as address:

        def listed() -> bool:
            return f"{PERMISSION}/GrantRole" in grpcurl(address, f"{AUDIT}/ListAuditEvents", token=owner, body={})

        await until("the first owner's grant in the audit log", listed)


def test_the_lines_of_the_notes_work_as_printed(release: Release, owner: str) -> None:
    lines = [line.strip() for line in release.helm("get", "notes", "mesh").splitlines() if line.startswith("  ")]
    script = ["set -eu", "trap 'kill $(jobs -p)' EXIT"]
    for line in lines:
        if not line.startswith(REMOVING):
            script += [f"echo {shlex.quote('+ ' + line)}", line]
        if (found := re.search(r"port-forward .* (\d+):\d+ &$", line)) is not None:
            script.append(f"until (: </dev/tcp/localhost/{found[1]}) 2>/dev/null; do sleep 0.1; done")
    environment = {**os.environ, "TOKEN": owner, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(service in done.stdout for service in SERVICES.values())


def test_helm_test_passes(release: Release) -> None:
    assert "Succeeded" in release.helm("test", "mesh")


def test_what_stays_is_what_the_notes_name(release: Release) -> None:
    notes = release.helm("get", "notes", "mesh")
    release.helm("uninstall", "mesh", "--wait", "--cascade=foreground")
    kept = [f"{service}-data" for service in sorted(SERVICES)]
    assert _left(release, "deployments,pods,services,configmaps,secrets,roles,rolebindings,networkpolicies,pvc") == kept
    assert all(name in notes for name in kept)
    cluster_wide = _left(release, "clusterroles,clusterrolebindings")
    assert f"pyairtable-operator:{release.namespace}" not in cluster_wide


def _left(release: Release, kinds: str) -> list[str]:
    labelled = ((each["metadata"]["name"], each["metadata"].get("labels", {})) for each in release.objects(kinds))
    return sorted(name for name, labels in labelled if labels.get("app.kubernetes.io/part-of") == "pyairtable-mesh")
