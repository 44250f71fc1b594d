"""The augmented branch: the base branch's face, and a U-Net that corrects it.

    base_branch = BaseBranch(load_encoder(), model)      # frozen
    branch = AugmentedBranch(load_unet(), base_branch)
    augmented = branch(batch)                            # augmented.face is the detailed one
    augmented.base.face, augmented.maps.texture, augmented.offsets.displacement

The encoder's face is rendered; photo and rendering go into the U-Net; its two maps are sampled at
the vertices and added, texture to the albedo and displacement to the shape.
Notebook 07, section 2.2.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.batch import FaceBatch
from ..face.coefficients import FaceCoefficients
from ..face.morphable_model import MorphableModel
from ..fitting.photo_light import light_from_photo, recolour
from ..networks.encoder import Encoder
from ..networks.unet import DoubleHeadUNet, OffsetMaps
from ..networks.upright import encode_upright, quarters_of_rotation, turn_pictures
from ..rendering.synthesis import Face, pose_and_light, synthesise
from .offsets import SPACES, VertexOffsets, sample_offsets

LIGHTS = ("photo", "encoder", "free", "grey", "known")
"""The light of the base branch's face: "encoder" its own; "photo" fitted by least squares to the
photo's colours; the others solve albedo and light from the photo as `recolour` does, "known" under
the true light, which only rendered faces have."""


@dataclass(eq=False)
class BaseFaces:
    """The base branch's faces of a batch, without gradients."""

    coefficients: FaceCoefficients
    face: Face
    image: Float[Tensor, "batch 3 size size"]  # in [0, 1], 0 outside the mask
    mask: Float[Tensor, "batch 1 size size"]


@dataclass(eq=False)
class AugmentedFaces:
    """The base, the U-Net's maps, the offsets of the vertices, and the face with both added."""

    base: BaseFaces
    maps: OffsetMaps
    offsets: VertexOffsets
    face: Face
    sampling: str = "bilinear"
    space: str = "image"


class BaseBranch:
    """A frozen encoder, and the light of its face (one of LIGHTS, or ValueError).

    model: of the coefficients. It may have another albedo basis than the encoder was trained with
    if `light` is "free", "grey" or "known", which solve for the albedo.
    """

    def __init__(self, encoder: Encoder, model: MorphableModel, light: str = "photo"):
        if light not in LIGHTS:
            raise ValueError(f"light {light!r}: expected {', '.join(LIGHTS)}")
        self.encoder = encoder.eval().requires_grad_(False)
        self.model, self.light = model, light

    @torch.no_grad()
    def __call__(self, batch: FaceBatch) -> BaseFaces:
        quick = batch.image.contiguous(memory_format=torch.channels_last)
        c = encode_upright(self.encoder, replace(batch, image=quick))
        return base_faces(self.model, self.relight(c, batch), batch.image.shape[-1])

    @torch.no_grad()
    def relight(self, coefficients: FaceCoefficients, batch: FaceBatch) -> FaceCoefficients:
        """The encoder's coefficients in the branch's light.

        Raises ValueError for light "known" where the batch has no truth.
        """
        c = coefficients
        if self.light == "encoder":
            return c
        if self.light == "photo":
            return replace(c, lighting=light_from_photo(self.model, c, batch.image, batch.valid))
        if self.light == "known" and batch.truth is None:
            raise ValueError("light 'known': photos come without it; take free or grey")
        true_light = batch.truth.lighting if self.light == "known" else None
        return recolour(self.model, c, batch.image, batch.valid, self.light, true_light)


@torch.no_grad()
def base_faces(model: MorphableModel, coefficients: FaceCoefficients, size: int) -> BaseFaces:
    """The faces of any coefficients, fitted ones too, as the augmented branch takes them."""
    face = synthesise(model, coefficients)
    image, mask = face.render(size, near=None)
    return BaseFaces(coefficients, face, image.clamp(0, 1), mask)


def augment(
    base: BaseFaces, maps: OffsetMaps, sampling: str = "bilinear", space: str = "image"
) -> AugmentedFaces:
    """The face with the maps: sampled at the base's vertices, added, posed and lit again.

    Differentiable in the maps. sampling, space: as of `sample_offsets`.
    """
    offsets = sample_offsets(maps, base.face, sampling, space)
    vertices = base.face.vertices + offsets.displacement
    albedo = base.face.albedo + offsets.texture
    face = pose_and_light(base.face.model, vertices, albedo, base.coefficients, base.face.fov_deg)
    return AugmentedFaces(base, maps, offsets, face, sampling, space)


def unet_inputs(
    photo: Float[Tensor, "batch 3 size size"], base: BaseFaces, space: str = "image"
) -> tuple[Tensor, Tensor]:
    """Photo and rendering as the U-Net takes them: as they are, or unrolled to the uv plane."""
    if space == "image":
        return photo, base.image
    from .uv_space import unwrap  # with scipy, which is slow to import

    both = unwrap(torch.cat([photo, base.image], 1), base.face)
    return both[:, :3], both[:, 3:]


class AugmentedBranch:
    """A U-Net on a base branch, without gradients: photos in, detailed faces out.

    Raises ValueError where the U-Net's file names an unknown space.
    """

    def __init__(self, unet: DoubleHeadUNet, base_branch: BaseBranch):
        self.unet, self.base_branch = unet.eval(), base_branch
        self.sampling = unet.metadata.get("sampling", "bilinear")
        self.space = unet.metadata.get("space", "image")
        if self.space not in SPACES:
            raise ValueError(f"space {self.space!r}: expected {' or '.join(SPACES)}")

    def __call__(self, batch: FaceBatch) -> AugmentedFaces:
        return self.detail(batch.image, self.base_branch(batch))

    @torch.no_grad()
    def detail(self, photo: Float[Tensor, "batch 3 224 224"], base: BaseFaces) -> AugmentedFaces:
        inputs = unet_inputs(photo, base, self.space)
        quarters = quarters_of_rotation(base.coefficients.rotation)
        if self.space != "image" or not any(quarters):
            return augment(base, self.unet(*inputs), self.sampling, self.space)
        maps = self.unet(*(turn_pictures(each, [-q for q in quarters]) for each in inputs))
        maps = OffsetMaps(*(turn_pictures(each, quarters) for each in maps))
        return augment(base, maps, self.sampling, self.space)
