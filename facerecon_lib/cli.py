"""The command `facerecon`.

facerecon fit me.jpg --out outputs        # mesh, overlay, figure and result.json
facerecon doctor                          # what is here, what is missing, what to do
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D face reconstruction from a single photo.",
)
model_app = typer.Typer(no_args_is_help=True, help="Facts and figures of a face model.")
app.add_typer(model_app, name="model")
out_console, error_console = Console(highlight=False), Console(stderr=True, highlight=False)


def main() -> None:
    """The entry point: typer's own usage errors exit with 2, as ours do."""
    app()


def _fail(message: object) -> None:
    error_console.print(f"facerecon: {_one_line(message)}", markup=False, soft_wrap=True)


def _one_line(message: object) -> str:
    """For people: bytes of file names that are no UTF-8 replaced, on one line."""
    text = str(message).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(text.split())


@app.command()
def fit(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos to fit.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, one folder a photo.")],
    model: Annotated[
        Path | None, typer.Option(help="A face model (.safetensors); default: the one that ships.")
    ] = None,
    face: Annotated[
        int | None, typer.Option(help="Which face: 1 the largest, 2 the next ...")
    ] = None,
    recognition: Annotated[
        str,
        typer.Option(help="Network of Eq. 6: none, dlib, or facenet (fetches 112 MB once)."),
    ] = "none",
    device: Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")] = "cpu",
) -> None:
    """Fit the face model to the face in each PHOTO by analysis by synthesis."""
    started = time.perf_counter()
    import torch

    from .morphable_model import ModelError, MorphableModel
    from .recognition import RecognitionError
    from .results import OutputError, claim_folder, fit_photo, readable_name

    # The tensors are small: a second thread gains a fifth on an idle machine, and on a busy one
    # the two wait for each other several times as long as one alone takes.
    torch.set_num_threads(1)
    try:
        if face is not None and face < 1:
            raise OutputError(f"--face {face}: faces count from 1, the largest")
        _check_device(device)
        network = _network(recognition, device)
        fine = MorphableModel.load(model, subdivision=1).to(device)
        coarse = MorphableModel.load(model, subdivision=0).to(device)
        claim_folder(out)
    except (ModelError, OutputError, RecognitionError) as error:
        _fail(error)
        raise typer.Exit(2) from None
    failed = False
    taken: set[str] = set()
    for photo in photos:
        shown = readable_name(photo)
        stem = photo.stem.strip(". ") or "photo"
        name = (
            stem
            if stem not in taken
            else next(
                f"{stem}-{i}" for i in range(2, len(photos) + 2) if f"{stem}-{i}" not in taken
            )
        )
        taken.add(name)
        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        quiet = not sys.stderr.isatty()
        with Progress(*columns, console=error_console, transient=True, disable=quiet) as bars:
            task = bars.add_task(f"{shown}: finding the face", total=None, note="")

            def progress(stage, step, steps, loss, bars=bars, task=task, shown=shown):
                what = dict(description=f"{shown}: {stage}", note=f"loss {loss:.2f}")
                bars.update(task, completed=step, total=steps, **what)

            try:
                result = fit_photo(
                    photo,
                    out / name,
                    fine,
                    coarse,
                    face,
                    recognition=network,
                    progress=progress,
                    started=started,
                )
            except Exception as error:  # whatever one photo does, the others are still done
                failed = True
                text = _one_line(error) or type(error).__name__
                bars.stop()
                _fail(text if shown in text else f"{shown}: {text}")
                continue
        started = time.perf_counter()
        _report(out / name, result)
    if failed:
        raise typer.Exit(2)


def _report(folder: Path, result: dict) -> None:
    name = result["photo"]
    found = result["faces_found"]
    if found > 1:
        which = "the largest" if result["face"] == 1 else f"number {result['face']} by size"
        out_console.print(
            f"{name}: {found} faces; took {which} (--face N picks another)", markup=False
        )
    error = result["losses"]["landmark_error"]
    colours = result["losses"]["photometric_error"]
    colours = "not seen" if colours is None else f"{colours:.3f} off"
    out_console.print(
        f"{name}: landmarks {error:.1%} of the outer eye distance off, "
        f"colours {colours}, {result['seconds']['total']:.1f} s"
        f" -> {_one_line(folder / 'figure.png')}",
        markup=False,
        soft_wrap=True,
    )
    if not result["converged"]:
        reasons = "; ".join(result["not_converged_because"])
        out_console.print(
            f"{name}: NOT CONVERGED: {reasons}. Do not rely on this mesh.",
            markup=False,
            style="bold yellow",
            soft_wrap=True,
        )


def _check_device(device: str) -> None:
    import torch

    from .results import OutputError

    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise OutputError(f"--device {device}: expected cpu, cuda or cuda:N")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = _one_line(error).split(". ")[0]
        raise OutputError(f"--device {device}: cannot be used here ({reason})") from error


def _network(name: str, device: str):
    """The face-recognition network of that name, fetched if need be; None for "none"."""
    from .recognition import CHIPS, facenet_file, load_network
    from .results import OutputError

    if name == "none":
        return None
    if name not in CHIPS:
        raise OutputError(f"--recognition {name}: expected none, {' or '.join(CHIPS)}")
    if name == "facenet" and not facenet_file().is_file():
        error_console.print("facerecon: fetching facenet's weights, 112 MB")
    return load_network(name, device=device, allow_download=True)


@app.command()
def doctor() -> None:
    """Print what is here, what is missing, and what to do about it."""
    from .doctor import report

    good = report(out_console)
    raise typer.Exit(0 if good else 1)


@model_app.command("info")
def model_info(
    path: Annotated[Path | None, typer.Argument(help="Default: the model that ships.")] = None,
) -> None:
    """Print a face model's facts."""
    from .morphable_model import ModelError, MorphableModel

    try:
        loaded = [MorphableModel.load(path, subdivision=s) for s in (0, 1)]
    except ModelError as error:
        _fail(error)
        raise typer.Exit(2) from None
    native, fine = loaded
    low, high = native.mean.amin(0), native.mean.amax(0)
    facts = {
        "name": native.metadata.get("name"),
        "file": native.metadata["file"],
        "licence": native.metadata.get("licence"),
        "provenance": native.metadata.get("provenance"),
        "units": native.metadata.get("units"),
        "modes": "{} identity, {} expression, {} albedo".format(*native.sizes),
        "vertices, triangles": f"{len(native.mean)}, {len(native.faces)} as stored; "
        f"{len(fine.mean)}, {len(fine.faces)} subdivided once",
        "extent": "{:.0f} x {:.0f} x {:.0f} mm".format(*(high - low).tolist()),
        "regions": ", ".join(native.regions),
        "controls": ", ".join(native.controls),
    }
    for name, value in facts.items():
        out_console.print(f"{name + ':':<20} {value}", markup=False)


@model_app.command("show")
def model_show(
    path: Annotated[Path | None, typer.Argument(help="Default: the model that ships.")] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("face_model.png"),
) -> None:
    """Draw a face model: its mean, random faces, expressions."""
    from .morphable_model import ModelError, MorphableModel
    from .plotting import model_figure, save_figure
    from .results import OutputError

    try:
        if out.suffix.lower() != ".png":
            raise OutputError(f"--out {out}: expected a name that ends in .png")
        save_figure(model_figure(MorphableModel.load(path)), out)
    except (ModelError, OutputError) as error:
        _fail(error)
        raise typer.Exit(2) from None
    except OSError as error:
        _fail(f"--out {out}: cannot be written ({error.strerror or error})")
        raise typer.Exit(2) from None
    out_console.print(f"{out}", markup=False)


if __name__ == "__main__":
    main()
