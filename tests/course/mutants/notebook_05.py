"""Plausible mistakes in the exercises of notebook 05, and right answers written differently."""

from functools import partial

import torch
import torch.nn.functional as F
from spoiled_answers import halved, rooted, single, stale, viewed
from torch.autograd.functional import jacobian

from facerecon_lib.course.nb05_fitting.checks import eq4, eq5, eq6, fitted, marquardt
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


def pixel_where(rendered, photo, mask, reduction="sum"):
    covered = 3 * mask.detach().sum((1, 2, 3))
    total = (mask.detach() * (rendered - photo) ** 2).sum((1, 2, 3))
    if reduction == "mean":
        total = torch.where(covered > 0, total / covered, 0)
    return total.mean()


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


def landmark_float32(points, landmarks, weights=None):
    weights = torch.ones(68) if weights is None else weights
    return torch.einsum("bpc,p->b", (points - landmarks).abs(), weights).mean() / 68


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
    return values @ values.new_tensor([float(weights[name]) for name in sorted(terms)])


def sum_without_zeros(terms, weights):
    return sum(weights[name] * value for name, value in terms.items() if weights[name])


def sum_where_weighted(terms, weights):
    for name in terms:
        if not weights.get(name):
            raise KeyError(name)
    return weighted_sum(terms, weights)


WEIGHTS = {}


def sum_cached(terms, weights):
    return weighted_sum(terms, WEIGHTS.setdefault(tuple(terms), dict(weights)))


def sum_popped(terms, weights):
    return sum([weights.pop(name) * terms.pop(name) for name in list(terms)])


def ended(finish):
    """The loop; finish: of (parameters, losses, start, learning rates) what is returned."""
    return lambda loss_of, start, rates, steps: finish(
        *fitted()(loss_of, start, rates, steps), start, rates
    )


def detached(p):
    return {name: value.detach().requires_grad_() for name, value in p.items()}


class Clipped(torch.optim.Adam):
    def step(self):
        for group in self.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 100.0)
        super().step()


class Fading(torch.optim.Adam):
    def step(self):
        super().step()
        for group in self.param_groups:
            group["lr"] *= 0.999


def fit_best(loss_of, start, learning_rates, steps):
    states = []

    def remember(p):
        loss = loss_of(p)
        states.append((loss.item(), {name: value.detach().clone() for name, value in p.items()}))
        return loss

    found, losses = fitted()(remember, start, learning_rates, steps)
    return min(states, key=lambda state: state[0])[1] if states else found, losses


def fit_until_it_rises(loss_of, start, learning_rates, steps):
    _, losses = fitted()(loss_of, start, learning_rates, steps)
    rises = (i for i in range(1, steps) if losses[i] > losses[i - 1])
    stop = next(rises, steps)
    found, losses = fitted()(loss_of, start, learning_rates, stop)
    return found, losses + losses[-1:] * (steps - stop)


def from_other(change):
    """The loop, from start values that are changed."""
    return lambda loss_of, start, *rest: fitted()(
        loss_of, {name: change(value) for name, value in start.items()}, *rest
    )


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


def squares(residuals_of, x):
    return residuals_of(x).square().sum().item()


def downhill(residuals_of, start, steps=10):
    """Gradient descent, its step halved until E falls."""
    x, energies = start.clone(), [squares(residuals_of, start)]
    for _ in range(steps):
        slope = 2 * jacobian(residuals_of, x).T @ residuals_of(x)
        trials = [x - slope / slope.norm().clamp(min=1e-9) * 10.0**-i for i in range(4)]
        lowest = min(trials, key=lambda trial: squares(residuals_of, trial))
        if squares(residuals_of, lowest) < energies[-1]:
            x = lowest
        energies.append(min(energies[-1], squares(residuals_of, x)))
    return x, energies


def differenced(residuals_of, start, steps=10):
    """The Jacobian column by column, from small differences."""

    def rows(x):
        ends = torch.eye(len(x)).to(x) * 1e-2
        return torch.stack([(residuals_of(x + e) - residuals_of(x)) / 1e-2 for e in ends], 1)

    x, energies = start, [squares(residuals_of, start)]
    for _ in range(steps):
        J, r = rows(x), residuals_of(x)
        trial = x - torch.linalg.lstsq(J, r[:, None]).solution[:, 0]
        x = trial if squares(residuals_of, trial) < energies[-1] else x
        energies.append(squares(residuals_of, x))
    return x, energies


def jacobian_once(residuals_of, start, steps=10):
    x, damping, energies = start, 1e-2, [squares(residuals_of, start)]
    J = jacobian(residuals_of, start)
    normal = J.T @ J
    for _ in range(steps):
        damped = normal + damping * normal.diagonal().clamp(min=1e-6).diag()
        trial = x - torch.linalg.solve(damped, J.T @ residuals_of(x))
        lower = squares(residuals_of, trial) < energies[-1]
        x, damping = (trial, damping / 10) if lower else (x, damping * 10)
        energies.append(squares(residuals_of, x))
    return x, energies


def after(change):
    """The method; change: of (x, energies, start) what is returned."""
    return lambda residuals_of, start, steps=10: change(
        *marquardt()(residuals_of, start, steps), start
    )


def stacked(residuals_of, start, steps=10):
    """Rows of the damping under those of the Jacobian, solved as one least-squares problem."""
    x, damping, energies = start.clone(), 1e-3, [squares(residuals_of, start)]
    for _ in range(steps):
        r, J = residuals_of(x), torch.func.jacrev(residuals_of)(x)
        scale = J.norm(dim=0).clamp(min=1e-3)
        more = torch.cat([J, damping**0.5 * scale.diag()])
        d = torch.linalg.lstsq(more, torch.cat([r, 0 * x])[:, None]).solution[:, 0]
        energy = squares(residuals_of, x - d)
        if energy < energies[-1]:
            x, damping = x - d, damping / 5
        else:
            energy, damping = energies[-1], damping * 5
        energies.append(energy)
    return x, energies


def tried_thrice(residuals_of, start, steps=10):
    """Up to four dampings on one Jacobian, in place."""
    damping, energies = 1e-2, [squares(residuals_of, start)]
    for _ in range(steps):
        r, J = residuals_of(start).detach(), jacobian(residuals_of, start, vectorize=True)
        A, b = J.T @ J, J.T @ r
        for _ in range(4):
            d = torch.linalg.solve(A + damping * (A.diagonal() + 1e-6).diag(), b)
            energy = squares(residuals_of, start - d)
            if energy < energies[-1]:
                start -= d
                damping = max(damping / 10, 1e-9)
                break
            damping *= 10
        energies.append(min(energies[-1], energy))
    return start, tuple(energies)


def halved_steps(residuals_of, start, steps=10):
    """Gauss's and Newton's step, shorter until E falls; pinv in place of damping."""
    x, energies = start.double(), [squares(residuals_of, start)]
    for _ in range(steps):
        x32 = x.to(start)
        J, r = jacobian(residuals_of, x32).double(), residuals_of(x32).double()
        d = torch.linalg.pinv(J, rtol=1e-6) @ r
        for i in (0, 1, 2, 4, 6):
            trial = (x - d / 2**i).to(start)
            if squares(residuals_of, trial) < energies[-1]:
                x = trial.double()
                break
        energies.append(min(energies[-1], squares(residuals_of, x.to(start))))
    return x.to(start), energies


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"fit_face", "levenberg_marquardt"}

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
        "no slope where the images are equal": eq4(total=lambda x: rooted(x.sum((1, 2, 3)))),
        "no slope where a channel is exact": eq4(lambda r, p, m: m.detach() * rooted(r - p) ** 2),
        "no slope for a face that covers nothing": pixel_where,
        "colours below 0 clamped": eq4(lambda r, p, m: m.detach() * (r.clamp(min=0) - p) ** 2),
        "colours above 1 clamped": eq4(lambda r, p, m: m.detach() * (r.clamp(0, 1) - p) ** 2),
        "a thousand pixels at most": eq4(
            divisor=lambda m: (3 * m.detach().sum((1, 2, 3))).clamp(1, 3000)
        ),
        "a face that covers all counts as one that covers nothing": eq4(
            divisor=lambda m: 3 * m.detach().sum((1, 2, 3)) % m[0].numel() + 1e-9
        ),
        "masks cached": stale(eq4(), 2),
        "photos cached": stale(eq4(), 1),
        "view": viewed(eq4(), 0, 1, 2),
        "float32": single(eq4()),
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
        "points outside of the crop at its edge": lambda p, y, w=None: eq5()(
            p.clamp(0, 224), y.clamp(0, 224), w
        ),
        "three digits": halved(eq5()),
        "no slope where a point is exact": eq5(lambda d: rooted(d).abs().sum(-1)),
        "far points cut": eq5(lambda d: d.clamp(-100, 100).abs().sum(-1)),
        "a weight of 0 counts 1": eq5(weigh=lambda x, w: x * torch.where(w > 0, w, 1)),
        "weights of all 0 are missing": lambda p, y, w=None: eq5()(
            p, y, None if w is None or not w.any() else w
        ),
        "weights of at least 0.1": eq5(weigh=lambda x, w: x * w.clamp(min=0.1)),
        "a mean over points of weight above 0": eq5(
            weigh=lambda x, w: x * w * 68 / (w > 0).sum().clamp(min=1)
        ),
        "only the jaw is weighed": eq5(weigh=lambda x, w: x * torch.cat([w[:17], 0 * w[17:] + 1])),
        "landmarks cached": stale(eq5(), 1),
        "points cached": stale(eq5(), 0),
        "view": viewed(eq5(), 0, 1),
        "float32": single(eq5()),
        "weights of 1 in float32": landmark_float32,
    },
    "recognition_loss": {
        "cosine": lambda a, b: 1 - torch.cosine_similarity(a, b).mean(),
        "absolute value after the sum": eq6(lambda d: d.sum(-1).abs()),
        "every face against every photo": lambda a, b: torch.cdist(a, b, p=1).mean(),
        "the mean, 128 times": eq6(lambda d: d.abs().mean(-1) * 128),
        "no slope where features are equal": eq6(lambda d: rooted(d).abs().sum(-1)),
        "three digits": halved(eq6()),
        "features squeezed": eq6(lambda d: d.squeeze().abs().sum(-1)),
        "differences below 0.001 ignored": eq6(lambda d: (d.abs() * (d.abs() > 1e-3)).sum(-1)),
        "photos cached": stale(eq6(), 1),
        "view": viewed(eq6(), 0, 1),
        "float32": single(eq6()),
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
        "KeyError for a weight of 0": sum_where_weighted,
        "terms of weight 0 left out": sum_without_zeros,
        "terms of 0 left out": lambda t, w: sum(w[n] * v for n, v in t.items() if v or w[n] > 9),
        "weights of at least 1": lambda t, w: sum(max(w[n], 1) * v for n, v in t.items()),
        "weights in two digits": lambda t, w: sum(round(w[n], 2) * v for n, v in t.items()),
        "weights cached": sum_cached,
        "float32": lambda t, w: weighted_sum({n: v.float() for n, v in t.items()}, w),
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
        "the gradient clipped at 100": fitted(optimiser=Clipped),
        "a larger epsilon": fitted(optimiser=partial(torch.optim.Adam, eps=1e-6)),
        "weight decay": fitted(optimiser=partial(torch.optim.Adam, weight_decay=1e-3)),
        "rates that fade": fitted(optimiser=Fading),
        "the best state, not the last": fit_best,
        "an end where the loss rises": fit_until_it_rises,
        "0.1 for a rate of 0": fitted(
            rates=lambda s, rates: {n: r or 0.1 for n, r in rates.items()}
        ),
        "the first parameter alone moves": fitted(
            rates=lambda start, rates: dict([*rates.items()][:1])
        ),
        "losses in whole numbers": fitted(record=lambda loss: round(loss.item())),
        "loss_of called twice": lambda loss_of, *rest: fitted()(
            lambda p: (loss_of(p), loss_of(p))[1], *rest
        ),
        "at least one step": lambda *problem: fitted()(*problem[:3], max(problem[3], 1)),
        "empty ones are not returned": ended(
            lambda p, losses, *_: ({n: v for n, v in p.items() if v.numel()}, losses)
        ),
        "view": from_other(lambda value: value.view(-1).view(value.shape)),
        "float32": from_other(torch.Tensor.float),
    },
    "levenberg_marquardt": {
        "gradient descent": downhill,
        "no damping": marquardt(damped=lambda normal, damping: normal),
        "no damping, every step is taken": marquardt(
            damped=lambda normal, damping: normal,
            better=lambda energy, least: True,
            record=lambda energy, least: energy,
        ),
        "nan is taken for better": marquardt(better=lambda energy, least: not energy >= least),
        "every step is taken": marquardt(
            better=lambda energy, least: True, record=lambda energy, least: energy
        ),
        "every step is taken, the best energies are returned": marquardt(
            better=lambda energy, least: True
        ),
        "refused energies are returned": marquardt(record=lambda energy, least: energy),
        "damping stays large": marquardt(first=10.0, better_by=1.0, worse_by=1.0),
        "damping the wrong way": marquardt(better_by=10.0, worse_by=0.1),
        "damping is never raised": marquardt(worse_by=1.0),
        "damping is not lowered": marquardt(first=1.0, better_by=1.0),
        "singular where an unknown has no influence": marquardt(
            damped=lambda normal, damping: normal + damping * normal.diagonal().diag()
        ),
        "the unknown without influence drifts": after(
            lambda x, energies, start: (x + 0.01 * (x == start), energies)
        ),
        "the Jacobian of the start for all steps": jacobian_once,
        "the Jacobian by differences": differenced,
        "half of E": after(lambda x, energies, start: (x, [e / 2 for e in energies])),
        "the start is returned": after(lambda x, energies, start: (start, energies)),
        "without the start's energy": after(lambda x, energies, start: (x, energies[1:])),
        "only x": after(lambda x, energies, start: x),
        "only the last energy": after(lambda x, energies, start: (x, energies[-1])),
        "the other way round": after(lambda x, energies, start: (energies, x)),
        "x asks for gradients": after(lambda x, e, start: (x.requires_grad_(), e)),
        "energies with graphs": after(
            lambda x, energies, start: (x, [torch.tensor(e, requires_grad=True) for e in energies])
        ),
        "ten steps whatever is asked": lambda f, start, steps=10: marquardt()(f, start, 10),
        "from zeros": lambda f, start, steps=10: marquardt()(f, 0 * start, steps),
        "float32": single(marquardt()),
        "at least one step": lambda f, start, steps=10: marquardt()(f, start, max(steps, 1)),
    },
}

ALTERNATIVES = {
    "pixel_loss": {
        "a loop over photos": pixel_looped,
        "as printed, both images masked": pixel_as_printed,
        "in place": pixel_in_place,
        "where the mask is not 0": eq4(lambda r, p, m: torch.where(m > 0, (r - p) ** 2, 0)),
    },
    "landmark_loss": {
        "einsum": landmark_einsum,
        "torch's l1_loss": landmark_functional,
        "a distance with p = 1": lambda p, y, w=None: (
            F.pairwise_distance(p, y, p=1) * (1 if w is None else w)
        ).mean(),
        "absolute values by where": eq5(lambda d: torch.where(d > 0, d, -d).sum(-1)),
        "a loop": landmark_looped,
    },
    "recognition_loss": {
        "vector_norm": lambda a, b: torch.linalg.vector_norm(a - b, ord=1, dim=1).mean(),
        "absolute values by where": eq6(lambda d: torch.where(d > 0, d, -d).sum(-1)),
        "torch's l1_loss": lambda a, b: F.l1_loss(a, b, reduction="sum") / len(b),
        "a loop": features_looped,
    },
    "base_loss": {
        "a sum of products": lambda t, w: sum(w[name] * value for name, value in t.items()),
        "a loop": sum_looped,
        "stacked": sum_stacked,
        "popped, in place": sum_popped,
    },
    "fit_face": {
        "Adam by hand": fit_by_hand,
        "one optimiser each, in place": fit_one_optimizer_each,
        "losses as tensors": ended(
            lambda p, losses, start, rates: (p, [torch.tensor(v) for v in losses])
        ),
        "the check's own loop": fitted(),
    },
    "levenberg_marquardt": {
        "rows of the damping under the Jacobian": stacked,
        "several dampings per Jacobian, in place": tried_thrice,
        "Gauss and Newton, with shorter steps where E rises": halved_steps,
        "twice the damping, from 1": marquardt(first=1.0, better_by=0.2, worse_by=4.0),
        "Levenberg's damping, in the largest diagonal's unit": marquardt(
            damped=lambda normal, damping: (
                normal
                + damping * 1e-3 * normal.diagonal().max() * torch.eye(len(normal)).to(normal)
            )
        ),
    },
}
