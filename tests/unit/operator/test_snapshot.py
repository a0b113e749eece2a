import dataclasses
import subprocess
import sys

import pytest

from pyairtable_operator import model
from pyairtable_operator.xds import snapshot
from pyairtable_operator.xds.snapshot import ResourceType

USER = model.Service("user", "default", 50051, (model.Endpoint("127.0.0.1", 1), model.Endpoint("127.0.0.1", 2)))
AUDIT = model.Service("audit", "default", 50051)
BAD = model.Service("bad", "default", 50051, (model.Endpoint("localhost", 1),))


def build(*services: model.Service) -> snapshot.Snapshot:
    return snapshot.build(model.Mesh(services))


def test_same_content_has_the_same_version_in_another_process() -> None:
    program = """
from pyairtable_operator import model
from pyairtable_operator.xds import snapshot
endpoints = (model.Endpoint("127.0.0.1", 1), model.Endpoint("127.0.0.1", 2))
print(snapshot.build(model.Mesh((model.Service("user", "default", 50051, endpoints),))).version)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == build(USER).version


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(USER, endpoints=USER.endpoints[:1]),
        dataclasses.replace(USER, policy=model.TrafficPolicy(max_concurrent_requests=1)),
        dataclasses.replace(USER, policy=model.TrafficPolicy(retry=model.RetryPolicy(attempts=2))),
        dataclasses.replace(USER, port=1),
    ],
)
def test_other_content_has_another_version(other: model.Service) -> None:
    assert build(USER).version != build(other).version


def test_order_does_not_change_the_version() -> None:
    turned = dataclasses.replace(USER, endpoints=USER.endpoints[::-1])
    assert build(USER, AUDIT).version == build(AUDIT, turned).version


def test_what_did_not_change_is_taken_over() -> None:
    before = build(USER, AUDIT)
    after = snapshot.build(model.Mesh((dataclasses.replace(USER, endpoints=()), AUDIT)), before)
    assert after.entries[AUDIT.canonical_name] is before.entries[AUDIT.canonical_name]
    assert after.entries[USER.canonical_name] is not before.entries[USER.canonical_name]


def test_a_change_of_endpoints_changes_only_the_assignment() -> None:
    before, after = build(USER), build(dataclasses.replace(USER, endpoints=()))
    changed = {
        kind
        for kind in ResourceType
        if before.find(kind, USER.canonical_name, "").digest != after.find(kind, USER.canonical_name, "").digest
    }
    assert changed == {ResourceType.ENDPOINTS}
    assert {kind for kind in ResourceType if before.versions[kind] != after.versions[kind]} == changed


def test_a_service_more_or_less_changes_the_version_of_every_type() -> None:
    one, both = build(USER), build(USER, AUDIT)
    assert not any(one.versions[kind] == both.versions[kind] for kind in ResourceType)


def test_a_bad_service_is_left_out_and_the_others_are_served() -> None:
    made = build(USER, BAD, AUDIT)
    assert set(made.entries) == {USER.canonical_name, AUDIT.canonical_name}
    assert [problem.service for problem in made.problems] == [BAD.canonical_name]


def test_of_two_services_with_one_name_the_first_is_served() -> None:
    made = build(USER, dataclasses.replace(USER, endpoints=()))
    assert made.entries[USER.canonical_name].service == USER
    assert [problem.service for problem in made.problems] == [USER.canonical_name]


@pytest.mark.parametrize(
    ("name", "namespace", "found"),
    [
        ("user", "default", True),
        ("user", "other", False),
        ("user", "", False),
        (USER.canonical_name, "default", True),
        (USER.canonical_name, "other", True),
        ("user.default", "default", False),
    ],
)
def test_names(name: str, namespace: str, found: bool) -> None:
    assert (build(USER).lookup(name, namespace) is not None) is found


def test_a_short_name_means_the_lowest_port() -> None:
    low = dataclasses.replace(USER, port=80)
    entry = build(USER, low).lookup("user", "default")
    assert entry is not None
    assert entry.service == low


@pytest.mark.parametrize("kind", list(ResourceType))
def test_a_name_that_no_service_has_gets_an_answer(kind: ResourceType) -> None:
    resource = build().find(kind, "nobody", "default")
    assert resource.packed.type_url == kind.value
