"""The check of notebook 00's warm-up, which shows what checks say."""

from __future__ import annotations

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from . import Wrong, close, exercise_check


def masked_mean(
    image: Float[Tensor, "batch 3 height width"], mask: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch 3"]:
    """The mean colour under a mask: its weights add up to one."""
    return (image * mask).sum((2, 3)) / mask.sum((2, 3))


@exercise_check(stand_in=masked_mean)
def mean_colour(attempt) -> str:
    generator = torch.Generator().manual_seed(0)
    image = torch.tensor([0.9, 0.5, 0.1])[:, None, None].expand(1, 3, 4, 5)
    mask = torch.zeros(1, 1, 4, 5)
    mask[..., :2] = 1.0
    got = attempt(image, mask)
    expected = masked_mean(image, mask)
    call = "mean_colour of an orange picture, (0.9, 0.5, 0.1), with two fifths under the mask,"
    swatches = _swatches("The colour under the mask")
    if isinstance(got, Tensor) and got.shape == (1, 3):
        if torch.allclose(got, 0.4 * expected, atol=1e-4):
            raise Wrong(
                f"{call} is {_said(got)}: too dark. The pixels outside the mask became zero, and "
                "still count as pixels. How many are under the mask?",
                lambda: swatches(got, expected),
            )
        if torch.allclose(got, 8 * expected, atol=1e-4):
            raise Wrong(f"{call} is {_said(got)}: a sum, where the mean is asked for.")
    close(call, got, expected, axes=("batch", "channel"), picture=swatches)
    image = torch.rand(3, 3, 7, 5, generator=generator)
    mask = (torch.rand(3, 1, 7, 5, generator=generator) > 0.5).float()
    got, expected = attempt(image, mask), masked_mean(image, mask)
    if isinstance(got, Tensor) and got.shape == expected.shape:
        together = (image * mask).sum((0, 2, 3)) / mask.sum()
        if torch.allclose(got, image.mean((2, 3)), atol=1e-4):
            raise Wrong("mean_colour ignores the mask.")
        if torch.allclose(got, together.expand_as(got), atol=1e-4):
            raise Wrong("mean_colour mixes the pictures of a batch: each has its own mean.")
    close(
        "mean_colour(image, mask) for three random pictures",
        got,
        expected,
        axes=("batch", "channel"),
    )
    soft = torch.rand(2, 1, 7, 5, generator=generator)
    close(
        "mean_colour(image, mask) with a mask between 0 and 1",
        attempt(image[:2], soft),
        masked_mean(image[:2], soft),
        axes=("batch", "channel"),
        hint="Such a mask is a weight: it multiplies the pixel, and the weights' sum divides.",
    )
    return "hard and soft masks, one picture or several"


def _said(colour: Tensor) -> str:
    return f"({', '.join(f'{float(v):.2f}' for v in colour.reshape(-1))})"


def _swatches(title: str):
    def draw(got: Tensor, expected: Tensor) -> Figure:
        figure = Figure(figsize=(4.4, 1.9), layout="constrained", facecolor="white")
        figure.suptitle(title, fontsize=11)
        for axis, name, colour in zip(
            figure.subplots(1, 2), ("expected", "yours"), (expected, got), strict=True
        ):
            rgb = colour.detach().reshape(-1)[:3].clamp(0, 1).tolist()
            axis.imshow([[rgb]], aspect="auto")
            axis.set_title(name, fontsize=10)
            axis.axis("off")
        return figure

    return draw
