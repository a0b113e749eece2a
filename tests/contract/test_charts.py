"""The charts render to what is valid, restricted, fits the programs, and is the same with Helm 3 and 4."""

import dataclasses
import importlib
import subprocess
import tomllib
from pathlib import Path
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
FLUSH_SECONDS = 5
"""How long each signal of telemetry may take at the end (`Telemetry.close`)."""
NOT_HELD = {
    "container-image-pull-policy": "tags are versions; Always would need the registry at each start",
    "container-resources": "no limit of CPU, on purpose; test_every_pod_is_restricted looks at the rest",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints do that, over nodes and over zones",
}
"""Checks of kube-score that are not followed, and why. Nor is what it says of PostgreSQL: that one is for tests."""
CONFIGURATIONS = pytest.mark.parametrize("values", helm.CONFIGURATIONS.values(), ids=helm.CONFIGURATIONS)


def named(rendered: list[helm.Object], kind: str, name: str) -> helm.Object:
    (found,) = [each for each in rendered if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("program", helm.PACKAGES)
@pytest.mark.parametrize("chart", [helm.MESH, helm.OPERATOR, helm.CRDS, helm.LIBRARY], ids=lambda chart: chart.name)
def test_helm_finds_nothing_to_complain_of(program: str, chart: Any) -> None:
    done = helm.run("lint", "--strict", "--quiet", chart, helm=program)
    assert done.returncode == 0, done.stdout + done.stderr


@CONFIGURATIONS
def test_each_object_fits_its_schema_of_kubernetes(values: tuple[str, ...]) -> None:
    for each in helm.objects(values):
        # The Prometheus operator's kinds are not Kubernetes' own: test_dashboards.py looks at them.
        if not each["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(each, helm.KUBERNETES, strict=True)


@CONFIGURATIONS
def test_kube_score_finds_what_it_must(values: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(helm.template(values))
    ignored = [f"--ignore-test={check}" for check in NOT_HELD]
    command = [helm.kube_score(), "score", "--kubernetes-version", f"v{helm.KUBERNETES}", "--output-format", "ci"]
    done = subprocess.run(
        [*command, "--exit-one-on-warning", *ignored, tmp_path / "rendered.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(("[WARNING]", "[CRITICAL]"))]
    assert [line for line in found if "postgresql/" not in line and not _is_of_one_replica(values, line)] == []
    assert "[OK]" in done.stdout


def _is_of_one_replica(values: tuple[str, ...], line: str) -> bool:
    return helm.HA[1] not in values and line.endswith(("Deployment few replicas", "Deployment update strategy"))


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
            assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}, name
            assert container["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}, name


@CONFIGURATIONS
def test_variables_are_settings_and_stand_once(values: tuple[str, ...]) -> None:
    known = {Settings.prefix + field.name.upper() for kind in _settings() for field in dataclasses.fields(kind)}
    known |= {OperatorSettings.prefix + field.name.upper() for field in dataclasses.fields(OperatorSettings)}
    known.add("PYAIRTABLE_INSTANCE")
    for owner, pod in helm.pods(helm.objects(values)):
        for container in pod["containers"]:
            variables = [variable["name"] for variable in container.get("env", ())]
            assert len(variables) == len(set(variables)), owner["metadata"]["name"]
            assert {name for name in variables if name.startswith("PYAIRTABLE_")} <= known


def _settings() -> list[type[Settings]]:
    return [importlib.import_module(f"pyairtable_mesh.{name}.app").service.settings for name in services.names()]


@pytest.mark.parametrize(
    ("values", "secret"),
    [
        ((), "first-administrator"),
        (("--set", "firstAdministrator.existingSecret=own"), "own"),
        (("--set", "firstAdministrator.enabled=false"), ""),
    ],
    ids=["made", "existing", "none"],
)
def test_the_administrators_code_is_a_file_of_the_permission_service_alone(
    values: tuple[str, ...], secret: str
) -> None:
    rendered = helm.objects(values)
    made = [each["metadata"]["name"] for each in rendered if each["kind"] == "Secret"]
    assert made == (["first-administrator"] if secret == "first-administrator" else [])
    mounted = {
        (owner["metadata"]["name"], volume["secret"]["secretName"])
        for owner, pod in helm.pods(rendered)
        for volume in pod.get("volumes", ())
        if "secret" in volume
    }
    assert mounted == ({("permission", secret)} if secret else set())
    assert "first-administrator" not in yaml.safe_dump([pod.get("env") for _, pod in helm.pods(rendered)])


def test_a_pod_is_given_the_time_that_its_shutdown_takes() -> None:
    settings, flush = Settings(), 3 * FLUSH_SECONDS
    for name in VALUES["services"]:
        given = named(helm.objects(), "Deployment", name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert given >= settings.removal_seconds + settings.drain_seconds + flush


def test_no_old_pod_goes_before_a_new_one_serves() -> None:
    for name in VALUES["services"]:
        spec = named(helm.objects(helm.CONFIGURATIONS["ha"]), "Deployment", name)["spec"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert spec["minReadySeconds"] > Settings().removal_seconds
        assert "minReadySeconds" not in named(helm.objects(), "Deployment", name)["spec"]


def test_other_keys_of_people_replace_the_pods() -> None:
    def annotations(keys: str) -> list[helm.Object]:
        rendered = helm.objects(("--set", f"auth.jwks={keys}"))
        return [named(rendered, "Deployment", name)["spec"]["template"]["metadata"] for name in VALUES["services"]]

    assert annotations("a") == annotations("a")
    assert all(one != other for one, other in zip(annotations("a"), annotations("b"), strict=True))


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
    "a code that is no Secret": "firstAdministrator.code=guess",
    "a password": "postgresql.password=guess",
    "no time to leave": "defaults.terminationGracePeriodSeconds=0",
    "a number that is none": "persistence.size=much",
    "an unknown value of the kinds": "crds.nonsense=1",
    "an operator that follows no namespaces": "operator.namespaceSelector=",
    "an unknown value of the alerts": "rules.nonsense=1",
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
