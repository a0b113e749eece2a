"""Changes of the permission service's stream, as the engine takes them."""

from google.protobuf.json_format import MessageToDict

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.authorization import (
    Binding,
    BindingChange,
    Change,
    ModeChange,
    Relationship,
    RoleChange,
    ScopedChange,
    ScopeMode,
    Term,
)
from pyairtable_mesh.runtime.authorization.facts import ALWAYS

_MODES = {
    pb.SCOPE_MODE_INHERIT: ScopeMode.INHERIT,
    pb.SCOPE_MODE_RESTRICT: ScopeMode.RESTRICT,
    pb.SCOPE_MODE_OVERRIDE: ScopeMode.OVERRIDE,
}


def change(message: pb.PermissionChange) -> ScopedChange:
    """The change; ValueError for one of a kind that this release does not know."""
    if message.kind not in {pb.PermissionChange.KIND_PUT, pb.PermissionChange.KIND_DELETE}:
        raise ValueError("a change is neither put nor deleted")
    removed = message.kind == pb.PermissionChange.KIND_DELETE
    match message.WhichOneof("subject"):
        case "relationship":
            link = message.relationship
            return Change(Relationship(link.resource, link.relation, link.subject, _term(link)), removed)
        case "role_binding":
            return BindingChange(_binding(message.role_binding), removed)
        case "role":
            role = message.role
            return RoleChange(role.name.removeprefix("roles/"), None if removed else frozenset(role.permissions))
        case "inheritance":
            set_to = ScopeMode.INHERIT if removed else _MODES[message.inheritance.mode]
            return ModeChange(message.inheritance.resource, set_to)
        case _:
            raise ValueError("a change of nothing that is known here")


def _binding(bound: pb.RoleBinding) -> Binding:
    return Binding(
        bound.name.removeprefix("roleBindings/"),
        bound.role.removeprefix("roles/"),
        bound.resource,
        bound.subject,
        _term(bound),
    )


def _term(carrier: pb.Relationship | pb.RoleBinding) -> Term:
    # Most have neither, and one object for all of these is most of what they cost.
    conditional, expires = carrier.HasField("condition"), carrier.HasField("expire_time")
    if not conditional and not expires:
        return ALWAYS
    context = MessageToDict(carrier.condition.context) if conditional else {}
    return Term(carrier.condition.name, context, carrier.expire_time.ToNanoseconds() / 1e9 if expires else None)
