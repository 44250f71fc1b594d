"""Notebook 13: wrinkles on the base face, dense, fine, finer.

    branch = WrinkleBranch(load_depth_unet(), BaseBranch(load_encoder(), model))
    detailed = branch(batch)                             # AugmentedFaces, as of the report's U-Net
    heights = branch.heights(photo, base)                # {"dense": ..., "fine": ...}, mm

After Zeng, Peng and Qiao, DF2Net, ICCV 2019: three networks there, a network and two passes
without any here. The last one, "finer", is left out by default: it invents more than it finds.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import AugmentedBranch, AugmentedFaces, BaseBranch, BaseFaces, augment
from ..face.batch import FaceBatch
from ..networks.unet import OffsetMaps
from ..networks.upright import quarters_of_rotation, turn_pictures
from .depth_maps import Map, base_maps, displacement_map
from .depth_network import DepthUNet
from .shading_depth import ShadedScene, fine_lines, refine_by_shading

PASSES = ("dense", "fine", "finer")


class WrinkleBranch(AugmentedBranch):
    """A depth network on a base branch, and passes that refine its height.

    last: of PASSES. Raises ValueError for another.
    """

    def __init__(self, network: DepthUNet, base_branch: BaseBranch, last: str = "fine"):
        if last not in PASSES:
            raise ValueError(f"last {last!r}: expected {', '.join(PASSES)}")
        super().__init__(network, base_branch)
        self.last = last

    def __call__(self, batch: FaceBatch) -> AugmentedFaces:
        return self.detail(batch.image, self.base_branch(batch), batch.valid)

    @torch.no_grad()
    def heights(
        self, photo: Float[Tensor, "batch 3 size size"], base: BaseFaces, valid: Map | None = None
    ) -> dict[str, Map]:
        """Over the base face, mm, after each pass up to the last. valid: as of a FaceBatch."""
        valid = torch.ones_like(photo[:, :1]) if valid is None else valid
        scene = ShadedScene(photo, valid, base, base_maps(base, photo.shape[-1]))
        quarters = quarters_of_rotation(base.coefficients.rotation)
        upright = (turn_pictures(x, [-q for q in quarters]) for x in (photo, base.image))
        inside = scene.maps.skin * scene.maps.mask
        heights = {"dense": inside * turn_pictures(self.unet(*upright), quarters)}
        if self.last != "dense":
            heights["fine"] = refine_by_shading(scene, heights["dense"])
        if self.last == "finer":
            heights["finer"] = heights["fine"] + fine_lines(scene)
        return heights

    @torch.no_grad()
    def detail(
        self, photo: Float[Tensor, "batch 3 size size"], base: BaseFaces, valid: Map | None = None
    ) -> AugmentedFaces:
        """With the height of the last pass; the rest as of `heights`."""
        return raised(base, self.heights(photo, base, valid)[self.last])


def raised(base: BaseFaces, height: Map) -> AugmentedFaces:
    """The base face with a height on it; hidden vertices as of the report's U-Net."""
    maps = base_maps(base, height.shape[-1])
    displacement = displacement_map(maps, height, base)
    return augment(base, OffsetMaps(torch.zeros_like(displacement), displacement))
