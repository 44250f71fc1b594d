"""The faces of a training run, step by step, and where they resume after a checkpoint.

    sources = open_data(settings, model, rank=0, processes=1)   # rendered faces, photos, or both
    batches = sources[0].batches(first_step=0)           # FaceBatch after FaceBatch, without end
    next(batches), sources[0].state_dict()

Rendered faces follow from their number alone: step s has the numbers from s · batch on, and each
process takes its slice of them, so that nothing about them is stored. Photos come from shards
(`data/shards/reader.py`), which store their position. Notebooks 06 and 09.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.rendered.faces import RenderedFaces
from ..data.shards.files import ShardsError, find_shards
from ..data.shards.reader import PhotoShards
from ..data.shards.skins import read_skins
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.morphable_model import MorphableModel, default_model_path
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

    def batches(self, first_step: int) -> Iterator[FaceBatch]:
        """From step `first_step` on."""
        for step in itertools.count(first_step):
            start = step * self.batch + self.rank * self.share
            yield in_crop_pixels(self.faces.batch(torch.arange(start, start + self.share)))

    def state_dict(self) -> None:
        """None: the step is enough."""

    def load_state_dict(self, state: None) -> None:
        """Nothing to do."""

    def check_shared_memory(self, processes: int) -> None:
        """It needs none."""


class PhotoData(PhotoShards):
    """Photos from shards, epoch after epoch."""

    def batches(self, first_step: int) -> Iterator[FaceBatch]:
        """Resumes at the stored position; ignores `first_step`."""
        while True:
            yield from self


def open_data(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> list[RenderedData | PhotoData]:
    """The sources of the parts of a batch, in the order of `settings.parts`.

    Raises ShardsError for unusable shards, and SkinsError for an unusable file of skins.
    """
    s, parts, sources = settings, settings.parts(processes), []
    if count := parts.get("rendered"):
        faces = rendered_faces(s, model, s.seed, s.family, s.people)
        sources.append(RenderedData(faces, count * processes, count, rank))
    if count := parts.get("photos"):
        counted = all(shard.photos is not None for shard in find_shards(s.data))
        order = dict(seed=s.seed, workers=s.workers, vary=s.varies)
        order["photos_per_epoch"] = None if counted else s.faces_per_epoch
        place = (model, rank, processes)
        sources.append(_photos(s, *place, part="train", batch_size=count, **order))
    return sources


def rendered_faces(
    settings: RunSettings, model: MorphableModel, seed: int, family: str, people: int | None = None
) -> RenderedFaces:
    """As the settings want them."""
    s = settings
    kind = dict(clean=s.clean, wrinkles=s.wrinkles, frames=s.frames, size=s.picture_size)
    return RenderedFaces(model, seed, family, people=people, **kind)


def in_crop_pixels(batch: FaceBatch) -> FaceBatch:
    """Landmarks in pixels of the whole crop, of smaller pictures too."""
    size = batch.image.shape[-1]
    return (
        batch
        if size == CROP_SIZE
        else replace(batch, landmarks=batch.landmarks * (CROP_SIZE / size))
    )


def held_out_faces(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> Iterator[FaceBatch]:
    """This process's share of the rendered faces of validation: other seed, lights and scenes."""
    seed = settings.seed + VALIDATION_SEED
    faces = rendered_faces(settings, model, seed, "held-out")
    chunks = torch.arange(settings.validation_faces).split(settings.share(processes))
    for indices in chunks[rank::processes]:
        yield in_crop_pixels(faces.batch(indices))


def held_out_photos(
    settings: RunSettings, model: MorphableModel, rank: int, processes: int
) -> Iterator[FaceBatch]:
    """Its share of the photos of validation; of a set that has none there, nothing."""
    left = len(range(rank, settings.validation_faces, processes))
    try:
        held_out = dict(part="validation", complete=True)
        batch_size = settings.share(processes)
        photos = iter(_photos(settings, model, rank, processes, batch_size=batch_size, **held_out))
    except ShardsError:
        return
    while left > 0 and (batch := next(photos, None)) is not None:
        yield batch[:left]
        left -= len(batch)


def _photos(s: RunSettings, model: MorphableModel, rank: int, world: int, **more) -> PhotoData:
    place = dict(rank=rank, world=world, device=model.device)
    skins = None
    if getattr(s, "skins", None):
        skins = read_skins(Path(s.skins), Path(s.face_model or default_model_path()))
    return PhotoData(s.data, split=s.split, skins=skins, **place, **more)
