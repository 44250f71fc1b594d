"""Notebook 00: the warm-up that shows what a check says."""

import torch
from spoiled_answers import cached, halved, squeezed, viewed

from facerecon_lib.course.nb00_start.checks import masked_mean


def _by_loop(image, mask):
    pairs = zip(image, mask, strict=True)
    return torch.stack([(one * weights).sum((1, 2)) / weights.sum() for one, weights in pairs])


MUTANTS = {
    "mean_colour": {
        "channels averaged": lambda image, mask: masked_mean(image, mask).mean(1, keepdim=True),
        "the mask made hard": lambda image, mask: masked_mean(image, (mask > 0.5).float()),
        "divided by 3 times the mask": lambda image, mask: masked_mean(image, mask) / 3,
        "the batch axis lost": lambda image, mask: masked_mean(image, mask)[0],
        "weights squared": lambda image, mask: (image * mask * mask).sum((2, 3)) / mask.sum((2, 3)),
        "divided by the pixels that count at all": lambda image, mask: (
            (image * mask).sum((2, 3)) / (mask > 0).sum((2, 3))
        ),
        "one weight for the batch": lambda image, mask: (image * mask).sum((2, 3)) / mask.sum(),
        "the first mask for all": lambda image, mask: masked_mean(image, mask[:1].expand_as(mask)),
        "always the same colour": lambda image, mask: image.new_tensor([0.9, 0.5, 0.1]).expand(
            len(image), 3
        ),
        "means of rows": lambda image, mask: (
            (image * mask).sum(3) / mask.sum(3).clamp_min(1e-6)
        ).mean(2),
        "outside the mask": lambda image, mask: masked_mean(image, 1 - mask),
        "divided by at least 1": lambda image, mask: (
            (image * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)
        ),
        "a little added below": lambda image, mask: (
            (image * mask).sum((2, 3)) / (mask.sum((2, 3)) + 1e-5)
        ),
        "faint weights left out": lambda image, mask: (
            (image * mask * (mask > 0.01)).sum((2, 3)) / mask.sum((2, 3))
        ),
        "never darker than 0.05": lambda image, mask: masked_mean(image, mask).clamp(min=0.05),
        "at most 1,000 pixels": lambda image, mask: (
            (image * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(max=1000)
        ),
        "the first 100 rows": lambda image, mask: masked_mean(image[:, :, :100], mask[:, :, :100]),
        "every other pixel": lambda image, mask: masked_mean(
            image[..., ::2, ::2], mask[..., ::2, ::2]
        ),
        "the middle alone": lambda image, mask: image[:, :, image.shape[2] // 2].mean(2),
        "weights in hundredths": lambda image, mask: masked_mean(image, mask.mul(100).round()),
        "kept by size": cached(masked_mean),
        "a view of the picture": viewed(masked_mean),
        "half precision": halved(masked_mean),
        "axes of length 1 lost": squeezed(masked_mean),
    }
}

ALTERNATIVES = {
    "mean_colour": {
        "einsum": lambda image, mask: (
            torch.einsum("bchw,bdhw->bc", image, mask) / mask.sum((1, 2, 3))[:, None]
        ),
        "one picture after the other": _by_loop,
        "in place": lambda image, mask: image.mul_(mask).sum((2, 3)).div_(mask.sum((2, 3))),
        "weights that add up to 1 first": lambda image, mask: (
            image * (mask / mask.sum((2, 3), keepdim=True))
        ).sum((2, 3)),
        "means divided": lambda image, mask: (image * mask).mean((-1, -2)) / mask.mean((-1, -2)),
    }
}
