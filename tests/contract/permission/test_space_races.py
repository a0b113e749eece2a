"""Two processes' worth of the service that change one model space at once: every rule holds afterwards, and both answer
alike.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime.authorization.facts import Change, Relationship
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from tests.contract.permission.asking import Asking, Under, message
from tests.contract.permission.conftest import NewSpace
from tests.contract.permission.serving import reason_of, served

ROUNDS = 6
MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define {relation}: [user]\n"
VIEWER, READER = (MODEL.format(relation=each) for each in ("viewer", "reader"))
CREATE, TOUCH = pb.RelationshipUpdate.OPERATION_CREATE, pb.RelationshipUpdate.OPERATION_TOUCH


@pytest.fixture
async def both(database_url: str, new_space: NewSpace) -> AsyncIterator[list[Asking]]:
    """A space whose documents have viewers, asked at two services on one database."""
    one = await new_space()
    async with databases.opened(database_url, service="permission") as database, served(database) as other:
        await _schema(one, VIEWER)
        yield [one, replace(one, stub=other)]


def _schema(space: Asking, source: str, **more: Any) -> Awaitable[pb.WriteSchemaResponse]:
    request = pb.WriteSchemaRequest(space=space.space, source=source, **more)
    return space.stub.WriteSchema(request, metadata=space.metadata)


def _write(
    space: Asking, *stored: tuple[str, str], operation: Any = TOUCH, **more: Any
) -> Awaitable[pb.WriteRelationshipsResponse]:
    relationships = [message(Relationship(resource, relation, "user:anne")) for resource, relation in stored]
    updates = [pb.RelationshipUpdate(operation=operation, relationship=each) for each in relationships]
    request = pb.WriteRelationshipsRequest(updates=updates, space=space.space, **more)
    return space.stub.WriteRelationships(request, metadata=space.metadata)


async def _outcomes(*acts: Awaitable[Any]) -> list[str]:
    """The reason of each refusal, in the order of the acts; empty for what was done."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException) and not isinstance(each, grpc.aio.AioRpcError):
            raise each
    return [reason_of(each) if isinstance(each, grpc.aio.AioRpcError) else "" for each in results]


async def test_no_relationship_is_ever_stored_that_the_schema_does_not_admit(both: list[Asking]) -> None:
    one, two = both
    seen = set[tuple[str, ...]]()
    for number in range(ROUNDS):
        schemas, writes = (two, one) if number % 2 else (one, two)
        outcome = await _outcomes(
            _schema(schemas, READER),
            _write(writes, (f"doc:{number}", "viewer")),
            _schema(writes, VIEWER),
            _write(schemas, (f"doc:{number}", "reader")),
        )
        assert set(outcome) <= {"", "SCHEMA_ORPHANS_RELATIONSHIPS", "UNKNOWN_RELATION"}, outcome
        seen.add(tuple(outcome))
        current = await one.stub.GetSchema(pb.GetSchemaRequest(space=one.space), metadata=one.metadata)
        stored = await one.exported(Under())
        RelationEngine(parse(current.source)).validate(
            [Change(Relationship(each.resource, each.relation, each.subject)) for each in stored]
        )
        questions = [(each.resource, each.relation, each.subject) for each in stored]
        for each in both if questions else []:
            assert all(await each.batch(questions, Under()))
        wanted = pb.DeleteRelationshipsRequest(filter={"resource_type": "doc"}, space=one.space)
        await one.stub.DeleteRelationships(wanted, metadata=one.metadata)
    assert any("UNKNOWN_RELATION" in each for each in seen)


async def test_of_two_schemas_for_one_predecessor_one_is_stored(both: list[Asking]) -> None:
    one, two = both
    for _ in range(ROUNDS):
        before = await one.stub.GetSchema(pb.GetSchemaRequest(space=one.space), metadata=one.metadata)
        outcome = await _outcomes(
            _schema(one, READER, expected_current=before.name), _schema(two, VIEWER, expected_current=before.name)
        )
        assert sorted(outcome) == ["", "ETAG_MISMATCH"]
        after = await two.stub.GetSchema(pb.GetSchemaRequest(space=one.space), metadata=two.metadata)
        assert after.source == (VIEWER if outcome[0] else READER)


async def test_of_two_writes_under_one_precondition_one_is_applied_whole(both: list[Asking]) -> None:
    one, two = both
    for number in range(ROUNDS):
        free = pb.Precondition(
            operation=pb.Precondition.OPERATION_MUST_NOT_MATCH, filter={"resource": f"doc:lock-{number}"}
        )
        outcome = await _outcomes(
            *(
                _write(
                    each,
                    (f"doc:lock-{number}", "viewer"),
                    (f"doc:{name}-{number}", "viewer"),
                    preconditions=[free],
                )
                for each, name in ((one, "a"), (two, "b"))
            )
        )
        assert sorted(outcome) == ["", "PRECONDITION_FAILED"]
        applied = [not each for each in outcome]
        questions = [(f"doc:{name}-{number}", "viewer", "user:anne") for name in "ab"]
        assert await one.batch(questions, Under()) == await two.batch(questions, Under()) == applied


async def test_of_two_that_create_the_same_one_is_told_that_it_is_there(both: list[Asking]) -> None:
    one, two = both
    for number in range(ROUNDS):
        created = (f"doc:{number}", "viewer")
        outcome = await _outcomes(_write(one, created, operation=CREATE), _write(two, created, operation=CREATE))
        assert sorted(outcome) == ["", "RELATIONSHIP_EXISTS"]


async def test_a_repeated_write_happens_once_wherever_it_arrives(both: list[Asking]) -> None:
    one, two = both
    for number in range(ROUNDS):
        before = await _revision(one)
        same, created = str(uuid.uuid4()), (f"doc:{number}", "viewer")
        answers = await asyncio.gather(
            *(_write(each, created, operation=CREATE, request_id=same) for each in (one, two, one))
        )
        assert len({each.consistency_token for each in answers}) == 1
        assert await _revision(two) == before + 1
    same = str(uuid.uuid4())
    versions = await asyncio.gather(*(_schema(each, VIEWER, request_id=same) for each in both))
    assert len({each.schema.name for each in versions}) == 1


async def test_a_repeated_deletion_tells_both_times_what_it_deleted(both: list[Asking]) -> None:
    one = both[0]
    for _ in range(ROUNDS):
        await _write(one, ("doc:a", "viewer"), ("doc:b", "viewer"))
        request = pb.DeleteRelationshipsRequest(
            filter={"resource_type": "doc"}, space=one.space, request_id=str(uuid.uuid4())
        )
        answers = await asyncio.gather(
            *(each.stub.DeleteRelationships(request, metadata=each.metadata) for each in both)
        )
        assert [each.deleted_count for each in answers] == [2, 2]


async def test_of_two_spaces_of_one_name_one_is_made(both: list[Asking]) -> None:
    one, two = both
    for number in range(ROUNDS):
        request = pb.CreateModelSpaceRequest(model_space={"display_name": f"Space {number}"})
        outcome = await _outcomes(*(each.stub.CreateModelSpace(request, metadata=each.metadata) for each in (one, two)))
        assert sorted(outcome) == ["", "ALREADY_EXISTS"]


async def _revision(space: Asking) -> int:
    found = await space.stub.GetModelSpace(pb.GetModelSpaceRequest(name=space.space), metadata=space.metadata)
    return int(found.etag, 16)
