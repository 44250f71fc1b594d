"""How much nearer a face comes with more photos of one person, from pixels to millimetres.

    python tests/benchmarks/together.py --ict ict_facekit.tar.xz --folder CACHE
    python tests/benchmarks/together.py --portraits SHARDS      # and who is told for a stranger

Eight photos of each person, as those of `people.py` (faces "own" of our model, and "people" of
ICT-FaceKit's population): shape, skin and colour of hair are the person's; expression, pose, light,
lens, glasses, background and camera the photo's. All photos are found by the detector.

The error is that of the neutral face, in mm: of own faces the median over vertices after a
similarity, of people NoW's median over the true surface. A person's 8 photos are cut into sets of
1, 2, 4 and 8; the table has the means over people of their sets' mean error, and the standard error
of the mean difference to one photo by the same method.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2] / "data_scripts"))

import torch
import typer
from group_people import look
from people import TURNED, Person, console, find, haired, ict_model, rendered, stored, surface_mm
from rich.progress import track
from rich.table import Table
from torch import Tensor

from facerecon_lib.data.rendered import faces as rendered_faces
from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.dense import fit_points
from facerecon_lib.fitting.shading import MODES, refine_identity
from facerecon_lib.fitting.together import fit_together, one_identity
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.networks.recognition import face_features
from facerecon_lib.networks.upright import encode_both_ways
from facerecon_lib.photos.crop import align, photo_to_crop
from facerecon_lib.photos.landmarks import MESH
from facerecon_lib.reconstruction.together import same_person

PHOTOS, COUNTS = 8, (1, 2, 4, 8)  # of a person
OF_THE_PERSON = ("identity", "skin", "skin noise", "skin residuals", "wave", "wave length")
OF_THE_PERSON += ("wave phase", "bumps", "spots", "hair colour", "hair light")
LINKED = 0.45  # nearer portraits are of one person: group_people.py
COUNT, SEED, BATCH = 24, 77, 16


class OneForMany(CountedRandom):
    """Numbers of photos of which PHOTOS in a row show one person."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.person = CountedRandom(self.seed, self.indices // PHOTOS)

    def _unit(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name in OF_THE_PERSON:
            return self.person._unit(name, shape)
        return super()._unit(name, shape)


class Album:
    """The photos of many people, what was found in them, and what the encoder says."""

    def __init__(self, model: MorphableModel, photos: list[Person], detections: list, seed: int):
        rows = [i for i, detection in enumerate(detections) if detection is not None]
        crops = [align(photos[i].photo.pixels, detections[i].landmarks) for i in rows]
        parts = (torch.cat([getattr(c, k) for c in crops]) for k in ("image", "valid", "landmarks"))
        names = [photos[i].photo.name for i in rows]
        self.batch = FaceBatch(*parts, detections[rows[0]].kind, names)
        points = [
            photo_to_crop(torch.from_numpy(detections[i].points), crop.matrix)
            for i, crop in zip(rows, crops, strict=True)
        ]
        self.points, self.model = torch.stack(points).float(), model
        self.person, self.missed = torch.tensor(rows) // PHOTOS, len(photos) - len(rows)
        theirs = photos[0].model
        numbers = OneForMany(seed, torch.arange(len(photos)))
        identity = numbers.normal("identity", theirs.sizes.identity)[::PHOTOS]
        self.truth = [Person(None, shape, theirs) for shape in theirs.shape(identity)]
        encoder, network = load_encoder(None, model), load_network()
        answers, fits, features = [], [], []
        for at in track(range(0, len(rows), BATCH), "encoding", transient=True):
            part = slice(at, at + BATCH)
            some = self.batch[part]
            with torch.no_grad():
                answers.append(encode_both_ways(encoder, model, some))
                fit = fit_points(model, self.points[part], answers[-1])
                fits.append(refine_identity(model, fit, some.image, some.valid))
                features.append(face_features(network, some.image, some.landmarks, some.valid))
        self.answers, self.fits = FaceCoefficients.cat(answers), FaceCoefficients.cat(fits)
        self.features = torch.cat(features)

    def of(self, person: int) -> Tensor:
        """The rows of a person's photos."""
        return (self.person == person).nonzero()[:, 0]

    def error(self, identity: Tensor, person: int) -> float:
        vertices, truth = self.model.shape(identity), self.truth[person]
        if torch.equal(truth.model.faces, self.model.faces):
            return float(vertex_error_mm(vertices, truth.vertices[None]).median())
        return surface_mm(vertices[0], self.model, truth)


def album(kind: str, folder: Path, ours: MorphableModel, people: int, seed: int, ict) -> Album:
    """ "own" or "people", as the folder keeps their photos, or made and then kept."""

    def make() -> list[Person]:
        with patch.object(rendered_faces, "CountedRandom", OneForMany):
            if kind == "own":
                return rendered(ours, people * PHOTOS, seed)
            return rendered(haired(ict_model(ict)), people * PHOTOS, seed, TURNED)

    stem = folder / f"{kind}-{seed}-{people}"
    photos = stored(stem, make)
    detections = stored(stem.with_name(f"{stem.name}-det"), lambda: find(photos, MESH))
    return Album(ours, photos, detections, seed)


Method = Callable[[Album, Tensor], Tensor]


def joint(album: Album, rows: Tensor) -> Tensor:
    images = album.batch.image[rows], album.batch.valid[rows]
    found = fit_together(album.model, album.answers[rows], album.points[rows], *images)
    return found.identity[:1]


METHODS: dict[str, Method] = {
    "mean face": lambda album, rows: 0 * album.answers.identity[:1],
    "mean of the encoder's answers": lambda album, rows: album.answers.identity[rows].mean(0)[None],
    "mean of `fit`s": lambda album, rows: album.fits.identity[rows].mean(0)[None],
    "`one_identity` of the encoder's": lambda album, rows: one_identity(
        album.answers.identity[rows]
    ),
    "`one_identity` of `fit`s": lambda album, rows: one_identity(album.fits.identity[rows]),
    "`fit --together`": joint,
}


def measure(album: Album) -> dict[str, Tensor]:
    """(people, COUNTS) mm of each method."""
    errors = {}
    for name, method in METHODS.items():
        values = torch.empty(len(album.truth), len(COUNTS))
        for person in track(range(len(values)), name, transient=True):
            for i, count in enumerate(COUNTS):
                sets = [rows for rows in album.of(person).split(count) if len(rows) == count]
                sets = sets or [album.of(person)]  # of 8, one of which was not found
                found = [album.error(method(album, rows), person) for rows in sets]
                values[person, i] = torch.tensor(found).mean()
        errors[name] = values
    return errors


def table(kind: str, album: Album, errors: dict[str, Tensor]) -> Table:
    title = f"{kind}: {len(album.truth)} people, {album.missed} photos without a face found"
    counts = [f"{count} photo{'s' * (count > 1)}" for count in COUNTS]
    result = Table("method, mm", *counts, "8 less 1", title=title)
    for name, values in errors.items():
        gain = values[:, -1] - values[:, 0]
        step = f"{gain.mean():+.3f} ± {gain.std() / len(gain) ** 0.5:.3f}"
        result.add_row(name, *(f"{value:.3f}" for value in values.mean(0)), step)
    return result


def scatter(album: Album) -> float:
    """Variance of the answers to photos of one person, over that of people's mean answers."""
    answers = [album.answers.identity[album.of(i), :MODES] for i in range(len(album.truth))]
    within = torch.stack([some.var(0) for some in answers]).mean(0)
    between = torch.stack([some.mean(0) for some in answers]).var(0) - within / PHOTOS
    return float(within.sum() / between.sum())


def strangers(features: Tensor, person: Tensor, title: str, limit: float) -> None:
    """Prints how often a stranger among a person's photos is told, and a photo is lost."""
    generator, told, lost, tied, own, sets = torch.Generator().manual_seed(0), 0, 0, 0, 0, 0
    for one in person.unique():
        rows = (person == one).nonzero()[:, 0]
        if len(rows) < 2:
            continue
        others = (person != one).nonzero()[:, 0]
        other = others[torch.randint(len(others), (1,), generator=generator)]
        choice = same_person(list(features[torch.cat([rows, other])][:, None]), limit)
        sets, own, tied = sets + 1, own + len(rows), tied + choice.tied
        lost += sum(k is None for k in choice.faces[:-1])
        told += choice.faces[-1] is None
    same = person[:, None] == person
    between, upper = torch.cdist(features, features), torch.ones(len(same), len(same)).triu(1) > 0
    near, far = ((between[upper & which] < limit).float().mean() for which in (same, ~same))
    console.print(
        f"{title}: of pairs under {limit}, {near:.1%} of one person's and {far:.2%} of two "
        f"people's; one stranger among a person's photos is told in {told} of {sets} sets, {lost} "
        f"of {own} photos of the person are left out, {tied} ties"
    )


def main(
    count: Annotated[int, typer.Option(help="People of each kind.")] = COUNT,
    seed: int = SEED,
    ict: Annotated[Path | None, typer.Option(help="FaceXModel/, or an archive of it.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keeps photos and detections.")] = None,
    portraits: Annotated[Path | None, typer.Option(help="Photo shards of real people.")] = None,
) -> None:
    torch.set_num_threads(1)
    limit, ours = load_network().same_person, MorphableModel.load()
    kinds = ["own", "people"]
    if ict is None:
        kinds.remove("people")
        console.print("people of another population are left out: --ict names ICT-FaceKit's folder")
    with tempfile.TemporaryDirectory() as temporary:
        for kind in kinds:
            faces = album(kind, folder or Path(temporary), ours, count, seed, ict)
            console.print(f"{kind}: SCATTER of the encoder's answers {scatter(faces):.2f}")
            console.print(table(kind, faces, measure(faces)))
            strangers(faces.features, faces.person, kind, limit)
    if portraits is not None:
        _, _, features = look(portraits, "cpu")
        near = torch.cdist(features, features) < LINKED
        person = near.float().argmax(1)
        for _ in range(len(person)):
            joined = torch.where(near, person, len(person)).amin(1)
            if torch.equal(joined, person):
                break
            person = joined
        strangers(features, person, f"portraits, linked below {LINKED}", limit)


if __name__ == "__main__":
    typer.run(main)
