"""A quick look at requests: what surely breaks no rule of its schema needs no rules engine.

The engine (protovalidate) costs more than any other step of a call. The rules that most requests carry (patterns,
lengths, bounds, known values) are compiled here to Python's own checks, per type of message and when it first comes.
A screen only ever says "surely well": a rule that is not known here, or a value that does not pass, is for the engine
to judge and to put in words. A test holds every type of the contracts against it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from buf.validate import validate_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from pyairtable_mesh.runtime import ids

Accept = Callable[[Any], Any]
"""True for a value that surely breaks no rule."""
_UNBOUNDED = 1 << 64
MAX_MATCHED = 512
"""Longer texts are the engine's: its regular expressions take linear time on hostile ones, Python's may not."""
_INTEGERS = {"int32", "int64", "uint32", "uint64"}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SAME_IN_PYTHON = re.compile(
    r"""\^(
        [^\\^$\[()]  # a character, a quantifier
        | \\[^\w\s] | \\S  # no other class: \d and \w are not the same everywhere
        | \((?!\?) | \)(?![*+{])  # groups, without flags and not repeated, which could take Python exponential time
        | \[\^?-?(\w-\w | [^\\\[\]&~^-] | \\[^\w\s])+-?\]  # a set, without operators
    )*\$""",
    re.VERBOSE,
)
"""Patterns that Python and the engine take for the same, when Python must match the whole text."""


def _doubt(_value: Any) -> bool:
    return False


def _no_doubt(_value: Any) -> bool:
    return True


Field = tuple[str, bool, Accept]
"""A field's name, whether it is needed, and what its value must pass where it is there."""


@dataclass(slots=True)
class Screen:
    """The quick look at one type: at the fields that have rules, in the ways that they tell whether they are there."""

    complete: bool = False
    by_value: list[Field] = field(default_factory=list)
    """Those that are absent when they are zero or empty."""
    by_presence: list[Field] = field(default_factory=list)

    def passes(self, message: Any) -> bool:
        """Whether the message surely breaks no rule."""
        for name, needed, accept in self.by_value:
            value = getattr(message, name)
            if not (accept(value) if value else not needed):
                return False
        for name, needed, accept in self.by_presence:
            if not (accept(getattr(message, name)) if message.HasField(name) else not needed):
                return False
        return self.complete


class Screens:
    """The screens of a process. `broken_when_empty` names the fields that an empty message of a type breaks rules of,
    with an empty name for a rule of the message itself.
    """

    def __init__(self, broken_when_empty: Callable[[Any], Iterable[str]]) -> None:
        self._broken_when_empty = broken_when_empty
        self._of: dict[Descriptor, Screen] = {}

    def passes(self, message: Any) -> bool:
        """Whether the message surely breaks no rule of its schema."""
        descriptor = message.DESCRIPTOR
        return (self._of.get(descriptor) or self._compile(descriptor)).passes(message)

    def _compile(self, descriptor: Descriptor) -> Screen:
        # Kept before it is complete, for a message may hold others of its own type; until then it lets nothing pass.
        screen = self._of[descriptor] = Screen()
        needed = set(self._broken_when_empty(message_factory.GetMessageClass(descriptor)()))
        if _has_own_rules(descriptor) or not needed.issubset(descriptor.fields_by_name.keys()):
            return screen
        for each in descriptor.fields:
            accept = self._accept(each)
            if each.name in needed or accept is not None:
                fields = screen.by_presence if each.has_presence else screen.by_value
                fields.append((each.name, each.name in needed, accept or _no_doubt))
        screen.complete = True
        return screen

    def _accept(self, each: FieldDescriptor) -> Accept | None:
        rules = each.GetOptions().Extensions[validate_pb2.field]
        if rules.ignore == validate_pb2.IGNORE_ALWAYS:
            return None
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            return None if not _kinds(rules) and not each.message_type.fields_by_name["value"].message_type else _doubt
        return self._repeated(each, rules) if each.is_repeated else self._value(each, rules)

    def _repeated(self, each: FieldDescriptor, rules: Any) -> Accept | None:
        if _kinds(rules) - {"repeated"} or _names(rules.repeated) - {"min_items", "max_items", "items"}:
            return _doubt
        items = rules.repeated.items
        item = self._value(each, items) if items.ignore != validate_pb2.IGNORE_ALWAYS else None
        if item is None and not _kinds(rules):
            return None
        least = rules.repeated.min_items
        most = rules.repeated.max_items if rules.repeated.HasField("max_items") else _UNBOUNDED
        if item is None:
            return lambda values: least <= len(values) <= most
        return lambda values: least <= len(values) <= most and all(map(item, values))

    def _value(self, each: FieldDescriptor, rules: Any) -> Accept | None:
        """For one value; `rules` are a field's, or those of a repeated field's items."""
        kinds = _kinds(rules)
        if each.message_type is not None:
            return self._message(each.message_type) if not kinds else _doubt
        if not kinds:
            return None
        if kinds == {"string"}:
            return _string(rules.string)
        if kinds == {"enum"} and each.enum_type is not None:
            return _enum(each.enum_type, rules.enum)
        if len(kinds) == 1 and kinds <= _INTEGERS:
            return _bounds(getattr(rules, kinds.pop()))
        return _doubt

    def _message(self, descriptor: Descriptor) -> Accept | None:
        if descriptor.file.package == "google.protobuf":
            return None
        screen = self._of.get(descriptor) or self._compile(descriptor)
        return screen.passes


def _has_own_rules(descriptor: Descriptor) -> bool:
    return descriptor.GetOptions().HasExtension(validate_pb2.message) or any(
        oneof.GetOptions().HasExtension(validate_pb2.oneof) for oneof in descriptor.oneofs
    )


def _names(rules: Any) -> set[str]:
    return {each.full_name if each.is_extension else each.name for each, _ in rules.ListFields()}


def _kinds(rules: Any) -> set[str]:
    """What rules there are but for those that hold of an absent field."""
    return _names(rules) - {"required", "ignore"}


def _string(rules: Any) -> Accept:
    known = {each.full_name if each.is_extension else each.name: value for each, value in rules.ListFields()}
    least, most = known.pop("min_len", 0), known.pop("max_len", _UNBOUNDED)
    if not known:
        return lambda text: least <= len(text) <= most
    matches = _matcher(known)
    if matches is None:
        return _doubt
    most = min(most, MAX_MATCHED)
    return lambda text: least <= len(text) <= most and matches(text)


def _matcher(rules: Mapping[str, Any]) -> Accept | None:
    """The check of a rule about the text itself; None for one that is not known here, and for several."""
    (rule, value), *others = rules.items()
    if others:
        return None
    if rule == "pattern" and _SAME_IN_PYTHON.fullmatch(value):
        return re.compile(value).fullmatch
    if rule == "uuid":
        return _UUID.fullmatch
    if rule == "pyairtable.common.v1.id_after":
        return re.compile(re.escape(value) + ids.ID_PATTERN.pattern.removeprefix("[a-z]{3}")).fullmatch
    return None


def _enum(kind: EnumDescriptor, rules: Any) -> Accept:
    if _names(rules) - {"defined_only", "not_in", "in"}:
        return _doubt
    taken = getattr(rules, "in") or kind.values_by_number
    return (frozenset(taken) - frozenset(rules.not_in)).__contains__


def _bounds(rules: Any) -> Accept:
    if _names(rules) != {"gte", "lte"} and _names(rules) != {"gte"}:
        return _doubt
    least, most = rules.gte, rules.lte if rules.HasField("lte") else _UNBOUNDED
    return lambda number: least <= number <= most
