"""Checks of notebook 06: a split, from photo to coefficients, the truth in mm², a step, a fit."""

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import attrgetter, itemgetter
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...data.rendered.faces import RenderedFaces
from ...face.batch import FaceBatch
from ...face.coefficients import DEFAULT_TRANSLATION, UNIT_AMBIENT, FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...networks.backbones import IMAGENET_MEAN, IMAGENET_SD
from ...networks.encoder import OUTPUT_SCALES, load_encoder
from ...pictures.sheets import gallery
from ..checks import Attempt, exercise_check
from ..compare import (
    Wrong,
    close,
    like,
    loss_curves,
    normal,
    same_gradient,
    seeded,
    strided,
    uniform,
)
from ..drawing.panels import shape_errors
from ..drawing.style import signed
from .landmark_fit import landmark_projection

GROUPS = tuple(OUTPUT_SCALES)
MEAN, SD = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_SD))


def _with_weights(module: nn.Module, seed: int, sd: float = 1.0) -> nn.Module:
    """The module, its weights and biases random numbers that are the same for one seed."""
    for i, p in enumerate(module.parameters()):
        nn.init.normal_(p, std=sd, generator=seeded(seed + i))
    return module


# Who is in the test -----------------------------------------------------------------------------


def dealt(
    names: Callable = sorted,
    deal: Callable = lambda names, seed: random.Random(seed).shuffle(names),
    size: Callable = lambda count: count,
) -> Callable:
    """Each person, in an order that the seed decides, goes where most photos are missing."""

    def split_by_person(people, shares=(0.70, 0.15, 0.15), seed=0):
        counts = {name: size(count) for name, count in Counter(people).items()}
        order, part = list(names(counts)), {}
        deal(order, seed)
        room = [share * sum(counts.values()) for share in shares]
        for name in order:
            part[name] = room.index(max(room))
            room[part[name]] -= counts[name]
        return torch.tensor([part[name] for name in people])

    return split_by_person


class RenamedInEachRun(str):
    """A name whose hash is another in each run, as Python's are; `run` counts them here."""

    run = 0

    def __hash__(self) -> int:
        return hash((str(self), self.run))

    __eq__ = str.__eq__


def _photos(counts: Sequence[int], seed: int) -> list[str]:
    """The names of so many photos of each person, mixed."""
    photos = [f"person {i:03d}" for i, count in enumerate(counts) for _ in range(count)]
    random.Random(seed).shuffle(photos)
    return photos


def _split(attempt: Attempt, what: str, people: list[str], shares=(0.7, 0.15, 0.15), seed=0):
    """The parts, once their kind, people and sizes are right."""
    what = f"split_by_person of {what}"
    parts = attempt.trial(what)(people, shares, seed)
    if not like(parts, torch.zeros(len(people), dtype=torch.int64)):
        attempt.close(what, parts, torch.zeros(len(people), dtype=torch.int64))
        raise Wrong(f"{what}: expected {len(people)} numbers of dtype int64, one for each photo.")
    if not 0 <= int(parts.min()) <= int(parts.max()) < len(shares):
        raise Wrong(
            f"{what}: expected parts 0 to {len(shares) - 1}, got {sorted(set(parts.tolist()))}."
        )
    homes = {}
    for name, part in zip(people, parts.tolist(), strict=True):
        if homes.setdefault(name, part) != part:
            raise Wrong(
                f"{what}: photos of {str(name)!r} are in parts {homes[name]} and {part}. Decide "
                "for each person, once, and look the answer up for each of its photos."
            )
    most = max(Counter(people).values())
    for part, share in enumerate(shares):
        count, target = int((parts == part).sum()), share * len(people)
        if count > (target + most if share else 0) + 1e-6:
            raise Wrong(
                f"{what}: part {part} holds {count} of {len(people)} photos. Its share is "
                f"{share:g}, {target:g} photos, and nobody has more than {most}. Deal each person "
                "to the part that lacks most photos."
            )
    return parts


@exercise_check(
    stand_in=dealt(),
    mistakes={
        "Another seed should deal the people out anew; the seed is not used there.": (
            dealt(deal=lambda names, seed: None),
            dealt(deal=lambda names, seed: random.Random(0).shuffle(names)),
        ),
        "The order of the photos decides who goes where: a folder that is read in another order "
        "would have another test. Sort the names before the seed mixes them.": dealt(names=list),
        "Each person counts as one there, whether with one photo or with hundreds.": dealt(
            size=lambda count: 1
        ),
    },
    points=2,
)
def split_by_person(attempt):
    even, skewed = _photos([8] * 50, seed=1), _photos([20] * 60 + [1] * 600, seed=2)
    with attempt.part("everybody alike"):
        split = _split(attempt, "50 people with 8 photos each", even)
        other = _split(attempt, "the same people, with seed 1", even, seed=1)
        if torch.equal(split, other):
            raise Wrong("split_by_person: seed 0 and seed 1 give the same split of 50 people.")
        few = _photos([3] * 20, seed=3)
        _split(attempt, "20 people with 3 photos each", few, seed=5)
    with attempt.part("some with many photos"):
        for seed in range(8):
            words = f"60 people with 20 photos and 600 with one, with seed {seed}"
            _split(attempt, words, skewed, seed=seed)
        counts = [2 + 300 // (i + 1) for i in range(400)]
        _split(attempt, "400 people with 2 to 302 photos", _photos(counts, 4), seed=3)
    with attempt.part("few people, and other shares"):
        _split(attempt, "one person", ["Ann"] * 5)
        _split(attempt, "two people and three parts", ["Ann", "Bo", "Ann", "Bo", "Bo"])
        _split(attempt, "one person with most photos", _photos([60, 5, 5, 5, 5], 5))
        _split(attempt, "two parts", even, (0.5, 0.5))
        _split(attempt, "four parts", even, (0.4, 0.3, 0.2, 0.1), seed=2)
        _split(attempt, "parts of which one has a share of 0", even, (0.8, 0.0, 0.2), seed=4)
        _split(attempt, "parts of which the first is the smallest", even, (0.1, 0.9))
    with attempt.part("again, in any order, in any run"):
        for seed in (0, 6):
            homes = dict(zip(even, _split(attempt, "50 people", even, seed=seed), strict=True))
            order = even[::-1]
            again = _split(attempt, "the same photos in reverse order", order, seed=seed)
            if not torch.equal(again, torch.stack([homes[name] for name in order])):
                raise Wrong(
                    "split_by_person: the same photos in another order, and people change parts."
                )
            torch.manual_seed(seed + 1)
            random.seed(seed + 1)
            RenamedInEachRun.run += 1
            names = [RenamedInEachRun(name) for name in order]
            if not torch.equal(
                again, _split(attempt, "50 people in another run", names, seed=seed)
            ):
                raise Wrong(
                    "split_by_person: in another run of Python people change parts. The order of "
                    "a set, hash(name) and the random state of the program differ from run to run: "
                    "sort the names, and make a generator from the seed."
                )
    return "nobody in two parts, shares counted in photos, few people, and the same in any run"


# From a photo to the head's outputs -------------------------------------------------------------


def shrunk(image: Tensor, size: int, mode: str = "area") -> Tensor:
    return F.interpolate(image, (size, size), mode=mode)


def net(
    shrink=shrunk,
    ready=lambda x: (x - MEAN.to(x)) / SD.to(x),
    pool=lambda maps: maps.mean((2, 3)),
    end=lambda head, pooled: head(pooled),
):
    """As `Encoder.pooled` and its head; each part can be exchanged for a mistake."""
    return lambda image, features, head, size: end(head, pool(features(ready(shrink(image, size)))))


@exercise_check(
    stand_in=net(),
    mistakes={
        "That is what comes out without the normalisation: subtract IMAGENET_MEAN, divide by "
        "IMAGENET_SD, a colour channel at a time.": net(ready=lambda x: x),
        "The mean is subtracted; nothing is divided by IMAGENET_SD.": net(ready=lambda x: x - MEAN),
        "It is divided by IMAGENET_SD; the mean is not subtracted.": net(ready=lambda x: x / SD),
        "Mean and standard deviation have changed places: first minus the mean, then over the "
        "standard deviation.": net(ready=lambda x: x / SD - MEAN),
        "The brackets: the difference is to be divided, not the mean alone.": net(
            ready=lambda x: x - MEAN / SD
        ),
        "Each photo is normalised by its own mean there; it has to be ImageNet's, or a dark "
        "photo and a bright one look alike.": net(
            ready=lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)
        ),
        'That shrinks the photo in another way: mode="area" averages, exactly.': net(
            partial(shrunk, mode="bilinear")
        ),
        'That drops pixels instead of averaging them: mode="area".': net(
            partial(shrunk, mode="nearest")
        ),
        "The photo is not shrunk to `size` there.": net(lambda image, size: image),
        "That takes each map's largest value; take its average.": net(
            pool=lambda maps: maps.amax((2, 3))
        ),
        "That adds each map up; take its average.": net(pool=lambda m: m.sum((2, 3))),
        "Those are the pooled features: the head is missing.": net(end=lambda head, x: x),
    },
    axes=("photo", "output"),
    points=2,
)
def network_outputs(attempt):
    mix = _with_weights(nn.Conv2d(3, 5, (1, 2)), seed=1)
    features = nn.Sequential(mix, nn.SiLU())  # five maps of unequal height and width

    def case(batch: int, height: int, width: int, size: int, outputs: int, seed: int) -> None:
        image = uniform(batch, 3, height, width, seed=seed)
        image = image ** torch.tensor([0.5, 1.0, 2.0])[:, None, None]
        head = _with_weights(nn.Linear(5, outputs), seed + 10)
        what = f"network_outputs of {batch} photos of {height} by {width} px, shrunk to {size}"
        inputs = image, features, head, size
        attempt.case(what, inputs)
        got, expected = attempt.calls[-1].answer, net()(*inputs)
        goal = normal(batch, outputs, seed=seed + 30)
        weights = {"the head": (head.weight,) * 2, "the backbone": (mix.weight,) * 2}
        same_gradient(what, (got * goal).sum(), (expected * goal).sum(), weights)

    with attempt.part("square photos"):
        case(2, 12, 12, 4, 7, 3)
        case(3, 10, 10, 10, 5, 4)
        case(1, 9, 9, 6, 4, 5)
        case(4, 8, 8, 2, 3, 6)
        case(2, 12, 12, 4, 7, 7)  # as the first, with other values
    with attempt.part("photos of other shapes"):
        case(2, 9, 14, 5, 3, 8)
        case(1, 20, 6, 6, 1, 9)
    with attempt.part("the notebook's sizes"):
        case(2, 224, 224, 64, 8, 10)
    image, head = uniform(2, 3, 9, 7, seed=11), _with_weights(nn.Linear(5, 6), seed=20)
    with attempt.part("layouts and float64"):
        layouts = *strided(image), lambda x: strided(features(x))[0], head, 5
        attempt.case("network_outputs of photos and maps that are not contiguous", layouts)
        double = (copy.deepcopy(module).double() for module in (features, head))
        attempt.case("network_outputs in float64", (image.double(), *double, 5))
    return "batches of other sizes, and gradients to the head and the backbone"


# From outputs to coefficients -------------------------------------------------------------------


def ambient(rows: int = 1, colours: int = 3, value: float = UNIT_AMBIENT) -> Tensor:
    start = torch.zeros(9, 3)
    start[:rows, :colours] = value
    return start


def decoded(scales=lambda scales: scales, **ways):
    """As `Encoder.decode`, without its limit on the scale.

    ways: for a group, how (its outputs, its scales) are decoded; scales: of those that came.
    """
    ways = {
        "translation": lambda x, s: s * x + x.new_tensor(DEFAULT_TRANSLATION),
        "scale": lambda x, s: (s * x).exp(),
        "lighting": lambda x, s: (s * x).unflatten(1, (9, 3)) + ambient().to(x),
    } | ways

    def decode_outputs(outputs, sizes, table):
        parts = zip(GROUPS, outputs.split([*sizes, 3, 3, 1, 27], dim=1), strict=True)
        return FaceCoefficients(
            **{
                name: ways.get(name, torch.mul)(part, part.new_tensor(scales(table)[name]))
                for name, part in parts
            }
        )

    return decode_outputs


PROBES = {"rotation": (1,), "translation": (0, 2), "scale": (0,), "lighting": (1, 3, 8)}
"""Which numbers of a group are tried alone."""


def lit_from(start: Tensor):
    return decoded(lighting=lambda x, s: (s * x).unflatten(1, (9, 3)) + start)


@exercise_check(
    stand_in=decoded(),
    mistakes={
        f"Outputs of 0 leave the face at {DEFAULT_TRANSLATION} mm.": decoded(
            translation=lambda x, s: s * x
        ),
        "Outputs of 0 are white ambient light: UNIT_AMBIENT in the first of the nine rows, for all "
        "three colours, and 0 in the other rows.": (
            lit_from(ambient(rows=0)),
            lit_from(ambient(value=1.0)),
            lit_from(ambient(rows=9)),
            lit_from(ambient(colours=1)),
        ),
        "The start is scaled too; it is added to the scaled outputs.": decoded(
            translation=lambda x, s: s * (x + torch.tensor(DEFAULT_TRANSLATION)),
            lighting=lambda x, s: s * (x.unflatten(1, (9, 3)) + ambient()),
        ),
        "The 27 numbers of the light go row by row: three colours of row 0, three of row 1, ...": (
            decoded(lighting=lambda x, s: (s * x).unflatten(1, (3, 9)).mT + ambient())
        ),
        "Translation has three scales: x and y, and a longer one for depth.": decoded(
            translation=lambda x, s: s[0] * x + torch.tensor(DEFAULT_TRANSLATION)
        ),
        "The output times its scale is log(scale): take exp of it, once.": (
            decoded(scale=lambda x, s: s * x),
            decoded(scale=lambda x, s: 1 + s * x),
            decoded(scale=lambda x, s: 2 ** (s * x)),
            decoded(scale=lambda x, s: s * x.exp()),
            decoded(scale=lambda x, s: (s * x).exp().exp()),
        ),
        "An output of 1 turns the face by the scale of rotation, in radians.": (
            decoded(rotation=lambda x, s: torch.rad2deg(s * x)),
            decoded(rotation=lambda x, s: x / s),
        ),
        "The scales are other ones here: take them from the argument.": (
            decoded(scales=lambda table: OUTPUT_SCALES),
            decoded(scales=lambda table: {name: (1.0,) * len(s) for name, s in table.items()}),
        ),
    },
    parts={name: {} for name in GROUPS},
    points=2,
)
def decode_outputs(attempt):
    groups_of = attrgetter(*GROUPS)

    def case(words: str, *inputs: object) -> None:
        got, expected = attempt.trial(f"decode_outputs of {words}")(*inputs), decoded()(*inputs)
        if not isinstance(got, FaceCoefficients):
            raise Wrong(
                f"decode_outputs: expected FaceCoefficients, got {type(got).__name__}. Return "
                "the seven groups: FaceCoefficients(identity=..., expression=..., ...)."
            )
        second = partial(attempt.calls[-1].second, attempt.stand_in)
        attempt.close(
            words, groups_of(got), groups_of(expected), again=lambda: map(groups_of, second())
        )

    sizes, at = (4, 2, 3), 0
    with attempt.part("one output at a time"):  # which tells which number goes where
        case("outputs that are all zero", torch.zeros(2, 43), sizes, OUTPUT_SCALES)
        for group, length in zip(GROUPS, (*sizes, 3, 3, 1, 27), strict=True):
            for i in PROBES.get(group, ()):
                outputs = F.one_hot(torch.tensor([at + i]), 43).float()
                words = f"outputs of 0 but for number {i} of the group {group!r}, which is 1"
                case(words, outputs, sizes, OUTPUT_SCALES)
            at += length
    others = {  # scales that are not the library's
        name: tuple(0.1 + 0.37 * i + v / 9 for v in s)
        for i, (name, s) in enumerate(OUTPUT_SCALES.items())
    } | {"identity": (2.5,)}
    with attempt.part("batches"):
        for sizes, batch, scales, seed in (
            ((5, 3, 2), 3, OUTPUT_SCALES, 1),
            ((2, 6, 4), 1, others, 2),
            ((80, 43, 25), 4, others, 3),
            ((4, 0, 0), 2, others, 4),
            ((1, 1, 1), 1, others, 5),
        ):
            outputs = normal(batch, sum(sizes) + 34, seed=seed)
            case(f"a batch of {batch} with sizes {sizes}", outputs, sizes, scales)
    sizes, outputs = (4, 2, 3), normal(2, 43, seed=6)
    lengths = zip(GROUPS, (*sizes, 3, 3, 1, 27), strict=True)
    each = {name: tuple((0.1 + uniform(n, seed=n)).tolist()) for name, n in lengths}
    with attempt.part("other scales and layouts"):
        one = others | {"translation": (15.0,), "rotation": (0.2,)}
        case("one scale for each group", outputs, sizes, one)
        case("a scale for each number", outputs, sizes, each)
        case("scales in another order", outputs, sizes, dict(reversed(others.items())))
        case("outputs that are not contiguous", *strided(outputs), sizes, others)
        case("outputs in float64", outputs.double(), sizes, others)
    with attempt.part("gradients"):
        options = dict(call=lambda function, *arguments: function(*arguments).to_vector())
        for words, values in {"": outputs, " at outputs of zero": 0 * outputs}.items():
            what = f"decode_outputs{words}"
            attempt.gradients(what, {"outputs": values}, sizes, others, **options)
    return "the start, each group by itself, and batches with other sizes and scales"


# The truth in square millimetres ----------------------------------------------------------------


def gram_of(basis, weights, product="ivc,v,jvc->ij"):
    """As `objective.py` does it."""
    return torch.einsum(product, basis, weights / weights.sum(), basis)


@exercise_check(
    stand_in=gram_of,
    mistakes={
        "The weights have to be divided by their sum: a mean, not a sum.": lambda b, w: (
            gram_of(b, w) * w.sum()
        ),
        "That divides by the number of vertices; divide by the sum of the weights.": lambda b, w: (
            gram_of(b, w) * w.sum() / len(w)
        ),
        "That averages over x, y, z as well: a squared length adds them up.": lambda b, w: (
            gram_of(b, w) / 3
        ),
        "The weights are not used there.": lambda b, w: gram_of(b, torch.ones_like(w)),
        "The weights are not used there, and nothing is divided.": lambda b, w: torch.einsum(
            "ivc,jvc->ij", b, b
        ),
        "The weights count twice there, once with either basis.": (
            lambda b, w: gram_of(b, w**2),
            lambda b, w: gram_of(b, w**2) * w.square().sum() / w.sum() ** 2,
        ),
        "No root: a^T G a is a squared length.": lambda b, w: gram_of(b, w).abs().sqrt(),
        "That is the mean length; the mean of its square is asked for.": lambda b, w: gram_of(
            b.norm(dim=-1).sqrt(), w, "iv,v,jv->ij"
        ),
        "Only the diagonal is there. Two modes that move a vertex the same way help each other: "
        "that is what G[i, j] is for.": lambda b, w: torch.diag(gram_of(b, w).diagonal()),
    },
    axes=("mode i", "mode j"),
    points=2,
)
def shape_gram(attempt):
    hint = "G[i, j] is of modes i and j: the weighted mean of their product at each vertex."
    more = dict(atol=1e-7, picture=_two_matrices)
    with attempt.part("by hand"):
        # one mode alone could be several mistakes: these tell them apart
        weights = torch.tensor([0.0, 2.0, 1.0, 0.5, 3.0])
        attempt.trial("shape_gram of two modes")(normal(2, 5, 3, seed=9), weights)
        # one mode, two vertices, moved by 5 mm and by 2 mm
        basis = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]])
        what = "shape_gram of one mode that moves two vertices"
        words = "The squared lengths are 25 and 4 mm², and the second vertex counts three times."
        expected = torch.tensor([[9.25]])
        attempt.case(what, (basis, torch.tensor([1.0, 3.0])), words, expected=expected)
    with attempt.part("random bases"):
        for modes, vertices, seed in ((4, 6, 1), (3, 11, 2), (7, 5, 3)):
            basis = normal(modes, vertices, 3, seed=seed)
            weights = normal(vertices, seed=seed + 10).abs() * 3
            weights[0] = 0
            what = f"shape_gram of {modes} modes and {vertices} vertices"
            attempt.case(what, (basis, weights), hint, picture=_two_matrices)
    basis, weights, a = normal(5, 9, 3, seed=4), uniform(9, seed=4), normal(5, seed=5)
    # modes of 4 mm down to 0.02, weights of which many are 0
    lengths = torch.logspace(0.6, -1.7, 9)[:, None, None]
    skin = (uniform(1200, seed=6) * 1.5 - 0.5).clamp(min=0)
    with attempt.part("the notebook's magnitudes"):
        moved = torch.einsum("i,ivc->vc", a, basis).square().sum(-1)
        what, expected = "a @ shape_gram(basis, weights) @ a", (moved * weights).sum()
        got = attempt.trial(what)(basis, weights)
        attempt.close(what, a @ got @ a, expected / weights.sum())
        fine = lengths * normal(9, 1200, 3, seed=7), skin
        attempt.case("shape_gram of 1,200 vertices", fine, hint, **more)
    with attempt.part("weights and layouts"):
        for words, inputs in {
            "of weights that add up to 0.02": (basis, 0.02 * weights / weights.sum()),
            "of equal weights": (basis, torch.full_like(weights, 195.0)),
            "where one vertex alone counts": (basis, (torch.arange(9) == 4).float()),
            "of another basis of the same size": (normal(5, 9, 3, seed=8), uniform(9, seed=9)),
            "of one mode and one vertex": (basis[:1, :1], weights[1:2]),
            "of a basis that is not contiguous": (*strided(basis), weights),
        }.items():
            attempt.case(f"shape_gram {words}", inputs, hint, **more)
        exact = dict(atol=1e-10, rtol=1e-9)
        attempt.case("shape_gram in float64", (basis.double(), weights.double()), **exact)
    return "by hand, for three random bases, and a @ G @ a is the mean squared distance"


def _two_matrices(got: Tensor, expected: Tensor) -> Figure:
    colours = signed(float(expected.abs().max()))
    images = [expected.numpy(), got.numpy()]
    return gallery(images, ["expected", "yours"], title="G, mode i by mode j", **colours)


def squared_distance(predicted, truth, gram):
    """As `objective.py` does it: for each face."""
    off = predicted - truth
    return torch.einsum("bi,ij,bj->b", off, gram, off)


@exercise_check(
    stand_in=lambda p, t, g: squared_distance(p, t, g).mean(),
    mistakes={
        "That is the sum over the batch; its mean is asked for.": lambda p, t, g: squared_distance(
            p, t, g
        ).sum(),
        "Every face is multiplied with every other there: off @ gram @ off.T holds the products of "
        "face b with face c too. Only b with itself counts.": (
            lambda p, t, g: ((p - t) @ g @ (p - t).T).mean(),
            lambda p, t, g: ((p - t) @ g @ (p - t).T).sum() / len(p),
            lambda p, t, g: squared_distance(p.mean(0, True), t.mean(0, True), g).mean(),
        ),
        "No root: the loss is in mm².": lambda p, t, g: (
            squared_distance(p, t, g).clamp(min=1e-9).sqrt().mean()
        ),
        "Only the diagonal of G counts there.": lambda p, t, g: squared_distance(
            p, t, g.diagonal().diag()
        ).mean(),
        "That leaves G out; it weighs the modes.": lambda p, t, g: (p - t).square().sum(1).mean(),
        "That is divided by the modes as well; only the faces are averaged.": lambda p, t, g: (
            squared_distance(p, t, g).mean() / len(g)
        ),
        "A loss is one number for the whole batch.": squared_distance,
    },
)
def truth_shape_loss(attempt):
    def batch_of(faces: int, modes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        gram = gram_of(normal(modes, 12, 3, seed=seed), torch.ones(12))
        return normal(faces, modes, seed=seed + 5), normal(faces, modes, seed=seed + 9), gram

    with attempt.part("by hand"):
        # two modes alone could be several mistakes: three tell them apart
        gram = gram_of(normal(3, 9, 3, seed=9), torch.ones(9))
        attempt.trial("truth_shape_loss of five faces")(*normal(2, 5, 3, seed=8), gram)
        gram = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
        faces = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 0]]])
        # off (1, 1): 4 + 2 + 2 = 8; off (-2, 0): 16
        hint = "The two faces are off by (1, 1) and (-2, 0): 8 mm² and 16 mm²."
        what = "truth_shape_loss of two faces of two modes"
        attempt.case(what, (*faces, gram), hint, expected=torch.tensor(12.0))
    with attempt.part("batches"):
        for sizes in ((3, 5, 1), (1, 8, 2), (6, 4, 3)):
            predicted, truth, gram = batch_of(*sizes)
            what = "truth_shape_loss of {} faces of {} modes".format(*sizes)
            attempt.case(what, (predicted, truth, gram))
            attempt.gradients(what, {"predicted": predicted}, truth, gram)
    predicted, truth, gram = batch_of(6, 4, 3)
    with attempt.part("exact faces"):
        what = "truth_shape_loss of a face and itself"
        attempt.case(what, (truth, truth, gram), expected=torch.tensor(0.0))
        attempt.gradients(what, {"predicted": truth}, truth, gram)
        some = torch.cat([truth[:3], predicted[3:]])
        what = "truth_shape_loss of faces of which some are exact"
        attempt.gradients(what, {"predicted": some}, truth, gram)
    lengths = torch.logspace(0.15, -1.7, 80)[:, None, None]
    fine = gram_of(lengths * normal(80, 99, 3, seed=6), torch.ones(99))
    other = gram_of(normal(4, 12, 3, seed=7), torch.ones(12))
    double = predicted.double(), truth.double(), gram.double()
    with attempt.part("the notebook's sizes, edges and layouts"):
        for words, inputs in {
            "16 faces of 80 modes": (*normal(2, 16, 80, seed=8), fine),
            "faces that are off by thousandths": (truth + 1e-3 * predicted, truth, gram),
            "the same faces with another G": (predicted, truth, other),
            "other faces with that G": (truth, 2 * predicted, other),
            "one face of one mode": (predicted[:1, :1], truth[:1, :1], gram[:1, :1]),
            "six faces of one mode": (predicted[:, :1], truth[:, :1], gram[:1, :1]),
            "arguments that are not contiguous": strided(predicted, truth, gram),
            "float64": double,
        }.items():
            attempt.case(f"truth_shape_loss of {words}", inputs, atol=1e-9, rtol=1e-3)
    return "by hand, and for three batches, with its gradient"


# One step ---------------------------------------------------------------------------------------


def numbers(result) -> dict[str, float]:
    return {"loss": result.loss.item()} | {k: v.item() for k, v in result.terms.items()}


def step_of(
    order="zero backward clip guard step",
    sign=1,
    clip=nn.utils.clip_grad_norm_,
    fine=lambda loss, norm, parameters: loss.isfinite() & norm.isfinite(),
    error=FloatingPointError,
    answer=numbers,
):
    """As the loop of `training/loop.py`; order: what is done after the loss is computed."""

    def train_step(network, objective, batch, optimizer, clip_norm):
        result, parameters = objective(network(batch.image), batch), list(network.parameters())

        def guard():
            norm = nn.utils.clip_grad_norm_(parameters, math.inf)  # its length, and no more
            if not fine(result.loss, norm, parameters):
                raise error(f"not finite: {batch.names[0]} to {batch.names[-1]}")

        actions = {
            "zero": optimizer.zero_grad,
            "backward": lambda: (sign * result.loss).backward(),
            "clip": lambda: clip(parameters, clip_norm),
            "guard": guard,
            "step": optimizer.step,
        }
        for action in order.split():
            actions[action]()
        return answer(result)

    return train_step


BROKEN = {
    "is nan or infinite": lambda light, off: light / 0,
    "is infinite": lambda light, off: light * torch.inf,
    "is finite, but its gradient is nan": lambda light, off: (0 * off).square().sum().sqrt(),
    "is infinite, though its gradient is not": lambda light, off: light + torch.inf,
    "is nan, though its gradient is not": lambda light, off: light + torch.nan,
    "is too large for its numbers": lambda light, off: 3e38 * light / light.detach(),
}
"""What may be wrong with a loss, in words: how the term of the light becomes so."""


def _objective(
    spoil: Callable = lambda light, off: light, slope: float = 1.0, told: float = 0.0
) -> Callable:
    """Two terms of a small loss, and one that is told and not in it. slope: of the loss."""

    def objective(coefficients: Tensor, batch: FaceBatch) -> SimpleNamespace:
        off = coefficients - batch.landmarks[:, :5, 0]
        terms = {
            "shape": off[:, :3].square().mean(),
            "light": spoil(off[:, 3:].square().mean(), off),
        }
        loss = slope * (3 * terms["shape"] + 2 * terms["light"])
        return SimpleNamespace(loss=loss, terms=terms | {"told": torch.tensor(told)})

    return objective


def _small_problem(seed: int, optimiser: type[torch.optim.Optimizer], rate: float):
    """(network, optimizer, batch of 3), the same for one seed."""
    layers = nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 5)
    network = _with_weights(nn.Sequential(*layers), 100 * seed, sd=0.3)
    for p in network.parameters():
        p.grad = torch.full_like(p, 0.3)  # of an earlier step
    image = uniform(3, 3, 4, 4, seed=seed)
    landmarks = 2 * normal(3, 68, 2, seed=seed + 1)
    names = [f"seed {seed} face {i}" for i in range(3)]
    faces = FaceBatch(image, torch.ones(3, 1, 4, 4), landmarks, "2d", names)
    return network, optimiser(network.parameters(), lr=rate), faces


def _groups(parameters, lr: float) -> torch.optim.Optimizer:
    """Momentum, and a group for each layer with a learning rate of its own, and one of nothing."""
    weight, bias, *head = parameters
    groups = [{"params": [weight, bias], "lr": 3 * lr}, {"params": []}, {"params": head}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def _weights(network: nn.Module) -> tuple[Tensor, ...]:
    return tuple(p.detach().clone() for p in network.parameters())


def _after(problem: tuple, objective: Callable, step: Callable) -> tuple[tuple, list[dict]]:
    """The weights after so many steps, and what each step returned."""
    *problem, limit, count = problem
    network, optimizer, faces = _small_problem(*problem)
    answers = [  # batches of 3 and 2, in turn
        step(network, objective, faces[i % 2 : 3], optimizer, limit) for i in range(count)
    ]
    if not network.training:
        raise Wrong("After train_step the network is in .eval() mode; leave its mode as it was.")
    return _weights(network), answers


@exercise_check(
    stand_in=step_of(),
    mistakes={
        "After train_step the weights are what they were. Is there a .backward(), then a .step(), "
        "and is nothing zeroed in between?": (
            step_of("zero backward clip guard"),
            step_of("zero clip guard step"),
            step_of("backward zero clip guard step"),
        ),
        "Your step goes uphill: the loss rises.": step_of(sign=-1),
        "The gradient is longer than clip_norm here, and your step is as long as without clipping. "
        "Shorten it after backward() has made it and before step() uses it.": (
            step_of("zero backward guard step"),
            step_of("zero clip backward guard step"),
            step_of("zero backward guard step clip"),
        ),
        "It is what comes of gradients that pile up: backward() adds to what is there from the "
        "step before, so zero them first.": (
            step_of("backward clip guard step"),
            step_of("backward clip guard step zero"),
        ),
    },
    compared=itemgetter(0),
    hint="It is the gradient of all weights together that is to be no longer than clip_norm.",
    parts={f"the {part} of layer {n}": {} for n in (1, 2) for part in ("weights", "bias")},
    points=3,
)
def train_step(attempt):
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    plain, told = _objective(), _objective(told=math.nan)
    flat, steep = _objective(slope=0.0), _objective(slope=1e6)

    def case(words: str, objective: Callable, *problem: object) -> None:
        what = f"a network after {problem[-1]} step(s) {words}"
        ask, (seed, *rest) = partial(_after, problem, objective), problem
        again = partial(_after, (seed + 10, *rest), objective)
        (weights, got), (right, expected) = attempt.through(ask, what, again), ask(step_of())
        _check_numbers(got[0], expected[0])
        curves = ([step["loss"] for step in run] for run in (expected, got))
        attempt.close(what, weights, right, picture=partial(loss_curves, *curves))
        for one, other in zip(got, expected, strict=True):
            _check_numbers(one, other)

    with attempt.part("one step"):
        case("of SGD, with gradients too short to be clipped", plain, 1, sgd, 0.05, 1e3, 1)
        # Adam's first step is the same for any length of the gradient
        case("of SGD, whose gradient is longer than clip_norm", plain, 2, sgd, 0.1, 0.25, 1)
    with attempt.part("many steps"):
        case("of SGD", plain, 3, sgd, 0.05, 0.8, 7)
        case("of Adam", plain, 3, adam, 0.02, 0.8, 20)
        words = "of SGD with momentum and groups of parameters"
        case(words, plain, 5, _groups, 0.02, 0.8, 6)
    with attempt.part("odd losses"):
        case("of SGD where the gradient is zero", flat, 6, sgd, 0.05, 0.8, 2)
        case("of Adam where the loss is above 1e4", steep, 6, adam, 0.02, 30.0, 5)
        words = "of SGD where a term is nan that is not in the loss"
        case(words, told, 6, sgd, 0.05, 0.8, 2)
    with attempt.part("a bad batch"):
        for words, spoil in BROKEN.items():
            _check_guard(attempt, words, spoil)
    return "clipped and not, with SGD and Adam, and a bad batch changes no weight"


def _check_guard(attempt: Attempt, words: str, spoil: Callable) -> None:
    network, optimizer, faces = _small_problem(4, torch.optim.Adam, 0.02)
    before = _weights(network)
    arguments = (network, _objective(spoil), faces, optimizer, 1.0)
    did = attempt.instead_of_raising(FloatingPointError, *arguments)
    if not all(map(torch.equal, _weights(network), before)):
        raise Wrong(
            f"Where the loss {words}, the weights changed all the same, and one such step "
            "makes every weight nan for good. Look at the loss and at the length of the "
            "gradient before you step, and raise FloatingPointError."
        )
    if did:
        raise Wrong(
            f"Where the loss {words}, train_step should raise FloatingPointError; it {did}."
        )


def _check_numbers(got: object, expected: dict[str, float]) -> None:
    if not isinstance(got, dict) or set(got) != set(expected):
        raise Wrong(
            f"train_step(...) returned {got}; expected a dict of {sorted(expected)}: the loss as "
            "'loss', and every term by its own name."
        )
    for name, value in got.items():
        what = f"train_step(...)[{name!r}]"
        if isinstance(value, Tensor):
            raise Wrong(
                f"{what} is a tensor. A tensor of the loss keeps the whole graph of its step in "
                "memory: return plain numbers, .item()."
            )
        hint = "What is returned is of before the step, as the objective gave it."
        close(what, value, expected[name], rtol=1e-3, atol=1e-4, hint=hint)


# Two opinions -----------------------------------------------------------------------------------

STRANGERS, NEARER = 40, 0.08  # faces; how much nearer than the encoder they are to be


def slopes_of(project: Callable, answer: Tensor) -> Tensor:
    """(batch, 2 * points, number): how each landmark's x and y move with each number."""
    slopes = torch.autograd.functional.jacobian(lambda x: project(x).sum(0), answer)
    return slopes.permute(2, 0, 1, 3).flatten(1, 2)


def refined(
    doubt: Callable = torch.square,
    noise: Callable = lambda noise: noise.repeat_interleave(2).square(),
    off: Callable = torch.sub,
    at: Callable = lambda answer: answer,
    slopes: Callable = slopes_of,
    add: Callable = torch.add,
) -> Callable:
    """One Gauss-Newton step on the sum of both opinions' squares; parts can be mistakes."""

    def refine(answer, doubts, landmarks, noises, project):
        moves = slopes(project, at(answer))
        spread = doubt(doubts)[:, None] * moves.mT
        both = moves @ spread + torch.diag(noise(noises))
        step = torch.linalg.solve(both, off(landmarks, project(answer)).flatten(1)[..., None])
        return add(answer, (spread @ step)[..., 0])

    return refine


def _linear(points: int, numbers: int, seed: int, scale: float = 1.0) -> Callable:
    """A camera that is linear: (batch, number) to (batch, point, 2)."""
    moves, middle = scale * normal(numbers, 2 * points, seed=seed), normal(points, 2, seed=seed + 1)
    return lambda x: (x @ moves.to(x)).unflatten(1, (points, 2)) + middle.to(x)


def _bent(x: Tensor) -> Tensor:
    """Three points that turn by x[0], grow by x[1] and move by x[2], x[3]."""
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]).to(x)
    c, s = x[:, :1].cos(), x[:, :1].sin()
    turned = torch.stack(
        [c * points[:, 0] - s * points[:, 1], s * points[:, 0] + c * points[:, 1]], -1
    )
    return 5 * (x[:, 1, None, None].exp() * turned + x[:, None, 2:])


def objections(x, answer, doubt, landmarks, noise, project) -> Tensor:
    """(batch,): what both opinions object to x, as squares in units of their doubts."""
    off = (project(x) - landmarks) / noise[:, None]
    return ((x - answer) / doubt).square().sum(1) + off.square().sum((1, 2))


@cache
def _strangers() -> tuple[MorphableModel, tuple, FaceCoefficients]:
    """(model, what `refine` gets of rendered strangers, their truth)."""
    model = MorphableModel.load(subdivision=0)
    encoder, project = load_encoder(model=model), landmark_projection(model)
    known = RenderedFaces(model, seed=3).batch(torch.arange(24))
    faces = RenderedFaces(model, seed=5, family="held-out").batch(torch.arange(STRANGERS))
    with torch.no_grad():
        answers = (encoder(batch.image).to_vector() for batch in (known, faces))
        practice, answer = answers
        truth = known.truth.to_vector()
        noise = (project(truth) - known.landmarks).square().mean((0, 2)).sqrt()
    doubt = (truth - practice).square().mean(0).sqrt()
    return model, (answer, doubt, faces.landmarks, noise, project), faces.truth


@exercise_check(
    stand_in=refined(),
    mistakes={
        "The doubts are standard deviations: what weighs is their square.": (
            refined(doubt=lambda d: d),
            refined(noise=lambda n: n.repeat_interleave(2)),
            refined(doubt=lambda d: d, noise=lambda n: n.repeat_interleave(2)),
        ),
        "The step goes away from the landmarks: they are the goal, the projection is the start.": (
            refined(off=lambda landmarks, at: at - landmarks)
        ),
        "All numbers are doubted alike there; the encoder knows some far better than others.": (
            refined(doubt=torch.ones_like)
        ),
        "All landmarks are trusted alike there; those of the jaw are the least certain.": (
            refined(noise=lambda n: n.square().mean().expand(2 * len(n))),
            refined(noise=lambda n: torch.ones(2 * len(n)).to(n)),
        ),
        "The noise of a landmark is that of its x and of its y, which stand side by side: "
        "repeat_interleave.": refined(noise=lambda n: n.repeat(2).square()),
        "That is the step; the answer has to be added.": refined(add=lambda answer, step: step),
        "The slopes are those at 0, not at the encoder's answer.": refined(at=torch.zeros_like),
        "One face's slopes serve for all faces there.": refined(
            slopes=lambda project, x: slopes_of(project, x[:1])
        ),
    },
    points=3,
    challenge=True,
)
def refine(attempt):
    def problem(batch: int, points: int, numbers: int, seed: int, camera=None) -> tuple:
        answer, doubt = normal(batch, numbers, seed=seed), 0.2 + uniform(numbers, seed=seed + 1)
        noise = 0.5 + 2 * uniform(points, seed=seed + 2)
        landmarks = 3 * normal(batch, points, 2, seed=seed + 3)
        return answer, doubt, landmarks, noise, camera or _linear(points, numbers, seed + 4)

    near = dict(atol=2e-3, rtol=2e-3)
    with attempt.part("by hand"):
        # one number alone could be several mistakes: these tell them apart
        attempt.case("refine of a face of three numbers", problem(1, 4, 3, 1), **near)
        what = "refine of one number, 2, which its landmark would have at 7"
        hint = "The landmark's noise is half of the encoder's doubt: it gets 4 of 5 parts."
        one = torch.tensor([[2.0]]), torch.tensor([2.0]), torch.tensor([[[7.0, 0.0]]])
        camera = lambda x: torch.stack([x, 0 * x], -1)  # noqa: E731
        inputs = *one, torch.tensor([1.0]), camera
        attempt.case(what, inputs, hint, expected=torch.tensor([[6.0]]), **near)
    with attempt.part("straight cameras"):
        for batch, points, numbers, seed in ((4, 9, 5, 10), (2, 3, 20, 20), (1, 1, 1, 30)):
            what = f"refine of {batch} faces of {numbers} numbers and {points} landmarks"
            attempt.case(what, problem(batch, points, numbers, seed), **near)
    with attempt.part("edges"):
        answer, doubt, landmarks, noise, camera = problem(3, 6, 8, 40)
        sure = answer, 1e-3 * doubt, landmarks, noise, camera
        attempt.case("refine of answers that are hardly doubted", sure, **near)
        lost = answer, doubt, landmarks, noise * (1 + 1e4 * (torch.arange(6) == 2)), camera
        attempt.case("refine where one landmark is hidden, its noise 1e4", lost, **near)
        agreed = answer, doubt, camera(answer), noise, camera
        what = "refine where the landmarks are where the answer puts them"
        attempt.case(what, agreed, expected=answer, **near)
        units = torch.logspace(-2, 1.8, 8)
        mixed = units * answer, units * doubt, landmarks, noise, lambda x: camera(x / units.to(x))
        attempt.case("refine of numbers of very different units", mixed, atol=2e-4, rtol=2e-3)
        mixed = answer, doubt, *strided(landmarks), noise, camera
        attempt.case("refine of landmarks that are not contiguous", mixed, **near)
        double = (x.double() for x in (answer, doubt, landmarks, noise))
        attempt.case("refine in float64", (*double, camera), **near)
    with attempt.part("a camera that bends"):
        answer, doubt, landmarks, noise, _ = problem(5, 3, 4, 50, _bent)
        landmarks = _bent(answer + 0.3 * normal(5, 4, seed=51)) + 0.2 * landmarks
        inputs = answer, doubt, landmarks, noise, _bent
        what = "refine of turned and scaled triangles"
        got, step = attempt.trial(what)(*inputs), refined()(*inputs)
        if not like(got, step):
            attempt.close(what, got, step)
        mine, ours = objections(got, *inputs), objections(step, *inputs)
        if (mine > 1.02 * ours).any():
            attempt.close(f"what both opinions object to {what}", mine, ours)
    with attempt.part("rendered strangers"):
        model, inputs, truth = _strangers()
        got = attempt.trial(f"refine of {STRANGERS} rendered faces")(*inputs)
        if not like(got, inputs[0]):
            attempt.close(f"refine of {STRANGERS} rendered faces", got, inputs[0])
        said = (FaceCoefficients.from_vector(x.detach(), model.sizes) for x in (inputs[0], got))
        before, after = (float(shape_errors(model, c, truth).mean()) for c in said)
        words = (
            f"{STRANGERS} rendered strangers: the encoder {before:.2f} mm off, yours {after:.2f}"
        )
        if not after < (1 - NEARER) * before:
            raise Wrong(f"{words}. At least {NEARER:.0%} nearer is asked for.")
        return words
    return None
