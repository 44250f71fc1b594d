"""Faces by three models beside each other, and how far each is from the truth.

Notebook 12.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...augmented.uv_space import uv_layout
from ...beyond.nonlinear_model import (
    Codes,
    FaceMaps,
    NonlinearModel,
    at_rest,
    sampled,
    skin_weights,
)
from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.measures import vertex_error_mm
from ...face.mesh import neighbour_mean
from ...face.morphable_model import MorphableModel
from ...face.shapes import PerFace, Vertices
from ...fitting.photo_light import light_from_photo
from ...networks.encoder import Encoder
from ...rendering.synthesis import Face, pose_and_light

Parts = tuple[Vertices, Vertices]  # a shape at rest in mm, and an albedo
ROUNDS = 12  # of averaging over neighbours: what is left is broad
MODELS = ("nonlinear", "linear", "the report's")


@dataclass(eq=False)
class Answers:
    """What photos are, by each model: parts by name; codes and maps of the nonlinear one."""

    encoded: FaceCoefficients
    codes: Codes
    maps: FaceMaps
    parts: dict[str, Parts]


@torch.no_grad()
def answers(
    nonlinear: NonlinearModel, encoder: Encoder, model: MorphableModel, batch: FaceBatch
) -> Answers:
    """From pixels alone."""
    features = encoder.pooled(batch.image)
    c = encoder.decode(encoder.head(features))
    c = replace(c, lighting=light_from_photo(model, c, batch.image, batch.valid))
    codes = nonlinear.read(features, c)
    maps = nonlinear.paint(codes.own)
    own, linear = nonlinear.on_mesh(maps, model), nonlinear.linear(codes.linear)
    base = model.shape(c.identity), model.albedo(c.albedo)
    return Answers(c, codes, maps, dict(zip(MODELS, (own, linear, base), strict=True)))


def posed(model: MorphableModel, c: FaceCoefficients, parts: Parts) -> Face:
    """With the expression, pose and light of c."""
    moved = model.shape(torch.zeros_like(c.identity), c.expression) - model.mean
    return pose_and_light(model, parts[0] + moved, parts[1], c)


def truth_of(model: MorphableModel, batch: FaceBatch) -> Parts:
    """All of rendered faces, at rest."""
    return at_rest(model, batch), batch.true_albedo


def broad(values: Vertices, model: MorphableModel) -> Vertices:
    """Averaged over neighbours again and again."""
    for _ in range(ROUNDS):
        values = (values + neighbour_mean(values, model.faces)) / 2
    return values


def errors(model: MorphableModel, parts: Parts, truth: Parts) -> dict[str, PerFace]:
    """Of the skin: mm after similarity alignment, colour, and the fine part of both alone."""
    weight = skin_weights(model)
    weight = weight / weight.sum()
    (vertices, albedo), (true_vertices, true_albedo) = parts, truth
    off, colour = vertices - true_vertices, albedo - true_albedo
    fine, fine_colour = off - broad(off, model), colour - broad(colour, model)

    def mean(values: Float[Tensor, "batch vertex"]) -> PerFace:
        return (values * weight).sum(1)

    return {
        "shape, mm": mean(vertex_error_mm(vertices, true_vertices)),
        "fine shape, mm": mean(fine.norm(dim=-1)),
        "colour": mean(colour.abs().mean(-1)),
        "fine colour": mean(fine_colour.abs().mean(-1)),
    }


def table(rows: Mapping[str, Mapping[str, PerFace]]) -> str:
    """Means over faces, a row per model."""
    columns = list(next(iter(rows.values())))
    wide = max(map(len, rows)) + 2
    lines = [" " * wide + "".join(f"{name:>16}" for name in columns)]
    for name, row in rows.items():
        lines.append(f"{name:<{wide}}" + "".join(f"{float(v.mean()):16.4f}" for v in row.values()))
    return "\n".join(lines)


def fitted(
    decode: Callable[[Tensor], Parts],
    start: Float[Tensor, "batch code"],
    truth: Parts,
    model: MorphableModel,
    steps: int = 60,
) -> Float[Tensor, "batch code"]:
    """Codes by Adam, from start, so that what they decode to is nearest to the truth."""
    weight = skin_weights(model)
    weight = (weight / weight.sum())[:, None]
    code = start.clone().requires_grad_()
    adam = torch.optim.Adam([code], lr=0.03)
    for _ in range(steps):
        vertices, albedo = decode(code)
        loss = (weight * (vertices - truth[0]).square()).sum((1, 2))
        loss = loss + 100 * (weight * (albedo - truth[1]).square()).sum((1, 2))
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    return code.detach()


@torch.no_grad()
def map_limits(
    model: MorphableModel, values: Vertices, sizes: tuple[int, ...]
) -> Float[Tensor, " size"]:
    """Mean distance on skin between values and the best map of each size, read at the vertices."""
    weight = skin_weights(model)
    mean = values.mean(0)
    flat = (values - mean).permute(1, 0, 2).flatten(1)
    lost = []
    for size in sizes:
        eye = torch.eye(size**2).view(1, -1, size, size)
        reads = sampled(eye, model)[0] * (uv_layout(model).exposed[:, None] + 1e-3)
        right = flat * (uv_layout(model).exposed[:, None] + 1e-3)
        normal = reads.T @ reads + 1e-4 * torch.eye(size**2)
        texels = torch.linalg.solve(normal, reads.T @ right)
        off = (sampled(eye, model)[0] @ texels - flat).unflatten(1, (len(values), 3))
        lost.append((off.norm(dim=-1).mean(1) * weight).sum() / weight.sum())
    return torch.stack(lost)


def painted_map(
    model: MorphableModel,
    colours: Float[Tensor, "1 vertex 3"],
    weight: Float[Tensor, "1 vertex"],
    terms: Callable[[Tensor], Tensor],
    steps: int = 250,
    size: int = 64,
) -> Float[Tensor, "1 3 size size"]:
    """An albedo map whose readings agree with colours where they are seen, and whose terms are
    small."""
    start = (colours * weight[..., None]).sum(1) / weight.sum()
    flat = start.view(1, 3, 1, 1).expand(1, 3, size, size).clone().requires_grad_()
    adam = torch.optim.Adam([flat], lr=0.02)
    for _ in range(steps):
        off = (sampled(flat, model) - colours).abs().sum(-1)
        loss = (off * weight).sum() / weight.sum() + terms(flat)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return flat.detach()


class SmallDecoder(torch.nn.Module):
    """Codes to a map of 32 texels by two blocks; blocks: functions as `decoder_block`."""

    def __init__(self, codes: int, block: Callable, channels: int = 3):
        super().__init__()
        self.block = block
        self.enter = torch.nn.Linear(codes, 24 * 8 * 8)
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleList(
                [
                    torch.nn.Conv2d(a, b, 1),
                    torch.nn.Conv2d(a, b, 3, padding=1),
                    torch.nn.Conv2d(b, b, 3, padding=1),
                ]
            )
            for a, b in ((24, 16), (16, 12))
        )
        self.last = torch.nn.Conv2d(12, channels, 1)

    def forward(self, code: Float[Tensor, "batch code"]) -> Float[Tensor, "batch channel 32 32"]:
        x = F.leaky_relu(self.enter(code), 0.2).view(-1, 24, 8, 8)
        for shortcut, first, second in self.layers:
            x = self.block(x, shortcut, first, second)
        return self.last(x)


@dataclass(eq=False)
class Learned:
    """losses: mean absolute difference by step, of the faces learned from."""

    decoder: SmallDecoder
    codes: Float[Tensor, "face code"]
    losses: list[float]


def autodecoder(
    decoder: SmallDecoder,
    offsets: Vertices,
    codes: Float[Tensor, "face code"],
    model: MorphableModel,
    steps: int,
) -> Learned:
    """Learn decoder and codes together, so that each code's map is its face's offsets."""
    weight = skin_weights(model)
    weight = weight / weight.sum()
    codes = codes.clone().requires_grad_()
    adam = torch.optim.Adam([*decoder.parameters(), codes], lr=4e-3)
    losses = []
    for _ in range(steps):
        read = sampled(decoder(codes), model)
        loss = ((read - offsets).abs().mean(-1) * weight).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return Learned(decoder, codes.detach(), losses)


@torch.no_grad()
def pca_of(
    offsets: Vertices, count: int, model: MorphableModel
) -> tuple[float, Float[Tensor, "face code"], Float[Tensor, "code vertex 3"]]:
    """PCA of these faces: the mean absolute difference that it leaves on skin, codes, modes."""
    weight = skin_weights(model)
    u, s, v = torch.linalg.svd(offsets.flatten(1), full_matrices=False)
    root = len(offsets) ** 0.5
    codes = root * u[:, :count]
    modes = (s[:count, None] * v[:count] / root).unflatten(1, offsets.shape[1:])
    off = torch.einsum("bk,kvc->bvc", codes, modes) - offsets
    return float(((off.abs().mean(-1) * weight).sum(1) / weight.sum()).mean()), codes, modes
