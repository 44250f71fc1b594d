"""Figures: one photo through every stage, and what can be done with the face.

Notebook 10, sections 2.1 and 2.2.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ...augmented.branch import AugmentedFaces, BaseFaces
from ...face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ...face.coefficients import FaceCoefficients
from ...face.landmarks68 import EYES, LEFT_EYE, RIGHT_EYE
from ...face.lighting import ambient_lighting, light_level
from ...face.measures import landmark_error, photometric_error, vertex_error_mm
from ...face.morphable_model import MorphableModel
from ...fitting.fit import FitResult, judge
from ...pictures.faces import DETECTED, on_photo, show_face, to_uint8, turned_mesh
from ...pictures.offset_maps import shown_maps
from ...pictures.sheets import gallery
from ...reconstruction.reconstruct import FittedPhoto
from ...reconstruction.result_files import result_dict
from ...reconstruction.verdict import gather_evidence
from ...rendering.synthesis import Face, synthesise
from ..drawing.style import SIZE, charts, colour_bar, curves, dots, fill, heat, picture, signed
from .one_person import Photos, spread_mm
from .photo_input import ChosenPhoto

LARGE = 420  # px


def found_figure(mine: ChosenPhoto) -> Figure:
    """The photo with what the detector found, and the crop that all else works on."""
    figure, (left, right) = charts(7.6, 4.0, 2)
    left.imshow(mine.photo.pixels)
    left.autoscale(False)
    corner, side = _crop_square(mine)
    left.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=DETECTED, linewidth=2))
    dots(left, torch.as_tensor(mine.detection.landmarks), DETECTED, 4)
    left.set_title("one face, 68 landmarks,\nand a square around them", fontsize=11)
    left.axis("off")
    title = "the crop, 224 × 224:\nall that the networks see"
    picture(right, to_uint8(mine.crop.image[0]), title, 11)
    dots(right, mine.crop.landmarks[0], DETECTED, 9)
    return figure


def _crop_square(mine: ChosenPhoto) -> tuple[list[float], float]:
    """Upper left corner and side of the crop, pixels of the photo."""
    scale, corner = float(mine.crop.matrix[0, 0]), mine.crop.matrix[:, 2]
    return (-corner / scale).tolist(), CROP_SIZE / scale


def two_ways_figure(mine: ChosenPhoto, base: BaseFaces, fitted: FitResult) -> Figure:
    """Encoder and fit side by side, with how far either is off."""
    faces = {"encoder": base.face, "fit": synthesise(base.face.model, fitted.coefficients)}
    images, titles = [to_uint8(mine.crop.image[0])], ["the photo"]
    for name, face in faces.items():
        off = float(landmark_error(face.landmarks(mine.detection.kind), mine.crop.landmarks)[0])
        images.append(on_photo(mine.crop.image, face, LARGE))
        titles.append(f"{name}: landmarks {off:.1%} off,\n{_colours_off(mine, face)}")
    images += [show_face(face, "shape", LARGE) for face in faces.values()]
    titles += [f"{name}: its shape" for name in faces]
    return gallery(images, titles, columns=5, size=2.7)


def _colours_off(mine: ChosenPhoto, face: Face) -> str:
    image, mask = face.render(near=None)
    off = photometric_error(image.clamp(0, 1), mine.crop.image, mask * mine.crop.valid)
    return f"colours {float(off[0]):.3f} off"


def warnings_of(mine: ChosenPhoto, coefficients: FaceCoefficients, model: MorphableModel) -> str:
    """Why the result is not to be relied on, in a line; or that nothing speaks against it."""
    face = synthesise(model, coefficients)
    evidence = gather_evidence(mine.photo, mine.detection, mine.crop, face)
    reasons = [*judge(model, mine.batch, coefficients).reasons[0], *evidence.reasons()]
    return "; ".join(reasons) or "nothing speaks against it"


def closer_figure(mine: ChosenPhoto, augmented: AugmentedFaces) -> Figure:
    """Photo, base and detailed face, large, and a part of each larger still."""
    base, photo = augmented.base.face, mine.crop.image
    images = {
        "the photo": to_uint8(F.interpolate(photo, (800, 800), mode="bicubic")[0]),
        f"base: {base.model.sizes.vector} numbers": on_photo(photo, base, 800),
        "detailed: two maps more": on_photo(photo, augmented.face, 800),
    }
    eyes = augmented.face.landmarks("3d")[0, EYES] * 800 / CROP_SIZE
    x, y = eyes.mean(0).round().int().tolist()
    reach = int(1.1 * float(eyes[:, 0].max() - eyes[:, 0].min()) / 2) + 20
    part = slice(max(y - reach // 2, 0), y + reach // 2), slice(max(x - reach, 0), x + reach)
    figure, (above, below) = charts(8.4, 4.8, 3, 2, height_ratios=(2, 1.05))
    fill(below, [image[part] for image in images.values()])
    for axis, (name, image) in zip(above, images.items(), strict=True):
        picture(axis, image[::2, ::2], name, 11)
    return figure


def displacement_figure(augmented: AugmentedFaces) -> Figure:
    """How far the displacement map moves the skin, and its three components, mm."""
    maps = shown_maps(augmented)
    moved = np.where(maps.read[..., None], maps.displacement, np.nan)
    most = float(np.nanquantile(np.linalg.norm(moved, axis=-1), 0.995))
    title = "Displacement map, in the photo's crop: how far the skin moves"
    figure, axes = charts(9.6, 3.9, 4, title=title, width_ratios=(1.7, 1, 1, 1))
    length = picture(axes[0], np.linalg.norm(moved, axis=-1), "its length", cmap=SIZE, vmin=0)
    length.set_clim(0, most)
    figure.colorbar(length, ax=axes[0], shrink=0.8, label="mm")
    names = ("x, to the right", "y, up", "z, forwards")
    for axis, name, values in zip(axes[1:], names, np.moveaxis(moved, -1, 0), strict=True):
        part = picture(axis, values, name, **signed(most))
    figure.colorbar(part, ax=axes[1:], shrink=0.55, label="mm, model frame")
    return figure


def result_of(mine: ChosenPhoto, augmented: AugmentedFaces) -> dict:
    """What result.json would hold, through text and back, as another program would read it."""
    fit = judge(augmented.face.model, mine.batch, augmented.base.coefficients)
    parts = mine.photo, mine.detection, mine.crop, fit, augmented.face
    evidence = gather_evidence(*parts[:3], augmented.base.face)
    fitted = FittedPhoto(*parts, evidence, method="encoder", seconds={}, detail=augmented)
    return json.loads(json.dumps(result_dict(fitted)))


def glasses(model: MorphableModel, vertices: Float[Tensor, "1 vertex 3"]) -> list[Tensor]:
    """A pair of glasses for this face: lines in 3D, mm, in the frame of mesh.ply."""
    points = model.landmark_points(vertices)[0]
    eyes = [points[eye].mean(0) for eye in (RIGHT_EYE, LEFT_EYE)]
    apart = (eyes[1] - eyes[0]).norm()
    front = torch.stack([points[27, 2] + 1.0, *(eye[2] + 11.0 for eye in eyes)]).max()
    angle = torch.linspace(0, 2 * math.pi, 60)
    rim = torch.stack([0.38 * apart * angle.cos(), 0.32 * apart * angle.sin(), 0 * angle], -1)
    rims = [rim + torch.stack([eye[0], eye[1] - 0.06 * apart, front]) for eye in eyes]
    along = torch.linspace(0, 1, 12)[:, None]
    bridge = rims[0][0].lerp(rims[1][30], along)
    bridge[:, 1] += 3.0 * torch.sin(math.pi * along[:, 0])
    lines = [*rims, bridge]
    for outer, ear in zip((rims[0][30], rims[1][0]), vertices[0, :, 0].aminmax(), strict=True):
        lines.append(outer.lerp(torch.stack([ear, outer[1] + 4.0, front - 75.0]), along))
    return lines


def glasses_figure(
    mine: ChosenPhoto, augmented: AugmentedFaces, lines: Sequence[Tensor], pixels: Sequence[Tensor]
) -> Figure:
    """The lines on the photo, whole and close, without what the head hides; and on it turned."""
    figure, axes = charts(10.5, 4.1, 3)
    face = augmented.face
    for axis, width in zip(axes[:2], (1.2, 3.0), strict=True):
        axis.imshow(mine.photo.pixels)
        axis.autoscale(False)
        for line, points in zip(lines, pixels, strict=True):
            _draw(axis, points, _projected(line, face)[1], width)
    (x, y), side = _crop_square(mine)
    axes[1].set(xlim=(x, x + side), ylim=(y + side, y))

    turned = turned_mesh(face.model, face.vertices[:1], face.albedo[:1], -38.0)
    picture(axes[2], show_face(turned, "studio", LARGE))
    for line in lines:
        _draw(axes[2], *_projected(line, turned), 3.0)
    titles = ("on the photo", "closer", "the same lines, the head turned")
    for axis, title in zip(axes, titles, strict=True):
        axis.axis("off")
        axis.set_title(title)
    return figure


def _draw(axis: Axes, points: Tensor, hidden: Bool[Tensor, " point"], width: float) -> None:
    seen = points.masked_fill(hidden[:, None], torch.nan)
    axis.plot(*seen.T, color="#101418", lw=width, solid_capstyle="round")


def _projected(
    line: Float[Tensor, "point 3"], face: Face
) -> tuple[Float[Tensor, "point 2"], Bool[Tensor, " point"]]:
    """Where points of the model frame appear in the face's crop, and which of them it hides."""
    # a pose is an affine map: the face's own vertices tell which
    vertices, line = (F.pad(points, (0, 1), value=1.0) for points in (face.vertices[0], line))
    posed = (line @ torch.linalg.lstsq(vertices, face.v_camera[0]).solution)[None]
    points = ndc_to_pixels(project_ndc(posed, face.fov_deg), CROP_SIZE)[0]
    surface, mask = face.render(attributes=face.v_camera[..., 2:], near=None)
    x, y = points.long().clamp(0, CROP_SIZE - 1).T
    hidden = posed[0, :, 2] > torch.where(mask > 0, surface, torch.inf)[0, 0, y, x] + 1.0
    return points, hidden


def normals_of(face: Face, size: int = LARGE) -> tuple[Tensor, Tensor]:
    """(1, 3, size, size) unit normals in viewer axes at the crop's pixels, and the mask."""
    image, mask = face.render(size, attributes=face.normals, near=None)
    return F.normalize(image, dim=1), mask


def lamp(
    like: Float[Tensor, "1 9 3"], side: float, up: float, colour: Sequence[float] = (1.0, 1.0, 1.0)
) -> Float[Tensor, "1 9 3"]:
    """Soft light as bright as `like`; side, up: -1 to 1, from the viewer's right and from above."""
    light = ambient_lighting(1, 0.7)
    light[:, 1:4] = 1.1 * F.normalize(torch.tensor([up, 0.75, side]), dim=0)[:, None]
    return light * (light_level(like) / light_level(light)) * torch.tensor(colour)


def moved(augmented: AugmentedFaces, expression=None, albedo=None, yaw_deg: float = 0.0) -> Face:
    """The detailed face with other coefficients of expression (1, Ke) or albedo (1, Ka) under the
    same two offsets."""
    model, c, offsets = augmented.face.model, augmented.base.coefficients, augmented.offsets
    expression = c.expression if expression is None else expression
    vertices = model.shape(c.identity, expression) + offsets.displacement
    skin = model.albedo(c.albedo if albedo is None else albedo) + offsets.texture
    return turned_mesh(model, vertices, skin, yaw_deg)


def people_figure(augmented: AugmentedFaces) -> Figure:
    """The same offsets on other skins: what belongs to the person, and what to the offset."""
    model, generator = augmented.face.model, torch.Generator().manual_seed(1)
    order = torch.randperm(len(model.albedo_samples), generator=generator)
    skins = model.albedo_samples[order[:64]]
    tone = (skins @ model.albedo_basis.mean(1)).sum(-1)  # dark to light
    faces = [moved(augmented)]
    faces += [moved(augmented, albedo=skins[None, i]) for i in tone.argsort()[::16]]
    names = ["as reconstructed", *["another skin, same offset"] * (len(faces) - 1)]
    return gallery([show_face(face, "studio", LARGE) for face in faces], names, size=2.3)


def caricature_figure(augmented: AugmentedFaces, shapes: Mapping[float, Tensor]) -> Figure:
    """The face with more and less of what sets it apart from the mean."""
    words = {0.0: ": nobody", 1.0: ": as it is", -1.0: ": the opposite"}
    names = [f"k = {factor:g}{words.get(factor, '')}" for factor in shapes]
    views = product((0.0, -40.0), shapes.values())
    model, skin = augmented.face.model, augmented.face.albedo
    faces = [turned_mesh(model, vertices, skin, yaw) for yaw, vertices in views]
    images = [show_face(face, "studio", 360) for face in faces]
    return gallery(images, names, columns=len(shapes), size=2.1)


def size_figure(mine: ChosenPhoto, model: MorphableModel, c: FaceCoefficients) -> Figure:
    """The same face, and one a fifth larger and further away: one picture."""
    larger = replace(c, scale=1.2 * c.scale, translation=1.2 * c.translation)
    images, titles = [], []
    for coefficients in (c, larger):
        face, away = synthesise(model, coefficients), float(coefficients.translation[0, 2])
        width = float(coefficients.scale) * float(face.vertices[0, :, 0].max() * 2)
        images.append(on_photo(mine.crop.image, face, LARGE))
        titles.append(f"{width:.0f} mm wide, {away / 10:.0f} cm away")
    difference = np.abs(images[0].astype(int) - images[1]).astype(np.uint8)
    titles.append(f"their difference: {difference.max()} of 255 at most")
    return gallery([*images, difference], titles, size=3.2)


def source_figure(augmented: AugmentedFaces) -> Figure:
    """Where each vertex has its offset from: the photo, its mirror vertex, or nowhere."""
    face, seen = augmented.face, augmented.offsets.seen[0]
    model, skin = face.model, face.model.regions["skin"]
    other = (1 - seen) * seen[model.mirror]
    shares = torch.stack([seen, other, (1 - seen - other).clamp(min=0)], -1)
    colours = torch.tensor([[0.18, 0.55, 0.34], [0.93, 0.64, 0.22], [0.72, 0.72, 0.72]])
    painted = (shares @ colours)[None]
    views = [turned_mesh(model, face.vertices[:1], painted, yaw) for yaw in (-55.0, 0.0, 55.0)]
    images = [show_face(view, "studio", LARGE) for view in views]
    own, mirrored, none = ((shares * skin[:, None]).sum(0) / skin.sum()).tolist()
    title = f"green: from the photo ({own:.0%}); orange: from the mirror side ({mirrored:.0%}); "
    names = ["from one side", "from the front", "from the other"]
    return gallery(images, names, title=title + f"grey: no offset ({none:.0%})", size=3.0)


def lights_figure(
    mine: ChosenPhoto, model: MorphableModel, beliefs: Mapping[str, FaceCoefficients]
) -> Figure:
    """One photo, several beliefs about its light: the lit face hardly changes, the skin does."""
    faces = [synthesise(model, c) for c in beliefs.values()]
    titles = [f"{n}: {_colours_off(mine, face)}" for n, face in zip(beliefs, faces, strict=True)]
    titles += ["its skin without light"] * len(faces)
    images = [on_photo(mine.crop.image, face, LARGE) for face in faces]
    images += [show_face(face, "unlit", LARGE) for face in faces]
    return gallery(images, titles, columns=len(faces), size=2.9)


@torch.no_grad()
def one_identity_figure(
    photos: Photos,
    names: Sequence[str],
    means: Sequence[Float[Tensor, " identity"]],
    covariances: Sequence[Float[Tensor, "identity identity"]],
) -> Figure:
    """Two rendered photos, how uncertain each and both leave the shape, and how far off it is."""
    model, size = photos.face.model, 300
    truth = model.shape(photos.identity)
    (images, masks), marks = photos.face.render(size), photos.landmarks
    images = images.clamp(0, 1) + 0.9 * (1 - masks)
    figure, axes = charts(9.2, 9.8, 3, 3, "Two rendered photos of one person, whose truth is known")
    for i, axis in enumerate(axes[0, :2]):
        picture(axis, to_uint8(images[i]), f"rendered {names[i]}")
        dots(axis, marks[i], DETECTED, 9)
    view = turned_mesh(model, truth, model.albedo_mean[None], -25.0)
    picture(axes[0, 2], show_face(view, "shape", size), "the true shape, neutral")
    for column, (name, mean, covariance) in enumerate(zip(names, means, covariances, strict=True)):
        off = vertex_error_mm(model.shape(mean.float()[None]), truth)[0]
        for row, (values, most, words) in enumerate(
            ((spread_mm(model, covariance), 3.0, "uncertain by"), (off, 2.5, "off by")), 1
        ):
            face = turned_mesh(model, truth, heat(values, most)[None], -25.0)
            title = f"{name}:\n{words} {float(values.mean()):.2f} mm"
            picture(axes[row, column], show_face(face, "unlit", size), title)
    colour_bar(figure, 3.0, "standard deviation, mm", ax=axes[1], shrink=0.8)
    colour_bar(figure, 2.5, "distance to the truth, mm", ax=axes[2], shrink=0.8)
    return figure


def errors_figure(errors: Mapping[str, Tensor], counts: Sequence[int]) -> Figure:
    """The error of each way by the number of photos, mean over people and its standard error."""
    people = len(next(iter(errors.values())))
    title = f"Rendered photos of {people} people: how far the neutral face is off"
    figure, axis = charts(6.6, 3.6, title=title, fontsize=11)
    curves(axis, {way: e.mean(0).tolist() for way, e in errors.items()}, counts, "o-")
    for line, values in zip(axis.lines, errors.values(), strict=True):
        low, high = (values.mean(0) + k * values.std(0) / people**0.5 for k in (-1, 1))
        axis.fill_between(counts, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axis.set(xlabel="number of photos", ylabel="mm", xticks=counts)
    return figure
