"""How often the verdict of `facerecon` is wrong: good photos refused, bad ones relied on.

    PYTHONPATH=tests python tests/benchmarks/verdict.py                # photos that wheels carry
    PYTHONPATH=tests python tests/benchmarks/verdict.py --photos FOLDER --shards SHARDS --every 65
    PYTHONPATH=tests python tests/benchmarks/verdict.py --method fit   # 15 times as slow

Each person comes as nine fair photos and some thirty spoiled ones; pictures without a face are bad
ones too. "no face" is the detector's own refusal. `--first` takes other people of the shards than
the limits were set with (those set them: --every 65 --first 0, and 160, 3 for the spoiled).
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import track
from rich.table import Table
from spoiled_photos import fair, spoiled, without_faces

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.data.shards.files import find_shards, read_samples
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.detection import ASSETS, DetectionError, detect
from facerecon_lib.photos.folders import PHOTO_SUFFIXES
from facerecon_lib.photos.reading import Photo
from facerecon_lib.reconstruction.reconstruct import encode_face, fit_face

HOPPER = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


def people(photos: Path | None, shards: Path | None, every: int, first: int) -> Iterator:
    """(name, image) of one person after the other."""
    paths = sorted(photos.iterdir()) if photos else [ASSETS / "astronaut.jpg", HOPPER]
    for path in paths:
        if path.suffix.lower() in PHOTO_SUFFIXES:
            yield path.name, Image.open(path).convert("RGB")
    if shards:
        samples = (
            sample
            for shard in find_shards(shards)
            for sample in read_samples(shard.address, lambda *problem: None)
        )
        for number, sample in enumerate(islice(samples, first, None, every)):
            yield f"portrait {number}", Image.open(io.BytesIO(sample["jpg"])).convert("RGB")


def main(
    photos: Annotated[Path | None, typer.Option(help="A folder of good photos.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Shards of good photos.")] = None,
    every: Annotated[int, typer.Option(help="Take each of so many of the shards.")] = 65,
    first: Annotated[int, typer.Option(help="From this one on.")] = 0,
    method: Annotated[str, typer.Option(help="encoder or fit.")] = "encoder",
) -> None:
    """Both errors of the verdict."""
    torch.set_num_threads(1)
    model, coarse = MorphableModel.load(), MorphableModel.load(subdivision=0)
    encoder = load_encoder(model=model)

    def reasons(image: Image.Image) -> list[str] | None:
        photo = Photo(np.asarray(image.convert("RGB")))
        try:
            fit = method == "fit"
            done = fit_face(photo, model, coarse) if fit else encode_face(photo, model, encoder)
        except DetectionError:
            return None
        return done.reasons

    persons = [
        (image, detect(np.asarray(image)).landmarks)
        for _, image in people(photos, shards, every, first)
    ]
    sets = {
        "good": [picture for person in persons for picture in fair(*person)],
        "bad": [picture for person in persons for picture in spoiled(*person)],
    }
    sets["bad"] += [(kind.split(",")[0], image) for kind, image in without_faces()]
    for name, pictures in sets.items():
        counts = defaultdict(Counter)
        for kind, image in track(pictures, name, console=error_console):
            why = reasons(image)
            verdict = "no face" if why is None else "told" if why else "relied on"
            counts[kind][verdict] += 1
        table = Table("kind", "photos", "no face", "told", "relied on", title=f"{name} photos")
        total = sum(counts.values(), Counter())
        for kind, count in [*sorted(counts.items()), ("all", total)]:
            row = [count[v] for v in ("no face", "told", "relied on")]
            table.add_row(kind, *map(str, (sum(row), *row)), end_section=kind == "all")
        out_console.print(table)
        share = 1 - total["relied on"] / max(sum(total.values()), 1)
        out_console.print(f"{name}: {share:.1%} of {sum(total.values())} are not relied on")


if __name__ == "__main__":
    typer.run(main)
