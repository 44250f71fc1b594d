"""Random numbers that are a function of where they are used, not of what was drawn before.

    numbers = CountedRandom(seed=3, indices=torch.tensor([17, 4]))
    numbers.normal("rotation", 3)                        # (2, 3): for faces 17 and 4 of seed 3

Each number is a hash of (seed, name, index, position): Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011. So face 17 is the same in any batch, process and device, and a new effect
changes no other. The hash is SplitMix64's finaliser (Steele et al., 2014), twice.
Notebook 06, section 2.1.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...face.device_constants import constant

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The 64 bits of `value` as torch's int64."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place; int64 wraps like unsigned, but shifts copy the sign."""
    spare = torch.empty_like(z)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        torch.bitwise_right_shift(z, shift, out=spare)
        z.bitwise_xor_(spare.bitwise_and_(2 ** (64 - shift) - 1))
        if factor is not None:
            z.mul_(_signed(factor))
    return z


Request = tuple[str, tuple[int, ...]]
AHEAD_FACES = 4096  # of larger batches, nothing is hashed ahead
SMALL = 4096  # numbers per face; larger requests are not hashed ahead
_small: dict[Request, None] = {}  # the requests of earlier batches; they change no number


@lru_cache(maxsize=64)
def _layout(
    seed: int, requests: tuple[Request, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of the requests laid side by side, and each number's request and position."""
    names = torch.tensor([zlib.crc32(name.encode()) for name, _ in requests])
    keys = _mix(names * _signed(_GOLDEN) + _mix(torch.tensor([_signed(seed)])))
    sizes = [math.prod(shape) for _, shape in requests]
    which = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    counts = torch.cat([torch.arange(size) for size in sizes]) * _signed(_GOLDEN)
    return keys.to(device), which.to(device), counts.to(device)


@dataclass(eq=False)
class CountedRandom:
    """Numbers for the faces `indices` of a seed, on their device.

    A name gives the same numbers at every call, and a longer shape starts with those of a shorter
    one: independent draws need names of their own. Do not write into results: calls share them.
    Raises ValueError for indices that are not whole numbers in one row.
    """

    seed: int
    indices: Int[Tensor, " batch"]

    def __post_init__(self) -> None:
        i = self.indices
        if i.ndim != 1 or i.is_floating_point() or i.dtype == torch.bool:
            got = f"{i.dtype}, {tuple(i.shape)}"
            raise ValueError(f"indices: expected whole numbers in one row, got {got}")
        self.indices = i.long()  # the hash is of 64 bits
        self._ready: dict[Request, Tensor] = {}

    def _unit(self, name: str, shape: tuple[int, ...]) -> Float[Tensor, " batch *shape"]:
        """Between 0 and 1, never an end: the hash's upper 23 bits and a half."""
        request = (name, shape)
        if request in _small and not self._ready and len(self.indices) <= AHEAD_FACES:
            # all requests of earlier batches at once: a GPU would else wait for 4,000 launches
            self._ready = dict(zip(_small, self._hash(list(_small)), strict=True))
        if request not in self._ready:
            if math.prod(shape) <= SMALL:
                _small[request] = None
            self._ready[request] = self._hash([request])[0]
        return self._ready[request]

    def _hash(self, requests: list[Request]) -> list[Tensor]:
        keys, which, counts = _layout(self.seed, tuple(requests), self.indices.device)
        face = _mix(self.indices[:, None] * _signed(_GOLDEN) + keys)
        bits = _mix((face if len(requests) == 1 else face[:, which]) + counts)
        sizes = [math.prod(shape) for _, shape in requests]
        bits.bitwise_right_shift_(41).bitwise_and_(2**23 - 1)
        parts = bits.float().add_(0.5).div_(2**23).split(sizes, 1)
        return [p.unflatten(1, shape) for p, (_, shape) in zip(parts, requests, strict=True)]

    def uniform(
        self, name: str, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, " batch *shape"]:
        """Between low and high; (batch, *shape), or (batch,) without a shape."""
        value = self._unit(name, shape or (1,))
        if (low, high) != (0.0, 1.0):
            value = low + (high - low) * value
        return value if shape else value[:, 0]

    def normal(self, name: str, *shape: int, sd: float = 1.0) -> Float[Tensor, " batch *shape"]:
        """N(0, sd²), through the inverse of its distribution."""
        value = self.uniform(name, *shape, low=-1.0, high=1.0)  # a new tensor
        return value.erfinv_().mul_(sd * math.sqrt(2))

    def fixed(self, *values: float | tuple) -> Tensor:
        """Constants on the numbers' device: not to be changed."""
        return constant(values, torch.float32, self.indices.device)

    def chance(self, name: str, probability: float) -> Float[Tensor, " batch"]:
        """1 with this probability, else 0."""
        return (self.uniform(name) < probability).float()

    def integer(self, name: str, below: int) -> Int[Tensor, " batch"]:
        """0 to below - 1. Raises ValueError where there is no such number."""
        if below < 1:
            raise ValueError(f"below: expected 1 or more, got {below}")
        return (self.uniform(name) * below).long().clamp(max=below - 1)
