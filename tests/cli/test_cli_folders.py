"""The folders of results: whose they are, how they are called, that they are whole."""

import os

import pytest
from command_line import SAMPLE, facerecon, refused, result_of, works
from PIL import Image

from facerecon_lib.reconstruction import output_folder, result_files


@pytest.mark.usefixtures("quick")
def test_photos_of_one_name_get_folders_of_their_own_and_old_results_are_replaced(tmp_path):
    other = tmp_path / "astronaut.png"
    Image.open(SAMPLE).save(other)
    out = tmp_path / "out"
    (out / "astronaut").mkdir(parents=True)
    (out / "astronaut" / "result.json").write_text("old")
    works("fit", SAMPLE, other, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == ["astronaut", "astronaut-2"]
    assert result_of(out / "astronaut")["converged"] in (True, False)


def test_a_folder_with_other_peoples_files_is_left_alone(tmp_path):
    """`facerecon fit me/me.jpg --out .` must not remove the folder `me` with the photo in it."""
    mine = tmp_path / "me"
    mine.mkdir()
    photo = mine / "me.jpg"
    photo.write_bytes(SAMPLE.read_bytes())
    result = facerecon("fit", photo, "--out", tmp_path)
    refused(result, "holds me.jpg, which facerecon did not write")
    assert photo.read_bytes() == SAMPLE.read_bytes()
    (tmp_path / "astronaut").write_text("a file")
    refused(facerecon("fit", SAMPLE, "--out", tmp_path), "is no folder")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "name", ["...jpg", "..jpg", "x[@click=(].jpg", "math$^$.jpg", "s" * 245 + ".jpg"]
)
def test_odd_names_stay_inside_the_output_folder(tmp_path, name):
    photo = tmp_path / "photos" / name
    photo.parent.mkdir()
    photo.write_bytes(SAMPLE.read_bytes())
    out = tmp_path / "a" / "out"
    out.mkdir(parents=True)
    for precious in (out / "precious.txt", tmp_path / "a" / "precious.txt"):
        precious.write_text("keep")
    result = works("fit", photo, "--out", out)
    assert name in result.stdout.replace("\n", "")
    assert (out / "precious.txt").read_text() == "keep"
    assert (tmp_path / "a" / "precious.txt").read_text() == "keep"
    folders = [p for p in out.iterdir() if p.is_dir()]
    assert len(folders) == 1
    assert {p.name for p in folders[0].iterdir()} == output_folder.ALWAYS


@pytest.mark.usefixtures("quick")
def test_a_name_that_is_no_utf8_is_no_reason_to_fail(tmp_path):
    photo = os.path.join(os.fsencode(tmp_path), b"bad\xff.jpg")
    with open(photo, "wb") as file:
        file.write(SAMPLE.read_bytes())
    out = tmp_path / "out"
    works("fit", os.fsdecode(photo), "--out", out)
    assert len(list(out.iterdir())) == 1


@pytest.mark.usefixtures("quick")
def test_an_interrupt_while_writing_leaves_the_old_result(tmp_path, monkeypatch):
    old = tmp_path / "astronaut"
    old.mkdir()
    (old / "result.json").write_text("old")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(result_files, "write_pictures", interrupted)
    assert facerecon("fit", SAMPLE, "--out", tmp_path).exit_code != 0
    assert [p.name for p in tmp_path.iterdir()] == ["astronaut"]
    assert (old / "result.json").read_text() == "old"
