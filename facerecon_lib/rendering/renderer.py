"""Fragments to an image: hard, and soft as in SoftRas.

    image, mask = render(v_camera, faces, colours)                        # hard
    image, mask = render(v_camera, faces, colours, soft=SoftSettings())   # gradients at the outline

Colours are computed per vertex (Eq. 3) and interpolated, as in the report. A hard image moves with
a vertex only through the colours inside the outline; which triangle a pixel shows has no gradient.
The soft image blends the nearest triangles of each pixel by the pixel's distance from them (sigma)
and their depth (gamma): Liu et al., Soft Rasterizer, ICCV 2019.
Notebook 04, section 2.1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..face.camera import DEFAULT_FOV, project_ndc
from ..face.shapes import Triangles, VertexValues, Vertices, expect
from .rasterizer import Fragments, checked_indices, rasterize
from .warp.interpolate import blend, blend_gradient
from .warp.launch import launch

NEAR = 1.0
"""Depth in mm at which triangles are cut off, so that none passes through the camera."""

DEPTH_MARGIN = 0.1
"""Added before and behind the mesh's own depth range, as a share of it, in soft blending."""

_TINY = 1e-10  # weight of the background, as in PyTorch3D's blending


@dataclass(frozen=True)
class SoftSettings:
    """sigma in squared NDC (the outline's width), gamma in depth ranges, K faces per pixel.

    A triangle covers sigmoid(-d / sigma) of a pixel at squared distance d, negative inside.
    """

    sigma: float = 1e-4
    gamma: float = 1e-4
    faces_per_pixel: int = 8

    @property
    def blur_radius(self) -> float:
        """Squared NDC distance at which a triangle's coverage has fallen to 1e-4."""
        return math.log(1 / 1e-4 - 1) * self.sigma


def render(
    v_camera: Vertices,
    faces: Triangles,
    attributes: VertexValues,
    image_size: int | tuple[int, int] = 224,
    fov_deg: float = DEFAULT_FOV,
    soft: SoftSettings | None = None,
    background: float = 0.0,
    near: float | None = NEAR,
) -> tuple[Float[Tensor, "batch channel height width"], Float[Tensor, "batch 1 height width"]]:
    """Image and mask of a mesh under the perspective camera of section 2.1.

    v_camera: vertices in the camera frame, mm (+X left, +Y up, +Z into the screen).
    attributes: what to show at each vertex: colours, normals, anything.
    soft: None for a hard image, whose mask is 0 or 1 and has no gradient. A soft mask is
        1 - prod(1 - sigmoid(-d / sigma)) over the pixel's triangles.
    background: in every channel, where no triangle lies.
    near: depth in mm at which triangles are cut off. None leaves a triangle with a vertex behind
        the camera out whole: the same picture of a face in front of it, and no GPU synchronisation.
    """
    sizes = expect("v_camera", v_camera, "batch vertex 3")
    expect("attributes", attributes, "batch vertex channel", **sizes)
    settings = {"perspective_correct": True, "z_clip_value": near}
    if soft is not None:
        settings |= dict(blur_radius=soft.blur_radius, faces_per_pixel=soft.faces_per_pixel)
        settings["clip_barycentric_coords"] = True
    fragments = rasterize(project_ndc(v_camera, fov_deg), faces, image_size, **settings)

    values = interpolate(fragments, faces, attributes, check=False)
    if soft is None:
        covered, image = fragments.pix_to_face >= 0, values[..., 0, :]
        if background:
            image = torch.where(covered, image, background)
        mask = covered.to(image.dtype)
    else:
        image, mask = _blend(fragments, values, background, v_camera[..., 2], soft)
    return image.permute(0, 3, 1, 2), mask.permute(0, 3, 1, 2)


def interpolate(
    fragments: Fragments, faces: Triangles, attributes: VertexValues, check: bool = True
) -> Float[Tensor, "batch height width k channel"]:
    """Vertex attributes at each fragment, weighted by its barycentric coordinates; 0 where empty.

    Differentiable in the attributes and, through bary_coords, in the vertices. check=False skips
    the look whether the fragments are of these faces, and with it a GPU synchronisation.
    """
    pix_to_face, bary = fragments.pix_to_face, fragments.bary_coords
    most = len(pix_to_face) * len(faces)
    if check and pix_to_face.numel() and (last := int(pix_to_face.max())) >= most:
        raise ValueError(
            f"fragments: expected triangles below {most}, got {last}: were they rasterized from "
            "these faces?"
        )
    expect("attributes", attributes, "batch vertex channel", batch=len(bary))
    if attributes.dtype != bary.dtype:
        raise TypeError(
            f"attributes: expected {bary.dtype} like the fragments, got {attributes.dtype}"
        )
    for name, tensor in (("attributes", attributes), ("faces", faces)):
        if tensor.device != bary.device:
            raise ValueError(
                f"{name}: expected on {bary.device} like the fragments, got {tensor.device}"
            )
    indices = checked_indices(faces, attributes.shape[1])
    return _Interpolate.apply(indices, pix_to_face, bary, attributes)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, faces: Tensor, pix_to_face: Tensor, bary: Tensor, attributes: Tensor):
        ctx.save_for_backward(faces, pix_to_face, bary, attributes)
        values = attributes.new_empty((*pix_to_face.shape, attributes.shape[2]))
        arguments = [faces, pix_to_face, bary, *attributes.shape[1:], attributes, values]
        launch(blend, bary.dtype, pix_to_face.numel(), *arguments)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        faces, pix_to_face, bary, attributes = ctx.saved_tensors
        asked = ctx.needs_input_grad[2:]
        # a gradient that nothing asks for has an empty array
        grads = [
            x.new_zeros(x.shape if a else 0) for x, a in zip((bary, attributes), asked, strict=True)
        ]
        arguments = [faces, pix_to_face, bary, *attributes.shape[1:], attributes, grad, *grads]
        launch(blend_gradient, bary.dtype, pix_to_face.numel(), *arguments)
        return None, None, *(g if a else None for g, a in zip(grads, asked, strict=True))


def _blend(
    fragments: Fragments,
    values: Float[Tensor, "batch height width k channel"],
    background: float,
    depth: Float[Tensor, "batch vertex"],
    soft: SoftSettings,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width 1"]]:
    """SoftRas: a softmax over depth of the triangles' values, weighted by their coverage.

    Depth is counted in the mesh's own range, detached: in a fixed range, gamma would not tell the
    nose of a face at 350 mm from its ears.
    """
    covered = fragments.pix_to_face >= 0
    coverage = torch.sigmoid(-fragments.dists / soft.sigma) * covered
    near, far = depth.detach().clamp(min=NEAR)[:, None, None].aminmax(dim=-1, keepdim=True)
    margin = DEPTH_MARGIN * (far - near) + 1e-3 * far  # a flat mesh has no range of its own
    near, far = near - margin, far + margin
    nearness = (far - fragments.zbuf) / (far - near) * covered
    nearest = nearness.amax(-1, keepdim=True).clamp(min=_TINY).detach()
    weight = coverage * torch.exp((nearness - nearest) / soft.gamma)
    rest = torch.exp((_TINY - nearest) / soft.gamma).clamp(min=_TINY)
    total = weight.sum(-1, keepdim=True) + rest
    image = ((weight[..., None] * values).sum(-2) + rest * background) / total
    return image, 1 - (1 - coverage).prod(-1, keepdim=True)
