"""A batch of faces: checked when it is made, moved whole, cut whole."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.coefficients import FaceCoefficients


def faces(count: int = 5, **others) -> FaceBatch:
    c = FaceCoefficients.mean(count, 4, 3, 2)
    c.identity = torch.rand(count, 4)
    full = dict(
        image=torch.rand(count, 3, 16, 16),
        valid=torch.ones(count, 1, 16, 16),
        landmarks=torch.rand(count, 68, 2),
        kind="3d",
        names=[f"face {i}" for i in range(count)],
        truth=c,
        tone=torch.arange(count),
        person=[f"person {i % 2}" for i in range(count)],
        true_vertices=torch.rand(count, 7, 3),
        true_albedo=torch.rand(count, 7, 3),
        skin=torch.rand(count, 2),
    )
    return FaceBatch(**(full | others))


@given(st.slices(5).filter(lambda part: (part.step or 1) > 0))
def test_a_slice_cuts_everything_alike(part):
    whole = faces()
    some, at = whole[part], torch.arange(5)[torch.tensor(range(5)[part], dtype=torch.long)]
    assert len(some) == len(at)
    assert torch.equal(some.image, whole.image[at])
    assert torch.equal(some.valid, whole.valid[at])
    assert torch.equal(some.landmarks, whole.landmarks[at])
    assert torch.equal(some.truth.identity, whole.truth.identity[at])
    assert torch.equal(some.tone, at)
    assert torch.equal(some.true_vertices, whole.true_vertices[at])
    assert torch.equal(some.true_albedo, whole.true_albedo[at])
    assert torch.equal(some.skin, whole.skin[at])
    assert some.names == [f"face {i}" for i in at.tolist()]
    assert some.person == [whole.person[i] for i in at.tolist()]
    assert some.kind == "3d"


def test_what_a_photo_does_not_know_stays_unknown():
    some = faces(truth=None, tone=None, person=None, true_vertices=None, true_albedo=None)[:2]
    assert (some.truth, some.tone, some.person) == (None, None, None)
    assert (some.true_vertices, some.true_albedo) == (None, None)
    assert some.to("cpu").truth is None


@pytest.mark.parametrize("part", [0, -1, [0, 1], torch.tensor([0]), None])
def test_anything_but_a_slice_is_refused(part):
    with pytest.raises(TypeError, match=r"expected a slice, as in batch\[:4\]"):
        faces()[part]


def test_everything_moves_to_the_device():
    moved = faces().to("meta")
    for field in fields(moved):
        value = getattr(moved, field.name)
        for tensor in vars(value).values() if field.name == "truth" else [value]:
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "meta", field.name
    assert (moved.kind, moved.names) == ("3d", faces().names)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", torch.rand(5, 1, 16, 16), r"got \(5, 1, 16, 16\)"),
        ("image", torch.rand(5, 3, 16, 12), r"expected \(batch, 3, size, size\), got \(5, 3"),
        ("image", torch.rand(3, 16, 16), r"got \(3, 16, 16\)"),
        ("valid", torch.ones(5, 16, 16), r"expected \(5, 1, 16, 16\)"),
        ("valid", torch.ones(5, 1, 8, 8), r"expected \(5, 1, 16, 16\)"),
        ("landmarks", torch.ones(5, 51, 2), r"got \(5, 51, 2\)"),
        ("landmarks", torch.ones(4, 68, 2), r"got \(4, 68, 2\)"),
        ("kind", "2D", "expected '2d' or '3d', got '2D'"),
        ("names", ["one"], "expected 5 like the images, got 1"),
        ("person", ["one"] * 6, "expected 5 like the images, got 6"),
        ("tone", torch.ones(4), r"expected \(5,\), got \(4,\)"),
        ("true_vertices", torch.ones(4, 7, 3), r"expected \(5, vertex, 3\), got \(4, 7, 3\)"),
        ("skin", torch.ones(4, 2), r"expected \(5, albedo\), got \(4, 2\)"),
        ("true_albedo", torch.ones(5, 3), r"expected \(5, 7, 3\)"),
        ("true_albedo", torch.ones(5, 7, 4), r"got \(5, 7, 4\)"),
        ("truth", FaceCoefficients.mean(2), "expected 5 like the images, got 2"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, value, message):
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        replace(faces(), **{name: value})
