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
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from .face_mesh import FaceMesh, face_points
from .face_search import FaceBox, detect_faces
from .landmarks import MESH, DetectionError, choose_detector, find_landmarks, landmarks_from
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
    box, mesh = look_closer(pixels, faces[number - 1], device)
    landmarks, kind = find_landmarks(pixels, mesh.points[0], detector, device)
    others = [other for other in faces if other is not faces[number - 1]]
    which = (len(faces), box.score, number, box.turned, [box, *others])
    scatter = float(mesh.scatter[0])
    return Detection(box.box, mesh.points[0], landmarks, detector, kind, *which, scatter)


def look_closer(pixels: Pixels, face: FaceBox, device: str = "cpu") -> tuple[FaceBox, FaceMesh]:
    """The face with the lower of both scores, and the mesh of its points."""
    mesh = face_points([pixels], [face.points], device)
    return replace(face, score=min(face.score, float(mesh.score[0]))), mesh


def sample_photo() -> Photo:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    return load_image(ASSETS / "astronaut.jpg")


def sample_detection() -> Detection:
    """The sample photo's stored face and points: needs no search."""
    stored = json.loads((ASSETS / "astronaut_points.json").read_text())
    box, five, points = (np.array(stored[name], np.float32) for name in ("box", "five", "points"))
    face = FaceBox(box, five, stored["score"])
    which = (1, face.score, 1, 0, [face], stored["scatter"])
    return Detection(box, points, landmarks_from(points), MESH, "3d", *which)
