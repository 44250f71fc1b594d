"""Checks of notebook 09: gains by group, skin tone, where a displacement is, a texture offset."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...face.colour import ita_degrees, srgb_to_lab
from ..checks import exercise_check
from ..compare import drawn_together, normal, seeded, strided, uniform


def gains(of_group=lambda before, after: 1 - after.mean() / before.mean(), empty=torch.nan):
    """A number for each group: of_group of the errors of its faces, empty where it has none."""

    def gain_by_group(before, after, groups, count):
        numbers = torch.full((count,), empty, dtype=before.dtype)
        for g in groups.unique().tolist():
            numbers[g] = of_group(before[groups == g], after[groups == g])
        return numbers

    return gain_by_group


def _gains_of_mean_error(before, after, groups, count):
    of_group = gains(lambda b, a: (b.mean() - a.mean()) / before.mean())
    return of_group(before, after, groups, count)


def _gains_without_gaps(*arguments):
    numbers = gains()(*arguments)
    return numbers[~numbers.isnan()]


@exercise_check(
    stand_in=gains(),
    mistakes={
        "Of a group without a face nothing is known: NaN.": gains(empty=0.0),
        "A group without a face keeps its place: NaN. A table whose columns shift when somebody "
        "is missing is worse than one with a gap.": _gains_without_gaps,
        "That is the mean of each face's own ratio: one face with next to no error before "
        "decides all. The exercise wants the ratio "
        "of the two means.": gains(lambda b, a: (1 - a / b).mean()),
        "That is what remains. What is gone is 1 minus it.": gains(
            lambda b, a: a.mean() / b.mean()
        ),
        "That is the difference of the means, in colour; the gain is a share of the error "
        "before.": gains(lambda b, a: b.mean() - a.mean()),
        "The sign is the other way round: a smaller error is a gain above 0.": gains(
            lambda b, a: a.mean() / b.mean() - 1
        ),
        "It is divided by the error after there; the share is of the error before.": gains(
            lambda b, a: b.mean() / a.mean() - 1
        ),
        "Those are medians; here it is means, so that no face can be left out.": gains(
            lambda b, a: 1 - a.median() / b.median()
        ),
        "It is divided by the mean error of all faces; "
        "each group has its own.": _gains_of_mean_error,
    },
    axes=("group",),
)
def gain_by_group(attempt):
    before, after = torch.tensor([[0.4, 0.2, 0.1, 0.3], [0.1, 0.2, 0.2, 0.3]])
    what = "gain_by_group([.4, .2, .1, .3], [.1, .2, .2, .3], groups [2, 2, 0, 0], 3)"
    expected = torch.tensor([-0.25, torch.nan, 0.5])
    attempt.case(what, (before, after, torch.tensor([2, 2, 0, 0]), 3), expected=expected)
    for seed, faces, count in ((1, 30, 4), (2, 7, 6), (3, 1, 1), (4, 50, 5)):
        dtype = torch.float64 if seed == 4 else torch.float32
        before, after = uniform(2, faces, seed=seed, dtype=dtype)
        groups = torch.randint(0, count, (faces,), generator=seeded(seed))
        what = f"gain_by_group of {faces} faces in {count} groups"
        attempt.case(what, (0.05 + before, after, groups, count))
    before, after = 0.01 * (0.5 + uniform(2, 10, seed=5))  # as errors of pictures are
    pairs = torch.arange(10) // 2
    for words, *inputs in (
        ("in five pairs", before, after, pairs, 5),
        ("in other pairs", before, after, pairs.flip(0), 5),
        ("with other errors", after, before, pairs, 5),
        ("with nobody in the first two of seven groups", before, after, pairs + 2, 7),
        ("with nobody in the last two of seven groups", before, after, pairs, 7),
        ("with one face per group", before, after, torch.arange(10).roll(3), 10),
        ("in one group", before, after, 0 * pairs, 1),
        ("without an error after", before, 0 * after, pairs, 5),
        ("a hundred times worse after", before, 100 * after, pairs, 5),
        ("in float64", before.double(), after.double(), pairs, 6),
    ):
        attempt.case(f"gain_by_group of ten faces {words}", tuple(inputs))
    return "below 0 where a group is worse off than before"


def angle(height: Tensor, width: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(height, width))


def mean_colour(albedo: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, None] * albedo).sum(-2) / weights.sum()


def wrapped(degrees: Tensor) -> Tensor:
    return (degrees + 180) % 360 - 180


def bias(tone=lambda L, a, b: angle(L - 50, b), colour=mean_colour, end=wrapped):
    """ITA of the prediction minus the truth's; each part can be exchanged for a mistake."""

    def ita_bias(predicted, truth, weights, to_lab):
        one, other = (
            tone(*to_lab(colour(albedo, weights)).unbind(-1)) for albedo in (predicted, truth)
        )
        return end(one - other)

    return ita_bias


def _mean_bias_of_vertices(predicted, truth, weights, to_lab):
    each = bias(colour=lambda albedo, weights: albedo)(predicted, truth, weights, to_lab)
    return (weights * each).sum(-1) / weights.sum()


@exercise_check(
    stand_in=bias(),
    mistakes={
        "The sign is the other way round: predicted minus true, so that too light is above 0. And "
        "the height, L* - 50, comes first in atan2.": (
            bias(end=lambda degrees: -wrapped(degrees)),
            bias(lambda L, a, b: angle(b, L - 50)),
        ),
        "That is the mean of the vertices' angles. The angle is of the mean colour: average the "
        "skin first.": _mean_bias_of_vertices,
        "The weights are not used: hair, lips and eyes count there as if they were skin.": bias(
            colour=lambda albedo, weights: albedo.mean(-2)
        ),
        "L* is measured from 50, the middle grey.": bias(lambda L, a, b: angle(L, b)),
        "That takes a*, how red the skin is; ITA takes b*, how yellow.": bias(
            lambda L, a, b: angle(L - 50, a)
        ),
        "atan of the ratio folds bluish skin (b* < 0) onto the other side: torch.atan2 knows both "
        "signs.": bias(lambda L, a, b: torch.rad2deg(torch.atan((L - 50) / b))),
        "Those are radians; ITA is in degrees.": bias(end=lambda d: torch.deg2rad(wrapped(d))),
        "A difference of angles has to be brought back to -180 ... 180: from 170 to -170 degrees "
        "it is 20, not 340.": bias(end=lambda degrees: degrees),
        "The sign is lost there: a bias says in which direction.": bias(
            end=lambda degrees: wrapped(degrees).abs()
        ),
    },
    axes=("face",),
    atol=2e-3,
)
def ita_bias(attempt):
    pair = torch.tensor([[0.90, 0.78, 0.65], [0.30, 0.20, 0.15]])[:, None].expand(2, 3, 3)
    what = "ita_bias of a light skin taken for dark, and the other way round,"
    expected = ita_degrees(pair[:, 0]) - ita_degrees(pair.flip(0)[:, 0])
    attempt.case(what, (pair, pair.flip(0), torch.ones(3), srgb_to_lab), expected=expected)
    for seed, batch, count in ((1, 4, 30), (2, 1, 7), (3, 6, 50)):
        tone = torch.tensor([0.9, 0.6, 0.3, 0.15, 0.5, 0.75])[:batch, None, None]
        tint, noise = torch.tensor([1.0, 0.8, 0.65]), 0.1 * normal(2, batch, count, 3, seed=seed)
        predicted, truth = (tone * tint + noise[0]).clamp(0, 1), tone.flip(0) * tint + noise[1]
        weights = uniform(count, seed=seed) ** 3 * (2 + seed)
        weights[::4] = 0
        what = f"ita_bias of {batch} faces of {count} vertices"
        attempt.case(what, (predicted, truth.clamp(0), weights, srgb_to_lab))
    blue = torch.tensor([[0.10, 0.11, 0.20], [0.85, 0.86, 0.99], [0.20, 0.21, 0.35]])
    warm = torch.tensor([[0.90, 0.80, 0.60], [0.12, 0.10, 0.14], [0.85, 0.86, 0.99]])
    skins = (colours[:, None].expand(3, 4, 3) for colours in (blue, warm))
    weights = torch.tensor([1.0, 2, 0, 3])
    attempt.case("ita_bias of skins in a bluish tint", (*skins, weights, srgb_to_lab))

    def other_lab(colours):
        red, green, blue = colours.unbind(-1)
        return torch.stack([100 * green, 60 * (red - blue), 90 * (red - green)], -1)

    predicted, truth = uniform(2, 3, 9, 3, seed=4)
    surface = 195 * uniform(9, seed=5) ** 3  # mm²
    few = torch.tensor([0.0, 0, 2, 0, 1, 0, 0, 0, 0])
    for words, *inputs in (
        ("of vertices of up to 195 mm²", predicted, truth, surface, srgb_to_lab),
        ("of skins exchanged", truth, predicted, surface, srgb_to_lab),
        ("of other vertices", predicted, truth, few, srgb_to_lab),
        ("of weights that add up to 0.01", predicted, truth, few / 300, srgb_to_lab),
        ("of one vertex", predicted[:, :1], truth[:, :1], few[2:3], srgb_to_lab),
        ("by another to_lab", predicted, truth, surface, other_lab),
        ("of black", 0 * predicted, truth, surface, srgb_to_lab),
        ("beside white", predicted, 0 * truth + 1, surface, srgb_to_lab),
        ("not contiguous", *strided(predicted, truth), surface, srgb_to_lab),
        ("in float64", predicted.double(), truth.double(), surface.double(), srgb_to_lab),
    ):
        attempt.case(f"ita_bias {words}", tuple(inputs))
    return "above 0: the reconstruction is too light"


def share(numbers: Tensor) -> Tensor:
    return numbers / numbers.sum()


def _shares_of_first(got: Tensor, expected: Tensor) -> Figure:
    draw = drawn_together("shares of the first face", ("o", "x"), xlabel="area")
    return draw(got[0], expected[0])


def energy_shares(
    energy=lambda d, surface: d.square().sum(-1) * surface,
    whole=lambda of_area, of_vertex: of_area.sum(1, keepdim=True),
    size=lambda surface, areas: share(areas @ surface),
):
    """Shares of the energy and their density; each part can be exchanged for a mistake."""

    def energy_by_area(displacement, surface, areas):
        areas, of_vertex = areas.to(displacement.dtype), energy(displacement, surface)
        of_area = of_vertex @ areas.T
        shares = of_area / whole(of_area, of_vertex)
        return shares, shares / size(surface, areas)

    return energy_by_area


@exercise_check(
    stand_in=energy_shares(),
    mistakes={
        "That is of the displacement's length; energy is its square.": energy_shares(
            lambda d, surface: d.norm(dim=-1) * surface
        ),
        "Vertices are counted there, and not weighed by their surface: where the mesh is finer, "
        "it counts more.": energy_shares(lambda d, surface: d.square().sum(-1)),
        "The whole is over all vertices there; it is over those of the areas, or shares do not "
        "add up to 1.": energy_shares(whole=lambda o, of_vertex: of_vertex.sum(1, keepdim=True)),
        "The whole is of all faces together there; each face has its own.": energy_shares(
            whole=lambda of_area, of_vertex: of_area.sum()
        ),
        "The area's share of all surface belongs there, not its size in mm².": energy_shares(
            size=lambda surface, areas: areas @ surface
        ),
        "The share of the surface, not of the number of vertices.": energy_shares(
            size=lambda surface, areas: share(areas.sum(1))
        ),
        "The share of the surface is of the areas' surface, without the vertices that are in "
        "none.": energy_shares(size=lambda surface, areas: areas @ share(surface)),
    },
    axes=("face", "area"),
    parts={"the shares": dict(picture=_shares_of_first), "the density": {}},
)
def energy_by_area(attempt):
    displacement = torch.zeros(1, 4, 3)
    displacement[0, 0, 0], displacement[0, 1, 2], displacement[0, 3, 1] = 2.0, 1.0, 5.0
    areas = torch.tensor([[True, False, False, False], [False, True, True, False]])
    expected = torch.tensor([[0.5, 0.5]]), torch.tensor([[4.0, 4 / 7]])
    inputs = displacement, torch.tensor([1.0, 4.0, 3.0, 1.0]), areas
    what = "three vertices that move 2, 1 and 0 mm, and one of no area"
    attempt.case(what, inputs, expected=expected)
    for seed, batch, count, parts in ((1, 3, 40, 5), (2, 1, 12, 2), (3, 5, 60, 6)):
        displacement = normal(batch, count, 3, seed=seed)
        displacement *= 0.2 + uniform(batch, 1, 1, seed=seed) * 3
        surface = 0.1 + uniform(count, seed=seed + 3) * 4
        label = torch.arange(count) % (parts + 1)  # the last of them is in no area
        areas = torch.stack([label == i for i in range(parts)])
        attempt.case(f"{batch} faces in {parts} areas", (displacement, surface, areas))
    # The notebook's magnitudes: tenths of a millimetre, areas of unequal size, vertices of 0 mm².
    surface = (250 * uniform(60, seed=7) - 55).clamp(min=0)
    label = torch.bucketize(uniform(60, seed=8), torch.tensor([0.1, 0.2, 0.5, 0.6, 0.95]))
    areas = torch.stack([label == i for i in range(5)])
    moved = normal(3, 60, 3, seed=9) * torch.tensor([1e-3, 0.1, 5.0])[:, None, None]
    still = moved * ~areas[2][:, None]
    for words, *inputs in (
        ("that move by 0.001, 0.1 and 5 mm", moved, surface, areas),
        ("in other areas", moved, surface, areas.roll(7, 1)),
        ("of another surface", moved, surface.flip(0), areas),
        ("that move otherwise", moved.flip(0), surface, areas),
        ("that do not move in one area", still, surface, areas),
        ("in one area", moved, surface, areas[:1]),
        ("all of a surface of 0.001 mm²", moved, 1e-3 + 0 * surface, areas),
        ("not contiguous", *strided(moved), surface, *strided(areas)),
        ("in float64", moved.double(), surface.double(), areas),
    ):
        attempt.case(f"three faces {words}", tuple(inputs))
    return "shares add up to 1, and an even displacement has the density 1 everywhere"


def energy(offset: Tensor, surface: Tensor) -> Tensor:
    """For each face the mean of the squared lengths over the surface."""
    return (share(surface)[:, None] * offset.square()).sum((-2, -1))


def parts(
    even=lambda texture, surface: mean_colour(texture, surface),
    rest=lambda texture, even, surface: texture - even[:, None],
    share=lambda even, rest, texture, surface: even.square().sum(-1) / energy(texture, surface),
):
    """(even, rest, share); each can be exchanged for a mistake."""

    def even_and_rest(texture, surface):
        one = even(texture, surface)
        other = rest(texture, one, surface)
        return one, other, share(one, other, texture, surface)

    return even_and_rest


def share_of(whole):
    """The share where the energy of the whole is another: whole(texture, surface)."""
    return parts(share=lambda even, rest, t, surface: even.square().sum(-1) / whole(t, surface))


@exercise_check(
    stand_in=parts(),
    mistakes={
        "That is the mean over vertices, each counted alike, and the mesh is finer round the "
        "eyes; weigh by the surface.": parts(even=lambda t, surface: t.mean(-2)),
        "That is a weighted sum; a mean divides by the sum of the weights.": parts(
            even=lambda t, surface: (surface[:, None] * t).sum(-2)
        ),
        "The rest is what the even part leaves: texture minus even.": parts(
            rest=lambda t, even, surface: even[:, None] - t
        ),
        "The rest is weighed there; it is one offset per vertex, as it came.": (
            parts(rest=lambda t, even, surface: (t - even[:, None]) * surface[:, None]),
            parts(rest=lambda t, even, surface: (t - even[:, None]) * share(surface)[:, None]),
        ),
        "That is the share of the rest.": parts(
            share=lambda e, r, t, s: energy(r, s) / energy(t, s)
        ),
        "Those are lengths; energy is the square.": parts(
            share=lambda e, r, t, s: e.norm(dim=-1) / energy(t, s).sqrt()
        ),
        "It is divided by the energy of the rest; the share is of the whole offset.": parts(
            share=lambda e, r, t, s: e.square().sum(-1) / energy(r, s)
        ),
        "The energy of the whole is a sum over vertices there, and that of the even part is of "
        "one; weigh both by the surface.": share_of(lambda t, surface: t.square().sum((-2, -1))),
        "The energy of the whole leaves out the weights.": share_of(
            lambda t, surface: t.square().sum(-1).mean(-1)
        ),
        "Above, the three channels are averaged, below they are added up: do the same in "
        "both.": share_of(lambda t, surface: 3 * energy(t, surface)),
        "Each face has a whole of its own.": share_of(lambda t, surface: energy(t, surface).sum()),
    },
    parts={"even": {}, "rest": {}, "share": {}},
)
def even_and_rest(attempt):
    texture = torch.tensor([[[0.2, 0.0, 0.0], [-0.1, 0.0, 0.3], [0.9, 0.9, 0.9]]])
    attempt.case("two vertices of 1 and 3 mm²", (texture, torch.tensor([1.0, 3.0, 0.0])))
    for seed, batch, count in ((1, 3, 20), (2, 1, 50), (3, 6, 9)):
        texture = 0.1 * normal(batch, count, 3, seed=seed)
        texture += 0.15 * normal(batch, 1, 3, seed=seed + 3)
        surface = uniform(count, seed=seed) ** 2 * 5
        surface[::4] = 0
        attempt.case(f"{batch} faces of {count} vertices", (texture, surface))
    one = torch.tensor([[0.1, -0.2, 0.05]])[:, None].expand(1, 8, 3)
    attempt.case("an offset of one colour", (one, uniform(8, seed=9)))
    texture, surface = 0.1 * normal(3, 10, 3, seed=4) + 0.05, 195 * uniform(10, seed=5)
    none = torch.cat([texture[:, :5], -texture[:, :5]], 1)
    for words, *inputs in (
        ("of vertices of up to 195 mm²", texture, surface),
        ("of another surface", texture, surface.flip(0)),
        ("of another texture", texture.flip(0) - 0.1, surface),
        ("of a surface of 0.01 mm² in all", texture, 0.01 * surface / surface.sum()),
        ("of an offset of thousandths", 1e-3 * texture, surface),
        ("of an offset whose mean is 0", none, torch.ones(10)),
        ("of one vertex", texture[:, :1], surface[:1]),
        ("not contiguous", *strided(texture), surface),
        ("in float64", texture.double(), surface.double()),
    ):
        attempt.case(f"three faces {words}", tuple(inputs), atol=1e-7)
    return "even and rest add up to the offset, and their energies to its energy"
