"""The command `facerecon`.

facerecon fit me.jpg --out outputs            # mesh, overlay, figure and result.json
facerecon reconstruct me.jpg --out outputs    # the same from the encoder, feed-forward
facerecon evaluate                            # how right the encoder is: tables
facerecon doctor                              # what is here, what is missing, what to do
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import error_console, fail, one_thread, out_console, refusals
from .evaluate import evaluate
from .photos import fit, reconstruct
from .train import train_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D face reconstruction from a single photo.",
)
model_app = typer.Typer(no_args_is_help=True, help="Facts and figures of a face model.")
app.add_typer(model_app, name="model")
app.add_typer(train_app, name="train")


RENAMED = {"--light": "--illumination", "--detail": "--augmented", "--details": "--wrinkles"}
RENAMED |= {"--no-details": "--no-wrinkles", "--detail-checkpoint": "--unet"}


def main() -> None:
    """The entry point: typer's own usage errors exit with 2, as ours do."""
    for word in sys.argv[1:]:
        old, *_ = word.partition("=")
        if old in RENAMED:
            fail(f"{old} is called {RENAMED[old]} now")
            sys.exit(2)
    app()


app.command()(fit)
app.command()(reconstruct)
app.command()(evaluate)


@app.command()
def doctor() -> None:
    """Print what is here, what is missing, and what to do about it."""
    from .doctor import report

    good = report(out_console)
    raise typer.Exit(0 if good else 1)


ModelPath = Annotated[
    Path | None, typer.Argument(help="Default: $FACERECON_MODEL, or the model that ships.")
]


@model_app.command("info")
def model_info(path: ModelPath = None) -> None:
    """Print a face model's facts: sizes, bases, landmarks, where it comes from."""
    from ..face.morphable_model import MorphableModel
    from .model_facts import model_facts

    with refusals():
        model = MorphableModel.load(path, subdivision=0)
    table = Table.grid(padding=(0, 2))
    for name, value in model_facts(model):
        table.add_row(Text(f"{name}:"), Text(value))
    out_console.print(table)


@model_app.command("show")
def model_show(
    path: ModelPath = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("face_model.png"),
    subdivision: Annotated[
        int | None, typer.Option(help="Loop steps, 0 to 3. Default: the model's own.")
    ] = None,
) -> None:
    """Draw a face model: mean, landmarks, modes, expressions, skins, random faces."""
    from ..face.morphable_model import MorphableModel
    from ..pictures.model_sheet import model_sheet
    from ..pictures.sheets import save_figure
    from ..reconstruction.output_folder import OutputError, claim_folder

    with refusals():
        if out.suffix.lower() != ".png":
            raise OutputError(f"--out {out}: expected a name that ends in .png")
        claim_folder(out.parent)
        one_thread()
        with error_console.status("drawing"):
            figure = model_sheet(MorphableModel.load(path, subdivision))
        try:
            save_figure(figure, out)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"--out {out}: cannot be written ({reason})") from None
    out_console.print(f"{out}", markup=False)
