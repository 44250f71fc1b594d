"""Plausible mistakes in the exercises of notebook 12, and right answers written differently."""

import torch
import torch.nn.functional as F
from spoiled_answers import cached, halved, one_of, single, squeezed, stale, viewed, with_

from facerecon_lib.augmented.map_sampling import sample_bilinear
from facerecon_lib.course.nb12_nonlinear_model.checks import (
    block,
    gradients_of_reading,
    paths,
    terms,
)


def by_autograd(maps, uv, upstream):
    """Of the library's reading; at and beyond the outermost centres grid_sample has no slope."""
    maps, uv = maps.clone().requires_grad_(), uv.clone().requires_grad_()
    read = sample_bilinear(maps, (maps.shape[-1] * uv).expand(len(maps), -1, -1))
    return torch.autograd.grad((read * upstream).sum(), (maps, uv))


def by_tents(maps, uv, upstream):
    """Tents over all texels of a row and a column, and their slopes."""
    size = maps.shape[-1]
    place = size * uv - 0.5
    inside = (place > 0) & (place < size - 1)
    off = place.clamp(0, size - 1)[..., None] - torch.arange(size)
    tent = (1 - off.abs()).clamp(min=0)
    slope = torch.where((off >= 0) & (off < 1), -1.0, 0.0) + torch.where(
        (off >= -1) & (off < 0), 1.0, 0.0
    )
    slope = slope.to(tent) * size * inside[..., None]
    to_map = torch.einsum("bvc,vy,vx->bcyx", upstream, tent[:, 1], tent[:, 0])
    to_u = torch.einsum("bvc,bcyx,vy,vx->v", upstream, maps, tent[:, 1], slope[:, 0])
    to_v = torch.einsum("bvc,bcyx,vy,vx->v", upstream, maps, slope[:, 1], tent[:, 0])
    return to_map, torch.stack([to_u, to_v], -1)


def by_loops(maps, uv, upstream):
    size = maps.shape[-1]
    to_map, to_uv = torch.zeros_like(maps), torch.zeros_like(uv)
    for v, (x, y) in enumerate((size * uv - 0.5).tolist()):
        inside = [0 < p < size - 1 for p in (x, y)]
        x, y = (min(max(p, 0), size - 1) for p in (x, y))
        i, j = (min(int(p), size - 2) for p in (x, y))
        s, t = x - i, y - j
        pull = upstream[:, v]
        for dx, wx in ((0, 1 - s), (1, s)):
            for dy, wy in ((0, 1 - t), (1, t)):
                to_map[:, :, j + dy, i + dx] += wx * wy * pull
                along = (pull * maps[:, :, j + dy, i + dx]).sum()
                to_uv[v, 0] += size * inside[0] * (2 * dx - 1) * wy * along
                to_uv[v, 1] += size * inside[1] * (2 * dy - 1) * wx * along
    return to_map, to_uv


def in_place(maps, uv, upstream):
    maps.mul_(2)
    to_map, to_uv = gradients_of_reading()(maps, uv, upstream)
    return to_map, to_uv.div_(2)


def by_weights(x, shortcut, first, second):
    fine = F.interpolate(x, [2 * n for n in x.shape[2:]], mode="bilinear")
    act = torch.nn.LeakyReLU(0.2)
    return act(second(act(first(fine))) + shortcut(fine))


def by_where(x, shortcut, first, second):
    def act(y):
        return torch.where(y > 0, y, 0.2 * y)

    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    fine = up(x)
    return act(shortcut(fine) + second(act(first(fine))))


def by_maximum(x, shortcut, first, second):
    def act(y):
        return 0.6 * y + 0.4 * y.abs()

    fine = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return act(second(act(first(fine))) + shortcut(fine))


def terms_by_slices(albedo, chromaticity, alpha):
    pairs = (
        (slice(None), slice(1, None)),
        (slice(1, None), slice(None)),
    )
    total, count = 0, 0
    for rows, columns in pairs:
        back_rows = slice(None, -1) if rows.start else slice(None)
        back_columns = slice(None, -1) if columns.start else slice(None)

        def step(x, a=rows, b=columns, c=back_rows, d=back_columns):
            return (x[:, :, a, b] - x[:, :, c, d]).norm(dim=1)

        weight = torch.exp(-alpha * step(chromaticity).detach())
        total, count = total + (weight * step(albedo)).flatten(1).sum(1), count + weight[0].numel()
    mirrored = albedo[..., torch.arange(albedo.shape[-1] - 1, -1, -1)]
    return (albedo - mirrored).abs().flatten(1).mean(1), total / count


def terms_by_halves(albedo, chromaticity, alpha):
    _, constancy = terms()(albedo, chromaticity, alpha)
    size = albedo.shape[-1]
    half = size // 2
    left, right = albedo[..., :half], albedo[..., -half:].flip(3)
    return 2 * (left - right).abs().sum((1, 2, 3)) / albedo[0].numel(), constancy


def terms_in_place(albedo, chromaticity, alpha):
    with torch.no_grad():
        chromaticity.mul_(alpha)
    return terms()(albedo, chromaticity, 1.0)


def path_by_leaf(decode, start, end, count, steps, rate):
    with torch.enable_grad():
        share = torch.arange(count, dtype=start.dtype)[:, None] / (count - 1)
        path = (start + share * (end - start)).detach()
        keep = torch.zeros(count, 1, dtype=start.dtype)
        keep[1:-1] = 1
        for _ in range(steps):
            path = path.requires_grad_()
            faces = decode(path).flatten(1)
            energy = (count - 1) * ((faces[1:] - faces[:-1]) ** 2).sum()
            (gradient,) = torch.autograd.grad(energy, path)
            path = (path - rate * keep * gradient).detach()
    return path


def path_by_sgd(decode, start, end, count, steps, rate):
    with torch.enable_grad():
        share = torch.linspace(0, 1, count, dtype=start.dtype)[1:-1, None]
        inner = torch.nn.Parameter((start + share * (end - start)).detach())
        adam = torch.optim.SGD([inner], lr=rate)
        for _ in range(steps):
            faces = decode(torch.cat([start[None], inner, end[None]]))
            adam.zero_grad()
            ((count - 1) * (faces[1:] - faces[:-1]).square().sum()).backward()
            adam.step()
    return torch.cat([start[None], inner.detach(), end[None]])


def path_enabled(decode, *rest):
    with torch.enable_grad():
        return paths()(decode, *rest)


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"map_gradients", "short_path"}

MUTANTS = {
    "map_gradients": {
        "the last face alone": lambda maps, uv, up: tuple(
            x * y
            for x, y in zip(
                gradients_of_reading()(maps, uv, up), (1.0, 1.0 / len(maps)), strict=True
            )
        ),
        "borders from the second texel": gradients_of_reading(
            inner=lambda place, size: (place > 1) & (place < size - 2)
        ),
        "none at the right border alone": gradients_of_reading(
            inner=lambda place, size: place < size - 1
        ),
        "either coordinate outside stops both": gradients_of_reading(
            inner=lambda place, size: ((place > 0) & (place < size - 1)).all(-1, keepdim=True)
        ),
        "scaled by size - 1": gradients_of_reading(scale=lambda size: size - 1),
        "the height's rows": gradients_of_reading(
            row=lambda low, width, dx, dy: (low[:, 1] + dy) * (width - 1) + low[:, 0] + dx
        ),
        "the map's gradient times the map": lambda maps, uv, up: (
            gradients_of_reading()(maps, uv, up)[0] * maps,
            gradients_of_reading()(maps, uv, up)[1],
        ),
        "the first face's map for all": with_(gradients_of_reading(), a0=one_of),
        "the first face's pull for all": with_(gradients_of_reading(), a2=one_of),
        "maps cached": stale(gradients_of_reading(), 0),
        "answers cached": cached(gradients_of_reading()),
        "by view": viewed(gradients_of_reading()),
        "squeezed": squeezed(gradients_of_reading()),
        "float32": single(gradients_of_reading()),
        "half precision": halved(gradients_of_reading()),
        "no uv gradient": lambda maps, uv, up: (
            gradients_of_reading()(maps, uv, up)[0],
            torch.zeros_like(uv),
        ),
    },
    "decoder_block": {
        "area": block(lambda x: F.interpolate(x, scale_factor=2, mode="area")),
        "bicubic": block(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
        "three times": block(lambda x: F.interpolate(x, scale_factor=3, mode="bilinear")),
        "the shortcut twice": block(join=lambda short, deep: 2 * short + deep),
        "half of each": block(join=lambda short, deep: (short + deep) / 2),
        "the shortcut detached": block(join=lambda short, deep: short.detach() + deep),
        "the deep path detached": block(join=lambda short, deep: short + deep.detach()),
        "held within 1": block(outer=torch.tanh),
        "values of at most 100": block(outer=lambda x: F.leaky_relu(x, 0.2).clamp(-100, 100)),
        "slopes of 0.1": block(inner=lambda x: F.leaky_relu(x, 0.1)),
        "the first face for all": with_(block(), a0=one_of),
        "texels cached": stale(block(), 0),
        "by view": viewed(block()),
        "squeezed": squeezed(block()),
    },
    "albedo_terms": {
        "turned half round": terms(mirror=lambda x: x.flip(2, 3)),
        "the mean over faces": terms(far=lambda x: x.abs().mean().expand(len(x))),
        "sums over channels": terms(far=lambda x: x.abs().sum(1).mean((1, 2))),
        "above each other alone": terms(axes=(2,)),
        "squared distances": terms(size=lambda x: x.square().sum(1)),
        "a root without a slope": terms(size=lambda x: x.square().sum(1).sqrt()),
        "the mean over all texels": lambda a, c, alpha: (
            terms()(a, c, alpha)[0],
            terms()(a, c, alpha)[1] * 2 * (a.shape[-1] - 1) / a.shape[-1],
        ),
        "weights with the albedo's chromaticity": lambda a, c, alpha: terms()(a, a, alpha),
        "weights that fall below": terms(weigh=lambda step, alpha: (1 - alpha * step).clamp(min=0)),
        "weights above a half": terms(
            weigh=lambda step, alpha: ((-alpha * step).exp() > 0.5) * 1.0
        ),
        "detached": lambda a, c, alpha: tuple(x.detach() for x in terms()(a, c, alpha)),
        "the first face's chromaticity": with_(terms(), a1=one_of),
        "answers cached": cached(terms()),
        "by view": viewed(terms()),
        "float32": single(terms()),
    },
    "short_path": {
        "all points are the start": paths(first=lambda a, b, n: a.expand(n, -1)),
        "from the end": lambda decode, a, b, *rest: paths()(decode, b, a, *rest),
        "one step less": lambda f, a, b, n, steps, rate: paths()(
            f, a, b, n, max(steps - 1, 0), rate
        ),
        "one step more": lambda f, a, b, n, steps, rate: paths()(f, a, b, n, steps + 1, rate),
        "mean squares": paths(
            energy=lambda faces: (len(faces) - 1) * faces.diff(dim=0).square().mean()
        ),
        "the number of points as factor": paths(
            energy=lambda faces: len(faces) * faces.diff(dim=0).square().sum()
        ),
        "codes instead of faces": lambda decode, *rest: paths()(lambda code: code, *rest),
        "signs of the gradient": paths(move=lambda x, g, rate: x - rate * g.sign()),
        "twice the rate": paths(move=lambda x, g, rate: x - 2 * rate * g),
        "only the inner points are returned": lambda *args: paths()(*args)[1:-1],
        "the rate falls": lambda f, a, b, n, steps, rate: paths()(f, a, b, n, steps, rate / 2),
        "answers cached": cached(lambda *args: paths()(*args)),
        "float32": single(paths()),
    },
}

ALTERNATIVES = {
    "map_gradients": {
        "by autograd": by_autograd,
        "by tents": by_tents,
        "by loops": by_loops,
        "in place": in_place,
    },
    "decoder_block": {
        "by sizes": by_weights,
        "by torch.where": by_where,
        "by absolute values": by_maximum,
    },
    "albedo_terms": {
        "by slices": terms_by_slices,
        "by halves": terms_by_halves,
        "in place": terms_in_place,
    },
    "short_path": {
        "a mask": path_by_leaf,
        "torch's SGD": path_by_sgd,
        "gradients switched on": path_enabled,
    },
}
