"""A photo's pixels: read from any common file, and cut to the aligned crop.

    photo = load_image("me.jpg")                 # upright RGB, or one clear line of refusal
    photo.pixels                                 # uint8 (H, W, 3)
    crop = align(photo.pixels, landmarks)        # 224 x 224, float in [0, 1]

What is decided here: the EXIF orientation is applied; an embedded colour profile (Display P3 of
phones, CMYK of print) is converted to sRGB; transparency is laid on white; 16-bit samples keep
their high byte; of an animation or a stack of pages the first one is taken.
"""

import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..files.errors import FacereconError, one_line

MAX_MEGAPIXELS = 50.0
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif"}
PHOTO_SUFFIXES |= {".tiff", ".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm"}
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION = 258, 262, 284  # TIFF tags


class PhotoError(FacereconError):
    """An unusable photo. The message is one line: which photo, what is wrong, what to do."""


@dataclass
class Photo:
    """Upright sRGB `pixels` (H, W, 3) uint8, and the `name` that messages and results give it."""

    pixels: UInt8[np.ndarray, "height width 3"]
    name: str = "photo"
    path: Path | None = None

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6


@dataclass
class Crop:
    """The aligned face: `image` in [0, 1]; `valid` is 1 on the photo, 0 where its edge repeats."""

    image: Float[Tensor, "1 3 size size"]
    valid: Float[Tensor, "1 1 size size"]
    landmarks: Float[Tensor, "1 68 2"]  # crop pixels
    matrix: Float[Tensor, "2 3"]  # photo pixels -> crop pixels


def load_image(
    source: str | Path | bytes, name: str | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Photo:
    """Read a picture file, or the bytes of one (an upload), into an upright sRGB photo.

    The size is checked on the file's header, before a pixel is decoded. Raises `PhotoError`, one
    line, for anything that is not a usable picture: missing, a folder, empty, not an image, cut
    short, without pixels, larger than `max_megapixels`, or with samples wider than 16 bits.
    """
    if isinstance(source, bytes):
        path, name, data = None, name or "the uploaded photo", source
    else:
        path = Path(source)
        name = name or path.name or str(path)
        data = _read_bytes(path)
    if not data:
        raise PhotoError(f"{path or name}: the file is empty (0 bytes); save the photo again")
    return Photo(_decode(data, str(path or name), max_megapixels), name, path)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise PhotoError(f"{path}: is a folder; name one photo in it")
        if path.exists() and not path.is_file():  # reading a pipe or a device would wait for ever
            raise PhotoError(f"{path}: is not a regular file; name a JPEG or PNG photo")
        return path.read_bytes()
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"{path}: there is no such file; check the name") from None
    except PermissionError:
        raise PhotoError(f"{path}: permission to read it is denied; change its rights") from None
    except (OSError, ValueError) as error:  # a name with a null byte, a disk that fails
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{path}: cannot be read ({reason}); copy it and try again") from None


def _decode(data: bytes, name: str, max_megapixels: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError as error:  # Pillow's own, higher limit comes first
            pixels = int(re.search(r"\d+", str(error)).group())
            raise _too_large(name, pixels / 1e6, max_megapixels) from None
        except UnidentifiedImageError:
            raise PhotoError(f"{name}: is not an image that can be read{_hint(data)}") from None
        except Exception as error:  # decoders of broken headers raise types of every kind
            raise PhotoError(f"{name}: is not a readable image ({one_line(error)})") from None
        width, height = image.size
        if width * height > max_megapixels * 1e6:
            raise _too_large(name, width * height / 1e6, max_megapixels, f"{width} x {height}, ")
        try:
            image.load()
            return _to_rgb(image, name)
        except PhotoError:
            raise
        except Exception as error:
            raise PhotoError(
                f"{name}: the {image.format} file is damaged or cut short ({one_line(error)}); "
                "copy or save it again"
            ) from None


def _too_large(name: str, megapixels: float, limit: float, size: str = "") -> PhotoError:
    return PhotoError(
        f"{name}: has {size}{megapixels:.1f} megapixels, more than the limit of {limit:g}; "
        "make it smaller first"
    )


def _hint(data: bytes) -> str:
    """What the first bytes say that the file is, when it is not a picture that Pillow knows."""
    if data[4:8] == b"ftyp":
        return ": it is a HEIC photo or a video; save it as JPEG or PNG"
    if data[:4] == b"%PDF":
        return ": it is a PDF; save the photo in it as JPEG or PNG"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in data[:512]):
        return ": it holds text, whatever its name says; give a JPEG or PNG photo"
    return "; give a JPEG or PNG photo"


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Decoded picture of any mode -> upright uint8 RGB (H, W, 3)."""
    profile = image.info.get("icc_profile")
    wide_tiff = image.format == "TIFF" and max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) > 8
    planes = image.tag_v2.get(PLANAR_CONFIGURATION) == 2 if wide_tiff else False
    if planes and len(image.getbands()) > 1:  # Pillow interleaves their bytes wrongly
        raise PhotoError(f"{name}: is a 16-bit TIFF in separate planes; save it as PNG")
    white_is_zero = wide_tiff and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    with suppress(Exception):  # a photo whose EXIF block is broken is still a photo, as it lies
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _grey_from_wide(image, name)
        image = ImageOps.invert(image) if white_is_zero else image
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert(image.mode.upper())
    alpha = None
    if image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    image = _to_srgb(image, profile)
    if image.mode == "LAB":
        raise PhotoError(f"{name}: is in CIELAB colours; save it as RGB")
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image, dtype=np.uint8)


def _grey_from_wide(image: Image.Image, name: str) -> Image.Image:
    """Grey with 16-bit (or 32-bit, within 16-bit range) samples -> 8 bits, keeping the high byte.

    Pillow's own conversion clips at 255 instead, which turns almost every pixel white.
    """
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise PhotoError(
            f"{name}: has 32-bit samples from {values.min():g} to {values.max():g}, whose white is "
            "unknown; save it with 8 or 16 bits"
        )
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded colour profile where there is one that fits the picture's mode."""
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # broken or foreign profile
        return image


# The aligned crop -------------------------------------------------------------------------------


def align(
    pixels: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "68 2"],
    size: int = 224,
    margin: float = 1.3,
) -> Crop:
    """Square crop of `margin` times the larger side of the landmarks' box, scaled to `size`.

    No roll is taken out: the pose's rotation carries it. Where the crop leaves the photo its edge
    is repeated and `valid` is 0. Shrinking averages, so nothing aliases. Raises `ValueError` for
    landmarks that are not finite or span no area.
    """
    points = torch.as_tensor(landmarks, dtype=torch.float64)
    low, high = points.amin(0), points.amax(0)
    side = float((high - low).max()) * margin
    if not (np.isfinite(side) and side > 0):
        raise ValueError(
            f"landmarks span {side:g} pixels: expected 68 finite points, not all equal"
        )
    scale = size / side
    corner = (low + high) / 2 - side / 2
    matrix = torch.tensor(
        [[scale, 0.0, -scale * corner[0]], [0.0, scale, -scale * corner[1]]], dtype=torch.float32
    )
    # From here on the rounded matrix is the truth, for image and points alike.
    left, top = crop_to_photo(torch.zeros(2, dtype=torch.float64), matrix).tolist()
    step = 1.0 / float(matrix[0, 0])
    height, width = pixels.shape[:2]
    rows, first_row = _sampling_weights(top, step, size, height)
    columns, first_column = _sampling_weights(left, step, size, width)
    used = pixels[first_row:, first_column:][: rows.shape[1], : columns.shape[1]]
    channels = [torch.from_numpy(used[..., c].astype(np.float32)) / 255 for c in range(3)]
    image = torch.stack([rows @ channel @ columns.T for channel in channels])
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * step
    inside_y = (centres + top > 0) & (centres + top < height)
    inside_x = (centres + left > 0) & (centres + left < width)
    valid = (inside_y[:, None] & inside_x).float()
    mapped = photo_to_crop(points, matrix).float()
    return Crop(image.clamp(0, 1)[None], valid[None, None], mapped[None], matrix)


def _sampling_weights(
    start: float, step: float, size: int, length: int
) -> tuple[Float[Tensor, "size used"], int]:
    """Weights that resample one axis, and the first source pixel that they refer to.

    Output pixel i is centred at start + (i + 0.5) step. Its filter is a triangle as wide as the
    coarser of the two grids: linear interpolation when enlarging, an average when shrinking.
    Source pixels outside the photo fall onto its border pixel.
    """
    centres = start + (np.arange(size) + 0.5) * step
    reach = max(step, 1.0)
    taps = np.floor(centres - reach)[:, None] + np.arange(int(2 * reach) + 3)
    offsets = taps + 0.5 - centres[:, None]
    weights = np.clip(1 - abs(offsets) / reach, 0, None)
    # A sampled triangle is up to 0.03 pixel off centre: tilt it so that ramps come out exact.
    first_moment, second_moment = ((weights * offsets**k).sum(1, keepdims=True) for k in (1, 2))
    weights *= 1 - offsets * first_moment / np.maximum(second_moment, 1e-12)
    weights /= weights.sum(1, keepdims=True)
    inside = np.clip(taps, 0, length - 1).astype(np.int64)
    first = int(inside.min())
    matrix = np.zeros((size, int(inside.max()) - first + 1))
    np.add.at(matrix, (np.arange(size)[:, None], inside - first), weights)
    return torch.from_numpy(matrix).float(), first


def photo_to_crop(
    points: Float[Tensor, "*any 2"], matrix: Float[Tensor, "2 3"]
) -> Float[Tensor, "*any 2"]:
    """Photo pixels -> crop pixels, `points` as tensor or array; computed in double precision."""
    points = torch.as_tensor(points)
    linear = matrix.to(points.device, torch.float64)
    return (points.double() @ linear[:, :2].T + linear[:, 2]).to(points.dtype)


def crop_to_photo(
    points: Float[Tensor, "*any 2"], matrix: Float[Tensor, "2 3"]
) -> Float[Tensor, "*any 2"]:
    """Crop pixels -> photo pixels: the inverse of `photo_to_crop`."""
    points = torch.as_tensor(points)
    linear = matrix.to(points.device, torch.float64)
    inverse = torch.linalg.inv(linear[:, :2])
    return ((points.double() - linear[:, 2]) @ inverse.T).to(points.dtype)
