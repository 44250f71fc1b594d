"""Whose a folder of results is, where a result goes, and what a killed run leaves."""

import json
import os
import subprocess
import sys
import time

import pytest

from facerecon_lib.reconstruction import output_folder
from facerecon_lib.reconstruction.output_folder import (
    LITTER,
    WORK,
    WRITTEN,
    OutputError,
    check_replaceable,
    clean_up,
    digests_of,
    folder_for,
    replacing,
)


def result_in(folder, sha256="a" * 64, method="fit", face=1, **more):
    """A result of ours, of two files."""
    folder.mkdir(parents=True)
    (folder / "mesh.ply").write_text("a mesh")
    ours = {"version": "0.1.0", "units": "mm", "photo": "me.jpg", "files": digests_of(folder)}
    ours |= {"photo_sha256": sha256, "method": method, "face": face}
    (folder / "result.json").write_text(json.dumps(ours | more))
    return {"photo_sha256": sha256, "method": method, "face": face}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_file_of_one_of_our_names_is_not_ours_for_that(tmp_path, name):
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / name).write_text('{"my": "laser scan"}')
    with pytest.raises(OutputError, match="did not write"):
        check_replaceable(tmp_path / "me")
    with pytest.raises(OutputError), replacing(tmp_path / "me"):
        pass
    assert (tmp_path / "me" / name).read_text() == '{"my": "laser scan"}'


@pytest.mark.parametrize("change", ["other", "changed", "folder", "link", "strange result"])
def test_what_the_result_does_not_name_or_somebody_changed_stays(tmp_path, change):
    folder = tmp_path / "me"
    result_in(folder)
    check_replaceable(folder)
    if change == "other":
        (folder / "figure.png").write_text("mine")
    elif change == "changed":
        (folder / "mesh.ply").write_text("a mesh, smoothed")
    elif change == "folder":
        (folder / "texture_map.png").mkdir()
    elif change == "link":
        (folder / "mesh.ply").unlink()
        (folder / "mesh.ply").symlink_to("result.json")
    else:
        (folder / "result.json").write_text('["units", "photo", "version"]')
    with pytest.raises(OutputError, match="did not write"):
        check_replaceable(folder)


def test_no_input_is_replaced(tmp_path):
    result_in(tmp_path / "me", files={"overlay.png": None, "mesh.ply": None})
    photo = tmp_path / "me" / "overlay.png"
    photo.write_text("the photo")
    check_replaceable(tmp_path / "me")
    with pytest.raises(OutputError, match=r"holds the photo overlay\.png"):
        check_replaceable(tmp_path / "me", [tmp_path / "other.jpg", photo])


def test_another_photo_method_or_face_gets_the_next_number(tmp_path):
    folder = tmp_path / "me"
    mine = result_in(folder)
    assert folder_for(folder, mine) == folder
    for other in ({"photo_sha256": "b"}, {"method": "encoder"}, {"face": 2}):
        assert folder_for(folder, mine | other) == tmp_path / "me-2"
    result_in(tmp_path / "me-2", "b")
    assert folder_for(folder, mine | {"photo_sha256": "b"}) == tmp_path / "me-2"
    assert folder_for(folder, mine | {"photo_sha256": "c"}) == tmp_path / "me-3"
    assert folder_for(tmp_path / "ME", mine, taken=[folder]) == tmp_path / "ME-2"


@pytest.mark.parametrize("name", [*sorted(LITTER), "._mesh.ply", ".nfs0000a1"])
def test_what_systems_leave_is_carried_over(tmp_path, name):
    folder = tmp_path / "me"
    result_in(folder)
    (folder / name).write_text("of the system")
    with replacing(folder) as partial:
        (partial / "new").write_text("new")
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, "new"])
    assert [p.name for p in tmp_path.iterdir()] == ["me"]


def test_a_stop_between_the_two_renames_puts_the_old_result_back(tmp_path, monkeypatch):
    folder = tmp_path / "me"
    result_in(folder)
    whole = type(folder).rename

    def stopped(path, target):
        if path.name == "new":
            raise SystemExit(143)
        return whole(path, target)

    monkeypatch.setattr(type(folder), "rename", stopped)
    with pytest.raises(SystemExit), replacing(folder):
        pass
    assert (folder / "mesh.ply").read_text() == "a mesh"
    assert [p.name for p in tmp_path.iterdir()] == ["me"]


KILLED = """
import sys, time
from pathlib import Path
from facerecon_lib.reconstruction import output_folder

if sys.argv[2] == "between":
    whole = Path.rename
    Path.rename = lambda path, to: time.sleep(60) if path.name == "new" else whole(path, to)
with output_folder.replacing(Path(sys.argv[1])) as partial:
    (partial / "mesh.ply").write_text("half")
    if sys.argv[2] == "before":
        time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["before", "between"])
def test_what_a_killed_run_leaves_is_cleaned_up_and_its_old_result_put_back(tmp_path, moment):
    folder = tmp_path / "me"
    result_in(folder)
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), moment])
    waiting = time.monotonic() + 60
    ready = (
        (lambda: not folder.exists())
        if moment == "between"
        else (lambda: any(tmp_path.glob(f"{WORK}*/new/mesh.ply")))
    )
    while not ready() and time.monotonic() < waiting:
        time.sleep(0.02)
    clean_up(tmp_path)  # a run that is alive keeps what is its own
    assert any(tmp_path.glob(f"{WORK}*"))
    run.kill()
    run.wait()
    clean_up(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["me"]
    assert (folder / "mesh.ply").read_text() == "a mesh"


def test_only_folders_of_work_are_cleaned_up(tmp_path):
    fresh = tmp_path / f"{WORK}fresh"
    fresh.mkdir()
    (tmp_path / "me").mkdir()
    clean_up(tmp_path)
    assert fresh.is_dir()
    os.utime(fresh, (0, 0))
    clean_up(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["me"]
    assert output_folder.WORK.startswith(".")
