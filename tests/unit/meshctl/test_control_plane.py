"""Against a fake StatusService on a real server: pages, changes, and how its absence is told."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_mesh.meshctl import control_plane, rpc
from pyairtable_mesh.meshctl.control_plane import ControlPlane, Inventory
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.meshctl.problems import NO_CONTROL_PLANE, Problem
from tests.unit.meshctl.fakes import client, endpoint, service
from tests.unit.meshctl.servers import connected, servicer, serving

USER, AUDIT = service("user", endpoint("127.0.0.1:50061")), service("audit")
PAGES = {"": ([AUDIT], "second"), "second": ([USER], "")}


class FakeStatus(mesh_pb2_grpc.StatusServiceServicer):
    """Two pages of services; WatchStatus gives what it was made with. Everything else is UNIMPLEMENTED."""

    token = ""
    """What it wants to be sent; anything will do when it is empty."""

    def __init__(self, *changes: mesh_pb2.WatchStatusResponse) -> None:
        self._changes = changes

    async def ListServices(self, request: mesh_pb2.ListServicesRequest, context: Any) -> mesh_pb2.ListServicesResponse:
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who asks?")
        services, following = PAGES[request.page_token]
        return mesh_pb2.ListServicesResponse(services=services, next_page_token=following, snapshot_version="77f0")

    async def WatchStatus(
        self, request: mesh_pb2.WatchStatusRequest, context: Any
    ) -> AsyncIterator[mesh_pb2.WatchStatusResponse]:
        for change in self._changes:
            yield change


def fake_status(*changes: mesh_pb2.WatchStatusResponse) -> Any:
    return servicer(mesh_pb2_grpc.add_StatusServiceServicer_to_server, FakeStatus(*changes))


def changed(*changes: mesh_pb2.StatusChange, initial: bool = False) -> mesh_pb2.WatchStatusResponse:
    return mesh_pb2.WatchStatusResponse(changes=changes, initial=initial, snapshot_version="77f0")


async def test_all_pages_are_fetched() -> None:
    async with connected(fake_status()) as connection:
        inventory = await ControlPlane(connection).inventory()
    assert inventory == Inventory("77f0", [AUDIT, USER])


async def test_watching_gives_the_whole_state_after_each_change() -> None:
    web = client("pyairtable/user/1")
    changes = [
        changed(mesh_pb2.StatusChange(service=USER), mesh_pb2.StatusChange(client=web), initial=True),
        changed(mesh_pb2.StatusChange(service=AUDIT)),
        changed(),
        changed(mesh_pb2.StatusChange(removed_name=USER.name), mesh_pb2.StatusChange(removed_name=web.name)),
        changed(mesh_pb2.StatusChange(service=USER), initial=True),
    ]
    async with connected(fake_status(*changes)) as connection, aclosing(ControlPlane(connection).watch()) as states:
        seen = [(inventory.services, clients) async for inventory, clients in states]
    assert seen == [([USER], [web]), ([AUDIT, USER], [web]), ([AUDIT], []), ([USER], [])]


async def test_a_control_plane_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(Problem, match=r"No control plane answers at 127.0.0.1:1\.") as told:
        async with control_plane.opened(rpc.connect, "127.0.0.1:1") as plane:
            await plane.inventory()
    assert told.value.exit_code == NO_CONTROL_PLANE
    assert "make run" in told.value.next_step


async def test_a_method_that_the_control_plane_does_not_have_is_no_absence() -> None:
    async with connected(fake_status()) as connection:
        with pytest.raises(CallError) as told:
            await ControlPlane(connection).clients()
    assert told.value.code == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    "name",
    ["user", "user.pyairtable", "user.pyairtable.svc.cluster.local", "user.pyairtable.svc.cluster.local:50051"],
)
def test_a_service_is_found_by_each_of_its_names(name: str) -> None:
    assert control_plane.find(Inventory("", [AUDIT, USER]), name) is USER


def test_a_short_name_in_two_namespaces_is_asked_back() -> None:
    other = service("user")
    other.namespace = "staging"
    with pytest.raises(Problem) as told:
        control_plane.find(Inventory("", [USER, other]), "user")
    assert told.value.next_step == "name one of user.pyairtable, user.staging"


def test_an_unknown_service_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Problem, match=r"The mesh has no service usr; it has: audit, user\."):
        control_plane.find(Inventory("", [AUDIT, USER]), "usr")


def test_only_an_endpoint_that_takes_calls_is_called() -> None:
    draining = endpoint("127.0.0.1:50062", mesh_pb2.ENDPOINT_STATE_DRAINING)
    assert control_plane.address_of(service("user", draining, *USER.endpoints)) == "127.0.0.1:50061"
    with pytest.raises(Problem, match=r"No endpoint of user takes calls\."):
        control_plane.address_of(service("user", draining))


async def test_a_token_says_who_asks() -> None:
    guarded = FakeStatus()
    guarded.token = "of-alice"
    async with serving(servicer(mesh_pb2_grpc.add_StatusServiceServicer_to_server, guarded)) as address:
        async with control_plane.opened(rpc.connect, address, "of-alice") as plane:
            assert (await plane.inventory()).services == [AUDIT, USER]
        with pytest.raises(CallError) as caught:
            async with control_plane.opened(rpc.connect, address) as plane:
                await plane.inventory()
    assert caught.value.message == "UNAUTHENTICATED: who asks?"
    assert caught.value.next_step == "put such a token into PYAIRTABLE_CONTROL_PLANE_TOKEN"


async def test_a_token_stays_on_this_machine() -> None:
    with pytest.raises(Problem, match=r"does not go to 192\.0\.2\.1:18000 unencrypted"):
        async with control_plane.opened(rpc.connect, "192.0.2.1:18000", "of-alice"):
            pass
