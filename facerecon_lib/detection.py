"""From a photo to a face box, 68 landmarks, and the aligned crop that everything else works on.

    photo = load_image("me.jpg")
    found = detect(photo)                                # the largest face; face=2 is the next one
    crop = align(photo.pixels, found.landmarks)          # 224 x 224, float in [0, 1]
    crop_to_photo(crop.landmarks[0], crop.matrix)        # and back

Boxes come from MTCNN (Zhang et al., 2016), the 68 landmarks in the iBUG order from face-alignment
(Bulat and Tzimiropoulos, 2017) where its weights are at hand, else from dlib's regression trees
(Kazemi and Sullivan, 2014). Every coordinate is continuous: pixel i covers [i, i + 1), so its
centre is i + 0.5.

Licence: dlib's landmark predictor was trained on iBUG 300-W, which is for research only; ask its
authors before commercial use. `detectors()` lists what is installed and on which terms.
"""

import importlib.util
import json
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from facerecon_lib.photo import (
    Crop,
    Photo,
    PhotoError,
    align,
    crop_to_photo,
    load_image,
    photo_to_crop,
)

__all__ = ["Crop", "Detection", "DetectionError", "Face", "Photo", "PhotoError", "align"]
__all__ += ["crop_to_photo", "detect", "detect_faces", "detectors", "load_image", "photo_to_crop"]
__all__ += ["sample_detection", "sample_photo"]

ASSETS = Path(__file__).parent / "assets"
SEARCH_SIZES = (1280, 2560)  # longest side searched; the second only if the first finds nothing
ROOM = 0.25  # edge pixels repeated around the photo, as a share of its longer side
# MTCNN's score of an upright face is above 0.999; a face on its side or its head gives false boxes
# of up to 0.996. Further faces count from OTHERS on, and nothing below LEAST is called a face.
CERTAIN, OTHERS, LEAST = 0.999, 0.98, 0.9
# Eye centres, nose tip and mouth corners of the mean face that dlib's predictor starts from, in
# units of the square box that it expects (read from the model; symmetric about x = 0.5).
MEAN_FIVE = np.array([0.2946 + 0.3153j, 0.7054 + 0.3153j, 0.5 + 0.547j, 0.3171 + 0.7511j,
                      0.6829 + 0.7511j])  # fmt: skip
PATCH, BOX = 320, 160  # px: the upright patch that the predictor sees, and its box in the middle
JITTER = [(0, 0, 1), (0.05, 0, 0.94), (-0.05, 0, 0.94), (0, 0.05, 0.94), (0, -0.05, 0.94)]
JITTER += [(0.05, 0, 1.06), (-0.05, 0, 1.06), (0, 0.05, 1.06), (0, -0.05, 1.06)]
# iBUG point i of the mirrored picture is point MIRROR_68[i] of the picture.
MIRROR_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1)]
    + [64, 63, 62, 61, 60, 67, 66, 65]
)


MTCNN_TERMS = "code MIT; weights in its wheel, trained on WIDER FACE and CelebA (research data)"
FACE_ALIGNMENT_TERMS = "code BSD 3-Clause; weights trained on 300W-LP (research data)"
DLIB_TERMS = "code Boost; landmark predictor trained on iBUG 300-W: research use only"


class DetectionError(ValueError):
    """No face, or not the one asked for. The message is one line and says what to try."""


@dataclass
class Face:
    """A face as MTCNN finds it, in photo pixels."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1
    points: Float32[np.ndarray, "5 2"]  # eyes, nose tip, mouth corners; the viewer's left first
    score: float  # 0 to 1
    turned: int = 0  # degrees counterclockwise that the photo was turned by to find it


@dataclass
class Detection:
    """One face of a photo: everything in photo pixels, continuous (a pixel's centre is + 0.5)."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1, as MTCNN gives it
    landmarks: Float32[np.ndarray, "68 2"]
    detector: str  # of the landmarks: "dlib" or "face-alignment"
    kind: str  # "2d": points 1 to 17 follow the visible outline; "3d": they are fixed to the face
    faces_found: int
    score: float  # MTCNN's confidence, 0 to 1
    face: int = 1  # which of them this is, 1 the largest
    turned: int = 0  # degrees counterclockwise that the photo was turned by to find it


# Faces ------------------------------------------------------------------------------------------


def detect_faces(pixels: UInt8[np.ndarray, "height width 3"], device: str = "cpu") -> list[Face]:
    """All faces, largest first, in the coordinates of the photo as it is; empty when there is none.

    The photo is searched as it is; unless that finds a certain face, also brightened, turned by
    quarters, and in finer detail, and the search with the best score counts.
    """
    coarse, fine = SEARCH_SIZES
    best, best_score, best_turn = [], LEAST, 0

    def search(longest: int, quarters: int = 0, brighten: bool = False) -> None:
        nonlocal best, best_score, best_turn
        view = np.ascontiguousarray(np.rot90(pixels, quarters))
        faces = _search(_stretched(view) if brighten else view, longest, device)
        score = max((face.score for face in faces), default=0.0)
        if score > best_score:
            best, best_score, best_turn = faces, score, quarters

    search(coarse)
    if best_score < CERTAIN:
        search(coarse, brighten=True)
    if best_score < CERTAIN:
        for quarters in (1, 2, 3):
            search(coarse, quarters)
    if best_score < OTHERS and max(pixels.shape[:2]) > coarse:
        search(fine)
    kept = [face for face in best if face.score >= min(best_score, OTHERS)]
    return [_turn_back(face, best_turn, pixels.shape) for face in kept]


def _stretched(pixels: np.ndarray) -> np.ndarray:
    """Contrast stretched until a hundredth of the samples is black and a hundredth is white."""
    low, high = np.percentile(pixels[:: max(len(pixels) // 256, 1)], (1, 99))
    levels = (np.arange(256) - low) * (255 / max(high - low, 10))
    return np.clip(levels, 0, 255).astype(np.uint8)[pixels]


def _search(pixels: np.ndarray, longest: int, device: str) -> list[Face]:
    """MTCNN on a copy of the photo between 256 and `longest` pixels, largest face first."""
    height, width = pixels.shape[:2]
    scale = min(longest / max(height, width), max(1.0, 256 / max(height, width)))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    # MTCNN squeezes a box that leaves the photo instead of padding it, which misplaces the five
    # points of a face near the border by half a face: so the photo gets room around it.
    pad = max(round(ROOM * max(size)), 32)
    small = np.pad(small, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    smallest = 20 if longest > SEARCH_SIZES[0] else max(20, round(0.03 * max(size)))
    threads = torch.get_num_threads()
    try:
        # Its convolutions are too small to share: on a busy machine two threads took 10 times as
        # long as one, waiting for each other.
        torch.set_num_threads(1)
        boxes, scores, points = _mtcnn(smallest, device).detect(small, landmarks=True)
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
        Face(box.reshape(4).astype(np.float32), five.astype(np.float32), float(score))
        for box, five, score in zip(boxes, points, scores, strict=True)
    ]
    return sorted(faces, key=lambda f: -(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))


def _turn_back(face: Face, quarters: int, shape: tuple[int, ...]) -> Face:
    """From the coordinates of `np.rot90(photo, quarters)` to those of the photo."""
    height, width = shape[:2]

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        turned = [(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarters]
        return np.stack(turned, -1).astype(np.float32)

    corners = back(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(0), corners.max(0)])
    return Face(box, back(face.points), face.score, 90 * quarters)


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


def _mtcnn(smallest: int, device: str):
    network = _mtcnn_on(device)
    network.min_face_size = smallest
    return network


# Landmarks --------------------------------------------------------------------------------------


def detect(
    photo: Photo | UInt8[np.ndarray, "height width 3"],
    face: int | None = None,
    detector: str | None = None,
    allow_download: bool = False,
    device: str = "cpu",
) -> Detection:
    """One face of the photo and its 68 landmarks: the largest, or number `face` (1 the largest).

    `detector` is "face-alignment", "dlib", or None: the first whose weights are on this machine.
    Nothing is downloaded unless `allow_download`. Raises `DetectionError`, one line: no face, no
    face of that number, or no landmark detector.
    """
    photo = photo if isinstance(photo, Photo) else Photo(np.asarray(photo))
    pixels = photo.pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DetectionError(
            f"{photo.name}: expected uint8 pixels of shape (height, width, 3), got {pixels.dtype} "
            f"{pixels.shape}; read the photo with load_image"
        )
    detector = _choose_detector(detector, allow_download)
    faces = detect_faces(pixels, device)
    if not faces:
        raise DetectionError(
            f"{photo.name}: no face found in {photo.width} x {photo.height} pixels; try a photo "
            "with the face larger, upright, lit, and turned less than 60 degrees to the side"
        )
    number = 1 if face is None else face
    if not 1 <= number <= len(faces):
        raise DetectionError(
            f"{photo.name}: has {len(faces)} face{'s' * (len(faces) > 1)}, no face {number}; "
            f"choose 1 (the largest) to {len(faces)}"
        )
    chosen = faces[number - 1]
    if detector == "dlib":
        landmarks, kind = _upright_landmarks(pixels, chosen.points, _predict_dlib, passes=2), "2d"
    else:
        network = _face_alignment(device)
        landmarks = _upright_landmarks(pixels, chosen.points, network, passes=1)
        kind = "3d"
    return Detection(
        chosen.box, landmarks, detector, kind, len(faces), chosen.score, number, chosen.turned
    )


def _upright_landmarks(pixels: np.ndarray, points: np.ndarray, predict, passes: int) -> np.ndarray:
    """68 landmarks in photo pixels, predicted on patches in which the face is upright.

    A patch is laid so that MEAN_FIVE falls on the face's five points, which undoes roll and size,
    and its contrast is stretched (dlib's trees compare grey levels: unstretched, the landmarks of a
    photo at a quarter of its brightness move by 3.8 % of the eye distance, stretched by 0.6 %). The
    second pass takes the five from the first one's 68.
    """
    five = _complex(points)
    for _ in range(passes):
        patch, scale, origin = _upright_patch(pixels, *_similarity(MEAN_FIVE, five))
        landmarks = scale * _complex(predict(_stretched(patch))) + origin
        eyes = landmarks[36:42].mean(), landmarks[42:48].mean()
        five = np.array([*eyes, landmarks[30], landmarks[48], landmarks[54]])
    return np.stack([landmarks.real, landmarks.imag], -1).astype(np.float32)


def _complex(points: np.ndarray) -> np.ndarray:
    points = points.astype(np.float64)
    return points[..., 0] + 1j * points[..., 1]


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Least squares target = a source + b over complex numbers: a turns and scales, b moves."""
    centred = source - source.mean()
    a = (centred.conj() * (target - target.mean())).sum() / (abs(centred) ** 2).sum()
    return a, target.mean() - a * source.mean()


def _upright_patch(
    pixels: np.ndarray, a: complex, b: complex
) -> tuple[UInt8[np.ndarray, "patch patch 3"], complex, complex]:
    """Patch whose middle BOX pixels are the unit square under z -> a z + b; edges replicated.

    Returned with (scale, origin): patch point p is photo point scale * p + origin.
    """
    scale = a / BOX
    origin = b - scale * (PATCH - BOX) / 2 * (1 + 1j)
    corners = origin + scale * PATCH * np.array([0, 1, 1j, 1 + 1j])
    x0, y0 = (int(np.floor(v.min())) - 2 for v in (corners.real, corners.imag))
    x1, y1 = (int(np.ceil(v.max())) + 2 for v in (corners.real, corners.imag))
    rows = np.clip(np.arange(y0, y1), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(x0, x1), 0, pixels.shape[1] - 1)
    region = Image.fromarray(pixels[rows[:, None], columns])
    shrink = max(abs(scale), 1.0)  # average first: the transform below only interpolates
    small = region.resize(
        (max(round(region.width / shrink), 1), max(round(region.height / shrink), 1)),
        Image.Resampling.BILINEAR,
    )
    fx, fy = small.width / region.width, small.height / region.height
    start = origin - (x0 + 1j * y0)
    affine = (scale.real * fx, -scale.imag * fx, start.real * fx)
    affine += (scale.imag * fy, scale.real * fy, start.imag * fy)
    patch = small.transform(
        (PATCH, PATCH), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    return np.array(patch), scale, origin


def _predict_dlib(patch: np.ndarray) -> Float[np.ndarray, "68 2"]:
    """Median over jittered boxes and the mirrored patch: one box alone is twice as unsteady."""
    import dlib

    predictor = _dlib_predictor()
    guesses = []
    for mirrored in (False, True):
        image = np.ascontiguousarray(patch[:, ::-1]) if mirrored else patch
        for dx, dy, size in JITTER:
            x, y = PATCH / 2 + dx * BOX, PATCH / 2 + dy * BOX
            half = BOX * size / 2
            sides = (x - half, y - half, x + half - 1, y + half - 1)
            shape = predictor(image, dlib.rectangle(*(round(side) for side in sides)))
            points = np.array([[p.x, p.y] for p in shape.parts()]) + 0.5
            if mirrored:
                points = points[MIRROR_68]
                points[:, 0] = PATCH - points[:, 0]
            guesses.append(points)
    return np.median(guesses, axis=0)


def _dlib_weights() -> Path | None:
    """The predictor's file, found without importing its package (that needs pkg_resources)."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], "models/shape_predictor_68_face_landmarks.dat")
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _dlib_predictor():
    import dlib

    return dlib.shape_predictor(str(_dlib_weights()))


def _face_alignment_weights() -> Path | None:
    """The network's file in torch's hub cache, where face-alignment 1.5 keeps it."""
    return next(Path(torch.hub.get_dir(), "checkpoints").glob("3DFAN4-*.pth.tar"), None)


@lru_cache(maxsize=2)
def _face_alignment(device: str):
    """Predictor of the projections of 68 points fixed to the head, on an upright patch.

    Its TWO_HALF_D network: THREE_D adds only a depth that nothing here uses, from a pickle.
    """
    import face_alignment

    network = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_HALF_D,
        device=device,
        face_detector="folder",  # boxes are given, so this keeps it from fetching a detector
        compile=False,
    )
    corner = (PATCH - BOX) / 2
    # The extent of the 68 points in the mean face: the box that the network was trained on.
    box = [corner + BOX * share for share in (0.03, 0.163, 0.97, 1.07)]

    def predict(patch: np.ndarray) -> np.ndarray:
        found = network.get_landmarks_from_image(patch, detected_faces=[np.array(box)])
        return np.asarray(found[0], dtype=np.float64)[:, :2] + 0.5

    return predict


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _dlib_ready() -> bool:
    return _installed("dlib") and _dlib_weights() is not None


def _face_alignment_ready() -> bool:
    return _installed("face_alignment") and _face_alignment_weights() is not None


def _choose_detector(name: str | None, allow_download: bool) -> str:
    fetchable = allow_download and _installed("face_alignment")
    ready = {"face-alignment": fetchable or _face_alignment_ready(), "dlib": _dlib_ready()}
    if name is not None and name not in ready:
        raise DetectionError(f"detector {name!r} is unknown; choose face-alignment or dlib")
    usable = [known for known, is_ready in ready.items() if is_ready and name in (None, known)]
    if not usable:
        raise DetectionError(
            f"landmark detector {name or 'dlib'} is not ready on this machine; "
            + next(row["todo"] for row in detectors() if row["name"] == (name or "dlib"))
        )
    return usable[0]


def detectors() -> list[dict[str, str | bool]]:
    """What finds faces and landmarks here: name, task, ready, licence, and what to do if not."""
    dlib_todo = "pip install --no-deps dlib-bin face-recognition-models"
    rows = [
        ("MTCNN (facenet-pytorch)", "face boxes", _installed("facenet_pytorch"), MTCNN_TERMS,
         "pip install --no-deps facenet-pytorch"),
        ("face-alignment", "68 landmarks, 3d", _face_alignment_ready(), FACE_ALIGNMENT_TERMS,
         "optional: pip install face-alignment, then detect once with allow_download=True"),
        ("dlib", "68 landmarks, 2d", _dlib_ready(), DLIB_TERMS, dlib_todo),
    ]  # fmt: skip
    keys = ("name", "task", "ready", "licence", "todo")
    return [dict(zip(keys, (*row[:4], "" if row[2] else row[4]), strict=True)) for row in rows]


# The sample -------------------------------------------------------------------------------------


def sample_photo() -> Photo:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    return load_image(ASSETS / "astronaut.jpg")


def sample_detection() -> Detection:
    """The sample photo's stored face and landmarks: needs no detector."""
    stored = json.loads((ASSETS / "astronaut_landmarks.json").read_text())
    fields = {key: stored[key] for key in ("detector", "kind", "faces_found", "score")}
    return Detection(
        box=np.array(stored["box"], dtype=np.float32),
        landmarks=np.array(stored["landmarks"], dtype=np.float32),
        **fields,
    )
