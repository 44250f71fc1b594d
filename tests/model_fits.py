"""For tests of any face model: does fitting with it find the faces that it makes itself?"""

import torch

from facerecon_lib.face.camera import CROP_SIZE, pose
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.fit import FitSettings, fit
from facerecon_lib.rendering.synthesis import project_landmarks

LANDMARKS_ALONE = FitSettings(landmark_steps=60, coarse_steps=0, fine_steps=0)


def own_sample_errors(model: MorphableModel, count: int = 4, seed: int = 0) -> tuple[float, float]:
    """Mean vertex error, mm, of the mean face and of the fitted ones, for `count` random faces.

    Each is drawn from the model, turned by up to 25 degrees, and fitted to its 68 landmarks alone;
    errors are after similarity alignment.
    """
    generator = torch.Generator().manual_seed(seed)
    identity, expression, _ = model.random(count, generator)
    vertices = model.shape(identity, expression)
    true = model.neutral(count)
    true.rotation[:, 1] = torch.linspace(-0.44, 0.44, count)
    v_camera = pose(vertices, true.rotation, true.scale, true.translation)
    points = project_landmarks(model, v_camera, true.rotation, "3d")
    blank = torch.full((count, 3, CROP_SIZE, CROP_SIZE), 0.5)
    found = fit(model, blank, blank[:, :1] * 2, points, kind="3d", settings=LANDMARKS_ALONE)
    c = found.coefficients
    fitted = model.shape(c.identity, c.expression)
    still = vertex_error_mm(model.mean.expand(count, -1, -1), vertices)
    return still.mean().item(), vertex_error_mm(fitted, vertices).mean().item()


def fits_its_own_samples(model: MorphableModel, least: float = 0.1) -> None:
    """Asserts that fitting takes at least that share off the mean face's error."""
    still, fitted = own_sample_errors(model)
    assert fitted < (1 - least) * still, f"{fitted:.2f} mm fitted, {still:.2f} mm the mean face"
