"""A photo's pixels: read from any common file, and upright.

    photo = load_image("me.jpg")                 # upright RGB, or one clear line of refusal
    photo.pixels                                 # uint8 (H, W, 3)

The EXIF orientation is applied; an embedded colour profile (Display P3 of phones, CMYK of print) is
converted to sRGB; transparency is laid on white; 16-bit samples keep the high ones of the bits that
they use; an animation gives its first picture, a TIFF its largest. Notebook 10, section 2.1.
"""

import hashlib
import io
import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..files.errors import one_line
from .decoding import PhotoError, eight_bits, largest_page, load_samples

MAX_MEGAPIXELS = 50.0
RAW_STARTS = {b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM", b"FOVb"}
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION = 258, 262, 284  # TIFF tags

Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass
class Photo:
    """Upright sRGB `pixels` (H, W, 3) uint8, and the `name` that messages and results give it."""

    pixels: Pixels
    name: str = "photo"
    path: Path | None = None
    note: str = ""  # on a choice that reading made, for the user; part of a line
    sha256: str | None = None  # of the file

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]


def load_image(
    source: str | Path | bytes, name: str | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Photo:
    """Read a picture file, or the bytes of one (an upload), into an upright sRGB photo.

    The size is checked on the file's header, before a pixel is decoded. Raises `PhotoError`, one
    line, for anything that is not a usable picture.
    """
    if isinstance(source, bytes):
        path, name, data = None, name or "the uploaded photo", source
    else:
        path = Path(source)
        name, data = name or path.name or str(path), _read_bytes(path)
    label = str(path or name)
    if not data:
        raise PhotoError(f"{label}: the file is empty (0 bytes); save the photo again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata
        pixels, note = _decode(data, label, max_megapixels)
    return Photo(pixels, name, path, note, hashlib.sha256(data).hexdigest())


def _read_bytes(path: Path) -> bytes:
    if os.path.isdir(path):
        raise PhotoError(f"{path}: is a folder; name one photo in it")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for for ever
        raise PhotoError(f"{path}: is not a regular file; name a JPEG or PNG photo")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        problem = "there is no such file; check the name"
    except PermissionError:
        problem = "permission to read it is denied; change its rights"
    except (OSError, ValueError) as error:  # a name with a null byte, a disk that fails
        reason = getattr(error, "strerror", None) or error
        problem = f"cannot be read ({reason}); copy it and try again"
    raise PhotoError(f"{path}: {problem}")


def _decode(data: bytes, name: str, max_megapixels: float) -> tuple[Pixels, str]:
    try:
        data, image, page = largest_page(data, Image.open(io.BytesIO(data)), name)
        size, pixels = f"{image.width} x {image.height}, ", image.width * image.height
    except Image.DecompressionBombError as error:  # Pillow's own, higher limit comes first
        image, size, pixels = None, "", int(re.search(r"\d+", str(error)).group())
    except UnidentifiedImageError:
        raise PhotoError(f"{name}: is not an image that can be read{_hint(data)}") from None
    except PhotoError:
        raise
    except Exception as error:  # decoders of broken headers raise types of every kind
        raise PhotoError(
            f"{name}: is not a readable image ({one_line(error)}); save it as PNG"
        ) from None
    if image is None or pixels > max_megapixels * 1e6:
        raise PhotoError(
            f"{name}: has {size}{pixels / 1e6:.1f} megapixels, more than the limit of "
            f"{max_megapixels:g}; make it smaller first"
        )
    try:
        image, samples = load_samples(data, image)
        pixels, grey = _to_rgb(image, name)
        return pixels, "; ".join(filter(None, (page, samples, grey)))
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError(
            f"{name}: the {image.format} file is damaged or cut short, or of a rare kind "
            f"({one_line(error)}); copy it again, or save it as PNG"
        ) from None


def _hint(data: bytes) -> str:
    """The kind of a file that Pillow cannot open, from its first bytes."""
    if data[:4] in RAW_STARTS or data[4:11] == b"ftypcrx" or data[:8] == b"FUJIFILM":
        return ": it is a camera's RAW file; save it as JPEG or PNG"
    if data[4:8] == b"ftyp":
        return ": it is a HEIC photo or a video; save it as JPEG or PNG"
    if data[:4] == b"%PDF":
        return ": it is a PDF; save the photo in it as JPEG or PNG"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in data[:512]):
        return ": it holds text, whatever its name says; give a JPEG or PNG photo"
    return "; give a JPEG or PNG photo"


def _to_rgb(image: Image.Image, name: str) -> tuple[Pixels, str]:
    """Decoded picture of any mode -> upright uint8 RGB (H, W, 3), and a note."""
    note, profile = "", image.info.get("icc_profile")
    tags = image.tag_v2 if image.format == "TIFF" else {}
    wide = max(tags.get(BITS_PER_SAMPLE, (8,))) > 8
    if wide and tags.get(PLANAR_CONFIGURATION) == 2 and len(image.getbands()) > 1:
        # Pillow interleaves their bytes wrongly
        raise PhotoError(f"{name}: is a 16-bit TIFF in separate planes; save it as PNG")
    with suppress(Exception):  # a photo whose EXIF block is broken is still a photo, as it lies
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image, note = _grey_from_wide(image, name)
        if wide and tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero
            image = ImageOps.invert(image)
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert(image.mode.upper())
    alpha = None
    if image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # broken or foreign
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image), note


def _grey_from_wide(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Grey with 16-bit (or 32-bit, within 16-bit range) samples -> 8 bits, and a note.

    Pillow's own conversion clips at 255 instead, which turns almost every pixel white.
    """
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise PhotoError(
            f"{name}: has 32-bit samples from {values.min():g} to {values.max():g}, whose white is "
            "unknown; save it with 8 or 16 bits"
        )
    grey, note = eight_bits(values)
    return Image.fromarray(grey), note
