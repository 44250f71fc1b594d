"""Plausible mistakes in the exercises of notebook 11, and right answers written differently."""

import torch
from spoiled_answers import cached, halved, one_of, single, stale, viewed

from facerecon_lib.beyond.learned_model import average_frames
from facerecon_lib.beyond.subspaces import orthonormal, principal_modes, subspace_angles
from facerecon_lib.course.nb11_learned_model.checks import angled, averaged, in_gauge, stepped

step = stepped()


def average_loop(features, person, weights=None):
    weights = torch.ones_like(features[:, 0]) if weights is None else weights
    rows = []
    for p in range(int(person.max()) + 1):
        own = person == p
        total = weights[own].sum()
        mean = (weights[own, None] * features[own]).sum(0)
        rows.append(mean / total if total > 0 else mean)
    return torch.stack(rows)


def average_by_matrix(features, person, weights=None):
    numbers = torch.arange(int(person.max()) + 1, device=person.device)
    table = (numbers[:, None] == person).to(features)
    table = table if weights is None else table * weights
    total = table.sum(1, keepdim=True)
    return (table / torch.where(total > 0, total, torch.ones_like(total))) @ features


def average_scattered(features, person, weights=None):
    weights = features.new_ones(len(features)) if weights is None else weights
    count = int(person.max()) + 1
    index = person[:, None].expand_as(features)
    total = features.new_zeros(count, features.shape[1])
    total = total.scatter_add(0, index, features * weights[:, None])
    weight = features.new_zeros(count).scatter_add(0, person, weights)
    return total / weight.masked_fill(weight == 0, 1)[:, None]


def average_of_people_present(features, person, weights=None):
    """Numbers that no frame has are skipped."""
    _, dense = person.unique(return_inverse=True)
    return average_frames(features, dense, weights)


def average_in_runs(features, person, weights=None):
    """Frames of a person have to follow each other."""
    count = int(person.max()) + 1
    rows = features.reshape(count, -1, features.shape[1])
    weights = features.new_ones(len(features)) if weights is None else weights
    weights = weights.view(count, -1, 1)
    return (weights * rows).sum(1) / weights.sum(1).clamp(min=1e-30)


def with_epsilon(epsilon):
    return averaged(divide=lambda t, w, _: t / (w + epsilon)[:, None])


def step_by_loop(basis, pull, coefficients, person, spread, rate):
    slope = torch.zeros_like(basis)
    for frame, p in enumerate(person.tolist()):
        slope += coefficients[p][:, None, None] * pull[frame]
    return basis - rate * torch.einsum("vn,wn,kwc->kvc", spread, spread, slope)


def step_by_person(basis, pull, coefficients, person, spread, rate):
    of_person = pull.new_zeros(len(coefficients), *pull.shape[1:]).index_add(0, person, pull)
    slope = (coefficients.T @ of_person.flatten(1)).view_as(basis)
    return basis - rate * (spread @ (spread.T @ slope))


def step_by_autograd(basis, pull, coefficients, person, spread, rate):
    nodes = torch.zeros(len(basis), spread.shape[1], 3, dtype=basis.dtype, requires_grad=True)
    with torch.enable_grad():
        moved = torch.einsum("fk,vn,knc->fvc", coefficients[person], spread, nodes)
        [slope] = torch.autograd.grad((moved * pull).sum(), nodes)
    return basis - rate * (spread @ slope)


def step_in_place(basis, pull, coefficients, person, spread, rate):
    basis -= rate * (basis - step(basis, pull, coefficients, person, spread, 1.0))
    return 2 * basis


def angles_by_qr(a, b):
    """Right where no mode is made of others."""
    q, r = (torch.linalg.qr(x.flatten(1).double().T)[0] for x in (a, b))
    return torch.linalg.svdvals(q.T @ r).clamp(max=1).acos().rad2deg()


def angles_by_projectors(a, b):
    p, q = (orthonormal(x) for x in (a, b))
    if p.shape[1] > q.shape[1]:
        p, q = q, p
    inside = p.T @ q @ q.T @ p
    cosines = torch.linalg.eigvalsh(inside).clamp(0, 1).sqrt().flip(0)
    return cosines.acos().rad2deg()


def angles_by_gram(a, b):
    """Bases made orthonormal by the eigenvectors of their Gram matrices."""

    def whitened(x):
        flat = x.flatten(1).double()
        flat = flat / flat.norm()
        size, vectors = torch.linalg.eigh(flat @ flat.T)
        own = size > 1e-12 * size.max()
        return flat.T @ (vectors[:, own] / size[own].sqrt())

    return torch.linalg.svdvals(whitened(a).T @ whitened(b)).clamp(max=1).acos().rad2deg()


def angles_by_sine(a, b):
    p, q = sorted((orthonormal(a), orthonormal(b)), key=lambda x: x.shape[1])
    return torch.linalg.svdvals(p - q @ (q.T @ p)).clamp(max=1).asin().rad2deg().flip(0)


def angles_in_single(a, b):
    p, q = (torch.linalg.svd(x.flatten(1).float().T, full_matrices=False) for x in (a, b))
    p, q = (u[:, s > 1e-6 * s.max()] for u, s, _ in (p, q))
    return torch.linalg.svdvals(p.T @ q).clamp(max=1).acos().rad2deg().double()


def angles_with_centred_modes(a, b):
    return subspace_angles(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def modes_by_eigenvectors(basis, coefficients):
    """The covariance of the faces, in the K dimensions of the basis."""
    q, r = torch.linalg.qr(basis.flatten(1).double().T)
    inside = coefficients.double() @ r.T
    size, turn = torch.linalg.eigh(inside.T @ inside / len(inside))
    size, turn = size.flip(0).sqrt(), turn.flip(1)
    modes = (q @ turn).T
    sign = modes.gather(1, modes.abs().argmax(1, keepdim=True)).sign()
    new_basis = (sign * size[:, None] * modes).view(basis.shape)
    return new_basis.to(basis.dtype), (inside @ turn / size * sign[:, 0]).to(coefficients.dtype)


def modes_by_projection(basis, coefficients):
    new_basis, _ = principal_modes(basis, coefficients)
    flat, faces = new_basis.flatten(1).double(), coefficients.double() @ basis.flatten(1).double()
    new = faces @ flat.T / flat.square().sum(1)
    return new_basis, new.to(coefficients.dtype)


def finished(finish):
    """What becomes of the right modes and coefficients."""
    return lambda basis, coefficients: finish(*principal_modes(basis, coefficients))


# No gradient is asked of their answers.
WITHOUT_GRADIENT = {"basis_step", "subspace_angles", "principal_modes"}

MUTANTS = {
    "average_frames": {
        "people that are there": average_of_people_present,
        "frames in runs": average_in_runs,
        "a little more than the weights": with_epsilon(1e-3),
        "a hundred thousandth more": with_epsilon(1e-5),
        "an epsilon that tiny weights feel": with_epsilon(1e-10),
        "nan for nobody": averaged(divide=lambda t, w, _: t / w[:, None]),
        "the first frame of each": lambda f, p, w=None: torch.stack(
            [f[p == i][0] if (p == i).any() else 0 * f[0] for i in range(int(p.max()) + 1)]
        ),
        "the brightest frame": lambda f, p, w=None: torch.stack(
            [f[p == i].amax(0) if (p == i).any() else 0 * f[0] for i in range(int(p.max()) + 1)]
        ),
        "weights of one for all": lambda f, p, w=None: average_frames(
            f, p, None if w is None else one_of(w)
        ),
        "weights not above one": averaged(weigh=lambda w: w.clamp(max=0.5)),
        "weights as softmax": averaged(weigh=lambda w: w.softmax(0)),
        "people in reverse": averaged(people=lambda p: int(p.max()) - p),
        "features without gradient": lambda f, p, w=None: average_frames(f.detach(), p, w),
        "weights without gradient": lambda f, p, w=None: average_frames(
            f, p, None if w is None else w.detach()
        ),
        "kept by size": cached(average_frames),
        "features cached": stale(average_frames, 0),
        "view": viewed(average_frames, 0),
        "float32": single(average_frames),
        "halved": halved(average_frames),
    },
    "basis_step": {
        "smoothed once": stepped(smooth=lambda s, g: (s @ s.T).sqrt() @ g),
        "smoothed twice": stepped(smooth=lambda s, g: s @ (s.T @ (s @ (s.T @ g)))),
        "the basis smoothed as well": lambda b, p, c, i, s, r: stepped()(
            s @ (s.T @ b), p, c, i, s, r
        ),
        "orthonormal spread": stepped(
            smooth=lambda s, g: torch.linalg.qr(s)[0] @ (torch.linalg.qr(s)[0].T @ g)
        ),
        "mean over people": stepped(gather=lambda c, i: c[i] / len(c)),
        "coefficients' sizes": stepped(gather=lambda c, i: c[i].abs()),
        "the first person for all": stepped(gather=lambda c, i: one_of(c)[i]),
        "a step of fixed length": stepped(move=lambda b, c, r: b - r * c / c.norm()),
        "sign of the slope": stepped(move=lambda b, c, r: b - r * c.sign()),
        "shrunk": stepped(move=lambda b, c, r: (1 - 1e-2 * r) * b - r * c),
        "orthonormal after the step": stepped(
            move=lambda b, c, r: torch.linalg.qr((b - r * c).flatten(1).T)[0].T.reshape(b.shape)
        ),
        "in place, twice": step_in_place,
        "kept by size": cached(step),
        "basis cached": stale(step, 0),
        "view": viewed(step, 0, 1, 2),
        "float32": single(step),
    },
    "subspace_angles": {
        "qr without rank": angles_by_qr,
        "in float32": angles_in_single,
        "modes centred": angles_with_centred_modes,
        "the mean angle": angled(read=lambda c: c.clamp(max=1).acos().rad2deg().mean()[None]),
        "the largest alone": angled(read=lambda c: c.clamp(max=1).acos().rad2deg().amax()[None]),
        "half": angled(read=lambda c: c.clamp(max=1).acos().rad2deg() / 2),
        "twice": angled(read=lambda c: 2 * c.clamp(max=1).acos().rad2deg()),
        "without the arc": angled(read=lambda c: (1 - c).clamp(min=0).rad2deg()),
        "squared": angled(read=lambda c: c.square().clamp(max=1).acos().rad2deg()),
        "one basis raw": angled(first=lambda x: x.flatten(1).double().T),
        "tiny modes dropped": angled(
            *2 * (lambda x: torch.linalg.svd(x.flatten(1).double().T, False)[0][:, :2],)
        ),
        "no clamp": angled(read=lambda c: (1.0000001 * c).acos().rad2deg()),
        "only the first modes": lambda a, b: subspace_angles(a[:3], b[:3]),
        "kept by size": cached(subspace_angles),
        "view": viewed(subspace_angles, 0, 1),
        "squeezed": lambda a, b: subspace_angles(a, b).squeeze(),
        "float32 answer": lambda a, b: subspace_angles(a, b).float(),
    },
    "principal_modes": {
        "one face less": in_gauge(scale=lambda count: (count - 1) ** 0.5),
        "no square root": in_gauge(scale=lambda count: count),
        "modes of length 1": finished(
            lambda b, c: (b / b.flatten(1).norm(dim=1)[:, None, None], c)
        ),
        "signs of the basis alone": finished(lambda b, c: (b.abs(), c)),
        "sign not carried over": lambda b, c: (
            principal_modes(b, c)[0],
            in_gauge(sign=lambda m: torch.ones_like(m[:, :1]))(b, c)[1],
        ),
        "coefficients first": finished(lambda b, c: (c, b)),
        "basis alone": finished(lambda b, c: b),
        "flat": finished(lambda b, c: (b.flatten(1), c)),
        "three deviations at most": finished(lambda b, c: (b, c.clamp(-1, 1))),
        "last mode lost": finished(lambda b, c: (torch.cat([b[:-1], 0 * b[-1:]]), c)),
        "coefficients centred after": finished(lambda b, c: (b, c - c.mean(0))),
        "kept by size": cached(principal_modes),
        "basis cached": stale(principal_modes, 0),
        "coefficients cached": stale(principal_modes, 1),
        "view": viewed(principal_modes, 0, 1),
        "float32": single(principal_modes),
        "halved": halved(principal_modes),
    },
}

ALTERNATIVES = {
    "average_frames": {
        "a loop over people": average_loop,
        "a matrix": average_by_matrix,
        "scattered": average_scattered,
    },
    "basis_step": {
        "a loop over frames": step_by_loop,
        "by person": step_by_person,
        "by autograd": step_by_autograd,
    },
    "subspace_angles": {
        "by projectors": angles_by_projectors,
        "by Gram matrices": angles_by_gram,
        "by the sine": angles_by_sine,
    },
    "principal_modes": {
        "by eigenvectors": modes_by_eigenvectors,
        "by projection": modes_by_projection,
        "by the faces' own svd": in_gauge(),
    },
}
