"""A permission service for each test, on both databases, whose clock stands still where a test asks for that."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.ids import new_id
from tests.contract.permission.asking import Asking
from tests.contract.permission.serving import bearer, served
from tests.databases import Clock
from tests.unit.permission.world import ALICE

NewSpace = Callable[[], Awaitable[Asking]]


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.permission.migrations"


@pytest.fixture
async def service(database: Database, clock: Clock) -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
    """The service without a tenant, on the clock of its database."""
    async with served(database, clock=clock) as made:
        yield made


@pytest.fixture
def new_space(service: permission_pb2_grpc.PermissionServiceStub) -> NewSpace:
    """Makes a model space of a new tenant, asked as the tenant's owner."""

    async def make() -> Asking:
        tenant = new_id("ten")
        first = pb.GrantRoleRequest(role="roles/owner", resource=f"tenant:{tenant}", subject=ALICE)
        await service.GrantRole(first, metadata=bearer("tenant"))
        owner = bearer(ALICE, tenant)
        request = pb.CreateModelSpaceRequest(model_space={"display_name": "Documents"})
        made = await service.CreateModelSpace(request, metadata=owner)
        return Asking(service, owner, made.name)

    return make
