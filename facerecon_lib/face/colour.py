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

SKIN_LIGHTNESS = (72.0, 69.5, 67.0, 61.5, 57.0, 53.0, 49.0, 44.5, 39.5, 34.0)
"""CIELAB's L* of the bare skin, without light, of people whom one rates as each of the ten tones.

A swatch stands for a tone and is not the colour of skin: of 130 portraits that were rated by eye,
those of tone 3 have 67 where the swatch has 92, and those of tone 8 44.5 where it has 31; 9, 10, 1
and 2 are extrapolated. docs/model_cards/face_model.md.
"""

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


def lab_to_srgb(lab: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """The inverse of `srgb_to_lab`, clamped to [0, 1]."""
    to_xyz, white = (constant(v, lab.dtype, lab.device) for v in (SRGB_TO_XYZ, D65_WHITE))
    y = (lab[..., 0] + 16) / 116
    cube = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = torch.where(cube > 6 / 29, cube**3, (cube - 4 / 29) * 3 * (6 / 29) ** 2) * white
    return linear_to_srgb(xyz @ torch.linalg.inv(to_xyz).T).clamp(0, 1)


def skin_tone_group(albedo: Float[Tensor, "batch 3"]) -> Int[Tensor, " batch"]:
    """Number of the nearest tone of the Monk scale, 1 (lightest) to 10, by the skin's L*."""
    tones = constant(SKIN_LIGHTNESS, albedo.dtype, albedo.device)
    return (srgb_to_lab(albedo)[:, :1] - tones).abs().argmin(-1) + 1
