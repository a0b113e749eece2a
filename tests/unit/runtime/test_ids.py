from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.runtime import ids

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _decoded(identifier: str) -> int:
    number = 0
    for character in identifier[3:]:
        number = number << 5 | _ALPHABET.index(character)
    return number


def test_an_id_is_its_prefix_and_26_characters() -> None:
    assert ids.ID_PATTERN.fullmatch(ids.new_id("usr"))
    assert ids.new_id("usr").startswith("usr")


def test_an_id_is_a_version_7_uuid_with_the_time_in_front() -> None:
    number = _decoded(ids.IdSource(clock_ns=lambda: 1_700_000_000_123_456_789).new_id("usr"))
    assert number >> 80 == 1_700_000_000_123
    assert number >> 76 & 0xF == 7
    assert number >> 62 & 0b11 == 0b10


@given(st.lists(st.integers(min_value=0, max_value=2**47 * 1_000_000), min_size=2, max_size=50))
def test_ids_of_one_source_grow_whatever_its_clock_does(instants: list[int]) -> None:
    clock = iter(instants)
    source = ids.IdSource(clock_ns=lambda: next(clock))
    made = [source.new_id("rec") for _ in instants]
    assert all(before < after for before, after in pairwise(made))


def test_a_counter_that_overflows_borrows_from_the_next_millisecond() -> None:
    source = ids.IdSource(clock_ns=lambda: 5_000_000)
    source.uuid7()
    source._random = ids._RANDOM_MASK
    overflown = source.uuid7()
    assert overflown >> 80 == 6


def test_the_ids_of_parts_are_the_same_each_time_as_old_as_the_whole_and_like_no_other() -> None:
    whole = ids.new_id("evt")
    parts = [ids.derived(whole, part) for part in range(1_000)]
    assert parts == [ids.derived(whole, part) for part in range(1_000)]
    assert all(ids.ID_PATTERN.fullmatch(part) for part in parts)
    assert {(_decoded(part) >> 76, _decoded(part) >> 62 & 0b11) for part in parts} == {(_decoded(whole) >> 76, 0b10)}
    assert len({*parts, whole, *(ids.derived(ids.new_id("evt"), part) for part in range(1_000))}) == 2_001
