"""dlib's face-recognition network, read from dlib's own file into torch: dlib itself is not needed.

    network = read_dlib_network(Path("dlib_face_recognition_resnet_model_v1.dat"))
    network(chips)                       # (B, 3, 150, 150) normalised -> (B, 128)

A residual network (He et al., 2016) of 29 convolutions that Davis King trained on 3 million faces
and put into the public domain. The file is dlib's serialisation, layer by layer from the input; it
holds numbers only, and nothing in it is executed. `recognition.load_network` is the way in for
users: it finds the file, checks it, and puts the normalisation in front.
"""

from __future__ import annotations

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
# One a residual block: the channels that come out, and whether it halves the picture.
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3
BLOCKS += [(128, True)] + [(128, False)] * 2 + [(256, True)] + [(256, False)] * 2 + [(256, True)]


class DlibFileError(FacereconError):
    """Not dlib's network, or not all of it. One line: where reading it goes wrong."""


class DlibNetwork(nn.Module):
    """29 convolutions with their affine layers folded in: 1 + 2 for each of the 14 blocks."""

    def __init__(self, weights: list[tuple[Tensor, Tensor]], matrix: Float[Tensor, "256 128"]):
        super().__init__()
        for i, (weight, bias) in enumerate(weights):
            # channels last: a third faster on the CPU, where one picture else takes slow paths
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
    size = [max(m, n) for m, n in zip(a.shape[1:], b.shape[1:], strict=True)]

    def padded(x: Tensor) -> Tensor:
        c, h, w = (n - m for n, m in zip(size, x.shape[1:], strict=True))
        return F.pad(x, (0, w, 0, h, 0, c)) if c or h or w else x

    return padded(a) + padded(b)


# The file ---------------------------------------------------------------------------------------


def read_dlib_network(path: Path) -> DlibNetwork:
    """The network of dlib_face_recognition_resnet_model_v1.dat.

    Raises DlibFileError where the file is no such network, is cut short, or holds a number that is
    not finite; OSError when it cannot be read.
    """
    reader = _Reader(path.read_bytes())
    _read_head(reader)
    shapes = [(STEM_WIDTH, 3, 7, 7)]
    for width, _ in BLOCKS:
        shapes += [(width, shapes[-1][0], 3, 3), (width, width, 3, 3)]
    weights = [_read_convolution(reader, shapes[0], stride=2, padding=0)]
    reader.expect_int(1)  # only the layer right on the input stores its sample_expansion_factor
    _read_affine(reader, weights)
    _read_plain(reader, "relu_")
    _read_pool(reader, "max_pool_2", 3)
    for i, (_, down) in enumerate(BLOCKS):
        stride, padding = (2, 0) if down else (1, 1)
        weights.append(_read_convolution(reader, shapes[2 * i + 1], stride, padding))
        _read_affine(reader, weights)
        _read_plain(reader, "relu_")
        weights.append(_read_convolution(reader, shapes[2 * i + 2], 1, 1))
        _read_affine(reader, weights)
        if down:  # it stands here in the file, and belongs to the shortcut
            _read_pool(reader, "avg_pool_2", 2)
        _read_plain(reader, "add_prev_")
        _read_plain(reader, "relu_")
    _read_pool(reader, "avg_pool_2", 0)  # 0: over the whole picture
    matrix = _read_matrix(reader, BLOCKS[-1][0])
    if reader.at != len(reader.data):
        raise DlibFileError(f"{len(reader.data) - reader.at} bytes are left over at the end")
    if not all(x.isfinite().all() for pair in (*weights, (matrix,)) for x in pair):
        raise DlibFileError("some weights are not finite numbers")
    return DlibNetwork(weights, matrix)


class _Reader:
    """dlib's serialisation: integers of any length, floats of two of them, strings and tensors."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise DlibFileError(
                f"it is cut short: {count} bytes are wanted at {self.at} of {len(self.data)}"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def int(self) -> int:
        """A byte of length (low nibble) and sign (top bit), then the magnitude, low byte first."""
        control = self.take(1)[0]
        magnitude = int.from_bytes(self.take(control & 15), "little")
        return -magnitude if control & 128 else magnitude

    def ints(self, count: int) -> list[int]:
        return [self.int() for _ in range(count)]

    def float(self) -> float:
        mantissa, exponent = self.int(), self.int()
        if abs(exponent) > 2000:
            raise DlibFileError(f"no number ends at byte {self.at}: its exponent is {exponent}")
        return math.ldexp(mantissa, exponent)

    def string(self) -> str:
        return self.take(self.int()).decode("latin1")

    def expect_int(self, *expected: int) -> None:
        found = self.ints(len(expected))
        if found != list(expected):
            raise DlibFileError(
                f"expected {list(expected)} before byte {self.at}, found {found}: is it another "
                "network?"
            )

    def expect_string(self, start: str) -> str:
        found = self.string()
        if not found.startswith(start):
            raise DlibFileError(
                f"expected a layer {start!r} before byte {self.at}, found {found[:40]!r}: is it "
                "another network?"
            )
        return found

    def tensor(self, count: int) -> Float[Tensor, " count"]:
        """Version 2, four sizes, and little-endian floats."""
        self.expect_int(2)
        sizes = self.ints(4)
        if math.prod(sizes) != count:
            raise DlibFileError(f"expected {count} numbers at byte {self.at}, found {sizes}")
        return torch.frombuffer(bytearray(self.take(4 * count)), dtype=torch.float32).clone()

    def alias(self) -> list[int]:
        """Sizes of a tensor that lies inside another one; version 1."""
        self.expect_int(1)
        return self.ints(4)

    def end_of_layer(self) -> None:
        """Three flags, and three gradients and outputs that are empty in a trained network."""
        self.take(3)
        for _ in range(3):
            self.expect_int(2, 0, 0, 0, 0)


def _read_head(reader: _Reader) -> None:
    reader.expect_int(1)
    reader.expect_string("loss_metric_2")
    reader.float(), reader.float()  # margin and threshold of the training loss
    tag = bytes([1, 21]) + b"input_rgb_image_sized"
    at = reader.data.find(tag)  # behind a version number for each layer
    if at < 0:
        raise DlibFileError("it has no input of RGB images: is it another network?")
    reader.at = at
    reader.string()
    for _ in range(3):  # the mean colour, which recognition.py writes down
        reader.float()
    reader.expect_int(150, 150)


def _read_convolution(
    reader: _Reader, shape: tuple[int, int, int, int], stride: int, padding: int
) -> tuple[Tensor, Tensor]:
    reader.expect_string("con_4")
    count = math.prod(shape)
    numbers = reader.tensor(count + shape[0])
    reader.expect_int(shape[0], *shape[2:], stride, stride, padding, padding)
    if reader.alias() != list(shape) or math.prod(reader.alias()) != shape[0]:
        raise DlibFileError(f"the convolution before byte {reader.at} is not of shape {shape}")
    for _ in range(4):  # how fast it was trained
        reader.float()
    reader.end_of_layer()
    return numbers[:count].view(shape), numbers[count:]


def _read_affine(reader: _Reader, weights: list[tuple[Tensor, Tensor]]) -> None:
    """gain * x + shift for each channel, folded into the convolution before it."""
    weight, bias = weights[-1]
    reader.expect_string("affine_")
    gain, shift = reader.tensor(2 * len(bias)).view(2, -1)
    reader.alias(), reader.alias()
    reader.int()  # its mode: convolutional
    reader.end_of_layer()
    weights[-1] = weight * gain[:, None, None, None], bias * gain + shift


def _read_plain(reader: _Reader, kind: str) -> None:
    reader.expect_string(kind)
    reader.end_of_layer()


def _read_pool(reader: _Reader, kind: str, size: int) -> None:
    reader.expect_string(kind)
    stride = 1 if size == 0 else 2
    reader.expect_int(size, size, stride, stride, 0, 0)
    reader.end_of_layer()


def _read_matrix(reader: _Reader, inputs: int) -> Float[Tensor, "256 128"]:
    reader.expect_string("fc_2")
    reader.expect_int(FEATURES, inputs)
    matrix = reader.tensor(inputs * FEATURES).view(inputs, FEATURES)
    reader.alias(), reader.alias()
    reader.expect_int(1)  # no bias
    for _ in range(4):
        reader.float()
    reader.end_of_layer()
    return matrix
