"""Answers TestSchema and DiffSchemas in this process, for a checkout or a pipeline without a platform."""

from contextlib import suppress
from dataclasses import replace

from google.protobuf import json_format
from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.runtime import status
from pyairtable_mesh.runtime.authorization import Change, Circumstances, Decision, RelationEngine, Relationship, Term
from pyairtable_mesh.runtime.authorization.explanation import explain
from pyairtable_mesh.runtime.authorization.language.difference import Kind, differences
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError

_KINDS = {
    Kind.ADDED: pb.SchemaDifference.KIND_ADDED,
    Kind.REMOVED: pb.SchemaDifference.KIND_REMOVED,
    Kind.CHANGED: pb.SchemaDifference.KIND_CHANGED,
}


class LocalSchemas:
    """Stands where a `Client` does; `now` is the time of all questions, in Unix seconds."""

    def __init__(self, now: float) -> None:
        self._now = now

    async def ask(self, request: Message, answer: type[rpc.Answer]) -> rpc.Answer:
        """Answer as the server would. Raises `CallError`."""
        try:
            response: Message
            match request:
                case pb.TestSchemaRequest():
                    response = self._tried(request)
                case pb.DiffSchemasRequest():
                    response = _compared(request)
                case _:
                    raise TypeError(f"{request.DESCRIPTOR.name} is not answered locally")
        except MeshError as error:
            raise CallError(status.to_status(error)) from None
        assert isinstance(response, answer)
        return response

    def _tried(self, request: pb.TestSchemaRequest) -> pb.TestSchemaResponse:
        engine = RelationEngine(parse(request.schema.text))
        changes = [Change(_relationship(each)) for each in request.relationships]
        engine.validate(changes, "relationships")
        engine.apply(1, changes)
        results = [self._asserted(engine, each) for each in request.assertions]
        return pb.TestSchemaResponse(results=results, passed=all(each.passed for each in results))

    def _asserted(self, engine: RelationEngine, assertion: pb.SchemaAssertion) -> pb.AssertionResult:
        check = assertion.check
        question = (check.resource, check.permission, check.subject)
        given = Circumstances(self._now, json_format.MessageToDict(check.context))
        try:
            decision = _decision(engine.check(question, given))
        except MeshError as error:
            return pb.AssertionResult(actual=pb.CheckResult(error=status.to_status(error)), sentence=error.message)
        sentence = ""
        with suppress(MeshError):  # a reason may cost more than an answer
            sentence = explain(engine, question, given).sentence
        passed = decision.result == assertion.expected
        return pb.AssertionResult(passed=passed, actual=pb.CheckResult(decision=decision), sentence=sentence)


def _relationship(message: pb.Relationship) -> Relationship:
    term = Term(message.condition.name, json_format.MessageToDict(message.condition.context))
    return Relationship(message.resource, message.relation, message.subject, term)


def _decision(decision: Decision) -> pb.Decision:
    if decision.missing:
        return pb.Decision(result=pb.Decision.RESULT_CONDITIONAL, missing_context=sorted(decision.missing))
    return pb.Decision(result=pb.Decision.RESULT_ALLOWED if decision.allowed else pb.Decision.RESULT_DENIED)


def _schema(source: pb.SchemaSource, field: str) -> Schema:
    """One of several schemas of a request. Raises `InvalidArgument` that says which."""
    try:
        return parse(source.text)
    except InvalidArgument as error:
        violations = [replace(each, field=f"{field}.text") for each in error.violations]
        raise InvalidArgument(f"{field}: {error.message}", violations, reason=error.reason) from None


def _compared(request: pb.DiffSchemasRequest) -> pb.DiffSchemasResponse:
    found = differences(_schema(request.before, "before"), _schema(request.after, "after"))
    return pb.DiffSchemasResponse(
        differences=[
            pb.SchemaDifference(kind=_KINDS[each.kind], element=each.element, before=each.before, after=each.after)
            for each in found
        ]
    )
