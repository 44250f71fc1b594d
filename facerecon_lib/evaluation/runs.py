"""How right an encoder is: on rendered faces, whose truth is known, and on photos.

    branch = BaseBranch(encoder, model, "encoder")             # or an AugmentedBranch on it
    evaluation = evaluate_rendered(branch, RenderedFaces(model, seed=1, family="held-out"), 200)
    evaluation = evaluate_photos(branch, sorted(Path("photos").iterdir()), network)
    for table in tables(evaluation): console.print(table)      # of tables.py

An augmented branch is one more method, on the encoder's faces and in their light. The yardstick:
MEAN, an untrained encoder's answer, and POSED, the mean face in the pose of the landmarks.
Notebook 09, section 2.3.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..augmented.branch import AugmentedBranch, AugmentedFaces, BaseBranch, base_faces
from ..augmented.offsets import VertexOffsets
from ..data.rendered.faces import RenderedFaces
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.coefficients import FaceCoefficients
from ..face.colour import skin_tone_group
from ..face.measures import (
    albedo_error,
    dense_error,
    landmark_error,
    mean_tone,
    photometric_error,
    vertex_error_mm,
)
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace
from ..files.errors import one_line, readable_name
from ..fitting.dense import fit_points
from ..fitting.photo_light import sample_photo_colours
from ..fitting.pose_start import start_from_landmarks
from ..fitting.shading import refine_identity
from ..fitting.skin import refine_skin
from ..networks.backbones import EncoderError
from ..networks.face_networks import FaceNetwork
from ..networks.recognition import face_features, feature_distance
from ..networks.upright import encode_both_ways, encode_upright
from ..photos.crop import align, photo_to_crop
from ..photos.detection import detect
from ..photos.landmarks import DetectionError
from ..photos.reading import Photo, PhotoError, load_image
from ..pictures.faces import to_uint8
from ..rendering.synthesis import Face, pose_and_light, project_dense, synthesise
from . import surface
from .evaluation import AUGMENTED, ENCODER, FIGURE_FACES, FIT, MEAN, PIXELS, POSED, Evaluation
from .now_protocol import ScanError, now_errors, pooled

SCAN_POINTS = 4000

Branch = BaseBranch | AugmentedBranch
Progress = Callable[[int], None]  # of the number of faces done


class NoFaceError(DetectionError):
    """Nothing to evaluate."""


def evaluate_rendered(
    branch: Branch,
    faces: RenderedFaces,
    count: int = 200,
    network: FaceNetwork | None = None,
    *,
    batch: int = 16,
    scans: int = 50,
    progress: Progress | None = None,
) -> Evaluation:
    """Faces 0 to count - 1 of `faces`; scan-to-mesh (`now_protocol`) of the first `scans` of them.

    Pictures of the crop's size come with true landmarks and a detector's noise; in larger ones the
    detectors have to find the face, and `failures` lists those that they do not.
    All on one device; `faces` may have another albedo basis. Raises ValueError for a count below 1,
    DetectionError where no face is found.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 face or more, got {count}")
    failures: dict[str, str] = {}
    how, numbers = "true landmarks", torch.arange(count)
    if faces.size == CROP_SIZE:
        batches = (faces.batch(indices) for indices in numbers.split(batch))
    else:
        how, batches = "from pixels, found by detectors", _found_faces(faces, numbers, failures)
    what = f"{count} rendered faces, seed {faces.seed}, family {faces.family}: {how}"
    evaluation = evaluate_batches(branch, batches, what, network, scans=scans, progress=progress)
    evaluation.failures = failures
    return evaluation


def evaluate_photos(
    branch: Branch,
    photos: Sequence[Path | Photo],
    network: FaceNetwork | None = None,
    *,
    fit: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """The largest face of each photo, found by detectors; `failures` lists the photos without one.

    With a network, also the distance of every rendering to every photo. fit: also as FIT.
    Raises DetectionError, one line, where no photo has a face.
    """
    failures: dict[str, str] = {}
    notes: list[str] = []
    batches, more = _photo_batches(photos, failures, notes), dict(fit=fit, progress=progress)
    try:
        evaluation = evaluate_batches(branch, batches, "photos", network, cross=True, **more)
    except NoFaceError:
        first = f" (the first: {next(iter(failures.values()))})" if failures else ""
        raise DetectionError(f"no face in any of {len(photos)} photos{first}") from None
    evaluation.what = f"{len(evaluation.names)} photos"
    evaluation.failures, evaluation.photos = failures, True
    evaluation.notes += notes
    return evaluation


def shard_photos(shards: Iterable[FaceBatch]) -> list[Photo]:
    """The crops of shards as photos, each named by its key; a detector is to find the face."""
    pairs = (pair for batch in shards for pair in zip(batch.image, batch.names, strict=True))
    return [Photo(to_uint8(image), name.rpartition("/")[2]) for image, name in pairs]


def evaluate_batches(
    branch: Branch,
    batches: Iterable[FaceBatch],
    what: str,
    network: FaceNetwork | None = None,
    *,
    scans: int = 0,
    cross: bool = False,
    fit: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Any faces; `what` names them.

    network: for identity, as in Eq. 6. cross: keep the distances of all renderings to all photos.
    fit: also the faces of `facerecon fit`, of batches with dense points.
    Raises NoFaceError where there is no face, EncoderError for an answer that is not finite.
    """
    measurer = Measurer(what, branch, network, fit)
    names = measurer.evaluation.names
    for batch in batches:
        measurer.add(batch.to(measurer.model.device), scans - len(names))
        if progress is not None:
            progress(len(names))
    if not names:
        raise NoFaceError(f"{what}: no face to evaluate")
    return measurer.finish(cross)


def _found_faces(
    faces: RenderedFaces, numbers: Tensor, failures: dict[str, str]
) -> Iterator[FaceBatch]:
    """Crops of rendered photos, one per batch, as detectors cut them; with the truth.

    The true translation is of the whole photo, not of the crop.
    """
    for number in numbers.split(1):
        batch = faces.batch(number)
        photo = Photo(to_uint8(batch.image[0]), *batch.names)
        try:
            detection = detect(photo)
        except DetectionError as error:
            failures[photo.name] = str(error).removeprefix(f"{photo.name}: ").partition(";")[0]
            continue
        crop = align(photo.pixels, detection.landmarks)
        cut = dict(image=crop.image, valid=crop.valid, landmarks=crop.landmarks)
        yield replace(batch, **cut, kind=detection.kind)


def _photo_batches(
    photos: Sequence[Path | Photo], failures: dict[str, str], notes: list[str]
) -> Iterator[FaceBatch]:
    """One photo per batch. It is called by its name, or by its path where two have one name."""
    same = Counter(photo.name for photo in photos)
    for photo in photos:
        name = readable_name(photo) if same[photo.name] == 1 else one_line(photo)
        try:
            photo = load_image(photo, name=name) if isinstance(photo, Path) else photo
            detection = detect(photo)
        except (PhotoError, DetectionError) as error:
            failures[name] = str(error)
            continue
        notes += [f"{name}: {photo.note}"] * bool(photo.note)
        crop = align(photo.pixels, detection.landmarks)
        points = photo_to_crop(torch.from_numpy(detection.points), crop.matrix)[None]
        cut = crop.image, crop.valid, crop.landmarks
        yield FaceBatch(*cut, detection.kind, [name], points=points)


class Measurer:
    """Every method on every face, by every measure: fills `evaluation`, batch by batch."""

    def __init__(self, what: str, branch: Branch, network: FaceNetwork | None, fit: bool = False):
        self.detail = branch if isinstance(branch, AugmentedBranch) else None
        self.base = branch if self.detail is None else branch.base_branch
        self.network, self.encoder, self.model = network, self.base.encoder, self.base.model
        self.fit = fit
        more = [FIT] * fit + [AUGMENTED] * (self.detail is not None)
        methods = [ENCODER, *more, MEAN, POSED]
        recipe, values = dict(self.encoder.metadata), {method: {} for method in methods}
        self.evaluation = Evaluation(what, self.encoder.name, recipe, self.model, values)
        self.evaluation.light = self.base.light
        if self.detail is not None:
            self.evaluation.detail = self.detail.unet.name
        if network is not None:
            self.evaluation.recognition = network.name
            self.evaluation.same_person = network.same_person
        self.features: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.scans: dict[str, list[ScanError]] = {}
        with torch.no_grad():  # the first call is slow: not in `seconds_per_face`
            self.encoder(torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, device=self.model.device))
        self.seconds, self.started = Counter(), time.perf_counter()

    @torch.no_grad()
    def add(self, batch: FaceBatch, scans: int) -> None:
        """Measure a batch; scan-to-mesh of its first `scans` faces (none where 0 or less)."""
        model, evaluation = self.model, self.evaluation
        coefficients = self._encode(batch)
        answers = {
            ENCODER: coefficients,
            MEAN: model.neutral(len(batch)),
            POSED: start_from_landmarks(model, batch.landmarks),
        }
        if self.fit:
            answers[FIT] = self._fit(batch)
        faces = {method: synthesise(model, answer) for method, answer in answers.items()}
        truth = lacking = augmented = None
        if batch.truth is not None:
            truth = pose_and_light(model, batch.true_vertices, batch.true_albedo, batch.truth)
            lacking = truth.vertices - model.shape(batch.truth.identity, batch.truth.expression)
        if self.detail is not None:
            augmented = self._detail(coefficients, batch)
            faces[AUGMENTED], offsets = augmented.face, augmented.offsets
            answers[AUGMENTED] = coefficients
            _append(evaluation.offsets, _offset_sizes(offsets, model))
            if truth is not None:
                normals = vertex_normals(truth.vertices, model.faces)
                share = surface.relief_found(offsets.displacement, lacking, normals, model)
                _append(evaluation.offsets, {"relief_found": share})
        for method, values in evaluation.values.items():
            _append(values, self._against_photo(method, faces[method], batch))
            if batch.points is not None and model.dense is not None:
                points = project_dense(model, faces[method].vertices, answers[method])
                _append(values, {"dense": dense_error(points, batch.points)})
            if truth is not None:
                _append(values, _against_truth(faces[method], truth))
        if truth is not None:
            shape = model.shape(coefficients.identity)
            at_rest = {ENCODER: shape, MEAN: model.mean.expand_as(shape)}
            if augmented is not None:
                at_rest[AUGMENTED] = shape + offsets.displacement
            count = max(min(scans, len(batch)), 0)
            self._scan(at_rest, model.shape(batch.truth.identity) + lacking, count)
        if batch.points is not None:
            self._skin(faces, batch)
        tone = batch.tone
        if tone is None:
            skin = model.regions["skin"] > 0.5
            albedo = model.albedo(coefficients.albedo)
            tone = skin_tone_group(albedo[:, skin].mean(1).clamp(0, 1))
        else:
            evaluation.tones_source = "labels"
        if len(evaluation.names) < FIGURE_FACES:
            drawn = [faces.get(ENCODER), faces.get(AUGMENTED), truth]
            evaluation.figure_batches.append((batch.image, [f for f in drawn if f is not None]))
        evaluation.names += batch.names
        evaluation.tones += tone.tolist()

    def _encode(self, batch: FaceBatch) -> FaceCoefficients:
        start = time.perf_counter()
        coefficients = self.base.relight(encode_upright(self.encoder, batch), batch)
        finite = torch.isfinite(coefficients.to_vector()).all(1).tolist()  # waits for a GPU
        self.seconds["encoder"] += time.perf_counter() - start
        if not all(finite):
            name = batch.names[finite.index(False)]
            raise EncoderError(f"{self.encoder.name}: {name}: the answer is not finite")
        return coefficients

    def _fit(self, batch: FaceBatch) -> FaceCoefficients:
        """As `facerecon fit`, in the branch's light; the eyes look straight ahead."""
        c = encode_both_ways(self.encoder, self.model, batch)
        c = fit_points(self.model, batch.points, c)
        c = refine_identity(self.model, c, batch.image, batch.valid)
        c = refine_skin(self.model, c, batch.image, batch.valid)
        return self.base.relight(c, batch)

    def _skin(self, faces: dict[str, Face], batch: FaceBatch) -> None:
        """Tones of the methods' unlit skins, and of the photo's pixels on the encoder's."""
        weight = self.model.regions["skin"]
        colours, seen = sample_photo_colours(faces[ENCODER], batch.image, batch.valid)
        skins = {m: (face.albedo, weight) for m, face in faces.items() if m not in (MEAN, POSED)}
        for method, skin in {**skins, PIXELS: (colours, weight * seen)}.items():
            _append(self.evaluation.skin.setdefault(method, {}), mean_tone(*skin))

    def _detail(self, coefficients: FaceCoefficients, batch: FaceBatch) -> AugmentedFaces:
        start = time.perf_counter()
        base = base_faces(self.model, coefficients, batch.image.shape[-1])
        augmented = self.detail.detail(batch.image, base)
        self.seconds["detail"] += time.perf_counter() - start
        return augmented

    def _against_photo(self, method: str, face: Face, batch: FaceBatch) -> dict[str, Tensor]:
        """Landmarks, colours, identity."""
        points = face.landmarks(batch.kind)
        image, mask = face.render()
        image, mask = image.clamp(0, 1), mask * batch.valid
        errors = {
            "landmark": landmark_error(points, batch.landmarks),
            "landmark_inner": landmark_error(points, batch.landmarks, points="inner"),
            "photometric": photometric_error(image, batch.image, mask),
        }
        if self.network is not None:
            rendered, photo = (
                face_features(self.network, picture, batch.landmarks, mask)
                for picture in (image, batch.image)
            )
            covered = mask.sum((1, 2, 3)) > 0  # else both are black, and alike
            errors["identity"] = feature_distance(rendered, photo).where(covered, torch.nan)
            self.features.setdefault(method, []).append((rendered, photo))
        return errors

    def _scan(self, meshes: dict[str, Tensor], truth: Tensor, count: int) -> None:
        """NoW's error of faces at rest, with what the bases lack; NaN beyond `count`."""
        for method, mesh in meshes.items():
            errors = now_errors(self.model, mesh[:count], truth[:count], points=SCAN_POINTS)
            self.scans.setdefault(method, []).extend(errors)
            medians = [error.median for error in errors] + [math.nan] * (len(mesh) - count)
            for name in (method, POSED) if method == MEAN else (method,):
                self.evaluation.values[name].setdefault("scan_mm", []).extend(medians)

    def finish(self, cross: bool) -> Evaluation:
        """The evaluation. cross: with the distances of all renderings to all photos."""
        evaluation = self.evaluation
        self.seconds["everything"] = time.perf_counter() - self.started
        faces = len(evaluation.names)
        evaluation.seconds_per_face = {name: s / faces for name, s in self.seconds.items()}
        if any(self.scans.values()):
            evaluation.scan_to_mesh = {m: pooled(errors) for m, errors in self.scans.items()}
        for method, features in self.features.items() if cross else ():
            rendered, photos = map(torch.cat, zip(*features, strict=True))
            evaluation.distances[method] = torch.cdist(rendered, photos).cpu().tolist()
        return evaluation


def _append(values: dict[str, list[float]], errors: dict[str, Tensor]) -> None:
    for name, new in errors.items():
        values.setdefault(name, []).extend(new.cpu().tolist())


def _offset_sizes(offsets: VertexOffsets, model: MorphableModel) -> dict[str, Tensor]:
    """How large the offsets are, what of the texture is one colour, and where the skin moves."""
    shares = surface.displacement_share_by_region(offsets.displacement, model)
    return {
        "displacement_mm": surface.rms_over_skin(offsets.displacement, model),
        "texture": surface.rms_over_skin(offsets.texture, model) / 3**0.5,
        "texture_even": surface.even_share(offsets.texture, model),
    } | {f"in {area}": share for area, share in shares.items()}


def _against_truth(face: Face, truth: Face) -> dict[str, PerFace]:
    """Millimetres (with expression; medians over vertices), normals, relief, and unlit skin."""
    model, errors = face.model, {}
    for name, how in (("vertex_mm", "similarity"), ("vertex_mm_rigid", "rigid")):
        distance = vertex_error_mm(face.vertices, truth.vertices, align=how)
        errors[name] = distance.median(1).values
    skin = model.regions["skin"]
    area = surface.skin_area(model) * skin
    angle = surface.normal_error_degrees(face.vertices, truth.vertices, model.faces)
    errors["normal_deg"] = (angle * area).sum(1) / area.sum()
    errors["relief_mm"] = surface.relief_error_mm(face.vertices, truth.vertices, model)
    albedo = albedo_error(face.albedo.clamp(0, 1), truth.albedo.clamp(0, 1), skin)
    ita = albedo["ita"]
    return errors | {"albedo_rgb": albedo["rgb"], "ita_bias": ita, "ita": ita.abs()}
