"""Written cases in the form of OpenFGA's store tests: a file each in corpus/, with a model, tuples and answers.

One thing is added to that form: where an answer hangs on context that the check does not bring, the assertion is the
list of its names. To add a case, add a file: all suites that run the corpus find it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pyairtable_mesh.runtime.authorization.facts import Relationship, Term, Verdict
from pyairtable_mesh.runtime.authorization.language.syntax import Schema

# In C where libyaml is there: ten times as quick, and the files are read often.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

FILES = sorted((Path(__file__).parent / "corpus").glob("*.yaml"))


T = TypeVar("T")


@dataclass(frozen=True)
class Expected:
    """An answer that the authors state."""

    resource: str
    relation: str
    subject: str
    context: Mapping[str, Any]
    verdict: Verdict


@dataclass(frozen=True)
class List:
    """A list that the authors state: of resources of a `kind` for a subject, or of subjects of one for a resource."""

    about: str
    relation: str
    kind: str
    context: Mapping[str, Any]
    entries: list[str]


@dataclass(frozen=True)
class Case:
    """A written case."""

    model: str
    relationships: list[Relationship]
    checks: list[Expected]
    resources: list[List]
    subjects: list[List]


def read(file: Path) -> Case:
    """The case of a file."""
    content = yaml.load(file.read_text(encoding="utf-8"), _LOADER)

    def all_of(kind: str, stated: Callable[[dict[str, Any]], Iterator[T]]) -> list[T]:
        return [found for test in content["tests"] for each in test.get(kind, ()) for found in stated(each)]

    checks = all_of("check", _expected)
    assert checks, f"{file.name} has no checks"
    return Case(
        content["model"],
        list(map(_relationship, content["tuples"])),
        checks,
        all_of("list_objects", _resources),
        all_of("list_users", _subjects),
    )


def _resources(each: dict[str, Any]) -> Iterator[List]:
    for relation, entries in each["assertions"].items():
        yield List(each["user"], relation, each["type"], each.get("context", {}), entries)


def _subjects(each: dict[str, Any]) -> Iterator[List]:
    (wanted,) = each["user_filter"]
    kind = f"{wanted['type']}#{wanted['relation']}" if "relation" in wanted else wanted["type"]
    for relation, found in each["assertions"].items():
        yield List(each["object"], relation, kind, each.get("context", {}), found["users"])


def _expected(check: dict[str, Any]) -> Iterator[Expected]:
    for relation, answer in check["assertions"].items():
        verdict = frozenset(answer) if isinstance(answer, list) else answer
        yield Expected(check["object"], relation, check["user"], check.get("context", {}), verdict)


def _relationship(each: dict[str, Any]) -> Relationship:
    condition = each.get("condition", {})
    term = Term(condition.get("name", ""), condition.get("context", {}))
    return Relationship(each["object"], each["relation"], each["user"], term)


def written(schema: Schema, relationships: Iterable[Relationship], expected: Expected) -> str:
    """The text of a file with one answer; relationships that expire are to be left out by the caller."""
    answer = expected.verdict if isinstance(expected.verdict, bool) else sorted(expected.verdict)
    check = {"user": expected.subject, "object": expected.resource, "context": dict(expected.context)}
    content = {
        "model": str(schema),
        "tuples": list(map(_tuple, relationships)),
        "tests": [{"name": "found", "check": [{**check, "assertions": {expected.relation: answer}}]}],
    }
    text: str = yaml.dump(content, Dumper=_DUMPER, sort_keys=False)
    return text


def _tuple(each: Relationship) -> dict[str, Any]:
    found: dict[str, Any] = {"user": each.subject, "relation": each.relation, "object": each.object}
    if each.term.condition:
        found["condition"] = {"name": each.term.condition, "context": dict(each.term.context)}
    return found
