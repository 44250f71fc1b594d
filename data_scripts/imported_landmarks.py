"""The 68 landmarks of a face model that names none: found on renderings of its mean.

    landmarks = find_landmarks(mean, faces, colours)         # (68,) vertices, iBUG order
    landmarks = read_landmarks(Path("points.txt"), vertices) # or from a file of 68 numbers

The mean is rendered turned by -30, 0 and 30 degrees, once as it is and once more, larger, in the
skin that the first result lets it borrow (a face without brows has none to be found). Rays through
the detector's points meet the surface; each point is the middle of its three places. Points 1 to
17 mark an outline in a picture, not a place: they come from the shipped model, laid onto the mesh.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from carried_over import INNER, LOOSE, Registration, pieces
from jaxtyping import Float, Int
from mesh_views import MeshView, seen_from_around
from scipy.spatial import cKDTree
from torch import Tensor

from facerecon_lib.detection import DetectionError, detect
from facerecon_lib.landmarks import MIRROR_68

YAWS = (-30, 0, 30)  # degrees
PLAIN_SKIN = (0.80, 0.62, 0.52)  # sRGB, where the model has no colours
FACE_MM = 115.0  # from the middle of the face to the edge of the second, larger picture
MIDLINE = np.flatnonzero(np.arange(68) == MIRROR_68)
SURE = np.arange(27, 68)  # nose, eyes and mouth: what a face without brows has


class ImportModelError(ValueError):
    """A model that cannot be imported: one line that says what is wrong and what to do."""


def read_landmarks(path: Path, count: int) -> Int[np.ndarray, " 68"]:
    """68 of the source's vertex numbers, counted from 0: a .json list, or numbers in a text."""
    try:
        text = path.read_text(encoding="utf-8")
        numbers = json.loads(text) if path.suffix == ".json" else text.replace(",", " ").split()
        landmarks = np.array([int(str(n)) for n in numbers])
    except OSError as error:
        reason = error.strerror or error
        raise ImportModelError(f"--landmarks {path}: cannot be read ({reason})") from None
    except (ValueError, TypeError):
        raise ImportModelError(
            f"--landmarks {path}: expected 68 whole numbers, as text or as a JSON list"
        ) from None
    if landmarks.shape != (68,):
        raise ImportModelError(f"--landmarks {path}: expected 68 numbers, got {landmarks.size}")
    if landmarks.min() < 0 or landmarks.max() >= count:
        raise ImportModelError(
            f"--landmarks {path}: names vertices {landmarks.min()} to {landmarks.max()}, but the "
            f"source's are 0 to {count - 1}"
        )
    return landmarks


def find_landmarks(
    mean: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    colours: Float[np.ndarray, "vertex 3"] | None = None,
) -> Int[np.ndarray, " 68"]:
    """The 68 landmarks as vertices of the mesh that show, none on an eyeball or a tooth.

    mean: mm, +y up, +z out of the face. colours: sRGB in [0, 1]; None: plain skin, then the shipped
    model's. Raises ImportModelError where no face is found, DetectionError without a detector.
    """
    mean, shown = np.array(mean, float), torch.as_tensor(np.array(faces, np.int64))
    skin = np.tile(PLAIN_SKIN, (len(mean), 1)) if colours is None else colours
    seen = seen_from_around(mean, shown)
    piece = pieces(faces, len(mean))
    usable = np.flatnonzero(seen & (piece == np.bincount(piece[faces[:, 0]]).argmax()))
    tree = cKDTree(mean[usable])

    def vertices(places: np.ndarray) -> np.ndarray:
        return usable[tree.query(places)[1]]

    places = _on_surface(mean, shown, skin)
    if colours is None:
        skin, _, _ = Registration(mean, shown, vertices(places), SURE, seen, LOOSE).albedo("monk")
    places = _on_surface(mean, shown, skin, places[INNER].mean(0))
    here = Registration(mean, shown, vertices(places), INNER, seen, LOOSE)
    places[:17] = here.points[here.shipped.landmarks[:17]]
    return vertices(_symmetric(places))


def _symmetric(places: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """The mean of the points and their mirror images: a mean face has two sides alike."""
    aside = places[MIDLINE, 0].mean()
    mirrored = places[MIRROR_68] * [-1, 1, 1] + [2 * aside, 0, 0]
    return (places + mirrored) / 2


def _on_surface(
    mean: np.ndarray, faces: Tensor, skin: np.ndarray, middle: np.ndarray | None = None
) -> Float[np.ndarray, "68 3"]:
    """Where the three views' rays meet the mesh: the median of their places, mm."""
    found = []
    for yaw in YAWS:
        view = MeshView(mean, faces, yaw, middle=middle, reach=FACE_MM)
        picture = view.picture(skin)
        try:
            points = _both_ways(picture)
        except DetectionError as error:
            if "no face" not in str(error):
                raise
            raise ImportModelError(
                f"no face is found on a rendering of the mean at {yaw} degrees: is it upright (+y "
                "up), looking along +z, in millimetres? If so, name the points: --landmarks FILE"
            ) from None
        found.append(view.surface_at(points))
    return np.median(found, 0)


def _both_ways(picture: np.ndarray) -> Float[np.ndarray, "68 2"]:
    """The detector's points, averaged with those of the mirrored picture."""
    points = detect(picture).landmarks
    mirrored = detect(np.ascontiguousarray(picture[:, ::-1])).landmarks[MIRROR_68]
    mirrored[:, 0] = picture.shape[1] - mirrored[:, 0]
    return (points + mirrored) / 2
