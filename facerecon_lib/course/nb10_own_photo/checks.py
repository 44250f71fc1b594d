"""Checks of notebook 10: from a file back onto the photo, another light, a caricature."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...face.camera import MODEL_TO_CAMERA, axis_angle_to_matrix
from ...face.lighting import ambient_lighting, sh_basis
from ...face.morphable_model import MorphableModel
from ..checks import exercise_check
from ..compare import Wrong, close

DARKEST = 0.1


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Back onto the photo, from the file alone -------------------------------------------------------


def photo_pixels_stand_in(points, result):
    """As the docstring of `results_files` says."""
    return _project(points, result)


def _project(
    points: Tensor,
    result: dict,
    scale: Callable = lambda s: s,
    turn: Callable = lambda r, pose: r.T,
    half: Callable = lambda degrees: math.radians(degrees) / 2,
    sign: tuple[float, float] = (-1.0, -1.0),
    perspective: bool = True,
    middle: bool = True,
    move: bool = True,
    back: Callable | None = None,
) -> Tensor:
    """The way from mesh.ply to the photo; each step can be exchanged for a mistake."""
    pose, camera, crop = result["pose"], result["camera"], result["crop"]
    rotation = torch.tensor(pose["rotation_matrix"])
    x = scale(pose["scale"]) * points @ turn(rotation, pose)
    if move:
        x = x + torch.tensor(pose["translation_mm"])
    focal = crop["size"] / 2 / math.tan(half(camera["fov_deg"]))
    depth = x[:, 2:] if perspective else torch.tensor(pose["translation_mm"][2])
    pixels = torch.tensor(sign) * focal * x[:, :2] / depth
    if middle:
        pixels = pixels + torch.tensor(camera["principal_point"])
    matrix = torch.tensor(crop["matrix"])
    if back is not None:
        return back(pixels, matrix)
    return (pixels - matrix[:, 2]) @ torch.linalg.inv(matrix[:, :2]).T


_PIXEL_MISTAKES: dict[str, Callable[[Tensor, dict], Tensor]] = {
    "Those are pixels of the crop: crop.matrix takes the photo to the crop, and you want the way "
    "back.": lambda p, r: _project(p, r, back=lambda x, m: x),
    "crop.matrix is applied forwards there. It takes photo pixels to crop pixels; you have crop "
    "pixels.": lambda p, r: _project(p, r, back=lambda x, m: x @ m[:, :2].T + m[:, 2]),
    "The way back undoes the shift of crop.matrix first, then its 2 by 2 part.": lambda p, r: (
        _project(p, r, back=lambda x, m: x @ torch.linalg.inv(m[:, :2]).T - m[:, 2])
    ),
    "The scale is missing: it comes before the rotation.": lambda p, r: _project(
        p, r, scale=lambda s: 1.0
    ),
    "The rotation turns the other way: rotation_matrix @ v for one point is points @ "
    "rotation_matrix.T for many.": lambda p, r: _project(p, r, turn=lambda m, pose: m),
    "pose.rotation is the axis-angle of the head in the viewer's axes. pose.rotation_matrix has "
    "the change to the camera's axes in it: take that.": lambda p, r: _project(
        p,
        r,
        turn=lambda m, pose: axis_angle_to_matrix(torch.tensor(pose["rotation"])[None])[0].T,
    ),
    "Left and right are exchanged: the camera's x axis points to the left.": lambda p, r: _project(
        p, r, sign=(1.0, -1.0)
    ),
    "Up and down are exchanged: the camera's y axis points up, and pixels count down.": (
        lambda p, r: _project(p, r, sign=(-1.0, 1.0))
    ),
    "Both axes are exchanged: the camera's x points left and its y up; pixels count to the right "
    "and down.": lambda p, r: _project(p, r, sign=(1.0, 1.0)),
    "The angle of view is taken whole there; the tangent is of half of it.": lambda p, r: _project(
        p, r, half=math.radians
    ),
    "math.tan takes radians; fov_deg is in degrees.": lambda p, r: _project(
        p, r, half=lambda degrees: degrees / 2
    ),
    "There is no perspective in it: each point is divided by its own depth.": lambda p, r: _project(
        p, r, perspective=False
    ),
    "The principal point is missing: pixels count from the top left corner, not from the middle.": (
        lambda p, r: _project(p, r, middle=False)
    ),
    "The translation is missing.": lambda p, r: _project(p, r, move=False),
}


def _a_result(seed: int) -> dict:
    """A result.json that no photo has: nothing in it is 1, square or in the middle."""
    g = _generator(seed)

    def number(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=g)

    rotation = number(-0.6, 0.6, 3)
    turned = MODEL_TO_CAMERA @ axis_angle_to_matrix(rotation[None])[0]
    angle = float(number(-0.3, 0.3))  # a crop that is turned as well: any affine map is allowed
    zoom = float(number(0.3, 2.0))
    matrix = [
        [zoom * math.cos(angle), -zoom * math.sin(angle), float(number(-90, 90))],
        [zoom * math.sin(angle), zoom * math.cos(angle), float(number(-90, 90))],
    ]
    size = 2 * int(number(80, 150))
    return {
        "pose": {
            "rotation": rotation.tolist(),
            "rotation_matrix": turned.tolist(),
            "translation_mm": [*number(-30, 30, 2).tolist(), float(number(300, 500))],
            "scale": float(number(0.8, 1.2)),
        },
        "camera": {
            "fov_deg": float(number(20, 50)),
            "principal_point": (size / 2 + number(-9, 9, 2)).tolist(),
        },
        "crop": {"matrix": matrix, "size": size},
    }


@exercise_check(stand_in=photo_pixels_stand_in)
def photo_pixels(attempt):
    for seed, count in ((1, 4), (2, 3), (3, 2), (4, 1), (5, 7)):
        result = _a_result(seed)
        points = 60 * torch.randn(count, 3, generator=_generator(seed + 50))
        expected = _project(points, result)
        # the student gets the file as a program would: read from text
        got = attempt(points, json.loads(json.dumps(result)))
        hint = _said_of(got, expected, {w: f(points, result) for w, f in _PIXEL_MISTAKES.items()})
        what = f"photo_pixels of {count} points"
        close(what, got, expected, axes=("point", "x y"), rtol=1e-3, atol=0.02, hint=hint)
    return "five files that no photo has, and each point is where it belongs"


def _said_of(got: object, expected: Tensor, mistakes: dict[str, Tensor]) -> str | None:
    """The words for the mistake that explains all of the answer, if one does."""
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return None
    for words, other in mistakes.items():
        tells = not torch.allclose(other, expected, rtol=1e-3, atol=1e-3)
        if tells and torch.allclose(got.detach().to(other), other, rtol=1e-3, atol=1e-3):
            return words
    return None


# Another light ----------------------------------------------------------------------------------


def relight_stand_in(image, normals, mask, light, new_light):
    """The quotient of two shadings."""
    return _relight(image, normals, mask, light, new_light)


def _shading(normals: Tensor, light: Tensor) -> Tensor:
    return torch.einsum("bhwk,bkc->bchw", sh_basis(normals.permute(0, 2, 3, 1)), light)


def _relight(image, normals, mask, light, new_light, floor: bool = True, clamp: bool = True):
    old, new = _shading(normals, light), _shading(normals, new_light)
    ratio = new / (old.clamp(min=DARKEST) if floor else old)
    changed = image * ratio
    if clamp:
        changed = changed.clamp(0, 1)
    return torch.where(mask > 0, changed, image)


def _light_mistakes(image, normals, mask, light, new_light) -> dict[str, Tensor]:
    old, new = _shading(normals, light), _shading(normals, new_light)
    whole = torch.ones_like(mask)
    grey = [v.mean(-1, keepdim=True).expand(-1, -1, 3) for v in (light, new_light)]
    return {
        "The old light is divided by the new one there.": _relight(
            image, normals, mask, new_light, light
        ),
        "The photo's own light is still in it: divide it out.": torch.where(
            mask > 0, (image * new).clamp(0, 1), image
        ),
        "That is the albedo, the photo with its light divided out; the new light is missing.": (
            torch.where(mask > 0, (image / old.clamp(min=DARKEST)).clamp(0, 1), image)
        ),
        "The background has changed: where the mask is 0 the photo stays as it is.": _relight(
            image, normals, whole, light, new_light
        ),
        "Off the face the photo is lost: it stays where the mask is 0.": mask
        * _relight(image, normals, mask, light, new_light),
        "The old shading is not held at 0.1 where it is darker: in deep shadow the quotient "
        "explodes.": _relight(image, normals, mask, light, new_light, floor=False),
        "Colours leave [0, 1]: clamp them.": _relight(
            image, normals, mask, light, new_light, clamp=False
        ),
        "Each colour channel has its own nine numbers; here all share one light.": _relight(
            image, normals, mask, *grey
        ),
        "The difference of the two shadings is added there; light multiplies.": torch.where(
            mask > 0, (image + new - old).clamp(0, 1), image
        ),
    }


@exercise_check(stand_in=relight_stand_in)
def relight(attempt):
    for seed, (batch, height, width) in enumerate(((1, 4, 3), (2, 6, 9), (3, 5, 5))):
        g = _generator(seed)
        image = torch.rand(batch, 3, height, width, generator=g)
        normals = F.normalize(torch.randn(batch, 3, height, width, generator=g), dim=1)
        mask = (torch.rand(batch, 1, height, width, generator=g) > 0.3).float()
        wide = 0.5 * torch.randn(2, batch, 9, 3, generator=g)
        light, new_light = ambient_lighting(batch, 0.8) + wide
        arguments = (image, normals, mask, light, new_light)
        expected = _relight(*arguments)
        got = attempt(*arguments)
        hint = _said_of(got, expected, _light_mistakes(*arguments))
        what = f"relight of {batch} pictures of {height} by {width}"
        axes = ("picture", "channel", "row", "column")
        close(what, got, expected, axes=axes, atol=1e-4, hint=hint, picture=_two_pictures)
    same = attempt(image, normals, torch.ones_like(mask), light, light)
    dark = _shading(normals, light) < DARKEST
    if not torch.allclose(same[~dark], image[~dark], atol=1e-4):
        raise Wrong("Under its own light a photo has to stay as it is, where that is not darkness.")
    return "in three sizes, coloured light, shadow and all"


def _two_pictures(got: Tensor, expected: Tensor) -> Figure:
    figure = Figure(figsize=(5, 2.6), layout="constrained")
    for axis, image, title in zip(
        figure.subplots(1, 2), (expected[0], got[0]), ("expected", "yours"), strict=True
    ):
        axis.imshow(image.detach().clamp(0, 1).permute(1, 2, 0).numpy())
        axis.set_title(title)
        axis.axis("off")
    return figure


# A caricature -----------------------------------------------------------------------------------


def exaggerate_stand_in(model, identity, expression, displacement, factor):
    return model.shape(factor * identity, expression) + displacement


@exercise_check(stand_in=exaggerate_stand_in)
def exaggerate(attempt):
    model = MorphableModel.load(subdivision=0)
    for batch, factor, seed in ((1, 2.0, 1), (3, 0.0, 2), (2, -1.0, 3), (2, 1.0, 4), (1, 1.6, 5)):
        g = _generator(seed)
        identity, expression, _ = model.random(batch, g)
        expression = expression + 0.3 * torch.randn(expression.shape, generator=g)
        displacement = torch.randn(batch, len(model.mean), 3, generator=g)
        expected = exaggerate_stand_in(model, identity, expression, displacement, factor)
        plain = model.shape(identity, expression)
        mistakes = {
            "The expression is exaggerated too: only who it is is to grow, not how wide the mouth "
            "is open.": model.shape(factor * identity, factor * expression) + displacement,
            "The displacement is exaggerated too; add it as it is.": model.shape(
                factor * identity, expression
            )
            + factor * displacement,
            "The displacement is missing.": model.shape(factor * identity, expression),
            "The expression is missing.": model.shape(factor * identity) + displacement,
            "That is factor times the whole face: larger, not more itself. What grows is the "
            "difference to the mean face.": factor * plain + displacement,
            "That is factor times everything, displacement and all.": factor
            * (plain + displacement),
            "Everything but the mean has grown there, the expression and the displacement with "
            "it.": model.mean + factor * (plain + displacement - model.mean),
            "The difference is added once too often: factor 1 has to leave the face as it is.": (
                model.shape((1 + factor) * identity, expression) + displacement
            ),
        }
        got = attempt(model, identity, expression, displacement, factor)
        hint = _said_of(got, expected, mistakes)
        what = f"exaggerate of {batch} faces by {factor:g}"
        close(what, got, expected, axes=("face", "vertex", "xyz"), atol=2e-3, hint=hint)
    return "factor 0 is the mean face with this expression, and factor 1 is the face itself"
