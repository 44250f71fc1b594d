"""One process at a time: locks that the system frees when their process dies, however it dies.

    with only_one(out / ".lock", f"{out}: another run is at it"):
        ...                                  # or a FacereconError, where another process is in here
    with only_one(part):                     # waits for it instead
        ...

Runs of training, preparations of photos and downloads use it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import FacereconError


@contextlib.contextmanager
def only_one(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock of the file `path`, which is gone afterwards.

    busy: the FacereconError where another process holds it; None waits. Where the file system has
    no locks, nobody is held up.
    """
    lock = FileLock(path, mode=0o666, timeout=-1 if busy is None else 0)
    try:
        lock.acquire()
    except Timeout:
        raise FacereconError(busy) from None
    except OSError:  # no locks there; nor a writable folder: the first file to write says so
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows keeps an open file
                path.unlink()
            lock.release()
