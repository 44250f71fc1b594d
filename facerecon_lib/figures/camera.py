"""Figures of notebook 02: frames, poses, fields of view, landmarks.

    picture(model, v_camera)                       # the face through the camera: (H, W, 3) uint8
    frames_figure(model)                           # one point in four frames
    numbered_landmarks(model, crop)                # the 68 points and their numbers

Everything takes points that a reader's own functions computed, so the figures show their work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from PIL import Image, ImageDraw
from torch import Tensor

from .. import camera
from ..coefficients import FaceCoefficients
from ..detection import Crop
from ..lighting import shade
from ..mesh import vertex_normals
from ..morphable_model import MorphableModel
from ..plotting import DETECTED, FITTED, PAPER, studio_light, to_uint8
from ..rasterizer import rasterize
from ..renderer import interpolate, render
from ..synthesis import landmark_vertices

AXES = ("#d62728", "#2ca02c", "#1f77b4")  # x red, y green, z blue
GROUPS = {  # iBUG points, counted from 1, and a colour each
    "jaw": (1, 17, "#1f77b4"),
    "brows": (18, 27, "#8c564b"),
    "nose": (28, 36, "#9467bd"),
    "eyes": (37, 48, "#2ca02c"),
    "lips": (49, 68, "#d62728"),
}
STROKES = [(1, 17), (18, 22), (23, 27), (28, 31), (32, 36)]
LOOPS = [(37, 42), (43, 48), (49, 60), (61, 68)]
NOSE_TIP = 30  # iBUG point 31


# Through the camera ---------------------------------------------------------------------------


def picture(
    model: MorphableModel,
    v_camera: Float[Tensor, "1 vertex 3"],
    fov_deg: float = camera.DEFAULT_FOV,
    size: int = 320,
    *,
    look: str = "studio",
    albedo: Float[Tensor, "1 vertex 3"] | None = None,
    behind: Float[Tensor, "1 3 height width"] | None = None,
    opacity: float = 1.0,
    fine: int = 2,
) -> UInt8[np.ndarray, "size size 3"]:
    """The mesh at camera-frame positions (mm), under the studio light.

    look: "studio" or "shape". behind: a picture to lay it on, instead of paper. opacity: 0 to 1.
    fine: samples a pixel and axis; 1 is quick.
    """
    with torch.no_grad():
        v_camera = v_camera[:1].detach().to(model.mean)
        skin = model.albedo_mean[None] if albedo is None else albedo
        skin = torch.full_like(skin, 0.78) if look == "shape" else skin
        colours = shade(skin, _normals(v_camera, model), studio_light()).clamp(0, 1)
        image, mask = render(v_camera, model.faces, colours, fine * size, fov_deg)
        image, mask = (opacity * F.avg_pool2d(x, fine) for x in (image, mask))
        under = torch.full_like(image, PAPER)
        if behind is not None:
            under = F.interpolate(behind, (size, size), mode="bilinear", align_corners=False)
        return to_uint8((image + (1 - mask) * under)[0])


def _normals(v_camera: Tensor, model: MorphableModel) -> Tensor:
    """Outward normals in viewer axes, also where a reflection turned the triangles inside out."""
    normals = vertex_normals(v_camera, model.faces)
    outward = v_camera - v_camera.mean(1, keepdim=True)
    sign = torch.sign((normals * outward).sum())
    return sign * normals @ camera.MODEL_TO_CAMERA.to(normals)


def dotted(
    image: UInt8[np.ndarray, "height width 3"],
    points: Float[Tensor, "point 2"],
    colour: str | Sequence[str] = FITTED,
    span: float = 224.0,
    radius: float = 2.5,
) -> UInt8[np.ndarray, "height width 3"]:
    """A copy with dots; points in pixels of a picture that is `span` wide. Quick: no matplotlib."""
    sheet = Image.fromarray(image)
    pen = ImageDraw.Draw(sheet)
    places = points.detach().cpu().numpy().reshape(-1, 2) * (image.shape[1] / span)
    colours = [colour] * len(places) if isinstance(colour, str) else colour
    for (x, y), c in zip(places, colours, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=c)
    return np.asarray(sheet)


def pose_picture(
    model: MorphableModel,
    v_camera: Float[Tensor, "1 vertex 3"],
    rotation: Float[Tensor, "1 3"],
    kind: str = "3d",
    size: int = 360,
) -> UInt8[np.ndarray, "size size 3"]:
    """The face with its 68 landmarks on it, quick enough for a slider; the jaw's in blue."""
    image = picture(model, v_camera, size=size, fine=1)
    index = landmark_vertices(model, v_camera, rotation, kind)[0]
    points = camera.ndc_to_pixels(camera.project_ndc(v_camera[0, index]), size)
    colours = [GROUPS["jaw"][2]] * 17 + [FITTED] * 51
    return dotted(image, points, colours, span=size)


# From outside: the scene ----------------------------------------------------------------------


def _from_outside(
    points: Float[Tensor, "*any 3"], azimuth_deg: float, elevation_deg: float
) -> Float[Tensor, "*any 3"]:
    """Points of a y-up, z-to-the-viewer frame, as an onlooker sees them from aside and above."""
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    around = points.new_tensor(
        [[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]]
    )
    over = points.new_tensor(
        [[1, 0, 0], [0, math.cos(e), -math.sin(e)], [0, math.sin(e), math.cos(e)]]
    )
    return points @ (over @ around).T


def _draw_mesh(
    axis: Axes, model: MorphableModel, seen: Float[Tensor, "vertex 3"], look: str = "studio"
) -> None:
    """The mesh as an onlooker at infinity sees it, on axes in mm."""
    low, high = seen.amin(0), seen.amax(0)
    half = float((high - low)[:2].max()) / 2 * 1.02
    middle = (low + high) / 2
    ndc = torch.stack(
        [
            -(seen[:, 0] - middle[0]) / half,
            (seen[:, 1] - middle[1]) / half,
            high[2] + 100 - seen[:, 2],
        ],
        -1,
    )[None]
    normals = vertex_normals(seen[None], model.faces)
    skin = model.albedo_mean[None] if look == "studio" else torch.full_like(seen[None], 0.78)
    colours = shade(skin, normals, studio_light()).clamp(0, 1)
    fragments = rasterize(ndc, model.faces, 640)
    image = interpolate(fragments, model.faces, colours.contiguous())[0, :, :, 0]
    image = torch.cat([image, (fragments.pix_to_face[0] >= 0).to(image)], -1)
    image = F.avg_pool2d(image.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    image[..., :3] /= image[..., 3:].clamp(min=1e-6)  # averaged colours are premultiplied
    x, y = float(middle[0]), float(middle[1])
    axis.imshow(
        image.clamp(0, 1).cpu().numpy(), extent=(x - half, x + half, y - half, y + half), zorder=2
    )


def _arrow(axis: Axes, start, end, colour: str, label: str = "", **text) -> None:
    axis.annotate(
        "",
        xy=(float(end[0]), float(end[1])),
        xytext=(float(start[0]), float(start[1])),
        arrowprops=dict(arrowstyle="-|>", color=colour, lw=2.4, shrinkA=0, shrinkB=0),
        zorder=5,
    )
    if label:
        away = np.array([float(end[0] - start[0]), float(end[1] - start[1])])
        away = 11 * away / max(np.linalg.norm(away), 1e-6)
        axis.annotate(
            label,
            xy=(float(end[0]), float(end[1])),
            xytext=tuple(away),
            textcoords="offset points",
            color=colour,
            ha="center" if abs(away[0]) < 7 else ("left" if away[0] > 0 else "right"),
            va="center" if abs(away[1]) < 7 else ("bottom" if away[1] > 0 else "top"),
            fontsize=10,
            fontweight="bold",
            zorder=6,
            **text,
        )


def _axes_triad(axis: Axes, look: Callable, origin, directions, length: float, labels) -> None:
    start = look(torch.tensor(origin, dtype=torch.float32))
    for direction, colour, label in zip(directions, AXES, labels, strict=True):
        end = torch.tensor(origin, dtype=torch.float32) + length * torch.tensor(direction)
        _arrow(axis, start, look(end), colour, label)


def _polyline(axis: Axes, look: Callable, points, **style) -> None:
    seen = look(torch.tensor(points, dtype=torch.float32)).numpy()
    axis.plot(seen[:, 0], seen[:, 1], **style)


RIGHT, UP, OUT = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
LEFT, INTO = (-1.0, 0.0, 0.0), (0.0, 0.0, -1.0)


@torch.no_grad()
def frames_figure(model: MorphableModel, yaw_deg: float = 25.0, distance: float = 450.0) -> Figure:
    """The four frames, and the tip of the nose followed through them."""
    rotation = torch.tensor([[0.0, math.radians(yaw_deg), 0.0]])
    translation = torch.tensor([[0.0, -14.0, distance]])
    v_camera = camera.pose(model.mean[None], rotation, torch.ones(1, 1), translation)
    axes = camera.MODEL_TO_CAMERA @ camera.axis_angle_to_matrix(rotation[0])
    tip = model.landmarks[NOSE_TIP]
    tips = {
        "model": model.mean[tip],
        "camera": v_camera[0, tip],
        "ndc": camera.project_ndc(v_camera[0, tip])[:2],
    }
    tips["pixels"] = camera.ndc_to_pixels(tips["ndc"], 224)
    shot = picture(model, v_camera, size=448)
    figure = Figure(figsize=(12, 10.6), layout="constrained", facecolor="white")
    figure.suptitle(
        "Four frames: follow the tip of the nose (the yellow dot) from millimetres to pixels",
        fontsize=14,
    )
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    left, right = upper.subplots(1, 2, width_ratios=[1, 1.55])
    _model_panel(left, model, tips["model"])
    _camera_panel(right, model, v_camera[0], shot, translation[0], axes, tips["camera"])
    left, right = lower.subplots(1, 2)
    _ndc_panel(left, shot, tips["ndc"])
    _pixel_panel(right, shot, tips["pixels"])
    return figure


TIP = dict(s=60, color="#ffd400", edgecolors="black", linewidths=0.8, zorder=7)


def _said(point: Tensor, digits: int, unit: str) -> str:
    return f"({', '.join(f'{round(float(v), digits) + 0.0:.{digits}f}' for v in point)}) {unit}"


def _model_panel(axis: Axes, model: MorphableModel, tip: Tensor) -> None:
    def look(points):
        return _from_outside(points, -32, 14)

    _draw_mesh(axis, model, look(model.mean), "shape")
    labels = ("+x  viewer's right", "+y  up", "+z  out of the face")
    _axes_triad(axis, look, (0.0, 0.0, 0.0), (RIGHT, UP, OUT), 150.0, labels)
    axis.scatter(*look(tip)[:2].tolist(), **TIP)
    axis.set_title(f"1. Model frame: mm, fixed to the head\nnose tip {_said(tip, 1, 'mm')}")
    axis.set(xlim=(-135, 185), ylim=(-120, 170), aspect="equal")
    axis.axis("off")


def _camera_panel(axis, model, v_camera, shot, translation, model_axes, tip) -> None:
    turn, plane = camera.MODEL_TO_CAMERA, 190.0

    def look(points):  # camera frame, seen from behind the camera's right shoulder
        return _from_outside(points @ turn, 60, 20)

    _draw_mesh(axis, model, look(v_camera), "shape")
    half = plane * math.tan(math.radians(camera.DEFAULT_FOV / 2))
    corners = [(half, half), (-half, half), (-half, -half), (half, -half)]  # from the top left
    far = float(translation[2]) / plane
    for x, y in corners:
        ray = [(0, 0, 0), (far * x, far * y, far * plane)]
        _polyline(axis, look, ray, color="0.7", lw=0.8, zorder=1)
    quad = [(x, y, plane) for x, y in corners]
    top_left, top_right, _, bottom_left = look(torch.tensor(quad)).numpy()[:, :2]
    across, down = top_right - top_left, bottom_left - top_left
    size = shot.shape[0]
    affine = Affine2D.from_values(*(across / size), *(down / size), *top_left)
    extent = (0, size, size, 0)
    axis.imshow(shot, extent=extent, transform=affine + axis.transData, zorder=3, alpha=0.93)
    _polyline(axis, look, [*quad, quad[0]], color="0.2", lw=1.2, zorder=4)
    _polyline(axis, look, [(0, 0, 0), tip.tolist()], color="#d9a900", lw=1.4, ls="--", zorder=5)
    _axes_triad(axis, look, (0.0, 0.0, 0.0), (RIGHT, UP, OUT), 105.0, ("+X", "+Y", "+Z"))
    labels = ("+x", "+y", "+z")
    _axes_triad(axis, look, translation.tolist(), model_axes.T.tolist(), 150.0, labels)
    axis.scatter(*look(tip)[:2].tolist(), **TIP)
    axis.scatter(*look(tip * (plane / tip[2]))[:2].tolist(), **(TIP | dict(s=28)))
    axis.scatter(0, 0, s=70, color="black", zorder=6)
    axis.annotate("camera", (0, 0), (0, -16), textcoords="offset points", ha="center")
    axis.annotate("picture", bottom_left, (12, -30), textcoords="offset points", ha="center")
    axis.set_title(
        f"2. Camera frame: mm, +X left, +Y up, +Z into the screen\nnose tip {_said(tip, 1, 'mm')}"
    )
    axis.set(xlim=(-100, 530), ylim=(-95, 300), aspect="equal")
    axis.axis("off")


def _ndc_panel(axis: Axes, shot: np.ndarray, tip: Tensor) -> None:
    axis.imshow(shot, extent=(1, -1, -1, 1))
    _arrow(axis, (0, 0), (0.9, 0), AXES[0])
    _arrow(axis, (0, 0), (0, 0.9), AXES[1])
    axis.text(0.88, 0.05, "+x left", color=AXES[0], fontweight="bold", ha="left")
    axis.text(-0.04, 0.88, "+y up", color=AXES[1], fontweight="bold")
    axis.scatter(*tip.tolist(), **TIP)
    ticks = [-1, -0.5, 0, 0.5, 1]
    axis.set(xticks=ticks, yticks=ticks)
    axis.set_title(f"3. NDC: no unit, the middle is (0, 0)\nnose tip {_said(tip, 3, '')}")


def _pixel_panel(axis: Axes, shot: np.ndarray, tip: Tensor) -> None:
    axis.imshow(shot, extent=(0, 224, 224, 0))
    _arrow(axis, (0, 0), (90, 0), AXES[0])
    _arrow(axis, (0, 0), (0, 90), AXES[1])
    axis.text(94, 10, "column u", color=AXES[0], fontweight="bold")
    axis.text(5, 104, "row v", color=AXES[1], fontweight="bold")
    axis.scatter(*tip.tolist(), **TIP)
    ticks = [0, 56, 112, 168, 224]
    axis.set(xticks=ticks, yticks=ticks)
    axis.set_title(f"4. Pixels: from the top left corner\nnose tip {_said(tip, 1, 'px')}")


# What a pose does -----------------------------------------------------------------------------


@torch.no_grad()
def doubling_figure(
    model: MorphableModel, posed: Mapping[str, Float[Tensor, "1 vertex 3"]]
) -> Figure:
    """Posed meshes in the cone of the camera, seen from the side, and the picture of each."""
    figure = Figure(figsize=(12, 9.4), layout="constrained", facecolor="white")
    figure.suptitle(
        "Half the size at half the distance: a camera cannot tell these heads apart", fontsize=14
    )
    grid = figure.add_gridspec(2, len(posed) + 1, height_ratios=[1.75, 1])
    side = figure.add_subplot(grid[0, :])
    far = max(float(v[0, :, 2].max()) for v in posed.values()) * 1.03
    slope = math.tan(math.radians(camera.DEFAULT_FOV / 2))
    for sign in (-1, 1):
        side.plot([0, far], [0, sign * far * slope], color="0.6", lw=1)
    for name, v_camera in posed.items():
        seen = v_camera[0] @ camera.MODEL_TO_CAMERA
        seen = _from_outside(seen, 90, 0)
        _draw_mesh(side, model, seen, "shape")
        low = seen.amin(0)
        side.annotate(
            name,
            (float(seen[:, 0].mean()), float(low[1])),
            (0, -14),
            ha="center",
            textcoords="offset points",
            fontsize=11,
            bbox=dict(fc="white", ec="none", pad=1),
        )
    side.scatter(0, 0, s=80, color="black", zorder=5)
    side.annotate("camera", (0, 0), (0, 10), textcoords="offset points", ha="center")
    side.set(xlim=(-20, far), ylim=(-far * slope * 1.02, far * slope * 1.02), aspect="equal")
    side.set_xlabel("distance from the camera, mm")
    side.spines[["left", "top", "right"]].set_visible(False)
    side.set_yticks([])
    shots = [picture(model, v, size=256) for v in posed.values()]
    for i, (name, shot) in enumerate(zip(posed, shots, strict=True)):
        axis = figure.add_subplot(grid[1, i])
        axis.imshow(shot)
        axis.set_title(name)
        axis.axis("off")
    axis = figure.add_subplot(grid[1, len(posed)])
    change = np.abs(shots[0].astype(float) - shots[-1]).max(-1) / 255
    drawn = axis.imshow(change, cmap="viridis", vmin=0, vmax=0.1)
    axis.set_title(f"first minus last: {change.max():.3g} at most")
    axis.axis("off")
    figure.colorbar(drawn, ax=axis, shrink=0.8)
    return figure


def conditioning_figure(rotation_matrix: Callable[[Tensor], Tensor]) -> Figure:
    """How far the matrix moves for the least effective step of three angles, along a yaw turn."""
    yaws = torch.arange(0.0, 181.0, 10.0)

    def euler(angles: Tensor) -> Tensor:  # pitch, then yaw, then roll, each about its own axis
        pitch, yaw, roll = (rotation_matrix(angles[i] * torch.eye(3)[i : i + 1]) for i in range(3))
        return (roll @ yaw @ pitch).reshape(-1)

    def axis_angle(vector: Tensor) -> Tensor:
        return rotation_matrix(vector[None]).reshape(-1)

    figure = Figure(figsize=(8, 3.6), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for function, name, colour in (
        (euler, "pitch, yaw, roll (Euler angles)", "#d62728"),
        (axis_angle, "axis-angle", "#1f77b4"),
    ):
        least = []
        for yaw in yaws:
            at = torch.tensor([0.0, math.radians(float(yaw)), 0.0])
            jacobian = torch.autograd.functional.jacobian(function, at)
            least.append(float(torch.linalg.svdvals(jacobian)[-1]) / math.sqrt(2))
        axis.plot(yaws, least, label=name, color=colour, lw=2.4)
    axis.axvline(90, color="0.8", lw=1, zorder=0)
    axis.set(
        xlabel="yaw, degrees",
        ylabel="turn for a step of 1\nin the weakest direction",
        ylim=(-0.03, 1.08),
        xticks=range(0, 181, 30),
        title="At a yaw of 90° Euler angles lose a direction: gimbal lock",
    )
    axis.legend(frameon=False, loc="lower left")
    return figure


def dolly_figure(
    fovs: Sequence[float], pictures: Sequence[np.ndarray], ratios: Sequence[float]
) -> Figure:
    """Faces of one size under growing fields of view, and how wide the nose is beside the eyes."""
    figure = Figure(figsize=(13, 5.2), layout="constrained", facecolor="white")
    figure.suptitle("The same head, the same size: step closer and the nose grows", fontsize=14)
    grid = figure.add_gridspec(2, len(fovs), height_ratios=[1.35, 1])
    for i, (fov, image) in enumerate(zip(fovs, pictures, strict=True)):
        axis = figure.add_subplot(grid[0, i])
        axis.imshow(image)
        axis.set_title(f"{fov:g}°")
        axis.axis("off")
    axis = figure.add_subplot(grid[1, :])
    axis.plot(fovs, ratios, "o-", color="#d62728", lw=2)
    axis.set(
        xlabel="field of view, degrees (the eyes kept equally far apart in the picture)",
        ylabel="nose width /\nouter eye distance",
        xticks=list(fovs),
    )
    return figure


# Landmarks ------------------------------------------------------------------------------------


def _strokes(axis: Axes, points: np.ndarray, **style) -> None:
    for low, high in STROKES:
        axis.plot(*points[low - 1 : high].T, **style)
    for low, high in LOOPS:
        ring = [*range(low - 1, high), low - 1]
        axis.plot(*points[ring].T, **style)


def _show(axis: Axes, image: np.ndarray, title: str = "") -> None:
    axis.imshow(image, extent=(0, 224, 224, 0))
    axis.set(xlim=(0, 224), ylim=(224, 0))
    axis.set_title(title)
    axis.axis("off")


@torch.no_grad()
def numbered_landmarks(model: MorphableModel, crop: Crop) -> Figure:
    """The 68 points in their order, on the mean face and on the photo."""
    start = model.neutral()
    start.translation = torch.tensor([[0.0, 13.0, 340.0]])
    v_camera = camera.pose(model.mean[None], start.rotation, start.scale, start.translation)
    on_model = camera.ndc_to_pixels(camera.project_ndc(v_camera[:, model.landmarks]), 224)[0]
    photo = F.interpolate(crop.image, (512, 512), mode="bicubic", align_corners=False)
    figure = Figure(figsize=(11.6, 6.5), layout="constrained", facecolor="white")
    figure.suptitle(
        "68 points in the iBUG order: the viewer's left first, the jaw, then from the brows down",
        fontsize=14,
    )
    sides = figure.subplots(1, 2)
    _show(sides[0], picture(model, v_camera, size=512, look="shape"), "on the mean face: vertices")
    _show(sides[1], to_uint8(photo[0]), "on the photo: what a detector marked")
    for axis, points in zip(sides, (on_model.numpy(), crop.landmarks[0].numpy()), strict=True):
        _strokes(axis, points, color="white", lw=0.8, alpha=0.7)
        middle = points[27:36].mean(0)
        for name, (low, high, colour) in GROUPS.items():
            part = points[low - 1 : high]
            axis.scatter(
                *part.T,
                s=16,
                color=colour,
                edgecolors="white",
                linewidths=0.5,
                zorder=3,
                label=f"{name}, {low} to {high}",
            )
            for number, point in enumerate(part, low):
                away = _beside(number, point, middle, part)
                axis.annotate(
                    str(number),
                    point,
                    away,
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color=colour,
                    fontweight="bold",
                    bbox=dict(boxstyle="round,pad=0.08", fc="white", ec="none", alpha=0.75),
                )
    handles, names = sides[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _beside(number: int, point: np.ndarray, middle: np.ndarray, part: np.ndarray):
    """Where a number stands, so that numbers do not cover each other: outwards of its own group."""
    reach = 9.5
    if number <= 17:
        away = point - middle
    elif number <= 27:
        away = np.array([0.0, -1.0])
    elif number <= 31:
        away = np.array([1.0, 0.0])
    elif number <= 36:
        away = np.array([0.0, 1.0])
    else:
        ring = part[:6] if number <= 42 else part[6:12] if number <= 48 else part
        ring = part[:12] if 48 < number <= 60 else part[12:] if number > 60 else ring
        away = (point - ring.mean(0)) * (1.0 if number <= 60 else -1.0)
        away[1] *= 2.5
        if number > 60:
            shut = np.ptp(ring[:, 1]) < 6  # numbers inside an open mouth, outside a shut one
            reach, away = 6.5, -away if shut else away
            if number in (61, 65):
                away, reach = np.array([np.sign(ring.mean(0) - point)[0], 0.0]), 10.5
    away = away / max(np.linalg.norm(away), 1e-6)
    return (reach * away[0], -reach * away[1])


@torch.no_grad()
def sliding_jaw(
    model: MorphableModel, posed: Mapping[str, tuple[Float[Tensor, "1 vertex 3"], Tensor]]
) -> Figure:
    """Fixed jaw points, and those on the outline that a 2D detector sees, for some poses.

    posed: title: (camera-frame vertices, axis-angle).
    """
    figure = Figure(figsize=(4.4 * len(posed), 4.9), layout="constrained", facecolor="white")
    figure.suptitle("A 2D detector's jaw points slide over the skin as the head turns", fontsize=14)
    panels = figure.subplots(1, len(posed), squeeze=False)[0]
    for axis, (title, (v_camera, rotation)) in zip(panels, posed.items(), strict=True):
        _show(axis, picture(model, v_camera, size=400, look="shape"), title)
        places = {}
        for kind in ("3d", "2d"):
            index = landmark_vertices(model, v_camera, rotation, kind)[0, :17]
            ndc = camera.project_ndc(v_camera[0, index])
            places[kind] = camera.ndc_to_pixels(ndc, 224).numpy()
        for one, other in zip(places["3d"], places["2d"], strict=True):
            axis.plot(*np.stack([one, other]).T, color="0.35", lw=1)
        turned = _normals(v_camera, model)[0, model.landmarks[:17], 2].numpy() < 0
        fill = np.where(turned, "none", AXES[2])
        axis.scatter(
            *places["3d"].T,
            s=34,
            facecolors=fill,
            edgecolors=AXES[2],
            zorder=5,
            label="fixed to the head (3D); hollow where hidden",
        )
        axis.scatter(*places["2d"].T, s=34, color="#ff7f0e", label="on the outline (2D)", zorder=4)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def residual_figure(
    crop: Crop,
    fits: Mapping[str, tuple[np.ndarray, Float[Tensor, "*one 68 2"] | None]],
    title: str,
    size: float = 4.3,
    most: float = 12.0,
) -> Figure:
    """Detected and projected landmarks on overlays, joined by lines coloured by their length.

    fits: title: (picture of the crop with the face on it, projected points in crop pixels or None).
    """
    figure = Figure(
        figsize=(size * len(fits) + 1, size + 0.8), layout="constrained", facecolor="white"
    )
    figure.suptitle(title, fontsize=14)
    seen = crop.landmarks[0].numpy()
    panels = figure.subplots(1, len(fits), squeeze=False)[0]
    shades = matplotlib.colormaps["viridis"]
    for axis, (name, (image, points)) in zip(panels, fits.items(), strict=True):
        _show(axis, image, name)
        axis.scatter(*seen.T, s=12, color=DETECTED, label="detected in the photo", zorder=3)
        if points is None:
            continue
        points = points.detach().cpu().numpy().reshape(-1, 2)
        for one, other in zip(seen, points, strict=True):
            length = np.linalg.norm(one - other)
            axis.plot(*np.stack([one, other]).T, color=shades(min(length / most, 1.0)), lw=2.4)
        axis.scatter(*points.T, s=12, color=FITTED, label="projected from the model", zorder=4)
    handles, names = panels[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, most), shades)
    label = "distance, crop pixels"
    figure.colorbar(scale, ax=list(panels), shrink=0.75, label=label, extend="max")
    return figure


def bias_figure(errors: Mapping[str, Sequence[float]], distances: Sequence[float]) -> Figure:
    """Angle between the recovered and the true rotation, over the distance of the camera."""
    figure = Figure(figsize=(8, 3.8), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, values), colour in zip(
        errors.items(), ("#1f77b4", "#ff7f0e", "#d62728"), strict=False
    ):
        axis.plot(distances, values, "o-", label=name, color=colour, lw=2)
    axis.set(
        xlabel="distance of the camera, mm",
        ylabel="error of the rotation, degrees",
        ylim=(0, None),
        title="Assuming parallel rays costs some degrees up close, and little from afar",
    )
    axis.axvline(350, color="0.8", lw=1, zorder=0)
    top = axis.get_xaxis_transform()
    axis.annotate("about our crops", (350, 0.94), (4, 0), top, "offset points", color="0.4")
    axis.legend(frameon=False)
    return figure


def neutral_at(
    model: MorphableModel,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    distance: float = 350.0,
) -> FaceCoefficients:
    """The mean face turned: pitch first, then yaw, then roll; composed as rotations."""
    start = model.neutral()
    angles = (pitch_deg, yaw_deg, roll_deg)
    pitch, yaw, roll = (
        camera.axis_angle_to_matrix(math.radians(a) * torch.eye(3)[i]) for i, a in enumerate(angles)
    )
    start.rotation = camera.matrix_to_axis_angle(roll @ yaw @ pitch)[None]
    start.translation = torch.tensor([[0.0, 0.0, float(distance)]])
    return start


@torch.no_grad()
def turned_head(
    model: MorphableModel, matrix: Float[Tensor, "3 3"], size: int = 280
) -> UInt8[np.ndarray, "size size 3"]:
    """The mean face turned by a matrix of the model frame, in the middle of the picture."""
    middle = (model.mean.amin(0) + model.mean.amax(0)) / 2
    seen = (model.mean - middle) @ matrix.detach().T @ camera.MODEL_TO_CAMERA
    return picture(model, seen[None] + seen.new_tensor([0.0, 0.0, 520.0]), size=size)
