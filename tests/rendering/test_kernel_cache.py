"""Warp's cache: damaged entries, folders that cannot be written, full disks."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import warp as wp

from facerecon_lib.rendering.warp import cache, launch


@wp.kernel
def add_one(values: wp.array(dtype=Any)):
    i = wp.tid()
    values[i] = values[i] + values.dtype(1)


def ones_plus_one() -> list[float]:
    """Loaded anew, from wherever kernels are stored."""
    launch._versions.cache_clear()
    add_one.module.unload()
    values = torch.ones(3)
    launch.launch(add_one, torch.float32, 3, values)
    return values.tolist()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Warp's cache, empty."""
    cache.start_warp()
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    yield tmp_path / "cache"
    add_one.module.unload()


@pytest.fixture
def full(monkeypatch):
    """Makes disks full: returns the list of folders on them."""
    whole, folders = tempfile.TemporaryFile, []

    def no_space(*arguments, dir=None, **options):
        if any(str(dir).startswith(str(one)) for one in folders):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(*arguments, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", no_space)
    return folders


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("meta", lambda data: b""),
        ("meta", lambda data: data[: len(data) // 2]),
        ("meta", lambda data: b"\xff" * len(data)),
        ("o", lambda data: b""),
        ("o", lambda data: data[: len(data) // 2]),
        ("o", lambda data: bytes(len(data))),  # as after a power cut
    ],
)
def test_a_damaged_entry_is_compiled_anew(folder, caplog, capfd, suffix, damage):
    assert ones_plus_one() == [2, 2, 2]
    (file,) = folder.glob(f"*/*.{suffix}")
    whole = file.stat().st_size
    file.write_bytes(damage(file.read_bytes()))
    assert ones_plus_one() == [2, 2, 2]
    assert file.stat().st_size == whole
    assert Path(wp.config.kernel_cache_dir) == folder
    assert (caplog.messages, *capfd.readouterr()) == ([], "", "")


def test_half_an_entry_on_a_full_disk_is_left_as_well(folder, full, caplog):
    ones_plus_one()
    (file,) = folder.glob("*/*.meta")
    file.unlink()
    full.append(folder)
    assert ones_plus_one() == [2, 2, 2]
    assert len(caplog.messages) == 1


def test_kernels_of_a_full_disk_are_loaded_without_a_word(folder, full, caplog):
    ones_plus_one()
    full.append(folder)
    assert ones_plus_one() == [2, 2, 2]
    assert caplog.messages == []


@pytest.mark.parametrize("what", ["full", "a file", "gone"])
def test_a_folder_that_cannot_be_written_is_left_with_one_line(folder, full, caplog, what):
    if what == "full":
        full.append(folder)
    else:
        folder.rmdir()
    if what == "a file":
        folder.touch()
    assert ones_plus_one() == [2, 2, 2]
    (line,) = caplog.messages
    for word in (str(folder), wp.config.kernel_cache_dir, "WARP_CACHE_PATH", "this run alone"):
        assert word in line
    assert list(Path(wp.config.kernel_cache_dir).iterdir())


def test_where_nothing_can_be_written_both_folders_are_named(folder, full, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full.append(tmp_path)
    with pytest.raises(cache.KernelError, match="No space left on device") as refusal:
        ones_plus_one()
    for word in (str(folder), wp.config.kernel_cache_dir, "WARP_CACHE_PATH"):
        assert word in str(refusal.value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(cache.KernelError, match="nor in a temporary folder"):
        ones_plus_one()


@pytest.mark.parametrize("home", ["read only", "none"])
def test_a_user_without_a_home_gets_a_temporary_folder(home, tmp_path):
    """It is removed at exit; nothing is left in the working directory."""
    lines = ["import pathlib", "def no_home(): raise RuntimeError('there is no home')"]
    if home == "none":
        lines.append("pathlib.Path.home = no_home")
    lines.append("from facerecon_lib.rendering.rasterizer import check_rasterizer")
    lines.append("print(check_rasterizer())")
    unset = ("WARP_CACHE_PATH", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": "/proc/nope", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=True,
    )  # fmt: skip
    folder = done.stdout.strip()
    (line,) = done.stderr.splitlines()
    assert line.startswith("facerecon: ")
    assert str(Path(folder).parent) in line
    assert not Path(folder).parent.exists()
    assert not list(tmp_path.iterdir())
