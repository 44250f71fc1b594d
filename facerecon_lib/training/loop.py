"""Training, sections 2.1 and 2.2: networks that learn to see faces through the renderer.

    result = train(PROFILES["smoke"], Path("runs/first"))                 # the encoder
    result.validation["vertex_mm"], result.network
    result = train(AUGMENTED_PROFILES["smoke"], Path("runs/second"))      # the U-Net
    result.validation["photometric"]

    facerecon train base --profile smoke --out runs/first            # the same from the shell
    torchrun --nproc_per_node 8 -m facerecon_lib.cli train base ...  # eight processes, one batch

`optimise` is the loop of either `Stage`. Lightning Fabric takes care of devices, processes and
precision: bfloat16 is for the networks alone, since millimetres and pixels need their digits.

**Several processes** share the batch of the settings, and average their gradients. How many there
are changes nothing but the rounding, except that ordinary batch normalisation takes its statistics
from a process's own faces; `sync_norm` joins them, on CUDA only, and the norms "group" and "frozen"
look at no other face. All processes read the checkpoints: machines have to share the folder `out`.

**Nothing is random** in a step but its faces, and those follow from its number or from the state of
the shards: on a CPU a resumed run takes the very steps that it would have taken, bit for bit.

Notebooks 06 and 09.
"""

from __future__ import annotations

import json
import platform
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import __version__
from ..data.shards.files import ShardsError
from ..face.batch import FaceBatch
from ..files.atomic import claim_folder
from ..files.locks import only_one
from ..fitting.objective import Objective
from .augmented_stage import AugmentedStage
from .base_stage import BaseStage
from .checkpoints import Checkpoint, find_run, save_checkpoint, write_settings
from .data import held_out_faces, held_out_photos, open_data
from .depth_stage import DepthStage
from .guard import Interrupted, agree, stop_signals
from .learned_stage import LearnedStage
from .logs import RunLog, say
from .nonlinear_stage import NonlinearStage
from .processes import gather, in_all, make_fabric
from .settings import RunSettings
from .stage import Stage, validate

STAGES = {
    "base": BaseStage,
    "augmented": AugmentedStage,
    "learned": LearnedStage,
    "nonlinear": NonlinearStage,
    "depth": DepthStage,
}


@dataclass
class TrainResult:
    """What a run leaves, beside its folder."""

    network: nn.Module  # its running average where there is one, in eval mode
    records: list[dict]  # of log.jsonl
    validation: dict  # the numbers of the last one
    steps: int  # in all
    seconds: float  # of this call


def train(
    settings: RunSettings,
    out: Path,
    *,
    resume: bool = False,
    fabric=None,
    console: Console | None = None,
    allow_download: bool = False,
) -> TrainResult:
    """Train the network of the settings' stage; `out` gets its file, checkpoints and logs.

    resume: go on from the last good checkpoint as if nothing had happened. fabric: of
    `make_fabric`; None makes one, of one device. console: where progress is shown.
    allow_download: of weights that are not here. Raises FacereconError for unusable settings and
    files, NonFiniteError when a loss or gradient stops being a number, and Interrupted after
    SIGTERM or Ctrl-C; the last checkpoint is then good.
    """
    began = time.perf_counter()
    settings.check()
    fabric = make_fabric(precision=settings.precision) if fabric is None else fabric
    with ExitStack() as held:
        run = TrainingRun(settings, Path(out), fabric, resume, console, allow_download, held)
        with stop_signals() as run.signals:
            optimise(run)
        run.finish()
    numbers = (run.validation, run.settings.total_steps, time.perf_counter() - began)
    return TrainResult(run.judged, run.log.records, *numbers)


def optimise(run: TrainingRun) -> None:
    """See, render, compare, descend."""
    s, fabric, stage = run.settings, run.fabric, run.stage
    for step in range(run.first_step, s.total_steps):
        parts = run.next_parts(step)  # rendered faces, photos, or both
        predictions = stage.predict(run.network, *parts)  # in bfloat16 if asked for, then float32
        losses = stage.compare(predictions, parts)
        objective = stage.total(losses)  # the mean of this process's faces
        fabric.backward(objective.loss)  # gradients are averaged over the processes
        norm = fabric.clip_gradients(
            run.network, run.optimizer, max_norm=s.clip_norm, error_if_nonfinite=False
        )
        stop = agree(run, step, parts, objective, norm)  # raises before a bad step is taken
        for group in run.optimizer.param_groups:
            group["lr"] = s.rate(step)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        if run.average is not None:
            run.average.update_parameters(run.bare)
        run.after(step + 1, objective, norm, predictions, parts, losses)
        if stop and step + 1 < s.total_steps:
            run.interrupt(step + 1)


def open_stage(settings: RunSettings, device: torch.device) -> Stage:
    """The stage of the settings. Raises ModelError or EncoderError for its files."""
    return STAGES[settings.stage](settings, device)


class TrainingRun:
    """What the loop works on: stage, network, optimizer, data, log and checkpoints.

    held: gets what is to be closed at the end: the folder's lock, the log.
    bare: the network. network: the same as Fabric runs it. average: its running average, or None.
    """

    def __init__(
        self,
        settings: RunSettings,
        out: Path,
        fabric,
        resume: bool,
        console,
        allow_download: bool,
        held: ExitStack,
    ):
        self.out, self.fabric, self.main = out, fabric, fabric.global_rank == 0
        self.signals: list[int] = []
        self.validation, self.best, self.saved = {}, {}, None
        console = console if self.main else None
        hosts, self.held = gather(fabric, platform.node()), held
        self.processes_here = hosts.count(platform.node())
        checkpoint = in_all(fabric, lambda: self._open(settings.resolved(), resume, console))
        self.first_step = 0 if checkpoint is None else checkpoint.step
        self.stage.prepare(fabric, allow_download)
        s = self.settings
        torch.manual_seed(s.seed)  # of the weights that no file gives
        network = self.stage.network(fabric, checkpoint is not None, allow_download)
        network.to(fabric.device, memory_format=torch.channels_last).train()
        kind = torch.optim.AdamW if s.weight_decay else torch.optim.Adam
        parameters = [p for p in network.parameters() if p.requires_grad]
        sizes = dict(lr=s.learning_rate, eps=s.adam_eps, weight_decay=s.weight_decay)
        self.bare, self.adam = network, kind(parameters, **sizes, fused=True)
        self.network, self.optimizer = fabric.setup(network, self.adam)
        self.average = None
        if s.ema:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(s.ema)).eval()
            self.average.n_averaged.fill_(1)  # of the first weights
        if checkpoint is not None:
            checkpoint.load(self.stage, network, self.adam, self.average)
        if self.main:
            write_settings(out, s)
        self.batches = zip(*(source.batches(self.first_step) for source in self.data), strict=True)
        self.log = RunLog(out, self.first_step, s.total_steps, self.main, console)
        held.enter_context(closing(self.log))
        if checkpoint is None and s.validate_every:
            with self.log.pause():
                self.judge(0)

    def _open(self, settings: RunSettings, resume: bool, console) -> Checkpoint | None:
        """Open stage and data; the checkpoint to resume. Raises FacereconError."""
        settings.parts(self.fabric.world_size)
        self.stage = open_stage(settings, self.fabric.device)
        self.place = (self.stage.scenes, self.fabric.global_rank, self.fabric.world_size)
        self.data = open_data(settings, *self.place)
        for source in self.data:
            source.check_shared_memory(self.processes_here)
        claim_folder(self.out)
        if self.main:
            busy = (
                f"{self.out}: another run is at it; wait for it, stop it, or choose another folder"
            )
            self.held.enter_context(only_one(self.out / ".lock", busy))
        self.settings = s = self.stage.settings
        if s.data is not None:
            self.settings = replace(s, faces_per_epoch=len(self.data[-1]) * s.batch)
        lines: list[str] = []
        checkpoint = find_run(self.out, self.settings, self.stage, resume, lines.append)
        if checkpoint is not None:
            self._move_data(checkpoint.state["data"])
            self.validation, self.best = checkpoint.state["validation"], checkpoint.state["best"]
        for line in lines:  # of a run that nothing refuses
            say(console, line)
        return checkpoint

    @property
    def judged(self) -> nn.Module:
        """The network that counts, in eval mode: the running average where there is one."""
        return (self.bare if self.average is None else self.average.module).eval()

    def next_parts(self, step: int) -> tuple[FaceBatch, ...]:
        """The faces of a step. Raises ShardsError in all processes where one has none."""
        if self.settings.data is None:
            return next(self.batches)
        positions = self._positions()
        try:
            return in_all(self.fabric, lambda: next(self.batches))
        except ShardsError as error:
            self._move_data(positions)  # this process may have got its photos
            self.give_up(step, error)

    def _positions(self) -> list:
        """Where the sources of the data stand."""
        return [source.state_dict() for source in self.data]

    def _move_data(self, positions) -> None:
        """To where they stood; a run from before there were mixes has the one of its source."""
        positions = positions if isinstance(positions, list) else [positions]
        for source, position in zip(self.data, positions, strict=True):
            source.load_state_dict(position)

    def after(
        self, done: int, objective: Objective, norm: Tensor, predictions: list, parts, losses: list
    ) -> None:
        """Log, validate and save, where `done` steps are a multiple of what the settings say."""
        s, last = self.settings, done == self.settings.total_steps
        self.log.advance(done)
        if _due(done, s.log_every) or done == 1 or last:
            terms = {"loss": objective.loss, "grad_norm": norm, **objective.terms}
            values = torch.stack(list(terms.values())).detach()
            values = self.fabric.all_reduce(values, reduce_op="mean").tolist()
            numbers = dict(zip(terms, values, strict=True))
            head = {name: numbers.pop(name) for name in ("loss", "grad_norm")}
            head["rate"] = s.rate(done - 1)
            self.log.train(done, s.batch, head, numbers, self.stage.weights)
        with self.log.pause():
            if self.main and _due(done, s.picture_every):
                rows = map(self.stage.rows, predictions, parts, losses)
                self.log.pictures("train", done, *rows)
            validated = s.validate_every and (_due(done, s.validate_every) or last)
            if validated:
                try:
                    self.judge(done)
                except ShardsError as error:
                    self.give_up(done, error)
            if validated or _due(done, s.checkpoint_every) or last:
                self.save(done)

    def judge(self, done: int) -> None:
        """Validate on held-out faces, and log the numbers."""
        s, stage, fabric, network = self.settings, self.stage, self.fabric, self.judged

        def judged(tag: str, faces: Iterable[FaceBatch]) -> dict:
            def show(*first) -> None:
                self.log.pictures(tag, done, stage.rows(*first))

            return validate(stage, network, faces, fabric, show if self.main else None)

        numbers = judged("held-out", held_out_faces(s, *self.place))
        measure = numbers[stage.validation_measure]
        if s.data is not None:
            numbers["photos"] = judged("held-out photos", held_out_photos(s, *self.place))
            if s.mix is None:  # else the measure of known truth, which the photos' loss is not
                measure = numbers["photos"].get("loss", measure)
        self.bare.train()
        self.validation = numbers
        if not self.best or measure < self.best["measure"]:
            self.best = {"step": done, "measure": measure}
        self.log.validation(done, numbers, stage.summary(numbers))

    def save(self, done: int) -> None:
        """A checkpoint of `done` steps, unless there is one; of the older ones the best stays."""
        self.log.flush()
        if self.main and self.saved != done:
            state = {
                "step": done,
                "settings": self.settings.as_json(),
                "data": self._positions(),
                "validation": self.validation,
                "best": self.best,
                **self.stage.sources,
                "torch": torch.__version__,
            }
            folder = self.out / "checkpoints"
            save_checkpoint(folder, self.stage, self.bare, self.adam, state, self.average)
        self.saved = done

    def interrupt(self, done: int) -> NoReturn:
        """Leave with a checkpoint, and a line on how to go on. Raises Interrupted."""
        number = self.signals[0] if self.signals else signal.SIGTERM  # another process was asked
        name = signal.Signals(number).name
        raise Interrupted(self._leave(done, f"stopped by {name}"), number)

    def give_up(self, done: int, error: ShardsError) -> NoReturn:
        """Write a checkpoint and raise the ShardsError of unreadable photos."""
        if done > self.first_step:
            error = ShardsError(self._leave(done, f"{error}; stopped"))
            error.everywhere = True
        raise error

    def _leave(self, done: int, reason: str) -> str:
        """Write a checkpoint; the reason, and how to go on."""
        self.save(done)
        s = self.settings
        again = f"facerecon train {s.stage} --out {self.out} --resume"
        return f"{reason} after step {done} of {s.total_steps}; go on with {again}"

    def finish(self) -> None:
        """The network's file, which says where it comes from."""
        if self.main:
            s, stage, model = self.settings, self.stage, self.stage.model
            metadata = {
                "settings": json.dumps(s.as_json()),
                "steps": str(s.total_steps),
                "faces": str(s.total_steps * s.batch),
                "version": __version__,
                "model": model.metadata.get("name", model.metadata["file"]),
                "model_sha256": stage.sources["face_model"],
                "validation": json.dumps(self.validation),
            }
            stage.save(self.out / s.network_file, self.judged, metadata)
        self.fabric.barrier()


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
