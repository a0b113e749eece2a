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
    """Collects which context is missing for which permissions."""

    def __init__(self) -> None:
        self._found: list[tuple[int, Verdict]] = []

    def add(self, mask: int, names: Verdict) -> None:
        """Count what a grant, or a choice, of these permissions hangs on."""
        self._found.append((mask, names))

    def __call__(self, permission: int) -> frozenset[str]:
        """The names of the context that a conditional permission lacks."""
        return frozenset(name for mask, names in self._found if mask & permission and names for name in names)  # type: ignore[union-attr] # sets


def combine(
    mode: ScopeMode,
    own: Iterable[tuple[int, bool, Verdict]],
    above: Held,
    owned: int,
    missing: Missing | None = None,
) -> Held:
    """What is held at a resource. `own` are the grants there that may count (mask, whether of the owner role, verdict),
    `owned` is what owners hold; `missing` collects what unknown grants hang on.
    """
    sure = possible = 0
    owner, present = above.owner, _FALSE
    for mask, is_owner, holds in own:
        present = either(present, holds)
        possible |= mask
        if holds is True:
            sure |= mask
        elif missing is not None:
            missing.add(mask if mode is ScopeMode.INHERIT and not is_owner else -1, holds)
        if is_owner:
            owner = either(owner, holds)
    sure, possible = _reduced(mode, (sure, possible), (above.sure, above.possible), present)
    if owner is not False:
        possible |= owned
    if owner is True:
        sure |= owned
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
