"""Colours agree with published values and with scikit-image; sRGB and linear light are inverses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facerecon_lib.face.colour import (
    MONK_TONES,
    SKIN_LIGHTNESS,
    ita_degrees,
    lab_to_srgb,
    linear_to_srgb,
    skin_tone_group,
    srgb_to_lab,
    srgb_to_linear,
)

law = settings(deadline=None, max_examples=40)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_srgb_and_linear_light_are_inverses():
    rgb = torch.linspace(0, 1, 256, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(rgb)), rgb)
    torch.testing.assert_close(
        srgb_to_linear(torch.tensor([0.0, 0.5, 1.0])),
        torch.tensor([0.0, 0.21404, 1.0]),
        atol=1e-5,
        rtol=0,
    )


def test_lab_and_ita_agree_with_scikit_image():
    color = pytest.importorskip("skimage.color")
    rgb = torch.rand(500, 3, generator=generator(5), dtype=torch.float64)
    lab = color.rgb2lab(rgb.numpy())
    np.testing.assert_allclose(srgb_to_lab(rgb).numpy(), lab, atol=0.01)
    warm = lab[:, 2] > 5
    ita = np.degrees(np.arctan((lab[warm, 0] - 50) / lab[warm, 2]))
    np.testing.assert_allclose(ita_degrees(rgb[torch.from_numpy(warm)]).numpy(), ita, atol=0.1)


def test_lab_of_white_black_and_a_published_colour():
    rgb = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]
    np.testing.assert_allclose(srgb_to_lab(rgb).numpy(), expected, atol=0.02)


def test_ita_falls_from_the_light_to_the_dark_monk_tones():
    ita = ita_degrees(torch.tensor(MONK_TONES))
    assert ita[0] > 55
    assert ita[9] < -30
    assert (ita[3:].diff() < 0).all()


@law
@given(rgb=st.tuples(*[st.floats(0, 1, width=32)] * 3))
def test_ita_is_finite_with_a_finite_gradient_for_every_colour(rgb):
    colour = torch.tensor([rgb], dtype=torch.float64, requires_grad=True)
    ita_degrees(colour).sum().backward()
    assert colour.grad.isfinite().all()


def test_skin_tone_group_goes_by_the_lightness_of_skin():
    lab = torch.tensor([[lightness, 12.0, 16.0] for lightness in SKIN_LIGHTNESS])
    assert skin_tone_group(lab_to_srgb(lab)).tolist() == list(range(1, 11))
    assert skin_tone_group(lab_to_srgb(lab - torch.tensor([0.5, 0, 0]))).tolist() == list(
        range(1, 11)
    )
    assert skin_tone_group(torch.tensor([[1.0, 1, 1], [0, 0, 0]])).tolist() == [1, 10]


@law
@given(rgb=st.tuples(*[st.floats(0, 1, width=32)] * 3))
def test_lab_to_srgb_is_the_inverse_of_srgb_to_lab(rgb):
    colour = torch.tensor([rgb], dtype=torch.float64)
    torch.testing.assert_close(lab_to_srgb(srgb_to_lab(colour)), colour, atol=1e-5, rtol=0)
