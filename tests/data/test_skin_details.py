"""Details: the same on every mesh, only where skin is, of the size of skin's own, by thirds."""

import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.skin_details import MAX_STAIN, DetailAtlas, FaceDetails, level
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load()


@pytest.fixture(scope="module")
def atlas(model) -> DetailAtlas:
    return DetailAtlas(model)


@pytest.fixture(scope="module")
def numbers() -> CountedRandom:
    return CountedRandom(3, torch.arange(60))


@pytest.fixture(scope="module")
def details(atlas, numbers) -> FaceDetails:
    return atlas.draw(numbers)


def test_a_face_has_its_details_in_any_batch(atlas, details):
    again = atlas.draw(CountedRandom(3, torch.tensor([41, 5])))
    for name, value in vars(again).items():
        torch.testing.assert_close(value, getattr(details, name)[[41, 5]], atol=2e-4, rtol=0)
    other = atlas.draw(CountedRandom(4, torch.tensor([41, 5])))
    assert (other.stain - again.stain).abs().amax((1, 2)).min() > 0.01


def test_a_coarser_mesh_has_the_same_details(details, numbers):
    """The first vertices of a finer mesh are those of the coarser one, moved by up to 4 mm."""
    few = CountedRandom(numbers.seed, numbers.indices[:12])
    coarse = DetailAtlas(MorphableModel.load(subdivision=0)).draw(few)
    n = coarse.height.shape[1]
    for name, at_least in (("height", 0.985), ("stain", 0.995)):
        pair = [getattr(d, name)[:12, :n].flatten() for d in (coarse, details)]
        assert torch.corrcoef(torch.stack(pair))[0, 1] > at_least
        assert (pair[0] - pair[1]).abs().mean() < 0.12 * pair[1].abs().mean()


def test_what_is_no_skin_stays(model, details):
    still = (model.regions["eyeballs"] > 0.5) | (model.regions["mouth_interior"] > 0.5)
    assert (details.stain[:, still] == 0).all()
    assert (details.cover[:, still] == 0).all()
    assert (details.height[:, still | (model.regions["border"] > 0.5)] == 0).all()
    eyeballs = model.mean[model.regions["eyeballs"] > 0.5]
    rims = torch.cdist(model.mean, eyeballs).amin(1) < 1.5  # lids rest on the eyeballs
    assert rims.sum() > still.sum() * 0.5
    assert (details.height[:, rims] == 0).all()


def test_skin_rises_and_sinks_by_a_millimetre_or_two(model, details):
    assert (details.height.abs().amax(1) < 3).all()
    assert 0.7 < details.height.amin(1).abs().median() < 1.6
    flat = model.mean.expand(len(details.height), -1, -1)
    moved = details.raise_skin(flat, model.faces) - flat
    along = (moved * vertex_normals(flat, model.faces)).sum(-1)
    torch.testing.assert_close(along, details.height, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.norm(dim=-1), details.height.abs(), atol=1e-4, rtol=0)


def test_wrinkles_and_marks_come_by_thirds(atlas):
    """None, mild and strong; and one says nothing of the other."""
    many = CountedRandom(5, torch.arange(3000))
    levels = [level(many, name) for name in ("wrinkles", "marks")]
    for found in levels:
        for low, high in ((-1, 0), (0.24, 0.51), (0.64, 1.01)):
            share = ((found > low) & (found <= high)).float().mean()
            assert abs(share - 1 / 3) < 0.04
    assert abs(torch.corrcoef(torch.stack(levels))[0, 1]) < 0.06
    few = CountedRandom(5, torch.arange(60))
    age = level(few, "wrinkles")
    depth = (-atlas.folds.draw(few, age)).amax(1)
    assert (depth[age == 0] == 0).all()
    assert 0.1 < depth[(age > 0) & (age < 0.6)].mean() < depth[age > 0.6].mean() < 1.8


def test_folds_are_on_both_sides_and_not_equal(model, atlas, numbers):
    """A fold's mirror image is of the same face, but its own."""
    age = torch.ones(len(numbers.indices))
    height = torch.zeros(len(age), len(model.mean))
    height[:, atlas.rows] = atlas.folds.draw(numbers, age)
    mirrored = height[:, model.mirror]
    alike = torch.nn.functional.cosine_similarity(height, mirrored)
    strangers = torch.nn.functional.cosine_similarity(height, mirrored.roll(1, 0))
    assert 0.5 < alike.median() < 0.98
    assert alike.median() > strangers.median() + 0.05
    nasolabial = torch.tensor([26.0, -24.0, 8.0])
    near = (model.mean[atlas.rows] - nasolabial).norm(dim=1) < 8
    assert (height[:, atlas.rows[near]].amin(1) < -0.2).float().mean() > 0.6


@pytest.mark.parametrize("tone", [0.9, 0.55, 0.18])
def test_stains_are_relative_to_the_skin(atlas, details, tone):
    skin = torch.tensor([1.0, 0.8, 0.65]) * tone
    albedo = skin.expand(len(details.height), len(atlas.outside), 3)
    coloured = details.colour_skin(albedo)
    change = coloured - albedo
    assert change.abs().max() <= MAX_STAIN + 1e-6
    assert 0 <= coloured.min() <= coloured.max() <= 1
    bare = details.cover[..., 0] == 0
    assert (change[bare].abs().amax(-1) <= 0.85 * tone).all()
    mean = change[:, atlas.rows].mean(1).abs().amax(1)
    assert 0.005 * tone < mean.median() < 0.1 * tone
    plain = details.stain[:, atlas.rows].abs().amax((1, 2)) < 0.12
    assert 0.2 < plain.float().mean() < 0.5  # skin without marks, of a tone of its own


def test_make_up_is_on_lips_and_lids(model, details):
    worn = details.cover[..., 0].amax(1) > 0.1
    assert 0.1 < worn.float().mean() < 0.45
    lips = model.regions["lips"] > 0.9
    assert details.cover[worn][:, lips].amax((1, 2)).min() > 0.1
    where = model.mean[(details.cover[..., 0].amax(0) > 0.1)]
    assert ((where[:, 1] < -25) | ((where[:, 1] > 24) & (where[:, 1] < 50))).all()


def test_a_bare_face_is_left_as_it_is(model, details):
    none = FaceDetails(*(torch.zeros_like(v) for v in vars(details).values()))
    albedo = torch.rand(len(details.height), len(model.mean), 3) * 1.2 - 0.1
    assert torch.equal(none.colour_skin(albedo), albedo)
    flat = model.mean.expand(len(albedo), -1, -1)
    assert torch.equal(none.raise_skin(flat, model.faces), flat)
