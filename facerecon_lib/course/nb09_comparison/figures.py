"""Figures of faces: base and augmented, offset maps, lights that take the blame.

Notebook 09, Figures 4 and 5.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augmented.branch import AugmentedFaces, BaseFaces
from ...face.batch import FaceBatch
from ...face.morphable_model import MorphableModel
from ...files.weights import shipped_file
from ...networks.unet import OffsetMaps
from ...pictures.faces import Picture, on_photo, show_face, to_uint8, turned_mesh
from ...rendering.synthesis import Face, pose_and_light
from ..drawing import style
from ..drawing.style import GREY, RED, add_legend, charts, curves, drawn, fill, panels
from .tone_study import RUNS, ToneStudy, places_by_tone, run_line, run_words, tone_ticks

SIZE = 170  # px of a face in a row
TEXTURE_GAIN = 2.0  # of maps as pictures: grey is nothing
MOST_MM = 1.5  # where the colours of the displacement end
SHIPPED_LOG = shipped_file("offset_unet_log.jsonl")
ERRORS = {
    "photometric": "colour error on the photo",
    "albedo_rgb": "error of the unlit skin",
    "vertex_mm": "shape error, mm",
}


@dataclass(eq=False)
class Person:
    """One face of a batch, all that is drawn of it. mask: where the base rendering is."""

    name: str
    photo: Float[Tensor, "1 3 size size"]
    base: Face
    detailed: Face
    maps: OffsetMaps
    mask: Float[Tensor, "1 1 size size"]
    true: Face | None  # the base face with its true skin


def one_of(face: Face, i: int) -> Face:
    """One face of a batch of them."""
    return replace(face, **{k: v[[i]] for k, v in vars(face).items() if isinstance(v, Tensor)})


def people(
    batch: FaceBatch, augmented: AugmentedFaces, which: Sequence[int] = (0,), name: str = ""
) -> list[Person]:
    """Some faces of a batch, named after their tone where they have no name."""
    persons = []
    for i in which:
        one, mask = batch[i : i + 1], augmented.base.mask[[i]]
        base, detailed = one_of(augmented.base.face, i), one_of(augmented.face, i)
        maps = OffsetMaps(*(m[[i]] for m in augmented.maps))
        true = None if one.true_albedo is None else replace(base, albedo=one.true_albedo)
        title = name or f"tone {int(one.tone)}"
        persons.append(Person(title, one.image, base, detailed, maps, mask, true))
    return persons


def _rows(
    persons: Sequence[Person], rows: Mapping[str, Callable], title: str, size: float
) -> Image.Image:
    """A column per person; by the name of each row, what draws it. size: of a face, inches."""
    figure, axes = panels(len(rows), len(persons), size=size, title=title, head=0.2)
    fill(axes, [draw(p) for draw in rows.values() for p in persons], [p.name for p in persons])
    for words, axis in zip(rows, axes[:, 0], strict=True):
        style.row_name(axis, words, -0.0625, ha="center")
    return drawn(figure, 80)


def _texture(person: Person) -> Picture:
    """The texture offset map as colours; grey adds nothing, white is what no vertex reads."""
    colours = 0.5 + TEXTURE_GAIN * person.maps.texture
    return to_uint8(torch.lerp(torch.ones(()), colours, person.mask)[0])


def _displacement(person: Person) -> Picture:
    """The length of the displacement map, from 0 to MOST_MM."""
    colours = style.heat(person.maps.displacement[0].norm(dim=0), MOST_MM)
    return to_uint8(colours.permute(2, 0, 1).masked_fill(person.mask[0] < 0.5, 1.0))


def offsets_figure(persons: Sequence[Person]) -> Image.Image:
    """As the report's Fig. 4: faces above, then their texture offset and displacement maps."""
    rows = {
        "photo": lambda p: to_uint8(p.photo[0]),
        "reconstruction": lambda p: show_face(p.detailed, "lit", SIZE),
        f"texture map × {TEXTURE_GAIN:g}": _texture,
        f"displacement, 0 to {MOST_MM} mm": _displacement,
    }
    title = "Two maps per face: grey adds no colour, dark blue moves nothing"
    return _rows(persons, rows, title, 1.8)


def beside_figure(persons: Sequence[Person], title: str) -> Image.Image:
    """As the report's Fig. 5: base beside augmented, in the photo's light and in none."""
    rows = {
        "photo": lambda p: to_uint8(p.photo[0]),
        "base": lambda p: on_photo(p.photo, p.base, SIZE),
        "augmented": lambda p: on_photo(p.photo, p.detailed, SIZE),
        "base, unlit": lambda p: show_face(p.base, "unlit", SIZE),
        "augmented, unlit": lambda p: show_face(p.detailed, "unlit", SIZE),
        "true skin, unlit": lambda p: show_face(p.true, "unlit", SIZE),
    }
    return _rows(persons, rows, title, 2.1)


def learning_figure(records: Sequence[Mapping], title: str) -> Figure:
    """A run's log: the loss of each step's own faces, and held-out faces beside the base's.

    Raises ValueError for an empty log.
    """
    if not records:
        raise ValueError("the log is empty: of the U-Net that ships, it is in docs/model_cards")
    figure, axes = charts(11.6, 3.2, 4, title=title)

    def column(kind: str, name: str) -> list[float]:
        return [r[name] for r in records if r["kind"] == kind]

    steps, form = column("validation", "step"), dict(colours=(RED,), xlabel="step")
    trained = dict(color="0.6", markersize=4, label="faces of the step")
    axes[0].plot(column("train", "step"), column("train", "loss"), "o", **trained)
    loss = {"held-out faces": column("validation", "loss")}
    curves(axes[0], loss, steps, "o-", title="loss", ylim=(0, None), **form)
    add_legend(axes[0], fontsize=8.5)
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis, (name, words) in zip(axes[1:], ERRORS.items(), strict=True):
        base, augmented = column("validation", f"base_{name}"), column("validation", name)
        axis.plot(steps, base, "--", color=GREY, label="base")
        limits = (0, 1.15 * max(base + augmented))
        curves(axis, {"augmented": augmented}, steps, "o-", title=words, ylim=limits, **form)
    add_legend(axes[3], fontsize=8.5, loc="lower left")
    return figure


def gains_figure(gains: Mapping[str, Float[Tensor, " group"]], title: str) -> Figure:
    """Share of an error that is gone, by tone, a line each; runs of the study ("light-known") as in
    its own figures."""
    figure, axis = charts(7.4, 3.4)
    for name, values in gains.items():
        stored = name in RUNS
        line = run_line(name) if stored else dict(color=RED, linewidth=2, marker="o", markersize=5)
        axis.plot(100 * values, label=run_words(name) if stored else name, **line)
    axis.axhline(0, color="0.6", linewidth=1)
    shown = torch.cat([100 * v.nan_to_num(0) for v in gains.values()])
    least, most = min(0.0, float(shown.min())), max(0.0, float(shown.max()))
    axis.set_yscale("symlog", linthresh=100)  # a loss has no end, a gain ends at 100
    ticks = [t for t in (-1000, -500, -200, *range(-100, 101, 25)) if 1.3 * least - 8 < t]
    axis.set_yticks(ticks, map(str, ticks))
    axis.minorticks_off()
    limits = 1.3 * least - 8, min(100, 1.5 * most + 10)
    axis.set(ylim=limits, ylabel="gain, % of the base's error", title=title)
    if len(gains) > 1:
        add_legend(axis, fontsize=8, loc="upper left", handlelength=3)  # dashes are seen as such
    tone_ticks(axis)
    return figure


def blame_figure(
    batch: FaceBatch, bases: Mapping[str, BaseFaces], which: int, title: str
) -> Image.Image:
    """One face, as each belief explains it: on the photo above, its skin without light below."""
    figure, axes = panels(2, len(bases) + 1, size=1.75, title=title, head=0.75)
    photo, truth = batch.image[[which]], batch.true_albedo[[which]]
    faces = [one_of(base.face, which) for base in bases.values()]
    true = show_face(replace(faces[0], albedo=truth), "unlit", SIZE)
    fill(axes[:, 0], [to_uint8(photo[0]), true], ["\nthe photo", "its true skin"])
    for column, name, face in zip(axes.T[1:], bases, faces, strict=True):
        words = run_words(name, "\nlight ").removeprefix("basis of ")
        fill(column, [on_photo(photo, face, SIZE), show_face(face, "unlit", SIZE)], [words])
    return drawn(figure, 80)


def agreement_figure(
    study: ToneStudy, live: Mapping[str, Float[Tensor, " few"]], numbers: Sequence[int]
) -> Figure:
    """The base's error computed in the notebook, against the stored number of the same face."""
    figure, axis = charts(4.6, 4.2)
    for run in study.runs:
        stored = study.values(run, "base", "ita_bias")[list(numbers)]
        form = dict(color=run_line(run)["color"], marker="^" if "monk" in run else "o", s=30)
        axis.scatter(stored, live[run], label=run_words(run), zorder=3, **form)
    axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
    axis.set(xlabel="stored, degrees of ITA", ylabel="computed here, degrees of ITA")
    axis.set_title("The same ten people: stored, and computed here")
    add_legend(axis, fontsize=8)
    return figure


def bias_figure(
    bias: Mapping[str, Float[Tensor, " few"]], tones: Int[Tensor, " few"], title: str
) -> Figure:
    """Signed errors of the skin's tone, a dot per face."""
    figure, axes = charts(3.5 * len(bias), 3.2, len(bias), title=title, sharey=True)
    for axis, (name, values) in zip(axes, bias.items(), strict=True):
        axis.axhline(0, color="0.6", linewidth=1)
        axis.scatter(places_by_tone(tones, 0.15), values, s=34, color=RED, zorder=3)
        axis.set_title(name, fontsize=10)
    for axis in axes:  # with limits that they share
        tone_ticks(axis)
    axes[0].set_ylabel("degrees of ITA; above 0: too light", fontsize=9)
    return figure


def where_figure(
    model: MorphableModel, displacement: Float[Tensor, "batch vertex 3"], most: float
) -> Image.Image:
    """The mean length of the displacement at each vertex, on the mean face, turned."""
    painted = style.heat(displacement.square().sum(-1).mean(0).sqrt(), most)[None]
    figure, axes = panels(1, 4, size=2.3, title="Where the U-Net moves the skin", head=0.2)
    views = [turned_mesh(model, model.mean[None], painted, yaw) for yaw in (-45, 0, 45)]
    fill(axes[0, :3], [show_face(view, "unlit", 260) for view in views])
    axes[0, 3].axis("off")
    place = dict(ax=axes[0, 3], location="left", fraction=0.4)
    style.colour_bar(figure, most, "root mean square, mm", **place)
    return drawn(figure, 80)


def parts_figure(
    batch: FaceBatch, augmented: AugmentedFaces, which: int, *offset: Tensor
) -> Image.Image:
    """One face without light: its base skin, with the even part of the offset, with all of it.

    offset: its even part, the rest, and the even part's share, of all faces.
    """
    base, (even, rest, share) = one_of(augmented.base.face, which), (x[[which]] for x in offset)
    skins = {
        "base": base.albedo,
        f"+ one colour ({100 * float(share):.0f} %)": base.albedo + even[:, None],
        "+ the rest = augmented": base.albedo + even[:, None] + rest,
        "the rest alone, on grey": 0.5 + TEXTURE_GAIN * rest,
        "the true skin": batch.true_albedo[[which]],
    }
    title = "A texture offset taken apart: one colour for all skin, and the rest"
    figure, axes = panels(1, len(skins), size=2.0, title=title, head=0.25)
    faces = [replace(base, albedo=albedo) for albedo in skins.values()]
    fill(axes, [show_face(face, "unlit", 220) for face in faces], skins)
    return drawn(figure, 80)


def offset_slider(
    batch: FaceBatch, augmented: AugmentedFaces, which: Sequence[int]
) -> Callable[[int, int, int], Picture]:
    """(face, texture %, displacement %) -> photo, base, and that much of both offsets: lit, unlit,
    shape."""

    @torch.no_grad()
    def draw(face: int, texture: int, displacement: int) -> Picture:
        i = which[face]
        base, photo, offsets = one_of(augmented.base.face, i), batch.image[[i]], augmented.offsets
        vertices = base.vertices + displacement / 100 * offsets.displacement[i]
        albedo = base.albedo + texture / 100 * offsets.texture[i]
        coefficients = augmented.base.coefficients[i : i + 1]
        moved = pose_and_light(base.model, vertices, albedo, coefficients, base.fov_deg)
        panels = [np.asarray(Image.fromarray(to_uint8(photo[0])).resize((200, 200)))]
        panels += [on_photo(photo, view, 200, 1) for view in (base, moved)]
        panels += [show_face(moved, look, 200) for look in ("unlit", "shape")]
        return np.concatenate(panels, 1)

    return draw
