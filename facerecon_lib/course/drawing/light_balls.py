"""Balls that show a light, beside faces.

A light is (1, 9, 3) or (9, 3), as in `lighting`. A ball is seen from the front: the pixel at its
middle faces the viewer, +x is right, +y is up. Notebook 03, Eq. 3.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...face.lighting import CLAMPED_COSINE, sh_basis
from ...pictures.faces import PAPER, Picture, paint_mesh, to_uint8
from ...rendering.synthesis import Face
from .style import SIGNED, charts, colour_bar, picture, signed


def value_panels(
    pictures: Sequence, names: Sequence[str], title: str, limit: float, label="", width=9.2, rows=1
) -> Figure:
    """Panels of one size with one bar: colours as they are, numbers from -limit to limit."""
    columns = len(pictures) // rows
    height = 0.75 + 0.93 * rows * (width - 1.2) / columns
    figure, axes = charts(width, height, columns, rows, title, squeeze=False)
    for axis, image, name in zip(axes.flat, pictures, names, strict=True):
        picture(axis, image, name, **signed(limit))  # limits are of numbers alone
    place = dict(ax=axes, shrink=0.8, aspect=18, pad=0.02)
    colour_bar(figure, limit, label, SIGNED, -limit, **place)
    return figure


def sphere_points(count: int = 4000) -> Float[Tensor, "count 3"]:
    """Unit vectors spread evenly over the sphere (a Fibonacci spiral); each stands for 4 pi / n."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / count
    azimuth, ring = math.pi * (1 + 5**0.5) * i, (1 - z * z).sqrt()
    return torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], -1).float()


def direction(azimuth_deg: float, elevation_deg: float) -> Float[Tensor, " 3"]:
    """Viewer axes: azimuth 0 is from the viewer, +90 from the right; elevation +90 from above."""
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    return torch.tensor([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])


def lamp(towards: Sequence[float] | Tensor, colour: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """(1, 9, 3): a lamp at infinity, max(0, n . d) as well as nine functions can say it."""
    d = F.normalize(torch.as_tensor(towards, dtype=torch.float32), dim=-1)
    return ((torch.tensor(CLAMPED_COSINE) * sh_basis(d))[:, None] * torch.tensor([colour]))[None]


def ball_normals(size: int, behind: bool = False) -> tuple[Float[Tensor, "p 3"], Tensor]:
    """Normals of the pixels of a ball that fills a square, (size * size, 3), and which are on it;
    behind: as seen from the other side, so that the viewer's right is its left."""
    t = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-t, t, indexing="ij")
    z = (1 - x * x - y * y).clamp(min=0).sqrt()
    n = torch.stack([-x, y, -z] if behind else [x, y, z], -1)
    return F.normalize(n, dim=-1).reshape(-1, 3), (x * x + y * y <= 1).reshape(-1)


def ball(light: Tensor | Callable[[Tensor], Tensor], size: int = 160) -> Picture:
    """A white ball under a light, antialiased. light: nine rows, or a function of the normals."""
    n, inside = ball_normals(2 * size)
    colours = sh_basis(n) @ light.reshape(9, 3) if isinstance(light, Tensor) else light(n)
    colours = torch.where(inside[:, None], colours.expand(-1, 3).clamp(0, 1), PAPER)
    return to_uint8(F.avg_pool2d(colours.T.reshape(1, 3, 2 * size, 2 * size), 2)[0])


def ball_brightness(light: Float[Tensor, "1 9 3"]) -> float:
    """The brightest colour of a white ball under the light."""
    return float((sh_basis(ball_normals(64)[0]) @ light[0]).max())


def ball_values(function: Callable[[Tensor], Tensor], size=160, behind=False) -> np.ndarray:
    """(size, size) values of a function of the normal, nan outside the ball, for imshow."""
    n, inside = ball_normals(size, behind)
    values = torch.where(inside, torch.as_tensor(function(n)).reshape(-1), torch.nan)
    return values.reshape(size, size).detach().numpy()


def with_ball(image: Picture, light: Tensor | Callable, share: float = 0.24) -> Picture:
    """The picture with the light's ball in its lower right corner, in a thin ring."""
    size, result = int(share * len(image)), image.copy()
    t = (np.arange(size) + 0.5) / size * 2 - 1
    away = np.hypot(*np.meshgrid(t, t))[..., None]
    cover = ((1 - away) * size / 2 + 0.5).clip(0, 1)
    ring = ((away - 1) * size / 2 + 2).clip(0, 1)
    corner = result[-size - 4 : -4, -size - 4 : -4]
    ringed = ball(light, size) * (1 - ring) + 130 * ring
    corner[:] = np.round(ringed * cover + corner * (1 - cover))
    return result


def beside(*pictures: Picture) -> Picture:
    """Pictures side by side on paper, centred in height."""
    height, columns = max(map(len, pictures)), []
    for p in pictures:
        top = (height - len(p)) // 2
        margins = (top, height - len(p) - top), (0, 16), (0, 0)
        columns.append(np.pad(p, margins, constant_values=round(255 * PAPER)))
    return np.concatenate(columns, 1)


def paint_flat(face: Face, colours: Float[Tensor, "1 face 3"], size: int) -> Picture:
    """The face with one colour per triangle: no vertex is shared, nothing is interpolated."""
    corners = face.v_camera[:, face.model.faces].flatten(1, 2)
    own = torch.arange(corners.shape[1]).view(-1, 3)
    return paint_mesh(corners, own, colours.repeat_interleave(3, 1), size, face.fov_deg)


def zoomed(image: Picture, left: float, top: float, side: float, size: int) -> Picture:
    """A square of the picture, given as shares of its width, enlarged without smoothing."""
    a, b, s = (int(share * len(image)) for share in (left, top, side))
    steps = (np.arange(size) * s) // size
    return image[b + steps][:, a + steps]
