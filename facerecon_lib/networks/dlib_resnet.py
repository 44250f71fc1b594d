"""dlib's face-recognition network, read from dlib's own file into torch: dlib itself is not needed.

    network = read_dlib_network(Path("dlib_face_recognition_resnet_model_v1.dat"))
    network(chips)                       # (B, 3, 150, 150) normalised -> (B, 128)

A residual network (He et al., 2016) of 29 convolutions that Davis King trained on 3 million faces
and put into the public domain. `face_networks.load_network` finds and checks the file and puts the
normalisation in front. Notebook 05, Eq. 6.
"""

from collections.abc import Iterator
from pathlib import Path

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


def read_dlib_network(path: Path) -> DlibNetwork:
    """The network of dlib_face_recognition_resnet_model_v1.dat; nothing in the file is executed.

    Affine layers are folded into the convolutions before them. Check the file's digest first.
    """
    with torch.device("meta"):  # draws no random numbers
        network = DlibNetwork()
    network.to_empty(device="cpu")
    *numbers, matrix = _numbers(path.read_bytes())
    network.matrix.copy_(matrix.view(256, 128))
    pairs = zip(network.convolutions, numbers[::2], numbers[1::2], strict=True)
    with torch.no_grad():
        for layer, convolution, affine in pairs:
            gain, shift = affine.view(2, -1)
            weight, bias = convolution.split([layer.weight.numel(), len(layer.bias)])
            layer.weight.copy_(weight.view_as(layer.weight) * gain[:, None, None, None])
            layer.bias.copy_(bias * gain + shift)
    # channels last: a third faster on the CPU for one picture
    return network.to(memory_format=torch.channels_last)


# What dlib writes of a layer after its name: t its numbers, a the sizes of a part of them, i an
# integer (of the layer's geometry), f a float (of how fast it was trained).
_LAYERS = {
    "con_4": "t" + 7 * "i" + "aa" + "ffff",
    "affine_": "taai",
    "relu_": "",
    "add_prev_": "",
    "max_pool_2": 6 * "i",
    "avg_pool_2": 6 * "i",
    "fc_2": "iitaaiffff",
}


def _numbers(data: bytes) -> Iterator[Float[Tensor, " number"]]:
    """The numbers of each layer that has some, in the order of the file."""
    name = b"input_rgb_image_sized"
    at = data.find(name) + len(name)

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return data[at - count : at]

    def integers(count: int) -> list[int]:
        """Each a byte of length (low nibble) and sign (top bit), then the magnitude."""
        values = []
        for _ in range(count):
            control = take(1)[0]
            magnitude = int.from_bytes(take(control & 15), "little")
            values.append(-magnitude if control & 128 else magnitude)
        return values

    integers(3 * 2 + 2)  # the mean colour, each a float of two integers, and the size
    first = True
    while at < len(data):
        name = take(*integers(1)).decode("latin1")
        for part in next(parts for start, parts in _LAYERS.items() if name.startswith(start)):
            if part == "t":
                _, *sizes = integers(5)
                content = bytearray(take(4 * torch.Size(sizes).numel()))
                yield torch.frombuffer(content, dtype=torch.float32)
            else:
                integers({"i": 1, "f": 2, "a": 5}[part])
        take(3)  # flags
        integers(3 * 5)  # gradients and outputs, empty in a trained network
        if first:
            integers(1)  # the first layer alone stores its sample_expansion_factor
        first = False
