"""StatusService over real gRPC, with sessions that are made by hand."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import error_details_pb2, status_pb2

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_operator import model
from pyairtable_operator.inventory import Caller, Inventory
from pyairtable_operator.status.access import Access
from pyairtable_operator.status.boundary import Boundary
from pyairtable_operator.status.servicer import SERVICE_NAME, StatusServicer
from pyairtable_operator.xds import ads, snapshot
from pyairtable_operator.xds.session import Limits, Session
from pyairtable_operator.xds.snapshot import ResourceType

USER = model.Service(
    "user",
    "shop",
    50051,
    (
        model.Endpoint("10.0.0.2", 1, health=model.Health.UNHEALTHY),
        model.Endpoint("10.0.0.1", 2, zone="a", weight=3),
        model.Endpoint("fd00::1", 3, health=model.Health.DRAINING),
    ),
)
AUDIT = model.Service("audit", "bank", 50051)
BAD = model.Service("bad", "shop", 1, (model.Endpoint("nowhere", 1),))


class Reviewers:
    """Knows tokens by whom they name, and who may `get` where."""

    audience = "mesh.test"

    def __init__(self) -> None:
        self.tokens = {"of-admin": "admin", "of-shop": "shopkeeper", "of-nobody": "nobody"}
        self.rights = {("admin", ""), ("shopkeeper", "shop")}
        self.away = False

    async def caller(self, token: str) -> Caller | None:
        if self.away:
            raise OSError
        return Caller(self.tokens[token]) if token in self.tokens else None

    async def allows(self, caller: Caller, verb: str, namespace: str) -> bool:
        return verb == "get" and (caller.name, namespace) in self.rights


class World:
    """A hub with clients, and a stub that asks about them."""

    def __init__(self, stub: Any) -> None:
        self.reviewers = Reviewers()
        self.hub = ads.Hub()
        self.inventory = Inventory()
        self.stub = stub

    def publish(self, *services: model.Service) -> None:
        self.hub.publish(snapshot.build(model.Mesh(services)))

    def client(self, namespace: str = "shop") -> ads.Client:
        client = self.hub.connect("ipv4:127.0.0.1:9", Session(Limits(), iter(range(100, 200)).__next__))
        node = base_pb2.Node(id=f"{namespace}/web/1", user_agent_name="gRPC C-core", user_agent_version="1")
        self.say(client, node=node)
        return client

    def say(self, client: ads.Client, **fields: Any) -> None:
        kind = ResourceType.ENDPOINTS.value
        names = [USER.canonical_name]
        self.hub.receive(client, discovery_pb2.DiscoveryRequest(type_url=kind, resource_names=names, **fields))

    def serve(self, client: ads.Client, refuse: str = "") -> None:
        assert self.hub.responses is not None
        message = client.session.next_response(self.hub.responses)
        assert message is not None
        answer = discovery_pb2.DiscoveryResponse.FromString(message)
        error = status_pb2.Status(message=refuse) if refuse else None
        self.say(client, response_nonce=answer.nonce, version_info=answer.version_info, error_detail=error)


@contextlib.asynccontextmanager
async def serving(*, guarded: bool) -> AsyncIterator[World]:
    made = World(None)
    access = Access(made.reviewers if guarded else None)
    server = grpc.aio.server(interceptors=[Boundary(SERVICE_NAME)], options=[("grpc.so_reuseport", 0)])
    mesh_pb2_grpc.add_StatusServiceServicer_to_server(StatusServicer(made.hub, made.inventory, access), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.stub = mesh_pb2_grpc.StatusServiceStub(channel)
        yield made
    made.hub.close()
    await server.stop(1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(guarded=False) as made:
        yield made


@pytest.fixture
async def guarded() -> AsyncIterator[World]:
    """A world whose callers are reviewed, with services and clients in two namespaces."""
    async with serving(guarded=True) as made:
        made.publish(USER, AUDIT)
        made.client("shop")
        made.client("bank")
        yield made


async def services(world: World, **fields: Any) -> mesh_pb2.ListServicesResponse:
    answer: mesh_pb2.ListServicesResponse = await world.stub.ListServices(mesh_pb2.ListServicesRequest(**fields))
    return answer


async def test_services_with_endpoints_and_problems(world: World) -> None:
    world.publish(USER, AUDIT, BAD)
    answer = await services(world)
    assert [item.short_name for item in answer.services] == ["audit", "bad", "user"]
    _, bad, user = answer.services
    assert list(bad.problems) == ["endpoint nowhere:1 has no IP address (gRPC looks up no names here)"]
    assert [(found.address, found.state, found.weight) for found in user.endpoints] == [
        ("10.0.0.1:2", mesh_pb2.ENDPOINT_STATE_HEALTHY, 3),
        ("10.0.0.2:1", mesh_pb2.ENDPOINT_STATE_UNHEALTHY, 1),
        ("[fd00::1]:3", mesh_pb2.ENDPOINT_STATE_DRAINING, 1),
    ]
    assert user.name == "services/user.shop.svc.cluster.local:50051"
    assert user.endpoints[0].locality.zone == "a"


async def test_a_file_that_cannot_be_read_is_told_before_anything_was_served(world: World) -> None:
    world.inventory.keep(model.Problem("mesh.yaml:1:1", "is not YAML"))
    answer = await services(world)
    assert [(item.name, list(item.problems)) for item in answer.services] == [
        ("services/mesh.yaml:1:1", ["mesh.yaml:1:1: is not YAML"])
    ]


async def test_filter_and_pages(world: World) -> None:
    world.publish(USER, AUDIT)
    assert [item.short_name for item in (await services(world, namespace="bank")).services] == ["audit"]
    first = await services(world, page_size=1)
    world.publish(AUDIT)
    second = await services(world, page_size=1, page_token=first.next_page_token)
    assert [item.short_name for page in (first, second) for item in page.services] == ["audit", "user"]
    assert second.snapshot_version == first.snapshot_version, "all pages are of one snapshot"
    assert second.next_page_token == ""


async def test_acknowledgements(world: World) -> None:
    world.publish(USER)
    happy, unhappy, _waiting = world.client(), world.client(), world.client()
    world.serve(happy)
    world.serve(unhappy, refuse="duplicate address")
    [user] = (await services(world)).services
    told = user.acknowledgement
    assert (told.subscribed_clients, told.acknowledged_clients, told.refused_clients) == (3, 1, 1)
    assert told.refusal == "duplicate address"
    assert told.propagation_time.seconds == 1
    [route] = (await world.stub.ListRoutes(mesh_pb2.ListRoutesRequest())).routes
    assert route.acknowledgement == told
    assert route.name == f"routes/{USER.canonical_name}/default"


async def test_clients(world: World) -> None:
    world.publish(USER)
    world.serve(world.client())
    world.client("bank")
    answer = await world.stub.ListClients(mesh_pb2.ListClientsRequest(page_size=1))
    [client] = answer.clients
    assert (client.name, client.node_id, client.namespace) == ("clients/1", "shop/web/1", "shop")
    assert client.user_agent == "gRPC C-core 1"
    [subscription] = client.subscriptions
    assert subscription.type == mesh_pb2.RESOURCE_TYPE_ENDPOINTS
    assert list(subscription.resource_names) == [USER.canonical_name]
    assert subscription.sent_version == subscription.acknowledged_version != ""
    request = mesh_pb2.ListClientsRequest(page_token=answer.next_page_token)
    assert [found.name for found in (await world.stub.ListClients(request)).clients] == ["clients/2"]
    request = mesh_pb2.ListClientsRequest(service="services/nobody")
    assert list((await world.stub.ListClients(request)).clients) == []


async def test_watching(world: World) -> None:
    world.publish(USER)
    stream = world.stub.WatchStatus(mesh_pb2.WatchStatusRequest())
    async with asyncio.timeout(5):
        first = await stream.read()
        world.publish(USER, AUDIT)
        second = await stream.read()
        world.publish(AUDIT)
        third = await stream.read()
    assert first.initial
    assert [change.WhichOneof("change") for change in first.changes] == ["service", "route"]
    assert not second.initial
    assert [change.service.short_name for change in second.changes if change.HasField("service")] == ["audit"]
    assert {change.removed_name for change in third.changes} == {
        f"services/{USER.canonical_name}",
        f"routes/{USER.canonical_name}/default",
    }
    stream.cancel()


async def test_a_watcher_that_hears_nothing_hears_a_heartbeat(world: World) -> None:
    request = mesh_pb2.WatchStatusRequest()
    request.heartbeat_interval.FromSeconds(1)
    stream = world.stub.WatchStatus(request)
    async with asyncio.timeout(5):
        await stream.read()
        beat = await stream.read()
    assert not beat.changes
    assert not beat.initial
    stream.cancel()


@pytest.mark.parametrize(
    ("target", "summary"),
    [
        ("user", "/a.B/C goes to one of the 1 healthy endpoints of user.shop.svc.cluster.local:50051."),
        ("audit.bank.svc.cluster.local:50051", "/a.B/C fails with UNAVAILABLE: audit.bank"),
        ("audit", "/a.B/C goes nowhere and fails with UNAVAILABLE: no service in the mesh is called audit, nor has"),
        ("bad", "/a.B/C goes nowhere and fails with UNAVAILABLE: bad.shop.svc.cluster.local:1 was left out"),
    ],
)
async def test_explain(world: World, target: str, summary: str) -> None:
    world.publish(USER, AUDIT, BAD)
    world.client()
    for request in (
        mesh_pb2.ExplainRequest(client="clients/1", target=target, method="/a.B/C"),
        mesh_pb2.ExplainRequest(identity="spiffe://x/ns/shop/sa/web", target=target, method="/a.B/C"),
    ):
        answer = await world.stub.Explain(request)
        assert answer.summary.startswith(summary)
        assert answer.steps[0].stage == "name"


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("ListServices", mesh_pb2.ListServicesRequest(page_size=-1), "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("ListServices", mesh_pb2.ListServicesRequest(page_token="x"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
        ("ListRoutes", mesh_pb2.ListRoutesRequest(page_token="e30="), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
        (
            "Explain",
            mesh_pb2.ExplainRequest(client="clients/9", target="user", method="/a.B/C"),
            "NOT_FOUND",
            "NOT_FOUND",
        ),
        (
            "Explain",
            mesh_pb2.ExplainRequest(
                identity="spiffe://a/ns/shop/sa/b", target="user", method="/a.B/C", snapshot_version="0123456789"
            ),
            "NOT_FOUND",
            "SNAPSHOT_EXPIRED",
        ),
        ("Diff", mesh_pb2.DiffRequest(base_client="clients/1"), "UNIMPLEMENTED", "UNIMPLEMENTED"),
        ("Tap", mesh_pb2.TapRequest(services=["services/x"]), "UNIMPLEMENTED", "UNIMPLEMENTED"),
        ("Top", mesh_pb2.TopRequest(), "UNIMPLEMENTED", "UNIMPLEMENTED"),
    ],
)
async def test_errors(world: World, method: str, request_: Any, code: str, reason: str) -> None:
    call = getattr(world.stub, method)(request_)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await (call.read() if hasattr(call, "read") else call)
    assert (await call.code()).name == code
    details = dict(await call.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason, "pyairtable.io")


async def test_what_goes_wrong_inside_has_no_text_outside(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.inventory.troubles = "not problems"  # type: ignore[assignment]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await services(world)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "attribute" not in (caught.value.details() or "")
    assert "AttributeError" in caplog.text


def bearing(token: str) -> Any:
    return (("authorization", f"Bearer {token}"),)


CALLS = [
    ("ListServices", mesh_pb2.ListServicesRequest()),
    ("ListClients", mesh_pb2.ListClientsRequest()),
    ("ListRoutes", mesh_pb2.ListRoutesRequest()),
    ("WatchStatus", mesh_pb2.WatchStatusRequest()),
    ("Explain", mesh_pb2.ExplainRequest(client="clients/1", target="user", method="/a.B/C")),
]


@pytest.mark.parametrize(("method", "request_"), CALLS, ids=[name for name, _ in CALLS])
@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), "UNAUTHENTICATED"),
        ((("authorization", "Basic x"),), "UNAUTHENTICATED"),
        (bearing("of-thief"), "UNAUTHENTICATED"),
        (bearing("of-nobody"), "PERMISSION_DENIED"),
        (bearing("of-admin"), "OK"),
        (bearing("of-shop"), "OK"),
    ],
)
async def test_who_may_see_the_status(guarded: World, method: str, request_: Any, metadata: Any, code: str) -> None:
    call = getattr(guarded.stub, method)(request_, metadata=metadata, timeout=5)
    if method == "WatchStatus" and code == "OK":
        assert await call.read()
        call.cancel()
    else:
        assert (await call.code()).name == code


@pytest.mark.parametrize(("method", "request_"), CALLS, ids=[name for name, _ in CALLS])
async def test_while_nobody_can_say_who_calls_nobody_sees_anything(guarded: World, method: str, request_: Any) -> None:
    guarded.reviewers.away = True
    call = getattr(guarded.stub, method)(request_, metadata=bearing("of-admin"), timeout=5)
    assert (await call.code()).name == "UNAVAILABLE"


async def test_a_caller_sees_its_own_namespaces(guarded: World) -> None:
    mine = bearing("of-shop")
    answer = await guarded.stub.ListServices(mesh_pb2.ListServicesRequest(), metadata=mine)
    assert [item.namespace for item in answer.services] == ["shop"]
    routes = await guarded.stub.ListRoutes(mesh_pb2.ListRoutesRequest(), metadata=mine)
    assert [item.service for item in routes.routes] == [f"services/{USER.canonical_name}"]
    clients = await guarded.stub.ListClients(mesh_pb2.ListClientsRequest(), metadata=mine)
    assert [item.namespace for item in clients.clients] == ["shop"]
    stream = guarded.stub.WatchStatus(mesh_pb2.WatchStatusRequest(), metadata=mine)
    first = await stream.read()
    stream.cancel()
    seen = [getattr(change, change.WhichOneof("change")).name for change in first.changes]
    assert seen == [f"services/{USER.canonical_name}", f"routes/{USER.canonical_name}/default", "clients/1"]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListServices", mesh_pb2.ListServicesRequest(namespace="bank")),
        ("WatchStatus", mesh_pb2.WatchStatusRequest(namespace="bank")),
        ("Explain", mesh_pb2.ExplainRequest(client="clients/2", target="audit", method="/a.B/C")),
        ("Explain", mesh_pb2.ExplainRequest(client="clients/1", target=AUDIT.canonical_name, method="/a.B/C")),
    ],
    ids=["services", "watch", "its client", "its service"],
)
async def test_a_namespace_of_others_is_refused_by_name(guarded: World, method: str, request_: Any) -> None:
    call = getattr(guarded.stub, method)(request_, metadata=bearing("of-shop"), timeout=5)
    assert (await call.code()).name == "PERMISSION_DENIED"
    assert "`get` `meshstatus` (API group mesh.pyairtable.io)" in await call.details()


async def test_a_right_that_is_taken_away_ends_the_watch(guarded: World) -> None:
    stream = guarded.stub.WatchStatus(mesh_pb2.WatchStatusRequest(), metadata=bearing("of-shop"))
    async with asyncio.timeout(5):
        assert await stream.read()
        guarded.reviewers.rights.clear()
        guarded.publish(USER)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stream.read()
        assert (await stream.code()).name == "PERMISSION_DENIED"


async def test_identities_come_from_the_endpoints(world: World) -> None:
    web, jobs = "spiffe://mesh.test/ns/shop/sa/web", "spiffe://mesh.test/ns/shop/sa/jobs"
    endpoints = (
        model.Endpoint("10.0.0.1", 1, instance="user-1", identity=web),
        model.Endpoint("10.0.0.2", 1, instance="user-2", identity=jobs),
        model.Endpoint("10.0.0.3", 1, instance="user-3", identity=web),
        model.Endpoint("10.0.0.4", 1),
    )
    world.publish(dataclasses.replace(USER, endpoints=endpoints))
    [user] = (await services(world)).services
    assert list(user.identities) == [jobs, web]
    assert [(found.instance, found.identity) for found in user.endpoints] == [
        ("user-1", web),
        ("user-2", jobs),
        ("user-3", web),
        ("", ""),
    ]


async def test_what_is_wrong_elsewhere_is_nobody_elses_business(guarded: World) -> None:
    foreign = dataclasses.replace(BAD, namespace="bank")
    guarded.publish(USER, foreign)
    short = mesh_pb2.ExplainRequest(client="clients/1", target="bad", method="/a.B/C")
    answer = await guarded.stub.Explain(short, metadata=bearing("of-shop"))
    assert "no service in the mesh is called bad" in answer.summary
    full = mesh_pb2.ExplainRequest(client="clients/1", target=foreign.canonical_name, method="/a.B/C")
    call = guarded.stub.Explain(full, metadata=bearing("of-shop"))
    assert (await call.code()).name == "PERMISSION_DENIED"
