"""Plausible mistakes in the exercises of notebook 08, and right answers written differently."""

import numpy as np
import torch
import torch.nn.functional as F

from facerecon_lib.course.nb08_regularisation.checks import (
    flipped,
    map_apart,
    mesh_apart,
    over_rings,
)
from facerecon_lib.face.mesh import face_normals


def crosses(vertices, faces):
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def flipped_one_at_a_time(before, after, faces):
    shares = []
    for n, m in zip(face_normals(before, faces), face_normals(after, faces), strict=True):
        turned = torch.einsum("fi,fi->f", n, m) < 0
        shares.append(turned.sum() / len(faces) * 100.0)
    return torch.stack(shares)


def flipped_by_angle(before, after, faces):
    cosine = F.cosine_similarity(crosses(before, faces), crosses(after, faces), dim=-1)
    return 100 * (torch.rad2deg(cosine.clamp(-1, 1).acos()) > 90 + 1e-4).float().mean(1)


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


def mesh_gathered(offsets, mirror, displacement):
    index = mirror[None, :, None].expand_as(offsets)
    mirrored = offsets.gather(1, index)
    x, y, z = mirrored.unbind(-1)
    apart = torch.stack([-x if displacement else x, y, z], -1) - offsets
    return torch.einsum("bvc,bvc->", apart, apart) / (offsets.shape[0] * offsets.shape[1])


def mesh_a_face_at_a_time(offsets, mirror, displacement):
    rows = []
    for face in offsets:
        other = face.index_select(0, mirror).clone()
        if displacement:
            other[:, 0] = -other[:, 0]
        rows.append(((face - other) ** 2).sum() / len(face))
    return sum(rows) / len(rows)


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
        "the other way round after than before": flipped(lambda n, m: (n * m).sum(-1) > 0),
        "more than 45 degrees": flipped(lambda n, m: (n * m).sum(-1) < 0.5**0.5),
        "any component of the normal": flipped(lambda n, m: ((n * m) < 0).any(-1)),
        "components of the normal are counted": flipped(
            lambda n, m: (n * m) < 0, share=lambda t: 100 * t.mean((1, 2))
        ),
        "always none": flipped(share=lambda t: 0 * t.sum(1)),
    },
    "map_symmetry": {
        "z changes its sign": map_apart(signs=(1.0, 1.0, -1.0)),
        "both axes": map_apart(lambda m: m.flip((-2, -1))),
        "absolute differences": map_apart(end=lambda d: d.abs().sum((1, 2, 3)).mean()),
        "the mirror image detached": map_apart(lambda m: m.detach().flip(-1)),
        "off by one": map_apart(lambda m: m.flip(-1).roll(1, -1)),
    },
    "mesh_symmetry": {
        "every axis changes its sign": mesh_apart(signs=(-1.0, -1.0, -1.0)),
        "lengths, not squared": mesh_apart(end=lambda d, mirror: d.norm(dim=-1).mean()),
        "the mirror detached": mesh_apart(lambda offsets, mirror: offsets.detach()[:, mirror]),
        "the mirror is not asked": mesh_apart(lambda offsets, mirror: offsets),
    },
    "ring_smoothness": {
        "lengths, not squared": over_rings(lambda difference: difference.norm(dim=-1)),
    },
}

ALTERNATIVES = {
    "flipped_share": {
        "cross products": lambda before, after, faces: (
            100 * ((crosses(before, faces) * crosses(after, faces)).sum(-1) < 0).float().mean(-1)
        ),
        "a face at a time": flipped_one_at_a_time,
        "angles": flipped_by_angle,
    },
    "map_symmetry": {
        "a column at a time": map_by_columns,
        "an index, in place": map_with_index,
        "plain": map_apart(),
    },
    "mesh_symmetry": {
        "gather and einsum": mesh_gathered,
        "a face at a time": mesh_a_face_at_a_time,
        "plain": mesh_apart(),
    },
    "ring_smoothness": {
        "lists": ring_by_lists,
        "a matrix of neighbours": ring_by_matrix,
        "every pair both ways": ring_both_ways,
        "index_add": over_rings(),
    },
}
