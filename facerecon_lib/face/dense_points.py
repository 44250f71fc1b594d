"""MediaPipe's 478 points on a face model: the vertex and the offset of each, and how it errs.

    points = model.mean[dense.vertices] + dense.offsets     # (478, 3) mm, model frame

data_scripts/bind_face_mesh.py learns them from renders whose vertices are known. Notebook 05.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

POINTS, FIRST_IRIS = 478, 468  # of the mesh; each iris has five, its centre first
OUTER_EYES = 33, 263
"""The outer corners of the eyes, the viewer's left first."""
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288,
        397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136,
        172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]  # fmt: skip
"""Around the face, from the top of the forehead on, as the viewer's clock goes."""
INNER = sorted({*range(FIRST_IRIS)} - {*OVAL})
"""The bound points but the oval, where detectors err most."""


@dataclass(eq=False)
class DensePoints:
    """The points of one model. An offset turns with the head; irises, the last ten, are unbound:
    their noise is a thousand."""

    vertices: Int[Tensor, " 478"]  # of every level of subdivision
    offsets: Float[Tensor, "478 3"]  # mm
    noise: Float[Tensor, " 478"]  # s.d. of each coordinate, as a share of the outer eye distance

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Self | None:
        """Those of a model file; None where it has none."""
        if "dense_vertices" not in parts:
            return None
        vertices, offsets, noise = (parts[f"dense_{field.name}"] for field in fields(cls))
        return cls(vertices.long(), offsets, noise)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))
