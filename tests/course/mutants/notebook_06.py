"""Plausible mistakes in the exercises of notebook 06, and right answers written differently."""

import bisect
import math
import random
from collections import Counter
from itertools import accumulate

import torch
import torch.nn.functional as F
from spoiled_answers import one_of, rooted, single, squeezed, stale, viewed, with_
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from facerecon_lib.course.nb06_base_branch.checks import (
    GROUPS,
    MEAN,
    SD,
    ambient,
    dealt,
    decoded,
    gram_of,
    net,
    numbers,
    objections,
    refined,
    shrunk,
    slopes_of,
    squared_distance,
    step_of,
)
from facerecon_lib.data.splits import part_of
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.networks.backbones import IMAGENET_MEAN, IMAGENET_SD


def part_at(shares, place):
    """The part that a place in [0, 1] falls into."""
    return min(bisect.bisect_right(list(accumulate(shares)), place), len(shares) - 1)


def split_by_photo(people, shares=(0.7, 0.15, 0.15), seed=0):
    places = torch.rand(len(people), generator=torch.Generator().manual_seed(seed))
    return torch.tensor([part_at(shares, place) for place in places.tolist()])


def split_by_hash(people, shares=(0.7, 0.15, 0.15), seed=0):
    """As the library does, whose shares are right on average alone."""
    names = ("train", "validation", "test")
    return torch.tensor([names.index(part_of("", name, "person", seed)) for name in people])


def split_on_line(order=sorted, at=lambda before, count: before + count / 2, seeded=random.Random):
    """People in a row; at: the photo, of those in front of a person and its own, that decides."""

    def split(people, shares=(0.7, 0.15, 0.15), seed=0):
        counts = Counter(people)
        names = list(order(counts))
        seeded(seed).shuffle(names)
        before = [0, *accumulate(counts[name] for name in names)]
        part = {
            name: part_at(shares, at(b, counts[name]) / len(people))
            for name, b in zip(names, before, strict=False)
        }
        return torch.tensor([part[name] for name in people])

    return split


def split_runs(people, shares=(0.7, 0.15, 0.15), seed=0):
    """Photos that stand side by side are taken for those of one person."""
    runs, last = [], None
    for name in people:
        runs.append(runs[-1] + (name != last) if runs else 0)
        last = name
    return dealt()(runs, shares, seed)


def split_in_state(people, shares=(0.7, 0.15, 0.15), seed=0):
    """In the program's random state, which differs from run to run."""
    return dealt(deal=lambda names, seed: random.shuffle(names))(people, shares, seed)


def split_fixed(people, shares=(0.7, 0.15, 0.15), seed=0):
    return dealt()(people, (0.7, 0.15, 0.15), seed)


def split_largest_first(people, shares=(0.7, 0.15, 0.15), seed=0):
    counts = Counter(people)

    def deal(names, seed):
        random.Random(seed).shuffle(names)
        names.sort(key=lambda name: -counts[name])

    return dealt(deal=deal)(people, shares, seed)


def split_with_torch(people, shares=(0.7, 0.15, 0.15), seed=0):
    names, counts = zip(*sorted(Counter(people).items()), strict=True)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    target = torch.tensor(shares, dtype=torch.float64) * len(people)
    held, part = torch.zeros_like(target), {}
    for i in order.tolist():
        at = int((target - held).argmax())
        held[at] += counts[i]
        part[names[i]] = at
    return torch.tensor([part[name] for name in people], dtype=torch.int64)


def split_all_have_some(people, shares=(0.7, 0.15, 0.15), seed=0):
    """The first people go to one part each, and so to parts of share 0 too."""
    split = dealt()(people, shares, seed)
    names = sorted(set(people))
    for part, name in enumerate(names[: len(shares)]):
        split[torch.tensor([other == name for other in people])] = part
    return split


def network_a_photo_at_a_time(image, features, head, size):
    rows = []
    for photo in image:
        small = F.adaptive_avg_pool2d(photo, size)
        rows.append(head(features(((small - MEAN) / SD)[None])[0].flatten(1).mean(1)))
    return torch.stack(rows)


def network_channel_at_a_time(image, features, head, size):
    small = F.interpolate(image, size, mode="area")
    channels = [
        (small[:, i] - m) / s
        for i, (m, s) in enumerate(zip(IMAGENET_MEAN, IMAGENET_SD, strict=True))
    ]
    maps = features(torch.stack(channels, 1))
    return head(maps.sum((2, 3)) / maps[0, 0].numel())


def network_pooled_by_torch(image, features, head, size):
    small = F.interpolate(image, (size, size), mode="area")
    small -= MEAN
    small /= SD
    return head(F.adaptive_avg_pool2d(features(small), 1).flatten(1))


def reordered(order):
    """Decodes outputs in another order: order(sizes) are the places of the groups' numbers."""
    return lambda outputs, sizes, scales: decoded()(outputs[:, order(*sizes)], sizes, scales)


def expression_first(identity, expression, albedo):
    rest = range(identity + expression, identity + expression + albedo + 34)
    return [*range(expression, expression + identity), *range(expression), *rest]


def translation_first(*sizes):
    n = sum(sizes)
    return [*range(n), *range(n + 3, n + 6), *range(n, n + 3), *range(n + 6, n + 34)]


def decode_by_vector(outputs, sizes, scales):
    """Through from_vector, as the library does."""
    start = FaceCoefficients.mean(1, *sizes)
    start.scale = start.scale.log()
    lengths = [*sizes, 3, 3, 1, 27]
    steps = [torch.tensor(scales[n]).expand(k) for n, k in zip(GROUPS, lengths, strict=True)]
    c = FaceCoefficients.from_vector(start.to_vector() + torch.cat(steps) * outputs, sizes)
    c.scale = torch.exp(c.scale)
    return c


def decode_by_slices(outputs, sizes, scales):
    at, made = 0, {}
    for name, length in zip(GROUPS, [*sizes, 3, 3, 1, 27], strict=True):
        made[name] = outputs[:, at : at + length] * torch.as_tensor(scales[name])
        at += length
    made["translation"] = made["translation"] + torch.tensor([[0.0, 0.0, 350.0]])
    made["scale"] = math.e ** made["scale"]
    light = made["lighting"].view(-1, 9, 3)
    first = light[:, :1] + math.sqrt(4 * math.pi)
    made["lighting"] = torch.cat([first, light[:, 1:]], 1)
    return FaceCoefficients(**made)


def decode_in_place(outputs, sizes, scales):
    c = FaceCoefficients.mean(len(outputs), *sizes, dtype=outputs.dtype)
    n = sum(sizes)
    scales = {name: outputs.new_tensor(scale) for name, scale in scales.items()}
    c.identity = c.identity + scales["identity"] * outputs[:, : sizes[0]]
    c.expression = scales["expression"] * outputs[:, sizes[0] : sizes[0] + sizes[1]]
    c.albedo = scales["albedo"] * outputs[:, sizes[0] + sizes[1] : n]
    c.rotation = scales["rotation"] * outputs[:, n : n + 3]
    c.translation += scales["translation"] * outputs[:, n + 3 : n + 6]
    c.scale = torch.exp(scales["scale"] * outputs[:, n + 6 : n + 7])
    c.lighting += (scales["lighting"] * outputs[:, n + 7 :]).reshape(-1, 9, 3)
    return c


def decode_first_scales(outputs, sizes, scales):
    """One scale for each group but translation."""
    scales = {n: s if n == "translation" else s[:1] for n, s in scales.items()}
    return decoded()(outputs, sizes, scales)


def decode_in_order(outputs, sizes, scales):
    """Scales by their place, not by their name."""
    return decoded()(outputs, sizes, dict(zip(GROUPS, scales.values(), strict=True)))


SCALES = {}


def decode_cached(outputs, sizes, scales):
    return decoded()(outputs, sizes, SCALES.setdefault(tuple(sizes), scales))


def decode_cut_from_the_end(outputs, sizes, scales):
    """Albedo and expression by negative places, of which -0 is the whole."""
    ka = sizes[2]
    shape, rest = outputs[:, :-34], outputs[:, -34:]
    albedo = shape[:, -ka:]
    both = shape[:, :-ka] if ka else shape
    return decoded()(torch.cat([both, albedo, rest], 1), sizes, scales)


def gram_flattened(basis, weights):
    flat = basis.reshape(len(basis), -1)
    return (flat * weights.repeat_interleave(3)) @ flat.T / weights.sum()


def gram_rooted(basis, weights):
    flat = (basis * (weights / weights.sum()).sqrt()[:, None]).flatten(1)
    return flat @ flat.T


def gram_looped(basis, weights):
    rows = [[((a * b).sum(-1) * weights).sum() for b in basis] for a in basis]
    return torch.stack([torch.stack(row) for row in rows]) / weights.sum()


def gram_by_vertex(basis, weights):
    total = torch.zeros(len(basis), len(basis), dtype=basis.dtype)
    for v, w in enumerate(weights):
        total += w * basis[:, v] @ basis[:, v].T
    return total / weights.sum()


def loss_looped(predicted, truth, gram):
    values = [(p - t) @ gram @ (p - t) for p, t in zip(predicted, truth, strict=True)]
    return sum(values) / len(values)


def loss_by_factor(predicted, truth, gram):
    values, vectors = torch.linalg.eigh(gram)
    off = (predicted - truth) @ vectors
    return (off**2 * values).sum() / len(off)


def clip_by_quotient(parameters, limit):
    norm = clip_grad_norm_(parameters, math.inf)
    for p in parameters:
        p.grad *= norm.clamp(max=limit) / norm


def clip_each(parameters, limit):
    for p in parameters:
        clip_grad_norm_([p], limit)


def stretch(parameters, limit):
    norm = clip_grad_norm_(parameters, math.inf)
    for p in parameters:
        p.grad *= limit / norm


def step_silent(*arguments):
    try:
        return step_of()(*arguments)
    except FloatingPointError:
        return {"loss": float("nan")}


def step_by_groups(choose):
    """Each of the optimizer's chosen groups is clipped by itself."""

    def train_step(network, objective, batch, optimizer, clip_norm):
        def clip(parameters, limit):
            for group in choose(optimizer.param_groups):
                clip_grad_norm_(group["params"], limit)

        return step_of(clip=clip)(network, objective, batch, optimizer, clip_norm)

    return train_step


def step_at_one_rate(network, objective, batch, optimizer, clip_norm):
    for group in optimizer.param_groups:
        group["lr"] = optimizer.param_groups[0]["lr"]
    return step_of()(network, objective, batch, optimizer, clip_norm)


def step_with_new_optimizer(network, objective, batch, optimizer, clip_norm):
    fresh = torch.optim.SGD(network.parameters(), lr=optimizer.param_groups[0]["lr"])
    return step_of()(network, objective, batch, fresh, clip_norm)


def step_looking_at_terms(network, objective, *rest):
    def looked_at(*arguments):
        result = objective(*arguments)
        if not all(v.isfinite() for v in result.terms.values()):
            raise FloatingPointError
        return result

    return step_of()(network, looked_at, *rest)


def step_in_eval_mode(network, *rest):
    network.eval()
    return step_of()(network, *rest)


LAYERS = {}


def step_on_first_network(network, *rest):
    first = LAYERS.setdefault("layers", list(network.parameters()))
    return step_of(clip=lambda parameters, limit: clip_grad_norm_(first, limit))(network, *rest)


def step_then_look(network, objective, batch, *rest):
    step_of()(network, objective, batch, *rest)
    return numbers(objective(network(batch.image), batch))


def step_by_hand(network, objective, batch, optimizer, clip_norm):
    for p in network.parameters():
        p.grad = None
    result = objective(network(batch.image), batch)
    result.loss.backward()
    length = math.sqrt(sum(float((p.grad**2).sum()) for p in network.parameters()))
    if not math.isfinite(length) or not math.isfinite(result.loss.item()):
        raise FloatingPointError(", ".join(batch.names))
    if length > clip_norm:
        for p in network.parameters():
            p.grad *= clip_norm / length
    optimizer.step()
    said = {name: value.item() for name, value in result.terms.items()}
    said["loss"] = result.loss.item()
    return said


def step_with_autograd(network, objective, batch, optimizer, clip_norm):
    result = objective(network(batch.image), batch)
    parameters = list(network.parameters())
    for p, g in zip(parameters, torch.autograd.grad(result.loss, parameters), strict=True):
        p.grad = g
    try:
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm, error_if_nonfinite=True)
    except RuntimeError as error:
        raise FloatingPointError(f"{batch.names[0]}: {error}") from None
    if not torch.isfinite(result.loss):
        raise FloatingPointError(batch.names[0])
    optimizer.step()
    return {"loss": float(result.loss.detach())} | {
        k: float(v.detach()) for k, v in result.terms.items()
    }


def refine_without_prior(answer, doubt, landmarks, noise, project):
    off = (landmarks - project(answer)).flatten(1)
    return answer + (torch.linalg.pinv(slopes_of(project, answer)) @ off[..., None])[..., 0]


def refine_towards_zero(answer, doubt, landmarks, noise, project):
    """The prior is about the mean face, not about the encoder's answer."""
    zero = torch.zeros_like(answer)
    moves = slopes_of(project, answer)
    off = (landmarks - project(answer)).flatten(1)[..., None] + moves @ answer[..., None]
    spread = doubt[:, None] ** 2 * moves.mT
    trust = moves @ spread + torch.diag(noise.repeat_interleave(2) ** 2)
    return zero + (spread @ torch.linalg.solve(trust, off))[..., 0]


def refine_half_way(answer, *rest):
    return (answer + refined()(answer, *rest)) / 2


def refine_again_and_again(answer, doubt, landmarks, noise, project):
    """Each round starts from the last one's result and doubts it as much as the encoder's."""
    for _ in range(3):
        answer = refined()(answer, doubt, landmarks, noise, project)
    return answer


def refine_some(count):
    """The first numbers alone are moved."""

    def refine(answer, doubt, *rest):
        moved = refined()(answer, doubt, *rest)
        return torch.where(torch.arange(answer.shape[1]) < count, moved, answer)

    return refine


def refine_normally(answer, doubt, landmarks, noise, project):
    """The normal equations, in double precision."""
    moves = slopes_of(project, answer).double() / noise.double().repeat_interleave(2)[:, None]
    off = (landmarks - project(answer)).double() / noise.double()[:, None]
    curvature = moves.mT @ moves + torch.diag(doubt.double() ** -2)
    step = torch.linalg.solve(curvature, moves.mT @ off.flatten(1)[..., None])
    return answer + step[..., 0].to(answer)


def refine_stacked(answer, doubt, landmarks, noise, project):
    """Least squares of both opinions, one over the other, face by face."""
    rows, unit = [], torch.diag(doubt)
    weight = noise.repeat_interleave(2)
    for a, moves, off in zip(
        answer, slopes_of(project, answer), (landmarks - project(answer)).flatten(1), strict=True
    ):
        left = torch.cat([moves @ unit / weight[:, None], torch.eye(len(a)).to(a)])
        right = torch.cat([off / weight, torch.zeros_like(a)])
        rows.append(a + doubt * torch.linalg.lstsq(left, right[:, None]).solution[:, 0])
    return torch.stack(rows)


def refine_by_descent(answer, doubt, landmarks, noise, project):
    """L-BFGS on what both opinions object to, in units of the doubts."""
    steps = torch.zeros_like(answer, requires_grad=True)
    settings = dict(max_iter=300, history_size=30, tolerance_grad=1e-7, tolerance_change=1e-10)
    solver = torch.optim.LBFGS([steps], line_search_fn="strong_wolfe", **settings)

    def closure():
        solver.zero_grad()
        x = answer + doubt * steps
        loss = objections(x, answer, doubt, landmarks, noise, project).sum()
        loss.backward()
        return loss

    solver.step(closure)
    return (answer + doubt * steps).detach()


def refine_in_rounds(answer, doubt, landmarks, noise, project):
    """Gauss-Newton with new slopes in each of three rounds, the prior where it was."""
    x, weight = answer, noise.repeat_interleave(2)
    for _ in range(3):
        moves = slopes_of(project, x)
        off = (landmarks - project(x)).flatten(1) + (moves @ (x - answer)[..., None])[..., 0]
        spread = doubt[:, None] ** 2 * moves.mT
        both = moves @ spread + torch.diag(weight**2)
        x = answer + (spread @ torch.linalg.solve(both, off[..., None]))[..., 0]
    return x


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"split_by_person", "shape_gram", "train_step", "refine"}

MUTANTS = {
    "split_by_person": {
        "by photo": split_by_photo,
        "by hash, right on average": split_by_hash,
        "photos side by side": split_runs,
        "random state of the program": split_in_state,
        "the order of a set": dealt(names=lambda counts: list(set(counts))),
        "by Python's hash": dealt(names=lambda counts: sorted(counts, key=hash)),
        "shares fixed": split_fixed,
        "everybody in training": lambda people, *rest: torch.zeros(len(people), dtype=torch.int64),
        "names of parts": lambda people, *rest: ["train"] * len(people),
        "float": lambda *arguments: dealt()(*arguments).float(),
        "one part for each person": lambda *arguments: dealt()(*arguments).unique(),
        "parts from 1": lambda *arguments: dealt()(*arguments) + 1,
        "parts in reverse": lambda people, shares=(0.7, 0.15, 0.15), seed=0: (
            len(shares) - 1 - dealt()(people, shares, seed)
        ),
        "no part stays empty": split_all_have_some,
        "a person counts by the root of its photos": dealt(size=lambda count: count**0.5),
        "the first photos' order": split_on_line(order=list),
    },
    "network_outputs": {
        "divided by the mean": net(ready=lambda x: (x - SD) / MEAN),
        "multiplied by the deviation": net(ready=lambda x: (x - MEAN) * SD),
        "normalised to [-1, 1]": net(ready=lambda x: 2 * x - 1),
        "cut out instead of shrunk": net(lambda x, n: x[..., :n, :n]),
        "averaged over channels": net(pool=lambda m: m.mean((1, 2))),
        "the middle pixel": net(pool=lambda m: m[:, :, m.shape[2] // 2, m.shape[3] // 2]),
        "one axis": net(pool=lambda m: m.mean(3)[:, :, 0]),
        "the head without its bias": net(end=lambda head, x: x @ head.weight.T),
        "all photos averaged": net(
            end=lambda head, x: head(x.mean(0, keepdim=True)).expand(len(x), -1)
        ),
        "the maps are normalised": net(
            ready=lambda x: x, pool=lambda m: ((m - m.mean()) / m.std()).mean((2, 3))
        ),
        "the backbone gets no gradient": net(pool=lambda m: m.mean((2, 3)).detach()),
        "colours from 0 to 255": net(lambda x, n: 255 * shrunk(x, n)),
        "blue first": net(lambda x, n: shrunk(x, n).flip(1)),
        "the height's factor for both axes": net(
            lambda x, n: F.interpolate(x, scale_factor=n / x.shape[2], mode="area")
        ),
        "the width's factor for both axes": net(
            lambda x, n: F.interpolate(x, scale_factor=n / x.shape[3], mode="area")
        ),
        "the upper square alone": net(lambda x, n: shrunk(x[..., : x.shape[3], : x.shape[2]], n)),
        "photos of that size are not normalised": lambda image, features, head, size: net(
            ready=(lambda x: x) if image.shape[2] == size else lambda x: (x - MEAN) / SD
        )(image, features, head, size),
        "blocks of whole pixels": net(
            lambda x, n: shrunk(F.avg_pool2d(x, max(1, x.shape[3] // n)), n)
        ),
        "photos cached": stale(net(), 0),
        "view": viewed(net(), 0),
        "maps by view": net(pool=lambda maps: maps.view(*maps.shape[:2], -1).mean(-1)),
        "one output squeezed": squeezed(net()),
        "float32": single(net()),
    },
    "decode_outputs": {
        "tanh around the rotation": decoded(rotation=lambda x, s: s * x.tanh()),
        "expression before identity": reordered(expression_first),
        "translation before rotation": reordered(translation_first),
        "a vector": lambda *arguments: decoded()(*arguments).to_vector(),
        "the first face for all": lambda outputs, *rest: decoded()(
            outputs[:1].expand_as(outputs), *rest
        ),
        "sizes of the model that ships": lambda outputs, sizes, scales: decoded()(
            outputs, (80, 43, 25), scales
        ),
        "the first scale of each group": decode_first_scales,
        "scales in the order of the dict": decode_in_order,
        "scales cached by the sizes": decode_cached,
        "cut from the end": decode_cut_from_the_end,
        "three scales of translation, always": decoded(
            translation=lambda x, s: (
                torch.stack([s[i] * x[:, i] for i in range(3)], 1) + x.new_tensor([0, 0, 350.0])
            )
        ),
        "nine scales of the light at most": decoded(
            lighting=lambda x, s: (s[0] * x).unflatten(1, (9, 3)) + ambient()
        ),
        "the scale limited": decoded(scale=lambda x, s: (s * x).clamp(-0.5, 0.5).exp()),
        "no slope at outputs of zero": decoded(rotation=lambda x, s: rooted(s * x)),
        "rotation by direction and angle": decoded(
            rotation=lambda x, s: s * x / x.norm(dim=1, keepdim=True) * x.norm(dim=1, keepdim=True)
        ),
        "view": viewed(decoded(), 0),
        "outputs cached": stale(decoded(), 0),
        "float32": single(decoded()),
        "identity within 2 standard deviations": decoded(identity=lambda x, s: s * x.clamp(-2, 2)),
    },
    "shape_gram": {
        "weights on either basis, then divided": lambda b, w: gram_of(b * w[:, None], w) / w.sum(),
        "only the diagonal's numbers": lambda b, w: gram_of(b, w).diagonal(),
        "between vertices": lambda b, w: torch.einsum("ivc,iuc->vu", b, b) / w.sum(),
        "lengths multiplied": lambda b, w: gram_of(b.norm(dim=-1), w, "iv,v,jv->ij"),
        "x alone": lambda b, w: gram_of(b[..., :1], w),
        "centred": lambda b, w: gram_of(b - b.mean(1, keepdim=True), w),
        "normalised": lambda b, w: torch.corrcoef(b.flatten(1)),
        "softmax of the weights": lambda b, w: gram_of(b, w.softmax(0)),
        "vertices of weight 0 left out, others alike": lambda b, w: gram_of(b, (w > 0).to(w)),
        "a sum of weights of at least 1": lambda b, w: gram_of(b, w) * (w.sum() / w.sum().clamp(1)),
        "a small number added below": lambda b, w: gram_of(b, w) * (w.sum() / (w.sum() + 1e-3)),
        "weights of at least 0.01": lambda b, w: gram_of(b, w.clamp(min=0.01)),
        "weights of at most 1": lambda b, w: gram_of(b, w.clamp(max=1)),
        "a mean over vertices of weight above 0": lambda b, w: (
            gram_of(b, w) * w.sum() / (w > 0).sum()
        ),
        "vertices where x does not move left out": lambda b, w: gram_of(
            b * (b[..., :1].abs() > 1e-2), w
        ),
        "three decimals": lambda b, w: gram_of(b, w).round(decimals=3),
        "bases cached": stale(gram_of, 0),
        "weights cached": stale(gram_of, 1),
        "view": viewed(gram_of, 0),
        "float32": single(gram_of),
    },
    "truth_shape_loss": {
        "once through G": lambda p, t, g: ((p - t) @ g).sum(1).mean(),
        "G squared": lambda p, t, g: (((p - t) @ g) ** 2).sum(1).mean(),
        "lengths compared": lambda p, t, g: (
            squared_distance(p, 0 * p, g) - squared_distance(t, 0 * t, g)
        ).mean(),
        "absolute differences": lambda p, t, g: squared_distance((p - t).abs(), 0 * t, g).mean(),
        "the first face": lambda p, t, g: squared_distance(p, t, g)[0],
        "half": lambda p, t, g: squared_distance(p, t, g).mean() / 2,
        "no slope where a face is exact": lambda p, t, g: rooted(squared_distance(p, t, g)).mean(),
        "no slope where all are exact": lambda p, t, g: rooted(squared_distance(p, t, g).mean()),
        "no slope for an exact coefficient": lambda p, t, g: squared_distance(
            rooted(p - t), 0 * t, g
        ).mean(),
        "squeezed": lambda p, t, g: squared_distance(
            (p - t).squeeze(), torch.zeros(()), g.squeeze()
        ).mean(),
        "differences below 0.01 ignored": lambda p, t, g: squared_distance(
            (p - t) * ((p - t).abs() > 0.01), 0 * t, g
        ).mean(),
        "40 modes": lambda p, t, g: squared_distance(p[:, :40], t[:, :40], g[:40, :40]).mean(),
        "differences above 3 cut": lambda p, t, g: squared_distance(
            (p - t).clamp(-3, 3), 0 * t, g
        ).mean(),
        "G cached": stale(lambda p, t, g: squared_distance(p, t, g).mean(), 2),
        "truth cached": stale(lambda p, t, g: squared_distance(p, t, g).mean(), 1),
        "view": viewed(lambda p, t, g: squared_distance(p, t, g).mean(), 0, 1),
        "G by view": viewed(lambda p, t, g: squared_distance(p, t, g).mean(), 2),
        "float32": single(lambda p, t, g: squared_distance(p, t, g).mean()),
    },
    "train_step": {
        "each value clipped": step_of(clip=clip_grad_value_),
        "each layer clipped by itself": step_of(clip=clip_each),
        "lengthened too": step_of(clip=stretch),
        "the first layer alone is clipped": step_of(clip=lambda p, n: clip_grad_norm_(p[:1], n)),
        "no guard": step_of("zero backward clip step"),
        "the loss alone is guarded": step_of(fine=lambda loss, norm, p: loss.isfinite()),
        "the length alone is guarded": step_of(fine=lambda loss, norm, p: norm.isfinite()),
        "only nan counts, not what is infinite": step_of(
            "zero backward guard clip step", fine=lambda loss, norm, p: not (loss + norm).isnan()
        ),
        "the gradient's numbers alone are looked at": step_of(
            fine=lambda loss, norm, p: not any(x.grad.isnan().any() for x in p)
        ),
        "guarded after the step": step_of("zero backward clip step guard"),
        "ValueError": step_of(error=ValueError),
        "a bad batch is skipped in silence": step_silent,
        "tensors with their graphs": step_of(answer=lambda r: {"loss": r.loss, **r.terms}),
        "tensors": step_of(
            answer=lambda r: {k: v.detach() for k, v in {"loss": r.loss, **r.terms}.items()}
        ),
        "the loss alone": step_of(answer=lambda r: r.loss.item()),
        "the terms alone": step_of(answer=lambda r: {k: v.item() for k, v in r.terms.items()}),
        "what the loss is after the step": step_then_look,
        "zeroed after the step alone": step_of("backward clip guard step zero"),
        "shortened by 0 / 0 where the gradient is zero": step_of(clip=clip_by_quotient),
        "a loss that is nan is none to stop at": step_of(
            fine=lambda loss, norm, p: ~loss.isinf() & norm.isfinite()
        ),
        "a gradient of zero is an error": step_of(
            fine=lambda loss, norm, p: loss.isfinite() & norm.isfinite() & (norm > 0)
        ),
        "a loss above 1000 is an error": step_of(fine=lambda loss, norm, p: (loss + norm) < 1e3),
        "a long gradient is an error": step_of(
            "zero backward guard clip step",
            fine=lambda loss, norm, p: loss.isfinite() & (norm < 1e4),
        ),
        "each group clipped by itself": step_by_groups(lambda groups: groups),
        "the first group alone is clipped": step_by_groups(lambda groups: groups[:1]),
        "the last group alone is clipped": step_by_groups(lambda groups: groups[-1:]),
        "one rate for all groups": step_at_one_rate,
        "a new optimizer at each step": step_with_new_optimizer,
        "terms are guarded too": step_looking_at_terms,
        "in eval mode": step_in_eval_mode,
        "the first network's gradients are clipped": step_on_first_network,
    },
    "refine": {
        "no prior": refine_without_prior,
        "a prior about the mean face": refine_towards_zero,
        "half of the step": refine_half_way,
        "a new prior in each round": refine_again_and_again,
        "the first three numbers alone": refine_some(3),
        "all but the last number": lambda answer, *rest: refine_some(answer.shape[1] - 1)(
            answer, *rest
        ),
        "the change of the first face for all": lambda answer, *rest: (
            answer + (refined()(answer, *rest) - answer)[:1]
        ),
        "the first face's landmarks for all": with_(refined(), a2=one_of),
        "noises and doubts alike": lambda a, d, landmarks, n, project: refined()(
            a, torch.ones_like(d), landmarks, torch.ones_like(n), project
        ),
        "noise of at most 5": refined(noise=lambda n: n.clamp(max=5).repeat_interleave(2).square()),
        "doubt of at least 0.1": refined(doubt=lambda d: d.clamp(min=0.1).square()),
        "doubt of at most 2": refined(doubt=lambda d: d.clamp(max=2).square()),
        "x alone": lambda a, d, landmarks, n, project: refined()(
            a, d, landmarks[..., :1], n, lambda x: project(x)[..., :1]
        ),
        "answers cached": stale(refined(), 0),
        "noises cached": stale(refined(), 3),
        "view": viewed(refined(), 2),
        "float32": single(refined()),
        "squeezed": squeezed(refined()),
        "landmarks returned": lambda a, d, landmarks, n, project: project(
            refined()(a, d, landmarks, n, project)
        ),
    },
}

ALTERNATIVES = {
    "split_by_person": {
        "with torch": split_with_torch,
        "the largest first": split_largest_first,
        "people in a row, cut at the shares": split_on_line(),
        "by their first photo": split_on_line(at=lambda before, count: before),
    },
    "network_outputs": {
        "a photo at a time": network_a_photo_at_a_time,
        "a channel at a time": network_channel_at_a_time,
        "pooled by torch, in place": network_pooled_by_torch,
    },
    "decode_outputs": {
        "through from_vector": decode_by_vector,
        "slices": decode_by_slices,
        "from the mean face": decode_in_place,
        "group by group": decoded(),
    },
    "shape_gram": {
        "flattened": gram_flattened,
        "the weights' roots": gram_rooted,
        "a loop over modes": gram_looped,
        "a loop over vertices": gram_by_vertex,
    },
    "truth_shape_loss": {
        "a loop": loss_looped,
        "eigenvectors": loss_by_factor,
        "the diagonal of all products": lambda p, t, g: ((p - t) @ g @ (p - t).T).trace() / len(p),
    },
    "train_step": {
        "by hand": step_by_hand,
        "autograd.grad": step_with_autograd,
        "the check's own": step_of(),
    },
    "refine": {
        "normal equations": refine_normally,
        "least squares, face by face": refine_stacked,
        "L-BFGS": refine_by_descent,
        "three rounds": refine_in_rounds,
    },
}
