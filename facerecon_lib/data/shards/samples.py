"""One aligned photo as it lies in a shard, and the writer of shards.

    sample = encode_photo("0042", crop, kind="2d", person="Robin_Williams", photo="0042.jpg")
    write_shard(Path("shards/photos-00000.tar"), [tar_bytes(sample)])

`<key>.jpg` is the aligned crop; `<key>.json` holds `landmarks` (68 x 2, crop pixels), their `kind`,
`person`, `photo` (its file's name), `inside` (x0, y0, x1, y1: the crop pixels that lie on the
photo), `matrix` (2 x 3, photo pixels to crop pixels), `crc32` of the JPEG file, and further facts.
Notebook 06, section 2.1.
"""

import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from ...face.camera import CROP_SIZE
from ...face.shapes import expect
from ...files.atomic import write_whole
from ...files.errors import FacereconError, one_line
from ...photos.crop import Crop

FAR = 1e6  # pixels: no landmark is that far off
MAX_JPEG_BYTES = 4 * CROP_SIZE**2  # more than its raw pixels: not ours, and not to be decoded


def encode_photo(
    key: str, crop: Crop, kind: str, person: str, photo: str, quality=95, more: dict | None = None
) -> dict[str, str | bytes]:
    """The sample of a crop, as webdataset writes it. Landmarks and matrix keep every bit.

    key: names the photo in the whole set. more: further facts for the json; reading ignores them.
    Raises ValueError for a key that webdataset would misread, and for facts that `read_photo` would
    refuse.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]{0,79}", key, re.ASCII):
        raise ValueError(f"key {key!r}: expected up to 80 letters, digits, - and _")
    expect(f"crop of {key}", crop.image, f"1 3 {CROP_SIZE} {CROP_SIZE}")
    valid = crop.valid.cpu().float()
    rows, columns = (valid[0, 0].amax(axis).nonzero()[:, 0].tolist() or [0] for axis in (1, 0))
    inside = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    if not torch.equal(inside_mask(torch.tensor([inside])), valid):
        raise ValueError(f"{key}: expected a rectangle of valid pixels, 1 inside and 0 outside")
    pixels = (crop.image[0].cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=quality, subsampling=0)
    facts = {"landmarks": _shortest(crop.landmarks[0]), "kind": kind, "person": person}
    facts |= {"photo": photo, "inside": inside, "matrix": _shortest(crop.matrix)}
    facts["crc32"] = zlib.crc32(jpeg.getvalue())
    if taken := facts.keys() & (more or {}):
        raise ValueError(f"{key}: the fact {min(taken)!r} is the sample's own; choose another name")
    facts |= more or {}
    sample = {"__key__": key, "jpg": jpeg.getvalue(), "json": json.dumps(facts).encode()}
    try:
        read_photo(sample)
    except DamagedPhoto as error:
        raise ValueError(f"{key}: {error}") from None
    return sample


def _shortest(values: Tensor) -> list[list[float]]:
    """The shortest decimals that round to the same float32."""
    return [[float(str(v)) for v in row] for row in values.cpu().float().numpy()]


class DamagedPhoto(FacereconError):
    """Why a photo in a shard is unusable; the photo's name goes before it."""


class StoredPhoto(NamedTuple):
    """A sample with checked facts; its JPEG file is not decoded yet."""

    key: str
    jpeg: bytes
    landmarks: Float32[np.ndarray, "68 2"]
    kind: str
    person: str
    inside: tuple[int, int, int, int]


def read_photo(sample: dict) -> StoredPhoto:
    """Check a sample of `read_samples` without decoding it. Raises DamagedPhoto."""
    for name in ("jpg", "json"):
        if name not in sample:
            raise DamagedPhoto(f"its {name} is missing")
    jpeg = sample["jpg"]
    try:
        facts = json.loads(sample["json"])
        landmarks = np.array(facts["landmarks"], dtype=np.float64)
        x0, y0, x1, y1 = inside = tuple(int(v) for v in facts["inside"])
        kind, person, checksum = facts["kind"], facts["person"], facts.get("crc32")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DamagedPhoto(f"its json is damaged ({one_line(error)})") from None
    if landmarks.shape != (68, 2) or not (abs(landmarks) < FAR).all():  # nor is NaN
        raise DamagedPhoto("its landmarks are not 68 finite points")
    if kind not in ("2d", "3d"):
        raise DamagedPhoto(f"its landmarks are of kind {kind!r}, neither 2d nor 3d")
    if not isinstance(person, str) or not person:
        raise DamagedPhoto("its person has no name")
    if not (0 <= x0 < x1 <= CROP_SIZE and 0 <= y0 < y1 <= CROP_SIZE):
        raise DamagedPhoto(f"the photo's rectangle {inside} is not inside the crop")
    if len(jpeg) > MAX_JPEG_BYTES or checksum not in (None, zlib.crc32(jpeg)):
        raise DamagedPhoto("its jpg is damaged")
    return StoredPhoto(sample["__key__"], jpeg, landmarks.astype(np.float32), kind, person, inside)


def decode_photo(photo: StoredPhoto) -> UInt8[Tensor, "3 224 224"]:
    """The pixels. Raises DamagedPhoto."""
    try:
        data = torch.frombuffer(bytearray(photo.jpeg), dtype=torch.uint8)
        image = decode_jpeg(data, ImageReadMode.RGB)
    except (RuntimeError, ValueError):
        raise DamagedPhoto("its jpg is damaged") from None
    if tuple(image.shape) != (3, CROP_SIZE, CROP_SIZE):
        height, width = image.shape[1:]
        raise DamagedPhoto(f"its jpg has {width} x {height} pixels, not {CROP_SIZE} x {CROP_SIZE}")
    return image


def inside_mask(inside: Int[Tensor, "batch 4"]) -> Float[Tensor, "batch 1 224 224"]:
    """1 in the rectangles x0 <= x < x1, y0 <= y < y1, 0 around them: `Crop.valid` again."""
    pixel = torch.arange(CROP_SIZE, device=inside.device)
    x0, y0, x1, y1 = (edge[:, None] for edge in inside.unbind(1))
    columns, rows = (pixel >= x0) & (pixel < x1), (pixel >= y0) & (pixel < y1)
    return rows.float()[:, None, :, None] * columns.float()[:, None, None, :]


def write_shard(path: Path, samples: Iterable[bytes]) -> None:
    """Write a shard of `tar_bytes`, whole or not at all. Raises OSError."""
    with write_whole(path) as partial, partial.open("wb") as file:
        for data in samples:
            file.write(data)
        file.write(bytes(finished_size(file.tell()) - file.tell()))


def finished_size(end: int) -> int:
    """Bytes of a tar whose last file ends at `end`: two empty blocks more, in whole records."""
    return -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def tar_bytes(sample: dict[str, str | bytes]) -> bytes:
    """A sample as it lies in a shard: several in a row, filled to `finished_size`, are a tar."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for extension in sorted(name for name in sample if not name.startswith("_")):
            info = tarfile.TarInfo(f"{sample['__key__']}.{extension}")
            info.size, info.mode = len(sample[extension]), 0o444
            info.uname = info.gname = "bigdata"  # as webdataset names them
            tar.addfile(info, io.BytesIO(sample[extension]))
        return stream.getvalue()  # before the end of the archive is written
