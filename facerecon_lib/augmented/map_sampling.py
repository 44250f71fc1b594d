"""Reading a map at the vertices: bilinear, and hyperbolic, which the report gave up.

    points = ndc_to_pixels(project_ndc(face.v_camera))   # (B, V, 2)
    read = sample_bilinear(maps, points)                 # (B, V, C)

Notebook 07, section 2.2.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.device_constants import constant
from ..face.shapes import expect


def sample_bilinear(
    maps: Float[Tensor, "batch channel height width"], points: Float[Tensor, "batch vertex 2"]
) -> Float[Tensor, "batch vertex channel"]:
    """The maps at points between texel centres: sum b_k M_k over the four around each.

    points: pixels x, y from the top left; texel i's centre is at i + 0.5. Beyond the outermost
    centres the border's value holds, with no gradient to the point. Differentiable in both.
    """
    sizes = expect("maps", maps, "batch channel height width")
    expect("points", points, "batch vertex 2", **sizes)
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

    So a rasterizer interpolates attributes in perspective; section 2.2 gave it up as unstable. The
    denominator is a weighted mean of 1 / w: of one sign, and harmless, for depths before the
    camera; where depths pass through zero, so does it. Differentiable in all three.
    """
    sizes = expect("maps", maps, "batch channel height width")
    expect("texel_depth", texel_depth, "batch 1 height width", **sizes)
    nearness = texel_depth.reciprocal()
    read = sample_bilinear(torch.cat([maps * nearness, nearness], 1), points)
    return read[..., :-1] / read[..., -1:]
