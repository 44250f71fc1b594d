"""Notebook 04: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math
from functools import reduce
from operator import mul

import torch
from spoiled_answers import cached, halved, logged, rooted, squeezed, viewed, with_

from facerecon_lib.course.nb04_rendering.checks import _area_coverage as right_areas
from facerecon_lib.course.nb04_rendering.checks import _barycentric as weights_of
from facerecon_lib.course.nb04_rendering.checks import _coverage as right_coverage
from facerecon_lib.course.nb04_rendering.checks import _perspective_weights as in_space
from facerecon_lib.course.nb04_rendering.checks import _rasterize_hard as right_fragments
from facerecon_lib.course.nb04_rendering.checks import _soft_blend as right_blend
from facerecon_lib.course.nb04_rendering.checks import (
    blended,
    clamped,
    cut,
    in_squares,
    nearest,
    nothing,
    painter,
    sampled,
    soft,
)
from facerecon_lib.course.nb04_rendering.figures import areas, pixel_centres, squared_distance
from facerecon_lib.course.nb04_rendering.figures import doubled_area as area

# barycentric ----------------------------------------------------------------------------------


def _inverse_distances(points, triangles):
    near = 1 / (points[:, None, None] - triangles).norm(dim=-1).clamp(min=1e-6)
    return near / near.sum(-1, keepdim=True)


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
            whole = area(a, b, c)
            w0, w1 = area(p, b, c) / whole, area(p, c, a) / whole
            row.append(torch.stack([w0, w1, 1 - w0 - w1]))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _filled_in(points, triangles):
    weights = torch.empty(len(points), len(triangles), 3)
    for k in range(3):
        corners = [points[:, None] if i == k else triangles[:, i] for i in range(3)]
        weights[..., k] = area(*corners) / area(*triangles.unbind(1))
    return weights


def _by_homogeneous_inverse(points, triangles):
    corners = torch.cat([triangles, torch.ones_like(triangles[..., :1])], -1)
    p = torch.cat([points, torch.ones_like(points[:, :1])], -1)
    return torch.einsum("pi,fij->pfj", p, torch.linalg.inv(corners))


# rasterize_hard -------------------------------------------------------------------------------


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


# perspective_weights --------------------------------------------------------------------------


def _of_the_other_depths(weights, depths):
    a, b, c = depths.unbind(-1)
    parts = weights * torch.stack([b * c, c * a, a * b], -1)
    return parts / parts.sum(-1, keepdim=True)


def _by_the_depth_of_the_point(weights, depths):
    depth = 1 / torch.einsum("...i,...i->...", weights, 1 / depths)
    return torch.einsum("...i,...->...i", weights / depths, depth)


def _corner_by_corner(weights, depths):
    parts = [weights[..., i] / depths[..., i] for i in range(3)]
    return torch.stack([part / sum(parts) for part in parts], -1)


def _weights_in_place(weights, depths):
    weights /= depths
    weights /= weights.sum(-1, keepdim=True)
    return weights


# coverage -------------------------------------------------------------------------------------


def _distances(points, triangles):
    p, (a, b, c) = points[:, None], triangles.unbind(1)
    return torch.stack([squared_distance(p, *side) for side in ((a, b), (b, c), (c, a))])


def _gaussian(points, triangles, sigma):
    squared = _distances(points, triangles).amin(0)
    inside = (weights_of(points, triangles) >= 0).all(-1)
    return torch.where(inside, 1.0, torch.exp(-squared / sigma))


def _logistic(points, triangles, sigma):
    squared = _distances(points, triangles).min(0).values
    sign = 2 * (weights_of(points, triangles).amin(-1) >= 0).to(points) - 1
    return 0.5 * (1 + torch.tanh(sign * squared / sigma / 2))


def _signed(points, triangles, sigma):
    squared = _distances(points, triangles).amin(0)
    inside = (weights_of(points, triangles) >= 0).all(-1)
    return torch.where(inside, squared, -squared) / sigma


def _by_exp(*arguments):
    return 1 / (1 + torch.exp(-_signed(*arguments)))


def _by_exps(*arguments):
    return torch.exp(_signed(*arguments)) / (1 + torch.exp(_signed(*arguments)))


def _coverage_in_a_loop(points, triangles, sigma):
    columns = []
    for t in triangles:
        squared = torch.stack(
            [squared_distance(points, t[i], t[(i + 1) % 3]) for i in range(3)], -1
        ).amin(-1)
        inside = (areas(points, t) * area(*t).sign() > 0).all(-1)
        signed = squared * (2 * inside.to(points) - 1)
        columns.append((signed / sigma).sigmoid())
    return torch.stack(columns, 1)


def _softmax_coverage(points, triangles, sigma):
    squared = _distances(points, triangles).amin(0)
    inside = (weights_of(points, triangles) >= 0).all(-1)
    signed = torch.where(inside, squared, -squared) / sigma
    return torch.stack([signed, torch.zeros_like(signed)], -1).softmax(-1)[..., 0]


# soft_blend -----------------------------------------------------------------------------------


def _unnormalised(coverages, nearness, colours, gamma, background):
    weights = coverages * torch.exp((nearness - nearness.amax(-1, keepdim=True)) / gamma)
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


def _blend_in_place(coverages, nearness, colours, gamma, background):
    rest = nearness.detach().amax(-1, keepdim=True)
    nearness -= rest
    nearness /= gamma
    weights, rest = coverages * nearness.exp(), (-rest / gamma).exp()
    total = weights.sum(-1, keepdim=True) + rest
    return ((weights[..., None] * colours).sum(-2) + rest * background) / total


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


# area_coverage --------------------------------------------------------------------------------


def _shoelace(points):
    turned = [*points[1:], *points[:1]]
    pairs = zip(points, turned, strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2


def _clipped(points, inside):
    """Sutherland and Hodgman: what is left of a polygon where inside(point) is at least 0."""
    left = []
    for a, b in zip(points, [*points[1:], *points[:1]], strict=True):
        at_a, at_b = inside(a), inside(b)
        if at_a >= 0:
            left.append(a)
        if (at_a >= 0) != (at_b >= 0):
            left.append(a + at_a / (at_a - at_b) * (b - a))
    return left


SQUARE = lambda p: p[0], lambda p: 1 - p[0], lambda p: p[1], lambda p: 1 - p[1]


def by_clipping(of_one, lines=SQUARE):
    """of_one(corners (3, 2), lines) in each square."""

    def area_coverage(triangles, height, width):
        corners = in_squares(triangles, height, width)
        each = [of_one(c, lines) for c in corners.reshape(-1, 3, 2)]
        return torch.stack([x + 0 * triangles.sum() for x in each]).reshape(corners.shape[:3])

    return area_coverage


def _triangle_by_square(corners, lines):
    left = [*corners]
    for inside in lines:
        left = _clipped(left, inside)
    return _shoelace(left) if left else corners.new_zeros(())


def _square_by_triangle(corners, lines):
    left = [*corners.new_tensor([[0, 0], [1, 0], [1, 1], [0, 1]])]
    turn = area(*corners).sign()
    if turn == 0:
        return corners.new_zeros(())
    for i in range(3):
        a, b = corners[i], corners[(i + 1) % 3]
        left = _clipped(left, lambda p, a=a, b=b: turn * area(a, b, p))
    return _shoelace(left) if left else corners.new_zeros(())


def _one_axis_at_a_time(triangles, height, width):
    points = in_squares(triangles, height, width)
    for axis in (0, 1):
        sides = points.roll(-1, -2) - points
        step = torch.where(sides[..., axis] == 0, 1, sides[..., axis])
        ends = torch.stack([(line - points[..., axis]) / step for line in (0, 1)], -1)
        ends = ends.clamp(0, 1).sort(-1).values
        ends = torch.cat([torch.zeros_like(ends[..., :1]), ends], -1)[..., None]
        points = (points[..., None, :] + ends * sides[..., None, :]).flatten(-3, -2)
        points = torch.stack(
            [x.clamp(0, 1) if i == axis else x for i, x in enumerate(points.unbind(-1))], -1
        )
    x, y = points.unbind(-1)
    return (x.roll(-1, -1) * y - y.roll(-1, -1) * x).sum(-1).abs() / 2


def _in_halves(triangles, height, width):
    middle = (triangles[:, 1] + triangles[:, 2]) / 2
    a, b, c = triangles.unbind(1)
    halves = torch.stack([a, b, middle], 1), torch.stack([a, middle, c], 1)
    return sum(right_areas(half, height, width) for half in halves)


def _boxes(triangles, height, width):
    corners = in_squares(triangles, height, width).clamp(0, 1)
    return (corners.amax(-2) - corners.amin(-2)).prod(-1)


def _cut_carelessly(triangles, height, width):
    corners = in_squares(triangles, height, width)
    sides = corners.roll(-1, -2) - corners
    along = torch.cat(
        [torch.zeros_like(corners[..., :1]), -corners / sides, (1 - corners) / sides], -1
    )
    along = along.clamp(0, 1).sort(-1).values[..., None]
    return clamped((corners[..., None, :] + along * sides[..., None, :]).flatten(-3, -2)).abs()


def _unsorted_cuts(triangles, height, width):
    corners = in_squares(triangles, height, width)
    sides = corners.roll(-1, -2) - corners
    steps = torch.where(sides == 0, 1, sides)
    along = torch.cat(
        [torch.zeros_like(corners[..., :1]), -corners / steps, (1 - corners) / steps], -1
    )
    along = along.clamp(0, 1)[..., None]
    return clamped((corners[..., None, :] + along * sides[..., None, :]).flatten(-3, -2)).abs()


def _oblong(triangles, height, width):
    stretch = triangles.new_tensor([width, height]) / min(height, width)
    return right_areas(triangles * stretch, height, width)


def of_fragments(index, change):
    """The right fragments with one of the three changed."""

    def rasterize_hard(*arguments):
        fragments = list(right_fragments(*arguments))
        fragments[index] = change(fragments[index])
        return tuple(fragments)

    return rasterize_hard


# No gradient is asked of their answers.
WITHOUT_GRADIENT = set()

MUTANTS = {
    "barycentric": {
        "the whole triangle's area without its sign: clockwise ones come out negative": (
            lambda p, t: areas(p[:, None], t) / area(*t.unbind(1)).abs()[..., None]
        ),
        "no division by the whole": lambda p, t: areas(p[:, None], t),
        "half of it: one area halved, the other not": lambda p, t: weights_of(p, t) / 2,
        "weights one corner further": lambda p, t: weights_of(p, t).roll(1, -1),
        "the last two weights swapped": lambda p, t: weights_of(p, t)[..., [0, 2, 1]],
        "triangles before points": lambda p, t: weights_of(p, t).transpose(0, 1),
        "only the first triangle counts": lambda p, t: weights_of(p, t[:1].expand_as(t)),
        "inverse distances to the corners": _inverse_distances,
        "softmax for normalisation": lambda p, t: areas(p[:, None], t).softmax(-1),
        "the third weight is 1 plus the others": _two_of_three,
        "a little added to the whole area": lambda p, t: (
            areas(p[:, None], t)
            / (area(*t.unbind(1)) + 1e-6 * area(*t.unbind(1)).sign())[..., None]
        ),
        "small triangles left out": lambda p, t: (
            weights_of(p, t) * (area(*t.unbind(1)).abs() > 1e-3)[..., None]
        ),
        "an area of at least 0.001": lambda p, t: (
            areas(p[:, None], t)
            * area(*t.unbind(1)).sign()[..., None]
            / area(*t.unbind(1)).abs().clamp(min=1e-3)[..., None]
        ),
        "weights from -5 to 5": lambda p, t: weights_of(p, t).clamp(-5, 5),
        "corners kept in the picture": lambda p, t: weights_of(p, t.clamp(-1, 1)),
        "the first 32 triangles": lambda p, t: torch.cat(
            [weights_of(p, t[:32]), torch.full((len(p), len(t[32:]), 3), -1.0)], 1
        ),
        "the first 512 points": lambda p, t: torch.cat(
            [weights_of(p[:512], t), torch.zeros(len(p[512:]), len(t), 3)]
        ),
        "by a root, nan on edges": lambda p, t: rooted(weights_of(p, t)),
        "by a logarithm, nan on edges": lambda p, t: logged(weights_of(p, t)),
        "no gradient on edges": lambda p, t: torch.where(
            weights_of(p, t) == 0, 0.0, weights_of(p, t)
        ),
        "no gradient to points": with_(weights_of, a0=torch.detach),
        "no gradient to triangles": with_(weights_of, a1=torch.detach),
        "turned where points are as many as triangles": lambda p, t: (
            weights_of(p, t).transpose(0, 1) if len(p) == len(t) else weights_of(p, t)
        ),
        "axes of length 1 lost": squeezed(weights_of),
        "views of the arguments": viewed(weights_of),
        "kept by size": cached(weights_of),
        "half precision": halved(weights_of),
    },
    "rasterize_hard": {
        "one depth per triangle, its mean": painter(depth=lambda w, z: z.mean().expand(len(w))),
        "perspective depth": painter(depth=lambda w, z: 1 / (w @ (1 / z))),
        "any positive weight counts as inside": painter(inside=lambda w: (w >= 0).any(-1)),
        "two positive weights count as inside": painter(inside=lambda w: (w >= 0).sum(-1) >= 2),
        "weights at least a little positive": painter(inside=lambda w: (w > 0.05).all(-1)),
        "corners of pixels for centres": painter(
            centres=lambda h, w: pixel_centres(h, w) + 1 / min(h, w)
        ),
        "both sides of an oblong picture span [-1, 1]": painter(
            centres=lambda h, w: pixel_centres(h, w) * min(h, w) / torch.tensor([w, h])
        ),
        "x and y swapped": painter(centres=lambda h, w: pixel_centres(h, w).flip(-1)),
        "triangle 0 where empty": painter(empty=(0, -1.0, -1.0)),
        "triangles counted from one": of_fragments(0, lambda face: face + (face >= 0).long()),
        "weights rolled": of_fragments(2, lambda w: w.roll(1, -1)),
        "only pix_to_face": lambda *arguments: right_fragments(*arguments)[0],
        "height and width swapped": lambda v, f, h, w: right_fragments(v, f, w, h),
        "a z-buffer that starts at 100": painter(start=100.0),
        "a z-buffer that starts at 1,000": painter(start=1000.0),
        "depths of less than 0.1 are too near": painter(
            nearer=lambda z, old: (z < old) & (z > 0.1)
        ),
        "the last of those at one depth, to rounding": painter(
            nearer=lambda z, old: z <= old + 1e-7 * old.abs()
        ),
        "nearer by at least 0.05": painter(nearer=lambda z, old: z < old - 0.05),
        "depths compared in whole numbers": painter(nearer=lambda z, old: z.round() < old.round()),
        "depths in whole mm above 100": of_fragments(
            1, lambda z: torch.where(z > 100, z.round(), z)
        ),
        "depths up to 255": of_fragments(1, lambda z: z.clamp(max=255)),
        "zbuf without gradient": of_fragments(1, lambda z: z.detach()),
        "bary without gradient": of_fragments(2, lambda w: w.detach()),
        "zbuf without gradient above 100": of_fragments(
            1, lambda z: torch.where(z > 100, z.detach(), z)
        ),
        "the first 16 columns": lambda v, f, h, w: right_fragments(v, f, h, min(w, 16)),
        "only corners in the picture": lambda v, f, h, w: right_fragments(
            v, f[(v[f][..., :2].abs() < 3).all(-1).any(-1)], h, w
        ),
        "the last triangle forgotten": lambda v, f, h, w: right_fragments(
            v, f[: max(len(f) - 1, 1)], h, w
        ),
        "axes of length 1 lost": squeezed(right_fragments),
        "a view of the vertices": viewed(right_fragments),
        "kept by size": cached(right_fragments),
        "half precision": halved(right_fragments),
    },
    "perspective_weights": {
        "by squared depths": lambda w, z: in_space(w, z**2),
        "by roots of depths": lambda w, z: in_space(w, z.sqrt()),
        "times the mean depth, not normalised": lambda w, z: w / z * z.mean(-1, keepdim=True),
        "times the depth that the image's weights mix": lambda w, z: (
            w / z * (w * z).sum(-1, keepdim=True)
        ),
        "depths from the nearest corner": lambda w, z: in_space(
            w, 1 + z - z.amin(-1, keepdim=True)
        ),
        "softmax for normalisation": lambda w, z: (w / z).softmax(-1),
        "the sum over everything": lambda w, z: w / z / (w / z).sum(),
        "divided by the largest": lambda w, z: w / z / (w / z).amax(-1, keepdim=True),
        "divided by the sum of lengths": lambda w, z: w / z / (w / z).abs().sum(-1, keepdim=True),
        "no negative weights": lambda w, z: in_space(w.clamp(min=0), z),
        "weights of at least 0.000001": with_(in_space, a0=lambda w: w.clamp(min=1e-6)),
        "depths up to 100": with_(in_space, a1=lambda z: z.clamp(max=100)),
        "depths of at least 1": with_(in_space, a1=lambda z: z.clamp(min=1)),
        "depths up to 1,000": with_(in_space, a1=lambda z: z.clamp(max=1000)),
        "depths in whole mm": with_(in_space, a1=lambda z: z.round()),
        "a little added to the sum": lambda w, z: w / z / ((w / z).sum(-1, keepdim=True) + 1e-6),
        "a little added to the depths": lambda w, z: in_space(w, z + 1e-2),
        "nothing to do far out": lambda w, z: torch.where(z > 100, w, in_space(w, z)),
        "one depth for the first two": lambda w, z: in_space(w, z[..., [0, 0, 2]]),
        "depths one corner further": lambda w, z: in_space(w, z.roll(1, -1)),
        "depths without gradient": lambda w, z: in_space(w, z.detach()),
        "weights without gradient": lambda w, z: in_space(w.detach(), z),
        "the sum without gradient": lambda w, z: w / z / (w / z).sum(-1, keepdim=True).detach(),
        "no gradient where a weight is 0": lambda w, z: in_space(
            torch.where(w == 0, w.detach(), w), z
        ),
        "weights by a root, nan at 0": lambda w, z: in_space(rooted(w), z),
        "weights by a logarithm, nan at 0": lambda w, z: in_space(logged(w), z),
        "in float32": lambda w, z: in_space(w.float(), z.float()).to(w),
        "axes of length 1 lost": squeezed(in_space),
        "views of the arguments": viewed(in_space),
        "kept by size": cached(in_space),
        "half precision": halved(in_space),
    },
    "coverage": {
        "times sigma": soft(scaled=lambda d, s: d * s),
        "by sigma squared": soft(scaled=lambda d, s: d / s**2),
        "by twice sigma": soft(scaled=lambda d, s: d / (2 * s)),
        "sigma left out": soft(scaled=lambda d, s: d),
        "distance to lines, not segments": soft(
            distance=lambda p, a, b: area(a, b, p).square() / (b - a).square().sum(-1)
        ),
        "distance to the nearest corner": soft(
            distance=lambda p, a, b: torch.minimum(
                (p - a).square().sum(-1), (p - b).square().sum(-1)
            )
        ),
        "the farthest edge": soft(reduce=lambda d: d.amax(0)),
        "the sum over the edges": soft(reduce=lambda d: d.sum(0)),
        "the mean over the edges": soft(reduce=lambda d: d.mean(0)),
        "one edge forgotten": soft(reduce=lambda d: d[:2].amin(0)),
        "1 inside, a Gaussian outside": _gaussian,
        "points and triangles swapped": lambda p, t, s: right_coverage(p, t, s).T,
        "the root squared again, nan on the outline": soft(
            scaled=lambda d, s: d.sqrt().square() / s
        ),
        "1 / (1 + exp), gradient nan far out": _by_exp,
        "exp / (1 + exp), nan deep inside": _by_exps,
        "by a logarithm, nan on the outline": soft(scaled=lambda d, s: torch.exp(d.log()) / s),
        "sigma of at least 0.000001": with_(right_coverage, a2=lambda s: max(s, 1e-6)),
        "sigma of at most 1": with_(right_coverage, a2=lambda s: min(s, 1.0)),
        "cut off below 0.001": lambda *a: right_coverage(*a) * (right_coverage(*a) > 1e-3),
        "at most 0.99": lambda *a: right_coverage(*a).clamp(max=0.99),
        "at least 0.001": lambda *a: right_coverage(*a).clamp(min=1e-3),
        "1 on the outline": soft(scaled=lambda d, s: torch.where(d < 1e-9, 99.0, d / s)),
        "a little added to the distance": soft(scaled=lambda d, s: (d + 1e-5) / s),
        "corners kept in the picture": with_(right_coverage, a1=lambda t: t.clamp(-0.7, 0.7)),
        "no gradient to points": with_(right_coverage, a0=torch.detach),
        "no gradient to triangles": with_(right_coverage, a1=torch.detach),
        "no gradient from outside": lambda *a: torch.where(
            right_coverage(*a) < 0.5, right_coverage(*a).detach(), right_coverage(*a)
        ),
        "the first 32 triangles": lambda p, t, s: torch.cat(
            [right_coverage(p, t[:32], s), 0.5 * torch.ones(len(p), len(t[32:]))], 1
        ),
        "the first 128 points": lambda p, t, s: torch.cat(
            [right_coverage(p[:128], t, s), torch.zeros(len(p[128:]), len(t))]
        ),
        "axes of length 1 lost": squeezed(right_coverage),
        "views of the arguments": viewed(right_coverage),
        "kept by size": cached(right_coverage),
        "half precision": halved(right_coverage),
    },
    "silhouette": {
        "the first axis": lambda p: 1 - (1 - p).prod(0),
        "all axes": lambda p: 1 - (1 - p).prod(),
        "axis kept": lambda p: 1 - (1 - p).prod(-1, keepdim=True),
        "the mean coverage, K times": lambda p: 1 - (1 - p.mean(-1)) ** p.shape[-1],
        "two triangles only": lambda p: 1 - (1 - p[..., :2]).prod(-1),
        "hard": lambda p: (p > 0.5).any(-1).to(p),
        "through logarithms, nan at 1": lambda p: 1 - torch.exp(torch.log1p(-p).sum(-1)),
        "through logarithms, a little added": lambda p: 1 - torch.exp((1 - p + 1e-6).log().sum(-1)),
        "coverages up to 0.999999": lambda p: 1 - (1 - p.clamp(max=1 - 1e-6)).prod(-1),
        "coverages from 0.000001": lambda p: 1 - (1 - p.clamp(min=1e-6)).prod(-1),
        "1 without gradient where a coverage is 1": lambda p: torch.where(
            (p == 1).any(-1), 1.0, 1 - (1 - p).prod(-1)
        ),
        "0 without gradient where nothing is": lambda p: torch.where(
            (p == 0).all(-1), 0.0, 1 - (1 - p).prod(-1)
        ),
        "product divided by each, nan at 1": lambda p: 1 - ((1 - p) ** 2 / (1 - p)).prod(-1),
        "the ten largest": lambda p: 1 - (1 - p.topk(min(10, p.shape[-1])).values).prod(-1),
        "faint ones left out": lambda p: 1 - (1 - p * (p > 1e-3)).prod(-1),
        "by a root, nan at 0": lambda p: 1 - (1 - rooted(p)).prod(-1),
        "by a root of the rest, nan at 1": lambda p: 1 - rooted(1 - p).prod(-1),
        "a view of the coverages": viewed(lambda p: 1 - (1 - p).prod(-1)),
        "kept by size": cached(lambda p: 1 - (1 - p).prod(-1)),
        "half precision": halved(lambda p: 1 - (1 - p).prod(-1)),
    },
    "soft_blend": {
        "no coverage": lambda d, *rest: right_blend(torch.ones_like(d), *rest),
        "coverage inside the exponent": lambda d, n, *rest: right_blend(
            torch.ones_like(d), d * n, *rest
        ),
        "coverage squared": lambda d, *rest: right_blend(d**2, *rest),
        "times gamma": lambda d, n, c, g, b: right_blend(d, n, c, 1 / g, b),
        "gamma ignored": lambda d, n, c, g, b: right_blend(d, n, c, 0.1, b),
        "gamma squared": lambda d, n, c, g, b: right_blend(d, n, c, g**2, b),
        "the background unshifted by the largest": blended(nearest, nothing),
        "black background": lambda d, n, c, g, b: right_blend(d, n, c, g, 0 * b),
        "the background's weight only in the sum": lambda d, n, c, g, b: (
            right_blend(d, n, c, g, b) - right_blend(d, n, 0 * c, g, b)
        ),
        "no background": _no_background,
        "composited with the silhouette": _composited,
        "not normalised": _unnormalised,
        "the nearest alone": _nearest_only,
        "normalised by the number of triangles": lambda d, n, c, g, b: (
            right_blend(d, n, c, g, b) / d.shape[-1]
        ),
        "weights without gradient": lambda d, n, *rest: right_blend(d.detach(), n.detach(), *rest),
        "gamma never below 0.01": lambda d, n, c, g, b: right_blend(d, n, c, max(g, 0.01), b),
        "colours have three channels": _three_channels,
        "log coverage, nan at empty slots": _softmax_blend,
        "log coverage of at least 0.000001": with_(_softmax_blend, a0=lambda d: d.clamp(min=1e-6)),
        "gamma of at most 1": with_(right_blend, a3=lambda g: min(g, 1.0)),
        "gamma of at least 0.001": with_(right_blend, a3=lambda g: max(g, 1e-3)),
        "coverage by a root, nan at 0": with_(right_blend, a0=rooted),
        "nearness by a root, nan at 0": with_(right_blend, a1=rooted),
        "colours by a logarithm, nan at 0": with_(right_blend, a2=logged),
        "faint coverages left out": with_(right_blend, a0=lambda d: d * (d > 1e-3)),
        "a sum of at least 0.001": lambda d, n, c, g, b: (
            right_blend(d, n, c, g, b) * (d.sum(-1, keepdim=True) / 1e-3).clamp(0.2, 1)
        ),
        "colours kept from 0 to 1": lambda *a: right_blend(*a).clamp(0, 1),
        "colours kept up to 1": with_(right_blend, a2=lambda c: c.clamp(max=1)),
        "background kept up to 1": with_(right_blend, a4=lambda b: b.clamp(max=1)),
        "the first 8 slots": lambda d, n, c, g, b: right_blend(
            d[..., :8], n[..., :8], c[..., :8, :], g, b
        ),
        "no gradient from empty pixels": lambda d, n, c, g, b: torch.where(
            (d == 0).all(-1, keepdim=True), b, right_blend(d, n, c, g, b)
        ),
        "no gradient from empty slots": with_(
            right_blend, a0=lambda d: torch.where(d == 0, d.detach(), d)
        ),
        "no gradient from full slots": with_(
            right_blend, a0=lambda d: torch.where(d == 1, d.detach(), d)
        ),
        "views of the arguments": viewed(right_blend),
        "kept by size": cached(right_blend),
        "half precision": halved(right_blend),
    },
    "area_coverage": {
        "7 by 7 points": sampled(7),
        "6 by 6 points": sampled(6),
        "soft at the centre": sampled(1, lambda p, t: right_coverage(p, t, 1e-2)),
        "soft at 4 by 4 points": sampled(4, lambda p, t: right_coverage(p, t, 1e-3)),
        "corners of pixels for centres": lambda t, h, w: right_areas(t + 1 / min(h, w), h, w),
        "both sides of an oblong picture span [-1, 1]": _oblong,
        "x and y swapped": lambda t, h, w: right_areas(t.flip(-1), h, w),
        "height and width swapped": lambda t, h, w: right_areas(t, w, h),
        "the bounding box": _boxes,
        "twice the area": lambda *a: (2 * right_areas(*a)).clamp(max=1),
        "half of it": lambda *a: right_areas(*a) / 2,
        "counterclockwise ones only": lambda *a: clamped(cut(in_squares(*a))).clamp(min=0),
        "clockwise ones only": lambda *a: (-clamped(cut(in_squares(*a)))).clamp(min=0),
        "the sum over the triangles": lambda *a: right_areas(*a).sum(0, keepdim=True),
        "the first triangle": lambda t, h, w: right_areas(t[:1].expand_as(t), h, w),
        "any share counts as all": lambda *a: right_areas(*a).ceil(),
        "no square is full": lambda *a: right_areas(*a).clamp(max=0.999),
        "faint shares left out": lambda *a: right_areas(*a) * (right_areas(*a) > 1e-2),
        "small triangles left out": lambda t, h, w: (
            right_areas(t, h, w) * (area(*t.unbind(1)).abs() > 1e-3)[:, None, None]
        ),
        "corners kept in the picture": with_(right_areas, a0=lambda t: t.clamp(-1, 1)),
        "corners kept within 10": with_(right_areas, a0=lambda t: t.clamp(-10, 10)),
        "0 / 0 where a side is upright": _cut_carelessly,
        "the places of the cuts not sorted": _unsorted_cuts,
        "clipped by three lines": by_clipping(_triangle_by_square, SQUARE[:3]),
        "the first 8 columns": lambda t, h, w: torch.cat(
            [right_areas(t, h, w)[..., :8], torch.zeros(len(t), h, max(w - 8, 0))], -1
        ),
        "no gradient": lambda t, h, w: right_areas(t.detach(), h, w),
        "no gradient in y": lambda t, h, w: right_areas(
            torch.stack([t[..., 0], t[..., 1].detach()], -1), h, w
        ),
        "by a root, nan where nothing is": lambda *a: rooted(right_areas(*a)),
        "by a logarithm, nan where nothing is": lambda *a: logged(right_areas(*a)),
        "in float32": lambda t, h, w: right_areas(t.float(), h, w).to(t),
        "axes of length 1 lost": squeezed(right_areas),
        "kept by size": cached(right_areas),
        "half precision": halved(right_areas),
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
        "triangle by triangle, in place": painter(),
        "all at once, min over depth": _gathered,
        "pixel by pixel": _pixel_by_pixel,
        "without writing in place, a list of three": _in_place_free,
        "with no word about dtypes": _without_a_dtype,
        "strictly inside": painter(inside=lambda w: (w > 0).all(-1)),
    },
    "perspective_weights": {
        "times the other two depths": _of_the_other_depths,
        "times the depth of the point": _by_the_depth_of_the_point,
        "corner by corner": _corner_by_corner,
        "in place": _weights_in_place,
        "through inverse depths": lambda w, z: (
            w * z.reciprocal() / (w * z.reciprocal()).sum(-1)[..., None]
        ),
    },
    "coverage": {
        "tanh for the sigmoid": _logistic,
        "triangle by triangle": _coverage_in_a_loop,
        "softmax against zero": _softmax_coverage,
    },
    "silhouette": {
        "a product in turn": lambda p: 1 - reduce(mul, (1 - p).unbind(-1)),
        "union of two, again and again": lambda p: reduce(lambda a, b: a + b - a * b, p.unbind(-1)),
        "a running product": lambda p: 1 - (1 - p).cumprod(-1)[..., -1],
        "in place": lambda p: 1 - p.neg_().add_(1).prod(-1),
    },
    "soft_blend": {
        "in place": _blend_in_place,
        "einsum": _einsum_blend,
        "a loop": _blend_loop,
    },
    "area_coverage": {
        "Sutherland and Hodgman: the triangle, clipped by the square": by_clipping(
            _triangle_by_square
        ),
        "the square, clipped by the triangle": by_clipping(_square_by_triangle),
        "one axis at a time": _one_axis_at_a_time,
        "in two halves": _in_halves,
    },
}
