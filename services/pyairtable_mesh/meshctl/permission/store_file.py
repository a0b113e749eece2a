"""Reads tests of a schema in the form of OpenFGA's store files (``.fga.yaml``).

A file has a `model` (or `model_file`), `tuples` (or `tuple_file`, `tuple_files`) and `tests` with `check`,
`list_objects` and `list_users`. One thing is added: an answer that hangs on missing context is expected as the list of
its names.

permission.v1 tests a schema with checks. A list is therefore asked as one check for each entry that is expected and for
each other object or subject of the file that could be in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import payload
from pyairtable_mesh.meshctl.permission import located

ALLOWED, DENIED, CONDITIONAL = pb.Decision.RESULT_ALLOWED, pb.Decision.RESULT_DENIED, pb.Decision.RESULT_CONDITIONAL
MAX_CONTEXT_VALUES = 10_000
"""Of one context; YAML's aliases make any number of few lines."""

_FILE = ("name", "description", "model", "model_file", "tuples", "tuple_file", "tuple_files", "tests")
_TEST = ("name", "description", "tuples", "tuple_file", "tuple_files", "check", "list_objects", "list_users")
_TUPLE = ("user", "relation", "object", "condition")
_CHECK = ("user", "users", "object", "objects", "context", "assertions")
_LIST_OBJECTS = ("user", "type", "context", "assertions")
_LIST_USERS = ("object", "user_filter", "context", "assertions")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One question with the answer that is expected, and its place; `missing` are the names, if it is conditional."""

    place: str
    words: str
    assertion: pb.SchemaAssertion
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StoreTest:
    """One test of a file: relationships with their places, and questions."""

    name: str
    relationships: Sequence[pb.Relationship]
    places: Sequence[str]
    expectations: Sequence[Expectation]


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file: its model, where that begins, and its tests."""

    path: Path
    model: str
    model_place: str
    tests: Sequence[StoreTest]


@dataclass(slots=True)
class _Tuples:
    relationships: list[pb.Relationship] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def read(path: Path) -> StoreFile:
    """Read a file and those that it names. Raises `Problem` with file and line."""
    content = located.read(path)
    if not isinstance(content, located.Mapping):
        raise located.wrong(path, "a store file is a mapping with a model and tests.")
    content.require(_FILE)
    model, place = _model(content)
    shared = _tuples(content)
    tests = [_test(each, number, shared) for number, each in enumerate(content.mappings("tests"), 1)]
    return StoreFile(path, model, place, tests)


def _model(content: located.Mapping) -> tuple[str, str]:
    if "model" in content or "model_file" not in content:
        return content.text("model"), content.place("model")
    path = _beside(content, content.text("model_file"))
    return payload.read(f"@{path}"), str(path)


def _test(content: located.Mapping, number: int, shared: _Tuples) -> StoreTest:
    content.require(_TEST)
    own = _tuples(content)
    relationships, places = shared.relationships + own.relationships, shared.places + own.places
    expectations = [*_checks(content), *_object_lists(content, relationships), *_user_lists(content, relationships)]
    return StoreTest(content.text("name", f"test {number}"), relationships, places, expectations)


def _tuples(content: located.Mapping) -> _Tuples:
    files = [content.text("tuple_file")] if "tuple_file" in content else []
    found = _Tuples()
    for each in content.mappings("tuples"):
        _add(found, each)
    for name in files + content.texts("tuple_files"):
        path = _beside(content, name)
        if path.suffix not in {".yaml", ".yml", ".json"}:
            raise content.wrong(f"{path} cannot be read: tuples come in YAML or JSON.")
        listed = located.read(path)
        if not isinstance(listed, list) or not all(isinstance(each, located.Mapping) for each in listed):
            raise located.wrong(path, "a file of tuples is a list of mappings.")
        for each in listed:
            _add(found, each)
    return found


def _add(found: _Tuples, content: located.Mapping) -> None:
    content.require(_TUPLE)
    relationship = pb.Relationship(
        resource=content.text("object"), relation=content.text("relation"), subject=content.text("user")
    )
    if condition := content.mapping("condition"):
        condition.require(("name", "context"))
        relationship.condition.name = condition.text("name")
        _fill(relationship.condition, condition)
    found.relationships.append(relationship)
    found.places.append(content.place())


def _fill(message: pb.ConditionReference | pb.CheckItem, content: located.Mapping) -> None:
    """Take over the context, where there is one."""
    if context := content.mapping("context"):
        if sum(1 for _ in islice(_values(context), MAX_CONTEXT_VALUES + 1)) > MAX_CONTEXT_VALUES:
            raise content.wrong(f"context has more than {MAX_CONTEXT_VALUES} values.", "context")
        try:
            message.context.update(context)
        except (ValueError, TypeError, RecursionError):
            raise content.wrong("context has a value that JSON does not have.", "context") from None


def _values(value: Any) -> Iterator[Any]:
    """A value and all within it, as often as aliases repeat them."""
    waiting = [value]
    while waiting:
        yield (found := waiting.pop())
        if isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _beside(content: located.Mapping, name: str) -> Path:
    return content.path.parent / name


def _one_or_many(content: located.Mapping, one: str, many: str) -> list[str]:
    return content.texts(many) or [content.text(one)]


def _checks(test: located.Mapping) -> Iterator[Expectation]:
    for content in test.mappings("check"):
        content.require(_CHECK)
        for subject in _one_or_many(content, "user", "users"):
            for resource in _one_or_many(content, "object", "objects"):
                for relation, expected in _assertions(content).items():
                    result, missing = _expected(content, relation, expected)
                    yield _expectation(content, relation, (subject, relation, resource), result, missing)


def _expected(content: located.Mapping, relation: str, value: Any) -> tuple["pb.Decision.Result.ValueType", list[str]]:
    if isinstance(value, bool):
        return (ALLOWED if value else DENIED), []
    if isinstance(value, list) and value:
        return CONDITIONAL, content.mapping("assertions").texts(relation)
    raise content.mapping("assertions").wrong(
        f"{relation} must be true, false, or the names of the missing context.", relation
    )


def _object_lists(test: located.Mapping, relationships: Iterable[pb.Relationship]) -> Iterator[Expectation]:
    references = _references(relationships)
    for content in test.mappings("list_objects"):
        content.require(_LIST_OBJECTS)
        subject, kind = content.text("user"), content.text("type")
        known = {each for each in references if each.startswith(f"{kind}:") and not each.endswith(":*")}
        for relation in _assertions(content):
            listed = content.mapping("assertions").texts(relation)
            for resource in sorted(known | set(listed)):
                result = ALLOWED if resource in listed else DENIED
                yield _expectation(content, relation, (subject, relation, resource), result)


def _user_lists(test: located.Mapping, relationships: Sequence[pb.Relationship]) -> Iterator[Expectation]:
    for content in test.mappings("list_users"):
        content.require(_LIST_USERS)
        resource, filters = content.text("object"), content.mappings("user_filter")
        if not filters:
            raise content.wrong("user_filter is missing.")
        known = {each for one in filters for each in _matching(one, relationships)}
        for relation in _assertions(content):
            expected = content.mapping("assertions").mapping(relation)
            expected.require(("users",))
            listed = expected.texts("users")
            # A wildcard stands for subjects that the list does not name.
            covered = {each.removesuffix("*") for each in listed if each.endswith(":*")}
            unlisted = {each for each in known if "#" in each or each.partition(":")[0] + ":" not in covered}
            for subject in sorted(unlisted | set(listed)):
                result = ALLOWED if subject in listed else DENIED
                yield _expectation(content, relation, (subject, relation, resource), result)


def _matching(content: located.Mapping, relationships: Iterable[pb.Relationship]) -> Iterator[str]:
    """The subjects that the relationships name and the filter asks for."""
    content.require(("type", "relation"))
    kind, relation = content.text("type"), content.text("relation", "")
    for each in relationships:
        reference, _, userset = each.subject.partition("#")
        if reference.startswith(f"{kind}:") and userset == relation:
            yield each.subject


def _references(relationships: Iterable[pb.Relationship]) -> set[str]:
    return {part for each in relationships for part in (each.resource, each.subject.partition("#")[0])}


def _assertions(content: located.Mapping) -> Mapping[str, Any]:
    found = content.mapping("assertions")
    if not found:
        raise content.wrong("there are no assertions.")
    return found


def _expectation(
    content: located.Mapping,
    key: str,
    question: tuple[str, str, str],
    result: "pb.Decision.Result.ValueType",
    missing: Sequence[str] = (),
) -> Expectation:
    subject, relation, resource = question
    check = pb.CheckItem(resource=resource, permission=relation, subject=subject)
    _fill(check, content)
    place = content.mapping("assertions").place(key)
    words = f"{subject} {relation} {resource}"
    return Expectation(place, words, pb.SchemaAssertion(check=check, expected=result), missing)
