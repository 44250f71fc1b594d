"""Bad photos, options and files: one line, exit 2, and the other photos are done."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SAMPLE, facerecon, refused, result_of, works
from PIL import Image

from facerecon_lib import __version__
from facerecon_lib.cli import app as cli
from facerecon_lib.files import atomic
from facerecon_lib.photos.detection import ASSETS
from facerecon_lib.reconstruction import reconstruct as results

BAD = {"blank.png": "no face", "text.jpg": "text.jpg", "empty.png": "empty", "cut.jpg": "cut.jpg"}
BAD |= {"directory": "folder", "missing.jpg": "missing.jpg"}
"""Photos that nobody can use, and a word of what is said about each."""


@pytest.fixture
def bad(tmp_path) -> list[Path]:
    Image.fromarray(np.full((120, 160, 3), 127, np.uint8)).save(tmp_path / "blank.png")
    (tmp_path / "text.jpg").write_text("I am no picture\n")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes(SAMPLE.read_bytes()[:4000])
    (tmp_path / "directory").mkdir()
    return [tmp_path / name for name in BAD]


def test_reconstruct_refuses_bad_photos_as_fit_does(bad, tmp_path, checkpoint):
    out = tmp_path / "out"
    result = facerecon("reconstruct", *bad, SAMPLE, "--out", out, "--checkpoint", checkpoint)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for name, word in BAD.items():
        (line,) = (line for line in lines if name in line)
        assert line.startswith("facerecon: ")
        assert word in line
    assert [p.name for p in out.iterdir()] == ["astronaut"]


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("reconstruct", ["--checkpoint", "nowhere.safetensors"], "there is no such encoder"),
        ("reconstruct", ["--checkpoint", SAMPLE], "not a readable safetensors file"),
        (
            "reconstruct",
            ["--checkpoint", ASSETS / "face_model.safetensors"],
            "no encoder of this project",
        ),
        ("reconstruct", ["--face", "0"], "--face 0: faces count from 1"),
        ("reconstruct", ["--device", "toaster"], "--device toaster: expected cpu"),
        ("fit", ["--face", "0"], "--face 0: faces count from 1"),
        ("fit", ["--model", SAMPLE], "not a readable safetensors file"),
        ("fit", ["--model", "nowhere.safetensors"], "no such face model"),
        ("fit", ["--device", "cuda:99"], "--device cuda:99"),
        ("fit", ["--device", "toaster"], "--device toaster: expected cpu, cuda or cuda:N"),
        ("fit", ["--device", "meta"], "--device meta: expected cpu"),
        ("fit", ["--init", "guess"], "--init guess: expected landmarks or encoder"),
        ("fit", ["--method", "guess"], "--method guess: expected dense or adam"),
        ("fit", ["--init", "encoder"], "--init is for gradient descent: add --method adam"),
        ("fit", ["--recognition", "dlib"], "--recognition is for gradient descent"),
        ("fit", ["--method", "adam", "--checkpoint", "any"], "add --init encoder"),
        ("fit", ["--checkpoint", "nowhere"], "there is no such encoder"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tmp_path, command, options, says):
    out = tmp_path / "out"
    refused(facerecon(command, SAMPLE, "--out", out, *options), says)
    assert not out.exists()


def test_the_command_starts_without_loading_torch():
    look = "import sys, facerecon_lib.cli.app; print([m for m in sys.modules if m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_photo_exits_2_with_one_line_and_writes_nothing(bad, tmp_path, name):
    out = tmp_path / "out"
    refused(facerecon("fit", tmp_path / name, "--out", out), BAD[name])
    assert list(out.iterdir()) == []


def test_an_unreadable_photo_exits_2(tmp_path, monkeypatch):
    photo = tmp_path / "secret.png"
    photo.write_bytes(SAMPLE.read_bytes())
    whole = Path.read_bytes

    def forbidden(path):
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied", path)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    refused(facerecon("fit", photo, "--out", tmp_path / "out"), "secret.png")


def test_an_output_that_cannot_be_written_exits_2_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    refused(facerecon("fit", SAMPLE, "--out", tmp_path / "file" / "out"), "cannot be written")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic.tempfile, "TemporaryFile", forbidden)
    result = facerecon("fit", SAMPLE, "--out", tmp_path / "out")
    refused(result, "cannot be written (Permission denied)")


@pytest.mark.usefixtures("quick")
def test_whatever_goes_wrong_with_one_photo_the_others_are_done(tmp_path, monkeypatch):
    whole, calls = results.fit_points, []

    def fails_twice(*args, **kwargs):
        calls.append(1)
        if len(calls) <= 2:  # for both, and for the first alone
            raise RuntimeError("CUDA out of memory.\nSecond line")
        return whole(*args, **kwargs)

    monkeypatch.setattr(results, "fit_points", fails_twice)
    other = tmp_path / "other.jpg"
    other.write_bytes(SAMPLE.read_bytes())
    out = tmp_path / "out"
    result = facerecon("fit", SAMPLE, other, "--out", out)
    assert result.exit_code == 2
    assert result.stderr == "facerecon: astronaut.jpg: CUDA out of memory. Second line\n"
    assert [p.name for p in out.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("face", "expected none, dlib or facenet"), ("facenet", "put the file at")],
)
def test_a_network_that_is_not_here_exits_2_and_nothing_is_fitted(
    tmp_path, monkeypatch, name, says
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(
        "facerecon_lib.networks.face_networks.FACENET_URL", "http://127.0.0.1:1/x.pt"
    )
    out = tmp_path / "out"
    result = facerecon("fit", SAMPLE, "--out", out, "--method", "adam", "--recognition", name)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.splitlines()[-1].startswith("facerecon: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--detail", "more"], "--detail more: expected unet or shading"),
        (["--augmented", "--detail", "shading"], "leave it or --detail shading out"),
        (["--unet", "u.safetensors", "--detail", "shading"], "add --augmented"),
    ],
)
def test_details_that_do_not_go_together_are_refused(tmp_path, options, says):
    result = facerecon("reconstruct", SAMPLE, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_option_of_an_old_name_is_refused_with_the_new_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["facerecon", "evaluate", "--light=known"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "facerecon: --light is called --illumination now\n"


def test_the_version_is_printed():
    assert works("--version").stdout == f"facerecon-lib {__version__}\n"


@pytest.mark.slow
def test_photos_are_done_where_nothing_can_be_printed(tmp_path):
    """A name that stdout cannot show, a photo that fails, and full disks under both streams."""
    photo = tmp_path / "фото.jpg"
    photo.write_bytes(SAMPLE.read_bytes())
    command = [sys.executable, "-m", "facerecon_lib.cli", "reconstruct", photo, "none.jpg", SAMPLE]
    for name, environment, streams in (
        ("ascii", {"PYTHONIOENCODING": "ascii"}, subprocess.PIPE),
        ("full", {}, open("/dev/full", "w")),  # noqa: SIM115
    ):
        done = subprocess.run(
            [*command, "--out", tmp_path / name],
            env=os.environ | environment, stdout=streams, stderr=streams,
        )  # fmt: skip
        assert done.returncode == 2  # of none.jpg
        for folder in (photo.stem, SAMPLE.stem):
            assert result_of(tmp_path / name / folder)["photo"].startswith(folder)
        assert b"Traceback" not in (done.stderr or b"")


def test_a_missing_option_is_a_usage_error():
    assert facerecon("fit", SAMPLE).exit_code == 2
    assert facerecon("fit").exit_code == 2
