"""The file of a face model: safetensors, each part of its kind and shape, or one line why not.

    tensors, metadata = read_model_file(default_model_path())

`morphable_model.MorphableModel.load` makes a model of it; `data_scripts/` writes such files.
Notebook 01, section 2.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files.errors import FacereconError
from ..files.weights import named_file, shipped_file
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
_INDICES = ("faces", "creases", "mirror", "landmarks", "contour_bands")


class ModelError(FacereconError):
    """A face-model file that cannot be used; the message says why and what to do."""


def default_model_path() -> Path:
    """The file that $FACERECON_MODEL names; without it, the model that ships."""
    return named_file(VARIABLE) or shipped_file("face_model.safetensors")


def read_model_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata, checked. Raises ModelError."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; a face model is one .safetensors file")
    if not path.is_file():
        todo = "leave --model out"
        if path == named_file(VARIABLE):
            todo = f"${VARIABLE} names it: unset it"
        raise ModelError(f"{path}: no such face model; {todo} for the one that ships")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name}: not a readable safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path.name}: not a face model of this project (format "
            f"{metadata.get('format')!r}, expected {FORMAT!r}); data_scripts/ makes one"
        )
    _check_parts(path, data, metadata)
    return data, metadata


def albedo_names(data: dict[str, Tensor]) -> list[str]:
    """The names of a file's albedo bases."""
    prefix = "albedo_mean_"
    return [key.removeprefix(prefix) for key in data if key.startswith(prefix)]


def _check_parts(path: Path, data: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Every part is there, of its kind and shape, finite, and names only vertices that exist."""

    def refuse(why: str) -> None:
        raise ModelError(f"{path.name}: {why}; build or import it again")

    names = {}
    for part in ("controls", "regions"):
        try:
            names[part] = json.loads(metadata[part])
        except (KeyError, ValueError):
            refuse(f"its metadata lacks the list of {part}")
    albedos = albedo_names(data)
    parts = list(_SHAPES) + [f"albedo_{x}_{a}" for a in albedos for x in ("basis", "samples")]
    missing = [part for part in parts if part not in data]
    if missing or not albedos:
        refuse(f"lacks {', '.join(missing or ['albedo_mean_<name>'])}")
    if metadata.get("default_subdivision", "1") not in ("0", "1", "2", "3"):
        refuse(f"its default_subdivision is {metadata['default_subdivision']!r}, not 0 to 3")
    sizes = {"control": len(names["controls"]), "region": len(names["regions"])}
    shapes = dict(_SHAPES)
    for a in albedos:  # on its own mesh, which may be finer
        shapes[f"albedo_mean_{a}"] = f"{a}_vertex 3"
        shapes[f"albedo_basis_{a}"] = f"{a}_mode {a}_vertex 3"
        shapes[f"albedo_samples_{a}"] = f"{a}_sample {a}_mode"
        if len(data[f"albedo_mean_{a}"]) < len(data["mean"]):
            refuse(f"albedo_mean_{a} has fewer vertices than the mesh")
    for part, shape in shapes.items():
        value = data[part]
        try:
            sizes = expect(part, value, shape, **sizes)
        except ValueError as error:
            refuse(str(error))
        if value.is_floating_point() == (part in _INDICES):
            refuse(f"{part} holds {value.dtype}")
        if value.is_floating_point() and not torch.isfinite(value).all():
            refuse(f"{part} holds numbers that are not finite")
        if part in _INDICES and value.numel():
            low, high = int(value.min()), int(value.max())
            if low < 0 or high >= sizes["vertex"]:
                refuse(f"{part} names vertices outside 0 to {sizes['vertex'] - 1}")
