"""Files that appear whole or not at all.

    claim_file(path)                         # before any work: can it be written?
    with write_whole(path) as partial:
        partial.write_text(text)             # `path` changes when the block is left

Every command that writes a file uses it.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import FacereconError


def claim_folder(folder: Path) -> None:
    """Make `folder`. Raises FacereconError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise FacereconError(f"{folder}: {reason}; choose another folder") from error


def claim_file(path: Path) -> None:
    """Raises FacereconError if `path` cannot be written. Makes nothing, nor its missing folders."""
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FacereconError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextlib.contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden file beside `path` to write; it replaces `path` unless the block raises.

    It is flushed to the disk first, and gets the permissions of the user's umask. Raises OSError.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner can read
        flush_to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def flush_to_disk(path: Path) -> None:
    """Until the file or folder is on the disk itself."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
