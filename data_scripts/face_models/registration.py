"""The model that ships, laid onto another face model's mean.

    laid_on = LaidOn(mean, faces, landmarks)               # the other model's mean, mm
    points, beyond = laid_on.points, laid_on.beyond_border() # (shipped, 3) mm; (V,) degrees

The shipped model is fitted to the other mean (similarity and identity, by landmarks and nearest
places), and what its inner landmarks lack then is spread around them.

Notebook 01, Eq. 1.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from face_models import Landmarks, Mask, PerVertex, Triangles, Vertices
from face_models.mesh_views import seen_from_around
from facerecon_lib.face.landmarks68 import INNER
from facerecon_lib.face.measures import umeyama
from facerecon_lib.face.mesh import boundary_edges, vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

INNER_POINTS = np.arange(68)[INNER]  # every model puts the jaw elsewhere
NORMAL_MM = 12.0  # a normal turned by a radian is as far away as so many mm
ROUNDS = 5  # of fitting; the third changes nothing any more
IDENTITY_PRIOR, LANDMARK_SHARE, FAR_MM = 0.02, 0.15, 5.0
BEND_MM = 20.0  # how far around a landmark the mesh is bent to it
CLOSE, LOOSE = 0.02, 10.0  # variance of what is not followed, a share: given landmarks, detected


def normals_of(points: np.ndarray, faces: Triangles) -> Vertices:
    """Unit vertex normals."""
    return vertex_normals(torch.as_tensor(points)[None], faces)[0].numpy()


def sphere(points: Float[np.ndarray, "point 3"]) -> tuple[Float[np.ndarray, " 3"], float]:
    """Centre and radius of the sphere nearest to points, least squares."""
    design = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(design, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0)))


@lru_cache
def shipped_model(subdivision: int, albedo: str = "monk") -> MorphableModel:
    """The model that ships, read once."""
    return MorphableModel.load(shipped_file("face_model.safetensors"), subdivision, albedo)


@lru_cache
def shipped_face() -> tuple[MorphableModel, Bool[np.ndarray, " shipped"]]:
    """The model that ships, subdivided once, and which of its vertices show from around."""
    model = shipped_model(1)
    return model, seen_from_around(model.mean.numpy(), model.faces)


class LaidOn:
    """The shipped model laid onto another model's mean; all in the other's frame, mm.

    landmarks: iBUG order; used: those to go by, 0 to 67. seen: as `seen_from_around` gives it.
    smoothing: CLOSE, or LOOSE where landmarks are detected.
    points: where the shipped model's vertices (subdivided once) came to lie. missed: (68,) mm from
    the landmarks to those of the shipped model fitted, not yet bent.
    """

    def __init__(
        self,
        mean: Vertices,
        faces: Triangles,
        landmarks: Landmarks,
        used: Int[np.ndarray, " used"] = INNER_POINTS,
        seen: Mask | None = None,
        smoothing: float = CLOSE,
    ):
        self.mean, self.faces = np.array(mean, float), faces
        self.seen = seen_from_around(self.mean, self.faces) if seen is None else seen
        self.shipped, self.shipped_seen = shipped_face()
        self.normals = normals_of(self.mean, self.faces)
        target = self.mean[landmarks]
        fitted = self._fit(target, used)
        ours = fitted[self.shipped.landmarks.numpy()]
        spots, first = np.unique(ours[used], axis=0, return_index=True)
        self.missed = np.linalg.norm(target - ours, axis=1)
        rest = (target - ours)[used][first]
        # Gaussians alone: a thin-plate spline's linear part carries the landmarks' errors outwards,
        # where it moved the jaw by 12 mm
        bend = RBFInterpolator(
            spots, rest, kernel="gaussian", epsilon=1 / BEND_MM, degree=-1, smoothing=smoothing
        )
        self.points = fitted + bend(fitted)

    def _fit(self, target: np.ndarray, used: np.ndarray) -> Float[np.ndarray, "shipped 3"]:
        """Where the fitted shipped model's vertices lie: point to plane, and the landmarks."""
        coarse = shipped_model(0)
        mean, basis = coarse.mean.double().numpy(), coarse.identity_basis.double().numpy()
        landmarks = coarse.landmarks.numpy()[used]
        not_skin = sum(coarse.regions[name] for name in ("mouth_interior", "eyeballs", "border"))
        skin = np.flatnonzero(self.shipped_seen[: len(mean)] & (not_skin <= 0.5).numpy())
        visible = np.flatnonzero(self.seen)
        tree = cKDTree(np.c_[self.mean, NORMAL_MM * self.normals][visible])
        pair = (torch.as_tensor(points)[None] for points in (mean[landmarks], target[used]))
        scale, turn, shift = (part[0].numpy() for part in umeyama(*pair))
        weights, modes = np.zeros(len(basis)), len(basis)
        for _ in range(ROUNDS):
            posed = scale * (mean + np.tensordot(weights, basis, 1)) @ turn.T + shift
            normals = normals_of(posed, coarse.faces)
            _, nearest = tree.query(np.c_[posed, NORMAL_MM * normals][skin])
            goal, plane = self.mean[visible[nearest]], self.normals[visible[nearest]]
            trust = 1 / (1 + ((goal - posed[skin]) ** 2).sum(1) / FAR_MM**2)
            middle = posed[skin].mean(0)

            def slope(rows, posed=posed, middle=middle, turn=turn, scale=scale):
                arm = posed[rows] - middle
                spin = np.cross(np.eye(3)[None], arm[:, None]).transpose(0, 2, 1)
                still = np.broadcast_to(np.eye(3), spin.shape)
                move = scale * np.einsum("kvc,dc->vdk", basis[:, rows], turn)
                return np.concatenate([spin, still, arm[:, :, None], move], 2)

            on_skin, on_points = slope(skin), slope(landmarks)
            off = goal - posed[skin] + on_skin[:, :, 7:] @ weights
            a = np.einsum("vck,vc->vk", on_skin, plane) * trust[:, None] ** 0.5
            b = (off * plane).sum(1) * trust**0.5
            pull = LANDMARK_SHARE * (len(skin) / len(landmarks) / 3) ** 0.5
            missing = target[used] - posed[landmarks] + on_points[:, :, 7:] @ weights
            a = np.r_[a, pull * on_points.reshape(-1, 7 + modes)]
            b = np.r_[b, pull * missing.reshape(-1)]
            prior = np.diag(np.r_[np.full(7, 1e-9), np.full(modes, IDENTITY_PRIOR * len(skin))])
            step = np.linalg.solve(a.T @ a + prior, a.T @ b)
            spin, grow = Rotation.from_rotvec(step[:3]).as_matrix(), 1 + step[6]
            shift = grow * spin @ (shift - middle) + middle + step[3:6]
            scale, turn, weights = grow * scale, spin @ turn, step[7:]
        fine = self.shipped.mean.double() + torch.einsum(
            "k,kvc->vc", torch.as_tensor(weights), self.shipped.identity_basis.double()
        )
        return scale * fine.numpy() @ turn.T + shift

    def shipped_region(self, name: str) -> Bool[np.ndarray, " shipped"]:
        return self.shipped.regions[name].numpy() > 0.5

    def beyond_border(self) -> PerVertex:
        """Degrees beyond the shipped face's outline, seen from inside the head; negative within."""
        pairs = boundary_edges(self.shipped.faces).unique().numpy()
        outline = self.points[pairs[self.shipped_region("border")[pairs]]]
        centre = self.points[self.shipped.landmarks[[0, 16]]].mean(0)  # of the ears
        turn, angle = _polar(outline - centre)
        turn, angle = np.stack([turn, angle])[:, turn.argsort()]
        angle = (angle + np.interp(-turn, turn, angle, period=2 * np.pi)) / 2  # both sides alike
        around, away = _polar(self.mean - centre)
        return np.degrees(away - np.interp(around, turn, angle, period=2 * np.pi))


def _polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction around the view axis, and angle from it, radians."""
    x, y, z = points.T
    return np.arctan2(x, y), np.arctan2(np.hypot(x, y), z)
