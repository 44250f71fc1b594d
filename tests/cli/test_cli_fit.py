"""`facerecon fit`, from photo to folder."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from command_line import SAMPLE, assert_landmarks_reproject, facerecon, refused, result_of, works
from PIL import Image
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

from facerecon_lib.face.model_file import default_model_path, read_model_file
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.fitting.fit import FitSettings
from facerecon_lib.photos.reading import load_image
from facerecon_lib.reconstruction import output_folder
from facerecon_lib.reconstruction.reconstruct import fit_face
from facerecon_lib.reconstruction.result_files import result_dict


def test_a_photo_gives_mesh_pictures_and_result(sample):
    folder, done = sample
    assert sorted(p.name for p in folder.iterdir()) == [
        "figure.png", "mesh.glb", "mesh.ply", "overlay.png", "result.json",
    ]  # fmt: skip
    assert "astronaut.jpg: landmarks" in done.stdout
    assert "NOT TO BE RELIED ON" not in done.stdout
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


SLOW = ["torchvision", "scipy", "matplotlib", "webdataset", "timm", "skimage", "pandas", "trimesh"]
"""Packages that take a second or more to import together, and that no fit of a face needs."""


@pytest.mark.parametrize("command", ["fit --no-figure", "reconstruct --figure"])
def test_nothing_slow_is_imported_for_a_photo(tmp_path, command):
    look = f"""
import sys
from facerecon_lib.cli.app import main
from facerecon_lib.fitting.fit import FitSettings
from facerecon_lib.reconstruction import reconstruct

whole, few = reconstruct.fit, FitSettings(landmark_steps=20, coarse_steps=2, fine_steps=2)
reconstruct.fit = lambda *a, **k: whole(*a, **(k | {{"settings": few}}))
sys.argv = ["facerecon", *{command.split()}, {str(SAMPLE)!r}, "--out", {str(tmp_path)!r}]
try:
    main()
except SystemExit as done:
    print(done.code, [name for name in {SLOW} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    written = {path.name for path in (tmp_path / "astronaut").iterdir()}
    without = {"figure.png"} if "--no-figure" in command else set()
    assert written == output_folder.ALWAYS - without
    assert ("overlay.png" if without else "figure.png") in done.stdout


def test_the_result_holds_what_is_promised(sample):
    result = result_of(sample[0])
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
    eyes = result["gaze"]
    assert list(eyes) == ["right", "left"]
    assert eyes["right"]["seen"] is eyes["left"]["seen"] is True
    assert abs(eyes["right"]["yaw_deg"] - eyes["left"]["yaw_deg"]) < 5
    assert all(abs(angle) < 25 for eye in eyes.values() for angle in eye["mesh_deg"])
    assert result["recognition"] is None
    assert "recognition" not in result["losses"]


@pytest.mark.parametrize("made_by", ["sample", "encoded"])
def test_from_the_file_alone_landmarks_reproject_to_a_tenth_of_a_pixel(made_by, request):
    assert_landmarks_reproject(result_of(request.getfixturevalue(made_by)[0]))


def test_axis_angle_and_matrix_of_the_result_agree(sample):
    pose = result_of(sample[0])["pose"]
    turned = np.diag([-1, 1, -1]) @ Rotation.from_rotvec(pose["rotation"]).as_matrix()
    np.testing.assert_allclose(turned, pose["rotation_matrix"], atol=1e-5)


def test_both_meshes_open_and_hold_the_landmarks_and_colours(sample):
    landmarks = np.array(result_of(sample[0])["landmarks_mm"])
    for name in ("mesh.ply", "mesh.glb"):
        mesh = trimesh.load(sample[0] / name, force="mesh", process=False)
        assert len(mesh.vertices) > 10_000
        distance = np.linalg.norm(mesh.vertices[None] - landmarks[:, None], axis=-1).min(1)
        assert distance.max() < 1e-2
        visual = mesh.visual.to_color() if name == "mesh.glb" else mesh.visual
        assert visual.vertex_colors[:, :3].std() > 5


def test_the_overlay_is_the_photo_outside_the_face(sample):
    overlay = np.asarray(Image.open(sample[0] / "overlay.png")).astype(int)
    photo = np.asarray(Image.open(SAMPLE).convert("RGB")).astype(int)
    assert overlay.shape == photo.shape
    assert np.abs(overlay - photo)[:, :60].mean() < 1
    assert np.abs(overlay - photo)[60:180, 180:260].mean() > 2


def test_fit_starts_from_the_encoder_where_it_is_asked_to(tmp_path, checkpoint, fit_with):
    fit_with(landmark_steps=0, coarse_steps=0, fine_steps=0)
    start = ["--method", "adam", "--init", "encoder", "--checkpoint", checkpoint]
    done = works("fit", SAMPLE, "--out", tmp_path, *start)
    result = result_of(tmp_path / "astronaut")
    assert result["pose"]["rotation"] == pytest.approx([0, 0, 0.1], abs=1e-6)
    assert (result["method"], result["init"]) == ("fit", "encoder")
    assert result["checkpoint"] == "untrained.safetensors"
    assert "NOT TO BE RELIED ON" in done.stdout


def test_a_model_that_no_encoder_knows_is_moved_to_the_points_from_its_mean(tmp_path, sample):
    state, metadata = read_model_file(default_model_path())
    path = tmp_path / "other.safetensors"
    save_file(state, path, metadata | {"name": "another model"})
    command = "fit", SAMPLE, "--model", path, "--out", tmp_path
    works(*command)
    mean, encoded = (result_of(folder) for folder in (tmp_path / "astronaut", sample[0]))
    assert (mean["method"], mean["init"], mean["checkpoint"]) == ("dense", "landmarks", None)
    assert mean["converged"] is True
    errors = [r["losses"]["landmark_error_inner"] for r in (mean, encoded)]
    assert errors[0] < max(0.03, 1.3 * errors[1])
    assert mean["actions"]["mouthSmileLeft"] > 0.3
    for group in ("id", "alb"):
        assert np.abs(mean["coefficients"][group]).max() > 0.1
    shipped = shipped_file("base_encoder.safetensors")
    refused(
        facerecon(*command, "--checkpoint", shipped), "was trained for", "not for another model"
    )


def test_a_fit_that_did_not_converge_says_so(tmp_path, fit_with, monkeypatch):
    fit_with(landmark_steps=1, coarse_steps=0, fine_steps=0)
    monkeypatch.setattr("facerecon_lib.fitting.fit.MAX_LANDMARK_ERROR", 0.01)
    assert (
        "NOT TO BE RELIED ON" in works("fit", SAMPLE, "--out", tmp_path, "--method", "adam").stdout
    )
    stored = result_of(tmp_path / "astronaut")
    assert stored["converged"] is False
    assert "outer eye distance" in stored["not_converged_because"][0]


def test_the_field_of_view_of_the_settings_reaches_the_result(model):
    few = FitSettings(landmark_steps=60, coarse_steps=10, fine_steps=5, fov_deg=15.0)
    done = fit_face(load_image(SAMPLE), model, settings=few)
    result = result_dict(done)
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
    result = facerecon("fit", path, "--out", out)
    assert "2 faces; took the largest (--face N picks another)" in result.stdout
    first = result_of(out / "two")
    assert np.mean(first["landmarks_px"], 0)[0] < photo.width
    result = facerecon("fit", path, "--out", out, "--face", "2")
    assert "took number 2 by size" in result.stdout
    second = result_of(out / "two-2")
    assert np.mean(second["landmarks_px"], 0)[0] > photo.width
    refused(facerecon("fit", path, "--out", out, "--face", "3"), "no face 3")


def test_a_fit_can_be_told_to_know_the_face(tmp_path, quick):
    works("fit", SAMPLE, "--out", tmp_path, "--method", "adam", "--recognition", "dlib")
    written = result_of(tmp_path / "astronaut")
    assert written["recognition"] == "dlib"
    assert 0 < written["losses"]["recognition"] < 15
