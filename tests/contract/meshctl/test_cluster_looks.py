"""`status`, `check` and `doctor` with --cluster, against fake helm and kubectl on PATH."""

import json
from datetime import UTC, datetime
from typing import Any

import click.testing
import pytest
import yaml

from pyairtable_mesh.meshctl.cluster import diagnosis, preflight
from pyairtable_mesh.meshctl.findings import Finding
from tests import tools
from tests.unit.meshctl.fakes import PLANE, FakeMesh, endpoint, failure, invoke, platform, service
from tests.unit.meshctl.programs import (
    Programs,
    deployment,
    grpc_service,
    healthy_cluster,
    items,
    operator,
    release,
)


def mesh() -> FakeMesh:
    return platform(*(service(name, endpoint("10.0.0.1:50051")) for name in ("permission", "user")))


def run(programs: Programs, known: FakeMesh, *words: str) -> click.testing.Result:
    return invoke(known, *words, "--cluster", "-o", "json", program=programs.run)


def findings(programs: Programs, known: FakeMesh, word: str, state: str = "fail") -> dict[str, tuple[str, str]]:
    found = json.loads(run(programs, known, word).stdout)
    return {each["subject"]: (each["text"], each["nextStep"]) for each in found if each["state"] == state}


def test_a_healthy_release_has_nothing_wrong(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    done = run(programs, mesh(), "doctor")
    assert (done.exit_code, {each["state"] for each in json.loads(done.stdout)}) == (0, {"ok"})


def test_a_laptop_is_looked_at_as_before(programs: Programs) -> None:
    done = invoke(mesh(), "status", program=programs.run)
    assert (done.exit_code, programs.kubectl.calls(), programs.helm.calls()) == (0, [], [])


@pytest.mark.parametrize("option", ["--namespace", "--release", "--context"])
def test_who_names_a_place_means_a_cluster(programs: Programs, option: str) -> None:
    healthy_cluster(programs, installed=release())
    done = invoke(mesh(), "status", option, "x", program=programs.run)
    assert (done.exit_code, done.stdout.startswith("WORKLOAD")) == (0, True)


@pytest.mark.parametrize(
    ("program", "words", "answer", "subject", "step"),
    [
        ("helm", "status", {"said": release(2, "failed")}, "release", "helm rollback mesh --namespace pyairtable"),
        ("helm", "status", {"said": release(2, "pending-upgrade")}, "release", "helm rollback mesh"),
        ("helm", "status", {"stderr": "Error: release: not found", "code": 1}, "release", "meshctl install"),
        (
            "kubectl",
            "get services",
            {"said": items(grpc_service("billing"))},
            "pyairtable/billing",
            "kubectl describe service --namespace pyairtable billing",
        ),
        (
            "kubectl",
            "get deployments,statefulsets,jobs,pods",
            {"said": items(deployment("user", ready=0))},
            "deployment/user",
            "kubectl describe --namespace pyairtable deployment/user",
        ),
        (
            "kubectl",
            "get deployments",
            {"said": items(deployment("user", audience="other"), operator())},
            "deployment/user",
            "set trustDomain alike",
        ),
        (
            "kubectl",
            "get --raw=/.well-known/openid-configuration",
            {"said": {"issuer": "https://cloud"}},
            "deployment/user",
            "--set workloads.issuer=https://cloud",
        ),
        ("kubectl", "get lease", {"stderr": "Forbidden", "code": 1}, "cluster", "ask who administers"),
        ("kubectl", "port-forward", {"code": 1}, "control plane", "look whether its pods run"),
    ],
)
def test_what_is_wrong_is_found_with_the_next_step(
    programs: Programs, program: str, words: str, answer: dict[str, Any], subject: str, step: str
) -> None:
    healthy_cluster(programs, installed=release())
    getattr(programs, program).answer(words, **answer)
    if words == "get deployments":  # its words are in the other look, too
        programs.kubectl.answer("get deployments,statefulsets,jobs,pods", items(deployment("user")))
    assert step in findings(programs, mesh(), "doctor")[subject][1]


def test_a_control_plane_that_wants_a_token_is_no_failure(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    known = mesh()
    known.fail(PLANE, "ListServices", failure(16, "the status of a cluster's mesh wants a token"))
    [(subject, (text, _))] = findings(programs, known, "doctor", state="warn").items()
    assert (subject, "wants a token" in text) == ("control plane", True)
    assert findings(programs, known, "doctor") == {}
    shown = invoke(known, "status", "--cluster", program=programs.run).stdout
    assert "The control plane does not tell what it knows: UNAUTHENTICATED: the status" in shown


def test_a_cluster_that_is_away_is_the_only_finding(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    programs.kubectl.answer("version", stderr="The connection to the server was refused", code=1)
    assert list(findings(programs, mesh(), "doctor")) == ["Kubernetes"]


def test_what_the_operator_has_told_owners_is_told_again(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    event = {"involvedObject": {"name": "billing", "namespace": "shop"}, "message": "no TCP port"}
    programs.kubectl.answer("get events --all-namespaces", items(event))
    assert findings(programs, mesh(), "doctor", state="warn")["shop/billing"][0] == "left out of the mesh: no TCP port"


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "state", "text"),
    [
        (None, "warn", "no replica of the control plane writes"),
        ({"holderIdentity": ""}, "warn", "no replica of the control plane writes"),
        ({"holderIdentity": "a", "renewTime": "2026-03-01T11:58:59.5Z"}, "warn", "held by a, and not renewed for 60 s"),
        ({"holderIdentity": "a", "renewTime": "2026-03-01T11:59:50.5Z"}, "ok", "held by a"),
    ],
)
def test_the_lease(spec: dict[str, Any] | None, state: str, text: str) -> None:
    [finding] = diagnosis.of_lease(None if spec is None else {"spec": spec}, NOW)
    assert (finding.state, finding.text.startswith(text)) == (state, True)


def test_services_that_the_control_plane_has_are_registered() -> None:
    found = diagnosis.Membership("a=b", ("pyairtable",), frozenset({"pyairtable/user"}))
    text = "all 1 gRPC Services"
    assert list(diagnosis.of_registered(found, [service("user")])) == [Finding("ok", "registered", text)]


def test_status_shows_the_release_and_says_why_the_control_plane_has_no_view(programs: Programs) -> None:
    healthy_cluster(programs, installed=release(4))
    known = mesh()
    known.fail(PLANE, "ListServices", failure(16, "who are you?"))
    shown = json.loads(run(programs, known, "status").stdout)
    assert (shown["release"]["revision"], shown["release"]["chart"]) == (4, "pyairtable-0.1.0")
    assert {each["name"]: each["state"] for each in shown["workloads"]}["user"] == "ready"
    assert (shown["controlPlane"], shown["controlPlaneProblem"]) == (None, "UNAUTHENTICATED: who are you?")


def test_status_without_a_release_points_to_install(programs: Programs) -> None:
    healthy_cluster(programs)
    done = run(programs, mesh(), "status")
    assert (done.exit_code, "meshctl install" in done.stderr) == (1, True)


def test_status_of_a_cluster_is_not_watched(programs: Programs) -> None:
    assert run(programs, mesh(), "status", "--watch").exit_code == 2


@pytest.mark.parametrize(
    ("words", "answer", "subject", "step"),
    [
        ("get storageclasses", items({"metadata": {"name": "slow"}}), "storage", "--set persistence.storageClass=slow"),
        (
            "get --raw=/.well-known/openid-configuration",
            {"issuer": "https://cloud"},
            "issuer",
            "workloads.issuer=https://cloud",
        ),
        ("get namespace", "", "namespace", "meshctl install"),
    ],
)
def test_check_warns_of_what_an_installation_meets(
    programs: Programs, words: str, answer: object, subject: str, step: str
) -> None:
    healthy_cluster(programs, installed=release())
    programs.kubectl.answer(words, answer)
    assert step in findings(programs, mesh(), "check", state="warn")[subject][1]
    assert findings(programs, mesh(), "check") == {}


def test_what_is_known_of_the_chart_is_so() -> None:
    charts = tools.REPOSITORY / "charts"
    values = yaml.safe_load((charts / "pyairtable/values.yaml").read_text())
    about = yaml.safe_load((charts / "pyairtable/Chart.yaml").read_text())
    assert values["workloads"]["issuer"] == preflight.ISSUER
    assert about["kubeVersion"] == f">={'.'.join(map(str, preflight.OLDEST_KUBERNETES))}.0-0"
