"""dlib's face-recognition network, read from dlib's own file into torch: dlib itself is not needed.

    network = read_dlib_network(Path("dlib_face_recognition_resnet_model_v1.dat"))
    network(chips)                       # (B, 3, 150, 150) normalised -> (B, 128)

A residual network (He et al., 2016) of 29 convolutions that Davis King trained on 3 million faces
and put into the public domain. `face_networks.load_network` finds and checks the file and puts the
normalisation in front. Notebook 05, Eq. 6.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..files.errors import FacereconError

FEATURES = 128
STEM_WIDTH = 32
# Per residual block: its channels, and whether it halves the picture.
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3
BLOCKS += [(128, True)] + [(128, False)] * 2 + [(256, True)] + [(256, False)] * 2 + [(256, True)]


class DlibFileError(FacereconError):
    """The file is not dlib's network, or is damaged. One line: where reading fails."""


class DlibNetwork(nn.Module):
    """29 convolutions with their affine layers folded in: 1 + 2 for each of the 14 blocks."""

    def __init__(self, weights: list[tuple[Tensor, Tensor]], matrix: Float[Tensor, "256 128"]):
        super().__init__()
        for i, (weight, bias) in enumerate(weights):
            # channels last: a third faster on the CPU for one picture
            weight = weight.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"weight{i}", weight)
            self.register_buffer(f"bias{i}", bias)
        self.register_buffer("matrix", matrix)

    def convolve(self, x: Tensor, i: int, stride: int, padding: int) -> Tensor:
        weight, bias = getattr(self, f"weight{i}"), getattr(self, f"bias{i}")
        return F.conv2d(x, weight, bias, stride, padding)

    def forward(self, x: Float[Tensor, "batch 3 150 150"]) -> Float[Tensor, "batch 128"]:
        return residual_maps(self.convolve, x)[-1].mean((2, 3)) @ self.matrix


def residual_maps(convolve: Callable, x: Float[Tensor, "batch 3 150 150"]) -> list[Tensor]:
    """The feature maps after each of the 14 blocks; convolve(x, i, stride, padding) is layer i."""
    x = F.max_pool2d(F.relu(convolve(x, 0, stride=2, padding=0)), 3, stride=2)
    maps = []
    for i, (_, down) in enumerate(BLOCKS):
        shortcut = F.avg_pool2d(x, 2) if down else x
        y = F.relu(convolve(x, 2 * i + 1, 2 if down else 1, 0 if down else 1))
        y = convolve(y, 2 * i + 2, 1, 1)
        x = F.relu(_add(y, shortcut))
        maps.append(x)
    return maps


def _add(a: Tensor, b: Tensor) -> Tensor:
    """a + b as dlib's add_prev: both padded with zeros, at the far end, to the larger size."""
    c, h, w = (max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True))
    a, b = (F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2], 0, c - x.shape[1])) for x in (a, b))
    return a + b


def convolution_shapes() -> list[tuple[int, int, int, int]]:
    """The weights' shapes: (channels out, channels in, height, width), in the order of the file."""
    shapes = [(STEM_WIDTH, 3, 7, 7)]
    for width, _ in BLOCKS:
        shapes += [(width, shapes[-1][0], 3, 3), (width, width, 3, 3)]
    return shapes


# The file ---------------------------------------------------------------------------------------

# What dlib writes of a layer after its name: t its numbers, a the sizes of a part of them, i an
# integer (of the layer's geometry), f a float (of how fast it was trained).
LAYERS = {
    "con_4": "t" + 7 * "i" + "aa" + "ffff",
    "affine_": "taai",
    "relu_": "",
    "add_prev_": "",
    "max_pool_2": 6 * "i",
    "avg_pool_2": 6 * "i",
    "fc_2": "iitaaiffff",
}


def read_dlib_network(path: Path) -> DlibNetwork:
    """The network of dlib_face_recognition_resnet_model_v1.dat; nothing in the file is executed.

    Affine layers are folded into the convolutions before them. Raises DlibFileError where the file
    is another network, is cut short, or holds a number that is not finite; OSError when it cannot
    be read.
    """
    reader = _Reader(path.read_bytes())
    weights = []

    def convolution(*after: str) -> None:
        shape = convolution_shapes()[len(weights)]
        count = math.prod(shape)
        numbers = reader.layer("con_4", count + shape[0])
        if not weights:
            reader.ints(1)  # the first layer alone stores its sample_expansion_factor
        gain, shift = reader.layer("affine_", 2 * shape[0]).view(2, -1)
        weight, bias = numbers[:count].view(shape), numbers[count:]
        weights.append((weight * gain[:, None, None, None], bias * gain + shift))
        for name in after:
            reader.layer(name)

    convolution("relu_", "max_pool_2")
    for _, down in BLOCKS:
        convolution("relu_")
        # the pooling stands here in the file, and belongs to the shortcut
        convolution(*(["avg_pool_2"] if down else []), "add_prev_", "relu_")
    reader.layer("avg_pool_2")
    width = BLOCKS[-1][0]
    matrix = reader.layer("fc_2", width * FEATURES).view(width, FEATURES)
    if reader.at != len(reader.data):
        raise DlibFileError(f"{len(reader.data) - reader.at} bytes are left over at the end")
    if not all(x.isfinite().all() for pair in (*weights, (matrix,)) for x in pair):
        raise DlibFileError("some weights are not finite numbers")
    return DlibNetwork(weights, matrix)


class _Reader:
    """dlib's serialisation from the input layer on: integers of any length, names, numbers."""

    def __init__(self, data: bytes):
        name = b"input_rgb_image_sized"
        self.data, self.at = data, data.find(name) + len(name)
        if self.at < len(name):
            raise DlibFileError("it has no input of RGB images: is it another network?")
        self.ints(3 * 2 + 2)  # the mean colour, each a float of two integers, and the size

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise DlibFileError(
                f"it is cut short: expected {count} bytes at {self.at} of {len(self.data)}"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def ints(self, count: int) -> list[int]:
        """Each a byte of length (low nibble) and sign (top bit), then the magnitude."""
        values = []
        for _ in range(count):
            control = self.take(1)[0]
            magnitude = int.from_bytes(self.take(control & 15), "little")
            values.append(-magnitude if control & 128 else magnitude)
        return values

    def layer(self, name: str, count: int = 0) -> Float[Tensor, " count"]:
        """The numbers of the next layer, which has this name."""
        actual = self.take(*self.ints(1)).decode("latin1")
        if not actual.startswith(name):
            raise DlibFileError(
                f"expected a layer {name!r} before byte {self.at}, found {actual[:40]!r}: is it "
                "another network?"
            )
        numbers = torch.empty(0)
        for part in LAYERS[name]:
            if part == "t":
                _, *sizes = self.ints(5)
                if math.prod(sizes) != count:
                    raise DlibFileError(f"expected {count} numbers at byte {self.at}, got {sizes}")
                content = bytearray(self.take(4 * count))
                numbers = torch.frombuffer(content, dtype=torch.float32).clone()
            else:
                self.ints({"i": 1, "f": 2, "a": 5}[part])
        self.take(3)  # flags
        self.ints(3 * 5)  # gradients and outputs, empty in a trained network
        return numbers
