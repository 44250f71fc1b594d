"""What is installed, what is missing and what to do: `facerecon doctor`."""

import importlib
import importlib.metadata
import os
import platform
import warnings

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
    ("dlib-bin", "dlib", True, "pip install --no-deps dlib-bin"),
    ("face-recognition-models", None, True, "pip install --no-deps face-recognition-models"),
    ("trimesh", "trimesh", True, "pip install trimesh"),
    ("easypytorch3d", "pytorch3d", False, "pip install 'facerecon-lib[pytorch3d]': to compare"),
    ("anny", None, False, "pip install 'facerecon-lib[model]': to rebuild the face model"),
    ("h5py", None, False, "pip install 'facerecon-lib[models]': to import BFM 2017 or 2019"),
    ("lightning", None, False, "pip install 'facerecon-lib[train]': to train"),
    ("tensorboard", None, False, "pip install 'facerecon-lib[train]': to train"),
    ("webdataset", None, False, "pip install 'facerecon-lib[train]': shards of photos"),
    ("jupyterlab", None, False, "pip install 'facerecon-lib[course]': for the notebooks"),
)


def report(console: Console) -> bool:
    """Print the tables; True when everything that fitting needs is here."""
    good = True
    table = Table(title=f"facerecon-lib {__version__}, Python {platform.python_version()}")
    for column in ("what", "state", "what to do"):
        table.add_column(column, overflow="fold")
    for name, module, needed, todo in PACKAGES:
        try:
            version = importlib.metadata.version(name)
            if module is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    importlib.import_module(module)
            table.add_row(name, version, "")
        except importlib.metadata.PackageNotFoundError:
            good &= not needed
            table.add_row(name, "[red]missing[/]" if needed else "not installed", todo)
        except Exception as error:  # a package that is there and does not load, for any reason
            good &= not needed
            table.add_row(name, f"[red]does not load: {escape(one_line(error)[:200])}[/]", todo)
    model, row = _model()
    for name, state, todo, fine in (*_devices(), row, _encoder(model), _unet(model)):
        good &= fine or name in ("encoder", "offset U-Net")  # fitting does without
        table.add_row(name, escape(state) if fine else f"[red]{escape(state)}[/]", todo)
    console.print(table)
    try:
        console.print(_detectors())
    except Exception as error:
        good = False
        console.print(f"detectors: {one_line(error)[:200]}", markup=False)
    console.print("Ready to fit photos." if good else "Not ready: see what to do above.")
    return good


def _devices():
    try:
        import torch
    except Exception:  # reported in the table of packages
        return
    threads = torch.get_num_threads()
    yield "processor", f"{threads} thread{'s' * (threads > 1)}", "", True
    if torch.cuda.is_available():
        yield "GPU", torch.cuda.get_device_name(0), "", True
    else:
        yield "GPU", "none", "not needed: everything runs on the processor", True


def _model():
    """(face model, row); None where it does not load."""
    try:
        from ..face.morphable_model import MorphableModel

        model = MorphableModel.load(subdivision=0)
    except Exception as error:
        todo = "reinstall, or rebuild it with data_scripts/build_face_model.py"
        todo = _unless_named("FACERECON_MODEL", todo)
        return None, ("face model", one_line(error)[:200], todo, False)
    sizes = "{} identity, {} expression, {} albedo modes".format(*model.sizes)
    return model, ("face model", f"{model.metadata.get('name')}: {sizes}", "", True)


def _encoder(model) -> tuple[str, str, str, bool]:
    try:
        from ..networks.encoder import load_encoder

        encoder = load_encoder(model=model)
    except Exception as error:
        todo = "facerecon reconstruct needs it, fit does not; reinstall, or facerecon train base"
        return "encoder", one_line(error)[:200], _unless_named("FACERECON_ENCODER", todo), False
    weights = sum(p.numel() for p in encoder.parameters()) / 1e6
    sizes = "{} identity, {} expression, {} albedo modes".format(*encoder.sizes)
    state = f"{encoder.name}: {encoder.backbone}, {weights:.1f} million weights, {sizes}"
    return "encoder", state, "", True


def _unet(model) -> tuple[str, str, str, bool]:
    try:
        from ..networks.unet import load_unet

        unet = load_unet(model=model)
    except Exception as error:
        todo = "--augmented alone needs it; reinstall, or facerecon train augmented"
        return "offset U-Net", one_line(error)[:200], _unless_named("FACERECON_UNET", todo), False
    weights = sum(p.numel() for p in unet.parameters()) / 1e6
    return "offset U-Net", f"{unet.name}: {weights:.1f} million weights", "", True


def _unless_named(variable: str, todo: str) -> str:
    """What to do about a file that ships; of one that a variable names, where it comes from."""
    return f"${variable} names it: change it, or unset it" if os.environ.get(variable) else todo


def _detectors() -> Table:
    from ..networks.face_networks import networks
    from ..photos.landmarks import detectors

    table = Table(title="detectors and weights, and the terms they come under")
    for column in ("name", "for", "state", "terms", "what to do"):
        table.add_column(column, overflow="fold")
    for row in (*detectors(), *networks()):
        state = "ready" if row["ready"] else "not here"
        table.add_row(row["name"], row["task"], state, row["licence"], row["todo"])
    return table
