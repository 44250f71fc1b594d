"""What the benchmarks of training share: clocks, counts, tables."""

import os
import platform
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

import facerecon_lib

console = Console(width=130)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """Seconds per step, of some steps in a row that are not waited for one by one."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - start) / steps


def peak_memory(step: Callable[[], None], device: str) -> float:
    """GiB: allocated on the GPU in a step; on the CPU, resident in this process at any time."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Stopwatch:
    """Seconds of named parts, the device waited for on either side."""

    def __init__(self, device: str):
        self.device, self.times = device, {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        synchronise(self.device)
        start = time.perf_counter()
        yield
        synchronise(self.device)
        self.times[name] = time.perf_counter() - start


# What holds it up -------------------------------------------------------------------------------


def profile(training: Any) -> dict[str, int]:
    """Prints the operations that take longest in one step; returns how often what was called."""
    cuda = training.device == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's, about itself
        with torch.profiler.profile(activities=kinds) as profiler:
            training.step(training.data())
            synchronise(training.device)
        ops = profiler.key_averages()
    order = "self_device_time_total" if cuda else "self_cpu_time_total"
    print(ops.table(sort_by=order, row_limit=25, max_name_column_width=50))

    def count(*names: str) -> int:
        return sum(op.count for op in ops if any(name in op.key for name in names))

    counts = {"torch operations, those within others too": count("aten::")}
    if cuda:
        counts |= {
            "kernel launches": count("LaunchKernel"),
            "waits for the device": count("Synchronize"),
            "copies from host to device": count("Memcpy HtoD"),
            "copies from device to host": count("Memcpy DtoH"),
        }
    return counts


def waits(training: Any) -> Counter[str]:
    """How often each line of a step makes Python wait for the GPU, a copy from the host included.

    Lines are the innermost ones of the library. Only what torch itself knows of is counted.
    """
    lines: Counter[str] = Counter()
    here = (str(Path(facerecon_lib.__file__).parent), str(Path(__file__).parent))

    def note(message: Warning, *_) -> None:
        if "synchronizing CUDA operation" not in str(message):
            return
        ours = [f for f in traceback.extract_stack()[:-1] if f.filename.startswith(here)]
        place = "torch's own threads"
        if ours:
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}  {ours[-1].line}"
        lines[place] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            training.step(training.data())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return lines


def show_counts(title: str, counts: dict[str, int]) -> None:
    table = Table(Column("times", justify="right"), Column("what", overflow="fold"), title=title)
    for name, value in counts.items():
        table.add_row(str(value), name.replace("[", r"\["))
    console.print(table)


def machine(device: str) -> dict[str, str]:
    gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else platform.machine(),
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
