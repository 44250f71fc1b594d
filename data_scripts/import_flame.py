"""Imports FLAME, 2020 or 2023, to the project's model file.

    python data_scripts/import_flame.py generic_model.pkl --out flame.safetensors
    python data_scripts/import_flame.py flame2023.pkl --landmarks landmark_embedding.npy \\
        --albedo albedoModel2020_FLAME_albedoPart.npz --out flame2023.safetensors

Notebook 01, Eq. 1.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams

LANDMARKS = "flame_static_embedding.pkl, landmark_embedding.npy or 68 vertex numbers."


def main(
    model: Annotated[Path, typer.Argument(help="generic_model.pkl, flame2023.pkl, an .npz of it.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    albedo: Annotated[
        Path | None, typer.Option(help="albedoModel2020_FLAME_albedoPart.npz, for skin colours.")
    ] = None,
    crop: Annotated[bool, typer.Option(help="Cut the head to the face.")] = True,
    landmarks: Annotated[Path | None, typer.Option(help=LANDMARKS)] = None,
    jaw: Annotated[
        bool | None,
        typer.Option("--jaw/--no-jaw", help="A mode for the jaw; not for *no_jaw*.pkl if unsaid."),
    ] = None,
    modes: Annotated[int, typer.Option(min=0, help="Modes of each basis; 0 keeps all.")] = 0,
    bind: Annotated[
        bool, typer.Option(help="Bind it to 478 points, as `facerecon fit` asks for: 30 seconds.")
    ] = True,
) -> None:
    """Import FLAME, 2020 or 2023, to the project's model file.

    MODEL comes from flame.is.tue.mpg.de, after registration. Nothing in the pickle is run.
    """
    from face_models.flame import read_flame
    from face_models.source_model import run

    run(lambda: read_flame(model, albedo, landmarks, jaw, modes), out, crop, bind=bind)


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
