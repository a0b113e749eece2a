"""An engine's whole state as bytes: what a replica begins with before it follows the changes.

::

    magic "PAMZ" | version u16 | reserved u16 | header length u32 | header (JSON) | sections | BLAKE2b-256 of all before

A section is its length (u64) and that many bytes; all integers are little-endian. The header names the schema by its
digest and the revision. Names come sorted, so that handles are in the order of references and those of a type stand
together; each map of the graph is three arrays of u32: keys, how many values each has, and all values. Role bindings
are arrays of u32 too: resources, subjects, and the places of their roles in a list.
"""

import gc
import json
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import accumulate, repeat
from typing import Any

from pyroaring import BitMap

from pyairtable_mesh.runtime.authorization.bindings import Bound
from pyairtable_mesh.runtime.authorization.facts import ALWAYS, Term
from pyairtable_mesh.runtime.authorization.graph import Edges, Graph, Map, every
from pyairtable_mesh.runtime.authorization.language import document
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.authorization.policy import Policy
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from pyairtable_mesh.runtime.authorization.roles import ScopeMode
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine

VERSION = 2
MAX_BYTES = 4 << 30
"""How large a snapshot may be."""
_MAGIC = b"PAMZ"
_HEAD = struct.Struct("<4sHHI")
_LENGTH = struct.Struct("<Q")
_DIGEST = 32


class SnapshotError(ValueError):
    """Bytes that are no snapshot of this version and schema, or damaged."""


def digest(schema: Schema) -> str:
    """What a snapshot names its schema by."""
    return blake2b(json.dumps(document.to_document(schema)).encode(), digest_size=16).hexdigest()


def dump(engine: RelationEngine | ScopedEngine) -> bytes:
    """The whole state of an engine."""
    graph = engine.graph
    order = sorted(range(len(graph.names)), key=graph.names.texts.__getitem__)
    moved = array("I", bytes(4 * len(order)))
    for new, old in enumerate(order):
        moved[old] = new
    sections = [*_names(graph, order, moved), *(part for edges in graph.edges for part in _edges(edges, moved))]
    header: dict[str, Any] = {"revision": engine.revision, "schema": digest(graph.slots.schema), "count": graph.count}
    if isinstance(engine, ScopedEngine):
        header["root"] = graph.names.texts[engine.root]
        sections += _scopes(engine, moved)
    encoded = json.dumps(header).encode()
    body = [_HEAD.pack(_MAGIC, VERSION, 0, len(encoded)), encoded]
    for section in sections:
        body += _LENGTH.pack(len(section)), section
    whole = b"".join(body)
    return whole + blake2b(whole, digest_size=_DIGEST).digest()


def load_relations(data: bytes, schema: Schema) -> RelationEngine:
    """A new engine with the state of a snapshot; `SnapshotError` for one that is damaged or of another schema."""
    header, sections = _opened(data, schema)
    engine = RelationEngine(schema)
    with _uncollected():
        _fill(engine.graph, sections)
    engine.graph.count, engine.revision = header["count"], header["revision"]
    return engine


def load_scoped(data: bytes, policy: Policy) -> ScopedEngine:
    """A new engine of the product with the state of a snapshot; `SnapshotError` as for `load_relations`."""
    header, sections = _opened(data, policy.schema)
    if "root" not in header:
        raise SnapshotError("the snapshot has no roles")
    engine = ScopedEngine(policy, header["root"])
    with _uncollected():
        shared = _fill(engine.graph, sections)
        engine.root = engine.graph.names.handles[header["root"]]
        engine.graph.count = header["count"]
        _restore(engine, sections, shared, header["revision"])
    return engine


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing becomes garbage while maps are filled, and looking for it takes as long as filling them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _names(graph: Graph, order: list[int], moved: "array[int]") -> Iterator[bytes]:
    names = graph.names
    yield "\n".join(names.texts[old] for old in order).encode()
    yield _packed(
        array(
            "I", (part for each, (owner, slot) in names.usersets.items() for part in (moved[each], moved[owner], slot))
        )
    )
    yield _packed(array("I", (moved[each] for each in names.wildcards.values())))


def _edges(edges: Edges, moved: "array[int]") -> Iterator[bytes]:
    for table in (edges.subjects, edges.sets, edges.objects):
        keys, counts, values = array("I"), array("I"), array("I")
        for key, targets in table.items():
            keys.append(moved[key])
            before = len(values)
            values.extend(sorted(moved[each] for each in every(targets)))
            counts.append(len(values) - before)
        yield from map(_packed, (keys, counts, values))
    terms = [[moved[target], moved[subject], *_of_term(term)] for (target, subject), term in edges.terms.items()]
    yield json.dumps(terms).encode()


def _of_term(term: Term) -> list[Any]:
    return [term.condition, dict(term.context), term.expires]


def _scopes(engine: ScopedEngine, moved: "array[int]") -> Iterator[bytes]:
    bound = list(engine.bindings.stored())
    roles = {role: place for place, role in enumerate(dict.fromkeys(each.role for each in bound))}
    found = {
        "roles": {name: engine.policy.names(mask) for name, mask in engine.roles.items()},
        "modes": [[moved[resource], mode.value] for resource, mode in engine.modes.items()],
        "bound": list(roles),
        "ids": [each.id for each in bound],
        "terms": [[index, *_of_term(each.term)] for index, each in enumerate(bound) if each.term],
    }
    yield json.dumps(found).encode()
    yield _packed(array("I", (moved[each.resource] for each in bound)))
    yield _packed(array("I", (moved[each.subject] for each in bound)))
    yield _packed(array("I", (roles[each.role] for each in bound)))


def _restore(engine: ScopedEngine, sections: Iterator[memoryview], shared: list[int], revision: int) -> None:
    found = json.loads(bytes(next(sections)))
    resources, subjects, places = (_unpacked("I", next(sections)) for _ in range(3))
    terms = [ALWAYS] * len(places)
    for index, condition, context, expires in found["terms"]:
        terms[index] = Term(condition, context, expires)
    bound = map(
        Bound,
        map(shared.__getitem__, subjects),
        map(found["bound"].__getitem__, places),
        terms,
        found["ids"],
        map(shared.__getitem__, resources),
    )
    roles = {name: frozenset(permissions) for name, permissions in found["roles"].items()}
    modes = {shared[resource]: ScopeMode(mode) for resource, mode in found["modes"]}
    engine.restore(revision, roles, modes, bound)


def _packed(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpacked(kind: str, data: memoryview) -> "array[int]":
    values = array(kind)
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _opened(data: bytes, schema: Schema) -> tuple[dict[str, Any], Iterator[memoryview]]:
    if not _HEAD.size + _DIGEST <= len(data) <= MAX_BYTES:
        raise SnapshotError("the snapshot is too short or too long")
    view = memoryview(data)
    magic, version, _, length = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise SnapshotError(f"the snapshot is not of version {VERSION}")
    if blake2b(view[:-_DIGEST], digest_size=_DIGEST).digest() != view[-_DIGEST:]:
        raise SnapshotError("the snapshot is damaged")
    header = json.loads(bytes(view[_HEAD.size : _HEAD.size + length]))
    if header["schema"] != digest(schema):
        raise SnapshotError("the snapshot is of another schema")
    return header, _sections(view[_HEAD.size + length : -_DIGEST])


def _sections(view: memoryview) -> Iterator[memoryview]:
    while view:
        (length,) = _LENGTH.unpack_from(view)
        yield view[_LENGTH.size : _LENGTH.size + length]
        view = view[_LENGTH.size + length :]


def _fill(graph: Graph, sections: Iterator[memoryview]) -> list[int]:
    """Names and maps. All maps share the same integer objects, which are most of what a map would cost: by handle."""
    # In place: the compiled closures hold on to these very objects.
    names = graph.names
    names.rollback(0)
    names.texts += str(next(sections), "ascii").splitlines()
    names.handles.update(zip(names.texts, range(len(names.texts)), strict=True))
    shared = list(names.handles.values())
    triples = _unpacked("I", next(sections))
    names.usersets.update(
        (shared[triples[i]], (shared[triples[i + 1]], triples[i + 2])) for i in range(0, len(triples), 3)
    )
    names.userset_of.update((key, userset) for userset, key in names.usersets.items())
    wildcards = _unpacked("I", next(sections))
    others = BitMap(names.usersets) | BitMap(wildcards)
    for name in sorted(graph.slots.types, key=lambda name: f"{name}:"):
        begin = len(names.types)
        end = bisect_left(names.texts, f"{name};", begin)  # which is what comes after every text with a colon
        names.types.extend(repeat(graph.slots.type_index[name], end - begin))
        names.objects[graph.slots.type_index[name]] = BitMap(range(begin, end)) - others
    names.wildcards.update((names.types[each], shared[each]) for each in wildcards)
    for edges in graph.edges:
        for table in (edges.subjects, edges.sets, edges.objects):
            keys, counts, values = (_unpacked("I", next(sections)) for _ in range(3))
            _read_map(table, keys, counts, values, shared)
        for target, subject, condition, context, expires in json.loads(bytes(next(sections))):
            edges.terms[shared[target], shared[subject]] = Term(condition, context, expires)
    return shared


def _read_map(table: Map, keys: "array[int]", counts: "array[int]", values: "array[int]", shared: list[int]) -> None:
    get: Any = shared.__getitem__
    if len(keys) == len(values):
        table.update(zip(map(get, keys), map(get, values), strict=True))
        return
    begin = 0
    for key, end in zip(map(get, keys), accumulate(counts), strict=True):
        table[key] = get(values[begin]) if end - begin == 1 else BitMap(values[begin:end])
        begin = end
