"""PostgreSQL's second wall between tenants, in every service: on, forced, and binding the services' own user."""

import pytest
from sqlalchemy import text

from pyairtable_mesh.runtime import database as databases
from tests.databases import PostgresServer, caller

pytestmark = pytest.mark.postgresql
SERVICES: dict[str, set[str]] = {"permission": {"claim"}, "user": set(), "audit": set()}
"""Services, with tables of theirs that have no tenant."""
TABLES = text(
    "SELECT c.relname, a.attname IS NOT NULL AS of_tenants,"
    " c.relrowsecurity AND c.relforcerowsecurity"
    " AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polqual IS NOT NULL"
    "             AND p.polwithcheck IS NOT NULL) AS walled"
    " FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
    " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace"
)
GLOBAL = {"consumers", "consumed_events", "runtime_values", "runtime_version", "service_version"}
"""Those of the runtime, by name (design.md)."""


@pytest.mark.parametrize("service", SERVICES)
async def test_every_table_with_a_tenant_is_walled(postgres_server: PostgresServer, service: str) -> None:
    name = await postgres_server.create(f"pyairtable_mesh.{service}.migrations")
    async with databases.opened(postgres_server.url(name), service=service) as database:
        assert not await database.above_row_security()
        async with database.read(caller("ten1")) as connection:
            tables = (await connection.execute(TABLES)).all()
    assert {table.relname for table in tables if table.of_tenants and not table.walled} == set()
    assert {table.relname for table in tables if not table.of_tenants} == GLOBAL | SERVICES[service]
    await postgres_server.drop(name)
