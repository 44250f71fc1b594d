"""What a preparation leaves beside its shards: its settings, and a report of every photo.

claim_output(out, settings, folder, meta)            # the same settings as before, or refuse
write_report(out, photos, settings)                  # report.csv, report.json, index.json
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from facerecon_lib.data.shards.files import ShardsError, write_index
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.errors import one_line
from facerecon_lib.photos.quality import FLAGS, Quality
from photo_shards.folder import ABOUT, PhotoFolder
from photo_shards.preparation import BROKEN, FACE, LEFT_OUT, NO_FACE, STATUSES, Settings
from photo_shards.rows import WORK, done_rows, shard_path

FORMAT = "facerecon photo preparation 1"
SETTINGS_FILE = "preparation.json"
CLAIMED = ("format", "version", "photos", "names")
DIGESTS = {
    "names": "other photos, or other people on them",
    "meta": "another table of who is on the photos, or without one",
}
MEASURES = tuple(Quality.__dataclass_fields__)
COLUMNS = ("photo", "status", "reason", "person", "shard", "key", "flags", *MEASURES, *ABOUT)


# The settings -----------------------------------------------------------------------------------


def description(settings: Settings, folder: PhotoFolder, meta: Path | None) -> dict:
    """Everything that the bytes depend on."""
    table = None if meta is None else sha256_of(meta)[:16]
    facts = {"format": FORMAT, "version": version("facerecon-lib"), "photos": len(folder.photos)}
    chosen = asdict(settings) | {"skip": list(settings.skip), "meta": table}
    return facts | {"names": folder.digest(), "settings": chosen}


def check_output(out: Path, facts: dict) -> bool:
    """Whether a preparation of this kind was begun in the folder; nothing is written.

    Raises ShardsError where it was one of another kind, or the shards there are somebody else's.
    """
    try:
        stored = json.loads((out / SETTINGS_FILE).read_bytes())
        if not (isinstance(stored, dict) and isinstance(stored.get("settings"), dict)):
            raise ValueError("it does not hold settings")
    except FileNotFoundError:
        if strange := next(out.glob("*.tar"), None):
            raise ShardsError(
                f"{out}: holds {strange.name}, which this script did not write; choose another "
                "--out"
            ) from None
        return False
    except NotADirectoryError:
        raise ShardsError(f"{out}: is a file; choose another --out") from None
    except (OSError, ValueError) as error:
        raise ShardsError(
            f"{out / SETTINGS_FILE}: cannot be read ({one_line(error)}); choose another --out"
        ) from None
    before, now = (f["settings"] | {k: f.get(k) for k in CLAIMED} for f in (stored, facts))
    for name, value in now.items():
        if before.get(name) != value:
            change = DIGESTS.get(name, f"{name} = {before.get(name)}, and now it is {value}")
            raise ShardsError(
                f"{out}: was begun with {change}; set it as it was, or choose another --out"
            )
    return True


def check_retry(out: Path, begun: bool) -> None:
    """Raises ShardsError where nobody knows which photos of a preparation are broken."""
    if not begun:
        raise ShardsError(f"--retry: nothing is prepared in {out} yet; leave it out")
    if not (out / WORK).is_dir():
        raise ShardsError(
            f"--retry: {out / WORK} is gone, which says what is broken; without --retry all photos "
            "are prepared again"
        )


def claim_output(out: Path, facts: dict) -> None:
    """Make the folder, or resume in it. Raises ShardsError as `check_output`, and of the disk."""
    try:
        if not check_output(out, facts):
            (out / WORK).mkdir(parents=True, exist_ok=True)
            with write_whole(out / SETTINGS_FILE) as partial:
                partial.write_text(json.dumps(facts, indent=1))
        (out / WORK).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=out / WORK):
            pass
    except OSError as error:
        raise ShardsError(
            f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from None


# The report -------------------------------------------------------------------------------------


def write_report(out: Path, photos: Sequence, settings: Settings, unread: list[str]) -> dict | None:
    """index.json, report.csv with a line for each photo, and report.json with their sums.

    Returns the latter; None where a shard is not done yet. Raises ShardsError.
    """
    numbers = range(settings.shards(len(photos)))
    if any(done_rows(out, number) is None for number in numbers):
        return None
    try:
        write_index(out)
        totals = _Totals()
        lines = [totals.add(row) for row in _rows(out, numbers)]
        header = _csv_line(dict(zip(COLUMNS, COLUMNS, strict=True)))
        with write_whole(out / "report.csv") as partial:
            partial.write_bytes("".join([header, *sorted(lines)]).encode())
        report = totals.report(out, numbers, settings, unread)
        with write_whole(out / "report.json") as partial:
            partial.write_text(json.dumps(report, indent=1))
    except OSError as error:
        raise ShardsError(f"{out}: cannot be written ({error.strerror or error})") from None
    return report


def _rows(out: Path, numbers: range) -> Iterator[dict]:
    for number in numbers:
        for row in done_rows(out, number):
            shard = shard_path(out, number).name if row["status"] == FACE else ""
            yield row | {"shard": shard}


def _csv_line(values: dict) -> str:
    stream = io.StringIO()
    csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(values)
    return stream.getvalue()


class _Totals:
    def __init__(self) -> None:
        self.statuses, self.flags, self.people = Counter(), Counter(), set()
        self.unused: dict[str, list] = {LEFT_OUT: [], NO_FACE: [], BROKEN: []}

    def add(self, row: dict) -> str:
        """Returns the row's line of the csv."""
        quality = row.get("quality", {})
        self.statuses[row["status"]] += 1
        if row["status"] == FACE:
            self.flags.update(quality["flags"])
            self.people.add(row["person"])
        else:
            self.unused[row["status"]].append({"photo": row["photo"], "reason": row["reason"]})
        values = {name: row.get(name, "") for name in COLUMNS} | row["about"] | quality
        return _csv_line(values | {"flags": " ".join(quality.get("flags", []))})

    def report(self, out: Path, numbers: range, settings: Settings, unread: list[str]) -> dict:
        shards = [path for n in numbers if (path := shard_path(out, n)).is_file()]
        return {
            "photos": self.statuses.total(),
            **{status: self.statuses[status] for status in STATUSES},
            "people": len(self.people),
            "flags": {flag: self.flags[flag] for flag in FLAGS},
            "shards": len(shards),
            "bytes": sum(path.stat().st_size for path in shards),
            "settings": asdict(settings) | {"skip": list(settings.skip)},
            "folders that cannot be read": unread,
            "not used": {
                status: sorted(rows, key=lambda row: row["photo"])
                for status, rows in self.unused.items()
            },
        }
