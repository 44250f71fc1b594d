"""Checks of notebook 03: normals, spherical harmonics, Eq. 3, light from colours, turned light."""

import math

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...face import lighting, mesh
from ...face.camera import axis_angle_to_matrix
from ...face.coefficients import UNIT_AMBIENT
from ..checks import exercise_check
from ..compare import Wrong, close, like, normal, seeded, strided, uniform
from ..drawing.light_balls import ball_values, lamp
from ..drawing.style import bare, charts, signed

PYRAMID = torch.tensor(  # a flat pyramid: four slopes around the tip (0), a square base below
    [[0.0, 0, 1], [2, -2, 0], [2, 2, 0], [-2, 2, 0], [-2, -2, 0]]
)
PYRAMID_FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 3, 2], [1, 4, 3]])


def unit_vectors(*shape: int, seed: int = 0, front: bool = False) -> Tensor:
    """Directions spread over the sphere, (*shape, 3); front: on the half that faces the viewer."""
    n = torch.randn(*shape, 3, generator=seeded(seed))
    if front:
        n[..., 2] = n[..., 2].abs() + 0.05
    return F.normalize(n, dim=-1)


def crosses(vertices: Tensor, faces: Tensor) -> Tensor:
    """The cross product of two sides of each triangle: its normal, twice its area long."""
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    return torch.linalg.cross(b - a, c - a)


def summed(vertices: Tensor, faces: Tensor, values: Tensor) -> Tensor:
    """For each vertex the sum of its triangles' values."""
    corners = values.repeat_interleave(3, 1)
    return torch.zeros_like(vertices).index_add(1, faces.flatten(), corners)


def _last_triangle_only(vertices, faces):
    total, cross = torch.zeros_like(vertices), crosses(vertices, faces)
    for i in range(3):
        total[:, faces[:, i]] += cross
    return F.normalize(total, dim=-1)


@exercise_check(
    stand_in=mesh.vertex_normals,
    mistakes={
        "All your normals point into the mesh. Triangles are counter-clockwise seen from outside: "
        "which of the two sides comes first in the cross "
        "product?": lambda v, f: -mesh.vertex_normals(v, f),
        "These are means in which a sliver counts as much as a large triangle. Weighted by area, "
        "the large one has more say: do you normalise the triangles' normals too "
        "early?": lambda v, f: F.normalize(summed(v, f, mesh.face_normals(v, f)), dim=-1),
        "Each vertex seems to hear only one of its triangles. With `total[:, index] += x`, numbers "
        "that occur several times in index are added once: look at index_add.": _last_triangle_only,
    },
    axes=("face", "vertex", "x, y, z"),
    points=2,
)
def vertex_normals(attempt):
    one, expected = PYRAMID[None], mesh.vertex_normals(PYRAMID[None], PYRAMID_FACES)
    alone = torch.cat([one, torch.tensor([[[9.0, 9, 9]]])], 1)
    vertices, faces = bumpy_balls()
    with attempt.part("a pyramid by hand"):
        what, hint = "vertex_normals of a pyramid of 5 vertices", None
        got = attempt.trial(what)(one, PYRAMID_FACES)
        if like(got, expected):
            _right_way_wrong_length(got, expected)
            if not torch.allclose(got[0, 0], expected[0, 0], atol=1e-3):
                hint = "Its tip should point straight up, to (0, 0, 1)."
        attempt.close(what, got, expected, hint=hint)
        mixed = one * torch.tensor([[[1.0]], [[30.0]], [[0.2]]]) + torch.tensor([5.0, -3, 400])
        what = "vertex_normals of the pyramid in three sizes, moved away from the origin"
        hint = "Size and place of a mesh do not change where it faces."
        attempt.case(what, (mixed, PYRAMID_FACES), hint, expected=expected.expand(3, -1, -1))
    with attempt.part("balls"):
        attempt.case("vertex_normals of two bumpy balls", (vertices, faces))
        others = strided(vertices.flip(0) + 0.1 * vertices.roll(1, 2), faces)
        attempt.case("vertex_normals of two other balls, not contiguous", others)
        heads = bumpy_balls(14, 26)
        attempt.case("vertex_normals of two balls of 364 vertices", heads)
    with attempt.part("edges"):
        what = "vertex_normals of a mesh whose last vertex is in no triangle"
        hint = "A vertex without triangles has no normal: return zeros there, not nan."
        attempt.case(what, (alone, PYRAMID_FACES), hint)
        what = "vertex_normals of the pyramid with its triangles listed inside out"
        attempt.case(what, (one, PYRAMID_FACES.flip(1)), expected=-expected)
        what = "vertex_normals of a pyramid a hundredth of a mm wide"
        attempt.case(what, (0.005 * one, PYRAMID_FACES), expected=expected)
        flat = torch.cat([PYRAMID_FACES, torch.tensor([[1, 1, 2], [3, 3, 3]])])
        what = "vertex_normals of a pyramid with two triangles without area"
        attempt.case(what, (one, flat), expected=expected)
    with attempt.part("gradients"):
        attempt.gradients("your normals", {"vertices": vertices}, faces, atol=1e-4, rtol=1e-2)
        what = "your normals, of a mesh with a vertex in no triangle,"
        attempt.gradients(what, {"vertices": alone}, PYRAMID_FACES, atol=1e-4, rtol=1e-2)
    return "on a pyramid and two bumpy balls, with its gradient"


def _right_way_wrong_length(got: Tensor, expected: Tensor) -> None:
    """Raises `Wrong`, naming a length, where only the lengths of normals are wrong."""
    length = got.norm(dim=-1).flatten()
    worst = float(length[(length - 1).abs().argmax()])
    if abs(worst - 1) > 1e-3 and torch.allclose(F.normalize(got, dim=-1), expected, atol=1e-3):
        raise Wrong(
            f"Your normals point the right way, but are not of length 1 (one is {worst:.3g} long)."
        )


def bumpy_balls(rings: int = 7, around: int = 10) -> tuple[Tensor, Tensor]:
    """Two uneven balls of one mesh, (2, V, 3), whose triangles differ much in area."""
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(around), indexing="ij")
    polar = math.pi * ((i + 0.5) / rings) ** 1.4  # crowded at the top
    a = 2 * math.pi * (j + 0.3 * i) / around
    points = torch.stack([polar.sin() * a.cos(), polar.sin() * a.sin(), polar.cos()], -1)
    corner, right = (around * i + j)[:-1], (around * i + (j + 1) % around)[:-1]
    quads = [corner, corner + around, right], [right, corner + around, right + around]
    faces = torch.cat([torch.stack(corners, -1).reshape(-1, 3) for corners in quads])
    bumps = 1 + 0.25 * uniform(2, rings * around, 1, seed=5)
    return 60 * points.reshape(-1, 3) * bumps, faces


C0, C1, C2, C20 = (math.sqrt(n / (4 * math.pi)) for n in (1, 3, 15, 1.25))
LOBES = torch.tensor(lighting.CLAMPED_COSINE)


def basis(normals, c0=C0, c1=C1, c2=C2, c20=C20):
    """The nine functions, with these constants."""
    x, y, z = normals.unbind(-1)
    band_2 = [c2 * x * y, c2 * y * z, c20 * (3 * z * z - 1), c2 * x * z, c2 / 2 * (x * x - y * y)]
    return torch.stack([torch.full_like(x, c0), c1 * y, c1 * z, c1 * x, *band_2], -1)


def times(factors: Tensor):
    """The nine functions, each times its factor."""
    return lambda normals: lighting.sh_basis(normals) * factors.to(normals)


def reordered(*order: int):
    """The nine functions in another order."""
    return lambda normals: lighting.sh_basis(normals)[..., list(order)]


@exercise_check(
    stand_in=lighting.sh_basis,
    mistakes={
        "Nearly: only the last digits differ. The table rounds its constants; write the square "
        "roots instead.": lambda n: basis(n, 0.282, 0.489, 1.093, 0.315),
        "The functions of odd m have the other sign: that is the Condon-Shortley phase of quantum "
        "mechanics. This course does without: band 1 is +0.489 (y, z, "
        "x).": times(torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1])),
        "Band 1 stands in the order x, y, z. The course counts m = -1, 0, 1, which is y, z, "
        "x.": reordered(0, 3, 1, 2, 4, 5, 6, 7, 8),
        "Band 1 is there, in another order: m = -1, 0, 1 is y, z, x.": (
            reordered(0, 1, 3, 2, 4, 5, 6, 7, 8),
            reordered(0, 2, 1, 3, 4, 5, 6, 7, 8),
            reordered(0, 3, 2, 1, 4, 5, 6, 7, 8),
            reordered(0, 2, 3, 1, 4, 5, 6, 7, 8),
        ),
        "You multiplied by the factors of the clamped cosine (pi, 2 pi/3, pi/4). The basis here is "
        "the bare one; those factors belong to the light's "
        "coefficients.": (times(LOBES), times(LOBES / math.pi)),
        "The shapes are right, the normalisation is not: each function's square has to integrate "
        "to 1 over the "
        "sphere.": (lambda n: basis(n, 1, 1, math.sqrt(3), 0.5), lambda n: basis(n, 1, 1, 1, 1)),
    },
)
def sh_basis(attempt):
    def picture(*_) -> Figure:
        """Nine expected spheres over the student's nine."""
        figure, axes = charts(10, 2.9, 9, 2)
        bases = {"expected": lighting.sh_basis, "yours": attempt}
        for row, (name, function) in zip(axes, bases.items(), strict=True):
            for k, axis in enumerate(row):
                values = ball_values(lambda n, k=k, f=function: f(n)[:, k], 90)
                axis.imshow(values, **signed(1.1))
                bare(axis)
            row[0].set_ylabel(name, fontsize=11)
        for k, axis in enumerate(axes[0]):
            axis.set_title(f"k = {k}", fontsize=10)
        return figure

    seven = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1], [0.48, 0.6, 0.64]]
    )
    n, axes = unit_vectors(4, 50, seed=1), ("face", "vertex", "k")
    with attempt.part("by hand"):
        what = "sh_basis of 7 directions"
        got, expected = attempt.trial(what)(seven), lighting.sh_basis(seven)
        if like(got, expected):
            _wrong_functions(got, expected, seven, picture)
        close(what, got, expected, axes=("direction", "k"), picture=picture)
    with attempt.part("normals of any shape"):
        attempt.case("sh_basis of normals (4, 50, 3)", (n,), axes=axes, picture=picture)
        attempt.case("sh_basis of one direction, (3,)", (n[0, 0],), axes=("k",))
        for shape in ((1, 1), (3,), (9,), (2, 1, 3, 4), (1, 3437)):
            many = unit_vectors(*shape, seed=2)
            attempt.case(f"sh_basis of normals {tuple(many.shape)}", (many,))
    with attempt.part("float64 and layouts"):
        attempt.case("sh_basis in float64", (n.double(),), atol=1e-6)
        others = strided(-n.flip(1))
        attempt.case("sh_basis of normals (4, 50, 3), not contiguous", others, axes=axes)
    with attempt.part("gradients"):
        # z^2 and 1 - x^2 - y^2 have the same gradient along the sphere only
        on_sphere = dict(call=lambda function, normals: function(F.normalize(normals, dim=-1)))
        attempt.gradients("your basis", {"normals": 1.7 * n}, **on_sphere)
        what = "your basis, at normals along the axes,"
        attempt.gradients(what, {"normals": seven[:6]}, **on_sphere)
    return "all nine functions, at 200 normals"


def _wrong_functions(got: Tensor, expected: Tensor, normals: Tensor, picture) -> None:
    """Raises `Wrong`, naming the functions, where some of the nine are wrong."""
    wrong = [k for k in range(9) if not torch.allclose(got[:, k], expected[:, k], atol=1e-4)]
    if not 0 < len(wrong) < 9:
        return
    k = wrong[0]
    at = int((got[:, k] - expected[:, k]).abs().argmax())
    numbers = " and ".join(", ".join(map(str, wrong)).rsplit(", ", 1))
    subject, verb = ("number", "differs") if len(wrong) == 1 else ("numbers", "differ")
    raise Wrong(
        f"Of the nine functions, {subject} {numbers} (counted from 0) {verb}. "
        f"At the normal ({', '.join(f'{v:g}' for v in normals[at].tolist())}) "
        f"number {k} is {float(got[at, k]):.4f}, expected {float(expected[at, k]):.4f}.",
        picture,
    )


def clamped(low: float | None, high: float | None):
    """Eq. 3 with its colours cut off."""
    return lambda b, n, light: lighting.shade(b, n, light).clamp(low, high)


def under(other_light):
    """Eq. 3 under another light: other_light(lighting), spread over the batch and the colours."""
    return lambda b, n, light: lighting.shade(b, n, other_light(light).expand_as(light))


@exercise_check(
    stand_in=lighting.shade,
    mistakes={
        "You clamp the colours. Eq. 3 does not: what falls below 0 or rises above 1 keeps its "
        "gradient, and is clamped only when it is "
        "shown.": (clamped(0, 1), clamped(0, None), clamped(None, 1)),
        "The first face's light is used for the whole batch.": under(lambda light: light[:1]),
        "Every face gets the mean light of the batch, instead of its own.": under(
            lambda light: light.mean(0, keepdim=True)
        ),
        "The light is averaged over its colours: a red lamp would be grey.": under(
            lambda light: light.mean(-1, keepdim=True)
        ),
        "This is the light alone. Eq. 3 multiplies it by the albedo b_i.": lambda b, n, light: (
            lighting.sh_basis(n) @ light
        ),
    },
    axes=("face", "vertex", "colour"),
    points=2,
)
def shade(attempt):
    # one white vertex that faces the viewer, and one that faces away
    two_skins = torch.tensor([[[1.0, 1, 1], [0.5, 0.5, 0.5]]])
    two_normals = torch.tensor([[[0.0, 0, 1], [0, 0, -1]]])
    ambient, red = lighting.ambient_lighting(1), torch.zeros(1, 9, 3)
    front = ambient.clone()
    front[:, 2], red[0, 0, 0] = 3.0, UNIT_AMBIENT
    scenes = {
        (batch, count): (
            uniform(batch, count, 3, seed=batch),
            unit_vectors(batch, count),
            normal(batch, 9, 3, seed=batch + 1),
        )
        for batch, count in ((3, 40), (9, 9), (1, 7))
    }
    albedo, normals, light = scenes[1, 7]
    dark = albedo * (albedo > 0.5), normals, light * (light > 0)
    with attempt.part("two vertices by hand"):
        hint = "Light of strength 1 from everywhere shows the albedo itself."
        what = "shade(albedo, normals, ambient light of 1)"
        attempt.case(what, (two_skins, two_normals, ambient), hint, expected=two_skins)
        hint = "The first vertex faces the lamp and is brighter than 1, the second is below 0."
        what = "shade of two vertices under ambient light and a lamp in front"
        attempt.case(what, (two_skins, two_normals, front), hint)
        hint = "Each colour channel has nine coefficients of its own."
        attempt.case("shade under a red light", (two_skins, two_normals, red), hint)
    with attempt.part("batches"):
        for (batch, count), scene in scenes.items():
            attempt.case(f"shade of {batch} faces of {count} vertices", scene)
        three = uniform(3, 3, 3, seed=4), unit_vectors(3, 3, seed=5), normal(3, 9, 3, seed=6)
        attempt.case("shade of 3 faces of 3 vertices", three)
    with attempt.part("magnitudes and layouts"):
        others = strided(1 - albedo, -normals, 3 * light)
        attempt.case("shade of another face, not contiguous", others)
        double = [x.double() for x in others]
        attempt.case("shade in float64", double, atol=1e-7, rtol=1e-7)
        head = uniform(1, 3437, 3, seed=7), unit_vectors(1, 3437, seed=8), 9 * light
        attempt.case("shade of 3,437 vertices under a strong light", head, atol=1e-4)
        attempt.case("shade where some albedo and some of the light is 0", dark)
    with attempt.part("gradients"):
        call = dict(call=lambda function, b, n, light: function(b, F.normalize(n, dim=-1), light))
        for what, tensors in {
            "your colours": (albedo, normals, light),
            "your colours, where some albedo and some of the light is 0,": dark,
        }.items():
            inputs = dict(zip(("albedo", "normals", "lighting"), tensors, strict=True))
            attempt.gradients(what, inputs, **call)
    return "a batch of lights on a batch of faces, with gradients to all three"


def solved(**arguments):
    """The least squares with other arguments: each a value, or a function of those that came."""

    def light(albedo, normals, colours, weights, ridge=1e-3):
        came = dict(albedo=albedo, normals=normals, colours=colours, weights=weights, ridge=ridge)
        changes = {k: v(came) if callable(v) else v for k, v in arguments.items()}
        return lighting.solve_lighting(**(came | changes))

    return light


_light_from_colours = solved()


def ridge_times(factor):
    """The least squares with each face's ridge times factor(weights)."""
    return solved(ridge=lambda came: came["ridge"] * factor(came["weights"])[..., None, None, None])


def plus_ambient(factor: float, **arguments):
    """The least squares with the ambient light of 1 added so many times."""
    return lambda albedo, *rest: (
        solved(**arguments)(albedo, *rest)
        + factor * lighting.ambient_lighting(1, dtype=albedo.dtype)
    )


@exercise_check(
    stand_in=_light_from_colours,
    mistakes={
        "This is the change delta alone: the light is gamma_0 + delta.": plus_ambient(-1),
        "The ambient light is in twice. If delta is added to gamma_0, its equations have on the "
        "right what gamma_0 does not explain "
        "yet.": (plus_ambient(1), plus_ambient(1, prior=torch.zeros(1, 9, 3))),
        "The weights are not used: vertices of weight 0 are hidden, and theirs are not the "
        "face's colours.": solved(weights=None),
        "The squared errors are summed, so that the ridge fades as vertices are added. Divide the "
        "weights by their sum: then it weighs the same on any "
        "mesh.": ridge_times(lambda weights: 1 / weights.sum(-1)),
        "You divide by the number of vertices. Divide by the sum of the weights: hidden vertices "
        "would otherwise strengthen the "
        "ridge.": ridge_times(lambda weights: weights.shape[-1] / weights.sum(-1)),
        "The weights come in twice, squared: once on either side of the square.": solved(
            weights=lambda came: came["weights"] ** 2
        ),
        "Your ridge pulls to zero, which is darkness. It should pull to ambient light of 1: "
        "sqrt(4 pi) in the first row.": solved(prior=torch.zeros(1, 9, 3)),
        "The albedo is missing: this is the light that a white face would need.": solved(
            albedo=lambda came: torch.ones_like(came["albedo"])
        ),
        "The ridge is not used: nothing keeps the light tame where no normal looks.": solved(
            ridge=1e-9
        ),
    },
    axes=("face", "k", "colour"),
    points=3,
)
def light_from_colours(attempt):
    *scene, light = _lit_faces(front=False, seed=7)
    albedo, normals, colours, _ = _lit_faces(front=True, seed=8)
    colours = colours + 0.1 * normal(2, 300, 3, seed=9).to(albedo)
    weights = 1.2 * uniform(2, 300, seed=10).to(albedo).round()
    spoilt = torch.where(weights[..., None] > 0, colours, 50.0)
    uneven = weights * uniform(2, 300, seed=11).to(albedo) * 40
    tinted = albedo * albedo.new_tensor([1.0, 0.5, 0.2])
    with attempt.part("a known light"):
        what = "the light of two faces that see all of the sphere, almost without ridge"
        hint = "Here the colours were made with a known light, which should come back."
        inputs = (*scene, scene[0].new_ones(2, 300), 1e-9)
        attempt.case(what, inputs, hint, expected=light, atol=1e-3, rtol=1e-3)
    with attempt.part("weights and ridge"):
        for words, (skin, *rest) in {
            "with weights and a ridge of 0.02": (albedo, weights, 0.02),
            "with uneven weights (relative to their sum, each face by itself)": (
                albedo,
                uneven,
                0.02,
            ),
            "with a ridge of 0.3 (the stronger, the nearer to ambient light)": (
                albedo,
                weights,
                0.3,
            ),
            "with a ridge of 3.0": (albedo, weights, 3.0),
            "where the channels' albedo differs (each has its own equations)": (
                tinted,
                weights,
                0.02,
            ),
            "without saying the ridge (which is 0.001 then)": (albedo, weights),
        }.items():
            attempt.case(f"light_from_colours {words}", (skin, normals, spoilt, *rest), atol=2e-4)
    with attempt.part("edges and layouts"):
        black = torch.where(albedo > 0.6, albedo, 0.0)
        for words, inputs in {
            "with a ridge of 0.000001": (albedo, normals, spoilt, weights, 1e-6),
            "where much of the skin is black": (black, normals, spoilt, weights, 0.02),
            "with weights that add up to 0.001": (albedo, normals, spoilt, weights * 5e-6, 0.02),
            "of one face": (*(x[:1] for x in (tinted, normals, spoilt, uneven)), 0.02),
            "of two other faces": (*(x.flip(0) for x in (tinted, normals, spoilt, uneven)), 0.02),
        }.items():
            what = f"light_from_colours {words}, not contiguous"
            attempt.case(what, (*strided(*inputs[:4]), inputs[4]), atol=2e-4)
    with attempt.part("float32"):
        head = [torch.cat([x, x.flip(1)[:, :, :3] ** 2, x], 1)[:1] for x in (tinted, colours)]
        toward = F.normalize(torch.cat([normals, normals.roll(1, 2), -normals], 1), dim=-1)[:1]
        many = [x.float() for x in (head[0], toward, head[1], uneven[:1].repeat(1, 3))]
        what = "light_from_colours of 900 vertices in float32"
        attempt.case(what, many, atol=2e-3, rtol=2e-3)
        single = [t.float() for t in (albedo, normals, colours, weights)]
        attempt.case("light_from_colours in float32", (*single, 0.02), atol=2e-3, rtol=2e-3)
    return "the known light came back; weights and ridge do what they should"


def _lit_faces(front: bool, seed: int) -> tuple[Tensor, ...]:
    """Albedo, normals, colours and light of two faces of 300 vertices, in float64."""
    albedo = 0.2 + 0.7 * uniform(2, 300, 3, seed=seed).double()
    normals = unit_vectors(2, 300, seed=seed, front=front).double()
    light = lighting.ambient_lighting(2, 0.8, dtype=torch.float64)
    light = light + 0.5 * normal(2, 9, 3, seed=seed + 20).double()
    return albedo, normals, lighting.shade(albedo, normals, light), light


def _same_picture(albedo, light, factor):
    return albedo * factor[:, None], light / factor[:, None]


def factors(of):
    """The counterfeit with other factors: of(factor) for each face and colour."""
    return lambda albedo, light, factor: _same_picture(albedo, light, of(factor).expand_as(factor))


@exercise_check(
    stand_in=_same_picture,
    mistakes={
        "The skin comes first, the light second.": lambda a, g, f: (g / f[:, None], a * f[:, None]),
        "Skin and light come back as they were: the skin should be `factor` as "
        "bright.": lambda a, g, f: (a, g),
        "The skin should become `factor` times as bright, and the light make up for it.": factors(
            lambda f: 1 / f
        ),
        "Both grow by the factor: the picture would, by its square. Which has to "
        "shrink?": lambda a, g, f: (a * f[:, None], g * f[:, None]),
        "The picture stays the same, as it should, but the skin is not `factor` times as "
        "bright in each channel.": (
            factors(lambda f: f.mean(-1, keepdim=True)),
            factors(lambda f: f[:1]),
            factors(lambda f: f.sqrt()),
            factors(lambda f: f.flip(0)),
        ),
    },
)
def same_picture(attempt):
    head, head_light = uniform(1, 3437, 3, seed=1), normal(1, 9, 3, seed=2)
    with attempt.part("batches"):
        for batch, count in ((2, 5), (3, 3), (3, 9), (1, 4)):
            seed = 10 * batch + count
            albedo = 0.1 + 0.8 * uniform(batch, count, 3, seed=seed)
            light = normal(batch, 9, 3, seed=seed)
            factor = 0.3 + 2 * uniform(batch, 3, seed=seed + 1)
            what = f"same_picture of {batch} faces of {count} vertices"
            hint = "One factor per face and channel, for all its vertices."
            attempt.case(what, (albedo, light, factor), hint)
            others = strided(1 - albedo, -light, 1 / factor)
            attempt.case(f"{what}, others, not contiguous", others, hint)
    with attempt.part("a head, small and large factors"):
        for words, factor in {
            "of 1": torch.ones(1, 3),
            "of 0.04, 1 and 25": torch.tensor([[0.04, 1.0, 25.0]]),
        }.items():
            what = f"same_picture of 3,437 vertices, some black, for factors {words}"
            inputs = head * (head > 0.1), head_light * (head_light > 0), factor
            attempt.case(what, inputs, rtol=1e-5)
    return "other skin, other light, same picture"


def turned_by(rotation=lambda r: r, light=lambda g: g, directions=None, end=lambda new, old: new):
    """The light turned; each part can be exchanged for a mistake. directions: (n, 3)."""

    def turn_light(old, r):
        if directions is None:
            return end(lighting.turn_lighting(light(old), rotation(r)), old)
        d, g = directions.double(), light(old).double()
        values = lighting.sh_basis(d @ rotation(r).double()) @ g
        return end((torch.linalg.pinv(lighting.sh_basis(d)) @ values).to(old.dtype), old)

    return turn_light


def _rows(*rows: int):
    """The turned light in these rows, the old one in the others."""
    own = torch.isin(torch.arange(9), torch.tensor(rows))[:, None]
    return lambda new, old: torch.where(own, new, old)


def _band_1_as_xyz(new: Tensor, old: Tensor) -> Tensor:
    return torch.cat([new[:, :1], new[:, [3, 1, 2]], new[:, 4:]], 1)


AXES = torch.cat([torch.eye(3), -torch.eye(3)])


@exercise_check(
    stand_in=turned_by(),
    mistakes={
        "Your light turns the other way. The new light has at R n the shading that the old one has "
        "at n.": turned_by(rotation=lambda r: r.mT),
        "The first rotation is used for the whole batch.": turned_by(
            rotation=lambda r: r[:1].expand_as(r)
        ),
        "Band 2 stays as it was. A lamp has a part of its light there: all three bands turn, each "
        "in itself.": turned_by(end=_rows(0, 1, 2, 3)),
        "Band 1 stays as it was: it is the direction of the light.": turned_by(
            end=_rows(0, 4, 5, 6, 7, 8)
        ),
        "Your directions do not tell nine numbers apart: along the axes all of xy, yz and xz are "
        "0. Take nine or more that lie in no plane and on no axis, and see to it that their basis "
        "has rank 9.": (turned_by(directions=AXES), turned_by(directions=AXES[:3])),
        "Band 1 is turned, and its rows come back in another order than y, z, x.": turned_by(
            end=_band_1_as_xyz
        ),
    },
    axes=("light", "k", "colour"),
    points=3,
    challenge=True,
    atol=1e-4,
)
def turn_light(attempt):
    some, tilts = normal(4, 9, 3, seed=1), axis_angle_to_matrix(1.5 * normal(4, 3, seed=2))
    with attempt.part("a lamp by hand"):
        to_right = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
        hint = "A quarter turn about y carries what came from the viewer to the right."
        front, right = lamp((0, 0, 1)), lamp((1, 0, 0))
        attempt.case(
            "turn_light(a lamp in front, to_right)", (front, to_right), hint, expected=right
        )
        what = "turn_light(a lamp in front and above, to_right)"
        above, aside = lamp((0, 0.6, 0.8)), lamp((0.8, 0.6, 0))
        attempt.case(what, (above, to_right), hint, expected=aside)
        what = "turn_light(a coloured lamp, upside down)"
        over = torch.diag(torch.tensor([1.0, -1, -1]))[None]
        colour = (1.0, 0.72, 0.42)
        right = lamp((0.6, -0.48, -0.64), colour)
        attempt.case(what, (lamp((0.6, 0.48, 0.64), colour), over), expected=right)
    with attempt.part("batches"):
        attempt.case("turn_light of 4 lights", (some, tilts))
        others = some.flip(0), tilts.roll(1, 0)
        attempt.case("turn_light of 4 other lights", others)
        attempt.case("turn_light of one light", (some[:1], tilts[3:]))
        attempt.case("turn_light of 3 lights of 1 colour", (some[1:, :, :1], tilts[1:]))
        nine = normal(9, 9, 9, seed=3), axis_angle_to_matrix(normal(9, 3, seed=4))
        attempt.case("turn_light of 9 lights of 9 colours", nine)
    with attempt.part("magnitudes and layouts"):
        attempt.case("turn_light of 4 strong lights", (30 * some, tilts), atol=1e-3)
        attempt.case("turn_light of 4 weak lights", (1e-3 * some, tilts), atol=1e-7)
        small = axis_angle_to_matrix(0.02 * normal(4, 3, seed=5))
        attempt.case("turn_light by a degree or so", (some, small))
        attempt.case("turn_light, not contiguous", strided(-some, tilts.flip(0)))
        double = some.double(), axis_angle_to_matrix(normal(4, 3, seed=6).double())
        attempt.case("turn_light in float64", double, atol=1e-5, rtol=1e-5)
    with attempt.part("gradients"):
        call = dict(call=lambda function, g, v: function(g, axis_angle_to_matrix(v)))
        for what, vectors in {
            "your light": normal(4, 3, seed=7),
            "your light, not turned,": torch.zeros(4, 3),
        }.items():
            inputs = {"lighting": some, "the rotation's vector": vectors}
            attempt.gradients(what, inputs, **call, atol=1e-4)
    return "lamps to where they belong, batches, and gradients"
