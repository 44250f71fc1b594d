"""The 68 landmarks of a face, from its five points, by face-alignment's network or dlib's trees.

    detector = choose_detector(None, allow_download=False)        # the first that is ready
    points, kind, scatter = find_landmarks(pixels, face.points, detector)  # (68, 2), photo pixels
    detectors()                                                   # what is installed; the terms

Points are in the iBUG order and continuous (a pixel's centre is + 0.5). `detection.detect` starts
from a photo. Notebook 10, section 2.1.
"""

import importlib.util
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from ..face.landmarks68 import FIVE, INNER, MIRROR_68, OUTER_EYES
from ..files.errors import FacereconError
from ..files.weights import shipped_file
from .crop import cut_patch, laid_on

# Eye centres, nose tip and mouth corners of the mean face that dlib's predictor starts from, in
# units of the square box that it expects (read from the model; symmetric about x = 0.5).
MEAN_FIVE = np.array([0.2946 + 0.3153j, 0.7054 + 0.3153j, 0.5 + 0.547j, 0.3171 + 0.7511j,
                      0.6829 + 0.7511j])  # fmt: skip
PATCH, BOX = 320, 160  # px: the upright patch that the predictor sees, and its box in the middle
JITTER = [(0, 0, 1), (0.05, 0, 0.94), (-0.05, 0, 0.94), (0, 0.05, 0.94), (0, -0.05, 0.94)]
JITTER += [(0.05, 0, 1.06), (-0.05, 0, 1.06), (0, 0.05, 1.06), (0, -0.05, 1.06)]
FACE_ALIGNMENT_TERMS = "code BSD 3-Clause; weights trained on 300W-LP (research data)"
MESH_TERMS = "Apache 2.0 (NOTICE)"
DLIB_TERMS = "code Boost; landmark predictor trained on iBUG 300-W: research use only"


class DetectionError(FacereconError):
    """No face, or not the one asked for. The message is one line and says what to try."""


def find_landmarks(
    pixels: UInt8[np.ndarray, "height width 3"],
    points: Float32[np.ndarray, "5 2"],
    detector: str,
    device: str = "cpu",
    quick: bool = False,
) -> tuple[Float32[np.ndarray, "68 2"], str, float | None]:
    """The landmarks in photo pixels, from a face's five points, their kind ("2d" or "3d"), and
    how far repeated guesses scatter.

    points: eyes, nose tip, mouth corners; the viewer's left first. quick: dlib's first pass looks
    once, in 60 % of the time; landmarks move by 0.7 % of the eye distance. The scatter: how far a
    guess lies from the median of dlib's 18, as a mean; the median over the inner points, as a share
    of the outer eye distance. None from face-alignment, which guesses once.

    They are predicted on a patch laid so that MEAN_FIVE falls on the five points, which undoes roll
    and size, and with stretched contrast (dlib's trees compare grey levels: unstretched, a photo at
    a quarter of its brightness moves them by 3.8 % of the eye distance, stretched by 0.6 %). dlib's
    second pass takes the five points from the first one's 68.
    """
    if detector == "dlib":
        first = partial(_predict_dlib, jitter=JITTER[:1]) if quick else _predict_dlib
        passes, kind = (first, _predict_dlib), "2d"
    else:
        passes, kind = (_face_alignment(device),), "3d"
    five = points @ np.array([1, 1j])
    for predict in passes:
        scale, origin = laid_on((PATCH - BOX) / 2 * (1 + 1j) + BOX * MEAN_FIVE, five)
        patch = cut_patch(pixels, scale, origin, PATCH)
        guesses = predict(stretched(patch))
        points = np.median(guesses, axis=0)
        landmarks = scale * (points @ np.array([1, 1j])) + origin
        five = np.array([landmarks[part].mean() for part in FIVE])
    scatter = _scatter(guesses, points) if len(guesses) > 1 else None
    return np.stack([landmarks.real, landmarks.imag], -1).astype(np.float32), kind, scatter


def _scatter(guesses: Float[np.ndarray, "guess 68 2"], points: Float[np.ndarray, "68 2"]) -> float:
    right, left = points[list(OUTER_EYES)]
    away = np.linalg.norm(guesses - points, axis=-1).mean(0)
    return float(np.median(away[INNER]) / max(np.linalg.norm(left - right), 1e-6))


def stretched(pixels: np.ndarray) -> np.ndarray:
    """Contrast stretched until a hundredth of the samples is black and a hundredth is white."""
    low, high = np.percentile(pixels[:: max(len(pixels) // 256, 1)], (1, 99))
    levels = (np.arange(256) - low) * (255 / max(high - low, 10))
    return np.clip(levels, 0, 255).astype(np.uint8)[pixels]


@lru_cache(maxsize=1)
def _shape_predictor(weights: str):
    import dlib

    return dlib.shape_predictor(weights)


def _predict_dlib(patch: np.ndarray, jitter: list = JITTER) -> Float[np.ndarray, "guess 68 2"]:
    """From jittered boxes and the mirrored patch: one box alone is twice as unsteady as their
    median."""
    import dlib

    predictor, guesses = _shape_predictor(str(_dlib_weights())), []
    for mirrored in (False, True):
        image = np.ascontiguousarray(patch[:, ::-1]) if mirrored else patch
        for dx, dy, size in jitter:
            x, y = PATCH / 2 + dx * BOX, PATCH / 2 + dy * BOX
            half = BOX * size / 2
            sides = (x - half, y - half, x + half - 1, y + half - 1)
            shape = predictor(image, dlib.rectangle(*(round(side) for side in sides)))
            points = np.array([[p.x, p.y] for p in shape.parts()]) + 0.5
            if mirrored:
                points = points[MIRROR_68]
                points[:, 0] = PATCH - points[:, 0]
            guesses.append(points)
    return np.array(guesses)


def _dlib_weights() -> Path | None:
    """The predictor's file, found without importing its package (that needs pkg_resources)."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        return None
    path = Path(spec.submodule_search_locations[0], "models/shape_predictor_68_face_landmarks.dat")
    return path if path.is_file() else None


def _face_alignment_weights() -> Path | None:
    """The network's file in torch's hub cache, where face-alignment 1.5 keeps it."""
    return next(Path(torch.hub.get_dir(), "checkpoints").glob("3DFAN4-*.pth.tar"), None)


@lru_cache(maxsize=2)
def _face_alignment(device: str):
    """Predictor of the projections of 68 points fixed to the head, on an upright patch."""
    import face_alignment

    # THREE_D adds only a depth that nothing here uses, from a pickle; the face detector "folder"
    # keeps it from fetching one.
    kind, options = face_alignment.LandmarksType.TWO_HALF_D, dict(face_detector="folder")
    network = face_alignment.FaceAlignment(kind, device=device, compile=False, **options)
    corner = (PATCH - BOX) / 2
    # The extent of the 68 points in the mean face: the box that the network was trained on.
    box = [corner + BOX * share for share in (0.03, 0.163, 0.97, 1.07)]

    def predict(patch: np.ndarray) -> np.ndarray:
        points = network.get_landmarks_from_image(patch, detected_faces=[np.array(box)])
        return np.asarray(points[0], dtype=np.float64)[None, :, :2] + 0.5

    return predict


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _ready() -> dict[str, bool]:
    """Which landmark detectors have their code and weights on this machine; the first is taken."""
    face_alignment = _installed("face_alignment") and _face_alignment_weights() is not None
    dlib = _installed("dlib") and _dlib_weights() is not None
    return {"face-alignment": face_alignment, "dlib": dlib}


def choose_detector(name: str | None, allow_download: bool) -> str:
    """The detector of that name, or the first that is ready; raises DetectionError if none is."""
    ready = _ready()
    ready["face-alignment"] |= allow_download and _installed("face_alignment")
    if name is not None and name not in ready:
        raise DetectionError(f"detector {name!r} is unknown; choose face-alignment or dlib")
    usable = [each for each, is_ready in ready.items() if is_ready and name in (None, each)]
    if not usable:
        name = name or "dlib"
        todo = next(row["todo"] for row in detectors() if row["name"] == name)
        raise DetectionError(f"landmark detector {name} is not ready on this machine; {todo}")
    return usable[0]


def detectors() -> list[dict[str, str | bool]]:
    """What finds faces and landmarks here: name, task, ready, licence, and what to do if not."""
    ready, pip = _ready(), "pip install --no-deps"
    terms = "code MIT; weights in its wheel, trained on WIDER FACE and CelebA (research data)"
    todo = "optional: pip install face-alignment, then detect once with allow_download=True"
    rows = [
        ("MediaPipe's face mesh", "face boxes, 478 points", MESH_TERMS, "reinstall"),
        (
            "MTCNN (facenet-pytorch)",
            "faces that it misses",
            terms,
            f"{pip} facenet-pytorch",
        ),
        ("face-alignment", "68 landmarks, 3d", FACE_ALIGNMENT_TERMS, todo),
        ("dlib", "68 landmarks, 2d", DLIB_TERMS, f"{pip} dlib-bin face-recognition-models"),
    ]
    ready[rows[0][0]] = shipped_file("face_mesh.safetensors").is_file()
    ready[rows[1][0]] = _installed("facenet_pytorch")
    keys = ("name", "task", "licence", "ready", "todo")
    return [
        dict(zip(keys, (*row[:3], ready[row[0]], "" if ready[row[0]] else row[3]), strict=True))
        for row in rows
    ]
