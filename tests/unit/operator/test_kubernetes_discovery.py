"""Kubernetes objects on the left, services of the mesh on the right."""

import dataclasses
from typing import Any

import pytest

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes import discovery
from pyairtable_operator.settings import Settings
from pyairtable_operator.xds import snapshot

Object = dict[str, Any]

HEALTHY, DRAINING, UNHEALTHY = model.Health.HEALTHY, model.Health.DRAINING, model.Health.UNHEALTHY
GRPC = {"name": "grpc", "port": 50051}


def service(
    *ports: Object, name: str = "user", namespace: str = "shop", labels: Object | None = None, **spec: Any
) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"ports": list(ports), "ipFamilies": ["IPv4"], **spec},
    }


def slice_of(
    *endpoints: Object,
    service: str | None = "user",
    namespace: str = "shop",
    ports: tuple[Object, ...] = ({"name": "grpc", "port": 50061},),
    family: str = "IPv4",
    annotations: Object | None = None,
) -> Object:
    labels = {} if service is None else {"kubernetes.io/service-name": service}
    metadata = {"name": "user-abc", "namespace": namespace, "labels": labels, "annotations": annotations}
    return {"metadata": metadata, "addressType": family, "ports": list(ports), "endpoints": list(endpoints)}


def at(address: str, zone: str | None = None, **conditions: bool | None) -> Object:
    return {"addresses": [address], "conditions": conditions, "zone": zone}


def mesh(*objects: Object) -> model.Mesh:
    """The mesh of Services and EndpointSlices, told apart as the API does: by their kind."""
    services = [discovery.grpc_service(found) for found in objects if "spec" in found]
    slices: dict[discovery.Key, tuple[discovery.Slice, ...]] = {}
    for found in (discovery.endpoint_slice(found) for found in objects if "addressType" in found):
        if found is not None:
            slices[found.key] = (*slices.get(found.key, ()), found)
    return discovery.Assembler("cluster.local").mesh([found for found in services if found], slices)


def endpoints(*objects: Object) -> tuple[model.Endpoint, ...]:
    [found] = mesh(service(GRPC), *objects).services
    return found.endpoints


def test_a_service_with_its_endpoints() -> None:
    found = mesh(service(GRPC), slice_of(at("10.0.0.2", "b", ready=True), at("10.0.0.1", "a", ready=True)))
    instances = (model.Endpoint("10.0.0.1", 50061, "a"), model.Endpoint("10.0.0.2", 50061, "b"))
    assert found == model.Mesh((model.Service("user", "shop", 50051, instances),))
    assert found.services[0].canonical_name == "user.shop.svc.cluster.local:50051"


@pytest.mark.parametrize(
    ("port", "labels", "registered"),
    [
        ({"name": "grpc", "port": 1}, {}, True),
        ({"name": "grpc-health", "port": 1}, {}, True),
        ({"name": "web", "port": 1}, {}, False),
        ({"port": 1}, {}, False),
        ({"port": 1, "appProtocol": "grpc"}, {}, True),
        ({"name": "web", "port": 1, "appProtocol": "kubernetes.io/h2c"}, {}, True),
        ({"name": "web", "port": 1, "appProtocol": "http"}, {}, False),
        ({"name": "web", "port": 1}, {"mesh.pyairtable.io/grpc-port": "web"}, True),
        ({"port": 1}, {"mesh.pyairtable.io/grpc-port": "1"}, True),
        ({"port": 1}, {"mesh.pyairtable.io/grpc-port": ""}, False),
        ({"name": "grpc", "port": 1, "protocol": "UDP"}, {}, False),
        ({"name": "grpc", "port": 1, "protocol": "TCP"}, {}, True),
    ],
)
def test_which_ports_are_grpc(port: Object, labels: Object, registered: bool) -> None:
    assert bool(mesh(service(port, labels=labels)).services) is registered


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ({}, HEALTHY),
        ({"ready": None, "serving": None, "terminating": None}, HEALTHY),
        ({"ready": True, "serving": True, "terminating": False}, HEALTHY),
        ({"ready": False, "serving": False, "terminating": False}, UNHEALTHY),
        ({"ready": False}, UNHEALTHY),
        ({"ready": False, "serving": True, "terminating": True}, DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, UNHEALTHY),
        ({"ready": False, "terminating": True}, UNHEALTHY),
        ({"ready": True, "serving": True, "terminating": True}, DRAINING),
    ],
)
def test_conditions(conditions: Object, health: model.Health) -> None:
    [endpoint] = endpoints(slice_of(at("10.0.0.1", **conditions)))
    assert endpoint.health is health


def test_conditions_may_be_left_out_altogether() -> None:
    assert endpoints(slice_of({"addresses": ["10.0.0.1"]})) == (model.Endpoint("10.0.0.1", 50061),)


def test_an_endpoint_in_two_slices_counts_once_in_its_best_state() -> None:
    going, ready = slice_of(at("10.0.0.1", ready=False, serving=True, terminating=True)), slice_of(at("10.0.0.1"))
    assert endpoints(going, ready) == endpoints(ready, going) == (model.Endpoint("10.0.0.1", 50061),)


def test_each_port_has_the_endpoints_of_its_name() -> None:
    admin = {"name": "grpc-admin", "port": 50052}
    ports = ({"name": "grpc", "port": 1}, {"name": "grpc-admin", "port": 2}, {"name": "web", "port": 3})
    found = mesh(service(GRPC, admin), slice_of(at("10.0.0.1"), ports=ports))
    assert [(each.port, each.endpoints[0].port) for each in found.services] == [(50051, 1), (50052, 2)]


@pytest.mark.parametrize("name", [{}, {"name": None}, {"name": ""}])
def test_an_only_port_needs_no_name(name: Object) -> None:
    found = mesh(
        service({"port": 50051, "appProtocol": "grpc"}), slice_of(at("10.0.0.1"), ports=({**name, "port": 1},))
    )
    assert found.services[0].endpoints == (model.Endpoint("10.0.0.1", 1),)


def test_slices_of_one_service_may_have_different_ports() -> None:
    other = slice_of(at("10.0.0.2"), ports=({"name": "grpc", "port": 9},))
    assert [found.port for found in endpoints(slice_of(at("10.0.0.1")), other)] == [50061, 9]


@pytest.mark.parametrize(
    ("families", "address"),
    [(["IPv4", "IPv6"], "10.0.0.1"), (["IPv6", "IPv4"], "fd00::1"), ([], "10.0.0.1")],
)
def test_a_pod_with_two_addresses_is_one_endpoint(families: list[str], address: str) -> None:
    objects = [slice_of(at("10.0.0.1")), slice_of(at("fd00::1"), family="IPv6")]
    [found] = mesh(service(GRPC, ipFamilies=families), *objects).services
    assert [endpoint.address for endpoint in found.endpoints] == [address]


def test_the_family_that_there_is_stands_in_for_the_preferred_one() -> None:
    [found] = mesh(service(GRPC, ipFamilies=["IPv6"]), slice_of(at("10.0.0.1"))).services
    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.1"]


def test_a_slice_has_a_weight() -> None:
    heavy = slice_of(at("10.0.0.1"), annotations={"mesh.pyairtable.io/weight": "3"})
    assert [found.weight for found in endpoints(heavy, slice_of(at("10.0.0.2")))] == [3, 1]


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (
            [service(GRPC), slice_of(annotations={"mesh.pyairtable.io/weight": "0"})],
            "EndpointSlice user-abc: mesh.pyairtable.io/weight is not a number from 1 to 999999",
        ),
        (
            [service(GRPC), slice_of({"addresses": ["a.example"]}, family="FQDN")],
            "EndpointSlice user-abc has no IP addresses, and gRPC looks up no names here",
        ),
        (
            [service(GRPC, type="ExternalName")],
            "a Service of type ExternalName has no addresses, and gRPC looks up no names here",
        ),
        (
            [service(labels={"mesh.pyairtable.io/grpc-port": "rpc"})],
            "label mesh.pyairtable.io/grpc-port: 'rpc' is neither name nor number of a TCP port of the Service",
        ),
    ],
)
def test_what_is_wrong_is_said(objects: list[Object], reason: str) -> None:
    found = mesh(*objects)
    assert [(problem.where, problem.reason) for problem in found.problems] == [("shop/user", reason)]
    assert all(problem.service == each.canonical_name for each in found.services for problem in found.problems)
    assert not any(each.endpoints for each in found.services)


@pytest.mark.parametrize(
    "foreign",
    [
        slice_of(at("6.6.6.6"), namespace="evil"),
        slice_of(at("6.6.6.6"), service="audit"),
        slice_of(at("6.6.6.6"), service=None),
        slice_of(at("6.6.6.6"), ports=({"name": "web", "port": 1},)),
        slice_of(at("6.6.6.6"), ports=({"name": "grpc", "port": None},)),
    ],
)
def test_a_slice_of_something_else_adds_nothing(foreign: Object) -> None:
    assert endpoints(slice_of(at("10.0.0.1")), foreign) == (model.Endpoint("10.0.0.1", 50061),)


def test_a_short_name_can_not_be_stolen_from_another_namespace() -> None:
    """It means the Service of the client's own namespace, and nothing where that has none."""
    own, thief = slice_of(at("10.0.0.1")), slice_of(at("6.6.6.6"), namespace="evil")
    found = snapshot.build(mesh(service(GRPC), own, service(GRPC, namespace="evil"), thief))
    assert [found.lookup("user", namespace) for namespace in ("elsewhere", "")] == [None, None]
    for namespace, address in (("shop", "10.0.0.1"), ("evil", "6.6.6.6")):
        entry = found.lookup("user", namespace)
        assert entry is not None
        assert [endpoint.address for endpoint in entry.service.endpoints] == [address]


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        ({"mesh.pyairtable.io/enabled": "true"}, True),
        ({"mesh.pyairtable.io/enabled": "false"}, False),
        ({"enabled": "true"}, False),
        (None, False),
    ],
)
def test_which_namespaces_take_part(labels: Object | None, taken: bool) -> None:
    namespace = {"metadata": {"name": "shop", "labels": labels}}
    assert discovery.selects(Settings().namespace_selector, "", namespace) is taken


def test_services_come_in_order_whatever_the_order_of_events() -> None:
    objects = [service(GRPC, name="b"), service(GRPC, name="a"), service(GRPC, name="c", namespace="other")]
    expected = [("other", "c"), ("shop", "a"), ("shop", "b")]
    for given in (objects, objects[::-1]):
        assert [(found.namespace, found.name) for found in mesh(*given).services] == expected


def test_what_did_not_change_is_taken_over() -> None:
    assembler = discovery.Assembler("cluster.local")
    user, audit = (discovery.grpc_service(service(GRPC, name=name)) for name in ("user", "audit"))
    part = discovery.endpoint_slice(slice_of(at("10.0.0.1")))
    assert user is not None
    assert audit is not None
    assert part is not None
    first = assembler.mesh([user, audit], {user.key: (part,)})
    again = assembler.mesh([dataclasses.replace(audit), user], {user.key: ()})
    assert again.services[0] is first.services[0]
    assert again.services[1].endpoints == ()


def test_the_domain_is_the_clusters() -> None:
    found = discovery.grpc_service(service(GRPC))
    assert found is not None
    [made] = discovery.Assembler("example.org").mesh([found], {}).services
    assert made.canonical_name == "user.shop.svc.example.org:50051"
