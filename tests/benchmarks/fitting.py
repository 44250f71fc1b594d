"""How long fitting takes: milliseconds a step and seconds per photo, by stage.

    python tests/benchmarks/fitting.py [--device cuda]

All terms but recognition, 224 x 224. Times depend on the machine and on what else runs on it.
"""

import statistics
import time
from itertools import pairwise
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.fit import (
    LANDMARK_STAGE,
    LANDMARK_TERMS,
    LEARNING_RATES,
    PHOTO_TERMS,
    descend,
    fit,
)
from facerecon_lib.fitting.objective import BaseObjective
from facerecon_lib.fitting.weights import FIT_WEIGHTS
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import detect, sample_detection, sample_photo


def main(
    device: str = "cpu",
    steps: Annotated[int, typer.Option(help="Steps that are timed, after five that are not.")] = 40,
    detector: Annotated[bool, typer.Option(help="Time the detectors too.")] = True,
) -> None:
    console = Console(width=110)
    name = torch.cuda.get_device_name(0) if device.startswith("cuda") else "processor"
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {name}")
    photo = sample_photo()
    crop = align(photo.pixels, sample_detection().landmarks)
    inputs = [t.to(device) for t in (crop.image, crop.valid, crop.landmarks)]
    columns = ("mesh", "vertices", "triangles", "landmarks only", "112 x 112", "224 x 224")
    table = Table(*columns, title="milliseconds per step (median)")
    models = [MorphableModel.load(subdivision=s).to(device) for s in (0, 1)]
    for label, model in zip(("native", "x1"), models, strict=True):
        batch = FaceBatch(*inputs, "2d", [""])
        cells = []
        for terms, names, size in (
            (LANDMARK_TERMS, LANDMARK_STAGE, 224),
            (PHOTO_TERMS, tuple(LEARNING_RATES), 112),
            (PHOTO_TERMS, tuple(LEARNING_RATES), 224),
        ):
            weights = {name: FIT_WEIGHTS[name] for name in terms}
            objective = BaseObjective(model, weights, size=size)
            cells.append(_median_ms(objective, batch, names, steps))
        counts = (str(len(model.mean)), str(len(model.faces)))
        table.add_row(label, *counts, *(f"{ms:.1f}" for ms in cells))
    console.print(table)

    seconds: dict[str, float] = {}
    if detector:
        detect(photo)  # loads the networks
        start = time.perf_counter()
        detect(photo)
        seconds["detection"] = time.perf_counter() - start
    seconds |= fit(models[1], *inputs, kind="2d", coarse_model=models[0]).seconds
    table = Table(*seconds, "total", title="seconds per photo, by stage")
    table.add_row(*(f"{s:.2f}" for s in (*seconds.values(), sum(seconds.values()))))
    console.print(table)


def _median_ms(objective: BaseObjective, batch: FaceBatch, names, steps: int) -> float:
    """Median over the steps after the first five; each reads its loss back and so has ended."""
    ends = []
    start = objective.model.neutral()
    descend(objective, batch, start, names, steps + 5, lambda *_: ends.append(time.perf_counter()))
    return 1000 * statistics.median(b - a for a, b in pairwise(ends[4:]))


if __name__ == "__main__":
    typer.run(main)
