"""Plausible mistakes in the exercises of notebook 03, and right answers written otherwise."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from spoiled_answers import (
    cached,
    halved,
    logged,
    one_of,
    rooted,
    single,
    squeezed,
    stale,
    viewed,
    with_,
)

from facerecon_lib.course.nb03_lighting.checks import (
    C0,
    C1,
    C2,
    C20,
    basis,
    crosses,
    factors,
    reordered,
    ridge_times,
    solved,
    summed,
    times,
    turned_by,
    under,
    unit_vectors,
)
from facerecon_lib.face.lighting import ambient_lighting, sh_basis, shade, turn_lighting
from facerecon_lib.face.mesh import face_normals, vertex_normals


def not_unit(vertices, faces):
    return summed(vertices, faces, crosses(vertices, faces))


def mean_of_crosses(vertices, faces):
    count = torch.bincount(faces.reshape(-1), minlength=vertices.shape[1]).clamp(min=1)
    return not_unit(vertices, faces) / count[:, None]


def with_wrong_corner(vertices, faces):
    a, b, _ = vertices[:, faces].unbind(2)
    wrong = torch.linalg.cross(b - a, vertices[:, :1] - a)
    return F.normalize(summed(vertices, faces, wrong), dim=-1)


def by_angle(vertices, faces):
    corners = [vertices[:, faces[:, i]] for i in range(3)]
    total = torch.zeros_like(vertices)
    for i in range(3):
        one, other = (F.normalize(corners[(i + j) % 3] - corners[i], dim=-1) for j in (1, 2))
        angle = (one * other).sum(-1, keepdim=True).clamp(-0.999999, 0.999999).acos()
        total = total.index_add(1, faces[:, i], angle * face_normals(vertices, faces))
    return F.normalize(total, dim=-1)


def by_root_of_area(vertices, faces):
    cross = crosses(vertices, faces)
    root = cross / cross.norm(dim=-1, keepdim=True).sqrt()
    return F.normalize(summed(vertices, faces, root), dim=-1)


def divided(length):
    """The sums, divided by length(of their lengths)."""
    return lambda v, f: not_unit(v, f) / length(not_unit(v, f).norm(dim=-1, keepdim=True))


def faces_kept(vertices, faces, kept={}):  # noqa: B006
    """Keeps the first triangles of each number of vertices and triangles."""
    return vertex_normals(vertices, kept.setdefault((vertices.shape[1], len(faces)), faces))


def area_times_direction(vertices, faces):
    cross = crosses(vertices, faces)
    area = cross.norm(dim=-1, keepdim=True)
    return F.normalize(summed(vertices, faces, area * (cross / area)), dim=-1)


def outwards(vertices, faces):
    n = vertex_normals(vertices, faces)
    return n * (n * (vertices - vertices.mean(1, keepdim=True))).sum(-1, keepdim=True).sign()


def basis_by_angles(normals):
    x, y, z = normals.unbind(-1)
    polar, turn = z.acos(), torch.atan2(y, x)
    return sh_basis(
        torch.stack([polar.sin() * turn.cos(), polar.sin() * turn.sin(), polar.cos()], -1)
    )


def basis_by_division(normals):
    """x^2 - y^2 as (x / y - y / x) x y."""
    x, y = normals[..., 0], normals[..., 1]
    some = (x != 0) & (y != 0)
    last = torch.where(some, (x / y - y / x) * x * y, x * x - y * y)
    return torch.cat([sh_basis(normals)[..., :8], C2 / 2 * last[..., None]], -1)


def first(count, function):
    """Only the first vertices count: those after them come back as they were."""

    def shown(values, *rest):
        return torch.cat([function(values, *rest)[:, :count], values[:, count:]], 1)

    return shown


def normals_in_a_loop(vertices, faces):
    meshes = []
    for mesh in vertices:
        total = [torch.zeros(3).to(mesh) for _ in mesh]
        for i, j, k in faces.tolist():
            cross = torch.linalg.cross(mesh[j] - mesh[i], mesh[k] - mesh[i])
            for v in (i, j, k):
                total[v] = total[v] + cross
        meshes.append(torch.stack([F.normalize(t, dim=0) for t in total]))
    return torch.stack(meshes)


def normals_by_matrix(vertices, faces):
    incidence = torch.zeros(vertices.shape[1], len(faces)).to(vertices)
    for i in range(3):
        incidence[faces[:, i], torch.arange(len(faces))] += 1
    a, b, c = vertices[:, faces].unbind(2)
    total = incidence @ torch.cross(a - c, b - c, dim=-1)
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def normals_in_place(vertices, faces):
    cross = crosses(vertices, faces) / 2  # areas; a factor does not matter
    index = faces.T.reshape(1, -1, 1).expand(len(vertices), -1, 3)
    total = torch.zeros_like(vertices).scatter_add_(1, index, cross.repeat(1, 3, 1))
    return F.normalize(total, dim=2)


def changed(index, change):
    def mutant(normals):
        columns = list(sh_basis(normals).unbind(-1))
        columns[index] = change(columns[index], *normals.unbind(-1))
        return torch.stack(columns, -1)

    return mutant


def basis_in_loops(normals):
    rows = []
    for x, y, z in normals.reshape(-1, 3):
        row = [C0 + 0 * x, C1 * y, C1 * z, C1 * x, C2 * x * y, C2 * y * z]
        row += [C20 * (2 * z * z - x * x - y * y), C2 * x * z, C2 / 2 * (x * x - y * y)]
        rows.append(torch.stack(row))
    return torch.stack(rows).reshape(*normals.shape[:-1], 9)


def basis_by_filling(normals):
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    out = normals.new_zeros(*normals.shape[:-1], 9)
    out[..., 0] = 0.28209479177387814
    out[..., 1], out[..., 2], out[..., 3] = (0.4886025119029199 * t for t in (y, z, x))
    out[..., 4], out[..., 5], out[..., 7] = (1.0925484305920792 * t for t in (x * y, y * z, x * z))
    out[..., 6] = 0.9461746957575601 * z**2 - 0.31539156525252005
    out[..., 8] = 0.5462742152960396 * (x - y) * (x + y)
    return out


def shade_in_loops(albedo, normals, lighting):
    values = sh_basis(normals)
    return albedo * sum(values[:, :, k, None] * lighting[:, None, k] for k in range(9))


def shade_face_by_face(albedo, normals, lighting):
    faces = [a * (sh_basis(n) @ g) for a, n, g in zip(albedo, normals, lighting, strict=True)]
    return torch.stack(faces)


def one_face_of_all(albedo, normals, colours, weights, ridge=1e-3):
    flat = [t.reshape(1, -1, 3) for t in (albedo, normals, colours)]
    return solved()(*flat, weights.reshape(1, -1), ridge).expand(len(albedo), -1, -1)


def ridge_spares_first(albedo, normals, colours, weights, ridge=1e-3):
    w = (weights / weights.sum(1, keepdim=True))[..., None]
    pull = ridge * torch.eye(9).to(albedo)
    pull[0, 0] = 0
    each = []
    for k in range(3):
        rows = albedo[..., k : k + 1] * sh_basis(normals)
        right = rows.mT @ (w * colours[..., k : k + 1])
        each.append(torch.linalg.solve(rows.mT @ (w * rows) + pull, right))
    return torch.cat(each, -1)


def light_by_stacking(albedo, normals, colours, weights, ridge=1e-3):
    """Rows of the ridge under those of the data, and one least-squares call."""
    start = ambient_lighting(1, dtype=albedo.dtype)[0]
    root = (weights / weights.sum(-1, keepdim=True)).sqrt()[..., None]
    below = math.sqrt(ridge) * torch.eye(9).to(root).expand(len(root), -1, -1)
    each = []
    for k in range(3):
        rows = root * albedo[..., k : k + 1] * sh_basis(normals)
        right = torch.cat([root * colours[..., k : k + 1], below @ start[:, k : k + 1]], 1)
        each.append(torch.linalg.lstsq(torch.cat([rows, below], 1), right).solution)
    return torch.cat(each, -1)


def light_by_numpy(albedo, normals, colours, weights, ridge=1e-3):
    out, start = np.zeros((len(albedo), 9, 3)), math.sqrt(4 * math.pi) * np.eye(9)[0]
    inputs = (x.double().numpy() for x in (albedo, sh_basis(normals), colours, weights))
    for b, (skin, values, colour, w) in enumerate(zip(*inputs, strict=True)):
        w = w / w.sum()
        for k in range(3):
            rows = skin[:, k, None] * values
            left = rows.T @ np.diag(w) @ rows + ridge * np.eye(9)
            out[b, :, k] = np.linalg.solve(left, rows.T @ (w * colour[:, k]) + ridge * start)
    return torch.from_numpy(out).to(albedo.dtype)


def light_by_one_system(albedo, normals, colours, weights, ridge=1e-3):
    """All channels at once by einsum, the ambient light on the right side."""
    w = weights / weights.sum(1, keepdim=True)
    rows = albedo[..., None] * sh_basis(normals)[..., None, :]  # (b, v, c, k)
    left = torch.einsum("bv,bvck,bvcj->bckj", w, rows, rows)
    left = left + ridge * torch.eye(9).to(rows)
    right = torch.einsum("bv,bvck,bvc->bck", w, rows, colours)
    right[..., 0] += ridge * math.sqrt(4 * math.pi)
    return torch.linalg.solve(left, right[..., None])[..., 0].transpose(1, 2)


def picture_in_place(albedo, lighting, factor):
    for b in range(len(albedo)):
        albedo[b] *= factor[b]
        lighting[b] /= factor[b]
    return [albedo, lighting]


def turned_by_matrices(lighting, rotation):
    """Band 1 as a vector, band 2 as a symmetric matrix without trace: R M R'."""
    to_yzx = torch.eye(3)[[1, 2, 0]].to(rotation)
    vector = (to_yzx @ rotation @ to_yzx.mT) @ lighting[:, 1:4]
    xy, yz, zz, xz, xx = lighting[:, 4:].unbind(1)
    zz, xx = zz / math.sqrt(3), xx
    rows = [xx - zz, xy, xz, xy, -xx - zz, yz, xz, yz, 2 * zz]
    matrix = torch.stack(rows, -1).unflatten(-1, (3, 3))  # (batch, colour, 3, 3)
    turned = rotation[:, None] @ matrix @ rotation[:, None].mT
    x, y, z = (turned[..., i, :] for i in range(3))
    band_2 = [x[..., 1], y[..., 2], math.sqrt(3) / 2 * z[..., 2], x[..., 2]]
    band_2 = torch.stack([*band_2, (x[..., 0] - y[..., 1]) / 2], 1)
    return torch.cat([lighting[:, :1], vector, band_2], 1)


def turned_by_lstsq(lighting, rotation):
    normals = unit_vectors(200, seed=5).to(rotation)
    rows = sh_basis(normals @ rotation.mT)
    return torch.linalg.lstsq(rows, sh_basis(normals) @ lighting).solution


def turned_by_nine(lighting, rotation):
    """Nine directions, one set of nine equations for each light."""
    nine = unit_vectors(9, seed=12).to(rotation)
    inverse = torch.linalg.inv(sh_basis(nine))
    each = [inverse @ sh_basis(nine @ r) @ g for g, r in zip(lighting, rotation, strict=True)]
    return torch.stack(each)


def turned_roughly(lighting, rotation):
    """Turned, with a small ridge in the equations."""
    rows = sh_basis(unit_vectors(50, seed=6).to(rotation))
    values = sh_basis(unit_vectors(50, seed=6).to(rotation) @ rotation) @ lighting
    return torch.linalg.solve(rows.mT @ rows + 0.01 * torch.eye(9).to(rows), rows.mT @ values)


def turned_in_place(lighting, rotation):
    lighting[:] = turn_lighting(lighting, rotation)
    return lighting


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"light_from_colours", "same_picture"}

MUTANTS = {
    "vertex_normals": {
        "not normalised": not_unit,
        "divided by the number of triangles instead of the length": mean_of_crosses,
        "only the first corner of each triangle": lambda v, f: F.normalize(
            torch.zeros_like(v).index_add(1, f[:, 0], crosses(v, f)), dim=-1
        ),
        "normalised over the vertices": lambda v, f: F.normalize(not_unit(v, f), dim=1),
        "one normal per triangle": face_normals,
        "the first mesh's normals for all": lambda v, f: vertex_normals(v[:1], f).expand_as(v),
        "away from the mesh's middle": lambda v, f: F.normalize(v - v.mean(1, True), dim=-1),
        "nan where no triangle is": divided(lambda length: length),
        "a corner of another triangle": with_wrong_corner,
        "a constant": lambda v, f: torch.tensor([0.0, 0, 1]).expand_as(v),
        "weighted by the corners' angles": by_angle,
        "weighted by the square root of the area": by_root_of_area,
        "divided by a length of at least 1": divided(lambda length: length.clamp(min=1.0)),
        "the length detached": divided(lambda length: length.detach().clamp(min=1e-12)),
        "divided by a length of at least 0.001": divided(lambda length: length.clamp(min=1e-3)),
        "divided by a little more than the length": divided(lambda length: length + 1e-6),
        "nan where a triangle has no area": area_times_direction,
        "always away from the middle": outwards,
        "always towards the outside of the sum": lambda v, f: (
            vertex_normals(v, f) * vertex_normals(v, f)[:, :1, 2:].sign()
        ),
        "the first 256 vertices": first(256, vertex_normals),
        "triangles kept by size": faces_kept,
        "kept by size": cached(vertex_normals),
        "axes of length 1 lost": squeezed(vertex_normals),
        "a view of the vertices": viewed(vertex_normals),
        "half precision": halved(vertex_normals),
        "as many vertices as the triangles name": lambda v, f: vertex_normals(
            v[:, : f.max() + 1], f
        ),
    },
    "sh_basis": {
        "band 2 with m = 0 first": reordered(0, 1, 2, 3, 6, 5, 7, 4, 8),
        "all functions in reverse order": reordered(8, 7, 6, 5, 4, 3, 2, 1, 0),
        "x^2 - y^2 not halved": changed(8, lambda v, x, y, z: 2 * v),
        "y^2 - x^2": changed(8, lambda v, x, y, z: -v),
        "z^2 - 1 for 3 z^2 - 1": changed(6, lambda v, x, y, z: C20 * (z * z - 1)),
        "3 z^2 without minus 1": changed(6, lambda v, x, y, z: C20 * 3 * z * z),
        "the constant of xy for 3 z^2 - 1": changed(6, lambda v, x, y, z: v * C2 / C20),
        "a constant of 1": changed(0, lambda v, x, y, z: torch.ones_like(x)),
        "normalised to a mean square of 1": times(torch.full((9,), math.sqrt(4 * math.pi))),
        "the third digit of band 1 wrong": lambda n: basis(n, c1=0.482),
        "xz and yz swapped": reordered(0, 1, 2, 3, 4, 7, 6, 5, 8),
        "pi under the root's wrong side": times(torch.full((9,), math.pi)),
        "y and z swapped": lambda n: sh_basis(n[..., [0, 2, 1]]),
        "float32 always": lambda n: sh_basis(n.float()),
        "two axes only": lambda n: sh_basis(n.reshape(-1, 3)),
        "four functions": lambda n: sh_basis(n)[..., :4],
        "by angles, nan at the poles": basis_by_angles,
        "by division, nan along the axes": basis_by_division,
        "components by a root, nan at 0": with_(sh_basis, a0=rooted),
        "components by a logarithm, nan at 0": with_(sh_basis, a0=logged),
        "no gradient at the poles": lambda n: sh_basis(
            torch.where(n[..., 2:].abs() == 1, n.detach(), n)
        ),
        "a product without gradient at 0": changed(4, lambda v, x, y, z: torch.where(v == 0, 0, v)),
        "axes of length 1 lost": squeezed(sh_basis),
        "turned for three normals": lambda n: sh_basis(n.mT if n.shape == (3, 3) else n),
        "turned for nine normals": lambda n: sh_basis(n).mT if n.shape == (9, 3) else sh_basis(n),
        "three axes at most": lambda n: sh_basis(n.flatten(0, -4) if n.ndim > 3 else n),
        "a view of the normals": viewed(sh_basis),
        "kept by size": cached(sh_basis),
        "half precision": halved(sh_basis),
        "stacked along the wrong axis": lambda n: sh_basis(n).movedim(-1, 0),
    },
    "shade": {
        "light laid out colour by colour": lambda a, n, g: shade(a, n, g.reshape(-1, 3, 9).mT),
        "albedo plus light": lambda a, n, g: a + sh_basis(n) @ g,
        "four functions": lambda a, n, g: a * (sh_basis(n)[..., :4] @ g[:, :4]),
        "the absolute value": lambda a, n, g: shade(a, n, g).abs(),
        "the colours of the light in reverse": lambda a, n, g: shade(a, n, g.flip(-1)),
        "one albedo per face": lambda a, n, g: shade(a.mean(1, True).expand_as(a), n, g),
        "no gradient to the normals": lambda a, n, g: shade(a, n.detach(), g),
        "the constant function left out": lambda a, n, g: a * (sh_basis(n)[..., 1:] @ g[:, 1:]),
        "a mean over the nine": lambda a, n, g: shade(a, n, g) / 9,
        "normals that point inwards": lambda a, n, g: shade(a, -n, g),
        "light summed over colours": under(lambda light: light.sum(-1, keepdim=True)),
        "albedo twice": lambda a, n, g: shade(a * a, n, g),
        "light kept within 10": under(lambda light: light.clamp(-10, 10)),
        "black skin shown as nearly black": with_(shade, a0=lambda a: a.clamp(min=0.01)),
        "albedo by a logarithm, nan at black": with_(shade, a0=logged),
        "albedo by a root, nan at black": with_(shade, a0=rooted),
        "light by a root, nan at 0": with_(shade, a2=rooted),
        "no gradient to black skin": with_(shade, a0=lambda a: torch.where(a == 0, a.detach(), a)),
        "no gradient to light of 0": with_(shade, a2=lambda g: torch.where(g == 0, g.detach(), g)),
        "black skin's light without gradient": lambda a, n, g: torch.where(
            a == 0, 0, shade(a, n, g)
        ),
        "the first 1,000 vertices": first(1000, shade),
        "float32 always": single(shade),
        "axes of length 1 lost": squeezed(shade),
        "views of the arguments": viewed(shade),
        "half precision": halved(shade),
        "no gradient to the light": under(lambda light: light.detach()),
    },
    "light_from_colours": {
        "ridge fixed": solved(ridge=1e-3),
        "ridge squared": solved(ridge=lambda came: came["ridge"] ** 2),
        "ridge towards a first row of 1": solved(prior=torch.eye(9, 3)[:, :1].expand(1, 9, 3)),
        "weights divided by their sum over the batch": lambda a, n, c, w, ridge=1e-3: ridge_times(
            lambda own: w.sum() / own.sum(-1)
        )(a, n, c, w, ridge),
        "colours divided by the albedo": solved(  # dark vertices get too large a say
            albedo=lambda came: torch.ones_like(came["albedo"]),
            colours=lambda came: came["colours"] / came["albedo"],
        ),
        "one albedo for all channels": solved(
            albedo=lambda came: came["albedo"].mean(-1, keepdim=True).expand_as(came["albedo"])
        ),
        "the first face's light for all": lambda *a, **k: solved()(*a, **k)[:1].expand(
            len(a[0]), 9, 3
        ),
        "whatever the colours": lambda a, *rest: ambient_lighting(len(a), dtype=a.dtype),
        "transposed": lambda *arguments: solved()(*arguments).mT,
        "the batch as one face": one_face_of_all,
        "weights of 0 and 1": solved(weights=lambda came: came["weights"].sign()),
        "another ridge where none is given": lambda a, n, c, w, r=1e-2: solved()(a, n, c, w, r),
        "the ridge spares the first row": ridge_spares_first,
        "ridges from 0.0001": solved(ridge=lambda came: max(came["ridge"], 1e-4)),
        "ridges up to 1": solved(ridge=lambda came: min(came["ridge"], 1)),
        "divided by a sum of at least 1": ridge_times(lambda w: w.sum(-1).clamp(min=1) / w.sum(-1)),
        "divided by a little more than the sum": ridge_times(lambda w: 1 + 1e-4 / w.sum(-1)),
        "weights up to 1": solved(weights=lambda came: came["weights"].clamp(max=1)),
        "weights in tenths": solved(weights=lambda came: came["weights"].mul(10).round()),
        "a little weight for the hidden": solved(weights=lambda came: came["weights"] + 1e-4),
        "the first face's weights for all": solved(
            weights=lambda came: came["weights"][:1].expand_as(came["weights"])
        ),
        "colours kept from 0 to 1": solved(colours=lambda came: came["colours"].clamp(0, 1)),
        "no skin is black": solved(albedo=lambda came: came["albedo"].clamp(min=0.05)),
        "black skin left out": solved(
            weights=lambda came: came["weights"] * (came["albedo"] > 0).all(-1)
        ),
        "the first 512 vertices": lambda *a: solved()(*(x[:, :512] for x in a[:4]), *a[4:]),
        "float32 always": single(solved()),
        "axes of length 1 lost": squeezed(solved()),
        "views of the arguments": viewed(solved()),
        "kept by size": cached(solved()),
        "half precision": halved(solved()),
    },
    "same_picture": {
        "light as it was": lambda a, g, f: (a * f[:, None], g),
        "only the ambient row dimmed": lambda a, g, f: (
            a * f[:, None],
            torch.cat([g[:, :1] / f[:, None], g[:, 1:]], 1),
        ),
        "no axis for the vertices": lambda a, g, f: (a * f, g / f),
        "skin clamped": lambda a, g, f: ((a * f[:, None]).clamp(0, 1), g / f[:, None]),
        "added, not multiplied": lambda a, g, f: (a + f[:, None], g - f[:, None]),
        "the light by the mean": lambda a, g, f: (a * f[:, None], g / f.mean(-1)[:, None, None]),
        "the skin alone": lambda a, g, f: a * f[:, None],
        "factors from 0.1 to 10": factors(lambda f: f.clamp(0.1, 10)),
        "a little added below": lambda a, g, f: (a * f[:, None], g / (f[:, None] + 1e-4)),
        "skin no darker than 0.01": lambda a, g, f: (
            (a * f[:, None]).clamp(min=0.01),
            g / f[:, None],
        ),
        "skin up to 10": lambda a, g, f: ((a * f[:, None]).clamp(max=10), g / f[:, None]),
        "light up to 20": lambda a, g, f: (a * f[:, None], (g / f[:, None]).clamp(-20, 20)),
        "the first 1,000 vertices": lambda a, g, f: (
            torch.cat([a[:, :1000] * f[:, None], a[:, 1000:]], 1),
            g / f[:, None],
        ),
        "factors in tenths": factors(lambda f: f.mul(10).round().clamp(min=1) / 10),
        "axes of length 1 lost": squeezed(factors(lambda f: f)),
        "views of the arguments": viewed(factors(lambda f: f)),
        "kept by size": cached(factors(lambda f: f)),
        "half precision": halved(factors(lambda f: f)),
    },
    "turn_light": {
        "not turned": turned_by(end=lambda new, old: old),
        "mirrored": turned_by(rotation=lambda r: -r),
        "turned twice": turned_by(rotation=lambda r: r @ r),
        "the mean rotation": turned_by(rotation=lambda r: r.mean(0, True).expand_as(r)),
        "the last rotation": turned_by(rotation=lambda r: r[-1:].expand_as(r)),
        "the first light for all": turned_by(light=one_of),
        "one grey light": turned_by(light=lambda g: g.mean(-1, True).expand_as(g)),
        "three colours at most": turned_by(end=lambda new, old: new[..., :3]),
        "band 2 lost": turned_by(light=lambda g: torch.cat([g[:, :4], 0 * g[:, 4:]], 1)),
        "only 3 z^2 - 1 stays": turned_by(
            end=lambda new, old: new * (torch.arange(9) < 7)[:, None]
        ),
        "the constant function lost": turned_by(light=lambda g: g * (torch.arange(9) > 0)[:, None]),
        "directions on a half circle": turned_by(
            directions=F.normalize(
                torch.tensor([[math.cos(t), 0.5, math.sin(t)] for t in range(9)])
            )
        ),
        "eight directions": turned_by(directions=unit_vectors(8)),
        "a ridge": turned_roughly,
        "about y alone": turned_by(
            rotation=lambda r: (
                r * torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
                + torch.diag(torch.tensor([0.0, 1, 0]))
            )
        ),
        "small turns left out": lambda g, r: torch.where(
            (r - torch.eye(3)).norm(dim=(1, 2))[:, None, None] < 0.1, g, turn_lighting(g, r)
        ),
        "light from 0 up": turned_by(light=lambda g: g.clamp(min=0)),
        "light within 20": turned_by(light=lambda g: g.clamp(-20, 20)),
        "no gradient to the light": turned_by(light=lambda g: g.detach()),
        "no gradient to the rotation": turned_by(rotation=lambda r: r.detach()),
        "light by a logarithm, nan at 0": with_(
            turn_lighting, a0=lambda g: logged(g - g[:1]) + g[:1]
        ),
        "lights kept": stale(turn_lighting, 0),
        "rotations kept": stale(turn_lighting, 1),
        "kept by size": cached(turn_lighting),
        "lights by view": viewed(turn_lighting, 0),
        "rotations by view": viewed(turn_lighting, 1),
        "float32 always": single(turn_lighting),
        "float64 always": lambda g, r: turn_lighting(g.double(), r),
        "half precision": halved(turn_lighting),
        "axes of length 1 lost": squeezed(turn_lighting),
    },
}

ALTERNATIVES = {
    "vertex_normals": {
        "in loops": normals_in_a_loop,
        "by an incidence matrix, from another corner": normals_by_matrix,
        "scatter_add_ in place": normals_in_place,
    },
    "sh_basis": {
        "normal by normal": basis_in_loops,
        "filled in, other forms of band 2": basis_by_filling,
    },
    "shade": {
        "einsum": lambda a, n, g: torch.einsum("bvc,bvk,bkc->bvc", a, sh_basis(n), g),
        "a loop over the functions": shade_in_loops,
        "a loop over the faces": shade_face_by_face,
    },
    "light_from_colours": {
        "stacked rows and lstsq": light_by_stacking,
        "numpy": light_by_numpy,
        "one system for all channels": light_by_one_system,
    },
    "same_picture": {
        "einsum": lambda a, g, f: (
            torch.einsum("bvc,bc->bvc", a, f),
            torch.einsum("bkc,bc->bkc", g, 1 / f),
        ),
        "in place, as a list": picture_in_place,
    },
    "turn_light": {
        "a vector and a matrix": turned_by_matrices,
        "least squares over 200 directions": turned_by_lstsq,
        "nine directions, light by light": turned_by_nine,
        "in place": turned_in_place,
    },
}
