"""Files that appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facerecon_lib.files.atomic import write_whole


@pytest.mark.parametrize("name", ["a.json", "é" * 100 + ".json"])
def test_the_file_changes_when_the_block_is_left(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text("old")
    with write_whole(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_alone(tmp_path: Path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), write_whole(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["folder", "missing/a.json"])
def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path, place: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"), write_whole(tmp_path / place) as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        for name, write in (
            ("a.txt", lambda partial: partial.write_text("text")),
            ("a.safetensors", lambda partial: save_file({"a": torch.ones(1)}, partial)),
        ):
            with write_whole(tmp_path / name) as partial:
                write(partial)
            mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
            assert mode == 0o666 & ~mask, name
    finally:
        os.umask(before)
