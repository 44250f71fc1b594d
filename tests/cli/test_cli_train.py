"""The commands `facerecon train ...`: their options, their refusals and their exit codes."""

import json
import signal
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from command_line import facerecon, refused, works

from facerecon_lib.cli.train import chosen_settings, with_setting
from facerecon_lib.training import loop as training
from facerecon_lib.training.checkpoints import write_settings
from facerecon_lib.training.guard import Interrupted, NonFiniteError
from facerecon_lib.training.profiles import AUGMENTED_PROFILES, PROFILES
from facerecon_lib.training.settings import (
    AugmentedSettings,
    SettingsError,
    TrainSettings,
    loss_weights,
)

pytest.importorskip("lightning")


@pytest.fixture
def asked(monkeypatch):
    """What `train` was called with, instead of a run."""
    calls = []

    def instead(settings, out, **options):
        calls.append(SimpleNamespace(settings=settings, out=out, **options))
        validation = {"vertex_mm": 2.5, "photometric": 0.03, "base_photometric": 0.05}
        return SimpleNamespace(validation=validation, steps=7, seconds=3.0)

    monkeypatch.setattr(training, "train", instead)
    return calls


def invoke(*args, stage="base", run=facerecon):
    return run("train", stage, "--device", "cpu", *args)


KINDS = {"base": TrainSettings, "augmented": AugmentedSettings}
PROFILES_OF = {"base": PROFILES, "augmented": AUGMENTED_PROFILES}
SMOKES = {stage: profiles["smoke"] for stage, profiles in PROFILES_OF.items()}


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("base", "held-out faces 2.50 mm off -> {}/encoder.safetensors"),
        (
            "augmented",
            "held-out colours 0.0300 off (base 0.0500) -> {}/offset_unet.safetensors",
        ),
    ],
)
def test_without_options_it_is_the_smoke_profile(asked, tmp_path, stage, says):
    done = invoke("--out", tmp_path, stage=stage, run=works)
    assert asked[0].settings == SMOKES[stage]
    assert (asked[0].out, asked[0].resume, asked[0].allow_download) == (tmp_path, False, False)
    assert f"7 steps in 3 s, {says.format(tmp_path)}" in done.stdout


@pytest.mark.parametrize(
    ("stage", "options", "changes", "weights"),
    [
        (
            "base",
            "--backbone resnet18 --steps 5 --batch 6 --learning-rate 0.01 --seed 9 --workers 1 "
            "--precision 32-true --split person --set clip_norm=7 --set ema=0 "
            "--set weights.pixel=2 --set schedule=constant",
            dict(backbone="resnet18", steps=5, batch=6, learning_rate=0.01, seed=9, workers=1)
            | dict(precision="32-true", split="person", clip_norm=7.0, ema=0.0)
            | dict(schedule="constant"),
            {"pixel": 2},
        ),
        (
            "augmented",
            "--encoder mine.safetensors --illumination grey --albedo light --width 24 --space uv "
            "--no-wrinkles --init maps.safetensors --batch 6 --steps 5 --set depth=3 "
            "--set sampling=hyperbolic --set weights.truth_normals=7",
            dict(encoder="mine.safetensors", illumination="grey", albedo="light", width=24)
            | dict(space="uv", wrinkles=False, init="maps.safetensors", batch=6, steps=5)
            | dict(depth=3, sampling="hyperbolic"),
            {"truth_normals": 7},
        ),
    ],
    ids=["base", "augmented"],
)
def test_options_replace_what_the_profile_says(asked, tmp_path, stage, options, changes, weights):
    words = ["--profile", "colab", "--download", *options.split()]
    invoke("--out", tmp_path, *words, stage=stage, run=works)
    colab = PROFILES_OF[stage]["colab"]
    assert asked[0].settings == replace(colab, **changes, weights={**colab.weights, **weights})
    assert asked[0].allow_download


@pytest.mark.parametrize("kind", [TrainSettings, AugmentedSettings])
def test_every_setting_but_the_weights_is_an_option(kind):
    text = facerecon("train", kind.stage, "--help").stdout
    names = {field.name.replace("_", "-") for field in fields(kind)} - {
        "weights",
        "rendered-weights",
    }
    names -= {"face-model"}
    assert [name for name in sorted(names | {"model"}) if f"--{name} " not in text] == []


@pytest.mark.parametrize(
    ("stage", "changes"),
    [("base", dict(seed=3, batch=4)), ("augmented", dict(illumination="grey", width=24))],
)
def test_a_resumed_run_has_the_settings_of_its_start(asked, tmp_path, stage, changes):
    write_settings(tmp_path, replace(SMOKES[stage], steps=50, **changes))
    invoke("--out", tmp_path, "--resume", "--steps", 60, stage=stage, run=works)
    assert asked[0].settings == replace(SMOKES[stage], steps=60, **changes)
    assert asked[0].resume


@pytest.mark.parametrize("stage", KINDS)
def test_losses_come_with_what_belongs_to_them(tmp_path, stage):
    def chosen(losses=None, **values):
        s = chosen_settings(KINDS[stage], tmp_path, values, losses)
        return dict(s.weights), s.reduction, *(getattr(s, name) for name in rest)

    def expected(losses, recognition="none"):
        own = ("image", "face") if losses == "report" else ("mesh", "offsets")
        weights = loss_weights(stage, losses, recognition)
        return weights, "sum" if losses == "report" else "mean", *own[: len(rest)]

    rest = ("symmetry", "smooth_on") if stage == "augmented" else ()
    assert chosen("report") == expected("report")
    assert chosen("balanced") == expected("balanced")
    assert chosen("balanced", profile="full")[1:] == expected("balanced")[1:]
    assert chosen(profile="colab", data="shards") == expected("balanced")
    assert chosen(profile="full") == expected("report", "facenet")
    assert chosen(profile="full", recognition="dlib") == expected("report", "dlib")
    for losses in ("report", "balanced"):
        assert chosen(losses, recognition="dlib") == expected(losses, "dlib")
    if stage == "augmented":
        assert chosen(recognition="dlib") == expected("rendered", "dlib")


@pytest.mark.parametrize("stage", KINDS)
def test_a_mix_has_weights_for_photos_and_for_rendered_faces(tmp_path, stage):
    def chosen(*other, **values):
        values |= {"profile": values.get("profile", "colab"), "data": "a", "mix": "rendered:0.5"}
        s = chosen_settings(KINDS[stage], tmp_path, values, other=other)
        return s.weights, s.rendered_weights, s.reduction

    def rows(recognition="none"):
        return [loss_weights(stage, row, recognition) for row in ("balanced", "rendered")]

    assert chosen() == (*rows(), "mean")
    if stage == "augmented":
        values = dict(profile="full", data="a", mix="rendered:0.5")
        full = chosen_settings(KINDS[stage], tmp_path, values)
        assert (full.symmetry, full.smooth_on) == ("mesh", "offsets")
    assert chosen(profile="full") == (*rows("facenet"), "mean")
    photos, rendered = rows("dlib")
    own = chosen("rendered_weights.pixel=7", recognition="dlib")
    assert own == (photos, rendered | {"pixel": 7.0}, "mean")
    if stage == "base":
        photos["truth_albedo"] = rendered["truth_albedo"]
        assert chosen(skins="skins.safetensors", recognition="dlib")[0] == photos


def test_full_without_photos_says_that_it_trains_on_rendered_faces(asked, tmp_path):
    done = invoke("--out", tmp_path, "--profile", "full")
    assert "no --data, so training on rendered faces" in " ".join(done.stderr.split())
    assert "114000 per epoch" in " ".join(done.stderr.split())


BAD_INPUT = {
    "base": [
        ("--profile huge", "--profile huge: expected smoke"),
        ("--losses mine", "--losses mine: expected report"),
        ("--recognition vgg", "recognition 'vgg': expected none"),
        ("--batch 0", "batch 0: expected more than 0"),
        ("--backbone vgg", "backbone 'vgg'"),
        ("--precision 8", "precision '8': expected 32-true or bf16-mixed"),
        ("--set hue=1", "--set hue=1: expected NAME=VALUE"),
        ("--set batch", "--set batch: expected NAME=VALUE"),
        ("--set batch=many", "--set batch=many: expected a whole number"),
        ("--set steps=many", "--set steps=many: expected a whole number or null"),
        ("--set weights.pixel=much", "--set weights.pixel=much: expected a number"),
        ("--set weights=3", "--set weights=3: expected NAME=VALUE"),
        ("--set batch.size=3", "--set batch.size=3: expected NAME=VALUE"),
        ("--set weights.hue=1", "'hue' is unknown"),
        ("--device tpu", "device 'tpu': expected auto, cpu, cuda or cuda:N"),
        ("--model nowhere.safetensors", "nowhere.safetensors"),
        ("--data nowhere", "nowhere"),
        ("--data http://127.0.0.1:1/shards", "names no shard (*.tar); the address of a folder"),
    ],
    "augmented": [
        ("--profile colab --albedo light", "albedo 'light' with illumination 'photo'"),
        ("--albedo pale", "no albedo basis 'pale'; it has light, monk; --albedo monk is its own"),
        ("--profile smoke --data shards", "illumination 'known': photos come without it"),
        ("--encoder nowhere.safetensors", "nowhere.safetensors: there is no such encoder"),
        ("--init nowhere.safetensors", "nowhere.safetensors: there is no such offset U-Net"),
        ("--width 12", "width: expected a multiple of 8, got 12"),
        ("--set stage=base", "--set stage=base: expected NAME=VALUE"),
        ("--set backbone=resnet18", "--set backbone=resnet18: expected NAME=VALUE"),
        ("--losses mine", "--losses mine: expected report"),
    ],
}


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [(stage, *case) for stage, cases in BAD_INPUT.items() for case in cases],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, stage, options, message):
    refused(invoke("--out", tmp_path / "run", *options.split(), stage=stage), message)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_2(tmp_path):
    (tmp_path / "file").write_text("")
    refused(invoke("--out", tmp_path / "file" / "run"), "cannot be written (Not a directory)")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (NonFiniteError("step 3: not finite: pixel"), 1, "step 3: not finite: pixel"),
        (Interrupted("stopped by SIGINT", signal.SIGINT), 130, "stopped by SIGINT"),
        (Interrupted("stopped by SIGTERM", signal.SIGTERM), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "stopped at once; the last checkpoint is good"),
        (OSError(28, "No space left"), 1, "[Errno 28] No space left; the last checkpoint is good"),
        (torch.cuda.OutOfMemoryError("CUDA ..."), 1, "out of memory with --batch 8; lower it"),
    ],
)
def test_how_a_run_ends_is_in_the_exit_code(monkeypatch, tmp_path, error, code, message):
    def raises(*args, **kwargs):
        raise error

    monkeypatch.setattr(training, "train", raises)
    done = invoke("--out", tmp_path)
    assert done.exit_code == code
    assert done.stderr == f"facerecon: {message}\n"


def test_without_lightning_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "lightning.fabric", None)
    refused(invoke("--out", tmp_path), "pip install 'facerecon-lib[train]'")


def test_a_set_value_keeps_the_type_of_its_setting():
    smoke = PROFILES["smoke"]
    assert with_setting(smoke, "learning_rate=1").learning_rate == 1.0
    assert isinstance(with_setting(smoke, "learning_rate=1").learning_rate, float)
    assert with_setting(smoke, "sync_norm=true").sync_norm is True
    assert with_setting(smoke, "data=shards").data == "shards"
    assert with_setting(smoke, "data=2024").data == "2024"  # a folder's name
    assert with_setting(smoke, "epochs=2").epochs == 2.0
    assert with_setting(with_setting(smoke, "steps=7"), "steps=null").steps is None
    assert with_setting(with_setting(smoke, "data=a"), "data=null").data is None
    with pytest.raises(SettingsError, match="expected true or false"):
        with_setting(smoke, "sync_norm=1")
    with pytest.raises(SettingsError, match=r"batch=null: expected a whole number$"):
        with_setting(smoke, "batch=null")


def test_what_is_set_counts_before_anything_is_checked_or_follows_from_it(tmp_path):
    def chosen(given, *other, losses=None, kind=AugmentedSettings):
        return chosen_settings(kind, tmp_path, given, losses, False, other)

    photos = chosen({"data": "shards"}, "illumination=free")  # known: of rendered faces alone
    assert (photos.illumination, photos.data) == ("free", "shards")
    assert dict(photos.weights) == loss_weights("augmented", "balanced")
    assert chosen({}, "data=shards", "illumination=free") == photos
    assert chosen({}, "recognition=dlib").weights == loss_weights("augmented", "rendered", "dlib")
    base = chosen({"data": "shards"}, "recognition=dlib", "batch=6", kind=TrainSettings)
    assert (base.weights, base.batch) == (loss_weights("base", "balanced", "dlib"), 6)
    told = "weights.pixel=7", "reduction=sum"
    for photos in (chosen({"data": "shards"}, "illumination=free", *told),
                   chosen({}, *told, losses="balanced")):  # fmt: skip
        assert dict(photos.weights) == loss_weights("augmented", "balanced") | {"pixel": 7.0}
        assert photos.reduction == "sum"
    with pytest.raises(SettingsError, match="illumination 'known': photos come without it"):
        chosen({"data": "shards"})
    with pytest.raises(SettingsError, match="recognition 'vgg': expected none"):
        chosen({}, "recognition=vgg")


def test_the_same_command_again_resumes_with_the_same_settings(tmp_path):
    given, kind = {"data": "shards", "recognition": "dlib"}, AugmentedSettings
    other = ["illumination=grey", "weights.pixel=7"]
    first = chosen_settings(kind, tmp_path, given, None, True, other)
    write_settings(tmp_path, first)
    assert chosen_settings(kind, tmp_path, given, None, True, other) == first
    assert chosen_settings(kind, tmp_path, {"data": "shards"}, None, True) == first


def test_the_settings_of_another_version_are_refused(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"batch": 3}))
    says = "settings of another version: adam_eps, backbone, checkpoint_every and"
    refused(invoke("--out", tmp_path, "--resume"), says)
    for text, message in (("{", "remove it, and say all of the run's settings again"),
                          ("[]", "not the settings of a run")):  # fmt: skip
        (tmp_path / "settings.json").write_text(text)
        refused(invoke("--out", tmp_path, "--resume"), message)


def test_a_run_of_one_stage_is_not_resumed_as_the_other(tmp_path):
    write_settings(tmp_path, SMOKES["base"])
    done = invoke("--out", tmp_path, "--resume", stage="augmented")
    refused(done, "a run of facerecon train base, not")
