"""What the commands share: where they print, how they refuse, and the options that they check."""

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console

from ..files.errors import FacereconError, one_line
from ..fitting.weights import RECOGNITION_WEIGHTS
from ..reconstruction.output_folder import OutputError

out_console, error_console = Console(highlight=False), Console(stderr=True, highlight=False)

NETWORKS = ("none", *sorted(RECOGNITION_WEIGHTS))


def say(text: str, style: str | None = None) -> None:
    """One line on stdout, however long."""
    out_console.print(text, markup=False, soft_wrap=True, style=style)


def fail(message: object) -> None:
    """One line on stderr."""
    error_console.print(f"facerecon: {one_line(message)}", markup=False, soft_wrap=True)


@contextmanager
def refusals() -> Iterator[None]:
    """Print what is wrong with options and the files they name on one line; exit 2."""
    try:
        yield
    except FacereconError as error:
        fail(error)
        raise typer.Exit(2) from None


@contextmanager
def writing(file: object) -> Iterator[None]:
    """An OSError becomes an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror or error})") from None


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that it tidies up; exits with 128 + n."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # signals are the main thread's
    numbers = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]  # nohup stays nohup
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def one_thread() -> None:
    """For small tensors: a second thread gains a fifth, and on a busy machine loses much more."""
    import torch

    torch.set_num_threads(1)


def check_choice(option: str, value: str | None, choices: Sequence[str]) -> None:
    """Raises OutputError where the value of an option is none of the choices; None is not set."""
    if value not in (None, *choices):
        *most, last = choices
        raise OutputError(f"--{option} {value}: expected {', '.join(most)} or {last}")


def check_device(device: str) -> None:
    """Raises FacereconError where torch cannot use it, or kernels can be neither read nor made."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise OutputError(f"--device {device}: expected cpu, cuda or cuda:N")
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error).split(". ")[0]
        raise OutputError(f"--device {device}: cannot be used here ({reason})") from error
    from ..rendering.rasterizer import check_rasterizer

    check_rasterizer(device)


def network_named(name: str, device: str):
    """The face-recognition network of that name, fetched if need be; None for "none"."""
    if name == "none":
        return None
    from ..networks.face_networks import facenet_file, load_network

    if name == "facenet" and not facenet_file().is_file():
        error_console.print("facerecon: fetching facenet's weights, 112 MB")
    return load_network(name, device=device, allow_download=True)
