"""How workloads are read from objects of Kubernetes, and what is told of them while Helm waits."""

import asyncio
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from pyairtable_mesh.meshctl.cluster import kubectl, progress, workloads
from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.cluster.workloads import Workload
from pyairtable_mesh.meshctl.environment import run_program
from pyairtable_mesh.meshctl.findings import Finding
from pyairtable_mesh.meshctl.problems import Problem
from tests.unit.meshctl.programs import Programs, container, deployment, items, pod

NAMESPACE = "pyairtable"


def of(workload: dict[str, Any], *pods: dict[str, Any]) -> Workload:
    [found] = workloads.read([workload, *pods], NAMESPACE)
    return found


def unplaced(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"conditions": [condition]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


CRASHED = {"lastState": {"terminated": {"exitCode": 2}}}


@pytest.mark.parametrize(
    ("status", "text", "step"),
    [
        (
            unplaced("0/1 nodes are available:\n1 Insufficient memory."),
            "Unschedulable: 0/1 nodes are available: 1",
            "make room",
        ),
        (
            {"containerStatuses": [container("user", image="x:1", **waiting("ErrImagePull", "denied"))]},
            "ErrImagePull: denied",
            "see that nodes can get x:1",
        ),
        (
            {
                "containerStatuses": [
                    container("user", **waiting("CreateContainerConfigError", 'secret "db" not found'))
                ]
            },
            'CreateContainerConfigError: secret "db" not found',
            "kubectl describe pod --namespace pyairtable user-1",
        ),
        (
            {
                "containerStatuses": [
                    container("user", restarts=4, state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
                ]
            },
            "user has ended with 137 (OOMKilled), restarts: 4",
            "kubectl logs --namespace pyairtable user-1 --container user --previous",
        ),
        ({"containerStatuses": [container("user", **waiting("ContainerCreating"))]}, "starts", "kubectl describe pod"),
        (
            {"phase": "Running", "containerStatuses": [container("user")]},
            "runs, and is not ready yet",
            "kubectl describe",
        ),
    ],
)
def test_why_a_pod_is_not_ready(status: dict[str, Any], text: str, step: str) -> None:
    [trouble] = of(deployment("user", ready=0), pod("user-1", "user", **status)).troubles
    assert trouble.text.startswith(text)
    assert trouble.next_step.startswith(step)


def test_a_pod_that_is_ready_done_or_going_is_no_trouble() -> None:
    ready = pod("user-1", "user", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    done = pod("user-2", "user", phase="Succeeded")
    going = pod("user-3", "user", **unplaced("no"))
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    others = pod("audit-1", "audit", **unplaced("no"))
    assert of(deployment("user", ready=0), ready, done, going, others).troubles == ()


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        ({}, True),
        ({"readyReplicas": 2}, False),
        ({"updatedReplicas": 1}, False),
        ({"replicas": 4}, False),
        ({"observedGeneration": 0}, False),
    ],
)
def test_a_deployment_is_settled_when_all_pods_are_new_and_ready(changed: dict[str, int], settled: bool) -> None:
    workload = deployment("user", ready=3, desired=3)
    workload["status"] |= changed
    assert of(workload).settled is settled


def test_no_replica_is_ready_when_none_is_wanted() -> None:
    workload = deployment("user", ready=0, desired=0)
    workload["status"] = {"observedGeneration": 1}
    assert of(workload).settled


def test_a_job_is_settled_when_it_has_succeeded() -> None:
    spec = {"template": {"spec": {"containers": [{"image": "services:1"}]}}, "selector": {"matchLabels": {"job": "1"}}}
    job = {"kind": "Job", "metadata": {"name": "user-migration"}, "spec": spec, "status": {}}
    assert not of(job).settled
    assert of({**job, "status": {"succeeded": 1}}).settled


def test_pods_that_may_not_be_made_are_told() -> None:
    workload = deployment("user", ready=0)
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    workload["status"]["conditions"] = [refused]
    [trouble] = of(workload).troubles
    assert trouble.text == "FailedCreate: exceeded quota"


def test_an_event_says_what_a_silent_pod_waits_for(programs: Programs) -> None:
    silent = pod("user-1", "user", containerStatuses=[container("user", **waiting("ContainerCreating"))])
    programs.kubectl.answer("get deployments,statefulsets,jobs,pods", items(deployment("user", ready=0), silent))
    events = [
        {"involvedObject": {"name": "user-1"}, "reason": "FailedMount", "message": text, "lastTimestamp": stamp}
        for text, stamp in (("the last", "2026-03-01T12:00:01Z"), ("the first", "2026-03-01T12:00:00Z"))
    ]
    programs.kubectl.answer("get events", items(*events))
    [found] = workloads.fetch(kubectl.Kubectl(run_program), Place(NAMESPACE, "mesh"))
    assert [str(trouble) for trouble in found.troubles] == ["pod user-1: starts: FailedMount: the last"]


def test_a_log_that_is_gone_is_looked_for_in_the_present_container(programs: Programs) -> None:
    crashed = pod("user-1", "user", containerStatuses=[container("user", **CRASHED)])
    programs.kubectl.answer("get deployments,statefulsets,jobs,pods", items(deployment("user", ready=0), crashed))
    programs.kubectl.answer("get events", items())
    programs.kubectl.answer("logs user-1", "LOG_LEVEL: unknown\n")
    programs.kubectl.answer("logs user-1 --previous", "unable to retrieve container logs for containerd://6607\n")
    [found] = workloads.fetch(kubectl.Kubectl(run_program), Place(NAMESPACE, "mesh"))
    assert found.troubles[0].text.endswith("LOG_LEVEL: unknown")


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_each_thing_is_told_once_and_silence_is_broken() -> None:
    said: list[Finding] = []
    clock = Clock()
    told = progress.Progress(said.append, clock=clock)
    ill = of(deployment("user", ready=0), pod("user-1", "user", **unplaced("no room")))
    for clock.seconds in (2.0, 4.0, 24.0, 26.0):
        told.look([ill, of(deployment("audit"))])
    clock.seconds = 28.0
    told.look([of(deployment("user"))])
    assert [(finding.state, finding.subject, finding.text) for finding in said] == [
        ("warn", "deployment/user", "pod user-1: Unschedulable: no room"),
        ("ok", "deployment/audit", "1/1 ready after 2 s"),
        ("ok", "waiting", "for deployment/user 0/1, 24 s so far"),
        ("ok", "deployment/user", "1/1 ready after 28 s"),
    ]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (waiting("ErrImagePull", "a: b"), waiting("ImagePullBackOff", "a: b")),
        (CRASHED, CRASHED | waiting("CrashLoopBackOff")),
    ],
)
def test_one_cause_under_two_reasons_is_told_once(first: dict[str, Any], then: dict[str, Any]) -> None:
    said: list[Finding] = []
    told = progress.Progress(said.append)
    for state in (first, then):
        told.look(
            [of(deployment("user", ready=0), pod("user-1", "user", containerStatuses=[container("user", **state)]))]
        )
    assert len(said) == 1


def test_an_upgrade_tells_what_was_wrong_before_and_still_is() -> None:
    said: list[Finding] = []
    ill = of(deployment("user", ready=0), pod("user-1", "user", **unplaced("no room")))
    told = progress.Progress(said.append, [ill])
    told.look([ill])
    told.look([of(deployment("user"))])
    assert [finding.state for finding in said] == ["warn", "ok"]


def test_what_an_upgrade_does_not_touch_is_told_at_the_end() -> None:
    said: list[Finding] = []
    before = [of(deployment("user")), of(deployment("audit"))]
    told = progress.Progress(said.append, before)
    told.look(before)
    assert said == []
    changed = deployment("user")
    changed["metadata"]["generation"] = changed["status"]["observedGeneration"] = 2
    told.finish([of(changed), before[1]])
    assert [finding.text.split(" after")[0] for finding in said] == ["1/1 ready, and unchanged", "1/1 ready"]


async def test_workloads_are_followed_until_the_work_ends() -> None:
    looks: list[int] = []
    enough, said = asyncio.Event(), list[Finding]()
    loop = asyncio.get_running_loop()

    def fetch() -> list[Workload]:
        looks.append(len(looks))
        if len(looks) == 1:
            raise Problem("the cluster is busy")
        if len(looks) > 2:
            loop.call_soon_threadsafe(enough.set)
        return [of(deployment("user", ready=int(len(looks) > 2)))]

    async def work() -> str:
        await enough.wait()
        return "done"

    assert await progress.follow(work(), fetch, progress.Progress(said.append), every=0.01) == "done"
    assert [finding.subject for finding in said] == ["deployment/user"]


async def test_work_that_fails_is_not_told_as_ready() -> None:
    async def work() -> None:
        raise Problem("no")

    said: list[Finding] = []
    with pytest.raises(Problem):
        await progress.follow(work(), list, progress.Progress(said.append), every=0.01)
    assert said == []


def test_kubectl_that_hangs_is_told() -> None:
    def hanging(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 30)

    with pytest.raises(Problem, match="does not end") as caught:
        kubectl.Kubectl(hanging).text("version")
    assert "--context" in caught.value.next_step


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('Error from server (Forbidden): pods is forbidden: User "u" cannot list', "The cluster refuses"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "The cluster does not answer"),
        ('error: context "x" does not exist', "No cluster is chosen"),
        ("error: something else", "kubectl get fails"),
        ("", "kubectl get fails: it says nothing"),
    ],
)
def test_kubectl_s_complaints_become_words(programs: Programs, said: str, words: str) -> None:
    programs.kubectl.answer("get", stderr=said, code=1)
    with pytest.raises(Problem, match=words) as caught:
        kubectl.Kubectl(run_program).items("pods")
    assert caught.value.next_step


async def test_a_port_forward_that_does_not_begin_is_told(programs: Programs) -> None:
    programs.kubectl.answer("port-forward", stderr="error: unable to forward", code=1)
    with pytest.raises(Problem, match="cannot be reached by a port-forward"):
        async with kubectl.Kubectl(run_program).forwarded(NAMESPACE, "service/x", 1):
            pass
