"""Checks of notebook 11: the average over frames, the basis step, angles, and the gauge."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...beyond.learned_model import average_frames as library_average
from ...beyond.subspaces import orthonormal
from ...beyond.subspaces import principal_modes as library_modes
from ...beyond.subspaces import subspace_angles as library_angles
from ..checks import exercise_check
from ..compare import Wrong, normal, strided, uniform


def averaged(
    weigh: Callable = lambda weights: weights,
    divide: Callable = lambda total, weight, counts: (
        total / torch.where(weight > 0, weight, 1.0)[:, None]
    ),
    people: Callable = lambda person: person,
):
    """The weighted mean per person, or with one thing done otherwise."""

    def average_frames(features, person, weights=None):
        weights = features.new_ones(len(features)) if weights is None else weigh(weights)
        person, count = people(person), int(person.max()) + 1
        table = torch.nn.functional.one_hot(person, count).to(features.dtype)
        total, weight = table.T @ (weights[:, None] * features), table.T @ weights
        return divide(total, weight, table.sum(0))

    return average_frames


@exercise_check(
    stand_in=library_average,
    mistakes={
        "That is the average over all frames of all people. Each person has a row of "
        "their own.": lambda features, person, weights=None: averaged()(
            features, 0 * person, weights
        ).expand(int(person.max()) + 1, -1),
        "Frames are added up there, and not divided by the sum of their weights: a person with "
        "more frames would be more of everything.": averaged(divide=lambda total, *_: total),
        "The sum is divided by the number of frames. Divide it by the sum of their "
        "weights.": averaged(divide=lambda t, w, counts: t / counts.clamp(min=1)[:, None]),
        "The weights are not used there.": averaged(weigh=torch.ones_like),
        "A frame counts with the square of its weight there.": averaged(weigh=torch.square),
        "The sum is divided by at least 1, and weights may be as small as they like: only a sum "
        "of exactly 0 needs care.": averaged(
            divide=lambda total, weight, _: total / weight.clamp(min=1)[:, None]
        ),
        "There is a row per frame. Return a row per person.": lambda features, person, w=None: (
            averaged()(features, person, w)[person]
        ),
    },
    axes=("person", "feature"),
    points=2,
)
def average_frames(attempt):
    features, weights = normal(12, 5, seed=1), uniform(12, seed=2) + 0.1
    person = torch.tensor([2, 0, 1, 1, 0, 2, 2, 2, 0, 1, 2, 0])

    def case(words: str, *inputs, **options) -> None:
        attempt.case(f"average_frames of {words}", inputs, **options)

    with attempt.part("by hand"):
        three, two = torch.tensor([[1.0, 4.0], [3.0, 0.0], [7.0, 7.0]]), torch.tensor([0, 0, 1])
        expected = torch.tensor([[2.0, 2.0], [7.0, 7.0]])
        case("two frames of one person, one of another", three, two, expected=expected)
        expected = torch.tensor([[2.5, 1.0], [7.0, 7.0]])
        case("the same, weighted", three, two, torch.tensor([1.0, 3.0, 0.5]), expected=expected)
    with attempt.part("people in any order"):
        case("three people, mixed", features, person)
        case("three people, mixed and weighted", features, person, weights)
        case("other people", features, 2 - person, weights)
        case("four frames of each of 8 people", normal(32, 128, seed=3), torch.arange(32) // 4)
    with attempt.part("edges"):
        case("a person whose weights are 0", features, person, weights * (person != 1))
        case("two frames that are left out", features, person, (torch.arange(12) > 1).float())
        case("a number that no frame has", features[:4], torch.tensor([3, 0, 0, 3]), weights[:4])
        case("one frame", features[:1], torch.tensor([0]), weights[:1])
        case("weights below a thousandth", features, person, 1e-4 * weights)
        case("tiny weights", features, person, 1e-12 * weights)
    with attempt.part("gradients"):
        attempt.gradients("average_frames", {"features": features}, person, weights)
        both = {"features": features, "weights": weights * (person != 1)}
        attempt.gradients(
            "average_frames with a person left out",
            both,
            call=lambda f, features, weights: f(features, person, weights),
        )
    with attempt.part("layouts"):
        case("features that are not contiguous", *strided(features), person, weights)
        case("float64", features.double(), person, weights.double())
    return "in any order, with frames and people left out"


def stepped(
    gather: Callable = lambda coefficients, person: coefficients[person],
    smooth: Callable = lambda spread, slope: spread @ (spread.T @ slope),
    move: Callable = lambda basis, change, rate: basis - rate * change,
    slope: Callable = lambda seen, pull: torch.einsum("fk,fvc->kvc", seen, pull),
):
    """A step down for the basis, or with one thing done otherwise."""

    def basis_step(basis, pull, coefficients, person, spread, rate):
        change = slope(gather(coefficients, person), pull)
        return move(basis, smooth(spread, change), rate)

    return basis_step


@exercise_check(
    stand_in=stepped(),
    mistakes={
        "It goes up the slope: the loss grows. Subtract.": stepped(move=lambda b, c, r: b + r * c),
        "The rate is missing: it says how far to go.": stepped(move=lambda b, c, r: b - c),
        "That is the change alone. Return the basis after the step.": stepped(
            move=lambda b, c, r: -r * c
        ),
        "The step is not smooth: carry it to the nodes and back, spread @ (spread.T @ slope).": (
            stepped(smooth=lambda spread, change: change)
        ),
        "Every mode gets the same slope there. A mode moves a vertex by its coefficient times the "
        "mode, so its slope is the coefficient times the pull.": stepped(
            gather=lambda c, person: torch.ones_like(c)[person]
        ),
        "Frames take the coefficients of the wrong people: `person` tells whose a frame is, "
        "coefficients[person].": stepped(
            gather=lambda c, person: c[torch.arange(len(person)) % len(c)]
        ),
        "The slope is averaged over the frames there. `pull` is the slope of the whole loss "
        "already; sum.": stepped(
            slope=lambda seen, pull: torch.einsum("fk,fvc->kvc", seen, pull) / len(pull)
        ),
    },
    axes=("mode", "vertex", "x, y, z"),
    atol=1e-4,
    points=2,
)
def basis_step(attempt):
    def scene(frames: int, people: int, modes: int, vertices: int, nodes: int, seed: int) -> tuple:
        person = torch.randint(people, (frames,), generator=torch.Generator().manual_seed(seed))
        basis, pull = normal(modes, vertices, 3, seed=seed), normal(frames, vertices, 3, seed=seed)
        spread = torch.softmax(3 * normal(vertices, nodes, seed=seed), 1)
        return basis, pull, normal(people, modes, seed=seed + 1), person, spread

    def case(words: str, *inputs, **options) -> None:
        attempt.case(f"basis_step of {words}", inputs, **options)

    with attempt.part("by hand"):
        basis, pull = torch.zeros(2, 2, 3), torch.zeros(1, 2, 3)
        pull[0, 0] = torch.tensor([1.0, 0.0, -2.0])
        one = torch.tensor([[3.0, -1.0]]), torch.tensor([0])
        expected = torch.zeros(2, 2, 3)
        expected[0, 0] = torch.tensor([-1.5, 0.0, 3.0])
        expected[1, 0] = torch.tensor([0.5, 0.0, -1.0])
        words = "two modes, one pulled vertex, and each vertex its own node"
        case(words, basis, pull, *one, torch.eye(2), 0.5, expected=expected)
        shared = torch.full((2, 1), 1.0)
        expected = expected[:, :1].expand(2, 2, 3).contiguous()
        case("the same, and one node for both", basis, pull, *one, shared, 0.5, expected=expected)
    with attempt.part("frames and people"):
        case("6 frames of 3 people", *scene(6, 3, 4, 9, 5, 1), 0.1)
        case("one frame", *scene(1, 1, 1, 4, 2, 2), 2.0)
        case("a person that no frame shows", *scene(2, 5, 3, 6, 4, 3), 0.3)
        basis, pull, coefficients, person, spread = scene(6, 3, 4, 9, 5, 4)
        case("frames in another order", basis, pull, coefficients, person.flip(0), spread, 0.1)
    with attempt.part("the notebook's size"):
        basis, pull, coefficients, person, spread = scene(16, 4, 8, 3437, 40, 5)
        case("3,437 vertices", 0.05 * basis, 1e-3 * pull, coefficients, person, spread, 5.0)
    with attempt.part("edges and layouts"):
        inputs = scene(6, 3, 4, 9, 5, 6)
        case("a rate of 0", *inputs, 0.0)
        case("float64", *(x.double() if x.is_floating_point() else x for x in inputs), 0.1)
        basis, pull, coefficients, person, spread = inputs
        mixed = strided(basis, pull, coefficients), *strided(spread)
        case("tensors that are not contiguous", *mixed[0], person, mixed[1], 0.1)
        case("no pull", basis, 0 * pull, coefficients, person, spread, 0.1)
    return "it is what autograd says, made smooth"


def angled(
    first: Callable = orthonormal,
    second: Callable = orthonormal,
    read: Callable = lambda cosines: cosines.clamp(max=1).acos().rad2deg(),
):
    """Principal angles, or with one thing done otherwise."""
    return lambda a, b: read(torch.linalg.svdvals(first(a).T @ second(b)))


def unit_columns(basis: Tensor) -> Tensor:
    flat = basis.flatten(1).double().T
    return flat / flat.norm(dim=0)


@exercise_check(
    stand_in=library_angles,
    mistakes={
        "Those are radians. Return degrees.": angled(read=lambda c: c.clamp(max=1).acos()),
        "Those are the cosines of the angles.": angled(read=lambda c: c),
        "The largest angle comes first there; the smallest should.": angled(
            read=lambda c: c.clamp(max=1).acos().rad2deg().flip(0)
        ),
        "The modes are made as long as 1 there, and not turned at right angles to each other. "
        "Take the left singular vectors of each basis.": angled(unit_columns, unit_columns),
        "Each mode is compared with each other mode there. What counts is what all of a basis "
        "span together.": lambda a, b: (
            (unit_columns(a).T @ unit_columns(b)).abs().amax(1).clamp(max=1).acos().rad2deg()
        ),
        "Those are angles of the sine; the singular values are cosines.": angled(
            read=lambda c: c.clamp(max=1).asin().rad2deg()
        ),
        "A mode that is made of others is a direction of its own there. Leave out singular values "
        "below a millionth of the largest.": angled(
            *2 * (lambda x: torch.linalg.svd(x.flatten(1).double().T, full_matrices=False)[0],)
        ),
    },
    axes=("angle",),
    atol=1e-3,
    points=2,
)
def subspace_angles(attempt):
    a, b = normal(4, 10, 3, seed=1), normal(4, 10, 3, seed=2)

    def case(words: str, *inputs, **options) -> None:
        attempt.case(f"subspace_angles of {words}", inputs, **options)

    with attempt.part("by hand"):
        x, y, z = torch.eye(3)[:, None]  # three modes of one vertex
        plane, tilted = torch.stack([x, y]), torch.stack([x, y + z])
        zero, tilt = 0.0, 45.0
        expected = torch.tensor([zero, tilt], dtype=torch.float64)
        case("a plane, and one tilted by 45 degrees", plane, tilted, expected=expected)
        expected = torch.tensor([60.0], dtype=torch.float64)
        line = (0.5 * x + 0.75**0.5 * z)[None]
        case("a line 60 degrees over a plane", line, plane, expected=expected)
        expected = torch.tensor([90.0], dtype=torch.float64)
        case("two lines at right angles", z[None], 7 * x[None], expected=expected)
    with attempt.part("bases"):
        case("two bases", a, b)
        mixed = torch.einsum("ij,jvc->ivc", normal(4, 4, seed=3), b)
        case("a basis with mixed modes", a, mixed)
        case("3 modes and 6", normal(3, 10, 3, seed=4), normal(6, 10, 3, seed=5))
        case("6 modes and 3", normal(6, 10, 3, seed=5), normal(3, 10, 3, seed=4))
    with attempt.part("near and dependent"):
        case("a basis and itself", a, a)
        near = a + 1e-4 * b
        case("a basis and one hundredth of a degree away", a, near)
        double = torch.cat([a, a[:1] + a[1:2]])
        case("a basis with a mode made of two others", double, b)
        case("the same as second", b, double)
    with attempt.part("sizes and layouts"):
        big = normal(12, 1500, 3, seed=6), 30 * normal(16, 1500, 3, seed=7)
        case("12 and 16 modes of 1,500 vertices", *big)
        case("tiny modes", 1e-4 * a, 1e-4 * b)
        case("modes that are not contiguous", *strided(a, b))
        case("float64", a.double(), b.double())
    return "right angles, small ones, and modes that say nothing new"


def largest_sign(modes: Tensor) -> Tensor:
    """The sign of the largest entry of each mode."""
    return modes.gather(1, modes.abs().argmax(1, keepdim=True)).sign()


def in_gauge(
    scale: Callable = lambda count: count**0.5,
    order: Callable = lambda size: torch.arange(len(size)),
    sign: Callable = largest_sign,
    centre: Callable = lambda c: c,
    coefficients: Callable = lambda new, old: new,
):
    """PCA's gauge, or with one thing done otherwise."""

    def principal_modes(basis, old):
        c = centre(old.double())
        u, size, modes = torch.linalg.svd(c @ basis.flatten(1).double(), full_matrices=False)
        keep = order(size[: len(basis)])
        u, size, modes = u[:, keep], size[keep], modes[keep]
        count, signs = scale(len(c)), sign(modes)
        new_basis = (signs * modes * size[:, None] / count).view(-1, *basis.shape[1:])
        new = coefficients(u * count * signs[:, 0], old)
        return new_basis.to(basis.dtype), new.to(old.dtype)

    return principal_modes


def _by_basis_alone(basis: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    u, size, modes = torch.linalg.svd(basis.flatten(1).double(), full_matrices=False)
    signs = largest_sign(modes)
    new = c.double() @ u * size * signs[:, 0]
    rms = new.square().mean(0).sqrt()
    modes = (signs * modes * rms[:, None]).view(basis.shape)
    return modes.to(basis.dtype), (new / rms).to(c.dtype)


@exercise_check(
    stand_in=library_modes,
    mistakes={
        "The coefficients are still the old ones: what the modes were turned by, they have to be "
        "turned back by.": in_gauge(coefficients=lambda new, old: old),
        "The mean over faces was taken out there, so the faces are others. It stays in the "
        "coefficients.": in_gauge(centre=lambda c: c - c.mean(0)),
        "The coefficients have length 1 over all faces. Their mean square should be 1: give the "
        "square root of the number of faces to them, and take it from the modes.": in_gauge(
            scale=lambda count: 1.0
        ),
        "The mode that moves faces least comes first there.": in_gauge(
            order=lambda size: torch.arange(len(size)).flip(0)
        ),
        "Some modes have the wrong sign: the largest of a mode's entries, without regard to sign, "
        "should be positive.": (
            in_gauge(sign=lambda m: -largest_sign(m)),
            in_gauge(sign=lambda m: m.sum(1, keepdim=True).sign()),
            in_gauge(sign=lambda m: m[:, :1].sign()),
        ),
        "The modes are at right angles, and the faces have not been asked: which directions come "
        "first depends on the coefficients as well.": _by_basis_alone,
    },
    axes=("mode or face", "vertex or mode", "x, y, z"),
    atol=2e-4,
    rtol=1e-3,
    parts={"the basis": {}, "the coefficients": {}},
    points=3,
    challenge=True,
)
def principal_modes(attempt):
    def scene(faces: int, modes: int, vertices: int, seed: int) -> tuple[Tensor, Tensor]:
        sizes = 2.0 ** -torch.arange(modes)
        basis = normal(modes, vertices, 3, seed=seed) * sizes[:, None, None]
        mixed = normal(faces, modes, seed=seed + 1) @ normal(modes, modes, seed=seed + 2)
        return basis, mixed + 0.5

    def case(words: str, *inputs, **options) -> None:
        attempt.case(f"principal_modes of {words}", inputs, **options)

    with attempt.part("by hand"):
        basis = torch.tensor([[[0.0, -2.0, 0.0]], [[1.0, 0.0, 0.0]]])
        faces = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
        modes = torch.tensor([[[0.0, 6.0, 0.0]], [[1.0, 0.0, 0.0]]])
        numbers = torch.tensor([[-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
        case("two modes of one vertex", basis, faces, expected=(modes, numbers))
    with attempt.part("faces stay"):
        for count, modes, vertices, seed in ((9, 3, 5, 1), (40, 6, 11, 11), (5, 1, 4, 21)):
            basis, c = scene(count, modes, vertices, seed)
            case(f"{count} faces, {modes} modes", basis, c)
    with attempt.part("the notebook's size"):
        basis, c = scene(300, 12, 3437, 31)
        answer = attempt.trial("principal_modes of 300 faces, 3,437 vertices")(basis, c)
        right = library_modes(basis, c)
        attempt.close("principal_modes of 300 faces", answer, right)
        new_basis, new = answer
        if not torch.allclose(new @ new_basis.flatten(1), c @ basis.flatten(1), atol=2e-3):
            raise Wrong("New coefficients times the new basis have to be the faces of before.")
    with attempt.part("layouts"):
        basis, c = scene(20, 4, 8, 41)
        case("not contiguous", *strided(basis, c))
        case("float64", basis.double(), c.double())
        case("large faces", 100 * basis, c)
        case("as many faces as modes", basis, c[:4])
    return "the same faces, and only one way to write them"
