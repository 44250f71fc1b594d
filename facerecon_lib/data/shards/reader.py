"""Batches of aligned photos, read from shards: local or remote, shuffled, shared out, resumable.

    photos = PhotoShards("shards", batch_size=32, part="train", split="person", workers=4)
    for epoch in range(photos.epoch, 20):
        for batch in photos:                     # FaceBatch; len(photos) of them
            ...; save(photos.state_dict())       # load_state_dict resumes behind this batch

Which photo comes when depends on the seed, the epoch and the numbers of processes (`world`) and
`workers` alone. Seed and epoch give the order of shards; rank r of w takes every w-th shard from
the r-th, its workers share those in the same way, and each shuffles its photos in a buffer. Within
an epoch no two processes see the same photo, and all take `len(photos)` batches of one size: a
process with fewer photos than the others repeats some, one with more leaves the rest out. Write
shards of one size, several per process and worker, and the shares are nearly even.
Notebook 06, section 2.1.
"""

import contextlib
import itertools
import logging
import random
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...files.errors import one_line
from ..splits import SHARES, SPLITS, part_of
from .files import Shard, ShardsError, digest_of, find_shards, read_samples, webdataset
from .samples import DamagedPhoto, StoredPhoto, decode_photo, inside_mask, read_photo
from .skins import SkinTargets
from .variation import varied

log = logging.getLogger(__name__)

PREFETCH = 2  # batches that each worker has ready
PATIENCE_S = 1200  # for a batch; less than the half hour that other processes wait for this one
SHARED_MEMORY = Path("/dev/shm")  # through which workers hand over their batches, on Linux
PHOTO_BYTES = 3 * CROP_SIZE**2 + 68 * 2 * 4 + 4 * 8  # pixels, landmarks, rectangle
PAGES_BYTES = 3 * 4096  # at most, of the three tensors' last pages


@dataclass(eq=False)
class PhotoShards:
    """Batches of aligned photos, epoch after epoch: iterating resumes where the state stands.

    `len(photos)` is the number of batches of an epoch, the same on every rank; `photos.photos` the
    number of photos in the part (None without an index); `photos.damaged` what was left out so far,
    and why.

    shards: as in `files.find_shards`. part, split: as in `splits.part_of`; part None is all photos.
    shuffle: photos (22 kB each) in each worker's buffer; 0 keeps their order.
    rank, world: this process among those that train together. workers: of its DataLoader.
    complete: for evaluation; each iteration is one pass over all photos, in the order of the
    shards and without state; a worker's last batch may be smaller, ranks may differ in batches.
    photos_per_epoch: over all ranks; needed where no index tells how many there are.
    vary: as `variation.varied` does, otherwise in each epoch. skins: the batch's `skin`.
    Raises ShardsError for unusable or too few shards, ValueError for an argument out of range.
    """

    shards: str | Path | Sequence[str | Path]
    batch_size: int
    _: KW_ONLY
    part: str | None = None
    split: str = "random"
    seed: int = 0
    shuffle: int = 1000
    rank: int = 0
    world: int = 1
    workers: int = 0
    complete: bool = False
    photos_per_epoch: int | None = None
    vary: bool = False
    skins: SkinTargets | None = None
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("rank", 0), ("world", self.rank + 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.part is not None and self.part not in SHARES:
            raise ValueError(f"part: expected one of {', '.join(SHARES)}, got {self.part!r}")
        if self.split not in SPLITS:
            raise ValueError(f"split: expected 'random' or 'person', got {self.split!r}")
        several = isinstance(self.shards, list | tuple)
        self._source = ", ".join(map(str, self.shards)) if several else str(self.shards)
        self._of_part = f" of the part {self.part!r} (split={self.split!r})" if self.part else ""
        shards = find_shards(self.shards)
        known = (shard.photos for shard in shards)
        counts = [None if p is None else sum(self._in_part(*one) for one in p) for p in known]
        self._digest = digest_of(shards)
        self._used = [shard for shard, count in zip(shards, counts, strict=True) if count != 0]
        self.photos = None if None in counts else sum(counts)
        self._workers = min(self.workers, max(len(self._used) // self.world, 1))
        self._end = (self.photos_per_epoch or self.photos or 0) // (self.batch_size * self.world)
        if problem := self._shortage(len(shards)):
            raise ShardsError(f"{self._source}: {problem}")
        self.epoch = self._taken = 0
        self.damaged: dict[str, str] = {}

    def _in_part(self, key: str, person: str) -> bool:
        return self.part is None or part_of(key, person, self.split) == self.part

    def _shortage(self, shards: int) -> str:
        """Why there are too few photos or shards for an epoch; "" where there are enough."""
        part, world, photos = self._of_part, self.world, self.photos_per_epoch or self.photos
        if self.photos == 0:
            return f"no photo{part} in {shards} shards; check that they are whole, or prepare more"
        if self.complete:
            return ""
        keys = [key for shard in self._used for key, _ in shard.photos or ()]
        if self.skins is not None and keys and not self.skins.rows.keys() & {*keys}:
            return "the skin of none of its photos is known; give the skins learned from them"
        if len(self._used) < world:
            shards = f"{len(self._used)} shards{part} for {world} processes"
            return f"{shards}; write smaller shards (photos_per_shard), or use fewer processes"
        if photos is None:
            return "no index.json tells how many photos there are; give photos_per_epoch"
        batch = f"one batch of {self.batch_size} for each of {world} processes"
        return "" if self._end else f"{photos} photos{part} are fewer than {batch}; lower it"

    def check_shared_memory(self, processes: int = 1) -> None:
        """Raises ShardsError where the batches of `processes` here are more than it can hold."""
        if not (self._workers and SHARED_MEMORY.is_dir()):
            return
        batch = self.batch_size * PHOTO_BYTES + PAGES_BYTES
        need = (PREFETCH * self._workers + 1) * batch * processes  # and the one in use
        free = shutil.disk_usage(SHARED_MEMORY).free
        if need > free:
            fit = max((free // (batch * processes) - 1) // PREFETCH, 0)
            whose = f" in each of {processes} processes" * (processes > 1)
            raise ShardsError(
                f"{self._source}: --workers {self._workers}{whose} hold {need / 1e6:.0f} MB of "
                f"batches, and {SHARED_MEMORY} has {free / 1e6:.0f} MB free; lower it to "
                f"--workers {fit}, or give docker run --shm-size={need * 5 // 4 // 2**20 + 1}m"
            )

    def __len__(self) -> int:
        if self.complete:
            raise TypeError("a complete pass has no length before it is read; see photos.photos")
        return self._end

    def __iter__(self) -> Iterator[FaceBatch]:
        """What is left of the epoch. Raises ShardsError for a shard that cannot be read."""
        reported, first = len(self.damaged), 0 if self.complete else self._taken
        came = sent = 0
        loader = DataLoader(
            _Reader(self, self.epoch, first, self._end),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            timeout=PATIENCE_S if self._workers else 0,
            pin_memory=torch.device(self.device).type == "cuda",
            generator=torch.Generator(),  # else it draws from the generator that training uses
        )
        try:
            for item in self._items(loader):
                self.damaged |= item["damaged"]
                if "error" in item:
                    raise ShardsError(item["error"])
                sent += item.get("sent", 0)
                if "batch" in item:
                    if not self.complete and item["number"] != came:
                        raise self._lost(f"number {came} of {self._end - first} is missing")
                    came += 1
                    self._taken += not self.complete
                    yield self._batch(item)
            if came != sent:
                raise self._lost(f"{came} of {sent} came")
        finally:
            if new := list(self.damaged.items())[reported:]:
                (name, reason), more = new[0], f", and {len(new) - 1} more" * (len(new) > 1)
                log.warning("%s: %s%s left out: %s", self._source, name, more, reason)
        if not self.complete:
            self.epoch, self._taken = self.epoch + 1, 0

    def _items(self, loader: DataLoader) -> Iterator[dict]:
        """What the loader gives. Raises ShardsError where a worker dies, or nothing comes."""
        try:
            for item in loader:
                with _deaths_wait() if self._workers else contextlib.nullcontext():
                    yield item
        except (RuntimeError, OSError, EOFError, MemoryError) as error:
            if not self._workers:
                raise
            last = (str(error).splitlines() or [type(error).__name__])[-1]  # of a traceback
            raise self._lost(last) from error

    def _lost(self, reason: str) -> ShardsError:
        return ShardsError(
            f"{self._source}: a batch of its {self._workers} workers is lost ({one_line(reason)}); "
            "look at what memory, disk and net they have (--workers; docker run --shm-size)"
        )

    def _batch(self, item: dict) -> FaceBatch:
        image, inside, landmarks, kind, names, person = item["batch"]
        image, inside, landmarks = (
            part.to(self.device, non_blocking=True) for part in (image, inside, landmarks)
        )
        image = image.float().mul_(1 / 255)  # 255 becomes 1 exactly
        skin = None if self.skins is None else self.skins.of(names).to(self.device)
        more = dict(person=person, skin=skin)
        batch = FaceBatch(image, inside_mask(inside), landmarks, kind, names, **more)
        return varied(batch, self.seed, self.epoch) if self.vary else batch

    def state_dict(self) -> dict:
        """Where reading stands, for JSON, the same on every rank."""
        settings = ("seed", "shuffle", "batch_size", "part", "split", "world")
        order = {"shards": self._digest} | {name: getattr(self, name) for name in settings}
        order |= {"workers": self._workers, "batches": self._end}
        return {"epoch": self.epoch, "taken": self._taken, "order": order}

    def load_state_dict(self, state: dict) -> None:
        """Resume behind that batch. Raises ShardsError for other shards or another order."""
        for name, value in self.state_dict()["order"].items():
            if (old := state["order"].get(name)) != value:
                if name == "shards":
                    change = "was taken with others; give the same ones, wherever they lie now"
                    raise ShardsError(f"{self._source}: other shards: the saved state {change}")
                change = f"taken with {name} = {old}, and now it is {value}"
                raise ShardsError(
                    f"{self._source}: the saved state was {change}: the photos would come in "
                    "another order; set it as it was"
                )
        self.epoch, self._taken = int(state["epoch"]), int(state["taken"])


@contextlib.contextmanager
def _deaths_wait() -> Iterator[None]:
    """What torch does when a worker dies comes after the block.

    Its handler of SIGCHLD raises in the middle of whatever runs, such as half a step of training.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(handler := signal.getsignal(signal.SIGCHLD)):
        yield
        return
    deaths = []

    def note(*death) -> None:
        deaths.append(death)

    note.behind = handler = getattr(handler, "behind", handler)  # in a reader that was left: its
    signal.signal(signal.SIGCHLD, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    if deaths:
        handler(*deaths[0])


@dataclass(eq=False)
class _Reader(IterableDataset):
    """What a process of the DataLoader reads: its share of the batches first to end - 1.

    Batch i of an epoch comes from worker i mod workers, the order in which DataLoader takes them.
    """

    settings: PhotoShards
    epoch: int
    first: int
    end: int

    def __iter__(self) -> Iterator[dict]:
        s, info = self.settings, get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        lane = (worker + self.first) % workers  # DataLoader begins with worker 0
        skip = len(range(lane, self.first, workers)) * s.batch_size
        count = len(range(lane, self.end, workers)) * s.batch_size - skip
        damaged: dict[str, str] = {}
        numbers = itertools.count(worker, workers)  # from `first` on, in all workers' turns
        sent = 0
        try:
            photos = self._photos(s.rank + s.world * lane, s.world * workers, damaged)
            photos = itertools.islice(photos, skip, None if s.complete else skip + count)
            while group := list(itertools.islice(photos, s.batch_size)):
                batch = self._collate(group, damaged)
                if info:
                    self._share(batch[:3])
                yield {"batch": batch, "number": next(numbers), "damaged": dict(damaged)}
                damaged.clear()
                sent += 1
            yield {"damaged": damaged, "sent": sent}
        except ShardsError as error:  # DataLoader would bury the line in a traceback
            yield {"error": str(error), "damaged": damaged}

    def _share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Into shared memory here: where none is free, torch's queue would drop the batch."""
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except RuntimeError as error:
            raise self.settings._lost(str(error)) from None

    def _photos(self, lane: int, lanes: int, damaged: dict) -> Iterator[tuple[str, StoredPhoto]]:
        """The photos of every lanes-th shard, in turn after turn over them unless `complete`."""
        s = self.settings
        shards, buffer = list(s._used), 0 if s.complete else s.shuffle
        if buffer:
            random.Random(f"shards {s.seed} {self.epoch}").shuffle(shards)
        shards = shards[lane::lanes]
        rng = random.Random(f"photos {s.seed} {self.epoch} {lane}")
        while True:
            count = 0
            photos = self._pass(shards, damaged)
            if buffer:
                photos = webdataset().filters.shuffle(buffer, initial=buffer, rng=rng)(photos)
            for photo in photos:
                count += 1
                yield photo
            if s.complete:
                return
            if not count:
                names = ", ".join(shard.name for shard in shards[:3])
                raise ShardsError(
                    f"{names}: no usable photo{s._of_part}; take fewer workers, or another part"
                )
            if buffer:
                rng.shuffle(shards)

    def _pass(self, shards: list[Shard], damaged: dict) -> Iterator[tuple[str, StoredPhoto]]:
        s = self.settings
        for shard in shards:
            count = 0
            for sample in read_samples(shard.address, damaged.__setitem__):
                count += 1
                try:
                    photo = read_photo(sample)
                except DamagedPhoto as error:
                    damaged[f"{shard.name}/{sample['__key__']}"] = str(error)
                    continue
                if s._in_part(photo.key, photo.person):
                    yield f"{shard.name}/{photo.key}", photo
            if count < (listed := len(shard.photos or ())):
                damaged.setdefault(shard.name, f"holds {count} of its {listed} photos")

    def _collate(self, group: list[tuple[str, StoredPhoto]], damaged: dict) -> tuple:
        """Decode a batch. Another photo of the batch replaces one that does not decode.

        So resuming in the middle of an epoch skips photos without decoding them.
        """
        decoded = []
        for name, photo in group:
            try:
                decoded.append((name, photo, decode_photo(photo)))
            except DamagedPhoto as error:
                damaged[name] = str(error)
        if not decoded:
            raise ShardsError(f"{group[0][0]}: no photo of its batch can be decoded; make it again")
        if not self.settings.complete:
            decoded = list(itertools.islice(itertools.cycle(decoded), len(group)))
        names, photos, images = zip(*decoded, strict=True)
        kinds = {photo.kind: name for name, photo in zip(names, photos, strict=True)}
        if len(kinds) > 1:
            mix = f"{kinds['2d']} has 2d landmarks and {kinds['3d']} 3d ones"
            raise ShardsError(f"{mix}; keep them in sets apart")
        inside = torch.tensor([photo.inside for photo in photos])
        landmarks = torch.from_numpy(np.stack([photo.landmarks for photo in photos]))
        people = [photo.person for photo in photos]
        return torch.stack(images), inside, landmarks, photos[0].kind, list(names), people
