"""Training of a model that is learned from pictures."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from facerecon_lib.beyond.learned_model import load_learned_model
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.measures import landmark_error
from facerecon_lib.training.learned_stage import LearnedStage
from facerecon_lib.training.loop import train
from facerecon_lib.training.profiles import LEARNED_PROFILES
from facerecon_lib.training.settings import LearnedSettings, SettingsError

TINY = LearnedSettings(
    **dict(identity=3, albedo=2, nodes=20, width=4, input_size=32, render_size=32),
    **dict(picture_size=64, clean=True, frames=2, batch=4, steps=2, validation_faces=4),
    **dict(log_every=1, validate_every=2, checkpoint_every=1, picture_every=2),
)


def test_a_run_learns_writes_and_is_resumed(tmp_path):
    result = train(TINY, tmp_path / "run")
    assert result.validation["mean_face_mm"] > 0
    assert {"vertex_mm", "basis_mm", "albedo_rgb"} <= result.validation.keys()
    longer = train(replace(TINY, steps=3), tmp_path / "run", resume=True)
    assert longer.steps == 3
    straight = train(replace(TINY, steps=3), tmp_path / "straight")
    for ours, theirs in zip(
        longer.network.parameters(), straight.network.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_run_goes_on_from_a_file_of_the_same_sizes_alone(tmp_path):
    train(TINY, tmp_path / "first")
    file = str(tmp_path / "first" / TINY.network_file)
    stage = LearnedStage(replace(TINY, init=file), torch.device("cpu"))
    network, first = stage.network(None), load_learned_model(file, stage.model)
    assert torch.equal(network.shape_nodes, first.shape_nodes)
    other = LearnedStage(replace(TINY, init=file, identity=4), torch.device("cpu"))
    with pytest.raises(SettingsError, match="its sizes are others"):
        other.network(None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(batch=6, frames=4), "batch 6: 6 faces in a process are no multiple of 4 frames"),
        (dict(recognition="dlib"), "recognition 'dlib': train learned takes only none"),
        (dict(reduction="sum"), "reduction 'sum': train learned takes only mean"),
        (dict(precision="auto"), "precision 'auto': train learned takes only 32-true"),
        (dict(people=0), "people 0"),
        (dict(input_size=48), "input_size 48: expected a multiple of 32"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        replace(TINY, **values).check()


def test_frames_of_a_person_stay_in_one_process_and_on_one_side_of_a_mix():
    assert replace(TINY, batch=8, frames=4).parts(2) == {"rendered": 4}
    with pytest.raises(SettingsError, match="2 faces in a process"):
        replace(TINY, batch=8, frames=4).parts(4)
    with pytest.raises(SettingsError, match="2 faces in a process"):
        replace(TINY, batch=8, frames=4, data="people", mix="rendered:0.25").check()


def test_a_mix_is_judged_before_it_has_seen_a_photo():
    settings = replace(TINY, data="people", mix="rendered:0.5", batch=8)
    stage = LearnedStage(settings, torch.device("cpu"))
    stage.prepare(SimpleNamespace(world_size=1))
    network = stage.network(None).eval()
    faces = RenderedFaces(stage.scenes, seed=1, clean=True, frames=2).batch(torch.arange(2))
    photos = RenderedFaces(stage.scenes, seed=2, clean=True, size=64).batch(torch.arange(2))
    with torch.no_grad():
        prediction, _ = stage.predict(network, faces, photos)
        errors = stage.errors(prediction, faces)
        points = stage.objective.landmarks(prediction, faces.kind)
    assert torch.equal(errors["landmark_error"], landmark_error(points, faces.landmarks))


@pytest.mark.parametrize("name", LEARNED_PROFILES)
def test_profiles_are_valid_and_named(name):
    LEARNED_PROFILES[name].check()
    assert LEARNED_PROFILES[name].profile == name
    assert LearnedSettings.from_json(LEARNED_PROFILES[name].as_json()) == LEARNED_PROFILES[name]
