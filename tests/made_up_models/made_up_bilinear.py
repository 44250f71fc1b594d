"""A bilinear tensor of FaceWarehouse's layout with made-up content: the model that ships (CC0).

    python tests/made_up_models/made_up_bilinear.py made_up
    python data_scripts/import_bilinear.py made_up/tensor.npz --mesh made_up/neutral.obj \\
        --names made_up/names.txt --landmarks made_up/landmarks.txt --out a.safetensors

It tries the importer without the data themselves: what comes out has to be what went in.
"""

from pathlib import Path

import numpy as np
import torch
import typer

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

ACTIONS = ("jawOpen", "mouthSmileLeft", "browInnerUp")


def tensor_of(model: MorphableModel, people: int = 12) -> np.ndarray:
    """(people, poses, V, 3) mm: larger faces do more, so that it is no sum."""
    z = torch.randn(people, 5, generator=torch.Generator().manual_seed(0))
    rest = model.mean + torch.einsum("bk,kvc->bvc", z, model.identity_basis[:5])
    controls = torch.stack([model.controls[name] for name in ACTIONS])
    moved = torch.einsum("ek,kvc->evc", controls, model.expression_basis)
    share = 1 + 0.1 * z[:, :1, None, None]
    poses = rest[:, None] + share * moved
    return torch.cat([rest[:, None], poses], 1).numpy()


def write_files(model: MorphableModel, folder: Path) -> None:
    """tensor.npz, neutral.obj, names.txt, landmarks.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "tensor.npz", tensor=tensor_of(model))
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in model.mean.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (model.faces + 1).tolist()]
    (folder / "neutral.obj").write_text("\n".join(lines) + "\n")
    (folder / "names.txt").write_text("\n".join(ACTIONS) + "\n")
    (folder / "landmarks.txt").write_text(" ".join(map(str, model.landmarks.tolist())))


def main(folder: Path) -> None:
    """Write the files into FOLDER."""
    write_files(MorphableModel.load(shipped_file("face_model.safetensors"), 0), folder)


if __name__ == "__main__":
    typer.run(main)
