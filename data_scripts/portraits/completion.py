"""Probabilistic PCA with weights: the skins that portraits show in part, whole.

    mean, completed, noise = complete(values, weights)   # (V, 3), (N, V, 3), s.d.

M. E. Tipping and C. M. Bishop, "Probabilistic principal component analysis", 1999, with a weight
for each value: x = mean + W z + noise, z ~ N(0, 1). Expectation maximisation; residuals that are
long for their noise count less (Geman and McClure): glasses, hair and highlights are not learned.
Notebook 01, Eq. 2.
"""

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from facerecon_lib.cli.console import error_console

MODES, ROUNDS = 60, 16
TRUSTING = 1  # rounds before residuals count
FAR = 3.0  # of the noise: a residual of that length counts half
RIDGE = 10.0  # of W, in units of the noise's variance
PULL = 2.0  # weight of the present mean


def complete(
    values: Float[Tensor, "face vertex 3"], weights: Float[Tensor, "face vertex"], seed: int = 0
) -> tuple[Float[Tensor, "vertex 3"], Float[Tensor, "face vertex 3"], float]:
    """The mean, the likeliest whole of each face, and the noise beside the modes."""
    x, w, vertices = values, weights, weights.shape[1]
    mean = (x * w[..., None]).sum(0) / w.sum(0)[:, None].clamp(min=1e-2)
    rare = w.sum(0) < 5
    mean[rare] = mean[~rare].mean(0)
    generator = torch.Generator().manual_seed(seed)
    modes = 0.02 * torch.randn(vertices, 3, MODES, generator=generator)
    variance, unit = 0.01, torch.eye(MODES)
    for round_ in track(range(ROUNDS), "completing", console=error_console, transient=True):
        away = x - mean
        gram = torch.einsum("vcq,vcr->vqr", modes, modes).flatten(1)
        precision = unit + (w @ gram).unflatten(1, (MODES, MODES)) / variance
        pull = (w[..., None] * away).flatten(1) @ modes.flatten(0, 1)
        spread = torch.linalg.inv(precision)
        z = (spread @ pull[..., None])[..., 0] / variance
        squares = (spread + z[:, :, None] * z[:, None]).flatten(1)
        normal = (w.T @ squares).unflatten(1, (MODES, MODES)) + RIDGE * variance * unit
        right = torch.einsum("nvc,nq->vqc", w[..., None] * away, z)
        modes = torch.linalg.solve(normal, right).mT.contiguous()
        fitted = torch.einsum("nq,vcq->nvc", z, modes)
        away = away - fitted
        mean = mean + (w[..., None] * away).sum(0) / (w.sum(0)[:, None] + PULL)
        squared = away.square().mean(-1)
        variance = float((w * squared).sum() / w.sum()) + 1e-5
        if round_ >= TRUSTING:
            w = weights / (1 + squared / (FAR**2 * variance))
    return mean, mean + fitted, variance**0.5
