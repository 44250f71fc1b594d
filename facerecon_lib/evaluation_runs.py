"""How right an encoder is: on rendered faces, where all is known, and on photos.

    found = evaluate_rendered(encoder, model, RenderedFaces(model, seed=1, family="held-out"), 200)
    found = evaluate_photos(encoder, model, sorted(Path("photos").iterdir()), network)
    for table in found.tables(): console.print(table)
    save_figure(found.figure(), "evaluation.png")

Beside the encoder stand two faces that have looked at nothing but where the face is: MEAN, the
untrained encoder's answer to every photo, and POSED, the mean face in the pose that the landmarks
give in closed form. What the encoder knows of a face is how far it is better than these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from .coefficients import FaceCoefficients
from .detection import DetectionError, PhotoError, align, detect, load_image
from .encoder import Encoder, EncoderError
from .evaluation import (
    albedo_error,
    landmark_error,
    photometric_error,
    skin_tone_group,
    vertex_error_mm,
)
from .evaluation_report import ENCODER, MEAN, POSED, SHOWN, Evaluation
from .face_batch import FaceBatch
from .fitting import start_from_landmarks
from .morphable_model import MorphableModel
from .now_protocol import ScanError, now_errors, pooled
from .output_folder import readable_name
from .photo_colours import light_from_photo
from .recognition import FaceNetwork, face_features, feature_distance
from .rendered_faces import RenderedFaces
from .synthesis import CROP_SIZE, Face, synthesise

SCAN_POINTS = 4000
TRUE_TONE = "Monk tone of the true skin, unlit"
ESTIMATED_TONE = "Monk tone of the skin as the encoder sees it (an estimate)"


def evaluate_rendered(
    encoder: Encoder,
    model: MorphableModel,
    faces: RenderedFaces,
    count: int = 200,
    network: FaceNetwork | None = None,
    *,
    batch: int = 16,
    scans: int = 50,
    light: str = "encoder",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Faces 0 to count - 1 of `faces`; scan-to-mesh (`now_protocol`) of the first `scans` of them.

    All on the model's device. network: for identity, as in Eq. 6; None leaves it out.
    progress: called with the number of faces done. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 face or more, got {count}")
    numbers = torch.arange(count).split(batch)
    what = f"{count} rendered faces, seed {faces.seed}, family {faces.family}"
    batches = (faces.batch(part) for part in numbers)
    return evaluate_batches(
        encoder, model, batches, what, network, scans=scans, light=light, progress=progress
    )


def evaluate_photos(
    encoder: Encoder,
    model: MorphableModel,
    paths: Sequence[Path],
    network: FaceNetwork | None = None,
    *,
    light: str = "encoder",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """The largest face of each photo; a photo without one is reported in `failures`.

    With a network, also the distance of every rendering to every photo.
    Raises DetectionError, one line, where not one photo has a face.
    """
    failures: dict[str, str] = {}
    batches = list(_photo_batches(paths, failures))
    if not batches:
        first = f" (the first: {next(iter(failures.values()))})" if failures else ""
        raise DetectionError(f"no face in any of {len(paths)} photos{first}")
    what = f"{sum(map(len, batches))} photos"
    found = evaluate_batches(
        encoder, model, batches, what, network, light=light, progress=progress, cross=True
    )
    found.failures, found.photos = failures, True
    return found


def evaluate_batches(
    encoder: Encoder,
    model: MorphableModel,
    batches: Iterable[FaceBatch],
    what: str,
    network: FaceNetwork | None = None,
    *,
    scans: int = 0,
    cross: bool = False,
    light: str = "encoder",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Any faces: `what` names them. cross: keep the distances of all renderings to all photos.

    light: "encoder", or "photo": then `light_from_photo` follows the encoder.
    Raises DetectionError where there is no face, EncoderError for an answer that is not finite.
    """
    if light not in ("encoder", "photo"):
        raise ValueError(f"light {light!r}: expected encoder or photo")
    run = _Run(encoder, model, network, light)
    for batch in batches:
        run.add(batch.to(model.device), scans - len(run.names))
        if progress is not None:
            progress(len(run.names))
    if not run.names:
        raise DetectionError(f"{what}: no face to evaluate")
    return run.result(what, cross)


class _Run:
    """The numbers of the faces so far, by method and measure."""

    def __init__(
        self, encoder: Encoder, model: MorphableModel, network: FaceNetwork | None, light: str
    ):
        self.encoder, self.model, self.network, self.light = encoder, model, network, light
        self.names: list[str] = []
        self.tones: list[int] = []
        self.values: dict[str, dict[str, list[float]]] = {m: {} for m in (ENCODER, MEAN, POSED)}
        self.features: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self.scans: dict[str, list[ScanError]] = {}
        self.shown: list[tuple[FaceBatch, FaceCoefficients]] = []
        with torch.no_grad():
            encoder(torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, device=model.device))  # warm from here
        self.encoding, self.started, self.has_truth = 0.0, time.perf_counter(), False

    @torch.no_grad()
    def add(self, batch: FaceBatch, scans: int) -> None:
        """Measure a batch; scan-to-mesh of its first `scans` faces (none where 0 or less)."""
        found = self._encode(batch)
        truth = None if batch.truth is None else synthesise(self.model, batch.truth)
        faces = {
            ENCODER: found,
            MEAN: self.model.neutral(len(batch)),
            POSED: start_from_landmarks(self.model, batch.landmarks),
        }
        for method, coefficients in faces.items():
            face = synthesise(self.model, coefficients)
            measured = self._seen(method, face, batch)
            if truth is not None:
                measured |= _against_truth(face, truth)
            for name, values in measured.items():
                self.values[method].setdefault(name, []).extend(values.cpu().tolist())
        if truth is not None:
            self._scan(found, batch.truth, max(min(scans, len(batch)), 0))
        skin = self.model.regions["skin"] > 0.5
        tone = batch.tone
        if tone is None:
            tone = skin_tone_group(self.model.albedo(found.albedo)[:, skin].mean(1).clamp(0, 1))
        self.has_truth = batch.tone is not None
        if len(self.names) < SHOWN:
            self.shown.append((batch.to("cpu"), found.to("cpu")))
        self.names += batch.names
        self.tones += tone.tolist()

    def _encode(self, batch: FaceBatch) -> FaceCoefficients:
        start = time.perf_counter()
        found = self.encoder(batch.image)
        if self.light == "photo":
            found.lighting = light_from_photo(self.model, found, batch.image, batch.valid)
        finite = torch.isfinite(found.to_vector()).all(1).tolist()  # waits for a GPU
        self.encoding += time.perf_counter() - start
        if not all(finite):
            name = batch.names[finite.index(False)]
            raise EncoderError(f"{self.encoder.name}: {name}: the answer is not finite")
        return found

    def _seen(self, method: str, face: Face, batch: FaceBatch) -> dict[str, Tensor]:
        """What can be told from the photo: landmarks, colours, identity."""
        points = face.landmarks(batch.kind)
        image, mask = face.render()
        image, counted = image.clamp(0, 1), mask * batch.valid
        measured = {
            "landmark": landmark_error(points, batch.landmarks),
            "landmark_inner": landmark_error(points, batch.landmarks, points="inner"),
            "photometric": photometric_error(image, batch.image, counted),
        }
        if self.network is not None:
            rendered, photo = (
                face_features(self.network, shown, batch.landmarks, counted)
                for shown in (image, batch.image)
            )
            covered = counted.sum((1, 2, 3)) > 0  # else both are nothing, and alike
            distance = feature_distance(rendered, photo)
            measured["identity"] = distance.where(covered, torch.nan)
            for kept, new in zip(
                self.features.setdefault(method, ([], [])), (rendered, photo), strict=True
            ):
                kept.append(new)
        return measured

    def _scan(self, found: FaceCoefficients, truth: FaceCoefficients, count: int) -> None:
        """NoW's error of faces at rest; NaN for those beyond `count`."""
        true = self.model.shape(truth.identity)
        meshes = {ENCODER: self.model.shape(found.identity), MEAN: self.model.mean.expand_as(true)}
        for method, predicted in meshes.items():
            errors = now_errors(self.model, predicted[:count], true[:count], points=SCAN_POINTS)
            rest = [math.nan] * (len(true) - count)
            self.scans.setdefault(method, []).extend(errors)
            for name in (method, POSED) if method == MEAN else (method,):
                self.values[name].setdefault("scan_mm", []).extend(
                    [e.median for e in errors] + rest
                )

    def result(self, what: str, cross: bool) -> Evaluation:
        count = len(self.names)
        seconds = {"encoder": self.encoding / count}
        seconds["everything"] = (time.perf_counter() - self.started) / count
        found = Evaluation(
            what=what,
            encoder=self.encoder.name,
            recipe=dict(self.encoder.metadata),
            names=self.names,
            tones=self.tones,
            tones_are=TRUE_TONE if self.has_truth else ESTIMATED_TONE,
            values=self.values,
            seconds_per_face=seconds,
            shown=self.shown,
            model=self.model,
        )
        if any(self.scans.values()):
            found.scan_to_mesh = {m: pooled(errors) for m, errors in self.scans.items()}
        if self.network is not None:
            found.recognition = self.network.name
            found.same_person = self.network.same_person
            if cross:
                for method, (rendered, photos) in self.features.items():
                    distances = torch.cdist(torch.cat(rendered), torch.cat(photos))
                    found.distances[method] = distances.cpu().tolist()
        return found


def _against_truth(face: Face, truth: Face) -> dict[str, Float[Tensor, " batch"]]:
    """Millimetres (expression included, the median over vertices), and the skin without light."""
    measured = {}
    for name, how in (("vertex_mm", "similarity"), ("vertex_mm_rigid", "rigid")):
        error = vertex_error_mm(face.vertices, truth.vertices, align=how)
        measured[name] = error.median(1).values
    skin = face.model.regions["skin"]
    error = albedo_error(face.albedo.clamp(0, 1), truth.albedo.clamp(0, 1), skin)
    return measured | {
        "albedo_rgb": error["rgb"],
        "ita_bias": error["ita"],
        "ita": error["ita"].abs(),
    }


def _photo_batches(paths: Sequence[Path], failures: dict[str, str]) -> Iterator[FaceBatch]:
    """One photo at a time, so that detectors of either kind may be mixed."""
    for path in paths:
        name = readable_name(path)
        try:
            photo = load_image(path, name=name)
            found = detect(photo)
        except (PhotoError, DetectionError) as error:
            failures[name] = str(error)
            continue
        crop = align(photo.pixels, found.landmarks)
        yield FaceBatch(crop.image, crop.valid, crop.landmarks, found.kind, [name])
