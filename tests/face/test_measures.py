"""Measures are zero for the truth, keep what they should ignore, and match known values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facerecon_lib.face.colour import MONK_TONES, ita_degrees
from facerecon_lib.face.dense_points import INNER, OVAL
from facerecon_lib.face.measures import (
    albedo_error,
    by_group,
    dense_error,
    landmark_error,
    mean_tone,
    photometric_error,
    rigid_align,
    similarity_align,
    umeyama,
    vertex_error_mm,
)

seeds = st.integers(0, 2**31)
law = settings(deadline=None, max_examples=40)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_rotation(rng):
    """Uniform over proper rotations: Q of a Gaussian matrix, its determinant made 1."""
    q, r = torch.linalg.qr(torch.randn(3, 3, 3, generator=rng, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
    q[:, :, 0] *= torch.linalg.det(q)[:, None]
    return q


def faces_mm(rng, points=30):
    """Three clouds about as large as faces, in mm."""
    cloud = torch.randn(3, points, 3, generator=rng, dtype=torch.float64)
    return cloud * torch.tensor([60.0, 80.0, 40.0], dtype=torch.float64)


def moved(points, rng, scale):
    offset = 300 * torch.randn(3, 1, 3, generator=rng, dtype=torch.float64)
    return scale * points @ random_rotation(rng).transpose(1, 2) + offset


def test_the_oval_and_the_irises_do_not_count_among_dense_points():
    target = 100 * torch.rand(2, 478, 2)
    target[:, 33], target[:, 263] = torch.tensor([0.0, 0.0]), torch.tensor([30.0, 40.0])
    moved = target.clone()
    moved[:, [*OVAL, *range(468, 478)]] += 50
    assert dense_error(moved, target).tolist() == [0, 0]
    moved[1, INNER] += torch.tensor([3.0, 4.0])
    assert dense_error(moved, target).tolist() == pytest.approx([0, 5 / 50])
    assert len(INNER) == 468 - 36


def test_the_mean_tone_is_of_what_weighs():
    colours = torch.tensor([[[0.8, 0.6, 0.5], [0.4, 0.3, 0.2], [0.0, 0.0, 1.0]]]).expand(2, -1, -1)
    tone = mean_tone(colours, torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    assert float(tone["ita"][0]) == pytest.approx(float(ita_degrees(colours[0, 0])))
    assert math.isnan(tone["lightness"][1])
    both = mean_tone(colours, torch.tensor([1.0, 1.0, 0.0]))
    assert both["ita"].tolist() == pytest.approx([float(ita_degrees(colours[0, :2].mean(0)))] * 2)
    white = mean_tone(torch.ones(1, 3, 3), torch.ones(3))
    assert float(white["lightness"]) == pytest.approx(100, abs=0.01)


# Landmarks and pixels ---------------------------------------------------------------------------


@law
@given(seed=seeds, scale=st.floats(0.1, 20), shift=st.floats(-500, 500))
def test_landmark_error_ignores_where_and_how_large_the_picture_is(seed, scale, shift):
    rng = generator(seed)
    target = torch.randn(2, 68, 2, generator=rng, dtype=torch.float64)
    predicted = target + 0.1 * torch.randn(2, 68, 2, generator=rng, dtype=torch.float64)
    error = landmark_error(predicted, target)
    assert torch.allclose(landmark_error(predicted * scale + shift, target * scale + shift), error)
    assert torch.equal(landmark_error(target, target), torch.zeros(2, dtype=torch.float64))


def test_landmark_error_is_a_share_of_the_outer_eye_distance():
    target = torch.zeros(1, 68, 2)
    target[0, 36], target[0, 45] = torch.tensor([10.0, 0]), torch.tensor([60.0, 0])
    target[0, 39], target[0, 42] = torch.tensor([25.0, 0]), torch.tensor([45.0, 0])
    predicted = target + torch.tensor([3.0, 4.0])
    assert landmark_error(predicted, target).item() == pytest.approx(5 / 50)


def test_the_jaw_counts_only_in_the_error_of_all_68():
    target = torch.randn(1, 68, 2, generator=generator(0))
    predicted = target.clone()
    predicted[:, :17] += 1
    assert landmark_error(predicted, target, "inner").item() == 0
    assert landmark_error(predicted, target).item() > 0
    predicted, single = target.clone(), (target[:, 36] - target[:, 45]).norm().item()
    predicted[:, 17, 0] += single
    assert landmark_error(predicted, target, "inner").item() == pytest.approx(1 / 51)
    assert landmark_error(predicted, target).item() == pytest.approx(1 / 68)


def test_landmarks_of_the_wrong_shape_or_choice_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 68, 2\), got \(1, 2, 68\)"):
        landmark_error(torch.zeros(1, 2, 68), torch.zeros(1, 2, 68))
    with pytest.raises(ValueError, match="'mouth': expected 'all'"):
        landmark_error(torch.zeros(1, 68, 2), torch.zeros(1, 68, 2), "mouth")


def test_photometric_error_counts_covered_pixels_only():
    photo = torch.zeros(2, 3, 4, 4)
    image = torch.zeros(2, 3, 4, 4)
    image[0, 0, 0], image[:, :, 3] = 0.3, 1.0
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, 3] = 0
    torch.testing.assert_close(photometric_error(image, photo, mask), torch.tensor([0.1 / 3, 0]))
    boolean = photometric_error(image, photo, mask.bool())
    torch.testing.assert_close(boolean, photometric_error(image, photo, mask))


def test_photometric_error_of_a_face_out_of_view_is_not_a_number():
    empty = photometric_error(
        torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2)
    )
    assert empty.isnan().all()


# Alignment --------------------------------------------------------------------------------------


@law
@given(seed=seeds, scale=st.floats(0.05, 20))
def test_alignment_undoes_any_similarity(seed, scale):
    rng = generator(seed)
    target = faces_mm(rng)
    source = moved(target, rng, scale)
    assert torch.allclose(similarity_align(source, target), target, atol=1e-7)
    assert vertex_error_mm(source, target).max() < 1e-7


@law
@given(seed=seeds)
def test_rigid_alignment_undoes_any_motion_and_keeps_the_size(seed):
    rng = generator(seed)
    target = faces_mm(rng)
    assert torch.allclose(rigid_align(moved(target, rng, 1.0), target), target, atol=1e-7)
    larger = rigid_align(moved(target, rng, 1.1), target)
    expected = 1.1 * (target - target.mean(1, keepdim=True)) + target.mean(1, keepdim=True)
    assert torch.allclose(larger, expected, atol=1e-7)


@law
@given(seed=seeds)
def test_the_aligned_error_does_not_depend_on_where_the_prediction_stands(seed):
    rng = generator(seed)
    target = faces_mm(rng)
    predicted = target + torch.randn(target.shape, generator=rng, dtype=torch.float64)
    for align, scale in (("similarity", 3.0), ("rigid", 1.0)):
        error = vertex_error_mm(predicted, target, align)
        assert torch.allclose(vertex_error_mm(moved(predicted, rng, scale), target, align), error)


@law
@given(seed=seeds)
def test_no_nearby_similarity_fits_better(seed):
    rng = generator(seed)
    source = faces_mm(rng)
    target = source + 8 * torch.randn(source.shape, generator=rng, dtype=torch.float64)
    scale, rotation, translation = umeyama(source, target)

    def misfit(scale, rotation, translation):
        placed = scale[:, None, None] * source @ rotation.transpose(1, 2) + translation[:, None]
        return ((placed - target) ** 2).sum((1, 2))

    best = misfit(scale, rotation, translation)
    tilt = torch.linalg.matrix_exp(
        1e-2 * torch.tensor([[0, 1.0, -2], [-1, 0, 3], [2, -3, 0]]).double()
    )
    assert (misfit(scale * 1.01, rotation, translation) > best).all()
    assert (misfit(scale * 0.99, rotation, translation) > best).all()
    assert (misfit(scale, tilt @ rotation, translation) > best).all()
    assert (misfit(scale, rotation, translation + 0.5) > best).all()


def test_a_mirrored_face_is_not_flipped_into_place():
    target = faces_mm(generator(1))
    _, rotation, _ = umeyama(target * torch.tensor([-1.0, 1, 1]), target)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(3, dtype=torch.float64))
    assert vertex_error_mm(target * torch.tensor([-1.0, 1, 1]), target).mean() > 10


def test_unaligned_error_is_the_plain_distance():
    target = faces_mm(generator(3))
    offset = torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64)
    assert torch.allclose(
        vertex_error_mm(target + offset, target, "none"), torch.tensor(5.0).double()
    )


def test_an_unknown_alignment_and_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="'procrustes': expected one of similarity, rigid, none"):
        vertex_error_mm(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), "procrustes")
    with pytest.raises(ValueError, match=r"target: expected \(1, 4, 3\), got \(1, 5, 3\)"):
        umeyama(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))


def test_a_permuted_batch_gives_permuted_errors():
    rng = generator(4)
    target = faces_mm(rng)
    predicted = target + torch.randn(target.shape, generator=rng, dtype=torch.float64)
    order = [2, 0, 1]
    error = vertex_error_mm(predicted, target)
    assert torch.allclose(vertex_error_mm(predicted[order], target[order]), error[order])


# Albedo and tables ------------------------------------------------------------------------------


def test_albedo_error_is_zero_for_the_truth_and_signed_for_skin_made_too_light():
    target = torch.tensor(MONK_TONES)[6].expand(1, 20, 3)
    same = albedo_error(target, target)
    assert same["rgb"].item() == same["ita"].item() == 0
    lighter = albedo_error(target + 0.1, target)
    assert lighter["rgb"].item() == pytest.approx(0.1, abs=1e-6)
    assert lighter["ita"].item() > 5
    assert albedo_error(target - 0.1, target)["ita"].item() < -5


def test_albedo_error_looks_only_where_its_region_does():
    target = torch.tensor(MONK_TONES)[4].expand(2, 20, 3)
    predicted = target.clone()
    predicted[:, 10:] = 0
    region = torch.zeros(20)
    region[:10] = 0.5
    error = albedo_error(predicted, target, region)
    torch.testing.assert_close(error["rgb"], torch.zeros(2))
    torch.testing.assert_close(error["ita"], torch.zeros(2), atol=1e-4, rtol=0)
    assert (albedo_error(predicted, target)["rgb"] > 0.1).all()


def test_the_ita_difference_takes_the_short_way_round():
    bluish, other = torch.tensor([[[0.2, 0.2, 0.5]]]), torch.tensor([[[0.3, 0.5, 0.9]]])
    assert -180 <= albedo_error(bluish, other)["ita"].item() <= 180


# Tables -----------------------------------------------------------------------------------------


def test_groups_are_sorted_and_leave_out_what_was_not_measured():
    values = torch.tensor([1.0, 5, 3, math.nan, math.nan, 2])
    table = by_group(values, [2, 1, 2, 2, 3, 2])
    assert list(table) == [1, 2, 3]
    assert table[2]["count"] == 3
    assert (table[2]["mean"], table[2]["median"]) == (2.0, 2.0)
    assert table[2]["p90"] == pytest.approx(2.8)
    assert table[3]["count"] == 0
    assert math.isnan(table[3]["median"])


def test_groups_may_be_a_tensor_and_must_fit_the_values():
    assert list(by_group([1.0, 2.0], torch.tensor([7, 4]))) == [4, 7]
    with pytest.raises(ValueError, match="one for each of 2 values, got 3"):
        by_group([1.0, 2.0], ["a", "b", "c"])
