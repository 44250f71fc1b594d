"""The quality of a detected face for training: size, sharpness, pose and light, and their flags.

    quality = measure_quality(photo.pixels, faces, landmarks, crop)
    quality.flags()                                      # ("small", "blurred"), or nothing

The flags follow from the stored numbers, so that a stricter choice needs no second pass over the
photos. None judges how bright a skin is: light is judged by the share of the face that the sensor
or the file has cut off at black or white. Notebook 10, section 2.3.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..face.camera import orthographic_pose
from ..face.landmarks68 import INNER
from ..face.morphable_model import MorphableModel
from ..files.weights import shipped_file
from .crop import Crop
from .face_search import FaceBox
from .reading import Pixels

BLACK, WHITE = 4 / 255, 251 / 255

LIMITS = {
    "unsure": ("score", 0.99, "the detector's score is below {limit:g}"),
    "several": ("others", 0.5, "another face has {limit:g} of this one's height, or more"),
    "small": ("face_px", 64, "the landmarks span less than {limit:g} pixels of the photo"),
    "blurred": ("blur", 0.7, "the blur effect is above {limit:g}"),
    "turned": ("yaw", 40, "the face is turned by more than {limit:g} degrees to a side"),
    "tilted": ("pitch", 30, "the face looks up or down by more than {limit:g} degrees"),
    "scattered": ("scatter", 0.015, "repeated guesses at the points differ by {limit:g}"),
    "flat": ("flat", 0.2, "more than {limit:g} of the face has no shade: a drawing, or a mosaic"),
    "cut": ("outside", 0.05, "more than {limit:g} of the landmarks are outside the photo"),
    "dark": ("black", 0.3, "more than {limit:g} of the face is cut off at black"),
    "bright": ("white", 0.2, "more than {limit:g} of the face is cut off at white"),
}
"""Flag: the number that it is about, its limit, and the flag in words."""
FLAGS = tuple(LIMITS)
AT_LEAST = ("score", "face_px")  # numbers that are flagged when they are small


@dataclass(frozen=True)
class Quality:
    """Of one face; pixels are the photo's, shares are of 1."""

    score: float  # of the face search, or of the mesh where that is lower
    others: float  # height of the largest other face, as a share of this one's; 0: alone
    face_px: float  # larger side of the landmarks' box
    blur: float  # of the crop: 0 sharp, 1 without any detail (Crete et al., 2007)
    yaw: float  # degrees; the face looks to the viewer's right
    pitch: float  # degrees; up
    roll: float  # degrees; counterclockwise
    scatter: float  # of the points' guesses, / outer eye distance: see FaceMesh
    flat: float  # share of the face's pixels that equal their neighbours
    outside: float  # share of the landmarks outside the photo
    black: float  # share of the face's pixels at black in all channels
    white: float  # and at white in two channels

    def flags(self) -> tuple[str, ...]:
        """Names out of FLAGS, in their order."""
        flags = []
        for flag, (name, limit, _) in LIMITS.items():
            value = getattr(self, name)
            if value < limit if name in AT_LEAST else abs(value) > limit:
                flags.append(flag)
        return tuple(flags)

    def facts(self) -> dict:
        """For JSON: the numbers, rounded to what they are worth, and the flags."""
        return asdict(self) | {"flags": list(self.flags())}


def measure_quality(
    pixels: Pixels,
    faces: Sequence[FaceBox],
    landmarks: Float[np.ndarray, "68 2"],
    crop: Crop,
    scatter: float,
) -> Quality:
    """Of the first of `faces`: its landmarks (photo pixels), crop, and FaceMesh.scatter."""
    face = faces[0]
    size = float(np.ptp(landmarks, axis=0).max())
    height, width = pixels.shape[:2]
    heights = [float(f.box[3] - f.box[1]) for f in faces]
    image = crop.image[0].permute(1, 2, 0).numpy()
    face_pixels = face_mask(crop.landmarks[0].numpy(), image.shape[0])
    skin = image[face_pixels]
    down, across = (np.abs(np.diff(image, axis=axis)).max(-1) for axis in (0, 1))
    same = np.maximum(down[:, :-1], across[:-1]) < 0.5 / 255
    values = dict(
        score=face.score,
        others=max(heights[1:], default=0.0) / max(heights[0], 1e-6),
        face_px=size,
        blur=blur_effect(image),
        outside=((landmarks < 0) | (landmarks > (width, height))).any(1).mean(),
        flat=same[face_pixels[:-1, :-1]].mean(),
        scatter=scatter,
        black=(skin.max(-1) <= BLACK).mean(),
        white=(np.sort(skin, -1)[:, 1] >= WHITE).mean(),  # warm light alone fills the red one
        **dict(zip(("yaw", "pitch", "roll"), head_angles(landmarks), strict=True)),
    )
    digits = dict.fromkeys(("face_px", "yaw", "pitch", "roll"), 1)
    numbers = {name: round(float(v), digits.get(name, 4)) for name, v in values.items()}
    return Quality(**numbers)


def blur_effect(image: Float[np.ndarray, "height width 3"]) -> float:
    """0 sharp to 1 blurred: the share of its edges, down or across, that a further blur leaves."""
    shares, grey = [], image.mean(-1)
    if np.ptp(grey) == 0:
        return 1.0
    for picture in (grey, grey.T):
        wide = np.pad(picture, ((0, 0), (5, 5)), "symmetric")
        blurred = np.lib.stride_tricks.sliding_window_view(wide, 11, axis=1).mean(-1)
        edges, left = (_edges(values) for values in (picture, blurred))
        shares.append(np.minimum(edges, left).sum() / max(edges.sum(), 1e-9))
    return float(max(shares))


def _edges(picture: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "inner_h inner_w"]:
    """How steep a picture is across, by Sobel's weights; without the rim of two pixels."""
    across = picture[1:, 3:] - picture[1:, 1:-2]
    return np.abs(across[:-2] + 2 * across[1:-1] + across[2:])


def face_mask(points: Float[np.ndarray, "68 2"], size: int) -> np.ndarray:
    """True on the pixels of a crop within the convex hull of the landmarks (crop pixels)."""
    points, centres = points.astype(float), np.arange(size) + 0.5
    sides = points - points[:, None]  # from each point to each
    x, y = sides[..., 0, None], sides[..., 1, None]
    outer = (x * sides[:, None, :, 1] >= y * sides[:, None, :, 0]).all(-1)  # no point beyond it
    mask = np.ones((size, size), bool)
    for i, j in np.argwhere(outer):
        (dx, dy), (x, y) = sides[i, j], points[i]
        mask &= dx * (centres[:, None] - y) >= dy * (centres - x)
    return mask


def head_angles(landmarks: Float[np.ndarray, "68 2"]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees, from the orthographic pose of the points without the jaw."""
    flat = torch.from_numpy((landmarks[INNER] * (1, -1)).astype(np.float64))
    rotation = orthographic_pose(_mean_points(), flat[None])[0][0].numpy()
    x, y, z = rotation[:, 2]  # where the face looks
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return tuple(np.degrees((np.arctan2(x, z), np.arcsin(np.clip(y, -1, 1)), roll)).tolist())


@lru_cache(maxsize=1)
def _mean_points() -> Float[Tensor, "51 3"]:
    """Inner landmarks of the mean face, mm."""
    model = MorphableModel.load(shipped_file("face_model.safetensors"), subdivision=0)
    return model.mean[model.landmarks[INNER]].double()
