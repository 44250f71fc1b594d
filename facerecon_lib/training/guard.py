"""What stops a training run before its last step: a loss that is no number, or somebody's wish.

    with stop_signals() as asked:                        # SIGTERM and Ctrl-C are noted down here
        stop = agree(fabric, asked, step, batch, objective, norm, weights)

Both are decided by all processes together, at the one point of a step where the device is waited
for: after the gradients, before the weights change.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..face.batch import FaceBatch
from ..fitting.objective import Objective
from .processes import gather

IMPATIENT_SECONDS = 2.0
"""A second Ctrl-C this long after the first stops at once. A launcher passes on what the terminal
has sent already, so the same wish arrives twice within milliseconds."""


class NonFiniteError(FloatingPointError):
    """A loss or gradient is no number. One line: the step, the terms, the faces."""

    everywhere = True  # raised by all processes alike


class Interrupted(Exception):
    """Asked to stop; a checkpoint is written. One line that says how to go on."""

    everywhere = True

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """The signals that came in, SIGINT or SIGTERM; an impatient second Ctrl-C interrupts as ever.

    Only the main thread can listen; in any other the list stays empty.
    """
    asked: list[int] = []
    first = 0.0

    def note(number: int, frame) -> None:
        nonlocal first
        now = time.monotonic()
        if number == signal.SIGINT and asked and now - first > IMPATIENT_SECONDS:
            raise KeyboardInterrupt
        first = first or now
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agree(
    fabric,
    asked: list[int],
    step: int,
    batch: FaceBatch,
    objective: Objective,
    norm: Tensor,
    weights: Mapping[str, float],
) -> bool:
    """Whether to stop after this step: true in all processes where one was asked to.

    Raises NonFiniteError in all of them where one has a loss, term or gradient that is no number.
    """
    values = torch.stack([*objective.terms.values(), objective.loss, norm]).detach()
    bad = (~torch.isfinite(values)).any()
    flags = torch.stack([bad.float(), torch.full_like(values[0], float(len(asked)))])
    if fabric.world_size > 1:
        flags = fabric.all_reduce(flags, reduce_op="sum")
    broken, stop = flags.tolist()
    if broken:
        everyone = gather(fabric, what_is_broken(batch, objective, weights))
        told = [text for text in everyone if text]
        if not told:  # every loss is a number
            told = [f"the gradient, of {_span(batch.names)}"]
        raise NonFiniteError(f"step {step + 1}: not finite: {'; '.join(told)}")
    return stop > 0


def what_is_broken(batch: FaceBatch, objective: Objective, weights: Mapping[str, float]) -> str:
    """The terms that are no numbers, and of which faces; "" where the loss is one."""
    if torch.isfinite(objective.loss):
        return ""
    terms = [
        name if not torch.isfinite(value) else f"{weights[name]:g} · {name}"
        for name, value in objective.terms.items()
        if not torch.isfinite(weights[name] * value)
    ]
    shown = ", ".join(terms) or "the sum of the terms"
    fine = torch.isfinite(batch.image).flatten(1).all(1)
    fine &= torch.isfinite(batch.landmarks).flatten(1).all(1)
    odd = [name for name, good in zip(batch.names, fine.tolist(), strict=True) if not good]
    given = f" ({_span(odd)}: given with numbers that are not finite)" if odd else ""
    return f"{shown}, of {_span(batch.names)}{given}"


def _span(names: list[str]) -> str:
    """The first and the last of a row of names."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
