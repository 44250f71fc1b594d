"""Plausible mistakes in the exercises of notebook 06, and right answers written differently."""

import math

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from facerecon_lib.course.nb06_base_branch.checks import (
    GROUPS,
    MEAN,
    SD,
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
    c = FaceCoefficients.mean(len(outputs), *sizes)
    n = sum(sizes)
    c.identity = c.identity + scales["identity"][0] * outputs[:, : sizes[0]]
    c.expression = scales["expression"][0] * outputs[:, sizes[0] : sizes[0] + sizes[1]]
    c.albedo = scales["albedo"][0] * outputs[:, sizes[0] + sizes[1] : n]
    c.rotation = torch.stack([s * outputs[:, n + i] for i, s in enumerate(scales["rotation"])], 1)
    c.translation += torch.stack(
        [s * outputs[:, n + 3 + i] for i, s in enumerate(scales["translation"])], 1
    )
    c.scale = torch.exp(scales["scale"][0] * outputs[:, n + 6 : n + 7])
    c.lighting += scales["lighting"][0] * outputs[:, n + 7 :].reshape(-1, 9, 3)
    return c


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
        "zeroed after the step": step_of("backward clip guard step zero"),
    },
}
