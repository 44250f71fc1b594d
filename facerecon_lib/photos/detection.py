"""From a photo to a face: its box, 478 points and 68 landmarks.

    photo = load_image("me.jpg")
    detection = detect(photo)                            # the largest face; face=2 is the next one
    crop = align(photo.pixels, detection.landmarks)      # 224 x 224, float in [0, 1]

The face is found by `face_search`, its points by `face_mesh`, and the 68 landmarks in the iBUG
order are means of these. Those of face-alignment (Bulat and Tzimiropoulos, 2017) or of dlib's trees
(Kazemi and Sullivan, 2014) can be had instead, by name. Every coordinate is in photo pixels and
continuous: a pixel's centre is + 0.5. Notebook 10, section 2.1.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from .face_mesh import face_points
from .face_search import FaceBox, detect_faces, find_faces
from .landmarks import MESH, DetectionError, choose_detector, find_landmarks
from .reading import Photo, Pixels, load_image

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass
class Detection:
    """One face of a photo, its points and its landmarks."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1, as of FaceBox
    points: Float32[np.ndarray, "478 2"]  # as of `face_points`
    landmarks: Float32[np.ndarray, "68 2"]
    detector: str  # of the landmarks: "face-mesh", "face-alignment" or "dlib"
    kind: str  # "2d": points 1 to 17 follow the visible outline; "3d": they are fixed to the face
    faces_found: int
    score: float  # 0 to 1, the lower one of the search and the mesh
    face: int = 1  # which of them this is, 1 the largest
    turned: int = 0  # as of FaceBox
    faces: list[FaceBox] = field(default_factory=list)  # of the photo, this one first
    scatter: float = 0.0  # of the points' guesses: see FaceMesh


def detect(
    photo: Photo | Pixels,
    face: int | None = None,
    detector: str | None = None,
    allow_download: bool = False,
    device: str = "cpu",
) -> Detection:
    """One face of the photo and its 68 landmarks: number `face`, 1 (the largest) if None.

    `detector` of the landmarks: "face-mesh" (None), "face-alignment" or "dlib". Nothing is
    downloaded unless `allow_download`. Raises `DetectionError`, one line.
    """
    photo = photo if isinstance(photo, Photo) else Photo(np.asarray(photo))
    (found,) = detect_each([photo], face, choose_detector(detector, allow_download), device)
    if isinstance(found, DetectionError):
        raise found
    return found


def detect_each(
    photos: Sequence[Photo], face: int | None = None, detector: str = MESH, device: str = "cpu"
) -> list[Detection | DetectionError]:
    """`detect` on a batch of photos: the face of each, or the error that says why it has none."""
    wrong = [_unlike_a_photo(photo) for photo in photos]
    right = [photo for photo, error in zip(photos, wrong, strict=True) if error is None]
    search = iter(find_faces([photo.pixels for photo in right], device) if right else ())
    result = [
        error or _choose(photo, face, next(search), device)
        for photo, error in zip(photos, wrong, strict=True)
    ]
    chosen = {i: faces for i, faces in enumerate(result) if isinstance(faces, list)}
    if not chosen:
        return result
    pixels = [photos[i].pixels for i in chosen]
    mesh = face_points(pixels, [faces[0].points for faces in chosen.values()], device)
    for row, (i, faces) in enumerate(chosen.items()):
        points, score = mesh.points[row], min(faces[0].score, float(mesh.score[row]))
        landmarks, kind = find_landmarks(photos[i].pixels, points, detector, device)
        faces[0] = replace(faces[0], score=score)
        which = (len(faces), score, face or 1, faces[0].turned, faces, float(mesh.scatter[row]))
        result[i] = Detection(faces[0].box, points, landmarks, detector, kind, *which)
    return result


def _unlike_a_photo(photo: Photo) -> DetectionError | None:
    pixels = photo.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return None
    return DetectionError(
        f"{photo.name}: expected uint8 pixels of shape (height, width, 3), got {pixels.dtype} "
        f"{pixels.shape}; read the photo with load_image"
    )


def _choose(
    photo: Photo, face: int | None, faces: list[FaceBox], device: str
) -> list[FaceBox] | DetectionError:
    """The faces of a photo, the one asked for first. faces: those that `find_faces` saw."""
    name, number = photo.name, 1 if face is None else face
    try:
        seen = detect_faces(photo.pixels, device, faces=faces)
        if seen and number > len(seen):
            seen = detect_faces(photo.pixels, device, True, faces)
    except DetectionError as error:  # MTCNN is not installed
        return error
    if not seen:
        return DetectionError(
            f"{name}: no face found in {photo.width} x {photo.height} pixels; try a photo with "
            "the face larger, upright, lit, and turned less than 60 degrees to the side"
        )
    if not 1 <= number <= len(seen):
        return DetectionError(
            f"{name}: has {len(seen)} face{'s' * (len(seen) > 1)}, no face {number}; "
            f"choose 1 (the largest) to {len(seen)}"
        )
    return [seen.pop(number - 1), *seen]


def sample_photo() -> Photo:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    return load_image(ASSETS / "astronaut.jpg")


def sample_detection() -> Detection:
    """The sample photo's stored face and points, with dlib's landmarks, "2d": needs no search."""
    stored = json.loads((ASSETS / "astronaut_landmarks.json").read_text())
    places = ("box", "five", "points", "landmarks")
    box, five, *points = (np.array(stored[name], np.float32) for name in places)
    face, which = FaceBox(box, five, stored["score"]), (stored["detector"], stored["kind"], 1)
    return Detection(box, *points, *which, face.score, faces=[face], scatter=stored["scatter"])
