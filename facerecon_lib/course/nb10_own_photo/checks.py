"""Checks of notebook 10: from a file back onto the photo, another light, a caricature."""

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
)
def photo_pixels(attempt):
    for seed, count, zoom in (
        (1, 4, 1.0),
        (2, 3, 1.0),
        (3, 2, 1.0),
        (4, 1, 1.0),
        (5, 7, 1.0),
        (6, 68, 0.06),  # a photo of 4,000 pixels
        (7, 68, 6.0),  # one of 40
    ):
        # the student gets the file as a program would: read from text
        result = json.loads(json.dumps(_a_result(seed, zoom)))
        points = 60 * normal(count, 3, seed=seed + 50)
        attempt.case(f"photo_pixels of {count} points", (points, result))
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
)
def relight(attempt):
    for seed, (batch, height, width) in enumerate(((1, 4, 3), (2, 6, 9), (3, 5, 5))):
        image = uniform(batch, 3, height, width, seed=seed)
        normals = F.normalize(normal(batch, 3, height, width, seed=seed), dim=1)
        mask = (uniform(batch, 1, height, width, seed=seed + 3) > 0.3).float()
        light, new_light = ambient_lighting(batch, 0.8) + 0.5 * normal(2, batch, 9, 3, seed=seed)
        what = f"relight of {batch} pictures of {height} by {width}"
        attempt.case(what, (image, normals, mask, light, new_light))
    zero, whole = torch.zeros_like(mask), torch.ones_like(mask)
    for words, *inputs in (
        ("off whose faces normals are 0", image, mask * normals, mask, light, new_light),
        ("with another mask", image, normals, 1 - mask, light, new_light),
        ("with other normals", image, normals.flip(0), mask, light, new_light),
        ("under other lights", image, normals, mask, new_light, light),
        ("of nothing but face", image, normals, whole, light, new_light),
        ("without a face", image, normals, zero, light, new_light),
        ("in black and white", image.round(), normals, mask, light, new_light),
        ("when the light goes out", image, normals, mask, light, 0 * new_light),
        ("when there was none", image, normals, mask, 0 * light, new_light),
        ("under three times the light", image, normals, mask, light, 3 * new_light),
        ("of one pixel", *(x[..., :1, :1] for x in (image, normals, whole)), light, new_light),
        ("not contiguous", *strided(image, normals, mask, light, new_light)),
        ("in float64", *(x.double() for x in (image, normals, mask, light, new_light))),
    ):
        attempt.case(f"relight of three pictures {words}", tuple(inputs))
    same = attempt.trial("relight by the light of the photo")(image, normals, whole, light, light)
    dark = _shading(normals, light) < DARKEST
    if not torch.allclose(same[~dark], image[~dark], atol=1e-4):
        raise Wrong("Under its own light a photo has to stay as it is, where that is not darkness.")
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
    for batch, factor, seed in ((1, 2.0, 1), (3, 0.0, 2), (2, -1.0, 3), (2, 1.0, 4), (2, 1.6, 5)):
        identity, expression, _ = model.random(batch, seeded(seed))
        expression = expression + 0.3 * normal(*expression.shape, seed=seed)
        displacement = normal(batch, len(model.mean), 3, seed=seed)
        inputs = (model, identity, expression, displacement, factor)
        attempt.case(f"exaggerate of {batch} faces by {factor:g}", inputs)
    one, other, moved = identity.clone().clamp(-3, 3), expression.flip(1), displacement.flip(1)
    one[:, :5] = 3.0
    for words, *inputs in (
        ("of three standard deviations by 2.6", one, expression, displacement, 2.6),
        ("by the whole number 3", one, expression, displacement, 3),
        ("by 100", one, expression, displacement, 100.0),
        ("of another expression", one, other, displacement, 1.6),
        ("of another displacement", one, expression, moved, 1.6),
        ("without expression or displacement", one, 0 * expression, 0 * displacement, 1.6),
        ("of the mean face", 0 * one, expression, displacement, 1.6),
        ("not contiguous", *strided(one, expression, displacement), -0.5),
    ):
        attempt.case(f"exaggerate {words}", (model, *inputs))
    return "factor 0 is the mean face with this expression, and factor 1 is the face itself"
