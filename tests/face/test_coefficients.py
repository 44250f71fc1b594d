"""The batch of numbers that describes faces."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facerecon_lib.face.coefficients import DEFAULT_DEPTH, FaceCoefficients, ModelSizes
from facerecon_lib.face.lighting import ambient_lighting

NAMES = ["identity", "expression", "albedo", "rotation", "translation", "scale", "lighting"]
sizes = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))


def random_faces(batch: int = 3, counts=(4, 3, 2), seed: int = 0) -> FaceCoefficients:
    generator = torch.Generator().manual_seed(seed)
    return FaceCoefficients.mean(batch, *counts).map(
        lambda value: torch.randn(value.shape, generator=generator)
    )


def assert_same(one: FaceCoefficients, other: FaceCoefficients) -> None:
    for name in NAMES:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


@given(st.integers(0, 4), sizes)
def test_a_vector_splits_back_into_what_it_was_joined_from(batch, counts):
    faces = random_faces(batch, counts)
    vector = faces.to_vector()
    assert vector.shape == (batch, sum(counts) + 34) == (batch, faces.sizes.vector)
    assert_same(FaceCoefficients.from_vector(vector, counts), faces)


def test_the_vector_is_laid_out_in_the_order_of_the_fields():
    faces = random_faces(1, (4, 3, 2))
    vector = faces.to_vector()[0]
    start = 0
    for name in NAMES:
        part = getattr(faces, name).flatten()
        torch.testing.assert_close(vector[start : start + len(part)], part)
        start += len(part)
    assert start == len(vector)
    # lighting: the colour channel is fastest
    assert vector[-27 + 3 * 4 + 2] == faces.lighting[0, 4, 2]


def test_gradients_flow_through_joining_and_splitting():
    vector = torch.randn(2, 43, requires_grad=True)
    again = FaceCoefficients.from_vector(vector, (4, 3, 2)).to_vector()
    again.square().sum().backward()
    torch.testing.assert_close(vector.grad, 2 * vector.detach())


def test_the_mean_is_a_neutral_frontal_face_under_unit_light():
    faces = FaceCoefficients.mean(2)
    assert faces.sizes == (80, 43, 40)
    for name in ("identity", "expression", "albedo", "rotation"):
        assert not getattr(faces, name).any()
    assert faces.translation.tolist() == [[0, 0, DEFAULT_DEPTH]] * 2
    assert faces.scale.tolist() == [[1], [1]]
    torch.testing.assert_close(faces.lighting, ambient_lighting(2))
    assert faces.lighting[0, 0, 0].item() == pytest.approx(math.sqrt(4 * math.pi))


def test_the_mean_can_be_optimised_face_by_face():
    faces = FaceCoefficients.mean(3, 2, 2, 2)
    faces.translation[0] += 1
    assert faces.translation[1].tolist() == [0, 0, DEFAULT_DEPTH]


def test_one_integer_gives_a_batch_of_one():
    faces = random_faces(3)
    assert len(faces[1]) == 1
    assert_same(faces[1], faces[1:2])
    assert_same(faces[-1], faces[2:])


@pytest.mark.parametrize(
    "index", [slice(1, None), [2, 0], torch.tensor([2, 0]), torch.tensor([True, False, True])]
)
def test_an_index_picks_the_same_faces_from_every_field(index):
    faces = random_faces(3)
    picked = faces[index]
    for name in NAMES:
        torch.testing.assert_close(getattr(picked, name), getattr(faces, name)[index])


def test_walking_over_a_batch_ends():
    assert len(list(random_faces(3))) == 3


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_joined_batches_split_back(batches):
    parts = [random_faces(batch, seed=i) for i, batch in enumerate(batches)]
    joined = FaceCoefficients.cat(parts)
    assert len(joined) == sum(batches)
    start = 0
    for part in parts:
        assert_same(joined[start : start + len(part)], part)
        start += len(part)


def test_detached_numbers_carry_no_gradient_and_a_clone_no_memory():
    faces = random_faces(2).map(lambda value: value.requires_grad_())
    assert not any(getattr(faces.detach(), name).requires_grad for name in NAMES)
    copy = faces.detach().clone()
    copy.scale.add_(1)
    assert not torch.equal(copy.scale, faces.scale)


def test_every_field_changes_its_dtype():
    faces = random_faces(2).to(torch.float64)
    assert {getattr(faces, name).dtype for name in NAMES} == {torch.float64}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("rotation", torch.zeros(2, 4), r"rotation: expected \(2, 3\), got \(2, 4\)"),
        ("identity", torch.zeros(80), r"identity: expected \(batch, identity\), got \(80,\)"),
        ("lighting", torch.zeros(2, 27), r"lighting: expected \(2, 9, 3\)"),
        ("scale", torch.zeros(2), r"scale: expected \(2, 1\)"),
        ("albedo", torch.zeros(3, 4), r"albedo: expected \(2, albedo\), got \(3, 4\)"),
        ("scale", torch.ones(2, 1).long(), "scale: expected a floating-point tensor"),
        ("scale", [[1.0], [1.0]], "scale: expected a floating-point tensor, got list"),
        ("scale", torch.ones(2, 1).double(), "scale: .*float32.* got .*float64"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field, value, says):
    good = {name: getattr(FaceCoefficients.mean(2), name) for name in NAMES}
    with pytest.raises(ValueError, match=says):
        FaceCoefficients(**{**good, field: value})


def test_a_vector_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"expected \(batch, 197\), got \(1, 196\)"):
        FaceCoefficients.from_vector(torch.zeros(1, 196), (80, 43, 40))


def test_batches_of_two_models_do_not_join():
    with pytest.raises(RuntimeError, match="Expected size 4 but got size 5"):
        FaceCoefficients.cat([random_faces(1), random_faces(1, (5, 3, 2))])


@pytest.mark.parametrize("index", [3, -4])
def test_a_face_outside_the_batch_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"face {index}: "):
        random_faces(3)[index]


def test_the_sizes_know_the_length_of_the_vector():
    assert ModelSizes(80, 43, 40).vector == 197
