"""Figures of notebook 07: what the bases leave out, the U-Net, its maps, and who reads them.

figures.first_screen(crop, found)                    # found: AugmentedFaces
figures.unet_figure(unet)
figures.skips_figure(found, maps_without(unet, photo, base))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torch import Tensor, nn

from ...augmented.branch import AugmentedFaces, BaseFaces
from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...networks.unet import DoubleHeadUNet, OffsetMaps
from ...photos.crop import Crop
from ...pictures.faces import PAPER, on_photo, show_face, to_uint8, turned_mesh
from ...pictures.offset_maps import shown_maps
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.palettes import in_palette
from ..drawing.style import BLUE, GREY, RED, panels, picture

OWN, BORROWED, NOTHING = (0.20, 0.50, 0.75), (0.95, 0.65, 0.25), (0.72, 0.72, 0.72)
SMALL = 230  # px of a panel
MM = 1.5  # where the colours of displacements end


@torch.no_grad()
def first_screen(crop: Crop, found: AugmentedFaces) -> Image.Image:
    """Photo, base and detailed face, both shapes, the detailed one turned, and both maps."""
    base, face, shown = found.base.face, found.face, shown_maps(found)
    side = turned_mesh(face.model, face.vertices, face.albedo, 40.0)
    panels = {
        "the photo": to_uint8(crop.image[0]),
        f"base: {base.model.sizes.vector} numbers": on_photo(crop.image, base, SMALL),
        "detailed: with both maps": on_photo(crop.image, face, SMALL),
        "detailed, turned": show_face(side, "studio", SMALL),
        "base: its shape": show_face(base, "shape", SMALL),
        "detailed: its shape": show_face(face, "shape", SMALL),
    }
    figure = Figure((13.2, 6.6), layout="constrained", facecolor="white")
    figure.suptitle("The base face, and what two maps make of it", fontsize=13)
    grid = figure.add_gridspec(2, 4)
    places = [grid[0, 0], grid[0, 1], grid[0, 2], grid[1, 0], grid[1, 1], grid[1, 2]]
    axes = [figure.add_subplot(at) for at in (*places, grid[0, 3], grid[1, 3])]
    for axis, (name, image) in zip(axes, panels.items(), strict=False):
        axis.imshow(image)
        axis.set_title(name, fontsize=11)
    colours = np.where(shown.read[..., None], (0.5 + shown.texture / 0.24).clip(0, 1), 1.0)
    axes[6].imshow(colours)
    axes[6].set_title("texture map: grey adds nothing", fontsize=11)
    outward = np.where(shown.read, shown.outward, np.nan)
    drawn = axes[7].imshow(outward, cmap="RdBu_r", vmin=-MM, vmax=MM)
    axes[7].set_title("displacement map: red is outwards", fontsize=11)
    figure.colorbar(drawn, ax=axes[7], label="mm", shrink=0.8)
    for axis in axes:
        axis.axis("off")
    return in_palette(figure, 82, 200)


def brightness(image: Float[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*b height width"]:
    return (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3)


@torch.no_grad()
def missing_figure(photo: Float[Tensor, "1 3 s s"], faces: Mapping[str, Face]) -> Image.Image:
    """A column for each face: on the photo, and photo minus rendering."""
    title = "What is broad can be solved for; what is narrow is left over, until the maps come"
    figure, axes = panels(2, len(faces), size=3.1, title=title, head=0.3)
    for (name, face), column in zip(faces.items(), axes.T, strict=True):
        image, mask = face.render(CROP_SIZE, near=None)
        left = brightness(photo - image)[0].masked_fill(mask[0, 0] < 0.5, torch.nan)
        picture(column[0], on_photo(photo, face, 300), name)
        off = float((photo - image).abs().mean(1, keepdim=True)[mask > 0.5].mean())
        words = f"photo − rendering: {off:.3f}"
        drawn = picture(column[1], left, words, cmap="RdBu_r", vmin=-0.4, vmax=0.4)
    figure.colorbar(drawn, ax=list(axes.flat), label="brightness", shrink=0.45, anchor=(0, 0.1))
    return in_palette(figure)


@torch.no_grad()
def beyond_figure(model: MorphableModel, batch: FaceBatch, i: int) -> Image.Image:
    """A rendered face with details: all of it, what the bases say of it, and the rest."""
    c = batch.truth[i : i + 1]
    true_vertices, true_albedo = batch.true_vertices[i : i + 1], batch.true_albedo[i : i + 1]
    vertices, albedo = model.shape(c.identity, c.expression), model.albedo(c.albedo)
    views = [turned_mesh(model, v, a, 0.0) for v, a in ((true_vertices, true_albedo),
                                                        (vertices, albedo))]  # fmt: skip
    outward = ((true_vertices - vertices) * vertex_normals(vertices, model.faces)).sum(-1)
    title = f"What {model.sizes.vector} numbers cannot say"
    figure, axes = panels(2, 4, size=2.6, title=title, head=0.3)
    for row, look in zip(axes, ("shape", "unlit"), strict=True):
        for axis, view, name in zip(row[1:3], views, ("all of it", "the bases' part"), strict=True):
            picture(axis, show_face(view, look, 300), f"{name}: {look}")
    picture(axes[0, 0], to_uint8(batch.image[i]), "the picture")
    rest = views[1].render(CROP_SIZE, attributes=outward[..., None])
    drawn = picture(axes[0, 3], _masked(*rest), "the rest: mm out of the face",
                    cmap="RdBu_r", vmin=-MM, vmax=MM)  # fmt: skip
    figure.colorbar(drawn, ax=axes[0, 3], label="mm", shrink=0.8)
    grey = (true_albedo - albedo) @ albedo.new_tensor([0.299, 0.587, 0.114])
    rest = views[1].render(CROP_SIZE, attributes=grey[..., None])
    drawn = picture(axes[1, 3], _masked(*rest), "the rest: brightness of the skin",
                    cmap="RdBu_r", vmin=-0.3, vmax=0.3)  # fmt: skip
    figure.colorbar(drawn, ax=axes[1, 3], label="of 0 to 1", shrink=0.8)
    axes[1, 0].axis("off")
    return in_palette(figure, colours=220)


def _masked(image: Tensor, mask: Tensor) -> Tensor:
    return image[0, 0].masked_fill(mask[0, 0] < 0.5, torch.nan)


# The network --------------------------------------------------------------------------------------


class _Block:
    """What a block of the network put out, and how many weights it has."""

    def __init__(self, module: nn.Module):
        self.weights = sum(p.numel() for p in module.parameters())
        self.channels = self.size = 0
        self.hook = module.register_forward_hook(self._look)

    def _look(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        self.channels, self.size = output.shape[1], output.shape[-1]
        self.hook.remove()

    @property
    def words(self) -> str:
        return f"{self.channels} × {self.size}²\n{self.weights / 1000:,.1f} k"


@torch.no_grad()
def unet_figure(unet: DoubleHeadUNet) -> Figure:
    """Every block of the network: channels × pixels², and its weights in thousands."""
    depth, shared = unet.depth, len(unet.shared)
    down = [_Block(m) for m in unet.down]
    up = [_Block(m) for m in unet.shared]
    heads = {name: [_Block(m) for m in head.up] for name, head in _heads(unet).items()}
    lasts = {name: _Block(head.last) for name, head in _heads(unet).items()}
    blank = torch.zeros(1, 3, CROP_SIZE, CROP_SIZE)
    unet(blank, blank)

    figure = Figure((12.4, 6.0), layout="constrained", facecolor="white")
    axis = figure.subplots()
    total = sum(p.numel() for p in unet.parameters())
    axis.set_title(
        "The double-head U-Net: down on the left, up on the right, skips across; the heads part "
        f"after {shared} blocks up. {total / 1e6:.2f} million weights"
    )
    wide, high = 1.0, 0.58

    def box(x: float, y: float, words: str, colour: str) -> tuple[float, float]:
        axis.add_patch(Rectangle((x - wide / 2, y - high / 2), wide, high, color=colour, alpha=0.3))
        axis.text(x, y, words, ha="center", va="center", fontsize=8.5)
        return x, y

    def arrow(a, b, colour: str = "0.3", dashed: bool = False, bend: float = 0.0) -> None:
        style = "--" if dashed else "-"
        axis.add_patch(
            FancyArrowPatch(
                a, b, arrowstyle="-|>", mutation_scale=11, color=colour, linestyle=style,
                connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0, linewidth=1.2,
            )
        )  # fmt: skip

    def right(p):
        return p[0] + wide / 2, p[1]

    def left(p):
        return p[0] - wide / 2, p[1]

    entry = box(-1.2, 0, f"photo and\nrendering\n6 × {CROP_SIZE}²", "0.5")
    lefts = [box(1.1 * i, -i, block.words, "0.35") for i, block in enumerate(down)]
    arrow(right(entry), left(lefts[0]))
    for a, b in pairwise(lefts):
        arrow((a[0], a[1] - high / 2), left(b), bend=0.25)
    last = lefts[-1]
    for i, block in enumerate(up):
        level = depth - 1 - i
        here = box(1.1 * depth + 1.3 * (i + 1), -level, block.words, "0.35")
        arrow(right(last), (here[0], here[1] - high / 2), bend=0.25)
        arrow(right(lefts[level]), left(here), GREY, dashed=True)
        last = here
    for (name, blocks), colour, lift in zip(heads.items(), (RED, BLUE), (0.33, -0.33), strict=True):
        before = last
        for i, block in enumerate(blocks):
            level = depth - 1 - shared - i
            x = 1.1 * depth + 1.3 * (shared + i + 1)
            here = box(x, -level + lift, block.words, colour)
            arrow(right(before), (left(here)[0], here[1] - 0.15), colour, bend=0.1)
            arrow(right(lefts[level]), (left(here)[0], here[1] + 0.1), GREY, dashed=True)
            before = here
        words = f"{name}\n3 × {lasts[name].size}²"
        arrow(right(before), left(box(before[0] + 1.35, before[1], words, colour)), colour)
    axis.text(-1.6, -depth, "each box: channels × pixels², and weights in thousands\n"
              "dashed: skips", va="center", fontsize=10, color="0.3")  # fmt: skip
    axis.set(xlim=(-1.8, 1.1 * depth + 1.3 * depth + 2.1), ylim=(-depth - 0.5, 0.75))
    axis.axis("off")
    return figure


def _heads(unet: DoubleHeadUNet) -> dict[str, nn.Module]:
    return {"texture": unet.texture, "displacement": unet.displacement}


@torch.no_grad()
def maps_without(unet: DoubleHeadUNet, photo: Tensor, base: BaseFaces) -> dict[str, OffsetMaps]:
    """The maps with all connections, and with each in turn handing on its mean alone."""

    def flat(x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)

    levels: list[tuple[str, Sequence[nn.Module], int]] = [
        ("no bottom", [unet.shared[0]], 0),
        *((f"no skip at {CROP_SIZE // 2 ** (unet.depth - 1 - i)}²", [m], 1)
          for i, m in enumerate(unet.shared)),
        *((f"no skip at {CROP_SIZE // 2 ** (unet.depth - 1 - len(unet.shared) - i)}²",
           [head.up[i] for head in _heads(unet).values()], 1)
          for i in range(len(unet.texture.up))),
    ]  # fmt: skip
    found = {"all connections": unet(photo, base.image)}
    for name, modules, which in levels:

        def muted(_module, inputs, which=which):
            inputs = list(inputs)
            inputs[which] = flat(inputs[which])
            return tuple(inputs)

        hooks = [m.register_forward_pre_hook(muted) for m in modules]
        found[name] = unet(photo, base.image)
        for hook in hooks:
            hook.remove()
    return found


def as_colours(texture: Float[Tensor, "3 h w"], mask: Tensor, reach: float = 0.12) -> np.ndarray:
    """A texture map about grey, white beside the face."""
    return to_uint8(torch.where(mask > 0.5, 0.5 + 0.5 * texture / reach, 1.0))


@torch.no_grad()
def skips_figure(base: BaseFaces, found: Mapping[str, OffsetMaps]) -> Image.Image:
    """Texture map, and the displacement's z, with each connection missing in turn; above each, how
    much of the map has changed (root mean square over the face, of the whole map's)."""
    mask = base.mask[0, 0] > 0.5
    rows, columns = (mask.any(axis).nonzero()[[0, -1], 0].tolist() for axis in (1, 0))
    cut = slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)
    whole = next(iter(found.values()))
    figure = Figure((12.4, 6.4), layout="constrained", facecolor="white")
    figure.suptitle("What is lost with each connection: colours above, z of the displacement below")
    axes = figure.subplots(2, len(found))
    for column, (name, maps) in zip(axes.T, found.items(), strict=True):
        column[0].imshow(as_colours(maps.texture[0], base.mask[0])[cut])
        z = maps.displacement[0, 2].masked_fill(~mask, torch.nan)
        drawn = column[1].imshow(z[cut], cmap="RdBu_r", vmin=-MM, vmax=MM)
        for axis, full, other in zip(column, whole, maps, strict=True):
            lost, all_of_it = ((m[0, :, mask]).norm() for m in (other - full, full))
            words = "" if maps is whole else f"{100 * float(lost / all_of_it):.0f} % changed"
            axis.set_title(f"{name}\n{words}" if axis is column[0] else words, fontsize=10)
            axis.axis("off")
    figure.colorbar(drawn, ax=list(axes[1]), label="z, mm", shrink=0.85)
    return in_palette(figure, 80, 80)


# Readings -----------------------------------------------------------------------------------------


def vertex_places(face: Face, size: int = CROP_SIZE) -> Float[Tensor, "batch vertex 2"]:
    """Where each vertex falls in the picture, pixels x, y from the top left."""
    with torch.no_grad():
        return ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), size)


@torch.no_grad()
def reading_figure(
    found: AugmentedFaces, points: Tensor, read: Float[Tensor, "1 vertex 3"], at: Sequence[int]
) -> Image.Image:
    """The texture map, a part of it with the vertices, and what they read; at: x, y, pixels."""
    mask, reach = found.base.mask[0], 0.12
    shown = as_colours(found.maps.texture[0], mask)
    x, y, side = *at, 30
    figure = Figure((12.2, 4.6), layout="constrained", facecolor="white")
    figure.suptitle("Where vertices are dense each texel is heard; elsewhere some are lost")
    axes = figure.subplots(1, 3)
    picture(axes[0], shown, "The texture map, and a part of it")
    axes[0].add_patch(Rectangle((x, y), side, side, fill=False, color="black", linewidth=1.5))
    inside = (points[0] - torch.tensor([x, y])).clamp(0, side) == points[0] - torch.tensor([x, y])
    near = inside.all(-1) & (found.offsets.seen[0] > 0)
    place, colour = points[0, near], (0.5 + 0.5 * read[0, near] / reach).clamp(0, 1)
    for axis, name in zip(axes[1:], ("texels, and where vertices fall",
                                     "what each vertex has read"), strict=True):  # fmt: skip
        axis.set_title(name, fontsize=10)
        axis.set(xlim=(x, x + side), ylim=(y + side, y), xticks=[], yticks=[], aspect="equal")
    axes[1].imshow(shown, extent=(0, CROP_SIZE, CROP_SIZE, 0), interpolation="nearest")
    axes[1].scatter(*place.T.numpy(), s=7, color="black")
    axes[2].scatter(*place.T.numpy(), s=60, c=colour.numpy(), edgecolors="0.4", linewidths=0.3)
    return in_palette(figure)


@torch.no_grad()
def seen_figure(base: BaseFaces, photo: Tensor, seen: Float[Tensor, "1 vertex"]) -> Image.Image:
    """Who reads for itself, who borrows, and who gets nothing, from three sides."""
    model, own = base.face.model, seen[0] > 0
    paint = torch.tensor(NOTHING).repeat(len(own), 1)
    paint[own[model.mirror]] = torch.tensor(BORROWED)
    paint[own] = torch.tensor(OWN)
    share = [own, ~own & own[model.mirror], ~own & ~own[model.mirror]]
    names = ("own reading", "the mirror vertex's", "nothing")
    title = "Who reads the map: blue for itself, orange through its mirror vertex, grey not at all"
    figure, axes = panels(1, 4, size=2.9, title=title)
    picture(axes[0, 0], to_uint8(photo[0]), "the photo")
    c, one = base.coefficients, base.face
    views = {
        "as in the photo": pose_and_light(model, one.vertices, paint[None], c),
        "from the left": turned_mesh(model, one.vertices, paint[None], 45.0),
        "from the right": turned_mesh(model, one.vertices, paint[None], -45.0),
    }
    for axis, (name, view) in zip(axes[0, 1:], views.items(), strict=True):
        picture(axis, show_face(view, "studio", 300), name)
    words = ", ".join(f"{n}: {100 * float(s.float().mean()):.0f} %" for n, s in
                      zip(names, share, strict=True))  # fmt: skip
    figure.supxlabel(f"of all vertices: {words}", fontsize=11)
    return in_palette(figure)


@torch.no_grad()
def fill_figure(
    base: BaseFaces, ways: Mapping[str, Float[Tensor, "1 vertex 6"]], yaw: float
) -> Image.Image:
    """Offsets taken in several ways: the skin from the hidden side, and displacement in x."""
    title = "The side that the photo does not show: what is there that should not be?"
    figure, axes = panels(2, len(ways), size=3.1, title=title, head=0.3)
    model, face = base.face.model, base.face
    for column, (name, offsets) in zip(axes.T, ways.items(), strict=True):
        albedo, vertices = face.albedo + offsets[..., :3], face.vertices + offsets[..., 3:]
        view = turned_mesh(model, vertices, albedo, yaw)
        picture(column[0], show_face(view, "unlit", 300), name)
        front = turned_mesh(model, face.vertices, face.albedo, 0.0)
        image, mask = front.render(2 * CROP_SIZE, attributes=offsets[..., 3:4].contiguous())
        drawn = picture(column[1], _masked(image, mask), "displacement in x",
                        cmap="RdBu_r", vmin=-0.8, vmax=0.8)  # fmt: skip
    figure.colorbar(drawn, ax=list(axes.flat), label="mm", shrink=0.45, anchor=(0, 0.1))
    return in_palette(figure)


@torch.no_grad()
def added_figure(base: BaseFaces, ways: Mapping[str, tuple[Tensor, Tensor]]) -> Image.Image:
    """Faces of posed vertices and colours, whatever way they were made."""
    figure, axes = panels(
        1, len(ways), size=2.9, title="Displacement times five, added in four ways"
    )
    for axis, (name, (v_camera, colours)) in zip(axes[0], ways.items(), strict=True):
        face = Face(**{**vars(base.face), "v_camera": v_camera, "colours": colours})
        image, mask = face.render(600, attributes=colours.clamp(0, 1).contiguous())
        image = F.avg_pool2d(image + (1 - mask) * PAPER, 2)
        picture(axis, to_uint8(image[0]), name)
    return in_palette(figure)


@torch.no_grad()
def uv_figure(pictures: Mapping[str, Tensor], flat: Mapping[str, Tensor]) -> Image.Image:
    """Pictures above, what they are unrolled to below."""
    title = "Above, the head turns. Below, unrolled, everything stays in its place"
    figure, axes = panels(2, len(pictures), size=2.8, title=title, head=0.3)
    for column, (name, image), unrolled in zip(
        axes.T, pictures.items(), flat.values(), strict=True
    ):
        picture(column[0], to_uint8(image[0]), name)
        shown = torch.where(unrolled[0].sum(0) > 0, unrolled[0], torch.tensor(PAPER))
        picture(column[1], to_uint8(shown), "unrolled")
    return in_palette(figure, colours=80)


class Growth:
    """Keeps what `fit_unet(on_step=...)` shows of the first face; `frames` draws it."""

    def __init__(self, photo: Tensor):
        self.photo, self.seen = photo, []

    def __call__(self, step: int, found: AugmentedFaces) -> None:
        with torch.no_grad():
            mask = found.base.mask[0]
            texture = as_colours(found.maps.texture[0], mask, 0.15)
            z = (0.5 + 0.5 * found.maps.displacement[0, 2] / MM).clamp(0, 1)
            signed = torch.from_numpy(matplotlib.colormaps["RdBu_r"](z.numpy())[..., :3])
            displacement = to_uint8(torch.where(mask > 0.5, signed.permute(2, 0, 1), 1.0))
            face = on_photo(self.photo, found.face, CROP_SIZE, 1)
        row = Image.fromarray(np.concatenate([face, texture, displacement], 1))
        self.seen.append(np.asarray(row.resize((3 * 190, 190), Image.Resampling.BILINEAR)))

    @property
    def frames(self) -> list[np.ndarray]:
        return [*self.seen[::3], *self.seen[-1:] * 3]


def loss_figure(terms: Mapping[str, Sequence[float]], names: Mapping[str, str]) -> Figure:
    """Terms over the steps, each in a panel of its own."""
    figure = Figure((3.6 * len(names), 2.6), layout="constrained", facecolor="white")
    for axis, (term, words) in zip(figure.subplots(1, len(names)), names.items(), strict=True):
        axis.plot(terms[term], color=BLUE, linewidth=2)
        axis.set(title=words, xlabel="step", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    return figure
