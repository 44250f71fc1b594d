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
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, NoReturn, get_args, get_origin, get_type_hints

import typer
from typer import Option

from ..files.errors import FacereconError
from ..training.profiles import (
    AUGMENTED_PROFILES,
    DEPTH_PROFILES,
    LEARNED_PROFILES,
    NONLINEAR_PROFILES,
    PROFILES,
)
from ..training.settings import (
    LOSSES,
    AugmentedSettings,
    DepthSettings,
    LearnedSettings,
    NonlinearSettings,
    RunSettings,
    SettingsError,
    TrainSettings,
    loss_weights,
)
from .console import error_console, fail, one_thread, say
from .options import options_of

train_app = typer.Typer(no_args_is_help=True, help="Train the networks.")

STAGES = {
    "base": (TrainSettings, PROFILES),
    "augmented": (AugmentedSettings, AUGMENTED_PROFILES),
    "learned": (LearnedSettings, LEARNED_PROFILES),
    "nonlinear": (NonlinearSettings, NONLINEAR_PROFILES),
    "depth": (DepthSettings, DEPTH_PROFILES),
}
HELP = {
    "base": "Train the encoder of the base branch, section 2.1.",
    "augmented": "Train the U-Net of the augmented branch on a frozen encoder, section 2.2.",
    "learned": "Learn a face model from pictures, with the network that sees it: notebook 11.",
    "nonlinear": "Train the decoders of uv maps, and the linear model beside them: notebook 12.",
    "depth": "Train notebook 13's network of wrinkles, from photo and base face to depth.",
}
HELD_OUT = {
    "base": "held-out faces {vertex_mm:.2f} mm off",
    "augmented": "held-out colours {photometric:.4f} off (base {base_photometric:.4f})",
    "learned": "held-out faces {vertex_mm:.2f} mm off (the mean face {mean_face_mm:.2f})",
    "nonlinear": "held-out faces {vertex_mm:.3f} mm off (linear {linear_vertex_mm:.3f})",
    "depth": "held-out normals {normal_deg:.2f} degrees off (base {base_normal_deg:.2f})",
}
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
KINDS |= {type(None): "null"}

Losses = Annotated[
    str | None, Option(help="report (Eq. 7 or 12, sums), balanced (means), rendered (truth).")
]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A setting, or weights.TERM. May be repeated."),
]


def _add_command(stage: str) -> None:
    """`facerecon train STAGE`, whose options are the settings and these."""
    kind = STAGES[stage][0]

    @train_app.command(stage, help=HELP[stage])
    @options_of(kind, unset=True, names={"face_model": "--model"})
    def command(
        out: Annotated[Path, Option(help="Folder of the run: checkpoints, logs, network.")],
        resume: Annotated[bool, Option("--resume", help="Go on from the last checkpoint.")] = False,
        losses: Losses = None,
        other: Set = None,
        device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
        devices: Annotated[int | None, Option(help="Processes here, one per device.")] = None,
        num_nodes: Annotated[int | None, Option(help="Machines.")] = None,
        download: Annotated[bool, Option("--download", help="Fetch missing weights.")] = False,
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


for stage in STAGES:
    _add_command(stage)


def train(settings: RunSettings, out: Path, place: tuple, rank: int, **options) -> None:
    """Train, say how it went, and exit as it went. place: the arguments of `make_fabric`."""
    import torch

    from ..training import loop, processes
    from ..training.guard import Interrupted, NonFiniteError

    try:
        fabric = processes.make_fabric(*place)
        rank = fabric.global_rank
        if fabric.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            one_thread()
        if settings.profile == "full" and settings.data is None and rank == 0:
            error_console.print(
                "facerecon: no --data, so training on rendered faces instead of photos, "
                f"{settings.faces_per_epoch} per epoch",
                soft_wrap=True,
            )
        result = loop.train(settings, out, fabric=fabric, console=error_console, **options)
    except FacereconError as error:
        _leave(error, 2, rank)
    except Interrupted as error:
        _leave(error, 128 + error.signal_number, rank)
    except KeyboardInterrupt:
        _leave("stopped at once; the last checkpoint is good", 130, rank)
    except NonFiniteError as error:
        _leave(error, 1, rank)
    except torch.cuda.OutOfMemoryError:
        _leave(f"out of memory with --batch {settings.batch}; lower it", 1, rank)
    except OSError as error:
        _leave(f"{error}; the last checkpoint is good", 1, rank)
    processes.leave_processes()
    if rank == 0:
        numbers = result.validation
        judged = f", {HELD_OUT[settings.stage].format(**numbers)}" if numbers else ""
        file = out / settings.network_file
        say(f"{result.steps} steps in {result.seconds:.0f} s{judged} -> {file}")


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
    file, profiles, choices = out / "settings.json", STAGES[kind.stage][1], LOSSES[kind.stage]
    profile = values.get("profile", "smoke")
    if not (resume and file.is_file()) and profile not in profiles:
        raise SettingsError(f"--profile {profile}: expected {', '.join(profiles)}")
    if losses is not None and losses not in choices:
        raise SettingsError(f"--losses {losses}: expected {' or '.join(choices)}")
    base = _resumed(kind, file) if resume and file.is_file() else profiles[profile]
    settings = reduce(with_setting, other, replace(base, **values))
    settings.check()
    before, now = (
        [s.recognition, *(getattr(s, name, None) is None for name in ("data", "mix", "skins"))]
        for s in (base, settings)
    )
    if losses is not None or before != now:
        own = "rendered" if settings.data is None else "balanced"  # photos come without truth
        row = losses or ("report" if base.reduction == "sum" and settings.mix is None else own)
        weights = loss_weights(kind.stage, row, settings.recognition)
        truth = loss_weights(kind.stage, "rendered", settings.recognition)
        if row == "balanced" and getattr(settings, "skins", None) is not None:
            weights["truth_albedo"] = truth["truth_albedo"]
        reduction = "sum" if row == "report" else "mean"
        more = dict(weights=weights, rendered_weights=truth, reduction=reduction)
        if kind is AugmentedSettings and (losses is not None or reduction != base.reduction):
            symmetry, smooth_on = ("image", "face") if row == "report" else ("mesh", "offsets")
            more |= dict(symmetry=symmetry, smooth_on=smooth_on)
        settings = replace(settings, **more)
    return reduce(with_setting, other, settings)  # once more: --set goes before what follows


def _resumed(kind: type[RunSettings], file: Path) -> RunSettings:
    try:
        return kind.from_json(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{file}: cannot be used ({error}); remove it, and say all of the run's settings again "
            "with --resume, or choose another folder"
        ) from error


def with_setting(settings: RunSettings, text: str) -> RunSettings:
    """The settings with "name=value", or "weights.term=number" (of a mix also
    "rendered_weights.term"); "null" is None.

    Raises SettingsError for an unknown name, and for a value of another type than the setting's.
    """
    name, equals, word = text.partition("=")
    names = [field.name for field in fields(settings)]
    name, dot, term = name.partition(".")
    if not equals or name not in names or bool(dot) != name.endswith("weights"):
        names = ", ".join(f"{one}.TERM" if one.endswith("weights") else one for one in names)
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
    return replace(settings, **{name: {**getattr(settings, name), term: value} if dot else value})


def _leave(message: object, code: int, rank: int) -> NoReturn:
    """Exit, with the message once where all processes have it."""
    with contextlib.suppress(OSError):  # of a terminal that is gone
        if rank == 0:
            fail(message)
        elif not getattr(message, "everywhere", False):
            fail(f"process {rank}: {message}")
    raise typer.Exit(code) from None
