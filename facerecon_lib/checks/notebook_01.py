"""Checks of notebook 01: PCA, Eq. 1, fitting with the prior, generalisation and specificity."""

from __future__ import annotations

import math
import tracemalloc

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import exercise_check
from .compare import Wrong, close, same_gradient

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
    """Ridge regression: the prior N(0, 1) against noise of `noise` mm a coordinate."""
    rows = basis.flatten(1).double()
    gram = rows @ rows.T + noise**2 * torch.eye(len(rows), dtype=torch.float64)
    right = (faces - mean).flatten(1).double() @ rows.T
    return torch.linalg.solve(gram, right.T).T.to(faces.dtype)


def library_generalisation_error(
    faces: Float[Tensor, "batch vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    modes: int,
) -> Float[Tensor, ""]:
    """Mean distance in mm of faces to their rebuilding with the first modes."""
    kept = basis[:modes]
    coefficients = library_fit_coefficients(faces, mean, kept)
    rebuilt = mean + (coefficients @ kept.flatten(1)).unflatten(1, mean.shape)
    return (rebuilt - faces).norm(dim=-1).mean()


def library_specificity_error(
    generated: Float[Tensor, "batch vertex 3"], samples: Float[Tensor, "sample vertex 3"]
) -> Float[Tensor, ""]:
    """Mean distance in mm of generated faces to the sample that is nearest to each."""
    distance = [(face - samples).norm(dim=-1).mean(1).min() for face in generated]
    return torch.stack(distance).mean()


# Inputs -----------------------------------------------------------------------------------------


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


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


# Exercises --------------------------------------------------------------------------------------


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


def _parts(what: str, got: object, count: int) -> tuple:
    if got is None:
        raise Wrong(f"{what} returned nothing (None): is the `return` missing?")
    if not isinstance(got, tuple | list) or len(got) != count:
        kind = f"{len(got)} values" if isinstance(got, tuple | list) else type(got).__name__
        raise Wrong(f"{what}: expected three values, mean, basis and deviation; got {kind}.")
    return tuple(got)


def _compare_pca(what: str, got: object, samples: Tensor, modes: int) -> None:
    mean, basis, deviation = _parts(what, got, 3)
    wanted_mean, wanted_basis, wanted = library_pca(samples.double(), modes)
    wanted_mean, wanted_basis = wanted_mean.to(samples), wanted_basis.to(samples)
    wanted = wanted.to(samples)
    close(f"the mean of {what}", mean, wanted_mean, axes=MODE_AXES[1:], rtol=1e-4, atol=1e-3)
    if isinstance(deviation, Tensor) and deviation.shape == wanted.shape:
        count = len(samples)
        ratio = deviation.detach().double() / wanted.double()
        for factor, words in (
            (math.sqrt((count - 1) / count), "the variance is divided by N: this course takes N-1"),
            (math.sqrt(count - 1), "the sum over samples is never divided by N-1"),
            (math.sqrt((count - 1) * count), "the sum is multiplied by N instead of divided"),
        ):
            if torch.allclose(ratio, torch.full_like(ratio, factor), rtol=2e-3):
                raise Wrong(
                    f"{what}: every standard deviation is {factor:.3g} times the expected one. "
                    f"It looks as if {words}.",
                    lambda: _spectrum(deviation.detach(), wanted),
                )
        if torch.allclose(deviation.detach(), wanted**2, rtol=2e-3):
            raise Wrong(
                f"{what}: these are variances, in mm²; the standard deviation is their root."
            )
    close(
        f"the deviation of {what}",
        deviation,
        wanted,
        axes=("mode",),
        rtol=1e-3,
        atol=1e-3,
        hint="Largest first, and only the first `modes` of them.",
        picture=_spectrum,
    )
    if isinstance(basis, Tensor) and basis.shape == wanted_basis.shape:
        sign = (basis * wanted_basis).sum((1, 2)).sign()  # either sign of a mode is right
        wanted_basis = wanted_basis * sign[:, None, None].to(wanted_basis)
    close(
        f"the basis of {what} (up to the sign of each mode)",
        basis,
        wanted_basis,
        axes=MODE_AXES,
        rtol=2e-3,
        atol=2e-3 * float(wanted.max()) / math.sqrt(3 * samples.shape[1]),
        hint="Row k: the unit direction of mode k, times its standard deviation, as (V, 3).",
    )


@exercise_check(stand_in=library_pca)
def pca(attempt):
    samples = _faces(6, 4, seed=1)
    got = _parts("pca(samples, 3) of 6 faces of 4 vertices", attempt(samples, 3), 3)
    for name, part, shape in zip(
        ("mean", "basis", "deviation"), got, ((4, 3), (3, 4, 3), (3,)), strict=True
    ):
        if not isinstance(part, Tensor):
            raise Wrong(f"the {name}: expected a torch.Tensor, got {type(part).__name__}.")
        if tuple(part.shape) != shape:
            raise Wrong(
                f"the {name} of 6 faces of 4 vertices, 3 modes: expected shape {shape}, got "
                f"{tuple(part.shape)}."
            )
    two = torch.zeros(2, 3, 3)
    two[0, 0, 0], two[1, 0, 0] = 5.0, 1.0
    mean, basis, deviation = attempt(two, 1)
    close("the mean of two faces whose one vertex is at x = 5 and 1: its x", mean[0, 0], 3.0)
    deviation = float(deviation[0])
    if abs(deviation - 2.0) < 1e-3:
        raise Wrong(
            "Two faces differ at one vertex alone, by 4 mm in x. Their variance is "
            "(2² + 2²) / (N - 1) = 8 mm², so the deviation is 2.83 mm; yours is 2, the variance "
            "divided by N = 2. We divide by N - 1, as the mean has been estimated from the same "
            "faces."
        )
    case = "the deviation of two faces that differ by 4 mm at one vertex"
    for value, words in (
        (26**0.5, "the mean was not taken off the samples"),
        (8.0, "this is the variance; the deviation is its root"),
    ):
        if abs(deviation - value) < 1e-3:
            raise Wrong(f"{case}: expected 2.83 mm, got {value:.3g}: {words}.")
    close(case, deviation, 8**0.5)
    moved = float(basis.detach().abs().max())
    if abs(moved - 1) < 1e-3:
        raise Wrong(
            "Each row of the basis has length 1. Multiply it by its standard deviation, so that a "
            "coefficient of 1 moves the face by one standard deviation."
        )
    close("the largest entry of the basis of those two faces, without its sign", moved, 8**0.5)
    _compare_pca(
        "pca(samples, 5), 12 faces of 40 vertices",
        attempt(_faces(12, 40, 5), 5),
        _faces(12, 40, 5),
        5,
    )
    _compare_pca(
        "pca(samples, 9), 30 faces of 3 vertices", attempt(_faces(30, 3, 8), 9), _faces(30, 3, 8), 9
    )
    wide = _faces(5, 250, 11)
    with _LargestTensor() as largest:
        _compare_pca("pca(samples, 4), 5 faces of 250 vertices", attempt(wide, 4), wide, 4)
    if largest.numbers >= 750 * 750:
        raise Wrong(
            "The numbers are right, but on the way you make a matrix of 3V x 3V = 750 x 750. "
            "For our 3,437 vertices that is 106 million numbers, and its decomposition takes "
            "minutes. Five faces span at most five directions: use the SVD of the (N, 3V) matrix "
            "with full_matrices=False, or the small (N, N) matrix."
        )
    double = _faces(8, 10, 14).double()
    _compare_pca("pca of float64 samples", attempt(double, 3), double, 3)
    return "mean, basis and deviations agree, whatever the signs of the modes"


@exercise_check(stand_in=library_face_shape)
def face_shape(attempt):
    axes = ("face", "vertex", "coordinate")
    mean = torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    wide = torch.tensor([[[-1.0, 0, 0], [1, 0, 0]]])
    up = torch.tensor([[[0.0, 2, 0], [0, 2, 0]], [[0.0, 0, 3], [0, 0, 0]]])
    got = attempt(mean, wide, up, torch.tensor([[2.0]]), torch.tensor([[0.5, 0.0]]))
    expected = torch.tensor([[[-2.0, 1, 0], [12, 1, 0]]])
    close(
        "one face of two vertices, identity 2 (each step widens), expression (0.5, 0)",
        got,
        expected,
        axes=axes,
    )
    for batch, ki, ke, v, seed in ((4, 3, 5, 7, 0), (1, 6, 2, 9, 1), (5, 5, 5, 5, 2)):
        mean = 50 * _random(v, 3, seed=seed)
        ai, ae = _random(ki, v, 3, seed=seed + 10), _random(ke, v, 3, seed=seed + 20)
        ci, ce = _random(batch, ki, seed=seed + 30), _random(batch, ke, seed=seed + 40)
        close(
            f"face_shape of {batch} faces, {ki} identity and {ke} expression modes, {v} vertices",
            attempt(mean, ai, ae, ci, ce),
            library_face_shape(mean, ai, ae, ci, ce),
            axes=axes,
            atol=1e-3,
        )
    leaves = [(ci.clone().requires_grad_(), ci.clone().requires_grad_()) for ci in (ci, ce)]
    weight = _random(batch, v, 3, seed=50)
    mine = attempt(mean, ai, ae, leaves[0][0], leaves[1][0])
    ours = library_face_shape(mean, ai, ae, leaves[0][1], leaves[1][1])
    same_gradient(
        "face_shape",
        (mine * weight).sum(),
        (ours * weight).sum(),
        {"identity": leaves[0], "expression": leaves[1]},
        atol=1e-4,
    )
    return "Eq. 1 holds for batches, and gradients flow to both sets of coefficients"


@exercise_check(stand_in=library_fit_coefficients)
def fit_coefficients(attempt):
    axes = ("face", "mode")
    mean = 20 * _random(3, 3, seed=0)
    one = torch.zeros(1, 3, 3)
    one[0, 1, 2] = 4.0
    face, case = (
        mean[None] + 3 * one,
        "one mode moves one vertex by 4 mm, the face is 12 mm off there",
    )
    got = attempt(face, mean, one, 0.0)
    if isinstance(got, Tensor) and got.numel() == 1:
        for value, words in (
            (float(face[0, 1, 2]) / 4, "the mean face was not taken off"),
            (
                48.0,
                "that is the product of mode and offset, not yet divided by the mode's own square",
            ),
            (12.0, "the product was divided by the mode's length, not by its square"),
        ):
            if abs(float(got) - value) < 1e-3:
                raise Wrong(f"{case}: without noise the answer is 3, got {value:.4g}: {words}.")
    close(f"{case}, noise 0", got, torch.tensor([[3.0]]), axes=axes)
    got = attempt(face, mean, one, 4.0)
    if isinstance(got, Tensor) and got.numel() == 1:
        for value, words in (
            (3.0, "the noise has no effect: where is the prior?"),
            (2.4, "the noise is added as it is; it enters squared, as a variance"),
        ):
            if abs(float(got) - value) < 1e-3:
                raise Wrong(
                    f"{case}. With noise 4, as strong as the mode, the answer is half of the 3 "
                    f"that fits best, 1.5; got {value:g}: {words}"
                )
    # (A A' + noise²) a = A d: (16 + 16) a = 48
    close(f"{case}, noise 4: half the step", got, torch.tensor([[1.5]]), axes=axes)
    for batch, modes, v, noise, seed in (
        (4, 3, 9, 0.0, 1),
        (4, 3, 9, 1.7, 2),
        (1, 5, 6, 0.6, 3),
        (3, 12, 2, 0.8, 4),  # more modes than coordinates: only the prior decides
    ):
        mean = 30 * _random(v, 3, seed=seed)
        basis = _random(modes, v, 3, seed=seed + 10)  # not at right angles
        faces = mean + 12 * _random(batch, v, 3, seed=seed + 20)
        got = attempt(faces, mean, basis, noise)
        expected = library_fit_coefficients(faces, mean, basis, noise)
        what = f"{batch} faces, {modes} modes, {v} vertices, noise {noise:g}"
        if isinstance(got, Tensor) and got.shape == expected.shape:
            rows = basis.flatten(1)
            along = (faces - mean).flatten(1) @ rows.T
            for wrong, words in (
                (along, "these are the products of the offset with each mode, not yet solved"),
                (
                    along / (rows.square().sum(1) + noise**2),
                    "each mode is fitted by itself, which "
                    "is right only for modes at right angles; at a few landmarks they are not",
                ),
                ((faces.flatten(1)) @ torch.linalg.pinv(rows), "the mean was not taken off"),
            ):
                if torch.allclose(got, wrong, rtol=1e-3, atol=1e-3):
                    raise Wrong(f"{what}: not the least-squares answer. It looks as if {words}.")
        close(
            f"fit_coefficients of {what}",
            got,
            expected,
            axes=axes,
            rtol=2e-3,
            atol=2e-3,
            hint="(A Aᵀ + noise² I) a = A (p - mean), with A the basis as a (modes, 3V) matrix.",
        )
    close(
        "fit_coefficients without the last argument: noise is 0 then",
        attempt(faces, mean, basis[:4]),
        library_fit_coefficients(faces, mean, basis[:4]),
        axes=axes,
        rtol=2e-3,
        atol=2e-3,
    )
    double = _random(2, 6, 3, seed=9, dtype=torch.float64)
    mean, basis = double[0], _random(2, 6, 3, seed=8, dtype=torch.float64)
    close(
        "fit_coefficients in float64",
        attempt(double, mean, basis, 0.3),
        library_fit_coefficients(double, mean, basis, 0.3),
        axes=axes,
    )
    return "with and without the prior, one face or many"


@exercise_check(stand_in=library_generalisation_error)
def generalisation_error(attempt):
    mean = 40 * _random(2, 3, seed=0)
    unit = torch.zeros(2, 2, 3)
    unit[0, 0, 0], unit[1, 1, 1] = 3.0, 2.0
    off = torch.zeros(1, 2, 3)
    off[0, 0], off[0, 1] = torch.tensor([7.0, 3, 4]), torch.tensor([0.0, 6, 0])
    case = (
        "one face of two vertices; the first mode moves the first vertex along x, where the face "
        "is off by (7, 3, 4), the second is off by (0, 6, 0)"
    )
    wanted = (5.0 + 6.0) / 2
    got = attempt(mean + off, mean, unit, 1)
    if isinstance(got, Tensor | float | int) and torch.as_tensor(got).numel() == 1:
        value = float(got)
        for wrong, words in (
            ((25 + 36) / 2, "squared distances are averaged"),
            (61**0.5, "the whole face is taken as one long vector; a distance is a vertex's"),
            ((3 + 4 + 6) / 6, "coordinates are averaged; a distance is the length of (x, y, z)"),
            (5.0 / 2, "both modes were used, though modes = 1"),
            (11.0, "distances are summed over the vertices, not averaged"),
            ((61 / 2) ** 0.5, "this is a root mean square; the average of lengths is asked for"),
        ):
            if abs(value - wrong) < 1e-3:
                raise Wrong(f"{case}: expected {wanted:g} mm, got {value:.3g}. It seems {words}.")
    close(case, got, wanted)
    close("the same with both modes", attempt(mean + off, mean, unit, 2), 2.5)
    for batch, total, modes, v, seed in ((4, 6, 2, 11, 1), (3, 5, 5, 8, 2), (1, 7, 3, 10, 3)):
        mean = 40 * _random(v, 3, seed=seed)
        spread = torch.linspace(9, 2, total)[:, None, None]
        basis = spread * _orthonormal(total, v, seed=seed + 5)
        faces = mean + 5 * _random(batch, v, 3, seed=seed + 9) * torch.arange(1.0, batch + 1).view(
            -1, 1, 1
        )
        close(
            f"{batch} faces, the first {modes} of {total} modes, {v} vertices",
            attempt(faces, mean, basis, modes),
            float(library_generalisation_error(faces, mean, basis, modes)),
            rtol=1e-3,
            hint="Rebuild each face without the prior (noise 0), then average over both axes.",
        )
    return "in millimetres, averaged over vertices and faces"


@exercise_check(stand_in=library_specificity_error)
def specificity_error(attempt):
    samples = torch.zeros(5, 2, 3)
    samples[1, :, 0], samples[2, 0, 1], samples[4, :, 2] = 10.0, 4.0, -30.0
    generated = torch.zeros(3, 2, 3)
    generated[0, 1, 0] = 8.0  # nearest to sample 0: (0 + 8) / 2
    generated[1] = samples[1] + torch.tensor([0.0, 3, 0])  # nearest to sample 1: 3
    generated[2] = samples[4] + torch.tensor([0.0, 3, 4])  # nearest to sample 4: 5
    samples[3] = generated[0]  # in root mean square nearer than sample 0, but not on average
    samples[3, :, 2] -= torch.tensor([3.0, 5.5])
    case = "three generated faces, 4 mm, 3 mm and 5 mm from the nearest of five samples"
    got = attempt(generated, samples)
    if isinstance(got, Tensor | float | int) and torch.as_tensor(got).numel() == 1:
        value = float(got)
        each = (generated[:, None] - samples).norm(dim=-1)
        long = each.square().sum(2)
        for wrong, words in (
            (each.mean(), "the mean over all samples; the nearest alone counts"),
            (each.mean(2).min(), "the nearest of all pairs; every generated face counts"),
            (
                each.mean(2).min(0).values.mean(),
                "for each sample the nearest generated face: the other way round",
            ),
            (
                each.min(1).values.mean(),
                "a nearest sample for each vertex; one whole face is the nearest",
            ),
            (each.mean(2).max(1).values.mean(), "the furthest sample"),
            (each.mean(2).min(1).values.sum(), "a sum over the generated faces, not their mean"),
            (each.sum(2).min(1).values.mean(), "a sum over the vertices, not their mean"),
            (
                long.min(1).values.sqrt().mean(),
                "each face taken as one long vector; the distance here is a mean over vertices",
            ),
            (
                each.mean(2).gather(1, long.argmin(1, keepdim=True)).mean(),
                "the nearest by squared distances; the nearest by the mean distance is asked for",
            ),
        ):
            if abs(value - float(wrong)) < 1e-3:
                raise Wrong(f"{case}: expected 4 mm, got {value:.3g}. It looks like {words}.")
    close(case, got, 4.0)
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
