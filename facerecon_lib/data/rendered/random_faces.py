"""Random coefficients: shape, expression, skin, pose and light, and how flat a lens makes a face.

    numbers = CountedRandom(seed=3, indices=torch.arange(16))
    c = random_coefficients(model, numbers)              # FaceCoefficients of seed 3's first 16

Shapes are drawn from the model's prior, expressions from its facial actions, skins from those that
its basis was made of, poses as in photos of people. Notebook 06, Eq. 1 to 3.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...face.coefficients import FaceCoefficients
from ...face.device_constants import constant
from ...face.lighting import CLAMPED_COSINE, LIGHT_LEVEL, light_level, sh_basis
from ...face.morphable_model import MorphableModel
from .counted_random import CountedRandom

GRINS = 0.3  # of the faces that are not at rest
GRIN = dict(mouthSmile=(0.3, 1.0), mouthUpperUp=(0.2, 0.6), jawOpen=(0.0, 0.25))
GRIN |= dict(mouthLowerDown=(0.0, 0.4), cheekSquint=(0.0, 0.5), eyeSquint=(0.0, 0.4))
"""Least and most of the actions of a smile for a camera, which shows the teeth."""


def random_coefficients(
    model: MorphableModel, numbers: CountedRandom, family: str = "train"
) -> FaceCoefficients:
    """Shape, skin, pose and light; the translation is that of a face in the middle of the crop."""
    c = model.neutral(len(numbers.indices))
    c.identity = numbers.normal("identity", model.sizes.identity)
    c.expression = random_expression(model, numbers)
    c.albedo = model.albedo_samples[numbers.integer("skin", len(model.albedo_samples))]
    c.albedo = c.albedo + numbers.normal("skin noise", model.sizes.albedo, sd=0.15)
    turned, wide = numbers.normal("pose", 3), numbers.chance("turned far", 0.25)
    far = numbers.uniform("far yaw", low=-0.95, high=0.95)
    yaw = torch.where(wide > 0, far, 0.3 * turned[:, 1])
    c.rotation = torch.stack([0.17 * turned[:, 0], yaw, 0.12 * turned[:, 2]], -1)
    c.scale = numbers.normal("size", sd=0.02).exp()[:, None]
    c.lighting = random_light(numbers, family)
    return c


def random_expression(
    model: MorphableModel, numbers: CountedRandom
) -> Float[Tensor, "batch expression"]:
    """Some facial actions, mostly alike on both sides; a third of the faces at rest.

    Modes that no action moves are N(0, 1).
    """
    controls, loose = list(model.controls), 0.0
    if not controls or len(controls) < model.sizes.expression:
        loose = numbers.normal("expression", model.sizes.expression) * model.unnamed_modes
    if not controls:
        return loose
    acts = numbers.uniform("acts", len(controls)) < 0.1
    amount = numbers.uniform("action", len(controls)) * acts
    twin = [
        controls.index(name.replace("Right", "Left")) if name.endswith("Right") else i
        for i, name in enumerate(controls)
        if name.replace("Right", "Left") in controls
    ]
    if len(twin) == len(controls):
        alike = numbers.chance("alike", 0.75)[:, None]
        twin = constant(tuple(twin), torch.long, amount.device)
        amount = alike * amount[:, twin] + (1 - alike) * amount
    awake = 1 - numbers.chance("at rest", 0.3)[:, None]

    def at_least(name: str, much: Tensor) -> None:
        for side in {name, f"{name}Left", f"{name}Right"} & set(controls):
            i = controls.index(side)
            amount[:, i] = torch.maximum(amount[:, i], much)

    for name, often in (("mouthSmile", 0.3), ("jawOpen", 0.2)):
        at_least(name, numbers.chance(name, often) * numbers.uniform(f"{name} amount"))
    grins = numbers.chance("grin", GRINS)
    for name, (low, high) in GRIN.items():
        at_least(name, grins * numbers.uniform(f"grin {name}", low=low, high=high))
    return (amount * awake) @ model.control_matrix + loose


def random_light(numbers: CountedRandom, family: str) -> Float[Tensor, "batch 9 3"]:
    """Lamps on a wall of ambient light; where held out, a sky, a ground and a sun.

    Exposure and tint vary as those of portraits do (data_scripts/learn_face_model.py), and wider.
    """
    fixed, bands = numbers.fixed, numbers.fixed(*CLAMPED_COSINE)

    def lobe(direction: Tensor, colour: Tensor) -> Tensor:
        """Directional light: its shading is the clamped cosine, in nine functions."""
        y = sh_basis(F.normalize(direction, dim=-1))
        return (bands * y)[..., None] * colour[:, None]

    light = bands.new_zeros(len(numbers.indices), 9, 3)
    warm = numbers.normal("warmth", sd=0.09)[:, None] * fixed(1.0, 0.1, -1.2)
    warm = warm + fixed(0.1, 0.0, -0.05)  # photos of people are warm
    if family == "train":
        ambient = numbers.uniform("ambient", low=0.35, high=1.2)[:, None]
        light[:, 0] = ambient * math.sqrt(4 * math.pi)
        for i, brightest in enumerate((0.9, 0.5, 0.4)):
            direction = numbers.normal(f"lamp {i}", 3) * fixed(1.0, 0.6, 0.5)
            direction = direction + fixed(0.0, 0.35, 0.8)
            strength = numbers.uniform(f"lamp {i} strength", high=brightest)
            tint = 1 + numbers.normal(f"lamp {i} tint", 3, sd=0.08)
            light = light + lobe(direction, strength[:, None] * tint)
    else:
        up = numbers.normal("sky up", 3) * 0.25 + fixed(0.0, 1.0, 0.3)
        sky = 0.5 + 0.2 * numbers.uniform("sky", 3)
        ground = numbers.uniform("ground")[:, None] * fixed(0.5, 0.45, 0.4)
        light[:, 0] = (sky + ground) / 2 * math.sqrt(4 * math.pi)
        y = sh_basis(F.normalize(up, dim=-1))[:, 1:4]
        light[:, 1:4] = (2 * math.pi / 3) * y[..., None] * ((sky - ground) * 0.75)[:, None]
        sun = numbers.normal("sun", 3) * fixed(1.0, 0.4, 0.4) + fixed(0.0, 0.6, 0.6)
        strength = numbers.uniform("sun strength", high=0.8)[:, None]
        light = light + lobe(sun, strength * fixed(1.05, 1.0, 0.9))
    exposure = LIGHT_LEVEL * numbers.normal("exposure", sd=0.22).exp()
    exposure = exposure / light_level(light).clamp(min=0.2)
    return light * exposure[:, None, None] * warm.exp()[:, None]


def relief(numbers: CountedRandom) -> Float[Tensor, " batch"]:
    """How much of its depth a face keeps in the picture: 1 at the crop's own 30 degrees.

    From n times as far, with a lens n times as long, a face has the same size and 1 / n of its
    relief. A crop does not tell the lens, so an encoder has to see all.
    """
    near = numbers.chance("near", 0.35)
    return near + (1 - near) * numbers.uniform("relief", low=0.15, high=1.0)
