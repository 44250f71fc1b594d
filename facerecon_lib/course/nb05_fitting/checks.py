"""Checks of notebook 05: the losses of Eq. 4 to 7, and the loop of a fit."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...fitting import losses
from ..checks import exercise_check
from ..compare import Wrong, close, one_number, same_gradient


def _images(*shape: int, seed: int, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Two random images and a mask of 0 and 1 whose rows of the batch cover unequal shares."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.rand(shape, generator=generator, dtype=dtype)
    two = torch.rand(shape, generator=generator, dtype=dtype)
    share = torch.linspace(0.15, 0.8, shape[0], dtype=dtype)[:, None, None, None]
    mask = (torch.rand(shape[0], 1, *shape[2:], generator=generator, dtype=dtype) < share).to(dtype)
    return one, two, mask


@exercise_check(stand_in=losses.pixel_loss)
def pixel_loss(attempt):
    # By hand: a photo of two pixels, of which the mask keeps the left one.
    rendered = torch.tensor([0.5, 1.0, 0.3, 0.2, 0.7, 0.9]).view(1, 3, 1, 2)
    photo = torch.tensor([0.2, 0.5, 0.3, 0.1, 0.3, 0.4]).view(1, 3, 1, 2)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    got = attempt(rendered, photo, mask)
    value = one_number("pixel_loss(rendered, photo, mask)", got)
    told = {
        0.76: "That counts both pixels; the mask keeps the left one alone.",
        2.1: "That masks the photo but not the rendering; mask their difference.",
        0.7: "That sums the differences themselves; Eq. 4 squares them.",
        0.5: "That is the norm; Eq. 4 has the squared norm.",
        0.25 / 3: "That is a mean; Eq. 4 sums over covered pixels and channels.",
        0.25 / 6: "That is a mean over the image; Eq. 4 sums over covered pixels and channels.",
        0.49: "That squares the sum of the channels' differences; each is squared by itself.",
    }
    hint = "One pixel counts, its channels differ by 0.3, 0 and 0.4."
    hint = next((words for v, words in told.items() if abs(value - v) < 1e-4), hint)
    what = "For one covered pixel, pixel_loss(rendered, photo, mask)"
    close(what, got, torch.tensor(0.25), hint=hint)

    # A batch: divided by its size, each photo under its own mask.
    for shape, seed in (((3, 3, 5, 7), 1), ((2, 3, 11, 4), 2), ((1, 3, 6, 9), 3)):
        one, two, mask = _images(*shape, seed=seed)
        expected = losses.pixel_loss(one, two, mask)
        got = attempt(one, two, mask)
        hint = None
        if abs(float(got) - float(expected) * shape[0]) < 1e-3:
            hint = "That is the sum over the batch; 1/n in Eq. 4 divides by its size."
        what = f"pixel_loss of images {shape}"
        close(what, got, expected, hint=hint)
        close(f"{what}, reduction='sum'", attempt(one, two, mask, reduction="sum"), expected)

    # The mean: each photo's own covered pixels, whatever the others cover.
    for shape, seed in (((1, 3, 6, 9), 4), ((3, 3, 5, 7), 5)):
        one, two, mask = _images(*shape, seed=seed)
        expected = losses.pixel_loss(one, two, mask, "mean")
        got = attempt(one, two, mask, "mean")
        summed = (mask * (one - two) ** 2).sum()
        told = {
            float((one - two).pow(2).mul(mask).mean()): "That divides by all pixels; "
            "the mean is over those that the face covers.",
            float(losses.pixel_loss(one, two, mask)): "That is still the sum: is `reduction` used?",
            float(expected) * 3: "Three times too much: a pixel has three channels.",
            float(summed / (3 * mask.sum())): "All photos' pixels are in one pot there, so a large "
            "face outweighs a small one: divide each photo's sum by its own pixels, then average.",
        }
        value = one_number("pixel_loss(..., reduction='mean')", got)
        hint = next((w for v, w in told.items() if abs(value - v) < 1e-5), None)
        close(f"pixel_loss of images {shape}, reduction='mean'", got, expected, hint=hint)

    # A face that covers nothing.
    one, two, mask = _images(2, 3, 4, 5, seed=6)
    mask[0] = 0
    for how in ("sum", "mean"):
        what = f"pixel_loss(..., reduction={how!r}) with a face that covers no pixel"
        close(what, attempt(one, two, mask, how), losses.pixel_loss(one, two, mask, how))

    # Gradients: to the rendering, none to the mask.
    for how in ("sum", "mean"):
        one, two, mask = _images(2, 3, 6, 5, seed=7)
        mine, ours = one.clone().requires_grad_(), one.clone().requires_grad_()
        live = mask.clone().requires_grad_()
        got = attempt(mine, two, live, how)
        what = f"pixel_loss(..., reduction={how!r})"
        same_gradient(
            what, got, losses.pixel_loss(ours, two, mask, how), {"rendered": (mine, ours)}
        )
        got = attempt(mine, two, live, how)
        (leak,) = torch.autograd.grad(got, [live], allow_unused=True)
        if leak is not None and bool((leak != 0).any()):
            raise Wrong(
                f"{what} passes a gradient to the mask. A face could then lower its loss by "
                "covering less of the photo, instead of looking more like it: detach the mask."
            )
    one, two, mask = _images(2, 3, 4, 5, seed=8, dtype=torch.float64)
    close("pixel_loss in float64", attempt(one, two, mask), losses.pixel_loss(one, two, mask))
    return "values for six batches, both reductions; a gradient to the rendering, none to the mask"


@exercise_check(stand_in=losses.landmark_loss)
def landmark_loss(attempt):
    # By hand: one point of 68 is off, by 3 pixels to the right and 4 up.
    landmarks = torch.linspace(20, 200, 136).view(1, 68, 2)
    points = landmarks.clone()
    points[0, 30] += torch.tensor([3.0, -4.0])
    got = attempt(points, landmarks)
    value = one_number("landmark_loss(points, landmarks)", got)
    told = {
        5 / 68: "That is the straight-line distance, 5 pixels; the L1 norm adds |x| and |y|.",
        25 / 68: "That squares the distance; Eq. 5 is an L1 norm.",
        7.0: "The sum is right; Eq. 5 divides it by 68.",
        7 / 136: "That averages over x and y too; the norm adds them, and 68 points are averaged.",
        -1 / 68: "A norm has no minus: take absolute values before you add.",
        1 / 68: "A norm has no minus: take absolute values before you add.",
    }
    hint = "One point is off by 3 and 4 pixels, the other 67 by nothing."
    hint = next((words for v, words in told.items() if abs(value - v) < 1e-5), hint)
    what = "For one point that is off by (3, -4), landmark_loss(points, landmarks)"
    close(what, got, torch.tensor(7 / 68), hint=hint)

    generator = torch.Generator().manual_seed(0)
    for batch in (3, 1, 5):
        points = 224 * torch.rand(batch, 68, 2, generator=generator)
        landmarks = 224 * torch.rand(batch, 68, 2, generator=generator)
        weights = torch.rand(68, generator=generator) + 0.1
        plain = losses.landmark_loss(points, landmarks)
        got = attempt(points, landmarks)
        hint = None
        if batch > 1 and abs(float(got) - batch * float(plain)) < 1e-2:
            hint = "That is the sum over the batch; 1/n in Eq. 5 divides by its size."
        close(f"landmark_loss of a batch of {batch}", got, plain, hint=hint)
        expected = losses.landmark_loss(points, landmarks, weights)
        got = attempt(points, landmarks, weights)
        hint = None
        if abs(float(got) - float(plain)) < 1e-4:
            hint = "That is the value without weights."
        elif abs(float(got) - float(expected) * 68 / float(weights.sum())) < 1e-2:
            hint = "That divides by the sum of the weights; it is 68 whatever they are."
        what = f"landmark_loss(points, landmarks, weights) of a batch of {batch}"
        close(what, got, expected, hint=hint)
        mine, ours = points.clone().requires_grad_(), points.clone().requires_grad_()
        same_gradient(
            "landmark_loss",
            attempt(mine, landmarks, weights),
            losses.landmark_loss(ours, landmarks, weights),
            {"points": (mine, ours)},
        )
    return "by hand, and for batches of 1, 3 and 5, with and without weights"


@exercise_check(stand_in=losses.recognition_loss)
def recognition_loss(attempt):
    one = torch.tensor([[0.5, -0.25, 0.0, 1.0]])
    two = torch.tensor([[0.0, 0.25, 0.0, 2.0]])
    got = attempt(one, two)
    value = one_number("recognition_loss(rendered_features, photo_features)", got)
    told = {
        0.5: "That averages over the features; the norm adds them up.",
        -1.0: "A norm has no minus: take absolute values before you add.",
        1.5**0.5: "That is the Euclidean norm; Eq. 6 has the subscript 1.",
        1.5: "That is the squared Euclidean norm; Eq. 6 has the subscript 1.",
    }
    hint = "The four features differ by 0.5, -0.5, 0 and -1."
    hint = next((words for v, words in told.items() if abs(value - v) < 1e-4), hint)
    what = "For one face of four features, recognition_loss"
    close(what, got, torch.tensor(2.0), hint=hint)
    generator = torch.Generator().manual_seed(0)
    for batch, size in ((3, 128), (1, 512), (7, 5)):
        one = torch.randn(batch, size, generator=generator)
        two = torch.randn(batch, size, generator=generator)
        expected = losses.recognition_loss(one, two)
        got = attempt(one, two)
        hint = None
        if batch > 1 and abs(float(got) - batch * float(expected)) < 1e-2:
            hint = "That is the sum over the batch; 1/n in Eq. 6 divides by its size."
        close(f"recognition_loss of {batch} faces of {size} features", got, expected, hint=hint)
        mine, ours = one.clone().requires_grad_(), one.clone().requires_grad_()
        expected = losses.recognition_loss(ours, two)
        inputs = {"rendered_features": (mine, ours)}
        same_gradient("recognition_loss", attempt(mine, two), expected, inputs)
    return "by hand, and for three batches of other sizes"


@exercise_check(stand_in=losses.weighted_sum)
def base_loss(attempt):
    terms = {"pixel": torch.tensor(1500.0), "landmark": torch.tensor(4.0)}
    terms["recognition"] = torch.tensor(6.0)
    weights = {"recognition": 20.0, "pixel": 1.0, "landmark": 3.0}  # another order than the terms
    got = attempt(terms, weights)
    value = one_number("base_loss(terms, weights)", got)
    told = {
        1510.0: "That is the sum without weights.",
        1632 / 3: "That is the mean of the weighted terms; Eq. 7 adds them.",
        30022.0: "The weights are in another order than the terms: match them by name.",
        1500.0 + 4 + 120: "Those are the weights of the report; these here are given by `weights`.",
        1632.0 / 24: "That is divided by the sum of the weights; Eq. 7 is not.",
    }
    hint = next((words for v, words in told.items() if abs(value - v) < 1e-2), None)
    what = f"base_loss of pixel 1500, landmark 4, recognition 6 with weights {weights}"
    close(what, got, torch.tensor(1632.0), hint=hint)

    generator = torch.Generator().manual_seed(0)
    names = ["skin", "shape", "light", "pose"]
    drawn = torch.rand(4, generator=generator) + 0.5
    weights = {name: 0.25 * 3.0**i for i, name in enumerate(reversed(names))} | {"unused": 1e6}
    for some in (names, names[2:], names[:1]):
        mine = {n: drawn[names.index(n)].clone().requires_grad_() for n in some}
        ours = {n: v.detach().clone().requires_grad_() for n, v in mine.items()}
        got, expected = attempt(mine, weights), losses.weighted_sum(ours, weights)
        call = f"base_loss of the terms {', '.join(some)} (weights has others too)"
        close(call, got, expected)
        same_gradient(call, got, expected, {n: (mine[n], ours[n]) for n in some})
    forgotten = {"landmark": torch.tensor(2.0), "pixle": torch.tensor(3.0)}
    did = None
    try:
        value = attempt(forgotten, {"landmark": 1.0, "pixel": 1.0})
        did = "returned " + ("None" if value is None else f"{float(value):g}")
    except Exception as error:
        if type(error).__name__ == "_Blank":
            raise
        if "KeyError" not in str(error):
            did = "raised another error"
    if did is not None:
        raise Wrong(
            f"A term 'pixle' that has no weight should raise KeyError; base_loss {did}. "
            "A misspelt name would else count for nothing, and no one would notice."
        )
    return "terms matched by name, gradients to each, and a KeyError for a term without a weight"


# The loop -------------------------------------------------------------------------------------


def fit_loop(loss_of, start, learning_rates, steps, *, zero=True, anew=False):
    """The stand-in for `fit_face`; zero and anew are the mistakes that the check names."""
    p = {name: value.detach().clone() for name, value in start.items()}
    chosen = {name: p[name].requires_grad_() for name in learning_rates}

    def adam():
        groups = [{"params": [v], "lr": learning_rates[n]} for n, v in chosen.items()]
        return torch.optim.Adam(groups)

    optimizer, history = adam(), []
    for _ in range(steps):
        if anew:
            optimizer = adam()
        loss = loss_of(p)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return {name: value.detach() for name, value in p.items()}, history


def fit_face_stand_in(loss_of, start, learning_rates, steps):
    """Adam on some named tensors; as `facerecon_lib.fitting.fit.fit` does it inside."""
    return fit_loop(loss_of, start, learning_rates, steps)


@exercise_check(stand_in=fit_face_stand_in)
def fit_face(attempt):
    generator = torch.Generator().manual_seed(0)
    goal = {
        "a": torch.randn(1, 4, generator=generator),
        "b": torch.randn(1, 3, generator=generator),
    }

    def loss_of(p):
        bowl = ((p["a"] - goal["a"]) ** 2).sum() + 0.3 * ((p["b"] - goal["b"]) ** 2).sum()
        return bowl + 0.2 * (p["a"][:, :3] * p["b"]).sum() + p["c"].sum() ** 2

    start = {"a": torch.zeros(1, 4), "b": torch.full((1, 3), 0.5), "c": torch.tensor([[0.7, -0.2]])}
    rates = {"a": 0.1, "b": 0.02}

    # One step by hand: Adam's first is the learning rate against the gradient's sign.
    found, history = _fitted(attempt, loss_of, start, rates, 1)
    if abs(history[0] - float(loss_of(start))) > 1e-4:
        raise Wrong(
            f"The first loss that you recorded is {history[0]:.4f}; at the start it is "
            f"{float(loss_of(start)):.4f}. Record what the loss was before the step."
        )
    expected, _ = fit_loop(loss_of, start, rates, 1)
    move = found["a"].detach() - start["a"]
    wanted = expected["a"] - start["a"]
    if float(move.abs().max()) == 0:
        raise Wrong(
            "After one step the parameters are where they started. Is there a .backward() and "
            "then a .step(), is nothing zeroed between the two, and are the new values returned?"
        )
    if torch.allclose(move, -wanted, atol=1e-5):
        raise Wrong("Your step goes up the hill: the loss rises. Descend: minimise it.")
    for name in rates:
        what = f"found[{name!r}] after one step of Adam at learning rate {rates[name]}"
        close(what, found[name].detach(), expected[name], axes=("face", "coefficient"), atol=1e-5)
    held = found["c"].detach()
    close("found['c'], which has no learning rate and stays", held, start["c"])

    # Many: against Adam, and against the two mistakes that are made most.
    steps = 40
    expected, true_history = fit_loop(loss_of, start, rates, steps)
    found, history = _fitted(attempt, loss_of, start, rates, steps)

    def drawing() -> Figure:
        figure = Figure((5.5, 3.2), layout="constrained", facecolor="white")
        axis = figure.subplots()
        axis.plot(true_history, color="#1a7f37", linewidth=2, label="expected")
        axis.plot(history, color="#cf222e", linewidth=2, linestyle="--", label="yours")
        axis.set(xlabel="step", ylabel="loss", title="The loss on the check's small problem")
        axis.legend(frameon=False)
        return figure

    for name in rates:
        if torch.allclose(found[name].detach(), expected[name], atol=1e-4, rtol=1e-3):
            continue
        for mistake, words in (
            ({"zero": False}, "It is what comes of gradients that pile up from step to step: "
             "backward() adds to what is there, so zero them before it."),
            ({"anew": True}, "It is what comes of a new optimiser at each step: Adam remembers the "
             "steps before, so make it once, before the loop."),
        ):  # fmt: skip
            other, _ = fit_loop(loss_of, start, rates, steps, **mistake)
            if torch.allclose(found[name].detach(), other[name], atol=1e-4, rtol=1e-3):
                raise Wrong(f"After {steps} steps found[{name!r}] is not Adam's. {words}", drawing)
        what = f"found[{name!r}] after {steps} steps"
        hint = "torch.optim.Adam, with its own defaults but for the learning rates."
        try:
            close(what, found[name].detach(), expected[name], atol=1e-4, rtol=1e-3, hint=hint)
        except Wrong as wrong:
            raise Wrong(str(wrong), drawing) from None
    close(
        f"the losses of {steps} steps",
        torch.tensor(history, dtype=torch.float64),
        torch.tensor(true_history, dtype=torch.float64),
        axes=("step",),
        atol=1e-3,
        rtol=1e-3,
        picture=lambda *_: drawing(),
    )
    close("found['c'], which has no learning rate and stays", found["c"].detach(), start["c"])

    # A second problem, of other names and sizes: nothing is carried over.
    start = {"x": torch.tensor([2.0]), "y": torch.tensor([[1.0, -1.0], [0.5, 3.0]])}
    rates = {"y": 0.05, "x": 0.3}

    def valley(p):
        return 30 * (p["x"] ** 2).sum() + (p["y"] ** 4).sum()

    # Long enough for x to overshoot, so that the loss rises for a while
    expected, true_history = fit_loop(valley, start, rates, 25)
    found, history = _fitted(attempt, valley, start, rates, 25)
    for name in start:
        what = f"found[{name!r}] of a second problem"
        close(what, found[name].detach(), expected[name], atol=1e-4, rtol=1e-3)
    close(
        "the losses of a second problem, in the order of the steps",
        torch.tensor(history, dtype=torch.float64),
        torch.tensor(true_history, dtype=torch.float64),
        axes=("step",),
        atol=1e-3,
        rtol=1e-3,
    )
    return f"after {steps} steps your parameters and losses are those of Adam"


def _fitted(attempt, loss_of, start, rates, steps) -> tuple[dict[str, Tensor], list[float]]:
    """What fit_face returned, in the form that it is to have."""
    result = attempt(loss_of, start, rates, steps)
    call = "fit_face(loss_of, start, learning_rates, steps)"
    if result is None:
        raise Wrong(f"{call} returned nothing (None): is the `return` missing?")
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise Wrong(f"{call} should return two things, the parameters found and the losses.")
    found, history = result
    if not isinstance(found, dict):
        raise Wrong(f"{call} should return a dict first, got {type(found).__name__}.")
    if set(found) != set(start):
        raise Wrong(
            f"The parameters found are {sorted(found)}; expected all of {sorted(start)}, "
            "those without a learning rate too."
        )
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.shape != start[name].shape:
            raise Wrong(f"found[{name!r}] should be a tensor of shape {tuple(start[name].shape)}.")
        if not torch.isfinite(value).all():
            raise Wrong(f"found[{name!r}] holds values that are not finite.")
        if value.requires_grad:
            raise Wrong(
                f"found[{name!r}] still asks for gradients, and would drag them into all that is "
                "done with it later. What is found is a result: detach it."
            )
    if isinstance(history, Tensor):
        history = list(history)
    if not isinstance(history, list | tuple) or len(history) != steps:
        count = len(history) if hasattr(history, "__len__") else "no"
        raise Wrong(f"Expected a list with one loss a step, {steps} here, got {count}.")
    if any(isinstance(v, Tensor) and v.requires_grad for v in history):
        raise Wrong(
            "Your losses still carry their graphs, so the memory of every step is kept. "
            "Record plain numbers: loss.item()."
        )
    return found, [float(v) for v in history]
