"""The written cases of tests/unit/authorization/corpus, asked of the service: tried by TestSchema, and stored."""

from pathlib import Path

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.authorization.facts import Verdict
from tests.contract.permission.asking import Asking, Under, message, struct, verdict
from tests.contract.permission.conftest import NewSpace
from tests.unit.authorization import cases


def _expected(found: Verdict) -> pb.Decision.Result:
    if isinstance(found, bool):
        return pb.Decision.RESULT_ALLOWED if found else pb.Decision.RESULT_DENIED
    return pb.Decision.RESULT_CONDITIONAL


def _assertion(each: cases.Expected) -> pb.SchemaAssertion:
    check = {"resource": each.resource, "permission": each.relation, "subject": each.subject}
    return pb.SchemaAssertion(check={**check, "context": struct(each.context)}, expected=_expected(each.verdict))


async def _tried(space: Asking, case: cases.Case) -> None:
    request = pb.TestSchemaRequest(
        schema={"text": case.model},
        relationships=map(message, case.relationships),
        assertions=map(_assertion, case.checks),
    )
    tried = await space.stub.TestSchema(request, metadata=space.metadata)
    assert tried.passed, [each.sentence for each in tried.results if not each.passed]
    assert [verdict(each.actual.decision) for each in tried.results] == [each.verdict for each in case.checks]


async def _asked(space: Asking, case: cases.Case) -> None:
    for each in case.checks:
        question, under = (each.resource, each.relation, each.subject), Under(context=each.context)
        assert await space.check(question, under) == each.verdict, question
        assert verdict((await space.explain(question, under)).decision) == each.verdict, question
    for listed in case.resources:
        found = await space.resources(listed.kind, listed.relation, listed.about, Under(context=listed.context))
        assert list(found) == listed.entries, listed
    for listed in case.subjects:
        found = await space.subjects(listed.about, listed.relation, listed.kind, Under(context=listed.context))
        assert list(found) == listed.entries, listed


@pytest.mark.parametrize("file", cases.FILES, ids=lambda file: file.stem)
async def test_written_cases_are_answered_as_their_authors_say(new_space: NewSpace, file: Path) -> None:
    case, space = cases.read(file), await new_space()
    await _tried(space, case)
    await space.stub.WriteSchema(pb.WriteSchemaRequest(space=space.space, source=case.model), metadata=space.metadata)
    touch = pb.RelationshipUpdate.OPERATION_TOUCH
    updates = [pb.RelationshipUpdate(operation=touch, relationship=message(each)) for each in case.relationships]
    await space.stub.WriteRelationships(
        pb.WriteRelationshipsRequest(updates=updates, space=space.space), metadata=space.metadata
    )
    await _asked(space, case)
