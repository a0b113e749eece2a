"""The store, on SQLite and on PostgreSQL, against the plain one of `people`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from pyairtable_mesh.runtime import migrations, outbox
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.filters import All, Filter, parse
from pyairtable_mesh.user import filters, search
from pyairtable_mesh.user.domain import Group, Key, Preferences, Settings, Status, Stored, User
from pyairtable_mesh.user.store import DatabaseStore
from pyairtable_mesh.user.tables import METADATA
from pyairtable_mesh.user.usecases.changes import Store
from tests.unit.user.people import EPOCH, OTHER_TENANT, FakeStore, caller, identifier, kept_for, person, team

PEOPLE = [
    person(1, "Ada Lovelace", email="ada@example.com", status=Status.ACTIVE, email_verified=True),
    person(2, "Åsa Öberg", email="asa@example.org", status=Status.SUSPENDED),
    person(3, "ada lovelace", email="countess@example.com"),
    person(4, "Zoë 100%_sure", email="zoe@example.com", status=Status.ACTIVE, delete_time=EPOCH),
    person(5, "Bob \\ 'O\"Neil", email="bob@example.net", update_time=EPOCH + timedelta(days=3)),
    person(6, "", email="x@example.net"),
    person(7, "北京 小明", email="ming@example.org", status=Status.DEACTIVATED),
]
TEAMS = [team(1, "Engines"), team(2, "Poetry"), team(3, "engines")]


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.user.migrations"


@pytest.fixture
def store(database: Database) -> DatabaseStore:
    return DatabaseStore(database)


async def put(store: DatabaseStore, *resources: Stored, who: RequestContext | None = None) -> None:
    async with store.change(who or caller()) as change:
        for resource in resources:
            await change.put(resource)


async def test_the_migrations_make_the_tables_that_the_store_has_in_mind(database: Database) -> None:
    assert await migrations.differences(database, METADATA) == []


@pytest.mark.parametrize("user", PEOPLE)
async def test_what_is_put_is_found(store: DatabaseStore, user: User) -> None:
    preferences, settings = kept_for(user)
    preferences = replace(preferences, theme="DARK", first_day_of_week="MONDAY", reduced_motion=True)
    settings = replace(settings, presence_visible=False, session_idle_timeout=timedelta(hours=1))
    await put(store, user, preferences, settings, team(1))
    assert await store.find(caller(), User, user.id) == user
    assert await store.find(caller(), Preferences, user.id) == preferences
    assert await store.find(caller(), Settings, user.id) == settings
    assert await store.find(caller(), Group, team(1).id) == team(1)


async def test_what_is_put_again_takes_the_place_of_what_was(store: DatabaseStore) -> None:
    await put(store, person(1), team(1))
    await put(store, person(1, "Ada", job_title="Poet"), team(1, "Poetry"))
    assert await store.find(caller(), User, person(1).id) == person(1, "Ada", job_title="Poet")
    assert await store.find(caller(), Group, team(1).id) == team(1, "Poetry")
    async with store.change(caller()) as change:
        await change.remove(team(1, "Poetry"))
    assert await store.find(caller(), Group, team(1).id) is None


async def test_another_tenant_sees_and_changes_nothing(store: DatabaseStore) -> None:
    other = caller(OTHER_TENANT)
    await put(store, person(1), *kept_for(person(1)), team(1))
    assert await store.find(other, User, person(1).id) is None
    assert await store.find(other, Settings, person(1).id) is None
    assert await store.users(other, [person(1).id]) == {}
    assert await store.candidates(other, ["ada"], 10) == []
    assert not (await store.list_users(other, All(), (), 10, (), show_deleted=True)).items
    assert not (await store.list_groups(other, All(), (), 10, ())).items
    async with store.change(other) as change:
        assert await change.email_owner(person(1).email) is None
        await change.put(person(1, "Mallory"))
        await change.remove(team(1))
    assert await store.find(caller(), User, person(1).id) == person(1)
    assert await store.find(caller(), Group, team(1).id) == team(1)


async def test_an_address_belongs_to_one_user_that_is_not_deleted(store: DatabaseStore) -> None:
    await put(store, person(1, email="a@example.com", delete_time=EPOCH), person(2, email="a@example.com"))
    async with store.change(caller()) as change:
        assert await change.email_owner("a@example.com") == person(2).id
        assert await change.email_owner("b@example.com") is None
    with pytest.raises(IntegrityError):
        await put(store, person(3, email="a@example.com"))


async def test_users_are_found_by_ids(store: DatabaseStore) -> None:
    await put(store, *PEOPLE)
    wanted = [PEOPLE[3].id, PEOPLE[0].id, identifier("usr", 99)]
    assert await store.users(caller(), wanted) == {PEOPLE[0].id: PEOPLE[0], PEOPLE[3].id: PEOPLE[3]}


async def pages(
    store: Store, where: Filter, order: Sequence[filters.Order], size: int, *, show_deleted: bool
) -> list[User]:
    found: list[User] = []
    after: Key = ()
    while True:
        page = await store.list_users(caller(), where, order, size, after, show_deleted=show_deleted)
        assert len(page.items) <= size
        found.extend(page.items)
        if page.last is None:
            return found
        after = page.last


ORDERS = ["", "display_name", "display_name desc", "email desc", "create_time desc", "display_name,update_time desc"]
FILTERS = [
    "",
    "display_name = 'ADA LOVELACE'",
    "display_name != 'ada lovelace'",
    "display_name = 'a*'",
    "display_name = '*a*'",
    "display_name = '*lovelace'",
    "display_name = '*ada lovelace and many more letters'",
    "display_name = '*%_*'",
    "display_name = ''",
    "display_name = '*'",
    r"display_name = '*\\*'",
    "display_name = '北京*'",
    "email = '*@example.com' AND NOT status = ACTIVE",
    "email != '*@example.com' OR status = ACTIVE",
    "status != ACTIVE AND email_verified = false",
    "email_verified != true",
    f'create_time > "{PEOPLE[1].create_time.isoformat()}" AND create_time <= "{PEOPLE[4].create_time.isoformat()}"',
    f'update_time != "{PEOPLE[4].update_time.isoformat()}"',
    f'create_time < "{PEOPLE[2].create_time.isoformat()}" OR create_time >= "{PEOPLE[6].create_time.isoformat()}"',
    f'create_time = "{PEOPLE[2].create_time.isoformat()}"',
]


async def test_lists_agree_with_the_plain_store(store: DatabaseStore) -> None:
    plain = FakeStore().add(*PEOPLE)
    await put(store, *PEOPLE)
    for text in FILTERS:
        where = parse(text, filters.USER_FIELDS)
        for number, by in enumerate(ORDERS):
            order = filters.parse_order(by, filters.USER_ORDERS)
            deleted = number % 2 == 0
            expected = await pages(plain, where, order, 2, show_deleted=deleted)
            assert await pages(store, where, order, 1 + number % 3, show_deleted=deleted) == expected, (text, by)


async def test_groups_are_listed_in_pages(store: DatabaseStore) -> None:
    await put(store, *TEAMS)
    order = filters.parse_order("display_name", filters.GROUP_ORDERS)
    where = parse("display_name = 'e*' OR display_name = '*y'", filters.GROUP_FIELDS)
    first = await store.list_groups(caller(), where, order, 2, ())
    assert first.items == [TEAMS[0], TEAMS[2]]
    assert first.last is not None
    second = await store.list_groups(caller(), where, order, 2, first.last)
    assert (second.items, second.last) == ([TEAMS[1]], None)


QUERIES = [
    "ada",
    "a",
    "lovelace ada",
    "lovlace",
    "asa",
    "oberg",
    "xdalovelace",
    "adda",
    "ming",
    "北京",
    "example",
    "neil",
]


async def test_candidates_hold_every_match_likelier_ones_first(store: DatabaseStore) -> None:
    plain = FakeStore().add(*PEOPLE)
    await put(store, *PEOPLE)
    for query in QUERIES:
        words = search.query_words(query)
        found = await store.candidates(caller(), words, 10)
        assert [user for _, user in search.ranked(words, found)] == await plain.candidates(caller(), words, 10), query
        assert await store.candidates(caller(), words, 1) == found[:1]


async def test_who_is_deleted_or_hides_is_no_candidate(store: DatabaseStore) -> None:
    ada, (_, settings) = person(1), kept_for(person(1))

    async def found() -> bool:
        return bool(await store.candidates(caller(), ["ada"], 10))

    await put(store, ada)
    assert await found()
    await put(store, ada.deleted(EPOCH))
    assert not await found()
    await put(store, ada)
    assert await found()
    await put(store, replace(settings, discoverable=False))
    assert not await found()
    await put(store, replace(ada, job_title="Poet"))
    assert not await found()
    await put(store, replace(settings, discoverable=True))
    assert await found()
    await put(store, replace(ada, display_name="Babbage"))
    assert not await found()


async def test_a_change_announces_with_its_commit(store: DatabaseStore, database: Database) -> None:
    async with store.change(caller()) as change:
        await change.put(person(1))
        change.announce("created", person(1), {"fields": "display_name"})
        change.announce("deleted", team(1))
    with suppress(LookupError):
        async with store.change(caller()) as change:
            change.announce("updated", kept_for(person(1))[0])
            raise LookupError
    async with database.read(background()) as connection:
        page = await outbox.read(connection, outbox.Position())
    told = [(event.type, event.subject) for _, event in page.events]
    assert told == [
        ("user.user.created", f"users/{person(1).id}"),
        ("common.audit_event.recorded", f"user:{person(1).id}"),
        ("user.group.deleted", f"groups/{team(1).id}"),
        ("common.audit_event.recorded", f"group:{team(1).id}"),
    ]
