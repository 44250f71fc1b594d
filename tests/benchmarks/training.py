"""How fast either stage trains: photos/s of its whole step, beside those of the bare network.

    python tests/benchmarks/training.py                  # CPU: MobileNetV3 at 112, in a minute
    python tests/benchmarks/training.py --device cuda    # ResNet-50, 224, bf16, Eq. 7, 64 and 256
    python tests/benchmarks/training.py --device cuda --batch 64 --profile
    python tests/benchmarks/training.py --stage augmented --device cuda    # U-Net, bf16, Eq. 12
    python tests/benchmarks/training.py --set backbone=resnet18 --set input_size=224
    python tests/benchmarks/training.py --shards SHARDS --set mix=rendered:0.5

The step is that of facerecon_lib/training/loop.py, without log and checkpoints: with new faces
rendered each time, with one batch at hand, and with photos from shards where a folder is given. The
bare network (of the encoder its backbone) goes forward and backward over random images, with the
mean of its output for a loss; the ratios are to that, without Adam. These take turns, and each
number is the median over the turns. The parts are timed one by one, waiting for the device.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from timing import Stopwatch, console, machine, peak_memory, profile, seconds, show_counts, waits

from facerecon_lib.cli.train import with_setting
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.fitting.objective import Objective
from facerecon_lib.rendering.synthesis import CROP_SIZE
from facerecon_lib.training.data import open_data
from facerecon_lib.training.loop import make_fabric, open_stage
from facerecon_lib.training.settings import (
    AugmentedSettings,
    RunSettings,
    TrainSettings,
    loss_weights,
)

EPOCHS, PHOTOS = {"base": 20, "augmented": 7}, 114_000
"""Training as in sections 2.1 and 2.2; 114,000 photos are one epoch."""

WARM_UP, STEPS, REPEATS = {"cpu": 1, "cuda": 5}, {"cpu": 1, "cuda": 5}, {"cpu": 5, "cuda": 9}
BATCHES = {"cpu": [8], "cuda": [64, 256]}
ROWS = {
    "rendered": "whole step, faces rendered",
    "at_hand": "whole step, batch at hand",
    "shards": "whole step, photos from shards, or mixed",
    "bare": "bare network, forward and backward",
    "bare_adam": "bare network, with its Adam step",
}
SMALL = dict(learning_rate=3e-5, clip_norm=10.0)
LARGE = SMALL | dict(
    precision="bf16-mixed", recognition="dlib", subdivision=1, reduction="sum"
)  # the report's, with dlib's network in the place of the one that has to be fetched
SETTINGS: dict[tuple[str, str], RunSettings] = {
    ("base", "cpu"): TrainSettings(**SMALL, input_size=112),
    ("base", "cuda"): TrainSettings(
        **LARGE, backbone="resnet50", weights=loss_weights("base", "report", "dlib")
    ),
    ("augmented", "cpu"): AugmentedSettings(**SMALL, width=8),
    ("augmented", "cuda"): AugmentedSettings(
        **LARGE,
        weights=loss_weights("augmented", "report", "dlib"),
        symmetry="image",
        smooth_on="face",
        wrinkles=False,
    ),
}


class Training:
    """The training step of a stage."""

    def __init__(self, settings: RunSettings, device: str):
        self.settings, self.device, self.seen = settings, device, 0
        self.fabric = make_fabric(device, precision=settings.precision)
        self.stage = open_stage(settings, self.fabric.device)
        self.stage.prepare(self.fabric)
        wrinkles = getattr(settings, "wrinkles", False)
        self.faces = RenderedFaces(self.stage.scenes, seed=0, wrinkles=wrinkles)
        torch.manual_seed(0)
        self.network, self.adam = self._ready(self.stage.network(self.fabric))

    def _ready(self, network: torch.nn.Module):
        network.to(self.fabric.device, memory_format=torch.channels_last).train()
        rate = self.settings.learning_rate
        return self.fabric.setup(network, torch.optim.Adam(network.parameters(), rate, fused=True))

    def data(self) -> FaceBatch:
        """The next faces; never the same ones twice."""
        start, self.seen = self.seen, self.seen + self.settings.batch
        return self.faces.batch(torch.arange(start, self.seen))

    def step(self, *parts: FaceBatch) -> None:
        losses = self.stage.compare(self.stage.predict(self.network, *parts), parts)
        objective = self.stage.total(losses)
        self.fabric.backward(objective.loss)
        self._clip(objective)
        self._descend()

    def _clip(self, objective: Objective) -> None:
        """Clips the gradient, and waits to hear that all is finite, as training does."""
        norm = self.fabric.clip_gradients(
            self.network, self.adam, max_norm=self.settings.clip_norm, error_if_nonfinite=False
        )
        values = torch.stack([*objective.terms.values(), objective.loss, norm]).detach()
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"not finite: {[*objective.terms]}, loss, norm: {values}")

    def _descend(self) -> None:
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def bare(self) -> Callable[[bool], None]:
        """The step of the network alone: bare(adam=True) with its Adam step."""
        network, images = self.stage.network(self.fabric), 2
        if self.settings.stage == "base":
            network, images = network.features, 1
        side = getattr(self.settings, "input_size", CROP_SIZE)
        network, adam = self._ready(network)
        shape = (images, self.settings.batch, 3, side, side)
        inputs = torch.rand(shape, device=self.fabric.device)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]

        def step(with_adam: bool) -> None:
            outputs = network(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            self.fabric.backward(sum(x.float().mean() for x in outputs))
            if with_adam:
                adam.step()
            adam.zero_grad(set_to_none=True)

        return step

    def parts(self) -> dict[str, float]:
        """Seconds of the parts of one step, cut at the network's output, the only way from the
        losses back into it."""
        clock, cut = Stopwatch(self.device), {}

        def network(*images):
            with clock("network, forward"):
                cut["outputs"] = self.network(*images)
            tensors = _tensors(cut["outputs"])
            cut["leaves"] = [x.detach().requires_grad_() for x in tensors]
            return type(cut["outputs"])(*cut["leaves"])

        with clock("data"):
            batch = self.data()
        with clock("predict"):
            predictions = self.stage.predict(network, batch)
        with clock("rendering and losses, forward"):
            [objective] = self.stage.compare(predictions, [batch])
        with clock("rendering and losses, backward"):
            pulls = torch.autograd.grad(objective.loss, cut["leaves"], allow_unused=True)
        with clock("network, backward"):
            pairs = zip(_tensors(cut["outputs"]), pulls, strict=True)
            self.fabric.backward(sum((x * p).sum() for x, p in pairs if p is not None))
        with clock("clipping and guard"):
            self._clip(objective)
        with clock("Adam"):
            self._descend()
        times = dict(clock.times)
        times["before and after the network"] = times.pop("predict") - times["network, forward"]
        return times


def _tensors(outputs) -> list[torch.Tensor]:
    """Of FaceCoefficients or OffsetMaps."""
    names = [f.name for f in fields(outputs)] if is_dataclass(outputs) else outputs._fields
    values = [getattr(outputs, name) for name in names]
    return [value for value in values if value is not None]  # an encoder sees no gaze


def measure(s: RunSettings, device: str, steps: int, repeats: int) -> dict:
    """All numbers of one batch size, as the file has them."""
    training = Training(s, device)
    at_hand = training.data()
    kinds = {
        "rendered": lambda: training.step(training.data()),
        "at_hand": lambda: training.step(at_hand),
    }
    seconds(kinds["rendered"], WARM_UP[device], device)
    peak = peak_memory(kinds["rendered"], device)  # before the bare network takes its share
    bare = training.bare()
    kinds |= {"bare": lambda: bare(False), "bare_adam": lambda: bare(True)}
    for step in kinds.values():
        seconds(step, WARM_UP[device], device)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, step in kinds.items():
            times[name].append(seconds(step, steps, device))
    if s.data is not None:
        sources = [source.batches(0) for source in open_data(s, training.stage.scenes, 0, 1)]
        step = lambda: training.step(*map(next, sources))  # noqa: E731
        seconds(step, WARM_UP[device] + 2 * s.workers, device)  # that is read ahead
        times["shards"] = [seconds(step, steps, device) for _ in range(repeats)]
    rate = {name: s.batch / statistics.median(t) for name, t in times.items()}
    training.parts()  # warms up
    parts = [training.parts() for _ in range(max(repeats, 3))]
    return {
        "batch": s.batch,
        "seconds_a_step": times,
        "photos_per_s": rate,
        "of_bare": {name: r / rate["bare"] for name, r in rate.items()},
        "hours": {name: EPOCHS[s.stage] * PHOTOS / r / 3600 for name, r in rate.items()},
        "peak_memory_gib": peak,
        "seconds_of_parts": {k: statistics.median(p[k] for p in parts) for k in parts[0]},
    }


def show(stage: str, device: str, r: dict) -> None:
    where = "on the GPU" if device == "cuda" else "of this process"
    table = Table("", title=f"batch {r['batch']}: at most {r['peak_memory_gib']:.2f} GiB {where}")
    hours = f"hours for {EPOCHS[stage]} x {PHOTOS:,}"
    for column in ("ms per step", "photos/s", "of the bare network", hours):
        table.add_column(column, justify="right")
    for name in (name for name in ROWS if name in r["photos_per_s"]):
        rate = r["photos_per_s"][name]
        cells = f"{1e3 * r['batch'] / rate:.1f}", f"{rate:.1f}", f"{r['of_bare'][name]:.0%}"
        table.add_row(ROWS[name], *cells, f"{r['hours'][name]:.2f}")
    console.print(table)
    total = sum(r["seconds_of_parts"].values())
    table = Table("part", title=f"its parts, waited for one by one: {1e3 * total:.1f} ms")
    for column in ("ms", "share"):
        table.add_column(column, justify="right")
    for name, value in r["seconds_of_parts"].items():
        table.add_row(name, f"{1e3 * value:.1f}", f"{value / total:.1%}")
    console.print(table)


def main(
    stage: Annotated[str, typer.Option(help="base or augmented.")] = "base",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[list[int] | None, typer.Option(help="Photos per step; repeatable.")] = None,
    other: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="As `facerecon train`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps that make one time.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Times; the median counts.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Folder of shards of photos.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read shards.")] = 8,
    with_profile: Annotated[
        bool, typer.Option("--profile", help="What takes longest, and what waits.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="All numbers, raw.")] = None,
) -> None:
    """Time a training step. What is not given is as in SETTINGS."""
    if (stage, device) not in SETTINGS:
        raise typer.BadParameter("--stage: base or augmented; --device: cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device cuda: torch sees no GPU here; take --device cpu")
    s = SETTINGS[stage, device]
    if shards is not None:
        s = replace(s, data=str(shards), workers=workers)
    for text in other or []:
        s = with_setting(s, text)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    record = {"machine": machine(device), "settings": asdict(s), "results": []}
    console.print(record["machine"], record["settings"])
    for n in batch or BATCHES[device]:
        try:
            s = replace(s, batch=n)
            counts = steps or STEPS[device], repeats or REPEATS[device]
            record["results"].append(measure(s, device, *counts))
            show(stage, device, record["results"][-1])
        except torch.OutOfMemoryError as error:
            console.print(f"batch {n}: left out; {str(error).split('. ')[0]}", markup=False)
        if device == "cuda":
            torch.cuda.empty_cache()
    if with_profile:
        training = Training(s, device)
        seconds(lambda: training.step(training.data()), WARM_UP[device], device)
        record["counts"] = profile(training)
        show_counts(f"one step, batch {s.batch}", record["counts"])
        if device == "cuda":
            record["waits"] = dict(waits(training).most_common())
            show_counts("lines that wait for the GPU", record["waits"])
    if json_file is not None:
        with write_whole(json_file) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
