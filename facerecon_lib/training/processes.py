"""The processes of a training run: how many there are, where they run, and what they exchange.

    fabric = make_fabric("auto")                         # this process, or one of a launcher's
    batch = in_all(fabric, lambda: next(batches))        # in each its own, or an error in all
    counts = gather(fabric, len(batch))                  # of every process, in every process

Serves notebooks 06 and 09.
"""

import logging
import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch

from ..files.errors import FacereconError, one_line
from .settings import SettingsError

T = TypeVar("T")


def make_fabric(
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: str = "32-true",
):
    """Lightning Fabric for this process, launched.

    device: "cpu", "cuda", "cuda:N" or "auto". devices: processes on this machine, one per device; 1
    without a launcher. num_nodes: machines. precision: as in RunSettings.
    Raises SettingsError where numbers do not agree, or a device or package is missing.
    """
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401, wanted later by RunLog
    except ImportError as error:
        raise SettingsError(
            f"training needs what is not here ({error}): pip install 'facerecon-lib[train]'"
        ) from error
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    match = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d+)", device)
    if match is None:
        raise SettingsError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    kind, number = match[1] or "cuda", match[2]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":  # GPUs before Ampere, 8.0, only imitate bfloat16, and slowly
        modern = kind == "cuda" and torch.cuda.get_device_capability(int(number or 0)) >= (8, 0)
        precision = "bf16-mixed" if modern else "32-true"
    options: dict = dict(accelerator=kind, strategy="auto", precision=precision)
    launched_by_fabric = os.environ.get("LT_CLI_USED") == "1"
    if launched_by_fabric:  # Fabric reads the numbers from the environment (LT_DEVICES ...)
        options |= dict(devices=devices or "auto", num_nodes=num_nodes or 1)
        if device == "auto":
            options["accelerator"] = "auto"
    elif torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        # Left to itself, Fabric takes each of torchrun's processes for a run of its own.
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        started = dict(devices=local, num_nodes=world // local)
        for name, value in (("devices", devices), ("num_nodes", num_nodes)):
            if value not in (None, started[name]):
                raise SettingsError(
                    f"{name} {value}: torchrun has started {started[name]}; leave it out"
                )
        options |= started | dict(strategy="ddp" if world > 1 else "auto")
    else:
        options |= dict(devices=devices or 1, num_nodes=num_nodes or 1)
    if number is not None and options["devices"] == 1:
        options["devices"] = [int(number)]
    try:
        fabric = Fabric(**options)
        if not launched_by_fabric:
            fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise SettingsError(f"device {device}: {one_line(error)}") from error
    # All crops are of one size. Matrix products stay in full float32: with the ten bits of TF32
    # vertices would move by a tenth of a millimetre. Convolutions use TF32 all the same.
    torch.backends.cudnn.benchmark = fabric.device.type == "cuda"
    return fabric


def in_precision(fabric, function: Callable[..., T]) -> Callable[..., T]:
    """The function in the precision of the run: what it returns may be in bfloat16."""

    def run(*args) -> T:
        with fabric.autocast():
            return function(*args)

    return run


def leave_processes() -> None:
    """The end of what `make_fabric` began, in every process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    _hosts.cache_clear()


def in_all(fabric, function: Callable[[], T]) -> T:
    """Call function in every process; a FacereconError of one is raised in all of them.

    Nobody waits for a process that could not read its photos.
    """
    result = error = None
    try:
        result = function()
    except FacereconError as caught:
        error = caught
    errors = gather(fabric, error)
    if any(errors):
        rank, error = next((rank, one) for rank, one in enumerate(errors) if one is not None)
        if len({str(one) for one in errors}) > 1:
            error = type(error)(f"process {rank}: {error}")
        error.everywhere = True
        raise error
    return result


def gather(fabric, value: T) -> list[T]:
    """The value of every process, in every process. Over Gloo: no device is waited for."""
    values = [value] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(values, value, group=_hosts())
    return values


@lru_cache(maxsize=1)
def _hosts():
    """The processes once more, to talk of what is not on their devices."""
    return torch.distributed.new_group(backend="gloo")
