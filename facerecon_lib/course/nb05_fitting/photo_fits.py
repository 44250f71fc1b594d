"""What notebook 05 fits with: a photo to fit to, parameters by name, faces whose truth is known.

target = photo_fits.target_of(crop)                  # photo, valid pixels, landmarks
p = photo_fits.parameters(photo_fits.first_guess(model, target))
p, losses = fit_face(loss_of, p, RATES, steps=60)
c = photo_fits.coefficients(p)

Notebook 05, Eq. 7.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...face.coefficients import FaceCoefficients
from ...face.landmarks68 import JAW, LEFT_EYE, OUTER_EYES, RIGHT_EYE
from ...face.lighting import LIGHT_LEVEL, ambient_lighting, solve_lighting
from ...face.morphable_model import MorphableModel
from ...fitting import losses
from ...fitting.fit import LANDMARK_STAGE, LEARNING_RATES
from ...fitting.objective import BaseObjective
from ...fitting.photo_light import DARKEST, sample_photo_colours
from ...fitting.pose_start import start_from_landmarks
from ...fitting.weights import FIT_WEIGHTS, JAW_WEIGHT
from ...photos.crop import Crop
from ...rendering.renderer import SoftSettings
from ...rendering.synthesis import Face, synthesise
from ..drawing.panels import shape_errors

SIZE = 112  # px at which the notebook renders: a quarter of the pixels of the crop


FaceLoss = Callable[[Face, FaceBatch], Tensor]
PointLoss = Callable[[Tensor, Tensor], Tensor]  # of points and landmarks; or of features


def target_of(crop: Crop, size: int = SIZE) -> FaceBatch:
    """The crop, averaged to `size` pixels per side; landmarks stay in pixels of the 224 crop."""
    small = [F.interpolate(v, (size, size), mode="area") for v in (crop.image, crop.valid)]
    return FaceBatch(*small, crop.landmarks, "2d", ["the photo"])


NUDGES = dict(
    x=(-40, 40, 12),
    y=(-40, 40, -9),
    depth=(-80, 80, 25),
    yaw=(-40, 40, 14),
    wide=(-3.0, 3.0, 0.0, 0.1),
    smile=(0.0, 1.0, 0.0, 0.05),
    jaw=(0.0, 1.0, 0.0, 0.05),
    light=(0.4, 1.6, 0.8, 0.05),
)
"""The sliders of `nudged`: least, most, where they start, and step."""
NUDGE_LABELS = dict(
    **dict(x="right (mm)", y="up (mm)", depth="away (mm)", yaw="yaw (degrees)"),
    **dict(wide="identity 1 (sd)", jaw="jaw open"),
)


def nudged(
    model: MorphableModel,
    c: FaceCoefficients,
    x: float = 0,
    y: float = 0,
    depth: float = 0,
    yaw: float = 0,
    wide: float = 0,
    smile: float = 0,
    jaw: float = 0,
    light: float = 1,
) -> FaceCoefficients:
    """The face moved by mm, turned by degrees, with another identity, expression and light."""
    c = c.detach().clone()
    c.translation += c.translation.new_tensor([[-x, y, depth]])
    c.rotation[:, 1] += math.radians(yaw)
    c.identity[:, 0] += wide
    actions = {"mouthSmileLeft": smile, "mouthSmileRight": smile, "jawOpen": jaw}
    c.expression += model.expression_from_controls(actions, stand_in=True)
    c.lighting *= light
    return c


def point_weights() -> Float[Tensor, " 68"]:
    """1 for each landmark, 0.3 for the jaw's 17: a 2D detector marks an outline there."""
    weights = torch.ones(68)
    weights[JAW] = JAW_WEIGHT
    return weights


def parameters(c: FaceCoefficients) -> dict[str, Tensor]:
    """Fresh tensors by name, as an optimiser wants them; scale as its logarithm: it stays > 0."""
    p = {name: getattr(c, name).detach().clone() for name in LEARNING_RATES if name != "log_scale"}
    return p | {"log_scale": c.scale.detach().log()}


def coefficients(p: Mapping[str, Tensor]) -> FaceCoefficients:
    """The other way; gradients flow through."""
    p = dict(p)
    return FaceCoefficients(scale=p.pop("log_scale").exp(), **p)


def to_row(p: Mapping[str, Tensor]) -> Float[Tensor, " unknown"]:
    """One face's pose, identity and expression as one row of numbers."""
    return torch.cat([p[name].flatten() for name in LANDMARK_STAGE])


def from_row(row: Float[Tensor, " unknown"], p: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way, in the shapes of p, which gives the rest; gradients flow through."""
    parts = row.split([p[name].numel() for name in LANDMARK_STAGE])
    return {**p} | {n: v.view_as(p[n]) for n, v in zip(LANDMARK_STAGE, parts, strict=True)}


def first_guess(model: MorphableModel, target: FaceBatch) -> FaceCoefficients:
    """The mean face in the pose of the 68 landmarks, in the light that explains the photo best."""
    return lit_by_photo(model, start_from_landmarks(model, target.landmarks), target)


def lit_by_photo(model: MorphableModel, c: FaceCoefficients, target: FaceBatch) -> FaceCoefficients:
    """The same face under the least-squares light of notebook 03, its skin kept."""
    c = c.detach()
    face = synthesise(model, c)
    seen, weight = sample_photo_colours(face, target.image, target.valid)
    prior = ambient_lighting(len(c), LIGHT_LEVEL, device=model.device)
    skin = face.albedo.clamp(DARKEST, 1), face.normals, seen, weight * model.regions["skin"]
    return replace(c, lighting=solve_lighting(*skin, prior=prior, ridge=3e-3))


class Film:
    """A loss that remembers the coefficients of every step it was asked about."""

    def __init__(self, loss_of: Callable[[Mapping[str, Tensor]], Tensor]):
        self.loss_of = loss_of
        self.states: list[FaceCoefficients] = []

    def __call__(self, p: Mapping[str, Tensor]) -> Tensor:
        self.states.append(coefficients(p).detach().clone())
        return self.loss_of(p)


def film_values(
    model: MorphableModel,
    target: FaceBatch,
    states: Sequence[FaceCoefficients],
    pixel_term: FaceLoss,
    landmark_term: PointLoss,
) -> list[tuple[float, float]]:
    """Pixel and landmark loss of each state."""
    values = []
    for c in states:
        face = synthesise(model, c)
        landmark = landmark_term(face.landmarks("2d"), target.landmarks)
        values.append((float(pixel_term(face, target)), float(landmark)))
    return values


def random_faces(
    model: MorphableModel, count: int, seed: int
) -> tuple[FaceCoefficients, FaceBatch]:
    """Faces whose truth is known, rendered, with half a pixel of noise on their landmarks."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sds: float) -> Tensor:
        return torch.randn(count, len(sds), generator=generator) * torch.tensor(sds)

    c = model.neutral(count)
    c.identity, c.expression, c.albedo = model.random(count, generator)
    c.rotation = normal(0.1, 0.25, 0.05).to(model.device)
    c.translation = c.translation + normal(5.0, 5.0, 15.0).to(model.device)
    light = ambient_lighting(count) * (0.75 + 0.2 * torch.rand(count, 1, 1, generator=generator))
    light[:, 1:4] += (normal(0.2, 0.15, 0.25) + torch.tensor([0.1, 0.25, 0.0]))[..., None]
    c.lighting = light.to(model.device)
    face = synthesise(model, c)
    image, _ = face.render(2 * SIZE, background=0.6)
    image = F.avg_pool2d(image.clamp(0, 1), 2)
    jitter = 0.5 * torch.randn(count, 68, 2, generator=generator).to(model.device)
    landmarks, names = face.landmarks("2d") + jitter, [f"face {i}" for i in range(count)]
    return c, FaceBatch(image, torch.ones_like(image[:, :1]), landmarks, "2d", names)


def at_distance(c: FaceCoefficients, mm: float | Tensor) -> FaceCoefficients:
    """The same face moved along its line of sight, so that it stays where it is in the picture."""
    c = c.detach()
    return replace(c, translation=c.translation * (mm / c.translation[:, 2:]))


def walk(
    model: MorphableModel, c: FaceCoefficients, target: FaceBatch, loss_of: Callable
) -> list[FaceCoefficients]:
    """Lets Adam choose the distance alone, under a soft renderer, whose mask has a gradient.

    loss_of(rendered, photo, mask) -> a scalar. Returns the face at each step.
    """
    log_mm = c.translation[:, 2:].detach().log().requires_grad_()
    adam = torch.optim.Adam([log_mm], lr=0.07)
    soft, size = SoftSettings(faces_per_pixel=4), SIZE // 2
    photo, valid = (F.avg_pool2d(value, 2) for value in (target.image, target.valid))
    states = []
    for _ in range(16):
        states.append(at_distance(c, log_mm.exp()))
        image, mask = synthesise(model, states[-1]).render(size, soft=soft)
        _descend(adam, loss_of(image, photo, mask * valid))
    return [state.detach() for state in states]


def _descend(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def shape_prior(model: MorphableModel, c: FaceCoefficients) -> Float[Tensor, " batch"]:
    """The shape's priors at FIT_WEIGHTS, a number per face."""
    actions = model.actions(c.expression)
    terms = {
        "identity": losses.coefficient_prior(c.identity, per_face=True),
        "expression": losses.coefficient_prior(c.expression, per_face=True),
        "action_range": losses.action_range_prior(actions, per_face=True),
        "scale": losses.scale_prior(c.scale, per_face=True),
    }
    return losses.weighted_sum(terms, FIT_WEIGHTS)


def fit_points(
    model: MorphableModel,
    start: FaceCoefficients,
    landmarks: Float[Tensor, "1 68 2"],
    loss_of: Callable,
) -> FaceCoefficients:
    """Pose and shape of 68 landmarks with priors, under a landmark loss of one's own."""
    landmarks_of, weights = BaseObjective(model, FIT_WEIGHTS).landmarks, point_weights()
    p = {name: value.requires_grad_() for name, value in parameters(start).items()}
    adam = torch.optim.Adam([{"params": [p[n]], "lr": LEARNING_RATES[n]} for n in LANDMARK_STAGE])
    for _ in range(40):
        c = coefficients(p)
        loss = FIT_WEIGHTS["landmark"] * loss_of(landmarks_of(c, "2d"), landmarks, weights)
        _descend(adam, loss + shape_prior(model, c).mean())
    return coefficients(p).detach()


def prior_sweep(
    model: MorphableModel,
    truth: FaceCoefficients,
    target: FaceBatch,
    strengths: Sequence[float],
    fit_face: Callable,
) -> tuple[Tensor, Tensor]:
    """Every face under every strength of the priors, fitted to its landmarks in one batch.

    Adam treats each number by itself, so the rows do not disturb each other. Returns the median
    vertex errors in mm and the landmark losses in px, (strength, face) both.
    """
    count, landmarks_of = len(truth), BaseObjective(model, FIT_WEIGHTS).landmarks
    landmarks = target.landmarks.repeat(len(strengths), 1, 1)
    strength = torch.tensor(strengths, dtype=torch.float32).repeat_interleave(count)
    start = FaceCoefficients.cat([start_from_landmarks(model, target.landmarks)] * len(strengths))

    def landmark(c: FaceCoefficients) -> Tensor:
        points = landmarks_of(c, "2d")
        return losses.landmark_loss(points, landmarks, point_weights(), per_face=True)

    def loss_of(p: Mapping[str, Tensor]) -> Tensor:
        c = coefficients(p)
        prior = strength.to(landmarks) * shape_prior(model, c)
        return (FIT_WEIGHTS["landmark"] * landmark(c) + prior).sum()

    rates = {name: LEARNING_RATES[name] for name in LANDMARK_STAGE}
    p, _ = fit_face(loss_of, parameters(start), rates, 40)
    with torch.no_grad():
        c = coefficients(p)
        again = FaceCoefficients.cat([truth] * len(strengths))
        errors = shape_errors(model, c, again).median(1).values
        return errors.view(-1, count), landmark(c).view(-1, count)


def with_sunglasses(target: FaceBatch) -> FaceBatch:
    """The same photo with dark glasses painted over the eyes; its landmarks stay."""
    size = target.image.shape[-1]
    layer = Image.new("L", (4 * size, 4 * size))
    pen = ImageDraw.Draw(layer)
    xy = target.landmarks[0].cpu() * (4 * size / CROP_SIZE)
    eyes = torch.stack([xy[RIGHT_EYE].mean(0), xy[LEFT_EYE].mean(0)])
    right, left = OUTER_EYES
    reach = float((xy[left] - xy[right]).norm())

    for x, y in eyes.tolist():
        w, h = 0.29 * reach, 0.22 * reach
        pen.rounded_rectangle((x - w, y - 0.75 * h, x + w, y + 1.25 * h), 0.12 * reach, fill=255)
    up = torch.tensor([0.0, reach])
    ends = [*(eyes - 0.06 * up), eyes[0] - 0.04 * up, xy[0], eyes[1] - 0.04 * up, xy[16]]
    for bar in torch.stack(ends).view(3, 4).tolist():
        pen.line(bar, fill=255, width=int(0.05 * reach))
    layer = layer.resize((size, size), Image.Resampling.BOX)
    alpha = torch.from_numpy(np.asarray(layer).astype(np.float32) / 255).to(target.image)
    dark = target.image.new_tensor([0.05, 0.05, 0.07])[:, None, None]
    return replace(target, image=torch.lerp(target.image, dark.expand(3, size, size), alpha))


def other_skin(model: MorphableModel, c: FaceCoefficients, factor: float) -> FaceCoefficients:
    """The same colours in the picture from a skin `factor` times as dark, in that much more light.

    The albedo is the basis' nearest to factor times the old one; the light is divided by factor.
    """
    basis = model.albedo_basis.flatten(1)
    skin = (factor * model.albedo(c.albedo)[0] - model.albedo_mean).flatten()
    rows = basis * model.regions["skin"].repeat_interleave(3)
    normal = rows @ basis.T + 1e-3 * torch.eye(len(basis))
    albedo = torch.linalg.solve(normal, rows @ skin)[None]
    return replace(c.detach(), albedo=albedo, lighting=c.lighting / factor)
