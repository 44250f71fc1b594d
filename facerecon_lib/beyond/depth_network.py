"""Notebook 13's first step: a U-Net from photo and base rendering to a height.

    network = load_depth_unet()                          # the one that ships
    height = network(photo, base.image)                  # (B, 1, 224, 224) mm, over the base face

DF2Net's D-Net (Zeng, Peng and Qiao, ICCV 2019) sees the photo alone and answers with the whole
depth; ours also sees the report's base face and answers with what is to be added to it. Its blocks
are those of the report's U-Net, whose weights it may start from.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..face.morphable_model import MorphableModel
from ..files.errors import FacereconError
from ..files.weights import write_weights
from ..networks.network_file import NetworkFile
from ..networks.unet import (
    SHARED,
    Convolutions,
    DoubleHeadUNet,
    Head,
    check_sizes,
    start_weights,
)


class DepthError(FacereconError):
    """An unusable depth network or file; the message is one line and says what to do."""


DEPTH_FILE = NetworkFile(
    format="facerecon-depth-1",
    shipped="depth_unet.safetensors",
    variable="FACERECON_DEPTH",
    maker="facerecon train depth",
    what="depth network",
    error=DepthError,
)


class DepthUNet(nn.Module):
    """Photo and rendering to one map: mm over the base face, along its normals.

    pixels: the side that both are brought to before the first block, and the answer back from.
    width, depth, norm: as of `DoubleHeadUNet`. Raises UNetError for other values of these,
    DepthError for `pixels` that cannot be halved so often.
    """

    def __init__(self, pixels: int = 112, width: int = 16, depth: int = 4, norm: str = "group"):
        super().__init__()
        check_sizes(width, depth, norm)
        if pixels < 1 or pixels % 2**depth:
            raise DepthError(f"pixels {pixels}: expected a multiple of {2**depth}, such as 112")
        self.pixels, self.width, self.depth, self.norm = pixels, width, depth, norm
        self.name = "untrained"  # or its file's name
        self.metadata: dict[str, str] = {}
        widths = [width * 2**level for level in range(depth + 1)]
        inner, outer = ("group", "none") if norm == "inner" else (norm, norm)
        down = [Convolutions(a, b, inner) for a, b in pairwise(widths)]
        self.down = nn.ModuleList([Convolutions(6, width, outer), *down])
        self.head = Head(widths[-2::-1], inner, outer, channels=1)
        start_weights(self, self.head.last)

    def take(self, unet: DoubleHeadUNet) -> None:
        """The weights of a U-Net of the same sizes: its way down, and its displacement's z."""
        state = {}
        for name, value in unet.state_dict().items():
            part, _, rest = name.partition(".")
            number, _, layer = rest.removeprefix("up.").partition(".")
            if part == "down":
                state[name] = value
            elif part == "shared":
                state[f"head.up.{rest}"] = value
            elif part == "displacement" and number != "last":
                state[f"head.up.{int(number) + SHARED}.{layer}"] = value
            elif part == "displacement":
                state[f"head.{rest}"] = value[2:]
        self.load_state_dict(state)

    def forward(
        self,
        photo: Float[Tensor, "batch 3 size size"],
        rendering: Float[Tensor, "batch 3 size size"],
    ) -> Float[Tensor, "batch 1 size size"]:
        """In float32 whatever precision the network runs in. photo, rendering: in [0, 1]."""
        x = torch.cat([photo, rendering], 1)
        if x.shape[-1] != self.pixels:
            x = F.interpolate(x, (self.pixels,) * 2, mode="area")
        x, skips = x.to(memory_format=torch.channels_last), []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        height = self.head(x, skips).float()
        return F.interpolate(height, photo.shape[2:], mode="bicubic", align_corners=False)


def save_depth_unet(
    path: Path, network: DepthUNet, metadata: dict[str, str] | None = None, store: str = "float16"
) -> None:
    """Write the network to one .safetensors file, whole or not at all; store: as `save_unet`."""
    own = {"format": DEPTH_FILE.format, "norm": network.norm}
    own |= {name: str(getattr(network, name)) for name in ("pixels", "width", "depth")}
    write_weights(
        path, network.state_dict(), {**network.metadata, **(metadata or {}), **own}, store
    )


def load_depth_unet(
    path: Path | None = None, model: MorphableModel | None = None, device="cpu"
) -> DepthUNet:
    """The network from its file, in eval mode; None: $FACERECON_DEPTH, or the one that ships.

    Raises DepthError for a file that is missing, damaged, or of another face model.
    """
    return DEPTH_FILE.load(path, model, device, _build)


def _build(state: dict[str, Tensor], metadata: dict[str, str]) -> DepthUNet:
    sizes = (int(metadata[name]) for name in ("pixels", "width", "depth"))
    network = DepthUNet(*sizes, metadata["norm"])
    network.load_state_dict(state)
    return network
