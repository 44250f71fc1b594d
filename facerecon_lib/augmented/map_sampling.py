"""Reading a map at the vertices: where each one falls, and what it reads.

points = ndc_to_pixels(project_ndc(face.v_camera))   # (B, V, 2)
read = sample_bilinear(maps, points)                 # (B, V, C)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.device_constants import constant


def sample_bilinear(
    maps: Float[Tensor, "batch channel height width"], points: Float[Tensor, "batch vertex 2"]
) -> Float[Tensor, "batch vertex channel"]:
    """The maps at points between texel centres: sum b_k M_k over the four around each.

    points: pixels x, y from the top left, as `camera.ndc_to_pixels` gives them: texel i's centre is
    at i + 0.5. Beyond the outermost centres the border's value holds, with no gradient to the
    point. Differentiable in both. Raises ValueError for shapes that do not fit.
    """
    if maps.ndim != 4 or points.ndim != 3 or points.shape[::2] != (len(maps), 2):
        raise ValueError(
            "points: expected (batch, vertex, 2) for maps (batch, channel, height, width), got "
            f"{tuple(points.shape)} for {tuple(maps.shape)}"
        )
    height, width = maps.shape[2:]
    size = constant((width / 2, height / 2), points.dtype, points.device)
    grid = (points / size - 1)[:, None]
    read = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return read[:, :, 0].transpose(1, 2)


def sample_hyperbolic(
    maps: Float[Tensor, "batch channel height width"],
    points: Float[Tensor, "batch vertex 2"],
    texel_depth: Float[Tensor, "batch 1 height width"],
) -> Float[Tensor, "batch vertex channel"]:
    """The maps at points, each texel divided by its depth: sum b_k M_k / w_k over sum b_k / w_k.

    This is how a rasterizer interpolates attributes in perspective, and what section 2.2 gave up
    for being unstable. The denominator is a weighted mean of 1 / w: of one sign, and harmless, as
    long as depths are those before the camera; where they pass through zero, so does it. What their
    unit is, or how small they are all together, cancels.

    points: pixels, as in `sample_bilinear`, which constant depths give back. Differentiable in
    maps, points and depth. Raises ValueError for shapes that do not fit.
    """
    if texel_depth.shape != (len(maps), 1, *maps.shape[2:]):
        raise ValueError(
            f"texel_depth: expected {(len(maps), 1, *maps.shape[2:])} for maps of shape "
            f"{tuple(maps.shape)}, got {tuple(texel_depth.shape)}"
        )
    nearness = texel_depth.reciprocal()
    read = sample_bilinear(torch.cat([maps * nearness, nearness], 1), points)
    return read[..., :-1] / read[..., -1:]
