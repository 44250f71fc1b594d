"""Plausible mistakes in the exercises of notebook 10, and right answers written differently."""

import math

import numpy as np
import torch

from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.lighting import sh_basis, shade

# Back onto the photo --------------------------------------------------------------------------


def _pixels(
    turn=lambda r: r["pose"]["rotation_matrix"],
    scale=lambda r: r["pose"]["scale"],
    translation=lambda r: r["pose"]["translation_mm"],
    focal=lambda r: r["crop"]["size"] / 2 / math.tan(math.radians(r["camera"]["fov_deg"]) / 2),
    depth=lambda x: x[:, 2:],
    signs=(-1.0, -1.0),
    middle=lambda r: r["camera"]["principal_point"],
    back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2]).T,
    transposed=True,
):
    """The way to the photo, whose parts can be exchanged."""

    def attempt(points, result):
        r = torch.as_tensor(turn(result))
        x = scale(result) * points @ (r.T if transposed else r)
        x = x + torch.tensor(translation(result))
        uv = torch.tensor(signs) * focal(result) * x[:, :2] / depth(x)
        uv = uv + torch.as_tensor(middle(result))
        return back(uv, torch.tensor(result["crop"]["matrix"]))

    return attempt


def pixels_loop(points, result):
    out = []
    matrix = np.array(result["crop"]["matrix"])
    full = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for v in points.numpy():
        x = result["pose"]["scale"] * np.array(result["pose"]["rotation_matrix"]) @ v
        x = x + np.array(result["pose"]["translation_mm"])
        f = result["crop"]["size"] / (2 * math.tan(math.radians(result["camera"]["fov_deg"] / 2)))
        cx, cy = result["camera"]["principal_point"]
        u = cx - f * x[0] / x[2]
        w = cy - f * x[1] / x[2]
        out.append((full @ [u, w, 1])[:2])
    return torch.tensor(np.array(out), dtype=torch.float32)


def pixels_solved(points, result):
    pose, matrix = result["pose"], torch.tensor(result["crop"]["matrix"])
    x = torch.einsum("ij,nj->ni", torch.tensor(pose["rotation_matrix"]), points) * pose["scale"]
    x += torch.tensor(pose["translation_mm"])
    half = math.tan(math.radians(result["camera"]["fov_deg"] / 2))
    ndc = x[:, :2] / (x[:, 2:] * half)
    uv = torch.tensor(result["camera"]["principal_point"]) - ndc * result["crop"]["size"] / 2
    return torch.linalg.solve(matrix[:, :2], (uv - matrix[:, 2]).T).T


def pixels_by_size(points, result):
    return _pixels(middle=lambda r: [r["crop"]["size"] / 2] * 2)(points, result)


def pixels_in_224(points, result):
    return _pixels(
        focal=lambda r: 112 / math.tan(math.radians(r["camera"]["fov_deg"]) / 2),
    )(points, result)


def pixels_thirty_degrees(points, result):
    return _pixels(focal=lambda r: r["crop"]["size"] / 2 / math.tan(math.radians(15)))(
        points, result
    )


def _axis_angle(r):
    return axis_angle_to_matrix(torch.tensor(r["pose"]["rotation"])[None])[0]


# Another light --------------------------------------------------------------------------------


def _light(picture, floor=0.1, clamp=True, keep=True, swap=False, basis=sh_basis, grey=False):
    image, normals, mask, light, new_light = picture
    if swap:
        light, new_light = new_light, light
    if grey:
        light = light.mean(-1, keepdim=True)
        new_light = new_light.mean(-1, keepdim=True)
    y = basis(normals.movedim(1, -1))
    old = (y.flatten(1, 2) @ light).unflatten(1, y.shape[1:3]).movedim(-1, 1)
    new = (y.flatten(1, 2) @ new_light).unflatten(1, y.shape[1:3]).movedim(-1, 1)
    if floor is not None:
        old = old.clamp(min=floor)
    out = image * new / old
    out = out.clamp(0, 1) if clamp else out
    return torch.where(mask > 0, out, image) if keep else out


def light_loop(image, normals, mask, light, new_light):
    out = image.clone()
    for b in range(len(image)):
        for i in range(image.shape[2]):
            for j in range(image.shape[3]):
                if mask[b, 0, i, j] > 0:
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


def light_of_the_first(image, normals, mask, light, new_light):
    first = light[:1].expand_as(light), new_light[:1].expand_as(light)
    return _light((image, normals, mask, *first))


def light_added(image, normals, mask, light, new_light):
    y = sh_basis(normals.movedim(1, -1))
    change = torch.einsum("bhwk,bkc->bchw", y, new_light - light)
    return torch.where(mask > 0, (image + change).clamp(0, 1), image)


def light_multiplied(image, normals, mask, light, new_light):
    new = torch.einsum("bhwk,bkc->bchw", sh_basis(normals.movedim(1, -1)), new_light)
    return torch.where(mask > 0, (image * new).clamp(0, 1), image)


def light_black_outside(image, normals, mask, light, new_light):
    return mask * _light((image, normals, mask, light, new_light))


def light_new_shading_held(image, normals, mask, light, new_light):
    y = sh_basis(normals.movedim(1, -1))
    old = torch.einsum("bhwk,bkc->bchw", y, light)
    new = torch.einsum("bhwk,bkc->bchw", y, new_light).clamp(min=0.1)
    return torch.where(mask > 0, (image * new / old.clamp(min=0.1)).clamp(0, 1), image)


def light_epsilon(image, normals, mask, light, new_light):
    y = sh_basis(normals.movedim(1, -1))
    old = torch.einsum("bhwk,bkc->bchw", y, light) + 0.1
    new = torch.einsum("bhwk,bkc->bchw", y, new_light)
    return torch.where(mask > 0, (image * new / old).clamp(0, 1), image)


# A caricature ---------------------------------------------------------------------------------


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
        "crop pixels": _pixels(back=lambda x, m: x),
        "the crop's matrix forwards": _pixels(back=lambda x, m: x @ m[:, :2].T + m[:, 2]),
        "inverse without its transpose": _pixels(
            back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2])
        ),
        "zoom undone, its turn not": _pixels(
            back=lambda x, m: (x - m[:, 2]) / m[:, :2].norm(dim=0)
        ),
        "diagonal of the crop's matrix alone": _pixels(
            back=lambda x, m: (x - m[:, 2]) / m[:, :2].diag()
        ),
        "shift undone last": _pixels(back=lambda x, m: x @ torch.linalg.inv(m[:, :2]).T - m[:, 2]),
        "no scale": _pixels(scale=lambda r: 1.0),
        "divided by scale": _pixels(scale=lambda r: 1 / r["pose"]["scale"]),
        "turned the other way": _pixels(transposed=False),
        "axis-angle without the change of axes": _pixels(turn=_axis_angle),
        "left and right": _pixels(signs=(1.0, -1.0)),
        "up and down": _pixels(signs=(-1.0, 1.0)),
        "both axes": _pixels(signs=(1.0, 1.0)),
        "whole angle of view": _pixels(
            focal=lambda r: r["crop"]["size"] / 2 / math.tan(math.radians(r["camera"]["fov_deg"]))
        ),
        "degrees": _pixels(
            focal=lambda r: r["crop"]["size"] / 2 / math.tan(r["camera"]["fov_deg"] / 2)
        ),
        "the whole size": _pixels(
            focal=lambda r: r["crop"]["size"] / math.tan(math.radians(r["camera"]["fov_deg"]) / 2)
        ),
        "one depth for all": _pixels(depth=lambda x: x[:, 2:].mean()),
        "from the middle": _pixels(middle=lambda r: [0.0, 0.0]),
        "no translation": _pixels(translation=lambda r: [0.0, 0.0, 0.0]),
        "the middle of the crop for the principal point": pixels_by_size,
        "224 for the crop's size": pixels_in_224,
        "30 degrees whatever the file says": pixels_thirty_degrees,
    },
    "relight": {
        "old over new": lambda *p: _light(p, swap=True),
        "no floor": lambda *p: _light(p, floor=None),
        "a floor of almost zero": lambda *p: _light(p, floor=1e-6),
        "not clamped": lambda *p: _light(p, clamp=False),
        "the background too": lambda *p: _light(p, keep=False),
        "black outside": light_black_outside,
        "grey light": lambda *p: _light(p, grey=True),
        "z of the normals flipped": lambda *p: _light(
            p, basis=lambda n: sh_basis(n * torch.tensor([1.0, 1.0, -1.0]))
        ),
        "light of the first picture": light_of_the_first,
        "difference added": light_added,
        "old light kept": light_multiplied,
        "new shading held as well": light_new_shading_held,
        "0.1 added instead": light_epsilon,
        "nothing": lambda image, *_: image,
    },
    "exaggerate": {
        "the expression too": lambda m, i, e, d, f: m.shape(f * i, f * e) + d,
        "the displacement too": lambda m, i, e, d, f: m.shape(f * i, e) + f * d,
        "no displacement": lambda m, i, e, d, f: m.shape(f * i, e),
        "no expression": lambda m, i, e, d, f: m.shape(f * i) + d,
        "the whole face larger": lambda m, i, e, d, f: f * m.shape(i, e) + d,
        "all but the mean": lambda m, i, e, d, f: m.mean + f * (m.shape(i, e) + d - m.mean),
        "once too often": lambda m, i, e, d, f: m.shape((1 + f) * i, e) + d,
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
