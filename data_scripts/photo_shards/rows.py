"""What became of each photo of a shard, in OUT/.prepared: a line of JSON per photo.

    write_rows(out, 12, rows)                            # once the shard has its name
    rows = done_rows(out, 12)                            # None: the shard is still to be made

A row of a face holds where its sample ends in the shard, and the sample's checksum.

Notebook 06, section 2.3.
"""

import json
from pathlib import Path

from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.data.shards.samples import finished_size
from facerecon_lib.files.atomic import write_whole

WORK = ".prepared"  # folder of the rows in the output folder


def shard_path(out: Path, number: int) -> Path:
    return out / f"photos-{number:05d}.tar"


def rows_path(out: Path, number: int) -> Path:
    return out / WORK / f"{number:05d}.jsonl"


def write_rows(out: Path, number: int, rows: list[dict]) -> None:
    """The shard is done then. Raises OSError."""
    with write_whole(rows_path(out, number)) as partial:
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def done_rows(out: Path, number: int) -> list[dict] | None:
    """The rows of a shard that is done: it has rows, and the tar that they tell of.

    Raises ShardsError for damaged rows.
    """
    path, shard = rows_path(out, number), shard_path(out, number)
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        for row in rows:
            row["photo"], row["status"]  # or KeyError, TypeError
    except (ValueError, TypeError, KeyError):
        raise ShardsError(
            f"{path}: is damaged; remove it, and the same command makes its shard again"
        ) from None
    end = max((row.get("end", 0) for row in rows), default=0)
    whole = end == 0 or (shard.is_file() and shard.stat().st_size == finished_size(end))
    return rows if whole else None
