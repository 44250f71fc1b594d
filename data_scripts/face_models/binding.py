"""Binds a face model to MediaPipe's 478 points, by renders whose vertices are known.

    print(bind_file(Path("ict.safetensors"), count=200))   # writes the file anew, with the points

For each point: the vertex and the offset, fixed to the head, that explain best where the network
sees the point on rendered faces, a quarter of them with closed eyes and a quarter with open mouths,
where the model names such actions. Eyeballs and the mouth's inside take no part: points of lids
bound to an eyeball fit as well, and then no eye ever closes. The irises' points stay unbound.
Notebook 05, section 2.1.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from facerecon_lib.cli.console import error_console
from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import RenderedFaces, flattened
from facerecon_lib.data.rendered.random_faces import random_coefficients, relief
from facerecon_lib.face.camera import (
    DEFAULT_FOV,
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    ndc_to_pixels,
    pose,
    project_ndc,
)
from facerecon_lib.face.dense_points import FIRST_IRIS, OUTER_EYES, POINTS, DensePoints
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.photos.face_mesh import face_points
from facerecon_lib.photos.face_mesh_network import one_thread
from facerecon_lib.pictures.faces import to_uint8

SIZE, MARGIN = 320, 1.9  # of the renders: pixels, and as of RenderedFaces
TURNS = 0.3, 0.6, 0.25  # radians at most: pitch, yaw, roll
NEAR = 160  # vertices tried for a point
OFFSET_COST = 0.3  # of a squared offset, beside the share of the points' errors that it moves
HUBER, ROUNDS = 2.0, 4
UNBOUND = 1e3  # the noise of an iris


def bind_file(path: Path, count: int, seed: int = 71) -> str:
    """Add the points to a model's file, by `count` renders; how well, in words.

    A tenth of the faces takes no part and judges. Raises ModelError, and FaceMeshError without the
    networks' file.
    """
    model = MorphableModel.load(path)
    with one_thread():
        renders = [*observe(model, coarse_size(path), count, seed)]
        marks, vertices, jacobian = (torch.cat(parts) for parts in zip(*renders, strict=True))
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        test, train = order[: count // 10], order[count // 10 :]
        dense = bind(model, marks[train], vertices[train], jacobian[train])
        away = errors(dense, marks[test], vertices[test], jacobian[test]).norm(dim=-1)
    with safe_open(path, "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    parts |= {f"dense_{name}": value for name, value in vars(dense).items()}
    parts["dense_vertices"] = parts["dense_vertices"].int()
    with write_whole(path) as partial:
        save_file({name: value.contiguous() for name, value in parts.items()}, partial, metadata)
    long = dense.offsets[:FIRST_IRIS].norm(dim=1).median()
    return (
        f"bound to 478 points (offsets {long:.1f} mm): on {len(test)} faces that took no part, "
        f"{away.median():.1%} of the outer eye distance off (median), {away.mean():.1%} (mean)"
    )


def coarse_size(path: Path) -> int:
    """How many vertices the mesh has before its subdivision: every level has them, first of all."""
    return len(MorphableModel.load(path, 0).mean)


@torch.no_grad()
def observe(model: MorphableModel, coarse: int, count: int, seed: int) -> Iterator[tuple]:
    """Batches of the points (B, 478, 2) and the first `coarse` vertices (B, V, 2) in pixels, and of
    d pixel / d mm of the model's frame in the middle of the head (B, 2, 3)."""
    faces = RenderedFaces(model, seed, size=SIZE, margin=MARGIN)
    parts = [*_telling_faces(model, count, seed).split(20)]
    for numbers in track(parts, "binding", console=error_console, transient=True):
        draws = CountedRandom(seed, numbers)
        rotation = draws.uniform("turned", 3, low=-1, high=1) * draws.fixed(*TURNS)
        batch, keep = faces.batch(numbers, rotation), relief(draws)
        c = batch.truth
        v_camera = pose(batch.true_vertices, c.rotation, c.scale, c.translation)
        pixels = ndc_to_pixels(project_ndc(flattened(v_camera, c, keep)), SIZE)
        five = [
            np.stack([p[part].mean(0) for part in FIVE]) for p in pixels[:, model.landmarks].numpy()
        ]
        mesh = face_points([to_uint8(image) for image in batch.image], five)
        x, y, z = c.translation.unbind(1)
        per_mm = SIZE / 2 / np.tan(np.radians(DEFAULT_FOV / 2)) / z * c.scale[:, 0]
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        camera = torch.stack([-one, zero, keep * x / z, zero, -one, keep * y / z], 1).view(-1, 2, 3)
        turn = MODEL_TO_CAMERA @ axis_angle_to_matrix(c.rotation)
        yield (
            torch.from_numpy(mesh.points),
            pixels[:, :coarse],
            per_mm[:, None, None] * camera @ turn,
        )


def _telling_faces(model: MorphableModel, count: int, seed: int) -> Tensor:
    """Numbers of rendered faces: a quarter blink, a quarter open their mouths."""
    numbers = torch.arange(8 * count)
    actions = torch.cat([
        model.actions(random_coefficients(model, CountedRandom(seed, part), "train").expression)
        for part in numbers.split(500)
    ])  # fmt: skip
    blink, open_mouth = torch.zeros(2, len(numbers), dtype=torch.bool)
    for name, action in zip(model.controls, actions.T, strict=True):
        blink |= ("eyeBlink" in name) & (action > 0.5)
        open_mouth |= ("jawOpen" in name) & (action > 0.4)
    kinds = blink, open_mouth & ~blink
    parts = [numbers[kind][: count // 4] for kind in kinds]
    rest = numbers[~blink & ~open_mouth]
    return torch.cat([*parts, rest[: count - sum(map(len, parts))]])


def bind(
    model: MorphableModel,
    marks: Float[Tensor, "face 478 2"],
    vertices: Float[Tensor, "face vertex 2"],
    jacobian: Float[Tensor, "face 2 3"],
) -> DensePoints:
    """The vertex and the offset of each point: robust least squares over faces, for each vertex
    near it, and the best of them."""
    count = vertices.shape[1]
    inside = model.regions["eyeballs"][:count] + model.regions["mouth_interior"][:count] > 0.5
    skin = (~inside).nonzero()[:, 0]
    unit = (marks[:, OUTER_EYES[0]] - marks[:, OUTER_EYES[1]]).norm(dim=-1)[:, None, None]
    jacobian = jacobian / unit
    middle = [(places / unit).mean(0) for places in (marks, vertices[:, skin])]
    dense = DensePoints(
        torch.zeros(POINTS, dtype=torch.long),
        torch.zeros(POINTS, 3),
        torch.full((POINTS,), UNBOUND),
    )
    for point in range(FIRST_IRIS):
        far = (middle[0][point] - middle[1]).norm(dim=-1)
        near = far.topk(min(NEAR, len(skin)), largest=False).indices
        away = (marks[:, point, None] - vertices[:, skin[near]]) / unit
        weight = torch.ones(len(marks))
        for _ in range(ROUNDS):
            normal = torch.einsum("n,nij,nik->jk", weight, jacobian, jacobian)
            normal = normal + OFFSET_COST / 3 * normal.trace() * torch.eye(3)
            right = torch.einsum("n,nij,nvi->vj", weight, jacobian, away)
            offsets = torch.linalg.solve(normal, right.mT).mT
            cost = torch.einsum("n,nvi->v", weight, away.square()) - (right * offsets).sum(1)
            best = int(cost.argmin())
            left = away[:, best] - jacobian @ offsets[best]
            size = left.norm(dim=-1)
            weight = (HUBER * size.median() / size.clamp(min=1e-9)).clamp(max=1)
        dense.vertices[point], dense.offsets[point] = skin[near[best]], offsets[best]
        dense.noise[point] = (weight * size.square()).sum().div(2 * weight.sum()).sqrt()
    return dense


def errors(
    dense: DensePoints, marks: Tensor, vertices: Tensor, jacobian: Tensor
) -> Float[Tensor, "face 468 2"]:
    """From the bound points to those seen, in outer eye distances."""
    unit = (marks[:, OUTER_EYES[0]] - marks[:, OUTER_EYES[1]]).norm(dim=-1)[:, None, None]
    places = vertices[:, dense.vertices] + torch.einsum("nij,kj->nki", jacobian, dense.offsets)
    return ((marks - places) / unit)[:, :FIRST_IRIS]
