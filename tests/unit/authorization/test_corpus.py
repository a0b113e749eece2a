"""Written cases in the form of OpenFGA's store tests: a file each in corpus/, with a model, tuples and answers.

One thing is added to that form: where an answer hangs on context that the check does not bring, the assertion is the
list of its names. To add a case, add a file.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyairtable_mesh.runtime.authorization.explanation import explain
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Relationship, Term
from pyairtable_mesh.runtime.authorization.language import document
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.lookup import lookup_resources, lookup_subjects
from pyairtable_mesh.runtime.authorization.relations import RelationEngine

CASES = sorted((Path(__file__).parent / "corpus").glob("*.yaml"))


def read(case: Path) -> tuple[RelationEngine, dict[str, Any]]:
    content = yaml.safe_load(case.read_text(encoding="utf-8"))
    engine = RelationEngine(parse(content["model"]))
    changes = [Change(relationship(each)) for each in content["tuples"]]
    engine.validate(changes)
    engine.apply(1, changes)
    return engine, content


def relationship(each: dict[str, Any]) -> Relationship:
    condition = each.get("condition", {})
    term = Term(condition.get("name", ""), condition.get("context", {}))
    return Relationship(each["object"], each["relation"], each["user"], term)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_written_cases_are_answered_as_their_authors_say(case: Path) -> None:
    engine, content = read(case)
    assert any(test.get("check") for test in content["tests"])
    for test in content["tests"]:
        for each in test.get("check", ()):
            given = Circumstances(0.0, each.get("context", {}))
            for relation, expected in each["assertions"].items():
                question = each["object"], relation, each["user"]
                decision = engine.check(question, given)
                found = sorted(decision.missing) if decision.missing else decision.allowed
                assert found == expected, question
                assert explain(engine, question, given).decision == decision
        for each in test.get("list_objects", ()):
            given = Circumstances(0.0, each.get("context", {}))
            for relation, expected in each["assertions"].items():
                listing = lookup_resources(engine, each["type"], relation, each["user"], given)
                assert [found.reference for found in listing.entries] == expected, (relation, each["user"])
        for each in test.get("list_users", ()):
            for relation, expected in each["assertions"].items():
                kind = each["user_filter"][0]["type"]
                listing = lookup_subjects(engine, each["object"], relation, kind, Circumstances(0.0))
                assert [found.reference for found in listing.entries] == expected["users"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_models_survive_printing_and_their_document(case: Path) -> None:
    schema = read(case)[0].schema
    assert parse(str(schema)) == schema
    assert document.from_document(document.to_document(schema)) == schema
