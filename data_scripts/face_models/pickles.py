"""Numpy arrays out of a pickle, without running anything that it asks for.

    arrays = read_pickle(Path("generic_model.pkl"))     # {"v_template": array (5023, 3), ...}

A pickle is a program: it names functions, and `pickle.load` calls them. Here every name on a short
list stands for a record, which only notes its arguments; any other name is refused. Records become
arrays over the file's own bytes, once their sizes agree with the file. Python 2's and 3's pickles
(protocols 0 to 5), chumpy's leaf `Ch`, and an .npy that holds one dict are read.

Notebook 01, Eq. 1.
"""

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from face_models.tables import ImportModelError, is_text

MAX_BYTES, MAX_OPCODES = 2**30, 20_000
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class ArrayPickleError(ImportModelError):
    """A pickle that is damaged or asks for more than arrays: one line, and nothing of it ran."""


class Record:
    """What the file asks for: its kind, its arguments and its state."""

    kind = "other"

    def __new__(cls, *args):
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state) -> None:
        self.state = state


class Instance(Record):
    """How protocols 0 and 1 make an object: _reconstructor(class, object, None)."""

    def __new__(cls, made: type[Record], *args):
        return made.__new__(made)


def _names() -> dict[str, type[Record]]:
    """All that a file may name. Others: torch's tensors in DECA's landmark_embedding.npy."""
    names = {"numpy.dtype": "dtype", "_codecs.encode": "bytes", "numpy.ndarray": "other"}
    names |= dict.fromkeys(("chumpy.ch.Ch", "chumpy.Ch"), "chumpy")
    names |= dict.fromkeys(("torch._utils._rebuild_tensor_v2", "collections.OrderedDict"), "other")
    names["torch.storage._load_from_bytes"] = "other"
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray._reconstruct"] = "array"
        names[f"{core}.multiarray.scalar"] = "scalar"
        names[f"{core}.numeric._frombuffer"] = "buffer"
    for module in ("__builtin__", "builtins"):
        names |= {f"{module}.object": "other", f"{module}.set": "other", f"{module}.bytes": "bytes"}
    for kind in ("csc", "csr"):
        names |= {f"scipy.sparse.{_}{kind}.{kind}_matrix": kind for _ in ("", "_")}
    records = {kind: type(kind, (Record,), {"kind": kind}) for kind in set(names.values())}
    table = {name: records[kind] for name, kind in names.items()}
    return table | dict.fromkeys(("copy_reg._reconstructor", "copyreg._reconstructor"), Instance)


KNOWN = _names()


class Unpickler(pickle.Unpickler):
    """The standard reader; the names that it finds are records."""

    def find_class(self, module: str, name: str) -> type[Record]:
        if (full := f"{module}.{name}") not in KNOWN:
            raise ArrayPickleError(f"refused: it asks for {_shown(full)}, which arrays do not need")
        return KNOWN[full]


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict in a pickle, or in an .npy of one object; arrays are read-only."""
    try:
        if not path.is_file():
            raise ArrayPickleError("no such file")
        if path.stat().st_size > MAX_BYTES:
            raise ArrayPickleError(f"larger than {MAX_BYTES >> 20} MiB; no face model is")
        content = _without_npy_header(path.read_bytes())
        _check_opcodes(content)
        items = _value(Unpickler(io.BytesIO(content), encoding="latin1").load())
        if not isinstance(items, dict):
            raise ArrayPickleError(f"holds a {type(items).__name__}, not named arrays")
        table, room = {}, len(content)
        for name, item in items.items():
            table[name] = _value(item)
            room -= getattr(table[name], "nbytes", 0)
            if room < 0:
                raise ArrayPickleError("its arrays are larger than the file")
        return table
    except ArrayPickleError as error:
        raise ArrayPickleError(f"{path}: {error}") from None
    except OSError as error:
        raise ArrayPickleError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged stream makes the reader stumble in any way
        reason = f"{type(error).__name__}: {_shown(error)}"
        reason = "it holds text" if is_text(path.read_bytes()[:512]) else reason
        raise ArrayPickleError(f"{path}: no whole pickle ({reason}); get it again") from None


def _without_npy_header(content: bytes) -> bytes:
    if not content.startswith(b"\x93NUMPY"):
        return content
    file, formats = io.BytesIO(content), np.lib.format
    first = formats.read_magic(file) == (1, 0)
    read = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind != "O" or shape != ():
        raise ArrayPickleError("an .npy of numbers where a pickled object belongs")
    return content[file.tell() :]


class _Ascii(io.BytesIO):
    """`genops` reads lines as ASCII; Python 2's protocol 0 writes an array's data as a line."""

    def readline(self) -> bytes:
        return re.sub(rb"[^ -\[\]-~\n]", b"?", super().readline())


def _check_opcodes(content: bytes) -> None:
    """Refuse a stream that claims more than it holds; `genops` reads it and runs nothing."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(_Ascii(content))):
        if opcode.name.startswith(("EXT", "PERSID", "BINPERSID")):
            raise ArrayPickleError(f"refused: opcode {opcode.name}, which arrays do not need")
        memo = argument if "PUT" in opcode.name else 0  # the reader's memo is as long as this
        if max(number, memo) >= MAX_OPCODES:
            raise ArrayPickleError(f"more than {MAX_OPCODES:,} opcodes; no face model has them")


def _value(item: Any) -> Any:
    """The array, matrix, number or text that an item stands for; others as they are."""
    if not isinstance(item, Record):
        return item
    match item.kind:
        case "array":  # _reconstruct(ndarray, (0,), "b"), then its state
            _, shape, dtype, fortran, data = item.state
            if dtype.args[0][:1] == "O" and shape == () and len(data) == 1:  # of an .npy
                return data[0]
            return _array(shape, dtype, data, "F" if fortran else "C")
        case "buffer":  # _frombuffer(data, dtype, shape, order), or with the order of the axes
            data, dtype, shape, order, *axes = item.args
            array = _array(shape, dtype, data, "F" if order == "F" else "C")
            return array.transpose(*axes) if axes else array
        case "scalar":
            return _array((), *item.args)[()]
        case "chumpy":
            return _value(item.state["x"])
        case "csc" | "csr":
            from scipy import sparse

            parts = tuple(_value(item.state[name]) for name in ("data", "indices", "indptr"))
            shape = item.state["_shape"]
            if 8 * math.prod(shape) > MAX_BYTES:
                raise ArrayPickleError(f"a sparse matrix {shape}, too large for a face model")
            matrix = getattr(sparse, f"{item.kind}_matrix")(parts, shape=shape)
            matrix.check_format(full_check=True)
            return matrix
        case "dtype":  # dtype("f8", False, True) and (3, "<", None, None, None, -1, -1, 0)
            code, state = item.args[0], item.state or (3, "=", None, None, None)
            if code not in NUMBERS or state[2:5] != (None, None, None):
                raise ArrayPickleError(f"an array of type {_shown(code)}, not of numbers")
            return np.dtype(code).newbyteorder(state[1])
        case "bytes":  # encode(text, "latin1"): how protocol 2 of Python 3 writes an array's data
            return item.args[0].encode("latin1") if item.args else b""
    return None


def _array(shape: tuple[int, ...], dtype: Record, data: Any, order: str = "C") -> np.ndarray:
    """An array over bytes of the file."""
    data, dtype = _value(data), _value(dtype)
    data = data.encode("latin1") if isinstance(data, str) else data  # of Python 2
    size = math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes | bytearray) or len(data) != size:
        raise ArrayPickleError(f"an array {shape} of {dtype} without its {size} bytes")
    return np.ndarray(shape, dtype, bytes(data), order=order)


def _shown(text: str | Exception) -> str:
    """Text from a file, fit for a message: plain characters on one line, not many."""
    return ascii(str(text)[:80])[1:-1]
