"""Plausible mistakes in the exercises of notebook 03, and right answers written otherwise."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from facerecon_lib.lighting import ambient_lighting, solve_lighting
from facerecon_lib.lighting import sh_basis as library_basis
from facerecon_lib.lighting import shade as library_shade
from facerecon_lib.mesh import face_normals
from facerecon_lib.mesh import vertex_normals as library_normals

C0, C1, C2, C20 = (math.sqrt(n / (4 * math.pi)) for n in (1, 3, 15, 1.25))

# Normals ----------------------------------------------------------------------------------------


def crosses(vertices, faces):
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    return torch.linalg.cross(b - a, c - a)


def summed(vertices, faces, values):
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(1, faces[:, i], values)
    return total


def inward(vertices, faces):
    return F.normalize(-summed(vertices, faces, crosses(vertices, faces)), dim=-1)


def not_unit(vertices, faces):
    return summed(vertices, faces, crosses(vertices, faces))


def mean_of_crosses(vertices, faces):
    total = summed(vertices, faces, crosses(vertices, faces))
    count = torch.bincount(faces.reshape(-1), minlength=vertices.shape[1]).clamp(min=1)
    return total / count[:, None]


def unweighted(vertices, faces):
    return F.normalize(summed(vertices, faces, face_normals(vertices, faces)), dim=-1)


def last_triangle_only(vertices, faces):
    total, cross = torch.zeros_like(vertices), crosses(vertices, faces)
    for i in range(3):
        total[:, faces[:, i]] += cross
    return F.normalize(total, dim=-1)


def first_corner_only(vertices, faces):
    total = torch.zeros_like(vertices).index_add(1, faces[:, 0], crosses(vertices, faces))
    return F.normalize(total, dim=-1)


def normalised_over_vertices(vertices, faces):
    return F.normalize(summed(vertices, faces, crosses(vertices, faces)), dim=1)


def one_normal_a_triangle(vertices, faces):
    return face_normals(vertices, faces)


def normals_of_first_mesh(vertices, faces):
    return library_normals(vertices[:1], faces).expand(len(vertices), -1, -1)


def away_from_the_middle(vertices, faces):
    return F.normalize(vertices - vertices.mean(1, keepdim=True), dim=-1)


def nan_at_lonely_vertices(vertices, faces):
    total = summed(vertices, faces, crosses(vertices, faces))
    return total / total.norm(dim=-1, keepdim=True)


def detached_normals(vertices, faces):
    return library_normals(vertices.detach(), faces)


def with_wrong_corner(vertices, faces):
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    return F.normalize(
        summed(vertices, faces, torch.linalg.cross(b - a, c - vertices[:, :1])), dim=-1
    )


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
    return F.normalize(
        summed(vertices, faces, cross / cross.norm(dim=-1, keepdim=True).sqrt()), dim=-1
    )


def not_unit_when_small(vertices, faces):
    total = not_unit(vertices, faces)
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1.0)


def detached_length(vertices, faces):
    total = not_unit(vertices, faces)
    return total / total.norm(dim=-1, keepdim=True).detach().clamp(min=1e-12)


def named_vertices_only(vertices, faces):
    return library_normals(vertices[:, : int(faces.max()) + 1], faces)


def constant_normals(vertices, faces):
    normals = torch.zeros_like(vertices)
    normals[..., 2] = 1
    return normals


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
    total = torch.zeros_like(vertices)
    total.scatter_add_(
        1, faces.T.reshape(1, -1, 1).expand(len(vertices), -1, 3), cross.repeat(1, 3, 1)
    )
    return F.normalize(total, dim=2)


# The basis --------------------------------------------------------------------------------------


def basis(normals, c0=C0, c1=C1, c2=C2, c20=C20):
    x, y, z = normals.unbind(-1)
    band_2 = [c2 * x * y, c2 * y * z, c20 * (3 * z * z - 1), c2 * x * z, c2 / 2 * (x * x - y * y)]
    return torch.stack([torch.full_like(x, c0), c1 * y, c1 * z, c1 * x, *band_2], -1)


def changed(index, change):
    def mutant(normals):
        columns = list(library_basis(normals).unbind(-1))
        columns[index] = change(columns[index], *normals.unbind(-1))
        return torch.stack(columns, -1)

    return mutant


def reordered(*order):
    return lambda normals: library_basis(normals)[..., list(order)]


def condon_shortley(normals):
    return library_basis(normals) * torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1]).to(normals)


def with_lobes(normals):
    a = torch.tensor([math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5)
    return library_basis(normals) * a.to(normals)


def basis_in_loops(normals):
    flat = normals.reshape(-1, 3)
    rows = []
    for n in flat:
        x, y, z = n
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


# Eq. 3 ------------------------------------------------------------------------------------------


def light_alone(albedo, normals, lighting):
    return library_basis(normals) @ lighting


def clamped(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting).clamp(0, 1)


def clamped_at_zero(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting).clamp(min=0)


def first_light(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting[:1].expand_as(lighting))


def mean_light(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting.mean(0, keepdim=True).expand_as(lighting))


def grey_light(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting.mean(-1, keepdim=True).expand_as(lighting))


def light_reshaped(albedo, normals, lighting):
    return albedo * (library_basis(normals) @ lighting.reshape(-1, 3, 9).transpose(1, 2))


def added(albedo, normals, lighting):
    return albedo + library_basis(normals) @ lighting


def four_functions(albedo, normals, lighting):
    return albedo * (library_basis(normals)[..., :4] @ lighting[:, :4])


def eight_functions(albedo, normals, lighting):
    return albedo * (library_basis(normals)[..., 1:] @ lighting[:, 1:])


def mean_over_nine(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting) / 9


def flipped_normals(albedo, normals, lighting):
    return library_shade(albedo, -normals, lighting)


def summed_over_colours(albedo, normals, lighting):
    return (library_basis(normals) @ lighting).sum(-1)[..., None] * albedo


def squared_albedo(albedo, normals, lighting):
    return library_shade(albedo * albedo, normals, lighting)


def detached_light(albedo, normals, lighting):
    return library_shade(albedo, normals, lighting.detach())


def shade_by_einsum(albedo, normals, lighting):
    return torch.einsum("bvc,bvk,bkc->bvc", albedo, library_basis(normals), lighting)


def shade_in_loops(albedo, normals, lighting):
    total = torch.zeros_like(albedo)
    values = library_basis(normals)
    for k in range(9):
        total = total + values[:, :, k, None] * lighting[:, None, k]
    return total * albedo


def shade_face_by_face(albedo, normals, lighting):
    faces = [a * (library_basis(n) @ g) for a, n, g in zip(albedo, normals, lighting, strict=True)]
    return torch.stack(faces)


# Light from colours -----------------------------------------------------------------------------


def no_weights(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, None, ridge=ridge)


def no_ridge(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, weights, ridge=1e-9)


def fixed_ridge(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, weights, ridge=1e-3)


def towards_darkness(albedo, normals, colours, weights, ridge=1e-3):
    prior = torch.zeros(1, 9, 3).to(albedo)
    return solve_lighting(albedo, normals, colours, weights, prior=prior, ridge=ridge)


def towards_one(albedo, normals, colours, weights, ridge=1e-3):
    prior = torch.zeros(1, 9, 3).to(albedo)
    prior[:, 0] = 1  # forgot sqrt(4 pi)
    return solve_lighting(albedo, normals, colours, weights, prior=prior, ridge=ridge)


def sum_for_mean(albedo, normals, colours, weights, ridge=1e-3):
    each = [
        solve_lighting(a[None], n[None], c[None], w[None], ridge=ridge / float(w.sum()))
        for a, n, c, w in zip(albedo, normals, colours, weights, strict=True)
    ]
    return torch.cat(each)


def divided_by_vertices(albedo, normals, colours, weights, ridge=1e-3):
    each = [
        solve_lighting(a[None], n[None], c[None], w[None], ridge=ridge * len(w) / float(w.sum()))
        for a, n, c, w in zip(albedo, normals, colours, weights, strict=True)
    ]
    return torch.cat(each)


def weights_squared(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, weights**2, ridge=ridge)


def weights_over_the_batch(albedo, normals, colours, weights, ridge=1e-3):
    shares = weights.sum(-1) / weights.sum()
    each = [
        solve_lighting(a[None], n[None], c[None], w[None], ridge=ridge / float(s))
        for a, n, c, w, s in zip(albedo, normals, colours, weights, shares, strict=True)
    ]
    return torch.cat(each)


def white_albedo(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(torch.ones_like(albedo), normals, colours, weights, ridge=ridge)


def divided_colours(albedo, normals, colours, weights, ridge=1e-3):
    # least squares of colours / albedo: dark vertices get too large a say
    return solve_lighting(torch.ones_like(albedo), normals, colours / albedo, weights, ridge=ridge)


def one_albedo_for_all(albedo, normals, colours, weights, ridge=1e-3):
    grey = albedo.mean(-1, keepdim=True).expand_as(albedo)
    return solve_lighting(grey, normals, colours, weights, ridge=ridge)


def light_of_first_face(albedo, normals, colours, weights, ridge=1e-3):
    found = solve_lighting(albedo, normals, colours, weights, ridge=ridge)
    return found[:1].expand_as(found)


def ambient_always(albedo, normals, colours, weights, ridge=1e-3):
    return ambient_lighting(len(albedo), dtype=albedo.dtype)


def transposed_light(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, weights, ridge=ridge).transpose(1, 2)


def change_alone(albedo, normals, colours, weights, ridge=1e-3):
    found = solve_lighting(albedo, normals, colours, weights, ridge=ridge)
    return found - ambient_lighting(1, dtype=albedo.dtype)


def ambient_twice(albedo, normals, colours, weights, ridge=1e-3):
    """delta's equations with c on the right, for c - R gamma_0."""
    zero = torch.zeros(1, 9, 3).to(albedo)
    found = solve_lighting(albedo, normals, colours, weights, prior=zero, ridge=ridge)
    return found + ambient_lighting(1, dtype=albedo.dtype)


def one_face_of_all(albedo, normals, colours, weights, ridge=1e-3):
    flat = [t.reshape(1, -1, 3) for t in (albedo, normals, colours)]
    found = solve_lighting(*flat, weights.reshape(1, -1), ridge=ridge)
    return found.expand(len(albedo), -1, -1)


def zero_or_one(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, (weights > 0).to(weights), ridge=ridge)


def other_default(albedo, normals, colours, weights, ridge=1e-2):
    return solve_lighting(albedo, normals, colours, weights, ridge=ridge)


def ridge_spares_first(albedo, normals, colours, weights, ridge=1e-3):
    w = (weights / weights.sum(1, keepdim=True))[..., None]
    pull = ridge * torch.eye(9).to(albedo)
    pull[0, 0] = 0
    each = []
    for k in range(3):
        rows = albedo[..., k : k + 1] * library_basis(normals)
        right = rows.mT @ (w * colours[..., k : k + 1])
        each.append(torch.linalg.solve(rows.mT @ (w * rows) + pull, right))
    return torch.cat(each, -1)


def ridge_squared(albedo, normals, colours, weights, ridge=1e-3):
    return solve_lighting(albedo, normals, colours, weights, ridge=ridge**2)


def light_by_stacking(albedo, normals, colours, weights, ridge=1e-3):
    """Rows of the ridge under those of the data, and one least-squares call."""
    start = ambient_lighting(1, dtype=albedo.dtype)[0]
    root = (weights / weights.sum(-1, keepdim=True)).sqrt()[..., None]
    each = []
    for k in range(3):
        rows = root * albedo[..., k : k + 1] * library_basis(normals)
        below = math.sqrt(ridge) * torch.eye(9).to(rows).expand(len(rows), -1, -1)
        right = root * colours[..., k : k + 1]
        pull = math.sqrt(ridge) * start[:, k : k + 1].expand(len(rows), -1, -1)
        each.append(torch.linalg.lstsq(torch.cat([rows, below], 1), torch.cat([right, pull], 1)))
    return torch.cat([found.solution for found in each], -1)


def light_by_numpy(albedo, normals, colours, weights, ridge=1e-3):
    out = np.zeros((len(albedo), 9, 3))
    for b in range(len(albedo)):
        values = library_basis(normals[b].double()).numpy()
        w = weights[b].double().numpy()
        w = w / w.sum()
        for k in range(3):
            rows = albedo[b, :, k].double().numpy()[:, None] * values
            start = np.zeros(9)
            start[0] = math.sqrt(4 * math.pi)
            left = rows.T @ np.diag(w) @ rows + ridge * np.eye(9)
            right = rows.T @ (w * colours[b, :, k].double().numpy()) + ridge * start
            out[b, :, k] = np.linalg.solve(left, right)
    return torch.from_numpy(out).to(albedo.dtype)


def light_by_one_system(albedo, normals, colours, weights, ridge=1e-3):
    """All channels at once by einsum, the ambient light on the right side."""
    w = weights / weights.sum(1, keepdim=True)
    rows = albedo[..., None] * library_basis(normals)[..., None, :]  # (b, v, c, k)
    left = torch.einsum("bv,bvck,bvcj->bckj", w, rows, rows)
    left = left + ridge * torch.eye(9).to(rows)
    right = torch.einsum("bv,bvck,bvc->bck", w, rows, colours)
    right[..., 0] += ridge * math.sqrt(4 * math.pi)
    return torch.linalg.solve(left, right[..., None])[..., 0].transpose(1, 2)


# The counterfeit --------------------------------------------------------------------------------


def swapped(albedo, lighting, factor):
    return lighting / factor[:, None], albedo * factor[:, None]


def other_way(albedo, lighting, factor):
    return albedo / factor[:, None], lighting * factor[:, None]


def both_brighter(albedo, lighting, factor):
    return albedo * factor[:, None], lighting * factor[:, None]


def light_kept(albedo, lighting, factor):
    return albedo * factor[:, None], lighting


def ambient_only(albedo, lighting, factor):
    light = lighting.clone()
    light[:, 0] = light[:, 0] / factor
    return albedo * factor[:, None], light


def without_axis(albedo, lighting, factor):
    return albedo * factor, lighting / factor


def one_factor_for_all(albedo, lighting, factor):
    return albedo * factor[0], lighting / factor[0]


def grey_factor(albedo, lighting, factor):
    s = factor.mean(-1, keepdim=True)[:, None]
    return albedo * s, lighting / s


def nothing_changed(albedo, lighting, factor):
    return albedo, lighting


def clamped_skin(albedo, lighting, factor):
    return (albedo * factor[:, None]).clamp(0, 1), lighting / factor[:, None]


def picture_by_einsum(albedo, lighting, factor):
    return torch.einsum("bvc,bc->bvc", albedo, factor), torch.einsum(
        "bkc,bc->bkc", lighting, 1 / factor
    )


def picture_in_place(albedo, lighting, factor):
    for b in range(len(albedo)):
        albedo[b] *= factor[b]
        lighting[b] /= factor[b]
    return [albedo, lighting]


MUTANTS = {
    "vertex_normals": {
        "the sides of the cross product swapped": inward,
        "not normalised": not_unit,
        "divided by the number of triangles instead of the length": mean_of_crosses,
        "triangles' normals normalised before the sum": unweighted,
        "total[:, index] += x, which adds one triangle a vertex": last_triangle_only,
        "only the first corner of each triangle": first_corner_only,
        "normalised over the vertices": normalised_over_vertices,
        "one normal a triangle": one_normal_a_triangle,
        "the first mesh's normals for all": normals_of_first_mesh,
        "away from the mesh's middle": away_from_the_middle,
        "nan where no triangle is": nan_at_lonely_vertices,
        "no gradient": detached_normals,
        "a corner of another triangle": with_wrong_corner,
        "a constant": constant_normals,
        "weighted by the corners' angles": by_angle,
        "weighted by the square root of the area": by_root_of_area,
        "divided by a length of at least 1": not_unit_when_small,
        "the length detached": detached_length,
        "as many vertices as the triangles name": named_vertices_only,
    },
    "sh_basis": {
        "Condon-Shortley signs": condon_shortley,
        "band 1 as x, y, z": reordered(0, 3, 1, 2, 4, 5, 6, 7, 8),
        "band 2 with m = 0 first": reordered(0, 1, 2, 3, 6, 5, 7, 4, 8),
        "all functions in reverse order": reordered(8, 7, 6, 5, 4, 3, 2, 1, 0),
        "times the factors of the cosine": with_lobes,
        "x^2 - y^2 not halved": changed(8, lambda v, x, y, z: 2 * v),
        "y^2 - x^2": changed(8, lambda v, x, y, z: -v),
        "z^2 - 1 for 3 z^2 - 1": changed(6, lambda v, x, y, z: C20 * (z * z - 1)),
        "3 z^2 without minus 1": changed(6, lambda v, x, y, z: C20 * 3 * z * z),
        "the constant of xy for 3 z^2 - 1": changed(6, lambda v, x, y, z: v * C2 / C20),
        "a constant of 1": changed(0, lambda v, x, y, z: torch.ones_like(x)),
        "not normalised": lambda n: basis(n, 1.0, 1.0, 1.0, 1.0),
        "normalised to a mean square of 1": lambda n: library_basis(n) * math.sqrt(4 * math.pi),
        "the third digit of band 1 wrong": lambda n: basis(n, c1=0.482),
        "xz and yz swapped": reordered(0, 1, 2, 3, 4, 7, 6, 5, 8),
        "pi under the root's wrong side": lambda n: library_basis(n) * math.pi,
        "the table's rounded constants": lambda n: basis(n, 0.282, 0.489, 1.093, 0.315),
        "y and z swapped": lambda n: library_basis(n[..., [0, 2, 1]]),
        "float32 always": lambda n: library_basis(n.float()),
        "two axes only": lambda n: library_basis(n.reshape(-1, 3)),
        "four functions": lambda n: library_basis(n)[..., :4],
        "stacked along the wrong axis": lambda n: library_basis(n).movedim(-1, 0),
        "no gradient": lambda n: library_basis(n.detach()),
    },
    "shade": {
        "no albedo": light_alone,
        "clamped": clamped,
        "clamped at zero": clamped_at_zero,
        "the first face's light for all": first_light,
        "the mean light of the batch": mean_light,
        "light averaged over colours": grey_light,
        "light laid out colour by colour": light_reshaped,
        "albedo plus light": added,
        "four functions": four_functions,
        "clamped from above": lambda a, n, g: library_shade(a, n, g).clamp(max=1),
        "the absolute value": lambda a, n, g: library_shade(a, n, g).abs(),
        "the colours of the light in reverse": lambda a, n, g: library_shade(a, n, g.flip(-1)),
        "one albedo a face": lambda a, n, g: library_shade(
            a.mean(1, keepdim=True).expand_as(a), n, g
        ),
        "no gradient to the normals": lambda a, n, g: library_shade(a, n.detach(), g),
        "the constant function left out": eight_functions,
        "a mean over the nine": mean_over_nine,
        "normals that point inwards": flipped_normals,
        "light summed over colours": summed_over_colours,
        "albedo twice": squared_albedo,
        "no gradient to the light": detached_light,
    },
    "light_from_colours": {
        "weights not used": no_weights,
        "ridge not used": no_ridge,
        "ridge fixed": fixed_ridge,
        "ridge squared": ridge_squared,
        "ridge towards darkness": towards_darkness,
        "ridge towards a first row of 1": towards_one,
        "squared errors summed": sum_for_mean,
        "divided by the number of vertices": divided_by_vertices,
        "weights squared": weights_squared,
        "weights divided by their sum over the batch": weights_over_the_batch,
        "albedo of 1": white_albedo,
        "colours divided by the albedo": divided_colours,
        "one albedo for all channels": one_albedo_for_all,
        "the first face's light for all": light_of_first_face,
        "ambient light, whatever the colours": ambient_always,
        "transposed": transposed_light,
        "the change without the ambient light": change_alone,
        "the ambient light twice": ambient_twice,
        "the batch as one face": one_face_of_all,
        "weights of 0 and 1": zero_or_one,
        "another ridge where none is given": other_default,
        "the ridge spares the first row": ridge_spares_first,
    },
    "same_picture": {
        "light before skin": swapped,
        "skin darker, light brighter": other_way,
        "both brighter": both_brighter,
        "light as it was": light_kept,
        "only the ambient row dimmed": ambient_only,
        "no axis for the vertices": without_axis,
        "the first face's factor for all": one_factor_for_all,
        "one grey factor": grey_factor,
        "nothing changed": nothing_changed,
        "skin clamped": clamped_skin,
        "added, not multiplied": lambda a, g, f: (a + f[:, None], g - f[:, None]),
        "the light by the factors' mean": lambda a, g, f: (
            a * f[:, None],
            g / f.mean(-1)[:, None, None],
        ),
        "half of the factor on each side": lambda a, g, f: (
            a * f[:, None].sqrt(),
            g / f[:, None].sqrt(),
        ),
        "the faces' factors in reverse": lambda a, g, f: (
            a * f.flip(0)[:, None],
            g / f.flip(0)[:, None],
        ),
        "the skin alone": lambda a, g, f: a * f[:, None],
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
        "einsum": shade_by_einsum,
        "a loop over the functions": shade_in_loops,
        "a loop over the faces": shade_face_by_face,
    },
    "light_from_colours": {
        "stacked rows and lstsq": light_by_stacking,
        "numpy": light_by_numpy,
        "one system for all channels": light_by_one_system,
    },
    "same_picture": {"einsum": picture_by_einsum, "in place, as a list": picture_in_place},
}
