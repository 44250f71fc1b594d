"""Measures of a reconstruction: landmarks, pixels, millimetres and skin tone.

    landmark_error(projected, detected)                  # (B,) share of the outer-eye distance
    photometric_error(image, photo, mask)                # (B,) mean absolute difference
    vertex_error_mm(vertices, truth).median(1).values    # (B,) after similarity alignment, as NoW
    albedo_error(albedo, truth, region)                  # RGB and ITA degrees, on the unlit albedo

Everything takes and returns batches and keeps one value per face, so that a table can group them
(`by_group`). Notebook 09, section 2.3.
"""

import math
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from . import dense_points
from .colour import ita_degrees, srgb_to_lab
from .landmarks68 import INNER, OUTER_EYES
from .shapes import Landmarks, Masks, PerFace, PerVertex, Vertices, expect


def landmark_error(predicted: Landmarks, target: Landmarks, points: str = "all") -> PerFace:
    """Mean distance of the 68 points as a share of the target's outer-eye distance (NME)."""
    sizes = expect("predicted", predicted, "batch 68 2")
    expect("target", target, "batch 68 2", **sizes)
    if points not in ("all", "inner"):
        raise ValueError(f"points {points!r}: expected 'all' (68) or 'inner' (51, without the jaw)")
    subset, (right, left) = INNER if points == "inner" else slice(None), OUTER_EYES
    scale = (target[:, right] - target[:, left]).norm(dim=-1)
    return (predicted - target)[:, subset].norm(dim=-1).mean(1) / scale


def dense_error(
    predicted: Float[Tensor, "batch 478 2"], target: Float[Tensor, "batch 478 2"]
) -> PerFace:
    """Mean distance of the inner dense points as a share of the target's outer-eye distance."""
    right, left = dense_points.OUTER_EYES
    scale = (target[:, right] - target[:, left]).norm(dim=-1)
    return (predicted - target)[:, dense_points.INNER].norm(dim=-1).mean(1) / scale


def photometric_error(
    image: Float[Tensor, "batch channel height width"],
    photo: Float[Tensor, "batch channel height width"],
    mask: Masks,
) -> PerFace:
    """Mean absolute difference over the pixels that `mask` (0 to 1) covers; NaN if none."""
    difference = (image - photo).abs().mean(1, keepdim=True)
    return (difference * mask).sum((1, 2, 3)) / mask.to(difference.dtype).sum((1, 2, 3))


def umeyama(
    source: Float[Tensor, "batch point 3"],
    target: Float[Tensor, "batch point 3"],
    with_scale: bool = True,
) -> tuple[PerFace, Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """(scale, rotation, translation) of the least-squares target = scale R source + translation.

    Umeyama (1991): the rotation is proper even where a reflection would fit better. Points on one
    line leave it undetermined.
    """
    sizes = expect("source", source, "batch point 3")
    expect("target", target, "batch point 3", **sizes)
    share = 1 / source.shape[1]
    mean_source, mean_target = ((share * x).sum(1, keepdim=True) for x in (source, target))
    centred = source - mean_source
    covariance = (share * (target - mean_target)).mT @ centred
    u, spectrum, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(spectrum)
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = torch.ones_like(sign[:, 0])
    if with_scale:
        scale = (spectrum * sign).sum(1) / (share * centred**2).sum((1, 2))
    return scale, rotation, (mean_target - scale[:, None, None] * mean_source @ rotation.mT)[:, 0]


def similarity_align(
    source: Float[Tensor, "batch point 3"],
    target: Float[Tensor, "batch point 3"],
    with_scale: bool = True,
) -> Float[Tensor, "batch point 3"]:
    """`source` turned, moved and, `with_scale`, scaled to lie nearest to `target` by points."""
    scale, rotation, translation = umeyama(source, target, with_scale)
    return scale[:, None, None] * source @ rotation.mT + translation[:, None]


rigid_align = partial(similarity_align, with_scale=False)
"""`source` turned and moved, its size kept, to lie nearest to `target`."""


def vertex_error_mm(predicted: Vertices, target: Vertices, align: str = "similarity") -> PerVertex:
    """Distance of every vertex to its own vertex of the truth, both in mm.

    `align` is "similarity" (since one photo does not fix the size), "rigid" or "none".
    """
    aligners = {"similarity": similarity_align, "rigid": rigid_align, "none": lambda p, _: p}
    if align not in aligners:
        raise ValueError(f"align {align!r}: expected one of {', '.join(aligners)}")
    return (aligners[align](predicted, target) - target).norm(dim=-1)


def albedo_error(
    predicted: Vertices, target: Vertices, region: Float[Tensor, " vertex"] | None = None
) -> dict[str, PerFace]:
    """Unlit albedo in [0, 1] against the truth, averaged with the weights of `region` (all: None).

    "rgb": mean absolute difference; "ita": predicted minus true ITA in degrees, of the mean colour
    of the region, in (-180, 180] (above zero: reconstructed too light).
    """
    if region is None:
        region = predicted.new_ones(predicted.shape[1])
    weights = (region / region.sum()).to(predicted.dtype)[:, None]
    rgb = (weights * (predicted - target).abs()).sum(1).mean(-1)
    ita = ita_degrees((weights * predicted).sum(1)) - ita_degrees((weights * target).sum(1))
    return {"rgb": rgb, "ita": 180 - torch.remainder(180 - ita, 360)}


def mean_tone(
    colours: Vertices, weight: Float[Tensor, " vertex"] | PerVertex
) -> dict[str, PerFace]:
    """L* ("lightness") and ITA in degrees ("ita") of a weighted mean; NaN where nothing weighs."""
    weight = weight.expand(colours.shape[:2])[..., None]
    mean = ((weight * colours).sum(1) / weight.sum(1)).clamp(0, 1)
    return {"lightness": srgb_to_lab(mean)[:, 0], "ita": ita_degrees(mean)}


def by_group(
    values: PerFace | Sequence[float], groups: Sequence[Hashable]
) -> dict[Hashable, dict[str, float]]:
    """Table of one measure: for each group, sorted, its "count", "mean", "median" and "p90".

    NaN values (faces that were not measured) are left out; where nothing is left the rest is NaN.
    """
    values = torch.as_tensor(values).detach().cpu().double().numpy()
    keys = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else groups
    if len(keys) != len(values):
        raise ValueError(f"groups: expected one for each of {len(values)} values, got {len(keys)}")
    table = {}
    for key in sorted(set(keys)):
        group = [v for v, k in zip(values, keys, strict=True) if k == key and not math.isnan(v)]
        row = (np.mean(group), np.median(group), np.quantile(group, 0.9)) if group else ()
        mean, median, p90 = map(float, row or [math.nan] * 3)
        table[key] = {"count": len(group), "mean": mean, "median": median, "p90": p90}
    return table
