"""Whatever changes permissions is done once for one request id."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission.app import service as permission
from pyairtable_mesh.runtime.database import Database
from tests.contract import repeating
from tests.contract.permission.requests import (
    ELSEWHERE,
    GROUP,
    OWNER,
    TENANT_SERVICE,
    VIEWER,
    Stub,
    grant,
    update,
    write,
)
from tests.contract.permission.serving import Metadata, served
from tests.contract.repeating import Repeated, State
from tests.databases import Clock
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL

CODE = "0" * 32
MODEL = """model
  schema 1.1
type user
type doc
  relations
    define owner: [user]
"""


@dataclass(frozen=True)
class Place:
    """A tenant of Alice, with a base that Bob views and a model space; and the code for another tenant's owner."""

    stub: Stub
    database: Database
    code: Path
    space: str

    async def ask(self, request: Message, metadata: Metadata = OWNER) -> Any:
        return await repeating.ask(self.stub, request, metadata)

    async def seen(self) -> State:
        return await repeating.stored(self.database)

    def repeated(self, request: Message, *then: Message, metadata: Metadata = OWNER, **other: Any) -> Repeated:
        """What is asked more than once, with what the owner asks in between."""

        async def move(_answer: Any) -> None:
            for each in then:
                await self.ask(each)

        return Repeated(request, other, metadata, move)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "code"
    file.write_text(CODE)
    return file


@pytest.fixture
async def service(database: Database, clock: Clock, code: Path) -> AsyncIterator[Stub]:
    async with served(database, str(code), clock) as made:
        yield made


@pytest.fixture
async def place(stub: Stub, database: Database, code: Path) -> Place:
    space = await stub.CreateModelSpace(
        pb.CreateModelSpaceRequest(model_space={"display_name": "Documents"}), metadata=OWNER
    )
    await stub.WriteSchema(pb.WriteSchemaRequest(space=space.name, source=MODEL), metadata=OWNER)
    return Place(stub, database, code, space.name)


def _delete(resource: str, space: str = "") -> pb.DeleteRelationshipsRequest:
    return pb.DeleteRelationshipsRequest(filter=pb.RelationshipFilter(resource=resource), space=space)


async def _write(place: Place) -> Repeated:
    joined, another = update(GROUP, "member", CAROL), update(GROUP, "member", BOB)
    return place.repeated(write(joined), _delete(GROUP), updates=[another])


async def _write_in_a_space(place: Place) -> Repeated:
    owned, another = update("doc:1", "owner", CAROL), update("doc:2", "owner", CAROL)
    return place.repeated(write(owned, space=place.space), _delete("doc:1", place.space), updates=[another])


async def _delete_what_comes_again(place: Place) -> Repeated:
    joining = write(update(GROUP, "member", CAROL))
    await place.ask(joining)
    return place.repeated(_delete(GROUP), joining, filter={"relation": "member"})


async def _delete_in_a_space(place: Place) -> Repeated:
    owning = write(update("doc:1", "owner", CAROL), space=place.space)
    await place.ask(owning)
    return place.repeated(_delete("doc:1", place.space), owning, filter={"relation": "owner"})


async def _grant(place: Place) -> Repeated:
    async def revoked(answer: pb.GrantRoleResponse) -> None:
        await place.ask(pb.RevokeRoleRequest(name=answer.role_binding.name))

    return Repeated(grant("roles/editor", BASE, CAROL), {"subject": BOB}, OWNER, revoked)


async def _grant_to_a_first_owner(place: Place) -> Repeated:
    first = grant("roles/owner", "tenant:ten" + "3" * 26, ALICE)
    return place.repeated(first, metadata=TENANT_SERVICE, subject=BOB)


def _claim(then: Callable[[], Any], metadata: Metadata = ELSEWHERE) -> Repeated:
    async def move(_answer: Any) -> None:
        then()

    return Repeated(pb.ClaimOwnershipRequest(code=CODE), {"code": "1" * 32}, metadata, move)


async def _claim_before_another_code(place: Place) -> Repeated:
    return _claim(lambda: place.code.write_text("2" * 32))


async def _claim_before_the_code_goes(place: Place) -> Repeated:
    return _claim(place.code.unlink)


async def _claim_what_is_owned(place: Place) -> Repeated:
    return _claim(place.code.unlink, OWNER)


async def _bobs(place: Place) -> pb.RoleBinding:
    listed = await place.ask(pb.ListRoleBindingsRequest(resource=BASE))
    return next(each for each in listed.role_bindings if each.subject == BOB)


async def _revoke(place: Place) -> Repeated:
    return place.repeated(
        pb.RevokeRoleRequest(name=(await _bobs(place)).name), grant("roles/viewer", BASE, BOB), etag="other"
    )


async def _leave(place: Place) -> Repeated:
    binding = await _bobs(place)
    return place.repeated(pb.RevokeRoleRequest(name=binding.name), metadata=VIEWER, etag=binding.etag)


def _draft() -> pb.CreateRoleRequest:
    return pb.CreateRoleRequest(role=pb.Role(display_name="Reader", permissions=["base.read"]))


async def _create_role(place: Place) -> Repeated:
    async def deleted(answer: pb.Role) -> None:
        await place.ask(pb.DeleteRoleRequest(name=answer.name))

    return Repeated(_draft(), {"role": pb.Role(description="reads")}, OWNER, deleted)


async def _update_role(place: Place) -> Repeated:
    name = (await place.ask(_draft())).name
    first, second = [pb.UpdateRoleRequest(role=pb.Role(name=name, description=each)) for each in ("reads", "looks")]
    return place.repeated(first, second, role=pb.Role(display_name="Looker"))


async def _delete_role(place: Place) -> Repeated:
    role = await place.ask(_draft())
    return place.repeated(pb.DeleteRoleRequest(name=role.name), _draft(), etag=role.etag)


async def _set_inheritance(place: Place) -> Repeated:
    first, second = [
        pb.SetInheritanceRequest(resource=BASE, mode=mode) for mode in (pb.SCOPE_MODE_OVERRIDE, pb.SCOPE_MODE_INHERIT)
    ]
    return place.repeated(first, second, mode=pb.SCOPE_MODE_RESTRICT)


async def _create_space(place: Place) -> Repeated:
    request = pb.CreateModelSpaceRequest(model_space={"display_name": "Pictures"})
    return place.repeated(request, model_space={"display_name": "Songs"})


async def _write_schema(place: Place) -> Repeated:
    first, second = [
        pb.WriteSchemaRequest(space=place.space, source=f"{MODEL}    define {relation}: owner\n")
        for relation in ("editor", "viewer")
    ]
    return place.repeated(first, second, source=MODEL)


EXAMPLES: dict[str, Callable[[Place], Awaitable[Repeated]]] = {
    "WriteRelationships": _write,
    "WriteRelationships, in a space": _write_in_a_space,
    "DeleteRelationships": _delete_what_comes_again,
    "DeleteRelationships, in a space": _delete_in_a_space,
    "GrantRole": _grant,
    "GrantRole, to a first owner": _grant_to_a_first_owner,
    "ClaimOwnership": _claim_before_another_code,
    "ClaimOwnership, whose code goes": _claim_before_the_code_goes,
    "ClaimOwnership, of what is owned": _claim_what_is_owned,
    "RevokeRole": _revoke,
    "RevokeRole, of what the caller has": _leave,
    "CreateRole": _create_role,
    "UpdateRole": _update_role,
    "DeleteRole": _delete_role,
    "SetInheritance": _set_inheritance,
    "CreateModelSpace": _create_space,
    "WriteSchema": _write_schema,
}


def test_each_rpc_with_a_request_id_has_an_example() -> None:
    assert repeating.exampled(EXAMPLES) == repeating.identified(permission)


@repeating.on_sqlite
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
async def test_a_repetition_gets_the_first_answer_and_changes_nothing(
    place: Place, example: Callable[[Place], Awaitable[Repeated]]
) -> None:
    await repeating.require_idempotent(place.stub, await example(place), place.seen)
