"""Skin colours for FLAME: the diffuse albedo model of Smith et al., read at the vertices.

AlbedoMM (Smith et al., "A morphable face albedo model", CVPR 2020) holds MU (512, 512, 3) and PC
(512, 512, 3, 145), per standard deviation, as images in linear light, blue first; vt and ft lay
them on FLAME's triangles, v upwards. Its specular part is left out: Eq. 3 has no highlights.

Notebook 01, Eq. 2.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import interpn

from face_models import Faces, Vertices
from face_models.tables import read_npz, refuse
from facerecon_lib.face.colour import linear_to_srgb

PARTS = ("MU", "PC", "vt", "ft")
WANTED = "give albedoModel2020_FLAME_albedoPart.npz"


def read_albedo(
    path: Path, faces: Faces, count: int
) -> tuple[Vertices, Float[np.ndarray, "albedo vertex 3"], Float[np.ndarray, "vertex 2"]]:
    """sRGB mean (V, 3), basis (K, V, 3) per standard deviation, and uv (V, 2) in [0, 1].

    The basis follows sRGB's curve by its slope at the mean. A vertex on a seam of the texture takes
    the place that its first triangle gives it. Raises ImportModelError.
    """
    data = read_npz(path, PARTS)  # PC unpacks to 0.9 GB
    if lacking := [name for name in PARTS if name not in data]:
        refuse(path, f"lacks {', '.join(lacking)}; {WANTED}")
    for name, value in data.items():
        if value.dtype.kind not in "iuf" or not value.size or not np.isfinite(value).all():
            refuse(path, f"{name} holds no finite numbers; {WANTED}")
    mean, basis, vt, ft = (data[name] for name in PARTS)
    if mean.ndim != 3 or mean.shape[2] != 3 or basis.shape[:3] != mean.shape or basis.ndim != 4:
        refuse(path, f"MU is {mean.shape} and PC {basis.shape}, no images of colours; {WANTED}")
    if ft.shape != faces.shape or ft.min() < 0 or ft.max() >= len(vt) or vt.shape[1:] != (2,):
        refuse(path, f"ft {ft.shape} does not lay a texture on the model's {len(faces)} triangles")
    uv = np.zeros((count, 2))
    uv[faces[::-1].ravel()] = vt[ft[::-1].astype(int).ravel()]
    colour, change = at_uv(mean, uv), np.moveaxis(at_uv(basis, uv), 2, 0)
    if np.median(colour[:, 2]) > np.median(colour[:, 0]):  # skin is redder than blue
        colour, change = colour[:, ::-1], change[:, :, ::-1]
    if not (0 <= np.median(colour) <= 1):
        refuse(path, f"MU goes to {mean.max():.3g}, expected linear light in [0, 1]; {WANTED}")
    light = torch.from_numpy(colour.clip(0, 1)).requires_grad_()
    seen = linear_to_srgb(light)
    [slope] = torch.autograd.grad(seen.sum(), light)
    return seen.detach().numpy(), change * slope.numpy(), uv.clip(0, 1)


def at_uv(
    image: Float[np.ndarray, "height width ..."], uv: Float[np.ndarray, "vertex 2"]
) -> Float[np.ndarray, "vertex ..."]:
    """Bilinear; texel centres at half numbers, the first row on top (v = 1)."""
    height, width = image.shape[:2]
    row = np.clip((1 - uv[:, 1]) * height - 0.5, 0, height - 1)
    column = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    return interpn((np.arange(height), np.arange(width)), image, np.stack([row, column], 1))
