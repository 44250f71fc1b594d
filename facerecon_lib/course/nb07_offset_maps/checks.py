"""Checks of notebook 07: reading maps at the vertices, hidden vertices, adding, depth weights."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...augmented.map_sampling import sample_bilinear, sample_hyperbolic
from ...face.coefficients import FaceCoefficients
from ...face.lighting import shade
from ...pictures.sheets import gallery
from ...rendering.synthesis import Face, pose_and_light
from ..checks import exercise_check
from ..compare import Wrong, agree, close, normal, same_gradients, same_length, seeded, uniform

AXES = ("face", "vertex", "channel")


# Bilinear ---------------------------------------------------------------------------------------


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


def _opposite(points: Tensor) -> Tensor:
    """Each point mirrored within its square of four centres."""
    low = (points - 0.5).floor()
    return low + 0.5 + (1 - (points - 0.5 - low))


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
        "Beyond the outermost centres that fades to zero; the border's value has to hold there.": (
            grid(padding_mode="zeros")
        ),
        "The weights have changed places: the nearer texel counts more.": at(_opposite),
        "The first and the last texel's centres are taken for the edges there (align_corners).": (
            grid(align_corners=True)
        ),
    },
)
def read_bilinear(attempt):
    probe = normal(2, 2, 4, 6, seed=7), uniform(2, 15, 2, seed=8) * torch.tensor([6.0, 4.0])

    def judged(what, maps, points, **options):
        try:
            agree(what, attempt, maps, points, axes=AXES, **options)
        except Wrong:
            attempt(*probe)  # one reading alone could be several mistakes
            raise

    # By hand, in a map of two rows and three columns: shape first, then values.
    small = torch.tensor([[[[1.0, 2.0, 6.0], [4.0, 8.0, 0.0]]]])
    border = "The border's value holds there, beyond the outermost centres."
    for place, hint in {
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
        what = f"the reading at x = {place[0]}, y = {place[1]} of [[1, 2, 6], [4, 8, 0]]"
        judged(what, small, torch.tensor([[place]]), hint=hint)
    for batch, channels, height, width, vertices, seed in (
        (2, 3, 5, 8, 40, 1),
        (3, 1, 9, 4, 25, 2),
        (1, 6, 6, 6, 30, 3),
        (4, 2, 2, 7, 1, 4),
    ):
        maps = normal(batch, channels, height, width, seed=seed)
        size = torch.tensor([float(width), float(height)])
        inside = 0.5 + uniform(batch, vertices, 2, seed=seed + 10) * (size - 1)
        beyond = (uniform(batch, vertices, 2, seed=seed + 20) * 2 - 0.5) * size
        shape = f"{batch} maps of {height} by {width} and {channels} channels"
        judged(f"{vertices} readings inside {shape}", maps, inside, picture=_places(maps, inside))
        judged(f"{vertices} readings inside and outside of {shape}", maps, beyond)
        inputs = {"the maps": maps, "the points": beyond}
        same_gradients("read_bilinear", attempt, inputs, atol=1e-4)
    maps, points = normal(2, 3, 4, 6, seed=5).double(), uniform(2, 9, 2, seed=6).double() * 6
    agree("readings in float64", attempt, maps, points, atol=1e-10, rtol=1e-9)
    return "by hand, beyond the border, four batches, and gradients to maps and points"


def _places(maps: Tensor, points: Tensor) -> Callable[[Tensor, Tensor], Figure]:
    """A picture of the first map, and of what was read of it where."""

    def draw(got: Tensor, expected: Tensor) -> Figure:
        figure = Figure((8.6, 3.0), layout="constrained", facecolor="white")
        limit = float(maps[0, 0].abs().max())
        extent = (0, maps.shape[3], maps.shape[2], 0)
        colours = dict(cmap="viridis", vmin=-limit, vmax=limit)
        for axis, (name, values) in zip(
            figure.subplots(1, 2), {"expected": expected, "yours": got}.items(), strict=True
        ):
            texels = maps[0, 0].detach().numpy()
            axis.imshow(texels, extent=extent, interpolation="nearest", **colours)
            x, y = points[0].unbind(-1)
            dots = dict(c=values[0, :, 0].numpy(), edgecolors="white", s=60)
            drawn = axis.scatter(x.numpy(), y.numpy(), **dots, **colours)
            axis.set(title=f"first map, and what {name} reads at the dots", xlabel="x", ylabel="y")
        figure.colorbar(drawn, ax=figure.axes, label="value")
        return figure

    return draw


# Hidden vertices --------------------------------------------------------------------------------


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
        "The red of the colours is negated there as well: only displacement has a direction.": (
            filled((-1.0, 1, 1, -1, 1, 1))
        ),
        "Red is negated there, but x of the displacement is channel 3.": filled(
            (-1.0, 1, 1, 1, 1, 1)
        ),
        "All of the displacement is negated there; up is up on both sides.": filled(
            (1.0, 1, 1, -1, -1, -1)
        ),
        "A vertex whose mirror vertex is hidden too took its reading there, though that one cannot "
        "see the map either: it gets 0.": filled(other=lambda seen, twin: 1 - seen),
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
)
def fill_hidden(attempt):
    # Four vertices: 0 and 1 mirror each other, so do 2 and 3.
    mirror = torch.tensor([1, 0, 3, 2])
    values = torch.arange(1.0, 25).reshape(1, 4, 6)
    for seen, hint in {
        (1.0, 1, 1, 1): "All are seen: everyone keeps its own reading.",
        (1.0, 0, 1, 1): "Vertex 1 is hidden and vertex 0 seen: 1 takes 0's, x negated.",
        (0.0, 1, 0, 0): "Of 2 and 3 neither is seen: both get 0.",
        (0.0, 0, 0, 0): "Nobody is seen: all zero.",
    }.items():
        what = f"fill_hidden with seen = {[int(s) for s in seen]} and mirror = [1, 0, 3, 2]"
        agree(what, attempt, values, torch.tensor([seen]), mirror, axes=AXES, hint=hint)
    for batch, vertices, seed in ((3, 11, 1), (1, 20, 2), (5, 7, 3)):
        order = torch.randperm(vertices, generator=seeded(seed))
        mirror = torch.arange(vertices)  # pairs, and one or more on the middle line
        for i in range(0, vertices - 2, 2):
            mirror[order[[i, i + 1]]] = order[[i + 1, i]]
        seen = (uniform(batch, vertices, seed=seed + 10) < 0.55).float()
        offsets = normal(batch, vertices, 6, seed=seed + 20)
        hint = "Each face has its own seen vertices; one on the middle line is its own mirror."
        options = dict(axes=AXES, hint=hint)
        agree(f"{batch} faces of {vertices} vertices", attempt, offsets, seen, mirror, **options)
        lost = offsets.clone()
        lost[seen == 0] = torch.randn(int((seen == 0).sum()), 6) * 50  # what nobody may read
        what = "the same with other readings at hidden vertices"
        agree(what, attempt, lost, seen, mirror, **options)
        same_gradients("fill_hidden", attempt, {"offsets": offsets}, seen, mirror)
    return "own, borrowed and missing readings, and gradients to the readings"


# Adding -----------------------------------------------------------------------------------------


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


def _case(batch: int, seed: int, turned: float = 1.0) -> tuple[Face, FaceCoefficients]:
    """Small bumpy sheets, posed and lit: no face, but all that one has."""
    rows, columns = 4, 5
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    flat = torch.stack([20.0 * x, 20.0 * y, 0.0 * x], -1).reshape(1, -1, 3)
    vertices = flat + 5 * normal(batch, rows * columns, 3, seed=seed)
    corner = (columns * y + x)[:-1, :-1].reshape(-1)
    one = torch.stack([corner, corner + 1, corner + columns], 1)
    two = torch.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    c = FaceCoefficients.mean(batch, 1, 1, 1)
    c.rotation = turned * 0.6 * normal(batch, 3, seed=seed + 1)
    c.scale = 1 + turned * 0.2 * uniform(batch, 1, seed=seed + 2)
    c.translation = c.translation + 10 * turned * normal(batch, 3, seed=seed + 3)
    c.lighting = c.lighting + 0.4 * normal(batch, 9, 3, seed=seed + 4)
    albedo = uniform(batch, rows * columns, 3, seed=seed + 5)
    return pose_and_light(SimpleNamespace(faces=torch.cat([one, two])), vertices, albedo, c), c


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
        "No clamp: it cuts the gradient.": added(
            paint=lambda face, t: (face.albedo + t).clamp(0, 1)
        ),
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
)
def add_offsets(attempt):
    for case in ((2, 10, 1.0), (1, 20, 0.0), (3, 30, 1.0)):
        face, _ = _case(*case)
        nothing, seed = torch.zeros(face.vertices.shape), case[1]
        texture, moved = (s * normal(*nothing.shape, seed=seed + i) for s, i in ((0.2, 6), (6, 7)))
        frame = "It is added in the model frame; then pose."
        for words, offsets, hint in (
            ("offsets of zero", (nothing, nothing), "This is the base face, posed and lit."),
            ("a texture offset alone", (texture, nothing), "It is added to the albedo."),
            ("a displacement alone", (nothing, moved), frame),
        ):
            # a new case for each call: students may change it
            got, expected = (f(*_case(*case), *offsets) for f in (attempt, added()))
            same_length("add_offsets", got, expected)
            options = dict(axes=AXES, hint=hint)
            close(f"v_camera with {words}", got[0], expected[0], atol=1e-2, **options)
            options |= dict(picture=partial(_three_sheets, face.colours))
            close(f"colours with {words}", got[1], expected[1], atol=1e-4, **options)
        inputs = {"texture": texture, "displacement": moved}
        for i, name in enumerate(("v_camera", "colours")):
            options = dict(call=partial(_part_on_case, i, case), atol=1e-4)
            same_gradients(f"{name} of add_offsets", attempt, inputs, **options)
    return "each offset alone, in any pose, and gradients to both"


def _part_on_case(i: int, case: tuple, function: Callable, *offsets: Tensor) -> Tensor:
    return function(*_case(*case), *offsets)[i]


def _three_sheets(before: Tensor, got: Tensor, expected: Tensor) -> Figure:
    """The first face's colours: before the displacement, expected after it, yours."""
    sheets = [c[0].reshape(4, 5, 3).clamp(0, 1).numpy() for c in (before, expected, got)]
    return gallery(sheets, ["before the displacement", "expected", "yours"], title="Colours")


# Hyperbolic -------------------------------------------------------------------------------------


@exercise_check(
    stand_in=sample_hyperbolic,
    mistakes={
        "That is the bilinear reading: the depth has no say in it.": lambda maps, p, depth: (
            sample_bilinear(maps, p)
        ),
        "The denominator is missing: divide by the reading of 1 / depth.": lambda maps, p, depth: (
            sample_bilinear(maps / depth, p)
        ),
        "The depth multiplies there; a far texel has to count less, so divide by it.": (
            lambda maps, p, depth: sample_hyperbolic(maps, p, 1 / depth)
        ),
        "That divides by 1 / (depth read bilinearly), but the mean of 1 / depth is another number "
        "than 1 over the mean of depth.": lambda maps, p, depth: (
            sample_bilinear(maps / depth, p) * sample_bilinear(depth, p)
        ),
        "The denominator is upside down: divide by the reading of 1 / depth.": (
            lambda maps, p, depth: sample_bilinear(maps / depth, p) * sample_bilinear(1 / depth, p)
        ),
        "The absolute value of the depth is taken there: the formula has its sign, and that is "
        "what this section is about.": lambda maps, p, depth: sample_hyperbolic(
            maps, p, depth.abs()
        ),
    },
)
def read_hyperbolic(attempt):
    two, depth = torch.tensor([[[[3.0, 9.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
    middle, signs = torch.tensor([[[1.0, 0.5]]]), torch.tensor([1.0, -1.0])
    half = "Half way: (3/1 + 9/2) / (1/1 + 1/2), since both halves cancel."
    signed = "Half way: (3/1 - 9/2) / (1/1 - 1/2). Keep the sign of the depth."
    for what, depths, hint in (
        ("the reading between 3 at depth 1 and 9 at depth 2", depth, half),
        ("the same in another unit of depth", depth * 1e-3, "The unit cancels."),
        ("the reading between 3 at depth 1 and 9 at depth -2", depth * signs, signed),
    ):
        agree(what, attempt, two, middle, depths, axes=AXES, hint=hint)
    cases = (2, 3, 5, 8, 30, 1), (3, 6, 7, 4, 20, 2), (1, 1, 6, 6, 25, 3)
    for batch, channels, height, width, vertices, seed in cases:
        maps = normal(batch, channels, height, width, seed=seed)
        size = torch.tensor([float(width), float(height)])
        points = (uniform(batch, vertices, 2, seed=seed + 10) * 1.2 - 0.1) * size
        depth = 0.5 + 2 * uniform(batch, 1, height, width, seed=seed + 20)
        shape = f"{vertices} readings of {batch} maps of {height} by {width}, {channels} channels"
        agree(shape, attempt, maps, points, depth, axes=AXES)
        agree(f"{shape}, all depths negative", attempt, maps, points, -depth, axes=AXES)
        flat = torch.full_like(depth, 340.0)
        agree(f"{shape}, all at one depth", attempt, maps, points, flat, hint="This is bilinear.")
        inputs = {"the maps": maps, "the points": points, "the depth": depth}
        same_gradients("read_hyperbolic", attempt, inputs, atol=1e-4)
    return "by hand, with either sign, and gradients to maps, points and depth"
