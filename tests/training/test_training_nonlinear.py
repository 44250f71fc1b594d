"""Training the nonlinear model: it learns, resumes, goes on from a file, refuses settings."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.beyond.nonlinear_model import load_nonlinear_model
from facerecon_lib.training.loop import train
from facerecon_lib.training.nonlinear_stage import NonlinearStage
from facerecon_lib.training.profiles import NONLINEAR_PROFILES
from facerecon_lib.training.settings import SettingsError

SMALL = replace(
    NONLINEAR_PROFILES["smoke"],
    **dict(codes=6, linear_faces=48, batch=4, steps=4, validation_faces=4, schedule="constant"),
    **dict(log_every=1, validate_every=4, checkpoint_every=2, picture_every=0),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("nonlinear") / "run"
    return train(SMALL, out), out


def test_a_run_leaves_a_file_and_numbers_of_three_models(run):
    result, out = run
    network = load_nonlinear_model(out / "nonlinear_model.safetensors")
    assert network.codes == 6
    for prefix in ("", "linear_", "base_"):
        assert 0.3 < result.validation[f"{prefix}vertex_mm"] < 4
        assert 0 < result.validation[f"{prefix}albedo_rgb"] < 0.3
    coded = result.validation["terms"]["coded_shape"]
    assert coded < result.validation["terms"]["shape"]  # the true codes know more than a photo


def test_steps_change_decoders_and_readers_and_leave_pca_alone(run, tmp_path):
    longer = train(replace(SMALL, steps=1, validate_every=0), tmp_path / "one").network
    network = run[0].network
    assert torch.equal(longer.basis, network.basis)
    for name in ("shape.last", "albedo.proxy", "own.change", "rival.change"):
        ours, theirs = (x.get_submodule(name).weight for x in (network, longer))
        assert not torch.equal(ours, theirs)


def test_a_resumed_run_is_the_whole_run(run, tmp_path):
    out = tmp_path / "run"
    train(replace(SMALL, steps=2, validate_every=0), out)
    resumed = train(replace(SMALL, validate_every=0), out, resume=True)
    for ours, theirs in zip(resumed.network.parameters(), run[0].network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_goes_on_from_a_file_through_the_renderer(run, tmp_path):
    file = str(run[1] / "nonlinear_model.safetensors")
    weights = dict(pixel=300.0, constancy=1.0, symmetry=1.0)
    settings = replace(SMALL, init=file, steps=1, validate_every=0, weights=weights)
    result = train(settings, tmp_path / "more")
    before = load_nonlinear_model(run[1] / "nonlinear_model.safetensors")
    assert torch.equal(result.network.basis, before.basis)
    assert not torch.equal(result.network.albedo.last.weight, before.albedo.last.weight)


def test_photos_alone_leave_the_linear_model_s_reader_alone(run):
    file = str(run[1] / "nonlinear_model.safetensors")
    for mix, learns in ((None, False), ("rendered:0.5", True)):
        stage = NonlinearStage(
            replace(SMALL, init=file, data="people", mix=mix), torch.device("cpu")
        )
        network = stage.network(None)
        assert network.rival.change.weight.requires_grad is learns
        assert network.own.change.weight.requires_grad


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(recognition="dlib"), "recognition 'dlib': train nonlinear takes only none"),
        (dict(reduction="sum"), "reduction 'sum'"),
        (dict(subdivision=1), "subdivision: the linear model beside it"),
        (dict(codes=0), "codes 0: expected more than 0"),
    ],
)
def test_settings_that_it_cannot_have_are_refused_in_a_line(change, words):
    with pytest.raises(SettingsError, match=words):
        replace(SMALL, **change).check()
