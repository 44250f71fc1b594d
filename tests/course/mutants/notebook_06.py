"""Plausible mistakes in the exercises of notebook 06, and right answers written differently."""

import math

import torch
import torch.nn.functional as F
from spoiled_answers import rooted, single, squeezed, stale, viewed
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from facerecon_lib.course.nb06_base_branch.checks import (
    GROUPS,
    MEAN,
    SD,
    ambient,
    decoded,
    gram_of,
    net,
    numbers,
    shrunk,
    squared_distance,
    step_of,
)
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.networks.backbones import IMAGENET_MEAN, IMAGENET_SD


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


MUTANTS = {
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
}

ALTERNATIVES = {
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
}
