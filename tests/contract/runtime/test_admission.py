"""How much a caller gets in: calls at once, calls and messages a second, and streams until its token ends."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.interceptors import authentication
from pyairtable_mesh.runtime.interceptors.admission import Bucket
from tests.contract.runtime.answering import ROWS, Servicer, allowed, failure
from tests.contract.runtime.serving import BASE, served


async def test_calls_over_the_limit_are_turned_away_with_a_delay() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> None:
        entered.set()
        await leave.wait()

    async with served(Servicer(hold), ROWS, settings={"max_concurrent_calls": 1}) as serving:
        first = asyncio.ensure_future(allowed(serving))
        await asyncio.wait_for(entered.wait(), 5)
        answer = await failure(allowed(serving))
        leave.set()
        await first
    assert answer[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMITED")
    assert answer[2]["RetryInfo"].retry_delay.ToMilliseconds() > 0


async def test_calls_over_the_rate_are_turned_away_with_the_delay_to_wait() -> None:
    async with served(Servicer(), ROWS, settings={"max_calls_per_second": 0.5}) as serving:
        await allowed(serving)
        answer = await failure(allowed(serving))
    assert answer[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 0 < answer[2]["RetryInfo"].retry_delay.ToMilliseconds() <= 2000


def test_a_bucket_fills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = Bucket(10)
    assert [bucket.wait() for _ in range(11)] == [0.0] * 10 + [pytest.approx(0.1)]
    now += 0.15
    assert bucket.wait() == 0.0
    now += 60
    assert [bucket.wait() for _ in range(11)][10] > 0
    assert Bucket(0).wait() == 0.0


def test_who_reserves_is_served_in_turn_and_before_who_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = Bucket(10)
    assert [bucket.reserve() for _ in range(13)] == [0.0] * 10 + [pytest.approx(0.1 * n) for n in (1, 2, 3)]
    assert bucket.wait() == pytest.approx(0.4)
    now += 0.3
    assert bucket.wait() == pytest.approx(0.1)
    assert Bucket(0).reserve() == 0.0


async def test_messages_of_a_stream_count_as_calls_do() -> None:
    async with served(Servicer(), ROWS, settings={"max_calls_per_second": 20}) as serving:
        item = pb.CheckItem(resource=f"base:{BASE}", permission="read")
        begun = time.monotonic()
        call = serving.stub.StreamCheckPermissions(
            iter([pb.StreamCheckPermissionsRequest(key=key, item=item) for key in range(26)])
        )
        assert [answer.key async for answer in call] == list(range(26))
        assert time.monotonic() - begun > 0.25
        assert (await failure(allowed(serving)))[1] == "RATE_LIMITED"


@pytest.mark.parametrize("method", ["LookupResources", "ImportRelationships"])
async def test_a_stream_ends_with_its_caller_s_token(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_LOOK_SECONDS", 0.01)
    async with served(Servicer(), ROWS) as serving:
        serving.authenticator.seconds = 0
        if method == "LookupResources":
            request = pb.LookupResourcesRequest(resource_type="base", permission="wait")
            call = serving.stub.LookupResources(request, metadata=serving.as_alice())
            assert [(await call.read()).resources[0].resource for _ in range(3)] == ["base:0", "base:1", "base:2"]
        else:
            call = serving.stub.ImportRelationships(metadata=(("authorization", "Bearer workload:importer"),))
            link = pb.Relationship(resource=f"base:{BASE}", relation="workspace", subject="workspace:wsp" + "0" * 26)
            await call.write(pb.ImportRelationshipsRequest(relationships=[link]))
        assert not call.done()
        serving.authenticator.expired = True
        async with asyncio.timeout(5):
            ended = await failure(call.read() if method == "LookupResources" else call)
    assert ended[:2] == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_stream_that_ends_by_itself_ends_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_LOOK_SECONDS", 0.01)
    async with served(Servicer(), ROWS) as serving:
        request = pb.LookupResourcesRequest(resource_type="base", permission="read")
        found = [each async for each in serving.stub.LookupResources(request, metadata=serving.as_alice())]
        assert len(found) == 3
