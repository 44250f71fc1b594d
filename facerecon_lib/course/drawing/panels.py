"""A face of some coefficients as a panel of a figure. Notebooks 05 to 07."""

from __future__ import annotations

from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...pictures.faces import Picture, show_face, turned


def shape_view(
    model: MorphableModel, c: FaceCoefficients, yaw: float = 0.0, look="shape", size: int = 220
) -> Picture:
    """The first face of a batch, turned, grey or with its skin."""
    return show_face(turned(model, c, yaw), look, size)
