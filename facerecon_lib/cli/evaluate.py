"""`facerecon evaluate`: the tables of an encoder, on rendered faces and on photos.

Notebook 09, section 2.3.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..evaluation.settings import EvaluationSettings
from ..files.atomic import write_whole
from ..files.errors import one_line
from ..reconstruction.output_folder import OutputError
from .console import (
    check_device,
    check_network,
    error_console,
    network_named,
    out_console,
    refusals,
    writing,
)
from .options import options_of

if TYPE_CHECKING:
    from ..evaluation.evaluation import Evaluation


@options_of(EvaluationSettings, arguments=("checkpoint",))
def evaluate(**options) -> None:
    """Measure an encoder: landmarks, colours, identity, and on rendered faces millimetres."""
    settings = EvaluationSettings(**options)
    with refusals():
        settings.check()
        check_network(settings.recognition)
        check_device(settings.device)
        evaluations = _evaluations(settings)
        for name, evaluation in evaluations.items():
            _show(evaluation)
            if settings.figure is not None:
                _draw(evaluation, settings.figure, name if len(evaluations) > 1 else "")
        if settings.json is not None:
            _write(evaluations, settings.json)


def _evaluations(s: EvaluationSettings) -> dict[str, Evaluation]:
    """By what was evaluated: "rendered", "photos", "data"."""
    paths = [] if s.photos is None else _photo_paths(s.photos)
    from ..data.rendered.faces import RenderedFaces
    from ..evaluation.runs import evaluate_photos, evaluate_rendered
    from ..face.morphable_model import MorphableModel
    from ..networks.encoder import load_encoder

    model = MorphableModel.load(s.model).to(s.device)
    encoder = load_encoder(s.checkpoint, model, s.device)
    branch = _branch(encoder, model, s)
    network, notes = _judge(s.recognition, s.device)
    trained = _training_of(encoder)
    if network is not None and _knows(encoder, trained, network.name):
        notes.append(
            f"identity is judged by {network.name}, which the encoder was made with: expect it "
            "to flatter; another --recognition is impartial"
        )
    evaluations = {}
    if count := s.rendered_faces:
        faces = RenderedFaces(model, s.seed, s.family, wrinkles=s.wrinkles)
        with _counting("rendered faces", count) as progress:
            rendered = evaluate_rendered(
                branch, faces, count, network, scans=s.scans, progress=progress
            )
        if [trained.get(key) for key in ("data", "seed", "family")] == [None, s.seed, s.family]:
            note = "these are the rendered faces of its training: take another --seed"
            rendered.notes.append(note)
        evaluations["rendered"] = rendered
    if paths:
        with _counting("photos", len(paths)) as progress:
            evaluations["photos"] = evaluate_photos(branch, paths, network, progress=progress)
    if s.data is not None:
        split = s.split or trained.get("split", "random")
        evaluations["data"] = _on_shards(branch, network, s.data, split, model.device)
    for evaluation in evaluations.values():
        evaluation.notes += notes
    return evaluations


def _branch(encoder, model, s: EvaluationSettings):
    """The encoder's branch, or the augmented one: of the light and albedo of its training."""
    from ..augmented.branch import AugmentedBranch, BaseBranch
    from ..face.morphable_model import MorphableModel
    from ..networks.unet import UNetError, load_unet

    light = s.illumination or "encoder"
    if s.augmented:
        facts = load_unet(s.unet).metadata
        light = s.illumination or facts.get("light", "photo")
    if light == "known" and (s.photos is not None or s.data is not None):
        raise OutputError(
            "--illumination known: only rendered faces come with it; take free or grey"
        )
    if not s.augmented:
        return BaseBranch(encoder, model, light)
    own = model.metadata["albedo"]
    albedo = facts.get("albedo", own)
    if albedo != own:
        if light in ("photo", "encoder"):
            raise UNetError(
                f"--illumination {light}: the U-Net is for the albedo basis {albedo!r}, which the "
                "encoder does not know; take free, grey or known"
            )
        model = MorphableModel.load(s.model, albedo=albedo).to(model.device)
    unet = load_unet(s.unet, model, model.device)
    try:
        return AugmentedBranch(unet, BaseBranch(encoder, model, light))
    except ValueError as error:
        raise UNetError(f"{unet.name}: {error}") from None


def _photo_paths(photos: Path) -> list[Path]:
    from ..photos.reading import PHOTO_SUFFIXES

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
        evaluation = evaluate_batches(branch, shards, what, network, progress=count)
    evaluation.failures = dict(shards.damaged)
    return evaluation


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

    path = figure.with_stem(f"{figure.stem}-{part}") if part else figure
    with writing(path):
        save_figure(evaluation.figure(), path)
    out_console.print(f"-> {one_line(path)}", markup=False, soft_wrap=True)


def _write(evaluations: dict[str, Evaluation], path: Path) -> None:
    """Every number of every part in one file, which appears whole or not at all."""
    content = {name: evaluation.as_dict() for name, evaluation in evaluations.items()}
    with writing(path), write_whole(path) as partial:
        partial.write_text(dumps(content, indent=1, allow_nan=False) + "\n")
    out_console.print(f"-> {one_line(path)}", markup=False, soft_wrap=True)
