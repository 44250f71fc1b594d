"""Random numbers that are a function of where they are used, not of what was drawn before.

    numbers = CountedRandom(seed=3, indices=torch.tensor([17, 4]))
    numbers.normal("rotation", 3)                        # (2, 3): that of faces 17 and 4 of seed 3

Each number is a hash of (seed, name, index, position): Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011. So face 17 is the same face in any batch, process and device, a training
run resumes at any step, and adding one effect leaves all others as they were. The hash is the
finaliser of SplitMix64 (Steele et al., 2014), twice.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 2**64 - 1


def _signed(value: int) -> int:
    """The 64 bits of `value` as torch's int64 holds them."""
    value &= _MASK
    return value - 2**64 if value >= 2**63 else value


def _mix_int(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 wraps as unsigned does, but shifts need their sign masked."""
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _signed(_MIX_1)
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _signed(_MIX_2)
    return z ^ ((z >> 31) & (2**33 - 1))


@dataclass(eq=False)
class CountedRandom:
    """Numbers for the faces `indices` of a seed, on their device. Indices are 0 or more."""

    seed: int
    indices: Int[Tensor, " batch"]

    def _bits(self, name: str, shape: tuple[int, ...]) -> Int[Tensor, " batch *shape"]:
        key = _mix_int(_mix_int(self.seed & _MASK) + zlib.crc32(name.encode()) * _GOLDEN & _MASK)
        count = torch.arange(math.prod(shape), device=self.indices.device)
        face = _mix(self.indices * _signed(_GOLDEN) + _signed(key))
        return _mix(face[:, None] + count * _signed(_GOLDEN)).unflatten(1, shape)

    def uniform(
        self, name: str, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, " batch *shape"]:
        """Between low and high; (batch, *shape), or (batch,) without a shape. Never an end."""
        bits = self._bits(name, shape or (1,)) >> 41 & (2**23 - 1)
        value = low + (high - low) * ((bits.float() + 0.5) / 2**23)
        return value if shape else value[:, 0]

    def normal(self, name: str, *shape: int, sd: float = 1.0) -> Float[Tensor, " batch *shape"]:
        """N(0, sd²), through the inverse of its distribution."""
        return sd * math.sqrt(2) * torch.erfinv(self.uniform(name, *shape, low=-1.0, high=1.0))

    def chance(self, name: str, probability: float) -> Float[Tensor, " batch"]:
        """1 with this probability, else 0."""
        return (self.uniform(name) < probability).float()

    def integer(self, name: str, below: int) -> Int[Tensor, " batch"]:
        """0 to below - 1."""
        return (self.uniform(name) * below).long().clamp(max=below - 1)
