"""The file of a face model: safetensors, each part of its kind and shape, or one line of error.

    tensors, metadata = read_model_file(default_model_path())

`morphable_model.MorphableModel.load` makes a model of it; `data_scripts/` writes such files.
Notebook 01, section 2.
"""

import json
from pathlib import Path

from torch import Tensor

from ..files.errors import FacereconError
from ..files.weights import named_file, read_weights, shipped_file
from .shapes import expect

FORMAT = "facerecon-face-model-1"
VARIABLE = "FACERECON_MODEL"
_SHAPES = {
    "mean": "vertex 3",
    "identity_basis": "identity vertex 3",
    "expression_basis": "expression vertex 3",
    "controls": "control expression",
    "faces": "face 3",
    "creases": "crease 2",
    "uv": "vertex 2",
    "mirror": "vertex",
    "regions": "region vertex",
    "landmarks": "68",
    "contour_bands": "17 candidate",
}
_DENSE = {
    "dense_vertices": "478",
    "dense_offsets": "478 3",
    "dense_noise": "478",
}
_INDICES = ("dense_vertices", "faces", "creases", "mirror", "landmarks", "contour_bands")


class ModelError(FacereconError):
    """A face-model file that cannot be used; the message says why and what to do."""


def default_model_path() -> Path:
    """The file that $FACERECON_MODEL names; without it, the model that ships."""
    return named_file(VARIABLE) or shipped_file("face_model.safetensors")


def read_model_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata, checked. Raises ModelError."""
    if not path.is_file():
        todo = "leave --model out"
        if path == named_file(VARIABLE):
            todo = f"${VARIABLE} names it: unset it"
        raise ModelError(f"{path}: no such face model; {todo} for the one that ships")
    data, metadata = read_weights(path, FORMAT, ModelError, "data_scripts/", "face model")
    try:
        _check_parts(data, metadata)
    except ValueError as error:
        raise ModelError(f"{path.name}: {error}; build or import it again") from None
    return data, metadata


def albedo_names(data: dict[str, Tensor]) -> list[str]:
    """The names of a file's albedo bases."""
    prefix = "albedo_mean_"
    return [key.removeprefix(prefix) for key in data if key.startswith(prefix)]


def _check_parts(data: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Every part is there, of its kind and shape, and names only vertices that exist."""
    sizes, shapes = {}, _SHAPES | (_DENSE if "dense_vertices" in data else {})
    for part, axis in (("controls", "control"), ("regions", "region")):
        try:
            sizes[axis] = len(json.loads(metadata[part]))
        except (KeyError, ValueError, TypeError):
            raise ValueError(f"its metadata lacks the list of {part}") from None
    if metadata.get("default_subdivision", "1") not in ("0", "1", "2", "3"):
        raise ValueError(
            f"its default_subdivision is {metadata['default_subdivision']!r}, not 0 to 3"
        )
    albedos = albedo_names(data)
    for a in albedos or ["<name>"]:  # on its own mesh, which may be finer
        shapes[f"albedo_mean_{a}"] = f"{a}_vertex 3"
        shapes[f"albedo_basis_{a}"] = f"{a}_mode {a}_vertex 3"
        shapes[f"albedo_samples_{a}"] = f"{a}_sample {a}_mode"
    if missing := [part for part in shapes if part not in data]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for a in albedos:
        if len(data[f"albedo_mean_{a}"]) < len(data["mean"]):
            raise ValueError(f"albedo_mean_{a} has fewer vertices than the mesh")
    for part, shape in shapes.items():
        value = data[part]
        sizes = expect(part, value, shape, **sizes)
        if value.is_floating_point() == (part in _INDICES):
            raise ValueError(f"{part} holds {value.dtype}")
        if part in _INDICES and not ((value >= 0) & (value < sizes["vertex"])).all():
            raise ValueError(f"{part} names vertices outside 0 to {sizes['vertex'] - 1}")
