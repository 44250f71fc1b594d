"""What a reconstruction from one photo does not say, in three figures for notebook 10."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from ...augmented.branch import AugmentedFaces
from ...face.coefficients import FaceCoefficients
from ...face.measures import photometric_error
from ...face.morphable_model import MorphableModel
from ...pictures.faces import on_photo, show_face, turned_mesh
from ...pictures.sheets import gallery
from ...rendering.synthesis import synthesise
from .photo_input import ChosenPhoto

LARGE = 420  # px


@torch.no_grad()
def size_figure(mine: ChosenPhoto, model: MorphableModel, c: FaceCoefficients) -> Figure:
    """The same face, and one a fifth larger and further away: one picture."""
    larger = c.clone()
    larger.scale, larger.translation = 1.2 * c.scale, 1.2 * c.translation
    images, titles = [], []
    for coefficients in (c, larger):
        face = synthesise(model, coefficients)
        width = float(coefficients.scale) * float(face.vertices[0, :, 0].max() * 2)
        away = float(coefficients.translation[0, 2])
        images.append(on_photo(mine.crop.image, face, LARGE))
        titles.append(f"{width:.0f} mm wide, {away / 10:.0f} cm away")
    apart = np.abs(images[0].astype(int) - images[1]).max()
    images.append(np.abs(images[0].astype(int) - images[1]).astype(np.uint8))
    titles.append(f"their difference: {apart} of 255 at most")
    return gallery(images, titles, size=3.2)


@torch.no_grad()
def source_figure(found: AugmentedFaces) -> Figure:
    """Where each vertex has its offset from: the photo, its mirror vertex, or nowhere."""
    model, seen = found.face.model, found.offsets.seen[0]
    other = (1 - seen) * seen[model.mirror]
    colours = torch.tensor([[0.18, 0.55, 0.34], [0.93, 0.64, 0.22], [0.72, 0.72, 0.72]])
    shares = torch.stack([seen, other, (1 - seen - other).clamp(min=0)], -1)
    painted = shares @ colours
    images, titles = [], []
    for yaw, name in ((-55.0, "from one side"), (0.0, "from the front"), (55.0, "from the other")):
        face = turned_mesh(model, found.face.vertices[:1], painted[None], yaw)
        images.append(show_face(face, "studio", LARGE))
        titles.append(name)
    skin = model.regions["skin"]
    own, mirrored, none = ((shares * skin[:, None]).sum(0) / skin.sum()).tolist()
    title = f"green: from the photo ({own:.0%}); orange: from the mirror side ({mirrored:.0%}); "
    return gallery(images, titles, title=title + f"grey: no offset ({none:.0%})", size=3.0)


@torch.no_grad()
def lights_figure(
    mine: ChosenPhoto, model: MorphableModel, found: Mapping[str, FaceCoefficients]
) -> Figure:
    """One photo, several beliefs about its light: the lit face hardly changes, the skin does."""
    lit, bare, titles = [], [], []
    for name, c in found.items():
        face = synthesise(model, c)
        image, mask = face.render(near=None)
        counted = mask * mine.crop.valid
        off = float(photometric_error(image.clamp(0, 1), mine.crop.image, counted)[0])
        lit.append(on_photo(mine.crop.image, face, LARGE))
        bare.append(show_face(face, "unlit", LARGE))
        titles.append(f"{name}: colours {off:.3f} off")
    titles += ["its skin without light"] * len(bare)
    return gallery(lit + bare, titles, columns=len(lit), size=2.9)
