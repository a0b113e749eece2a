"""The callers, resources and requests that the tests of this folder speak of."""

from typing import Any

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from tests.contract.permission.serving import bearer
from tests.unit.permission.world import ALICE, BOB, CAROL, TENANT_ID, ref

Stub = permission_pb2_grpc.PermissionServiceStub
OWNER, VIEWER, STRANGER = (bearer(each, TENANT_ID) for each in (ALICE, BOB, CAROL))
ELSEWHERE = bearer(ALICE, "ten" + "2" * 26)
TENANT_SERVICE = bearer("tenant")
GROUP, FIELD = ref("group"), ref("field")
CREATE = pb.RelationshipUpdate.OPERATION_CREATE


def grant(role: str, resource: str, subject: str, **more: Any) -> pb.GrantRoleRequest:
    return pb.GrantRoleRequest(role=role, resource=resource, subject=subject, **more)


def update(
    resource: str,
    relation: str,
    subject: str,
    operation: pb.RelationshipUpdate.Operation = CREATE,
    condition: pb.ConditionReference | None = None,
) -> pb.RelationshipUpdate:
    relationship = pb.Relationship(resource=resource, relation=relation, subject=subject, condition=condition)
    return pb.RelationshipUpdate(operation=operation, relationship=relationship)


def condition(**values: Any) -> pb.ConditionReference:
    """The platform's condition, with values stored for its parameters."""
    found = pb.ConditionReference(name="in_network")
    found.context.update(values)
    return found


def check(resource: str, permission: str, subject: str = "", **more: Any) -> pb.CheckPermissionRequest:
    return pb.CheckPermissionRequest(resource=resource, permission=permission, subject=subject, **more)


def write(*updates: pb.RelationshipUpdate, **more: Any) -> pb.WriteRelationshipsRequest:
    return pb.WriteRelationshipsRequest(updates=updates, **more)
