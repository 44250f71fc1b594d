"""The 68 landmarks of a face model that names none, or not all of them.

    landmarks = find_landmarks(mean, faces, colours)         # (68,) vertices, iBUG order
    landmarks = read_landmarks(Path("points.txt"), vertices) # or from a file of 68 numbers

Rays through a detector's points on three renderings of the mean meet the surface. The detector's
habits (4 mm on the shipped model's inner 51 points, 8 mm on brows without colour) are measured on
that model and taken off. Then it is laid onto the mesh by those points, and its landmarks' places
are returned: all 68 by one definition.

Notebook 01, Eq. 1.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree

from face_models import Faces, Landmarks, Triangles, Vertices
from face_models.mesh_views import MeshView, pieces, seen_from_around
from face_models.registration import CLOSE, INNER_POINTS, LOOSE, LaidOn, shipped_face
from face_models.tables import ImportModelError
from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.photos.detection import detect
from facerecon_lib.photos.landmarks import DetectionError

YAWS = (-30, 0, 30)  # degrees
PLAIN_SKIN = (0.80, 0.62, 0.52)  # sRGB, where the model has no colours
MIDLINE = np.flatnonzero(np.arange(68) == MIRROR_68)
SURE = np.arange(27, 68)  # nose, eyes and mouth: what a face without brows has
NONE_GIVEN = np.full(68, -1)


def read_landmarks(path: Path, count: int) -> Landmarks:
    """68 of the source's vertex numbers, counted from 0: a .json list, or numbers in a text."""
    try:
        text = path.read_text(encoding="utf-8")
        numbers = json.loads(text) if path.suffix == ".json" else text.replace(",", " ").split()
        landmarks = np.array([int(str(n)) for n in numbers])
        low, high = (landmarks.min(), landmarks.max()) if landmarks.size else (0, 0)
        if landmarks.shape != (68,):
            fault = f"expected 68 numbers, got {landmarks.size}"
        elif low < 0 or high >= count:
            fault = f"names vertices {low} to {high}, but the source's are 0 to {count - 1}"
        else:
            return landmarks
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
    except (ValueError, TypeError):
        fault = "expected 68 whole numbers, as text or as a JSON list"
    raise ImportModelError(f"--landmarks {path}: {fault}")


def find_landmarks(
    mean: Vertices, faces: Faces, colours: Vertices | None = None, given: Landmarks = NONE_GIVEN
) -> Landmarks:
    """The 68 landmarks as vertices of the mesh that show, none on an eyeball or a tooth.

    mean: mm, +y up, +z out of the face. colours: sRGB in [0, 1]; None: plain skin. given: landmarks
    of the source, -1 elsewhere; with points 18 to 68 nothing is rendered.
    Raises ImportModelError where no face is found, DetectionError without a detector.
    """
    mean, triangles = np.array(mean, float), torch.as_tensor(np.array(faces, np.int64))
    seen = seen_from_around(mean, triangles)
    piece = pieces(faces, len(mean))
    usable = np.flatnonzero(seen & (piece == np.bincount(piece[faces[:, 0]]).argmax()))
    tree = cKDTree(mean[usable])
    fixed, points, smoothing, used = given >= 0, given, CLOSE, INNER_POINTS
    if colours is None:
        used = np.union1d(SURE, INNER_POINTS[fixed[INNER_POINTS]])
    if not fixed[INNER_POINTS].all():
        places = marked(mean, triangles, colours) - habits(colours is None)
        points, smoothing = np.where(fixed, given, usable[tree.query(places)[1]]), LOOSE
    laid_on = LaidOn(mean, triangles, points, used, seen, smoothing)
    carried = _symmetric(laid_on.points[laid_on.shipped.landmarks])
    return np.where(fixed, given, usable[tree.query(carried)[1]])


@lru_cache
def habits(plain: bool) -> Float[np.ndarray, "68 3"]:
    """How far from the shipped model's landmarks the detector marks its mean, mm; in plain skin?"""
    shipped, _ = shipped_face()
    mean = shipped.mean.double().numpy()
    places = marked(mean, shipped.faces, None if plain else shipped.albedo_mean.numpy())
    return places - mean[shipped.landmarks]


def marked(mean: Vertices, faces: Triangles, colours: Vertices | None) -> Float[np.ndarray, "68 3"]:
    """Where the detector's points lie on the mesh, mm: the median of the views, symmetric."""
    skin = np.tile(PLAIN_SKIN, (len(mean), 1)) if colours is None else colours
    views = []
    for yaw in YAWS:
        view = MeshView(mean, faces, yaw)
        try:
            points = _both_ways(view.picture(skin))
        except DetectionError as error:
            if "no face" not in str(error):
                raise
            fault = f"no face is found on a rendering of the mean at {yaw} degrees"
            todo = "is it upright (+y up), looking along +z, in millimetres? If so, name the points"
            raise ImportModelError(f"{fault}: {todo}: --landmarks FILE") from None
        views.append(view.surface_at(points))
    return _symmetric(np.median(views, 0))


def _symmetric(places: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """The mean of the points and their mirror images: a mean face has two sides alike."""
    aside = places[MIDLINE, 0].mean()
    mirrored = places[MIRROR_68] * [-1, 1, 1] + [2 * aside, 0, 0]
    return (places + mirrored) / 2


def _both_ways(picture: np.ndarray) -> Float[np.ndarray, "68 2"]:
    """The detector's points, averaged with those of the mirrored picture."""
    points = detect(picture).landmarks
    mirrored = detect(np.ascontiguousarray(picture[:, ::-1])).landmarks[MIRROR_68]
    mirrored[:, 0] = picture.shape[1] - mirrored[:, 0]
    return (points + mirrored) / 2
