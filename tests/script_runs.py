"""Runs a script's main as its command line would; what `make lab` gives to the server."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import typer
from typer.testing import CliRunner, Result


def run_script(main: Callable, *arguments: object, **settings) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [*map(str, arguments)], **settings)


def lab_options() -> list[str]:
    """Of `make lab`, those that set the server up."""
    root = Path(__file__).parents[1]
    done = subprocess.run(["make", "-n", "lab"], cwd=root, capture_output=True, text=True)
    words = shlex.split(done.stdout, comments=True)
    return [word for word in words if word.startswith("--ServerApp.tornado_settings")]
