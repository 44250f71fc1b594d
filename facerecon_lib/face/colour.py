"""Colours of skin: sRGB and linear light, CIELAB, the ITA angle, and the Monk scale.

    lab = srgb_to_lab(albedo)                             # L*, a*, b*
    ita = ita_degrees(albedo)                             # above 55 very light, below -30 dark
    tone = skin_tone_group(albedo)                        # 1 (lightest) to 10

Notebooks 03 and 09, section 2.3.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .device_constants import constant

_MONK_HEX = "f6ede4 f3e7db f7ead0 eadaba d7bd96 a07e56 825c43 604134 3a312a 292420"
MONK_TONES = tuple(tuple(value / 255 for value in bytes.fromhex(t)) for t in _MONK_HEX.split())
"""The Monk Skin Tone scale (Monk, 2023), 1 the lightest to 10, sRGB in [0, 1]."""

D65_WHITE = 0.95047, 1.0, 1.08883
SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)  # IEC 61966-2-1


def srgb_to_linear(rgb: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The amount of light that a pixel value in [0, 1] stands for (IEC 61966-2-1)."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The pixel value that stands for an amount of light: the inverse of `srgb_to_linear`."""
    curve = 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, curve)


def srgb_to_lab(rgb: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """sRGB in [0, 1] to CIELAB under D65, 2 degree observer (CIE 15)."""
    to_xyz, white = (constant(v, rgb.dtype, rgb.device) for v in (SRGB_TO_XYZ, D65_WHITE))
    xyz = srgb_to_linear(rgb) @ to_xyz.T / white
    cube = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp_min(1e-12) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29
    )
    x, y, z = cube.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ita_degrees(rgb: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any"]:
    """Individual Typology Angle of an sRGB colour: atan((L* - 50) / b*) in degrees.

    Chardon, Cretois and Hourseau (1991): above 55 very light, below -30 dark. For bluish colours
    atan2 continues past 90 degrees, where the paper's atan jumps.
    """
    lab = srgb_to_lab(rgb)
    return torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 2]))


def skin_tone_group(albedo: Float[Tensor, "batch 3"]) -> Int[Tensor, " batch"]:
    """Number of the nearest Monk tone, 1 (lightest) to 10, by distance in CIELAB."""
    tones = constant(MONK_TONES, albedo.dtype, albedo.device)
    distance = srgb_to_lab(albedo)[:, None] - srgb_to_lab(tones)
    return distance.norm(dim=-1).argmin(-1) + 1
