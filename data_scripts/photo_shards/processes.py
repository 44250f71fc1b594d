"""The processes of a preparation on one machine, and what a person sees while they work.

    with progress(before, total) as show:
        counts = in_processes(4, out, photos, settings, "cpu", retry=False, show=show)

Notebook 06, section 2.3.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from facerecon_lib.cli.console import check_device, error_console
from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.files.errors import FacereconError, one_line
from photo_shards.preparation import STATUSES, Settings, prepare_share

LINE_EVERY_S = 30  # where there is no terminal to draw a bar on
LOOK_EVERY_S = 0.2

Show = Callable[[Counter], None]
"""Is told how many photos of each status there were so far in this run."""


def in_processes(
    count: int,
    out: Path,
    photos: Sequence,
    settings: Settings,
    device: str,
    retry: bool,
    show: Show,
) -> Counter:
    """`prepare_share` in `count` processes. One that fails does not stop the others.

    Raises ShardsError, the first line of those that failed, when all have ended.
    """
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not like a fork
    tallies = [context.Array("q", len(STATUSES), lock=False) for _ in range(count)]
    messages = context.SimpleQueue()
    shared = (out, photos, settings, device, retry, messages)
    workers = [
        context.Process(target=_worker, args=(rank, count, tally, *shared), daemon=True)
        for rank, tally in enumerate(tallies)
    ]

    def counts() -> Counter:
        return Counter({s: sum(t[i] for t in tallies) for i, s in enumerate(STATUSES)})

    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(LOOK_EVERY_S)
            show(counts())
    finally:
        for worker in workers:  # after Ctrl-C; they may be killed at any moment
            if worker.is_alive():
                worker.kill()
    if not messages.empty():
        raise ShardsError(messages.get())
    if failed := [w for w in workers if w.exitcode]:
        how = "was killed" if failed[0].exitcode < 0 else "failed"
        raise ShardsError(
            f"{out}: {len(failed)} of {count} processes {how} ({failed[0].exitcode}); the same "
            "command resumes"
        )
    return counts()


def _worker(rank, world, tally, out, photos, settings, device, retry, messages) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    parent = os.getppid()

    def tell(status: str) -> None:
        tally[STATUSES.index(status)] += 1
        if os.getppid() != parent:  # the first process was killed, and nobody would see this one
            raise ShardsError(f"{out}: stopped; the same command resumes")

    try:
        device = device_of(device, rank)
        check_device(device)
        prepare_share(out, photos, settings, rank, world, device, tell, retry)
    except FacereconError as error:
        messages.put(one_line(error))


def device_of(device: str, number: int) -> str:
    """The GPU of the machine's process of that number; several processes may share one."""
    if device == "cuda" and torch.cuda.device_count():
        return f"cuda:{number % torch.cuda.device_count()}"
    return device


# What is seen of it -----------------------------------------------------------------------------


@contextmanager
def progress(before: int, total: int) -> Iterator[Show]:
    """A bar with rate and time left, or a line of it now and then where there is no terminal.

    before: photos that an earlier run dealt with; they count as done, and not for the rate.
    """
    started = last = time.monotonic()

    def words(done: int) -> str:
        rate = done / max(time.monotonic() - started, 1e-9)
        left = duration((total - before - done) / rate) if done else "some time"
        return f"{rate:.1f} photos/s, {left} left"

    if error_console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=error_console, transient=True) as bar:
            task = bar.add_task("", total=total, completed=before)

            def draw(counts: Counter) -> None:
                done = counts.total()
                bar.update(task, completed=before + done, description=words(done))

            yield draw
        return

    def write(counts: Counter) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            done = before + counts.total()
            say(f"{done:,} of {total:,} photos ({done / total:.0%}), {words(done - before)}")

    yield write


def duration(seconds: float) -> str:
    """In words, to about two digits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    error_console.print(text, markup=False, soft_wrap=True)
