"""Plausible mistakes in the exercises of notebook 07, and right answers written differently."""

import torch
import torch.nn.functional as F

from facerecon_lib.augmented.map_sampling import sample_bilinear
from facerecon_lib.face.camera import axis_angle_to_matrix, pose
from facerecon_lib.face.lighting import shade
from facerecon_lib.face.mesh import vertex_normals

# Bilinear ---------------------------------------------------------------------------------------


def bilinear(maps, points, *, half=0.5, flip=False, weights=None, clamp=True, wrap=False):
    """Right, but for what is changed."""
    height, width = maps.shape[2:]
    p = (points.flip(-1) if flip else points) - half
    low = p.floor()
    t = p - low
    x, y = low.long().unbind(-1)
    total = 0
    for dx in (0, 1):
        for dy in (0, 1):
            w = (t[..., 0] if dx else 1 - t[..., 0]) * (t[..., 1] if dy else 1 - t[..., 1])
            w = w if weights is None else weights(t, dx, dy)
            i, j = x + dx, y + dy
            inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
            if wrap:
                i, j = i % width, j % height
            i, j = i.clamp(0, width - 1), j.clamp(0, height - 1)
            if not clamp:
                w = w * inside
            index = (j * width + i)[:, None].expand(-1, maps.shape[1], -1)
            total = total + w[..., None] * maps.flatten(2).gather(2, index).transpose(1, 2)
    return total


def bilinear_nearest(maps, points):
    height, width = maps.shape[2:]
    x = points[..., 0].floor().long().clamp(0, width - 1)
    y = points[..., 1].floor().long().clamp(0, height - 1)
    rows = [m[:, j, i].T for m, i, j in zip(maps, x, y, strict=True)]
    return torch.stack(rows)


def bilinear_first_map(maps, points):
    return bilinear(maps[:1].expand_as(maps), points)


def bilinear_square(maps, points):
    side = maps.shape[3]
    grid = (2 * points / side - 1)[:, None]
    read = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return read[:, :, 0].transpose(1, 2)


def bilinear_detached(maps, points):
    return bilinear(maps, points.detach())


def bilinear_corners(maps, points):
    size = torch.tensor([maps.shape[3], maps.shape[2]])
    grid = (2 * points / size - 1)[:, None]
    read = F.grid_sample(maps, grid, padding_mode="border", align_corners=True)
    return read[:, :, 0].transpose(1, 2)


def bilinear_channels_first(maps, points):
    return bilinear(maps, points).transpose(1, 2)


def bilinear_diagonal(maps, points):
    return bilinear(maps, points, weights=lambda t, dx, dy: 0.25 + 0 * t[..., 0])


def bilinear_by_loops(maps, points):
    faces = []
    for m, places in zip(maps, points, strict=True):
        rows = []
        for x, y in places:
            x = (x - 0.5).clamp(0, m.shape[2] - 1)
            y = (y - 0.5).clamp(0, m.shape[1] - 1)
            i, j = int(x), int(y)
            right, below = min(i + 1, m.shape[2] - 1), min(j + 1, m.shape[1] - 1)
            a, b = x - i, y - j
            top = m[:, j, i] * (1 - a) + m[:, j, right] * a
            bottom = m[:, below, i] * (1 - a) + m[:, below, right] * a
            rows.append(top * (1 - b) + bottom * b)
        faces.append(torch.stack(rows))
    return torch.stack(faces)


def bilinear_by_grid_sample(maps, points):
    size = points.new_tensor([maps.shape[3], maps.shape[2]])
    grid = (2 * points / size - 1)[:, :, None]
    read = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return read[..., 0].permute(0, 2, 1)


def bilinear_by_tents(maps, points):
    """Each texel counts by max(0, 1 - distance) on either axis."""
    height, width = maps.shape[2:]
    limit = points.new_tensor([width - 1, height - 1])
    p = torch.minimum((points - 0.5).clamp(min=0), limit)
    x = (1 - (p[..., :1] - torch.arange(width, dtype=p.dtype)).abs()).clamp(min=0)
    y = (1 - (p[..., 1:] - torch.arange(height, dtype=p.dtype)).abs()).clamp(min=0)
    return torch.einsum("bvy,bvx,bcyx->bvc", y, x, maps)


# Hidden vertices --------------------------------------------------------------------------------

FLIP = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0])


def filled(flip=FLIP, own=lambda s, m: s, other=lambda s, m: (1 - s) * s[:, m]):
    """Right, but for the signs or the shares."""

    def attempt(offsets, seen, mirror):
        s = seen[..., None]
        return own(s, mirror) * offsets + other(s, mirror) * flip * offsets[:, mirror]

    return attempt


def fill_first_face(offsets, seen, mirror):
    return filled()(offsets, seen[:1].expand_as(seen), mirror)


def fill_detached(offsets, seen, mirror):
    return filled()(offsets.detach() + 0 * offsets, seen, mirror)


def fill_where(offsets, seen, mirror):
    twin = offsets[:, mirror] * FLIP
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
    for b in range(len(offsets)):
        for v, m in enumerate(mirror.tolist()):
            if seen[b, v]:
                result[b, v] = offsets[b, v]
            elif seen[b, m]:
                colour, (x, y, z) = offsets[b, m, :3], offsets[b, m, 3:].unbind()
                result[b, v] = torch.cat([colour, torch.stack([-x, y, z])])
    return result


# Adding -----------------------------------------------------------------------------------------


def added(normals="new", frame="model", texture_to="albedo", clamp=False, turned=True):
    """Right, but for what is changed."""

    def attempt(face, coefficients, texture, displacement):
        c = coefficients
        vertices = face.vertices + displacement if frame == "model" else face.vertices
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        if frame == "camera":
            v_camera = v_camera + displacement
        if normals == "new":
            n = vertex_normals(vertices, face.model.faces)
            if turned:
                n = n @ axis_angle_to_matrix(c.rotation).transpose(1, 2)
        else:
            n = face.normals
        albedo = face.albedo + texture if texture_to == "albedo" else face.albedo
        colours = shade(albedo.clamp(0, 1) if clamp else albedo, n, c.lighting)
        if texture_to == "colours":
            colours = colours + texture
        return v_camera, colours

    return attempt


def added_other_way(face, coefficients, texture, displacement):
    c = coefficients
    v_camera, colours = added()(face, c, texture, displacement)
    return colours, v_camera


def added_wrong_turn(face, coefficients, texture, displacement):
    c = coefficients
    v_camera, _ = added()(face, c, texture, displacement)
    n = vertex_normals(face.vertices + displacement, face.model.faces)
    n = n @ axis_angle_to_matrix(c.rotation)
    return v_camera, shade(face.albedo + texture, n, c.lighting)


def added_camera_normals(face, coefficients, texture, displacement):
    c = coefficients
    v_camera, _ = added()(face, c, texture, displacement)
    n = vertex_normals(v_camera, face.model.faces)
    return v_camera, shade(face.albedo + texture, n, c.lighting)


def added_detached_normals(face, coefficients, texture, displacement):
    v_camera, _ = added()(face, coefficients, texture, displacement)
    _, colours = added()(face, coefficients, texture, displacement.detach())
    return v_camera, colours


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


# Hyperbolic -------------------------------------------------------------------------------------


def hyperbolic_by_weights(maps, points, depth):
    height, width = maps.shape[2:]
    limit = points.new_tensor([width - 1, height - 1])
    p = torch.minimum((points - 0.5).clamp(min=0), limit)
    x = (1 - (p[..., :1] - torch.arange(width, dtype=p.dtype)).abs()).clamp(min=0)
    y = (1 - (p[..., 1:] - torch.arange(height, dtype=p.dtype)).abs()).clamp(min=0)
    weights = torch.einsum("bvy,bvx->bvyx", y, x) / depth
    return torch.einsum("bvyx,bcyx->bvc", weights, maps) / weights.sum((2, 3))[..., None]


def hyperbolic_together(maps, points, depth):
    inverse = 1 / depth
    both = sample_bilinear(torch.cat([maps * inverse, inverse], 1), points)
    return both[..., :-1] / both[..., -1:]


def hyperbolic_in_other_units(maps, points, depth):
    inverse = depth.mean() / depth
    return sample_bilinear(maps * inverse, points) / sample_bilinear(inverse, points)


def hyperbolic_depth_detached(maps, points, depth):
    return hyperbolic_together(maps, points, depth.detach())


def hyperbolic_denominator_detached(maps, points, depth):
    top = sample_bilinear(maps / depth, points)
    return top / sample_bilinear(1 / depth, points).detach()


MUTANTS = {
    "read_bilinear": {
        "half a texel forgotten": lambda m, p: bilinear(m, p, half=0.0),
        "half a texel the wrong way": lambda m, p: bilinear(m, p, half=-0.5),
        "x and y swapped": lambda m, p: bilinear(m, p, flip=True),
        "weights swapped": lambda m, p: bilinear(
            m,
            p,
            weights=lambda t, dx, dy: (
                (1 - t[..., 0] if dx else t[..., 0]) * (1 - t[..., 1] if dy else t[..., 1])
            ),
        ),
        "zero beyond the border": lambda m, p: bilinear(m, p, clamp=False),
        "around the border to the other side": lambda m, p: bilinear(m, p, wrap=True),
        "the nearest texel": bilinear_nearest,
        "the first map for all faces": bilinear_first_map,
        "the width for the height": bilinear_square,
        "points detached": bilinear_detached,
        "corners aligned": bilinear_corners,
        "channels before vertices": bilinear_channels_first,
        "a plain mean of four": bilinear_diagonal,
    },
    "fill_hidden": {
        "x not negated": filled(torch.ones(6)),
        "red negated instead": filled(torch.tensor([-1.0, 1, 1, 1, 1, 1])),
        "red negated as well": filled(torch.tensor([-1.0, 1, 1, -1, 1, 1])),
        "all of the displacement negated": filled(torch.tensor([1.0, 1, 1, -1, -1, -1])),
        "y negated": filled(torch.tensor([1.0, 1, 1, 1, -1, 1])),
        "from mirror vertices that are hidden too": filled(other=lambda s, m: 1 - s),
        "nothing filled": filled(other=lambda s, m: 0 * s),
        "added where both are seen": filled(other=lambda s, m: s[:, m]),
        "hidden ones keep their own": filled(own=lambda s, m: 1 + 0 * s),
        "seen and hidden swapped": filled(own=lambda s, m: 1 - s, other=lambda s, m: s),
        "seen of the first face for all": fill_first_face,
        "detached": fill_detached,
    },
    "add_offsets": {
        "normals of the base face": added(normals="old"),
        "displacement after pose": added(frame="camera"),
        "texture onto the lit colours": added(texture_to="colours"),
        "texture forgotten": added(texture_to="nowhere"),
        "displacement forgotten": added(frame="nowhere"),
        "normals not turned": added(turned=False),
        "normals turned the other way": added_wrong_turn,
        "normals in the camera's axes": added_camera_normals,
        "albedo clamped": added(clamp=True),
        "the two in the other order": added_other_way,
        "no gradient through the normals": added_detached_normals,
    },
    "read_hyperbolic": {
        "bilinear": lambda m, p, w: sample_bilinear(m, p),
        "no denominator": lambda m, p, w: sample_bilinear(m / w, p),
        "times the depth": lambda m, p, w: sample_bilinear(m * w, p) / sample_bilinear(w, p),
        "one over the mean depth": lambda m, p, w: (
            sample_bilinear(m / w, p) * sample_bilinear(w, p)
        ),
        "denominator upside down": lambda m, p, w: (
            sample_bilinear(m / w, p) * sample_bilinear(1 / w, p)
        ),
        "depth without its sign": lambda m, p, w: hyperbolic_together(m, p, w.abs()),
        "depth kept from zero": lambda m, p, w: hyperbolic_together(m, p, w.clamp(min=1e-3)),
        "a small number added below": lambda m, p, w: (
            sample_bilinear(m / w, p) / (sample_bilinear(1 / w, p) + 1e-2)
        ),
        "depth detached": hyperbolic_depth_detached,
        "denominator detached": hyperbolic_denominator_detached,
    },
}

ALTERNATIVES = {
    "read_bilinear": {
        "gathered, indices clamped": bilinear,
        "grid_sample": bilinear_by_grid_sample,
        "a tent a texel": bilinear_by_tents,
        "loops": bilinear_by_loops,
    },
    "fill_hidden": {
        "where": fill_where,
        "in place": fill_in_place,
        "loops": fill_by_loops,
    },
    "add_offsets": {
        "normals after pose, turned back": added_turned_back,
        "by hand and in place": added_by_hand,
    },
    "read_hyperbolic": {
        "a weight a texel": hyperbolic_by_weights,
        "one reading of both": hyperbolic_together,
        "in another unit": hyperbolic_in_other_units,
    },
}
