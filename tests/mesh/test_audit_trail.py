"""What the running platform writes into its audit log, and that killing the log's process loses nothing of it."""

import asyncio
import os
import signal
import uuid

import grpc
import pytest

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from tests.mesh.platform import Platform

LIMIT_SECONDS = 60.0
CREATE_USER = "pyairtable.user.v1.UserService/CreateUser"


async def _create_user(platform: Platform) -> str:
    user = user_pb2.User(display_name="Dora Diaz", email=f"dora-{uuid.uuid4().hex}@example.com")
    async with platform.channel("user") as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        request = user_pb2.CreateUserRequest(user=user)
        created = await stub.CreateUser(request, metadata=platform.metadata("alice"), timeout=10)
    return str(created.name)


async def _audited(platform: Platform, names: list[str]) -> list[audit_pb2.AuditEvent]:
    """The events about the creation of users, once all of them are in the log."""
    resources = [f"user:{name.removeprefix('users/')}" for name in names]
    where = f'action = "{CREATE_USER}" AND (' + " OR ".join(f'resource = "{each}"' for each in resources) + ")"
    found: list[audit_pb2.AuditEvent] = []
    try:
        async with asyncio.timeout(LIMIT_SECONDS), platform.channel("audit") as channel:
            request = audit_pb2.TailAuditEventsRequest(filter=where)
            tail = audit_pb2_grpc.AuditServiceStub(channel).TailAuditEvents(
                request, metadata=platform.metadata("alice"), wait_for_ready=True
            )
            async for response in tail:
                found.extend(response.audit_events)
                if len(found) >= len(resources):
                    break
    except TimeoutError:
        raise AssertionError(f"{len(resources)} creations were not in the log in {LIMIT_SECONDS} s: {found}") from None
    assert [event.resource for event in found] == resources
    return found


async def _verified(platform: Platform) -> audit_pb2.VerifyAuditLogResponse:
    async with platform.channel("audit") as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        request = audit_pb2.VerifyAuditLogRequest()
        return await stub.VerifyAuditLog(request, metadata=platform.metadata("alice"), timeout=10)


async def test_an_administrative_act_comes_into_the_log_with_who_did_it(platform: Platform) -> None:
    (event,) = await _audited(platform, [await _create_user(platform)])
    assert event.actor.subject.startswith("user:usr")
    assert event.outcome == audit_pb2.AUDIT_OUTCOME_SUCCEEDED
    assert (await _verified(platform)).valid


async def test_only_who_may_read_the_log_does(platform: Platform) -> None:
    async with platform.channel("audit") as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListAuditEvents(
                audit_pb2.ListAuditEventsRequest(), metadata=platform.metadata("carol"), timeout=10
            )
    assert refused.value.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}


async def test_killing_the_log_loses_and_repeats_nothing(platform: Platform) -> None:
    names = [await _create_user(platform)]
    for _ in range(2):
        told = len(platform.events)
        os.kill(platform.pid("audit"), signal.SIGKILL)
        names.append(await _create_user(platform))
        await platform.event("serving", "audit", told)
        names.append(await _create_user(platform))
    await _audited(platform, names)
    report = await _verified(platform)
    assert (report.valid, report.broken_reason) == (True, "")
