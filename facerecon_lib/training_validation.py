"""How a training run is judged on the way: on faces that it does not learn from.

numbers = validate(encoder, model, objective, batches, fabric)
numbers["vertex_mm"], numbers["mean_face_mm"], numbers["terms"]["pixel"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import pose
from .coefficients import FaceCoefficients
from .encoder import Encoder
from .evaluation import landmark_error, vertex_error_mm
from .face_batch import FaceBatch
from .morphable_model import MorphableModel
from .objective import BaseObjective, Objective
from .synthesis import project_landmarks
from .training_processes import gather


@torch.no_grad()
def validate(
    encoder: Encoder,
    model: MorphableModel,
    objective: BaseObjective,
    batches: Iterable[FaceBatch],
    fabric,
    show: Callable[[FaceBatch, Objective], None] | None = None,
) -> dict:
    """Means over all faces of the loss, its terms and `shape_errors`; {} where there are none.

    The encoder has to be in eval mode. batches: this process's share; every process gets the means
    over all of them. show: is given the first batch and its rendering.
    """
    if fabric.world_size > 1:  # each process has running statistics of its own
        for buffer in encoder.buffers():
            torch.distributed.broadcast(buffer, 0)
    sums: dict[str, float] = {"faces": 0}
    for batch in batches:
        with fabric.autocast():
            coefficients = encoder(batch.image)
        found = objective(coefficients, batch)
        errors = shape_errors(model, coefficients, batch)
        means = {"loss": found.loss, **{k: v.mean() for k, v in errors.items()}}
        means |= {f"terms/{k}": v for k, v in found.terms.items()}
        values = (len(batch) * torch.stack(list(means.values()))).tolist()
        for name, value in zip(means, values, strict=True):
            sums[name] = sums.get(name, 0.0) + value
        if show is not None and not sums["faces"]:
            show(batch, found)
        sums["faces"] += len(batch)
    everyone = gather(fabric, sums)
    count = sum(part["faces"] for part in everyone)
    names = [name for part in everyone for name in part if name != "faces"]
    means = {
        name: sum(part.get(name, 0.0) for part in everyone) / count for name in dict.fromkeys(names)
    }
    if not means:
        return {}
    terms = {k.removeprefix("terms/"): means.pop(k) for k in list(means) if k[:6] == "terms/"}
    return {"faces": count, **means, "terms": terms}


@torch.no_grad()
def shape_errors(
    model: MorphableModel, coefficients: FaceCoefficients, batch: FaceBatch
) -> dict[str, Float[Tensor, " batch"]]:
    """Each face against what is known of it.

    vertex_mm: mean distance of the vertices after similarity alignment. mean_face_mm: that of the
    neutral mean face. landmark_error: share of the outer eye distance.
    """
    errors = {}
    if batch.truth is not None:
        truth = model.shape(batch.truth.identity, batch.truth.expression)
        found = model.shape(coefficients.identity, coefficients.expression)
        errors["vertex_mm"] = vertex_error_mm(found, truth).mean(1)
        errors["mean_face_mm"] = vertex_error_mm(model.mean.expand_as(truth), truth).mean(1)
    few, c = model.landmark_model(), coefficients
    v_camera = pose(few.shape(c.identity, c.expression), c.rotation, c.scale, c.translation)
    points = project_landmarks(few, v_camera, c.rotation, batch.kind)
    errors["landmark_error"] = landmark_error(points, batch.landmarks)
    return errors
