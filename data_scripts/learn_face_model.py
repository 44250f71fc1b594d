"""Learns the face model that ships from portraits of people: its skin, its mean and its spread.

    python data_scripts/build_face_model.py --out artists.safetensors
    python data_scripts/bind_face_mesh.py artists.safetensors
    python data_scripts/learn_face_model.py SHARDS --base artists.safetensors \
        --encoder artists_encoder.safetensors --out facerecon_lib/assets/face_model.safetensors

SHARDS holds aligned portraits with a name for each person (`prepare_cacd.py`, `group_people.py`); those
of the part "test" are left aside. Eyes, teeth, mesh and expressions are the base's. The encoder, trained
on renders of the base, tells people's mean shape; without one the shape stays. Beside the model come
`skin_residuals.safetensors`, what its basis leaves out, for rendered faces; `skins.safetensors`, what was
learned of each portrait's skin, and with an encoder `encoder.safetensors`, the same encoder for the
learned model: where `facerecon train base --skins --init` goes on. The same
shards give the same file to within float16 rounding. Notebook 01, Eq. 1 and 2.
"""  # noqa: E501

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.streams import forgive_streams

RENDERS = 1000  # that bind the model to the 478 points


def main(
    shards: Annotated[Path, typer.Argument(help="Folder of shards of portraits.")],
    base: Annotated[Path, typer.Option(help="The model to start from, bound to the 478 points.")],
    out: Annotated[Path, typer.Option(help="The learned model's file.")],
    encoder: Annotated[Path | None, typer.Option(help="An encoder of the base model.")] = None,
    seed: int = 0,
) -> None:
    """Learn a face model from the portraits in SHARDS."""
    try:
        learn(shards, base, out, encoder, seed)
    except FacereconError as error:
        sys.exit(f"learn_face_model: {error}")


def learn(shards: Path, base: Path, out: Path, encoder: Path | None, seed: int) -> None:
    """Write the model and what belongs to it, and say how it went. Raises FacereconError."""
    from face_models.binding import bind_file
    from portraits import model_parts, observe, shapes, skins
    from portraits.exposure import pairs_of

    from facerecon_lib.data.rendered import skin_residuals
    from facerecon_lib.data.shards.files import find_shards
    from facerecon_lib.data.shards.skins import FORMAT
    from facerecon_lib.face.model_file import ModelError
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.files.downloads import sha256_of
    from facerecon_lib.files.weights import write_weights
    from facerecon_lib.networks.encoder import load_encoder

    if not out.parent.is_dir():
        raise ModelError(f"--out {out}: there is no folder {out.parent}")
    people = [photo[1] for shard in find_shards(shards) for photo in shard.photos or ()]
    if people:  # an index names them: no minutes are lost
        pairs_of(people)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)

    model = MorphableModel.load(base)
    if model.dense is None or not model.eyeballs:
        raise ModelError(f"{base}: has no eyes, or is not bound; run bind_face_mesh.py on it")
    network = None if encoder is None else load_encoder(encoder, model)
    portraits = observe.observe(shards, model)
    say(f"{len(portraits)} portraits seen")
    learned = skins.Skins.of(portraits, model)
    say("skins whole: " + ", ".join(f"{k} {v}" for k, v in learned.facts.items()))
    shape = None
    if network is not None:
        shape = shapes.people_shape(network, shards, model)
        moved = torch.einsum("k,kvc->vc", shape.shift, model.identity_basis).norm(dim=1).mean()
        say(f"mean moved by {moved:.1f} mm, modes {shape.spread.mean():.2f} as wide")
    parts, metadata = model_parts.assemble(base, learned, shape, seed)
    model_parts.write(out, parts, metadata)
    say(bind_file(out, RENDERS))
    say(f"landmarks of the brows moved by {model_parts.place_brows(out):.1f} mm")
    new = MorphableModel.load(out)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    facts = {"keys": json.dumps(learned.keys), "model_sha256": sha256_of(out)}
    albedo = model_parts.project(new, learned)
    path = out.with_name("skins.safetensors")
    write_weights(path, {"albedo": albedo.half()}, facts | {"format": FORMAT})
    path = out.with_name(skin_residuals.FILE)
    share = model_parts.write_residuals(path, new, learned, albedo)
    say(f"{path}: {share:.0%} of what the basis leaves out of the skins")
    if network is not None:
        path = out.with_name("encoder.safetensors")
        shapes.carry_encoder(network, model, new, shape, path)
        say(f"{path}: the encoder, for the learned model")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
