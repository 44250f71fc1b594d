"""The learned model's file: the base's tensors with learned skins, mean and spread in their place.

    parts, metadata = assemble(Path("artists.safetensors"), skins, shape, seed=0)
    write(Path("face_model.safetensors"), parts, metadata)

Notebook 01, Eq. 1 and 2.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from facerecon_lib.data.rendered import skin_residuals
from facerecon_lib.face.colour import SKIN_LIGHTNESS, srgb_to_lab
from facerecon_lib.face.landmarks68 import BROWS
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.weights import write_weights

from .shapes import PeopleShape
from .skins import Skins, first_of

MODES, ALL_TONES, SAMPLES = 25, 1200, 500
RESIDUAL_MODES = 40
EYES = 40  # of the base's skins of about the tone, one gives its eyes and teeth
BROWNER = 0.6  # power of the place among the tones, 0 to 1: the base's light eyes go too far
BROW_POINTS = (46,), (63,), (105,), (66,), (107, 55)
"""The points, or pairs about the place, of landmarks 18 to 22: the right brow's upper edge."""
DARKEST = 0.02  # of a colour, before its logarithm
RIDGE = 3e-3  # of squared coefficients, beside mean squared colours
NAME = "facerecon learned face"
PROVENANCE = (
    "; skin, mean and spread learned by data_scripts/learn_face_model.py from portraits of members"
    " of the US Congress (works of the US government, in the public domain)"
)


def assemble(
    base: Path, skins: Skins, shape: PeopleShape | None, seed: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of the file and its metadata."""
    with safe_open(base, "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    parts = {name: part for name, part in parts.items() if not name.startswith("dense_")}
    if shape is not None:
        parts["mean"], identity, _ = shape.correct(MorphableModel.load(base, 0))
        parts["identity_basis"] = identity.half()
        parts["identity_shift"] = shape.shift
        parts["identity_spread"] = shape.spread
    sets = {"monk": skins.in_all_tones(ALL_TONES, seed), "light": skins.light_skinned()}
    rng = np.random.default_rng(seed)
    for name, colours in sets.items():
        mean, basis, coefficients = _basis(skins, colours, rng)
        rows = torch.from_numpy(rng.permutation(len(colours))[:SAMPLES])
        parts[f"albedo_mean_{name}"] = mean
        parts[f"albedo_basis_{name}"] = basis.half()
        parts[f"albedo_samples_{name}"] = coefficients[rows].half()
    metadata["name"] = NAME
    metadata["provenance"] += PROVENANCE
    return parts, metadata


def write(path: Path, parts: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The file, whole or not at all."""
    with write_whole(path) as partial:
        save_file({k: v.contiguous() for k, v in parts.items()}, partial, metadata)


def place_brows(path: Path) -> float:
    """Put the brows' landmarks where the 478 points of a bound model's file see its brows.

    How far they moved: the mean, in mm.
    """
    model = MorphableModel.load(path, 0)
    places = model.mean[model.dense.vertices] + model.dense.offsets
    right = torch.stack([places[list(points)].mean(0) for points in BROW_POINTS])
    away = torch.cdist(right, model.mean)
    away[:, model.regions["eyeballs"] + model.regions["mouth_interior"] > 0.5] = torch.inf
    vertices = away.argmin(1)
    brows = torch.cat([vertices, model.mirror[vertices].flip(0)])
    with safe_open(path, "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    moved = model.mean[brows] - model.mean[model.landmarks[BROWS]]
    parts["landmarks"][BROWS] = brows.to(parts["landmarks"].dtype)
    write(path, parts, metadata)
    return float(moved.norm(dim=1).mean())


def _basis(
    skins: Skins, colours: Float[Tensor, "face half 3"], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (V, 3), basis (MODES, V, 3) and coefficients (N, MODES): PCA of the skins, with eyes and
    teeth of the base, then on where none was seen."""
    model = skins.model
    inside = (model.regions["eyeballs"] + model.regions["mouth_interior"]) > 0.5
    x = colours[:, skins.both]
    x[:, inside] = _eyes(skins, colours, rng)[:, inside]
    mean = x.mean(0)
    away = (x - mean).flatten(1)
    torch.manual_seed(0)  # of its random start
    left, size, right = torch.pca_lowrank(away, q=MODES + 15, center=False, niter=4)
    root = len(x) ** 0.5
    basis = (right[:, :MODES] * size[:MODES] / root).T
    sign = torch.sign(basis.gather(1, basis.abs().argmax(1, keepdim=True)))
    basis = (basis * sign).unflatten(1, (-1, 3))
    coefficients = left[:, :MODES] * root * sign.T
    both = torch.cat([mean[None], basis])
    filled = skins.membrane(both)
    filled[:, inside] = both[:, inside]
    return filled[0], filled[1:], coefficients


def _eyes(skins: Skins, colours: Tensor, rng: np.random.Generator) -> Float[Tensor, "n vertex 3"]:
    """Whole skins of the base, one for each skin, of about its place among the tones."""
    model = skins.model
    own = model.albedo(model.albedo_samples.float())
    region = model.regions["skin"][:, None]
    lightness = srgb_to_lab(((own * region).sum(1) / region.sum()).clamp(0, 1))[:, 0]
    order = lightness.argsort(descending=True)
    tones = np.interp(
        -skins.lightness(colours).numpy(), -np.array(SKIN_LIGHTNESS), np.linspace(0, 1, 10)
    )
    places = (tones**BROWNER * len(order)).astype(int)
    places = np.clip(places, EYES // 2, len(order) - EYES // 2)
    chosen = places + rng.integers(-EYES // 2, EYES // 2, len(places))
    return own[order[torch.from_numpy(chosen)]]


def project(model: MorphableModel, skins: Skins) -> Float[Tensor, "face albedo"]:
    """The coefficients whose skin is nearest to each portrait's, by ridge regression."""
    region = model.regions
    weight = (region["skin"] + region["brows"] + region["lips"]).clamp(0, 1) * skins.seen
    weight = (weight * (1 - region["border"])).sqrt()[:, None]
    weight = weight / weight.square().sum().sqrt()
    rows = (model.albedo_basis * weight).flatten(1)
    normal = rows @ rows.T + RIDGE * 0.01 * torch.eye(len(rows))
    away = (skins.colours[:, skins.both] - model.albedo_mean) * weight
    return torch.linalg.solve(normal, rows @ away.flatten(1).T).T


def write_residuals(
    path: Path, model: MorphableModel, skins: Skins, coefficients: Float[Tensor, "face albedo"]
) -> float:
    """The file of `skin_residuals`: PCA of what the basis leaves out of the logarithm of the skins.

    The share of its variance that the modes hold.
    """
    half, region = first_of(skins.both), model.regions
    surface = (region["skin"] + region["brows"] + region["lips"]).clamp(0, 1)
    inside = (region["eyeballs"] + region["mouth_interior"]).clamp(0, 1)
    weight = (surface * (1 - inside) * (1 - region["border"]) * skins.seen)[half]
    nearest = model.albedo(coefficients)[:, half].clamp(min=DARKEST)
    away = (skins.colours.clamp(min=DARKEST) / nearest).log() * weight[:, None]
    away = (away - away.mean(0)).flatten(1)
    torch.manual_seed(0)  # of its random start
    _, size, right = torch.pca_lowrank(away, q=RESIDUAL_MODES + 15, center=False, niter=4)
    modes = (right * size / len(away) ** 0.5).T[:RESIDUAL_MODES].unflatten(1, (-1, 3))
    scale = modes.abs().amax((1, 2)) / 127
    parts = {"modes": (modes / scale[:, None, None]).round().char(), "scale": scale}
    parts["both"] = skins.both.short()
    facts = {"format": skin_residuals.FORMAT, "model": model.metadata["name"]}
    write_weights(path, parts, facts)
    return float(modes.square().sum() / away.square().mean(0).sum())
