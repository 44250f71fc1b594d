"""Checkpoints of a training run: whole or not there, checked before they are used, no pickle.

    OUT/checkpoints/step-000120/
        encoder.safetensors      the weights, float32, as load_encoder reads them; of stage two
                                 offset_unet.safetensors, for load_unet
        ema.safetensors          their running average, where one is kept
        optimizer.safetensors    Adam's two moments and its step, a tensor per parameter
        state.json               step, settings, where the data stand, the files' SHA-256

A folder is written under another name, flushed to the disk and renamed. What a run killed half-way
leaves behind is never taken for a checkpoint, and goes with the next one that is written. Serves
notebooks 06 and 09.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .. import __version__
from ..files.atomic import write_whole
from ..files.downloads import sha256_of
from ..files.errors import FacereconError, one_line
from .settings import RunSettings, differences

if TYPE_CHECKING:
    from .stage import Stage

FORMAT = "facerecon-checkpoint-1"
AVERAGE = "ema.safetensors"
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

    def load(self, stage: Stage, network: nn.Module, optimizer, average: nn.Module | None) -> None:
        """Put weights and moments where they were. Raises CheckpointError when they do not fit."""
        try:
            network.load_state_dict(stage.load(self.path / stage.file).state_dict())
            if average is not None:
                average.load_state_dict(stage.load(self.path / AVERAGE).state_dict())
            moments = load_file(self.path / "optimizer.safetensors")
            _load_optimizer(network, optimizer, moments)
        except (ValueError, SafetensorError, RuntimeError, KeyError, OSError) as error:
            reason = one_line(error)[:200]
            raise CheckpointError(f"{self.path}: does not fit this run ({reason})") from error


def find_run(
    out: Path,
    settings: RunSettings,
    stage: Stage,
    resume: bool,
    say: Callable[[str], None] = lambda _: None,
) -> Checkpoint | None:
    """The checkpoint of out that a run with these settings resumes; None for a new run.

    Raises CheckpointError where there is a run and resume is not asked for, or its settings or
    files are others, and where nothing can be written.
    """
    folder, file = out / "checkpoints", out / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{out}: cannot be written ({reason}); choose another") from error
    names = [file.name, "log.jsonl", settings.network_file]
    if not any((out / name).exists() for name in names) and not _paths(folder):
        if resume:
            say(f"{out}: nothing to go on with; starting at step 0")
        return None
    if not resume:
        raise CheckpointError(f"{out}: holds a run; go on with --resume, or choose another folder")
    last = latest_checkpoint(folder, say)
    try:
        saved = json.loads(file.read_text()) if last is None else last.state["settings"]
        name = saved.get("stage", "base")
        if name != settings.stage:
            raise CheckpointError(
                f"{out}: holds a run of facerecon train {name}, not {settings.stage}; choose "
                "another folder"
            )
        changed = differences(stage.settled(type(settings).from_json(saved)), settings)
    except CheckpointError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); start a new run") from error
    if changed:
        raise CheckpointError(
            f"{out}: its run has other settings: {'; '.join(changed)}; resume with the same ones, "
            "or choose another folder"
        )
    for name, digest in stage.sources.items():
        if last is not None and last.state.get(name) != digest:
            raise CheckpointError(
                f"{out}: was trained with another {name.replace('_', ' ')}; resume with the same "
                "file"
            )
    if last is None:
        say(f"{out}: no checkpoint yet; starting at step 0")
    elif last.step > settings.total_steps:
        raise CheckpointError(f"{out}: {last.step} steps are done already; ask for more (--steps)")
    elif last.step == settings.total_steps:
        say(f"{out}: all {last.step} steps are done; for more of them: --steps")
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
    average: nn.Module | None = None,
) -> Path:
    """Write folder/step-...; `state` has to hold "step". Returns the checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{state['step']:06d}"
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial, final = folder / f".{name}", folder / name
    partial.mkdir()
    stage.save(partial / stage.file, network)
    if average is not None:
        stage.save(partial / AVERAGE, average)
    save_file(_optimizer_tensors(network, optimizer), partial / "optimizer.safetensors")
    digests = {path.name: sha256_of(path) for path in sorted(partial.iterdir())}
    whole = {"format": FORMAT, "version": __version__, **state, "sha256": digests}
    (partial / "state.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    for path in (*partial.iterdir(), partial):
        _to_disk(path)
    if final.exists():  # damaged, of a run that went this far before
        shutil.rmtree(final)
    partial.rename(final)
    _to_disk(folder)
    return final


def latest_checkpoint(
    folder: Path, say: Callable[[str], None] = lambda _: None
) -> Checkpoint | None:
    """The last undamaged one of folder, None where there is none; `say` is told what is skipped."""
    for path in reversed(_paths(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            say(f"{error}; taking the one before it")
    return None


def prune_checkpoints(folder: Path, best: int | None) -> None:
    """Remove all but the last KEEP and the one of step `best`."""
    for path in _paths(folder)[:-KEEP]:
        if _step(path) != best:
            shutil.rmtree(path, ignore_errors=True)


def _paths(folder: Path) -> list[Path]:
    paths = [p for p in folder.glob("step-*") if re.fullmatch(r"step-\d{6,}", p.name)]
    return sorted(paths, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises CheckpointError where a file is missing or damaged."""
    try:
        state = json.loads((path / "state.json").read_text())
        if state["format"] != FORMAT:
            raise CheckpointError(f"{path}: is no checkpoint of this version")
        for name, digest in state["sha256"].items():
            if sha256_of(path / name) != digest:
                raise CheckpointError(f"{path}: {name} is damaged")
        if state["step"] != _step(path):
            raise CheckpointError(f"{path}: holds step {state['step']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: is incomplete or damaged") from error
    return Checkpoint(path, state)


def _optimizer_tensors(
    network: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{key}/{names[parameter]}": value.detach().cpu().contiguous()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _load_optimizer(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    named = dict(network.named_parameters())
    order = {p: i for i, p in enumerate(optimizer.param_groups[0]["params"])}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        like = named[name]
        if value.shape == like.shape:  # a moment, laid out in memory as its parameter is
            value = torch.empty_like(like).copy_(value)
        state.setdefault(order[like], {})[kind] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
