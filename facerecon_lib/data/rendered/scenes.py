"""What stands around a rendered face, and before it: background, head, hair, neck, glasses, hands.

It keeps an encoder from learning that a face ends where the model's mesh ends, or that nothing ever
covers one. Shapes are given in head coordinates: mm to the viewer's right and up from the middle of
the face, turned with its roll. Notebook 06, section 2.1.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...face.camera import axis_angle_to_matrix, ndc_to_pixels, pose, project_ndc
from ...face.coefficients import FaceCoefficients
from ...face.device_constants import constant
from .counted_random import CountedRandom

FAMILIES = ("train", "held-out")
"""Two families of light and background: an encoder is trained on one and judged on the other."""

HAIR = ((0.05, 0.04, 0.04), (0.16, 0.1, 0.07), (0.35, 0.22, 0.13), (0.7, 0.55, 0.35))
HAIR += ((0.5, 0.2, 0.1), (0.6, 0.6, 0.6), (0.1, 0.08, 0.08))
HEAD_CENTRE, HEAD_RADII = (0.0, 22.0, -72.0), (80.0, 118.0, 95.0)  # mm: an ellipsoid, ears and all

Picture = Float[Tensor, "batch 3 size size"]


@dataclass(eq=False)
class HeadFrame:
    """Where each pixel lies in head coordinates, mm, and where the middle of the skull is."""

    x: Float[Tensor, "batch size size"]
    y: Float[Tensor, "batch size size"]
    skull: Float[Tensor, "batch 2"]
    skull_width: Float[Tensor, " batch"]


def head_frame(c: FaceCoefficients, size: int) -> HeadFrame:
    """From the pose: pixels are taken back through a scaled orthographic camera."""
    device = c.rotation.device
    marks = constant(((0.0, 0.0, 10.0), HEAD_CENTRE), torch.float32, device).expand(len(c), -1, -1)
    marks = pose(marks, c.rotation, c.scale, c.translation)
    points = ndc_to_pixels(project_ndc(marks), size)
    turned = axis_angle_to_matrix(c.rotation)
    up = F.normalize(turned[:, :2, 1], dim=-1)  # viewer axes
    beside = c.translation + constant((1.0, 0.0, 0.0), up.dtype, device)
    per_mm = ndc_to_pixels(project_ndc(torch.stack([c.translation, beside], 1)), size)
    per_mm = (per_mm[:, 0] - per_mm[:, 1]).norm(dim=-1)[:, None, None]
    centre_x, centre_y, skull_x, skull_y = points.flatten(1)[..., None, None].unbind(1)
    up_x, up_y = up[..., None, None].unbind(1)

    def to_head(column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (column - centre_x) / per_mm, -(row - centre_y) / per_mm
        return x * up_y - y * up_x, x * up_x + y * up_y

    pixels = torch.arange(size, device=device) + 0.5
    x, y = to_head(pixels, pixels[:, None])
    skull = torch.stack(to_head(skull_x, skull_y), -1)[:, 0, 0]
    side = turned[:, :2, 0].norm(dim=-1)  # 1 frontal, 0 in profile
    width = ((HEAD_RADII[0] * side) ** 2 + (HEAD_RADII[2] ** 2) * (1 - side**2)).sqrt()
    return HeadFrame(x, y, skull, width)


def background(numbers: CountedRandom, size: int, family: str) -> Picture:
    """Pictures without faces: clouds of colour and polygons; stripes and spots where held out."""
    clouds = smooth_noise(numbers, "background", size, channels=3)
    base = muted(numbers, "background colour")[..., None, None]
    studio = numbers.chance("studio", 0.5)[:, None, None, None]  # a plain wall
    spread = numbers.uniform("background spread", low=0.03, high=0.25)[:, None, None, None]
    spread = spread * (1 - 0.8 * studio)
    picture = base + spread * clouds
    line = torch.linspace(-1, 1, size, device=base.device)
    u, v = line, line[:, None]
    for i in range(3):
        name = f"background shape {i}"
        a, b, phase = (numbers.uniform(f"{name} {k}", low=-3, high=3)[:, None, None] for k in "abp")
        if family == "train":
            level = numbers.uniform(f"{name} cut")[:, None, None]
            cut = ((a * u + b * v + phase * 0.4).sin() > level).float()
        else:
            cut = ((6 * a * u).sin() * (6 * b * v + phase).cos() > 0.2).float()
        colour = muted(numbers, f"{name} colour")[..., None, None]
        share = numbers.uniform(f"{name} share", low=-0.7, high=0.9).clamp(min=0)
        share = share[:, None, None, None] * (1 - studio)
        picture = torch.lerp(picture, colour, share * cut[:, None])
    return picture.clamp_(0, 1)


def muted(numbers: CountedRandom, name: str) -> Float[Tensor, "batch 3"]:
    """Any colour, most of them nearly grey."""
    colour = numbers.uniform(name, 3)
    share = numbers.uniform(f"{name} strength")[:, None] ** 2
    return share * colour + (1 - share) * colour.mean(1, keepdim=True)


def smooth_noise(
    numbers: CountedRandom, name: str, size: int, channels: int, cells: tuple[int, ...] = (3, 7, 17)
) -> Float[Tensor, "batch channel size size"]:
    """Noise of several scales, the coarse ones strongest; standard deviation about 0.6."""
    to_fine = {n: _bicubic(n, size, numbers.indices.device) for n in cells}
    columns = [
        up @ numbers.normal(f"{name} noise {n}", channels, n, n) / n**0.5
        for n, up in to_fine.items()
    ]
    return torch.cat(columns, -1) @ torch.cat([*to_fine.values()], 1).T


@lru_cache(maxsize=32)
def _bicubic(n: int, size: int, device: torch.device) -> Float[Tensor, "size n"]:
    """Bicubic interpolation is linear, one axis at a time: its matrix, n samples to `size`."""
    one_each = torch.eye(n)[None, :, :, None].expand(1, n, n, 2)  # a channel for each sample
    fine = F.interpolate(one_each, (size, 2), mode="bicubic", align_corners=True)
    return fine[0, :, :, 0].T.contiguous().to(device)


class _Canvas:
    """A picture to paint on, and how much of it is still `free`; edges are `soft` mm wide."""

    def __init__(self, numbers: CountedRandom, picture: Tensor, soft: float):
        self.numbers, self.picture, self.soft = numbers, picture, soft
        self.free = torch.ones_like(picture[:, :1])

    def value(self, name: str, low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        return self.numbers.uniform(name, low=low, high=high)[:, None, None]

    def chance(self, name: str, probability: float) -> Float[Tensor, "batch 1 1"]:
        return self.numbers.chance(name, probability)[:, None, None]

    def paint(self, inside: Tensor, colour: Tensor, strength: Tensor | float = 1.0) -> None:
        """inside: mm from the edge, above 0 inside the shape."""
        cover = (torch.sigmoid(inside / self.soft) * strength)[:, None]
        self.picture = torch.lerp(self.picture, colour, cover)
        self.free = self.free * (1 - cover)


def behind_face(
    numbers: CountedRandom, frame: HeadFrame, picture: Picture, skin: Tensor, hair: Picture
) -> Picture:
    """The picture with clothes, neck, hair behind the head, and the head's skin, ears and all."""
    size, x, y = picture.shape[-1], frame.x, frame.y
    canvas = _Canvas(numbers, picture, soft=1.5)
    value, paint = canvas.value, canvas.paint
    wobble = smooth_noise(numbers, "outline", size, channels=1, cells=(4, 9))[:, 0]
    clothes = muted(numbers, "clothes")[..., None, None]
    noise = smooth_noise(numbers, "cloth", size, channels=1)
    width = frame.skull_width[:, None, None]
    cx, cy = frame.skull[:, 0, None, None], frame.skull[:, 1, None, None]
    # long hair falls beside the neck, behind it
    long = canvas.chance("long hair", 0.4)
    thick = value("hair thickness", 0.0, 28.0)
    falls = (width + thick + 4 * wobble) - (x - cx).abs()
    falls = torch.minimum(falls, cy + 20 - y) - 1000 * (1 - long)
    paint(falls, hair)
    neck = (45 + value("neck", 0, 18) + 2 * wobble) - (x - 0.5 * cx).abs() + (y > -20) * -999.0
    paint(neck, (0.8 * skin)[..., None, None])
    slope = value("shoulders", 0.1, 0.6)
    top = value("collar", -190, -125)
    paint(top - y - slope * (x - cx).abs() + 4 * wobble, clothes + 0.08 * noise)
    bald = canvas.chance("bald", 0.12)
    tall = HEAD_RADII[1] + thick
    round_head = 1 - torch.sqrt(((x - cx) / (width + thick)) ** 2 + ((y - cy) / tall) ** 2)
    round_head = torch.minimum(round_head * width, y - cy + value("nape", 10, 80))
    paint(round_head + 4 * wobble - 1000 * bald, hair)
    skull = 1 - torch.sqrt(((x - cx) / (width - 4)) ** 2 + ((y - cy) / HEAD_RADII[1]) ** 2)
    shade = value("side shade", 0.7, 1.0)[:, None]
    paint(skull * width + wobble, skin[..., None, None] * shade + 0.03 * noise)
    return canvas.picture.clamp_(0, 1)


def before_face(
    numbers: CountedRandom, frame: HeadFrame, picture: Picture, hair: Picture
) -> tuple[Picture, Float[Tensor, "batch 1 size size"]]:
    """The picture with hair over the forehead, glasses and other things, and what they leave free.

    Free is 1 where nothing lies, 0 beneath it, and between them at soft edges and tinted glasses.
    """
    size, x, y = picture.shape[-1], frame.x, frame.y
    canvas = _Canvas(numbers, picture, soft=1.0)
    value, paint = canvas.value, canvas.paint
    wobble = smooth_noise(numbers, "fringe", size, channels=1, cells=(6, 13))[:, 0]

    # the hairline: an arc whose middle is high on a bald head and over the brows under a fringe
    arc = value("hairline", 62, 125) - value("hairline bend", 0.002, 0.012) * x**2
    arc = arc + value("parting", -0.25, 0.25) * x
    paint(y - arc + 5 * wobble - 1000 * canvas.chance("bald", 0.12), hair)
    at_side = canvas.chance("side hair", 0.2)
    beside = (x - 0.3 * frame.skull[:, 0, None, None]).abs() - value("side hair in", 60, 82)
    paint(beside + 4 * wobble - 1000 * (1 - at_side), hair)

    glasses = canvas.chance("glasses", 0.12)
    across, high, centre = value("lens w", 19, 27), value("lens h", 14, 22), value("lens x", 30, 34)
    shape = ((x.abs() - centre) / across).abs() ** 3 + ((y - 29) / high).abs() ** 3
    rim = value("rim", 1.0, 3.5) - (shape ** (1 / 3) - 1).abs() * 20
    bridge = 2.0 - (y - 33).abs() - 1000 * (x.abs() > centre - across)
    dark = numbers.uniform("rim colour", 3, high=0.4)[..., None, None]
    paint(torch.maximum(rim, bridge) - 1000 * (1 - glasses), dark)
    tint = canvas.chance("tinted", 0.25) * value("tint", 0.3, 0.95)
    paint((1 - shape) * 20 - 1000 * (1 - glasses), dark, tint)

    thing = canvas.chance("thing", 0.12)
    ox, oy = value("thing x", -90, 90), value("thing y", -110, 90)
    turn = value("thing turn", -3.14, 3.14)
    along = (x - ox) * turn.cos() + (y - oy) * turn.sin()
    aside = -(x - ox) * turn.sin() + (y - oy) * turn.cos()
    half_length, half_width = value("thing l", 10, 50), value("thing w", 8, 25)
    box = torch.minimum(half_length - along.abs(), half_width - aside.abs())
    colour = muted(numbers, "thing colour")[..., None, None]
    paint(box + 2 * wobble - 1000 * (1 - thing), colour + 0.05 * wobble[:, None])
    return canvas.picture.clamp_(0, 1), canvas.free


def hair_colour(numbers: CountedRandom) -> Float[Tensor, "batch 3"]:
    """From black over brown and blond to grey; now and then any colour."""
    colour = numbers.fixed(*HAIR)[numbers.integer("hair colour", len(HAIR))]
    return (colour * numbers.uniform("hair light", low=0.6, high=1.5)[:, None]).clamp(0, 1)


def hair_strands(numbers: CountedRandom, frame: HeadFrame) -> Float[Tensor, "batch 1 size size"]:
    """Streaks along the fall of the hair, some strong, most faint."""
    k = numbers.uniform("strand", 3, low=0.3, high=1.2)
    lean = numbers.normal("strand lean", 3, sd=0.3)
    phase = numbers.uniform("strand phase", 3, high=6.3)
    waves = (
        torch.sin(k * (frame.x + lean * frame.y) + phase)
        for k, lean, phase in torch.stack([k, lean, phase])[..., None, None].unbind(2)
    )
    return (numbers.uniform("strand depth")[:, None, None] ** 2 * sum(waves))[:, None]
