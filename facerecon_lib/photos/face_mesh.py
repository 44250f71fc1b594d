"""478 points of a face: MediaPipe's attention mesh, looked at four times.

    mesh = face_points([photo.pixels], [face.points])     # a batch of faces, each in its own photo
    mesh.points[0], mesh.score[0], mesh.scatter[0]        # (478, 2) in photo pixels

Points 0 to 467 are MediaPipe's mesh, 468 to 472 the iris on the viewer's left (its centre first),
473 to 477 the other. They are fixed to the skin: those of the oval are not the silhouette. Notebook
10, section 2.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float32, UInt8
from torch import Tensor

from ..face.dense_points import OUTER_EYES
from .crop import cut_patch, laid_on
from .face_mesh_network import MESH_SIZE, AttentionMesh, load_networks, one_thread
from .reading import Pixels

FIVE = (33, 133), (362, 263), (1,), (61,), (291,)  # eyes, nose tip, mouth corners
MARGIN = 1.5  # side of the crop, of the larger side of the points' box
# Eye centres, nose tip and mouth corners in such a crop, as shares of its side.
CROP_FIVE = np.array([0.367 + 0.373j, 0.633 + 0.373j, 0.5 + 0.513j, 0.378 + 0.638j, 0.622 + 0.638j])


@dataclass
class FaceMesh:
    """The points of several faces."""

    points: Float32[np.ndarray, "face 478 2"]  # photo pixels
    score: Float32[np.ndarray, " face"]  # 0 to 1: how sure it is a face
    scatter: Float32[np.ndarray, " face"]  # of the guesses, as a share of the outer eye distance


def face_points(
    pixels: Sequence[Pixels], five: Sequence[Float[np.ndarray, "5 2"]], device: str = "cpu"
) -> FaceMesh:
    """The points of one face in each of `pixels`, from its eyes, nose tip and mouth corners.

    A first look at a crop laid upon the five points, a second and a third at crops laid upon the
    points of the one before, and a fourth at the third's mirror image. The points are the mean of
    the last three, and the scatter the median over the points of how far a guess lies from it, as a
    mean. Raises FaceMeshError when the network's file is missing.
    """
    network = load_networks(device)[1]
    views = [laid_on(CROP_FIVE * MESH_SIZE, points @ np.array([1, 1j])) for points in five]
    guesses, scores = [], []
    for look in range(3):
        crops = [cut_patch(p, *view, MESH_SIZE) for p, view in zip(pixels, views, strict=True)]
        batch = torch.from_numpy(np.stack(crops)).movedim(-1, 1)
        for points, score in _look(network, batch, also_mirrored=look == 2):
            guesses.append(np.stack([s * p + o for p, (s, o) in zip(points, views, strict=True)]))
            scores.append(score)
        views = [_upright_square(points) for points in guesses[-1]]
    points, guesses = np.mean(guesses[1:], 0), np.array(guesses[1:])
    away = np.median(abs(guesses - points).mean(0), axis=1)
    right, left = (points[:, corner] for corner in OUTER_EYES)
    pairs = np.stack([points.real, points.imag], -1).astype(np.float32)
    scatter = (away / np.maximum(abs(left - right), 1e-6)).astype(np.float32)
    return FaceMesh(pairs, np.mean(scores[1:], 0), scatter)


def five_points(points: Float32[np.ndarray, "478 2"]) -> Float32[np.ndarray, "5 2"]:
    """Eyes (the middle of their corners), nose tip and mouth corners; the viewer's left first."""
    return np.stack([points[list(corners)].mean(0) for corners in FIVE])


def _look(
    network: AttentionMesh, crops: UInt8[Tensor, "face 3 192 192"], also_mirrored: bool
) -> list[tuple[Complex128[np.ndarray, "face 478"], Float32[np.ndarray, " face"]]]:
    """Points in the crops as x + iy, and scores; from their mirror images as well, in one batch."""
    batch = torch.cat([crops, crops.flip(3)]) if also_mirrored else crops
    with one_thread(), torch.inference_mode():
        points, score = network(batch.to(network.mirror.device).float() / 255)
    points, score = points.double().cpu().numpy() @ np.array([1, 1j]), score.cpu().numpy()
    looks = [(points[: len(crops)], score[: len(crops)])]
    if also_mirrored:
        mirrored = points[len(crops) :, network.mirror.cpu()]
        looks.append((MESH_SIZE - mirrored.conj(), score[len(crops) :]))
    return looks


def _upright_square(points: Complex128[np.ndarray, "478"]) -> tuple[complex, complex]:
    """Where a crop lies: its point p is photo point scale p + origin."""
    right, left = (points[corner] for corner in OUTER_EYES)
    turn = (left - right) / abs(left - right)
    upright = points / turn
    low = upright.real.min() + 1j * upright.imag.min()
    high = upright.real.max() + 1j * upright.imag.max()
    side = MARGIN * max((high - low).real, (high - low).imag)
    corner = (low + high) / 2 - side / 2 * (1 + 1j)
    return turn * side / MESH_SIZE, turn * corner
