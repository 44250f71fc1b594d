"""The 68 landmarks of a face: means of its 478 points, or from a detector of their own.

    landmarks = landmarks_from(mesh.points[0])            # (68, 2)
    landmarks, kind = find_landmarks(pixels, mesh.points[0], "dlib")    # an optional detector's
    detectors()                                           # what is installed; the terms

In the iBUG order and continuous (a pixel's centre is + 0.5). `detection.detect` starts from a
photo. Notebook 10, section 2.1.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from ..face.landmarks68 import FIVE, MIRROR_68
from ..files.errors import FacereconError
from ..files.weights import read_weights, shipped_file
from .crop import cut_patch, laid_on
from .face_mesh import five_points

WEIGHTS, FORMAT = "landmarks68.safetensors", "facerecon-landmarks68-1"
# Eye centres, nose tip and mouth corners of the mean face that dlib's predictor starts from, in
# units of the square box that it expects (read from the model; symmetric about x = 0.5).
MEAN_FIVE = np.array([0.2946 + 0.3153j, 0.7054 + 0.3153j, 0.5 + 0.547j, 0.3171 + 0.7511j,
                      0.6829 + 0.7511j])  # fmt: skip
PATCH, BOX = 320, 160  # px: the upright patch that a predictor sees, and its box in the middle
JITTER = [(0, 0, 1), (0.05, 0, 0.94), (-0.05, 0, 0.94), (0, 0.05, 0.94), (0, -0.05, 0.94)]
JITTER += [(0.05, 0, 1.06), (-0.05, 0, 1.06), (0, 0.05, 1.06), (0, -0.05, 1.06)]
MESH, FACE_ALIGNMENT, DLIB = "face-mesh", "face-alignment", "dlib"
FACE_ALIGNMENT_TERMS = "code BSD 3-Clause; weights trained on 300W-LP (research data)"
MESH_TERMS = "Apache 2.0 (NOTICE)"
DLIB_TERMS = "code Boost; weights trained on iBUG 300-W: research use only"


class DetectionError(FacereconError):
    """No face, or not the one asked for. The message is one line and says what to try."""


@lru_cache(maxsize=1)
def _mean_weights() -> Float[np.ndarray, "68 478"]:
    maker = "data_scripts/learn_landmarks.py"
    state, _ = read_weights(shipped_file(WEIGHTS), FORMAT, DetectionError, maker)
    return state["weights"].double().numpy()


def landmarks_from(points: Float[np.ndarray, "*any 478 2"]) -> Float32[np.ndarray, "*any 68 2"]:
    """The landmarks as weighted means of the face mesh's points: those of the jaw are fixed to the
    head. data_scripts/learn_landmarks.py learned the weights."""
    return (_mean_weights() @ points).astype(np.float32)


def find_landmarks(
    pixels: UInt8[np.ndarray, "height width 3"],
    points: Float32[np.ndarray, "478 2"],
    detector: str = MESH,
    device: str = "cpu",
) -> tuple[Float32[np.ndarray, "68 2"], str]:
    """The landmarks in photo pixels and their kind ("2d" or "3d"), from the mesh's points.

    dlib and face-alignment look at a patch laid so that MEAN_FIVE falls on the points' five, which
    undoes roll and size, and with stretched contrast: dlib's trees compare grey levels. dlib's
    second pass takes the five points from the first one's 68.
    """
    if detector == MESH:
        return landmarks_from(points), "3d"
    dlib = detector == DLIB
    five = five_points(points) @ np.array([1, 1j])
    for predict in (_predict_dlib, _predict_dlib) if dlib else (_face_alignment(device),):
        scale, origin = laid_on((PATCH - BOX) / 2 * (1 + 1j) + BOX * MEAN_FIVE, five)
        patch = cut_patch(pixels, scale, origin, PATCH)
        landmarks = scale * (predict(stretched(patch)) @ np.array([1, 1j])) + origin
        five = np.array([landmarks[part].mean() for part in FIVE])
    return np.stack([landmarks.real, landmarks.imag], -1).astype(np.float32), "2d" if dlib else "3d"


def stretched(pixels: np.ndarray) -> np.ndarray:
    """Contrast stretched until a hundredth of the samples is black and a hundredth is white."""
    low, high = np.percentile(pixels[:: max(len(pixels) // 256, 1)], (1, 99))
    levels = (np.arange(256) - low) * (255 / max(high - low, 10))
    return np.clip(levels, 0, 255).astype(np.uint8)[pixels]


@lru_cache(maxsize=1)
def _shape_predictor(weights: str):
    import dlib

    return dlib.shape_predictor(weights)


def _predict_dlib(patch: np.ndarray) -> Float[np.ndarray, "68 2"]:
    """The median over jittered boxes and the mirrored patch: one box alone is twice as unsteady."""
    import dlib

    predictor, guesses = _shape_predictor(str(_dlib_weights())), []
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
        return np.asarray(points[0], dtype=np.float64)[:, :2] + 0.5

    return predict


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _ready() -> dict[str, bool]:
    """Which landmark detectors have their code and weights on this machine."""
    face_alignment = _installed("face_alignment") and _face_alignment_weights() is not None
    dlib = _installed("dlib") and _dlib_weights() is not None
    return {MESH: True, FACE_ALIGNMENT: face_alignment, DLIB: dlib}


def choose_detector(name: str | None, allow_download: bool = False) -> str:
    """The landmark detector of that name, MESH if None; DetectionError where it is not ready."""
    name, ready = name or MESH, _ready()
    if name not in ready:
        raise DetectionError(f"detector {name!r} is unknown; choose {', '.join(ready)}")
    fetched = name == FACE_ALIGNMENT and allow_download and _installed("face_alignment")
    if not (ready[name] or fetched):
        todo = next(row["todo"] for row in detectors() if row["name"] == name)
        raise DetectionError(f"landmark detector {name} is not ready on this machine; {todo}")
    return name


def detectors() -> list[dict[str, str | bool]]:
    """What finds faces and landmarks here: name, task, ready, licence, and what to do if not."""
    ready, task = _ready(), "faces, 478 points, 68 landmarks"
    terms = "code MIT; weights in its wheel, trained on WIDER FACE and CelebA (research data)"
    fetch = "optional: pip install 'facerecon-lib[face-alignment]', then detect once with "
    rows = [
        ("MediaPipe's face mesh", task, MESH_TERMS, "reinstall"),
        (
            "MTCNN (facenet-pytorch)",
            "faces that it misses",
            terms,
            "pip install --no-deps facenet-pytorch",
        ),
        (
            FACE_ALIGNMENT,
            "other 68 landmarks, 3d",
            FACE_ALIGNMENT_TERMS,
            f"{fetch}allow_download=True",
        ),
        (
            DLIB,
            "other 68 landmarks, 2d",
            DLIB_TERMS,
            "optional: pip install 'facerecon-lib[dlib]'",
        ),
    ]
    names = "face_mesh.safetensors", WEIGHTS
    ready[rows[0][0]] = all(shipped_file(name).is_file() for name in names)
    ready[rows[1][0]] = _installed("facenet_pytorch")
    keys = ("name", "task", "licence", "ready", "todo")
    return [
        dict(zip(keys, (*row[:3], ready[row[0]], "" if ready[row[0]] else row[3]), strict=True))
        for row in rows
    ]
