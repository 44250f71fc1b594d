"""The pictures of README.md: a photo made 3D, and faces of the shipped model."""

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_photo
from facerecon_lib.pictures.faces import (
    on_photo,
    paint_texture,
    show_face,
    to_uint8,
    turned,
    turned_mesh,
)
from facerecon_lib.reconstruction.reconstruct import encode_face
from facerecon_lib.reconstruction.texture import bake

TILE = 320
WHITE = 1.0


def tile(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.LANCZOS))


def front(model: MorphableModel) -> np.ndarray:
    """The bundled photo, the fitted face on it, its shape, and the head turned, in the photo's own
    texture."""
    photo = sample_photo()
    done = encode_face(photo, model, load_encoder(model=model), dense=True)
    crop = align(photo.pixels, done.detection.landmarks, size=2 * TILE)
    texture = bake(photo.pixels, done.crop, done.face, done.fitted.coefficients.lighting)
    pictures = [tile(to_uint8(crop.image[0])), tile(on_photo(crop.image, done.face, 2 * TILE))]
    for yaw in (0, -40, 40):
        view = turned_mesh(model, done.face.vertices, done.face.albedo, yaw)
        if yaw:
            picture = paint_texture(view, texture, 2 * TILE, WHITE)
        else:
            picture = show_face(view, "shape", 2 * TILE, WHITE)
        pictures.append(tile(picture)[:, 24:-24])
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
