"""Who may join a platform, and what is left behind by those that were killed."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pyairtable_laptop import join, plan, ports
from pyairtable_laptop.folder import DataFolder, held, is_held, locked
from pyairtable_laptop.mesh import MeshFile, home_of, lock_of, remove_left_over
from pyairtable_operator import model
from pyairtable_operator.providers.file import write_inventory

ADDRESS = "127.0.0.1:1"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """The data folder of a platform that runs, as far as a lock and its files tell."""
    made = DataFolder(tmp_path)
    made.make()
    with locked(made):
        MeshFile(made.mesh_file, plan.plans(made, {}, free_ports=True))
        made.control_plane_file.write_text(ADDRESS)
        yield made


def refused(folder: DataFolder, name: str = "greeter", program: str = sys.executable, port: int = 0) -> str:
    before = set(folder.mesh.glob("*.yaml"))
    with pytest.raises(click.ClickException) as words:
        join.run(join.Options(name, (program,), folder.root, port))
    assert set(folder.mesh.glob("*.yaml")) == before
    return words.value.message


@pytest.mark.parametrize("name", ["", "Greeter", "a_b", "-a", "a-", "a/b", "a.yaml", "a" * 64, "platform", "mesh"])
def test_a_name_is_a_dns_label_and_not_one_of_ours(folder: DataFolder, name: str) -> None:
    assert refused(folder, name) == (
        f"{name!r} can't be the name: lower-case letters, digits and hyphens, and not one of ours"
    )


def test_without_a_platform_nothing_is_made(tmp_path: Path) -> None:
    elsewhere = DataFolder(tmp_path / "elsewhere")
    assert refused(elsewhere).startswith(f"no platform runs on {elsewhere.root}. Start it with `make run`")
    assert not elsewhere.root.exists()


def test_a_program_that_is_not_there_is_named(folder: DataFolder) -> None:
    assert refused(folder, program="./no-such") == "./no-such is no program that can be run: see PATH, or give its path"


def test_a_name_of_the_platform_is_taken(folder: DataFolder) -> None:
    assert refused(folder, "user") == f"user is in the mesh already, by {folder.mesh_file}; take another name"


def test_a_name_that_has_joined_is_taken(folder: DataFolder) -> None:
    with held(lock_of(folder.mesh / "greeter.yaml"), "", ""):
        words = refused(folder)
    assert words.startswith(f"greeter has joined already (process {os.getpid()}).\nStop it with Ctrl-C there")


def test_a_port_in_use_is_named(folder: DataFolder) -> None:
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        words = refused(folder, port=port)
    assert f"{port} (greeter, gRPC): used by " in words
    assert words.endswith("or run on other ports: --port N")


def test_a_platform_that_has_no_control_plane_yet_is_to_be_waited_for(folder: DataFolder) -> None:
    folder.control_plane_file.unlink()
    assert refused(folder) == f"the platform on {folder.root} is only starting; try again"


def test_production_is_refused(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAIRTABLE_ENVIRONMENT", "production")
    assert "this is for development only" in refused(folder)


def test_the_plan_has_all_that_a_service_reads(folder: DataFolder) -> None:
    mine = plan.joined(folder, "own-greeter", ("python", "service.py"), ADDRESS, 1234)
    ours = next(each for each in plan.plans(folder, {}, free_ports=True) if each.name == "user")
    assert mine.environment.keys() - ours.environment.keys() == {"GRPC_XDS_BOOTSTRAP_CONFIG"}
    assert ours.environment.keys() <= mine.environment.keys()
    assert (mine.command, mine.service, mine.ports.grpc) == (("python", "service.py"), "own-greeter", 1234)
    assert mine.environment["PYAIRTABLE_CONTROL_PLANE"] == ADDRESS
    assert mine.environment["PYAIRTABLE_WORKLOAD_TOKEN_FILE"] == str(folder.tokens / "own-greeter.jwt")
    assert mine.environment["PYAIRTABLE_DATABASE_URL"] == f"sqlite:///{folder.databases}/own-greeter.db"


def test_what_the_killed_left_behind_is_removed_and_no_more(folder: DataFolder) -> None:
    for name in ("alive", "killed", "written-by-hand"):
        write_inventory(folder.mesh / f"{name}.yaml", [])
    lock_of(folder.mesh / "killed.yaml").touch()
    with held(lock_of(folder.mesh / "alive.yaml"), "", ""):
        remove_left_over(folder.mesh)
    assert {path.stem for path in folder.mesh.glob("*.yaml")} == {"alive", "platform", "written-by-hand"}


def test_a_service_is_found_beside_files_that_are_broken(folder: DataFolder) -> None:
    (folder.mesh / "broken.yaml").write_text("services: [")
    write_inventory(folder.mesh / "mine.yaml", [model.Service("greeter", "elsewhere", 1)])
    assert home_of("greeter", folder.mesh) is None
    assert home_of("audit", folder.mesh) == folder.mesh_file


def test_a_lock_is_held_while_its_holder_lives(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with held(lock, "", ""):
        assert is_held(lock)
    assert not is_held(lock)
