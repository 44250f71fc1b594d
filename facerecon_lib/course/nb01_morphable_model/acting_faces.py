"""People who act: what a bilinear model is learned from in notebook 01.

    acting = load_acting_faces(samples, model)
    acting.people                                         # (132, 44, V, 3) mm; pose 0 is at rest
    acting.held_out                                       # (18, 44, V, 3) mm, other people
    acting.names                                          # "rest", "browDownLeft", ...

Each named action of the model was carried to each face by deformation transfer, which stretches and
turns every triangle as the action does on the mean: a larger jaw swings further.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...face.model_file import ModelError
from ...face.morphable_model import MorphableModel
from ...files.weights import read_weights, shipped_file
from .face_samples import FaceSamples

FORMAT = "facerecon-acting-faces-1"


@dataclass(eq=False)
class ActingFaces:
    """Pose 0 of each person is the face at rest, mm, model frame. names: of the poses."""

    people: Float[Tensor, "person pose vertex 3"]
    held_out: Float[Tensor, "other pose vertex 3"]
    names: list[str]


def load_acting_faces(
    samples: FaceSamples, model: MorphableModel, path: str | Path | None = None
) -> ActingFaces:
    """Read a file of `data_scripts/build_bilinear_faces.py`; None is the one that ships.

    model: the shipped one at subdivision 0, which the changes are added to. Raises ModelError.
    """
    path = shipped_file("acting_faces.safetensors") if path is None else Path(path)
    maker = "data_scripts/build_bilinear_faces.py"
    state, metadata = read_weights(path, FORMAT, ModelError, maker, "set of acting faces")
    try:
        names = json.loads(metadata["actions"])
        actions = torch.stack([model.controls[name] for name in names])
        drawn = torch.einsum("bk,kvc->bvc", state["drawn"], model.identity_basis)
        scaled = state["shares"].float() * state["scale"]
        changes = (scaled @ state["directions"].float()).unflatten(2, (-1, 3))
        changes /= state["weight"][:, None]
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name}: {error}; {maker} makes one for this model") from None
    rest = torch.cat([samples.shapes, model.mean + drawn, samples.held_out])
    changes += torch.einsum("ek,kvc->evc", actions, model.expression_basis)
    changes += rest[:, None]
    poses = torch.cat([rest[:, None], changes], 1)
    people, held_out = poses.split([len(rest) - len(samples.held_out), len(samples.held_out)])
    return ActingFaces(people, held_out, ["rest", *names])
