"""Group members as relationships of the permission service: ``group:grp…#member@user:usr…``, or ``@group:grp…#member``.

Calls go with the caller's own token, so that the permission service decides on its own what the caller may change.
"""

from collections.abc import Sequence

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_mesh.user.domain import Member

_MEMBER = "member"
_NOW = permission_pb2.Consistency(fully_consistent=True)


class PermissionMemberships:
    """`usecases.groups.Memberships` over the mesh."""

    def __init__(self, permission: permission_pb2_grpc.PermissionServiceStub) -> None:
        self._permission = permission

    async def add(self, group_id: str, member: Member) -> None:
        """Put a member in; nothing happens when it is there."""
        await self._write(permission_pb2.RelationshipUpdate.OPERATION_TOUCH, group_id, member)

    async def remove(self, group_id: str, member: Member) -> None:
        """Take a direct member out; nothing happens when it is not there."""
        await self._write(permission_pb2.RelationshipUpdate.OPERATION_DELETE, group_id, member)

    async def clear(self, group_id: str) -> None:
        """Take all members out of a group, and the group out of all others."""
        members = permission_pb2.RelationshipFilter(resource=f"group:{group_id}", relation=_MEMBER)
        inside = permission_pb2.RelationshipFilter(
            resource_type="group", relation=_MEMBER, subject=_subject(Member("group", group_id))
        )
        for which in (members, inside):
            await self._permission.DeleteRelationships(permission_pb2.DeleteRelationshipsRequest(filter=which))

    async def page(self, group_id: str, size: int, token: str) -> tuple[Sequence[Member], str]:
        """Direct members, and the token of the page behind them (empty: none)."""
        request = permission_pb2.ReadRelationshipsRequest(
            filter=permission_pb2.RelationshipFilter(resource=f"group:{group_id}", relation=_MEMBER),
            page_size=size,
            page_token=token,
            consistency=_NOW,
        )
        answer = await self._permission.ReadRelationships(request)
        return [_member(each.subject) for each in answer.relationships], answer.next_page_token

    async def _write(
        self,
        operation: permission_pb2.RelationshipUpdate.Operation.ValueType,
        group_id: str,
        member: Member,
    ) -> None:
        relationship = permission_pb2.Relationship(
            resource=f"group:{group_id}", relation=_MEMBER, subject=_subject(member)
        )
        update = permission_pb2.RelationshipUpdate(operation=operation, relationship=relationship)
        request = permission_pb2.WriteRelationshipsRequest(updates=[update])
        await self._permission.WriteRelationships(request)


def _subject(member: Member) -> str:
    return f"{member.kind}:{member.id}" + (f"#{_MEMBER}" if member.kind == "group" else "")


def _member(subject: str) -> Member:
    kind, _, rest = subject.partition(":")
    return Member(kind, rest.partition("#")[0])
