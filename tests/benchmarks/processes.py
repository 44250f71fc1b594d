"""How training from shards grows with its processes: photos/s of one beside those of several.

    python tests/benchmarks/processes.py --shards SHARDS [--processes 1 --processes 2]

Each run is `facerecon train base` or `facerecon train augmented` as a user starts it, by torchrun
where there are several processes (Gloo, on the CPU, one thread each), with as many photos per step
in all: strong scaling. Runs take turns, and the number is the median over the steps of all turns
but each one's first few, from the run's own log. Stage one: MobileNetV3 at 112, renderings of 112
pixels; stage two: a U-Net of width 8 over the encoder that ships. Processes of one machine share
its cores: with fewer cores than processes nothing can be gained.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

STAGES = {
    "base": [
        "--norm=group",
        "--recognition=none",
        "--set=backbone=mobilenet_v3_large",
        "--set=init=none",
        "--set=input_size=112",
        "--set=render_size=112",
    ],
    "augmented": ["--illumination=free", "--albedo=monk", "--width=8", "--set=recognition=none"],
}
QUIET = ["log_every=1", "schedule=constant"]
QUIET += ["validate_every=0", "checkpoint_every=0", "picture_every=0"]


def step_seconds(stage: str, processes: int, shards: Path, batch: int, steps: int) -> list[float]:
    """Seconds of every step of one run."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launcher = (launcher if processes > 1 else []) + ["-m", "facerecon_lib.cli"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, *launcher, "train", stage, f"--out={out}", f"--data={shards}"]
        command += ["--device=cpu", f"--batch={batch}", f"--steps={steps}", *STAGES[stage]]
        command += [f"--set={setting}" for setting in QUIET]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"processes: {' '.join(command[1:])}\n{done.stderr.strip()[-2000:]}")
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [batch / r["photos_per_s"] for r in records if r["kind"] == "train"]


def main(
    shards: Annotated[Path, typer.Option(help="A folder of shards, at least one a process.")],
    processes: Annotated[list[int] | None, typer.Option(help="How many; 1 and 2.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="base, augmented; both.")] = None,
    batch: Annotated[int, typer.Option(help="Photos per step, of all processes together.")] = 16,
    steps: Annotated[int, typer.Option(help="Steps per run that count.")] = 16,
    warm_up: Annotated[int, typer.Option(help="Steps per run that do not.")] = 4,
    repeats: Annotated[int, typer.Option(help="Runs of each.")] = 3,
) -> None:
    counts, stages = processes or [1, 2], stage or list(STAGES)
    if not (shards / "index.json").is_file():
        raise SystemExit(f"processes: {shards} holds no index.json: name a folder of shards")
    if unknown := set(stages) - set(STAGES):
        raise SystemExit(f"processes: no such stage: {', '.join(sorted(unknown))}")
    times = {(name, n): [] for name in stages for n in counts}
    console = Console(width=110)
    for name, n in track(list(times) * repeats, "runs", console=console):
        times[name, n] += step_seconds(name, n, shards, batch, warm_up + steps)[warm_up:]
    cores, load = os.cpu_count(), os.getloadavg()[0]
    title = f"{batch} photos per step; {cores} cores, load {load:.1f} at the end"
    table = Table("stage", title=f"{title}; torch {torch.__version__}")
    for column in ("processes", "ms per step", "middle half", "photos/s", "beside the first"):
        table.add_column(column, justify="right")
    for name in stages:
        first = statistics.median(times[name, counts[0]])
        for n in counts:
            middle = statistics.median(times[name, n])
            low, _, high = statistics.quantiles(times[name, n], n=4)
            cells = (f"{1e3 * middle:.0f}", f"{1e3 * low:.0f} to {1e3 * high:.0f}")
            rates = (f"{batch / middle:.1f}", f"{first / middle:.2f}")
            table.add_row(name, str(n), *cells, *rates)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
