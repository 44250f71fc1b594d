"""Notebook 01: plausible mistakes, each to be judged wrong, and right answers written otherwise."""

import math

import numpy as np
import torch
from spoiled_answers import cached, halved, rooted, single, squeezed, viewed, with_

from facerecon_lib.course.nb01_morphable_model.checks import (
    changed_completion,
    changed_pca,
    distance_measured,
    distances,
    gap,
    gap_measured,
    noise_of,
    product_of,
    scaled,
)
from facerecon_lib.course.nb01_morphable_model.checks import library_completion as complete
from facerecon_lib.course.nb01_morphable_model.checks import library_face_albedo as skin
from facerecon_lib.course.nb01_morphable_model.checks import library_face_shape as shape
from facerecon_lib.course.nb01_morphable_model.checks import library_fit as fit
from facerecon_lib.course.nb01_morphable_model.checks import library_generalisation as error
from facerecon_lib.course.nb01_morphable_model.checks import library_mode_product as product
from facerecon_lib.course.nb01_morphable_model.checks import library_pca as right_pca
from facerecon_lib.course.nb01_morphable_model.checks import library_specificity as error_to


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


def _shape_in_place(mean, ai, ae, ci, ce):
    faces = mean.expand(len(ci), *mean.shape).clone()
    for weights, basis in ((ci, ai), (ce, ae)):
        for weight, mode in zip(weights.T, basis, strict=True):
            faces += weight[:, None, None] * mode
    return faces


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


def _product_unfolded(tensor, matrix, mode):
    first = tensor.transpose(0, mode)
    rows = matrix @ first.reshape(len(first), -1)
    return rows.reshape(len(matrix), *first.shape[1:]).transpose(0, mode)


def _product_by_rows(tensor, matrix, mode):
    slices = tensor.unbind(mode)
    sums = [sum(w * part for w, part in zip(row, slices, strict=True)) for row in matrix]
    return torch.stack(sums, mode)


def _albedo_in_loops(mean, directions, deviation, coefficients):
    skins = []
    for row in coefficients.reshape(-1, coefficients.shape[-1]):
        each = zip(row, deviation, directions, strict=False)
        skins.append(mean + sum(c * s * mode for c, s, mode in each))
    return torch.stack(skins).reshape(*coefficients.shape[:-1], *mean.shape)


def _albedo_padded(mean, directions, deviation, coefficients):
    missing = len(deviation) - coefficients.shape[-1]
    rest = coefficients.new_zeros(*coefficients.shape[:-1], missing)
    basis = deviation[:, None, None] * directions
    return torch.tensordot(torch.cat([coefficients, rest], -1), basis, 1) + mean


def _completed_by_rows(samples, seen, rounds, noise):
    """Each coordinate is a column; the prior is more rows of least squares."""
    wide = seen[..., None].expand_as(samples).flatten(1)
    x = samples.flatten(1).clone()
    x[~wide] = 0
    x = torch.where(wide, x, (x.sum(0) / wide.sum(0)).expand_as(x))
    for modes in rounds:
        mean = x.mean(0)
        _, s, v = torch.linalg.svd((x - mean).double(), full_matrices=False)
        basis = s[:modes, None] / (len(x) - 1) ** 0.5 * v[:modes]
        rebuilt = x.clone()
        for i, see in enumerate(wide):
            rows = torch.cat([basis[:, see].T, noise * torch.eye(modes, dtype=torch.float64)])
            right = torch.nn.functional.pad((x[i] - mean)[see].double(), (0, modes))
            alpha = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
            rebuilt[i, ~see] = (mean + alpha @ basis)[~see].to(x)
        x = rebuilt
    return x.reshape(samples.shape)


def _completed_in_place(samples, seen, rounds, noise):
    samples[~seen] = 0
    first = samples.sum(0) / seen.sum(0)[:, None]
    for face, see in zip(samples, seen, strict=True):
        face[~see] = first[~see]
    for modes in rounds:
        mean, basis, _ = right_pca(samples, modes)
        for face, see in zip(samples, seen, strict=True):
            alpha = fit(face[None, see], mean[see], basis[:, see], noise)
            face[~see] = (mean + torch.einsum("k,kvc->vc", alpha[0], basis))[~see]
    return samples


def _completed_with_masks(samples, seen, rounds, noise):
    """All faces at once: hidden vertices have a weight of 0."""
    weight = seen[..., None].to(samples)
    x = samples.nan_to_num(0) * weight
    x = x + (1 - weight) * x.sum(0) / weight.sum(0)
    for modes in rounds:
        mean, basis, _ = right_pca(x, modes)
        pairs = torch.einsum("kvc,lvc->vkl", basis, basis).double()
        left = torch.einsum("nv,vkl->nkl", seen.double(), pairs) + noise**2 * torch.eye(modes)
        right = torch.einsum("nvc,kvc->nk", ((x - mean) * weight).double(), basis.double())
        alpha = torch.linalg.solve(left, right[..., None])[..., 0].to(x)
        x = torch.where(seen[..., None], x, mean + torch.einsum("nk,kvc->nvc", alpha, basis))
    return x


def _completed_one_after_another(samples, seen, rounds, noise):
    """New modes after every single face."""
    filled = complete(samples, seen, (), noise)
    for modes in rounds:
        for i, see in enumerate(seen):
            mean, basis, _ = right_pca(filled, modes)
            alpha = fit(filled[i : i + 1, see], mean[see], basis[:, see], noise)
            filled[i, ~see] = (mean + torch.einsum("k,kvc->vc", alpha[0], basis))[~see]
    return filled


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"pca", "fit_coefficients", "generalisation_error", "specificity_error"}
WITHOUT_GRADIENT |= {"complete_faces"}

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
        "no basis, zeros": of_pca(1, lambda basis, x, k: 0 * basis),
        "no deviations": lambda x, k: right_pca(x, k)[:2],
        "deviations of at least 0.1": changed_pca(deviation=lambda s: s.clamp(min=0.1)),
        "a basis of deviations of at least 0.1": changed_pca(scale=lambda s: s.clamp(min=0.1)),
        "a thousandth added to the deviations": changed_pca(deviation=lambda s: s + 1e-3),
        "small deviations are noise, 0": changed_pca(scale=lambda s: s * (s > 0.5)),
        "a mean near 0 left alone": lambda x, k: changed_pca(centre=bool(x.mean().abs() > 1))(x, k),
        "the mean of small numbers taken twice": with_(
            right_pca, a0=lambda x: x if x.std() > 1 else x + x.mean(0)
        ),
        "at least two modes": with_(right_pca, a1=lambda k: max(k, 2)),
        "at most ten modes": with_(right_pca, a1=lambda k: min(k, 10)),
        "the last mode forgotten where all are asked for": lambda x, k: right_pca(
            x, min(k, len(x) - 2)
        ),
        "axes of length 1 lost": squeezed(right_pca),
        "a view of the samples": viewed(right_pca),
        "kept by size": cached(right_pca),
        "half precision": halved(right_pca),
        "float32 always": single(right_pca),
        "the first 1,000 vertices": lambda x, k: (
            x.mean(0),
            right_pca(x, k)[1],
            right_pca(x[:, :1000], k)[2],
        ),
        "rounded to a hundredth": lambda x, k: tuple(
            part.mul(100).round() / 100 for part in right_pca(x, k)
        ),
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
        "80 identity modes": lambda m, ai, ae, ci, ce: shape(m, ai[:80], ae, ci[:, :80], ce),
        "40 expression modes": lambda m, ai, ae, ci, ce: shape(m, ai, ae[:40], ci, ce[:, :40]),
        "identity kept within 3 sd": of_shape(ci=lambda x: x.clamp(-3, 3)),
        "expression kept within 3": of_shape(ce=lambda x: x.clamp(-3, 3)),
        "the mean where identity is 0": lambda m, ai, ae, ci, ce: (
            shape(m, ai, ae, ci, ce) if ci.any() else m.expand(len(ci), *m.shape)
        ),
        "the mean where expression is 0": lambda m, ai, ae, ci, ce: (
            shape(m, ai, ae, ci, ce) if ce.any() else m.expand(len(ci), *m.shape)
        ),
        "identity by a root, nan at 0": of_shape(ci=rooted),
        "expression by a root, nan at 0": of_shape(ce=rooted),
        "no gradient from 0": of_shape(ci=lambda x: torch.where(x == 0, x.detach(), x)),
        "axes of length 1 lost": squeezed(shape),
        "views of the arguments": viewed(shape),
        "kept by size": cached(shape),
        "half precision": halved(shape),
        "the first 1,000 vertices move": lambda m, ai, ae, ci, ce: torch.cat(
            [shape(m, ai, ae, ci, ce)[:, :1000], m[1000:].expand(len(ci), -1, 3)], 1
        ),
        "coefficients turned where they are square": of_shape(
            ci=lambda x: x.mT if len(x) == x.shape[1] else x
        ),
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
        "a millionth on the diagonal": noise_of(lambda n: math.hypot(n, 1e-3)),
        "noise of at least 0.1": noise_of(lambda n: max(n, 0.1)),
        "noise of at most 10": noise_of(lambda n: min(n, 10)),
        "a noise of 0 is missing": noise_of(lambda n: n or 1.0),
        "noise in whole mm": noise_of(round),
        "noise squared above 1 only": noise_of(lambda n: n if n > 1 else math.sqrt(n)),
        "kept within 30 sd": lambda f, m, b, n=0.0: fit(f, m, b, n).clamp(-30, 30),
        "short modes left out": lambda f, m, b, n=0.0: (
            fit(f, m, b, n) * (b.flatten(1).norm(dim=1) > 0.1)
        ),
        "turned where faces are as many as modes": lambda f, m, b, n=0.0: (
            fit(f, m, b, n).T if len(f) == len(b) else fit(f, m, b, n)
        ),
        "pseudo-inverse of a hundredth without noise": lambda f, m, b, n=0.0: (
            fit(f, m, b, n)
            if n
            else (f - m).flatten(1) @ torch.linalg.pinv(b.flatten(1), rtol=1e-1)
        ),
        "the first 1,000 vertices": lambda f, m, b, n=0.0: (
            fit(f[:, :1000], m[:1000], b[:, :1000], n)
            * (b[:, :1000].square().sum((1, 2)) / b.square().sum((1, 2)))
        ),
        "16 faces at a time, the rest forgotten": lambda f, m, b, n=0.0: torch.cat(
            [fit(f, m, b, n)[:16], 0 * fit(f, m, b, n)[16:]]
        ),
        "axes of length 1 lost": squeezed(fit),
        "views of the arguments": viewed(fit),
        "kept by size": cached(fit),
        "half precision": halved(fit),
        "float32 always": single(fit),
        "the mean put into the batch": lambda f, m, b, n=0.0: fit(f, m.mean(0), b, n),
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
        "at least two modes": with_(error, a3=lambda k: max(k, 2)),
        "at most five modes": with_(error, a3=lambda k: min(k, 5)),
        "never below a tenth": lambda *arguments: max(error(*arguments), 0.1),
        "in tenths of mm": lambda *arguments: round(error(*arguments), 1),
        "the first 16 faces": with_(error, a0=lambda f: f[:16]),
        "the first 1,000 vertices": lambda f, m, b, k: error(f[:, :1000], m[:1000], b[:, :1000], k),
        "coefficients kept within 2 sd": lambda f, m, b, k: (
            (m + torch.einsum("bk,kvc->bvc", fit(f, m, b[:k]).clamp(-2, 2), b[:k]) - f)
            .norm(dim=-1)
            .mean()
        ),
        "a prior of 0.3 mm": lambda f, m, b, k: (
            (m + torch.einsum("bk,kvc->bvc", fit(f, m, b[:k], 0.3), b[:k]) - f).norm(dim=-1).mean()
        ),
        "exact faces left out": gap_measured(
            lambda gap: gap.norm(dim=-1)[gap.norm(dim=-1) > 1e-2].mean()
        ),
        "views of the arguments": viewed(error),
        "kept by size": cached(error),
        "half precision": halved(error),
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
        "the nearest starts at 100 mm": distance_measured(
            lambda each: each.mean(2).min(1).values.clamp(max=100).mean()
        ),
        "a sample itself does not count": distance_measured(
            lambda each: torch.where(each.mean(2) > 1e-3, each.mean(2), 1e3).min(1).values.mean()
        ),
        "at least a tenth": distance_measured(
            lambda each: each.mean(2).min(1).values.clamp(min=0.1).mean()
        ),
        "the last sample forgotten": lambda g, s: error_to(g, s[: max(len(s) - 1, 1)]),
        "samples in blocks of 8, the rest forgotten": lambda g, s: error_to(
            g, s[: len(s) // 8 * 8 or 1]
        ),
        "the first 64 samples": lambda g, s: error_to(g, s[:64]),
        "the first 16 faces": lambda g, s: error_to(g[:16], s),
        "the first 1,000 vertices": lambda g, s: error_to(g[:, :1000], s[:, :1000]),
        "in tenths of mm": lambda g, s: round(error_to(g, s), 1),
        "views of the arguments": viewed(error_to),
        "kept by size": cached(error_to),
        "half precision": halved(error_to),
    },
    "mode_product": {
        "reshaped for turned back": lambda t, m, mode: (
            product(t, m, mode)
            .movedim(mode, 0)
            .reshape(*t.shape[:mode], len(m), *t.shape[mode + 1 :])
        ),
        "unfolded without a turn": lambda t, m, mode: (m @ t.reshape(t.shape[mode], -1)).reshape(
            *t.shape[:mode], len(m), *t.shape[mode + 1 :]
        ),
        "the first axis always": lambda t, m, mode: product(t, m, 0),
        "the last axis always": lambda t, m, mode: product(t, m, t.ndim - 1),
        "the axes swapped with the first": lambda t, m, mode: product(t, m, mode).transpose(
            0, mode
        ),
        "three axes only": lambda t, m, mode: torch.einsum(
            ["rm,mbc->rbc", "rm,amc->arc", "rm,abm->abr"][mode], m, t
        ),
        "square matrices leave the tensor": lambda t, m, mode: (
            t if m.shape[0] == m.shape[1] else product(t, m, mode)
        ),
        "rows of length 1": product_of(
            lambda t, m, mode: (t, torch.nn.functional.normalize(m, dim=1), mode)
        ),
        "a mean for a sum": lambda t, m, mode: product(t, m, mode) / m.shape[1],
        "no negative weights": product_of(lambda t, m, mode: (t, m.clamp(min=0), mode)),
        "the tensor detached": product_of(lambda t, m, mode: (t.detach(), m, mode)),
        "the matrix detached": product_of(lambda t, m, mode: (t, m.detach(), mode)),
        "axes of length 1 lost": squeezed(product),
        "kept by size": cached(product),
        "half precision": halved(product),
        "float32 always": single(product),
        "five rows at most": product_of(lambda t, m, mode: (t, m[:5], mode)),
        "the first 1,000 vertices": lambda t, m, mode: product(
            t * (torch.arange(t.shape[-2])[:, None] < 1000) if t.ndim > 2 else t, m, mode
        ),
    },
    "face_albedo": {
        "no mean": with_(skin, a0=lambda m: 0 * m),
        "divided by the deviation": scaled(lambda s: 1 / s),
        "the root of the deviation": scaled(torch.sqrt),
        "deviations of at least 0.1": scaled(lambda s: s.clamp(min=0.1)),
        "deviations of at most 1": scaled(lambda s: s.clamp(max=1)),
        "all modes have the first's deviation": scaled(lambda s: s[:1].expand_as(s)),
        "deviations over their sum": scaled(lambda s: s / s.sum()),
        "never below 0": lambda *arguments: skin(*arguments).clamp(min=0),
        "never above 1": lambda *arguments: skin(*arguments).clamp(max=1),
        "cut off without a loss of gradient": lambda *arguments: (
            skin(*arguments) + (skin(*arguments).clamp(0, 1) - skin(*arguments)).detach()
        ),
        "squashed softly": lambda *arguments: torch.sigmoid(4 * (skin(*arguments) - 0.5)),
        "kept within 3 sd": with_(skin, a3=lambda c: c.clamp(-3, 3)),
        "coefficients squared": with_(skin, a3=torch.square),
        "coefficients made of length 1": with_(
            skin, a3=lambda c: torch.nn.functional.normalize(c, dim=-1)
        ),
        "the last modes for fewer coefficients": lambda m, d, s, c: skin(
            m, d[-c.shape[-1] :], s[-c.shape[-1] :], c
        ),
        "ones for missing coefficients": lambda m, d, s, c: skin(
            m, d, s, torch.nn.functional.pad(c, (0, len(s) - c.shape[-1]), value=1.0)
        ),
        "as many coefficients as modes only": lambda m, d, s, c: (
            m + torch.einsum("...k,kvc->...vc", c * s, d)
        ),
        "one batch axis only": lambda m, d, s, c: (
            m + torch.einsum("bk,kvc->bvc", c * s[: c.shape[-1]], d[: c.shape[-1]])
        ),
        "a batch axis where there is none": lambda m, d, s, c: (
            skin(m, d, s, c.unsqueeze(0)[0:]) if c.ndim == 1 else skin(m, d, s, c)
        ),
        "all axes in one": with_(skin, a3=lambda c: c.reshape(-1, c.shape[-1])),
        "coordinates mixed up": lambda m, d, s, c: (
            m + (skin(m, d, s, c) - m).flatten(-2).unflatten(-1, (3, -1)).mT
        ),
        "the first skin for all": with_(skin, a3=lambda c: c[:1].expand_as(c) if c.ndim > 1 else c),
        "coefficients detached": with_(skin, a3=torch.detach),
        "by a root, nan at 0": with_(skin, a3=rooted),
        "no gradient from 0": with_(skin, a3=lambda c: torch.where(c == 0, c.detach(), c)),
        "turned where square": with_(
            skin, a3=lambda c: c.mT if c.ndim == 2 and len(c) == c.shape[1] else c
        ),
        "25 modes at most": with_(skin, a3=lambda c: c[..., :25]),
        "the first 1,000 vertices": lambda m, d, s, c: torch.cat(
            [
                skin(m, d, s, c)[..., :1000, :],
                m[1000:].expand(*c.shape[:-1], *m[1000:].shape),
            ],
            -2,
        ),
        "axes of length 1 lost": squeezed(skin),
        "views of the arguments": viewed(skin),
        "kept by size": cached(skin),
        "half precision": halved(skin),
        "float32 always": single(skin),
    },
    "complete_faces": {
        "the mean of what is seen, no rounds": with_(complete, a2=lambda rounds: ()),
        "one round alone": with_(complete, a2=lambda rounds: [*rounds][:1]),
        "three rounds at most": with_(complete, a2=lambda rounds: [*rounds][:3]),
        "one mode always": with_(complete, a2=lambda rounds: [1 for _ in rounds]),
        "rounds in rising order": with_(complete, a2=sorted),
        "one mode too many": with_(complete, a2=lambda rounds: [k + 1 for k in rounds]),
        "one mode too few": with_(complete, a2=lambda rounds: [max(k - 1, 1) for k in rounds]),
        "as many rounds as the last has modes": with_(
            complete, a2=lambda rounds: range(1, max([*rounds, 0]) + 1)
        ),
        "the noise not squared": changed_completion(noise=math.sqrt),
        "noise of at least 0.1": changed_completion(noise=lambda n: max(n, 0.1)),
        "noise of at most 10": changed_completion(noise=lambda n: min(n, 10)),
        "a noise of 1 always": changed_completion(noise=lambda n: 1.0),
        "the start is the mean over everything": changed_completion(
            start=lambda known, seen: known.sum((0, 1)) / seen.sum()
        ),
        "new modes after every face": _completed_one_after_another,
        "nan times 0": lambda samples, seen, rounds, noise: (
            complete(samples, seen, rounds, noise) + 0 * samples
        ),
        "seen taken for hidden": lambda samples, seen, rounds, noise: complete(
            samples, ~seen | seen.all(1, keepdim=True), rounds, noise
        ),
        "a vertex seen where any of it is not nan": lambda samples, seen, rounds, noise: complete(
            samples, ~samples.isnan().any(-1), rounds, noise
        ),
        "faces that show nothing stay at the first mean": lambda samples, seen, rounds, noise: (
            torch.where(
                seen.any(1)[:, None, None],
                complete(samples, seen, rounds, noise),
                complete(samples, seen, (), noise),
            )
        ),
        "the mean alone for faces that show less than half": changed_completion(
            told=lambda seen: seen & (seen.float().mean(1, keepdim=True) > 0.5)
        ),
        "the holes alone": lambda samples, seen, rounds, noise: (
            complete(samples, seen, rounds, noise) * ~seen[..., None]
        ),
        "the first 1,000 vertices tell": changed_completion(
            told=lambda seen: seen & (torch.arange(seen.shape[1]) < 1000)
        ),
        "colours cut off": lambda *arguments: complete(*arguments).clamp(0, 1),
        "axes of length 1 lost, sums of all": lambda *arguments: complete(*arguments).sum(0),
        "views of the arguments": viewed(complete, 0, 1),
        "kept by size": cached(complete),
        "half precision": halved(complete),
        "float32 always": single(complete),
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
        "added in place, mode by mode": _shape_in_place,
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
    "mode_product": {
        "unfolded": _product_unfolded,
        "a sum of slices per row": _product_by_rows,
        "einsum over the last axis": lambda t, m, mode: torch.einsum(
            "...m,rm->...r", t.movedim(mode, -1), m
        ).movedim(-1, mode),
    },
    "face_albedo": {
        "loops": _albedo_in_loops,
        "zeros for missing coefficients": _albedo_padded,
        "a matrix product": lambda m, d, s, c: (
            m.flatten() + (c * s[: c.shape[-1]]) @ d.flatten(1)[: c.shape[-1]]
        ).unflatten(-1, m.shape),
    },
    "complete_faces": {
        "coordinate by coordinate, rows for the prior": _completed_by_rows,
        "in place": _completed_in_place,
        "masks, all faces at once": _completed_with_masks,
    },
}
