"""From a model's text to its tree. Importing this module imports lark; nothing else here does."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import lark

from pyairtable_mesh.runtime.authorization.language import syntax
from pyairtable_mesh.runtime.authorization.language.errors import Problem, SchemaError
from pyairtable_mesh.runtime.authorization.language.syntax import Position
from pyairtable_mesh.runtime.authorization.language.validation import validate

MAX_BYTES = 262_144
"""How long a model may be."""
MAX_NESTING = 25
"""How deep parentheses may be nested."""

N = TypeVar("N", syntax.TypeDefinition, syntax.Relation, syntax.Condition)
_MODULAR = re.compile(r"^[ \t]*(module|extend[ \t]+type)\b", re.MULTILINE)
_SHOWN_TOKEN = 40
_WORDS = {
    "_NL": "a new line",
    "NAME": "a name",
    "VERSION": "a version such as 1.1",
    "WILDCARD": "':*'",
    "EXPRESSION": "'{' with an expression",
    "$END": "the end",
}


def parse(text: str) -> syntax.Schema:
    """The tree of a valid model.

    `SchemaError` with line, column and what was expected for the first fault of grammar, or with every fault of
    meaning; for a text that is longer or deeper than the bounds too.
    """
    schema = parse_syntax(text)
    if problems := validate(schema):
        raise SchemaError(problems)
    return schema


def parse_syntax(text: str) -> syntax.Schema:
    """The tree of a model that is written right, whatever it means."""
    _require_bounded(text)
    # A leading line lets comments at the top end like all others; positions are moved back by it.
    try:
        return _grammar().parse(f"\n{text.rstrip()}\n")  # type: ignore[return-value] # the transformer's last callback
    except lark.exceptions.VisitError as error:
        raise error.orig_exc from None
    except lark.exceptions.UnexpectedToken as error:
        raise _unexpected(error.line, error.column, str(error.token), error.accepts or error.expected) from None
    except lark.exceptions.UnexpectedCharacters as error:
        raise _unexpected(error.line, error.column, error.char, error.allowed or ()) from None
    except lark.exceptions.UnexpectedEOF as error:
        raise _unexpected(text.count("\n") + 2, 1, "", error.expected) from None


@cache
def _grammar() -> lark.Lark:
    text = (Path(__file__).parent / "grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(text, parser="lalr", lexer="contextual", transformer=_Tree(), maybe_placeholders=False)


def _require_bounded(text: str) -> None:
    if len(text.encode()) > MAX_BYTES:
        raise SchemaError([Problem(syntax.NOWHERE, f"a model has at most {MAX_BYTES} bytes")])
    if modular := _MODULAR.search(text):
        words = f"{modular[1]!r} belongs to modular models; put the whole model into one text"
        raise SchemaError([Problem(Position(text.count("\n", 0, modular.start(1)) + 1, 1), words)])
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        for column, character in enumerate(line, 1):
            depth = max(0, depth + (character == "(") - (character == ")"))
            if depth > MAX_NESTING:
                raise SchemaError([Problem(Position(number, column), f"more than {MAX_NESTING} parentheses are open")])


def _unexpected(line: int, column: int, found: str, accepted: Iterable[str]) -> SchemaError:
    expected = sorted({_WORDS.get(each) or f"'{_literal(each)}'" for each in accepted})
    shown = repr(found[:_SHOWN_TOKEN]) if found.strip() else "the end of the line"
    return SchemaError([Problem(Position(max(line - 1, 1), column), f"{shown} cannot stand here", tuple(expected))])


def _literal(terminal: str) -> str:
    for each in _grammar().terminals:
        if each.name == terminal:
            return each.pattern.value
    return terminal.lower()


def _position(token: Any) -> Position:
    return Position(token.line - 1, token.column)


def _named(things: Sequence[N], what: str) -> dict[str, N]:
    found: dict[str, N] = {}
    for each in things:
        if each.name in found:
            raise SchemaError([Problem(each.position, f"there are two {what} {each.name!r}")])
        found[each.name] = each
    return found


class _Tree(lark.Transformer[Any, syntax.Schema]):
    """One callback per rule, called while the text is parsed, so that nothing here recurses."""

    def start(self, found: list[Any]) -> syntax.Schema:
        version, *things = found
        if version != syntax.SCHEMA_VERSION:
            raise SchemaError([Problem(_position(version), f"schema {version} is not {syntax.SCHEMA_VERSION}")])
        types = [each for each in things if isinstance(each, syntax.TypeDefinition)]
        conditions = [each for each in things if isinstance(each, syntax.Condition)]
        return syntax.Schema(_named(types, "types"), _named(conditions, "conditions"))

    def type(self, found: list[Any]) -> syntax.TypeDefinition:
        name, *relations = found
        return syntax.TypeDefinition(str(name), _named(relations, f"relations of {name}"), _position(name))

    def relation(self, found: list[Any]) -> syntax.Relation:
        name, rewrite = found
        return syntax.Relation(str(name), rewrite, _position(name))

    def union(self, found: list[Any]) -> syntax.Union:
        return syntax.Union(tuple(found))

    def intersection(self, found: list[Any]) -> syntax.Intersection:
        return syntax.Intersection(tuple(found))

    def exclusion(self, found: list[Any]) -> syntax.Exclusion:
        return syntax.Exclusion(*found)

    def computed(self, found: list[Any]) -> syntax.Computed:
        return syntax.Computed(str(found[0]), _position(found[0]))

    def indirect(self, found: list[Any]) -> syntax.Indirect:
        return syntax.Indirect(str(found[0]), str(found[1]), _position(found[0]))

    def direct(self, found: list[Any]) -> syntax.Direct:
        return syntax.Direct(tuple(found))

    def with_condition(self, found: list[Any]) -> tuple[str]:
        return (str(found[0]),)

    def subject(self, found: list[Any]) -> syntax.SubjectType:
        name, *rest = found
        condition = rest.pop()[0] if rest and isinstance(rest[-1], tuple) else ""
        wildcard = bool(rest) and rest[0].type == "WILDCARD"
        relation = str(rest[0]) if rest and not wildcard else ""
        return syntax.SubjectType(str(name), relation, wildcard, condition, _position(name))

    def condition(self, found: list[Any]) -> syntax.Condition:
        name, *parameters, expression = found
        return syntax.Condition(str(name), _parameters(parameters), expression[1:-1].strip(), _position(name))

    def parameter(self, found: list[Any]) -> tuple[Any, syntax.ParameterType]:
        return found[0], found[1]

    def parameter_type(self, found: list[Any]) -> syntax.ParameterType:
        return syntax.ParameterType(str(found[0]), found[1] if found[1:] else None)


def _parameters(found: Sequence[tuple[Any, syntax.ParameterType]]) -> dict[str, syntax.ParameterType]:
    parameters: dict[str, syntax.ParameterType] = {}
    for name, kind in found:
        if name in parameters:
            raise SchemaError([Problem(_position(name), f"there are two parameters {name!s}")])
        parameters[str(name)] = kind
    return parameters
