"""What another face model lacks, carried over from the one that ships: regions and skin colours.

    carried = CarriedOver(mean, faces, landmarks)          # the other model's mean, mm
    regions, skin = carried.regions(), carried.skin        # (V,) in [0, 1] each; (V,) bool
    mean, basis, samples = carried.albedo("monk")

The shipped model is laid onto the other mean. Then every vertex takes what is nearest of its own
kind: skin that shows from skin that shows, eyeballs from eyeballs, a tooth from teeth, and what is
hidden about the mouth from the inside of the mouth.

Notebook 01, Eq. 1 and 2.
"""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.linalg import norm
from scipy import sparse
from scipy.spatial import cKDTree

from face_models import Faces, Mask, Numbers, PerVertex, Vertices
from face_models.mesh_views import pieces
from face_models.registration import NORMAL_MM, LaidOn, normals_of, shipped_model, sphere
from facerecon_lib.face.mesh import boundary_edges

NEIGHBOURS = 4
BORDER_MM = 14.0  # as wide as the shipped model's
EYE_RADIUS = (8.0, 18.0)  # mm, of what may be an eyeball
FACE, EYE, MOUTH = range(3)
AROUND_MM = (8, 8, 30)  # what is hidden so near the mouth's inside belongs to it: throats are deep
WHITE = 0.3  # teeth are bluer than that (sRGB), the rest of the mouth is not


class CarriedOver(LaidOn):
    """Which of the shipped model's vertices each vertex takes its values from, and the values.

    teeth: of the first vertices at least: which of the mouth's loose pieces are teeth. The other
    arguments are those of `LaidOn`.
    """

    def __init__(self, *args, teeth: Mask | None = None, **options):
        super().__init__(*args, **options)
        self.teeth = teeth

    @cached_property
    def kind(self) -> Numbers:
        """Of each vertex: FACE, EYE, or MOUTH and which of `_mouth_parts` its loose piece is."""
        piece = pieces(self.faces.numpy(), len(self.mean))
        _, nearest = cKDTree(self.points).query(self.mean)
        mouth = self.shipped_region("mouth_interior")[nearest]
        away = [cKDTree(self.points[part]).query(self.mean)[0] for part in self._mouth_parts]
        white = [self.shipped.albedo_mean[part, 2].median() > WHITE for part in self._mouth_parts]
        kind = np.full(len(self.mean), FACE)
        for number in np.setdiff1d(piece[self.faces.numpy()], np.bincount(piece).argmax()):
            own = np.flatnonzero(piece == number)
            rays = [(self.mean[own] - centre) / radius for _, centre, radius in self._eyes]
            if any((norm(x, axis=1) < 1.6).all() and norm(x.mean(0)) < 1.1 for x in rays):
                kind[own] = EYE
            elif mouth[own].mean() > 0.5:
                far = np.array([np.median(a[own]) for a in away])
                if self.teeth is not None:
                    tooth = self.teeth[own[own < len(self.teeth)]].mean() > 0.5
                    far[np.array(white) != tooth] = np.inf
                kind[own] = MOUTH + far.argmin()
        return kind

    @cached_property
    def _mouth_parts(self) -> list[Bool[np.ndarray, " shipped"]]:
        """The shipped mouth's inside: its lining, two rows of teeth, the tongue."""
        mouth, piece = self.shipped_region("mouth_interior"), self._shipped_pieces
        return [mouth & (piece == number) for number in np.unique(piece[mouth])]

    @cached_property
    def _shipped_pieces(self) -> Int[np.ndarray, " shipped"]:
        return pieces(self.shipped.faces.numpy(), len(self.points))

    @property
    def skin(self) -> Mask:
        """The vertices of the face that show: no eyeball, and nothing inside the mouth or head."""
        return self.seen & (self.kind == FACE)

    @cached_property
    def _eyes(self) -> list[tuple[Bool[np.ndarray, " shipped"], Float[np.ndarray, " 3"], float]]:
        """Each shipped eyeball: its vertices, and its sphere where it came to lie."""
        eye = self.shipped_region("eyeballs")
        sides = [eye & (self.shipped.mean[:, 0].numpy() * sign > 0) for sign in (-1, 1)]
        return [(side, *sphere(self.points[side])) for side in sides]

    @cached_property
    def match(self) -> sparse.csr_array:
        """(V, shipped) the weights that each vertex takes its values with; rows sum to 1."""
        eyeball, mouth = map(self.shipped_region, ("eyeballs", "mouth_interior"))
        ours = np.c_[self.mean, NORMAL_MM * self.normals]
        theirs = np.c_[self.points, NORMAL_MM * normals_of(self.points, self.shipped.faces)]
        shows = self.shipped_seen & ~mouth
        if (self.kind == EYE).any():
            shows &= ~eyeball
        piece = self._shipped_pieces
        face = piece == piece[self.shipped.landmarks[30]]
        inside = self.points[mouth]
        low, high = inside.min(0) - AROUND_MM, inside.max(0) + AROUND_MM
        deep = ((low < self.mean) & (self.mean < high)).all(1)
        hidden = (self.kind == FACE) & ~self.seen
        pairs = [(self.skin, shows), (hidden & deep, face & ~self.shipped_seen)]
        pairs += [(hidden & ~deep, face & ~mouth)]
        pairs += [(self.kind == MOUTH + k, part) for k, part in enumerate(self._mouth_parts)]
        jobs = [(mine, source, ours, theirs) for mine, source in pairs if mine.any()]
        for side, centre, radius in self._eyes:
            mine = (self.kind == EYE) & (norm(self.mean - centre, axis=1) < 2 * radius)
            if mine.any():
                ball, size = sphere(self.mean[mine])
                ball = ball if EYE_RADIUS[0] < size < EYE_RADIUS[1] else centre
                rays = [self.mean - ball, self.points - centre]  # by the angle from the gaze
                rays = [20 * x / norm(x, axis=1, keepdims=True) for x in rays]
                jobs.append((mine, side, *rays))
        entries = []
        for mine, source, at, places in jobs:
            away, nearest = cKDTree(places[source]).query(at[mine], NEIGHBOURS)
            weight = 1 / (away**2 + 0.05)
            rows = np.flatnonzero(mine).repeat(NEIGHBOURS)
            columns = np.flatnonzero(source)[nearest].ravel()
            entries.append((rows, columns, (weight / weight.sum(1, keepdims=True)).ravel()))
        rows, columns, values = map(np.concatenate, zip(*entries, strict=True))
        return sparse.csr_array((values, (rows, columns)), (len(self.mean), len(self.points)))

    def carry(self, values: torch.Tensor) -> Float[np.ndarray, "vertex channel"]:
        """Values (shipped, C) of the shipped model's vertices, at the other's."""
        return self.match @ values.double().numpy()

    def regions(self) -> dict[str, PerVertex]:
        """The shipped model's regions; its "border" too, where this mesh's is `outline`."""
        regions = self.shipped.regions
        values = self.carry(torch.stack(list(regions.values()), 1))
        return dict(zip(regions, values.clip(0, 1).T, strict=True))

    def albedo(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (V, 3), basis (K, V, 3) and samples of one of the shipped albedo bases."""
        m = shipped_model(1, name)
        basis = np.stack([self.carry(mode) for mode in m.albedo_basis])
        return self.carry(m.albedo_mean), basis, m.albedo_samples.numpy()


def outline(mean: Vertices, faces: Faces, skin: Mask) -> PerVertex:
    """1 on the mesh's longest border, falling to 0 at BORDER_MM; 0 off the skin."""
    pairs = boundary_edges(torch.as_tensor(faces)).numpy()
    pairs = pairs[skin[pairs].all(1)]
    loop = pieces(pairs, len(mean))
    rim = np.unique(pairs)
    if not len(rim):
        return np.zeros(len(mean))
    loops = [rim[loop[rim] == number] for number in np.unique(loop[rim])]
    longest = max(loops, key=lambda vertices: np.ptp(mean[vertices], axis=0).max())
    away, _ = cKDTree(mean[longest]).query(mean)
    return np.clip(1 - away / BORDER_MM, 0, 1) * skin
