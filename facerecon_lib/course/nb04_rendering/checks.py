"""Checks of notebook 04: barycentric weights, the z-buffer, coverage, silhouette, soft blending."""

import math

import torch
from torch import Tensor

from ...pictures.sheets import gallery
from ...rendering.rasterizer import rasterize
from ..checks import exercise_check
from ..compare import seeded, strided, uniform
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
)
def barycentric(attempt):
    triangle = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
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
    for points, faces, seed in ((7, 4, 0), (3, 9, 1), (4, 4, 2), (1, 2, 3), (2, 40, 9)):
        what = f"barycentric of {points} points and {faces} triangles"
        attempt.case(what, _scene(points, faces, seed), atol=1e-4)
    others = strided(*_scene(7, 4, seed=6))
    attempt.case("barycentric of 7 other points and 4 triangles, not contiguous", others, atol=1e-4)
    grid, far = pixel_centres(24, 24).reshape(-1, 2), 4 * _scene(1, 1, seed=7)[1]
    what = "barycentric of 24 by 24 pixels and a triangle that reaches far out of the picture"
    attempt.case(what, (grid, far), atol=1e-4)
    what = "barycentric of 9 points and 5 triangles of a face, some 0.02 wide"
    attempt.case(what, tuple(0.01 * x + 0.02 for x in _scene(9, 5, seed=8)), atol=1e-3, rtol=1e-3)
    p, t = _scene(5, 3, seed=4)
    attempt.gradients("barycentric", {"triangles": t}, call=lambda f, t: f(p, t), atol=1e-4)
    edges = torch.cat([triangle[0], torch.tensor([[1.0, 0.0], [0.0, 0.5], [1.0, 0.5]])])
    at = dict(call=lambda f, t: f(edges, t), atol=1e-4)
    attempt.gradients("barycentric, at corners and on edges,", {"triangles": triangle}, **at)
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
        "A triangle that lists its corners clockwise has disappeared. Here it is to be drawn as "
        "well: no culling of back faces.": _culled,
        "Two triangles lie over one another, at depths 2 and 3; you show the one at depth 3. The "
        "nearer one hides the other, in whatever order they are listed: compare depths at each "
        "pixel.": (
            painter(nearer=torch.gt, start=-1.0),
            painter(nearer=lambda z, old: torch.ones_like(z, dtype=torch.bool)),
            painter(nearer=lambda z, old: old > 1e9),
        ),
    },
    parts={
        "pix_to_face": dict(axes=("row", "column"), picture=_compared),
        "zbuf": dict(axes=("row", "column"), atol=1e-4),
        "bary": dict(axes=("row", "column", "weight"), atol=1e-4),
    },
)
def rasterize_hard(attempt):
    # One triangle in the picture's upper left, counterclockwise for the viewer
    verts = torch.tensor([[0.9, 0.9, 2.0], [0.85, -0.4, 2.0], [-0.4, 0.86, 2.0]])
    face = torch.tensor([[0, 1, 2]])
    # Two that cover one another wholly
    square = torch.tensor([[0.9, 0.9], [0.9, -1.83], [-1.77, 0.9]])
    near, far = (torch.cat([square, torch.full((3, 1), z)], 1) for z in (2.0, 3.0))
    two = torch.arange(6).view(2, 3)
    scenes = {
        "one triangle, 8 by 8": (verts, face, 8, 8),
        "the same triangle, its corners listed the other way round": (verts, face.flip(1), 8, 8),
        "two triangles, the nearer listed second": (torch.cat([far, near]), two, 6, 6),
        "two triangles, the nearer listed first": (torch.cat([near, far]), two, 6, 6),
    }
    for seed, vertices, count, h, w in ((0, 9, 6, 14, 14), (1, 12, 10, 9, 16), (2, 8, 7, 15, 8)):
        what = f"{count} triangles that pass through one another, {h} by {w}"
        scenes[what] = (*_soup(seed, vertices, count), h, w)
    (verts, faces), (others, listed) = _soup(3, 8, 5), _soup(4, 8, 5)
    in_mm = verts * torch.tensor([1.0, 1.0, 35.0]) + torch.tensor([0.0, 0.0, 317.0])
    whole = torch.tensor([[9.0, 9.0, 2.0], [-9.0, 9.0, 3.0], [0.0, -9.0, 4.0]])
    one = face[:, :3]
    scenes |= {
        "one triangle, 21 by 34": (verts[:3], face, 21, 34),
        "a face's depths, 370 to 492 mm": (in_mm, faces, 12, 12),
        "depths of 6,000 to 20,000": (others * torch.tensor([1.0, 1.0, 4000.0]), listed, 9, 11),
        "depths of 0.015 to 0.05": (others * torch.tensor([1.0, 1.0, 0.01]), listed, 9, 11),
        "other triangles of the same size, not contiguous": (*strided(verts, faces), 9, 11),
        "a triangle that covers all of the picture": (whole, one, 7, 4),
        "a triangle beside the picture": (whole + torch.tensor([20.0, 0, 0]), one, 7, 4),
        "one pixel": (others, listed, 1, 1),
        "the first two triangles of five": (others, listed[:2], 12, 5),
    }
    for what, inputs in scenes.items():
        attempt.case(f"rasterize_hard({what})", inputs)
    for i, name in ((1, "zbuf"), (2, "bary")):
        part = dict(call=lambda function, *inputs, i=i: function(*inputs)[i], atol=1e-3)
        for what, depths in (("", verts), (", depths of 370 to 492 mm", in_mm)):
            call = f"rasterize_hard's {name}{what}"
            attempt.gradients(call, {"verts": depths}, faces, 10, 10, **part)
    return "triangles, depths and weights are the library's, in square and oblong pictures"


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
)
def coverage(attempt):
    triangle = torch.tensor([[[0.8, -0.6], [-0.8, -0.6], [0.0, 0.8]]])

    def picture(*_):
        centres = pixel_centres(40, 40).reshape(-1, 2)
        maps = [f(centres, triangle, 0.02).reshape(40, 40) for f in (_coverage, attempt)]
        return ndc_maps(maps, ["expected", "yours"], triangle, vmin=0, vmax=1, bar="coverage")

    five = torch.tensor([[0.0, -0.5], [0.0, -0.7], [0.0, -0.6], [0.1, -0.2], [0.9, 0.2]])
    beyond = torch.tensor([[1.2, -0.6], [-1.1, -0.7], [0.0, 1.2], [0.3, 1.0]])
    hint = "0.1 inside of an edge: sigmoid(0.1 ** 2 / 0.2) = 0.512; 0.1 outside: 0.488; on it: 0.5."
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
    for seed, (points, faces, sigma, atol) in enumerate(
        (
            (8, 3, 0.05, 1e-5),
            (3, 7, 0.3, 1e-5),
            (4, 4, 1e-3, 2e-4),
            (1, 2, 1.0, 1e-5),
            (2, 40, 0.1, 1e-5),
        )
    ):
        what = f"coverage of {points} points by {faces} triangles, sigma {sigma}"
        attempt.case(what, (*_scene(points, faces, seed), sigma), atol=atol)
    for words, (p, t, sigma) in {
        "others, not contiguous,": (*strided(*_scene(8, 3, seed=6)), 0.05),
        "16 by 16 pixels": (pixel_centres(16, 16).reshape(-1, 2), _scene(1, 2, seed=7)[1], 0.01),
        "points 0.001 to either side of an edge": (
            torch.tensor([[0.0, -0.599], [0.2, -0.601]]),
            triangle,
            1e-9,
        ),
        "points far out": (4 * five, triangle, 10.0),
        "points on the outline": (torch.cat([triangle[0], five[2:3]]), triangle, 1e-4),
        "small triangles, some 0.02 wide,": (*(0.01 * x for x in _scene(5, 4, seed=8)), 1e-5),
    }.items():
        attempt.case(f"coverage of {words} sigma {sigma:g}", (p, t, sigma), atol=2e-4)
    tail = torch.tensor([[0.0, -0.6 - 0.01 * i] for i in (5, 7, 8, 9)])
    what = "coverage of points where it fades from 0.08 to 0.0003, sigma 0.001"
    attempt.case(what, (tail, triangle, 1e-3), rtol=1e-3)
    p, t = _scene(6, 3, seed=5)
    attempt.gradients("coverage", {"triangles": t}, call=lambda f, t: f(p, t, 0.1), atol=1e-4)
    special = torch.cat([triangle[0], five[2:3], torch.tensor([[0.01, -0.1], [3.0, 0.1]]), tail])
    for sigma in (0.1, 1e-4):
        what = f"coverage, deep inside, far out, on an edge and at the corners, sigma {sigma:g},"
        at = dict(call=lambda f, t, s=sigma: f(special, t, s), atol=1e-4)
        attempt.gradients(what, {"triangles": triangle}, **at)
    return "inside, outside and beyond the corners, at four sigmas, gradients included"


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
    },
    axes=("pixel",),
)
def silhouette(attempt):
    halves = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.3], [0.2, 0.0]])
    expected = torch.tensor([0.75, 0.0, 1.0, 0.2])
    attempt.case("silhouette of two coverages at four pixels", (halves,), expected=expected)
    hint = "The last axis holds the triangles."
    for seed, shape in enumerate(((5, 3), (4, 4), (2, 6, 7, 3), (7,), (3, 1))):
        axes = ("batch", "row", "column") if len(shape) == 4 else ("pixel",) * (len(shape) - 1)
        attempt.case(f"silhouette of {shape}", (uniform(*shape, seed=seed),), hint, axes=axes)
    others = strided(1 - uniform(2, 6, 7, 3, seed=2))
    attempt.case("silhouette of (2, 6, 7, 3), not contiguous", others, hint)
    faint = torch.where(uniform(1, 4, 5, 60, seed=6) > 0.5, 5e-4, 0.0)
    attempt.case("silhouette of 60 triangles, of coverage 0.0005 or 0", (faint,), hint)
    p = uniform(7, 4, seed=5) * 0.9
    p[2, 1] = p[3, :2] = p[4] = 0.0
    attempt.gradients("silhouette", {"coverages": p})
    p[1, 2] = p[3, 3] = p[5, :2] = p[6] = 1.0
    attempt.case("silhouette where one, two and all coverages are 1", (p,), hint)
    attempt.gradients("silhouette, where coverages are 1 or 0,", {"coverages": p})
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
)
def soft_blend(attempt):
    colours = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    white, equal, depths = torch.ones(3), torch.ones(1, 2), torch.tensor([[0.8, 0.4]])
    what = "soft_blend of red at nearness 0.8 over blue at 0.4, both of coverage 1, gamma 0.4"
    hint = (
        "The weights are exp(2) for red, exp(1) for blue and exp(0) for the white background, "
        "divided by the sum of the three: red is 0.755, green 0.090, blue 0.335."
    )
    attempt.case(what, (equal, depths, colours, 0.4, white), hint)
    what = "soft_blend of coverages 0.9 and 0.3 at the same nearness 0.5, gamma 0.5"
    hint = "At equal depth coverages decide: 0.9 e : 0.3 e : 1 for red, blue and the background."
    attempt.case(what, (torch.tensor([[0.9, 0.3]]), equal * 0.5, colours, 0.5, white), hint)
    what = "soft_blend of a pixel with no triangle (coverage 0, nearness 0 in every slot)"
    hint, grey = "Only the background is left: its colour, whole.", white * 0.7
    inputs = torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, 3), 0.1, grey
    attempt.case(what, inputs, hint, expected=grey[None])
    what = "soft_blend with gamma 1e-4, where the nearest takes all"
    attempt.case(what, (equal, depths, colours, 1e-4, white), expected=colours[:, 0])
    # Near pixels, far pixels and an empty one in a picture, two triangles nearly level: what goes
    # well by luck where all pixels are alike, or where gamma may as well be 0.
    several = torch.tensor([[0.9, 0.89995], [0.3, 0.30005], [0.0, 0.0]])
    solid = torch.tensor([[1.0, 0.5], [1.0, 1.0], [0.0, 0.0]])
    what = "soft_blend of a near, a far and an empty pixel, triangles 0.00005 apart, gamma 1e-4"
    hint = "At gamma 1e-4 a difference of 0.00005 in nearness is a factor of exp(0.5)."
    attempt.case(what, (solid, several, colours.expand(3, 2, 3), 1e-4, grey), hint, atol=2e-3)
    hint = "The last axis of coverages and nearness, and the last but one of colours, is K."
    for seed, (shape, gamma, channels) in enumerate(
        (((6, 4), 0.2, 3), ((3, 3), 1.0, 3), ((2, 4, 5, 3), 0.05, 4), ((4, 1), 0.5, 1))
    ):
        *tensors, background = _blend_case(seed, *shape, channels=channels)
        what = f"soft_blend of coverages {shape} and {channels} channels, gamma {gamma}"
        attempt.case(what, (*tensors, gamma, background), hint)
    what = "soft_blend of a triangle of coverage 0.0002, gamma 1e-4: its colour, whole"
    faint = torch.tensor([[2e-4]]), torch.tensor([[0.5]]), colours[:, :1], 1e-4, white
    attempt.case(what, faint, expected=colours[:, 0])
    *tensors, background = _blend_case(6, 2, 4, 5, 3, channels=4)
    others = *strided(*tensors), 0.05, background
    attempt.case("soft_blend of others of that size, not contiguous, gamma 0.05", others, hint)
    *tensors, background = _blend_case(7, 6, 30)
    inputs = *tensors[:2], 6 * tensors[2] - 4, 3.2, 2 * background
    what = "soft_blend of 30 triangles, colours below 0 and above 1, gamma 3.2"
    attempt.case(what, inputs, hint)
    *tensors, background = _blend_case(5, 5, 3)
    inputs = dict(zip(("coverages", "nearness", "colours"), tensors, strict=True))
    attempt.gradients("soft_blend", inputs, 0.3, background)
    empty = torch.ones(5, 3)
    empty[0, 1] = empty[1, :2] = empty[2] = 0.0
    inputs = {name: x * (empty if x.ndim == 2 else empty[..., None]) for name, x in inputs.items()}
    inputs["coverages"][3] = 1.0
    for gamma in (0.3, 1e-4):
        what = f"soft_blend with empty slots, an empty pixel and coverages of 1, gamma {gamma:g},"
        attempt.gradients(what, inputs, gamma, background, atol=5e-7 / gamma)
    return "near beats far, coverage counts, the background has its share, and gamma 1e-4 is safe"
