"""The loss of the augmented branch: Eq. 12 through the renderer, and distances to a known truth.

    objective = AugmentedObjective(model, AUGMENTED_WEIGHTS, recognition=load_network("dlib"))
    result = objective(augment(base, maps), batch)
    result.loss.backward()                               # result.terms names every part of it

Eq. 4 to 6 are of the rendering with both offsets, Eq. 8 and 9 of the maps, Eq. 10 and 11 of the
final mesh or of what was added to it. With `reduction="sum"`, `symmetry="image"`,
`smooth_on="face"` and AUGMENTED_REPORT_WEIGHTS that is Eq. 12 as printed.
Notebooks 07 and 08, Eq. 8 to 12.
"""

from collections.abc import Mapping
from functools import partial

import torch

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, axis_angle_to_matrix
from ..face.measures import similarity_align
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace
from ..fitting import losses
from ..fitting.objective import Objective, PhotoObjective, Terms
from ..networks.face_networks import FaceNetwork
from .branch import AugmentedFaces

PHOTO_TERMS = ("pixel", "landmark", "recognition")
MAP_TERMS = ("texture_l2", "displacement_l2", "texture_symmetry", "displacement_symmetry")
SMOOTH_TERMS = ("smooth_shape", "smooth_albedo")
TRUTH_TERMS = ("truth_texture", "truth_normals", "truth_vertices")


class AugmentedObjective(PhotoObjective):
    """Eq. 12's weighted sum. Terms without a weight are not computed.

    weights: of PHOTO_TERMS, MAP_TERMS, SMOOTH_TERMS, and TRUTH_TERMS; the last count only where a
    batch knows its truth. reduction: "sum" is Eq. 4, 8 and 9 as printed, over pixels and channels;
    "mean" divides by the number of pixels, and Eq. 4 is as in `BaseObjective`. recognition: F() of
    Eq. 6. symmetry: "image" flips the map, the report's reading; "mesh" compares the offsets of
    mirror vertices, which holds in any pose. smooth_on: "face" or "offsets".
    Raises ValueError as `BaseObjective`, and for an unknown choice.
    """

    # wider than the base's 0.12, since an offset has to reach skin beyond the basis, and narrower
    # than the step from skin to hair
    pixel_sigma = 0.3

    def __init__(
        self,
        model: MorphableModel,
        weights: Mapping[str, float],
        reduction: str = "mean",
        recognition: FaceNetwork | None = None,
        symmetry: str = "mesh",
        smooth_on: str = "offsets",
    ):
        names = (*PHOTO_TERMS, *MAP_TERMS, *SMOOTH_TERMS, *TRUTH_TERMS)
        super().__init__(model, weights, names, reduction, recognition, CROP_SIZE)
        if symmetry not in ("mesh", "image"):
            raise ValueError(f"symmetry: expected mesh or image, got {symmetry!r}")
        if smooth_on not in ("offsets", "face"):
            raise ValueError(f"smooth_on: expected offsets or face, got {smooth_on!r}")
        self.symmetry, self.smooth_on = symmetry, smooth_on
        self.skin = model.regions["skin"] * (1 - model.regions["border"])

    def __call__(self, augmented: AugmentedFaces, batch: FaceBatch) -> Objective:
        """Every term of this batch; differentiable in the maps. Errors as of `weigh`."""
        face, maps, offsets = augmented.face, augmented.maps, augmented.offsets
        smooth = partial(losses.smoothness_loss, faces=self.model.faces, per_face=True)
        on_face = self.smooth_on == "face"
        terms, image, mask = {}, None, None
        if self.weights.keys() & {"pixel", "recognition"}:
            terms, image, mask = self.photo_terms(face, batch)
        terms |= {
            "landmark": lambda: self.landmark_term(face.landmarks(batch.kind), batch),
            **self._map_terms("texture", maps.texture, offsets.texture),
            **self._map_terms("displacement", maps.displacement, offsets.displacement),
            "smooth_shape": lambda: smooth(face.vertices if on_face else offsets.displacement),
            "smooth_albedo": lambda: smooth(face.albedo if on_face else offsets.texture),
        }
        if batch.true_vertices is not None:
            terms |= self._truth_terms(augmented, batch)
        return self.weigh(terms, image, mask)

    def _map_terms(self, name: str, offset_map: torch.Tensor, offsets: torch.Tensor) -> Terms:
        """Eq. 8 and 9 of one map."""
        mean, moves = self.reduction == "mean", name == "displacement"
        pixels = offset_map.shape[2] * offset_map.shape[3] if mean else 1

        def symmetry() -> PerFace:
            if self.symmetry == "image":
                return losses.offset_symmetry_loss(offset_map, moves, per_face=True) / pixels
            value = losses.mesh_symmetry_loss(offsets, self.model.mirror, moves, per_face=True)
            return value if mean else value * offsets.shape[1]

        return {
            f"{name}_l2": lambda: losses.offset_l2_loss(offset_map, per_face=True) / pixels,
            f"{name}_symmetry": symmetry,
        }

    def _truth_terms(self, augmented: AugmentedFaces, batch: FaceBatch) -> Terms:
        """Distances to the known face, over the skin that the photo shows.

        truth_texture: squared difference of the unlit albedo, summed over channels.
        truth_normals: 1 - cosine between posed normals. truth_vertices: mm², after the truth is
        aligned to the base by a similarity, since a photo does not fix place and size.
        """
        face, vertices = augmented.face, batch.true_vertices
        weight = self.skin * augmented.offsets.seen.detach()
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)

        def texture() -> PerFace:
            return (weight * (face.albedo - batch.true_albedo).square().sum(-1)).sum(1)

        def normals() -> PerFace:
            rotation = axis_angle_to_matrix(batch.truth.rotation)
            true = vertex_normals(vertices, self.model.faces) @ rotation.mT
            return (weight * (1 - (face.normals * true).sum(-1))).sum(1)

        def distance() -> PerFace:
            with torch.no_grad():
                target = similarity_align(vertices, augmented.base.face.vertices)
            return (weight * (face.vertices - target).square().sum(-1)).sum(1)

        return dict(zip(TRUTH_TERMS, (texture, normals, distance), strict=True))
