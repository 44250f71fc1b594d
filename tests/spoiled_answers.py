"""Right answers with something about them spoiled that has nothing to do with what they compute."""

from collections.abc import Callable

import torch
from torch import Tensor


def cached(function: Callable) -> Callable:
    """Keeps the answer to the first arguments of each size, for all others of that size."""
    answers = {}

    def spoiled(*arguments):
        size = str([getattr(value, "shape", value) for value in arguments])
        if size not in answers:
            answers[size] = function(*arguments)
        return answers[size]

    return spoiled


def stale(function: Callable, *places: int) -> Callable:
    """Keeps the arguments at places, the first of each size for all others of that size."""
    first = {}

    def keep(place: int) -> Callable:
        return lambda x: first.setdefault((place, x.shape), x.detach().clone())

    return with_(function, **{f"a{place}": keep(place) for place in places})


def viewed(function: Callable, *places: int) -> Callable:
    """Breaks where a tensor, or one at one of places, is not contiguous, as `view` does."""

    def spoiled(*arguments, **named):
        return function(
            *(
                x.view(-1).view_as(x) if (i in places if places else _is_float(x)) else x
                for i, x in enumerate(arguments)
            ),
            **named,
        )

    return spoiled


def halved(function: Callable) -> Callable:
    """Computes in half precision, three digits."""
    return lambda *arguments: function(
        *(x.half().to(x.dtype) if _is_float(x) else x for x in arguments)
    )


def single(function: Callable) -> Callable:
    """Computes and answers in float32 whatever the dtype."""
    return lambda *arguments, **named: function(
        *(x.float() if _is_float(x) else x for x in arguments), **named
    )


def squeezed(function: Callable) -> Callable:
    """Loses the axes of length 1."""

    def spoiled(*arguments):
        answer = function(*arguments)
        parts = answer if isinstance(answer, tuple) else (answer,)
        parts = tuple(part.squeeze() for part in parts)
        return parts if isinstance(answer, tuple) else parts[0]

    return spoiled


def with_(function: Callable, **changes: Callable) -> Callable:
    """The function, arguments changed by their place: a0=change(argument)."""

    def spoiled(*arguments, **named):
        arguments = list(arguments)
        for name, change in changes.items():
            place = int(name[1:])
            if place < len(arguments):
                arguments[place] = change(arguments[place])
        return function(*arguments, **named)

    return spoiled


def rooted(x: Tensor) -> Tensor:
    """The number itself, by a root whose gradient is nan where it is 0."""
    return x.square().sqrt() * x.sign()


def logged(x: Tensor) -> Tensor:
    """The number itself, by a logarithm whose gradient is nan where it is 0."""
    return torch.exp(x.abs().log()) * x.sign()


def one_of(x: Tensor) -> Tensor:
    """The first of a batch for all."""
    return x[:1].expand_as(x)


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
