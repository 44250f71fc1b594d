"""How right a gaze is, from pixels to degrees: on rendered faces whose eyes are turned.

    python tests/benchmarks/gaze.py                      # the errors
    python tests/benchmarks/gaze.py --seed 911 --family train       # and the constants' own faces
    python tests/benchmarks/gaze.py --count 0 --shards SHARDS       # portraits that face the camera

Photos of 512 x 512 in the skins, light, hair and glasses of `RenderedFaces` pass through detector,
encoder and fit. Half-closed lids go with a look down, as people's do. An iris of which less than a
tenth is to be seen is closed, one of more than a quarter open. Below the table stands what tells
the GAIN and the DIVERGENCE of `fitting.gaze`, if rendered faces alone are asked: medians. Of people
who look into the camera, its direction from the fitted head is the truth.
"""

import io
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import track
from rich.table import Table
from torch import Tensor

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.data.rendered.random_faces import random_coefficients
from facerecon_lib.data.shards.files import find_shards, read_samples
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import DEFAULT_FOV, MODEL_TO_CAMERA, axis_angle_to_matrix, pose
from facerecon_lib.face.gaze import Gaze, angles, directions, eyeballs
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting import gaze as fitting
from facerecon_lib.fitting.dense import fit_points
from facerecon_lib.networks.encoder import Encoder, load_encoder
from facerecon_lib.networks.upright import encode_both_ways
from facerecon_lib.photos.crop import align, photo_to_crop
from facerecon_lib.photos.detection import DetectionError, detect
from facerecon_lib.photos.reading import Photo
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.rendering.renderer import render
from facerecon_lib.rendering.synthesis import pose_and_light

YAW, PITCH, EACH = 12.0, 6.0, 2.0  # degrees, s.d. of both eyes together and of each beside it
DROP, RISE = 25.0, 8.0  # degrees: how far eyes with closed lids look down, with wide ones up
IRIS = 0.42  # radians from its middle to its rim
CLOSED, OPEN = 0.1, 0.25  # shares of the iris that are seen
FAR = 5  # degrees, of readings that tell a gain


def random_gaze(model: MorphableModel, seed: int, numbers: Tensor, family: str) -> Gaze:
    """Of the rendered faces of these numbers, radians."""
    draws = CountedRandom(seed, numbers)
    actions = model.actions(random_coefficients(model, draws, family).expression)
    acts = {
        name: torch.stack(
            [actions[:, list(model.controls).index(f"{name}{side}")] for side in ("Left", "Right")]
        )
        for name in ("eyeBlink", "eyeWide")
    }
    yaw = draws.normal("gaze yaw", sd=YAW)
    pitch = draws.normal("gaze pitch", sd=PITCH)
    pitch = pitch - DROP * acts["eyeBlink"].amin(0) + RISE * acts["eyeWide"].amax(0)
    each = draws.normal("gaze of each eye", 2, 2, sd=EACH)
    return (torch.stack([yaw, pitch], -1)[:, None] + each).deg2rad()


def share_seen(batch: FaceBatch, model: MorphableModel) -> Tensor:
    """(B, 2) of each iris, of its disc; hair and glasses do not count."""
    c = batch.truth
    irises = torch.zeros(1, len(model.mean), 2)
    for side, eye in enumerate(eyeballs(model, c.identity)):
        x, y, z = (eye.points - eye.centre[:, None])[0].unbind(-1)
        irises[0, eye.rows, side] = (torch.atan2(torch.hypot(x, y), z) < IRIS).float()
    face = pose_and_light(model, batch.true_vertices, batch.true_albedo, c)
    picture, _ = render(face.v_camera, model.faces, irises, PHOTO_SIZE, near=None)
    per_mm = PHOTO_SIZE / 2 / math.tan(math.radians(DEFAULT_FOV / 2)) / c.translation[0, 2]
    radius = eye.radius[0] * math.sin(IRIS) * per_mm * c.scale[0, 0]
    return (picture > 0.5).float().sum((2, 3)) / (math.pi * radius**2)


@torch.no_grad()
def look(photo: Photo, model: MorphableModel, encoder: Encoder) -> tuple[fitting.Sight, Tensor]:
    """As `encode_face` does, and (1, 2) where the camera is, as a gaze; raises DetectionError."""
    detection = detect(photo)
    crop = align(photo.pixels, detection.landmarks)
    batch = FaceBatch(crop.image, crop.valid, crop.landmarks, detection.kind, [""])
    points = photo_to_crop(torch.from_numpy(detection.points), crop.matrix)[None]
    fitted = fit_points(model, points, encode_both_ways(encoder, model, batch))
    eyes = torch.stack([eye.centre for eye in eyeballs(model, fitted.identity)], 1)
    there = pose(eyes, fitted.rotation, fitted.scale, fitted.translation).mean(1)
    to_camera = -there[:, None] @ MODEL_TO_CAMERA @ axis_angle_to_matrix(fitted.rotation)
    return fitting.find_gaze(model, fitted, points), angles(to_camera[:, 0])


def main(
    count: Annotated[int, typer.Option(help="Faces to render.")] = 300,
    seed: int = 912,
    family: Annotated[str, typer.Option(help="train or held-out.")] = "held-out",
    shards: Annotated[Path | None, typer.Option(help="People who look into the camera.")] = None,
    every: Annotated[int, typer.Option(help="Take each of so many of the shards.")] = 8,
) -> None:
    """Errors in degrees."""
    torch.set_num_threads(1)
    model = MorphableModel.load()
    encoder = load_encoder(model=model)
    if count:
        rendered(model, encoder, count, seed, family)
    if shards is not None:
        portraits(model, encoder, shards, every)


def rendered(model: MorphableModel, encoder: Encoder, count: int, seed: int, family: str) -> None:
    """By the head's yaw and the lids."""
    faces = RenderedFaces(model, seed, family, size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    rows = []
    for number in track(range(count), console=error_console):
        numbers = torch.tensor([number])
        batch = faces.batch(numbers, gaze=random_gaze(model, seed, numbers, family))
        try:
            sight, _ = look(Photo(to_uint8(batch.image[0])), model, encoder)
        except DetectionError:
            continue
        head = batch.truth.rotation[:, 1].abs().rad2deg().expand(2)
        seen = share_seen(batch, model)[0]
        rows.append((batch.truth.gaze[0], sight.turns[0], sight.gaze[0], sight.seen[0], seen, head))
    truth, turns, gaze, told, seen, head = (torch.stack(part) for part in zip(*rows, strict=True))
    table = Table("eyes", "", "yaw", "pitch", "angle", title=f"{len(rows)} of {count} faces: °")
    kinds = {"open, head's yaw < 15°": head < 15, "15 to 35°": (head >= 15) & (head < 35)}
    kinds |= {"over 35°": head >= 35}
    kinds = {name: kind & (seen > 0.35) & told for name, kind in kinds.items()}
    kinds["half closed"] = (seen > CLOSED) & (seen <= 0.35) & told
    kinds["all"] = (seen > CLOSED) & told
    for name, kind in kinds.items():
        for what, values in (("reading", turns), ("gaze", gaze), ("straight ahead", 0 * gaze)):
            table.add_row(f"{name}: {int(kind.sum())}", what, *errors(values[kind], truth[kind]))
    out_console.print(table)
    closed, wide = seen < CLOSED, seen > OPEN
    out_console.print(
        f"{int((~told & closed).sum())} of {int(closed.sum())} closed eyes are told, "
        f"{int((~told & wide).sum())} of {int(wide.sum())} open ones are called closed"
    )
    sure = (told & (seen > OPEN)).all(1)
    read, true = turns[sure].mean(1), truth[sure].mean(1)
    apart = (turns - truth)[sure, :, 0]
    for axis, name in enumerate(("yaw", "pitch")):
        far = read[:, axis].abs().rad2deg() > FAR
        gain = (true[far, axis] / read[far, axis]).median()
        out_console.print(f"{name}: truth over reading {gain:.2f}, over those beyond {FAR}°")
    out_console.print(f"divergence {(apart[:, 1] - apart[:, 0]).median().rad2deg() / 2:.1f}°")


def portraits(model: MorphableModel, encoder: Encoder, shards: Path, every: int) -> None:
    """The mean of both eyes, from the direction of the camera."""
    rows = []
    for photo in each_photo(shards, every):
        try:
            sight, camera = look(photo, model, encoder)
        except DetectionError:
            continue
        if sight.seen.all():
            rows.append(torch.cat([sight.turns[0], sight.gaze[0], camera]).rad2deg())
    turns, gaze, camera = torch.stack(rows).split([2, 2, 1], 1)
    table = Table("", "yaw", "pitch", "eyes apart", title=f"{len(rows)} portraits: °")
    for name, eyes in (("reading", turns), ("gaze", gaze), ("straight ahead", 0 * gaze)):
        yaw, pitch = (eyes.mean(1) - camera[:, 0]).unbind(1)
        middle = pitch.median()
        table.add_row(
            name,
            f"{yaw.abs().median():.1f}, {yaw.abs().quantile(0.9):.1f}",
            f"{middle:+.1f} ± {(pitch - middle).abs().median():.1f}",
            f"{(eyes[:, 1] - eyes[:, 0]).median(0).values[0]:.1f}",
        )
    out_console.print(table)


def each_photo(shards: Path, every: int) -> Iterator[Photo]:
    samples = (
        sample
        for shard in find_shards(shards)
        for sample in read_samples(shard.address, lambda *problem: None)
    )
    for sample in islice(samples, 0, None, every):
        image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
        yield Photo(np.asarray(image), sample["__key__"])


def errors(values: Tensor, truth: Tensor) -> list[str]:
    """Median and ninth decile of yaw's, of pitch's, and of the angle between both directions."""
    if not len(values):
        return ["", "", ""]
    cosine = (directions(values[None]) * directions(truth[None])).sum(-1)[0]
    off = [*(values - truth).abs().unbind(1), cosine.clamp(-1, 1).arccos()]
    return [f"{o.rad2deg().median():.1f}, {o.rad2deg().quantile(0.9):.1f}" for o in off]


if __name__ == "__main__":
    typer.run(main)
