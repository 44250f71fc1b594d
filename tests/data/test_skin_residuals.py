"""What the basis leaves out of people's skin, on meshes of every level."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.data.rendered import skin_residuals as residuals
from facerecon_lib.data.rendered.faces import RenderedFaces, lid_shadow
from facerecon_lib.face.model_file import ModelError
from facerecon_lib.face.morphable_model import MorphableModel


def test_the_levels_agree(model):
    coarse, own, fine = (
        residuals.skin_residuals(MorphableModel.load(subdivision=level)) for level in (0, 1, 2)
    )
    torch.testing.assert_close(coarse, own[:, : coarse.shape[1]])
    torch.testing.assert_close(own, fine[:, : own.shape[1]])
    finer = MorphableModel.load(subdivision=2).mean
    new = torch.arange(own.shape[1], len(finer), 50)
    nearest = torch.cdist(finer[new], finer[: own.shape[1]]).argmin(1)
    same = (fine[:, new] - own[:, nearest]).abs().amax((0, 2)) == 0
    assert same.float().mean() > 0.99  # but for ties


def test_they_are_on_the_skin_alone_and_alike_on_both_sides(model):
    modes, region = residuals.skin_residuals(model), model.regions
    inside = (region["eyeballs"] + region["mouth_interior"]) > 0.99
    assert not modes[:, inside].any()
    torch.testing.assert_close(modes, modes[:, model.mirror])
    size = modes.square().sum(0).mean(-1).sqrt()[region["skin"] > 0.5]
    assert 0.03 < size.median() < 0.15  # of a colour


def test_modes_are_uncorrelated_and_the_first_is_the_widest(model):
    flat = residuals.skin_residuals(model).flatten(1)
    gram = flat @ flat.T
    width = gram.diagonal().sqrt()
    assert (width.diff() < 0.02 * width[0]).all()
    cosines = gram / width / width[:, None] - torch.eye(len(flat))
    assert cosines.abs().max() < 0.2  # both sides of a pair count here, one where they were learned


def test_another_model_has_none(model):
    other = replace(model, metadata=model.metadata | {"name": "another"})
    assert residuals.skin_residuals(other) is None
    assert RenderedFaces(other, seed=0).batch(torch.arange(1)).image.shape == (1, 3, 224, 224)


def test_a_missing_file_is_told(model, tmp_path, monkeypatch):
    monkeypatch.setattr(residuals, "shipped_file", lambda name: tmp_path / name)
    with pytest.raises(ModelError, match=r"skin_residuals\.safetensors: there is no such file"):
        residuals.skin_residuals(model)


def test_the_truth_leaves_them_out_but_with_wrinkles(model):
    plain, wrinkled = (RenderedFaces(model, 5, wrinkles=w).batch(torch.arange(6)) for w in (0, 1))
    skin = model.regions["skin"] > 0.9
    away = (plain.true_albedo - model.albedo(plain.truth.albedo))[:, skin]
    torch.testing.assert_close(away, torch.zeros_like(away))
    pair = wrinkled.true_albedo, model.albedo(wrinkled.truth.albedo)
    whole, basis = (colours[:, skin].clamp(min=0.05).log() for colours in pair)
    assert (whole - basis).std(1).mean() > 0.04


def test_lids_shade_the_upper_half_of_eyeballs_alone(model):
    shadow, eyes = lid_shadow(model), model.regions["eyeballs"] > 0.5
    assert not shadow[~eyes].any()
    for rows in model.eyeballs:
        height = model.mean[rows, 1]
        below = shadow[rows][height < height.mean()]
        assert not below.any()
        assert shadow[rows].max() > 0.5
