import pytest

from pyairtable_operator import model
from pyairtable_operator.providers import document

MINIMAL = "{name: user, namespace: shop, port: 50051}"


def test_what_is_rendered_is_read_back() -> None:
    services = (
        model.Service("user", "shop", 50051),
        model.Service(
            "file",
            "shop",
            9000,
            (model.Endpoint("::1", 1, "a", 3, model.Health.DRAINING), model.Endpoint("10.0.0.1", 2)),
            model.TrafficPolicy(
                model.LoadBalancing.LEAST_REQUEST,
                10,
                model.RetryPolicy((model.RetryCode.INTERNAL,), 2, 0.5, 1.5),
                model.OutlierDetection(interval=2.5),
            ),
            "mesh.example",
        ),
    )
    assert document.parse(document.render(services)) == model.Mesh(services)


def test_defaults_are_left_out() -> None:
    assert document.render([model.Service("user", "shop", 1)]) == (
        "services:\n- name: user\n  namespace: shop\n  port: 1\n"
    )


def test_the_domain_of_the_document_is_that_of_its_services() -> None:
    mesh = document.parse(f"domain: mesh.example\nservices: [{MINIMAL}]")
    assert mesh.services == (model.Service("user", "shop", 50051, domain="mesh.example"),)


@pytest.mark.parametrize(
    ("entry", "where", "reason"),
    [
        ("{namespace: shop, port: 1}", "services[1].name", "field required"),
        ("{name: a, namespace: shop, port: x}", "services[1].port", "input should be a valid integer"),
        ("{name: a, namespace: shop, port: 1, prot: 2}", "services[1].prot", "unexpected keyword argument"),
        (
            "{name: a, namespace: shop, port: 1, endpoints: [{address: 1.1.1.1, port: 1, health: OK}]}",
            "services[1].endpoints[0].health",
            "input should be 'HEALTHY', 'DRAINING' or 'UNHEALTHY'",
        ),
        (
            "{name: a, namespace: shop, port: 1, policy: {retry: {atempts: 2}}}",
            "services[1].policy.retry.atempts",
            "unexpected keyword argument",
        ),
    ],
)
def test_a_wrong_service_is_left_out_with_its_path(entry: str, where: str, reason: str) -> None:
    mesh = document.parse(f"services: [{MINIMAL}, {entry}]")
    assert [service.name for service in mesh.services] == ["user"]
    [problem] = mesh.problems
    assert problem.where == where
    assert problem.reason.startswith(reason)


def test_a_problem_names_its_service_where_that_is_known() -> None:
    mesh = document.parse("services: [{name: a, namespace: shop, port: 1, weight: 2}, {name: b}]")
    assert [problem.service for problem in mesh.problems] == ["a.shop.svc.cluster.local:1", "", ""]


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("services: [\n", "2:1", "did not find expected node content"),
        ("", "document", "input should be a valid dictionary"),
        ("services: 5", "services", "input should be a valid list"),
        ("services: [5]", "services[0]", "input should be a valid dictionary"),
        ("service: []", "services", "field required"),
        ("services: []\nx: 1", "x", "extra inputs are not permitted"),
        (b"services: [\xff]", "document", "is not YAML in UTF-8"),
        ("services: !!python/object:os.system []", "1:11", "could not determine a constructor"),
    ],
)
def test_a_document_whose_services_cannot_be_told_apart_is_refused(text: str, where: str, reason: str) -> None:
    with pytest.raises(document.DocumentError) as caught:
        document.parse(text)
    assert caught.value.problem.where == where
    assert caught.value.problem.reason.startswith(reason)
