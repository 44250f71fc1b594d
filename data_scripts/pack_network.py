"""A trained encoder or U-Net, packed to ship: small weights, and their story beside them.

    python data_scripts/pack_network.py runs/base/encoder.safetensors \
        --out facerecon_lib/assets/base_encoder.safetensors
    python data_scripts/pack_network.py runs/augmented --out facerecon_lib/assets/offset_unet.safetensors

A run's folder gives its last good checkpoint (the running average where it has one), of a stopped
run too. Says how far the packed network's answers are from the original's on rendered faces.

Notebooks 06 and 07, sections 2.3 and 2.4.
"""  # noqa: E501

import json
from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams

FACES = 32
NAMES_FILES = ("encoder", "pretrained", "init", "data", "face_model", "skins")  # settings


def main(
    network: Annotated[
        Path, typer.Argument(help="encoder.safetensors, or the folder of a run of the U-Net.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    store: Annotated[
        str | None, typer.Option(help="int8 (encoder's default), float16 (U-Net's) or float32.")
    ] = None,
    first: Annotated[
        Path | None, typer.Option(help="The encoder that this one was resumed from, for its story.")
    ] = None,
) -> None:
    """Pack a network."""
    if not out.parent.is_dir():
        _refuse(f"--out {out}: there is no folder {out.parent}")
    if store not in (None, "int8", "float16", "float32"):
        _refuse(f"--store {store}: expected int8, float16 or float32")
    if store == "int8" and network.is_dir():
        _refuse("--store int8: is for encoders")
    import torch

    from facerecon_lib.files.errors import FacereconError

    pack = _unet if network.is_dir() else _encoder
    try:
        with torch.no_grad():
            apart = pack(network, out, store, first)
    except FacereconError as error:
        _refuse(str(error))
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    typer.echo(f"{out}: {size}; on {FACES} rendered faces its {apart} from the original's")


def _refuse(message: str) -> None:
    typer.echo(f"pack_network: {message}", err=True)
    raise typer.Exit(2)


def _encoder(path: Path, out: Path, store: str | None, first: Path | None) -> str:
    import torch

    from facerecon_lib.data.rendered.faces import RenderedFaces
    from facerecon_lib.face.measures import vertex_error_mm
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.networks.encoder import load_encoder, save_encoder

    model = MorphableModel.load(subdivision=0)
    whole = load_encoder(path, model)
    _without_folders(whole.metadata)
    if first is not None:
        story = _without_folders(load_encoder(first, model).metadata)
        story = {name: story[name] for name in ("settings", "steps", "faces") if name in story}
        whole.metadata["first_run"] = json.dumps(story)
    save_encoder(out, whole, store=store or "int8")
    packed = load_encoder(out, model)
    batch = RenderedFaces(model, seed=0).batch(torch.arange(FACES))
    a, b = (e(batch.image) for e in (whole, packed))
    shapes = (model.shape(c.identity, c.expression) for c in (b, a))
    return f"vertices are {vertex_error_mm(*shapes, align='similarity').mean():.3f} mm"


def _unet(run: Path, out: Path, store: str | None, first: Path | None) -> str:
    import torch

    from facerecon_lib.augmented.branch import BaseBranch, unet_inputs
    from facerecon_lib.data.rendered.faces import RenderedFaces
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.networks.encoder import load_encoder
    from facerecon_lib.networks.unet import load_unet, save_unet
    from facerecon_lib.training.checkpoints import CheckpointError, latest_checkpoint

    last = latest_checkpoint(run / "checkpoints")
    if last is None or last.state["settings"].get("stage") != "augmented":
        raise CheckpointError(f"{run}: holds no checkpoint of facerecon train augmented")
    state, average = last.state, last.path / "ema.safetensors"
    whole = load_unet(average if average.exists() else last.path / "offset_unet.safetensors")
    model = MorphableModel.load(subdivision=0, albedo=whole.metadata.get("albedo", "monk"))
    whole.metadata |= {
        "settings": json.dumps(state["settings"]),
        "steps": str(state["step"]),
        "faces": str(state["step"] * state["settings"]["batch"]),
        "validation": json.dumps(state["validation"]),
        "model_sha256": state["face_model"],
        "model": model.metadata["name"],
    }
    _without_folders(whole.metadata)
    save_unet(out, whole, store=store or "float16")
    packed = load_unet(out, model)
    faces = RenderedFaces(MorphableModel.load(subdivision=0), seed=0, wrinkles=True)
    batch = faces.batch(torch.arange(FACES))
    base = BaseBranch(load_encoder(), model, packed.metadata.get("light", "photo"))(batch)
    seen = unet_inputs(batch.image, base, packed.metadata.get("space", "image"))
    a, b = whole(*seen), packed(*seen)
    texture, displacement = ((x - y).abs().mean() for x, y in zip(a, b, strict=True))
    return f"maps are {texture:.5f} (of 1) and {displacement:.4f} mm"


def _without_folders(metadata: dict[str, str]) -> dict[str, str]:
    """The story with its files by name alone; changes it in place."""
    if "settings" in metadata:
        settings = json.loads(metadata["settings"])
        files = {name: Path(settings[name]).name for name in NAMES_FILES if settings.get(name)}
        metadata["settings"] = json.dumps(settings | files)
    return metadata


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
