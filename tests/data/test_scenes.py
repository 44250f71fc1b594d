"""Scenes: in head coordinates that follow the pose, in range, and honest about what they cover."""

from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facerecon_lib.data.rendered import scenes as face_scenes
from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.scenes import (
    FAMILIES,
    HEAD_RADII,
    HeadFrame,
    background,
    before_face,
    behind_face,
    hair_colour,
    hair_strands,
    head_frame,
    muted,
    smooth_noise,
)
from facerecon_lib.face.camera import ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.coefficients import FaceCoefficients

SIZE = 56
COUNT = 60


@lru_cache
def numbers(count: int = COUNT) -> CountedRandom:
    return CountedRandom(5, torch.arange(count))


@lru_cache
def frame(count: int = COUNT) -> HeadFrame:
    return head_frame(FaceCoefficients.mean(count, 1, 1, 1), SIZE)


def plain(value: float, count: int = COUNT) -> Tensor:
    return torch.full((count, 3, SIZE, SIZE), value)


class Loaded(CountedRandom):
    """Numbers whose chances are set: these things are drawn, and no others."""

    def __init__(self, chances: dict[str, float]):
        super().__init__(5, torch.arange(COUNT))
        self.chances = chances

    def chance(self, name: str, probability: float) -> Tensor:
        return torch.full((COUNT,), self.chances.get(name, 0.0))


def covered(**chances: float) -> tuple[Tensor, Tensor]:
    """Black things before a white picture; nothing but what chances name."""
    names = {name.replace("_", " "): value for name, value in chances.items()}
    return before_face(Loaded({"bald": 1.0} | names), frame(), plain(1.0), plain(0.0))


# The head's coordinates -------------------------------------------------------------------------


@given(st.floats(-0.6, 0.6), st.floats(-40, 40), st.floats(-40, 40), st.floats(320, 500))
@settings(max_examples=20)
def test_a_pixel_knows_which_point_of_the_head_it_shows(roll, x, y, depth):
    c = FaceCoefficients.mean(1, 1, 1, 1)
    c.rotation = torch.tensor([[0.0, 0.0, roll]])
    c.translation = torch.tensor([[12.0, -7.0, depth]])
    at = head_frame(c, 224)
    point = pose(torch.tensor([[[x, y, 10.0]]]), c.rotation, c.scale, c.translation)
    column, row = ndc_to_pixels(project_ndc(point), 224)[0, 0].long().clamp(0, 223).tolist()
    # a pixel is a millimetre wide, and perspective makes what is near 3 % larger
    assert abs(at.x[0, row, column] - x) < 1.5 + 0.04 * abs(x)
    assert abs(at.y[0, row, column] - y) < 1.5 + 0.04 * abs(y)


def test_the_skull_lies_above_the_face_and_is_deeper_than_wide():
    c = FaceCoefficients.mean(3, 1, 1, 1)
    c.rotation = torch.tensor([[0.0, 0.0, 0.0], [0.0, torch.pi / 2, 0.0], [0.0, 0.0, 0.5]])
    at = head_frame(c, SIZE)
    torch.testing.assert_close(at.skull_width[0], torch.tensor(HEAD_RADII[0]))
    torch.testing.assert_close(at.skull_width[1], torch.tensor(HEAD_RADII[2]), atol=0.01, rtol=0)
    assert at.skull[0, 0].abs() < 0.1
    assert 10 < at.skull[0, 1] < 25
    torch.testing.assert_close(at.skull[2], at.skull[0], atol=0.1, rtol=0)  # roll turns both
    assert at.skull[1, 0].abs() > 50  # in profile the skull lies beside the face


# Pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_backgrounds_differ_and_stay_in_range(family):
    picture = background(numbers(), SIZE, family)
    assert picture.shape == (COUNT, 3, SIZE, SIZE)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert picture.mean((1, 2, 3)).std() > 0.1
    spread = picture.std((2, 3)).mean(1)  # half of them are plain walls, nearly even
    assert (spread > 0.002).all()
    assert (spread > 0.03).float().mean() > 0.4


def test_the_families_share_colours_and_not_shapes():
    train, held_out = (background(numbers(), SIZE, family) for family in FAMILIES)
    assert (train - held_out).abs().mean() > 0.03


def test_smooth_noise_is_bicubic_and_as_strong_as_it_says():
    found = smooth_noise(numbers(200), "n", 40, channels=2)
    total = 0.0
    for cells in (3, 7, 17):
        coarse = numbers(200).normal(f"n noise {cells}", 2, cells, cells)
        fine = F.interpolate(coarse, (40, 40), mode="bicubic", align_corners=True)
        total = total + fine / cells**0.5
    torch.testing.assert_close(found, total, atol=1e-4, rtol=0)
    assert 0.5 < found.std() < 0.75
    assert found.mean().abs() < 0.03


def test_muted_colours_are_mostly_grey_and_sometimes_not():
    colour = muted(numbers(4000), "x")
    assert 0 <= colour.min() <= colour.max() <= 1
    spread = colour.amax(1) - colour.amin(1)
    assert spread.median() < 0.2
    assert spread.max() > 0.7


def test_hair_comes_in_all_colours_and_its_strands_run_downwards():
    colour = hair_colour(numbers(4000))
    assert 0 <= colour.min() <= colour.max() <= 1
    assert (colour.mean(1) < 0.1).any()
    assert (colour.mean(1) > 0.6).any()
    strands = hair_strands(numbers(), frame())
    assert strands.shape == (COUNT, 1, SIZE, SIZE)
    assert strands.abs().max() <= 3
    across = (strands[..., 1:] - strands[..., :-1]).abs().mean()
    assert across > 1.5 * (strands[..., 1:, :] - strands[..., :-1, :]).abs().mean()


def test_behind_the_face_there_is_a_head_of_its_skin():
    skin = torch.tensor([0.7, 0.5, 0.4]).expand(COUNT, 3)
    picture = behind_face(numbers(), frame(), plain(0.0), skin, plain(1.0))
    assert 0 <= picture.min() <= picture.max() <= 1
    middle = picture[:, :, SIZE // 2, SIZE // 2]
    shade = middle / skin  # 0.7 to 1 of it, and some noise of cloth
    assert 0.5 < shade.min() <= shade.max() < 1.25
    torch.testing.assert_close(shade[:, 0] - shade[:, 1], torch.zeros(COUNT), atol=0.15, rtol=0)


def test_the_bald_have_no_hair_and_short_hair_does_not_fall():
    skin, black = torch.full((COUNT, 3), 0.5), plain(0.0)
    blue = black + torch.tensor([0.0, 0.0, 1.0])[:, None, None]

    def hair(bald: float, long: float) -> Tensor:
        loaded = Loaded({"bald": bald, "long hair": long})
        picture = behind_face(loaded, frame(), black, skin, blue)
        return (picture[:, 2] > 0.9) & (picture[:, 0] < 0.1)

    assert hair(1, 0).float().mean() < 0.02  # some wear blue
    assert hair(0, 1).sum() > hair(0, 0).sum() > 10 * hair(1, 0).sum()


# What covers the face ---------------------------------------------------------------------------


def test_nothing_before_the_face_leaves_it_free():
    image, free = covered()
    assert (free == 1).all()
    assert (image == 1).all()


@pytest.mark.parametrize("thing", ["glasses", "thing", "side_hair"])
def test_what_covers_the_face_is_not_free_and_all_else_is(thing):
    image, free = covered(**{thing: 1.0})
    assert free.min() < 0.05
    assert 0 <= free.min() <= free.max() <= 1
    assert free.shape == (COUNT, 1, SIZE, SIZE)
    changed = (image != 1).any(1, keepdim=True)
    assert not (changed & (free == 1)).any()
    assert ((1 - image).amax(1, keepdim=True) <= 1 - free + 1e-5).all()
    assert 0.002 < (free < 0.5).float().mean() < 0.5


def test_the_fringe_covers_the_forehead_and_not_the_chin():
    _, free = covered(bald=0.0)
    hidden = (free[:, 0] < 0.5).float()
    y = frame().y
    assert hidden[y > 85].mean() > 0.5
    assert hidden[y < 20].mean() < 0.1


def test_glasses_sit_on_the_eyes():
    _, free = covered(glasses=1.0)
    hidden = (free[:, 0] < 0.5).float()
    x, y = frame().x, frame().y
    assert hidden[(y < 0) | (y > 62) | (x.abs() > 70)].sum() == 0
    assert (hidden.sum((1, 2)) > 0).all()


def test_tinted_glasses_leave_what_they_let_through():
    plain_ones, dark = covered(glasses=1.0)[1], covered(glasses=1.0, tinted=1.0)[1]
    assert (dark <= plain_ones + 1e-6).all()
    lens = dark[(frame().y - 29).abs()[:, None] + (frame().x.abs() - 32).abs()[:, None] < 4]
    assert 0.03 < lens.mean() < 0.6
    assert lens.max() < 0.75  # a tint is 0.3 at least


def test_most_faces_are_free_and_some_are_not():
    _, free = before_face(numbers(), frame(), plain(1.0), plain(0.0))
    inner = (frame().x.abs() < 50) & (frame().y > -70) & (frame().y < 20)
    hidden = (((free[:, 0] < 0.5) & inner).sum((1, 2)) / inner.sum((1, 2))).float()
    assert (hidden < 0.01).float().mean() > 0.6
    assert 0.03 < (hidden > 0.05).float().mean() < 0.3


def test_pictures_are_not_written_into():
    picture, hair = plain(0.5), plain(0.2)
    before_face(numbers(), frame(), picture, hair)
    behind_face(numbers(), frame(), picture, torch.full((COUNT, 3), 0.5), hair)
    assert (picture == 0.5).all()
    assert (hair == 0.2).all()


def test_the_interpolation_is_made_once_a_size():
    face_scenes._bicubic.cache_clear()
    for _ in range(3):
        smooth_noise(numbers(2), "n", 40, channels=1)
    assert face_scenes._bicubic.cache_info().misses == 3
