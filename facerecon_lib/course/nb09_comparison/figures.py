"""What notebook 09 draws of faces: base and augmented, offset maps, lights that take the blame.

shown = people(batch, found, [1, 4, 9]) + people(photo, found_photo)
offsets_figure(shown)
beside_figure(shown, "Base beside augmented")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augmented.branch import AugmentedFaces, BaseFaces
from ...face.batch import FaceBatch
from ...face.morphable_model import MorphableModel
from ...pictures.faces import on_photo, show_face, to_uint8, turned_mesh
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.sliders import Picture
from ..drawing.style import panels, picture
from .tone_study import (
    BASES,
    GREY,
    LIGHTS,
    RED,
    ToneStudy,
    run_line,
    tone_groups,
    tone_ticks,
)

SIZE = 150  # px of a face in a row
TEXTURE_GAIN = 2.0  # of maps as pictures: grey is nothing
PLAIN_LINE = dict(color="#c0392b", linewidth=2, marker="o", markersize=5)
MOST_MM = 1.5  # white-hot in pictures of the displacement


def _small(figure: Figure, dpi: int = 80) -> Image.Image:
    """The figure, drawn, in 112 colours, chosen by every third pixel: it takes a tenth of the time
    of asking all of them."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return _fewer(np.asarray(canvas.buffer_rgba())[..., :3])


def _fewer(pixels: Picture) -> Image.Image:
    few = Image.fromarray(np.ascontiguousarray(pixels[::3, ::3]))
    few.paste((255, 255, 255), (0, 0, few.width, 2))  # so that white stays white
    palette = few.quantize(112, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    whole = Image.fromarray(np.ascontiguousarray(pixels))
    return whole.quantize(palette=palette, dither=Image.Dither.NONE)


@dataclass(eq=False)
class Person:
    """One face of a batch, all that is drawn of it. mask: where the base rendering is."""

    name: str
    photo: Float[Tensor, "1 3 size size"]
    base: Face
    detailed: Face
    texture: Float[Tensor, "3 size size"]
    displacement: Float[Tensor, "3 size size"]
    mask: Float[Tensor, "size size"]
    true_albedo: Float[Tensor, "1 vertex 3"] | None


def one_of(face: Face, i: int) -> Face:
    """One face of a batch of them."""
    names = ("vertices", "normals", "v_camera", "albedo", "colours", "rotation")
    return replace(face, **{name: getattr(face, name)[i : i + 1] for name in names})


def people(
    batch: FaceBatch, found: AugmentedFaces, which: Sequence[int] = (0,), name: str = ""
) -> list[Person]:
    """Some faces of a batch, named after their tone where it is known."""
    tones = None if batch.tone is None else batch.tone.tolist()
    truth = batch.true_albedo
    return [
        Person(
            name or f"tone {tones[i]}",
            batch.image[i : i + 1],
            one_of(found.base.face, i),
            one_of(found.face, i),
            found.maps.texture[i],
            found.maps.displacement[i],
            found.base.mask[i, 0],
            None if truth is None else truth[i : i + 1],
        )
        for i in which
    ]


def _rows(
    shown: Sequence[Person], rows: Mapping[str, Callable[[Person], np.ndarray]], title: str
) -> Image.Image:
    figure, axes = panels(len(rows), len(shown), size=1.62, title=title, head=0.2)
    for (words, draw), line in zip(rows.items(), axes, strict=True):
        for person, axis in zip(shown, line, strict=True):
            picture(axis, draw(person), person.name if words == "photo" else "")
        line[0].text(-14, 112, words, rotation=90, ha="center", va="center", fontsize=10)
    return _small(figure)


def texture_panel(person: Person) -> Picture:
    """The texture offset map as colours; grey adds nothing, white is what no vertex reads."""
    shown = 0.5 + TEXTURE_GAIN * person.texture
    return to_uint8(shown * person.mask + (1 - person.mask))


def displacement_panel(person: Person) -> Picture:
    """The length of the displacement map, from 0 to MOST_MM."""
    length = person.displacement.norm(dim=0).detach().numpy() / MOST_MM
    colours = (matplotlib.colormaps["viridis"](length.clip(0, 1))[..., :3] * 255).astype(np.uint8)
    colours[person.mask.numpy() < 0.5] = 255
    return colours


def offsets_figure(shown: Sequence[Person]) -> Image.Image:
    """As the report's Fig. 4: faces above, then their texture offset and displacement maps."""
    return _rows(
        shown,
        {
            "photo": lambda p: to_uint8(p.photo[0]),
            "reconstruction": lambda p: show_face(p.detailed, "lit", SIZE),
            f"texture map × {TEXTURE_GAIN:g}": texture_panel,
            f"displacement, 0 to {MOST_MM} mm": displacement_panel,
        },
        "Two maps a face: grey adds no colour, dark blue moves nothing",
    )


def beside_figure(shown: Sequence[Person], title: str) -> Image.Image:
    """As the report's Fig. 5: base beside augmented, in the photo's light and in none."""
    rows = {
        "photo": lambda p: to_uint8(p.photo[0]),
        "base": lambda p: on_photo(p.photo, p.base, SIZE),
        "augmented": lambda p: on_photo(p.photo, p.detailed, SIZE),
        "base, unlit": lambda p: show_face(p.base, "unlit", SIZE),
        "augmented, unlit": lambda p: show_face(p.detailed, "unlit", SIZE),
    }
    if all(person.true_albedo is not None for person in shown):
        rows["true skin, unlit"] = lambda p: show_face(
            replace(p.base, albedo=p.true_albedo), "unlit", SIZE
        )
    return _rows(shown, rows, title)


# Training ---------------------------------------------------------------------------------------


def learning_figure(records: Sequence[Mapping]) -> Figure:
    """A run's log: the loss of each step's own faces, and held-out faces beside the base's."""
    figure = Figure((10.2, 3.2), layout="constrained", facecolor="white")
    figure.suptitle("The U-Net learns: on held-out faces both errors of colour fall")
    left, middle, right = figure.subplots(1, 3)
    notes = [r for r in records if r["kind"] == "train"]
    held = [r for r in records if r["kind"] == "validation"]
    left.plot([r["step"] for r in notes], [r["loss"] for r in notes], "o", color="0.6",
              markersize=4, label="faces of the step")  # fmt: skip
    left.plot([r["step"] for r in held], [r["loss"] for r in held], "o-", color=RED, linewidth=2,
              label="held-out faces")  # fmt: skip
    left.set(title="loss", ylim=(0, None))
    left.legend(frameon=False, fontsize=8.5)
    names = {"photometric": "colour error on the photo", "albedo_rgb": "error of the unlit skin"}
    for axis, (name, words) in zip((middle, right), names.items(), strict=True):
        steps = [r["step"] for r in held]
        axis.plot(steps, [r[f"base_{name}"] for r in held], "--", color=GREY, label="base")
        axis.plot(steps, [r[name] for r in held], "o-", color=RED, linewidth=2, label="augmented")
        axis.set(title=words, ylim=(0, 1.15 * held[0][f"base_{name}"]))
    right.legend(frameon=False, fontsize=8.5, loc="lower left")
    for axis in (left, middle, right):
        axis.set_xlabel("step")
    return figure


def gains_figure(gains: Mapping[str, Float[Tensor, " group"]], title: str) -> Figure:
    """Share of an error that is gone, by tone, a line each; runs of the study ("light-known") as in
    its own figures."""
    figure = Figure((7.4, 3.4), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for name, values in gains.items():
        shown, (albedo, _, light) = [100 * float(value) for value in values], name.partition("-")
        line, label = PLAIN_LINE, name
        if albedo in BASES and light in LIGHTS:
            line, label = run_line(albedo, light), f"{BASES[albedo]}, {light}"
        axis.plot(range(len(shown)), shown, label=label, **line)
    axis.axhline(0, color="0.6", linewidth=1)
    least = min([0.0, *(100 * float(v.nan_to_num(0).min()) for v in gains.values())])
    axis.set(ylim=(1.1 * least - 5, 100), ylabel="% of the base's colour error")
    axis.set_title(title)
    place = "lower right" if least < -20 else "upper left"
    axis.legend(frameon=False, fontsize=8.5, loc=place, handlelength=3)  # dashes are seen as such
    tone_ticks(axis)
    return figure


# Light and skin ---------------------------------------------------------------------------------


def blame_figure(
    batch: FaceBatch, bases: Mapping[str, BaseFaces], which: int, title: str
) -> Image.Image:
    """One face, as each belief explains it: on the photo above, its skin without light below."""
    figure, axes = panels(2, len(bases) + 1, size=1.75, title=title, head=0.75)
    person, truth = batch.image[which : which + 1], batch.true_albedo[which : which + 1]
    picture(axes[0, 0], to_uint8(person[0]), "\nthe photo")
    for i, (name, base) in enumerate(bases.items(), start=1):
        albedo, _, light = name.partition("-")
        face = one_of(base.face, which)
        short = BASES[albedo].replace("basis of ", "")
        picture(axes[0, i], on_photo(person, face, SIZE), f"{short}\nlight {light}")
        picture(axes[1, i], show_face(face, "unlit", SIZE))
        if i == 1:
            true = replace(face, albedo=truth)
    picture(axes[1, 0], show_face(true, "unlit", SIZE), "its true skin")
    return _small(figure)


def agreement_figure(
    study: ToneStudy, live: Mapping[str, Float[Tensor, " few"]], numbers: Sequence[int]
) -> Figure:
    """The base's error computed in the notebook, against the stored number of the same face."""
    figure = Figure((4.6, 4.2), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for name in study.runs:
        albedo, light = name.split("-")
        colour, marker = run_line(albedo, light)["color"], {"monk": "^", "light": "o"}[albedo]
        stored = study.values(albedo, light, "base", "ita_bias")[list(numbers)]
        words = f"{BASES[albedo]}, {light}"
        axis.scatter(stored, live[name], s=30, color=colour, marker=marker, label=words, zorder=3)
    axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
    axis.set(xlabel="stored, degrees of ITA", ylabel="computed here, degrees of ITA")
    axis.set_title("Nothing on trust: the same faces again")
    axis.legend(frameon=False, fontsize=8)
    return figure


def bias_figure(
    bias: Mapping[str, Float[Tensor, " few"]], tones: Int[Tensor, " few"], title: str
) -> Figure:
    """Signed errors of the skin's tone, a dot a face."""
    figure = Figure((3.5 * len(bias), 3.2), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    place = tone_groups(tones) + torch.linspace(-0.15, 0.15, len(tones))
    axes = figure.subplots(1, len(bias), sharey=True, squeeze=False)[0]
    for axis, (name, values) in zip(axes, bias.items(), strict=True):
        axis.axhline(0, color="0.6", linewidth=1)
        axis.scatter(place, values, s=34, color=RED, zorder=3)
        axis.set_title(name, fontsize=10)
    for axis in axes:
        tone_ticks(axis)
    axes[0].set_ylabel("degrees of ITA; above 0: too light", fontsize=9)
    return figure


# What the offsets are ---------------------------------------------------------------------------


@torch.no_grad()
def where_figure(
    model: MorphableModel, displacement: Float[Tensor, "batch vertex 3"], most: float
) -> Image.Image:
    """The mean length of the displacement at each vertex, on the mean face, turned."""
    length = displacement.square().sum(-1).mean(0).sqrt() / most
    colours = matplotlib.colormaps["viridis"](length.clamp(0, 1).numpy())[..., :3]
    painted = torch.as_tensor(colours, dtype=model.mean.dtype)[None]
    figure, axes = panels(1, 4, size=2.3, title="Where the U-Net moves the skin", head=0.2)
    for axis, yaw in zip(axes[0], (-45, 0, 45), strict=False):
        view = turned_mesh(model, model.mean[None], painted, yaw)
        picture(axis, show_face(view, "unlit", 260))
    axis = axes[0, 3]
    axis.axis("off")
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, most), "viridis")
    figure.colorbar(scale, ax=axis, label="root mean square, mm", location="left", fraction=0.4)
    return _small(figure)


@torch.no_grad()
def parts_figure(
    batch: FaceBatch, found: AugmentedFaces, which: int, even: Tensor, rest: Tensor, share: Tensor
) -> Image.Image:
    """One face without light: its base skin, with the even part of the offset, with all of it."""
    base = one_of(found.base.face, which)
    one = slice(which, which + 1)
    skins = {
        "base": base.albedo,
        f"+ one colour ({100 * float(share[which]):.0f} %)": base.albedo + even[one, None],
        "+ the rest = augmented": base.albedo + even[one, None] + rest[one],
        "the rest alone, on grey": 0.5 + TEXTURE_GAIN * rest[one],
        "the true skin": batch.true_albedo[one],
    }
    title = "A texture offset taken apart: one colour for all skin, and the rest"
    figure, axes = panels(1, len(skins), size=2.0, title=title, head=0.25)
    for axis, (name, albedo) in zip(axes[0], skins.items(), strict=True):
        picture(axis, show_face(replace(base, albedo=albedo), "unlit", 220), name)
    return _small(figure)


def offset_slider(
    batch: FaceBatch, found: AugmentedFaces, which: Sequence[int]
) -> Callable[[int, int, int], Picture]:
    """(face, texture %, displacement %) -> photo, base, and that much of both offsets: lit, unlit,
    shape."""

    @torch.no_grad()
    def draw(face: int, texture: int, displacement: int) -> Picture:
        i = which[face]
        base, one = one_of(found.base.face, i), slice(i, i + 1)
        vertices = base.vertices + displacement / 100 * found.offsets.displacement[one]
        albedo = base.albedo + texture / 100 * found.offsets.texture[one]
        made = pose_and_light(
            base.model, vertices, albedo, found.base.coefficients[one], base.fov_deg
        )
        photo = batch.image[one]
        panels = [on_photo(photo, base, 200, 1), on_photo(photo, made, 200, 1)]
        panels += [show_face(made, "unlit", 200), show_face(made, "shape", 200)]
        first = Image.fromarray(to_uint8(photo[0])).resize((200, 200))
        return np.asarray(_fewer(np.concatenate([np.asarray(first), *panels], 1)).convert("RGB"))

    return draw
