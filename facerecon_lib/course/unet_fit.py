"""The U-Net fitted to a few photos: the report's "preliminary study", in seconds.

    unet = DoubleHeadUNet(width=8)
    fit = fit_unet(unet, batch, base, objective, steps=60)
    fit.found.face, fit.terms["pixel"][-1]

Nothing here generalises: the network sees no other photo. It shows in a short time what each term
of Eq. 12 asks for, since what the losses leave free goes wrong at once.

Notebooks 07 and 08, Eq. 12.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import AugmentedFaces, BaseFaces, augment, unet_inputs
from ..augmented.objective import AugmentedObjective
from ..face.batch import FaceBatch
from ..networks.unet import DoubleHeadUNet, OffsetMaps


@dataclass(eq=False)
class UNetFit:
    """found: the faces after the last step. terms: each term's value per step, and "loss". maps:
    before each step."""

    found: AugmentedFaces
    terms: dict[str, list[float]]
    maps: list[OffsetMaps]


def fit_unet(
    unet: DoubleHeadUNet,
    batch: FaceBatch,
    base: BaseFaces,
    objective: AugmentedObjective,
    steps: int = 60,
    learning_rate: float = 2e-3,
) -> UNetFit:
    """Adam on these faces alone, the rate falling to a tenth along a cosine.

    Raises FloatingPointError, with the step, when the loss is no number, and ValueError for less
    than one step.
    """
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {steps}")
    inputs = unet_inputs(batch.image, base)
    unet.train()
    adam = torch.optim.Adam(unet.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, learning_rate / 10)
    terms, maps = {}, []
    for step in range(steps):
        drawn = unet(*inputs)
        maps.append(OffsetMaps(*(m.detach() for m in drawn)))
        result = objective(augment(base, drawn), batch)
        for name, value in {"loss": result.loss, **result.terms}.items():
            terms.setdefault(name, []).append(float(value.detach()))
        if not terms["loss"][-1] < float("inf"):
            raise FloatingPointError(f"step {step}: the loss is {terms['loss'][-1]}")
        adam.zero_grad(set_to_none=True)
        result.loss.backward()
        adam.step()
        schedule.step()
    unet.eval()
    with torch.no_grad():
        return UNetFit(augment(base, unet(*inputs)), terms, maps)


def gradient_length(
    term: Callable[..., Tensor], maps: Sequence[Float[Tensor, "..."]]
) -> Float[Tensor, ""]:
    """How hard term(*maps), one number, pulls at the maps: the length of its gradient with respect
    to all of them together. 0 for a term that does not depend on them."""
    maps = [m.detach().requires_grad_() for m in maps]
    with torch.enable_grad():
        value = term(*maps)
    if not value.requires_grad:
        return maps[0].new_zeros(())
    pulls = torch.autograd.grad(value, maps, materialize_grads=True)
    return sum(pull.square().sum() for pull in pulls).sqrt()
