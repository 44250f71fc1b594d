"""`facerecon fit` and `facerecon reconstruct`: photos in, one folder of results per photo out.

Notebook 10.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
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
    from ..reconstruction.reconstruct import FittedPhoto


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
Together = Annotated[
    bool,
    Option(
        "--together",
        help="The photos are of one person: one identity and albedo for all, and the neutral head "
        "in a folder `person`. A photo of somebody else is left out.",
    ),
]
KeepStrangers = Annotated[
    bool, Option("--keep-strangers", help="With --together: take every photo, whoever it shows.")
]
Detail = Annotated[
    str | None,
    Option(
        help="unet: as --augmented; shading: wrinkles from a depth network and from shading, in "
        "shape alone."
    ),
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
    together: Together = False,
    keep_strangers: KeepStrangers = False,
    device: Device = "cpu",
    figure: Figure = True,
    texture: Texture = "photo",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit the face model to the face in each PHOTO."""
    work = (PersonWork if together else PhotoWork)(photos, out, quiet, as_json)
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
        if keep_strangers and not together:
            raise OutputError("--keep-strangers is for one person's photos: add --together")
        if together and method == "adam":
            raise OutputError("--together is for --method dense: leave --method adam out")
        if together and len(photos) < 2:
            raise OutputError("--together takes two photos or more of one person, got one")
        _check_face(face)
        check_choice("texture", texture, TEXTURES)
        check_choice("recognition", recognition, NETWORKS)
        check_device(device)
        network = network_named("dlib" if together else recognition, device)
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import ENCODER_FILE, load_encoder
        from ..reconstruction.reconstruct import encode_faces, fit_face
        from ..reconstruction.together import encode_together

        one_thread()
        fine = MorphableModel.load(model).to(device)
        adam = (method or ("adam" if fine.dense is None else "dense")) == "adam"
        if fine.dense is None and not adam:
            todo = "run data_scripts/bind_face_mesh.py on its file, or take --method adam"
            raise OutputError(f"--method dense: the face model is not bound to 478 points; {todo}")
        coarse = MorphableModel.load(model, subdivision=0).to(device) if adam else None
        encoded = init == "encoder" if adam else bool(checkpoint) or ENCODER_FILE.fits(fine)
        encoder = load_encoder(checkpoint, fine, device) if encoded else None
        if together and (adam or encoder is None):
            raise OutputError("--together needs an encoder of this face model: add --checkpoint")
        claim_folder(out)
        clean_up(out)

    def solve(batch: "list[Photo]") -> Iterable:
        if together:
            return encode_together(batch, fine, encoder, network, face, keep_strangers)
        if not adam:
            return encode_faces(batch, fine, encoder, face, dense=True)
        (photo,) = batch
        progress = partial(work.progress, photo.name)
        return [fit_face(photo, fine, coarse, face, None, network, progress, encoder)]

    if together:
        work.run(solve, "together", face, figure, texture, len(photos))
    else:
        work.run(
            solve, "fit" if adam else "dense", face or 1, figure, texture, 1 if adam else AT_ONCE
        )


def reconstruct(
    photos: Photos,
    out: Out,
    model: Model = None,
    checkpoint: Checkpoint = None,
    face: FaceNumber = None,
    illumination: Illumination = None,
    augmented: Augmented = False,
    detail: Detail = None,
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
        check_choice("detail", detail, ("unet", "shading"))
        if augmented and detail == "shading":
            raise OutputError("--augmented is --detail unet: leave it or --detail shading out")
        detail = "unet" if augmented else detail
        if unet is not None and detail != "unet":
            raise OutputError("--unet is of the augmented branch: add --augmented")
        _check_face(face)
        check_choice("texture", texture, TEXTURES)
        check_device(device)
        from ..beyond.depth_network import load_depth_unet
        from ..face.morphable_model import MorphableModel
        from ..networks.encoder import load_encoder
        from ..networks.unet import load_unet
        from ..reconstruction.reconstruct import encode_faces

        one_thread()
        face_model = MorphableModel.load(model).to(device)
        encoder = load_encoder(checkpoint, face_model, device)
        network = None
        if detail == "unet":
            network = load_unet(unet, face_model, device)
        elif detail == "shading":
            network = load_depth_unet(None, face_model, device)
        claim_folder(out)
        clean_up(out)

    def solve(batch: "list[Photo]") -> Iterable:
        return encode_faces(batch, face_model, encoder, face, illumination, network)

    work.run(solve, "encoder", face or 1, figure, texture, AT_ONCE)


def _check_face(face: int | None) -> None:
    if face is not None and face < 1:
        raise OutputError(f"--face {face}: faces count from 1, the largest")


AT_ONCE, MOST_BYTES = 8, 2e8  # photos in a batch
JSON_KEYS = ("converged", "not_converged_because", "method", "face", "faces_found", "losses")
"""What a line of --json holds of result.json."""


class PhotoWork:
    """Photos to folders of results, some at once: a progress bar, a report of each, and a line for
    one that fails."""

    apart = True  # a photo's face does not depend on the others

    def __init__(self, photos: list[Path], out: Path, quiet: bool, as_json: bool):
        self.photos, self.out, self.quiet, self.as_json = photos, out, quiet, as_json
        self.started, self.done, self.failed, self.doubtful = time.perf_counter(), 0, 0, 0
        self.folders: list[Path] = []
        self.last: Exception | None = None
        text = TextColumn("{task.description}", markup=False)
        silent = quiet or as_json or not error_console.is_terminal
        columns = (text, BarColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, console=error_console, transient=True, disable=silent)
        self.task = self.bars.add_task("looking at photos", total=len(photos))

    def run(
        self,
        solve: "Callable[[list[Photo]], Iterable[FittedPhoto | Exception]]",
        method: str,
        face: int | None,
        figure: bool,
        texture: str,
        at_once: int,
    ) -> None:
        """Solve the photos in batches; two threads write the results meanwhile.

        Says at the end how many faces are not to be relied on and how quick it was, and exits with
        2 if a photo failed. A request to stop unwinds as Ctrl-C does.
        """
        from ..reconstruction.result_files import write_photo

        self.figure = figure
        with stoppable(), self.bars, ThreadPoolExecutor(2) as writer:
            writing: deque[tuple[Path, Path, Future[dict]]] = deque()
            try:
                for batch in self._batches(at_once, method, face):
                    results = self._solved(solve, [photo for photo, _ in batch])
                    for (photo, folder), done in zip(batch, results, strict=True):
                        with self._failing(photo.path):
                            if isinstance(done, Exception):
                                raise done
                            options = folder, self.photos, figure, texture
                            job = writer.submit(write_photo, done, *options)
                            writing.append((photo.path, folder, job))
                        while len(writing) > len(batch) or (writing and writing[0][-1].done()):
                            self._finish(*writing.popleft())
            finally:  # also of a request to stop: what is being written becomes whole
                writer.shutdown(cancel_futures=sys.exc_info()[0] is not None)
                for path, folder, job in writing:
                    if not job.cancelled():
                        self._finish(path, folder, job)
        self._conclude()

    def progress(self, name: str, stage: str, step: int, steps: int, loss: float) -> None:
        """Of gradient descent on one photo."""
        text = f"{name}: {stage}, step {step} of {steps}, loss {loss:.2f}"
        self.bars.update(self.task, description=text)

    def _batches(
        self, at_once: int, method: str, face: int | None
    ) -> "Iterator[list[tuple[Photo, Path]]]":
        """The photos that can be read, fewer at once if they are large, and where results go."""
        from ..photos.reading import load_image

        batch: list[tuple[Photo, Path]] = []
        for path in self.photos:
            with self._failing(path):
                photo = load_image(path, readable_name(path))
                batch.append((photo, self._folder(photo, method, face)))
            size = sum(photo.pixels.size for photo, _ in batch)
            if len(batch) == at_once or (size > MOST_BYTES and self.apart):
                yield batch
                batch = []
        if batch:
            yield batch

    def _solved(self, solve: Callable, batch: "list[Photo]") -> "Iterator[FittedPhoto | Exception]":
        """A face or an error for each photo; alone, should one bring down the batch."""
        done = 0
        try:
            for result in solve(batch):
                done += 1
                yield result
        except Exception as error:
            if len(batch) == 1 or not self.apart:
                yield from [error] * (len(batch) - done)
            else:
                for photo in batch[done:]:
                    yield from self._solved(solve, [photo])

    def _folder(self, photo: "Photo", method: str, face: int | None) -> Path:
        """Where a photo's result goes: a folder of its name, numbered where that holds another."""
        named = self.out / (photo.path.stem.strip(". ") or "photo")
        identity = dict(photo_sha256=photo.sha256, method=method, face=face)
        folder = folder_for(named, identity, self.photos, self.folders)
        if photo.note:
            self._say(f"{photo.name}: {photo.note}")
        if folder != named and named not in self.folders:
            name = one_line(named)
            self._say(
                f"{photo.name}: {name} holds another result; this one goes to {one_line(folder)}"
            )
        self.folders.append(folder)
        return folder

    @contextmanager
    def _failing(self, path: Path) -> Iterator[None]:
        """An error becomes a line: whatever one photo does, the others are still done."""
        try:
            yield
        except Exception as error:
            self._step()
            self.failed += 1
            name, text = readable_name(path), one_line(error)
            if error is not self.last:  # that of several photos is said once
                with self._without_bar():
                    fail(text if name in text else f"{name}: {text}")
            self.last = error
            if self.as_json:
                say(json.dumps({"photo": one_line(path.absolute()), "error": text}))

    @contextmanager
    def _without_bar(self) -> Iterator[None]:
        """Lines stand above the bar."""
        if not self.bars.live.is_started:
            yield
            return
        self.bars.stop()
        yield
        if self.done < len(self.photos):
            self.bars.start()

    def _step(self) -> None:
        """One photo more."""
        self.done += 1
        text = f"{self.done / (time.perf_counter() - self.started):.1f} photos/s"
        self.bars.update(self.task, description=text, completed=self.done)

    def _say(self, text: str, style: str | None = None) -> None:
        """One line for people."""
        if not self.quiet and not self.as_json:
            with self._without_bar():
                say(text, style)

    def _finish(self, path: Path, folder: Path, job: "Future[dict]") -> None:
        """Say how it went, once it is written."""
        with self._failing(path):
            self._report(folder, job.result())
            self._step()

    def _report(self, folder: Path, result: dict) -> None:
        name, count, losses = result["photo"], result["faces_found"], result["losses"]
        reasons, drawn = result["not_converged_because"], "figure.png" in result["files"]
        self.doubtful += bool(reasons)
        if self.as_json:
            line = {"photo": result["photo_path"], "folder": str(folder.absolute())}
            line |= {key: result[key] for key in JSON_KEYS}
            say(json.dumps(line | {"seconds": result["seconds"]["total"]}))
        if count > 1:
            which = "the largest" if result["face"] == 1 else f"number {result['face']} by size"
            self._say(f"{name}: {count} faces; took {which} (--face N picks another)")
        colours = losses["photometric_error"]
        colours = "not seen" if colours is None else f"{colours:.3f} off"
        if result["distance"] is not None:
            colours += f", F() {result['distance']:.2f} off the person's other photos"
        self._say(
            f"{name}: landmarks {losses['landmark_error']:.1%} of the outer eye distance off, "
            f"colours {colours} -> {one_line(folder / ('figure.png' if drawn else 'overlay.png'))}"
        )
        if reasons:
            self._say(f"{name}: NOT TO BE RELIED ON: {'; '.join(reasons)}", "bold yellow")

    def _conclude(self) -> None:
        seconds, many = time.perf_counter() - self.started, len(self.photos) > 1
        if self.doubtful and many:
            written = len(self.photos) - self.failed
            self._say(f"{self.doubtful} of {written} faces are not to be relied on", "bold yellow")
        rate = f", {len(self.photos) / seconds:.1f} photos per second" if many else ""
        if self.failed < len(self.photos):
            self._say(f"{seconds:.1f} s{rate}")
        if self.failed:
            raise Exit(2)


class PersonWork(PhotoWork):
    """Photos of one person, all at once; at the end the person."""

    apart = False

    def __init__(self, photos: list[Path], out: Path, quiet: bool, as_json: bool):
        super().__init__(photos, out, quiet, as_json)
        self.faces: list[FittedPhoto] = []

    def _solved(self, solve: Callable, batch: "list[Photo]") -> "Iterator[FittedPhoto | Exception]":
        for done in super()._solved(solve, batch):
            if not isinstance(done, Exception):
                self.faces.append(done)
            yield done

    def _conclude(self) -> None:
        from ..reconstruction.person_files import photos_of, write_person

        if faces := self.faces:
            named = self.out / "person"
            with self._failing(named):
                identity = dict(photo_sha256=photos_of(faces), method="together", face=None)
                folder = folder_for(named, identity, self.photos, self.folders)
                write_person(faces, folder, self.photos, self.figure)
                self._say(f"the person of {len(faces)} photos -> {one_line(folder)}")
                if self.as_json:
                    shown = [done.photo.name for done in faces]
                    say(json.dumps({"person": str(folder.absolute()), "photos": shown}))
        super()._conclude()
