"""Figures of notebook 00: the pipeline at a glance, from the photo to the turning head.

turning(model, coefficients, crop, texture)     # frames for widgets.animation
forming(model, coefficients, crop)              # the fit, one group of coefficients at a time
course_map(model, coefficients, crop)           # the report's Figure 1, with notebook numbers
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from ...face.coefficients import FaceCoefficients
from ...face.colour import MONK_TONES
from ...face.lighting import LIGHT_LEVEL, ambient_lighting, shade
from ...face.morphable_model import MorphableModel
from ...fitting.fit import FitResult
from ...photos.crop import Crop, crop_to_photo
from ...photos.detection import Detection
from ...photos.reading import Photo
from ...pictures import faces
from ...pictures.faces import (
    DETECTED,
    FITTED,
    Picture,
    enlarged,
    paint_texture,
    show_face,
    turned,
)
from ...pictures.sheets import gallery
from ...rendering.atlas import Texture
from ...rendering.synthesis import Face, synthesise
from ..drawing.panels import tone_distances
from ..drawing.style import BLUE, INK, bare, charts, curves, dots, picture, sized


def turning(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    crop: Crop,
    texture: Texture,
    size: int = 220,
) -> list[Picture]:
    """The photo with the head turning beside it, there and back: frames of an animation."""
    photo = enlarged(crop.image, size)
    views = [
        _close(
            turned(model, coefficients, yaw, 4 * math.cos(math.radians(2.1 * yaw))), texture, size
        )
        for yaw in range(-42, 43, 14)
    ]
    frames = [np.concatenate([photo, view], 1) for view in views]
    middle = len(frames) // 2  # begin where the face looks at you
    return frames[middle:] + frames[-2:0:-1] + frames[:middle]


def _close(face: Face, texture: Texture, size: int) -> Picture:
    """The textured face from the chin up to the forehead."""
    whole = paint_texture(face, texture, round(1.33 * size))
    foot, left = round(1.28 * size), round(0.165 * size)
    return whole[foot - size : foot, left : left + size]


def along(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    texture: Texture,
    dials: Sequence[str],
    path: Float[torch.Tensor, "frame dial"],
    size: int = 148,
) -> list[Picture]:
    """The face at each setting of a path. dials: "yaw" in degrees, then names of actions."""
    frames = []
    for yaw, *weights in path.tolist():
        actions = dict(zip(dials[1:], weights, strict=True))
        changed = replace(coefficients, expression=model.expression_from_controls(actions, True))
        frames.append(_close(turned(model, changed, yaw), texture, size))
    return frames


def path_figure(
    dials: Sequence[str],
    keys: Float[torch.Tensor, "key dial"],
    path: Float[torch.Tensor, "frame dial"],
) -> Figure:
    """Each dial over one round: the settings as dots, a path through them, and straight lines."""
    title = "One round of the dials: from setting to setting, and back to the first"
    figure, axes = charts(10.0, 3.4, 2, title=title, width_ratios=(1, 1.25))
    corners = torch.cat([keys, keys[:1]])
    times = torch.arange(len(path) + 1) * len(keys) / len(path)
    rounded = torch.cat([path, path[:1]])
    for dial, name in enumerate(dials):
        axis, colour = axes[min(dial, 1)], f"C{dial}"
        axis.plot(corners[:, dial], color=colour, lw=1, alpha=0.35)
        axis.plot(times, rounded[:, dial], color=colour, lw=2, label=name)
        axis.plot(corners[:, dial], "o", color=colour, ms=5)
    axes[0].set(ylabel="yaw, degrees", xlabel="time, in settings")
    axes[1].set(ylabel="action: 0 at rest, 1 full", xlabel="time, in settings", ylim=(None, 1.35))
    axes[1].legend(fontsize=8, ncols=2, loc="upper right")
    return figure


def relit(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    yaw: float,
    pitch: float,
    look: str,
    lamp: float,
    size: int = 380,
) -> Picture:
    """The fitted head, turned; quick enough for sliders.

    look: "unlit", "shape", "photo light" (as found in the photo) or "lamp" (white, from `lamp`
    degrees to the viewer's right).
    """
    face = turned(model, coefficients, yaw, pitch)
    if look == "lamp":
        lighting = ambient_lighting(1, 0.45).to(coefficients.lighting)
        lighting[:, 1] += 0.25
        lighting[:, 2] += 0.95 * math.cos(math.radians(lamp))
        lighting[:, 3] += 0.95 * math.sin(math.radians(lamp))
        face.colours = shade(face.albedo, face.normals, lighting)
    return show_face(face, look if look in ("unlit", "shape") else "lit", size)


def marked(crop: Crop, mask: torch.Tensor) -> Picture:
    """The crop, paled outside the mask."""
    return enlarged(crop.image * mask + (0.35 * crop.image + 0.65) * (1 - mask), 300)


def photo_figure(photo: Photo, found: Detection, crop: Crop) -> Figure:
    """The photo with box, landmarks and the cut; and the crop."""
    title = "Find the face, mark 68 points, cut a square around them"
    figure, (left, right) = charts(8.8, 4.7, 2, title=title, fontsize=13)
    left.imshow(photo.pixels)
    x0, y0, x1, y1 = found.box
    left.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="#ffd400", lw=1.6))
    side = crop.image.shape[-1]
    corners = side * torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]).double()
    left.plot(*crop_to_photo(corners, crop.matrix).T, color="white", lw=1.6)
    left.scatter(*found.landmarks.T, s=3, color=DETECTED, linewidths=0)
    left.set_title("the photo: box (yellow), cut (white)", fontsize=11)
    left.axis("off")
    words = f"the crop, {side} x {side}: all that is used"
    picture(right, enlarged(crop.image, 448), words, 11)
    dots(right, crop.landmarks[0], DETECTED, 14)
    return figure


@torch.no_grad()
def forming(model: MorphableModel, coefficients: FaceCoefficients, crop: Crop) -> Figure:
    """The face on the photo, as each group of coefficients is added; and the photo."""
    current = model.neutral()
    current.lighting = ambient_lighting(1, LIGHT_LEVEL).to(coefficients.lighting)
    pictures = {}
    for name, groups in {
        "the mean face": (),
        "+ pose": ("rotation", "translation", "scale"),
        "+ identity": ("identity",),
        "+ expression": ("expression",),
        "+ albedo": ("albedo",),
        "+ light": ("lighting",),
    }.items():
        current = replace(current, **{g: getattr(coefficients, g) for g in groups})
        pictures[name] = faces.on_photo(crop.image, synthesise(model, current), 360)
    pictures["the same, without the photo"] = show_face(synthesise(model, current), "lit", 360)
    pictures["the photo"] = enlarged(crop.image, 360)
    title = "The face forms: every group of numbers adds what the others cannot say"
    return gallery([*pictures.values()], [*pictures], title=title, columns=4, size=2.5)


@torch.no_grad()
def dials(model: MorphableModel, coefficients: FaceCoefficients) -> Figure:
    """One number of each group turned from left to right, all others left as fitted."""
    jaw = model.expression_from_controls({"jawOpen": 1.0}, True)[0]
    mode = "jawOpen" if "jawOpen" in model.controls else "mode 1"
    rows = (  # name, values, unit, what changes, by how much at 1
        ("identity\nmode 1", (-3, -1.5, 0, 1.5, 3), " sd", "identity", 0, 1.0),
        (f"expression\n{mode}", (-0.2, 0, 0.15, 0.3, 0.45), "", "expression", slice(None), jaw),
        ("albedo\nmode 1", (-1.5, -1, -0.5, 0, 0.5), " sd", "albedo", 0, 1.0),
        ("light\nleft to right", (-0.8, -0.4, 0, 0.4, 0.8), "", "lighting", 3, 1.0),
        ("pose\nyaw", (-60, -30, 0, 30, 60), "°", None, None, None),
    )
    title = "What each group of numbers does: one dial per row"
    figure, axes = charts(8.0, 8.4, 5, len(rows), title, 14)
    for line, (name, values, unit, group, index, step) in zip(axes, rows, strict=True):
        for axis, value in zip(line, values, strict=True):
            changed = coefficients.clone()
            if group:
                getattr(changed, group)[:, index] += value * step
            face = turned(model, changed, 0.0 if group else value)
            axis.imshow(show_face(face, "lit", 160))
            unchanged = "as fitted" if group else "frontal"
            axis.set_title(f"{value:+g}{unit}" if value else unchanged, fontsize=9)
            bare(axis)
        line[0].set_ylabel(name, fontsize=11, fontweight="bold")
    return figure


@torch.no_grad()
def verdict_figure(crop: Crop, face: Face, fitted: FitResult) -> Figure:
    """How the loss fell, and where the rendering still differs from the photo."""
    title = "How good is it? The loss falls; what stays is hair, teeth and fine detail"
    figure, axes = charts(12.4, 4.2, 3, 1, title, 14, width_ratios=[1.35, 1, 1.15])
    names, _, losses = zip(*fitted.history, strict=True)
    settings = dict(xlabel="step of gradient descent", ylabel="weighted loss of the stage")
    curves(axes[0], {"": losses}, width=1.8, **settings)
    for stage in dict.fromkeys(names):
        start = names.index(stage)
        axes[0].axvline(start, color="0.8", lw=1, zorder=0)
        axes[0].annotate(f" {stage}", (start, max(losses)), color="0.35", va="top")
    picture(axes[1], enlarged(crop.image, 384), "68 landmarks, found and fitted", 11)
    dots(axes[1], crop.landmarks[0], DETECTED, 12, label="detected")
    dots(axes[1], face.landmarks("2d")[0], FITTED, 12, label="fitted")
    axes[1].legend(loc="lower left", fontsize=8)
    image, mask = face.render()
    difference = (image.clamp(0, 1) - crop.image).abs().mean(1)[0]
    difference = difference.masked_fill(mask[0, 0] < 0.5, torch.nan)
    words = "difference of the colours, 0 to 1"
    drawn = picture(axes[2], difference, words, 11, **sized(0.4))
    figure.colorbar(drawn, ax=axes[2], shrink=0.85)
    return figure


@torch.no_grad()
def two_stories(model: MorphableModel, coefficients: FaceCoefficients, factor: float) -> Figure:
    """The same picture from two skins and two lights."""
    face = synthesise(model, coefficients)
    lit, unlit = {}, {}
    for name, k in (("story A", 1.0), ("story B", factor)):
        colours = shade(face.albedo * k, face.normals, coefficients.lighting / k)
        lit[f"{name}: lit"] = faces.paint(face, colours, 360)
        unlit[f"{name}: its skin, unlit"] = faces.paint(face, face.albedo * k, 360)
    images = lit | unlit
    title = "One picture, two stories: lighter skin in weaker light, darker skin in stronger light"
    return gallery([*images.values()], [*images], title=title, size=2.9)


@torch.no_grad()
def around(model: MorphableModel, coefficients: FaceCoefficients) -> Figure:
    """The reconstruction from where the camera has not been."""
    views = {"from the front": (0, 0), "from the side": (88, 0), "from above": (0, 55)}
    views["from behind"] = (180, 0)
    pictures = [show_face(turned(model, coefficients, *v), "studio", 340) for v in views.values()]
    title = "Walk around it: a mask, not a head; and its far sides are guesses"
    return gallery(pictures, list(views), title=title, size=2.9)


@torch.no_grad()
def population(model: MorphableModel) -> Figure:
    """Random faces of the model, one for each Monk tone, from light to dark."""
    generator = torch.Generator().manual_seed(3)
    identity, _, _ = model.random(len(MONK_TONES), generator, 0.9)
    pictures = []
    for i, nearest in enumerate(tone_distances(model).argmin(0)):
        albedo = model.albedo_samples[nearest][None]
        c = replace(model.neutral(), identity=identity[i : i + 1], albedo=albedo)
        pictures.append(relit(model, c, 18, 0, "lamp", -35, 250))
    names = [f"Monk tone {i + 1}" for i in range(len(pictures))]
    title = "Random faces of the model, one for each tone of the Monk scale"
    return gallery(pictures, names, title=title, columns=5, size=2.2)


BASE, AUGMENTED, LINE = BLUE, "#c25a00", "0.45"
# left, foot, width, height, words, their size, number of the notebook
BASE_BOXES = (
    (3.25, 7.0, 2.0, 1.15, "fitting:\ngradient descent", 10.5, "05"),
    (3.25, 5.2, 2.0, 1.15, "encoder:\nResNet-50", 10.5, "06"),
    (10.8, 6.0, 1.75, 1.2, "differentiable\nrenderer", 10.5, "04"),
    (13.1, 8.05, 3.1, 0.75, "losses: pixels, landmarks,\nwho it is. Eq. 4 to 7", 9, "05"),
)
UNET = "double-head U-Net\nphoto and rendering in,\ntwo maps out"
SAMPLED = "sampled at every\nvertex: albedo and\nshape move"
AUGMENTED_BOXES = (
    (0.7, 1.15, 2.9, 1.5, UNET, 10.5, "07"),
    (4.4, 2.15, 2.9, 0.85, "texture offset map\n3 x 224 x 224", 9.5, ""),
    (4.4, 0.8, 2.9, 0.85, "displacement map\n3 x 224 x 224", 9.5, ""),
    (8.05, 1.3, 2.5, 1.2, SAMPLED, 9.5, ""),
    (11.25, 1.3, 2.2, 1.2, "regularisation\nEq. 8 to 12", 10.5, "08"),
    (14.1, 1.3, 2.1, 1.2, "base beside\naugmented:\nwho gains?", 9.5, "09"),
)
ROWS = (7.85, 6.85, 5.85, 4.85)  # the middles of the four groups of coefficients
FLOWS = (  # colour, and the corners of an arrow; the gradients' are of a curve
    (LINE, (2.6, 6.65), (3.2, 6.65)),
    *((LINE, (5.27, 7.57), (5.55, 7.57), (5.55, y), (5.92, y)) for y in ROWS),
    (LINE, (5.27, 5.77), (5.55, 5.77), (5.55, 4.85), (5.92, 4.85)),
    *((LINE, (10.15, y), (10.72, 6.6)) for y in ROWS),
    (LINE, (12.6, 6.6), (13.05, 6.6)),
    (LINE, (14.15, 7.75), (14.15, 8.0)),
    (BASE, (13.05, 8.6), (8.68, 9.46), (4.4, 8.25)),
    (AUGMENTED, (1.5, 5.15), (1.5, 2.75)),
    (AUGMENTED, (14.15, 5.2), (14.15, 4.2), (2.6, 4.2), (2.6, 2.75)),
    (AUGMENTED, (3.65, 2.3), (4.35, 2.55)),
    (AUGMENTED, (3.65, 1.5), (4.35, 1.25)),
    (AUGMENTED, (7.35, 2.55), (8.0, 2.1)),
    (AUGMENTED, (7.35, 1.25), (8.0, 1.7)),
    (AUGMENTED, (10.6, 1.9), (11.2, 1.9)),
    (AUGMENTED, (13.5, 1.9), (14.05, 1.9)),
)


@torch.no_grad()
def course_map(model: MorphableModel, coefficients: FaceCoefficients, crop: Crop) -> Figure:
    """The pipeline as in the report's Figure 1, with the notebook that builds each part."""
    figure = Figure((13.4, 8.0), layout="none", facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 16.75), ylim=(0, 10), autoscale_on=False)
    axis.axis("off")
    title = "The course on one page: a number for each notebook"
    figure.text(0.5, 0.965, title, ha="center", fontsize=15)
    sizes = coefficients.sizes
    _band(axis, 4.15, 5.05, f"base branch: a face in {sizes.vector} numbers", BASE, 4.68)
    _band(axis, 0.25, 3.45, "augmented branch: what those numbers cannot say", AUGMENTED, 0.22)
    for boxes, colour in ((BASE_BOXES, BASE), (AUGMENTED_BOXES, AUGMENTED)):
        for box in boxes:
            _box(axis, *box, colour)
    for colour, *corners in FLOWS:
        codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3] if colour == BASE else None
        style = dict(arrowstyle="-|>", mutation_scale=15, lw=1.8, color=colour, zorder=1)
        axis.add_patch(FancyArrowPatch(path=Path(corners, codes), **style))
    axis.text(8.9, 8.68, "gradients", color=BASE, fontsize=10, ha="center", style="italic")
    frontal = turned(model, coefficients, 0)
    mean, side = turned(model, model.neutral(), 0), turned(model, coefficients, 38, 6)
    identity = f"identity {sizes.identity}, expression {sizes.expression}"
    groups = (
        (identity, "Eq. 1", "01", show_face(mean, "shape", 200)),
        (f"albedo {sizes.albedo}", "Eq. 2", "01", show_face(frontal, "unlit", 200)),
        ("pose 7: turn, place, scale", "camera", "02", show_face(side, "shape", 200)),
        ("light 27: 9 per colour", "Eq. 3", "03", show_face(frontal, "lit", 200)),
    )
    for y, (words, equation, number, image) in zip(ROWS, groups, strict=True):
        _box(axis, 5.95, y - 0.36, 3.15, 0.72, f"{words}\n{equation}", 9, number, BASE)
        _thumb(axis, image, 9.2, y - 0.45, 0.9)
    _thumb(axis, enlarged(crop.image, 256), 0.45, 5.6, 2.1, "photo: crop, landmarks")
    _badge(axis, 0.45, 7.7, "10", BASE)
    rendering = show_face(synthesise(model, coefficients), "lit", 256)
    _thumb(axis, rendering, 13.1, 5.6, 2.1, "the rendering")
    return figure


def _box(axis: Axes, x, y, width, height, text: str, size: float, number: str, colour) -> None:
    style = dict(boxstyle="round,pad=0.02,rounding_size=0.12", fc="white", ec=colour, lw=1.8)
    axis.add_patch(FancyBboxPatch((x, y), width, height, **style, zorder=2))
    style = dict(ha="center", va="center", fontsize=size, color=INK, linespacing=1.35)
    axis.text(x + width / 2, y + height / 2, text, **style, zorder=3)
    if number:
        _badge(axis, x, y + height, number, colour)


def _badge(axis: Axes, x, y, number: str, colour: str) -> None:
    axis.add_patch(Circle((x, y), 0.24, fc=colour, ec="white", lw=1.5, zorder=6))
    style = dict(color="white", ha="center", va="center", fontsize=10, fontweight="bold")
    axis.text(x, y - 0.01, number, **style, zorder=7)


def _thumb(axis: Axes, image: Picture, x, y, side, caption: str = "") -> None:
    axis.imshow(image, extent=(x, x + side, y, y + side), zorder=3)
    axis.add_patch(Rectangle((x, y), side, side, fill=False, ec="0.75", lw=1.4, zorder=4))
    axis.text(x + side / 2, y - 0.1, caption, ha="center", va="top", fontsize=9.5, color=INK)


def _band(axis: Axes, y, height, text: str, colour: str, text_up: float) -> None:
    """A tinted band of the map, its name `text_up` above its foot."""
    style = dict(boxstyle="round,pad=0.0,rounding_size=0.2", fc=colour, ec="none", alpha=0.06)
    axis.add_patch(FancyBboxPatch((0.2, y + 0.1), 16.3, height - 0.05, **style, zorder=0))
    style = dict(color=colour, ha="left", va="bottom", fontsize=10.5, fontweight="bold")
    axis.text(0.4, y + text_up, text, **style)
