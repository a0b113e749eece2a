"""A permission service for each test, on both databases, whose clock stands still where a test asks for that."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.ids import new_id
from tests.contract.permission.asking import Asking
from tests.contract.permission.requests import FIELD, OWNER, TENANT_SERVICE, Stub, grant, update, write
from tests.contract.permission.serving import bearer, served
from tests.databases import Clock
from tests.unit.permission.world import ALICE, BASE, BOB, TABLE, TENANT, WORKSPACE

NewSpace = Callable[[], Awaitable[Asking]]


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.permission.migrations"


@pytest.fixture
async def service(database: Database, clock: Clock) -> AsyncIterator[Stub]:
    """The service without a tenant, on the clock of its database."""
    async with served(database, clock=clock) as made:
        yield made


@pytest.fixture
async def stub(service: Stub) -> Stub:
    """Alice owns the tenant, Bob views the base; a table with a field is in the base."""
    await service.GrantRole(grant("roles/owner", TENANT, ALICE), metadata=TENANT_SERVICE)
    links = [update(BASE, "workspace", WORKSPACE), update(TABLE, "base", BASE), update(FIELD, "table", TABLE)]
    await service.WriteRelationships(write(*links), metadata=OWNER)
    await service.GrantRole(grant("roles/viewer", BASE, BOB), metadata=OWNER)
    return service


@pytest.fixture
def new_space(service: Stub) -> NewSpace:
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
