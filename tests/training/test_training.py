"""The training loop: it learns, stops in time, and goes on as if nothing had happened."""

import io
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import training_runs as runs
from rich.console import Console

from facerecon_lib.face.morphable_model import default_model_path
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.fitting.weights import RECOGNITION_WEIGHTS, REPORT_WEIGHTS
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.training import loop as training
from facerecon_lib.training.base_stage import BaseStage
from facerecon_lib.training.checkpoints import CheckpointError, latest_checkpoint
from facerecon_lib.training.data import RenderedData
from facerecon_lib.training.guard import Interrupted, NonFiniteError, stop_signals
from facerecon_lib.training.logs import RunLog, read_log
from facerecon_lib.training.loop import train
from facerecon_lib.training.processes import make_fabric
from facerecon_lib.training.profiles import AUGMENTED_PROFILES, PROFILES
from facerecon_lib.training.settings import (
    AugmentedSettings,
    SettingsError,
    TrainSettings,
    differences,
    loss_weights,
)

pytest.importorskip("lightning")

TINY = TrainSettings(backbone="mobilenet_v3_large", input_size=112, render_size=112, **runs.SHORT)
FAST = replace(TINY, checkpoint_every=1, validate_every=0, picture_every=0, ema=0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four steps that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    torch.manual_seed(99)  # whatever was drawn before must not matter
    return out, train(TINY, out)


def test_a_run_leaves_an_encoder_that_says_where_it_comes_from(whole):
    out, result = whole
    encoder = load_encoder(out / "encoder.safetensors")
    settings = json.loads(encoder.metadata["settings"])
    assert TrainSettings.from_json(settings) == TINY
    assert (encoder.metadata["steps"], encoder.metadata["faces"]) == ("4", "8")
    assert json.loads(encoder.metadata["validation"]) == result.validation
    assert runs.same_tensors(result.network.state_dict(), encoder.state_dict())
    assert not result.network.training


def test_the_log_holds_every_step_and_term(whole):
    for r in runs.assert_log_is_whole(*whole, TINY.weights):
        assert r["photos_per_s"] > 0
        assert r["rate"] == TINY.rate(r["step"] - 1)


def test_an_untrained_encoder_is_validated_as_the_mean_face(whole):
    start = whole[1].records[0]
    assert start["vertex_mm"] == pytest.approx(start["mean_face_mm"], rel=1e-3)
    assert start["faces"] == 2


def test_the_encoder_in_the_end_is_the_running_average(whole):
    last = latest_checkpoint(whole[0] / "checkpoints")
    average = load_encoder(last.path / "ema.safetensors").state_dict()
    now = load_encoder(last.path / "encoder.safetensors").state_dict()
    assert runs.same_tensors(runs.weights(whole[0]), average)
    assert not torch.equal(now["head.weight"], average["head.weight"])


def test_the_last_two_checkpoints_and_the_best_stay(whole):
    names = sorted(p.name for p in (whole[0] / "checkpoints").iterdir())
    best = latest_checkpoint(whole[0] / "checkpoints").state["best"]["step"]
    assert set(names) == {"step-000003", "step-000004", f"step-{best:06d}"} - {"step-000000"}


def test_no_file_holds_a_pickle(whole):
    kinds = {p.suffix for p in whole[0].rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert kinds == {".json", ".jsonl", ".safetensors"}


def test_killed_at_a_random_step_and_resumed_it_ends_bit_for_bit_the_same(whole, tmp_path):
    runs.train_and_kill(TINY, tmp_path, random.Random(time.time_ns()).randrange(1, 4))
    train(TINY, tmp_path, resume=True)
    runs.assert_same_end(tmp_path, whole[0])
    assert board_steps(tmp_path) == board_steps(whole[0])


def board_steps(out):
    """Steps that TensorBoard shows, a tag each."""
    shown = runs.board(out)
    return {tag: [e.step for e in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def test_sigterm_ends_the_step_and_leaves_a_checkpoint_to_go_on_from(whole, tmp_path, monkeypatch):
    runs.stop_after(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    first = replace(TINY, steps=3, checkpoint_every=100)
    with pytest.raises(Interrupted, match=r"SIGTERM after step 2 of 3; .* --resume") as stopped:
        train(first, tmp_path)
    assert stopped.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert latest_checkpoint(tmp_path / "checkpoints").step == 2
    assert not (tmp_path / "encoder.safetensors").exists()
    monkeypatch.undo()
    train(TINY, tmp_path, resume=True)  # and one step more than was asked for at first
    runs.assert_same_end(tmp_path, whole[0])
    assert json.loads((tmp_path / "settings.json").read_text())["steps"] == 4


def test_a_hangup_stops_a_run_as_sigterm_does_unless_nohup_ignores_it():
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, heard in ((signal.SIG_DFL, [signal.SIGHUP]), (signal.SIG_IGN, [])):
            signal.signal(signal.SIGHUP, handler)
            with stop_signals() as signals:
                signal.raise_signal(signal.SIGHUP)
            assert signals == heard
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_run_in_the_folder_of_one_is_refused_and_changes_nothing(
    whole, tmp_path, monkeypatch
):
    """Whether it begins anew or resumes, and under whatever name it knows the folder."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")

    def second():
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for out, resume in ((tmp_path / "run", False), (tmp_path / "run", True), (link, True)):
            with pytest.raises(FacereconError, match=rf"{out}: another run is at it; wait"):
                train(replace(TINY, seed=1), out, resume=resume)
        assert {path: path.read_bytes() for path in before} == before

    runs.stop_after(monkeypatch, 2, second)
    train(TINY, tmp_path / "run")
    runs.assert_same_end(tmp_path / "run", whole[0])
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("broken", ["pixel", "weight", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(tmp_path, monkeypatch, broken):
    batches, agree, settings, seen = RenderedData.batches, training.agree, FAST, []

    def broken_batches(self, first_step):
        for step, batch in enumerate(batches(self, first_step)):
            if step == 1 and broken == "pixel":
                batch.image[1, :, 100, 100] = torch.nan
            yield batch

    def watched(run, step, parts, objective, norm):
        seen.append(run)
        factor = torch.inf if step == 1 and broken == "gradient" else 1
        return agree(run, step, parts, objective, norm * factor)

    monkeypatch.setattr(RenderedData, "batches", broken_batches)
    monkeypatch.setattr(training, "agree", watched)
    expected = {
        "pixel": r"step 2: not finite: .*pixel.*, of seed 0 face 2 to seed 0 face 3 "
        r"\(seed 0 face 3: given with numbers that are not finite\).*step-000001, is good",
        "weight": r"step 1: .*: 1e\+38 · landmark, of seed 0 face 0 to seed 0 face 1;.* no check",
        "gradient": r"step 2: not finite: the gradient, of seed 0 face 2 to seed 0 face 3;",
    }
    if broken == "weight":
        settings = replace(FAST, weights={**FAST.weights, "landmark": 1e38})
    with pytest.raises(NonFiniteError, match=expected[broken]) as stopped:
        train(settings, tmp_path)
    assert "\n" not in str(stopped.value)
    last = latest_checkpoint(tmp_path / "checkpoints")
    if broken == "weight":
        assert last is None
        return
    assert last.step == 1
    good = load_encoder(last.path / "encoder.safetensors")
    assert runs.same_tensors(*(dict(n.named_parameters()) for n in (seen[-1].bare, good)))


def test_a_folder_with_a_run_is_not_trained_into_again(whole):
    before = sorted(whole[0].rglob("*"))
    with pytest.raises(CheckpointError, match="holds a run; go on with --resume"):
        train(TINY, whole[0])
    assert sorted(whole[0].rglob("*")) == before


def test_resuming_with_other_settings_says_which(whole):
    other = replace(TINY, batch=4, weights={**TINY.weights, "pixel": 1.0})
    with pytest.raises(CheckpointError, match=r"batch 2, not 4; weights .*\"pixel\": 300"):
        train(other, whole[0], resume=True)
    with pytest.raises(CheckpointError, match="4 steps are done already"):
        train(replace(TINY, steps=3), whole[0], resume=True)


def test_a_run_that_is_over_says_how_to_get_more_steps(tmp_path):
    """Of one whose rate falls until the last step more steps would be another run."""
    cosine, said = replace(FAST, steps=1, schedule="cosine"), io.StringIO()
    train(cosine, tmp_path)
    instead = f"start in another folder with --init {tmp_path}/encoder.safetensors"
    train(cosine, tmp_path, resume=True, console=Console(file=said, width=500))
    assert f"all 1 steps are done; for more: {instead}" in said.getvalue()
    with pytest.raises(CheckpointError, match=f"other settings: steps 1, not 2; .*: {instead}$"):
        train(replace(cosine, steps=2), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="steps 1, not 2; resume with the same ones"):
        train(replace(cosine, steps=2, seed=1), tmp_path, resume=True)


def test_the_files_of_a_run_may_move(tmp_path, monkeypatch):
    """What is in them decides; relative names count from where the run began."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(default_model_path(), tmp_path / "one.safetensors")
    shutil.copy(default_model_path(), tmp_path / "two.safetensors")
    settings = replace(FAST, steps=1, face_model="one.safetensors")
    train(settings, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert stored["face_model"] == str(tmp_path.resolve() / "one.safetensors")
    (tmp_path / "one.safetensors").unlink()
    train(replace(settings, steps=2, face_model="two.safetensors"), tmp_path / "run", resume=True)


def test_what_may_change_on_the_way():
    assert differences(TINY, replace(TINY, steps=9, log_every=7, workers=3)) == []
    assert differences(TINY, replace(TINY, seed=1)) == ["seed 0, not 1"]
    cosine = replace(TINY, schedule="cosine")  # whose rates depend on how many steps there are
    assert differences(cosine, replace(cosine, steps=9)) == ["steps 4, not 9"]
    photo = AugmentedSettings(steps=4)
    assert differences(photo, replace(photo, steps=9, log_every=7)) == []
    grey = replace(photo, illumination="grey")
    assert differences(photo, grey) == ['illumination "photo", not "grey"']


def test_photos_are_trained_on_and_resumed_within_an_epoch(tmp_path, monkeypatch):
    shards = str(runs.write_grey_photos(tmp_path / "shards"))
    balanced = loss_weights("base", "balanced")
    settings = replace(FAST, data=shards, steps=None, epochs=1.5, weights=balanced)
    settings = replace(settings, checkpoint_every=2, validate_every=9, validation_faces=1)
    taken, agree = [], training.agree

    def noted(run, step, parts, *rest):
        taken.append((step, parts[0].names))
        return agree(run, step, parts, *rest)

    monkeypatch.setattr(training, "agree", noted)
    whole = train(settings, tmp_path / "whole")
    assert whole.steps == 6
    epoch = list(itertools.chain(*(names for _, names in taken[:4])))
    assert len(set(epoch)) == 8  # each photo once
    assert set(itertools.chain(*(names for _, names in taken[4:]))) < set(epoch)
    assert whole.validation["photos"]["faces"] == 1
    assert whole.validation["photos"]["landmark_error"] > 0
    straight = taken.copy()
    taken.clear()

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        runs.stop_after(patch, 2, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "again")
    train(settings, tmp_path / "again", resume=True)
    assert taken == straight
    runs.assert_same_end(tmp_path / "again", tmp_path / "whole")


def test_full_is_the_report():
    full = PROFILES["full"]
    assert (full.backbone, full.init, full.learning_rate) == ("resnet50", "imagenet", 3e-5)
    assert full.total_steps == 20 * 114_000 / 64
    assert (full.schedule, full.split, full.reduction) == ("constant", "random", "sum")
    assert dict(full.weights) == {
        name: REPORT_WEIGHTS[name] for name in ("pixel", "landmark", "recognition")
    }
    assert loss_weights("base", "report", "dlib")["recognition"] == RECOGNITION_WEIGHTS["dlib"]
    assert {full.rate(step) for step in (0, 9, 71_249)} == {3e-5}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("profiles", [PROFILES, AUGMENTED_PROFILES], ids=["base", "augmented"])
def test_a_profile_is_sound_and_survives_its_file(profiles, name):
    settings = profiles[name]
    settings.check()
    assert settings.profile == name
    assert type(settings).from_json(json.loads(json.dumps(settings.as_json()))) == settings


def test_the_learning_rate_rises_and_then_falls_along_a_cosine():
    s = replace(TINY, schedule="cosine", warmup=4, steps=104, learning_rate=1.0, last_rate=0.1)
    rates = [s.rate(step) for step in range(105)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.55)
    assert rates[104] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(batch=0), "batch 0: expected more than 0"),
        (dict(steps=0), "total_steps 0"),
        (dict(learning_rate=float("nan")), "learning_rate nan"),
        (dict(precision="16"), "precision '16': expected 32-true or bf16-mixed"),
        (dict(schedule="linear"), "schedule 'linear'"),
        (dict(ema=1.0), "ema 1.0"),
        (dict(recognition="vgg"), "recognition 'vgg': expected none or facenet or dlib"),
        (dict(steps=None, epochs=float("inf")), "epochs inf: expected a finite number"),
        (dict(clip_norm=float("inf")), "clip_norm inf: expected a finite number"),
        (dict(last_rate=float("nan")), "last_rate nan: expected 0 or more"),
        (dict(workers=-1), "workers -1: expected 0 or more"),
        (dict(seed=2**62), "seed 4611686018427387904: expected less than 2\\^62"),
        (dict(validation_faces=0), "validation_faces 0: expected more than 0"),
        (dict(render_size=0), "render_size 0: expected more than 0"),
        (dict(split="half"), "split 'half': expected random or person"),
        (dict(family="studio"), "family 'studio': expected train or held-out"),
        (dict(data=""), "data '': expected a folder or an address"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, change, message):
    with pytest.raises(SettingsError, match=message):
        train(replace(TINY, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(SettingsError, match="batch 2 does not divide by 4 processes"):
        TINY.share(4)


def test_a_weight_that_means_nothing_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match="'pixels' is unknown"):
        train(replace(TINY, weights={"pixels": 1.0}), tmp_path)
    assert not (tmp_path / "settings.json").exists()


def test_the_recognition_network_runs_in_the_precision_of_the_run():
    """Its features are float32 all the same, and nearly those of float32."""
    chips = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    stages = [BaseStage(replace(TINY, recognition="dlib"), torch.device("cpu")) for _ in range(2)]
    for stage, precision in zip(stages, ("32-true", "bf16-mixed"), strict=True):
        stage.prepare(make_fabric("cpu", precision=precision))
    exact, quick = (stage.objective.recognition(chips) for stage in stages)
    assert quick.dtype == torch.float32
    assert 0 < (quick - exact).abs().max() < 0.02 * exact.norm(dim=1).max()


def test_precision_auto_is_float32_where_there_is_no_bfloat16(monkeypatch):
    assert make_fabric("cpu", precision="auto").strategy.precision.precision == "32-true"


@pytest.mark.parametrize("device", ["tpu", "cpu:0", "cuda:"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(SettingsError, match="expected auto, cpu, cuda or cuda:N"):
        make_fabric(device)


@pytest.mark.parametrize("module", ["lightning.fabric", "torch.utils.tensorboard"])
def test_what_is_not_installed_is_named_in_one_line(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r"pip install 'facerecon-lib\[train\]'"):
        make_fabric("cpu")


class Numbered:
    """Instead of faces, their numbers."""

    def batch(self, indices):
        return indices.tolist()


def test_the_processes_share_out_what_one_would_take(monkeypatch):
    monkeypatch.setattr("facerecon_lib.training.data.in_crop_pixels", lambda numbers: numbers)

    def taken(processes, first_step=0):
        share = 6 // processes
        data = [RenderedData(Numbered(), 6, share, rank) for rank in range(processes)]
        streams = [d.batches(first_step) for d in data]
        return [[n for stream in streams for n in next(stream)] for _ in range(3)]

    assert taken(1) == taken(2) == taken(3) == [[*range(i, i + 6)] for i in (0, 6, 12)]
    assert taken(2, first_step=2)[0] == taken(1)[2]


@pytest.fixture
def copied(whole, tmp_path):
    """The run of four steps, to be damaged."""
    shutil.copytree(whole[0], tmp_path / "run")
    return tmp_path / "run"


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_byte(folder / "encoder.safetensors"),
        lambda folder: flip_a_byte(folder / "optimizer.safetensors"),
        lambda folder: (folder / "optimizer.safetensors").unlink(),
        lambda folder: (folder / "state.json").write_text('{"format": "facerecon-che'),
        lambda folder: (folder / "state.json").write_text("[]"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_line(copied, damage):
    damage(copied / "checkpoints" / "step-000004")
    said = []
    assert latest_checkpoint(copied / "checkpoints", said.append).step == 3
    assert len(said) == 1
    assert "step-000004" in said[0]


def test_what_a_killed_run_left_half_written_is_no_checkpoint(copied):
    folder = copied / "checkpoints"
    (folder / "step-000004").rename(folder / ".step-000004")
    assert latest_checkpoint(folder).step == 3


def test_a_run_whose_last_checkpoint_is_damaged_ends_the_same(copied, whole):
    flip_a_byte(copied / "checkpoints" / "step-000004" / "encoder.safetensors")
    (copied / "encoder.safetensors").unlink()
    console = Console(record=True, width=500, file=io.StringIO())
    train(TINY, copied, resume=True, console=console)
    runs.assert_same_end(copied, whole[0])
    said = console.export_text()
    assert "encoder.safetensors is damaged; taking the one before it" in said
    assert "going on after step 3 of 4" in said


def test_another_face_model_is_refused(copied):
    for file in (copied / "checkpoints").glob("*/state.json"):
        state = json.loads(file.read_text())
        file.write_text(json.dumps({**state, "face_model": "0" * 64}))
    with pytest.raises(CheckpointError, match="was trained with another face model"):
        train(TINY, copied, resume=True)


def log_steps(log, *steps):
    for step in steps:
        head = {"loss": 2.0 + step, "grad_norm": 1.0, "rate": 0.1}
        log.train(step, 4, head, {"pixel": 0.5}, {"pixel": 4.0})


def test_a_resumed_log_has_no_step_twice(tmp_path):
    first = RunLog(tmp_path, 0, 6)
    log_steps(first, 1, 2, 3, 4)
    first.flush()  # and then the process is killed, in the middle of a line
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    second = RunLog(tmp_path, 2, 6)
    log_steps(second, 3, 4, 5)
    second.close()
    assert [r["step"] for r in read_log(tmp_path / "log.jsonl")] == [1, 2, 3, 4, 5]
    assert board_steps(tmp_path)["train/loss"] == [1, 2, 3, 4, 5]
    assert board_steps(tmp_path)["train/shares/pixel"] == [1, 2, 3, 4, 5]


def test_a_log_begun_again_at_the_start_is_empty(tmp_path):
    for steps in ((1, 2), (1,)):
        log = RunLog(tmp_path, 0, 6)
        log_steps(log, *steps)
        log.close()
    assert [r["step"] for r in read_log(tmp_path / "log.jsonl")] == [1]
    assert board_steps(tmp_path)["train/loss"] == [1]


def test_a_log_that_does_not_write_does_nothing(tmp_path):
    log = RunLog(tmp_path, 0, 6, write=False, console=Console(record=True))
    log_steps(log, 1)
    log.flush()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(tmp_path):
    file = io.StringIO()
    log = RunLog(tmp_path, 0, 100, console=Console(file=file, width=200))
    log_steps(log, *range(1, 101))
    log.close()
    lines = file.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 1 of 100", "step 100 of 100"]
    assert "loss 102, " in lines[-1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_that_is_gone_stops_no_run(tmp_path, terminal):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    log = RunLog(tmp_path, 0, 10, console=Console(file=io.StringIO(), force_terminal=terminal))
    log.console.file = Gone()
    log_steps(log, 1, 2)
    log.validation(2, {"loss": 1.0}, "loss 1")
    log.close()
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 2]


def test_a_terminal_shows_a_bar(tmp_path):
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    log = RunLog(tmp_path, 0, 10, console=console)
    log_steps(log, 5)
    log.close()
    assert "5/10" in file.getvalue()
    assert "loss 7" in file.getvalue()


def test_picture_rows_show_photo_rendering_and_both(generator):
    photo, image = torch.rand(2, 2, 3, 8, 8, generator=generator)
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    batch, objective = SimpleNamespace(image=photo), SimpleNamespace(image=image, mask=mask)
    rows = BaseStage.rows(None, None, batch, objective)
    assert rows.shape == (3, 16, 24)
    second = rows[:, 8:]
    assert torch.equal(second[..., :8], photo[1])
    assert torch.equal(second[..., 8:16], image[1] * mask[1])
    assert torch.equal(second[:, :4, 16:], image[1][:, :4])
    assert torch.equal(second[:, 4:, 16:], photo[1][:, 4:])
