"""What is installed, what is missing and what to do: `facerecon doctor`."""

from __future__ import annotations

import importlib.metadata
import platform

from rich.console import Console
from rich.table import Table

from . import __version__

PACKAGES = (
    ("torch", True, "make lab installs it"),
    ("torchvision", True, "make lab installs it"),
    ("warp-lang", True, "pip install warp-lang"),
    ("facenet-pytorch", True, "pip install --no-deps facenet-pytorch"),
    ("dlib-bin", True, "pip install --no-deps dlib-bin"),
    ("face-recognition-models", True, "pip install --no-deps face-recognition-models"),
    ("trimesh", True, "pip install trimesh"),
    ("easypytorch3d", False, "pip install 'facerecon-lib[pytorch3d]' (Linux): for comparison only"),
    ("anny", False, "pip install 'facerecon-lib[model]': only to rebuild the face model"),
    ("jupyterlab", False, "pip install 'facerecon-lib[course]': only for the notebooks"),
)


def report(console: Console) -> bool:
    """Print the tables; True when everything that fitting needs is here."""
    good = True
    table = Table(title=f"facerecon-lib {__version__}, Python {platform.python_version()}")
    for column in ("what", "state", "what to do"):
        table.add_column(column, overflow="fold")
    for name, needed, todo in PACKAGES:
        try:
            table.add_row(name, importlib.metadata.version(name), "")
        except importlib.metadata.PackageNotFoundError:
            good &= not needed
            table.add_row(name, "[red]missing[/]" if needed else "not installed", todo)
    for name, state, todo, fine in (*_devices(), _model()):
        good &= fine
        table.add_row(name, state if fine else f"[red]{state}[/]", todo)
    console.print(table)
    console.print(_detectors())
    console.print("Ready to fit photos." if good else "Not ready: see what to do above.")
    return good


def _devices():
    try:
        import torch
    except ImportError:
        return
    threads = torch.get_num_threads()
    yield "processor", f"{threads} thread{'s' * (threads > 1)}", "", True
    if torch.cuda.is_available():
        yield "GPU", torch.cuda.get_device_name(0), "", True
    else:
        yield "GPU", "none", "not needed: everything runs on the processor", True


def _model() -> tuple[str, str, str, bool]:
    from .morphable_model import ModelError, MorphableModel

    try:
        model = MorphableModel.load(subdivision=0)
    except ModelError as error:
        todo = "reinstall, or rebuild it with data_scripts/build_face_model.py"
        return "face model", str(error), todo, False
    sizes = "{} identity, {} expression, {} albedo modes".format(*model.sizes)
    return "face model", f"{model.metadata.get('name')}: {sizes}", "", True


def _detectors() -> Table:
    from .detection import detectors

    table = Table(title="detectors and weights, and the terms they come under")
    for column in ("name", "for", "state", "terms", "what to do"):
        table.add_column(column, overflow="fold")
    for row in detectors():
        state = "ready" if row["ready"] else "not here"
        table.add_row(row["name"], row["task"], state, row["licence"], row["todo"])
    return table
