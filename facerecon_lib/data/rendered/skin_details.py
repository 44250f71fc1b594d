"""Wrinkles, bumps, freckles, scars and make-up: what a face has and the bases do not.

    atlas = DetailAtlas(model)
    details = atlas.draw(CountedRandom(seed=3, indices=torch.arange(16)))      # FaceDetails
    vertices = details.raise_skin(vertices, model.faces)       # mm, along the normal
    albedo = details.colour_skin(albedo)                       # sRGB

The augmented branch is to find what Eq. 1 and 2 lack; on these faces all of it is known. Details
are functions of the place on the mean face, unrolled: a coarse mesh has the same as a fine one. A
third of the faces has no wrinkles, a third mild and a third strong ones; likewise for marks of the
skin. Notebook 07, section 2.2.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...face.device_constants import constant
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...face.shapes import Vertices
from .counted_random import CountedRandom
from .wrinkles import FoldMap, smoothstep

MAX_BUMP, MAX_STAIN = 1.5, 0.25  # mm; of colour in [0, 1]
EYE_DISTANCE = 88.0  # mm between the outer eye corners of the face of the tables

# What a unit of each adds to the logarithm of the skin's red, green and blue.
MELANIN, BLOOD, SHADE = (-0.26, -0.40, -0.52), (0.03, -0.26, -0.22), (-0.24, -0.24, -0.14)
STUBBLE, PALE = (-0.32, -0.31, -0.29), (0.10, 0.12, 0.13)
RUDDY, YELLOW = (0.03, -0.025, -0.02), (0.015, 0.0, -0.055)
MAKE_UP = {  # colours of lips and of lids
    "lips": ((0.72, 0.12, 0.18), (0.55, 0.08, 0.2), (0.8, 0.35, 0.4), (0.4, 0.12, 0.15)),
    "lids": ((0.25, 0.2, 0.3), (0.3, 0.22, 0.18), (0.35, 0.4, 0.55), (0.55, 0.3, 0.35)),
}


@dataclass(eq=False)
class FaceDetails:
    """height: mm along the normal, zero on eyeballs, in the mouth, at lids' rims and the border.

    stain: added to the logarithm of the albedo. paint, cover: make-up, and how much it hides.
    """

    height: Float[Tensor, "batch vertex"]
    stain: Float[Tensor, "batch vertex 3"]
    paint: Float[Tensor, "batch vertex 3"]
    cover: Float[Tensor, "batch vertex 1"]

    def raise_skin(self, vertices: Vertices, faces: Int[Tensor, "face 3"]) -> Vertices:
        """Vertices in mm, moved along their own normals."""
        return vertices + self.height[..., None] * vertex_normals(vertices, faces)

    def colour_skin(self, albedo: Vertices) -> Vertices:
        """sRGB, in [0, 1] where `albedo` is; no channel changes by more than MAX_STAIN."""
        stained = torch.lerp(albedo * self.stain.exp(), self.paint, self.cover)
        changed = (stained - albedo).clamp(-MAX_STAIN, MAX_STAIN)
        return torch.minimum(albedo + changed, albedo.clamp(min=1))


class DetailAtlas:
    """Where on the mesh of `model` details may lie; made once, on the model's device."""

    def __init__(self, model: MorphableModel) -> None:
        points = model.mean[model.landmarks]
        self.scale = float((points[36] - points[45]).norm()) / EYE_DISTANCE
        axis = points[27] * constant((0.0, 0.0, 1.0), points.dtype, points.device)
        axis[2] -= 85 * self.scale

        def unrolled(x: Tensor) -> Tensor:
            """mm beside the middle, round a cylinder, and mm up; of a face of EYE_DISTANCE."""
            beside = 85 * torch.atan2(x[:, 0], x[:, 2] - axis[2])
            return torch.stack([beside, x[:, 1] / self.scale], -1)

        region = model.regions
        inside = (region["eyeballs"] + region["mouth_interior"]).clamp(0, 1)
        self.outside = (1 - 2 * inside).clamp(min=0)
        skin, lips = region["skin"] * self.outside, region["lips"] * self.outside
        self.rows = (skin + lips > 0).nonzero()[:, 0]  # what is below is of these alone
        self.skin, self.lips = skin[self.rows], lips[self.rows]
        self.mean = model.mean[self.rows] / self.scale
        self.place, self.landmarks = unrolled(model.mean[self.rows]), unrolled(points)
        self.free = self._free(model, inside > 0.5) * self.skin
        self.folds = FoldMap(self.place, self.landmarks)
        self.lid, self.below_eye, self.cheek, self.beard = self._areas()

    def _free(self, model: MorphableModel, inside: Tensor) -> Float[Tensor, " vertex"]:
        """1 on skin that may rise and sink, 0 near eyeballs, mouth and border."""
        free = torch.ones_like(self.skin)
        border = model.regions["border"] > 0.5
        for chosen, none, full in ((inside, 2.0, 6.0), (border, 1.0, 9.0)):
            fixed = model.mean[chosen] / self.scale
            parts = self.mean.split(2048)
            distance = torch.cat([torch.cdist(part, fixed).amin(1) for part in parts])
            free = free * smoothstep((distance - none) / (full - none))
        return free

    def _areas(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of the upper lids, of the skin below the eyes, of the cheeks and of the beard."""
        u, v = self.place[:, 0].abs(), self.place[:, 1]

        def spot(landmark: int, out: float, up: float, wide: float, high: float) -> Tensor:
            centre = self.landmarks[landmark]
            far = ((u - centre[0] - out) / wide) ** 2 + ((v - centre[1] - up) / high) ** 2
            return torch.exp(-far / 2)

        corner = self.landmarks[54]
        rising = corner[1] + 2 + 0.9 * (u - corner[0] - 12).clamp(min=0)
        beard = torch.sigmoid((rising - v) / 4) * torch.sigmoid((78 - u) / 4)
        moustache = torch.sigmoid(6 * (spot(33, 0, -7, 13, 5) - 0.5))
        lid, cheek = spot(44, -2, 4, 9, 3.5), spot(54, 16, 30, 13, 12)
        below_eye = spot(47, -1, -10, 11, 4) + 0.5 * spot(42, -2, -3, 4, 5)
        areas = (lid, below_eye, cheek, torch.maximum(beard, moustache))
        return tuple(area * self.skin for area in areas)

    def draw(self, numbers: CountedRandom) -> FaceDetails:
        """The details of these faces."""
        waves = self._waves(numbers)
        mottle, fine = waves[:, :6].mean(1) * 3**0.5, waves[:, 6:].mean(1) * 5**0.5
        age, marks = level(numbers, "wrinkles"), level(numbers, "marks")
        dents = self._spots(numbers, "dent", 10, (4.5, 12.0))
        amount = numbers.normal("dent", 10, sd=0.75) * numbers.chance("dents", 0.75)[:, None]
        height = MAX_BUMP * torch.tanh(torch.einsum("bkv,bk->bv", dents, amount) / MAX_BUMP)
        height = height + self.folds.draw(numbers, age)

        def some(name: str, chance: float, low: float, high: float) -> Float[Tensor, "batch 1"]:
            amount = numbers.uniform(f"{name} amount", low=low, high=high)
            return (amount * numbers.chance(name, chance) * marks)[:, None]

        moles = self._spots(numbers, "mole", 6, (1.8, 3.0))
        strength = numbers.uniform("mole kept", 6) * some("moles", 0.6, 0.6, 1.4)
        height = height + 0.5 * torch.einsum("bkv,bk->bv", moles, strength)
        freckles = self._spots(numbers, "freckle", 32, (1.3, 2.2), wide=(26.0, 14.0), up=-12.0)
        melanin = torch.einsum("bkv,bk->bv", moles, 2.2 * strength)
        strength = numbers.uniform("freckle kept", 32) * some("freckles", 0.4, 0.4, 0.9)
        melanin = melanin + torch.einsum("bkv,bk->bv", freckles, strength)
        melanin = melanin + some("blotches", 0.6, 0.05, 0.25) * mottle
        patch = self._spots(numbers, "birthmark", 1, (6.0, 13.0))[:, 0]
        patch = torch.sigmoid(8 * (patch - 0.5 + 0.12 * fine))
        patch = patch * some("birthmark", 0.2, 0.4, 1.2)
        brown = numbers.chance("brown birthmark", 0.5)[:, None]
        scar, sunk = self._scar(numbers), some("scar", 0.3, 0.6, 1.2)
        height = height - numbers.uniform("scar depth", low=-0.1, high=0.6)[:, None] * scar * sunk
        pink = numbers.uniform("pink scar")[:, None]

        blood = some("blush", 0.5, 0.2, 0.9) * self.cheek * (1 + 0.15 * fine)
        blood = blood + some("blotches", 0.6, 0.05, 0.25) * fine.clamp(min=0)
        blood = blood + (1 - brown) * patch
        stain = self.skin[:, None] * (
            self._stain(MELANIN, melanin + brown * patch)
            + self._stain(BLOOD, blood + pink * scar * sunk)
            + self._stain(PALE, (1 - pink) * scar * sunk)
            + self._stain(SHADE, some("tired eyes", 0.4, 0.3, 1.2) * self.below_eye)
            + self._stain(STUBBLE, some("stubble", 0.35, 0.4, 1.2) * self.beard * (1 + 0.1 * fine))
        )
        parts = height[..., None] * self.free[:, None], stain, *self._make_up(numbers)
        height, stain, paint, cover = (self._everywhere(part) for part in parts)
        for name, colour in (("ruddy", RUDDY), ("yellow", YELLOW)):
            tone = numbers.uniform(name, low=-0.7, high=1.7)[:, None] * self.outside
            stain = stain + self._stain(colour, tone)
        return FaceDetails(height[..., 0], stain, paint, cover)

    def _everywhere(self, values: Tensor) -> Float[Tensor, "batch vertex channel"]:
        """Of the atlas's rows to all vertices; zero elsewhere."""
        whole = values.new_zeros(len(values), len(self.outside), values.shape[-1])
        return whole.index_copy_(1, self.rows, values)

    def _stain(self, colour: tuple[float, ...], amount: Tensor) -> Vertices:
        return amount[..., None] * constant(colour, amount.dtype, amount.device)

    def _waves(self, numbers: CountedRandom) -> Float[Tensor, "batch 16 vertex"]:
        """Six broad waves through the head and ten narrow ones."""
        long = numbers.uniform("mottle length", 16)
        start = numbers.fixed(*(25.0,) * 6, *(9.0,) * 10)
        direction = F.normalize(numbers.normal("mottle", 16, 3), dim=-1)
        k = direction * (2 * math.pi / (start * (1 + long)))[..., None]
        phase = numbers.uniform("mottle phase", 16, 1, high=2 * math.pi)
        return torch.sin(k @ self.mean.T + phase)

    def _spots(
        self, numbers: CountedRandom, name: str, count: int, radius, wide=(38.0, 48.0), up=0.0
    ) -> Float[Tensor, "batch count vertex"]:
        """Round spots of height 1; wide, up: of the cloud of their centres, mm from the nose."""
        spread = numbers.normal(f"{name} place", count, 2) * numbers.fixed(*wide)
        centre = self.landmarks[28:29] + numbers.fixed(0.0, up) + spread
        size = numbers.uniform(f"{name} radius", count, low=radius[0], high=radius[1])
        # near a Gaussian of this radius, and nothing beyond three of it: powers outrun exponentials
        reach = (1 / (3 * size))[..., None]
        u = (self.place[:, 0] - centre[..., :1]).mul_(reach)
        v = (self.place[:, 1] - centre[..., 1:]).mul_(reach)
        left = u.square_().add_(v.square_()).neg_().add_(1).clamp_(min=0)
        return left.square_().square_()

    def _scar(self, numbers: CountedRandom) -> Float[Tensor, "batch vertex"]:
        """One straight scar, 12 to 30 mm long."""
        spread = numbers.normal("scar place", 2) * numbers.fixed(30.0, 40.0)
        off = self.place - (self.landmarks[28:29] + spread)[:, None]
        turn = numbers.uniform("scar turn", high=math.pi)[:, None]
        along = off[..., 0] * turn.cos() + off[..., 1] * turn.sin()
        across = off[..., 1] * turn.cos() - off[..., 0] * turn.sin()
        half = numbers.uniform("scar length", low=6.0, high=15.0)[:, None]
        return torch.exp(-((across / 2.2) ** 2) / 2) * torch.sigmoid((half - along.abs()) / 1.5)

    def _make_up(self, numbers: CountedRandom) -> tuple[Tensor, Tensor]:
        """Colour, and how much of it covers the skin."""
        worn, paint, cover = numbers.chance("make-up", 0.25), [], []
        for name, area in (("lips", self.lips), ("lids", self.lid)):
            colours = numbers.fixed(*MAKE_UP[name])
            paint.append(colours[numbers.integer(f"{name} colour", len(colours))][:, None])
            amount = worn * numbers.uniform(f"{name} make-up", low=0.2, high=0.8)
            cover.append(amount[:, None] * area)
        both = cover[0] + cover[1]
        share = cover[1] / both.clamp(min=1e-6)
        return torch.lerp(*paint, share[..., None]), both.clamp(max=1)[..., None]


def level(numbers: CountedRandom, name: str) -> Float[Tensor, " batch"]:
    """0 on a third of the faces, 0.25 to 0.5 on a third, 0.65 to 1 on a third."""
    u = 3 * numbers.uniform(f"{name} level")
    mild, strong = 0.25 + 0.25 * (u - 1), 0.65 + 0.35 * (u - 2)
    return torch.where(u < 1, 0.0, torch.where(u < 2, mild, strong))
