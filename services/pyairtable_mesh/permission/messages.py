"""Protos to domain objects and back; the only place besides the servicer that knows the generated messages."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from pyairtable.permission.v1 import events_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import domain
from pyairtable_mesh.permission.domain import Operation, Relationship, Resource, Role, RoleBinding, ScopeMode, Subject
from pyairtable_mesh.permission.explanation import Explanation, StepKind
from pyairtable_mesh.permission.usecases.changes import Changed, Inheritance
from pyairtable_mesh.permission.usecases.checks import Circumstances, Effective, Question
from pyairtable_mesh.permission.usecases.consistency import NOW, Consistency
from pyairtable_mesh.permission.usecases.roles import Grant, RolePatch
from pyairtable_mesh.runtime import moments, status
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError

_PLATFORM = {"", "modelSpaces/platform"}
_OPERATIONS = {
    pb.RelationshipUpdate.OPERATION_CREATE: Operation.CREATE,
    pb.RelationshipUpdate.OPERATION_TOUCH: Operation.TOUCH,
    pb.RelationshipUpdate.OPERATION_DELETE: Operation.DELETE,
}
_MODES = {
    pb.SCOPE_MODE_INHERIT: ScopeMode.INHERIT,
    pb.SCOPE_MODE_RESTRICT: ScopeMode.RESTRICT,
    pb.SCOPE_MODE_OVERRIDE: ScopeMode.OVERRIDE,
}
_MODE_NUMBERS = {mode: number for number, mode in _MODES.items()}
_STEPS = {
    StepKind.MEMBERSHIP: pb.ExplanationStep.KIND_MEMBERSHIP,
    StepKind.ROLE_BINDING: pb.ExplanationStep.KIND_ROLE_BINDING,
    StepKind.INHERITANCE: pb.ExplanationStep.KIND_INHERITANCE,
}
_MUTABLE = ("display_name", "description", "permissions")


class _Asks(Protocol):
    @property
    def resource(self) -> str: ...
    @property
    def permission(self) -> str: ...
    @property
    def subject(self) -> str: ...


def question(asked: _Asks) -> Question:
    """The question of a request or of an item."""
    return Question(asked.resource, asked.permission, asked.subject)


def circumstances(contextual: Sequence[pb.Relationship], wanted: pb.Consistency, space: str = "") -> Circumstances:
    """What a check is asked under; `InvalidArgument` for another model space than the platform's."""
    require_platform(space)
    stored = [relationship(each, f"contextual_relationships[{at}]") for at, each in enumerate(contextual)]
    return Circumstances(stored, consistency(wanted))


def require_platform(space: str) -> None:
    """`InvalidArgument` for a model space that is not there."""
    if space not in _PLATFORM:
        raise InvalidArgument.of_field("space", f"there is no {space}", reason="UNKNOWN_MODEL_SPACE")


def consistency(wanted: pb.Consistency) -> Consistency:
    """The present, unless a token says more."""
    match wanted.WhichOneof("requirement"):
        case "at_least_as_fresh":
            return Consistency(wanted.at_least_as_fresh)
        case "at_exact_snapshot":
            return Consistency(wanted.at_exact_snapshot, exact=True)
        case _:
            return NOW


def relationship(message: pb.Relationship, field: str) -> Relationship:
    """A relationship; `field` is where it stands in the request."""
    _refuse_condition(message.HasField("condition"), f"{field}.condition")
    return Relationship(
        Resource.parse(message.resource, f"{field}.resource"),
        message.relation,
        Subject.parse(message.subject, f"{field}.subject"),
        _time(message.expire_time, f"{field}.expire_time") if message.HasField("expire_time") else None,
    )


def updates(messages: Iterable[pb.RelationshipUpdate]) -> list[domain.Update]:
    """The changes of a write."""
    return [
        domain.Update(_OPERATIONS[each.operation], relationship(each.relationship, f"updates[{at}].relationship"))
        for at, each in enumerate(messages)
    ]


def relationship_filter(message: pb.RelationshipFilter) -> domain.Filter:
    """A filter."""
    return domain.Filter(
        message.resource_type, message.resource, message.relation, message.subject_type, message.subject
    )


def preconditions(messages: Iterable[pb.Precondition]) -> list[domain.Precondition]:
    """The preconditions of a write."""
    must = pb.Precondition.OPERATION_MUST_MATCH
    return [domain.Precondition(relationship_filter(each.filter), each.operation == must) for each in messages]


def grant(request: pb.GrantRoleRequest) -> Grant:
    """What to bind."""
    _refuse_condition(request.HasField("condition"), "condition")
    expire_time = _time(request.expire_time, "expire_time") if request.HasField("expire_time") else None
    return Grant(
        domain.role_id(request.role), Resource.parse(request.resource), Subject.parse(request.subject), expire_time
    )


def role_draft(message: pb.Role) -> Role:
    """A role that has no name yet."""
    return Role("", message.display_name, frozenset(message.permissions), message.description)


def role_patch(request: pb.UpdateRoleRequest) -> RolePatch:
    """The masked fields; without a mask those that are set. `InvalidArgument` for one that cannot be changed."""
    message = request.role
    paths = set(request.update_mask.paths) or {each for each in _MUTABLE if getattr(message, each)}
    if "*" in paths:
        paths = set(_MUTABLE)
    if unknown := sorted(paths.difference(_MUTABLE)):
        words = f"{unknown[0]!r} is not one of {', '.join(_MUTABLE)}"
        raise InvalidArgument.of_field("update_mask", words, reason="FIELD_NOT_MUTABLE")
    return RolePatch(
        message.display_name if "display_name" in paths else None,
        message.description if "description" in paths else None,
        frozenset(message.permissions) if "permissions" in paths else None,
    )


def inheritance(request: pb.SetInheritanceRequest) -> Inheritance:
    """The scope mode to set."""
    return Inheritance(Resource.parse(request.resource), _MODES[request.mode])


def from_decision(allowed: bool, token: str = "") -> pb.Decision:
    """An answer."""
    result = pb.Decision.RESULT_ALLOWED if allowed else pb.Decision.RESULT_DENIED
    return pb.Decision(result=result, consistency_token=token)


def from_result(result: bool | MeshError) -> pb.CheckResult:
    """The answer to one question of many, or why there is none."""
    if isinstance(result, MeshError):
        return pb.CheckResult(error=status.to_status(result))
    return pb.CheckResult(decision=from_decision(result))


def from_explanation(explained: Explanation, token: str) -> pb.ExplainPermissionResponse:
    """An answer with its reasons."""
    return pb.ExplainPermissionResponse(
        decision=from_decision(explained.allowed, token),
        sentence=explained.sentence,
        path=[
            pb.ExplanationStep(
                kind=_STEPS[step.kind],
                object=step.object,
                relation=step.relation,
                subject=step.subject,
                role_binding=domain.binding_name(step.role_binding) if step.role_binding else "",
            )
            for step in explained.path
        ],
        missing_grants=[
            pb.MissingGrant(resource=each.resource, role=each.role, permission=each.permission)
            for each in explained.missing
        ],
    )


def from_effective(effective: Effective, token: str) -> pb.GetEffectivePermissionsResponse:
    """All that a subject may do."""
    fields = [pb.FieldPermissions(field=field, permissions=verbs) for field, verbs in effective.fields.items()]
    return pb.GetEffectivePermissionsResponse(
        permissions=effective.verbs,
        inherited_permissions=effective.below,
        field_permissions=fields,
        consistency_token=token,
    )


def from_relationship(stored: Relationship) -> pb.Relationship:
    """A relationship."""
    return pb.Relationship(
        resource=str(stored.resource),
        relation=stored.relation,
        subject=str(stored.subject),
        expire_time=_timestamp(stored.expire_time),
    )


def from_binding(binding: RoleBinding) -> pb.RoleBinding:
    """A role binding."""
    return pb.RoleBinding(
        name=binding.name,
        role=domain.role_name(binding.role),
        resource=str(binding.resource),
        subject=str(binding.subject),
        expire_time=_timestamp(binding.expire_time),
        etag=binding.etag,
        create_time=_timestamp(binding.create_time),
        creator=binding.creator,
    )


def from_role(role: Role, token: str = "") -> pb.Role:
    """A role; `token` in the answer to a write."""
    return pb.Role(
        name=role.name,
        display_name=role.display_name,
        description=role.description,
        permissions=sorted(role.permissions),
        system=role.is_system,
        etag=role.etag,
        create_time=_timestamp(role.create_time),
        update_time=_timestamp(role.update_time),
        creator=role.creator,
        consistency_token=token,
    )


def from_inheritance(inheritance: Inheritance) -> pb.Inheritance:
    """A scope mode."""
    return pb.Inheritance(resource=str(inheritance.resource), mode=_MODE_NUMBERS[inheritance.mode])


def changed(changes: Sequence[Changed]) -> events_pb2.PermissionsChanged:
    """The data of an event."""
    return events_pb2.PermissionsChanged(changes=[_change(each) for each in changes])


def _change(change: Changed) -> pb.PermissionChange:
    kind = pb.PermissionChange.KIND_PUT if change.kept else pb.PermissionChange.KIND_DELETE
    match change.what:
        case Relationship():
            return pb.PermissionChange(kind=kind, relationship=from_relationship(change.what))
        case RoleBinding():
            return pb.PermissionChange(kind=kind, role_binding=from_binding(change.what))
        case Role():
            return pb.PermissionChange(kind=kind, role=from_role(change.what))
        case Inheritance():
            return pb.PermissionChange(kind=kind, inheritance=from_inheritance(change.what))


def _refuse_condition(given: bool, field: str) -> None:
    if given:
        words = "the platform's schema has no conditions"
        raise InvalidArgument.of_field(field, words, reason="UNKNOWN_CONDITION")


def _time(message: Timestamp, field: str) -> datetime:
    try:
        return moments.from_timestamp(message)
    except (ValueError, OverflowError):
        raise InvalidArgument.of_field(field, "must be a time of the years 1 to 9999") from None


def _timestamp(time: datetime | None) -> Timestamp | None:
    return moments.to_timestamp(time) if time is not None else None
