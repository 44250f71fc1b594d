"""The pose of a face from its 68 landmarks, in closed form: where fitting starts.

    coefficients = start_from_landmarks(model, crop.landmarks)

Notebooks 02 and 05, section 2.1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.camera import CROP_SIZE, DEFAULT_FOV, matrix_to_axis_angle, orthographic_pose
from ..face.coefficients import FaceCoefficients
from ..face.landmarks68 import INNER
from ..face.morphable_model import MorphableModel


def start_from_landmarks(
    model: MorphableModel, landmarks: Float[Tensor, "batch 68 2"], fov_deg: float = DEFAULT_FOV
) -> FaceCoefficients:
    """The mean face in the pose of 68 points.

    Least squares for a scaled orthographic camera over the inner 51 points (a 2 by 3 matrix and a
    shift), the nearest rotation to that matrix, and its scale turned into a depth of the crop.
    """
    points = model.mean[model.landmarks[INNER]]
    target = landmarks[:, INNER] * landmarks.new_tensor([1.0, -1.0])  # y up
    rotation, per_mm, shift = orthographic_pose(points, target)
    half = CROP_SIZE / 2
    depth = half / (math.tan(math.radians(fov_deg / 2)) * per_mm)
    x, y = (shift[:, 0] - half) / per_mm, (shift[:, 1] + half) / per_mm
    coefficients = model.neutral(len(landmarks))
    depth = depth + rotation[:, 2] @ points.mean(0)  # they lie in front of the model's origin
    coefficients.rotation = matrix_to_axis_angle(rotation)
    coefficients.translation = torch.stack([-x, y, depth], -1)
    return coefficients
