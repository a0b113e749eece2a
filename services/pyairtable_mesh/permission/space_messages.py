"""Protos to domain objects and back, for models that tenants bring."""

from collections.abc import Iterable, Sequence

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages
from pyairtable_mesh.permission.domain import ModelSpace, SchemaVersion, SpaceRelationship
from pyairtable_mesh.permission.usecases.schemas import Assertion, Outcome, Source
from pyairtable_mesh.permission.usecases.spaces import SpaceUpdate
from pyairtable_mesh.runtime import moments
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.authorization.explanation import Explanation
from pyairtable_mesh.runtime.authorization.language.difference import Difference, Kind
from pyairtable_mesh.runtime.errors import InvalidArgument, PermissionDenied

_KINDS = {
    Kind.ADDED: pb.SchemaDifference.KIND_ADDED,
    Kind.REMOVED: pb.SchemaDifference.KIND_REMOVED,
    Kind.CHANGED: pb.SchemaDifference.KIND_CHANGED,
}
_ANSWERS = {
    pb.Decision.RESULT_ALLOWED: "allowed",
    pb.Decision.RESULT_DENIED: "denied",
    pb.Decision.RESULT_CONDITIONAL: "conditional",
}


def changeable(name: str) -> str:
    """The id of a space whose schema may be written."""
    space = messages.own_space(name)
    if not space:
        words = "the platform's schema is changed by a release only: create a model space of your own"
        raise PermissionDenied(words, metadata={"resource": name})
    return space


def relationships(found: Iterable[pb.Relationship], field: str) -> list[SpaceRelationship]:
    """The relationships of a request."""
    return [relationship(each, f"{field}[{index}]") for index, each in enumerate(found)]


def relationship(message: pb.Relationship, field: str) -> SpaceRelationship:
    """A relationship; `field` is where it stands in the request."""
    expires = messages.time(message.expire_time, f"{field}.expire_time") if message.HasField("expire_time") else None
    condition, context = messages.condition(message.condition)
    return SpaceRelationship(message.resource, message.relation, message.subject, condition, context, expires)


def updates(found: Iterable[pb.RelationshipUpdate]) -> list[SpaceUpdate]:
    """The changes of a write."""
    return [
        SpaceUpdate(messages.OPERATIONS[each.operation], relationship(each.relationship, f"updates[{at}].relationship"))
        for at, each in enumerate(found)
    ]


def source(message: pb.SchemaSource) -> Source:
    """A schema by name or as text."""
    return Source(message.name.removeprefix("schemas/"), message.text)


def assertion(message: pb.SchemaAssertion) -> Assertion:
    """What a check must answer."""
    expected = _ANSWERS.get(message.expected)
    if expected is None:
        raise InvalidArgument.of_field("assertions.expected", "must be an answer")
    return Assertion(messages.question(message.check), expected)


def from_space(space: ModelSpace) -> pb.ModelSpace:
    """A model space."""
    return pb.ModelSpace(
        name=space.name,
        display_name=space.display_name,
        etag=f"{space.revision:x}",
        create_time=moments.to_timestamp(space.create_time) if space.create_time else None,
        creator=space.creator,
    )


def from_schema(version: SchemaVersion, *, whole: bool = True) -> pb.Schema:
    """A version of a schema, with its source where it is wanted `whole`."""
    return pb.Schema(
        name=version.name,
        space=f"modelSpaces/{version.space}",
        source=version.source if whole else "",
        create_time=moments.to_timestamp(version.create_time) if version.create_time else None,
        creator=version.creator,
    )


def from_difference(found: Difference, orphans: int) -> pb.SchemaDifference:
    """One difference."""
    return pb.SchemaDifference(
        kind=_KINDS[found.kind],
        element=found.element,
        before=found.before,
        after=found.after,
        orphaned_relationships=orphans,
    )


def from_outcome(asserted: pb.SchemaAssertion, outcome: Outcome) -> pb.AssertionResult:
    """What one assertion gave."""
    actual, asked = outcome.actual, asserted.check
    found = from_answer(actual) if isinstance(actual, Decision) else f"an error ({actual.reason})"
    words = f"{asked.subject or 'the caller'} as {asked.permission} of {asked.resource}: {found}"
    if not outcome.passed:
        words += f", and {_ANSWERS[asserted.expected]} was expected"
    return pb.AssertionResult(passed=outcome.passed, actual=messages.from_result(actual), sentence=f"{words}.")


def from_answer(decision: Decision) -> str:
    """An answer in a word."""
    return _ANSWERS[messages.from_decision(decision).result]


def from_explanation(found: Explanation, token: str) -> pb.ExplainPermissionResponse:
    """An answer with its reasons."""
    return pb.ExplainPermissionResponse(
        decision=messages.from_decision(found.decision, token),
        sentence=found.sentence,
        path=[
            pb.ExplanationStep(
                kind=pb.ExplanationStep.KIND_RELATIONSHIP,
                object=each.object,
                relation=each.relation,
                subject=each.subject,
            )
            for each in found.path
        ],
        missing_grants=[pb.MissingGrant(resource=each.object, permission=each.relation) for each in found.missing],
        failed_conditions=_failed(found),
    )


def _failed(found: Explanation) -> Sequence[pb.FailedCondition]:
    return [
        pb.FailedCondition(condition=each.condition, carrier=each.carrier, missing_context=sorted(each.missing))
        for each in found.failed
    ]
