"""The loss of the augmented branch: Eq. 12 through the renderer, and distances to a known truth.

    objective = AugmentedObjective(model, AUGMENTED_WEIGHTS, recognition=load_network("dlib"))
    result = objective(augment(base, maps), batch)
    result.loss.backward()                               # result.terms names every part of it

Eq. 4 to 6 are of the rendering with both offsets, Eq. 8 and 9 of the maps, Eq. 10 and 11 of the
final mesh or, with `smooth_on="offsets"`, of what was added to it. With `reduction="sum"`,
`symmetry="image"`, `smooth_on="face"` and AUGMENTED_REPORT_WEIGHTS that is Eq. 12 as printed.
Notebooks 07 and 08, Eq. 8 to 12.
"""

from collections.abc import Mapping

import torch

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, axis_angle_to_matrix
from ..face.measures import similarity_align
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from ..fitting import losses
from ..fitting.objective import Objective, PhotoObjective, Terms
from ..networks.face_networks import FaceNetwork
from .branch import AugmentedFaces

PIXEL_SIGMA = 0.3
"""Of the robust photometric term: wider than the base's 0.12, since an offset has to reach skin
beyond the basis, and narrower than the step from skin to hair."""

PHOTO_TERMS = ("pixel", "landmark", "recognition")
MAP_TERMS = ("texture_l2", "displacement_l2", "texture_symmetry", "displacement_symmetry")
SMOOTH_TERMS = ("smooth_shape", "smooth_albedo")
AUGMENTED_TRUTH_TERMS = ("truth_texture", "truth_normals", "truth_vertices")


class AugmentedObjective(PhotoObjective):
    """Eq. 12's weighted sum. Terms without a weight are not computed.

    weights: of PHOTO_TERMS, MAP_TERMS, SMOOTH_TERMS, and AUGMENTED_TRUTH_TERMS; the last count only
    where a batch knows its truth.
    reduction: "sum" is Eq. 4, 8 and 9 as printed, over pixels and channels; "mean" divides by the
    number of pixels, Eq. 4 is then robust and trusts hair, eyes and the inside of the mouth less.
    recognition: F() of Eq. 6. symmetry: "image" flips the map, the report's reading; "mesh"
    compares the offsets of mirror vertices, which holds in any pose. smooth_on: "face" or
    "offsets". Raises ValueError as `BaseObjective`, and for an unknown choice.
    """

    pixel_sigma = PIXEL_SIGMA

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
        names = (*PHOTO_TERMS, *MAP_TERMS, *SMOOTH_TERMS, *AUGMENTED_TRUTH_TERMS)
        super().__init__(model, weights, names, reduction, recognition, size)
        for name, value, choices in (
            ("symmetry", symmetry, ("mesh", "image")),
            ("smooth_on", smooth_on, ("offsets", "face")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected {' or '.join(choices)}, got {value!r}")
        self.symmetry, self.smooth_on = symmetry, smooth_on
        self.skin = model.regions["skin"] * (1 - model.regions["border"])

    def __call__(self, augmented: AugmentedFaces, batch: FaceBatch) -> Objective:
        """Every term of this batch; differentiable in the maps.

        Raises ValueError when only truth terms have a weight and the batch has no truth.
        """
        terms, image, mask = {}, None, None
        if self.weights.keys() & {"pixel", "recognition"}:
            terms, image, mask = self.photo_terms(augmented.face, batch)
        if "landmark" in self.weights:
            points = augmented.face.landmarks(batch.kind)
            terms["landmark"] = self.landmark_term(points, batch)
        terms |= self._map_terms(augmented)
        terms |= self._smoothness(augmented)
        if batch.true_vertices is not None:
            terms |= self._truth_terms(augmented, batch)
        return self.weigh(terms, image, mask)

    def _map_terms(self, augmented: AugmentedFaces) -> Terms:
        """Eq. 8 and 9 of either map."""
        terms = {}
        mean = self.reduction == "mean"
        for name, offset_map, offsets in (
            ("texture", augmented.maps.texture, augmented.offsets.texture),
            ("displacement", augmented.maps.displacement, augmented.offsets.displacement),
        ):
            pixels = offset_map.shape[2] * offset_map.shape[3] if mean else 1
            moves = name == "displacement"
            if f"{name}_l2" in self.weights:
                terms[f"{name}_l2"] = losses.offset_l2_loss(offset_map, per_face=True) / pixels
            if f"{name}_symmetry" not in self.weights:
                continue
            if self.symmetry == "image":
                value = losses.offset_symmetry_loss(offset_map, moves, per_face=True) / pixels
            else:
                value = losses.mesh_symmetry_loss(offsets, self.model.mirror, moves, per_face=True)
                value = value if mean else value * offsets.shape[1]
            terms[f"{name}_symmetry"] = value
        return terms

    def _smoothness(self, augmented: AugmentedFaces) -> Terms:
        """Eq. 10 and 11."""
        face, offsets = augmented.face, augmented.offsets
        on_face = self.smooth_on == "face"
        values = {
            "smooth_shape": face.vertices if on_face else offsets.displacement,
            "smooth_albedo": face.albedo if on_face else offsets.texture,
        }
        return {
            name: losses.smoothness_loss(value, self.model.faces, per_face=True)
            for name, value in values.items()
            if name in self.weights
        }

    def _truth_terms(self, augmented: AugmentedFaces, batch: FaceBatch) -> Terms:
        """Distances to the known face, over the skin that the photo shows.

        truth_texture: squared difference of the unlit albedo, summed over channels.
        truth_normals: 1 - cosine between posed normals. truth_vertices: mm², after the truth is
        aligned to the base by a similarity, since a photo does not fix place and size.
        """
        vertices, albedo, face = batch.true_vertices, batch.true_albedo, augmented.face
        weight = self.skin * augmented.offsets.seen.detach()
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)

        terms = {}
        if "truth_texture" in self.weights:
            terms["truth_texture"] = (face.albedo - albedo).square().sum(-1)
        if "truth_normals" in self.weights:
            rotation = axis_angle_to_matrix(batch.truth.rotation)
            normals = vertex_normals(vertices, self.model.faces) @ rotation.transpose(1, 2)
            terms["truth_normals"] = 1 - (face.normals * normals).sum(-1)
        if "truth_vertices" in self.weights:
            with torch.no_grad():
                target = similarity_align(vertices, augmented.base.face.vertices)
            terms["truth_vertices"] = (face.vertices - target).square().sum(-1)
        return {name: (weight * value).sum(1) for name, value in terms.items()}
