"""What the augmented branch is trained to lower: Eq. 12 through the renderer, and known truth.

    objective = AugmentedObjective(model, AUGMENTED_WEIGHTS, recognition=load_network("dlib"))
    result = objective(augment(base, maps), batch)
    result.loss.backward()                               # result.terms names every part of it

Eq. 4 to 6 are of the rendering with both offsets, Eq. 8 and 9 of the maps, Eq. 10 and 11 of the
final mesh or, with `smooth_on="offsets"`, of what was added to it. With `reduction="sum"`,
`symmetry="image"`, `smooth_on="face"` and AUGMENTED_REPORT_WEIGHTS that is Eq. 12 as printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from . import losses
from .augmented_branch import AugmentedFaces
from .camera import axis_angle_to_matrix
from .evaluation import similarity_align
from .face_batch import FaceBatch
from .mesh import vertex_normals
from .morphable_model import MorphableModel
from .objective import Objective
from .photo_colours import region_weights
from .recognition import FaceNetwork, chip_matrix, face_features
from .synthesis import CROP_SIZE, Face

PIXEL_SIGMA = 0.3
"""Of the robust photometric term: wider than the base's 0.12, since an offset has to reach skin
that the basis does not, and narrower than the step from skin to hair."""

JAW_WEIGHT = 0.3  # 2D detectors guess the jaw, as in fitting

PHOTO_TERMS = ("pixel", "landmark", "recognition")
MAP_TERMS = ("texture_l2", "displacement_l2", "texture_symmetry", "displacement_symmetry")
SMOOTH_TERMS = ("smooth_shape", "smooth_albedo")
AUGMENTED_TRUTH_TERMS = ("truth_texture", "truth_normals", "truth_vertices")


class AugmentedObjective:
    """Eq. 12's weighted sum. Terms of weight 0, or without one, are not computed.

    weights: of PHOTO_TERMS, MAP_TERMS, SMOOTH_TERMS, and of AUGMENTED_TRUTH_TERMS, which only count
    where a batch knows its truth.
    reduction: "sum" is Eq. 4, 8 and 9 as printed, over pixels and channels; "mean" divides by the
    number of pixels, Eq. 4 is then robust and trusts hair, eyes and the inside of the mouth less.
    recognition: F() of Eq. 6. symmetry: "image" flips the map, the report's reading; "mesh"
    compares what mirror vertices get, which holds in any pose. smooth_on: "face" or "offsets".
    Raises ValueError for an unknown choice or weight, for a weight below 0, or where none is above,
    and for Eq. 6 without its network.
    """

    def __init__(
        self,
        model: MorphableModel,
        weights: Mapping[str, float],
        reduction: str = "mean",
        recognition: FaceNetwork | None = None,
        symmetry: str = "mesh",
        smooth_on: str = "offsets",
        size: int = CROP_SIZE,
    ):
        known = (*PHOTO_TERMS, *MAP_TERMS, *SMOOTH_TERMS, *AUGMENTED_TRUTH_TERMS)
        for name, value, choices in (
            ("reduction", reduction, ("mean", "sum")),
            ("symmetry", symmetry, ("mesh", "image")),
            ("smooth_on", smooth_on, ("offsets", "face")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected {' or '.join(choices)}, got {value!r}")
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"weights: {name!r} is unknown; there are {', '.join(known)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"weights: expected 0 or more for {name!r}, got {weight}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise ValueError("weights: expected one or more above 0, got none")
        if "recognition" in self.weights and (recognition is None or size != CROP_SIZE):
            raise ValueError(
                "weights: 'recognition' needs a network, as recognition=load_network('dlib'), and "
                f"renderings of {CROP_SIZE} pixels, not {size}"
            )
        self.model, self.reduction, self.recognition, self.size = (
            model,
            reduction,
            recognition,
            size,
        )
        self.symmetry, self.smooth_on = symmetry, smooth_on
        self.vertex_weights = region_weights(model)
        self.skin = model.regions["skin"] * (1 - model.regions["border"])

    def __call__(self, found: AugmentedFaces, batch: FaceBatch) -> Objective:
        """Every term of this batch; differentiable in the maps.

        Raises ValueError where nothing but truth terms has a weight and the batch has no truth.
        """
        wanted = self.weights.keys()
        terms, image, mask = {}, None, None
        if wanted & {"pixel", "recognition"}:
            terms, image, mask = self._photo_terms(found.face, batch)
        if "landmark" in wanted:
            terms["landmark"] = self._landmark_term(found.face, batch)
        terms |= self._map_terms(found)
        terms |= self._smoothness(found)
        if batch.true_vertices is not None:
            terms |= self._truth_terms(found, batch)
        if not terms:
            raise ValueError(
                f"batch: expected faces with a known truth for {', '.join(wanted)}, which alone "
                "have a weight; give 'pixel' one"
            )
        terms = {name: terms[name] for name in self.weights if name in terms}
        return Objective(terms, losses.weighted_sum(terms, self.weights), image, mask)

    def _photo_terms(self, face: Face, batch: FaceBatch):
        weights = self.vertex_weights[None, :, None].expand(len(face.colours), -1, 1)
        shown, mask = face.render(
            self.size, attributes=torch.cat([face.colours, weights], -1), near=None
        )
        image, photo, valid = shown[:, :3], batch.image, batch.valid
        if self.size != photo.shape[-1]:
            photo, valid = (
                torch.nn.functional.interpolate(x, (self.size,) * 2, mode="area")
                for x in (photo, valid)
            )
        mask, terms = mask * valid, {}
        if "pixel" in self.weights and self.reduction == "sum":
            terms["pixel"] = losses.pixel_loss(image, photo, mask, "sum")
        elif "pixel" in self.weights:
            terms["pixel"] = losses.robust_pixel_loss(
                image, photo, shown[:, 3:] * mask, PIXEL_SIGMA
            )
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

    def _landmark_term(self, face: Face, batch: FaceBatch) -> Tensor:
        weights = None
        if batch.kind == "2d" and self.reduction == "mean":
            weights = face.vertices.new_ones(68)
            weights[:17] = JAW_WEIGHT
        return losses.landmark_loss(face.landmarks(batch.kind), batch.landmarks, weights)

    def _map_terms(self, found: AugmentedFaces) -> dict[str, Tensor]:
        """Eq. 8 and 9, of either map."""
        terms = {}
        mean = self.reduction == "mean"
        for name, offset_map, offsets in (
            ("texture", found.maps.texture, found.offsets.texture),
            ("displacement", found.maps.displacement, found.offsets.displacement),
        ):
            pixels = offset_map.shape[2] * offset_map.shape[3]
            moves = name == "displacement"
            if f"{name}_l2" in self.weights:
                terms[f"{name}_l2"] = losses.offset_l2_loss(offset_map) / (pixels if mean else 1)
            if f"{name}_symmetry" not in self.weights:
                continue
            if self.symmetry == "image":
                value = losses.offset_symmetry_loss(offset_map, moves) / (pixels if mean else 1)
            else:
                value = losses.mesh_symmetry_loss(offsets, self.model.mirror, moves)
                value = value if mean else value * offsets.shape[1]
            terms[f"{name}_symmetry"] = value
        return terms

    def _smoothness(self, found: AugmentedFaces) -> dict[str, Tensor]:
        """Eq. 10 and 11."""
        face, added = found.face, found.offsets
        on_face = self.smooth_on == "face"
        values = {
            "smooth_shape": face.vertices if on_face else added.displacement,
            "smooth_albedo": face.albedo if on_face else added.texture,
        }
        return {
            name: losses.smoothness_loss(value, self.model.faces)
            for name, value in values.items()
            if name in self.weights
        }

    def _truth_terms(self, found: AugmentedFaces, batch: FaceBatch) -> dict[str, Tensor]:
        """Distances to the known face, over the skin that the photo shows.

        truth_texture: squared difference of the unlit albedo, summed over channels.
        truth_normals: 1 - cosine between posed normals. truth_vertices: mm², after the truth is
        aligned to the base by a similarity, for the photo does not tell the rest.
        """
        wanted = self.weights.keys() & set(AUGMENTED_TRUTH_TERMS)
        if not wanted:
            return {}
        vertices, albedo = batch.true_vertices, batch.true_albedo
        weight = self.skin * found.offsets.seen.detach()
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)

        def mean(value: Float[Tensor, "batch vertex"]) -> Tensor:
            return (weight * value).sum(1).mean()

        terms = {}
        if "truth_texture" in wanted:
            terms["truth_texture"] = mean((found.face.albedo - albedo).square().sum(-1))
        if "truth_normals" in wanted:
            turned = axis_angle_to_matrix(batch.truth.rotation)
            normals = vertex_normals(vertices, self.model.faces) @ turned.transpose(1, 2)
            terms["truth_normals"] = mean(1 - (found.face.normals * normals).sum(-1))
        if "truth_vertices" in wanted:
            with torch.no_grad():
                target = similarity_align(vertices, found.base.face.vertices)
            terms["truth_vertices"] = mean((found.face.vertices - target).square().sum(-1))
        return terms
