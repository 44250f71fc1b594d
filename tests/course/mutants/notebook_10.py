"""Plausible mistakes in the exercises of notebook 10, and right answers written differently."""

import math

import numpy as np
import torch

from facerecon_lib.course.nb10_own_photo.checks import onto_photo, relit
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


def pixels_solved(points, result):
    pose, matrix = result["pose"], torch.tensor(result["crop"]["matrix"])
    x = torch.einsum("ij,nj->ni", torch.tensor(pose["rotation_matrix"]), points) * pose["scale"]
    x += torch.tensor(pose["translation_mm"])
    half = math.tan(math.radians(result["camera"]["fov_deg"] / 2))
    ndc = x[:, :2] / (x[:, 2:] * half)
    uv = torch.tensor(result["camera"]["principal_point"]) - ndc * result["crop"]["size"] / 2
    return torch.linalg.solve(matrix[:, :2], (uv - matrix[:, 2]).T).T


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
    },
    "exaggerate": {
        "factor less one": lambda m, i, e, d, f: m.shape((f - 1) * i, e) + d,
        "the mean of the batch": lambda m, i, e, d, f: (
            m.shape(i.mean(0) + f * (i - i.mean(0)), e) + d
        ),
        "no factor": lambda m, i, e, d, f: m.shape(i, e) + d,
        "always a caricature": lambda m, i, e, d, f: m.shape(f * i.abs() * i.sign().abs(), e) + d,
    },
}

ALTERNATIVES = {
    "photo_pixels": {"a loop in numpy": pixels_loop, "solved": pixels_solved},
    "relight": {"a loop over pixels": light_loop, "by shade": light_by_shade},
    "exaggerate": {
        "by hand": caricature_by_hand,
        "by the difference": caricature_by_difference,
        "in place": caricature_in_place,
    },
}
