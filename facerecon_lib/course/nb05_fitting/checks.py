"""Checks of notebook 05: the losses of Eq. 4 to 7, and two ways to follow them downhill."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from ...face.camera import CROP_SIZE, ndc_to_pixels, pose, project_ndc
from ...fitting import losses
from ..checks import exercise_check
from ..compare import Wrong, like, loss_curves, normal, same_length, strided, uniform


def _images(*shape: int, seed: int, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Two random images and a mask of 0 and 1 whose rows of the batch cover unequal shares."""
    one, two = uniform(2, *shape, seed=seed, dtype=dtype)
    share = torch.linspace(0.15, 0.8, shape[0], dtype=dtype)[:, None, None, None]
    mask = (uniform(shape[0], 1, *shape[2:], seed=seed + 100, dtype=dtype) < share).to(dtype)
    return one, two, mask


def eq4(
    squares=lambda r, p, m: m.detach() * (r - p) ** 2,
    total=lambda x: x.sum((1, 2, 3)),
    divisor=lambda m: (3 * m.detach().sum((1, 2, 3))).clamp(min=1),
    over_batch=torch.mean,
):
    """Eq. 4; each part can be exchanged for a mistake."""

    def pixel_loss(rendered, photo, mask, reduction="sum"):
        each = total(squares(rendered, photo, mask))
        return over_batch(each if reduction == "sum" else each / divisor(mask))

    return pixel_loss


@exercise_check(
    stand_in=losses.pixel_loss,
    mistakes={
        "That counts both pixels; the mask keeps one.": eq4(lambda r, p, m: (r - p) ** 2),
        "That masks the photo but not the rendering; mask their difference.": eq4(
            lambda r, p, m: (m * p - r) ** 2
        ),
        "Eq. 4 squares the differences.": eq4(lambda r, p, m: m * (r - p).abs()),
        "That is the norm; Eq. 4 has its square.": eq4(total=lambda x: x.sum((1, 2, 3)).sqrt()),
        "That is a mean; Eq. 4 sums over covered pixels and channels.": lambda *images, **_: (
            losses.pixel_loss(*images[:3], "mean")
        ),
        "That is a mean over the image; Eq. 4 sums over covered pixels and channels.": eq4(
            total=lambda x: x.mean((1, 2, 3))
        ),
        "That squares the sum of the channels' differences; each is squared by itself.": eq4(
            lambda r, p, m: m * (r - p).sum(1, keepdim=True) ** 2
        ),
        "A loss is one number for the whole batch.": eq4(over_batch=lambda x: x),
        "That is the sum over the batch; 1/n divides by its size.": eq4(over_batch=torch.sum),
        "That divides by all pixels; the mean is over those that the face covers.": eq4(
            divisor=lambda m: 3 * m[0].numel()
        ),
        "That is still the sum: is `reduction` used?": lambda *images, **_: eq4()(*images[:3]),
        "Three times too much: a pixel has three channels.": eq4(
            divisor=lambda m: m.sum((1, 2, 3)).clamp(min=1)
        ),
        "All photos' pixels are in one pot there, so a large face outweighs a small one: divide "
        "each photo's sum by its own pixels, then "
        "average.": eq4(divisor=lambda m: 3 * m.sum() / len(m)),
    },
    points=2,
)
def pixel_loss(attempt):
    with attempt.part("by hand"):  # a photo of two pixels, of which the mask keeps the left one
        rendered = torch.tensor([0.5, 1.0, 0.3, 0.2, 0.7, 0.9]).view(1, 3, 1, 2)
        photo = torch.tensor([0.2, 0.5, 0.3, 0.1, 0.3, 0.4]).view(1, 3, 1, 2)
        mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
        hint = "One pixel counts, its channels differ by 0.3, 0 and 0.4."
        what = "For one covered pixel, pixel_loss(rendered, photo, mask)"
        attempt.case(what, (rendered, photo, mask), hint, expected=torch.tensor(0.25))
    with attempt.part("sums"):  # divided by the batch's size, each photo under its own mask
        for shape, seed in (((3, 3, 5, 7), 1), ((2, 3, 11, 4), 2), ((1, 3, 6, 9), 3)):
            images, what = _images(*shape, seed=seed), f"pixel_loss of images {shape}"
            attempt.case(what, images)
            what += ", reduction='sum'"
            summed = attempt.trial(what)(*images, reduction="sum")
            attempt.close(what, summed, losses.pixel_loss(*images))
    one, two, mask = _images(2, 3, 4, 5, seed=6)
    mask[0] = 0
    with attempt.part("means"):
        for shape, seed in (((1, 3, 6, 9), 4), ((3, 3, 5, 7), 5)):
            what = f"pixel_loss of images {shape}, reduction='mean'"
            attempt.case(what, (*_images(*shape, seed=seed), "mean"))
        for how in ("sum", "mean"):
            what = f"pixel_loss(..., reduction={how!r}) with a face that covers no pixel"
            attempt.case(what, (one, two, mask, how))
    one, two, mask = _images(2, 3, 6, 5, seed=7)
    full = torch.ones_like(mask)
    with attempt.part("gradients"):
        for how in ("sum", "mean"):
            what = f"pixel_loss(..., reduction={how!r})"
            attempt.gradients(what, {"rendered": one}, two, mask, how)
            live = mask.clone().requires_grad_()
            got = attempt.trial(what)(one.clone().requires_grad_(), two, live, how)
            (leak,) = torch.autograd.grad(got, [live], allow_unused=True)
            if leak is not None and bool((leak != 0).any()):
                raise Wrong(
                    f"{what} passes a gradient to the mask. A face could then lower its loss by "
                    "covering less of the photo, instead of looking more like it: detach the mask."
                )
            for words, photo, covered in (
                ("where they are equal", one, full),
                ("of faces that cover no pixel", two, 0 * mask),
            ):
                attempt.gradients(f"{what} {words}", {"rendered": one}, photo, covered, how)
    bright, photo, disc = _images(2, 3, 112, 112, seed=8)
    with attempt.part("the notebook's sizes, edges and layouts"):
        for words, images in {
            "two photos of 112 pixels, colours of -0.2 to 1.3": (1.5 * bright - 0.2, photo, disc),
            "two faces that cover all": (one, two, full),
            "other images of the same sizes": _images(2, 3, 6, 5, seed=9),
            "images that are not contiguous": strided(one, two, mask),
            "images in float64": _images(2, 3, 4, 5, seed=8, dtype=torch.float64),
        }.items():
            for how in ("sum", "mean"):
                attempt.case(f"pixel_loss of {words}, reduction={how!r}", (*images, how))
    return "values for many batches, both reductions; a gradient to the rendering, none to the mask"


def eq5(
    length=lambda d: d.abs().sum(-1),
    weigh=lambda x, weights: x * weights,
    mean=lambda x: x.sum(1).mean() / 68,
):
    """Eq. 5; each part can be exchanged for a mistake."""

    def landmark_loss(points, landmarks, weights=None):
        apart = length(points - landmarks)
        return mean(apart if weights is None else weigh(apart, weights))

    return landmark_loss


@exercise_check(
    stand_in=losses.landmark_loss,
    mistakes={
        "That is the straight-line distance, 5 pixels; the L1 norm adds |x| and |y|.": eq5(
            lambda d: d.norm(dim=-1)
        ),
        "That squares the distance; Eq. 5 is an L1 norm.": eq5(lambda d: d.square().sum(-1)),
        "The sum is right; Eq. 5 divides it by 68.": eq5(mean=lambda x: x.sum(1).mean()),
        "The norm adds x and y; only the 68 points are averaged.": eq5(lambda d: d.abs().mean(-1)),
        "A norm has no minus: take absolute values before you add.": (
            eq5(lambda d: d.sum(-1)),
            eq5(lambda d: -d.sum(-1)),
        ),
        "A loss is one number for the whole batch.": eq5(mean=lambda x: x.sum(1) / 68),
        "That is the sum over the batch; 1/n divides by its size.": eq5(
            mean=lambda x: x.sum() / 68
        ),
        "That is the value without weights.": eq5(weigh=lambda x, weights: x),
        "That divides by the sum of the weights; it is 68 whatever they are.": eq5(
            weigh=lambda x, weights: x * weights * 68 / weights.sum()
        ),
    },
)
def landmark_loss(attempt):
    with attempt.part("by hand"):  # one point of 68 is off, by 3 pixels to the right and 4 up
        landmarks = torch.linspace(20, 200, 136).view(1, 68, 2)
        points = landmarks.clone()
        points[0, 30] += torch.tensor([3.0, -4.0])
        what = "For one point that is off by (3, -4), landmark_loss(points, landmarks)"
        hint = "One point is off by 3 and 4 pixels, the other 67 by nothing."
        attempt.case(what, (points, landmarks), hint, expected=torch.tensor(7 / 68))
    scenes = {
        batch: (*(224 * uniform(2, batch, 68, 2, seed=batch)), uniform(68, seed=batch + 10) + 0.1)
        for batch in (3, 1, 5)
    }
    with attempt.part("batches, with weights and without"):
        for batch, (points, landmarks, weights) in scenes.items():
            attempt.case(f"landmark_loss of a batch of {batch}", (points, landmarks))
            what = f"landmark_loss(points, landmarks, weights) of a batch of {batch}"
            attempt.case(what, (points, landmarks, weights))
    jaw, some = torch.ones(68), torch.arange(68.0) % 3
    jaw[:17] = 0.3
    points, landmarks = 224 * uniform(2, 5, 68, 2, seed=8)
    near = landmarks - 60, landmarks - 60 + 0.5 * normal(5, 68, 2, seed=9)
    double = points.double(), landmarks.double()
    with attempt.part("the notebook's weights, edges and layouts"):
        for words, inputs in {
            "the jaw counting 0.3": (points, landmarks, jaw),
            "counting 0, 1 and 2": (points, landmarks, some),
            "half a pixel off, and some outside of the crop": near,
            "all points counting 0": (points, landmarks, 0 * jaw),
            "weights=None": (points, landmarks, None),
            "points that are not contiguous": (*strided(points, landmarks), jaw),
            "float64": (*double, jaw.double()),
            "float64, weights=None": (*double, None),
        }.items():
            attempt.case(f"landmark_loss of other points, {words}", inputs)
    exact = torch.where(some[:, None] > 0, points, landmarks)
    with attempt.part("gradients"):
        for apart, *inputs in scenes.values():
            attempt.gradients("landmark_loss", {"points": apart}, *inputs)
        for words, *inputs in (("", landmarks), (", weighted", landmarks, some)):
            what = f"landmark_loss where points are exact{words}"
            attempt.gradients(what, {"points": exact}, *inputs, atol=1e-2)  # any slope of |x|
    return "by hand, and for batches of 1, 3 and 5, with and without weights"


def eq6(length=lambda d: d.abs().sum(-1), over_batch=torch.mean):
    """Eq. 6; each part can be exchanged for a mistake."""
    return lambda rendered, photo: over_batch(length(rendered - photo))


@exercise_check(
    stand_in=losses.recognition_loss,
    mistakes={
        "The norm adds the features; only faces are averaged.": eq6(lambda d: d.abs().mean(-1)),
        "A norm has no minus: take absolute values before you add.": eq6(lambda d: d.sum(-1)),
        "That is the Euclidean norm; Eq. 6 has the subscript 1.": eq6(lambda d: d.norm(dim=-1)),
        "That is the Euclidean norm, squared; Eq. 6 has the subscript 1.": eq6(
            lambda d: d.square().sum(-1)
        ),
        "A loss is one number for the whole batch.": eq6(over_batch=lambda x: x),
        "That is the sum over the batch; 1/n divides by its size.": eq6(over_batch=torch.sum),
    },
)
def recognition_loss(attempt):
    with attempt.part("by hand"):
        one, two = torch.tensor([[[0.5, -0.25, 0.0, 1.0]], [[0.0, 0.25, 0.0, 2.0]]])
        what = "For one face of four features, recognition_loss"
        hint = "The four features differ by 0.5, -0.5, 0 and -1."
        attempt.case(what, (one, two), hint, expected=torch.tensor(2.0))
    pairs = [normal(2, batch, size, seed=batch) for batch, size in ((3, 128), (1, 512), (7, 5))]
    with attempt.part("batches"):
        for one, two in pairs:
            attempt.case(f"recognition_loss of features {tuple(one.shape)}", (one, two))
    one, two = 0.12 * normal(2, 3, 128, seed=8)  # of length 1.4, as dlib's are
    with attempt.part("the notebook's lengths, edges and layouts"):
        for words, pair in {
            "other features of the same size": (one, two),
            "features that are not contiguous": strided(one, two),
            "features in float64": (one.double(), two.double()),
            "three faces of one feature": (one[:, :1], two[:, :1]),
            "features that differ by hundredths": (two + 0.01 * one, two),
        }.items():
            attempt.case(f"recognition_loss of {words}", pair, rtol=1e-5)
    half = torch.cat([one[:, :64], two[:, 64:]], 1)
    with attempt.part("gradients"):
        for rendered, photo in pairs:
            attempt.gradients("recognition_loss", {"rendered_features": rendered}, photo)
        what = "recognition_loss where features are equal"
        attempt.gradients(what, {"rendered_features": half}, two, atol=0.6)  # any slope of |x|
    return "by hand, and for batches of other sizes"


@exercise_check(
    stand_in=losses.weighted_sum,
    mistakes={
        "That is the sum without weights.": lambda t, w: sum(t.values()),
        "That is the mean of the weighted terms; Eq. 7 adds them.": lambda t, w: (
            losses.weighted_sum(t, w) / len(t)
        ),
        "The weights are in another order than the terms: match them by name.": lambda t, w: sum(
            weight * value for weight, value in zip(w.values(), t.values(), strict=False)
        ),
        "Those are the weights of the report; these here are given by `weights`.": lambda t, w: (
            t["pixel"] + t["landmark"] + 20 * t["recognition"]
        ),
        "Eq. 7 is not divided by the sum of the weights.": lambda t, w: (
            losses.weighted_sum(t, w) / sum(w.values())
        ),
    },
)
def base_loss(attempt):
    each = {"pixel": 1500.0, "landmark": 4.0, "recognition": 6.0}
    report = {name: torch.tensor(value) for name, value in each.items()}
    with attempt.part("by hand"):
        weights = {"recognition": 20.0, "pixel": 1.0, "landmark": 3.0}  # in another order
        what = f"base_loss of pixel 1500, landmark 4, recognition 6 with weights {weights}"
        attempt.case(what, (report, weights), expected=torch.tensor(1632.0))
    names = ["skin", "shape", "light", "pose"]
    terms = dict(zip(names, uniform(4, seed=0) + 0.5, strict=True))

    def judge(words, some, weights):
        """Value and gradients of some of the terms."""
        chosen = {name: terms[name] for name in some}
        attempt.case(f"base_loss {words}", (chosen, weights), atol=1e-8)
        attempt.gradients(
            f"base_loss {words}",
            chosen,
            call=lambda function, *values: function(dict(zip(some, values, strict=True)), weights),
        )

    with attempt.part("weights by name"):
        weights = {name: 0.25 * 3.0**i for i, name in enumerate(reversed(names))} | {"unused": 1e6}
        for some in (names, names[2:], names[:1]):
            words = f"of the terms {', '.join(some)} (weights has others too)"
            judge(words, some, weights)
    weights = {name: 2.0 + i for i, name in enumerate(names)}
    with attempt.part("edges"):
        for words, others in {
            "with other weights": weights,
            "with a weight of 0": dict.fromkeys(names, 0.7) | {"shape": 0.0},
            "with weights that are all 0": dict.fromkeys(names, 0.0),
            "with whole numbers as weights": dict.fromkeys(names, 3),
            "with tiny weights": dict.fromkeys(names, 1e-4),
        }.items():
            judge(words, names[:3], others)
        zeros = {name: 0 * value for name, value in terms.items()}
        attempt.case("base_loss of terms that are all 0", (zeros, weights))
        double = {name: value.double() for name, value in terms.items()}
        attempt.case("base_loss in float64", (double, weights))
    misspelt = {"landmark": torch.tensor(2.0), "pixle": torch.tensor(3.0)}
    with attempt.part("a term without a weight"):
        spelt = dict.fromkeys(misspelt, 2.0)
        attempt.case("base_loss of two terms that have weights", (misspelt, spelt))
        did = attempt.instead_of_raising(KeyError, misspelt, {"landmark": 1.0, "pixel": 1.0})
        if did:
            raise Wrong(
                f"A term 'pixle' that has no weight should raise KeyError; base_loss {did}. "
                "A misspelt name would else count for nothing, and no one would notice."
            )
    return "terms matched by name, gradients to each, and a KeyError for a term without a weight"


def fitted(
    zero="before",
    step=True,
    sign=1.0,
    late=False,
    anew=False,
    optimiser=torch.optim.Adam,
    rates=lambda start, rates: rates,
    record=torch.Tensor.item,
):
    """Adam on some named tensors, as `fitting.fit` does it; each option can be a mistake."""

    def fit_face(loss_of, start, learning_rates, steps):
        p = {name: value.detach().clone() for name, value in start.items()}
        each = rates(start, learning_rates)
        groups = [{"params": [p[name].requires_grad_()], "lr": each[name]} for name in each]
        adam, history = optimiser(groups), []
        for _ in range(steps):
            if anew:
                adam = optimiser(groups)
            loss = loss_of(p)
            if zero == "before":
                adam.zero_grad()
            (sign * loss).backward()
            if zero == "after":
                adam.zero_grad()
            if step:
                adam.step()
            history.append(record(loss_of(p) if late else loss))
        return {name: value.detach() for name, value in p.items()}, history

    return fit_face


@exercise_check(
    stand_in=fitted(),
    mistakes={
        "Those are the losses after the steps. Record what the loss was before the step.": fitted(
            late=True
        ),
        "The parameters are where they started. Is there a .backward() and then a "
        ".step(), is nothing zeroed between the two, and are the new values "
        "returned?": (fitted(step=False), fitted(sign=0.0), fitted(zero="after")),
        "Your step goes up the hill: the loss rises. Descend: minimise it.": fitted(sign=-1.0),
        "It is what comes of gradients that pile up from step to step: backward() adds to what is "
        "there, so zero them before it.": fitted(zero="never"),
        "It is what comes of a new optimiser at each step: Adam remembers the steps before, so "
        "make it once, before the loop.": fitted(anew=True),
        "All learn at the first one's rate there; each has its own.": fitted(
            rates=lambda start, rates: dict.fromkeys(rates, next(iter(rates.values())))
        ),
    },
    points=3,
    rtol=1e-3,
)
def fit_face(attempt):
    goals = normal(1, 7, seed=0).split([4, 3], 1)

    def bowl(p):
        total = ((p["a"] - goals[0]) ** 2).sum() + 0.3 * ((p["b"] - goals[1]) ** 2).sum()
        return total + 0.2 * (p["a"][:, :3] * p["b"]).sum() + p["c"].sum() ** 2

    def valley(p):
        return 30 * (p["x"] ** 2).sum() + (p["y"] ** 4).sum()

    def faraway(p):
        off = p["translation"] - torch.tensor([[5.0, -20.0, 420.0]]).to(p["translation"])
        size = (p["log_scale"].exp() - 1.1).square().sum()
        rest = size + p["rotation"].square().sum() + p["expression"].sum()
        return 300 * off.abs().sum() + 1e-4 * rest

    first = {"a": torch.zeros(1, 4), "b": torch.full((1, 3), 0.5), "c": torch.tensor([[0.7, -0.2]])}
    second = {"x": torch.tensor([2.0]), "y": torch.tensor([[1.0, -1.0], [0.5, 3.0]])}
    face = {
        "translation": torch.tensor([[0.0, 0.0, 350.0]] * 2),
        "rotation": 0.2 * normal(2, 3, seed=1),
        "log_scale": torch.zeros(2, 1),
        "expression": torch.zeros(2, 0),
    }
    rates = {"translation": 1.0, "rotation": 0.01, "log_scale": 0.002, "expression": 0.08}
    with attempt.part("a bowl, a step at a time"):
        _descends(attempt, "a bowl", bowl, first, {"a": 0.1, "b": 0.02}, 2)
        _descends(attempt, "a bowl", bowl, first, {"a": 0.1, "b": 0.02}, 40)
    with attempt.part("a valley"):  # x overshoots, so that the loss rises for a while
        _descends(attempt, "a valley", valley, second, {"y": 0.05, "x": 0.3}, 25)
        _descends(attempt, "a valley, x too fast", valley, second, {"y": 0.05, "x": 2.1}, 3)
    with attempt.part("two faces"):
        words = "two faces at 350 mm without expressions"
        _descends(attempt, words, faraway, face, rates, 30)
    with attempt.part("edges"):
        other = {name: strided(value.double())[0] for name, value in second.items()}
        words = "a valley, in float64, from values that are not contiguous"
        _descends(attempt, words, valley, other, {"y": 0.1}, 5)
        _descends(attempt, "a bowl, b at rate 0", bowl, first, {"a": 0.1, "b": 0.0}, 5)
        _descends(attempt, "a bowl, no step", bowl, first, {"a": 0.1}, 0)
    return "after 40 steps your parameters and losses are those of Adam"


def _counted(function):
    """The function, and a list that grows by an entry per call."""
    asked = []

    def counted(x):
        asked.append(1)
        return function(x)

    return counted, asked


def _descends(attempt, words, loss_of, start, each, steps):
    """Raise Wrong unless the student's loop goes where Adam goes."""
    counted, asked = _counted(loss_of)
    trial = attempt.trial(f"fit_face of {words}, steps={steps}")
    parameters, history = _parts(trial(counted, start, each, steps), start, steps)
    if len(asked) != steps:
        raise Wrong(
            f"loss_of was called {len(asked)} times in {steps} steps; call it once per step. "
            "Some losses remember what they were asked."
        )
    expected, values = fitted()(loss_of, start, each, steps)
    second = partial(attempt.calls[-1].second, attempt.stand_in)
    options = dict(picture=partial(loss_curves, values, history))
    options["hint"] = "torch.optim.Adam, with its own defaults but for the learning rates."
    atol = 1e-4 if steps > 2 else 1e-5
    for name in start:
        rate = f"with a learning rate of {each[name]}" if name in each else "which stays"
        options["again"] = lambda name=name: [p[name] for p, _ in second()]
        what = f"found[{name!r}] of {words}, {rate}, after {steps} steps"
        attempt.close(what, parameters[name], expected[name], atol=atol, **options)
    got, values = (torch.tensor(v, dtype=torch.float64) for v in (history, values))
    options["again"] = lambda: [torch.tensor(v) for _, v in second()]
    what = f"the losses of {words}, in the order of {steps} steps"
    attempt.close(what, got, values, atol=1e-3, **options)


def _parts(got, start, steps) -> tuple[dict[str, Tensor], list[float]]:
    """What fit_face returned; raises Wrong unless it has the form that it is to have."""
    same_length("fit_face(...)", got, ("parameters", "losses"))
    parameters, history = got
    if not isinstance(parameters, dict) or set(parameters) != set(start):
        raise Wrong(f"fit_face should return a dict first: all of {sorted(start)} by their names.")
    for name, value in parameters.items():
        if not like(value, start[name]):
            shape = tuple(start[name].shape)
            raise Wrong(f"found[{name!r}] should be a tensor of {shape} finite numbers.")
        if value.requires_grad:
            raise Wrong(
                f"found[{name!r}] still asks for gradients, and would drag them into all that is "
                "done with it later. It is a result: detach it."
            )
    if not hasattr(history, "__len__") or len(history) != steps:
        raise Wrong(f"Expected a list with one loss per step, {steps} here, got {history}.")
    if any(isinstance(v, Tensor) and v.requires_grad for v in history):
        raise Wrong(
            "Your losses still carry their graphs, so the memory of every step is kept. "
            "Record plain numbers: loss.item()."
        )
    return parameters, [float(v) for v in history]


def marquardt(
    damped=lambda normal, damping: normal + damping * normal.diagonal().clamp(min=1e-6).diag(),
    first=1e-2,
    better=lambda energy, least: energy < least,
    better_by=0.1,
    worse_by=10.0,
    sign=-1.0,
    record=lambda energy, least: energy if energy < least else least,
):
    """Levenberg's and Marquardt's method; each option can be exchanged for a mistake."""

    def levenberg_marquardt(residuals_of, start, steps=10):
        x, damping = start.detach().clone(), first
        energies = [residuals_of(x).square().sum().item()]
        least = energies[0]
        for _ in range(steps):
            residuals, rows = residuals_of(x), jacobian(residuals_of, x)
            step = torch.linalg.solve(damped(rows.T @ rows, damping), rows.T @ residuals)
            trial = x + sign * step
            energy = residuals_of(trial).square().sum().item()
            lower = better(energy, least)
            x, damping = (trial, damping * better_by) if lower else (x, damping * worse_by)
            energies.append(record(energy, least))
            least = energy if lower else least
        return x, energies

    return levenberg_marquardt


MOST_CALLS = 10  # of residuals_of per step


def _simulated_landmarks(count: int, modes: int, seed: int) -> tuple[Callable, Tensor]:
    """The residuals, in standard deviations, of random landmarks and priors, and where to start.

    Unknown: the coefficients of modes, rotation, translation (mm), log scale.
    """
    mean = normal(count, 3, seed=seed) * torch.tensor([45.0, 60.0, 25.0])
    basis = 3 * normal(modes, count, 3, seed=seed + 1)

    def project(x: Tensor) -> Tensor:
        shape, rotation, translation, log_scale = x.split([modes, 3, 3, 1])
        vertices = mean + torch.einsum("m,mvc->vc", shape, basis)
        posed = pose(vertices[None], rotation[None], log_scale.exp()[None], translation[None])
        return ndc_to_pixels(project_ndc(posed), CROP_SIZE)[0]

    place = torch.tensor([6.0, -9.0, 440.0, 0.0])
    truth = torch.cat([normal(modes, seed=seed + 2), 0.3 * normal(3, seed=seed + 3), place])
    landmarks = project(truth) + 0.5 * normal(count, 2, seed=seed + 4)

    def residuals_of(x: Tensor) -> Tensor:
        off = (project(x) - landmarks) / 0.5
        return torch.cat([off.flatten(), x[:modes], x[-1:] / 0.02])

    return residuals_of, torch.cat([torch.zeros(modes + 5), torch.tensor([350.0, 0.0])])


@exercise_check(
    stand_in=marquardt(),
    mistakes={
        "No step was taken, though E can fall. Since r(x - d) is about r - J d, the new x is x - d "
        "for the d that solves the equation.": marquardt(sign=1.0),
    },
    points=3,
    challenge=True,
)
def levenberg_marquardt(attempt):
    with attempt.part("straight lines"):
        slopes = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        goal = torch.tensor([3.0, -2.0, 5.0])
        start = torch.tensor([10.0, 20.0])
        _minimises(attempt, "three straight lines", lambda x: slopes @ x - goal, start, 10)
        steep = normal(9, 4, seed=1) * torch.tensor([1e-2, 1.0, 10.0, 100.0])
        steep_goal = normal(9, seed=2)
        words = "nine straight lines, steep and flat"
        _minimises(attempt, words, lambda x: steep @ x - steep_goal, torch.ones(4), 10)
    with attempt.part("landmarks"):
        for count, modes, seed in ((20, 6, 0), (14, 3, 10)):
            words = f"{count} simulated landmarks and their priors"
            _minimises(attempt, words, *_simulated_landmarks(count, modes, seed), 10)
    with attempt.part("valleys"):
        words = "the bent valley 10 (y - x²), 1 - x"
        bent = torch.tensor([-1.2, 1.0])
        _minimises(
            attempt, words, lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]), bent, 60
        )
        words = "exp(4 x) - 1, flat where it starts"
        _minimises(attempt, words, lambda x: torch.exp(4 * x) - 1, torch.tensor([-1.0]), 40)
        words = "log(x) + 2, which is nan below 0"
        _minimises(attempt, words, lambda x: torch.log(x) + 2, torch.tensor([2.0]), 30)
    with attempt.part("edges"):
        narrow = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.0, -1.0], [0.0, 0.0, 1.0]])
        start = torch.tensor([4.0, 7.0, -3.0])
        words = "three straight lines, on which the second unknown has no influence"
        x = _minimises(attempt, words, lambda x: narrow @ x - 1, start, 10)
        attempt.close(f"the second unknown of {words}", x[1], start[1])
        words = "a bend in float64, from where it is least"
        best = torch.tensor([0.5, -1.0], dtype=torch.float64)
        _minimises(attempt, words, lambda x: (x - best) * (1 + x**2), best, 3)
        words = "one straight line, no step"
        _minimises(attempt, words, lambda x: 2 * x - 1, torch.tensor([3.0]), 0)
    return "it is as low as E can be after ten steps on landmarks, and never rises"


def _minimises(attempt, words: str, residuals_of, start: Tensor, steps: int) -> Tensor:
    """The student's x; raises Wrong unless energies fall, to what can be reached, and are x's."""
    counted, asked = _counted(residuals_of)
    what = f"levenberg_marquardt of {words}, steps={steps}"
    got = attempt.trial(what)(counted, start, steps)
    calls = len(asked)
    same_length(what, got, ("x", "energies"))
    x, energies = got
    if not like(x, start) or x.requires_grad:
        raise Wrong(
            f"{what}: x should be a tensor of {tuple(start.shape)} finite numbers, of the start's "
            "dtype and without gradient."
        )
    if not isinstance(energies, list | tuple) or len(energies) != steps + 1:
        raise Wrong(f"{what}: expected a list of {steps + 1} energies, the start's first.")
    if any(isinstance(energy, Tensor) and energy.requires_grad for energy in energies):
        raise Wrong(f"{what}: energies carry their graphs; record numbers: energy.item().")
    energies = [float(energy) for energy in energies]
    if calls > MOST_CALLS * steps + 2:
        raise Wrong(
            f"{what}: residuals_of was called {calls} times, more than {MOST_CALLS} times per "
            "step. torch.autograd.functional.jacobian needs one call."
        )

    def energy_of(x):
        return residuals_of(x).square().sum().item()

    attempt.close(f"energies[0] of {words}", energies[0], energy_of(start), rtol=1e-3)
    rises = [i for i in range(steps) if not energies[i + 1] <= energies[i] * 1.00001 + 1e-9]
    if rises:
        before, after = energies[rises[0] : rises[0] + 2]
        raise Wrong(
            f"{what}: E rises from {before:.5g} to {after:.5g} at step {rises[0] + 1}. Take a step "
            "only if E falls (nan is not less than anything), and damp the next one more."
        )
    attempt.close(f"energies[-1] of {words}, beside E(x)", energies[-1], energy_of(x), rtol=1e-3)
    _, ours = marquardt()(residuals_of, start, steps)
    if energies[-1] > 1.02 * ours[-1] + 1e-3 * min(1.0, ours[0]):
        last = energies.index(energies[-1])
        refused = f" Each step after step {last} was refused: damp more after a refusal, less else."
        raise Wrong(
            f"{what}: E is {energies[-1]:.5g}; {ours[-1]:.5g} can be reached."
            + refused * (last < steps - 3),
            partial(loss_curves, ours, energies),
        )
    return x
