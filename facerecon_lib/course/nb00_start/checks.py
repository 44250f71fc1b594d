"""The check of notebook 00's warm-up, which shows what checks say."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ..checks import exercise_check
from ..compare import strided, uniform
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
    orange = torch.tensor([0.9, 0.5, 0.1])[:, None, None].expand(1, 3, 4, 5)
    mask = torch.zeros(1, 1, 4, 5)
    mask[..., :2] = 1.0
    attempt.case(CALL, (orange, mask), picture=_swatches)
    image, soft = uniform(3, 3, 7, 5, seed=0), uniform(3, 1, 7, 5, seed=1)
    call = "mean_colour(image, mask)"
    attempt.case(f"{call} for three random pictures", (image, (soft > 0.5).float()))
    hint = "Such a mask is a weight: it multiplies the pixel, and the weights' sum divides."
    attempt.case(f"{call} with a mask between 0 and 1", (image[:2], soft[:2]), hint)
    attempt.case(f"{call} for three others, not contiguous", strided(1 - image, soft))
    photo, small = uniform(1, 3, 224, 224, seed=2), torch.zeros(1, 1, 224, 224)
    small[..., 90:108, 48:70] = 1.0
    faint = torch.zeros(1, 1, 224, 224)
    faint[..., 200, 7] = 0.004
    for words, weights in {
        "18 by 22 pixels under the mask": small,
        "all of it under the mask": torch.ones_like(small),
        "one pixel of weight 0.004 under the mask": faint,
    }.items():
        attempt.case(f"mean_colour of a photo, 224 by 224, {words}", (photo, weights))
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
