"""The command `facerecon`.

facerecon fit me.jpg --out outputs            # mesh, overlay, figure and result.json
facerecon reconstruct me.jpg --out outputs    # the same from the encoder, feed-forward
facerecon evaluate                            # how right the encoder is: tables
facerecon doctor                              # what is here, what is missing, what to do
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_console import out_console, refusals
from .cli_evaluate import evaluate
from .cli_photos import fit, reconstruct
from .cli_train import train_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D face reconstruction from a single photo.",
)
model_app = typer.Typer(no_args_is_help=True, help="Facts and figures of a face model.")
app.add_typer(model_app, name="model")
app.add_typer(train_app, name="train")


def main() -> None:
    """The entry point: typer's own usage errors exit with 2, as ours do."""
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


@model_app.command("info")
def model_info(
    path: Annotated[Path | None, typer.Argument(help="Default: the model that ships.")] = None,
) -> None:
    """Print a face model's facts."""
    from .morphable_model import MorphableModel

    with refusals():
        loaded = [MorphableModel.load(path, subdivision=s) for s in (0, 1)]
    native, fine = loaded
    low, high = native.mean.amin(0), native.mean.amax(0)
    facts = {
        "name": native.metadata.get("name"),
        "file": native.metadata["file"],
        "licence": native.metadata.get("licence"),
        "provenance": native.metadata.get("provenance"),
        "units": native.metadata.get("units"),
        "modes": "{} identity, {} expression, {} albedo".format(*native.sizes),
        "vertices, triangles": f"{len(native.mean)}, {len(native.faces)} as stored; "
        f"{len(fine.mean)}, {len(fine.faces)} subdivided once",
        "extent": "{:.0f} x {:.0f} x {:.0f} mm".format(*(high - low).tolist()),
        "regions": ", ".join(native.regions),
        "controls": ", ".join(native.controls),
    }
    for name, value in facts.items():
        out_console.print(f"{name + ':':<20} {value}", markup=False)


@model_app.command("show")
def model_show(
    path: Annotated[Path | None, typer.Argument(help="Default: the model that ships.")] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("face_model.png"),
) -> None:
    """Draw a face model: its mean, random faces, expressions."""
    from .morphable_model import MorphableModel
    from .output_folder import OutputError
    from .plotting import model_figure, save_figure

    with refusals():
        if out.suffix.lower() != ".png":
            raise OutputError(f"--out {out}: expected a name that ends in .png")
        try:
            save_figure(model_figure(MorphableModel.load(path)), out)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"--out {out}: cannot be written ({reason})") from None
    out_console.print(f"{out}", markup=False)


if __name__ == "__main__":
    main()
