"""Measures of what is finer than a face model: normals, relief, and where on the face it lies.

    normal_error_degrees(vertices, truth, faces).mean(1)         # (B,) degrees
    relief_error_mm(vertices, truth, model)                      # (B,) mm, the fine part
    displacement_share_by_region(offsets.displacement, model)    # {"forehead": (B,), ...}, sum 1

Millimetres after alignment hardly see a wrinkle: a base that is 2 mm off is 2 mm off with and
without it. Normals do, and so does the surface less its own mean over a patch of the skin.

Notebook 09, section 2.3.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..face.landmarks68 import BROWS, OUTER_EYES
from ..face.measures import similarity_align, umeyama
from ..face.mesh import once_per_mesh, sparse_matrix, vertex_normals
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace, PerVertex, Triangles, Vertices

AREAS = ("forehead", "eyes and brows", "nose", "cheeks", "mouth", "lower jaw")
PATCH_MM = 8.0  # standard deviation of the patch that relief is measured against
LEAST_RELIEF_MM = 0.02


def normal_error_degrees(vertices: Vertices, truth: Vertices, faces: Triangles) -> PerVertex:
    """Angle between the normals of every vertex and its own of the truth, after alignment."""
    normals, true = vertex_normals(vertices, faces), vertex_normals(truth, faces)
    turned = normals @ umeyama(vertices, truth)[1].transpose(1, 2)
    across = torch.linalg.cross(turned, true).norm(dim=-1)  # acos alone rounds small angles away
    return torch.rad2deg(torch.atan2(across, (turned * true).sum(-1)))


# Relief -----------------------------------------------------------------------------------------


def relief_mm(difference: Vertices, normals: Vertices, model: MorphableModel) -> PerVertex:
    """The fine part of the difference of two surfaces, mm along the normals; 0 off the skin.

    Its height less the Gaussian mean of the heights around, weighted by area, distances on the mean
    face. A wave of n times PATCH_MM keeps 1 - exp(-2 (pi / n)²) of its height: 0.71 at n = 4.
    """
    gather, spread = _patches(model)
    height = (difference * normals).sum(-1)
    return (height - (spread @ (gather @ height.T)).T) * (skin_area(model) > 0)


def relief_error_mm(vertices: Vertices, truth: Vertices, model: MorphableModel) -> PerFace:
    """R.m.s. of `relief_mm` over the skin (no lips, no lids' rims), after similarity alignment."""
    difference = similarity_align(vertices, truth) - truth
    fine = relief_mm(difference, vertex_normals(truth, model.faces), model)
    return _mean_over_skin(fine.square(), model).sqrt()


def recovered(error: PerFace, base_error: PerFace) -> PerFace:
    """Share of the squared error of a base that is gone: 1 all of it, below 0 where it grew."""
    return 1 - (error / base_error) ** 2


def relief_found(
    displacement: Vertices, lacking: Vertices, normals: Vertices, model: MorphableModel
) -> PerFace:
    """How much of the relief that the bases lack is in the displacement: 1 all, 0 none of it.

    The slope of the one's `relief_mm` on the other's, over the skin; what else the displacement
    changes does not count. NaN where less than LEAST_RELIEF_MM of relief is lacking.
    """
    ours, true = (relief_mm(v, normals, model) for v in (displacement, lacking))
    energy, common = (_mean_over_skin(ours_or_true * true, model) for ours_or_true in (true, ours))
    return torch.where(energy > LEAST_RELIEF_MM**2, common / energy, torch.nan)


def _mean_over_skin(values: Tensor, model: MorphableModel) -> PerFace:
    weights = skin_area(model) * model.regions["skin"]
    return (weights * values).sum(1) / weights.sum()


@once_per_mesh
def _patches(model: MorphableModel) -> tuple[Tensor, Tensor]:
    """Two matrices: vertices to means of cells, cells to the Gaussian mean around each vertex.

    Cells half as wide as the Gaussian save memory: thousands of vertices lie in its reach.
    """
    area = skin_area(model)
    rows = (area > 0).nonzero()[:, 0]
    points = model.mean[rows]
    cell = torch.unique((2 / PATCH_MM * points).floor(), dim=0, return_inverse=True)[1]
    count = int(cell.max()) + 1
    total = area.new_zeros(count).index_add_(0, cell, area[rows])
    gather = sparse_matrix(cell, rows, area[rows] / total[cell], (count, len(area)))
    distance = torch.cdist(points, gather @ model.mean)
    i, j = (distance < 3 * PATCH_MM).nonzero().unbind(1)
    weight = total[j] * torch.exp(-((distance[i, j] / PATCH_MM) ** 2) / 2)
    weight = weight / torch.zeros_like(points[:, 0]).index_add_(0, i, weight)[i]
    return gather, sparse_matrix(rows[i], j, weight, (len(area), count))


def vertex_area(vertices: Float[Tensor, "vertex 3"], faces: Triangles) -> Float[Tensor, " vertex"]:
    """A third of the area of each triangle around a vertex, mm²."""
    a, b, c = vertices[faces].unbind(1)
    third = (torch.linalg.cross(b - a, c - a).norm(dim=-1) / 6).repeat_interleave(3)
    return torch.zeros_like(vertices[:, 0]).index_add_(0, faces.reshape(-1).long(), third)


@once_per_mesh
def skin_area(model: MorphableModel) -> Float[Tensor, " vertex"]:
    """mm² of each vertex on the mean face; 0 on eyeballs and in the mouth. Lips and lids count."""
    inside = torch.maximum(model.regions["eyeballs"], model.regions["mouth_interior"]) > 0.5
    return vertex_area(model.mean, model.faces) * ~inside


# Where it lies ----------------------------------------------------------------------------------


@once_per_mesh
def face_areas(model: MorphableModel) -> dict[str, Bool[Tensor, " vertex"]]:
    """The skin of the face in six areas (AREAS): each of its vertices is in one, others in none.

    By the landmarks of the mean face. The nose is a wedge, as wide as its wings below; the mouth an
    ellipse about the lips, with the skin between it and the nose; eyes and brows reach a little
    beyond the brows. Of the rest, forehead is above the outer eye corners (temples too), cheeks
    down to the mouth's corners, lower jaw below.
    """
    x, y = model.mean[:, 0].abs(), model.mean[:, 1]
    marks = model.mean[model.landmarks]
    unit = float((marks[45] - marks[36]).norm()) / 88  # 1 mm of the model that ships

    def across(point: int) -> float:
        return float(marks[point, 0].abs())

    def height(*points: int) -> float:
        return float(marks[list(points), 1].mean())

    root, base, corners = height(27), height(31, 33, 35), height(48, 54)
    down = ((root - y) / (root - base)).clamp(0, 1)  # 0 at the nose's root, 1 at its base
    half = 10 * unit + (across(35) - 4 * unit) * down
    nose = (x < half) & (y < root) & (y > base - 4 * unit)
    middle, high = height(51, 57), (height(51) - height(57)) / 2 + 7 * unit
    lips = (x / (across(54) + 7 * unit)) ** 2 + ((y - middle) / high) ** 2 < 1
    mouth = lips | ((x < across(35)) & (y < base) & (y > middle))
    brows, below = height(*range(68)[BROWS]) + 6 * unit, height(40, 41, 46, 47) - 9 * unit
    eyes = (y < brows) & (y > below) & (x < across(17) + 5 * unit)
    rest = skin_area(model) > 0
    areas = {}
    for name, inside in (
        ("nose", nose),
        ("mouth", mouth),
        ("eyes and brows", eyes),
        ("forehead", y > height(*OUTER_EYES)),
        ("cheeks", y > corners),
        ("lower jaw", rest),
    ):
        areas[name], rest = rest & inside, rest & ~inside
    return {name: areas[name] for name in AREAS}


def area_shares(model: MorphableModel) -> dict[str, float]:
    """Each area's share of the mean face's surface: what even displacement would give."""
    area = skin_area(model)
    return {n: float(area[where].sum() / area.sum()) for n, where in face_areas(model).items()}


def displacement_share_by_region(
    displacement: Vertices, model: MorphableModel
) -> dict[str, PerFace]:
    """Each area's share of the squared displacement over the skin; see `area_shares`.

    Together 1; NaN for a face that nothing moves.
    """
    energy = displacement.square().sum(-1) * skin_area(model)
    total = energy.sum(1)
    return {n: energy[:, where].sum(1) / total for n, where in face_areas(model).items()}


def rms_over_skin(values: Float[Tensor, "batch vertex channel"], model: MorphableModel) -> PerFace:
    """Root mean square length of a vector per vertex, over the skin's area."""
    area = skin_area(model)
    return ((values.square().sum(-1) * area).sum(1) / area.sum()).sqrt()


def even_share(texture: Vertices, model: MorphableModel) -> PerFace:
    """How much of a texture offset is one colour for the whole skin: squared mean / mean square.

    1 all, 0 none; NaN where there is no offset.
    """
    weights = (skin_area(model) / skin_area(model).sum())[:, None]
    mean = (weights * texture).sum(1)
    return mean.square().sum(-1) / (weights * texture.square()).sum((1, 2))
