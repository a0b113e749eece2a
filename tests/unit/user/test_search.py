import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.user import search
from pyairtable_mesh.user.search import EXACT, FORGIVEN, PREFIX
from tests.unit.user.people import person

WORDS = st.text("abcde", min_size=1, max_size=8)


def distance(left: str, right: str) -> int:
    """Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours."""
    rows = [[max(i, j) if 0 in {i, j} else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            differs = left[i - 1] != right[j - 1]
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + differs)
            if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


def naive_match(word: str, term: str) -> int | None:
    if term.startswith(word):
        return EXACT if word == term else PREFIX
    close = min(distance(word, term[:length]) for length in range(len(term) + 1)) <= 1
    return FORGIVEN if close and len(word) >= search.FORGIVING_LENGTH else None


@given(WORDS, WORDS)
def test_a_match_is_a_prefix_within_one_edit(word: str, term: str) -> None:
    assert search.match(word, term) == naive_match(word, term)


@given(WORDS, WORDS)
def test_the_index_holds_a_key_for_every_match(word: str, term: str) -> None:
    if naive_match(word, term) is None:
        return
    keys = {term: 0} | dict.fromkeys(search.deletes(term), 1)
    forms = {word, *search.deletes(word)}
    reach = int(search.forgiving(word))
    assert any(key.startswith(form) and edits <= reach for key, edits in keys.items() for form in forms)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("ada", True),
        ("lovelace", True),
        ("love ad", True),
        ("LÓVE", True),
        ("lovlace", True),
        ("loveelace", True),
        ("lvoelace", True),
        ("olvelace", True),
        ("lovalac", True),
        ("countess", True),
        ("countess.of", True),
        ("ada.lovelace@exa", True),
        ("ada.lovelcae@exa", False),
        ("example", False),
        ("adb", False),
        ("lvelce", False),
        ("ada babbage", False),
        ("!!! ada", True),
    ],
)
def test_people_are_found_by(query: str, found: bool) -> None:
    ada = person(1, "Ada Lovelace", email="ada.lovelace@example.com", family_name="Countess of Lovelace")
    assert (search.rank(search.query_words(query), ada) is not None) == found


def test_better_matches_come_first_then_names_then_ids() -> None:
    people = [
        person(1, "Joan Clarke"),
        person(2, "Johanna"),
        person(3, "John"),
        person(4, "Jon"),
        person(5, "Jonathan"),
        person(6, "John"),
    ]
    words = search.query_words("john")
    found = [user for _, user in search.ranked(words, people)]
    names = ["John", "John", "Joan Clarke", "Johanna", "Jon", "Jonathan"]
    assert [user.display_name for user in found] == names
    assert found[:2] == [people[2], people[5]]


@pytest.mark.parametrize("query", ["", "   ", "!?", "_"])
def test_a_query_without_words_looks_for_nothing(query: str) -> None:
    assert search.query_words(query) == ()


@given(st.text(max_size=300), st.text(max_size=200))
def test_whatever_is_typed_or_called_stays_bounded(query: str, name: str) -> None:
    assert len(search.query_words(query)) <= search.QUERY_WORDS
    keys = search.index_keys(person(1, name))
    assert len(keys) <= 32 * 25
    assert all(0 < len(key) <= 64 for key in keys)
