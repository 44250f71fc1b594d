"""Checks of notebook 01: PCA, Eq. 1 and 2, fits, generalisation, specificity, faces with holes."""

import math
import tracemalloc
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...face.bilinear import mode_product as library_mode_product
from ..checks import exercise_check
from ..compare import Wrong, drawn_together, like, normal, same_length, strided, uniform

Shape, Modes = Float[Tensor, "vertex 3"], Float[Tensor, "mode vertex 3"]
Faces, Coefficients = Float[Tensor, "face vertex 3"], Float[Tensor, "face mode"]


def _orthonormal(rows: int, vertices: int, seed: int) -> Modes:
    """Directions of length 1, at right angles."""
    q, _ = torch.linalg.qr(normal(3 * vertices, rows, seed=seed, dtype=torch.float64))
    return q.T.unflatten(1, (vertices, 3)).float()


def _faces(count: int, vertices: int, seed: int) -> Faces:
    """Samples far from the origin, with spreads that are well apart."""
    rank = min(count - 1, 3 * vertices)
    weights = normal(count, rank, seed=seed) * 30 * 0.75 ** torch.arange(rank)
    offsets = weights @ _orthonormal(rank, vertices, seed + 1).flatten(1)
    return 60 * normal(1, vertices, 3, seed=seed + 2) + offsets.unflatten(1, (vertices, 3))


class _LargestTensor(TorchFunctionMode):
    """Notes the most numbers that any tensor made while it is on holds, or that numpy held."""

    numbers = 0

    def __enter__(self):
        tracemalloc.start()  # it does not trace torch's own memory
        return super().__enter__()

    def __exit__(self, *error):
        self.numbers = max(self.numbers, tracemalloc.get_traced_memory()[1] // 4)
        tracemalloc.stop()
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Tensor):
                self.numbers = max(self.numbers, part.numel())
        return result


def _compare_pca(what: str, attempt, samples: Tensor, modes: int, unit: float = 1.0) -> None:
    """unit: about how large the smallest deviation is, which says how exact is exact."""
    got = attempt.trial(what)(samples, modes)
    expected = library_pca(samples.double(), modes)
    same_length(what, got, expected)
    mean, basis, deviation = (part.to(samples) for part in expected)
    mean_axes, basis_atol = ("vertex", "x, y, z"), 2e-3 / math.sqrt(3 * samples.shape[1])
    attempt.close(f"the mean of {what}", got[0], mean, axes=mean_axes, rtol=1e-4, atol=1e-3 * unit)
    hint = "Largest first, and only the first `modes` of them."
    picture = drawn_together("Standard deviation of each mode, mm", xlabel="mode")
    options = dict(axes=("mode",), hint=hint, picture=picture, rtol=1e-3, atol=1e-3 * unit)
    attempt.close(f"the deviation of {what}", got[2], deviation, **options)
    if like(got[1], basis):  # either sign of a mode is right
        same_way = (got[1] * basis).sum((1, 2), keepdim=True) >= 0
        basis = torch.where(same_way, basis, -basis)
    hint = "Row k: the unit direction of mode k, times its standard deviation, as (V, 3)."
    options = dict(axes=("mode", *mean_axes), hint=hint, rtol=2e-3)
    options["atol"] = basis_atol * float(deviation.max())
    attempt.close(f"the basis of {what} (up to the sign of each mode)", got[1], basis, **options)


def changed_pca(*, centre=True, divisor=lambda n: n - 1, scale=lambda s: s, deviation=lambda s: s):
    """Mean, basis (in standard deviations) and deviations; each part can be exchanged."""

    def pca(samples: Faces, modes: int) -> tuple[Shape, Modes, Float[Tensor, " mode"]]:
        mean = samples.mean(0)
        x = (samples - mean if centre else samples).flatten(1)
        _, s, v = torch.linalg.svd(x, full_matrices=False)
        s = s / math.sqrt(divisor(len(samples)))
        basis = (scale(s)[:, None] * v).unflatten(1, samples.shape[1:])
        return mean, basis[:modes], deviation(s)[:modes]

    return pca


library_pca = changed_pca()


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
        "is the variance, in mm²; the deviation is its root.": changed_pca(deviation=torch.square),
        "The deviation of two faces that differ by 4 mm at one vertex is 2.83 mm; yours is 4: the "
        "sum over samples is multiplied by N instead of "
        "divided.": changed_pca(divisor=lambda n: 1 / n),
        "Every standard deviation of 12 faces is 3.32 times the expected one. It looks as if the "
        "sum over samples is never divided by N-1.": changed_pca(divisor=lambda n: 1),
        "Each row of the basis has length 1. Multiply it by its standard deviation, so that a "
        "coefficient of 1 moves the face by one standard "
        "deviation.": changed_pca(scale=torch.ones_like),
    },
    compared=lambda answer: (answer[0], answer[1].abs(), answer[2]),
    points=3,
)
def pca(attempt):
    two = torch.zeros(2, 3, 3)
    two[0, 0, 0], two[1, 0, 0] = 5.0, 1.0
    with attempt.part("by hand"):
        _compare_pca("pca of two faces that differ by 4 mm at one vertex", attempt, two, 1)
    with attempt.part("small faces"):
        samples = _faces(12, 40, 5)
        _compare_pca("pca(samples, 5), 12 faces of 40 vertices", attempt, samples, 5)
        samples = _faces(30, 3, 8)
        _compare_pca("pca(samples, 9), 30 faces of 3 vertices", attempt, samples, 9)
    with attempt.part("no matrix of 3V x 3V"):
        with _LargestTensor() as largest:
            samples = _faces(5, 250, 11)
            _compare_pca("pca(samples, 4), 5 faces of 250 vertices", attempt, samples, 4)
        if largest.numbers >= 750 * 750:
            raise Wrong(
                "The numbers are right, but on the way you make a matrix of 3V x 3V = 750 x 750. "
                "For our 3,437 vertices that is 106 million numbers, and its decomposition takes "
                "minutes. Five faces span at most five directions: use the SVD of the (N, 3V) "
                "matrix with full_matrices=False, or the small (N, N) matrix."
            )
    with attempt.part("dtypes, layouts and numbers of modes"):
        _compare_pca("pca of float64 samples", attempt, _faces(8, 10, 14).double(), 3)
        [samples] = strided(_faces(12, 40, 17))
        _compare_pca("pca(samples, 5) of 12 other faces, not contiguous", attempt, samples, 5)
        _compare_pca("pca(samples, 1), the first mode alone", attempt, samples, 1)
        samples = 60 * normal(1, 30, 3, seed=18) + 10 * normal(24, 30, 3, seed=19)
        _compare_pca("pca(samples, 20), 24 faces of 30 vertices", attempt, samples, 20)
    with attempt.part("heads and skins"):
        samples = _faces(8, 3437, 20)
        _compare_pca("pca(samples, 7), 8 heads of 3,437 vertices", attempt, samples, 7)
        albedo = 0.5 + 0.002 * (samples[:, :50] - samples[:, :50].mean(0))
        _compare_pca("pca(albedo, 6) of 8 skins, colours from 0 to 1", attempt, albedo, 6, 0.002)
    return "mean, basis and deviations agree, whatever the signs of the modes"


def library_face_shape(
    mean: Shape, identity_basis: Modes, expression_basis: Modes, ci: Coefficients, ce: Coefficients
) -> Faces:
    """Eq. 1."""
    offset = ci @ identity_basis.flatten(1) + ce @ expression_basis.flatten(1)
    return mean + offset.unflatten(1, mean.shape)


@exercise_check(stand_in=library_face_shape, axes=("face", "vertex", "x, y, z"), points=2)
def face_shape(attempt):
    mean = torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    wide = torch.tensor([[[-1.0, 0, 0], [1, 0, 0]]])
    up = torch.tensor([[[0.0, 2, 0], [0, 2, 0]], [[0.0, 0, 3], [0, 0, 0]]])
    model = [50 * normal(5, 3, seed=6), normal(5, 5, 3, seed=16), normal(5, 5, 3, seed=26)]
    ci, ce = (3 * normal(5, 5, seed=seed) for seed in (36, 46))
    none = torch.zeros(5, 5)
    with attempt.part("by hand"):
        what = "one face of two vertices, identity 2 (each step widens), expression (0.5, 0)"
        inputs = mean, wide, up, torch.tensor([[2.0]]), torch.tensor([[0.5, 0.0]])
        attempt.case(what, inputs, expected=torch.tensor([[[-2.0, 1, 0], [12, 1, 0]]]))
    with attempt.part("batches and modes"):
        for batch, ki, ke, v, seed in (
            (4, 3, 5, 7, 0),
            (1, 6, 2, 9, 1),
            (3, 3, 3, 3, 2),
            (1, 1, 1, 1, 3),
            (2, 95, 43, 2, 4),
            (1, 9, 4, 3437, 5),
        ):
            ai, ae = (normal(k, v, 3, seed=seed + 10 * i) for i, k in enumerate((ki, ke), 1))
            others = 50 * normal(v, 3, seed=seed), ai, ae
            ones, two = 3 * normal(batch, ki, seed=seed + 30), 3 * normal(batch, ke, seed=seed + 40)
            what = f"{batch} faces, {ki} identity and {ke} expression modes, {v} vertices"
            attempt.case(f"face_shape of {what}", (*others, ones, two), atol=1e-3)
    with attempt.part("as many faces, modes and vertices; zeros; layouts"):
        attempt.case("face_shape, five of each", (*model, ci, ce), atol=1e-3)
        what = "face_shape with all identity coefficients 0"
        attempt.case(what, (*model, none, ce), atol=1e-3)
        what = "face_shape with all expression coefficients 0"
        attempt.case(what, (*model, ci, none), atol=1e-3)
        others = strided(*model, -ci, ce.flip(0))
        attempt.case("face_shape of 5 other faces, not contiguous", others, atol=1e-3)
    with attempt.part("gradients"):
        options = dict(call=lambda f, *coefficients: f(*model, *coefficients), atol=1e-4)
        inputs = {"identity": ci, "expression": ce}
        attempt.gradients("face_shape", inputs, **options)
        inputs = dict.fromkeys(inputs, none)
        attempt.gradients("face_shape, at coefficients of 0,", inputs, **options)
    return "Eq. 1 holds for batches, and gradients flow to both sets of coefficients"


def library_fit(faces: Faces, mean: Shape, basis: Modes, noise: float = 0.0) -> Coefficients:
    """Ridge regression: the prior N(0, 1) against noise of `noise` mm per coordinate."""
    rows = basis.flatten(1).double()
    gram = rows @ rows.T + noise**2 * torch.eye(len(rows), dtype=torch.float64)
    right = (faces - mean).flatten(1).double() @ rows.T
    return torch.linalg.solve(gram, right.T).T.to(faces.dtype)


def products(faces: Faces, mean: Shape, basis: Modes) -> Coefficients:
    """Of each face's offset with each mode."""
    return (faces - mean).flatten(1) @ basis.flatten(1).T


def noise_of(change):
    """The fit with another noise: change(noise)."""
    return lambda f, m, b, n=0.0: library_fit(f, m, b, change(n))


CASE = "one mode moves one vertex by 4 mm, the face is 12 mm off there"


@exercise_check(
    stand_in=library_fit,
    mistakes={
        "Not the least-squares answer: the mean face was not taken off.": lambda f, m, b, n=0.0: (
            library_fit(f, 0 * m, b, n)
        ),
        f"{CASE}: without noise the answer is 3, got 48: that is the product of mode and offset, "
        "not yet divided by the mode's own square.": lambda f, m, b, n=0.0: products(f, m, b),
        f"{CASE}: without noise the answer is 3, got 12: the product was divided by the mode's "
        "length, not by its "
        "square.": lambda f, m, b, n=0.0: products(f, m, b) / b.flatten(1).norm(dim=1),
        f"{CASE}. With noise 4, as strong as the mode, the answer is half of the 3 that fits best, "
        "1.5; got 3: the noise has no effect: where is the prior?": noise_of(lambda n: 0.0),
        f"{CASE}. With noise 4, as strong as the mode, the answer is half of the 3 that fits best, "
        "1.5; got 2.4: the noise is added as it is; it enters squared, as a "
        "variance.": noise_of(math.sqrt),
        "Not the least-squares answer. It looks as if each mode is fitted by itself, which is "
        "right only for modes at right angles; at a few landmarks they are "
        "not.": lambda f, m, b, n=0.0: products(f, m, b) / (b.flatten(1).square().sum(1) + n**2),
    },
    axes=("face", "mode"),
    points=3,
    rtol=2e-3,
    atol=2e-3,
)
def fit_coefficients(attempt):
    mean, one = 20 * normal(3, 3, seed=0), torch.zeros(1, 3, 3)
    one[0, 1, 2] = 4.0
    face, three = mean[None] + 3 * one, torch.tensor([[3.0]])
    tight = dict(atol=1e-5, rtol=1e-4)
    with attempt.part("by hand"):
        attempt.case(f"{CASE}, noise 0", (face, mean, one, 0.0), expected=three, **tight)
        # (A A' + noise²) a = A d: (16 + 16) a = 48
        what = f"{CASE}, noise 4: half the step"
        attempt.case(what, (face, mean, one, 4.0), expected=three / 2, **tight)
    with attempt.part("with and without the prior"):
        for batch, modes, v, noise, seed in (
            (4, 3, 9, 0.0, 1),
            (4, 3, 9, 1.7, 2),
            (1, 5, 6, 0.6, 3),
            (3, 12, 2, 0.8, 4),  # more modes than coordinates: only the prior decides
        ):
            mean = 30 * normal(v, 3, seed=seed)
            basis = normal(modes, v, 3, seed=seed + 10)  # not at right angles
            faces = mean + 12 * normal(batch, v, 3, seed=seed + 20)
            what = f"fit_coefficients of {batch} faces, {modes} modes, {v} vertices"
            hint = "(A Aᵀ + noise² I) a = A (p - mean), with A the basis as a (modes, 3V) matrix."
            attempt.case(f"{what}, noise {noise:g}", (faces, mean, basis, noise), hint)
        what = "fit_coefficients without the last argument: noise is 0 then"
        attempt.case(what, (faces, mean, basis[:4]))
    with attempt.part("dtypes, layouts, as many faces as modes"):
        double, basis = (normal(2, 6, 3, seed=seed, dtype=torch.float64) for seed in (9, 8))
        attempt.case("fit_coefficients in float64", (double, double[0], basis, 0.3), **tight)
        mean, basis = 30 * normal(3, 3, seed=10), normal(2, 3, 3, seed=11)
        for words, faces, noise in (
            ("two faces and two modes", mean + 12 * normal(2, 3, 3, seed=12), 0.5),
            ("two others", mean + 12 * normal(2, 3, 3, seed=13), 0.5),
            ("two, without noise, far from the mean", mean + 400 * normal(2, 3, 3, seed=14), 0.0),
        ):
            inputs = *strided(faces, mean, basis), noise
            attempt.case(f"fit_coefficients of {words}, not contiguous", inputs)
    with attempt.part("landmarks, heads and skins"):
        mean, marks = 60 * normal(68, 3, seed=15), _orthonormal(20, 68, seed=16)
        marks = 20 * 0.8 ** torch.arange(20)[:, None, None] * marks
        faces = mean + 9 * normal(18, 68, 3, seed=17)
        for noise in (0.0, 2.0, 40.0):
            what = f"fit_coefficients of 18 faces at 68 landmarks, noise {noise:g}"
            attempt.case(what, (faces, mean, marks, noise))
        mean, heads = 60 * normal(3437, 3, seed=18), 30 * _orthonormal(3, 3437, seed=19)
        heads_fit = mean + torch.einsum("bk,kvc->bvc", 2 * normal(2, 3, seed=20), heads)
        attempt.case("fit_coefficients of 2 heads of 3,437 vertices", (heads_fit, mean, heads))
        skin, skins = 0.5 + 0 * marks[0], 0.002 * marks
        colours = skin + torch.einsum("bk,kvc->bvc", normal(3, 20, seed=21), skins)
        what = "fit_coefficients of 3 skins, colours from 0 to 1, modes 0.0006 to 0.04 long"
        attempt.case(what, (colours, skin, skins))
    return "with and without the prior, one face or many"


def gap(faces: Faces, mean: Shape, basis: Modes, modes: int) -> Faces:
    """From each face to its rebuilding with the first modes."""
    offset = library_fit(faces, mean, basis[:modes]) @ basis[:modes].flatten(1)
    return mean + offset.unflatten(1, mean.shape) - faces


def gap_measured(measure=lambda gap: float(gap.norm(dim=-1).mean())):
    """The generalisation error, or another measure of the gaps, (face, vertex, 3)."""
    return lambda *arguments: measure(gap(*arguments))


library_generalisation = gap_measured()
GAPS = (
    "One face of two vertices; the first mode moves the first vertex along x, where the face is "
    "off by (7, 3, 4), the second is off by (0, 6, 0): expected 5.5 mm,"
)


@exercise_check(
    stand_in=library_generalisation,
    mistakes={
        f"{GAPS} got 30.5. It seems squared distances are averaged.": gap_measured(
            lambda gap: gap.square().sum(-1).mean()
        ),
        f"{GAPS} got 7.81. It seems the whole face is taken as one long vector; a distance is a "
        "vertex's.": gap_measured(lambda gap: gap.flatten(1).norm(dim=1).mean()),
        f"{GAPS} got 2.17. It seems coordinates are averaged; a distance is the length of "
        "(x, y, z).": gap_measured(lambda gap: gap.abs().mean()),
        f"{GAPS} got 2.5. It seems both modes were used, though modes = 1.": (
            lambda f, m, b, k: library_generalisation(f, m, b, len(b)),
            lambda f, m, b, k: library_generalisation(f, m, b, k + 1),
        ),
        f"{GAPS} got 11. It seems distances are summed over the vertices, not "
        "averaged.": gap_measured(lambda gap: gap.norm(dim=-1).sum(1).mean()),
        f"{GAPS} got 5.52. It seems this is a root mean square; the average of lengths is asked "
        "for.": gap_measured(lambda gap: gap.square().sum(-1).mean().sqrt()),
    },
    points=2,
)
def generalisation_error(attempt):
    hint = "Rebuild each face without the prior (noise 0), then average over both axes."

    def posed(batch: int, total: int, v: int, seed: int) -> tuple[Faces, Shape, Modes]:
        mean = 40 * normal(v, 3, seed=seed)
        basis = torch.linspace(9, 2, total)[:, None, None] * _orthonormal(total, v, seed=seed + 5)
        further = torch.arange(1.0, batch + 1)[:, None, None]
        return mean + 5 * normal(batch, v, 3, seed=seed + 9) * further, mean, basis

    with attempt.part("by hand"):
        mean = 40 * normal(2, 3, seed=0)
        unit, off = torch.zeros(2, 2, 3), torch.tensor([[[7.0, 3, 4], [0, 6, 0]]])
        unit[0, 0, 0], unit[1, 1, 1] = 3.0, 2.0
        case = "one face of two vertices, one of which the first mode moves,"
        attempt.case(case, (mean + off, mean, unit, 1), expected=(5.0 + 6.0) / 2)
        attempt.case("the same with both modes", (mean + off, mean, unit, 2), expected=2.5)
    with attempt.part("batches and modes"):
        for batch, total, modes, v, seed in ((4, 6, 2, 11, 1), (3, 5, 5, 8, 2), (1, 7, 3, 10, 3)):
            inputs = *posed(batch, total, v, seed), modes
            what = f"{batch} faces, the first {modes} of {total} modes, {v} vertices"
            attempt.case(what, inputs, hint, rtol=1e-3)
    with attempt.part("layouts, one mode, exact faces"):
        faces, mean, basis = posed(1, 7, 10, 3)
        others = strided(faces + 2, mean, basis)
        what = "another face, not contiguous, the first 3 of 7 modes"
        attempt.case(what, (*others, 3), hint, rtol=1e-3)
        attempt.case("the same with the first mode alone", (*others, 1), hint, rtol=1e-3)
        said = mean + torch.einsum("bk,kvc->bvc", 4 * normal(2, 7, seed=4), basis)
        what, exact = "two faces made with the same modes, which are rebuilt exactly,", 1e-3
        attempt.case(what, (said, mean, basis, 7), hint, expected=0.0, atol=exact)
    with attempt.part("heads"):
        mean, basis = 60 * normal(3437, 3, seed=5), 20 * _orthonormal(4, 3437, seed=6)
        further = 0.1 * torch.arange(17)[:, None, None]
        heads = mean + 3 * basis[1] + further * normal(17, 3437, 3, seed=7)
        attempt.case("17 heads of 3,437 vertices, 2 of 4 modes", (heads, mean, basis, 2), rtol=1e-3)
    return "in millimetres, averaged over vertices and faces"


def distances(generated: Faces, samples: Faces) -> Float[Tensor, "face sample vertex"]:
    """From each vertex of a generated face to the same vertex of each sample."""
    return (generated[:, None] - samples).norm(dim=-1)


def distance_measured(measure=lambda each: float(each.mean(2).min(1).values.mean())):
    """The specificity error, or another measure of the distances, (face, sample, vertex)."""
    return lambda generated, samples: measure(distances(generated, samples))


library_specificity = distance_measured()
NEAREST = "Three generated faces are 4 mm, 3 mm and 5 mm from the nearest of five samples."


@exercise_check(
    stand_in=library_specificity,
    mistakes={
        f"{NEAREST} It looks like the mean over all samples; the nearest alone "
        "counts.": distance_measured(lambda each: each.mean()),
        f"{NEAREST} It looks like the nearest of all pairs; every generated face "
        "counts.": distance_measured(lambda each: each.mean(2).min()),
        f"{NEAREST} It looks like for each sample the nearest generated face: the other way "
        "round.": distance_measured(lambda each: each.mean(2).min(0).values.mean()),
        f"{NEAREST} It looks like a nearest sample for each vertex; one whole face is the "
        "nearest.": distance_measured(lambda each: each.min(1).values.mean()),
        f"{NEAREST} It looks like the furthest sample.": distance_measured(
            lambda each: each.mean(2).max(1).values.mean()
        ),
        f"{NEAREST} It looks like a sum over the generated faces, not their "
        "mean.": distance_measured(lambda each: each.mean(2).min(1).values.sum()),
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
    points=2,
)
def specificity_error(attempt):
    with attempt.part("by hand"):
        samples, generated = torch.zeros(5, 2, 3), torch.zeros(3, 2, 3)
        samples[1, :, 0], samples[2, 0, 1], samples[4, :, 2] = 10.0, 4.0, -30.0
        generated[0, 1, 1] = 8.0  # nearest to sample 0: (0 + 8) / 2
        generated[1] = samples[1] + torch.tensor([0.0, 3, 0])  # nearest to sample 1: 3
        generated[2] = samples[4] + torch.tensor([0.0, 3, 4])  # nearest to sample 4: 5
        samples[3] = generated[0]  # in root mean square nearer than sample 0, but not on average
        samples[3, :, 2] -= torch.tensor([3.0, 5.5])
        case = "three generated faces, 4 mm, 3 mm and 5 mm from the nearest of five samples"
        attempt.case(case, (generated, samples), expected=4.0)

    def near(batch: int, count: int, v: int, apart: float, seed: int) -> tuple[Faces, Faces]:
        samples = apart * normal(1, v, 3, seed=seed) + 4 * normal(count, v, 3, seed=seed + 5)
        generated = samples.mean(0) + 5 * normal(batch, v, 3, seed=seed + 9)
        generated[0] = samples[-1] + 0.5 * normal(v, 3, seed=seed + 12)
        return generated, samples

    with attempt.part("batches"):
        # close vertices: who looks for the nearest vertex and not for the same one is told apart
        for batch, count, v, apart, seed in ((5, 3, 6, 30, 1), (2, 9, 4, 3, 2), (1, 4, 7, 30, 3)):
            what = f"{batch} generated faces, {count} samples, {v} vertices"
            attempt.case(what, near(batch, count, v, apart, seed), rtol=1e-3)
    with attempt.part("layouts, one vertex, samples themselves, far away"):
        generated, samples = near(1, 4, 7, 30, 3)
        others = strided(generated + 3 * normal(7, 3, seed=16), samples)
        attempt.case("another generated face, not contiguous", others, rtol=1e-3)
        attempt.case("a generated face and a sample that are one vertex", (generated[:, :1],) * 2)
        what, two = "two faces that are samples themselves: 0 mm away", samples[[3, 1]]
        attempt.case(what, (two, samples), expected=0.0, atol=1e-3)
        far = samples + torch.tensor([400.0, 0, 0])
        attempt.case("the same samples, 400 mm away from all of them", (far, samples), rtol=1e-3)
    with attempt.part("96 samples, heads"):
        samples = 20 * normal(96, 2, 3, seed=17)
        drawn = samples[-20:] + 0.05 * torch.arange(20)[:, None, None]
        attempt.case("20 generated faces, 96 samples", (drawn, samples), rtol=1e-3)
        heads = 60 * uniform(4, 3437, 3, seed=18)
        heads[:, 1000:] += 20 * torch.arange(4)[:, None, None]
        attempt.case("one head of 3,437 vertices, three samples", (heads[:1], heads[1:]), rtol=1e-3)
    return "each generated face against its nearest sample"


def product_of(change):
    """The mode product of changed arguments: change(tensor, matrix, mode)."""
    return lambda t, m, mode: library_mode_product(*change(t, m, mode))


SUMS = "A tensor of shape (2, 3, 1) and the matrix (1 1 1; 0 1 0), along axis 1: "


@exercise_check(
    stand_in=library_mode_product,
    mistakes={
        f"{SUMS}the answer has the shape (2, 2, 1). Yours has the new axis in front; it belongs "
        "where the old one was.": lambda t, m, mode: library_mode_product(t, m, mode).movedim(
            mode, 0
        ),
        f"{SUMS}the answer has the shape (2, 2, 1). Yours has the new axis at the end; it belongs "
        "where the old one was.": lambda t, m, mode: library_mode_product(t, m, mode).movedim(
            mode, -1
        ),
        "A square matrix along an axis: row r of the matrix makes entry r of the answer; yours "
        "takes its columns, so the matrix is transposed.": product_of(
            lambda t, m, mode: (t, m.T if m.shape[0] == m.shape[1] else m, mode)
        ),
    },
    points=2,
)
def mode_product(attempt):
    tensor = torch.arange(1.0, 7).reshape(2, 3, 1)
    sums, square = torch.tensor([[1.0, 1, 1], [0, 1, 0]]), torch.tensor([[0.0, 1], [2, 0]])
    with attempt.part("by hand"):
        right = torch.tensor([[[6.0], [2]], [[15.0], [5]]])
        what = "a tensor (2, 3, 1) of 1 to 6, the sum and the middle along axis 1"
        attempt.case(what, (tensor, sums, 1), expected=right)
        right = torch.tensor([[[4.0], [5], [6]], [[2.0], [4], [6]]])
        what = "the same tensor, along axis 0 first the second slice, then twice the first"
        attempt.case(what, (tensor, square, 0), expected=right)
    with attempt.part("all axes"):
        for shape, rows, mode in (
            ((4, 3, 5), 2, 0),
            ((4, 3, 5), 7, 1),
            ((4, 3, 5), 2, 2),
            ((3, 3, 3), 3, 1),
            ((5, 4, 2, 3), 6, 1),
            ((5, 4, 2, 3), 1, 3),
            ((6, 2), 3, 0),
            ((7,), 2, 0),
            ((3, 1, 4), 1, 1),
            ((2, 3, 4, 2, 3), 5, 2),
        ):
            inputs = 9 * normal(*shape, seed=mode), normal(rows, shape[mode], seed=rows), mode
            attempt.case(f"a tensor {shape}, {rows} rows, axis {mode}", inputs, atol=1e-4)
    with attempt.part("layouts, float64, zeros"):
        others = strided(normal(4, 4, 4, seed=5), normal(4, 4, seed=6))
        attempt.case("a tensor and a matrix of four, not contiguous", (*others, 1))
        others = strided(normal(4, 4, 4, seed=15), normal(4, 4, seed=16))
        attempt.case("two others of four", (*others, 1))
        double = (normal(*shape, seed=7, dtype=torch.float64) for shape in ((3, 4, 2), (2, 4)))
        attempt.case("float64", (*double, 1), atol=1e-9, rtol=1e-9)
        attempt.case("a tensor of zeros", (torch.zeros(3, 3, 2), normal(3, 3, seed=8), 0))
    with attempt.part("faces"):
        people = 12 * normal(30, 6, 3437, 3, seed=9)
        for rows, mode in ((5, 0), (2, 1)):
            inputs = people, normal(rows, people.shape[mode], seed=10), mode
            attempt.case(f"30 people in 6 poses, axis {mode}", inputs, rtol=1e-3, atol=1e-2)
    with attempt.part("gradients"):
        inputs = {"tensor": normal(3, 4, 2, seed=11), "matrix": normal(5, 4, seed=12)}
        call = dict(call=lambda f, tensor, matrix: f(tensor, matrix, 1))
        attempt.gradients("mode_product", inputs, **call, atol=1e-4)
        inputs = {"tensor": torch.zeros(3, 4, 2), "matrix": torch.zeros(4, 4)}
        attempt.gradients("mode_product of zeros", inputs, **call, atol=1e-4)
    return "one axis changes, and every other stays where it was"


def library_face_albedo(
    mean: Shape,
    directions: Modes,
    deviation: Float[Tensor, " mode"],
    coefficients: Float[Tensor, "*any fewer"],
) -> Float[Tensor, "*any vertex 3"]:
    """Eq. 2, of modes that are directions and deviations apart."""
    count = coefficients.shape[-1]
    offset = (coefficients * deviation[:count]) @ directions[:count].flatten(1)
    return mean + offset.unflatten(-1, mean.shape)


def scaled(change):
    """Eq. 2 with other deviations: change(deviation)."""
    return lambda m, d, s, c: library_face_albedo(m, d, change(s), c)


SKIN = "One vertex of red 0.6; the mode's deviation is 0.2, its direction red alone."


@exercise_check(
    stand_in=library_face_albedo,
    mistakes={
        f"{SKIN} A coefficient of 3 makes red 0.6 + 3 * 0.2 = 1.2; yours ends at 1. A colour "
        "that is cut off passes no gradient, so a fit that went too far never comes back; cut "
        "pictures, not albedo.": lambda *arguments: library_face_albedo(*arguments).clamp(0, 1),
        f"{SKIN} A coefficient of 3 makes red 1.2, got 3.6: the deviation is missing, so that a "
        "coefficient of 1 is a whole unit of length and not one standard "
        "deviation.": scaled(torch.ones_like),
        f"{SKIN} A coefficient of 3 makes red 1.2, got 0.72: the deviation was squared, to the "
        "variance.": scaled(torch.square),
        f"{SKIN} A coefficient of 3 makes red 1.2, got 0.6: this is the mean, whatever the "
        "coefficients.": scaled(torch.zeros_like),
    },
    points=2,
)
def face_albedo(attempt):
    one, red = torch.tensor([[0.6, 0.5, 0.4]]), torch.tensor([[[1.0, 0, 0]]])
    skin = 0.5 + 0.1 * normal(40, 3, seed=0), _orthonormal(6, 40, seed=1)
    deviation = torch.tensor([3.0, 1.1, 0.8, 0.5, 0.0, 0.2])
    with attempt.part("by hand"):
        what = "one vertex of red 0.6, a mode of deviation 0.2 that changes red alone, coefficient"
        for c in (3.0, -4.0):
            inputs = one, red, torch.tensor([0.2]), torch.tensor([[c]])
            right = torch.tensor([[[0.6 + 0.2 * c, 0.5, 0.4]]])
            attempt.case(f"{what} {c:g}", inputs, expected=right, axes=("skin", "vertex", "colour"))
    with attempt.part("any axes"):
        for shape in ((5, 6), (6, 6), (1, 6), (6,), (2, 3, 6), (2, 1, 3, 6)):
            what = f"face_albedo of 40 vertices, 6 modes, coefficients {shape}"
            attempt.case(what, (*skin, deviation, 2 * normal(*shape, seed=len(shape))))
    with attempt.part("fewer coefficients, layouts, float64"):
        for shape in ((4, 2), (1,), (3, 2, 5)):
            what = f"face_albedo of 6 modes, coefficients {shape}: the other modes count 0"
            attempt.case(what, (*skin, deviation, normal(*shape, seed=7)))
        others = strided(*skin, normal(2, 5, 6, seed=8))
        attempt.case("face_albedo, not contiguous", (*others[:2], deviation, others[2]))
        double = [x.double() for x in (*skin, deviation, normal(3, 6, seed=9))]
        attempt.case("face_albedo in float64", tuple(double), atol=1e-9, rtol=1e-9)
    with attempt.part("heads"):
        heads = 0.5 + 0.1 * normal(3437, 3, seed=10), _orthonormal(40, 3437, seed=11)
        falling = 9.4 * torch.arange(1.0, 41) ** -1
        what = "face_albedo of 9 heads of 3,437 vertices, 40 modes"
        attempt.case(what, (*heads, falling, 2 * normal(9, 40, seed=12)))
    with attempt.part("gradients"):
        for words, coefficients in (
            ("face_albedo", normal(3, 6, seed=13)),
            ("face_albedo, coefficients of 0,", torch.zeros(2, 2, 6)),
            ("face_albedo, far beyond 0 and 1,", 40 * normal(3, 6, seed=14)),
        ):
            attempt.gradients(
                *(words, {"coefficients": coefficients}),
                call=lambda f, coefficients: f(*skin, deviation, coefficients),
                atol=1e-4,
            )
    return "Eq. 2 in standard deviations, whatever the axes, and nothing is cut off"


Seen = Bool[Tensor, "face vertex"]


def changed_completion(
    *,
    start=lambda known, seen: known.sum(0) / seen.sum(0)[:, None],
    counts=lambda counts: counts,
    noise=lambda noise: noise,
    told=lambda seen: seen,
    replaced=lambda seen: ~seen,
):
    """Holes filled by rounds of PCA and of fits to what is seen; each part can be exchanged.

    start: first filling of holes, of (samples with holes 0, seen). told: the vertices that a face's
    coefficients come from. replaced: those that a round writes.
    """

    def complete_faces(samples: Faces, seen: Seen, rounds: Iterable[int], noisy: float) -> Faces:
        known = samples.masked_fill(~seen[..., None], 0)
        filled = torch.where(seen[..., None], known, start(known, seen))
        for modes in counts([*rounds]):
            mean, basis, _ = library_pca(filled, modes)
            coefficients = [
                library_fit(face[None, see], mean[see], basis[:, see], noise(noisy))
                for face, see in zip(filled, told(seen), strict=True)
            ]
            rebuilt = mean + torch.einsum("bk,kvc->bvc", torch.cat(coefficients), basis)
            filled = torch.where(replaced(seen)[..., None], rebuilt, filled)
        return filled

    return complete_faces


library_completion = changed_completion()
LINE = "Four faces are 1, 2, 3 and 5 times (1, 2, 4) mm; the last hides its third vertex. "


@exercise_check(
    stand_in=library_completion,
    mistakes={
        f"{LINE}Before the first round it becomes 8 mm, the mean of the three faces that show it; "
        "yours is 0.": changed_completion(start=lambda known, seen: 0 * known),
        f"{LINE}Before the first round it becomes 8 mm, the mean of the three faces that show it; "
        "yours is 6: the hole itself was counted as a 0.": changed_completion(
            start=lambda known, seen: known.mean(0)
        ),
        f"{LINE}Before the first round it becomes 8 mm, the mean of the three faces that show it; "
        "yours is 7.5, the mean of what this face shows.": changed_completion(
            start=lambda known, seen: (known.sum(1) / seen.sum(1)[:, None])[:, None]
        ),
        "A face's coefficients come from the vertices that it shows, and from no others. Yours "
        "come from its holes as well, as they were filled the round before, which holds back every "
        "round.": changed_completion(told=torch.ones_like),
        "A round replaces what is hidden. Yours replaces what was seen as well, by what the modes "
        "make of it.": changed_completion(replaced=torch.ones_like),
        "It seems that the noise is not passed on: coefficients of faces that show little are far "
        "too large.": changed_completion(noise=lambda n: 0.0),
        "`counts` holds one number of modes per round, such as (1, 1, 2); every round of yours "
        "uses the last.": changed_completion(counts=lambda c: [c[-1]] * len(c) if c else c),
    },
    points=3,
    challenge=True,
    rtol=2e-3,
    atol=2e-3,
)
def complete_faces(attempt):
    line = torch.zeros(4, 3, 3)
    line[..., 0] = torch.tensor([1.0, 2, 3, 5])[:, None] * torch.tensor([1.0, 2, 4])
    shown = torch.ones(4, 3, dtype=torch.bool)
    shown[3, 2] = False
    broken = line.masked_fill(~shown[..., None], math.nan)

    def holes(n: int, v: int, rank: int, share: float, seed: int) -> tuple[Faces, Seen]:
        weights = 9 * normal(n, rank, seed=seed) * 0.6 ** torch.arange(rank)
        modes = v**0.5 * _orthonormal(rank, v, seed + 1)
        faces = 60 * normal(v, 3, seed=seed + 2) + torch.einsum("nk,kvc->nvc", weights, modes)
        seen = uniform(n, v, seed=seed + 3) < share
        seen[torch.arange(v) % n, torch.arange(v)] = True
        return faces + 0.5 * normal(n, v, 3, seed=seed + 4), seen

    with attempt.part("by hand"):
        start = line.clone()
        start[3, 2, 0] = 8.0
        what = "faces of 1, 2, 3 and 5 times (1, 2, 4) mm, of which the last hides its third vertex"
        attempt.case(f"{what}, no round", (broken, shown, (), 0.1), expected=start)
        what = f"{what}, after 60 rounds with one mode"
        attempt.case(what, (broken, shown, (1,) * 60, 1e-3), expected=line, atol=0.05)
    with attempt.part("rounds, modes, noise"):
        for n, v, counts, noise, seed in (
            (12, 20, (1,), 0.5, 1),
            (15, 12, (1, 1, 2), 2.0, 10),
            (10, 25, (3, 2, 1), 20.0, 20),
        ):
            inputs = *holes(n, v, 4, 0.6, seed), counts, noise
            what = f"{n} faces of {v} vertices, rounds of {counts} modes, noise {noise:g}"
            attempt.case(what, inputs)
    with attempt.part("nothing hidden, nothing seen, layouts, float64"):
        faces, seen = holes(12, 12, 3, 0.7, 30)
        everything = faces, torch.ones_like(seen), (1, 2), 1.0
        attempt.case("faces without a hole, which stay as they are", everything, expected=faces)
        seen[5], seen[6] = False, True
        what = "a face that shows nothing: it becomes the mean of each round"
        attempt.case(what, (faces, seen, range(1, 3), 1.0))
        others = *strided(faces + 1), seen.T.contiguous().T, range(1, 3), 1.0
        attempt.case("the same 1 mm further, not contiguous", others)
        attempt.case("the same in float64", (faces.double(), seen, [1, 2], 1.0), atol=1e-6)
    with attempt.part("heads and skins"):
        heads, seen = holes(10, 3437, 3, 0.5, 40)
        attempt.case("10 heads of 3,437 vertices", (heads, seen, (1, 2), 1.0), atol=5e-3)
        skins, seen = holes(24, 60, 3, 0.6, 50)
        skins = 0.5 + 0.002 * (skins - skins.mean(0))
        attempt.case("24 skins, colours from 0 to 1", (skins, seen, (1, 2, 3), 0.02), atol=2e-4)
    return "each face is completed from what it shows, round by round"
