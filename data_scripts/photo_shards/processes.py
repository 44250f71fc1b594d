"""The processes of a preparation on one machine, and what a person sees while they work.

    with progress(before, total) as show:
        counts = in_processes(job, 4, show)

Notebook 06, section 2.3.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from facerecon_lib.cli.console import check_device, error_console
from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.files.errors import FacereconError, one_line
from photo_shards.preparation import STATUSES, Job, prepare_share

LINE_EVERY_S = 30  # where there is no terminal to draw a bar on
LOOK_EVERY_S = 0.2

Show = Callable[[Counter], None]
"""Is told how many photos of each status there were so far in this run."""


def in_processes(job: Job, count: int, show: Show) -> Counter:
    """`prepare_share` in `count` processes. One that fails does not stop the others.

    Raises ShardsError, the first line of those that failed, when all have ended.
    """
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not like a fork
    tallies = [context.Array("q", len(STATUSES), lock=False) for _ in range(count)]
    messages = context.SimpleQueue()
    shares = [(job, rank, count, tally, messages) for rank, tally in enumerate(tallies)]
    workers = [context.Process(target=_worker, args=share, daemon=True) for share in shares]

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
        which = f"{len(failed)} of {count} processes {how} ({failed[0].exitcode})"
        raise ShardsError(f"{job.out}: {which}; the same command resumes")
    return counts()


def _worker(job: Job, rank: int, world: int, tally, messages) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    parent = os.getppid()

    def tell(counts: Counter) -> None:
        tally[:] = [counts[status] for status in STATUSES]
        if os.getppid() != parent:  # the first process was killed, and nobody would see this one
            raise ShardsError(f"{job.out}: stopped; the same command resumes")

    try:
        job = replace(job, device=device_of(job.device, rank))
        check_device(job.device)
        prepare_share(job, rank, world, tell)
    except FacereconError as error:
        messages.put(one_line(error))


def device_of(device: str, number: int) -> str:
    """The GPU of the machine's process of that number; several processes may share one."""
    if device == "cuda" and torch.cuda.device_count():
        return f"cuda:{number % torch.cuda.device_count()}"
    return device


@contextmanager
def progress(before: int, total: int) -> Iterator[Show]:
    """A bar with rate and time left, or a line now and then where there is no terminal.

    before: photos of an earlier run, which do not count for the rate.
    """
    started = last = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    drawn = error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=not drawn) as bar:
        task = bar.add_task("", total=total, completed=before)

        def show(counts: Counter) -> None:
            nonlocal last
            new, now = counts.total(), time.monotonic()
            rate, done = new / max(now - started, 1e-9), before + new
            left = duration((total - done) / rate) if new else "some time"
            words = f"{rate:.1f} photos/s, {left} left"
            bar.update(task, completed=done, description=words)
            if not drawn and now - last >= LINE_EVERY_S:
                last = now
                say(f"{done:,} of {total:,} photos ({done / total:.0%}), {words}")

        yield show


def duration(seconds: float) -> str:
    """In words, to about two digits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    error_console.print(text, markup=False, soft_wrap=True)
