"""The figures of notebook 10: one photo through every stage, and what can be done with the face."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...augmented.branch import AugmentedFaces, BaseFaces
from ...face.camera import CROP_SIZE, ndc_to_pixels, pose, project_ndc
from ...face.coefficients import FaceCoefficients
from ...face.landmarks68 import EYES, LEFT_EYE, RIGHT_EYE
from ...face.lighting import ambient_lighting, light_level
from ...face.measures import landmark_error, photometric_error
from ...face.morphable_model import MorphableModel
from ...fitting.fit import FitResult, judge
from ...pictures.faces import DETECTED, on_photo, show_face, to_uint8, turned_mesh
from ...pictures.sheets import gallery
from ...reconstruction.reconstruct import FittedPhoto
from ...reconstruction.result_files import describe
from ...rendering.synthesis import Face, synthesise
from .photo_input import ChosenPhoto

LARGE = 420  # px


# From the photo to the face ---------------------------------------------------------------------


def found_figure(mine: ChosenPhoto) -> Figure:
    """The photo with what the detector found, and the crop that all else works on."""
    photo, points = mine.photo.pixels, np.asarray(mine.detection.landmarks)
    figure = Figure(figsize=(7.6, 4.0), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    left.imshow(photo)
    scale, corner = float(mine.crop.matrix[0, 0]), mine.crop.matrix[:, 2]
    x, y = (-corner / scale).tolist()
    side = CROP_SIZE / scale
    left.plot([x, x + side, x + side, x, x], [y, y, y + side, y + side, y], color=DETECTED, lw=2)
    left.scatter(*points.T, s=4, color=DETECTED, linewidths=0)
    left.set_title("one face, 68 landmarks,\nand a square around them", fontsize=11)
    right.imshow(to_uint8(mine.crop.image[0]), extent=(0, CROP_SIZE, CROP_SIZE, 0))
    right.scatter(*mine.crop.landmarks[0].numpy().T, s=9, color=DETECTED, linewidths=0)
    right.set_title("the crop, 224 × 224:\nall that the networks see", fontsize=11)
    left.set_xlim(0, photo.shape[1])
    left.set_ylim(photo.shape[0], 0)
    for axis in (left, right):
        axis.axis("off")
    return figure


@torch.no_grad()
def two_ways_figure(mine: ChosenPhoto, base: BaseFaces, fitted: FitResult) -> Figure:
    """Encoder and fit side by side, with how far either is off."""
    faces = {"encoder": base.face, "fit": synthesise(base.face.model, fitted.coefficients)}
    crop = mine.crop
    images, titles = [to_uint8(crop.image[0])], ["the photo"]
    for name, face in faces.items():
        points = face.landmarks(mine.detection.kind)
        off = float(landmark_error(points, crop.landmarks)[0])
        image, mask = face.render(near=None)
        colours = photometric_error(image.clamp(0, 1), crop.image, mask * crop.valid)
        images.append(on_photo(crop.image, face, LARGE))
        titles.append(f"{name}: landmarks {off:.1%} off,\ncolours {float(colours[0]):.3f} off")
    images += [show_face(face, "shape", LARGE) for face in faces.values()]
    titles += [f"{name}: its shape" for name in faces]
    return gallery(images, titles, columns=5, size=2.7)


def warnings_of(mine: ChosenPhoto, coefficients: FaceCoefficients, model: MorphableModel) -> str:
    """Why the result is not to be trusted, in a line; or that nothing speaks against it."""
    crop = mine.crop
    judged = judge(
        model, crop.image, crop.valid, crop.landmarks, coefficients, kind=mine.detection.kind
    )
    return "; ".join(judged.reasons[0]) or "nothing speaks against it"


@torch.no_grad()
def closer_figure(mine: ChosenPhoto, found: AugmentedFaces) -> Figure:
    """Photo, base and detailed face, large, and a part of each larger still."""
    whole = [
        to_uint8(F.interpolate(mine.crop.image, (800, 800), mode="bicubic").clamp(0, 1)[0]),
        on_photo(mine.crop.image, found.base.face, 800),
        on_photo(mine.crop.image, found.face, 800),
    ]
    points = found.face.landmarks("3d")[0, EYES] * 800 / CROP_SIZE  # the eyes
    x, y = points.mean(0).round().int().tolist()
    reach = int(1.1 * float(points[:, 0].max() - points[:, 0].min()) / 2) + 20
    rows = slice(max(y - reach // 2, 0), y + reach // 2)
    columns = slice(max(x - reach, 0), x + reach)
    images = [w[::2, ::2] for w in whole] + [w[rows, columns] for w in whole]
    numbers = found.base.face.model.sizes.vector
    titles = ["the photo", f"base: {numbers} numbers", "detailed: two maps more"]
    figure = Figure(figsize=(8.4, 4.8), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 3, height_ratios=(2, 1.05))
    for axis, image in zip(axes.flat, images, strict=True):
        axis.imshow(image)
        axis.axis("off")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


# Back onto the photo ----------------------------------------------------------------------------


def result_of(mine: ChosenPhoto, found: AugmentedFaces) -> dict:
    """What result.json would hold, through text and back, as another program would read it."""
    crop, c = mine.crop, found.base.coefficients
    inputs = (found.face.model, crop.image, crop.valid, crop.landmarks)
    judged = judge(*inputs, c, kind=mine.detection.kind)
    parts = (mine.photo, mine.detection, crop, judged, found.face)
    done = FittedPhoto(*parts, method="encoder", seconds={}, detail=found)
    return json.loads(json.dumps(describe(done)))


@torch.no_grad()
def glasses(model: MorphableModel, vertices: Float[Tensor, "1 vertex 3"]) -> list[Tensor]:
    """A pair of glasses for this face: lines in 3D, mm, in the frame of mesh.ply."""
    points = model.landmark_points(vertices)[0]
    eyes = [points[eye].mean(0) for eye in (RIGHT_EYE, LEFT_EYE)]
    apart = (eyes[1] - eyes[0]).norm()
    front = torch.stack([points[27, 2] + 1.0, *(eye[2] + 11.0 for eye in eyes)]).max()
    angle = torch.linspace(0, 2 * math.pi, 60)
    lines = []
    for eye in eyes:
        rim = torch.stack([0.38 * apart * angle.cos(), 0.32 * apart * angle.sin(), 0 * angle], -1)
        lines.append(rim + torch.stack([eye[0], eye[1] - 0.06 * apart, front]))
    along = torch.linspace(0, 1, 12)[:, None]
    inner = [lines[0][0], lines[1][30]]
    bridge = inner[0] * (1 - along) + inner[1] * along
    bridge[:, 1] += 3.0 * torch.sin(math.pi * along[:, 0])
    lines.append(bridge)
    ears = vertices[0, :, 0].amin(), vertices[0, :, 0].amax()
    for outer, ear in zip((lines[0][30], lines[1][0]), ears, strict=True):
        end = torch.stack([ear, outer[1] + 4.0, front - 75.0])
        lines.append(outer * (1 - along) + end * along)
    return lines


@torch.no_grad()
def glasses_figure(
    mine: ChosenPhoto, found: AugmentedFaces, lines: Sequence[Tensor], pixels: Sequence[Tensor]
) -> Figure:
    """The lines on the photo, whole and close, without what the head hides; and on it turned."""
    figure = Figure(figsize=(10.5, 4.1), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 3)
    titles = ("on the photo", "closer", "the same lines, the head turned")
    scale, corner = float(mine.crop.matrix[0, 0]), mine.crop.matrix[:, 2]
    x, y = (-corner / scale).tolist()
    side = CROP_SIZE / scale
    hidden = [_hidden(line, found.face, found.base.coefficients) for line in lines]
    for axis in axes[:2]:
        axis.imshow(mine.photo.pixels)
        for points, behind in zip(pixels, hidden, strict=True):
            _draw(axis, points, behind, 1.2 if axis is axes[0] else 3.0)
    axes[0].set_xlim(0, mine.photo.pixels.shape[1])
    axes[0].set_ylim(mine.photo.pixels.shape[0], 0)
    axes[1].set_xlim(x, x + side)
    axes[1].set_ylim(y + side, y)

    face, c = found.face, found.base.coefficients.clone()
    turned = turned_mesh(face.model, face.vertices[:1], face.albedo[:1], -38.0)
    c.rotation, c.scale = turned.rotation, torch.ones_like(c.scale)
    # the translation of that view, from any vertex
    posed = pose(face.vertices[:1, :1], c.rotation, c.scale, torch.zeros_like(c.translation))
    c.translation = (turned.v_camera[:, :1] - posed)[:, 0]
    axes[2].imshow(show_face(turned, "studio", LARGE), extent=(0, CROP_SIZE, CROP_SIZE, 0))
    for line in lines:
        seen = pose(line[None], c.rotation, c.scale, c.translation)
        at = ndc_to_pixels(project_ndc(seen, turned.fov_deg), CROP_SIZE)[0]
        _draw(axes[2], at, _hidden(line, turned, c), 3.0)
    for axis, title in zip(axes, titles, strict=True):
        axis.axis("off")
        axis.set_title(title)
    return figure


def _draw(axis: Axes, points: Float[Tensor, "point 2"], hidden: np.ndarray, width: float) -> None:
    shown = points.numpy().copy()
    shown[hidden] = np.nan
    axis.plot(*shown.T, color="#101418", lw=width, solid_capstyle="round")


def _hidden(line: Float[Tensor, "point 3"], face: Face, c: FaceCoefficients) -> np.ndarray:
    """Which points of a line in the model frame lie behind the face in the pose of c."""
    seen = pose(line[None], c.rotation, c.scale, c.translation)
    depth, mask = face.render(attributes=face.v_camera[..., 2:], near=None)
    at = ndc_to_pixels(project_ndc(seen, face.fov_deg), CROP_SIZE)[0].long().clamp(0, CROP_SIZE - 1)
    nearest = torch.where(mask > 0, depth, torch.inf)[0, 0, at[:, 1], at[:, 0]]
    return (seen[0, :, 2] > nearest + 1.0).numpy()


# Another light ----------------------------------------------------------------------------------


@torch.no_grad()
def normals_of(face: Face, size: int = LARGE) -> tuple[Tensor, Tensor]:
    """(1, 3, size, size) unit normals in viewer axes at the crop's pixels, and the mask."""
    image, mask = face.render(size, attributes=face.normals, near=None)
    return F.normalize(image, dim=1), mask


def lamp(
    like: Float[Tensor, "1 9 3"],
    side: float,
    up: float,
    colour: Sequence[float] = (1.0, 1.0, 1.0),
) -> Float[Tensor, "1 9 3"]:
    """Soft light from one side, as bright as the light `like`.

    side, up: -1 to 1, towards the viewer's right and upwards.
    """
    light = ambient_lighting(1, 0.7)
    direction = F.normalize(torch.tensor([side, up, 0.75]), dim=0)
    light[:, 1:4] = 1.1 * direction[[1, 2, 0]][:, None]
    return light * (light_level(like) / light_level(light)) * torch.tensor(colour)


def relit_figure(pictures: Mapping[str, Float[Tensor, "1 3 height width"]]) -> Figure:
    """Pictures of one face under several lights."""
    return gallery([to_uint8(p[0]) for p in pictures.values()], list(pictures), size=3.0)


# Other expressions, other skin, more of oneself -------------------------------------------------


@torch.no_grad()
def moved(
    found: AugmentedFaces,
    expression: Float[Tensor, "1 expression"] | None = None,
    albedo: Float[Tensor, "1 albedo"] | None = None,
    yaw_deg: float = 0.0,
    vertices: Float[Tensor, "1 vertex 3"] | None = None,
) -> Face:
    """The detailed face with another expression, skin or shape under the same two offsets."""
    model, c, offsets = found.face.model, found.base.coefficients, found.offsets
    if vertices is None:
        expression = c.expression if expression is None else expression
        vertices = model.shape(c.identity, expression) + offsets.displacement
    skin = model.albedo(c.albedo if albedo is None else albedo) + offsets.texture
    return turned_mesh(model, vertices, skin, yaw_deg)


def people_figure(found: AugmentedFaces, count: int = 4, seed: int = 1) -> Figure:
    """The same offsets on other skins: what belongs to the person, and what to the offset."""
    generator = torch.Generator().manual_seed(seed)
    model = found.face.model
    chosen = torch.randperm(len(model.albedo_samples), generator=generator)[:64]
    tone = (model.albedo_samples[chosen] @ model.albedo_basis.mean(1)).sum(-1)  # dark to light
    picked = chosen[tone.argsort()][:: 64 // count][:count]
    images, titles = [show_face(moved(found), "studio", LARGE)], ["as reconstructed"]
    for index in picked.tolist():
        face = moved(found, albedo=model.albedo_samples[index : index + 1])
        images.append(show_face(face, "studio", LARGE))
        titles.append("another skin, same offset")
    return gallery(images, titles, size=2.3)


def caricature_figure(found: AugmentedFaces, shapes: Mapping[float, Tensor]) -> Figure:
    """The face with more and less of what sets it apart from the mean."""
    images, titles = [], []
    words = {0.0: "nobody", 1.0: "as it is", -1.0: "the opposite"}
    for yaw in (0.0, -40.0):
        for factor, vertices in shapes.items():
            face = moved(found, vertices=vertices, yaw_deg=yaw)
            images.append(show_face(face, "studio", 360))
            titles.append(f"k = {factor:g}{': ' + words[factor] if factor in words else ''}")
    titles = titles[: len(shapes)]
    return gallery(images, titles, columns=len(shapes), size=2.1)
