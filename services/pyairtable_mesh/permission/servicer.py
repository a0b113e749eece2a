"""The RPCs of `pyairtable.permission.v1.PermissionService`: each reads its request, calls a use case, answers."""
# ruff: noqa: D102 - methods are named and described in permission.proto

from typing import Any

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission import domain, messages
from pyairtable_mesh.permission.cursors import Cursors
from pyairtable_mesh.permission.models import SchemaRpcs, SpaceRpcs
from pyairtable_mesh.permission.streams import StreamingRpcs
from pyairtable_mesh.permission.usecases.checks import Checks, Question
from pyairtable_mesh.permission.usecases.lookups import Lookups
from pyairtable_mesh.permission.usecases.ownership import Ownership
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.roles import Roles, Wanted
from pyairtable_mesh.permission.usecases.schemas import Schemas
from pyairtable_mesh.permission.usecases.space_questions import SpaceQuestions
from pyairtable_mesh.permission.usecases.spaces import Spaces
from pyairtable_mesh.permission.usecases.watching import Watching
from pyairtable_mesh.runtime import access, pagination
from pyairtable_mesh.runtime.context import current

# Use cases decide most of it themselves, in the transaction that reads or writes.
ACCESS = {
    "CheckPermission": access.authenticated(),
    "BatchCheckPermissions": access.authenticated(),
    "ExplainPermission": access.authenticated(),
    "GetEffectivePermissions": access.authenticated(),
    "WriteRelationships": access.authenticated(),
    "ReadRelationships": access.authenticated(),
    "DeleteRelationships": access.authenticated(),
    "GrantRole": access.authenticated() | access.workload("tenant"),
    "ClaimOwnership": access.authenticated(),
    "RevokeRole": access.authenticated(),
    "ListRoleBindings": access.authenticated(),
    "CreateRole": access.authenticated(),
    "GetRole": access.tenant("read"),
    "ListRoles": access.tenant("read"),
    "UpdateRole": access.authenticated(),
    "DeleteRole": access.authenticated(),
    "SetInheritance": access.authenticated(),
    "StreamCheckPermissions": access.authenticated(),
    "ExpandPermission": access.authenticated(),
    "LookupResources": access.authenticated(),
    "LookupSubjects": access.authenticated(),
    "WatchRelationships": access.authenticated(),
    "StreamReplica": access.workload(access.ANY),
    "ExportRelationships": access.authenticated(),
    "ImportRelationships": access.authenticated(),
    "GetRoleBinding": access.authenticated(),
    "CreateModelSpace": access.authenticated(),
    "GetModelSpace": access.tenant("read"),
    "ListModelSpaces": access.tenant("read"),
    "GetSchema": access.tenant("read"),
    "ListSchemaVersions": access.tenant("read"),
    "WriteSchema": access.authenticated(),
    "DiffSchemas": access.tenant("read"),
    "TestSchema": access.tenant("read"),
}


class PermissionServicer(StreamingRpcs, SchemaRpcs, permission_pb2_grpc.PermissionServiceServicer):
    """Permissions of the caller's tenant."""

    def __init__(
        self,
        checks: Checks,
        lookups: Lookups,
        watching: Watching,
        relationships: Relationships,
        roles: Roles,
        ownership: Ownership,
        space_questions: SpaceQuestions,
        spaces: Spaces,
        schemas: Schemas,
        sealer: pagination.Sealer,
    ) -> None:
        cursors = Cursors(sealer)
        in_spaces = SpaceRpcs(space_questions, spaces, cursors, sealer)
        StreamingRpcs.__init__(self, checks, lookups, watching, relationships, in_spaces, cursors)
        SchemaRpcs.__init__(self, spaces, schemas, sealer)
        self._checks = checks
        self._relationships = relationships
        self._roles = roles
        self._ownership = ownership
        self._sealer = sealer

    async def CheckPermission(self, request: pb.CheckPermissionRequest, context: Any) -> pb.CheckPermissionResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.check(space, request)
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        decision, token = await self._checks.check(current(), messages.question(request), given)
        return pb.CheckPermissionResponse(decision=messages.from_decision(decision, token))

    async def BatchCheckPermissions(
        self, request: pb.BatchCheckPermissionsRequest, context: Any
    ) -> pb.BatchCheckPermissionsResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.batch(space, request)
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        questions = [messages.question(item) for item in request.items]
        results, token = await self._checks.batch(current(), questions, given)
        return messages.from_results(results, token)

    async def ExplainPermission(
        self, request: pb.ExplainPermissionRequest, context: Any
    ) -> pb.ExplainPermissionResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.explain(space, request)
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        explanation, token = await self._checks.explain(current(), messages.question(request), given)
        return messages.from_explanation(explanation, token)

    async def ExpandPermission(self, request: pb.ExpandPermissionRequest, context: Any) -> pb.ExpandPermissionResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.expand(space, request)
        asked = Question(request.resource, request.permission)
        consistency = messages.consistency(request.consistency)
        root, token = await self._lookups.expand(current(), asked, request.max_depth, consistency)
        return pb.ExpandPermissionResponse(root=messages.from_node(root), consistency_token=token)

    async def GetEffectivePermissions(
        self, request: pb.GetEffectivePermissionsRequest, context: Any
    ) -> pb.GetEffectivePermissionsResponse:
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        effective, token = await self._checks.effective(
            current(), request.resource, request.subject, given, messages.context(request)
        )
        return messages.from_effective(effective, token)

    async def WriteRelationships(
        self, request: pb.WriteRelationshipsRequest, context: Any
    ) -> pb.WriteRelationshipsResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.write(space, request)
        updates, preconditions = messages.updates(request.updates), messages.preconditions(request.preconditions)
        return await self._relationships.write(
            current(), updates, preconditions, lambda token: pb.WriteRelationshipsResponse(consistency_token=token)
        )

    async def ReadRelationships(
        self, request: pb.ReadRelationshipsRequest, context: Any
    ) -> pb.ReadRelationshipsResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.read(space, request)
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        wanted, consistency = messages.relationship_filter(request.filter), messages.consistency(request.consistency)
        after = (str(page.after[0]), str(page.after[1]), str(page.after[2])) if page.after else None
        found, token = await self._relationships.read(caller, wanted, consistency, page.size + 1, after)
        last = found[page.size - 1] if len(found) > page.size else None
        return pb.ReadRelationshipsResponse(
            relationships=[messages.from_relationship(each) for each in found[: page.size]],
            next_page_token=page.next_token((str(last.resource), last.relation, str(last.subject)) if last else None),
            consistency_token=token,
        )

    async def DeleteRelationships(
        self, request: pb.DeleteRelationshipsRequest, context: Any
    ) -> pb.DeleteRelationshipsResponse:
        if space := messages.own_space(request.space):
            return await self._in_spaces.delete(space, request)
        wanted, preconditions = (
            messages.relationship_filter(request.filter),
            messages.preconditions(request.preconditions),
        )
        return await self._relationships.delete(
            current(),
            wanted,
            preconditions,
            lambda count, token: pb.DeleteRelationshipsResponse(deleted_count=count, consistency_token=token),
        )

    async def GrantRole(self, request: pb.GrantRoleRequest, context: Any) -> pb.GrantRoleResponse:
        return await self._roles.grant(
            current(),
            messages.grant(request),
            lambda binding, token: pb.GrantRoleResponse(
                role_binding=messages.from_binding(binding), consistency_token=token
            ),
        )

    async def ClaimOwnership(self, request: pb.ClaimOwnershipRequest, context: Any) -> pb.ClaimOwnershipResponse:
        return await self._ownership.claim(
            current(),
            request.code,
            lambda binding, token: pb.ClaimOwnershipResponse(
                role_binding=messages.from_binding(binding), consistency_token=token
            ),
        )

    async def RevokeRole(self, request: pb.RevokeRoleRequest, context: Any) -> pb.RevokeRoleResponse:
        return await self._roles.revoke(
            current(), request.name, request.etag, lambda token: pb.RevokeRoleResponse(consistency_token=token)
        )

    async def ListRoleBindings(self, request: pb.ListRoleBindingsRequest, context: Any) -> pb.ListRoleBindingsResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        wanted = Wanted(request.resource, request.subject, domain.role_id(request.role))
        after = str(page.after[0]) if page.after else ""
        consistency = messages.consistency(request.consistency)
        found, token = await self._roles.bindings(caller, wanted, consistency, page.size + 1, after)
        more = len(found) > page.size
        return pb.ListRoleBindingsResponse(
            role_bindings=[messages.from_binding(each) for each in found[: page.size]],
            next_page_token=page.next_token((found[page.size - 1].id,) if more else None),
            consistency_token=token,
        )

    async def GetRoleBinding(self, request: pb.GetRoleBindingRequest, context: Any) -> pb.RoleBinding:
        return messages.from_binding(await self._roles.binding(current(), request.name))

    async def CreateRole(self, request: pb.CreateRoleRequest, context: Any) -> pb.Role:
        return await self._roles.create(current(), messages.role_draft(request.role), messages.from_role)

    async def GetRole(self, request: pb.GetRoleRequest, context: Any) -> pb.Role:
        return messages.from_role(await self._roles.get(current(), domain.role_id(request.name)))

    async def ListRoles(self, request: pb.ListRolesRequest, context: Any) -> pb.ListRolesResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        found = await self._roles.list(caller, page.size + 1, str(page.after[0]) if page.after else "")
        roles = [messages.from_role(each) for each in found[: page.size]]
        last = (found[page.size - 1].id,) if len(found) > page.size else None
        return pb.ListRolesResponse(roles=roles, next_page_token=page.next_token(last))

    async def UpdateRole(self, request: pb.UpdateRoleRequest, context: Any) -> pb.Role:
        role_id, patch = domain.role_id(request.role.name), messages.role_patch(request)
        return await self._roles.update(current(), role_id, patch, request.role.etag, messages.from_role)

    async def DeleteRole(self, request: pb.DeleteRoleRequest, context: Any) -> pb.DeleteRoleResponse:
        return await self._roles.delete(
            current(),
            domain.role_id(request.name),
            request.etag,
            lambda token: pb.DeleteRoleResponse(consistency_token=token),
        )

    async def SetInheritance(self, request: pb.SetInheritanceRequest, context: Any) -> pb.SetInheritanceResponse:
        return await self._roles.set_inheritance(
            current(),
            messages.inheritance(request),
            lambda stored, token: pb.SetInheritanceResponse(
                inheritance=messages.from_inheritance(stored), consistency_token=token
            ),
        )
