"""An evaluation: one number per face for every method and measure, as JSON and as a figure.

json.dumps(evaluation.as_dict())                     # every number
save_figure(evaluation.figure(), "evaluation.png")
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from .. import __version__
from ..face.batch import FaceBatch
from ..face.coefficients import FaceCoefficients
from ..face.measures import by_group
from ..face.morphable_model import MorphableModel
from ..pictures.faces import show_face, to_uint8
from ..pictures.sheets import gallery
from ..rendering.synthesis import Face, pose_and_light, synthesise
from .surface import area_shares

ENCODER, MEAN, POSED = "encoder", "mean face", "mean face, posed"
AUGMENTED = "augmented"
MEASURES = {  # row's name, factor, decimals, what it is
    "landmark": ("landmarks %", 100, 2, "% of the outer eye distance, all 68"),
    "landmark_inner": ("inner landmarks %", 100, 2, "the 51 without the jaw"),
    "photometric": ("colours", 1, 3, "mean difference of covered pixels, of 1"),
    "identity": ("identity, F()", 1, 3, "distance of photo and rendering"),
    "vertex_mm": ("vertices, mm", 1, 2, "after similarity alignment"),
    "vertex_mm_rigid": ("... rigid, mm", 1, 2, "after rigid alignment"),
    "scan_mm": ("scan to mesh, mm", 1, 2, "faces at rest, by NoW's protocol"),
    "normal_deg": ("normals, deg", 1, 2, "mean angle over the skin, after similarity alignment"),
    "relief_mm": ("relief, mm", 1, 3, "r.m.s. of the skin's height less its mean within 8 mm"),
    "albedo_rgb": ("skin RGB", 1, 3, "difference of the skin without light, of 1"),
    "ita": ("skin ITA, deg", 1, 1, "how far its individual typology angle is off"),
    "ita_bias": ("... its sign, deg", 1, 1, "the same, + is too light; means"),
}
SHOWN = 16  # faces in the figure


@dataclass(eq=False)
class Shown:
    """A batch for the figure, and what was found of it; on the CPU."""

    batch: FaceBatch
    found: FaceCoefficients
    texture: Float[Tensor, "batch vertex 3"] | None = None
    displacement: Float[Tensor, "batch vertex 3"] | None = None


@dataclass(eq=False)
class Evaluation:
    """One number a face for every method and measure (MEASURES), in the order of `names`.

    NaN: not measured. tones: Monk's, 1 to 10; tones_source: "labels", or
    "estimates" from the skin that the encoder sees. scan_to_mesh: mm, over the points
    of all scans together, a method. distances: a method's renderings (rows) to photos (columns) by
    F(). light: whose light the encoder's face stands in. detail: the augmented branch's U-Net, by
    name; offsets: how large what it adds is, and where (`evaluation_tables.OFFSETS`).
    failures: photos without a result, and why.
    """

    what: str
    encoder: str
    recipe: dict[str, str]
    names: list[str]
    tones: list[int]
    tones_source: str
    values: dict[str, dict[str, list[float]]]
    seconds_per_face: dict[str, float]
    model: MorphableModel
    shown: list[Shown] = field(default_factory=list)
    light: str = "encoder"
    detail: str | None = None
    offsets: dict[str, list[float]] = field(default_factory=dict)
    photos: bool = False
    scan_to_mesh: dict[str, dict[str, float]] = field(default_factory=dict)
    recognition: str | None = None
    same_person: float | None = None
    distances: dict[str, list[list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self, method: str, measure: str) -> dict[str, float]:
        """Count, mean, median and p90 over all faces."""
        return by_group(self.values[method][measure], ["all"] * len(self.names))["all"]

    def by_tone(self, method: str, measure: str) -> dict[str, dict[str, float]]:
        """The same for tones 1-2, 3-4, ... 9-10."""
        return by_group(self.values[method][measure], [tone_pair(t) for t in self.tones])

    def encoder_better(self, method: str, measure: str) -> int:
        """On how many faces the encoder's error is below that of `method`."""
        return self.better(ENCODER, method, measure)

    def better(self, method: str, than: str, measure: str) -> int:
        """On how many faces the error of the one is below that of the other."""
        ours, theirs = (self.values[m][measure] for m in (method, than))
        return sum(a < b for a, b in zip(ours, theirs, strict=True))

    def own_nearest(self, method: str) -> list[bool]:
        """For each rendering: is its own photo the nearest of all?"""
        matrix = np.asarray(self.distances[method])
        return (matrix.argmin(1) == np.arange(len(matrix))).tolist()

    def as_dict(self) -> dict:
        """Plain numbers and names; what was not measured is None."""
        tables = {
            method: {
                name: {"all": self.summary(method, name), "by_tone": self.by_tone(method, name)}
                for name in measures
            }
            for method, measures in self.values.items()
        }
        content = {
            "version": __version__,
            "what": self.what,
            "encoder": self.encoder,
            "recipe": self.recipe,
            "light": self.light,
            "detail": self.detail,
            "recognition": self.recognition,
            "same_person": self.same_person,
            "seconds_per_face": self.seconds_per_face,
            "tones_source": self.tones_source,
            "summary": tables,
            "scan_to_mesh_mm": self.scan_to_mesh,
            "encoder_better": {
                method: {name: self.encoder_better(method, name) for name in self.measured()}
                for method in self.values
                if method != ENCODER
            },
            "augmented_better": {
                name: self.better(AUGMENTED, ENCODER, name)
                for name in self.measured()
                if AUGMENTED in self.values
            },
            "own_nearest": {m: sum(self.own_nearest(m)) for m in self.distances},
            "faces": self.names,
            "tones": self.tones,
            "values": self.values,
            "offsets": self.offsets,
            "area_shares": area_shares(self.model) if self.detail else {},
            "distances": self.distances,
            "failures": self.failures,
            "notes": self.notes,
        }
        return _without_nan(content)

    def measured(self) -> list[str]:
        """The measures that were taken, in the order of MEASURES."""
        return [name for name in MEASURES if name in self.values[ENCODER]]

    @torch.no_grad()
    def figure(self) -> Figure:
        """The first SHOWN faces: photo, the encoder's face on it, its shape, the true shape.

        With detail: the augmented face beside, and its shape.
        """
        rows = [row for shown in self.shown for row in self._panels(shown)][:SHOWN]
        legend = ["photo", "the encoder's face on it", "its shape", "the true shape"]
        if self.detail is not None:
            legend = ["photo", "encoder", "augmented", "shape", "augmented shape", "true shape"]
        return gallery(
            [panel for row in rows for panel in row],
            title=f"{self.encoder}: {self.what}\n{', '.join(legend[: len(rows[0])])}",
            columns=(2 if len(rows) > 4 else 1) * len(rows[0]),
            size=1.7,
        )

    def _panels(self, shown: Shown) -> Iterator[list[np.ndarray]]:
        """A row of pictures for each face."""
        for i in range(len(shown.batch)):
            one = shown.batch[i : i + 1].to(self.model.device)
            c = shown.found[i].to(self.model.device)
            faces = [synthesise(self.model, c)]
            if shown.displacement is not None:
                vertices = faces[0].vertices + shown.displacement[i].to(self.model.device)
                albedo = faces[0].albedo + shown.texture[i].to(self.model.device)
                faces.append(pose_and_light(self.model, vertices, albedo, c))
            row = [to_uint8(one.image[0])]
            for face in faces:
                image, mask = face.render()
                row.append(to_uint8((image.clamp(0, 1) + (1 - mask) * one.image)[0]))
            row += [show_face(face, "shape", 224) for face in faces]
            if one.truth is not None:
                row.append(show_face(true_face(self.model, one), "shape", 224))
            yield row


def tone_pair(tone: int) -> str:
    """Monk's tones two by two: "1-2" ... "9-10"."""
    first = (tone - 1) // 2 * 2 + 1
    return f"{first}-{first + 1}"


def true_face(model: MorphableModel, batch: FaceBatch) -> Face:
    """The batch's true faces: exact where they are given, else as `truth` describes them."""
    if batch.true_vertices is None or batch.true_albedo is None:
        return synthesise(model, batch.truth)
    return pose_and_light(model, batch.true_vertices, batch.true_albedo, batch.truth)


def _without_nan(value):
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
