"""Checks of notebook 07: reading maps at the vertices, hidden vertices, adding, depth weights."""

from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.spatial import Delaunay
from torch import Tensor

from ...augmented.map_sampling import sample_bilinear, sample_hyperbolic
from ...face.coefficients import FaceCoefficients
from ...face.lighting import shade
from ...pictures.sheets import gallery
from ...rendering.synthesis import Face, pose_and_light
from ..checks import exercise_check
from ..compare import normal, seeded, strided, uniform

AXES = ("face", "vertex", "channel")


def grid(size=lambda maps: (maps.shape[3], maps.shape[2]), **ways):
    """Readings by `grid_sample`, with other settings."""
    ways = {"padding_mode": "border", "align_corners": False} | ways

    def read(maps, points):
        places = 2 * points / points.new_tensor(size(maps)) - 1
        return F.grid_sample(maps, places[:, None], **ways)[:, :, 0].transpose(1, 2)

    return read


def at(place):
    """Readings at other places than the points."""
    return lambda maps, points: sample_bilinear(maps, place(points))


@exercise_check(
    stand_in=sample_bilinear,
    mistakes={
        "That reads half a texel beside the place, on both axes: texel i's centre is at i + 0.5, "
        "so take 0.5 off before you round down.": at(lambda points: points + 0.5),
        "Half a texel is added there; it has to be taken off.": at(lambda points: points + 1.0),
        "x and y have changed places: x counts columns, the map's last axis.": at(
            lambda points: points.flip(-1)
        ),
        "That is the nearest texel alone; take the four around the point.": grid(mode="nearest"),
        "Beyond the outermost centres that fades to zero; the border's value has to hold "
        "there.": grid(padding_mode="zeros"),
        "The weights have changed places: the nearer texel counts more.": at(
            lambda points: 2 * (points - 0.5).floor() + 2 - points  # mirrored between four centres
        ),
        "The first and the last texel's centres are taken for the edges there "
        "(align_corners).": grid(align_corners=True),
    },
    axes=AXES,
)
def read_bilinear(attempt):
    # one reading alone could be several mistakes: these tell them apart
    points = uniform(2, 15, 2, seed=8) * torch.tensor([6.0, 4.0])
    attempt.trial("readings of two maps of 4 by 6")(normal(2, 2, 4, 6, seed=7), points)
    small = torch.tensor([[[[1.0, 2.0, 6.0], [4.0, 8.0, 0.0]]]])
    border = "The border's value holds there, beyond the outermost centres."
    for (x, y), hint in {
        (0.5, 0.5): "(0.5, 0.5) is the centre of the first texel, so nothing else counts.",
        (1.0, 0.5): "(1.0, 0.5) is half way between 1 and 2.",
        (1.0, 1.0): "(1, 1) is where four texels meet: the mean of 1, 2, 4 and 8.",
        (0.75, 1.25): "The weights there are 3/16, 1/16, 9/16 and 3/16.",
        (2.0, 0.5): "x = 2.0 is half way between the second and the third column.",
        (-3.0, 0.5): border,
        (0.2, 0.1): border,
        (2.9, 1.5): border,
        (9.0, 9.0): border,
        (1.5, 7.0): border,
    }.items():
        what = f"the reading at x = {x}, y = {y} of [[1, 2, 6], [4, 8, 0]]"
        attempt.case(what, (small, torch.tensor([[[x, y]]])), hint)
    for seed, (*shape, count) in enumerate(
        ((2, 3, 5, 8, 40), (3, 1, 9, 4, 25), (1, 6, 6, 6, 30), (4, 2, 2, 7, 1)), start=1
    ):
        batch, channels, height, width = shape
        maps, size = normal(*shape, seed=seed), torch.tensor([float(width), float(height)])
        inside = 0.5 + uniform(batch, count, 2, seed=seed + 10) * (size - 1)
        beyond = (uniform(batch, count, 2, seed=seed + 20) * 2 - 0.5) * size
        words = f"{batch} maps of {height} by {width} and {channels} channels"
        picture = partial(_places, maps[0, 0], inside[0])
        attempt.case(f"{count} readings inside {words}", (maps, inside), picture=picture)
        attempt.case(f"{count} readings inside and outside of {words}", (maps, beyond))
        inputs = {"the maps": maps, "the points": beyond}
        attempt.gradients("read_bilinear", inputs, atol=1e-4)
    maps, points = normal(2, 3, 4, 6, seed=5), 6 * uniform(2, 9, 2, seed=6)
    crop, vertices = normal(1, 3, 224, 224, seed=9), 300 * uniform(1, 200, 2, seed=9) - 40
    attempt.case("readings of maps of 224 by 224, as of a crop", (crop, vertices), atol=1e-4)
    for words, *inputs in (
        ("far outside", maps, 1e4 * (points - 3)),
        ("at the same places of other maps", normal(2, 3, 4, 6, seed=10), points),
        ("of a row of texels", maps[:, :, :1], points),
        ("of a column of texels", maps[..., :1], points),
        ("of a single texel", maps[..., :1, :1], points),
        ("of maps that are not contiguous", *strided(maps, points)),
    ):
        attempt.case(f"readings {words}", tuple(inputs))
    attempt.case("readings in float64", (maps.double(), points.double()), atol=1e-10, rtol=1e-9)
    centres = (points - 0.5).round() + 0.5
    attempt.case("readings at the centres of texels", (maps, centres))
    inputs = {"the maps": maps, "the points": centres}  # there the points have several slopes
    attempt.gradients("read_bilinear at the centres of texels", inputs, atol=50)
    return "by hand, beyond the border, four batches, and gradients to maps and points"


def _places(texels: Tensor, points: Tensor, got: Tensor, expected: Tensor) -> Figure:
    """The first map, and what was read of it where."""
    figure = Figure((8.6, 3.0), layout="constrained", facecolor="white")
    limit, (height, width) = float(texels.abs().max()), texels.shape
    colours = dict(cmap="viridis", vmin=-limit, vmax=limit)
    axes = figure.subplots(1, 2)
    for axis, name, values in zip(axes, ("expected", "yours"), (expected, got), strict=True):
        axis.imshow(texels, extent=(0, width, height, 0), interpolation="nearest", **colours)
        dots = axis.scatter(*points.T, c=values[0, :, 0], edgecolors="white", s=60, **colours)
        axis.set(title=f"first map, and what {name} reads at the dots", xlabel="x", ylabel="y")
    figure.colorbar(dots, ax=axes, label="value")
    return figure


def filled(
    signs=(1.0, 1.0, 1.0, -1.0, 1.0, 1.0),
    own=lambda seen, twin: seen,
    other=lambda seen, twin: (1 - seen) * twin,
):
    """As `offsets.sample_offsets`, without its blend along the border.

    signs: of a mirror vertex' reading. own, other: how much a vertex' own reading and its mirror
    vertex' count, where it is seen and where that one is.
    """

    def fill_hidden(offsets, seen, mirror):
        seen = seen[..., None]
        twin = seen[:, mirror]
        flipped = offsets.new_tensor(signs) * offsets[:, mirror]
        return own(seen, twin) * offsets + other(seen, twin) * flipped

    return fill_hidden


@exercise_check(
    stand_in=filled(),
    mistakes={
        "x of the displacement is not negated there: what moves to the right on one side moves to "
        "the left on the other.": filled((1.0, 1, 1, 1, 1, 1)),
        "The red of the colours is negated there as well: only displacement has a "
        "direction.": filled((-1.0, 1, 1, -1, 1, 1)),
        "Red is negated there, but x of the displacement is channel 3.": filled(
            (-1.0, 1, 1, 1, 1, 1)
        ),
        "All of the displacement is negated there; up is up on both sides.": filled(
            (1.0, 1, 1, -1, -1, -1)
        ),
        "A vertex whose mirror vertex is hidden too took its reading there, though that one "
        "cannot see the map either: it gets 0.": filled(other=lambda seen, twin: 1 - seen),
        "Hidden vertices keep what they have read there.": lambda offsets, seen, mirror: offsets,
        "Hidden vertices get nothing there; where the mirror vertex is seen they take its "
        "reading.": filled(other=lambda seen, twin: 0),
        "Where both are seen, each keeps its own reading: nothing is added.": filled(
            other=lambda seen, twin: twin
        ),
        "Where both are seen, each keeps its own reading: no mean.": filled(
            own=lambda seen, twin: seen / (seen + twin).clamp(min=1),
            other=lambda seen, twin: twin / (seen + twin).clamp(min=1),
        ),
        "Seen and hidden have changed places.": (
            filled(own=lambda s, twin: 1 - s, other=lambda s, twin: s * (1 - twin)),
            filled(own=lambda s, twin: 1 - s, other=lambda s, twin: s),
        ),
    },
    axes=AXES,
)
def fill_hidden(attempt):
    mirror = torch.tensor([1, 0, 3, 2])
    values = torch.arange(1.0, 25).reshape(1, 4, 6)
    for seen, hint in {
        (1, 1, 1, 1): "All are seen: everyone keeps its own reading.",
        (1, 0, 1, 1): "Vertex 1 is hidden and vertex 0 seen: 1 takes 0's, x negated.",
        (0, 1, 0, 0): "Of 2 and 3 neither is seen: both get 0.",
        (0, 0, 0, 0): "Nobody is seen: all zero.",
    }.items():
        what = f"fill_hidden with seen = {list(seen)} and mirror = [1, 0, 3, 2]"
        attempt.case(what, (values, torch.tensor([seen]).float(), mirror), hint)
    hint = "Each face has its own seen vertices; one on the middle line is its own mirror."
    for batch, count, seed in ((3, 11, 1), (1, 20, 2), (5, 7, 3)):
        order = torch.randperm(count, generator=seeded(seed))
        mirror = torch.arange(count)  # pairs, and one or more on the middle line
        for i in range(0, count - 2, 2):
            mirror[order[[i, i + 1]]] = order[[i + 1, i]]
        seen = (uniform(batch, count, seed=seed + 10) < 0.55).float()
        offsets = normal(batch, count, 6, seed=seed + 20)
        attempt.case(f"{batch} faces of {count} vertices", (offsets, seen, mirror), hint)
        other = offsets + 50 * (1 - seen[..., None]) * normal(batch, count, 6, seed=seed + 30)
        what = "the same with other readings at hidden vertices"
        attempt.case(what, (other, seen, mirror), hint)
        attempt.gradients("fill_hidden", {"offsets": offsets}, seen, mirror)
    other = torch.tensor([3, 5, 2, 0, 4, 1, 6])
    for words, *inputs in (
        ("with another mirror", offsets, seen, other),
        ("with others seen", offsets, 1 - seen, other),
        ("with other readings", offsets + 1, 1 - seen, other),
        ("all seen", offsets, torch.ones_like(seen), other),
        ("all hidden", offsets, torch.zeros_like(seen), other),
        ("all on the middle line", offsets, seen, torch.arange(count)),
        ("not contiguous", *strided(offsets, seen), other),
        ("in float64", offsets.double(), seen.double(), other),
    ):
        attempt.case(f"{batch} faces of {count} vertices, {words}", tuple(inputs), hint)
    return "own, borrowed and missing readings, and gradients to the readings"


def added(
    move=lambda face, displacement: face.vertices + displacement,
    paint=lambda face, texture: face.albedo + texture,
    finish=lambda posed, face, c, texture, displacement: (posed.v_camera, posed.colours),
):
    """As `augmented.branch.augment`; each part can be exchanged for a mistake."""

    def add_offsets(face, coefficients, texture, displacement):
        vertices, albedo = move(face, displacement), paint(face, texture)
        posed = pose_and_light(face.model, vertices, albedo, coefficients)
        return finish(posed, face, coefficients, texture, displacement)

    return add_offsets


def _case(
    batch: int, seed: int, turned: float, dtype: torch.dtype = torch.float32
) -> tuple[Face, FaceCoefficients]:
    """Small bumpy sheets, posed and lit: no face, but all that one has."""
    y, x = torch.cartesian_prod(torch.arange(4), torch.arange(5)).T
    flat = torch.stack([20.0 * x, 20.0 * y, 0.0 * x], -1)
    vertices = flat + 5 * normal(batch, len(flat), 3, seed=seed)
    faces = torch.tensor(Delaunay(flat[:, :2]).simplices).long()
    c = FaceCoefficients.mean(batch, 1, 1, 1)
    c.rotation = turned * 0.6 * normal(batch, 3, seed=seed + 1)
    c.scale = 1 + turned * 0.2 * uniform(batch, 1, seed=seed + 2)
    c.translation = c.translation + 10 * turned * normal(batch, 3, seed=seed + 3)
    c.lighting = c.lighting + 0.4 * normal(batch, 9, 3, seed=seed + 4)
    albedo = uniform(batch, len(flat), 3, seed=seed + 5)
    vertices, albedo, c = vertices.to(dtype), albedo.to(dtype), c.map(lambda x: x.to(dtype))
    return pose_and_light(SimpleNamespace(faces=faces), vertices, albedo, c), c


@exercise_check(
    stand_in=added(),
    mistakes={
        "The offset is added to the lit colours there. It belongs to the skin: add it to the "
        "albedo, and light that.": added(
            paint=lambda face, t: face.albedo,
            finish=lambda posed, face, c, t, d: (posed.v_camera, posed.colours + t),
        ),
        "A texture offset is added to the albedo, before the light falls on it.": added(
            paint=lambda face, t: face.albedo
        ),
        "No clamp: it cuts the gradient.": added(paint=lambda f, t: (f.albedo + t).clamp(0, 1)),
        "The displacement is added after pose there, in the camera's axes: x points the other way "
        "and z into the picture. Add it to face.vertices first.": added(
            move=lambda face, d: face.vertices,
            finish=lambda posed, face, c, t, d: (posed.v_camera + d, posed.colours),
        ),
        "The vertices have not moved.": added(move=lambda face, d: face.vertices),
        "The surface has moved, so its normals have to be computed again.": added(
            finish=lambda posed, face, c, t, d: (
                posed.v_camera,
                shade(posed.albedo, face.normals, c.lighting),
            )
        ),
    },
    axes=AXES,
    parts={"v_camera": dict(atol=1e-2, picture=None), "colours": dict(atol=1e-4)},
)
def add_offsets(attempt):
    for case in (
        (2, 10, 1.0),
        (1, 20, 0.0),
        (3, 30, 1.0),
        (2, 40, 0.7),
        (1, 50, 1.0, torch.float64),
    ):
        face, _ = _case(*case)
        nothing, seed = torch.zeros_like(face.vertices), case[1]
        texture, moved = (
            strided(size * normal(*nothing.shape, seed=seed + i))[0].to(nothing)
            for size, i in ((0.2, 6), (6, 7))
        )
        frame = "It is added in the model frame; then pose."
        for words, offsets, hint in (
            ("offsets of zero", (nothing, nothing), "This is the base face, posed and lit."),
            ("a texture offset alone", (texture, nothing), "It is added to the albedo."),
            ("a displacement alone", (nothing, moved), frame),
        ):
            what, picture = f"add_offsets with {words}", partial(_three_sheets, face.colours)
            attempt.case(what, (*_case(*case), *offsets), hint, picture=picture)
        for words, offsets in {"": (texture, moved), " at offsets of zero": (nothing,) * 2}.items():
            inputs = dict(zip(("texture", "displacement"), offsets, strict=True))
            for i, name in enumerate(("v_camera", "colours")):
                call = partial(_part_on_case, i, case)
                attempt.gradients(f"{name} of add_offsets{words}", inputs, call=call, atol=1e-4)
    return "each offset alone, in any pose, and gradients to both"


def _part_on_case(i: int, case: tuple, function, *offsets: Tensor) -> Tensor:
    return function(*_case(*case), *offsets)[i]


def _three_sheets(before: Tensor, got: Tensor, expected: Tensor) -> Figure:
    """The first face's colours: before the displacement, expected after it, yours."""
    sheets = [c[0].reshape(4, 5, 3).clamp(0, 1).numpy() for c in (before, expected, got)]
    return gallery(sheets, ["before the displacement", "expected", "yours"], title="Colours")


@exercise_check(
    stand_in=sample_hyperbolic,
    mistakes={
        "That is the bilinear reading: the depth has no say in it.": lambda maps, p, depth: (
            sample_bilinear(maps, p)
        ),
        "The denominator is missing: divide by the reading of 1 / depth.": lambda maps, p, depth: (
            sample_bilinear(maps / depth, p)
        ),
        "The depth multiplies there; a far texel has to count less, so divide by "
        "it.": lambda maps, p, depth: sample_hyperbolic(maps, p, 1 / depth),
        "That divides by 1 / (depth read bilinearly), but the mean of 1 / depth is another number "
        "than 1 over the mean of "
        "depth.": lambda m, p, d: sample_bilinear(m / d, p) * sample_bilinear(d, p),
        "The denominator is upside down: divide by the reading of 1 / depth.": lambda m, p, d: (
            sample_bilinear(m / d, p) * sample_bilinear(1 / d, p)
        ),
        "The absolute value of the depth is taken there: the formula has its sign, and that is "
        "what this section is about.": lambda m, p, d: sample_hyperbolic(m, p, d.abs()),
    },
    axes=AXES,
)
def read_hyperbolic(attempt):
    two, depth = torch.tensor([[[[3.0, 9.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
    middle = torch.tensor([[[1.0, 0.5]]])
    hint = "Half way: (3/1 + 9/2) / (1/1 + 1/2), since both halves cancel."
    attempt.case("the reading between 3 at depth 1 and 9 at depth 2", (two, middle, depth), hint)
    what = "the same in another unit of depth"
    attempt.case(what, (two, middle, depth / 1e3), "The unit cancels.")
    hint = "Half way: (3/1 - 9/2) / (1/1 - 1/2). Keep the sign of the depth."
    what, signs = "the reading between 3 at depth 1 and 9 at depth -2", torch.tensor([1.0, -1.0])
    attempt.case(what, (two, middle, depth * signs), hint)
    for seed, (*shape, count) in enumerate(
        ((2, 3, 5, 8, 30), (3, 6, 7, 4, 20), (1, 1, 6, 6, 25)), start=1
    ):
        batch, channels, height, width = shape
        maps, size = normal(*shape, seed=seed), torch.tensor([float(width), float(height)])
        points = (uniform(batch, count, 2, seed=seed + 10) * 1.2 - 0.1) * size
        depth = 0.5 + 2 * uniform(batch, 1, height, width, seed=seed + 20)
        words = f"{count} readings of {batch} maps of {height} by {width}, {channels} channels"
        attempt.case(words, (maps, points, depth))
        attempt.case(f"{words}, all depths negative", (maps, points, -depth))
        flat = torch.full_like(depth, 340.0)
        attempt.case(f"{words}, all at one depth", (maps, points, flat), "This is bilinear.")
        inputs = {"the maps": maps, "the points": points, "the depth": depth}
        attempt.gradients("read_hyperbolic", inputs, atol=1e-4)
    # Single texels of negative depth, so far away that no denominator comes near 0.
    mixed = torch.where(torch.arange(36).reshape(6, 6) % 7 == 3, -9.0, depth)
    between = torch.cartesian_prod(torch.arange(1.0, 6), torch.arange(1.0, 6))[None]
    between = between + 0.3 * (uniform(1, 25, 2, seed=30) - 0.5)
    near = 340 + 150 * uniform(1, 1, 6, 6, seed=31)  # mm
    for words, *inputs in (
        ("at depths of a face in mm", maps, points, near),
        ("at the same depths in km", maps, points, near / 1e6),
        ("at the same depths in µm", maps, points, near * 1e3),
        ("at depths of a depth buffer", maps, points, 0.96 + 0.04 * depth / 2.5),
        ("at depths of both signs", maps, between, mixed),
        ("of other maps at depths of both signs", maps + 1, between, mixed),
        ("of a row of texels", maps[:, :, :1], points, depth[:, :, :1]),
        ("of a single texel", maps[..., :1, :1], points, depth[..., :1, :1]),
        ("that are not contiguous", *strided(maps, points, depth)),
        ("in float64", maps.double(), points.double(), depth.double()),
    ):
        attempt.case(f"readings {words}", tuple(inputs))
    inputs = {"the maps": maps, "the points": between, "the depth": mixed}
    attempt.gradients("read_hyperbolic at depths of both signs", inputs, atol=1e-4)
    inputs |= {"the depth": torch.full_like(mixed, 340.0)}
    attempt.gradients("read_hyperbolic at one depth", inputs, atol=1e-4)
    return "by hand, with either sign, and gradients to maps, points and depth"
