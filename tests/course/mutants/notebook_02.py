"""Notebook 02: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from spoiled_answers import cached, halved, logged, rooted, squeezed, viewed, with_

from facerecon_lib.course.nb02_camera.checks import (
    least_squares,
    orthographic_pose,
    pixels_of,
    pose_but,
    projected,
    turned_by,
)
from facerecon_lib.face.camera import MODEL_TO_CAMERA, axis_angle_to_matrix, pose


def _cross(v):
    eye = torch.eye(3).to(v).expand(*v.shape, 3)
    return torch.linalg.cross(v[..., None, :].expand_as(eye), eye).mT


def _rodrigues(v, angle, axis, *, sine=torch.sin, cosine=torch.cos, eye=1.0):
    k, t = _cross(axis), angle[..., None]
    return eye * torch.eye(3).to(v) + sine(t) * k + (1 - cosine(t)) * (k @ k)


def _of_angle(v, angle):
    return _rodrigues(v, angle, v / angle)


def _length(v, squared=0.0):
    return (v.square().sum(-1, keepdim=True) + squared).sqrt()


def _eps(v):
    return _length(v, 1e-20), v / _length(v, 1e-20)


def _where(still, turned):
    return torch.where(still[..., None], torch.eye(3).to(turned), turned)


def _by_quaternion(v):
    half = v / 2
    squared = half.square().sum(-1, keepdim=True)
    angle = torch.where(squared < 1e-8, 1.0, squared).sqrt()
    sinc = torch.where(squared < 1e-8, 1 - squared / 6, angle.sin() / angle)
    w = torch.where(squared < 1e-8, 1 - squared / 2, angle.cos())[..., 0]
    x, y, z = (sinc * half).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _by_loop(v):
    each = []
    for one in v:
        angle = (one @ one + 1e-20) ** 0.5
        x, y, z = one / angle
        zero = one.sum() * 0
        k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
        each.append(torch.eye(3, dtype=v.dtype) + angle.sin() * k + (1 - angle.cos()) * k @ k)
    return torch.stack(each)


def _where_small(v, angle, small):
    return torch.where(_length(v)[..., None] < angle, small, axis_angle_to_matrix(v))


def _posed_by(matrix, v, s, t):
    return s[:, None] * (v @ (MODEL_TO_CAMERA @ matrix).mT) + t[:, None]


def _at_least(v, depth):
    return torch.cat([v[..., :2], v[..., 2:].clamp(min=depth)], -1)


def _singular(pose, points, pixels):
    return torch.linalg.svdvals(least_squares(pose, points, pixels)[:, :2])


def _gram_schmidt(rows):
    first = F.normalize(rows[:, 0], dim=-1)
    second = rows[:, 1] - (rows[:, 1] * first).sum(-1, keepdim=True) * first
    second = F.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], 1)


def _pixels_in_place(v, fov, size):
    v[..., :2] *= -min(size) / 2 / math.tan(math.radians(fov) / 2)
    v[..., :2] /= v[..., 2:].clone()
    return v[..., :2] + v.new_tensor([size[1] / 2, size[0] / 2])


def _turned_in_place(v, r, s, t):
    r *= r.new_tensor([-1.0, 1.0, -1.0])  # M R = (M R M) M
    v *= v.new_tensor([-1.0, 1.0, -1.0])
    return s[..., None] * (v @ axis_angle_to_matrix(r).mT) + t[:, None]


def _scaled_in_place(v, r, s, t):
    turned = torch.einsum("ij,bjk,bvk->bvi", MODEL_TO_CAMERA, axis_angle_to_matrix(r), v)
    turned *= s[..., None]
    turned += t[..., None, :]
    return turned


def _to_camera_by_loop(v, r, s, t):
    faces = []
    for one, matrix, scale, shift in zip(v, axis_angle_to_matrix(r), s, t, strict=True):
        columns = MODEL_TO_CAMERA @ (matrix @ one.T)
        faces.append((scale * columns).T + shift)
    return torch.stack(faces)


def _by_intrinsics(v, fov, size):
    """A camera matrix K, as the books have it: homogeneous coordinates, then the division."""
    height, width = size
    f = min(size) / 2 / math.tan(math.radians(fov / 2))
    k = v.new_tensor([[-f, 0, width / 2], [0, -f, height / 2], [0, 0, 1]])
    homogeneous = v @ k.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def _by_columns(v, fov, size):
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    edge = z * np.tan(np.deg2rad(fov) / 2)
    half = min(size) / 2
    return torch.stack([size[1] / 2 - x / edge * half, size[0] / 2 - y / edge * half], dim=-1)


def _not_centred(points, pixels):
    rows = pixels.new_tensor([1.0, -1.0])
    affine = torch.linalg.lstsq(points.expand(len(pixels), -1, -1), pixels * rows).solution.mT
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    turned, per_mm = u @ vh, s.mean(1)
    third = torch.linalg.cross(turned[:, 0], turned[:, 1])[:, None]
    shift = (pixels * rows).mean(1) - per_mm[:, None] * (turned @ points.mean(0))
    return torch.cat([turned, third], 1), per_mm, shift * rows


def _normal_equations(points, pixels):
    ones = torch.cat([points, torch.ones(len(points), 1)], 1)
    flip = torch.tensor([1.0, -1.0])
    seen = pixels * flip
    affine = torch.linalg.solve(ones.T @ ones, ones.T @ seen)[:, :3].mT  # its last row: the shift
    # the nearest pair of unit, square rows by the polar decomposition
    values, vectors = torch.linalg.eigh(affine @ affine.mT)
    rows = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT @ affine
    per_mm = values.sqrt().mean(1)
    third = torch.linalg.cross(rows[:, :1], rows[:, 1:])
    shift = seen.mean(1) - per_mm[:, None] * (rows @ points.mean(0))
    return torch.cat([rows, third], 1), per_mm, shift * flip


def _pose_by_loop(points, pixels):
    faces, centred = [], points.numpy() - points.numpy().mean(0)
    for seen in pixels.numpy():
        target = (seen - seen.mean(0)) * [1, -1]
        affine = (np.linalg.pinv(centred.astype(np.float64)) @ target).T
        u, s, vh = np.linalg.svd(affine)
        rows = u @ vh[:2]
        rotation = np.vstack([rows, np.cross(*rows)])
        k = (s[0] + s[1]) / 2
        moved = k * (rows @ points.numpy().mean(0)) * [1, -1]
        faces.append((rotation, np.array(k), seen.mean(0) - moved))
    return tuple(torch.tensor(np.stack(part), dtype=torch.float32) for part in zip(*faces))  # noqa: B905


MUTANTS = {
    "rotation_matrix": {
        "the identity forgotten": lambda v: _rodrigues(v, *_eps(v), eye=0.0),
        "cos for 1 - cos": lambda v: _rodrigues(v, *_eps(v), cosine=lambda t: 1 - torch.cos(t)),
        "sin and cos swapped": lambda v: _rodrigues(v, *_eps(v), sine=torch.cos, cosine=torch.sin),
        "-K K for K K": lambda v: _rodrigues(v, *_eps(v), cosine=lambda t: 2 - torch.cos(t)),
        "nan at zero": lambda v: _of_angle(v, _length(v)),
        "gradient nan at zero": lambda v: _where(  # the dropped branch is 0 / 0
            _length(v) < 1e-8, _of_angle(v, _length(v))
        ),
        "no gradient at zero": lambda v: _where(_length(v) <= 1e-7, _rodrigues(v, *_eps(v))),
        "a constant added to the angle": lambda v: _of_angle(v, v.norm(dim=-1)[:, None] + 1e-2),
        "F.normalize, and no gradient at zero": lambda v: _rodrigues(
            v, v.norm(dim=-1, keepdim=True), F.normalize(v, dim=-1)
        ),
        "the angle of the whole batch": lambda v: _rodrigues(
            v, v.norm().expand(len(v), 1), v / (v.norm() + 1e-12)
        ),
        "three turns, one after the other": lambda v: (
            axis_angle_to_matrix(v * v.new_tensor([0, 0, 1]))
            @ axis_angle_to_matrix(v * v.new_tensor([0, 1, 0]))
            @ axis_angle_to_matrix(v * v.new_tensor([1, 0, 0]))
        ),
        "only the first order": lambda v: torch.eye(3).to(v) + _cross(v),
        "the first of the batch for all": lambda v: axis_angle_to_matrix(v[:1].expand_as(v)),
        "the angle wrapped to [0, pi]": lambda v: axis_angle_to_matrix(
            v / _eps(v)[0] * _eps(v)[0].clamp(max=math.pi)
        ),
        "float32 always": lambda v: axis_angle_to_matrix(v.float()),
        "the first order below 0.05": lambda v: _where_small(
            v, 0.05, torch.eye(3).to(v) + _cross(v)
        ),
        "no turn below 0.01": lambda v: _where_small(v, 0.01, torch.eye(3).to(v) + 0 * _cross(v)),
        "the axis not of length 1 below 0.1": lambda v: _rodrigues(
            v, _eps(v)[0], F.normalize(v, dim=-1, eps=0.1)
        ),
        "the angle's gradient cut": lambda v: _rodrigues(v, _eps(v)[0].detach(), _eps(v)[1]),
        "the axis' gradient cut": lambda v: _rodrigues(v, _eps(v)[0], _eps(v)[1].detach()),
        "no gradient above half a turn": lambda v: axis_angle_to_matrix(
            torch.where(_eps(v)[0] > 3.1, v.detach(), v)
        ),
        "no gradient at small angles": lambda v: axis_angle_to_matrix(
            torch.where((_eps(v)[0] < 0.05) & (_eps(v)[0] > 1e-3), v.detach(), v)
        ),
        "a full turn taken off once": lambda v: axis_angle_to_matrix(
            v - _eps(v)[1] * (_eps(v)[0] > 6.2) * 6.2
        ),
        "batch and columns swapped for three vectors": lambda v: (
            axis_angle_to_matrix(v).transpose(0, 2) if len(v) == 3 else axis_angle_to_matrix(v)
        ),
        "components by a root, nan at 0": with_(axis_angle_to_matrix, a0=rooted),
        "axes of length 1 lost": squeezed(axis_angle_to_matrix),
        "a view of the vectors": viewed(axis_angle_to_matrix),
        "kept by size": cached(axis_angle_to_matrix),
        "half precision": halved(axis_angle_to_matrix),
    },
    "to_camera": {
        "rows times M R as it is": turned_by(lambda r: (MODEL_TO_CAMERA @ r).mT),
        "no translation": lambda v, r, s, t: pose(v, r, s, 0 * t),
        "the first face's rotation for all": lambda v, r, s, t: pose(v, r[:1].expand_as(r), s, t),
        "the first face's scale for all": lambda v, r, s, t: pose(v, r, s[:1].expand_as(s), t),
        "turned about the points' middle": lambda v, r, s, t: (
            pose(v - v.mean(1, keepdim=True), r, s, t) + v.mean(1, keepdim=True) @ MODEL_TO_CAMERA
        ),
        "the batch averaged": lambda v, r, s, t: pose(v, r, s, t).mean(0, keepdim=True),
        "vertices last": lambda v, r, s, t: pose(v, r, s, t).mT,
        "the rotation detached": lambda v, r, s, t: pose(v, r.detach(), s, t),
        "scale kept from 0.5 to 2": with_(pose, a2=lambda s: s.clamp(0.5, 2)),
        "scale left out for a single head": with_(pose, a2=lambda s: s if len(s) > 1 else s / s),
        "one scale for the batch": with_(pose, a2=lambda s: s.mean().expand_as(s)),
        "translation kept within 1,000 mm": with_(pose, a3=lambda t: t.clamp(-1000, 1000)),
        "never nearer than 100 mm": lambda v, r, s, t: _at_least(pose(v, r, s, t), 100.0),
        "never behind the camera": lambda v, r, s, t: _at_least(pose(v, r, s, t), 0.0),
        "small turns left out": with_(pose, a1=lambda r: r * (r.norm(dim=-1, keepdim=True) > 0.1)),
        "gradient nan where unturned": lambda v, r, s, t: _posed_by(
            _where(_length(r) < 1e-8, _of_angle(r, _length(r))), v, s, t
        ),
        "no gradient where unturned": lambda v, r, s, t: _posed_by(
            _where(_length(r) < 1e-7, _rodrigues(r, *_eps(r))), v, s, t
        ),
        "translation by a root, nan at 0": with_(pose, a3=rooted),
        "translation by a logarithm, nan at 0": with_(pose, a3=logged),
        "the first 1,000 vertices posed": lambda v, r, s, t: torch.cat(
            [pose(v, r, s, t)[:, :1000], v[:, 1000:]], 1
        ),
        "vertices and batch swapped where they are as many": lambda v, r, s, t: (
            pose(v, r, s, t).transpose(0, 1) if len(v) == v.shape[1] else pose(v, r, s, t)
        ),
        "axes of length 1 lost": squeezed(pose),
        "views of the arguments": viewed(pose),
        "kept by size": cached(pose),
        "half precision": halved(pose),
    },
    "project_to_pixels": {
        "the height, always": projected(side=lambda h, w: h),
        "the width, always": projected(side=lambda h, w: w),
        "no middle": projected(centre=lambda n: [0.0, 0.0]),
        "no division by depth": projected(depth=lambda v: 1.0),
        "the tangent upside down": projected(angle=lambda f: math.pi / 2 - math.radians(f) / 2),
        "always 30 degrees": lambda v, f, n: pixels_of(v, 30.0, n),
        "always 224 pixels": lambda v, f, n: pixels_of(v, f, (224, 224)),
        "half of an odd size cut down": projected(centre=lambda n: [n[1] // 2, n[0] // 2]),
        "the field of view halved outside the tangent": projected(
            angle=lambda f: math.atan(math.tan(math.radians(f)) / 2)
        ),
        "the depth's gradient cut": projected(depth=lambda v: v[..., 2:].detach()),
        "depth returned too": lambda v, f, n: torch.cat([pixels_of(v, f, n), v[..., 2:]], -1),
        "rounded to whole pixels": lambda v, f, n: pixels_of(v, f, n).round(),
        "kept in the picture": lambda v, f, n: torch.stack(
            [pixels_of(v, f, n)[..., i].clamp(0, n[1 - i]) for i in (0, 1)], -1
        ),
        "kept in the picture's width": lambda v, f, n: pixels_of(v, f, n).clamp(max=3 * max(n)),
        "depth of at least 10 mm": projected(depth=lambda v: v[..., 2:].clamp(min=10)),
        "depth of at least 100 mm": projected(depth=lambda v: v[..., 2:].clamp(min=100)),
        "depth of at most 1,000 mm": projected(depth=lambda v: v[..., 2:].clamp(max=1000)),
        "a hundredth of a millimetre added to the depth": projected(
            depth=lambda v: v[..., 2:] + 1e-2
        ),
        "fields of view up to 90 degrees": with_(pixels_of, a1=lambda f: min(f, 90.0)),
        "fields of view from 12 degrees": with_(pixels_of, a1=lambda f: max(f, 12.0)),
        "half of the shorter side in whole pixels": projected(side=lambda h, w: min(h, w) // 2 * 2),
        "x and y by a root, nan on the axis": with_(pixels_of, a0=rooted),
        "x and y by a logarithm, nan on the axis": with_(
            pixels_of, a0=lambda v: torch.cat([logged(v[..., :2]), v[..., 2:]], -1)
        ),
        "no gradient on the axis": with_(
            pixels_of, a0=lambda v: torch.where(v == 0, v.detach(), v)
        ),
        "the first 1,000 vertices": lambda v, f, n: torch.cat(
            [pixels_of(v[:, :1000], f, n), v[:, 1000:, :2]], 1
        ),
        "axes of length 1 lost": squeezed(pixels_of),
        "a view of the points": viewed(pixels_of),
        "kept by size": cached(pixels_of),
        "half precision": halved(pixels_of),
    },
    "pose_from_landmarks": {
        "points and pixels not centred": _not_centred,
        "the larger singular value": pose_but(
            per_mm=lambda pose, p, x: (
                pose[1] * torch.linalg.matrix_norm(least_squares(pose, p, x)[:, :2], 2)
            ),
            shift_follows=True,
        ),
        "the third row zero": pose_but(
            rotation=lambda pose, p, x: pose[0] * torch.tensor([[1.0], [1.0], [0.0]])
        ),
        "two rows": pose_but(rotation=lambda pose, p, x: pose[0][:, :2]),
        "the points' mean not turned": pose_but(
            shift=lambda pose, p, x: x.mean(1) - pose[1][:, None] * p.mean(0)[:2]
        ),
        "the shift not scaled": pose_but(
            shift=lambda pose, p, x: (
                x.mean(1) - (pose[0][:, :2] @ p.mean(0)) * torch.tensor([1.0, -1.0])
            )
        ),
        "M in the rotation": pose_but(rotation=lambda pose, p, x: MODEL_TO_CAMERA @ pose[0]),
        "one pose for the batch": lambda p, x: orthographic_pose(p, x.mean(0).expand_as(x)),
        "the shift forgotten": lambda p, x: orthographic_pose(p, x)[:2],
        "scale with an axis too many": pose_but(per_mm=lambda pose, p, x: pose[1][:, None]),
        "the root of the singular values' product": pose_but(
            per_mm=lambda pose, p, x: pose[1] * _singular(pose, p, x).prod(1).sqrt(),
            shift_follows=True,
        ),
        "the root of the singular values' mean square": pose_but(
            per_mm=lambda pose, p, x: pose[1] * _singular(pose, p, x).square().mean(1).sqrt(),
            shift_follows=True,
        ),
        "the second row squared with the first": pose_but(
            rotation=lambda pose, p, x: _gram_schmidt(least_squares(pose, p, x)), shift_follows=True
        ),
        "each row to length 1 by itself": pose_but(
            rotation=lambda pose, p, x: F.normalize(least_squares(pose, p, x), dim=-1),
            shift_follows=True,
        ),
        "heads that look at us alone": pose_but(
            rotation=lambda pose, p, x: pose[0] * pose[0][:, 2:, 2:].sign()
        ),
        "scales from 0.5": pose_but(per_mm=lambda pose, p, x: pose[1].clamp(min=0.5)),
        "scales up to 1.5": pose_but(per_mm=lambda pose, p, x: pose[1].clamp(max=1.5)),
        "a shift within the picture": pose_but(shift=lambda pose, p, x: pose[2].clamp(0, 224)),
        "the first 51 points": lambda p, x: orthographic_pose(p[:51], x[:, :51]),
        "the first four faces": lambda p, x: tuple(
            torch.cat([part[:4], 0 * part[4:]]) for part in orthographic_pose(p, x)
        ),
        "axes of length 1 lost": squeezed(orthographic_pose),
        "views of the arguments": viewed(orthographic_pose),
        "kept by size": cached(orthographic_pose),
        "half precision": halved(orthographic_pose),
    },
}

ALTERNATIVES = {
    "rotation_matrix": {
        "the norm, clamped": lambda v: _of_angle(v, v.norm(dim=-1, keepdim=True).clamp(min=1e-8)),
        "the matrix exponential": lambda v: torch.linalg.matrix_exp(_cross(v)),
        "by the quaternion": _by_quaternion,
        "a small number under the root": lambda v: _rodrigues(v, *_eps(v)),
        "one vector after the other": _by_loop,
    },
    "to_camera": {
        "einsum, in place": _scaled_in_place,
        "one face after the other, columns": _to_camera_by_loop,
        "as written": turned_by(lambda r: MODEL_TO_CAMERA @ r),
        "the arguments turned in place": _turned_in_place,
    },
    "project_to_pixels": {
        "a camera matrix": _by_intrinsics,
        "column by column": _by_columns,
        "as written": projected(),
        "by NDC": pixels_of,
        "the argument projected in place": _pixels_in_place,
    },
    "pose_from_landmarks": {
        "normal equations and the polar decomposition": _normal_equations,
        "numpy, one face after the other": _pose_by_loop,
        "as written": orthographic_pose,
    },
}
