"""What a pickle asks for, written down and not done: the opcodes of `array_pickle.py`.

    recorded = Tape(io.BytesIO(content)).load()      # dicts, lists, numbers, and `Call` records

A pickle is a program: opcodes that push values, name functions and call them. This reader runs the
opcodes that push plain values as the standard library does. A global becomes a `Name`, never the
thing named, and one that is not in KNOWN is refused at once. REDUCE, NEWOBJ and BUILD become a
`Call`. All other opcodes (extension codes, persistent ids, instances of old) are refused by name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 50_000

# What a file may name, and the kind of record that it becomes. "opaque" is made into nothing: torch
# tensors beside the arrays in DECA's landmark_embedding.npy.
KNOWN = {
    "numpy.ndarray": "class",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "chumpy.ch.Ch": "chumpy",
    "chumpy.Ch": "chumpy",
    "collections.OrderedDict": "opaque",
    "torch._utils._rebuild_tensor_v2": "opaque",
    "torch.storage._load_from_bytes": "opaque",
}
for _core in ("numpy.core", "numpy._core"):
    KNOWN[f"{_core}.multiarray._reconstruct"] = "array"
    KNOWN[f"{_core}.multiarray.scalar"] = "scalar"
    KNOWN[f"{_core}.numeric._frombuffer"] = "buffer"
for _module, _builtins in (("copy_reg", "__builtin__"), ("copyreg", "builtins")):
    KNOWN[f"{_module}._reconstructor"] = "instance"
    KNOWN[f"{_builtins}.object"] = "class"
    KNOWN[f"{_builtins}.set"] = "set"
    KNOWN[f"{_builtins}.bytes"] = "encode"  # of nothing: how protocol 2 writes b""
for _kind in ("csc", "csr"):
    for _module in (f"scipy.sparse.{_kind}", f"scipy.sparse._{_kind}"):
        KNOWN[f"{_module}.{_kind}_matrix"] = _kind
TAKES_STATE = {"array", "dtype", "chumpy", "instance", "csc", "csr"}

# Opcodes that push, memoise and group plain values: run by the standard library's own reader.
PLAIN = """
PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING
SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT
GLOBAL STACK_GLOBAL
"""


class ArrayPickleError(ValueError):
    """A pickle that is damaged, or asks for more than arrays; one line, and nothing of it ran."""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the file names: its kind in KNOWN, and the name for messages."""

    kind: str
    name: str


@dataclass(eq=False, slots=True)
class Call:
    """What the file asks to be made: of which kind, from which arguments, with which state."""

    kind: str
    args: tuple
    state: Any = None


def shown(said: str | Exception) -> str:
    """Text from a file, fit for a message: plain characters on one line, not many."""
    return ascii(str(said)[:80])[1:-1]


def kind_of(item: Any) -> str:
    return item.name if isinstance(item, Name) else type(item).__name__


def check(right: bool, why: str) -> None:
    if not right:
        raise ArrayPickleError(f"{why}; the file is damaged or no face model")


class Tape(pickle._Unpickler):  # the reader in Python: the one in C calls what it likes
    """Runs PLAIN's opcodes as they are, and writes down the others that are listed.

    Python 2's text stays bytes: it may be an array's data.
    """

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="bytes")
        self.steps = 0

    def find_class(self, module: str, name: str) -> Name:
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise ArrayPickleError(
                f"refused: it asks for {shown(full)}, and arrays need no such thing; nothing of it"
                " was run"
            )
        return Name(KNOWN[full], full)

    def record(self) -> None:
        """REDUCE and NEWOBJ."""
        args, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, Name) or made.kind == "class" or type(args) is not tuple:
            raise ArrayPickleError(f"refused: a call of {kind_of(made)}; nothing of it was run")
        self.append(Call(made.kind, args))

    def build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Call) or made.kind not in TAKES_STATE or made.state is not None:
            raise ArrayPickleError(f"refused: a state for {kind_of(made)}; nothing of it was run")
        made.state = state

    def byte_array(self) -> None:
        """BYTEARRAY8, without making room for the size that it claims."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def empty_set(self) -> None:
        self.append(Call("set", ([],)))

    def add_items(self) -> None:
        items, made = self.pop_mark(), self.stack[-1]
        check(isinstance(made, Call) and made.kind == "set", "items for what is no set")
        made.args[0].extend(items)

    # A dict hashes its keys, and the hash of deeply nested tuples would exhaust C's stack.
    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()


def _check_keys(keys: list) -> None:
    check(all(type(key) in (bytes, str, int) for key in keys), "a dict with keys that are no text")


def _opcodes() -> dict[int, Callable[[Tape], None]]:
    """For each opcode what it does here: run, write down, or refuse. All are counted."""
    own = {
        "REDUCE": Tape.record,
        "NEWOBJ": Tape.record,
        "BUILD": Tape.build,
        "BYTEARRAY8": Tape.byte_array,
        "EMPTY_SET": Tape.empty_set,
        "ADDITEMS": Tape.add_items,
        "DICT": Tape.load_dict,
        "SETITEM": Tape.load_setitem,
        "SETITEMS": Tape.load_setitems,
    }
    steps = {}
    for opcode in pickletools.opcodes:
        code, name = ord(opcode.code), opcode.name
        step = pickle._Unpickler.dispatch[code] if name in PLAIN.split() else own.get(name)
        steps[code] = _counted(step or _refusing(name))
    return steps


def _refusing(name: str) -> Callable[[Tape], None]:
    def refuse(tape: Tape) -> None:
        raise ArrayPickleError(f"refused: opcode {name}, which arrays do not need; nothing was run")

    return refuse


def _counted(run: Callable[[Tape], None]) -> Callable[[Tape], None]:
    def step(tape: Tape) -> None:
        tape.steps += 1
        check(tape.steps <= MAX_STEPS, f"more than {MAX_STEPS:,} steps")
        run(tape)

    return step


Tape.dispatch = _opcodes()
