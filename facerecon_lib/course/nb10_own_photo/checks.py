"""Checks of notebook 10: back onto the photo, another light, a caricature, one identity."""

import json
import math

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...face.camera import MODEL_TO_CAMERA, axis_angle_to_matrix
from ...face.lighting import ambient_lighting, sh_basis
from ...face.morphable_model import MorphableModel
from ...pictures.sheets import gallery
from ..checks import exercise_check
from ..compare import Wrong, normal, seeded, strided, uniform

DARKEST = 0.1


def onto_photo(
    turn=lambda r: torch.tensor(r["pose"]["rotation_matrix"]),
    scale=lambda r: r["pose"]["scale"],
    translation=lambda r: torch.tensor(r["pose"]["translation_mm"]),
    size=lambda r: r["crop"]["size"],
    half=lambda r: math.radians(r["camera"]["fov_deg"]) / 2,
    depth=lambda x, r: x[:, 2:],
    signs=(-1.0, -1.0),
    middle=lambda r: torch.tensor(r["camera"]["principal_point"]),
    back=lambda x, m: (x - m[:, 2]) @ torch.linalg.inv(m[:, :2]).T,
):
    """The way from mesh.ply to the photo; each step can be exchanged for a mistake."""

    def photo_pixels(points: Tensor, result: dict) -> Tensor:
        x = scale(result) * points @ turn(result).T + translation(result)
        focal = size(result) / 2 / math.tan(half(result))
        pixels = torch.tensor(signs) * focal * x[:, :2] / depth(x, result) + middle(result)
        return back(pixels, torch.tensor(result["crop"]["matrix"]))

    return photo_pixels


def _a_result(seed: int, zoom: float = 1.0) -> dict:
    """A result.json that no photo has: nothing in it is 1, square or in the middle.

    zoom: of the crop. It turns, and stretches, shears or mirrors the photo: any affine map may.
    """
    g = seeded(seed)

    def number(low: float, high: float, *shape: int):
        return (low + (high - low) * torch.rand(shape, generator=g)).tolist()

    rotation = number(-0.6, 0.6, 3)
    turned = MODEL_TO_CAMERA @ axis_angle_to_matrix(torch.tensor([rotation]))[0]
    across, down = number(0.7, 2.0), (-1) ** seed * number(0.3, 0.8)
    shear, turn = number(-0.5, 0.5), number(-0.3, 0.3)
    size = 2 * int(number(80, 150))
    return {
        "pose": {
            "rotation": rotation,
            "rotation_matrix": turned.tolist(),
            "translation_mm": [*number(-30, 30, 2), number(300, 500)],
            "scale": number(0.8, 1.2),
        },
        "camera": {
            "fov_deg": number(20, 50),
            "principal_point": number(size / 2 - 9, size / 2 + 9, 2),
        },
        "crop": {
            "matrix": [
                [zoom * across, zoom * shear, number(-90, 90)],
                [zoom * turn, zoom * down, number(-90, 90)],
            ],
            "size": size,
        },
    }


BY_HAND = {
    "pose": {
        "rotation": [0.3, -0.2, 0.1],
        "rotation_matrix": [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        "translation_mm": [0.0, 0.0, 500.0],
        "scale": 2.0,
    },
    "camera": {"fov_deg": 2 * math.degrees(math.atan(0.5)), "principal_point": [100.0, 100.0]},
    "crop": {"matrix": [[2.0, 0.0, 10.0], [0.0, 2.0, -20.0]], "size": 200},
}
"""A point's way: turned (10, 20, -50), posed (20, 40, 400), in the crop (90, 80)."""


@exercise_check(
    stand_in=onto_photo(),
    mistakes={
        "Those are pixels of the crop: crop.matrix takes the photo to the crop, and you want the "
        "way back.": onto_photo(back=lambda x, m: x),
        "crop.matrix is applied forwards there. It takes photo pixels to crop pixels; you have "
        "crop pixels.": onto_photo(back=lambda x, m: x @ m[:, :2].T + m[:, 2]),
        "The way back undoes the shift of crop.matrix first, then its 2 by 2 part.": onto_photo(
            back=lambda x, m: x @ torch.linalg.inv(m[:, :2]).T - m[:, 2]
        ),
        "The scale is missing: it comes before the rotation.": onto_photo(scale=lambda r: 1.0),
        "The rotation turns the other way: rotation_matrix @ v for one point is "
        "points @ rotation_matrix.T "
        "for many.": onto_photo(turn=lambda r: torch.tensor(r["pose"]["rotation_matrix"]).T),
        "pose.rotation is the axis-angle of the head in the viewer's axes. pose.rotation_matrix "
        "has the change to the camera's axes in it: take that.": onto_photo(
            turn=lambda r: axis_angle_to_matrix(torch.tensor(r["pose"]["rotation"])[None])[0]
        ),
        "Left and right are exchanged: the camera's x axis points to the left.": onto_photo(
            signs=(1.0, -1.0)
        ),
        "Up and down are exchanged: the camera's y axis points up, "
        "and pixels count down.": onto_photo(signs=(-1.0, 1.0)),
        "Both axes are exchanged: the camera's x points left and its y up; pixels count to the "
        "right and down.": onto_photo(signs=(1.0, 1.0)),
        "The angle of view is taken whole there; the tangent is of half of it.": onto_photo(
            half=lambda r: math.radians(r["camera"]["fov_deg"])
        ),
        "math.tan takes radians; fov_deg is in degrees.": onto_photo(
            half=lambda r: r["camera"]["fov_deg"] / 2
        ),
        "There is no perspective in it: each point is divided by its own depth.": onto_photo(
            depth=lambda x, r: r["pose"]["translation_mm"][2]
        ),
        "The principal point is missing: pixels count from the top left corner, not from the "
        "middle.": onto_photo(middle=lambda r: 0.0),
        "The translation is missing.": onto_photo(translation=lambda r: 0.0),
    },
    axes=("point", "x y"),
    rtol=1e-5,
    atol=0.01,
    points=3,
)
def photo_pixels(attempt):
    def case(words: str, seed: int, count: int, zoom: float = 1.0) -> None:
        # the student gets the file as a program would: read from text
        result = json.loads(json.dumps(_a_result(seed, zoom)))
        points = 60 * normal(count, 3, seed=seed + 50)
        attempt.case(f"photo_pixels of {count} points{words}", (points, result))

    with attempt.part("by hand"):
        result = json.loads(json.dumps(BY_HAND))
        points, pixels = torch.tensor([[10.0, -50.0, -20.0]]), torch.tensor([[40.0, 50.0]])
        attempt.case("photo_pixels of the point (10, -50, -20)", (points, result), expected=pixels)
    with attempt.part("any file"):
        for seed, count in ((1, 4), (2, 3), (3, 2), (4, 1), (5, 7)):
            case("", seed, count)
    with attempt.part("large and small photos"):
        case(" in a photo of 4,000 pixels", 6, 68, 0.06)
        case(" in a photo of 40 pixels", 7, 68, 6.0)
    with attempt.part("layouts"):
        points, result = 60 * normal(68, 3, seed=57), _a_result(7, 6.0)
        what = "photo_pixels of points that are not contiguous"
        attempt.case(what, (*strided(points), result))
        attempt.case("photo_pixels of other points", (points.flip(0) + 3, result))
    return "five files that no photo has, and each point is where it belongs"


def _shading(normals: Tensor, light: Tensor) -> Tensor:
    return torch.einsum("bhwk,bkc->bchw", sh_basis(normals.permute(0, 2, 3, 1)), light)


def relit(
    floor: float = DARKEST,
    clamp: bool = True,
    lights=lambda old, new: (old, new),
    change=lambda image, old, new: image * new / old,
    outside=lambda image, changed: image,
):
    """The quotient of two shadings, or with one thing done otherwise."""

    def relight(image, normals, mask, light, new_light):
        old, new = (_shading(normals, one) for one in lights(light, new_light))
        changed = change(image, old.clamp(min=floor), new)
        changed = changed.clamp(0, 1) if clamp else changed
        return torch.where(mask > 0, changed, outside(image, changed))

    return relight


def _two_pictures(got: Tensor, expected: Tensor) -> Figure:
    images = [image[0].clamp(0, 1).permute(1, 2, 0).numpy() for image in (expected, got)]
    return gallery(images, ["expected", "yours"])


@exercise_check(
    stand_in=relit(),
    mistakes={
        "The old light is divided by the new one there.": relit(lights=lambda old, new: (new, old)),
        "The photo's own light is still in it: divide it out.": relit(change=lambda i, o, n: i * n),
        "That is the albedo, the photo with its light divided out; the new light is "
        "missing.": relit(change=lambda image, old, new: image / old),
        "The background has changed: where the mask is 0 the photo stays as it is.": relit(
            outside=lambda image, changed: changed
        ),
        "Off the face the photo is lost: it stays where the mask is 0.": relit(
            outside=lambda image, changed: torch.zeros_like(image)
        ),
        "The old shading is not held at 0.1 where it is darker: in deep shadow the quotient "
        "explodes.": relit(floor=-math.inf),
        "Colours leave [0, 1]: clamp them.": relit(clamp=False),
        "Each colour channel has its own nine numbers; here all share one light.": relit(
            lights=lambda *both: (light.mean(-1, True).expand_as(light) for light in both)
        ),
        "The difference of the two shadings is added there; light multiplies.": relit(
            floor=-math.inf, change=lambda image, old, new: image + new - old
        ),
    },
    axes=("picture", "channel", "row", "column"),
    atol=1e-4,
    picture=_two_pictures,
    points=2,
)
def relight(attempt):
    def scene(seed: int, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        image = uniform(batch, 3, height, width, seed=seed)
        normals = F.normalize(normal(batch, 3, height, width, seed=seed), dim=1)
        mask = (uniform(batch, 1, height, width, seed=seed + 3) > 0.3).float()
        light, new_light = ambient_lighting(batch, 0.8) + 0.5 * normal(2, batch, 9, 3, seed=seed)
        return image, normals, mask, light, new_light

    image, normals, mask, light, new_light = scene(2, 3, 5, 5)
    zero, whole = torch.zeros_like(mask), torch.ones_like(mask)

    def cases(**trials: tuple) -> None:
        for words, inputs in trials.items():
            attempt.case(f"relight of three pictures {words.replace('_', ' ')}", inputs)

    with attempt.part("by hand"):
        skin = torch.tensor([0.8, 0.4, 0.2])[:, None, None].expand(1, 3, 1, 2)
        ahead = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(1, 3, 1, 2)
        face = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
        for words, old, new, level in (
            ("from ambient light of 0.8 to 0.4", 0.8, 0.4, 0.5),
            ("from ambient light of 0.05, taken as 0.1, to 0.02", 0.05, 0.02, 0.2),
        ):
            inputs = skin, ahead, face, ambient_lighting(1, old), ambient_lighting(1, new)
            expected = skin * torch.tensor([level, 1.0])
            attempt.case(
                f"relight of two pixels, one of a face, {words}", inputs, expected=expected
            )
    with attempt.part("pictures"):
        for seed, size in enumerate(((1, 4, 3), (2, 6, 9), (3, 5, 5))):
            what = f"relight of {size[0]} pictures of {size[1]} by {size[2]}"
            attempt.case(what, scene(seed, *size))
    with attempt.part("faces and masks"):
        cases(
            off_whose_faces_normals_are_0=(image, mask * normals, mask, light, new_light),
            with_another_mask=(image, normals, 1 - mask, light, new_light),
            with_other_normals=(image, normals.flip(0), mask, light, new_light),
            of_nothing_but_face=(image, normals, whole, light, new_light),
            without_a_face=(image, normals, zero, light, new_light),
            in_black_and_white=(image.round(), normals, mask, light, new_light),
        )
    with attempt.part("lights"):
        cases(
            under_other_lights=(image, normals, mask, new_light, light),
            when_the_light_goes_out=(image, normals, mask, light, 0 * new_light),
            when_there_was_none=(image, normals, mask, 0 * light, new_light),
            under_three_times_the_light=(image, normals, mask, light, 3 * new_light),
        )
        own = attempt.trial("relight by the light of the photo")(
            image, normals, whole, light, light
        )
        dark = _shading(normals, light) < DARKEST
        if not torch.allclose(own[~dark], image[~dark], atol=1e-4):
            raise Wrong("Under its own light a photo has to stay as it is, but where it is dark.")
    with attempt.part("layouts"):
        pixel = [x[..., :1, :1] for x in (image, normals, whole)]
        cases(
            of_one_pixel=(*pixel, light, new_light),
            not_contiguous=strided(image, normals, mask, light, new_light),
            in_float64=tuple(x.double() for x in (image, normals, mask, light, new_light)),
        )
    return "in three sizes, coloured light, shadow and all"


def exaggerate_stand_in(model, identity, expression, displacement, factor):
    return model.shape(factor * identity, expression) + displacement


@exercise_check(
    stand_in=exaggerate_stand_in,
    mistakes={
        "The expression is exaggerated too: only who it is is to grow, not how wide the mouth is "
        "open.": lambda m, i, e, d, f: m.shape(f * i, f * e) + d,
        "The displacement is exaggerated too; add it as it is.": lambda m, i, e, d, f: (
            m.shape(f * i, e) + f * d
        ),
        "The displacement is missing.": lambda m, i, e, d, f: m.shape(f * i, e),
        "The expression is missing.": lambda m, i, e, d, f: m.shape(f * i) + d,
        "That is factor times the whole face: larger, not more itself. What grows is the "
        "difference to the mean face.": lambda m, i, e, d, f: f * m.shape(i, e) + d,
        "That is factor times everything, displacement and all.": lambda m, i, e, d, f: (
            f * (m.shape(i, e) + d)
        ),
        "Everything but the mean has grown there, the expression and the displacement with "
        "it.": lambda m, i, e, d, f: m.mean + f * (m.shape(i, e) + d - m.mean),
        "The difference is added once too often: factor 1 has to leave the face as it "
        "is.": lambda m, i, e, d, f: m.shape((1 + f) * i, e) + d,
    },
    axes=("face", "vertex", "x, y, z"),
    atol=5e-4,
)
def exaggerate(attempt):
    model = MorphableModel.load(subdivision=0)
    identity, expression, _ = model.random(2, seeded(5))
    identity, displacement = identity.clamp(-3, 3), normal(2, len(model.mean), 3, seed=5)
    identity[:, :5] = 3.0
    plain = identity, expression, displacement

    def cases(**trials: tuple) -> None:
        for words, inputs in trials.items():
            attempt.case(f"exaggerate {words.replace('_', ' ')}", (model, *inputs))

    with attempt.part("by hand"):
        first = torch.zeros_like(identity[:1])
        first[:, 0] = 1.0
        smile, offset = expression[:1], displacement[:1]
        twice = model.mean + 2 * model.identity_basis[:1] + offset
        twice = twice + torch.einsum("bk,kvc->bvc", smile, model.expression_basis)
        inputs = model, first, smile, offset, 2.0
        attempt.case("exaggerate of the first mode by 2", inputs, expected=twice)
    with attempt.part("factors"):
        for batch, factor, seed in ((1, 2.0, 1), (3, 0.0, 2), (2, -1.0, 3), (2, 1.0, 4)):
            one, other, _ = model.random(batch, seeded(seed))
            other = other + 0.3 * normal(*other.shape, seed=seed)
            moved = normal(batch, len(model.mean), 3, seed=seed)
            inputs = model, one, other, moved, factor
            attempt.case(f"exaggerate of {batch} faces by {factor:g}", inputs)
    with attempt.part("far from the mean"):
        cases(
            of_three_standard_deviations_by_2_point_6=(*plain, 2.6),
            by_the_whole_number_3=(*plain, 3),
            by_100=(*plain, 100.0),
        )
    with attempt.part("edges and layouts"):
        cases(
            of_another_expression=(identity, expression.flip(1), displacement, 1.6),
            of_another_displacement=(identity, expression, displacement.flip(1), 1.6),
            without_expression_or_displacement=(identity, 0 * expression, 0 * displacement, 1.6),
            of_the_mean_face=(0 * identity, expression, displacement, 1.6),
            not_contiguous=(*strided(*plain), -0.5),
        )
    return "factor 0 is the mean face with this expression, and factor 1 is the face itself"


def gaussian_product(
    weigh=torch.linalg.inv,
    priors=lambda count: count - 1,
    average=lambda total, told: torch.linalg.solve(total, told),
    spread=torch.linalg.inv,
):
    """The product of Gaussians that share one prior; each step can be exchanged for a mistake."""

    def one_identity(means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
        weights = weigh(covariances)
        total = weights.sum(0) - priors(len(means)) * torch.eye(means.shape[1]).to(means)
        told = (weights @ means[..., None]).sum(0)
        return average(total, told)[:, 0], spread(total)

    return one_identity


product_of_gaussians = gaussian_product()


def variances_alone(covariances: Tensor) -> Tensor:
    """Precisions of independent numbers."""
    return torch.diag_embed(1 / covariances.diagonal(dim1=1, dim2=2))


@exercise_check(
    stand_in=product_of_gaussians,
    mistakes={
        "Each estimate has the prior in it already, so there it counts once per photo, and the "
        "person comes out too close to the mean face. It should count once.": gaussian_product(
            priors=lambda count: 0
        ),
        "The prior is taken out once per photo there, and so it is gone. It should count "
        "once.": gaussian_product(priors=lambda count: count),
        "That is the average of the estimates. One that is uncertain should count less.": (
            lambda m, c: (m.mean(0), c.mean(0)),
            lambda m, c: (m.mean(0), c.mean(0) / len(m)),
            lambda m, c: (m.mean(0), c.sum(0) / len(m) ** 2),
            lambda m, c: (m.mean(0), product_of_gaussians(m, c)[1]),
        ),
        "The covariances are the weights there, so what is uncertain counts most. Precisions, "
        "their inverses, are.": (
            gaussian_product(weigh=lambda c: c, priors=lambda count: 0),
            gaussian_product(weigh=lambda c: c, priors=lambda count: 0, spread=lambda total: total),
        ),
        "The second value is the precision; the covariance is its inverse.": gaussian_product(
            spread=lambda total: total
        ),
        "Only the variances count there. The numbers of an estimate depend on each other: invert "
        "the whole matrices.": gaussian_product(weigh=variances_alone),
        "The sum of precisions times means is not divided by the sum of "
        "precisions.": gaussian_product(average=lambda total, told: told),
        "Precisions add up; they are averaged there, as if many photos told no more than "
        "one.": gaussian_product(
            weigh=lambda c: torch.linalg.inv(c) / len(c), priors=lambda count: 0
        ),
    },
    axes=("number", "number"),
    atol=1e-4,
    rtol=1e-3,
    parts={"the mean": {}, "the covariance": {}},
    points=3,
    challenge=True,
)
def one_identity(attempt):
    def case(words: str, inputs: tuple, **options) -> None:
        attempt.case(f"one_identity of {words}", inputs, **options)

    with attempt.part("by hand"):
        expected = torch.tensor([8 / 3]), torch.tensor([[1 / 3]])
        two = torch.tensor([[1.0], [3.0]]), torch.tensor([[[0.5]], [[0.5]]])
        case("the estimates 1 and 3, both of variance 0.5", two, expected=expected)
        expected = torch.tensor([1.5]), torch.tensor([[0.4]])
        two = torch.tensor([[0.0], [1.5]]), torch.tensor([[[1.0]], [[0.4]]])
        case("a photo that tells nothing, 0 and 1, and another", two, expected=expected)
    with attempt.part("simulated photos"):
        for photos, numbers, seed in ((2, 3, 1), (5, 3, 2), (3, 80, 3), (8, 80, 4)):
            inputs, truth = _simulated(photos, numbers, seed)
            case(f"{photos} estimates of {numbers} numbers", inputs, expected=truth)
    with attempt.part("numbers of photos"):
        (means, covariances), _ = _simulated(12, 6, 5)
        case("one photo", (means[:1], covariances[:1]))
        case("twelve photos", (means, covariances))
        case("twelve photos in another order", (means.flip(0), covariances.flip(0)))
        case("the same photo twice", (means[[0, 0]], covariances[[0, 0]]))
    with attempt.part("edges and layouts"):
        (means, covariances), _ = _simulated(4, 6, 6)
        nothing = torch.eye(6).expand(4, 6, 6)
        case("photos that tell nothing", (0 * means, nothing))
        case("very certain photos", (means, 1e-3 * covariances))
        case("six standard deviations", (6 + means, covariances))
        case("other estimates", (1 - means, covariances.flip(0)))
        case("estimates in float64", (means.double(), covariances.double()))
        case("estimates that are not contiguous", strided(means, covariances))
    return "the prior counted once, and what is certain counted most"


def _simulated(photos: int, numbers: int, seed: int) -> tuple[tuple, tuple]:
    """Estimates of one truth from each of several linear measurements, and from all together."""
    seen = normal(photos, max(numbers // 2, 1), numbers, seed=seed, dtype=torch.float64)
    truth = normal(numbers, 1, seed=seed + 50, dtype=torch.float64)
    measured = seen @ truth + normal(*seen.shape[:2], 1, seed=seed + 70, dtype=torch.float64)

    def solve(slopes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        precision = slopes.mT @ slopes + torch.eye(numbers).double()
        mean = torch.linalg.solve(precision, slopes.mT @ values)[..., 0]
        return mean.float(), torch.linalg.inv(precision).float()

    return solve(seen, measured), solve(seen.flatten(0, 1), measured.flatten(0, 1))
