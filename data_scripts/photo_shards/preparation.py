"""The work of prepare_cacd.py: a photo to its sample and its row, and a process's share of shards.

    row, data = prepare_photo(photo, Settings("face-mesh"))   # never raises for what is in the file
    prepare_share(Job(out, photos, settings), rank=0, world=1)

Photos go to shards in their order, `photos_per_shard` at a time, whatever becomes of them; process
r of w makes every w-th shard from the r-th. A shard is written whole or not at all, and its bytes
do not depend on who made it: a killed run loses the work of one shard per process at most.
OUT/.prepared holds the rows of finished shards, JSON lines; a face's row says where its sample ends
in the shard, and the sample's checksum.

Notebook 06, section 2.3: the photos that training reads.
"""

import contextlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from facerecon_lib.data.shards.files import INDEX, ShardsError
from facerecon_lib.data.shards.samples import encode_photo, finished_size, tar_bytes, write_shard
from facerecon_lib.face.camera import CROP_SIZE
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.errors import one_line
from facerecon_lib.files.locks import only_one
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import detect_each
from facerecon_lib.photos.landmarks import DetectionError
from facerecon_lib.photos.quality import LIMITS, Quality, measure_quality
from facerecon_lib.photos.reading import PhotoError, load_image
from photo_shards.folder import Photo

WORK = ".prepared"
FACE, LEFT_OUT, NO_FACE, BROKEN = "face", "left out", "no face", "broken"
STATUSES = (FACE, LEFT_OUT, NO_FACE, BROKEN)
BUSY = "{}: another process is at it; wait for that run, or stop it first"
MAX_FILE_BYTES = 200_000_000  # a photo has less
# For every size of photo oneDNN keeps a plan of each convolution, 1024 of them: 0.5 GB a process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


@dataclass(frozen=True)
class Settings:
    """What decides on the bytes that are written; one output folder has one."""

    detector: str  # of the landmarks: face-mesh, face-alignment or dlib
    min_score: float = 0.0
    min_face: float = 0.0
    skip: tuple[str, ...] = ()  # flags
    photos_per_shard: int = 1000
    jpeg_quality: int = 95
    crop: int = CROP_SIZE

    def facts(self) -> dict:
        """As JSON gives them back."""
        return asdict(self) | {"skip": list(self.skip)}


@dataclass(frozen=True)
class Job:
    """A preparation; `retry`: look at the broken photos of finished shards again."""

    out: Path
    photos: list[Photo]
    settings: Settings
    device: str = "cpu"
    retry: bool = False

    def shards(self, rank: int = 0, world: int = 1) -> range:
        """The numbers of a process's shards."""
        return range(-(-len(self.photos) // self.settings.photos_per_shard))[rank::world]

    def photos_of(self, shard: int) -> list[Photo]:
        size = self.settings.photos_per_shard
        return self.photos[shard * size :][:size]

    def shard_path(self, shard: int) -> Path:
        return self.out / f"photos-{shard:05d}.tar"

    def rows_path(self, shard: int) -> Path:
        return self.out / WORK / f"{shard:05d}.jsonl"

    def rows(self, shard: int) -> list[dict] | None:
        """A finished shard's rows (its tar is as long as they say), or None. Raises ShardsError."""
        path, tar = self.rows_path(shard), self.shard_path(shard)
        if not path.is_file():
            return None
        try:
            rows = [json.loads(line) for line in path.read_bytes().splitlines()]
            for row in rows:
                row["photo"], row["status"]  # or KeyError, TypeError
        except (ValueError, TypeError, KeyError):
            todo = "remove it, and the same command makes its shard again"
            raise ShardsError(f"{path}: is damaged; {todo}") from None
        end = max((row.get("end", 0) for row in rows), default=0)
        whole = end == 0 or (tar.is_file() and tar.stat().st_size == finished_size(end))
        return rows if whole else None

    def broken(self) -> int:
        """How many photos are broken. Raises ShardsError where a shard is not finished."""
        shards = [self.rows(shard) for shard in self.shards()]
        if left := shards.count(None):
            undone = f"{left} of {len(shards)} shards are not done yet"
            raise ShardsError(f"{self.out}: {undone}; run the same command without --retry first")
        return sum(map(_broken, shards))

    def looked_at(self, rank: int, world: int) -> tuple[int, int]:
        """How many photos of a process's shards are done, and how many it has."""
        done = total = 0
        for shard in self.shards(rank, world):
            count = len(self.photos_of(shard))
            total += count
            if (rows := self.rows(shard)) is not None:
                done += count - self.retry * _broken(rows)
        return done, total


def _broken(rows: list[dict]) -> int:
    return sum(row["status"] == BROKEN for row in rows)


def prepare_photo(
    photo: Photo, settings: Settings, device: str = "cpu"
) -> tuple[dict, bytes | None]:
    """The row of a photo, and of a face its sample. Raises ShardsError when the device fails."""
    row = {"photo": photo.name, "status": BROKEN, "reason": "", "key": photo.key}
    row |= {"person": photo.person, "about": photo.about}
    try:
        size = photo.path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PhotoError(f"has {size / 1e6:.0f} MB; a photo has less than 200")
        read = load_image(photo.path)
        (found,) = detect_each([read], None, settings.detector, device)
        if isinstance(found, DetectionError):
            reason = f"none in {read.width} x {read.height} pixels"
            return row | {"status": NO_FACE, "reason": reason}, None
        crop = align(read.pixels, found.landmarks)
        quality = measure_quality(read.pixels, found.faces, found.landmarks, crop, found.scatter)
        row["quality"] = quality.facts()
        if reason := reason_against(quality, settings):
            return row | {"status": LEFT_OUT, "reason": reason}, None
        more = {"quality": row["quality"], "about": photo.about}
        names = (found.kind, photo.person, photo.name)
        sample = encode_photo(photo.key, crop, *names, settings.jpeg_quality, more)
        return row | {"status": FACE}, tar_bytes(sample)
    except PhotoError as error:
        return row | {"reason": _without_path(error, photo)}, None
    except Exception as error:  # one photo in 160,000 may be one that nobody thought of
        if device != "cpu" and isinstance(error, RuntimeError) and not _works(device, error):
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            message = f"--device {device}: failed ({why}); the same command resumes"
            raise ShardsError(message) from error
        return row | {"reason": f"{type(error).__name__}: {_without_path(error, photo)}"}, None


def reason_against(quality: Quality, settings: Settings) -> str:
    """Why the settings leave a face out; "" where they do not."""
    if quality.score < settings.min_score:
        return f"score {quality.score:g} is below --min-score {settings.min_score:g}"
    if quality.face_px < settings.min_face:
        return f"face of {quality.face_px:g} pixels is below --min-face {settings.min_face:g}"
    flag = next((flag for flag in quality.flags() if flag in settings.skip), "")
    if not flag:
        return ""
    name, limit, words = LIMITS[flag]
    return f"{flag}: {words.format(limit=limit)} ({getattr(quality, name):g})"


def _works(device: str, error: RuntimeError) -> bool:
    """Whether the device has nothing to do with an error."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device=device).sum().item()
        return not isinstance(error, torch.OutOfMemoryError)  # the next GPU may have room for it
    return False


def _without_path(error: Exception, photo: Photo) -> str:
    """The folder may be elsewhere tomorrow, and the row says which photo it is about."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return one_line(str(error).removeprefix(f"{photo.path}: "))


def prepare_share(
    job: Job, rank: int = 0, world: int = 1, tell: Callable[[Counter], None] = lambda counts: None
) -> Counter:
    """Make this process's missing shards; how many photos of each status it looked at.

    `tell` hears these counts after each photo. Raises ShardsError where the disk or the device
    fails; the same call resumes with the unfinished shard.
    """
    torch.set_num_threads(1)  # one face at a time: threads would wait for each other
    if job.device.startswith("cuda:"):  # what a detector puts on "cuda" is then on no other
        torch.cuda.set_device(job.device)
    counts = Counter()
    try:
        with only_one(job.out / WORK / f"{rank}-of-{world}.lock", BUSY.format(job.out)):
            for shard in job.shards(rank, world):
                rows = job.rows(shard)
                if rows is None or (job.retry and _broken(rows)):
                    _prepare_shard(job, shard, rows, counts, tell)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        todo = "once it can, the same command resumes"
        raise ShardsError(f"{job.out}: {reason}; {todo}") from error
    return counts


def _prepare_shard(
    job: Job, shard: int, before: list[dict] | None, counts: Counter, tell: Callable
) -> None:
    """Write a shard, then its rows. before: the rows of a retry; the good ones stay."""
    path, photos, rows = job.shard_path(shard), job.photos_of(shard), []
    stored = path.read_bytes() if before and path.is_file() else b""

    def samples() -> Iterator[bytes]:
        start = end = 0
        for photo, row in zip(photos, before or [None] * len(photos), strict=True):
            data = None
            if row is not None and "end" in row:
                data, start = stored[start : row["end"]], row["end"]
            damaged = data is not None and zlib.crc32(data) != row["crc32"]
            if row is None or row["status"] == BROKEN or damaged:
                row, data = prepare_photo(photo, job.settings, job.device)
                counts[row["status"]] += 1
                tell(counts)
            if data is not None:
                end += len(data)
                row = row | {"end": end, "crc32": zlib.crc32(data)}
                yield data
            rows.append(row)
        job.rows_path(shard).unlink(missing_ok=True)  # they are not those of the new shard
        (job.out / INDEX).unlink(missing_ok=True)  # it tells shards by their size, which may stay

    for partial in job.out.glob(f".{path.name}.*.part"):  # of a process that was killed
        partial.unlink()
    write_shard(path, samples())
    if not any("end" in row for row in rows):
        path.unlink()
    with write_whole(job.rows_path(shard)) as partial:
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
