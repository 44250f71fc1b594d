"""Training, sections 2.1 and 2.2: networks that learn to see faces through the renderer.

    result = train_base(PROFILES["smoke"], Path("runs/first"))
    result.validation["vertex_mm"], result.encoder
    result = train_augmented(AUGMENTED_PROFILES["smoke"], Path("runs/second"))
    result.validation["photometric"], result.unet

    facerecon train base --profile smoke --out runs/first            # the same from the shell
    torchrun --nproc_per_node 8 -m facerecon_lib.cli train base ...  # eight processes, one batch

The loop is `optimise`, for either `Stage` (`training/stage.py`). Lightning Fabric takes care of
devices, processes and precision: bfloat16 is for the network alone, since millimetres and pixels
need their digits.

**Several processes.** The batch of the settings is that of all processes together. Each takes its
slice of the same faces, each loss is a mean over faces, and gradients are averaged over processes:
how many there are changes nothing but the rounding, with one exception. Ordinary batch
normalisation takes its statistics from the slice of each process, and the running ones are those of
the first process. `sync_norm` joins the slices again, on CUDA only; the norms "group" and "frozen"
look at no other face in the first place. All processes read the checkpoints: with several machines
`out` has to be a folder that they share.

**Nothing is random** in a step but its faces, and those follow from its number or from the state of
the shards. So a resumed run takes the steps that it would have taken: on a CPU bit for bit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import nn

from ..data.shards.files import ShardsError
from ..networks.encoder import Encoder
from ..networks.unet import DoubleHeadUNet
from .checkpoints import CheckpointError
from .guard import Interrupted, NonFiniteError, stop_signals
from .processes import leave_processes, make_fabric
from .profiles import AUGMENTED_PROFILES, PROFILES
from .run import TrainingRun
from .settings import (
    AugmentedSettings,
    RunSettings,
    SettingsError,
    TrainSettings,
    balanced_weights,
    report_weights,
)

__all__ = ["AUGMENTED_PROFILES", "PROFILES", "AugmentedResult", "AugmentedSettings"]
__all__ += ["CheckpointError", "Interrupted", "NonFiniteError", "SettingsError", "ShardsError"]
__all__ += ["TrainResult", "TrainSettings", "TrainingRun", "balanced_weights", "leave_processes"]
__all__ += ["make_fabric", "optimise", "report_weights", "train_augmented", "train_base"]


@dataclass
class TrainResult:
    """encoder: as trained (the running average where one is kept), in eval mode. records: those of
    log.jsonl. validation: the last one's numbers. steps: done in all. seconds: of this call."""

    encoder: Encoder
    records: list[dict]
    validation: dict
    steps: int
    seconds: float


@dataclass
class AugmentedResult:
    """unet: as trained, in eval mode; the rest as in `TrainResult`."""

    unet: DoubleHeadUNet
    records: list[dict]
    validation: dict
    steps: int
    seconds: float


def train_base(settings: TrainSettings, out: Path, **options) -> TrainResult:
    """Train the encoder, section 2.1. All that is written is under `out`, in the end
    encoder.safetensors. Options and errors are those of `run_stage`."""
    return TrainResult(*run_stage(settings, out, **options))


def train_augmented(settings: AugmentedSettings, out: Path, **options) -> AugmentedResult:
    """Train the U-Net on a frozen encoder, section 2.2; in the end offset_unet.safetensors.
    Options and errors are those of `run_stage`."""
    return AugmentedResult(*run_stage(settings, out, **options))


def run_stage(
    settings: RunSettings,
    out: Path,
    *,
    resume: bool = False,
    fabric=None,
    console: Console | None = None,
    allow_download: bool = False,
) -> tuple[nn.Module, list[dict], dict, int, float]:
    """Train what the settings are of: the network, and what else is in a `TrainResult`.

    resume: go on from the last good checkpoint as if nothing had happened. fabric: of
    `make_fabric`; None makes one, of one device. console: where progress is shown.
    allow_download: of weights that are not here.
    Raises SettingsError, CheckpointError, ShardsError, ModelError, EncoderError, UNetError or
    RecognitionError for what cannot be trained or resumed, NonFiniteError when a loss or gradient
    stops being a number, and Interrupted after SIGTERM or Ctrl-C; the last checkpoint is then good.
    """
    began = time.perf_counter()
    settings.check()
    fabric = make_fabric(precision=settings.precision) if fabric is None else fabric
    run = TrainingRun(settings, Path(out), fabric, resume, console, allow_download)
    try:
        with stop_signals() as run.asked:
            optimise(run)
        run.finish()
    finally:
        run.log.close()
    steps, records = run.settings.total_steps, run.log.records
    return run.judged, records, run.validation, steps, time.perf_counter() - began


def optimise(run: TrainingRun) -> None:
    """See, render, compare, descend."""
    s, fabric, stage = run.settings, run.fabric, run.stage
    for step in range(run.first_step, s.total_steps):
        batch = run.next_batch(step)
        prediction = stage.predict(run.network, batch)  # in bfloat16 where asked for, then float32
        objective = stage.objective(prediction, batch)  # the mean of this process's faces
        fabric.backward(objective.loss)  # gradients are averaged over the processes
        norm = fabric.clip_gradients(
            run.network, run.optimizer, max_norm=s.clip_norm, error_if_nonfinite=False
        )
        stop = run.guard(step, batch, objective, norm)  # raises before a bad step is taken
        for group in run.optimizer.param_groups:
            group["lr"] = s.rate(step)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.average_weights()
        run.after(step + 1, batch, objective, norm, prediction)
        if stop and step + 1 < s.total_steps:
            run.interrupt(step + 1)
