"""What the commands of `facerecon train` share: the settings, the run, and how it is left.

settings = chosen_settings(out, {"batch": 4}, None, resume, ["clip_norm=7"], "augmented")
train("augmented", out, None, resume=False, batch=4)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import typer

from ..files.errors import FacereconError
from .console import error_console, fail, one_thread, out_console

if TYPE_CHECKING:
    from ..training.settings import RunSettings

CTRL_C, TERMINATED, BROKEN = 130, 143, 1
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
KINDS |= {type(None): "null"}


def train(
    stage: str,
    out: Path,
    losses: str | None,
    resume: bool,
    other: list[str] | None = None,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    download: bool = False,
    model: Path | None = None,
    **given,
) -> None:
    """Train "base" or "augmented"; `given` are settings by name, None where nothing was said."""
    given = {name: value for name, value in given.items() if value is not None}
    given = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    if model is not None:
        given["face_model"] = str(model)
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))
    try:
        import torch

        from ..training import loop as training
    except ImportError as error:
        fail(f"training needs more ({error}): pip install 'facerecon-lib[train]'")
        raise typer.Exit(2) from None
    try:
        settings = chosen_settings(out, given, losses, resume, other or [], stage)
        fabric = training.make_fabric(device, devices, num_nodes, settings.precision)
        rank = fabric.global_rank
        if fabric.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            one_thread()
        if settings.profile == "full" and settings.data is None and rank == 0:
            error_console.print(
                "facerecon: no --data, so training on rendered faces instead of photos, "
                f"{settings.faces_per_epoch} an epoch",
                soft_wrap=True,
            )
        run = {"base": training.train_base, "augmented": training.train_augmented}[stage]
        done = run(
            settings,
            out,
            resume=resume,
            fabric=fabric,
            console=error_console,
            allow_download=download,
        )
    except FacereconError as error:
        _leave(error, 2, rank)
    except training.NonFiniteError as error:
        _leave(error, BROKEN, rank)
    except training.Interrupted as error:
        _leave(error, CTRL_C if error.signal_number == signal.SIGINT else TERMINATED, rank)
    except torch.cuda.OutOfMemoryError:
        _leave(f"out of memory with --batch {settings.batch}; lower it", BROKEN, rank)
    except OSError as error:
        _leave(f"{error}; the last checkpoint is good", BROKEN, rank)
    except KeyboardInterrupt:
        _leave("stopped at once; the last checkpoint is good", CTRL_C, rank)
    training.leave_processes()
    if rank == 0:
        out_console.print(
            f"{done.steps} steps in {done.seconds:.0f} s{_judged(stage, done.validation)} -> "
            f"{out / settings.network_file}",
            markup=False,
            soft_wrap=True,
        )


def _judged(stage: str, numbers: dict) -> str:
    if stage == "base" and "vertex_mm" in numbers:
        return f", held-out faces {numbers['vertex_mm']:.2f} mm off"
    if stage == "augmented" and "photometric" in numbers:
        found, base = numbers["photometric"], numbers["base_photometric"]
        return f", held-out colours {found:.4f} off (base {base:.4f})"
    return ""


def chosen_settings(
    out: Path, given: dict, losses: str | None, resume: bool, other: list[str], stage: str = "base"
) -> RunSettings:
    """Those of the profile, or of the run that is gone on with, and on top what was given.

    losses: "report", "balanced", "rendered" or None. other: "name=value", of any setting.
    Raises SettingsError for a name that is none, and for values that cannot be, once all of them
    are there.
    """
    from ..training import settings as ts
    from ..training.profiles import AUGMENTED_PROFILES, PROFILES

    augmented = stage == "augmented"
    profiles = AUGMENTED_PROFILES if augmented else PROFILES
    file = out / "settings.json"
    if resume and file.is_file():
        kind = ts.AugmentedSettings if augmented else ts.TrainSettings
        try:
            base = kind.from_json(json.loads(file.read_text()))
        except json.JSONDecodeError as error:
            raise ts.SettingsError(
                f"{file}: cannot be read ({error}); remove it, and say all of the run's settings "
                "again with --resume"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise ts.SettingsError(f"{file}: cannot be read ({error})") from error
    else:
        name = given.get("profile", "smoke")
        if name not in profiles:
            raise ts.SettingsError(f"--profile {name}: expected {', '.join(profiles)}")
        base = profiles[name]
    kinds = {
        "report": ts.augmented_report_weights if augmented else ts.report_weights,
        "balanced": ts.augmented_balanced_weights if augmented else ts.balanced_weights,
        "rendered": ts.augmented_rendered_weights if augmented else ts.rendered_weights,
    }
    if losses is not None and losses not in kinds:
        raise ts.SettingsError(f"--losses {losses}: expected {' or '.join(kinds)}")

    def on_top(settings: ts.RunSettings) -> ts.RunSettings:
        return reduce(with_setting, other, settings)

    settings = on_top(replace(base, **given))
    settings.check()
    seen = settings.recognition, settings.data
    if losses is not None or seen != (base.recognition, base.data):
        known = "rendered" if settings.data is None else "balanced"  # photos come without truth
        kind = losses or ("report" if base.reduction == "sum" else known)
        reduction = "sum" if kind == "report" else "mean"
        weights = kinds[kind](settings.recognition)
        settings = replace(settings, weights=weights, reduction=reduction)
    if augmented and losses == "report":
        settings = replace(settings, symmetry="image", smooth_on="face")
    elif augmented and losses is not None:
        settings = replace(settings, symmetry="mesh", smooth_on="offsets")
    return on_top(settings)  # once more: what was said goes before what follows from it


def with_setting(settings: RunSettings, text: str) -> RunSettings:
    """The settings with "name=value", or "weights.term=number"; "null" is None.

    Raises SettingsError for an unknown name, and for a value of another type than the setting's.
    """
    from ..training.settings import SettingsError

    name, found, word = text.partition("=")
    types = get_type_hints(type(settings))
    known = [field.name for field in fields(settings)]
    name, dot, term = name.partition(".")
    if not found or name not in known or bool(dot) != (name == "weights"):
        names = ", ".join("weights.TERM" if one == "weights" else one for one in known)
        raise SettingsError(f"--set {text}: expected NAME=VALUE, of {names}")
    kinds = (float,) if dot else get_args(types[name]) or (types[name],)
    value = word
    if word == "null" or str not in kinds:  # a folder may be called 2024
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(word)
    if float in kinds and type(value) is int:
        value = float(value)
    if type(value) not in kinds:
        raise SettingsError(f"--set {text}: expected {' or '.join(KINDS[k] for k in kinds)}")
    if dot:
        return replace(settings, weights={**settings.weights, term: value})
    return replace(settings, **{name: value})


def _leave(message: object, code: int, rank: int) -> None:
    """Exit, with the message once where all processes have it."""
    if rank == 0:
        fail(message)
    elif not getattr(message, "everywhere", False):
        fail(f"process {rank}: {message}")
    raise typer.Exit(code) from None
