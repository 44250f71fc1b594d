"""Checks of notebook 07: the way up, reading maps, hidden vertices, adding, depth, other views."""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.spatial import Delaunay
from torch import Tensor, nn

from ...augmented.map_sampling import sample_bilinear, sample_hyperbolic
from ...face.camera import axis_angle_to_matrix
from ...face.coefficients import FaceCoefficients
from ...face.lighting import shade
from ...face.mesh import vertex_normals
from ...pictures.sheets import gallery
from ...rendering.synthesis import Face, pose_and_light
from ..checks import exercise_check
from ..compare import Wrong, normal, seeded, strided, uniform

AXES = ("face", "vertex", "channel")


def upsampled(
    enlarge=lambda coarse, size: F.interpolate(coarse, size, mode="bilinear"),
    join=lambda coarse, skip: torch.cat([skip, coarse], 1),
    finish=lambda convolve, x: convolve(x),
):
    """As a block of `DoubleHeadUNet`; each part can be exchanged for a mistake."""

    def up_block(coarse, skip, convolve):
        return finish(convolve, join(enlarge(coarse, skip.shape[2:]), skip))

    return up_block


def enlarged(**ways):
    return lambda coarse, size: F.interpolate(coarse, size, **ways)


def _weighted(channels: int, width: int, seed: int, dtype=torch.float32) -> nn.Conv2d:
    """A 3 by 3 convolution that tells its channels apart."""
    layer = nn.Conv2d(channels, width, 3, padding=1, dtype=dtype)
    for i, weights in enumerate(layer.parameters()):
        weights.data = normal(*weights.shape, seed=seed + i, dtype=dtype) / channels
    return layer


@exercise_check(
    stand_in=upsampled(),
    mistakes={
        "The coarse channels come first there; the skip's come first.": upsampled(
            join=lambda coarse, skip: torch.cat([coarse, skip], 1)
        ),
        "That copies the nearest pixel; between two pixels bilinear interpolation goes in a "
        'straight line: mode="bilinear".': upsampled(enlarged(mode="nearest")),
        "The centres of the outermost pixels are put on the picture's edge there: leave "
        "align_corners at False.": upsampled(enlarged(mode="bilinear", align_corners=True)),
        "That is bicubic; take bilinear.": upsampled(enlarged(mode="bicubic")),
        "The skip is left out: lay it beside the coarse picture.": upsampled(
            join=lambda coarse, skip: coarse
        ),
        "The coarse picture is left out: the skip alone goes into the convolutions.": upsampled(
            join=lambda coarse, skip: skip
        ),
        "The two are added there; concatenate their channels.": upsampled(
            join=lambda coarse, skip: coarse + skip
        ),
        "The convolutions are missing: return convolve(...) of both.": upsampled(
            finish=lambda convolve, x: x
        ),
        "A rectification is added; convolve has its own.": upsampled(
            finish=lambda convolve, x: convolve(x).relu()
        ),
    },
    points=2,
    axes=("picture", "channel", "row", "column"),
)
def up_block(attempt):
    def both(batch: int, channels: tuple, coarse: tuple, fine: tuple, seed: int) -> tuple:
        low, skip = (
            normal(batch, count, *size, seed=seed + i)
            for i, (count, size) in enumerate(zip(channels, (coarse, fine), strict=True))
        )
        return low, skip, _weighted(sum(channels), 5, seed + 7)

    def nothing(x: Tensor) -> Tensor:
        return x

    with attempt.part("by hand"):
        one, other = normal(2, 3, 4, 6, seed=1), normal(2, 3, 8, 12, seed=2)
        alike = "up_block of 4 by 6 and 8 by 12, 3 channels each, and a convolve that does nothing"
        attempt.trial(alike)(one, other, nothing)  # with equal channels mistakes differ
        row, zero = torch.tensor([[[[0.0, 4.0]]]]), torch.zeros(1, 1, 1, 4)
        what = "up_block of the row [0, 4], a skip of four zeros, and a convolve that does nothing"
        right = torch.tensor([[[[0.0, 0, 0, 0]], [[0, 1, 3, 4]]]])
        hint = "The skip's channel, then the row: 0, 1, 3, 4, a straight line between two centres."
        attempt.case(what, (row, zero, nothing), hint, expected=right)
        attempt.case(alike, (one, other, nothing))
    with attempt.part("convolutions"):
        for words, *sizes in (
            ("two pictures, 5 by 5 to 10 by 10", 2, (4, 4), (5, 5), (10, 10)),
            ("a picture, 3 by 4 to 6 by 8", 1, (8, 8), (3, 4), (6, 8)),
            ("three pictures, 4 by 3 to 8 by 6", 3, (2, 2), (4, 3), (8, 6)),
        ):
            attempt.case(f"up_block of {words}", both(*sizes, 10))
    with attempt.part("sizes and layouts"):
        hint = "The skip says which size: half of an odd size was rounded down on the way down."
        for words, *sizes in (
            ("to an odd size", 2, (4, 2), (5, 7), (11, 15)),
            ("to an odd height alone", 2, (4, 2), (5, 7), (11, 14)),
            ("of a single pixel", 1, (3, 1), (1, 1), (3, 2)),
            ("of the same size", 1, (2, 2), (6, 5), (6, 5)),
            ("from the bottom of the U-Net", 1, (256, 128), (14, 14), (28, 28)),
        ):
            attempt.case(f"up_block {words}", both(*sizes, 50), hint)
        low, skip, layer = both(2, (4, 3), (4, 5), (8, 10), 60)
        double = _weighted(7, 5, 67, torch.float64)
        attempt.case("up_block of what is not contiguous", (*strided(low, skip), layer))
        attempt.case("up_block in float64", (low.double(), skip.double(), double))
        attempt.case("up_block of other pictures of these sizes", (low + 1, skip - 1, layer))
        attempt.case("up_block of large values", (1e3 * low, 1e3 * skip, layer), atol=1e-2)
    with attempt.part("gradients"):
        low, skip, layer = both(2, (4, 3), (4, 5), (9, 10), 70)
        for words, size in {"": 1.0, " of zeros": 0.0}.items():
            inputs = {"coarse": size * low, "skip": size * skip}
            attempt.gradients(f"up_block{words}", inputs, layer)
        inputs = {"the convolution's weights": layer.weight.detach()}
        attempt.gradients("up_block", inputs, low, skip, call=_by_weights)
    return "the order of channels, odd sizes, and gradients to both pictures and the weights"


def _by_weights(function, weights: Tensor, low: Tensor, skip: Tensor) -> Tensor:
    return function(low, skip, lambda x: F.conv2d(x, weights, padding=1))


class _WayUp(nn.Module):
    """Up-sampling blocks of one convolution each, the coarsest first."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3 * width, width, 3, padding=1) for width in widths)

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        if len(skips) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} blocks were called with {len(skips)} skips")
        for block, skip in zip(self.blocks, skips, strict=True):
            x = upsampled()(x, skip, lambda y, block=block: F.gelu(block(y)))
        return x


def parted(
    after=2,
    start=lambda net: [nn.init.zeros_(weights) for weights in net.lasts.parameters()],
    heads=lambda net, x, skips: (net.texture(x, skips), net.displacement(x, skips)),
    finish=lambda net, one, other: (net.lasts[0](one), net.lasts[1](other)),
    kernel=1,
):
    """As the way up of `DoubleHeadUNet`; each part can be exchanged for a mistake."""

    def double_head(widths, way_up):
        class DoubleHead(nn.Module):
            def __init__(self):
                super().__init__()
                self.shared = way_up(widths[:after])
                self.texture, self.displacement = way_up(widths[after:]), way_up(widths[after:])
                last = partial(nn.Conv2d, widths[-1], 3, kernel, padding=kernel // 2)
                self.lasts = nn.ModuleList([last(), last()])
                start(self)

            def forward(self, bottom, skips):
                x = self.shared(bottom, skips[:after])
                return finish(self, *heads(self, x, skips[after:]))

        return DoubleHead()

    return double_head


def _zeroed(what: Callable[[nn.Module], Sequence[Tensor]]) -> Callable[[nn.Module], None]:
    """Sets weights of a network to zero."""

    def start(net: nn.Module) -> None:
        for weights in what(net):
            nn.init.zeros_(weights)

    return start


def _twice(name: str, one: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], None]:
    """Puts a module of a network in another's place too; then the last layers start at zero."""

    def start(net: nn.Module) -> None:
        setattr(net, name, one(net))
        _zeroed(lambda net: net.lasts.parameters())(net)

    return start


def _two_ways_up(widths, way_up):
    """A whole way up per map."""
    net = parted()(widths, way_up)
    net.first = way_up(widths[:2])

    def forward(bottom, skips):
        one, other = (up(bottom, skips[:2]) for up in (net.shared, net.first))
        texture, displacement = net.texture(one, skips[2:]), net.displacement(other, skips[2:])
        return net.lasts[0](texture), net.lasts[1](displacement)

    net.forward = forward
    return net


PULLED = ("by texture alone, by displacement alone, by both maps, by no map",)
STARTS = (
    "1 where texture is not 0",
    "1 where displacement is not 0",
    "how many numbers of the last layers texture pulls at",
    "how many numbers of the last layers displacement pulls at",
)


class _Trial:
    """A network that the student's function makes for `widths`, and features to run it on.

    ask(measure)(function): what measure(net) gives, as tensors.
    """

    def __init__(self, widths: Sequence[int], size: tuple[int, int], batch: int):
        self.widths, self.name = list(widths), f"double_head({list(widths)}, way_up)"
        self.bottom = normal(batch, 2 * widths[0], *(-(-side // 2) for side in size), seed=3)
        self.skips = []
        for width in widths:
            self.skips.append(normal(batch, width, *size, seed=width))
            size = tuple(2 * side + 1 for side in size)

    def ask(self, measure: Callable) -> Callable:
        def asked(function: Callable) -> tuple[Tensor, ...]:
            torch.manual_seed(1)  # a mistake starts at the same weights again
            return measure(self._network(function))

        return asked

    def _network(self, function: Callable) -> nn.Module:
        """The student's network, if it has its parts."""
        net = function(list(self.widths), _WayUp)
        if not isinstance(net, nn.Module):
            kind = net if isinstance(net, type) else type(net)
            hint = ": return an object of it, with ()" if isinstance(net, type) else ""
            raise Wrong(f"{self.name}: expected an nn.Module, got {kind.__name__}{hint}.")
        for name in ("shared", "texture", "displacement", "lasts"):
            if not isinstance(getattr(net, name, None), nn.Module):
                raise Wrong(f"{self.name}: it has no part self.{name} that is an nn.Module.")
        if not isinstance(net.lasts, nn.ModuleList) or len(net.lasts) != 2:
            raise Wrong(f"{self.name}: self.lasts should be an nn.ModuleList of two.")
        return net

    def maps(self, net: nn.Module, times: float = 1.0) -> tuple[Tensor, Tensor]:
        """Texture and displacement of `times` the bottom; their shapes are right."""
        skips = list(self.skips)
        maps = net(times * self.bottom, skips)
        if [*map(id, skips)] != [*map(id, self.skips)]:
            raise Wrong(f"{self.name}: it changes the list of skips. Take slices of it instead.")
        if not isinstance(maps, tuple | list) or len(maps) != 2:
            raise Wrong(f"{self.name}: when it is called it should return two maps.")
        wide = (len(self.bottom), 3, *skips[-1].shape[2:])
        for name, one in zip(("texture", "displacement"), maps, strict=True):
            if not isinstance(one, Tensor) or one.shape != wide:
                shape = tuple(getattr(one, "shape", ()))
                raise Wrong(f"{self.name}: expected a {name} map of shape {wide}, got {shape}.")
        return maps

    def start(self, net: nn.Module) -> tuple[Tensor, ...]:
        """Before training: where maps are not zero, and numbers of last layers with a gradient."""
        maps, lasts = self.maps(net), list(net.lasts.parameters())
        return *((one != 0).float() for one in maps), *(self._felt(one, lasts) for one in maps)

    def sharing(self, net: nn.Module) -> Tensor:
        """Weights with a gradient of texture alone, of displacement alone, of both, of none."""
        _fill(net)
        maps, weights = self.maps(net), list(net.parameters())
        counts, kinds = (
            torch.zeros(4, dtype=torch.long),
            ["texture", "displacement", "both", "none"],
        )
        for w in weights:
            one, other = (bool(self._felt(drawn, [w])) for drawn in maps)
            kind = "both" if one and other else "texture" if one else "displacement"
            counts[kinds.index(kind if one or other else "none")] += w.numel()
        return counts

    def values(self, net: nn.Module) -> tuple[Tensor, ...]:
        """Maps with weights put in, when the network has been called before."""
        _fill(net)
        self.maps(net, 2.0)
        return tuple(one.detach() for one in self.maps(net))

    def _felt(self, one: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """How many numbers of some weights have a gradient."""
        if not one.requires_grad:
            raise Wrong(f"{self.name}: a map has no gradient. Is it detached, or made anew?")
        pull = (one * normal(*one.shape, seed=9)).sum()
        weights = [w for w in weights if w.requires_grad]
        if not weights:
            raise Wrong(f"{self.name}: weights cannot be trained: requires_grad is off.")
        grads = torch.autograd.grad(pull, weights, retain_graph=True, materialize_grads=True)
        return torch.tensor(sum(int(grad.count_nonzero()) for grad in grads))


def _fill(net: nn.Module) -> None:
    """The same weights for every network, by part."""
    parts = net.shared, net.texture, net.displacement, *net.lasts
    for seed, part in enumerate(parts):
        for i, weights in enumerate(part.parameters()):
            share = weights[0].numel() ** -0.5
            weights.data = share * normal(*weights.shape, seed=20 * seed + i)


def _in_common(function: Callable) -> Tensor:
    """How many weights two networks have in common."""
    one, other = (function([16, 8, 4], _WayUp) for _ in range(2))
    return torch.tensor(len({*map(id, one.parameters())} & {*map(id, other.parameters())}))


@exercise_check(
    stand_in=parted(),
    mistakes={
        "The heads part after the first block there; the report parts them after the "
        "second.": parted(after=1),
        "The heads part after the third block there; the report parts them after the "
        "second.": parted(after=3),
        "Each map has a whole way up there. The first two blocks serve both: run self.shared once, "
        "and give its answer to both heads.": _two_ways_up,
        "Both maps come from one head there; each has blocks of its own after the shared "
        "ones.": parted(start=_twice("displacement", lambda net: net.texture)),
        "Both heads end in one layer there, and draw with its weights; each has its own.": parted(
            start=_twice("lasts", lambda net: nn.ModuleList([net.lasts[0]] * 2))
        ),
        "Before training a map is not zero: the weights and the bias of both last layers have to "
        "start at 0.": (
            parted(start=lambda net: None),
            parted(start=_zeroed(lambda net: [last.bias for last in net.lasts])),
            parted(start=_zeroed(lambda net: [last.weight for last in net.lasts])),
            parted(start=_zeroed(lambda net: net.lasts[0].parameters())),
        ),
        "All layers start at 0 there, and then nothing ever moves; only the last ones "
        "should.": parted(start=_zeroed(lambda net: net.parameters())),
        "The maps are made zero by a factor, or by the wrong layer, and no gradient reaches the "
        "last layers' weights. Set those to 0.": parted(
            start=_zeroed(lambda net: [*net.texture.parameters(), *net.displacement.parameters()])
        ),
        "Texture comes first, displacement second.": parted(
            finish=lambda net, one, other: (net.lasts[1](other), net.lasts[0](one))
        ),
        "The displacement's gradient does not reach the shared blocks there: nothing is to be "
        "detached.": parted(
            heads=lambda net, x, skips: (net.texture(x, skips), net.displacement(x.detach(), skips))
        ),
    },
    points=3,
)
def double_head(attempt):
    def judge(trial: _Trial, measure: Callable, what: str, hint: str, *parts: str) -> None:
        ask, what = trial.ask(measure), what.format(trial.name)
        got, expected = attempt.through(ask, what), ask(attempt.stand_in)
        named = {name: {} for name in parts} or None
        attempt.close(what, got, expected, hint=hint, parts=named, axes=PULLED)

    trials = _Trial([16, 8, 4, 2], (3, 4), 2), _Trial([12, 6, 3], (4, 4), 1)
    with attempt.part("zero start"):
        for trial in trials:
            hint = "Before training both maps are 0, and each pulls at all of its last layer."
            judge(trial, trial.start, "{}, untrained,", hint, *STARTS)
    with attempt.part("sharing"):
        hint = "Both maps pull at self.shared, and each at a head and a last layer of its own."
        for trial in trials:
            judge(trial, trial.sharing, "how many weights are pulled at in {}", hint)
    with attempt.part("maps"):
        for trial in (
            *trials,
            _Trial([32, 16, 8, 4, 2], (2, 2), 1),
            _Trial([128, 64, 32, 16], (7, 7), 1),  # as in the notebook
            _Trial([24, 12, 6, 3], (1, 3), 3),
        ):
            hint = "Which skips does each block get? self.shared has the two coarsest."
            judge(trial, trial.values, "{} with weights put in", hint, "texture", "displacement")
    with attempt.part("called again"):
        what = "weights that two networks of double_head([16, 8, 4], way_up) have in common"
        attempt.close(what, attempt.through(_in_common, what), torch.tensor(0))
    return "zero at first, two blocks for both maps, and a gradient of each map to its own head"


def grid(size=lambda maps: (maps.shape[3], maps.shape[2]), **ways):
    """Readings by `grid_sample`, with other settings."""
    ways = {"padding_mode": "border", "align_corners": False} | ways

    def read(maps, points):
        places = 2 * points / points.new_tensor(size(maps)) - 1
        return F.grid_sample(maps, places[:, None], **ways)[:, :, 0].transpose(1, 2)

    return read


def at(place):
    """Readings at other places than the points."""
    return lambda maps, points: sample_bilinear(maps, place(points))


@exercise_check(
    stand_in=sample_bilinear,
    mistakes={
        "That reads half a texel beside the place, on both axes: texel i's centre is at i + 0.5, "
        "so take 0.5 off before you round down.": at(lambda points: points + 0.5),
        "Half a texel is added there; it has to be taken off.": at(lambda points: points + 1.0),
        "x and y have changed places: x counts columns, the map's last axis.": at(
            lambda points: points.flip(-1)
        ),
        "That is the nearest texel alone; take the four around the point.": grid(mode="nearest"),
        "Beyond the outermost centres that fades to zero; the border's value has to hold "
        "there.": grid(padding_mode="zeros"),
        "The weights have changed places: the nearer texel counts more.": at(
            lambda points: 2 * (points - 0.5).floor() + 2 - points  # mirrored between four centres
        ),
        "The first and the last texel's centres are taken for the edges there "
        "(align_corners).": grid(align_corners=True),
    },
    axes=AXES,
    points=3,
)
def read_bilinear(attempt):
    small = torch.tensor([[[[1.0, 2.0, 6.0], [4.0, 8.0, 0.0]]]])
    border = "The border's value holds there, beyond the outermost centres."
    with attempt.part("by hand"):
        # one reading alone could be several mistakes: these tell them apart
        points = uniform(2, 15, 2, seed=8) * torch.tensor([6.0, 4.0])
        attempt.trial("readings of two maps of 4 by 6")(normal(2, 2, 4, 6, seed=7), points)
        for (x, y), hint in {
            (0.5, 0.5): "(0.5, 0.5) is the centre of the first texel, so nothing else counts.",
            (1.0, 0.5): "(1.0, 0.5) is half way between 1 and 2.",
            (1.0, 1.0): "(1, 1) is where four texels meet: the mean of 1, 2, 4 and 8.",
            (0.75, 1.25): "The weights there are 3/16, 1/16, 9/16 and 3/16.",
            (2.0, 0.5): "x = 2.0 is half way between the second and the third column.",
            (-3.0, 0.5): border,
            (0.2, 0.1): border,
            (2.9, 1.5): border,
            (9.0, 9.0): border,
            (1.5, 7.0): border,
        }.items():
            what = f"the reading at x = {x}, y = {y} of [[1, 2, 6], [4, 8, 0]]"
            attempt.case(what, (small, torch.tensor([[[x, y]]])), hint)
    with attempt.part("batches"):
        for seed, (*shape, count) in enumerate(BATCHES, start=1):
            maps, inside, beyond = _maps_and_points(seed, *shape, count)
            batch, channels, height, width = shape
            words = f"{batch} maps of {height} by {width} and {channels} channels"
            picture = partial(_places, maps[0, 0], inside[0])
            attempt.case(f"{count} readings inside {words}", (maps, inside), picture=picture)
            attempt.case(f"{count} readings inside and outside of {words}", (maps, beyond))
        crop, vertices = normal(1, 3, 224, 224, seed=9), 300 * uniform(1, 200, 2, seed=9) - 40
        attempt.case("readings of maps of 224 by 224, as of a crop", (crop, vertices), atol=1e-4)
    maps, points = normal(2, 3, 4, 6, seed=5), 6 * uniform(2, 9, 2, seed=6)
    centres = (points - 0.5).round() + 0.5
    with attempt.part("edges and layouts"):
        for words, *inputs in (
            ("far outside", maps, 1e4 * (points - 3)),
            ("at the same places of other maps", normal(2, 3, 4, 6, seed=10), points),
            ("of a row of texels", maps[:, :, :1], points),
            ("of a column of texels", maps[..., :1], points),
            ("of a single texel", maps[..., :1, :1], points),
            ("of maps that are not contiguous", *strided(maps, points)),
            ("at the centres of texels", maps, centres),
        ):
            attempt.case(f"readings {words}", tuple(inputs))
        double = maps.double(), points.double()
        attempt.case("readings in float64", double, atol=1e-10, rtol=1e-9)
    with attempt.part("gradients"):
        for seed, (*shape, count) in enumerate(BATCHES, start=1):
            more, _, beyond = _maps_and_points(seed, *shape, count)
            inputs = {"the maps": more, "the points": beyond}
            attempt.gradients("read_bilinear", inputs, atol=1e-4)
        inputs = {"the maps": maps, "the points": centres}  # there the points have several slopes
        attempt.gradients("read_bilinear at the centres of texels", inputs, atol=50)
    return "by hand, beyond the border, four batches, and gradients to maps and points"


BATCHES = (2, 3, 5, 8, 40), (3, 1, 9, 4, 25), (1, 6, 6, 6, 30), (4, 2, 2, 7, 1)


def _maps_and_points(
    seed: int, batch: int, channels: int, height: int, width: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, places inside of them, and places that may lie outside."""
    maps, size = normal(batch, channels, height, width, seed=seed), torch.tensor([width, height])
    inside = 0.5 + uniform(batch, count, 2, seed=seed + 10) * (size - 1)
    beyond = (uniform(batch, count, 2, seed=seed + 20) * 2 - 0.5) * size
    return maps, inside, beyond


def _places(texels: Tensor, points: Tensor, got: Tensor, expected: Tensor) -> Figure:
    """The first map, and what was read of it where."""
    figure = Figure((8.6, 3.0), layout="constrained", facecolor="white")
    limit, (height, width) = float(texels.abs().max()), texels.shape
    colours = dict(cmap="viridis", vmin=-limit, vmax=limit)
    axes = figure.subplots(1, 2)
    for axis, name, values in zip(axes, ("expected", "yours"), (expected, got), strict=True):
        axis.imshow(
            texels.numpy(), extent=(0, width, height, 0), interpolation="nearest", **colours
        )
        dots = axis.scatter(
            *points.T.numpy(), c=values[0, :, 0].numpy(), edgecolors="white", s=60, **colours
        )
        axis.set(title=f"first map, and what {name} reads at the dots", xlabel="x", ylabel="y")
    figure.colorbar(dots, ax=axes, label="value")
    return figure


def filled(
    signs=(1.0, 1.0, 1.0, -1.0, 1.0, 1.0),
    own=lambda seen, twin: seen,
    other=lambda seen, twin: (1 - seen) * twin,
):
    """As `offsets.sample_offsets`, without its blend along the border.

    signs: of a mirror vertex' reading. own, other: how much a vertex' own reading and its mirror
    vertex' count, where it is seen and where that one is.
    """

    def fill_hidden(offsets, seen, mirror):
        seen = seen[..., None]
        twin = seen[:, mirror]
        flipped = offsets.new_tensor(signs) * offsets[:, mirror]
        return own(seen, twin) * offsets + other(seen, twin) * flipped

    return fill_hidden


@exercise_check(
    stand_in=filled(),
    mistakes={
        "x of the displacement is not negated there: what moves to the right on one side moves to "
        "the left on the other.": filled((1.0, 1, 1, 1, 1, 1)),
        "The red of the colours is negated there as well: only displacement has a "
        "direction.": filled((-1.0, 1, 1, -1, 1, 1)),
        "Red is negated there, but x of the displacement is channel 3.": filled(
            (-1.0, 1, 1, 1, 1, 1)
        ),
        "All of the displacement is negated there; up is up on both sides.": filled(
            (1.0, 1, 1, -1, -1, -1)
        ),
        "A vertex whose mirror vertex is hidden too took its reading there, though that one "
        "cannot see the map either: it gets 0.": filled(other=lambda seen, twin: 1 - seen),
        "Hidden vertices keep what they have read there.": lambda offsets, seen, mirror: offsets,
        "Hidden vertices get nothing there; where the mirror vertex is seen they take its "
        "reading.": filled(other=lambda seen, twin: 0),
        "Where both are seen, each keeps its own reading: nothing is added.": filled(
            other=lambda seen, twin: twin
        ),
        "Where both are seen, each keeps its own reading: no mean.": filled(
            own=lambda seen, twin: seen / (seen + twin).clamp(min=1),
            other=lambda seen, twin: twin / (seen + twin).clamp(min=1),
        ),
        "Seen and hidden have changed places.": (
            filled(own=lambda s, twin: 1 - s, other=lambda s, twin: s * (1 - twin)),
            filled(own=lambda s, twin: 1 - s, other=lambda s, twin: s),
        ),
    },
    axes=AXES,
    points=2,
)
def fill_hidden(attempt):
    hint = "Each face has its own seen vertices; one on the middle line is its own mirror."
    with attempt.part("by hand"):
        mirror, values = torch.tensor([1, 0, 3, 2]), torch.arange(1.0, 25).reshape(1, 4, 6)
        for seen, why in {
            (1, 1, 1, 1): "All are seen: everyone keeps its own reading.",
            (1, 0, 1, 1): "Vertex 1 is hidden and vertex 0 seen: 1 takes 0's, x negated.",
            (0, 1, 0, 0): "Of 2 and 3 neither is seen: both get 0.",
            (0, 0, 0, 0): "Nobody is seen: all zero.",
        }.items():
            what = f"fill_hidden with seen = {list(seen)} and mirror = [1, 0, 3, 2]"
            attempt.case(what, (values, torch.tensor([seen]).float(), mirror), why)
    cases = {sizes: _half_seen(*sizes) for sizes in ((3, 11, 1), (1, 20, 2), (5, 7, 3))}
    with attempt.part("batches"):
        for (batch, count, seed), (offsets, seen, mirror) in cases.items():
            attempt.case(f"{batch} faces of {count} vertices", (offsets, seen, mirror), hint)
            other = offsets + 50 * (1 - seen[..., None]) * normal(batch, count, 6, seed=seed + 30)
            what = "the same with other readings at hidden vertices"
            attempt.case(what, (other, seen, mirror), hint)
    offsets, seen, _ = cases[5, 7, 3]
    other = torch.tensor([3, 5, 2, 0, 4, 1, 6])
    with attempt.part("edges and layouts"):
        for words, *inputs in (
            ("with another mirror", offsets, seen, other),
            ("with others seen", offsets, 1 - seen, other),
            ("with other readings", offsets + 1, 1 - seen, other),
            ("all seen", offsets, torch.ones_like(seen), other),
            ("all hidden", offsets, torch.zeros_like(seen), other),
            ("all on the middle line", offsets, seen, torch.arange(7)),
            ("not contiguous", *strided(offsets, seen), other),
            ("in float64", offsets.double(), seen.double(), other),
        ):
            attempt.case(f"5 faces of 7 vertices, {words}", tuple(inputs), hint)
    with attempt.part("gradients"):
        for offsets, seen, mirror in cases.values():
            attempt.gradients("fill_hidden", {"offsets": offsets}, seen, mirror)
    return "own, borrowed and missing readings, and gradients to the readings"


def _half_seen(batch: int, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Readings, about half of them seen, and a mirror with some on the middle line."""
    order = torch.randperm(count, generator=seeded(seed))
    mirror = torch.arange(count)
    for i in range(0, count - 2, 2):
        mirror[order[[i, i + 1]]] = order[[i + 1, i]]
    seen = (uniform(batch, count, seed=seed + 10) < 0.55).float()
    return normal(batch, count, 6, seed=seed + 20), seen, mirror


def added(
    move=lambda face, displacement: face.vertices + displacement,
    paint=lambda face, texture: face.albedo + texture,
    finish=lambda posed, face, c, texture, displacement: (posed.v_camera, posed.colours),
):
    """As `augmented.branch.augment`; each part can be exchanged for a mistake."""

    def add_offsets(face, coefficients, texture, displacement):
        vertices, albedo = move(face, displacement), paint(face, texture)
        posed = pose_and_light(face.model, vertices, albedo, coefficients)
        return finish(posed, face, coefficients, texture, displacement)

    return add_offsets


def rotation_of(c: FaceCoefficients) -> Tensor:
    return axis_angle_to_matrix(c.rotation)


def normals_of(face: Face) -> Tensor:
    """In the model frame."""
    return vertex_normals(face.vertices, face.model.faces)


def turned(vertices: Tensor, face: Face, c: FaceCoefficients) -> Tensor:
    """Normals of other vertices on the face's mesh, in viewer axes."""
    return vertex_normals(vertices, face.model.faces) @ rotation_of(c).mT


def lit_by(normals):
    """`added`'s finish, with other normals(face, moved face, coefficients)."""
    return lambda moved, face, c, texture, displacement: (
        moved.v_camera,
        shade(moved.albedo, normals(face, moved, c), c.lighting),
    )


def _case(
    batch: int, seed: int, turn: float, dtype: torch.dtype = torch.float32
) -> tuple[Face, FaceCoefficients]:
    """Small bumpy sheets, posed and lit: no face, but all that one has."""
    y, x = torch.cartesian_prod(torch.arange(4), torch.arange(5)).T
    flat = torch.stack([20.0 * x, 20.0 * y, 0.0 * x], -1)
    vertices = flat + 5 * normal(batch, len(flat), 3, seed=seed)
    faces = torch.tensor(Delaunay(flat[:, :2]).simplices).long()
    c = FaceCoefficients.mean(batch, 1, 1, 1)
    c.rotation = turn * 0.6 * normal(batch, 3, seed=seed + 1)
    c.scale = 1 + turn * 0.2 * uniform(batch, 1, seed=seed + 2)
    c.translation = c.translation + 10 * turn * normal(batch, 3, seed=seed + 3)
    c.lighting = c.lighting + 0.4 * normal(batch, 9, 3, seed=seed + 4)
    albedo = uniform(batch, len(flat), 3, seed=seed + 5)
    vertices, albedo, c = vertices.to(dtype), albedo.to(dtype), c.map(lambda x: x.to(dtype))
    return pose_and_light(SimpleNamespace(faces=faces), vertices, albedo, c), c


@exercise_check(
    stand_in=added(),
    mistakes={
        "The offset is added to the lit colours there. It belongs to the skin: add it to the "
        "albedo, and light that.": added(
            paint=lambda face, t: face.albedo,
            finish=lambda posed, face, c, t, d: (posed.v_camera, posed.colours + t),
        ),
        "A texture offset is added to the albedo, before the light falls on it.": added(
            paint=lambda face, t: face.albedo
        ),
        "No clamp: it cuts the gradient.": added(paint=lambda f, t: (f.albedo + t).clamp(0, 1)),
        "The displacement is added after pose there, in the camera's axes: x points the other way "
        "and z into the picture. Add it to face.vertices first.": added(
            move=lambda face, d: face.vertices,
            finish=lambda posed, face, c, t, d: (posed.v_camera + d, posed.colours),
        ),
        "The vertices have not moved.": added(move=lambda face, d: face.vertices),
        "Those are the base face's normals. The surface has moved: compute them again, from the "
        "moved vertices.": added(
            finish=lit_by(lambda face, moved, c: turned(face.vertices, moved, c))
        ),
        "The normals are not turned there: light is given in viewer axes, so turn them with the "
        "head, n Rᵀ for rows.": added(finish=lit_by(lambda face, moved, c: normals_of(moved))),
        "The normals are turned the wrong way there: for rows it is n Rᵀ.": added(
            finish=lit_by(lambda face, moved, c: normals_of(moved) @ rotation_of(c))
        ),
        "Those are normals in the camera's axes. Compute them from the moved vertices of the model "
        "frame, and turn them, n Rᵀ for rows.": added(
            finish=lit_by(lambda face, moved, c: vertex_normals(moved.v_camera, face.model.faces))
        ),
    },
    axes=AXES,
    parts={"v_camera": dict(atol=1e-2, picture=None), "colours": dict(atol=1e-4)},
    points=2,
)
def add_offsets(attempt):
    cases = (2, 10, 1.0), (1, 20, 0.0), (3, 30, 1.0), (2, 40, 0.7), (1, 50, 1.0, torch.float64)
    offsets = {case: _offsets(*case) for case in cases}
    for words, which, hint in (
        ("offsets of zero", (), "This is the base face, posed and lit."),
        ("a texture offset alone", (0,), "It is added to the albedo."),
        ("a displacement alone", (1,), "It is added in the model frame; then pose."),
    ):
        with attempt.part(words):
            for case in cases:
                values = (o if i in which else 0 * o for i, o in enumerate(offsets[case]))
                picture = partial(_three_sheets, _case(*case)[0].colours)
                what = f"add_offsets with {words}"
                attempt.case(what, (*_case(*case), *values), hint, picture=picture)
    with attempt.part("gradients"):
        for case in cases:
            for words, times in {"": 1.0, " at offsets of zero": 0.0}.items():
                values = (times * o for o in offsets[case])
                inputs = dict(zip(("texture", "displacement"), values, strict=True))
                for i, name in enumerate(("v_camera", "colours")):
                    call = partial(_part_on_case, i, case)
                    attempt.gradients(f"{name} of add_offsets{words}", inputs, call=call, atol=1e-4)
    return "each offset alone, in any pose, and gradients to both"


def _offsets(batch: int, seed: int, turn: float, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    """Texture and displacement for the sheets of `_case`, not contiguous."""
    sizes = {6: 0.2, 7: 6.0}  # mm
    return strided(*(s * normal(batch, 20, 3, seed=seed + i).to(dtype) for i, s in sizes.items()))


def _part_on_case(i: int, case: tuple, function, *offsets: Tensor) -> Tensor:
    return function(*_case(*case), *offsets)[i]


def _three_sheets(before: Tensor, got: Tensor, expected: Tensor) -> Figure:
    """The first face's colours: before the displacement, expected after it, yours."""
    sheets = [c[0].reshape(4, 5, 3).clamp(0, 1).numpy() for c in (before, expected, got)]
    return gallery(sheets, ["before the displacement", "expected", "yours"], title="Colours")


@exercise_check(
    stand_in=sample_hyperbolic,
    mistakes={
        "That is the bilinear reading: the depth has no say in it.": lambda maps, p, depth: (
            sample_bilinear(maps, p)
        ),
        "The denominator is missing: divide by the reading of 1 / depth.": lambda maps, p, depth: (
            sample_bilinear(maps / depth, p)
        ),
        "The depth multiplies there; a far texel has to count less, so divide by "
        "it.": lambda maps, p, depth: sample_hyperbolic(maps, p, 1 / depth),
        "That divides by 1 / (depth read bilinearly), but the mean of 1 / depth is another number "
        "than 1 over the mean of "
        "depth.": lambda m, p, d: sample_bilinear(m / d, p) * sample_bilinear(d, p),
        "The denominator is upside down: divide by the reading of 1 / depth.": lambda m, p, d: (
            sample_bilinear(m / d, p) * sample_bilinear(1 / d, p)
        ),
        "The absolute value of the depth is taken there: the formula has its sign, and that is "
        "what this section is about.": lambda m, p, d: sample_hyperbolic(m, p, d.abs()),
    },
    axes=AXES,
)
def read_hyperbolic(attempt):
    two, depth = torch.tensor([[[[3.0, 9.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
    middle, signs = torch.tensor([[[1.0, 0.5]]]), torch.tensor([1.0, -1.0])
    with attempt.part("by hand"):
        hint = "Half way: (3/1 + 9/2) / (1/1 + 1/2), since both halves cancel."
        what = "the reading between 3 at depth 1 and 9 at depth 2"
        attempt.case(what, (two, middle, depth), hint)
        what = "the same in another unit of depth"
        attempt.case(what, (two, middle, depth / 1e3), "The unit cancels.")
        hint = "Half way: (3/1 - 9/2) / (1/1 - 1/2). Keep the sign of the depth."
        what = "the reading between 3 at depth 1 and 9 at depth -2"
        attempt.case(what, (two, middle, depth * signs), hint)
    cases = {}
    for seed, shape in enumerate(((2, 3, 5, 8, 30), (3, 6, 7, 4, 20), (1, 1, 6, 6, 25)), start=1):
        batch, channels, height, width, count = shape
        maps, _, points = _maps_and_points(seed, *shape)
        depth = 0.5 + 2 * uniform(batch, 1, height, width, seed=seed + 20)
        words = f"{count} readings of {batch} maps of {height} by {width}, {channels} channels"
        cases[words] = maps, points, depth
    with attempt.part("batches"):
        for words, (*places, w) in cases.items():
            flat, hint = torch.full_like(w, 340.0), "This is bilinear."
            attempt.case(words, (*places, w))
            attempt.case(f"{words}, all depths negative", (*places, -w))
            attempt.case(f"{words}, all at one depth", (*places, flat), hint)
    # Single texels of negative depth, so far away that no denominator comes near 0.
    mixed = torch.where(torch.arange(36).reshape(6, 6) % 7 == 3, -9.0, depth)
    between = torch.cartesian_prod(torch.arange(1.0, 6), torch.arange(1.0, 6))[None]
    between = between + 0.3 * (uniform(1, 25, 2, seed=30) - 0.5)
    near = 340 + 150 * uniform(1, 1, 6, 6, seed=31)  # mm
    with attempt.part("units, signs and layouts"):
        for words, *inputs in (
            ("at depths of a face in mm", maps, points, near),
            ("at the same depths in km", maps, points, near / 1e6),
            ("at the same depths in µm", maps, points, near * 1e3),
            ("at depths of a depth buffer", maps, points, 0.96 + 0.04 * depth / 2.5),
            ("at depths of both signs", maps, between, mixed),
            ("of other maps at depths of both signs", maps + 1, between, mixed),
            ("of a row of texels", maps[:, :, :1], points, depth[:, :, :1]),
            ("of a single texel", maps[..., :1, :1], points, depth[..., :1, :1]),
            ("that are not contiguous", *strided(maps, points, depth)),
            ("in float64", maps.double(), points.double(), depth.double()),
        ):
            attempt.case(f"readings {words}", tuple(inputs))
    with attempt.part("gradients"):
        names = "the maps", "the points", "the depth"
        for words, inputs in {
            **dict(zip(("", " of six channels", " of one map"), cases.values(), strict=True)),
            " at depths of both signs": (maps, between, mixed),
            " at one depth": (maps, between, torch.full_like(mixed, 340.0)),
        }.items():
            inputs = dict(zip(names, inputs, strict=True))
            attempt.gradients(f"read_hyperbolic{words}", inputs, atol=1e-4)
    return "by hand, with either sign, and gradients to maps, points and depth"


def carried(
    place=lambda weights, points: (weights[..., None] * points).sum(-2),
    signs=(1.0, 1.0, 1.0, -1.0, 1.0, 1.0),
    all_of=lambda seen: seen.amin(-1),
    own=lambda seen, twin: seen,
    other=lambda seen, twin: (1 - seen) * twin,
    covered=lambda weights: weights.amax(-1) > 0,
    twin=lambda corners, mirror: mirror[corners],
):
    """Each part can be exchanged for a mistake.

    place: of a texel in the photo. signs: of what is read through the mirror. all_of: whether a
    triangle is seen. own, other: how much both readings count. twin: the triangle's mirror image.
    """

    def carry(maps, points, seen, corners, weights, mirror):
        def at(vertices: Tensor) -> tuple[Tensor, Tensor]:
            batch = torch.arange(len(maps))[:, None, None, None]
            places = place(weights, points[batch, vertices])
            read = sample_bilinear(maps, places.flatten(1, 2)).unflatten(1, places.shape[1:3])
            return read, all_of(seen[batch, vertices])[..., None]

        (mine, shown), (theirs, other_shown) = at(corners), at(twin(corners, mirror))
        taken = own(shown, other_shown) * mine
        taken = taken + other(shown, other_shown) * maps.new_tensor(signs) * theirs
        return torch.where(covered(weights)[..., None], taken, 0.0).permute(0, 3, 1, 2)

    return carry


def read_at_corners(maps, points, seen, corners, weights, mirror):
    """The corners' readings, blended: what lies between vertices is lost."""
    read = filled()(sample_bilinear(maps, points), seen, mirror)
    batch = torch.arange(len(maps))[:, None, None, None]
    return (weights[..., None] * read[batch, corners]).sum(-2).permute(0, 3, 1, 2)


@exercise_check(
    stand_in=carried(),
    mistakes={
        "The corners' readings are blended there, and what the map says between vertices is lost. "
        "Blend their places, and read once per texel.": read_at_corners,
        "Texels that the photo does not show are empty there; take the mirror triangle's "
        "reading where the photo shows that.": carried(other=lambda seen, twin: 0 * twin),
        "Hidden texels read the photo all the same there, at what lies before them.": carried(
            own=lambda seen, twin: 0 * seen + 1, other=lambda seen, twin: 0 * twin
        ),
        "A mirror triangle was read that the photo does not show either: there the map is "
        "0.": carried(other=lambda seen, twin: 1 - seen),
        "One corner that is seen is not enough: a triangle is shown if all three are.": carried(
            all_of=lambda seen: seen.amax(-1)
        ),
        "x of the displacement is not negated where the mirror triangle is read.": carried(
            signs=(1.0,) * 6
        ),
        "Channel 3 is x of the displacement; a colour was negated there.": carried(
            signs=(-1.0, 1, 1, 1, 1, 1)
        ),
        "All of the displacement is negated there; up is up on both sides.": carried(
            signs=(1.0, 1, 1, -1, -1, -1)
        ),
        "Texels without a triangle are not 0 there.": carried(
            covered=lambda weights: weights.amax(-1) > -1
        ),
        "The corners count alike there; use their weights.": carried(
            place=lambda weights, points: points.mean(-2)
        ),
    },
    points=3,
    challenge=True,
    axes=("face", "channel", "row", "column"),
)
def carry(attempt):
    def views(*sizes: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [x.to(dtype) if x.is_floating_point() else x for x in _views(*sizes)]

    with attempt.part("by hand"):
        attempt.trial("carry of random maps")(*views(2, 6, 7, 9, 4, 5, 9))  # tells mistakes apart
        maps = torch.zeros(1, 6, 2, 4)
        maps[0, 0], maps[0, 3] = torch.arange(8.0).view(2, 4), 1.0
        points = torch.tensor(
            [[[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [3.5, 0.5], [2.5, 0.5], [3.5, 1.5]]]
        )
        mirror = torch.tensor([3, 4, 5, 0, 1, 2])
        corners = torch.tensor([[[[0, 1, 2], [3, 4, 5], [0, 1, 2]]]])
        weights = torch.tensor([[[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.0, 0, 0]]]])
        for seen, red, x in (
            ((1, 1, 1, 1, 1, 1), (1.25, 3.75, 0), (1, 1, 0)),
            ((1, 1, 1, 1, 1, 0), (1.25, 1.25, 0), (1, -1, 0)),
            ((1, 0, 1, 1, 1, 0), (0.0, 0, 0), (0, 0, 0)),
        ):
            right = torch.zeros(1, 6, 1, 3)
            right[0, 0], right[0, 3] = torch.tensor(red), torch.tensor(x)
            shown = torch.tensor([seen]).float()
            hint = "One triangle, its mirror image, and a texel without a triangle."
            what = f"carry of a map of 2 by 4 to three texels, seen = {list(seen)},"
            inputs = maps, points, shown, corners, weights, mirror
            attempt.case(what, inputs, hint, expected=right)
    with attempt.part("batches"):
        for seed, sizes in enumerate(
            ((2, 9, 5, 7, 4, 6), (1, 30, 8, 8, 8, 8), (3, 12, 6, 4, 3, 9))
        ):
            what = "carry of {} maps, {} vertices, {} by {} to {} by {}".format(*sizes)
            attempt.case(what, tuple(views(*sizes, seed)))
        what = "carry of a crop's map to a view of 40 by 40"
        attempt.case(what, tuple(views(1, 400, 224, 224, 40, 40, 3)), atol=1e-4)
    with attempt.part("edges and layouts"):
        maps, points, seen, corners, weights, mirror = views(2, 9, 5, 7, 4, 6, 10)
        own = torch.arange(9)
        for words, *inputs in (
            ("all seen", maps, points, torch.ones_like(seen), corners, weights, mirror),
            ("none seen", maps, points, torch.zeros_like(seen), corners, weights, mirror),
            ("others seen", maps, points, 1 - seen, corners, weights, mirror),
            ("all on the middle line", maps, points, seen, corners, weights, own),
            ("no triangle in view", maps, points, seen, corners, 0 * weights, mirror),
            ("other maps", maps + 1, points, seen, corners, weights, mirror),
            ("places outside of the map", maps, 3 * points - 5, seen, corners, weights, mirror),
            ("not contiguous", *strided(maps, points, seen, corners, weights), mirror),
            ("float64", *views(2, 9, 5, 7, 4, 6, 11, dtype=torch.float64)),
        ):
            attempt.case(f"carry, {words}", tuple(inputs))
    with attempt.part("gradients"):
        for sizes in ((2, 9, 5, 7, 4, 6, 20), (1, 15, 6, 5, 7, 3, 21)):
            maps, *rest = views(*sizes)
            for words, times in {"": 1.0, " of zeros": 0.0}.items():
                attempt.gradients(f"carry{words}", {"the maps": times * maps}, *rest)
    return "by hand, other views, what neither side shows, and gradients to the maps"


def _views(
    batch: int, count: int, height: int, width: int, rows: int, columns: int, seed: int
) -> tuple[Tensor, ...]:
    """Maps, and another view of what they show; every fourth texel has no triangle."""
    _, seen, mirror = _half_seen(batch, count, seed + 40)
    seen = ((seen + uniform(batch, count, seed=seed + 5)) > 0.6).float()
    points = uniform(batch, count, 2, seed=seed + 1) * torch.tensor([width, height])
    order = uniform(batch, rows, columns, count, seed=seed + 2).argsort(-1)
    weights = uniform(batch, rows, columns, 3, seed=seed + 3) + 0.1
    weights = weights / weights.sum(-1, keepdim=True)
    covered = uniform(batch, rows, columns, 1, seed=seed + 4) > 0.25
    maps = normal(batch, 6, height, width, seed=seed)
    return maps, points, seen, order[..., :3], weights * covered, mirror
