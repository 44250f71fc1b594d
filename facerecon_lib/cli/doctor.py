"""What is installed, what is missing and what to do: `facerecon doctor`. Notebook 00."""

import importlib
import importlib.metadata
import os
import platform
import warnings
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import __version__
from ..files.errors import one_line

# distribution, module, needed to fit a photo, what to do when it is missing
PACKAGES = (
    ("torch", "torch", True, "make setup installs it"),
    ("torchvision", "torchvision", True, "make setup installs the one that fits torch"),
    ("warp-lang", "warp", True, "pip install warp-lang"),
    ("numpy", "numpy", True, "pip install numpy"),
    ("scipy", "scipy", True, "pip install scipy"),
    ("pillow", "PIL", True, "pip install pillow"),
    ("safetensors", "safetensors", True, "pip install safetensors"),
    ("jaxtyping", "jaxtyping", True, "pip install jaxtyping"),
    ("matplotlib", "matplotlib", True, "pip install matplotlib"),
    ("facenet-pytorch", "facenet_pytorch", True, "pip install --no-deps facenet-pytorch"),
    ("trimesh", "trimesh", False, "pip install trimesh: to import face models"),
    ("easypytorch3d", "pytorch3d", False, "pip install 'facerecon-lib[pytorch3d]': to compare"),
    ("anny", None, False, "pip install 'facerecon-lib[model]': to rebuild the face model"),
    ("h5py", None, False, "pip install 'facerecon-lib[models]': to import BFM 2017 or 2019"),
    ("lightning", None, False, "pip install 'facerecon-lib[train]': to train"),
    ("tensorboard", None, False, "pip install 'facerecon-lib[train]': to train"),
    ("webdataset", None, False, "pip install 'facerecon-lib[train]': shards of photos"),
    ("jupyterlab", None, False, "pip install 'facerecon-lib[course]': for the notebooks"),
)


Row = tuple[str, str, str, bool, bool]
"""What, its state, what to do, whether it works, and whether fitting a photo needs it."""


def report(console: Console) -> bool:
    """Print the tables; True when everything that fitting needs is here."""
    rows, terms = [_package(*package) for package in PACKAGES], []
    try:
        from ..networks.face_networks import networks
        from ..photos.landmarks import detectors

        rows += _devices_and_files()
        terms = [*detectors(), *networks()]
    except Exception as error:  # whatever it is, the tables are printed
        rows.append(("library", one_line(error)[:200], "see above, or reinstall", False, True))
    table = _table(f"facerecon-lib {__version__}, Python {platform.python_version()}")
    for name, state, todo, works, needed in rows:
        red = not works and (needed or state != "not installed")
        state = f"[red]{escape(state)}[/]" if red else escape(state)
        table.add_row(name, state, escape(todo))  # an extra's brackets are no markup
    console.print(table)
    columns = ("name", "for", "state", "terms", "what to do")
    table = _table("detectors and weights, and the terms they come under", columns)
    for row in terms:
        state = "ready" if row["ready"] else "not here"
        cells = row["name"], row["task"], state, row["licence"], row["todo"]
        table.add_row(*map(escape, cells))
    console.print(table)
    good = all(works or not needed for *_, works, needed in rows)
    console.print("Ready to fit photos." if good else "Not ready: see what to do above.")
    return good


def _table(title: str, columns: tuple[str, ...] = ("what", "state", "what to do")) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _package(name: str, module: str | None, needed: bool, todo: str) -> Row:
    try:
        version = importlib.metadata.version(name)
        if module is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
    except importlib.metadata.PackageNotFoundError:
        return name, "missing" if needed else "not installed", todo, False, needed
    except Exception as error:  # a package that is there and does not load, for any reason
        return name, f"does not load: {one_line(error)[:200]}", todo, False, needed
    return name, version, "", True, needed


def _devices_and_files() -> Iterator[Row]:
    """The processor and the GPU; the face model, and the two networks that are for it."""
    import torch

    from ..face.morphable_model import MorphableModel
    from ..networks.encoder import load_encoder
    from ..networks.unet import load_unet
    from ..rendering.rasterizer import check_rasterizer

    threads = torch.get_num_threads()
    yield "processor", f"{threads} thread{'s' * (threads > 1)}", "", True, True
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    todo = "" if gpu else "not needed: everything runs on the processor"
    yield "GPU", gpu or "none", todo, True, False
    todo = "$WARP_CACHE_PATH moves them"
    try:
        folder, home = check_rasterizer(), os.path.join(os.path.expanduser("~"), "")
        if folder.startswith(home):
            folder = os.path.join("~", folder.removeprefix(home))
        yield "kernels", f"compiled in {folder}", todo, True, True
    except Exception as error:
        yield "kernels", one_line(error), "set WARP_CACHE_PATH, or reinstall warp-lang", False, True
    model = None
    reconstruct = "facerecon reconstruct needs it, fit does not"
    for name, variable, load, todo in (
        ("face model", "FACERECON_MODEL", lambda _: MorphableModel.load(subdivision=0),
         "reinstall, or rebuild it with data_scripts/learn_face_model.py"),
        ("encoder", "FACERECON_ENCODER", lambda model: load_encoder(model=model),
         f"{reconstruct}; reinstall, or facerecon train base"),
        ("offset U-Net", "FACERECON_UNET", lambda model: load_unet(model=model),
         "--augmented alone needs it; reinstall, or facerecon train augmented"),
    ):  # fmt: skip
        needed = name == "face model"
        try:
            loaded = load(model)
        except Exception as error:
            if os.environ.get(variable):
                todo = f"${variable} names it: change it, or unset it"
            yield name, one_line(error)[:200], todo, False, needed
            continue
        model = loaded if needed else model
        facts = [loaded.backbone] if hasattr(loaded, "backbone") else []
        if not needed:
            facts.append(f"{sum(p.numel() for p in loaded.parameters()) / 1e6:.1f} million weights")
        if hasattr(loaded, "sizes"):
            facts.append("{} identity, {} expression, {} albedo modes".format(*loaded.sizes))
        title = loaded.metadata.get("name") if needed else loaded.name
        yield name, f"{title}: {', '.join(facts)}", "", True, needed
