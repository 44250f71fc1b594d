"""Plausible mistakes in the exercises of notebook 10, and right answers written differently."""

import math

import numpy as np
import torch
from spoiled_answers import cached, halved, one_of, single, squeezed, stale, viewed

from facerecon_lib.course.nb10_own_photo.checks import (
    exaggerate_stand_in,
    gaussian_product,
    onto_photo,
    product_of_gaussians,
    relit,
)
from facerecon_lib.face.lighting import sh_basis, shade


def pixels_loop(points, result):
    out = []
    matrix = np.array(result["crop"]["matrix"])
    full = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for v in points.numpy():
        x = result["pose"]["scale"] * np.array(result["pose"]["rotation_matrix"]) @ v
        x = x + np.array(result["pose"]["translation_mm"])
        f = result["crop"]["size"] / (2 * math.tan(math.radians(result["camera"]["fov_deg"] / 2)))
        cx, cy = result["camera"]["principal_point"]
        out.append((full @ [cx - f * x[0] / x[2], cy - f * x[1] / x[2], 1])[:2])
    return torch.tensor(np.array(out), dtype=torch.float32)


def by_homogeneous(x, matrix):
    full = torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]])])
    return (torch.cat([x, torch.ones_like(x[:, :1])], 1) @ torch.linalg.inv(full).T)[:, :2]


def pixels_solved(points, result):
    pose, matrix = result["pose"], torch.tensor(result["crop"]["matrix"])
    x = torch.einsum("ij,nj->ni", torch.tensor(pose["rotation_matrix"]), points) * pose["scale"]
    x += torch.tensor(pose["translation_mm"])
    half = math.tan(math.radians(result["camera"]["fov_deg"] / 2))
    ndc = x[:, :2] / (x[:, 2:] * half)
    uv = torch.tensor(result["camera"]["principal_point"]) - ndc * result["crop"]["size"] / 2
    return torch.linalg.solve(matrix[:, :2], (uv - matrix[:, 2]).T).T


CROPS = {}


def pixels_by_the_first_crop(points, result):
    return onto_photo()(points, result | {"crop": CROPS.setdefault("crop", result["crop"])})


def by_similarity(divisor):
    """The transpose over the square of the zoom: the inverse of a map that turns and zooms."""
    return onto_photo(back=lambda x, m: (x - m[:, 2]) @ m[:, :2] / divisor(m[:, :2]))


def ended(finish):
    """What becomes of the right pixels."""
    return lambda points, result: finish(onto_photo()(points, result))


def light_mixed(image, normals, mask, light, new_light):
    """Both everywhere, mixed by the mask, with unit normals that are NaN off the face."""
    unit = normals / normals.norm(dim=1, keepdim=True)
    changed = relit()(image, unit, torch.ones_like(mask), light, new_light)
    return mask * changed + (1 - mask) * image


def light_in_float32(image, normals, mask, light, new_light):
    return relit()(image.float(), normals.float(), mask, light.float(), new_light.float())


def light_unless_dark(image, normals, mask, light, new_light):
    return relit()(image, normals, mask, light, new_light) if light.any() else image


def light_or_nothing(image, normals, mask, light, new_light):
    return relit()(image, normals, mask, light, new_light) if new_light.any() else image


def light_loop(image, normals, mask, light, new_light):
    out = image.clone()
    for b, i, j in mask[:, 0].nonzero().tolist():
        y = sh_basis(normals[b, :, i, j])
        old = (y @ light[b]).clamp(min=0.1)
        out[b, :, i, j] = (image[b, :, i, j] * (y @ new_light[b]) / old).clamp(0, 1)
    return out


def light_by_shade(image, normals, mask, light, new_light):
    white = torch.ones(len(image), image.shape[2] * image.shape[3], 3)
    flat = normals.flatten(2).transpose(1, 2)
    old = shade(white, flat, light).transpose(1, 2).reshape(image.shape)
    new = shade(white, flat, new_light).transpose(1, 2).reshape(image.shape)
    changed = (image / torch.maximum(old, torch.tensor(0.1)) * new).clamp(0, 1)
    return mask * changed + (1 - mask) * image


def caricature_by_hand(model, identity, expression, displacement, factor):
    vertices = model.mean + torch.einsum("bi,ivc->bvc", expression, model.expression_basis)
    for i, mode in enumerate(model.identity_basis):
        vertices = vertices + factor * identity[:, i, None, None] * mode
    return vertices + displacement


def caricature_by_difference(model, identity, expression, displacement, factor):
    nobody = model.shape(torch.zeros_like(identity), expression)
    return nobody + factor * (model.shape(identity, expression) - nobody) + displacement


def caricature_in_place(model, identity, expression, displacement, factor):
    identity *= factor
    displacement += model.shape(identity, expression)
    return displacement


def one_after_the_other(means, covariances):
    """Each photo's estimate becomes the prior of the next."""
    mean, covariance = means[0], covariances[0]
    for other, its in zip(means[1:], covariances[1:], strict=True):
        before, own = torch.linalg.inv(covariance), torch.linalg.inv(its)
        covariance = torch.linalg.inv(before + own - torch.eye(len(mean)).to(mean))
        mean = covariance @ (before @ mean + own @ other)
    return mean, covariance


def without_priors_first(means, covariances):
    """What each photo says by itself, then the prior once."""
    own = [torch.linalg.inv(c) - torch.eye(len(c), dtype=c.dtype) for c in covariances]
    told = sum(torch.linalg.solve(c, m) for m, c in zip(means, covariances, strict=True))
    covariance = torch.linalg.pinv(sum(own) + torch.eye(len(told), dtype=told.dtype))
    return covariance @ told, covariance


def by_cholesky(means, covariances):
    each = torch.cholesky_inverse(torch.linalg.cholesky(covariances))
    total = each.sum(0)
    total.diagonal().sub_(len(means) - 1)
    told = torch.einsum("pij,pj->i", each, means)
    factor = torch.linalg.cholesky(total)
    return torch.cholesky_solve(told[:, None], factor)[:, 0], torch.cholesky_inverse(factor)


def answered(finish):
    """What becomes of the right mean and covariance."""
    return lambda means, covariances: finish(*product_of_gaussians(means, covariances))


def by_size(covariances):
    """One weight per photo."""
    traces = covariances.diagonal(dim1=1, dim2=2).mean(1)
    return torch.eye(covariances.shape[1]).to(covariances) / traces[:, None, None]


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"photo_pixels", "relight", "exaggerate", "one_identity"}

MUTANTS = {
    "photo_pixels": {
        "inverse without its transpose": onto_photo(
            back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2])
        ),
        "zoom undone, its turn not": onto_photo(
            back=lambda x, m: (x - m[:, 2]) / m[:, :2].norm(dim=0)
        ),
        "diagonal of the crop's matrix alone": onto_photo(
            back=lambda x, m: (x - m[:, 2]) / m[:, :2].diag()
        ),
        "divided by scale": onto_photo(scale=lambda r: 1 / r["pose"]["scale"]),
        "the whole size": onto_photo(size=lambda r: 2 * r["crop"]["size"]),
        "one depth for all": onto_photo(depth=lambda x, r: x[:, 2:].mean()),
        "the middle of the crop for the principal point": onto_photo(
            middle=lambda r: r["crop"]["size"] / 2
        ),
        "224 for the crop's size": onto_photo(size=lambda r: 224),
        "30 degrees whatever the file says": onto_photo(half=lambda r: math.radians(15)),
        "a zoom by the determinant": by_similarity(lambda m: m.det().abs()),
        "a zoom by the signed determinant": by_similarity(torch.det),
        "a zoom for each column": by_similarity(lambda m: m.square().sum(0)),
        "a zoom for each row": by_similarity(lambda m: m.square().sum(1)),
        "no shear": onto_photo(
            back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2].tril()).T
        ),
        "turned round where it mirrors": onto_photo(
            back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2] * m[:, :2].det().sign()).T
        ),
        "the crop of the first file": pixels_by_the_first_crop,
        "half a pixel more": ended(lambda pixels: pixels + 0.5),
        "half a pixel more in the crop": onto_photo(
            middle=lambda r: torch.tensor(r["camera"]["principal_point"]) + 0.5
        ),
        "a tenth of a pixel": ended(lambda pixels: pixels.round(decimals=1)),
        "whole pixels": ended(torch.round),
        "never left of or above the photo": ended(lambda pixels: pixels.clamp(min=0)),
        "never beyond 1000 pixels": ended(lambda pixels: pixels.clamp(max=1000)),
        "points cached": stale(onto_photo(), 0),
        "view": viewed(onto_photo(), 0),
        "one point squeezed": squeezed(onto_photo()),
    },
    "relight": {
        "a floor of almost zero": relit(floor=1e-6),
        "z of the normals flipped": lambda image, normals, *rest: relit()(
            image, normals * torch.tensor([1.0, 1.0, -1.0])[:, None, None], *rest
        ),
        "light of the first picture": relit(
            lights=lambda *both: (light[:1].expand_as(light) for light in both)
        ),
        "new shading held as well": relit(
            change=lambda image, old, new: image * new.clamp(min=0.1) / old
        ),
        "0.1 added instead": relit(
            floor=-math.inf, change=lambda image, old, new: image * new / (old + 0.1)
        ),
        "nothing": lambda image, *_: image,
        "NaN off the face": light_mixed,
        "as it is where there was no light": light_unless_dark,
        "as it is when the light goes out": light_or_nothing,
        "a new shading of at most 1": relit(
            change=lambda image, old, new: image * new.clamp(max=1) / old
        ),
        "a quotient of at most 4": relit(
            change=lambda image, old, new: image * (new / old).clamp(max=4)
        ),
        "black made grey": lambda image, *rest: relit()(image.clamp(min=0.01), *rest),
        "the first picture's mask for all": lambda image, normals, mask, *lights: relit()(
            image, normals, one_of(mask), *lights
        ),
        "the first picture's normals for all": lambda image, normals, *rest: relit()(
            image, one_of(normals), *rest
        ),
        "pictures cached": stale(relit(), 0),
        "normals cached": stale(relit(), 1),
        "masks cached": stale(relit(), 2),
        "the old light cached": stale(relit(), 3),
        "the new light cached": stale(relit(), 4),
        "view": viewed(relit(), 0, 1),
        "lights by view": viewed(relit(), 3, 4),
        "one picture squeezed": squeezed(relit()),
        "float32": light_in_float32,
        "all in float32": single(relit()),
    },
    "exaggerate": {
        "factor less one": lambda m, i, e, d, f: m.shape((f - 1) * i, e) + d,
        "the mean of the batch": lambda m, i, e, d, f: (
            m.shape(i.mean(0) + f * (i - i.mean(0)), e) + d
        ),
        "no factor": lambda m, i, e, d, f: m.shape(i, e) + d,
        "always a caricature": lambda m, i, e, d, f: m.shape(f * i.abs() * i.sign().abs(), e) + d,
        "three standard deviations at most": lambda m, i, e, d, f: (
            m.shape((f * i).clamp(-3, 3), e) + d
        ),
        "ten standard deviations at most": lambda m, i, e, d, f: (
            m.shape((f * i).clamp(-10, 10), e) + d
        ),
        "a whole factor": lambda m, i, e, d, f: m.shape(int(f) * i, e) + d,
        "a factor from -3 to 3": lambda m, i, e, d, f: m.shape(min(max(f, -3), 3) * i, e) + d,
        "1 for a factor of 0": lambda m, i, e, d, f: m.shape((f or 1) * i, e) + d,
        "no displacement at factor 0": lambda m, i, e, d, f: m.shape(f * i, e) + (d if f else 0),
        "no displacement of the mean face": lambda m, i, e, d, f: m.shape(f * i, e) + d * i.any(),
        "the first displacement for all": lambda m, i, e, d, f: m.shape(f * i, e) + one_of(d),
        "the first expression for all": lambda m, i, e, d, f: m.shape(f * i, one_of(e)) + d,
        "identities cached": stale(exaggerate_stand_in, 1),
        "expressions cached": stale(exaggerate_stand_in, 2),
        "displacements cached": stale(exaggerate_stand_in, 3),
        "coefficients by view": viewed(exaggerate_stand_in, 1, 2),
        "displacement by view": viewed(exaggerate_stand_in, 3),
        "one face squeezed": squeezed(exaggerate_stand_in),
    },
    "one_identity": {
        "one weight per photo": gaussian_product(weigh=by_size),
        "elementwise inverses": gaussian_product(weigh=lambda c: 1 / c.clamp(min=1e-3)),
        "what is hardly told left out": gaussian_product(
            weigh=lambda c: torch.linalg.pinv(c, rtol=0.2)
        ),
        "the first covariance for all": lambda m, c: product_of_gaussians(m, one_of(c)),
        "the first mean for all": lambda m, c: product_of_gaussians(one_of(m), c),
        "the first two photos": lambda m, c: product_of_gaussians(m[:2], c[:2]),
        "one prior less, whatever the number": gaussian_product(priors=lambda count: 1),
        "two priors": gaussian_product(priors=lambda count: count - 2),
        "a little added before inverting": gaussian_product(
            weigh=lambda c: torch.linalg.inv(c + 1e-3 * torch.eye(c.shape[1]).to(c))
        ),
        "three standard deviations at most": answered(lambda m, c: (m.clamp(-3, 3), c)),
        "never further than the estimates": lambda m, c: answered(
            lambda mean, covariance: (mean.clamp(m.amin(0), m.amax(0)), covariance)
        )(m, c),
        "variances returned": answered(lambda m, c: (m, c.diagonal())),
        "standard deviations returned": answered(lambda m, c: (m, c.diagonal().sqrt().diag())),
        "no correlations returned": answered(lambda m, c: (m, c.diagonal().diag())),
        "covariance first": answered(lambda m, c: (c, m)),
        "the mean alone": answered(lambda m, c: m),
        "a prior for the covariance alone": lambda m, c: (
            gaussian_product(priors=lambda count: 0)(m, c)[0],
            product_of_gaussians(m, c)[1],
        ),
        "kept by size": cached(product_of_gaussians),
        "means cached": stale(product_of_gaussians, 0),
        "covariances cached": stale(product_of_gaussians, 1),
        "means by view": viewed(product_of_gaussians, 0),
        "covariances by view": viewed(product_of_gaussians, 1),
        "float32": single(product_of_gaussians),
        "halved": halved(product_of_gaussians),
        "one number squeezed": squeezed(product_of_gaussians),
    },
}

ALTERNATIVES = {
    "photo_pixels": {
        "a loop in numpy": pixels_loop,
        "solved": pixels_solved,
        "homogeneous": onto_photo(back=by_homogeneous),
    },
    "relight": {
        "a loop over pixels": light_loop,
        "by shade": light_by_shade,
        "the quotient first": relit(change=lambda image, old, new: new / old * image),
    },
    "exaggerate": {
        "by hand": caricature_by_hand,
        "by the difference": caricature_by_difference,
        "in place": caricature_in_place,
    },
    "one_identity": {
        "one after the other": one_after_the_other,
        "without priors first": without_priors_first,
        "by Cholesky": by_cholesky,
    },
}
