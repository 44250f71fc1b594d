"""What Pillow leaves open in a picture file: the largest page, a lost end, 10 bits in 16.

    data, image, note = largest_page(data, Image.open(io.BytesIO(data)), name)
    image, note = load_samples(data, image)

A note says, on part of a line, what was chosen; it is empty for an ordinary file. Notebook 10,
section 2.1.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
from jaxtyping import Int
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

from ..files.errors import FacereconError

WIDTH, HEIGHT, ORIENTATION, SUB_DIRECTORIES = 256, 257, 274, 330  # TIFF tags
MOST_PAGES = 1000  # that are looked at
WIDE = re.compile("(RGB|RGBA|RGBX);16[LBN]|LA;16B")  # Pillow's raw modes of 16-bit colours
END_OF_JPEG, NO_MARKER = b"\xff\xd9", bytes(range(254, 0, -1))


class PhotoError(FacereconError):
    """An unusable photo. The message is one line: which photo, what is wrong, what to do."""


def largest_page(data: bytes, first: Image.Image, name: str) -> tuple[bytes, Image.Image, str]:
    """The file with its largest page in front, that page, not yet decoded, and a note.

    The first page of a TIFF, as every camera's DNG, NEF, ARW and CR2 is one, may be a preview of
    another. Raises PhotoError where no page of half the largest one's pixels can be read.
    """
    if first.format != "TIFF":
        return data, first, ""
    pages = sorted(islice(_pages(data), MOST_PAGES), key=lambda page: -page[0] * page[1])
    most = max(first.width * first.height, *(w * h for w, h, _ in pages))
    if first.width * first.height == most:
        return data, first, ""
    small = f"the first is a preview of {first.width} x {first.height}"
    for width, height, offset in pages:
        if 2 * width * height < most:
            break
        with suppress(Exception):  # of a page of a rare kind
            moved = _with_first(data, offset)
            page = Image.open(io.BytesIO(moved))
            page.getexif().setdefault(ORIENTATION, first.getexif().get(ORIENTATION, 1))
            return moved, page, f"took its largest picture, {width} x {height}; {small}"
    width, height, _ = pages[0]
    raise PhotoError(
        f"{name}: its largest picture, {width} x {height}, cannot be read (is it a camera's RAW "
        f"file?), and {small}; save it as JPEG or PNG"
    )


def _pages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Width, height and place of each page, and of those below it; none from a damage on."""
    header = data[: 16 if data[2] == 43 else 8]  # 43: with places of 64 bits
    waiting, seen = [Directory(header).next], set()
    with suppress(Exception):
        while waiting:
            if (offset := waiting.pop(0)) in seen or not offset:
                continue
            seen.add(offset)
            directory, file = Directory(header), io.BytesIO(data)
            file.seek(offset)
            directory.load(file)
            below = directory.get(SUB_DIRECTORIES, ())
            waiting += [directory.next, *(below if isinstance(below, tuple) else (below,))]
            if WIDTH in directory and HEIGHT in directory:
                yield int(directory[WIDTH]), int(directory[HEIGHT]), offset


def _with_first(data: bytes, offset: int) -> bytes:
    """The TIFF file whose first page is the one at `offset`."""
    size = 8 if data[2] == 43 else 4
    place = offset.to_bytes(size, "big" if data[:2] == b"MM" else "little")
    return data[:size] + place + data[2 * size :]


def load_samples(data: bytes, image: Image.Image) -> tuple[Image.Image, str]:
    """The picture, decoded, and a note. Raises what the decoder raises.

    A JPEG may lack its end marker. Colours of 16 bits become 8, of the bits that they use.
    """
    tiles = list(image.tile)  # decoding empties the list
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        return _without_end(data), ""
    wide = image.mode in ("RGB", "RGBA") and any(WIDE.fullmatch(_raw_mode(t)) for t in tiles)
    high = np.asarray(image).astype(np.uint16) if wide else None
    if not wide or high[..., :3].max() >= 16:  # Pillow keeps the high byte
        return image, ""
    again = Image.open(io.BytesIO(data))
    again.tile = [tile._replace(args=_low_bytes(tile.args)) for tile in tiles]
    low = np.asarray(again)
    low = low[..., [1, 1, 1, 3]] if _raw_mode(tiles[0]) == "LA;16B" else low
    samples = high << 8 | low
    parts = [eight_bits(part) for part in (samples[..., :3], samples[..., 3:]) if part.size]
    image.paste(Image.fromarray(np.concatenate([part for part, _ in parts], -1)))
    return image, parts[0][1]


def _without_end(data: bytes) -> Image.Image:
    """A JPEG that lacks its end marker alone. Raises OSError where it lacks a part of a row too.

    What is missing is made up from what follows: so two endings tell whether anything is.
    """
    data = data.rstrip(b"\xff")  # half of the marker
    endings = (END_OF_JPEG, NO_MARKER + END_OF_JPEG)
    one, other = (Image.open(io.BytesIO(data + ending)) for ending in endings)
    if one.tobytes() != other.tobytes():
        raise OSError("rows at its end are missing")
    return one


def _raw_mode(tile) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args and tile.args[0])


def _low_bytes(args: str | tuple) -> str | tuple:
    """A decoder's arguments with the order of bytes exchanged: it then keeps the low byte."""
    if isinstance(args, tuple):
        return _low_bytes(args[0]), *args[1:]
    native = "L" if sys.byteorder == "little" else "B"
    other = "B" if args[-1].replace("N", native) == "L" else "L"
    return "RGBA" if args == "LA;16B" else args[:-1] + other  # grey and alpha: all four bytes


def eight_bits(samples: Int[np.ndarray, "*any"]) -> tuple[np.ndarray, str]:
    """Samples below 65536 as 8 bits, the high ones of the 8, 10, 12 or 16 that they use; a note."""
    most = int(samples.max())
    bits = next(bits for bits in (8, 10, 12, 16) if most < 1 << bits)
    note = f"its 16-bit samples never pass {most}: read as of {bits} bits" if bits < 16 else ""
    return (samples.astype(np.uint16) >> (bits - 8)).astype(np.uint8), note
