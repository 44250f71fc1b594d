"""Plausible mistakes in the exercises of notebook 06, and right answers written differently."""

import math

import torch
import torch.nn.functional as F

from facerecon_lib.face.coefficients import DEFAULT_TRANSLATION, UNIT_AMBIENT, FaceCoefficients
from facerecon_lib.networks.backbones import IMAGENET_MEAN, IMAGENET_SD

MEAN = torch.tensor(IMAGENET_MEAN)[:, None, None]
SD = torch.tensor(IMAGENET_SD)[:, None, None]

# The network ----------------------------------------------------------------------------------


def _network(shrink=None, ready=lambda x: (x - MEAN) / SD, pool=lambda m: m.mean((2, 3)), end=None):
    """A way to the outputs whose parts can be exchanged."""

    def attempt(image, features, head, size):
        if shrink is None:
            image = F.interpolate(image, (size, size), mode="area")
        else:
            image = shrink(image, size)
        pooled = pool(features(ready(image)))
        return head(pooled) if end is None else end(head, pooled)

    return attempt


def network_mean_of_photos(image, features, head, size):
    image = F.interpolate(image, (size, size), mode="area")
    pooled = features((image - MEAN) / SD).mean((2, 3))
    return head(pooled.mean(0, keepdim=True)).expand(len(image), -1)


def network_normalised_maps(image, features, head, size):
    image = F.interpolate(image, (size, size), mode="area")
    maps = features(image)
    return head(((maps - maps.mean()) / maps.std()).mean((2, 3)))


def network_without_gradient(image, features, head, size):
    with torch.no_grad():
        return _network()(image, features, head, size)


def network_backbone_detached(image, features, head, size):
    image = F.interpolate(image, (size, size), mode="area")
    return head(features((image - MEAN) / SD).mean((2, 3)).detach())


def network_bytes(image, features, head, size):
    image = F.interpolate(image * 255, (size, size), mode="area")
    return head(features((image - MEAN) / SD).mean((2, 3)))


def network_one_axis(image, features, head, size):
    image = F.interpolate(image, (size, size), mode="area")
    maps = features((image - MEAN) / SD)
    return head(maps.mean(3)[:, :, 0])


def network_channels_mixed(image, features, head, size):
    image = F.interpolate(image, (size, size), mode="area").flip(1)
    return head(features((image - MEAN) / SD).mean((2, 3)))


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


# The coefficients -------------------------------------------------------------------------------

NAMES = ("identity", "expression", "albedo", "rotation", "translation", "scale", "lighting")


def decode(outputs, sizes, scales, *, names=NAMES, **changes):
    """Right, but for the groups that `changes` decode: name=lambda part, scale: ..."""
    parts = dict(zip(names, outputs.split([*sizes, 3, 3, 1, 27], 1), strict=True))
    ways = {
        "translation": lambda x, s: s * x + torch.tensor(DEFAULT_TRANSLATION),
        "scale": lambda x, s: (s * x).exp(),
        "lighting": lambda x, s: (s * x).reshape(-1, 9, 3) + ambient(),
        **changes,
    }
    made = {}
    for name, part in parts.items():
        scale = torch.tensor(scales[name])
        made[name] = ways.get(name, lambda x, s: s * x)(part, scale)
    return FaceCoefficients(**made)


def ambient(rows=(0,), channels=(0, 1, 2), value=UNIT_AMBIENT):
    start = torch.zeros(9, 3)
    for row in rows:
        for channel in channels:
            start[row, channel] = value
    return start


def _decode(**changes):
    return lambda outputs, sizes, scales: decode(outputs, sizes, scales, **changes)


def decode_all_scales_one(outputs, sizes, scales):
    return decode(outputs, sizes, {name: (1.0,) * len(v) for name, v in scales.items()})


def decode_own_scales(outputs, sizes, scales):
    from facerecon_lib.networks.encoder import OUTPUT_SCALES

    return decode(outputs, sizes, OUTPUT_SCALES)


def decode_scaled_start(outputs, sizes, scales):
    return decode(
        outputs,
        sizes,
        scales,
        translation=lambda x, s: s * (x + torch.tensor(DEFAULT_TRANSLATION)),
        lighting=lambda x, s: s * (x.reshape(-1, 9, 3) + ambient()),
    )


def decode_first_depth_scale(outputs, sizes, scales):
    return decode(
        outputs,
        sizes,
        scales,
        translation=lambda x, s: s[0] * x + torch.tensor(DEFAULT_TRANSLATION),
    )


def decode_swapped_sizes(outputs, sizes, scales):
    """Expression before identity."""
    parts = outputs.split([sizes[1], sizes[0], sizes[2], 34], 1)
    return decode(torch.cat([parts[1], parts[0], *parts[2:]], 1), sizes, scales)


def decode_pose_swapped(outputs, sizes, scales):
    n = sum(sizes)
    order = [*range(n), *range(n + 3, n + 6), *range(n, n + 3), *range(n + 6, n + 34)]
    return decode(outputs[:, order], sizes, scales)


def decode_vector(outputs, sizes, scales):
    return decode(outputs, sizes, scales).to_vector()


def decode_detached(outputs, sizes, scales):
    return decode(outputs.detach(), sizes, scales)


def decode_first_face(outputs, sizes, scales):
    return decode(outputs[:1].expand(len(outputs), -1), sizes, scales)


def decode_by_vector(outputs, sizes, scales):
    """Through from_vector, as the library does."""
    start = FaceCoefficients.mean(1, *sizes)
    start.scale = start.scale.log()
    lengths = [*sizes, 3, 3, 1, 27]
    steps = [torch.tensor(scales[n]).expand(k) for n, k in zip(NAMES, lengths, strict=True)]
    c = FaceCoefficients.from_vector(start.to_vector() + torch.cat(steps) * outputs, sizes)
    c.scale = torch.exp(c.scale)
    return c


def decode_by_slices(outputs, sizes, scales):
    at, made = 0, {}
    for name, length in zip(NAMES, [*sizes, 3, 3, 1, 27], strict=True):
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


# Gram's matrix ----------------------------------------------------------------------------------


def gram_right(basis, weights):
    return torch.einsum("ivc,v,jvc->ij", basis, weights / weights.sum(), basis)


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


# The loss ---------------------------------------------------------------------------------------


def loss_right(predicted, truth, gram):
    off = predicted - truth
    return ((off @ gram) * off).sum(1).mean()


def loss_looped(predicted, truth, gram):
    values = [(p - t) @ gram @ (p - t) for p, t in zip(predicted, truth, strict=True)]
    return sum(values) / len(values)


def loss_by_factor(predicted, truth, gram):
    values, vectors = torch.linalg.eigh(gram)
    off = (predicted - truth) @ vectors
    return (off**2 * values).sum() / len(off)


def loss_by_diagonal(predicted, truth, gram):
    off = predicted - truth
    return (off @ gram @ off.T).diagonal().mean()


def loss_of_ends(predicted, truth, gram):
    return ((predicted @ gram) * predicted).sum(1).mean() - ((truth @ gram) * truth).sum(1).mean()


# The step ---------------------------------------------------------------------------------------


def _step(
    zero="before",
    clip="norm",
    guard="both",
    when="before",
    error=FloatingPointError,
    returns="floats",
    sign=1,
    step=True,
    backward=True,
):
    """train_step with one of its parts exchanged."""

    def attempt(network, objective, batch, optimizer, clip_norm):
        result = objective(network(batch.image), batch)
        if zero == "before":
            optimizer.zero_grad()
        parameters = list(network.parameters())
        if clip == "early":
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        if backward:
            (sign * result.loss).backward()
        if zero == "between":
            optimizer.zero_grad()
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in grads]).norm() if grads else torch.tensor(0.0)
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(parameters, clip_norm)
        elif clip == "each":
            for p in parameters:
                torch.nn.utils.clip_grad_norm_([p], clip_norm)
        elif clip == "always":
            for g in grads:
                g *= clip_norm / norm
        elif clip == "first":
            torch.nn.utils.clip_grad_norm_(parameters[:1], clip_norm)
        fine = {
            "both": result.loss.isfinite() & norm.isfinite(),
            "loss": result.loss.isfinite(),
            "length": norm.isfinite(),
            "slopes": ~torch.stack([p.grad.isnan().any() for p in parameters]).any()
            if grads
            else torch.tensor(True),
            "nan": ~(result.loss.isnan() | norm.isnan()),
            "none": torch.tensor(True),
        }[guard]
        if when == "after":
            optimizer.step()
        if not fine:
            if error is None:
                return {"loss": float("nan")}
            raise error("not finite")
        if step and when == "before":
            optimizer.step()
        if clip == "late":
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        if zero == "after":
            optimizer.zero_grad()
        if returns == "later":
            result = objective(network(batch.image), batch)
        if returns == "tensors":
            return {"loss": result.loss, **result.terms}
        if returns == "detached":
            return {
                "loss": result.loss.detach(),
                **{k: v.detach() for k, v in result.terms.items()},
            }
        if returns == "loss":
            return result.loss.item()
        if returns == "terms":
            return {k: v.item() for k, v in result.terms.items()}
        if returns == "nothing":
            return None
        return {"loss": result.loss.item(), **{k: float(v) for k, v in result.terms.items()}}

    return attempt


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
        "not normalised": _network(ready=lambda x: x),
        "only the mean": _network(ready=lambda x: x - MEAN),
        "only the standard deviation": _network(ready=lambda x: x / SD),
        "mean and deviation swapped": _network(ready=lambda x: (x - SD) / MEAN),
        "brackets": _network(ready=lambda x: x - MEAN / SD),
        "multiplied by the deviation": _network(ready=lambda x: (x - MEAN) * SD),
        "each photo's own mean": _network(
            ready=lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)
        ),
        "normalised to [-1, 1]": _network(ready=lambda x: 2 * x - 1),
        "bilinear": _network(
            shrink=lambda x, n: F.interpolate(x, (n, n), mode="bilinear", align_corners=False)
        ),
        "nearest": _network(shrink=lambda x, n: F.interpolate(x, (n, n))),
        "not shrunk": _network(shrink=lambda x, n: x),
        "cut out instead of shrunk": _network(shrink=lambda x, n: x[..., :n, :n]),
        "the largest of each map": _network(pool=lambda m: m.amax((2, 3))),
        "the sum of each map": _network(pool=lambda m: m.sum((2, 3))),
        "averaged over channels": _network(pool=lambda m: m.mean((1, 2))),
        "the middle pixel": _network(pool=lambda m: m[:, :, m.shape[2] // 2, m.shape[3] // 2]),
        "one axis": network_one_axis,
        "no head": _network(end=lambda head, x: x),
        "the head without its bias": _network(end=lambda head, x: x @ head.weight.T),
        "all photos averaged": network_mean_of_photos,
        "the maps are normalised": network_normalised_maps,
        "no gradient": network_without_gradient,
        "the backbone gets no gradient": network_backbone_detached,
        "colours from 0 to 255": network_bytes,
        "blue first": network_channels_mixed,
    },
    "decode_outputs": {
        "all scales 1": decode_all_scales_one,
        "scales not taken from the argument": decode_own_scales,
        "the start is scaled too": decode_scaled_start,
        "no start of the translation": _decode(translation=lambda x, s: s * x),
        "no start of the light": _decode(lighting=lambda x, s: (s * x).reshape(-1, 9, 3)),
        "light starts at 1": _decode(
            lighting=lambda x, s: (s * x).reshape(-1, 9, 3) + ambient(value=1.0)
        ),
        "ambient light in all rows": _decode(
            lighting=lambda x, s: (s * x).reshape(-1, 9, 3) + ambient(rows=range(9))
        ),
        "ambient light in red alone": _decode(
            lighting=lambda x, s: (s * x).reshape(-1, 9, 3) + ambient(channels=(0,))
        ),
        "light channel by channel": _decode(
            lighting=lambda x, s: (s * x).reshape(-1, 3, 9).transpose(1, 2) + ambient()
        ),
        "one scale for all of the translation": decode_first_depth_scale,
        "the scale is not a logarithm": _decode(scale=lambda x, s: 1 + s * x),
        "the scale starts at 0": _decode(scale=lambda x, s: s * x),
        "the logarithm of base 2": _decode(scale=lambda x, s: 2 ** (s * x)),
        "exp before the scale": _decode(scale=lambda x, s: s * x.exp()),
        "exp twice": _decode(scale=lambda x, s: (s * x).exp().exp()),
        "rotation in degrees": _decode(rotation=lambda x, s: torch.rad2deg(s * x)),
        "divided by the scale": _decode(rotation=lambda x, s: x / s),
        "tanh around the rotation": _decode(rotation=lambda x, s: s * x.tanh()),
        "expression before identity": decode_swapped_sizes,
        "translation before rotation": decode_pose_swapped,
        "a vector": decode_vector,
        "nothing returned": lambda outputs, sizes, scales: None,
        "no gradient": decode_detached,
        "the first face for all": decode_first_face,
        "sizes of the model that ships": lambda outputs, sizes, scales: decode(
            outputs, (80, 43, 25), scales
        ),
    },
    "shape_gram": {
        "not divided": lambda b, w: gram_right(b, w) * w.sum(),
        "divided by the vertices": lambda b, w: gram_right(b, w) * w.sum() / len(w),
        "averaged over x, y, z too": lambda b, w: gram_right(b, w) / 3,
        "weights ignored": lambda b, w: gram_right(b, torch.ones_like(w)),
        "weights twice": lambda b, w: gram_right(b, w**2),
        "weights on either basis, then divided": lambda b, w: (
            gram_right(b * w[:, None], w) / w.sum()
        ),
        "the diagonal alone": lambda b, w: torch.diag(gram_right(b, w).diagonal()),
        "only the diagonal's numbers": lambda b, w: gram_right(b, w).diagonal(),
        "the root": lambda b, w: gram_right(b, w).abs().sqrt(),
        "between vertices": lambda b, w: torch.einsum("ivc,iuc->vu", b, b) / w.sum(),
        "lengths multiplied": lambda b, w: torch.einsum(
            "iv,v,jv->ij", b.norm(dim=-1), w / w.sum(), b.norm(dim=-1)
        ),
        "x alone": lambda b, w: gram_right(b[..., :1], w),
        "centred": lambda b, w: gram_right(b - b.mean(1, keepdim=True), w),
        "normalised": lambda b, w: torch.corrcoef(b.flatten(1)),
        "softmax of the weights": lambda b, w: gram_right(b, w.softmax(0)),
        "vertices of weight 0 left out, others alike": lambda b, w: gram_right(b, (w > 0).to(w)),
        "nothing returned": lambda b, w: None,
    },
    "truth_shape_loss": {
        "not divided by the batch": lambda p, t, g: loss_right(p, t, g) * len(p),
        "every face against every face": lambda p, t, g: ((p - t) @ g @ (p - t).T).mean(),
        "all products added": lambda p, t, g: ((p - t) @ g @ (p - t).T).sum() / len(p),
        "averaged over the modes": lambda p, t, g: (((p - t) @ g) * (p - t)).mean(),
        "the root": lambda p, t, g: (((p - t) @ g) * (p - t)).sum(1).clamp(min=1e-9).sqrt().mean(),
        "the diagonal of G": lambda p, t, g: ((p - t) ** 2 * g.diagonal()).sum(1).mean(),
        "without G": lambda p, t, g: ((p - t) ** 2).sum(1).mean(),
        "once through G": lambda p, t, g: ((p - t) @ g).sum(1).mean(),
        "G squared": lambda p, t, g: (((p - t) @ g) ** 2).sum(1).mean(),
        "lengths compared": loss_of_ends,
        "absolute differences": lambda p, t, g: loss_right((p - t).abs(), torch.zeros_like(t), g),
        "no gradient": lambda p, t, g: loss_right(p.detach(), t, g),
        "one value a face": lambda p, t, g: (((p - t) @ g) * (p - t)).sum(1),
        "the first face": lambda p, t, g: loss_right(p[:1], t[:1], g),
        "the batch's mean face": lambda p, t, g: loss_right(
            p.mean(0, keepdim=True), t.mean(0, keepdim=True), g
        ),
        "half": lambda p, t, g: loss_right(p, t, g) / 2,
    },
    "train_step": {
        "gradients pile up": _step(zero="never"),
        "zeroed between backward and step": _step(zero="between"),
        "not clipped": _step(clip="none"),
        "clipped before there is a gradient": _step(clip="early"),
        "clipped after the step": _step(clip="late"),
        "each value clipped": _step(clip="value"),
        "each layer clipped by itself": _step(clip="each"),
        "lengthened too": _step(clip="always"),
        "the first layer alone is clipped": _step(clip="first"),
        "no guard": _step(guard="none"),
        "the loss alone is guarded": _step(guard="loss"),
        "the length alone is guarded": _step(guard="length"),
        "only nan counts, not what is infinite": _step(guard="nan"),
        "the gradient's numbers alone are looked at": _step(guard="slopes"),
        "guarded after the step": _step(when="after"),
        "ValueError": _step(error=ValueError),
        "a bad batch is skipped in silence": _step(error=None),
        "no step": _step(step=False),
        "no backward": _step(backward=False),
        "uphill": _step(sign=-1),
        "tensors with their graphs": _step(returns="tensors"),
        "tensors": _step(returns="detached"),
        "the loss alone": _step(returns="loss"),
        "the terms alone": _step(returns="terms"),
        "nothing returned": _step(returns="nothing"),
        "what the loss is after the step": _step(returns="later"),
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
        "group by group": decode,
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
        "the diagonal of all products": loss_by_diagonal,
    },
    "train_step": {
        "by hand": step_by_hand,
        "autograd.grad": step_with_autograd,
        "the exchangeable one": _step(),
        "zeroed after the step": _step(zero="after"),
    },
}
