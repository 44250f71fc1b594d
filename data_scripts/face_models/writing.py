"""The project's model file: written whole or not at all, and only if it loads.

    claim(out)                                             # before any work: can it be written?
    model = write_model(out, tensors, metadata)

Notebook 01, Eq. 1 and 2.
"""

import tempfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from face_models.tables import ImportModelError
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.atomic import write_whole


def claim(path: Path) -> None:
    """Make sure that the file can be written. Raises ImportModelError."""
    if path.suffix != ".safetensors":
        raise ImportModelError(f"--out {path}: expected a name that ends in .safetensors")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):  # missing folders are made for the file alone
            pass
    except OSError as error:
        raise ImportModelError(
            f"--out {path}: cannot be written ({error.strerror or error})"
        ) from None


def write_model(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> MorphableModel:
    """Write the file, if it loads; the model as it loads by default.

    Raises ImportModelError where it cannot be written, ModelError where it would not load.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as partial:
            save_file({k: np.ascontiguousarray(t) for k, t in tensors.items()}, partial, metadata)
            model = MorphableModel.load(partial)
    except (OSError, SafetensorError) as error:
        raise ImportModelError(f"--out {path}: cannot be written ({error})") from None
    model.metadata["file"] = path.name
    return model
