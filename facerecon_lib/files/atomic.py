"""Files that appear whole or not at all.

    with write_whole(path) as partial:
        partial.write_text(text)             # `path` changes when the block is left

Every command that writes a file uses it.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


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
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
