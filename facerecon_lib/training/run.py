"""One training run: its stage, network, data, log and checkpoints, as the loop finds them.

run = TrainingRun(settings, Path("runs/first"), make_fabric("cpu"))
training.optimise(run)
run.finish()                                         # the network's file
"""

from __future__ import annotations

import copy
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from torch import Tensor, nn

from .. import __version__
from ..data.shards.files import ShardsError
from ..face.batch import FaceBatch
from ..face.model_file import ModelError
from ..fitting.objective import Objective
from ..networks.backbones import EncoderError
from .augmented_stage import AugmentedStage
from .base_stage import BaseStage
from .checkpoints import (
    Checkpoint,
    find_run,
    latest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    save_checkpoint,
    write_settings,
)
from .data import held_out_faces, held_out_photos, open_data
from .guard import Interrupted, NonFiniteError, agree
from .logs import RunLog
from .processes import in_all, on_main
from .settings import RunSettings, SettingsError
from .stage import Stage
from .validation import validate


class TrainingRun:
    """What the loop works on: stage, network, optimizer, data, log and checkpoints.

    bare: the network. network: the same as Fabric runs it. average: its running average, or None.
    """

    def __init__(
        self,
        settings: RunSettings,
        out: Path,
        fabric,
        resume: bool = False,
        console: Console | None = None,
        allow_download: bool = False,
    ):
        self.out, self.fabric, self.main = out, fabric, fabric.global_rank == 0
        self.asked: list[int] = []  # signals that came in
        self.validation: dict = {}
        self.best: dict = {}
        self.saved: int | None = None
        on_main(fabric, lambda: settings.share(fabric.world_size))
        refusals = SettingsError, ModelError, EncoderError
        self.stage = in_all(fabric, lambda: open_stage(settings, fabric.device), refusals)
        self.place = (self.stage.scenes, fabric.global_rank, fabric.world_size)
        self.data = in_all(fabric, lambda: open_data(settings, *self.place))
        known = dict(faces_per_epoch=self.data.faces_per_epoch)
        self.settings = replace(self.stage.settings, **known)
        found = self._find(resume, console)
        self.first_step = 0 if found is None else found.step
        self.stage.prepare(fabric, allow_download)
        self._make_network(found, allow_download)
        on_main(fabric, lambda: write_settings(out, self.settings))
        self.batches = self.data.batches(self.first_step)
        steps = self.settings.total_steps
        self.log = RunLog(out, self.first_step, steps, self.main, console)
        if found is None and self.settings.validate_every:
            with self.log.pause():
                self.judge(0)

    def _find(self, resume: bool, console: Console | None) -> Checkpoint | None:
        """The checkpoint to go on from. Raises CheckpointError where `out` cannot be used."""

        def say(text: str) -> None:
            if console is not None:
                console.print(text, markup=False, soft_wrap=True)

        def find() -> Path | None:
            stage = self.stage
            found = find_run(self.out, self.settings, stage.sources, resume, say, stage.settled)
            return found and found.path

        path = on_main(self.fabric, find)
        return None if path is None else read_checkpoint(path)

    def _make_network(self, found: Checkpoint | None, allow_download: bool) -> None:
        s, fabric = self.settings, self.fabric
        torch.manual_seed(s.seed)  # of the weights that are not given
        network = self.stage.network(fabric, found is not None, allow_download)
        network.to(fabric.device, memory_format=torch.channels_last).train()
        kind = torch.optim.AdamW if s.weight_decay else torch.optim.Adam
        parameters = [p for p in network.parameters() if p.requires_grad]
        sizes = dict(lr=s.learning_rate, eps=s.adam_eps, weight_decay=s.weight_decay)
        adam = kind(parameters, **sizes, fused=True)
        self.bare, self.adam = network, adam
        self.network, self.optimizer = fabric.setup(network, adam)
        self.average = copy.deepcopy(network).eval() if s.ema else None
        if found is not None:
            found.load(self.stage, network, adam, self.average)
            in_all(fabric, lambda: self.data.load_state_dict(found.state["data"]))
            self.validation, self.best = found.state["validation"], found.state["best"]

    @property
    def judged(self) -> nn.Module:
        """The network that counts, in eval mode: the running average where there is one."""
        return (self.bare if self.average is None else self.average).eval()

    @torch.no_grad()
    def average_weights(self) -> None:
        """One step of the running average, of the weights; statistics are copied."""
        if self.average is None:
            return
        average, now = self.average, self.bare
        torch._foreach_lerp_(
            list(average.parameters()), list(now.parameters()), 1 - self.settings.ema
        )
        for ours, theirs in zip(average.buffers(), now.buffers(), strict=True):
            ours.copy_(theirs)

    def next_batch(self, step: int) -> FaceBatch:
        """The faces of a step. Raises ShardsError in all processes where one has none."""
        if self.settings.data is None:
            return next(self.batches)
        here = self.data.state_dict()
        try:
            return in_all(self.fabric, lambda: next(self.batches))
        except ShardsError as error:
            self.give_up(step, error, here)

    def guard(self, step: int, batch: FaceBatch, objective: Objective, norm: Tensor) -> bool:
        """Whether somebody asked for a stop. Raises NonFiniteError; the step's one wait."""
        weights = self.settings.weights
        try:
            return agree(self.fabric, self.asked, step, batch, objective, norm, weights)
        except NonFiniteError as error:
            last = latest_checkpoint(self.out / "checkpoints")
            rescue = f"the last checkpoint, {last.path}, is good" if last else "no checkpoint yet"
            raise NonFiniteError(
                f"{error}; stopped before the weights changed, {rescue}; look at those faces, or "
                "start again with a lower learning rate"
            ) from None

    def after(
        self, done: int, batch: FaceBatch, objective: Objective, norm: Tensor, prediction
    ) -> None:
        """Log, validate and save, where `done` steps are a multiple of what the settings say."""
        s, last = self.settings, done == self.settings.total_steps
        self.log.advance(done)
        if _due(done, s.log_every) or done == 1 or last:
            names = ["loss", "grad_norm", *objective.terms]
            values = torch.stack([objective.loss, norm, *objective.terms.values()]).detach()
            values = self.fabric.all_reduce(values, reduce_op="mean").tolist()
            numbers = dict(zip(names, values, strict=True))
            head = {name: numbers.pop(name) for name in names[:2]} | {"rate": s.rate(done - 1)}
            self.log.train(done, s.batch, head, numbers, s.weights)
        with self.log.pause():
            if self.main and _due(done, s.picture_every):
                rows = self.stage.rows(prediction, batch, objective)
                self.log.pictures("train", done, rows)
            validated = s.validate_every and (_due(done, s.validate_every) or last)
            if validated:
                try:
                    self.judge(done)
                except ShardsError as error:
                    self.give_up(done, error, self.data.state_dict())
            if validated or _due(done, s.checkpoint_every) or last:
                self.save(done)

    def judge(self, done: int) -> None:
        """Validate on held-out faces, and log what was found."""
        s, stage, fabric = self.settings, self.stage, self.fabric
        network = self.judged

        def show(*seen) -> None:
            if self.main:
                self.log.pictures("held-out", done, stage.rows(*seen))

        faces = held_out_faces(s, *self.place)
        numbers = validate(stage, network, faces, fabric, show)
        if s.data is not None:
            photos = held_out_photos(s, *self.place)
            numbers["photos"] = validate(stage, network, photos, fabric)
        self.bare.train()
        self.validation = numbers
        measure = numbers["photos"].get("loss") if numbers.get("photos") else None
        measure = numbers[stage.validation_measure] if measure is None else measure
        if not self.best or measure < self.best["measure"]:
            self.best = {"step": done, "measure": measure}
        self.log.validation(done, numbers, stage.summary(numbers))

    def save(self, done: int, data: dict | None = None) -> None:
        """A checkpoint of `done` steps; of the older ones the best stays. data: where reading
        stands, if not where it does now."""
        self.log.flush()
        self.saved = done
        if not self.main:
            return
        state = {
            "step": done,
            "settings": self.settings.as_json(),
            "data": self.data.state_dict() if data is None else data,
            "validation": self.validation,
            "best": self.best,
            **self.stage.sources,
            "torch": torch.__version__,
        }
        folder = self.out / "checkpoints"
        save_checkpoint(folder, self.stage, self.bare, self.adam, state, self.average)
        prune_checkpoints(folder, self.best.get("step"))

    def interrupt(self, done: int) -> None:
        """Leave with a checkpoint, and a line on how to go on. Raises Interrupted."""
        if self.saved != done:
            self.save(done)
        number = self.asked[0] if self.asked else signal.SIGTERM  # another process was asked
        name = signal.Signals(number).name
        raise Interrupted(f"stopped by {name} {self._how_to_go_on(done)}", number)

    def give_up(self, done: int, error: ShardsError, data: dict) -> NoReturn:
        """Leave, with a checkpoint, photos that cannot be read. Raises ShardsError."""
        if done > self.first_step:
            if self.saved != done:
                self.save(done, data)
            error = ShardsError(f"{error}; stopped {self._how_to_go_on(done)}")
            error.everywhere = True
        raise error

    def _how_to_go_on(self, done: int) -> str:
        s = self.settings
        again = f"facerecon train {s.stage} --out {self.out} --resume"
        return f"after step {done} of {s.total_steps}; go on with {again}"

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
            stage.save(self.out / stage.file, self.judged, metadata)
        self.fabric.barrier()


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def open_stage(settings: RunSettings, device: torch.device) -> Stage:
    """The stage that the settings are of. Raises ModelError or EncoderError for its files."""
    stage = {"base": BaseStage, "augmented": AugmentedStage}[settings.stage]
    return stage(settings, device)
