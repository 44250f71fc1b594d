"""Draws the pictures of README.md: a photo made 3D, and faces of the shipped model.

python data_scripts/draw_readme_figures.py --out docs/images
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/images"),
) -> None:
    """Draw front.png and faces.png into OUT."""
    from PIL import Image
    from studies.readme_figures import faces, front

    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.files.weights import shipped_file

    model = MorphableModel.load(shipped_file("face_model.safetensors"))
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("front", front), ("faces", faces)):
        Image.fromarray(draw(model)).save(out / f"{name}.png", optimize=True)
        print(out / f"{name}.png")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
