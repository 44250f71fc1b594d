"""What the albedo basis leaves out of people's skin: stubble, freckles, folds, the shape of brows.

    residuals = skin_residuals(model)                    # (mode, vertex, 3), or None
    albedo = albedo * torch.einsum("bm,mvc->bvc", z, residuals).exp()        # z ~ N(0, 1)

Principal components of log(skin / its nearest in the basis), of the portraits that the shipped
model was learned from (data_scripts/learn_face_model.py). Notebook 06, section 2.1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ...face.model_file import ModelError
from ...face.morphable_model import MorphableModel
from ...files.weights import read_weights, shipped_file

FILE, FORMAT = "skin_residuals.safetensors", "facerecon-skin-residuals-1"


def skin_residuals(model: MorphableModel) -> Float[Tensor, "mode vertex 3"] | None:
    """On the model's device, each mode one standard deviation; None for a model of another name.

    Raises ModelError for a missing or damaged file.
    """
    maker = "data_scripts/learn_face_model.py"
    parts, metadata = read_weights(shipped_file(FILE), FORMAT, ModelError, maker)
    if model.metadata["name"] != metadata["model"]:
        return None
    rows, points = parts["both"].long(), model.mean.cpu().double().numpy()
    if len(points) > len(rows):  # a finer mesh starts with the vertices of the coarser
        from scipy.spatial import cKDTree  # slow to import, and seldom needed

        rows = rows[torch.from_numpy(cKDTree(points[: len(rows)]).query(points)[1])]
    modes = parts["modes"].float() * parts["scale"][:, None, None]
    return modes[:, rows[: len(points)]].to(model.device)
