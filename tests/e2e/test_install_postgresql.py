"""The release on PostgreSQL: three replicas with the values for that, and databases by reference, migrated by Jobs."""

from collections.abc import Iterator

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from tests import helm
from tests.e2e import releases
from tests.e2e.releases import Release, grpcurl
from tests.mesh.platform import until

PERMISSION = "pyairtable.permission.v1.PermissionService"
SERVICES = ("permission", "user", "audit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    releases.need_cluster()
    releases.build_and_load()
    releases.build_and_load_postgresql()
    return DataFolder(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def replicated(folder: DataFolder) -> Iterator[Release]:
    """Three replicas of each service, on the PostgreSQL that comes along for tests."""
    with releases.namespace("mesh-ha"):
        made = Release("mesh-ha", folder)
        # No policies, for its PostgreSQL serves another namespace as well.
        made.install(*helm.HA, "--set", f"postgresql.enabled=true,networkPolicy.enabled=false,{releases.POSTGRESQL}")
        yield made


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


@pytest.mark.parametrize("pod", range(3))
def test_every_replica_decides_by_the_same_database(replicated: Release, pod: int) -> None:
    if not pod:
        replicated.kubectl("create", "serviceaccount", "tenant")
        grant = {"role": "roles/owner", "resource": f"tenant:{people.TENANT}", "subject": people.ALICE.subject}
        with replicated.forwarded("service/permission") as address:
            grpcurl(address, f"{PERMISSION}/GrantRole", token=replicated.workload_token("tenant"), body=grant)
    pods = replicated.kubectl("get", "pods", "--selector=app.kubernetes.io/name=permission", "--output=name").split()
    question = {"resource": f"tenant:{people.TENANT}", "permission": "read"}
    with replicated.forwarded(pods[pod]) as address:
        answer = grpcurl(
            address, f"{PERMISSION}/CheckPermission", token=replicated.user_token(people.ALICE), body=question
        )
    assert "RESULT_ALLOWED" in answer


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
