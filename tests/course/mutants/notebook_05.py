"""Plausible mistakes in the exercises of notebook 05, and right answers written differently."""

from functools import partial

import torch
import torch.nn.functional as F

from facerecon_lib.course.nb05_fitting.checks import eq4, eq5, eq6, fitted
from facerecon_lib.fitting.losses import weighted_sum


def pixel_looped(rendered, photo, mask, reduction="sum"):
    total = 0
    for r, p, m in zip(rendered, photo, mask.detach(), strict=True):
        chosen = (r - p)[:, m[0] > 0]
        value = (chosen**2).sum()
        if reduction == "mean":
            value = value / max(chosen.numel(), 1)
        total = total + value
    return total / len(photo)


def pixel_as_printed(rendered, photo, mask, reduction="sum"):
    covered = mask.detach().expand_as(photo)
    squared = torch.square(rendered * covered - photo * covered).flatten(1)
    if reduction == "mean":
        return (squared.sum(1) / covered.flatten(1).sum(1).clamp(min=1)).mean()
    return squared.sum() / rendered.shape[0]


def pixel_in_place(rendered, photo, mask, reduction="sum"):
    photo -= rendered
    photo *= mask.data
    norm = torch.linalg.vector_norm(photo, dim=(1, 2, 3)) ** 2
    if reduction == "mean":
        norm = norm / (3 * mask.data.sum((1, 2, 3)) + 1e-9)
    return norm.mean()


def landmark_einsum(points, landmarks, weights=None):
    if weights is None:
        weights = points.new_ones(points.shape[1])
    return torch.einsum("bpc,p->b", (points - landmarks).abs(), weights).mean() / 68


def landmark_functional(points, landmarks, weights=None):
    distance = F.l1_loss(points, landmarks, reduction="none").sum(2)
    return (distance * (1 if weights is None else weights)).mean()


def landmark_looped(points, landmarks, weights=None):
    total = 0
    for b in range(len(points)):
        for i in range(68):
            x, y = points[b, i] - landmarks[b, i]
            total = total + (x.abs() + y.abs()) * (1 if weights is None else weights[i])
    return total / len(points) / 68


def features_looped(rendered_features, photo_features):
    each = [(a - b).abs().sum() for a, b in zip(rendered_features, photo_features, strict=True)]
    return sum(each) / len(each)


def sum_or_value_error(terms, weights):
    if not set(terms) <= set(weights):
        raise ValueError("no weight")
    return weighted_sum(terms, weights)


def sum_looped(terms, weights):
    total = torch.zeros(())
    for name in terms:
        if name not in weights:
            raise KeyError(f"no weight for {name}")
        total = total + terms[name] * weights[name]
    return total


def sum_stacked(terms, weights):
    values = torch.stack([terms[name] for name in sorted(terms)])
    return values @ torch.tensor([float(weights[name]) for name in sorted(terms)])


def ended(finish):
    """The loop; finish: of (parameters, losses, start, learning rates) what is returned."""
    return lambda loss_of, start, rates, steps: finish(
        *fitted()(loss_of, start, rates, steps), start, rates
    )


def detached(p):
    return {name: value.detach().requires_grad_() for name, value in p.items()}


def fit_by_hand(loss_of, start, learning_rates, steps):
    p = {name: value.clone() for name, value in start.items()}
    first = {name: torch.zeros_like(p[name]) for name in learning_rates}
    second = {name: torch.zeros_like(p[name]) for name in learning_rates}
    losses = []
    for step in range(1, steps + 1):
        leaves = {name: p[name].detach().requires_grad_() for name in learning_rates}
        loss = loss_of(p | leaves)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, rate), g in zip(learning_rates.items(), gradients, strict=True):
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            root = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            p[name] = p[name] - rate * first[name] / (1 - 0.9**step) / root
        losses.append(float(loss.detach()))
    return p, losses


def fit_one_optimizer_each(loss_of, start, learning_rates, steps):
    for name in learning_rates:
        start[name].requires_grad_(True)
    adams = [torch.optim.Adam([start[name]], lr=rate) for name, rate in learning_rates.items()]
    losses = []
    for _ in range(steps):
        loss = loss_of(start)
        loss.backward()
        losses.append(loss.item())
        for adam in adams:
            adam.step()
            adam.zero_grad()
    return {name: value.detach() for name, value in start.items()}, losses


MUTANTS = {
    "pixel_loss": {
        "the mask is live": eq4(
            lambda r, p, m: m * (r - p) ** 2, divisor=lambda m: (3 * m.sum((1, 2, 3))).clamp(min=1)
        ),
        "nan for a face that covers nothing": eq4(divisor=lambda m: 3 * m.detach().sum((1, 2, 3))),
        "the mask is live in the mean's divisor": eq4(
            divisor=lambda m: (3 * m.sum((1, 2, 3))).clamp(min=1)
        ),
        "empty photos left out of the average": eq4(
            divisor=lambda m: (
                (3 * m.detach().sum((1, 2, 3))).clamp(min=1) * (m.sum((1, 2, 3)) > 0).float().mean()
            )
        ),
        "the first photo's mask for all": lambda r, p, m, *rest, **named: eq4()(
            r, p, m[:1].expand_as(m), *rest, **named
        ),
    },
    "landmark_loss": {
        "the first face alone": eq5(mean=lambda x: x[0].sum() / 68),
        "nothing returned without weights": lambda p, y, weights=None: (
            None if weights is None else eq5()(p, y, weights)
        ),
        "weights squared": eq5(weigh=lambda x, weights: x * weights**2),
        "Huber's": eq5(
            lambda d: F.smooth_l1_loss(d, torch.zeros_like(d), reduction="none").sum(-1)
        ),
    },
    "recognition_loss": {
        "cosine": lambda a, b: 1 - torch.cosine_similarity(a, b).mean(),
        "absolute value after the sum": eq6(lambda d: d.sum(-1).abs()),
        "every face against every photo": lambda a, b: torch.cdist(a, b, p=1).mean(),
        "the mean, 128 times": eq6(lambda d: d.abs().mean(-1) * 128),
    },
    "base_loss": {
        "0 where there is no weight": lambda t, w: sum(w.get(n, 0.0) * v for n, v in t.items()),
        "1 where there is no weight": lambda t, w: sum(w.get(n, 1.0) * v for n, v in t.items()),
        "over the weights, so a term without one is lost": lambda t, w: sum(
            weight * t.get(name, 0.0) for name, weight in w.items()
        ),
        "the first term alone": lambda t, w: weighted_sum(dict([*t.items()][:1]), w),
        "None for a term without a weight": lambda t, w: (
            weighted_sum(t, w) if set(t) <= set(w) else None
        ),
        "ValueError for a term without a weight": sum_or_value_error,
        "only the report's three terms": lambda t, w: sum(
            w[name] * t[name] for name in ("pixel", "landmark", "recognition") if name in t
        ),
    },
    "fit_face": {
        "plain gradient descent": fitted(optimiser=torch.optim.SGD),
        "AdamW": fitted(optimiser=torch.optim.AdamW),
        "Adam with amsgrad": fitted(optimiser=partial(torch.optim.Adam, amsgrad=True)),
        "other betas": fitted(optimiser=partial(torch.optim.Adam, betas=(0.5, 0.9))),
        "also what has no learning rate": fitted(
            rates=lambda start, rates: {n: rates.get(n, 0.1) for n in start}
        ),
        "losses keep their graphs": fitted(record=lambda loss: loss),
        "a step too many": lambda *problem: fitted()(*problem[:3], problem[3] + 1),
        "a step too few": lambda *problem: fitted()(*problem[:3], problem[3] - 1),
        "the start is returned": ended(lambda p, losses, start, rates: (start, losses)),
        "only what moved is returned": ended(
            lambda p, losses, start, rates: ({n: p[n] for n in rates}, losses)
        ),
        "only the last loss": ended(lambda p, losses, start, rates: (p, losses[-1])),
        "only the losses": ended(lambda p, losses, start, rates: losses),
        "detached before the loss": lambda loss_of, *rest: fitted()(
            lambda p: loss_of(detached(p)), *rest
        ),
        "what is found still asks for gradients": ended(
            lambda p, losses, start, rates: (detached(p), losses)
        ),
        "losses in descending order": ended(
            lambda p, losses, start, rates: (p, sorted(losses, reverse=True))
        ),
    },
}

ALTERNATIVES = {
    "pixel_loss": {
        "a loop over photos": pixel_looped,
        "as printed, both images masked": pixel_as_printed,
        "in place": pixel_in_place,
    },
    "landmark_loss": {
        "einsum": landmark_einsum,
        "torch's l1_loss": landmark_functional,
        "a loop": landmark_looped,
    },
    "recognition_loss": {
        "vector_norm": lambda a, b: torch.linalg.vector_norm(a - b, ord=1, dim=1).mean(),
        "torch's l1_loss": lambda a, b: F.l1_loss(a, b, reduction="sum") / len(b),
        "a loop": features_looped,
    },
    "base_loss": {
        "a sum of products": lambda t, w: sum(w[name] * value for name, value in t.items()),
        "a loop": sum_looped,
        "stacked": sum_stacked,
    },
    "fit_face": {
        "Adam by hand": fit_by_hand,
        "one optimiser each, in place": fit_one_optimizer_each,
        "losses as tensors": ended(
            lambda p, losses, start, rates: (p, [torch.tensor(v) for v in losses])
        ),
        "the check's own loop": fitted(),
    },
}
