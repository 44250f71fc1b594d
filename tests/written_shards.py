"""For tests of what reads shards: a folder of them, with its index.

with ShardsWriter(folder, photos_per_shard=4) as writer:
    writer.write("photo_00", crop, "2d", person="person 0", photo="photo.png")
"""

from pathlib import Path

from facerecon_lib.data.shards.files import write_index
from facerecon_lib.data.shards.samples import encode_photo, tar_bytes, write_shard


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
