"""Notebook 00: the warm-up that shows what a check says, and a path through settings."""

import math

import torch
from spoiled_answers import cached, halved, single, squeezed, stale, viewed

from facerecon_lib.course.nb00_start.checks import closed_loop, masked_mean, path_through, straight


def _by_loop(image, mask):
    pairs = zip(image, mask, strict=True)
    return torch.stack([(one * weights).sum((1, 2)) / weights.sum() for one, weights in pairs])


def loop_by_weights(keys, frames):
    """The sum of all keys by weights that depend on the frame alone."""
    path = []
    for i in range(frames):
        k, u = i * len(keys) // frames, i * len(keys) / frames % 1
        shares = (
            -u + 2 * u**2 - u**3,
            2 - 5 * u**2 + 3 * u**3,
            u + 4 * u**2 - 3 * u**3,
            u**3 - u**2,
        )
        path.append(sum(w / 2 * keys[(k - 1 + j) % len(keys)] for j, w in enumerate(shares)))
    return torch.stack(path)


def loop_by_solving(keys, frames):
    """The four conditions of each cubic, solved."""
    conditions = keys.new_tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 2, 3]])
    slope = (keys.roll(-1, 0) - keys.roll(1, 0)) / 2
    known = torch.stack([keys, slope, keys.roll(-1, 0), slope.roll(-1, 0)])
    cubics = torch.linalg.solve(conditions, known.flatten(1)).view_as(known)
    step = torch.arange(frames) * len(keys)
    powers = ((step % frames).to(keys.dtype) / frames)[None, :, None] ** torch.arange(4)[
        :, None, None
    ].to(keys.dtype)
    return (cubics[:, step // frames] * powers).sum(0)


def loop_by_extending(keys, frames):
    """Three keys more at the ends, and Hermite's four polynomials."""
    count = len(keys)
    longer = torch.cat([keys[-1:], keys, keys[torch.arange(2) % count]])
    slope = (longer[2:] - longer[:-2]) / 2
    step = torch.arange(frames) * count
    k, u = step.div(frames, rounding_mode="floor"), (step.remainder(frames) / frames).to(keys)
    u = u[:, None]
    ends = (1 + 2 * u) * (1 - u) ** 2 * longer[k + 1] + u**2 * (3 - 2 * u) * longer[k + 2]
    return ends + u * (1 - u) ** 2 * slope[k] + u**2 * (u - 1) * slope[k + 1]


def loop_by_sines(keys, frames):
    """Through all keys by the fewest waves: smooth, and another path."""
    count, at = len(keys), torch.arange(frames) / frames
    waves = torch.fft.fft(keys, dim=0) / count
    order = torch.fft.fftfreq(count, 1 / count)
    turns = torch.exp(2j * math.pi * at[:, None] * order)
    return (turns.to(waves.dtype) @ waves).real.to(keys)


def loop_near_keys(keys, frames):
    """A B-spline: smoother, and past the keys."""
    step = torch.arange(frames) * len(keys)
    k, u = step // frames, ((step % frames).to(keys.dtype) / frames)[:, None]
    a, b, c, d = (keys[(k + j) % len(keys)] for j in (-1, 0, 1, 2))
    mixed = (1 - u) ** 3 * a + (4 - 6 * u**2 + 3 * u**3) * b
    return (mixed + (1 + 3 * u + 3 * u**2 - 3 * u**3) * c + u**3 * d) / 6


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"mean_colour", "loop"}

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
    },
    "loop": {
        "waves": loop_by_sines,
        "past the keys": loop_near_keys,
        "kept between its neighbours": lambda keys, frames: closed_loop(keys, frames).clamp(
            keys.amin(0), keys.amax(0)
        ),
        "shares from 0 to 1 only": lambda keys, frames: closed_loop(keys, frames).clamp(0, 1),
        "softened shares": path_through(share=lambda u: u * u * (3 - 2 * u)),
        "slopes a third": path_through(slopes=lambda a, b, c: (c - a) / 3),
        "slopes by neighbours two keys away": path_through(slopes=lambda a, b, c: (a - c) / 2),
        "one frame more": lambda keys, frames: closed_loop(keys, frames + 1),
        "one frame late": lambda keys, frames: closed_loop(keys, frames).roll(1, 0),
        "from the second key": lambda keys, frames: closed_loop(keys.roll(-1, 0), frames),
        "backwards": lambda keys, frames: closed_loop(keys.flip(0), frames),
        "whole frames between keys": lambda keys, frames: closed_loop(
            keys, len(keys) * max(frames // len(keys), 1)
        )[:frames],
        "as many frames between all keys": path_through(
            clock=lambda frames, count: (torch.arange(frames), max(frames // count, 1))
        ),
        "four keys at least": lambda keys, frames: (
            closed_loop(keys, frames) if len(keys) > 3 else straight(keys, frames)
        ),
        "a hundred frames at most": lambda keys, frames: closed_loop(keys, min(frames, 100)),
        "a key twice": lambda keys, frames: closed_loop(torch.cat([keys, keys[:1]]), frames),
        "in float32": single(closed_loop),
        "halved": halved(closed_loop),
        "settings cached": stale(closed_loop, 0),
        "kept by size": cached(closed_loop),
        "a view of the keys": viewed(closed_loop, 0),
        "one dial squeezed": squeezed(closed_loop),
    },
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
    },
    "loop": {
        "by weights": loop_by_weights,
        "by solving": loop_by_solving,
        "by extending": loop_by_extending,
    },
}
