"""Notebook 01: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math

import numpy as np
import torch

from facerecon_lib.course.nb01_morphable_model.checks import (
    changed_pca,
    distance_measured,
    distances,
    gap,
    gap_measured,
    noise_of,
)
from facerecon_lib.course.nb01_morphable_model.checks import library_face_shape as shape
from facerecon_lib.course.nb01_morphable_model.checks import library_fit as fit
from facerecon_lib.course.nb01_morphable_model.checks import library_generalisation as error
from facerecon_lib.course.nb01_morphable_model.checks import library_pca as right_pca


def _pca_covariance(samples, modes):
    mean = samples.mean(0)
    x = (samples - mean).flatten(1)
    values, vectors = torch.linalg.eigh(x.T @ x / (len(x) - 1))
    deviation = values.flip(0)[:modes].clamp_min(0).sqrt()
    basis = (vectors.flip(1)[:, :modes] * deviation).T
    return mean, basis.unflatten(1, samples.shape[1:]), deviation


def _pca_full_matrices(samples, modes):
    torch.linalg.svd((samples - samples.mean(0)).flatten(1), full_matrices=True)
    return right_pca(samples, modes)


def _pca_numpy_covariance(samples, modes):
    np.linalg.eigh(np.cov(samples.numpy().reshape(len(samples), -1).T))
    return right_pca(samples, modes)


def _pca_small_matrix(samples, modes):
    mean = samples.mean(0)
    x = (samples - mean).flatten(1)
    values, vectors = torch.linalg.eigh(x @ x.T / (len(x) - 1))
    order = values.argsort(descending=True)[:modes]
    deviation = values[order].clamp_min(0).sqrt()
    basis = torch.nn.functional.normalize(vectors[:, order].T @ x, dim=1) * deviation[:, None]
    return mean, basis.reshape(modes, *samples.shape[1:]), deviation


def _pca_numpy(samples, modes):
    x = samples.numpy().reshape(len(samples), -1).astype(np.float64)
    _, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    s, shape = s / np.sqrt(len(x) - 1), samples.shape[1:]
    parts = x.mean(0).reshape(shape), (s[:, None] * v)[:modes].reshape(modes, *shape), s[:modes]
    return tuple(torch.from_numpy(p.copy()).to(samples.dtype) for p in parts)


def _pca_in_place(samples, modes):
    mean = samples.mean(0)
    samples -= mean
    _, s, v = torch.linalg.svd(samples.reshape(len(samples), -1), full_matrices=False)
    v *= -1
    s /= (len(samples) - 1) ** 0.5
    v *= s[:, None]
    return [mean, v[:modes].view(modes, -1, 3), s[:modes]]


def _pca_over_vertices(samples, modes):
    mean = samples.mean(1)
    x = (samples - mean[:, None]).flatten(1)
    _, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / math.sqrt(len(samples) - 1)
    return samples.mean(0), (s[:, None] * v).unflatten(1, samples.shape[1:])[:modes], s[:modes]


def _shape_loops(mean, ai, ae, ci, ce):
    faces = []
    for a, e in zip(ci, ce, strict=True):
        p = mean.clone()
        for weights, basis in ((a, ai), (e, ae)):
            for weight, mode in zip(weights, basis, strict=True):
                p += weight * mode
        faces.append(p)
    return torch.stack(faces)


def _shape_joined(mean, ai, ae, ci, ce):
    basis = torch.cat([ai, ae]).reshape(len(ai) + len(ae), -1)
    return (mean.reshape(1, -1) + torch.cat([ci, ce], 1) @ basis).reshape(len(ci), -1, 3)


def _fit_normal_equations(faces, mean, basis, noise=0.0):
    rows = basis.flatten(1)
    gram = rows @ rows.T + noise**2 * torch.eye(len(rows)).to(rows)
    return torch.linalg.solve(gram, rows @ (faces - mean).flatten(1).T).T


def _fit_stacked(faces, mean, basis, noise=0.0):
    """The prior as more rows of an ordinary least-squares problem."""
    rows = basis.flatten(1).double().T
    modes = rows.shape[1] if noise else 0
    rows = torch.cat([rows, noise * torch.eye(modes, rows.shape[1], dtype=torch.float64)])
    right = torch.nn.functional.pad((faces - mean).flatten(1).double(), (0, modes))
    return torch.linalg.lstsq(rows, right.T).solution.T.to(faces.dtype)


def _fit_svd(faces, mean, basis, noise=0.0):
    u, s, v = torch.linalg.svd(basis.flatten(1), full_matrices=False)
    gain = torch.where(s > 1e-6, s / (s**2 + noise**2), torch.zeros_like(s))
    return ((faces - mean).flatten(1) @ v.T * gain) @ u.T


def _fit_inverse(faces, mean, basis, noise=0.0):
    a = basis.reshape(len(basis), -1)
    inverse = torch.inverse(a @ a.T + noise**2 * torch.eye(len(a), dtype=a.dtype))
    return torch.stack([inverse @ (a @ (f - mean).reshape(-1)) for f in faces])


def _error_by_pseudo_inverse(faces, mean, basis, modes):
    rows = basis[:modes].flatten(1)
    rebuilt = (faces - mean).flatten(1) @ torch.linalg.pinv(rows) @ rows
    return (mean + rebuilt.unflatten(1, mean.shape) - faces).norm(dim=-1).mean()


def _error_projected(faces, mean, basis, modes):
    errors = []
    for offset in faces - mean:
        left = offset.clone()
        for mode in basis[:modes]:
            left -= (offset * mode).sum() / (mode * mode).sum() * mode
        errors.append(float(left.pow(2).sum(-1).sqrt().mean()))
    return sum(errors) / len(errors)


def _specificity_loops(generated, samples):
    return sum(
        min(float((face - s).norm(dim=1).mean()) for s in samples) for face in generated
    ) / len(generated)


def of_pca(index, change):
    """The right PCA, one of its three parts changed: change(part, samples, modes)."""

    def pca(samples, modes):
        parts = list(right_pca(samples, modes))
        parts[index] = change(parts[index], samples, modes)
        return tuple(parts)

    return pca


def of_shape(**changes):
    """Eq. 1 with changed arguments: name=change(argument)."""

    names = ("m", "ai", "ae", "ci", "ce")
    steps = [changes.get(name, lambda x: x) for name in names]
    return lambda *arguments: shape(*(step(x) for step, x in zip(steps, arguments, strict=True)))


MUTANTS = {
    "pca": {
        "divides by N in the deviations alone": of_pca(
            2, lambda s, x, k: s * math.sqrt((len(x) - 1) / len(x))
        ),
        "mean over the vertices": _pca_over_vertices,
        "a basis times the variance": changed_pca(scale=torch.square),
        "smallest modes first": lambda x, k: (
            x.mean(0),
            *(part.flip(0)[:k] for part in right_pca(x, len(x) - 1)[1:]),
        ),
        "all modes instead of the first": lambda x, k: right_pca(x, len(x)),
        "the covariance of 3V x 3V": _pca_covariance,
        "the covariance of 3V x 3V, in numpy": _pca_numpy_covariance,
        "a basis times the singular values": of_pca(
            1, lambda basis, x, k: basis * math.sqrt(len(x) - 1)
        ),
        "each coordinate brought to unit spread first": lambda x, k: (
            x.mean(0),
            *right_pca((x - x.mean(0)) / x.std(0).clamp_min(1e-6), k)[1:],
        ),
        "the SVD's full matrices": _pca_full_matrices,
        "the basis' coordinates mixed up": of_pca(
            1, lambda basis, x, k: basis.flatten(1).unflatten(1, (3, -1)).mT
        ),
        "small matrix, direction not normalised": of_pca(  # X^T u is not of unit length
            1, lambda basis, x, k: basis * right_pca(x, k)[2][:, None, None] * math.sqrt(len(x) - 1)
        ),
        "a flat basis": of_pca(1, lambda basis, x, k: basis.flatten(1)),
        "no deviations": lambda x, k: right_pca(x, k)[:2],
    },
    "face_shape": {
        "no mean": of_shape(m=lambda x: 0 * x),
        "the mean once per basis": of_shape(m=lambda x: 2 * x),
        "no expression": of_shape(ce=lambda x: 0 * x),
        "no identity": of_shape(ci=lambda x: 0 * x),
        "expression taken off": of_shape(ce=torch.neg),
        "the first face's coefficients for all": of_shape(ci=lambda x: x[:1].expand_as(x)),
        "the first face alone": lambda *arguments: shape(*arguments)[0],
        "sums over the batch": lambda m, ai, ae, ci, ce: (
            m + torch.einsum("bk,kvc->vc", ci, ai) + torch.einsum("bk,kvc->vc", ce, ae)
        ),
        "the first coefficient for all modes": of_shape(ci=lambda x: x[:, :1].expand_as(x)),
        "coordinates mixed up": lambda m, ai, ae, ci, ce: (
            m + ((ci @ ai.flatten(1)) + (ce @ ae.flatten(1))).reshape(len(ci), 3, -1).mT
        ),
        "expression detached": of_shape(ce=torch.detach),
        "the mean face": lambda m, ai, ae, ci, ce: m.expand(len(ci), *m.shape),
        "divided by the number of modes": of_shape(ci=lambda x: x / x.shape[1]),
        "expression kept from 0 to 1": of_shape(ce=lambda x: x.clamp(0, 1)),
        "coefficients squared": of_shape(ci=torch.square),
    },
    "fit_coefficients": {
        "noise as a precision": noise_of(lambda n: 1 / n if n else 0),
        "noise over the vertices": lambda f, m, b, n=0.0: fit(f, m, b, n * b.shape[1] ** 0.5),
        "halved prior": noise_of(lambda n: n / math.sqrt(2)),
        "always the same prior": noise_of(lambda n: 1.0),
        "the first face alone": lambda f, m, b, n=0.0: fit(f[:1], m, b, n).expand(len(f), -1),
        "sign": lambda f, m, b, n=0.0: -fit(f, m, b, n),
        "shrunk afterwards": lambda f, m, b, n=0.0: fit(f, m, b, 0.0) / (1 + n**2),
        "transposed": lambda f, m, b, n=0.0: fit(f, m, b, n).T,
        "reshaped for transposed": lambda f, m, b, n=0.0: fit(f, m, b, n).T.reshape(len(f), -1),
        "kept within 3 sd": lambda f, m, b, n=0.0: fit(f, m, b, n).clamp(-3, 3),
        "no default noise": lambda f, m, b, n: fit(f, m, b, n),
        "the noise in every entry": lambda f, m, b, n=0.0: (
            torch.linalg.solve(
                b.flatten(1) @ b.flatten(1).T + n**2, b.flatten(1) @ (f - m).flatten(1).T
            ).T
        ),
        "the mean of the batch for the mean face": lambda f, m, b, n=0.0: fit(f, f.mean(0), b, n),
    },
    "generalisation_error": {
        "one mode too few": lambda f, m, b, k: error(f, m, b, max(k - 1, 1)),
        "the last modes": lambda f, m, b, k: error(f, m, b.flip(0), k),
        "mode k alone": lambda f, m, b, k: error(f, m, b[k - 1 : k], 1),
        "one value per face": gap_measured(lambda gap: gap.norm(dim=-1).mean(1)),
        "the first face alone": lambda f, m, b, k: error(f[:1], m, b, k),
        "the median": gap_measured(lambda gap: gap.norm(dim=-1).median()),
        "the mean error's length": gap_measured(lambda gap: gap.mean(0).norm(dim=-1).mean()),
        "with a prior": lambda f, m, b, k: (
            (m + torch.einsum("bk,kvc->bvc", fit(f, m, b[:k], 1.0), b[:k]) - f).norm(dim=-1).mean()
        ),
        "the mean of the faces for the mean face": lambda f, m, b, k: error(f, f.mean(0), b, k),
        "the mean not added again": lambda f, m, b, k: (gap(f, m, b, k) - m).norm(dim=-1).mean(),
        "a sum over the faces": lambda f, m, b, k: error(f, m, b, k) * len(f),
        "distance to the mean face": lambda f, m, b, k: (f - m).norm(dim=-1).mean(),
    },
    "specificity_error": {
        "squared": distance_measured(lambda each: each.square().mean(2).min(1).values.mean()),
        "to the mean sample": lambda g, s: (g - s.mean(0)).norm(dim=-1).mean(),
        "one value per face": distance_measured(lambda each: each.mean(2).min(1).values),
        "coordinates": lambda g, s: (g[:, None] - s).abs().mean((2, 3)).min(1).values.mean(),
        "the first face alone": distance_measured(lambda each: each[0].mean(1).min()),
        "the nearest vertex, not the same one": lambda g, s: torch.stack(
            [torch.stack([torch.cdist(a, b).min(1).values.mean() for b in s]).min() for a in g]
        ).mean(),
        "root mean square of the face": distance_measured(
            lambda each: each.square().mean(2).sqrt().min(1).values.mean()
        ),
        "pairs in order": distance_measured(lambda each: each.mean(2).diagonal().mean()),
        "divided by the number of samples": distance_measured(
            lambda each: each.mean(2).min(1).values.sum() / each.shape[1]
        ),
        "which sample, not how far": distance_measured(
            lambda each: each.mean(2).argmin(1).float().mean()
        ),
    },
}

ALTERNATIVES = {
    "pca": {
        "the SVD": changed_pca(),
        "the small N x N matrix": _pca_small_matrix,
        "numpy in float64": _pca_numpy,
        "in place, signs turned, a list": _pca_in_place,
    },
    "face_shape": {
        "einsum": lambda m, ai, ae, ci, ce: (
            m + torch.einsum("bk,kvc->bvc", ci, ai) + torch.einsum("bk,kvc->bvc", ce, ae)
        ),
        "loops": _shape_loops,
        "one joined basis": _shape_joined,
    },
    "fit_coefficients": {
        "normal equations": _fit_normal_equations,
        "rows for the prior": _fit_stacked,
        "by the SVD": _fit_svd,
        "an inverse, face by face": _fit_inverse,
    },
    "generalisation_error": {
        "pseudo-inverse": _error_by_pseudo_inverse,
        "projection, face by face": _error_projected,
        "faces' means first": lambda f, m, b, k: gap(f, m, b, k).norm(dim=-1).mean(1).mean(),
    },
    "specificity_error": {
        "all pairs at once": distance_measured(lambda each: each.mean(2).min(1).values.mean()),
        "loops and a float": _specificity_loops,
        "amin and torch.mean": lambda g, s: torch.mean(distances(g, s).mean(-1).amin(-1)),
    },
}
