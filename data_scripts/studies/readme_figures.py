"""The pictures of README.md: a photo made 3D, and faces of the shipped model."""

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.fitting.fit import fit
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.pictures.faces import on_photo, show_face, to_uint8, turned
from facerecon_lib.rendering.synthesis import synthesise

TILE = 320
WHITE = 1.0


def tile(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.LANCZOS))


def front(model: MorphableModel) -> np.ndarray:
    """The bundled photo, the fitted face on it, its shape, and the head turned."""
    pixels, detection = sample_photo().pixels, sample_detection()
    crop = align(pixels, detection.landmarks, size=2 * TILE)
    small = align(pixels, detection.landmarks)
    coarse = MorphableModel.load(shipped_file("face_model.safetensors"), subdivision=0)
    inputs = (small.image, small.valid, small.landmarks)
    coefficients = fit(model, *inputs, kind=detection.kind, coarse_model=coarse).coefficients
    face = synthesise(model, coefficients)
    views = [turned(model, coefficients, yaw) for yaw in (-40, 0, 40)]
    pictures = [tile(to_uint8(crop.image[0])), tile(on_photo(crop.image, face, 2 * TILE))]
    for i, style in ((1, "shape"), (0, "studio"), (2, "studio")):
        pictures.append(tile(show_face(views[i], style, 2 * TILE, WHITE))[:, 24:-24])
    return np.concatenate(pictures, axis=1)


def faces(model: MorphableModel, seed: int = 11) -> np.ndarray:
    """Random faces of the model: two rows neutral, one with expressions."""
    generator = torch.Generator().manual_seed(seed)
    identity, expression, albedo = model.random(18, generator)
    rows = []
    for row in track(range(3), description="random faces"):
        tiles = []
        for i in range(6 * row, 6 * row + 6):
            drawn = model.neutral()
            drawn.identity, drawn.albedo = identity[i : i + 1], albedo[i : i + 1]
            if row == 2:
                drawn.expression = expression[i : i + 1]
            view = turned(model, drawn, yaw_deg=(-20, 0, 20)[i % 3])
            tiles.append(tile(show_face(view, "studio", 2 * TILE, WHITE))[:, 40:-40])
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)
