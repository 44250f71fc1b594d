"""The networks are converted anew to the numbers that ship; other files are refused in one line."""

import importlib.util
import os
import zipfile
from pathlib import Path

import convert_face_mesh
import pytest
from convert_face_mesh import DETECTOR, FOLDER, MESH, OUT
from safetensors import safe_open
from typer.testing import CliRunner


def mediapipe() -> Path | None:
    """The wheel that FACERECON_TEST_MEDIAPIPE names, or the installed package."""
    if named := os.environ.get("FACERECON_TEST_MEDIAPIPE"):
        return Path(named)
    spec = importlib.util.find_spec("mediapipe")
    return spec and Path(spec.submodule_search_locations[0])


def refused(source: Path, out: Path) -> str:
    app = convert_face_mesh.typer.Typer()
    app.command()(convert_face_mesh.main)
    result = CliRunner().invoke(app, [str(source), "--out", str(out)])
    assert result.exit_code == 2
    assert not out.exists()
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.slow
@pytest.mark.skipif(mediapipe() is None, reason="FACERECON_TEST_MEDIAPIPE names no wheel")
def test_the_wheel_gives_the_file_that_ships(tmp_path):
    pytest.importorskip("tflite", reason="needs the package tflite")
    out = tmp_path / "face_mesh.safetensors"
    assert convert_face_mesh.convert(mediapipe(), out) == OUT.stat().st_size
    with safe_open(out, "np") as anew, safe_open(OUT, "np") as shipped:
        assert anew.metadata() == shipped.metadata()
        assert sorted(anew.keys()) == sorted(shipped.keys())
        for name in anew.keys():  # noqa: SIM118
            assert (anew.get_tensor(name) == shipped.get_tensor(name)).all(), name


def test_other_sources_are_refused(tmp_path):
    out = tmp_path / "out.safetensors"
    assert "there is no such wheel or folder" in refused(tmp_path / "none.whl", out)
    assert "holds no face_detection_short_range.tflite" in refused(tmp_path, out)
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("mediapipe/LICENSE", "")
    assert "holds no face_detection_short_range.tflite" in refused(wheel, out)
    (tmp_path / "text.whl").write_text("text")
    assert "holds no face_detection_short_range.tflite" in refused(tmp_path / "text.whl", out)


def test_other_networks_are_refused(tmp_path):
    pytest.importorskip("tflite", reason="needs the package tflite")
    for name in (DETECTOR, MESH):
        path = tmp_path / FOLDER / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"text")
    out = tmp_path / "out.safetensors"
    assert "not a TensorFlow Lite file" in refused(tmp_path, out)
    if mediapipe() is not None:
        mesh = convert_face_mesh.read_source(mediapipe(), MESH)
        (tmp_path / FOLDER / DETECTOR).write_bytes(mesh)
        assert "holds other networks than those of mediapipe 0.10.21" in refused(tmp_path, out)
