"""Builds the acting faces of notebook 01: 150 people with 43 actions each, for a bilinear model.

    python data_scripts/build_bilinear_faces.py

Needs only what ships: the face model and the face samples. Takes about a minute.

Notebook 01, Eq. 1.
"""

from pathlib import Path

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    out: Path = Path(__file__).parents[1] / "facerecon_lib/assets/acting_faces.safetensors",
    modes: int = 80,
    seed: int = 102,
) -> None:
    """Build the acting faces and write them to OUT."""
    from makehuman.acting import build
    from makehuman.samples import write_file

    write_file(out, *build(modes, seed))


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
