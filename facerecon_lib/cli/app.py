"""The command `facerecon`.

facerecon fit me.jpg --out outputs            # mesh, overlay, figure and result.json
facerecon reconstruct me.jpg --out outputs    # the same from the encoder, feed-forward
facerecon evaluate                            # how right the encoder is: tables
facerecon doctor                              # what is here, what is missing, what to do
"""

import sys
from typing import Annotated

import typer

from .. import __version__
from ..files.streams import forgive_streams
from .console import fail, out_console, say
from .evaluate import evaluate
from .model import model_app
from .photos import fit, reconstruct
from .train import train_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D face reconstruction from a single photo.",
)
app.add_typer(model_app, name="model")
app.add_typer(train_app, name="train")

RENAMED = {"--light": "--illumination", "--details": "--wrinkles"}
RENAMED |= {"--no-details": "--no-wrinkles", "--detail-checkpoint": "--unet"}

for command in (fit, reconstruct, evaluate):
    app.command()(command)


def _say_version(asked: bool) -> None:
    if asked:
        say(f"facerecon-lib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def doctor() -> None:
    """Print what is here, what is missing, and what to do about it."""
    from .doctor import report

    raise typer.Exit(0 if report(out_console) else 1)


def main() -> None:
    """The entry point: typer's own usage errors exit with 2, as ours do."""
    forgive_streams()
    for word in sys.argv[1:]:
        old = word.partition("=")[0]
        if old in RENAMED:
            fail(f"{old} is called {RENAMED[old]} now")
            sys.exit(2)
    app()
