"""dlib's face-recognition network as a torch module: dlib itself is not needed.

    network = DlibNetwork()
    network(chips)                       # (B, 3, 150, 150) normalised -> (B, 128)

A residual network (He et al., 2016) of 29 convolutions that Davis King trained on 3 million faces
and put into the public domain. `face_networks.load_network` reads its weights, which
data_scripts/convert_dlib_network.py took from dlib's file, and puts the normalisation in front.
Notebook 05, Eq. 6.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# Per residual block: its channels, and whether it halves the picture.
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3
BLOCKS += [(128, True)] + [(128, False)] * 2 + [(256, True)] + [(256, False)] * 2 + [(256, True)]


class DlibResNet(nn.Module):
    """29 convolutions: 1 + 2 for each of the 14 blocks."""

    def __init__(self):
        super().__init__()
        layers, before = [nn.Conv2d(3, 32, 7, stride=2)], 32
        for width, down in BLOCKS:
            layers.append(nn.Conv2d(before, width, 3, 2 if down else 1, 0 if down else 1))
            layers.append(nn.Conv2d(width, width, 3, padding=1))
            before = width
        self.convolutions = nn.ModuleList(layers)

    def maps(self, x: Float[Tensor, "batch 3 150 150"]) -> list[Tensor]:
        """The feature maps after each of the 14 blocks."""
        first, *layers = self.convolutions
        x = F.max_pool2d(F.relu(first(x)), 3, stride=2)
        maps = []
        for i, (_, down) in enumerate(BLOCKS):
            y = layers[2 * i + 1](F.relu(layers[2 * i](x)))
            x = F.relu(_add(y, F.avg_pool2d(x, 2) if down else x))
            maps.append(x)
        return maps


class DlibNetwork(DlibResNet):
    """dlib's 128 numbers of a face."""

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.empty(256, 128))

    def forward(self, x: Float[Tensor, "batch 3 150 150"]) -> Float[Tensor, "batch 128"]:
        return self.maps(x)[-1].mean((2, 3)) @ self.matrix


def _add(a: Tensor, b: Tensor) -> Tensor:
    """a + b as dlib's add_prev: both padded with zeros, at the far end, to the larger size."""
    c, h, w = (max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True))
    a, b = (F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2], 0, c - x.shape[1])) for x in (a, b))
    return a + b
