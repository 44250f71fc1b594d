"""Figures: what the bases leave out, the U-Net, its maps, and who reads them.

Notebook 07, section 2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torch import Tensor, nn

from ...augmented.branch import AugmentedFaces, BaseFaces, augment
from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...networks.unet import DoubleHeadUNet, OffsetMaps
from ...photos.crop import Crop
from ...pictures.faces import PAPER, Picture, on_photo, show_face, to_uint8, turned_mesh, value_map
from ...pictures.offset_maps import shown_maps
from ...rendering.rasterizer import rasterize
from ...rendering.renderer import NEAR
from ...rendering.synthesis import Face, pose_and_light
from ..drawing import style
from ..drawing.style import BLUE, GREY, RED, charts, drawn, fill, panels, picture, signed, sized
from ..unet_fit import UNetFit

READERS = {  # who a vertex' offset is from, and its colour
    "own reading": (0.20, 0.50, 0.75),
    "the mirror vertex's": (0.95, 0.65, 0.25),
    "nothing": (0.72, 0.72, 0.72),
}
LUMA = torch.tensor([0.299, 0.587, 0.114])
REACH = 0.12  # where the colours of a texture map end
MM, WIDE = 0.6, 1.0  # mm, where those of a displacement map end: of the astronaut, of others


def first_screen(crop: Crop, augmented: AugmentedFaces) -> Image.Image:
    """Photo, base and detailed face, both shapes, the detailed one turned, and both maps."""
    base, face, maps = augmented.base.face, augmented.face, shown_maps(augmented)
    side = turned_mesh(face.model, face.vertices, face.albedo, 40.0)
    colours = np.where(maps.read[..., None], (0.5 + 0.5 * maps.texture / REACH).clip(0, 1), 1.0)
    images = {
        "the photo": to_uint8(crop.image[0]),
        f"base: {base.model.sizes.vector} numbers": on_photo(crop.image, base, 230),
        "detailed: with both maps": on_photo(crop.image, face, 230),
        "texture map: grey adds nothing": colours,
        "detailed, turned": show_face(side, "studio", 230),
        "base: its shape": show_face(base, "shape", 230),
        "detailed: its shape": show_face(face, "shape", 230),
        "displacement map: red is outwards": np.where(maps.read, maps.outward, np.nan),
    }
    figure, axes = charts(13.2, 6.6, 4, 2, "The base face, and what two maps make of it", 13)
    for axis, (name, image) in zip(axes.flat, images.items(), strict=True):
        panel = picture(axis, image, name, 11, **signed(MM))
    figure.colorbar(panel, ax=axis, label="mm", shrink=0.8)
    return drawn(figure, 78)


def missing_figure(photo: Float[Tensor, "1 3 s s"], faces: Mapping[str, Face]) -> Image.Image:
    """A column for each face: on the photo, and photo minus rendering."""
    columns = {}
    for name, face in faces.items():
        image, mask = face.render(CROP_SIZE, near=None)
        inside, residual = mask[0, 0] > 0.5, (photo - image)[0]
        brightness = (residual.permute(1, 2, 0) @ LUMA).masked_fill(~inside, torch.nan)
        words = f"photo − rendering: {float(residual[:, inside].abs().mean()):.3f}"
        columns[name] = on_photo(photo, face, 300), words, brightness
    title = "What is broad can be solved for; what is narrow is left over, until the maps come"
    return _pictures_and_numbers(title, columns, 0.4, "brightness")


def _pictures_and_numbers(title: str, columns: Mapping, most: float, label: str) -> Image.Image:
    """By a column's title: a picture, and below it words and signed numbers."""
    figure, axes = panels(2, len(columns), size=2.8, title=title, head=0.3)
    for column, (name, (image, words, numbers)) in zip(axes.T, columns.items(), strict=True):
        picture(column[0], image, name)
        panel = picture(column[1], numbers, words, **signed(most))
    figure.colorbar(panel, ax=axes, label=label, shrink=0.45, anchor=(0, 0.1))
    return drawn(figure)


def beyond_figure(model: MorphableModel, batch: FaceBatch) -> Image.Image:
    """The first rendered face with details: all of it, what the bases hold of it, and the rest."""
    one = batch[:1]
    c, true_vertices, true_albedo = one.truth, one.true_vertices, one.true_albedo
    vertices, albedo = model.shape(c.identity, c.expression), model.albedo(c.albedo)
    whole = turned_mesh(model, true_vertices, true_albedo, 0.0)
    part = turned_mesh(model, vertices, albedo, 0.0)
    title = f"What {model.sizes.vector} numbers cannot represent"
    figure, axes = panels(2, 4, size=2.6, title=title, head=0.3)
    picture(axes[0, 0], to_uint8(batch.image[0]), "the picture")
    axes[1, 0].axis("off")
    outward = ((true_vertices - vertices) * vertex_normals(vertices, model.faces)).sum(-1)
    brightness = (true_albedo - albedo) @ LUMA
    for row, look, rest, words, most, label in (
        (axes[0], "shape", outward, "mm out of the face", 1.5, "mm"),
        (axes[1], "unlit", brightness, "brightness of the skin", 0.3, "of 0 to 1"),
    ):
        images = [show_face(view, look, 300) for view in (whole, part)]
        fill(row[1:3], images, [f"all of it: {look}", f"the bases' part: {look}"])
        panel = picture(row[3], value_map(part, rest), f"the rest: {words}", **signed(most))
        figure.colorbar(panel, ax=row[3], label=label, shrink=0.8)
    return drawn(figure)


def unet_figure(unet: DoubleHeadUNet) -> Figure:
    """Every block of the network: channels × pixels², and its weights in thousands."""
    depth, shared = unet.depth, len(unet.shared)
    figure, axis = charts(12.4, 6.0)
    millions = sum(p.numel() for p in unet.parameters()) / 1e6
    axis.set_title(
        "The double-head U-Net: down on the left, up on the right, skips across; the heads part "
        f"after {shared} blocks up. {millions:.2f} million weights"
    )
    across, down = np.array([0.5, 0.0]), np.array([0.0, 0.29])  # from a box's middle to its edges

    def box(x: float, y: float, text: str, colour: str = "0.35") -> np.ndarray:
        axis.add_patch(Rectangle((x - 0.5, y - 0.29), 1.0, 0.58, color=colour, alpha=0.3))
        axis.text(x, y, text, ha="center", va="center", fontsize=8.5)
        return np.array([x, y])

    def block_box(x: float, level: int, block: nn.Module, lift=0.0, colour="0.35") -> np.ndarray:
        weights = sum(p.numel() for p in block.parameters())
        size = f"{unet.width * 2**level} × {CROP_SIZE // 2**level}²"
        return box(x, lift - level, f"{size}\n{weights / 1000:,.1f} k", colour)

    def arrow(start, end, colour="0.3", line="-", bend=0.0) -> None:
        form = dict(arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0, linewidth=1.2)
        form |= dict(connectionstyle=f"arc3,rad={bend}", color=colour, linestyle=line)
        axis.add_patch(FancyArrowPatch(start, end, **form))

    entry = box(-1.2, 0, f"photo and\nrendering\n6 × {CROP_SIZE}²", "0.5")
    lefts = [block_box(1.1 * level, level, block) for level, block in enumerate(unet.down)]
    arrow(entry + across, lefts[0] - across)
    for upper, lower in pairwise(lefts):
        arrow(upper - down, lower - across, bend=0.25)
    place, low = lefts[-1], np.array([0, 0.15])
    for i, block in enumerate(unet.shared, start=1):
        before, place = place, block_box(1.1 * depth + 1.3 * i, depth - i, block)
        arrow(before + across, place - down, bend=0.25)
        arrow(lefts[depth - i] + across, place - across, GREY, "--")
    for name, colour, lift in (("texture", RED, 0.33), ("displacement", BLUE, -0.33)):
        last = place
        for i, block in enumerate(getattr(unet, name).up, start=shared + 1):
            x = 1.1 * depth + 1.3 * i
            before, last = last, block_box(x, depth - i, block, lift, colour)
            arrow(before + across, last - across - low, colour, bend=0.1)
            arrow(lefts[depth - i] + across, last - across + low / 1.5, GREY, "--")
        end = box(last[0] + 1.35, last[1], f"{name}\n3 × {CROP_SIZE}²", colour)
        arrow(last + across, end - across, colour)
    note = "each box: channels × pixels², and weights in thousands\ndashed: skips"
    axis.text(-1.6, -depth, note, va="center", fontsize=10, color="0.3")
    axis.set(xlim=(-1.8, 2.4 * depth + 2.1), ylim=(-depth - 0.5, 0.75))
    axis.axis("off")
    return figure


@torch.no_grad()
def maps_without(unet: DoubleHeadUNet, photo: Tensor, base: BaseFaces) -> dict[str, OffsetMaps]:
    """The maps with all connections, and with each in turn handing on its mean alone."""
    maps = {"all connections": unet(photo, base.image)}
    heads = zip(unet.texture.up, unet.displacement.up, strict=True)
    cuts = {"no bottom": ([unet.shared[0]], 0)}
    for i, modules in enumerate([*([block] for block in unet.shared), *heads]):
        cuts[f"no skip at {CROP_SIZE // 2 ** (unet.depth - 1 - i)}²"] = modules, 1
    for name, (modules, which) in cuts.items():

        def mute(_module, inputs, which=which):
            mean = inputs[which].mean((2, 3), keepdim=True).expand_as(inputs[which])
            return *inputs[:which], mean, *inputs[which + 1 :]

        hooks = [module.register_forward_pre_hook(mute) for module in modules]
        maps[name] = unet(photo, base.image)
        for hook in hooks:
            hook.remove()
    return maps


def as_colours(texture: Float[Tensor, "3 h w"], mask: Tensor, reach: float = REACH) -> np.ndarray:
    """A texture map about grey, white beside the face."""
    return to_uint8(torch.where(mask > 0.5, 0.5 + 0.5 * texture / reach, 1.0))


def skips_figure(base: BaseFaces, cut: Mapping[str, OffsetMaps]) -> Image.Image:
    """Texture map and the displacement's length with each connection missing in turn; above each,
    how much of the map has changed (root mean square over the face, of the whole map's)."""
    mask, whole = base.mask[0, 0] > 0.5, next(iter(cut.values()))
    spans = (mask.any(axis).nonzero().aminmax() for axis in (1, 0))
    face = tuple(slice(first, last + 1) for first, last in spans)
    title = "What is lost with each connection: colours above, length of the displacement below"
    figure, axes = charts(12.4, 5.5, len(cut), 2, title)
    for column, (name, maps) in zip(axes.T, cut.items(), strict=True):
        words = ["", ""]
        if maps is not whole:
            pairs = [(m[0, :, mask], o[0, :, mask]) for m, o in zip(whole, maps, strict=True)]
            words = [f"{100 * float((o - m).norm() / m.norm()):.0f} % changed" for m, o in pairs]
        texture = as_colours(maps.texture[0], base.mask[0])[face]
        picture(column[0], texture, f"{name}\n{words[0]}")
        panel = picture(column[1], length_map(maps, mask)[face], words[1], **sized(MM))
    figure.colorbar(panel, ax=axes[1], label="mm", shrink=0.85)
    return drawn(figure, 72)


def length_map(maps: OffsetMaps, mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """How far the first face's displacement map moves the skin, mm; nan beside the face."""
    return maps.displacement[0].norm(dim=0).masked_fill(~mask, torch.nan)


def maps_figure(photo: Tensor, base: BaseFaces, maps: OffsetMaps) -> Image.Image:
    """The photo, both maps, and the face that they make of the base face."""
    mask = base.mask[0, 0] > 0.5
    figure, axes = panels(1, 4, size=2.9, title="Drawn by your two heads")
    texture = as_colours(maps.texture[0], base.mask[0])
    face = on_photo(photo, augment(base, maps).face, 300)
    fill(
        axes[0, :2], [to_uint8(photo[0]), texture], ["the photo", "texture map: grey adds nothing"]
    )
    length = length_map(maps, mask)
    panel = picture(axes[0, 2], length, "displacement map: its length", **sized(MM))
    picture(axes[0, 3], face, "the base face with both")
    figure.colorbar(panel, ax=axes[0, 2], label="mm", shrink=0.75)
    return drawn(figure)


def texels_of(
    face: Face, size: int = CROP_SIZE
) -> tuple[Int[Tensor, "b h w 3"], Float[Tensor, "b h w 3"]]:
    """For each texel of a view of the face the three vertices around it, and their weights, which
    are 0 where it shows no face."""
    ndc = project_ndc(face.v_camera, face.fov_deg)
    fragments = rasterize(ndc, face.model.faces, size, perspective_correct=True, z_clip_value=NEAR)
    triangle = fragments.pix_to_face[..., 0]
    corners = face.model.faces.long()[triangle.clamp(min=0) % len(face.model.faces)]
    return corners, fragments.bary_coords[..., 0, :] * (triangle >= 0)[..., None]


def carried_figure(rows: Mapping[str, Sequence[Tensor]], yaws: Sequence[float]) -> Image.Image:
    """By photo, its colours carried to views of these yaws, degrees, and below the length of its
    displacement; each view (1, 6, h, w)."""
    title = "One photo and its displacement map, carried to other views"
    figure, axes = charts(10.4, 0.6 + 3.5 * len(rows), len(yaws), 2 * len(rows), title)
    pairs = [axes[i : i + 2] for i in range(0, len(axes), 2)]
    for (name, views), pair in zip(rows.items(), pairs, strict=True):
        pair[0, 0].text(5, 20, name, fontsize=9)
        for column, view in zip(pair.T, views, strict=True):
            empty = view[0, :3].sum(0) == 0
            picture(column[0], to_uint8(torch.where(empty, PAPER, view[0, :3])))
            length = view[0, 3:].norm(dim=0).masked_fill(empty, torch.nan)
            panel = picture(column[1], length, **sized(WIDE))
    for axis, yaw in zip(axes[0], yaws, strict=True):
        axis.set_title(f"{yaw:+.0f}°" if yaw else "0°", fontsize=10)
    figure.colorbar(panel, ax=axes, label="displacement, mm", shrink=0.4)
    return drawn(figure, 84)


def vertex_places(face: Face) -> Float[Tensor, "batch vertex 2"]:
    """Where each vertex falls in the crop, pixels x, y from the top left."""
    return ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), CROP_SIZE)


def reading_figure(
    augmented: AugmentedFaces, points: Tensor, read: Float[Tensor, "1 vertex 3"], at: Sequence[int]
) -> Image.Image:
    """The texture map, a part of it with the vertices, and what they read; at: x, y, pixels."""
    texture = as_colours(augmented.maps.texture[0], augmented.base.mask[0])
    (x, y), side, corner = at, 30, torch.tensor(at)
    title = "Where vertices are dense each texel is read; elsewhere some are lost"
    figure, (whole, left, right) = charts(12.2, 4.6, 3, title=title)
    picture(whole, texture, "The texture map, and a part of it")
    whole.add_patch(Rectangle((x, y), side, side, fill=False, color="black", linewidth=1.5))
    near = ((points[0] >= corner) & (points[0] <= corner + side)).all(-1)
    near &= augmented.offsets.seen[0] > 0
    colours = (0.5 + 0.5 * read[0, near] / REACH).clamp(0, 1)
    left.set_title("texels, and where vertices fall", fontsize=10)
    left.imshow(texture, extent=(0, CROP_SIZE, CROP_SIZE, 0), interpolation="nearest")
    style.dots(left, points[0, near], "black")
    right.set_title("what each vertex has read", fontsize=10)
    form = dict(edgecolors="0.4", linewidths=0.3)
    right.scatter(*points[0, near].T, s=60, c=colours.numpy(), **form)
    for axis in (left, right):
        axis.set(xlim=(x, x + side), ylim=(y + side, y), xticks=[], yticks=[], aspect="equal")
    return drawn(figure, 72)


def seen_figure(base: BaseFaces, photo: Tensor, seen: Float[Tensor, "1 vertex"]) -> Image.Image:
    """Who reads for itself, who borrows, and who gets nothing, from three sides."""
    face, own = base.face, seen[0] > 0
    borrowed = ~own & own[face.model.mirror]
    groups = torch.stack([own, borrowed, ~own & ~borrowed], -1).float()
    paint = (groups @ torch.tensor(list(READERS.values())))[None]
    views = [pose_and_light(face.model, face.vertices, paint, base.coefficients)]
    views += [turned_mesh(face.model, face.vertices, paint, yaw) for yaw in (45.0, -45.0)]
    title = "Who reads the map: blue for itself, orange through its mirror vertex, grey not at all"
    figure, axes = panels(1, 4, size=2.9, title=title)
    images = [to_uint8(photo[0]), *(show_face(view, "studio", 300) for view in views)]
    fill(axes, images, ["the photo", "as in the photo", "from the left", "from the right"])
    shares = zip(READERS, groups.mean(0).tolist(), strict=True)
    words = ", ".join(f"{name}: {100 * share:.0f} %" for name, share in shares)
    figure.supxlabel(f"of all vertices: {words}", fontsize=11)
    return drawn(figure)


def fill_figure(base: BaseFaces, ways: Mapping[str, Tensor], yaw: float) -> Image.Image:
    """Offsets (1, vertex, 6) taken in several ways: the skin from the hidden side, and the
    displacement in x."""
    face, columns = base.face, {}
    front = turned_mesh(face.model, face.vertices, face.albedo, 0.0)
    for name, offsets in ways.items():
        albedo, vertices = face.albedo + offsets[..., :3], face.vertices + offsets[..., 3:]
        view = show_face(turned_mesh(face.model, vertices, albedo, yaw), "unlit", 300)
        x = value_map(front, offsets[..., 3], 2 * CROP_SIZE)
        columns[name] = view, "displacement in x", x
    title = "The side that the photo does not show: what is there that should not be?"
    return _pictures_and_numbers(title, columns, 0.8, "mm")


def added_figure(base: BaseFaces, ways: Mapping[str, tuple[Tensor, Tensor]]) -> Image.Image:
    """Faces of posed vertices and colours, whatever way they were made."""
    title = "Displacement times five, added in four ways"
    figure, axes = panels(1, len(ways), size=2.9, title=title)
    faces = [replace(base.face, v_camera=v, colours=colours) for v, colours in ways.values()]
    fill(axes, [show_face(face, "lit", 300) for face in faces], ways)
    return drawn(figure)


def uv_figure(pictures: Mapping[str, Tensor], flat: Mapping[str, Tensor]) -> Image.Image:
    """Pictures above, what they are unrolled to below."""
    title = "Above, the head turns. Below, unrolled, everything stays in its place"
    figure, axes = panels(2, len(pictures), size=2.5, title=title, head=0.3)
    fill(axes[0], [to_uint8(image[0]) for image in pictures.values()], pictures)
    unrolled = [torch.where(uv[0].sum(0) > 0, uv[0], torch.tensor(PAPER)) for uv in flat.values()]
    fill(axes[1], map(to_uint8, unrolled), ["unrolled"] * len(flat))
    return drawn(figure)


def growth_frames(photo: Tensor, fit: UNetFit) -> list[Picture]:
    """The first face, its texture map and displacement, every fifth step and the last."""
    base, frames = fit.found.base, []
    mask = base.mask[0] > 0.5
    for maps in fit.maps[::5] + fit.maps[-1:]:
        length = style.heat(maps.displacement[0].norm(dim=0), WIDE).permute(2, 0, 1)
        panels = [
            on_photo(photo, augment(base, maps).face, CROP_SIZE),
            as_colours(maps.texture[0], base.mask[0], 0.15),
            to_uint8(torch.where(mask, length, 1.0)),
        ]
        row = Image.fromarray(np.concatenate(panels, 1))
        frames.append(np.asarray(row.resize((570, 190), Image.Resampling.LANCZOS)))
    return frames + 2 * frames[-1:]


def loss_figure(terms: Mapping[str, Sequence[float]], names: Mapping[str, str]) -> Figure:
    """Terms over the steps, each in a panel of its own."""
    figure, axes = charts(3.6 * len(names), 2.6, len(names))
    for axis, (term, words) in zip(axes, names.items(), strict=True):
        style.curves(axis, {term: terms[term]}, title=words, xlabel="step", ylim=(0, None))
    return figure
