"""Dashboards and alerts ask for what services and the control plane really expose, in PromQL that parses."""

import asyncio
import json
import socket
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import promql_parser
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from prometheus_client.parser import text_string_to_metric_families

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_mesh.runtime.ids import new_id
from pyairtable_operator import app, model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.settings import Settings
from pyairtable_operator.xds import ads
from pyairtable_operator.xds.snapshot import ResourceType
from tests import helm
from tests.contract.processes import Running, Site

SWITCHED_ON = helm.CONFIGURATIONS["monitored"]
OF_TARGETS = {"namespace", "pod"}
"""Labels that Prometheus itself gives to what it scrapes from pods."""
USER = model.Service("user", "default", 50051, (model.Endpoint("127.0.0.1", 1),))
Exposed = dict[str, set[str]]
"""Names of series, with the labels that some of them have."""


def rendered() -> list[helm.Object]:
    return helm.objects(SWITCHED_ON)


def alerts() -> list[dict[str, Any]]:
    (found,) = [each for each in rendered() if each["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def dashboards() -> list[dict[str, Any]]:
    named = [each for each in rendered() if "grafana_dashboard" in each["metadata"].get("labels", {})]
    return [json.loads(text) for each in named for text in each["data"].values()]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            yield from (target["expr"].replace("$__rate_interval", "5m") for target in panel["targets"])


def asked(node: Any) -> Iterator[tuple[set[str], set[str]]]:
    """The series and the labels that an expression asks for: (names, labels) of each part, the labels of its own."""
    match type(node).__name__:
        case "VectorSelector":
            yield {node.name}, {matcher.name for matcher in node.matchers.matchers}
        case "MatrixSelector":
            yield from asked(node.vector_selector)
        case "AggregateExpr":
            inner = list(asked(node.expr))
            yield from inner
            yield {name for names, _ in inner for name in names}, set(node.modifier.labels if node.modifier else ())
        case "Call":
            for argument in node.args:
                yield from asked(argument)
        case "BinaryExpr":
            yield from (*asked(node.lhs), *asked(node.rhs))
        case "ParenExpr":
            yield from asked(node.expr)
        case "NumberLiteral":
            return
        case other:
            raise NotImplementedError(f"say here what {other} asks for")


def exposed_in(*texts: str) -> Exposed:
    found: Exposed = defaultdict(set)
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= sample.labels.keys()
    return found


async def scraped(port: int) -> str:
    def text() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(text)


async def of_services(site: Site) -> list[str]:
    """A service that calls another, and calls that fail: by the callers' fault and by the services'."""
    metadata = site.as_user(new_id("usr"), new_id("ten"))

    async def fails(call: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await call

    async def served(permission: Running, user: Running) -> list[str]:
        async with permission.channel() as to_permission, user.channel() as to_user:
            permissions = permission_pb2_grpc.PermissionServiceStub(to_permission)
            users = user_pb2_grpc.UserServiceStub(to_user)
            await fails(permissions.CheckPermission(permission_pb2.CheckPermissionRequest(), metadata=metadata))
            await fails(users.ListUsers(user_pb2.ListUsersRequest(), metadata=metadata))
            await fails(users.VerifyEmail(user_pb2.VerifyEmailRequest(), metadata=metadata))
        return [await scraped(service.ports["metrics_port"]) for service in (permission, user)]

    async with site.running("permission") as permission:
        peers = f"permission=127.0.0.1:{permission.ports['grpc_port']}"
        async with site.running("user", peers=peers) as user:
            return await served(permission, user)


class _Read:
    """A provider of one service."""

    async def run(self, inventory: Inventory) -> None:
        inventory.replace(model.Mesh((USER,)))
        await asyncio.Event().wait()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def of_control_plane() -> str:
    """A control plane with a client that took what it was sent."""
    (port, metrics_port), stopping = _free_ports(2), asyncio.Event()
    settings = Settings(port=port, metrics_port=metrics_port, drain_seconds=0)
    serving = asyncio.create_task(app.serve(settings, _Read(), stopping))
    asking = {"type_url": ResourceType.ENDPOINTS.value, "resource_names": [USER.canonical_name]}
    async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream: Any = channel.stream_stream(
            f"/{ads.SERVICE_NAME}/StreamAggregatedResources",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(wait_for_ready=True)
        await stream.write(discovery_pb2.DiscoveryRequest(**asking))
        nonce = (await stream.read()).nonce
        await stream.write(discovery_pb2.DiscoveryRequest(**asking, response_nonce=nonce))
        found = await scraped(metrics_port)
        stream.cancel()
    stopping.set()
    await serving
    return found


async def test_what_is_asked_for_is_exposed(tmp_path: Path) -> None:
    exposed = exposed_in(*await of_services(Site(tmp_path)), await of_control_plane())
    for expression in expressions():
        for names, labels in asked(promql_parser.parse(expression)):
            assert names <= exposed.keys(), expression
            assert labels <= OF_TARGETS.union(*(exposed[name] for name in names)), expression


def test_an_alert_says_what_to_do() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names))
    for alert in alerts():
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"].keys() == {"summary", "runbook"}
        assert len(alert["annotations"]["runbook"].split()) > 20
        assert 'namespace="mesh"' in alert["expr"], alert["alert"]


def test_panels_lie_beside_each_other_and_are_named() -> None:
    for dashboard in dashboards():
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in panels):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24
            assert not cells & taken
            taken |= cells


def test_nothing_of_it_is_there_unless_it_is_switched_on() -> None:
    kinds = {"PodMonitor", "PrometheusRule"}
    assert not [each for each in helm.objects() if each["kind"] in kinds or "dashboard" in each["metadata"]["name"]]


def test_every_pod_with_metrics_is_scraped() -> None:
    (monitor,) = [each for each in rendered() if each["kind"] == "PodMonitor"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    exposing = [
        owner["spec"]["template"]["metadata"]["labels"].items()
        for owner, pod in helm.pods(rendered())
        for container in pod["containers"]
        if any(port["name"] == endpoint["port"] for port in container.get("ports", ()))
    ]
    assert len(exposing) == 4
    assert all(wanted <= labels for labels in exposing)
