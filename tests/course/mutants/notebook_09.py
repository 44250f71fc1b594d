"""Plausible mistakes in the exercises of notebook 09, and right answers written differently."""

import math

import numpy as np
import torch
from spoiled_answers import one_of, single, squeezed, stale, viewed, with_

from facerecon_lib.course.nb09_comparison.checks import (
    angle,
    bias,
    energy,
    energy_shares,
    gains,
    gap,
    mean_colour,
    parts,
    share,
    share_of,
)
from facerecon_lib.face.colour import srgb_to_lab


def gains_scattered(before, after, groups, count):
    sums = torch.zeros(2, count, dtype=before.dtype)
    sums.index_add_(1, groups, torch.stack([before, after]))
    return 1 - sums[1] / sums[0]  # 0 / 0 is NaN


def gains_by_hand(before, after, groups, count):
    lost, total = [0.0] * count, [0.0] * count
    for b, a, g in zip(before.tolist(), after.tolist(), groups.tolist(), strict=True):
        lost[g], total[g] = lost[g] + b - a, total[g] + b
    gains = [l / t if t else math.nan for l, t in zip(lost, total, strict=True)]
    return torch.tensor(gains, dtype=before.dtype)


def gains_one_hot(before, after, groups, count):
    inside = torch.nn.functional.one_hot(groups, count).to(before.dtype)
    return (before - after) @ inside / (before @ inside)


def bias_of_the_difference(predicted, truth, weights, to_lab):
    lab = to_lab(mean_colour(predicted, weights)) - to_lab(mean_colour(truth, weights))
    return angle(lab[:, 0], lab[:, 2])


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
    return torch.tensor(out, dtype=predicted.dtype)


def energy_float32(displacement, surface, areas):
    shares = share_rows((displacement.square().sum(-1) * surface) @ areas.float().T)
    return shares, shares / share(areas.float() @ surface)


def share_rows(numbers):
    return numbers / numbers.sum(1, keepdim=True)


def energy_loop(displacement, surface, areas):
    shares = displacement.new_zeros(len(displacement), len(areas))
    for b, moved in enumerate(displacement):
        for a, where in enumerate(areas):
            for v in where.nonzero()[:, 0].tolist():
                shares[b, a] += surface[v] * moved[v].dot(moved[v])
    shares = shares / shares.sum(1)[:, None]
    sizes = torch.stack([surface[where].sum() for where in areas])
    return shares, shares * sizes.sum() / sizes


def energy_einsum(displacement, surface, areas):
    inside = areas.to(displacement.dtype)
    of_area = torch.einsum("bvc,bvc,v,av->ba", displacement, displacement, surface, inside)
    shares = torch.nn.functional.normalize(of_area, p=1, dim=1)
    sizes = torch.nn.functional.normalize(inside @ surface, p=1, dim=0)
    return [shares, shares / sizes]


def parts_numpy(texture, surface):
    t, w = texture.numpy().astype(np.float64), surface.numpy().astype(np.float64)
    even = np.average(t, axis=1, weights=w)
    rest = t - even[:, None]
    whole = np.average((t**2).sum(-1), axis=1, weights=w)
    answer = (even, rest, (even**2).sum(-1) / whole)
    return tuple(torch.tensor(part, dtype=texture.dtype) for part in answer)


def parts_in_place(texture, surface):
    surface /= surface.sum()
    even = torch.einsum("bvc,v->bc", texture, surface)
    texture -= even[:, None]
    of_even = even.square().sum(-1)
    of_rest = torch.einsum("bvc,bvc,v->b", texture, texture, surface)
    return even, texture, of_even / (of_even + of_rest)


def gap_by_hand(before, after, persons, groups, pair, chance, level=0.95):
    faces = list(zip(*(x.tolist() for x in (before, after, persons, groups)), strict=True))
    gains = []
    for row, group in enumerate(pair):
        sums = {p: [0.0, 0.0] for _, _, p, g in sorted(faces, key=lambda f: f[2]) if g == group}
        for b, a, p, g in faces:
            if g == group:
                sums[p] = [sums[p][0] + b, sums[p][1] + a]
        own = list(sums.values())
        gains.append([])
        for places in chance[row].tolist():
            drawn = [own[int(u * len(own))] for u in places[: len(own)]]
            gains[-1].append(1 - sum(a for _, a in drawn) / sum(b for b, _ in drawn))
    gaps = np.subtract(*gains)
    ends = np.quantile(gaps, [0.5 - level / 2, 0.5 + level / 2])
    return torch.tensor(ends, dtype=before.dtype)


def gap_numpy(before, after, persons, groups, pair, chance, level=0.95):
    b, a, p, g = (x.numpy() for x in (before.double(), after.double(), persons, groups))
    gains = []
    for group, u in zip(pair, chance.numpy(), strict=True):
        _, number = np.unique(p[g == group], return_inverse=True)
        sums = [np.bincount(number, x[g == group]) for x in (b, a)]
        n = len(sums[0])
        picks = np.floor(u[:, :n] * n).astype(int)
        gains.append(1 - sums[1][picks].sum(1) / sums[0][picks].sum(1))
    ends = np.percentile(gains[0] - gains[1], [50 - 50 * level, 50 + 50 * level])
    return torch.tensor(ends, dtype=before.dtype)


def gap_by_counts(before, after, persons, groups, pair, chance, level=0.95):
    """How often each person is drawn, times their summed errors."""
    gains = []
    for group, u in zip(pair, chance, strict=True):
        mine = groups == group
        own, number = persons[mine].unique(return_inverse=True)
        sums = before.new_zeros(2, len(own))
        sums.index_add_(1, number, torch.stack([before[mine], after[mine]]))
        places = (u[:, : len(own)] * len(own)).floor().long()
        counts = torch.nn.functional.one_hot(places, len(own)).sum(1).to(before.dtype)
        had, left = counts @ sums[0], counts @ sums[1]
        gains.append((had - left) / had)
    difference = (gains[0] - gains[1]).sort().values
    tail = (1 - level) / 2
    return torch.stack([difference.quantile(tail), difference.quantile(1 - tail)])


def gap_ends(one, other, level):
    tail = (1 - level) / 2
    return (one - other).quantile(one.new_tensor([tail, 1 - tail]))


def of_the_first(few, place):
    """The interval of the first few of an argument alone."""
    return with_(gap(), **{f"a{place}": few})


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {
    "gain_by_group",
    "ita_bias",
    "energy_by_area",
    "even_and_rest",
    "gap_interval",
}

MUTANTS = {
    "gain_by_group": {
        "all faces for every group": lambda before, after, groups, count: (
            1 - after.mean() / before.mean()
        ).repeat(count),
        "groups counted from 1": lambda before, after, groups, count: gains()(
            before, after, groups - 1, count
        ),
        "percent": gains(lambda b, a: 100 * (1 - a.mean() / b.mean())),
        "no loss is admitted": gains(lambda b, a: (1 - a.mean() / b.mean()).clamp(min=0)),
        "share of faces that gain": gains(lambda b, a: (a < b).to(b.dtype).mean()),
        "as many groups as occur": lambda b, a, g, count: gains()(b, a, g, int(g.max()) + 1),
        "groups counted from the first that occurs": lambda b, a, g, count: gains()(
            b, a, g - g.min(), count
        ),
        "NaN where no error is left": gains(
            lambda b, a: 1 - a.mean() / b.mean() if a.any() else torch.nan
        ),
        "NaN for a single face": gains(
            lambda b, a: 1 - a.mean() / b.mean() if len(b) > 1 else torch.nan
        ),
        "a small number added below": gains(lambda b, a: 1 - a.mean() / (b.mean() + 1e-4)),
        "an error before of at least 0.05": gains(
            lambda b, a: 1 - a.mean() / b.mean().clamp(min=0.05)
        ),
        "a loss of 1 at most": gains(lambda b, a: (1 - a.mean() / b.mean()).clamp(min=-1)),
        "two decimals": gains(lambda b, a: (1 - a.mean() / b.mean()).round(decimals=2)),
        "faces taken to be sorted by group": lambda b, a, g, count: gains()(
            b, a, g.sort().values, count
        ),
        "groups cached": stale(gains(), 2),
        "errors before cached": stale(gains(), 0),
        "errors after cached": stale(gains(), 1),
        "one group squeezed": squeezed(gains()),
        "float32": single(gains()),
    },
    "ita_bias": {
        "weights not divided by their sum": bias(colour=lambda a, w: (w[:, None] * a).sum(1)),
        "weights as a mask": bias(colour=lambda a, w: a[:, w > 0].mean(1)),
        "sRGB for Lab": lambda p, t, w, to_lab: bias()(p, t, w, lambda colours: 100 * colours),
        "angle of the difference": bias_of_the_difference,
        "mean over the batch": lambda *a: bias()(*a).mean().repeat(len(a[0])),
        "Lab averaged, not colours": lambda p, t, w, to_lab: bias()(
            to_lab(p), to_lab(t), w, lambda lab: lab
        ),
        "brought to 0 ... 360": bias(end=lambda degrees: degrees % 360),
        "sRGB to Lab, whatever to_lab is": lambda p, t, w, _: bias()(p, t, w, srgb_to_lab),
        "a sum of weights of at least 1": bias(
            colour=lambda a, w: (w[:, None] * a).sum(1) / w.sum().clamp(min=1)
        ),
        "weights of at most 1": bias(colour=lambda a, w: mean_colour(a, w.clamp(max=1))),
        "weights of at least 0.01": bias(colour=lambda a, w: mean_colour(a, w.clamp(min=0.01))),
        "weights in whole numbers": bias(colour=lambda a, w: mean_colour(a, w.ceil())),
        "colours of at least 0.01": bias(colour=lambda a, w: mean_colour(a, w).clamp(min=0.01)),
        "colours below 1": bias(colour=lambda a, w: mean_colour(a, w).clamp(max=0.95)),
        "the first face's truth for all": lambda p, t, w, to_lab: bias()(p, one_of(t), w, to_lab),
        "predictions cached": stale(bias(), 0),
        "truths cached": stale(bias(), 1),
        "weights cached": stale(bias(), 2),
        "view": viewed(bias(), 0, 1),
        "one face squeezed": squeezed(bias()),
        "float32": single(bias()),
    },
    "energy_by_area": {
        "surface squared": energy_shares(lambda d, s: d.square().sum(-1) * s.square()),
        "whole over faces": energy_shares(whole=lambda of_area, _: of_area.sum(0, keepdim=True)),
        "density times size": energy_shares(size=lambda s, areas: 1 / share(areas @ s)),
        "x alone": energy_shares(lambda d, s: d[..., 0].square() * s),
        "squared sum of coordinates": energy_shares(lambda d, s: d.sum(-1).square() * s),
        "the other order": lambda *arguments: energy_shares()(*arguments)[::-1],
        "shares alone": lambda *arguments: energy_shares()(*arguments)[0],
        "a small number added below": energy_shares(
            whole=lambda of_area, _: of_area.sum(1, keepdim=True) + 1e-6
        ),
        "displacements below 0.01 mm ignored": energy_shares(
            lambda d, s: (d * (d.abs() > 0.01)).square().sum(-1) * s
        ),
        "displacements above 3 mm cut": energy_shares(
            lambda d, s: d.clamp(-3, 3).square().sum(-1) * s
        ),
        "vertices of at least 1 mm²": energy_shares(
            lambda d, s: d.square().sum(-1) * s.clamp(min=1)
        ),
        "areas of at least 1 mm²": energy_shares(
            size=lambda s, areas: share((areas @ s).clamp(min=1))
        ),
        "areas alike": energy_shares(size=lambda s, areas: 1 / len(areas)),
        "the last area is the rest": lambda d, s, areas: energy_shares()(
            d, s, torch.cat([areas[:-1], ~areas[:-1].any(0, keepdim=True)])
        ),
        "the first face's for all": lambda d, *rest: energy_shares()(one_of(d), *rest),
        "displacements cached": stale(energy_shares(), 0),
        "surface cached": stale(energy_shares(), 1),
        "areas cached": stale(energy_shares(), 2),
        "displacements by view": viewed(energy_shares(), 0),
        "areas by view": viewed(energy_shares(), 2),
        "areas in float32": energy_float32,
        "float32": single(energy_shares()),
    },
    "even_and_rest": {
        "one grey for three channels": parts(
            even=lambda t, s: mean_colour(t, s).mean(-1, keepdim=True).expand(-1, 3)
        ),
        "mean over the batch": parts(even=lambda t, s: mean_colour(t, s).mean(0).expand(len(t), 3)),
        "a surface of at least 1 mm²": parts(
            even=lambda t, s: (s[:, None] * t).sum(1) / s.sum().clamp(min=1)
        ),
        "vertices of at most 100 mm²": parts(even=lambda t, s: mean_colour(t, s.clamp(max=100))),
        "what is skin counts alike": parts(even=lambda t, s: mean_colour(t, (s > 0).to(t))),
        "a small number added below": share_of(lambda t, s: energy(t, s) + 1e-6),
        "an energy of at least 0.001": share_of(lambda t, s: energy(t, s).clamp(min=1e-3)),
        "no rest beyond the skin": parts(
            rest=lambda t, even, s: (t - even[:, None]) * (s > 0)[:, None]
        ),
        "offsets below 0.001 ignored": lambda t, s: parts()(t * (t.abs() > 1e-3), s),
        "the first face's even part for all": parts(even=lambda t, s: one_of(mean_colour(t, s))),
        "the brightest channel's share": parts(
            share=lambda even, r, t, s: even.square().amax(-1) / energy(t, s)
        ),
        "textures cached": stale(parts(), 0),
        "surface cached": stale(parts(), 1),
        "view": viewed(parts(), 0),
        "float32": single(parts()),
    },
    "gap_interval": {
        "no draws, the gap itself": gap(pick=lambda u, n: torch.arange(n).expand(len(u), n)),
        "each person once, in another order": gap(pick=lambda u, n: u[:, :n].argsort(1)),
        "places rounded, not floored": gap(
            pick=lambda u, n: (u[:, :n] * n).round().long().clamp(max=n - 1)
        ),
        "the last person never drawn": gap(pick=lambda u, n: (u[:, :n] * max(n - 1, 1)).long()),
        "as many places as there are": gap(pick=lambda u, n: (u * n).long()),
        "ten places at most": gap(pick=lambda u, n: (u[:, : min(n, 10)] * n).long()),
        "chance from its end": gap(pick=lambda u, n: (u[:, -n:] * n).long()),
        "percent": gap(ends=lambda *of: 100 * gap_ends(*of)),
        "the upper end first": gap(ends=lambda *of: gap_ends(*of).flip(0)),
        "how wide it is": gap(ends=lambda *of: gap_ends(*of).diff()),
        "the gap without a sign": gap(
            ends=lambda one, *of: gap_ends((one - of[0]).abs(), 0, of[1])
        ),
        "the sum of the gains": gap(ends=lambda one, other, level: gap_ends(one, -other, level)),
        "the first gain alone": gap(ends=lambda one, other, level: gap_ends(one, 0, level)),
        "least and greatest": gap(ends=lambda one, other, _: gap_ends(one, other, 1.0)),
        "the nearest draw": gap(
            ends=lambda one, other, level: torch.stack(
                [
                    (one - other).quantile(q, interpolation="nearest")
                    for q in (0.5 - level / 2, 0.5 + level / 2)
                ]
            )
        ),
        "another level where none is given": lambda *a: gap()(*a) if len(a) > 6 else gap()(*a, 0.9),
        "what remains, not what is gone": gap(lambda b, a, n: a.sum(1) / b.sum(1)),
        "medians": gap(lambda b, a, n: 1 - a.median(1).values / b.median(1).values),
        "a small number added below": gap(lambda b, a, n: 1 - a.sum(1) / (b.sum(1) + 1e-3)),
        "no group pays": gap(lambda b, a, n: (1 - a.sum(1) / b.sum(1)).clamp(min=0)),
        "the rows of chance exchanged": gap(rows=(1, 0)),
        "persons numbered from 0 without gaps": gap(who=lambda p: p % len(p)),
        "groups 0 and 1, whatever the pair": lambda b, a, p, g, pair, *of: gap()(
            b, a, p, g, (0, 1), *of
        ),
        "everybody else as the second group": gap(
            mine=lambda groups, group: groups == group if group else groups != 1
        ),
        "100 draws": of_the_first(lambda chance: chance[:, :100], 5),
        "errors before kept": stale(gap(), 0),
        "errors after kept": stale(gap(), 1),
        "persons kept": stale(gap(), 2),
        "groups kept": stale(gap(), 3),
        "chance kept": stale(gap(), 5),
        "chance by view": viewed(gap(), 5),
        "float32": single(gap()),
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
        "wrapped by atan2": bias(
            end=lambda degrees: angle(torch.deg2rad(degrees).sin(), torch.deg2rad(degrees).cos())
        ),
    },
    "energy_by_area": {"loops": energy_loop, "einsum, a list": energy_einsum},
    "even_and_rest": {
        "numpy, double": parts_numpy,
        "in place, by Pythagoras": parts_in_place,
        "one minus the rest": parts(
            share=lambda even, rest, t, surface: 1 - energy(rest, surface) / energy(t, surface)
        ),
    },
    "gap_interval": {
        "by hand, in Python": gap_by_hand,
        "numpy": gap_numpy,
        "how often each is drawn": gap_by_counts,
    },
}
