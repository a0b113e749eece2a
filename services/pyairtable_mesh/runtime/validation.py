"""The rules that a request's schema carries (`buf.validate`), as errors of the tree.

The interceptor checks every request. A batch method, whose items must fail one by one, leaves its items out of the
schema's own check (`IGNORE_ALWAYS`) and calls `violations` for each.
"""

from typing import Any

import protovalidate

from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument
from pyairtable_mesh.runtime.screening import Screens


class SchemaValidator:
    """Checks messages against the rules in their descriptors. One per process: it keeps the compiled rules."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()
        self._screens = Screens(lambda empty: (broken.field for broken in self.violations(empty)))

    def violations(self, message: Any, prefix: str = "") -> list[FieldViolation]:
        """Every broken rule; `prefix` is the path of the message inside its request (``items[3]``)."""
        found = self._validator.collect_violations(message)
        return [_violation(item.proto, prefix) for item in found]

    def check(self, message: Any) -> None:
        """`InvalidArgument` with one violation for each broken rule."""
        if self._screens.passes(message):
            return
        found = self.violations(message)
        if found:
            raise InvalidArgument(f"{found[0].field or 'request'}: {found[0].description}", found)


def _violation(violation: Any, prefix: str) -> FieldViolation:
    path = _path(violation.field.elements) if violation.field else ""  # a rule of the message itself has none
    field = f"{prefix}.{path}" if prefix and path else prefix or path
    return FieldViolation(field, violation.message, violation.rule_id)


def _path(elements: Any) -> str:
    """``updates[2].relationship.resource`` of a protovalidate field path."""
    text = ""
    for element in elements:
        text += f".{element.field_name}" if text else element.field_name
        if element.subscript is not None:
            key = element.subscript.value
            text += f'["{key}"]' if isinstance(key, str) else f"[{key}]"
    return text
