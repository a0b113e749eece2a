"""The store on both databases: what it reads is what the facts in memory would give."""

import json
import random
from collections.abc import Mapping
from datetime import datetime

import pytest
from sqlalchemy import TextClause, text

from pyairtable_mesh.permission import schema, statements
from pyairtable_mesh.permission.domain import Filter, Relationship, Resource, Role, RoleBinding, ScopeMode, Subject
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.store import Change, View
from pyairtable_mesh.permission.tables import METADATA
from pyairtable_mesh.runtime import ids, migrations
from pyairtable_mesh.runtime.database import Database
from tests.contract.stores.permission.conftest import Clock, caller, link, member
from tests.unit.permission.world import ALICE, BASE, BOB, TABLE, TENANT_ID, WORKSPACE, Facts, hierarchy, members, ref

SUBJECTS = [ALICE, BOB, "user:*", members(1), members(2), members(3)]
RESOURCES = [ref("record"), TABLE, BASE, WORKSPACE, ref("tenant")]


async def test_the_migrations_make_the_tables_that_the_store_uses(database: Database) -> None:
    assert await migrations.differences(database, METADATA) == []


async def test_stored_facts_give_the_answers_of_facts_in_memory(database: Database, clock: Clock) -> None:
    chance = random.Random(3)
    for tenant_number in range(6):
        tenant_id = "ten" + str(tenant_number).zfill(26)
        facts = _random_facts(chance)
        async with database.transaction(caller(ALICE, tenant_id)) as transaction:
            await _store(await Change.begin(transaction.connection, tenant_id, clock.now), facts, clock)
        async with database.read(caller(ALICE, tenant_id)) as connection:
            view = View(connection, tenant_id, clock.now)
            stored = await NaiveEvaluator().answers(view, tenant_id, RESOURCES[:1], SUBJECTS)
        expected = await NaiveEvaluator().answers(facts, tenant_id, RESOURCES[:1], SUBJECTS)
        for subject in SUBJECTS:
            for resource in RESOURCES[:-1]:
                assert stored.effective(subject, resource) == expected.effective(subject, resource)


def _random_facts(chance: random.Random) -> Facts:
    groups = [ref("group", number) for number in (1, 2, 3)]
    pairs = {(chance.choice([each for each in SUBJECTS if each != "user:*"]), chance.choice(groups)) for _ in range(5)}
    facts = Facts(hierarchy(), pairs)
    for subject, resource in {(chance.choice(SUBJECTS), chance.choice(RESOURCES[:-1])) for _ in range(5)}:
        facts.grant(subject, resource, chance.choice(list(schema.SYSTEM_ROLES)))
    facts.modes = {chance.choice(RESOURCES[:3]): chance.choice(list(ScopeMode))}
    return facts


async def _store(change: Change, facts: Facts, clock: Clock) -> None:
    links = [link(child, parent) for child, parent in facts.parents.items()]
    await change.put_relationships([*links, *(member(group, each) for each, group in facts.memberships)], {})
    for grant in facts.bound:
        subject, resource = Subject.parse(grant.subject), Resource.parse(grant.resource)
        binding = RoleBinding(ids.new_id("rbn"), grant.role, resource, subject, ALICE, clock.now)
        await change.put_binding(binding)
    for resource, mode in facts.modes.items():
        await change.set_mode(resource, mode)


async def test_memberships_are_followed_through_no_more_than_the_limit(database: Database, clock: Clock) -> None:
    async with database.transaction(caller(ALICE)) as transaction:
        change = await Change.begin(transaction.connection, TENANT_ID, clock.now)
        chain = [member(ref("group", number + 1), members(number)) for number in range(1, 40)]
        await change.put_relationships([member(ref("group", 1), ALICE), *chain], {})
        assert len((await change.closure([], [ALICE], 10)).memberships) == 10


async def test_relationships_are_listed_in_byte_order_and_paged_by_key(database: Database, clock: Clock) -> None:
    stored = sorted((member(ref("group", 1), ref("user", number)) for number in "09az5"), key=str)
    async with database.transaction(caller(ALICE)) as transaction:
        change = await Change.begin(transaction.connection, TENANT_ID, clock.now)
        await change.put_relationships(random.Random(1).sample(stored, len(stored)), {})
        await change.put_relationships([link(BASE, WORKSPACE)], {})
        wanted = Filter(resource_type="group", subject_type="user")
        assert await change.relationships(wanted, 10) == stored
        last = stored[1]
        key = (str(last.resource), last.relation, str(last.subject))
        assert await change.relationships(wanted, 2, key) == stored[2:4]


@pytest.mark.parametrize("by_dialect", [statements.CLOSURE, statements.HELD], ids=["closure", "held"])
async def test_what_a_check_reads_is_found_by_index(database: Database, by_dialect: Mapping[str, TextClause]) -> None:
    text_of = by_dialect[database.dialect].text
    listed = [ALICE] if database.dialect == "postgresql" else json.dumps([ALICE])
    given = {"resources": listed, "subjects": listed, "tenant": TENANT_ID, "now": _moment(database), "most": 1}
    explain = "EXPLAIN " if database.dialect == "postgresql" else "EXPLAIN QUERY PLAN "
    async with database.read(caller(ALICE)) as connection:
        used = {key: value for key, value in given.items() if f":{key}" in text_of}
        plan = [str(row) for row in (await connection.execute(text(explain + text_of), used)).all()]
    assert not [step for step in plan if "Seq Scan on " in step or "SCAN r'" in step], plan
    assert [step for step in plan if "Index" in step or "INDEX" in step]


def _moment(database: Database) -> datetime | int:
    return Clock()() if database.dialect == "postgresql" else 0


async def test_custom_roles_and_bindings_come_back_as_they_went(database: Database, clock: Clock) -> None:
    role = Role(ids.new_id("rol"), "Räuber", frozenset({"base.read"}), "steals", clock.now, clock.now, ALICE, 1)
    binding = RoleBinding(
        ids.new_id("rbn"), role.id, Resource.parse(BASE), Subject.parse("user:*"), ALICE, clock.now, revision=1
    )
    async with database.transaction(caller(ALICE)) as transaction:
        change = await Change.begin(transaction.connection, TENANT_ID, clock.now)
        await change.put_role(role)
        await change.put_binding(binding)
    async with database.read(caller(ALICE)) as connection:
        view = View(connection, TENANT_ID, clock.now)
        assert await view.role(role.id) == role
        assert await view.role_id_of("  räuber ") == role.id
        assert await view.bindings(10) == [binding]
        (grant,) = (await view.held([BASE], ["user:*"])).grants
        assert grant.permissions == role.permissions
        assert await View(connection, "ten" + "9" * 26, clock.now).bindings(10) == []


async def test_stored_keys_are_exact(database: Database, clock: Clock) -> None:
    there = [member(ref("group", 1), ALICE), member(ref("group", 2), BOB)]
    async with database.transaction(caller(ALICE)) as transaction:
        change = await Change.begin(transaction.connection, TENANT_ID, clock.now)
        await change.put_relationships(there, {})
        crossed: list[Relationship] = [member(ref("group", 1), BOB), member(ref("group", 2), ALICE)]
        assert await change.stored([*there, *crossed]) == set(there)
