"""AuditService as a client sees it: over gRPC, behind the whole stack, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc, events_pb2
from pyairtable_mesh.audit import app
from pyairtable_mesh.audit.servicer import ACCESS, AuditServicer
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime import interceptors, registration, telemetry
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.pagination import Sealer
from pyairtable_mesh.runtime.server import bind, new_server
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.validation import SchemaValidator
from tests.contract import repeating
from tests.contract.runtime.serving import ALICE, TENANT, FakeAuthenticator, FakeAuthorizer

SERVICE = "pyairtable.common.v1.AuditService"
OTHER = "ten" + "9" * 26
WORKLOAD = (("authorization", "Bearer workload:permission"),)
AUDITOR = (("authorization", "Bearer alice"),)
LIMIT_SECONDS = 5.0


@dataclass
class Served:
    stub: audit_pb2_grpc.AuditServiceStub
    authorizer: FakeAuthorizer

    async def write(self, *events: audit_pb2.AuditEvent) -> list[audit_pb2.WriteAuditEventResult]:
        request = audit_pb2.WriteAuditEventsRequest(events=events)
        return list((await self.stub.WriteAuditEvents(request, metadata=WORKLOAD)).results)

    async def list(self, **fields: Any) -> audit_pb2.ListAuditEventsResponse:
        return await self.stub.ListAuditEvents(audit_pb2.ListAuditEventsRequest(**fields), metadata=AUDITOR)

    async def verify(self, **fields: Any) -> audit_pb2.VerifyAuditLogResponse:
        return await self.stub.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest(**fields), metadata=AUDITOR)


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.audit.migrations"


@pytest.fixture
async def audit(database: Database) -> AsyncIterator[Served]:
    settings = Settings()
    observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=1)
    authorizer, validator = FakeAuthorizer({(f"tenant:{TENANT}", "read_audit")}), SchemaValidator()
    stack = interceptors.stack(settings, observer, FakeAuthenticator(), authorizer, validator)  # type: ignore[arg-type]
    servicer = AuditServicer(AuditLog(database, Store(), authorizer), Sealer(bytes(32)), validator)
    server = new_server(settings.max_message_bytes)
    registrations = [(audit_pb2_grpc.add_AuditServiceServicer_to_server, servicer)]
    registration.register(server, registrations, {SERVICE: ACCESS}, stack)
    port = bind(server, "127.0.0.1", 0, "PORT")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(audit_pb2_grpc.AuditServiceStub(channel), authorizer)
    await server.stop(0)
    observer.close()


def event(number: int, tenant_id: str = TENANT, **more: Any) -> audit_pb2.AuditEvent:
    values = {
        "event_id": f"evt{number:026}",
        "tenant": f"tenants/{tenant_id}",
        "event_time": Timestamp(seconds=1_795_000_000 + number),
        "actor": audit_pb2.AuditActor(subject=f"user:{ALICE}"),
        "action": "pyairtable.permission.v1.PermissionService/GrantRole",
        "resource": "base:app" + "1" * 26,
        "outcome": audit_pb2.AUDIT_OUTCOME_SUCCEEDED,
        "authorization": audit_pb2.AuthorizationDecision(
            permission="base.manage_access", answer=audit_pb2.AUTHORIZATION_ANSWER_ALLOWED
        ),
        "details": {"role": "roles/owner"},
        "personal_data": audit_pb2.AuditPersonalData(email="ada@example.com"),
    }
    return audit_pb2.AuditEvent(**{**values, **more})


async def following(call: Any) -> audit_pb2.TailAuditEventsResponse:
    response = await call.read()
    assert isinstance(response, audit_pb2.TailAuditEventsResponse)
    return response


def reason_of(error: grpc.aio.AioRpcError) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_an_event_comes_back_as_it_was_written_with_its_place_in_the_chain(audit: Served) -> None:
    (result,) = await audit.write(event(1))
    (stored,) = (await audit.list()).audit_events
    assert (stored.name, stored.sequence, stored.hash) == (result.position.name, 1, result.position.hash)
    assert stored.previous_hash == bytes(32)
    assert len(stored.personal_data_digest) == 32
    for given in ("name", "sequence", "hash", "previous_hash", "personal_data_digest"):
        stored.ClearField(given)
    assert stored == event(1)


async def test_a_bad_event_fails_alone_and_says_which_field(audit: Served) -> None:
    late = event(4, event_time=Timestamp(seconds=1 << 60))
    results = await audit.write(event(1), event(2, action="nonsense"), event(1), event(3), late)
    assert [result.position.sequence for result in results] == [1, 0, 1, 2, 0]
    for index, field in ((1, "events[1].action"), (4, "events[4].event_time")):
        assert results[index].error.code == code_pb2.INVALID_ARGUMENT
        details = error_details_pb2.BadRequest()
        assert results[index].error.details[1].Unpack(details)
        assert [violation.field for violation in details.field_violations] == [field]


async def test_only_workloads_write_and_only_auditors_read(audit: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await audit.stub.WriteAuditEvents(audit_pb2.WriteAuditEventsRequest(events=[event(1)]), metadata=AUDITOR)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    audit.authorizer.allowed.clear()
    for call in (audit.list, audit.verify):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call()
        assert refused.value.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}


async def test_a_tenant_sees_its_own_log_only(audit: Served) -> None:
    await audit.write(event(1), event(2, OTHER))
    assert [stored.event_id for stored in (await audit.list()).audit_events] == [event(1).event_id]
    assert (await audit.verify()).verified_count == 1


async def test_pages_are_newest_first_and_complete(audit: Served) -> None:
    await audit.write(*(event(number) for number in range(1, 6)))
    seen, token = [], ""
    while True:
        page = await audit.list(page_size=2, page_token=token)
        seen += [stored.sequence for stored in page.audit_events]
        token = page.next_page_token
        if not token:
            break
    assert seen == [5, 4, 3, 2, 1]
    first = await audit.list(page_size=2, order_by="sequence", filter='actor.subject != "user:nobody"')
    assert [stored.sequence for stored in first.audit_events] == [1, 2]


async def test_a_page_of_large_events_fits_into_a_message(audit: Served) -> None:
    details = {f"key{number}": "x" * 1024 for number in range(32)}
    for start in (0, 60):
        await audit.write(*(event(start + number, details=details) for number in range(60)))
    seen, token = 0, ""
    while True:
        page = await audit.list(page_size=1000, page_token=token)
        seen, token = seen + len(page.audit_events), page.next_page_token
        if not token:
            break
        assert page.ByteSize() < 3 << 20
    assert seen == 120


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_token": "forged"}, "PAGE_TOKEN_INVALID"),
        ({"filter": "nonsense"}, "FILTER_INVALID"),
        ({"filter": "outcome = PERHAPS"}, "FILTER_INVALID"),
        ({"filter": 'event_time > "yesterday"'}, "FILTER_INVALID"),
        ({"filter": 'action = "\0"'}, "FILTER_INVALID"),
        ({"page_size": -1}, "VALIDATION_FAILED"),
        ({"order_by": "hash"}, "VALIDATION_FAILED"),
    ],
    ids=str,
)
async def test_what_bad_requests_get(audit: Served, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await audit.list(**fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == reason


async def test_a_tail_resumes_from_its_cursor(audit: Served) -> None:
    await audit.write(event(1), event(2))
    request = audit_pb2.TailAuditEventsRequest(heartbeat_interval=Duration(seconds=1))
    async with asyncio.timeout(LIMIT_SECONDS):
        tail = audit.stub.TailAuditEvents(request, metadata=AUDITOR)
        first = await following(tail)
        assert [stored.sequence for stored in first.audit_events] == [1, 2]
        await audit.write(event(3))
        assert [stored.sequence for stored in (await following(tail)).audit_events] == [3]
        tail.cancel()
        again = audit.stub.TailAuditEvents(audit_pb2.TailAuditEventsRequest(cursor=first.cursor), metadata=AUDITOR)
        assert [stored.sequence for stored in (await following(again)).audit_events] == [3]
        again.cancel()


async def test_a_tail_can_begin_with_now(audit: Served) -> None:
    await audit.write(event(1))
    request = audit_pb2.TailAuditEventsRequest(start_position=events_pb2.START_POSITION_LATEST)
    async with asyncio.timeout(LIMIT_SECONDS):
        tail = audit.stub.TailAuditEvents(request, metadata=AUDITOR)
        assert not (await following(tail)).audit_events
        await audit.write(event(2))
        assert [stored.sequence for stored in (await following(tail)).audit_events] == [2]
        tail.cancel()


async def test_a_forged_cursor_is_refused(audit: Served) -> None:
    tail = audit.stub.TailAuditEvents(audit_pb2.TailAuditEventsRequest(cursor="forged"), metadata=AUDITOR)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await following(tail)
    assert reason_of(refused.value) == "CURSOR_INVALID"


async def test_a_verified_chain_names_its_head_and_knows_it_again(audit: Served) -> None:
    await audit.write(event(1), event(2))
    report = await audit.verify()
    assert (report.valid, report.verified_count, report.head.sequence) == (True, 2, 2)
    await audit.write(event(3))
    assert (await audit.verify(known_positions=[report.head])).valid
    other = audit_pb2.AuditChainPosition(name=report.head.name, sequence=2, hash=bytes(32))
    broken = await audit.verify(known_positions=[report.head, other])
    assert (broken.valid, broken.broken_sequence, broken.broken_reason) == (
        False,
        2,
        "the event is not the one that was noted",
    )


def test_no_rpc_has_a_request_id() -> None:
    assert repeating.identified(app.service) == set()  # one that does needs an example, as in permission and user
