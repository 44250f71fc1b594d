"""Plausible mistakes in the exercises of notebook 08, and right answers written differently."""

import numpy as np
import torch
import torch.nn.functional as F

from facerecon_lib.face.mesh import face_normals

# Flipped triangles ------------------------------------------------------------------------------


def _crosses(vertices, faces):
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def _dots(before, after, faces):
    return (_crosses(before, faces) * _crosses(after, faces)).sum(-1)


def flipped_by_crosses(before, after, faces):
    return 100 * (_dots(before, after, faces) < 0).float().mean(-1)


def flipped_one_at_a_time(before, after, faces):
    shares = []
    for one, other in zip(before, after, strict=True):
        n, m = face_normals(one[None], faces)[0], face_normals(other[None], faces)[0]
        turned = torch.einsum("fi,fi->f", n, m) < 0
        shares.append(turned.sum() / len(faces) * 100.0)
    return torch.stack(shares)


def flipped_by_angle(before, after, faces):
    cosine = F.cosine_similarity(_crosses(before, faces), _crosses(after, faces), dim=-1)
    return 100 * (torch.rad2deg(cosine.clamp(-1, 1).acos()) > 90 + 1e-4).float().mean(1)


def flipped_against_z(before, after, faces):
    return 100 * (_crosses(after, faces)[..., 2] < 0).float().mean(1)


def flipped_crosses_reversed(before, after, faces):
    a, b, c = (after[:, faces[:, k]] for k in range(3))
    there = torch.linalg.cross(c - a, b - a)
    return 100 * ((_crosses(before, faces) * there).sum(-1) < 0).float().mean(1)


def flipped_at_45(before, after, faces):
    cosine = (face_normals(before, faces) * face_normals(after, faces)).sum(-1)
    return 100 * (cosine < 0.5**0.5).float().mean(1)


def flipped_with_squeezed(before, after, faces):
    return 100 * (_dots(before, after, faces) <= 0).float().mean(1)


def flipped_any_axis(before, after, faces):
    n, m = face_normals(before, faces), face_normals(after, faces)
    return 100 * ((n * m) < 0).any(-1).float().mean(1)


def flipped_every_component(before, after, faces):
    n, m = face_normals(before, faces), face_normals(after, faces)
    return 100 * ((n * m) < 0).float().mean((1, 2))


# Eq. 9 on the map -------------------------------------------------------------------------------


def _map(flip=-1, signs=(-1.0, 1.0, 1.0), end=lambda d: d.square().sum((1, 2, 3)).mean()):
    """Eq. 9 whose parts can be exchanged; signs: of a displacement."""

    def attempt(offset_map, displacement):
        mirrored = offset_map.flip(flip)
        if displacement:
            mirrored = mirrored * offset_map.new_tensor(signs)[:, None, None]
        return end(offset_map - mirrored)

    return attempt


def map_texture_negated(offset_map, displacement):
    mirrored = offset_map.flip(-1) * offset_map.new_tensor([-1.0, 1, 1])[:, None, None]
    return (offset_map - mirrored).square().sum((1, 2, 3)).mean()


def map_halves(offset_map, displacement):
    half = offset_map.shape[-1] // 2
    mirrored = offset_map.flip(-1)
    if displacement:
        mirrored = mirrored * offset_map.new_tensor([-1.0, 1, 1])[:, None, None]
    return (offset_map - mirrored)[..., :half].square().sum((1, 2, 3)).mean()


def map_detached(offset_map, displacement):
    mirrored = offset_map.detach().flip(-1)
    if displacement:
        mirrored = mirrored * offset_map.new_tensor([-1.0, 1, 1])[:, None, None]
    return (offset_map - mirrored).square().sum((1, 2, 3)).mean()


def map_shifted(offset_map, displacement):
    mirrored = offset_map.flip(-1).roll(1, -1)
    if displacement:
        mirrored = mirrored * offset_map.new_tensor([-1.0, 1, 1])[:, None, None]
    return (offset_map - mirrored).square().sum((1, 2, 3)).mean()


def map_by_columns(offset_map, displacement):
    width, total = offset_map.shape[-1], 0.0
    for i in range(width):
        other = offset_map[..., width - 1 - i]
        if displacement:
            other = torch.stack([-other[:, 0], other[:, 1], other[:, 2]], 1)
        total = total + ((offset_map[..., i] - other) ** 2).sum()
    return total / len(offset_map)


def map_with_index(offset_map, displacement):
    order = torch.arange(offset_map.shape[-1] - 1, -1, -1)
    mirrored = offset_map[:, :, :, order].clone()
    if displacement:
        mirrored[:, 0] *= -1
    return F.mse_loss(offset_map, mirrored, reduction="sum") / offset_map.shape[0]


# Eq. 9 on the mesh ------------------------------------------------------------------------------


def _mesh(other=lambda o, m: o[:, m], signs=(-1.0, 1.0, 1.0), end=None):
    """Eq. 9 between mirror vertices whose parts can be exchanged."""
    end = end or (lambda d, m: d.square().sum(-1).mean())

    def attempt(offsets, mirror, displacement):
        mirrored = other(offsets, mirror)
        if displacement:
            mirrored = mirrored * offsets.new_tensor(signs)
        return end(offsets - mirrored, mirror)

    return attempt


def mesh_ignores_kind(offsets, mirror, displacement):
    return (offsets - offsets[:, mirror]).square().sum(-1).mean()


def mesh_negates_texture(offsets, mirror, displacement):
    return _mesh()(offsets, mirror, True)


def mesh_detached(offsets, mirror, displacement):
    return _mesh(other=lambda o, m: o.detach()[:, m])(offsets, mirror, displacement)


def mesh_pairs_only(difference, mirror):
    off_middle = mirror != torch.arange(len(mirror))
    return difference[:, off_middle].square().sum(-1).mean()


def mesh_gathered(offsets, mirror, displacement):
    index = mirror[None, :, None].expand_as(offsets)
    mirrored = offsets.gather(1, index)
    x, y, z = mirrored.unbind(-1)
    x = -x if displacement else x
    apart = torch.stack([x, y, z], -1) - offsets
    return torch.einsum("bvc,bvc->", apart, apart) / (offsets.shape[0] * offsets.shape[1])


def mesh_a_face_at_a_time(offsets, mirror, displacement):
    rows = []
    for face in offsets:
        other = face.index_select(0, mirror).clone()
        if displacement:
            other[:, 0] = -other[:, 0]
        rows.append(((face - other) ** 2).sum() / len(face))
    return sum(rows) / len(rows)


# Eq. 10 and 11 ----------------------------------------------------------------------------------


def _squares(values, pairs):
    return (values[:, pairs[:, 0]] - values[:, pairs[:, 1]]).square().sum(-1)


def _totals(values, pairs, squares):
    zero = values.new_zeros(values.shape[:2])
    return zero.index_add(1, pairs[:, 0], squares).index_add(1, pairs[:, 1], squares)


def _degrees(pairs, count):
    return torch.bincount(pairs.reshape(-1), minlength=count).clamp(min=1)


def ring_over_edges(values, pairs):
    return _squares(values, pairs).mean()


def ring_of_sums(values, pairs):
    return _totals(values, pairs, _squares(values, pairs)).mean()


def ring_one_end(values, pairs):
    squares = _squares(values, pairs)
    total = values.new_zeros(values.shape[:2]).index_add(1, pairs[:, 0], squares)
    return (total / _degrees(pairs, values.shape[1])).mean()


def ring_summed(values, pairs):
    total = _totals(values, pairs, _squares(values, pairs))
    return (total / _degrees(pairs, values.shape[1])).sum(1).mean()


def ring_channel_mean(values, pairs):
    total = _totals(values, pairs, _squares(values, pairs))
    return (total / _degrees(pairs, values.shape[1])).mean() / values.shape[2]


def ring_laplacian(values, pairs):
    zero = torch.zeros_like(values)
    total = zero.index_add(1, pairs[:, 0], values[:, pairs[:, 1]])
    total = total.index_add(1, pairs[:, 1], values[:, pairs[:, 0]])
    mean = total / _degrees(pairs, values.shape[1])[:, None]
    return (values - mean).square().sum(-1).mean()


def ring_length(values, pairs):
    total = _totals(values, pairs, _squares(values, pairs).sqrt())
    return (total / _degrees(pairs, values.shape[1])).mean()


def ring_not_a_number(values, pairs):
    degrees = torch.bincount(pairs.reshape(-1), minlength=values.shape[1])
    return (_totals(values, pairs, _squares(values, pairs)) / degrees).mean()


def ring_touched_only(values, pairs):
    degrees = torch.bincount(pairs.reshape(-1), minlength=values.shape[1])
    total = _totals(values, pairs, _squares(values, pairs))
    return (total[:, degrees > 0] / degrees[degrees > 0]).mean()


def ring_without_gradient(values, pairs):
    return ring_right(values.detach(), pairs)


def ring_right(values, pairs):
    total = _totals(values, pairs, _squares(values, pairs))
    return (total / _degrees(pairs, values.shape[1])).mean()


def ring_by_lists(values, pairs):
    rings = [[] for _ in range(values.shape[1])]
    for i, j in pairs.tolist():
        rings[i].append(j)
        rings[j].append(i)
    total = values.new_zeros(())
    for i, ring in enumerate(rings):
        if ring:
            total = total + (values[:, [i]] - values[:, ring]).pow(2).sum(-1).mean(1).mean()
    return total / len(rings)


def ring_by_matrix(values, pairs):
    count = values.shape[1]
    touching = values.new_zeros(count, count)
    touching[pairs[:, 0], pairs[:, 1]] = 1
    touching[pairs[:, 1], pairs[:, 0]] = 1
    share = touching / touching.sum(1, keepdim=True).clamp(min=1)
    squared = (values[:, :, None] - values[:, None]).square().sum(-1)
    return (share * squared).sum(-1).mean()


def ring_both_ways(values, pairs):
    both = torch.cat([pairs, pairs.flip(1)])
    degrees = torch.as_tensor(np.bincount(both[:, 0].numpy(), minlength=values.shape[1]))
    squared = torch.einsum("bec,bec->be", *[values[:, both[:, 0]] - values[:, both[:, 1]]] * 2)
    return (squared / degrees[both[:, 0]]).sum() / values[..., 0].numel()


MUTANTS = {
    "flipped_share": {
        "the sign of z instead of the normal before": flipped_against_z,
        "a share of 1": lambda b, a, f: flipped_by_crosses(b, a, f) / 100,
        "one number for the batch": lambda b, a, f: flipped_by_crosses(b, a, f).mean(),
        "a count": lambda b, a, f: (_dots(b, a, f) < 0).float().sum(1),
        "those that are not flipped": lambda b, a, f: 100 - flipped_by_crosses(b, a, f),
        "the other way round after than before": flipped_crosses_reversed,
        "more than 45 degrees": flipped_at_45,
        "without area counts": flipped_with_squeezed,
        "any component of the normal": flipped_any_axis,
        "components of the normal are counted": flipped_every_component,
        "always none": lambda b, a, f: torch.zeros(len(b)),
    },
    "map_symmetry": {
        "x keeps its sign": _map(signs=(1.0, 1.0, 1.0)),
        "every channel changes its sign": _map(signs=(-1.0, -1.0, -1.0)),
        "y changes its sign": _map(signs=(1.0, -1.0, 1.0)),
        "z changes its sign": _map(signs=(1.0, 1.0, -1.0)),
        "red changes its sign too": map_texture_negated,
        "top and bottom": _map(flip=-2),
        "both axes": _map(flip=(-2, -1)),
        "the channels": _map(flip=1),
        "a mean over the map": _map(end=lambda d: d.square().mean()),
        "a sum over the batch": _map(end=lambda d: d.square().sum()),
        "a length": _map(end=lambda d: d.flatten(1).norm(dim=1).mean()),
        "absolute differences": _map(end=lambda d: d.abs().sum((1, 2, 3)).mean()),
        "each pair once": map_halves,
        "the mirror image detached": map_detached,
        "off by one": map_shifted,
        "compared with nothing": lambda m, d: m.square().sum((1, 2, 3)).mean(),
    },
    "mesh_symmetry": {
        "x keeps its sign": mesh_ignores_kind,
        "red changes its sign too": mesh_negates_texture,
        "every axis changes its sign": _mesh(signs=(-1.0, -1.0, -1.0)),
        "the vertices in reverse order": _mesh(other=lambda o, m: o.flip(1)),
        "a mean over x, y, z": _mesh(end=lambda d, m: d.square().mean()),
        "a sum over the vertices": _mesh(end=lambda d, m: d.square().sum((1, 2)).mean()),
        "a sum over the faces": _mesh(end=lambda d, m: d.square().sum(-1).mean(1).sum()),
        "lengths, not squared": _mesh(end=lambda d, m: d.norm(dim=-1).mean()),
        "without the middle": _mesh(end=mesh_pairs_only),
        "the mirror detached": mesh_detached,
        "the mirror is not asked": _mesh(other=lambda o, m: o),
    },
    "ring_smoothness": {
        "a mean over edges": ring_over_edges,
        "sums over the ring": ring_of_sums,
        "each edge at one end": ring_one_end,
        "a sum over vertices": ring_summed,
        "a mean over channels": ring_channel_mean,
        "the distance to the mean": ring_laplacian,
        "lengths, not squared": ring_length,
        "0 / 0 at a vertex alone": ring_not_a_number,
        "a vertex alone left out": ring_touched_only,
        "no gradient": ring_without_gradient,
        "a sum over the batch": lambda v, p: ring_right(v, p) * len(v),
    },
}

ALTERNATIVES = {
    "flipped_share": {
        "cross products": flipped_by_crosses,
        "a face at a time": flipped_one_at_a_time,
        "angles": flipped_by_angle,
    },
    "map_symmetry": {
        "a column at a time": map_by_columns,
        "an index, in place": map_with_index,
        "plain": _map(),
    },
    "mesh_symmetry": {
        "gather and einsum": mesh_gathered,
        "a face at a time": mesh_a_face_at_a_time,
        "plain": _mesh(),
    },
    "ring_smoothness": {
        "lists": ring_by_lists,
        "a matrix of neighbours": ring_by_matrix,
        "every pair both ways": ring_both_ways,
        "index_add": ring_right,
    },
}
