"""Which types of resources a service asks about, read from its access table and its protos."""

import re
from collections.abc import Iterable, Mapping

from google.api import resource_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from pyairtable_mesh.runtime.access import AccessTable, Row

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def types_asked(services: Iterable[ServiceDescriptor], access: Mapping[str, AccessTable]) -> frozenset[str]:
    """The types that the rows ask about, ``base``, ``tenant``; empty for all, where a field may name any type."""
    found: set[str] = set()
    for service in services:
        for method in service.methods:
            row = access.get(service.full_name, {}).get(method.name)
            for way in row.ways() if row is not None else ():
                asked = _asked(way, method)
                if asked is None:
                    return frozenset()
                found |= asked
    return frozenset(found)


def _asked(way: Row, method: MethodDescriptor) -> set[str] | None:
    if way.kind == "tenant":
        return {"tenant"}
    if way.kind != "on":
        return set()
    name = _named(method.input_type, way.field)
    return {name} if name else None


def _named(message: Descriptor, path: str) -> str:
    """The type that a field names: by its reference, or because it is the name of a resource itself; else empty."""
    *outer, last = path.replace("[]", "").split(".")
    for each in outer:
        inner = message.fields_by_name[each].message_type
        if inner is None:
            return ""
        message = inner
    name = message.fields_by_name[last].GetOptions().Extensions[resource_pb2.resource_reference].type
    if not name and last == "name":
        name = message.GetOptions().Extensions[resource_pb2.resource].type
    return _WORD.sub("_", name.rpartition("/")[2]).lower() if "/" in name else ""
