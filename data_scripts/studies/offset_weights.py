"""Fits a small U-Net to three faces again and again, Eq. 12's weights turned up and down.

    tensors, facts = sweep(bench_on("cuda", width=8, steps=100, rate=1e-2, subdivision=1), runs())

The pixel and landmark terms alone, each of Eq. 8 to 11 beside them at weights a decade apart, all
together, and all but one; as the report's sums and as the library's means. Eq. 6 is left out. The
faces are the sample photo and two rendered ones, whose truth is known. The file holds numbers per
fit (a row per face) and one JPEG (PANELS across, faces down).

Notebook 08, Eq. 8 to 12.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import Tensor

from facerecon_lib.augmented.branch import AugmentedFaces, BaseBranch, BaseFaces, augment
from facerecon_lib.augmented.branch import base_faces as base_of
from facerecon_lib.augmented.objective import MAP_TERMS, SMOOTH_TERMS, AugmentedObjective
from facerecon_lib.course.nb08_regularisation.sweep import CAPTIONS, FORMAT, MEASURES
from facerecon_lib.course.unet_fit import fit_unet
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.measures import photometric_error, similarity_align
from facerecon_lib.face.mesh import face_normals, vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file, write_weights
from facerecon_lib.fitting.losses import mesh_symmetry_loss
from facerecon_lib.fitting.weights import AUGMENTED_REPORT_WEIGHTS, AUGMENTED_WEIGHTS
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet, OffsetMaps
from facerecon_lib.photos import detection
from facerecon_lib.photos.crop import align
from facerecon_lib.pictures.faces import PAPER, in_studio, to_uint8, turned_mesh
from facerecon_lib.rendering.synthesis import Face, pose_and_light

SEED = 8
FACES = (604, 755)  # of RenderedFaces(seed=SEED): one frontal, one turned by 30 degrees
EQUATIONS = {
    "Eq. 8": ("texture_l2", "displacement_l2"),
    "Eq. 9": ("texture_symmetry", "displacement_symmetry"),
    "Eq. 10": ("smooth_shape",),
    "Eq. 11": ("smooth_albedo",),
}
REGULARISERS = (*MAP_TERMS, *SMOOTH_TERMS)
TERMS = ("pixel", "landmark", *REGULARISERS)
NUMBERS, PANELS = tuple(MEASURES), tuple(CAPTIONS)
PRINTED = ("photometric", "flipped_percent")
PANEL, CLOSE = 144, 300  # px; CLOSE: of the photo, the base, and the fits of CLOSE_UP
CLOSE_UP = ("alone", "full")
TURN = 35.0  # degrees, of the panel "shape"
TEXTURE_RANGE, DISPLACEMENT_RANGE = 0.3, 20.0


@dataclass(frozen=True)
class Way:
    """A reading of Eq. 12: its weights, and sums or means, of what."""

    reduction: str
    symmetry: str
    smooth_on: str
    weights: Mapping[str, float]
    multiples: Mapping[str, tuple[float, ...]]


def decades(first: int) -> tuple[float, ...]:
    """Six powers of ten from 10**first on."""
    return tuple(10.0**n for n in range(first, first + 6))


REPORT, BALANCED = (
    {name: weights[name] for name in TERMS}
    for weights in (AUGMENTED_REPORT_WEIGHTS, AUGMENTED_WEIGHTS)
)
UP = dict.fromkeys(EQUATIONS, decades(0)) | {"Eq. 10": decades(-2)}
WAYS = {
    "report": Way("sum", "image", "face", REPORT, UP),
    "balanced": Way("mean", "mesh", "offsets", BALANCED, dict.fromkeys(EQUATIONS, decades(-2))),
}


@dataclass(frozen=True)
class Run:
    """One fit. kind: "alone", "mild" (alone, at a fifth of the rate), "term", "full" or "without";
    multiple: of the way's weights."""

    way: str
    kind: str
    equation: str = ""
    multiple: float = 1.0
    symmetry: str = ""  # of the way, unless said
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        parts = [self.way, self.kind, self.equation, self.symmetry]
        parts += [f"x {self.multiple:g}"] if self.kind == "term" else []
        return " ".join(part for part in parts if part)


def runs(quick: bool = False) -> Iterator[Run]:
    """All fits; `quick`: every kind of them, at few weights."""
    for way, reading in WAYS.items():
        full = dict(reading.weights)
        bare = {name: full[name] for name in ("pixel", "landmark")}
        for kind, weights in (("alone", bare), ("mild", bare), ("full", full)):
            yield Run(way, kind, weights=weights)
        for equation, names in EQUATIONS.items():
            left = {name: weight for name, weight in full.items() if name not in names}
            yield Run(way, "without", equation, weights=left)
        variants = [(equation, "") for equation in EQUATIONS]
        variants += [("Eq. 9", "image")] if way == "balanced" else []
        for equation, symmetry in variants:
            multiples = reading.multiples[equation]
            for multiple in multiples[1:4:2] if quick else multiples:
                added = {name: multiple * full[name] for name in EQUATIONS[equation]}
                yield Run(way, "term", equation, multiple, symmetry, bare | added)


# The faces --------------------------------------------------------------------------------------


def three_faces(model: MorphableModel) -> tuple[FaceBatch, FaceBatch]:
    """Photo, frontal and turned face as one batch, and the two rendered ones with their truth."""
    rendered = RenderedFaces(model, SEED, clean=True, wrinkles=True).batch(torch.tensor(FACES))
    crop = align(detection.sample_photo().pixels, detection.sample_detection().landmarks)
    fields = ("image", "valid", "landmarks")
    tensors = (torch.cat([getattr(part, f) for part in (crop, rendered)]) for f in fields)
    return FaceBatch(*tensors, "2d", ["the sample photo", *rendered.names]), rendered


@dataclass(eq=False)
class Bench:
    """What every fit shares."""

    model: MorphableModel
    batch: FaceBatch
    base: BaseFaces
    rendered: FaceBatch
    width: int
    steps: int
    rate: float

    def objective(self, run: Run, weights: Mapping[str, float]) -> AugmentedObjective:
        way = WAYS[run.way]
        reading = dict(reduction=way.reduction, symmetry=run.symmetry or way.symmetry)
        return AugmentedObjective(self.model, weights, smooth_on=way.smooth_on, **reading)

    def fit(self, run: Run) -> AugmentedFaces:
        """A fresh U-Net, always the same at the start, fitted to the faces."""
        torch.manual_seed(SEED)
        unet = DoubleHeadUNet(self.width, norm="group").to(self.model.device)
        objective = self.objective(run, run.weights)
        rate = self.rate / 5 if run.kind == "mild" else self.rate
        return fit_unet(unet, self.batch, self.base, objective, self.steps, rate).found


def bench_on(device: str, width: int, steps: int, rate: float, subdivision: int) -> Bench:
    """What ships, on `device`. The faces are made on the CPU, to be the same everywhere."""
    model = MorphableModel.load(shipped_file("face_model.safetensors"), subdivision)
    batch, rendered = three_faces(model)
    encoder = load_encoder(shipped_file("base_encoder.safetensors"), model)
    base = BaseBranch(encoder, model, light="photo")(batch)
    model = model.to(device)
    base = base_of(model, base.coefficients.to(device), batch.image.shape[-1])
    return Bench(model, batch.to(device), base, rendered.to(device), width, steps, rate)


# Measures ---------------------------------------------------------------------------------------


@torch.no_grad()
def measures(bench: Bench, faces: AugmentedFaces) -> Tensor:
    """NUMBERS of each face: (face, number)."""
    model, base, face, offsets = bench.model, faces.base.face, faces.face, faces.offsets
    image, mask = face.render(near=None)
    mask = mask * bench.batch.valid
    apart = (face.landmarks("2d") - bench.batch.landmarks).norm(dim=-1).mean(1)
    length = offsets.displacement.norm(dim=-1)
    normals, before = (face_normals(f.vertices, model.faces) for f in (face, base))
    cosine = (normals * before).sum(-1)
    a, b = model.faces[:, [0, 1, 2]].flatten(), model.faces[:, [1, 2, 0]].flatten()
    step = (offsets.displacement[:, a] - offsets.displacement[:, b]).square().sum(-1)

    def asymmetry(maps: Tensor, of_shape: bool) -> Tensor:
        losses = [mesh_symmetry_loss(one[None], model.mirror, of_shape) for one in maps]
        return torch.stack(losses).sqrt()

    rows = {
        # mean absolute difference of colour in [0, 1]; of landmarks, pixels of the crop
        "photometric": photometric_error(image.clamp(0, 1), bench.batch.image, mask),
        "landmark_px": apart,
        "displacement_max_mm": length.amax(1),
        "displacement_rms_mm": length.square().mean(1).sqrt(),
        "texture_rms": offsets.texture.square().mean((1, 2)).sqrt(),
        # triangles turned by more than a right angle from their place on the base face, and by how
        # much on average; then what neighbours differ by
        "flipped_percent": 100 * (cosine < 0).float().mean(1),
        "bend_deg": torch.rad2deg(cosine.clamp(-1, 1).acos()).mean(1),
        "rough_mm": step.mean(1).sqrt(),
        "asymmetry_mm": asymmetry(offsets.displacement, True),
        "asymmetry_colour": asymmetry(offsets.texture, False),
        **truth_errors(bench, faces),
    }
    return torch.stack([rows[name] for name in NUMBERS], 1).cpu()


def truth_errors(bench: Bench, faces: AugmentedFaces) -> dict[str, Tensor]:
    """Vertices (mm, aligned), normals (degrees) and unlit albedo against the truth, over the skin
    that the base face shows; nan for the photo."""
    model, truth = bench.model, bench.rendered
    vertices, albedo = truth.true_vertices, truth.true_albedo
    weight = (model.regions["skin"] * (1 - model.regions["border"])) * faces.offsets.seen[1:]
    weight, face = weight / weight.sum(1, keepdim=True), faces.face
    moved = similarity_align(face.vertices[1:], vertices)
    turned = axis_angle_to_matrix(truth.truth.rotation)
    normals = vertex_normals(vertices, model.faces) @ turned.mT
    cosine = (face.normals[1:] * normals).sum(-1).clamp(-1, 1)
    rows = {
        "truth_mm": (moved - vertices).norm(dim=-1),
        "truth_normals_deg": torch.rad2deg(cosine.acos()),
        "truth_albedo": (face.albedo[1:] - albedo).abs().mean(-1),
    }
    sums = {name: (weight * value).sum(1) for name, value in rows.items()}
    return {name: F.pad(value, (1, 0), value=math.nan) for name, value in sums.items()}


# Pictures ---------------------------------------------------------------------------------------


@torch.no_grad()
def panels(face: Face, maps: OffsetMaps, size: int) -> Tensor:
    """PANELS of each face: (face, panel, 3, size, size) in [0, 1].

    texture: 0.5 is no change, 0 and 1 are TEXTURE_RANGE down and up. displacement: its length as a
    grey, the root of the share of DISPLACEMENT_RANGE, so that tenths of a millimetre show.
    """
    texture = 0.5 + maps.texture / (2 * TEXTURE_RANGE)
    length = maps.displacement.norm(dim=1, keepdim=True) / DISPLACEMENT_RANGE
    rows = [
        _shown(face, face.colours, size),
        _shown(face, face.albedo, size),
        turned_shapes(face, size),
        _resized(texture, size),
        _resized(length.clamp(max=1).sqrt().expand(-1, 3, -1, -1), size),
    ]
    return torch.stack(rows, 1).clamp(0, 1).cpu()


def turned_shapes(face: Face, size: int) -> Tensor:
    """Grey shapes under a studio light, all turned by TURN from the front, filling the view."""
    mean = face.model.mean  # in the mean face's box: a spike must not shrink the face
    pairs = zip(face.vertices[:, None], face.albedo[:, None], strict=True)
    views = [turned_mesh(face.model, *pair, TURN, middle_of=mean) for pair in pairs]
    return torch.cat([_shown(view, in_studio(view.normals), size) for view in views])


def _shown(face: Face, colours: Tensor, size: int) -> Tensor:
    image, mask = face.render(2 * size, attributes=colours.clamp(0, 1).contiguous(), near=None)
    return F.avg_pool2d(image + (1 - mask) * PAPER, 2)


def _resized(image: Tensor, size: int) -> Tensor:
    smaller = size < image.shape[-1]
    return F.interpolate(image, (size, size), mode="area" if smaller else "bilinear")


def jpeg(rows: Tensor) -> Tensor:
    """(face, panel, 3, h, w) as one JPEG, its bytes."""
    sheet = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    out = io.BytesIO()
    Image.fromarray(to_uint8(sheet)).save(out, "JPEG", quality=86, optimize=True)
    return torch.frombuffer(bytearray(out.getvalue()), dtype=torch.uint8)


def true_panels(bench: Bench) -> Tensor:
    """What would be right: the photos, and of the rendered faces true skin and shape."""
    vertices, albedo = bench.rendered.true_vertices, bench.rendered.true_albedo
    truth = pose_and_light(bench.model, vertices, albedo, bench.rendered.truth)
    rows = panels(truth, OffsetMaps(*2 * [torch.zeros_like(bench.rendered.image)]), CLOSE)
    rows = torch.cat([torch.full_like(rows[:1], PAPER), rows])
    rows[:, 0] = _resized(bench.batch.image, CLOSE).cpu()
    return rows


# The whole --------------------------------------------------------------------------------------


def sweep(bench: Bench, todo: list[Run]) -> tuple[dict[str, Tensor], list[dict]]:
    """All fits: tensors of the file, and what each row of them is."""
    start = augment(bench.base, OffsetMaps(*2 * [torch.zeros_like(bench.batch.image)]))
    pictures = {"picture.wanted": jpeg(true_panels(bench))}
    pictures["picture.base"] = jpeg(panels(start.face, start.maps, CLOSE))
    numbers, facts = [], []
    for i, run in enumerate(track(todo, "fits")):
        try:
            faces = bench.fit(run)
        except FloatingPointError as problem:
            raise SystemExit(f"{run.name}: {problem}; nothing was written") from None
        numbers.append(measures(bench, faces))
        size = CLOSE if run.kind in CLOSE_UP else PANEL
        pictures[f"picture.{i}"] = jpeg(panels(faces.face, faces.maps, size))
        facts.append({**asdict(run), "name": run.name})
        error, flipped = (numbers[-1][:, NUMBERS.index(n)] for n in PRINTED)
        print(f"{run.name:38s} photometric {error.mean():.4f}  flipped {flipped.max():5.2f} %")
    tensors = {"numbers": torch.stack(numbers), "base_numbers": measures(bench, start)}
    return tensors | pictures, facts


def write_sweep(out: Path, device: str, only: str, quick: bool, **settings) -> None:
    """Do the fits whose names hold `only`, and write them; quick: few weights, the coarse mesh.

    settings: steps, rate, width and subdivision.
    """
    todo = [run for run in runs(quick) if only in run.name]
    if not todo:
        raise SystemExit(f"--only {only!r}: no fit is called so, as 'report alone' is")
    settings |= {"subdivision": 0} if quick else {}
    bench = bench_on(device, **settings)
    tensors, facts = sweep(bench, todo)
    yaw = torch.rad2deg(bench.rendered.truth.rotation[:, 1])
    lists = {
        "runs": facts,
        "faces": bench.batch.names,
        "yaw_deg": yaw.round().int().tolist(),
        "tones": bench.rendered.tone.tolist(),
        "numbers": NUMBERS,
        "panels": PANELS,
        "ranges": {"texture": TEXTURE_RANGE, "displacement_mm": DISPLACEMENT_RANGE},
        "settings": settings | {"quick": quick},
        "weights": {name: dict(way.weights) for name, way in WAYS.items()},
    }
    story = {
        "format": FORMAT,
        "source": "data_scripts/sweep_offset_weights.py; faces: NASA's portrait of Eileen Collins "
        f"(public domain) and RenderedFaces(seed={SEED}, clean, details) {FACES}",
        "torch": torch.__version__.partition("+")[0],
        "device": device.partition(":")[0],
        **{name: json.dumps(value) for name, value in lists.items()},
    }
    write_weights(out, tensors, story)
    print(f"{out.name}: {len(facts)} fits, {out.stat().st_size / 1e6:.2f} MB")
