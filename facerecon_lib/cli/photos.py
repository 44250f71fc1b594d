"""`facerecon fit` and `facerecon reconstruct`: photos in, one folder of results per photo out.

Notebook 10.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typer import Argument, Exit, Option

from ..files.atomic import claim_folder
from ..files.errors import one_line, readable_name
from ..reconstruction import PHOTO_LIGHTS, TEXTURES
from ..reconstruction.output_folder import OutputError, clean_up, folder_for
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
    stoppable,
)

if TYPE_CHECKING:
    from ..photos.reading import Photo


def _file(what: str, variable: str):
    return Annotated[Path | None, Option(help=f"{what}; else ${variable} or the shipped one.")]


Photos = Annotated[list[Path], Argument(metavar="PHOTO...", help="Photos of faces.")]
Out = Annotated[Path, Option(help="Folder for the results, one folder per photo.")]
Model = _file("A face model", "FACERECON_MODEL")
Checkpoint = _file("An encoder", "FACERECON_ENCODER")
UNet = _file("Its U-Net", "FACERECON_UNET")
FaceNumber = Annotated[int | None, Option(help="Which face: 1 the largest, 2 the next ...")]
Device = Annotated[str, Option(help="cpu, cuda, or cuda:N.")]
Quiet = Annotated[bool, Option("--quiet", help="Print nothing but what failed.")]
Figure = Annotated[
    bool, Option("--figure/--no-figure", help="Draw figure.png; without it, results come sooner.")
]
Texture = Annotated[
    str,
    Option(
        help="Skin of mesh.glb. photo: the photo's pixels, evened by the fitted light, to be lit "
        "anew; lit: the photo's pixels as they are; albedo: the fitted model's colours alone."
    ),
]
Json = Annotated[bool, Option("--json", help="Print one line of JSON per photo, for programs.")]
Recognition = Annotated[
    str, Option(help="Network of Eq. 6: none, dlib, or facenet (fetches 112 MB once).")
]
Method = Annotated[
    str,
    Option(
        help="dense: the encoder's face, pose and expression moved to 478 points (where no encoder "
        "knows the model, the mean face, its shape too); adam: gradient descent on the photo, "
        "slower and less exact. Default: dense, if the model is bound to the points."
    ),
]
Start = Annotated[str, Option(help="Where adam starts: landmarks, or encoder.")]
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
    method: Method = "",
    recognition: Recognition = "none",
    init: Start = "landmarks",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
    figure: Figure = True,
    texture: Texture = "photo",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit the face model to the face in each PHOTO."""
    work = PhotoWork(photos, out, quiet, as_json)
    with refusals():
        check_choice("method", method or "dense", ("dense", "adam"))
        check_choice("init", init, ("landmarks", "encoder"))
        for option, value in (
            ("init", init != "landmarks"),
            ("recognition", recognition != "none"),
        ):
            if value and method != "adam":
                raise OutputError(f"--{option} is for gradient descent: add --method adam")
        if checkpoint is not None and method == "adam" and init != "encoder":
            raise OutputError("--checkpoint is of the encoder: add --init encoder")
        _check_face(face)
        check_choice("texture", texture, TEXTURES)
        check_choice("recognition", recognition, NETWORKS)
        check_device(device)
        network = network_named(recognition, device)
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import ENCODER_FILE, load_encoder
        from ..photos.reading import load_image
        from ..reconstruction.reconstruct import encode_face, fit_face
        from ..reconstruction.result_files import write_photo

        one_thread()
        fine = MorphableModel.load(model).to(device)
        adam = (method or ("adam" if fine.dense is None else "dense")) == "adam"
        coarse = MorphableModel.load(model, subdivision=0).to(device) if adam else None
        encoded = init == "encoder" if adam else bool(checkpoint) or ENCODER_FILE.fits(fine)
        encoder = load_encoder(checkpoint, fine, device) if encoded else None
        claim_folder(out)
        clean_up(out)
    for path in work.each():
        with work.on(path) as progress:
            photo = load_image(path, readable_name(path))
            folder = work.folder(photo, "fit" if adam else "dense", face or 1)
            if adam:
                done = fit_face(photo, fine, coarse, face, None, network, progress, encoder)
            else:
                done = encode_face(photo, fine, encoder, face, dense=True)
            work.report(folder, write_photo(done, folder, work.started, photos, figure, texture))


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
    figure: Figure = True,
    texture: Texture = "photo",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Reconstruct the face in each PHOTO with the encoder, feed-forward."""
    work = PhotoWork(photos, out, quiet, as_json)
    with refusals():
        check_choice("illumination", illumination, PHOTO_LIGHTS)
        if unet is not None and not augmented:
            raise OutputError("--unet is of the augmented branch: add --augmented")
        _check_face(face)
        check_choice("texture", texture, TEXTURES)
        check_device(device)
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import load_encoder
        from ..networks.unet import load_unet
        from ..photos.reading import load_image
        from ..reconstruction.reconstruct import encode_face
        from ..reconstruction.result_files import write_photo

        one_thread()
        face_model = MorphableModel.load(model).to(device)
        encoder = load_encoder(checkpoint, face_model, device)
        offset_unet = load_unet(unet, face_model, device) if augmented else None
        claim_folder(out)
        clean_up(out)
    for path in work.each():
        with work.on(path):
            photo = load_image(path, readable_name(path))
            folder = work.folder(photo, "encoder", face or 1)
            done = encode_face(photo, face_model, encoder, face, illumination, offset_unet)
            work.report(folder, write_photo(done, folder, work.started, photos, figure, texture))


def _check_face(face: int | None) -> None:
    if face is not None and face < 1:
        raise OutputError(f"--face {face}: faces count from 1, the largest")


JSON_KEYS = ("converged", "not_converged_because", "method", "face", "faces_found", "losses")
"""What a line of --json holds of result.json."""


class PhotoWork:
    """One photo after the other: a progress bar, a report, and a line for one that fails.

    started: when the work on the present photo began.
    """

    def __init__(self, photos: list[Path], out: Path, quiet: bool, as_json: bool):
        self.photos, self.out, self.quiet, self.as_json = photos, out, quiet, as_json
        self.started, self.failed, self.doubtful = time.perf_counter(), 0, 0
        self.folders: list[Path] = []

    def each(self) -> Iterator[Path]:
        """The photos; says at the end how many faces are not to be relied on, and exits with 2 if
        a photo failed. A request to stop unwinds as Ctrl-C does."""
        with stoppable():
            yield from self.photos
        if self.doubtful and len(self.photos) > 1:
            done = len(self.photos) - self.failed
            self.say(f"{self.doubtful} of {done} faces are not to be relied on", "bold yellow")
        if self.failed:
            raise Exit(2)

    def say(self, text: str, style: str | None = None) -> None:
        """One line for people."""
        if not self.quiet and not self.as_json:
            say(text, style)

    def folder(self, photo: "Photo", method: str, face: int) -> Path:
        """Where a photo's result goes: a folder of its name, numbered where that holds another."""
        named = self.out / (photo.path.stem.strip(". ") or "photo")
        identity = dict(photo_sha256=photo.sha256, method=method, face=face)
        folder = folder_for(named, identity, self.photos, self.folders)
        if photo.note:
            self.say(f"{photo.name}: {photo.note}")
        if folder != named and named not in self.folders:
            name = one_line(named)
            self.say(
                f"{photo.name}: {name} holds another result; this one goes to {one_line(folder)}"
            )
        self.folders.append(folder)
        return folder

    @contextmanager
    def on(self, path: Path) -> Iterator[Callable[[str, int, int, float], None]]:
        """The work on a photo; gives the `progress` of fitting. An error becomes a line."""
        name = readable_name(path)
        stage = TextColumn("{task.description:<28}", markup=False)
        note = TextColumn("{task.fields[note]}", markup=False)
        columns = (stage, BarColumn(), note, TimeElapsedColumn())
        silent = self.quiet or self.as_json or not error_console.is_terminal
        bars = Progress(*columns, console=error_console, transient=True, disable=silent)
        with bars as self._bars:
            task = bars.add_task(f"{name}: finding the face", total=None, note="")

            def progress(stage: str, step: int, steps: int, loss: float) -> None:
                text = dict(description=f"{name}: {stage}", note=f"loss {loss:.2f}")
                bars.update(task, completed=step, total=steps, **text)

            try:
                yield progress
            except Exception as error:  # whatever one photo does, the others are still done
                self.failed += 1
                bars.stop()
                text = one_line(error)
                fail(text if name in text else f"{name}: {text}")
                if self.as_json:
                    say(json.dumps({"photo": one_line(path.absolute()), "error": text}))
        self.started = time.perf_counter()

    def report(self, folder: Path, result: dict) -> None:
        """Say how it went, in the place of the bar."""
        self._bars.stop()
        name, count, losses = result["photo"], result["faces_found"], result["losses"]
        reasons, drawn = result["not_converged_because"], "figure.png" in result["files"]
        self.doubtful += bool(reasons)
        if self.as_json:
            line = {"photo": result["photo_path"], "folder": str(folder.absolute())}
            line |= {key: result[key] for key in JSON_KEYS}
            say(json.dumps(line | {"seconds": result["seconds"]["total"]}))
        if count > 1:
            which = "the largest" if result["face"] == 1 else f"number {result['face']} by size"
            self.say(f"{name}: {count} faces; took {which} (--face N picks another)")
        colours = losses["photometric_error"]
        colours = "not seen" if colours is None else f"{colours:.3f} off"
        self.say(
            f"{name}: landmarks {losses['landmark_error']:.1%} of the outer eye distance off, "
            f"colours {colours}, {result['seconds']['total']:.1f} s"
            f" -> {one_line(folder / ('figure.png' if drawn else 'overlay.png'))}"
        )
        if reasons:
            self.say(f"{name}: NOT TO BE RELIED ON: {'; '.join(reasons)}", "bold yellow")
