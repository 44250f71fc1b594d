"""Runs a script's main as its command line would."""

from collections.abc import Callable

import typer
from typer.testing import CliRunner, Result


def run_script(main: Callable, *arguments: object, **settings) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [*map(str, arguments)], **settings)
