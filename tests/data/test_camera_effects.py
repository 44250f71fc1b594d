"""Blur, tone curve and JPEG do to a batch what scipy, arithmetic and Pillow do to each picture."""

import io
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from facerecon_lib.data.rendered.camera_effects import blur, jpeg, tone_curve
from facerecon_lib.photos.detection import sample_photo


@lru_cache
def photo() -> Tensor:
    """(1, 3, 160, 192) of the bundled photo, the face in it."""
    cut = sample_photo().pixels[100:260, 120:312]
    return torch.from_numpy(cut.copy()).permute(2, 0, 1)[None].float() / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def pillow(image: Tensor, quality: int) -> Tensor:
    """Through a real file, colours at full resolution."""
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255


def each(*values: float) -> Tensor:
    return torch.tensor(values)


# Blur -------------------------------------------------------------------------------------------


@given(st.floats(0.05, 2.5), st.integers(1, 7))
@settings(max_examples=15)
def test_blur_is_a_gaussian(sd, reach):
    image = photo()[:, :, :24, :31]
    ours = blur(image, each(sd), reach)[0]
    for a, b in zip(ours, image[0], strict=True):
        theirs = gaussian_filter(b.double().numpy(), sd, mode="nearest", radius=reach)
        np.testing.assert_allclose(a.numpy(), theirs, atol=2e-6)


def test_no_blur_leaves_a_picture_as_it_is():
    assert torch.equal(blur(photo(), each(0.0)), photo())


def test_blur_keeps_the_total_light_away_from_the_edges():
    image = torch.zeros(2, 1, 32, 32)
    image[:, :, 8:24, 8:24] = torch.rand(2, 1, 16, 16)
    soft = blur(image, each(0.8, 2.2))
    torch.testing.assert_close(soft.sum((1, 2, 3)), image.sum((1, 2, 3)))
    assert (soft.var((1, 2, 3)) < image.var((1, 2, 3))).all()
    even = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(blur(even, each(2.0)).max(), torch.tensor(0.3))


def test_blur_leaves_its_argument_alone():
    image = photo().clone()
    blur(image, each(1.0))
    assert torch.equal(image, photo())


# Tone curve -------------------------------------------------------------------------------------


@given(st.floats(0.4, 2.5), st.floats(0, 1.8))
@settings(max_examples=15)
def test_the_tone_curve_is_a_power_then_a_distance_from_grey(gamma, saturation):
    image = photo()[:, :, ::16, ::16]
    x = image.double().numpy() ** gamma
    grey = (np.array([0.299, 0.587, 0.114])[:, None, None] * x).sum(1, keepdims=True)
    expected = np.clip(grey + saturation * (x - grey), 0, 1)
    found = tone_curve(image, each(gamma), each(saturation))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_tone_curve_at_rest_and_at_its_ends():
    image = photo()
    torch.testing.assert_close(tone_curve(image, each(1.0), each(1.0)), image)
    grey = tone_curve(image, each(1.0), each(0.0))
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    torch.testing.assert_close(tone_curve(ends, each(0.7), each(1.5)), ends)
    assert torch.equal(image, photo())  # nothing in place
    torch.testing.assert_close(tone_curve(2 * ends - 0.5, each(0.5), each(1.0)), ends)  # clamped


# JPEG -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [10, 25, 50, 75, 95])
def test_jpeg_loses_what_pillows_files_lose(quality):
    ours, theirs = jpeg(photo(), each(quality)), pillow(photo(), quality)
    assert abs(psnr(ours, photo()) - psnr(theirs, photo())) < 0.5
    assert psnr(ours, theirs) > psnr(ours, photo()) + 3  # and loses the same
    torch.testing.assert_close(ours.mean((2, 3)), photo().mean((2, 3)), atol=0.005, rtol=0)


def test_jpeg_of_quality_100_only_rounds():
    ours = jpeg(photo(), each(100.0))
    assert (ours - photo()).abs().max() < 3 / 255
    assert psnr(ours, photo()) > 52


@given(st.lists(st.floats(1, 100), min_size=2, max_size=4, unique=True))
@settings(max_examples=15)
def test_a_lower_quality_loses_more(qualities):
    low, high = min(qualities), max(qualities)
    if high - low > 5:
        a, b = jpeg(photo().expand(2, -1, -1, -1), each(low, high))
        assert psnr(a, photo()[0]) < psnr(b, photo()[0])


@pytest.mark.parametrize(("outside", "inside"), [(-3.0, 1.0), (0.0, 1.0), (130.0, 100.0)])
def test_qualities_beyond_1_and_100_count_as_these(outside, inside):
    assert torch.equal(jpeg(photo(), each(outside)), jpeg(photo(), each(inside)))


def test_jpeg_keeps_to_its_blocks():
    """A change of one block stays in it: rows and columns are not mixed up."""
    image = photo().clone()
    image[:, :, 16:24, 40:48] = torch.rand(1, 3, 8, 8)
    changed = (jpeg(image, each(40.0)) != jpeg(photo(), each(40.0))).any(1)[0].nonzero()
    assert (changed // 8 == torch.tensor([2, 5])).all()
    assert len(changed)


def test_a_picture_of_one_colour_keeps_it_to_a_grey_level():
    for colour in ([0.2, 0.5, 0.8], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.9, 0.1, 0.1]):
        flat = torch.tensor(colour)[None, :, None, None].expand(1, 3, 16, 16)
        assert (jpeg(flat, each(90.0)) - flat).abs().max() < 0.02


def test_jpeg_turned_on_its_side_is_jpeg_of_the_side():
    """Brightness tables are not symmetric, but nearly: the transform runs along both axes alike."""
    turned = jpeg(photo().transpose(2, 3), each(60.0)).transpose(2, 3)
    assert psnr(turned, jpeg(photo(), each(60.0))) > psnr(turned, photo())


def test_jpeg_leaves_its_argument_alone_and_refuses_odd_sides():
    image = photo().clone()
    jpeg(image, each(30.0))
    assert torch.equal(image, photo())
    with pytest.raises(ValueError, match="sides that 8 divides, got 160 x 188"):
        jpeg(photo()[..., :188], each(50.0))


# All --------------------------------------------------------------------------------------------


def test_each_picture_of_a_batch_has_its_own_camera():
    images = torch.cat([photo(), photo().flip(3), photo().flip(2)])
    sd, gamma, quality = each(0.0, 1.0, 2.2), each(0.8, 1.0, 1.4), each(30, 70, 95)
    for effect in (
        lambda x, i: blur(x, sd[i]),
        lambda x, i: tone_curve(x, gamma[i], sd[i]),
        lambda x, i: jpeg(x, quality[i]),
    ):
        together = effect(images, slice(None))
        alone = torch.cat([effect(images[i : i + 1], slice(i, i + 1)) for i in range(3)])
        # a coefficient may round the other way; no picture may answer to another's strength
        assert (together - alone).abs().mean() < 1e-4
        assert 0 <= together.min() <= together.max() <= 1 + 1e-6


@pytest.mark.gpu
def test_cuda_does_the_same():
    image, value = photo().expand(2, -1, -1, -1), each(0.7, 1.6)
    there = image.cuda(), value.cuda()
    torch.testing.assert_close(blur(*there).cpu(), blur(image, value))
    torch.testing.assert_close(tone_curve(*there, there[1]).cpu(), tone_curve(image, value, value))
    both = jpeg(there[0], 40 * there[1]).cpu(), jpeg(image, 40 * value)
    assert (both[0] - both[1]).abs().mean() < 1e-4  # a coefficient may round the other way
