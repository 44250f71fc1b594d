"""A nonlinear face model: a photo's codes, and decoders that paint shape and albedo as uv maps.

    nonlinear = load_nonlinear_model(model=model)        # the one that ships
    codes = nonlinear.read(encoder.pooled(image), encoder(image))      # .own, .linear: (B, 2 K)
    maps = nonlinear.paint(codes.own)                    # .shape, .albedo: uv maps
    vertices, albedo = nonlinear.on_mesh(maps, model)    # (B, V, 3) mm at rest, and sRGB
    vertices, albedo = nonlinear.linear(codes.linear)    # the linear model of as many coefficients

After Tran and Liu, CVPR 2018 and TPAMI 2019, and Tran, Liu and Liu, CVPR 2019 (the report's [11] to
[13]). Ours starts from the linear model: a proxy, linear in the codes and smooth, and details on
top of it. Expression, pose and light are those of the shipped encoder. Notebook 12.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..augmented.map_sampling import sample_bilinear
from ..augmented.uv_space import uv_layout
from ..face.batch import FaceBatch
from ..face.coefficients import FaceCoefficients
from ..face.morphable_model import MorphableModel
from ..face.shapes import Vertices, expect
from ..files.errors import FacereconError
from ..files.weights import write_weights
from ..networks.network_file import NetworkFile

WIDTHS = (32, 24, 16, 8)  # channels at 8, 16, 32 and 64 texels per side
START, LOCAL, PROXY, SIZE = 8, 16, 32, 64  # texels: of the first map, of parts, proxies, all maps
PARTS = {"eyes": slice(36, 48), "nose": slice(27, 36), "mouth": slice(48, 68)}  # landmarks
SHAPE_SCALE, ALBEDO_SCALE = 1.0, 0.1  # what a painted 1 means: mm, and of colours in [0, 1]
READER_SCALE = 0.1  # one learning rate has to suit thousands of features and the decoders


class NonlinearModelError(FacereconError):
    """An unusable nonlinear model or file; the message is one line and says what to do."""


NONLINEAR_FILE = NetworkFile(
    format="facerecon-nonlinear-1",
    shipped="nonlinear_model.safetensors",
    variable="FACERECON_NONLINEAR",
    maker="facerecon train nonlinear",
    what="nonlinear model",
    error=NonlinearModelError,
)


class Codes(NamedTuple):
    """K coefficients of shape, then K of albedo: of the nonlinear and of the linear model."""

    own: Float[Tensor, "batch code"]
    linear: Float[Tensor, "batch code"]


class FaceMaps(NamedTuple):
    """What the decoders paint: proxies and details, to be added. Shape in mm, albedo in sRGB."""

    shape_proxy: Float[Tensor, "batch 3 size size"]
    shape_detail: Float[Tensor, "batch 3 size size"]
    albedo_proxy: Float[Tensor, "batch 3 size size"]
    albedo_detail: Float[Tensor, "batch 3 size size"]

    @property
    def shape(self) -> Float[Tensor, "batch 3 size size"]:
        """Offsets from the mean face, in mm."""
        return self.shape_proxy + self.shape_detail

    @property
    def albedo(self) -> Float[Tensor, "batch 3 size size"]:
        """Offsets from the mean albedo."""
        return self.albedo_proxy + self.albedo_detail


def decoder_block(x: Tensor, shortcut: nn.Module, first: nn.Module, second: nn.Module) -> Tensor:
    """Twice the size, then two convolutions beside a shortcut: (B, C, H, W) to (B, D, 2 H, 2 W)."""
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return F.leaky_relu(shortcut(x) + second(F.leaky_relu(first(x), 0.2)), 0.2)


class DecoderBlock(nn.Module):
    """`decoder_block` with its convolutions."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.shortcut = nn.Conv2d(before, after, 1)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return decoder_block(x, self.shortcut, self.first, self.second)


class MapDecoder(nn.Module):
    """Codes to a map's proxy and detail. boxes: rows and columns of the parts, of 16 texels.

    The proxy is linear in the code and drawn with 32 texels. The detail has a global path, for all
    of the map, and a local path per part, which starts from the global path's own 16 texels and is
    faded out towards its box's edges. Details start at zero.
    """

    def __init__(self, codes: int, boxes: list[list[int]], scale: float):
        super().__init__()
        self.boxes, self.scale = boxes, scale
        self.proxy = nn.Linear(codes, 3 * PROXY**2, bias=False)
        self.enter = nn.Linear(codes, WIDTHS[0] * START**2)
        blocks = [DecoderBlock(a, b) for a, b in pairwise(WIDTHS)]
        self.coarse, self.fine = nn.Sequential(*blocks[:1]), nn.Sequential(*blocks[1:])
        self.last = nn.Conv2d(WIDTHS[-1], 3, 1)
        self.local = nn.ModuleList(
            nn.Sequential(*(DecoderBlock(a, b) for a, b in pairwise(WIDTHS[1:]))) for _ in boxes
        )
        self.lasts = nn.ModuleList(nn.Conv2d(WIDTHS[-1], 3, 1) for _ in boxes)
        for layer in self.modules():  # He et al., ICCV 2015: details are slow to learn as it is
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)
        for layer in (self.last, *self.lasts):
            nn.init.zeros_(layer.weight)

    def forward(self, code: Float[Tensor, "batch code"]) -> tuple[Tensor, Tensor]:
        proxy = self.proxy(code).view(-1, 3, PROXY, PROXY)
        proxy = F.interpolate(proxy, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = F.leaky_relu(self.enter(code), 0.2).view(-1, WIDTHS[0], START, START)
        x = self.coarse(x)
        detail = self.last(self.fine(x))
        for (top, bottom, left, right), path, last in zip(
            self.boxes, self.local, self.lasts, strict=True
        ):
            part = last(path(x[:, :, top:bottom, left:right]))
            step = SIZE // LOCAL
            edges = (left * step, SIZE - right * step, top * step, SIZE - bottom * step)
            detail = detail + F.pad(part * window(*part.shape[2:]).to(part), edges)
        return self.scale * proxy, self.scale * detail


def window(height: int, width: int) -> Float[Tensor, "height width"]:
    """1 in the middle of a box, falling to 0 at its edges as a cosine does."""
    rows, columns = (
        torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).square() for n in (height, width)
    )
    return rows[:, None] * columns


class Reader(nn.Module):
    """Codes from a photo: what the shipped encoder's coefficients say of them, and a correction
    that is linear in its features and starts at zero."""

    def __init__(self, features: int, coefficients: int, codes: int):
        super().__init__()
        self.start = nn.Linear(coefficients, codes)
        self.change = nn.Linear(features, codes, bias=False)
        nn.init.zeros_(self.change.weight)

    def forward(self, features: Tensor, coefficients: Tensor) -> Float[Tensor, "batch code"]:
        return self.start(coefficients) + READER_SCALE * self.change(features)


class NonlinearModel(nn.Module):
    """Encoder heads, decoders, and the linear model of as many coefficients.

    codes: K, coefficients of shape, and as many of albedo. vertices: of the mesh. features,
    coefficients: how many numbers the shipped encoder gives of each. boxes: of `part_boxes`.
    """

    def __init__(
        self, codes: int, vertices: int, features: int, coefficients: int, boxes: list[list[int]]
    ):
        super().__init__()
        self.codes, self.boxes = codes, boxes
        self.name, self.metadata = "untrained", {}
        self.own = Reader(features, coefficients, 2 * codes)
        self.rival = Reader(features, coefficients, 2 * codes)
        self.shape = MapDecoder(codes, boxes, SHAPE_SCALE)
        self.albedo = MapDecoder(codes, boxes, ALBEDO_SCALE)
        for name, shape in (("mean", (2, vertices, 3)), ("basis", (2, codes, vertices, 3))):
            self.register_buffer(name, torch.zeros(shape))

    def forward(
        self, features: Tensor, coefficients: Tensor, codes: Tensor | None = None
    ) -> tuple[Codes, FaceMaps]:
        """What photos say, and maps: of these photos, then of the other `codes`."""
        read = Codes(self.own(features, coefficients), self.rival(features, coefficients))
        every = read.own if codes is None else torch.cat([read.own, codes])
        return read, self.paint(every)

    def read(self, features: Float[Tensor, "batch feature"], c: FaceCoefficients) -> Codes:
        """The codes of photos, from what the shipped encoder gives of them."""
        known = coefficients_of(c)
        return Codes(self.own(features, known), self.rival(features, known))

    def paint(self, code: Float[Tensor, "batch code"]) -> FaceMaps:
        """The maps of codes, shape's then albedo's."""
        shape, albedo = code.split(self.codes, 1)
        return FaceMaps(*self.shape(shape), *self.albedo(albedo))

    def on_mesh(self, maps: FaceMaps, model: MorphableModel) -> tuple[Vertices, Vertices]:
        """Vertices at rest in mm, and albedo: the maps where each vertex of the mesh lies in them.

        model: of the mesh that the model was made for.
        """
        both = sampled(torch.cat([maps.shape, maps.albedo], 1), model)
        return self.mean[0] + both[..., :3], self.mean[1] + both[..., 3:]

    def linear(self, code: Float[Tensor, "batch code"]) -> tuple[Vertices, Vertices]:
        """The linear model's vertices at rest in mm, and its albedo."""
        shape, albedo = code.split(self.codes, 1)
        vertices, colours = (
            mean + torch.einsum("bk,kvc->bvc", part, basis)
            for mean, part, basis in zip(self.mean, (shape, albedo), self.basis, strict=True)
        )
        return vertices, colours

    @torch.no_grad()
    def project(self, vertices: Vertices, albedo: Vertices) -> Float[Tensor, "batch code"]:
        """The linear model's least-squares codes of known faces at rest."""
        parts = []
        for value, mean, basis in zip((vertices, albedo), self.mean, self.basis, strict=True):
            b = basis.flatten(1)
            parts.append(torch.linalg.solve(b @ b.T, b @ (value - mean).flatten(1).T).T)
        return torch.cat(parts, 1)

    @torch.no_grad()
    def learn_linear(self, vertices: Vertices, albedo: Vertices, model: MorphableModel) -> None:
        """PCA of these faces; both readers and the proxies then start from it."""
        k = self.codes
        for i, x in enumerate((vertices, albedo)):
            self.mean[i] = x.mean(0)
            _, s, modes = torch.pca_lowrank((x - x.mean(0)).flatten(1), k + 16, False, 4)
            self.basis[i] = ((s[:k] / len(x) ** 0.5) * modes[:, :k]).T.view_as(self.basis[i])
        # the model's own bases, seen through the new modes: what the encoder's coefficients say
        z, n = model.identity_basis, model.sizes
        start = torch.zeros_like(self.own.start.weight)
        bias = self.project(model.mean[None], model.albedo_mean[None])[0]
        still = [torch.zeros_like(z), torch.zeros_like(model.albedo_basis)]
        shape = self.project(self.mean[0] + z, self.mean[1] + still[0])
        colour = self.project(self.mean[0] + still[1], self.mean[1] + model.albedo_basis)
        start[:k, : n.identity], start[k:, n.identity :] = shape.T[:k], colour.T[k:]
        for reader in (self.own, self.rival):
            reader.start.weight.copy_(start)
            reader.start.bias.copy_(bias)
        # the coarse map that comes nearest to each mode where the vertices read it
        grid = torch.eye(PROXY**2, device=start.device).view(1, -1, PROXY, PROXY)
        grid = F.interpolate(grid, (SIZE, SIZE), mode="bilinear", align_corners=False)
        reads = sampled(grid, model)[0].double()
        weighted = (0.02 + uv_layout(model).exposed[:, None]) * reads  # what others cover yields
        normal = weighted.T @ reads + 1e-2 * torch.eye(PROXY**2, device=start.device)
        for decoder, basis in zip((self.shape, self.albedo), self.basis, strict=True):
            right = torch.einsum("vt,kvc->tkc", weighted, basis.double()).flatten(1)
            texels = torch.linalg.solve(normal, right).view(-1, k, 3)
            decoder.proxy.weight.copy_(texels.permute(2, 0, 1).flatten(0, 1) / decoder.scale)


def coefficients_of(c: FaceCoefficients) -> Float[Tensor, "batch coefficient"]:
    """Identity and albedo of the shipped encoder's answer, in one row."""
    return torch.cat([c.identity, c.albedo], 1)


def sampled(maps: Float[Tensor, "batch channel h w"], model: MorphableModel) -> Tensor:
    """(batch, vertex, channel): maps in uv space where each vertex of the mesh lies."""
    points = maps.shape[-1] * uv_layout(model).uv
    return sample_bilinear(maps, points.expand(len(maps), -1, -1))


def part_boxes(model: MorphableModel) -> list[list[int]]:
    """Top, bottom, left and right of each of PARTS in a map of 16 texels, symmetric and padded."""
    uv, boxes = uv_layout(model).uv[model.landmarks] * LOCAL, []
    for rows in PARTS.values():
        low, high = (uv[rows].amin(0) - 1).floor(), (uv[rows].amax(0) + 1).ceil()
        left = int(min(low[0], LOCAL - high[0]))
        boxes.append([int(low[1]), int(high[1]), left, LOCAL - left])
    return boxes


def albedo_symmetry(maps: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Mean absolute difference between albedo maps and their mirror images."""
    expect("maps", maps, "batch 3 size size")
    return (maps - maps.flip(3)).abs().mean((1, 2, 3))


def albedo_constancy(
    albedo: Float[Tensor, "batch 3 size size"],
    chromaticity: Float[Tensor, "batch 3 size size"],
    alpha: float = 80.0,
) -> Float[Tensor, " batch"]:
    """Mean over neighbours of weight times distance of albedo: alike chromaticity, alike albedo.

    chromaticity: of the picture in uv space, colours over their sum. The weight of two neighbours
    is exp(-alpha |difference of their chromaticities|), and has no gradient.
    """
    total, count = 0.0, 0
    for axis in (2, 3):
        weight = (-alpha * chromaticity.detach().diff(dim=axis).norm(dim=1)).exp()
        step = albedo.diff(dim=axis).norm(dim=1)
        total = total + (weight * step).sum((1, 2))
        count += weight[0].numel()
    return total / count


def skin_weights(model: MorphableModel) -> Float[Tensor, " vertex"]:
    """1 on skin that uv maps show, 0 elsewhere and at the border."""
    return model.regions["skin"] * uv_layout(model).exposed * (1 - model.regions["border"])


def at_rest(model: MorphableModel, batch: FaceBatch) -> Vertices:
    """The true vertices of rendered faces, wrinkles included, without their expression."""
    expression = batch.truth.expression
    still = torch.zeros_like(batch.truth.identity)
    return batch.true_vertices - (model.shape(still, expression) - model.mean)


def save_nonlinear_model(
    path: Path, network: NonlinearModel, metadata: dict[str, str] | None = None, store="float16"
) -> None:
    """Write it to one .safetensors file, whole or not at all; store as of `write_weights`."""
    own = {"format": NONLINEAR_FILE.format, "boxes": json.dumps(network.boxes)}
    state = network.state_dict()
    write_weights(path, state, {**network.metadata, **(metadata or {}), **own}, store)


def load_nonlinear_model(
    path: Path | None = None, model: MorphableModel | None = None, device="cpu"
) -> NonlinearModel:
    """One from its file, in eval mode; None: $FACERECON_NONLINEAR, or the one that ships.

    Raises NonlinearModelError for a file that is missing, damaged, or of another face model.
    """
    return NONLINEAR_FILE.load(path, model, device, _build)


def _build(state: dict[str, Tensor], metadata: dict[str, str]) -> NonlinearModel:
    _, codes, vertices, _ = state["basis"].shape
    sizes = (state[f"own.{name}.weight"].shape[1] for name in ("change", "start"))
    network = NonlinearModel(codes, vertices, *sizes, json.loads(metadata["boxes"]))
    network.load_state_dict(state)
    return network
