"""Arrays come out of pickles as they went in; whatever else a pickle asks for is never done."""

import collections
import contextlib
import copyreg
import os
import pickle
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from face_models.pickles import ArrayPickleError, read_pickle
from made_up_models import made_up_flame
from scipy import sparse

VALUES = {
    "a": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.uint32).reshape(2, 3)),
    "axes exchanged": np.moveaxis(np.arange(24.0).reshape(2, 3, 4), 0, 2),
    "big-endian": np.arange(3, dtype=">i2"),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 3)),
    "point": np.array(2.5),
    "scalar": np.float32(3),
    "csc": sparse.csc_matrix(np.eye(3)),
    "csr": sparse.csr_matrix(np.eye(3)[:, :2]),
    "text": "lbs",
    "list": [1, 2.5, None, True, (1, "é")],
    "big": 2**70,
}


def same(a, b) -> bool:
    if sparse.issparse(a):
        return type(a) is type(b) and a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape
        return alike and bool((a == b).all())
    return a == b and type(a) is type(b)


def read(tmp_path, content: bytes):
    path = tmp_path / "some.pkl"
    path.write_bytes(content)
    return read_pickle(path)


# What is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_what_python_3_wrote_comes_back(tmp_path, protocol):
    back = read(tmp_path, pickle.dumps(VALUES, protocol))
    assert back.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert same(value, back[name]), name


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_what_python_2_and_chumpy_wrote_comes_back_without_chumpy(tmp_path, protocol):
    with made_up_flame.chumpy_stand_in() as ch:
        content = made_up_flame.python2(VALUES | {"ch": ch(VALUES["a"])}, protocol)
    assert b"chumpy.ch" in content
    assert b"numpy.core.multiarray" in content
    assert "chumpy" not in sys.modules
    back = read(tmp_path, content)
    for name, value in VALUES.items():
        assert same(value, back[name]), name
    assert same(VALUES["a"], back["ch"])


def test_a_stream_as_python_2_itself_wrote_it(tmp_path):
    stream = (
        b"(dp0\nS'x'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
        b"S'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'u4'\np10\nI0\nI1\ntp11\nRp12\n"
        b"(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'\\xa6\\x08\\x00\\x00\\n\\'\\x00\\x00'\n"
        b"p15\ntp16\nbs."
    )
    np.testing.assert_array_equal(read(tmp_path, stream)["x"], [0x8A6, 0x270A])


def test_an_npy_of_one_dict_is_read_and_one_of_numbers_refused(tmp_path):
    path = tmp_path / "embedding.npy"
    np.save(path, VALUES, allow_pickle=True)
    assert same(VALUES["a"], read_pickle(path)["a"])
    np.save(path, VALUES["a"])
    with pytest.raises(ArrayPickleError, match="npy of numbers"):
        read_pickle(path)


def test_arrays_cannot_be_written_to(tmp_path):
    back = read(tmp_path, pickle.dumps({"a": VALUES["a"]}))
    with pytest.raises(ValueError, match="read-only"):
        back["a"][0] = 1


# What is refused: code -------------------------------------------------------------------------


class Reduces:
    """Pickles to a call of function(*args)."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def array_with(data: bytes, dtype: bytes = b"", shape: bytes = b"K\x01\x85") -> bytes:
    """An array's stream with the opcodes of its data, dtype and shape given."""
    start = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray")
    dtype = dtype or named("numpy", "dtype") + text("f8") + b"K\x00K\x01\x87R"
    state = b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"
    return b"\x80\x02}U\x01a" + start + b"K\x00\x85U\x01b\x87R" + state + b"s."


def harmful(canary: Path) -> dict[str, bytes]:
    """Streams that make the file `canary` under `pickle.load`."""
    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    system = named("os", "system") + text(shell) + b"\x85R"
    lines = f"__import__('os').system({shell!r})"
    importer = named("builtins", "__import__") + text("os") + b"\x85R"
    chain = named("builtins", "getattr") + importer + text("system") + b"\x86R" + text(shell)
    return {
        "os.system": pickle.dumps(Reduces(os.system, shell)),
        "os.system, named by the stack": b"\x80\x04" + text("os") + text("system") + b"\x93"
        + text(shell) + b"\x85R.",
        "os.system, through a dotted name": b"\x80\x04" + text("numpy") + text("f2py.os.system")
        + b"\x93" + text(shell) + b"\x85R.",
        "eval": pickle.dumps(Reduces(eval, code)),
        "exec": pickle.dumps(Reduces(exec, code), 0),
        "Python 2's eval": named("__builtin__", "eval") + text(code) + b"\x85R.",
        "getattr of an import": chain + b"\x85R.",
        "a call among an array's data": array_with(system),
        "a call for an array's shape": array_with(text("12345678"), shape=system),
        "a call for an array's type": array_with(text("12345678"), dtype=system),
        "a call in a dict's key": b"}" + system + b"K\x01s.",
        "a call under a popped mark": b"(" + system + b"1N.",
        "an old instance": b"(" + text(shell) + b"ios\nsystem\n.",
        "an object of old": b"(" + named("os", "system") + text(shell) + b"o.",
        "numpy's runstring": named("numpy.testing", "runstring") + text(lines) + b"}\x86R.",
        "numpy's getlincoef": named("numpy.f2py.crackfortran", "getlincoef") + text(lines)
        + b"}\x86R.",
        "a process": named("subprocess", "Popen") + b"(" + text("touch") + text(str(canary))
        + b"l\x85R.",
        "a process by NEWOBJ": b"\x80\x02" + named("pathlib", "Path") + text(str(canary))
        + b"\x85\x810" + system + b".",
        "partial": named("functools", "partial") + named("os", "system") + text(shell)
        + b"\x86R)R.",
        "torch's nested pickle": named("torch.storage", "_load_from_bytes")
        + b"C" + bytes([len(system) + 1]) + system + b"." + b"\x85R" + system + b".",
    }  # fmt: skip


NAMES = list(harmful(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_harmful_pickles_are_refused_and_nothing_of_them_is_run(tmp_path, name):
    canary = tmp_path / "canary"
    content = harmful(canary)[name]
    with pytest.raises(ArrayPickleError, match="refused") as refusal:
        read(tmp_path, content)
    assert not canary.exists()
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value).replace(str(tmp_path), "")) < 250


REAL = ("os.system", "eval", "getattr of an import", "an old instance")


@pytest.mark.parametrize("name", [*REAL, "a call among an array's data"])
def test_the_same_pickles_do_their_harm_in_the_standard_reader(tmp_path, name):
    canary = tmp_path / "canary"
    with contextlib.suppress(Exception):  # what system returns is no data of an array
        pickle.loads(harmful(canary)[name])
    assert canary.exists()


def test_a_nested_pickle_in_a_torch_tensor_is_left_alone(tmp_path):
    canary = tmp_path / "canary"
    inner = pickle.dumps(Reduces(os.system, f"touch {canary}"))
    load = named("torch.storage", "_load_from_bytes") + b"C" + bytes([len(inner)]) + inner
    assert read(tmp_path, b"\x80\x03}U\x01a" + load + b"\x85Rs.") == {"a": None}
    assert not canary.exists()


def test_no_module_is_imported_that_a_pickle_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    canary = tmp_path / "canary"
    for name in ("evil", "chumpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').close()")
    with pytest.raises(ArrayPickleError, match=r"asks for evil\.thing"):
        read(tmp_path, named("evil", "thing") + b")R.")
    with made_up_flame.chumpy_stand_in() as ch:
        content = made_up_flame.python2({"a": ch(VALUES["a"])})
    assert same(VALUES["a"], read(tmp_path, content)["a"])
    assert not canary.exists()
    with pytest.raises(AttributeError):
        pickle.loads(named("evil", "thing") + b")R.")
    assert canary.exists()
    del sys.modules["evil"]


def test_a_refusal_names_what_was_asked_for(tmp_path):
    with pytest.raises(ArrayPickleError, match=r"it asks for (posix|nt)\.system"):
        read(tmp_path, pickle.dumps(Reduces(os.system, "true")))
    with pytest.raises(ArrayPickleError, match=r"it asks for a\\nb\\x1b\[31m\.c"):
        read(tmp_path, b"\x80\x04" + text("a\nb\x1b[31m") + text("c") + b"\x93.")


def test_extension_codes_and_persistent_ids_are_refused(tmp_path):
    copyreg.add_extension("os", "system", 200)
    try:
        for opcode in (b"\x82\xc8", b"\x83\xc8\x00", b"\x84\xc8\x00\x00\x00"):
            with pytest.raises(ArrayPickleError, match="refused: opcode EXT"):
                read(tmp_path, b"\x80\x02" + opcode + text("true") + b"\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 200)
    for stream in (b"Psome\n.", text("some") + b"Q."):
        with pytest.raises(ArrayPickleError, match=r"refused: opcode (BIN)?PERSID"):
            read(tmp_path, stream)


@pytest.mark.parametrize(
    "stream",
    {
        "a state for a function": named("numpy.core.multiarray", "_reconstruct") + b"}b",
        "attributes of a class": named("chumpy.ch", "Ch") + b"N}" + text("kind") + b"Ns\x86b",
        "a state for a dict": b"}N}" + text("__class__") + b"K\x01s\x86b",
        "a call of a number": b"K\x01)R",
        "a new object of a text": text("eval") + b")\x81",
        "a class of no record": named("copy_reg", "_reconstructor") + text("eval") + b"NN\x87R",
    }.items(),
    ids=lambda stream: stream[0],
)
def test_states_and_calls_of_what_is_no_record_are_refused(tmp_path, stream):
    with pytest.raises(ArrayPickleError, match="no whole pickle"):
        read(tmp_path, b"\x80\x02}U\x01a" + stream[1] + b"s.")
    assert same(VALUES["a"], read(tmp_path, pickle.dumps({"a": VALUES["a"]}))["a"])


@pytest.mark.parametrize(
    "value",
    [
        np.array([print], object),
        np.array(["a", "b"], object),
        np.array("text"),
        np.array([1j]),
        np.zeros(2, [("a", "f8")]),
        np.array(["2020-01-01"], "M8[D]"),
        range(3),
        collections.Counter(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_of_no_numbers_and_other_kinds_of_values_are_refused(tmp_path, value):
    for stream in (pickle.dumps({"a": value}), pickle.dumps(value), pickle.dumps([value])):
        with pytest.raises(ArrayPickleError):
            read(tmp_path, stream)


# What is refused: size -------------------------------------------------------------------------


def typed(descriptor: str, state: bytes) -> bytes:
    return named("numpy", "dtype") + text(descriptor) + b"K\x00K\x01\x87R(" + state + b"tb"


def nested(opcode: bytes, times: int = 20_000) -> bytes:
    return b")" + times * opcode


EIGHT = b"U\x08" + 8 * b"x"
BILLION = b"J" + struct.pack("<i", 10**9)
WIDE = sparse.csr_matrix((5, 10**9))
BOMBS = {
    "bytearray(10**12)": named("builtins", "bytearray") + b"\x8a\x06"
    + (10**12).to_bytes(6, "little") + b"\x85R.",
    "numpy.zeros": named("numpy", "zeros") + BILLION + b"\x85R.",
    "ndarray itself": named("numpy", "ndarray") + BILLION + b"\x85\x85R.",
    "_reconstruct of a large shape": array_with(EIGHT).replace(b"K\x00\x85U", BILLION + b"\x85U"),
    "an array's shape": array_with(EIGHT, shape=BILLION + BILLION + b"\x86"),
    "a shape of zero and much": array_with(EIGHT, shape=b"K\x00" + 4 * BILLION + b"t").replace(
        b"K\x01K\x00", b"K\x01(K\x00"
    ),
    "a negative shape": array_with(EIGHT, shape=b"J\xff\xff\xff\xff\x85"),
    "a shape of many axes": array_with(EIGHT, shape=b"(" + 60 * b"K\x01" + b"t"),
    "a subarray in a type": array_with(EIGHT, typed("f8", b"K\x03U\x01<" + text("f8") + BILLION
    + b"\x85\x86NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00")),
    "a text type of much": array_with(EIGHT, typed("S999999999", b"K\x03U\x01|NNNJ\xff\xff\xff\x7f"
    b"K\x01K\x00")),
    "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"abc.",
    "BINBYTES8": b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"abc",
    "BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<Q", 10**12) + b"abc",
    "BINSTRING": b"T" + struct.pack("<i", 2**31 - 1) + b"abc",
    "FRAME": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N",
    "a memo of billions": b"Nr" + struct.pack("<I", 2**32 - 1) + b"j" + struct.pack("<I", 7) + b".",
    "LONG4": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
    "a number of many digits": b"L" + 100_000 * b"9" + b"L\n.",
    "a number of many digits, INT": b"I" + 100_000 * b"9" + b"\n.",
    "nested tuples": nested(b"\x85") + b".",
    "nested tuples as a key": b"}" + nested(b"\x85") + b"Ns.",
    "nested tuples as a key among items": b"}(" + nested(b"\x85") + b"Nu.",
    "nested tuples as a key of DICT": b"(" + nested(b"\x85") + b"Nd.",
    "nested lists": 20_000 * b"]" + 19_999 * b"a" + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a dict in itself": b"}q\x00U\x01ah\x00s.",
    "lists of lists, each twice": b"]" + b"".join(
        b"q%c]h%cah%ca" % (i, i, i) for i in range(60)) + b".",
    "many steps": 30_000 * b"N0" + b"N.",
    "many marks": 51_000 * b"(",
    "one data for many arrays": b"}(" + b"T" + struct.pack("<i", 8000) + bytes(8000) + b"q\xff0"
    + b"".join(b"M" + struct.pack("<H", i) + array_with(b"h\xff", shape=b"M\xe8\x03\x85")[6:-2]
               for i in range(200)) + b"u.",
    "a sparse matrix of much": pickle.dumps({"a": WIDE}),
}  # fmt: skip


HARMLESS = ("_reconstruct of a large shape", "a shape of many axes", "a dict in itself")


@pytest.mark.parametrize("name", BOMBS)
def test_a_claim_of_size_allocates_nothing(tmp_path, name):
    tracemalloc.start()
    harmless = name in HARMLESS
    try:
        with contextlib.nullcontext() if harmless else pytest.raises(ArrayPickleError):
            read(tmp_path, BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # the widest: 50,000 empty lists; the claims are of gigabytes and more


def test_the_deepest_values_that_are_read_exhaust_no_stack(tmp_path):
    for deep in (nested(b"\x85", 19_900) + b"Ns.", b"(" + nested(b"\x85", 19_900) + b"Nu."):
        assert len(read(tmp_path, b"}" + deep)) == 1


def test_a_file_of_more_than_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ArrayPickleError, match="larger than 1024 MiB"):
        read_pickle(path)


# What is refused: damage -----------------------------------------------------------------------


def small() -> bytes:
    with made_up_flame.chumpy_stand_in() as ch:
        values = {"a": ch(np.arange(4.0)), "s": sparse.csc_matrix(np.eye(2)), "t": "lbs"}
        return made_up_flame.python2(values)


def test_a_pickle_cut_short_anywhere_is_refused_in_a_line(tmp_path):
    content = small()
    for length in range(len(content)):
        with pytest.raises(ArrayPickleError, match=r"some\.pkl: ") as refusal:
            read(tmp_path, content[:length])
        assert "\n" not in str(refusal.value)


def test_a_changed_byte_gives_other_values_or_a_refusal_and_nothing_else(tmp_path):
    content = small()
    rng = np.random.default_rng(0)
    refused = 0
    for place, byte in enumerate(rng.choice(list(b".RbcN()\x00\x81\xff"), len(content))):
        try:
            read(tmp_path, content[:place] + bytes([byte]) + content[place + 1 :])
        except ArrayPickleError:
            refused += 1
    assert refused > len(content) / 2


def test_a_sparse_matrix_with_places_outside_is_refused(tmp_path):
    matrix = sparse.csc_matrix(np.eye(3))
    for name, value in (("indices", [0, 1, 7]), ("indptr", [0, 2, 1, 3]), ("indptr", [0, 9, 9, 9])):
        broken = matrix.copy()
        setattr(broken, name, np.array(value, np.int32))
        with pytest.raises(ArrayPickleError, match=r"\((Value|Index)Error: .*ind"):
            read(tmp_path, pickle.dumps({"a": broken}))


def test_a_file_that_is_missing_a_folder_or_no_pickle_is_refused(tmp_path):
    for path in (tmp_path / "missing.pkl", tmp_path):
        with pytest.raises(ArrayPickleError, match="no such file"):
            read_pickle(path)
    for content in (b"", b"\x89HDF\r\n\x1a\n", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x93NUMPY\x01"):
        with pytest.raises(ArrayPickleError):
            read(tmp_path, content)
