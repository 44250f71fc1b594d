"""From a photo to a face: its box, 478 points and 68 landmarks.

    photo = load_image("me.jpg")
    detection = detect(photo)                            # the largest face; face=2 is the next one
    crop = align(photo.pixels, detection.landmarks)      # 224 x 224, float in [0, 1]

The face is found by `face_search`, its points by `face_mesh`; the 68 landmarks in the iBUG order by
face-alignment (Bulat and Tzimiropoulos, 2017) where its weights are at hand, else by dlib's
regression trees (Kazemi and Sullivan, 2014), whose training data, iBUG 300-W, is for research only.
Every coordinate is in photo pixels and continuous: a pixel's centre is + 0.5. Notebook 10, section
2.1.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ..face.landmarks68 import FIVE
from .face_mesh import face_points, five_points
from .face_search import FaceBox, detect_faces
from .landmarks import DetectionError, choose_detector, find_landmarks
from .reading import Photo, Pixels, load_image

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass
class Detection:
    """One face of a photo, its points and its landmarks."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1, as of FaceBox
    points: Float32[np.ndarray, "478 2"]  # as of `face_points`
    landmarks: Float32[np.ndarray, "68 2"]
    detector: str  # of the landmarks: "dlib" or "face-alignment"
    kind: str  # "2d": points 1 to 17 follow the visible outline; "3d": they are fixed to the face
    faces_found: int
    score: float  # 0 to 1, the lower one of the search and the mesh
    face: int = 1  # which of them this is, 1 the largest
    turned: int = 0  # as of FaceBox
    faces: list[FaceBox] = field(default_factory=list)  # of the photo, this one first
    scatter: float | None = None  # of repeated guesses at the landmarks: see `find_landmarks`


def detect(
    photo: Photo | Pixels,
    face: int | None = None,
    detector: str | None = None,
    allow_download: bool = False,
    device: str = "cpu",
) -> Detection:
    """One face of the photo and its 68 landmarks: number `face`, 1 (the largest) if None.

    `detector` is "face-alignment", "dlib", or None: the first whose weights are on this machine.
    Nothing is downloaded unless `allow_download`. Raises `DetectionError`, one line.
    """
    photo = photo if isinstance(photo, Photo) else Photo(np.asarray(photo))
    name, pixels, number = photo.name, photo.pixels, 1 if face is None else face
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DetectionError(
            f"{name}: expected uint8 pixels of shape (height, width, 3), got {pixels.dtype} "
            f"{pixels.shape}; read the photo with load_image"
        )
    detector = choose_detector(detector, allow_download)
    faces = detect_faces(pixels, device)
    if faces and number > len(faces):
        faces = detect_faces(pixels, device, thorough=True)
    if not faces:
        raise DetectionError(
            f"{name}: no face found in {photo.width} x {photo.height} pixels; try a photo with "
            "the face larger, upright, lit, and turned less than 60 degrees to the side"
        )
    if not 1 <= number <= len(faces):
        raise DetectionError(
            f"{name}: has {len(faces)} face{'s' * (len(faces) > 1)}, no face {number}; "
            f"choose 1 (the largest) to {len(faces)}"
        )
    box, points = look_closer(pixels, faces[number - 1], device)
    landmarks, kind, scatter = find_landmarks(pixels, box.points, detector, device)
    others = [other for other in faces if other is not faces[number - 1]]
    which = (len(faces), box.score, number, box.turned)
    return Detection(box.box, points, landmarks, detector, kind, *which, [box, *others], scatter)


def look_closer(
    pixels: Pixels, face: FaceBox, device: str = "cpu"
) -> tuple[FaceBox, Float32[np.ndarray, "478 2"]]:
    """The face with the mesh's five points and the lower of both scores, and the mesh's points."""
    mesh = face_points([pixels], [face.points], device)
    score = min(face.score, float(mesh.score[0]))
    return replace(face, points=five_points(mesh.points[0]), score=score), mesh.points[0]


def sample_photo() -> Photo:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    return load_image(ASSETS / "astronaut.jpg")


def sample_detection() -> Detection:
    """The sample photo's stored face and landmarks, and its points: needs no search."""
    stored = json.loads((ASSETS / "astronaut_landmarks.json").read_text())
    box, landmarks = (np.array(stored[name], dtype=np.float32) for name in ("box", "landmarks"))
    names = ("detector", "kind", "faces_found", "score")
    five = np.stack([landmarks[part].mean(0) for part in FIVE])
    face, points = look_closer(sample_photo().pixels, FaceBox(box, five, stored["score"]))
    return Detection(box, points, landmarks, *(stored[name] for name in names), faces=[face])
