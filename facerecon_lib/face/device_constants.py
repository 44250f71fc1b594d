"""Small fixed tensors, built once on each device.

    white = constant(D65_WHITE, rgb.dtype, rgb.device)   # the same tensor at every call

On CUDA, `x.new_tensor([...])`, `CPU_TENSOR.to(x)` and an index that is a Python list copy a few
numbers from the host, and PyTorch then waits for the GPU; a training step had dozens of these.
Notebook 06.
"""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=1024)
@torch.inference_mode(False)  # the first call may come from inference, a later one from training
def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`torch.tensor(values)` of this type on this device; all calls share it: do not change it."""
    return torch.tensor(values, dtype=dtype, device=device)
