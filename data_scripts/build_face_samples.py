"""Builds the sampled faces of notebook 01: what a face model is learned from.

    python data_scripts/build_face_model.py --out artists.safetensors
    python data_scripts/build_face_samples.py --base artists.safetensors

Needs the extra `model` (pip install 'facerecon-lib[model]'). The same seed gives the same file,
byte for byte on one kind of machine.

Notebook 01, Eq. 1.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    base: Annotated[Path, typer.Option(help="The artists' face model, whose mean is the origin.")],
    out: Path = Path(__file__).parents[1] / "facerecon_lib/assets/face_samples.safetensors",
    training: int = 96,
    held_out: int = 18,
    seed: int = 101,
) -> None:
    """Build the face samples and write them to OUT."""
    from makehuman.samples import build, write_file

    write_file(out, *build(base, training, held_out, seed))


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
