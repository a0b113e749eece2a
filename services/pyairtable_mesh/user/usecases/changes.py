"""Where users and groups are kept, as the use cases see it, and the shape that every change of them has."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.filters import Filter
from pyairtable_mesh.user import domain
from pyairtable_mesh.user.domain import Group, Key, Membership, Slice, Stored, StoredT, User
from pyairtable_mesh.user.filters import Order

Changes = Mapping[str, Any]
"""The fields of an update mask, and what they become."""


class Change(Protocol):
    """One transaction. What is put, announced and answered is there together with its commit, or not at all."""

    @property
    def now(self) -> datetime:
        """The moment of the change."""

    async def find(self, kind: type[StoredT], key: str) -> StoredT | None:
        """The stored value: a user or group by its id, preferences or settings by their user's."""

    async def put(self, resource: Stored) -> None:
        """Store a value, new or instead of the one before."""

    async def remove(self, group: Group) -> None:
        """Forget a group."""

    async def email_owner(self, email: str) -> str | None:
        """The id of the user, not deleted, who has this address."""

    def announce(self, verb: str, resource: Stored, details: Mapping[str, str] | None = None) -> None:
        """Tell subscribers and the audit log: `verb` in the past tense."""

    def answer(self, resource: Stored | Membership | None) -> None:
        """Keep the answer for repetitions of this request; None stands for the empty message."""


class Store(Protocol):
    """Where users and groups are kept; every method sees the caller's tenant only."""

    def change(self, caller: RequestContext) -> AbstractAsyncContextManager[Change]:
        """Begin a transaction; those of one tenant are serial."""

    async def find(self, caller: RequestContext, kind: type[StoredT], key: str) -> StoredT | None:
        """As `Change.find`, outside of a change."""

    async def users(self, caller: RequestContext, ids: Sequence[str]) -> Mapping[str, User]:
        """Those of the users that there are, by id, deleted ones too."""

    async def list_users(
        self,
        caller: RequestContext,
        where: Filter,
        order: Sequence[Order],
        size: int,
        after: Key,
        *,
        show_deleted: bool,
    ) -> Slice[User]:
        """Up to `size` users behind the sort key `after`."""

    async def list_groups(
        self, caller: RequestContext, where: Filter, order: Sequence[Order], size: int, after: Key
    ) -> Slice[Group]:
        """Up to `size` groups behind the sort key `after`."""

    async def candidates(self, caller: RequestContext, words: Sequence[str], limit: int) -> Sequence[User]:
        """Users who may match every word, likelier ones first; `search.rank` decides."""


async def done(change: Change, verb: str, resource: StoredT, details: Mapping[str, str] | None = None) -> StoredT:
    """Store a changed value, tell of it, keep it as the answer."""
    await change.put(resource)
    change.announce(verb, resource, details)
    change.answer(resource)
    return resource


async def updated(change: Change, before: StoredT, changes: Changes, etag: str) -> StoredT:
    """Change the fields of a mask; what has its new values already is answered as it is. Aborted ETAG_MISMATCH."""
    domain.check_etag(before, etag)
    after = domain.changed(before, changes, change.now)
    if after == before:
        change.answer(before)
        return before
    return await done(change, "updated", after, {"fields": ",".join(sorted(changes))})
