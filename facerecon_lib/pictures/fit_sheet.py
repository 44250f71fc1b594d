"""A fit on one page, drawn without Matplotlib, which alone takes longer than the fit.

    fit_sheet(crop, face, coefficients, "2d", "me.jpg").save("figure.png")

The results of `facerecon fit`. Notebook 10.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..face.camera import CROP_SIZE, ndc_to_pixels, pose, project_ndc
from ..face.coefficients import FaceCoefficients
from ..face.gaze import directions, eyeballs
from ..fitting.gaze import Sight
from ..photos.crop import Crop
from ..rendering.atlas import Texture
from ..rendering.synthesis import Face
from .faces import (
    DETECTED,
    FITTED,
    PAPER,
    Picture,
    enlarged,
    in_studio,
    laid_on,
    layer,
    on_photo,
    paint_texture,
    show_face,
    turned_mesh,
)

PANEL, GAP, LINE, COLUMNS = 280, 10, 26, 5  # px
DOT = 1.5  # px, radius of a landmark
GAZE, LOOK = 60.0, "#2f7bff"  # mm, and colour
NAME = 32  # characters over a panel
SIDES = (0, -50, 50)  # degrees
YAWS = {-50: "studio", -25: "shape", 25: "studio", 50: "studio"}


@torch.no_grad()
def fit_sheet(
    crop: Crop,
    face: Face,
    coefficients: FaceCoefficients,
    kind: str,
    title: str,
    texture: Texture | None = None,
    sight: Sight | None = None,
) -> Image.Image:
    """Photo, overlay, lit, unlit, shape, landmarks, and turned views on one page.

    texture: of the turned views, instead of the albedo. sight: drawn as a line from each eye.
    """
    looks = torch.cat([face.colours, face.albedo, in_studio(face.normals)], -1)
    ndc = project_ndc(face.v_camera, face.fov_deg)
    *looks, covered = layer(ndc, face.model.faces, looks, PANEL).split([3, 3, 3, 1])
    lit, unlit, shape = (torch.cat([look, covered]) for look in looks)
    detected = crop.landmarks[0].cpu(), DETECTED
    fitted = face.landmarks(kind)[0].cpu(), FITTED
    photo = enlarged(crop.image, PANEL)
    panels = {
        "photo, and the detected landmarks": _marked(photo, detected),
        "the fitted face on the photo": laid_on(lit, crop.image),
        "lit as in the photo": laid_on(lit, PAPER),
        "unlit: its albedo": laid_on(unlit, PAPER),
        "its shape": laid_on(shape, PAPER),
        "landmarks: detected, fitted": _marked(photo, detected, fitted),
    }
    if sight is not None:
        *_, last = panels
        panels[f"{last}; gaze"] = _with_gaze(panels.pop(last), face, coefficients, sight)
    for yaw, look in YAWS.items():
        view = turned_mesh(face.model, face.vertices, face.albedo, yaw)
        bare = texture is None or look == "shape"
        picture = show_face(view, look, PANEL) if bare else paint_texture(view, texture, PANEL)
        panels[f"turned by {yaw:+d}°"] = picture
    return _page([*panels.items()], title)


@torch.no_grad()
def person_sheet(head: Face, photos: Sequence[tuple[str, Crop, Face]], title: str) -> Image.Image:
    """A person's head from three sides; then each photo under its name, and its face on it."""
    panels = []
    for yaw in SIDES:
        view = turned_mesh(head.model, head.vertices, head.albedo, yaw)
        side = f"turned by {yaw:+d}°" if yaw else "from the front"
        for look, name in (("studio", "the person"), ("shape", "the shape")):
            panels.append((f"{name}, {side}", show_face(view, look, PANEL)))
    for name, crop, face in photos:
        short = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
        panels.append((short, enlarged(crop.image, PANEL)))
        panels.append(("the fitted face on it", on_photo(crop.image, face, PANEL)))
    return _page(panels, title, 2 * len(SIDES))


def _marked(picture: Picture, *marks: tuple[Float[Tensor, "68 2"], str]) -> Picture:
    """With points, in pixels of the crop, as dots."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for points, colour in marks:
        for x, y in (points * (PANEL / CROP_SIZE)).tolist():
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), colour)
    return np.asarray(image)


def _with_gaze(
    picture: Picture, face: Face, coefficients: FaceCoefficients, sight: Sight
) -> Picture:
    """With a line from each iris that is seen along its gaze, GAZE mm long."""
    c, eyes = coefficients[:1], eyeballs(face.model, coefficients.identity[:1])
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    turns, gaze = directions(sight.turns)[0], directions(sight.gaze)[0]
    for eye, turn, along, seen in zip(eyes, turns, gaze, sight.seen[0], strict=True):
        iris = eye.centre[0] + eye.radius * turn
        ends = pose(
            torch.stack([iris, iris + GAZE * along])[None], c.rotation, c.scale, c.translation
        )
        ends = ndc_to_pixels(project_ndc(ends, face.fov_deg), PANEL)[0]
        if seen:
            draw.line([tuple(end) for end in ends.tolist()], LOOK, 2)
    return np.asarray(image)


def _page(panels: Sequence[tuple[str, Picture]], title: str, columns: int = COLUMNS) -> Image.Image:
    """Pictures in rows, each under its name."""
    rows, step = -(-len(panels) // columns), PANEL + GAP
    head = LINE * (1 + title.count("\n"))
    page = Image.new("RGB", (columns * step + GAP, head + rows * (step + LINE) + GAP), "white")
    draw, font = ImageDraw.Draw(page), _font()
    draw.text((page.width / 2, GAP), title, "black", font, "ma", align="center")
    for i, (name, picture) in enumerate(panels):
        x, y = GAP + i % columns * step, head + i // columns * (step + LINE)
        draw.text((x + PANEL / 2, y + GAP), name, "black", font, "ma")
        page.paste(Image.fromarray(picture), (x, y + GAP + LINE))
    return page


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    """The font of Matplotlib, found without importing it: Pillow's own has Latin letters alone."""
    folder = Path(find_spec("matplotlib").origin).parent
    return ImageFont.truetype(folder / "mpl-data/fonts/ttf/DejaVuSans.ttf", 15)
