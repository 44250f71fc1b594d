"""Plausible mistakes in the exercises of notebook 08, and right answers written differently."""

import numpy as np
import torch
import torch.nn.functional as F
from spoiled_answers import one_of, rooted, single, squeezed, stale, viewed

from facerecon_lib.course.nb08_regularisation.checks import (
    flipped,
    map_apart,
    mesh_apart,
    over_rings,
    pull,
    settled,
    squares,
    summed,
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


def flipped_of_those_with_area(before, after, faces):
    cosine = (face_normals(before, faces) * face_normals(after, faces)).sum(-1)
    return 100 * (cosine < 0).sum(1) / (cosine != 0).sum(1).clamp(min=1)


def flipped_by_area(least):
    """Of unnormalised normals, whose product has to be below -least."""
    return lambda before, after, faces: (
        100 * ((crosses(before, faces) * crosses(after, faces)).sum(-1) < -least).float().mean(1)
    )


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


def mesh_float32(offsets, mirror, displacement):
    signs = torch.tensor([-1.0 if displacement else 1.0, 1.0, 1.0])
    return (offsets - offsets[:, mirror] @ signs.diag()).square().sum(-1).mean()


def ring_as_hinted(values, pairs, zeros=lambda values, shape: values.new_zeros(shape)):
    i, j = pairs.unbind(1)
    squared = ((values[:, i] - values[:, j]) ** 2).sum(-1)
    total = zeros(values, values.shape[:2])
    total = total.index_add(1, i, squared).index_add(1, j, squared)
    return (total / torch.bincount(pairs.flatten(), minlength=values.shape[1]).clamp(min=1)).mean()


def ring_by_products(values, pairs):
    """|a - b|^2 as |a|^2 - 2 ab + |b|^2."""
    a, b = values[:, pairs[:, 0]], values[:, pairs[:, 1]]
    squared = squares(a) - 2 * (a * b).sum(-1) + squares(b)
    return over_rings(cost=lambda difference: squared)(values, pairs)


NEIGHBOURS = {}


def ring_of_old_counts(values, pairs):
    def mean(total, neighbours):
        return total / NEIGHBOURS.setdefault(len(neighbours), neighbours).clamp(min=1)

    return over_rings(mean=mean)(values, pairs)


def ring_up_to_the_last(values, pairs):
    """Vertices after the last that has a neighbour are forgotten."""
    return over_rings()(values[:, : int(pairs.max()) + 1], pairs)


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


def pull_kept_in_grad(term, maps):
    leaves = [m if m.requires_grad else m.detach().requires_grad_() for m in maps]
    value = term(*leaves)
    if not value.requires_grad:
        return torch.zeros(())
    value.backward()
    return sum(m.grad.square().sum() for m in leaves if m.grad is not None).sqrt()


def pull_with_autograd(unused):
    def gradient_length(term, maps):
        maps = [m.detach().requires_grad_() for m in maps]
        value = term(*maps)
        pulls = torch.autograd.grad(value, maps, allow_unused=unused)
        return sum(p.square().sum() for p in pulls if p is not None).sqrt()

    return gradient_length


def pull_of_graphs(term, maps):
    maps = [m.detach().requires_grad_() for m in maps]
    value = term(*maps)
    if not value.requires_grad:
        return torch.zeros((), dtype=maps[0].dtype)
    pulls = torch.autograd.grad(value, maps, allow_unused=True)
    return torch.sqrt(sum(p.square().sum() for p in pulls if p is not None))


def pull_by_backward(term, maps):
    leaves = [m.detach().clone().requires_grad_() for m in maps]
    value = term(*leaves)
    if value.grad_fn is None:
        return maps[0].new_zeros(())
    value.backward()
    numbers = [torch.zeros_like(m) if m.grad is None else m.grad for m in leaves]
    return torch.linalg.vector_norm(torch.cat([x.flatten() for x in numbers]))


def pull_by_functional(term, maps):
    value = term(*(m.detach().requires_grad_() for m in maps))
    if not value.requires_grad:
        return torch.zeros((), dtype=maps[0].dtype)
    pulls = torch.func.grad(term, argnums=tuple(range(len(maps))))(*(m.detach() for m in maps))
    return torch.stack([p.norm() for p in pulls]).norm()


def sum_in_a_loop(terms, weights):
    for name in weights:
        terms[name]  # a KeyError for a slip of the pen
    loss = 0.0 * torch.ones(())
    for name in terms:
        if weights.get(name):
            loss = loss + terms[name]() * weights[name]
    return loss


def sum_as_dot_product(terms, weights):
    missing = set(weights) - set(terms)
    if missing:
        raise KeyError(*missing)
    used = [name for name, weight in weights.items() if weight != 0]
    if not used:
        return torch.zeros(())
    values = torch.stack([terms[name]() for name in used])
    return values @ values.new_tensor([weights[name] for name in used])


def sum_of(names):
    """Eq. 12 with some names left out."""
    return lambda terms, weights: summed()(
        terms, {n: w for n, w in weights.items() if n not in terms or names(n, w)}
    )


def sum_ignoring_unknown(terms, weights):
    return summed()(terms, {name: w for name, w in weights.items() if name in terms})


def sum_unknown_after_zero(terms, weights):
    return summed()(terms, {name: w for name, w in weights.items() if name in terms or w})


def sum_asked_twice(terms, weights):
    for name in weights:
        if weights[name]:
            terms[name]()
    return summed()(terms, weights)


def dense_solution(offsets, pairs, strength):
    """The same system as a dense matrix of torch."""
    count = offsets.shape[1]
    degrees = torch.bincount(pairs.flatten(), minlength=count)
    i, j = pairs.T
    each = (1 / degrees[i] + 1 / degrees[j]).double()
    apart = torch.zeros(count, count, dtype=torch.float64)
    apart = apart.index_put((i, j), each, accumulate=True)
    apart = apart + apart.T
    system = torch.eye(count).double() + strength * (torch.diag(apart.sum(1)) - apart)
    return torch.linalg.solve(system, offsets.detach().double()).to(offsets.dtype)


def by_conjugate_gradients(offsets, pairs, strength, steps=400):
    count, (i, j) = offsets.shape[1], pairs.T
    degrees = torch.bincount(pairs.flatten(), minlength=count)
    each = (1 / degrees[i] + 1 / degrees[j])[:, None].double()

    def system(x):
        apart = strength * each * (x[:, i] - x[:, j])
        return x.index_add(1, i, apart).index_add(1, j, -apart)

    target = offsets.detach().double()
    x = target.clone()
    rest = target - system(x)
    way, left = rest, rest.square().sum((1, 2), keepdim=True)
    for _ in range(steps):
        ahead = system(way)
        length = left / (way * ahead).sum((1, 2), keepdim=True).clamp(min=1e-300)
        x, rest = x + length * way, rest - length * ahead
        now = rest.square().sum((1, 2), keepdim=True)
        way, left = rest + now / left.clamp(min=1e-300) * way, now
    return x.to(offsets.dtype)


def a_face_at_a_time(offsets, pairs, strength):
    return torch.cat([settled()(one[None], pairs, strength) for one in offsets])


def few_steps_downhill(offsets, pairs, strength):
    x = offsets.detach().clone().requires_grad_()
    for _ in range(30):
        smooth = over_rings()(x, pairs) * x.shape[0] * x.shape[1]
        energy = (x - offsets).square().sum() + strength * smooth
        x = (x - 0.1 / (1 + 4 * strength) * torch.autograd.grad(energy, x)[0]).detach()
        x.requires_grad_()
    return x.detach()


def averaged_with_neighbours(offsets, pairs, strength):
    count, (i, j) = offsets.shape[1], pairs.T
    degrees = torch.bincount(pairs.flatten(), minlength=count).clamp(min=1)[:, None]
    sums = torch.zeros_like(offsets).index_add(1, i, offsets[:, j]).index_add(1, j, offsets[:, i])
    return (offsets + strength * sums / degrees) / (1 + strength)


def some_strength(offsets, pairs, strength):
    return settled()(offsets, pairs, min(strength, 10.0))


def alone_at_zero(offsets, pairs, strength):
    """A vertex without neighbours goes to 0."""
    moved = settled()(offsets, pairs, strength)
    return moved * (torch.bincount(pairs.flatten(), minlength=offsets.shape[1]) > 0)[:, None]


def up_to_the_last_pair(offsets, pairs, strength):
    """Of as many vertices as the pairs name."""
    count = int(pairs.max()) + 1
    moved = settled()(offsets[:, :count], pairs, strength)
    return torch.cat([moved, 0 * offsets[:, count:]], 1)


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"flipped_share", "gradient_length", "smoothed_at_once"}

MUTANTS = {
    "flipped_share": {
        "the other way round after than before": flipped(lambda n, m: (n * m).sum(-1) > 0),
        "more than 45 degrees": flipped(lambda n, m: (n * m).sum(-1) < 0.5**0.5),
        "any component of the normal": flipped(lambda n, m: ((n * m) < 0).any(-1)),
        "components of the normal are counted": flipped(
            lambda n, m: (n * m) < 0, share=lambda t: 100 * t.mean((1, 2))
        ),
        "always none": flipped(share=lambda t: 0 * t.sum(1)),
        "those without area left out of the whole": flipped_of_those_with_area,
        "no area before counts": flipped(lambda n, m: ((n * m).sum(-1) < 0) | (n == 0).all(-1)),
        "no area after counts": flipped(lambda n, m: ((n * m).sum(-1) < 0) | (m == 0).all(-1)),
        "more than 85 degrees": flipped(lambda n, m: (n * m).sum(-1) < 0.087),
        "more than 95 degrees": flipped(lambda n, m: (n * m).sum(-1) < -0.087),
        "small triangles left out": flipped_by_area(1e-3),
        "counted in eight bits": flipped(
            share=lambda t: 100 * t.sum(1, dtype=torch.uint8) / t.shape[1]
        ),
        "a thousand triangles at most": flipped(share=lambda t: 100 * t[:, :1000].mean(1)),
        "one face before for all": lambda b, a, f: flipped()(one_of(b), a, f),
        "one face after for all": lambda b, a, f: flipped()(b, one_of(a), f),
        "vertices before cached": stale(flipped(), 0),
        "vertices after cached": stale(flipped(), 1),
        "triangles cached": stale(flipped(), 2),
        "view": viewed(flipped(), 0, 1),
        "squeezed": squeezed(flipped()),
    },
    "map_symmetry": {
        "z changes its sign": map_apart(signs=(1.0, 1.0, -1.0)),
        "both axes": map_apart(lambda m: m.flip((-2, -1))),
        "absolute differences": map_apart(end=lambda d: d.abs().sum((1, 2, 3)).mean()),
        "the mirror image detached": map_apart(lambda m: m.detach().flip(-1)),
        "off by one": map_apart(lambda m: m.flip(-1).roll(1, -1)),
        "no slope where a map is symmetric": map_apart(
            end=lambda d: rooted(d.square().sum((1, 2, 3))).mean()
        ),
        "no slope where two pixels agree": map_apart(
            end=lambda d: rooted(d).square().sum((1, 2, 3)).mean()
        ),
        "the longer axis": map_apart(lambda m: m.flip(-1 if m.shape[3] >= m.shape[2] else -2)),
        "twice the left half": map_apart(
            end=lambda d: 2 * d[..., : d.shape[-1] // 2].square().sum((1, 2, 3)).mean()
        ),
        "a map of one column is its own mirror image": map_apart(
            end=lambda d: (d.shape[-1] > 1) * d.square().sum((1, 2, 3)).mean()
        ),
        "differences below 0.01 ignored": map_apart(
            end=lambda d: (d * (d.abs() > 0.01)).square().sum((1, 2, 3)).mean()
        ),
        "differences above 10 cut": map_apart(
            end=lambda d: d.clamp(-10, 10).square().sum((1, 2, 3)).mean()
        ),
        "a hundred columns at most": map_apart(
            end=lambda d: d[..., :100].square().sum((1, 2, 3)).mean()
        ),
        "the first face alone": map_apart(end=lambda d: d[0].square().sum()),
        "maps cached": stale(map_apart(), 0),
        "view": viewed(map_apart(), 0),
        "float32": single(map_apart()),
    },
    "mesh_symmetry": {
        "every axis changes its sign": mesh_apart(signs=(-1.0, -1.0, -1.0)),
        "lengths, not squared": mesh_apart(end=lambda d, mirror: d.norm(dim=-1).mean()),
        "the mirror detached": mesh_apart(lambda offsets, mirror: offsets.detach()[:, mirror]),
        "the mirror is not asked": mesh_apart(lambda offsets, mirror: offsets),
        "no slope where all is symmetric": mesh_apart(
            end=lambda d, mirror: rooted(d.square().sum(-1).mean())
        ),
        "no slope where a vertex is symmetric": mesh_apart(
            end=lambda d, mirror: rooted(d.square().sum(-1)).mean()
        ),
        "each pair once, doubled": mesh_apart(
            end=lambda d, mirror: (
                2 * ((torch.arange(len(mirror)) < mirror) * d.square().sum(-1)).mean()
            )
        ),
        "differences below 0.01 ignored": mesh_apart(
            end=lambda d, mirror: (d * (d.abs() > 0.01)).square().sum(-1).mean()
        ),
        "differences above 4 cut": mesh_apart(
            end=lambda d, mirror: d.clamp(-4, 4).square().sum(-1).mean()
        ),
        "a mean over two vertices at least": mesh_apart(
            end=lambda d, mirror: d.square().sum() / len(d) / max(len(mirror), 2)
        ),
        "the first face alone": mesh_apart(end=lambda d, mirror: d[0].square().sum(-1).mean()),
        "offsets cached": stale(mesh_apart(), 0),
        "mirror cached": stale(mesh_apart(), 1),
        "view": viewed(mesh_apart(), 0),
        "signs in float32": mesh_float32,
        "float32": single(mesh_apart()),
    },
    "ring_smoothness": {
        "lengths, not squared": over_rings(lambda difference: difference.norm(dim=-1)),
        "no slope between equal neighbours": over_rings(lambda d: rooted(squares(d))),
        "no slope in an equal channel": over_rings(lambda d: squares(rooted(d))),
        "differences below 0.01 ignored": over_rings(lambda d: squares(d * (d.abs() > 0.01))),
        "a difference of products": ring_by_products,
        "zeros in float32": lambda v, pairs: ring_as_hinted(v, pairs, lambda _, s: torch.zeros(s)),
        "two neighbours at least": over_rings(mean=lambda total, n: total / n.clamp(min=2)),
        "up to the last that has a neighbour": ring_up_to_the_last,
        "the first face alone": over_rings(over=lambda x: x[0].mean()),
        "the mean over vertices with neighbours": over_rings(
            mean=lambda total, n: total / n.clamp(min=1) * len(n) / (n > 0).sum()
        ),
        "counts cached": ring_of_old_counts,
        "pairs cached": stale(over_rings(), 1),
        "values cached": stale(over_rings(), 0),
        "view": viewed(over_rings(), 0),
        "float32": single(over_rings()),
    },
    "gradient_length": {
        "kept in .grad": pull_kept_in_grad,
        "a map that is not used": pull_with_autograd(unused=False),
        "a term without a graph": pull_with_autograd(unused=True),
        "a term of something else": pull_of_graphs,
        "the last map alone": pull(end=lambda pulls: pulls[-1].norm()),
        "two maps at most": pull(end=lambda pulls: sum(p.square().sum() for p in pulls[:2]).sqrt()),
        "the first face alone": pull(
            end=lambda pulls: sum(p[0].square().sum() for p in pulls).sqrt()
        ),
        "the larger of the two": pull(end=lambda pulls: max(p.norm() for p in pulls)),
        "at least a thousandth": pull(
            end=lambda pulls: sum(p.square().sum() for p in pulls).sqrt().clamp(min=1e-3)
        ),
        "through a log": pull(
            end=lambda pulls: sum(p.square().sum() for p in pulls).log().div(2).exp() + 1e-5
        ),
        "in float32": pull(end=lambda pulls: sum(p.float().square().sum() for p in pulls).sqrt()),
        "at zero": pull(wanted=lambda maps: [(0 * m).detach().requires_grad_() for m in maps]),
        "at ones": pull(wanted=lambda maps: [torch.ones_like(m).requires_grad_() for m in maps]),
        "of the term's square": pull(term_of=lambda term, maps: term(*maps) ** 2),
    },
    "weighted_sum": {
        "the first term missing": lambda t, w: summed()(t, dict([*w.items()][1:] or w)),
        "small weights left out": sum_of(lambda name, weight: abs(weight) > 1e-3),
        "weights below 0 left out": sum_of(lambda name, weight: weight > 0),
        "a weight of 0 is computed": summed(asked=lambda weight: True),
        "a slip of the pen is nothing": sum_ignoring_unknown,
        "a slip of the pen at 0 is nothing": sum_unknown_after_zero,
        "asked twice": sum_asked_twice,
        "detached": summed(part=lambda weight, value: weight * value.detach()),
        "weights cut at 1": summed(part=lambda weight, value: min(weight, 1.0) * value),
        "in float32": summed(part=lambda weight, value: weight * value.float()),
        "weights squared": summed(part=lambda weight, value: weight**2 * value),
        "values squared": summed(part=lambda weight, value: weight * value**2),
    },
    "smoothed_at_once": {
        "few steps downhill": few_steps_downhill,
        "averaged with the neighbours": averaged_with_neighbours,
        "float32": single(settled()),
        "ten at most": some_strength,
        "a vertex alone goes to 0": alone_at_zero,
        "up to the last that has a neighbour": up_to_the_last_pair,
        "half the strength": settled(scale=lambda strength, batch: strength / 2),
        "the strength's square": settled(scale=lambda strength, batch: strength**2),
        "one face for all": lambda o, p, s: settled()(one_of(o), p, s),
        "pairs cached": stale(settled(), 1),
        "offsets cached": stale(settled(), 0),
        "the root of the degrees": settled(lambda d, i, j: 2 / np.sqrt(d[i] * d[j])),
        "the second end alone": settled(lambda d, i, j: 1 / d[j]),
        "view": viewed(settled(), 0),
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
        "as the hint writes it": ring_as_hinted,
        "0 / 0 chosen away": over_rings(mean=lambda t, n: torch.where(n > 0, t / n, 0)),
        "0 / 0 made 0": over_rings(mean=lambda t, n: (t / n).nan_to_num()),
    },
    "gradient_length": {
        "backward on copies": pull_by_backward,
        "torch.func": pull_by_functional,
        "plain": pull(),
    },
    "weighted_sum": {
        "a loop": sum_in_a_loop,
        "a dot product": sum_as_dot_product,
        "plain": summed(),
    },
    "smoothed_at_once": {
        "dense": dense_solution,
        "conjugate gradients": by_conjugate_gradients,
        "a face at a time": a_face_at_a_time,
    },
}
