"""A learned model on held-out photos, beside the fixed model with the encoder that ships.

    facerecon train learned --profile shipped --data people --init learned_model.safetensors \
        --steps 60 --learning-rate 1e-3 --out runs/portraits
    python data_scripts/learned_model_portraits.py people runs/portraits/learned_model.safetensors

Medians over the photos of the validation part: landmarks as a share of the outer eye distance, all
and the inner 51, and colours of covered pixels, of 1.

Notebook 11.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    data: Annotated[str, typer.Argument(help="Shards of photos.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Files of learned models.")] = None,
    count: Annotated[int, typer.Option(help="Photos.")] = 96,
    split: Annotated[str, typer.Option(help="Of the photos, as in training.")] = "random",
) -> None:
    """Measure, and print a row per system."""
    import torch

    from facerecon_lib.beyond.learned_model import (
        LEARNED_FILE,
        LearnedFaces,
        load_learned_model,
        person_numbers,
        without_bases,
    )
    from facerecon_lib.data.shards.reader import PhotoShards
    from facerecon_lib.face.measures import landmark_error, photometric_error
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.networks.encoder import load_encoder
    from facerecon_lib.rendering.synthesis import synthesise

    hidden = MorphableModel.load(subdivision=0)
    place = dict(rank=0, world=1, device="cpu", split=split, complete=True)
    photos = PhotoShards(data, part="validation", batch_size=16, **place)
    encoder, bare = load_encoder(model=hidden), without_bases(hidden)
    systems = {"fixed model + encoder": lambda b: LearnedFaces(hidden, encoder(b.image))}
    for path in (LEARNED_FILE.default_path(), *(more or [])):
        network = load_learned_model(path, hidden)
        systems[str(path.parent.name) + "/" + path.name] = lambda b, n=network: n(
            b.image, b.landmarks, person_numbers(b)
        )

    def mean_face(batch):
        c = network(batch.image, batch.landmarks, person_numbers(batch)).coefficients
        c.identity, c.albedo = c.identity[:, :0], c.albedo[:, :0]
        return LearnedFaces(bare, c)

    systems["last one's pose and light, no identity"] = mean_face
    values = {name: [] for name in systems}
    with torch.no_grad():
        for batch in photos:
            for name, ask in systems.items():
                answer = ask(batch)
                face = synthesise(answer.model, answer.coefficients)
                image, mask = face.render(near=None)
                marks = face.landmarks(batch.kind)
                numbers = [landmark_error(marks, batch.landmarks, p) for p in ("all", "inner")]
                numbers.append(
                    photometric_error(image.clamp(0, 1), batch.image, mask * batch.valid)
                )
                values[name].append(torch.stack(numbers))
            if sum(v.shape[1] for v in values[name]) >= count:
                break
    for name, parts in values.items():
        joined = torch.cat(parts, 1)
        every, inner, colours = joined.median(1).values.tolist()
        text = f"landmarks {every:.2%} (inner {inner:.2%}), colours {colours:.4f}"
        typer.echo(f"{name}: {text}, {joined.shape[1]} photos")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
