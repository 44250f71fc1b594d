"""An evaluation: one number per face for every method and measure, as JSON and as a figure.

json.dumps(evaluation.as_dict())                     # every number
save_figure(evaluation.figure(), "evaluation.png")

Notebook 09, section 2.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import __version__
from ..face.camera import CROP_SIZE
from ..face.measures import by_group
from ..face.morphable_model import MorphableModel
from ..pictures.faces import on_photo, show_face, to_uint8
from ..pictures.sheets import gallery
from ..rendering.synthesis import Face
from .surface import area_shares

ENCODER, MEAN, POSED = "encoder", "mean face", "mean face, posed"
AUGMENTED, FIT, PIXELS = "augmented", "fit", "the photo's pixels"
MEASURES = {  # row's name, factor, decimals, what it is
    "landmark": ("landmarks %", 100, 2, "% of the outer eye distance, all 68"),
    "landmark_inner": ("inner landmarks %", 100, 2, "the 51 without the jaw"),
    "dense": ("dense points %", 100, 2, "MediaPipe's, without the oval and the irises"),
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
SKIN = {  # row's name, decimals
    "lightness": ("skin, L*", 1),
    "ita": ("skin, ITA, deg", 1),
}
FIGURE_FACES = 16


@dataclass(eq=False)
class Evaluation:
    """One number per face for every method and measure (MEASURES), in the order of `names`.

    NaN: not measured. recipe: the encoder's metadata. tones: Monk's, 1 to 10; tones_source:
    "labels", or "estimates" from the skin that the encoder sees. detail: the U-Net, by name;
    offsets: its `tables.OFFSETS`. skin: of photos, SKIN of each method's unlit skin, and of PIXELS
    on it; ratings: of some of the photos, by name: Monk's tone as people see it. photos: whether a
    table lists each face. scan_to_mesh: per method, mm over all scans together. recognition: F();
    same_person: its usual distance of one person's photos; distances: per method, of renderings
    (rows) to photos (columns). figure_batches: photos, and the encoder's faces, the augmented, the
    true, where there are any.
    """

    what: str
    encoder: str
    recipe: dict[str, str]
    model: MorphableModel
    values: dict[str, dict[str, list[float]]]
    light: str = "encoder"
    detail: str | None = None
    recognition: str | None = None
    same_person: float | None = None
    tones_source: str = "estimates"
    photos: bool = False
    names: list[str] = field(default_factory=list)
    tones: list[int] = field(default_factory=list)
    offsets: dict[str, list[float]] = field(default_factory=dict)
    skin: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    ratings: dict[str, float] = field(default_factory=dict)
    seconds_per_face: dict[str, float] = field(default_factory=dict)
    scan_to_mesh: dict[str, dict[str, float]] = field(default_factory=dict)
    distances: dict[str, list[list[float]]] = field(default_factory=dict)
    figure_batches: list[tuple[Tensor, list[Face]]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def groups(self, values: Sequence[float] | Tensor) -> dict[str, dict[str, float]]:
        """Count, mean, median and p90 of one value per face: of "all", then per pair of tones."""
        pairs = by_group(values, [tone_pair(tone) for tone in self.tones])
        return by_group(values, ["all"] * len(values)) | pairs

    def summary(self, method: str, measure: str) -> dict[str, float]:
        """Count, mean, median and p90 over all faces."""
        return self.groups(self.values[method][measure])["all"]

    def better(self, method: str, than: str, measure: str) -> int:
        """On how many faces the error of `method` is below that of `than`."""
        ours, theirs = (self.values[m][measure] for m in (method, than))
        return sum(a < b for a, b in zip(ours, theirs, strict=True))

    def own_nearest(self, method: str) -> list[bool]:
        """For each rendering: is its own photo the nearest of all?"""
        matrix = np.asarray(self.distances[method])
        return (matrix.argmin(1) == np.arange(len(matrix))).tolist()

    def rank_correlation(self, method: str, name: str) -> float:
        """Spearman's, of the ratings and one of SKIN: 1 where both have the photos in one order.

        Over the rated photos; NaN for fewer than three, and where either has but one value.
        """
        from scipy.stats import spearmanr  # slow to import

        pairs = [
            (-self.ratings[photo], value)  # 1 is the lightest
            for photo, value in zip(self.names, self.skin[method][name], strict=True)
            if photo in self.ratings and math.isfinite(value)
        ]
        if len(pairs) < 3 or min(len(set(values)) for values in zip(*pairs, strict=True)) < 2:
            return math.nan
        return float(spearmanr(*zip(*pairs, strict=True))[0])

    def measured(self) -> list[str]:
        """The measures that were taken, in the order of MEASURES."""
        return [name for name in MEASURES if name in self.values[ENCODER]]

    def as_dict(self) -> dict:
        """Plain numbers and names; what was not measured is None."""
        other = ("model", "photos", "names", "scan_to_mesh", "figure_batches")
        content = {name: value for name, value in vars(self).items() if name not in other}
        content |= {"version": __version__, "faces": self.names, "summary": {}}
        content |= {"scan_to_mesh_mm": self.scan_to_mesh, "encoder_better": {}}
        for method, measures in self.values.items():
            groups = {name: self.groups(values) for name, values in measures.items()}
            content["summary"][method] = {
                name: {"all": row.pop("all"), "by_tone": row} for name, row in groups.items()
            }
            if method != ENCODER:
                better = {name: self.better(ENCODER, method, name) for name in self.measured()}
                content["encoder_better"][method] = better
        augmented = self.measured() if AUGMENTED in self.values else []
        content["augmented_better"] = {n: self.better(AUGMENTED, ENCODER, n) for n in augmented}
        content["rank_correlation"] = {
            method: {name: self.rank_correlation(method, name) for name in SKIN}
            for method in (self.skin if self.ratings else ())
        }
        content["own_nearest"] = {m: sum(self.own_nearest(m)) for m in self.distances}
        content["area_shares"] = area_shares(self.model) if self.detail else {}
        return _without_nan(content)

    def figure(self) -> Figure:
        """The first FIGURE_FACES faces: photo, faces laid on it, their shapes, the true shape."""
        on_photos = 1 if self.detail is None else 2
        rows = [row for batch in self.figure_batches for row in _panels(*batch, on_photos)]
        rows = rows[:FIGURE_FACES]
        legend = ["photo", "the encoder's face on it", "its shape", "the true shape"]
        if self.detail is not None:
            legend = ["photo", "encoder", "augmented", "shape", "augmented shape", "true shape"]
        return gallery(
            [panel for row in rows for panel in row],
            title=f"{self.encoder}: {self.what}\n{', '.join(legend[: len(rows[0])])}",
            columns=(2 if len(rows) > 4 else 1) * len(rows[0]),
            size=1.7,
        )


def tone_pair(tone: int) -> str:
    """Monk's tones two by two: "1-2" ... "9-10"."""
    first = (tone - 1) // 2 * 2 + 1
    return f"{first}-{first + 1}"


@torch.no_grad()
def _panels(photos: Tensor, faces: list[Face], on_photos: int) -> list[list[np.ndarray]]:
    """A row of pictures per photo: itself, the first `on_photos` faces on it, all their shapes."""
    rows = []
    for i, photo in enumerate(photos):
        ours = []
        for face in faces:
            tensors = {k: v[i : i + 1] for k, v in vars(face).items() if isinstance(v, Tensor)}
            ours.append(replace(face, **tensors))
        laid_on = [on_photo(photo[None], face, CROP_SIZE) for face in ours[:on_photos]]
        rows.append([to_uint8(photo), *laid_on, *(show_face(f, "shape", CROP_SIZE) for f in ours)])
    return rows


def _without_nan(value):
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
