"""Binds a face model to MediaPipe's 478 points, by a thousand renders: two minutes on one core.

    python data_scripts/bind_face_mesh.py facerecon_lib/assets/face_model.safetensors

Imports are bound as they are made. Notebook 05, section 2.1.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.face.model_file import ModelError
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.streams import forgive_streams


def main(
    model: Annotated[Path, typer.Argument(help="The model's file, which is written anew.")],
    count: Annotated[int, typer.Option(help="Faces to render.")] = 1000,
    seed: int = 71,
) -> None:
    """Bind MODEL and say how well, on faces that took no part."""
    from face_models.binding import bind_file

    try:
        if count < 100:
            raise ModelError(f"--count {count}: fewer than 100 faces bind nothing well")
        print(f"{model.name}: {bind_file(model, count, seed)}")
    except FacereconError as error:
        sys.exit(f"bind_face_mesh: {error}")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
