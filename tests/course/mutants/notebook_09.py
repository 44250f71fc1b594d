"""Plausible mistakes in the exercises of notebook 09, and right answers written differently."""

import math

import numpy as np
import torch

# Gains by group -----------------------------------------------------------------------------------


def _grouped(of_group, empty=torch.nan):
    """(before, after, groups, count): of_group of the faces of each group."""

    def attempt(before, after, groups, count):
        gains = torch.full((count,), empty, dtype=before.dtype)
        for g in range(count):
            if (groups == g).any():
                gains[g] = of_group(before[groups == g], after[groups == g])
        return gains

    return attempt


def gains_of_those_there(before, after, groups, count):
    there = groups.unique()
    return torch.stack([1 - after[groups == g].mean() / before[groups == g].mean() for g in there])


def gain_of_all(before, after, groups, count):
    return (1 - after.mean() / before.mean()).expand(count).clone()


def gains_one_early(before, after, groups, count):
    right = _grouped(lambda b, a: 1 - a.mean() / b.mean())
    return right(before, after, groups - 1, count)


def gains_scattered(before, after, groups, count):
    sums = torch.zeros(2, count, dtype=before.dtype)
    sums.index_add_(1, groups, torch.stack([before, after]))
    return 1 - sums[1] / sums[0]  # 0 / 0 is NaN


def gains_by_hand(before, after, groups, count):
    found = []
    for g in range(count):
        pairs = [
            (b, a)
            for b, a, k in zip(before.tolist(), after.tolist(), groups.tolist(), strict=True)
            if k == g
        ]
        total = sum(b for b, _ in pairs)
        found.append(sum(b - a for b, a in pairs) / total if pairs else math.nan)
    return torch.tensor(found, dtype=before.dtype)


def gains_one_hot(before, after, groups, count):
    inside = torch.nn.functional.one_hot(groups, count).to(before.dtype)
    return (before - after) @ inside / (before @ inside)


# The skin's tone ----------------------------------------------------------------------------------


def _weighted(albedo, weights):
    return (weights[:, None] * albedo).sum(1) / weights.sum()


def _ita(lab):
    return torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 2]))


def _wrap(degrees):
    return (degrees + 180) % 360 - 180


def _biased(ita=_ita, colour=_weighted, wrap=_wrap):
    def attempt(predicted, truth, weights, to_lab):
        found = ita(to_lab(colour(predicted, weights)))
        return wrap(found - ita(to_lab(colour(truth, weights))))

    return attempt


def bias_of_vertices(predicted, truth, weights, to_lab):
    each = _wrap(_ita(to_lab(predicted)) - _ita(to_lab(truth)))
    return (weights * each).sum(1) / weights.sum()


def bias_swapped(predicted, truth, weights, to_lab):
    return _biased()(truth, predicted, weights, to_lab)


def bias_without_lab(predicted, truth, weights, to_lab):
    return _biased()(predicted, truth, weights, lambda colours: 100 * colours)


def bias_of_the_difference(predicted, truth, weights, to_lab):
    lab = to_lab(_weighted(predicted, weights)) - to_lab(_weighted(truth, weights))
    return torch.rad2deg(torch.atan2(lab[:, 0], lab[:, 2]))


def bias_in_lab(predicted, truth, weights, to_lab):
    found, true = (_ita(_weighted(to_lab(albedo), weights)) for albedo in (predicted, truth))
    return _wrap(found - true)


def bias_complex(predicted, truth, weights, to_lab):
    share = weights / weights.sum()

    def arrow(albedo):
        lab = to_lab(torch.einsum("v,bvc->bc", share, albedo))
        return torch.complex(lab[:, 2], lab[:, 0] - 50)

    return torch.rad2deg(torch.angle(arrow(predicted) * arrow(truth).conj()))


def bias_by_hand(predicted, truth, weights, to_lab):
    out = []
    for one, other in zip(predicted, truth, strict=True):
        angles = []
        for skin in (one, other):
            colour = sum(w * c for w, c in zip(weights, skin, strict=True)) / weights.sum()
            lightness, _, yellow = to_lab(colour).tolist()
            angles.append(math.degrees(math.atan2(lightness - 50, yellow)))
        off = angles[0] - angles[1]
        out.append(off - 360 if off >= 180 else off + 360 if off < -180 else off)
    return torch.tensor(out)


# Where a displacement is --------------------------------------------------------------------------


def _placed(energy=lambda d, s: d.square().sum(-1) * s, size=None, whole=None):
    def attempt(displacement, surface, areas):
        inside = areas.to(displacement.dtype)
        spent = energy(displacement, surface)
        of_area = spent @ inside.T
        shares = of_area / (whole or (lambda o, e: o.sum(1, keepdim=True)))(of_area, spent)
        sizes = (size or (lambda s, i: (i @ s) / (i @ s).sum()))(surface, inside)
        return shares, shares / sizes

    return attempt


def energy_swapped(displacement, surface, areas):
    return _placed()(displacement, surface, areas)[::-1]


def energy_shares_alone(displacement, surface, areas):
    return _placed()(displacement, surface, areas)[0]


def energy_loop(displacement, surface, areas):
    shares = torch.zeros(len(displacement), len(areas))
    for b, moved in enumerate(displacement):
        for a, where in enumerate(areas):
            for v in where.nonzero()[:, 0].tolist():
                shares[b, a] += surface[v] * moved[v].dot(moved[v])
    shares = shares / shares.sum(1)[:, None]
    sizes = torch.stack([surface[where].sum() for where in areas])
    return shares, shares * sizes.sum() / sizes


def energy_einsum(displacement, surface, areas):
    inside = areas.float()
    of_area = torch.einsum("bvc,bvc,v,av->ba", displacement, displacement, surface, inside)
    shares = torch.nn.functional.normalize(of_area, p=1, dim=1)
    sizes = torch.nn.functional.normalize(inside @ surface, p=1, dim=0)
    return [shares, shares / sizes]


# What a texture offset is -------------------------------------------------------------------------


def _parted(even=None, rest=None, share=None):
    def attempt(texture, surface):
        w = (surface / surface.sum())[:, None]
        m = (w * texture).sum(1) if even is None else even(texture, surface)
        r = texture - m[:, None] if rest is None else rest(texture, m, w)
        whole = (w * texture.square()).sum((1, 2))
        s = m.square().sum(1) / whole if share is None else share(m, r, texture, w)
        return m, r, s

    return attempt


def parts_numpy(texture, surface):
    t, w = texture.numpy().astype(np.float64), surface.numpy().astype(np.float64)
    even = np.average(t, axis=1, weights=w)
    rest = t - even[:, None]
    whole = np.average((t**2).sum(-1), axis=1, weights=w)
    parts = (even, rest, (even**2).sum(-1) / whole)
    return tuple(torch.tensor(part, dtype=texture.dtype) for part in parts)


def parts_in_place(texture, surface):
    surface /= surface.sum()
    even = torch.einsum("bvc,v->bc", texture, surface)
    texture -= even[:, None]
    of_even = even.square().sum(-1)
    of_rest = torch.einsum("bvc,bvc,v->b", texture, texture, surface)
    return even, texture, of_even / (of_even + of_rest)


def parts_by_rest(texture, surface):
    return _parted(
        share=lambda m, r, t, w: 1 - (w * r.square()).sum((1, 2)) / (w * t.square()).sum((1, 2))
    )(texture, surface)


MUTANTS = {
    "gain_by_group": {
        "mean of the faces' own gains": _grouped(lambda b, a: (1 - a / b).mean()),
        "what remains": _grouped(lambda b, a: a.mean() / b.mean()),
        "difference, not share": _grouped(lambda b, a: b.mean() - a.mean()),
        "sign": _grouped(lambda b, a: a.mean() / b.mean() - 1),
        "share of the error after": _grouped(lambda b, a: b.mean() / a.mean() - 1),
        "medians": _grouped(lambda b, a: 1 - a.median() / b.median()),
        "0 for an empty group": _grouped(lambda b, a: 1 - a.mean() / b.mean(), empty=0.0),
        "empty groups left out": gains_of_those_there,
        "all faces for every group": gain_of_all,
        "groups counted from 1": gains_one_early,
        "percent": _grouped(lambda b, a: 100 * (1 - a.mean() / b.mean())),
        "no loss is admitted": _grouped(lambda b, a: (1 - a.mean() / b.mean()).clamp(min=0)),
        "share of faces that gain": _grouped(lambda b, a: (a < b).to(b.dtype).mean()),
    },
    "ita_bias": {
        "true minus predicted": bias_swapped,
        "radians": _biased(
            lambda lab: torch.atan2(lab[..., 0] - 50, lab[..., 2]), wrap=lambda d: d
        ),
        "mean of the vertices' angles": bias_of_vertices,
        "no weights": _biased(colour=lambda a, w: a.mean(1)),
        "weights not divided by their sum": _biased(colour=lambda a, w: (w[:, None] * a).sum(1)),
        "weights as a mask": _biased(colour=lambda a, w: a[:, w > 0].mean(1)),
        "L* from 0": _biased(lambda lab: torch.rad2deg(torch.atan2(lab[..., 0], lab[..., 2]))),
        "a* for b*": _biased(lambda lab: torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 1]))),
        "atan, which folds": _biased(
            lambda lab: torch.rad2deg(torch.atan((lab[..., 0] - 50) / lab[..., 2]))
        ),
        "arguments exchanged": _biased(
            lambda lab: torch.rad2deg(torch.atan2(lab[..., 2], lab[..., 0] - 50))
        ),
        "not brought back": _biased(wrap=lambda d: d),
        "absolute": _biased(wrap=lambda d: _wrap(d).abs()),
        "sRGB for Lab": bias_without_lab,
        "angle of the difference": bias_of_the_difference,
        "mean over the batch": lambda *a: _biased()(*a).mean().expand(len(a[0])).clone(),
        "Lab averaged, not colours": bias_in_lab,
        "brought to 0 ... 360": _biased(wrap=lambda d: d % 360),
    },
    "energy_by_area": {
        "length for its square": _placed(lambda d, s: d.norm(dim=-1) * s),
        "vertices counted": _placed(lambda d, s: d.square().sum(-1)),
        "surface squared": _placed(lambda d, s: d.square().sum(-1) * s.square()),
        "whole over all vertices": _placed(whole=lambda o, e: e.sum(1, keepdim=True)),
        "whole over all faces": _placed(whole=lambda o, e: o.sum()),
        "whole over faces": _placed(whole=lambda o, e: o.sum(0, keepdim=True)),
        "density by mm²": _placed(size=lambda s, i: i @ s),
        "density by all surface": _placed(size=lambda s, i: (i @ s) / s.sum()),
        "density by vertices": _placed(size=lambda s, i: i.sum(1) / i.sum()),
        "density times size": _placed(size=lambda s, i: (i @ s).sum() / (i @ s)),
        "x alone": _placed(lambda d, s: d[..., 0].square() * s),
        "squared sum of coordinates": _placed(lambda d, s: d.sum(-1).square() * s),
        "the other order": energy_swapped,
        "shares alone": energy_shares_alone,
    },
    "even_and_rest": {
        "every vertex alike": _parted(even=lambda t, s: t.mean(1)),
        "sum for mean": _parted(even=lambda t, s: (s[:, None] * t).sum(1)),
        "one grey for three channels": _parted(
            even=lambda t, s: (
                ((s / s.sum())[:, None] * t).sum(1).mean(-1, keepdim=True).expand(-1, 3)
            )
        ),
        "mean over the batch": _parted(
            even=lambda t, s: ((s / s.sum())[:, None] * t).sum(1).mean(0).expand(len(t), 3)
        ),
        "even minus texture": _parted(rest=lambda t, m, w: m[:, None] - t),
        "rest weighed": _parted(rest=lambda t, m, w: w * (t - m[:, None])),
        "share of the rest": _parted(
            share=lambda m, r, t, w: (w * r.square()).sum((1, 2)) / (w * t.square()).sum((1, 2))
        ),
        "share of lengths": _parted(
            share=lambda m, r, t, w: m.norm(dim=1) / (w * t.square()).sum((1, 2)).sqrt()
        ),
        "even over rest": _parted(
            share=lambda m, r, t, w: m.square().sum(1) / (w * r.square()).sum((1, 2))
        ),
        "whole without weights": _parted(
            share=lambda m, r, t, w: m.square().sum(1) / t.square().sum(-1).mean(1)
        ),
        "channels averaged above alone": _parted(
            share=lambda m, r, t, w: m.square().mean(1) / (w * t.square()).sum((1, 2))
        ),
        "whole of all faces": _parted(
            share=lambda m, r, t, w: m.square().sum(1) / (w * t.square()).sum()
        ),
    },
}

ALTERNATIVES = {
    "gain_by_group": {
        "scattered sums": gains_scattered,
        "by hand": gains_by_hand,
        "one-hot matrix": gains_one_hot,
    },
    "ita_bias": {
        "angle of complex numbers": bias_complex,
        "by hand, in Python": bias_by_hand,
        "wrapped by atan2": _biased(
            wrap=lambda d: torch.rad2deg(
                torch.atan2(torch.sin(torch.deg2rad(d)), torch.cos(torch.deg2rad(d)))
            )
        ),
    },
    "energy_by_area": {"loops": energy_loop, "einsum, a list": energy_einsum},
    "even_and_rest": {
        "numpy, double": parts_numpy,
        "in place, by Pythagoras": parts_in_place,
        "one minus the rest": parts_by_rest,
    },
}
