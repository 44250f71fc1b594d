"""Checks of notebook 03: normals, spherical harmonics, Eq. 3, and light from colours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import lighting, mesh
from ..coefficients import UNIT_AMBIENT
from . import Wrong, close, exercise_check, same_gradient

PYRAMID = torch.tensor(  # a flat pyramid: four slopes around the tip (0), a square base below
    [[0.0, 0, 1], [2, -2, 0], [2, 2, 0], [-2, 2, 0], [-2, -2, 0]]
)
PYRAMID_FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 3, 2], [1, 4, 3]])


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_vectors(*shape: int, seed: int = 0, front: bool = False) -> Tensor:
    """Directions spread over the sphere, (*shape, 3); front: on the half that faces the viewer."""
    n = torch.randn(*shape, 3, generator=_seeded(seed))
    if front:
        n[..., 2] = n[..., 2].abs() + 0.05
    return torch.nn.functional.normalize(n, dim=-1)


# Normals ----------------------------------------------------------------------------------------


@exercise_check(stand_in=mesh.vertex_normals)
def vertex_normals(attempt):
    one = PYRAMID[None]
    got = attempt(one, PYRAMID_FACES)
    expected = mesh.vertex_normals(one, PYRAMID_FACES)
    what = "vertex_normals of a pyramid of 5 vertices"
    axes = ("face", "vertex", "x, y, z")
    if isinstance(got, Tensor) and got.shape == expected.shape:
        _explain_normals(got, expected, one, PYRAMID_FACES)
    close(what, got, expected, axes=axes, hint="Its tip should point straight up, to (0, 0, 1).")

    mixed = one * torch.tensor([[[1.0]], [[30.0]], [[0.2]]]) + torch.tensor([5.0, -3, 400])
    close(
        "vertex_normals of the pyramid in three sizes, moved away from the origin",
        attempt(mixed, PYRAMID_FACES),
        expected.expand(3, -1, -1),
        axes=axes,
        hint="Size and place of a mesh do not change where it faces.",
    )

    vertices, faces = bumpy_ball()
    expected = mesh.vertex_normals(vertices, faces)
    got = attempt(vertices, faces)
    _explain_normals(got, expected, vertices, faces)
    close("vertex_normals of two bumpy balls", got, expected, axes=axes)

    lonely = torch.cat([one, torch.tensor([[[9.0, 9, 9]]])], 1)
    close(
        "vertex_normals of a mesh whose last vertex is in no triangle",
        attempt(lonely, PYRAMID_FACES),
        mesh.vertex_normals(lonely, PYRAMID_FACES),
        axes=axes,
        hint="A vertex without triangles has no normal: return zeros there, not nan.",
    )

    mine, ours = (vertices.clone().requires_grad_() for _ in range(2))
    probe = unit_vectors(*vertices.shape[:2], seed=3)
    same_gradient(
        "a sum of your normals",
        (attempt(mine, faces) * probe).sum(),
        (mesh.vertex_normals(ours, faces) * probe).sum(),
        {"vertices": (mine, ours)},
        atol=1e-4,
        rtol=1e-2,
    )
    return "on a pyramid and two bumpy balls, with its gradient"


def bumpy_ball(rings: int = 7, around: int = 10) -> tuple[Tensor, Tensor]:
    """Two uneven balls of one mesh, (2, V, 3), whose triangles differ much in area."""
    vertices, faces = [], []
    for i in range(rings):
        polar = math.pi * ((i + 0.5) / rings) ** 1.4  # crowded at the top
        for j in range(around):
            a = 2 * math.pi * (j + 0.3 * i) / around
            ring = math.sin(polar)
            vertices.append([ring * math.cos(a), ring * math.sin(a), math.cos(polar)])
    for i in range(rings - 1):
        for j in range(around):
            k, right = i * around + j, i * around + (j + 1) % around
            faces += [[k, k + around, right], [right, k + around, right + around]]
    points = torch.tensor(vertices)
    bumps = 1 + 0.25 * torch.rand(2, len(points), 1, generator=_seeded(5))
    return 60 * points * bumps, torch.tensor(faces)


def _explain_normals(got: Tensor, expected: Tensor, vertices: Tensor, faces: Tensor) -> None:
    """The mistakes that are made most, by name."""
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return
    if not got.is_floating_point() or not torch.isfinite(got).all():
        return

    def same(other: Tensor) -> bool:
        return torch.allclose(got, other, atol=1e-4, rtol=1e-3)

    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    cross = torch.linalg.cross(b - a, c - a)
    raw = torch.zeros_like(vertices)
    plain, last = raw.clone(), raw.clone()
    even = torch.nn.functional.normalize(cross, dim=-1)
    for i in range(3):
        raw = raw.index_add(1, faces[:, i], cross)
        plain = plain.index_add(1, faces[:, i], even)
        last[:, faces[:, i]] = last[:, faces[:, i]] + cross

    def unit(x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x, dim=-1)

    if same(-expected):
        raise Wrong(
            "All your normals point into the mesh. Triangles are counter-clockwise seen from "
            "outside: which of the two sides comes first in the cross product?"
        )
    length = got.norm(dim=-1)
    if torch.allclose(unit(got), expected, atol=1e-3) and not torch.allclose(
        length, torch.ones_like(length), atol=1e-3
    ):
        worst = float(length.reshape(-1)[(length - 1).abs().argmax()])
        raise Wrong(
            f"Your normals point the right way, but are not of length 1 (one is {worst:.3g} long)."
        )
    if same(unit(plain)) and not same(expected):
        raise Wrong(
            "These are means in which a sliver counts as much as a large triangle. Weighted by "
            "area, the large one has more say: do you normalise the triangles' normals too early?"
        )
    if same(unit(last)) and not same(expected):
        raise Wrong(
            "Each vertex seems to hear only one of its triangles. With `total[:, index] += x`, "
            "numbers that occur several times in index are added once: look at index_add."
        )


# The basis --------------------------------------------------------------------------------------


@exercise_check(stand_in=lighting.sh_basis)
def sh_basis(attempt):
    def picture(_got=None, _expected=None):
        from ..figures.lighting import two_bases

        return two_bases(lambda n: attempt(n), lighting.sh_basis)

    seven = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1], [0.48, 0.6, 0.64]]
    )
    got, expected = attempt(seven), lighting.sh_basis(seven)
    what = "sh_basis of 7 directions"
    if isinstance(got, Tensor) and got.shape == expected.shape and got.is_floating_point():
        _explain_basis(got, expected, picture, seven)
    close(what, got, expected, axes=("direction", "k"), picture=picture)

    n = unit_vectors(4, 50, seed=1)
    got, expected = attempt(n), lighting.sh_basis(n)
    close(
        "sh_basis of normals (4, 50, 3)",
        got,
        expected,
        axes=("face", "vertex", "k"),
        picture=picture,
    )
    close("sh_basis of one direction, (3,)", attempt(n[0, 0]), expected[0, 0], axes=("k",))
    double = n.double()
    close("sh_basis in float64", attempt(double), lighting.sh_basis(double), atol=1e-6)
    # through a normalisation: z^2 and 1 - x^2 - y^2 have the same gradient along the sphere only
    mine, ours = ((1.7 * n).requires_grad_() for _ in range(2))
    probe = torch.randn(9, generator=_seeded(2))
    same_gradient(
        "a sum of your basis",
        (attempt(torch.nn.functional.normalize(mine, dim=-1)) * probe).sum(),
        (lighting.sh_basis(torch.nn.functional.normalize(ours, dim=-1)) * probe).sum(),
        {"normals": (mine, ours)},
    )
    return "all nine functions, at 200 normals"


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"number {numbers[0]}"
    return f"numbers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _explain_basis(got: Tensor, expected: Tensor, picture, normals: Tensor) -> None:
    def same(other: Tensor) -> bool:
        return torch.allclose(got, other, atol=1e-4)

    if same(expected):
        return
    if torch.allclose(got, expected, rtol=5e-3, atol=1e-5):
        raise Wrong(
            "Nearly: only the last digits differ. The table rounds its constants; write the "
            "square roots instead."
        )
    signs = torch.ones(9)
    signs[[1, 3, 5, 7]] = -1
    if same(expected * signs):
        raise Wrong(
            "The functions of odd m have the other sign: that is the Condon-Shortley phase of "
            "quantum mechanics. This course does without: band 1 is +0.489 (y, z, x).",
            picture,
        )
    if same(expected[:, [0, 3, 1, 2, 4, 5, 6, 7, 8]]):
        raise Wrong(
            "Band 1 stands in the order x, y, z. The course counts m = -1, 0, 1, which is y, z, x.",
            picture,
        )
    for order in ([0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 2, 1], [0, 2, 3, 1]):
        if torch.allclose(got[:, :4], expected[:, order], atol=1e-4):
            raise Wrong(
                "Band 1 is there, in another order: m = -1, 0, 1 is y, z, x.",
                picture,
            )
    lobe = torch.tensor([math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5)
    for factor in (lobe, lobe / math.pi):
        if same(expected * factor):
            raise Wrong(
                "You multiplied by the factors of the clamped cosine (pi, 2 pi/3, pi/4). The basis "
                "here is the bare one; those factors belong to the light's coefficients.",
                picture,
            )
    scale = torch.tensor([1.0] + [math.sqrt(3)] * 3 + [math.sqrt(5)] * 5)
    if same(expected / expected[0, 0] / scale):
        raise Wrong(
            "The shapes are right, the normalisation is not: each function's square has to "
            "integrate to 1 over the sphere.",
            picture,
        )
    wrong = [k for k in range(9) if not torch.allclose(got[:, k], expected[:, k], atol=1e-4)]
    if 0 < len(wrong) < 9:
        k = wrong[0]
        at = int((got[:, k] - expected[:, k]).abs().argmax())
        raise Wrong(
            f"Of the nine functions, {_listed(wrong)} (counted from 0) "
            f"{'differs' if len(wrong) == 1 else 'differ'}. At the normal "
            f"({', '.join(f'{v:g}' for v in normals[at].tolist())}) number {k} is "
            f"{float(got[at, k]):.4f}, expected {float(expected[at, k]):.4f}.",
            picture,
        )


# Eq. 3 ------------------------------------------------------------------------------------------


@exercise_check(stand_in=lighting.shade)
def shade(attempt):
    axes = ("face", "vertex", "colour")
    # one white vertex that faces the viewer, and one that faces away
    albedo = torch.tensor([[[1.0, 1, 1], [0.5, 0.5, 0.5]]])
    normals = torch.tensor([[[0.0, 0, 1], [0, 0, -1]]])
    ambient = lighting.ambient_lighting(1)
    close(
        "shade(albedo, normals, ambient light of 1)",
        attempt(albedo, normals, ambient),
        albedo,
        axes=axes,
        hint="Light of strength 1 from everywhere shows the albedo itself.",
    )
    front = ambient.clone()
    front[:, 2] = 3.0
    got, expected = attempt(albedo, normals, front), lighting.shade(albedo, normals, front)
    if isinstance(got, Tensor) and got.shape == expected.shape and got.is_floating_point():
        for low, high in ((0, 1), (0, None), (None, 1)):
            if torch.allclose(got, expected.clamp(low, high), atol=1e-4):
                raise Wrong(
                    "You clamp the colours. Eq. 3 does not: what falls below 0 or rises above 1 "
                    "keeps its gradient, and is clamped only when it is shown."
                )
    close(
        "shade of two vertices under ambient light and a lamp in front",
        got,
        expected,
        axes=axes,
        hint="The first vertex faces the lamp and is brighter than 1, the second is below 0.",
    )

    coloured = torch.zeros(1, 9, 3)
    coloured[0, 0, 0] = UNIT_AMBIENT  # red alone
    close(
        "shade under a red light",
        attempt(albedo, normals, coloured),
        lighting.shade(albedo, normals, coloured),
        axes=axes,
        hint="Each colour channel has nine coefficients of its own.",
    )

    for batch, count in ((3, 40), (9, 9), (1, 7)):
        g = _seeded(batch)
        albedo = torch.rand(batch, count, 3, generator=g)
        normals = unit_vectors(batch, count, seed=batch)
        light = torch.randn(batch, 9, 3, generator=g)
        got, expected = attempt(albedo, normals, light), lighting.shade(albedo, normals, light)
        if isinstance(got, Tensor) and got.shape == expected.shape and batch > 1:
            first = lighting.shade(albedo, normals, light[:1].expand(batch, -1, -1))
            if torch.allclose(got, first, atol=1e-4):
                raise Wrong("The first face's light is used for the whole batch.")
            mean = lighting.shade(albedo, normals, light.mean(0, True).expand(batch, -1, -1))
            if torch.allclose(got, mean, atol=1e-4):
                raise Wrong("Every face gets the mean light of the batch, instead of its own.")
            grey = lighting.shade(albedo, normals, light.mean(-1, True).expand(-1, -1, 3))
            if torch.allclose(got, grey, atol=1e-4):
                raise Wrong("The light is averaged over its colours: a red lamp would be grey.")
            if torch.allclose(got, lighting.sh_basis(normals) @ light, atol=1e-4):
                raise Wrong("This is the light alone. Eq. 3 multiplies it by the albedo b_i.")
        close(f"shade of {batch} faces of {count} vertices", got, expected, axes=axes)

    leaves = [
        (t.clone().requires_grad_(), t.clone().requires_grad_()) for t in (albedo, normals, light)
    ]
    mine, ours = ([pair[i] for pair in leaves] for i in range(2))
    mine[1], ours[1] = (torch.nn.functional.normalize(x[1], dim=-1) for x in (mine, ours))
    same_gradient(
        "a sum of your colours",
        attempt(*mine).square().sum(),
        lighting.shade(*ours).square().sum(),
        dict(zip(("albedo", "normals", "lighting"), leaves, strict=True)),
    )
    return "a batch of lights on a batch of faces, with gradients to all three"


# Light from colours -----------------------------------------------------------------------------


def _light_from_colours(albedo, normals, colours, weights, ridge=1e-3):
    return lighting.solve_lighting(albedo, normals, colours, weights, ridge=ridge)


@exercise_check(stand_in=_light_from_colours)
def light_from_colours(attempt):
    axes = ("face", "k", "colour")
    g = _seeded(4)

    def scene(batch: int, count: int, front: bool, seed: int, dtype=torch.float64):
        albedo = (0.2 + 0.7 * torch.rand(batch, count, 3, generator=g)).to(dtype)
        normals = unit_vectors(batch, count, seed=seed, front=front).to(dtype)
        light = lighting.ambient_lighting(batch, 0.8, dtype=dtype)
        light = light + 0.5 * torch.randn(batch, 9, 3, generator=g).to(dtype)
        return albedo, normals, lighting.shade(albedo, normals, light), light

    albedo, normals, colours, light = scene(2, 300, False, 7)
    ones = torch.ones(2, 300, dtype=albedo.dtype)
    got = attempt(albedo, normals, colours, ones, 1e-9)
    ambient = lighting.ambient_lighting(2, dtype=light.dtype)
    if isinstance(got, Tensor) and got.shape == light.shape and got.is_floating_point():
        if torch.allclose(got.to(light), light - ambient, atol=1e-3):
            raise Wrong("This is the change delta alone: the light is gamma_0 + delta.")
        if torch.allclose(got.to(light), light + ambient, atol=1e-3):
            raise Wrong(
                "The ambient light is in twice. If delta is added to gamma_0, its equations have "
                "on the right what gamma_0 does not explain yet."
            )
    close(
        "the light of two faces that see all of the sphere, almost without ridge",
        got,
        light,
        atol=1e-3,
        rtol=1e-3,
        axes=axes,
        hint="Here the colours were made with a known light, which should come back.",
    )

    noise = 0.1 * torch.randn(2, 300, 3, generator=g).to(albedo)
    albedo, normals, colours, light = scene(2, 300, True, 8)
    colours = colours + noise
    weights = torch.rand(2, 300, generator=g).to(albedo).round() * (0.2 + ones)
    spoilt = torch.where(weights[..., None] > 0, colours, 50.0)

    def ours(w: Tensor = weights, r: float = 0.02, c: Tensor = spoilt, a: Tensor = albedo):
        return lighting.solve_lighting(a, normals, c, w, ridge=r)

    got = attempt(albedo, normals, spoilt, weights, 0.02)
    if isinstance(got, Tensor) and got.shape == light.shape and got.is_floating_point():
        _explain_light(got, ours, albedo, normals, spoilt, weights)
    close("light_from_colours with weights and a ridge of 0.02", got, ours(), atol=2e-4, axes=axes)

    uneven = weights * torch.rand(2, 300, generator=g).to(albedo) * 40
    close(
        "light_from_colours with uneven weights",
        attempt(albedo, normals, spoilt, uneven, 0.02),
        ours(uneven),
        atol=2e-4,
        axes=axes,
        hint="The weights count relative to their sum, each face by itself.",
    )
    for ridge in (0.3, 3.0):
        close(
            f"light_from_colours with a ridge of {ridge}",
            attempt(albedo, normals, spoilt, weights, ridge),
            ours(r=ridge),
            atol=2e-4,
            axes=axes,
            hint="The stronger the ridge, the nearer the answer to ambient light of 1.",
        )
    close(
        "light_from_colours where only the three channels' albedo differs",
        attempt(albedo * albedo.new_tensor([1.0, 0.5, 0.2]), normals, spoilt, weights, 0.02),
        ours(a=albedo * albedo.new_tensor([1.0, 0.5, 0.2])),
        atol=2e-4,
        axes=axes,
        hint="Each colour channel has its own albedo, so its own system of equations.",
    )
    close(
        "light_from_colours without saying the ridge",
        attempt(albedo, normals, spoilt, weights),
        ours(r=1e-3),
        atol=2e-4,
        axes=axes,
        hint="Where none is given, the ridge is 0.001.",
    )
    single = [t.float() for t in (albedo, normals, colours, weights)]
    close(
        "light_from_colours in float32",
        attempt(*single, 0.02),
        lighting.solve_lighting(*single, ridge=0.02),
        atol=2e-3,
        rtol=2e-3,
        axes=axes,
    )
    return "the known light came back; weights and ridge do what they should"


def _explain_light(got, ours, albedo, normals, colours, weights) -> None:
    def same(other: Tensor) -> bool:
        return torch.allclose(got.to(other), other, atol=1e-3, rtol=1e-3)

    if same(ours()):
        return
    ones, ridge = torch.ones_like(weights), 0.02
    if same(ours(ones)):
        raise Wrong(
            "The weights are not used: vertices of weight 0 are hidden, and theirs are not the "
            "face's colours."
        )
    total = weights.sum(-1, keepdim=True)
    if same(torch.cat([ours(r=ridge / float(t))[i : i + 1] for i, t in enumerate(total)])):
        raise Wrong(
            "The squared errors are summed, so that the ridge fades as vertices are added. Divide "
            "the weights by their sum: then it weighs the same on any mesh."
        )
    if same(torch.cat([ours(r=ridge * 300 / float(t))[i : i + 1] for i, t in enumerate(total)])):
        raise Wrong(
            "You divide by the number of vertices. Divide by the sum of the weights: hidden "
            "vertices would otherwise strengthen the ridge."
        )
    if same(ours(weights.square())):
        raise Wrong("The weights come in twice, squared: once on either side of the square.")
    zero = lighting.solve_lighting(
        albedo, normals, colours, weights, prior=torch.zeros(1, 9, 3), ridge=ridge
    )
    if same(zero):
        raise Wrong(
            "Your ridge pulls to zero, which is darkness. It should pull to ambient light of 1: "
            "sqrt(4 pi) in the first row."
        )
    if same(ours(a=torch.ones_like(albedo))):
        raise Wrong("The albedo is missing: this is the light that a white face would need.")
    bare = ours(r=1e-9)
    if same(bare):
        raise Wrong("The ridge is not used: nothing keeps the light tame where no normal looks.")


# The counterfeit --------------------------------------------------------------------------------


def _same_picture(albedo, lighting, factor):
    return albedo * factor[:, None], lighting / factor[:, None]


@exercise_check(stand_in=_same_picture)
def same_picture(attempt):
    for batch, count in ((2, 5), (3, 3), (3, 9), (1, 4)):
        g = _seeded(10 * batch + count)
        albedo = 0.1 + 0.8 * torch.rand(batch, count, 3, generator=g)
        light = torch.randn(batch, 9, 3, generator=g)
        factor = 0.3 + 2 * torch.rand(batch, 3, generator=g)
        what = f"same_picture of {batch} faces of {count} vertices"
        got = attempt(albedo, light, factor)
        expected = _same_picture(albedo, light, factor)
        if isinstance(got, tuple | list) and len(got) == 2:
            pair = [isinstance(t, Tensor) for t in got]
            swapped = all(pair) and got[0].shape == light.shape and got[1].shape == albedo.shape
            if swapped and torch.allclose(got[1], expected[0], rtol=1e-3):
                raise Wrong("The skin comes first, the light second.")
            if all(pair) and got[0].shape == albedo.shape and got[1].shape == light.shape:
                _explain_pair(got, expected, albedo, light, factor)
        close(what, got, expected, hint="One factor a face and channel, for all its vertices.")
    return "other skin, other light, same picture"


def _explain_pair(got, expected, albedo, light, factor) -> None:
    if torch.allclose(got[0], albedo) and torch.allclose(got[1], light):
        raise Wrong("Skin and light come back as they were: the skin should be `factor` as bright.")
    if torch.allclose(got[0], albedo / factor[:, None], rtol=1e-3) and not torch.allclose(
        got[0], expected[0], rtol=1e-3
    ):
        raise Wrong(
            "The skin should become `factor` times as bright, and the light make up for it."
        )
    if torch.allclose(got[0], expected[0], rtol=1e-3) and torch.allclose(
        got[1], light * factor[:, None], rtol=1e-3
    ):
        raise Wrong(
            "Both grow by the factor: the picture would, by its square. Which has to shrink?"
        )
    for t, name in zip(got, ("skin", "light"), strict=True):
        if not torch.isfinite(t).all():
            raise Wrong(f"The {name} holds numbers that are not finite.")
    made = got[0][..., None, :] * got[1][:, None]
    wanted = albedo[..., None, :] * light[:, None]
    if torch.allclose(made, wanted, rtol=1e-3, atol=1e-4) and not torch.allclose(
        got[0], expected[0], rtol=1e-3
    ):
        raise Wrong(
            "The picture stays the same, as it should, but the skin is not `factor` times as "
            "bright in each channel."
        )
