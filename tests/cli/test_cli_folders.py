"""The folders of results: whose they are, how they are called, that they are whole."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import SAMPLE, facerecon, refused, result_of, works
from PIL import Image, ImageOps

from facerecon_lib.cli import photos as photos_command
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.reconstruction import output_folder, reconstruct, result_files


@pytest.mark.usefixtures("quick")
def test_photos_of_one_name_get_folders_of_their_own_and_old_results_are_replaced(tmp_path):
    mirrored, out = tmp_path / "astronaut.png", tmp_path / "out"
    ImageOps.mirror(Image.open(SAMPLE)).save(mirrored)
    works("fit", SAMPLE, mirrored, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == ["astronaut", "astronaut-2"]
    first, second = (result_of(out / name) for name in ("astronaut", "astronaut-2"))
    assert first["photo_path"] == str(SAMPLE)
    assert second["photo_sha256"] == sha256_of(mirrored) != first["photo_sha256"]
    again = works("fit", mirrored, "--out", out)  # alone: still not into the other's
    assert "holds another result" in again.stdout
    works("reconstruct", SAMPLE, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == [f"astronaut{i}" for i in ("", "-2", "-3")]
    assert result_of(out / "astronaut")["photo_sha256"] == first["photo_sha256"]


@pytest.mark.usefixtures("quick")
def test_programs_read_a_line_per_photo_and_quiet_is_quiet(tmp_path):
    tiny, missing = tmp_path / "tiny.png", tmp_path / "missing.jpg"
    image = Image.open(SAMPLE).crop((96, 0, 352, 256))
    image.resize((32, 32)).save(tiny)
    done = facerecon("fit", SAMPLE, tiny, missing, "--out", tmp_path / "out", "--json")
    failed, good, doubtful = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 2
    assert good["folder"] == str(tmp_path / "out" / "astronaut")
    assert doubtful["converged"] is False
    assert "under 30" in " ".join(doubtful["not_converged_because"])
    assert (failed["photo"], "no such file" in failed["error"]) == (str(missing), True)
    done = works("fit", tiny, "--out", tmp_path / "out", "--quiet")
    assert done.output == ""
    done = works("fit", SAMPLE, tiny, "--out", tmp_path / "out")
    *_, doubtful, rate = done.stdout.splitlines()
    assert doubtful == "1 of 2 faces are not to be relied on"
    assert re.fullmatch(r"[\d.]+ s, [\d.]+ photos per second", rate)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_leaves_whole_results_alone_and_each_is_reported(tmp_path, name):
    photos, out = [tmp_path / f"{i:02d}.jpg" for i in range(20)], tmp_path / "out"
    for photo in photos:
        photo.write_bytes(SAMPLE.read_bytes())
    command = [sys.executable, "-m", "facerecon_lib.cli", "fit", *photos, "--out", out, "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while run.poll() is None and not any(out.glob(".facerecon-*")):
        time.sleep(0.01)
    run.send_signal(getattr(signal, name))
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 128 + getattr(signal, name)
    assert b"Traceback" not in stderr
    folders = sorted(path for path in out.iterdir())
    assert len(folders) < len(photos)
    assert [json.loads(line)["folder"] for line in stdout.splitlines()] == [*map(str, folders)]
    for folder in folders:
        for file, digest in result_of(folder)["files"].items():
            assert sha256_of(folder / file) == digest


def test_more_photos_than_a_batch_holds_are_as_one_by_one(tmp_path, sample, monkeypatch):
    batches, whole = [], reconstruct.encode_faces
    monkeypatch.setattr(photos_command, "AT_ONCE", 3)

    def counted(batch, *how, **more):
        batches.append(len(batch))
        return whole(batch, *how, **more)

    monkeypatch.setattr(reconstruct, "encode_faces", counted)
    photos, out = [tmp_path / f"{i}.jpg" for i in range(5)], tmp_path / "out"
    for photo in photos:
        photo.write_bytes(SAMPLE.read_bytes())
    blank = tmp_path / "blank.png"
    Image.new("RGB", (160, 120), "grey").save(blank)
    command = ["fit", *photos[:2], blank, *photos[2:], "--out", out, "--no-figure"]
    done = facerecon(*command)
    assert (done.exit_code, batches) == (2, [3, 3])
    assert re.fullmatch(r"facerecon: blank.png: no face found.*\n", done.stderr)
    assert sorted(path.name for path in out.iterdir()) == [photo.stem for photo in photos]
    alone = result_of(sample[0])["landmarks_mm"]
    for photo in photos:
        np.testing.assert_allclose(result_of(out / photo.stem)["landmarks_mm"], alone, atol=0.01)
    monkeypatch.setattr(photos_command, "MOST_BYTES", 1.0)
    batches.clear()
    works("fit", *photos[:3], "--out", out, "--no-figure", "--quiet")
    assert batches == [1, 1, 1]


def test_a_folder_with_other_peoples_files_is_left_alone(tmp_path):
    """`facerecon fit me/me.jpg --out .` must not remove the folder `me` with the photo in it."""
    mine = tmp_path / "me"
    mine.mkdir()
    photo = mine / "me.jpg"
    photo.write_bytes(SAMPLE.read_bytes())
    result = facerecon("fit", photo, "--out", tmp_path)
    refused(result, "holds the photo me.jpg")
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
    ours = {"version": "0", "units": "mm", "photo": "astronaut.jpg", "files": {}}
    ours |= {"photo_sha256": sha256_of(SAMPLE), "method": "dense", "face": 1}
    text = json.dumps(ours)
    (old / "result.json").write_text(text)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(result_files, "write_meshes", interrupted)
    assert facerecon("fit", SAMPLE, "--out", tmp_path).exit_code != 0
    assert [p.name for p in tmp_path.iterdir()] == ["astronaut"]
    assert (old / "result.json").read_text() == text
