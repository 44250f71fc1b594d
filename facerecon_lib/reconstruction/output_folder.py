"""Folders of results that appear whole or not at all, and never overwrite a stranger's file.

check_replaceable(out / "me")                        # before any work
with replacing(out / "me") as folder:
    (folder / "result.json").write_text(text)        # out/me changes when the block is left

Notebook 10: `facerecon fit` and `facerecon reconstruct` write such folders.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files.errors import FacereconError

ALWAYS = {"mesh.ply", "mesh.glb", "overlay.png", "figure.png", "result.json"}
DETAIL = {"base_mesh.ply", "texture_map.png", "displacement_map.png", "offset_maps.safetensors"}
WRITTEN = ALWAYS | DETAIL


class OutputError(FacereconError):
    """The results cannot be written; the message is one line and says what to do."""


def check_replaceable(folder: Path) -> None:
    """Raise OutputError unless `folder` is free, or holds only our own earlier results."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: is there already and is no folder; choose another --out")
    foreign = sorted({p.name for p in folder.iterdir()} - WRITTEN) if folder.is_dir() else []
    if foreign:
        raise OutputError(
            f"{folder}: holds {foreign[0]}, which facerecon did not write; choose another --out"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes `folder`'s place unless the block raises.

    OSError in the block or in the exchange becomes OutputError; `folder` is then as it was.
    """
    try:
        with tempfile.TemporaryDirectory(
            prefix=".facerecon-", dir=folder.parent, ignore_cleanup_errors=True
        ) as work:
            partial, aside = Path(work, "new"), Path(work, "old")
            partial.mkdir()  # with the permissions that the user's umask gives
            yield partial
            check_replaceable(folder)
            if folder.is_dir():
                folder.rename(aside)
            try:
                partial.rename(folder)
            except BaseException:
                if aside.is_dir():
                    aside.rename(folder)
                raise
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
