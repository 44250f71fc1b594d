"""Faces in a photo: their boxes and five points.

    faces = detect_faces(photo.pixels)                   # largest first
    faces = find_faces([a.pixels, b.pixels])[0]          # BlazeFace's alone; a batch of photos

MediaPipe's BlazeFace looks first, at 128 x 128 pixels: it sees faces of an eighth of the photo and
more. MTCNN (Zhang et al., 2016) stands behind it for smaller ones and for those that BlazeFace is
not certain of. Every coordinate is in photo pixels and continuous: a pixel's centre is + 0.5.
Notebook 10, section 2.1.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image

from .crop import cut_patch
from .face_mesh import face_points
from .face_mesh_network import DETECTOR_SIZE, load_networks, one_thread
from .landmarks import DetectionError, stretched
from .reading import Pixels

# BlazeFace's score is above 0.8 on two hundred portraits and below 0.65 on pictures without a face;
# 1 - (1 - score)^SHARPER puts CERTAIN at 0.99 of MTCNN's.
# Boxes from POSSIBLE on that overlap a certain one by OVERLAP are averaged with it.
CERTAIN, POSSIBLE, OVERLAP, SHARPER = 0.75, 0.5, 0.3, 3.3
UPRIGHT, TILTED = 0.995, 20  # least score and most degrees of roll of a face seen once
SIDES = 1.0, 1.4  # of BlazeFace's first and second look, of the photo's longer side
MOUTH = 0.445  # half the mouth's width, of the distance of the eyes: the mean face's
LARGE = 0.15  # of the photo's longer side: beside one face of this size no others are searched for

SEARCH_SIZES = (1280, 2560)  # MTCNN's longest side; the second only if the first finds nothing
ROOM = 0.25  # edge pixels repeated around the photo, as a share of its longer side
# MTCNN's score of an upright face is above 0.999; a face on its side or its head gives false boxes
# of up to 0.996. Further faces count from OTHERS on, and nothing below LEAST is called a face.
SURE, OTHERS, LEAST = 0.999, 0.98, 0.9


@dataclass
class FaceBox:
    """A face as its detector finds it."""

    box: Float32[np.ndarray, "4"]  # x0, y0, x1, y1
    points: Float32[np.ndarray, "5 2"]  # eyes, nose tip, mouth corners; the viewer's left first
    score: float  # 0 to 1
    turned: int = 0  # degrees counterclockwise that the photo was turned by to find it

    @property
    def size(self) -> float:
        """The box's longer side."""
        return float((self.box[2:] - self.box[:2]).max())


def detect_faces(
    pixels: Pixels,
    device: str = "cpu",
    thorough: bool = False,
    faces: list[FaceBox] | None = None,
) -> list[FaceBox]:
    """All faces, largest first, in the coordinates of the photo as it is; empty when there is none.

    One large face that BlazeFace is certain of stands alone, and small ones beside it go unseen,
    unless the search is `thorough`. Otherwise MTCNN looks for more, or, if there is none, harder.
    faces: of `find_faces`, where it has looked already.
    """
    faces = find_faces([pixels], device)[0] if faces is None else [*faces]
    if not faces:
        return _search_hard(pixels, device)
    if thorough or len(faces) > 1 or faces[0].size < LARGE * max(pixels.shape[:2]):
        turn, boxes = faces[0].turned // 90, np.stack([face.box for face in faces])
        more = _search(np.ascontiguousarray(np.rot90(pixels, turn)), SEARCH_SIZES[0], device)
        more = [_turn_back(face, turn, pixels.shape) for face in more if face.score >= OTHERS]
        faces += [face for face in more if (_overlap(face.box, boxes) < OVERLAP).all()]
    return _largest_first(faces)


def find_faces(pixels: Sequence[Pixels], device: str = "cpu") -> list[list[FaceBox]]:
    """Each photo's faces that BlazeFace is certain of, largest first.

    A second look, from further off and turned by quarters, is for photos without one and for faces
    that are perhaps not upright: one on its side shows as a tilted one of a low score. What it
    finds counts if the mesh agrees that it is a face.
    """
    photos = _look([(photo, SIDES[0], 0) for photo in pixels], device)
    for i, faces in enumerate(photos):
        if not faces or faces[0].score < UPRIGHT or abs(_roll(faces[0])) > TILTED:
            views = [(pixels[i], side, turn) for turn in range(4) for side in SIDES]
            looks = [faces, *_look(views[1:], device)]
            best = max(looks, key=lambda look: look[0].score if look else 0.0)
            real = best and face_points(pixels[i : i + 1], [best[0].points], device).score[0] > 0.5
            photos[i] = best if real else []
    return [_largest_first(faces) for faces in photos]


def _look(views: list[tuple[Pixels, float, int]], device: str) -> list[list[FaceBox]]:
    """BlazeFace on photos in a square of so many longer sides, turned by so many quarters; boxes
    and points are those of the photo as it is, the best face first."""
    network, crops, places = load_networks(device)[0], [], []
    for pixels, side, turn in views:
        height, width = pixels.shape[:2]
        step = max(max(height, width) // 512, 1)  # a large photo is averaged only once
        small = np.asarray(Image.fromarray(pixels).reduce(step))
        scale = 1j**turn * side * max(height, width) / step / DETECTOR_SIZE
        origin = (width + 1j * height) / step / 2 - scale * DETECTOR_SIZE / 2 * (1 + 1j)
        crops.append(stretched(cut_patch(small, scale, origin, DETECTOR_SIZE)))
        places.append((scale * step * DETECTOR_SIZE, origin * step))
    batch = torch.from_numpy(np.stack(crops)).movedim(-1, 1).to(device)
    with one_thread(), torch.inference_mode():
        results = [r.cpu().numpy() for r in network(batch.float() / 255)]
    return [
        [_face(*guess, *place, turn) for guess in _merged(*result)]
        for *result, place, (*_, turn) in zip(*results, places, views, strict=True)
    ]


def _merged(
    boxes: Float[np.ndarray, "box 4"],
    keypoints: Float[np.ndarray, "box 6 2"],
    scores: Float[np.ndarray, " box"],
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Of boxes that overlap the mean, weighted by score; best first."""
    order = np.argsort(-scores)
    order = order[scores[order] >= POSSIBLE]
    while len(order) and scores[order[0]] >= CERTAIN:
        same = _overlap(boxes[order[0]], boxes[order]) >= OVERLAP
        group, order = order[same], order[~same]
        mean = [
            np.average(values[group], axis=0, weights=scores[group])
            for values in (boxes, keypoints)
        ]
        yield *mean, float(scores[group[0]])


def _overlap(
    box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "box 4"]
) -> Float[np.ndarray, " box"]:
    """Intersection over union."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = shared.clip(0).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared)


def _face(box, keypoints, score: float, scale: complex, origin: complex, turn: int) -> FaceBox:
    """From shares of a view's side to photo pixels, with a mouth of the mean face's width."""
    points = np.concatenate([box.reshape(2, 2), keypoints]) @ np.array([1, 1j]) * scale + origin
    (a, b), (right, left, nose, mouth) = points[:2], points[2:6]
    across = MOUTH * (left - right)
    five = np.array([right, left, nose, mouth - across, mouth + across])
    corners = [min(a.real, b.real), min(a.imag, b.imag), max(a.real, b.real), max(a.imag, b.imag)]
    pairs = np.stack([five.real, five.imag], -1).astype(np.float32)
    return FaceBox(np.array(corners, np.float32), pairs, 1 - (1 - score) ** SHARPER, 90 * turn)


def _roll(face: FaceBox) -> float:
    """Degrees that the eyes' line is turned by in the photo, clockwise."""
    x, y = face.points[1] - face.points[0]
    return float(np.degrees(np.arctan2(y, x)))


def _largest_first(faces: list[FaceBox]) -> list[FaceBox]:
    return sorted(faces, key=lambda face: -np.prod(face.box[2:] - face.box[:2]))


def _search_hard(pixels: Pixels, device: str) -> list[FaceBox]:
    """MTCNN on the photo as it is, brightened, turned by quarters, and in finer detail, until it is
    sure of a face; the search with the best score counts."""
    coarse, fine = SEARCH_SIZES
    stages = [(coarse, (0,), False), (coarse, (0,), True), (coarse, (1, 2, 3), False)]
    stages += [(fine, (0,), False)] if max(pixels.shape[:2]) > coarse else []
    best, best_score, best_turn = [], LEAST, 0
    for longest, turns, brighten in stages:
        if best_score >= (OTHERS if longest == fine else SURE):
            continue
        for turn in turns:
            view = np.ascontiguousarray(np.rot90(pixels, turn))
            faces = _search(stretched(view) if brighten else view, longest, device)
            score = max((face.score for face in faces), default=0.0)
            if score > best_score:
                best, best_score, best_turn = faces, score, turn
    faces = [face for face in best if face.score >= min(best_score, OTHERS)]
    return _largest_first([_turn_back(face, best_turn, pixels.shape) for face in faces])


def _search(pixels: np.ndarray, longest: int, device: str) -> list[FaceBox]:
    """MTCNN on a copy of the photo between 256 and `longest` pixels."""
    height, width = pixels.shape[:2]
    scale = min(longest / max(height, width), max(1.0, 256 / max(height, width)))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    # MTCNN squeezes a box that leaves the photo instead of padding it, which misplaces the five
    # points of a face near the border by half a face: so the photo gets room around it.
    pad = max(round(ROOM * max(size)), 32)
    small = np.pad(small, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    network = _mtcnn_on(device)
    network.min_face_size = 20 if longest == SEARCH_SIZES[1] else max(20, round(0.03 * max(size)))
    try:
        with one_thread():
            boxes, scores, points = network.detect(small, landmarks=True)
    except RuntimeError as error:  # facenet-pytorch joins an empty list when no window is left
        if "non-empty" not in str(error):
            raise
        return []
    if boxes is None:
        return []
    ratio = np.array([width / size[0], height / size[1]])
    boxes = (np.asarray(boxes, float).reshape(-1, 2, 2) - pad) * ratio
    points = (np.asarray(points, float) + 0.5 - pad) * ratio
    return [
        FaceBox(box.reshape(4).astype(np.float32), five.astype(np.float32), float(score))
        for box, five, score in zip(boxes, points, scores, strict=True)
    ]


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
