"""The command `facerecon` in this process, and what its tests share."""

import json
import math
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from facerecon_lib.cli import app as cli
from facerecon_lib.photos.detection import ASSETS

SAMPLE = ASSETS / "astronaut.jpg"


def facerecon(*words) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def works(*words) -> Result:
    """Of a command that must exit with 0."""
    done = facerecon(*words)
    assert done.exit_code == 0, done.output
    return done


def refused(done: Result, *words: str) -> None:
    """Exit code 2, and one line on stderr that has these words."""
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("facerecon: ")
    assert done.stderr.strip().count("\n") == 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def assert_landmarks_reproject(r: dict) -> None:
    """From the numbers of a result alone, to a tenth of a pixel of the photo."""
    v, pose, matrix = np.array(r["landmarks_mm"]), r["pose"], np.array(r["crop"]["matrix"])
    x = pose["scale"] * v @ np.array(pose["rotation_matrix"]).T + np.array(pose["translation_mm"])
    focal = r["crop"]["size"] / 2 / math.tan(math.radians(r["camera"]["fov_deg"]) / 2)
    crop = np.array(r["camera"]["principal_point"]) - focal * x[:, :2] / x[:, 2:]
    photo = np.linalg.solve(matrix[:, :2], (crop - matrix[:, 2]).T).T
    assert np.abs(photo - np.array(r["landmarks_model_px"])).max() < 0.1
