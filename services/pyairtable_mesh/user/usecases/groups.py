"""Use cases of groups. Who is in a group has its one home in the permission service; here is what a group is called."""

from collections.abc import Sequence
from typing import Protocol

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import FailedPrecondition, NotFound, PreconditionViolation
from pyairtable_mesh.runtime.filters import Filter
from pyairtable_mesh.runtime.ids import new_id
from pyairtable_mesh.user.domain import Group, Key, Member, Membership, Slice, User, check_etag
from pyairtable_mesh.user.filters import Order
from pyairtable_mesh.user.usecases.changes import Changes, Store, done, updated
from pyairtable_mesh.user.usecases.users import present_user

_TYPE = "user.pyairtable.io/Group"


class Memberships(Protocol):
    """Who is in which group: relationships of the permission service, changed with the caller's own rights.

    Asked again by a repetition of the request that asked first, a change changes nothing any more.
    """

    async def add(self, group_id: str, member: Member) -> None:
        """Put a member in; nothing happens when it is there."""

    async def remove(self, group_id: str, member: Member) -> None:
        """Take a direct member out; nothing happens when it is not there."""

    async def clear(self, group_id: str) -> None:
        """Take all members out of a group, and the group out of all others."""

    async def page(self, group_id: str, size: int, token: str) -> tuple[Sequence[Member], str]:
        """Direct members, and the token of the page behind them (empty: none)."""


class Groups:
    """Groups and their members. The answers to changes of members are kept here, though the changes are elsewhere: a
    repetition gets them also when the group is gone.
    """

    def __init__(self, store: Store, memberships: Memberships) -> None:
        self._store = store
        self._memberships = memberships

    async def create(self, caller: RequestContext, fields: Changes) -> Group:
        """A new group without members."""
        async with self._store.change(caller) as change:
            group = Group(id=new_id("grp"), create_time=change.now, update_time=change.now, **fields)
            return await done(change, "created", group)

    async def get(self, caller: RequestContext, group_id: str) -> Group:
        """The group; NotFound GROUP_NOT_FOUND."""
        return _known(await self._store.find(caller, Group, group_id), group_id)

    async def list(
        self, caller: RequestContext, where: Filter, order: Sequence[Order], size: int, after: Key
    ) -> Slice[Group]:
        """Groups of the tenant, in order."""
        return await self._store.list_groups(caller, where, order, size, after)

    async def update(self, caller: RequestContext, group_id: str, changes: Changes, etag: str) -> Group:
        """The changed group; NotFound, Aborted ETAG_MISMATCH."""
        async with self._store.change(caller) as change:
            group = _known(await change.find(Group, group_id), group_id)
            return await updated(change, group, changes, etag)

    async def delete(self, caller: RequestContext, group_id: str, etag: str) -> None:
        """Delete a group for good; NotFound, Aborted ETAG_MISMATCH.

        The memberships go first: what is left when the row's deletion fails is an empty group, never members of none.
        """
        check_etag(await self.get(caller, group_id), etag)
        await self._memberships.clear(group_id)
        async with self._store.change(caller) as change:
            group = _known(await change.find(Group, group_id), group_id)
            await change.remove(group)
            change.announce("deleted", group)
            change.answer(None)

    async def add_member(self, caller: RequestContext, group_id: str, member: Member) -> None:
        """Put a user or a group into a group.

        NotFound GROUP_NOT_FOUND, USER_NOT_FOUND; FailedPrecondition GROUP_IN_ITSELF, USER_DELETED. A circle through
        several groups is allowed: its groups have the same members.
        """
        group = await self.get(caller, group_id)
        if member == Member("group", group_id):
            words = f"{group.name} cannot be its own member"
            violation = PreconditionViolation("GROUP_IN_ITSELF", group.name, words)
            raise FailedPrecondition(words, [violation], reason="GROUP_IN_ITSELF", metadata={"name": group.name})
        if member.kind == "group":
            await self.get(caller, member.id)
        else:
            present_user(await self._store.find(caller, User, member.id), member.id)
        await self._memberships.add(group_id, member)
        try:
            async with self._store.change(caller) as change:
                _known(await change.find(Group, group_id), group_id)
                change.answer(Membership(group_id, member))
        except NotFound:  # deleted after we looked: it may keep no member
            await self._memberships.remove(group_id, member)
            raise

    async def remove_member(self, caller: RequestContext, group_id: str, member: Member) -> None:
        """Take a direct member, which may be gone itself, out of a group; NotFound GROUP_NOT_FOUND."""
        await self.get(caller, group_id)
        await self._memberships.remove(group_id, member)
        async with self._store.change(caller) as change:
            change.answer(None)

    async def members(
        self, caller: RequestContext, group_id: str, size: int, token: str
    ) -> tuple[Sequence[Member], str]:
        """Direct members and the token of the next page; NotFound GROUP_NOT_FOUND."""
        await self.get(caller, group_id)
        return await self._memberships.page(group_id, size, token)


def _known(group: Group | None, group_id: str) -> Group:
    if group is None:
        name = f"groups/{group_id}"
        raise NotFound(_TYPE, name, reason="GROUP_NOT_FOUND", metadata={"name": name})
    return group
