"""The control plane, gRPC's own xDS client and backends, each in a process of its own, and some of them killed."""

import contextlib
import pathlib
import signal
import statistics
import time
from collections.abc import AsyncIterator

import pytest

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_operator import model
from tests.mesh.control_plane.processes import Mesh, until

TARGET = "xds:///echo"


@pytest.fixture
async def mesh(tmp_path: pathlib.Path) -> AsyncIterator[Mesh]:
    async with contextlib.AsyncExitStack() as processes:
        yield Mesh(tmp_path, processes)


async def test_calls_are_balanced_over_the_instances_of_a_service(mesh: Mesh) -> None:
    one, two = await mesh.backend("one"), await mesh.backend("two")
    mesh.write(mesh.echo(one, two))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)
    await client.until_answered_by("one", "two")
    report = await client.after(calls=1_000)
    assert report["failures"] == []
    assert 0.8 < report["answers"]["one"] / report["answers"]["two"] < 1.25


async def test_a_backend_that_is_killed_or_added_under_load_costs_no_call(mesh: Mesh) -> None:
    one, two = await mesh.backend("one"), await mesh.backend("two")
    mesh.write(mesh.echo(one, two))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET, workers=16)
    await client.until_answered_by("one", "two")

    one.process.kill()
    assert (await client.after(calls=1_000))["failures"] == []

    three = await mesh.backend("three")
    mesh.write(mesh.echo(two, three))
    assert await client.until_answered_by("two", "three") == []


async def test_a_control_plane_that_is_killed_costs_no_call_and_comes_back_silent(mesh: Mesh) -> None:
    one, two = await mesh.backend("one"), await mesh.backend("two")
    mesh.write(mesh.echo(one, two))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)
    await client.until_answered_by("one", "two")

    await mesh.kill_control_plane()
    report = await client.after(calls=1_000)
    assert report["failures"] == []
    assert set(report["answers"]) == {"one", "two"}

    await mesh.run_control_plane()

    async def is_back() -> bool:
        return any(len(found.subscriptions) == 4 for found in await mesh.clients())

    await until("the client is back with all four types", is_back, seconds=30)
    [back] = await mesh.clients()
    for subscription in back.subscriptions:
        assert subscription.acknowledged_version, "it says what it holds"
        assert not subscription.sent_version, "nothing unchanged is sent again"
    assert (await client.report())["failures"] == []

    three = await mesh.backend("three")
    mesh.write(mesh.echo(one, two, three))
    assert await client.until_answered_by("one", "two", "three") == []
    [back] = await mesh.clients()
    sent = [subscription.type for subscription in back.subscriptions if subscription.sent_version]
    assert sent == [mesh_pb2.RESOURCE_TYPE_ENDPOINTS], "nothing else has changed"


async def test_a_control_plane_that_comes_back_without_its_file_takes_nothing_away(mesh: Mesh) -> None:
    one = await mesh.backend("one")
    mesh.write(mesh.echo(one))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)
    await client.until_answered_by("one")
    await mesh.kill_control_plane()
    mesh.file.write_text("services: [\n")
    await mesh.run_control_plane(serves=False)

    async def is_back() -> bool:
        return bool(await mesh.clients())

    await until("the client is connected again", is_back, seconds=30)
    [trouble] = (await mesh.services()).services
    assert trouble.name == "services/mesh.yaml:2:1"
    assert (await client.report())["failures"] == []


@pytest.mark.parametrize("target", ["xds:///nobody", "xds:///nobody.shop.svc.cluster.local:1", "xds:///bad"])
async def test_an_unknown_name_fails_fast(mesh: Mesh, target: str) -> None:
    mesh.write(mesh.echo(), model.Service("bad", "shop", 1, (model.Endpoint("localhost", 1),)))
    await mesh.run_control_plane()
    client = await mesh.client()
    answer = await client.call(target, deadline=20)
    assert answer["code"] == "UNAVAILABLE"
    assert answer["seconds"] < 2


async def test_a_name_that_appears_is_found_by_a_client_that_asked_too_early(mesh: Mesh) -> None:
    one = await mesh.backend("one")
    mesh.write()
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)

    async def fails() -> bool:
        return bool((await client.report())["failures"])

    await until("calls fail", fails)
    mesh.write(mesh.echo(one))
    await client.until_answered_by("one")
    assert (await client.after(calls=100))["failures"] == []


async def test_a_bad_service_takes_no_other_down(mesh: Mesh) -> None:
    one = await mesh.backend("one")
    mesh.write(mesh.echo(one))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)
    await client.until_answered_by("one")
    twice = (model.Endpoint("127.0.0.1", 1),) * 2
    mesh.write(model.Service("bad", "shop", 1, twice), mesh.echo(one))

    async def is_told() -> bool:
        return any(service.problems for service in (await mesh.services()).services)

    await until("the status tells of the bad service", is_told)
    bad, echo = (await mesh.services()).services
    assert (bad.short_name, list(bad.problems)) == ("bad", ["endpoint 127.0.0.1:1 is listed twice"])
    assert (echo.short_name, list(echo.problems)) == ("echo", [])
    assert (await client.report())["failures"] == []


async def test_a_short_name_is_that_of_the_callers_namespace(mesh: Mesh) -> None:
    ours, theirs = await mesh.backend("ours"), await mesh.backend("theirs")
    other = model.Service("echo", "bank", 50051, (theirs.endpoint,))
    mesh.write(mesh.echo(ours), other)
    await mesh.run_control_plane()
    shop, bank, stranger = await mesh.client(), await mesh.client(namespace="bank"), await mesh.client(namespace="x")
    assert (await shop.call(TARGET))["answer"] == "ours"
    assert (await bank.call(TARGET))["answer"] == "theirs"
    assert (await shop.call(f"xds:///{other.canonical_name}"))["answer"] == "theirs"
    assert (await stranger.call(TARGET))["code"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    "policy",
    [
        model.TrafficPolicy(load_balancing=model.LoadBalancing.LEAST_REQUEST),
        model.TrafficPolicy(retry=model.RetryPolicy(codes=tuple(model.RetryCode), attempts=5)),
        model.TrafficPolicy(retry=model.RetryPolicy(attempts=1), outlier_detection=model.OutlierDetection()),
    ],
)
async def test_clients_take_every_policy(mesh: Mesh, policy: model.TrafficPolicy) -> None:
    one = await mesh.backend("one")
    mesh.write(mesh.echo(one, policy=policy))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET)
    await client.until_answered_by("one")
    [connected] = await mesh.clients()
    assert [found.refusal for found in connected.subscriptions] == [""] * 4


@pytest.mark.parametrize(("limit", "lets_all_through"), [(65_536, True), (200, False)])
async def test_calls_at_once(mesh: Mesh, limit: int, lets_all_through: bool) -> None:
    """C-core's own limit, where it is sent none, is 1,024."""
    slow = [await mesh.backend(name, delay=1.0) for name in ("one", "two", "three")]
    mesh.write(mesh.echo(*slow, policy=model.TrafficPolicy(max_concurrent_requests=limit)))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET, workers=1_200, deadline=30)
    report = await client.after(calls=200)
    assert (report["failures"] == []) is lets_all_through


async def test_a_frozen_backend_is_ejected_where_a_service_asks_for_it(mesh: Mesh) -> None:
    one, two = await mesh.backend("one"), await mesh.backend("two")
    detection = model.OutlierDetection(interval=0.2, base_ejection_time=30, request_volume=2)
    mesh.write(mesh.echo(one, two, policy=model.TrafficPolicy(outlier_detection=detection)))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET, deadline=0.2)
    await client.until_answered_by("one", "two")
    one.process.send_signal(signal.SIGSTOP)

    async def is_well() -> bool:
        report = await client.after(calls=500)
        return not report["failures"] and set(report["answers"]) == {"two"}

    await until("calls no longer fail", is_well)


async def test_a_new_endpoint_gets_its_first_call_soon(mesh: Mesh) -> None:
    """bench/ has the figures; this holds that nothing on the way waits for a poll or a back-off."""
    one, two = await mesh.backend("one"), await mesh.backend("two")
    mesh.write(mesh.echo(one))
    await mesh.run_control_plane()
    client = await mesh.client()
    await client.load(TARGET, workers=1)
    await client.until_answered_by("one")
    delays = []
    for _ in range(9):
        changed = time.monotonic()
        mesh.write(mesh.echo(one, two))
        delays.append(await client.first_answer_of("two") - changed)
        mesh.write(mesh.echo(one))
        await client.until_answered_by("one")
    assert statistics.median(delays) < 0.1
