"""A network's weights in one .safetensors file: written whole or not at all, read with no pickle.

write_weights(path, network.state_dict(), {"format": "facerecon-unet-1"}, store="float16")
state, metadata = read_weights(path, "facerecon-unet-1", UNetError, "facerecon train augmented")
path = named_file("FACERECON_UNET") or shipped_file("offset_unet.safetensors")

Notebooks 06 and 07: the encoder and the offset U-Net are such files.
"""

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import write_whole
from .errors import one_line

STORES = ("float32", "float16")


def named_file(variable: str) -> Path | None:
    """The file that an environment variable names; None where it is unset or empty."""
    named = os.environ.get(variable)
    return Path(named).expanduser() if named else None


def shipped_file(name: str) -> Path:
    """The path of a file in the package's assets."""
    return Path(str(files("facerecon_lib"))) / "assets" / name


def write_weights(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str], store: str = "float32"
) -> None:
    """Write tensors and metadata; `path` changes only once all of it is on the disk.

    store: "float32" or "float16", of tensors of two axes and more; gains and biases stay as they
    are. Raises ValueError for another `store`.
    """
    if store not in STORES:
        raise ValueError(f"store {store!r}: expected {' or '.join(STORES)}")
    stored = {}
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        smaller = store == "float16" and value.ndim > 1 and value.is_floating_point()
        stored[name] = value.half() if smaller else value
    with write_whole(path) as partial:
        save_file(stored, partial, metadata)


def read_weights(
    path: Path, expected: str, error: type[Exception], maker: str, what="file", finite=True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, float16 among them widened to float32, and metadata.

    Raises `error`, one line, when the file is missing or damaged, its format is not the `expected`
    one, or (if `finite`) a number is not finite; `what` it is, and `maker`, which makes one.
    """
    path = Path(path)
    if not path.is_file():
        raise error(f"{path}: there is no such {what}; {maker} makes one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        raise error(f"{path.name}: not a readable safetensors file ({one_line(problem)})") from None
    if metadata.get("format") != expected:
        raise error(
            f"{path.name}: no {what} of this project (format {metadata.get('format')!r}, expected "
            f"{expected!r}); {maker} makes one"
        )
    for key, value in state.items():
        if finite and not torch.isfinite(value).all():
            raise error(f"{path.name}: {key} holds numbers that are not finite; {maker} makes one")
    widened = {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}
    return widened, metadata
