"""Who is trained on, and who is judged on: the report's random split by photo, and one by person.

    part_of("0042", "Robin_Williams", split="person")    # "train", "validation" or "test"
    person_leak((photo.person for photo in train), (photo.person for photo in test))   # 0.0

The report draws 70 % of CACD2000 for training and 15 % each for validation and test, at random over
160,000 photos of 2,000 people. That split leaks: with about 80 photos per celebrity, every face of
the test was seen in training, and the test error says little about a stranger. `split="person"`
puts all photos of a person into one part. `person_leak` measures the difference.

A hash of the photo's key, or of the person, with a seed decides the part, so a photo that is added
later moves no other one; the shares are exact only on average. Notebook 06, section 2.1.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}  # section 2.1
SPLITS = ("random", "person")


def key_position(key: str, seed: int = 0) -> float:
    """Where in [0, 1) the hash (SHA-256) of a key and a seed falls; uniform over keys.

    Two spellings of one accented letter (NFC, and NFD as macOS stores names) count as one.
    """
    text = f"{int(seed)}\n{unicodedata.normalize('NFC', key)}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits: exact in a float


def part_of(key: str, person: str = "", split: str = "random", seed: int = 0) -> str:
    """The part, "train", "validation" or "test", of the photo `key` of `person`.

    Raises ValueError for an unknown split, and for a split by person without one.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected 'random' or 'person', got {split!r}")
    if split == "person" and not person:
        raise ValueError(f"photo {key!r}: its person is not known; split='random' needs none")
    position = key_position(person if split == "person" else key, seed)
    if position < SHARES["train"]:
        return "train"
    return "validation" if position < SHARES["train"] + SHARES["validation"] else "test"


def person_leak(train: Iterable[str], test: Iterable[str]) -> float:
    """Share of the test photos whose person is in training, from the person of each photo.

    Raises ValueError when there is no test photo.
    """
    people = set(train)
    leaks = [person in people for person in test]
    if not leaks:
        raise ValueError("test: expected the person of each test photo, got none")
    return sum(leaks) / len(leaks)
