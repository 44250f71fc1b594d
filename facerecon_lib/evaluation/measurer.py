"""Batches of faces to an Evaluation's numbers: every method on every face, by every measure.

measurer = Measurer(BaseBranch(encoder, model, "photo"), network)
for batch in batches: measurer.add(batch, scans=0)
found = measurer.result("three batches", cross=False)
"""

from __future__ import annotations

import math
import time

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import AugmentedBranch, AugmentedFaces, BaseBranch, base_faces
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.coefficients import FaceCoefficients
from ..face.colour import skin_tone_group
from ..face.measures import albedo_error, landmark_error, photometric_error, vertex_error_mm
from ..face.mesh import vertex_normals
from ..fitting.pose_start import start_from_landmarks
from ..networks.backbones import EncoderError
from ..networks.face_networks import FaceNetwork
from ..networks.recognition import face_features, feature_distance
from ..rendering.synthesis import Face, synthesise
from .evaluation import (
    AUGMENTED,
    ENCODER,
    MEAN,
    POSED,
    SHOWN,
    Evaluation,
    Shown,
    true_face,
)
from .now_protocol import ScanError, now_errors, pooled
from .surface import (
    displacement_share_by_region,
    even_share,
    normal_error_degrees,
    relief_error_mm,
    relief_found,
    rms_over_skin,
    skin_area,
)

SCAN_POINTS = 4000


class Measurer:
    """The numbers of the faces so far, by method and measure."""

    def __init__(self, branch: BaseBranch | AugmentedBranch, network: FaceNetwork | None):
        self.detail = branch if isinstance(branch, AugmentedBranch) else None
        self.base = branch if self.detail is None else branch.base_branch
        self.network, self.encoder, self.model = network, self.base.encoder, self.base.model
        methods = [ENCODER, *([] if self.detail is None else [AUGMENTED]), MEAN, POSED]
        self.names: list[str] = []
        self.tones: list[int] = []
        self.values: dict[str, dict[str, list[float]]] = {m: {} for m in methods}
        self.offsets: dict[str, list[float]] = {}
        self.features: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self.scans: dict[str, list[ScanError]] = {}
        self.shown: list[Shown] = []
        with torch.no_grad():  # warm from here
            self.encoder(torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, device=self.model.device))
        self.encoding, self.detailing, self.has_truth = 0.0, 0.0, False
        self.started = time.perf_counter()

    @torch.no_grad()
    def add(self, batch: FaceBatch, scans: int) -> None:
        """Measure a batch; scan-to-mesh of its first `scans` faces (none where 0 or less)."""
        found = self._encode(batch)
        truth = None if batch.truth is None else true_face(self.model, batch)
        added = None if self.detail is None else self._detail(found, batch, truth)
        posed = start_from_landmarks(self.model, batch.landmarks)
        faces = {
            ENCODER: lambda: synthesise(self.model, found),
            AUGMENTED: lambda: added.face,
            MEAN: lambda: synthesise(self.model, self.model.neutral(len(batch))),
            POSED: lambda: synthesise(self.model, posed),
        }
        for method in self.values:
            face = faces[method]()
            measured = self._seen(method, face, batch)
            if truth is not None:
                measured |= _against_truth(face, truth)
            _append(self.values[method], measured)
        if truth is not None:
            self._scan(found, added, batch.truth, truth, max(min(scans, len(batch)), 0))
        skin = self.model.regions["skin"] > 0.5
        tone = batch.tone
        if tone is None:
            tone = skin_tone_group(self.model.albedo(found.albedo)[:, skin].mean(1).clamp(0, 1))
        self.has_truth = batch.tone is not None
        if len(self.names) < SHOWN:
            shown = Shown(batch.to("cpu"), found.to("cpu"))
            if added is not None:
                shown.texture = added.offsets.texture.cpu()
                shown.displacement = added.offsets.displacement.cpu()
            self.shown.append(shown)
        self.names += batch.names
        self.tones += tone.tolist()

    def _encode(self, batch: FaceBatch) -> FaceCoefficients:
        start = time.perf_counter()
        found = self.base.relight(self.encoder(batch.image), batch)
        finite = torch.isfinite(found.to_vector()).all(1).tolist()  # waits for a GPU
        self.encoding += time.perf_counter() - start
        if not all(finite):
            name = batch.names[finite.index(False)]
            raise EncoderError(f"{self.encoder.name}: {name}: the answer is not finite")
        return found

    def _detail(
        self, found: FaceCoefficients, batch: FaceBatch, truth: Face | None
    ) -> AugmentedFaces:
        """The augmented faces; notes how large their offsets are, where, and what they found."""
        start = time.perf_counter()
        base = base_faces(self.model, found, batch.image.shape[-1])
        added = self.detail.detail(batch.image, base)
        self.detailing += time.perf_counter() - start
        moved, coloured = added.offsets.displacement, added.offsets.texture
        sizes = {
            "displacement_mm": rms_over_skin(moved, self.model),
            "texture": rms_over_skin(coloured, self.model) / 3**0.5,
            "texture_even": even_share(coloured, self.model),
        }
        if truth is not None:
            lacking = truth.vertices - self.model.shape(
                batch.truth.identity, batch.truth.expression
            )
            normals = vertex_normals(truth.vertices, self.model.faces)
            sizes["relief_found"] = relief_found(moved, lacking, normals, self.model)
        shares = displacement_share_by_region(moved, self.model)
        _append(self.offsets, sizes | {f"in {area}": share for area, share in shares.items()})
        return added

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

    def _scan(
        self,
        found: FaceCoefficients,
        added: AugmentedFaces | None,
        truth: FaceCoefficients,
        true: Face,
        count: int,
    ) -> None:
        """NoW's error of faces at rest, what the bases lack included; NaN beyond `count`."""
        lacking = true.vertices - self.model.shape(truth.identity, truth.expression)
        at_rest = self.model.shape(truth.identity) + lacking
        shape = self.model.shape(found.identity)
        meshes = {ENCODER: shape, MEAN: self.model.mean.expand_as(shape)}
        if added is not None:
            meshes[AUGMENTED] = shape + added.offsets.displacement
        for method, predicted in meshes.items():
            errors = now_errors(self.model, predicted[:count], at_rest[:count], points=SCAN_POINTS)
            rest = [math.nan] * (len(shape) - count)
            self.scans.setdefault(method, []).extend(errors)
            for name in (method, POSED) if method == MEAN else (method,):
                self.values[name].setdefault("scan_mm", []).extend(
                    [e.median for e in errors] + rest
                )

    def result(self, what: str, cross: bool) -> Evaluation:
        count = len(self.names)
        seconds = {"encoder": self.encoding / count}
        if self.detail is not None:
            seconds["detail"] = self.detailing / count
        seconds["everything"] = (time.perf_counter() - self.started) / count
        found = Evaluation(
            what=what,
            encoder=self.encoder.name,
            recipe=dict(self.encoder.metadata),
            names=self.names,
            tones=self.tones,
            tones_source="labels" if self.has_truth else "estimates",
            values=self.values,
            seconds_per_face=seconds,
            shown=self.shown,
            model=self.model,
            light=self.base.light,
        )
        if self.detail is not None:
            found.detail, found.offsets = self.detail.unet.name, self.offsets
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


def _append(values: dict[str, list[float]], measured: dict[str, Tensor]) -> None:
    for name, new in measured.items():
        values.setdefault(name, []).extend(new.cpu().tolist())


def _against_truth(face: Face, truth: Face) -> dict[str, Float[Tensor, " batch"]]:
    """Millimetres (expression included, the median over vertices), normals and relief of the skin,
    and its colour without light."""
    model, measured = face.model, {}
    for name, how in (("vertex_mm", "similarity"), ("vertex_mm_rigid", "rigid")):
        error = vertex_error_mm(face.vertices, truth.vertices, align=how)
        measured[name] = error.median(1).values
    area = skin_area(model) * model.regions["skin"]
    angle = normal_error_degrees(face.vertices, truth.vertices, model.faces)
    measured["normal_deg"] = (angle * area).sum(1) / area.sum()
    measured["relief_mm"] = relief_error_mm(face.vertices, truth.vertices, model)
    skin = model.regions["skin"]
    error = albedo_error(face.albedo.clamp(0, 1), truth.albedo.clamp(0, 1), skin)
    return measured | {
        "albedo_rgb": error["rgb"],
        "ita_bias": error["ita"],
        "ita": error["ita"].abs(),
    }
