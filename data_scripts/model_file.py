"""The project's model file: written whole or not at all, and only if it loads.

claim(out)                                             # before any work: can it be written?
model = write_model(out, tensors, metadata)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from imported_landmarks import ImportModelError
from safetensors import SafetensorError
from safetensors.numpy import save_file

from facerecon_lib.morphable_model import MorphableModel


def claim(path: Path) -> None:
    """Make sure that the file can be written. Raises ImportModelError."""
    if path.suffix != ".safetensors":
        raise ImportModelError(f"--out {path}: expected a name that ends in .safetensors")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        there = next(parent for parent in path.absolute().parents if parent.exists())
        trial = there / _partial(path).name  # a folder that is missing is made when there is a file
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ImportModelError(
            f"--out {path}: cannot be written ({error.strerror or error})"
        ) from None


def write_model(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> MorphableModel:
    """Write the file, whole or not at all, once it loads; the model as it loads by default.

    Raises ImportModelError where it cannot be written, ModelError where it would not load.
    """
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(t) for k, t in tensors.items()}, partial, metadata)
        model = MorphableModel.load(partial)
        partial.chmod(0o644)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise ImportModelError(f"--out {path}: cannot be written ({error})") from None
    finally:
        partial.unlink(missing_ok=True)
    model.metadata["file"] = path.name
    return model


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.stem[:40]}.part")
