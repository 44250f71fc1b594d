"""Comparing a student's answer with the expected one, and saying in words where they part.

    close("shade(albedo, normals, light)", got, expected, axes=("face", "vertex", "colour"))

Raises `Wrong` with the first difference in kind: nothing returned, type, shape, dtype, a value that
is not finite; then values: how many differ, the first place, both numbers there, and what the
mistake looks like (a sign, a factor, swapped axes) when one of a few tries explains all of it.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor


class Wrong(Exception):
    """An answer is wrong: one or more sentences, and a picture where it says it better.

    picture: called only when the student sees it; returns a matplotlib Figure.
    """

    def __init__(self, message: str, picture: Callable[[], Figure] | None = None):
        super().__init__(message)
        self.picture = picture


def seeded(seed: int) -> torch.Generator:
    """Random numbers for a check's inputs, the same in every run."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of mean 0 and deviation 1, the same for one seed."""
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def uniform(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers from 0 to 1, the same for one seed."""
    return torch.rand(shape, generator=seeded(seed), dtype=dtype)


def strided(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The same numbers in reverse order of axes in memory: not contiguous, and `view` fails."""
    return tuple(
        x.permute(order).contiguous().permute(order)
        for x, order in ((x, list(reversed(range(x.ndim)))) for x in tensors)
    )


def like(got: object, expected: Tensor) -> bool:
    """Whether got is finite and has the shape and dtype of expected."""
    return (
        isinstance(got, Tensor)
        and got.shape == expected.shape
        and got.dtype == expected.dtype
        and bool(torch.isfinite(got).all())
    )


def close(
    what: str,
    got: object,
    expected: object,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    axes: Sequence[str] = (),
    hint: str | None = None,
    picture: Callable[[Tensor, Tensor], Figure] | None = None,
    parts: dict[str, dict] | None = None,
    again: Callable[[], Sequence] | None = None,
) -> None:
    """Raise `Wrong` unless got equals expected to atol + rtol |expected|, elementwise.

    what: the call as the student would write it. axes: a name for each axis, for "vertex 3"; one
    like "x, y, z" names each place.
    expected: a tensor, a float, an int, a bool, or a tuple of those, compared one by one.
    hint: a sentence to add when values differ. picture: called with (got, expected).
    parts: of a tuple, the name of each value and its own options: {"zbuf": dict(atol=1e-4)}.
    again: got and expected for a second input; what the mistake looks like is said only where it
    looks so there too.
    """
    if isinstance(expected, tuple):
        same_length(what, got, expected)
        parts = parts or {f"value {i + 1}": {} for i in range(len(expected))}
        options = dict(atol=atol, rtol=rtol, axes=axes, hint=hint, picture=picture)
        for i, (name, own) in enumerate(parts.items()):
            options["again"] = again and (lambda i=i: tuple(answer[i] for answer in again()))
            close(f"{name} of {what}", got[i], expected[i], **options | own)
        return
    if got is None:
        raise Wrong(f"{what} returned nothing (None): is the `return` missing?")
    if isinstance(expected, Tensor):
        got = _like(what, got, expected)
    else:
        got, expected = _as_number(what, got), torch.tensor(float(expected), dtype=torch.float64)
    drawing = None if picture is None else lambda: picture(got.detach(), expected.detach())
    lost = ~torch.isfinite(got) & torch.isfinite(expected)
    if lost.any():
        bad = lost
    elif expected.is_floating_point():
        bad = ~torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    else:
        bad = got != expected
    if not bad.any():
        return
    first = tuple(bad.nonzero()[0].tolist())
    where, right = _place(first, bad.shape, axes), _number(expected[first])
    if lost.any():
        raise Wrong(
            f"{what} holds {float(got[first])} at {where or 'its only value'} "
            f"({int(lost.sum())} of {lost.numel()} values are not finite); expected {right} there."
            + (f" {hint}" if hint else ""),
            drawing,
        )
    place = f" at {where}" if where else ""
    lines = [f"{what} differs{place}: expected {right}, got {_number(got[first])}."]
    if bad.numel() > 1:
        lines.append(f"{int(bad.sum()):,} of {bad.numel():,} values differ.")
    lines += [_diagnose(got.detach(), expected.detach(), rtol, atol, again), hint]
    raise Wrong(" ".join(filter(None, lines)), drawing)


SLOPELESS = (
    "A root or a logarithm has no slope at 0, and a division none by 0, not even where torch.where "
    "drops the result: keep the 0 away from it, or write it another way."
)


def same_gradient(
    what: str,
    got: Tensor,
    expected: Tensor,
    inputs: dict[str, tuple[Tensor, Tensor]],
    **tolerance: float,
) -> None:
    """Raise `Wrong` unless scalars got and expected have the same gradients.

    inputs: name: (the student's leaf, ours); both hold equal values and require gradients.
    """
    if not got.requires_grad:
        raise Wrong(
            f"{what} has no gradient: somewhere it leaves torch (.item(), .numpy(), .detach(), "
            "torch.tensor(...), no_grad), so nothing can be learned through it."
        )
    leaves, our_leaves = zip(*inputs.values(), strict=True)
    try:
        mine = torch.autograd.grad(got, leaves, allow_unused=True)
    except RuntimeError as error:
        raise Wrong(
            f"The gradient of {what} could not be taken: {re.split('[:.] ', str(error))[0]}. "
            "Most often a tensor that it needs was changed in place, as += and x[...] = do."
        ) from None
    ours = torch.autograd.grad(expected, our_leaves, materialize_grads=True)
    for name, one, other in zip(inputs, mine, ours, strict=True):
        if one is not None:
            gradient = f"the gradient of {what} with respect to {name}"
            lost = other.isfinite().all() and not one.isfinite().all()
            hint = SLOPELESS if lost else None
            close(gradient, one, other, **dict(rtol=1e-3, hint=hint) | tolerance)
        elif other.any():
            raise Wrong(f"{what} passes no gradient to {name}: is it detached on the way?")


def drawn_together(
    title: str, forms: tuple[str, str] = ("o-", "x--"), downwards: bool = False, **settings
) -> Callable[[Tensor, Tensor], Figure]:
    """A picture for `close`: both answers in one chart.

    Answers: numbers in a row, or points (*, 2 or 3), of which x and y are drawn. forms: of the
    expected and of the student's, as in `Axes.plot`. settings: of the axis, as in `Axes.set`.
    """

    def draw(got: Tensor, expected: Tensor) -> Figure:
        from .drawing.style import GREEN, RED, add_legend, charts

        figure, axis = charts(5.5, 3.4)
        for values, name, form, colour in (
            (expected, "expected", forms[0], GREEN),
            (got, "yours", forms[1], RED),
        ):
            values = np.asarray(values)
            row = range(1, len(values) + 1), values
            xy = row if values.ndim == 1 else values.reshape(-1, values.shape[-1]).T[:2]
            axis.plot(*xy, form, color=colour, label=name)
        axis.yaxis.set_inverted(downwards)
        axis.set(title=title, **settings)
        add_legend(axis)
        return figure

    return draw


def loss_curves(expected: Sequence[float], got: Sequence[float], *_: object) -> Figure:
    """The losses of a check's small problem, step by step."""
    title = "The loss on the check's small problem"
    return drawn_together(title, ("-", "--"), xlabel="step", ylabel="loss")(got, expected)


def reproduces(got: object, wrong: object, right: object) -> bool:
    """Whether got is the mistaken answer wrong, and not the right one.

    Answers may be tensors, numbers, or tuples, lists, dicts and dataclasses of these. Each part of
    got has to lie a hundred times nearer to wrong's than to right's, to rounding.
    """
    errors = _distances(got, right)
    return any(errors) and all(
        distance <= 0.01 * min(error, 1.0)
        for distance, error in zip(_distances(got, wrong), errors, strict=True)
    )


def same(one: object, other: object) -> bool:
    """Whether two answers of any kind are equal, to a thousandth."""
    return all(distance <= 1e-3 for distance in _distances(one, other))


def _distances(one: object, other: object) -> list[float]:
    """For each tensor and number of one, how far it is from other's."""
    mine, theirs = _leaves(one), _leaves(other)
    if len(mine) != len(theirs):
        return [math.inf] * max(len(mine), 1)
    return list(map(_distance, mine, theirs))


def _leaves(answer: object) -> list:
    """The tensors and numbers that an answer is made of, in a row."""
    if dataclasses.is_dataclass(answer):
        answer = vars(answer)
    if isinstance(answer, dict):
        return [*answer, *(leaf for value in answer.values() for leaf in _leaves(value))]
    if isinstance(answer, tuple | list):
        return [leaf for value in answer for leaf in _leaves(value)]
    if isinstance(answer, bool | int | float | np.number):
        return [torch.tensor(float(answer), dtype=torch.float64)]
    if isinstance(answer, Tensor):  # one number is the same as a float and as a tensor
        return [answer.detach().double() if answer.ndim == 0 else answer.detach()]
    return [answer]


def _distance(one: object, other: object) -> float:
    """The largest difference, relative to other; 0 for rounding, infinite for another kind."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return 0.0 if type(one) is type(other) and one == other else math.inf
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    if not one.is_floating_point():
        return 0.0 if torch.equal(one, other) else math.inf
    if torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True):
        return 0.0
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return math.inf
    one, other = one[finite], other[finite]
    return float((one - other).abs().max() / (1 + other.abs().max()))


def same_length(what: str, got: object, expected: tuple) -> None:
    """Raise `Wrong` unless got is a tuple or list of as many values as expected."""
    if got is None:
        raise Wrong(f"{what} returned nothing (None): is the `return` missing?")
    if not isinstance(got, tuple | list):
        raise Wrong(f"{what}: expected {len(expected)} values, got one {_kind(got)}.")
    if len(got) != len(expected):
        raise Wrong(f"{what}: expected {len(expected)} values, got {len(got)}.")


def _like(what: str, got: object, expected: Tensor) -> Tensor:
    what = what.rstrip(",")
    if not isinstance(got, Tensor):
        number = isinstance(got, int | float | np.ndarray | np.generic | list | tuple)
        hint = " Keep to torch functions, or gradients and later cells are lost." if number else ""
        raise Wrong(f"{what}: expected a torch.Tensor, got {_kind(got)}.{hint}")
    shape, right = tuple(got.shape), tuple(expected.shape)
    if shape != right:
        hint = ""
        if sorted(shape) == sorted(right):
            hint = " The same numbers in another order: are two axes swapped?"
        elif got.numel() == expected.numel():
            hint = " As many values, otherwise arranged: reshape, unsqueeze or squeeze?"
        elif len(shape) + 1 == len(right):
            hint = " An axis is missing: is something summed that should not be?"
        elif len(shape) == len(right) + 1:
            hint = " An axis too many: is a sum over it missing?"
        raise Wrong(f"{what}: expected shape {right}, got {shape}.{hint}")
    if got.dtype != expected.dtype:
        hint = ""
        if got.is_floating_point() and expected.is_floating_point():
            hint = " Make new tensors in the dtype of the arguments, as x.new_zeros(...) does."
        raise Wrong(f"{what}: expected dtype {expected.dtype}, got {got.dtype}.{hint}")
    return got


def _as_number(what: str, got: object) -> Tensor:
    try:
        value = torch.as_tensor(got, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what}: expected a number, got {_kind(got)}.") from None
    if value.numel() != 1:
        raise Wrong(f"{what}: expected one number, got shape {tuple(value.shape)}.")
    return value.reshape(())


def _kind(value: object) -> str:
    name = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    return f"{name} of shape {tuple(value.shape)}" if hasattr(value, "shape") else name


def _place(first: Sequence[int], shape: Sequence[int], axes: Sequence[str]) -> str:
    """An index in words: "vertex 3, x"; axes of length 1 are left out, unless all are."""
    if len(axes) != len(shape):
        return f"[{', '.join(map(str, first))}]" if shape else ""
    names = []
    for name, i, size in zip(axes, first, shape, strict=True):
        each = re.split(", | or ", name)
        names.append((each[i] if len(each) == size > 1 else f"{name} {i}", size))
    return ", ".join([name for name, size in names if size > 1] or [name for name, _ in names])


def _number(value: Tensor) -> str:
    value = value.detach()
    if value.dtype == torch.bool:
        return str(bool(value))
    if not value.is_floating_point():
        return f"{int(value)}"
    return f"{float(value):.5g}"


KNOWN_FACTORS = (
    (-1.0, "the sign is flipped everywhere"),
    (2.0, "it is twice what it should be, everywhere"),
    (0.5, "it is half of what it should be, everywhere"),
    (math.pi / 180, "it is pi/180 times the expected: degrees and radians mixed up?"),
    (180 / math.pi, "it is 180/pi times the expected: degrees and radians mixed up?"),
)


def _diagnose(
    got: Tensor, expected: Tensor, rtol: float, atol: float, again: Callable[[], Sequence] | None
) -> str | None:
    """What simple mistake would explain all of the difference, if one does; one number is not all.

    again: as in `close`.
    """
    if again is None:
        causes = _causes(got, expected, rtol, atol) if got.numel() > 1 else ()
        return next(iter(causes), None)
    try:
        second = [x if isinstance(x, Tensor) else torch.tensor(float(x)) for x in again()]
        there = set(_causes(*(x.detach() for x in second), rtol, atol))
    except Exception:  # it cannot answer the second input, or otherwise than the first
        return None
    return next((words for words in _causes(got, expected, rtol, atol) if words in there), None)


def _causes(got: Tensor, expected: Tensor, rtol: float, atol: float) -> Iterator[str]:
    """Each simple mistake that would explain all of the difference, in words."""
    known = expected.is_floating_point() and torch.isfinite(expected).all()
    rtol = max(rtol, 1e-3)
    if not known or expected.abs().max() <= 10 * atol:
        return
    if torch.allclose(got, expected, rtol=rtol, atol=atol):
        yield "Only the last digits differ."
    elif got.abs().max() <= atol:
        yield "Yours is zero everywhere." if got.numel() > 1 else "Yours is zero."
    else:
        for corrected, words in _corrections(got, expected):
            if torch.allclose(corrected, expected, rtol=rtol, atol=atol):
                yield words


def _corrections(got: Tensor, expected: Tensor) -> Iterator[tuple[Tensor, str]]:
    """Simple mistakes: got without each of them, and its name in words."""
    several = expected.numel() > 1
    for factor, words in KNOWN_FACTORS:
        words = words if several else re.sub(",? everywhere", "", words)
        yield got / factor, f"It looks as if {words}."
    factor = float((got * expected).sum() / (expected * expected).sum())
    if factor and several:
        yield got / factor, f"Yours is {factor:.4g} times the expected, everywhere."
    shape, axes = expected.shape, range(expected.ndim)
    if several:
        shift = (got - expected).mean()
        yield got - shift, f"Yours is the expected plus {float(shift):.4g}, everywhere."
    if expected.ndim > 4 or expected.numel() > 1_000_000:
        return
    for a, b in itertools.combinations(axes, 2):
        if shape[a] == shape[b]:
            words = f"Transposing axes {a} and {b} of yours gives the expected."
            yield got.transpose(a, b), words
    for axis in axes:
        if shape[axis] > 1:
            yield got.flip(axis), f"Yours is in reverse order along axis {axis}."
        if shape[axis] > 2:
            for step in (1, -1):
                yield got.roll(step, axis), f"Yours is shifted by one along axis {axis}."
    columns = shape[-1] if axes else 0
    if 2 <= columns <= 4:
        for signs in itertools.product((1.0, -1.0), repeat=columns):
            flipped = ", ".join(str(i) for i, sign in enumerate(signs) if sign < 0)
            words = f"The sign is flipped in column {flipped} of the last axis."
            yield got * got.new_tensor(signs), words
        for order in map(list, itertools.permutations(range(columns))):
            words = f"Taking the columns of yours in the order {order} gives the expected."
            yield got[..., order], words
