"""Checks of notebook 00: a warm-up that shows what checks say, and a path through settings."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ..checks import exercise_check
from ..compare import drawn_together, normal, strided, uniform
from ..drawing.style import charts


def masked_mean(
    image: Float[Tensor, "batch 3 height width"], mask: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch 3"]:
    """The mean colour under a mask: its weights add up to one."""
    return (image * mask).sum((2, 3)) / mask.sum((2, 3))


CALL = "mean_colour of an orange picture, (0.9, 0.5, 0.1), with two fifths under the mask,"


@exercise_check(
    stand_in=masked_mean,
    mistakes={
        f"{CALL} is (0.36, 0.20, 0.04): too dark. The pixels outside the mask became zero, and "
        "still count as pixels. How many are under the "
        "mask?": lambda image, mask: (image * mask).mean((2, 3)),
        f"{CALL} is (7.20, 4.00, 0.80): a sum, where the mean is asked for.": lambda image, mask: (
            image * mask
        ).sum((2, 3)),
        "mean_colour ignores the mask.": lambda image, mask: image.mean((2, 3)),
        "mean_colour mixes the pictures of a batch: each has its own mean.": lambda image, mask: (
            (image * mask).sum((0, 2, 3)) / mask.sum()
        ).expand(len(image), 3),
    },
    axes=("batch", "channel"),
)
def mean_colour(attempt) -> str:
    image, soft = uniform(3, 3, 7, 5, seed=0), uniform(3, 1, 7, 5, seed=1)
    photo, small = uniform(1, 3, 224, 224, seed=2), torch.zeros(1, 1, 224, 224)
    small[..., 90:108, 48:70] = 1.0
    faint = torch.zeros(1, 1, 224, 224)
    faint[..., 200, 7] = 0.004
    call = "mean_colour(image, mask)"
    with attempt.part("by hand"):
        orange = torch.tensor([0.9, 0.5, 0.1])[:, None, None].expand(1, 3, 4, 5)
        mask = torch.zeros(1, 1, 4, 5)
        mask[..., :2] = 1.0
        attempt.case(CALL, (orange, mask), picture=_swatches)
    with attempt.part("hard and soft masks"):
        attempt.case(f"{call} for three random pictures", (image, (soft > 0.5).float()))
        hint = "Such a mask is a weight: it multiplies the pixel, and the weights' sum divides."
        attempt.case(f"{call} with a mask between 0 and 1", (image[:2], soft[:2]), hint)
    with attempt.part("photos"):
        for words, weights in {
            "18 by 22 pixels under the mask": small,
            "all of it under the mask": torch.ones_like(small),
            "one pixel of weight 0.004 under the mask": faint,
        }.items():
            attempt.case(f"mean_colour of a photo, 224 by 224, {words}", (photo, weights))
    with attempt.part("edges and layouts"):
        attempt.case(f"{call} for three others, not contiguous", strided(1 - image, soft))
        attempt.case("mean_colour of a picture that is almost black", (0.01 * image, soft))
        attempt.case("mean_colour of one pixel", (photo[..., :1, :1], faint[..., 200:201, 7:8]))
    return "hard and soft masks, one picture or several"


def _swatches(got: Tensor, expected: Tensor) -> Figure:
    figure, axes = charts(4.4, 1.9, 2, title="The colour under the mask", fontsize=11)
    for axis, name, colour in zip(axes, ("expected", "yours"), (expected, got), strict=True):
        axis.imshow([[colour.reshape(-1)[:3].clamp(0, 1).tolist()]], aspect="auto")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    return figure


def path_through(
    neighbours=lambda k, count: (k + torch.arange(-1, 3)[:, None]) % count,
    clock=lambda frames, count: (torch.arange(frames) * count, frames),
    slopes=lambda before, here, after: (after - before) / 2,
    share=lambda u: u,
):
    """The closed Catmull-Rom path; each step can be exchanged for a mistake."""

    def loop(keys: Tensor, frames: int) -> Tensor:
        step, whole = clock(frames, len(keys))
        k, u = step // whole, share((step % whole).to(keys.dtype) / whole)[:, None]
        a, b, c, d = keys[neighbours(k, len(keys))]
        first, last = slopes(a, b, c), slopes(b, c, d)
        turn, bend = first + last - 2 * (c - b), 3 * (c - b) - 2 * first - last
        return b + u * (first + u * (bend + u * turn))

    return loop


closed_loop = path_through()


def straight(keys: Tensor, frames: int) -> Tensor:
    """From key to key in straight lines."""
    step = torch.arange(frames) * len(keys)
    k, u = step // frames, ((step % frames).to(keys.dtype) / frames)[:, None]
    return keys[k].lerp(keys[(k + 1) % len(keys)], u)


@exercise_check(
    stand_in=closed_loop,
    mistakes={
        "Those are straight lines from key to key: every dial changes its speed with a jerk at a "
        "key. The path is a cubic between two keys.": straight,
        "After the last key comes the first again, and before the first stands the last: count "
        "the keys modulo K.": path_through(
            lambda k, count: (k + torch.arange(-1, 3)[:, None]).clamp(0, count - 1)
        ),
        "The last frame is the first one again, so in a loop that picture stands still. Frame i "
        "stands at the time i K / frames.": path_through(
            clock=lambda frames, count: (torch.arange(frames) * count, max(frames - 1, 1))
        ),
        "The path ends at the last key. The way from there back to the first is part of the "
        "loop.": path_through(
            clock=lambda frames, count: (torch.arange(frames) * (count - 1), max(frames - 1, 1))
        ),
        "The dials come to rest at every key: their slope there should be half the way from the "
        "key before to the key after, not 0.": path_through(slopes=lambda a, b, c: 0 * b),
        "The slopes are twice what they should be: half of the way from the key before to the "
        "key after.": path_through(slopes=lambda a, b, c: c - a),
        "The slope at a key is taken there from the key itself to the next. It is half the way "
        "from the key before to the key after.": path_through(slopes=lambda a, b, c: c - b),
        "The slope at a key is taken there from the key before to the key itself. It is half the "
        "way from the key before to the key after.": path_through(slopes=lambda a, b, c: b - a),
    },
    axes=("frame", "dial"),
    points=2,
    challenge=True,
)
def loop(attempt) -> str:
    keys = normal(7, 5, seed=3)
    with attempt.part("by hand"):
        two = torch.tensor([[1.0], [3.0]])
        there = torch.tensor([1.0, 1.3125, 2.0, 2.6875, 3.0, 2.6875, 2.0, 1.3125])[:, None]
        attempt.case("loop of two settings of one dial, 8 frames", (two, 8), expected=there)
        square = [[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 8.0]]
        middles = [[4.0, -1.0], [9.0, 4.0], [4.0, 9.0], [-1.0, 4.0]]
        corners = torch.tensor(square)
        path = torch.stack([corners, torch.tensor(middles)], 1).flatten(0, 1)
        draw = drawn_together("The path through four corners")
        attempt.case("loop of four corners, 8 frames", (corners, 8), expected=path, picture=draw)
    with attempt.part("a face"):
        settings = normal(5, 6, seed=4) * torch.tensor([25.0, 1.0, 1.0, 1.0, 1.0, 3.0])
        attempt.case("loop of five settings of six dials, 16 frames", (settings, 16))
        attempt.case("loop of the 182 numbers of four faces", (normal(4, 182, seed=5), 30))
    with attempt.part("numbers of frames"):
        for frames in (1, 3, 8, 50, 1000):
            attempt.case(f"loop of seven settings, {frames} frames", (keys, frames))
    with attempt.part("edges and layouts"):
        attempt.case("loop of three settings, 10 frames", (keys[:3], 10))
        attempt.case("loop of one setting, 5 frames", (keys[:1], 5))
        attempt.case("loop of settings in float64", (keys.double(), 11))
        attempt.case("loop of settings that are not contiguous", (*strided(keys), 12))
        attempt.case("loop of other settings", (1 - keys.flip(0), 12))
        attempt.case("loop of millimetres, in the hundreds", (100 * keys + 350, 20))
    return "through every key, around every corner, and back to where it began"
