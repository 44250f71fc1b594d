"""Several processes train what one would: losses, weights, stops. Gloo, on the CPU."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from command_line import facerecon, works
from training_runs import PROCESSES, weights

from facerecon_lib.data.rendered import faces as rendered_faces
from facerecon_lib.training.checkpoints import latest_checkpoint
from facerecon_lib.training.logs import read_log
from facerecon_lib.training.processes import make_fabric
from facerecon_lib.training.settings import SettingsError

pytest.importorskip("lightning")

# Rounding differs with the size of a batch, and two things make a step of it. JPEG's quantisation
# does, so it is left out. And Adam's first steps go by the sign of a gradient, also of one that is
# nothing but rounding: a larger eps leaves such weights where they are.
STEPS = dict(norm="group", schedule="constant", batch=4, steps=3, log_every=1)
STEPS |= dict(validate_every=3, validation_faces=3, checkpoint_every=0, picture_every=0)
STAGES = {
    "base": STEPS | dict(backbone="mobilenet_v3_large", init="none", adam_eps=0.1),
    "augmented": STEPS | dict(depth=3, learning_rate=1e-3, adam_eps=1.0),
}
SCRIPT = """
from facerecon_lib.data.rendered import faces as rendered_faces
rendered_faces.jpeg = lambda image, quality: image
{more}
from facerecon_lib.cli.app import main
main()
"""


def arguments(out, *more, stage="base", **other):
    settings = [f"--set={name}={value}" for name, value in (STAGES[stage] | other).items()]
    return ["train", stage, "--device=cpu", f"--out={out}", *settings, *more]


def start(launcher, folder, args, more=""):
    script = folder / "script.py"
    script.write_text(SCRIPT.format(more=more))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), *args]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, env=environment, **pipes)


TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
FABRIC_RUN = """
import sys
from argparse import Namespace
from lightning.fabric.cli import main
main(Namespace(accelerator="cpu", strategy=None, devices="2", num_nodes=1, node_rank=0,
    main_address="127.0.0.1", main_port=int(sys.argv[1]), precision=None, script=sys.argv[2]),
    sys.argv[3:])
"""  # what the command does with its options; the command itself needs the package click


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(launcher, folder, args, more=""):
    child = start(launcher, folder, args, more)
    out, err = child.communicate(timeout=200)
    return child.returncode, out, err


def run_to_its_end(launcher, folder, args, more=""):
    code, said, errors = run(launcher, folder, args, more)
    assert code == 0, errors
    return said, errors


def as_torchrun_starts_it(rank, port, folder, args):
    """One of two processes, with the environment that torchrun gives it."""
    torch.set_num_threads(1)
    places = dict(RANK=rank, LOCAL_RANK=rank, GROUP_RANK=0, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2)
    places |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_RUN_ID="tests")
    os.environ.update({name: str(value) for name, value in places.items()})
    rendered_faces.jpeg = lambda image, quality: image
    done = facerecon(*args)
    (folder / f"said{rank}").write_text(done.stdout)
    (folder / f"errors{rank}").write_text(done.stderr)
    os._exit(done.exit_code)


def compare(out, other):
    """Largest difference of a loss or term, as a share of it, and of a weight."""
    pairs = zip(read_log(out / "log.jsonl"), read_log(other / "log.jsonl"), strict=True)
    relative = 0.0
    for one, two in pairs:
        assert (one["kind"], one["step"]) == (two["kind"], two["step"])
        ours, theirs = ({**r["terms"], "loss": r["loss"]} for r in (one, two))
        for name in ours:
            scale = max(abs(ours[name]), 1e-3)
            relative = max(relative, abs(ours[name] - theirs[name]) / scale)
    ours, theirs = weights(out), weights(other)
    largest = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    print(f"largest difference: losses {relative:.1e} of them, weights {largest:.1e}")
    return relative, largest


def assert_trained_alike(out, other, largest=5e-5):
    """Up to rounding; `largest`, of a weight: of a learning rate of 1e-3 per step."""
    relative, weight = compare(out, other)
    assert relative < 3e-5
    assert weight < largest


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the whole batch."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered_faces, "jpeg", lambda image, quality: image)
        works(*arguments(out))
    return out


def test_two_processes_train_what_one_does(alone, tmp_path):
    args = (free_port(), tmp_path, arguments(tmp_path / "run"))
    two = [PROCESSES.Process(target=as_torchrun_starts_it, args=(rank, *args)) for rank in (0, 1)]
    for process in two:
        process.start()
    for process in two:
        process.join(120)
    said, errors = (
        "".join((tmp_path / f"{name}{rank}").read_text() for rank in (0, 1))
        for name in ("said", "errors")
    )
    assert [process.exitcode for process in two] == [0, 0], errors
    assert_trained_alike(tmp_path / "run", alone)
    assert said.count("3 steps in") == 1  # one of them speaks
    assert errors.count("step 3 of 3") == 1


@pytest.mark.slow
def test_two_processes_of_torchrun_train_what_one_does(alone, tmp_path):
    said, errors = run_to_its_end(TORCHRUN, tmp_path, arguments(tmp_path / "run"))
    assert_trained_alike(tmp_path / "run", alone)
    assert said.count("3 steps in") == 1  # one of them speaks
    assert errors.count("step 3 of 3") == 1


@pytest.mark.slow
def test_two_processes_train_the_augmented_branch_as_one_does(tmp_path):
    outs = tmp_path / "one", tmp_path / "two"
    for launcher, out in zip(([], TORCHRUN), outs, strict=True):
        said, _ = run_to_its_end(launcher, tmp_path, arguments(out, stage="augmented"))
        assert said.count("3 steps in") == 1
    assert_trained_alike(*outs, largest=1e-6)  # of steps of some 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["fabric run", "its own"])
def test_other_launchers_train_the_same(alone, tmp_path, launcher):
    out = tmp_path / "run"
    if launcher == "fabric run":
        run_to_its_end(["-c", FABRIC_RUN, str(free_port())], tmp_path, arguments(out))
    else:
        run_to_its_end([], tmp_path, arguments(out, "--devices=2"))
    assert_trained_alike(tmp_path / "run", alone)


@pytest.mark.slow
def test_ordinary_batch_normalisation_is_another_run(alone, tmp_path):
    """As the docs say: each process normalises by its own faces."""
    outs = tmp_path / "one", tmp_path / "two"
    for launcher, out in zip(([], TORCHRUN), outs, strict=True):
        run_to_its_end(launcher, tmp_path, arguments(out, norm="batch"))
    assert compare(*outs)[0] > 1e-3


@pytest.mark.slow
def test_a_broken_face_in_one_process_stops_all_with_one_line(tmp_path):
    poison = (
        "import os, torch\n"
        "from facerecon_lib.training.data import RenderedData\n"
        "batches = RenderedData.batches\n"
        "def broken(self, first_step):\n"
        "    for step, batch in enumerate(batches(self, first_step)):\n"
        "        if step == 1 and self.rank == 1: batch.image[0] = torch.nan\n"
        "        yield batch\n"
        "RenderedData.batches = broken\n"
    )
    args = arguments(tmp_path / "run", checkpoint_every=1)
    code, _, errors = run(TORCHRUN, tmp_path, args, poison)
    assert code == 1
    lines = [line for line in errors.splitlines() if line.startswith("facerecon:")]
    assert len(lines) == 1
    assert "step 2: not finite:" in lines[0]
    assert "of seed 0 face 6 to seed 0 face 7 (seed 0 face 6: given" in lines[0]
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").step == 1


@pytest.mark.slow
def test_sigterm_for_torchrun_leaves_a_checkpoint(tmp_path):
    args = arguments(tmp_path / "run", steps=1000)
    child = start(TORCHRUN, tmp_path, args)
    deadline = time.monotonic() + 120
    while len(read_log(tmp_path / "run" / "log.jsonl")) < 3:
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=120)
    line = next(line for line in errors.splitlines() if line.startswith("facerecon: stopped by"))
    done = latest_checkpoint(tmp_path / "run" / "checkpoints").step
    assert f"stopped by SIGTERM after step {done} of 1000; go on with facerecon train base" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model=nowhere.safetensors", "nowhere.safetensors: no such face model"),
        ("--set=batch=3", "batch 3 does not divide by 2 processes"),
    ],
)
def test_what_no_process_can_use_is_refused_once(tmp_path, option, message):
    code, _, errors = run(TORCHRUN, tmp_path, arguments(tmp_path / "run", option))
    assert code == 1  # torchrun's own
    assert errors.count(message) == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def torchrun_environment(monkeypatch):
    for name, value in dict(
        TORCHELASTIC_RUN_ID="7", LOCAL_WORLD_SIZE="2", WORLD_SIZE="4", RANK="0", LOCAL_RANK="0"
    ).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(devices=3), "devices 3: torchrun has started 2; leave it out"),
        (dict(num_nodes=1), "num_nodes 1: torchrun has started 2; leave it out"),
    ],
)
def test_numbers_that_torchrun_contradicts_are_refused(torchrun_environment, given, message):
    with pytest.raises(SettingsError, match=message):
        make_fabric("cpu", **given)


def test_fabric_is_told_what_torchrun_started(torchrun_environment, monkeypatch):
    """Left to itself it would train on one device, in each process anew."""
    import lightning.fabric

    told = {}

    class Spy:
        device = torch.device("cpu")

        def __init__(self, **options):
            told.update(options)

        def launch(self):
            pass

    monkeypatch.setattr(lightning.fabric, "Fabric", Spy)
    make_fabric("cpu", precision="bf16-mixed")
    assert told == {
        "accelerator": "cpu",
        "devices": 2,
        "num_nodes": 2,
        "strategy": "ddp",
        "precision": "bf16-mixed",
    }
