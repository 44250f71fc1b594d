"""The U-Net fitted to a few photos: the report's "preliminary study", in seconds.

    unet = DoubleHeadUNet(width=8)
    fit = fit_unet(unet, batch, base, objective, steps=60)
    fit.found.face, fit.terms["pixel"][-1]

Nothing here generalises: the network sees no other photo. It shows in a short time what each term
of Eq. 12 asks for, since what the losses leave free goes wrong at once.

Notebooks 07 and 08, Eq. 12.
"""

from dataclasses import dataclass

import torch
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


def gradient_lengths(
    augmented: AugmentedFaces, terms: dict[str, Tensor], weights: dict[str, float]
) -> dict[str, float]:
    """Length of the gradient of weight times term with respect to both maps together.

    What a term says to the network: a term of a large value can have no gradient to speak of.
    """

    def length(value: Tensor) -> float:
        if not value.requires_grad:
            return 0.0
        pulls = torch.autograd.grad(
            value, augmented.maps, retain_graph=True, materialize_grads=True
        )
        return float(sum(pull.square().sum() for pull in pulls)) ** 0.5

    return {name: weights[name] * length(value) for name, value in terms.items()}
