"""Training from shards: over the net, with one shard failing, in two processes as in one."""

import contextlib
import functools
import http.server
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("webdataset")

from command_line import facerecon, refused, works
from test_training_distributed import STAGES, TORCHRUN, assert_trained_alike, run, run_to_its_end
from training_runs import assert_same_end
from written_shards import ShardsWriter

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.files import downloads
from facerecon_lib.photos.crop import Crop
from facerecon_lib.training import data as training_data
from facerecon_lib.training import loop as training
from facerecon_lib.training.checkpoints import latest_checkpoint
from facerecon_lib.training.logs import read_log

FACES, PER_SHARD = 24, 4
QUICK = STAGES["base"] | dict(norm="batch", input_size=64, render_size=64, steps=7)
QUICK |= dict(adam_eps=1e-8, validate_every=0, validation_faces=2, checkpoint_every=100)


SMALL_BUFFER = functools.partial(training_data.PhotoData, shuffle=3)
"""Shards are read all through an epoch, and not all of them before its first batch."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory, model) -> Path:
    """Six shards of four rendered faces, of twelve people."""
    folder = tmp_path_factory.mktemp("shards")
    batch = RenderedFaces(model, 11).batch(torch.arange(FACES))
    with ShardsWriter(folder, photos_per_shard=PER_SHARD) as writer:
        for i in range(FACES):
            image, seen = batch.image[i : i + 1].clamp(0, 1), torch.ones_like(batch.valid[:1])
            crop = Crop(image, seen, batch.landmarks[i : i + 1], torch.eye(3)[:2])
            writer.write(f"face_{i:02d}", crop, "3d", f"person {i // 2}", f"{i}.png")
    return folder


def arguments(stage: str, out: Path, data: str | Path, **settings) -> list[str]:
    chosen = [f"--set={name}={value}" for name, value in settings.items()]
    return ["train", stage, "--device=cpu", f"--out={out}", f"--data={data}", *chosen]


def resumed(stage: str, out: Path) -> list[str]:
    return ["train", stage, "--device=cpu", f"--out={out}", "--resume"]


def losses(out: Path) -> list[tuple[int, dict]]:
    """Steps and terms, without the times."""
    records = [r for r in read_log(out / "log.jsonl") if r["kind"] == "train"]
    return [(r["step"], {**r["terms"], "loss": r["loss"]}) for r in records]


def one_line(text: str) -> str:
    [line] = [line for line in text.splitlines() if line.startswith("facerecon:")]
    return line


class Store(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, each answer `delay` seconds late; `fails` names a shard that is refused
    from the `after`-th time on that it is asked for."""

    delay, fails, after = 0.02, None, 0

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self.delay)
        store = type(self)
        if store.fails is not None and self.path.endswith(store.fails):
            if store.after <= 0:
                self.send_error(403, "Expired")
                return
            store.after -= 1
        with contextlib.suppress(ConnectionError):
            super().do_GET()


@pytest.fixture
def store(shards, monkeypatch) -> Iterator[type[Store]]:
    """The shards behind an address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "PAUSES_S", (0, 0))
    monkeypatch.setattr(training_data, "PhotoData", SMALL_BUFFER)
    kind = type("ThisStore", (Store,), {})
    handler = functools.partial(kind, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kind.address = f"http://127.0.0.1:{server.server_port}/"
        yield kind
        server.shutdown()


@pytest.fixture(scope="module")
def from_disk(shards, tmp_path_factory) -> Path:
    """A run that nothing interrupts, of one epoch and a half."""
    out = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_data, "PhotoData", SMALL_BUFFER)
        works(*arguments("base", out, shards, **QUICK))
    return out


def test_a_shard_that_fails_in_an_epoch_leaves_a_checkpoint_that_goes_on_as_if_nothing_had(
    store, from_disk, tmp_path
):
    """As from the disk, statistics of batch normalisation and all: the step that had no photos was
    never begun."""
    out = tmp_path / "net"
    store.fails, store.after = "photos-00003.tar", 1
    done = facerecon(*arguments("base", out, store.address, **QUICK))
    assert done.exit_code == 2
    line = one_line(done.stderr)
    assert "photos-00003.tar: the server answers 403 Expired" in line
    steps = latest_checkpoint(out / "checkpoints").step
    assert f"stopped after step {steps} of 7; go on with facerecon train base --out {out}" in line
    state = json.loads((out / "checkpoints" / f"step-{steps:06d}" / "state.json").read_text())
    [position] = state["data"]
    assert position["epoch"] == 1
    assert 0 < position["taken"] < 4  # in the middle of an epoch
    assert len(losses(out)) == steps

    store.fails = None
    works(*resumed("base", out))
    assert_same_end(out, from_disk)


def test_a_shard_that_fails_in_validation_loses_no_step_either(shards, tmp_path, monkeypatch):
    times = []

    def failing(settings, *place):
        times.append(1)
        yield from held_out_photos(settings, *place)
        if len(times) > 1:
            raise ShardsError("a.tar: cannot be read (gone)")

    held_out_photos = training.held_out_photos
    monkeypatch.setattr(training, "held_out_photos", failing)
    out, settings = tmp_path / "run", QUICK | {"steps": 2, "validate_every": 1}
    done = facerecon(*arguments("base", out, shards, **settings))
    assert done.exit_code == 2
    assert "cannot be read (gone); stopped after step 1 of 2; go on" in one_line(done.stderr)
    monkeypatch.undo()
    works(*resumed("base", out))
    assert [step for step, _ in losses(out)] == [1, 2]


def test_a_worker_that_is_killed_leaves_a_checkpoint_that_goes_on_as_if_nothing_had(
    shards, tmp_path, monkeypatch
):
    """Also in the middle of a step, which is done to its end first."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    works(*arguments("base", whole, shards, workers=2, **QUICK))
    agree = training.agree

    def killing(run, step, *rest):
        if step == 1:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(0.3)
        return agree(run, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training, "agree", killing)
        done = facerecon(*arguments("base", out, shards, workers=2, **QUICK))
    assert done.exit_code == 2
    line = one_line(done.stderr)
    assert "a batch of its 2 workers is lost (DataLoader worker (pid" in line
    assert "stopped after step 2 of 7; go on with facerecon train base" in line
    assert "Traceback" not in done.stderr
    works(*resumed("base", out))
    assert_same_end(out, whole)


def test_too_little_shared_memory_is_refused_before_anything_is_written(
    shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))
    args = arguments("base", tmp_path / "run", shards, **QUICK | {"batch": 4, "workers": 2})
    refused(facerecon(*args), "--workers 2 hold 3 MB of batches", "docker run --shm-size=")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_shards_elsewhere(shards, store, from_disk, tmp_path, monkeypatch):
    """And its settings hold the place where they lie now, whatever folder that was said in."""
    monkeypatch.chdir(shards.parent)
    out = tmp_path / "run"
    works(*arguments("base", out, shards.name, **QUICK | {"steps": 3}))
    assert json.loads((out / "settings.json").read_text())["data"] == str(shards.resolve())
    weights = ["--set=weights.pixel=1"]  # a setting that another kind of data would undo
    refused(facerecon(*resumed("base", out), *weights), "other settings: weights")

    other = tmp_path / "other"
    shutil.copytree(shards, other)
    (other / "photos-00000.tar").unlink()
    refused(facerecon(*resumed("base", out), f"--data={other}"), f"{other}: other shards")
    refused(facerecon(*resumed("base", out), "--set=data=null"), "other settings: data")
    moved = shutil.copytree(shards, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    works(*resumed("base", out), "--data=moved", "--steps=5")
    assert json.loads((out / "settings.json").read_text())["data"] == str(moved.resolve())
    works(*resumed("base", out), f"--data={store.address}", "--steps=7")
    assert_same_end(out, from_disk)


def test_shards_that_all_fail_leave_no_checkpoint(store, tmp_path):
    store.fails = ".tar"
    done = facerecon(*arguments("base", tmp_path / "run", store.address, **QUICK))
    assert done.exit_code == 2
    assert one_line(done.stderr).endswith("the server answers 403 Expired")
    assert latest_checkpoint(tmp_path / "run" / "checkpoints") is None


# One process is given, in each step, the photos that the two would take.
THE_SAME_PHOTOS = """
import torch
from facerecon_lib.training import data as training_data
from facerecon_lib.training import loop as training
from facerecon_lib.face.batch import FaceBatch

def joined(parts):
    one, two = parts
    return FaceBatch(
        *(torch.cat([getattr(part, name) for part in parts]) for name in
          ("image", "valid", "landmarks")),
        one.kind, one.names + two.names, person=one.person + two.person,
    )

def open_both(settings, model, rank, processes):
    one, two = (training_data.open_data(settings, model, rank, 2)[-1] for rank in range(2))
    parts = zip(one.batches(0), two.batches(0))
    one.batches = lambda first_step: map(joined, parts)
    *rendered, _ = training_data.open_data(settings, model, 0, 1)
    return [*rendered, one]

training.open_data = open_both
"""


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["null", "rendered:0.5"])
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_from_shards_what_one_does(shards, tmp_path, stage, mix):
    settings = STAGES[stage] | {"steps": 4, "validate_every": 4, "mix": mix}
    light = ["--illumination=free"] * (stage == "augmented")
    for launcher, name, more in (([], "one", THE_SAME_PHOTOS), (TORCHRUN, "two", "")):
        args = arguments(stage, tmp_path / name, shards, **settings) + light
        said, _ = run_to_its_end(launcher, tmp_path, args, more)
        assert said.count("4 steps in") == 1
    largest = 5e-5 if stage == "base" else 1e-6
    assert_trained_alike(tmp_path / "one", tmp_path / "two", largest)
    validated = [
        next(r for r in reversed(read_log(tmp_path / name / "log.jsonl")) if "photos" in r)
        for name in ("one", "two")
    ]
    faces = [record["photos"]["faces"] for record in validated]
    assert faces == [faces[0]] * 2  # of the whole set, whoever reads them


@pytest.mark.slow
def test_a_shard_that_one_process_cannot_read_stops_both_with_one_line(shards, tmp_path):
    """And both go on from there: to the same end as if nothing had been."""
    failing = (
        "import functools, os\n"
        "from facerecon_lib.data.shards import reader as photo_shards\n"
        "from facerecon_lib.training import data as training_data\n"
        "training_data.PhotoData = functools.partial(training_data.PhotoData, shuffle=3)\n"
        "read = photo_shards.read_samples\n"
        "opened = []\n"
        "def read_samples(address, note):\n"
        "    opened.append(address)\n"
        "    if os.environ['RANK'] == '1' and len(opened) == BROKEN:\n"
        "        raise photo_shards.ShardsError(f'{address}: cannot be read (gone)')\n"
        "    return read(address, note)\n"
        "photo_shards.read_samples = read_samples\n"
    )
    settings = QUICK | {"norm": "group", "steps": 8}
    args = arguments("base", tmp_path / "run", shards, **settings)
    code, _, errors = run(TORCHRUN, tmp_path, args, failing.replace("BROKEN", "6"))
    assert code == 1  # torchrun's own
    line = one_line(errors)
    steps = latest_checkpoint(tmp_path / "run" / "checkpoints").step
    assert 3 < steps < 8
    assert line.startswith("facerecon: process 1: ")
    assert f"cannot be read (gone); stopped after step {steps} of 8; go on with" in line
    assert "rank0]: Traceback" not in errors
    whole = failing.replace("BROKEN", "0")
    run_to_its_end(TORCHRUN, tmp_path, resumed("base", tmp_path / "run"), whole)
    args = arguments("base", tmp_path / "whole", shards, **settings)
    run_to_its_end(TORCHRUN, tmp_path, args, whole)
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_fewer_shards_than_processes_are_refused_once(shards, tmp_path):
    one = str(shards / "photos-00000.tar")
    args = arguments("base", tmp_path / "run", one, **QUICK)
    code, _, errors = run(TORCHRUN, tmp_path, args)
    assert code == 1
    line = one_line(errors)
    assert "1 shards of the part 'train' (split='random') for 2 processes; write smaller" in line
    assert not (tmp_path / "run" / "settings.json").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_fewer_shards_than_processes_times_workers_get_fewer_workers(shards):
    """Each worker has a shard at least: three a process of the six, whatever was asked for."""
    readers = [PhotoShards(shards, 2, world=2, rank=rank, workers=8) for rank in range(2)]
    assert [reader.state_dict()["order"]["workers"] for reader in readers] == [3, 3]
    seen = [name for reader in readers for batch in reader for name in batch.names]
    assert len(seen) == len(set(seen)) == FACES


def test_shards_that_do_not_divide_repeat_some_photos_and_leave_others_out(shards):
    """Five shards for two processes: one has two of them, and begins them again."""
    five = [str(path) for path in sorted(shards.glob("*.tar"))[:5]]
    seen = [
        [name for batch in PhotoShards(five, 3, world=2, rank=rank) for name in batch.names]
        for rank in range(2)
    ]
    assert [len(names) for names in seen] == [9, 9]
    assert sorted(len(set(names)) for names in seen) == [8, 9]  # of 8 and 12 that are theirs
