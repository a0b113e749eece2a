import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator

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
    found = Inventory()
    following = asyncio.create_task(FileProvider(path).run(found))
    yield found
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def write(path: pathlib.Path, text: str) -> None:
    path.write_text(text)


def remove(path: pathlib.Path) -> None:
    path.unlink()


async def next_services(inventory: Inventory) -> list[str]:
    async with asyncio.timeout(3):
        return [service.name for service in (await inventory.next()).services]


async def until_troubled(inventory: Inventory) -> model.Problem:
    async with asyncio.timeout(3):
        while inventory.trouble is None:  # noqa: ASYNC110 - trouble wakes nobody: it changes nothing that is served
            await asyncio.sleep(0.005)
        return inventory.trouble


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
    assert inventory.trouble is None


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
    async with asyncio.timeout(3):
        while inventory.trouble is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
    assert inventory.mesh == model.Mesh((USER,))


def test_writing_leaves_one_file(path: pathlib.Path) -> None:
    write_inventory(path, [USER])
    write_inventory(path, [AUDIT])
    assert [found.name for found in path.parent.iterdir()] == ["mesh.yaml"]
