"""A trained network, packed to ship: small weights, and their story beside them.

    python data_scripts/pack_network.py runs/base/encoder.safetensors \
        --out facerecon_lib/assets/base_encoder.safetensors
    python data_scripts/pack_network.py runs/augmented --out facerecon_lib/assets/offset_unet.safetensors

Any network of `facerecon train`, told by its file's format. A run's folder gives its last good
checkpoint (the running average where it has one), of a stopped run too. Says how far the packed
network is from the original: answers to rendered faces, or weights.

Notebooks 06, 07 and 11 to 13.
"""  # noqa: E501

import json
from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams

FACES = 32
ENCODER, UNET = "facerecon-encoder-1", "facerecon-unet-1"  # formats
NAMES_FILES = ("encoder", "pretrained", "init", "data", "face_model", "skins")  # settings


def main(
    network: Annotated[Path, typer.Argument(help="The file of a network, or the folder of a run.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    store: Annotated[
        str | None, typer.Option(help="int8 (encoders' default), float16 (the others') or float32.")
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
    import torch

    from facerecon_lib.files.errors import FacereconError

    try:
        with torch.no_grad():
            apart = _pack(network, out, store, first)
    except FacereconError as error:
        _refuse(str(error))
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; {apart}")


def _refuse(message: str) -> None:
    typer.echo(f"pack_network: {message}", err=True)
    raise typer.Exit(2)


def _pack(network: Path, out: Path, store: str | None, first: Path | None) -> str:
    """Write the packed network; how far it is from the original."""
    from facerecon_lib.beyond import depth_network as depth
    from facerecon_lib.beyond import learned_model as learned
    from facerecon_lib.beyond import nonlinear_model as nonlinear
    from facerecon_lib.networks import encoder, unet

    path, story = _last_of(network) if network.is_dir() else (network, {})
    kinds = {
        ENCODER: (encoder.load_encoder, encoder.save_encoder),
        UNET: (unet.load_unet, unet.save_unet),
        "facerecon-depth-1": (depth.load_depth_unet, depth.save_depth_unet),
        "facerecon-learned-model-1": (learned.load_learned_model, learned.save_learned_model),
        "facerecon-nonlinear-1": (nonlinear.load_nonlinear_model, nonlinear.save_nonlinear_model),
    }
    kind = _format(path)
    if kind not in kinds:
        _refuse(f"{path}: is no network of this project (format {kind!r})")
    if kind != ENCODER and (store == "int8" or first is not None):
        _refuse("--store int8, --first: are for encoders")
    load, save = kinds[kind]
    whole = load(path)
    whole.metadata |= story
    _without_folders(whole.metadata)
    if first is not None:
        told = _without_folders(load(first).metadata)
        told = {name: told[name] for name in ("settings", "steps", "faces") if name in told}
        whole.metadata["first_run"] = json.dumps(told)
    save(out, whole, store=store or ("int8" if kind == ENCODER else "float16"))
    apart = {ENCODER: _encoder_apart, UNET: _unet_apart}.get(kind, _weights_apart)
    return apart(whole, load(out))


def _format(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format")
    except (SafetensorError, OSError) as error:
        _refuse(f"{path}: cannot be read ({error})")


def _last_of(run: Path) -> tuple[Path, dict[str, str]]:
    """The network of a run's last good checkpoint, and what the checkpoint says of it."""
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.training.checkpoints import (
        AVERAGE,
        MOMENTS,
        CheckpointError,
        latest_checkpoint,
    )

    last = latest_checkpoint(run / "checkpoints")
    if last is None:
        raise CheckpointError(f"{run}: holds no checkpoint of facerecon train")
    state, settings = last.state, last.state["settings"]
    story = {
        "settings": json.dumps(settings),
        "steps": str(state["step"]),
        "faces": str(state["step"] * settings["batch"]),
        "validation": json.dumps(state["validation"]),
        "model_sha256": state["face_model"],
        "model": MorphableModel.load(settings["face_model"], subdivision=0).metadata["name"],
    }
    average = last.path / AVERAGE
    if average.exists():
        return average, story
    files = last.path.glob("*.safetensors")
    return next(path for path in files if path.name != MOMENTS), story


def _encoder_apart(whole, packed) -> str:
    import torch

    from facerecon_lib.data.rendered.faces import RenderedFaces
    from facerecon_lib.face.measures import vertex_error_mm
    from facerecon_lib.face.morphable_model import MorphableModel

    model = MorphableModel.load(subdivision=0)
    batch = RenderedFaces(model, seed=0).batch(torch.arange(FACES))
    shapes = (
        model.shape(c.identity, c.expression) for c in (packed(batch.image), whole(batch.image))
    )
    error = vertex_error_mm(*shapes, align="similarity").mean()
    return f"on {FACES} rendered faces its vertices are {error:.3f} mm from the original's"


def _unet_apart(whole, packed) -> str:
    import torch

    from facerecon_lib.augmented.branch import BaseBranch, unet_inputs
    from facerecon_lib.data.rendered.faces import RenderedFaces
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.networks.encoder import load_encoder

    model = MorphableModel.load(subdivision=0, albedo=whole.metadata.get("albedo", "monk"))
    faces = RenderedFaces(MorphableModel.load(subdivision=0), seed=0, wrinkles=True)
    batch = faces.batch(torch.arange(FACES))
    base = BaseBranch(load_encoder(), model, packed.metadata.get("light", "photo"))(batch)
    seen = unet_inputs(batch.image, base, packed.metadata.get("space", "image"))
    texture, displacement = (
        (x - y).abs().mean() for x, y in zip(whole(*seen), packed(*seen), strict=True)
    )
    apart = f"{texture:.5f} (of 1) and {displacement:.4f} mm from the original's"
    return f"on {FACES} rendered faces its maps are {apart}"


def _weights_apart(whole, packed) -> str:
    pairs = zip(whole.state_dict().values(), packed.state_dict().values(), strict=True)
    largest = max(float((a - b).norm() / a.norm().clamp(min=1e-9)) for a, b in pairs)
    return f"no tensor is more than {largest:.1e} of its length from the original's"


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
