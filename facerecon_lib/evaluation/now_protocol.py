"""Scan-to-mesh error in mm after the protocol of the NoW benchmark.

    error = now_error(scan, scan[landmarks], vertices, faces, vertices[landmarks])
    error.median, error.mean, error.sd                   # mm, over the points of the scan's face

Pose and size of the mesh do not count: a similarity lays it on the scan by seven landmarks, then
least squares turn, move and scale it to bring its surface near the scan's points; the remaining
distances are the error. Only points in a ball around the middle of the face count.

S. Sanyal et al., "Learning to regress 3D face shape and expression from an image without 3D
supervision" (RingNet), CVPR 2019. Radius (1.4; the paper's was 1.2) and pooling (`pooled`) are
those of the benchmark's program. Notebook 09, section 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import warp as wp
from jaxtyping import Bool, Float, Int
from scipy.optimize import least_squares
from torch import Tensor

from ..face.camera import axis_angle_to_matrix
from ..face.landmarks68 import EYE_CORNERS, MOUTH_CORNERS, NOSE_BOTTOM
from ..face.measures import umeyama
from ..face.morphable_model import MorphableModel
from ..face.shapes import Triangles, Vertices, expect
from ..rendering.warp.cache import start_warp
from ..rendering.warp.launch import launch

# Corners of the eyes from the viewer's left to right, the bottom of the nose, corners of the mouth.
NOW_LANDMARKS = [*EYE_CORNERS, NOSE_BOTTOM, *MOUTH_CORNERS]
CENTRE_ABOVE_NOSE = 0.3  # of the way from the bottom of the nose to the bridge
RADIUS = 1.4  # of the mean of the outer-eye distance and the nose's length
LEAST_GAIN = 1e-8  # share of the sum of squares, below which the refinement stops
ON_SURFACE = 1e-3  # mm; nearer than that the triangle's normal says better which way is off it

Points = Float[Tensor, "point 3"]
Seven = Float[Tensor, "7 3"]

wp.set_module_options({"enable_backward": False})


@dataclass(eq=False)
class ScanError:
    """Distances in mm of the scan's points to the mesh, which `x -> scale R x + translation` moved.

    face: which of the scan's points they are of.
    """

    distances: Float[Tensor, " kept"]
    face: Bool[Tensor, " point"]
    scale: float
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, " 3"]

    @property
    def median(self) -> float:
        return float(self.distances.median())

    @property
    def mean(self) -> float:
        return float(self.distances.mean())

    @property
    def sd(self) -> float:
        return float(self.distances.std(correction=0))


def pooled(errors: Sequence[ScanError]) -> dict[str, float]:
    """The benchmark's three numbers, in mm: over the points of all scans together."""
    whole = replace(errors[0], distances=torch.cat([error.distances for error in errors]))
    return {"median": whole.median, "mean": whole.mean, "sd": whole.sd}


def now_error(
    scan: Points,
    scan_landmarks: Seven,
    vertices: Float[Tensor, "vertex 3"],
    faces: Triangles,
    landmarks: Seven,
) -> ScanError:
    """The error of a mesh, in any unit and pose, against a scan in mm.

    Raises ValueError for other shapes, or where no point of the scan is near the face.
    """
    expect("scan_landmarks", scan_landmarks, "7 3", "take NOW_LANDMARKS")
    expect("landmarks", landmarks, "7 3", "take NOW_LANDMARKS")
    scan, goal = scan.detach().double(), scan_landmarks.detach().double()
    if not all(torch.isfinite(value).all() for value in (scan, goal, vertices, landmarks)):
        raise ValueError("scan and mesh: expected finite numbers, got NaN or infinity")
    face = face_part(scan, goal)
    if not face.any():
        raise ValueError("scan: no point of it lies near its landmarks; are both in mm?")
    start = (part[0] for part in umeyama(landmarks.detach().double()[None], goal[None]))
    surface = Surface(vertices, faces)
    scale, rotation, translation = _refined(surface, scan[face], *start)
    distances = surface.offsets(scan[face], scale, rotation, translation)[1]
    return ScanError(distances, face, float(scale), rotation, translation)


def now_errors(
    model: MorphableModel, predicted: Vertices, truth: Vertices, points: int = 10_000
) -> list[ScanError]:
    """The error of each face of a batch, `truth` (mm) taken as the scan that it would have given.

    The scan is `points` places on the outer surface of the truth, spread evenly by area.
    """
    outside, chosen = outer_surface(model), model.landmarks[NOW_LANDMARKS]
    errors = []
    for mesh, true in zip(predicted, truth, strict=True):
        generator = torch.Generator().manual_seed(0)  # anew: no error depends on another
        scan = sample_surface(true, outside, points, generator)
        errors.append(now_error(scan, true[chosen], mesh, model.faces, mesh[chosen]))
    return errors


def face_part(scan: Points, landmarks: Seven) -> Bool[Tensor, " point"]:
    """The scan's points that the benchmark counts: a ball around the middle of the face."""
    nose, bridge = landmarks[4], (landmarks[1] + landmarks[2]) / 2
    centre = nose + CENTRE_ABOVE_NOSE * (bridge - nose)
    outer_eyes = (landmarks[0] - landmarks[3]).norm()
    radius = RADIUS * (outer_eyes + (bridge - nose).norm()) / 2
    return (scan - centre).norm(dim=-1) <= radius


def outer_surface(model: MorphableModel) -> Triangles:
    """The triangles that a scanner sees: all but the mouth's inside and the eyeballs."""
    inside = model.regions["mouth_interior"] + model.regions["eyeballs"] > 0.5
    return model.faces[~inside[model.faces].any(1)]


def sample_surface(
    vertices: Float[Tensor, "vertex 3"], faces: Triangles, count: int, generator: torch.Generator
) -> Float[Tensor, "count 3"]:
    """Points on the surface, uniform by area."""
    corners = vertices[faces].double()
    a, b, c = corners.unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).cpu()
    chosen = torch.multinomial(area, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator, dtype=torch.float64)
    root = u.sqrt()  # Turk, "Generating random points in triangles", Graphics Gems, 1990
    weights = torch.stack([1 - root, root * (1 - v), root * v], -1).to(corners)
    return (weights[..., None] * corners[chosen.to(corners.device)]).sum(1)


# Nearest points ---------------------------------------------------------------------------------


@wp.kernel
def nearest_triangle(
    mesh: wp.uint64,
    verts: wp.array(dtype=Any),
    triangle: wp.array(dtype=wp.int32),
    bary: wp.array(dtype=Any),
):
    i = wp.tid()
    nearest = wp.mesh_query_point_no_sign(mesh, verts[i], wp.inf)
    triangle[i] = nearest.face if nearest.result else -1
    bary[i] = wp.vec3f(nearest.u, nearest.v, 1.0 - nearest.u - nearest.v)


class Surface:
    """The nearest points of a triangle mesh, by Warp's bounding-volume hierarchy.

    The search is in float32, to 1e-5 mm; places and distances are float64.
    """

    def __init__(self, vertices: Float[Tensor, "vertex 3"], faces: Triangles):
        start_warp()
        vertices = vertices.detach()
        self.corners = vertices.double()[faces]
        a, b, c = self.corners.unbind(1)
        self.normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        self.middle = self.corners.mean((0, 1))  # float32 is finest around 0
        self._points = (vertices - self.middle).float().contiguous()
        self._faces = faces.to(torch.int32).contiguous().view(-1)
        points = wp.from_torch(self._points, dtype=wp.vec3f)
        self._mesh = wp.Mesh(points, wp.from_torch(self._faces))

    def nearest(self, points: Points) -> tuple[Points, Int[Tensor, " point"]]:
        """The nearest place on the surface to each point, and its triangle."""
        local = (points.detach() - self.middle).float()
        triangle = torch.empty(len(local), dtype=torch.int32, device=local.device)
        bary = torch.empty_like(local)
        launch(nearest_triangle, torch.float32, len(local), self._mesh.id, local, triangle, bary)
        u, v, _ = bary.double().unbind(-1)
        weights, triangle = torch.stack([u, v, 1 - u - v], -1), triangle.long()
        return (weights[..., None] * self.corners[triangle]).sum(1), triangle

    def offsets(
        self, points: Points, scale: Tensor, rotation: Tensor, translation: Tensor
    ) -> tuple[Points, Float[Tensor, " point"], Points]:
        """(places, distances, unit directions from place to point) of the moved surface."""
        place, triangle = self.nearest((points - translation) @ rotation / scale)
        place = scale * place @ rotation.T + translation
        offset = points - place
        distance = offset.norm(dim=-1)
        normal = self.normals[triangle] @ rotation.T
        far = (distance > ON_SURFACE)[:, None]
        return place, distance, torch.where(far, offset / distance[:, None], normal)


def _refined(
    surface: Surface, points: Tensor, scale: Tensor, rotation: Tensor, translation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The similarity of least squared distances near the given one, by Levenberg and Marquardt.

    Seven numbers: turn, shift and log of the scale, about the middle of the points. A place slides
    freely on the surface: only its offset along the direction to the point counts (Chen and
    Medioni, 1992).
    """
    middle = points.mean(0)
    reach = (points - middle).square().sum(1).mean().sqrt()  # so that all seven are lengths in mm

    def moved(step: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        step = torch.from_numpy(step).to(points)
        turn, grow = axis_angle_to_matrix(step[:3] / reach), torch.exp(step[6] / reach)
        shifted = grow * turn @ (translation - middle) + middle + step[3:6]
        return grow * scale, turn @ rotation, shifted

    def residuals(step: np.ndarray) -> np.ndarray:
        place, _, direction = surface.offsets(points, *moved(step))
        return ((points - place) * direction).sum(1).cpu().numpy()

    def jacobian(step: np.ndarray) -> np.ndarray:
        place, _, direction = surface.offsets(points, *moved(step))
        arm = (place - middle) / reach
        turns, grows = torch.linalg.cross(arm, direction), (arm * direction).sum(1, keepdim=True)
        return -torch.cat([turns, direction, grows], 1).cpu().numpy()

    start = np.zeros(7)
    return moved(least_squares(residuals, start, jacobian, method="lm", ftol=LEAST_GAIN).x)
