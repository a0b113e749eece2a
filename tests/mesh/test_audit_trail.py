"""What the running platform writes into its audit log, and that killing the log's process loses nothing of it."""

import asyncio
import os
import signal
import uuid

import grpc
import pytest

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import people
from tests.mesh.platform import Platform

LIMIT_SECONDS = 60.0
DENIED = 250
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


async def _ask_in_vain(platform: Platform, correlation_id: str) -> None:
    """A batch of `DENIED` questions of one who may nothing."""
    item = permission_pb2.CheckItem(resource=people.TABLE, permission="delete")
    request = permission_pb2.BatchCheckPermissionsRequest(items=[item] * DENIED)
    metadata = [*platform.metadata("carol"), ("x-correlation-id", correlation_id)]
    async with platform.channel("permission") as channel:
        stub = permission_pb2_grpc.PermissionServiceStub(channel)
        answer = await stub.BatchCheckPermissions(request, metadata=metadata, timeout=10)
    assert {each.decision.result for each in answer.results} == {permission_pb2.Decision.RESULT_DENIED}


async def _denials(platform: Platform, correlation_id: str) -> list[audit_pb2.AuditEvent]:
    """Those of one batch, once all of them are in the log."""
    found: list[audit_pb2.AuditEvent] = []
    async with asyncio.timeout(LIMIT_SECONDS), platform.channel("audit") as channel:
        request = audit_pb2.TailAuditEventsRequest(filter=f'correlation_id = "{correlation_id}"')
        tail = audit_pb2_grpc.AuditServiceStub(channel).TailAuditEvents(
            request, metadata=platform.metadata("alice"), wait_for_ready=True
        )
        async for response in tail:
            found.extend(response.audit_events)
            if len(found) >= DENIED:
                break
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


async def test_killing_the_log_loses_and_repeats_no_decision_of_a_batch(platform: Platform) -> None:
    asked = [uuid.uuid4().hex for _ in range(3)]
    await _ask_in_vain(platform, asked[0])
    for correlation_id in asked[1:]:
        told = len(platform.events)
        await _ask_in_vain(platform, correlation_id)
        os.kill(platform.pid("audit"), signal.SIGKILL)
        await platform.event("serving", "audit", told)
    found = [event for correlation_id in asked for event in await _denials(platform, correlation_id)]
    assert len({event.event_id for event in found}) == len(found) == 3 * DENIED
    assert {(event.outcome, event.authorization.permission) for event in found} == {
        (audit_pb2.AUDIT_OUTCOME_DENIED, "table.delete")
    }
    assert (await _verified(platform)).valid
