"""Checks of notebook 09: gains by group, the skin's tone, where a displacement is, what a texture
offset is."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...face.colour import ita_degrees, srgb_to_lab
from ..checks import exercise_check
from ..compare import Wrong, close


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _said_of(got: object, expected: Tensor, mistakes: dict[str, Tensor]) -> str | None:
    """The words of the mistake whose numbers these are."""
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return None
    for words, numbers in mistakes.items():
        same = torch.allclose(got.double(), numbers.double(), 1e-4, 1e-5, equal_nan=True)
        if same and not torch.allclose(numbers, expected, 1e-3, 1e-5, equal_nan=True):
            return words
    return None


# Gains by group ---------------------------------------------------------------------------------


def gain_by_group_stand_in(before, after, groups, count):
    gains = torch.full((count,), torch.nan, dtype=before.dtype)
    for g in range(count):
        of = groups == g
        if of.any():
            gains[g] = 1 - after[of].mean() / before[of].mean()
    return gains


@exercise_check(stand_in=gain_by_group_stand_in)
def gain_by_group(attempt):
    before = torch.tensor([0.4, 0.2, 0.1, 0.3])
    after = torch.tensor([0.1, 0.2, 0.2, 0.3])
    groups = torch.tensor([2, 2, 0, 0])
    got = attempt(before.clone(), after.clone(), groups.clone(), 3)
    expected = torch.tensor([-0.25, torch.nan, 0.5])
    what = "gain_by_group([.4, .2, .1, .3], [.1, .2, .2, .3], groups [2, 2, 0, 0], 3)"
    if isinstance(got, Tensor) and got.shape == (2,):
        raise Wrong(
            f"{what}: expected 3 numbers, got 2. Group 1 has no face, and its place stays: NaN. "
            "A table whose columns shift when somebody is missing is worse than one with a gap."
        )
    if isinstance(got, Tensor) and got.shape == expected.shape and bool(torch.isfinite(got[1])):
        raise Wrong(
            f"{what}: group 1 has no face, and yours says {float(got[1]):g} of it. Of nobody "
            "nothing is known: NaN."
        )
    close(what, got, expected, axes=("group",), hint=_said_of(got, expected, _gains(
        before, after, groups, 3)))  # fmt: skip
    for seed, faces, count in ((1, 30, 4), (2, 7, 6), (3, 1, 1), (4, 50, 5)):
        g = _generator(seed)
        before, after = 0.05 + torch.rand(faces, generator=g), torch.rand(faces, generator=g)
        groups = torch.randint(0, count, (faces,), generator=g)
        dtype = torch.float64 if seed == 4 else torch.float32
        before, after = before.to(dtype), after.to(dtype)
        expected = gain_by_group_stand_in(before, after, groups, count)
        got = attempt(before.clone(), after.clone(), groups.clone(), count)
        hint = _said_of(got, expected, _gains(before, after, groups, count))
        close(f"gain_by_group of {faces} faces in {count} groups", got, expected,
              axes=("group",), hint=hint)  # fmt: skip
    return "below 0 where a group is worse off than before"


def _gains(before: Tensor, after: Tensor, groups: Tensor, count: int) -> dict[str, Tensor]:
    def each(of_group) -> Tensor:
        values = [
            of_group(before[groups == g], after[groups == g]) if (groups == g).any() else torch.nan
            for g in range(count)
        ]
        return torch.tensor([float(value) for value in values])

    return {
        "That is the mean of each face's own ratio: one face with next to no error before decides "
        "all. The exercise wants the ratio of the two means.": each(
            lambda b, a: (1 - a / b).mean()
        ),
        "That is what remains. What is gone is 1 minus it.": each(lambda b, a: a.mean() / b.mean()),
        "That is the difference of the means, in colour; the gain is a share of the error "
        "before.": each(lambda b, a: b.mean() - a.mean()),
        "The sign is the other way round: a smaller error is a gain above 0.": each(
            lambda b, a: a.mean() / b.mean() - 1
        ),
        "It is divided by the error after there; the share is of the error before.": each(
            lambda b, a: b.mean() / a.mean() - 1
        ),
        "Those are medians; here it is means, so that no face can be left out.": each(
            lambda b, a: 1 - a.median() / b.median()
        ),
        "It is divided by the mean error of all faces; each group has its own.": each(
            lambda b, a: (b.mean() - a.mean()) / before.mean()
        ),
    }


# The skin's tone --------------------------------------------------------------------------------


def ita_bias_stand_in(predicted, truth, weights, to_lab):
    return _bias(predicted, truth, weights, to_lab)


def _angle(lab: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 2]))


def _bias(predicted, truth, weights, to_lab, angle=_angle, wrap=True, colour=None):
    def mean(albedo: Tensor) -> Tensor:
        return (weights[:, None] * albedo).sum(-2) / weights.sum()

    colour = mean if colour is None else colour
    difference = angle(to_lab(colour(predicted))) - angle(to_lab(colour(truth)))
    return (difference + 180) % 360 - 180 if wrap else difference


def _bias_mistakes(predicted, truth, weights, to_lab) -> dict[str, Tensor]:
    each = (_angle(to_lab(predicted)) - _angle(to_lab(truth)) + 180) % 360 - 180
    args = (predicted, truth, weights, to_lab)
    return {
        "The sign is the other way round: predicted minus true, so that too light is above 0.": -(
            _bias(*args)
        ),
        "That is the mean of the vertices' angles. The angle is of the mean colour: average the "
        "skin first.": (weights * each).sum(-1) / weights.sum(),
        "The weights are not used: hair, lips and eyes count there as if they were skin.": _bias(
            *args, colour=lambda albedo: albedo.mean(-2)
        ),
        "L* is measured from 50, the middle grey.": _bias(
            *args, angle=lambda lab: torch.rad2deg(torch.atan2(lab[..., 0], lab[..., 2]))
        ),
        "That takes a*, how red the skin is; ITA takes b*, how yellow.": _bias(
            *args, angle=lambda lab: torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 1]))
        ),
        "atan of the ratio folds bluish skin (b* < 0) onto the other side: torch.atan2 knows both "
        "signs.": _bias(
            *args, angle=lambda lab: torch.rad2deg(torch.atan((lab[..., 0] - 50) / lab[..., 2]))
        ),
        "Those are radians.": torch.deg2rad(_bias(*args)),
        "Two arguments of atan2 are exchanged: the height, L* - 50, comes first.": _bias(
            *args, angle=lambda lab: torch.rad2deg(torch.atan2(lab[..., 2], lab[..., 0] - 50))
        ),
        "A difference of angles has to be brought back to -180 ... 180: from 170 to -170 degrees "
        "it is 20, not 340.": _bias(*args, wrap=False),
        "The sign is lost there: a bias says in which direction.": _bias(*args).abs(),
    }


@exercise_check(stand_in=ita_bias_stand_in)
def ita_bias(attempt):
    light, dark = torch.tensor([0.90, 0.78, 0.65]), torch.tensor([0.30, 0.20, 0.15])
    pair = torch.stack([light, dark])[:, None].expand(2, 3, 3).clone()
    weights = torch.ones(3)
    expected = ita_degrees(pair[:, 0]) - ita_degrees(pair.flip(0)[:, 0])
    got = attempt(pair.clone(), pair.flip(0).clone(), weights.clone(), srgb_to_lab)
    hint = _said_of(got, expected, _bias_mistakes(pair, pair.flip(0), weights, srgb_to_lab))
    what = "ita_bias of a light skin taken for dark, and the other way round,"
    close(what, got, expected, axes=("face",), atol=1e-3, hint=hint)
    for seed, batch, vertices in ((1, 4, 30), (2, 1, 7), (3, 6, 50)):
        g = _generator(seed)
        tone = torch.tensor([0.9, 0.6, 0.3, 0.15, 0.5, 0.75])[:batch, None, None]
        tint = torch.tensor([1.0, 0.8, 0.65])
        predicted = (tone * tint + 0.1 * torch.randn(batch, vertices, 3, generator=g)).clamp(0, 1)
        truth = (tone.flip(0) * tint + 0.1 * torch.randn(batch, vertices, 3, generator=g)).clamp(0)
        weights = torch.rand(vertices, generator=g) ** 3 * (2 + seed)
        _judge_bias(attempt, f"{batch} faces of {vertices} vertices", predicted, truth, weights)
    blue = torch.tensor([[0.10, 0.11, 0.20], [0.85, 0.86, 0.99], [0.20, 0.21, 0.35]])
    warm = torch.tensor([[0.90, 0.80, 0.60], [0.12, 0.10, 0.14], [0.85, 0.86, 0.99]])
    predicted, truth = (c[:, None].expand(3, 4, 3).clone() for c in (blue, warm))
    _judge_bias(attempt, "skins in a bluish tint", predicted, truth, torch.tensor([1.0, 2, 0, 3]))
    return "above 0: the reconstruction is too light"


def _judge_bias(attempt, which: str, predicted: Tensor, truth: Tensor, weights: Tensor) -> None:
    expected = _bias(predicted, truth, weights, srgb_to_lab)
    got = attempt(predicted.clone(), truth.clone(), weights.clone(), srgb_to_lab)
    hint = _said_of(got, expected, _bias_mistakes(predicted, truth, weights, srgb_to_lab))
    close(f"ita_bias of {which}", got, expected, axes=("face",), atol=2e-3, rtol=1e-4, hint=hint)


# Where a displacement is ------------------------------------------------------------------------


def energy_by_area_stand_in(displacement, surface, areas):
    return _energy(displacement, surface, areas)


def _energy(displacement, surface, areas, square=True, weigh=True, everywhere=False, batch=False):
    length = displacement.square().sum(-1)
    energy = length if square else length.sqrt()
    energy = energy * surface if weigh else energy
    of_area = energy @ areas.to(energy.dtype).T
    whole = energy.sum(-1, keepdim=True) if everywhere else of_area.sum(-1, keepdim=True)
    whole = whole.sum(0, keepdim=True) if batch else whole
    shares = of_area / whole
    sizes = areas.to(surface.dtype) @ surface
    return shares, shares / (sizes / sizes.sum())


_ENERGY_MISTAKES = {
    "That is of the displacement's length; energy is its square.": dict(square=False),
    "Vertices are counted there, and not weighed by their surface: where the mesh is finer, it "
    "counts more.": dict(weigh=False),
    "The whole is over all vertices there; it is over those of the areas, or shares do not add up "
    "to 1.": dict(everywhere=True),
    "The whole is of all faces together there; each face has its own.": dict(batch=True),
}


@exercise_check(stand_in=energy_by_area_stand_in)
def energy_by_area(attempt):
    displacement = torch.zeros(1, 4, 3)
    displacement[0, 0, 0], displacement[0, 1, 2], displacement[0, 3, 1] = 2.0, 1.0, 5.0
    surface = torch.tensor([1.0, 4.0, 3.0, 1.0])
    areas = torch.tensor([[True, False, False, False], [False, True, True, False]])
    expected = (torch.tensor([[0.5, 0.5]]), torch.tensor([[4.0, 4 / 7]]))
    got = attempt(displacement.clone(), surface.clone(), areas.clone())
    _judge_energy("three vertices that move 2, 1 and 0 mm, and one of no area", got, expected,
                  displacement, surface, areas)  # fmt: skip
    for seed, batch, vertices, count in ((1, 3, 40, 5), (2, 1, 12, 2), (3, 5, 60, 6)):
        g = _generator(seed)
        displacement = torch.randn(batch, vertices, 3, generator=g)
        displacement *= 0.2 + torch.rand(batch, 1, 1, generator=g) * 3
        surface = 0.1 + torch.rand(vertices, generator=g) * 4
        label = torch.arange(vertices) % (count + 1)  # the last of them is in no area
        areas = torch.stack([label == i for i in range(count)])
        expected = _energy(displacement, surface, areas)
        got = attempt(displacement.clone(), surface.clone(), areas.clone())
        _judge_energy(f"{batch} faces in {count} areas", got, expected, displacement, surface,
                      areas)  # fmt: skip
    return "shares add up to 1, and an even displacement has the density 1 everywhere"


def _judge_energy(which: str, got, expected, displacement, surface, areas) -> None:
    close(f"energy_by_area of {which}", _shapes(got), _shapes(expected))
    for i, name in enumerate(("shares", "density")):
        mistakes = {
            words: _energy(displacement, surface, areas, **wrong)[i]
            for words, wrong in _ENERGY_MISTAKES.items()
        }
        sizes = areas.to(surface.dtype) @ surface
        counts = areas.sum(1).to(surface.dtype)
        mistakes |= {
            "The area's share of all surface belongs there, not its size in mm².": (
                expected[0] / (sizes if i else 1)
            ),
            "The share of the surface, not of the number of vertices.": (
                expected[0] / (counts / counts.sum() if i else 1)
            ),
            "The share of the surface is of the areas' surface, without the vertices that are in "
            "none.": expected[0] / (sizes / surface.sum() if i else 1),
        }
        hint = _said_of(got[i], expected[i], mistakes)
        drawing = None if i else _bars
        close(f"the {name} of {which}", got[i], expected[i], axes=("face", "area"), hint=hint,
              picture=drawing)  # fmt: skip


def _shapes(pair: object) -> object:
    """The same tuple with nothing but its shapes to tell: values are looked at one by one."""
    if isinstance(pair, tuple | list):
        return tuple(torch.zeros_like(v) if isinstance(v, Tensor) else v for v in pair)
    return pair


def _bars(got: Tensor, expected: Tensor) -> Figure:
    figure = Figure((5, 2.6), layout="constrained")
    axis = figure.subplots()
    place = torch.arange(expected.shape[1])
    axis.bar(place - 0.2, expected[0].numpy(), 0.4, label="expected", color="0.6")
    axis.bar(place + 0.2, got[0].detach().numpy(), 0.4, label="yours", color="#c0392b")
    axis.set(xlabel="area", title="shares of the first face", xticks=place.tolist())
    axis.legend(frameon=False)
    return figure


# What a texture offset is -----------------------------------------------------------------------


def even_and_rest_stand_in(texture, surface):
    return _apart(texture, surface)


def _apart(texture: Tensor, surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    weights = (surface / surface.sum())[:, None]
    even = (weights * texture).sum(-2)
    whole = (weights * texture.square()).sum((-2, -1))
    return even, texture - even[:, None], even.square().sum(-1) / whole


def _share_mistakes(texture: Tensor, surface: Tensor) -> dict[str, Tensor]:
    even, rest, share = _apart(texture, surface)
    weights = (surface / surface.sum())[:, None]
    part = (weights * rest.square()).sum((-2, -1))
    whole = (weights * texture.square()).sum((-2, -1))
    return {
        "That is the share of the rest.": 1 - share,
        "Those are lengths; energy is the square.": share.sqrt(),
        "It is divided by the energy of the rest; the share is of the whole offset.": (
            even.square().sum(-1) / part
        ),
        "The energy of the whole is a sum over vertices there, and that of the even part is of "
        "one; weigh both by the surface.": even.square().sum(-1) / texture.square().sum((-2, -1)),
        "The energy of the whole leaves out the weights.": (
            even.square().sum(-1) / texture.square().sum(-1).mean(-1)
        ),
        "Above, the three channels are averaged, below they are added up: do the same in both.": (
            share / 3
        ),
        "Each face has a whole of its own.": even.square().sum(-1) / whole.sum(),
    }


@exercise_check(stand_in=even_and_rest_stand_in)
def even_and_rest(attempt):
    texture = torch.tensor([[[0.2, 0.0, 0.0], [-0.1, 0.0, 0.3], [9.0, 9.0, 9.0]]])
    surface = torch.tensor([1.0, 3.0, 0.0])
    _judge_apart(attempt, "two vertices of 1 and 3 mm²", texture, surface)
    for seed, batch, vertices in ((1, 3, 20), (2, 1, 50), (3, 6, 9)):
        g = _generator(seed)
        texture = 0.1 * torch.randn(batch, vertices, 3, generator=g)
        texture += 0.15 * torch.randn(batch, 1, 3, generator=g)
        surface = torch.rand(vertices, generator=g) ** 2 * 5
        surface[::4] = 0
        _judge_apart(attempt, f"{batch} faces of {vertices} vertices", texture, surface)
    one = torch.tensor([[0.1, -0.2, 0.05]])[:, None].expand(1, 8, 3).clone()
    _judge_apart(attempt, "an offset of one colour", one, torch.rand(8, generator=_generator(9)))
    return "even and rest add up to the offset, and their energies to its energy"


def _judge_apart(attempt, which: str, texture: Tensor, surface: Tensor) -> None:
    expected = _apart(texture, surface)
    got = attempt(texture.clone(), surface.clone())
    close(f"even_and_rest of {which}", _shapes(got), _shapes(expected))
    unweighted = texture.mean(-2)
    even = {
        "That is the mean over vertices, each counted alike, and the mesh is finer round the "
        "eyes; weigh by the surface.": unweighted,
        "That is a weighted sum; a mean divides by the sum of the weights.": (
            surface[:, None] * texture
        ).sum(-2),
    }
    rest = {
        "The rest is what the even part leaves: texture minus even.": -expected[1],
        "The rest is weighed there; it is an offset a vertex, as it came.": (
            expected[1] * surface[:, None]
        ),
    }
    for i, (name, wrong) in enumerate(
        {"even": even, "rest": rest, "share": _share_mistakes(texture, surface)}.items()
    ):
        hint = _said_of(got[i], expected[i], wrong)
        close(f"{name} of {which}", got[i], expected[i], hint=hint)
