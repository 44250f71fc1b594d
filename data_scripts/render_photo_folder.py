"""Writes rendered faces as a folder of photos that is laid out as CACD2000: to try preparation on.

    python data_scripts/render_photo_folder.py --out rendered --photos 2000 --broken 40

Notebook 06, section 2.3.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    photos: Annotated[int, typer.Option(min=1, help="How many with a face.")] = 2000,
    broken: Annotated[int, typer.Option(min=0, help="And how many without use.")] = 40,
    seed: Annotated[int, typer.Option(help="Another seed, other faces.")] = 0,
) -> None:
    """Rendered faces as photos in CACD2000's layout, with their truth and some broken files."""
    from photo_shards.rendered import write_folder

    try:
        write_folder(out, photos, broken, seed)
    except OSError as error:
        reason = error.strerror or error
        typer.echo(f"render_photo_folder: {out}: {reason}; choose another --out", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{out}: {photos} photos and {broken} broken files in {out / 'CACD2000'}")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
