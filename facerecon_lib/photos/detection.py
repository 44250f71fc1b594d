"""From a photo to a face box and 68 landmarks.

    photo = load_image("me.jpg")
    detection = detect(photo)                            # the largest face; face=2 is the next one
    crop = align(photo.pixels, detection.landmarks)      # 224 x 224, float in [0, 1]

Boxes come from MTCNN (Zhang et al., 2016), the 68 landmarks in the iBUG order from face-alignment
(Bulat and Tzimiropoulos, 2017) where its weights are at hand, else from dlib's regression trees
(Kazemi and Sullivan, 2014), whose training data, iBUG 300-W, is for research only. Every coordinate
is in photo pixels and continuous: a pixel's centre is + 0.5. Notebook 10, section 2.1.
"""

import json
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from ..face.landmarks68 import FIVE
from .landmarks import DetectionError, choose_detector, find_landmarks, stretched
from .reading import Photo, Pixels, load_image

ASSETS = Path(__file__).parents[1] / "assets"
SEARCH_SIZES = (1280, 2560)  # longest side searched; the second only if the first finds nothing
QUICK_SIZE, QUICK_SMALLEST = 320, 50  # px: longest side of a quick search, and its smallest face
ROOM = 0.25  # edge pixels repeated around the photo, as a share of its longer side
# MTCNN's score of an upright face is above 0.999; a face on its side or its head gives false boxes
# of up to 0.996. Further faces count from OTHERS on, and nothing below LEAST is called a face.
CERTAIN, OTHERS, LEAST = 0.999, 0.98, 0.9


@dataclass
class FaceBox:
    """A face as MTCNN finds it."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1
    points: Float32[np.ndarray, "5 2"]  # eyes, nose tip, mouth corners; the viewer's left first
    score: float  # 0 to 1
    turned: int = 0  # degrees counterclockwise that the photo was turned by to find it


@dataclass
class Detection:
    """One face of a photo, and its landmarks."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1, as MTCNN gives it
    landmarks: Float32[np.ndarray, "68 2"]
    detector: str  # of the landmarks: "dlib" or "face-alignment"
    kind: str  # "2d": points 1 to 17 follow the visible outline; "3d": they are fixed to the face
    faces_found: int
    score: float  # MTCNN's confidence, 0 to 1
    face: int = 1  # which of them this is, 1 the largest
    turned: int = 0  # as of FaceBox
    faces: list[FaceBox] = field(default_factory=list)  # of the photo, this one first
    scatter: float | None = None  # of repeated guesses at the landmarks: see `find_landmarks`


def detect_faces(pixels: Pixels, device: str = "cpu", quick: bool = False) -> list[FaceBox]:
    """All faces, largest first, in the coordinates of the photo as it is; empty when there is none.

    The photo is searched as it is; unless that finds a certain face, also brightened, turned by
    quarters, and in finer detail, and the search with the best score counts. quick: searches a
    quarter of the size first. The five points differ by 1 % of the box, and faces below 15 % of the
    photo go unseen beside larger ones.
    """
    coarse, fine = (QUICK_SIZE, SEARCH_SIZES[0]) if quick else SEARCH_SIZES
    stages = [(coarse, (0,), False), (coarse, (0,), True), (coarse, (1, 2, 3), False)]
    stages += [(fine, (0,), False)] if max(pixels.shape[:2]) > coarse else []
    best, best_score, best_turn = [], LEAST, 0
    for longest, turns, brighten in stages:
        if best_score >= (OTHERS if longest == fine else CERTAIN):
            continue
        for quarters in turns:
            view = np.ascontiguousarray(np.rot90(pixels, quarters))
            faces = _search(stretched(view) if brighten else view, longest, device)
            score = max((face.score for face in faces), default=0.0)
            if score > best_score:
                best, best_score, best_turn = faces, score, quarters
    faces = [face for face in best if face.score >= min(best_score, OTHERS)]
    return [_turn_back(face, best_turn, pixels.shape) for face in faces]


def _search(pixels: np.ndarray, longest: int, device: str) -> list[FaceBox]:
    """MTCNN on a copy of the photo between 256 and `longest` pixels, largest face first."""
    height, width = pixels.shape[:2]
    scale = min(longest / max(height, width), max(1.0, 256 / max(height, width)))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    # MTCNN squeezes a box that leaves the photo instead of padding it, which misplaces the five
    # points of a face near the border by half a face: so the photo gets room around it.
    pad = max(round(ROOM * max(size)), 32)
    small = np.pad(small, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    smallest = {QUICK_SIZE: QUICK_SMALLEST, SEARCH_SIZES[1]: 20}
    network = _mtcnn_on(device)
    network.min_face_size = smallest.get(longest, max(20, round(0.03 * max(size))))
    threads = torch.get_num_threads()
    try:
        # Its convolutions are small: on a busy machine two threads took 10 times as long as one.
        torch.set_num_threads(1)
        boxes, scores, points = network.detect(small, landmarks=True)
    except RuntimeError as error:  # facenet-pytorch joins an empty list when no window is left
        if "non-empty" not in str(error):
            raise
        return []
    finally:
        torch.set_num_threads(threads)
    if boxes is None:
        return []
    ratio = np.array([width / size[0], height / size[1]])
    boxes = (np.asarray(boxes, float).reshape(-1, 2, 2) - pad) * ratio
    points = (np.asarray(points, float) + 0.5 - pad) * ratio
    faces = [
        FaceBox(box.reshape(4).astype(np.float32), five.astype(np.float32), float(score))
        for box, five, score in zip(boxes, points, scores, strict=True)
    ]
    return sorted(faces, key=lambda f: -(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))


def _turn_back(face: FaceBox, quarters: int, shape: tuple[int, ...]) -> FaceBox:
    """From the coordinates of `np.rot90(photo, quarters)` to those of the photo."""
    height, width = shape[:2]
    x, y = np.concatenate([face.box.reshape(2, 2), face.points]).T
    turned = [(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarters]
    points = np.stack(turned, -1).astype(np.float32)
    box = np.concatenate([points[:2].min(0), points[:2].max(0)])
    return FaceBox(box, points[2:], face.score, 90 * quarters)


@lru_cache(maxsize=2)
def _mtcnn_on(device: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.load, about how its weights were saved
        try:
            from facenet_pytorch import MTCNN
        except ImportError as error:
            raise DetectionError(
                f"faces are found by facenet-pytorch, which does not import ({error}); "
                "install it with: pip install --no-deps facenet-pytorch"
            ) from None
        return MTCNN(keep_all=True, device=torch.device(device))


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
    box = faces[number - 1]
    landmarks, kind, scatter = find_landmarks(pixels, box.points, detector, device)
    others = [other for other in faces if other is not box]
    which = (len(faces), box.score, number, box.turned)
    return Detection(box.box, landmarks, detector, kind, *which, [box, *others], scatter)


def sample_photo() -> Photo:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    return load_image(ASSETS / "astronaut.jpg")


def sample_detection() -> Detection:
    """The sample photo's stored face and landmarks: needs no detector."""
    stored = json.loads((ASSETS / "astronaut_landmarks.json").read_text())
    box, landmarks = (np.array(stored[name], dtype=np.float32) for name in ("box", "landmarks"))
    names = ("detector", "kind", "faces_found", "score")
    five = np.stack([landmarks[part].mean(0) for part in FIVE])  # no detector's are stored
    faces = [FaceBox(box, five, stored["score"])]
    return Detection(box, landmarks, *(stored[name] for name in names), faces=faces)
