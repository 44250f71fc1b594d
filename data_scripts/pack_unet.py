"""A trained U-Net, packed to ship: convolutions in 16 bits, its story beside them.

    python data_scripts/pack_unet.py runs/shipped --out facerecon_lib/assets/offset_unet.safetensors

Takes the run's last good checkpoint (the running average where one is kept), so that a run that was
stopped before its last step can be packed as well. Says how far the packed network's maps are from
the original's on rendered faces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from facerecon_lib.augmented.branch import BaseBranch, unet_inputs
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import UNetError, load_unet, save_unet
from facerecon_lib.training.checkpoints import CheckpointError, latest_checkpoint

FACES = 16


def story(state: dict) -> dict[str, str]:
    """What the file says of its training; files by name alone."""
    settings = dict(state["settings"])
    for name in ("encoder", "pretrained", "data", "face_model"):
        if settings.get(name):
            settings[name] = Path(settings[name]).name
    return {
        "settings": json.dumps(settings),
        "steps": str(state["step"]),
        "faces": str(state["step"] * settings["batch"]),
        "validation": json.dumps(state["validation"]),
        "model_sha256": state["face_model"],
    }


@torch.no_grad()
def main(
    run: Annotated[Path, typer.Argument(help="Folder of `facerecon train augmented`.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Pack a U-Net."""
    try:
        found = latest_checkpoint(run / "checkpoints")
        if found is None:
            raise CheckpointError(
                f"{run}: holds no checkpoint; facerecon train augmented makes them"
            )
        if found.state["settings"].get("stage") != "augmented":
            raise CheckpointError(
                f"{run}: is a run of the base branch; data_scripts/pack_encoder.py"
            )
        if not out.parent.is_dir():
            raise CheckpointError(f"--out {out}: there is no folder {out.parent}")
        average = found.path / "ema.safetensors"
        whole = load_unet(average if average.exists() else found.path / "offset_unet.safetensors")
    except (CheckpointError, UNetError) as error:
        typer.echo(f"pack_unet: {error}", err=True)
        raise typer.Exit(2) from None
    albedo = whole.metadata.get("albedo", "monk")
    model = MorphableModel.load(subdivision=0, albedo=albedo)
    whole.metadata |= story(found.state) | {"model": model.metadata["name"]}
    save_unet(out, whole, store="float16")
    packed = load_unet(out, model)
    light = packed.metadata.get("light", "photo")
    faces = RenderedFaces(MorphableModel.load(subdivision=0), seed=0, wrinkles=True)
    batch = faces.batch(torch.arange(FACES))
    base = BaseBranch(load_encoder(), model, light)(batch)
    seen = unet_inputs(batch.image, base, packed.metadata.get("space", "image"))
    a, b = whole(*seen), packed(*seen)
    texture, displacement = ((x - y).abs().mean() for x, y in zip(a, b, strict=True))
    typer.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB; on {FACES} rendered faces its maps are "
        f"{texture:.5f} (of 1) and {displacement:.4f} mm from the original's"
    )


if __name__ == "__main__":
    typer.run(main)
