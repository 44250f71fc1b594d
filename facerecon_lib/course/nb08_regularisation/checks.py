"""Checks of notebook 08: flipped triangles, both symmetries of Eq. 9, smoothness over the ring."""

from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.sparse import coo_matrix, diags, identity
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay
from torch import Tensor

from ...face.camera import axis_angle_to_matrix
from ...face.mesh import edges, face_normals
from ...fitting import losses
from ...pictures.sheets import gallery
from ..checks import exercise_check
from ..compare import Wrong, normal, seeded, strided
from ..unet_fit import gradient_length as gradient_length_of


def _strip(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A wavy strip of triangles: (V, 3) and (F, 3), consistently turned."""
    x, y = torch.cartesian_prod(torch.arange(count + 1.0), torch.arange(2.0)).T
    vertices = torch.stack([x + 0.3 * y, y, 0.2 * normal(len(x), seed=seed)], 1)
    return vertices, torch.tensor(Delaunay(vertices[:, :2]).simplices).long()


def flipped(
    turned=lambda n, m: (n * m).sum(-1) < 0, share=lambda triangles: 100 * triangles.mean(1)
):
    """The sweep's measure; turned: of a triangle's normals before and after; share: of 0 and 1."""
    return lambda before, after, faces: share(
        turned(face_normals(before, faces), face_normals(after, faces)).to(before.dtype)
    )


@exercise_check(
    stand_in=flipped(),
    mistakes={
        "One number for each face of the batch is asked for.": flipped(
            share=lambda t: 100 * t.mean()
        ),
        "That is a share of 1; percent are asked for.": flipped(share=lambda t: t.mean(1)),
        "That counts them; the share of all triangles is asked for.": flipped(
            share=lambda t: t.sum(1)
        ),
        "Those are the triangles that are still the right way round.": flipped(
            share=lambda t: 100 - 100 * t.mean(1)
        ),
        "Compare each normal with the same triangle's normal before, not with +z.": flipped(
            lambda n, m: m[..., 2] < 0
        ),
        "A triangle without area has turned neither way: it does not count.": flipped(
            lambda n, m: (n * m).sum(-1) <= 0
        ),
    },
    axes=("face",),
    atol=1e-3,
)
def flipped_share(attempt):
    # Two triangles of a unit square; in face 1 a corner is pulled across the diagonal.
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    pulled, line = square.clone(), square.clone()
    pulled[1], line[1] = torch.tensor([[0.0, 0.9, 0.0], [0.5, 0.5, 0.0]])
    with attempt.part("squares"):
        three = torch.stack([square, square, square]), torch.stack([square, pulled, square])
        hint = "The second face has one of its two triangles turned over, the others none."
        what = "flipped_share of a square, its corner pulled across"
        attempt.case(what, (*three, faces), hint, expected=torch.tensor([0.0, 50.0, 0.0]))
        # Turned, grown, moved: never flipped. A triangle turned by 80 degrees is not either.
        hint = "A triangle counts when its normal has turned by more than 90 degrees."
        for degrees, share in ((80.0, 0.0), (100.0, 100.0), (89.0, 0.0), (91.0, 100.0)):
            turn = axis_angle_to_matrix(torch.tensor([degrees, 0.0, 0.0]).deg2rad())
            what = f"flipped_share of a square that is turned by {degrees:.0f} degrees"
            inputs = square[None], 3 * square[None] @ turn.T + 5, faces
            attempt.case(what, inputs, hint, expected=torch.tensor([share]))
        to_y = [x[None][..., [2, 0, 1]] for x in (square, pulled)]
        what = "flipped_share of a square that does not face +z"
        attempt.case(what, (*to_y, faces), expected=torch.tensor([50.0]))
    with attempt.part("triangles without area"):
        what, none = "flipped_share where a triangle has no area", torch.tensor([0.0])
        attempt.case(what, (square[None], line[None], faces), expected=none)
        attempt.case(f"{what} before", (line[None], square[None], faces), expected=none)
        both = square.clone()
        both[1], both[3] = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.0, 0.0]])
        hint = "One has no area and one is turned over: of two triangles one counts."
        what = "flipped_share where one triangle has no area and the other is turned over"
        attempt.case(what, (square[None], both[None], faces), hint, expected=torch.tensor([50.0]))
        what = "flipped_share of a single triangle"
        inputs = square[None], pulled[None], faces[:1]
        attempt.case(what, inputs, expected=torch.tensor([100.0]))
    with attempt.part("noisy strips"):
        for count, batch, seed in ((6, 3, 1), (15, 1, 2), (40, 4, 3)):
            vertices, faces = _strip(count, seed)
            before = vertices + 0.1 * normal(batch, *vertices.shape, seed=seed + 5)
            after = before + 0.45 * normal(batch, *vertices.shape, seed=seed + 9)
            what = f"flipped_share of {batch} noisy strips of {2 * count} triangles"
            attempt.case(what, (before, after, faces))
        before, first = before.flip(0), faces[:40]
        for words, some in (("all", faces), ("the first 40", first), ("the last 40", faces[-40:])):
            what = f"flipped_share of {words} triangles of these strips, before exchanged"
            attempt.case(what, (before, after, some))
    with attempt.part("a face's size, layouts and dtypes"):
        vertices, faces = _strip(1000, seed=4)
        before = vertices + 0.1 * normal(1, *vertices.shape, seed=5)
        after = before + 0.45 * normal(1, *vertices.shape, seed=7)
        for mm in (0.1, 4.0):
            what = f"flipped_share of 2,000 triangles of {mm:g} mm"
            attempt.case(what, (mm * before, mm * after, faces))
        layout = *strided(before, after), faces
        attempt.case("flipped_share of vertices that are not contiguous", layout)
        got = attempt.trial("flipped_share in float64")(before.double(), after.double(), faces)
        expected = flipped()(before, after, faces)
        attempt.close("flipped_share in float64", torch.as_tensor(got).float(), expected)
    return "a pulled corner, turned squares, a triangle without area, and noisy strips"


def map_apart(
    mirror=lambda m: m.flip(-1),
    signs=(-1.0, 1.0, 1.0),
    end=lambda apart: apart.square().sum((1, 2, 3)).mean(),
):
    """Eq. 9; each part can be exchanged for a mistake. signs: of a displacement in the mirror."""

    def map_symmetry(offset_map, displacement):
        factors = offset_map.new_tensor(signs if displacement else (1.0, 1.0, 1.0))
        return end(offset_map - mirror(offset_map) * factors[:, None, None])

    return map_symmetry


def _two_maps(offset_map: Tensor, displacement: bool, *_: Tensor) -> Figure:
    apart = map_apart(end=lambda apart: apart)(offset_map, displacement)
    limit = float(offset_map.abs().max())
    images = [maps[0, 0].numpy() for maps in (offset_map, offset_map - apart, apart)]
    names = ["M, channel x", "flip(M), channel x", "M − flip(M)"]
    title = "Expected: the sum of the squares of the last, over all channels"
    return gallery(images, names, title=title, cmap="RdBu_r", vmin=-limit, vmax=limit)


@exercise_check(
    stand_in=losses.offset_symmetry_loss,
    points=2,
    mistakes={
        "Each pair of pixels is met twice, once from either side, as in ||M - flip(M)||².": (
            map_apart(end=lambda d: d[..., : d.shape[-1] // 2].square().sum((1, 2, 3)).mean())
        ),
        "That is ||M||²: the map is compared with nothing there.": map_apart(lambda m: 0 * m),
        "That flips another axis; left and right are the last one.": tuple(
            map_apart(partial(torch.flip, dims=[axis])) for axis in range(3)
        ),
        "That is the mean over pixels and channels; Eq. 9 sums over the map, and averages over "
        "the batch alone.": map_apart(end=lambda d: d.square().mean()),
        "That is the length; Eq. 9 has its square.": map_apart(
            end=lambda d: d.square().sum((1, 2, 3)).sqrt().mean()
        ),
        "That is the sum over the batch; divide by the number of faces.": map_apart(
            end=lambda d: d.square().sum()
        ),
        "The flip is right, but x has the same sign in both maps: in the mirror, right becomes "
        "left. Negate x of the mirrored map alone.": map_apart(signs=(1.0, 1.0, 1.0)),
        "All three channels change their sign there; in a mirror only x does.": map_apart(
            signs=(-1.0, -1.0, -1.0)
        ),
        "The sign of y changes there; in a mirror that is x's.": map_apart(signs=(1.0, -1.0, 1.0)),
        "The first channel changes its sign there; of a texture that is red.": lambda m, d: (
            losses.offset_symmetry_loss(m, True)
        ),
    },
)
def map_symmetry(attempt):
    small = torch.zeros(1, 3, 1, 4)
    small[0, 0, 0] = torch.tensor([1.0, 3.0, 0.0, 2.0])
    widening = torch.zeros(2, 3, 2, 4)
    widening[:, 0] = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    with attempt.part("by hand"):
        hint = "M - flip(M) is (-1, 3, -3, 1): its squares add up to 20."
        what = "map_symmetry of a row (1, 3, 0, 2) of red"
        attempt.case(what, (small, False), hint, expected=torch.tensor(20.0))
    sizes = (2, 3, 4, 6), (3, 3, 5, 5), (1, 3, 7, 3), (2, 3, 1, 4), (2, 3, 4, 1), (1, 3, 1, 1)
    for displacement in (False, True):
        with attempt.part("displacements" if displacement else "textures"):
            for shape in sizes:
                m = normal(*shape, seed=sum(shape))
                what = f"map_symmetry of a map {shape}, displacement={displacement}"
                attempt.case(what, (m, displacement), picture=partial(_two_maps, m, displacement))
                attempt.gradients(what, {"offset_map": m}, displacement)
            m = normal(2, 3, 4, 6, seed=8)
            what = f"map_symmetry of a map that is its own mirror image, {displacement=}"
            mirrored = m + m.flip(-1) * m.new_tensor([1 - 2 * displacement, 1, 1])[:, None, None]
            attempt.gradients(what, {"offset_map": mirrored}, displacement)
    with attempt.part("a face that widens"):
        what = "map_symmetry of a face that widens on both sides"
        hint = "Left goes left and right goes right: that is symmetric, and costs nothing."
        picture, none = partial(_two_maps, widening, True), torch.tensor(0.0)
        attempt.case(what, (widening, True), hint, expected=none, picture=picture)
    m, tiny = normal(2, 3, 4, 6, seed=8), 1e-3 * normal(2, 3, 5, 5, seed=9)
    with attempt.part("magnitudes, layouts and dtypes"):
        for displacement in (False, True):
            for words, inputs in {
                "another map of a size as before": m,
                "a map that is not contiguous": strided(m)[0],
                "a map of 224 by 224, in mm": 2 * normal(1, 3, 224, 224, seed=10),
                "a map of thousandths": tiny,
            }.items():
                what = f"map_symmetry of {words}, {displacement=}"
                attempt.case(what, (inputs, displacement), atol=1e-9)
            what = f"map_symmetry in float64, {displacement=}"
            attempt.case(what, (m.double(), displacement), rtol=1e-9)
    return "by hand, for textures and displacements, with its gradient"


def mesh_apart(
    other=lambda offsets, mirror: offsets[:, mirror],
    signs=(-1.0, 1.0, 1.0),
    end=lambda apart, mirror: apart.square().sum(-1).mean(),
):
    """Eq. 9 between mirror vertices; each part can be exchanged for a mistake."""

    def mesh_symmetry(offsets, mirror, displacement):
        factors = offsets.new_tensor(signs if displacement else (1.0, 1.0, 1.0))
        return end(offsets - other(offsets, mirror) * factors, mirror)

    return mesh_symmetry


@exercise_check(
    stand_in=losses.mesh_symmetry_loss,
    points=2,
    mistakes={
        "That is the sum over the vertices; their mean is asked for.": mesh_apart(
            end=lambda d, mirror: d.square().sum((1, 2)).mean()
        ),
        "That averages over x, y, z as well: a squared length adds them up.": mesh_apart(
            end=lambda d, mirror: d.square().mean()
        ),
        "The sign of x is as in the mirror there, but this is a texture.": lambda o, m, d: (
            losses.mesh_symmetry_loss(o, m, True)
        ),
        "x keeps its sign there: a displacement to the right is one to the left in a "
        "mirror.": mesh_apart(signs=(1.0, 1.0, 1.0)),
        "The middle does not count there; the mean is over all vertices.": mesh_apart(
            end=lambda d, mirror: d[:, mirror != torch.arange(len(mirror))].square().sum(-1).mean()
        ),
        "The vertices are in no order: mirror[i] says which one lies opposite i.": mesh_apart(
            lambda offsets, mirror: offsets.flip(1)
        ),
        "That is the sum over the faces; their mean is asked for.": mesh_apart(
            end=lambda d, mirror: d.square().sum(-1).mean(1).sum()
        ),
    },
)
def mesh_symmetry(attempt):
    with attempt.part("by hand"):
        # Three vertices: 0 and 1 are each other's mirror, 2 lies in the middle.
        mirror = torch.tensor([1, 0, 2])
        offsets = torch.tensor([[[0.1, 0.0, 0.2], [0.1, 0.0, 0.0], [0.3, 0.0, 0.0]]])
        # texture: (0, 0, 0.2) twice, nothing; displacement: (0.2, 0, 0.2) twice, (0.6, 0, 0)
        for displacement, expected in ((False, 0.08 / 3), (True, (0.16 + 0.36) / 3)):
            what = f"mesh_symmetry of three vertices, displacement={displacement}"
            attempt.case(what, (offsets, mirror, displacement), expected=torch.tensor(expected))
    for displacement in (False, True):
        with attempt.part("displacements" if displacement else "textures"):
            for batch, half, middle, seed in ((2, 5, 3, 1), (1, 8, 0, 2), (4, 3, 4, 3)):
                count = 2 * half + middle
                order, mirror = torch.randperm(count, generator=seeded(seed)), torch.arange(count)
                one, other = order[:half], order[half : 2 * half]
                mirror[one], mirror[other] = other, one
                offsets = normal(batch, count, 3, seed=seed + 7)
                what = f"mesh_symmetry of {batch} faces of {count} vertices, {displacement=}"
                attempt.case(what, (offsets, mirror, displacement))
                attempt.gradients(what, {"offsets": offsets}, mirror, displacement)
    offsets, mirror = normal(2, 13, 3, seed=8), torch.arange(13).flip(0)
    middle = torch.arange(13)
    with attempt.part("edges, magnitudes, layouts and dtypes"):
        for displacement in (False, True):
            for words, *inputs in (
                ("with another mirror", offsets, mirror),
                ("with other offsets", 3 * offsets + 1, mirror),
                ("all on the middle line", offsets, middle),
                ("of one vertex", offsets[:, :1], middle[:1]),
                ("not contiguous", *strided(offsets), mirror),
                ("of thousandths", 1e-3 * offsets, mirror),
            ):
                what = f"mesh_symmetry of 2 faces, {words}, {displacement=}"
                attempt.case(what, (*inputs, displacement), atol=1e-10)
            what = f"mesh_symmetry in float64, {displacement=}"
            attempt.case(what, (offsets.double(), mirror, displacement), rtol=1e-9)
            what = f"mesh_symmetry of offsets that are symmetric, {displacement=}"
            even = offsets + offsets[:, mirror] * offsets.new_tensor([1 - 2 * displacement, 1, 1])
            attempt.gradients(what, {"offsets": even}, mirror, displacement)
    return "by hand, and for mirrors in any order, with its gradient"


def squares(difference: Tensor) -> Tensor:
    return difference.square().sum(-1)


def over_rings(
    cost=squares,
    ends=(0, 1),
    mean=lambda total, neighbours: total / neighbours.clamp(min=1),
    over=torch.mean,
):
    """As `losses.smoothness_loss`, from the pairs of neighbours; each part can be exchanged.

    cost: of a difference between neighbours. ends: at which of its ends a pair counts. mean: of a
    ring's total. over: the vertices and the batch.
    """

    def ring_smoothness(values, pairs):
        i, j = pairs.T
        apart, total = cost(values[:, i] - values[:, j]), values.new_zeros(values.shape[:2])
        for end in ends:
            total = total.index_add(1, pairs[:, end], apart)
        return over(mean(total, torch.bincount(pairs.reshape(-1), minlength=values.shape[1])))

    return ring_smoothness


def _to_mean_neighbour(values, pairs):
    sums, (i, j) = torch.zeros_like(values), pairs.T
    sums = sums.index_add(1, i, values[:, j]).index_add(1, j, values[:, i])
    neighbours = torch.bincount(pairs.reshape(-1), minlength=values.shape[1])[:, None]
    return squares(values - torch.where(neighbours > 0, sums / neighbours, values)).mean()


def rings_of_first_ends(least: int = 1):
    """Sums and numbers of neighbours at the first end of each pair alone."""

    def ring_smoothness(values, pairs):
        i, j = pairs.T
        total = values.new_zeros(values.shape[:2]).index_add(
            1, i, squares(values[:, i] - values[:, j])
        )
        return (total / torch.bincount(i, minlength=values.shape[1]).clamp(min=least)).mean()

    return ring_smoothness


@exercise_check(
    stand_in=over_rings(),
    points=2,
    mistakes={
        "That is the mean over all edges: a vertex with many neighbours counts more there. Average"
        " over each vertex' own ring first, then over the "
        "vertices.": lambda v, pairs: squares(v[:, pairs[:, 0]] - v[:, pairs[:, 1]]).mean(),
        "That adds up each ring: the mean over the ring is missing (1 / e(i)).": over_rings(
            mean=lambda total, neighbours: total
        ),
        "Each pair counts at its first vertex only there; it belongs to the ring of the second as "
        "well.": (over_rings(ends=(0,)), rings_of_first_ends()),
        "That is the sum over the vertices; their mean is asked for (1 / L).": over_rings(
            over=lambda x: x.sum(1).mean()
        ),
        "That averages over the channels as well; a squared length adds them up.": over_rings(
            lambda difference: difference.square().mean(-1)
        ),
        "That is the squared distance to the mean of the neighbours; Eq. 10 has the mean of the "
        "squared distances.": _to_mean_neighbour,
        "That is the sum over the batch; its mean is asked for.": over_rings(
            over=lambda x: x.mean(1).sum()
        ),
        "A vertex without neighbours adds nothing; beware of 0 / 0.": over_rings(mean=torch.div),
        "A vertex without neighbours adds 0, and still counts among the L vertices.": over_rings(
            mean=lambda t, n: t[:, n > 0] / n[n > 0]
        ),
    },
)
def ring_smoothness(attempt):
    with attempt.part("by hand"):
        # Two triangles, 0-1-2 and 0-2-3: vertices 1 and 3 have two neighbours, 0 and 2 three.
        pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
        values = torch.tensor([[[0.0], [1.0], [0.0], [3.0]]])
        # rings: 0: (1 + 0 + 9) / 3; 1: (1 + 1) / 2; 2: (1 + 0 + 9) / 3; 3: (9 + 9) / 2
        what = "ring_smoothness of two triangles with the values 0, 1, 0, 3"
        hint = "The four rings have the means 10/3, 1, 10/3 and 9."
        expected = torch.tensor((10 / 3 + 1 + 10 / 3 + 9) / 4)
        attempt.case(what, (values, pairs), hint, expected=expected)
    with attempt.part("strips, and their gradients"):
        for count, batch, channels, seed in ((4, 2, 3, 1), (9, 3, 3, 2), (17, 1, 2, 3)):
            vertices, faces = _strip(count, seed)
            pairs = edges(faces)
            order = torch.randperm(len(pairs), generator=seeded(seed))
            pairs = torch.cat([pairs[order[::2]].flip(1), pairs[order[1::2]]])
            values = normal(batch, len(vertices), channels, seed=seed + 3)
            words = f"{batch} strips of {len(faces)} triangles, {channels} channels"
            attempt.case(f"ring_smoothness of {words}", (values, pairs))
            attempt.gradients(f"ring_smoothness of {words}", {"values": values}, pairs)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]])  # vertex 4 has no neighbour
    values, path = normal(2, 5, 3, seed=6), torch.tensor([[1, 0], [3, 4], [4, 1], [0, 2], [1, 3]])
    equal = torch.full((2, 5, 3), 4.2)
    with attempt.part("a vertex without neighbours"):
        what = "ring_smoothness of equal values, one vertex alone"
        attempt.case(what, (equal, pairs), expected=torch.tensor(0.0), atol=1e-6)
        attempt.case("ring_smoothness with one vertex alone", (values, pairs), atol=1e-9)
        inputs = values, pairs.flip(0) % 4 + 1
        attempt.case("ring_smoothness with the first vertex alone", inputs, atol=1e-9)
        for words, at in (("with one vertex alone", values), ("of equal values", equal)):
            attempt.gradients(f"ring_smoothness {words}", {"values": at}, pairs)
    with attempt.part("magnitudes, layouts and dtypes"):
        for words, *inputs in (
            ("with one vertex alone", values, pairs),
            ("with other pairs of the same vertices", values, path),
            ("with other values", 2 * values - 1, path),
            ("of a single pair", values, pairs[:1]),
            ("not contiguous", *strided(values), pairs.T.contiguous().T),
            ("of thousandths", 1e-3 * values, path),
            ("of positions in mm", 100 + values, path),
        ):
            attempt.case(f"ring_smoothness {words}", tuple(inputs), atol=1e-9)
        attempt.case("ring_smoothness in float64", (values.double(), pairs), rtol=1e-9)
    return "by hand, for three meshes, with its gradient, and with a vertex alone"


def pull(
    wanted=lambda maps: [m.detach().requires_grad_() for m in maps],
    term_of=lambda term, maps: term(*maps),
    end=lambda pulls: sum(p.square().sum() for p in pulls).sqrt(),
):
    """`unet_fit.gradient_length`; each part can be exchanged for a mistake."""

    def gradient_length(term, maps):
        maps = wanted(maps)
        with torch.enable_grad():
            value = term_of(term, maps)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return maps[0].new_zeros(())
        return end(torch.autograd.grad(value, maps, allow_unused=True, materialize_grads=True))

    return gradient_length


def _value(term, maps):
    return term(*maps)


@exercise_check(
    stand_in=gradient_length_of,
    mistakes={
        "That is the term's value; how hard it pulls is the length of its gradient.": _value,
        "That is the square of the length; take the root.": pull(
            end=lambda pulls: sum(p.square().sum() for p in pulls)
        ),
        "That adds up the lengths of the maps' gradients; all their numbers belong to one "
        "vector.": pull(end=lambda pulls: sum(p.norm() for p in pulls)),
        "That adds up absolute values; the length is the root of the sum of squares.": pull(
            end=lambda pulls: sum(p.abs().sum() for p in pulls)
        ),
        "That is a mean over the numbers of the maps; the length adds their squares up.": pull(
            end=lambda pulls: torch.cat([p.flatten() for p in pulls]).square().mean().sqrt()
        ),
        "That is the gradient of the first map alone.": pull(end=lambda pulls: pulls[0].norm()),
        "That is the largest number of the gradient, not its length.": pull(
            end=lambda pulls: max(p.abs().max() for p in pulls)
        ),
    },
    points=2,
)
def gradient_length(attempt):
    maps = [normal(1, 3, 2, 2, seed=1), normal(1, 3, 2, 2, seed=2)]
    with attempt.part("by hand"):
        ones = [torch.ones(2), torch.ones(1)]
        what, hint = (
            "gradient_length of 2 a₁ + 2 a₂ + b",
            "The gradient is (2, 2, 1): it is 3 long.",
        )
        term = (lambda a, b: 2 * a.sum() + b.sum(), ones)
        attempt.case(what, term, hint, expected=torch.tensor(3.0))
        what, hint = "gradient_length of 10⁴ + 0.01 b", "A large value, and a gradient of 0.01."
        inputs = (lambda a, b: 1e4 + 0.01 * b.sum() + 0 * a.sum(), ones)
        attempt.case(what, inputs, hint, expected=torch.tensor(0.01), atol=1e-7)
    terms = {
        "of Eq. 8": lambda a, b: a.square().sum() + b.square().sum(),
        "of a mean": lambda a, b: (a * b).mean(),
        "of a cubic": lambda a, b: (a**3).sum() + 0.1 * (b**4).sum(),
    }
    with attempt.part("terms of two maps"):
        for words, term in terms.items():
            attempt.case(f"gradient_length {words}", (term, maps))
        larger = [normal(2, 3, 5, 4, seed=3), normal(2, 3, 5, 4, seed=4)]
        attempt.case("gradient_length of other maps", (terms["of Eq. 8"], larger))
        three = [*maps, normal(1, 3, 4, 4, seed=5)]
        attempt.case("gradient_length with three maps", (lambda *m: (m[2] ** 2).sum(), three))
        attempt.case("gradient_length with one map", (lambda a: (a**2).sum(), maps[1:]))
        crop = [0.2 * normal(1, 3, 224, 224, seed=6), 3 * normal(1, 3, 224, 224, seed=7)]
        attempt.case("gradient_length of maps of 224 by 224", (terms["of Eq. 8"], crop))
    none = torch.zeros(())
    with attempt.part("terms that do not pull"):
        attempt.case("gradient_length where a term ignores a map", (lambda a, b: b.sum(), maps))
        zeros, what = [0 * m for m in maps], "gradient_length of Eq. 8 of maps that are zero"
        attempt.case(what, (terms["of Eq. 8"], zeros), expected=none)
        constant = (lambda a, b: torch.tensor(7.0), maps)
        hint = "A term that does not depend on the maps pulls at nothing: its length is 0."
        attempt.case("gradient_length of a constant", constant, hint, expected=none)
        other = torch.ones(2, requires_grad=True)
        hint = "It depends on another parameter, and not on the maps: its length is 0."
        what = "gradient_length of a term of something else"
        attempt.case(what, (lambda a, b: other.square().sum(), maps), hint, expected=none)
    with attempt.part("maps of any kind"):
        double = [m.double() for m in maps]
        attempt.case("gradient_length in float64", (terms["of a cubic"], double), rtol=1e-9)
        layouts = (terms["of a cubic"], [*strided(*maps)])
        attempt.case("gradient_length of maps that are not contiguous", layouts)
        tiny = (lambda a, b: 1e-6 * (a.sum() + b.sum()), maps)
        attempt.case("gradient_length of a weak term", tiny, atol=1e-9)
        leaves = [m.clone().requires_grad_() for m in maps]
        got = attempt.through(
            lambda function: function(terms["of Eq. 8"], leaves),
            "gradient_length of maps that need gradients already",
        )
        attempt.close("gradient_length of such maps", got, pull()(terms["of Eq. 8"], leaves))
        if any(leaf.grad is not None for leaf in leaves):
            raise Wrong(
                "It leaves gradients in the maps' .grad, which an optimizer would add to its own. "
                "torch.autograd.grad returns them instead."
            )
    return "by hand, for terms of two maps, and for terms that do not pull"


def summed(
    asked=lambda weight: weight != 0,
    part=lambda weight, value: weight * value,
    end=lambda total, weights: total,
):
    """Eq. 12's sum; each part can be exchanged for a mistake."""

    def weighted_sum(terms, weights):
        unknown = [name for name in weights if name not in terms]
        if unknown:
            raise KeyError(f"no term is called {unknown[0]!r}")
        parts = [part(weight, terms[name]()) for name, weight in weights.items() if asked(weight)]
        return end(sum(parts, start=torch.zeros(())), weights)

    return weighted_sum


@exercise_check(
    stand_in=summed(),
    mistakes={
        "The weights are missing in the sum.": summed(part=lambda weight, value: value),
        "Terms without a weight are in the sum.": lambda t, w: summed()(
            t, dict.fromkeys(t, 1.0) | w
        ),
        "That divides by the sum of the weights; Eq. 12 does not.": summed(
            end=lambda total, weights: total / max(sum(weights.values()), 1e-9)
        ),
        "That divides by the number of terms; Eq. 12 does not.": summed(
            end=lambda total, weights: total / max(len(weights), 1)
        ),
        "That divides by the weights.": summed(part=lambda weight, value: value / weight),
    },
    points=2,
)
def weighted_sum(attempt):
    values = {"pixel": 2.0, "landmark": 3.0, "size": 5.0, "smooth": 7.0}

    def terms(scale=1.0, dtype=torch.float32):
        numbers = {name: torch.tensor(scale * v, dtype=dtype) for name, v in values.items()}
        return {name: lambda number=number: number for name, number in numbers.items()}

    weights = {"pixel": 1.0, "landmark": 10.0, "size": 0.1}
    with attempt.part("by hand"):
        what, hint = "weighted_sum of 2, 3 and 5 at 1, 10 and 0.1", "2 + 30 + 0.5 is 32.5."
        attempt.case(what, (terms(), weights), hint, expected=torch.tensor(32.5))
        report = {"pixel": 1.0, "landmark": 1.0, "size": 1e-4, "smooth": 0.08}
        attempt.case("weighted_sum with the report's weights", (terms(40.0), report))
        large = {"pixel": partial(torch.tensor, 2.0), "size": partial(torch.tensor, 5e4)}
        attempt.case("weighted_sum of 2 and 50,000", (large, {"pixel": 1.0, "size": 1e-4}))
        attempt.case("weighted_sum of one term", (terms(), {"smooth": 0.5}))
        attempt.case("weighted_sum with a weight below 0", (terms(), {"size": -1.0, "pixel": 2.0}))
    with attempt.part("weights of 0, and none"):
        asked = []

        def told(name):
            return lambda: asked.append(name) or torch.tensor(float("inf"))

        heavy = {"pixel": lambda: torch.tensor(2.0), "size": told("size"), "smooth": told("smooth")}
        got = attempt.trial("weighted_sum with a weight of 0")(heavy, {"pixel": 3.0, "size": 0.0})
        if asked:
            raise Wrong(
                f"It calls terms[{asked[0]!r}], which has no weight or one of 0: a rendering, or a "
                "network, would run for nothing, and 0 times infinity is no number."
            )
        attempt.close("weighted_sum with a weight of 0", got, torch.tensor(6.0))
        attempt.case("weighted_sum where all weights are 0", (terms(), {"pixel": 0.0}))
        attempt.case("weighted_sum without weights", (terms(), {}))
    with attempt.part("weights without a term"):
        attempt.case("weighted_sum of two terms", (terms(), {"size": 2.0, "smooth": 1.0}))
        done = attempt.instead_of_raising(KeyError, terms(), {"pixel": 1.0, "pixels": 0.0})
        if done:
            raise Wrong(
                f"For a weight of 0 whose name no term has it {done}: expected a KeyError, as for "
                "any other weight, since a slip of the pen would switch a term off without a word."
            )
    with attempt.part("gradients, dtypes, and terms asked once"):
        maps = normal(2, 3, seed=3)

        def call(function, m):
            named = {"pixel": lambda: (m**2).sum(), "size": lambda: m.abs().mean()}
            return function(named, {"pixel": 0.5, "size": 4.0})

        attempt.gradients("weighted_sum", {"maps": maps}, call=call)
        double = terms(1 / 3, torch.float64)
        attempt.case("weighted_sum in float64", (double, weights), rtol=1e-9)
        calls, words = [], "weighted_sum of a term that counts its calls"
        counting = {"pixel": lambda: calls.append(1) or torch.tensor(2.0)}
        attempt.trial(words)(counting, {"pixel": 1.0})
        if len(calls) > 1:
            raise Wrong("It calls the same term more than once: keep its value.")
        attempt.case("weighted_sum again", (terms(3.0), weights))
    return "by hand, with weights of 0 and names that no term has, and its gradients"


def settled(
    ring=lambda degrees, i, j: 1 / degrees[i] + 1 / degrees[j],
    scale=lambda strength, batch: strength,
    solve=spsolve,
):
    """The minimiser; each part can be exchanged for a mistake.

    ring: how much a pair counts, of the numbers of neighbours of its ends.
    """

    def smoothed_at_once(offsets, pairs, strength):
        batch, count, channels = offsets.shape
        i, j = pairs.numpy().T
        degrees = np.bincount(pairs.reshape(-1).numpy(), minlength=count)
        each = ring(degrees, i, j)
        apart = coo_matrix((each, (i, j)), (count, count))
        apart = apart + apart.T
        laplacian = diags(np.asarray(apart.sum(1)).ravel()) - apart
        system = (identity(count) + scale(strength, batch) * laplacian).tocsc()
        columns = offsets.detach().double().movedim(1, 0).reshape(count, -1).numpy()
        moved = torch.from_numpy(solve(system, columns).reshape(count, batch, channels))
        return moved.movedim(0, 1).to(offsets.dtype)

    return smoothed_at_once


def _one_step(offsets, pairs, strength):
    x = offsets.detach().clone().requires_grad_()
    energy = strength * over_rings()(x, pairs) * x[..., 0].numel()
    return offsets - torch.autograd.grad(energy, x)[0] / 2


@exercise_check(
    stand_in=settled(),
    mistakes={
        "Each pair counts once there, at one end; Eq. 10 has it in both rings, by 1 / e(i) and "
        "1 / e(j).": settled(lambda degrees, i, j: 1 / degrees[i]),
        "Every pair counts alike there; Eq. 10 divides by the number of neighbours, e(i).": settled(
            lambda degrees, i, j: np.ones(len(i))
        ),
        "Every pair counts twice there, once per ring, without 1 / e(i).": settled(
            lambda degrees, i, j: np.full(len(i), 2.0)
        ),
        "That is one step downhill; where the energy is least, its gradient is 0.": _one_step,
        "The strength is doubled there. Both terms have the factor 2 in their gradients.": settled(
            scale=lambda strength, batch: 2 * strength
        ),
        "The strength is divided by the faces of the batch there; each face has its own "
        "minimum.": settled(scale=lambda strength, batch: strength / batch),
        "Those are the offsets as they came.": lambda offsets, pairs, strength: offsets,
    },
    atol=1e-4,
    rtol=1e-4,
    points=3,
    challenge=True,
)
def smoothed_at_once(attempt):
    with attempt.part("by hand"):
        path = torch.tensor([[0, 1], [1, 2]])
        values = torch.tensor([[[0.0], [3.0], [0.0]]])
        # Each pair counts 1 + 1/2. Ends: x0 + 3/2 (x0 - x1) = 0; middle: x1 - 3 + 3 (x1 - x0) = 0.
        hint = "The ends have one neighbour, the middle has two: each pair counts 1 + 1/2."
        expected = torch.tensor([[[9 / 11], [15 / 11], [9 / 11]]])
        what = "smoothed_at_once of a spike between two vertices"
        attempt.case(what, (values, path, 1.0), hint, expected=expected)
        values, expected = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[2 / 3], [1 / 3]]])
        hint = "Each pair counts 1 + 1 there; at 2/3 and 1/3 both gradients are 0."
        what = "smoothed_at_once of two vertices"
        attempt.case(what, (values, path[:1], 0.5), hint, expected=expected)
    strips = []
    for count, batch, channels, seed in ((6, 2, 3, 1), (15, 3, 2, 2), (40, 1, 3, 3)):
        pairs = edges(_strip(count, seed)[1])
        strips.append((normal(batch, 2 * count + 2, channels, seed=seed), pairs))
    with attempt.part("strips"):
        for values, pairs in strips:
            for strength in (0.1, 3.0, 100.0):
                what = f"smoothed_at_once of offsets {tuple(values.shape)}, strength {strength:g}"
                attempt.case(what, (values, pairs, strength))
    values, pairs = strips[0]
    with attempt.part("edges"):
        what = "smoothed_at_once with strength 0"
        attempt.case(what, (values, pairs, 0.0), expected=values)
        what = "smoothed_at_once with pairs the other way round, in another order"
        attempt.case(what, (values, pairs.flip(0, 1), 2.0))
        what, alone = "smoothed_at_once with a vertex that has no neighbour", pairs[pairs[:, 0] > 0]
        attempt.case(what, (values, alone, 2.0))
        first = pairs[pairs.amax(1) < values.shape[1] - 1]
        what = "smoothed_at_once where the last vertex has no neighbour"
        attempt.case(what, (values, first, 2.0))
        what = "smoothed_at_once with as many other pairs"
        attempt.case(what, (values, (pairs + 1) % values.shape[1], 2.0))
        even = torch.full_like(values, 1.5)
        what = "smoothed_at_once of offsets that are equal"
        attempt.case(what, (even, pairs, 50.0), expected=even)
    with attempt.part("magnitudes, layouts and dtypes"):
        vertices, faces = _strip(800, seed=5)
        many = 0.3 * normal(1, len(vertices), 3, seed=6)
        attempt.case("smoothed_at_once of 1,602 vertices", (many, edges(faces), 10.0))
        hundredths = 0.01 * values
        what = "smoothed_at_once of hundredths"
        attempt.case(what, (hundredths, pairs, 2.0), atol=1e-6)
        far = 100 + 10 * values
        attempt.case("smoothed_at_once of positions", (far, pairs, 2.0), atol=1e-2)
        attempt.case("smoothed_at_once of other values", (3 * values - 1, pairs, 2.0))
        inputs = *strided(values), pairs.T.contiguous().T, 2.0
        attempt.case("smoothed_at_once of offsets that are not contiguous", inputs)
        what = "smoothed_at_once in float64"
        attempt.case(what, (values.double(), pairs, 2.0), atol=1e-5)
    return "by hand, for strips at three strengths, and for vertices without neighbours"
