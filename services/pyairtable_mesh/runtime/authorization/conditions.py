"""Conditions in CEL, with OpenFGA's parameter types. cel-expr-python is imported when the first one is compiled.

Its evaluator has an iteration budget of its own and matches expressions in linear time (RE2); sizes are bounded here.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pyairtable_mesh.runtime.authorization.facts import Term, Verdict, exhausted
from pyairtable_mesh.runtime.authorization.language.errors import Problem, SchemaError
from pyairtable_mesh.runtime.authorization.language.syntax import Condition, ParameterType, Schema
from pyairtable_mesh.runtime.errors import InvalidArgument

MAX_CONTEXT_BYTES = 32_768
"""How large the values of one evaluation may be together, as JSON."""
MAX_EXPRESSION_BYTES = 8_192
"""How long an expression may be."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_INTEGERS = {"int": range(-(1 << 63), 1 << 63), "uint": range(1 << 64)}


class Conditions:
    """The conditions of one schema, compiled when it is loaded; without any, nothing is imported."""

    def __init__(self, schema: Schema) -> None:
        """`SchemaError` for an expression that does not compile, or gives no boolean."""
        self._programs = {name: _Program(each) for name, each in schema.conditions.items()}

    def evaluate(self, term: Term, context: Mapping[str, Any]) -> Verdict:
        """Whether the term's condition holds; values stored with the term win over those of the context.

        Missing values matter only where the expression needs them. InvalidArgument INVALID_CONTEXT for a value of
        another type than its parameter's; ResourceExhausted for an expression that costs too much.
        """
        return self._programs[term.condition].evaluate({**context, **term.context})

    def validate(self, term: Term, field: str) -> None:
        """InvalidArgument on `field` for stored values that the condition has no use for, or of another type."""
        if not term.condition:
            return
        parameters = self._programs[term.condition].parameters
        if unknown := sorted(term.context.keys() - parameters.keys()):
            words = f"the condition {term.condition} has no parameter {unknown[0]!r}"
            raise InvalidArgument.of_field(f"{field}.context", words, reason="INVALID_CONTEXT")
        self._programs[term.condition].values(term.context)


class _Program:
    def __init__(self, condition: Condition) -> None:
        from cel_expr_python import cel  # noqa: PLC0415 # only for schemas that have a condition

        self.name = condition.name
        self.parameters = condition.parameters
        if len(condition.expression.encode()) > MAX_EXPRESSION_BYTES:
            words = f"an expression has at most {MAX_EXPRESSION_BYTES} bytes"
            raise SchemaError([Problem(condition.position, words)])
        variables = {name: _cel_type(cel, kind) for name, kind in condition.parameters.items()}
        try:
            environment = cel.NewEnv(variables=variables, functions=_functions(cel))
            self._expression = environment.compile(condition.expression)
        except RuntimeError as error:
            found = [*str(error).partition("ERROR: ")[2].splitlines(), "it cannot be read"][0].strip()
            words = f"the expression of {condition.name!r}: {found}"
            raise SchemaError([Problem(condition.position, words)]) from None
        if self._expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):  # types have no hash
            words = f"the expression of {condition.name!r} gives {self._expression.return_type().name()}, not BOOL"
            raise SchemaError([Problem(condition.position, words)])

    def evaluate(self, context: Mapping[str, Any]) -> Verdict:
        values = self.values({name: value for name, value in context.items() if name in self.parameters})
        try:
            result = self._expression.eval(data=values).plain_value()
        except RuntimeError:
            raise exhausted(f"the condition {self.name} costs more than it may", [self.name]) from None
        if isinstance(result, bool):
            return result
        return frozenset(self.parameters.keys() - values.keys()) or False

    def values(self, context: Mapping[str, Any]) -> dict[str, Any]:
        if context and len(json.dumps(context, default=str)) > MAX_CONTEXT_BYTES:
            words = f"values for {self.name} have more than {MAX_CONTEXT_BYTES} bytes"
            raise InvalidArgument.of_field("context", words, reason="INVALID_CONTEXT")
        return {name: self._value(name, value) for name, value in context.items()}

    def _value(self, name: str, value: Any) -> Any:
        try:
            return _converted(self.parameters[name], value)
        except (ValueError, TypeError, OverflowError):
            words = f"{name} of {self.name} is a {self.parameters[name]}"
            raise InvalidArgument.of_field(f"context.{name}", words, reason="INVALID_CONTEXT") from None


def _cel_type(cel: Any, kind: ParameterType) -> Any:
    if kind.name == "list":
        return cel.Type.List(_cel_type(cel, kind.element or ParameterType("any")))
    if kind.name == "map":
        return cel.Type.Map(cel.Type.STRING, _cel_type(cel, kind.element or ParameterType("any")))
    # An address is a text here, but published models compare it with null, which no text may be.
    other = {"any": "DYN", "ipaddress": "DYN"}
    return getattr(cel.Type, other.get(kind.name, kind.name.upper()))


def _functions(cel: Any) -> list[Any]:
    text = cel.Type.STRING
    in_cidr = cel.Overload("string_in_cidr", cel.Type.BOOL, [text, text], True, _in_cidr)
    address = cel.Overload("string_to_ipaddress", text, [text], False, _address)
    return [cel.FunctionDecl("in_cidr", [in_cidr]), cel.FunctionDecl("ipaddress", [address])]


def _in_cidr(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _converted(kind: ParameterType, value: Any) -> Any:
    """A value as CEL takes it; JSON has no integers, times or addresses of its own."""
    convert = _CONVERSIONS.get(kind.name)
    if convert is not None:
        return convert(value)
    if kind.name == "list" and isinstance(value, list | tuple):
        return [_converted(kind.element or ParameterType("any"), each) for each in value]
    if kind.name == "map" and isinstance(value, Mapping):
        return {str(key): _converted(kind.element or ParameterType("any"), each) for key, each in value.items()}
    raise TypeError


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError
        return value

    return convert


def _integer(name: str) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = int(value)
        if (isinstance(value, float) and number != value) or number not in _INTEGERS[name]:
            raise ValueError
        return number

    return convert


def _double(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _timestamp(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    digits = value.removeprefix("-")
    found = _DURATION.findall(digits)
    if "".join(map("".join, found)) != digits or not found:
        raise ValueError
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in found)
    return timedelta(seconds=-seconds if value.startswith("-") else seconds)


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "bool": _exactly(bool),
    "string": _exactly(str),
    "int": _integer("int"),
    "uint": _integer("uint"),
    "double": _double,
    "duration": _duration,
    "timestamp": _timestamp,
    "ipaddress": lambda value: str(ipaddress.ip_address(value)),
    "any": lambda value: value,
}
