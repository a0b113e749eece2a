import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pyairtable_mesh.runtime.filters import All
from pyairtable_mesh.user import search
from pyairtable_mesh.user.domain import Preferences, Settings, Status, User
from pyairtable_mesh.user.usecases import users as users_module
from pyairtable_mesh.user.usecases.users import Users
from tests.unit.user.people import EPOCH, OTHER_TENANT, TENANT, FakeStore, caller, identifier, person

CALLER = caller()
ABSENT = identifier("usr", 99)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore().add(person(1), person(2, "Bob", delete_time=EPOCH))


@pytest.fixture
def users(store: FakeStore) -> Users:
    return Users(store)


async def test_a_new_user_is_invited_and_announced(users: Users, store: FakeStore) -> None:
    user = await users.create(CALLER, "", "Grace@Example.com", {"job_title": "Admiral"})
    assert user.id.startswith("usr")
    assert (user.email, user.display_name, user.job_title) == ("grace@example.com", "Grace", "Admiral")
    assert user.status is Status.INVITED
    assert user.create_time == user.update_time == store.now
    assert await users.get(CALLER, user.id) == user
    assert store.announced == ["User created"]
    assert store.changes[-1].answers == [user]


async def test_a_user_may_be_given_its_id_once(users: Users) -> None:
    chosen = identifier("usr", 7)
    assert (await users.create(CALLER, chosen, "a@example.com", {"display_name": "A"})).id == chosen
    for taken in (chosen, person(2).id):
        with pytest.raises(AlreadyExists) as refused:
            await users.create(CALLER, taken, "b@example.com", {})
        assert refused.value.reason == "USER_ID_TAKEN"


async def test_an_address_is_given_once_per_tenant_whatever_its_case(users: Users, store: FakeStore) -> None:
    with pytest.raises(AlreadyExists) as refused:
        await users.create(CALLER, "", person(1).email.upper(), {})
    assert refused.value.reason == "EMAIL_TAKEN"
    assert store.changes == []
    await users.create(CALLER, "", person(2).email, {})
    await users.create(caller(OTHER_TENANT), "", person(1).email, {})


async def test_a_batch_answers_each_name_by_itself(users: Users) -> None:
    names = [f"users/{ABSENT}", f"users/{person(1).id}", "users/usr1", f"users/{person(2).id}", f"users/{person(1).id}"]
    absent, first, malformed, deleted, again = await users.get_many(CALLER, names)
    assert isinstance(absent, NotFound)
    assert first == again == person(1)
    assert isinstance(malformed, InvalidArgument)
    assert malformed.violations[0].field == "names[2]"
    assert isinstance(deleted, User)


async def test_a_profile_is_changed_by_its_fields(users: Users, store: FakeStore) -> None:
    changed = await users.update(CALLER, person(1).id, {"job_title": "Poet"}, person(1).etag)
    assert changed == replace(person(1), job_title="Poet", update_time=store.now)
    assert store.changes[-1].announced == [("updated", changed, {"fields": "job_title"})]
    with pytest.raises(Aborted):
        await users.update(CALLER, person(1).id, {"job_title": ""}, person(1).etag)


async def test_a_change_of_nothing_is_answered_and_not_announced(users: Users, store: FakeStore) -> None:
    assert await users.update(CALLER, person(1).id, {"job_title": ""}, "") == person(1)
    assert store.announced == []
    assert store.changes[-1].answers == [person(1)]


@pytest.mark.parametrize("tenant", [TENANT, OTHER_TENANT])
async def test_who_is_not_there_is_not_found(users: Users, tenant: str) -> None:
    who, user_id = caller(tenant), ABSENT if tenant == TENANT else person(1).id
    for attempt in (
        users.get(who, user_id),
        users.update(who, user_id, {}, ""),
        users.delete(who, user_id, ""),
        users.undelete(who, user_id, ""),
        users.set_status(who, user_id, Status.ACTIVE, "why", ""),
        users.preferences(who, user_id),
        users.update_preferences(who, user_id, {}, ""),
        users.settings(who, user_id),
        users.update_settings(who, user_id, {}, ""),
    ):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.reason == "USER_NOT_FOUND"
        assert refused.value.resource_name == f"users/{user_id}"


async def test_who_is_deleted_can_be_read_but_not_changed(users: Users) -> None:
    deleted = person(2).id
    assert (await users.get(CALLER, deleted)).delete_time == EPOCH
    for attempt in (
        users.update(CALLER, deleted, {}, ""),
        users.set_status(CALLER, deleted, Status.ACTIVE, "why", ""),
        users.update_preferences(CALLER, deleted, {}, ""),
        users.update_settings(CALLER, deleted, {}, ""),
    ):
        with pytest.raises(FailedPrecondition) as refused:
            await attempt
        assert refused.value.reason == "USER_DELETED"
    with pytest.raises(NotFound):
        await users.delete(CALLER, deleted, "")


async def test_a_user_is_deleted_and_brought_back(users: Users, store: FakeStore) -> None:
    deleted = await users.delete(CALLER, person(1).id, person(1).etag)
    assert deleted.delete_time == store.now
    back = await users.undelete(CALLER, person(1).id, deleted.etag)
    assert back == replace(person(1), update_time=store.now)
    assert store.announced == ["User deleted", "User undeleted"]
    with pytest.raises(AlreadyExists) as refused:
        await users.undelete(CALLER, person(1).id, "")
    assert refused.value.reason == "USER_NOT_DELETED"


async def test_a_user_whose_address_is_taken_by_now_cannot_come_back(users: Users) -> None:
    await users.create(CALLER, "", person(2).email, {})
    with pytest.raises(AlreadyExists) as refused:
        await users.undelete(CALLER, person(2).id, "")
    assert refused.value.reason == "EMAIL_TAKEN"


async def test_a_status_is_changed_for_a_reason_that_is_told(users: Users, store: FakeStore) -> None:
    moved = await users.set_status(CALLER, person(1).id, Status.ACTIVE, "signed in", "")
    assert (moved.status, moved.status_reason) == (Status.ACTIVE, "signed in")
    details = {"from": "INVITED", "to": "ACTIVE", "reason": "signed in"}
    assert store.changes[-1].announced == [("status_changed", moved, details)]
    with pytest.raises(FailedPrecondition):
        await users.set_status(CALLER, person(1).id, Status.INVITED, "back", "")


async def test_preferences_and_settings_are_defaults_until_they_are_changed(users: Users, store: FakeStore) -> None:
    user = person(1)
    assert await users.preferences(CALLER, user.id) == Preferences(user.id, user.create_time)
    assert await users.settings(CALLER, user.id) == Settings(user.id, user.create_time)
    dark = await users.update_preferences(
        CALLER, user.id, {"theme": "DARK"}, Preferences(user.id, user.create_time).etag
    )
    hidden = await users.update_settings(CALLER, user.id, {"discoverable": False}, "")
    assert await users.preferences(CALLER, user.id) == dark == Preferences(user.id, store.now, theme="DARK")
    assert await users.settings(CALLER, user.id) == hidden == Settings(user.id, store.now, discoverable=False)
    assert store.announced == ["Preferences updated", "Settings updated"]


async def test_a_search_is_paged_in_the_order_of_its_ranks(users: Users, store: FakeStore) -> None:
    people = [person(number, name) for number, name in enumerate(["Adam", "Ada", "Adana", "Ada B", "Bob"], 10)]
    store.rows.clear()
    store.add(*people)
    first, truncated = await users.search(CALLER, "ada", 3, ())
    assert [user.display_name for user in first.items] == ["Ada", "Ada B", "Adam"]
    assert first.last is not None
    second, _ = await users.search(CALLER, "ada", 3, first.last)
    assert [user.display_name for user in second.items] == ["Adana"]
    assert (second.last, truncated) == (None, False)
    nothing, _ = await users.search(CALLER, "?!", 3, ())
    assert list(nothing.items) == []


async def test_a_search_that_is_cut_off_says_so(
    users: Users, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_module, "MAX_RANKED", 2)
    store.add(*(person(number, f"Ada {number}") for number in range(10, 13)))
    found, truncated = await users.search(CALLER, "ada", 50, ())
    assert (len(found.items), truncated) == (2, True)


async def test_lists_leave_out_who_is_deleted(users: Users) -> None:
    async def listed(who: RequestContext, *, show_deleted: bool) -> list[str]:
        found = await users.list(who, All(), (), 10, (), show_deleted=show_deleted)
        return [user.id for user in found.items]

    assert await listed(CALLER, show_deleted=False) == [person(1).id]
    assert await listed(CALLER, show_deleted=True) == [person(1).id, person(2).id]
    assert await listed(caller(OTHER_TENANT), show_deleted=True) == []


async def test_ranking_many_leaves_the_event_loop_to_others(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[threading.Thread]()

    def ranked(_words: Sequence[str], _users: Sequence[User]) -> list[tuple[search.Rank, User]]:
        threads.add(threading.current_thread())
        return []

    async def candidates(_caller: RequestContext, _words: Sequence[str], _limit: int) -> Sequence[User]:
        return [person(number) for number in range(200)]

    monkeypatch.setattr(store, "candidates", candidates)
    monkeypatch.setattr(search, "ranked", ranked)
    await Users(store).search(CALLER, "ada", 3, ())
    assert threads
    assert threading.main_thread() not in threads
