"""The data folder's lock, the ports, the plans and the mesh file: what a run looks at and writes before it starts."""

import os
import socket
from pathlib import Path

import click
import pytest

from pyairtable_laptop import plan, ports
from pyairtable_laptop.folder import DataFolder, locked
from pyairtable_laptop.mesh import MeshFile
from pyairtable_operator.model import Health
from pyairtable_operator.providers import document


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path)
    made.make()
    return made


def test_a_folder_is_for_one_run_at_a_time(folder: DataFolder) -> None:
    with locked(folder):
        with pytest.raises(click.ClickException) as refused, locked(folder):
            pass
        assert f"process {os.getpid()}" in refused.value.message
        assert "--data DIR" in refused.value.message
    with locked(folder):
        pass


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(click.ClickException, match="can't be made: Not a directory"):
        DataFolder(tmp_path / "file" / "data").make()


def test_a_port_in_use_is_named_with_its_user_and_the_next_step(folder: DataFolder) -> None:
    plans = plan.plans(folder, {}, free_ports=True)
    plan.check_ports(plans)
    user = next(each for each in plans if each.name == "user")
    with socket.create_server((ports.HOST, user.ports.health)), pytest.raises(click.ClickException) as refused:
        plan.check_ports(plans)
    assert f"{user.ports.health} (user, health)" in refused.value.message
    assert f"(process {os.getpid()})" in refused.value.message
    assert "--free-ports" in refused.value.message


def test_free_ports_are_each_given_once() -> None:
    chosen = ports.free()
    taken = [next(chosen) for _ in range(50)]
    assert len(set(taken)) == 50
    assert all(ports.is_free(port) for port in taken)


def test_fixed_ports_are_those_of_the_documentation(folder: DataFolder) -> None:
    found = {each.name: each.ports for each in plan.plans(folder, {}, free_ports=False)}
    assert found == {
        "control-plane": plan.Ports(18000, 18000),
        "permission": plan.Ports(50051, 50053, 9464),
        "user": plan.Ports(50061, 50063, 9465),
        "audit": plan.Ports(50071, 50073, 9466),
    }


def test_further_instances_share_the_database_and_leave_migrations_to_the_first(folder: DataFolder) -> None:
    plans = {each.name: each for each in plan.plans(folder, {"user": 2}, free_ports=False)}
    first, second = plans["user"], plans["user-2"]
    assert first.environment["PYAIRTABLE_DATABASE_URL"] == second.environment["PYAIRTABLE_DATABASE_URL"]
    assert (first.follows, first.environment["PYAIRTABLE_MIGRATE"]) == ("", "true")
    assert (second.follows, second.environment["PYAIRTABLE_MIGRATE"]) == ("user", "false")
    assert first.address != second.address


def test_the_shells_own_xds_bootstrap_is_not_passed_on(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP", "/elsewhere.json")
    for each in plan.plans(folder, {}, free_ports=False):
        assert "GRPC_XDS_BOOTSTRAP" not in each.environment


def test_the_mesh_file_follows_instances(folder: DataFolder) -> None:
    plans = plan.plans(folder, {"user": 2}, free_ports=False)
    mesh = MeshFile(folder.mesh_file, plans)
    mesh.put("control-plane", Health.HEALTHY)
    mesh.put("user", Health.HEALTHY)
    mesh.put("user-2", Health.HEALTHY)
    mesh.put("user-2", Health.DRAINING)
    assert endpoints(folder) == {
        "permission": [],
        "user": [(plans[2].ports.grpc, "HEALTHY"), (plans[3].ports.grpc, "DRAINING")],
        "audit": [],
    }
    mesh.put("user", None)
    mesh.put("permission", None)
    assert endpoints(folder)["user"] == [(plans[3].ports.grpc, "DRAINING")]


def endpoints(folder: DataFolder) -> dict[str, list[tuple[int, str]]]:
    mesh = document.parse(folder.mesh_file.read_text())
    assert not mesh.problems
    return {service.name: [(each.port, each.health) for each in service.endpoints] for service in mesh.services}
