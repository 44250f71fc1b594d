"""Imports a bilinear face tensor of FaceWarehouse's layout to the project's model file.

    python data_scripts/import_bilinear.py tensor.mat --mesh neutral.obj --landmarks points.txt \\
        --out warehouse.safetensors
    python data_scripts/import_bilinear.py tensor.npz --bilinear --out bilinear.safetensors

Notebook 01, Eq. 1.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    tensor: Annotated[Path, typer.Argument(help="A .npy, .npz or .mat with the tensor.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    mesh: Annotated[
        Path | None, typer.Option(help="An .obj of the mesh: its triangles are used.")
    ] = None,
    bilinear: Annotated[
        bool, typer.Option("--bilinear", help="A BilinearModel file in place of Eq. 1's.")
    ] = False,
    crop: Annotated[bool, typer.Option(help="Cut the mesh to the face.")] = True,
    landmarks: Annotated[
        Path | None, typer.Option(help="68 vertex numbers from 0, iBUG order (.txt or .json).")
    ] = None,
    modes: Annotated[int, typer.Option(min=0, help="Identity modes; 0: 50.")] = 0,
    names: Annotated[
        Path | None, typer.Option(help="A text: the name of each pose, a line each.")
    ] = None,
    bind: Annotated[
        bool, typer.Option(help="Bind it to 478 points, as `facerecon fit` asks for: 30 seconds.")
    ] = True,
) -> None:
    """Import a tensor of people by poses by vertices; pose 0 is the face at rest.

    Eq. 1 adds where the tensor multiplies: identity is the PCA of the faces at rest, an expression
    the mean of what a pose moves. --bilinear keeps the product, which no command but Python reads.
    """
    from face_models.bilinear import read_bilinear, run_bilinear
    from face_models.source_model import errors, run

    if bilinear and (mesh or landmarks or names):
        errors.print("--bilinear takes the tensor alone: leave --mesh, --landmarks and --names out")
        raise typer.Exit(2)
    if bilinear:
        run_bilinear(tensor, out, modes)
    else:
        run(lambda: read_bilinear(tensor, mesh, modes, names), out, crop, landmarks, bind=bind)


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
