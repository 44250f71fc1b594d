"""How easily rendered faces are told from photos: by linear classifiers, on networks' features.

    python tests/benchmarks/looks_like_photos.py SHARDS
    python tests/benchmarks/looks_like_photos.py SHARDS --frontal --sheet sheet.png

Half rendered faces as the encoder is trained on (family "train", wrinkles), half real crops. The
features are those of the encoder's backbone and of dlib's face recognition; a logistic regression
on them is judged on faces of people that it has not seen, in five folds. 50 % and an AUC of 0.5:
nobody could tell. Where both are told apart without a mistake, the Frechet distance of their
features (Heusel et al., 2017) still says how far apart they are; "real" is that of two halves of
the photos. Compare two kinds of faces by one encoder: `--checkpoint`.

What gives the rendered ones away is seen by taking it from both: "crops" as they are; "faces"
aligned, with nothing around them; these in grey; these with each channel's mean and contrast made
equal, so without tone of skin and light; these without detail. Poses: `--frontal`, where the photos
are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import rankdata
from torch import Tensor

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.splits import key_position
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.face_networks import Chip, load_network
from facerecon_lib.networks.recognition import chip_matrix, cut_chips
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.pictures.sheets import gallery, save_figure

BATCH, FOLDS = 16, 5
CHIP = Chip(224, (-0.25, -0.25, 1.5, 1.5))
GREY = 0.5
TURN = 0.1  # radians, s.d. of each of three angles of frontal faces
DECAY = 0.01  # of the squares of standardised features' weights, beside the mean loss

console = Console(width=130)


def face_mask() -> Tensor:
    """1 within an ellipse from brows to chin of the mean face."""
    at = (torch.arange(CHIP.size) + 0.5) / CHIP.size * 1.5 - 0.25  # dlib's unit
    return ((((at - 0.49) / 0.44) ** 2 + ((at[:, None] - 0.42) / 0.52) ** 2) < 1).float()


def within(faces: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    mask = face_mask()
    return mask * change(faces) + (1 - mask) * GREY


def evened(faces: Tensor) -> Tensor:
    """Every channel with one mean and one standard deviation within the mask."""
    mask = face_mask() / face_mask().sum()
    mean = (mask * faces).sum((2, 3), keepdim=True)
    spread = (mask * (faces - mean) ** 2).sum((2, 3), keepdim=True).sqrt()
    return (GREY + 0.15 * (faces - mean) / spread.clamp(min=1e-3)).clamp(0, 1)


def blurred(faces: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(faces, 8), scale_factor=8, mode="bilinear")


VERSIONS = {
    "faces": lambda faces: within(faces, lambda x: x),
    "faces, grey": lambda faces: within(faces, lambda x: x.mean(1, keepdim=True).expand_as(x)),
    "faces, even": lambda faces: within(faces, evened),
    "faces, blurred": lambda faces: within(faces, blurred),
}


def pictures(batch: FaceBatch) -> dict[str, tuple[Tensor, Tensor]]:
    """The crops and the versions of their faces, as either network takes them."""
    matrix = chip_matrix(batch.landmarks, CHIP)
    faces = cut_chips(batch.image, matrix, CHIP, torch.full((3,), GREY))
    versions = {name: (make(faces),) * 2 for name, make in VERSIONS.items()}
    return {"crops": (batch.image, faces)} | versions


def separate(features: Tensor, real: Tensor, folds: Tensor) -> tuple[float, float]:
    """Accuracy and AUC of logistic regressions, over faces of folds that they have not seen."""
    scores = torch.empty(len(features), dtype=torch.double)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        mean, sd = features[train].mean(0), features[train].std(0).clamp(min=1e-6)
        x, y = ((features - mean) / sd).double(), real.double()
        weight = torch.zeros(x.shape[1] + 1, dtype=torch.double, requires_grad=True)
        descent = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

        def loss(x=x[train], y=y[train], weight=weight, descent=descent) -> Tensor:
            descent.zero_grad()
            logits = x @ weight[:-1] + weight[-1]
            value = F.binary_cross_entropy_with_logits(logits, y)
            value = value + DECAY * weight[:-1].square().sum()
            value.backward()
            return value

        descent.step(loss)
        scores[test] = (x[test] @ weight[:-1] + weight[-1]).detach()
    accuracy = ((scores > 0) == real).double().mean()
    ranks, n = torch.from_numpy(rankdata(scores.numpy())), int(real.sum())
    auc = (ranks[real].sum() - n * (n + 1) / 2) / (n * (len(real) - n))  # Mann-Whitney
    return float(accuracy), float(auc)


def frechet(features: Tensor, real: Tensor) -> float:
    """|m - n|² + tr(C + D - 2 (C D)^1/2) of either kind's mean and covariance.

    With C = X'X and D = Y'Y, (C D)^1/2 has the singular values of X Y' as its eigenvalues.
    """
    (m, x), (n, y) = (centred(features[kind].double()) for kind in (real, ~real))
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.matrix_norm(x @ y.T, "nuc")
    return float((m - n).square().sum() + spread)


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and X whose X'X is the covariance."""
    return x.mean(0), (x - x.mean(0)) / (len(x) - 1) ** 0.5


def draw(sheet: Path, batches: list[FaceBatch]) -> None:
    """Some of either kind, in every version."""
    panels = [to_uint8(one) for b in batches for p, _ in pictures(b[:8]).values() for one in p]
    save_figure(gallery(panels, columns=8, size=1.7), sheet)


@torch.no_grad()
def main(
    shards: Annotated[Path, typer.Argument(help="A folder of photo shards.")],
    count: Annotated[int, typer.Option(help="Faces of either kind.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the rendered faces.")] = 77,
    frontal: Annotated[
        bool, typer.Option("--frontal", help="Rendered within 10°, mostly.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="A face model.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="An encoder.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="A .png of some of them.")] = None,
) -> None:
    torch.set_num_threads(1)
    face_model = MorphableModel.load(model)
    encoder, dlib = load_encoder(checkpoint, face_model, "cpu").eval(), load_network("dlib")
    rendered = RenderedFaces(face_model, seed, wrinkles=True)
    turns = TURN * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    pairs = zip(torch.arange(count).split(BATCH), turns.split(BATCH), strict=True)
    made = [rendered.batch(numbers, turn if frontal else None) for numbers, turn in pairs]
    crops, left = [], count
    for batch in PhotoShards(shards, BATCH, complete=True):
        crops += [batch[:left]] * (left > 0)
        left -= len(batch)
    if sheet is not None:
        draw(sheet, [made[0], crops[0]])
    features: dict[str, dict[str, list[Tensor]]] = {}
    for batch in track([*made, *crops], "features", transient=True):
        for name, (images, faces) in pictures(batch).items():
            chips = F.interpolate(faces, (dlib.chip.size,) * 2, mode="area")
            each = features.setdefault(name, {"encoder": [], "dlib": []})
            each["encoder"].append(encoder.pooled(images))
            each["dlib"].append(dlib(chips))
    people = [name for batch in made for name in batch.names]
    people += [person for batch in crops for person in batch.person]
    real = torch.tensor([False] * count + [True] * (len(people) - count))
    folds = torch.tensor([int(FOLDS * key_position(person, 0)) for person in people])
    title = f"{count} rendered faces, {len(people) - count} crops of {shards.name}"
    columns = ("AUC", "Frechet", "real")
    table = Table(title, "encoder: accuracy", *columns, "dlib: accuracy", *columns)
    for name, networks in features.items():
        row = [name]
        for parts in networks.values():
            with torch.enable_grad():
                accuracy, auc = separate(torch.cat(parts), real, folds)
            row += [f"{accuracy:.1%}", f"{auc:.3f}", f"{frechet(torch.cat(parts), real):.3g}"]
            photos = torch.cat(parts)[real]
            row.append(f"{frechet(photos, torch.arange(len(photos)) % 2 == 0):.3g}")
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
