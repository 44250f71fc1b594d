"""Checks of notebook 08: flipped triangles, both symmetries of Eq. 9, smoothness over the ring."""

from functools import partial

import torch
from matplotlib.figure import Figure
from scipy.spatial import Delaunay
from torch import Tensor

from ...face.camera import axis_angle_to_matrix
from ...face.mesh import edges, face_normals
from ...fitting import losses
from ...pictures.sheets import gallery
from ..checks import exercise_check
from ..compare import normal, seeded, strided


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
    three = torch.stack([square, square, square]), torch.stack([square, pulled, square])
    hint = "The second face has one of its two triangles turned over, the others none."
    what = "flipped_share of a square, its corner pulled across"
    attempt.case(what, (*three, faces), hint, expected=torch.tensor([0.0, 50.0, 0.0]))
    # Turned, grown, moved: never flipped. A triangle that is turned by 80 degrees is not either.
    hint = "A triangle counts when its normal has turned by more than 90 degrees."
    for degrees, share in ((80.0, 0.0), (100.0, 100.0), (89.0, 0.0), (91.0, 100.0)):
        turn = axis_angle_to_matrix(torch.tensor([degrees, 0.0, 0.0]).deg2rad())
        what = f"flipped_share of a square that is turned by {degrees:.0f} degrees"
        inputs = square[None], 3 * square[None] @ turn.T + 5, faces
        attempt.case(what, inputs, hint, expected=torch.tensor([share]))
    to_y = [x[None][..., [2, 0, 1]] for x in (square, pulled)]
    what = "flipped_share of a square that does not face +z"
    attempt.case(what, (*to_y, faces), expected=torch.tensor([50.0]))
    what = "flipped_share where a triangle has no area"
    attempt.case(what, (square[None], line[None], faces), expected=torch.tensor([0.0]))
    attempt.case(f"{what} before", (line[None], square[None], faces), expected=torch.tensor([0.0]))
    both = square.clone()
    both[1], both[3] = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.0, 0.0]])
    hint = "One has no area and one is turned over: of two triangles one counts."
    what = "flipped_share where one triangle has no area and the other is turned over"
    attempt.case(what, (square[None], both[None], faces), hint, expected=torch.tensor([50.0]))
    what = "flipped_share of a single triangle"
    attempt.case(what, (square[None], pulled[None], faces[:1]), expected=torch.tensor([100.0]))
    for count, batch, seed in ((6, 3, 1), (15, 1, 2), (40, 4, 3)):
        vertices, faces = _strip(count, seed)
        before = vertices + 0.1 * normal(batch, *vertices.shape, seed=seed + 5)
        after = before + 0.45 * normal(batch, *vertices.shape, seed=seed + 9)
        what = f"flipped_share of {batch} noisy strips of {2 * count} triangles"
        attempt.case(what, (before, after, faces))
    before = before.flip(0)
    for words, some in (("all", faces), ("the first 40", faces[:40]), ("the last 40", faces[-40:])):
        what = f"flipped_share of {words} triangles of these strips, before exchanged"
        attempt.case(what, (before, after, some))
    layout = *strided(before, after), faces
    attempt.case("flipped_share of vertices that are not contiguous", layout)
    # The notebook's magnitudes: triangles of 0.1 and of 4 mm, and thousands of them.
    vertices, faces = _strip(1000, seed=4)
    before = vertices + 0.1 * normal(1, *vertices.shape, seed=5)
    after = before + 0.45 * normal(1, *vertices.shape, seed=7)
    for mm in (0.1, 4.0):
        what = f"flipped_share of 2,000 triangles of {mm:g} mm"
        attempt.case(what, (mm * before, mm * after, faces))
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
        "The flip is right, but x keeps its sign: in the mirror, right becomes left.": map_apart(
            signs=(1.0, 1.0, 1.0)
        ),
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
    hint = "M - flip(M) is (-1, 3, -3, 1): its squares add up to 20."
    what = "map_symmetry of a row (1, 3, 0, 2) of red"
    attempt.case(what, (small, False), hint, expected=torch.tensor(20.0))
    sizes = (2, 3, 4, 6), (3, 3, 5, 5), (1, 3, 7, 3), (2, 3, 1, 4), (2, 3, 4, 1), (1, 3, 1, 1)
    for shape in sizes:
        m = normal(*shape, seed=sum(shape))
        for displacement in (False, True):
            what = f"map_symmetry of a map {shape}, displacement={displacement}"
            attempt.case(what, (m, displacement), picture=partial(_two_maps, m, displacement))
            attempt.gradients(what, {"offset_map": m}, displacement)
    widening = torch.zeros(2, 3, 2, 4)
    widening[:, 0] = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    what = "map_symmetry of a face that widens on both sides"
    hint = "Left goes left and right goes right: that is symmetric, and costs nothing."
    picture = partial(_two_maps, widening, True)
    attempt.case(what, (widening, True), hint, expected=torch.tensor(0.0), picture=picture)
    m = normal(2, 3, 4, 6, seed=8)
    tiny, crop = 1e-3 * normal(2, 3, 5, 5, seed=9), 2 * normal(1, 3, 224, 224, seed=10)
    for displacement in (False, True):
        for words, inputs in {
            "another map of a size as before": m,
            "a map that is not contiguous": strided(m)[0],
            "a map of 224 by 224, in mm": crop,
            "a map of thousandths": tiny,
        }.items():
            what = f"map_symmetry of {words}, {displacement=}"
            attempt.case(what, (inputs, displacement), atol=1e-9)
        what = f"map_symmetry in float64, {displacement=}"
        attempt.case(what, (m.double(), displacement), rtol=1e-9)
        what = f"map_symmetry of a map that is its own mirror image, {displacement=}"
        mirrored = m + m.flip(-1) * m.new_tensor([1 - 2 * displacement, 1, 1])[:, None, None]
        attempt.gradients(what, {"offset_map": mirrored}, displacement)
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
    # Three vertices: 0 and 1 are each other's mirror, 2 lies in the middle.
    mirror = torch.tensor([1, 0, 2])
    offsets = torch.tensor([[[0.1, 0.0, 0.2], [0.1, 0.0, 0.0], [0.3, 0.0, 0.0]]])
    # texture: (0, 0, 0.2) twice, nothing: 0.08 / 3. displacement: (0.2, 0, 0.2) twice, (0.6, 0, 0)
    for displacement, expected in ((False, 0.08 / 3), (True, (0.16 + 0.36) / 3)):
        what = f"mesh_symmetry of three vertices, displacement={displacement}"
        attempt.case(what, (offsets, mirror, displacement), expected=torch.tensor(expected))
    for batch, half, middle, seed in ((2, 5, 3, 1), (1, 8, 0, 2), (4, 3, 4, 3)):
        count = 2 * half + middle
        order, mirror = torch.randperm(count, generator=seeded(seed)), torch.arange(count)
        one, other = order[:half], order[half : 2 * half]
        mirror[one], mirror[other] = other, one
        offsets = normal(batch, count, 3, seed=seed + 7)
        for displacement in (False, True):
            what = f"mesh_symmetry of {batch} faces of {count} vertices, {displacement=}"
            attempt.case(what, (offsets, mirror, displacement))
            attempt.gradients(what, {"offsets": offsets}, mirror, displacement)
    offsets, mirror = normal(2, 13, 3, seed=8), torch.arange(13).flip(0)
    middle = torch.arange(13)
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


@exercise_check(
    stand_in=over_rings(),
    mistakes={
        "That is the mean over all edges: a vertex with many neighbours counts more there. Average"
        " over each vertex' own ring first, then over the "
        "vertices.": lambda v, pairs: squares(v[:, pairs[:, 0]] - v[:, pairs[:, 1]]).mean(),
        "That adds up each ring: the mean over the ring is missing (1 / e(i)).": over_rings(
            mean=lambda total, neighbours: total
        ),
        "Each pair counts at its first vertex only there; it belongs to the ring of the second as "
        "well.": over_rings(ends=(0,)),
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
    # Two triangles, 0-1-2 and 0-2-3: vertices 1 and 3 have two neighbours, 0 and 2 three.
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
    values = torch.tensor([[[0.0], [1.0], [0.0], [3.0]]])
    # rings: 0: (1 + 0 + 9) / 3; 1: (1 + 1) / 2; 2: (1 + 0 + 9) / 3; 3: (9 + 9) / 2
    what = "ring_smoothness of two triangles with the values 0, 1, 0, 3"
    hint = "The four rings have the means 10/3, 1, 10/3 and 9."
    expected = torch.tensor((10 / 3 + 1 + 10 / 3 + 9) / 4)
    attempt.case(what, (values, pairs), hint, expected=expected)
    for count, batch, channels, seed in ((4, 2, 3, 1), (9, 3, 3, 2), (17, 1, 2, 3)):
        vertices, faces = _strip(count, seed)
        pairs = edges(faces)
        order = torch.randperm(len(pairs), generator=seeded(seed))
        pairs = torch.cat([pairs[order[::2]].flip(1), pairs[order[1::2]]])
        values = normal(batch, len(vertices), channels, seed=seed + 3)
        what = f"ring_smoothness of {batch} strips of {len(faces)} triangles, {channels} channels"
        attempt.case(what, (values, pairs))
        attempt.gradients(what, {"values": values}, pairs)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]])  # vertex 4 has no neighbour
    what, equal = "ring_smoothness of equal values, one vertex alone", torch.full((2, 5, 3), 4.2)
    attempt.case(what, (equal, pairs), expected=torch.tensor(0.0), atol=1e-6)
    values, path = normal(2, 5, 3, seed=6), torch.tensor([[1, 0], [3, 4], [4, 1], [0, 2], [1, 3]])
    for words, *inputs in (
        ("with one vertex alone", values, pairs),
        ("with other pairs of the same vertices", values, path),
        ("with other values", 2 * values - 1, path),
        ("with the first vertex alone", values, pairs.flip(0) % 4 + 1),
        ("of a single pair", values, pairs[:1]),
        ("not contiguous", *strided(values), pairs.T.contiguous().T),
        ("of thousandths", 1e-3 * values, path),
        ("of positions in mm", 100 + values, path),
    ):
        attempt.case(f"ring_smoothness {words}", tuple(inputs), atol=1e-9)
    for words, at in (("with one vertex alone", values), ("of equal values", equal)):
        attempt.gradients(f"ring_smoothness {words}", {"values": at}, pairs)
    attempt.case("ring_smoothness in float64", (values.double(), pairs), rtol=1e-9)
    return "by hand, for three meshes, with its gradient, and with a vertex alone"
