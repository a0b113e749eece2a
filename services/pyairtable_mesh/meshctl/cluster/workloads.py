"""What a release's workloads are like: pure reading of Deployments, StatefulSets, Jobs and pods as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl, Object
from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.problems import Problem

KINDS = "deployments,statefulsets,jobs,pods"
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_WAITS = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons that only say that something else is to be waited for."""
_NO_LOG = "unable to retrieve container logs"
_MAX_WORDS = 240


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not ready; `reason` is Kubernetes' word for it, empty when it only waits."""

    pod: str
    reason: str
    text: str
    next_step: str
    container: str = ""
    crashed: bool = False
    """Whether a container of it has ended, so that its last log line says more."""

    @property
    def cause(self) -> str:
        """What it has in common with what the same pod meets next, so that it is told once."""
        return "image" if self.reason in _IMAGE_REASONS else "crash" if self.crashed else self.reason

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.text}"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or Job of a release."""

    kind: str
    name: str
    generation: int
    ready: int
    desired: int
    settled: bool
    """Whether all its pods are ready and none is of an older generation; for a Job, whether it has succeeded."""
    images: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()

    @property
    def title(self) -> str:
        """Kind and name, as kubectl takes them."""
        return f"{self.kind.lower()}/{self.name}"


def fetch(kubectl: Kubectl, place: Place) -> list[Workload]:
    """The release's workloads with what keeps their pods from being ready. Raises `Problem`."""
    objects = kubectl.items(KINDS, "--namespace", place.namespace, "--selector", place.selector)
    found = read(objects, place.namespace)
    if not any(workload.troubles for workload in found):
        return found
    said = warnings(kubectl.items("events", "--namespace", place.namespace, "--field-selector=type=Warning"))
    return [
        replace(workload, troubles=tuple(_completed(kubectl, place, each, said) for each in workload.troubles))
        for workload in found
    ]


def read(objects: Iterable[Object], namespace: str) -> list[Workload]:
    """The workloads among the objects, by name, each with the troubles of its pods."""
    known = list(objects)
    pods = [each for each in known if each["kind"] == "Pod" and "deletionTimestamp" not in each["metadata"]]
    return sorted(
        (_workload(each, pods, namespace) for each in known if each["kind"] != "Pod"), key=lambda found: found.name
    )


def _workload(found: Object, pods: Sequence[Object], namespace: str) -> Workload:
    spec, status = found["spec"], found.get("status", {})
    labels = spec.get("selector", {}).get("matchLabels", {})
    own = [pod for pod in pods if labels and labels.items() <= pod["metadata"].get("labels", {}).items()]
    generation = found["metadata"].get("generation", 0)
    seen = status.get("observedGeneration", 0) >= generation
    if found["kind"] == "Job":
        desired, ready = spec.get("completions", 1), status.get("succeeded", 0)
        settled = ready >= desired
    else:
        desired, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        settled = seen and status.get("replicas", 0) == status.get("updatedReplicas", 0) == ready == desired
    troubles = () if settled else tuple(each for pod in own if (each := trouble(pod, namespace)) is not None)
    refused = _condition(status, "ReplicaFailure", "True")
    if refused is not None and not settled:
        step = f"kubectl describe --namespace {namespace} {found['kind'].lower()} {found['metadata']['name']}"
        troubles += (Trouble(found["metadata"]["name"], refused["reason"], _words(refused), step),)
    images = tuple(container["image"] for container in spec["template"]["spec"]["containers"])
    return Workload(found["kind"], found["metadata"]["name"], generation, ready, desired, settled, images, troubles)


def trouble(pod: Object, namespace: str) -> Trouble | None:
    """Why a pod is not ready; None when it is, or has done its work."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Succeeded" or _condition(status, "Ready", "True") is not None:
        return None
    described = f"kubectl describe pod --namespace {namespace} {name}"
    unplaced = _condition(status, "PodScheduled", "False")
    if unplaced is not None:
        step = f"make room (kubectl describe nodes), or ask for less in the values; {described}"
        return Trouble(name, unplaced.get("reason", "Unschedulable"), _words(unplaced), step)
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        found = _of_container(name, namespace, container)
        if found is not None:
            return found
    if status.get("phase") == "Running":
        return Trouble(name, "", "runs, and is not ready yet", described)
    return Trouble(name, "", "starts", described)


def _of_container(pod: str, namespace: str, container: Object) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting", {})
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    reason, name = waiting.get("reason", ""), container["name"]
    if reason in _IMAGE_REASONS:
        step = (
            f"see that nodes can get {container['image']} (kind load docker-image, imagePullSecrets), or set another"
            " with --set image.repository=...,image.tag=..."
        )
        why = " ".join((waiting.get("message") or "").split()).rpartition(": ")[2]
        return Trouble(pod, reason, f"{reason}: {why}"[:_MAX_WORDS], step, name)
    if ended and ended.get("exitCode") and not container.get("ready"):
        step = f"kubectl logs --namespace {namespace} {pod} --container {name} --previous"
        text = f"{name} has ended with {ended['exitCode']} ({ended.get('reason', 'Error')})"
        return Trouble(
            pod, reason or "Error", f"{text}, restarts: {container.get('restartCount', 0)}", step, name, True
        )
    if reason not in _WAITS:
        return Trouble(pod, reason, _words(waiting), f"kubectl describe pod --namespace {namespace} {pod}", name)
    return None


def warnings(events: Iterable[Object]) -> dict[str, str]:
    """Name of an object -> the last Warning about it."""
    ordered = sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return {event["involvedObject"]["name"]: _words(event) for event in ordered}


def _completed(kubectl: Kubectl, place: Place, found: Trouble, said: Mapping[str, str]) -> Trouble:
    """The trouble with what its log or an Event has to say about it."""
    if found.crashed:
        line = last_log_line(kubectl, place, found)
        return replace(found, text=f"{found.text}: {line}") if line else found
    if not found.reason and found.pod in said:
        return replace(found, text=f"{found.text}: {said[found.pod]}")
    return found


def last_log_line(kubectl: Kubectl, place: Place, found: Trouble) -> str:
    """The last line of a crashed container's log; empty when there is none any more."""
    words = ("logs", "--namespace", place.namespace, found.pod, "--container", found.container, "--tail=1")
    for previous in (("--previous",), ()):
        try:
            line = kubectl.text(*words, *previous).strip()
        except Problem:
            continue
        if line and not line.startswith(_NO_LOG):
            return line.splitlines()[-1][:_MAX_WORDS]
    return ""


def _condition(status: Object, kind: str, state: str) -> Object | None:
    found = (each for each in status.get("conditions", ()) if (each["type"], each["status"]) == (kind, state))
    return next(found, None)


def _words(found: Object) -> str:
    reason, message = found.get("reason", ""), " ".join((found.get("message") or "").split())
    return ": ".join(part for part in (reason, message) if part)[:_MAX_WORDS]
