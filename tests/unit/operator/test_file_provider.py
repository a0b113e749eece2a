import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.file import FileProvider, write_inventory

USER = model.Service("user", "shop", 50051)
AUDIT = model.Service("audit", "shop", 50051)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "mesh.yaml"


@pytest.fixture
async def inventory(path: pathlib.Path) -> AsyncIterator[Inventory]:
    async with following(path) as found:
        yield found


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "mesh"
    made.mkdir()
    write_inventory(made / "b.yaml", [USER])
    return made


@pytest.fixture
async def several(folder: pathlib.Path) -> AsyncIterator[Inventory]:
    """The inventory of a folder that begins with `USER` in b.yaml."""
    async with following(folder) as found:
        assert await next_services(found) == ["user"]
        yield found


@contextlib.asynccontextmanager
async def following(path: pathlib.Path) -> AsyncIterator[Inventory]:
    found = Inventory()
    task = asyncio.create_task(FileProvider(path).run(found))
    yield found
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def write(path: pathlib.Path, text: str) -> None:
    path.write_text(text)


def remove(path: pathlib.Path) -> None:
    path.unlink()


async def next_services(inventory: Inventory) -> list[str]:
    async with asyncio.timeout(3):
        return [service.name for service in (await inventory.next()).services]


async def until_troubled(inventory: Inventory) -> model.Problem:
    await until(lambda: bool(inventory.troubles))
    [trouble] = inventory.troubles
    return trouble


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - trouble wakes nobody: it changes nothing that is served
            await asyncio.sleep(0.005)


async def test_a_file_is_read_and_followed(path: pathlib.Path, inventory: Inventory) -> None:
    write_inventory(path, [USER])
    assert await next_services(inventory) == ["user"]
    write_inventory(path, [USER, AUDIT])
    assert await next_services(inventory) == ["user", "audit"]


async def test_a_file_that_is_written_in_place_is_followed(path: pathlib.Path, inventory: Inventory) -> None:
    write_inventory(path, [USER])
    assert await next_services(inventory) == ["user"]
    write(path, "services: []")
    assert await next_services(inventory) == []


async def test_a_change_that_keeps_size_and_time_is_found(path: pathlib.Path, inventory: Inventory) -> None:
    write(path, "services: [{name: a, namespace: shop, port: 1}]")
    assert await next_services(inventory) == ["a"]
    times = os.stat(path)
    write(path, "services: [{name: b, namespace: shop, port: 1}]")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert await next_services(inventory) == ["b"]


async def test_a_broken_file_keeps_the_last_good_mesh(path: pathlib.Path, inventory: Inventory) -> None:
    write_inventory(path, [USER])
    assert await next_services(inventory) == ["user"]
    write(path, "services: [\n")
    trouble = await until_troubled(inventory)
    assert str(trouble).startswith("mesh.yaml:2:1: ")
    assert inventory.mesh == model.Mesh((USER,))
    write_inventory(path, [AUDIT])
    assert await next_services(inventory) == ["audit"]
    assert inventory.troubles == ()


async def test_a_missing_file_keeps_the_last_good_mesh(path: pathlib.Path, inventory: Inventory) -> None:
    write_inventory(path, [USER])
    assert await next_services(inventory) == ["user"]
    remove(path)
    assert (await until_troubled(inventory)).reason == "can't be read: No such file or directory"
    assert inventory.mesh == model.Mesh((USER,))


async def test_a_file_that_heals_to_the_same_content_is_no_trouble(path: pathlib.Path, inventory: Inventory) -> None:
    write_inventory(path, [USER])
    assert await next_services(inventory) == ["user"]
    remove(path)
    await until_troubled(inventory)
    write_inventory(path, [USER])
    await until(lambda: not inventory.troubles)
    assert inventory.mesh == model.Mesh((USER,))


async def test_files_of_a_folder_are_one_mesh(folder: pathlib.Path, several: Inventory) -> None:
    write_inventory(folder / "a.yaml", [AUDIT])
    assert await next_services(several) == ["audit", "user"]
    write_inventory(folder / "b.yaml", [])
    assert await next_services(several) == ["audit"]
    write(folder / "c.yaml.tmp", "services: [{name: no, namespace: shop, port: 1}]")
    remove(folder / "b.yaml")
    write_inventory(folder / "a.yaml", [USER])
    assert await next_services(several) == ["user"]


async def test_a_file_that_is_gone_takes_its_services_with_it(folder: pathlib.Path, several: Inventory) -> None:
    write_inventory(folder / "a.yaml", [AUDIT])
    assert await next_services(several) == ["audit", "user"]
    remove(folder / "a.yaml")
    assert await next_services(several) == ["user"]
    assert several.troubles == ()


async def test_a_service_of_two_files_is_an_error_of_the_later_one(folder: pathlib.Path, several: Inventory) -> None:
    other = model.Service("user", "shop", 50051, (model.Endpoint("127.0.0.1", 1),))
    write_inventory(folder / "c.yaml", [other, AUDIT])
    assert await next_services(several) == ["user", "audit"]
    name = USER.canonical_name
    problem = model.Problem("c.yaml", f"{name} is in b.yaml already, so this one was left out", service=name)
    assert several.mesh == model.Mesh((USER, AUDIT), (problem,))


async def test_a_broken_file_of_a_folder_keeps_its_own_services(folder: pathlib.Path, several: Inventory) -> None:
    write_inventory(folder / "a.yaml", [AUDIT])
    assert await next_services(several) == ["audit", "user"]
    write(folder / "a.yaml", "services: [\n")
    trouble = await until_troubled(several)
    assert str(trouble).startswith("a.yaml:2:1: ")
    write_inventory(folder / "b.yaml", [])
    assert await next_services(several) == ["audit"]
    assert several.troubles == (trouble,)


async def test_a_file_that_was_never_good_takes_nothing_away(folder: pathlib.Path, several: Inventory) -> None:
    write(folder / "a.yaml", "nonsense")
    assert (await until_troubled(several)).where == "a.yaml:document"
    assert several.mesh == model.Mesh((USER,))


async def test_a_problem_of_one_service_names_its_file(folder: pathlib.Path, several: Inventory) -> None:
    write(folder / "c.yaml", "services: [{name: audit, namespace: shop, port: many}]")
    assert await next_services(several) == ["user"]
    assert several.mesh is not None
    assert [problem.where for problem in several.mesh.problems] == ["c.yaml:services[0].port"]


async def test_a_folder_without_files_keeps_the_last_mesh(folder: pathlib.Path, several: Inventory) -> None:
    remove(folder / "b.yaml")
    assert (await until_troubled(several)).reason == "is a folder without any *.yaml file"
    folder.rmdir()
    await until(lambda: several.troubles[0].reason == "can't be read: No such file or directory")
    assert several.mesh == model.Mesh((USER,))


def test_writing_leaves_one_file(path: pathlib.Path) -> None:
    write_inventory(path, [USER])
    write_inventory(path, [AUDIT])
    assert [found.name for found in path.parent.iterdir()] == ["mesh.yaml"]
