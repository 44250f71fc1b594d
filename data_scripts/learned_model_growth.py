"""What a learned model was at some steps of its run, as one small file for a figure.

    python data_scripts/learned_model_growth.py 250=a.safetensors 500=b.safetensors \
        --out facerecon_lib/assets/learned_model_growth.safetensors

Each file is the network of a checkpoint; step 0 is made anew with the run's seed. Of each: the mean
albedo, and the first two principal modes of shape and albedo over 512 rendered frames.

Notebook 11.
"""

from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams


def main(
    snapshots: Annotated[list[str], typer.Argument(help="STEP=FILE of a checkpoint, in order.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    seed: Annotated[int, typer.Option(help="Of the run.")] = 0,
) -> None:
    """Pack the moments of a run."""
    import torch

    from facerecon_lib.beyond.learned_model import LearnedModel, load_learned_model, person_numbers
    from facerecon_lib.beyond.subspaces import principal_modes
    from facerecon_lib.course.nb11_learned_model.figures import GROWTH_FORMAT
    from facerecon_lib.data.rendered.faces import RenderedFaces
    from facerecon_lib.face.morphable_model import MorphableModel
    from facerecon_lib.files.weights import write_weights

    hidden = MorphableModel.load(subdivision=0)
    batch = RenderedFaces(hidden, seed=7, clean=True, frames=4).batch(torch.arange(256))
    state = {}

    def add(step: int, network: LearnedModel) -> None:
        with torch.no_grad():
            faces = network.eval()(batch.image, batch.landmarks, person_numbers(batch))
            c, model = faces.coefficients, faces.model
            state[f"{step:06d}.albedo_mean"] = model.albedo_mean
            for name, basis, own in (
                ("shape", model.identity_basis, c.identity),
                ("albedo", model.albedo_basis, c.albedo),
            ):
                state[f"{step:06d}.{name}"] = principal_modes(basis, own)[0][:2].clone()

    torch.manual_seed(seed)
    add(0, LearnedModel(hidden))
    for snapshot in snapshots:
        step, _, path = snapshot.partition("=")
        add(int(step), load_learned_model(Path(path), hidden))
    write_weights(out, state, {"format": GROWTH_FORMAT}, "float16")
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
