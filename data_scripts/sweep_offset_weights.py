"""Fits a small U-Net to three faces again and again, Eq. 12's weights turned up and down.

    python data_scripts/sweep_offset_weights.py --device cuda \
        --out facerecon_lib/assets/offset_weight_sweep.safetensors

Notebook 08, Eq. 8 to 12.
"""

import argparse
import sys
from pathlib import Path

from facerecon_lib.files.streams import forgive_streams


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    option = parser.add_argument
    option("--out", type=Path, required=True, help="the .safetensors file to write")
    option("--device", default="cpu", help="cpu or cuda")
    option("--steps", type=int, default=100, help="of each fit")
    option("--rate", type=float, default=1e-2, help="Adam's, at the start")
    option("--width", type=int, default=8, help="channels of the U-Net")
    option("--subdivision", type=int, default=1, help="of the mesh: 0 or 1")
    option("--only", default="", help="fits whose name holds this, for a try")
    option("--quick", action="store_true", help="every kind of fit, few weights, coarse mesh")
    chosen = parser.parse_args(arguments)
    if not chosen.out.parent.is_dir():
        sys.exit(f"--out {chosen.out}: there is no folder {chosen.out.parent}")
    if chosen.steps < 1:
        sys.exit(f"--steps {chosen.steps}: expected 1 or more")
    from studies.offset_weights import write_sweep

    write_sweep(**vars(chosen))


if __name__ == "__main__":
    forgive_streams()
    main()
