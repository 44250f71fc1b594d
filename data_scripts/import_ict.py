"""Imports ICT-FaceKit's folder `FaceXModel/` to the project's model file.

    python data_scripts/import_ict.py ICT-FaceKit/FaceXModel --out ict.safetensors
    facerecon fit me.jpg --out results --model ict.safetensors

Notebook 01, Eq. 1.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    folder: Annotated[Path, typer.Argument(help="ICT-FaceKit's folder FaceXModel/.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    crop: Annotated[
        bool, typer.Option(help="The face from the hairline to the chin, or head and neck.")
    ] = True,
    wide: Annotated[
        bool, typer.Option("--wide", help="The face with ears, scalp and throat: 9,409 vertices.")
    ] = False,
    landmarks: Annotated[
        Path | None, typer.Option(help="68 vertex numbers in place of vertex_indices.json's.")
    ] = None,
    modes: Annotated[int, typer.Option(min=0, help="The first so many identities; 0: all.")] = 0,
    bind: Annotated[
        bool, typer.Option(help="Bind it to 478 points, as `facerecon fit` asks for: 30 seconds.")
    ] = True,
) -> None:
    """Import ICT-FaceKit (MIT licence): identities, named expressions, landmarks, uv."""
    from face_models.ict import read_ict
    from face_models.source_model import run

    run(lambda: read_ict(folder, wide, modes), out, crop, landmarks, bind=bind)


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
