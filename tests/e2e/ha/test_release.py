"""The release on PostgreSQL: three replicas with the values for that, and databases by reference, migrated by Jobs."""

from collections.abc import Iterator

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from tests import helm
from tests.e2e import releases
from tests.e2e.releases import PERMISSION, SERVICES, Release, grpcurl
from tests.mesh.platform import until


@pytest.fixture(scope="module")
def referring(replicated: Release, folder: DataFolder) -> Iterator[Release]:
    """One replica of each, on databases that a Secret names: new ones on the server of the other release."""
    name = "mesh-reference"
    with releases.namespace(name):
        made = Release(name, folder)
        made.kubectl("create", "secret", "generic", "databases", *_databases(replicated))
        made.install("--set", "database.existingSecret=databases")
        yield made


def _databases(server: Release) -> list[str]:
    password = server.kubectl("get", "secret", "postgresql", "--output=go-template={{.data.password | base64decode}}")
    for service in SERVICES:
        sql = f"CREATE DATABASE referred_{service} OWNER mesh"
        server.kubectl("exec", "postgresql-0", "--", "psql", "--username=postgres", f"--command={sql}")
    host = f"postgresql.{server.namespace}.svc"
    return [f"--from-literal={name}=postgresql://mesh:{password}@{host}/referred_{name}" for name in SERVICES]


async def test_the_autoscaler_brings_three_replicas_that_become_ready(replicated: Release) -> None:
    def ready() -> bool:
        found = {
            each["metadata"]["name"]: each["status"].get("readyReplicas") for each in replicated.objects("deployments")
        }
        return all(found[service] == 3 for service in SERVICES) and found["pyairtable-operator"] == 2

    await until("three ready replicas of each service", ready)


def test_replicas_are_apart_from_each_other(replicated: Release) -> None:
    for service in SERVICES:
        pods = replicated.objects(f"pods --selector=app.kubernetes.io/name={service}")
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, service


def test_every_replica_decides_by_the_same_database(replicated: Release, owner: str) -> None:
    question = {"resource": f"tenant:{people.TENANT}", "permission": "read"}
    for pod in replicated.pods("permission"):
        with replicated.forwarded(f"pod/{pod}") as address:
            assert "RESULT_ALLOWED" in grpcurl(address, f"{PERMISSION}/CheckPermission", token=owner, body=question)


def test_jobs_migrate_before_services_start(referring: Release) -> None:
    pods = referring.objects("pods")
    assert {status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]} == {0}
    variables = pods[0]["spec"]["containers"][0]["env"]
    assert {"name": "PYAIRTABLE_MIGRATE", "value": "false"} in variables
    assert referring.objects("jobs") == []
    assert "Succeeded" in referring.helm("test", "mesh")


def test_an_upgrade_whose_migration_fails_replaces_nothing(referring: Release) -> None:
    before = referring.kubectl("get", "pods", "--output=name")
    broken = ("--reuse-values", "--set", "database.existingSecret=nowhere", "--timeout", "20s")
    done = helm.run("upgrade", "mesh", helm.MESH, "--namespace", referring.namespace, *broken)
    assert done.returncode != 0
    assert referring.kubectl("get", "pods", "--output=name", "--selector=!batch.kubernetes.io/job-name") == before
