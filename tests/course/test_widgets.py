"""Sliders that redraw, and animations."""

import base64
import io

import ipywidgets
import numpy as np
import pytest
from IPython import display
from matplotlib.figure import Figure
from PIL import Image

from facerecon_lib.course import widgets


def square(shade: int = 0, side: int = 120) -> np.ndarray:
    return np.full((side, side, 3), shade, np.uint8)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture
def explored(monkeypatch):
    """Calls explore; gives the bundle that it shows and the widgets that it made, by kind."""
    made, bundles, box = [], [], ipywidgets.VBox
    monkeypatch.setattr(display, "display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setattr(ipywidgets, "VBox", lambda children: made.extend(children) or box(children))

    def call(draw, **settings):
        widgets.explore(draw, **settings)
        [bundle] = bundles
        *controls, image, trouble = made
        return bundle, controls, image, trouble

    return call


def test_what_is_shown_is_a_widget_and_a_picture_for_those_without_a_kernel(explored):
    bundle, _, _, _ = explored(lambda shade: square(shade), shade=(0, 255, 90))
    assert set(bundle) == {widgets.WIDGET_VIEW, "image/png", "text/plain"}
    still = pixels(base64.b64decode(bundle["image/png"]))
    assert (still[:120] == 90).all()
    assert len(still) > 120, "a line beneath says what can be moved"
    assert bundle["text/plain"] == "sliders: shade"


def test_moving_a_control_draws_anew(explored):
    def draw(shade, inverted, kind):
        value = {"plain": shade, "dark": shade // 2}[kind]
        return square(255 - value if inverted else value)

    _, (shade, inverted, kind), image, _ = explored(
        draw, shade=(0, 255, 10), inverted=False, kind=["plain", "dark"]
    )
    assert (pixels(image.value) == 10).all()
    shade.value = 200
    assert (pixels(image.value) == 200).all()
    kind.value = "dark"
    inverted.value = True
    assert (pixels(image.value) == 155).all()


def test_a_figure_can_be_drawn_too(explored):
    _, _, image, _ = explored(lambda dpi: Figure(figsize=(2, 1), dpi=dpi), dpi=(50, 100, 60))
    assert pixels(image.value).shape == (60, 120, 3)


def test_labels_stand_beside_the_controls_and_in_the_note(explored):
    bundle, (shade,), _, _ = explored(square, shade=(0, 9, 3), labels={"shade": "how grey"})
    assert shade.description == "how grey"
    assert bundle["text/plain"] == "sliders: how grey"


def test_what_goes_wrong_while_a_control_moves_stands_beneath_until_it_goes_well(explored):
    def draw(shade):
        if shade > 100:
            raise ValueError("too light")
        return square(shade)

    _, (shade,), image, trouble = explored(draw, shade=(0, 255, 10))
    before = image.value
    shade.value = 120
    assert "ValueError: too light" in trouble.value
    assert image.value == before
    shade.value = 50
    assert trouble.value == ""
    assert (pixels(image.value) == 50).all()


def test_the_kind_of_control_follows_from_what_is_given(explored):
    controls = dict(whole=(0, 9, 3), real=(0.0, 1.0, 0.5, 0.25), menu=["a", "b"], tick=True)
    _, (whole, real, menu, tick), _, _ = explored(lambda **_: square(), **controls)
    assert isinstance(whole, ipywidgets.IntSlider)
    assert isinstance(real, ipywidgets.FloatSlider)
    assert (real.step, real.value) == (0.25, 0.5)
    assert (menu.value, tick.value) == ("a", True)


@pytest.mark.parametrize("control", [(0, 9), (0, 9, 12), (9, 0, 3), [], "abc", 5, (0, 1, 0, 1, 1)])
def test_a_control_of_another_form_is_refused_by_name(control):
    with pytest.raises(ValueError, match=r"shade: expected \(least, most, start\)"):
        widgets.explore(square, shade=control)


def frames(count: int = 5, side: int = 100) -> list[np.ndarray]:
    shades = np.linspace(0, 255, side).astype(np.uint8)
    picture = np.broadcast_to(shades[None, :, None], (side, side, 3))
    return [np.ascontiguousarray(np.roll(picture, 9 * i, axis=1)) for i in range(count)]


def test_an_animation_holds_every_frame_as_given_and_runs_for_ever():
    with Image.open(io.BytesIO(widgets.animated_png(frames(5), seconds=2.0))) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("PNG", 5, 0)
        assert image.size == (100, 100)
        assert image.info["duration"] == 400
        for i, frame in enumerate(frames(5)):
            image.seek(i)
            assert np.abs(np.asarray(image.convert("RGB"), int) - frame).mean() < 3


def test_an_animation_is_shown_as_a_picture(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", lambda bundle, raw: shown.append(bundle))
    widgets.animation(frames(3))
    [bundle] = shown
    assert bundle["text/plain"] == "animation: 3 frames"
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).n_frames == 3


@pytest.mark.parametrize("given", [[], [square(side=100), square(side=101)]])
def test_no_frames_or_frames_of_two_sizes_are_refused(given):
    with pytest.raises(ValueError, match="frames: expected one or more of one size"):
        widgets.animated_png(given)
