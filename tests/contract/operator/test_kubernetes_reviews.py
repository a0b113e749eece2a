"""Whose token it is, and what its owner may do, as the API server says."""

from collections.abc import AsyncIterator

import pytest
from kubernetes.aio import client

from pyairtable_operator.inventory import Caller
from pyairtable_operator.providers.kubernetes import reviews
from pyairtable_operator.providers.kubernetes.client import ApiError
from tests.contract.operator.kubernetes_api import KubernetesApi

NAME = "system:serviceaccount:shop:web"
POD = "authentication.kubernetes.io/pod-name"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def asked(api: KubernetesApi, clock: Clock) -> AsyncIterator[reviews.TokenReviews]:
    user = {"username": NAME, "uid": "u1", "groups": ["system:serviceaccounts"], "extra": {POD: ["web-1"]}}
    api.tokens["good"] = user
    api.rights.add((NAME, "get", "shop"))
    async with client.ApiClient(client.Configuration(host=api.url)) as connection:
        yield reviews.TokenReviews(connection, "mesh.test", clock)


async def test_a_good_token_names_its_owner(api: KubernetesApi, asked: reviews.TokenReviews) -> None:
    found = await asked.caller("good")
    assert found == Caller(NAME, "u1", ("system:serviceaccounts",), ((POD, ("web-1",)),))
    assert api.reviews == [{"token": "good", "audiences": ["mesh.test"]}]
    assert await asked.caller("bad") is None


@pytest.mark.parametrize("audiences", [None, [], ["https://kubernetes.default.svc"]])
async def test_a_token_for_somebody_else_is_none(
    api: KubernetesApi, asked: reviews.TokenReviews, audiences: list[str] | None
) -> None:
    api.audiences = audiences
    assert await asked.caller("good") is None


async def test_rights_are_asked_for_with_all_that_is_known_of_the_caller(
    api: KubernetesApi, asked: reviews.TokenReviews
) -> None:
    found = await asked.caller("good")
    assert found is not None
    assert [await asked.allows(found, "get", namespace) for namespace in ("shop", "bank", "")] == [True, False, False]
    assert not await asked.allows(found, "tap", "shop")
    assert api.reviews[1] == {
        "user": NAME,
        "uid": "u1",
        "groups": ["system:serviceaccounts"],
        "extra": {POD: ["web-1"]},
        "resourceAttributes": {
            "group": "mesh.pyairtable.io",
            "resource": "meshstatus",
            "verb": "get",
            "namespace": "shop",
        },
    }
    assert "namespace" not in api.reviews[3]["resourceAttributes"], "all namespaces"


async def test_answers_are_kept_for_a_while(api: KubernetesApi, asked: reviews.TokenReviews, clock: Clock) -> None:
    for _ in range(3):
        found = await asked.caller("good")
        assert found is not None
        assert await asked.allows(found, "get", "shop")
        assert await asked.caller("bad") is None
    assert len(api.reviews) == 3
    api.tokens.clear()
    clock.now += 9
    assert await asked.caller("good") is not None
    clock.now += 2
    assert await asked.caller("good") is None


async def test_few_answers_are_kept(
    api: KubernetesApi, asked: reviews.TokenReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_KEPT", 2)
    for token in ("a", "b", "good", "a"):
        await asked.caller(token)
    assert [spec["token"] for spec in api.reviews] == ["a", "b", "good", "a"]


async def test_without_an_answer_there_is_no_caller(api: KubernetesApi, asked: reviews.TokenReviews) -> None:
    await api.stop()
    with pytest.raises(ApiError, match="can't be reached"):
        await asked.caller("good")
    with pytest.raises(ApiError, match="can't be reached"):
        await asked.allows(Caller(NAME), "get", "shop")
