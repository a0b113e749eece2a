"""The "new enemy": whoever was turned out must not see what was made after that, asked at a service that has not heard
of it. Services of this harness follow no changelog of their own accord, so the second one is behind by all that the
first one writes; that it is, the answers without a token show.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime.authorization.facts import Relationship
from tests.contract.permission.asking import Asking, Question, Under, message
from tests.contract.permission.conftest import NewSpace
from tests.contract.permission.serving import bearer, served
from tests.unit.permission.world import ALICE, BASE, BOB, TABLE, TENANT, TENANT_ID, WORKSPACE, ref

NEAREST = Under(pb.Consistency(minimize_latency=True))
MODEL = """model
  schema 1.1
type user
type folder
  relations
    define viewer: [user]
type doc
  relations
    define parent: [folder]
    define viewer: viewer from parent
"""


@pytest.fixture
async def behind(database_url: str) -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
    """Another service on the same database."""
    async with databases.opened(database_url, service="permission") as database, served(database) as made:
        yield made


async def _is_denied_with_the_token(behind: Asking, question: Question, token: str) -> None:
    """Neither the check nor any other answer with the token of the new content lets the old friend see it."""
    fresh = Under(pb.Consistency(at_least_as_fresh=token))
    kind, permission, subject = question[0].partition(":")[0], question[1], question[2]
    assert await behind.check(question, fresh) is False
    assert await behind.batch([question], fresh) == [False]
    assert await behind.stream([question], fresh) == [False]
    assert question[0] not in await behind.resources(kind, permission, subject, fresh)
    assert subject not in await behind.subjects(question[0], permission, "user", fresh)
    assert await behind.check(question, Under(pb.Consistency(at_exact_snapshot=token))) is False


async def test_on_the_platform(
    service: permission_pb2_grpc.PermissionServiceStub, behind: permission_pb2_grpc.PermissionServiceStub
) -> None:
    here = Asking(service, bearer(ALICE, TENANT_ID))
    there, owner = replace(here, stub=behind), here.metadata
    first = pb.GrantRoleRequest(role="roles/owner", resource=TENANT, subject=ALICE)
    await service.GrantRole(first, metadata=bearer("tenant"))
    links = [Relationship(BASE, "workspace", WORKSPACE), Relationship(TABLE, "base", BASE)]
    await _stored(here, *links)
    granted = await service.GrantRole(
        pb.GrantRoleRequest(role="roles/viewer", resource=BASE, subject=BOB), metadata=owner
    )
    assert await there.check((TABLE, "read", BOB), Under(pb.Consistency(at_least_as_fresh=granted.consistency_token)))
    await service.RevokeRole(pb.RevokeRoleRequest(name=granted.role_binding.name), metadata=owner)
    secret = ref("record", "s1")
    token = await _stored(here, Relationship(secret, "table", TABLE))
    assert await there.check((TABLE, "read", BOB), NEAREST), "the second service was not behind"
    await _is_denied_with_the_token(there, (secret, "read", BOB), token)
    assert await there.check((TABLE, "read", BOB), NEAREST) is False


async def test_in_a_model_space(new_space: NewSpace, behind: permission_pb2_grpc.PermissionServiceStub) -> None:
    here = await new_space()
    there = replace(here, stub=behind)
    await here.stub.WriteSchema(pb.WriteSchemaRequest(space=here.space, source=MODEL), metadata=here.metadata)
    friend = Relationship("folder:f", "viewer", "user:bob")
    token = await _stored(here, friend, Relationship("doc:old", "parent", "folder:f"))
    assert await there.check(("doc:old", "viewer", "user:bob"), Under(pb.Consistency(at_least_as_fresh=token)))
    gone = pb.DeleteRelationshipsRequest(
        filter={"resource": "folder:f", "relation": "viewer", "subject": "user:bob"}, space=here.space
    )
    await here.stub.DeleteRelationships(gone, metadata=here.metadata)
    token = await _stored(here, Relationship("doc:new", "parent", "folder:f"))
    assert await there.check(("doc:old", "viewer", "user:bob"), NEAREST), "the second service was not behind"
    await _is_denied_with_the_token(there, ("doc:new", "viewer", "user:bob"), token)
    assert await there.check(("doc:old", "viewer", "user:bob"), NEAREST) is False


async def _stored(space: Asking, *relationships: Relationship) -> str:
    touch = pb.RelationshipUpdate.OPERATION_TOUCH
    updates = [pb.RelationshipUpdate(operation=touch, relationship=message(each)) for each in relationships]
    request = pb.WriteRelationshipsRequest(updates=updates, space=space.space)
    return str((await space.stub.WriteRelationships(request, metadata=space.metadata)).consistency_token)
