"""`facerecon evaluate`: the tables of an encoder, on rendered faces and on photos.

Notebook 09, section 2.3.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer import Exit

from ..evaluation.settings import EvaluationSettings
from ..files.atomic import claim_file, write_whole
from ..files.errors import one_line
from ..reconstruction.output_folder import OutputError
from .console import (
    NETWORKS,
    check_choice,
    check_device,
    error_console,
    fail,
    network_named,
    out_console,
    refusals,
    say,
    writing,
)
from .options import options_of


@options_of(EvaluationSettings, arguments=("checkpoint",))
def evaluate(**options) -> None:
    """Measure an encoder: landmarks, colours, identity, and on rendered faces millimetres."""
    settings = EvaluationSettings(**options)
    with refusals():
        settings.check()
        check_choice("recognition", settings.recognition, NETWORKS)
        check_device(settings.device)
        for path in (settings.json, *_figures(settings).values()):
            if path is not None:
                claim_file(path)
        ratings = _ratings(settings)
        _publish(_evaluations(settings, ratings), settings)


def _ratings(s: EvaluationSettings) -> dict[str, float]:
    """Of photos by name; exits with 2, a line for each line that is wrong."""
    if s.ratings is None:
        return {}
    from ..evaluation.ratings import read_ratings

    ratings, problems = read_ratings(s.ratings)
    for problem in problems:
        fail(problem)
    if problems:
        raise Exit(2)
    return ratings


def _evaluations(s: EvaluationSettings, ratings: dict[str, float]) -> dict:
    """An Evaluation of each that was asked for: "rendered_photos", "rendered", "photos", "data"."""
    of_shards = s.photos is not None and s.photos.is_dir() and any(s.photos.glob("*.tar"))
    if s.part is not None and not (of_shards or s.data):
        raise OutputError(
            f"--part {s.part} is of photos of shards: give some to --photos or --data"
        )
    listing = None if s.photos is None or of_shards else _photo_listing(s.photos)
    from ..data.rendered.faces import CROP_MARGIN, PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
    from ..data.shards.reader import PhotoShards
    from ..evaluation.runs import evaluate_batches, evaluate_rendered
    from ..face.camera import CROP_SIZE
    from ..face.morphable_model import MorphableModel
    from ..networks.encoder import load_encoder
    from ..photos.landmarks import DetectionError

    model = MorphableModel.load(s.model).to(s.device)
    if s.fit and model.dense is None:
        todo = "run data_scripts/bind_face_mesh.py on its file"
        raise OutputError(f"--fit: the face model is not bound to 478 points; {todo}")
    encoder = load_encoder(s.checkpoint, model, s.device)
    branch = _branch(encoder, model, s, "encoder")
    trained = loads(encoder.metadata.get("settings", "{}"))
    split = s.split or trained.get("split", "random")
    network, notes = network_named(s.recognition or "dlib", s.device), []
    # Is the judge of identity also the encoder's teacher, or its eye?
    own = (trained.get("recognition"), encoder.backbone.partition("_")[0])
    if network is not None and network.name in own:
        notes.append(
            f"identity is judged by {network.name}, which the encoder was made with: expect it "
            "to flatter; another --recognition is impartial"
        )
    evaluations = {}
    sizes = {"rendered_photos": (PHOTO_SIZE, PHOTO_MARGIN), "rendered": (CROP_SIZE, CROP_MARGIN)}
    for part, count in s.rendered_parts.items():
        look = dict(wrinkles=s.wrinkles, size=sizes[part][0], margin=sizes[part][1])
        faces = RenderedFaces(model, s.seed, s.family, **look)
        with _counting("rendered faces", count) as progress:
            more = dict(scans=s.scans, progress=progress)
            try:
                evaluation = evaluate_rendered(branch, faces, count, network, **more)
            except DetectionError as error:  # without a detector the rest is measured all the same
                notes.append(one_line(error))
                continue
        if [trained.get(key) for key in ("data", "seed", "family")] == [None, s.seed, s.family]:
            note = "these are the rendered faces of its training: take another --seed"
            evaluation.notes.append(note)
        evaluations[part] = evaluation
    if s.photos is not None:
        base = _branch(encoder, model, s, "photo")
        evaluations["photos"] = _of_photos(base, s, listing, split, network, ratings)
    if s.data is not None:
        part = s.part or "test"
        shards = PhotoShards(s.data, 16, part=part, split=split, complete=True, device=s.device)
        what = f"the {part} part of {s.data} (split: {split})"
        with _counting("photos of shards", shards.photos) as progress:
            evaluation = evaluate_batches(branch, shards, what, network, progress=progress)
        evaluation.failures = dict(shards.damaged)
        evaluations["data"] = evaluation
    for evaluation in evaluations.values():
        evaluation.notes += notes
    return evaluations


def _of_photos(branch, s: EvaluationSettings, listing, split: str, network, ratings):
    """An Evaluation of the photos listed, or of the crops of shards where listing is None."""
    from ..data.shards.reader import PhotoShards
    from ..evaluation.ratings import ratings_of
    from ..evaluation.runs import evaluate_photos, shard_photos

    if listing is None:
        shards = PhotoShards(s.photos, 16, part=s.part, split=split, complete=True)
        photos, failures, notes = shard_photos(shards), shards.damaged, []
    else:
        photos, failures, notes = listing.photos, {}, [listing.passed_over()]
    with _counting("photos", len(photos)) as progress:
        evaluation = evaluate_photos(branch, photos, network, fit=s.fit, progress=progress)
    evaluation.failures |= failures
    evaluation.ratings = ratings_of(evaluation.names, ratings)
    if lost := len(ratings) - len(evaluation.ratings):
        notes.append(f"{s.ratings}: {lost} ratings are of other photos")
    evaluation.notes += filter(None, notes)
    return evaluation


def _branch(encoder, model, s: EvaluationSettings, usual: str):
    """The encoder's branch, or the augmented one: of the light and albedo of its training.

    usual: the light of the encoder's faces, if no other is asked for.
    """
    from ..augmented.branch import AugmentedBranch, BaseBranch
    from ..face.morphable_model import MorphableModel
    from ..networks.unet import UNetError, load_unet

    facts = load_unet(s.unet).metadata if s.augmented else {"light": usual}
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


def _photo_listing(photos: Path):
    """A Listing of the photos of a folder and its sub-folders, or of one photo."""
    from ..photos.folders import PHOTO_SUFFIXES, Listing, list_folder

    if photos.is_file():
        return Listing([photos], 0, [])
    if not photos.is_dir():
        raise OutputError(f"--photos {photos}: there is no such folder")
    listing = list_folder(photos)
    if not listing.photos:
        suffixes = ", ".join(sorted(PHOTO_SUFFIXES))
        raise OutputError(f"--photos {photos}: holds no photo ({suffixes})")
    return listing


@contextmanager
def _counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = not error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=quiet) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def _publish(evaluations: dict, s: EvaluationSettings) -> None:
    """Write every number in one file, draw a figure per part, then print tables and notes."""
    from ..pictures.sheets import save_figure

    try:
        if s.json is not None:
            content = {part: evaluation.as_dict() for part, evaluation in evaluations.items()}
            with writing(s.json), write_whole(s.json) as partial:
                partial.write_text(dumps(content, indent=1, allow_nan=False) + "\n")
        for part, path in _figures(s).items():
            with writing(path):
                save_figure(evaluations[part].figure(), path)
    finally:
        _print(evaluations)
    for path in (s.json, *_figures(s).values()):
        if path is not None:
            say(f"-> {one_line(path)}")


def _figures(s: EvaluationSettings) -> dict[str, Path]:
    """The figure of each part that is evaluated."""
    asked = dict(rendered=s.rendered_faces, photos=s.photos, data=s.data)
    parts = [part for part, value in asked.items() if value]
    if s.figure is None or len(parts) == 1:
        return {part: s.figure for part in parts if s.figure is not None}
    return {part: s.figure.with_stem(f"{s.figure.stem}-{part}") for part in parts}


def _print(evaluations: dict) -> None:
    from ..evaluation.tables import tables

    for evaluation in evaluations.values():
        for table in tables(evaluation):
            out_console.print(table)
        for name, why in evaluation.failures.items():
            say(f"{name}: left out: {one_line(why)}")
        for note in evaluation.notes:
            say(note)
