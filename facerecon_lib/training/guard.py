"""What stops a training run before its last step: a loss that is not finite, or a signal.

    with stop_signals() as run.signals:                  # notes SIGTERM and Ctrl-C down
        stop = agree(run, step, parts, objective, norm)

All processes decide together, at the one point of a step that waits for the device: after the
gradients, before the weights change. Serves notebooks 06 and 09.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..face.batch import FaceBatch
from ..fitting.objective import Objective
from .checkpoints import latest_checkpoint
from .processes import gather

IMPATIENT_SECONDS = 2.0
"""A second Ctrl-C this long after the first stops at once. A launcher passes on what the terminal
has sent already, so one Ctrl-C arrives twice within milliseconds."""


class NonFiniteError(FloatingPointError):
    """A loss or gradient is not finite. One line: the step, the terms, the faces."""

    everywhere = True  # raised by all processes alike


class Interrupted(Exception):
    """Asked to stop; a checkpoint is written. One line that says how to go on."""

    everywhere = True

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP as they come in; an impatient second Ctrl-C interrupts as ever.

    Only the main thread can listen; in any other the list stays empty.
    """
    signals: list[int] = []
    first = 0.0

    def note(number: int, frame) -> None:
        nonlocal first
        now = time.monotonic()
        if number == signal.SIGINT and signals and now - first > IMPATIENT_SECONDS:
            raise KeyboardInterrupt
        first = first or now
        signals.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        hangup = getattr(signal, "SIGHUP", None)  # Windows has none, nohup ignores it
        if hangup and signal.getsignal(hangup) != signal.SIG_IGN:
            numbers.append(hangup)
        before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agree(run, step: int, parts: Sequence[FaceBatch], objective: Objective, norm: Tensor) -> bool:
    """Whether to stop after this step: in all processes if one of them got a signal.

    run: a TrainingRun. Raises NonFiniteError in all processes if one has a loss, term or gradient
    that is not finite.
    """
    values = torch.stack([*objective.terms.values(), objective.loss, norm]).detach()
    bad = (~torch.isfinite(values)).any()
    flags = torch.stack([bad.float(), torch.full_like(values[0], float(len(run.signals)))])
    if run.fabric.world_size > 1:
        flags = run.fabric.all_reduce(flags, reduce_op="sum")
    broken, stop = flags.tolist()
    if broken:
        messages = gather(run.fabric, _what_is_broken(parts, objective, run.stage.weights))
        reasons = "; ".join(message for message in messages if message)
        reasons = reasons or f"the gradient, of {_spans(parts)}"  # every loss is finite
        last = latest_checkpoint(run.out / "checkpoints")
        rescue = f"the last checkpoint, {last.path}, is good" if last else "no checkpoint yet"
        raise NonFiniteError(
            f"step {step + 1}: not finite: {reasons}; stopped before the weights changed, "
            f"{rescue}; look at those faces, or start again with a lower learning rate"
        )
    return stop > 0


def _what_is_broken(
    parts: Sequence[FaceBatch], objective: Objective, weights: Mapping[str, float]
) -> str:
    """The terms that are not finite, and their faces; "" where the loss is finite."""
    if torch.isfinite(objective.loss):
        return ""
    terms = [
        name if not torch.isfinite(value) else f"{weights[name]:g} · {name}"
        for name, value in objective.terms.items()
        if not torch.isfinite(weights[name] * value)
    ]
    what = ", ".join(terms) or "the sum of the terms"
    odd = []
    for part in parts:
        fine = torch.isfinite(part.image).flatten(1).all(1)
        fine &= torch.isfinite(part.landmarks).flatten(1).all(1)
        odd += [name for name, good in zip(part.names, fine.tolist(), strict=True) if not good]
    cause = f" ({_span(odd)}: given with numbers that are not finite)" if odd else ""
    return f"{what}, of {_spans(parts)}{cause}"


def _spans(parts: Sequence[FaceBatch]) -> str:
    return " and ".join(_span(part.names) for part in parts)


def _span(names: list[str]) -> str:
    """The first and the last name."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
