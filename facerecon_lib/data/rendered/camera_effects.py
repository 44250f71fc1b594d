"""What a camera and a file do to a picture: blur, noise, tone curve, JPEG. For rendered faces.

Each takes a batch and one strength per picture: each face has its own camera.
Notebook 06, section 2.1.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...face.device_constants import constant
from ...face.shapes import Images, PerFace

# JPEG's own tables (ITU-T T.81, annex K) at quality 50: brightness, then colour.
_BRIGHTNESS = """16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56
    14 17 22 29 51 87 80 62  18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92
    49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99"""
_COLOUR = """17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99
    47 66 99 99 99 99 99 99""" + (" 99" * 32)
_TO_YCC = (0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)


def blur(
    image: Float[Tensor, "batch channel height width"], sd: PerFace, reach: int = 5
) -> Float[Tensor, "batch channel height width"]:
    """Gaussian blur of standard deviation sd (pixels, up to about reach / 2) per picture."""
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    weights = torch.exp(-0.5 * (offsets / sd[:, None].clamp(min=1e-3)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).to(image.dtype)
    for axis in (2, 3):
        pad = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded = F.pad(image, pad, mode="replicate")
        length, total = image.shape[axis], torch.zeros_like(image)
        for i in range(2 * reach + 1):
            total.addcmul_(padded.narrow(axis, i, length), weights[:, i, None, None, None])
        image = total
    return image


def tone_curve(image: Images, gamma: PerFace, saturation: PerFace) -> Images:
    """image ** gamma, then colours moved from (1) or to (0) grey; in [0, 1]."""
    image = image.clamp(0, 1).pow_(gamma[:, None, None, None])
    shares = constant(_TO_YCC[0], image.dtype, image.device)[:, None, None]
    grey = (image * shares).sum(1, keepdim=True)
    return torch.lerp(grey, image, saturation[:, None, None, None]).clamp_(0, 1)


def jpeg(image: Images, quality: PerFace) -> Images:
    """What JPEG compression of quality 1 to 100 leaves of a picture in [0, 1].

    Without halving the resolution of colour. Raises ValueError where 8 does not divide the sides.
    """
    height, width = image.shape[2:]
    if height % 8 or width % 8:
        raise ValueError(f"image: expected sides that 8 divides, got {height} x {width}")
    to_ycc, to_rgb, basis, tables = _matrices(image.dtype, image.device)
    ycc = (to_ycc @ image.flatten(2)).view_as(image)
    ycc[:, 0] -= 128
    in_blocks = (len(image), 3, height // 8, 8, width // 8, 8)
    spectrum = _transformed(ycc, basis).view(in_blocks)
    quality = quality.clamp(1, 100)
    strength = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (tables * strength[:, None, None, None]).round().clamp(1, 255)[:, :, None, :, None]
    spectrum.div_(table).round_().mul_(table)
    ycc = _transformed(spectrum.view_as(image), basis.T)
    ycc[:, 0] += 128
    return (to_rgb @ ycc.flatten(2)).view_as(image).clamp_(0, 1)


def _transformed(planes: Tensor, basis: Float[Tensor, "8 8"]) -> Tensor:
    """basis · block · basis^T of every block, in place in the picture: no axis has to move."""
    shape = planes.shape
    across = planes.reshape(-1, 8) @ basis.T
    return (basis @ across.view(-1, 8, shape[-1])).view(shape)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _matrices(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RGB to 255 levels of YCbCr, and back; the orthonormal cosine transform; the tables."""
    to_ycc = torch.tensor(_TO_YCC, dtype=dtype) * 255
    u, i = torch.arange(8.0)[:, None], torch.arange(8.0)
    cosines = torch.cos((2 * i + 1) * u * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    tables = [[float(n) for n in table.split()] for table in (_BRIGHTNESS, _COLOUR, _COLOUR)]
    parts = to_ycc, torch.linalg.inv(to_ycc), cosines, torch.tensor(tables).view(3, 8, 8)
    return tuple(part.to(device, dtype) for part in parts)
