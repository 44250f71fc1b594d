"""`facerecon fit` and `facerecon reconstruct`: photos in, one folder of results per photo out.

Notebook 10.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typer import Argument, Exit, Option

from ..files.atomic import claim_folder
from ..files.errors import one_line, readable_name
from ..reconstruction import PHOTO_LIGHTS
from ..reconstruction.output_folder import OutputError, check_replaceable
from .console import (
    NETWORKS,
    check_choice,
    check_device,
    error_console,
    fail,
    network_named,
    one_thread,
    refusals,
    say,
)


def _file(what: str, variable: str):
    return Annotated[Path | None, Option(help=f"{what}; else ${variable} or the shipped one.")]


Photos = Annotated[list[Path], Argument(metavar="PHOTO...", help="Photos of faces.")]
Out = Annotated[Path, Option(help="Folder for the results, one folder per photo.")]
Model = _file("A face model", "FACERECON_MODEL")
Checkpoint = _file("An encoder", "FACERECON_ENCODER")
UNet = _file("Its U-Net", "FACERECON_UNET")
FaceNumber = Annotated[int | None, Option(help="Which face: 1 the largest, 2 the next ...")]
Device = Annotated[str, Option(help="cpu, cuda, or cuda:N.")]
Recognition = Annotated[
    str, Option(help="Network of Eq. 6: none, dlib, or facenet (fetches 112 MB once).")
]
Start = Annotated[str, Option(help="Where to start: landmarks, or encoder.")]
Augmented = Annotated[
    bool, Option("--augmented", help="Add the augmented branch's skin and shape details.")
]
Illumination = Annotated[
    str | None,
    Option(
        help="photo: the encoder's, fitted to the photo's colours; encoder: as it is; grey or "
        "free: light and skin both from the photo. Default: photo, or what --augmented needs."
    ),
]


def fit(
    photos: Photos,
    out: Out,
    model: Model = None,
    face: FaceNumber = None,
    recognition: Recognition = "none",
    init: Start = "landmarks",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
) -> None:
    """Fit the face model to the face in each PHOTO by analysis by synthesis."""
    started = time.perf_counter()
    with refusals():
        check_choice("init", init, ("landmarks", "encoder"))
        if checkpoint is not None and init != "encoder":
            raise OutputError("--checkpoint is of the encoder: add --init encoder")
        _check_face(face)
        check_choice("recognition", recognition, NETWORKS)
        check_device(device)
        network = network_named(recognition, device)
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import load_encoder
        from ..reconstruction.reconstruct import fit_face

        one_thread()
        fine = MorphableModel.load(model).to(device)
        coarse = MorphableModel.load(model, subdivision=0).to(device)
        encoder = load_encoder(checkpoint, fine, device) if init == "encoder" else None
        claim_folder(out)

    def fit_one(photo, progress: Callable):
        return fit_face(photo, fine, coarse, face, None, network, progress, encoder)

    _each_photo(photos, out, started, fit_one)


def reconstruct(
    photos: Photos,
    out: Out,
    model: Model = None,
    checkpoint: Checkpoint = None,
    face: FaceNumber = None,
    illumination: Illumination = None,
    augmented: Augmented = False,
    unet: UNet = None,
    device: Device = "cpu",
) -> None:
    """Reconstruct the face in each PHOTO with the encoder, feed-forward."""
    started = time.perf_counter()
    with refusals():
        check_choice("illumination", illumination, PHOTO_LIGHTS)
        if unet is not None and not augmented:
            raise OutputError("--unet is of the augmented branch: add --augmented")
        _check_face(face)
        check_device(device)
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import load_encoder
        from ..networks.unet import load_unet
        from ..reconstruction.reconstruct import encode_face

        one_thread()
        face_model = MorphableModel.load(model).to(device)
        encoder = load_encoder(checkpoint, face_model, device)
        offset_unet = load_unet(unet, face_model, device) if augmented else None
        claim_folder(out)

    def encode_one(photo, progress: Callable):
        return encode_face(photo, face_model, encoder, face, illumination, offset_unet)

    _each_photo(photos, out, started, encode_one)


def _check_face(face: int | None) -> None:
    if face is not None and face < 1:
        raise OutputError(f"--face {face}: faces count from 1, the largest")


def _each_photo(photos: list[Path], out: Path, started: float, work: Callable) -> None:
    """Each photo into a folder of its name, numbered from the second of that name on.

    started: when the work on the first photo began. work: photo and `progress` to FittedPhoto.
    Exits with 2 after the last one if any failed.
    """
    names, failed = [], False
    for path in photos:
        stem = path.stem.strip(". ") or "photo"
        numbered = (f"{stem}-{i}" for i in range(2, len(photos) + 2))
        names.append(stem if stem not in names else next(n for n in numbered if n not in names))
        failed |= not _one_photo(path, out / names[-1], started, work)
        started = time.perf_counter()
    if failed:
        raise Exit(2)


def _one_photo(path: Path, folder: Path, started: float, work: Callable) -> bool:
    """A progress bar, then a report in its place; an error becomes a line, and False."""
    from ..photos.reading import load_image
    from ..reconstruction.result_files import write_photo

    name = readable_name(path)
    stage = TextColumn("{task.description:<28}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (stage, BarColumn(), note, TimeElapsedColumn())
    quiet = not error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=quiet) as bars:
        task = bars.add_task(f"{name}: finding the face", total=None, note="")

        def progress(stage: str, step: int, steps: int, loss: float) -> None:
            text = dict(description=f"{name}: {stage}", note=f"loss {loss:.2f}")
            bars.update(task, completed=step, total=steps, **text)

        try:
            check_replaceable(folder)
            done = work(load_image(path, name), progress)
            result = write_photo(done, folder, started)
            bars.stop()
            _report(folder, result)
        except Exception as error:  # whatever one photo does, the others are still done
            bars.stop()
            text = one_line(error)
            fail(text if name in text else f"{name}: {text}")
            return False
    return True


def _report(folder: Path, result: dict) -> None:
    name, count, losses = result["photo"], result["faces_found"], result["losses"]
    if count > 1:
        which = "the largest" if result["face"] == 1 else f"number {result['face']} by size"
        say(f"{name}: {count} faces; took {which} (--face N picks another)")
    colours = losses["photometric_error"]
    colours = "not seen" if colours is None else f"{colours:.3f} off"
    say(
        f"{name}: landmarks {losses['landmark_error']:.1%} of the outer eye distance off, "
        f"colours {colours}, {result['seconds']['total']:.1f} s"
        f" -> {one_line(folder / 'figure.png')}"
    )
    if not result["converged"]:
        what = "NOT CONVERGED" if result["method"] == "fit" else "NOT TO BE TRUSTED"
        reasons = "; ".join(result["not_converged_because"])
        say(f"{name}: {what}: {reasons}. Do not rely on this mesh.", "bold yellow")
