"""How fast either stage trains: photos/s of its whole step, beside those of the bare network.

    python tests/benchmarks/training.py                  # CPU: MobileNetV3 at 112, in a minute
    python tests/benchmarks/training.py --device cuda    # ResNet-50, 224, bf16, Eq. 7, 64 and 256
    python tests/benchmarks/training.py --device cuda --batch 64 --profile
    python tests/benchmarks/training.py --stage augmented --device cuda    # U-Net, bf16, Eq. 12

The step is that of facerecon_lib/training/loop.py: faces, encoder, rendering and losses, backward,
clipping, the guard against losses that are no numbers, Adam. It is timed with new faces rendered
each time, with one batch that is there already, and with photos from shards where a folder of them
is given. The bare backbone goes forward and backward over random images of the encoder's size, with
the mean of its feature maps for a loss; the ratios are to that, without the Adam step that the
whole step has as well. These take turns, and each number is the median over the turns: the machine
may be busy with other things. (Shards are read in one go: their readers work in others' turns too.)
What the parts take is measured in steps of their own, in which the device is waited for before and
after every part. Stage two, the augmented branch, is in `augmented_training.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import torch
import typer
from augmented_training import AugmentedTraining
from rich.table import Table
from timing import (
    Stopwatch,
    console,
    machine,
    peak_memory,
    profile,
    seconds,
    show_counts,
    waits,
    write,
)

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import CROP_SIZE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.objective import BaseObjective, Objective
from facerecon_lib.fitting.weights import RECOGNITION_WEIGHTS, RENDERED_WEIGHTS, REPORT_WEIGHTS
from facerecon_lib.networks.backbones import BACKBONES
from facerecon_lib.networks.encoder import Encoder
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.rendering.synthesis import synthesise

EPOCHS, PHOTOS = {"base": 20, "augmented": 7}, 114_000
"""Training as in sections 2.1 and 2.2; 114,000 photos are one epoch."""

LEARNING_RATE, CLIP_NORM = 3e-5, 10.0
OFFSET_TERMS = ("offset", "smooth")  # of REPORT_WEIGHTS: they are the other branch's
REDUCTIONS = {"report": "sum", "rendered": "mean"}
TF32 = {"none": (False, False), "convolutions": (True, False), "all": (True, True)}


@dataclass(frozen=True)
class Settings:
    """What is timed. backbone, size, render_size: of stage one; width: of stage two's U-Net.
    warm_up: steps that do not count; steps: how many make one time; repeats: how many times each
    kind has."""

    stage: str = "base"
    device: str = "cpu"
    backbone: str = "mobilenet_v3_large"
    batch: tuple[int, ...] = (8,)
    size: int = 112
    render_size: int = CROP_SIZE
    width: int = 8
    precision: str = "fp32"
    tf32: str = "convolutions"
    recognition: str = "none"
    weights: str = "rendered"
    subdivision: int = 0
    warm_up: int = 1
    steps: int = 1
    repeats: int = 5


DEFAULTS = {
    "cpu": Settings(),
    # The report's training, with dlib's network in the place of the one that has to be fetched.
    "cuda": Settings(
        device="cuda",
        backbone="resnet50",
        batch=(64, 256),
        size=224,
        width=16,
        precision="bf16",
        recognition="dlib",
        weights="report",
        subdivision=1,
        warm_up=5,
        steps=5,
        repeats=9,
    ),
}


# What is timed ----------------------------------------------------------------------------------


class Training:
    """The training step, without log and checkpoints."""

    def __init__(self, s: Settings, batch: int):
        self.s, self.batch, self.seen = s, batch, 0
        self.model = MorphableModel.load(subdivision=s.subdivision).to(s.device)
        self.faces = RenderedFaces(self.model, seed=0)
        self.objective = self._objective(s.recognition)
        self.without_recognition = self._objective("none")
        torch.manual_seed(0)
        encoder = Encoder(self.model.sizes, s.backbone, input_size=s.size)
        self.encoder = encoder.to(s.device, memory_format=torch.channels_last).train()
        self.adam = _adam(self.encoder)

    def _objective(self, recognition: str) -> BaseObjective:
        s = self.s
        weights = dict(REPORT_WEIGHTS if s.weights == "report" else RENDERED_WEIGHTS)
        weights = {name: w for name, w in weights.items() if not name.startswith(OFFSET_TERMS)}
        network = None
        if recognition == "none":
            weights.pop("recognition")
        else:
            network = load_network(recognition, device=s.device)
            if s.weights == "report":
                weights["recognition"] = RECOGNITION_WEIGHTS[recognition]
        return BaseObjective(self.model, weights, REDUCTIONS[s.weights], network, s.render_size)

    def data(self) -> FaceBatch:
        """The next faces; never the same ones twice."""
        start, self.seen = self.seen, self.seen + self.batch
        return self.faces.batch(torch.arange(start, start + self.batch))

    def see(self, batch: FaceBatch):
        """The encoder alone is in half precision; rendering and losses are not."""
        image = batch.image.contiguous(memory_format=torch.channels_last)
        with _autocast(self.s):
            return self.encoder(image)

    def clip(self, objective: Objective) -> None:
        """Clips the gradient, and waits to hear that all is finite, as training does."""
        norm = torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), CLIP_NORM)
        values = torch.stack([*objective.terms.values(), objective.loss, norm]).detach()
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"not finite: {[*objective.terms]}, loss, norm: {values}")

    def descend(self) -> None:
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def bare(self) -> Bare:
        """What the ratios are to."""
        return Bare(self.s, self.batch, self.model.sizes)

    def parts(self) -> dict[str, float]:
        """Seconds of the parts of one step."""
        return _parts_of_one_step(self)

    def step(self, batch: FaceBatch) -> None:
        objective = self.objective(self.see(batch), batch)
        objective.loss.backward()
        self.clip(objective)
        self.descend()


class Bare:
    """The encoder's backbone and nothing else."""

    def __init__(self, s: Settings, batch: int, sizes: tuple[int, int, int]):
        self.s = s
        network = Encoder(sizes, s.backbone, input_size=s.size).features
        self.network = network.to(s.device, memory_format=torch.channels_last).train()
        self.adam = _adam(self.network)
        image = torch.rand(batch, 3, s.size, s.size, device=s.device)
        self.image = image.contiguous(memory_format=torch.channels_last)

    def step(self, adam: bool) -> None:
        with _autocast(self.s):
            maps = self.network(self.image)
        maps.float().mean().backward()
        if adam:
            self.adam.step()
        self.adam.zero_grad(set_to_none=True)


def _adam(network: torch.nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)


def _autocast(s: Settings) -> torch.autocast:
    return torch.autocast(s.device, torch.bfloat16, enabled=s.precision == "bf16")


# Timing -----------------------------------------------------------------------------------------


def start(s: Settings, batch: int) -> Training | AugmentedTraining:
    return {"base": Training, "augmented": AugmentedTraining}[s.stage](s, batch)


def measure(s: Settings, batch: int, shards: Path | None, workers: int) -> dict:
    """All numbers of one batch size, as the file has them."""
    training = start(s, batch)
    at_hand = training.data()
    kinds = {
        "rendered": lambda: training.step(training.data()),
        "at_hand": lambda: training.step(at_hand),
    }
    seconds(kinds["rendered"], s.warm_up, s.device)
    peak = peak_memory(kinds["rendered"], s.device)  # before the bare backbone takes its share
    bare = training.bare()
    kinds |= {"bare": lambda: bare.step(adam=False), "bare_adam": lambda: bare.step(adam=True)}
    for step in kinds.values():
        seconds(step, s.warm_up, s.device)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(s.repeats):
        for name, step in kinds.items():
            times[name].append(seconds(step, s.steps, s.device))
    del bare
    if shards is not None:
        photos = photos_of(shards, batch, s.device, workers)
        kinds["shards"] = lambda: training.step(next(photos))
        seconds(kinds["shards"], s.warm_up + 2 * workers, s.device)  # that is read ahead
        times["shards"] = [seconds(kinds["shards"], s.steps, s.device) for _ in range(s.repeats)]
    rate = {name: batch / statistics.median(t) for name, t in times.items()}
    return {
        "batch": batch,
        "seconds_a_step": times,
        "photos_per_s": rate,
        "of_backbone": {name: r / rate["bare"] for name, r in rate.items()},
        "hours": {name: EPOCHS[s.stage] * PHOTOS / r / 3600 for name, r in rate.items()},
        "peak_memory_gib": peak,
        "seconds_of_parts": parts(training, max(s.repeats, 3)),
    }


def photos_of(shards: Path, batch: int, device: str, workers: int) -> Iterator[FaceBatch]:
    """Photos from shards, epoch after epoch."""
    from facerecon_lib.data.shards.files import ShardsError
    from facerecon_lib.data.shards.reader import PhotoShards

    try:
        photos = PhotoShards(shards, batch, workers=workers, device=device)
        while True:
            yield from photos
    except ShardsError as error:
        raise typer.BadParameter(f"--shards: {error}") from None


def parts(training: Training | AugmentedTraining, repeats: int) -> dict[str, float]:
    """Seconds of each part of a step with new faces: medians."""
    rows: dict[str, list[float]] = {}
    for i in range(repeats + 1):
        taken = training.parts()
        if i:  # the first one warms up
            for name, value in taken.items():
                rows.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in rows.items()}


def _parts_of_one_step(training: Training) -> dict[str, float]:
    """The step is cut at the coefficients, the only way from the losses back into the encoder. What
    recognition takes, and what the losses take beside the rendering, is the difference to the same
    without it, which is run in addition.
    """
    clock = Stopwatch(training.s.device)
    with clock("data"):
        batch = training.data()
    with clock("encoder"):
        seen = training.see(batch)
    c = seen.map(lambda value: value.detach().requires_grad_())
    with clock("render"):
        face = synthesise(training.model, c)
        trust = training.objective.vertex_weights[None, :, None].expand(len(c), -1, 1)
        face.render(training.s.render_size, attributes=torch.cat([face.colours, trust], -1))
    del face
    outputs, ends = ([getattr(x, field.name) for field in fields(x)] for x in (c, seen))
    with clock("plain"):
        objective = training.without_recognition(c, batch)
    with clock("plain backward"):
        pulls = torch.autograd.grad(objective.loss, outputs, allow_unused=True)
    with_it = training.s.recognition != "none"
    if with_it:
        with clock("full"):
            objective = training.objective(c, batch)
        with clock("full backward"):
            pulls = torch.autograd.grad(objective.loss, outputs, allow_unused=True)
    pulled = [(end, pull) for end, pull in zip(ends, pulls, strict=True) if pull is not None]
    with clock("encoder backward"):
        torch.autograd.backward(*map(list, zip(*pulled, strict=True)))
    with clock("clip"):
        training.clip(objective)
    with clock("adam"):
        training.descend()
    t = clock.times
    found = {
        "data": t["data"],
        "encoder, forward": t["encoder"],
        "rendering, forward": t["render"],
        "other losses, forward": t["plain"] - t["render"],
        "rendering and losses, backward": t["plain backward"],
        "encoder, backward": t["encoder backward"],
        "clipping and guard": t["clip"],
        "Adam": t["adam"],
    }
    if with_it:
        found["recognition, forward"] = t["full"] - t["plain"]
        found["recognition, backward"] = t["full backward"] - t["plain backward"]
    return found


# Tables -----------------------------------------------------------------------------------------


def show(s: Settings, r: dict) -> None:
    network = {"base": "backbone", "augmented": "U-Net"}[s.stage]
    names = {
        "rendered": "whole step, faces rendered",
        "at_hand": "whole step, batch at hand",
        "shards": "whole step, photos from shards",
        "bare": f"{network}, forward and backward",
        "bare_adam": f"{network}, with its Adam step",
    }
    where = "on the GPU" if s.device == "cuda" else "of this process"
    table = Table(
        title=f"batch {r['batch']}: medians of {s.repeats} times of {s.steps} steps; "
        f"at most {r['peak_memory_gib']:.2f} GiB {where}"
    )
    table.add_column("")
    hours = f"hours for {EPOCHS[s.stage]} x {PHOTOS:,}"
    for column in ("ms a step", "photos/s", f"of the {network}", hours):
        table.add_column(column, justify="right", style="bold" if "of the" in column else None)
    for name, title in names.items():
        if name in r["photos_per_s"]:
            table.add_row(
                title,
                f"{1e3 * r['batch'] / r['photos_per_s'][name]:.1f}",
                f"{r['photos_per_s'][name]:.1f}",
                f"{r['of_backbone'][name]:.0%}",
                f"{r['hours'][name]:.2f}",
            )
    console.print(table)
    total = sum(r["seconds_of_parts"].values())
    table = Table(title=f"its parts, waited for one by one: {1e3 * total:.1f} ms")
    for column in ("part", "ms", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, value in r["seconds_of_parts"].items():
        table.add_row(name, f"{1e3 * value:.1f}", f"{value / total:.1%}")
    console.print(table)


def one_of(*names: str):
    """A typer option that takes one of these."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise typer.BadParameter(f"{value!r}: expected {', '.join(names)}")
        return value

    return typer.Option(callback=check, metavar="|".join(names))


def main(
    stage: Annotated[str, one_of(*EPOCHS)] = "base",
    device: Annotated[str, one_of(*DEFAULTS)] = "cpu",
    backbone: Annotated[str | None, one_of(*BACKBONES)] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Photos a step; may be repeated.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side that the encoder sees.")] = None,
    render_size: Annotated[int, typer.Option(help="Pixels a side of the losses.")] = CROP_SIZE,
    width: Annotated[int | None, typer.Option(help="Of the U-Net, a multiple of 8.")] = None,
    precision: Annotated[str | None, one_of("bf16", "fp32")] = None,
    tf32: Annotated[str, one_of(*TF32)] = "convolutions",
    recognition: Annotated[str | None, one_of("none", *RECOGNITION_WEIGHTS)] = None,
    weights: Annotated[str | None, one_of(*REDUCTIONS)] = None,
    subdivision: Annotated[int | None, typer.Option(min=0, max=1, help="Of the mesh.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps that make one time.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Times; the median counts.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Folder of shards of photos.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read shards.")] = 8,
    with_profile: Annotated[
        bool, typer.Option("--profile", help="What takes longest, and what waits.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="All numbers, raw.")] = None,
) -> None:
    """Time a training step. What is not given is as DEFAULTS has it."""
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device cuda: torch sees no GPU here; take --device cpu")
    given = dict(
        stage=stage, backbone=backbone, batch=tuple(batch or ()) or None, size=size,
        render_size=render_size, width=width, precision=precision, tf32=tf32,
        recognition=recognition, weights=weights, subdivision=subdivision, steps=steps,
        repeats=repeats,
    )  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    s = Settings(**asdict(DEFAULTS[device]) | chosen)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = TF32[s.tf32]

    console.print(", ".join(f"{name} {value}" for name, value in machine(device).items()))
    others = ("width",) if s.stage == "base" else ("backbone", "size", "render_size")
    shown = {name: value for name, value in asdict(s).items() if name not in others}
    console.print(", ".join(f"{name} {value}" for name, value in shown.items()))
    record = {"machine": machine(device), "settings": asdict(s), "results": []}
    for n in s.batch:
        try:
            record["results"].append(measure(s, n, shards, workers))
            show(s, record["results"][-1])
        except torch.OutOfMemoryError as error:
            console.print(f"batch {n}: left out; {str(error).split('. ')[0]}", markup=False)
        if device == "cuda":
            torch.cuda.empty_cache()
    if with_profile:
        training = start(s, s.batch[0])
        seconds(lambda: training.step(training.data()), s.warm_up, device)
        record["counts"] = profile(training)
        show_counts(f"one step, batch {s.batch[0]}", record["counts"])
        if device == "cuda":
            record["waits"] = dict(waits(training).most_common())
            show_counts("lines that wait for the GPU", record["waits"])
    if json_file is not None:
        write(json_file, record)


if __name__ == "__main__":
    typer.run(main)
