"""`facerecon reconstruct`, feed-forward."""

import numpy as np
import pytest
from command_line import SAMPLE, assert_landmarks_reproject, result_of, works
from PIL import Image

from facerecon_lib.reconstruction import output_folder


def test_reconstruct_writes_what_fit_writes(sample, encoded):
    folders = [{p.name for p in folder.iterdir()} for folder in (sample[0], encoded[0])]
    assert folders[0] == folders[1] == output_folder.ALWAYS
    fitted, ours = (result_of(f) for f in (sample[0], encoded[0]))
    assert list(ours) == list(fitted)
    assert ours["losses"].keys() == fitted["losses"].keys()
    assert (fitted["method"], fitted["init"], fitted["checkpoint"]) == (
        "dense",
        None,
        "base_encoder.safetensors",
    )
    assert (ours["method"], ours["init"]) == ("encoder", None)
    assert ours["checkpoint"] == "untrained.safetensors"
    assert ours["landmarks_px"] == fitted["landmarks_px"]
    assert ours["pose"]["rotation"] == pytest.approx([0, 0, 0.1], abs=1e-6)
    stages = ("detection", "encoder", "points", "light", "verdict", "writing", "total")
    assert set(ours["seconds"]) == {*stages}


def test_a_reconstruction_that_is_off_says_so(encoded):
    folder, done = encoded
    result = result_of(folder)
    assert result["converged"] is False
    assert "outer eye distance" in result["not_converged_because"][0]
    assert "falling" not in " ".join(result["not_converged_because"])
    assert "NOT TO BE RELIED ON: landmarks are" in " ".join(done.stdout.split())


def test_a_photo_on_its_side_or_head_comes_out_as_well_as_upright(tmp_path):
    """And result.json is of the photo as it is."""
    photos = [tmp_path / f"{degrees}.png" for degrees in (0, 90, 180, 270)]
    for path in photos:
        Image.open(SAMPLE).rotate(int(path.stem)).save(path)
    works("reconstruct", *photos, "--out", tmp_path / "out")
    upright, *turned = (result_of(tmp_path / "out" / path.stem) for path in photos)
    assert upright["losses"]["landmark_error"] < 0.06
    for quarters, result in enumerate(turned, 1):
        assert result["converged"] == upright["converged"]
        for name in ("landmark_error", "photometric_error"):
            assert result["losses"][name] == pytest.approx(upright["losses"][name], abs=0.005)
        assert_landmarks_reproject(result)
        there, here = (np.array(r["landmarks_model_px"]) - 256 for r in (upright, result))
        turn = np.linalg.matrix_power([[0, 1], [-1, 0]], quarters)  # counterclockwise, +y down
        assert np.abs(here - there @ turn.T).max() < 3  # of 512 pixels
        matrix = np.array(result["crop"]["matrix"])
        np.testing.assert_array_equal(matrix[:, :2], np.eye(2) * matrix[0, 0])
