"""Use cases of users: profiles, status, search, and what belongs to each user alone."""

import asyncio
import re
from collections.abc import Sequence

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    PreconditionViolation,
)
from pyairtable_mesh.runtime.filters import Filter
from pyairtable_mesh.runtime.ids import new_id
from pyairtable_mesh.user import search
from pyairtable_mesh.user.domain import (
    Key,
    Preferences,
    Settings,
    Slice,
    Status,
    User,
    changed,
    check_etag,
    normal_email,
)
from pyairtable_mesh.user.filters import Order
from pyairtable_mesh.user.usecases.changes import Change, Changes, Store, done, updated

MAX_RANKED = 1000
MAX_FOUND = 100
_RANKED_AT_ONCE = 50
_TYPE = "user.pyairtable.io/User"
_NAME = re.compile(r"users/(usr[0-9a-hjkmnp-tv-z]{26})")


class Users:
    """Profiles, status, search, and what belongs to each user alone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, caller: RequestContext, user_id: str, email: str, profile: Changes) -> User:
        """A new user in the status INVITED; AlreadyExists USER_ID_TAKEN or EMAIL_TAKEN."""
        async with self._store.change(caller) as change:
            name = email.partition("@")[0]
            made = User(
                user_id or new_id("usr"), normal_email(email), name, create_time=change.now, update_time=change.now
            )
            user = changed(made, profile, change.now)
            if user_id and await change.find(User, user_id) is not None:
                raise AlreadyExists(_TYPE, user.name, reason="USER_ID_TAKEN", metadata={"name": user.name})
            await _check_email(change, user)
            return await done(change, "created", user)

    async def get(self, caller: RequestContext, user_id: str) -> User:
        """The user, deleted or not; NotFound USER_NOT_FOUND."""
        return _known(await self._store.find(caller, User, user_id), user_id)

    async def get_many(self, caller: RequestContext, names: Sequence[str]) -> Sequence[User | MeshError]:
        """For each resource name the user, or why there is none."""
        matched = [_NAME.fullmatch(name) for name in names]
        found = await self._store.users(caller, sorted({match[1] for match in matched if match}))
        return [
            (found.get(match[1]) or unknown_user(match[1])) if match else _malformed(index)
            for index, match in enumerate(matched)
        ]

    async def update(self, caller: RequestContext, user_id: str, changes: Changes, etag: str) -> User:
        """The user with a changed profile; NotFound, Aborted ETAG_MISMATCH, FailedPrecondition USER_DELETED."""
        async with self._store.change(caller) as change:
            user = present_user(await change.find(User, user_id), user_id)
            return await updated(change, user, changes, etag)

    async def delete(self, caller: RequestContext, user_id: str, etag: str) -> User:
        """The user, soft-deleted; NotFound also when it was before (AIP-164), Aborted ETAG_MISMATCH."""
        async with self._store.change(caller) as change:
            user = _known(await change.find(User, user_id), user_id)
            if user.delete_time is not None:
                raise unknown_user(user_id)
            check_etag(user, etag)
            return await done(change, "deleted", user.deleted(change.now))

    async def undelete(self, caller: RequestContext, user_id: str, etag: str) -> User:
        """The user, back; NotFound, AlreadyExists USER_NOT_DELETED or EMAIL_TAKEN, Aborted ETAG_MISMATCH."""
        async with self._store.change(caller) as change:
            user = _known(await change.find(User, user_id), user_id)
            if user.delete_time is None:
                words = f"{user.name} is not deleted"
                raise AlreadyExists(_TYPE, user.name, words, reason="USER_NOT_DELETED", metadata={"name": user.name})
            check_etag(user, etag)
            await _check_email(change, user)
            return await done(change, "undeleted", user.undeleted(change.now))

    async def set_status(self, caller: RequestContext, user_id: str, status: Status, reason: str, etag: str) -> User:
        """The user in another status; NotFound, Aborted ETAG_MISMATCH, FailedPrecondition."""
        async with self._store.change(caller) as change:
            user = present_user(await change.find(User, user_id), user_id)
            check_etag(user, etag)
            moved = user.moved(status, reason, change.now)
            details = {"from": user.status, "to": moved.status, "reason": reason}
            return await done(change, "status_changed", moved, details)

    async def list(
        self,
        caller: RequestContext,
        where: Filter,
        order: Sequence[Order],
        size: int,
        after: Key,
        *,
        show_deleted: bool,
    ) -> Slice[User]:
        """Users of the tenant, in order."""
        return await self._store.list_users(caller, where, order, size, after, show_deleted=show_deleted)

    async def search(self, caller: RequestContext, query: str, size: int, after: Key) -> tuple[Slice[User], bool]:
        """Best matches first, and whether more matched than were ranked."""
        words = search.query_words(query)
        found = await self._store.candidates(caller, words, MAX_RANKED + 1) if words else ()
        ranked = await _ranked(words, found[:MAX_RANKED])
        behind = [(rank, user) for rank, user in ranked if not after or rank > after]
        page = behind[: min(size, MAX_FOUND)]
        last = page[-1][0] if len(behind) > len(page) else None
        return Slice([user for _, user in page], last), len(found) > MAX_RANKED

    async def preferences(self, caller: RequestContext, user_id: str) -> Preferences:
        """The user's preferences, defaults where it never had any; NotFound USER_NOT_FOUND."""
        user = await self.get(caller, user_id)
        stored = await self._store.find(caller, Preferences, user_id)
        return stored or Preferences(user_id, user.create_time)

    async def update_preferences(
        self, caller: RequestContext, user_id: str, changes: Changes, etag: str
    ) -> Preferences:
        """The changed preferences; errors as `update`."""
        async with self._store.change(caller) as change:
            user = present_user(await change.find(User, user_id), user_id)
            before = await change.find(Preferences, user_id) or Preferences(user_id, user.create_time)
            return await updated(change, before, changes, etag)

    async def settings(self, caller: RequestContext, user_id: str) -> Settings:
        """The user's settings, defaults where it never had any; NotFound USER_NOT_FOUND."""
        user = await self.get(caller, user_id)
        stored = await self._store.find(caller, Settings, user_id)
        return stored or Settings(user_id, user.create_time)

    async def update_settings(self, caller: RequestContext, user_id: str, changes: Changes, etag: str) -> Settings:
        """The changed settings; errors as `update`."""
        async with self._store.change(caller) as change:
            user = present_user(await change.find(User, user_id), user_id)
            before = await change.find(Settings, user_id) or Settings(user_id, user.create_time)
            return await updated(change, before, changes, etag)


async def _ranked(words: Sequence[str], found: Sequence[User]) -> list[tuple[search.Rank, User]]:
    """`search.ranked`, which takes long for many users: other callers' turns go on meanwhile."""
    if len(found) <= _RANKED_AT_ONCE:
        return search.ranked(words, found)
    return await asyncio.to_thread(search.ranked, words, found)


def unknown_user(user_id: str) -> NotFound:
    """The answer for an id that no user of the tenant has."""
    name = f"users/{user_id}"
    return NotFound(_TYPE, name, reason="USER_NOT_FOUND", metadata={"name": name})


def present_user(user: User | None, user_id: str) -> User:
    """The user, if it is there and not deleted; else NotFound USER_NOT_FOUND, FailedPrecondition USER_DELETED."""
    if user is None:
        raise unknown_user(user_id)
    if user.delete_time is not None:
        words = f"{user.name} is deleted: undelete it first"
        violation = PreconditionViolation("USER_DELETED", user.name, words)
        raise FailedPrecondition(words, [violation], reason="USER_DELETED", metadata={"name": user.name})
    return user


def _known(user: User | None, user_id: str) -> User:
    if user is None:
        raise unknown_user(user_id)
    return user


def _malformed(index: int) -> InvalidArgument:
    return InvalidArgument.of_field(f"names[{index}]", "must be users/usr… with an id", rule="string.pattern")


async def _check_email(change: Change, user: User) -> None:
    owner = await change.email_owner(user.email)
    if owner not in {None, user.id}:
        words = "another user of this tenant has this e-mail address"
        raise AlreadyExists(_TYPE, f"users/{owner}", words, reason="EMAIL_TAKEN")
