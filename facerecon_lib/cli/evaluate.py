"""`facerecon evaluate`: the tables of an encoder, on rendered faces and on photos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..files.errors import one_line
from .console import (
    check_device,
    error_console,
    network_named,
    out_console,
    refusals,
)

if TYPE_CHECKING:
    from ..evaluation.evaluation import Evaluation


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="An encoder (.safetensors); default: $FACERECON_ENCODER, or the shipped one."
        ),
    ] = None,
    rendered: Annotated[
        int | None,
        typer.Option(min=0, help="How many rendered faces; 200 where nothing else is asked for."),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="A folder of photos, or one photo.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Shards of photos: their test part is evaluated.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="How its photos are divided: random or person; default: as in training."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rendered faces.")] = 1000,
    family: Annotated[
        str, typer.Option(help="Light and background of the rendered faces: held-out, or train.")
    ] = "held-out",
    scans: Annotated[
        int, typer.Option(min=0, help="Rendered faces with a scan-to-mesh error (NoW).")
    ] = 50,
    model: Annotated[
        Path | None,
        typer.Option(help="A face model; default: $FACERECON_MODEL, or the shipped one."),
    ] = None,
    recognition: Annotated[
        str | None,
        typer.Option(
            help="Who judges identity: dlib (the default, where it is installed), facenet (fetches "
            "112 MB once), or none."
        ),
    ] = None,
    illumination: Annotated[
        str | None,
        typer.Option(
            help="encoder: its own (default); photo: fitted to the colours, as reconstruct does; "
            "free, grey or known: light and skin solved for. With --augmented, as it was trained."
        ),
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="The augmented branch beside the encoder.")
    ] = False,
    unet: Annotated[
        Path | None,
        typer.Option(
            help="Its U-Net (.safetensors); default: $FACERECON_UNET, or the shipped one."
        ),
    ] = None,
    wrinkles: Annotated[
        bool,
        typer.Option("--wrinkles", help="Rendered faces with wrinkles, marks and make-up."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")] = "cpu",
    json: Annotated[Path | None, typer.Option(help="Write every number to this file.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw some faces to this .png.")] = None,
) -> None:
    """Measure an encoder: landmarks, colours, identity, and on rendered faces millimetres."""
    options = dict(locals())
    from ..augmented.branch import BaseBranch
    from ..data.rendered.faces import RenderedFaces
    from ..evaluation.runs import evaluate_photos, evaluate_rendered
    from ..evaluation.settings import EvaluationSettings
    from ..face.morphable_model import MorphableModel
    from ..networks.encoder import load_encoder
    from ..reconstruction.output_folder import OutputError

    settings = EvaluationSettings(**options)
    found = {}
    with refusals():
        check_device(device)
        settings.check()
        paths = [] if photos is None else _photo_paths(photos)
        loaded = MorphableModel.load(model).to(device)
        encoder = load_encoder(checkpoint, loaded, device)
        if augmented:
            branch = _augmented(encoder, loaded, model, unet, illumination)
            illumination = branch.base_branch.light
        else:
            branch = BaseBranch(encoder, loaded, illumination or "encoder")
        if illumination == "known" and (photos is not None or data is not None):
            raise OutputError(
                "--illumination known: only rendered faces come with it; take free or grey"
            )
        network, notes = _judge(recognition, device)
        trained = _training_of(encoder)
        if network is not None and _knows(encoder, trained, network.name):
            notes.append(
                f"identity is judged by {network.name}, which the encoder was made with: expect it "
                "to flatter; another --recognition is impartial"
            )
        if rendered := settings.rendered_faces:
            faces = RenderedFaces(loaded, seed, family, wrinkles=wrinkles)
            with _counting("rendered faces", rendered) as count:
                found["rendered"] = evaluate_rendered(
                    branch, faces, rendered, network, scans=scans, progress=count
                )
            if [trained.get(key) for key in ("data", "seed", "family")] == [None, seed, family]:
                note = "these are the rendered faces of its training: take another --seed"
                found["rendered"].notes.append(note)
        if paths:
            with _counting("photos", len(paths)) as count:
                found["photos"] = evaluate_photos(branch, paths, network, progress=count)
        if data is not None:
            split = split or trained.get("split", "random")
            found["data"] = _on_shards(branch, network, data, split, loaded.device)
        for name, evaluation in found.items():
            evaluation.notes += notes
            _show(evaluation)
            if figure is not None:
                _draw(evaluation, figure, name if len(found) > 1 else "")
        if json is not None:
            _write(found, json)


def _augmented(encoder, loaded, model: Path | None, checkpoint: Path | None, light: str | None):
    """The branch, of the light and the albedo basis that its U-Net was trained with."""
    from ..augmented.branch import AugmentedBranch, BaseBranch
    from ..face.morphable_model import MorphableModel
    from ..networks.unet import UNetError, load_unet

    facts = load_unet(checkpoint).metadata
    light = light or facts.get("light", "photo")
    albedo = facts.get("albedo", loaded.metadata["albedo"])
    if albedo != loaded.metadata["albedo"]:
        if light in ("photo", "encoder"):
            raise UNetError(
                f"--illumination {light}: the U-Net is for the albedo basis {albedo!r}, which the "
                "encoder does not know; take free, grey or known"
            )
        loaded = MorphableModel.load(model, albedo=albedo).to(loaded.device)
    unet = load_unet(checkpoint, loaded, loaded.device)
    try:
        return AugmentedBranch(unet, BaseBranch(encoder, loaded, light))
    except ValueError as error:
        raise UNetError(f"{unet.name}: {error}") from None


def _photo_paths(photos: Path) -> list[Path]:
    from ..photos.reading import PHOTO_SUFFIXES
    from ..reconstruction.output_folder import OutputError

    if photos.is_file():
        return [photos]
    if not photos.is_dir():
        raise OutputError(f"--photos {photos}: there is no such folder")
    paths = sorted(p for p in photos.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise OutputError(
            f"--photos {photos}: holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})"
        )
    return paths


def _judge(recognition: str | None, device: str):
    """(network, notes): without dlib the rest is measured all the same, and it is said."""
    from ..networks.face_networks import RecognitionError

    try:
        return network_named(recognition or "dlib", device), []
    except RecognitionError as error:
        if recognition is not None:
            raise
        return None, [f"identity was not measured: {one_line(error)}"]


def _training_of(encoder) -> dict:
    """The settings that the checkpoint was trained with, where it tells."""
    try:
        return dict(loads(encoder.metadata.get("settings", "{}")))
    except (TypeError, ValueError):
        return {}


def _knows(encoder, trained: dict, network: str) -> bool:
    """Is the judge of identity also the encoder's teacher, or its eye?"""
    return trained.get("recognition") == network or encoder.backbone.startswith(network)


def _on_shards(branch, network, data: str, split: str, device) -> Evaluation:
    from ..data.shards.reader import PhotoShards
    from ..evaluation.runs import evaluate_batches

    settings = dict(part="test", split=split, complete=True, device=device)
    shards = PhotoShards(data, 16, **settings)
    what = f"the test part of {data} (split: {split})"
    with _counting("photos of shards", shards.photos) as count:
        found = evaluate_batches(branch, shards, what, network, progress=count)
    found.failures = dict(shards.damaged)
    return found


@contextmanager
def _counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=error_console, transient=True, disable=quiet) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def _show(evaluation: Evaluation) -> None:
    from ..evaluation.tables import tables

    for table in tables(evaluation):
        out_console.print(table)
    for name, why in evaluation.failures.items():
        out_console.print(f"{name}: left out: {one_line(why)}", markup=False, soft_wrap=True)
    for note in evaluation.notes:
        out_console.print(note, markup=False, soft_wrap=True)


def _draw(evaluation: Evaluation, figure: Path, part: str) -> None:
    from ..pictures.sheets import save_figure
    from ..reconstruction.output_folder import OutputError

    path = figure.with_stem(f"{figure.stem}-{part}") if part else figure
    try:
        save_figure(evaluation.figure(), path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    out_console.print(f"-> {one_line(path)}", markup=False, soft_wrap=True)


def _write(found: dict[str, Evaluation], path: Path) -> None:
    """Every number of every part in one file, which appears whole or not at all."""
    from ..files.atomic import write_whole
    from ..reconstruction.output_folder import OutputError

    content = {name: evaluation.as_dict() for name, evaluation in found.items()}
    try:
        with write_whole(path) as partial:
            partial.write_text(dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    out_console.print(f"-> {one_line(path)}", markup=False, soft_wrap=True)
