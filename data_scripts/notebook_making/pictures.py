"""Makes the pictures of a notebook small where the eye sees no difference.

Serves `make notebooks`.
"""

import io

import numpy as np
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree

SHRINK_ABOVE = 15_000  # bytes of a PNG
JPEG_QUALITY, JPEG_GAIN = 90, 0.8  # taken where it is below that share of the PNG


def smaller(png: bytes) -> tuple[str, bytes]:
    """The picture's kind ("image/png", "image/jpeg") and data; animations are kept as they are.

    In 256 colours where it looks the same so: each pixel takes the nearest colour; a photo, where
    that shows as bands, is dithered instead. As a JPEG where that is much smaller.
    """
    image = Image.open(io.BytesIO(png))
    if len(png) <= SHRINK_ABOVE or getattr(image, "n_frames", 1) > 1:
        return "image/png", png
    few = whole = image.convert("RGBA")
    if opaque := whole.getextrema()[3][0] == 255:
        few = whole = whole.convert("RGB")
        for dither, limits in ((False, (1.5, 8.0)), (True, (3.0, 16.0))):
            palette = in_palette(whole, dither)
            if looks_alike(whole, palette.convert("RGB"), *limits):
                few = palette
                break
    least = min(png, _file(few, "PNG", optimize=True), key=len)
    if opaque:
        jpeg = _file(whole, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
        if len(jpeg) < JPEG_GAIN * len(least):
            return "image/jpeg", jpeg
    return "image/png", least


def _file(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def in_palette(image: Image.Image, dither: bool) -> Image.Image:
    """The picture in 256 colours; its eight most frequent (the paper, the frame) stay exact."""
    r, g, b = np.moveaxis(np.asarray(image, dtype=np.int64), -1, 0)
    codes, place, counts = np.unique(r << 16 | g << 8 | b, return_inverse=True, return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    frequent = np.argsort(-counts, kind="stable")[:8]
    sample = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    rest = sample.quantize(256 - len(frequent), method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    more = np.array(rest.getpalette()).reshape(-1, 3)
    entries = np.concatenate([colours[frequent], more])[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette(entries.reshape(-1).tolist())
    nearest = cKDTree(entries).query(colours)[1].astype(np.uint8)
    if dither:
        index = np.array(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
        exact = (entries[nearest] == colours).all(axis=-1)[place].reshape(index.shape)
        index = np.where(exact, nearest[place].reshape(index.shape), index)  # Pillow's is off by 4
    else:
        index = nearest[place].reshape(image.height, image.width)
    few = Image.fromarray(index)
    few.putpalette(palette.getpalette())
    return few


def looks_alike(one: Image.Image, other: Image.Image, mean: float, most: float) -> bool:
    """Whether two pictures are the same to the eye, which averages over neighbouring pixels.

    mean: root mean square difference, of 255. most: of all but a thousandth of the pixels.
    """
    blurred = (np.asarray(i.filter(ImageFilter.GaussianBlur(1.5)), float) for i in (one, other))
    error = np.abs(next(blurred) - next(blurred)).max(axis=-1)
    return bool(np.sqrt((error**2).mean()) < mean and np.quantile(error, 0.999) < most)
