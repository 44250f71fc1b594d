"""The command `facerecon train`.

facerecon train base --profile smoke --out runs/first
facerecon train base --out runs/first --resume                  # with the settings of its start
facerecon train augmented --encoder runs/first/encoder.safetensors --out runs/maps
torchrun --nproc_per_node 2 -m facerecon_lib.cli train base --profile colab --out runs/second
fabric run --devices 2 "$(which facerecon)" train base --profile colab --out runs/second

`fabric run` is Lightning's and wants the package click; torchrun needs nothing more. Notebooks 06
and 09, sections 2.1 and 2.2.
"""

import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer

from ..files.errors import FacereconError
from ..training.profiles import AUGMENTED_PROFILES, PROFILES
from ..training.settings import (
    LOSSES,
    AugmentedSettings,
    RunSettings,
    SettingsError,
    TrainSettings,
    loss_weights,
)
from .console import error_console, fail, one_thread, out_console
from .options import options_of

train_app = typer.Typer(no_args_is_help=True, help="Train the networks.")

CTRL_C, TERMINATED, BROKEN = 130, 143, 1
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
KINDS |= {type(None): "null"}


def _add_command(kind: type[RunSettings], help: str) -> None:
    """`facerecon train STAGE`, whose options are the settings and these."""

    @train_app.command(kind.stage, help=help)
    @options_of(kind, unset=True, names={"face_model": "--model"})
    def command(
        out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, logs, network.")],
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
        ] = False,
        losses: Annotated[
            str | None,
            typer.Option(help="report (Eq. 7 or 12, sums), balanced (means), rendered (truth)."),
        ] = None,
        other: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="A setting by its name, or weights.TERM. May be repeated.",
            ),
        ] = None,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
        devices: Annotated[
            int | None, typer.Option(help="Processes on this machine, one per device.")
        ] = None,
        num_nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
        download: Annotated[
            bool, typer.Option("--download", help="Fetch weights that are not here.")
        ] = False,
        **options,
    ) -> None:
        rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))
        values = {name: value for name, value in options.items() if value is not None}
        try:
            settings = chosen_settings(kind, out, values, losses, resume, other or [])
        except SettingsError as error:
            _leave(error, 2, rank)
        place = (device, devices, num_nodes, settings.precision)
        train(settings, out, place, rank, resume=resume, allow_download=download)


_add_command(TrainSettings, "Train the encoder of the base branch, section 2.1 of the report.")
_add_command(
    AugmentedSettings,
    "Train the U-Net of the augmented branch on a frozen encoder, section 2.2 of the report.",
)


def train(settings: RunSettings, out: Path, place: tuple, rank: int, **options) -> None:
    """Train, say how it went, and exit as it went. place: the arguments of `make_fabric`."""
    try:
        import torch

        from ..training import loop, processes
        from ..training.guard import Interrupted, NonFiniteError
    except ImportError as error:
        fail(f"training needs more ({error}): pip install 'facerecon-lib[train]'")
        raise typer.Exit(2) from None
    try:
        fabric = processes.make_fabric(*place)
        rank = fabric.global_rank
        if fabric.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            one_thread()
        if settings.profile == "full" and settings.data is None and rank == 0:
            error_console.print(
                "facerecon: no --data, so training on rendered faces instead of photos, "
                f"{settings.faces_per_epoch} an epoch",
                soft_wrap=True,
            )
        result = loop.train(settings, out, fabric=fabric, console=error_console, **options)
    except FacereconError as error:
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
    processes.leave_processes()
    if rank == 0:
        judged = _judged(settings.stage, result.validation)
        out_console.print(
            f"{result.steps} steps in {result.seconds:.0f} s{judged} -> "
            f"{out / settings.network_file}",
            markup=False,
            soft_wrap=True,
        )


def _judged(stage: str, numbers: Mapping) -> str:
    if stage == "base" and "vertex_mm" in numbers:
        return f", held-out faces {numbers['vertex_mm']:.2f} mm off"
    if stage == "augmented" and "photometric" in numbers:
        ours, base = numbers["photometric"], numbers["base_photometric"]
        return f", held-out colours {ours:.4f} off (base {base:.4f})"
    return ""


def chosen_settings(
    kind: type[RunSettings],
    out: Path,
    values: Mapping[str, object],
    losses: str | None = None,
    resume: bool = False,
    other: Sequence[str] = (),
) -> RunSettings:
    """Those of the profile, or of the run that is resumed, and on top `values` and `other`.

    losses: "report", "balanced", "rendered" or None. other: "name=value", of any setting.
    Raises SettingsError for an unknown name and an invalid value, once all of them are in.
    """
    file = out / "settings.json"
    base = _resumed(kind, file) if resume and file.is_file() else _profile(kind, values)
    choices = LOSSES[kind.stage]
    if losses is not None and losses not in choices:
        raise SettingsError(f"--losses {losses}: expected {' or '.join(choices)}")
    settings = reduce(with_setting, other, replace(base, **values))
    settings.check()
    changed = (settings.recognition, settings.data) != (base.recognition, base.data)
    if losses is not None or changed:
        own = "rendered" if settings.data is None else "balanced"  # photos come without truth
        row = losses or ("report" if base.reduction == "sum" else own)
        weights = loss_weights(kind.stage, row, settings.recognition)
        reduction = "sum" if row == "report" else "mean"
        settings = replace(settings, weights=weights, reduction=reduction)
    if losses is not None and kind is AugmentedSettings:
        symmetry, smooth_on = ("image", "face") if losses == "report" else ("mesh", "offsets")
        settings = replace(settings, symmetry=symmetry, smooth_on=smooth_on)
    return reduce(with_setting, other, settings)  # once more: --set goes before what follows


def _profile(kind: type[RunSettings], values: Mapping[str, object]) -> RunSettings:
    profiles = PROFILES if kind is TrainSettings else AUGMENTED_PROFILES
    name = values.get("profile", "smoke")
    if name not in profiles:
        raise SettingsError(f"--profile {name}: expected {', '.join(profiles)}")
    return profiles[name]


def _resumed(kind: type[RunSettings], file: Path) -> RunSettings:
    try:
        return kind.from_json(json.loads(file.read_text()))
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error}); remove it, and say all of the run's settings "
            "again with --resume"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{file}: cannot be read ({error})") from error


def with_setting(settings: RunSettings, text: str) -> RunSettings:
    """The settings with "name=value", or "weights.term=number"; "null" is None.

    Raises SettingsError for an unknown name, and for a value of another type than the setting's.
    """
    name, equals, word = text.partition("=")
    names = [field.name for field in fields(settings)]
    name, dot, term = name.partition(".")
    if not equals or name not in names or bool(dot) != (name == "weights"):
        names = ", ".join("weights.TERM" if one == "weights" else one for one in names)
        raise SettingsError(f"--set {text}: expected NAME=VALUE, of {names}")
    kind = float if dot else get_type_hints(type(settings))[name]
    kinds = (str,) if get_origin(kind) is Literal else get_args(kind) or (kind,)
    value = word
    if word == "null" or str not in kinds:  # a folder may be called 2024
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(word)
    if float in kinds and type(value) is int:
        value = float(value)
    if type(value) not in kinds:
        raise SettingsError(f"--set {text}: expected {' or '.join(KINDS[k] for k in kinds)}")
    return replace(settings, **{name: {**settings.weights, term: value} if dot else value})


def _leave(message: object, code: int, rank: int) -> None:
    """Exit, with the message once where all processes have it."""
    if rank == 0:
        fail(message)
    elif not getattr(message, "everywhere", False):
        fail(f"process {rank}: {message}")
    raise typer.Exit(code) from None
