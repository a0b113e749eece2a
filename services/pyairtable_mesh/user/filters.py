"""What users and groups can be filtered by (AIP-160) and sorted by (AIP-132).

A text is folded, which compares it without regard to case and accents, and may begin or end with ``*``.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument
from pyairtable_mesh.runtime.filters import TIME, Kind
from pyairtable_mesh.user.domain import Status, folded

_MAX_ORDERS = 3
_ORDER = re.compile(r"\s*(?P<field>[a-z_]+)(?:\s+(?P<direction>asc|desc))?\s*")


@dataclass(frozen=True, slots=True)
class Text:
    """A folded text to compare with; `before` and `after` say whether anything may stand there."""

    value: str
    before: bool = False
    after: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One field to sort by."""

    field: str
    descending: bool = False


def _read_text(literal: str) -> Text:
    before = literal.startswith("*")
    after = len(literal) > before and literal.endswith("*")
    return Text(folded(literal[before : len(literal) - after]), before, after)


def _read_truth(literal: str) -> bool:
    if literal not in {"true", "false"}:
        raise ValueError(literal)
    return literal == "true"


_TEXT = Kind("a text, in quotes when it holds more than letters and digits", _read_text)

USER_FIELDS: Mapping[str, Kind] = {
    "display_name": _TEXT,
    "email": _TEXT,
    "status": Kind("one of INVITED, ACTIVE, SUSPENDED, DEACTIVATED", Status),
    "email_verified": Kind("true or false", _read_truth),
    "create_time": TIME,
    "update_time": TIME,
}
USER_ORDERS = ("display_name", "email", "create_time", "update_time")
GROUP_FIELDS: Mapping[str, Kind] = {"display_name": _TEXT, "create_time": TIME, "update_time": TIME}
GROUP_ORDERS = ("display_name", "create_time", "update_time")


def parse_order(text: str, sortable: Collection[str]) -> tuple[Order, ...]:
    """What to sort by, most important first; InvalidArgument FILTER_INVALID, which names the position."""
    orders: list[Order] = []
    position = 0
    for part in text.split(",") if text.strip() else ():
        matched = _ORDER.fullmatch(part)
        if matched is None or matched["field"] not in sortable:
            raise _invalid(position, f"expected one of {', '.join(sortable)}, and perhaps desc")
        orders.append(Order(matched["field"], matched["direction"] == "desc"))
        position += len(part) + 1
    if len({order.field for order in orders}) < len(orders) or len(orders) > _MAX_ORDERS:
        raise _invalid(0, f"takes at most {_MAX_ORDERS} fields, each once")
    return tuple(orders)


def _invalid(position: int, words: str) -> InvalidArgument:
    description = f"at character {position}: {words}"
    return InvalidArgument(
        f"order_by: {description}",
        [FieldViolation("order_by", description, "order_by.syntax")],
        reason="FILTER_INVALID",
        metadata={"position": str(position)},
    )
