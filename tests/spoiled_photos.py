"""Photos that nobody should rely on, and photos that they are made from, by kind.

for kind, image in spoiled(photo, landmarks): ...    # masks, cuts, blur, lamps ...: some thirty
for kind, image in without_faces(): ...              # pictures of scikit-image
for kind, image in fair(photo, landmarks): ...       # as it is, compressed, dimmed, tilted ...
"""

import io
from collections.abc import Iterator

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter, uniform_filter1d

from facerecon_lib.face.colour import linear_to_srgb, srgb_to_linear

Pictures = Iterator[tuple[str, Image.Image]]


def spoiled(image: Image.Image, landmarks: np.ndarray) -> Pictures:
    """One face spoiled in many ways; landmarks: its 68 points in pixels."""
    p, width, height = landmarks, image.width, image.height
    face = float(np.ptp(p, axis=0).max())
    middle = (p.min(0) + p.max(0)) / 2
    left, top = np.maximum((middle - 0.8 * face).astype(int), 0)
    right, bottom = np.minimum((middle + 0.8 * face).astype(int), (width, height))
    head = image.crop((left, top, right, bottom))
    yield "cut: no mouth", image.crop((left, top, right, int(p[33, 1] + 2)))
    yield "cut: no eyes", image.crop((left, int(p[29, 1]), right, bottom))
    yield "cut: half a face", image.crop((left, top, int(p[30, 0]), bottom))
    for pixels in (12, 20):
        yield f"tiny: {pixels} pixels", scaled(image, pixels / face)
    tiny = scaled(head, 18 / face)
    yield "tiny, enlarged", tiny.resize(head.size, Image.Resampling.BICUBIC)
    yield "mosaic", tiny.resize(head.size, Image.Resampling.NEAREST)
    yield "blurred", head.filter(ImageFilter.GaussianBlur(0.06 * face))
    moved = uniform_filter1d(np.asarray(head, float), int(0.2 * face), axis=1)
    yield "moved", as_image(moved)
    mask = [*p[1:16], p[28]]
    for name, colour in (("blue", (150, 190, 215)), ("white", (235,) * 3), ("black", (25,) * 3)):
        yield f"mask, {name}", cloth(image, colour, mask)
    glasses = [circle(p[eye].mean(0), 0.95 * np.linalg.norm(p[39] - p[36])) for eye in EYES]
    yield "sunglasses", cloth(image, (22, 20, 20), *glasses)
    yield "sunglasses, brown", cloth(image, (75, 50, 35), *glasses)
    low, high = p[36:48].min(0) - 0.1 * face, p[36:48].max(0) + 0.1 * face
    yield "bar over the eyes", cloth(image, (0, 0, 0), rectangle(*low, *high))
    low, high = p[[2, 14, 29, 33]].min(0).astype(int), p[[2, 14, 29, 33]].max(0).astype(int)
    skin = np.asarray(image)[max(low[1], 0) : high[1], max(low[0], 0) : high[0]]
    hand = [p[3], p[31] - (0, 0.05 * face), p[35], p[13], p[10], p[6]]
    yield "hand over the mouth", cloth(image, 0.85 * np.median(skin, axis=(0, 1)), hand)
    yield "half behind something", cloth(image, (60, 90, 60), rectangle(p[27, 0], 0, width, height))
    gains = {"three stops under": 1 / 8, "dark": 1 / 400, "burnt out": 40.0}
    gains |= {
        "red lamp": (1.5, 0.4, 0.3),
        "blue lamp": (0.35, 0.5, 1.6),
        "green lamp": (0.4, 1.3, 0.4),
    }
    for name, gain in gains.items():
        yield name, exposed(image, gain)
    noise = np.random.default_rng(0).normal(60, 90, (head.height, head.width, 3))
    yield "noise", as_image(0.3 * np.asarray(head) + noise)
    yield "squeezed", head.resize((head.width // 2, head.height))
    yield "stretched", head.resize((head.width * 2, head.height))
    yield "negative film", ImageOps.invert(head)
    yield "two tones", head.convert("L").point(lambda v: 255 * (v > 110)).convert("RGB")
    yield "edges", head.convert("L").filter(ImageFilter.FIND_EDGES).convert("RGB")
    flipped, reach = image.copy(), 0.12 * face
    for part in (*EYES, slice(48, 60)):
        low, high = p[part].min(0) - reach / 3, p[part].max(0) + reach / 3
        box = [round(float(v)) for v in (*low, *high)]
        flipped.paste(ImageOps.flip(image.crop(box)), box[:2])
    yield "features upside down", flipped


def without_faces() -> Pictures:
    """Pictures of scikit-image: things, animals, a profile, faces of 25 pixels, and drawings."""
    names = "camera cat coffee coins brick grass gravel rocket retina moon clock horse page text"
    for name in (*names.split(), "hubble_deep_field"):
        values = np.asarray(getattr(skimage.data, name)())
        yield name, as_image(values * 255 if values.dtype == bool else values)
    cat = Image.fromarray(skimage.data.cat())
    yield "a cat's face", cat.crop((90, 20, 300, 230))
    yield "fur", cat.crop((250, 100, 400, 250))
    for number in (0, 7, 33, 60, 120, 140, 160, 180):  # the second hundred are no faces
        small = as_image(skimage.data.lfw_subset()[number] * 255)
        yield f"25 pixels, {number}", small
        yield f"25 pixels enlarged, {number}", small.resize((200, 200), Image.Resampling.BICUBIC)
    for number in range(8):
        yield f"drawing {number}", drawing(number)


def fair(image: Image.Image, landmarks: np.ndarray) -> Pictures:
    """One face in photos as people take them."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=35)
    yield "as it is", image
    yield "90 pixels", scaled(image, min(90 / np.ptp(landmarks, axis=0).max(), 1))
    yield "compressed", Image.open(file).convert("RGB")
    yield "a stop under", exposed(image, 0.5)
    yield "half a stop over", exposed(image, 1.4)
    yield "grey", image.convert("L").convert("RGB")
    yield "warm", exposed(image, (1.0, 0.85, 0.65))
    yield "mirrored", ImageOps.mirror(image)
    grey = dict(resample=Image.Resampling.BICUBIC, expand=True, fillcolor=(128,) * 3)
    yield "tilted", image.rotate(15, **grey)


EYES = slice(36, 42), slice(42, 48)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = [max(round(side * factor), 8) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS)


def as_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def exposed(image: Image.Image, gain: float | tuple[float, float, float]) -> Image.Image:
    """With `gain` times as much light, of all channels or of each."""
    light = srgb_to_linear(torch.tensor(np.asarray(image) / 255)) * torch.tensor(gain)
    return as_image(linear_to_srgb(light.clamp(0, 1)).numpy() * 255 + 0.5)


def circle(middle: np.ndarray, radius: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 40)
    return middle + radius * np.stack([np.cos(angles), 0.85 * np.sin(angles)], 1)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def cloth(image: Image.Image, colour, *outlines) -> Image.Image:
    """Something of that colour, with folds, grain and soft edges, within the outlines."""
    shape = Image.new("L", image.size)
    for outline in outlines:
        ImageDraw.Draw(shape).polygon([tuple(map(float, point)) for point in outline], fill=255)
    inside, random = np.asarray(shape) > 0, np.random.default_rng(0)
    columns = np.nonzero(inside.any(0))[0]
    size = max(np.ptp(columns), 4)
    folds = 1 + 0.25 * ((np.arange(image.width) - columns.mean()) / size)[None]
    for scale, strength in ((0.06, 0.16), (0.2, 0.3)):
        sigma = scale * size
        folds = folds + strength * sigma * gaussian_filter(random.normal(size=inside.shape), sigma)
    surface = np.multiply.outer(folds, colour) + random.normal(0, 3, (*inside.shape, 1))
    share = gaussian_filter(inside.astype(float), max(0.006 * size, 0.6))[..., None]
    return as_image(np.asarray(image) * (1 - share) + surface * share)


def drawing(seed: int, size: int = 300) -> Image.Image:
    """A face of ellipses and lines."""
    random, unit = np.random.default_rng(seed), size / 100
    image = Image.new("RGB", (size, size), tuple(random.integers(60, 255, 3).tolist()))
    pen = ImageDraw.Draw(image)
    line = dict(fill="black", width=int(unit))

    def ellipse(x: float, y: float, wide: float, high: float, **style) -> None:
        corners = np.array([x - wide, y - high, x + wide, y + high]) * unit
        pen.ellipse(corners.tolist(), **style)

    skin = ((255, 220, 60), (230, 180, 150), (140, 95, 70), (245, 245, 245))[seed % 4]
    ellipse(50, 50, 30 + random.uniform(-4, 4), 38, fill=skin, outline="black", width=int(unit))
    apart = random.uniform(11, 15)
    for x in (50 - apart, 50 + apart):
        ellipse(x, 42, 6, 4 + 2 * (seed % 2), fill="white", outline="black", width=2)
        ellipse(x, 42, 2.5, 2.5, fill=tuple(random.integers(0, 90, 3).tolist()))
        pen.line([(x - 7) * unit, 33 * unit, (x + 7) * unit, 32 * unit], **line)
    pen.line((np.array([50, 45, 46, 58, 52, 58]) * unit).tolist(), **line)
    pen.chord((np.array([38, 60, 62, 76]) * unit).tolist(), 0, 180, (180, 40, 50), "black")
    return image
