"""The report's losses, one function per equation, our priors, and the weighted sum.

    terms = {"pixel": pixel_loss(image, photo, mask), "landmark": landmark_loss(points, landmarks)}
    loss = weighted_sum(terms, REPORT_WEIGHTS)          # Eq. 7, with "recognition" among the terms

Each loss is averaged over the batch; with `per_face=True` it has one value per face.
Notebooks 05 and 08, Eq. 4 to 12.
"""

from collections.abc import Callable, Mapping
from functools import wraps

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..face.coefficients import UNIT_AMBIENT
from ..face.device_constants import constant
from ..face.lighting import LIGHT_LEVEL, light_level
from ..face.mesh import cached, edges
from ..face.shapes import Images, Landmarks, Masks, PerFace, Triangles, Vertices, expect


def averaged(loss: Callable) -> Callable:

    @wraps(loss)
    def average(*args, per_face: bool = False, **kwargs):
        value = loss(*args, **kwargs)
        if per_face:
            return value
        if isinstance(value, dict):
            return {name: each.mean() for name, each in value.items()}
        return value.mean()

    return average


@averaged
def pixel_loss(rendered: Images, photo: Images, mask: Masks, reduction: str = "sum") -> PerFace:
    """Eq. 4: squared difference of rendering and photo where the face covers the photo.

    "sum" is the equation: summed over covered pixels and channels. "mean" divides this sum by 3
    times the covered pixels, so that face size does not count. The mask is detached: with a live
    mask the sum rewards a face that shrinks.
    """
    _expect_images(rendered, photo)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction: expected 'sum' or 'mean', got {reduction!r}")
    mask = mask.detach()
    total = (mask * (rendered - photo) ** 2).sum((1, 2, 3))
    return total if reduction == "sum" else total / (3 * mask.sum((1, 2, 3))).clamp(min=1)


@averaged
def robust_pixel_loss(
    rendered: Images, photo: Images, weight: Masks, sigma: float = 0.15
) -> PerFace:
    """Eq. 4 as a weighted mean under Geman and McClure's function r² / (1 + r² / sigma²).

    r is the colour difference of a pixel (root mean square over channels). Past sigma a pixel
    hardly pulls: hair, glasses and beards are not in the model. weight >= 0 is detached.
    """
    _expect_images(rendered, photo)
    squared = ((rendered - photo) ** 2).mean(1, keepdim=True)
    weight = weight.detach()
    value = weight * squared / (1 + squared / sigma**2)
    return value.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-6)


def _expect_images(rendered: Tensor, photo: Tensor) -> None:
    shape = "batch channel height width"
    expect("photo", photo, shape, **expect("rendered", rendered, shape))


@averaged
def landmark_loss(
    points: Landmarks, landmarks: Landmarks, weights: Float[Tensor, " 68"] | None = None
) -> PerFace:
    """Eq. 5: L1 distance of projected and detected landmarks, in pixels of the 224 crop, over 68.

    weights: how much each point counts, 1 in the report.
    """
    expect("landmarks", landmarks, "batch 68 2", **expect("points", points, "batch 68 2"))
    distance = (points - landmarks).abs().sum(-1)
    return (distance if weights is None else distance * weights).sum(1) / 68


@averaged
def recognition_loss(
    rendered_features: Float[Tensor, "batch feature"],
    photo_features: Float[Tensor, "batch feature"],
) -> PerFace:
    """Eq. 6: L1 distance of face-recognition features of the rendering, F(y), and of the photo.

    Both images must go through the same warp, mask and background before F().
    """
    sizes = expect("rendered_features", rendered_features, "batch feature")
    expect("photo_features", photo_features, "batch feature", **sizes)
    return (rendered_features - photo_features).abs().sum(-1)


@averaged
def offset_l2_loss(offset_map: Images) -> PerFace:
    """Eq. 8: squared norm of an offset map, summed over the map."""
    return (offset_map**2).sum((1, 2, 3))


@averaged
def offset_symmetry_loss(offset_map: Images, displacement: bool) -> PerFace:
    """Eq. 9: squared norm of the map minus its mirror image, summed over the map.

    The flip reverses the width and, for a displacement, negates x: without that a face could not
    grow wider on both sides. In image space this is the face's symmetry only for a frontal face.
    """
    mirrored = offset_map.flip(-1)
    if displacement:
        mirrored = mirrored * _negated_x(mirrored)[:, None, None]
    return ((offset_map - mirrored) ** 2).sum((1, 2, 3))


@averaged
def mesh_symmetry_loss(
    offsets: Vertices, mirror: Int[Tensor, " vertex"], displacement: bool
) -> PerFace:
    """Eq. 9 between mirror vertices: mean over vertices of the squared difference, any pose."""
    mirrored = offsets[:, mirror]
    if displacement:
        mirrored = mirrored * _negated_x(mirrored)
    return ((offsets - mirrored) ** 2).sum(-1).mean(1)


def _negated_x(like: Tensor) -> Float[Tensor, " 3"]:
    return constant((-1.0, 1.0, 1.0), like.dtype, like.device)


@averaged
def smoothness_loss(values: Float[Tensor, "batch vertex channel"], faces: Triangles) -> PerFace:
    """Eq. 10 on positions (mm²), Eq. 11 on albedos: mean over vertices of the mean over their
    neighbours of the squared difference. On positions it shortens edges as well."""
    pairs, share = cached(faces, ("rings", values.shape[1]), lambda: _rings(faces, values.shape[1]))
    squared = ((values[:, pairs[:, 0]] - values[:, pairs[:, 1]]) ** 2).sum(-1)
    return (squared * share.to(values.dtype)).sum(1) / values.shape[1]


def _rings(faces: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Edges, and how much each counts: once in the mean over the ring of either end."""
    pairs = edges(faces)
    count = torch.bincount(pairs.reshape(-1), minlength=vertices).clamp(min=1)
    return pairs, (1 / count)[pairs].sum(-1)


@averaged
def coefficient_prior(coefficients: Float[Tensor, "batch mode"]) -> PerFace:
    """Our prior of a basis, N(0, 1) per mode: the sum of the squared coefficients."""
    return (coefficients**2).sum(-1)


@averaged
def action_range_prior(actions: Float[Tensor, "batch control"]) -> PerFace:
    """Squares of how far facial actions leave [0, 1]: below 0 lips pass through each other."""
    outside = (-actions).clamp(min=0) + (actions - 1).clamp(min=0)
    return (outside**2).sum(-1)


@averaged
def scale_prior(scale: Float[Tensor, "batch 1"]) -> PerFace:
    """(log scale / 0.02)²: the photo fixes only translation / scale, so depth carries the size."""
    return (scale[:, 0].log() / 0.02) ** 2


@averaged
def light_priors(lighting: Float[Tensor, "batch 9 3"]) -> dict[str, PerFace]:
    """Priors of the light; without them it would explain any skin tone.

    light_grey: squared difference of each channel's coefficients from the mean over channels.
    light_level: squared difference of `light_level` from LIGHT_LEVEL. Not of ambient light alone: a
        light from behind darkens a face as well.
    light_bands: squared coefficients of bands 1 and 2 as shares of the ambient one, over channels;
        their own size would favour bright skin in dim light.
    """
    grey = lighting.mean(-1, keepdim=True)
    shares = lighting[:, 1:] / grey[:, :1].clamp(min=0.1) * UNIT_AMBIENT
    return {
        "light_grey": ((lighting - grey) ** 2).sum((1, 2)),
        "light_level": (light_level(lighting) - LIGHT_LEVEL) ** 2,
        "light_bands": (shares**2).sum(1).mean(1),
    }


def weighted_sum(
    terms: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """Eq. 7 and Eq. 12: the sum of weight times term.

    Raises KeyError for a term without a weight, so that a misspelt term cannot count for nothing.
    """
    missing = [name for name in terms if name not in weights]
    if missing:
        raise KeyError(f"no weight for {', '.join(missing)}; weights have {', '.join(weights)}")
    if not terms:
        raise ValueError("terms: expected at least one loss, got none")
    return sum(weights[name] * value for name, value in terms.items())
