"""Checks of notebook 07: reading maps at the vertices, hidden vertices, adding, depth weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...augmented.map_sampling import sample_bilinear, sample_hyperbolic
from ...face.coefficients import FaceCoefficients
from ...rendering.synthesis import Face, pose_and_light
from ..checks import exercise_check
from ..compare import Wrong, close, same_gradient

AXES = ("face", "vertex", "channel")


def _uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _recognised(
    got: object, expected: Tensor, mistakes: Mapping[str, Callable[[], Tensor]]
) -> str | None:
    """The words for the mistake that gives just this, if one does and if it is one here."""
    if not isinstance(got, Tensor):
        return None
    for words, mistake in mistakes.items():
        other = mistake()
        alike = other.shape == got.shape and torch.allclose(got, other, 1e-3, 1e-4)
        if alike and (other.shape != expected.shape or not torch.allclose(other, expected, 1e-3)):
            return words
    return None


# Bilinear ---------------------------------------------------------------------------------------


def read_bilinear_stand_in(maps, points):
    """As `map_sampling.sample_bilinear`."""
    return sample_bilinear(maps, points)


def _grid(maps: Tensor, grid: Tensor, **ways) -> Tensor:
    ways = {"mode": "bilinear", "padding_mode": "border", "align_corners": False} | ways
    return F.grid_sample(maps, grid[:, None], **ways)[:, :, 0].transpose(1, 2)


def _bilinear_mistakes(maps: Tensor, points: Tensor) -> dict[str, Callable[[], Tensor]]:
    size = torch.tensor([maps.shape[3], maps.shape[2]], dtype=points.dtype)
    return {
        "That reads half a texel beside the place, on both axes: texel i's centre is at i + 0.5, "
        "so take 0.5 off before you round down.": lambda: sample_bilinear(maps, points + 0.5),
        "Half a texel is added there; it has to be taken off.": lambda: sample_bilinear(
            maps, points + 1.0
        ),
        "x and y have changed places: x counts columns, the map's last axis.": lambda: (
            sample_bilinear(maps, points.flip(-1))
        ),
        "That is the nearest texel alone; take the four around the point.": lambda: _grid(
            maps, 2 * points / size - 1, mode="nearest"
        ),
        "Beyond the outermost centres that fades to zero; the border's value has to hold there.": (
            lambda: _grid(maps, 2 * points / size - 1, padding_mode="zeros")
        ),
        "The weights have changed places: the nearer texel counts more.": lambda: sample_bilinear(
            maps, _opposite(points)
        ),
        "The first and the last texel's centres are taken for the edges there (align_corners).": (
            lambda: _grid(maps, 2 * points / size - 1, align_corners=True)
        ),
    }


def _opposite(points: Tensor) -> Tensor:
    """Each point mirrored within its square of four centres."""
    low = (points - 0.5).floor()
    return low + 0.5 + (1 - (points - 0.5 - low))


@exercise_check(stand_in=read_bilinear_stand_in)
def read_bilinear(attempt):
    def judged(what, maps, points, hint=None, picture=None):
        expected = sample_bilinear(maps, points)
        got = attempt(maps, points)
        if torch.is_tensor(got) and not (
            got.shape == expected.shape and torch.allclose(got, expected, 1e-4, 1e-5)
        ):
            # one reading alone could be several mistakes
            known, many = _bilinear_mistakes(*probe), sample_bilinear(*probe)
            hint = _recognised(attempt(*probe), many, known) or hint
        close(what, got, expected, axes=AXES, hint=hint, picture=picture)

    probe = _normal(2, 2, 4, 6, seed=7), _uniform(2, 15, 2, seed=8) * torch.tensor([6.0, 4.0])

    # By hand, in a map of two rows and three columns: shape first, then values.
    small = torch.tensor([[[[1.0, 2.0, 6.0], [4.0, 8.0, 0.0]]]])
    for place, hint in (
        ((0.5, 0.5), "(0.5, 0.5) is the centre of the first texel, so nothing else counts."),
        ((1.0, 0.5), "(1.0, 0.5) is half way between 1 and 2."),
        ((1.0, 1.0), "(1, 1) is where four texels meet: the mean of 1, 2, 4 and 8."),
        ((0.75, 1.25), "The weights there are 3/16, 1/16, 9/16 and 3/16."),
        ((2.0, 0.5), "x = 2.0 is half way between the second and the third column."),
    ):
        what = f"the reading at x = {place[0]}, y = {place[1]} of [[1, 2, 6], [4, 8, 0]]"
        judged(what, small, torch.tensor([[place]]), hint)
    for place in ((-3.0, 0.5), (0.2, 0.1), (2.9, 1.5), (9.0, 9.0), (1.5, 7.0)):
        what = f"the reading at {place}, beyond the outermost centres of [[1, 2, 6], [4, 8, 0]]"
        judged(what, small, torch.tensor([[place]]), "The border's value holds there.")

    for batch, channels, height, width, vertices, seed in (
        (2, 3, 5, 8, 40, 1),
        (3, 1, 9, 4, 25, 2),
        (1, 6, 6, 6, 30, 3),
        (4, 2, 2, 7, 1, 4),
    ):
        maps = _normal(batch, channels, height, width, seed=seed)
        inside = 0.5 + _uniform(batch, vertices, 2, seed=seed + 10) * torch.tensor(
            [width - 1.0, height - 1.0]
        )
        shape = f"{batch} maps of {height} by {width} and {channels} channels"
        judged(f"{vertices} readings inside {shape}", maps, inside, picture=_places(maps, inside))
        beyond = (_uniform(batch, vertices, 2, seed=seed + 20) * 2 - 0.5) * torch.tensor(
            [float(width), float(height)]
        )
        judged(f"{vertices} readings inside and outside of {shape}", maps, beyond)
        mine = maps.clone().requires_grad_(), beyond.clone().requires_grad_()
        ours = maps.clone().requires_grad_(), beyond.clone().requires_grad_()
        goal = _normal(batch, vertices, channels, seed=seed + 30)
        got, expected = (attempt(*mine) * goal).sum(), (sample_bilinear(*ours) * goal).sum()
        pairs = {"the maps": (mine[0], ours[0]), "the points": (mine[1], ours[1])}
        same_gradient("read_bilinear", got, expected, pairs, atol=1e-4)
    maps, points = _normal(2, 3, 4, 6, seed=5).double(), _uniform(2, 9, 2, seed=6).double() * 6
    exact = dict(atol=1e-10, rtol=1e-9)
    close("readings in float64", attempt(maps, points), sample_bilinear(maps, points), **exact)
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


def fill_hidden_stand_in(offsets, seen, mirror):
    """As `offsets.sample_offsets`, without its blend along the border."""
    flip = offsets.new_tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    own = seen[..., None]
    other = own[:, mirror] * (1 - own)
    return own * offsets + other * flip * offsets[:, mirror]


def _fill_mistakes(offsets, seen, mirror) -> dict[str, Callable[[], Tensor]]:
    own, flip = seen[..., None], torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    twin = offsets[:, mirror]
    return {
        "x of the displacement is not negated there: what moves to the right on one side moves to "
        "the left on the other.": lambda: own * offsets + (1 - own) * own[:, mirror] * twin,
        "The red of the colours is negated there as well, or instead: only displacement has a "
        "direction.": lambda: (
            own * offsets
            + (1 - own) * own[:, mirror] * torch.tensor([-1.0, 1, 1, -1.0, 1, 1]) * twin
        ),
        "Red is negated there, but x of the displacement is channel 3.": lambda: (
            own * offsets + (1 - own) * own[:, mirror] * torch.tensor([-1.0, 1, 1, 1, 1, 1]) * twin
        ),
        "All of the displacement is negated there; up is up on both sides.": lambda: (
            own * offsets
            + (1 - own) * own[:, mirror] * torch.tensor([1.0, 1, 1, -1, -1, -1]) * twin
        ),
        "A vertex whose mirror vertex is hidden too took its reading there, though that one cannot "
        "see the map either: it gets 0.": lambda: own * offsets + (1 - own) * flip * twin,
        "Hidden vertices keep what they have read there.": lambda: offsets,
        "Hidden vertices get nothing there; where the mirror vertex is seen they take its "
        "reading.": lambda: own * offsets,
        "Where both are seen, each keeps its own reading: nothing is added.": lambda: (
            own * offsets + own[:, mirror] * flip * twin
        ),
        "Where both are seen, each keeps its own reading: no mean.": lambda: (
            (own * offsets + own[:, mirror] * flip * twin) / (own + own[:, mirror]).clamp(min=1)
        ),
        "Seen and hidden have changed places.": lambda: (
            (1 - own) * offsets + own * (1 - own[:, mirror]) * flip * twin
        ),
    }


@exercise_check(stand_in=fill_hidden_stand_in)
def fill_hidden(attempt):
    def judged(what, offsets, seen, mirror, hint=None):
        expected = fill_hidden_stand_in(offsets, seen, mirror)
        got = attempt(offsets, seen, mirror)
        hint = _recognised(got, expected, _fill_mistakes(offsets, seen, mirror)) or hint
        close(what, got, expected, axes=AXES, hint=hint)

    # Four vertices: 0 and 1 mirror each other, so do 2 and 3.
    mirror = torch.tensor([1, 0, 3, 2])
    values = torch.arange(1.0, 25).reshape(1, 4, 6)
    for seen, hint in (
        ((1.0, 1, 1, 1), "All are seen: everyone keeps its own reading."),
        ((1.0, 0, 1, 1), "Vertex 1 is hidden and vertex 0 seen: 1 takes 0's, x negated."),
        ((0.0, 1, 0, 0), "Of 2 and 3 neither is seen: both get 0."),
        ((0.0, 0, 0, 0), "Nobody is seen: all zero."),
    ):
        what = f"fill_hidden with seen = {[int(s) for s in seen]} and mirror = [1, 0, 3, 2]"
        judged(what, values, torch.tensor([seen]), mirror, hint)

    for batch, vertices, seed in ((3, 11, 1), (1, 20, 2), (5, 7, 3)):
        order = torch.randperm(vertices, generator=torch.Generator().manual_seed(seed))
        mirror = torch.arange(vertices)  # pairs, and one or more on the middle line
        for i in range(0, vertices - 2, 2):
            a, b = order[i], order[i + 1]
            mirror[a], mirror[b] = b, a
        seen = (_uniform(batch, vertices, seed=seed + 10) < 0.55).float()
        offsets = _normal(batch, vertices, 6, seed=seed + 20)
        hint = "Each face has its own seen vertices; one on the middle line is its own mirror."
        judged(f"{batch} faces of {vertices} vertices", offsets, seen, mirror, hint)
        lost = offsets.clone()
        lost[seen == 0] = torch.randn(int((seen == 0).sum()), 6) * 50  # what nobody may read
        judged("the same with other readings at hidden vertices", lost, seen, mirror, hint)
        mine, ours = offsets.clone().requires_grad_(), offsets.clone().requires_grad_()
        goal = _normal(batch, vertices, 6, seed=seed + 30)
        got = (attempt(mine, seen, mirror) * goal).sum()
        expected = (fill_hidden_stand_in(ours, seen, mirror) * goal).sum()
        same_gradient("fill_hidden", got, expected, {"offsets": (mine, ours)})
    return "own, borrowed and missing readings, and gradients to the readings"


# Adding -----------------------------------------------------------------------------------------


def add_offsets_stand_in(face, coefficients, texture, displacement):
    """As `augmented_branch.augment`."""
    c = coefficients
    vertices, albedo = face.vertices + displacement, face.albedo + texture
    made = pose_and_light(face.model, vertices, albedo, c)
    return made.v_camera, made.colours


def _case(batch: int, seed: int, turned: float = 1.0) -> tuple[Face, FaceCoefficients]:
    """Small bumpy sheets, posed and lit: no face, but all that one has."""
    rows, columns = 4, 5
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    flat = torch.stack([20.0 * x, 20.0 * y, 0.0 * x], -1).reshape(1, -1, 3)
    vertices = flat + 5 * _normal(batch, rows * columns, 3, seed=seed)
    corner = (columns * y + x)[:-1, :-1].reshape(-1)
    one = torch.stack([corner, corner + 1, corner + columns], 1)
    two = torch.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    c = FaceCoefficients.mean(batch, 1, 1, 1)
    c.rotation = turned * 0.6 * _normal(batch, 3, seed=seed + 1)
    c.scale = 1 + turned * 0.2 * _uniform(batch, 1, seed=seed + 2)
    c.translation = c.translation + 10 * turned * _normal(batch, 3, seed=seed + 3)
    c.lighting = c.lighting + 0.4 * _normal(batch, 9, 3, seed=seed + 4)
    albedo = _uniform(batch, rows * columns, 3, seed=seed + 5)
    return pose_and_light(SimpleNamespace(faces=torch.cat([one, two])), vertices, albedo, c), c


@exercise_check(stand_in=add_offsets_stand_in)
def add_offsets(attempt):
    def tried(seed, batch, turned, texture, displacement):
        face, c = _case(batch, seed, turned)  # anew: the student may change it
        return attempt(face, c, texture, displacement)

    def pair(what, got):
        if got is None:
            raise Wrong(f"{what} returned nothing (None): is the `return` missing?")
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(f"{what}: expected two tensors, v_camera and colours.")
        return got

    for batch, seed, turned in ((2, 10, 1.0), (1, 20, 0.0), (3, 30, 1.0)):
        face, c = _case(batch, seed, turned)
        shape = face.vertices.shape
        nothing = torch.zeros(shape)
        what = "add_offsets with offsets of zero"
        got = pair(what, tried(seed, batch, turned, nothing, nothing))
        for name, one, other in (("v_camera", got[0], face.v_camera),
                                 ("colours", got[1], face.colours)):  # fmt: skip
            hint = "Nothing is added there: this has to be the base face again, posed and lit."
            close(f"{name} of {what}", one, other, axes=AXES, hint=hint, atol=1e-3)

        texture = 0.2 * _normal(*shape, seed=seed + 6)
        got = pair("add_offsets", tried(seed, batch, turned, texture, nothing))
        expected = add_offsets_stand_in(face, c, texture, nothing)
        hint = "A texture offset is added to the albedo, before the light falls on it."
        if torch.is_tensor(got[1]) and got[1].shape == shape:
            if torch.allclose(got[1], face.colours + texture, 1e-3, 1e-4):
                hint = (
                    "The offset is added to the lit colours there. It belongs to the skin: add it "
                    "to the albedo, and light that."
                )
            elif torch.allclose(got[1], (face.albedo + texture).clamp(0, 1) * face.colours
                                / face.albedo, 1e-3, 1e-3):  # fmt: skip
                hint = "No clamp: it cuts the gradient."
        close("colours with a texture offset alone", got[1], expected[1], axes=AXES, hint=hint)
        close("v_camera with a texture offset alone", got[0], expected[0], atol=1e-3)

        moved = 6 * _normal(*shape, seed=seed + 7)
        got = pair("add_offsets", tried(seed, batch, turned, nothing, moved))
        expected = add_offsets_stand_in(face, c, nothing, moved)
        hint = "Displacement is added in the model frame, to face.vertices; then pose."
        if torch.is_tensor(got[0]) and got[0].shape == shape:
            if torch.allclose(got[0], face.v_camera + moved, 1e-3, 1e-2):
                hint = (
                    "The displacement is added after pose there, in the camera's axes: x points "
                    "the other way and z into the picture. Add it to face.vertices first."
                )
            elif torch.allclose(got[0], face.v_camera, 1e-4, 1e-2):
                hint = "The vertices have not moved."
        close(
            "v_camera with a displacement alone", got[0], expected[0], axes=AXES, hint=hint,
            atol=1e-2,
        )  # fmt: skip
        hint = "The surface has moved, so its normals have to be computed again."
        close(
            "colours with a displacement alone", got[1], expected[1], axes=AXES, hint=hint,
            atol=1e-4, picture=_stale(face.colours),
        )  # fmt: skip

        mine = [v.clone().requires_grad_() for v in (texture, moved)]
        ours = [v.clone().requires_grad_() for v in (texture, moved)]
        goals = [_normal(*shape, seed=seed + 8), _normal(*shape, seed=seed + 9)]
        pairs = {"texture": (mine[0], ours[0]), "displacement": (mine[1], ours[1])}
        for i, name in enumerate(("v_camera", "colours")):
            one = tried(seed, batch, turned, *mine)[i]  # anew: a graph is there once
            other = add_offsets_stand_in(face, c, *ours)[i]
            loss = [(v * goals[i]).sum() for v in (one, other)]
            same_gradient(f"{name} of add_offsets", *loss, pairs, atol=1e-4)
    return "each offset alone, in any pose, and gradients to both"


def _stale(before: Tensor) -> Callable[[Tensor, Tensor], Figure]:
    """Brightness of the first face's vertices: before, expected, yours."""

    def draw(got: Tensor, expected: Tensor) -> Figure:
        figure = Figure((8.4, 2.4), layout="constrained", facecolor="white")
        three = {"before the displacement": before, "expected after it": expected, "yours": got}
        for axis, (name, colours) in zip(figure.subplots(1, 3), three.items(), strict=True):
            axis.imshow(colours[0].reshape(4, 5, 3).clamp(0, 1).numpy())
            axis.set_title(f"colours, {name}", fontsize=10)
            axis.axis("off")
        return figure

    return draw


# Hyperbolic -------------------------------------------------------------------------------------


def read_hyperbolic_stand_in(maps, points, depth):
    """As `map_sampling.sample_hyperbolic`."""
    return sample_hyperbolic(maps, points, depth)


def _hyperbolic_mistakes(maps, points, depth) -> dict[str, Callable[[], Tensor]]:
    def at(values: Tensor) -> Tensor:
        return sample_bilinear(values, points)

    return {
        "That is the bilinear reading: the depth has no say in it.": lambda: at(maps),
        "The denominator is missing: divide by the reading of 1 / depth.": lambda: at(maps / depth),
        "The depth multiplies there; a far texel has to count less, so divide by it.": lambda: (
            at(maps * depth) / at(depth)
        ),
        "That divides by 1 / (depth read bilinearly), but the mean of 1 / depth is another number "
        "than 1 over the mean of depth.": lambda: at(maps / depth) * at(depth),
        "The denominator is upside down: divide by the reading of 1 / depth.": lambda: (
            at(maps / depth) * at(1 / depth)
        ),
        "The absolute value of the depth is taken there: the formula has its sign, and that is "
        "what this section is about.": lambda: at(maps / depth.abs()) / at(1 / depth.abs()),
    }


@exercise_check(stand_in=read_hyperbolic_stand_in)
def read_hyperbolic(attempt):
    def judged(what, maps, points, depth, hint=None):
        expected = sample_hyperbolic(maps, points, depth)
        got = attempt(maps, points, depth)
        hint = _recognised(got, expected, _hyperbolic_mistakes(maps, points, depth)) or hint
        close(what, got, expected, axes=AXES, hint=hint)

    two = torch.tensor([[[[3.0, 9.0]]]])
    depth = torch.tensor([[[[1.0, 2.0]]]])
    middle = torch.tensor([[[1.0, 0.5]]])
    hint = "Half way: (3/1 + 9/2) / (1/1 + 1/2), since both halves cancel."
    judged("the reading between 3 at depth 1 and 9 at depth 2", two, middle, depth, hint)
    judged("the same in another unit of depth", two, middle, depth * 1e-3, "The unit cancels.")
    hint = "Half way: (3/1 - 9/2) / (1/1 - 1/2). Keep the sign of the depth."
    signed = depth * torch.tensor([1.0, -1])
    judged("the reading between 3 at depth 1 and 9 at depth -2", two, middle, signed, hint)

    for batch, channels, height, width, vertices, seed in (
        (2, 3, 5, 8, 30, 1),
        (3, 6, 7, 4, 20, 2),
        (1, 1, 6, 6, 25, 3),
    ):
        maps = _normal(batch, channels, height, width, seed=seed)
        size = torch.tensor([float(width), float(height)])
        points = (_uniform(batch, vertices, 2, seed=seed + 10) * 1.2 - 0.1) * size
        depth = 0.5 + 2 * _uniform(batch, 1, height, width, seed=seed + 20)
        shape = f"{batch} maps of {height} by {width} and {channels} channels"
        judged(f"{vertices} readings of {shape}", maps, points, depth)
        judged(f"{vertices} readings of {shape}, all depths negative", maps, points, -depth)
        flat = torch.full_like(depth, 340.0)
        judged(f"readings of {shape}, all at one depth", maps, points, flat, "This is bilinear.")
        goal = _normal(batch, vertices, channels, seed=seed + 30)
        mine = [v.clone().requires_grad_() for v in (maps, points, depth)]
        ours = [v.clone().requires_grad_() for v in (maps, points, depth)]
        got = (attempt(*mine) * goal).sum()
        expected = (sample_hyperbolic(*ours) * goal).sum()
        names = ("the maps", "the points", "the depth")
        pairs = dict(zip(names, zip(mine, ours, strict=True), strict=True))
        same_gradient("read_hyperbolic", got, expected, pairs, atol=1e-4)
    return "by hand, with either sign, and gradients to maps, points and depth"
