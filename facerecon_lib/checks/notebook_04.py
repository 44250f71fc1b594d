"""Checks of notebook 04: barycentric weights, the z-buffer, coverage, silhouette, soft blending."""

import torch
from torch import Tensor

from ..figures.rendering import face_colours, ndc_maps, pixel_centres, squared_distance
from ..rasterizer import rasterize
from ..sheets import gallery
from . import Wrong, close, exercise_check, same_gradient

AXES_PF = ("point", "triangle")


# Barycentric weights ----------------------------------------------------------------------------


def _area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Doubled signed area of the triangle a, b, c."""
    (ax, ay), (bx, by), (cx, cy) = a.unbind(-1), b.unbind(-1), c.unbind(-1)
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _barycentric(points: Tensor, triangles: Tensor) -> Tensor:
    p = points[:, None]
    a, b, c = triangles.unbind(1)
    parts = torch.stack([_area(p, b, c), _area(a, p, c), _area(a, b, p)], -1)
    return parts / _area(a, b, c)[..., None]


def _triangles(count: int, seed: int) -> Tensor:
    """Random ones in NDC, of either orientation, none of them a sliver."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    while len(found) < count:
        triangle = torch.rand(3, 2, generator=draw) * 1.8 - 0.9
        if _area(*triangle).abs() > 0.3:
            found.append(triangle)
    return torch.stack(found)


def _points(count: int, seed: int) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@exercise_check(stand_in=_barycentric)
def barycentric(attempt):
    triangle = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
    at_corners = attempt(triangle[0], triangle)
    if isinstance(at_corners, Tensor) and at_corners.shape == (3, 3):
        raise Wrong(
            "For 3 points and 1 triangle expected shape (3, 1, 3): point, triangle, weight; got "
            "(3, 3). Keep the axis of triangles even where there is only one."
        )
    close(
        "barycentric of a triangle's own corners (one row a corner)",
        at_corners,
        torch.eye(3)[:, None],
        axes=("point", "triangle", "weight"),
        hint="At corner a the weights are (1, 0, 0), at b (0, 1, 0), at c (0, 0, 1).",
    )
    middle = triangle.mean(1)
    close(
        "barycentric of the middle (a + b + c) / 3",
        attempt(middle, triangle),
        torch.full((1, 1, 3), 1 / 3),
        axes=("point", "triangle", "weight"),
        hint="The middle weighs all three corners alike, whatever the triangle's size.",
    )
    close(
        "barycentric of that triangle listed the other way round (clockwise)",
        attempt(torch.tensor([[0.5, 0.25]]), triangle[:, [0, 2, 1]]),
        torch.tensor([[[0.5, 0.25, 0.25]]]),
        axes=("point", "triangle", "weight"),
        hint="Inside, weights are positive for either orientation: numerator and denominator "
        "change sign together, if both are signed.",
    )
    outside = torch.tensor([[-1.0, 0.25]])
    got = attempt(outside, triangle)
    if isinstance(got, Tensor) and got.shape == (1, 1, 3) and bool((got >= 0).all()):
        raise Wrong(
            "The point (-1, 0.25) lies outside of the triangle (0, 0), (2, 0), (0, 1), yet all "
            "three of your weights are 0 or more there. Signed areas make one of them negative: "
            "that is how a rasterizer knows. Is there an abs() or a clamp too many?"
        )
    close(
        "barycentric of a point outside",
        got,
        _barycentric(outside, triangle),
        axes=("point", "triangle", "weight"),
    )
    for points, faces, seed in ((7, 4, 0), (3, 9, 1), (4, 4, 2), (1, 2, 3)):
        p, t = _points(points, seed), _triangles(faces, seed)
        close(
            f"barycentric of {points} points and {faces} triangles",
            attempt(p, t),
            _barycentric(p, t),
            axes=("point", "triangle", "weight"),
            atol=1e-4,
        )
    p, t = _points(5, 4), _triangles(3, 4)
    mine, ours = t.clone().requires_grad_(), t.clone().requires_grad_()
    pull = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    pulled = [(f(p, leaf) * pull).sum() for f, leaf in ((attempt, mine), (_barycentric, ours))]
    same_gradient("barycentric", *pulled, {"triangles": (mine, ours)}, atol=1e-4)
    return "weights agree inside, outside and for both orientations, and so do their gradients"


# The z-buffer -----------------------------------------------------------------------------------


def _rasterize_hard(
    verts: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    fragments = rasterize(verts[None], faces, (height, width))
    return (
        fragments.pix_to_face[0, ..., 0],
        fragments.zbuf[0, ..., 0],
        fragments.bary_coords[0, ..., 0, :],
    )


def _soup(seed: int, vertices: int, faces: int) -> tuple[Tensor, Tensor]:
    """Triangles that overlap and pass through one another, 1.5 to 5 deep."""
    draw = torch.Generator().manual_seed(seed)
    verts = torch.rand(vertices, 3, generator=draw) * 2.2 - 1.1
    verts[:, 2] = torch.rand(vertices, generator=draw) * 3.5 + 1.5
    found = []
    while len(found) < faces:
        face = torch.randperm(vertices, generator=draw)[:3]
        if _area(*verts[face][:, :2]).abs() > 0.15:
            found.append(face)
    return verts, torch.stack(found)


def _compared(got: Tensor, expected: Tensor):
    differs = got != expected
    count = int(expected.max()) + 1
    shown = torch.where((got >= -1) & (got < count), got, -1)
    return gallery(
        [face_colours(expected), face_colours(shown), differs.numpy()],
        ["expected", "yours", "black: different"],
        title="pix_to_face, one colour a triangle",
        cmap="Greys",
    )


@exercise_check(stand_in=_rasterize_hard)
def rasterize_hard(attempt):
    # One triangle in the picture's upper left, counterclockwise for the viewer
    verts = torch.tensor([[0.9, 0.9, 2.0], [0.85, -0.4, 2.0], [-0.4, 0.86, 2.0]])
    face = torch.tensor([[0, 1, 2]])
    what = "rasterize_hard(verts, faces, 8, 8)"
    answer = attempt(verts, face, 8, 8)
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        close(what, answer, _rasterize_hard(verts, face, 8, 8))
    expected = _rasterize_hard(verts, face, 8, 8)
    _shapes_and_empties(what, answer, expected)
    covered = answer[0] >= 0
    wanted = expected[0] >= 0
    if torch.equal(covered, wanted.flip(1)) or torch.equal(covered, wanted.flip(0)):
        raise Wrong(
            "Your picture is mirrored: +x in NDC is the left of the picture and +y its top, as "
            "pixel_centres says. Rows and columns follow from it alone.",
            lambda: _compared(answer[0].detach(), expected[0]),
        )
    _same_fragments("one triangle, 8 by 8", answer, expected)
    turned = attempt(verts, face.flip(1), 8, 8)
    if isinstance(turned[0], Tensor) and bool((turned[0] < 0).all()):
        raise Wrong(
            "A triangle that lists its corners clockwise has disappeared. Here it is to be drawn "
            "as well: no culling of back faces."
        )
    _same_fragments(
        "the same triangle, its corners listed the other way round",
        turned,
        _rasterize_hard(verts, face.flip(1), 8, 8),
    )

    # Two that cover one another wholly, the nearer one second, then first
    square = torch.tensor([[0.9, 0.9], [0.9, -1.83], [-1.77, 0.9]])
    near, far = (torch.cat([square, torch.full((3, 1), z)], 1) for z in (2.0, 3.0))
    for order, words in (((far, near), "second"), ((near, far), "first")):
        both, faces = torch.cat(order), torch.tensor([[0, 1, 2], [3, 4, 5]])
        got, expected = attempt(both, faces, 6, 6), _rasterize_hard(both, faces, 6, 6)
        _shapes_and_empties("rasterize_hard of two triangles", got, expected)
        nearest = 1 if words == "second" else 0
        seen = got[0][expected[0] >= 0]
        if bool((seen == 1 - nearest).all()):
            raise Wrong(
                "Two triangles lie over one another, at depths 2 and 3; you show the one at "
                f"depth 3 (the nearer is listed {words}). The nearer one hides the other, in "
                "whatever order they are listed: compare depths at each pixel.",
                lambda got=got, expected=expected: _compared(got[0].detach(), expected[0]),
            )
        _same_fragments(f"two triangles, the nearer listed {words}", got, expected)

    for seed, vertices, count, size in (
        (0, 9, 6, (14, 14)),
        (1, 12, 10, (9, 16)),
        (2, 8, 7, (15, 8)),
    ):
        verts, faces = _soup(seed, vertices, count)
        label = f"{count} triangles that pass through one another, {size[0]} by {size[1]}"
        got, expected = attempt(verts, faces, *size), _rasterize_hard(verts, faces, *size)
        _shapes_and_empties(f"rasterize_hard of {label}", got, expected)
        _same_fragments(label, got, expected)

    verts, faces = _soup(3, 8, 5)
    pull = torch.randn(10, 10, 3, generator=torch.Generator().manual_seed(0))
    for i, name, weight in ((1, "zbuf", pull[..., 0]), (2, "bary", pull)):
        mine, ours = (verts.clone().requires_grad_() for _ in range(2))
        got, expected = attempt(mine, faces, 10, 10), _rasterize_hard(ours, faces, 10, 10)
        there = expected[0] >= 0
        pulled = [(answer[i] * weight)[there].sum() for answer in (got, expected)]
        same_gradient(f"rasterize_hard's {name}", *pulled, {"verts": (mine, ours)}, atol=1e-3)
    return "triangles, depths and weights are the library's, in square and oblong pictures"


def _shapes_and_empties(what: str, got: object, expected: tuple[Tensor, ...]) -> None:
    if not isinstance(got, tuple | list) or len(got) != 3:
        close(what, got, expected)
    names = ("pix_to_face", "zbuf", "bary")
    for name, one, other in zip(names, got, expected, strict=True):
        if not isinstance(one, Tensor) or one.shape != other.shape:
            close(f"{name} of {what}", one, other)
    if got[0].dtype != torch.int64:
        raise Wrong(f"pix_to_face: expected whole numbers (torch.int64), got {got[0].dtype}.")
    empty = expected[0] < 0
    for name, one in zip(names, got, strict=True):
        if (
            empty.any()
            and bool((got[0] == expected[0]).all())
            and not bool((one[empty] == -1).all())
        ):
            value = float(one[empty][one[empty] != -1].reshape(-1)[0])
            raise Wrong(f"{name} holds {value:g} where no triangle is; expected -1 in all three.")


def _same_fragments(label: str, got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    close(f"pix_to_face of {label}", got[0], expected[0], axes=("row", "column"), picture=_compared)
    close(f"zbuf of {label}", got[1], expected[1], axes=("row", "column"), atol=1e-4)
    close(f"bary of {label}", got[2], expected[2], axes=("row", "column", "weight"), atol=1e-4)


# Coverage ---------------------------------------------------------------------------------------


def _signed(points: Tensor, triangles: Tensor) -> Tensor:
    p, (a, b, c) = points[:, None], triangles.unbind(1)
    squared = torch.stack(
        [squared_distance(p, a, b), squared_distance(p, b, c), squared_distance(p, c, a)]
    ).amin(0)
    inside = (_barycentric(points, triangles) >= 0).all(-1)
    return torch.where(inside, squared, -squared)


def _coverage(points: Tensor, triangles: Tensor, sigma: float) -> Tensor:
    return torch.sigmoid(_signed(points, triangles) / sigma)


def _coverages_compared(triangle: Tensor, attempt, sigma: float):
    centres = pixel_centres(40, 40).reshape(-1, 2)
    maps = [f(centres, triangle, sigma)[:, 0] for f in (_coverage, attempt)]
    maps = [m.detach().reshape(40, 40) for m in maps]
    return ndc_maps(maps, ["expected", "yours"], triangle, vmin=0, vmax=1, bar="coverage")


@exercise_check(stand_in=_coverage)
def coverage(attempt):
    triangle = torch.tensor([[[0.8, -0.6], [-0.8, -0.6], [0.0, 0.8]]])

    def picture(*_):
        return _coverages_compared(triangle, attempt, 0.02)

    points = torch.tensor([[0.0, -0.5], [0.0, -0.7], [0.0, -0.6], [0.1, -0.2], [0.9, 0.9]])
    got, sigma = attempt(points, triangle, 0.02), 0.02
    expected = _coverage(points, triangle, sigma)
    if isinstance(got, Tensor) and got.shape == expected.shape and got.is_floating_point():
        values = got.detach()[:, 0]
        if values[0] < 0.5 < values[1]:
            raise Wrong(
                "Your coverage is below a half inside of the triangle and above outside of it: "
                "the sign is turned round.",
                picture,
            )
        turned = attempt(points, triangle.flip(1), sigma)
        if isinstance(turned, Tensor) and turned.shape == got.shape:
            agree = [torch.allclose(one, expected, atol=1e-4) for one in (got, turned)]
            if agree in ([True, False], [False, True]):
                raise Wrong(
                    "The same triangle with its corners listed the other way round gets another "
                    "coverage. Clockwise or not must not matter: `barycentric` sees to that.",
                )
        if torch.allclose(got, torch.minimum(expected, 1 - expected), atol=1e-4):
            raise Wrong(
                "Your coverage never exceeds a half: inside, the distance counts as positive, so "
                "that deep inside it goes to 1. `barycentric` tells which side a point is on.",
                picture,
            )
        if set(values.unique().tolist()) <= {0.0, 1.0}:
            raise Wrong("Your coverage is 0 or 1 everywhere: that is the hard rasterizer.", picture)
        plain = torch.sigmoid(
            _signed(points, triangle).sign() * _signed(points, triangle).abs().sqrt() / sigma
        )
        if torch.allclose(got, plain, atol=1e-4):
            raise Wrong(
                "You divide the distance by sigma; SoftRas divides the squared distance.", picture
            )
    close(
        "coverage of five points around one triangle, sigma 0.02",
        got,
        expected,
        axes=AXES_PF,
        hint="0.1 inside of an edge: sigmoid(0.1 ** 2 / 0.02) = 0.622; 0.1 outside: 0.378; "
        "on it: 0.5.",
        picture=picture,
    )
    beyond = torch.tensor([[1.2, -0.6], [-1.1, -0.7], [0.0, 1.2], [0.3, 1.0]])
    close(
        "coverage of points beyond the corners, sigma 0.1",
        attempt(beyond, triangle, 0.1),
        _coverage(beyond, triangle, 0.1),
        axes=AXES_PF,
        hint="Beyond a corner the nearest point of the outline is the corner: distances are to the "
        "three segments, not to the lines that carry them.",
        picture=picture,
    )
    for points, faces, sigma, seed in (
        (8, 3, 0.05, 0),
        (3, 7, 0.3, 1),
        (4, 4, 1e-3, 2),
        (1, 2, 1.0, 3),
    ):
        p, t = _points(points, seed), _triangles(faces, seed)
        close(
            f"coverage of {points} points by {faces} triangles, sigma {sigma}",
            attempt(p, t, sigma),
            _coverage(p, t, sigma),
            axes=AXES_PF,
            atol=2e-4 if sigma < 0.01 else 1e-5,
        )
    p, t = _points(6, 5), _triangles(3, 5)
    mine, ours = t.clone().requires_grad_(), t.clone().requires_grad_()
    pull = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    pulled = [(f(p, leaf, 0.1) * pull).sum() for f, leaf in ((attempt, mine), (_coverage, ours))]
    same_gradient("coverage", *pulled, {"triangles": (mine, ours)}, atol=1e-4)
    return "inside, outside and beyond the corners, at four sigmas, gradients included"


# Silhouette -------------------------------------------------------------------------------------


def _silhouette(coverages: Tensor) -> Tensor:
    return 1 - (1 - coverages).prod(-1)


@exercise_check(stand_in=_silhouette)
def silhouette(attempt):
    halves = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.3], [0.2, 0.0]])
    expected = torch.tensor([0.75, 0.0, 1.0, 0.2])
    got = attempt(halves)
    if isinstance(got, Tensor) and got.shape == expected.shape and got.is_floating_point():
        if abs(float(got[0]) - 1) < 1e-6:
            raise Wrong(
                "Two triangles cover a pixel with probability 0.5 each. You say that one of them "
                "surely does (1.0); but both may miss it, with probability 0.5 x 0.5."
            )
        if abs(float(got[0]) - 0.5) < 1e-6:
            raise Wrong(
                "Two triangles cover a pixel with probability 0.5 each; you say 0.5. The second "
                "must raise it: the pixel stays empty only if both miss it, 0.5 x 0.5."
            )
        if abs(float(got[0]) - 0.25) < 1e-6:
            raise Wrong(
                "Two triangles cover a pixel with probability 0.5 each; you say 0.25, which is "
                "both at once (or neither). A silhouette asks for at least one of them."
            )
    close("silhouette of two coverages at four pixels", got, expected, axes=("pixel",))
    draw = torch.Generator().manual_seed(0)
    for shape in ((5, 3), (4, 4), (2, 6, 7, 3), (7,), (3, 1)):
        p = torch.rand(shape, generator=draw)
        names = ("batch", "row", "column") if len(shape) == 4 else ("pixel",) * (len(shape) - 1)
        hint = "The last axis holds the triangles."
        close(f"silhouette of {shape}", attempt(p), _silhouette(p), axes=names, hint=hint)
    p = torch.rand(5, 4, generator=draw) * 0.9
    p[2, 1] = p[3, :2] = 0.0
    mine, ours = p.clone().requires_grad_(), p.clone().requires_grad_()
    pull = torch.randn(5, generator=draw)
    pulled = [(f(leaf) * pull).sum() for f, leaf in ((attempt, mine), (_silhouette, ours))]
    same_gradient("silhouette", *pulled, {"coverages": (mine, ours)})
    return "any number of triangles, any picture, and every triangle gets its gradient"


# Blending ---------------------------------------------------------------------------------------


def _soft_blend(
    coverages: Tensor, nearness: Tensor, colours: Tensor, gamma: float, background: Tensor
) -> Tensor:
    nearest = nearness.detach().amax(-1, keepdim=True).clamp(min=0)
    weights = coverages * torch.exp((nearness - nearest) / gamma)
    rest = torch.exp(-nearest / gamma)
    total = weights.sum(-1, keepdim=True) + rest
    return ((weights[..., None] * colours).sum(-2) + rest * background) / total


def _blend_case(seed: int, *shape: int, channels: int = 3) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    coverages = torch.rand(shape, generator=draw) * 0.95 + 0.02
    nearness = torch.rand(shape, generator=draw) * 0.9 + 0.05
    colours = torch.rand(*shape, channels, generator=draw)
    return coverages, nearness, colours, torch.rand(channels, generator=draw)


@exercise_check(stand_in=_soft_blend)
def soft_blend(attempt):
    colours = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    white = torch.ones(3)
    equal = torch.ones(1, 2)
    what = "soft_blend of red at nearness 0.8 over blue at 0.4, both of coverage 1, gamma 0.4"
    depths = torch.tensor([[0.8, 0.4]])
    got, expected = (f(equal, depths, colours, 0.4, white) for f in (attempt, _soft_blend))
    if isinstance(got, Tensor) and got.shape == expected.shape and bool(got[0, 2] > got[0, 0]):
        raise Wrong(f"{what} is more blue than red: nearness is 1 in front and 0 at the back.")
    close(
        what,
        got,
        expected,
        axes=("pixel", "colour"),
        hint="The weights are exp(2) for red, exp(1) for blue and exp(0) for the white background, "
        "divided by the sum of the three: red is 0.755, green 0.090, blue 0.335.",
    )
    level = torch.full((1, 2), 0.5)
    uneven = torch.tensor([[0.9, 0.3]])
    close(
        "soft_blend of coverages 0.9 and 0.3 at the same nearness 0.5, gamma 0.5",
        attempt(uneven, level, colours, 0.5, white),
        _soft_blend(uneven, level, colours, 0.5, white),
        axes=("pixel", "colour"),
        hint="At equal depth coverages decide: 0.9 e : 0.3 e : 1 for red, blue and the background.",
    )
    close(
        "soft_blend of a pixel with no triangle (coverage 0, nearness 0 in every slot)",
        attempt(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, 3), 0.1, white * 0.7),
        white[None] * 0.7,
        axes=("pixel", "colour"),
        hint="Only the background is left: its colour, whole.",
    )
    sharp = attempt(equal, depths, colours, 1e-4, white)
    if isinstance(sharp, Tensor) and not bool(torch.isfinite(sharp).all()):
        raise Wrong(
            "With gamma 1e-4, the usual value, the result is not finite: exp(0.8 / 1e-4) overflows "
            "and inf / inf is nan. Subtracting the same number from every exponent, the largest "
            "nearness over gamma, changes no weight."
        )
    close(
        "soft_blend with gamma 1e-4, where the nearest takes all",
        sharp,
        torch.tensor([[1.0, 0.0, 0.0]]),
        axes=("pixel", "colour"),
    )
    # Near pixels, far pixels and an empty one in a picture, two triangles nearly level: what goes
    # well by luck where all pixels are alike, or where gamma may as well be 0.
    several = torch.tensor([[0.9, 0.89995], [0.3, 0.30005], [0.0, 0.0]])
    solid = torch.tensor([[1.0, 0.5], [1.0, 1.0], [0.0, 0.0]])
    picture = attempt(solid, several, colours.expand(3, 2, 3), 1e-4, white * 0.7)
    if isinstance(picture, Tensor) and not bool(torch.isfinite(picture).all()):
        raise Wrong(
            "In a picture whose pixels lie at different depths, with gamma 1e-4, the result is not "
            "finite: what you subtract from the exponents must be each pixel's own largest, or "
            "pixels far behind it are left with 0 / 0."
        )
    close(
        "soft_blend of a near, a far and an empty pixel, triangles 0.00005 apart, gamma 1e-4",
        picture,
        _soft_blend(solid, several, colours.expand(3, 2, 3), 1e-4, white * 0.7),
        axes=("pixel", "colour"),
        atol=2e-3,
        hint="At gamma 1e-4 a difference of 0.00005 in nearness is a factor of exp(0.5).",
    )
    for seed, shape, gamma, channels in (
        (0, (6, 4), 0.2, 3),
        (1, (3, 3), 1.0, 3),
        (2, (2, 4, 5, 3), 0.05, 4),
        (3, (4, 1), 0.5, 1),
    ):
        case = _blend_case(seed, *shape, channels=channels)
        close(
            f"soft_blend of coverages {shape} and {channels} channels, gamma {gamma}",
            attempt(*case[:3], gamma, case[3]),
            _soft_blend(*case[:3], gamma, case[3]),
            hint="The last axis of coverages and nearness, and the last but one of colours, is K.",
        )
    case = _blend_case(5, 5, 3)
    mine, ours = ([t.clone().requires_grad_() for t in case[:3]] for _ in range(2))
    got, expected = (f(*t, 0.3, case[3]) for f, t in ((attempt, mine), (_soft_blend, ours)))
    pull = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    names = ("coverages", "nearness", "colours")
    pairs = dict(zip(names, zip(mine, ours, strict=True), strict=True))
    same_gradient("soft_blend", (got * pull).sum(), (expected * pull).sum(), pairs)
    return "near beats far, coverage counts, the background has its share, and gamma 1e-4 is safe"
