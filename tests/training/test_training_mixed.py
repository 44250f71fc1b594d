"""Rendered faces and photos in one batch: each with its own losses, and resumed bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
import training_runs as runs
from command_line import facerecon, refused

from facerecon_lib.data.shards.skins import FORMAT
from facerecon_lib.face.morphable_model import default_model_path
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.weights import write_weights
from facerecon_lib.training.checkpoints import CheckpointError, latest_checkpoint
from facerecon_lib.training.data import open_data
from facerecon_lib.training.loop import open_stage, train
from facerecon_lib.training.processes import make_fabric
from facerecon_lib.training.settings import (
    AugmentedSettings,
    SettingsError,
    TrainSettings,
    loss_weights,
)

pytest.importorskip("lightning")

SMALL = runs.SHORT | dict(batch=4, mix="rendered:0.25")
BASE = TrainSettings(
    backbone="mobilenet_v3_large",
    input_size=64,
    render_size=64,
    weights=loss_weights("base", "balanced"),
    **SMALL,
)
AUGMENTED = AugmentedSettings(
    width=8, depth=3, wrinkles=False, weights=loss_weights("augmented", "balanced"), **SMALL
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eight photos to train on, so that a third step of three begins an epoch anew."""
    return str(runs.write_grey_photos(tmp_path_factory.mktemp("shards")))


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run of four steps of one rendered face and three photos."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(replace(BASE, data=shards), out)


def opened(settings):
    stage = open_stage(settings, torch.device("cpu"))
    fabric = make_fabric("cpu")
    stage.prepare(fabric)
    sources = open_data(settings, stage.scenes, 0, 1)
    return stage, stage.network(fabric).eval(), [next(s.batches(0)) for s in sources]


@pytest.mark.parametrize("settings", [BASE, AUGMENTED], ids=["base", "augmented"])
def test_one_pass_of_the_network_serves_both_parts(settings, shards):
    """And each part gets what it would have got alone."""
    stage, network, parts = opened(replace(settings, data=shards))
    assert [len(part) for part in parts] == [1, 3]
    assert [part.truth is None for part in parts] == [False, True]
    torch.nn.init.normal_(list(network.parameters())[-2], std=0.01)  # the last layer's weights
    calls = []

    def watched(*images):
        calls.append([len(x) for x in images])
        return network(*images)

    with torch.no_grad():
        losses = stage.compare(stage.predict(watched, *parts), parts)
        assert calls == [[4] * len(calls[0])]
        for part, together in zip(parts, losses, strict=True):
            [alone] = stage.compare(stage.predict(network, part), [part])
            assert alone.loss.item() == pytest.approx(together.loss.item(), rel=1e-4)
    rendered, photos = (loss_weights(settings.stage, row) for row in ("rendered", "balanced"))
    assert [set(each.terms) for each in losses] == [set(rendered), set(photos)]
    total = stage.total(losses).loss
    assert total.item() == pytest.approx((losses[0].loss + 3 * losses[1].loss).item() / 4, rel=1e-5)


def test_the_log_tells_the_parts_apart(whole):
    out, result = whole
    names = {f"rendered/{n}" for n in loss_weights("base", "rendered")}
    names |= {f"photos/{n}" for n in loss_weights("base", "balanced")}
    for record in (r for r in result.records if r["kind"] == "train"):
        assert set(record["terms"]) == names
        assert sum(record["shares"].values()) == pytest.approx(1, abs=1e-4)
    assert "truth_shape" in result.validation["terms"]
    assert "light_level" in result.validation["photos"]["terms"]
    shown = runs.board(out)
    assert set(shown.Tags()["images"]) == {"train", "held-out", "held-out photos"}
    assert shown.Images("train")[0].height == 4 * 64
    assert "train/terms/photos/pixel" in shown.Tags()["scalars"]


def test_the_best_checkpoint_is_that_of_the_known_truth(whole):
    best = latest_checkpoint(whole[0] / "checkpoints").state["best"]
    measures = {r["step"]: r["vertex_mm"] for r in whole[1].records if r["kind"] == "validation"}
    assert best["measure"] == measures[best["step"]] == min(measures.values())


def test_killed_and_resumed_in_an_epoch_it_ends_bit_for_bit_the_same(whole, shards, tmp_path):
    settings = replace(BASE, data=shards)
    runs.train_and_kill(settings, tmp_path, 3)
    train(settings, tmp_path, resume=True)
    runs.assert_same_end(tmp_path, whole[0])


def test_epochs_count_the_photos(shards, tmp_path):
    """Two batches of three photos an epoch, each with one rendered face."""
    settings = replace(BASE, data=shards, steps=None, epochs=1.5, validate_every=0)
    assert train(settings, tmp_path).steps == 3


def test_the_unet_is_trained_on_both(shards, tmp_path):
    settings = replace(AUGMENTED, data=shards, steps=2)
    result = train(settings, tmp_path)
    terms = result.records[-1 - (result.records[-1]["kind"] == "validation")]["terms"]
    assert {"rendered/truth_normals", "rendered/pixel", "photos/pixel"} <= set(terms)
    assert "photos/truth_normals" not in terms
    assert latest_checkpoint(tmp_path / "checkpoints").state["best"]["measure"] == pytest.approx(
        min(r["loss"] for r in result.records if r["kind"] == "validation")
    )


@pytest.fixture
def skins(tmp_path):
    albedo = torch.randn(12, 25, generator=torch.Generator().manual_seed(0)).half()
    facts = dict(format=FORMAT, model_sha256=sha256_of(default_model_path()))
    facts["keys"] = json.dumps([f"photo_{i:02d}" for i in range(12)])
    write_weights(tmp_path / "skins.safetensors", {"albedo": albedo}, facts)
    return tmp_path / "skins.safetensors"


def test_learned_skin_is_a_target_of_the_photos(skins, shards, tmp_path):
    weights = loss_weights("base", "balanced") | {"truth_albedo": 50.0}
    settings = replace(BASE, data=shards, skins=str(skins), weights=weights)
    result = train(settings, tmp_path / "run")
    terms = [r["terms"]["photos/truth_albedo"] for r in result.records if r["kind"] == "train"]
    assert all(term > 0 for term in terms)
    assert "truth_albedo" in result.validation["photos"]["terms"]
    moved = skins.rename(tmp_path / "moved.safetensors")
    train(replace(settings, skins=str(moved), steps=5), tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match=r"other settings: skins .*, not null"):
        train(replace(settings, skins=None), tmp_path / "run", resume=True)
    facts = dict(format=FORMAT, model_sha256=sha256_of(default_model_path()), keys='["photo_00"]')
    write_weights(moved, {"albedo": torch.zeros(1, 25)}, facts)
    with pytest.raises(CheckpointError, match="was trained with another skins"):
        train(replace(settings, skins=str(moved), steps=6), tmp_path / "run", resume=True)


def test_sums_are_refused(shards, tmp_path):
    with pytest.raises(SettingsError, match="take --losses balanced"):
        train(replace(BASE, data=shards, reduction="sum"), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--mix rendered:0.5", "mix 'rendered:0.5': mixes rendered faces with photos; add --data"),
        ("--mix rendered:1.5 --data .", "mix 'rendered:1.5': expected a share, as in rendered:0.5"),
        ("--mix 0.5 --data .", "mix '0.5': expected a share, as in rendered:0.5"),
        ("--mix rendered:0.1 --batch 4 --data .", "of 4 faces 0 are rendered; take a larger batch"),
        ("--skins a.safetensors", "skins: they are of photos; say where those are with --data"),
    ],
)
def test_a_mix_of_nothing_is_one_line_and_exit_2(tmp_path, options, message):
    done = facerecon(
        "train", "base", "--device", "cpu", "--out", tmp_path / "run", *options.split()
    )
    refused(done, message)


def test_skins_that_are_missing_are_one_line(shards, tmp_path):
    words = ["--data", shards, "--skins", "nowhere.safetensors", "--batch", 2]
    done = facerecon("train", "base", "--device", "cpu", "--out", tmp_path / "run", *words)
    refused(done, "nowhere.safetensors: there is no such file of skins")
