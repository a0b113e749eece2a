"""Schemas, relationships and histories for hypothesis, small enough to meet each other often."""

import os
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pyairtable_mesh.runtime.authorization.facts import Change, Relationship, Term, Verdict
from pyairtable_mesh.runtime.authorization.language.syntax import (
    Computed,
    Condition,
    Direct,
    Exclusion,
    Indirect,
    Intersection,
    ParameterType,
    Relation,
    Rewrite,
    Schema,
    SubjectType,
    TypeDefinition,
    Union,
)
from pyairtable_mesh.runtime.authorization.language.validation import validate

many = settings(
    max_examples=int(os.environ.get("PYAIRTABLE_TEST_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
USERS = ["user:a", "user:b", "user:c"]
GROUPS = ["group:g", "group:h"]
FOLDERS = ["folder:1", "folder:2", "folder:3"]
DOCUMENTS = ["doc:1", "doc:2"]
COMPUTED = ["v0", "v1", "v2"]
STORED = ["d0", "d1"]
NOW = 100.0
CONDITIONS = {
    "flag": Condition("flag", {"x": ParameterType("bool")}, "x"),
    "large": Condition("large", {"y": ParameterType("int")}, "y > 1"),
}
_ADMITTED = [
    SubjectType("user"),
    SubjectType("user", wildcard=True),
    *(3 * [SubjectType("user", condition="flag")]),
    *(3 * [SubjectType("user", condition="large")]),
    SubjectType("group", "member"),
    SubjectType("group", "member", condition="flag"),
    *(SubjectType(kind, relation) for kind in ("folder", "doc") for relation in COMPUTED),
]


def evaluate(condition: str, values: Mapping[str, Any]) -> Verdict:
    """What the two conditions say, without CEL."""
    if condition == "flag":
        return values["x"] if "x" in values else frozenset({"x"})
    return values["y"] > 1 if "y" in values else frozenset({"y"})


def _rewrites(earlier: list[str]) -> st.SearchStrategy[Rewrite]:
    names = st.sampled_from([*STORED, *earlier])
    leaf: st.SearchStrategy[Rewrite] = st.one_of(
        names.map(Computed), st.sampled_from(COMPUTED).map(lambda name: Indirect(name, "parent"))
    )
    # Cycles through an exclusion are what engines get wrong: folders that take from each other what they exclude.
    excluding = st.sampled_from(COMPUTED).map(
        lambda name: Exclusion(Computed("d0"), Union((Computed("d1"), Indirect(name, "parent"))))
    )
    return st.recursive(
        st.one_of(leaf, excluding),
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda found: Union(tuple(found))),
            st.lists(inner, min_size=2, max_size=2).map(lambda found: Intersection(tuple(found))),
            st.tuples(inner, inner).map(lambda found: Exclusion(*found)),
        ),
        max_leaves=4,
    )


def _direct() -> st.SearchStrategy[Direct]:
    def with_user(found: list[SubjectType]) -> Direct:
        return Direct(tuple(dict.fromkeys([SubjectType("user"), *found])))

    return st.lists(st.sampled_from(_ADMITTED), min_size=1, max_size=4).map(with_user)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """A valid schema with groups, folders in folders, documents in folders, and whatever relations."""
    types = {
        "user": TypeDefinition("user", {}),
        "group": TypeDefinition(
            "group",
            {"member": Relation("member", Direct((SubjectType("user"), SubjectType("group", "member"))))},
        ),
    }
    for name in ("folder", "doc"):
        rewrites: dict[str, Rewrite] = {"parent": Direct((SubjectType("folder"),))}
        rewrites |= {each: draw(_direct()) for each in STORED}
        rewrites |= {each: draw(_rewrites(COMPUTED[:index])) for index, each in enumerate(COMPUTED)}
        relations = {each: Relation(each, rewrite) for each, rewrite in rewrites.items()}
        types[name] = TypeDefinition(name, relations)
    used = {
        subject.condition for each in types.values() for found in each.relations.values() for subject in found.admitted
    }
    schema = Schema(types, {name: each for name, each in CONDITIONS.items() if name in used})
    # What has no entry point is given one, so that no draw is thrown away.
    broken = {(each.position, each.description.split()[0]) for each in validate(schema)}
    for _, node in broken:
        kind, _, relation = node.partition("#")
        rewrite = schema.types[kind].relations[relation].rewrite
        patched = {**schema.types[kind].relations, relation: Relation(relation, Union((Computed("d0"), rewrite)))}
        schema = Schema({**schema.types, kind: TypeDefinition(kind, patched)}, schema.conditions)
    return schema


def _subject(schema: Schema, kind: SubjectType) -> st.SearchStrategy[str]:
    if kind.wildcard:
        return st.just(f"{kind.type}:*")
    objects = {"user": USERS, "group": GROUPS, "folder": FOLDERS, "doc": DOCUMENTS}[kind.type]
    return st.sampled_from(objects).map(lambda name: f"{name}#{kind.relation}" if kind.relation else name)


@st.composite
def relationships(draw: st.DrawFn, schema: Schema) -> Relationship:
    """One that the schema admits."""
    target = draw(st.sampled_from([*FOLDERS, *DOCUMENTS, *FOLDERS, *DOCUMENTS, *GROUPS]))
    stored = [each for each in schema.types[target.partition(":")[0]].relations.values() if each.admitted]
    holding = [each for each in stored if each.name in STORED]
    relation = draw(st.sampled_from([*stored, *stored[:2], *holding, *holding]))
    # Conditional ones more often: of those few answers hang.
    conditional = [each for each in relation.admitted if each.condition]
    admitted = draw(st.sampled_from([*conditional, *conditional, *relation.admitted]))
    expires = draw(st.sampled_from([None, None, None, NOW - 1, NOW, NOW + 1]))
    given = {"flag": {"x": draw(st.booleans())}, "large": {"y": 2}}.get(admitted.condition, {})
    context = given if draw(st.integers(0, 2)) == 0 else {}
    return Relationship(
        target, relation.name, draw(_subject(schema, admitted)), Term(admitted.condition, context, expires)
    )


@st.composite
def histories(draw: st.DrawFn, schema: Schema) -> list[Change]:
    """Writes, one a revision; some take back what was written."""
    changes: list[Change] = []
    for each in draw(st.lists(relationships(schema), min_size=8, max_size=18)):
        changes.append(Change(each))
        if draw(st.integers(0, 4)) == 0:
            changes.append(Change(draw(st.sampled_from(changes)).relationship, removed=True))
    return changes


QUESTIONS = [
    *((target, relation) for target in [*FOLDERS, *DOCUMENTS] for relation in COMPUTED),
    ("group:g", "member"),
]
SUBJECTS = [*USERS, "user:*", "group:g#member", "folder:1#v1", "user:nobody"]
