"""Figures of notebook 00: the pipeline at a glance, from the photo to the turning head.

turning(model, coefficients, crop)              # frames for widgets.animation
forming(model, coefficients, crop)              # the fit, one group of coefficients at a time
course_map(model, coefficients, crop)           # the report's Figure 1, with notebook numbers
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from ..coefficients import FaceCoefficients
from ..detection import Crop, Detection, Photo, crop_to_photo
from ..evaluation import MONK_TONES, srgb_to_lab
from ..fitting import FitResult
from ..lighting import ambient_lighting, shade
from ..losses import LIGHT_LEVEL
from ..morphable_model import MorphableModel
from ..plotting import DETECTED, FITTED, on_photo, show_face, to_uint8, turned
from ..sheets import gallery
from ..synthesis import Face, synthesise

Picture = UInt8[np.ndarray, "height width 3"]
BLUE, ORANGE, INK = "#1f5fa8", "#c25a00", "#2b2f36"


# The head in motion ---------------------------------------------------------------------------


def crop_picture(crop: Crop, size: int = 448) -> Picture:
    """The crop, enlarged smoothly."""
    return to_uint8(F.interpolate(crop.image, (size, size), mode="bicubic")[0])


def turning(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    crop: Crop,
    size: int = 300,
    yaws: Sequence[float] = tuple(range(-56, 57, 14)),
) -> list[Picture]:
    """The photo with the head turning beside it, there and back: frames of an animation."""
    photo = crop_picture(crop, size)
    there = []
    for yaw in yaws:
        face = turned(model, coefficients, yaw, 4.0 * math.cos(math.radians(yaw * 1.6)))
        there.append(np.concatenate([photo, show_face(face, "studio", size)], 1))
    middle = len(there) // 2  # begin where the face looks at you
    return there[middle:] + there[-2:0:-1] + there[:middle]


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
    if look in ("unlit", "shape"):
        return show_face(face, look, size)
    lighting = coefficients.lighting
    if look == "lamp":
        lighting = ambient_lighting(1, 0.45).to(lighting)
        lighting[:, 1] += 0.25
        lighting[:, 2] += 0.95 * math.cos(math.radians(lamp))
        lighting[:, 3] += 0.95 * math.sin(math.radians(lamp))
    face.colours = shade(face.albedo, face.normals, lighting)
    return show_face(face, "lit", size)


def marked(crop: Crop, mask: torch.Tensor, size: int = 300) -> Picture:
    """The crop, paled outside the mask."""
    paled = crop.image * mask + (0.35 * crop.image + 0.65) * (1 - mask)
    return to_uint8(F.interpolate(paled, (size, size), mode="bilinear")[0])


# The tour -------------------------------------------------------------------------------------


def photo_figure(photo: Photo, found: Detection, crop: Crop) -> Figure:
    """The photo with box, landmarks and the cut; and the crop."""
    figure = Figure(figsize=(10.2, 5.4), layout="constrained", facecolor="white")
    figure.suptitle("Find the face, mark 68 points, cut a square around them", fontsize=14)
    left, right = figure.subplots(1, 2)
    left.imshow(photo.pixels)
    x0, y0, x1, y1 = found.box
    box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="#ffd400", lw=1.6)
    left.add_patch(box)
    side = crop.image.shape[-1]
    corners = torch.tensor([[0, 0], [side, 0], [side, side], [0, side], [0, 0]]).double()
    left.plot(*crop_to_photo(corners, crop.matrix).T.numpy(), color="white", lw=1.6)
    left.scatter(*found.landmarks.T, s=3, color=DETECTED, linewidths=0)
    left.set_title(f"the photo, {photo.width} x {photo.height}: box (yellow), cut (white)")
    right.imshow(crop_picture(crop, 448), extent=(0, side, side, 0))
    right.scatter(*crop.landmarks[0].T.numpy(), s=14, color=DETECTED, linewidths=0)
    right.set_title(f"the crop, {side} x {side}: what the rest of the course works on")
    for axis in (left, right):
        axis.axis("off")
    return figure


def stages(model: MorphableModel, coefficients: FaceCoefficients) -> dict[str, FaceCoefficients]:
    """The mean face, then the same with one more group of the fitted coefficients each time."""
    plain = ambient_lighting(1, LIGHT_LEVEL).to(coefficients.lighting)
    current = model.neutral()
    current.lighting = plain
    made = {"the mean face": current}
    for name, groups in (
        ("+ pose", ("rotation", "translation", "scale")),
        ("+ identity", ("identity",)),
        ("+ expression", ("expression",)),
        ("+ albedo", ("albedo",)),
        ("+ light", ("lighting",)),
    ):
        current = current.clone()
        for group in groups:
            setattr(current, group, getattr(coefficients, group).clone())
        made[name] = current
    return made


@torch.no_grad()
def forming(model: MorphableModel, coefficients: FaceCoefficients, crop: Crop) -> Figure:
    """The face on the photo, as each group of coefficients is added; and the photo."""
    made = stages(model, coefficients)
    pictures = [on_photo(crop.image, synthesise(model, c), 360) for c in made.values()]
    bare = synthesise(model, coefficients)
    pictures += [show_face(bare, "lit", 360), crop_picture(crop, 360)]
    names = [*made, "the same, without the photo", "the photo"]
    title = "The face forms: every group of numbers adds what the others cannot say"
    return gallery(pictures, names, title=title, columns=4, size=2.9)


@torch.no_grad()
def dials(model: MorphableModel, coefficients: FaceCoefficients, size: int = 160) -> Figure:
    """One number of each group turned from left to right, all others left as fitted."""
    rows: dict[str, list[tuple[str, Picture]]] = {}

    def picture(c: FaceCoefficients, yaw: float = 0.0) -> Picture:
        face = turned(model, c, yaw)
        face.colours = shade(face.albedo, face.normals, c.lighting)
        return show_face(face, "lit", size)

    def row(title: str, values: Sequence[float], unit: str, change) -> None:
        shown = []
        for value in values:
            c = coefficients.clone()
            change(c, value)
            shown.append((f"{value:+g}{unit}" if value else "as fitted", picture(c)))
        rows[title] = shown

    def add(group: str, index: int):
        def change(c: FaceCoefficients, value: float) -> None:
            getattr(c, group)[:, index] += value

        return change

    def open_jaw(c: FaceCoefficients, value: float) -> None:
        c.expression = c.expression + model.expression_from_controls({"jawOpen": value}, True)

    def light_from(c: FaceCoefficients, value: float) -> None:
        c.lighting[:, 3] += value

    steps = (-3, -1.5, 0, 1.5, 3)
    row("identity\nmode 1", steps, " sd", add("identity", 0))
    opened = "jawOpen" if "jawOpen" in model.controls else "mode 1"
    row(f"expression\n{opened}", (-0.2, 0, 0.15, 0.3, 0.45), "", open_jaw)
    row("albedo\nmode 1", (-1.5, -1, -0.5, 0, 0.5), " sd", add("albedo", 0))
    row("light\nleft to right", (-0.8, -0.4, 0, 0.4, 0.8), "", light_from)
    rows["pose\nyaw"] = [
        (f"{yaw:+d}°" if yaw else "frontal", picture(coefficients, yaw))
        for yaw in (-60, -30, 0, 30, 60)
    ]
    figure = Figure(figsize=(9.2, 9.6), layout="constrained", facecolor="white")
    figure.suptitle("What each group of numbers does: one dial a row", fontsize=14)
    axes = figure.subplots(len(rows), 5)
    for line, (title, shown) in zip(axes, rows.items(), strict=True):
        for axis, (name, image) in zip(line, shown, strict=True):
            axis.imshow(image)
            axis.set_title(name, fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(title, fontsize=11, fontweight="bold")
    return figure


@torch.no_grad()
def verdict_figure(crop: Crop, face: Face, fitted: FitResult) -> Figure:
    """How the loss fell, and where the rendering still differs from the photo."""
    figure = Figure(figsize=(12.4, 4.2), layout="constrained", facecolor="white")
    figure.suptitle(
        "How good is it? The loss falls; what stays is hair, teeth and fine detail", fontsize=14
    )
    curve, points, error = figure.subplots(1, 3, width_ratios=[1.35, 1, 1.15])
    losses = [loss for _, _, loss in fitted.history]
    curve.plot(losses, color=BLUE, lw=1.8)
    names = [stage for stage, _, _ in fitted.history]
    for stage in dict.fromkeys(names):
        start = names.index(stage)
        curve.axvline(start, color="0.8", lw=1, zorder=0)
        curve.annotate(f" {stage}", (start, max(losses)), color="0.35", va="top")
    curve.set(xlabel="step of gradient descent", ylabel="weighted loss of the stage")
    side = crop.image.shape[-1]
    points.imshow(crop_picture(crop, 384), extent=(0, side, side, 0))
    points.scatter(
        *crop.landmarks[0].T.numpy(), s=12, color=DETECTED, linewidths=0, label="detected"
    )
    points.scatter(
        *face.landmarks("2d")[0].T.numpy(), s=12, color=FITTED, linewidths=0, label="fitted"
    )
    points.legend(loc="lower left", fontsize=8)
    points.set_title("68 landmarks, found and fitted")
    image, mask = face.render(side)
    difference = ((image.clamp(0, 1) - crop.image).abs().mean(1) * mask[:, 0])[0].numpy()
    difference = np.where(mask[0, 0].numpy() > 0, difference, np.nan)
    drawn = error.imshow(difference, cmap="viridis", vmin=0, vmax=0.4)
    error.set_title("difference of the colours, 0 to 1")
    figure.colorbar(drawn, ax=error, shrink=0.85)
    for axis in (points, error):
        axis.axis("off")
    return figure


# Limits ---------------------------------------------------------------------------------------


@torch.no_grad()
def two_stories(model: MorphableModel, coefficients: FaceCoefficients, factor: float) -> Figure:
    """The same picture from two skins and two lights."""
    pictures, names = [], []
    for name, k in (("story A", 1.0), ("story B", factor)):
        face = synthesise(model, coefficients)
        albedo = face.albedo * k
        colours = shade(albedo, face.normals, coefficients.lighting / k)
        for words, shown in (("lit", colours), ("its skin, unlit", albedo)):
            image, mask = face.render(720, attributes=shown.clamp(0, 1))
            image = F.avg_pool2d(image + (1 - mask) * 0.96, 2)
            pictures.append(to_uint8(image[0]))
            names.append(f"{name}: {words}")
    pictures, names = ([x[i] for i in (0, 2, 1, 3)] for x in (pictures, names))
    title = "One picture, two stories: lighter skin in weaker light, darker skin in stronger light"
    return gallery(pictures, names, title=title, size=2.9)


@torch.no_grad()
def around(model: MorphableModel, coefficients: FaceCoefficients) -> Figure:
    """The reconstruction from where the camera has not been."""
    views = {
        "from the front": (0, 0),
        "from the side": (88, 0),
        "from above": (0, 55),
        "from behind": (180, 0),
    }
    pictures = [
        show_face(turned(model, coefficients, yaw, pitch), "studio", 340)
        for yaw, pitch in views.values()
    ]
    title = "Walk around it: a mask, not a head; and its far sides are guesses"
    return gallery(pictures, list(views), title=title, size=2.9)


@torch.no_grad()
def population(model: MorphableModel, seed: int = 3) -> Figure:
    """Random faces of the model, one for each Monk tone, from light to dark."""
    generator = torch.Generator().manual_seed(seed)
    identity, _, _ = model.random(len(MONK_TONES), generator, 0.9)
    skin = model.regions["skin"] / model.regions["skin"].sum()
    mean = (skin[:, None] * model.albedo_mean).sum(0)
    colours = mean + model.albedo_samples @ torch.einsum("v,kvc->kc", skin, model.albedo_basis)
    tones = [[int(tone[i : i + 2], 16) / 255 for i in (0, 2, 4)] for tone in MONK_TONES]
    wanted, there = srgb_to_lab(mean.new_tensor(tones)), srgb_to_lab(colours.clamp(0, 1))
    pictures, names = [], []
    for i, nearest in enumerate((wanted[:, None] - there).norm(dim=-1).argmin(1)):
        c = model.neutral()
        c.identity = identity[i : i + 1]
        c.albedo = model.albedo_samples[nearest][None]
        pictures.append(relit(model, c, 18, 0, "lamp", -35, 250))
        names.append(f"Monk tone {i + 1}")
    title = "Nobody: random faces of the model, one for each tone of the Monk scale"
    return gallery(pictures, names, title=title, columns=5, size=2.2)


# The map of the course ------------------------------------------------------------------------


def _box(axis: Axes, x, y, width, height, text: str, colour: str, size: float = 10.5) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            fc="white",
            ec=colour,
            lw=1.8,
            zorder=2,
        )
    )
    axis.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=INK,
        zorder=3,
        linespacing=1.35,
    )


def _flow(axis: Axes, start, end, colour: str = "0.45", bend: float = 0.0) -> None:
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=15,
            lw=1.8,
            color=colour,
            connectionstyle=f"arc3,rad={bend}",
            zorder=1,
            shrinkA=2,
            shrinkB=2,
        )
    )


def _badge(axis: Axes, x, y, number: str, colour: str = BLUE) -> None:
    axis.add_patch(Circle((x, y), 0.24, fc=colour, ec="white", lw=1.5, zorder=6))
    axis.text(
        x,
        y - 0.01,
        number,
        color="white",
        ha="center",
        va="center",
        fontsize=10,
        fontweight="bold",
        zorder=7,
    )


def _thumb(axis: Axes, image: np.ndarray, x, y, side, caption: str = "", colour="0.75") -> None:
    small = np.asarray(Image.fromarray(image).resize((200, 200), Image.Resampling.LANCZOS))
    axis.imshow(small, extent=(x, x + side, y, y + side), zorder=3)
    axis.add_patch(Rectangle((x, y), side, side, fill=False, ec=colour, lw=1.4, zorder=4))
    if caption:
        axis.text(x + side / 2, y - 0.1, caption, ha="center", va="top", fontsize=9.5, color=INK)


@torch.no_grad()
def course_map(model: MorphableModel, coefficients: FaceCoefficients, crop: Crop) -> Figure:
    """The pipeline as in the report's Figure 1, with the notebook that builds each part."""
    sizes = coefficients.sizes
    face = synthesise(model, coefficients)
    figure = Figure(figsize=(13.4, 8.0), layout="none", facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 16.75), ylim=(0, 10))
    axis.axis("off")
    axis.set_autoscale_on(False)
    figure.text(
        0.5, 0.965, "The course on one page: a number for each notebook", ha="center", fontsize=15
    )
    _branch(axis, 4.15, 5.05, f"base branch: a face in {sizes.vector} numbers", BLUE, 4.68)
    _branch(axis, 0.25, 3.45, "augmented branch: what those numbers cannot say", ORANGE, 0.22)
    # base branch
    _thumb(axis, crop_picture(crop, 256), 0.45, 5.6, 2.1, "photo: crop, landmarks")
    _badge(axis, 0.45, 7.7, "10")
    _flow(axis, (2.6, 6.65), (3.2, 6.65))
    _box(axis, 3.25, 7.0, 2.0, 1.15, "fitting:\ngradient descent", BLUE)
    _badge(axis, 3.25, 8.15, "05")
    _box(axis, 3.25, 5.2, 2.0, 1.15, "encoder:\nResNet-50", BLUE)
    _badge(axis, 3.25, 6.35, "06")
    groups = (
        (f"identity {sizes.identity}, expression {sizes.expression}", "Eq. 1", "01"),
        (f"albedo {sizes.albedo}", "Eq. 2", "01"),
        ("pose 7: turn, place, scale", "camera", "02"),
        ("light 27: 9 a colour", "Eq. 3", "03"),
    )
    looks = ["shape", "unlit", None, "lit"]
    # either of the two finds all four groups
    axis.plot([5.55, 5.55], [4.85, 7.85], color="0.45", lw=1.8, zorder=1)
    for y in (5.77, 7.57):
        axis.plot([5.27, 5.55], [y, y], color="0.45", lw=1.8, zorder=1)
    for i, ((words, equation, number), look) in enumerate(zip(groups, looks, strict=True)):
        y = 7.85 - 1.0 * i
        _box(axis, 5.95, y - 0.36, 3.15, 0.72, f"{words}\n{equation}", BLUE, 9)
        _flow(axis, (5.5, y), (5.97, y))
        _badge(axis, 5.95, y + 0.36, number)
        image = show_face(turned(model, model.neutral(), 0), "shape", 200)
        if look is not None:
            pose_free = turned(model, coefficients, 0)
            pose_free.colours = shade(pose_free.albedo, pose_free.normals, coefficients.lighting)
            image = show_face(pose_free, look, 200)
        else:
            image = show_face(turned(model, coefficients, 38, 6), "shape", 200)
        _thumb(axis, image, 9.2, y - 0.45, 0.9)
        _flow(axis, (10.15, y), (10.75, 6.6))
    _box(axis, 10.8, 6.0, 1.75, 1.2, "differentiable\nrenderer", BLUE)
    _badge(axis, 10.8, 7.2, "04")
    _flow(axis, (12.6, 6.6), (13.05, 6.6))
    _thumb(axis, show_face(face, "lit", 256), 13.1, 5.6, 2.1, "the rendering")
    _box(axis, 13.1, 8.05, 3.1, 0.75, "losses: pixels, landmarks,\nwho it is. Eq. 4 to 7", BLUE, 9)
    _badge(axis, 13.1, 8.8, "05")
    _flow(axis, (14.15, 7.75), (14.15, 8.0))
    _flow(axis, (13.05, 8.6), (4.4, 8.25), BLUE, 0.12)
    axis.text(8.9, 8.68, "gradients", color=BLUE, fontsize=10, ha="center", style="italic")
    # augmented branch
    _flow(axis, (1.5, 5.15), (1.5, 2.75), ORANGE)
    _flow(axis, (14.15, 5.2), (14.15, 4.25), ORANGE)
    axis.plot([14.15, 2.6], [4.2, 4.2], color=ORANGE, lw=1.8, zorder=1)
    _flow(axis, (2.6, 4.2), (2.6, 2.75), ORANGE)
    _box(
        axis,
        0.7,
        1.15,
        2.9,
        1.5,
        "double-head U-Net\nphoto and rendering in,\ntwo maps out",
        ORANGE,
    )
    _badge(axis, 0.7, 2.65, "07", ORANGE)
    _flow(axis, (3.65, 2.3), (4.35, 2.55), ORANGE)
    _flow(axis, (3.65, 1.5), (4.35, 1.25), ORANGE)
    _box(axis, 4.4, 2.15, 2.9, 0.85, "texture offset map\n3 x 224 x 224", ORANGE, 9.5)
    _box(axis, 4.4, 0.8, 2.9, 0.85, "displacement map\n3 x 224 x 224", ORANGE, 9.5)
    _flow(axis, (7.35, 2.55), (8.0, 2.1), ORANGE)
    _flow(axis, (7.35, 1.25), (8.0, 1.7), ORANGE)
    _box(axis, 8.05, 1.3, 2.5, 1.2, "sampled at every\nvertex: albedo and\nshape move", ORANGE, 9.5)
    _flow(axis, (10.6, 1.9), (11.2, 1.9), ORANGE)
    _box(axis, 11.25, 1.3, 2.2, 1.2, "regularisation\nEq. 8 to 12", ORANGE)
    _badge(axis, 11.25, 2.5, "08", ORANGE)
    _flow(axis, (13.5, 1.9), (14.05, 1.9), ORANGE)
    _box(axis, 14.1, 1.3, 2.1, 1.2, "base beside\naugmented:\nwho gains?", ORANGE, 9.5)
    _badge(axis, 14.1, 2.5, "09", ORANGE)
    return figure


def _branch(axis: Axes, y, height, text: str, colour: str, text_up: float) -> None:
    """A tinted band of the map, its name `text_up` above its foot."""
    axis.add_patch(
        FancyBboxPatch(
            (0.2, y + 0.1),
            16.3,
            height - 0.05,
            fc=colour,
            ec="none",
            alpha=0.06,
            boxstyle="round,pad=0.0,rounding_size=0.2",
            zorder=0,
        )
    )
    axis.text(
        0.4,
        y + text_up,
        text,
        color=colour,
        ha="left",
        va="bottom",
        fontsize=10.5,
        fontweight="bold",
    )
