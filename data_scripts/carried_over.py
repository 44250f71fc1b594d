"""What another face model lacks, carried over from the one that ships: regions and skin colours.

    here = Registration(mean, faces, landmarks)            # the other model's mean, mm
    regions, beyond = here.regions(), here.beyond_border() # (R, V) in [0, 1]; degrees
    mean, basis, samples = here.albedo("monk")

The shipped model is fitted to the other mean (similarity and identity, by landmarks and nearest
places), and what its inner landmarks lack then is spread around them. Then every vertex takes what
is nearest of its own kind: skin that shows from skin that shows, eyeballs from eyeballs, the
mouth's inside from the mouth's inside.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from mesh_cut import Part
from mesh_views import seen_from_around
from scipy import sparse
from scipy.interpolate import RBFInterpolator
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from facerecon_lib.evaluation import umeyama
from facerecon_lib.mesh import vertex_normals
from facerecon_lib.morphable_model import MorphableModel, shipped_model_path
from facerecon_lib.subdivision import boundary_edges

INNER = np.arange(17, 68)  # points 1 to 17, the jaw, are put elsewhere by every model
NORMAL_MM = 12.0  # a normal turned by a radian is as far away as so many mm
NEIGHBOURS = 4
ROUNDS = 5  # of fitting; the third changes nothing any more
IDENTITY_PRIOR, LANDMARK_SHARE, FAR_MM = 0.02, 0.15, 5.0
BEND_MM = 20.0  # how far around a landmark the mesh is bent to it
CLOSE, LOOSE = 0.02, 10.0  # variance of what is not followed, a share: given landmarks, detected
BORDER_MM = 14.0  # as wide as the shipped model's
EYE_RADIUS = (8.0, 18.0)  # mm, of what may be an eyeball


def similarity(
    source: Float[np.ndarray, "point 3"], target: Float[np.ndarray, "point 3"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Scale, rotation and translation that lay source onto target, least squares (Umeyama)."""
    pair = (torch.as_tensor(np.array(p, float))[None] for p in (source, target))
    scale, rotation, shift = umeyama(*pair)
    return float(scale), rotation[0].numpy(), shift[0].numpy()


def pieces(faces: Int[np.ndarray, "face 3"], count: int) -> Int[np.ndarray, " vertex"]:
    """Which connected piece of the mesh each vertex is in."""
    a, b, c = faces.T
    graph = sparse.coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, c])), (count, count))
    return connected_components(graph, directed=False)[1]


def normals_of(points: np.ndarray, faces: Tensor) -> Float[np.ndarray, "vertex 3"]:
    """Unit vertex normals."""
    return vertex_normals(torch.as_tensor(points)[None], faces)[0].numpy()


def sphere(points: Float[np.ndarray, "point 3"]) -> tuple[Float[np.ndarray, " 3"], float]:
    """Centre and radius of the sphere nearest to points, least squares."""
    design = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(design, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0)))


@lru_cache(maxsize=1)
def shipped_face() -> tuple[MorphableModel, Bool[np.ndarray, " shipped"]]:
    """The model that ships, subdivided once, and which of its vertices show from around."""
    model = MorphableModel.load(shipped_model_path(), subdivision=1, albedo="monk")
    return model, seen_from_around(model.mean.numpy(), model.faces)


class Registration:
    """The shipped model laid onto another model's mean; all in the other's frame, mm.

    landmarks: iBUG order; used: those to go by, 0 to 67. seen: the vertices that show from around,
    where they are known already.
    points: where the shipped model's vertices (subdivided once) came to lie.
    """

    def __init__(
        self,
        mean: Float[np.ndarray, "vertex 3"],
        faces: Int[Tensor, "face 3"],
        landmarks: Int[np.ndarray, " 68"],
        used: Int[np.ndarray, " used"] = INNER,
        seen: Bool[np.ndarray, " vertex"] | None = None,
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
        rest = (target - ours)[used][first]
        # Gaussians alone: a thin-plate spline's linear part carries the landmarks' errors outwards,
        # where it moved the jaw by 12 mm
        bend = RBFInterpolator(
            spots, rest, kernel="gaussian", epsilon=1 / BEND_MM, degree=-1, smoothing=smoothing
        )
        self.points = fitted + bend(fitted)

    # The fit ------------------------------------------------------------------------------------

    def _fit(self, target: np.ndarray, used: np.ndarray) -> Float[np.ndarray, "shipped 3"]:
        """Where the fitted shipped model's vertices lie: point to plane, and the landmarks."""
        coarse = MorphableModel.load(shipped_model_path(), subdivision=0, albedo="monk")
        mean, basis = coarse.mean.double().numpy(), coarse.identity_basis.double().numpy()
        landmarks = coarse.landmarks.numpy()[used]
        r = {name: mask.numpy() for name, mask in coarse.regions.items()}
        hidden = r["mouth_interior"] + r["eyeballs"] + r["border"] > 0.5
        skin = np.flatnonzero(self.shipped_seen[: len(mean)] & ~hidden)
        there = np.flatnonzero(self.seen)
        tree = cKDTree(np.c_[self.mean, NORMAL_MM * self.normals][there])
        scale, turn, shift = similarity(mean[landmarks], target[used])
        weights, modes = np.zeros(len(basis)), len(basis)
        for _ in range(ROUNDS):
            posed = scale * (mean + np.tensordot(weights, basis, 1)) @ turn.T + shift
            normals = normals_of(posed, coarse.faces)
            _, nearest = tree.query(np.c_[posed, NORMAL_MM * normals][skin])
            goal, plane = self.mean[there[nearest]], self.normals[there[nearest]]
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

    def _shipped_region(self, name: str) -> Bool[np.ndarray, " shipped"]:
        return self.shipped.regions[name].numpy() > 0.5

    # What is what -------------------------------------------------------------------------------

    @cached_property
    def kind(self) -> Int[np.ndarray, " vertex"]:
        """Of each vertex: 0 on the piece that the face is, 1 on an eyeball, 2 inside the mouth."""
        piece = pieces(self.faces.numpy(), len(self.mean))
        _, nearest = cKDTree(self.points).query(self.mean)
        mouth = self._shipped_region("mouth_interior")[nearest]
        kind = np.zeros(len(self.mean), int)
        for number in np.unique(piece[self.faces.numpy()]):
            here = piece == number
            if number == np.bincount(piece).argmax():
                continue
            if any(self._is_eye(self.mean[here], side) for side in self._eyes):
                kind[here] = 1
            elif mouth[here].mean() > 0.5:
                kind[here] = 2
        return kind

    @cached_property
    def _eyes(self) -> list[tuple[Bool[np.ndarray, " shipped"], Float[np.ndarray, " 3"], float]]:
        """Each shipped eyeball: its vertices, and its sphere where it came to lie."""
        eye = self._shipped_region("eyeballs")
        sides = [eye & (self.shipped.mean[:, 0].numpy() * sign > 0) for sign in (-1, 1)]
        return [(side, *sphere(self.points[side])) for side in sides]

    def _is_eye(self, points: np.ndarray, eye: tuple) -> bool:
        _, centre, radius = eye
        away = np.linalg.norm(points - centre, axis=1)
        return away.max() < 1.6 * radius and np.linalg.norm(points.mean(0) - centre) < 1.1 * radius

    @cached_property
    def match(self) -> sparse.csr_array:
        """(V, shipped) the weights that each vertex takes its values with; rows sum to 1."""
        eyeball, mouth = map(self._shipped_region, ("eyeballs", "mouth_interior"))
        here = np.c_[self.mean, NORMAL_MM * self.normals]
        there = np.c_[self.points, NORMAL_MM * normals_of(self.points, self.shipped.faces)]
        skin = ~mouth & ~eyeball if (self.kind == 1).any() else ~mouth
        jobs = [
            ((self.kind == 0) & self.seen, skin & self.shipped_seen, here, there),
            ((self.kind == 0) & ~self.seen, ~eyeball, here, there),
            (self.kind == 2, mouth, here, there),
        ]
        for side, centre, radius in self._eyes:
            mine = (self.kind == 1) & (np.linalg.norm(self.mean - centre, axis=1) < 2 * radius)
            if mine.any():
                ball, size = sphere(self.mean[mine])
                ball = ball if EYE_RADIUS[0] < size < EYE_RADIUS[1] else centre
                ours = [self.mean - ball, self.points - centre]  # by the angle from the gaze
                ours = [20 * x / np.linalg.norm(x, axis=1, keepdims=True) for x in ours]
                jobs.append((mine, side, *ours))
        rows, columns, values = [], [], []
        for mine, theirs, at, places in jobs:
            theirs = np.flatnonzero(theirs)
            if not mine.any():
                continue
            away, nearest = cKDTree(places[theirs]).query(at[mine], NEIGHBOURS)
            weight = 1 / (away**2 + 0.05)
            rows.append(np.repeat(np.flatnonzero(mine), NEIGHBOURS))
            columns.append(theirs[nearest].ravel())
            values.append((weight / weight.sum(1, keepdims=True)).ravel())
        place = (np.concatenate(rows), np.concatenate(columns))
        shape = (len(self.mean), len(self.points))
        return sparse.csr_array((np.concatenate(values), place), shape)

    def carry(self, values: torch.Tensor) -> Float[np.ndarray, "vertex channel"]:
        """Values (shipped, C) of the shipped model's vertices, at the other's."""
        return self.match @ values.double().numpy()

    # What is carried ----------------------------------------------------------------------------

    def regions(self) -> dict[str, Float[np.ndarray, " vertex"]]:
        """The shipped model's regions; "border" too: of the mesh's own outline, see `border`."""
        names = list(self.shipped.regions)
        values = self.carry(torch.stack([self.shipped.regions[n] for n in names], 1))
        regions = dict(zip(names, values.clip(0, 1).T, strict=True))
        return regions

    def border(self, part: Part, mean: Float[np.ndarray, "cut 3"]) -> Float[np.ndarray, " cut"]:
        """1 on the outline of a part of the mesh, falling to 0 at BORDER_MM; 0 off its skin."""
        skin = part.apply((self.seen & (self.kind == 0)).astype(float)[:, None])[:, 0] > 0.5
        pairs = boundary_edges(torch.as_tensor(part.faces)).numpy()
        pairs = pairs[skin[pairs].all(1)]
        loop = pieces(pairs[:, [0, 1, 1]], len(mean))
        rim = np.unique(pairs)
        if not len(rim):
            return np.zeros(len(mean))
        size = {k: np.ptp(mean[rim[loop[rim] == k]], axis=0).max() for k in np.unique(loop[rim])}
        outline = rim[loop[rim] == max(size, key=size.get)]
        away, _ = cKDTree(mean[outline]).query(mean)
        return np.clip(1 - away / BORDER_MM, 0, 1) * skin

    def albedo(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (V, 3), basis (K, V, 3) and samples of one of the shipped albedo bases."""
        m = MorphableModel.load(shipped_model_path(), subdivision=1, albedo=name)
        basis = np.stack([self.carry(mode) for mode in m.albedo_basis])
        return self.carry(m.albedo_mean), basis, m.albedo_samples.numpy()

    def beyond_border(self) -> Float[np.ndarray, " vertex"]:
        """Degrees beyond the shipped face's outline, seen from inside the head; negative within."""
        pairs = boundary_edges(self.shipped.faces).unique().numpy()
        outline = self.points[pairs[self._shipped_region("border")[pairs]]]
        ears = self.points[self.shipped.landmarks[[0, 16]]]
        centre = ears.mean(0)
        turn, angle = _polar(outline - centre)
        order = turn.argsort()
        turn, angle = turn[order], angle[order]
        here, mine = _polar(self.mean - centre)
        angle = (angle + np.interp(-turn, turn, angle, period=2 * np.pi)) / 2  # both sides alike
        return np.degrees(mine - np.interp(here, turn, angle, period=2 * np.pi))


def _polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction around the view axis, and angle from it, radians."""
    x, y, z = points.T
    return np.arctan2(x, y), np.arctan2(np.hypot(x, y), z)
