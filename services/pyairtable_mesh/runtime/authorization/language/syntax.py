"""The tree of a model, and its text: `str` of each element gives the canonical form that parses to the same tree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SCHEMA_VERSION = "1.1"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a model's text; lines and columns count from 1, 0 stands for unknown."""

    line: int = 0
    column: int = 0


NOWHERE = Position()


@dataclass(frozen=True, slots=True)
class SubjectType:
    """What a direct assignment admits: ``type``, ``type:*`` or ``type#relation``, maybe ``with condition``."""

    type: str
    relation: str = ""
    wildcard: bool = False
    condition: str = ""
    position: Position = field(default=NOWHERE, compare=False)

    @property
    def kind(self) -> str:
        """The form without its condition."""
        if self.wildcard:
            return f"{self.type}:*"
        return f"{self.type}#{self.relation}" if self.relation else self.type

    def __str__(self) -> str:
        return f"{self.kind} with {self.condition}" if self.condition else self.kind


@dataclass(frozen=True, slots=True)
class Direct:
    """``[user, group#member]``: who stands in the relation by a relationship of its own."""

    subjects: tuple[SubjectType, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.subjects))}]"


@dataclass(frozen=True, slots=True)
class Computed:
    """``editor``: who stands in another relation to the same object."""

    relation: str
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return self.relation


@dataclass(frozen=True, slots=True)
class Indirect:
    """``viewer from parent``: who stands in a relation to the objects that another relation leads to."""

    relation: str
    tupleset: str
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"{self.relation} from {self.tupleset}"


@dataclass(frozen=True, slots=True)
class Union:
    """``a or b``."""

    children: "tuple[Rewrite, ...]"

    def __str__(self) -> str:
        return " or ".join(map(_operand, self.children))


@dataclass(frozen=True, slots=True)
class Intersection:
    """``a and b``."""

    children: "tuple[Rewrite, ...]"

    def __str__(self) -> str:
        return " and ".join(map(_operand, self.children))


@dataclass(frozen=True, slots=True)
class Exclusion:
    """``base but not subtracted``."""

    base: "Rewrite"
    subtracted: "Rewrite"

    def __str__(self) -> str:
        return f"{_operand(self.base)} but not {_operand(self.subtracted)}"


Rewrite = Direct | Computed | Indirect | Union | Intersection | Exclusion
"""How a relation is defined."""


def _operand(rewrite: Rewrite) -> str:
    return f"({rewrite})" if isinstance(rewrite, Union | Intersection | Exclusion) else str(rewrite)


def children(rewrite: Rewrite) -> tuple[Rewrite, ...]:
    """The operands of an operator; nothing for the others."""
    match rewrite:
        case Union(found) | Intersection(found):
            return found
        case Exclusion(base, subtracted):
            return base, subtracted
        case _:
            return ()


def leaves(rewrite: Rewrite) -> Iterator[Direct | Computed | Indirect]:
    """All that is combined by operators, from left to right."""
    if isinstance(rewrite, Direct | Computed | Indirect):
        yield rewrite
    for child in children(rewrite):
        yield from leaves(child)


@dataclass(frozen=True, slots=True)
class Relation:
    """``define name: rewrite``."""

    name: str
    rewrite: Rewrite
    position: Position = field(default=NOWHERE, compare=False)

    @property
    def admitted(self) -> tuple[SubjectType, ...]:
        """Whom a stored relationship may name; nobody for a relation that is computed alone."""
        return next((leaf.subjects for leaf in leaves(self.rewrite) if isinstance(leaf, Direct)), ())

    def __str__(self) -> str:
        return f"define {self.name}: {self.rewrite}"


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """``type name`` with its relations by name, in their order."""

    name: str
    relations: Mapping[str, Relation]
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        if not self.relations:
            return f"type {self.name}"
        return "\n".join([f"type {self.name}", "  relations", *(f"    {each}" for each in self.relations.values())])


@dataclass(frozen=True, slots=True)
class ParameterType:
    """The type of a condition's parameter; `element` is that of a list's items or a map's values."""

    name: str
    element: "ParameterType | None" = None

    def __str__(self) -> str:
        return f"{self.name}<{self.element}>" if self.element else self.name


@dataclass(frozen=True, slots=True)
class Condition:
    """``condition name(parameters) { expression }``; the expression is CEL."""

    name: str
    parameters: Mapping[str, ParameterType]
    expression: str
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        parameters = ", ".join(f"{name}: {kind}" for name, kind in self.parameters.items())
        return f"condition {self.name}({parameters}) {{\n  {self.expression}\n}}"


@dataclass(frozen=True, slots=True)
class Schema:
    """A whole model: types and conditions by name, in their order."""

    types: Mapping[str, TypeDefinition]
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def relation(self, type_name: str, name: str) -> Relation | None:
        """A relation of a type; None where either is not there."""
        found = self.types.get(type_name)
        return None if found is None else found.relations.get(name)

    def __str__(self) -> str:
        parts = [
            f"model\n  schema {SCHEMA_VERSION}",
            *map(str, self.types.values()),
            *map(str, self.conditions.values()),
        ]
        return "\n\n".join(parts) + "\n"
