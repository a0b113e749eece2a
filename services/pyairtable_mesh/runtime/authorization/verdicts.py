"""The three-valued semantics, written down once.

A verdict is True (allowed), False (denied), or the set of parameters whose values are missing (conditional). They
combine as Kleene's strong logic has it; missing names add up where the answer depends on them:

- or: allowed if either is; else conditional if either is; else denied.
- and, and a relationship with its term: denied if either is; else conditional if either is; else allowed.
- but not: and, with the negation of the subtracted side.
- A term that has expired (``now >= expires``) is False, whatever its condition. A condition without all the values it
  needs is conditional, one whose expression fails or gives no boolean is False: what cannot be answered grants nothing.
- A wildcard ``type:*`` stands for every object of its type, also those that nothing is stored about, and never for a
  userset. Asked as a subject itself it is in what names the wildcard, and in nothing else: its answer is that of an
  object which no relationship names.
- A userset is in its own relation: ``group:a#member`` is a member of ``group:a``.
- Cycles: relations are the well-founded model of their definitions. Without exclusion that is the least fixed point:
  what is true only because of itself is false. A question that would hold if and only if it did not, through
  ``but not``, is denied, unless it is undecided for the sake of missing context: then it is conditional.
"""

from pyairtable_mesh.runtime.authorization.facts import Verdict


def either(one: Verdict, other: Verdict) -> Verdict:
    """or."""
    if one is True or other is True:
        return True
    if one is False:
        return other
    return one if other is False else one | other


def both(one: Verdict, other: Verdict) -> Verdict:
    """and."""
    if one is False or other is False:
        return False
    if one is True:
        return other
    return one if other is True else one | other


def negation(one: Verdict) -> Verdict:
    """not."""
    return (not one) if isinstance(one, bool) else one
