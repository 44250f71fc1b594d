"""Plausible mistakes in the exercises of notebook 07, and right answers written differently."""

from itertools import product

import torch
import torch.nn.functional as F
from spoiled_answers import cached, one_of, rooted, single, squeezed, stale, viewed
from torch import nn

from facerecon_lib.augmented.map_sampling import sample_bilinear, sample_hyperbolic
from facerecon_lib.course.nb07_offset_maps.checks import (
    added,
    at,
    carried,
    enlarged,
    filled,
    grid,
    parted,
    read_at_corners,
    upsampled,
)
from facerecon_lib.face.camera import axis_angle_to_matrix, pose
from facerecon_lib.face.lighting import shade
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.rendering.synthesis import pose_and_light


def enlarged_by_grid(coarse, size):
    """The coarse picture read at the centres of the fine one's pixels."""
    y, x = ((2 * torch.arange(n, dtype=coarse.dtype) + 1) / n - 1 for n in size)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(coarse), -1, -1, -1)
    return F.grid_sample(coarse, grid, padding_mode="border", align_corners=False)


def enlarged_by_matrices(coarse, size):
    def line(before, after):
        place = ((torch.arange(after) + 0.5) * before / after - 0.5).clamp(0, before - 1)
        return (1 - (place[:, None] - torch.arange(before)).abs()).clamp(min=0).to(coarse)

    rows, columns = map(line, coarse.shape[2:], size)
    return rows @ coarse @ columns.mT


def skip_made_small(coarse, skip, convolve):
    small = F.interpolate(skip, coarse.shape[2:], mode="bilinear")
    return F.interpolate(convolve(torch.cat([small, coarse], 1)), skip.shape[2:], mode="bilinear")


def convolved_before_enlarging(coarse, skip, convolve):
    small = F.interpolate(skip, coarse.shape[2:])
    return F.interpolate(convolve(torch.cat([small, coarse], 1)), skip.shape[2:])


def zeros(net):
    for weights in net.lasts.parameters():
        nn.init.zeros_(weights)


def renamed(names):
    """Parts under other names."""

    def start(net):
        zeros(net)
        for old, new in names.items():
            setattr(net, new, getattr(net, old))
            delattr(net, old)

    return start


def popping(widths, way_up):
    """Takes skips out of the list that it was called with."""
    net = parted()(widths, way_up)
    inner = net.forward

    def forward(bottom, skips):
        maps = inner(bottom, skips)
        while skips:
            skips.pop()
        return maps

    net.forward = forward
    return net


def once_only(widths, way_up):
    """Answers the first call again and again."""
    net, answers = parted()(widths, way_up), []
    inner = net.forward

    def forward(bottom, skips):
        answers.append(inner(bottom, skips))
        return answers[0]

    net.forward = forward
    return net


def by_sequence(widths, way_up):
    """The parts in lists; the two heads in a loop."""

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = way_up(widths[:2])
            self.texture = way_up(widths[2:])
            self.displacement = way_up(widths[2:])
            self.lasts = nn.ModuleList()
            for _ in range(2):
                last = nn.Conv2d(widths[-1], 3, kernel_size=1)
                last.weight = nn.Parameter(torch.zeros_like(last.weight))
                last.bias.data.zero_()
                self.lasts.append(last)

        def forward(self, bottom, skips):
            coarse, fine = skips[:2], skips[2:]
            features, maps = self.shared(bottom, coarse), []
            for up, last in zip((self.texture, self.displacement), self.lasts, strict=True):
                maps.append(last(up(features, fine)))
            return tuple(maps)

    return Heads()


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


def added_in_double(face, coefficients, texture, displacement):
    """Computed in float64, and rounded."""
    vertices, albedo = face.vertices.double() + displacement, face.albedo.double() + texture
    c = coefficients.map(lambda x: x.double())
    posed = pose_and_light(face.model, vertices, albedo, c)
    return posed.v_camera.to(texture.dtype), posed.colours.to(texture.dtype)


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


def carried_by_where(maps, points, seen, corners, weights, mirror):
    """Both readings side by side, chosen by a number from 0 to 2."""
    first = torch.arange(len(maps)).view(-1, 1, 1, 1)

    def shown(vertices):
        return (seen[first, vertices] > 0).all(-1)

    choice = torch.where(shown(corners), 0, torch.where(shown(mirror[corners]), 1, 2))
    choice = choice.masked_fill(weights.sum(-1) == 0, 2)
    result = maps.new_zeros(*corners.shape[:3], 6)
    for i, vertices in enumerate((corners, mirror[corners])):
        places = torch.einsum("bhwk,bhwkc->bhwc", weights, points[first, vertices])
        read = sample_bilinear(maps, places.flatten(1, 2)).view(*places.shape[:3], 6)
        if i == 1:
            read = torch.cat([read[..., :3], -read[..., 3:4], read[..., 4:]], -1)
        result = torch.where((choice == i)[..., None], read, result)
    return result.movedim(-1, 1)


def carried_by_grid(maps, points, seen, corners, weights, mirror):
    size = points.new_tensor([maps.shape[3], maps.shape[2]])

    def at(points, seen):
        flat = corners.flatten(1)[..., None]
        near = points.gather(1, flat.expand(-1, -1, 2)).unflatten(1, corners.shape[1:])
        places = (near * weights[..., None]).sum(3)
        read = F.grid_sample(maps, 2 * places / size - 1, "bilinear", "border", False)
        return read, seen.gather(1, flat[..., 0]).unflatten(1, corners.shape[1:]).prod(-1)[:, None]

    own, shown = at(points, seen)
    other, twin = at(points[:, mirror], seen[:, mirror])
    flip = torch.ones_like(other)
    flip[:, 3] = -1
    covered = (weights != 0).any(-1)[:, None]
    return torch.where(covered, shown * own + (1 - shown) * twin * flip * other, 0)


def carried_by_loops(maps, points, seen, corners, weights, mirror):
    texels = []
    for b, i, j in product(*map(range, corners.shape[:3])):
        texel = maps.new_zeros(6)
        for vertices, sign in ((corners[b, i, j], 1), (mirror[corners[b, i, j]], -1)):
            if weights[b, i, j].sum() > 0 and seen[b, vertices].all():
                place = weights[b, i, j] @ points[b, vertices]
                texel = sample_bilinear(maps[b : b + 1], place[None, None])[0, 0]
                texel = texel * texel.new_tensor([1, 1, 1, sign, 1, 1])
                break
        texels.append(texel)
    return torch.stack(texels).view(*corners.shape[:3], 6).permute(0, 3, 1, 2)


def flipped_place(maps, points, seen, corners, weights, mirror):
    """The mirror image is looked for in the other half of the picture."""
    other = points * points.new_tensor([-1, 1]) + points.new_tensor([maps.shape[3], 0])
    both = torch.where(seen[..., None] > 0, points, other)
    return carried()(maps, both, seen, corners, weights, torch.arange(len(mirror)))


def nothing_seen_is_nan(maps, points, seen, corners, weights, mirror):
    """A mean of those who see, so 0 / 0 where none does."""
    batch = torch.arange(len(maps))[:, None, None, None]
    own, twin = (seen[batch, v].amin(-1) for v in (corners, mirror[corners]))
    share = (own + (1 - own) * twin)[:, None]
    return (carried()(maps, points, seen, corners, weights, mirror) / share).nan_to_num()


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"double_head"}

MUTANTS = {
    "up_block": {
        "twice the size, whatever the skip's": upsampled(
            lambda coarse, size: F.interpolate(coarse, scale_factor=2, mode="bilinear")
        ),
        "cut to the skip's size": upsampled(
            lambda coarse, size: F.interpolate(coarse, scale_factor=2.5, mode="bilinear")[
                ..., : size[0], : size[1]
            ]
        ),
        "the skip made small": skip_made_small,
        "convolved before it is enlarged": convolved_before_enlarging,
        "the height for both sides": upsampled(
            lambda coarse, size: enlarged(mode="bilinear")(coarse, (size[0], size[0]))
        ),
        "the skip's size the other way round": upsampled(
            lambda coarse, size: enlarged(mode="bilinear")(coarse, size[::-1])
        ),
        "area": upsampled(enlarged(mode="area")),
        "nearest by centres": upsampled(enlarged(mode="nearest-exact")),
        "convolved twice": upsampled(finish=lambda convolve, x: convolve(convolve(x)[:, :1] + x)),
        "the skip detached": upsampled(
            join=lambda coarse, skip: torch.cat([skip.detach(), coarse], 1)
        ),
        "the coarse picture detached": upsampled(
            join=lambda coarse, skip: torch.cat([skip, coarse.detach()], 1)
        ),
        "convolved without a gradient": upsampled(finish=torch.no_grad()(lambda f, x: f(x))),
        "side by side": upsampled(join=lambda coarse, skip: torch.cat([skip, coarse], -1)),
        "channels in turn": upsampled(
            join=lambda coarse, skip: (
                torch.stack([skip, coarse], 2).flatten(1, 2)
                if skip.shape == coarse.shape
                else torch.cat([skip, coarse], 1)
            )
        ),
        "values of at most 5": upsampled(
            join=lambda coarse, skip: torch.cat([skip, coarse], 1).clamp(-5, 5)
        ),
        "negative values cut": upsampled(
            join=lambda coarse, skip: torch.cat([skip, coarse.relu()], 1)
        ),
        "the first picture's skip for all": lambda coarse, skip, convolve: upsampled()(
            coarse, one_of(skip), convolve
        ),
        "no slope at zero": upsampled(
            join=lambda coarse, skip: rooted(torch.cat([skip, coarse], 1))
        ),
        "skips cached": stale(upsampled(), 1),
        "coarse pictures cached": stale(upsampled(), 0),
        "by view": viewed(upsampled()),
        "squeezed": squeezed(upsampled()),
        "float32": single(upsampled()),
    },
    "double_head": {
        "heads part at once": parted(after=0),
        "no head is left": parted(after=4),
        "all but one block is shared": lambda widths, way_up: parted(after=len(widths) - 1)(
            widths, way_up
        ),
        "half of the blocks are shared": lambda widths, way_up: parted(after=len(widths) // 2)(
            widths, way_up
        ),
        "last layers of 3 by 3": parted(kernel=3),
        "maps held within 1": parted(
            finish=lambda net, *xs: tuple(
                last(x).tanh() for last, x in zip(net.lasts, xs, strict=True)
            )
        ),
        "maps above 0": parted(
            finish=lambda net, *xs: tuple(
                last(x).relu() for last, x in zip(net.lasts, xs, strict=True)
            )
        ),
        "zero by a factor": parted(
            start=lambda net: None,
            finish=lambda net, *xs: tuple(
                0 * last(x) for last, x in zip(net.lasts, xs, strict=True)
            ),
        ),
        "maps detached": parted(
            finish=lambda net, *xs: tuple(
                last(x).detach() for last, x in zip(net.lasts, xs, strict=True)
            )
        ),
        "texture's gradient stops": parted(
            heads=lambda net, x, s: (net.texture(x.detach(), s), net.displacement(x, s))
        ),
        "displacement drawn from texture's features": parted(
            heads=lambda net, x, s: (net.texture(x, s),) * 2
        ),
        "almost zero": parted(
            start=lambda net: [nn.init.constant_(w, 1e-6) for w in net.lasts.parameters()]
        ),
        "one map": parted(finish=lambda net, one, other: net.lasts[0](one)),
        "both in one tensor": parted(
            finish=lambda net, one, other: torch.cat([net.lasts[0](one), net.lasts[1](other)], 1)
        ),
        "another name": parted(start=renamed({"texture": "colour"})),
        "last layers in a list": parted(
            start=lambda net: (
                (zeros(net), net.__dict__.update(lasts=list(net.lasts)))
                and net._modules.pop("lasts")
            )
        ),
        "the class itself": lambda widths, way_up: type(parted()(widths, way_up)),
        "skips popped": popping,
        "one network for all": cached(parted()),
        "the first answer for all": once_only,
        "three blocks more": lambda widths, way_up: parted()([*widths, 1], way_up),
        "frozen": parted(start=lambda net: (zeros(net), net.shared.requires_grad_(False))),
    },
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
    "carry": {
        "seen in part": carried(all_of=lambda seen: seen.mean(-1)),
        "all seen if most are": carried(all_of=lambda seen: (seen.sum(-1) >= 2).float()),
        "the first corner decides": carried(all_of=lambda seen: seen[..., 0]),
        "both readings added": carried(other=lambda seen, twin: twin),
        "the mirror's reading first": carried(
            own=lambda seen, twin: seen * (1 - twin), other=lambda seen, twin: twin
        ),
        "mirrored in the picture": flipped_place,
        "y negated": carried(signs=(1.0, 1, 1, 1, -1, 1)),
        "the nearest corner's place": carried(
            place=lambda w, points: points.gather(
                -2, w.argmax(-1)[..., None, None].expand(*w.shape[:3], 1, 2)
            ).squeeze(-2)
        ),
        "weights in another order": carried(
            place=lambda w, points: (w.flip(-1)[..., None] * points).sum(-2)
        ),
        "places in whole pixels": carried(
            place=lambda w, points: (w[..., None] * points).sum(-2).round()
        ),
        "the mirror's corners sorted": carried(
            twin=lambda corners, mirror: mirror[corners].sort(-1).values
        ),
        "no slope where nobody sees": nothing_seen_is_nan,
        "columns before rows": lambda *a: carried()(*a).mT,
        "channels last": lambda *a: carried()(*a).permute(0, 2, 3, 1),
        "the first face's triangles for all": lambda m, p, s, c, w, mirror: carried()(
            m, p, s, one_of(c), w, mirror
        ),
        "the first face's places for all": lambda m, p, *rest: carried()(m, one_of(p), *rest),
        "who is seen of the first face for all": lambda m, p, s, *rest: carried()(
            m, p, one_of(s), *rest
        ),
        "maps of at most 1": lambda m, *rest: carried()(m.clamp(-1, 1), *rest),
        "detached": lambda m, *rest: carried()(m.detach() + 0 * m, *rest),
        "maps cached": stale(carried(), 0),
        "places cached": stale(carried(), 1),
        "who is seen cached": stale(carried(), 2),
        "mirror cached": stale(carried(), 5),
        "maps by view": viewed(carried(), 0),
        "triangles by view": viewed(carried(), 3),
        "weights by view": viewed(carried(), 4),
        "squeezed": squeezed(carried()),
        "float32": single(carried()),
        "colours alone": lambda m, *rest: carried()(m, *rest)[:, :3],
        "corners' readings where the photo shows them": lambda m, p, s, c, w, mirror: torch.where(
            s[torch.arange(len(m))[:, None, None, None], c].amin(-1)[:, None] > 0,
            read_at_corners(m, p, s, c, w, mirror),
            carried()(m, p, s, c, w, mirror),
        ),
    },
}

ALTERNATIVES = {
    "up_block": {
        "read at the fine centres": upsampled(enlarged_by_grid),
        "a matrix per axis": upsampled(enlarged_by_matrices),
        "by torch.nn.Upsample": upsampled(
            lambda coarse, size: nn.Upsample(tuple(size), mode="bilinear")(coarse)
        ),
        "filled in": upsampled(
            join=lambda coarse, skip: torch.stack([*skip.unbind(1), *coarse.unbind(1)], 1)
        ),
    },
    "double_head": {
        "in a loop": by_sequence,
        "heads under two names": parted(
            start=lambda net: (
                zeros(net),
                setattr(net, "heads", nn.ModuleList([net.texture, net.displacement])),
            )
        ),
        "lasts by data": parted(
            start=lambda net: [w.data.mul_(0.0) for w in net.lasts.parameters()]
        ),
    },
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
        "in float64": added_in_double,
    },
    "read_hyperbolic": {
        "a weight per texel": hyperbolic_by_weights,
        "one reading of both": hyperbolic_together,
        "in another unit": hyperbolic_in_other_units,
    },
    "carry": {
        "chosen by where": carried_by_where,
        "grid_sample and gather": carried_by_grid,
        "loops": carried_by_loops,
    },
}
