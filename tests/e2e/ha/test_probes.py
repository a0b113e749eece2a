"""Each probe seen failing, and recovering."""

from tests.e2e.releases import SERVICES, Release, run
from tests.mesh.platform import until

FREEZE = """
for process in /proc/[0-9]*; do
    if tr '\\0' '\\n' <$process/environ 2>/dev/null | grep -qx "PYAIRTABLE_INSTANCE=$0"; then
        kill -STOP ${process#/proc/}
    fi
done
"""
LIVENESS_SECONDS = 180
"""Three probes that fail, and the time that the container is given to end."""


async def test_the_database_gone_for_a_while(replicated: Release) -> None:
    """Startup and readiness tell of it, liveness does not: nothing is restarted, and all of it recovers."""
    before = _restarts(replicated)
    replicated.kubectl("scale", "statefulset/postgresql", "--replicas=0")
    await until("services that are not ready", lambda: all(_ready(replicated, name) == 0 for name in SERVICES))
    (victim, *_) = replicated.pods("permission")
    replicated.kubectl("delete", "pod", victim, "--wait=false")
    await until("a startup probe that fails", lambda: _told(replicated, "Startup probe failed"))
    replicated.kubectl("scale", "statefulset/postgresql", "--replicas=1")
    for service in SERVICES:
        replicated.rolled(service)
    assert _told(replicated, "Readiness probe failed")
    after = _restarts(replicated)
    assert {pod: after[pod] - restarts for pod, restarts in before.items() if after.get(pod, restarts) > restarts} == {}


async def test_a_process_that_hangs_is_restarted(replicated: Release) -> None:
    """Liveness asks the event loop, and a frozen one does not answer."""
    (victim, *_) = replicated.pods("audit")
    before = _restarts(replicated)[victim]
    _freeze(replicated, victim)
    await until(
        "the kubelet to restart it", lambda: _restarts(replicated)[victim] == before + 1, seconds=LIVENESS_SECONDS
    )
    assert _told(replicated, "Liveness probe failed")
    replicated.rolled("audit")


def _ready(release: Release, service: str) -> int:
    (deployment,) = release.objects(f"deployments --field-selector=metadata.name={service}")
    return int(deployment["status"].get("readyReplicas", 0))


def _told(release: Release, words: str) -> bool:
    return any(words in event.get("message", "") for event in release.objects("events"))


def _restarts(release: Release) -> dict[str, int]:
    return {
        pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))
        for pod in release.objects("pods")
        if "deletionTimestamp" not in pod["metadata"]
    }


def _freeze(release: Release, pod: str) -> None:
    """Stop a pod's process from its node: inside its container nobody can, for there it is process 1."""
    (found,) = release.objects(f"pods --field-selector=metadata.name={pod}")
    run("docker", "exec", found["spec"]["nodeName"], "bash", "-c", FREEZE, pod)
