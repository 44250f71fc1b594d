"""Checks of notebook 04: weights, the z-buffer, coverage, silhouette, blending, exact areas."""

import math

import torch
from torch import Tensor

from ...pictures.sheets import gallery
from ...rendering.rasterizer import rasterize
from ..checks import exercise_check
from ..compare import Wrong, seeded, strided, uniform
from .figures import (
    areas,
    doubled_area,
    face_colours,
    ndc_maps,
    outline_distances,
    pixel_centres,
    squared_distance,
    weights_at,
)

# Barycentric weights ----------------------------------------------------------------------------


def _barycentric(points: Tensor, triangles: Tensor) -> Tensor:
    return weights_at(points[:, None], triangles)


def _inside(points: Tensor, triangles: Tensor) -> Tensor:
    return (_barycentric(points, triangles) >= 0).all(-1)


def _scene(points: int, triangles: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random points and triangles in NDC: of either orientation, none of them a sliver."""
    some = uniform(20 * triangles, 3, 2, seed=seed) * 1.8 - 0.9
    large = doubled_area(*some.unbind(1)).abs() > 0.3
    return uniform(points, 2, seed=seed) * 2 - 1, some[large][:triangles]


def _unsigned(points, triangles):
    parts = _barycentric(points, triangles).abs()
    return parts / parts.sum(-1, keepdim=True)


@exercise_check(
    stand_in=_barycentric,
    mistakes={
        "For 3 points and 1 triangle expected shape (3, 1, 3): point, triangle, weight; got (3, "
        "3). Keep the axis of triangles even where there is only "
        "one.": lambda p, t: _barycentric(p, t).squeeze(1),
        "The point (-1, 0.25) lies outside of the triangle (0, 0), (2, 0), (0, 1), yet all three "
        "of your weights are 0 or more there. Signed areas make one of them negative: that is how "
        "a rasterizer knows. Is there an abs() or a clamp too many?": (
            _unsigned,
            lambda p, t: _barycentric(p, t).abs(),
            lambda p, t: _barycentric(p, t).clamp(min=0),
            lambda p, t: _barycentric(p, t).clamp(0, 1),
        ),
    },
    axes=("point", "triangle", "weight"),
    points=2,
)
def barycentric(attempt):
    triangle = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
    with attempt.part("by hand"):
        what = "barycentric of a triangle's own corners (one row per corner)"
        hint = "At corner a the weights are (1, 0, 0), at b (0, 1, 0), at c (0, 0, 1)."
        attempt.case(what, (triangle[0], triangle), hint, expected=torch.eye(3)[:, None])
        what, third = "barycentric of the middle (a + b + c) / 3", torch.full((1, 1, 3), 1 / 3)
        hint = "The middle weighs all three corners alike, whatever the triangle's size."
        attempt.case(what, (triangle.mean(1), triangle), hint, expected=third)
        what = "barycentric of that triangle listed the other way round (clockwise)"
        hint = (
            "Inside, weights are positive for either orientation: numerator and denominator "
            "change sign together, if both are signed."
        )
        inputs = torch.tensor([[0.5, 0.25]]), triangle[:, [0, 2, 1]]
        attempt.case(what, inputs, hint, expected=torch.tensor([[[0.5, 0.25, 0.25]]]))
        attempt.case("barycentric of a point outside", (torch.tensor([[-1.0, 0.25]]), triangle))
    with attempt.part("many at once"):
        for points, faces, seed in ((7, 4, 0), (3, 9, 1), (4, 4, 2), (1, 2, 3), (2, 40, 9)):
            what = f"barycentric of {points} points and {faces} triangles"
            attempt.case(what, _scene(points, faces, seed), atol=1e-4)
        others, what = strided(*_scene(7, 4, seed=6)), "barycentric of 7 other points and 4"
        attempt.case(f"{what} triangles, not contiguous", others, atol=1e-4)
    with attempt.part("sizes"):
        grid, far = pixel_centres(24, 24).reshape(-1, 2), 4 * _scene(1, 1, seed=7)[1]
        what = "barycentric of 24 by 24 pixels and a triangle that reaches far out of the picture"
        attempt.case(what, (grid, far), atol=1e-4)
        what = "barycentric of 9 points and 5 triangles of a face, some 0.02 wide"
        small = tuple(0.01 * x + 0.02 for x in _scene(9, 5, seed=8))
        attempt.case(what, small, atol=1e-3, rtol=1e-3)
    with attempt.part("gradients"):
        p, t = _scene(5, 3, seed=4)
        attempt.gradients("barycentric", {"points": p, "triangles": t}, atol=1e-4)
        edges = torch.cat([triangle[0], torch.tensor([[1.0, 0.0], [0.0, 0.5], [1.0, 0.5]])])
        both = {"points": edges, "triangles": triangle}
        attempt.gradients("barycentric, at corners and on edges,", both, atol=1e-4)
    return "weights agree inside, outside and for both orientations, and so do their gradients"


# The z-buffer -----------------------------------------------------------------------------------


def _rasterize_hard(
    verts: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    *found, _dists = vars(rasterize(verts[None], faces, (height, width))).values()
    return tuple(x[0, :, :, 0] for x in found)


def _soup(seed: int, vertices: int, faces: int) -> tuple[Tensor, Tensor]:
    """Triangles that overlap and pass through one another, 1.5 to 5 deep."""
    draw = seeded(seed)
    verts = torch.rand(vertices, 3, generator=draw) * 2.2 - 1.1
    verts[:, 2] = torch.rand(vertices, generator=draw) * 3.5 + 1.5
    some = torch.stack([torch.randperm(vertices, generator=draw)[:3] for _ in range(20 * faces)])
    large = doubled_area(*verts[some][..., :2].unbind(1)).abs() > 0.15
    return verts, some[large][:faces]


def _compared(got: Tensor, expected: Tensor):
    shown = torch.where((got >= -1) & (got <= expected.max()), got, -1)
    sheets = [face_colours(expected), face_colours(shown), (got != expected).numpy()]
    titles = ["expected", "yours", "black: different"]
    return gallery(sheets, titles, title="pix_to_face, one colour per triangle", cmap="Greys")


def painter(
    *,
    inside=lambda w: (w >= 0).all(-1),
    nearer=torch.lt,
    depth=lambda w, z: w @ z,
    centres=pixel_centres,
    start=math.inf,
    empty=(-1, -1.0, -1.0),
):
    """A rasterizer that paints triangle after triangle, with one thing done otherwise.

    empty: the three values where no triangle is.
    """

    def rasterize_hard(verts, faces, height, width):
        points = centres(height, width).reshape(-1, 2).to(verts)
        pix_to_face = torch.full((len(points),), empty[0])
        zbuf = torch.full((len(points),), start).to(verts)
        bary = torch.full((len(points), 3), empty[2]).to(verts)
        for f, face in enumerate(faces):
            corners = verts[face]
            w = _barycentric(points, corners[None, :, :2])[:, 0]
            z = depth(w, corners[:, 2])
            wins = inside(w) & nearer(z, zbuf)
            pix_to_face[wins], zbuf[wins], bary[wins] = f, z[wins], w[wins]
        zbuf[zbuf == start] = empty[1]
        shape = (height, width)
        return pix_to_face.reshape(shape), zbuf.reshape(shape), bary.reshape(*shape, 3)

    return rasterize_hard


def stretched(*factors: float):
    """The rasterizer of vertices whose x, y and z are multiplied."""
    return lambda verts, *rest: _rasterize_hard(verts * verts.new_tensor(factors), *rest)


def _culled(verts, faces, height, width):
    front = doubled_area(*verts[faces][..., :2].unbind(1)) > 0
    return painter()(verts, torch.where(front[:, None], faces, faces[:, :1]), height, width)


@exercise_check(
    stand_in=_rasterize_hard,
    mistakes={
        "Your picture is mirrored: +x in NDC is the left of the picture and +y its top, as "
        "pixel_centres says. Rows and columns follow from it "
        "alone.": (stretched(-1, 1, 1), stretched(1, -1, 1), stretched(-1, -1, 1)),
        "Where no triangle is, -1 is expected in all three: pix_to_face, zbuf and bary.": (
            painter(empty=(-1, 0.0, 0.0)),
            painter(empty=(-1, math.inf, math.inf)),
            painter(empty=(-1, math.inf, -1.0)),
            painter(empty=(-1, -1.0, 0.0)),
        ),
        "No triangle appears at all. A pixel is inside where all three weights are 0 or more. And "
        "what stands on the depth sheet before the first triangle? Any depth must be nearer than "
        "that, so -1 or 0 will not do; fill -1 in at the end.": (
            painter(start=-1.0),
            painter(start=0.0),
            painter(inside=lambda w: (w <= 0).all(-1)),
        ),
        "A triangle that lists its corners clockwise has disappeared. Here it is to be drawn as "
        "well: no culling of back faces.": _culled,
        "Two triangles lie over one another, at depths 2 and 3; you show the one at depth 3. The "
        "nearer one hides the other, in whatever order they are listed: compare depths at each "
        "pixel.": (
            painter(nearer=torch.gt, start=-1.0),
            painter(nearer=lambda z, old: torch.ones_like(z, dtype=torch.bool)),
            painter(nearer=lambda z, old: old > 1e9),
        ),
        "A triangle that is listed twice, 0 and 1, shows as 1. Of two at the same depth the first "
        "listed stays: a later one has to be nearer, with <.": painter(nearer=torch.le),
    },
    parts={
        "pix_to_face": dict(axes=("row", "column"), picture=_compared),
        "zbuf": dict(axes=("row", "column"), atol=1e-4),
        "bary": dict(axes=("row", "column", "weight"), atol=1e-4),
    },
    points=3,
)
def rasterize_hard(attempt):
    # One triangle in the picture's upper left, counterclockwise for the viewer
    verts = torch.tensor([[0.9, 0.9, 2.0], [0.85, -0.4, 2.0], [-0.4, 0.86, 2.0]])
    face = torch.tensor([[0, 1, 2]])
    # Two that cover one another wholly
    square = torch.tensor([[0.9, 0.9], [0.9, -1.83], [-1.77, 0.9]])
    near, far = (torch.cat([square, torch.full((3, 1), z)], 1) for z in (2.0, 3.0))
    two = torch.arange(6).view(2, 3)
    pair = torch.cat([verts, verts * torch.tensor([-1.0, -1.0, 1.0])])
    with attempt.part("by hand"):
        both_orders = torch.tensor([[0, 1, 2], [5, 4, 3]])
        _draw(attempt, "two triangles, one of them clockwise, 8 by 8", pair, both_orders, 8, 8)
        _draw(attempt, "one triangle, 8 by 8", verts, face, 8, 8)
        _draw(attempt, "the same, its corners the other way round", verts, face.flip(1), 8, 8)
        for which, both in (("second", (far, near)), ("first", (near, far))):
            what = f"two triangles, the nearer listed {which}"
            _draw(attempt, what, torch.cat(both), two, 6, 6)
        _draw(attempt, "one triangle, listed twice", near, torch.cat([face, face]), 7, 6)
    with attempt.part("crossing triangles"):
        sizes = ((0, 9, 6, 14, 14), (1, 12, 10, 9, 16), (2, 8, 7, 15, 8))
        for seed, vertices, count, *size in sizes:
            what = "{} triangles that pass through one another, {} by {}".format(count, *size)
            _draw(attempt, what, *_soup(seed, vertices, count), *size)
    (verts, faces), (others, listed) = _soup(3, 8, 5), _soup(4, 8, 5)
    in_mm = verts * torch.tensor([1.0, 1.0, 35.0]) + torch.tensor([0.0, 0.0, 317.0])
    deep, flat = (others * torch.tensor([1.0, 1.0, z]) for z in (4000.0, 0.01))
    whole = torch.tensor([[9.0, 9.0, 2.0], [-9.0, 9.0, 3.0], [0.0, -9.0, 4.0]])
    with attempt.part("depths and sizes"):
        _draw(attempt, "one triangle, 21 by 34", verts[:3], face, 21, 34)
        _draw(attempt, "a face's depths, 370 to 492 mm", in_mm, faces, 12, 12)
        _draw(attempt, "depths of 6,000 to 20,000", deep, listed, 9, 11)
        _draw(attempt, "depths of 0.015 to 0.05", flat, listed, 9, 11)
        _draw(attempt, "others of that size, not contiguous", *strided(verts, faces), 9, 11)
        _draw(attempt, "a triangle that covers all of the picture", whole, face, 7, 4)
        beside = whole + whole.new_tensor([20, 0, 0])
        _draw(attempt, "a triangle beside the picture", beside, face, 7, 4)
        _draw(attempt, "one pixel", others, listed, 1, 1)
        _draw(attempt, "the first two triangles of five", others, listed[:2], 12, 5)
    with attempt.part("gradients"):
        for i, name in ((1, "zbuf"), (2, "bary")):
            part = dict(call=lambda function, *inputs, i=i: function(*inputs)[i], atol=1e-3)
            for what, depths in (("", verts), (", depths of 370 to 492 mm", in_mm)):
                call = f"rasterize_hard's {name}{what}"
                attempt.gradients(call, {"verts": depths}, faces, 10, 10, **part)
    return "triangles, depths and weights are the library's, in square and oblong pictures"


def _draw(attempt, what: str, *inputs) -> None:
    attempt.case(f"rasterize_hard({what})", inputs)


# Perspective ------------------------------------------------------------------------------------


def _perspective_weights(weights: Tensor, depths: Tensor) -> Tensor:
    parts = weights / depths
    return parts / parts.sum(-1, keepdim=True)


def _depths(seed: int, *shape: int, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Weights inside of triangles, and depths of their corners."""
    weights = uniform(*shape, 3, seed=seed) + 0.05
    depths = near + (far - near) * uniform(*shape, 3, seed=seed + 100)
    return weights / weights.sum(-1, keepdim=True), depths


HALFWAY = "Halfway in the image between a corner at depth 1 and one at depth 3"


@exercise_check(
    stand_in=_perspective_weights,
    mistakes={
        f"{HALFWAY} you have 0.25 of the near one, and it should be 0.75: perspective squeezes the "
        "far half, so the point is nearer to the near corner. Divide by the depths; you "
        "multiply.": lambda w, z: w * z / (w * z).sum(-1, keepdim=True),
        "Your three weights do not sum to 1. Divide by the depths, then by the sum of the "
        "three.": lambda w, z: w / z,
        f"{HALFWAY} you have a half of each, as in the image: nothing is corrected.": lambda w, z: (
            w + 0 * z
        ),
        "The weights of the image have dropped out: you have a share of the third corner, which "
        "has no weight.": lambda w, z: (1 / z) / (1 / z).sum(-1, keepdim=True) + 0 * w,
    },
    axes=("point", "weight"),
    points=2,
)
def perspective_weights(attempt):
    halfway, depths = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[1.0, 3.0, 2.0]])
    with attempt.part("by hand"):
        what = "perspective_weights of (0.5, 0.5, 0) and depths (1, 3, 2)"
        hint = "0.5 / 1 and 0.5 / 3 are as 3 to 1."
        expected = torch.tensor([[0.75, 0.25, 0.0]])
        attempt.case(what, (halfway, depths), hint, expected=expected)
        what = "perspective_weights at the corners, of depths 1, 3 and 2"
        attempt.case(what, (torch.eye(3), depths.expand(3, 3)), expected=torch.eye(3))
        level = torch.tensor([[0.2, 0.3, 0.5]]), torch.full((1, 3), 400.0)
        hint = "Where all corners are equally deep, nothing changes."
        attempt.case("perspective_weights at one depth", level, hint, expected=level[0])
        attempt.case("perspective_weights of other depths", _depths(9, 4, near=1.0, far=7.0))
    with attempt.part("batches"):
        for seed, shape in enumerate(((5,), (), (3,), (2, 3, 3), (1, 4, 5, 2))):
            axes = "row", "weight"
            what = f"perspective_weights of {(*shape, 3)}"
            attempt.case(what, _depths(seed, *shape, near=1.0, far=7.0), axes=axes)
        others = strided(*_depths(6, 2, 3, 3, near=1.0, far=7.0))
        attempt.case("perspective_weights of (2, 3, 3, 3), not contiguous", others)
        double = tuple(x.double() for x in _depths(7, 5, near=1.0, far=7.0))
        attempt.case("perspective_weights in float64", double, atol=1e-9, rtol=1e-9)
    with attempt.part("depths"):
        for near, far in ((368.0, 492.0), (0.3, 0.5), (1.0, 60.0), (6e3, 2e4)):
            what = f"perspective_weights of depths {near:,g} to {far:,g}"
            attempt.case(what, _depths(8, 40, 40, near=near, far=far))
        weights, depths = _depths(5, 6, near=368.0, far=492.0)
        outside = weights * torch.tensor([-1.0, 2.0, 1.0])
        hint = "A point outside of its triangle has a negative weight; it stays negative."
        attempt.case("perspective_weights of points outside", (outside, depths), hint)
    with attempt.part("gradients"):
        for near, far in ((1.0, 7.0), (368.0, 492.0)):
            weights, depths = _depths(4, 6, near=near, far=far)
            weights[0, 1] = weights[1, :2] = 0.0
            weights[2] = weights.new_tensor([-0.5, 0.7, 0.8])
            what = f"perspective_weights of depths {near:g} to {far:g}, some weights 0 or negative,"
            attempt.gradients(what, {"weights": weights, "depths": depths}, atol=5e-6)
    return "near and far, one point and whole pictures, gradients included"


# Coverage ---------------------------------------------------------------------------------------


def soft(
    *,
    distance=squared_distance,
    reduce=lambda squared: squared.amin(0),
    inside=_inside,
    scaled=lambda squared, sigma: squared / sigma,
):
    """SoftRas' coverage, or with one thing done otherwise."""

    def coverage(points: Tensor, triangles: Tensor, sigma: float) -> Tensor:
        squared = reduce(outline_distances(points[:, None], triangles, distance))
        sign = torch.where(inside(points, triangles), 1.0, -1.0).to(points)
        return torch.sigmoid(sign * scaled(squared, sigma))

    return coverage


_coverage = soft()


@exercise_check(
    stand_in=_coverage,
    mistakes={
        "Your coverage is below a half inside of the triangle and above outside of it: the sign is "
        "turned round.": lambda *arguments: 1 - _coverage(*arguments),
        "The same triangle with its corners listed the other way round gets another coverage. "
        "Clockwise or not must not matter: `barycentric` sees to "
        "that.": soft(inside=lambda p, t: (areas(p[:, None], t) >= 0).all(-1)),
        "Your coverage never exceeds a half: inside, the distance counts as positive, so that deep "
        "inside it goes to 1. `barycentric` tells which side a point is "
        "on.": soft(inside=lambda p, t: torch.zeros_like(_inside(p, t))),
        "Your coverage is 0 or 1 everywhere: that is the hard rasterizer.": lambda p, t, _: _inside(
            p, t
        ).to(p),
        "You divide the distance by sigma; SoftRas divides the squared distance.": soft(
            scaled=lambda squared, sigma: squared.sqrt() / sigma
        ),
    },
    axes=("point", "triangle"),
    points=2,
)
def coverage(attempt):
    triangle = torch.tensor([[[0.8, -0.6], [-0.8, -0.6], [0.0, 0.8]]])

    def picture(*_):
        centres = pixel_centres(40, 40).reshape(-1, 2)
        maps = [f(centres, triangle, 0.02).reshape(40, 40) for f in (_coverage, attempt)]
        return ndc_maps(maps, ["expected", "yours"], triangle, vmin=0, vmax=1, bar="coverage")

    five = torch.tensor([[0.0, -0.5], [0.0, -0.7], [0.0, -0.6], [0.1, -0.2], [0.9, 0.2]])
    beyond = torch.tensor([[1.2, -0.6], [-1.1, -0.7], [0.0, 1.2], [0.3, 1.0]])
    outline = torch.cat([triangle[0], five[2:3]])
    tail = torch.tensor([[0.0, -0.6 - 0.01 * i] for i in (5, 7, 8, 9)])
    with attempt.part("by hand"):
        hint = "0.1 inside of an edge: sigmoid(0.1**2 / 0.2) = 0.512; outside: 0.488; on it: 0.5."
        what = "coverage of five points around one triangle, sigma 0.2"
        attempt.case(what, (five, triangle.flip(1), 0.2), hint, picture=picture)
        what += ", its corners listed the other way round"
        attempt.case(what, (five, triangle, 0.2), hint, picture=picture)
        hint = (
            "Beyond a corner the nearest point of the outline is the corner: distances are to the "
            "three segments, not to the lines that carry them."
        )
        what = "coverage of points beyond the corners, sigma 0.1"
        attempt.case(what, (beyond, triangle, 0.1), hint, picture=picture)
    with attempt.part("sizes"):
        numbers = (8, 3, 0.05), (3, 7, 0.3), (4, 4, 1e-3), (1, 2, 1.0), (2, 40, 0.1)
        for seed, (points, faces, sigma) in enumerate(numbers):
            what = f"coverage of {points} points by {faces} triangles, sigma {sigma}"
            atol = 2e-4 if sigma == 1e-3 else 1e-5
            attempt.case(what, (*_scene(points, faces, seed), sigma), atol=atol)
        others, what = strided(*_scene(8, 3, seed=6)), "coverage of others, not contiguous,"
        attempt.case(f"{what} sigma 0.05", (*others, 0.05), atol=2e-4)
    with attempt.part("near, far and small"):
        sides = torch.tensor([[0.0, -0.599], [0.2, -0.601]])
        small = (0.01 * x for x in _scene(5, 4, seed=8))
        pixels = pixel_centres(16, 16).reshape(-1, 2), _scene(1, 2, seed=7)[1]
        for words, inputs in {
            "16 by 16 pixels": (*pixels, 0.01),
            "points 0.001 to either side of an edge": (sides, triangle, 1e-9),
            "points far out": (4 * five, triangle, 10.0),
            "points on the outline": (outline, triangle, 1e-4),
            "small triangles, some 0.02 wide,": (*small, 1e-5),
        }.items():
            attempt.case(f"coverage of {words} sigma {inputs[2]:g}", inputs, atol=2e-4)
        what = "coverage of points where it fades from 0.08 to 0.0003, sigma 0.001"
        attempt.case(what, (tail, triangle, 1e-3), rtol=1e-3)
    with attempt.part("gradients"):
        p, t = _scene(6, 3, seed=5)
        attempt.gradients("coverage", {"points": p, "triangles": t}, 0.1, atol=1e-4)
        special = torch.cat([outline, torch.tensor([[0.01, -0.1], [3.0, 0.1]]), tail])
        for sigma in (0.1, 1e-4):
            what = (
                f"coverage, deep inside, far out, on an edge and at the corners, sigma {sigma:g},"
            )
            both = {"points": special, "triangles": triangle}
            attempt.gradients(what, both, sigma, atol=1e-4)
    return "inside, outside and beyond the corners, at all sigmas, gradients included"


# Silhouette -------------------------------------------------------------------------------------


def _silhouette(coverages: Tensor) -> Tensor:
    return 1 - (1 - coverages).prod(-1)


HALVES = "Two triangles cover a pixel with probability 0.5 each"


@exercise_check(
    stand_in=_silhouette,
    mistakes={
        f"{HALVES}. You say that one of them surely does (1.0); but both may miss it, with "
        "probability 0.5 x 0.5.": (lambda p: p.sum(-1), lambda p: p.sum(-1).clamp(max=1)),
        f"{HALVES}; you say 0.5. The second must raise it: the pixel stays empty only if both miss "
        "it, 0.5 x 0.5.": (lambda p: p.amax(-1), lambda p: p.mean(-1)),
        f"{HALVES}; you say 0.25, which is both at once (or neither). A silhouette asks for at "
        "least one of them.": (lambda p: p.prod(-1), lambda p: (1 - p).prod(-1)),
        "That is 1 minus the product of the coverages, the chance that not all of them cover it. A "
        "pixel is empty only if all miss it: multiply what each leaves, 1 - D.": lambda p: (
            1 - p.prod(-1)
        ),
    },
    axes=("pixel",),
)
def silhouette(attempt):
    hint = "The last axis holds the triangles."
    with attempt.part("by hand"):
        halves = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.3], [0.2, 0.0]])
        expected = torch.tensor([0.75, 0.0, 1.0, 0.2])
        attempt.case("silhouette of two coverages at four pixels", (halves,), expected=expected)
    with attempt.part("shapes"):
        for seed, shape in enumerate(((5, 3), (4, 4), (2, 6, 7, 3), (7,), (3, 1))):
            axes = ("batch", "row", "column") if len(shape) == 4 else ("pixel",) * (len(shape) - 1)
            what = f"silhouette of {shape}"
            attempt.case(what, (uniform(*shape, seed=seed),), hint, axes=axes)
        others = strided(1 - uniform(2, 6, 7, 3, seed=2))
        attempt.case("silhouette of (2, 6, 7, 3), not contiguous", others, hint)
    p = uniform(7, 4, seed=5) * 0.9
    p[2, 1] = p[3, :2] = p[4] = 0.0
    full = p.clone()
    full[1, 2] = full[3, 3] = full[5, :2] = full[6] = 1.0
    with attempt.part("faint and full"):
        faint = torch.where(uniform(1, 4, 5, 60, seed=6) > 0.5, 5e-4, 0.0)
        attempt.case("silhouette of 60 triangles, of coverage 0.0005 or 0", (faint,), hint)
        attempt.case("silhouette where one, two and all coverages are 1", (full,), hint)
    with attempt.part("gradients"):
        attempt.gradients("silhouette", {"coverages": p})
        attempt.gradients("silhouette, where coverages are 1 or 0,", {"coverages": full})
    return "any number of triangles, any picture, and every triangle gets its gradient"


# Blending ---------------------------------------------------------------------------------------


def blended(shift, background_shift=None):
    """SoftRas' blending, with the exponents shifted by shift(nearness), the background's also."""

    def soft_blend(
        coverages: Tensor, nearness: Tensor, colours: Tensor, gamma: float, background: Tensor
    ) -> Tensor:
        most = shift(nearness.detach())
        weights = coverages * torch.exp((nearness - most) / gamma)
        rest = torch.exp(-(background_shift or shift)(nearness.detach()) / gamma)
        total = weights.sum(-1, keepdim=True) + rest
        return ((weights[..., None] * colours).sum(-2) + rest * background) / total

    return soft_blend


def nothing(nearness: Tensor) -> Tensor:
    return torch.zeros_like(nearness[..., :1])


def nearest(nearness: Tensor) -> Tensor:
    return nearness.amax(-1, keepdim=True).clamp(min=0)


_soft_blend = blended(nearest)


def _blend_case(seed: int, *shape: int, channels: int = 3) -> tuple[Tensor, ...]:
    draw = seeded(seed)
    coverages, nearness = torch.rand(2, *shape, generator=draw)
    colours = torch.rand(*shape, channels, generator=draw)
    background = torch.rand(channels, generator=draw)
    return coverages * 0.95 + 0.02, nearness * 0.9 + 0.05, colours, background


@exercise_check(
    stand_in=_soft_blend,
    mistakes={
        "Red at nearness 0.8 over blue at 0.4 is more blue than red: nearness is 1 in front and 0 "
        "at the back.": lambda d, n, *rest: _soft_blend(d, 1 - n, *rest),
        "With gamma 1e-4, the usual value, the result is not finite: exp(0.8 / 1e-4) overflows and "
        "inf / inf is nan. Subtracting the same number from every exponent, the largest nearness "
        "over gamma, changes no weight.": blended(nothing),
        "In a picture whose pixels lie at different depths, with gamma 1e-4, the result is not "
        "finite: what you subtract from the exponents must be each pixel's own largest, or pixels "
        "far behind it are left with 0 / 0.": blended(lambda nearness: nearness.max()),
    },
    axes=("pixel", "colour"),
    points=3,
)
def soft_blend(attempt):
    colours = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    white, equal, depths = torch.ones(3), torch.ones(1, 2), torch.tensor([[0.8, 0.4]])
    grey = white * 0.7
    with attempt.part("by hand"):
        what = "soft_blend of red at nearness 0.8 over blue at 0.4, both of coverage 1, gamma 0.4"
        hint = (
            "The weights are exp(2) for red, exp(1) for blue and exp(0) for the white background, "
            "divided by the sum of the three: red is 0.755, green 0.090, blue 0.335."
        )
        attempt.case(what, (equal, depths, colours, 0.4, white), hint)
        what = "soft_blend of coverages 0.9 and 0.3 at the same nearness 0.5, gamma 0.5"
        hint = (
            "At equal depth coverages decide: 0.9 e : 0.3 e : 1 for red, blue and the background."
        )
        attempt.case(what, (torch.tensor([[0.9, 0.3]]), equal * 0.5, colours, 0.5, white), hint)
        what = "soft_blend of a pixel with no triangle (coverage 0, nearness 0 in every slot)"
        hint = "Only the background is left: its colour, whole."
        inputs = torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, 3), 0.1, grey
        attempt.case(what, inputs, hint, expected=grey[None])
    with attempt.part("gamma 1e-4"):
        what = "soft_blend with gamma 1e-4, where the nearest takes all"
        attempt.case(what, (equal, depths, colours, 1e-4, white), expected=colours[:, 0])
        # Near pixels, far pixels and an empty one in a picture, two triangles nearly level: what
        # goes well by luck where all pixels are alike, or where gamma may as well be 0.
        several = torch.tensor([[0.9, 0.89995], [0.3, 0.30005], [0.0, 0.0]])
        solid = torch.tensor([[1.0, 0.5], [1.0, 1.0], [0.0, 0.0]])
        what = "soft_blend of a near, a far and an empty pixel, triangles 0.00005 apart, gamma 1e-4"
        hint = "At gamma 1e-4 a difference of 0.00005 in nearness is a factor of exp(0.5)."
        inputs = solid, several, colours.expand(3, 2, 3), 1e-4, grey
        attempt.case(what, inputs, hint, atol=2e-3)
        what = "soft_blend of a triangle of coverage 0.0002, gamma 1e-4: its colour, whole"
        faint = torch.tensor([[2e-4]]), torch.tensor([[0.5]]), colours[:, :1], 1e-4, white
        attempt.case(what, faint, expected=colours[:, 0])
    with attempt.part("shapes"):
        hint = "The last axis of coverages and nearness, and the last but one of colours, is K."
        shapes = ((6, 4), 0.2, 3), ((3, 3), 1.0, 3), ((2, 4, 5, 3), 0.05, 4), ((4, 1), 0.5, 1)
        for seed, (shape, gamma, channels) in enumerate(shapes):
            *tensors, background = _blend_case(seed, *shape, channels=channels)
            what = f"soft_blend of coverages {shape} and {channels} channels, gamma {gamma}"
            attempt.case(what, (*tensors, gamma, background), hint)
        *tensors, background = _blend_case(6, 2, 4, 5, 3, channels=4)
        what = "soft_blend of others of that size, not contiguous, gamma 0.05"
        attempt.case(what, (*strided(*tensors), 0.05, background), hint)
        *tensors, background = _blend_case(7, 6, 30)
        inputs = *tensors[:2], 6 * tensors[2] - 4, 3.2, 2 * background
        what = "soft_blend of 30 triangles, colours below 0 and above 1, gamma 3.2"
        attempt.case(what, inputs, hint)
    with attempt.part("gradients"):
        *tensors, background = _blend_case(5, 5, 3)
        inputs = dict(zip(("coverages", "nearness", "colours"), tensors, strict=True))
        attempt.gradients("soft_blend", inputs, 0.3, background)
        there = torch.ones(5, 3)
        there[0, 1] = there[1, :2] = there[2] = 0.0
        masks = there, there, there[..., None]
        inputs = {name: x * mask for (name, x), mask in zip(inputs.items(), masks, strict=True)}
        inputs["coverages"][3] = 1.0
        for gamma in (0.3, 1e-4):
            what = (
                f"soft_blend with empty slots, an empty pixel and coverages of 1, gamma {gamma:g},"
            )
            attempt.gradients(what, inputs, gamma, background, atol=5e-7 / gamma)
    return "near beats far, coverage counts, the background has its share, and gamma 1e-4 is safe"


# Exact areas ------------------------------------------------------------------------------------


def in_squares(triangles: Tensor, height: int, width: int) -> Tensor:
    """Corners (F, height, width, 3, 2) as each pixel sees them, whose square is [0, 1] x [0, 1]."""
    side = 2 / min(height, width)
    lowest = pixel_centres(height, width).to(triangles) - side / 2
    return (triangles[:, None, None] - lowest[..., None, :]) / side


def clamped(points: Tensor) -> Tensor:
    """Signed areas of polygons (..., N, 2) whose points are moved into [0, 1] x [0, 1]."""
    x, y = points.clamp(0, 1).unbind(-1)
    return (x * y.roll(-1, -1) - y * x.roll(-1, -1)).sum(-1) / 2


def cut(corners: Tensor) -> Tensor:
    """Polygons (..., 3, 2) with a point more wherever a side meets x = 0, x = 1, y = 0, y = 1."""
    sides = corners.roll(-1, -2) - corners
    crossings = [(line - corners) / torch.where(sides == 0, 1, sides) for line in (0, 1)]
    along = torch.cat([torch.zeros_like(corners[..., :1]), *crossings], -1).clamp(0, 1)
    along = along.sort(-1).values[..., None]
    return (corners[..., None, :] + along * sides[..., None, :]).flatten(-3, -2)


def _area_coverage(triangles: Tensor, height: int, width: int) -> Tensor:
    return clamped(cut(in_squares(triangles, height, width))).abs()


def sampled(count: int, coverage=lambda points, triangles: _inside(points, triangles).to(points)):
    """The mean over count by count points per pixel."""

    def area_coverage(triangles: Tensor, height: int, width: int) -> Tensor:
        points = pixel_centres(count * height, count * width).reshape(-1, 2).to(triangles)
        fine = coverage(points, triangles).T.reshape(-1, height, count, width, count)
        return fine.mean((2, 4))

    return area_coverage


def _shares_compared(got: Tensor, expected: Tensor):
    title, limits = "share of each pixel, first triangle", dict(vmin=0, vmax=1)
    return gallery(
        [expected[0].numpy(), got[0].numpy()], ["expected", "yours"], title=title, **limits
    )


@exercise_check(
    stand_in=_area_coverage,
    mistakes={
        "You count points, at the middle or at several places. However many they are, the share "
        "moves in steps, and steps have no gradient. The area of what the square and the triangle "
        "have in common is exact.": tuple(map(sampled, (1, 2, 3, 4, 5, 8, 16, 32))),
        "A clockwise triangle has a negative share. Its orientation is not to "
        "matter.": lambda *inputs: clamped(cut(in_squares(*inputs))),
        "You move the corners into the square and measure. A side that runs through the square has "
        "to be cut where it enters and leaves, or it takes a short "
        "cut.": lambda *inputs: clamped(in_squares(*inputs)).abs(),
        "That is the area itself, in squared NDC. A share is the part of the square that is "
        "covered: divide by the square's own area.": lambda t, h, w: (
            _area_coverage(t, h, w) * (2 / min(h, w)) ** 2
        ),
        "That is the share of the triangle that lies in the square. Asked for is the share of the "
        "square that the triangle covers.": lambda t, h, w: (
            _area_coverage(t, h, w)
            * ((2 / min(h, w)) ** 2 / (doubled_area(*t.unbind(1)).abs() / 2))[:, None, None]
        ),
        "Your picture is mirrored: +x in NDC is the left of the picture and +y its top, as "
        "pixel_centres says.": tuple(
            lambda t, *size, axes=axes: _area_coverage(t, *size).flip(axes)
            for axes in ((1,), (2,), (1, 2))
        ),
    },
    axes=("triangle", "row", "column"),
    points=3,
    challenge=True,
    atol=1e-4,
    picture=_shares_compared,
)
def area_coverage(attempt):
    left = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]])
    slope = torch.tensor([[[1.4, 0.2], [-1.0, -0.4], [0.3, 0.9]]])
    with attempt.part("by hand"):
        expected = torch.tensor([[[1.0, 0.5], [0.5, 0.0]]])
        hint = "The triangle is the upper left half of the picture: a whole square and two halves."
        what = "area_coverage of (1, 1), (1, -1), (-1, 1), 2 by 2 pixels"
        attempt.case(what, (left, 2, 2), hint, expected=expected)
        what += ", its corners listed the other way round"
        attempt.case(what, (left.flip(1), 2, 2), hint, expected=expected)
        what = "area_coverage of one triangle"
        attempt.case(f"{what}, 4 by 4 pixels", (slope, 4, 4))
        hint = "The triangle lies within one square, whose area is 0.25: 0.08 / 0.25 = 0.32."
        expected = torch.zeros(1, 4, 4)
        expected[0, 1, 1] = 0.32
        small = 0.2 * left + 0.25, 4, 4
        attempt.case(f"{what} within a square", small, hint, expected=expected)
    with attempt.part("pictures"):
        for seed, (count, *size) in enumerate(((3, 5, 9), (9, 7, 3), (4, 4, 4), (3, 16, 12))):
            what = "area_coverage of {} triangles, {} by {} pixels".format(count, *size)
            attempt.case(what, (1.3 * _scene(1, count, seed)[1], *size))
        others = strided(_scene(1, 4, seed=6)[1])
        attempt.case("area_coverage of 4 others, not contiguous, 4 by 4", (*others, 4, 4))
        double = _scene(1, 2, seed=7)[1].double(), 5, 4
        attempt.case("area_coverage in float64", double, atol=1e-9, rtol=1e-9)
    aligned = torch.tensor(
        [[[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5]], [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]]
    )
    upright = torch.tensor([[[0.3, 0.1], [0.3, -0.55], [-0.62, 0.1]]])
    with attempt.part("edges"):
        far = torch.tensor([[[30.0, 2.0], [-27.0, -1.5], [9.0, 50.0]]])
        wide, fine = 40 * left, 0.01 * _scene(1, 6, seed=8)[1] + 0.2
        line = torch.tensor([[[0.9, 0.2], [0.1, 0.2], [-0.5, 0.2]], [[0.1, 0.1]] * 3])
        for words, inputs in {
            "a triangle that covers all of the picture": (wide, 3, 4),
            "a triangle that reaches far out": (far, 3, 4),
            "a triangle beside the picture": (left + 5, 3, 3),
            "triangles whose sides run between the squares": (aligned, 4, 4),
            "an upright triangle": (torch.cat([upright, -upright]), 8, 9),
            "triangles of a face, some 0.02 wide": (fine, 12, 12),
            "a line and a point, which have no area": (line, 6, 5),
            "one pixel": (_scene(1, 3, seed=9)[1], 1, 1),
        }.items():
            attempt.case(f"area_coverage of {words}", inputs)
    with attempt.part("gradients"):
        attempt.gradients("area_coverage", {"triangles": _scene(1, 4, seed=4)[1]}, 6, 5, atol=1e-3)
        what = "area_coverage of an upright triangle"
        attempt.gradients(what, {"triangles": upright}, 8, 9, atol=1e-3)
        leaf = aligned.clone().requires_grad_()
        what = "area_coverage of triangles whose sides run between the squares"
        got = attempt.trial(what)(leaf, 4, 4)
        attempt.close(what, got, _area_coverage(aligned, 4, 4))
        [slopes] = torch.autograd.grad(got.sum(), leaf)
        if not slopes.isfinite().all():
            raise Wrong(f"The gradient of {what} is not finite: is something divided by 0 there?")
    return "whole squares, slivers and everything between, to four digits, and its gradients"
