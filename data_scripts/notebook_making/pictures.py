"""Makes the pictures of a notebook small: 256 colours where the eye sees no difference.

Serves `make notebooks`.
"""

import io

import numpy as np
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree

SHRINK_ABOVE = 15_000  # bytes of a PNG


def smaller_png(png: bytes) -> bytes:
    """The picture in 256 colours if it looks the same so; animations are kept as they are.

    Each pixel takes the nearest colour; a photo, where that shows as bands, is dithered instead.
    """
    image = Image.open(io.BytesIO(png))
    if len(png) <= SHRINK_ABOVE or getattr(image, "n_frames", 1) > 1:
        return png
    smaller = whole = image.convert("RGBA")
    if whole.getextrema()[3][0] == 255:
        smaller = whole = whole.convert("RGB")
        for dither, limits in ((False, (1.5, 8.0)), (True, (3.0, 16.0))):
            few = in_palette(whole, dither)
            if looks_alike(whole, few.convert("RGB"), *limits):
                smaller = few
                break
    out = io.BytesIO()
    smaller.save(out, format="PNG", optimize=True)
    return min(png, out.getvalue(), key=len)


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
