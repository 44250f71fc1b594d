"""The augmented branch in pictures: its two maps, and the face with and without them.

    figure = texture_figure(augmented)                   # the first face of AugmentedFaces
    figure = displacement_figure(augmented)
    figure = detail_figure(crop, augmented, "me.jpg")

Grey is no offset; texels that no vertex reads are left out. Notebooks 07 and 10, section 2.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from ..augmented.branch import AugmentedFaces
from ..augmented.uv_space import unwrap
from ..face.mesh import vertex_normals
from ..photos.crop import Crop
from .faces import on_photo, show_face, to_uint8, turned_mesh

LEAST_TEXTURE, LEAST_MM = 0.01, 0.1  # the shortest colour bars: noise should look like noise
PANEL = 340  # px
MARGIN = 4  # texels around the face
TURNS = -40.0, 40.0  # degrees of yaw

SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#0b4aa2", "#7da7d9", "#c4c4c4", "#e58a78", "#a81016"]
)
"""Blue below zero, grey at zero, red above."""


class ShownMaps(NamedTuple):
    """The maps of one face as arrays, cut to where the photo shows it (`read`).

    outward: the displacement along the base face's normals, mm, positive away from the head.
    """

    texture: Float[np.ndarray, "height width 3"]
    displacement: Float[np.ndarray, "height width 3"]
    outward: Float[np.ndarray, "height width"]
    read: Bool[np.ndarray, "height width"]


@torch.no_grad()
def shown_maps(augmented: AugmentedFaces) -> ShownMaps:
    """The first face's maps as arrays, channels last."""
    base, maps = augmented.base.face, augmented.maps
    normals = vertex_normals(base.vertices, base.model.faces)
    image, mask = base.render(maps.texture.shape[-1], attributes=normals)
    if augmented.space == "uv":
        both = unwrap(torch.cat([image, mask], 1), base)
        image, mask = both[:, :3], both[:, 3:]
    image = torch.nn.functional.normalize(image, dim=1)
    outward = (image * maps.displacement).sum(1, keepdim=True)
    read = (mask[0, 0] > 0.5).cpu().numpy()
    rows, columns = (_span(read.any(axis)) for axis in (1, 0))
    arrays = (m[0].permute(1, 2, 0).cpu().numpy()[rows, columns] for m in (*maps, outward))
    texture, displacement, outward = arrays
    return ShownMaps(texture, displacement, outward[..., 0], read[rows, columns])


def _span(used: Bool[np.ndarray, " texel"]) -> slice:
    """From the first to the last used texel, with a little around it; all if none is."""
    index = np.flatnonzero(used)
    return slice(max(index[0] - MARGIN, 0), index[-1] + MARGIN + 1) if index.size else slice(None)


def texture_figure(augmented: AugmentedFaces) -> Figure:
    """The texture map as colours about grey, and each of its channels with numbers."""
    maps = shown_maps(augmented)
    reach = _reach(maps.texture, maps.read, LEAST_TEXTURE)
    title = f"Texture map, {_place(augmented)}: what is added to the albedo"
    figure, large, small = _map_axes(title)
    large.imshow(_as_colours(maps.texture, maps.read, reach))
    large.set_title(f"as colours: grey is 0, full colour ±{reach:.2g}", fontsize=11)
    for i, name in enumerate(("red", "green", "blue")):
        _signed(small[i], maps.texture[..., i], maps.read, reach)
        small[i].set_title(name, fontsize=11)
    _colour_bar(figure, small, reach, "added to the albedo, of 0 to 1")
    return figure


def displacement_figure(augmented: AugmentedFaces) -> Figure:
    """The displacement map along the face's normals, and its three components, in mm."""
    maps = shown_maps(augmented)
    reach = _reach(maps.displacement, maps.read, LEAST_MM)
    title = f"Displacement map, {_place(augmented)}: how far the skin moves"
    figure, large, small = _map_axes(title)
    _signed(large, maps.outward, maps.read, reach)
    large.set_title("out of the face: grey is 0, red outwards, blue inwards", fontsize=11)
    for i, name in enumerate(("x, to the right", "y, up", "z, forwards")):
        _signed(small[i], maps.displacement[..., i], maps.read, reach)
        small[i].set_title(name, fontsize=11)
    _colour_bar(figure, small, reach, "mm, model frame")
    return figure


@torch.no_grad()
def detail_figure(crop: Crop, augmented: AugmentedFaces, title: str) -> Figure:
    """Photo, base and detailed face, both shapes, the detailed one turned, and the two maps."""
    base, face, maps = augmented.base.face, augmented.face, shown_maps(augmented)
    left, right = (turned_mesh(face.model, face.vertices[:1], face.albedo[:1], t) for t in TURNS)
    panels = [
        ("the photo", to_uint8(crop.image[0])),
        ("base: the face model alone", on_photo(crop.image, base, PANEL)),
        ("detailed: both maps added", on_photo(crop.image, face, PANEL)),
        ("detailed, unlit", show_face(face, "unlit", PANEL)),
        ("base: its shape", show_face(base, "shape", PANEL)),
        ("detailed: its shape", show_face(face, "shape", PANEL)),
        ("detailed, turned left", show_face(left, "studio", PANEL)),
        ("detailed, turned right", show_face(right, "studio", PANEL)),
    ]
    figure = Figure(figsize=(15, 6.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, parse_math=False)
    axes = figure.subplots(2, 5)
    for axis, (name, image) in zip(axes[:, :4].flat, panels, strict=True):
        axis.imshow(image)
        axis.set_title(name, fontsize=10)
    top, bottom = axes[:, 4]
    reach = _reach(maps.texture, maps.read, LEAST_TEXTURE)
    top.imshow(_as_colours(maps.texture, maps.read, reach))
    top.set_title("texture map: colour added", fontsize=10)
    _colour_bar(figure, top, reach, "each channel", "grey")
    reach = _reach(maps.outward, maps.read, LEAST_MM)
    _signed(bottom, maps.outward, maps.read, reach)
    bottom.set_title("displacement map: outwards", fontsize=10)
    _colour_bar(figure, bottom, reach, "mm")
    for axis in axes.flat:
        axis.axis("off")
    return figure


# Parts of them ----------------------------------------------------------------------------------


def _place(augmented: AugmentedFaces) -> str:
    return "unrolled, uv space" if augmented.space == "uv" else "in the photo's crop"


def _reach(values: np.ndarray, read: np.ndarray, least: float) -> float:
    """Where the colours end: above all but one in 200 of the values, and not below least."""
    sizes = np.abs(values[read])
    return max(float(np.quantile(sizes, 0.995)) if sizes.size else 0.0, least)


def _as_colours(values: np.ndarray, read: np.ndarray, reach: float) -> np.ndarray:
    return np.where(read[..., None], (0.5 + 0.5 * values / reach).clip(0, 1), 1.0)


def _signed(axis: Axes, values: np.ndarray, read: np.ndarray, reach: float) -> None:
    axis.set_facecolor("white")
    axis.imshow(np.where(read, values, np.nan), cmap=SIGNED, vmin=-reach, vmax=reach)


def _colour_bar(
    figure: Figure,
    axes: Axes | Sequence[Axes],
    reach: float,
    label: str,
    colours: Colormap | str = SIGNED,
) -> None:
    scale = ScalarMappable(Normalize(-reach, reach), colours)
    figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.02, label=label)


def _map_axes(title: str) -> tuple[Figure, Axes, list[Axes]]:
    """One large panel, and three small ones beside it."""
    figure = Figure(figsize=(8.0, 5.9), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13)
    grid = figure.add_gridspec(3, 4)
    axes = [figure.add_subplot(grid[:, :3]), *(figure.add_subplot(grid[i, 3]) for i in range(3))]
    for axis in axes:
        axis.axis("off")
    return figure, axes[0], axes[1:]
