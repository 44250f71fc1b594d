"""Faces found by BlazeFace, by MTCNN, and by both in their order, and what face and points cost.

    python tests/benchmarks/face_search.py                   # rendered faces, by yaw
    python tests/benchmarks/face_search.py photos/           # a folder's photos as well

A face counts where the five points are right: within a third of the distance from eyes to mouth.
Times are the processor's, of one thread: the machine's load moves them little.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.photos import face_search
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.photos.face_mesh import face_points
from facerecon_lib.photos.face_search import detect_faces, find_faces
from facerecon_lib.photos.folders import list_folder
from facerecon_lib.photos.reading import Pixels, load_image

SEARCHES = {
    "BlazeFace": lambda pixels: find_faces([pixels])[0],
    "MTCNN": lambda pixels: face_search._search_hard(pixels, "cpu"),
    "both": detect_faces,
}


def found(search: Callable, pictures: Sequence[Pixels], five: Sequence[np.ndarray]) -> str:
    """How many largest faces lie where they are, and the milliseconds per picture."""
    start, right = time.process_time(), 0
    for pixels, true in zip(pictures, five, strict=True):
        size = np.linalg.norm(true[:2].mean(0) - true[3:].mean(0))
        faces = search(pixels)
        right += bool(faces) and np.linalg.norm(faces[0].points - true, axis=1).mean() < size / 3
    return f"{right} of {len(five)}, {(time.process_time() - start) / len(five) * 1e3:.0f} ms"


def rendered(count: int, yaw: float) -> tuple[list[Pixels], list[np.ndarray]]:
    faces = RenderedFaces(MorphableModel.load(subdivision=0), seed=91, size=320, margin=2.0)
    numbers = torch.arange(count) + round(40 * yaw)
    rotation = torch.zeros(count, 3)
    rotation[:, 1] = math.radians(yaw) * (1 - 2 * (numbers % 2))
    batch = faces.batch(numbers, rotation)
    pictures = (batch.image.movedim(1, -1).numpy() * 255).round().astype(np.uint8)
    five = [np.stack([marks[part].mean(0) for part in FIVE]) for marks in batch.landmarks.numpy()]
    return list(pictures), five


def main(
    folder: Annotated[Path | None, typer.Argument(help="Photos, one face each.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Rendered faces for each yaw.")] = 20,
) -> None:
    """Print faces found and milliseconds."""
    torch.set_num_threads(1)
    table = Table("pictures", *SEARCHES)
    sets = {f"rendered, yaw {yaw}": rendered(count, yaw) for yaw in range(0, 91, 10)}
    if folder is not None:
        photos = [load_image(path).pixels for path in list_folder(folder).photos]
        faces = [detect_faces(pixels)[0].points for pixels in photos]
        sets["photos (right: as both)"] = photos, faces
    pixels, five = sample_photo().pixels, sample_detection().faces[0].points
    for search in SEARCHES.values():
        search(pixels)  # loads the networks
    for name, pictures in sets.items():
        table.add_row(name, *(found(search, *pictures) for search in SEARCHES.values()))
    console = Console()
    console.print(table)
    for batch in (1, 16):
        face_points([pixels] * batch, [five] * batch)
        start = time.process_time()
        for _ in range(32 // batch):
            face_points([pixels] * batch, [five] * batch)
        console.print(
            f"478 points in batches of {batch}: {(time.process_time() - start) / 32 * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    typer.run(main)
