"""Checks of notebook 12: uv sampling's gradients, a decoder's block, albedo's terms, a path."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...beyond import nonlinear_model
from ..checks import exercise_check
from ..compare import normal, strided, uniform


def gradients_of_reading(
    centre: float = 0.5,
    scale=lambda size: size,
    scatter: str = "add",
    inner=lambda place, size: (place > 0) & (place < size - 1),
    row=lambda low, width, dx, dy: (low[:, 1] + dy) * width + low[:, 0] + dx,
    slopes=lambda dx, dy, wx, wy: ((2 * dx - 1) * wy, (2 * dy - 1) * wx),
    together=lambda along: along.sum((0, 1)),
):
    """`map_gradients`; each part can be exchanged for a mistake."""

    def map_gradients(maps, uv, upstream):
        size = maps.shape[-1]
        place = size * uv - centre
        inside = inner(place, size)[..., :2]
        place = place.clamp(0, size - 1)
        low = place.floor().clamp(max=size - 2).long()
        s, t = (place - low).unbind(-1)
        pull, flat = upstream.transpose(1, 2), maps.flatten(2)
        to_map, to_uv = torch.zeros_like(flat), torch.zeros_like(uv)
        for dx, dy in product((0, 1), repeat=2):
            wx, wy = (s if dx else 1 - s), (t if dy else 1 - t)
            index = row(low, size, dx, dy)
            if scatter == "add":
                to_map.index_add_(2, index, pull * wx * wy)
            else:
                to_map[:, :, index] = to_map[:, :, index] + pull * wx * wy
            along = together(pull * flat[:, :, index])
            to_uv = to_uv + torch.stack([slope * along for slope in slopes(dx, dy, wx, wy)], -1)
        return to_map.view_as(maps), scale(size) * inside * to_uv

    return map_gradients


def _no_map(maps, uv, upstream):
    return torch.zeros_like(maps), gradients_of_reading()(maps, uv, upstream)[1]


@exercise_check(
    stand_in=gradients_of_reading(),
    mistakes={
        "Two vertices that read one texel write over each other there; their shares add up "
        "(index_add_).": gradients_of_reading(scatter="write"),
        "The slope along uv is per texel there; uv goes from 0 to 1 over the whole map, so a step "
        "of 1 in uv is as many texels as the map is wide.": gradients_of_reading(scale=lambda _: 1),
        "Texel centres lie at whole numbers there; texel i's centre is at i + 0.5.": (
            gradients_of_reading(centre=0.0)
        ),
        "Beyond the outermost centres the reading does not change, so uv gets no gradient there.": (
            gradients_of_reading(inner=lambda place, size: torch.ones_like(place, dtype=bool))
        ),
        "Rows and columns are exchanged: u counts columns, v rows.": gradients_of_reading(
            row=lambda low, width, dx, dy: (low[:, 0] + dx) * width + low[:, 1] + dy
        ),
        "The two slopes are exchanged: that of u comes first.": gradients_of_reading(
            slopes=lambda dx, dy, wx, wy: ((2 * dy - 1) * wx, (2 * dx - 1) * wy)
        ),
        "The slope of u lacks the weight across, that of v: two rows of texels share it.": (
            gradients_of_reading(
                slopes=lambda dx, dy, wx, wy: (2 * dx - 1 + 0 * wy, 2 * dy - 1 + 0 * wx)
            )
        ),
        "The slopes have the wrong sign: right minus left, low minus high.": gradients_of_reading(
            slopes=lambda dx, dy, wx, wy: ((1 - 2 * dx) * wy, (1 - 2 * dy) * wx)
        ),
        "uv is one for all faces and channels: its gradient is the sum over them, not the mean.": (
            gradients_of_reading(together=lambda along: along.mean((0, 1)))
        ),
        "The map gets no gradient there.": _no_map,
    },
    points=3,
    parts={"the map's gradient": {}, "the uv's gradient": {}},
)
def map_gradients(attempt):
    def scene(batch, channels, size, count, seed, spread=1.0):
        uv = 0.5 + spread * (uniform(count, 2, seed=seed) - 0.5)
        maps = normal(batch, channels, size, size, seed=seed + 1)
        return maps, uv, normal(batch, count, channels, seed=seed + 2)

    with attempt.part("by hand"):
        maps = torch.tensor([[[[0.0, 4.0], [0.0, 8.0]]]])
        uv, one = torch.tensor([[0.5, 0.375]]), torch.ones(1, 1, 1)
        right = torch.tensor([[[[0.375, 0.375], [0.125, 0.125]]]]), torch.tensor([[10.0, 4.0]])
        attempt.case("map_gradients of four texels and one place", (maps, uv, one), expected=right)
        attempt.case("map_gradients of 4 by 4 texels", scene(1, 1, 4, 5, 10, 0.6))
    with attempt.part("many vertices"):
        attempt.case("map_gradients of 40 vertices on 3 by 3 texels", scene(2, 3, 3, 40, 20, 0.6))
        attempt.case("map_gradients of 300 vertices on 16 by 16", scene(2, 6, 16, 300, 30, 0.9))
        maps, uv, pull = scene(3, 2, 64, 500, 40, 0.9)
        big = (50 * maps, uv, 0.001 * pull)
        attempt.case("map_gradients of 64 by 64 texels in mm", big, atol=1e-5, rtol=1e-3)
    with attempt.part("edges and layouts"):
        maps, uv, pull = scene(2, 3, 8, 60, 50, 1.0)
        outer = torch.tensor([[0.0, 0.5], [1.0, 1.0], [0.0625, 0.3], [0.9375, 0.7], [0.4, 0.99]])
        uv[:5] = outer
        attempt.case("map_gradients with places beyond the outermost centres", (maps, uv, pull))
        edge = torch.tensor([[0.3125, 0.52], [0.5625, 0.6875]])
        hint = "At a centre take the slope towards the right and below."
        attempt.case("map_gradients at centres of texels", (maps, edge, pull[:, :2]), hint)
        attempt.case("map_gradients of what is not contiguous", strided(maps, uv, pull))
        double = maps.double(), uv.double(), pull.double()
        attempt.case("map_gradients in float64", double)
        attempt.case("map_gradients of zeros", (0 * maps, uv, 0 * pull))
    return "shared texels, the border, and both gradients in mm"


def block(
    enlarge=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    inner=lambda x: F.leaky_relu(x, 0.2),
    join=lambda short, deep: short + deep,
    outer=lambda x: F.leaky_relu(x, 0.2),
    route=lambda x, fine, shortcut: shortcut(fine),
):
    """`decoder_block`; each part can be exchanged for a mistake."""

    def decoder_block(x, shortcut, first, second):
        fine = enlarge(x)
        return outer(join(route(x, fine, shortcut), second(inner(first(fine)))))

    return decoder_block


def _layers(before: int, after: int, seed: int, dtype=torch.float32) -> tuple[nn.Module, ...]:
    """A 1 by 1 convolution and two of 3 by 3, with weights of their own."""
    layers = (
        nn.Conv2d(before, after, 1, dtype=dtype),
        nn.Conv2d(before, after, 3, padding=1, dtype=dtype),
        nn.Conv2d(after, after, 3, padding=1, dtype=dtype),
    )
    for i, layer in enumerate(layers):
        for j, weights in enumerate(layer.parameters()):
            weights.data = normal(*weights.shape, seed=seed + 3 * i + j, dtype=dtype) / before
    return layers


@exercise_check(
    stand_in=nonlinear_model.decoder_block,
    mistakes={
        "The shortcut is left out: it is added to what the two convolutions make.": block(
            join=lambda short, deep: deep
        ),
        "The two convolutions are left out: only the shortcut is there.": block(
            join=lambda short, deep: short + 0 * deep
        ),
        "There is no leaky ReLU between the two convolutions; without it they are one.": block(
            inner=lambda x: x
        ),
        "The last leaky ReLU is missing; it comes after the sum.": block(outer=lambda x: x),
        "That is a plain ReLU; leaky ones let a fifth of what is negative through.": block(
            inner=F.relu, outer=F.relu
        ),
        "The slope of the leaky ReLU is 0.2; torch's own default is 0.01.": block(
            inner=F.leaky_relu, outer=F.leaky_relu
        ),
        'That copies the nearest texel; take mode="bilinear".': block(
            lambda x: F.interpolate(x, scale_factor=2)
        ),
        "Centres of texels are to keep their places: leave align_corners at False.": block(
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        ),
        "The leaky ReLU is applied to both parts before they are added; it comes after.": block(
            join=lambda short, deep: F.leaky_relu(short, 0.2) + F.leaky_relu(deep, 0.2),
            outer=lambda x: x,
        ),
        "The two are multiplied there; add them.": block(join=lambda short, deep: short * deep),
    },
    points=2,
    axes=("face", "channel", "row", "column"),
)
def decoder_block(attempt):
    with attempt.part("by hand"):
        one = nn.Identity(), nn.Identity(), nn.Identity()
        row = torch.tensor([[[[0.0, 4.0]]]])
        fine = torch.tensor([[[[0.0, 1, 3, 4], [0, 1, 3, 4]]]])
        what = "decoder_block of the row [0, 4] and layers that do nothing"
        attempt.trial("decoder_block of other rows")(normal(1, 2, 3, 4, seed=1), *_layers(2, 2, 2))
        attempt.case(what, (row, *one), expected=2 * fine)
        negative = torch.tensor([[[[-1.0]]]])
        right = torch.full((1, 1, 2, 2), -0.24)  # 0.2 (-1 - 0.2)
        what = "decoder_block of the single texel -1 and layers that do nothing"
        attempt.case(what, (negative, *one), expected=right)
    with attempt.part("convolutions"):
        for batch, before, after, size in ((2, 4, 3, (5, 5)), (1, 3, 6, (4, 7))):
            call = (normal(batch, before, *size, seed=20), *_layers(before, after, 21))
            attempt.case(f"decoder_block of {batch} by {before} channels of {size}", call)
    with attempt.part("sizes and layouts"):
        x, layers = normal(2, 4, 3, 5, seed=30), _layers(4, 4, 31)
        attempt.case("decoder_block of a single texel", (x[..., :1, :1], *layers))
        attempt.case("decoder_block of large values", (1e3 * x, *layers), atol=1e-2)
        attempt.case("decoder_block of what is not contiguous", (*strided(x), *layers))
        attempt.case("decoder_block of as many channels", (x - 1, *layers))
        double = _layers(4, 2, 35, torch.float64)
        attempt.case("decoder_block in float64", (x.double(), *double))
    with attempt.part("gradients"):
        x, layers = normal(2, 3, 4, 4, seed=40), _layers(3, 2, 41)
        attempt.gradients("decoder_block", {"x": x}, *layers)
        attempt.gradients("decoder_block of zeros", {"x": 0 * x}, *layers)
        kernels = {
            f"the {name} convolution's weights": layer.weight.detach()
            for name, layer in zip(("first", "second"), layers[1:], strict=True)
        }
        attempt.gradients("decoder_block", kernels, x, layers[0], call=_by_kernels)
    return "the order of the parts, both slopes, and gradients to the texels and the weights"


def _by_kernels(function, first: Tensor, second: Tensor, x: Tensor, shortcut: nn.Module) -> Tensor:
    deep = (lambda y, w=w: F.conv2d(y, w, padding=1) for w in (first, second))
    return function(x, shortcut, *deep)


def terms(
    mirror=lambda x: x.flip(3),
    far=lambda x: x.abs().mean((1, 2, 3)),
    weigh=lambda step, alpha: (-alpha * step).exp(),
    size=lambda x: x.norm(dim=1),
    axes=(2, 3),
    average=lambda sums, count: sums / count,
    told=lambda x: x.detach(),
):
    """`albedo_terms`; each part can be exchanged for a mistake."""

    def albedo_terms(albedo, chromaticity, alpha):
        sums, count = torch.zeros_like(albedo[:, 0, 0, 0]), 0
        for axis in axes:
            weight = weigh(told(chromaticity).diff(dim=axis).norm(dim=1), alpha)
            sums = sums + (weight * size(albedo.diff(dim=axis))).sum((1, 2))
            count += weight[0].numel()
        return far(albedo - mirror(albedo)), average(sums, count)

    return albedo_terms


def _library_terms(albedo, chromaticity, alpha):
    constancy = nonlinear_model.albedo_constancy(albedo, chromaticity, alpha)
    return nonlinear_model.albedo_symmetry(albedo), constancy


@exercise_check(
    stand_in=_library_terms,
    mistakes={
        "The map is flipped upside down there; mirror left and right, the last axis.": terms(
            mirror=lambda x: x.flip(2)
        ),
        "The channels are flipped there, not the columns.": terms(mirror=lambda x: x.flip(1)),
        "The symmetry is a sum there; take the mean over channels, rows and columns.": terms(
            far=lambda x: x.abs().sum((1, 2, 3))
        ),
        "The symmetry's differences are squared there; take absolute values.": terms(
            far=lambda x: x.square().mean((1, 2, 3))
        ),
        "The weight falls the wrong way: alike chromaticities weigh most.": terms(
            weigh=lambda step, alpha: 1 - (-alpha * step).exp()
        ),
        "The weights are left out: every pair of neighbours counts alike.": terms(
            weigh=lambda step, alpha: torch.ones_like(step)
        ),
        "alpha is not used: it says how fast the weight falls.": terms(
            weigh=lambda step, alpha: (-step).exp()
        ),
        "The chromaticity's distance is squared in the exponent; take it as it is.": terms(
            weigh=lambda step, alpha: (-alpha * step.square()).exp()
        ),
        "Only neighbours side by side count there; those above each other count too.": terms(
            axes=(3,)
        ),
        "The constancy is a sum there; divide by the number of pairs.": terms(
            average=lambda sums, count: sums
        ),
        "Absolute values are added over the channels there; a colour's distance is the root of the "
        "sum of squares.": terms(size=lambda x: x.abs().sum(1)),
    },
    points=2,
    parts={"the symmetry": {}, "the constancy": {}},
)
def albedo_terms(attempt):
    def scene(batch: int, size: int, seed: int) -> tuple[Tensor, Tensor, float]:
        colours = 0.05 + uniform(batch, 3, size, size, seed=seed + 1)
        return 0.1 * normal(batch, 3, size, size, seed=seed), colours / colours.sum(1, True), 3.0

    with attempt.part("by hand"):
        albedo = torch.tensor([[0.0, 3.0], [0.0, 0.0]]).expand(1, 3, 2, 2).clone()
        albedo[:, 2] = 0
        flat = torch.full((1, 3, 2, 2), 1 / 3)
        step = (3.0**2 + 3.0**2) ** 0.5
        right = torch.tensor([1.0]), torch.tensor([step / 2])
        what = "albedo_terms of 2 by 2 texels of one chromaticity, one texel brighter"
        attempt.case(what, (albedo, flat, 80.0), expected=right)
        edge = flat.clone()
        edge[:, 0, 0, 1], edge[:, 2, 0, 1] = 1 / 3 + 0.3, 1 / 3 - 0.3
        what = "albedo_terms where the brighter texel has another chromaticity too"
        attempt.case(what, (albedo, edge, 5.0))
    with attempt.part("maps"):
        for batch, size in ((1, 6), (3, 16)):
            attempt.case(f"albedo_terms of {batch} maps of {size}", scene(batch, size, 10))
        albedo, colours, _ = scene(2, 64, 20)
        attempt.case("albedo_terms of 64 by 64 texels", (albedo, colours, 80.0))
    with attempt.part("edges and layouts"):
        albedo, colours, alpha = scene(2, 8, 30)
        attempt.case("albedo_terms with alpha 0", (albedo, colours, 0.0))
        attempt.case("albedo_terms of a symmetric map", (albedo + albedo.flip(3), colours, alpha))
        attempt.case(
            "albedo_terms of 5 by 5 texels", (albedo[..., :5, :5], colours[..., :5, :5], 9.0)
        )
        attempt.case("albedo_terms of what is not contiguous", (*strided(albedo, colours), alpha))
        attempt.case("albedo_terms in float64", (albedo.double(), colours.double(), alpha))
    with attempt.part("gradients"):
        albedo, colours, alpha = scene(2, 7, 40)
        for i, name in enumerate(("symmetry", "constancy")):
            pick = lambda f, *x, i=i: f(*x)[i]  # noqa: E731
            for words, factor in (("", 1.0), (" of a flat map", 0.0)):
                what = f"the {name} of albedo_terms{words}"
                attempt.gradients(what, {"albedo": factor * albedo}, colours, alpha, call=pick)
    return "both means, the weights' direction, and gradients of flat maps"


def paths(
    energy=lambda faces: (len(faces) - 1) * faces.diff(dim=0).square().sum(),
    first=lambda start, end, count: torch.lerp(
        start, end, torch.linspace(0, 1, count, dtype=start.dtype)[:, None]
    ),
    move=lambda inner, gradient, rate: inner - rate * gradient,
    ends=True,
):
    """`short_path`; each part can be exchanged for a mistake."""

    def short_path(decode, start, end, count, steps, rate):
        path = first(start, end, count).detach()
        for _ in range(steps):
            inner = (path[1:-1] if ends else path).clone().requires_grad_()
            whole = torch.cat([path[:1], inner, path[-1:]]) if ends else inner
            (gradient,) = torch.autograd.grad(energy(decode(whole)), inner)
            moved = move(inner.detach(), gradient, rate)
            path = torch.cat([path[:1], moved, path[-1:]]) if ends else moved
        return path

    return short_path


def _dent(code: Tensor) -> Tensor:
    """A face of three numbers, with a hill in the middle of a plane of codes."""
    return torch.cat([code[:, :2], 2 * torch.exp(-code[:, :2].square().sum(1, True))], 1)


def _stretched(code: Tensor) -> Tensor:
    """A face that changes more the further the code is: a straight line, at an uneven pace."""
    return torch.cat([code.square() * code.sign(), code], 1)


@exercise_check(
    stand_in=paths(),
    mistakes={
        "The ends move there; the two faces stay what they are, and the steps between them move.": (
            paths(ends=False)
        ),
        "That is still the straight line of codes: move the inner points down the energy's "
        "gradient.": paths(move=lambda inner, gradient, rate: inner),
        "It climbs: the gradient is subtracted.": paths(
            move=lambda inner, gradient, rate: inner + rate * gradient
        ),
        "The energy is of squared steps; those are their lengths.": paths(
            energy=lambda faces: (len(faces) - 1) * faces.diff(dim=0).norm(dim=1).sum()
        ),
        "The factor before the sum is missing: count - 1, the number of steps.": paths(
            energy=lambda faces: faces.diff(dim=0).square().sum()
        ),
        "The gradient is brought to length 1 there; take it as it is.": paths(
            move=lambda inner, gradient, rate: inner - rate * F.normalize(gradient, dim=1)
        ),
    },
    points=3,
    challenge=True,
    axes=("point", "code"),
)
def short_path(attempt):
    with attempt.part("by hand"):
        a, b = torch.tensor([-1.5, 0.4]), torch.tensor([1.0, 0.3])
        attempt.trial("short_path past a hill")(_dent, a, b, 6, 5, 0.004)  # tells mistakes apart
        start, end = torch.tensor([0.0]), torch.tensor([1.0])
        what = "short_path from 0 to 1 in three points, one step, of codes squared"
        right = torch.tensor([[0.0], [0.54], [1.0]])
        # energy 2 ((x² - 0)² + (1 - x²)²), slope 2 (8 x³ - 4 x) = -2 at x = 0.5
        call = (lambda code: code.square(), start, end, 3, 1, 0.02)
        attempt.case(what, call, expected=right)
        call = (lambda code: 3 * code, torch.zeros(2), torch.tensor([4.0, -2.0]), 5, 20, 0.01)
        attempt.case("short_path where decoding is linear", call)
    with attempt.part("around a hill"):
        a, b = torch.tensor([-2.0, 0.1]), torch.tensor([2.0, 0.1])
        for count, steps in ((7, 40), (12, 25)):
            call = (_dent, a, b, count, steps, 0.004)
            attempt.case(f"short_path of {count} points around a hill", call, atol=1e-4)
        call = (_dent, a + 0.3, b - 0.2, 7, 40, 0.004)
        attempt.case("short_path between other ends", call, atol=1e-4)
    with attempt.part("edges"):
        a, b = normal(4, seed=5), normal(4, seed=6)
        attempt.case("short_path without a step", (_stretched, a, b, 6, 0, 0.01))
        attempt.case("short_path of two points", (_stretched, a, b, 2, 3, 0.01))
        attempt.case("short_path to where it began", (_stretched, a, a, 4, 3, 0.01))
        call = (_stretched, a.double(), b.double(), 6, 30, 0.005)
        attempt.case("short_path in float64", call)
        shapes = lambda code: _stretched(code).unflatten(1, (2, 4))  # noqa: E731
        attempt.case("short_path of faces with two axes", (shapes, a, b, 5, 10, 0.005))
    return "ends that stay, the energy's factor, and a path around a hill"
