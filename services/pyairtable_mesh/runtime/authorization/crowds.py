"""Sets of subjects of one type, also such as "everybody but a few": what look-ups of subjects calculate with."""

from typing import NamedTuple

from pyroaring import BitMap


class Crowd(NamedTuple):
    """The subjects in a bitmap or, where it is `inverted`, all of the type but those."""

    members: BitMap
    inverted: bool = False

    def union(self, other: "Crowd") -> "Crowd":
        """Who is in either."""
        match self.inverted, other.inverted:
            case False, False:
                return Crowd(self.members | other.members)
            case True, True:
                return Crowd(self.members & other.members, inverted=True)
            case True, False:
                return Crowd(self.members - other.members, inverted=True)
            case _:
                return Crowd(other.members - self.members, inverted=True)

    def complement(self) -> "Crowd":
        """Who is not in it."""
        return Crowd(self.members, not self.inverted)

    def intersection(self, other: "Crowd") -> "Crowd":
        """Who is in both."""
        return self.complement().union(other.complement()).complement()

    def without(self, other: "Crowd") -> "Crowd":
        """Who is in this one only."""
        return self.intersection(other.complement())

    def has(self, subject: int) -> bool:
        """Whether a subject of the type is in it."""
        return (subject in self.members) != self.inverted


NOBODY = Crowd(BitMap())
EVERYBODY = Crowd(BitMap(), inverted=True)
