"""Plausible mistakes in the exercises of notebook 13, and right answers written differently."""

import torch
import torch.nn.functional as F
from spoiled_answers import halved, one_of, single, squeezed, stale, viewed

from facerecon_lib.beyond import depth_maps, shading_depth
from facerecon_lib.course.nb13_wrinkles.checks import bands, heights, normals, residual
from facerecon_lib.face.camera import DEFAULT_FOV
from facerecon_lib.face.lighting import sh_basis


def normals_by_pixel(depth, mask, fov_deg=DEFAULT_FOV):
    points = depth * depth_maps.pixel_rays(depth.shape[-1], fov_deg, like=depth)
    out = []
    for p, m in zip(points, mask[:, 0], strict=True):
        padded, inside = F.pad(p, (1, 1, 1, 1)), F.pad(m, (1, 1, 1, 1))
        tangents = []
        for dy, dx in ((0, 1), (1, 0)):
            h, w = m.shape
            after = slice(1 + dy, 1 + dy + h), slice(1 + dx, 1 + dx + w)
            before = slice(1 - dy, 1 - dy + h), slice(1 - dx, 1 - dx + w)
            a, b = inside[after] * m, inside[before] * m
            total = (padded[(slice(None), *after)] - p) * a + (
                p - padded[(slice(None), *before)]
            ) * b
            tangents.append(total / (a + b).clamp(min=1))
        across, down = tangents
        n = torch.stack(
            [
                -(down[1] * across[2] - down[2] * across[1]),
                down[2] * across[0] - down[0] * across[2],
                -(down[0] * across[1] - down[1] * across[0]),
            ]
        )
        out.append(F.normalize(n, dim=0, eps=1e-9) * m)
    return torch.stack(out)


def loss_by_channel(depth, mask, photo, albedo, lighting):
    n = depth_maps.normals_from_depth(depth, mask).permute(0, 2, 3, 1)
    basis, total = sh_basis(n), 0.0
    for c in range(3):
        light = (basis * lighting[:, None, None, :, c]).sum(-1)
        total = total + ((albedo[:, c] * light - photo[:, c]) ** 2 * mask[:, 0]).sum() / 3
    return total / mask.sum().clamp(min=1)


def loss_by_mean(depth, mask, photo, albedo, lighting):
    n = depth_maps.normals_from_depth(depth, mask).flatten(2).mT
    light = (sh_basis(n) @ lighting).mT.unflatten(2, depth.shape[2:])
    error = (albedo * light - photo).pow(2) * mask
    return error.sum() / (3 * mask.sum()).clamp(min=1)


def bands_by_division(picture, mask, sigma):
    weight = shading_depth.smooth(mask, sigma)
    near = weight > 1e-6
    low = torch.where(near, shading_depth.smooth(mask * picture, sigma) / weight, 0.0)
    return low, torch.where(mask > 0, picture - low, 0.0)


def bands_by_channel(picture, mask, sigma):
    pairs = [bands()(picture[:, [c]], mask, sigma) for c in range(picture.shape[1])]
    return tuple(torch.cat(parts, 1) for parts in zip(*pairs, strict=True))


def heights_by_matrix(across, down, wanted, weight, stiff, near, rounds=60):
    answers = []
    for a, d, t, w in zip(across, down, wanted, weight, strict=True):
        eye = torch.eye(a.numel(), dtype=torch.float64).view(-1, 1, *a.shape[1:])
        dx, dy = (x.flatten(1).T for x in shading_depth.steps(eye))
        a, d, t, w = (x.double().flatten() for x in (a, d, t, w))
        rows = a[:, None] * dx + d[:, None] * dy
        form = rows.T @ (w[:, None] * rows) + stiff * (dx.T @ dx + dy.T @ dy)
        form = form + near * torch.eye(len(a), dtype=torch.float64)
        answers.append(torch.linalg.solve(form, rows.T @ (w * t)).view(across.shape[1:]))
    return torch.stack(answers).to(across)


def heights_by_gradient(across, down, wanted, weight, stiff, near, rounds=60):
    """Conjugate gradients whose product is autograd's."""

    def gradient(h, target):
        with torch.enable_grad():
            h = h.detach().requires_grad_()
            dx, dy = shading_depth.steps(h)
            cost = weight * (across * dx + down * dy - target).square()
            cost = cost + stiff * (dx.square() + dy.square()) + near * h.square()
            return torch.autograd.grad(cost.sum() / 2, h)[0]

    def dot(x, y):
        return (x * y).sum((1, 2, 3), keepdim=True)

    h = torch.zeros_like(wanted)
    left = -gradient(h, wanted)
    way, size = left, dot(left, left)
    for _ in range(rounds):
        pulled = gradient(way, 0.0)
        far = size / dot(way, pulled).clamp(min=1e-30)
        h, left = h + far * way, left - far * pulled
        before, size = size, dot(left, left)
        way = left + size / before.clamp(min=1e-30) * way
    return h


SPLIT, SOLVE = shading_depth.split_bands, shading_depth.solve_heights
NORMALS = depth_maps.normals_from_depth

MUTANTS = {
    "normals_from_depth": {
        "always the usual camera": lambda d, m, fov=DEFAULT_FOV: NORMALS(d, m),
        "rows and columns exchanged": lambda d, m, fov=DEFAULT_FOV: NORMALS(d.mT, m.mT, fov).mT,
        "y points down": normals(axes=(-1.0, -1.0, -1.0)),
        "no z in the points": normals(
            rays=lambda d, fov: (
                depth_maps.pixel_rays(d.shape[-1], fov, like=d)
                * d.new_tensor([1.0, 1.0, 0.0])[:, None, None]
            )
        ),
        "depth cut from the graph in the rays": lambda d, m, fov=DEFAULT_FOV: NORMALS(
            d.detach() + 0.5 * (d - d.detach()), m, fov
        ),
        "one face for all": lambda d, m, fov=DEFAULT_FOV: NORMALS(one_of(d), m, fov),
        "one mask for all": lambda d, m, fov=DEFAULT_FOV: NORMALS(d, one_of(m), fov),
        "view": viewed(NORMALS, 0, 1),
        "squeezed": squeezed(NORMALS),
        "depth cached": stale(NORMALS, 0),
        "half": halved(NORMALS),
    },
    "shading_loss": {
        "photo and albedo exchanged": lambda d, m, p, a, g: residual()(d, m, a, p, g),
        "one light for all": lambda d, m, p, a, g: residual()(d, m, p, a, one_of(g)),
        "one photo for all": lambda d, m, p, a, g: residual()(d, m, one_of(p), a, g),
        "mean of the faces' means": lambda d, m, p, a, g: torch.stack(
            [residual()(*(x[i : i + 1] for x in (d, m, p, a, g))) for i in range(len(d))]
        ).mean(),
        "0 / 0 of an empty mask": residual(mean=lambda c, m: (c * m).sum() / m.sum()),
        "clamped to a picture": residual(
            lambda n, g: torch.einsum("bhwk,bkc->bchw", sh_basis(n.permute(0, 2, 3, 1)), g).clamp(
                max=1
            )
        ),
        "without the second band": residual(
            lambda n, g: torch.einsum(
                "bhwk,bkc->bchw", sh_basis(n.permute(0, 2, 3, 1))[..., :4], g[:, :4]
            )
        ),
        "root of the mean": lambda *x: residual()(*x).sqrt(),
        "single": single(residual()),
        "view": viewed(residual(), 0, 2, 3),
        "half": halved(residual()),
    },
    "split_bands": {
        "one picture for all": lambda p, m, s: SPLIT(one_of(p), m, s),
        "one mask for all": lambda p, m, s: SPLIT(p, one_of(m), s),
        "twice the sigma": lambda p, m, s: SPLIT(p, m, 2 * s),
        "sigma for a variance": lambda p, m, s: SPLIT(p, m, s**0.5),
        "low band only in the mask": bands(low_end=lambda low, m, s: low * (m > 0)),
        "high band times the mask": bands(high=lambda p, low, m: (p - low) * m),
        "a hard mask": lambda p, m, s: SPLIT(p, (m > 0.5).to(p.dtype), s),
        "clamped to 0 and 1": lambda p, m, s: SPLIT(p.clamp(0, 1), m, s),
        "view": viewed(SPLIT, 0, 1),
        "squeezed": squeezed(SPLIT),
        "single": single(SPLIT),
    },
    "solve_heights": {
        "across and down exchanged": lambda a, d, t, w, s, n, r=60: SOLVE(d, a, t, w, s, n, r),
        "stiff twice": heights(stiff_of=lambda s: 2 * s),
        "near twice": heights(near_of=lambda n: 2 * n),
        "three rounds": lambda a, d, t, w, s, n, r=60: SOLVE(a, d, t, w, s, n, 3),
        "one weight for all": lambda a, d, t, w, s, n, r=60: SOLVE(a, d, t, one_of(w), s, n, r),
        "one slope for all": lambda a, d, t, w, s, n, r=60: SOLVE(one_of(a), d, t, w, s, n, r),
        "moved to a mean of 0": lambda a, d, t, w, s, n, r=60: SOLVE(a, d, t, w, s, n, r) + 0.05,
        "view": viewed(SOLVE, 0, 1, 2, 3),
        "single": single(SOLVE),
        "squeezed": squeezed(SOLVE),
    },
}
ALTERNATIVES = {
    "normals_from_depth": {
        "face by face": normals_by_pixel,
        "by rolling": normals(),
        "length by hand": normals(
            end=lambda n, m: n / (n.square().sum(1, keepdim=True) + 1e-30).sqrt() * m
        ),
    },
    "shading_loss": {
        "channel by channel": loss_by_channel,
        "pixels as vertices": loss_by_mean,
        "the stand-in": residual(),
    },
    "split_bands": {
        "where": bands_by_division,
        "channel by channel": bands_by_channel,
        "by parts": bands(),
    },
    "solve_heights": {
        "a matrix": heights_by_matrix,
        "autograd": heights_by_gradient,
        "the library's": SOLVE,
    },
}
WITHOUT_GRADIENT = {"split_bands", "solve_heights"}
