"""What the base branch is trained to lower: Eq. 7 through the renderer, priors, and known truth.

    objective = BaseObjective(model, TRAIN_WEIGHTS, recognition=load_network("dlib"))
    result = objective(encoder(batch.image), batch)
    result.loss.backward()                               # result.terms names every part of it

The face of the coefficients is rendered and compared with the photo (Eq. 4), its landmarks with the
detected ones (Eq. 5), and its face-recognition features with the photo's (Eq. 6). With
`reduction="sum"` and REPORT_WEIGHTS that is all, as the report has it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, axis_angle_to_matrix, pose
from ..face.coefficients import FaceCoefficients
from ..face.lighting import sh_basis
from ..face.morphable_model import MorphableModel
from ..networks.recognition import FaceNetwork, chip_matrix, face_features
from ..rendering.synthesis import Face, project_landmarks, synthesise
from . import losses
from .photo_light import region_weights
from .weights import JAW_WEIGHT, PRIORS

PIXEL_SIGMA = 0.12  # of the robust photometric term, as in fitting
PHOTO_TERMS = ("pixel", "recognition")
TRUTH_TERMS = ("truth_shape", "truth_expression", "truth_albedo", "truth_pose", "truth_light")


@dataclass(eq=False)
class Objective:
    """terms: unweighted, means over the batch. loss: their weighted sum. image, mask: the rendering
    where one was made, detached."""

    terms: dict[str, Float[Tensor, ""]]
    loss: Float[Tensor, ""]
    image: Float[Tensor, "batch 3 size size"] | None
    mask: Float[Tensor, "batch 1 size size"] | None


class PhotoObjective:
    """What both branches compare with the photo: Eq. 4 to 6 of a face, whatever it was made from.

    known: the terms that may have a weight. The rest, and the errors, as of `BaseObjective`.
    """

    pixel_sigma = PIXEL_SIGMA

    def __init__(
        self,
        model: MorphableModel,
        weights: Mapping[str, float],
        known: Collection[str],
        reduction: str,
        recognition: FaceNetwork | None,
        size: int,
    ):
        unknown = set(weights) - set(known)
        if unknown:
            raise ValueError(f"weights: {min(unknown)!r} is unknown; there are {sorted(known)}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: expected 'sum' or 'mean', got {reduction!r}")
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"weights: expected 0 or more for {name!r}, got {weight}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise ValueError("weights: expected one or more above 0, got none")
        if "recognition" in self.weights and (recognition is None or size != CROP_SIZE):
            raise ValueError(
                f"recognition: a weight of {self.weights['recognition']:g} needs a network, as "
                f"from load_network('dlib'), and renderings of {CROP_SIZE} pixels, not {size}"
            )
        self.model, self.reduction = model, reduction
        self.recognition, self.size = recognition, size
        self.vertex_weights = region_weights(model)

    def photo_terms(self, face: Face, batch: FaceBatch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Eq. 4 and 6 where they have a weight; the rendering and what counts of it, detached."""
        weights = self.vertex_weights[None, :, None].expand(len(face.colours), -1, 1)
        attributes = torch.cat([face.colours, weights], -1)
        shown, mask = face.render(self.size, attributes=attributes, near=None)
        image = shown[:, :3]
        photo, valid = batch.image, batch.valid
        if self.size != photo.shape[-1]:
            photo, valid = (F.interpolate(x, (self.size,) * 2, mode="area") for x in (photo, valid))
        mask = mask * valid
        terms = {}
        if "pixel" in self.weights and self.reduction == "sum":
            terms["pixel"] = losses.pixel_loss(image, photo, mask, "sum")
        elif "pixel" in self.weights:
            weight = shown[:, 3:] * mask
            terms["pixel"] = losses.robust_pixel_loss(image, photo, weight, self.pixel_sigma)
        if "recognition" in self.weights:
            terms["recognition"] = self._recognition_term(image, photo, mask, batch.landmarks)
        return terms, image.detach(), mask.detach()

    def _recognition_term(self, image: Tensor, photo: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        # A GPU would make the host wait for the check; there landmarks of nan show in the loss.
        matrix = chip_matrix(at, self.recognition.chip, check=at.device.type == "cpu")
        with torch.no_grad():
            seen = face_features(self.recognition, photo, at, mask, matrix)
        features = face_features(self.recognition, image, at, mask, matrix)
        return losses.recognition_loss(features, seen)

    def landmark_term(self, points: Float[Tensor, "batch 68 2"], batch: FaceBatch) -> Tensor:
        """Eq. 5; as a mean it trusts a 2D detector's jaw less."""
        weights = None
        if batch.kind == "2d" and self.reduction == "mean":
            weights = points.new_ones(68)
            weights[:17] = JAW_WEIGHT
        return losses.landmark_loss(points, batch.landmarks, weights)


class BaseObjective(PhotoObjective):
    """The weighted losses of a face model. Terms of weight 0, or without one, are not computed.

    weights: of "pixel", "landmark", "recognition", of the priors of `losses.py`, and of
    TRUTH_TERMS, which only count where a batch knows its truth.
    reduction: of Eq. 4: "sum" as printed, or "mean", robust and with hair, eyes and the inside of
    the mouth counting less, as in fitting. recognition: F() of Eq. 6.
    size: pixels a side of the rendering; Eq. 6 needs the whole 224.
    Raises ValueError for an unknown reduction or weight, for a weight below 0, or where none is
    above, and for Eq. 6 without its network.
    """

    def __init__(
        self,
        model: MorphableModel,
        weights: Mapping[str, float],
        reduction: str = "mean",
        recognition: FaceNetwork | None = None,
        size: int = CROP_SIZE,
    ):
        known = {"pixel", "landmark", "recognition", *PRIORS, *TRUTH_TERMS}
        super().__init__(model, weights, known, reduction, recognition, size)
        self.points = model.landmark_model()
        self.grams = {
            name: _gram(basis, model.regions["skin"])
            for name, basis in (
                ("truth_shape", model.identity_basis),
                ("truth_expression", model.expression_basis),
                ("truth_albedo", model.albedo_basis),
            )
            if name in self.weights
        }
        self.front = _front_normals().to(model.device)

    def __call__(self, coefficients: FaceCoefficients, batch: FaceBatch) -> Objective:
        """Every term of this batch; differentiable in the coefficients.

        Raises ValueError where nothing but TRUTH_TERMS has a weight and the batch has no truth.
        """
        c = coefficients
        terms, image, mask = {}, None, None
        wanted = self.weights.keys()
        if wanted & set(PHOTO_TERMS):
            terms, image, mask = self.photo_terms(synthesise(self.model, c), batch)
        if "landmark" in wanted:
            terms["landmark"] = self._landmark_term(c, batch)
        terms |= self._priors(c)
        if batch.truth is not None:
            terms |= self._truth_terms(c, batch.truth)
        if not terms:
            raise ValueError(
                f"batch: expected faces with a known truth for {', '.join(wanted)}, which alone "
                "have a weight; give 'pixel' or 'landmark' one"
            )
        return Objective(terms, losses.weighted_sum(terms, self.weights), image, mask)

    def _landmark_term(self, c: FaceCoefficients, batch: FaceBatch) -> Tensor:
        """On the landmarks' own vertices: some hundred, not all."""
        vertices = self.points.shape(c.identity, c.expression)
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        points = project_landmarks(self.points, v_camera, c.rotation, batch.kind)
        return self.landmark_term(points, batch)

    def _priors(self, c: FaceCoefficients) -> dict[str, Tensor]:
        priors = {
            "identity": lambda: losses.coefficient_prior(c.identity),
            "expression": lambda: losses.coefficient_prior(c.expression),
            "action_range": lambda: losses.action_range_prior(self.model.actions(c.expression)),
            "albedo": lambda: losses.coefficient_prior(c.albedo),
            "scale": lambda: losses.scale_prior(c.scale),
        }
        terms = {name: prior() for name, prior in priors.items() if name in self.weights}
        if self.weights.keys() & {"light_grey", "light_level", "light_bands"}:
            light = losses.light_priors(c.lighting)
            terms |= {name: value for name, value in light.items() if name in self.weights}
        return terms

    def _truth_terms(self, c: FaceCoefficients, truth: FaceCoefficients) -> dict[str, Tensor]:
        """Distances to the known face, one a group, so that each is in units that mean something.

        truth_shape, truth_expression: mm², mean over the skin's vertices of the squared distance
        that identity, and expression, are off alone. truth_albedo: likewise, of colours in [0, 1].
        truth_pose: squared difference of the rotation matrices over 2: the angle in rad², where it
        is small. truth_light: squared difference of the shading, summed over channels, the mean
        over the half sphere that faces the viewer.
        """
        off = {
            "truth_shape": c.identity - truth.identity,
            "truth_expression": c.expression - truth.expression,
            "truth_albedo": c.albedo - truth.albedo,
        }
        terms = {
            name: torch.einsum("bi,ij,bj->b", x, self.grams[name], x).mean()
            for name, x in off.items()
            if name in self.weights
        }
        if "truth_pose" in self.weights:
            turned = axis_angle_to_matrix(c.rotation) - axis_angle_to_matrix(truth.rotation)
            terms["truth_pose"] = turned.square().sum((1, 2)).mean() / 2
        if "truth_light" in self.weights:
            shading = self.front @ (c.lighting - truth.lighting)
            terms["truth_light"] = shading.square().sum(2).mean()
        return terms


def _gram(
    basis: Float[Tensor, "mode vertex 3"], region: Float[Tensor, " vertex"]
) -> Float[Tensor, "mode mode"]:
    """a^T G a is the mean over the region of the squared length of sum a_i basis_i."""
    return torch.einsum("ivc,v,jvc->ij", basis, region / region.sum(), basis)


def _front_normals(count: int = 200) -> Float[Tensor, "count 9"]:
    """The lighting functions at normals spread over the half sphere that faces the viewer."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = i / count  # evenly in z is evenly in area
    turn = i * torch.pi * (3 - 5**0.5)
    r = (1 - z * z).sqrt()
    return sh_basis(torch.stack([r * turn.cos(), r * turn.sin(), z], -1)).float()
