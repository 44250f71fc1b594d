"""How near a fitted face comes to the 478 points of real photos, its lids and its mouth.

    python tests/benchmarks/dense.py PHOTOS
    python tests/benchmarks/dense.py PHOTOS --shards SHARDS --every 65

Points are detected, not true: they say whether a face is in its place and does what the person
does, not who it is (`people.py` does). Lids and mouth: how much the opening, as a share of its
width, differs from the photo's.
"""

import io
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.table import Table
from torch import Tensor

from facerecon_lib.cli.console import out_console
from facerecon_lib.data.shards.files import find_shards, read_samples
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.dense_points import OUTER_EYES
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.dense import DenseSettings, fit_points
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.upright import encode_both_ways, encode_upright
from facerecon_lib.photos.crop import align, photo_to_crop
from facerecon_lib.photos.detection import DetectionError, detect
from facerecon_lib.photos.folders import PHOTO_SUFFIXES
from facerecon_lib.photos.reading import Photo, load_image

OPENINGS = {"lids": ((159, 145, 33, 133), (386, 374, 362, 263)), "mouth": ((13, 14, 61, 291),)}
SETTINGS = {
    "fit": DenseSettings(),
    "fit, without the gaps": DenseSettings(gaps=0.0),
    "fit, the points in full": DenseSettings(evidence=1.0),
    "fit, identity free": DenseSettings(identity=0.3),
}


def photos(folder: Path, shards: Path | None, every: int) -> Iterator[Photo]:
    """Of the folder, then each of `every` of the shards."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PHOTO_SUFFIXES:
            yield load_image(path)
    samples = (
        sample
        for shard in (find_shards(shards) if shards else [])
        for sample in read_samples(shard.address, lambda *problem: None)
    )
    for sample in islice(samples, 0, None, every):
        image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
        yield Photo(np.asarray(image), sample["__key__"])


def main(
    folder: Annotated[Path, typer.Argument(help="Photos of faces.")],
    shards: Annotated[Path | None, typer.Option(help="More of them.")] = None,
    every: Annotated[int, typer.Option(help="Take each of so many of the shards.")] = 65,
) -> None:
    """The encoder, and `fit` with its settings one by one."""
    torch.set_num_threads(1)
    model = MorphableModel.load()
    encoder, crops, points = load_encoder(model=model), [], []
    for photo in photos(folder, shards, every):
        try:
            detection = detect(photo)
        except DetectionError as error:
            out_console.print(str(error))
            continue
        crop = align(photo.pixels, detection.landmarks)
        crops.append(crop)
        points.append(photo_to_crop(torch.from_numpy(detection.points), crop.matrix).float())
    seen = torch.stack(points)
    parts = (
        torch.cat([getattr(c, name) for c in crops]) for name in ("image", "valid", "landmarks")
    )
    batch = FaceBatch(*parts, detection.kind, [""] * len(crops))
    with torch.no_grad():
        once, start = encode_upright(encoder, batch), encode_both_ways(encoder, model, batch)
    table = Table("", "points, %", "lids", "mouth", "ms a face", title=f"{len(seen)} photos")
    table.add_row("encoder", *errors(model, once, seen), "")
    for name, settings in SETTINGS.items():
        began = time.perf_counter()
        result = fit_points(model, seen, start, settings)
        spent = 1000 * (time.perf_counter() - began) / len(seen)
        table.add_row(name, *errors(model, result, seen), f"{spent:.0f}")
    out_console.print(table)


@torch.no_grad()
def errors(model: MorphableModel, c: FaceCoefficients, seen: Tensor) -> list[str]:
    dense = model.dense
    local = model.shape(c.identity, c.expression)[:, dense.vertices] + dense.offsets
    here = ndc_to_pixels(project_ndc(pose(local, c.rotation, c.scale, c.translation)))
    unit = (seen[:, OUTER_EYES[0]] - seen[:, OUTER_EYES[1]]).norm(dim=-1)
    sure = dense.noise < 0.025
    off = ((here - seen).norm(dim=-1) / unit[:, None])[:, sure].mean()
    openings = []
    for quadruples in OPENINGS.values():
        up, down, left, right = torch.tensor(quadruples).T

        def opening(at: Tensor, rims=(up, down), corners=(left, right)) -> Tensor:
            height, width = ((at[:, a] - at[:, b]).norm(dim=-1) for a, b in (rims, corners))
            return height / width

        openings.append(float((opening(here) - opening(seen)).abs().mean()))
    return [f"{100 * off:.2f}", *(f"{value:.3f}" for value in openings)]


if __name__ == "__main__":
    typer.run(main)
