"""The faces of a training run, step by step, and where they resume after a checkpoint.

    data = open_data(settings, model, rank=0, processes=1)
    batches = data.batches(first_step=0)                 # FaceBatch after FaceBatch, without end
    next(batches), data.state_dict()

Rendered faces follow from their number alone: step s has the numbers from s · batch on, and each
process takes its slice of them, so that nothing about them is stored. Photos come from shards
(`data/shards/reader.py`), which store their position. Notebooks 06 and 09.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..data.rendered.faces import RenderedFaces
from ..data.shards.files import ShardsError, find_shards
from ..data.shards.reader import PhotoShards
from ..face.batch import FaceBatch
from ..face.morphable_model import MorphableModel
from .settings import RunSettings

VALIDATION_SEED = 1_000_003
"""Added to the run's seed: no step trains on the faces of validation."""


@dataclass
class RenderedData:
    """Faces rendered on the model's device; `share` of every step's are this process's."""

    faces: RenderedFaces
    batch: int
    share: int
    rank: int
    faces_per_epoch: int

    def batches(self, first_step: int) -> Iterator[FaceBatch]:
        """From step `first_step` on."""
        for step in itertools.count(first_step):
            start = step * self.batch + self.rank * self.share
            yield self.faces.batch(torch.arange(start, start + self.share))

    def state_dict(self) -> None:
        """None: the step is enough."""

    def load_state_dict(self, state: None) -> None:
        """Nothing to do."""

    def check_shared_memory(self, processes: int) -> None:
        """It needs none."""


class PhotoData(PhotoShards):
    """Photos from shards, epoch after epoch."""

    @property
    def faces_per_epoch(self) -> int:
        """In whole batches, of all processes."""
        return len(self) * self.batch_size * self.world

    def batches(self, first_step: int) -> Iterator[FaceBatch]:
        """Resumes at the stored position; ignores `first_step`."""
        while True:
            yield from self


def open_data(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> RenderedData | PhotoData:
    """What the settings train on. Raises ShardsError for unusable shards."""
    s, share = settings, settings.share(processes)
    if s.data is None:
        faces = RenderedFaces(model, s.seed, s.family, wrinkles=s.wrinkles)
        return RenderedData(faces, s.batch, share, rank, s.faces_per_epoch)
    counted = all(shard.photos is not None for shard in find_shards(s.data))
    order = dict(seed=s.seed, workers=s.workers)
    order["photos_per_epoch"] = None if counted else s.faces_per_epoch
    return _photos(s, model, rank, processes, part="train", **order)


def held_out_faces(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> Iterator[FaceBatch]:
    """This process's share of the rendered faces of validation: other seed, lights and scenes."""
    seed = settings.seed + VALIDATION_SEED
    faces = RenderedFaces(model, seed, "held-out", wrinkles=settings.wrinkles)
    chunks = torch.arange(settings.validation_faces).split(settings.share(processes))
    for indices in chunks[rank::processes]:
        yield faces.batch(indices)


def held_out_photos(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> Iterator[FaceBatch]:
    """Its share of the photos of validation; of a set that has none there, nothing."""
    left = len(range(rank, settings.validation_faces, processes))
    try:
        held_out = dict(part="validation", complete=True)
        photos = iter(_photos(settings, model, rank, processes, **held_out))
    except ShardsError:
        return
    while left > 0 and (batch := next(photos, None)) is not None:
        yield batch[:left]
        left -= len(batch)


def _photos(s: RunSettings, model: MorphableModel, rank: int, world: int, **more) -> PhotoData:
    place = dict(rank=rank, world=world, device=model.device)
    return PhotoData(s.data, s.share(world), split=s.split, **place, **more)
