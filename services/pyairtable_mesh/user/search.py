"""Finding people while somebody types: each word of a query begins a word of the user, one typing error forgiven.

A typing error is one letter too many, too few, wrong, or two neighbours swapped, in words of four letters and more.
The index holds a user's words and, of each, every form with one letter left out. One edit of a prefix then shows as
an equal form on both sides (the symmetric deletes of SymSpell, W. Garbe 2012), so that plain range scans find every
match, on any database; they find a few others too, which `cost` sorts out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from pyairtable_mesh.user.domain import User, display_key, folded

QUERY_WORDS = 8
FORGIVING_LENGTH = 4
_TERM_LENGTH = 24
_TERMS = 32
_WORD = re.compile(r"[^\W_]+")

EXACT, PREFIX, FORGIVEN = 0, 1, 2

Rank = tuple[int, str, str]
"""Cost, folded display name, id: the order of results."""


def query_words(query: str) -> tuple[str, ...]:
    """The words looked for, distinct, in order; what holds an ``@`` stays whole, as the beginning of an address."""
    return _distinct(_split(folded(query).split()), QUERY_WORDS)


def terms(user: User) -> tuple[str, ...]:
    """The words that a user is found by: of the names, of the address's local part, and the address."""
    local, _, _ = user.email.partition("@")
    names = (user.display_name, user.given_name, user.family_name, local)
    return _distinct([folded(user.email)[:_TERM_LENGTH], *_split(folded(" ".join(names)).split())], _TERMS)


def forgiving(word: str) -> bool:
    """Whether a typing error is forgiven: not in short words, nor in addresses, whose parts are words as well."""
    return len(word) >= FORGIVING_LENGTH and "@" not in word


def deletes(word: str) -> frozenset[str]:
    """Each form of a word with one letter left out; none of a word that is not forgiven an error."""
    if not forgiving(word):
        return frozenset()
    return frozenset(word[:at] + word[at + 1 :] for at in range(len(word)))


def index_keys(user: User) -> dict[str, int]:
    """What the index holds of a user: each key, and how many letters were left out to make it (0 or 1)."""
    found = terms(user)
    return dict.fromkeys((key for term in found for key in deletes(term)), 1) | dict.fromkeys(found, 0)


def rank(words: Sequence[str], user: User) -> Rank | None:
    """Where a user stands among the results; None when some word matches nothing."""
    total = 0
    found = terms(user)
    for word in words:
        costs = [cost for term in found if (cost := match(word, term)) is not None]
        if not costs:
            return None
        total += min(costs)
    return total, display_key(user), user.id


def ranked(words: Sequence[str], users: Iterable[User]) -> list[tuple[Rank, User]]:
    """Those of the users who match, best first, each with its rank."""
    return sorted((found, user) for user in users if (found := rank(words, user)) is not None)


def match(word: str, term: str) -> int | None:
    """EXACT, PREFIX or FORGIVEN; None when no beginning of the term is within one edit of the word."""
    if term.startswith(word):
        return EXACT if word == term else PREFIX
    if not forgiving(word) or "@" in term:
        return None
    at = next((i for i, (a, b) in enumerate(zip(word, term, strict=False)) if a != b), min(len(word), len(term)))
    here, behind = term[at:], term[at + 1 :]
    as_typed, without = word[at:], word[at + 1 :]
    swapped = without[:1] + as_typed[:1] + without[1:]
    one_edit = here.startswith((without, swapped)) or behind.startswith((as_typed, without))
    return FORGIVEN if one_edit else None


def _split(chunks: Iterable[str]) -> Iterator[str]:
    for chunk in chunks:
        if "@" in chunk:
            yield chunk[:_TERM_LENGTH]
        else:
            yield from (word[:_TERM_LENGTH] for word in _WORD.findall(chunk))


def _distinct(words: Iterable[str], limit: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))[:limit]
