"""Seconds of whole commands on one photo, as multiples of a bare `import torch` beside them.

    python tests/benchmarks/cold_start.py [PHOTO] [--rounds 5]

Commands take turns, so that load on the machine falls on all; medians. A warm photo is the second
of two in one command; the last line is a folder of copies.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.photos.detection import ASSETS

TWO = "facerecon fit, of two photos"
CLI = [sys.executable, "-m", "facerecon_lib.cli"]
COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "facerecon fit --help": [*CLI, "fit", "--help"],
    "facerecon fit": [*CLI, "fit"],
    TWO: [*CLI, "fit"],
    "facerecon fit --no-figure": [*CLI, "fit", "--no-figure"],
    "facerecon reconstruct": [*CLI, "reconstruct"],
}


def main(
    photo: Annotated[Path, typer.Argument(help="Of a face.")] = ASSETS / "astronaut.jpg",
    rounds: Annotated[int, typer.Option(help="Of each command.")] = 5,
    many: Annotated[int, typer.Option(help="Photos of the folder.")] = 100,
) -> None:
    """Time whole commands."""
    seconds = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as out:
        again = Path(out, "again" + photo.suffix)
        again.write_bytes(photo.read_bytes())
        for _ in track(range(rounds), console=error_console):
            for name, command in COMMANDS.items():
                works = command[3:4] and "--help" not in command
                photos = [photo, *[again] * (name == TWO), "--out", out] if works else []
                seconds[name].append(took([*command, *map(str, photos)]))
    torch = statistics.median(seconds["import torch"])
    table = Table("command", "seconds", "of import torch", title=f"medians of {rounds}")
    for name, values in seconds.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:.2f}", f"{median / torch:.2f}")
    pairs = zip(seconds[TWO], seconds["facerecon fit"], strict=True)
    warm = statistics.median(two - one for two, one in pairs)
    table.add_row("a second photo, warm", f"{warm:.2f}", f"{warm / torch:.2f}")
    with tempfile.TemporaryDirectory() as out:
        copies = [Path(out, f"{i:03d}{photo.suffix}") for i in range(many)]
        for copy in copies:
            copy.write_bytes(photo.read_bytes())
        whole = took([*CLI, "fit", *map(str, copies), "--out", f"{out}/results", "--quiet"])
    table.add_row(f"{many} photos", f"{whole:.1f}", f"{many / whole:.1f} photos per second")
    out_console.print(table)


def took(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
