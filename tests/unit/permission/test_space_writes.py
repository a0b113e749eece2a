"""What a write into a model space needs of the database."""

from typing import NoReturn

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission.domain import Operation, SpaceRelationship
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.space_messages import from_schema, from_space
from pyairtable_mesh.permission.spaces import SpaceLoader
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.spaces import Spaces, SpaceUpdate
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument
from tests.unit.permission.conftest import Permissions, caller
from tests.unit.permission.world import ALICE

MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define {relation}: [user]\n"


def _spaces(permissions: Permissions) -> Spaces:
    return Spaces(
        permissions.database,
        Engines(permissions.database, SpaceLoader(permissions.database)),
        permissions.states,
        permissions.acts,
        Authority(NaiveEvaluator(), permissions.engines),
        permissions.tokens,
        permissions.clock,
        permissions.log,
    )


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
    spaces, alice = _spaces(permissions), caller(ALICE)
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
