"""Warp's start, and its cache of compiled kernels: $WARP_CACHE_PATH, else ~/.cache/warp.

    start_warp()
    load_kernels([kernel], wp.get_device("cpu"))

Where the cache cannot be written, kernels are compiled in a temporary folder, and one line says so.
"""

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
import warp as wp

from ...files.errors import FacereconError, one_line

log = logging.getLogger(__name__)

ROOM = 4 << 20  # bytes to compile in; without them LLVM ends the process

HINT = "set WARP_CACHE_PATH to a folder that can be written"


class KernelError(FacereconError):
    """The kernels can be neither loaded nor compiled."""


@lru_cache
def start_warp() -> None:
    """Start Warp, without what its C++ side prints where there is no GPU. Raises KernelError."""
    quiet = contextlib.nullcontext if torch.cuda.is_available() else _silence
    try:
        if not os.environ.keys() & {"WARP_CACHE_PATH", "XDG_CACHE_HOME"}:
            Path.home()  # a user who has none would get a folder "~" here
        with quiet():
            wp.init()
    except (OSError, RuntimeError) as error:
        _leave_cache(error)
        with quiet():
            wp.init()


def kernel_folder() -> str:
    """Where kernels are compiled."""
    start_warp()
    return wp.config.kernel_cache_dir


def load_kernels(kernels: Sequence[wp.Kernel], device: wp.Device) -> None:
    """Load kernels of one module from the cache, or compile them. Raises KernelError.

    A damaged entry of the cache is removed first, and compiled anew.
    """
    folder, module = Path(wp.config.kernel_cache_dir), kernels[0].module
    error = _failure(kernels, device)
    if error is not None and not isinstance(error, OSError):
        for entry in folder.glob(f"wp_{module.name}_*"):
            shutil.rmtree(entry, ignore_errors=True)
        error = _failure(kernels, device)
    if error is not None:
        temporary = _leave_cache(error)
        again = _failure(kernels, device)
        if again is not None:
            raise KernelError(
                f"{folder}: no kernel can be compiled there ({_reason(error)}), nor in {temporary} "
                f"({_reason(again)}); {HINT}"
            ) from again


def _failure(kernels: Sequence[wp.Kernel], device: wp.Device) -> Exception | None:
    """What keeps them from being loaded, and from being compiled if need be."""
    folder, module = Path(wp.config.kernel_cache_dir), kernels[0].module
    threads = 1 if device.is_cpu else None  # per block, as wp.launch has them
    try:
        if not any((folder / module.get_module_identifier(threads)).glob("*.meta")):
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(ROOM))
        with _silence():
            binary = module.load(device, threads)
            if not all(binary.get_kernel_hooks(kernel).forward for kernel in kernels):
                raise RuntimeError("a kernel is missing in the compiled module")
    except Exception as error:
        module.unload()  # else Warp raises the same again
        return error
    return None


def _leave_cache(error: Exception) -> str:
    """Make a temporary folder Warp's cache, until this process ends."""
    folder = wp.config.kernel_cache_dir or "~/.cache/warp"
    try:
        temporary = tempfile.mkdtemp(prefix="facerecon-kernels-")
    except OSError as again:
        raise KernelError(
            f"{folder}: no kernel can be compiled there ({_reason(error)}), nor in a temporary "
            f"folder ({_reason(again)}); {HINT}"
        ) from again
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    wp.config.kernel_cache_dir = temporary
    log.warning(
        f"facerecon: {folder}: kernels cannot be stored there ({_reason(error)}); "
        f"they are compiled in {temporary}, for this run alone; {HINT}"
    )
    return temporary


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what C++ prints on file descriptor 2."""
    try:
        stderr = os.dup(2)
    except OSError:  # a process without a standard error
        yield
        return
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed
        sys.stderr.flush()
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
