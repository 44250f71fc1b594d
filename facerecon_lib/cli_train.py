"""The command `facerecon train`.

facerecon train base --profile smoke --out runs/first
facerecon train base --out runs/first --resume                  # with the settings of its start
torchrun --nproc_per_node 2 -m facerecon_lib.cli train base --profile colab --out runs/second
fabric run --devices 2 "$(which facerecon)" train base --profile colab --out runs/second

`fabric run` is Lightning's and wants the package click; torchrun needs nothing more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_console import error_console, fail, one_thread, out_console, refusals

if TYPE_CHECKING:
    from .training_settings import TrainSettings

train_app = typer.Typer(no_args_is_help=True, help="Train the networks.")

CTRL_C, TERMINATED, BROKEN = 130, 143, 1


@train_app.callback()
def _several() -> None:
    """Train the networks."""


@train_app.command("base")
def train_base_command(
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, logs, encoder.")],
    profile: Annotated[
        str | None, typer.Option(help="smoke (default), colab, full (the report's), or shipped.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Shards of photos; without it, rendered faces.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="resnet50, resnet18, mobilenet_v3_large, dlib_resnet29.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="batch, group or frozen.")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="none, imagenet, or faces (of dlib_resnet29).")
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            help="report (Eq. 7, sums), balanced (means, priors), rendered (known truth)."
        ),
    ] = None,
    recognition: Annotated[
        str | None, typer.Option(help="Network of Eq. 6: none, dlib or facenet.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Instead of --steps.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Faces a step, of all processes together.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="32-true or bf16-mixed (the encoder only).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of photos: random or person.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, other faces.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read photos.")] = None,
    model: Annotated[Path | None, typer.Option(help="A face model (.safetensors).")] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of training_settings.py, or weights.TERM. May be repeated.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    devices: Annotated[
        int | None, typer.Option(help="Processes on this machine, one a device.")
    ] = None,
    num_nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch weights that are not here.")
    ] = False,
) -> None:
    """Train the encoder of the base branch, section 2.1 of the report."""
    given = {
        "profile": profile,
        "data": data,
        "backbone": backbone,
        "norm": norm,
        "pretrained": pretrained,
        "recognition": recognition,
        "steps": steps,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "precision": precision,
        "split": split,
        "seed": seed,
        "workers": workers,
        "face_model": None if model is None else str(model),
    }
    given = {name: value for name, value in given.items() if value is not None}
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))
    with refusals():
        try:
            import torch

            from .training import (
                CheckpointError,
                Interrupted,
                NonFiniteError,
                SettingsError,
                ShardsError,
                leave_processes,
                make_fabric,
                train_base,
            )
        except ImportError as error:
            fail(f"training needs more ({error}): pip install 'facerecon-lib[train]'")
            raise typer.Exit(2) from None
        try:
            settings = chosen_settings(out, given, losses, resume, other or [])
            settings.check()
            fabric = make_fabric(device, devices, num_nodes, settings.precision)
            rank = fabric.global_rank
            if fabric.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
                one_thread()
            if settings.profile == "full" and settings.data is None and rank == 0:
                error_console.print(
                    "facerecon: no --data, so training on rendered faces instead of photos, "
                    f"{settings.faces_per_epoch} an epoch",
                    soft_wrap=True,
                )
            done = train_base(
                settings,
                out,
                resume=resume,
                fabric=fabric,
                console=error_console,
                allow_download=download,
            )
        except (SettingsError, CheckpointError, ShardsError) as error:
            _leave(error, 2, rank)
        except NonFiniteError as error:
            _leave(error, BROKEN, rank)
        except Interrupted as error:
            _leave(error, CTRL_C if error.signal_number == signal.SIGINT else TERMINATED, rank)
        except torch.cuda.OutOfMemoryError:
            _leave(f"out of memory with --batch {settings.batch}; lower it", BROKEN, rank)
        except OSError as error:
            _leave(f"{error}; the last checkpoint is good", BROKEN, rank)
        except KeyboardInterrupt:
            _leave("stopped at once; the last checkpoint is good", CTRL_C, rank)
    leave_processes()
    if rank == 0:
        error = done.validation.get("vertex_mm")
        judged = "" if error is None else f", held-out faces {error:.2f} mm off"
        out_console.print(
            f"{done.steps} steps in {done.seconds:.0f} s{judged} -> {out / 'encoder.safetensors'}",
            markup=False,
            soft_wrap=True,
        )


def chosen_settings(
    out: Path, given: dict, losses: str | None, resume: bool, other: list[str]
) -> TrainSettings:
    """Those of the profile, or of the run that is gone on with, and on top what was given.

    losses: "report", "balanced" or None. other: "name=value", of any setting.
    Raises SettingsError for a name that is none.
    """
    from .training_settings import (
        PROFILES,
        SettingsError,
        TrainSettings,
        balanced_weights,
        rendered_weights,
        report_weights,
    )

    file = out / "settings.json"
    if resume and file.is_file():
        try:
            base = TrainSettings.from_json(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file}: cannot be read ({error})") from error
    else:
        name = given.get("profile", "smoke")
        if name not in PROFILES:
            raise SettingsError(f"--profile {name}: expected {', '.join(PROFILES)}")
        base = PROFILES[name]
    kinds = {
        "report": (report_weights, "sum"),
        "balanced": (balanced_weights, "mean"),
        "rendered": (rendered_weights, "mean"),
    }
    if losses is not None and losses not in kinds:
        raise SettingsError(f"--losses {losses}: expected {' or '.join(kinds)}")
    settings = replace(base, **given)
    if losses is not None or {"recognition", "data"} & set(given):
        settings.check()
        known = "rendered" if settings.data is None else "balanced"  # photos come without truth
        kind = losses or ("report" if base.reduction == "sum" else known)
        weights, reduction = kinds[kind]
        settings = replace(settings, weights=weights(settings.recognition), reduction=reduction)
    for text in other:
        settings = with_setting(settings, text)
    return settings


def with_setting(settings: TrainSettings, text: str) -> TrainSettings:
    """The settings with "name=value", or "weights.term=number". Raises SettingsError if unknown."""
    from .training_settings import SettingsError

    name, found, value = text.partition("=")
    known = settings.as_json()
    if not found or name.partition(".")[0] not in known:
        raise SettingsError(f"--set {text}: expected NAME=VALUE, of {', '.join(known)}")
    with contextlib.suppress(json.JSONDecodeError):  # then it is a word
        value = json.loads(value)
    if name.startswith("weights."):
        return replace(settings, weights={**settings.weights, name[8:]: value})
    old = known[name]
    if isinstance(old, float) and isinstance(value, int):
        value = float(value)
    if old is not None and type(value) is not type(old):
        raise SettingsError(f"--set {text}: expected {type(old).__name__}, as {old!r} is")
    return replace(settings, **{name: value})


def _leave(message: object, code: int, rank: int) -> None:
    """Exit, with the message once where all processes have it."""
    if rank == 0:
        fail(message)
    elif not getattr(message, "everywhere", False):
        fail(f"process {rank}: {message}")
    raise typer.Exit(code) from None
