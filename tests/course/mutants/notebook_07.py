"""Plausible mistakes in the exercises of notebook 07, and right answers written differently."""

from itertools import product

import torch
import torch.nn.functional as F
from spoiled_answers import one_of, rooted, single, squeezed, stale, viewed

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


def gathered(
    floor=torch.floor,
    bound=lambda i, size: i.clamp(0, size - 1),
    row=lambda height, width: width,
    weigh=lambda weight: weight,
):
    """Readings of the four texels around; each part can be exchanged for a mistake."""

    def read(maps, points):
        height, width = maps.shape[2:]
        low, total = floor(points - 0.5), 0
        s, t = (points - 0.5 - low).unbind(-1)
        for dx, dy in product((0, 1), repeat=2):
            i, j = bound(low[..., 0] + dx, width).long(), bound(low[..., 1] + dy, height).long()
            index = (j * row(height, width) + i)[:, None].expand(-1, maps.shape[1], -1)
            weight = (s if dx else 1 - s) * (t if dy else 1 - t)
            total = total + weigh(weight)[:, None] * maps.flatten(2).gather(2, index)
        return total.transpose(1, 2)

    return read


def between_two(maps, points):
    """Between texels low and low + 1, of which a row of one has none."""
    size = points.new_tensor(maps.shape[:1:-1])
    p = (points - 0.5).clamp(min=0).minimum(size - 1)
    low = p.floor().minimum(size - 2).clamp(min=0)
    return gathered(lambda _: low, bound=lambda i, size: i)(maps, p + 0.5)


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


def fill_by_quotient(offsets, seen, mirror):
    """A mean of those who see, so 0 / 0 where none does."""
    covered = seen + (1 - seen) * seen[:, mirror]
    return (filled()(offsets, seen, mirror) / covered[..., None]).nan_to_num()


def fill_float32(offsets, seen, mirror):
    own, signs = seen[..., None], torch.tensor([1.0, 1, 1, -1, 1, 1]).diag()
    return own * offsets + (1 - own) * own[:, mirror] * (offsets[:, mirror] @ signs)


def fill_without_middle(offsets, seen, mirror):
    """What lies on the middle line has no x."""
    middle = (mirror == torch.arange(len(mirror)))[:, None] & (torch.arange(6) == 3)
    return filled()(offsets, seen, mirror).masked_fill(middle, 0)


TURNS = {}


def added_with_old_turn(face, coefficients, *offsets):
    """The rotation is cached by the size of the batch."""
    rotation = coefficients.rotation.clone()
    coefficients.rotation = TURNS.setdefault(len(rotation), rotation).to(rotation)
    return added()(face, coefficients, *offsets)


def along(offset):
    """The offset by its direction and its length, which has no slope at 0."""
    return F.normalize(offset, dim=-1) * offset.norm(dim=-1, keepdim=True)


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
        "rounded towards zero": gathered(torch.trunc),
        "rounded up": gathered(torch.ceil),
        "rows as long as columns": gathered(row=lambda height, width: height),
        "around the border by modulo": gathered(bound=lambda i, size: i % size),
        "two texels at least": between_two,
        "a hundred texels at most": gathered(bound=lambda i, size: i.clamp(0, min(size, 100) - 1)),
        "places in eight bits": gathered(
            bound=lambda i, size: i.long().to(torch.int8).clamp(0, size - 1)
        ),
        "no slope at the centres": gathered(weigh=rooted),
        "far points are at 0": lambda maps, points: sample_bilinear(
            maps, points * (points.abs() < 1000)
        ),
        "the first face's points for all": lambda maps, points: sample_bilinear(
            maps, one_of(points)
        ),
        "maps detached": lambda maps, points: sample_bilinear(maps.detach(), points),
        "maps cached": stale(gathered(), 0),
        "points cached": stale(gathered(), 1),
        "maps by view": viewed(gathered(), 0),
        "points by view": viewed(gathered(), 1),
        "squeezed": squeezed(gathered()),
        "float32": single(gathered()),
    },
    "fill_hidden": {
        "y negated": filled((1.0, 1, 1, 1, -1, 1)),
        "hidden ones keep their own": filled(own=lambda seen, twin: 1),
        "seen of the first face for all": lambda offsets, seen, mirror: filled()(
            offsets, seen[:1].expand_as(seen), mirror
        ),
        "detached": lambda offsets, *rest: filled()(offsets.detach() + 0 * offsets, *rest),
        "no slope where nobody sees": fill_by_quotient,
        "the middle line does not move to a side": fill_without_middle,
        "signs in float32": fill_float32,
        "float32": single(filled()),
        "the first face's readings for all": lambda offsets, seen, mirror: filled()(
            one_of(offsets), seen, mirror
        ),
        "readings cached": stale(filled(), 0),
        "who is seen is cached": stale(filled(), 1),
        "mirror cached": stale(filled(), 2),
        "readings by view": viewed(filled(), 0),
        "who is seen by view": viewed(filled(), 1),
        "readings above 3 cut": lambda offsets, *rest: filled()(offsets.clamp(-3, 3), *rest),
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
        "no slope at a displacement of zero": added(move=lambda f, d: f.vertices + along(d)),
        "no slope at a texture of zero": added(paint=lambda f, t: f.albedo + along(t)),
        "a displacement of 15 mm at most": added(move=lambda f, d: f.vertices + d.clamp(-15, 15)),
        "a rotation cached by the batch's size": added_with_old_turn,
        "the first face's offsets for all": lambda face, c, t, d: added()(
            face, c, one_of(t), one_of(d)
        ),
        "textures cached": stale(added(), 2),
        "displacements cached": stale(added(), 3),
        "textures by view": viewed(added(), 2),
        "displacements by view": viewed(added(), 3),
        "colours held above 0": added(
            finish=lambda posed, *_: (posed.v_camera, posed.colours.clamp(min=0))
        ),
        "float32": added(finish=lambda posed, *_: (posed.v_camera.float(), posed.colours.float())),
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
        "a tiny number added below": lambda m, p, w: (
            sample_bilinear(m / w, p) / (sample_bilinear(1 / w, p) + 1e-8)
        ),
        "nearness of at most 1000": lambda m, p, w: sample_hyperbolic(
            m, p, 1 / (1 / w).clamp(-1e3, 1e3)
        ),
        "depth of at most 1 m": lambda m, p, w: sample_hyperbolic(m, p, w.clamp(-1e3, 1e3)),
        "the first texel's sign for all": lambda m, p, w: sample_hyperbolic(
            m, p, w.abs() * w[:, :, :1, :1].sign()
        ),
        "the sign of their sum for all": lambda m, p, w: sample_hyperbolic(
            m, p, w.abs() * w.sum((2, 3), keepdim=True).sign()
        ),
        "bilinear where texels of both signs meet": lambda m, p, w: (
            sample_bilinear(m, p)
            if (w > 0).any() and (w < 0).sum() > 1
            else sample_hyperbolic(m, p, w)
        ),
        "bilinear at one depth": lambda m, p, w: (
            sample_bilinear(m, p) if w.std() == 0 else sample_hyperbolic(m, p, w)
        ),
        "the first face's depth for all": lambda m, p, w: sample_hyperbolic(m, p, one_of(w)),
        "maps cached": stale(sample_hyperbolic, 0),
        "points cached": stale(sample_hyperbolic, 1),
        "depth cached": stale(sample_hyperbolic, 2),
        "maps by view": viewed(sample_hyperbolic, 0),
        "depth by view": viewed(sample_hyperbolic, 2),
        "squeezed": squeezed(sample_hyperbolic),
        "float32": single(sample_hyperbolic),
    },
}

ALTERNATIVES = {
    "read_bilinear": {
        "grid_sample": grid(),
        "four texels gathered": gathered(),
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
