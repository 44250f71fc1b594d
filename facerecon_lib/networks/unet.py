"""The augmented branch's network: photo and rendering to two offset maps.

    unet = load_unet()                                   # the one that ships
    maps = unet(photo, rendering)                        # texture, displacement: (B, 3, 224, 224)

A U-Net (Ronneberger et al., MICCAI 2015) with two heads. They share the way down and the first two
up-sampling blocks, as in the report: the deep and coarse (whose face, which light) serves both; the
details differ, since texture follows the photo's colours and displacement its shading. The skips go
to both. The last layers start at zero: before training the augmented face is the base face.

Group normalisation (Wu and He, ECCV 2018) ignores the other photos of the batch, so a batch of four
is enough. But any normalisation removes how far the rendering is from the photo; with norm "inner"
the blocks at full resolution have none. Measured, that is no better:
docs/model_cards/offset_unet.md. Notebook 07, section 2.2.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..face.morphable_model import MorphableModel
from ..face.shapes import expect
from ..files.errors import FacereconError
from ..files.weights import write_weights
from .network_file import NetworkFile

NORMS = ("inner", "group", "batch")
GROUP = 8  # channels that group normalisation takes together
SHARED = 2  # up-sampling blocks before the heads part

TEXTURE_SCALE = 0.1
"""What a texture head's output of 1 adds to the albedo, of colours in [0, 1]."""

DISPLACEMENT_SCALE = 1.0
"""What a displacement head's output of 1 stands for, mm."""


class UNetError(FacereconError):
    """An unusable U-Net or file; the message is one line and says what to do."""


UNET_FILE = NetworkFile(
    format="facerecon-unet-1",
    shipped="offset_unet.safetensors",
    variable="FACERECON_UNET",
    maker="facerecon train augmented",
    what="offset U-Net",
    error=UNetError,
    one_albedo=True,
)


class OffsetMaps(NamedTuple):
    """The offsets of each pixel; aligned with the photo, unless trained for uv space."""

    texture: Float[Tensor, "batch 3 224 224"]  # colour, added to the albedo in [0, 1]
    displacement: Float[Tensor, "batch 3 224 224"]  # mm, model frame (x, y, z)


class DoubleHeadUNet(nn.Module):
    """Photo and rendering, concatenated, to `OffsetMaps`.

    width: channels at full resolution, a multiple of 8; each halving doubles them.
    depth: halvings, 3 or more. norm: "inner", group normalisation but at full resolution; "group"
    or "batch", everywhere. Raises UNetError for other values.
    """

    def __init__(self, width: int = 16, depth: int = 4, norm: str = "inner"):
        super().__init__()
        check_sizes(width, depth, norm)
        self.width, self.depth, self.norm = width, depth, norm
        self.name = "untrained"  # or its file's name
        self.metadata: dict[str, str] = {}
        widths = [width * 2**level for level in range(depth + 1)]
        inner, outer = ("group", "none") if norm == "inner" else (norm, norm)
        down = [Convolutions(a, b, inner) for a, b in pairwise(widths)]
        self.down = nn.ModuleList([Convolutions(6, width, outer), *down])
        ups = list(reversed(widths[:-1]))
        self.shared = nn.ModuleList(Up(w, inner) for w in ups[:SHARED])
        self.texture = Head(ups[SHARED:], inner, outer)
        self.displacement = Head(ups[SHARED:], inner, outer)
        start_weights(self, self.texture.last, self.displacement.last)

    def forward(
        self, photo: Float[Tensor, "batch 3 224 224"], rendering: Float[Tensor, "batch 3 224 224"]
    ) -> OffsetMaps:
        """The maps, in float32 whatever precision the network runs in.

        photo, rendering: in [0, 1], of a square size that 2**depth divides.
        """
        size, step = expect("photo", photo, "batch 3 size size")["size"], 2**self.depth
        expect("rendering", rendering, "batch 3 size size", batch=len(photo), size=size)
        if not size or size % step or not photo.is_floating_point():
            raise ValueError(
                f"photo: expected floating point, of a size that {step} divides, such as 224; got "
                f"{tuple(photo.shape)}, {photo.dtype}"
            )
        if rendering.dtype != photo.dtype:
            raise ValueError(f"rendering: expected {photo.dtype} as photo, got {rendering.dtype}")
        x = torch.cat([photo, rendering], 1).to(memory_format=torch.channels_last)  # CPUs: faster
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()  # the deepest is where the way up begins
        for block in self.shared:
            x = block(x, skips.pop())
        heads = (self.texture, TEXTURE_SCALE), (self.displacement, DISPLACEMENT_SCALE)
        return OffsetMaps(*(scale * head(x, skips).float().contiguous() for head, scale in heads))


def check_sizes(width: int, depth: int, norm: str) -> None:
    """Raises UNetError for what no U-Net of these blocks can have."""
    if width < GROUP or width % GROUP:
        raise UNetError(f"width: expected a multiple of {GROUP}, got {width}")
    if depth <= SHARED:
        raise UNetError(
            f"depth: expected {SHARED + 1} or more, got {depth}: each head needs a block"
        )
    if norm not in NORMS:
        raise UNetError(f"norm {norm!r}: expected {', '.join(NORMS)}")


def start_weights(network: nn.Module, *last: nn.Conv2d) -> None:
    """He et al., ICCV 2015, else blocks of no norm may die; `last` layers start at zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in last:
        nn.init.zeros_(layer.weight)


class Convolutions(nn.Sequential):
    """Two 3 by 3 convolutions, each normalised, unless norm is "none", and rectified."""

    def __init__(self, before: int, after: int, norm: str):
        layers = []
        norms = {"group": partial(nn.GroupNorm, after // GROUP), "batch": nn.BatchNorm2d}
        for channels in (before, after):
            layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=norm == "none"))
            if norm != "none":
                layers.append(norms[norm](after))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Up(nn.Module):
    """Twice the size, half the channels, then the skip of that size beside it.

    Bilinear: transposed convolutions leave a checkerboard (Odena et al., Distill 2016), which would
    be rough skin. The 1 by 1 convolution commutes with it, and is faster on the small picture.
    """

    def __init__(self, width: int, norm: str):
        super().__init__()
        self.halve = nn.Conv2d(2 * width, width, 1)
        self.merge = Convolutions(2 * width, width, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.halve(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.merge(torch.cat([skip, x], 1))


class Head(nn.Module):
    """The up-sampling blocks of one map and its last layer."""

    def __init__(self, widths: list[int], inner: str, outer: str, channels: int = 3):
        super().__init__()
        up = [Up(width, inner) for width in widths[:-1]]
        self.up = nn.ModuleList([*up, Up(widths[-1], outer)])
        self.last = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(x, skip)
        return self.last(x)


def save_unet(
    path: Path, unet: DoubleHeadUNet, metadata: dict[str, str] | None = None, store: str = "float16"
) -> None:
    """Write the U-Net to one .safetensors file, whole or not at all.

    metadata: what it was trained for: "model", the face model's name; "albedo", "space", "light".
    store: of convolutions, "float16" or "float32"; the rest stays in float32.
    """
    own = {"format": UNET_FILE.format, "norm": unet.norm}
    own |= {"width": str(unet.width), "depth": str(unet.depth)}
    write_weights(path, unet.state_dict(), {**unet.metadata, **(metadata or {}), **own}, store)


def load_unet(
    path: Path | None = None, model: MorphableModel | None = None, device="cpu"
) -> DoubleHeadUNet:
    """A U-Net from its file, in eval mode; None: $FACERECON_UNET, or the one that ships.

    Raises UNetError for a file that is missing, damaged, or of another face model or albedo basis.
    """
    return UNET_FILE.load(path, model, device, _build)


def _build(state: dict[str, Tensor], metadata: dict[str, str]) -> DoubleHeadUNet:
    unet = DoubleHeadUNet(int(metadata["width"]), int(metadata["depth"]), metadata["norm"])
    unet.load_state_dict(state)
    return unet
