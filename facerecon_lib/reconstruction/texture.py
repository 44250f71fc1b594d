"""The face's own picture: a texture baked from the photo, and from the model where that is hidden.

    texture = bake(photo.pixels, crop, face, coefficients.lighting, "photo")
    texture.image                                        # (1, 3, 1024, 1024) sRGB

All in logarithms. At a texel let I be the photo, a the fitted albedo, s the shading (Eq. 3). What
they leave, I - a - s, is a smooth part L and a detail D. L goes on beneath what is hidden, so that
no seam shows; D is seen with a weight w, and where it is not, its mirror image's is taken:

    lit = a + s + L + w D + (1 - w) w' D'                I, where w is 1
    photo = lit - (s + grey(L) / 2 - their mean)         to be lit anew

Half of L's grey counts as light that nine harmonics cannot hold. The light's mean, its level and
tint, stays: no photo tells it from the skin's. Hair, hands and glasses before the face are baked
onto it. Notebook 10, Eq. 3.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ..face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ..face.lighting import sh_basis
from ..face.mesh import neighbour_mean
from ..fitting.photo_light import region_weights, sample_photo_colours
from ..photos.crop import Crop, crop_to_photo
from ..photos.reading import Pixels
from ..rendering.atlas import FIRST_CHART, Texture, texture_atlas, without_holes
from ..rendering.synthesis import Face
from ..rendering.visibility import visible_vertices

SIZE = 1024  # texels a side
STEP, CELL = 8, 64  # texels between two readings of L, and side of what it is the mean of
DARKEST = 0.01  # of photo and albedo, before the logarithm
LEAST_SHADING = 0.3  # of its mean: darker skin would turn into noise
LEFT_OVER = 0.5  # share of L's grey that is light
SQUARE = 0.15, 0.5  # cosines to the viewer between which w rises
RINGS = 3  # of the mesh, over which w falls towards what is hidden
RIDGE = 0.03  # of the squares of the harmonics that correct the fitted light
ODD = 0.3  # grey residual of hair, glasses and cast shadows, which tell less of light and L


@torch.no_grad()
def bake(
    pixels: Pixels, crop: Crop, face: Face, lighting: Float[Tensor, "1 9 3"], kind: str = "photo"
) -> Texture:
    """The texture of one face, of kind "photo" or "lit"; pixels and crop: of its photo."""
    ndc = project_ndc(face.v_camera, face.fov_deg)
    part, grid = _part(pixels, crop_to_photo(ndc_to_pixels(ndc, CROP_SIZE), crop.matrix))
    weight = _weight(face, grid)
    fitted, light = _explained(crop, face, lighting, weight)
    colour = fitted if kind == "lit" else fitted - light
    middle = fitted.mean(1), colour.mean(1)  # the latter fills the map between the charts
    values = torch.cat([grid, weight, fitted - middle[0], colour - middle[1]], -1)
    atlas, rows = texture_atlas(face.model, SIZE), SIZE // 16
    image = part.new_empty(1, SIZE, SIZE, 3)
    for row in range(0, SIZE, rows):  # what a step needs stays in the processor's cache
        maps = atlas.unroll(values, slice(row, row + rows))
        grid, seen, fitted, colour = maps.split([2, 1, 3, 3], -1)
        sampled = F.grid_sample(part, grid, padding_mode="border", align_corners=False)
        detail = seen * (sampled.permute(0, 2, 3, 1) - middle[0] - fitted)
        colour = colour + middle[1] + detail
        if row < FIRST_CHART * SIZE:
            colour += (1 - seen) * detail.flip(2)
        image[:, row : row + rows] = colour.exp_().clamp_(max=1)
    return Texture(image.permute(0, 3, 1, 2), atlas, lit=kind == "lit")


def _part(pixels: Pixels, points: Float[Tensor, "1 vertex 2"]) -> tuple[Tensor, Tensor]:
    """I around the face, no finer than the map, and the points in it for `grid_sample`."""
    size = points.new_tensor([pixels.shape[1], pixels.shape[0]])
    low = points[0].amin(0).floor().clamp(min=0).minimum(size - 1)
    high = points[0].amax(0).ceil().minimum(size).maximum(low + 1)
    (left, top), (right, bottom) = low.int().tolist(), high.int().tolist()
    part = Image.fromarray(pixels[top:bottom, left:right])
    shrink = min(1.0, SIZE / max(part.size))
    smaller = [max(round(side * shrink), 1) for side in part.size]
    part = torch.from_numpy(np.array(part.resize(smaller, Image.Resampling.BOX)))
    part = part.to(points.device).permute(2, 0, 1)[None] / 255
    return part.clamp(min=DARKEST).log(), 2 * (points - low) / (high - low) - 1


def _weight(face: Face, grid: Float[Tensor, "1 vertex 2"]) -> Float[Tensor, "1 vertex 1"]:
    """w: how well the photo shows each vertex, squarely, unhidden, off the mesh's border."""
    low, high = SQUARE
    square = ((face.normals[..., 2] - low) / (high - low)).clamp(0, 1)
    in_photo = (20 * (1 - grid.abs().amax(-1))).clamp(0, 1)
    seen = ramp = visible_vertices(face)[..., None]
    for _ in range(RINGS):
        ramp = seen * neighbour_mean(ramp, face.model.faces)
    ramp = torch.where(_inside(face), seen, ramp)
    return ramp * (square * in_photo * (1 - face.model.regions["border"]))[..., None]


def _explained(
    crop: Crop, face: Face, lighting: Float[Tensor, "1 9 3"], weight: Float[Tensor, "1 vertex 1"]
) -> tuple[Float[Tensor, "1 vertex 3"], Float[Tensor, "1 vertex 3"]]:
    """a + s + L at the vertices, and what of it is light, without its mean.

    s is the fitted shading plus the nine harmonics per colour that best explain what it leaves.
    """
    colours, _ = sample_photo_colours(face, crop.image.to(weight), crop.valid.to(weight))
    weight, basis = weight * ~_inside(face), sh_basis(face.normals)
    shading = basis @ lighting
    shading = shading.maximum(LEAST_SHADING * shading.mean(1, keepdim=True).clamp(min=DARKEST))
    albedo, shading = face.albedo.clamp(min=DARKEST).log(), shading.log()
    photo, trust = colours.clamp(min=DARKEST).log(), weight * region_weights(face.model)[:, None]
    residual = rest = photo - albedo - shading
    ridge = torch.full((9,), RIDGE, device=weight.device)
    ridge[:1] = 1e-6
    odd = torch.ones_like(trust)
    for _ in range(5):
        rows = basis.mT * (trust / odd / trust.sum().clamp(min=DARKEST)).mT
        light = basis @ torch.linalg.solve(rows @ basis + ridge.diag(), rows @ residual)
        rest = residual - light
        odd = 1 + (rest.mean(-1, keepdim=True) / ODD).square()
    smooth = _smooth(face, rest, weight / odd)
    fitted = albedo + shading + light + smooth
    light = shading + light + LEFT_OVER * smooth.mean(-1, keepdim=True)
    share = weight / odd / (weight / odd).sum().clamp(min=DARKEST)
    return fitted, light - (share * light).sum(1, keepdim=True)


def _smooth(
    face: Face, rest: Float[Tensor, "1 vertex 3"], weight: Float[Tensor, "1 vertex 1"]
) -> Float[Tensor, "1 vertex 3"]:
    """L at the vertices; 0 in eyes and mouth."""
    atlas, some = texture_atlas(face.model, SIZE), slice(STEP // 2, None, STEP)
    flat = atlas.unroll(torch.cat([weight * rest, weight], -1), some, some).permute(0, 3, 1, 2)
    flat[:, :, round(FIRST_CHART * SIZE / STEP) :] = 0
    flat = without_holes(F.avg_pool2d(flat, CELL // STEP))
    places = 2 * atlas.first[None, None] - 1
    smooth = F.grid_sample(flat, places, padding_mode="border", align_corners=False)[:, :, 0]
    return smooth.mT * ~_inside(face)


def _inside(face: Face) -> Bool[Tensor, "1 vertex 1"]:
    """True in eyeballs and mouth: small, and of colours of their own."""
    regions = face.model.regions
    return (regions["eyeballs"] + regions["mouth_interior"])[None, :, None] > 0.5
