"""Whether a reconstructed face can be relied on: what the photo shows, not how well a fit went.

    evidence = gather_evidence(photo, detection, crop, face)
    evidence.reasons()                       # () or ("the mouth shows nothing like the model's",)

A model comes near any 68 landmarks, those on fur or behind a mask too, so that a low loss proves
nothing. Evidence is what a wrong face cannot have: enough pixels, all of the face in the picture,
guesses at its points that agree, and a photo that looks like the rendering where eyes and mouth
are. `tests/benchmarks/verdict.py` shows both errors of these limits. Notebook 10, section 2.1.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..face.camera import CROP_SIZE
from ..face.colour import linear_to_srgb, srgb_to_lab, srgb_to_linear
from ..face.landmarks68 import LEFT_EYE, MOUTH, RIGHT_EYE
from ..photos.crop import Crop
from ..photos.detection import Detection
from ..photos.quality import Quality, measure_quality
from ..photos.reading import Photo
from ..rendering.synthesis import Face

LIMITS = {
    "face_px": (30, "the face spans {value:.0f} pixels of the photo, under {limit:g}"),
    "outside": (0.05, "{value:.0%} of the face's landmarks are outside the photo"),
    "score": (0.99, "the detector is not sure that this is a face ({value:.3f} of 1)"),
    "scatter": (0.015, "guesses at the points scatter by {value:.1%} of the eye distance"),
    "blur": (0.72, "the face is blurred or enlarged from a few pixels ({value:.2f} of 1)"),
    "flat": (0.2, "{value:.0%} of the face has no shade at all: a drawing, a mosaic or a mask"),
    "black": (0.3, "{value:.0%} of the face is cut off at black"),
    "white": (0.2, "{value:.0%} of the face is cut off at white"),
    "brightest": (0.56, "the photo is dark, its brightest parts at {value:.0%}: so is the skin"),
    "eyes_alike": (0.42, "the photo shows no eyes where the rendering does: are they covered?"),
    "mouth_alike": (0.2, "the photo shows no mouth where the rendering does: is it covered?"),
    "eyes_off": (0.25, "around the eyes the rendering's colours are {value:.2f} off the photo's"),
    "colours_off": (0.2, "the rendering's colours are {value:.2f} off the photo's"),
    "tint": (1.0, "no skin has this colour: is the light coloured? Then so is the unlit skin"),
}
"""Number: its limit, and what it says beyond it."""
AT_LEAST = ("face_px", "score", "brightest", "eyes_alike", "mouth_alike")
SKIN_COLOURS = (-5.0, 36.0), (-3.0, 60.0)
"""a* and b* of photographed skin of all tones: see `_tint`."""


@dataclass(frozen=True)
class Evidence:
    """Of one face: its quality as a picture, and how the photo meets the rendering."""

    quality: Quality
    brightest: float  # the brightest hundredth of the photo, its largest channel, 0 to 1
    eyes_alike: float  # correlation of the rendering's and the photo's brightness around the eyes
    mouth_alike: float  # and around the mouth
    eyes_off: float  # mean absolute difference of the colours close to the eyes
    colours_off: float  # and of the face
    tint: float  # of the photographed face, to the middle of skin's: see `_tint`

    def numbers(self) -> dict[str, float]:
        """All numbers by name, for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "quality"}
        return asdict(self.quality) | {name: round(value, 4) for name, value in own.items()}

    def reasons(self) -> tuple[str, ...]:
        """Why the face is not to be relied on, in the order of LIMITS; nothing if it can be."""
        numbers, reasons = self.numbers(), []
        for name, (limit, words) in LIMITS.items():
            value = numbers[name]
            if value < limit if name in AT_LEAST else value > limit:
                reasons.append(words.format(value=value, limit=limit))
        return tuple(reasons)


@torch.no_grad()
def gather_evidence(photo: Photo, detection: Detection, crop: Crop, face: Face) -> Evidence:
    """Of the face that was reconstructed from a photo's crop."""
    quality = measure_quality(
        photo.pixels, detection.faces, detection.landmarks, crop, detection.scatter
    )
    image, mask = (values[0].cpu() for values in face.render(CROP_SIZE))
    covered = (mask[0] > 0.5) & (crop.valid[0, 0] > 0)
    target = crop.image[0]
    grey, rendered = (_smoothed(values) for values in (target, image))
    off = (image.clamp(0, 1) - target).abs().mean(0)

    def around(parts: tuple[slice, ...], room: float) -> Bool[Tensor, "size size"]:
        boxes = [_box(crop.landmarks[0, part], room) for part in parts]
        return torch.stack(boxes).any(0) & covered

    eyes, mouth = around((RIGHT_EYE, LEFT_EYE), 14), around((MOUTH,), 14)
    close = around((RIGHT_EYE, LEFT_EYE), 6)
    return Evidence(
        quality=quality,
        brightest=float(np.percentile(photo.pixels[::4, ::4].max(-1), 99)) / 255,
        eyes_alike=_correlation(grey[eyes], rendered[eyes]),
        mouth_alike=_correlation(grey[mouth], rendered[mouth]),
        eyes_off=float(off[close].mean()) if close.any() else 1.0,
        colours_off=float(off[covered].mean()) if covered.any() else 1.0,
        tint=_tint(target[:, covered]),
    )


def _smoothed(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "height width"]:
    """Brightness without detail that no model has: the mean of 7 by 7 pixels."""
    return F.avg_pool2d(image.mean(0)[None], 7, 1, 3, count_include_pad=False)[0]


def _box(points: Float[Tensor, "point 2"], room: float) -> Bool[Tensor, "size size"]:
    """Pixels of the crop within `room` pixels of the points' box."""
    centres = torch.arange(CROP_SIZE) + 0.5
    low, high = points.amin(0) - room, points.amax(0) + room
    x, y = ((centres > low[axis]) & (centres < high[axis]) for axis in (0, 1))
    return y[:, None] & x


def _correlation(one: Float[Tensor, " pixel"], other: Float[Tensor, " pixel"]) -> float:
    """Pearson's; 0 where there is nothing to compare."""
    one, other = one - one.mean(), other - other.mean()
    norm = float(one.norm() * other.norm())
    return float(one @ other) / norm if norm > 1e-6 else 0.0


def _tint(colours: Float[Tensor, "3 pixel"]) -> float:
    """How far the mean colour is from the middle of skin's: 1 at the edge of SKIN_COLOURS.

    In the a*, b* plane of CIELAB, after its brightest channel was set to half the light: dark skin
    lies where light skin does, and lamps of red, green, blue and violet move either out of it.
    """
    if not colours.numel():
        return 0.0
    light = srgb_to_linear(colours).mean(1)
    lab = srgb_to_lab(linear_to_srgb(0.5 * light / light.max().clamp_min(1e-4)))
    return max(
        abs(2 * value - low - high) / (high - low)
        for value, (low, high) in zip(lab[1:].tolist(), SKIN_COLOURS, strict=True)
    )
