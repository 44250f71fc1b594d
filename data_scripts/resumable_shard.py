"""One shard of a long preparation, and the rows that say what became of each of its photos.

    with ResumableShard(out, 12, names) as shard:        # takes up what a killed process left
        for name in names[len(shard.rows):]:
            shard.add({"photo": name, ...}, data)        # data: a face's tar bytes; None: no face
        shard.finish()                                   # OUT/photos-00012.tar, and its rows

While it is made a shard is two hidden files, the tar and a row of JSON for each photo that was
looked at, faces and broken ones alike, with where its sample ends and a checksum. A process may be
killed between any two bytes: what the two files agree on is kept, the rest is cut off, and the
photos that follow come next. So nothing is in the shard twice, nothing is missing, and its bytes
are those of a preparation that was never stopped. A shard is done when its rows have their name.

A shard that was done may be `reopened`: it is made once more beside the old one, `old` gives what
stays as it was, and in the end the new one takes its place.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from facerecon_lib.photo_samples import ShardFile, finished_size
from facerecon_lib.shard_files import ShardsError

WORK = ".prepared"  # folder of the rows in the output folder


class ResumableShard:
    """Number `number` of the shards in a folder, of the photos with these names, in this order."""

    def __init__(self, out: Path, number: int, names: Sequence[str]) -> None:
        self.path, self.done_path = shard_path(out, number), rows_path(out, number)
        self.part = self.done_path.with_name(f"{self.done_path.name}.part")
        self.old_path = old_rows_path(out, number)
        self.names = names

    def __enter__(self) -> ResumableShard:
        """Raises ShardsError where another process is at it, OSError of the disk."""
        self._rows_file = self.part.open("a+b", buffering=0)
        self._rows_file.seek(0)
        try:
            _lock(self._rows_file, self.path)
            self._open_old()
            self.rows, rows_end, tar_end = self._agreed()
            self._rows_file.truncate(rows_end)
            self._tar = ShardFile(self.path, tar_end)
        except BaseException:
            self._rows_file.close()
            raise
        return self

    def _open_old(self) -> None:
        self._old_rows, self._old_tar = [], None
        if self.old_path.is_file():
            self._old_rows = list(parsed_rows(self.old_path))
            if self.path.exists():
                self._old_tar = self.path.open("rb")
        ends = (row.get("end", 0) for row in self._old_rows)
        self._old_starts = list(accumulate(ends, max, initial=0))

    def old(self, position: int) -> tuple[dict, bytes | None] | None:
        """Row and data, as for `add`, that the shard had before it was reopened.

        None where there are none, and where the tar does not bear them out.
        """
        if position >= len(self._old_rows):
            return None
        row = dict(self._old_rows[position])
        end, checksum = row.pop("end", None), row.pop("crc32", None)
        if row.get("photo") != self.names[position]:
            return None
        if end is None:
            return row, None
        if self._old_tar is None:
            return None
        self._old_tar.seek(self._old_starts[position])
        data = self._old_tar.read(end - self._old_starts[position])
        return (row, data) if zlib.crc32(data) == checksum else None

    def _agreed(self) -> tuple[list[dict], int, int]:
        """Rows that the tar bears out, and where rows and tar end behind them."""
        tar_path = ShardFile.part_of(self.path)
        reopened = self.old_path.is_file()
        if self.path.exists() and (not reopened or _named_alone(self.part, tar_path)):
            self.path.replace(tar_path)  # killed between naming the tar and naming its rows
        lines = self._rows_file.read().splitlines(keepends=True)
        rows, rows_end, tar_end = [], 0, 0
        with tar_path.open("rb") if tar_path.exists() else io.BytesIO() as tar:
            for name, line in zip(self.names, lines, strict=False):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                except ValueError:  # of a power cut: no line has come whole behind it
                    break
                end = row.get("end", tar_end)
                data = tar.read(end - tar_end)
                if row["photo"] != name or row.get("crc32", 0) != zlib.crc32(data):
                    break
                rows.append(row)
                rows_end, tar_end = rows_end + len(line), end
        return rows, rows_end, tar_end

    def add(self, row: dict, data: bytes | None) -> None:
        """What became of the next photo. Raises OSError, and what is there stays good."""
        if data is not None:
            self._tar.append(data)
            row = row | {"end": self._tar.bytes, "crc32": zlib.crc32(data)}
        self._write_row(json.dumps(row).encode() + b"\n")
        self.rows.append(row)

    def _write_row(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[self._rows_file.write(left) :]

    def finish(self) -> None:
        """Name the tar, then the rows; a shard without a face has none. Raises OSError."""
        if len(self.rows) != len(self.names):
            raise ValueError(f"{self.path.name}: {len(self.rows)} of {len(self.names)} rows")
        os.fsync(self._rows_file.fileno())
        if self._tar.bytes:
            self._tar.finish()
        else:
            self._tar.drop()
            self.path.unlink(missing_ok=True)  # of a shard that was reopened
        self.part.replace(self.done_path)
        self.old_path.unlink(missing_ok=True)

    def __exit__(self, *error: object) -> None:
        self._rows_file.close()
        self._tar.close()
        if self._old_tar is not None:
            self._old_tar.close()


def _named_alone(rows: Path, tar: Path) -> bool:
    """Whether of a shard that is made the tar has its name already, and the rows not."""
    return rows.stat().st_size > 0 and not tar.exists()


def _lock(file, path: Path) -> None:
    """Held until the file is closed, or its process is dead."""
    try:
        import fcntl
    except ImportError:  # not on Windows: there nobody is warned
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ShardsError(
            f"{path}: another process is making it; wait for that run, or stop it first"
        ) from None
    except OSError:  # a file system without locks
        return


def shard_path(out: Path, number: int) -> Path:
    return out / f"photos-{number:05d}.tar"


def rows_path(out: Path, number: int) -> Path:
    return out / WORK / f"{number:05d}.jsonl"


def old_rows_path(out: Path, number: int) -> Path:
    """Rows of a shard that was done, and is to be made once more."""
    return out / WORK / f"{number:05d}.jsonl.old"


def reopen(out: Path, number: int) -> None:
    """Have a shard that is done made once more; its tar stays until the new one is whole."""
    rows_path(out, number).replace(old_rows_path(out, number))


def read_rows(out: Path, number: int) -> Iterator[dict]:
    """The rows of a shard that is done. Raises ShardsError for a damaged file."""
    return parsed_rows(rows_path(out, number))


def parsed_rows(path: Path) -> Iterator[dict]:
    with path.open("rb") as file:
        try:
            for line in file:
                row = json.loads(line)
                row["photo"], row["status"]  # or KeyError, TypeError
                yield row
        except (ValueError, TypeError, KeyError):
            raise ShardsError(
                f"{path}: is damaged; remove it, and the same command makes its shard again"
            ) from None


def is_done(out: Path, number: int) -> bool:
    """Whether a shard has its rows, and the tar that they tell of: it may have been removed."""
    if not rows_path(out, number).is_file():
        return False
    end = max((row.get("end", 0) for row in read_rows(out, number)), default=0)
    shard = shard_path(out, number)
    return end == 0 or (shard.is_file() and shard.stat().st_size == finished_size(end))
