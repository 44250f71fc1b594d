"""Notebook 02: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from spoiled_answers import cached, halved, logged, rooted, single, squeezed, viewed, with_

from facerecon_lib.course.nb02_camera.checks import (
    depth_test,
    least_squares,
    orthographic_pose,
    perspective_pose,
    pixels_of,
    pose_but,
    projected,
    refined,
    seen_at,
    similarity,
    similarity_but,
    some_steps,
    turned_by,
)
from facerecon_lib.face.camera import (
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose,
)
from facerecon_lib.rendering.visibility import visible_points


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


def _not_centred_similarity(landmarks, template):
    """The four numbers a, b and the shift as one system of equations, in the points' dtype."""
    (x, y), one, zero = landmarks.T, landmarks.new_ones(len(landmarks)), landmarks[:, 0] * 0
    rows = torch.cat([torch.stack([x, -y, one, zero], 1), torch.stack([y, x, zero, one], 1)])
    a, b, right, down = torch.linalg.lstsq(rows, template.T.flatten()[:, None]).solution[:, 0]
    return torch.stack([torch.stack([a, -b, right]), torch.stack([b, a, down])])


def _similarity_by_lstsq(landmarks, template):
    middle, place = landmarks.mean(0), template.mean(0)
    linear = _not_centred_similarity(landmarks - middle, template - place)[:, :2]
    return torch.cat([linear, (place - linear @ middle)[:, None]], 1)


def _similarity_by_svd(landmarks, template):
    """Umeyama's: the smaller direction is turned back where the best map would be a mirror."""
    middle, place = landmarks.mean(0), template.mean(0)
    u, spectrum, vh = torch.linalg.svd((template - place).mT @ (landmarks - middle))
    signs = torch.stack([torch.ones_like(u[0, 0]), torch.sign(torch.det(u @ vh))])
    size = (signs * spectrum).sum() / (landmarks - middle).square().sum()
    linear = size * u @ signs.diag() @ vh
    return torch.cat([linear, (place - linear @ middle)[:, None]], 1)


def _similarity_by_angle(landmarks, template):
    p, q = landmarks - landmarks.mean(0), template - template.mean(0)
    along, across = (p * q).sum(), (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()
    angle, size = torch.atan2(across, along), along.hypot(across) / p.square().sum()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    return torch.cat(
        [size * turn, (template.mean(0) - size * turn @ landmarks.mean(0))[:, None]], 1
    )


def _similarity_by_atan(landmarks, template):
    right = similarity(landmarks, template)
    return right * right[0, 0].sign()


def _of_size(matrix, least=0.0, most=math.inf):
    return matrix * (matrix.det().sqrt().clamp(least, most) / matrix.det().sqrt())


def _upright(matrix, most):
    """Turned by `most` degrees at most."""
    angle = torch.atan2(matrix[1, 0], matrix[0, 0]).clamp(-math.radians(most), math.radians(most))
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    return matrix.det().sqrt() * rows


def _analytic(p, x, fov, size, r, t):
    """Levenberg-Marquardt with the derivative by hand; turns are multiplied, not added."""
    p, x, turn, place = p.double(), x.double(), axis_angle_to_matrix(r.double()), t.double()
    m, eye, damping = MODEL_TO_CAMERA.double(), torch.eye(3).double(), 1
    focal = min(size) / 2 / math.tan(math.radians(fov / 2))
    middle = x.new_tensor([size[1] / 2, size[0] / 2])
    for _ in range(100):
        head = p @ (m @ turn).mT
        sides, depth = (head + place)[:, :2], (head + place)[:, 2:]
        miss = (middle - focal * sides / depth - x).flatten()
        moved = torch.cat([-_cross(head) @ m, eye.expand(len(p), 3, 3)], 2)
        ratio = sides / depth
        along = torch.cat([eye[:2].expand(len(p), 2, 3)[..., :2], -ratio[..., None]], 2)
        jacobian = (-focal / depth[..., None] * along @ moved).flatten(0, 1)
        square = jacobian.mT @ jacobian
        step = torch.linalg.solve(
            square + damping * square.diag().diag(), -(jacobian.mT @ miss)[:, None]
        )[:, 0]
        new = axis_angle_to_matrix(step[:3]) @ turn, place + step[3:]
        seen = p @ (m @ new[0]).mT + new[1]
        better = (middle - focal * seen[:, :2] / seen[:, 2:] - x).norm() < miss.norm()
        turn, place = new if better else (turn, place)
        damping = max(damping / 10, 1e-9) if better else damping * 10
    return matrix_to_axis_angle(turn).float(), place.float()


def _damped(p, x, fov, size, r, t):
    """Levenberg-Marquardt in float32, with torch's own Jacobian."""

    def miss(pose):
        return (seen_at(p, pose[:3], pose[3:], fov, size) - x).flatten()

    pose, damping = torch.cat([r, t]), 1e-3
    for _ in range(40):
        jacobian = torch.autograd.functional.jacobian(miss, pose, vectorize=True)
        square = jacobian.mT @ jacobian
        step = torch.linalg.solve(square + damping * square.diag().diag(), jacobian.mT @ miss(pose))
        better = miss(pose - step).norm() < miss(pose).norm()
        pose, damping = (pose - step, damping / 10) if better else (pose, damping * 10)
    return pose[:3], pose[3:]


def _halved_steps(p, x, fov, size, r, t):
    """Gauss-Newton; a step is halved until the head stays before the camera and comes nearer."""

    def miss(pose):
        return (seen_at(p, pose[:3], pose[3:], fov, size) - x).flatten()

    pose = torch.cat([r, t]).double()
    p, x = p.double(), x.double()
    for _ in range(60):
        jacobian = torch.autograd.functional.jacobian(miss, pose, vectorize=True)
        step = torch.linalg.lstsq(jacobian, miss(pose)[:, None]).solution[:, 0]
        for _ in range(20):
            if miss(pose - step).norm() <= miss(pose).norm() and (pose - step)[5] > 100:
                break
            step = step / 2
        else:
            break
        pose = pose - step
    return pose[:3].float(), pose[3:].float()


def _seen_by_loop(points, depth, fov, tolerance):
    """One point after the other, in numbers."""
    answers = []
    for face, surface in zip(points.tolist(), depth.numpy(), strict=True):
        height, width = surface.shape
        focal = min(height, width) / 2 / math.tan(math.radians(fov / 2))
        row = []
        for x, y, z in face:
            u, v = width / 2 - focal * x / z, height / 2 - focal * y / z
            inside = 0 <= u < width and 0 <= v < height
            row.append(inside and not z - surface[int(v), int(u)] > tolerance)
        answers.append(row)
    return torch.tensor(answers)


def _seen_by_grid(points, depth, fov, tolerance):
    """torch's own reading of maps; beside them it reads 0, before every point."""
    height, width = depth.shape[1:]
    grid = pixels_of(points, fov, (height, width)) * 2 / points.new_tensor([width, height]) - 1
    options = dict(mode="nearest", padding_mode="zeros", align_corners=False)
    surface = F.grid_sample(depth[:, None], grid[:, None], **options)[:, 0, 0]
    return surface + tolerance >= points[..., 2]


def _seen_in_a_frame(points, depth, fov, tolerance):
    """A frame of depth 0 around the map hides what is beside it."""
    height, width = depth.shape[1:]
    at = pixels_of(points, fov, (height, width)).floor().long() + 1
    at = torch.minimum(at.clamp(min=0), torch.tensor([width + 1, height + 1]))
    framed = F.pad(depth, (1, 1, 1, 1))
    each = [m[p[:, 1], p[:, 0]] for m, p in zip(framed, at, strict=True)]
    return torch.le(points[..., 2] - torch.stack(each), tolerance)


def _descent(p, x, fov, size, r, t):
    """Adam, which is far from done after 100 steps."""
    pose = torch.cat([r, t / 100]).requires_grad_()
    optimizer = torch.optim.Adam([pose], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (seen_at(p, pose[:3], 100 * pose[3:], fov, size) - x).square().mean().backward()
        optimizer.step()
    return pose.detach()[:3], 100 * pose.detach()[3:]


def _refined_then(change):
    def spoiled(p, x, fov, size, r, t):
        return change(*perspective_pose(p, x, fov, size, r, t), (r, t))

    return spoiled


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {
    *("crop_similarity", "pose_from_landmarks", "pose_under_perspective", "visible_points")
}

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
    "crop_similarity": {
        "a mirror, always": similarity_but(lambda m, *_: m * torch.tensor([1.0, -1.0]).to(m)),
        "rows swapped: v before u": lambda x, y: similarity(x, y).flip(0),
        "without the shift": lambda x, y: similarity(x, y)[:, :2],
        "three rows": lambda x, y: torch.cat([similarity(x, y), torch.eye(3).to(x)[2:]]),
        "a pair of scale and shift, no matrix": lambda x, y: tuple(similarity(x, y).split(2, 1)),
        "from the first two points": lambda x, y: similarity(x[:2], y[:2]),
        "from the first and the last": lambda x, y: similarity(x[[0, -1]], y[[0, -1]]),
        "a square box around each": similarity_but(
            lambda m, p, q: torch.eye(2).to(m) * torch.aminmax(q, dim=0)[1].max() / p.max()
        ),
        "turned by 90 degrees at most": similarity_but(lambda m, *_: _upright(m, 90)),
        "turned by 45 degrees at most": similarity_but(lambda m, *_: _upright(m, 45)),
        "the angle by atan, not atan2": _similarity_by_atan,
        "never smaller than half": similarity_but(lambda m, *_: _of_size(m, least=0.5)),
        "never larger than twice": similarity_but(lambda m, *_: _of_size(m, most=2.0)),
        "the mean of the whole tensor": lambda x, y: torch.cat(
            [similarity(x, y)[:, :2], (y.mean() - similarity(x, y)[:, :2] @ x.mean(0))[:, None]], 1
        ),
        "the shift in whole pixels": lambda x, y: torch.cat(
            [similarity(x, y)[:, :2], similarity(x, y)[:, 2:].round()], 1
        ),
        "one system of equations, not centred, in float32": _not_centred_similarity,
        "half a pixel off": lambda x, y: similarity(x + 0.5, y),
        "divided by a tiny number more": lambda x, y: similarity(x, y) * (1 - 1e-3),
        "the root of the squares' sum": similarity_but(
            lambda m, p, q: m / m.det().sqrt() * (m.det().sqrt() * q.norm() / p.norm()).sqrt()
        ),
        "float32, whatever the dtype": single(similarity),
        "always for 68 points": with_(similarity, a0=lambda x: x[-68:], a1=lambda y: y[-50:]),
        "views of the arguments": viewed(similarity),
        "kept by size": cached(similarity),
        "half precision": halved(similarity),
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
    "visible_points": {
        "all but the last column": depth_test(
            inside=lambda u, v, h, w: (u >= 0) & (u < w - 1) & (v >= 0) & (v < h)
        ),
        "all but the first row": depth_test(
            inside=lambda u, v, h, w: (u >= 0) & (u < w) & (v > 0) & (v < h)
        ),
        "beside the picture to the left and right alone": depth_test(
            inside=lambda u, v, h, w: (u >= 0) & (u < w)
        ),
        "beside the picture above and below alone": depth_test(
            inside=lambda u, v, h, w: (v >= 0) & (v < h)
        ),
        "within the width, up and down too": depth_test(
            inside=lambda u, v, h, w: (u >= 0) & (u < w) & (v >= 0) & (v < w)
        ),
        "the next pixel": depth_test(pixel=torch.ceil),
        "the map upside down": depth_test(place=lambda u, v, d: (u, d.shape[1] - 1 - v)),
        "the map mirrored": depth_test(place=lambda u, v, d: (d.shape[2] - 1 - u, v)),
        "within the tolerance, not at it": depth_test(hidden=lambda behind, t: behind >= t),
        "hidden if within the tolerance": depth_test(
            hidden=lambda behind, t: (behind > 0) & (behind < t)
        ),
        "before it by the tolerance": depth_test(hidden=lambda behind, t: behind > -t),
        "hidden where there is no surface": depth_test(
            hidden=lambda behind, t: (behind > t) | behind.isinf()
        ),
        "always 5 mm": with_(visible_points, a3=lambda t: 5.0),
        "always 30 degrees": with_(visible_points, a2=lambda fov: 30.0),
        "the mean depth": with_(
            visible_points, a1=lambda d: d.mean((1, 2), keepdim=True).expand_as(d)
        ),
        "the nearest surface": with_(
            visible_points, a1=lambda d: d.amin((1, 2), keepdim=True).expand_as(d)
        ),
        "the deepest of four texels": with_(
            visible_points, a1=lambda d: F.max_pool2d(F.pad(d, (0, 1, 0, 1)), 2, 1)
        ),
        "all of them": lambda p, d, fov, t: torch.ones_like(p[..., 0], dtype=torch.bool),
        "zeros and ones": lambda *arguments: visible_points(*arguments).float(),
        "the depth of the first pixels": lambda p, d, fov, t: (
            p[..., 2] - d.flatten(1)[:, : p.shape[1]].mean(1, keepdim=True) <= t
        ),
        "the first 68 points": lambda p, d, fov, t: F.pad(
            visible_points(p[:, :68], d, fov, t), (0, max(p.shape[1] - 68, 0))
        ),
        "axes of length 1 lost": squeezed(visible_points),
        "views of the arguments": viewed(visible_points),
        "kept by size": cached(visible_points),
        "half precision": halved(visible_points),
    },
    "pose_under_perspective": {
        "two steps of Gauss-Newton": some_steps(2),
        "Gauss-Newton, no brake": some_steps(10),
        "Gauss-Newton, steps of at most half a metre": some_steps(
            16, lambda old, new: old + (new - old).clamp(-500, 500)
        ),
        "half steps of Gauss-Newton": some_steps(6, lambda old, new: (old + new) / 2),
        "Adam, 100 steps": _descent,
        "distances, not their squares": refined(
            lambda seen, pixels, depth: (seen - pixels).norm(dim=1, keepdim=True).sqrt()
        ),
        "squares, squared again": refined(lambda seen, pixels, depth: (seen - pixels).square()),
        "columns alone": refined(lambda seen, pixels, depth: (seen - pixels)[:, :1]),
        "the mean pixel alone": refined(
            lambda seen, pixels, depth: torch.cat([(seen - pixels).mean(0), seen.new_zeros(4)])
        ),
        "outliers left out": refined(
            lambda seen, pixels, depth: (seen - pixels) / (1 + (seen - pixels).square() / 9)
        ),
        "always 30 degrees": with_(perspective_pose, a2=lambda fov: 30.0),
        "always 224 by 224": with_(perspective_pose, a3=lambda size: (224, 224)),
        "width and height swapped": with_(perspective_pose, a3=lambda size: size[::-1]),
        "the matrix, not the vector": _refined_then(lambda r, t, _: (axis_angle_to_matrix(r), t)),
        "a batch of one": _refined_then(lambda r, t, _: (r[None], t[None])),
        "one vector of six": _refined_then(lambda r, t, _: torch.cat([r, t])),
        "translation first": _refined_then(lambda r, t, _: (t, r)),
        "behind the camera": _refined_then(lambda r, t, _: (r, -t)),
        "degrees": _refined_then(lambda r, t, _: (torch.rad2deg(r), t)),
        "what has to be added to the start": _refined_then(
            lambda r, t, start: (r - start[0], t - start[1])
        ),
        "a head of another size": _refined_then(lambda r, t, _: (r, 1.05 * t)),
        "within a metre": _refined_then(lambda r, t, _: (r, t.clamp(-1000, 1000))),
        "always from straight ahead at 400 mm": lambda p, x, fov, size, r, t: some_steps(8)(
            p, x, fov, size, 0 * r, 0 * t + t.new_tensor([0.0, 0.0, 400.0])
        ),
        "the first 51 points": lambda p, x, *more: perspective_pose(p[:51], x[:51], *more),
        "views of the arguments": viewed(perspective_pose, 0, 1),
        "kept by size": cached(perspective_pose),
        "half precision": halved(perspective_pose),
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
    "crop_similarity": {
        "one system of equations, centred": _similarity_by_lstsq,
        "Umeyama's, with the SVD": _similarity_by_svd,
        "the angle, then the size": _similarity_by_angle,
        "complex numbers": similarity,
    },
    "pose_from_landmarks": {
        "normal equations and the polar decomposition": _normal_equations,
        "numpy, one face after the other": _pose_by_loop,
        "as written": orthographic_pose,
    },
    "visible_points": {
        "one after the other": _seen_by_loop,
        "grid_sample": _seen_by_grid,
        "a frame around the map": _seen_in_a_frame,
        "as written": depth_test(),
    },
    "pose_under_perspective": {
        "MINPACK": perspective_pose,
        "the derivative by hand, in float64": _analytic,
        "damped, in float32": _damped,
        "steps halved until they help": _halved_steps,
    },
}
