"""MediaPipe's 478 points on a face model: where each lies, and how a detector errs about it.

    points = model.mean[dense.vertices] + dense.offsets     # (478, 3) mm, model frame

data_scripts/bind_face_mesh.py learns them from renders whose vertices are known. Notebook 05.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

OUTER_EYES = 33, 263
"""The outer corners of the eyes, the viewer's left first."""


@dataclass(eq=False)
class DensePoints:
    """The points of one model. A point is a vertex and an offset that turns with the head."""

    vertices: Int[Tensor, " 478"]
    offsets: Float[Tensor, "478 3"]  # mm
    noise: Float[Tensor, " 478"]  # s.d. of each coordinate, as a share of the outer eye distance
    modes: Float[Tensor, "mode 478 2"]  # of the errors that points share: their covariance is modes' modes

    @classmethod
    def of(cls, data: Mapping[str, Tensor]) -> Self | None:
        """Those of a model file's tensors; None where it has none."""
        if "dense_vertices" not in data:
            return None
        parts = (data[f"dense_{field.name}"] for field in fields(cls))
        vertices, *others = parts
        return cls(vertices.long(), *(value.float() for value in others))

    def to(self, device: torch.device | str) -> Self:
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))
