"""Numpy arrays out of a pickle, without running anything that it asks for.

    data = read_pickle(Path("generic_model.pkl"))     # {"v_template": array (5023, 3), ...}

A pickle is a program: it names functions, and `pickle.load` calls them. FLAME ships as one. Here
`pickle_tape.py` writes down what the program asks for, as records that cannot be called; a name
that is not in its list is refused. Then each record becomes a value by the function of its kind
below, which checks every argument. Nothing is ever looked up by a name from the file.

Bounds: MAX_BYTES of file, MAX_STEPS opcodes, MAX_DEPTH levels; and the arrays together hold no more
bytes than the file does, whatever shapes it claims.

Read are what Python 2 and 3 write of numpy (protocols 0 to 5): arrays and scalars of numbers and
bools, scipy's csc and csr matrices, chumpy's leaf `Ch` (as its bare array), dicts, lists, tuples,
sets (as lists), text and numbers; also an .npy that holds one such object.
"""

from __future__ import annotations

import codecs
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from pickle_tape import ArrayPickleError, Call, Name, Tape, check, kind_of, shown
from scipy import sparse

MAX_BYTES, MAX_DEPTH = 2**30, 32
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
OBJECTS = {"O", "O4", "O8"}


def read_pickle(path: Path) -> Any:
    """The value that a pickle (or an .npy of one object) holds; arrays are read-only.

    Raises ArrayPickleError with one line when the file is missing, too large, damaged, or names
    anything that is not in KNOWN.
    """
    try:
        if not path.is_file():
            raise ArrayPickleError("no such file")
        if path.stat().st_size > MAX_BYTES:
            raise ArrayPickleError(f"larger than {MAX_BYTES >> 20} MiB; no face model is")
        content = path.read_bytes()
        tape = Tape(io.BytesIO(_without_npy_header(content)))
        try:
            recorded = tape.load()
        except ArrayPickleError:
            raise
        except Exception as error:  # whatever a broken stream trips over in the library's reader
            said = f"{type(error).__name__}: {shown(error)}"
            raise ArrayPickleError(f"no whole pickle ({said}); get the file again") from error
        return _Values(len(content)).value(recorded)
    except OSError as error:
        raise ArrayPickleError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ArrayPickleError as error:
        raise ArrayPickleError(f"{path}: {error}") from error.__cause__


def _without_npy_header(content: bytes) -> bytes:
    if not content.startswith(b"\x93NUMPY"):
        return content
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file)
    except (ValueError, KeyError) as error:
        raise ArrayPickleError(f"a damaged .npy header ({shown(error)})") from error
    check(dtype.kind == "O" and shape == (), "an .npy of numbers where a pickled object belongs")
    return content[file.tell() :]


class _Values:
    """Makes the values, each record once however often the file refers to it.

    room: bytes that all arrays together may take.
    """

    def __init__(self, room: int):
        self.room = room
        self.made: dict[int, Any] = {}

    def value(self, item: Any, depth: int = 0) -> Any:
        """What a recorded item stands for."""
        if item is None or type(item) in (bool, int, float, str):
            return item
        if id(item) not in self.made:
            check(depth <= MAX_DEPTH, f"nested more than {MAX_DEPTH} levels deep")
            self.made[id(item)] = self._make(item, depth + 1)
        return self.made[id(item)]

    def _make(self, item: Any, depth: int) -> Any:
        if type(item) is bytes:
            return item.decode("latin1")
        if type(item) in (list, tuple):
            return type(item)(self.value(i, depth) for i in item)
        if type(item) is dict:
            return {_text(key): self.value(value, depth) for key, value in item.items()}
        check(isinstance(item, Call), f"holds {kind_of(item)} itself")
        return getattr(self, f"_{item.kind}")(item, depth)

    def _array(self, call: Call, depth: int) -> Any:
        """_reconstruct(ndarray, (0,), b"b") and (version, shape, dtype, Fortran order, data)."""
        made = call.args[0] if len(call.args) == 3 and call.args[1] == (0,) else None
        check(kind_of(made) == "numpy.ndarray", "an array with odd arguments")
        check(type(call.state) is tuple and len(call.state) == 5, "an array without its state")
        _, shape, dtype, fortran, data = call.state
        dtype = self.value(dtype, depth)
        if isinstance(dtype, np.dtype) and dtype.kind == "O":
            check(shape == () and type(data) is list and len(data) == 1, "an array of objects")
            return self.value(data[0], depth)
        return self._numbers(shape, dtype, bool(fortran), data, depth)

    def _buffer(self, call: Call, depth: int) -> np.ndarray:
        """_frombuffer(data, dtype, shape, order), or with order "K" and the order of the axes."""
        check(len(call.args) in (4, 5), "an array with odd arguments")
        data, dtype, shape, order, *axes = call.args
        dtype = self.value(dtype, depth)
        array = self._numbers(shape, dtype, order == "F", data, depth)
        if not axes:
            return array
        given = list(axes[0]) if type(axes[0]) is tuple else []
        right = all(type(n) is int for n in given) and sorted(given) == list(range(array.ndim))
        check(right, "an array with odd axes")
        return array.transpose(given)

    def _scalar(self, call: Call, depth: int) -> Any:
        check(len(call.args) == 2, "a number with odd arguments")
        return self._numbers((), self.value(call.args[0], depth), False, call.args[1], depth)[()]

    def _numbers(self, shape, dtype, fortran: bool, data, depth: int) -> np.ndarray:
        """An array over the file's own bytes: nothing is allocated."""
        check(isinstance(dtype, np.dtype) and dtype.kind in "biuf", "an array of no known type")
        check(
            type(shape) is tuple
            and len(shape) <= 8
            and all(type(n) is int and 0 <= n < 2**31 for n in shape),
            "an array of impossible shape",
        )
        data = data if type(data) is bytes else self._encode(data, depth)
        needed = math.prod(shape) * dtype.itemsize
        check(
            len(data) == needed, f"an array {shape} of {dtype} on {len(data)} bytes, not {needed}"
        )
        self.room -= needed
        check(self.room >= 0, "its arrays are larger than the file")
        return np.ndarray(shape, dtype, data, order="F" if fortran else "C")

    def _encode(self, call: Any, depth: int) -> bytes:
        """Bytes as protocol 2 writes them in Python 3: encode(text, "latin1"), or bytes()."""
        known = isinstance(call, Call) and call.kind == "encode" and len(call.args) in (0, 2)
        if known and not call.args:
            return b""
        check(known and type(call.args[0]) is str, "an array without its data")
        try:
            check(codecs.lookup(_text(call.args[1])).name == "iso8859-1", "an odd encoding")
            return call.args[0].encode("latin1")
        except (LookupError, UnicodeError):
            raise ArrayPickleError("data that is no latin1; the file is damaged") from None

    def _dtype(self, call: Call, depth: int) -> np.dtype:
        """dtype("f8", False, True) and (3, "<", None, None, None, -1, -1, 0)."""
        code = _text(call.args[0]) if call.args else ""
        check(type(code) is str, "a type without its name")
        if code in OBJECTS:
            return np.dtype(object)
        check(code in NUMBERS, f"an array of type {shown(code)}, not of numbers")
        if call.state is None:
            return np.dtype(code)
        state = call.state
        plain = type(state) is tuple and len(state) in (8, 9) and state[2:5] == (None, None, None)
        order = _text(state[1]) if plain else ""
        check(order in ("<", ">", "|", "="), f"a type {code} with odd state")
        return np.dtype(code).newbyteorder(order)

    def _chumpy(self, call: Call, depth: int) -> np.ndarray:
        """A leaf of chumpy's graphs: `x` of its state."""
        x = self.value(_fields(call.state).get("x"), depth)
        check(isinstance(x, np.ndarray), "a chumpy object without an array x")
        return x

    def _sparse(self, call: Call, depth: int) -> Any:
        state = _fields(call.state)
        shape, *parts = (
            self.value(state.get(k), depth) for k in ("_shape", "data", "indices", "indptr")
        )
        check(
            type(shape) is tuple
            and len(shape) == 2
            and all(type(n) is int and 0 <= n < 2**31 for n in shape)
            and all(isinstance(p, np.ndarray) and p.ndim == 1 for p in parts)
            and all(p.dtype.kind in "iu" for p in parts[1:]),
            "a sparse matrix without its parts",
        )
        make = sparse.csc_matrix if call.kind == "csc" else sparse.csr_matrix
        try:
            matrix = make(tuple(parts), shape=shape)
            matrix.check_format(full_check=True)
        except (ValueError, IndexError, TypeError) as error:
            raise ArrayPickleError(f"a damaged sparse matrix ({shown(error)})") from error
        return matrix

    _csc = _csr = _sparse

    def _instance(self, call: Call, depth: int) -> Any:
        """Protocols 0 and 1: _reconstructor(class, object, None), then a state."""
        made = call.args[0] if len(call.args) == 3 else None
        known = isinstance(made, Name) and made.kind in ("chumpy", "csc", "csr")
        check(known, "an instance of no known class")
        return getattr(self, f"_{made.kind}")(Call(made.kind, (), call.state), depth)

    def _set(self, call: Call, depth: int) -> list:
        check(len(call.args) == 1 and type(call.args[0]) is list, "a set with odd arguments")
        return self.value(call.args[0], depth)

    def _opaque(self, call: Call, depth: int) -> None:
        return None


def _text(value: Any) -> Any:
    return value.decode("latin1") if type(value) is bytes else value


def _fields(state: Any) -> dict:
    check(type(state) is dict, "an object without its state")
    return {_text(key): value for key, value in state.items()}
