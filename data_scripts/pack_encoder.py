"""A trained encoder, packed to ship: weights as 8-bit whole numbers, a quarter of the size.

    python data_scripts/pack_encoder.py runs/shipped/encoder.safetensors \
        --out facerecon_lib/assets/base_encoder.safetensors

Says how far the packed encoder's answers are from the original's on rendered faces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import STORES, EncoderError, load_encoder, save_encoder

FACES = 32


def without_folders(metadata: dict[str, str]) -> dict[str, str]:
    """The encoder's story, its files by name alone: where they lay is nobody's affair."""
    kept = dict(metadata)
    if "settings" in kept:
        settings = json.loads(kept["settings"])
        for name in ("pretrained", "data", "face_model"):
            if settings.get(name):
                settings[name] = Path(settings[name]).name
        kept["settings"] = json.dumps(settings)
    return kept


@torch.no_grad()
def main(
    encoder: Annotated[Path, typer.Argument(help="What `facerecon train base` wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    store: Annotated[str, typer.Option(help="int8, float16 or float32.")] = "int8",
    first: Annotated[
        Path | None, typer.Option(help="The run that this one went on from, for its story.")
    ] = None,
) -> None:
    """Pack an encoder."""
    model = MorphableModel.load(subdivision=0)
    try:
        if store not in STORES:
            raise EncoderError(f"--store {store}: expected {', '.join(STORES)}")
        if not out.parent.is_dir():
            raise EncoderError(f"--out {out}: there is no folder {out.parent}")
        whole = load_encoder(encoder, model)
        whole.metadata = without_folders(whole.metadata)
        if first is not None:
            story = without_folders(load_encoder(first, model).metadata)
            whole.metadata["first_run"] = json.dumps(
                {name: story[name] for name in ("settings", "steps", "faces") if name in story}
            )
    except EncoderError as error:
        typer.echo(f"pack_encoder: {error}", err=True)
        raise typer.Exit(2) from None
    save_encoder(out, whole, store=store)
    packed = load_encoder(out, model)
    batch = RenderedFaces(model, seed=0).batch(torch.arange(FACES))
    a, b = (e(batch.image) for e in (whole, packed))
    moved = vertex_error_mm(
        *(model.shape(c.identity, c.expression) for c in (b, a)), align="similarity"
    )
    typer.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB; on {FACES} rendered faces its vertices are "
        f"{moved.mean():.3f} mm from the original's"
    )


if __name__ == "__main__":
    typer.run(main)
