"""Collects what the augmented branch does for skins of every tone, for notebook 09.

    for albedo in monk light; do for light in free grey known; do
        run=runs/$albedo-$light
        facerecon train augmented --profile shipped --losses balanced --albedo $albedo \
            --illumination $light --width 8 --batch 32 --steps 600 --learning-rate 2e-3 \
            --set warmup=40 --set ema=0.99 --set norm=inner --out $run
        facerecon evaluate --augmented --unet $run/offset_unet.safetensors --wrinkles \
            --rendered 240 --scans 0 --illumination $light --json $run/eval.json
        [ $light = known ] || facerecon evaluate --augmented --unet $run/offset_unet.safetensors \
            --photos PHOTOS --ratings RATINGS --illumination $light --json $run/photos.json
    done; done
    python data_scripts/skin_tone_study.py runs --out facerecon_lib/assets/skin_tone_study.json

Takes the folders <albedo>-<light> that exist: from eval.json the numbers of each face (MEASURES,
OFFSETS), from photos.json, where there is one, those of each rated photo, from
offset_unet.safetensors the U-Net's training. All are of the same faces, by U-Nets that differ in
albedo and light alone.

Notebook 09: `course/nb09_comparison/tone_study.py` reads the file.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from safetensors import SafetensorError, safe_open

from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.errors import FacereconError, one_line
from facerecon_lib.files.streams import forgive_streams

DIGITS = 4  # significant
TRAINED = ("width", "depth", "norm", "batch", "steps", "learning_rate", "schedule", "weights")
TRAINED += ("reduction", "wrinkles", "seed", "subdivision", "symmetry", "smooth_on", "space")


class StudyError(FacereconError):
    """Runs that make no study. One line: what is wrong and what to do."""


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of the folders <albedo>-<light>.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Put the evaluations of up to six U-Nets into one file."""
    try:
        content = study(runs)
        if not out.parent.is_dir():
            raise StudyError(f"--out {out}: there is no folder {out.parent}")
    except StudyError as error:
        typer.echo(f"skin_tone_study: {error}", err=True)
        raise typer.Exit(2) from None
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    text = text.replace('},"', '},\n"').replace('],"', '],\n"') + "\n"
    with write_whole(out) as partial:
        partial.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: {', '.join(content['runs'])}; {out.stat().st_size / 1e3:.0f} kB")


def study(runs: Path) -> dict:
    """The file's content. Raises StudyError."""
    from facerecon_lib.course.nb09_comparison.tone_study import FORMAT, RUNS

    folders = {n: runs / n for n in RUNS if (runs / n / "eval.json").is_file()}
    if not folders:
        raise StudyError(f"{runs}: holds none of {', '.join(RUNS)} with an eval.json in it")
    content: dict = {"format": FORMAT, "runs": {}}
    for name, folder in folders.items():
        trained, facts = _trained(folder / "offset_unet.safetensors", name)
        shared, run = _evaluated(folder / "eval.json", name)
        for key, value in {"trained": trained, **shared}.items():
            if content.setdefault(key, value) != value:
                others = f"its {key} differ from those of {next(iter(folders))}"
                same = "a comparison takes one and the same for all"
                raise StudyError(f"{folder}: {others}; {same}")
        content["runs"][name] = facts | run
        if (path := folder / "photos.json").is_file():
            photos = content.setdefault("photos", {"runs": {}})
            ratings, photos["runs"][name] = _photos(path)
            if photos.setdefault("ratings", ratings) != ratings:
                raise StudyError(f"{path}: is of other photos or ratings than those before")
    return content


def _photos(path: Path) -> tuple[list[float], dict]:
    """People's ratings of the photos' skins, in order, and a run's numbers of them."""
    from facerecon_lib.course.nb09_comparison.tone_study import METHODS

    try:
        report = json.loads(path.read_text(encoding="utf-8"))["photos"]
        rated = [i for i, name in enumerate(report["faces"]) if name in report["ratings"]]
        ratings = [report["ratings"][report["faces"][i]] for i in rated]
        run = {
            ours: {
                "lightness": _numbers(report["skin"][theirs]["lightness"][i] for i in rated),
                "photometric": _numbers(report["values"][theirs]["photometric"][i] for i in rated),
            }
            for ours, theirs in METHODS.items()
        }
    except (OSError, KeyError, TypeError, ValueError, IndexError) as problem:
        reason = f"{type(problem).__name__}: {one_line(problem)[:120]}"
        other = "not what facerecon evaluate --augmented --photos --ratings writes"
        raise StudyError(f"{path}: {other} ({reason})") from None
    return ratings, run


def _trained(path: Path, name: str) -> tuple[dict, dict]:
    """What all U-Nets have to share, and the facts of this one."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        settings = json.loads(metadata["settings"])
        shared = {key: settings[key] for key in TRAINED}
        albedo, light, steps = (metadata[key] for key in ("albedo", "light", "steps"))
    except (OSError, SafetensorError, KeyError, ValueError) as problem:
        reason = f"no U-Net that says how it was trained ({one_line(problem)[:120]})"
        todo = "take the one that facerecon train augmented wrote"
        raise StudyError(f"{path}: {reason}; {todo}") from None
    if (trained := f"{albedo}-{light}") != name:
        raise StudyError(f"{path}: was trained as {trained}, in a folder {name}; rename one")
    validation = json.loads(metadata.get("validation", "{}"))
    validation.pop("terms", None)
    return shared, {"steps_done": int(steps), "validation": validation}


def _evaluated(path: Path, name: str) -> tuple[dict, dict]:
    """What all evaluations have to share, and this one's numbers."""
    from facerecon_lib.course.nb09_comparison.tone_study import AREAS, MEASURES, METHODS, OFFSETS

    try:
        report = json.loads(path.read_text(encoding="utf-8"))["rendered"]
        shared = {
            "faces": f"{report['what']}, with details",
            "encoder": report["encoder"],
            "tones": [int(tone) for tone in report["tones"]],
            "area_shares": {area: _short(report["area_shares"][area]) for area in AREAS},
        }
        light, values, offsets = report["light"], report["values"], report["offsets"]
        methods = METHODS.items()
        run = {ours: {m: _numbers(values[theirs][m]) for m in MEASURES} for ours, theirs in methods}
        run["offsets"] = {key: _numbers(offsets[key]) for key in OFFSETS}
    except (OSError, KeyError, TypeError, ValueError) as problem:
        reason = f"{type(problem).__name__}: {one_line(problem)[:120]}"
        other = "not what facerecon evaluate --augmented --rendered writes"
        raise StudyError(f"{path}: {other} ({reason})") from None
    if light != name.partition("-")[2]:
        raise StudyError(f"{path}: was evaluated under light {light!r}; give --illumination")
    faces = len(shared["tones"])
    rows = {f"{where} {m}": row for where, table in run.items() for m, row in table.items()}
    for name, row in rows.items():
        if len(row) != faces:
            numbers = f"{name} has {len(row)} numbers for {faces} faces"
            raise StudyError(f"{path}: {numbers}; evaluate again")
    return shared, run


def _numbers(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else _short(value) for value in values]


def _short(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return float(f"{value:.{DIGITS}g}")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
