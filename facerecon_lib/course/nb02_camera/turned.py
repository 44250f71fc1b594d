"""Rendered people who turn their heads, and how detectors err on them, by yaw.

    person = TurnedPerson(faces, 3, 60.0)                # faces: RenderedFaces, of PHOTO_SIZE
    person.pixels, person.landmarks, person.unit
    study = load_study()                                 # the numbers of the figure

Notebook 02, section 11.
"""

import json
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...data.rendered.counted_random import CountedRandom
from ...data.rendered.faces import RenderedFaces, flattened
from ...data.rendered.random_faces import relief
from ...face.camera import DEFAULT_FOV, ndc_to_pixels, pose, project_ndc
from ...face.dense_points import FIRST_IRIS
from ...face.landmarks68 import OUTER_EYES
from ...files.weights import shipped_file
from ...pictures.faces import to_uint8
from ...rendering.synthesis import pose_and_light
from ...rendering.visibility import texel_depth


class TurnedPerson:
    """Person `number` of `faces` with a yaw in degrees, odd numbers to the other side.

    pixels: the picture, (size, size, 3) uint8. face: posed. landmarks: (1, 68, 3), and dense:
    (1, 468, 3), in the camera frame, mm. depth: (1, size, size), of the surface, mm. unit: pixels
    between the outer corners of the eyes if the head looked at us.
    """

    def __init__(self, faces: RenderedFaces, number: int, yaw: float):
        model, numbers, self.size = faces.model, torch.tensor([number]), faces.size
        turn = math.radians(yaw) * (-1) ** number
        batch = faces.batch(numbers, torch.tensor([[0.0, turn, 0.0]]))
        c, keep = batch.truth, relief(CountedRandom(faces.seed, numbers))
        self.pixels = to_uint8(batch.image[0])
        self.face = pose_and_light(model, batch.true_vertices, batch.true_albedo, c)
        dense = batch.true_vertices[:, model.dense.vertices] + model.dense.offsets
        dense = pose(dense, c.rotation, c.scale, c.translation)[:, :FIRST_IRIS]
        seen = (flattened(v_camera, c, keep) for v_camera in (self.face.v_camera, dense))
        self.face.v_camera, self.dense = seen
        self.landmarks = self.face.v_camera[:, model.landmarks]
        self.depth = texel_depth(self.face, self.size)[:, 0]
        corners = model.landmarks[list(OUTER_EYES)]
        apart = (c.scale[0, 0] * batch.true_vertices[0, corners].diff(dim=0).norm()).item()
        away = self.face.v_camera[0, corners, 2].mean().item()
        self.unit = apart / away * self.size / 2 / math.tan(math.radians(DEFAULT_FOV) / 2)

    def places(self, points: Float[Tensor, "1 point 3"]) -> Float[Tensor, "point 2"]:
        """Where points of the camera frame are in the picture."""
        return ndc_to_pixels(project_ndc(points), self.size)[0]


@dataclass(frozen=True)
class YawStudy:
    """What tests/benchmarks/landmarks_by_yaw.py measured: a list holds a number per yaw.

    seen: by kind of points, the share that is seen. detectors: by name, the lists "found", of
    faces; "seen" and "hidden", the errors of such points in units; and "of the box", of all.
    """

    faces: int
    yaw: list[int]
    seen: dict[str, list[float]]
    detectors: dict[str, dict[str, list[float | None]]]


def load_study() -> YawStudy:
    """The numbers that ship."""
    return YawStudy(**json.loads(shipped_file("landmarks_by_yaw.json").read_text("utf-8")))
