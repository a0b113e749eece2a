"""What a model must keep beyond its grammar, as OpenFGA checks it."""

from collections.abc import Iterator

from pyairtable_mesh.runtime.authorization.language import syntax
from pyairtable_mesh.runtime.authorization.language.errors import Problem
from pyairtable_mesh.runtime.authorization.language.syntax import (
    Computed,
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

RESERVED = frozenset({"self", "this"})
MAX_TYPES, MAX_RELATIONS, MAX_CONDITIONS = 1_000, 1_000, 1_000
_SCALARS = frozenset({"bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress", "any"})
_CONTAINERS = frozenset({"list", "map"})
_Node = tuple[str, str]


def validate(schema: Schema) -> list[Problem]:
    """Every fault of meaning, in the order of the text; nothing for a model that can be used."""
    problems = [*_sizes(schema), *_conditions(schema)]
    for definition in schema.types.values():
        problems += _reserved(definition.name, "type", definition.position)
        for relation in definition.relations.values():
            problems += _reserved(relation.name, "relation", relation.position)
            for leaf in syntax.leaves(relation.rewrite):
                problems += _leaf(schema, definition, relation, leaf)
    # Entry points and cycles have a meaning only where every name stands for something.
    problems = problems or [*_cycles(schema), *_without_entry(schema)]
    return sorted(problems, key=lambda each: (each.position.line, each.position.column))


def _sizes(schema: Schema) -> Iterator[Problem]:
    if len(schema.types) > MAX_TYPES or len(schema.conditions) > MAX_CONDITIONS:
        yield Problem(syntax.NOWHERE, f"a model has at most {MAX_TYPES} types and {MAX_CONDITIONS} conditions")
    for each in schema.types.values():
        if len(each.relations) > MAX_RELATIONS:
            yield Problem(each.position, f"a type has at most {MAX_RELATIONS} relations")


def _reserved(name: str, what: str, position: syntax.Position) -> Iterator[Problem]:
    if name in RESERVED:
        yield Problem(position, f"a {what} cannot be named {name!r}")


def _conditions(schema: Schema) -> Iterator[Problem]:
    used = {
        subject.condition
        for definition in schema.types.values()
        for relation in definition.relations.values()
        for subject in relation.admitted
    }
    for condition in schema.conditions.values():
        if condition.name not in used:
            yield Problem(condition.position, f"the condition {condition.name!r} is not used")
        if not condition.expression:
            yield Problem(condition.position, f"the condition {condition.name!r} has no expression")
        for name, kind in condition.parameters.items():
            if not _known(kind):
                yield Problem(condition.position, f"the parameter {name!r} has no type {str(kind)!r}")


def _known(kind: ParameterType) -> bool:
    if kind.element is None:
        return kind.name in _SCALARS
    return kind.name in _CONTAINERS and _known(kind.element)


def _leaf(
    schema: Schema, owner: TypeDefinition, relation: Relation, leaf: Direct | Computed | Indirect
) -> list[Problem]:
    match leaf:
        case Direct(subjects):
            return _subjects(schema, subjects)
        case Computed(name, position) if name not in owner.relations:
            return [Problem(position, f"the type {owner.name!r} has no relation {name!r}")]
        case Indirect():
            return list(_indirect(schema, owner, leaf))
        case _:
            return []


def _subjects(schema: Schema, subjects: tuple[SubjectType, ...]) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for each in subjects:
        if each.type not in schema.types:
            problems.append(Problem(each.position, f"there is no type {each.type!r}"))
        elif each.relation and schema.relation(each.type, each.relation) is None:
            problems.append(Problem(each.position, f"the type {each.type!r} has no relation {each.relation!r}"))
        if each.condition and each.condition not in schema.conditions:
            problems.append(Problem(each.position, f"there is no condition {each.condition!r}"))
        if str(each) in seen:
            problems.append(Problem(each.position, f"{str(each)!r} stands here twice"))
        seen.add(str(each))
    return problems


def _indirect(schema: Schema, owner: TypeDefinition, leaf: Indirect) -> Iterator[Problem]:
    tupleset = owner.relations.get(leaf.tupleset)
    if tupleset is None:
        yield Problem(leaf.position, f"the type {owner.name!r} has no relation {leaf.tupleset!r}")
        return
    if not isinstance(tupleset.rewrite, Direct):
        yield Problem(leaf.position, f"'from {leaf.tupleset}' needs a relation that is direct alone")
        return
    if any(each.relation or each.wildcard for each in tupleset.admitted):
        yield Problem(leaf.position, f"'from {leaf.tupleset}' needs a relation to plain objects, not to sets of them")
    elif not any(schema.relation(each.type, leaf.relation) for each in tupleset.admitted):
        yield Problem(leaf.position, f"nothing that {leaf.tupleset!r} leads to has a relation {leaf.relation!r}")


def _cycles(schema: Schema) -> Iterator[Problem]:
    """Relations of one object that are defined by each other, whatever is stored."""
    for owner in schema.types.values():
        for relation in owner.relations.values():
            reached: set[str] = set()
            waiting = [relation.rewrite]
            while waiting:
                for leaf in syntax.leaves(waiting.pop()):
                    if isinstance(leaf, Computed) and leaf.relation not in reached:
                        reached.add(leaf.relation)
                        waiting.append(owner.relations[leaf.relation].rewrite)
            if relation.name in reached:
                yield Problem(relation.position, f"{owner.name}#{relation.name} is defined by itself")


def _without_entry(schema: Schema) -> Iterator[Problem]:
    """Relations that no stored relationships could ever put anybody into."""
    relations = {(owner.name, each.name): each for owner in schema.types.values() for each in owner.relations.values()}
    entered: set[_Node] = set()
    while more := {
        node
        for node, each in relations.items()
        if node not in entered and _enters(schema, node[0], each.rewrite, entered)
    }:
        entered |= more
    for node, relation in relations.items():
        if node not in entered:
            yield Problem(relation.position, f"{node[0]}#{node[1]} has no entry point: nobody could ever be in it")


def _enters(schema: Schema, owner: str, rewrite: Rewrite, entered: set[_Node]) -> bool:
    match rewrite:
        case Direct(subjects):
            return any(not each.relation or (each.type, each.relation) in entered for each in subjects)
        case Computed(relation):
            return (owner, relation) in entered
        case Indirect(relation, tupleset):
            found = schema.types[owner].relations[tupleset].admitted
            return any((each.type, relation) in entered for each in found)
        case Union(operands):
            return any(_enters(schema, owner, each, entered) for each in operands)
        case Intersection(operands):
            return all(_enters(schema, owner, each, entered) for each in operands)
        case Exclusion(base, subtracted):
            return all(_enters(schema, owner, each, entered) for each in (base, subtracted))
