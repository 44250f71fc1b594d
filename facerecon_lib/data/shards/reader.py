"""Batches of aligned photos, read from shards: local or remote, shuffled, shared out, resumable.

    photos = PhotoShards("shards", batch_size=32, part="train", split="person", workers=4)
    for epoch in range(photos.epoch, 20):
        for batch in photos:                     # FaceBatch; len(photos) of them
            ...; save(photos.state_dict())       # load_state_dict goes on behind this batch

`photo_samples.write_shard` writes the shards, `shard_files` says how they are found and opened.

**Which photo comes when** depends on the seed, the epoch and the numbers of processes (`world`) and
`workers` alone. An epoch's order of shards is drawn from the seed and the epoch, alike everywhere;
rank r of w takes every w-th shard from the r-th, its workers share those in the same way, and each
shuffles what it reads in a buffer. So within an epoch no two processes see one photo, and all take
`len(photos)` batches of one size: a process whose shards hold fewer photos than the others' begins
them again, one whose shards hold more leaves the rest out, and the next epoch deals anew. Write
shards of one size, several times as many as processes times workers, and the shares are nearly
even.

**A larger world is not a larger batch, photo for photo**: w processes with batches of n cover an
epoch in as many steps as one with w n, and see the same photos in it up to those left out or begun
again, but step by step other ones.
"""

import itertools
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...face.batch import FaceBatch
from ..splits import SHARES, SPLITS, part_of
from .files import Shard, ShardsError, find_shards, read_samples, shard_name, webdataset
from .samples import (
    DamagedPhoto,
    StoredPhoto,
    decode_photo,
    inside_mask,
    read_photo,
)

__all__ = ["PhotoShards", "ShardsError"]
log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Reader(IterableDataset):
    """What a process of the DataLoader reads: the batches of its lane, as dicts of CPU tensors.

    Batch i of an epoch comes from worker i mod workers, the order in which DataLoader takes them.
    """

    shards: list[tuple[str, int | None]]  # address, photos in it
    batch_size: int
    part: str | None
    split: str
    split_seed: int
    seed: int
    shuffle: int
    rank: int
    world: int
    complete: bool
    epoch: int = 0
    first: int = 0  # batch
    end: int = 0  # behind the last batch

    def __iter__(self) -> Iterator[dict]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        lane = (worker + self.first) % workers  # DataLoader begins with worker 0
        skip = len(range(lane, self.first, workers)) * self.batch_size
        count = len(range(lane, self.end, workers)) * self.batch_size - skip
        damaged: dict[str, str] = {}
        try:
            photos = self._photos(self.rank + self.world * lane, self.world * workers, damaged)
            photos = itertools.islice(photos, skip, None if self.complete else skip + count)
            while group := list(itertools.islice(photos, self.batch_size)):
                batch = self._collate(group, damaged)
                yield batch | {"damaged": dict(damaged)}
                damaged.clear()
            yield {"damaged": damaged}
        except ShardsError as error:  # DataLoader would bury the line in a traceback
            yield {"error": str(error), "damaged": damaged}

    def _photos(self, lane: int, lanes: int, damaged: dict) -> Iterator[tuple[str, StoredPhoto]]:
        """The photos of every lanes-th shard, in turn after turn over them unless `complete`."""
        shards = list(self.shards)
        if self.shuffle:
            random.Random(f"shards {self.seed} {self.epoch}").shuffle(shards)
        shards = shards[lane::lanes]
        rng = random.Random(f"photos {self.seed} {self.epoch} {lane}")
        while True:
            found = 0
            photos = self._pass(shards, damaged)
            if self.shuffle:
                mix = webdataset().filters.shuffle(self.shuffle, initial=self.shuffle, rng=rng)
                photos = mix(photos)
            for photo in photos:
                found += 1
                yield photo
            if self.complete:
                return
            if not found:
                raise ShardsError(
                    f"{', '.join(shard_name(address) for address, _ in shards[:3])}: no usable "
                    f"photo{_of_part(self.part, self.split)}; take fewer workers, or another part"
                )
            if self.shuffle:
                rng.shuffle(shards)

    def _pass(self, shards: list, damaged: dict) -> Iterator[tuple[str, StoredPhoto]]:
        for address, listed in shards:
            name, seen = shard_name(address), 0
            for sample in read_samples(address, damaged.__setitem__):
                seen += 1
                try:
                    photo = read_photo(sample)
                except DamagedPhoto as error:
                    damaged[f"{name}/{sample['__key__']}"] = str(error)
                    continue
                person, split, seed = photo.person, self.split, self.split_seed
                if self.part in (None, part_of(photo.key, person, split, seed)):
                    yield f"{name}/{photo.key}", photo
            if listed is not None and seen < listed:
                damaged.setdefault(name, f"holds {seen} of its {listed} photos")

    def _collate(self, group: list[tuple[str, StoredPhoto]], damaged: dict) -> dict:
        """Decode a batch. A photo that cannot be is replaced by another one of the batch.

        So what is decoded later never depends on what could be decoded before, and going on in the
        middle of an epoch need not decode what was seen.
        """
        decoded = []
        for name, photo in group:
            try:
                decoded.append((name, photo, decode_photo(photo)))
            except DamagedPhoto as error:
                damaged[name] = str(error)
        if not decoded:
            raise ShardsError(f"{group[0][0]}: no photo of its batch can be decoded; make it again")
        if not self.complete:
            decoded = list(itertools.islice(itertools.cycle(decoded), len(group)))
        names, photos, images = zip(*decoded, strict=True)
        kinds = {photo.kind: name for name, photo in zip(names, photos, strict=True)}
        if len(kinds) > 1:
            raise ShardsError(
                f"{kinds['2d']} has 2d landmarks and {kinds['3d']} 3d ones; keep them in sets apart"
            )
        return {
            "image": torch.stack(images),
            "inside": torch.tensor([photo.inside for photo in photos]),
            "landmarks": torch.from_numpy(np.stack([photo.landmarks for photo in photos])),
            "kind": photos[0].kind,
            "names": list(names),
            "person": [photo.person for photo in photos],
        }


class PhotoShards:
    """Batches of aligned photos, epoch after epoch: iterating goes on where the state stands.

    `len(photos)` is the number of batches of an epoch, alike on every rank; `photos.photos` the
    number of photos in the part (None when no index tells); `photos.damaged` what was left out so
    far, and why. With `complete` there is no state: each iteration is one pass over all photos in
    the order of the shards, the last batch of a worker may be smaller, and ranks may differ in
    number of batches: for evaluation.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        batch_size: int,
        *,
        part: str | None = None,
        split: str = "random",
        split_seed: int = 0,
        seed: int = 0,
        shuffle: int = 1000,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        complete: bool = False,
        photos_per_epoch: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """shards: a folder, brace pattern, list or address, as in `shard_files.find_shards`.

        part, split, split_seed: as in `splits.part_of`; part None is all photos.
        shuffle: photos in the buffer of each worker (of 22 kB); 0 keeps the order of the shards.
        rank, world: this process among those that train together; workers: of its DataLoader.
        photos_per_epoch: over all ranks; needed where no index tells how many there are.
        device: where the batches go. Pixels travel there as bytes.
        Raises ShardsError for shards that are missing or unreadable, hold no photo of the part, or
        are too few; ValueError for an argument out of range.
        """
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("shuffle", shuffle, 0),
            ("workers", workers, 0),
            ("world", world, rank + 1),
            ("rank", rank, 0),
            ("photos_per_epoch", 1 if photos_per_epoch is None else photos_per_epoch, 1),
        ):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        if part is not None and part not in SHARES:
            raise ValueError(f"part: expected one of {', '.join(SHARES)} or None, got {part!r}")
        if split not in SPLITS:
            raise ValueError(f"split: expected 'random' or 'person', got {split!r}")
        found = find_shards(shards)
        counts = [_count(shard, part, split, split_seed) for shard in found]
        self.photos = None if None in counts else sum(counts)
        source = ", ".join(map(str, shards)) if isinstance(shards, list | tuple) else str(shards)
        if self.photos == 0:
            raise ShardsError(
                f"{source}: no photo{_of_part(part, split)} in {len(found)} shards; check that "
                "they are whole, or prepare more photos"
            )
        used = [shard for shard, count in zip(found, counts, strict=True) if count != 0]
        if len(used) < world and not complete:
            raise ShardsError(
                f"{source}: {len(used)} shards{_of_part(part, split)} for {world} processes; write "
                "smaller shards (photos_per_shard), or use fewer processes"
            )
        if self.photos is None and photos_per_epoch is None and not complete:
            raise ShardsError(
                f"{source}: no index.json tells how many photos there are; give photos_per_epoch"
            )
        self._source = source
        self._workers = min(workers, max(len(used) // world, 1))
        self._end = (photos_per_epoch or self.photos or 0) // (batch_size * world)
        if self._end == 0 and not complete:
            raise ShardsError(
                f"{source}: {photos_per_epoch or self.photos} photos{_of_part(part, split)} are "
                f"fewer than one batch of {batch_size} for each of {world} processes; lower it"
            )
        sized = [(s.address, None if s.photos is None else len(s.photos)) for s in used]
        self._reader = _Reader(
            sized, batch_size, part, split, split_seed, seed, 0 if complete else shuffle, rank,
            world, complete,
        )  # fmt: skip
        self.device = torch.device(device)
        self.epoch = self._taken = 0
        self.damaged: dict[str, str] = {}

    def __len__(self) -> int:
        if self._reader.complete:
            raise TypeError("a complete pass has no length before it is read; see photos.photos")
        return self._end

    def __iter__(self) -> Iterator[FaceBatch]:
        """What is left of the epoch. Raises ShardsError for a shard that cannot be read."""
        reported = len(self.damaged)
        try:
            for item in self._loader():
                self.damaged |= item["damaged"]
                if "error" in item:
                    raise ShardsError(item["error"])
                if "image" in item:
                    self._taken += not self._reader.complete
                    yield self._batch(item)
        finally:
            self._report(list(self.damaged.items())[reported:])
        if not self._reader.complete:
            self.epoch, self._taken = self.epoch + 1, 0

    def _loader(self) -> DataLoader:
        first = 0 if self._reader.complete else self._taken
        return DataLoader(
            replace(self._reader, epoch=self.epoch, first=first, end=self._end),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the generator that training uses
        )

    def _batch(self, item: dict) -> FaceBatch:
        image, inside, landmarks = (
            item[name].to(self.device, non_blocking=True)
            for name in ("image", "inside", "landmarks")
        )
        return FaceBatch(
            image.float().mul_(1 / 255),  # 255 becomes 1 exactly
            inside_mask(inside),
            landmarks,
            item["kind"],
            item["names"],
            person=item["person"],
        )

    def _report(self, damaged: list[tuple[str, str]]) -> None:
        if damaged:
            more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            log.warning("%s: %s%s left out: %s", self._source, damaged[0][0], more, damaged[0][1])

    def state_dict(self) -> dict:
        """Where reading stands, for JSON: the epoch, the batches taken, and what fixes the order.

        It is the same on every rank.
        """
        r = self._reader
        shards = sha256("\n".join(shard_name(address) for address, _ in r.shards).encode())
        settings = ("seed", "shuffle", "batch_size", "part", "split", "split_seed", "world")
        order = {name: getattr(r, name) for name in settings}
        order |= {"workers": self._workers, "batches": self._end, "shards": shards.hexdigest()[:16]}
        return {"epoch": self.epoch, "taken": self._taken, "order": order}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state: the batches that follow are those that would have followed.

        Raises ShardsError when these shards or settings would give another order.
        """
        mine = self.state_dict()["order"]
        for name, value in mine.items():
            if state["order"].get(name) != value:
                raise ShardsError(
                    f"{self._source}: the saved state was taken with {name} = "
                    f"{state['order'].get(name)}, and now it is {value}: the photos would come in "
                    "another order; set it as it was"
                )
        self.epoch, self._taken = int(state["epoch"]), int(state["taken"])


def _count(shard: Shard, part: str | None, split: str, seed: int) -> int | None:
    """How many photos of the part a shard holds, where that is known."""
    if shard.photos is None or part is None:
        return None if shard.photos is None else len(shard.photos)
    return sum(part_of(key, person, split, seed) == part for key, person in shard.photos)


def _of_part(part: str | None, split: str) -> str:
    return "" if part is None else f" of the part {part!r} (split={split!r})"
