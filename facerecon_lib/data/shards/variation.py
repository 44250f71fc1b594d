"""Photos in other exposure, white balance and gamma, and mirrored: the same people all the same.

    batch = varied(batch, seed=0, epoch=3)               # a FaceBatch of other pixels and landmarks

A photo's key, the epoch and the seed decide, so a resumed run sees the same.
Notebook 06, section 2.1.
"""

from dataclasses import replace
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.colour import linear_to_srgb, srgb_to_linear
from ...face.device_constants import constant
from ...face.landmarks68 import MIRROR_68
from ..rendered.counted_random import CountedRandom

EXPOSURE, WHITE_BALANCE, GAMMA = 0.35, 0.12, 0.12
"""Standard deviations of the logarithms: of all light, of each channel's, of the exponent."""


@torch.no_grad()
def varied(batch: FaceBatch, seed: int, epoch: int) -> FaceBatch:
    """The photos, of 8 bits a channel, as another camera would have taken them; half mirrored."""
    keys = [name.rpartition("/")[2] for name in batch.names]  # behind the shard's name
    digests = [sha256(f"{epoch}\n{key}".encode()).digest()[:8] for key in keys]
    indices = torch.tensor([int.from_bytes(digest, "big") >> 1 for digest in digests])
    numbers = CountedRandom(seed, indices.to(batch.image.device))
    levels = (batch.image * 255).round_().long().flatten(2)
    image = tone_tables(numbers).gather(2, levels).view_as(batch.image)
    mirror = numbers.chance("mirror", 0.5).bool()
    return _mirrored(replace(batch, image=image), mirror)


def tone_tables(numbers: CountedRandom) -> Float[Tensor, "batch 3 256"]:
    """What each level of each channel becomes: sRGB is linear light for exposure and balance.

    The three gains of the white balance have a product of 1, so that grey keeps its brightness.
    """
    exposure = numbers.normal("exposure", 1, sd=EXPOSURE)
    balance = numbers.normal("white balance", 3, sd=WHITE_BALANCE)
    gains = (exposure + balance - balance.mean(1, keepdim=True)).exp()
    light = srgb_to_linear(torch.linspace(0, 1, 256, device=gains.device))
    gamma = numbers.normal("gamma", 1, 1, sd=GAMMA).exp()
    return linear_to_srgb(gains[..., None] * light).clamp(0, 1) ** gamma


def _mirrored(batch: FaceBatch, which: Tensor) -> FaceBatch:
    """The batch with its faces `which` mirrored."""
    size = batch.image.shape[-1]
    permuted = batch.landmarks[:, constant(tuple(MIRROR_68.tolist()), torch.long, which.device)]
    landmarks = torch.stack([size - permuted[..., 0], permuted[..., 1]], -1)
    return replace(
        batch,
        image=torch.where(which[:, None, None, None], batch.image.flip(-1), batch.image),
        valid=torch.where(which[:, None, None, None], batch.valid.flip(-1), batch.valid),
        landmarks=torch.where(which[:, None, None], landmarks, batch.landmarks),
    )
