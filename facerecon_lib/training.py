"""Training the base branch, section 2.1: an encoder that learns to see faces through the renderer.

    result = train_base(PROFILES["smoke"], Path("runs/first"))
    result.validation["vertex_mm"], result.encoder

    facerecon train base --profile smoke --out runs/first            # the same from the shell
    torchrun --nproc_per_node 8 -m facerecon_lib.cli train base ...  # eight processes, one batch

The loop is `optimise`. Lightning Fabric takes care of devices, processes and precision: bfloat16 is
for the encoder alone, since millimetres and pixels need their digits.

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

import copy
import json
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from . import __version__
from .encoder import Encoder, load_encoder, save_encoder
from .face_batch import FaceBatch
from .morphable_model import MorphableModel, shipped_model_path
from .objective import BaseObjective, Objective
from .photo_shards import ShardsError
from .recognition import RecognitionError, load_network
from .training_checkpoints import (
    Checkpoint,
    CheckpointError,
    find_run,
    latest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    save_checkpoint,
    sha256_of,
    write_settings,
)
from .training_data import held_out_faces, held_out_photos, open_data
from .training_guard import Interrupted, NonFiniteError, agree, stop_signals
from .training_logs import RunLog
from .training_processes import leave_processes, make_fabric, on_main
from .training_settings import (
    PROFILES,
    SettingsError,
    TrainSettings,
    balanced_weights,
    report_weights,
)
from .training_validation import validate

__all__ = ["PROFILES", "CheckpointError", "Interrupted", "NonFiniteError", "SettingsError"]
__all__ += ["ShardsError", "TrainResult", "TrainSettings", "balanced_weights", "leave_processes"]
__all__ += ["make_fabric", "optimise", "report_weights", "train_base"]


@dataclass
class TrainResult:
    """encoder: as trained (the running average where one is kept), in eval mode. records: those of
    log.jsonl. validation: the last one's numbers. steps: done in all. seconds: of this call."""

    encoder: Encoder
    records: list[dict]
    validation: dict
    steps: int
    seconds: float


def train_base(
    settings: TrainSettings,
    out: Path,
    *,
    resume: bool = False,
    fabric=None,
    console: Console | None = None,
    allow_download: bool = False,
) -> TrainResult:
    """Train the encoder. All that is written is under `out`, in the end encoder.safetensors.

    resume: go on from the last good checkpoint as if nothing had happened. fabric: of
    `make_fabric`; None makes one, of one device. console: where progress is shown.
    allow_download: of weights that are not here.
    Raises SettingsError, CheckpointError, ShardsError, ModelError, EncoderError or RecognitionError
    for what cannot be trained or resumed, NonFiniteError when a loss or gradient stops being a
    number, and Interrupted after SIGTERM or Ctrl-C; the last checkpoint is then good.
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
    return TrainResult(run.judged, records, run.validation, steps, time.perf_counter() - began)


def optimise(run: TrainingRun) -> None:
    """Section 2.1: see, render, compare, descend."""
    s, fabric = run.settings, run.fabric
    batches = run.data.batches(run.first_step)
    for step in range(run.first_step, s.total_steps):
        batch = next(batches)
        image = batch.image.contiguous(memory_format=torch.channels_last)
        coefficients = run.network(image)  # in bfloat16 where asked for; float32 from here on
        objective = run.objective(coefficients, batch)  # Eq. 7, the mean of this process's faces
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
        run.after(step + 1, batch, objective, norm)
        if stop and step + 1 < s.total_steps:
            run.interrupt(step + 1)


class TrainingRun:
    """What the loop works on: network, optimizer, data, objective, log and checkpoints."""

    def __init__(
        self,
        settings: TrainSettings,
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
        path = settings.face_model or shipped_model_path()
        model = MorphableModel.load(path, subdivision=settings.subdivision)
        self.model, self.model_digest = model.to(fabric.device), sha256_of(path)
        self.place = (self.model, fabric.global_rank, fabric.world_size)
        self.data = open_data(settings, *self.place)
        self.settings = replace(settings, faces_per_epoch=self.data.faces_per_epoch)
        found = self._find(resume, console)
        self.first_step = 0 if found is None else found.step
        self.objective = self._make_objective(allow_download)
        self._make_network(found, allow_download)
        on_main(fabric, lambda: write_settings(out, self.settings))
        steps = self.settings.total_steps
        self.log = RunLog(out, self.first_step, steps, self.main, console)
        if found is None and self.settings.validate_every:
            self.judge(0)

    def _find(self, resume: bool, console: Console | None) -> Checkpoint | None:
        """The checkpoint to go on from. Raises CheckpointError where `out` cannot be used."""

        def say(text: str) -> None:
            if console is not None:
                console.print(text, markup=False, soft_wrap=True)

        def find() -> Path | None:
            found = find_run(self.out, self.settings, resume, say)
            if found is not None and found.state["face_model"] != self.model_digest:
                raise CheckpointError(
                    f"{self.out}: was trained with another face model; resume with the same file"
                )
            return found and found.path

        path = on_main(self.fabric, find)
        return None if path is None else read_checkpoint(path)

    def _make_objective(self, allow_download: bool) -> BaseObjective:
        s, network = self.settings, None
        if s.recognition != "none":
            try:
                with self.fabric.rank_zero_first():  # it may have to be fetched
                    network = load_network(
                        s.recognition, device=self.fabric.device, allow_download=allow_download
                    )
            except RecognitionError as error:
                raise SettingsError(f"{error}; here: --download, or --recognition dlib") from error
        try:
            return BaseObjective(self.model, s.weights, s.reduction, network, s.render_size)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _make_network(self, found: Checkpoint | None, allow_download: bool) -> None:
        s, fabric = self.settings, self.fabric
        torch.manual_seed(s.seed)  # of the weights that are not given
        pretrained = "none" if found else s.pretrained
        trained = pretrained.endswith(".safetensors")
        weights = "none" if trained else pretrained
        kind = (s.backbone, s.norm, weights, allow_download, s.input_size)
        encoder = Encoder(self.model.sizes, *kind)
        if trained:
            encoder.take(load_encoder(Path(pretrained), self.model))
        if s.sync_norm and fabric.world_size > 1:
            if fabric.device.type != "cuda":
                raise SettingsError("sync_norm: only on CUDA; use norm 'group' or 'frozen' here")
            encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
        encoder.to(fabric.device, memory_format=torch.channels_last).train()
        adam = torch.optim.AdamW if s.weight_decay else torch.optim.Adam
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        sizes = dict(lr=s.learning_rate, eps=s.adam_eps, weight_decay=s.weight_decay)
        adam = adam(parameters, **sizes, fused=True)
        self.encoder, self.adam = encoder, adam
        self.network, self.optimizer = fabric.setup(encoder, adam)
        self.average = copy.deepcopy(encoder).eval() if s.ema else None
        if found is not None:
            found.load(encoder, adam, self.average)
            self.data.load_state_dict(found.state["data"])
            self.validation, self.best = found.state["validation"], found.state["best"]

    @property
    def judged(self) -> Encoder:
        """The encoder that counts, in eval mode: the running average where there is one."""
        return (self.encoder if self.average is None else self.average).eval()

    @torch.no_grad()
    def average_weights(self) -> None:
        """One step of the running average, of the weights; statistics are copied."""
        if self.average is None:
            return
        average, now = self.average, self.encoder
        torch._foreach_lerp_(
            list(average.parameters()), list(now.parameters()), 1 - self.settings.ema
        )
        for ours, theirs in zip(average.buffers(), now.buffers(), strict=True):
            ours.copy_(theirs)

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

    def after(self, done: int, batch: FaceBatch, objective: Objective, norm: Tensor) -> None:
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
            if _due(done, s.picture_every):
                self.log.pictures("train", done, batch, objective)
            validated = s.validate_every and (_due(done, s.validate_every) or last)
            if validated:
                self.judge(done)
            if validated or _due(done, s.checkpoint_every) or last:
                self.save(done)

    def judge(self, done: int) -> None:
        """Validate on held-out faces, and log what was found."""
        s, fabric, encoder = self.settings, self.fabric, self.judged
        common = (encoder, self.model, self.objective)

        def show(batch: FaceBatch, found: Objective) -> None:
            self.log.pictures("held-out", done, batch, found)

        with self.log.pause():
            numbers = validate(*common, held_out_faces(s, *self.place), fabric, show)
            if s.data is not None:
                numbers["photos"] = validate(*common, held_out_photos(s, *self.place), fabric)
            self.encoder.train()
            self.validation = numbers
            measure = numbers["photos"].get("loss") if numbers.get("photos") else None
            measure = numbers["vertex_mm"] if measure is None else measure
            if not self.best or measure < self.best["measure"]:
                self.best = {"step": done, "measure": measure}
            self.log.validation(done, numbers)

    def save(self, done: int) -> None:
        """A checkpoint of `done` steps; of the older ones the best stays."""
        self.log.flush()
        self.saved = done
        if not self.main:
            return
        state = {
            "step": done,
            "settings": self.settings.as_json(),
            "data": self.data.state_dict(),
            "validation": self.validation,
            "best": self.best,
            "face_model": self.model_digest,
            "torch": torch.__version__,
        }
        folder = self.out / "checkpoints"
        save_checkpoint(folder, self.encoder, self.adam, state, self.average)
        prune_checkpoints(folder, self.best.get("step"))

    def interrupt(self, done: int) -> None:
        """Leave with a checkpoint, and a line on how to go on. Raises Interrupted."""
        if self.saved != done:
            self.save(done)
        number = self.asked[0] if self.asked else signal.SIGTERM  # another process was asked
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} after step {done} of "
            f"{self.settings.total_steps}; go on with "
            f"facerecon train base --out {self.out} --resume",
            number,
        )

    def finish(self) -> None:
        """out/encoder.safetensors, which says where it comes from."""
        if self.main:
            s, model = self.settings, self.model
            metadata = {
                "settings": json.dumps(s.as_json()),
                "steps": str(s.total_steps),
                "faces": str(s.total_steps * s.batch),
                "version": __version__,
                "model": model.metadata.get("name", model.metadata["file"]),
                "model_sha256": self.model_digest,
                "validation": json.dumps(self.validation),
            }
            save_encoder(self.out / "encoder.safetensors", self.judged, metadata)
        self.fabric.barrier()


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
