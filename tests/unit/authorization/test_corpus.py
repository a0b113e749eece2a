"""The written cases (cases.py), asked of the engine."""

from pathlib import Path

import pytest

from pyairtable_mesh.runtime.authorization.explanation import explain
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances
from pyairtable_mesh.runtime.authorization.language import document
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.lookup import lookup_resources, lookup_subjects
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from tests.unit.authorization import cases


def engine_of(case: cases.Case) -> RelationEngine:
    engine = RelationEngine(parse(case.model))
    changes = list(map(Change, case.relationships))
    engine.validate(changes)
    engine.apply(1, changes)
    return engine


@pytest.mark.parametrize("file", cases.FILES, ids=lambda file: file.stem)
def test_written_cases_are_answered_as_their_authors_say(file: Path) -> None:
    case = cases.read(file)
    engine = engine_of(case)
    for each in case.checks:
        given = Circumstances(0.0, each.context)
        question = each.resource, each.relation, each.subject
        decision = engine.check(question, given)
        assert (decision.missing or decision.allowed) == each.verdict, question
        assert explain(engine, question, given).decision == decision
    for listed in case.resources:
        found = lookup_resources(engine, listed.kind, listed.relation, listed.about, Circumstances(0.0, listed.context))
        assert [each.reference for each in found.entries] == listed.entries, listed
    for listed in case.subjects:
        kind, _, relation = listed.kind.partition("#")
        given = Circumstances(0.0, listed.context)
        found = lookup_subjects(engine, listed.about, listed.relation, kind, given, subject_relation=relation)
        assert [each.reference for each in found.entries] == listed.entries, listed


@pytest.mark.parametrize("file", cases.FILES, ids=lambda file: file.stem)
def test_models_survive_printing_and_their_document(file: Path) -> None:
    schema = parse(cases.read(file).model)
    assert parse(str(schema)) == schema
    assert document.from_document(document.to_document(schema)) == schema


@pytest.mark.parametrize("file", cases.FILES, ids=lambda file: file.stem)
def test_a_failure_that_is_written_down_is_a_case_that_reads_the_same(file: Path, tmp_path: Path) -> None:
    case = cases.read(file)
    schema = parse(case.model)
    for number, expected in enumerate(case.checks):
        written = tmp_path / f"{number}.yaml"
        written.write_text(cases.written(schema, case.relationships, expected))
        again = cases.read(written)
        assert (again.model, again.relationships, again.checks) == (str(schema), case.relationships, [expected])
