"""Coefficients to a face in a picture: Eq. 1 and 2, pose, Eq. 3, projection, rasterization.

    face = synthesise(model, coefficients)               # vertices, colours: no image yet
    image, mask = face.render(224)                       # (B, 3, 224, 224), (B, 1, 224, 224)

From the encoder's numbers to the rendering: fitting, training and figures all use it. Notebook 04,
section 2.1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..face import camera
from ..face.camera import CROP_SIZE, DEFAULT_FOV, axis_angle_to_matrix, project_ndc
from ..face.coefficients import FaceCoefficients
from ..face.device_constants import constant
from ..face.gaze import turn_eyes
from ..face.lighting import shade
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from .renderer import NEAR, SoftSettings, render


@dataclass(eq=False)
class Face:
    """A posed and lit face; `vertices` and `v_camera` in mm, in the model's and camera's frame."""

    model: MorphableModel
    vertices: Float[Tensor, "batch vertex 3"]
    normals: Float[Tensor, "batch vertex 3"]  # viewer axes, unit
    v_camera: Float[Tensor, "batch vertex 3"]
    albedo: Float[Tensor, "batch vertex 3"]
    colours: Float[Tensor, "batch vertex 3"]
    rotation: Float[Tensor, "batch 3"]
    fov_deg: float

    def render(
        self,
        image_size: int | tuple[int, int] = CROP_SIZE,
        soft: SoftSettings | None = None,
        background: float = 0.0,
        attributes: Float[Tensor, "batch vertex channel"] | None = None,
        near: float | None = NEAR,
    ) -> tuple[Tensor, Tensor]:
        """Image and mask, as `renderer.render`; `attributes` instead of the lit colours."""
        attributes = self.colours if attributes is None else attributes
        view = (image_size, self.fov_deg, soft, background, near)
        return render(self.v_camera, self.model.faces, attributes, *view)

    def landmarks(
        self, kind: str = "3d", image_size: int = CROP_SIZE
    ) -> Float[Tensor, "batch 68 2"]:
        """The 68 landmarks in pixels of the crop, as `project_landmarks`."""
        pose = self.v_camera, self.rotation
        return project_landmarks(self.model, *pose, kind, self.fov_deg, image_size)


def synthesise(
    model: MorphableModel, coefficients: FaceCoefficients, fov_deg: float = DEFAULT_FOV
) -> Face:
    """The face that the coefficients describe."""
    vertices, albedo = shape(model, coefficients), model.albedo(coefficients.albedo)
    return pose_and_light(model, vertices, albedo, coefficients, fov_deg)


def shape(model: MorphableModel, coefficients: FaceCoefficients) -> Float[Tensor, "batch vertex 3"]:
    """Vertices in mm, model frame: Eq. 1, and the eyes turned where they have a gaze."""
    c = coefficients
    vertices = model.shape(c.identity, c.expression)
    return vertices if c.gaze is None else turn_eyes(model, vertices, c.identity, c.gaze)


def pose_and_light(
    model: MorphableModel,
    vertices: Float[Tensor, "batch vertex 3"],
    albedo: Float[Tensor, "batch vertex 3"],
    coefficients: FaceCoefficients,
    fov_deg: float = DEFAULT_FOV,
) -> Face:
    """The same from vertices and albedo of the model's mesh, for offsets added to them."""
    c = coefficients
    normals = vertex_normals(vertices, model.faces) @ axis_angle_to_matrix(c.rotation).mT
    v_camera = camera.pose(vertices, c.rotation, c.scale, c.translation)
    colours = shade(albedo, normals, c.lighting)
    return Face(model, vertices, normals, v_camera, albedo, colours, c.rotation, fov_deg)


def project_dense(
    model: MorphableModel,
    vertices: Float[Tensor, "batch vertex 3"],
    coefficients: FaceCoefficients,
    fov_deg: float = DEFAULT_FOV,
) -> Float[Tensor, "batch 478 2"]:
    """The dense points of a model that is bound to them (mm, model frame), in crop pixels."""
    c, dense = coefficients, model.dense
    points = vertices[:, dense.vertices] + dense.offsets
    posed = camera.pose(points, c.rotation, c.scale, c.translation)
    return camera.ndc_to_pixels(project_ndc(posed, fov_deg), CROP_SIZE)


def project_landmarks(
    model: MorphableModel,
    v_camera: Float[Tensor, "batch vertex 3"],
    rotation: Float[Tensor, "batch 3"],
    kind: str = "3d",
    fov_deg: float = DEFAULT_FOV,
    image_size: int = CROP_SIZE,
) -> Float[Tensor, "batch 68 2"]:
    """The 68 landmarks of posed vertices, in pixels.

    kind "3d": each on its own vertex. "2d": points 1 to 17 on the outline that is seen, as 2D
    detectors mark it (each on the vertex of its band that lies furthest out).
    """
    index = landmark_vertices(model, v_camera, rotation, kind, fov_deg)
    points = v_camera.gather(1, index[..., None].expand(-1, -1, 3))
    return camera.ndc_to_pixels(project_ndc(points, fov_deg), image_size)


@torch.no_grad()
def landmark_vertices(
    model: MorphableModel,
    v_camera: Float[Tensor, "batch vertex 3"],
    rotation: Float[Tensor, "batch 3"],
    kind: str,
    fov_deg: float = DEFAULT_FOV,
) -> Int[Tensor, "batch 68"]:
    """Which vertex each landmark is on; depends on the pose for points 1 to 17 of kind "2d"."""
    if kind not in ("2d", "3d"):
        raise ValueError(f"kind: expected '2d' or '3d', got {kind!r}")
    index = model.landmarks.expand(len(v_camera), -1).clone()
    if kind == "3d":
        return index
    bands = model.contour_bands
    points = project_ndc(v_camera[:, bands.reshape(-1)], fov_deg)[..., :2]
    to_viewer = constant((-1.0, 1.0), points.dtype, points.device)
    points = points.unflatten(1, bands.shape) * to_viewer
    up = F.normalize(axis_angle_to_matrix(rotation)[:, :2, 1], dim=-1)
    right = torch.stack([up[:, 1], -up[:, 0]], -1)
    # 30:31, since an index of no axes is read back to the host
    middle = model.mean[model.landmarks[30:31], :2] * constant((0.0, 1.0), up.dtype, up.device)
    outward = F.normalize(model.mean[bands[:, 0], :2] - middle, dim=-1)  # of each frontal jaw point
    direction = outward[None, :, :1] * right[:, None] + outward[None, :, 1:] * up[:, None]
    furthest = torch.einsum("bjkc,bjc->bjk", points, direction).argmax(-1)
    index[:, :17] = bands.expand(len(index), -1, -1).gather(2, furthest[..., None])[..., 0]
    return index
