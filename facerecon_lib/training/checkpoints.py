"""Checkpoints of a training run: whole or not there, checked before they are used, no pickle.

    OUT/checkpoints/step-000120/
        encoder.safetensors      the weights, float32, as load_encoder reads them; of stage two
                                 offset_unet.safetensors, for load_unet
        ema.safetensors          their running average, where one is kept
        optimizer.safetensors    Adam's two moments and its step, a tensor per parameter
        state.json               step, settings, where the data stand, the files' SHA-256

A folder is written under another name, flushed to the disk and renamed: what a killed run leaves
half written is never taken for a checkpoint, and goes with the next one. Serves notebooks 06, 09.
"""

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .. import __version__
from ..files.atomic import flush_to_disk, write_whole
from ..files.downloads import sha256_of
from ..files.errors import FacereconError, one_line
from .settings import RunSettings, differences
from .stage import Stage

FORMAT = "facerecon-checkpoint-1"
AVERAGE = "ema.safetensors"
MOMENTS = "optimizer.safetensors"
Say = Callable[[str], None]
KEEP = 2
"""The last ones that stay, beside the best one."""


class CheckpointError(FacereconError):
    """A run that cannot be resumed. One line: what is wrong and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose files are all there and undamaged, and what its state.json holds."""

    path: Path
    state: dict

    @property
    def step(self) -> int:
        """Steps done."""
        return self.state["step"]

    def load(
        self, stage: Stage, network: nn.Module, optimizer, average: AveragedModel | None
    ) -> None:
        """Put weights and moments where they were. Raises CheckpointError when they do not fit."""
        try:
            network.load_state_dict(
                stage.load(self.path / stage.settings.network_file).state_dict()
            )
            if average is not None:
                average.module.load_state_dict(stage.load(self.path / AVERAGE).state_dict())
            _load_moments(network, optimizer, load_file(self.path / MOMENTS))
        except (ValueError, SafetensorError, RuntimeError, KeyError, OSError) as error:
            reason = one_line(error)[:200]
            raise CheckpointError(f"{self.path}: does not fit this run ({reason})") from error


def find_run(
    out: Path, settings: RunSettings, stage: Stage, resume: bool, say: Say = lambda _: None
) -> Checkpoint | None:
    """The checkpoint of out that a run with these settings resumes; None for a new run.

    Raises CheckpointError where there is a run and resume is not asked for, or its settings or
    files are others.
    """
    folder, file = out / "checkpoints", out / "settings.json"
    names = [file.name, "log.jsonl", settings.network_file]
    if not any((out / name).exists() for name in names) and not _paths(folder):
        if resume:
            say(f"{out}: nothing to go on with; starting at step 0")
        return None
    if not resume:
        raise CheckpointError(f"{out}: holds a run; go on with --resume, or choose another folder")
    last = latest_checkpoint(folder, say)
    try:
        stored = json.loads(file.read_text()) if last is None else last.state["settings"]
        start = stage.settled(type(settings).from_json(stored).resolved())
        changed = differences(start, settings)
    except (OSError, ValueError) as error:
        reason = f"its settings cannot be used ({one_line(error)})"
        raise CheckpointError(f"{out}: {reason}; choose another folder") from error
    more = "--steps N"
    if settings.schedule != "constant":  # the rate falls until the last step
        more = f"start in another folder with --init {out / settings.network_file}"
    if changed:
        advice = "resume with the same ones, or choose another folder"
        if not differences(start, replace(settings, steps=start.steps, epochs=start.epochs)):
            advice = f"its rate depends on them; for more steps, once these are done: {more}"
        raise CheckpointError(f"{out}: its run has other settings: {'; '.join(changed)}; {advice}")
    if last is None:
        say(f"{out}: no checkpoint yet; starting at step 0")
        return None
    for name, digest in stage.sources.items():
        if last.state.get(name) != digest:
            problem = f"was trained with another {name.replace('_', ' ')}"
            raise CheckpointError(f"{out}: {problem}; resume with the same file")
    if last.step > settings.total_steps:
        raise CheckpointError(f"{out}: {last.step} steps are done already; ask for more (--steps)")
    if last.step == settings.total_steps:
        say(f"{out}: all {last.step} steps are done; for more: {more}")
    else:
        say(f"{out}: going on after step {last.step} of {settings.total_steps}")
    return last


def write_settings(out: Path, settings: RunSettings) -> None:
    """out/settings.json."""
    with write_whole(out / "settings.json") as partial:
        partial.write_text(json.dumps(settings.as_json(), indent=1) + "\n")


def save_checkpoint(
    folder: Path,
    stage: Stage,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping,
    average: AveragedModel | None,
) -> None:
    """Write folder/step-... and remove older ones: the last KEEP stay, and the best.

    state: "step" and "best", whose own "step" is that of the best one, and what else to keep.
    """
    folder.mkdir(exist_ok=True)
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    name = f"step-{state['step']:06d}"
    partial, final = folder / f".{name}", folder / name
    partial.mkdir()
    stage.save(partial / stage.settings.network_file, network)
    if average is not None:
        stage.save(partial / AVERAGE, average.module)
    save_file(_moments(network, optimizer), partial / MOMENTS)
    digests = {path.name: sha256_of(path) for path in sorted(partial.iterdir())}
    whole = {"format": FORMAT, "version": __version__, **state, "sha256": digests}
    (partial / "state.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    for path in (*partial.iterdir(), partial):
        flush_to_disk(path)
    if final.exists():  # damaged, of a run that went this far before
        shutil.rmtree(final)
    partial.rename(final)
    flush_to_disk(folder)
    for path in _paths(folder)[:-KEEP]:
        if _step(path) != state["best"].get("step"):
            shutil.rmtree(path, ignore_errors=True)


def latest_checkpoint(folder: Path, say: Say = lambda _: None) -> Checkpoint | None:
    """The last undamaged one of folder, None where there is none; `say` is told what is skipped."""
    for path in reversed(_paths(folder)):
        try:
            state = json.loads((path / "state.json").read_text())
            damaged = [n for n, digest in state["sha256"].items() if sha256_of(path / n) != digest]
            if (state["format"], state["step"]) != (FORMAT, _step(path)):
                damaged.append("state.json")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            damaged = ["state.json, or a file that it names,"]
        if not damaged:
            return Checkpoint(path, state)
        say(f"{path}: {damaged[0]} is damaged; taking the one before it")
    return None


def _paths(folder: Path) -> list[Path]:
    paths = [p for p in folder.glob("step-*") if re.fullmatch(r"step-\d{6,}", p.name)]
    return sorted(paths, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{key}/{names[parameter]}": value.detach().cpu().contiguous()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _load_moments(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    parameters = dict(network.named_parameters())
    groups = optimizer.state_dict()["param_groups"]
    order = {p: i for i, p in enumerate(optimizer.param_groups[0]["params"])}
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        like = parameters[name]
        if kind != "step":  # a moment, laid out in memory as its parameter is
            value = torch.empty_like(like).copy_(value)
        state[order[like]][kind] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
