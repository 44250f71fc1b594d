"""Plausible mistakes in the exercises of notebook 07, and right answers written differently."""

from itertools import product

import torch
import torch.nn.functional as F

from facerecon_lib.augmented.map_sampling import sample_bilinear, sample_hyperbolic
from facerecon_lib.course.nb07_offset_maps.checks import added, at, filled, grid
from facerecon_lib.face.camera import axis_angle_to_matrix, pose
from facerecon_lib.face.lighting import shade
from facerecon_lib.face.mesh import vertex_normals


def bilinear_by_loops(maps, points):
    def read(m, x, y):
        x, y = (x - 0.5).clamp(0, m.shape[2] - 1), (y - 0.5).clamp(0, m.shape[1] - 1)
        i, j = int(x), int(y)
        right, below = min(i + 1, m.shape[2] - 1), min(j + 1, m.shape[1] - 1)
        top = m[:, j, i].lerp(m[:, j, right], x - i)
        return top.lerp(m[:, below, i].lerp(m[:, below, right], x - i), y - j)

    faces = zip(maps, points, strict=True)
    return torch.stack([torch.stack([read(m, *place) for place in places]) for m, places in faces])


def tents(maps, points):
    """How much each texel counts: max(0, 1 - distance) on either axis."""
    height, width = maps.shape[2:]
    limit = points.new_tensor([width - 1, height - 1])
    p = torch.minimum((points - 0.5).clamp(min=0), limit)
    x = (1 - (p[..., :1] - torch.arange(width, dtype=p.dtype)).abs()).clamp(min=0)
    y = (1 - (p[..., 1:] - torch.arange(height, dtype=p.dtype)).abs()).clamp(min=0)
    return torch.einsum("bvy,bvx->bvyx", y, x)


def fill_where(offsets, seen, mirror):
    twin = offsets[:, mirror] * torch.tensor([1.0, 1, 1, -1, 1, 1])
    there, theirs = seen[..., None] > 0, seen[:, mirror][..., None] > 0
    return torch.where(there, offsets, torch.where(theirs, twin, torch.zeros_like(twin)))


def fill_in_place(offsets, seen, mirror):
    seen = seen.bool()
    twin = offsets[:, mirror].clone()
    twin[..., 3] *= -1
    result = offsets.clone()
    result[~seen] = twin[~seen]
    result[~seen & ~seen[:, mirror]] = 0
    return result


def fill_by_loops(offsets, seen, mirror):
    result = torch.zeros_like(offsets)
    for b, (v, m) in product(range(len(offsets)), enumerate(mirror.tolist())):
        if seen[b, v]:
            result[b, v] = offsets[b, v]
        elif seen[b, m]:
            colour, (x, y, z) = offsets[b, m, :3], offsets[b, m, 3:]
            result[b, v] = torch.cat([colour, torch.stack([-x, y, z])])
    return result


def with_normals(normals):
    """normals: of the posed face and its coefficients."""
    return added(
        finish=lambda posed, face, c, *_: (
            posed.v_camera,
            shade(posed.albedo, normals(posed, c), c.lighting),
        )
    )


def added_turned_back(face, coefficients, texture, displacement):
    """Normals of the posed vertices, back into the viewer's axes by diag(-1, 1, -1)."""
    c = coefficients
    v_camera = pose(face.vertices + displacement, c.rotation, c.scale, c.translation)
    n = vertex_normals(v_camera, face.model.faces) * torch.tensor([-1.0, 1.0, -1.0])
    return v_camera, shade(face.albedo + texture, n, c.lighting)


def added_by_hand(face, coefficients, texture, displacement):
    c = coefficients
    turn = axis_angle_to_matrix(c.rotation)
    face.vertices += displacement
    face.albedo += texture
    n = torch.einsum("bij,bvj->bvi", turn, vertex_normals(face.vertices, face.model.faces))
    seen = torch.einsum("bij,bvj->bvi", turn, face.vertices) * torch.tensor([-1.0, 1.0, -1.0])
    return c.scale[:, None] * seen + c.translation[:, None], shade(face.albedo, n, c.lighting)


def hyperbolic_by_weights(maps, points, depth):
    weights = tents(maps, points) / depth
    return torch.einsum("bvyx,bcyx->bvc", weights, maps) / weights.sum((2, 3))[..., None]


def hyperbolic_together(maps, points, depth):
    inverse = 1 / depth
    both = sample_bilinear(torch.cat([maps * inverse, inverse], 1), points)
    return both[..., :-1] / both[..., -1:]


def hyperbolic_in_other_units(maps, points, depth):
    inverse = depth.mean() / depth
    return sample_bilinear(maps * inverse, points) / sample_bilinear(inverse, points)


MUTANTS = {
    "read_bilinear": {
        "around the border to the other side": lambda maps, points: sample_bilinear(
            F.pad(maps, (1, 1, 1, 1), "circular"), points + 1
        ),
        "the first map for all faces": lambda maps, points: sample_bilinear(
            maps[:1].expand_as(maps), points
        ),
        "the width for the height": grid(lambda maps: (maps.shape[3],)),
        "points detached": at(torch.detach),
        "channels before vertices": lambda maps, points: sample_bilinear(maps, points).mT,
        "a plain mean of four": at(lambda points: (points - 0.5).floor() + 1),
    },
    "fill_hidden": {
        "y negated": filled((1.0, 1, 1, 1, -1, 1)),
        "hidden ones keep their own": filled(own=lambda seen, twin: 1),
        "seen of the first face for all": lambda offsets, seen, mirror: filled()(
            offsets, seen[:1].expand_as(seen), mirror
        ),
        "detached": lambda offsets, *rest: filled()(offsets.detach() + 0 * offsets, *rest),
    },
    "add_offsets": {
        "normals not turned": with_normals(
            lambda posed, c: vertex_normals(posed.vertices, posed.model.faces)
        ),
        "normals turned the other way": with_normals(
            lambda posed, c: (
                vertex_normals(posed.vertices, posed.model.faces) @ axis_angle_to_matrix(c.rotation)
            )
        ),
        "normals in the camera's axes": with_normals(
            lambda posed, c: vertex_normals(posed.v_camera, posed.model.faces)
        ),
        "the two in the other order": lambda *arguments: added()(*arguments)[::-1],
        "no gradient through the normals": with_normals(lambda posed, c: posed.normals.detach()),
    },
    "read_hyperbolic": {
        "depth kept from zero": lambda m, p, w: sample_hyperbolic(m, p, w.clamp(min=1e-3)),
        "a small number added below": lambda m, p, w: (
            sample_bilinear(m / w, p) / (sample_bilinear(1 / w, p) + 1e-2)
        ),
        "depth detached": lambda m, p, w: sample_hyperbolic(m, p, w.detach()),
        "denominator detached": lambda m, p, w: (
            sample_bilinear(m / w, p) / sample_bilinear(1 / w, p).detach()
        ),
    },
}

ALTERNATIVES = {
    "read_bilinear": {
        "grid_sample": grid(),
        "a tent per texel": lambda maps, points: torch.einsum(
            "bvyx,bcyx->bvc", tents(maps, points), maps
        ),
        "loops": bilinear_by_loops,
    },
    "fill_hidden": {"where": fill_where, "in place": fill_in_place, "loops": fill_by_loops},
    "add_offsets": {
        "normals after pose, turned back": added_turned_back,
        "by hand and in place": added_by_hand,
    },
    "read_hyperbolic": {
        "a weight per texel": hyperbolic_by_weights,
        "one reading of both": hyperbolic_together,
        "in another unit": hyperbolic_in_other_units,
    },
}
