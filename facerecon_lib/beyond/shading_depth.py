"""Notebook 13's second and third step: heights from shading, and from fine dark lines.

    low, high = split_bands(picture, mask, sigma=4.0)    # low + high is the picture
    height = refine_by_shading(scene, height)            # "fine": Eq. 3, by gradient descent
    height = height + fine_lines(scene)                  # "finer": dark is deep

A picture is skin times light, and a dark line may be either. Three things tell them apart. What is
broad belongs to skin and light, which the base face has already: only what is narrower than
`BROAD` pixels is looked at. A wrinkle darkens red, green and blue alike, melanin and blood do not:
what has their colours stays in the skin. And brows, lips and lids are left out by the model's
regions; what is darker than any wrinkle counts little. Notebook 13.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import BaseFaces
from ..face.lighting import sh_basis
from .depth_maps import DepthMaps, Map, facing, normals_from_depth, raised_depth

BROAD = 12.0  # pixels: what is broader is skin and light
DARKEST = 0.05  # of colours and light, before their logarithm
STAINS = ((-0.26, -0.40, -0.52), (0.03, -0.26, -0.22))
"""What melanin and blood add to the logarithm of red, green and blue."""
STAIN_COST, SHADE_COST = 0.3, 1.0
FAR = 0.15  # a difference of more, in the logarithm, is no wrinkle
STIFF, NEAR = 1.0, 0.002  # costs of a height's squared slope (mm per pixel), and of its square
ROUNDS = 60  # of conjugate gradients
DEEP, LINE = 1.0, 3.0  # mm per unit of darkness (a logarithm); pixels


@dataclass(eq=False)
class ShadedScene:
    """A photo beside its base face."""

    photo: Float[Tensor, "batch 3 size size"]
    valid: Map
    base: BaseFaces
    maps: DepthMaps

    def normals(self, height: Map) -> Float[Tensor, "batch 3 size size"]:
        depth = raised_depth(self.maps, height, self.base.coefficients.scale)
        return normals_from_depth(depth, self.maps.mask)

    def log_shading(self, height: Map) -> Map:
        """The logarithm of Eq. 3's light on the raised face, of the mean over colours."""
        return log_light(self.normals(height), self.base.coefficients.lighting)

    @property
    def trust(self) -> Map:
        """Where shading may be believed: valid skin that faces the viewer."""
        frontal = ((self.maps.normals[:, 2:] - 0.2) / 0.3).clamp(0, 1)
        return self.maps.skin * self.maps.mask * self.valid * frontal


def log_light(
    normals: Float[Tensor, "batch 3 height width"], lighting: Float[Tensor, "batch 9 3"]
) -> Map:
    """The logarithm of the light on normals (viewer axes), of the mean over colours."""
    grey = lighting.mean(-1)
    light = torch.einsum("bhwk,bk->bhw", sh_basis(normals.permute(0, 2, 3, 1)), grey)
    return light[:, None].clamp(min=DARKEST).log()


def smooth(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation sigma, pixels; 0 beyond the border."""
    rows, columns = (_blurring(n, sigma).to(picture) for n in picture.shape[2:])
    return rows @ picture @ columns


@cache
def _blurring(size: int, sigma: float) -> Float[Tensor, "size size"]:
    """The matrix that blurs a row of so many pixels: quicker than a convolution on a CPU."""
    steps = torch.arange(size)
    weights = torch.exp(-0.5 * ((steps[:, None] - steps) / sigma) ** 2)
    return weights / (sigma * math.sqrt(2 * math.pi))


def split_bands(picture: Tensor, mask: Map, sigma: float) -> tuple[Tensor, Tensor]:
    """Low and high band of a picture, (batch, channel, height, width); together the picture.

    The low one is the Gaussian mean over the pixels of the mask around each, by their weight: what
    lies beyond does not leak in. Where the mask has nothing near, both are 0; high is 0 where the
    mask is.
    """
    weight = smooth(mask, sigma)
    low = smooth(picture * mask, sigma) / weight.clamp(min=1e-6)
    return low * (weight > 1e-6), (picture - low) * (mask > 0)


def shading_residual(scene: ShadedScene, height: Map) -> Map:
    """What of the photo's narrow light and dark a height does not explain, without pigment."""
    face = scene.base.face
    albedo, _ = face.render(scene.photo.shape[-1], attributes=face.albedo, near=None)
    lit = albedo.clamp(min=DARKEST).log() + scene.log_shading(height)
    return grey_part(split_bands(scene.photo.clamp(min=DARKEST).log() - lit, scene.trust, BROAD)[1])


def grey_part(colours: Float[Tensor, "batch 3 height width"]) -> Map:
    """The share of a difference of logarithms that is equal in red, green and blue.

    Least squares of grey, melanin and blood, with a small cost on each (STAIN_COST, SHADE_COST in
    units of squared colour's noise): what could be either is shared out.
    """
    columns = [[1.0, 1.0, 1.0], *STAINS]
    design = colours.new_tensor(columns).T
    cost = colours.new_tensor([SHADE_COST, STAIN_COST, STAIN_COST]) * 0.02
    solve = torch.linalg.solve(design.T @ design + cost.diag(), design.T)
    return torch.einsum("c,bchw->bhw", solve[0], colours)[:, None]


@torch.no_grad()
def refine_by_shading(scene: ShadedScene, height: Map) -> Map:
    """The height with which Eq. 3 gives the photo's narrow light and dark, near the one given.

    Light depends on the slopes of a height: to first order its logarithm changes by `across` times
    the slope in a row plus `down` times that in a column. What is left is linear least squares.
    """
    wanted = shading_residual(scene, height)
    weight = scene.trust / (1 + (wanted / FAR) ** 2) ** 2
    across, down = lighter_by_slope(scene, height)
    return height + scene.trust * solve_heights(across, down, wanted, weight, STIFF, NEAR, ROUNDS)


def lighter_by_slope(scene: ShadedScene, height: Map, slope: float = 0.02) -> tuple[Map, Map]:
    """Change of the light's logarithm per mm of height per pixel, in rows and in columns."""
    maps, c = scene.maps, scene.base.coefficients
    depth = raised_depth(maps, height, c.scale)
    ramp = slope * torch.arange(height.shape[-1]).to(height)
    start, *tilted = (
        log_light(normals_from_depth(depth - r, maps.mask), c.lighting)
        for r in (0 * height, ramp.expand_as(height), ramp[:, None].expand_as(height))
    )
    per_mm = c.scale[..., None, None] / (slope * facing(maps))
    return tuple((lit - start) * per_mm for lit in tilted)


def steps(height: Map) -> tuple[Map, Map]:
    """From each pixel to the next in its row, and in its column; 0 at the last."""
    return F.pad(height.diff(dim=3), (0, 1)), F.pad(height.diff(dim=2), (0, 0, 0, 1))


def steps_back(across: Map, down: Map) -> Map:
    """The transpose of `steps`: the sum of steps(h)[0] * across + steps(h)[1] * down, over all
    pixels, is that of h * steps_back(across, down)."""
    across, down = F.pad(across[..., :-1], (1, 1)), F.pad(down[..., :-1, :], (0, 0, 1, 1))
    return -across.diff(dim=3) - down.diff(dim=2)


def solve_heights(
    across: Map,
    down: Map,
    wanted: Map,
    weight: Map,
    stiff: float,
    near: float,
    rounds: int = ROUNDS,
) -> Map:
    """Heights h that minimise, summed over the pixels of each picture,

        weight (across dx + down dy - wanted)² + stiff (dx² + dy²) + near h²

    dx, dy: the `steps` of h. Conjugate gradients from 0, on every picture for itself; near is above
    0, so that there is one answer.
    """

    def dot(x: Map, y: Map) -> Float[Tensor, "batch 1 1 1"]:
        return (x * y).sum((1, 2, 3), keepdim=True)

    def pull(h: Map) -> Map:
        dx, dy = steps(h)
        error = weight * (across * dx + down * dy)
        return steps_back(across * error + stiff * dx, down * error + stiff * dy) + near * h

    left = steps_back(across * weight * wanted, down * weight * wanted)
    h, way, size = torch.zeros_like(left), left, dot(left, left)
    for _ in range(rounds):
        pulled = pull(way)
        far = size / dot(way, pulled).clamp(min=1e-30)
        h, left = h + far * way, left - far * pulled
        before, size = size, dot(left, left)
        way = left + size / before.clamp(min=1e-30) * way
    return h


def fine_lines(scene: ShadedScene, depth: float = DEEP, sigma: float = LINE) -> Map:
    """Relief from the photo's narrowest lines, mm: what is darker than its surroundings is deep.

    Beeler et al., SIGGRAPH 2010, as a last touch. It needs no light, and tells no mole from a pore.
    """
    grey = grey_part(scene.photo.clamp(min=DARKEST).log())
    band = split_bands(smooth(grey, 1.0), scene.trust, sigma)[1]
    return depth * scene.trust * FAR * torch.tanh(band / FAR)
