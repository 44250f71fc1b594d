"""How people see the skin tones of photos: a table of ratings.

    photo,tone1,tone2                                    # several columns or rows: their mean
    me.jpg,3,4
    portrait_0042,7,6                                    # a photo's name without its suffix, too

    ratings, problems = read_ratings(Path("ratings.csv"))
    ratings_of(["shard.tar/portrait_0042"], ratings)     # {"shard.tar/portrait_0042": 6.5}

Notebook 09, section 2.3.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..files.errors import FacereconError, one_line


class RatingsError(FacereconError):
    """A file that holds no ratings. One line: which, what is wrong, what to do."""


def read_ratings(path: Path) -> tuple[dict[str, float], list[str]]:
    """The mean rating of each photo, and what is wrong with each bad line: a sentence for one.

    Raises RatingsError for a file that cannot be read, and for one without the columns.
    """
    tones, problems = defaultdict(list), []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.reader(file)
            header = [name.strip() for name in next(table, [])]
            columns = [i for i, name in enumerate(header) if re.fullmatch(r"tone\d*", name)]
            if "photo" not in header or not columns:
                raise RatingsError(
                    f"{path}: its first line is {','.join(header)[:60]!r}: expected photo,tone"
                )
            for row in filter(any, table):
                try:
                    if len(row) != len(header):
                        raise ValueError(f"expected {len(header)} values, got {len(row)}")
                    if not (photo := row[header.index("photo")].strip()):
                        raise ValueError("names no photo")
                    values = [_tone(row[i]) for i in columns]
                    tones[photo] += values
                except ValueError as error:
                    problems.append(f"{path}: line {table.line_num}: {error}")
    except OSError as error:
        raise RatingsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RatingsError(f"{path}: is no table of text ({one_line(error)})") from None
    return {photo: sum(values) / len(values) for photo, values in tones.items()}, problems


def _tone(text: str) -> float:
    try:
        tone = float(text)
    except ValueError:
        tone = 0.0
    if not 1 <= tone <= 10:
        raise ValueError(f"tone {text.strip()!r}: expected Monk's, 1 (lightest) to 10")
    return tone


def ratings_of(photos: Iterable[str], ratings: Mapping[str, float]) -> dict[str, float]:
    """By the photos' own names: a rating names one with or without its folder and its suffix."""
    result = {}
    for photo in photos:
        names = (photo, Path(photo).name, Path(photo).stem)
        if name := next(filter(ratings.__contains__, names), None):
            result[photo] = ratings[name]
    return result
