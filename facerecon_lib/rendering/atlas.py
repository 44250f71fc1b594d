"""A face model's surface laid out flat: where a texture holds each triangle.

    atlas = texture_atlas(model, 1024)
    flat = atlas.unroll(values)                          # (1, 1024, 1024, C) of (1, V, C)

The first chart holds what a viewer sees, on a cylinder around the mean head: of a symmetric mesh,
its left half mirrors its right. What lies beneath (teeth, the mouth's inside, hidden parts of the
eyes) is peeled off layer by layer into small charts below it, as seen from the front. Notebook 10.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..face.mesh import once_per_mesh
from ..face.morphable_model import MorphableModel
from .rasterizer import Fragments, rasterize
from .renderer import interpolate

FIRST_CHART = 0.8
"""The first chart's share of the map's height: there a millimetre is as long as it is wide."""
_SMALL_CHARTS = 3
_GAP = 0.004  # around a chart, of the map's side
_BEHIND = 1.5  # mm, how far behind the surface a triangle still counts as on top


class Atlas(NamedTuple):
    """A corner is a vertex in a chart: where charts meet, a vertex has one in each."""

    vertex: Int[Tensor, " corner"]  # of the model
    faces: Int[Tensor, "face 3"]  # the model's, of corners
    uv: Float[Tensor, "corner 2"]  # in [0, 1], to the right and down
    first: Float[Tensor, "vertex 2"]  # where each vertex would be in the first chart
    fragments: Fragments  # of the map

    def unroll(
        self, values: Float[Tensor, "1 vertex channel"], *texels: slice
    ) -> Float[Tensor, "1 height width channel"]:
        """Values of vertices at these rows and columns of the map; 0 where no triangle lies."""
        some = Fragments(*(x[:, *texels].contiguous() for x in vars(self.fragments).values()))
        corners = values[:, self.vertex].contiguous()
        return interpolate(some, self.faces, corners, check=False)[..., 0, :]


class Texture(NamedTuple):
    """A picture of the surface, sRGB in [0, 1], and where each triangle lies in it."""

    image: Float[Tensor, "1 3 size size"]
    atlas: Atlas
    lit: bool  # with the photo's light in it

    def at(self, uv: Float[Tensor, "2 height width"]) -> Float[Tensor, "3 height width"]:
        """The colours at places of the atlas, bilinear."""
        places = 2 * uv.permute(1, 2, 0)[None] - 1
        return F.grid_sample(self.image, places, padding_mode="border", align_corners=False)[0]


@once_per_mesh
@torch.no_grad()
@torch.inference_mode(False)  # the first call may come from inference
def texture_atlas(model: MorphableModel, size: int) -> Atlas:
    """For maps of `size` texels a side; computed once per mesh."""
    x, y, z = model.mean.unbind(1)
    depth = z - z[x.abs().argmax()]  # the axis stands where the head is widest
    angle, faces = torch.atan2(x, depth), model.faces.long()
    half = angle.abs().max()
    box = torch.stack([-half, -y.max()]), torch.stack([half, -y.min()])
    charts = [_placed(torch.stack([angle, -y], 1), *box, (0, 0), (1, FIRST_CHART))]
    chart = torch.zeros_like(faces[:, 0])
    hidden = ~_on_top(charts[0], torch.hypot(x, depth), faces)
    front, width = torch.stack([x, -y], 1), 1 / _SMALL_CHARTS
    for k in range(_SMALL_CHARTS):
        chart += hidden
        rest = faces[hidden]
        if len(rest) == 0:
            break
        box = front[rest].flatten(0, 1).aminmax(dim=0)
        charts.append(_placed(front, *box, (k * width, FIRST_CHART), (width, 1 - FIRST_CHART)))
        hidden[hidden.clone()] = ~_on_top(charts[-1], z, rest)
    keys, corners = (chart[:, None] * len(x) + faces).unique(return_inverse=True)
    vertex, which = keys % len(x), keys // len(x)
    uv = torch.stack(charts)[which, vertex]
    view = torch.cat([1 - 2 * uv, torch.ones_like(uv[:, :1])], 1)
    return Atlas(vertex, corners, uv, charts[0], _widened(rasterize(view[None], corners, size)))


def _widened(fragments: Fragments) -> Fragments:
    """The charts with a rim of two texels, each a copy of one near it: readers blend across."""
    covered = fragments.pix_to_face[..., 0] >= 0
    near = F.max_pool2d(covered.float(), 5, 1, 2, return_indices=True)[1]
    each = torch.arange(near.numel(), device=near.device).view_as(near)
    near = torch.where(covered, each, near).flatten()
    return Fragments(*(x.flatten(0, 2)[near].view_as(x) for x in vars(fragments).values()))


def without_holes(flat: Float[Tensor, "1 4 size size"]) -> Float[Tensor, "1 3 size size"]:
    """Three channels times a weight, and the weight, without holes: pull and push.

    S. Gortler and others, "The Lumigraph", SIGGRAPH 1996.
    """
    values, weight = flat[:, :3], flat[:, 3:].clamp(min=1e-6)
    if flat.shape[-1] == 1:
        return values / weight
    wider = F.interpolate(without_holes(F.avg_pool2d(flat, 2)), scale_factor=2.0, mode="bilinear")
    share = (4 * weight).clamp(max=1)
    return share * values / weight + (1 - share) * wider


def _placed(
    flat: Float[Tensor, "vertex 2"], low: Tensor, high: Tensor, corner: tuple, extent: tuple
) -> Float[Tensor, "vertex 2"]:
    """The box from `low` to `high` laid into a chart."""
    share = (flat - low) / (high - low).clamp(min=1e-6)
    return flat.new_tensor(corner) + _GAP + share * (flat.new_tensor(extent) - 2 * _GAP)


def _on_top(
    uv: Float[Tensor, "vertex 2"], height: Float[Tensor, " vertex"], faces: Int[Tensor, "face 3"]
) -> Bool[Tensor, " face"]:
    """True where a triangle lies face up, and no other above its middle or its corners.

    Triangles around the back of a whole head, from one end of the map to the other, are not.
    """
    size = 512
    view = torch.cat([1 - 2 * uv, (height.max() + 1 - height)[:, None]], 1)
    places = view[faces]
    a, b, c = places[..., :2].unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    right = (area < 0) & (places[..., 0].amax(1) - places[..., 0].amin(1) < 1)
    surface = rasterize(view[None], faces[right], size).zbuf[0, ..., 0]
    middle = places.mean(1, keepdim=True)
    points = torch.cat([middle, middle + 0.8 * (places - middle)], 1)
    texel = ((1 - points[..., :2]) * size / 2).long().clamp(0, size - 1)
    above = surface[texel[..., 1], texel[..., 0]]
    return right & ((above < 0) | (points[..., 2] < above + _BEHIND)).all(1)
