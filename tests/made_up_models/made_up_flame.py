"""A file of FLAME's layout with made-up content: the shipped face (CC0) with a made-up skeleton.

    python tests/made_up_models/made_up_flame.py made_up/generic_model.pkl
    python data_scripts/import_flame.py made_up/generic_model.pkl --out flame.safetensors

It tries the importer without FLAME and chumpy themselves: what comes out has to be what went in.
"""

import contextlib
import functools
import io
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy import sparse

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

SHIFT = np.array([0.001, -0.02, 0.03])  # metres: FLAME's origin is none of ours
IDENTITY, EXPRESSION = 300, 100
CHUMPY = ("v_template", "shapedirs", "weights")


@contextlib.contextmanager
def chumpy_stand_in():
    """A module chumpy.ch whose Ch pickles to what chumpy's own does (its __getstate__)."""

    class Ch:
        def __init__(self, x):
            self.x = np.asarray(x)
            self._dirty_vars, self._itr, self._depends_on_deps = {"x"}, None, {}
            self._make_dense = self._make_sparse = False

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module = types.ModuleType("chumpy.ch")
    module.Ch = Ch
    sys.modules |= {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module}
    try:
        yield Ch
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


class Python2Pickler(pickle._Pickler):
    """Text and bytes as Python 2 wrote them, and the modules' names of then."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_text(self, text) -> None:
        data = text.encode("latin1") if isinstance(text, str) else bytes(text)
        code, size = (b"U", "<B") if len(data) < 256 else (b"T", "<i")
        binary = code + struct.pack(size, len(data)) + data
        self.write(binary if self.proto else b"S" + repr(data)[1:].encode() + b"\n")
        self.memoize(text)

    def save_global(self, obj, name=None) -> None:
        module = "numpy" if obj is np.ndarray else obj.__module__
        module = {"numpy._core.multiarray": "numpy.core.multiarray", "copyreg": "copy_reg"}.get(
            module, module.replace("builtins", "__builtin__").replace("sparse._", "sparse.")
        )
        self.write(f"c{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[type] = save_global


def python2(value, protocol: int = 2) -> bytes:
    """The pickle of a value as Python 2 wrote it."""
    file = io.BytesIO()
    Python2Pickler(file, protocol, fix_imports=True).dump(value)
    return file.getvalue()


@functools.cache
def truth() -> dict:
    """generic_model.pkl's parts as plain arrays, metres."""
    model = MorphableModel.load(shipped_file("face_model.safetensors"), subdivision=0)
    rng = np.random.default_rng(0)
    mean = model.mean.double().numpy() / 1000
    regions = {name: mask.double().numpy() for name, mask in model.regions.items()}

    def directions(basis, count):
        """The shipped modes, and faint mixtures of them for the rest."""
        basis = basis.double().numpy() / 1000
        mixed = np.tensordot(rng.normal(size=(count - len(basis), len(basis))), basis, 1)
        return np.moveaxis(np.concatenate([basis, 0.06 / np.sqrt(len(basis)) * mixed]), 0, 2)

    shape = directions(model.identity_basis, IDENTITY)
    action = directions(model.expression_basis, EXPRESSION)
    ears = [np.linalg.norm(mean - (s * 0.065, -0.02, -0.05), axis=1).argmin() for s in (-1, 1)]
    left, right = (regions["eyeballs"] * (s * mean[:, 0] > 0) for s in (1, -1))
    opened = model.expression_from_controls({"jawOpen": 1.0}) @ model.expression_basis.flatten(1)
    move = opened.unflatten(1, (-1, 3))[0].norm(dim=1).double().numpy()
    jaw = np.where(left + right > 0, 0, np.clip(1.2 * move / move.max(), 0, 1))
    regressor = np.zeros((5, len(mean)))
    regressor[:3, ears] = 0.5
    regressor[3], regressor[4] = left / left.sum(), right / right.sum()
    return {
        "v_template": mean + SHIFT,
        "shapedirs": np.concatenate([shape, action], 2),
        "posedirs": 1e-3 * rng.normal(size=(len(mean), 3, 36)),
        "f": model.faces.numpy().astype(np.uint32),
        "J_regressor": sparse.csc_matrix(regressor),
        "J": regressor @ (mean + SHIFT),
        "weights": np.stack([0 * jaw, 1 - jaw - left - right, jaw, left, right], 1),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write(path: Path) -> None:
    """generic_model.pkl as Python 2 wrote it, some parts as chumpy's objects."""
    with chumpy_stand_in() as ch:
        path.write_bytes(python2(truth() | {name: ch(truth()[name]) for name in CHUMPY}))


def main(out: Annotated[Path, typer.Argument(help="The .pkl file to write.")]) -> None:
    """Write a made-up generic_model.pkl, to try import_flame.py on."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out)
    except OSError as error:
        raise SystemExit(f"{out}: cannot be written ({error.strerror or error})") from None
    print(out)


if __name__ == "__main__":
    typer.run(main)
