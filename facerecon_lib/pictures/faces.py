"""The one face painter: a face on paper or on a photo, turned, lit or unlit, antialiased.

show_face(face)                                   # (448, 448, 3) uint8, lit as in the photo
show_face(turned(model, coefficients, 40), "studio")
on_photo(crop.image, face)                        # laid on its crop
paint(face, colours, 300)                         # any colours at the vertices

Every notebook; the report's Figures 1, 4 and 5.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from ..face.camera import (
    CROP_SIZE,
    DEFAULT_FOV,
    axis_angle_to_matrix,
    ndc_to_pixels,
    pixels_to_ndc,
    project_ndc,
)
from ..face.coefficients import FaceCoefficients
from ..face.lighting import ambient_lighting, shade
from ..face.morphable_model import MorphableModel
from ..face.shapes import VertexValues, Vertices
from ..photos.crop import crop_to_photo
from ..rendering.atlas import Texture
from ..rendering.rasterizer import rasterize
from ..rendering.renderer import NEAR, interpolate
from ..rendering.synthesis import Face, pose_and_light, shape

VIEW_DISTANCE = 430.0  # mm from the middle of the face to the camera of turned views
PAPER = 0.96  # background of renderings
CLAY = 0.78  # grey of shapes
DETECTED, FITTED = "#00c46a", "#ff3355"

Picture = UInt8[np.ndarray, "height width 3"]
Background = float | Float[Tensor, "batch 3 h w"]  # a grey level, or photos of the same view


def to_uint8(image: Float[Tensor, "3 height width"]) -> Picture:
    """A float image, channels first, as bytes, channels last; clamped to [0, 1]."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def enlarged(image: Float[Tensor, "batch 3 height width"], size: int) -> Picture:
    """The first square picture of a batch, smoothly."""
    return to_uint8(F.interpolate(image[:1], (size, size), mode="bicubic")[0])


def studio_light() -> Float[Tensor, "1 9 3"]:
    """White light from above and the viewer's left: shows shape well."""
    lighting = ambient_lighting(1, 0.72)
    lighting[0, 1:4] += torch.tensor([[0.35], [0.55], [-0.30]])  # up, to the viewer, from the left
    return lighting


def in_studio(normals: Vertices, albedo: Vertices | None = None) -> Vertices:
    """Colours under the studio light, of grey clay without an albedo. normals: viewer axes."""
    albedo = torch.full_like(normals, CLAY) if albedo is None else albedo
    return shade(albedo, normals, studio_light().to(normals).expand(len(normals), -1, -1))


@torch.no_grad()
def layer(
    ndc: Vertices,
    faces: Int[Tensor, "face 3"],
    colours: VertexValues,
    size: int | tuple[int, int],
    *,
    fine: int = 2,
    perspective_correct: bool = True,
) -> Float[Tensor, "channel_and_1 height width"]:
    """The first mesh of a batch as a layer: colours times coverage, and coverage.

    colours: of one look or more, clamped to [0, 1]. size: side or (height, width), px. fine:
        samples per pixel and axis; 1 is quick.
    """
    height, width = (size, size) if isinstance(size, int) else size
    view = dict(perspective_correct=perspective_correct, z_clip_value=NEAR)
    fragments = rasterize(ndc[:1], faces, (fine * height, fine * width), **view)
    colours = colours[:1].detach().to(ndc).clamp(0, 1).contiguous()
    image = interpolate(fragments, faces, colours)[..., 0, :]
    image = torch.cat([image, (fragments.pix_to_face >= 0).to(image)], -1)
    return F.avg_pool2d(image.permute(0, 3, 1, 2), fine)[0]


def laid_on(image: Float[Tensor, "4 height width"], on: Background) -> Picture:
    """A layer on a grey level, or on the first photo of a batch, resized."""
    if isinstance(on, Tensor):
        on = F.interpolate(on[:1], image.shape[1:], mode="bilinear", align_corners=False)
        on = on[0].to(image)
    return to_uint8(image[:3] + (1 - image[3:]) * on)


@torch.no_grad()
def paint_mesh(
    v_camera: Vertices,
    faces: Int[Tensor, "face 3"],
    colours: Vertices,
    size: int | tuple[int, int] = 448,
    fov_deg: float = DEFAULT_FOV,
    *,
    on: Background = PAPER,
    opacity: float = 1.0,
    fine: int = 2,
) -> Picture:
    """The first mesh of a batch in the camera frame (mm), with these colours at its vertices.

    opacity: 0 to 1. fine: as in `layer`.
    """
    ndc = project_ndc(v_camera[:1], fov_deg)
    return laid_on(opacity * layer(ndc, faces, colours, size, fine=fine), on)


@torch.no_grad()
def paint_texture(face: Face, texture: Texture, size: int = 448, on: Background = PAPER) -> Picture:
    """The first face of a batch with its texture, in the studio light unless it is lit already."""
    shading = torch.ones_like(face.normals)
    if not texture.lit:
        shading = in_studio(face.normals, shading)
    vertex, faces, uv = texture.atlas[:3]
    values = torch.cat([uv[None], shading[:1, vertex] / 2], -1)
    ndc = project_ndc(face.v_camera[:1, vertex], face.fov_deg)
    uv, half, covered = layer(ndc, faces, values, 2 * size, fine=1).split([2, 3, 1])
    image = torch.cat([(2 * half * texture.at(uv)).clamp(max=1) * covered, covered])
    return laid_on(F.avg_pool2d(image, 2), on)


def paint(
    face: Face, colours: Vertices, size: int = 300, on: Background = PAPER, fine: int = 2
) -> Picture:
    """The first face of a batch with these colours at its vertices, clamped to [0, 1]."""
    mesh = face.v_camera, face.model.faces
    return paint_mesh(*mesh, colours, size, face.fov_deg, on=on, fine=fine)


@torch.no_grad()
def show_face(
    face: Face, look: str = "lit", size: int = 448, on: Background = PAPER, fine: int = 2
) -> Picture:
    """The first face of a batch.

    look: "lit" as in the photo; "unlit" its albedo; in the studio light "shape", of grey, and
    "studio", of its albedo.
    """
    colours = {
        "lit": lambda: face.colours,
        "unlit": lambda: face.albedo,
        "shape": lambda: in_studio(face.normals),
        "studio": lambda: in_studio(face.normals, face.albedo),
    }
    if look not in colours:
        raise ValueError(f"look: expected one of {', '.join(colours)}, got {look!r}")
    return paint(face, colours[look](), size, on, fine)


def on_photo(
    image: Float[Tensor, "batch 3 h w"], face: Face, size: int = 220, fine: int = 2
) -> Picture:
    """The first face of a batch, lit, on the first of the photos that it was cropped from."""
    return show_face(face, "lit", size, image, fine)


@torch.no_grad()
def value_map(
    face: Face, values: Float[Tensor, "batch vertex"], size: int = CROP_SIZE
) -> Float[np.ndarray, "size size"]:
    """Numbers at the pixels of the first face, nan beside it, for `imshow`."""
    image, mask = face.render(size, attributes=values[..., None].contiguous())
    return torch.where(mask > 0, image, torch.nan)[0, 0].cpu().numpy()


@torch.no_grad()
def turned(
    model: MorphableModel, coefficients: FaceCoefficients, yaw_deg: float, pitch_deg: float = 0.0
) -> Face:
    """The first face of a batch in its own light, turned, in the middle of the view, filling it."""
    one = coefficients[:1]
    vertices, albedo = shape(model, one), model.albedo(one.albedo)
    face = turned_mesh(model, vertices, albedo, yaw_deg, pitch_deg)
    face.colours = shade(face.albedo, face.normals, one.lighting)
    return face


@torch.no_grad()
def turned_mesh(
    model: MorphableModel,
    vertices: Float[Tensor, "1 vertex 3"],
    albedo: Float[Tensor, "1 vertex 3"],
    yaw_deg: float,
    pitch_deg: float = 0.0,
    *,
    distance: float = VIEW_DISTANCE,
    middle_of: Float[Tensor, "vertex 3"] | None = None,
) -> Face:
    """The same of any vertices (mm, model frame) and albedo of the model's mesh.

    distance: mm from the camera to the middle of the vertices, or of those of `middle_of`, so that
    several faces keep their places.
    """
    start = model.neutral()
    start.rotation = torch.tensor([[pitch_deg, yaw_deg, 0.0]], device=model.device).deg2rad()
    seen = vertices[0] if middle_of is None else middle_of
    seen = seen @ axis_angle_to_matrix(start.rotation)[0].T
    middle = (seen.amin(0) + seen.amax(0)) / 2
    start.translation = torch.stack([middle[0], -middle[1], middle[2] + distance])[None]
    return pose_and_light(model, vertices, albedo, start)


@torch.no_grad()
def overlay_on_photo(
    pixels: Picture, face: Face, matrix: Float[Tensor, "2 3"], longest: int = 1600
) -> Picture:
    """The photo, its longer side reduced to `longest`, with the lit face. matrix: of the crop."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = (max(round(height * shrink), 1), max(round(width * shrink), 1))
    picture = np.array(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))
    ndc = project_ndc(face.v_camera[:1], face.fov_deg)
    points = crop_to_photo(ndc_to_pixels(ndc, CROP_SIZE), matrix.to(ndc))
    points = points * points.new_tensor([size[1] / width, size[0] / height])
    # only the part with the face is drawn
    corner, end = points.new_tensor([0.0, 0.0]), points.new_tensor(size[::-1])
    low = points[0].amin(0).floor().clamp(corner, end).int().tolist()
    high = points[0].amax(0).ceil().clamp(corner, end).int().tolist()
    part = picture[low[1] : high[1], low[0] : high[0]]
    if part.size:
        points = pixels_to_ndc(points - points.new_tensor(low), part.shape[:2])
        ndc = torch.cat([points, ndc[..., 2:]], -1)
        photo = torch.from_numpy(part).permute(2, 0, 1)[None] / 255
        part[:] = laid_on(layer(ndc, face.model.faces, face.colours, part.shape[:2]), photo)
    return picture


def with_points(
    picture: Picture,
    points: Float[Tensor, "point 2"],
    colour: str | Sequence[str] = FITTED,
    radius: float = 2.5,
) -> Picture:
    """A copy with dots; points in pixels of the crop. Quick: no matplotlib."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    places = points.detach().cpu().numpy().reshape(-1, 2) * (picture.shape[1] / CROP_SIZE)
    colours = [colour] * len(places) if isinstance(colour, str) else colour
    for (x, y), fill in zip(places, colours, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return np.asarray(canvas)
