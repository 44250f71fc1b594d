"""For tests of what reads shards: a folder of them, with its index.

with ShardsWriter(folder, photos_per_shard=4) as writer:
    writer.write("photo_00", crop, "2d", person="person 0", photo="photo.png")
write_folder(folder)                                 # three shards of eight photos, KEYS
"""

import functools
import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from facerecon_lib.data.shards.files import write_index
from facerecon_lib.data.shards.samples import encode_photo, tar_bytes, write_shard
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.photos.crop import Crop, align

KEYS = [f"photo_{i:02d}" for i in range(24)]


class ShardsWriter:
    """Collects photos, and writes shards of so many when its block is left."""

    def __init__(self, folder: Path, prefix: str = "photos", photos_per_shard: int = 1000):
        self.folder, self.prefix, self.per_shard = folder, prefix, photos_per_shard
        self.samples: list[bytes] = []

    def write(self, key, crop, kind: str, person: str, photo: str) -> None:
        self.samples.append(tar_bytes(encode_photo(key, crop, kind, person, photo)))

    def __enter__(self) -> "ShardsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, first in enumerate(range(0, len(self.samples), self.per_shard)):
            shard = self.folder / f"{self.prefix}-{number:05d}.tar"
            write_shard(shard, self.samples[first : first + self.per_shard])
        write_index(self.folder)


def person(key: str) -> str:
    return f"person {int(key[-2:]) // 2}"


@functools.cache
def crop_of(number: int) -> Crop:
    """A crop like no other, of a photo with a smooth picture; some hang over the photo's edge."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    photo = np.asarray(small.resize((300, 300), Image.Resampling.BICUBIC))
    corner = [(-60, 30), (40, 40), (100, 140)][number % 3]
    return align(photo, corner + rng.uniform(0, 200, (68, 2)))


def write_folder(
    folder: Path, keys: list[str] = KEYS, per_shard: int = 8, prefix: str = "photos"
) -> Path:
    with ShardsWriter(folder, prefix, per_shard) as writer:
        for key in keys:
            crop = crop_of(int(key[-2:]))
            writer.write(key, crop, "2d", person=person(key), photo=f"{key}.png")
    return folder


def keys(batches: Iterable[FaceBatch]) -> list[str]:
    return [name.rpartition("/")[2] for batch in batches for name in batch.names]


def rewrite(shard: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a shard again, each file's bytes changed; None leaves the file out."""
    files = []
    with tarfile.open(shard) as tar:
        for member in tar:
            files.append((member, change(member.name, tar.extractfile(member).read())))
    with tarfile.open(shard, "w") as tar:
        for member, data in files:
            if data is not None:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
