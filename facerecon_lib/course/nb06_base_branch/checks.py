"""Checks of notebook 06: the network's way to its coefficients, the truth in mm², one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...face.batch import FaceBatch
from ...face.coefficients import DEFAULT_TRANSLATION, UNIT_AMBIENT, FaceCoefficients
from ...networks.backbones import IMAGENET_MEAN, IMAGENET_SD
from ...networks.encoder import OUTPUT_SCALES
from ..checks import exercise_check
from ..compare import Wrong, close, one_number, same_gradient

GROUPS = tuple(OUTPUT_SCALES)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# From a photo to the head's outputs -------------------------------------------------------------


def network_outputs_stand_in(image, features, head, size):
    """As `Encoder.pooled` and its head."""
    image = F.interpolate(image, (size, size), mode="area")
    mean, sd = (image.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_SD))
    return head(features((image - mean) / sd).mean((2, 3)))


class _SmallBackbone(nn.Module):
    """Three maps in, five out, of unequal height and width; each photo by itself."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 5, (1, 2))
        with torch.no_grad():
            self.mix.weight.copy_(_normal(5, 3, 1, 2, seed=1))
            self.mix.bias.copy_(_normal(5, seed=2))

    def forward(self, image: Tensor) -> Tensor:
        return self.mix(image).tanh() + 0.1 * self.mix(image) ** 2


def _network_mistakes(image, features, head, size) -> dict[str, Callable[[], Tensor]]:
    """What comes out when one of the usual things goes wrong, by the words for it."""
    mean, sd = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_SD))
    small = F.interpolate(image, (size, size), mode="area")
    ready = (small - mean) / sd

    def of(x: Tensor) -> Tensor:
        return head(features(x).mean((2, 3)))

    return {
        "That is what comes out without the normalisation: subtract IMAGENET_MEAN, divide by "
        "IMAGENET_SD, a colour channel at a time.": lambda: of(small),
        "The mean is subtracted there, but nothing is divided by IMAGENET_SD.": lambda: of(
            small - mean
        ),
        "It is divided by IMAGENET_SD there, but the mean is not subtracted.": lambda: of(
            small / sd
        ),
        "Mean and standard deviation have changed places: first minus the mean, then over the "
        "standard deviation.": lambda: of(small / sd - mean),
        "The brackets: the difference is to be divided, not the mean alone.": lambda: of(
            small - mean / sd
        ),
        "Each photo is normalised by its own mean there; it has to be ImageNet's, or a dark "
        "photo and a bright one look alike.": lambda: of(
            (small - small.mean((2, 3), keepdim=True)) / small.std((2, 3), keepdim=True)
        ),
        'That shrinks the photo in another way: mode="area" averages, exactly.': lambda: of(
            (F.interpolate(image, (size, size), mode="bilinear") - mean) / sd
        ),
        'That drops pixels instead of averaging them: mode="area".': lambda: of(
            (F.interpolate(image, (size, size)) - mean) / sd
        ),
        "The photo is not shrunk to `size` there.": lambda: of((image - mean) / sd),
        "That takes each map's largest value; take its average.": lambda: head(
            features(ready).amax((2, 3))
        ),
        "That adds each map up; take its average.": lambda: head(features(ready).sum((2, 3))),
        "Those are the pooled features: the head is missing.": lambda: features(ready).mean((2, 3)),
    }


@exercise_check(stand_in=network_outputs_stand_in)
def network_outputs(attempt):
    features = _SmallBackbone()
    for batch, side, size, outputs, seed in (
        (2, 12, 4, 7, 3),
        (3, 10, 10, 5, 4),
        (1, 9, 6, 4, 5),
        (4, 8, 2, 3, 6),
    ):
        image = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))
        image = image ** torch.tensor([0.5, 1.0, 2.0])[:, None, None]
        head = nn.Linear(5, outputs)
        with torch.no_grad():
            head.weight.copy_(_normal(outputs, 5, seed=seed + 10))
            head.bias.copy_(_normal(outputs, seed=seed + 20))
        expected = network_outputs_stand_in(image, features, head, size)
        got = attempt(image, features, head, size)
        what = f"network_outputs of {batch} photos of {side} px, shrunk to {size}"
        hint = None
        if isinstance(got, Tensor):
            for words, mistake in _network_mistakes(image, features, head, size).items():
                other = mistake()
                told = other.shape != expected.shape or not torch.allclose(
                    other, expected, rtol=1e-3, atol=1e-4
                )
                if told and other.shape == got.shape and torch.allclose(got, other, 1e-3, 1e-4):
                    hint = words
                    break
            if hint and got.shape != expected.shape:
                raise Wrong(f"{what}: expected shape {tuple(expected.shape)}. {hint}")
        close(what, got, expected, axes=("photo", "output"), hint=hint)
        goal = _normal(batch, outputs, seed=seed + 30)
        weights = {
            "the head's weights": (head.weight, head.weight),
            "the backbone's weights": (features.mix.weight, features.mix.weight),
        }
        got = attempt(image, features, head, size)
        expected = network_outputs_stand_in(image, features, head, size)
        same_gradient(what, (got * goal).sum(), (expected * goal).sum(), weights)
    return "four batches of other sizes, and gradients to the head and the backbone"


# From outputs to coefficients -------------------------------------------------------------------


def decode_outputs_stand_in(outputs, sizes, scales):
    """As `Encoder.decode`, without its limit on the scale."""
    parts = outputs.split([*sizes, 3, 3, 1, 27], dim=1)
    c = {
        name: part * part.new_tensor(scales[name]) for name, part in zip(GROUPS, parts, strict=True)
    }
    c["translation"] = c["translation"] + c["translation"].new_tensor(DEFAULT_TRANSLATION)
    c["scale"] = c["scale"].exp()
    start = outputs.new_zeros(9, 3)
    start[0] = UNIT_AMBIENT
    c["lighting"] = c["lighting"].unflatten(1, (9, 3)) + start
    return FaceCoefficients(**c)


def _decoded(attempt, outputs, sizes, scales) -> FaceCoefficients:
    got = attempt(outputs, sizes, scales)
    if got is None:
        raise Wrong("decode_outputs returned nothing (None): is the `return` missing?")
    if not isinstance(got, FaceCoefficients):
        raise Wrong(
            f"decode_outputs: expected FaceCoefficients, got {type(got).__name__}. Hand the seven "
            "groups to FaceCoefficients(identity=..., expression=..., ...)."
        )
    return got


@exercise_check(stand_in=decode_outputs_stand_in)
def decode_outputs(attempt):
    scales = dict(OUTPUT_SCALES)
    # Outputs of zero: the start.
    sizes, batch = (4, 2, 3), 2
    zero = torch.zeros(batch, sum(sizes) + 34)
    start = _decoded(attempt, zero, sizes, scales)
    hints = {
        "scale": "exp(0) = 1: the output is of the scale's logarithm.",
        "translation": f"Outputs of 0 leave the face at {DEFAULT_TRANSLATION} mm.",
        "lighting": "Outputs of 0 are white ambient light: UNIT_AMBIENT in the first of the nine "
        "rows, for all three colours, and 0 in the other rows.",
    }
    mean = FaceCoefficients.mean(batch, *sizes)
    for name in GROUPS:
        what = f"{name} of outputs that are all zero"
        close(what, getattr(start, name), getattr(mean, name), hint=hints.get(name))

    # One output at a time tells which number goes where.
    places = torch.tensor([0, *sizes, 3, 3, 1]).cumsum(0).tolist()
    probes = {
        ("rotation", 1): "An output of 1 turns the face by the scale of rotation, in radians.",
        ("translation", 0): "Translation has three scales: x and y, and a longer one for depth.",
        ("translation", 2): "Translation has three scales: x and y, and a longer one for depth.",
        ("scale", 0): "The output times its scale is log(scale): take exp of it, once.",
        ("lighting", 1): "The 27 numbers of the light go row by row: three colours of row 0, three "
        "of row 1, ...",
        ("lighting", 3): "The 27 numbers of the light go row by row: three colours of row 0, three "
        "of row 1, ...",
        ("lighting", 8): "The 27 numbers of the light go row by row: three colours of row 0, three "
        "of row 1, ...",
    }
    for (group, i), hint in probes.items():
        outputs = torch.zeros(1, sum(sizes) + 34)
        outputs[0, places[GROUPS.index(group)] + i] = 1.0
        got, expected = (
            _decoded(attempt, outputs, sizes, scales),
            decode_outputs_stand_in(outputs, sizes, scales),
        )
        for name in GROUPS:
            what = f"{name}, where output {i} of the group {group!r} is 1 and all others 0"
            hint_here = hint if name == group else "Only one group has an output here."
            close(what, getattr(got, name), getattr(expected, name), hint=hint_here)

    # Batches, with scales that are not the library's.
    others = {name: tuple(0.1 + 0.37 * i + v / 9 for v in s) for i, (name, s) in
              enumerate(scales.items())}  # fmt: skip
    others["identity"] = (2.5,)
    for sizes, batch, table, seed in (
        ((5, 3, 2), 3, scales, 1),
        ((2, 6, 4), 1, others, 2),
        ((80, 43, 25), 4, others, 3),
    ):
        outputs = _normal(batch, sum(sizes) + 34, seed=seed)
        got, expected = (
            _decoded(attempt, outputs, sizes, table),
            decode_outputs_stand_in(outputs, sizes, table),
        )
        hint = None
        if table is others:
            hint = "The scales are other ones here: take them from the argument."
        for name in GROUPS:
            what = f"{name} of a batch of {batch} with sizes {sizes}"
            close(what, getattr(got, name), getattr(expected, name), hint=hint)
        mine, ours = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
        goal = _normal(batch, sum(sizes) + 34, seed=seed + 10)
        got = (_decoded(attempt, mine, sizes, table).to_vector() * goal).sum()
        expected = (decode_outputs_stand_in(ours, sizes, table).to_vector() * goal).sum()
        same_gradient("decode_outputs", got, expected, {"outputs": (mine, ours)})
    return "the start, each group by itself, and batches with other sizes and scales"


# The truth in square millimetres ----------------------------------------------------------------


def shape_gram_stand_in(basis, weights):
    """As `objective.py` does it."""
    return torch.einsum("ivc,v,jvc->ij", basis, weights / weights.sum(), basis)


@exercise_check(stand_in=shape_gram_stand_in)
def shape_gram(attempt):
    # By hand: one mode, two vertices, moved by 5 mm and by 2 mm.
    basis = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]])
    weights = torch.tensor([1.0, 3.0])
    expected = torch.tensor([[(1 * 25 + 3 * 4) / 4.0]])
    got = attempt(basis, weights)
    told = {
        37.0: "The weights have to be divided by their sum: a mean, not a sum.",
        37 / 2: "That divides by the number of vertices; divide by the sum of the weights.",
        37 / 12: "That averages over x, y, z as well: a squared length adds them up.",
        29 / 2: "The weights are not used there.",
        29.0: "The weights are not used there, and nothing is divided.",
        (25 + 9 * 4) / 16: "The weights count twice there, once with either basis.",
        (25 + 9 * 4) / 10: "The weights count twice there, once with either basis.",
        math.sqrt(9.25): "No root: a^T G a is a squared length.",
        (5 + 3 * 2) / 4: "That is the mean length; the mean of its square is asked for.",
    }
    hint = "The squared lengths are 25 and 4 mm², and the second vertex counts three times."
    if isinstance(got, Tensor) and got.numel() == 1:
        hint = next((w for v, w in told.items() if abs(float(got) - v) < 1e-3), hint)
    close("shape_gram of one mode that moves two vertices", got, expected, hint=hint)

    for modes, vertices, seed in ((4, 6, 1), (3, 11, 2), (7, 5, 3)):
        basis = _normal(modes, vertices, 3, seed=seed)
        weights = _normal(vertices, seed=seed + 10).abs() * 3
        weights[0] = 0
        expected = shape_gram_stand_in(basis, weights)
        got = attempt(basis, weights)
        hint = "G[i, j] is of modes i and j: the weighted mean of their product at each vertex."
        if isinstance(got, Tensor) and got.shape == expected.shape:
            if torch.allclose(got, torch.diag(expected.diagonal()), atol=1e-4):
                hint = (
                    "Only the diagonal is there. Two modes that move a vertex the same way help "
                    "each other: that is what G[i, j] is for."
                )
            elif torch.allclose(got * 3, expected, atol=1e-4):
                hint = "A third of what it should be: x, y and z are added, not averaged."
        close(
            f"shape_gram of {modes} modes and {vertices} vertices", got, expected,
            axes=("mode i", "mode j"), hint=hint, picture=_two_matrices,
        )  # fmt: skip
    basis, weights = _normal(5, 9, 3, seed=4), torch.rand(9)
    a = _normal(5, seed=5)
    moved = torch.einsum("i,ivc->vc", a, basis).square().sum(-1)
    expected = (moved * weights).sum() / weights.sum()
    close("a @ shape_gram(basis, weights) @ a", a @ attempt(basis, weights) @ a, expected)
    double = attempt(basis.double(), weights.double())
    close(
        "shape_gram in float64", double, shape_gram_stand_in(basis.double(), weights.double()),
        atol=1e-10, rtol=1e-9,
    )  # fmt: skip
    return "by hand, for three random bases, and a @ G @ a is the mean squared distance"


def _two_matrices(got: Tensor, expected: Tensor) -> Figure:
    figure = Figure((6.2, 2.9), layout="constrained", facecolor="white")
    limit = float(expected.abs().max())
    for axis, (name, matrix) in zip(
        figure.subplots(1, 2), {"expected": expected, "yours": got}.items(), strict=True
    ):
        drawn = axis.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(title=name, xlabel="mode j", ylabel="mode i")
    figure.colorbar(drawn, ax=figure.axes, label="G")
    return figure


def truth_shape_loss_stand_in(predicted, truth, gram):
    """As `objective.py` does it."""
    off = predicted - truth
    return torch.einsum("bi,ij,bj->b", off, gram, off).mean()


@exercise_check(stand_in=truth_shape_loss_stand_in)
def truth_shape_loss(attempt):
    gram = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    predicted, truth = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0]])
    # off (1, 1): 4 + 2 + 2 = 8; off (-2, 0): 16
    got = attempt(predicted, truth, gram)
    told = {
        24.0: "That is the sum over the batch; its mean is asked for.",
        2.0: "Every face is multiplied with every other there: off @ gram @ off.T holds the "
        "products of face b with face c too. Only b with itself counts.",
        (math.sqrt(8) + 4) / 2: "No root: the loss is in mm².",
        1.0: "Faces are mixed there: only the product of a face with itself counts.",
        11.0: "Only the diagonal of G counts there.",
        3.0: "That leaves G out.",
        (8 + 16) / 4: "That is divided by the modes as well; only the faces are averaged.",
    }
    value = one_number("truth_shape_loss(predicted, truth, gram)", got)
    hint = "The two faces are off by (1, 1) and (-2, 0): 8 mm² and 16 mm²."
    hint = next((w for v, w in told.items() if abs(value - v) < 1e-3), hint)
    close("truth_shape_loss of two faces of two modes", got, torch.tensor(12.0), hint=hint)

    for batch, modes, seed in ((3, 5, 1), (1, 8, 2), (6, 4, 3)):
        gram = shape_gram_stand_in(_normal(modes, 12, 3, seed=seed), torch.ones(12))
        predicted, truth = (
            _normal(batch, modes, seed=seed + 5),
            _normal(batch, modes, seed=seed + 9),
        )
        mine, ours = predicted.clone().requires_grad_(), predicted.clone().requires_grad_()
        got = attempt(mine, truth, gram)
        expected = truth_shape_loss_stand_in(ours, truth, gram)
        what = f"truth_shape_loss of {batch} faces of {modes} modes"
        close(what, got, expected)
        same_gradient(what, got, expected, {"predicted": (mine, ours)})
    close("truth_shape_loss of a face and itself", attempt(truth, truth, gram), torch.tensor(0.0))
    return "by hand, and for three batches, with its gradient"


# One step ---------------------------------------------------------------------------------------


def take_step(
    network, objective, batch, optimizer, clip_norm, *, zero=True, clip=True, late=False
) -> dict[str, float]:
    """The stand-in for `train_step`; the three switches are mistakes that its check names."""
    result = objective(network(batch.image), batch)
    if zero:
        optimizer.zero_grad()
    result.loss.backward()
    limit = clip_norm if clip and not late else math.inf
    norm = nn.utils.clip_grad_norm_(network.parameters(), limit)
    if not (torch.isfinite(result.loss) and torch.isfinite(norm)):
        raise FloatingPointError(f"not finite: {batch.names[0]} to {batch.names[-1]}")
    optimizer.step()
    if late:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    return {"loss": result.loss.item()} | {k: v.item() for k, v in result.terms.items()}


def train_step_stand_in(network, objective, batch, optimizer, clip_norm):
    """As the loop of `training/loop.py`."""
    return take_step(network, objective, batch, optimizer, clip_norm)


@dataclass(eq=False)
class _Result:
    loss: Tensor
    terms: Mapping[str, Tensor]


def _small_objective(broken: str = "") -> Callable:
    """Two terms; broken: what is no number of loss and slope."""

    def objective(coefficients: Tensor, batch: FaceBatch) -> _Result:
        off = coefficients - batch.landmarks[:, :5, 0]
        terms = {"shape": off[:, :3].square().mean(), "light": off[:, 3:].square().mean()}
        if broken == "loss":
            terms["light"] = terms["light"] / 0
        if broken == "infinite":
            terms["light"] = terms["light"] * torch.inf
        if broken == "constant":
            terms["light"] = terms["light"] + torch.inf
        if broken == "gradient":
            terms["light"] = (0 * off).square().sum().sqrt()
        return _Result(3 * terms["shape"] + 0.5 * terms["light"], terms)

    return objective


def _small_problem(seed: int, optimiser: str, rate: float, batch: int = 3):
    """(network, optimizer, batch), the same for one seed."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 5))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(0.3 * _normal(*p.shape, seed=100 * seed + i))
    image = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    landmarks = 2 * _normal(batch, 68, 2, seed=seed + 1)
    names = [f"seed {seed} face {i}" for i in range(batch)]
    faces = FaceBatch(image, torch.ones(batch, 1, 4, 4), landmarks, "2d", names)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    return network, kind(network.parameters(), lr=rate), faces


def _stepped(
    attempt, seed: int, optimiser: str, rate: float, limit: float, steps: int, **switches
) -> tuple[list[Tensor], list[dict[str, float]]]:
    network, optimizer, faces = _small_problem(seed, optimiser, rate)
    said = []
    for i in range(steps):
        half = faces[i % 2 : 3]  # batches of 3 and 2, in turn
        said.append(attempt(network, _small_objective(), half, optimizer, limit, **switches))
    return [p.detach().clone() for p in network.parameters()], said


def _apart(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@exercise_check(stand_in=train_step_stand_in)
def train_step(attempt):
    # What it returns.
    wanted, told = _stepped(take_step, 1, "sgd", 0.05, 1e3, 1)
    mine, said = _stepped(attempt, 1, "sgd", 0.05, 1e3, 1)
    _check_numbers(said[0], told[0])

    # One step of plain gradient descent, unclipped: the gradient itself.
    network, _, _ = _small_problem(1, "sgd", 0.05)
    before = [p.detach() for p in network.parameters()]
    if _apart(mine, before) == 0:
        raise Wrong(
            "After train_step the weights are what they were. Is there a .backward(), then a "
            ".step(), and is nothing zeroed in between?"
        )
    if _apart(mine, [2 * b - w for b, w in zip(before, wanted, strict=True)]) < 1e-6:
        raise Wrong("Your step goes uphill: the loss rises.")
    _same_weights("after one step of SGD, with gradients too short to be clipped", mine, wanted)

    # Clipped: SGD shows it, while Adam's first step is the same for any length of the gradient.
    wanted, _ = _stepped(take_step, 2, "sgd", 0.1, 0.25, 1)
    mine, _ = _stepped(attempt, 2, "sgd", 0.1, 0.25, 1)
    if _apart(mine, _stepped(take_step, 2, "sgd", 0.1, 0.25, 1, clip=False)[0]) < 1e-6:
        raise Wrong(
            "The gradient is longer than clip_norm here, and your step is as long as without "
            "clipping. Shorten it after backward() has made it and before step() uses it."
        )
    what = "after one step of SGD whose gradient is longer than clip_norm"
    hint = "It is the gradient of all weights together that is to be no longer than clip_norm."
    _same_weights(what, mine, wanted, hint)

    # Many steps.
    for optimiser, rate, clip, steps in (("sgd", 0.05, 0.8, 7), ("adam", 0.02, 0.8, 20)):
        wanted, told = _stepped(take_step, 3, optimiser, rate, clip, steps)
        mine, said = _stepped(attempt, 3, optimiser, rate, clip, steps)
        if _apart(mine, wanted) > 1e-4:
            piled = _stepped(take_step, 3, optimiser, rate, clip, steps, zero=False)[0]
            words = "The losses part from the expected ones from step to step."
            if _apart(mine, piled) < 1e-4:
                words = (
                    "It is what comes of gradients that pile up: backward() adds to what is there "
                    "from the step before, so zero them first."
                )
            curves = {"expected": told, "yours": said}
            raise Wrong(
                f"After {steps} steps of {optimiser.upper()} the weights are others. {words}",
                lambda curves=curves: _curves(curves),
            )
        for one, other in zip(said, told, strict=True):
            _check_numbers(one, other)

    # Numbers that are none.
    for broken, words in (
        ("loss", "is nan or infinite"),
        ("infinite", "is infinite"),
        ("gradient", "is finite, but its gradient is nan"),
        ("constant", "is infinite, though its gradient is not"),
    ):
        network, optimizer, faces = _small_problem(4, "adam", 0.02)
        before = [p.detach().clone() for p in network.parameters()]
        did = "went on as if nothing had happened"
        try:
            attempt(network, _small_objective(broken), faces, optimizer, 1.0)
        except Exception as error:
            if type(error).__name__ == "_Blank":
                raise
            did = "" if "FloatingPointError" in str(error) else "raised another error"
        changed = not all(
            torch.equal(p.detach(), b) for p, b in zip(network.parameters(), before, strict=True)
        )
        if changed:
            raise Wrong(
                f"Where the loss {words}, the weights changed all the same, and one such step "
                "makes every weight nan for good. Look at the loss and at the length of the "
                "gradient before you step, and raise FloatingPointError."
            )
        if did:
            raise Wrong(
                f"Where the loss {words}, train_step should raise FloatingPointError; it {did}."
            )
    return "clipped and not, with SGD and Adam, and a bad batch changes no weight"


def _check_numbers(got: object, expected: dict[str, float]) -> None:
    call = "train_step(...)"
    if got is None:
        raise Wrong(f"{call} returned nothing (None): is the `return` missing?")
    if not isinstance(got, dict):
        raise Wrong(f"{call}: expected a dict of numbers, got {type(got).__name__}.")
    if set(got) != set(expected):
        raise Wrong(
            f"{call} returned {sorted(got)}; expected {sorted(expected)}: the loss as 'loss', and "
            "every term by its own name."
        )
    for name, value in got.items():
        if isinstance(value, Tensor):
            raise Wrong(
                f"{call}[{name!r}] is a tensor. A tensor of the loss keeps the whole graph of its "
                "step in memory: return plain numbers, .item()."
            )
        hint = "What is returned is of before the step, as the objective gave it."
        close(f"{call}[{name!r}]", value, expected[name], rtol=1e-3, atol=1e-4, hint=hint)


def _same_weights(
    what: str, got: list[Tensor], expected: list[Tensor], hint: str | None = None
) -> None:
    names = ("weights of layer 1", "bias of layer 1", "weights of layer 2", "bias of layer 2")
    for name, one, other in zip(names, got, expected, strict=True):
        close(f"the {name} {what}", one, other, atol=1e-6, rtol=1e-4, hint=hint)


def _curves(runs: Mapping[str, list[dict[str, float]]]) -> Figure:
    figure = Figure((5.5, 3.2), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, said), colour in zip(runs.items(), ("#1a7f37", "#cf222e"), strict=True):
        axis.plot([numbers["loss"] for numbers in said], color=colour, linewidth=2, label=name)
    axis.set(xlabel="step", ylabel="loss", title="The loss on the check's small problem")
    axis.legend(frameon=False)
    return figure
