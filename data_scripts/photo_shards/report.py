"""What a preparation leaves beside its shards: its settings, and a report of every photo.

    claim_output(out, description(settings, folder, meta))   # the same settings, or refuse
    write_report(job, unread=[])                             # report.csv, report.json, index.json

Notebook 06, section 2.3.
"""

import csv
import json
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from facerecon_lib.cli.console import writing
from facerecon_lib.data.shards.files import ShardsError, write_index
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.errors import one_line
from facerecon_lib.photos.quality import FLAGS, Quality
from photo_shards.folder import ABOUT, PhotoFolder
from photo_shards.preparation import FACE, STATUSES, WORK, Job, Settings

FORMAT = "facerecon photo preparation 1"
SETTINGS_FILE = "preparation.json"
CLAIMED = ("format", "version", "photos", "names")
DIGESTS = {
    "names": "other photos, or other people on them",
    "meta": "another table of who is on the photos, or without one",
}
MEASURES = tuple(Quality.__dataclass_fields__)
COLUMNS = ("photo", "status", "reason", "person", "shard", "key", "flags", *MEASURES, *ABOUT)


def description(settings: Settings, folder: PhotoFolder, meta: Path | None) -> dict:
    """Everything that the bytes depend on."""
    return {
        "format": FORMAT,
        "version": version("facerecon-lib"),
        "photos": len(folder.photos),
        "names": folder.digest(),
        "settings": settings.facts() | {"meta": meta and sha256_of(meta)[:16]},
    }


def _refuse(out: Path, why: str, todo: str = "choose another --out") -> NoReturn:
    raise ShardsError(f"{out}: {why}; {todo}") from None


def check_output(out: Path, facts: dict) -> bool:
    """Whether this preparation was begun in the folder. Raises ShardsError where another was."""
    try:
        stored = json.loads((out / SETTINGS_FILE).read_bytes())
        if not (isinstance(stored, dict) and isinstance(stored.get("settings"), dict)):
            raise ValueError("it does not hold settings")
    except FileNotFoundError:
        if strange := next(out.glob("*.tar"), None):
            _refuse(out, f"holds {strange.name}, which this script did not write")
        return False
    except NotADirectoryError:
        _refuse(out, "is a file")
    except (OSError, ValueError) as error:
        _refuse(out / SETTINGS_FILE, f"cannot be read ({one_line(error)})")
    before, now = (f["settings"] | {k: f.get(k) for k in CLAIMED} for f in (stored, facts))
    for name, value in now.items():
        if before.get(name) != value:
            change = DIGESTS.get(name, f"{name} = {before.get(name)}, and now it is {value}")
            _refuse(out, f"was begun with {change}", "set it as it was, or choose another --out")
    return True


def check_retry(out: Path, begun: bool) -> None:
    """Raises ShardsError where nobody knows which photos of a preparation are broken."""
    if not begun:
        raise ShardsError(f"--retry: nothing is prepared in {out} yet; leave it out")
    if not (out / WORK).is_dir():
        what = "is gone, which says what is broken; without --retry all photos are prepared again"
        raise ShardsError(f"--retry: {out / WORK} {what}")


def claim_output(out: Path, facts: dict) -> None:
    """Make the folder, or resume in it. Raises FacereconError."""
    with writing(out):
        if not check_output(out, facts):
            (out / WORK).mkdir(parents=True, exist_ok=True)
            with write_whole(out / SETTINGS_FILE) as partial:
                partial.write_text(json.dumps(facts, indent=1))
        (out / WORK).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=out / WORK):
            pass


def write_report(job: Job, unread: list[str]) -> dict | None:
    """index.json, report.csv with a line per photo, and report.json with their sums.

    Returns the sums; None where a shard is not done yet. Raises ShardsError.
    """
    rows, sizes = [], []
    for shard in job.shards():
        path, shard_rows = job.shard_path(shard), job.rows(shard)
        if shard_rows is None:
            return None
        rows += [row | {"shard": path.name * (row["status"] == FACE)} for row in shard_rows]
        sizes += [path.stat().st_size] if path.is_file() else []
    rows.sort(key=lambda row: row["photo"])
    faces = [row for row in rows if row["status"] == FACE]
    statuses = Counter(row["status"] for row in rows)
    flags = Counter(flag for row in faces for flag in row["quality"]["flags"])
    report = {
        "photos": len(rows),
        **{status: statuses[status] for status in STATUSES},
        "people": len({row["person"] for row in faces}),
        "flags": {flag: flags[flag] for flag in FLAGS},
        "shards": len(sizes),
        "bytes": sum(sizes),
        "settings": job.settings.facts(),
        "folders that cannot be read": unread,
        "not used": {
            status: [{k: r[k] for k in ("photo", "reason")} for r in rows if r["status"] == status]
            for status in STATUSES[1:]
        },
    }
    with writing(job.out):
        write_index(job.out)
        how = dict(encoding="utf-8", newline="")
        with write_whole(job.out / "report.csv") as partial, partial.open("w", **how) as file:
            table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            for row in rows:
                quality = row.get("quality", {})
                flags = {"flags": " ".join(quality.get("flags", []))}
                table.writerow(row | row["about"] | quality | flags)
        with write_whole(job.out / "report.json") as partial:
            partial.write_text(json.dumps(report, indent=1))
    return report
