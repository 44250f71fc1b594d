"""Spherical-harmonics lighting: nine numbers per colour channel relight a Lambertian face (Eq. 3).

    lighting = ambient_lighting(batch=1)                # (1, 9, 3), shades with exactly 1
    colours = shade(albedo, normals, lighting)          # (1, V, 3)
    lighting = solve_lighting(albedo, normals, colours) # and back, by least squares

Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001: nine
coefficients hold at least 98 % of what any distant light does to a Lambertian surface.

Rows are in the order (l, m) = (0,0) (1,-1) (1,0) (1,1) (2,-2) ... (2,2). The functions are real,
orthonormal on the sphere, without the Condon-Shortley sign and without cosine-lobe factors, which
the coefficients absorb. Normals are posed, in viewer axes: +x the viewer's right, +y up, +z to the
viewer. Light multiplies sRGB values, as we read the report's "rgb color": simple, not physical.
Notebook 03, Eq. 3.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .coefficients import UNIT_AMBIENT
from .shapes import PerFace, PerVertex, Vertices, expect

CLAMPED_COSINE = (math.pi, *[2 * math.pi / 3] * 3, *[math.pi / 4] * 5)
"""The share of each function in max(0, cos) around its axis: Basri and Jacobs, 2003."""

LIGHT_LEVEL = 0.85
"""Level of the light in photographs: they expose a lit white surface below full white."""

_BAND_0 = math.sqrt(1 / (4 * math.pi))
_BAND_1 = math.sqrt(3 / (4 * math.pi))
_BAND_2 = math.sqrt(15 / (4 * math.pi))  # xy, yz, xz; half of it for x^2 - y^2
_BAND_2_ZONAL = math.sqrt(5 / (16 * math.pi))


def sh_basis(normals: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 9"]:
    """The nine real spherical harmonics of bands 0 to 2 at unit normals."""
    expect("normals", normals, "... 3")
    x, y, z = normals.unbind(-1)
    band_0 = torch.full_like(x, _BAND_0)
    band_1 = _BAND_1 * y, _BAND_1 * z, _BAND_1 * x
    zonal, difference = _BAND_2_ZONAL * (3 * z * z - 1), _BAND_2 / 2 * (x * x - y * y)
    band_2 = _BAND_2 * x * y, _BAND_2 * y * z, zonal, _BAND_2 * x * z, difference
    return torch.stack([band_0, *band_1, *band_2], dim=-1)


def shade(albedo: Vertices, normals: Vertices, lighting: Float[Tensor, "batch 9 3"]) -> Vertices:
    """Colour of each vertex, Eq. 3: albedo times the sum over k of lighting_k basis_k(normal).

    Not clamped: what leaves [0, 1] keeps its gradient.
    """
    expect("lighting", lighting, "batch 9 3", "one row per harmonic, one column per colour")
    expect("albedo", albedo, "batch vertex 3", vertex=normals.shape[-2])
    return albedo * (sh_basis(normals) @ lighting)


def ambient_lighting(
    batch: int = 1, level: float = 1.0, *, device=None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch 9 3"]:
    """Light of the same strength from everywhere: a face under level 1 shows its albedo."""
    lighting = torch.zeros(batch, 9, 3, device=device, dtype=dtype)
    lighting[:, 0] = level * UNIT_AMBIENT
    return lighting


def turn_lighting(
    lighting: Float[Tensor, "batch 9 3"], rotation: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch 9 3"]:
    """The light turned by a rotation: it shades a turned normal as `lighting` did the normal."""
    axis = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, device=lighting.device)
    normals = torch.cartesian_prod(axis, axis, axis)
    normals = torch.nn.functional.normalize(normals[normals.any(1)], dim=-1)
    before = sh_basis(normals @ rotation.double())
    turned = torch.linalg.pinv(sh_basis(normals)) @ before @ lighting.double()
    return turned.to(lighting.dtype)


def light_level(lighting: Float[Tensor, "batch 9 3"]) -> PerFace:
    """Mean shading of a sphere's visible half by seen area, averaged over channels.

    There the mean of n_z is 2/3 and that of 3 n_z² - 1 is 1/2; the other functions cancel.
    """
    grey = lighting.mean(-1)
    return grey[:, 0] / UNIT_AMBIENT + 0.4886 * 2 / 3 * grey[:, 2] + 0.3154 / 2 * grey[:, 6]


def solve_lighting(
    albedo: Vertices,
    normals: Vertices,
    colours: Vertices,
    weights: PerVertex | None = None,
    *,
    prior: Float[Tensor, "batch 9 3"] | None = None,
    ridge: float = 1e-4,
) -> Float[Tensor, "batch 9 3"]:
    """The lighting under which `albedo` looks most like `colours`, by least squares.

    Minimises sum_v w_v (albedo_v basis_v . g - colour_v)^2 / sum_v w_v + ridge ||g - prior||^2 per
    channel. A face shows only half a sphere of normals, on which the nine functions are nearly
    dependent; the ridge keeps what the colours do not tell at `prior` (unit ambient light).

    weights: not negative, for instance 1 where a vertex is seen and 0 elsewhere.
    ridge: in units of squared colour; 0 only where normals cover the sphere.
    Solved in float64; differentiable in all inputs.
    On the CPU, raises ValueError for a negative weight.
    """
    vertices = normals.shape[-2]
    expect("albedo", albedo, "batch vertex 3", vertex=vertices)
    expect("colours", colours, "batch vertex 3", vertex=vertices)
    if prior is None:
        prior = ambient_lighting(1, device=albedo.device)
    if weights is None:
        weights = torch.ones_like(albedo[..., 0])
    expect("weights", weights, "batch vertex", vertex=vertices)
    # not on a GPU: the check would wait for it
    if weights.device.type == "cpu" and bool((weights < 0).any()):
        raise ValueError(f"weights: expected 0 or more, got {float(weights.min())}")
    weights = weights.double()
    # The clamp only meets all-zero weights, where the sums below are zero as well.
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    rows = albedo.double().mT[..., None] * sh_basis(normals.double())[..., None, :, :]
    weighted = rows * weights[:, None, :, None]  # (batch, channel, vertex, 9)
    start = prior.double().mT.expand(len(rows), -1, -1)[..., None]
    residual = colours.double().mT[..., None] - rows @ start
    normal = weighted.mT @ rows
    normal = normal + ridge * torch.eye(9, dtype=normal.dtype, device=normal.device)
    factor = torch.linalg.cholesky_ex(normal).L  # nor does this wait
    change = torch.cholesky_solve(weighted.mT @ residual, factor)
    return (start + change).squeeze(-1).mT.to(albedo.dtype)
