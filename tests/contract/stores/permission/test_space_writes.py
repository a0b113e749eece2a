"""What a write into a model space needs of the database."""

from typing import NoReturn

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission.domain import Operation, SpaceRelationship
from pyairtable_mesh.permission.space_messages import from_schema, from_space
from pyairtable_mesh.permission.usecases.spaces import Spaces, SpaceUpdate
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import FailedPrecondition, InvalidArgument
from tests.contract.stores.permission.conftest import Permissions, caller, in_spaces
from tests.unit.permission.world import ALICE

MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define {relation}: [user]\n"


def _no_second_connection(_: RequestContext) -> NoReturn:
    raise AssertionError("a second connection of the pool")


async def _write(spaces: Spaces, space: str, operation: Operation, relation: str) -> None:
    update = SpaceUpdate(operation, SpaceRelationship("doc:a", relation, "user:anne"))
    await spaces.write(
        caller(ALICE), space, [update], [], lambda token: pb.WriteRelationshipsResponse(consistency_token=token)
    )


async def test_a_write_needs_one_connection_and_holds_what_it_stores_against_the_newest_schema(
    permissions: Permissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spaces, _), alice = in_spaces(permissions), caller(ALICE)
    space = (await spaces.create(alice, "Documents", from_space)).name.removeprefix("modelSpaces/")
    monkeypatch.setattr(permissions.database, "read", _no_second_connection)
    version = ""
    for relation, other in (("viewer", "reader"), ("reader", "viewer")):
        source = MODEL.format(relation=relation)
        version = (await spaces.write_schema(alice, space, source, version, lambda made, _: from_schema(made))).name
        with pytest.raises(InvalidArgument):
            await _write(spaces, space, Operation.TOUCH, other)
        await _write(spaces, space, Operation.TOUCH, relation)
        await _write(spaces, space, Operation.DELETE, relation)


async def test_a_schema_is_refused_with_the_number_of_its_orphans_and_the_first_of_them(
    permissions: Permissions,
) -> None:
    (spaces, _), alice = in_spaces(permissions), caller(ALICE)
    space = (await spaces.create(alice, "Documents", from_space)).name.removeprefix("modelSpaces/")
    source = MODEL.format(relation="viewer")
    await spaces.write_schema(alice, space, source, "", lambda made, _: from_schema(made))
    stored = [SpaceRelationship(f"doc:{number:03}", "viewer", "user:anne") for number in range(30)]
    await spaces.add(alice, space, stored)
    other = MODEL.format(relation="reader")
    with pytest.raises(FailedPrecondition) as refused:
        await spaces.write_schema(alice, space, other, "", lambda made, _: from_schema(made))
    assert refused.value.metadata == {"relationships": "30", "shown": "20"}
    assert {each.subject for each in refused.value.violations} <= set(map(str, stored))
    assert len(refused.value.violations) == 20
