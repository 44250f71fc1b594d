"""Checks of notebook 09: gains by group, skin tone, where a displacement is, offsets, luck."""

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
    points=2,
)
def gain_by_group(attempt):
    before, after = 0.01 * (0.5 + uniform(2, 10, seed=5))  # as errors of pictures are
    pairs = torch.arange(10) // 2
    with attempt.part("by hand"):
        four, less = torch.tensor([[0.4, 0.2, 0.1, 0.3], [0.1, 0.2, 0.2, 0.3]])
        what = "gain_by_group([.4, .2, .1, .3], [.1, .2, .2, .3], groups [2, 2, 0, 0], 3)"
        expected = torch.tensor([-0.25, torch.nan, 0.5])
        attempt.case(what, (four, less, torch.tensor([2, 2, 0, 0]), 3), expected=expected)
    with attempt.part("many faces"):
        for seed, faces, count in ((1, 30, 4), (2, 7, 6), (3, 1, 1), (4, 50, 5)):
            dtype = torch.float64 if seed == 4 else torch.float32
            one, other = uniform(2, faces, seed=seed, dtype=dtype)
            groups = torch.randint(0, count, (faces,), generator=seeded(seed))
            what = f"gain_by_group of {faces} faces in {count} groups"
            attempt.case(what, (0.05 + one, other, groups, count))
    with attempt.part("ten faces in groups of all kinds"):
        for words, *inputs in (
            ("in five pairs", before, after, pairs, 5),
            ("in other pairs", before, after, pairs.flip(0), 5),
            ("with other errors", after, before, pairs, 5),
            ("with nobody in the first two of seven groups", before, after, pairs + 2, 7),
            ("with nobody in the last two of seven groups", before, after, pairs, 7),
            ("with one face per group", before, after, torch.arange(10).roll(3), 10),
            ("in one group", before, after, 0 * pairs, 1),
        ):
            attempt.case(f"gain_by_group of ten faces {words}", tuple(inputs))
    with attempt.part("nothing left, much worse, float64"):
        for words, *inputs in (
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
    points=2,
)
def ita_bias(attempt):
    def other_lab(colours):
        red, green, blue = colours.unbind(-1)
        return torch.stack([100 * green, 60 * (red - blue), 90 * (red - green)], -1)

    predicted, truth = uniform(2, 3, 9, 3, seed=4)
    surface = 195 * uniform(9, seed=5) ** 3  # mm²
    few = torch.tensor([0.0, 0, 2, 0, 1, 0, 0, 0, 0])
    with attempt.part("a light and a dark skin"):
        pair = torch.tensor([[0.90, 0.78, 0.65], [0.30, 0.20, 0.15]])[:, None].expand(2, 3, 3)
        what = "ita_bias of a light skin taken for dark, and the other way round,"
        expected = ita_degrees(pair[:, 0]) - ita_degrees(pair.flip(0)[:, 0])
        attempt.case(what, (pair, pair.flip(0), torch.ones(3), srgb_to_lab), expected=expected)
    with attempt.part("faces of all tones, bluish ones too"):
        for seed, batch, count in ((1, 4, 30), (2, 1, 7), (3, 6, 50)):
            what = f"ita_bias of {batch} faces of {count} vertices"
            attempt.case(what, (*_skins(seed, batch, count), srgb_to_lab))
        blue = torch.tensor([[0.10, 0.11, 0.20], [0.85, 0.86, 0.99], [0.20, 0.21, 0.35]])
        warm = torch.tensor([[0.90, 0.80, 0.60], [0.12, 0.10, 0.14], [0.85, 0.86, 0.99]])
        skins = (colours[:, None].expand(3, 4, 3) for colours in (blue, warm))
        weights = torch.tensor([1.0, 2, 0, 3])
        attempt.case("ita_bias of skins in a bluish tint", (*skins, weights, srgb_to_lab))
    with attempt.part("weights"):
        for words, *inputs in (
            ("of vertices of up to 195 mm²", predicted, truth, surface, srgb_to_lab),
            ("of skins exchanged", truth, predicted, surface, srgb_to_lab),
            ("of other vertices", predicted, truth, few, srgb_to_lab),
            ("of weights that add up to 0.01", predicted, truth, few / 300, srgb_to_lab),
            ("of one vertex", predicted[:, :1], truth[:, :1], few[2:3], srgb_to_lab),
        ):
            attempt.case(f"ita_bias {words}", tuple(inputs))
    with attempt.part("edges and layouts"):
        for words, *inputs in (
            ("by another to_lab", predicted, truth, surface, other_lab),
            ("of black", 0 * predicted, truth, surface, srgb_to_lab),
            ("beside white", predicted, 0 * truth + 1, surface, srgb_to_lab),
            ("not contiguous", *strided(predicted, truth), surface, srgb_to_lab),
            ("in float64", predicted.double(), truth.double(), surface.double(), srgb_to_lab),
        ):
            attempt.case(f"ita_bias {words}", tuple(inputs))
    return "above 0: the reconstruction is too light"


def _skins(seed: int, batch: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and true albedo of faces of all tones, and weights, some of them 0."""
    tone = torch.tensor([0.9, 0.6, 0.3, 0.15, 0.5, 0.75])[:batch, None, None]
    tint, noise = torch.tensor([1.0, 0.8, 0.65]), 0.1 * normal(2, batch, count, 3, seed=seed)
    predicted, truth = (tone * tint + noise[0]).clamp(0, 1), tone.flip(0) * tint + noise[1]
    weights = uniform(count, seed=seed) ** 3 * (2 + seed)
    weights[::4] = 0
    return predicted, truth.clamp(0), weights


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
    points=3,
)
def energy_by_area(attempt):
    # The notebook's magnitudes: tenths of a millimetre, areas of unequal size, vertices of 0 mm².
    surface = (250 * uniform(60, seed=7) - 55).clamp(min=0)
    label = torch.bucketize(uniform(60, seed=8), torch.tensor([0.1, 0.2, 0.5, 0.6, 0.95]))
    areas = torch.stack([label == i for i in range(5)])
    moved = normal(3, 60, 3, seed=9) * torch.tensor([1e-3, 0.1, 5.0])[:, None, None]
    with attempt.part("by hand"):
        displacement = torch.zeros(1, 4, 3)
        displacement[0, 0, 0], displacement[0, 1, 2], displacement[0, 3, 1] = 2.0, 1.0, 5.0
        two = torch.tensor([[True, False, False, False], [False, True, True, False]])
        expected = torch.tensor([[0.5, 0.5]]), torch.tensor([[4.0, 4 / 7]])
        inputs = displacement, torch.tensor([1.0, 4.0, 3.0, 1.0]), two
        what = "three vertices that move 2, 1 and 0 mm, and one of no area"
        attempt.case(what, inputs, expected=expected)
    with attempt.part("batches"):
        for seed, batch, count, parts in ((1, 3, 40, 5), (2, 1, 12, 2), (3, 5, 60, 6)):
            displacement = normal(batch, count, 3, seed=seed)
            displacement *= 0.2 + uniform(batch, 1, 1, seed=seed) * 3
            some = 0.1 + uniform(count, seed=seed + 3) * 4
            place = torch.arange(count) % (parts + 1)  # the last of them is in no area
            several = torch.stack([place == i for i in range(parts)])
            attempt.case(f"{batch} faces in {parts} areas", (displacement, some, several))
    with attempt.part("the notebook's magnitudes"):
        for words, *inputs in (
            ("that move by 0.001, 0.1 and 5 mm", moved, surface, areas),
            ("in other areas", moved, surface, areas.roll(7, 1)),
            ("of another surface", moved, surface.flip(0), areas),
            ("that move otherwise", moved.flip(0), surface, areas),
        ):
            attempt.case(f"three faces {words}", tuple(inputs))
    with attempt.part("edges and layouts"):
        for words, *inputs in (
            ("that do not move in one area", moved * ~areas[2][:, None], surface, areas),
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
    points=2,
)
def even_and_rest(attempt):
    texture, surface = 0.1 * normal(3, 10, 3, seed=4) + 0.05, 195 * uniform(10, seed=5)
    with attempt.part("by hand"):
        three = torch.tensor([[[0.2, 0.0, 0.0], [-0.1, 0.0, 0.3], [0.9, 0.9, 0.9]]])
        even = torch.tensor([[-0.025, 0, 0.225]])
        expected = even, three - even[:, None], torch.tensor([0.05125 / 0.085])
        what = "two vertices of 1 and 3 mm², and one that is no skin"
        attempt.case(what, (three, torch.tensor([1.0, 3.0, 0.0])), expected=expected)
    with attempt.part("batches"):
        for seed, batch, count in ((1, 3, 20), (2, 1, 50), (3, 6, 9)):
            offset = 0.1 * normal(batch, count, 3, seed=seed)
            offset += 0.15 * normal(batch, 1, 3, seed=seed + 3)
            skin = uniform(count, seed=seed) ** 2 * 5
            skin[::4] = 0
            attempt.case(f"{batch} faces of {count} vertices", (offset, skin))
        one = torch.tensor([[0.1, -0.2, 0.05]])[:, None].expand(1, 8, 3)
        attempt.case("an offset of one colour", (one, uniform(8, seed=9)))
    with attempt.part("the notebook's magnitudes"):
        for words, *inputs in (
            ("of vertices of up to 195 mm²", texture, surface),
            ("of another surface", texture, surface.flip(0)),
            ("of another texture", texture.flip(0) - 0.1, surface),
            ("of a surface of 0.01 mm² in all", texture, 0.01 * surface / surface.sum()),
            ("of an offset of thousandths", 1e-3 * texture, surface),
        ):
            attempt.case(f"three faces {words}", tuple(inputs), atol=1e-7)
    with attempt.part("edges and layouts"):
        none = torch.cat([texture[:, :5], -texture[:, :5]], 1)
        for words, *inputs in (
            ("of an offset whose mean is 0", none, torch.ones(10)),
            ("of one vertex", texture[:, :1], surface[:1]),
            ("not contiguous", *strided(texture), surface),
            ("in float64", texture.double(), surface.double()),
        ):
            attempt.case(f"three faces {words}", tuple(inputs), atol=1e-7)
    return "even and rest add up to the offset, and their energies to its energy"


def _quantiles(one: Tensor, other: Tensor, level: float) -> Tensor:
    tail = (1 - level) / 2
    return (one - other).quantile(one.new_tensor([tail, 1 - tail]))


def _about_the_mean(one: Tensor, other: Tensor, level: float) -> Tensor:
    """The middle of the draws, and 1.96 standard deviations to either side."""
    gap = one - other
    return gap.mean() + 1.96 * gap.std() * gap.new_tensor([-1.0, 1.0])


def _of_each_group(one: Tensor, other: Tensor, level: float) -> Tensor:
    zero = 0 * one
    return _quantiles(one, zero, level) - _quantiles(other, zero, level)


def gap(
    gain=lambda before, after, count: 1 - after.sum(1) / before.sum(1),
    ends=_quantiles,
    who=lambda persons: persons,
    mine=lambda groups, group: groups == group,
    rows=(0, 1),
    pick=lambda chance, n: (chance[:, :n] * n).long(),
):
    """The interval of the gap between two gains; each part can be exchanged for a mistake.

    gain: of the persons drawn, (draw, person) summed errors and numbers of faces. who: is drawn.
    """

    def gap_interval(before, after, persons, groups, pair, chance, level=0.95):
        gains, persons = [], who(persons)
        for group, row in zip(pair, rows, strict=True):
            own = persons[mine(groups, group)].unique()
            picks = pick(chance[row], len(own))
            inside = (own[:, None] == persons).to(before.dtype)
            sums = (inside @ errors for errors in (before, after, torch.ones_like(before)))
            gains.append(gain(*(of_person[picks] for of_person in sums)))
        return ends(*gains, level)

    return gap_interval


@exercise_check(
    stand_in=gap(),
    mistakes={
        "Faces are drawn one by one there. A person's faces come together or not at all: they "
        "resemble each other, and count as one piece of news.": gap(
            who=lambda persons: torch.arange(len(persons))
        ),
        "The gap has the other sign: the gain of the first group of the pair, minus that of the "
        "second.": gap(ends=lambda one, other, level: _quantiles(other, one, level)),
        "That is a mean of ratios. A gain is a ratio of means: 1 minus the sum after over the sum "
        "before, of all faces drawn.": gap(lambda b, a, n: (1 - a / b).mean(1)),
        "Each person counts alike there, however many faces they have. The gain is over all faces "
        "that were drawn.": gap(lambda b, a, n: 1 - (a / n).sum(1) / (b / n).sum(1)),
        "The ends of two intervals are subtracted there. Take the gap in each draw, and then the "
        "quantiles of the gaps.": gap(ends=_of_each_group),
        "Those are standard deviations about a mean, as if the gaps were normal. The ends are "
        "quantiles of the draws.": gap(ends=_about_the_mean),
        "There 1 - level lies outside at either end. It is half of that at each.": gap(
            ends=lambda one, other, level: _quantiles(one, other, 2 * level - 1)
        ),
        "The level is not used.": gap(ends=lambda one, other, level: _quantiles(one, other, 0.95)),
        "Both groups are drawn by the numbers of chance[0]: as different people, they are drawn "
        "independently.": gap(rows=(0, 0)),
        "People of all groups are drawn for both: nothing of the gap remains.": gap(
            mine=lambda groups, group: groups == groups
        ),
        "That is the gap between errors that are gone, in colour; the gain is a share.": gap(
            lambda b, a, n: (b - a).sum(1) / n.sum(1)
        ),
    },
    axes=("end",),
    points=3,
    challenge=True,
)
def gap_interval(attempt):
    chance = uniform(2, 200, 40, seed=1)
    before, after = 0.02 + 0.04 * uniform(2, 60, seed=2)
    persons = torch.randint(0, 30, (60,), generator=seeded(3)) * 7 + 100  # numbers with gaps
    groups = (persons // 7) % 3
    each = torch.arange(60)
    with attempt.part("three draws by hand"):
        errors = torch.tensor([0.4, 0.2, 0.5]), torch.tensor([0.2, 0.2, 0.25])
        draws = torch.tensor([[[0.0, 0.2], [0.3, 0.5], [0.9, 0.7]], [[0.0, 0], [0.5, 0], [0.9, 0]]])
        faces = torch.tensor([0, 1, 2]), torch.tensor([3, 3, 8])
        for level, ends in ((1.0, [-0.5, 0]), (0.5, [-1 / 3, -1 / 12])):
            what = f"two persons, and one: gains of 1/2, 1/3 or 0, minus 1/2; level {level}"
            inputs = (*errors, *faces, (3, 8), draws, level)
            attempt.case(what, inputs, expected=torch.tensor(ends))
    with attempt.part("one face per person"):
        for words, *inputs in (
            ("", before, after, each, each % 3, (0, 2), chance),
            (", the pair reversed", before, after, each, each % 3, (2, 0), chance),
            (" in other groups", before, after, each, each // 25, (1, 0), chance),
            (" at a level of 0.8", before, after, each, each % 3, (1, 0), chance, 0.8),
        ):
            attempt.case(f"60 persons{words}", tuple(inputs))
    with attempt.part("several faces per person"):
        for words, *inputs in (
            ("", before, after, persons, groups, (0, 1), chance, 0.9),
            (" by other draws", before, after, persons, groups, (0, 1), chance.flip(1, 2), 0.9),
            (" with other errors", after, before, persons, groups, (2, 1), chance),
            (
                " in the reverse order",
                before,
                after,
                persons.flip(0),
                groups.flip(0),
                (1, 2),
                chance,
            ),
            (" of 20", before, after, each // 3, each // 30, (0, 1), chance, 0.5),
        ):
            attempt.case(f"60 faces of fewer persons{words}", tuple(inputs))
    with attempt.part("edges and layouts"):
        lone = torch.where(each == 7, 5, each % 2)
        for words, *inputs in (
            ("a group of one person", before, after, each, lone, (5, 1), chance),
            ("two groups of one", before[:2], after[:2], each[:2], each[:2], (1, 0), chance),
            (
                "errors a hundred times as large",
                100 * before,
                after,
                each,
                each % 2,
                (0, 1),
                chance,
            ),
            (
                "nothing left in one group",
                before,
                after * (each % 2),
                each,
                each % 2,
                (0, 1),
                chance,
            ),
            ("one draw", before, after, persons, groups, (0, 1), chance[:, :1]),
            ("a level of 1", before, after, persons, groups, (0, 1), chance, 1.0),
            ("not contiguous", before, after, persons, groups, (0, 1), *strided(chance)),
            ("float64", before.double(), after.double(), persons, groups, (0, 1), chance.double()),
        ):
            attempt.case(f"60 faces: {words}", tuple(inputs))
    return "people are drawn, not faces, and each group by itself"
