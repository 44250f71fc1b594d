"""Checks of notebook 08: flipped triangles, both symmetries of Eq. 9, smoothness over the ring."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...face.mesh import edges, face_normals
from ...fitting import losses
from ..checks import exercise_check
from ..compare import Wrong, close, one_number, same_gradient


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _told(value: float, mistakes: dict[str, float], otherwise: str) -> str:
    """The words of the mistake that gives this value."""
    for words, wrong in mistakes.items():
        if abs(value - wrong) < 1e-4 * max(1.0, abs(wrong)):
            return words
    return otherwise


def _strip(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A wavy strip of triangles: (V, 3) and (F, 3), consistently turned."""
    n = count + 1
    x = torch.arange(n).float()
    top = torch.stack([x, torch.ones(n), 0.2 * _normal(n, seed=seed)], 1)
    bottom = torch.stack([x + 0.3, torch.zeros(n), 0.2 * _normal(n, seed=seed + 1)], 1)
    i = torch.arange(count)
    faces = torch.cat(
        [torch.stack([i, n + i, n + i + 1], 1), torch.stack([i, n + i + 1, i + 1], 1)]
    )
    return torch.cat([top, bottom]), faces


# Flipped triangles ------------------------------------------------------------------------------


def flipped_share_stand_in(before, after, faces):
    """With the normals of `mesh.py`; the sweep's measure."""
    cosine = (face_normals(before, faces) * face_normals(after, faces)).sum(-1)
    return 100 * (cosine < 0).to(before.dtype).mean(1)


@exercise_check(stand_in=flipped_share_stand_in)
def flipped_share(attempt):
    # Two triangles of a unit square; in face 1 a corner is pulled across the diagonal.
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    pulled = square.clone()
    pulled[1] = torch.tensor([0.0, 0.9, 0.0])
    before, after = torch.stack([square, square, square]), torch.stack([square, pulled, square])
    got = attempt(before, after, faces)
    expected = torch.tensor([0.0, 50.0, 0.0])
    hint = "The second face has one of its two triangles turned over, the others none."
    if isinstance(got, Tensor) and got.ndim == 0:
        raise Wrong("flipped_share gave one number; one for each face of the batch is asked for.")
    if isinstance(got, Tensor) and got.shape == expected.shape and got.is_floating_point():
        for words, wrong in (
            ("That is a share of 1; percent are asked for.", expected / 100),
            ("That counts them; the share of all triangles is asked for.", expected / 50),
            ("Those are the triangles that are still the right way round.", 100 - expected),
        ):
            if torch.allclose(got, wrong):
                hint = words
    close("flipped_share of a square, its corner pulled across", got, expected, hint=hint)

    # Turned, grown, moved: never flipped. A triangle that is turned by 80 degrees is not either.
    for degrees, flips in ((80.0, 0.0), (100.0, 100.0)):
        a = torch.tensor(degrees).deg2rad()
        turn = torch.tensor([[1.0, 0, 0], [0, a.cos(), -a.sin()], [0, a.sin(), a.cos()]])
        got = attempt(square[None], 3 * square[None] @ turn.T + 5, faces)
        close(
            f"flipped_share of a square that is turned by {degrees:.0f} degrees",
            got,
            torch.tensor([flips]),
            hint="A triangle counts when its normal has turned by more than 90 degrees from where "
            "it pointed before, whichever way that was.",
        )
    lying = square[:, [2, 0, 1]]  # faces along y: a check of the normals' z alone would not do
    got = attempt(lying[None], pulled[None][:, :, [2, 0, 1]], faces)
    close(
        "flipped_share of a square that does not face +z", got, torch.tensor([50.0]),
        hint="Compare each normal with the same triangle's normal before, not with +z.",
    )  # fmt: skip

    # A triangle squeezed to nothing has no normal, and no side.
    line = square.clone()
    line[1] = torch.tensor([0.5, 0.5, 0.0])
    got = attempt(square[None], line[None], faces)
    close(
        "flipped_share where a triangle has no area", got, torch.tensor([0.0]),
        hint="A triangle without area has turned neither way: it does not count.",
    )  # fmt: skip

    for count, batch, seed in ((6, 3, 1), (15, 1, 2), (40, 4, 3)):
        vertices, faces = _strip(count, seed)
        before = vertices + 0.1 * _normal(batch, *vertices.shape, seed=seed + 5)
        after = before + 0.45 * _normal(batch, *vertices.shape, seed=seed + 9)
        expected = flipped_share_stand_in(before, after, faces)
        what = f"flipped_share of {batch} noisy strips of {2 * count} triangles"
        close(what, attempt(before, after, faces), expected, axes=("face",), atol=1e-3)
    return "a pulled corner, turned squares, a triangle without area, and noisy strips"


# Eq. 9 on the map -------------------------------------------------------------------------------


def map_symmetry_stand_in(offset_map, displacement):
    """Eq. 9 of the library."""
    return losses.offset_symmetry_loss(offset_map, displacement)


def _two_maps(offset_map: Tensor, displacement: bool) -> Figure:
    figure = Figure((8.4, 2.8), layout="constrained", facecolor="white")
    mirrored = offset_map.flip(-1)
    if displacement:
        mirrored = mirrored * torch.tensor([-1.0, 1, 1])[:, None, None]
    limit = float(offset_map.abs().max())
    shown = {"M, channel x": offset_map, "flip(M), channel x": mirrored}
    shown["M − flip(M)"] = offset_map - mirrored
    for axis, (name, values) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axis.imshow(values[0, 0].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    figure.suptitle("What is expected: the sum of the squares of the last, over all channels")
    return figure


def _map_mistakes(m: Tensor, displacement: bool) -> dict[str, float]:
    def cost(mirrored: Tensor) -> float:
        return float((m - mirrored).square().sum((1, 2, 3)).mean())

    def signed(*signs: float) -> Tensor:
        return torch.tensor(signs)[:, None, None]

    right = cost(m.flip(-1) * signed(-1.0 if displacement else 1.0, 1, 1))
    said = {
        "That flips top and bottom; left and right are the last axis.": cost(m.flip(-2)),
        "That mixes the faces of the batch.": cost(m.flip(0)),
        "That flips the channels.": cost(m.flip(1)),
        "That is the sum over the batch; divide by the number of faces.": right * len(m),
        "That is the mean over pixels and channels; Eq. 9 sums over the map, and averages over "
        "the batch alone.": right / m[0].numel(),
        "That is the length; Eq. 9 has its square.": float(
            (m - m.flip(-1) * signed(-1.0 if displacement else 1.0, 1, 1))
            .square().sum((1, 2, 3)).sqrt().mean()
        ),
    }  # fmt: skip
    if displacement:
        said["The flip is right, but x keeps its sign: in the mirror, right becomes left."] = cost(
            m.flip(-1)
        )
        said["All three channels change their sign there; in a mirror only x does."] = cost(
            -m.flip(-1)
        )
        said["The sign of y changes there; in a mirror that is x's."] = cost(
            m.flip(-1) * signed(1, -1, 1)
        )
    else:
        said["The first channel changes its sign there; of a texture that is red."] = cost(
            m.flip(-1) * signed(-1, 1, 1)
        )
    return {words: value for words, value in said.items() if abs(value - right) > 1e-3}


@exercise_check(stand_in=map_symmetry_stand_in)
def map_symmetry(attempt):
    # A row of four pixels, red alone.
    small = torch.zeros(1, 3, 1, 4)
    small[0, 0, 0] = torch.tensor([1.0, 3.0, 0.0, 2.0])
    value = one_number("map_symmetry(offset_map, False)", attempt(small, False))
    told = {
        "Each pair of pixels is met twice, once from either side, as in ||M - flip(M)||².": 10.0,
        "That is ||M||²: the map is compared with nothing there.": 14.0,
        "That is the mean over the map.": 20 / 12,
    }
    hint = _told(value, told, "M - flip(M) is (-1, 3, -3, 1): its squares add up to 20.")
    close("map_symmetry of a row (1, 3, 0, 2) of red", torch.tensor(value), 20.0, hint=hint)

    widening = torch.zeros(2, 3, 2, 4)
    widening[:, 0] = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    for shape in ((2, 3, 4, 6), (3, 3, 5, 5), (1, 3, 7, 3)):
        m = _normal(*shape, seed=sum(shape))
        for displacement in (False, True):
            mine, ours = m.clone().requires_grad_(), m.clone().requires_grad_()
            got = attempt(mine, displacement)
            expected = map_symmetry_stand_in(ours, displacement)
            what = f"map_symmetry of a map {shape}, displacement={displacement}"
            hint = _told(one_number(what, got), _map_mistakes(m, displacement), "")
            close(
                what, got, expected, hint=hint or None,
                picture=lambda *_, m=m, d=displacement: _two_maps(m, d),
            )  # fmt: skip
            same_gradient(what, got, expected, {"offset_map": (mine, ours)})
    got = attempt(widening, True)
    close(
        "map_symmetry of a face that widens on both sides", got, torch.tensor(0.0),
        hint="Left goes left and right goes right: that is symmetric, and costs nothing.",
        picture=lambda *_: _two_maps(widening, True),
    )  # fmt: skip
    double = _normal(2, 3, 4, 4, seed=8).double()
    got = attempt(double, True)
    close("map_symmetry in float64", got, map_symmetry_stand_in(double, True), rtol=1e-9)
    return "by hand, for textures and displacements, with its gradient"


# Eq. 9 on the mesh ------------------------------------------------------------------------------


def mesh_symmetry_stand_in(offsets, mirror, displacement):
    """Eq. 9 between mirror vertices, of the library."""
    return losses.mesh_symmetry_loss(offsets, mirror, displacement)


@exercise_check(stand_in=mesh_symmetry_stand_in)
def mesh_symmetry(attempt):
    # Three vertices: 0 and 1 are each other's mirror, 2 lies in the middle.
    mirror = torch.tensor([1, 0, 2])
    offsets = torch.tensor([[[0.1, 0.0, 0.2], [0.1, 0.0, 0.0], [0.3, 0.0, 0.0]]])
    # texture: (0, 0, 0.2) twice, nothing: 0.08 / 3. displacement: (0.2, 0, 0.2) twice, (0.6, 0, 0)
    for displacement, expected in ((False, 0.08 / 3), (True, (0.16 + 0.36) / 3)):
        what = f"mesh_symmetry of three vertices, displacement={displacement}"
        value = one_number(what, attempt(offsets, mirror, displacement))
        told = {
            "That is the sum over the vertices; their mean is asked for.": 3 * expected,
            "That averages over x, y, z as well: a squared length adds them up.": expected / 3,
            "The sign of x is as in the mirror there, but this is a texture.": (0.16 + 0.36) / 3,
            "x keeps its sign there: a displacement to the right is one to the left in a mirror.":
                0.08 / 3,
            "Each pair counts once there, and the middle not at all; the mean is over all "
            "vertices.": expected / 2,
        }  # fmt: skip
        told = {words: wrong for words, wrong in told.items() if abs(wrong - expected) > 1e-6}
        close(what, torch.tensor(value), expected, hint=_told(value, told, "") or None)

    for batch, half, middle, seed in ((2, 5, 3, 1), (1, 8, 0, 2), (4, 3, 4, 3)):
        count = 2 * half + middle
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        mirror = torch.arange(count)
        one, other = order[:half], order[half : 2 * half]
        mirror[one], mirror[other] = other, one
        offsets = _normal(batch, count, 3, seed=seed + 7)
        for displacement in (False, True):
            mine, ours = offsets.clone().requires_grad_(), offsets.clone().requires_grad_()
            got = attempt(mine, mirror, displacement)
            expected = mesh_symmetry_stand_in(ours, mirror, displacement)
            what = f"mesh_symmetry of {batch} faces of {count} vertices, {displacement=}"
            hint = None
            value = one_number(what, got)
            flipped = offsets.flip(1)
            if abs(value - float((offsets - flipped).square().sum(-1).mean())) < 1e-4:
                hint = "The vertices are in no order: mirror[i] says which one lies opposite i."
            if abs(value - batch * float(expected.detach())) < 1e-4 and batch > 1:
                hint = "That is the sum over the faces; their mean is asked for."
            close(what, got, expected, hint=hint)
            same_gradient(what, got, expected, {"offsets": (mine, ours)})
    double = _normal(2, 4, 3, seed=5).double()
    mirror = torch.tensor([3, 1, 2, 0])
    got = attempt(double, mirror, True)
    expected = mesh_symmetry_stand_in(double, mirror, True)
    close("mesh_symmetry in float64", got, expected, rtol=1e-9)
    return "by hand, and for mirrors in any order, with its gradient"


# Eq. 10 and 11 ----------------------------------------------------------------------------------


def ring_smoothness_stand_in(values, pairs):
    """As `losses.smoothness_loss`, from the pairs of neighbours."""
    squared = (values[:, pairs[:, 0]] - values[:, pairs[:, 1]]).square().sum(-1)
    share = 1 / torch.bincount(pairs.reshape(-1), minlength=values.shape[1]).clamp(min=1)
    return (squared * share[pairs].sum(-1).to(values.dtype)).sum(1).mean() / values.shape[1]


def _ring_mistakes(values: Tensor, pairs: Tensor) -> dict[str, float]:
    count = values.shape[1]
    rings: list[list[int]] = [[] for _ in range(count)]
    for i, j in pairs.tolist():
        rings[i].append(j)
        rings[j].append(i)
    squares = [
        [(values[:, i] - values[:, j]).square().sum(-1) for j in ring]
        for i, ring in enumerate(rings)
    ]

    def mean(total: Tensor) -> float:
        return float(total.mean())

    right = mean(sum(sum(row) / len(row) for row in squares if row)) / count
    every = [s for row in squares for s in row]
    average = torch.stack(
        [values[:, ring].mean(1) if ring else values[:, i] for i, ring in enumerate(rings)], 1
    )
    first = [[(values[:, i] - values[:, j]).square().sum(-1) for j in pairs[pairs[:, 0] == i, 1]]
             for i in range(count)]  # fmt: skip
    one_end = sum(sum(row) / len(rings[i]) for i, row in enumerate(first) if row)
    said = {
        "That is the mean over all edges: a vertex with many neighbours counts more there. Average "
        "over each vertex' own ring first, then over the vertices.": mean(sum(every)) / len(every),
        "That adds up each ring: the mean over the ring is missing (1 / e(i)).": mean(sum(every))
        / count,
        "Each pair counts at its first vertex only there; it belongs to the ring of the second as "
        "well.": mean(one_end) / count,
        "That is the sum over the vertices; their mean is asked for (1 / L).": right * count,
        "That averages over the channels as well; a squared length adds them up.": right
        / values.shape[2],
        "That is the squared distance to the mean of the neighbours; Eq. 10 has the mean of the "
        "squared distances.": float((values - average).square().sum(-1).mean()),
        "That is the sum over the batch; its mean is asked for.": right * len(values),
    }
    return {words: value for words, value in said.items() if abs(value - right) > 1e-4}


@exercise_check(stand_in=ring_smoothness_stand_in)
def ring_smoothness(attempt):
    # Two triangles, 0-1-2 and 0-2-3: vertices 1 and 3 have two neighbours, 0 and 2 three.
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
    values = torch.tensor([[[0.0], [1.0], [0.0], [3.0]]])
    # rings: 0: (1 + 0 + 9) / 3; 1: (1 + 1) / 2; 2: (1 + 0 + 9) / 3; 3: (9 + 9) / 2
    expected = (10 / 3 + 1 + 10 / 3 + 9) / 4
    what = "ring_smoothness of two triangles with the values 0, 1, 0, 3"
    got = attempt(values, pairs)
    value = one_number(what, got)
    otherwise = "The four rings have the means 10/3, 1, 10/3 and 9."
    hint = _told(value, _ring_mistakes(values, pairs), otherwise)
    close(what, got, torch.tensor(expected), hint=hint)

    for count, batch, channels, seed in ((4, 2, 3, 1), (9, 3, 3, 2), (17, 1, 2, 3)):
        vertices, faces = _strip(count, seed)
        pairs = edges(faces)
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
        pairs = torch.cat([pairs[order[::2]].flip(1), pairs[order[1::2]]])
        values = _normal(batch, len(vertices), channels, seed=seed + 3)
        mine, ours = values.clone().requires_grad_(), values.clone().requires_grad_()
        got = attempt(mine, pairs)
        expected = ring_smoothness_stand_in(ours, pairs)
        what = f"ring_smoothness of {batch} strips of {len(faces)} triangles, {channels} channels"
        hint = _told(one_number(what, got), _ring_mistakes(values, pairs), "")
        close(what, got, expected, hint=hint or None)
        same_gradient(what, got, expected, {"values": (mine, ours)})

    flat = torch.full((2, 5, 3), 4.2)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]])  # vertex 4 has no neighbour
    got = attempt(flat, pairs)
    close(
        "ring_smoothness of equal values, one vertex alone", got, torch.tensor(0.0), atol=1e-6,
        hint="A vertex without neighbours adds nothing; beware of 0 / 0.",
    )  # fmt: skip
    values = _normal(2, 5, 3, seed=6)
    got = attempt(values, pairs)
    what = "ring_smoothness with one vertex alone"
    hint = "A vertex without neighbours adds 0, and still counts among the L vertices."
    hint = _told(one_number(what, got), _ring_mistakes(values, pairs), hint)
    close(what, got, ring_smoothness_stand_in(values, pairs), hint=hint)
    double = _normal(1, 5, 3, seed=7).double()
    got = attempt(double, pairs)
    close("ring_smoothness in float64", got, ring_smoothness_stand_in(double, pairs), rtol=1e-9)
    return "by hand, for three meshes, with its gradient, and with a vertex alone"
