"""What services become on the wire, as text."""

import json
from collections.abc import Callable

import pytest
import yaml
from google.protobuf import json_format, message

from pyairtable_operator import model
from pyairtable_operator.providers import document
from pyairtable_operator.xds import snapshot, translate

SERVICES = {
    "defaults": model.Service("user", "pyairtable", 50051, (model.Endpoint("127.0.0.1", 50061),)),
    "zones": model.Service(
        "permission",
        "pyairtable",
        50051,
        (
            model.Endpoint("10.0.2.1", 50051, zone="b", weight=3),
            model.Endpoint("10.0.1.2", 50051, zone="a", health=model.Health.DRAINING),
            model.Endpoint("10.0.1.1", 50051, zone="a", weight=2),
            model.Endpoint("10.0.3.1", 50051, zone="c", health=model.Health.DRAINING),
            model.Endpoint("10.0.1.3", 50051, zone="a", health=model.Health.UNHEALTHY),
        ),
    ),
    "policy": model.Service(
        "file",
        "storage",
        9000,
        (model.Endpoint("fd00::1", 9000),),
        model.TrafficPolicy(
            load_balancing=model.LoadBalancing.LEAST_REQUEST,
            max_concurrent_requests=200,
            retry=model.RetryPolicy(
                codes=(model.RetryCode.UNAVAILABLE, model.RetryCode.RESOURCE_EXHAUSTED),
                attempts=2,
                initial_backoff=0.1,
                max_backoff=2.5,
            ),
            outlier_detection=model.OutlierDetection(),
        ),
        domain="mesh.example",
    ),
    "no_retries": model.Service(
        "audit", "pyairtable", 50051, policy=model.TrafficPolicy(retry=model.RetryPolicy(attempts=1))
    ),
}


def as_yaml(resources: dict[str, message.Message]) -> str:
    fields = {
        name: json.loads(json_format.MessageToJson(resource, preserving_proto_field_name=True))
        for name, resource in resources.items()
    }
    return yaml.safe_dump(fields, sort_keys=False, width=120)


@pytest.mark.parametrize("name", SERVICES)
def test_resources_of_a_service(name: str, golden: Callable[[str, str], None]) -> None:
    made = translate.translate(SERVICES[name])
    text = as_yaml(
        {
            "listener": made.listener,
            "short_listener": made.short_listener,
            "route": made.route,
            "cluster": made.cluster,
            "assignment": made.assignment,
        }
    )
    golden(f"resources_{name}.yaml", text)


def test_resources_of_a_name_that_no_service_has(golden: Callable[[str, str], None]) -> None:
    empty = snapshot.build(model.Mesh())
    text = as_yaml(
        {kind.name.lower(): empty.find(kind, "nobody", "pyairtable").packed for kind in snapshot.ResourceType}
    )
    golden("resources_absent.yaml", text)


def test_document_of_services(golden: Callable[[str, str], None]) -> None:
    golden("document.yaml", document.render(SERVICES.values()))
