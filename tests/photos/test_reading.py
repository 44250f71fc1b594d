"""Photos are read right or refused in one line."""

import io
import os
import struct
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageCms

from facerecon_lib.photos.reading import PhotoError, load_image


def colours():
    """Six by four pixels whose four corners differ: any turn or flip shows."""
    pixels = np.full((4, 6, 3), 128, np.uint8)
    pixels[0, 0], pixels[0, -1] = (250, 0, 0), (0, 250, 0)
    pixels[-1, 0], pixels[-1, -1] = (0, 0, 250), (250, 250, 0)
    return pixels


def chunk(name, data):
    crc = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + crc


def png(width, height, bits, colour_type, rows):
    """Bytes of a PNG; Pillow cannot write 16 bits for all colour types."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Reading ----------------------------------------------------------------------------------------


def test_a_plain_png_is_read_as_it_is(tmp_path):
    path = tmp_path / "me.png"
    Image.fromarray(colours()).save(path)
    photo = load_image(path)
    assert (photo.name, photo.path, photo.pixels.dtype) == ("me.png", path, np.uint8)
    assert (photo.width, photo.height) == (6, 4)
    np.testing.assert_array_equal(photo.pixels, colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_undone(orientation):
    p = colours()
    turns = [p, p[:, ::-1], p[::-1, ::-1], p[::-1], p.transpose(1, 0, 2), np.rot90(p, 1)]
    turns += [p[::-1, ::-1].transpose(1, 0, 2), np.rot90(p, -1)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(turns[orientation - 1])
    data = saved(Image.fromarray(stored), "PNG", exif=exif)
    np.testing.assert_array_equal(load_image(data).pixels, colours())


def test_a_broken_exif_block_does_not_lose_the_photo():
    data = saved(Image.fromarray(colours()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")
    assert load_image(data).pixels.shape == (4, 6, 3)


RAMP = np.linspace(0, 65535, 6).astype(np.uint16)[None].repeat(4, 0)


@pytest.mark.parametrize(("colour_type", "planes"), [(0, "r"), (2, "rgb"), (4, "ra"), (6, "rgba")])
def test_16_bit_png_keeps_its_high_byte(colour_type, planes):
    layers = {"r": RAMP, "g": RAMP // 2, "b": RAMP[:, ::-1], "a": np.full_like(RAMP, 65535)}
    samples = np.stack([layers[plane] for plane in planes], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    pixels = load_image(png(6, 4, 16, colour_type, rows)).pixels
    expected = [layers[plane] >> 8 for plane in (planes[:3] if "g" in planes else "rrr")]
    np.testing.assert_allclose(pixels.astype(int), np.stack(expected, -1), atol=1)


@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bit_grey_tiff_keeps_its_high_byte(big_endian):
    mode, order = ("I;16B", ">u2") if big_endian else ("I;16", "<u2")
    image = Image.frombytes(mode, (6, 4), RAMP.astype(order).tobytes())
    pixels = load_image(saved(image, "TIFF")).pixels
    np.testing.assert_array_equal(pixels, (RAMP >> 8)[..., None].repeat(3, -1))


def test_16_bit_rgb_tiff_keeps_its_high_byte_and_planes_are_refused():
    tifffile = pytest.importorskip("tifffile")
    samples = np.stack([RAMP, RAMP // 2, RAMP[:, ::-1]], -1)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb")
    np.testing.assert_array_equal(load_image(buffer.getvalue()).pixels, samples >> 8)
    buffer = io.BytesIO()
    planes = np.ascontiguousarray(samples.transpose(2, 0, 1))
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(PhotoError, match="separate planes"):
        load_image(buffer.getvalue())


def test_32_bit_samples_are_refused_by_their_range():
    data = saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF")
    with pytest.raises(PhotoError, match="32-bit samples from 0 to 65535"):
        load_image(data)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_the_same_rgb(mode):
    grey = np.zeros((4, 6, 3), np.uint8)
    grey[:, 3:] = 255
    image = Image.fromarray(grey).convert(mode)
    kind = "JPEG" if mode == "YCbCr" else "TIFF" if mode == "CMYK" else "PNG"
    pixels = load_image(saved(image, kind)).pixels
    assert pixels.shape == (4, 6, 3)
    np.testing.assert_allclose(pixels.astype(int), grey, atol=12 if mode == "YCbCr" else 0)


def test_transparency_is_laid_on_white_that_of_a_palette_too():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, (0, 128, 255)
    pixels = load_image(saved(Image.fromarray(rgba), "PNG")).pixels[0].astype(int)
    np.testing.assert_allclose(pixels, [(255,) * 3, (227, 127, 127), (200, 0, 0)], atol=1)
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    pixels = load_image(saved(image, "PNG", transparency=0)).pixels[0]
    np.testing.assert_array_equal(pixels, [(255, 255, 255), (40, 50, 60)])


def test_an_embedded_profile_is_converted_to_srgb():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = load_image(saved(Image.fromarray(colours()), "PNG", icc_profile=srgb)).pixels
    np.testing.assert_allclose(plain.astype(int), colours(), atol=1)
    # The same file with its red and blue primaries exchanged must come out exchanged.
    data = bytearray(srgb)
    starts = range(132, 132 + 12 * struct.unpack(">I", data[128:132])[0], 12)
    tags = {bytes(data[start : start + 4]): start + 4 for start in starts}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    swapped = load_image(saved(Image.fromarray(colours()), "PNG", icc_profile=bytes(data))).pixels
    np.testing.assert_allclose(swapped.astype(int), colours()[..., ::-1], atol=2)
    foreign = load_image(saved(Image.fromarray(colours()), "PNG", icc_profile=profile.tobytes()))
    np.testing.assert_array_equal(foreign.pixels, colours())


def test_an_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue", "lime")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_image(data).pixels, np.asarray(frames[0]))


NOISE = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)


def with_preview(**tags):
    """A TIFF whose first page is a preview of its second."""
    photo = Image.fromarray(NOISE)
    return saved(photo.resize((14, 10)), "TIFF", save_all=True, append_images=[photo], **tags)


@pytest.mark.parametrize(
    "tags", [dict(tiffinfo={254: 1}), dict(compression="tiff_lzw"), dict(big_tiff=True)]
)
def test_the_largest_page_of_a_tiff_is_taken_and_said(tags):
    photo = load_image(with_preview(**tags))
    np.testing.assert_array_equal(photo.pixels, NOISE)
    assert photo.note == "took its largest picture, 56 x 40; the first is a preview of 14 x 10"


def test_the_largest_page_may_lie_below_the_first_as_in_raw_files_and_be_turned_as_that_is():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=">") as file:
        small = dict(subfiletype=1, subifds=1, extratags=[(274, "H", 1, 3)])
        file.write(np.ascontiguousarray(NOISE[::4, ::4]), photometric="rgb", **small)
        file.write(NOISE, photometric="rgb")
    np.testing.assert_array_equal(load_image(buffer.getvalue()).pixels, NOISE[::-1, ::-1])


def test_a_tiff_whose_largest_page_cannot_be_read_is_refused():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(np.ascontiguousarray(NOISE[::4, ::4]), photometric="rgb", subifds=1)
        file.write(NOISE[..., 0].astype(np.uint16), photometric="cfa")
    with pytest.raises(PhotoError, match=r"56 x 40, cannot be read .*RAW.*preview of 14 x 10"):
        load_image(buffer.getvalue(), "me.nef")


def test_pages_of_one_size_give_the_first_and_no_note():
    pages = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    photo = load_image(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(photo.pixels, np.asarray(pages[0]))
    assert photo.note == ""


@pytest.mark.parametrize("kind", [{}, dict(progressive=True), dict(subsampling=0, quality=95)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(kind, mode):
    data = saved(Image.fromarray(NOISE).convert(mode), "JPEG", **kind)
    whole = load_image(data).pixels
    for short in (data[:-2], data[:-1], data[:-2] + bytes(700)):
        np.testing.assert_array_equal(load_image(short).pixels, whole)
    for size in (len(data) - 200, len(data) * 3 // 4, len(data) // 2):
        with pytest.raises(PhotoError, match=r"cut short.*\(rows at its end are missing\)"):
            load_image(data[:size])


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize(("colour_type", "planes"), [(0, "r"), (2, "rgb"), (4, "ra"), (6, "rgba")])
def test_samples_of_few_bits_in_16_are_read_as_of_these(bits, colour_type, planes):
    ramp = RAMP >> (16 - bits)
    layers = {"r": ramp, "g": ramp // 2, "b": ramp[:, ::-1], "a": np.full_like(RAMP, 65535)}
    samples = np.stack([layers[plane] for plane in planes], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    photo = load_image(png(6, 4, 16, colour_type, rows))
    expected = [layers[plane] >> (bits - 8) for plane in (planes[:3] if "g" in planes else "rrr")]
    np.testing.assert_array_equal(photo.pixels, np.stack(expected, -1))
    assert photo.note == f"its 16-bit samples never pass {2**bits - 1}: read as of {bits} bits"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_12_bits_in_a_16_bit_tiff_of_colours_are_read_as_such(order, compression):
    tifffile = pytest.importorskip("tifffile")
    samples = np.stack([RAMP, RAMP // 2, RAMP[:, ::-1]], -1) >> 4
    buffer, options = io.BytesIO(), dict(compression=compression, byteorder=order)
    tifffile.imwrite(buffer, samples, photometric="rgb", **options)
    np.testing.assert_array_equal(load_image(buffer.getvalue()).pixels, samples >> 4)


# Refusing ---------------------------------------------------------------------------------------


def bad_inputs(folder):
    whole = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    png = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "PNG")
    files = {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"Dear photo,\nI am a letter.\n", "holds text"),
        "noise.png": (bytes(range(256)) * 9, "is not an image"),
        "cut.jpg": (whole[: len(whole) // 2], "damaged or cut short"),
        "cut.png": (png[: len(png) // 2], "damaged or cut short"),
        "head.png": (png[:20], "not a readable image"),
        "none.gif": (b"GIF89a\0\0\0\0\0\0\0;", "is not an image"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        "camera.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
        "camera.raf": (b"FUJIFILMCCD-RAW 0201FF", "RAW"),
        "paper.pdf": (b"%PDF-1.7\n", "PDF"),
    }
    for name, (data, message) in files.items():
        (folder / name).write_bytes(data)
        yield folder / name, message
    yield folder, "is a folder"
    yield folder / "missing.jpg", "no such file"
    yield folder / ("long" * 200 + ".jpg"), "cannot be read"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        yield folder / "pipe.jpg", "not a regular file"


def test_every_bad_file_is_refused_in_one_line_that_names_it(tmp_path):
    for path, message in bad_inputs(tmp_path):
        with pytest.raises(PhotoError, match=message) as caught:
            load_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", mock.Mock(side_effect=PermissionError(13, "denied")))
    with pytest.raises(PhotoError, match="permission to read it is denied"):
        load_image(tmp_path / "secret.jpg")


@pytest.mark.parametrize(
    ("side", "megapixels"), [(7072, "50.0"), (10000, "100.0"), (40000, "1600.0")]
)
def test_too_many_megapixels_are_refused_before_a_pixel_is_decoded(side, megapixels, monkeypatch):
    decode = mock.Mock(side_effect=AssertionError("decoded a photo that is too large"))
    monkeypatch.setattr(Image.Image, "load", decode)
    with pytest.raises(PhotoError, match=f"big.png.*{megapixels} megapixels.*limit of 50"):
        load_image(png(side, side, 8, 2, b""), name="big.png")


def test_the_limit_itself_is_allowed():
    data = saved(Image.new("1", (100, 100)), "PNG")
    assert load_image(data, max_megapixels=0.01).pixels.shape[:2] == (100, 100)
    with pytest.raises(PhotoError):
        load_image(data, max_megapixels=0.0099)
