"""How the unlit skin of a photo changes with the photo's exposure and white balance.

    python tests/benchmarks/exposure.py FOLDER...               # of photos, or of photo shards
    python tests/benchmarks/exposure.py SHARDS --part test --split person --count 50

Every photo is also taken with its linear light multiplied and cut off at white, as a camera would:
by 0.6 to 1.5, and with red and blue 15 % apart. `reconstruct` and `fit` begin with its pixels each
time. The table has medians over photos of how far L* and ITA of the mean unlit skin move: who it is
stays the same, so 0 would be right.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.evaluation.runs import shard_photos
from facerecon_lib.face.colour import linear_to_srgb, srgb_to_linear
from facerecon_lib.face.measures import mean_tone
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.folders import list_folder
from facerecon_lib.photos.reading import Photo, load_image
from facerecon_lib.reconstruction.reconstruct import encode_faces

EXPOSURES, BALANCES = (0.6, 0.8, 1.25, 1.5), {"warm": (1.15, 1, 0.87), "cool": (0.87, 1, 1.15)}
GAINS = {f"exposure {gain:g}": (gain,) * 3 for gain in EXPOSURES} | BALANCES
METHODS = {"reconstruct": False, "fit": True}

console = Console(width=130)


def photos_of(folder: Path, part: str | None, split: str, count: int | None) -> list[Photo]:
    """Of a folder of photos, or the crops of shards."""
    if any(folder.glob("*.tar")):
        shards = PhotoShards(folder, 16, part=part, split=split, complete=True)
        return shard_photos(shards)[:count]
    return [load_image(path) for path in list_folder(folder).photos[:count]]


def exposed(photo: Photo, gains: tuple[float, float, float]) -> Photo:
    """The same scene, each channel's light times its gain."""
    light = srgb_to_linear(torch.from_numpy(photo.pixels) / 255) * torch.tensor(gains)
    pixels = (255 * linear_to_srgb(light.clamp(max=1))).round().byte().numpy()
    return Photo(pixels, photo.name)


def tones(photo: Photo, model: MorphableModel, encoder, dense: bool) -> np.ndarray | None:
    """L* and ITA of the unlit skin: as it is, then by GAINS; NaN where no face is found."""
    versions = [photo, *(exposed(photo, gains) for gains in GAINS.values())]
    rows = []
    for done in encode_faces(versions, model, encoder, dense=dense):
        if isinstance(done, Exception):
            rows.append((np.nan, np.nan))
        else:
            tone = mean_tone(done.face.albedo, model.regions["skin"])
            rows.append([float(value) for value in tone.values()])
    return np.array(rows)


def changes(rows: np.ndarray) -> np.ndarray:
    """(photo, gain, L* and ITA): how far from those of the photo as it is; angles are cyclic."""
    difference = np.abs(rows[:, 1:] - rows[:, :1])
    difference[..., 1] = np.minimum(difference[..., 1], 360 - difference[..., 1])
    return difference


def main(
    folders: Annotated[list[Path], typer.Argument(help="Photos, or shards of them.")],
    part: Annotated[str | None, typer.Option(help="Of shards: train, validation or test.")] = None,
    split: Annotated[str, typer.Option(help="Of shards: random or person.")] = "random",
    count: Annotated[int | None, typer.Option(help="Photos of each folder at most.")] = None,
    model: Annotated[Path | None, typer.Option(help="A face model.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="An encoder.")] = None,
) -> None:
    torch.set_num_threads(1)
    face_model = MorphableModel.load(model)
    encoder = load_encoder(checkpoint, face_model, "cpu")
    photos = [photo for folder in folders for photo in photos_of(folder, part, split, count)]
    title = f"unlit skin of {len(photos)} photos: median change, L* / ITA in degrees"
    table = Table("", *GAINS, "exposures", "balances", title=title)
    for name, dense in METHODS.items():
        rows = [tones(p, face_model, encoder, dense) for p in track(photos, name, transient=True)]
        moved = changes(np.stack(rows))
        exposures, balances = np.split(moved, [len(EXPOSURES)], 1)
        cells = [np.nanmedian(moved[:, i], 0) for i in range(len(GAINS))]
        cells += [np.nanmedian(part, (0, 1)) for part in (exposures, balances)]
        table.add_row(name, *(f"{lightness:.1f} / {ita:.1f}" for lightness, ita in cells))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
