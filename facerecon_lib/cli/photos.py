"""`facerecon fit` and `facerecon reconstruct`: photos in, one folder of results a photo out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..files.errors import one_line
from .console import (
    check_device,
    error_console,
    fail,
    network_named,
    one_thread,
    out_console,
    refusals,
)

Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos of faces.")]
Out = Annotated[Path, typer.Option(help="Folder for the results, one folder a photo.")]
Model = Annotated[
    Path | None,
    typer.Option(
        help="A face model (.safetensors); default: $FACERECON_MODEL, or the shipped one."
    ),
]
FaceNumber = Annotated[int | None, typer.Option(help="Which face: 1 the largest, 2 the next ...")]
Recognition = Annotated[
    str, typer.Option(help="Network of Eq. 6: none, dlib, or facenet (fetches 112 MB once).")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="An encoder (.safetensors); default: $FACERECON_ENCODER, or the shipped one."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")]


def fit(
    photos: Photos,
    out: Out,
    model: Model = None,
    face: FaceNumber = None,
    recognition: Recognition = "none",
    init: Annotated[str, typer.Option(help="Where to start: landmarks, or encoder.")] = "landmarks",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
) -> None:
    """Fit the face model to the face in each PHOTO by analysis by synthesis."""
    started = time.perf_counter()
    from ..face.morphable_model import MorphableModel
    from ..reconstruction.output_folder import OutputError, claim_folder
    from ..reconstruction.reconstruct import fit_face

    with refusals():
        if init not in ("landmarks", "encoder"):
            raise OutputError(f"--init {init}: expected landmarks or encoder")
        if checkpoint is not None and init != "encoder":
            raise OutputError("--checkpoint is of the encoder: add --init encoder")
        _check_face(face)
        check_device(device)
        one_thread()
        network = network_named(recognition, device)
        fine = MorphableModel.load(model).to(device)
        coarse = MorphableModel.load(model, subdivision=0).to(device)
        encoder = _encoder(checkpoint, fine, device) if init == "encoder" else None
        claim_folder(out)

    def reconstruct(photo, progress):
        return fit_face(photo, fine, coarse, face, None, network, progress, encoder)

    _each_photo(photos, out, reconstruct, started)


def reconstruct(
    photos: Photos,
    out: Out,
    model: Model = None,
    checkpoint: Checkpoint = None,
    face: FaceNumber = None,
    illumination: Annotated[
        str | None,
        typer.Option(
            help="photo: the encoder's, fitted to the photo's colours; encoder: as it is; grey or "
            "free: light and skin both from the photo. Default: photo, or what --augmented needs."
        ),
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Add the augmented branch's skin and shape details.")
    ] = False,
    unet: Annotated[
        Path | None,
        typer.Option(
            help="Its U-Net (.safetensors); default: $FACERECON_UNET, or the shipped one."
        ),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Reconstruct the face in each PHOTO with the encoder, feed-forward."""
    started = time.perf_counter()
    from ..face.morphable_model import MorphableModel
    from ..reconstruction.output_folder import OutputError, claim_folder
    from ..reconstruction.reconstruct import PHOTO_LIGHTS, encode_face

    with refusals():
        if illumination not in (None, *PHOTO_LIGHTS):
            raise OutputError(
                f"--illumination {illumination}: expected one of {', '.join(PHOTO_LIGHTS)}"
            )
        if unet is not None and not augmented:
            raise OutputError("--unet is of the augmented branch: add --augmented")
        _check_face(face)
        check_device(device)
        one_thread()
        loaded = MorphableModel.load(model).to(device)
        encoder = _encoder(checkpoint, loaded, device)
        network = _unet(unet, loaded, device) if augmented else None
        claim_folder(out)

    def encode(photo, progress):
        return encode_face(photo, loaded, encoder, face, illumination, network)

    _each_photo(photos, out, encode, started)


def _check_face(face: int | None) -> None:
    from ..reconstruction.output_folder import OutputError

    if face is not None and face < 1:
        raise OutputError(f"--face {face}: faces count from 1, the largest")


def _encoder(checkpoint: Path | None, model, device: str):
    from ..networks.encoder import load_encoder

    return load_encoder(checkpoint, model, device)


def _unet(checkpoint: Path | None, model, device: str):
    from ..networks.unet import load_unet

    return load_unet(checkpoint, model, device)


def _each_photo(photos: list[Path], out: Path, reconstruct: Callable, started: float) -> None:
    """`reconstruct(photo, progress)` for each; exit 2 at the end if any could not be done."""
    from ..files.errors import readable_name
    from ..reconstruction.result_files import write_photo

    failed = False
    for photo, name in zip(photos, _folder_names(photos), strict=True):
        shown = readable_name(photo)
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

            def one(pixels, progress=progress):
                return reconstruct(pixels, progress)

            try:
                result = write_photo(photo, out / name, one, started)
            except Exception as error:  # whatever one photo does, the others are still done
                failed = True
                text = one_line(error)
                bars.stop()
                fail(text if shown in text else f"{shown}: {text}")
                continue
        started = time.perf_counter()
        _report(out / name, result)
    if failed:
        raise typer.Exit(2)


def _folder_names(photos: list[Path]) -> list[str]:
    """One folder a photo: its stem, numbered from the second of that stem on."""
    names: list[str] = []
    for photo in photos:
        stem = photo.stem.strip(". ") or "photo"
        numbered = (f"{stem}-{i}" for i in range(2, len(photos) + 2))
        names.append(stem if stem not in names else next(n for n in numbered if n not in names))
    return names


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
        f" -> {one_line(folder / 'figure.png')}",
        markup=False,
        soft_wrap=True,
    )
    if not result["converged"]:
        what = "NOT CONVERGED" if result["method"] == "fit" else "NOT TO BE TRUSTED"
        reasons = "; ".join(result["not_converged_because"])
        out_console.print(
            f"{name}: {what}: {reasons}. Do not rely on this mesh.",
            markup=False,
            style="bold yellow",
            soft_wrap=True,
        )
