"""The work of prepare_cacd.py: a photo to its sample and its row, and a process's share of shards.

    settings = Settings(detector="dlib")
    row, data = prepare_photo(photo, settings)           # never raises for what is in the file
    prepare_share(out, photos, settings, rank=0, world=1)

Photos go to shards in their order, `photos_per_shard` at a time, whatever becomes of them; process
r of w makes every w-th shard from the r-th. So a shard's bytes do not depend on who made it, and a
run may be gone on with by fewer processes or more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from photo_folder import Photo
from resumable_shard import (
    ResumableShard,
    is_done,
    old_rows_path,
    parsed_rows,
    reopen,
    rows_path,
)

from facerecon_lib.detection import PhotoError, align, detect_faces, load_image
from facerecon_lib.files.errors import one_line
from facerecon_lib.landmarks import find_landmarks
from facerecon_lib.photo_quality import LIMITS, Quality, measure_quality
from facerecon_lib.photo_samples import CROP_SIZE, encode_photo, tar_bytes
from facerecon_lib.shard_files import INDEX, ShardsError

FACE, LEFT_OUT, NO_FACE, BROKEN = "face", "left out", "no face", "broken"
STATUSES = (FACE, LEFT_OUT, NO_FACE, BROKEN)
MAX_FILE_BYTES = 200_000_000  # a photo has less
# For every size of photo oneDNN keeps a plan of each convolution, 1024 of them: 0.5 GB a process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


@dataclass(frozen=True)
class Settings:
    """What decides on the bytes that are written; one output folder has one."""

    detector: str  # of the landmarks: dlib or face-alignment
    min_score: float = 0.0
    min_face: float = 0.0
    skip: tuple[str, ...] = ()  # flags
    photos_per_shard: int = 1000
    jpeg_quality: int = 95
    crop: int = CROP_SIZE

    def shards(self, photos: int) -> int:
        return -(-photos // self.photos_per_shard)

    def photos_of(self, number: int, photos: Sequence) -> Sequence:
        """Those of a shard."""
        return photos[number * self.photos_per_shard :][: self.photos_per_shard]


# One photo --------------------------------------------------------------------------------------


def prepare_photo(
    photo: Photo, settings: Settings, device: str = "cpu"
) -> tuple[dict, bytes | None]:
    """The row of a photo, and its sample as a piece of a tar where a face came out.

    Raises ShardsError when the device fails, for which no photo is to blame.
    """
    row = {"photo": photo.name, "status": BROKEN, "reason": "", "key": photo.key}
    row |= {"person": photo.person, "about": photo.about}
    try:
        size = photo.path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PhotoError(f"has {size / 1e6:.0f} MB; a photo has less than 200")
        pixels = load_image(photo.path).pixels
        faces = detect_faces(pixels, device, quick=True)
        if not faces:
            height, width = pixels.shape[:2]
            return row | {"status": NO_FACE, "reason": f"none in {width} x {height} pixels"}, None
        points = faces[0].points
        landmarks, kind = find_landmarks(pixels, points, settings.detector, device, quick=True)
        crop = align(pixels, landmarks)
        quality = measure_quality(pixels, faces, landmarks, crop)
        row["quality"] = quality.facts()
        if reason := reason_against(quality, settings):
            return row | {"status": LEFT_OUT, "reason": reason}, None
        more = {"quality": row["quality"], "about": photo.about}
        names = (kind, photo.person, photo.name)
        sample = encode_photo(photo.key, crop, *names, settings.jpeg_quality, more)
        return row | {"status": FACE}, tar_bytes(sample)
    except PhotoError as error:
        return row | {"reason": _without_path(error, photo)}, None
    except Exception as error:  # one photo in 160,000 may be one that nobody thought of
        if device != "cpu" and isinstance(error, RuntimeError) and not _works(device, error):
            raise ShardsError(
                f"--device {device}: failed ({_first_line(error)}); the same command goes on from "
                "here"
            ) from error
        return row | {"reason": f"{type(error).__name__}: {_without_path(error, photo)}"}, None


def reason_against(quality: Quality, settings: Settings) -> str:
    """Why the settings leave a face out; "" where they do not."""
    if quality.score < settings.min_score:
        return f"score {quality.score:g} is below --min-score {settings.min_score:g}"
    if quality.face_px < settings.min_face:
        return f"face of {quality.face_px:g} pixels is below --min-face {settings.min_face:g}"
    flag = next((flag for flag in quality.flags() if flag in settings.skip), None)
    if flag is None:
        return ""
    name, limit, words = LIMITS[flag]
    return f"{flag}: {words.format(limit=limit)} ({getattr(quality, name):g})"


def _works(device: str, error: RuntimeError) -> bool:
    """Whether the device has nothing to do with an error."""
    if isinstance(error, torch.OutOfMemoryError):  # the next GPU may have room for the photo
        return False
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError:
        return False
    return True


def _without_path(error: Exception, photo: Photo) -> str:
    """The folder may be elsewhere tomorrow, and the row says which photo it is about."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return one_line(str(error).removeprefix(f"{photo.path}: "))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# A share of them --------------------------------------------------------------------------------


def prepare_share(
    out: Path,
    photos: Sequence[Photo],
    settings: Settings,
    rank: int = 0,
    world: int = 1,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda status: None,
) -> None:
    """Make what is missing of this process's shards; `tell` hears each new photo's status.

    Raises ShardsError, one line, where the disk or the device fails; the same call goes on there.
    """
    torch.set_num_threads(1)  # one face at a time: threads would wait for each other
    if device.startswith("cuda:"):  # what a detector puts on "cuda" is then on no other
        torch.cuda.set_device(device)
    try:
        for number in range(settings.shards(len(photos)))[rank::world]:
            if is_done(out, number):
                old_rows_path(out, number).unlink(missing_ok=True)  # killed just before
                continue
            mine = settings.photos_of(number, photos)
            with ResumableShard(out, number, [photo.name for photo in mine]) as shard:
                for position in range(len(shard.rows), len(mine)):
                    kept = shard.old(position)
                    if kept is not None and kept[0]["status"] != BROKEN:
                        shard.add(*kept)
                        continue
                    row, data = prepare_photo(mine[position], settings, device)
                    shard.add(row, data)
                    tell(row["status"])
                shard.finish()
    except OSError as error:
        raise ShardsError(
            f"{out}: cannot be written ({error.strerror or error}); once it can, the same command "
            "goes on from here"
        ) from error


def broken_photos(out: Path, photos: Sequence[Photo], settings: Settings) -> dict[int, int]:
    """How many photos are broken, by shard. Raises ShardsError where some are not looked at yet."""
    numbers = range(settings.shards(len(photos)))
    rows = {n: old_rows_path(out, n) for n in numbers if old_rows_path(out, n).is_file()}
    rows |= {n: rows_path(out, n) for n in numbers if is_done(out, n)}
    if left := len(numbers) - len(rows):
        raise ShardsError(
            f"{out}: {left} of {len(numbers)} shards are not done yet; run the same command "
            "without --retry first"
        )
    counts = {number: _broken(path) for number, path in sorted(rows.items())}
    return {number: count for number, count in counts.items() if count}


def reopen_broken(out: Path, numbers: Sequence[int]) -> None:
    """Have the next `prepare_share` look at the broken photos of these shards again."""
    if numbers:
        (out / INDEX).unlink(missing_ok=True)  # it tells shards by their size, which may stay
    for number in numbers:
        if is_done(out, number):
            reopen(out, number)


def _broken(rows: Path) -> int:
    return sum(row["status"] == BROKEN for row in parsed_rows(rows))


def looked_at(
    out: Path, photos: Sequence, settings: Settings, rank: int, world: int
) -> tuple[int, int]:
    """How many photos of a process's shards were dealt with so far, and how many it has."""
    done = total = 0
    for number in range(settings.shards(len(photos)))[rank::world]:
        count = len(settings.photos_of(number, photos))
        total += count
        part = rows_path(out, number).with_suffix(".jsonl.part")
        old = old_rows_path(out, number)
        if is_done(out, number):
            done += count
        elif old.is_file():
            done += count - _broken(old)
        elif part.is_file():
            done += part.read_bytes().count(b"\n")
    return done, total
