"""A model's JSON form, a compact one of this project: how a schema travels without its grammar.

A rewrite is ``["direct", [subject, ...]]``, ``["computed", relation]``, ``["indirect", relation, tupleset]``,
``["union", ...]``, ``["intersection", ...]`` or ``["exclusion", base, subtracted]``; a subject is
``[type, relation, wildcard, condition]``. Positions in the text are not kept.
"""

from collections.abc import Mapping
from typing import Any

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


def to_document(schema: Schema) -> dict[str, Any]:
    """The JSON form, of dicts, lists, strings and booleans."""
    types = {
        each.name: {relation.name: _of_rewrite(relation.rewrite) for relation in each.relations.values()}
        for each in schema.types.values()
    }
    conditions = {
        each.name: {"parameters": {name: str(kind) for name, kind in each.parameters.items()}, "cel": each.expression}
        for each in schema.conditions.values()
    }
    return {"schema": "1.1", "types": types, "conditions": conditions}


def from_document(document: Mapping[str, Any]) -> Schema:
    """The tree of a document that `to_document` made of a valid model."""
    types = {
        name: TypeDefinition(name, {each: Relation(each, _rewrite(rewrite)) for each, rewrite in relations.items()})
        for name, relations in document["types"].items()
    }
    conditions = {
        name: Condition(name, {each: _kind(kind) for each, kind in found["parameters"].items()}, found["cel"])
        for name, found in document["conditions"].items()
    }
    return Schema(types, conditions)


def _of_rewrite(rewrite: Rewrite) -> list[Any]:
    match rewrite:
        case Direct(subjects):
            return ["direct", [[each.type, each.relation, each.wildcard, each.condition] for each in subjects]]
        case Computed(relation):
            return ["computed", relation]
        case Indirect(relation, tupleset):
            return ["indirect", relation, tupleset]
        case Union(children):
            return ["union", *map(_of_rewrite, children)]
        case Intersection(children):
            return ["intersection", *map(_of_rewrite, children)]
        case Exclusion(base, subtracted):
            return ["exclusion", _of_rewrite(base), _of_rewrite(subtracted)]


def _rewrite(found: list[Any]) -> Rewrite:
    match found:
        case ["direct", subjects]:
            return Direct(tuple(SubjectType(*each) for each in subjects))
        case ["computed", relation]:
            return Computed(relation)
        case ["indirect", relation, tupleset]:
            return Indirect(relation, tupleset)
        case ["union", *children]:
            return Union(tuple(map(_rewrite, children)))
        case ["intersection", *children]:
            return Intersection(tuple(map(_rewrite, children)))
        case ["exclusion", base, subtracted]:
            return Exclusion(_rewrite(base), _rewrite(subtracted))
        case _:
            raise ValueError(f"{found!r} is no rewrite")


def _kind(text: str) -> ParameterType:
    name, _, element = text.partition("<")
    return ParameterType(name, _kind(element[:-1]) if element else None)
