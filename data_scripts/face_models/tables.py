"""Tables of numbers out of other people's model files: read, checked, refused in one line.

    data = read_mat(Path("01_MorphableModel.mat"), ("shapeMU", "tl"))   # v5 and v7.3
    with open_hdf5(Path("model2019_bfm.h5")) as file:
        cells = read_array(path, file, "shape/representer/cells")

Notebook 01, Eq. 1 and 2.
"""

import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
from scipy.io import loadmat

from face_models import Faces, Modes, Vertices
from facerecon_lib.files.errors import FacereconError


class ImportModelError(FacereconError):
    """An invalid model. One line: what is wrong and what to do."""


def refuse(path: Path, why: str) -> NoReturn:
    raise ImportModelError(f"{path.name}: {why}")


def check_kind(path: Path, archive: bool = False) -> None:
    """Refuse what a download often is: nothing, a folder, a web page, a Git LFS pointer, a zip.

    archive: a zip file is right.
    """
    if not path.is_file():
        reason = "is a folder, give the file in it" if path.is_dir() else "no such file"
        raise ImportModelError(f"{path}: {reason}")
    try:
        with path.open("rb") as file:
            first = file.read(512).lstrip().lower()
    except OSError as error:
        raise ImportModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    if first.startswith((b"<!doctype", b"<html", b"<?xml")):
        refuse(path, "is a web page: log in where it comes from, and download it again")
    if first.startswith(b"version https://git-lfs"):
        refuse(path, "is a Git LFS pointer, not the file: run git lfs pull where it comes from")
    if first.startswith(b"pk\x03\x04") and not archive:
        refuse(path, "is a zip archive: unpack it, and give the file in it")


def is_text(first: bytes) -> bool:
    """Whether the first bytes of a file are those of a text."""
    return first != b"" and all(byte >= 32 or byte in b"\t\n\r\f" for byte in first)


def read_npz(path: Path, names: tuple[str, ...] = (), most_bytes: int = 2**31) -> dict:
    """The arrays of an .npz, or those of `names` that it holds; of `most_bytes` each at most."""
    check_kind(path, archive=True)
    try:
        with np.load(path, allow_pickle=False) as file:
            held = [name for name in file.files if not names or name in names]
            size = max((file.zip.getinfo(f"{name}.npy").file_size for name in held), default=0)
            if size <= most_bytes:
                return {name: file[name] for name in held}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        refuse(path, f"not a readable .npz of arrays ({type(error).__name__}); get it again")
    refuse(path, f"unpacks to {size / 1e9:.1f} GB: no face model does")


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named variables of a .mat file, as far as it holds them; v7.3, which is HDF5, too."""
    check_kind(path)
    with path.open("rb") as file:
        version_73 = b"MATLAB 7.3" in (first := file.read(116))
    if version_73:
        with open_hdf5(path) as file:  # whose axes are MATLAB's reversed
            return {name: read_array(path, file, name).T for name in names if name in file}
    try:
        data = loadmat(path, variable_names=names)
    except Exception as error:  # scipy raises whatever the damage made it stumble over
        if is_text(first):
            refuse(path, "not a readable .mat file: it holds text; get it where it comes from")
        refuse(path, f"not a readable .mat file ({type(error).__name__}: {error}); copy it again")
    return {name: read_array(path, data, name) for name in names if name in data}


def open_hdf5(path: Path):
    """An open h5py.File. Raises ImportModelError without h5py, and for a damaged file."""
    try:
        import h5py
    except ImportError:
        refuse(path, "is an HDF5 file, and reading those needs h5py: pip install h5py")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        refuse(path, f"not a readable HDF5 file ({error}); copy it again")


def read_array(path: Path, file, name: str) -> np.ndarray:
    """A table of numbers in an open HDF5 file, or in a dict."""
    try:
        values = np.asarray(file[name])
    except KeyError:
        refuse(path, f"lacks {name}; give the file as its makers hand it out")
    except OSError as error:
        refuse(path, f"{name} cannot be read ({error}); copy the file again")
    if values.dtype.kind not in "iuf":
        refuse(path, f"{name} holds no numbers")
    return values


def linear_model(
    path: Path, name: str, mean: np.ndarray, basis: np.ndarray, deviation: np.ndarray, modes: int
) -> tuple[Vertices, Modes]:
    """Mean, and basis per standard deviation, of (3V,) with x, y, z in turn, (3V, K) and (K,)."""
    mean, deviation = mean.astype(np.float64).ravel(), deviation.astype(np.float64).ravel()
    if not len(mean) or len(mean) % 3 or basis.shape != (len(mean), len(deviation)):
        sizes = f"mean {len(mean)}, basis {basis.shape}, one deviation for {len(deviation)} modes"
        refuse(path, f"{name}: sizes do not fit each other ({sizes})")
    first = slice(modes or None)
    scaled = np.ascontiguousarray((basis[:, first] * deviation[first]).T)
    if not np.isfinite(mean).all() or not np.isfinite(scaled).all():
        refuse(path, f"{name}: numbers that are not finite; copy the file again")
    return mean.reshape(-1, 3), scaled.reshape(len(scaled), -1, 3)


def triangles(path: Path, table: np.ndarray, count: int, first: int) -> Faces:
    """A table of the numbers of `count` vertices that begin at `first`; from 0."""
    if table.ndim != 2 or table.shape[1] != 3 or not len(table):
        refuse(path, f"triangles are a table of shape {table.shape}, expected (any, 3)")
    if not (table.min() >= first and table.max() < count + first):
        refuse(path, f"triangles name vertices outside {first} to {count - 1 + first}")
    return table.astype(np.int64) - first


def outwards(path: Path, mean: Vertices, faces: Faces) -> Faces:
    """The triangles wound counter-clockwise seen from outside, whichever way they came.

    The volume between them and a point far back on the midline has the sign of the winding, for a
    closed head as for a mask, which turns its inside to the point.
    """
    back = np.array([*mean[:, :2].mean(0), mean[:, 2].min()])
    a, b, c = np.moveaxis(mean[faces] - back, 1, 0)
    volume = np.einsum("fi,fi->f", a, np.cross(b, c))
    if abs(volume.sum()) < 0.2 * np.abs(volume).sum():
        refuse(path, "as many triangles face inwards as outwards: not one surface")
    return faces if volume.sum() > 0 else faces[:, [0, 2, 1]]


def in_unit_range(mean: Vertices, basis: Modes) -> tuple[Vertices, Modes]:
    """Colours, and their basis, in [0, 1], of such or of some in 0 to 255."""
    scale = 255.0 if mean.max() > 2 else 1.0
    return mean / scale, basis / scale
