"""The face model at its native density, and its mean face: loaded once for all tests."""

from functools import lru_cache

import torch

from facerecon_lib.face.camera import ndc_to_pixels, project_ndc
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.rendering.synthesis import Face, synthesise


@lru_cache
def model(subdivision: int = 0, albedo: str = "monk") -> MorphableModel:
    return MorphableModel.load(subdivision=subdivision, albedo=albedo)


def turned(*yaws: float, subdivision: int = 0, jaw: float = 0.0) -> Face:
    """The mean face, turned by degrees to the viewer's right, the mouth open by `jaw`."""
    m = model(subdivision)
    c = m.neutral(len(yaws))
    c.rotation[:, 1] = torch.tensor(yaws).deg2rad()
    c.expression = m.expression_from_controls({"jawOpen": jaw}).expand(len(yaws), -1)
    return synthesise(m, c)


def pixels(face: Face, size: int = 224) -> torch.Tensor:
    """(B, V, 2) where each vertex lies in a picture of that size."""
    return ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), size)
