"""`facerecon reconstruct`, feed-forward."""

import pytest
from command_line import result_of

from facerecon_lib.reconstruction import output_folder


def test_reconstruct_writes_what_fit_writes(sample, encoded):
    folders = [{p.name for p in folder.iterdir()} for folder in (sample[0], encoded[0])]
    assert folders[0] == folders[1] == output_folder.ALWAYS
    fitted, ours = (result_of(f) for f in (sample[0], encoded[0]))
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
    result = result_of(folder)
    assert result["converged"] is False
    assert "outer eye distance" in result["not_converged_because"][0]
    assert "falling" not in " ".join(result["not_converged_because"])
    assert "NOT TO BE TRUSTED: landmarks are" in " ".join(done.stdout.split())
