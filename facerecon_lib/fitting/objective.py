"""The loss: Eq. 7 through the renderer, our priors, and distances to a known truth.

    objective = BaseObjective(model, TRAIN_WEIGHTS, recognition=load_network("dlib"))
    result = objective(encoder(batch.image), batch)
    result.loss.backward()                               # result.terms names every part of it

`fit` lowers it for the coefficients of a photo, training for the weights of the encoder. With
`reduction="sum"` and REPORT_WEIGHTS it is the report's Eq. 7. Notebooks 05 and 06, Eq. 4 to 7.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, DEFAULT_FOV, axis_angle_to_matrix, pose
from ..face.coefficients import FaceCoefficients
from ..face.landmarks68 import JAW
from ..face.lighting import sh_basis
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace
from ..networks.face_networks import FaceNetwork
from ..networks.recognition import chip_matrix, face_features
from ..rendering.synthesis import Face, project_landmarks, synthesise
from . import losses
from .photo_light import region_weights
from .weights import JAW_WEIGHT, PRIORS

SKIN_TERMS = {"truth_shape": "identity", "truth_expression": "expression", "truth_albedo": "albedo"}
TRUTH_TERMS = (*SKIN_TERMS, "truth_pose", "truth_light")
Terms = dict[str, Callable[[], PerFace]]  # computed when it has a weight


@dataclass(eq=False)
class Objective:
    """The loss of a batch and its parts."""

    terms: dict[str, Float[Tensor, ""]]  # unweighted means over the batch
    loss: Float[Tensor, ""]  # their weighted sum
    image: Float[Tensor, "batch 3 size size"] | None  # the rendering, if one was made, detached
    mask: Float[Tensor, "batch 1 size size"] | None
    per_face: dict[str, PerFace] = field(default_factory=dict)  # the unweighted terms


class PhotoObjective:
    """Eq. 4 to 6 of a rendered face: what both branches share. names: of all terms."""

    pixel_sigma = 0.12  # of the robust photometric term

    def __init__(self, model, weights, names: Collection[str], reduction, recognition, size: int):
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: expected 'sum' or 'mean', got {reduction!r}")
        for name, weight in weights.items():
            if name not in names:
                raise ValueError(f"weights: {name!r} is unknown; there are {sorted(names)}")
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

    def photo_terms(self, face: Face, batch: FaceBatch) -> tuple[Terms, Tensor, Tensor]:
        """Eq. 4 and 6; the rendering and its valid pixels, detached."""
        weights = self.vertex_weights[None, :, None].expand(len(face.colours), -1, 1)
        attributes = torch.cat([face.colours, weights], -1)
        rendered, mask = face.render(self.size, attributes=attributes, near=None)
        image, trust = rendered[:, :3], rendered[:, 3:]
        photo, valid = batch.image, batch.valid
        if self.size != photo.shape[-1]:
            photo, valid = (F.interpolate(x, (self.size,) * 2, mode="area") for x in (photo, valid))
        mask = mask * valid

        def pixel() -> PerFace:
            if self.reduction == "sum":
                return losses.pixel_loss(image, photo, mask, "sum", per_face=True)
            weight, sigma = trust * mask, self.pixel_sigma
            return losses.robust_pixel_loss(image, photo, weight, sigma, per_face=True)

        def recognition() -> PerFace:
            points, network = batch.landmarks, self.recognition
            # On a GPU the check would wait; landmarks that are not finite show in the loss there.
            matrix = chip_matrix(points, network.chip, check=points.device.type == "cpu")
            with torch.no_grad():
                target = face_features(network, photo, points, mask, matrix)
            features = face_features(network, image, points, mask, matrix)
            return losses.recognition_loss(features, target, per_face=True)

        return {"pixel": pixel, "recognition": recognition}, image.detach(), mask.detach()

    def landmark_term(self, points: Float[Tensor, "batch 68 2"], batch: FaceBatch) -> PerFace:
        """Eq. 5; "mean" trusts a 2D detector's jaw less."""
        weights = None
        if batch.kind == "2d" and self.reduction == "mean":
            weights = points.new_ones(68)
            weights[JAW] = JAW_WEIGHT
        return losses.landmark_loss(points, batch.landmarks, weights, per_face=True)

    def weigh(self, terms: Terms, image: Tensor | None, mask: Tensor | None) -> Objective:
        """Compute the terms that have a weight, average and sum them, in the order of the weights.

        Raises ValueError without terms: every weight is then of a truth that the batch lacks.
        """
        per_face = {name: terms[name]() for name in self.weights if name in terms}
        if not per_face:
            raise ValueError(
                f"batch: expected faces with a known truth for {', '.join(self.weights)}, which "
                "alone have a weight; give 'pixel' or 'landmark' one"
            )
        means = {name: value.mean() for name, value in per_face.items()}
        return Objective(means, losses.weighted_sum(means, self.weights), image, mask, per_face)


class BaseObjective(PhotoObjective):
    """The weighted losses of a face model. Terms without a weight are not computed.

    weights: of "pixel", "landmark", "recognition", PRIORS, and TRUTH_TERMS; the last count only
    where a batch knows its truth, but "truth_albedo" in the place of "light_level" also for photos
    whose `skin` was learned. reduction: of Eq. 4: "sum" as printed, or "mean", robust and with
    hair, eyes and the inside of the mouth counting less. recognition: F() of Eq. 6. size: pixels
    per side of the rendering; Eq. 6 needs the whole 224. Raises ValueError for a reduction or
    weights that cannot be used, and for Eq. 6 without its network.
    """

    def __init__(
        self,
        model: MorphableModel,
        weights: Mapping[str, float],
        reduction: str = "mean",
        recognition: FaceNetwork | None = None,
        size: int = CROP_SIZE,
        fov_deg: float = DEFAULT_FOV,
    ):
        names = {"pixel", "landmark", "recognition", *PRIORS, *TRUTH_TERMS}
        super().__init__(model, weights, names, reduction, recognition, size)
        self.fov_deg = fov_deg
        self.landmark_model = model.landmark_model()
        self.grams = {}  # a^T G a: mean over the skin of the squared length of sum a_i basis_i
        skin = model.regions["skin"] / model.regions["skin"].sum()
        for term in filter(self.weights.__contains__, SKIN_TERMS):
            basis = getattr(model, f"{SKIN_TERMS[term]}_basis")
            self.grams[term] = torch.einsum("ivc,v,jvc->ij", basis, skin, basis)
        self.front = _front_normals().to(model.device)

    def __call__(self, coefficients: FaceCoefficients, batch: FaceBatch) -> Objective:
        """Every term of this batch; differentiable in the coefficients. Errors as of `weigh`."""
        c, terms, image, mask = coefficients, {}, None, None
        if self.weights.keys() & {"pixel", "recognition"}:
            face = synthesise(self.model, c, self.fov_deg)
            terms, image, mask = self.photo_terms(face, batch)
        light = cache(lambda: losses.light_priors(c.lighting, per_face=True))
        terms |= {
            "landmark": lambda: self.landmark_term(self.landmarks(c, batch.kind), batch),
            "identity": lambda: losses.coefficient_prior(c.identity, per_face=True),
            "expression": lambda: losses.coefficient_prior(c.expression, per_face=True),
            "albedo": lambda: losses.coefficient_prior(c.albedo, per_face=True),
            "action_range": lambda: losses.action_range_prior(
                self.model.actions(c.expression), per_face=True
            ),
            "scale": lambda: losses.scale_prior(c.scale, per_face=True),
            "light_grey": lambda: light()["light_grey"],
            "light_level": lambda: light()["light_level"],
            "light_bands": lambda: light()["light_bands"],
        }
        if batch.truth is not None:
            terms |= self._truth_terms(c, batch.truth)
        elif batch.skin is not None:
            known = ~batch.skin.isnan().any(1)
            error = torch.where(known[:, None], c.albedo - batch.skin.nan_to_num(), 0.0)
            terms["truth_albedo"] = lambda: self._over_skin("truth_albedo", error)
            terms["light_level"] = lambda: light()["light_level"] * ~known
        return self.weigh(terms, image, mask)

    def landmarks(self, c: FaceCoefficients, kind: str) -> Float[Tensor, "batch 68 2"]:
        """The projected landmarks, from their own hundred vertices."""
        model = self.landmark_model
        vertices = model.shape(c.identity, c.expression)
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        return project_landmarks(model, v_camera, c.rotation, kind, self.fov_deg)

    def _truth_terms(self, c: FaceCoefficients, truth: FaceCoefficients) -> Terms:
        """Distances to the known face, one per group.

        truth_shape, truth_expression: mm², mean over the skin of the squared distance that the
        error of identity, or of expression, makes alone. truth_albedo: likewise, of colours in
        [0, 1]. truth_pose: half the squared difference of the rotation matrices: the squared angle
        where it is small. truth_light: squared difference of the shading, summed over channels, the
        mean over the half sphere that faces the viewer.
        """

        def over_skin(term: str) -> PerFace:
            group = SKIN_TERMS[term]
            return self._over_skin(term, getattr(c, group) - getattr(truth, group))

        def pose_error() -> PerFace:
            error = axis_angle_to_matrix(c.rotation) - axis_angle_to_matrix(truth.rotation)
            return error.square().sum((1, 2)) / 2

        def light_error() -> PerFace:
            return (self.front @ (c.lighting - truth.lighting)).square().sum(2).mean(1)

        terms = {term: partial(over_skin, term) for term in SKIN_TERMS}
        return terms | {"truth_pose": pose_error, "truth_light": light_error}

    def _over_skin(self, term: str, error: Float[Tensor, "batch mode"]) -> PerFace:
        """The mean over the skin of the squared length of what an error of coefficients moves."""
        return torch.einsum("bi,ij,bj->b", error, self.grams[term], error)


def _front_normals() -> Float[Tensor, "200 9"]:
    """The lighting functions at normals spread over the half sphere that faces the viewer."""
    i = torch.arange(200, dtype=torch.float64) + 0.5
    z = i / 200  # even steps of z cut equal areas
    angle = i * torch.pi * (3 - 5**0.5)
    r = (1 - z * z).sqrt()
    return sh_basis(torch.stack([r * angle.cos(), r * angle.sin(), z], -1)).float()
