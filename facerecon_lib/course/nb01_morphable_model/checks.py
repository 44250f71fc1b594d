"""Checks of notebook 01: PCA, Eq. 1, fitting with the prior, generalisation and specificity."""

import math
import tracemalloc

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..checks import exercise_check
from ..compare import Wrong, agree, close, like, same_gradients, same_length, seeded

MODE_AXES = ("mode", "vertex", "coordinate")


# What stands in ---------------------------------------------------------------------------------


def library_pca(
    samples: Float[Tensor, "sample vertex 3"], modes: int
) -> tuple[Float[Tensor, "vertex 3"], Float[Tensor, "mode vertex 3"], Float[Tensor, " mode"]]:
    """Mean, basis (in units of one standard deviation) and standard deviations, 1/(N-1)."""
    mean = samples.mean(0)
    _, singular, directions = torch.linalg.svd((samples - mean).flatten(1), full_matrices=False)
    deviation = singular[:modes] / math.sqrt(len(samples) - 1)
    basis = deviation[:, None] * directions[:modes]
    return mean, basis.unflatten(1, samples.shape[1:]), deviation


def library_face_shape(
    mean: Float[Tensor, "vertex 3"],
    identity_basis: Float[Tensor, "Ki vertex 3"],
    expression_basis: Float[Tensor, "Ke vertex 3"],
    identity: Float[Tensor, "batch Ki"],
    expression: Float[Tensor, "batch Ke"],
) -> Float[Tensor, "batch vertex 3"]:
    """Eq. 1."""
    offset = identity @ identity_basis.flatten(1) + expression @ expression_basis.flatten(1)
    return mean + offset.unflatten(1, mean.shape)


def library_fit_coefficients(
    faces: Float[Tensor, "batch vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    noise: float = 0.0,
) -> Float[Tensor, "batch mode"]:
    """Ridge regression: the prior N(0, 1) against noise of `noise` mm per coordinate."""
    rows = basis.flatten(1).double()
    gram = rows @ rows.T + noise**2 * torch.eye(len(rows), dtype=torch.float64)
    right = (faces - mean).flatten(1).double() @ rows.T
    return torch.linalg.solve(gram, right.T).T.to(faces.dtype)


def gap(
    faces: Float[Tensor, "batch vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    modes: int,
) -> Float[Tensor, "batch vertex 3"]:
    """From each face to its rebuilding with the first modes."""
    coefficients = library_fit_coefficients(faces, mean, basis[:modes])
    offset = (coefficients @ basis[:modes].flatten(1)).unflatten(1, mean.shape)
    return mean + offset - faces


def library_generalisation_error(
    faces: Float[Tensor, "batch vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    modes: int,
) -> Float[Tensor, ""]:
    """Mean distance in mm of faces to their rebuilding with the first modes."""
    return gap(faces, mean, basis, modes).norm(dim=-1).mean()


def distances(
    generated: Float[Tensor, "batch vertex 3"], samples: Float[Tensor, "sample vertex 3"]
) -> Float[Tensor, "batch sample vertex"]:
    """From each vertex of a generated face to the same vertex of each sample."""
    return (generated[:, None] - samples).norm(dim=-1)


def library_specificity_error(
    generated: Float[Tensor, "batch vertex 3"], samples: Float[Tensor, "sample vertex 3"]
) -> Float[Tensor, ""]:
    """Mean distance in mm of generated faces to the sample that is nearest to each."""
    return distances(generated, samples).mean(2).min(1).values.mean()


# Inputs -----------------------------------------------------------------------------------------


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def _orthonormal(rows: int, vertices: int, seed: int) -> Float[Tensor, "row vertex 3"]:
    """Directions of length 1, at right angles."""
    q, _ = torch.linalg.qr(_random(3 * vertices, rows, seed=seed, dtype=torch.float64))
    return q.T.unflatten(1, (vertices, 3)).float()


def _faces(count: int, vertices: int, seed: int) -> Float[Tensor, "sample vertex 3"]:
    """Samples far from the origin, with spreads that are well apart."""
    rank = min(count - 1, 3 * vertices)
    spread = 30 * 0.75 ** torch.arange(rank)
    weights = _random(count, rank, seed=seed) * spread
    offsets = weights @ _orthonormal(rank, vertices, seed + 1).flatten(1)
    return 60 * _random(1, vertices, 3, seed=seed + 2) + offsets.unflatten(1, (vertices, 3))


# PCA --------------------------------------------------------------------------------------------


class _LargestTensor(TorchFunctionMode):
    """Notes the most numbers that any tensor made while it is on holds, or that numpy held."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __enter__(self):
        self.tracing = tracemalloc.is_tracing()
        if not self.tracing:
            tracemalloc.start()
        tracemalloc.reset_peak()
        self.before = tracemalloc.get_traced_memory()[0]
        return super().__enter__()

    def __exit__(self, *error):
        grown = tracemalloc.get_traced_memory()[1] - self.before  # torch's own memory isn't traced
        if not self.tracing:
            tracemalloc.stop()
        self.numbers = max(self.numbers, grown // 4)
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Tensor):
                self.numbers = max(self.numbers, part.numel())
        return result


def _spectrum(got: Tensor, expected: Tensor) -> Figure:
    figure = Figure((6, 2.8), layout="constrained", facecolor="white")
    axis = figure.subplots()
    number = range(1, len(expected) + 1)
    axis.plot(number, expected, "o-", color="#1f5fa8", label="expected")
    axis.plot(number, got.to(expected), "x--", color="#d1495b", label="yours")
    axis.set(xlabel="mode", title="Standard deviation of each mode, mm")
    axis.legend(frameon=False)
    return figure


def _compare_pca(what: str, attempt, samples: Tensor, modes: int) -> None:
    got, expected = attempt(samples, modes), library_pca(samples.double(), modes)
    same_length(what, got, expected)
    mean, basis, deviation = (part.to(samples) for part in expected)
    close(f"the mean of {what}", got[0], mean, axes=MODE_AXES[1:], rtol=1e-4, atol=1e-3)
    close(
        f"the deviation of {what}",
        got[2],
        deviation,
        axes=("mode",),
        rtol=1e-3,
        atol=1e-3,
        hint="Largest first, and only the first `modes` of them.",
        picture=_spectrum,
    )
    if like(got[1], basis):  # either sign of a mode is right
        basis = basis * (got[1] * basis).sum((1, 2), keepdim=True).sign()
    close(
        f"the basis of {what} (up to the sign of each mode)",
        got[1],
        basis,
        axes=MODE_AXES,
        rtol=2e-3,
        atol=2e-3 * float(deviation.max()) / math.sqrt(3 * samples.shape[1]),
        hint="Row k: the unit direction of mode k, times its standard deviation, as (V, 3).",
    )


def changed_pca(*, centre=True, divisor=lambda n: n - 1, scale=lambda s: s, told=lambda s: s):
    """The PCA with one thing done otherwise."""

    def pca(samples, modes):
        mean = samples.mean(0)
        x = (samples - mean if centre else samples).flatten(1)
        _, s, v = torch.linalg.svd(x, full_matrices=False)
        s = s / math.sqrt(divisor(len(samples)))
        basis = (scale(s)[:, None] * v).unflatten(1, samples.shape[1:])
        return mean, basis[:modes], told(s)[:modes]

    return pca


@exercise_check(
    stand_in=library_pca,
    mistakes={
        "Two faces differ at one vertex alone, by 4 mm in x. Their variance is "
        "(2² + 2²) / (N - 1) = 8 mm², so the deviation is 2.83 mm; yours is 2, the variance "
        "divided by N = 2. We divide by N - 1, as the mean has been estimated from the same "
        "faces.": changed_pca(divisor=lambda n: n),
        "Two faces differ at one vertex by 4 mm, at x = 5 and 1. The deviation is 2.83 mm; yours "
        "is 5.1: the mean was not taken off the samples.": changed_pca(centre=False),
        "The deviation of two faces that differ by 4 mm at one vertex is 2.83 mm; yours is 8: this "
        "is the variance, in mm²; the deviation is its root.": changed_pca(told=torch.square),
        "The deviation of two faces that differ by 4 mm at one vertex is 2.83 mm; yours is 4: the "
        "sum over samples is multiplied by N instead of divided.": changed_pca(
            divisor=lambda n: 1 / n
        ),
        "Every standard deviation of 12 faces is 3.32 times the expected one. It looks as if the "
        "sum over samples is never divided by N-1.": changed_pca(divisor=lambda n: 1),
        "Each row of the basis has length 1. Multiply it by its standard deviation, so that a "
        "coefficient of 1 moves the face by one standard deviation.": changed_pca(
            scale=torch.ones_like
        ),
    },
    compared=lambda answer: (answer[0], answer[1].abs(), answer[2]),
)
def pca(attempt):
    two = torch.zeros(2, 3, 3)
    two[0, 0, 0], two[1, 0, 0] = 5.0, 1.0
    _compare_pca("pca of two faces that differ by 4 mm at one vertex", attempt, two, 1)
    samples = _faces(12, 40, 5)
    _compare_pca("pca(samples, 5), 12 faces of 40 vertices", attempt, samples, 5)
    samples = _faces(30, 3, 8)
    _compare_pca("pca(samples, 9), 30 faces of 3 vertices", attempt, samples, 9)
    with _LargestTensor() as largest:
        samples = _faces(5, 250, 11)
        _compare_pca("pca(samples, 4), 5 faces of 250 vertices", attempt, samples, 4)
    if largest.numbers >= 750 * 750:
        raise Wrong(
            "The numbers are right, but on the way you make a matrix of 3V x 3V = 750 x 750. "
            "For our 3,437 vertices that is 106 million numbers, and its decomposition takes "
            "minutes. Five faces span at most five directions: use the SVD of the (N, 3V) matrix "
            "with full_matrices=False, or the small (N, N) matrix."
        )
    _compare_pca("pca of float64 samples", attempt, _faces(8, 10, 14).double(), 3)
    return "mean, basis and deviations agree, whatever the signs of the modes"


# Eq. 1 ------------------------------------------------------------------------------------------


@exercise_check(stand_in=library_face_shape)
def face_shape(attempt):
    axes = ("face", "vertex", "coordinate")
    mean = torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    wide = torch.tensor([[[-1.0, 0, 0], [1, 0, 0]]])
    up = torch.tensor([[[0.0, 2, 0], [0, 2, 0]], [[0.0, 0, 3], [0, 0, 0]]])
    close(
        "one face of two vertices, identity 2 (each step widens), expression (0.5, 0)",
        attempt(mean, wide, up, torch.tensor([[2.0]]), torch.tensor([[0.5, 0.0]])),
        torch.tensor([[[-2.0, 1, 0], [12, 1, 0]]]),
        axes=axes,
    )
    for batch, ki, ke, v, seed in ((4, 3, 5, 7, 0), (1, 6, 2, 9, 1), (5, 5, 5, 5, 2)):
        model = (
            50 * _random(v, 3, seed=seed),
            *(_random(k, v, 3, seed=seed + 10 * i) for i, k in enumerate((ki, ke), 1)),
        )
        ci, ce = _random(batch, ki, seed=seed + 30), _random(batch, ke, seed=seed + 40)
        what = f"{batch} faces, {ki} identity and {ke} expression modes, {v} vertices"
        agree(f"face_shape of {what}", attempt, *model, ci, ce, axes=axes, atol=1e-3)
    same_gradients(
        "face_shape",
        attempt,
        {"identity": ci, "expression": ce},
        call=lambda function, *coefficients: function(*model, *coefficients),
        atol=1e-4,
    )
    return "Eq. 1 holds for batches, and gradients flow to both sets of coefficients"


# Fitting ----------------------------------------------------------------------------------------


def products(
    faces: Float[Tensor, "batch vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
) -> Float[Tensor, "batch mode"]:
    """Of each face's offset with each mode."""
    return (faces - mean).flatten(1) @ basis.flatten(1).T


def noise_of(change):
    """The fit with another noise: change(noise)."""
    return lambda f, m, b, n=0.0: library_fit_coefficients(f, m, b, change(n))


CASE = "one mode moves one vertex by 4 mm, the face is 12 mm off there"


@exercise_check(
    stand_in=library_fit_coefficients,
    mistakes={
        "Not the least-squares answer: the mean face was not taken off.": lambda f, m, b, n=0.0: (
            library_fit_coefficients(f, 0 * m, b, n)
        ),
        f"{CASE}: without noise the answer is 3, got 48: that is the product of mode and offset, "
        "not yet divided by the mode's own square.": lambda f, m, b, n=0.0: products(f, m, b),
        f"{CASE}: without noise the answer is 3, got 12: the product was divided by the mode's "
        "length, not by its square.": lambda f, m, b, n=0.0: (
            products(f, m, b) / b.flatten(1).norm(dim=1)
        ),
        f"{CASE}. With noise 4, as strong as the mode, the answer is half of the 3 that fits best, "
        "1.5; got 3: the noise has no effect: where is the prior?": noise_of(lambda n: 0.0),
        f"{CASE}. With noise 4, as strong as the mode, the answer is half of the 3 that fits best, "
        "1.5; got 2.4: the noise is added as it is; it enters squared, as a variance.": noise_of(
            math.sqrt
        ),
        "Not the least-squares answer. It looks as if each mode is fitted by itself, which is "
        "right only for modes at right angles; at a few landmarks they are not.": (
            lambda f, m, b, n=0.0: products(f, m, b) / (b.flatten(1).square().sum(1) + n**2)
        ),
    },
)
def fit_coefficients(attempt):
    mean, one = 20 * _random(3, 3, seed=0), torch.zeros(1, 3, 3)
    one[0, 1, 2] = 4.0
    face, loose = mean[None] + 3 * one, dict(axes=("face", "mode"), rtol=2e-3, atol=2e-3)
    close(f"{CASE}, noise 0", attempt(face, mean, one, 0.0), torch.tensor([[3.0]]))
    # (A A' + noise²) a = A d: (16 + 16) a = 48
    half = f"{CASE}, noise 4: half the step"
    close(half, attempt(face, mean, one, 4.0), torch.tensor([[1.5]]))
    for batch, modes, v, noise, seed in (
        (4, 3, 9, 0.0, 1),
        (4, 3, 9, 1.7, 2),
        (1, 5, 6, 0.6, 3),
        (3, 12, 2, 0.8, 4),  # more modes than coordinates: only the prior decides
    ):
        mean = 30 * _random(v, 3, seed=seed)
        basis = _random(modes, v, 3, seed=seed + 10)  # not at right angles
        faces = mean + 12 * _random(batch, v, 3, seed=seed + 20)
        what = f"fit_coefficients of {batch} faces, {modes} modes, {v} vertices, noise {noise:g}"
        hint = "(A Aᵀ + noise² I) a = A (p - mean), with A the basis as a (modes, 3V) matrix."
        agree(what, attempt, faces, mean, basis, noise, hint=hint, **loose)
    what = "fit_coefficients without the last argument: noise is 0 then"
    agree(what, attempt, faces, mean, basis[:4], **loose)
    double = _random(2, 6, 3, seed=9, dtype=torch.float64)
    basis = _random(2, 6, 3, seed=8, dtype=torch.float64)
    agree("fit_coefficients in float64", attempt, double, double[0], basis, 0.3)
    return "with and without the prior, one face or many"


# Generalisation and specificity -----------------------------------------------------------------


def gap_measured(measure):
    """The generalisation error by another measure of the gaps, (batch, vertex, 3)."""
    return lambda *arguments: measure(gap(*arguments))


GAPS = (
    "One face of two vertices; the first mode moves the first vertex along x, where the face is "
    "off by (7, 3, 4), the second is off by (0, 6, 0): expected 5.5 mm,"
)


@exercise_check(
    stand_in=library_generalisation_error,
    mistakes={
        f"{GAPS} got 30.5. It seems squared distances are averaged.": gap_measured(
            lambda gap: gap.square().sum(-1).mean()
        ),
        f"{GAPS} got 7.81. It seems the whole face is taken as one long vector; a distance is a "
        "vertex's.": gap_measured(lambda gap: gap.flatten(1).norm(dim=1).mean()),
        f"{GAPS} got 2.17. It seems coordinates are averaged; a distance is the length of "
        "(x, y, z).": gap_measured(lambda gap: gap.abs().mean()),
        f"{GAPS} got 2.5. It seems both modes were used, though modes = 1.": (
            lambda f, m, b, k: library_generalisation_error(f, m, b, len(b)),
            lambda f, m, b, k: library_generalisation_error(f, m, b, k + 1),
        ),
        f"{GAPS} got 11. It seems distances are summed over the vertices, not averaged.": (
            gap_measured(lambda gap: gap.norm(dim=-1).sum(1).mean())
        ),
        f"{GAPS} got 5.52. It seems this is a root mean square; the average of lengths is asked "
        "for.": gap_measured(lambda gap: gap.square().sum(-1).mean().sqrt()),
    },
)
def generalisation_error(attempt):
    mean = 40 * _random(2, 3, seed=0)
    unit, off = torch.zeros(2, 2, 3), torch.tensor([[[7.0, 3, 4], [0, 6, 0]]])
    unit[0, 0, 0], unit[1, 1, 1] = 3.0, 2.0
    case = "one face of two vertices, one of which the first mode moves,"
    close(case, attempt(mean + off, mean, unit, 1), (5.0 + 6.0) / 2)
    close("the same with both modes", attempt(mean + off, mean, unit, 2), 2.5)
    for batch, total, modes, v, seed in ((4, 6, 2, 11, 1), (3, 5, 5, 8, 2), (1, 7, 3, 10, 3)):
        mean = 40 * _random(v, 3, seed=seed)
        basis = torch.linspace(9, 2, total)[:, None, None] * _orthonormal(total, v, seed=seed + 5)
        further = torch.arange(1.0, batch + 1)[:, None, None]
        faces = mean + 5 * _random(batch, v, 3, seed=seed + 9) * further
        close(
            f"{batch} faces, the first {modes} of {total} modes, {v} vertices",
            attempt(faces, mean, basis, modes),
            float(library_generalisation_error(faces, mean, basis, modes)),
            rtol=1e-3,
            hint="Rebuild each face without the prior (noise 0), then average over both axes.",
        )
    return "in millimetres, averaged over vertices and faces"


def distance_measured(measure):
    """The specificity error by another measure of the distances, (batch, sample, vertex)."""
    return lambda generated, samples: measure(distances(generated, samples))


NEAREST = "Three generated faces are 4 mm, 3 mm and 5 mm from the nearest of five samples."


@exercise_check(
    stand_in=library_specificity_error,
    mistakes={
        f"{NEAREST} It looks like the mean over all samples; the nearest alone counts.": (
            distance_measured(lambda each: each.mean())
        ),
        f"{NEAREST} It looks like the nearest of all pairs; every generated face counts.": (
            distance_measured(lambda each: each.mean(2).min())
        ),
        f"{NEAREST} It looks like for each sample the nearest generated face: the other way "
        "round.": distance_measured(lambda each: each.mean(2).min(0).values.mean()),
        f"{NEAREST} It looks like a nearest sample for each vertex; one whole face is the "
        "nearest.": distance_measured(lambda each: each.min(1).values.mean()),
        f"{NEAREST} It looks like the furthest sample.": distance_measured(
            lambda each: each.mean(2).max(1).values.mean()
        ),
        f"{NEAREST} It looks like a sum over the generated faces, not their mean.": (
            distance_measured(lambda each: each.mean(2).min(1).values.sum())
        ),
        f"{NEAREST} It looks like a sum over the vertices, not their mean.": distance_measured(
            lambda each: each.sum(2).min(1).values.mean()
        ),
        f"{NEAREST} It looks like each face taken as one long vector; the distance here is a mean "
        "over vertices.": distance_measured(
            lambda each: each.square().sum(2).sqrt().min(1).values.mean()
        ),
        f"{NEAREST} It looks like the nearest by squared distances; the nearest by the mean "
        "distance is asked for.": distance_measured(
            lambda each: each.mean(2).gather(1, each.square().sum(2).argmin(1, keepdim=True)).mean()
        ),
    },
)
def specificity_error(attempt):
    samples, generated = torch.zeros(5, 2, 3), torch.zeros(3, 2, 3)
    samples[1, :, 0], samples[2, 0, 1], samples[4, :, 2] = 10.0, 4.0, -30.0
    generated[0, 1, 1] = 8.0  # nearest to sample 0: (0 + 8) / 2
    generated[1] = samples[1] + torch.tensor([0.0, 3, 0])  # nearest to sample 1: 3
    generated[2] = samples[4] + torch.tensor([0.0, 3, 4])  # nearest to sample 4: 5
    samples[3] = generated[0]  # in root mean square nearer than sample 0, but not on average
    samples[3, :, 2] -= torch.tensor([3.0, 5.5])
    case = "three generated faces, 4 mm, 3 mm and 5 mm from the nearest of five samples"
    close(case, attempt(generated, samples), 4.0)
    # close vertices: whoever looks for the nearest vertex and not for the same one is told apart
    for batch, count, v, apart, seed in ((5, 3, 6, 30, 1), (2, 9, 4, 3, 2), (1, 4, 7, 30, 3)):
        samples = apart * _random(1, v, 3, seed=seed) + 4 * _random(count, v, 3, seed=seed + 5)
        generated = samples.mean(0) + 5 * _random(batch, v, 3, seed=seed + 9)
        generated[0] = samples[-1] + 0.5 * _random(v, 3, seed=seed + 12)
        close(
            f"{batch} generated faces, {count} samples, {v} vertices",
            attempt(generated, samples),
            float(library_specificity_error(generated, samples)),
            rtol=1e-3,
        )
    return "each generated face against its nearest sample"
