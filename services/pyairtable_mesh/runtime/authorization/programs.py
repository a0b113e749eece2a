"""One condition in CEL, with OpenFGA's parameter types.

What an evaluation may cost is known before it is made (costs.py); what would cost too much is not evaluated.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cel_expr_python import cel

from pyairtable_mesh.runtime.authorization import costs, expressions
from pyairtable_mesh.runtime.authorization.costs import Costs
from pyairtable_mesh.runtime.authorization.expressions import Call, Constant, Loop, Name, Node
from pyairtable_mesh.runtime.authorization.facts import Verdict, exhausted
from pyairtable_mesh.runtime.authorization.language.errors import Problem, SchemaError
from pyairtable_mesh.runtime.authorization.language.syntax import Condition, ParameterType
from pyairtable_mesh.runtime.errors import InvalidArgument, ResourceExhausted

MAX_CONTEXT_BYTES = 32_768
"""How large the values of one evaluation may be together, as JSON."""
MAX_EXPRESSION_BYTES = 8_192
"""How long an expression may be."""
_MAX_READ = 64
"""How long a text may be that a number, time or address is read from."""
_OFFSET = re.compile(r"[+-]?\d\d:\d\d")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_INTEGERS = {"int": range(-(1 << 63), 1 << 63), "uint": range(1 << 64)}


class Program:
    """One condition, compiled."""

    def __init__(self, condition: Condition) -> None:
        """`SchemaError` for an expression that does not compile, or gives no boolean."""
        self.name = condition.name
        self.parameters = condition.parameters
        if len(condition.expression.encode()) > MAX_EXPRESSION_BYTES:
            words = f"an expression has at most {MAX_EXPRESSION_BYTES} bytes"
            raise SchemaError([Problem(condition.position, words)])
        variables = {name: _cel_type(kind) for name, kind in condition.parameters.items()}
        try:
            environment = cel.NewEnv(variables=variables, functions=_functions())
            self._expression = environment.compile(condition.expression)
        except RuntimeError as error:
            found = [*str(error).partition("ERROR: ")[2].splitlines(), "it cannot be read"][0].strip()
            raise self._refused(condition, found) from None
        if self._expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):  # types have no hash
            raise self._refused(condition, f"gives {self._expression.return_type().name()}, not BOOL")
        tree = expressions.read(self._expression.serialize())
        self._costs = Costs(tree, max(map(_handed, condition.parameters.values()), default=0))
        self._measured = self._costs.bound(costs.largest(MAX_CONTEXT_BYTES)) > costs.BUDGET
        self._cheap: dict[object, bool] = {}
        self._zones = self._zoned(condition, tree)

    @staticmethod
    def _refused(condition: Condition, words: str) -> SchemaError:
        return SchemaError([Problem(condition.position, f"the expression of {condition.name!r}: {words}")])

    def _zoned(self, condition: Condition, tree: Node) -> frozenset[str]:
        """The parameters that name a time zone: CEL takes such a name for that of a file, and opens whatever it is."""
        found = list(expressions.nodes(tree))
        variables = {each.variable for each in found if isinstance(each, Loop)}
        parameters = set[str]()
        for each in found:
            if not isinstance(each, Call) or each.function not in costs.ZONED:
                continue
            for zone in each.arguments[1:]:
                if isinstance(zone, Name) and zone.name in self.parameters.keys() - variables:
                    parameters.add(zone.name)
                    _zone_names()  # to read all of them takes longer than an evaluation may
                elif not isinstance(zone, Constant) or not _is_zone((zone.text or b"").decode()):
                    raise self._refused(condition, "a time zone is a known name, an offset like +01:00, or a parameter")
        return frozenset(parameters)

    def evaluate(self, context: Mapping[str, Any]) -> Verdict:
        """Whether it holds; errors as for `Conditions.evaluate`."""
        given = {name: value for name, value in context.items() if name in self.parameters}
        values = self.values(given, bounded=self._measured)
        try:
            result = self._expression.eval(data=values).plain_value()
        except RuntimeError:
            raise self._exhausted() from None
        if isinstance(result, bool):
            return result
        return frozenset(self.parameters.keys() - values.keys()) or False

    def _exhausted(self) -> ResourceExhausted:
        return exhausted(f"the condition {self.name} costs more than it may with these values", [self.name])

    def values(self, context: Mapping[str, Any], field: str = "context", *, bounded: bool = False) -> dict[str, Any]:
        """The values, which stand in `field`, as CEL takes them; where they are `bounded`, ResourceExhausted if they
        cost too much together.
        """
        text = json.dumps(list(context.values()), default=str) if context else "[]"
        if len(text) > MAX_CONTEXT_BYTES:
            words = f"values for {self.name} have more than {MAX_CONTEXT_BYTES} bytes"
            raise InvalidArgument.of_field(field, words, reason="INVALID_CONTEXT")
        if bounded and not self._is_cheap(text):
            raise self._exhausted()
        return {name: self._value(name, value, f"{field}.{name}") for name, value in context.items()}

    def _is_cheap(self, text: str) -> bool:
        """Whether values may be evaluated; what holds for the next powers of two holds for them."""
        size = costs.measured(text)
        key = size.elements.bit_length(), size.text.bit_length(), "{" in text, "\\p" in text.lower()
        if key not in self._cheap:
            rounded = costs.Size(1 << key[0], 1 << key[1])
            self._cheap[key] = self._costs.bound(rounded, text) <= costs.BUDGET
        return self._cheap[key] or self._costs.bound(size, text) <= costs.BUDGET

    def _value(self, name: str, value: Any, field: str) -> Any:
        try:
            return _zone(value) if name in self._zones else _converted(self.parameters[name], value)
        except (ValueError, TypeError, OverflowError):
            words = f"{name} of {self.name} is a {self.parameters[name]}"
            raise InvalidArgument.of_field(field, words, reason="INVALID_CONTEXT") from None


def _cel_type(kind: ParameterType) -> Any:
    if kind.name == "list":
        return cel.Type.List(_cel_type(kind.element or ParameterType("any")))
    if kind.name == "map":
        return cel.Type.Map(cel.Type.STRING, _cel_type(kind.element or ParameterType("any")))
    # An address is a text here, but published models compare it with null, which no text may be.
    other = {"any": "DYN", "ipaddress": "DYN"}
    return getattr(cel.Type, other.get(kind.name, kind.name.upper()))


def _functions() -> list[Any]:
    text = cel.Type.STRING
    in_cidr = cel.Overload("string_in_cidr", cel.Type.BOOL, [text, text], True, _in_cidr)
    address = cel.Overload("string_to_ipaddress", text, [text], False, _address)
    return [cel.FunctionDecl("in_cidr", [in_cidr]), cel.FunctionDecl("ipaddress", [address])]


def _handed(kind: ParameterType) -> int:
    """What it costs to hand an element of a parameter over; one value alone costs nothing to speak of."""
    if kind.element is None:
        return costs.PLAIN if kind.name == "any" else 0
    return (
        costs.PARSED
        if kind.element.name in {"ipaddress", "timestamp", "duration"}
        else _handed(kind.element) or costs.PLAIN
    )


@cache
def _zone_names() -> frozenset[str]:
    import zoneinfo  # noqa: PLC0415 # only for expressions that name a zone

    return frozenset({"UTC", *zoneinfo.available_timezones()})  # where no zones are installed CEL has that one


def _zone(value: Any) -> str:
    if not _is_zone(value):
        raise ValueError
    return str(value)


def _is_zone(name: Any) -> bool:
    return isinstance(name, str) and (_OFFSET.fullmatch(name) is not None or name in _zone_names())


def _in_cidr(address: str, network: str) -> bool:
    if len(address) > _MAX_READ or len(network) > _MAX_READ:
        raise ValueError
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _address(text: str) -> str:
    if len(text) > _MAX_READ:
        raise ValueError
    return str(ipaddress.ip_address(text))


def _converted(kind: ParameterType, value: Any) -> Any:
    """A value as CEL takes it; JSON has no integers, times or addresses of its own."""
    convert = _CONVERSIONS.get(kind.name)
    if isinstance(value, str) and len(value) > _MAX_READ and kind.name not in {"string", "any"}:
        raise ValueError
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
