"""Rendered faces as a folder of photos that is laid out as CACD2000, with its truth.

Faces lie somewhere in pictures of many sizes. `truth.json` beside the photos holds each one's true
landmarks in its pixels, its pose and skin tone, and what is wrong with a broken file.
`celebrity2000_meta.mat` has the layout of the real one. The same seed writes the same folder.

Notebook 06, section 2.3.
"""

import itertools
import json
import os
import random
import shutil
import unicodedata
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import RenderedFaces, flattened
from facerecon_lib.data.rendered.random_faces import relief
from facerecon_lib.data.rendered.scenes import background
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix, ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.rendering.synthesis import landmark_vertices
from photo_shards.folder import IMAGES, PEOPLE

SIZE, BATCH = 384, 8  # px rendered; faces at a time, of one margin
MARGINS = (1.5, 3.0)  # picture over face
SIDES = (160, 640)  # px of a written photo; CACD2000's have 250
PHOTOS_EACH = 8  # of a person
FIRST = ("Ada", "Bo", "Cleo", "Dag", "Elif", "Fay", "Gus", "Hana", "Ivo", "Juno", "Zoë", "José")
LAST = ("Render", "Lambert", "Phong", "Gouraud", "Blinn", "O'Shade", "van Soft", "Ray Jr.", "Núñez")


def person_of(number: int) -> str:
    """Made-up names, some as odd as those of real people."""
    first, last = FIRST[number % len(FIRST)], LAST[number // len(FIRST) % len(LAST)]
    again = number // (len(FIRST) * len(LAST))
    return f"{first} {last}" + f" {again}" * (again > 0)


def photo_name(number: int) -> str:
    """<age>_<First_Last>_<nnnn>.jpg"""
    person = person_of(number // PHOTOS_EACH).replace(" ", "_")
    return f"{14 + 7 * number % 49}_{person}_{number % PHOTOS_EACH + 1:04d}.jpg"


def true_landmarks(faces: RenderedFaces, batch: FaceBatch, numbers: torch.Tensor) -> np.ndarray:
    """(B, 68, 2) in pixels of the rendering, as a 2D detector without any error would mark them."""
    c, model = batch.truth, faces.model
    v_camera = pose(model.shape(c.identity, c.expression), c.rotation, c.scale, c.translation)
    v_camera = flattened(v_camera, c, relief(CountedRandom(faces.seed, numbers)))
    index = landmark_vertices(model, v_camera, c.rotation, "2d")
    seen = v_camera.gather(1, index[..., None].expand(-1, -1, 3))
    return ndc_to_pixels(project_ndc(seen), faces.size).double().numpy()


@torch.no_grad()
def render_photos(count: int, seed: int) -> Iterator[tuple[Image.Image, dict]]:
    """Photos and what is true of them."""
    model = MorphableModel.load(subdivision=0)
    for numbers in torch.arange(count).split(BATCH):
        rng = random.Random(f"{seed} {numbers[0]}")
        faces = RenderedFaces(model, seed, size=SIZE, margin=rng.uniform(*MARGINS))
        batch = faces.batch(numbers)
        points = true_landmarks(faces, batch, numbers)
        ahead = axis_angle_to_matrix(batch.truth.rotation)[:, :, 2]
        yaw = torch.atan2(ahead[:, 0], ahead[:, 2]).rad2deg()
        for i in range(len(batch)):
            picture = Image.fromarray(to_uint8(batch.image[i]))
            photo, landmarks = cut_out(picture, points[i], rng)
            facts = {"yaw": round(float(yaw[i]), 2), "tone": int(batch.tone[i])}
            yield photo, {"landmarks": np.round(landmarks, 3).tolist(), **facts}


def cut_out(
    picture: Image.Image, points: np.ndarray, rng: random.Random
) -> tuple[Image.Image, np.ndarray]:
    """A window of the picture around the whole face, placed and sized at random."""
    room = 0.2 * np.ptp(points, axis=0).max()
    low, high = points.min(0) - room, points.max(0) + room
    x0, y0 = (int(rng.uniform(0, max(v, 0))) for v in low)
    x1, y1 = (int(np.ceil(rng.uniform(min(v, SIZE), SIZE))) for v in high)
    width, height = x1 - x0, y1 - y0
    scale = rng.uniform(*SIDES) / max(width, height)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    box = (x0, y0, x1, y1)
    photo = picture.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return photo, (points - box[:2]) * (size[0] / width, size[1] / height)


def _bytes(picture: Image.Image, kind: str) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def _scene(seed: int) -> Image.Image:
    scene = background(CountedRandom(seed, torch.arange(1)), 248, "held-out")
    return Image.fromarray(to_uint8(scene[0]))


BROKEN = {
    "empty": lambda photo: b"",
    "cut short": lambda photo: photo[: len(photo) // 2],
    "head alone": lambda photo: photo[:300],
    "text": lambda photo: b"<html><body>404 Not Found</body></html>\n",
    "noise": lambda photo: random.Random(zlib.crc32(photo)).randbytes(len(photo)),
    "huge": lambda photo: _bytes(Image.new("1", (20_000, 20_000)), "PNG"),  # 50 kB
    "no face": lambda photo: _bytes(_scene(zlib.crc32(photo)), "JPEG"),
}


def write_meta(path: Path, names: list[str]) -> None:
    """The columns of CACD2000's table that are used, as its own file has them."""
    from scipy.io import savemat

    number = np.arange(len(names))
    identity = number // PHOTOS_EACH + 1
    people = np.unique(identity)
    images = {"age": np.array([int(name.split("_")[0]) for name in names])}
    images |= {"identity": identity, "year": 2004 + number % 10}
    images |= {"rank": identity % 50 + 1, "name": np.array(names, object)}
    known = {"name": np.array([person_of(i - 1) for i in people.tolist()], object)}
    savemat(path, {IMAGES: images, PEOPLE: known | {"identity": people}}, oned_as="column")


def write_folder(out: Path, photos: int, broken: int, seed: int) -> None:
    """The photos, their truth and their table, in a new folder. Raises OSError."""
    torch.set_num_threads(1)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError("it is there already")
    work = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    folder = work / "CACD2000"
    truth, names = {}, []
    try:
        folder.mkdir(parents=True)
        rendered = track(render_photos(photos, seed), "rendering", photos)
        for number, (photo, facts) in enumerate(rendered):
            name = unicodedata.normalize("NFC", photo_name(number))
            quality = random.Random(f"{seed} quality {number}").randint(60, 95)
            photo.save(folder / name, "JPEG", quality=quality)
            truth[name], names = facts, [*names, name]
        for i, kind in enumerate(itertools.islice(itertools.cycle(BROKEN), broken)):
            name = f"{20 + i % 40}_Broken_File_{i:04d}.jpg"
            whole = (folder / names[i % photos]).read_bytes()
            (folder / name).write_bytes(BROKEN[kind](whole))
            truth[name] = {"broken": kind}
        write_meta(work / "celebrity2000_meta.mat", names)
        (work / "truth.json").write_text(json.dumps(truth))
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
