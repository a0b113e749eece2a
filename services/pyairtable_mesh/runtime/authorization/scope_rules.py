"""effective(s, r) from own(s, r) and effective(s, parent), as scopes.py defines it, in three-valued logic on masks."""

from collections.abc import Iterable
from typing import NamedTuple

from pyairtable_mesh.runtime.authorization.facts import Verdict
from pyairtable_mesh.runtime.authorization.roles import ScopeMode
from pyairtable_mesh.runtime.authorization.verdicts import either


class Held(NamedTuple):
    """What a subject holds: surely, and possibly, as masks; and whether it is an owner by what is bound so far."""

    sure: int
    possible: int
    owner: Verdict


NOTHING = Held(0, 0, False)
_FALSE: Verdict = False


class Missing:
    """For each name of missing context, the mask of the permissions that hang on it: those of what is held so far."""

    def __init__(self) -> None:
        self._masks: dict[str, int] = {}

    def add(self, mask: int, names: Verdict) -> None:
        """Count what these permissions, or the choice between them, hang on; a verdict that is sure has no names."""
        if not isinstance(names, bool):
            for name in names:
                self._masks[name] = self._masks.get(name, 0) | mask

    def join(self, other: "Missing") -> None:
        """Count also what others hang on."""
        for name, mask in other._masks.items():
            self._masks[name] = self._masks.get(name, 0) | mask

    def keep(self, mask: int) -> None:
        """Forget all permissions but these: the others are decided, whatever the context."""
        self._masks = {name: kept for name, found in self._masks.items() if (kept := found & mask)}

    def __call__(self, permission: int) -> frozenset[str]:
        """The names of the context that a conditional permission lacks."""
        return frozenset(name for name, mask in self._masks.items() if mask & permission)


def combine(
    mode: ScopeMode,
    own: Iterable[tuple[int, bool, Verdict]],
    above: Held,
    owned: int,
    missing: Missing | None = None,
) -> Held:
    """What is held at a resource. `own` are the grants there that may count (mask, whether of the owner role, verdict),
    `owned` is what owners hold; `missing`, which has what is held above, comes to have what is held here.
    """
    sure = possible = 0
    owner, present, unsure = above.owner, _FALSE, Missing()
    for mask, is_owner, holds in own:
        present = either(present, holds)
        possible |= mask
        if holds is True:
            sure |= mask
        else:
            unsure.add(mask, holds)
        if is_owner:
            owner = either(owner, holds)
    unsure.keep(~sure)
    sure, possible = _reduced(mode, (sure, possible), (above.sure, above.possible), present)
    if missing is not None:
        _reduce(missing, mode, unsure, present)
        missing.keep(possible)
        missing.add(owned, owner)
    if owner is not False:
        possible |= owned
    if owner is True:
        sure |= owned
    if missing is not None:
        missing.keep(~sure)
    return Held(sure, possible, owner)


def _reduced(mode: ScopeMode, own: tuple[int, int], above: tuple[int, int], present: Verdict) -> tuple[int, int]:
    """(sure, possible) by the mode; `present` says whether the subject has any binding at the resource."""
    if mode is ScopeMode.INHERIT:
        return own[0] | above[0], own[1] | above[1]
    if mode is ScopeMode.RESTRICT:
        return own[0] & above[0], own[1] & above[1]
    if isinstance(present, bool):
        return own if present else above
    return own[0] & above[0], own[1] | above[1]


def _reduce(missing: Missing, mode: ScopeMode, own: Missing, present: Verdict) -> None:
    """What is missing by the mode, from what is missing above."""
    if mode is ScopeMode.OVERRIDE:
        if present is True:
            missing.keep(0)
        missing.add(-1, present)
    missing.join(own)
