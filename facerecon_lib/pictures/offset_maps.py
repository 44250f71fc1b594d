"""The augmented branch in pictures: its two maps, and the face with and without them.

    figure = texture_figure(augmented)                   # the first face of AugmentedFaces
    figure = displacement_figure(augmented)
    figure = detail_figure(crop, augmented, "me.jpg")

Grey is no offset; texels that no vertex reads are left out. Notebooks 07 and 10, section 2.2.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from ..augmented.branch import AugmentedFaces
from ..augmented.uv_space import unwrap
from ..face.mesh import vertex_normals
from ..photos.crop import Crop
from ..rendering.atlas import Texture
from .faces import on_photo, paint_texture, show_face, to_uint8, turned_mesh
from .sheets import gallery

LEAST_TEXTURE, LEAST_MM = 0.01, 0.1  # the shortest colour bars: noise should look like noise
PANEL = 340  # px
MARGIN = 4  # texels around the face
TURNS = -40.0, 40.0  # degrees of yaw

SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#0b4aa2", "#7da7d9", "#c4c4c4", "#e58a78", "#a81016"]
)
"""Blue below zero, grey at zero, red above."""


class ShownMaps(NamedTuple):
    """The maps of one face as arrays, cut to where the photo shows it (`read`)."""

    texture: Float[np.ndarray, "height width 3"]
    displacement: Float[np.ndarray, "height width 3"]
    outward: Float[np.ndarray, "height width"]  # mm along the base face's normals
    read: Bool[np.ndarray, "height width"]


@torch.no_grad()
def shown_maps(augmented: AugmentedFaces) -> ShownMaps:
    """The first face's maps as arrays, channels last."""
    base, maps = augmented.base.face, augmented.maps
    normals = vertex_normals(base.vertices, base.model.faces)
    image, mask = base.render(maps.texture.shape[-1], attributes=normals)
    if augmented.space == "uv":
        image, mask = unwrap(torch.cat([image, mask], 1), base).split([3, 1], 1)
    image = torch.nn.functional.normalize(image, dim=1)
    outward = (image * maps.displacement).sum(1, keepdim=True)
    read = (mask[0, 0] > 0.5).cpu().numpy()
    part = tuple(_span(read.any(axis)) for axis in (1, 0))
    arrays = (m[0].permute(1, 2, 0).cpu().numpy()[part] for m in (*maps, outward))
    texture, displacement, outward = arrays
    return ShownMaps(texture, displacement, outward[..., 0], read[part])


def _span(used: Bool[np.ndarray, " texel"]) -> slice:
    """From the first to the last used texel, with a little around it; all if none is."""
    index = np.flatnonzero(used)
    return slice(max(index[0] - MARGIN, 0), index[-1] + MARGIN + 1) if index.size else slice(None)


def texture_figure(augmented: AugmentedFaces) -> Figure:
    """The texture map as colours about grey, and each of its channels with numbers."""
    maps = shown_maps(augmented)
    title = f"Texture map, {_place(augmented)}: what is added to the albedo"
    heading = "as colours: grey is 0, full colour ±{:.2g}"
    names, label = ("red", "green", "blue"), "added to the albedo, of 0 to 1"
    pictures = maps.texture, maps.texture, maps.read, LEAST_TEXTURE
    return _map_figure(*pictures, title, heading, names, label)


def displacement_figure(augmented: AugmentedFaces) -> Figure:
    """The displacement map along the face's normals, and its three components, in mm."""
    maps = shown_maps(augmented)
    title = f"Displacement map, {_place(augmented)}: how far the skin moves"
    heading = "out of the face: grey is 0, red outwards, blue inwards"
    names, label = ("x, to the right", "y, up", "z, forwards"), "mm, model frame"
    pictures = maps.outward, maps.displacement, maps.read, LEAST_MM
    return _map_figure(*pictures, title, heading, names, label)


def _place(augmented: AugmentedFaces) -> str:
    return "unrolled, uv space" if augmented.space == "uv" else "in the photo's crop"


def _map_figure(large, channels, read, least: float, title, heading, names, label) -> Figure:
    """One large panel, and three small ones beside it, with one scale."""
    figure = Figure(figsize=(8.0, 5.9), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13)
    grid, reach = figure.add_gridspec(3, 4), _reach(channels, read, least)
    places = [grid[:, :3], grid[0, 3], grid[1, 3], grid[2, 3]]
    values = [large, *np.moveaxis(channels, -1, 0)]
    for place, value, name in zip(places, values, (heading.format(reach), *names), strict=True):
        axis = figure.add_subplot(place)
        axis.imshow(_painted(value, read, reach))
        axis.set_title(name, fontsize=11)
        axis.axis("off")
    _colour_bar(figure, figure.axes[1:], reach, label)
    return figure


@torch.no_grad()
def detail_figure(
    crop: Crop, augmented: AugmentedFaces, title: str, texture: Texture | None = None
) -> Figure:
    """Photo, base and detailed face, both shapes, the detailed one turned, and the two maps.

    texture: of the turned views, instead of the albedo.
    """
    base, face, maps = augmented.base.face, augmented.face, shown_maps(augmented)
    views = (turned_mesh(face.model, face.vertices[:1], face.albedo[:1], t) for t in TURNS)
    left, right = (
        show_face(v, "studio", PANEL) if texture is None else paint_texture(v, texture, PANEL)
        for v in views
    )
    colours = _reach(maps.texture, maps.read, LEAST_TEXTURE)
    outward = _reach(maps.outward, maps.read, LEAST_MM)
    panels = {
        "the photo": to_uint8(crop.image[0]),
        "base: the face model alone": on_photo(crop.image, base, PANEL),
        "detailed: both maps added": on_photo(crop.image, face, PANEL),
        "detailed, unlit": show_face(face, "unlit", PANEL),
        "texture map: colour added": _painted(maps.texture, maps.read, colours),
        "base: its shape": show_face(base, "shape", PANEL),
        "detailed: its shape": show_face(face, "shape", PANEL),
        "detailed, turned left": left,
        "detailed, turned right": right,
        "displacement map: outwards": _painted(maps.outward, maps.read, outward),
    }
    figure = gallery([*panels.values()], [*panels], title=title, columns=5, size=3.0)
    for panel, end, *look in (4, colours, "each channel", "grey"), (9, outward, "mm", SIGNED):
        _colour_bar(figure, figure.axes[panel], end, *look)
    return figure


def _reach(values: np.ndarray, read: np.ndarray, least: float) -> float:
    """Where the colours end: above all but one in 200 of the values, and not below least."""
    sizes = np.abs(values[read])
    return max(float(np.quantile(sizes, 0.995)) if sizes.size else 0.0, least)


def _painted(values: np.ndarray, read: np.ndarray, reach: float) -> np.ndarray:
    """Numbers in SIGNED, or three channels as colours about grey; white where none is read."""
    share = 0.5 + 0.5 * values / reach
    colours = SIGNED(share)[..., :3] if values.ndim == 2 else share.clip(0, 1)
    return np.where(read[..., None], colours, 1.0)


def _colour_bar(figure: Figure, axes, reach: float, label: str, colours=SIGNED) -> None:
    scale = ScalarMappable(Normalize(-reach, reach), colours)
    figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.02, label=label)
