"""From aligned portraits to what is seen of each: colours at the model's vertices, pose and cues.

    portraits = observe("shards", model)                 # Portraits, of all but the part "test"

The 478 points place the model; what they are still off moves the places at which colours are read,
so that lips, lids and brows of all people lie on the same vertices. Notebook 01, Eq. 1 and 2.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from facerecon_lib.cli.console import error_console
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import (
    CROP_SIZE,
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    ndc_to_pixels,
    project_ndc,
)
from facerecon_lib.face.dense_points import FIRST_IRIS
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.dense import FROM_MEAN, fit_points
from facerecon_lib.fitting.gaze import find_gaze
from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.photos.face_mesh import face_points
from facerecon_lib.photos.face_mesh_network import one_thread
from facerecon_lib.photos.landmarks import landmarks_from
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.rendering.synthesis import Face, synthesise

BATCH = 25
REACH = 7.0  # mm about a vertex in which the points' errors are averaged
IRIS_SLIP = 3.0  # pixels by which an eyeball's colours may be moved at most
SMILE = "mouthSmileLeft", "mouthSmileRight"
SCLERA = 6.5, 11.0  # mm from the middle of the iris
DARKEST = 0.03  # of a cue, before its logarithm


@dataclass
class Portraits:
    """Of N portraits: what is seen at the model's V vertices, and what hints at the exposure."""

    keys: list[str]
    people: list[str]
    colours: Tensor  # (N, V, 3) uint8, sRGB
    weights: Tensor  # (N, V) uint8: how squarely a vertex is seen, 255 in full, 0 hidden
    normals: Tensor  # (N, V, 3) int8, viewer axes
    identity: Tensor  # (N, modes): of the mean face moved to the points
    smile: Tensor  # (N,) 0 at rest, 1 in full
    cues: Tensor  # (N, cue): see `_cues`
    sharpness: Tensor  # (N,) of the photo
    colourful: Tensor  # (N,) 0 where it is black and white
    score: Tensor  # (N,) of the detector

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: Tensor) -> "Portraits":
        """Some of them, by number."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Portraits(**{
            name: [part[i] for i in rows] if isinstance(part, list) else part[rows]
            for name, part in parts.items()
        })  # fmt: skip


def observe(shards: str | Path, model: MorphableModel) -> Portraits:
    """All portraits of the shards but those of the part "test", by person.

    Raises ShardsError for unusable shards, and FaceMeshError without the networks' file.
    """
    carry = _carry(model)
    batches = [*portrait_batches(shards)]
    shown = track(batches, "observing", console=error_console, transient=True)
    with one_thread():  # threads wait for one another over many small products
        parts = [_observed(batch, model, carry) for batch in shown]
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Portraits)]
    return Portraits(*(
        [*chain(*column)] if isinstance(column[0], list) else torch.cat(column)
        for column in columns
    ))  # fmt: skip


def portrait_batches(shards: str | Path) -> Iterator[FaceBatch]:
    """Those of the parts that are learned from, by person. Raises ShardsError."""
    for part in ("train", "validation"):
        yield from PhotoShards(shards, BATCH, part=part, split="person", complete=True)


def _carry(model: MorphableModel) -> Float[Tensor, "vertex 468"]:
    """From the points' errors to the vertices: a mean of the near ones, nothing far from all."""
    places = (model.mean[model.dense.vertices] + model.dense.offsets)[:FIRST_IRIS]
    near = torch.exp(-((torch.cdist(model.mean, places) / REACH) ** 2) / 2)
    return near / (near.sum(1, keepdim=True) + 0.3)


@torch.no_grad()
def _observed(batch: FaceBatch, model: MorphableModel, carry: Tensor) -> Portraits:
    five = [np.stack([x[part].mean(0) for part in FIVE]) for x in batch.landmarks.numpy()]
    mesh = face_points([to_uint8(image) for image in batch.image], five)
    points = torch.from_numpy(mesh.points)
    start = start_from_landmarks(model, torch.from_numpy(landmarks_from(mesh.points)))
    c = fit_points(model, points, start, FROM_MEAN)
    c = replace(c, gaze=find_gaze(model, c, points).turns)
    face = synthesise(model, c)
    colours, weight = _read_colours(face, batch, points, model, carry, c)
    actions = dict(zip(model.controls, model.actions(c.expression).T, strict=True))
    grey = batch.image.mean(1)
    inner = slice(60, 180), slice(50, 170)
    edges = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1]
    edges = (edges - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:])[:, *inner].abs().mean((1, 2))
    tint = batch.image.amax(1) - batch.image.amin(1)
    return Portraits(
        keys=[name.rpartition("/")[2] for name in batch.names],
        people=batch.person,
        colours=(colours.clamp(0, 1) * 255).round().byte(),
        weights=(weight * 255).round().byte(),
        normals=(face.normals * 127).round().char(),
        identity=c.identity,
        smile=sum(actions[name] for name in SMILE) / len(SMILE),
        cues=_cues(batch, colours, weight, model),
        sharpness=edges / grey[:, *inner].mean((1, 2)),
        colourful=tint[:, *inner].mean((1, 2)),
        score=torch.from_numpy(mesh.score),
    )


def _read_colours(
    face: Face, batch: FaceBatch, points: Tensor, model: MorphableModel, carry: Tensor, c
) -> tuple[Float[Tensor, "batch vertex 3"], Float[Tensor, "batch vertex"]]:
    """The photo's colour at each vertex, once the points lie on theirs, and how squarely it is
    seen."""
    v_camera, dense = face.v_camera, model.dense
    pixels = ndc_to_pixels(project_ndc(v_camera), CROP_SIZE)
    turn = axis_angle_to_matrix(c.rotation)
    offsets = dense.offsets[:FIRST_IRIS] @ turn.mT @ MODEL_TO_CAMERA.T * c.scale[:, :, None]
    placed = v_camera[:, dense.vertices[:FIRST_IRIS]] + offsets
    errors = points[:, :FIRST_IRIS] - ndc_to_pixels(project_ndc(placed), CROP_SIZE)
    move = torch.einsum("vk,bkx->bvx", carry, errors)
    for eye, rows in enumerate(model.eyeballs):
        first = FIRST_IRIS + 5 * eye
        seen = points[:, first : first + 5].mean(1)
        iris = rows[model.mean[rows, 2].topk(6).indices]
        slip = (seen - pixels[:, iris].mean(1)).clamp(-IRIS_SLIP, IRIS_SLIP)
        move[:, rows] = slip[:, None]
    half = CROP_SIZE / 2
    pictures = torch.cat([batch.image, batch.valid], 1)
    grid = ((pixels + move) / half - 1)[:, None]
    read = F.grid_sample(pictures, grid, align_corners=False)[:, :, 0].mT
    depth, _ = face.render(CROP_SIZE, attributes=v_camera[..., 2:], near=None)
    grid = (pixels / half - 1)[:, None]
    nearest = F.grid_sample(depth, grid, mode="nearest", align_corners=False)[:, 0, 0]
    free = (v_camera[..., 2] < nearest + 2.0) & (read[..., 3] > 0.99)
    return read[..., :3], face.normals[..., 2].clamp(min=0) * free


def log_opponents(colours: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """Logarithms: the mean of red, green and blue, red over green, and blue over green."""
    red, green, blue = colours.clamp(min=DARKEST).log().unbind(-1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - green], -1)


def from_log_opponents(values: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
    """The colours, or the gains, of such logarithms."""
    mean, red, blue = values.unbind(-1)
    green = mean - (red + blue) / 3
    return torch.stack([green + red, green, green + blue], -1).exp()


def _cues(
    batch: FaceBatch, colours: Tensor, weight: Tensor, model: MorphableModel
) -> Float[Tensor, "batch 20"]:
    """What tells a photo's exposure and not the person's skin: the background in both upper
    corners, the whites of the eyes, the teeth, and the brightest of what is worn; logarithms."""
    image = batch.image
    rows, width, corner = slice(8, 40), CROP_SIZE, slice(6, 34)
    sides = image[:, :, rows, corner], image[:, :, rows, width - 34 : width - 6]
    cues = [side.flatten(2).median(2).values for side in sides]
    whites = []
    for eyeball in model.eyeballs:
        places = model.mean[eyeball]
        iris = places[places[:, 2].topk(6).indices].mean(0)
        away = (places - iris)[:, :2].norm(dim=1)
        whites.append(eyeball[(away > SCLERA[0]) & (away < SCLERA[1])])
    whites = torch.cat(whites)
    teeth = (model.regions["mouth_interior"] > 0.5).nonzero()[:, 0]
    seen = colours[:, whites].mean(-1) - 9 * (weight[:, whites] < 0.3)
    for place, light, count in (
        (whites, seen, max(len(whites) // 8, 6)),
        (teeth, colours[:, teeth].mean(-1), 30),
    ):
        brightest = place[light.topk(count, 1).indices]
        cues.append(colours.gather(1, brightest[..., None].expand(-1, -1, 3)).mean(1))
    worn = image[:, :, 185:].flatten(2)
    brightest = worn.mean(1).topk(worn.shape[2] // 20, 1).indices
    cues.append(worn.gather(2, brightest[:, None].expand(-1, 3, -1)).mean(2))
    opponents = [log_opponents(cue) for cue in cues]
    return torch.cat([*opponents, *(o[:, :1].square() for o in opponents)], 1)
