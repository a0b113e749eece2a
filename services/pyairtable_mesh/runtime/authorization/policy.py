"""The hierarchy of a schema whose permissions are given by roles: who is whose parent, and every permission as a bit.

Read from the model itself: the relation that others are taken ``from`` leads to the parent, a relation that no child
takes is a verb of its own type, and what a child takes is the child's permission, held further up.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from pyairtable_mesh.runtime.authorization.facts import refused
from pyairtable_mesh.runtime.authorization.language.syntax import Indirect, Schema, leaves
from pyairtable_mesh.runtime.authorization.names import Slots

_MASKS_NAMED = 1_000


class Policy:
    """Types with their parents and verbs; sets of permissions as integers, one bit each."""

    def __init__(self, schema: Schema, root: str) -> None:
        self.schema = schema
        self.root = root
        self.links = {name: link for name in schema.types if (link := _link(schema, name))}
        self.parents = {name: schema.types[name].relations[link].admitted[0].type for name, link in self.links.items()}
        taken = {(self.parents[name], each.relation) for name in self.links for each in _indirect(schema, name)}
        self.verbs: Mapping[str, tuple[str, ...]] = {
            name: tuple(
                relation
                for relation in definition.relations
                if (name, relation) not in taken and relation not in {self.links.get(name), "member"}
            )
            for name, definition in schema.types.items()
        }
        self.permissions = tuple(f"{name}.{verb}" for name, verbs in self.verbs.items() for verb in verbs)
        self.bits = {name: 1 << index for index, name in enumerate(self.permissions)}
        self.width = len(self.permissions)
        self.names = lru_cache(_MASKS_NAMED)(self._names)
        """The permissions of a mask, in byte order; there are about as many masks as roles."""

    def below(self, type_name: str) -> frozenset[str]:
        """A type and all that inherit from it."""
        found = {type_name}
        while more := {name for name, parent in self.parents.items() if parent in found} - found:
            found |= more
        return frozenset(found)

    def mask(self, permissions: Iterable[str]) -> int:
        """The bits of permissions, ``type.verb``; InvalidArgument UNKNOWN_PERMISSION for one that is not known."""
        mask = 0
        for each in permissions:
            if each not in self.bits:
                raise refused("permissions", f"there is no permission {each[:100]!r}", "UNKNOWN_PERMISSION")
            mask |= self.bits[each]
        return mask

    def _names(self, mask: int) -> tuple[str, ...]:
        return tuple(sorted(name for name, bit in self.bits.items() if mask & bit))

    def verb_bits(self, slots: Slots) -> list[dict[str, int]]:
        """For each type's index its verbs' bits."""
        return [{verb: self.bits[f"{name}.{verb}"] for verb in self.verbs[name]} for name in slots.types]


def _indirect(schema: Schema, type_name: str) -> list[Indirect]:
    relations = schema.types[type_name].relations.values()
    return [leaf for each in relations for leaf in leaves(each.rewrite) if isinstance(leaf, Indirect)]


def _link(schema: Schema, type_name: str) -> str:
    return next((each.tupleset for each in _indirect(schema, type_name)), "")
