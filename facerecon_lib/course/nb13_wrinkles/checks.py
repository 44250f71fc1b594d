"""Checks of notebook 13: normals from depth, Eq. 3's residual, two bands, heights from slopes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...beyond import depth_maps, shading_depth
from ...beyond.depth_maps import pixel_rays
from ...face.camera import DEFAULT_FOV
from ...face.lighting import sh_basis
from ..checks import exercise_check
from ..compare import normal, strided, uniform

VIEWER = (-1.0, 1.0, -1.0)  # camera axes to viewer axes


def neighbours(points: Tensor, mask: Tensor, axis: int) -> Tensor:
    """Mean difference to the neighbours of the mask."""
    ahead, inside = points.roll(-1, axis), mask.roll(-1, axis) * mask
    inside = inside.index_fill(axis, torch.tensor([mask.shape[axis] - 1]), 0)
    step = (ahead - points) * inside
    count = inside + inside.roll(1, axis)
    return (step + step.roll(1, axis)) / count.clamp(min=1)


def normals(
    rays=lambda depth, fov: pixel_rays(depth.shape[-1], fov, like=depth),
    tangent=neighbours,
    axes=VIEWER,
    end=lambda n, mask: F.normalize(n, dim=1, eps=1e-9) * mask,
):
    """As `depth_maps.normals_from_depth`; each part can be exchanged for a mistake."""

    def normals_from_depth(depth, mask, fov_deg=DEFAULT_FOV):
        points = depth * rays(depth, fov_deg)
        across, down = tangent(points, mask, 3), tangent(points, mask, 2)
        n = torch.linalg.cross(down, across, dim=1) * points.new_tensor(axes)[:, None, None]
        return end(n, mask)

    return normals_from_depth


def forward(points: Tensor, mask: Tensor, axis: int) -> Tensor:
    step = (points.roll(-1, axis) - points) * mask.roll(-1, axis) * mask
    return step.index_fill(axis, torch.tensor([points.shape[axis] - 1]), 0)


def through(points: Tensor, mask: Tensor, axis: int) -> Tensor:
    """Differences that do not ask the mask."""
    return neighbours(points, torch.ones_like(mask), axis)


def both_or_none(points: Tensor, mask: Tensor, axis: int) -> Tensor:
    ahead = (points.roll(-1, axis) - points.roll(1, axis)) / 2
    inside = mask * mask.roll(-1, axis) * mask.roll(1, axis)
    return ahead * inside.index_fill(axis, torch.tensor([0, points.shape[axis] - 1]), 0)


def surface(batch: int, size: int, seed: int, bumps: float = 0.5) -> tuple[Tensor, Tensor]:
    """A wavy depth map, about 300 mm off, and a mask with a ragged border and holes."""
    depth = 300 + bumps * normal(batch, 1, size, size, seed=seed)
    return depth, (uniform(batch, 1, size, size, seed=seed + 1) > 0.2).float()


def disc(size: int, radius: float = 0.8) -> Tensor:
    steps = torch.linspace(-1, 1, size)
    return (steps[:, None].square() + steps.square() < radius**2).float()[None, None]


@exercise_check(
    stand_in=depth_maps.normals_from_depth,
    points=3,
    mistakes={
        "The normals point away from the viewer; down × across points to him.": normals(
            axes=(1.0, -1.0, 1.0)
        ),
        "Those are normals in the camera's axes; the viewer's have x and z negated.": normals(
            axes=(1.0, 1.0, 1.0)
        ),
        "Those normals are not of length 1.": normals(end=lambda n, mask: n * mask),
        "At the border the difference goes to one neighbour alone; there is a normal where a row "
        "and a column have one neighbour each in the mask.": normals(tangent=both_or_none),
        "Depth beyond the mask is no surface: no difference may use it.": normals(tangent=through),
        "That is the step to the next pixel alone; take the mean of the steps from and to both "
        "neighbours, where both are there.": normals(tangent=forward),
    },
    atol=1e-4,
)
def normals_from_depth(attempt):
    ones = torch.ones(1, 1, 8, 8)
    with attempt.part("by hand"):
        # a plane that faces the viewer
        facing = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
        what = "normals_from_depth of a plane 300 mm off"
        attempt.case(what, (300 * ones, ones), expected=facing)
        # z = 300 + x on every ray: x = z s gives z = 300 / (1 - s)
        slope = pixel_rays(8, like=ones)[:1][None]
        turned = torch.tensor([-(0.5**0.5), 0.0, 0.5**0.5]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
        hint = "Its depth grows by 1 mm per mm to the camera's left, which is the viewer's left."
        attempt.case(
            "normals_from_depth of a plane that is turned by 45 degrees",
            (300 / (1 - slope), ones),
            hint,
            expected=turned,
        )
    with attempt.part("waves and masks"):
        for batch, size, seed in ((2, 6, 1), (1, 9, 2), (3, 12, 3)):
            depth, mask = surface(batch, size, seed)
            what = f"normals_from_depth of {batch} wavy maps of {size} pixels with holes"
            attempt.case(what, (depth, mask))
        depth = 350 + 30 * disc(48).cumsum(3) / 48 + 0.2 * normal(1, 1, 48, 48, seed=7)
        attempt.case("normals_from_depth of a disc of 48 pixels", (depth, disc(48)))
        far = 1e4 * (1 - disc(24)) + 300 * disc(24)
        attempt.case("normals_from_depth with a wall far behind the mask", (far, disc(24)))
    with attempt.part("edges, layouts and dtypes"):
        depth, mask = surface(2, 7, 5)
        attempt.case("normals_from_depth with 60 degrees", (depth, mask, 60.0))
        attempt.case("normals_from_depth of nothing", (depth, 0 * mask))
        single = torch.zeros(1, 1, 7, 7)
        single[..., 3, 2:5] = 1
        attempt.case("normals_from_depth of three pixels in a row", (depth[:1], single))
        attempt.case("normals_from_depth, not contiguous", strided(depth, mask))
        attempt.case("normals_from_depth in float64", (depth.double(), mask.double()))
    with attempt.part("gradients"):
        depth, mask = surface(2, 7, 8, bumps=0.1)
        attempt.gradients("normals_from_depth", {"depth": depth}, mask)
        flat, whole = torch.full((1, 1, 6, 6), 300.0), torch.ones(1, 1, 6, 6)
        attempt.gradients("normals_from_depth of a plane", {"depth": flat}, whole)
        attempt.gradients("normals_from_depth of a disc", {"depth": flat}, disc(6))
    return "planes, waves with holes, the border of a mask, and gradients to the depth"


def residual(
    light=lambda n, g: torch.einsum("bhwk,bkc->bchw", sh_basis(n.permute(0, 2, 3, 1)), g),
    cost=lambda error: error.square().mean(1, keepdim=True),
    mean=lambda cost, mask: (cost * mask).sum() / mask.sum().clamp(min=1),
    albedo_of=lambda albedo: albedo,
):
    """Eq. 3's residual; each part can be exchanged for a mistake."""

    def shading_loss(depth, mask, photo, albedo, lighting):
        n = depth_maps.normals_from_depth(depth, mask)
        return mean(cost(albedo_of(albedo) * light(n, lighting) - photo), mask)

    return shading_loss


def scene(batch: int, size: int, seed: int, bumps=0.3, mask=None) -> tuple[Tensor, ...]:
    depth, holes = surface(batch, size, seed, bumps)
    photo, albedo = (uniform(batch, 3, size, size, seed=seed + k) for k in (3, 4))
    lighting = 0.2 * normal(batch, 9, 3, seed=seed + 5)
    lighting[:, 0] += 2.5
    return depth, holes if mask is None else mask.expand(batch, -1, -1, -1), photo, albedo, lighting


@exercise_check(
    stand_in=residual(),
    points=2,
    mistakes={
        "That is the light alone; Eq. 3 multiplies it by the albedo.": residual(
            albedo_of=torch.ones_like
        ),
        "That averages over all pixels; divide by the number of those in the mask.": residual(
            mean=lambda c, m: (c * m).mean()
        ),
        "That counts pixels beyond the mask too.": residual(mean=lambda c, m: c.mean()),
        "Those are absolute differences; squares are asked for.": residual(
            lambda n, g: torch.einsum("bhwk,bkc->bchw", sh_basis(n.permute(0, 2, 3, 1)), g),
            lambda e: e.abs().mean(1, keepdim=True),
        ),
        "That adds up the three colours; their mean is asked for.": residual(
            cost=lambda e: e.square().sum(1, keepdim=True)
        ),
        "That is the sum over the pixels; their mean is asked for.": residual(
            mean=lambda c, m: (c * m).sum()
        ),
        "The light is averaged over the colours there; each colour has its own nine "
        "numbers.": residual(
            lambda n, g: torch.einsum(
                "bhwk,bkc->bchw",
                sh_basis(n.permute(0, 2, 3, 1)),
                g.mean(2, keepdim=True).expand_as(g),
            )
        ),
    },
)
def shading_loss(attempt):
    with attempt.part("by hand"):
        # ambient light of level 1 on albedo 0.5: every pixel is 0.5, wherever its normal points
        depth, mask = torch.full((1, 1, 4, 4), 300.0), torch.ones(1, 1, 4, 4)
        mask[..., 0] = 0
        ambient = torch.zeros(1, 9, 3)
        ambient[:, 0] = 3.5449077
        skin = torch.full((1, 3, 4, 4), 0.5)
        photo = skin.clone()
        photo[:, 0] += 0.3
        hint = "Red is 0.3 off, green and blue are right: 0.09 / 3."
        inputs = depth, mask, photo, skin, ambient
        what = "shading_loss of a photo that is too red"
        attempt.case(what, inputs, hint, expected=torch.tensor(0.03))
    with attempt.part("batches and masks"):
        for batch, size, seed in ((1, 6, 1), (3, 8, 2), (2, 16, 3)):
            what = f"shading_loss of {batch} scenes of {size} pixels"
            attempt.case(what, scene(batch, size, seed))
        attempt.case("shading_loss in a disc", scene(2, 24, 4, mask=disc(24)))
        depth, mask, *rest = scene(2, 8, 5)
        mask[0] = 0
        attempt.case("shading_loss, one mask empty", (depth, mask, *rest))
        attempt.case("shading_loss, both masks empty", (depth, 0 * mask, *rest))
    with attempt.part("layouts and dtypes"):
        inputs = scene(2, 8, 6)
        attempt.case("shading_loss, not contiguous", tuple(strided(*inputs)))
        double = tuple(x.double() for x in inputs)
        attempt.case("shading_loss in float64", double, rtol=1e-8)
    with attempt.part("gradients"):
        depth, mask, *rest = scene(2, 8, 7, bumps=0.05)
        attempt.gradients("shading_loss", {"depth": depth}, mask, *rest)
        flat = torch.full((1, 1, 8, 8), 300.0)
        depth, mask, *rest = scene(1, 8, 8, mask=disc(8))
        attempt.gradients("shading_loss of a plane", {"depth": flat}, mask, *rest)
    return "by hand, with masks, and with its gradient to the depth"


def bands(
    mean=lambda p, m, s: (
        shading_depth.smooth(p * m, s) / shading_depth.smooth(m, s).clamp(min=1e-6)
    ),
    low_end=lambda low, m, s: low * (shading_depth.smooth(m, s) > 1e-6),
    high=lambda p, low, m: (p - low) * (m > 0),
    order=lambda low, high: (low, high),
):
    """As `shading_depth.split_bands`; each part can be exchanged for a mistake."""

    def split_bands(picture, mask, sigma):
        low = mean(picture, mask, sigma)
        return order(low_end(low, mask, sigma), high(picture, low, mask))

    return split_bands


@exercise_check(
    stand_in=shading_depth.split_bands,
    points=2,
    mistakes={
        "What lies beyond the mask leaks in: blur the picture times the mask.": bands(
            lambda p, m, s: shading_depth.smooth(p, s) / shading_depth.smooth(torch.ones_like(m), s)
        ),
        "Near the border the low band fades to 0: divide by the blurred mask.": bands(
            lambda p, m, s: shading_depth.smooth(p * m, s)
        ),
        "The high band is 0 where the mask is.": bands(high=lambda p, low, m: p - low),
        "The low band is asked for first, then the high one.": bands(
            order=lambda low, high: (high, low)
        ),
        "That is half the sigma.": bands(
            lambda p, m, s: (
                shading_depth.smooth(p * m, s / 2) / shading_depth.smooth(m, s / 2).clamp(min=1e-6)
            )
        ),
        "The high band is what is left of the picture: picture - low.": bands(
            high=lambda p, low, m: (low - p) * (m > 0)
        ),
        "Where the mask has nothing near, the low band is 0, and not a number near 0 / 0.": bands(
            lambda p, m, s: shading_depth.smooth(p * m, s) / shading_depth.smooth(m, s),
            low_end=lambda low, m, s: low,
        ),
    },
)
def split_bands(attempt):
    mask = torch.ones(1, 1, 12, 16)
    with attempt.part("by hand"):
        half = mask.clone()
        half[..., 8:] = 0
        flat = torch.full((1, 3, 12, 16), 0.4)
        flat[..., 8:] = 9.0
        reach = (shading_depth.smooth(half, 2.0) > 1e-6).float()
        what = "split_bands of skin of 0.4 beside a bright wall beyond the mask"
        hint = "Within the mask nothing changes: the low band is 0.4 and the high one 0."
        attempt.case(what, (flat, half, 2.0), hint, expected=(0.4 * reach + 0 * flat, 0 * flat))
    with attempt.part("pictures and masks"):
        for batch, channels, size, sigma, seed in ((1, 1, 12, 1.0, 1), (2, 3, 16, 3.0, 2)):
            picture = normal(batch, channels, size, size + 4, seed=seed)
            holes = (uniform(batch, 1, size, size + 4, seed=seed + 1) > 0.3).float()
            what = f"split_bands of {batch} pictures with holes, sigma {sigma:g}"
            attempt.case(what, (picture, holes, sigma))
        picture, soft = normal(2, 3, 20, 20, seed=4), uniform(2, 1, 20, 20, seed=5)
        attempt.case("split_bands with a soft mask", (picture, soft, 2.0))
        attempt.case("split_bands of a disc, far from it", (picture, disc(20, 0.3), 1.0))
        attempt.case("split_bands with an empty mask", (picture, 0 * soft, 2.0))
    with attempt.part("layouts and dtypes"):
        picture, soft = normal(2, 3, 10, 10, seed=6), uniform(2, 1, 10, 10, seed=7)
        attempt.case("split_bands, not contiguous", (*strided(picture, soft), 2.0))
        attempt.case("split_bands of 255 grey levels", (255 * picture, soft, 2.0), atol=1e-3)
        attempt.case("split_bands in float64", (picture.double(), soft.double(), 1.5), rtol=1e-8)
    return "beside a bright wall, with holes, soft and empty masks"


def heights(
    weigh=lambda w: w, wanted_of=lambda t: t, stiff_of=lambda s: s, near_of=lambda n: n, both=1.0
):
    """As `shading_depth.solve_heights`; each part can be exchanged for a mistake."""
    return lambda across, down, wanted, weight, stiff, near, rounds=60: shading_depth.solve_heights(
        *(across, both * down, wanted_of(wanted), weigh(weight)),
        *(stiff_of(stiff), near_of(near), rounds),
    )


def no_momentum(across, down, wanted, weight, stiff, near, rounds=60):
    """Steepest descent for a few rounds."""
    return shading_depth.solve_heights(across, down, wanted, weight, stiff, near, 2)


def slopes_scene(batch: int, size: int, seed: int) -> tuple[Tensor, ...]:
    across, down, wanted = (normal(batch, 1, size, size, seed=seed + k) for k in range(3))
    return across, down, wanted, uniform(batch, 1, size, size, seed=seed + 3)


@exercise_check(
    stand_in=shading_depth.solve_heights,
    points=3,
    challenge=True,
    mistakes={
        "Each pixel's error counts by its weight.": heights(weigh=torch.ones_like),
        "The weight stands once in the cost, so once in its gradient, not squared.": heights(
            weigh=torch.square
        ),
        "That is the height with its sign turned.": heights(wanted_of=torch.neg),
        "The cost of the steps, `stiff`, is missing.": heights(stiff_of=lambda s: 0 * s),
        "The cost of the height itself, `near`, is missing.": heights(near_of=lambda n: 1e-9),
        "The columns are missing: steps down count as steps across do.": heights(both=0.0),
        "Those are too few rounds, or steps without the memory of conjugate "
        "gradients.": no_momentum,
        "The height is twice or half of what it should be: the factor 2 of a square's gradient "
        "stands on both sides.": (
            heights(wanted_of=lambda t: 2 * t),
            heights(wanted_of=lambda t: t / 2),
        ),
    },
    atol=2e-3,
    rtol=2e-3,
)
def solve_heights(attempt):
    with attempt.part("by hand"):
        # Two pixels: 1 (dx - 1)² + 0.5 dx² + 0.1 (h0² + h1²): h1 = -h0 = 1 / (2 · 1.5 + 0.1)
        wanted = torch.tensor([[[[1.0, 7.0]]]])
        one, none = torch.ones_like(wanted), torch.zeros_like(wanted)
        hint = "The last pixel of a row has no next one: its step is 0, whatever is wanted there."
        expected = torch.tensor([[[[-1.0, 1.0]]]]) / 3.1
        what = "solve_heights of two pixels"
        attempt.case(what, (one, none, wanted, one, 0.5, 0.1, 20), hint, expected=expected)
    with attempt.part("pictures"):
        for batch, size, seed in ((1, 4, 1), (3, 6, 2), (2, 9, 3)):
            what = f"solve_heights of {batch} pictures of {size} pixels"
            attempt.case(what, (*slopes_scene(batch, size, seed), 0.4, 0.05, 200))
        across, down, wanted, weight = slopes_scene(2, 8, 4)
        what = "solve_heights, one picture a thousand times as strong as the other"
        strong = torch.tensor([1.0, 1e3]).view(2, 1, 1, 1)
        attempt.case(what, (across, down, strong * wanted, weight, 0.3, 0.02, 300))
    with attempt.part("edges, layouts and dtypes"):
        across, down, wanted, weight = slopes_scene(2, 6, 5)
        attempt.case("solve_heights, stiff", (across, down, wanted, weight, 5.0, 0.5, 200))
        attempt.case(
            "solve_heights, weights of 0", (across, down, wanted, 0 * weight, 0.3, 0.1, 20)
        )
        attempt.case(
            "solve_heights, nothing wanted", (across, down, 0 * wanted, weight, 0.3, 0.1, 20)
        )
        layout = strided(across, down, wanted, weight)
        attempt.case("solve_heights, not contiguous", (*layout, 0.3, 0.1, 200))
        double = (x.double() for x in (across, down, wanted, weight))
        attempt.case("solve_heights in float64", (*double, 0.3, 0.1, 200))
    return "two pixels, pictures of their own strength, and weights of 0"
