"""`install`, `upgrade` and `uninstall` against fake helm and kubectl on PATH: what is called, said and never said."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click.testing
import pytest

from pyairtable_mesh.meshctl.cluster import chart, releases, uninstall
from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.environment import run_program
from tests import tools
from tests.unit.meshctl.fakes import FakeMesh, invoke
from tests.unit.meshctl.programs import (
    MANIFEST,
    Programs,
    arguments,
    container,
    deployment,
    healthy_cluster,
    items,
    pod,
    release,
)

TIMED_OUT = "Error: UPGRADE FAILED: context deadline exceeded\n"


def run(programs: Programs, *words: str) -> click.testing.Result:
    return invoke(FakeMesh(), *words, program=programs.run)


def lines(done: click.testing.Result) -> list[dict[str, str]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def failures(done: click.testing.Result) -> dict[str, str]:
    return {line["subject"]: line["nextStep"] for line in lines(done) if line["state"] == "fail"}


def test_install_names_the_cluster_before_it_changes_anything_and_ends_with_the_notes(programs: Programs) -> None:
    healthy_cluster(programs)
    done = run(programs, "install")
    said = done.stdout
    assert done.exit_code == 0
    assert said.index("kind-mesh at https://127.0.0.1:41041") < said.index("installed: revision 1 in pyairtable")
    assert said.rstrip().endswith("kubectl port-forward ...")
    [call] = programs.helm.calls("upgrade")
    assert {"--install", "--wait", "--wait-for-jobs", "--create-namespace"} <= set(call)
    assert arguments(call, "--namespace") == ["pyairtable"]
    assert arguments(call, "--timeout") == ["300s"]


def test_values_reach_helm_as_they_were_given_and_no_shell(programs: Programs, tmp_path: Path) -> None:
    healthy_cluster(programs)
    values = tmp_path / "my values.yaml"
    values.write_text("logLevel: DEBUG\n")
    given = "auth.issuer=https://x/$(touch pwned);'\"`id`"
    done = run(
        programs,
        "install",
        "--values",
        str(values),
        "--set",
        given,
        "--set-file",
        f"auth.jwks={values}",
        "--ha",
        "--no-wait",
    )
    assert done.exit_code == 0
    [call] = programs.helm.calls("upgrade")
    ha = str(tools.REPOSITORY / "charts/pyairtable/values-ha.yaml")
    assert arguments(call, "--values") == ["-", ha, str(values)]
    assert arguments(call, "--set") == [given]
    assert arguments(call, "--set-file") == [f"auth.jwks={values}"]
    assert "--wait" not in call
    assert "pwned" not in done.output


def test_the_context_is_passed_to_both_programs(programs: Programs) -> None:
    healthy_cluster(programs)
    assert run(programs, "install", "--context", "staging", "--namespace", "n", "--release", "r").exit_code == 0
    assert all(arguments(call, "--context") == ["staging"] for call in programs.kubectl.calls())
    [call] = programs.helm.calls("upgrade")
    assert (arguments(call, "--kube-context"), call[1]) == (["staging"], "r")


@pytest.mark.parametrize(
    ("program", "words", "answer", "subject", "step"),
    [
        (
            "kubectl",
            "version",
            {"stderr": "Unable to connect to the server: EOF", "code": 1},
            "Kubernetes",
            "--context",
        ),
        ("kubectl", "config view", {"stderr": "error: current-context is not set", "code": 1}, "context", "--context"),
        ("kubectl", "auth can-i", {"said": "no\n", "code": 1}, "rights", "ask who administers"),
        ("helm", "version", {"said": "v3.9.0"}, "helm", "install 3.14 or newer"),
        ("helm", "status", {"said": release(3)}, "release", "meshctl upgrade"),
        ("helm", "status", {"said": release(1, "pending-install")}, "release", "helm rollback mesh"),
    ],
)
def test_nothing_is_changed_when_something_is_not_as_it_must_be(
    programs: Programs, program: str, words: str, answer: dict[str, Any], subject: str, step: str
) -> None:
    healthy_cluster(programs)
    getattr(programs, program).answer(words, **answer)
    done = run(programs, "install", "--output", "json")
    assert done.exit_code == 1
    assert step in failures(done)[subject]
    assert programs.helm.calls("upgrade") == []


def test_an_old_cluster_is_refused(programs: Programs) -> None:
    healthy_cluster(programs)
    versions = {"clientVersion": {"gitVersion": "v1.30.1"}, "serverVersion": {"gitVersion": "v1.29.3"}}
    programs.kubectl.answer("version", versions)
    assert failures(run(programs, "install", "-o", "json")) == {"Kubernetes": "use a cluster of 1.30 or newer"}


@pytest.mark.parametrize("name", ["helm", "kubectl"])
def test_a_missing_program_is_told_with_its_source(programs: Programs, name: str) -> None:
    healthy_cluster(programs)
    getattr(programs, name).path.unlink()
    done = run(programs, "install", "-o", "json")
    assert done.exit_code == 1
    assert f"{name} is not on PATH." in done.stdout


def test_a_meshctl_without_pyhelm3_says_what_to_install(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy_cluster(programs)
    monkeypatch.setitem(sys.modules, "pyhelm3", None)
    monkeypatch.delitem(sys.modules, "pyairtable_mesh.meshctl.cluster.helm", raising=False)
    assert failures(run(programs, "install", "-o", "json")) == {"helm": "pip install 'pyairtable-mesh[cluster]'"}


def test_a_failed_installation_tells_each_pod_that_is_not_ready(programs: Programs) -> None:
    healthy_cluster(programs)
    programs.helm.answer("upgrade", stderr=TIMED_OUT, code=1)
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    crashed = {"exitCode": 3, "reason": "Error"}
    programs.kubectl.answer(
        "get deployments,statefulsets,jobs,pods",
        items(
            deployment("user", ready=0),
            deployment("audit", ready=0),
            deployment("permission"),
            pod("user-1", "user", containerStatuses=[container("user", state={"waiting": waiting})]),
            pod(
                "audit-1",
                "audit",
                containerStatuses=[container("audit", restarts=2, lastState={"terminated": crashed})],
            ),
        ),
    )
    programs.kubectl.answer("logs audit-1 --previous", "Error: no database at \x1b[31mdb\n")
    done = run(programs, "install")
    assert done.exit_code == 1
    assert "pod user-1: ImagePullBackOff: Back-off pulling image" in done.stdout
    assert "pod audit-1: audit has ended with 3 (Error), restarts: 2: Error: no database at  [31mdb" in done.stdout
    assert "next: kubectl logs --namespace pyairtable audit-1 --container audit --previous" in done.stdout
    assert "UPGRADE FAILED: context deadline exceeded" in done.stdout
    assert "or remove it: meshctl uninstall" in done.stdout


def test_a_dry_run_changes_nothing_and_says_what_would_be_made(programs: Programs) -> None:
    healthy_cluster(programs)
    done = run(programs, "install", "--dry-run", "-o", "json")
    assert [call for call in programs.helm.calls("upgrade") if "--dry-run=server" not in call] == []
    assert {"persistentvolumeclaim/user-data", "deployment/user"} <= {line["subject"] for line in lines(done)}
    assert lines(done)[-1]["text"] == "nothing was changed: --dry-run"


def test_an_upgrade_says_first_what_changes_and_no_secret(programs: Programs) -> None:
    healthy_cluster(programs, installed=release(postgresql={"password": "old-hush"}, defaults={"replicas": 1}))
    after = release(
        2,
        manifest=MANIFEST.replace("services:1", "services:2"),
        postgresql={"password": "new-hush"},
        defaults={"replicas": 3},
    )
    programs.helm.answer("upgrade --dry-run=server", after)
    done = run(programs, "upgrade", "-o", "json", "--reuse-values")
    told = {line["subject"]: line["text"] for line in lines(done)}
    assert told["deployment/user"].endswith("unchanged")
    assert ("deployment/user", "image services:1 -> services:2") in [
        (row["subject"], row["text"]) for row in lines(done)
    ]
    assert told["value defaults.replicas"] == "1 -> 3"
    assert told["value postgresql.password"] == "changes"
    assert "hush" not in done.output
    planned, applied = programs.helm.calls("upgrade")
    assert "--dry-run=server" in planned
    assert "--reset-then-reuse-values" in applied


def test_a_failed_upgrade_tells_the_way_back(programs: Programs) -> None:
    healthy_cluster(programs, installed=release(2))
    programs.helm.answer("upgrade", stderr=TIMED_OUT, code=1)
    programs.helm.answer("upgrade --dry-run=server", release(3))
    steps = failures(run(programs, "upgrade", "-o", "json"))
    assert "helm rollback mesh 1 --namespace pyairtable --wait" in steps["release mesh"]


def test_a_cluster_that_goes_away_meanwhile_leaves_helm_s_words(programs: Programs) -> None:
    healthy_cluster(programs, installed=release(2))
    programs.helm.answer("upgrade", stderr=TIMED_OUT, code=1)
    programs.helm.answer("upgrade --dry-run=server", release(3))
    programs.helm.answer("history", stderr="Error: Kubernetes cluster unreachable\n", code=1)
    steps = failures(run(programs, "upgrade", "-o", "json"))
    assert steps["release mesh"] == "correct it and meshctl upgrade --set ..."


def test_an_upgrade_without_a_release_points_to_install(programs: Programs) -> None:
    healthy_cluster(programs)
    assert (
        failures(run(programs, "upgrade", "-o", "json", "-n", "elsewhere"))["release"]
        == "meshctl install --namespace elsewhere"
    )


def test_helm_4_cites_no_value_that_breaks_the_schema(programs: Programs) -> None:
    healthy_cluster(programs)
    complaint = (
        "Error: values don't meet the schema:\n- at '/postgresql/password': 'hush!' does not match pattern '^a$'\n"
    )
    programs.helm.answer("upgrade", stderr=complaint, code=1)
    done = run(programs, "install")
    assert (done.exit_code, "hush" in done.output) == (1, False)
    assert "at '/postgresql/password': what is given does not match pattern" in done.stdout


def test_both_are_programs_on_path(programs: Programs) -> None:
    healthy_cluster(programs)
    assert invoke(FakeMesh(), "install", program=run_program).exit_code == 0
    assert programs.kubectl.calls("config", "view")


def test_a_chart_that_is_not_there_is_told(programs: Programs) -> None:
    healthy_cluster(programs)
    programs.helm.answer("show chart", stderr="Error: path nowhere not found\n", code=1)
    done = run(programs, "install", "--chart", "nowhere")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "Error: No chart can be read at nowhere.")
    assert "name one that is there: --chart" in done.stderr


def test_the_chart_is_that_of_the_checkout_else_the_published_one(tmp_path: Path) -> None:
    assert chart.default_chart(tools.REPOSITORY / "tests/unit") == str(tools.REPOSITORY / "charts/pyairtable")
    assert chart.default_chart(tmp_path) == chart.PUBLISHED


def test_uninstall_without_a_terminal_needs_a_yes(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    done = run(programs, "uninstall")
    assert (done.exit_code, "meshctl uninstall --yes" in done.stderr) == (1, True)
    assert programs.helm.calls("uninstall") == []


@pytest.mark.parametrize(("answer", "removed"), [("y\n", 1), ("n\n", 0), ("\n", 0)])
def test_uninstall_asks_on_a_terminal(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, answer: str, removed: int
) -> None:
    healthy_cluster(programs, installed=release())
    monkeypatch.setattr(uninstall, "interactive", lambda: True)
    invoke(FakeMesh(), "uninstall", program=programs.run, standard_input=answer)
    assert len(programs.helm.calls("uninstall")) == removed


def test_uninstall_names_what_stays(programs: Programs) -> None:
    healthy_cluster(programs, installed=release())
    programs.kubectl.answer("get crds", "customresourcedefinition.apiextensions.k8s.io/policies.mesh.pyairtable.io\n")
    done = run(programs, "uninstall", "--yes", "-o", "json")
    stays = [line["text"] for line in lines(done) if line["subject"] == "stays"]
    claims = "persistentvolumeclaim/data-postgresql-0, persistentvolumeclaim/user-data"
    assert stays == [claims, "policies.mesh.pyairtable.io"]
    [call] = programs.helm.calls("uninstall")
    assert {"mesh", "--wait", "--cascade=foreground", "300s"} <= set(call)


def test_uninstall_of_nothing_is_told(programs: Programs) -> None:
    healthy_cluster(programs)
    assert "helm list --all-namespaces" in failures(run(programs, "uninstall", "--yes", "-o", "json"))["release"]


async def test_an_interrupted_helm_is_ended(programs: Programs) -> None:
    healthy_cluster(programs)
    helm, _ = await releases.opened(Place("pyairtable", "mesh"))
    programs.helm.answer("upgrade", release(), stay=60)
    begun = time.monotonic()
    task = asyncio.create_task(helm.change("chart", ""))
    while not programs.helm.calls("upgrade"):
        await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 30
