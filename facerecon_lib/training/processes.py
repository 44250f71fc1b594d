"""The processes of a training run: how many there are, where they run, and what they tell.

fabric = make_fabric("auto")                         # this process, or one of a launcher's
path = on_main(fabric, find)                         # found in one process, known to all
batch = in_all(fabric, lambda: next(batches))        # in each its own, or an error in all
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch

from ..data.shards.files import ShardsError
from ..files.errors import one_line
from .settings import SettingsError

T = TypeVar("T")


def make_fabric(
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: str = "32-true",
):
    """Lightning Fabric for this process, launched.

    device: "cpu", "cuda", "cuda:N" or "auto". devices: processes on this machine, one a device; 1
    without a launcher. num_nodes: machines. precision: as in TrainSettings.
    Under torchrun the numbers are the launcher's and those given have to agree. (Fabric has to be
    told: left to itself it takes each of torchrun's processes for a run of its own.) Under `fabric
    run` they arrive in the environment (LT_DEVICES and others), where Fabric looks for them itself.
    Raises SettingsError where numbers do not agree, or what is asked for is not here.
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
    chosen: dict = dict(accelerator=kind, strategy="auto", precision=precision)
    launched_by_fabric = os.environ.get("LT_CLI_USED") == "1"
    if launched_by_fabric:
        chosen.update(devices=devices or "auto", num_nodes=num_nodes or 1)
        if device == "auto":
            chosen["accelerator"] = "auto"
    elif torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        for name, given, started in (
            ("devices", devices, here),
            ("num_nodes", num_nodes, world // here),
        ):
            if given not in (None, started):
                raise SettingsError(f"{name} {given}: torchrun has started {started}; leave it out")
        chosen.update(devices=here, num_nodes=world // here)
        chosen["strategy"] = "ddp" if world > 1 else "auto"
    else:
        chosen.update(devices=devices or 1, num_nodes=num_nodes or 1)
    if number is not None and chosen["devices"] == 1:
        chosen["devices"] = [int(number)]
    try:
        fabric = Fabric(**chosen)
        if not launched_by_fabric:
            fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise SettingsError(f"device {device}: {one_line(error)}") from error
    if fabric.device.type == "cuda":
        # All crops are of one size. Matrix products stay in full float32: with the ten bits of TF32
        # vertices would move by a tenth of a millimetre. Convolutions use TF32 all the same.
        torch.backends.cudnn.benchmark = True
    return fabric


def leave_processes() -> None:
    """The end of what `make_fabric` began, in every process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    _hosts.cache_clear()


def on_main(fabric, function: Callable[[], T]) -> T:
    """Call function in the first process; its result, or its ValueError, is every process's."""
    result, error = None, None
    if fabric.global_rank == 0:
        try:
            result = function()
        except ValueError as caught:
            error = caught
            error.everywhere = True
    result, error = fabric.broadcast((result, error))
    if error is not None:
        error.everywhere = True
        raise error
    return result


def in_all(
    fabric,
    function: Callable[[], T],
    refusals: tuple[type[ValueError], ...] = (ShardsError,),
) -> T:
    """Call function in every process; one's error, if it is of `refusals`, is every process's.

    Where there are several it is raised as the first of them. Nobody is left waiting for a process
    that could not read its photos. They agree on the hosts, over Gloo: no device is waited for.
    """
    result = error = None
    try:
        result = function()
    except refusals as caught:
        error = caught
    if fabric.world_size == 1:
        if error is not None:
            raise error
        return result
    failed = torch.tensor([int(error is not None)])
    torch.distributed.all_reduce(failed, group=_hosts())
    if failed.item():
        told: list = [None] * fabric.world_size
        torch.distributed.all_gather_object(told, error and str(error), group=_hosts())
        rank, text = next((rank, text) for rank, text in enumerate(told) if text is not None)
        error = refusals[0](text if len(set(told)) == 1 else f"process {rank}: {text}")
        error.everywhere = True
        raise error
    return result


@lru_cache(maxsize=1)
def _hosts():
    """The processes once more, to talk of what is not on their devices."""
    return torch.distributed.new_group(backend="gloo")


def gather(fabric, value: T) -> list[T]:
    """The value of every process, in every process."""
    if fabric.world_size == 1:
        return [value]
    found: list = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, value)
    return found
