"""Figures of notebook 02: frames, poses, fields of view, landmarks by yaw. Section 2.1.

    picture(model, v_camera)                       # the face through the camera: (H, W, 3) uint8
    frames_figure(model)                           # one point in four frames
    numbered_landmarks(model, crop)                # the 68 points and their numbers

Everything takes points that a reader's own functions computed, so the figures show their work.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from torch import Tensor

from ...face import camera
from ...face.camera import CROP_SIZE
from ...face.coefficients import FaceCoefficients
from ...face.landmarks68 import BROWS, EYES, JAW, LEFT_EYE, MOUTH, NOSE, NOSE_TIP, RIGHT_EYE
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...photos.crop import Crop, cut_patch, photo_to_crop
from ...pictures import faces as painter
from ...pictures.faces import DETECTED, FITTED, PAPER, Picture, in_studio
from ...rendering.synthesis import Face, project_landmarks, synthesise
from ..drawing import style
from .turned import TurnedPerson, YawStudy

Posed = Float[Tensor, "1 vertex 3"]  # in the camera frame, mm
AXES = ("#d62728", "#2ca02c", "#1f77b4")  # x red, y green, z blue
PURPLE, BROWN = "#9467bd", "#8c564b"
GROUPS = dict(jaw=JAW, brows=BROWS, nose=NOSE, eyes=EYES, lips=MOUTH)
GROUP_COLOURS = AXES[2], BROWN, PURPLE, AXES[1], AXES[0]
STROKES = (JAW, slice(17, 22), slice(22, 27), slice(27, 31), slice(31, 36))
LOOPS = (RIGHT_EYE, LEFT_EYE, slice(48, 60), slice(60, 68))
TIP = dict(s=60, color="#ffd400", edgecolors="black", linewidths=0.8, zorder=7)


def picture(
    model: MorphableModel,
    v_camera: Posed,
    fov_deg: float = camera.DEFAULT_FOV,
    size: int = 320,
    *,
    look: str = "studio",
    behind: painter.Background = PAPER,
    opacity: float = 1.0,
    fine: int = 2,
) -> Picture:
    """The mean skin at camera-frame positions (mm), under the studio light.

    look: "studio" or "shape". behind: a picture to lay it on. opacity: 0 to 1.
    fine: samples per pixel and axis; 1 is quick.
    """
    v_camera = v_camera[:1].detach().to(model.mean)
    skin = None if look == "shape" else model.albedo_mean[None]
    mesh = v_camera, model.faces, in_studio(_normals(v_camera, model), skin)
    return painter.paint_mesh(*mesh, size, fov_deg, on=behind, opacity=opacity, fine=fine)


def _normals(v_camera: Tensor, model: MorphableModel) -> Tensor:
    """Outward normals in viewer axes, also where a reflection turned the triangles inside out."""
    normals = vertex_normals(v_camera, model.faces)
    outward = v_camera - v_camera.mean(1, keepdim=True)
    return torch.sign((normals * outward).sum()) * normals @ camera.MODEL_TO_CAMERA.to(normals)


def pose_picture(
    model: MorphableModel, v_camera: Posed, rotation: Float[Tensor, "1 3"], kind: str
) -> Picture:
    """The face with its 68 landmarks on it, quick enough for a slider; the jaw's in blue."""
    points = project_landmarks(model, v_camera, rotation, kind)[0]
    colours = [AXES[2]] * 17 + [FITTED] * 51
    return painter.with_points(picture(model, v_camera, size=360, fine=1), points, colours)


class _Onlooker:
    """Draws what is in a frame, mm and y up, as seen from afar.

    azimuth: about +y, from +z. elevation: above the plane of x and z.
    """

    def __init__(self, axis: Axes, azimuth_deg: float, elevation_deg: float):
        angles = torch.tensor([[0.0, -azimuth_deg, 0.0], [elevation_deg, 0.0, 0.0]])
        around, over = camera.axis_angle_to_matrix(angles.deg2rad())
        self.axis, self.turn = axis, (over @ around).T

    def places(self, points: Float[Tensor, "*any 3"]) -> Float[np.ndarray, "*any 2"]:
        """Where points lie on the axes."""
        return (points @ self.turn)[..., :2].numpy()

    def mesh(self, model: MorphableModel, vertices: Float[Tensor, "vertex 3"]) -> None:
        """The shape, grey."""
        seen = vertices @ self.turn
        low, high = seen.amin(0), seen.amax(0)
        middle, half = (low + high) / 2, float((high - low)[:2].max()) / 2 * 1.02
        across = (seen - middle) * torch.tensor([-1.0, 1.0, 0.0]) / half
        ndc = torch.cat([across[:, :2], high[2] + 100 - seen[:, 2:]], 1)[None]
        colours = in_studio(vertex_normals(seen[None], model.faces))
        image = painter.layer(ndc, model.faces, colours, 320, perspective_correct=False)
        image[:3] /= image[3:].clamp(min=1e-6)  # imshow wants colours without their coverage
        x, y = middle[:2].tolist()
        extent = (x - half, x + half, y - half, y + half)
        self.axis.imshow(image.clamp(0, 1).permute(1, 2, 0), extent=extent, zorder=2)

    def line(self, *points: Tensor, **style) -> None:
        self.axis.plot(*self.places(torch.stack(points)).T, **style)

    def dot(self, point: Tensor, **style) -> None:
        self.axis.scatter(*self.places(point), **TIP | style)

    def triad(self, origin: Tensor, directions: Tensor, length: float, labels: Sequence) -> None:
        """The axes of a frame as arrows. directions: one a row."""
        ends = origin + length * directions
        for end, colour, label in zip(self.places(ends), AXES, labels, strict=True):
            _arrow(self.axis, self.places(origin), end, colour, label)


def _arrow(axis: Axes, start, end, colour: str, label: str = "") -> None:
    head = dict(arrowstyle="-|>", color=colour, lw=2.4, shrinkA=0, shrinkB=0)
    axis.annotate("", end, start, arrowprops=head, zorder=5)
    x, y = away = 11 * np.subtract(end, start) / np.linalg.norm(np.subtract(end, start))
    ha = "center" if abs(x) < 7 else "left" if x > 0 else "right"
    va = "center" if abs(y) < 7 else "bottom" if y > 0 else "top"
    words = dict(color=colour, fontsize=10, fontweight="bold", ha=ha, va=va, zorder=6)
    axis.annotate(label, end, away, textcoords="offset points", **words)


@torch.no_grad()
def frames_figure(model: MorphableModel) -> Figure:
    """The four frames, and the tip of the nose followed through them."""
    start = neutral_at(model, yaw_deg=25, distance=450)
    start.translation[:, 1] = -14
    face = synthesise(model, start)
    shot = painter.show_face(face, "studio", 448)
    model_tip, tip = (v[model.landmarks[NOSE_TIP]] for v in (model.mean, face.v_camera[0]))
    ndc = camera.project_ndc(tip)[:2]
    pixels = camera.ndc_to_pixels(ndc)
    title = "Four frames: follow the tip of the nose (the yellow dot) from millimetres to pixels"
    figure = style.page(12, 10.6, title, 14)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    model_axis, camera_axis = upper.subplots(1, 2, width_ratios=[1, 1.55])
    scene = _Onlooker(model_axis, -32, 14)
    scene.mesh(model, model.mean)
    labels = ("+x  viewer's right", "+y  up", "+z  out of the face")
    scene.triad(torch.zeros(3), torch.eye(3), 150, labels)
    scene.dot(model_tip)
    model_axis.set(xlim=(-135, 185), ylim=(-120, 170))
    model_axis.axis("off")
    _camera_panel(camera_axis, face, start.translation[0], tip, shot)
    left, right = lower.subplots(1, 2)
    words = (("+x left", (0.88, 0.05)), ("+y up", (-0.04, 0.88)))
    _plane_panel(left, shot, (1, -1, -1, 1), ndc, 0.9, words, [-1, -0.5, 0, 0.5, 1])
    words = (("column u", (94, 10)), ("row v", (5, 104)))
    _plane_panel(right, shot, (0, 224, 224, 0), pixels, 90, words, [0, 56, 112, 168, 224])
    for axis, title, point, digits, unit in (
        (model_axis, "1. Model frame: mm, fixed to the head", model_tip, 1, "mm"),
        (camera_axis, "2. Camera frame: mm, +X left, +Y up, +Z into the screen", tip, 1, "mm"),
        (left, "3. NDC: no unit, the middle is (0, 0)", ndc, 3, ""),
        (right, "4. Pixels: from the top left corner", pixels, 1, "px"),
    ):
        numbers = ", ".join(f"{v:z.{digits}f}" for v in point.tolist())
        axis.set_title(f"{title}\nnose tip ({numbers}) {unit}")
    return figure


def _camera_panel(axis: Axes, face: Face, place: Tensor, tip: Tensor, shot: Picture) -> None:
    """Camera, picture and head, from behind the camera's right shoulder."""
    scene, origin, plane = _Onlooker(axis, -120, 20), torch.zeros(3), 190.0
    scene.mesh(face.model, face.v_camera[0])
    half = plane * math.tan(math.radians(camera.DEFAULT_FOV / 2))
    signs = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])  # from the top left
    corners = torch.cat([half * signs, torch.full((4, 1), plane)], 1)
    for corner in corners:
        scene.line(origin, corner * (place[2] / plane), color="0.7", lw=0.8, zorder=1)
    top_left, top_right, _, bottom_left = scene.places(corners)
    across, down = (top_right - top_left) / len(shot), (bottom_left - top_left) / len(shot)
    placed = Affine2D.from_values(*across, *down, *top_left) + axis.transData
    extent = (0, len(shot), len(shot), 0)
    axis.imshow(shot, extent=extent, transform=placed, zorder=3, alpha=0.93)
    scene.line(*corners, corners[0], color="0.2", lw=1.2, zorder=4)
    scene.line(origin, tip, color="#d9a900", lw=1.4, ls="--", zorder=5)
    scene.triad(origin, torch.eye(3), 105, ("+X", "+Y", "+Z"))
    turn = camera.MODEL_TO_CAMERA @ camera.axis_angle_to_matrix(face.rotation[0])
    scene.triad(place, turn.T, 150, ("+x", "+y", "+z"))
    scene.dot(tip)
    scene.dot(tip * (plane / tip[2]), s=28)
    scene.dot(origin, s=70, color="black", zorder=6)
    axis.annotate("camera", (0, 0), (0, -16), textcoords="offset points", ha="center")
    axis.annotate("picture", bottom_left, (12, -30), textcoords="offset points", ha="center")
    axis.set(xlim=(-100, 530), ylim=(-95, 300), aspect="equal")
    axis.axis("off")


def _plane_panel(axis: Axes, shot: Picture, extent, tip: Tensor, reach, words, ticks) -> None:
    """The picture in coordinates of its plane, their two axes, and the tip of the nose."""
    axis.imshow(shot, extent=extent)
    for end, colour, (word, place) in zip(reach * np.eye(2), AXES, words, strict=False):
        _arrow(axis, (0, 0), end, colour)
        axis.text(*place, word, color=colour, fontweight="bold")
    axis.scatter(*tip.tolist(), **TIP)
    axis.set(xticks=ticks, yticks=ticks)


@torch.no_grad()
def doubling_figure(model: MorphableModel, posed: Mapping[str, Posed]) -> Figure:
    """Posed meshes in the cone of the camera, seen from the side, and the picture of each."""
    title = "Half the size at half the distance: a camera cannot tell these heads apart"
    figure = style.page(12, 9.4, title, 14)
    layout = [["side"] * (len(posed) + 1), [*posed, "change"]]
    axes = figure.subplot_mosaic(layout, height_ratios=[1.75, 1])
    side, shots = axes["side"], []
    far = max(float(v[0, :, 2].max()) for v in posed.values()) * 1.03
    reach = far * math.tan(math.radians(camera.DEFAULT_FOV / 2))
    side.plot([far, 0, far], [-reach, 0, reach], color="0.6", lw=1)
    scene = _Onlooker(side, -90, 0)
    for name, v_camera in posed.items():
        scene.mesh(model, v_camera[0])
        x, y = scene.places(v_camera[0]).T
        words = dict(ha="center", fontsize=11, bbox=dict(fc="white", ec="none", pad=1))
        side.annotate(name, (x.mean(), y.min()), (0, -14), textcoords="offset points", **words)
        shots.append(picture(model, v_camera, size=256))
        style.picture(axes[name], shots[-1], name, 11)
    side.scatter(0, 0, s=80, color="black", zorder=5)
    side.annotate("camera", (0, 0), (0, 10), textcoords="offset points", ha="center")
    side.set(xlim=(-20, far), ylim=(-1.02 * reach, 1.02 * reach), aspect="equal", yticks=[])
    side.set_xlabel("distance from the camera, mm")
    side.spines[["left", "top", "right"]].set_visible(False)
    change = np.abs(shots[0].astype(float) - shots[-1]).max(-1) / 255
    words = f"first minus last: {change.max():.3g} at most"
    drawn = style.picture(axes["change"], change, words, 11, **style.sized(0.1))
    figure.colorbar(drawn, ax=axes["change"], shrink=0.8)
    return figure


def conditioning_figure(rotation_matrix: Callable[[Tensor], Tensor]) -> Figure:
    """How far the matrix moves for the least effective step of three angles, along a yaw turn."""

    def euler(angles: Tensor) -> Tensor:  # pitch, then yaw, then roll, each about its own axis
        pitch, yaw, roll = rotation_matrix(angles.diag())
        return roll @ yaw @ pitch

    def weakest(function: Callable[[Tensor], Tensor], yaw: float) -> float:
        at = torch.tensor([0.0, math.radians(yaw), 0.0])
        jacobian = torch.autograd.functional.jacobian(function, at)
        return float(torch.linalg.svdvals(jacobian.reshape(9, 3))[-1]) / math.sqrt(2)

    yaws = range(0, 181, 10)
    ways = {
        "pitch, yaw, roll (Euler angles)": euler,
        "axis-angle": lambda vector: rotation_matrix(vector[None]),
    }
    lines = {name: [weakest(way, yaw) for yaw in yaws] for name, way in ways.items()}
    figure, axis = style.charts(8, 3.6)
    title = "At a yaw of 90° Euler angles lose a direction: gimbal lock"
    settings = dict(xlabel="yaw, degrees", ylim=(-0.03, 1.08), xticks=range(0, 181, 30))
    settings |= dict(title=title, ylabel="turn for a step of 1\nin the weakest direction")
    settings |= dict(legend=dict(loc="lower left", fontsize=10), colours=(style.RED, style.BLUE))
    style.curves(axis, lines, yaws, width=2.4, **settings)
    axis.axvline(90, color="0.8", lw=1, zorder=0)
    return figure


def dolly_figure(fovs: Sequence[float], pictures: Sequence[Picture], ratios: Sequence) -> Figure:
    """Faces of one size under growing fields of view, and how wide the nose is beside the eyes."""
    figure = style.page(13, 5.2, "The same head, the same size: step closer and the nose grows", 14)
    axes = figure.subplot_mosaic([fovs, ["nose"] * len(fovs)], height_ratios=[1.35, 1])
    for fov, image in zip(fovs, pictures, strict=True):
        style.picture(axes[fov], image, f"{fov:g}°", 11)
    settings = dict(ylabel="nose width /\nouter eye distance", xticks=list(fovs))
    settings["xlabel"] = "field of view, degrees (the eyes kept equally far apart in the picture)"
    style.curves(axes["nose"], {"": ratios}, fovs, "o-", colours=(style.RED,), **settings)
    return figure


@torch.no_grad()
def numbered_landmarks(model: MorphableModel, crop: Crop) -> Figure:
    """The 68 points in their order, on the mean face and on the photo."""
    start = neutral_at(model, distance=340)
    start.translation[:, 1] = 13.0
    face = synthesise(model, start)
    title = (
        "68 points in the iBUG order: the viewer's left first, the jaw, then from the brows down"
    )
    figure, sides = style.charts(10.8, 6.1, 2, title=title, fontsize=14)
    shape = painter.show_face(face, "shape", 512)
    style.picture(sides[0], shape, "on the mean face: vertices", 11)
    photo = painter.enlarged(crop.image, 512)
    style.picture(sides[1], photo, "on the photo: what a detector marked", 11)
    marked = face.landmarks()[0].numpy(), crop.landmarks[0].numpy()
    for axis, points in zip(sides, marked, strict=True):
        lines = [points[part] for part in STROKES]
        for line in lines + [points[[*range(68)[ring], ring.start]] for ring in LOOPS]:
            axis.plot(*line.T, color="white", lw=0.8, alpha=0.7)
        for (name, group), colour in zip(GROUPS.items(), GROUP_COLOURS, strict=True):
            words = f"{name}, {group.start + 1} to {group.stop}"
            dots = dict(s=16, edgecolors="white", linewidths=0.5, zorder=3)
            axis.scatter(*points[group].T, color=colour, label=words, **dots)
            text = dict(ha="center", va="center", fontsize=7.5, color=colour, fontweight="bold")
            text["bbox"] = dict(boxstyle="round,pad=0.08", fc="white", ec="none", alpha=0.75)
            for i in range(68)[group]:
                place = dict(xytext=_beside(i, points), textcoords="offset points")
                axis.annotate(str(i + 1), points[i], **place, **text)
    style.legend_below(figure, sides[0], 5)
    return figure


def _beside(i: int, points: Float[np.ndarray, "68 2"]) -> tuple[float, float]:
    """Where a number stands, so that numbers do not cover each other: outwards of its own group."""
    reach = 9.5
    if i < 36:
        jaw = points[i] - points[NOSE].mean(0)
        away = jaw if i < 17 else ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0))[(i > 26) + (i > 30)]
    else:
        ring = next(points[part] for part in LOOPS if i < part.stop)
        away = (points[i] - ring.mean(0)) * (1.0, 2.5)
        if i > 59:  # inside an open mouth, outside a shut one
            reach, away = 6.5, away if np.ptp(ring[:, 1]) < 6 else -away
        if i in (60, 64):
            reach, away = 10.5, np.sign(ring.mean(0) - points[i]) * (1.0, 0.0)
    x, y = reach * np.array(away) / max(np.linalg.norm(away), 1e-6)
    return x, -y


@torch.no_grad()
def sliding_jaw(model: MorphableModel, posed: Mapping[str, tuple[Posed, Tensor]]) -> Figure:
    """Fixed jaw points, and those on the outline that a 2D detector sees, for some poses.

    posed: title: (camera-frame vertices, axis-angle).
    """
    title = "A 2D detector's jaw points slide over the skin as the head turns"
    size = (4.4 * len(posed), 4.9, len(posed))
    figure, axes = style.charts(*size, title=title, fontsize=14, squeeze=False)
    for axis, (name, (v_camera, rotation)) in zip(axes[0], posed.items(), strict=True):
        style.picture(axis, picture(model, v_camera, size=400, look="shape"), name, 11)
        at = model, v_camera, rotation
        fixed, sliding = (project_landmarks(*at, kind)[0, JAW] for kind in ("3d", "2d"))
        axis.plot(*torch.stack([fixed, sliding]).permute(2, 0, 1), color="0.35", lw=1)
        hidden = _normals(v_camera, model)[0, model.landmarks[JAW], 2] < 0
        dots = dict(facecolors=np.where(hidden, "none", AXES[2]), edgecolors=AXES[2], zorder=5)
        axis.scatter(*fixed.T, s=34, label="fixed to the head (3D); hollow where hidden", **dots)
        axis.scatter(*sliding.T, s=34, color="#ff7f0e", label="on the outline (2D)", zorder=4)
    style.legend_below(figure, axes[0, 0], 2)
    return figure


def residual_figure(
    crop: Crop,
    fits: Mapping[str, tuple[np.ndarray, Float[Tensor, "*one 68 2"] | None]],
    title: str,
    size: float = 3.3,
) -> Figure:
    """Detected and projected landmarks on overlays, joined by lines coloured by their length.

    fits: title: (picture of the crop with the face on it, projected points in crop pixels or None).
    """
    most, shape = 12.0, (size * len(fits) + 1, size + 0.8, len(fits))
    figure, axes = style.charts(*shape, title=title, fontsize=14, squeeze=False)
    detected = crop.landmarks[0]
    for axis, (name, (image, points)) in zip(axes[0], fits.items(), strict=True):
        style.picture(axis, image, name, 11)
        axis.scatter(*detected.T, s=12, color=DETECTED, label="detected in the photo", zorder=3)
        if points is not None:
            points = points.detach().cpu().reshape(-1, 2)
            colours = dict(array=(detected - points).norm(dim=1), cmap=style.SIZE, clim=(0, most))
            joined = torch.stack([detected, points], 1)
            axis.add_collection(LineCollection(joined, linewidths=2.4, **colours))
            axis.scatter(*points.T, s=12, color=FITTED, label="projected from the model", zorder=4)
    style.legend_below(figure, axis, 2)
    place = dict(ax=list(axes[0]), shrink=0.75, extend="max")
    style.colour_bar(figure, most, "distance, crop pixels", **place)
    return figure


def held_askew(
    pixels: Picture, landmarks: Tensor, degrees: float
) -> tuple[Picture, Float[Tensor, "68 2"]]:
    """The photo turned about its middle in a square of its shorter side, and its landmarks."""
    height, width = pixels.shape[:2]
    side, middle = min(height, width), width / 2 + 1j * height / 2
    turn = np.exp(-1j * np.deg2rad(degrees))
    origin = middle - turn * (1 + 1j) * side / 2
    turned = (np.asarray(landmarks) @ [1, 1j] - origin) / turn
    marks = torch.from_numpy(np.stack([turned.real, turned.imag], -1))
    return cut_patch(pixels, turn, origin, side), marks


def crop_figure(
    photos: Mapping[str, tuple[Picture, Tensor]],
    matrices: Sequence[Float[Tensor, "2 3"]],
    template: Float[Tensor, "68 2"],
) -> Figure:
    """Photos with their landmarks, each beside its crop: hollow dots are the template."""
    figure, axes = style.charts(9, 2.7, 2 * len(photos))
    for pair, (name, (pixels, marks)), matrix in zip(
        axes.reshape(-1, 2), photos.items(), matrices, strict=True
    ):
        (a, _, c), (b, _, d) = matrix.double().tolist()
        scale, origin = 1 / (a + 1j * b), -(c + 1j * d) / (a + 1j * b)
        crop = cut_patch(pixels, scale, origin, CROP_SIZE)
        moved = photo_to_crop(torch.as_tensor(marks).float(), matrix)
        share = CROP_SIZE / pixels.shape[1]
        style.picture(pair[0], pixels, name)
        style.dots(pair[0], share * torch.as_tensor(marks), style.RED, 4)
        style.picture(pair[1], crop, "its crop")
        style.dots(pair[1], moved, style.RED, 6)
        ring = dict(facecolors="none", edgecolors=style.BLUE, linewidths=0.8)
        pair[1].scatter(*template.T, s=16, **ring)
    return figure


def bias_figure(
    errors: Mapping[str, Sequence[float]], distances: Sequence[float], title: str
) -> Figure:
    """Angle between the recovered and the true rotation, over the distance of the camera."""
    figure, axis = style.charts(8, 3.8)
    settings = dict(xlabel="distance of the camera, mm", ylabel="error of the rotation, degrees")
    settings |= dict(ylim=(0, None), title=title, legend=dict(fontsize=10))
    colours = (style.BLUE, style.ORANGE, style.RED)
    style.curves(axis, errors, distances, "o-", colours=colours, **settings)
    axis.axvline(350, color="0.8", lw=1, zorder=0)
    top = axis.get_xaxis_transform()
    axis.annotate("about our crops", (350, 0.94), (4, 0), top, "offset points", color="0.4")
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
    angles = torch.tensor([pitch_deg, yaw_deg, roll_deg]).deg2rad()
    pitch, yaw, roll = camera.axis_angle_to_matrix(angles.diag())
    start.rotation = camera.matrix_to_axis_angle(roll @ yaw @ pitch)[None]
    start.translation = torch.tensor([[0.0, 0.0, distance]])
    return start


def seen_figure(
    people: Mapping[str, TurnedPerson], seen: Sequence[Bool[Tensor, "point"]]
) -> Figure:
    """Pictures with the 68 points: dots where they are seen, rings where they hide."""
    figure, axes = style.panels(1, len(people), 2.3, "Points that are seen, and points that hide")
    for axis, (name, person), visible in zip(axes[0], people.items(), seen, strict=True):
        style.picture(axis, person.pixels, name)
        points = person.places(person.landmarks) * CROP_SIZE / person.size
        ring = dict(s=20, facecolors="none", edgecolors=FITTED, linewidths=0.9)
        axis.scatter(*points[~visible].T, label="hidden", **ring)
        axis.scatter(*points[visible].T, color=DETECTED, s=9, lw=0, label="seen")
        axis.set(xlim=(22, 202), ylim=(190, 10))
    style.legend_below(figure, axes[0, -1], 2)
    return figure


@torch.no_grad()
def codes_figure(people: Mapping[str, TurnedPerson], codes: Float[Tensor, "vertex 3"]) -> Figure:
    """The projected normalised coordinate codes of the heads."""
    title = "The projected normalised coordinate codes (PNCC) of these heads"
    figure, axes = style.panels(1, len(people), 2.3, title)
    for axis, (name, person) in zip(axes[0], people.items(), strict=True):
        style.picture(axis, painter.paint(person.face, codes[None], 300), name)
        axis.set(xlim=(22, 202), ylim=(190, 10))
    return figure


def yaw_figure(study: YawStudy) -> Figure:
    """Faces that detectors find, and how far their points are off, by yaw."""
    title = "Dense points hold up to 60°; in profile the points that are seen are lost as well"
    figure, axes = style.charts(12, 4.2, 3, title=title, fontsize=13)
    colours = style.BLUE, PURPLE, style.INK, style.RED, style.GREEN, style.ORANGE
    for axis, number, name in zip(
        axes,
        ("found", "seen", "hidden"),
        ("faces found, %", "error of points that are seen, %", "error of points that hide, %"),
        strict=True,
    ):
        lines = {
            detector: [math.nan if value is None else 100 * value for value in numbers[number]]
            for detector, numbers in study.detectors.items()
        }
        top = 104 if number == "found" else 45
        settings = dict(xlabel="yaw, degrees", ylim=(0, top), xticks=study.yaw[::3], title=name)
        settings |= dict(colours=colours, legend=False, width=1.6)
        style.curves(axis, lines, study.yaw, "o-", **settings)
    style.legend_below(figure, axes[0], len(study.detectors))
    return figure


@torch.no_grad()
def turned_head(model: MorphableModel, matrix: Float[Tensor, "3 3"], size: int = 280) -> Picture:
    """The mean face turned by a matrix of the model frame, in the middle of the picture."""
    middle = (model.mean.amin(0) + model.mean.amax(0)) / 2
    seen = (model.mean - middle) @ matrix.detach().T @ camera.MODEL_TO_CAMERA
    return picture(model, seen[None] + seen.new_tensor([0.0, 0.0, 520.0]), size=size)
