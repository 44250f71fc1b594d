"""MediaPipe's face detector and face mesh, from its wheel to the library's asset.

    pip download mediapipe==0.10.21 --no-deps --python-version 3.11 --only-binary :all:
    python data_scripts/convert_face_mesh.py mediapipe-0.10.21-*.whl

Needs the package `tflite`, which reads the files, and nothing of MediaPipe itself. Weights stay the
float16 numbers that they are; the mesh's depth is left out, and the table that mirrors its points
is found from the bundled photo. The same wheel gives the same numbers.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from facerecon_lib.files.streams import forgive_streams

FOLDER = "mediapipe/modules"
DETECTOR = "face_detection/face_detection_short_range.tflite"
MESH = "face_landmark/face_landmark_with_attention.tflite"
FACE = 138, 36, 318, 216  # of the bundled photo: x0, y0, x1, y1
OUT = Path(__file__).parents[1] / "facerecon_lib/assets/face_mesh.safetensors"
# The layers that end a branch have names, all others numbers in the order of the modules.
DETECTOR_ENDS = {
    "scores.0": "classificator_8",
    "scores.1": "classificator_16",
    "boxes.0": "regressor_8",
    "boxes.1": "regressor_16",
}
MESH_ENDS = {
    "points": "output_mesh",
    "presence": "conv_faceflag",
    "lips.heads.0.8": "conv_lips",
    "right_eye.heads.0.8": "conv_left_eye",  # MediaPipe's sides are the viewer's
    "right_eye.heads.1.8": "conv_left_iris",
    "left_eye.heads.0.8": "conv_right_eye",
    "left_eye.heads.1.8": "conv_right_iris",
}


def main(
    source: Annotated[Path, typer.Argument(help="The wheel, or a folder that holds its files.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
) -> None:
    """Convert the two networks."""
    try:
        size = convert(source, out)
    except (ConversionError, OSError) as error:
        typer.echo(f"convert_face_mesh: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{out}: {size / 1e6:.2f} MB")


class ConversionError(Exception):
    """Not the files that are expected. One line."""


def convert(source: Path, out: Path = OUT) -> int:
    """Write both networks of a wheel or folder; the size in bytes. Raises ConversionError."""
    import torch

    from facerecon_lib.files.weights import write_weights
    from facerecon_lib.photos.face_mesh_network import FORMAT, AttentionMesh, BlazeFace

    files = {name: read_source(source, name) for name in (DETECTOR, MESH)}
    detector, mesh = BlazeFace(), AttentionMesh()
    try:
        fill(detector, TFLite(files[DETECTOR]), DETECTOR_ENDS)
        fill(mesh, TFLite(files[MESH]), MESH_ENDS)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        message = f"{source}: holds other networks than those of mediapipe 0.10.21 ({error})"
        raise ConversionError(message) from None
    mesh.mirror.copy_(torch.from_numpy(mirror_of(mesh.eval())))
    state = torch.nn.ModuleDict({"detector": detector, "mesh": mesh}).state_dict()
    state = {k: v.half() if v.is_floating_point() else v.short() for k, v in state.items()}
    metadata = {
        "format": FORMAT,
        "source": "mediapipe 0.10.21, github.com/google-ai-edge/mediapipe",
        "licence": "Apache-2.0, The MediaPipe Authors; changed: float16 safetensors, no depth",
        "sha256": json.dumps({n: hashlib.sha256(b).hexdigest() for n, b in files.items()}),
    }
    write_weights(out, state, metadata)
    return out.stat().st_size


def read_source(source: Path, name: str) -> bytes:
    """One of the wheel's files, from the wheel or from a folder with it anywhere within."""
    if source.is_dir():
        path = next(iter(sorted(source.rglob(Path(name).name))), None)
        if path is not None:
            return path.read_bytes()
    elif not source.is_file():
        raise ConversionError(f"{source}: there is no such wheel or folder")
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            if f"{FOLDER}/{name}" in wheel.namelist():
                return wheel.read(f"{FOLDER}/{name}")
    raise ConversionError(f"{source}: holds no {Path(name).name}; mediapipe 0.10.21's wheel does")


class TFLite:
    """The constants of a .tflite file by name, and the options of its custom operations."""

    def __init__(self, content: bytes):
        try:
            import tflite
            from flatbuffers import flexbuffers
        except ImportError:
            raise ConversionError(
                "the package tflite is not installed: pip install tflite"
            ) from None
        if content[4:8] != b"TFL3":
            raise ConversionError("not a TensorFlow Lite file")
        model = tflite.Model.GetRootAsModel(content, 0)
        graph = model.Subgraphs(0)
        self.constants, self.options = {}, []
        for i in range(graph.TensorsLength()):
            tensor = graph.Tensors(i)
            if tensor.Type() == tflite.TensorType.FLOAT16:
                numbers = model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float16)
                self.constants[tensor.Name().decode()] = numbers.reshape(tensor.ShapeAsNumpy())
        for i in range(graph.OperatorsLength()):
            if graph.Operators(i).CustomOptionsLength():
                options = flexbuffers.Loads(bytes(graph.Operators(i).CustomOptionsAsNumpy()))
                self.options.append(options)

    def numbered(self, kind: str) -> list[str]:
        """Names of the layers conv2d, conv2d_1 ... in the order of their numbers."""
        names = {name.split("/")[0] for name in self.constants}
        numbers = {
            n: int(n[len(kind) + 1 :] or 0) for n in names if re.fullmatch(rf"{kind}(_\d+)?", n)
        }
        return sorted(numbers, key=numbers.get)

    def tensor(self, layer: str, what: str):
        """Kernel, Bias or Alpha as torch lays it out: (out, in, height, width), or (channel,)."""
        import torch

        numbers = self.constants[f"{layer}/{what}"].astype(np.float32)
        return torch.from_numpy(
            np.moveaxis(numbers, -1, 1) if what == "Kernel" else numbers.ravel()
        )


def fill(network, file: TFLite, ends: dict[str, str]) -> None:
    """Copy a file's weights into the modules; raises ValueError when they do not fit."""
    from torch import nn

    queues = {kind: iter(file.numbered(kind)) for kind in ("conv2d", "depthwise_conv2d", "p_re_lu")}
    for name, module in network.named_modules():
        if isinstance(module, nn.PReLU):
            put(module.weight, file.tensor(next(queues["p_re_lu"]), "Alpha"))
        if not isinstance(module, nn.Conv2d):
            continue
        depthwise = module.groups > 1
        layer = ends.get(name) or next(queues["depthwise_conv2d" if depthwise else "conv2d"])
        kernel, bias = file.tensor(layer, "Kernel"), file.tensor(layer, "Bias")
        if layer == "output_mesh":  # x, y and a depth of each point
            kernel, bias = (t.unflatten(0, (-1, 3))[:, :2].flatten(0, 1) for t in (kernel, bias))
        put(module.weight, kernel.transpose(0, 1) if depthwise else kernel)
        put(module.bias, bias)
    if left := [layer for queue in queues.values() for layer in queue]:
        raise ValueError(f"{len(left)} layers too many")
    if file.options:
        regions = network.lips, network.right_eye, network.left_eye
        for region, options in zip(regions, file.options, strict=False):
            put(region.subset, options["subset_idxs"])
            put(region.level, [options["left_rotation_idx"], options["right_rotation_idx"]])


def put(tensor, numbers) -> None:
    import torch

    numbers = torch.as_tensor(numbers)
    if tensor.shape != numbers.shape:
        raise ValueError(f"shape {tuple(numbers.shape)}, expected {tuple(tensor.shape)}")
    tensor.data.copy_(numbers)


def mirror_of(mesh) -> np.ndarray:
    """Point i of the mirrored picture is point mirror[i] of the picture, in pairs: those that lie
    nearest together in the bundled photo and its mirror image."""
    import torch
    from PIL import Image
    from scipy.optimize import linear_sum_assignment

    photo = Image.open(OUT.with_name("astronaut.jpg")).crop(FACE).resize((192, 192))
    picture = torch.from_numpy(np.array(photo)).movedim(-1, 0)[None] / 255
    with torch.no_grad():
        points, mirrored = (mesh(p)[0][0].numpy() for p in (picture, picture.flip(3)))
    mirrored[:, 0] = 192 - mirrored[:, 0]
    mirrored += points.mean(0) - mirrored.mean(0)
    apart = np.linalg.norm(mirrored[:, None] - points, axis=-1)
    return linear_sum_assignment(apart + apart.T)[1]


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
