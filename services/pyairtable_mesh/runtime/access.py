"""The access table: for every RPC one row that says who may call it, and on which resource.

A row is data; the authorization interceptor asks it for the questions that the permission service must answer. The
table stands beside the servicer, and the process refuses to start when a method has no row or a row no method.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument

ANY = "*"
"""Any service account of the service's own namespace, in a `workload` row."""
Question = tuple[str, str]
"""A resource reference (``base:app…``) and the verb asked about (``read``)."""

_TYPE_OF_COLLECTION = {
    "tenants": "tenant",
    "users": "user",
    "groups": "group",
    "workspaces": "workspace",
    "bases": "base",
    "tables": "table",
    "fields": "field",
    "views": "view",
    "records": "record",
    "interfaces": "interface",
    "files": "file",
    "webhooks": "webhook",
    "roles": "role",
    "serviceAccounts": "service_account",
    "apiKeys": "api_key",
}
_NAME = re.compile(r"([a-zA-Z]+)/([a-z]{3}[0-9a-hjkmnp-tv-z]{26})(?:/[a-zA-Z]+)?")
_REFERENCE = re.compile(r"[a-z][a-z_]{0,62}:[A-Za-z0-9][A-Za-z0-9_|.@-]{0,127}")


@dataclass(frozen=True, slots=True)
class Row:
    """Who may call a method. Exactly one of the ways below holds; `alternatives` are tried in order after it."""

    kind: str
    field: str = ""
    permission: str = ""
    workloads: frozenset[str] = frozenset()
    alternatives: tuple["Row", ...] = ()

    def __or__(self, other: "Row") -> "Row":
        return Row(self.kind, self.field, self.permission, self.workloads, (*self.alternatives, other))

    def ways(self) -> Iterator["Row"]:
        """This row and its alternatives, in the order in which they are tried."""
        yield self
        yield from self.alternatives


AccessTable = Mapping[str, Row]
"""Method name (``GetUser``) to its row, for one gRPC service."""


def public() -> Row:
    """Anyone, without a token."""
    return Row("public")


def authenticated() -> Row:
    """Any user; the use case decides the rest in its own transaction."""
    return Row("authenticated")


def filtered(resource_type: str) -> Row:
    """Any user; the answer holds only resources of this type that the caller may read."""
    return Row("authenticated", field=resource_type)


def own(field: str) -> Row:
    """The user that `field` names, or who calls when it is empty."""
    return Row("own", field)


def on(field: str, permission: str) -> Row:
    """Who has the permission on the resource that `field` names."""
    return Row("on", field, permission)


def each(field: str, permission: str) -> Row:
    """Who has the permission on every resource of a repeated field (``names``, ``updates[].resource``)."""
    return Row("on", field, permission)


def first_message(field: str, permission: str) -> Row:
    """As `on`, for the first message of a request stream."""
    return Row("on", field, permission)


def tenant(permission: str) -> Row:
    """Who has the permission on the caller's own tenant."""
    return Row("tenant", permission=permission)


def workload(*service_accounts: str) -> Row:
    """The named service accounts, as themselves and not for a user.

    A bare name is one of the service's own namespace, for anyone may name an account `audit` in theirs; one of another
    namespace is written ``namespace/name``.
    """
    return Row("workload", workloads=frozenset(service_accounts))


def reader(path: str) -> Callable[[Any], list[tuple[str, str]]]:
    """`values` for one path, made once: a path without repeated fields is read in one step."""
    if "[]" in path:
        return partial(values, path=path)
    read = attrgetter(path)

    def of(request: Any) -> list[tuple[str, str]]:
        value = read(request)
        return [(path, value)] if isinstance(value, str) else values(request, path)

    return of


def values(request: Any, path: str) -> list[tuple[str, str]]:
    """The (path, string) pairs that a field path names in a request message; ``[]`` fans out over repeated fields."""
    found: list[tuple[str, Any]] = [("", request)]
    for part in path.split("."):
        name = part.removesuffix("[]")
        reached: list[tuple[str, Any]] = []
        for prefix, message in found:
            value = getattr(message, name)
            here = f"{prefix}.{name}" if prefix else name
            if isinstance(value, str) or hasattr(value, "DESCRIPTOR"):
                reached.append((here, value))
            else:
                reached.extend((f"{here}[{index}]", item) for index, item in enumerate(value))
        found = reached
    return [(where, str(value)) for where, value in found]


def reference(field: str, value: str) -> str:
    """The permission object of a resource name or reference: ``users/usr…`` and ``user:usr…`` give ``user:usr…``."""
    if _REFERENCE.fullmatch(value):
        return value
    match = _NAME.fullmatch(value)
    kind = _TYPE_OF_COLLECTION.get(match[1]) if match else None
    if match is None or kind is None:
        words = "give a resource name such as users/usr…, or a reference such as user:usr…"
        raise InvalidArgument(f"{field}: {words}", [FieldViolation(field, words, "resource.shape")])
    return f"{kind}:{match[2]}"


def questions(row: Row, resources: Sequence[str], caller: RequestContext, namespace: str) -> list[Question] | None:
    """What must be allowed for this way in: None when it is closed to this caller, empty when nothing need be asked.

    `resources` are the references that the row's field names in the request, an empty field names none; `namespace` is
    the service's own.
    """
    is_user = caller.actor.kind == "user"
    match row.kind:
        case "on":  # first, for it is what most calls are
            return [(resource, row.permission) for resource in resources] if is_user else None
        case "public":
            return []
        case "workload":
            home, account = caller.actor.workload
            names = {f"{home}/{account}"} | ({account, ANY} if home == namespace else set())
            return [] if account and names & row.workloads else None
        case "authenticated":
            return [] if is_user else None
        case "own":
            same = all(resource == caller.actor.subject for resource in resources)
            return [] if is_user and same else None
        case "tenant":
            return [(f"tenant:{caller.tenant_id}", row.permission)] if is_user else None
        case _:
            raise ValueError(f"no such kind of row: {row.kind!r}")
