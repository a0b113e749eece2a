"""References as dense integers, and the relations of a schema as slots."""

import re
from array import array

from pyroaring import BitMap

from pyairtable_mesh.runtime.authorization.facts import WILDCARD, refused
from pyairtable_mesh.runtime.authorization.language.syntax import Relation, Schema

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=/|-]{0,127}")


class Slots:
    """Each (type, relation) of a schema by a small integer, its slot; each type by its index."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.types = tuple(schema.types)
        self.type_index = {name: index for index, name in enumerate(self.types)}
        self.relations: list[Relation] = []
        self.owner: list[int] = []
        self.by_type: list[dict[str, int]] = []
        for index, definition in enumerate(schema.types.values()):
            self.by_type.append(
                {name: len(self.relations) + offset for offset, name in enumerate(definition.relations)}
            )
            self.relations += definition.relations.values()
            self.owner += [index] * len(definition.relations)
        self.admitted = [
            frozenset((each.kind, each.condition) for each in relation.admitted) for relation in self.relations
        ]
        """For each slot whom it admits: kinds with the condition that they need."""

    def __len__(self) -> int:
        return len(self.relations)

    def of(self, type_index: int, relation: str, field: str = "relation") -> int:
        """The slot; InvalidArgument UNKNOWN_RELATION on `field`."""
        slot = self.by_type[type_index].get(relation)
        if slot is None:
            words = f"a {self.types[type_index]} has no relation {relation!r}"
            raise refused(field, words, "UNKNOWN_RELATION")
        return slot

    def name(self, slot: int) -> str:
        """``type#relation``."""
        return f"{self.types[self.owner[slot]]}#{self.relations[slot].name}"


class Names:
    """Interned references. A handle is the index of a reference, and is given for the life of the engine.

    Names that one question brings are taken back after it (`mark`, `rollback`), so that questions cost no memory.
    """

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.handles: dict[str, int] = {}
        self.texts: list[str] = []
        self.types = array("H")
        self.usersets: dict[int, tuple[int, int]] = {}
        self.userset_of: dict[tuple[int, int], int] = {}
        self.wildcards: dict[int, int] = {}
        self.objects = [BitMap() for _ in slots.types]
        """For each type its objects."""

    def __len__(self) -> int:
        return len(self.texts)

    def object(self, text: str, field: str = "object") -> int:
        """The handle of ``type:id``; InvalidArgument UNKNOWN_TYPE or MALFORMED_REFERENCE on `field`."""
        handle = self.handles.get(text)
        if handle is not None and handle not in self.usersets and not text.endswith(":*"):
            return handle
        kind, _, identifier = text.partition(":")
        index = self._type(kind, field)
        if not _ID.fullmatch(identifier):
            raise refused(field, f"{text[:200]!r} is not written type:id", "MALFORMED_REFERENCE")
        handle = self._add(text, index)
        self.objects[index].add(handle)
        return handle

    def subject(self, text: str, field: str = "subject") -> int:
        """The handle of ``type:id``, ``type:*`` or ``type:id#relation``; InvalidArgument on `field`."""
        handle = self.handles.get(text)
        if handle is not None:
            return handle
        object_text, mark, relation = text.partition("#")
        kind, _, identifier = object_text.partition(":")
        if mark:
            owner = self.object(object_text, field)
            key = (owner, self.slots.of(self.types[owner], relation, field))
            handle = self._add(text, self.types[owner])
            self.usersets[handle] = key
            self.userset_of[key] = handle
            return handle
        if identifier == WILDCARD:
            index = self._type(kind, field)
            self.wildcards[index] = handle = self._add(text, index)
            return handle
        return self.object(text, field)

    def kind(self, handle: int) -> str:
        """How relations admit a subject: ``type``, ``type:*`` or ``type#relation``."""
        if handle in self.usersets:
            return self.slots.name(self.usersets[handle][1])
        name = self.slots.types[self.types[handle]]
        return f"{name}:*" if self.wildcards.get(self.types[handle]) == handle else name

    def wildcard(self, handle: int) -> int:
        """The wildcard that stands for an object; -1 where there is none, and for what is no object."""
        if handle in self.usersets:
            return -1
        found = self.wildcards.get(self.types[handle], -1)
        return -1 if found == handle else found

    def rollback(self, mark: int) -> None:
        """Forget every name that was added since ``len(names)`` was `mark`."""
        for handle in range(len(self.texts) - 1, mark - 1, -1):
            del self.handles[self.texts.pop()]
            index = self.types.pop()
            if (key := self.usersets.pop(handle, None)) is not None:
                del self.userset_of[key]
            elif self.wildcards.get(index) == handle:
                del self.wildcards[index]
            else:
                self.objects[index].discard(handle)

    def _type(self, name: str, field: str) -> int:
        index = self.slots.type_index.get(name)
        if index is None:
            raise refused(field, f"there is no type {name[:60]!r}", "UNKNOWN_TYPE")
        return index

    def _add(self, text: str, type_index: int) -> int:
        handle = self.handles[text] = len(self.texts)
        self.texts.append(text)
        self.types.append(type_index)
        return handle
