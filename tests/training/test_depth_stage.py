"""The stage of the depth network: what it compares, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.beyond.depth_maps import base_maps, true_height
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.training.depth_stage import DepthStage, PredictedHeight
from facerecon_lib.training.loop import train
from facerecon_lib.training.profiles import DEPTH_PROFILES
from facerecon_lib.training.settings import SettingsError

SMOKE = DEPTH_PROFILES["smoke"]


@pytest.fixture(scope="module")
def stage():
    return DepthStage(SMOKE, torch.device("cpu"))


def test_the_true_height_costs_nothing_and_none_costs_the_base_s_error(stage):
    batch = RenderedFaces(stage.scenes, seed=2, wrinkles=True).batch(torch.arange(2))
    base = stage.base_branch(batch)
    height, _ = true_height(batch, base)
    stage.objective = stage.rendered_objective = stage._objective(SMOKE.weights, None)
    losses = []
    for answer in (height, 0 * height):
        prediction = PredictedHeight(base, base_maps(base), answer)
        [objective] = stage.compare([prediction], [batch])
        losses.append(float(objective.loss))
        errors = stage.errors(prediction, batch)
    assert losses[0] < 1e-3 < losses[1]
    torch.testing.assert_close(errors["normal_deg"], errors["base_normal_deg"])


def test_two_steps_of_the_trainer_leave_a_network(tmp_path):
    settings = replace(SMOKE, steps=2, batch=2, validate_every=0, picture_every=0)
    result = train(settings, tmp_path / "run")
    assert result.steps == 2
    assert DepthStage.load(tmp_path / "run" / "depth_unet.safetensors").pixels == SMOKE.pixels


@pytest.mark.parametrize(
    ("name", "value"), [("data", "shards"), ("recognition", "dlib"), ("reduction", "sum")]
)
def test_photos_recognition_and_sums_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        replace(SMOKE, **{name: value}).check()
