"""The command `facerecon` in this process, and what its tests share."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from facerecon_lib.cli import app as cli
from facerecon_lib.photos.detection import ASSETS

SAMPLE = ASSETS / "astronaut.jpg"


def facerecon(*words) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


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
