"""The RPCs of `pyairtable.user.v1.UserService`: each reads its request, calls a use case, answers."""
# ruff: noqa: D102 - methods are named and described in user.proto

from typing import Any

from google.protobuf import empty_pb2

from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_mesh.runtime import pagination, status
from pyairtable_mesh.runtime.context import current
from pyairtable_mesh.runtime.filters import parse
from pyairtable_mesh.user import filters, messages
from pyairtable_mesh.user.domain import Group, Preferences, Settings, User
from pyairtable_mesh.user.messages import changes, id_of
from pyairtable_mesh.user.usecases.groups import Groups
from pyairtable_mesh.user.usecases.users import Users

_SEARCH_PAGE = 20


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Users and groups of the caller's tenant."""

    def __init__(self, users: Users, groups: Groups, sealer: pagination.Sealer) -> None:
        self._users = users
        self._groups = groups
        self._sealer = sealer

    async def CreateUser(self, request: user_pb2.CreateUserRequest, context: Any) -> user_pb2.User:
        profile = changes(request.user, User)
        user = await self._users.create(current(), request.user_id, request.user.email, profile)
        return messages.from_user(user)

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Any) -> user_pb2.User:
        return messages.from_user(await self._users.get(current(), id_of(request.name)))

    async def GetMe(self, request: user_pb2.GetMeRequest, context: Any) -> user_pb2.User:
        caller = current()
        return messages.from_user(await self._users.get(caller, caller.user().removeprefix("user:")))

    async def BatchGetUsers(
        self, request: user_pb2.BatchGetUsersRequest, context: Any
    ) -> user_pb2.BatchGetUsersResponse:
        found = await self._users.get_many(current(), request.names)
        users = [messages.from_user(each) for each in found if isinstance(each, User)]
        failed = {at: status.to_status(each) for at, each in enumerate(found) if not isinstance(each, User)}
        return user_pb2.BatchGetUsersResponse(users=users, failed_requests=failed)

    async def UpdateUser(self, request: user_pb2.UpdateUserRequest, context: Any) -> user_pb2.User:
        profile = changes(request.user, User, request.update_mask)
        user = await self._users.update(current(), id_of(request.user.name), profile, request.user.etag)
        return messages.from_user(user)

    async def DeleteUser(self, request: user_pb2.DeleteUserRequest, context: Any) -> user_pb2.User:
        return messages.from_user(await self._users.delete(current(), id_of(request.name), request.etag))

    async def UndeleteUser(self, request: user_pb2.UndeleteUserRequest, context: Any) -> user_pb2.User:
        return messages.from_user(await self._users.undelete(current(), id_of(request.name), request.etag))

    async def ListUsers(self, request: user_pb2.ListUsersRequest, context: Any) -> user_pb2.ListUsersResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        where = parse(request.filter, filters.USER_FIELDS)
        order = filters.parse_order(request.order_by, filters.USER_ORDERS)
        found = await self._users.list(caller, where, order, page.size, page.after, show_deleted=request.show_deleted)
        users = [messages.from_user(user) for user in found.items]
        return user_pb2.ListUsersResponse(users=users, next_page_token=page.next_token(found.last))

    async def SearchUsers(self, request: user_pb2.SearchUsersRequest, context: Any) -> user_pb2.SearchUsersResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request, default=_SEARCH_PAGE)
        found, truncated = await self._users.search(caller, request.query, page.size, page.after)
        users = [messages.from_user(user) for user in found.items]
        token = page.next_token(found.last)
        return user_pb2.SearchUsersResponse(users=users, next_page_token=token, truncated=truncated)

    async def GetPreferences(self, request: user_pb2.GetPreferencesRequest, context: Any) -> user_pb2.Preferences:
        return messages.from_preferences(await self._users.preferences(current(), id_of(request.name)))

    async def UpdatePreferences(self, request: user_pb2.UpdatePreferencesRequest, context: Any) -> user_pb2.Preferences:
        wanted = request.preferences
        masked = changes(wanted, Preferences, request.update_mask)
        changed = await self._users.update_preferences(current(), id_of(wanted.name), masked, wanted.etag)
        return messages.from_preferences(changed)

    async def GetSettings(self, request: user_pb2.GetSettingsRequest, context: Any) -> user_pb2.Settings:
        return messages.from_settings(await self._users.settings(current(), id_of(request.name)))

    async def UpdateSettings(self, request: user_pb2.UpdateSettingsRequest, context: Any) -> user_pb2.Settings:
        wanted = request.settings
        masked = changes(wanted, Settings, request.update_mask)
        changed = await self._users.update_settings(current(), id_of(wanted.name), masked, wanted.etag)
        return messages.from_settings(changed)

    async def SetUserStatus(self, request: user_pb2.SetUserStatusRequest, context: Any) -> user_pb2.User:
        target = messages.to_status(request.status)
        user = await self._users.set_status(current(), id_of(request.name), target, request.reason, request.etag)
        return messages.from_user(user)

    async def CreateGroup(self, request: user_pb2.CreateGroupRequest, context: Any) -> user_pb2.Group:
        return messages.from_group(await self._groups.create(current(), changes(request.group, Group)))

    async def GetGroup(self, request: user_pb2.GetGroupRequest, context: Any) -> user_pb2.Group:
        return messages.from_group(await self._groups.get(current(), id_of(request.name)))

    async def ListGroups(self, request: user_pb2.ListGroupsRequest, context: Any) -> user_pb2.ListGroupsResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        where = parse(request.filter, filters.GROUP_FIELDS)
        order = filters.parse_order(request.order_by, filters.GROUP_ORDERS)
        found = await self._groups.list(caller, where, order, page.size, page.after)
        groups = [messages.from_group(group) for group in found.items]
        return user_pb2.ListGroupsResponse(groups=groups, next_page_token=page.next_token(found.last))

    async def UpdateGroup(self, request: user_pb2.UpdateGroupRequest, context: Any) -> user_pb2.Group:
        masked = changes(request.group, Group, request.update_mask)
        group = await self._groups.update(current(), id_of(request.group.name), masked, request.group.etag)
        return messages.from_group(group)

    async def DeleteGroup(self, request: user_pb2.DeleteGroupRequest, context: Any) -> empty_pb2.Empty:
        await self._groups.delete(current(), id_of(request.name), request.etag)
        return empty_pb2.Empty()

    async def AddGroupMember(self, request: user_pb2.AddGroupMemberRequest, context: Any) -> user_pb2.GroupMember:
        member = messages.to_member(request.member)
        await self._groups.add_member(current(), id_of(request.group), member)
        return messages.from_member(request.group, member)

    async def RemoveGroupMember(self, request: user_pb2.RemoveGroupMemberRequest, context: Any) -> empty_pb2.Empty:
        await self._groups.remove_member(current(), id_of(request.group), messages.to_member(request.member))
        return empty_pb2.Empty()

    async def ListGroupMembers(
        self, request: user_pb2.ListGroupMembersRequest, context: Any
    ) -> user_pb2.ListGroupMembersResponse:
        group = request.group
        size = min(request.page_size or pagination.DEFAULT_SIZE, pagination.MAXIMUM_SIZE)
        found, token = await self._groups.members(current(), id_of(group), size, request.page_token)
        members = [messages.from_member(group, member) for member in found]
        return user_pb2.ListGroupMembersResponse(members=members, next_page_token=token)
