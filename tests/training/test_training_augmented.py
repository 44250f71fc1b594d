"""Stage two of training: the U-Net learns on a frozen encoder, in the loop of stage one."""

import io
import itertools
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import training_runs as runs
from rich.console import Console
from safetensors.torch import save_file

from facerecon_lib.augmented.branch import LIGHTS, AugmentedBranch, BaseBranch
from facerecon_lib.augmented.offsets import SPACES
from facerecon_lib.cli.train import chosen_settings
from facerecon_lib.data.rendered.scenes import FAMILIES
from facerecon_lib.data.splits import SPLITS
from facerecon_lib.face.model_file import ModelError, read_model_file
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.fitting.weights import AUGMENTED_REPORT_WEIGHTS, RECOGNITION_WEIGHTS
from facerecon_lib.networks.backbones import BACKBONES
from facerecon_lib.networks.backbones import NORMS as BACKBONE_NORMS
from facerecon_lib.networks.encoder import Encoder, load_encoder, save_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet, UNetError, load_unet, save_unet
from facerecon_lib.training import loop as training
from facerecon_lib.training.checkpoints import (
    CheckpointError,
    find_run,
    latest_checkpoint,
    write_settings,
)
from facerecon_lib.training.data import RenderedData, held_out_faces
from facerecon_lib.training.guard import Interrupted
from facerecon_lib.training.logs import SHOWN
from facerecon_lib.training.loop import open_stage, train
from facerecon_lib.training.processes import make_fabric
from facerecon_lib.training.profiles import AUGMENTED_PROFILES
from facerecon_lib.training.settings import (
    LOSSES,
    AugmentedSettings,
    SettingsError,
    TrainSettings,
    loss_weights,
)

pytest.importorskip("lightning")


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory, model):
    """An encoder that is quick, and answers every photo with the mean face."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(path, Encoder(model.sizes, "mobilenet_v3_large", input_size=64))
    return path


@pytest.fixture(scope="module")
def tiny(encoder_file):
    return AugmentedSettings(encoder=str(encoder_file), width=8, depth=3, **runs.SHORT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """A run of four steps that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    torch.manual_seed(99)  # whatever was drawn before must not matter
    console = Console(record=True, width=500, file=io.StringIO())
    result = train(tiny, out, console=console)
    return out, result, console.export_text()


def test_a_run_leaves_a_unet_that_says_what_it_is_for(whole, tiny, encoder_file, model):
    out, result, _ = whole
    unet = load_unet(out / "offset_unet.safetensors", model)
    metadata = unet.metadata
    settled = replace(tiny, albedo="monk")
    assert AugmentedSettings.from_json(json.loads(metadata["settings"])) == settled
    kind = {name: metadata[name] for name in ("albedo", "light", "space", "sampling")}
    assert kind == dict(albedo="monk", light="photo", space="image", sampling="bilinear")
    assert metadata["encoder_sha256"] == sha256_of(encoder_file)
    assert (metadata["steps"], metadata["faces"]) == ("4", "8")
    assert json.loads(metadata["validation"]) == result.validation
    assert not result.network.training
    assert runs.same_tensors(result.network.state_dict(), unet.state_dict())


def test_both_heads_have_learned_and_the_encoder_has_not(whole, tiny, encoder_file):
    now = runs.weights(whole[0])
    for head in ("texture", "displacement"):
        assert now[f"{head}.last.weight"].abs().max() > 0
    stage = open_stage(tiny, torch.device("cpu"))
    fabric = make_fabric("cpu")
    stage.prepare(fabric)
    unet = stage.network(fabric)
    batch = next(held_out_faces(tiny, stage.scenes, 0, 1))
    predictions = stage.predict(unet, batch)
    stage.total(stage.compare(predictions, [batch])).loss.backward()
    encoder, stored = stage.base_branch.encoder, load_encoder(encoder_file).state_dict()
    assert all(p.grad is None for p in encoder.parameters())
    assert runs.same_tensors(encoder.state_dict(), stored)
    assert unet.texture.last.weight.grad.abs().max() > 0
    assert unet.displacement.last.weight.grad.abs().max() > 0


def test_every_term_is_logged_with_its_share(whole, tiny):
    for r in runs.assert_log_is_whole(*whole[:2], tiny.weights):
        assert set(r["terms"]) == set(tiny.weights)
        assert 0 < r["photos_per_s"] < 100  # the pauses for validation are left out once, not twice


def test_validation_has_base_and_augmented_which_are_one_before_training(whole):
    records = [r for r in whole[1].records if r["kind"] == "validation"]
    measures = ("photometric", "landmark_error", "vertex_mm", "albedo_rgb")
    for name in measures:
        assert records[0][name] == records[0][f"base_{name}"] > 0
        assert records[2][name] != records[2][f"base_{name}"]
        assert records[2][f"base_{name}"] == records[0][f"base_{name}"]  # frozen
    numbers = records[2]
    line = f"step 4: held-out colours {numbers['photometric']:.4f} (base "
    assert f"{line}{numbers['base_photometric']:.4f}), landmarks " in whole[2]


def test_tensorboard_shows_faces_and_maps(whole):
    shown = runs.board(whole[0])
    assert set(shown.Tags()["images"]) == {"train", "held-out"}
    images = shown.Images("held-out")
    assert [image.step for image in images] == [0, 3, 4]
    assert (images[0].width, images[0].height) == (5 * 224, 2 * 224)
    assert "train/shares/truth_texture" in shown.Tags()["scalars"]


def test_maps_are_shown_around_grey(tiny):
    stage = open_stage(tiny, torch.device("cpu"))
    batch = next(held_out_faces(tiny, stage.scenes, 0, 1))

    def one_mm(photo, rendering):
        maps = DoubleHeadUNet(8, 3)(photo, rendering)
        return maps._replace(texture=maps.texture + 0.25, displacement=maps.displacement + 1.0)

    with torch.no_grad():
        [faces] = stage.predict(one_mm, batch)
    columns = stage.rows(faces, batch, None).unflatten(2, (5, 224)).permute(2, 0, 1, 3)
    photo, base, augmented, texture, displacement = columns[:, :, :224]
    assert len(batch) <= SHOWN
    assert torch.equal(photo, batch.image[0])
    assert torch.equal(base, faces.base.image[0])
    assert augmented.mean() > base.mean()  # of a lighter skin
    assert torch.equal(texture, torch.full_like(texture, 0.75))
    assert torch.equal(displacement, torch.full_like(displacement, 0.75))  # 2 mm are full colour


def test_killed_and_resumed_it_ends_bit_for_bit_the_same(whole, tiny, tmp_path, monkeypatch):
    after = training.TrainingRun.after

    def killed(run, done, *rest):
        if done == 3:
            raise KeyboardInterrupt  # of the third step nothing is on the disk
        after(run, done, *rest)

    monkeypatch.setattr(training.TrainingRun, "after", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path / "checkpoints").step == 2
    torch.manual_seed(7)
    train(tiny, tmp_path, resume=True)
    runs.assert_same_end(tmp_path, whole[0])


@pytest.mark.slow
def test_killed_outright_and_resumed_it_ends_bit_for_bit_the_same(whole, tiny, tmp_path):
    runs.train_and_kill(tiny, tmp_path, 2)
    train(tiny, tmp_path, resume=True)
    runs.assert_same_end(tmp_path, whole[0])


def test_sigterm_says_how_to_go_on(tiny, tmp_path, monkeypatch):
    runs.stop_after(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    quick = replace(tiny, validate_every=0, picture_every=0)
    hint = f"after step 2 of 4; go on with facerecon train augmented --out {tmp_path} --resume"
    with pytest.raises(Interrupted) as stopped:
        train(quick, tmp_path)
    assert hint in str(stopped.value)
    assert latest_checkpoint(tmp_path / "checkpoints").step == 2


def test_the_same_faces_again_and_again_come_nearer(tiny, tmp_path, monkeypatch):
    """Two faces by heart, on a base whose skin is too light: the texture map makes up for it."""
    known = dict(encoder=None, albedo="light", illumination="known")
    dark = replace(tiny, **known, learning_rate=5e-3, seed=94)
    stage = open_stage(dark, torch.device("cpu"))
    same = next(held_out_faces(dark, stage.scenes, 0, 1))
    assert (same.tone >= 9).all()
    monkeypatch.setattr(RenderedData, "batches", lambda self, step: itertools.repeat(same))
    settings = replace(dark, steps=10, clip_norm=300.0, ema=0.0, validate_every=10)
    numbers = train(settings, tmp_path).validation
    assert numbers["photometric"] < 0.95 * numbers["base_photometric"]
    assert numbers["albedo_rgb"] < 0.85 * numbers["base_albedo_rgb"]


@pytest.mark.slow
def test_smoke_learns(tmp_path):
    result = train(AUGMENTED_PROFILES["smoke"], tmp_path)
    numbers = result.validation
    assert numbers["photometric"] < 0.8 * numbers["base_photometric"]
    assert numbers["albedo_rgb"] < 0.85 * numbers["base_albedo_rgb"]


def test_a_light_skinned_basis_under_known_light_is_of_the_base_alone(tiny, tmp_path):
    settings = replace(tiny, albedo="light", illumination="known", steps=1, validate_every=1)
    stage = open_stage(settings, torch.device("cpu"))
    monk, light = (MorphableModel.load(subdivision=0, albedo=a) for a in ("monk", "light"))
    assert torch.equal(stage.model.albedo_basis, light.albedo_basis)
    assert torch.equal(stage.scenes.albedo_basis, monk.albedo_basis)
    batch = next(held_out_faces(settings, stage.scenes, 0, 1))
    base = stage.base_branch(batch)
    assert torch.equal(base.coefficients.lighting, batch.truth.lighting)
    train(settings, tmp_path)
    metadata = load_unet(tmp_path / "offset_unet.safetensors").metadata
    assert (metadata["albedo"], metadata["light"]) == ("light", "known")


@pytest.mark.parametrize(
    "change", [dict(space="uv"), dict(sampling="hyperbolic"), dict(wrinkles=False)], ids=str
)
def test_other_maps_and_faces_are_trained_too(tiny, tmp_path, change):
    quick = replace(tiny, steps=1, validate_every=0, picture_every=0, ema=0.0, **change)
    result = train(quick, tmp_path)
    assert result.records[0]["loss"] > 0
    metadata = load_unet(tmp_path / "offset_unet.safetensors").metadata
    assert all(metadata[name] == value for name, value in change.items() if name != "wrinkles")


def test_a_unet_is_gone_on_with(whole, tiny, tmp_path):
    file = whole[0] / "offset_unet.safetensors"
    settings = replace(tiny, init=str(file))
    stage = open_stage(settings, torch.device("cpu"))
    start = stage.network(make_fabric("cpu")).state_dict()
    assert runs.same_tensors(runs.weights(whole[0]), start)
    other = tmp_path / "other.safetensors"
    save_unet(other, DoubleHeadUNet(16, 3))
    with pytest.raises(UNetError, match="its width is 16, and 8 is asked for"):
        train(replace(tiny, init=str(other)), tmp_path / "run")


def test_what_was_trained_is_what_the_branch_shows(whole, tiny, encoder_file):
    """The file alone is enough to see what validation saw."""
    stage = open_stage(tiny, torch.device("cpu"))
    branch = AugmentedBranch(
        load_unet(whole[0] / "offset_unet.safetensors"),
        BaseBranch(load_encoder(encoder_file), stage.model, tiny.illumination),
    )
    batch = next(held_out_faces(tiny, stage.scenes, 0, 1))
    numbers = stage.errors(branch(batch), batch)["photometric"].mean().item()
    assert numbers == pytest.approx(whole[1].validation["photometric"], rel=1e-4)


def test_photos_are_trained_on(tiny, tmp_path):
    """Without truth: its terms and errors are left out, and the best is by the photos' loss."""
    settings = replace(
        tiny,
        data=str(runs.write_grey_photos(tmp_path / "shards")),
        weights=loss_weights("augmented", "balanced"),
        steps=2,
        validation_faces=1,
        picture_every=0,
    )
    result = train(settings, tmp_path / "run")
    photos = result.validation["photos"]
    assert set(photos) == {
        *("faces", "loss", "terms", "photometric", "base_photometric"),
        *("landmark_error", "base_landmark_error"),
    }
    assert set(result.validation["terms"]) == set(settings.weights)
    assert "vertex_mm" in result.validation  # of the rendered ones


def test_resuming_with_another_encoder_is_refused(whole, tiny, tmp_path):
    other = tmp_path / "other.safetensors"
    encoder = load_encoder(Path(tiny.encoder))
    torch.nn.init.ones_(encoder.head.bias)
    save_encoder(other, encoder)
    with pytest.raises(CheckpointError, match="was trained with another encoder"):
        train(replace(tiny, encoder=str(other)), whole[0], resume=True)
    file = Path(tiny.encoder)
    before = file.read_bytes()
    file.write_bytes(other.read_bytes())  # of the same name
    try:
        with pytest.raises(CheckpointError, match="trained with another encoder; resume with the"):
            train(tiny, whole[0], resume=True)
    finally:
        file.write_bytes(before)


def test_a_run_goes_on_as_the_stage_that_it_is(whole, tiny, tmp_path):
    base = TrainSettings(steps=4)
    with pytest.raises(CheckpointError, match="a run of facerecon train augmented, not base"):
        train(base, whole[0], resume=True)
    write_settings(tmp_path, base)
    with pytest.raises(CheckpointError, match="a run of facerecon train base, not augmented"):
        train(tiny, tmp_path, resume=True)
    with pytest.raises(SettingsError, match="a run of facerecon train base, not augmented"):
        AugmentedSettings.from_json(base.as_json())


def test_the_settings_of_the_networks_that_ship_are_read():
    encoder = TrainSettings.from_json(json.loads(load_encoder().metadata["settings"]))
    assert (encoder.profile, encoder.mix, encoder.split) == ("colab", "rendered:0.5", "person")
    unet = AugmentedSettings.from_json(json.loads(load_unet().metadata["settings"]))
    assert (unet.profile, unet.mix, unet.split) == ("shipped", "rendered:0.5", "person")


def test_settings_from_before_there_were_stages_are_of_the_base():
    data = TrainSettings(seed=3).as_json()
    del data["stage"]
    assert TrainSettings.from_json(data) == TrainSettings(seed=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(illumination="sun"),
            "illumination 'sun': expected photo or encoder or free or grey or known",
        ),
        (
            dict(albedo="light"),
            "albedo 'light' with illumination 'photo': .* take illumination free or grey",
        ),
        (
            dict(albedo="light", illumination="encoder"),
            "albedo 'light' with illumination 'encoder'",
        ),
        (dict(illumination="known", data="shards"), "illumination 'known': photos come without it"),
        (dict(space="sphere"), "space 'sphere': expected image or uv"),
        (dict(sampling="nearest"), "sampling 'nearest': expected bilinear or hyperbolic"),
        (dict(symmetry="both"), "symmetry 'both': expected mesh or image"),
        (dict(smooth_on="maps"), "smooth_on 'maps': expected face or offsets"),
        (dict(init="imagenet"), "init 'imagenet': expected none, or the .safetensors"),
        (dict(depth=6), "depth 6: the crop of 224 pixels cannot be halved that often"),
        (dict(batch=0), "batch 0: expected more than 0"),
        (dict(weights={"hue": 1.0}), "weights: 'hue' is unknown"),
        (dict(weights={}), "weights: expected one or more above 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(tiny, tmp_path, change, message):
    with pytest.raises(SettingsError, match=message) as refused:
        train(replace(tiny, **change), tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "settings.json").exists()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The model that ships, its bases under other names, and an encoder that is for it."""
    folder = tmp_path_factory.mktemp("imported")
    data, metadata = read_model_file(shipped_file("face_model.safetensors"))
    names = {"monk": "skin", "light": "pale"}
    for part, (old, new) in itertools.product(("mean", "basis", "samples"), names.items()):
        data[f"albedo_{part}_{new}"] = data.pop(f"albedo_{part}_{old}")
    metadata |= {"name": "Imported", "default_albedo": "skin"}
    model, encoder = folder / "model.safetensors", folder / "encoder.safetensors"
    save_file(data, model, metadata)
    network = Encoder(MorphableModel.load(model).sizes, "mobilenet_v3_large", input_size=64)
    save_encoder(encoder, network, {"model": "Imported"})
    return dict(face_model=str(model), encoder=str(encoder))


def test_a_run_is_of_the_model_s_own_basis_whatever_it_is_called(imported, tiny, tmp_path):
    quick = replace(tiny, steps=1, validate_every=0, picture_every=0, ema=0.0, **imported)
    train(quick, tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["albedo"] == "skin"
    file = tmp_path / "offset_unet.safetensors"
    model = MorphableModel.load(imported["face_model"], subdivision=0)
    assert load_unet(file, model).metadata["albedo"] == "skin"
    with pytest.raises(UNetError, match="was trained on the albedo basis 'skin', not on 'pale'"):
        load_unet(file, MorphableModel.load(imported["face_model"], 0, "pale"))
    assert resumed(replace(quick, albedo="skin"), tmp_path).step == 1
    with pytest.raises(CheckpointError, match='albedo "skin", not "pale"'):
        resumed(replace(quick, albedo="pale", illumination="free"), tmp_path)


def test_any_basis_of_the_model_is_taken_under_a_light_that_solves_for_it(imported, tiny):
    settings = replace(tiny, albedo="pale", illumination="free", **imported)
    stage = open_stage(settings, torch.device("cpu"))
    shipped = MorphableModel.load(subdivision=0, albedo="light")
    assert torch.equal(stage.model.albedo_basis, shipped.albedo_basis)
    assert (stage.facts["albedo"], stage.scenes.metadata["albedo"]) == ("pale", "skin")
    for light in ("photo", "encoder"):
        with pytest.raises(
            SettingsError, match=r"'pale' with illumination .* is of the basis 'skin'"
        ):
            open_stage(replace(settings, illumination=light), torch.device("cpu"))
        open_stage(replace(settings, illumination=light, albedo="skin"), torch.device("cpu"))


def test_a_basis_that_the_model_lacks_is_refused_with_those_that_it_has(imported, tmp_path):
    smoke = replace(AUGMENTED_PROFILES["smoke"], **imported)  # of albedo "light"
    for albedo in ("light", "monk"):
        with pytest.raises(ModelError, match=f"'{albedo}'; it has pale, skin; --albedo skin is"):
            train(replace(smoke, albedo=albedo), tmp_path)
    assert not any(tmp_path.iterdir())


def resumed(settings, out):
    """What a resumed run goes on from."""
    stage = open_stage(settings, torch.device("cpu"))
    return find_run(out, stage.settings, stage, True)


def write_as_version_1(file):
    """Settings as they were written when any model's own basis was called "monk"."""
    written = json.loads(file.read_text())
    old = written.get("settings", written)
    assert old.pop("version") == 4
    old |= {"albedo": "monk", "light": old.pop("illumination"), "details": old.pop("wrinkles")}
    old["pretrained"] = old.pop("init")
    del old["mix"], old["vary"], old["rendered_weights"]
    file.write_text(json.dumps(written))


def test_runs_from_when_any_model_s_own_basis_was_called_monk_go_on(
    whole, imported, tiny, tmp_path
):
    out = tmp_path / "shipped"
    shutil.copytree(whole[0], out)
    for file in (out / "settings.json", *(out / "checkpoints").glob("*/state.json")):
        write_as_version_1(file)
    for values in ({}, {"albedo": "monk"}):  # as the model that ships has it
        settings = chosen_settings(AugmentedSettings, out, values, resume=True)
        assert resumed(settings, out).step == 4
    with pytest.raises(CheckpointError, match='albedo "monk", not "light"'):
        resumed(replace(tiny, albedo="light", illumination="free"), out)
    out = tmp_path / "imported"
    out.mkdir()
    write_settings(out, replace(tiny, **imported))
    write_as_version_1(out / "settings.json")
    settings = chosen_settings(AugmentedSettings, out, {}, resume=True)
    assert resumed(settings, out) is None  # no checkpoint yet, and nothing against one
    assert resumed(replace(settings, albedo="skin"), out) is None
    with pytest.raises(CheckpointError, match='albedo "skin", not "pale"'):
        resumed(replace(settings, albedo="pale", illumination="free"), out)


def test_the_choices_of_settings_are_those_of_the_library():
    base, augmented = get_type_hints(TrainSettings), get_type_hints(AugmentedSettings)
    assert get_args(base["backbone"]) == BACKBONES
    assert get_args(base["norm"]) == BACKBONE_NORMS
    assert get_args(base["split"]) == SPLITS
    assert get_args(base["family"]) == FAMILIES
    assert set(get_args(base["recognition"])) == {"none", *RECOGNITION_WEIGHTS}
    assert set(get_args(augmented["illumination"])) == set(LIGHTS)
    assert get_args(augmented["space"]) == SPACES


def test_full_is_the_report():
    full = AUGMENTED_PROFILES["full"]
    assert full.total_steps == 6235 == -(-7 * 114_000 // full.batch)  # a partial batch counts
    assert dict(full.weights) == dict(AUGMENTED_REPORT_WEIGHTS)
    assert loss_weights("augmented", "report", "facenet")["recognition"] == 20
    assert (full.reduction, full.symmetry, full.smooth_on) == ("sum", "image", "face")
    assert (full.sampling, full.space, full.albedo) == ("bilinear", "image", None)
    assert (full.recognition, full.learning_rate, full.schedule) == ("facenet", 1e-4, "constant")
    assert not full.wrinkles


def test_where_nobody_looks_there_is_no_recognition_term():
    for stage, losses in ((stage, row) for stage, table in LOSSES.items() for row in table):
        assert "recognition" not in loss_weights(stage, losses)
        if stage in ("base", "augmented"):
            assert loss_weights(stage, losses, "dlib")["recognition"] > 0
