"""A thousand damaged photos in one run of `facerecon reconstruct`: no traceback, flat memory.

    python tests/benchmarks/soak.py --photos 1000

Bits are flipped, ends are cut, headers swapped, middles lost, modes and sizes odd; in JPEG, PNG,
WebP, TIFF, BMP and GIF. Prints what became of them, each kind of message once, and the memory.
"""

import io
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.progress import track

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.photos.detection import sample_photo

MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr")
FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}


def damaged(whole: dict[str, bytes], chance: random.Random) -> tuple[str, str, bytes]:
    """(what was done, suffix, bytes) of one file."""
    name = chance.choice(sorted(whole))
    data = bytearray(whole[name])
    way = chance.choice(("bits", "cut", "header", "hole", "doubled", "whole"))
    if way == "bits":
        for _ in range(chance.choice((1, 10, 100, 1000))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif way == "cut":
        del data[chance.randrange(len(data)) :]
    elif way == "header":
        other = whole[chance.choice(sorted(whole))]
        length = chance.choice((4, 16, 64, 512))
        data[:length] = other[:length]
    elif way == "hole":
        start = chance.randrange(len(data))
        del data[start : start + chance.randrange(1, 5000)]
    elif way == "doubled":
        data = data + bytes(data)
    suffix = chance.choice((name.partition(" ")[0], "jpg", "png"))
    return way, suffix, bytes(data)


def files_of(image: Image.Image) -> dict[str, bytes]:
    """The picture in every format and mode that goes together."""
    whole = {}
    for kind, suffix in FORMATS.items():
        for mode in MODES:
            file = io.BytesIO()
            try:
                image.convert("L" if mode == "I;16" else mode).convert(mode).save(file, kind)
            except (OSError, ValueError):
                continue
            whole[f"{suffix} {mode}"] = file.getvalue()
    return whole


def main(
    photos: Annotated[int, typer.Option(help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the damage.")] = 0,
) -> None:
    """Reconstruct damaged photos, in one process."""
    chance = random.Random(seed)
    face = Image.fromarray(sample_photo().pixels).crop((96, 0, 352, 256))
    with tempfile.TemporaryDirectory() as folder:
        whole, ways, paths = files_of(face), Counter(), []
        for number in range(photos):
            way, suffix, data = damaged(whole, chance)
            ways[way] += 1
            paths.append(Path(folder, f"{number:04d}.{suffix}"))
            paths[-1].write_bytes(data)
        command = [sys.executable, "-m", "facerecon_lib.cli", "reconstruct", *paths]
        command += ["--json", "--out", Path(folder, "out")]
        with open(Path(folder, "errors"), "w+") as errors:
            run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            memory, messages, done = [], Counter(), Counter()
            for line in track(run.stdout, "photos", photos, console=error_console):
                answer = json.loads(line)
                status = Path(f"/proc/{run.pid}/statm")
                memory.append(int(status.read_text().split()[1]) * 4096 if status.exists() else 0)
                kind = "error" if "error" in answer else "relied on"
                done[kind if kind == "error" or answer["converged"] else "told"] += 1
                text = re.sub(r"\S*\d{4}\.\w+:? ?", "", answer.get("error", ""))
                messages[re.sub(r"\d+", "N", text)] += 1
            code = run.wait()
            errors.seek(0)
            text = errors.read()
    for message, count in messages.most_common():
        out_console.print(f"{count:5d}  {message or 'a face'}", markup=False, soft_wrap=True)
    out_console.print(f"{dict(ways)}: {dict(done)}; exit {code}")
    out_console.print(
        f"tracebacks: {text.count('Traceback')}; photos answered: {sum(done.values())}"
    )
    steps = [memory[int(share * (len(memory) - 1))] / 1e6 for share in (0.1, 0.5, 1.0)]
    out_console.print("memory at 10 %, 50 %, 100 %: {:.0f}, {:.0f}, {:.0f} MB".format(*steps))


if __name__ == "__main__":
    typer.run(main)
