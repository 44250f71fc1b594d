"""The aligned crop of a face, and the way between its pixels and the photo's.

    crop = align(photo.pixels, landmarks)        # 224 x 224, float in [0, 1]
    crop_to_photo(crop.landmarks[0], crop.matrix)

Every coordinate is continuous: pixel i covers [i, i + 1), so its centre is i + 0.5. Notebook 02,
section 2.1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex128, Float, UInt8
from PIL import Image
from torch import Tensor

from ..face.camera import CROP_SIZE
from .reading import Pixels


@dataclass
class Crop:
    """The aligned face: `image` in [0, 1]; `valid` is 1 on the photo, 0 where its edge repeats."""

    image: Float[Tensor, "1 3 size size"]
    valid: Float[Tensor, "1 1 size size"]
    landmarks: Float[Tensor, "1 68 2"]  # crop pixels
    matrix: Float[Tensor, "2 3"]  # photo pixels -> crop pixels


def align(
    pixels: Pixels, landmarks: Float[np.ndarray, "68 2"], size: int = CROP_SIZE, margin: float = 1.3
) -> Crop:
    """Square crop of `margin` times the larger side of the landmarks' box, scaled to `size`.

    No roll is taken out: the pose's rotation carries it. Shrinking averages, so nothing aliases.
    Raises `ValueError` for landmarks that are not finite or span no area.
    """
    points = torch.as_tensor(landmarks, dtype=torch.float64)
    low, high = points.amin(0), points.amax(0)
    side = float((high - low).max()) * margin
    if not (np.isfinite(side) and side > 0):
        raise ValueError(
            f"landmarks span {side:g} pixels: expected 68 finite points, not all equal"
        )
    scale, corner = size / side, (low + high) / 2 - side / 2
    rows = [scale, 0.0, -scale * corner[0]], [0.0, scale, -scale * corner[1]]
    matrix = torch.tensor(rows, dtype=torch.float32)
    # From here on the rounded matrix is the truth, for image and points alike.
    left, top = crop_to_photo(torch.zeros(2, dtype=torch.float64), matrix).tolist()
    step = 1.0 / float(matrix[0, 0])
    height, width = pixels.shape[:2]
    rows, first_row = _sampling_weights(top, step, size, height)
    columns, first_column = _sampling_weights(left, step, size, width)
    used = pixels[first_row:, first_column:][: rows.shape[1], : columns.shape[1]]
    channels = [torch.from_numpy(used[..., c].astype(np.float32)) / 255 for c in range(3)]
    image = torch.stack([rows @ channel @ columns.T for channel in channels])
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * step
    y, x = centres[:, None] + top, centres + left
    valid = ((y > 0) & (y < height) & (x > 0) & (x < width)).float()
    mapped = photo_to_crop(points, matrix).float()
    return Crop(image.clamp(0, 1)[None], valid[None, None], mapped[None], matrix)


def _sampling_weights(
    start: float, step: float, size: int, length: int
) -> tuple[Float[Tensor, "size used"], int]:
    """Weights that resample one axis, and the first source pixel that they refer to.

    Output pixel i is centred at start + (i + 0.5) step. Its filter is a triangle as wide as the
    coarser of the two grids: linear interpolation when enlarging, an average when shrinking.
    Source pixels outside the photo fall onto its border pixel.
    """
    centres = start + (np.arange(size) + 0.5) * step
    reach = max(step, 1.0)
    taps = np.floor(centres - reach)[:, None] + np.arange(int(2 * reach) + 3)
    offsets = taps + 0.5 - centres[:, None]
    weights = np.clip(1 - abs(offsets) / reach, 0, None)
    # A sampled triangle is up to 0.03 pixel off centre: tilt it so that ramps come out exact.
    first_moment, second_moment = ((weights * offsets**k).sum(1, keepdims=True) for k in (1, 2))
    weights *= 1 - offsets * first_moment / np.maximum(second_moment, 1e-12)
    weights /= weights.sum(1, keepdims=True)
    inside = np.clip(taps, 0, length - 1).astype(np.int64)
    first = int(inside.min())
    matrix = np.zeros((size, int(inside.max()) - first + 1))
    np.add.at(matrix, (np.arange(size)[:, None], inside - first), weights)
    return torch.from_numpy(matrix).float(), first


def laid_on(
    points: Complex128[np.ndarray, " point"], target: Complex128[np.ndarray, " point"]
) -> tuple[complex, complex]:
    """(scale, origin) of least squares target = scale * points + origin over complex numbers: scale
    turns and sizes, origin moves."""
    centred = points - points.mean()
    scale = (centred.conj() * (target - target.mean())).sum() / (abs(centred) ** 2).sum()
    return scale, target.mean() - scale * points.mean()


def cut_patch(
    pixels: Pixels, scale: complex, origin: complex, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """A square whose point p is photo point scale * p + origin; the photo's edges repeat."""
    corners = origin + scale * size * np.array([0, 1, 1j, 1 + 1j])
    x0, y0 = (int(np.floor(v.min())) - 2 for v in (corners.real, corners.imag))
    x1, y1 = (int(np.ceil(v.max())) + 2 for v in (corners.real, corners.imag))
    rows = np.clip(np.arange(y0, y1), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(x0, x1), 0, pixels.shape[1] - 1)
    region = Image.fromarray(pixels[rows[:, None], columns])
    shrink = max(abs(scale), 1.0)  # average first: the transform below only interpolates
    sides = [max(round(side / shrink), 1) for side in region.size]
    small = region.resize(sides, Image.Resampling.BILINEAR)
    fx, fy = small.width / region.width, small.height / region.height
    start = origin - (x0 + 1j * y0)
    affine = (scale.real * fx, -scale.imag * fx, start.real * fx)
    affine += (scale.imag * fy, scale.real * fy, start.imag * fy)
    ways = Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    return np.array(small.transform((size, size), *ways))


def photo_to_crop(
    points: Float[Tensor, "*any 2"], matrix: Float[Tensor, "2 3"]
) -> Float[Tensor, "*any 2"]:
    """Photo pixels -> crop pixels, `points` as tensor or array; computed in double precision."""
    points = torch.as_tensor(points)
    linear, shift = matrix.to(points.device, torch.float64).split([2, 1], 1)
    return (points.double() @ linear.T + shift[:, 0]).to(points.dtype)


def crop_to_photo(
    points: Float[Tensor, "*any 2"], matrix: Float[Tensor, "2 3"]
) -> Float[Tensor, "*any 2"]:
    """Crop pixels -> photo pixels: the inverse of `photo_to_crop`."""
    points = torch.as_tensor(points)
    linear, shift = matrix.to(points.device, torch.float64).split([2, 1], 1)
    return ((points.double() - shift[:, 0]) @ torch.linalg.inv(linear).T).to(points.dtype)
