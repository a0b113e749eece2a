"""What differs between two models, element by element."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from pyairtable_mesh.runtime.authorization.language.syntax import Schema


class Kind(Enum):
    """What happened to an element."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One element (``type``, ``type#relation``, or the name of a condition) with its text before and after."""

    kind: Kind
    element: str
    before: str = ""
    after: str = ""


def differences(before: Schema, after: Schema) -> list[Difference]:
    """Every difference, in the order of the elements; the order within a model does not matter."""
    old, new = _elements(before), _elements(after)
    return list(_compared(old, new))


def _elements(schema: Schema) -> Mapping[str, str]:
    elements: dict[str, str] = {}
    for definition in schema.types.values():
        elements[definition.name] = f"type {definition.name}"
        elements |= {f"{definition.name}#{each.name}": str(each.rewrite) for each in definition.relations.values()}
    return elements | {f"condition {each.name}": str(each) for each in schema.conditions.values()}


def _compared(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    for element in sorted(old.keys() | new.keys()):
        before, after = old.get(element, ""), new.get(element, "")
        if before != after:
            kind = Kind.CHANGED if before and after else Kind.ADDED if after else Kind.REMOVED
            yield Difference(kind, element.removeprefix("condition "), before, after)
