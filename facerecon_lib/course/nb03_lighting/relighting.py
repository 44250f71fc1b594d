"""Light that Eq. 3 cannot say, and a photo under another light. Notebook 03."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ...face.camera import MODEL_TO_CAMERA
from ...face.lighting import sh_basis
from ...photos.crop import Crop
from ...pictures.faces import Picture, to_uint8
from ...rendering.rasterizer import rasterize
from ...rendering.synthesis import Face


def _unshadowed(points: Tensor, faces: Tensor, towards: Tensor) -> Bool[Tensor, " vertex"]:
    """Which points see a lamp at infinity: a depth map from the lamp, read at each point."""
    d = F.normalize(towards, dim=0)
    left = F.normalize(torch.linalg.cross(d, d.new_tensor([0.0, 1.0, 0.01])), dim=0)
    flat = points @ torch.stack([left, torch.linalg.cross(left, d)], -1)  # left and up, as NDC
    low, high = flat.amin(0), flat.amax(0)
    flat = 0.98 * (2 * flat - low - high) / (high - low).max()
    depth = 1000 - points @ d
    ndc = torch.cat([flat, depth[:, None]], -1)[None]
    zbuf = rasterize(ndc, faces, 400).zbuf[..., 0][:, None]
    grid = -ndc[:, None, :, :2]
    nearest = F.grid_sample(zbuf, grid, mode="nearest", align_corners=False)[0, 0, 0]
    return (depth < nearest + 3.0) | (nearest < 0)


@torch.no_grad()
def physical_lamp(face: Face, towards: Tensor, gloss: float) -> Float[Tensor, "1 vertex 3"]:
    """Colours under a real lamp: clamped cosine, cast shadows (a lamp 6 degrees wide), highlights.

    gloss: strength of a Blinn-Phong highlight of exponent 40.
    """
    ambient, strength = 0.25, 0.85
    d = F.normalize(towards, dim=0)
    points = face.v_camera[0] @ MODEL_TO_CAMERA  # viewer axes
    n = face.normals[0]
    wobble = torch.tensor([[0.0, 0, 0]] + [[math.cos(t), math.sin(t), 0] for t in range(6)])
    parts = [_unshadowed(points, face.model.faces, d + 0.05 * w) for w in wobble]
    lit = torch.stack(parts).float().mean(0)
    cosine = (n @ d).clamp(min=0) * lit
    half = F.normalize(F.normalize(-points, dim=-1) + d, dim=-1)
    shine = gloss * (n * half).sum(-1).clamp(min=0) ** 40 * lit * (n @ d > 0)
    return face.albedo * (ambient + strength * cosine)[None, :, None] + shine[None, :, None]


class Relighter:
    """A photo under another light: each pixel times new shading over old (a quotient image).

    Riklin-Raviv and Shashua, "The quotient image", PAMI 2001. size: of its sides, px.
    """

    @torch.no_grad()
    def __init__(self, crop: Crop, face: Face, light: Float[Tensor, "1 9 3"], size: int):
        self.photo = F.interpolate(crop.image, (size, size), mode="bicubic", antialias=True)[0]
        inner = 1 - face.model.regions["border"][None, :, None]
        image, mask = face.render(size, attributes=torch.cat([face.normals, inner], -1))
        smooth = image[:, :3] * mask  # creases of a quick fit would show as bright seams
        for _ in range(3):
            smooth = F.avg_pool2d(smooth, 11, 1, 5) / F.avg_pool2d(mask, 11, 1, 5).clamp(min=0.05)
            smooth = smooth * mask
        normals = F.normalize(smooth[0].permute(1, 2, 0), dim=-1)
        self.basis = sh_basis(normals)
        inside = -F.max_pool2d(-mask * (image[:, 3:] > 0.3), 13, 1, 6)
        for _ in range(2):
            inside = F.avg_pool2d(inside, 13, 1, 6, count_include_pad=False)
        self.blend = inside[0]
        self.old = self.shading(light).clamp(min=0.15)

    def shading(self, light: Tensor) -> Float[Tensor, "3 size size"]:
        return (self.basis @ light.reshape(9, 3)).permute(2, 0, 1)

    def __call__(self, light: Tensor) -> Picture:
        ratio = (self.shading(light).clamp(min=0) / self.old).clamp(max=2.2)
        return to_uint8(self.photo * (1 + self.blend * (ratio - 1)))
