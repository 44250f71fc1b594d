"""Runs killed at random moments: nothing of the user's is lost, no litter stays, resumes are equal.

    python tests/benchmarks/kills.py --kills 25          # of each of four commands

Each command runs once undisturbed. Then, time and again: it starts into a folder that holds files
of the user's (and often an older result), dies by SIGKILL, SIGTERM or SIGHUP at a random moment,
runs once more to its end, and must leave what the undisturbed run left, the user's files, no more.
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageOps
from rich.progress import track
from safetensors import safe_open

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.photos.detection import ASSETS, sample_photo

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
CLI = [sys.executable, "-m", "facerecon_lib.cli"]
TRAIN = ["--profile", "smoke", "--steps", "6", "--set", "checkpoint_every=2"]
TRAIN += ["--set", "validation_faces=4", "--set", "picture_every=0"]
MINE = {"notes.txt": "mine", "me/diary.txt": "mine too"}
VARYING = {"seconds", "files"}
"""Of result.json: times, and digests of pictures that hold none; other files are compared whole."""


def commands(folder: Path) -> dict[str, tuple[list, list]]:
    """Name: (the first command, the one that goes on), without --out."""
    photos = folder / "photos"
    photos.mkdir()
    face = Image.fromarray(sample_photo().pixels)
    for number in range(8):
        picture = ImageOps.mirror(face) if number % 2 else face
        picture.rotate(2 * number).save(photos / f"{number}_Ada_{number:04d}.jpg")
    astronaut = ASSETS / "astronaut.jpg"
    reconstruct, fit = [*CLI, "reconstruct", astronaut], [*CLI, "fit", astronaut]
    train = [*CLI, "train", "base", *TRAIN]
    prepare = [sys.executable, SCRIPTS / "prepare_cacd.py", photos, "--photos-per-shard", "2"]
    return {
        "reconstruct": (reconstruct, reconstruct),
        "fit": (fit, fit),
        "train": (train, [*train, "--resume"]),
        "prepare_cacd": (prepare, prepare),
    }


def contents(out: Path) -> dict[str, str]:
    """Digest of each file by its path; of JSON without what varies, of weights in their order."""
    digests = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        if path.parent.name == "tensorboard":  # a file per run, named by time
            continue
        data = path.read_bytes()
        if path.name == "result.json":
            result = {k: v for k, v in json.loads(data).items() if k not in VARYING}
            data = json.dumps(result).encode()
        if path.suffix == ".safetensors":  # its header's order varies
            with safe_open(path, "np") as file:
                weights = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
                data = repr(
                    (sorted((file.metadata() or {}).items()), sorted(weights.items()))
                ).encode()
        name = str(path.relative_to(out))
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests


def comparable(name: str) -> bool:
    """Files whose bytes hold times or what a run went through, compared by their presence."""
    return not name.endswith(("log.jsonl", "report.csv", "report.json", "state.json"))


def main(
    kills: Annotated[int, typer.Option(help="Of each command.")] = 25,
    only: Annotated[str, typer.Option(help="One command.")] = "",
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill and go on."""
    chance, failures = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (first, again) in commands(folder).items():
            if only not in ("", name):
                continue
            whole, began = folder / f"{name}-whole", time.perf_counter()
            subprocess.run([*first, "--out", whole], check=True, capture_output=True)
            seconds, expected = time.perf_counter() - began, contents(whole)
            moments = Counter()
            for number in track(range(kills), name, console=error_console):
                out = folder / f"{name}-{number}"
                for file, text in MINE.items():
                    (out / file).parent.mkdir(parents=True, exist_ok=True)
                    (out / file).write_text(text)
                older = number % 2 and name in ("fit", "reconstruct")
                if older:
                    shutil.copytree(whole / "astronaut", out / "astronaut")
                run = subprocess.Popen([*first, "--out", out], stderr=-3, stdout=-3)
                time.sleep(chance.uniform(0, seconds))
                run.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)))
                run.wait()
                moments["ended before" if run.returncode == 0 else "killed"] += 1
                resumable = name != "train" or any(out.glob("checkpoints/step-*"))
                resumable = resumable and not (name == "train" and run.returncode == 0)
                if older and contents(out / "astronaut") != contents(whole / "astronaut"):
                    gone = not (out / "astronaut").exists() and any(out.glob(".facerecon-*"))
                    failures[f"{name}: the older result is damaged"] += not gone
                if name != "train" or run.returncode != 0:
                    command = again if resumable else first
                    end = subprocess.run([*command, "--out", out], check=False, capture_output=True)
                    if end.returncode:
                        failures[f"{name}: {end.stderr.decode()[-200:]}"] += 1
                        continue
                left = contents(out)
                for file, text in MINE.items():
                    lost = file not in left or (out / file).read_text() != text
                    failures[f"{name}: lost {file}"] += lost
                    left.pop(file, None)
                litter = [file for file in left if file not in expected]
                failures[f"{name}: litter {litter[:2]}"] += bool(litter)
                other = [f for f in expected if comparable(f) and left.get(f) != expected[f]]
                failures[f"{name}: other {other[:3]}"] += bool(other)
                shutil.rmtree(out)
            out_console.print(f"{name}: {dict(moments)}, {seconds:.1f} s undisturbed")
    bad = {what: count for what, count in failures.items() if count}
    out_console.print(f"failures: {bad or 'none'}", markup=False, soft_wrap=True)
    raise typer.Exit(bool(bad))


if __name__ == "__main__":
    typer.run(main)
