"""Run a Warp kernel over torch tensors, on their device and in their type.

    launch(kernel, torch.float32, dim, tensor, view, 3)

Kernels take arrays of `Any` float type: of triples where the argument's name is in VECTORS, else of
numbers. A module's kernels are compiled together at first use, once per type.
Notebook 04, section 2.1.
"""

import sys
from functools import lru_cache
from typing import Any

import torch
import warp as wp

from .cache import load_kernels, start_warp

wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # no banner, no compile messages

VECTORS = ("verts", "bary", "grad_verts", "grad_bary")  # the other Any arrays hold scalars


@lru_cache
def _versions(module: str, real: torch.dtype, device: torch.device) -> dict[wp.Kernel, wp.Kernel]:
    """All kernels of a module for tensors of one type: each type costs it one compilation."""
    start_warp()
    single = real == torch.float32
    scalar, vector = (wp.float32, wp.vec3f) if single else (wp.float64, wp.vec3d)
    versions = {}
    for kernel in [k for k in vars(sys.modules[module]).values() if isinstance(k, wp.Kernel)]:
        types = {
            arg.label: wp.array(dtype=vector if arg.label in VECTORS else scalar)
            for arg in kernel.adj.args
            if isinstance(arg.type, wp.array) and arg.type.dtype is Any
        }
        versions[kernel] = wp.overload(kernel, types)
    load_kernels([*versions.values()], wp.device_from_torch(device))
    return versions


def launch(kernel: wp.Kernel, real: torch.dtype, dim: int | tuple[int, int], *arguments) -> None:
    """Run a kernel's version for `real` over tensors, on their device and current stream.

    Tensors are passed flat, as triples where the kernel expects vectors, without a copy if they are
    contiguous; outputs have to be. Raises KernelError.
    """
    device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    version = _versions(kernel.func.__module__, real, device)[kernel]
    on_cuda = device.type == "cuda"
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if on_cuda else None
    inputs = []
    for parameter, value in zip(version.adj.args, arguments, strict=True):
        if isinstance(value, torch.Tensor):
            dtype = parameter.type.dtype
            flat = value.contiguous().view((-1, 3) if wp.types.type_is_vector(dtype) else -1)
            value = wp.from_torch(flat, dtype, requires_grad=False, return_ctype=True)
        inputs.append(value)
    wp.launch(version, dim=dim, inputs=inputs, device=wp.device_from_torch(device), stream=stream)
