"""TrafficPolicy objects: what they mean, which of them counts, and what is written into their status."""

import dataclasses
from typing import Any

import pytest

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import policies
from tests.contract.operator.cluster import Object, following, names, policy, until
from tests.contract.operator.kubernetes_api import KubernetesApi

USER = "user.shop.svc.cluster.local:50051"


@dataclasses.dataclass
class Counted:
    """What clients have made of a service."""

    subscribed: int
    acknowledged: int
    refused: int
    refusal: str = ""


def read(**spec: Any) -> policies.TrafficPolicy:
    source = policy("calm", **spec)
    source["metadata"]["generation"] = 3
    return policies.traffic_policy(source)


def limit(inventory: Inventory) -> list[int]:
    services = inventory.mesh.services if inventory.mesh is not None else ()
    return [service.policy.max_concurrent_requests for service in services]


def accepted(api: KubernetesApi, name: str) -> Object:
    """The condition Accepted of a policy, without its time."""
    conditions = api.objects["trafficpolicies"]["shop", name].get("status", {}).get("conditions", [])
    return {key: value for found in conditions for key, value in found.items() if key != "lastTransitionTime"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, model.TrafficPolicy()),
        ({"loadBalancing": "LeastRequest"}, model.TrafficPolicy(load_balancing=model.LoadBalancing.LEAST_REQUEST)),
        ({"maxConcurrentRequests": 9}, model.TrafficPolicy(max_concurrent_requests=9)),
        (
            {"retry": {"codes": ["INTERNAL"], "attempts": 2, "initialBackoff": "10ms", "maxBackoff": "1m1s"}},
            model.TrafficPolicy(retry=model.RetryPolicy((model.RetryCode.INTERNAL,), 2, 0.01, 61.0)),
        ),
        ({"retry": {"codes": []}}, model.TrafficPolicy(retry=model.RetryPolicy(codes=()))),
        ({"outlierDetection": {}}, model.TrafficPolicy(outlier_detection=model.OutlierDetection())),
        (
            {
                "outlierDetection": {
                    "interval": "5s",
                    "baseEjectionTime": "30s",
                    "maxEjectionPercent": 10,
                    "failurePercentage": 20,
                    "minimumHosts": 3,
                    "requestVolume": 40,
                }
            },
            model.TrafficPolicy(outlier_detection=model.OutlierDetection(5.0, 30.0, 10, 20, 3, 40)),
        ),
    ],
    ids=["nothing", "load balancing", "limit", "retry", "no retry", "outliers", "outliers in full"],
)
def test_what_a_policy_wants(spec: Object, expected: model.TrafficPolicy) -> None:
    found = read(**spec)
    assert found == policies.TrafficPolicy(("shop", "user"), "calm", "", 3, expected)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"retry": {"attempts": 6}}, "retry.attempts 6 is not in 1 to 5"),
        (
            {"retry": {"maxBackoff": "1ms"}},
            "retry: 0.001 <= initial_backoff <= max_backoff <= 3600 seconds does not hold",
        ),
        ({"maxConcurrentRequests": 0}, "max_concurrent_requests 0 is not in 1 to 4294967295"),
        (
            {"outlierDetection": {"failurePercentage": 101}, "maxConcurrentRequests": 0},
            "max_concurrent_requests 0 is not in 1 to 4294967295; "
            "outlier_detection.failure_percentage is not in 0 to 100",
        ),
        (
            {"loadBalancing": "Random"},
            "the object does not fit its schema, mesh.pyairtable.io/v1alpha1: KeyError",
        ),
        (
            {"retry": {"initialBackoff": "soon"}},
            "the object does not fit its schema, mesh.pyairtable.io/v1alpha1: ValueError",
        ),
        ({"retry": 7}, "the object does not fit its schema, mesh.pyairtable.io/v1alpha1: TypeError"),
    ],
    ids=["attempts", "back-off", "limit", "two things", "a word", "a duration", "a shape"],
)
def test_what_a_policy_can_not_want(spec: Object, problem: str) -> None:
    found = read(**spec)
    assert (found.policy, found.problem) == (None, problem)


def test_of_several_the_oldest_good_one_counts() -> None:
    objects = [
        policy("bad", created="2026-01-01T00:00:00Z", maxConcurrentRequests=0),
        policy("b", created="2026-01-02T00:00:00Z"),
        policy("a", created="2026-01-02T00:00:00Z"),
        policy("z", created="2026-01-03T00:00:00Z"),
    ]
    found = [policies.traffic_policy(each) for each in objects]
    told = policies.verdicts({("shop", "user"): found}, {("shop", "user"): (USER,)})
    assert [(each.source.name, each.reason) for each in told] == [
        ("a", "Accepted"),
        ("b", "Conflicted"),
        ("bad", "Invalid"),
        ("z", "Conflicted"),
    ]
    assert told[0].services == (USER,)
    assert told[1].message == "TrafficPolicy a is older, and holds for user"


async def test_a_policy_comes_changes_and_goes(api: KubernetesApi) -> None:
    await api.put("trafficpolicies", policy("calm", maxConcurrentRequests=7))
    async with following(api) as inventory:
        inventory.receptions = lambda: {USER: Counted(3, 2, 1), "other": Counted(9, 9, 9)}
        await until("the first listing", lambda: limit(inventory) == [7])
        await until("its status", lambda: accepted(api, "calm") != {})
        assert accepted(api, "calm") == {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": f"holds for {USER}",
            "observedGeneration": 1,
        }
        status = api.objects["trafficpolicies"]["shop", "calm"]["status"]
        assert status["clients"] == {"subscribed": 3, "acknowledged": 2, "refused": 1}
        changed = {**policy("calm", maxConcurrentRequests=0), "status": status}
        changed["metadata"]["generation"] = 2
        await api.put("trafficpolicies", changed)
        await until("the refusal", lambda: accepted(api, "calm").get("reason") == "Invalid")
        assert accepted(api, "calm")["observedGeneration"] == 2
        assert limit(inventory) == [model.TrafficPolicy().max_concurrent_requests]
        assert inventory.mesh is not None
        [problem] = inventory.mesh.problems
        assert str(problem) == (
            "shop/user: TrafficPolicy calm is not in force: max_concurrent_requests 0 is not in 1 to 4294967295"
        )
        await api.put("trafficpolicies", policy("calm", maxConcurrentRequests=8))
        await until("the better one", lambda: limit(inventory) == [8])
        await api.remove("trafficpolicies", "shop", "calm")
        await until("the deletion", lambda: limit(inventory) == [model.TrafficPolicy().max_concurrent_requests])


async def test_a_status_that_says_what_is_so_is_left_alone(api: KubernetesApi) -> None:
    await api.put("trafficpolicies", policy("calm"))
    async with following(api):
        await until("its status", lambda: accepted(api, "calm") != {})
        renewals = api.writes.count("replace leases")
        await until("more rounds", lambda: api.writes.count("replace leases") > renewals + 5)
        assert api.writes.count("status trafficpolicies") == 1
    async with following(api, "replica-1") as inventory:
        await until("another replica", lambda: names(inventory) == ["user"])
        renewals = api.writes.count("replace leases")
        await until("its rounds", lambda: api.writes.count("replace leases") > renewals + 5)
    assert api.writes.count("status trafficpolicies") == 1


async def test_the_time_of_a_condition_is_that_of_its_last_change(api: KubernetesApi) -> None:
    old = {"type": "Accepted", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    foreign = {"type": "Reviewed", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    await api.put("trafficpolicies", {**policy("calm"), "status": {"conditions": [foreign, old]}})
    async with following(api):
        await until("its status", lambda: accepted(api, "calm").get("reason") == "Accepted")
    conditions = api.objects["trafficpolicies"]["shop", "calm"]["status"]["conditions"]
    assert conditions[0] == foreign
    assert conditions[1]["lastTransitionTime"] == "2020-01-01T00:00:00Z"


async def test_a_policy_for_nothing_is_told_so(api: KubernetesApi) -> None:
    await api.put("trafficpolicies", policy("lost", target="nobody"))
    async with following(api):
        await until("its status", lambda: accepted(api, "lost").get("reason") == "TargetNotFound")
    assert accepted(api, "lost")["message"] == "Service nobody is not there, or has no gRPC port"


async def test_a_policy_of_a_namespace_that_takes_no_part_is_not_touched(api: KubernetesApi) -> None:
    await api.put("namespaces", {"metadata": {"name": "elsewhere"}})
    await api.put("trafficpolicies", policy("theirs", home="elsewhere", maxConcurrentRequests=1))
    await api.put("trafficpolicies", policy("ours"))
    async with following(api) as inventory:
        await until("the status of ours", lambda: accepted(api, "ours") != {})
        assert limit(inventory) == [model.TrafficPolicy().max_concurrent_requests]
    assert "status" not in api.objects["trafficpolicies"]["elsewhere", "theirs"]


async def test_only_the_replica_that_holds_the_lease_writes(api: KubernetesApi) -> None:
    async with following(api, "replica-0") as first:
        await until("the holder", lambda: bool(api.objects["leases"]) and api.holder() == "replica-0")
        async with following(api, "replica-1") as second:
            first.receptions = lambda: {USER: Counted(1, 1, 0)}
            second.receptions = lambda: {USER: Counted(5, 5, 0)}
            await api.put("trafficpolicies", policy("calm", maxConcurrentRequests=7))
            await until("both", lambda: limit(first) == limit(second) == [7])
            await until("the status", lambda: accepted(api, "calm") != {})
            clients = api.objects["trafficpolicies"]["shop", "calm"]["status"]["clients"]
            assert clients["subscribed"] == 1


async def test_a_cluster_without_the_kind_is_followed_and_the_kind_when_it_comes(api: KubernetesApi) -> None:
    api.with_policies = False
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        assert inventory.troubles == ()
        await api.put("trafficpolicies", policy("calm", maxConcurrentRequests=7))
        api.with_policies = True
        await until("the policy", lambda: limit(inventory) == [7])
        api.with_policies = False
        await until("the kind that is gone", lambda: limit(inventory) != [7])
        assert names(inventory) == ["user"]
