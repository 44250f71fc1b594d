"""Faces that lie on their side or head, for networks that have only seen upright ones.

    coefficients = encode_upright(encoder, batch)      # of the photos as they are

A picture is turned by quarters, so that its face is within 45 degrees of upright; the answer is
turned back. Quarters count counterclockwise, as the viewer sees it. Notebook 10, section 2.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, MODEL_TO_CAMERA, axis_angle_to_matrix, matrix_to_axis_angle
from ..face.coefficients import FaceCoefficients
from ..face.landmarks68 import LEFT_EYE, MIRROR_68, MOUTH, RIGHT_EYE
from ..face.lighting import turn_lighting
from ..face.morphable_model import MorphableModel
from .encoder import Encoder


def encode_upright(encoder: Encoder, batch: FaceBatch) -> FaceCoefficients:
    """The encoder's answer for each photo as it is; rendered faces are all upright."""
    quarters = quarters_of_points(batch.landmarks) if batch.truth is None else []
    if not any(quarters):
        return encoder(batch.image)
    upright = turn_pictures(batch.image, [-quarter for quarter in quarters])
    return turn_coefficients(encoder(upright), quarters)


def encode_both_ways(encoder: Encoder, model: MorphableModel, batch: FaceBatch) -> FaceCoefficients:
    """`encode_upright`, with identity and expression the mean of its answers for the photo and for
    its mirror image, turned back: what the encoder favours on one side cancels out."""
    swapped = batch.landmarks[:, MIRROR_68] * batch.landmarks.new_tensor([-1.0, 1.0])
    swapped = swapped + swapped.new_tensor([CROP_SIZE, 0.0])
    mirrored = replace(batch, image=batch.image.flip(3), landmarks=swapped)
    c, other = encode_upright(encoder, batch), encode_upright(encoder, mirrored)
    identity, expression = model.mirrored_modes
    return replace(
        c,
        identity=(c.identity + other.identity @ identity) / 2,
        expression=(c.expression + other.expression @ expression) / 2,
    )


def quarters_of_points(landmarks: Float[Tensor, "batch 68 2"]) -> list[int]:
    """By how many quarters each face is turned, 0 to 3: from eye to eye, and from eyes to mouth."""
    right, left, mouth = (landmarks[:, part].mean(1) for part in (RIGHT_EYE, LEFT_EYE, MOUTH))
    down = mouth - (right + left) / 2
    return _quarters(left - right + torch.stack([down[:, 1], -down[:, 0]], 1))


def quarters_of_rotation(rotation: Float[Tensor, "batch 3"]) -> list[int]:
    """The same from the rotation of the head, whose upward axis tells."""
    up = axis_angle_to_matrix(rotation)[:, :2, 1]
    return _quarters(up[:, [1, 0]])


def _quarters(sideways: Float[Tensor, "batch 2"]) -> list[int]:
    """Of the axis from the face's right to its left, +y downwards."""
    angle = torch.atan2(-sideways[:, 1], sideways[:, 0]).nan_to_num()
    return ((angle / (math.pi / 2)).round().long() % 4).tolist()


def turn_pictures(
    pictures: Float[Tensor, "batch channel size size"], quarters: Sequence[int]
) -> Float[Tensor, "batch channel size size"]:
    """Each picture turned by its number of quarters."""
    pairs = zip(pictures, quarters, strict=True)
    return torch.stack([picture.rot90(quarter, (1, 2)) for picture, quarter in pairs])


def turn_coefficients(c: FaceCoefficients, quarters: Sequence[int]) -> FaceCoefficients:
    """The faces and their light turned with the picture, about the crop's middle."""
    angle = torch.tensor(quarters, dtype=c.rotation.dtype, device=c.rotation.device) * math.pi / 2
    turn = axis_angle_to_matrix(torch.stack([0 * angle, 0 * angle, angle], 1))
    axes = MODEL_TO_CAMERA.to(turn)
    return replace(
        c,
        rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(c.rotation)),
        translation=(axes @ turn @ axes @ c.translation[..., None])[..., 0],
        lighting=turn_lighting(c.lighting, turn),
    )
