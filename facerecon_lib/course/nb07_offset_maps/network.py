"""What surrounds the student's way up: its blocks, the way down, and both as one network.

Notebook 07, section 2.2.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...networks.unet import (
    DISPLACEMENT_SCALE,
    GROUP,
    TEXTURE_SCALE,
    DoubleHeadUNet,
    OffsetMaps,
)


class Block(nn.Module):
    """Convolutions of one up-sampling block: 3 · width channels, the skip's first, to width.

    Its weights have the names and shapes of `DoubleHeadUNet`'s, which halves the coarse picture's
    channels before it enlarges it. The order does not matter: one works along the channels, the
    other within each.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width, layers = width, []
        self.halve = nn.Conv2d(2 * width, width, 1)
        for before in (2 * width, width):
            convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(width // GROUP, width), nn.ReLU(inplace=True)]
        self.merge = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch width h w"]:
        skip, coarse = x.split([self.width, 2 * self.width], 1)
        return self.merge(torch.cat([skip, self.halve(coarse)], 1))


def way_down(
    blocks: Iterable[nn.Module], photo: Tensor, rendering: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The features at the bottom, and those at the sizes above it, the coarsest first."""
    x, features = torch.cat([photo, rendering], 1), []
    for block in blocks:
        x = block(F.max_pool2d(x, 2) if features else x)
        features.append(x)
    bottom, *skips = reversed(features)
    return bottom, skips


def load_way_up(up: nn.Module, unet: DoubleHeadUNet) -> None:
    """Put a U-Net's weights into an answer to the exercise `double_head`."""
    up.shared.blocks.load_state_dict(unet.shared.state_dict())
    for ours, last, head in zip(
        (up.texture, up.displacement), up.lasts, (unet.texture, unet.displacement), strict=True
    ):
        ours.blocks.load_state_dict(head.up.state_dict())
        last.load_state_dict(head.last.state_dict())


class WholeUNet(nn.Module):
    """Photo and rendering to `OffsetMaps`: a way down, and a way up with two heads."""

    def __init__(self, down: nn.ModuleList, up: nn.Module):
        super().__init__()
        self.down, self.up = down, up

    def forward(self, photo: Tensor, rendering: Tensor) -> OffsetMaps:
        texture, displacement = self.up(*way_down(self.down, photo, rendering))
        return OffsetMaps(TEXTURE_SCALE * texture, DISPLACEMENT_SCALE * displacement)


def print_pulls(up: nn.Module, features: tuple[Tensor, list[Tensor]]) -> None:
    """Of an answer to `double_head`, the length of each map's gradient at each part."""
    parts = [(name, getattr(up, name)) for name in ("shared", "texture", "displacement")]
    parts += [(f"last layer {i}", last) for i, last in enumerate(up.lasts)]
    print(" " * 22, *(f"{name:>13}" for name, _ in parts))
    for name, one in zip(("texture", "displacement"), up(*features), strict=True):
        pull = (one * torch.linspace(-1, 1, one.numel()).view_as(one)).mean()
        print(f"{name:>12} pulls at:", *(f"{_length(pull, part):13.2f}" for _, part in parts))


def _length(pull: Tensor, part: nn.Module) -> float:
    grads = torch.autograd.grad(
        pull, [*part.parameters()], retain_graph=True, materialize_grads=True
    )
    return float(sum(grad.square().sum() for grad in grads)) ** 0.5
