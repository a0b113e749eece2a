"""The charts render to what is valid, restricted, fits the programs, and is the same with Helm 3 and 4."""

import dataclasses
import importlib
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pyairtable_mesh import __main__ as services
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_operator import model
from pyairtable_operator.settings import Settings as OperatorSettings
from pyairtable_operator.xds import validate
from tests import helm, tools

CRD = "trafficpolicies.mesh.pyairtable.io"
VALUES = yaml.safe_load((helm.MESH / "values.yaml").read_text())
CONFIGURATIONS = pytest.mark.parametrize("values", helm.CONFIGURATIONS.values(), ids=helm.CONFIGURATIONS)


def named(rendered: list[helm.Object], kind: str, name: str) -> helm.Object:
    (found,) = [each for each in rendered if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("program", helm.PACKAGES)
@pytest.mark.parametrize("chart", [helm.MESH, helm.OPERATOR, helm.CRDS], ids=lambda chart: chart.name)
def test_helm_finds_nothing_to_complain_of(program: str, chart: Any) -> None:
    done = helm.run("lint", "--strict", "--quiet", chart, helm=program)
    assert done.returncode == 0, done.stdout + done.stderr


@CONFIGURATIONS
def test_each_object_fits_its_schema_of_kubernetes(values: tuple[str, ...]) -> None:
    for each in helm.objects(values):
        kubernetes_validate.validate(each, helm.KUBERNETES, strict=True)


@CONFIGURATIONS
def test_helm_3_and_4_make_the_same(values: tuple[str, ...]) -> None:
    assert helm.objects(values) == helm.objects(values, helm="helm4")


@CONFIGURATIONS
def test_every_pod_is_restricted(values: tuple[str, ...]) -> None:
    for owner, pod in helm.pods(helm.objects(values)):
        name = owner["metadata"]["name"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is (name == "pyairtable-operator"), name
        assert pod["enableServiceLinks"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


@CONFIGURATIONS
def test_variables_are_settings_and_stand_once(values: tuple[str, ...]) -> None:
    known = {Settings.prefix + field.name.upper() for field in dataclasses.fields(Settings)}
    known |= {OperatorSettings.prefix + field.name.upper() for field in dataclasses.fields(OperatorSettings)}
    known.add("PYAIRTABLE_INSTANCE")
    for owner, pod in helm.pods(helm.objects(values)):
        for container in pod["containers"]:
            variables = [variable["name"] for variable in container.get("env", ())]
            assert len(variables) == len(set(variables)), owner["metadata"]["name"]
            assert {name for name in variables if name.startswith("PYAIRTABLE_")} <= known


def test_services_of_the_release_are_those_of_the_chart() -> None:
    assert sorted(VALUES["services"]) == services.names()


@pytest.mark.parametrize("name", VALUES["services"])
def test_probes_ask_about_what_the_service_serves(name: str) -> None:
    app = importlib.import_module(f"pyairtable_mesh.{name}.app")
    assert VALUES["services"][name]["grpcService"] in app.service.access
    (container,) = named(helm.objects(), "Deployment", name)["spec"]["template"]["spec"]["containers"]
    asked = {
        probe: container[probe]["grpc"]["service"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    served = VALUES["services"][name]["grpcService"]
    assert asked == {"startupProbe": served, "readinessProbe": served, "livenessProbe": "liveness"}


def test_who_may_call_a_service_follows_from_who_calls_it() -> None:
    rendered = helm.objects()
    for name in VALUES["services"]:
        (ingress,) = named(rendered, "NetworkPolicy", name)["spec"]["ingress"]
        (peer,) = ingress["from"]
        (selected,) = peer["podSelector"]["matchExpressions"]
        callers = {caller for caller, service in VALUES["services"].items() if name in service["calls"]}
        assert set(selected["values"]) == callers | {"mesh-test"}


def test_another_service_is_an_entry_of_the_values() -> None:
    entry = "services.greeter.grpcService=greeter.v1.GreeterService"
    added = helm.objects(("--set", entry, "--set-json", 'services.greeter.calls=["user"]'))
    kinds = {each["kind"] for each in added if each["metadata"]["name"] == "greeter"}
    assert kinds == {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"}
    (peer,) = named(added, "NetworkPolicy", "user")["spec"]["ingress"][0]["from"]
    assert "greeter" in peer["podSelector"]["matchExpressions"][0]["values"]


def test_a_deployment_with_an_autoscaler_states_no_replicas() -> None:
    rendered = helm.objects(helm.CONFIGURATIONS["ha"])
    for name in VALUES["services"]:
        assert "replicas" not in named(rendered, "Deployment", name)["spec"]
        assert named(rendered, "HorizontalPodAutoscaler", name)["spec"]["minReplicas"] == 3
        assert named(rendered, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
    assert named(rendered, "Deployment", "pyairtable-operator")["spec"]["replicas"] == 2


def test_a_variable_of_ones_own_goes_before_the_charts() -> None:
    values = ("--set", "defaults.env.PYAIRTABLE_LOG_LEVEL=DEBUG,services.user.env.PYAIRTABLE_LOG_LEVEL=ERROR")
    rendered = helm.objects(values)
    levels = {
        name: variable["value"]
        for name in ("permission", "user")
        for variable in named(rendered, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["env"]
        if variable["name"] == "PYAIRTABLE_LOG_LEVEL"
    }
    assert levels == {"permission": "DEBUG", "user": "ERROR"}


def test_the_policy_kind_is_what_the_control_plane_knows_of_policies() -> None:
    (version,) = named(helm.objects(), "CustomResourceDefinition", CRD)["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert set(spec) == {"targetRef", *in_camel_case(model.TrafficPolicy)}
    assert set(spec["retry"]["properties"]) == in_camel_case(model.RetryPolicy)
    assert set(spec["outlierDetection"]["properties"]) == in_camel_case(model.OutlierDetection)
    assert spec["loadBalancing"]["enum"] == [found.value.title().replace("_", "") for found in model.LoadBalancing]
    assert spec["retry"]["properties"]["codes"]["items"]["enum"] == list(model.RetryCode)
    assert spec["retry"]["properties"]["attempts"]["maximum"] == validate.MAX_ATTEMPTS


def in_camel_case(kind: type[Any]) -> set[str]:
    names = (field.name.split("_") for field in dataclasses.fields(kind))
    return {first + "".join(map(str.title, rest)) for first, *rest in names}


def test_a_release_without_the_kinds_has_all_the_rest() -> None:
    without = helm.objects(("--set", "crds.enabled=false"))
    assert [each for each in helm.objects() if each not in without] == [
        named(helm.objects(), "CustomResourceDefinition", CRD)
    ]


def test_the_kinds_outlive_the_release() -> None:
    kind = named(helm.objects(), "CustomResourceDefinition", CRD)
    assert kind["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_control_plane_may_do_what_it_does_and_no_more() -> None:
    rules = named(helm.objects(), "ClusterRole", "pyairtable-operator:mesh")["rules"]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    read = ("namespaces", "services", "pods", "endpointslices", "trafficpolicies")
    written = {
        ("trafficpolicies/status", "patch"),
        ("events", "create"),
        ("tokenreviews", "create"),
        ("subjectaccessreviews", "create"),
    }
    assert granted == {(kind, verb) for kind in read for verb in ("get", "list", "watch")} | written


REFUSED = {
    "an unknown value": "nonsense=1",
    "an unknown value of the operator": "operator.nonsense=1",
    "an unknown value of a service": "services.user.nonsense=1",
    "an unknown value of all services": "defaults.nonsense=1",
    "a service without a gRPC service": "services.greeter.replicas=1",
    "a name that is no DNS label": "services.Greeter.grpcService=a.B",
    "replicas on SQLite": "defaults.replicas=2",
    "two sources of keys": "auth.jwks=x,auth.existingSecret=y",
    "two databases": "postgresql.enabled=true,database.existingSecret=x",
    "a number that is none": "persistence.size=much",
    "an unknown value of the kinds": "crds.nonsense=1",
    "an operator that follows no namespaces": "operator.namespaceSelector=",
    "a share above one": "telemetry.sampleRatio=2",
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_values_that_do_not_fit_are_refused(value: str) -> None:
    done = helm.run("template", "mesh", helm.MESH, "--kube-version", f"{helm.KUBERNETES}.0", "--set", value)
    assert done.returncode != 0
    assert "Error:" in done.stderr


def test_the_charts_have_the_version_of_the_release() -> None:
    version = tomllib.loads((tools.REPOSITORY / "services/pyproject.toml").read_text())["project"]["version"]
    for chart in helm.MESH, helm.OPERATOR, helm.CRDS:
        described = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert (described["version"], described["appVersion"]) == (version, version)
