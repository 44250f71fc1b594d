"""How landmark detectors err as a head turns: points that are seen, and points that are hidden.

    python tests/benchmarks/landmarks_by_yaw.py                    # four tables, some minutes
    python tests/benchmarks/landmarks_by_yaw.py --json facerecon_lib/assets/landmarks_by_yaw.json

The same rendered people at each yaw, half of them turned to either side, in photos of 512 x 512.
The unit of errors is the distance of the outer corners of the eyes in 3D, as large as it would be
seen from the front: what is seen of it shrinks with the yaw. `of the box` is the mean of all points
as a share of the root of their box's area, as papers have it. A face counts as found where the mean
of a detector's points lies within half a unit of the truth; errors are of these faces. Points are
hidden by the face alone (`visible_points`), not by glasses and hair; an eye where most of it is.
The truth is the mesh: 468 points where `model.dense` has them, 68 vertices, and means of the 68.
dlib's jaw is compared with the outline that is seen. dlib and face-alignment look where the face
mesh has found the face. `fit` is the face model laid on the mesh's 478 points.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from facerecon_lib.cli.console import error_console
from facerecon_lib.course.nb02_camera.turned import TurnedPerson
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import pose
from facerecon_lib.face.dense_points import FIRST_IRIS
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.fitting.dense import fit_points
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.upright import encode_both_ways
from facerecon_lib.photos import face_search, landmarks
from facerecon_lib.photos.crop import align, crop_to_photo, photo_to_crop
from facerecon_lib.photos.detection import Detection, DetectionError, detect
from facerecon_lib.photos.reading import Pixels
from facerecon_lib.rendering.synthesis import landmark_vertices, project_landmarks
from facerecon_lib.rendering.visibility import visible_points

MESH, OF_MESH, FIT = "face mesh, 468", "of it, 68", "fit, 68"
MTCNN, BLAZE = "MTCNN, 5", "BlazeFace, 5"
OTHERS = {f"{name}, 68": name for name in (landmarks.DLIB, landmarks.FACE_ALIGNMENT)}
NUMBERS, KINDS = ("found", "seen", "hidden", "of the box"), (468, "3d", 5)
Points, Seen = Float[np.ndarray, "point 2"], Bool[np.ndarray, " point"]


class Scene(TurnedPerson):
    """A person, and the truth of each kind of points."""

    def __init__(self, faces: RenderedFaces, number: int, yaw: float):
        super().__init__(faces, number, yaw)
        v_camera, rotation = self.face.v_camera, self.face.rotation

        def truth(points: Tensor) -> tuple[Points, Seen]:
            return self.places(points).numpy(), visible_points(points, self.depth)[0].numpy()

        outline = landmark_vertices(faces.model, v_camera, rotation, "2d")[0]
        self.truth = {"3d": truth(self.landmarks), "2d": truth(v_camera[:, outline])}
        pixels, seen = self.truth["3d"]
        five = [pixels[part].mean(0) for part in FIVE], [seen[part].mean() > 0.5 for part in FIVE]
        self.truth |= {468: truth(self.dense), 5: tuple(map(np.array, five))}

    def judge(self, points: Points, kind: int | str) -> tuple[float, ...]:
        """NUMBERS of a detector's points; nan where the face is not found, or nothing is hidden."""
        true, seen = self.truth[kind]
        if not np.linalg.norm((points - true).mean(0)) < self.unit / 2:
            return 0.0, math.nan, math.nan, math.nan
        away = np.linalg.norm(points - true, axis=1)
        groups = (away[seen], away[~seen])
        errors = [group.mean() / self.unit if len(group) else math.nan for group in groups]
        return 1.0, *errors, away.mean() / math.sqrt(np.ptp(true, axis=0).prod())


def fitter(model: MorphableModel) -> Callable[[Pixels, Detection], Points]:
    """The 68 landmarks of the model as `facerecon reconstruct` lays it on the dense points."""
    encoder = load_encoder(model=model)

    @torch.no_grad()
    def fit(pixels: Pixels, found: Detection) -> Points:
        crop = align(pixels, found.landmarks)
        batch = FaceBatch(crop.image, crop.valid, crop.landmarks, found.kind, [""])
        points = photo_to_crop(torch.from_numpy(found.points), crop.matrix)[None]
        c = fit_points(model, points, encode_both_ways(encoder, model, batch))
        v_camera = pose(model.shape(c.identity, c.expression), c.rotation, c.scale, c.translation)
        marks = project_landmarks(model, v_camera, c.rotation)
        return crop_to_photo(marks[0], crop.matrix).numpy()

    return fit


def look(scene: Scene, fit: Callable, others: dict[str, str]) -> dict[str, tuple[float, ...]]:
    """NUMBERS of each detector."""
    missed, pixels = (0.0, math.nan, math.nan, math.nan), scene.pixels
    searches = {BLAZE: face_search.find_faces([pixels])[0]}
    searches[MTCNN] = face_search._search_hard(pixels, "cpu")
    result = {
        name: scene.judge(faces[0].points, 5) if faces else missed
        for name, faces in searches.items()
    }
    try:
        found = detect(pixels)
    except DetectionError:
        return result | dict.fromkeys([MESH, OF_MESH, FIT, *others], missed)
    result[MESH] = scene.judge(found.points[:FIRST_IRIS], 468)
    result[OF_MESH] = scene.judge(found.landmarks, "3d")
    result[FIT] = scene.judge(fit(pixels, found), "3d")
    for name, detector in others.items():
        result[name] = scene.judge(*landmarks.find_landmarks(pixels, found.points, detector))
    return result


def main(
    count: Annotated[int, typer.Option(help="People, each at every yaw.")] = 40,
    step: Annotated[int, typer.Option(help="Degrees of yaw from one to the next.")] = 10,
    seed: int = 92,
    out: Annotated[Path | None, typer.Option("--json", help="A file for the numbers.")] = None,
) -> None:
    """Print how many faces are found and by how much points are off, by yaw."""
    torch.set_num_threads(1)
    model, console = MorphableModel.load(), Console(width=120)
    faces = RenderedFaces(model, seed, "held-out", size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    ready = {row["name"]: row["ready"] for row in landmarks.detectors()}
    others = {name: detector for name, detector in OTHERS.items() if ready[detector]}
    for name in OTHERS.keys() - others:
        console.print(f"{name}: is not ready on this machine, and left out")
    fit, yaws, seen, numbers = fitter(model), [*range(0, 91, step)], {}, {}
    for yaw in yaws:
        shares, looks = [], []
        for number in track(range(count), f"yaw {yaw}", console=error_console):
            scene = Scene(faces, number, yaw)
            shares.append([scene.truth[kind][1].mean() for kind in KINDS])
            looks.append(look(scene, fit, others))
        for kind, share in zip(KINDS, np.mean(shares, axis=0), strict=True):
            seen.setdefault(str(kind), []).append(float(share))
        for name in looks[0]:
            columns = np.array([answer[name] for answer in looks]).T
            for number, column in zip(NUMBERS, columns, strict=True):
                mean = float(np.nanmean(column)) if not np.isnan(column).all() else None
                numbers.setdefault(name, {}).setdefault(number, []).append(mean)
    order = [name for name in (MESH, OF_MESH, FIT, *others, MTCNN, BLAZE) if name in numbers]
    for number in NUMBERS:
        table = Table(number, *map(str, yaws))
        for name in order:
            values = numbers[name][number]
            table.add_row(name, *("" if v is None else f"{v:.1%}" for v in values))
        console.print(table)
    table = Table("points seen", *map(str, yaws))
    for kind, values in seen.items():
        table.add_row(kind, *(f"{v:.0%}" for v in values))
    console.print(table)
    if out is not None:
        detectors = {
            name: {
                number: [None if v is None else round(v, 4) for v in values]
                for number, values in numbers[name].items()
            }
            for name in order
        }
        content = dict(faces=count, yaw=yaws, seen=seen, detectors=detectors)
        with write_whole(out) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
