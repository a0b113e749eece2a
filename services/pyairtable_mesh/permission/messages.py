"""Protos to domain objects and back; the only place besides the servicer that knows the generated messages."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from pyairtable.permission.v1 import events_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import domain
from pyairtable_mesh.permission.domain import (
    Changed,
    Inheritance,
    Operation,
    Relationship,
    Resource,
    Role,
    RoleBinding,
    SchemaVersion,
    ScopeMode,
    SpaceRelationship,
    Subject,
)
from pyairtable_mesh.permission.usecases.checks import PLAIN, Circumstances, Effective, Question
from pyairtable_mesh.permission.usecases.consistency import NEAREST, NEWEST, Consistency
from pyairtable_mesh.permission.usecases.lookups import Part, Place
from pyairtable_mesh.permission.usecases.roles import Grant, RolePatch
from pyairtable_mesh.runtime import moments, status
from pyairtable_mesh.runtime.authorization import Decision, Found
from pyairtable_mesh.runtime.authorization.explanation import Node
from pyairtable_mesh.runtime.authorization.scope_explanation import ScopedExplanation, Step
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError

_PLATFORM = {"", "modelSpaces/platform"}
OPERATIONS = {
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
    "membership": pb.ExplanationStep.KIND_MEMBERSHIP,
    "role_binding": pb.ExplanationStep.KIND_ROLE_BINDING,
    "inheritance": pb.ExplanationStep.KIND_INHERITANCE,
}
_DECIDED = {
    allowed: pb.CheckResult(decision=pb.Decision(result=result))
    for allowed, result in ((True, pb.Decision.RESULT_ALLOWED), (False, pb.Decision.RESULT_DENIED))
}
_ONE_DECIDED = {
    allowed: pb.BatchCheckPermissionsResponse(results=[each]).SerializeToString() for allowed, each in _DECIDED.items()
}
_OPERATIONS_OF_NODES = {
    "leaf": pb.ExpansionNode.OPERATION_LEAF,
    "union": pb.ExpansionNode.OPERATION_UNION,
    "intersection": pb.ExpansionNode.OPERATION_INTERSECTION,
    "exclusion": pb.ExpansionNode.OPERATION_EXCLUSION,
}
_NO_CONTEXT: Mapping[str, Any] = {}
_MUTABLE = ("display_name", "description", "permissions")


class _HasContext(Protocol):
    @property
    def context(self) -> Struct: ...
    def HasField(self, field_name: Literal["context"], /) -> bool: ...


class _Asks(_HasContext, Protocol):
    @property
    def resource(self) -> str: ...
    @property
    def permission(self) -> str: ...
    @property
    def subject(self) -> str: ...


def question(asked: _Asks) -> Question:
    """The question of a request or of an item."""
    values = context(asked) if asked.HasField("context") else _NO_CONTEXT
    return Question(asked.resource, asked.permission, asked.subject, values)


def context(asked: _HasContext) -> Mapping[str, Any]:
    """The values for conditions."""
    return json_format.MessageToDict(asked.context) if asked.HasField("context") else _NO_CONTEXT


def circumstances(contextual: Sequence[pb.Relationship], wanted: pb.Consistency) -> Circumstances:
    """What a check is asked under."""
    stored = [relationship(each, f"contextual_relationships[{at}]") for at, each in enumerate(contextual)]
    seen = consistency(wanted)
    return Circumstances(stored, seen) if stored or seen is not NEAREST else PLAIN


def own_space(name: str) -> str:
    """The id of a model space of the tenant, ``spc…``; empty for the platform's."""
    return "" if name in _PLATFORM else name.removeprefix("modelSpaces/")


def consistency(wanted: pb.Consistency) -> Consistency:
    """What is nearest, unless more is asked for."""
    match wanted.WhichOneof("requirement"):
        case "at_least_as_fresh":
            return Consistency(wanted.at_least_as_fresh)
        case "at_exact_snapshot":
            return Consistency(wanted.at_exact_snapshot, exact=True)
        case "fully_consistent":
            return NEWEST
        case _:
            return NEAREST


def relationship(message: pb.Relationship, field: str) -> Relationship:
    """A relationship; `field` is where it stands in the request."""
    return Relationship(
        Resource.parse(message.resource, f"{field}.resource"),
        message.relation,
        Subject.parse(message.subject, f"{field}.subject"),
        time(message.expire_time, f"{field}.expire_time") if message.HasField("expire_time") else None,
        *condition(message.condition),
    )


def condition(message: pb.ConditionReference) -> tuple[str, str]:
    """The name of a condition and its values as JSON; both empty where there is none."""
    context = message.context
    return message.name, json.dumps(json_format.MessageToDict(context), sort_keys=True) if context.fields else ""


def updates(messages: Iterable[pb.RelationshipUpdate]) -> list[domain.Update]:
    """The changes of a write."""
    return [
        domain.Update(OPERATIONS[each.operation], relationship(each.relationship, f"updates[{at}].relationship"))
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
    return Grant(
        domain.role_id(request.role),
        Resource.parse(request.resource),
        Subject.parse(request.subject),
        time(request.expire_time, "expire_time") if request.HasField("expire_time") else None,
        *condition(request.condition),
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


def from_decision(decision: Decision, token: str = "") -> pb.Decision:
    """An answer."""
    result = pb.Decision.RESULT_ALLOWED if decision.allowed else pb.Decision.RESULT_DENIED
    if decision.missing:
        result = pb.Decision.RESULT_CONDITIONAL
    return pb.Decision(result=result, missing_context=sorted(decision.missing), consistency_token=token)


def from_result(result: Decision | MeshError) -> pb.CheckResult:
    """The answer to one question of many, or why there is none."""
    if isinstance(result, MeshError):
        return pb.CheckResult(error=status.to_status(result))
    return pb.CheckResult(decision=from_decision(result)) if result.missing else _DECIDED[result.allowed]


def from_results(results: Sequence[Decision | MeshError], token: str) -> pb.BatchCheckPermissionsResponse:
    """The answers to a batch.

    Messages of one type whose bytes stand behind each other are one message with the items of all, and reading it takes
    a seventh of the time that appending items does.
    """
    response = pb.BatchCheckPermissionsResponse.FromString(b"".join(map(_one_result, results)))
    response.consistency_token = token
    return response


def _one_result(result: Decision | MeshError) -> bytes:
    if isinstance(result, MeshError) or result.missing:
        return pb.BatchCheckPermissionsResponse(results=[from_result(result)]).SerializeToString()
    return _ONE_DECIDED[result.allowed]


def from_explanation(explained: ScopedExplanation, token: str) -> pb.ExplainPermissionResponse:
    """An answer with its reasons."""
    return pb.ExplainPermissionResponse(
        decision=from_decision(explained.decision, token),
        sentence=explained.sentence,
        path=[_step(each) for each in explained.path],
        missing_grants=[
            pb.MissingGrant(
                resource=each.resource,
                role=domain.role_name(each.role) if each.role else "",
                permission=each.permission,
            )
            for each in explained.missing
        ],
        failed_conditions=[
            pb.FailedCondition(
                condition=each.condition,
                carrier=each.carrier if "#" in each.carrier else domain.binding_name(each.carrier),
                missing_context=sorted(each.missing),
            )
            for each in explained.failed
        ],
    )


def _step(step: Step) -> pb.ExplanationStep:
    bound = step.kind == "role_binding"
    return pb.ExplanationStep(
        kind=_STEPS[step.kind],
        object=step.object,
        relation=domain.role_name(step.relation) if bound else step.relation,
        subject=step.subject,
        role_binding=domain.binding_name(step.binding) if bound else "",
    )


def from_effective(effective: Effective, token: str) -> pb.GetEffectivePermissionsResponse:
    """All that a subject may do."""
    return pb.GetEffectivePermissionsResponse(
        permissions=effective.verbs,
        inherited_permissions=effective.below,
        field_permissions=[
            pb.FieldPermissions(field=field, permissions=mask.verbs, conditional_permissions=_conditional(mask))
            for field, mask in effective.fields.items()
        ],
        consistency_token=token,
        conditional_permissions=_conditional(effective),
    )


def _conditional(effective: Effective) -> list[pb.ConditionalPermission]:
    return [
        pb.ConditionalPermission(permission=permission, missing_context=sorted(missing))
        for permission, missing in effective.conditional.items()
    ]


def from_relationship(stored: Relationship) -> pb.Relationship:
    """A relationship."""
    return pb.Relationship(
        resource=str(stored.resource),
        relation=stored.relation,
        subject=str(stored.subject),
        condition=_from_condition(stored),
        expire_time=_timestamp(stored.expire_time),
    )


def _from_condition(carrier: Relationship | RoleBinding | SpaceRelationship) -> pb.ConditionReference | None:
    if not carrier.condition:
        return None
    context = Struct()
    context.update(json.loads(carrier.context) if carrier.context else {})
    return pb.ConditionReference(name=carrier.condition, context=context)


def from_space_relationship(stored: SpaceRelationship) -> pb.Relationship:
    """A relationship of a model that a tenant brings."""
    return pb.Relationship(
        resource=stored.resource,
        relation=stored.relation,
        subject=stored.subject,
        condition=_from_condition(stored),
        expire_time=_timestamp(stored.expire_time),
    )


def from_binding(binding: RoleBinding) -> pb.RoleBinding:
    """A role binding."""
    return pb.RoleBinding(
        name=binding.name,
        role=domain.role_name(binding.role),
        resource=str(binding.resource),
        subject=str(binding.subject),
        condition=_from_condition(binding),
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


def from_resources(part: Part, cursor: Callable[[Place], str]) -> pb.LookupResourcesResponse:
    """A part of a list of resources, with the cursor behind it."""
    return pb.LookupResourcesResponse(
        resources=map(from_found_resource, part.entries), summary=_summary(part), cursor=_resuming(part, cursor)
    )


def from_subjects(part: Part, cursor: Callable[[Place], str]) -> pb.LookupSubjectsResponse:
    """The same of a list of subjects."""
    return pb.LookupSubjectsResponse(
        subjects=map(from_found_subject, part.entries), summary=_summary(part), cursor=_resuming(part, cursor)
    )


def _summary(part: Part) -> pb.LookupSummary | None:
    if part.complete is None:
        return None
    return pb.LookupSummary(count=part.place.count, complete=part.complete, consistency_token=part.token)


def _resuming(part: Part, cursor: Callable[[Place], str]) -> str:
    return "" if part.complete else cursor(part.place)


def from_found_resource(found: Found) -> pb.FoundResource:
    """An entry of a list of resources."""
    return pb.FoundResource(
        resource=found.reference, result=_found(found), missing_context=sorted(found.missing) if found.missing else ()
    )


def from_found_subject(found: Found) -> pb.FoundSubject:
    """An entry of a list of subjects."""
    return pb.FoundSubject(
        subject=found.reference,
        result=_found(found),
        missing_context=sorted(found.missing),
        excluded_subjects=found.excluded,
    )


def _found(found: Found) -> pb.Decision.Result.ValueType:
    return pb.Decision.RESULT_CONDITIONAL if found.missing else pb.Decision.RESULT_ALLOWED


def from_node(node: Node) -> pb.ExpansionNode:
    """A tree of subjects."""
    resource, _, relation = node.name.partition("#")
    return pb.ExpansionNode(
        operation=_OPERATIONS_OF_NODES[node.operation],
        resource=resource,
        relation=relation,
        subjects=node.subjects,
        children=map(from_node, node.children),
        truncated=node.truncated,
    )


def from_changes(changes: Sequence[Changed]) -> list[pb.PermissionChange]:
    """The changes of a revision; another schema is not one of relationships."""
    return [_change(each) for each in changes if not isinstance(each.what, SchemaVersion)]


def changed(changes: Sequence[Changed]) -> events_pb2.PermissionsChanged:
    """The data of an event."""
    return events_pb2.PermissionsChanged(changes=from_changes(changes))


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
        case SpaceRelationship():
            return pb.PermissionChange(kind=kind, relationship=from_space_relationship(change.what))
        case SchemaVersion():
            raise ValueError("a schema is no relationship")


def time(message: Timestamp, field: str) -> datetime:
    """A moment of a request; `InvalidArgument` on `field` for one that is out of range."""
    try:
        return moments.from_timestamp(message)
    except (ValueError, OverflowError):
        raise InvalidArgument.of_field(field, "must be a time of the years 1 to 9999") from None


def _timestamp(time: datetime | None) -> Timestamp | None:
    return moments.to_timestamp(time) if time is not None else None
