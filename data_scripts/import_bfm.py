"""Imports the Basel Face Model, of 2009, 2017 or 2019, to the project's model file.

    python data_scripts/import_bfm.py 01_MorphableModel.mat --expression BFM --out bfm2009.safetensors
    python data_scripts/import_bfm.py model2019_face12.h5 --out bfm2019.safetensors

Notebook 01, Eq. 1 and 2.
"""  # noqa: E501

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams

FILES = "Exp_Pca.bin, std_exp.txt, BFM_exp_idx.mat, BFM_front_idx.mat"


def main(
    model: Annotated[Path, typer.Argument(help="01_MorphableModel.mat, or model2017/2019_*.h5.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    expression: Annotated[
        Path | None, typer.Option(help=f"For 2009: the folder with {FILES}.")
    ] = None,
    crop: Annotated[bool, typer.Option(help="Cut the mesh to the face.")] = True,
    landmarks: Annotated[
        Path | None, typer.Option(help="68 vertex numbers from 0, iBUG order (.txt or .json).")
    ] = None,
    modes: Annotated[int, typer.Option(min=0, help="Modes of each basis; 0 keeps all.")] = 0,
    bind: Annotated[
        bool, typer.Option(help="Bind it to 478 points, as `facerecon fit` asks for: 30 seconds.")
    ] = True,
) -> None:
    """Import a Basel Face Model, of 2009, 2017 or 2019, to the project's model file.

    MODEL comes from faces.dmi.unibas.ch, after a licence form; the imported file falls under the
    same licence.
    """
    from face_models.bfm import read_bfm
    from face_models.source_model import run

    run(lambda: read_bfm(model, expression, landmarks, modes), out, crop, bind=bind)


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
