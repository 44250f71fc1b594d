"""How right a face is, from pixels to millimetres: the face detector is part of what is measured.

    python tests/benchmarks/people.py --ict ict_facekit.tar.xz --folder CACHE
    python tests/benchmarks/people.py --ict FaceXModel/ --folder CACHE --methods fit
    python tests/benchmarks/people.py --ict FaceXModel/ --methods encoder --sheet sheet.png

Two sets of photos, 512 x 512, in the skins, light, hair, glasses and backgrounds of `RenderedFaces`
(family "held-out"). "people" are of another population than the model's: ICT-FaceKit, whose modes
come from scans (`--ict`), nearly half with a mild expression, yaw within 30 degrees. "own" are
faces of our model, of every expression and pose.

The error of a person is NoW's (`now_protocol`): the median over points of the true surface, in a
ball around the middle of the face, of their distance to the predicted surface after a similarity of
least squares. That of an own face is the median over vertices of their distance to their own place,
after a similarity. Expressions count in both. The table has medians over the faces that were found.

A method is a function of the photos to coefficients or vertices:

    own = Methods()
    found = photos("people", Path("CACHE"), own.model, ict=Path("FaceXModel"))
    errors = measure({"mine": lambda found: mine(found.batch)}, found, own.model)

The folder keeps photos, detections and every method's errors: --methods measures some anew and
shows the others as they were. Delete it when the renderer or a detector changes.
"""

import json
import math
import pickle
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[2] / "data_scripts"))

import numpy as np
import torch
import typer
from face_models.ict import read_ict
from face_models.source_model import finish, write_model
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.evaluation.now_protocol import (
    NOW_LANDMARKS,
    now_error,
    outer_surface,
    sample_surface,
)
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.face.shapes import Vertices
from facerecon_lib.fitting.dense import FROM_MEAN, fit_points
from facerecon_lib.fitting.fit import FROM_ENCODER, fit
from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.fitting.shading import refine_identity
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.upright import encode_both_ways, encode_upright
from facerecon_lib.photos.crop import align, photo_to_crop
from facerecon_lib.photos.detection import Detection, DetectionError, detect
from facerecon_lib.photos.landmarks import choose_detector
from facerecon_lib.photos.reading import Photo
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.pictures.sheets import gallery, save_figure

TURNED = (0.2, math.pi / 6, 0.12)  # radians at most: pitch, yaw, roll of people
MILD = 0.5  # of the strength of expressions of our own faces
HAIR = (0.16, 0.10, 0.07)  # sRGB, short hair of all people
POINTS = 4000  # of a true surface
BATCH = 4
COUNT, SEED = 20, 11

console = Console(width=130)


@dataclass(eq=False)
class Person:
    """A photo of a face whose surface is known. model: whose mesh that is."""

    photo: Photo
    vertices: Tensor  # (V, 3) mm, with the expression
    model: MorphableModel


@dataclass(eq=False)
class FoundPeople:
    """The people whose faces were found, and their crops. everyone: also those of no face found."""

    everyone: list[Person]
    people: list[Person]
    detections: list[Detection]
    batch: FaceBatch
    points: Tensor  # (face, 478, 2) crop pixels
    title: str


Method = Callable[[FoundPeople], Vertices | FaceCoefficients]


# Photos -----------------------------------------------------------------------------------------


def ict_model(ict: Path) -> MorphableModel:
    """ICT-FaceKit's head with ears and throat, in skins of the model that ships.

    ict: its folder FaceXModel/, or an archive of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        if ict.is_file():
            with tarfile.open(ict) as archive:
                archive.extractall(folder, filter="data")
        source = read_ict(Path(folder) if ict.is_file() else ict, wide=True)
        return write_model(Path(folder, "ict.safetensors"), *finish(source))


@torch.no_grad()
def rendered(
    model: MorphableModel, count: int, seed: int, turned: tuple[float, float, float] | None = None
) -> list[Person]:
    """Photos of random faces of a model. turned: the most radians of (pitch, yaw, roll)."""
    faces = RenderedFaces(model, seed, family="held-out", size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    result, pose = [], None
    for numbers in track([*torch.arange(count).split(BATCH)], "rendering", transient=True):
        if turned is not None:
            draw = CountedRandom(seed, numbers).uniform("pose of people", 3, low=-1, high=1)
            pose = draw * torch.tensor(turned)
        batch = faces.batch(numbers, pose)
        for image, name, vertices in zip(
            batch.image, batch.names, batch.true_vertices, strict=True
        ):
            result.append(Person(Photo(to_uint8(image), name), vertices, model))
    return result


def people(count: int, seed: int, ict: Path) -> list[Person]:
    """Random people of ICT-FaceKit's population."""
    return rendered(haired(ict_model(ict)), count, seed, TURNED)


def haired(model: MorphableModel) -> MorphableModel:
    """ICT-FaceKit's heads with short hair and mild expressions."""
    _, y, z = model.mean.unbind(1)
    hair = torch.sigmoid((y - 80 - 0.45 * (z - 20).clamp(max=0)) / 3)  # mm: lower behind the face
    return replace(
        model,
        expression_basis=MILD * model.expression_basis,
        albedo_mean=torch.lerp(model.albedo_mean, torch.tensor(HAIR), hair[:, None]),
        albedo_basis=model.albedo_basis * (1 - hair)[:, None],
        regions=model.regions | {"skin": model.regions["skin"] * (1 - hair)},
    )


def find(everyone: list[Person], detector: str) -> list[Detection | None]:
    """The face of each photo; None where none is found."""
    result = []
    for person in track(everyone, "detecting", transient=True):
        try:
            result.append(detect(person.photo, detector=detector))
        except DetectionError:
            result.append(None)
    return result


def photos(
    kind: str,
    folder: Path,
    ours: MorphableModel,
    count: int = COUNT,
    seed: int = SEED,
    ict: Path | None = None,
    detector: str | None = None,
) -> FoundPeople:
    """The set "people" or "own", as the folder keeps it, or made and then kept."""
    detector = choose_detector(detector)
    make = (lambda: people(count, seed, ict)) if kind == "people" else None
    stem = folder / f"{kind}-{seed}-{count}"
    everyone = stored(stem, make or (lambda: rendered(ours, count, seed)))
    stem = stem.with_name(f"{stem.name}-{detector}")
    detections = stored(stem, lambda: find(everyone, detector))
    pairs = [(p, d) for p, d in zip(everyone, detections, strict=True) if d is not None]
    crops = [align(p.photo.pixels, d.landmarks) for p, d in pairs]
    tensors = (torch.cat([getattr(c, k) for c in crops]) for k in ("image", "valid", "landmarks"))
    names = [p.photo.name for p, _ in pairs]
    batch = FaceBatch(*tensors, pairs[0][1].kind, names)
    points = [
        photo_to_crop(torch.from_numpy(d.points), crop.matrix)
        for crop, (_, d) in zip(crops, pairs, strict=True)
    ]
    found, detections = zip(*pairs, strict=True)
    return FoundPeople(
        everyone, [*found], [*detections], batch, torch.stack(points).float(), stem.name
    )


def stored(stem: Path, make: Callable):
    """What a file keeps, or what `make` makes; then the file keeps it."""
    path = stem.with_name(f"{stem.name}.pickle")
    if not path.is_file():
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(value))
    return pickle.loads(path.read_bytes())  # written above, on this machine


# Methods and their errors -----------------------------------------------------------------------


class Methods:
    """Each method by its name; models and networks are loaded once."""

    def __init__(self) -> None:
        self.model, self.coarse = MorphableModel.load(), MorphableModel.load(subdivision=0)
        self.encoder = load_encoder(None, self.model, "cpu")
        self.by_name: dict[str, Method] = {
            "mean face": lambda found: self.model.neutral(len(found.batch)),
            "encoder": self.encode,
            "fit": self.dense,
            "points from the mean face": self.from_mean,
            "gradient descent": self.fit,
            "gradient descent from encoder": lambda found: self.fit(
                found, start=self.encode(found)
            ),
        }

    @torch.no_grad()
    def encode(self, found: FoundPeople) -> FaceCoefficients:
        return encode_upright(self.encoder, found.batch)

    @torch.no_grad()
    def dense(self, found: FoundPeople) -> FaceCoefficients:
        c = encode_both_ways(self.encoder, self.model, found.batch)
        c = fit_points(self.model, found.points, c)
        return refine_identity(self.model, c, found.batch.image, found.batch.valid)

    def from_mean(self, found: FoundPeople) -> FaceCoefficients:
        mean = start_from_landmarks(self.model, found.batch.landmarks)
        return fit_points(self.model, found.points, mean, FROM_MEAN)

    def fit(self, found: FoundPeople, start: FaceCoefficients | None = None) -> FaceCoefficients:
        b, settings = found.batch, None if start is None else FROM_ENCODER
        options = dict(kind=b.kind, settings=settings, coarse_model=self.coarse, init=start)
        return fit(self.model, b.image, b.valid, b.landmarks, **options).coefficients


def surface_mm(vertices: Tensor, model: MorphableModel, person: Person) -> float:
    """NoW's median distance from the true surface to another (V, 3), on the mesh of `model`."""
    generator = torch.Generator().manual_seed(0)
    scan = sample_surface(person.vertices, outer_surface(person.model), POINTS, generator)
    marks = person.vertices[person.model.landmarks[NOW_LANDMARKS]]
    here = vertices[model.landmarks[NOW_LANDMARKS]]
    return now_error(scan, marks, vertices, model.faces, here).median


def score(vertices: Tensor, model: MorphableModel, person: Person) -> float:
    """The error in mm of a face (V, 3) on the mesh of `model`, expression included."""
    if torch.equal(person.model.faces, model.faces):
        return float(vertex_error_mm(vertices[None], person.vertices[None]).median())
    return surface_mm(vertices, model, person)


def measure(
    methods: dict[str, Method], found: FoundPeople, model: MorphableModel
) -> dict[str, list[float]]:
    """mm of each method on each face that was found."""
    errors = {}
    for name, method in methods.items():
        with console.status(name):
            answer = method(found)
        if isinstance(answer, FaceCoefficients):
            answer = model.shape(answer.identity, answer.expression)
        pairs = zip(answer.detach(), found.people, strict=True)
        errors[name] = [score(vertices, model, person) for vertices, person in pairs]
    return errors


def table(found: FoundPeople, errors: dict[str, list[float]]) -> Table:
    away = spread_mm(found.everyone)
    title = f"{found.title}: {len(found.people)} of {len(found.everyone)} faces found; "
    title += f"{away:.1f} mm around their population's mean"
    result = Table(
        "method", "median mm", "mean mm", "at most the encoder's, % of faces", title=title
    )
    for name, values in errors.items():
        share = np.mean(np.array(values) <= np.array(errors.get("encoder", values)))
        result.add_row(name, f"{np.median(values):.3f}", f"{np.mean(values):.3f}", f"{share:.0%}")
    return result


def spread_mm(everyone: list[Person]) -> float:
    """How far people's skin lies from their population's mean after a similarity, r.m.s."""
    model, vertices = everyone[0].model, torch.stack([person.vertices for person in everyone])
    skin = model.regions["skin"] > 0.5
    away = vertex_error_mm(model.mean[skin].expand(len(vertices), -1, -1), vertices[:, skin])
    return float(away.square().mean().sqrt())


def main(
    count: Annotated[int, typer.Option(help="Photos of each set.")] = COUNT,
    seed: int = SEED,
    ict: Annotated[Path | None, typer.Option(help="FaceXModel/, or an archive of it.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keeps photos, detections, errors.")] = None,
    methods: Annotated[str, typer.Option(help="Measured anew, by commas; else new ones.")] = "",
    detector: Annotated[str | None, typer.Option(help="face-mesh, face-alignment or dlib.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="A .png of the photos, for eyes.")] = None,
) -> None:
    torch.set_num_threads(1)
    ours = Methods()
    kinds = ["own", "people"]
    if ict is None:
        kinds.remove("people")
        console.print("people of another population are left out: --ict names ICT-FaceKit's folder")
    with tempfile.TemporaryDirectory() as temporary:
        for kind in kinds:
            found = photos(kind, folder or Path(temporary), ours.model, count, seed, ict, detector)
            file = (folder or Path(temporary)) / f"{found.title}.json"
            errors = json.loads(file.read_text()) if file.is_file() else {}
            wanted = methods.split(",") if methods else [m for m in ours.by_name if m not in errors]
            if kind == "people" and not errors:
                mean = [surface_mm(p.model.mean, p.model, p) for p in found.people]
                errors["mean face of the population"] = mean
            errors |= measure({m: ours.by_name[m] for m in wanted}, found, ours.model)
            file.write_text(json.dumps(errors))
            console.print(table(found, errors))
            if sheet is not None:
                pictures = [person.photo.pixels for person in found.everyone]
                figure = gallery(pictures, title=found.title, columns=5, size=2)
                save_figure(figure, sheet.with_stem(f"{sheet.stem}-{kind}"))


if __name__ == "__main__":
    typer.run(main)
