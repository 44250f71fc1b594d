"""Notebook 04: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math

import torch

from facerecon_lib.checks.notebook_04 import _barycentric as weights_of
from facerecon_lib.checks.notebook_04 import _coverage as right_coverage
from facerecon_lib.checks.notebook_04 import _soft_blend as right_blend
from facerecon_lib.figures.rendering import pixel_centres, squared_distance

# barycentric ----------------------------------------------------------------------------------


def _area(a, b, c):
    (ax, ay), (bx, by), (cx, cy) = a.unbind(-1), b.unbind(-1), c.unbind(-1)
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _parts(points, triangles):
    p = points[:, None]
    a, b, c = triangles.unbind(1)
    return torch.stack([_area(p, b, c), _area(a, p, c), _area(a, b, p)], -1)


def _unsigned(points, triangles):
    parts = _parts(points, triangles).abs()
    return parts / parts.sum(-1, keepdim=True)


def _unsigned_whole(points, triangles):
    return _parts(points, triangles) / _area(*triangles.unbind(1)).abs()[..., None]


def _unsigned_parts(points, triangles):
    return _parts(points, triangles).abs() / _area(*triangles.unbind(1)).abs()[..., None]


def _edge_functions(points, triangles):
    return _parts(points, triangles)


def _only_the_first(points, triangles):
    return weights_of(points, triangles[:1].expand_as(triangles))


def _inverse_distances(points, triangles):
    near = 1 / (points[:, None, None] - triangles).norm(dim=-1).clamp(min=1e-6)
    return near / near.sum(-1, keepdim=True)


def _no_triangle_axis(points, triangles):
    return weights_of(points, triangles).squeeze(1)


def _two_of_three(points, triangles):
    w = weights_of(points, triangles)
    return torch.cat([w[..., :2], 1 + w[..., :1] + w[..., 1:2]], -1)


def _by_solving(points, triangles):
    a, b, c = triangles.unbind(1)
    matrix = torch.stack([b - a, c - a], -1)
    uv = torch.linalg.solve(matrix, (points[:, None] - a)[..., None])[..., 0]
    return torch.cat([1 - uv.sum(-1, keepdim=True), uv], -1)


def _in_a_loop(points, triangles):
    rows = []
    for p in points:
        row = []
        for a, b, c in triangles:
            whole = _area(a, b, c)
            w0, w1 = _area(p, b, c) / whole, _area(p, c, a) / whole
            row.append(torch.stack([w0, w1, 1 - w0 - w1]))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _filled_in(points, triangles):
    weights = torch.empty(len(points), len(triangles), 3)
    for k in range(3):
        corners = [points[:, None] if i == k else triangles[:, i] for i in range(3)]
        weights[..., k] = _area(*corners) / _area(*triangles.unbind(1))
    return weights


def _by_homogeneous_inverse(points, triangles):
    corners = torch.cat([triangles, torch.ones_like(triangles[..., :1])], -1)
    p = torch.cat([points, torch.ones_like(points[:, :1])], -1)
    return torch.einsum("pi,fij->pfj", p, torch.linalg.inv(corners))


# rasterize_hard -------------------------------------------------------------------------------


def _rasterizer(
    *,
    inside=lambda w: (w >= 0).all(-1),
    nearer=torch.lt,
    depth=lambda w, z: w @ z,
    centres=pixel_centres,
    empty=-1.0,
    no_face=-1,
    first=0,
    weights=weights_of,
    kept=lambda w: w,
    start=math.inf,
):
    def rasterize_hard(verts, faces, height, width):
        points = centres(height, width).reshape(-1, 2).to(verts)
        pix_to_face = torch.full((len(points),), no_face)
        zbuf = torch.full((len(points),), start).to(verts)
        bary = torch.full((len(points), 3), empty).to(verts)
        for f, face in enumerate(faces):
            corners = verts[face]
            w = weights(points, corners[None, :, :2])[:, 0]
            z = depth(w, corners[:, 2])
            wins = inside(w) & nearer(z, zbuf)
            pix_to_face[wins], zbuf[wins], bary[wins] = f + first, z[wins], kept(w)[wins]
        zbuf[pix_to_face == no_face] = empty
        shape = (height, width)
        return pix_to_face.reshape(shape), zbuf.reshape(shape), bary.reshape(*shape, 3)

    return rasterize_hard


def _corners_of_pixels(height, width):
    return pixel_centres(height, width) + 1 / min(height, width)


def _both_sides_one(height, width):
    return pixel_centres(height, width) * min(height, width) / torch.tensor([width, height])


def _culled(verts, faces, height, width):
    a, b, c = verts[faces][..., :2].unbind(1)
    turned = torch.where((_area(a, b, c) > 0)[:, None], faces, faces[:, :1])
    return _rasterizer()(verts, turned, height, width)


def _mean_depth(w, z):
    return z.mean().expand(len(w))


def _inverse_depth(w, z):
    return 1 / (w @ (1 / z))


def _gathered(verts, faces, height, width):
    w = weights_of(pixel_centres(height, width).reshape(-1, 2).to(verts), verts[faces][..., :2])
    z = (w * verts[faces][..., 2]).sum(-1)
    z = torch.where((w >= 0).all(-1), z, math.inf)
    nearest, face = z.min(1)
    covered = nearest < math.inf
    picked = w.gather(1, face[:, None, None].expand(-1, 1, 3))[:, 0]
    return (
        torch.where(covered, face, -1).reshape(height, width),
        torch.where(covered, nearest, -1.0).reshape(height, width),
        torch.where(covered[:, None], picked, -1.0).reshape(height, width, 3),
    )


def _pixel_by_pixel(verts, faces, height, width):
    found, depths, weights = [], [], []
    for p in pixel_centres(height, width).reshape(-1, 1, 2).to(verts):
        best, z_best, w_best = -1, verts.new_tensor(-1.0), verts.new_full((3,), -1.0)
        for f, face in enumerate(faces):
            w = weights_of(p, verts[face][None, :, :2])[0, 0]
            z = (w * verts[face][:, 2]).sum()
            if bool((w >= 0).all()) and (best < 0 or bool(z < z_best)):
                best, z_best, w_best = f, z, w
        found.append(best)
        depths.append(z_best)
        weights.append(w_best)
    shape = (height, width)
    depths, weights = torch.stack(depths).reshape(shape), torch.stack(weights).reshape(*shape, 3)
    return torch.tensor(found).reshape(shape), depths, weights


def _in_place_free(verts, faces, height, width):
    points = pixel_centres(height, width).to(verts)
    face = torch.full((height, width), -1)
    zbuf, bary = points.new_full((height, width), -1.0), points.new_full((height, width, 3), -1.0)
    for f in range(len(faces)):
        corners = verts[faces[f]]
        w = _by_solving(points.reshape(-1, 2), corners[None, :, :2]).reshape(height, width, 3)
        z = (w * corners[:, 2]).sum(-1)
        wins = (w.amin(-1) > 0) & ((face < 0) | (z < zbuf))
        face, zbuf = torch.where(wins, f, face), torch.where(wins, z, zbuf)
        bary = torch.where(wins[..., None], w, bary)
    return [face, zbuf, bary]


def _without_a_dtype(verts, faces, height, width):
    # In float32 throughout, weights in a tensor made beforehand
    points = pixel_centres(height, width).reshape(-1, 2)
    face, zbuf = torch.full((len(points),), -1), torch.full((len(points),), float("inf"))
    bary = torch.full((len(points), 3), -1.0)
    for f in range(len(faces)):
        corners = verts[faces[f]]
        w = weights_of(points, corners[None, :, :2])[:, 0]
        z = w @ corners[:, 2]
        wins = (w >= 0).all(-1) & (z < zbuf)
        face[wins], zbuf[wins], bary[wins] = f, z[wins], w[wins]
    zbuf[zbuf.isinf()] = -1
    return face.view(height, width), zbuf.view(height, width), bary.view(height, width, 3)


def _only_the_face(verts, faces, height, width):
    return _rasterizer()(verts, faces, height, width)[0]


def _detached_fragments(verts, faces, height, width):
    return _rasterizer()(verts.detach(), faces, height, width)


# coverage -------------------------------------------------------------------------------------


def _distances(points, triangles, distance=squared_distance):
    p, (a, b, c) = points[:, None], triangles.unbind(1)
    return torch.stack([distance(p, a, b), distance(p, b, c), distance(p, c, a)])


def _soft(points, triangles, sigma, *, reduce=lambda d: d.amin(0), of=lambda d, s: d / s, **kind):
    squared = reduce(_distances(points, triangles, **kind))
    inside = (weights_of(points, triangles) >= 0).all(-1)
    sign = torch.where(inside, 1.0, -1.0).to(points)
    return torch.sigmoid(sign * of(squared, sigma))


def _to_line(p, a, b):
    return _area(a, b, p).square() / (b - a).square().sum(-1)


def _to_ends(p, a, b):
    return torch.minimum((p - a).square().sum(-1), (p - b).square().sum(-1))


def _never_negative(points, triangles, sigma):
    return torch.sigmoid(-_distances(points, triangles).amin(0) / sigma)


def _hard_coverage(points, triangles, sigma):
    return (weights_of(points, triangles) >= 0).all(-1).to(points)


def _gaussian(points, triangles, sigma):
    squared = _distances(points, triangles).amin(0)
    inside = (weights_of(points, triangles) >= 0).all(-1)
    return torch.where(inside, 1.0, torch.exp(-squared / sigma))


def _clockwise_is_outside(points, triangles, sigma):
    inside = (_parts(points, triangles) >= 0).all(-1)
    squared = _distances(points, triangles).amin(0)
    return torch.sigmoid(torch.where(inside, squared, -squared) / sigma)


def _no_segment(points, triangles, sigma):
    p, (a, b, c) = points[:, None], triangles.unbind(1)
    squared = torch.minimum(squared_distance(p, a, b), squared_distance(p, b, c))
    inside = (weights_of(points, triangles) >= 0).all(-1)
    return torch.sigmoid(torch.where(inside, squared, -squared) / sigma)


def _logistic(points, triangles, sigma):
    squared = _distances(points, triangles).min(0).values
    sign = 2 * (weights_of(points, triangles).amin(-1) >= 0).to(points) - 1
    return 0.5 * (1 + torch.tanh(sign * squared / sigma / 2))


def _coverage_in_a_loop(points, triangles, sigma):
    columns = []
    for t in triangles:
        squared = torch.stack(
            [squared_distance(points, t[i], t[(i + 1) % 3]) for i in range(3)], -1
        ).amin(-1)
        inside = (_parts(points, t[None])[:, 0] * _area(*t).sign() > 0).all(-1)
        signed = squared * (2 * inside.to(points) - 1)
        columns.append((signed / sigma).sigmoid())
    return torch.stack(columns, 1)


def _softmax_coverage(points, triangles, sigma):
    squared = _distances(points, triangles).amin(0)
    inside = (weights_of(points, triangles) >= 0).all(-1)
    signed = torch.where(inside, squared, -squared) / sigma
    return torch.stack([signed, torch.zeros_like(signed)], -1).softmax(-1)[..., 0]


# silhouette -----------------------------------------------------------------------------------


def _silhouette_loop(coverages):
    missed = torch.ones_like(coverages[..., 0])
    for k in range(coverages.shape[-1]):
        missed = missed * (1 - coverages[..., k])
    return 1 - missed


def _silhouette_union(coverages):
    total = coverages[..., 0]
    for p in coverages[..., 1:].unbind(-1):
        total = total + p - total * p
    return total


def _silhouette_log(coverages):
    return 1 - torch.exp(torch.log1p(-coverages).sum(-1))


# soft_blend -----------------------------------------------------------------------------------


def _blend(coverages, nearness, colours, gamma, background, *, weigh, rest=None, behind=True):
    most = nearness.amax(-1, keepdim=True)
    weights = weigh(coverages, nearness, most, gamma)
    back = torch.exp(-most / gamma) if rest is None else rest(most, gamma)
    total = weights.sum(-1, keepdim=True) + back
    shown = (weights[..., None] * colours).sum(-2)
    return (shown + back * background * behind) / total


def _usual(d, n, m, g):
    return d * torch.exp((n - m) / g)


def _naive_blend(coverages, nearness, colours, gamma, background):
    weights = coverages * torch.exp(nearness / gamma)
    total = weights.sum(-1, keepdim=True) + 1
    return ((weights[..., None] * colours).sum(-2) + background) / total


def _unnormalised(coverages, nearness, colours, gamma, background):
    weights = _usual(coverages, nearness, nearness.amax(-1, keepdim=True), gamma)
    return (weights[..., None] * colours).sum(-2)


def _no_background(coverages, nearness, colours, gamma, background):
    weights = torch.softmax(nearness / gamma, -1) * coverages
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    return (weights[..., None] * colours).sum(-2)


def _composited(coverages, nearness, colours, gamma, background):
    inner = _no_background(coverages, nearness, colours, gamma, background)
    alpha = 1 - (1 - coverages).prod(-1, keepdim=True)
    return alpha * inner + (1 - alpha) * background


def _nearest_only(coverages, nearness, colours, gamma, background):
    index = nearness.argmax(-1)[..., None, None].expand(*nearness.shape[:-1], 1, colours.shape[-1])
    empty = (coverages.amax(-1) == 0)[..., None]
    return torch.where(empty, background, colours.gather(-2, index)[..., 0, :])


def _one_gamma(coverages, nearness, colours, gamma, background):
    return right_blend(coverages, nearness, colours, 0.1, background)


def _black_behind(coverages, nearness, colours, gamma, background):
    return right_blend(coverages, nearness, colours, gamma, torch.zeros_like(background))


def _frozen_weights(coverages, nearness, colours, gamma, background):
    return right_blend(coverages.detach(), nearness.detach(), colours, gamma, background)


def _one_shift_a_picture(coverages, nearness, colours, gamma, background):
    most = nearness.max()
    weights, rest = _usual(coverages, nearness, most, gamma), torch.exp(-most / gamma)
    shown = (weights[..., None] * colours).sum(-2) + rest * background
    return shown / (weights.sum(-1, keepdim=True) + rest)


def _three_channels(coverages, nearness, colours, gamma, background):
    blended = [
        right_blend(coverages, nearness, colours[..., i : i + 1], gamma, background[i : i + 1])
        for i in range(3)
    ]
    return torch.cat(blended, -1)


def _softmax_blend(coverages, nearness, colours, gamma, background):
    scores = coverages.log() + nearness / gamma
    scores = torch.cat([scores, torch.zeros_like(scores[..., :1])], -1)
    behind = background.expand(*colours.shape[:-2], 1, -1)
    return (scores.softmax(-1)[..., None] * torch.cat([colours, behind], -2)).sum(-2)


def _einsum_blend(coverages, nearness, colours, gamma, background):
    most = nearness.detach().max(-1, keepdim=True).values
    weights = coverages * ((nearness - most) / gamma).exp()
    rest = (-most / gamma).exp()
    shown = torch.einsum("...k,...kc->...c", weights, colours)
    return (shown + rest * background) / (weights.sum(-1, keepdim=True) + rest)


def _blend_loop(coverages, nearness, colours, gamma, background):
    top = nearness.max()
    total = torch.exp((0 - top.clamp(max=20 * gamma)) / gamma).expand(nearness.shape[:-1])
    if top > 20 * gamma:
        top = nearness.amax(-1)
        total = torch.exp(-top / gamma)
    colour = total[..., None] * background
    for k in range(nearness.shape[-1]):
        weight = coverages[..., k] * torch.exp((nearness[..., k] - top) / gamma)
        total, colour = total + weight, colour + weight[..., None] * colours[..., k, :]
    return colour / total[..., None]


MUTANTS = {
    "barycentric": {
        "areas without a sign, scaled to sum to one": _unsigned,
        "areas without a sign": _unsigned_parts,
        "the whole triangle's area without its sign: clockwise ones come out negative": (
            _unsigned_whole
        ),
        "no division by the whole": _edge_functions,
        "half of it: one area halved, the other not": lambda p, t: weights_of(p, t) / 2,
        "weights one corner further": lambda p, t: weights_of(p, t).roll(1, -1),
        "the last two weights swapped": lambda p, t: weights_of(p, t)[..., [0, 2, 1]],
        "triangles before points": lambda p, t: weights_of(p, t).transpose(0, 1),
        "negative weights clamped": lambda p, t: weights_of(p, t).clamp(min=0),
        "clamped to [0, 1]": lambda p, t: weights_of(p, t).clamp(0, 1),
        "only the first triangle counts": _only_the_first,
        "inverse distances to the corners": _inverse_distances,
        "softmax for normalisation": lambda p, t: _parts(p, t).softmax(-1),
        "one triangle loses its axis": _no_triangle_axis,
        "the third weight is 1 plus the others": _two_of_three,
        "detached": lambda p, t: weights_of(p, t.detach()),
    },
    "rasterize_hard": {
        "the farthest wins": _rasterizer(nearer=torch.gt, start=-1.0),
        "no depth test: the last one painted wins": _rasterizer(
            nearer=lambda z, old: torch.ones_like(z, dtype=torch.bool)
        ),
        "no depth test: the first one painted wins": _rasterizer(nearer=lambda z, old: old > 1e9),
        "one depth a triangle, its mean": _rasterizer(depth=_mean_depth),
        "perspective depth": _rasterizer(depth=_inverse_depth),
        "any positive weight counts as inside": _rasterizer(inside=lambda w: (w >= 0).any(-1)),
        "two positive weights count as inside": _rasterizer(inside=lambda w: (w >= 0).sum(-1) >= 2),
        "weights at least a little positive": _rasterizer(inside=lambda w: (w > 0.05).all(-1)),
        "mirrored: x grows to the right": _rasterizer(
            centres=lambda h, w: pixel_centres(h, w) * torch.tensor([-1.0, 1.0])
        ),
        "upside down": _rasterizer(
            centres=lambda h, w: pixel_centres(h, w) * torch.tensor([1.0, -1.0])
        ),
        "corners of pixels for centres": _rasterizer(centres=_corners_of_pixels),
        "both sides of an oblong picture span [-1, 1]": _rasterizer(centres=_both_sides_one),
        "x and y swapped": _rasterizer(centres=lambda h, w: pixel_centres(h, w).flip(-1)),
        "infinite depth where empty": _rasterizer(empty=math.inf),
        "zero where empty": _rasterizer(empty=0.0),
        "triangle 0 where empty": _rasterizer(no_face=0),
        "triangles counted from one": _rasterizer(first=1),
        "back faces culled": _culled,
        "weights rolled": _rasterizer(kept=lambda w: w.roll(1, -1)),
        "only pix_to_face": _only_the_face,
        "detached": _detached_fragments,
        "height and width swapped": lambda v, f, h, w: _rasterizer()(v, f, w, h),
    },
    "coverage": {
        "the sign turned round": lambda p, t, s: 1 - right_coverage(p, t, s),
        "no sign: never above a half": _never_negative,
        "distance, not squared": lambda p, t, s: _soft(p, t, s, of=lambda d, s: d.sqrt() / s),
        "times sigma": lambda p, t, s: _soft(p, t, s, of=lambda d, s: d * s),
        "by sigma squared": lambda p, t, s: _soft(p, t, s, of=lambda d, s: d / s**2),
        "by twice sigma": lambda p, t, s: _soft(p, t, s, of=lambda d, s: d / (2 * s)),
        "sigma left out": lambda p, t, s: _soft(p, t, 1.0),
        "distance to lines, not segments": lambda p, t, s: _soft(p, t, s, distance=_to_line),
        "distance to the nearest corner": lambda p, t, s: _soft(p, t, s, distance=_to_ends),
        "the farthest edge": lambda p, t, s: _soft(p, t, s, reduce=lambda d: d.amax(0)),
        "the sum over the edges": lambda p, t, s: _soft(p, t, s, reduce=lambda d: d.sum(0)),
        "the mean over the edges": lambda p, t, s: _soft(p, t, s, reduce=lambda d: d.mean(0)),
        "one edge forgotten": _no_segment,
        "hard": _hard_coverage,
        "1 inside, a Gaussian outside": _gaussian,
        "clockwise triangles inside out": _clockwise_is_outside,
        "points and triangles swapped": lambda p, t, s: right_coverage(p, t, s).T,
        "detached": lambda p, t, s: right_coverage(p, t.detach(), s),
    },
    "silhouette": {
        "the sum": lambda p: p.sum(-1),
        "the sum, clamped": lambda p: p.sum(-1).clamp(max=1),
        "the largest": lambda p: p.amax(-1),
        "the mean": lambda p: p.mean(-1),
        "all of them at once": lambda p: p.prod(-1),
        "none of them": lambda p: (1 - p).prod(-1),
        "the first axis": lambda p: 1 - (1 - p).prod(0),
        "all axes": lambda p: 1 - (1 - p).prod(),
        "one minus the product of the coverages": lambda p: 1 - p.prod(-1),
        "axis kept": lambda p: 1 - (1 - p).prod(-1, keepdim=True),
        "the mean coverage, K times": lambda p: 1 - (1 - p.mean(-1)) ** p.shape[-1],
        "two triangles only": lambda p: 1 - (1 - p[..., :2]).prod(-1),
        "detached": lambda p: 1 - (1 - p.detach()).prod(-1),
        "hard": lambda p: (p > 0.5).any(-1).to(p),
    },
    "soft_blend": {
        "far beats near": lambda d, n, c, g, b: right_blend(d, 1 - n, c, g, b),
        "no coverage": lambda d, n, c, g, b: _blend(
            d, n, c, g, b, weigh=lambda d, n, m, g: torch.exp((n - m) / g)
        ),
        "coverage inside the exponent": lambda d, n, c, g, b: _blend(
            d, n, c, g, b, weigh=lambda d, n, m, g: torch.exp((d * n - m) / g)
        ),
        "coverage squared": lambda d, n, c, g, b: right_blend(d**2, n, c, g, b),
        "times gamma": lambda d, n, c, g, b: right_blend(d, n, c, 1 / g, b),
        "gamma ignored": _one_gamma,
        "gamma squared": lambda d, n, c, g, b: right_blend(d, n, c, g**2, b),
        "overflows": _naive_blend,
        "the background unshifted by the largest": lambda d, n, c, g, b: _blend(
            d, n, c, g, b, weigh=_usual, rest=lambda m, g: torch.ones_like(m)
        ),
        "the background's weight only in the sum": lambda d, n, c, g, b: _blend(
            d, n, c, g, b, weigh=_usual, behind=False
        ),
        "black background": _black_behind,
        "no background": _no_background,
        "composited with the silhouette": _composited,
        "not normalised": _unnormalised,
        "the nearest alone": _nearest_only,
        "normalised by the number of triangles": lambda d, n, c, g, b: (
            right_blend(d, n, c, g, b) / d.shape[-1]
        ),
        "weights without gradient": _frozen_weights,
        "one shift for the whole picture": _one_shift_a_picture,
        "gamma never below 0.01": lambda d, n, c, g, b: right_blend(d, n, c, max(g, 0.01), b),
        "colours have three channels": _three_channels,
    },
}

ALTERNATIVES = {
    "barycentric": {
        "solving 2 by 2 systems": _by_solving,
        "loops, the third weight from the others": _in_a_loop,
        "the inverse of homogeneous corners": _by_homogeneous_inverse,
        "an empty tensor, filled weight by weight": _filled_in,
    },
    "rasterize_hard": {
        "triangle by triangle, in place": _rasterizer(),
        "all at once, min over depth": _gathered,
        "pixel by pixel": _pixel_by_pixel,
        "without writing in place, a list of three": _in_place_free,
        "with no word about dtypes": _without_a_dtype,
        "strictly inside": _rasterizer(inside=lambda w: (w > 0).all(-1)),
    },
    "coverage": {
        "tanh for the sigmoid": _logistic,
        "triangle by triangle": _coverage_in_a_loop,
        "softmax against zero": _softmax_coverage,
    },
    "silhouette": {
        "a loop": _silhouette_loop,
        "union of two, again and again": _silhouette_union,
        "through logarithms": _silhouette_log,
    },
    "soft_blend": {
        "a softmax of log coverage and depth, the background one more": _softmax_blend,
        "einsum": _einsum_blend,
        "a loop": _blend_loop,
    },
}
