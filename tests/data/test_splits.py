"""Parts: the report's shares, decided by the key alone; and what the random split lets through."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerecon_lib.data.splits import SHARES, key_position, part_of, person_leak

FIRST_TWELVE = "validation validation train train train train test train train test train train"
# 250 people with 8 photos each
PHOTOS = [(f"{n:04d}_{p:03d}", f"person {p}") for p in range(250) for n in range(8)]


def parts(split: str, seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    found = {part: [] for part in SHARES}
    for key, person in PHOTOS:
        found[part_of(key, person, split, seed)].append((key, person))
    return found


def test_parts_are_the_same_on_every_machine_for_ever():
    # Written down once: a change of these moves test photos into training.
    assert " ".join(part_of(f"{i:06d}") for i in range(12)) == FIRST_TWELVE
    assert key_position("Robin_Williams", seed=3) == 0.993174118225538


def test_the_shares_are_the_reports():
    assert SHARES == {"train": 0.70, "validation": 0.15, "test": 0.15}
    counts = {part: len(photos) for part, photos in parts("random").items()}
    assert sum(counts.values()) == len(PHOTOS)
    for part, share in SHARES.items():
        assert counts[part] / len(PHOTOS) == pytest.approx(share, abs=0.03)


def test_a_split_by_person_divides_nobody():
    persons = [{person for _, person in photos} for photos in parts("person").values()]
    assert all(persons)
    for one, other in itertools.combinations(persons, 2):
        assert not one & other


def test_the_random_split_leaks_and_the_one_by_person_does_not():
    leak = {}
    for split in ("random", "person"):
        found = parts(split)
        persons = {part: [person for _, person in found[part]] for part in found}
        leak[split] = person_leak(persons["train"], persons["test"])
    assert leak["person"] == 0.0
    assert leak["random"] > 0.99


def test_leak_is_a_share_of_photos_not_of_people():
    assert person_leak(["a", "b"], ["a", "a", "a", "c"]) == 0.75
    with pytest.raises(ValueError, match="got none"):
        person_leak(["a"], [])


def test_another_seed_is_another_split():
    moved = sum(part_of(key) != part_of(key, seed=1) for key, _ in PHOTOS)
    assert moved / len(PHOTOS) == pytest.approx(1 - sum(s**2 for s in SHARES.values()), abs=0.05)


@given(st.text(), st.integers(-(2**40), 2**40))
def test_every_key_has_a_part(key: str, seed: int):
    assert 0 <= key_position(key, seed) < 1
    assert part_of(key, seed=seed) in SHARES


def test_accents_may_be_spelt_either_way():
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert key_position(composed) == key_position(decomposed)


def test_a_misspelt_split_and_a_missing_person_are_refused():
    with pytest.raises(ValueError, match="expected 'random' or 'person', got 'people'"):
        part_of("0001", split="people")
    with pytest.raises(ValueError, match="'0001': its person is not known"):
        part_of("0001", split="person")
