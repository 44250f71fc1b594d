"""What the tests of training share: runs that are killed, how runs compare, photos for them."""

import multiprocessing
import random
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facerecon_lib.photos.crop import align
from facerecon_lib.training.logs import read_log
from facerecon_lib.training.loop import TrainingRun, train

SHORT = dict(batch=2, steps=4, log_every=1, checkpoint_every=2, ema=0.5)
SHORT |= dict(validate_every=3, validation_faces=2, picture_every=3)
"""Of either stage: a run of four steps that does all that a run does."""

# A fork has all imported that takes seconds; beside a GPU, torch allows none.
PROCESSES = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")


def train_quietly(settings, out):
    torch.set_num_threads(1)
    train(settings, out)


def train_and_kill(settings, out, step):
    """SIGKILL soon after `step`: no handler runs, log and checkpoint may be cut anywhere."""
    child = PROCESSES.Process(target=train_quietly, args=(settings, out))
    child.start()
    deadline = time.monotonic() + 120
    while not any(r["step"] >= step for r in read_log(out / "log.jsonl")):
        assert child.is_alive(), "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.Random(time.time_ns()).uniform(0, 0.05))  # a step takes 0.2 s
    child.kill()
    child.join()
    time.sleep(1.1)  # TensorBoard reads files in the order of the seconds in which they began
    assert child.exitcode == -signal.SIGKILL
    assert not (out / settings.network_file).exists()


def weights(out):
    """The tensors of the network that a run has left."""
    [file] = out.glob("*.safetensors")
    return load_file(file)


def records(out):
    """The log of a run without its times."""
    return [{**record, "photos_per_s": None} for record in read_log(out / "log.jsonl")]


def same_tensors(some, others):
    """Of two dictionaries of tensors."""
    return some.keys() == others.keys() and all(torch.equal(some[n], others[n]) for n in others)


def assert_log_is_whole(out, result, weights):
    """Each of SHORT's steps with its terms and their shares; returns the records of training."""
    records = read_log(out / "log.jsonl")
    assert records == result.records
    train = [r for r in records if r["kind"] == "train"]
    assert [r["step"] for r in train] == [1, 2, 3, 4]
    assert [r["step"] for r in records if r["kind"] == "validation"] == [0, 3, 4]
    for r in train:
        assert set(r["terms"]) == {name for name, weight in weights.items() if weight}
        assert sum(r["shares"].values()) == pytest.approx(1, abs=1e-4)
        assert sum(weights[n] * v for n, v in r["terms"].items()) == pytest.approx(r["loss"])
    return train


def board(out):
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(out / "tensorboard")).Reload()


def stop_after(monkeypatch, step, stop):
    """Calls stop() when a run has done that step, its log and checkpoint included."""
    after = TrainingRun.after

    def stopping(run, done, *rest):
        after(run, done, *rest)
        if done == step:
            stop()

    monkeypatch.setattr(TrainingRun, "after", stopping)


def assert_same_end(out, other):
    """Bit for bit: the weights, the optimizer and the log."""
    assert same_tensors(weights(out), weights(other))
    last = [max((o / "checkpoints").iterdir()) / "optimizer.safetensors" for o in (out, other)]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert records(out) == records(other)


def write_grey_photos(folder):
    """Twelve photos, of nothing: eight to train on, two to validate with."""
    pytest.importorskip("webdataset")
    from written_shards import ShardsWriter

    rng = np.random.default_rng(0)
    with ShardsWriter(folder, photos_per_shard=4) as writer:
        for i in range(12):
            photo = np.full((300, 300, 3), 10 * i + 50, np.uint8)
            crop = align(photo, 40 + rng.uniform(0, 200, (68, 2)))
            writer.write(f"photo_{i:02d}", crop, "2d", person=f"person {i}", photo="photo.png")
    return folder
