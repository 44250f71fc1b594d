"""Several photos of one person, rendered, and what the landmarks of each say of the identity.

    photos = photos_of_one(model, yaw_deg=(0.0, 40.0), seed=1)
    means, covariances = identities_of(model, photos.landmarks)
    errors = errors_of(model, {"mean": lambda means, covariances: means.mean(0)}, counts=(1, 2, 4))

Notebook 10, section 9.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ...face.camera import CROP_SIZE, ndc_to_pixels, pose, project_ndc
from ...face.measures import vertex_error_mm
from ...face.morphable_model import MorphableModel
from ...fitting.pose_start import start_from_landmarks
from ...pictures.faces import studio_light
from ...rendering.synthesis import Face, synthesise

NOISE = 1.0  # px, standard deviation of each coordinate of a landmark
STEPS = 8

Means, Covariances = Float[Tensor, "photo identity"], Float[Tensor, "photo identity identity"]


class Photos(NamedTuple):
    """Photos of one person: the truth, and landmarks as a detector would mark them."""

    face: Face
    identity: Float[Tensor, "1 identity"]
    landmarks: Float[Tensor, "photo 68 2"]  # crop pixels


@torch.no_grad()
def photos_of_one(model: MorphableModel, yaw_deg: Sequence[float], seed: int) -> Photos:
    """A random person, seen from each of these sides, each time with another expression."""
    generator, count = torch.Generator().manual_seed(seed), len(yaw_deg)
    identity, _, albedo = model.random(1, generator)
    c = model.neutral(count)
    c.identity, c.albedo = (x.expand(count, -1).contiguous() for x in (identity, albedo))
    c.expression = model.random(count, generator)[1]
    c.rotation[:, 0] = 0.1 * torch.randn(count, generator=generator)
    c.rotation[:, 1] = torch.tensor(yaw_deg).deg2rad()
    c.lighting = studio_light().expand(count, -1, -1).contiguous()
    face = synthesise(model, c)
    landmarks = face.landmarks("3d")
    noise = torch.randn(landmarks.shape, generator=generator)
    return Photos(face, identity, landmarks + NOISE * noise)


@torch.no_grad()
def identities_of(
    model: MorphableModel, landmarks: Float[Tensor, "photo 68 2"]
) -> tuple[Means, Covariances]:
    """The Gaussian of the identity that each photo's landmarks and the prior N(0, I) lead to.

    Gauss-Newton over identity, expression, rotation and translation; the inverse of its matrix is
    the covariance, of which the identity's block is returned. float64.
    """
    start = start_from_landmarks(model, landmarks)
    sizes = [model.sizes.identity, model.sizes.expression, 3, 3]
    bases = torch.cat([model.identity_basis, model.expression_basis])[:, model.landmarks].double()
    mean, target = model.mean[model.landmarks].double(), landmarks.double().flatten(1)

    def project(x: Tensor) -> Tensor:
        coefficients, rotation, translation = x.split([sum(sizes[:2]), 3, 3])
        vertices = (mean + torch.einsum("k,kvc->vc", coefficients, bases))[None]
        posed = pose(vertices, rotation[None], x.new_ones(1, 1), translation[None])
        return ndc_to_pixels(project_ndc(posed), CROP_SIZE).flatten()

    jacobian = torch.func.vmap(torch.func.jacfwd(project))
    prior = torch.tensor([1.0] * sum(sizes[:2]) + [1e-6] * 6, dtype=torch.float64)
    x = torch.cat([start.identity, start.expression, start.rotation, start.translation], 1).double()
    for _ in range(STEPS):
        slopes, off = jacobian(x), target - torch.func.vmap(project)(x)
        precision = slopes.mT @ slopes / NOISE**2 + prior.diag()
        downhill = (slopes.mT @ off[..., None])[..., 0] / NOISE**2 - prior * x
        x = x + torch.linalg.solve(precision, downhill)
    identity = slice(sizes[0])
    return x[:, identity], torch.linalg.inv(precision)[:, identity, identity]


@torch.no_grad()
def errors_of(
    model: MorphableModel,
    ways: Mapping[str, Callable[[Means, Covariances], Float[Tensor, " identity"]]],
    counts: Sequence[int],
    people: int = 20,
) -> dict[str, Float[Tensor, "people count"]]:
    """How far the neutral face is off, mm, when each way combines the first photos of a person.

    The photos look at up to 45 degrees to either side, in random order.
    """
    errors = {way: [] for way in ways}
    for seed in range(people):
        order = torch.randperm(max(counts), generator=torch.Generator().manual_seed(seed))
        yaws = torch.linspace(-45, 45, max(counts))[order].tolist()
        photos = photos_of_one(model, yaws, 100 + seed)
        means, covariances = identities_of(model, photos.landmarks)
        truth = model.shape(photos.identity)
        for way, combine in ways.items():
            found = torch.stack([combine(means[:n], covariances[:n]) for n in counts]).float()
            shapes = model.shape(found)
            errors[way].append(vertex_error_mm(shapes, truth.expand_as(shapes)).mean(1))
    return {way: torch.stack(values) for way, values in errors.items()}


def spread_mm(
    model: MorphableModel, covariance: Float[Tensor, "identity identity"]
) -> Float[Tensor, " vertex"]:
    """The standard deviation of each vertex's place, mm, that a covariance of identity means."""
    factor = torch.linalg.cholesky(covariance.double()).to(model.identity_basis)
    return torch.einsum("kvc,kj->vcj", model.identity_basis, factor).square().sum((1, 2)).sqrt()
