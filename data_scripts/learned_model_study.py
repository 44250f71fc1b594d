"""How many people, and how many frames of each, a basis needs that is learned from landmarks.

    python data_scripts/learned_model_study.py --out facerecon_lib/assets/learned_model_study.json

A cheap stand-in for notebook 11's training: the same siamese average, nodes and losses, but the
network sees the 68 noisy landmarks alone and only these are compared, so nothing is rendered and a
run takes half a minute. Every run sees the same number of frames. Judged on the same 200 strangers
with four frames each: `mm`, the neutral shape that the network finds; `basis_mm`, the nearest one
that the basis has; `angle`, between it and as many principal directions of the hidden model.

Notebook 11.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from facerecon_lib.beyond.learned_model import average_frames, node_weights
from facerecon_lib.beyond.subspaces import best_shape, subspace_angles
from facerecon_lib.course.nb11_learned_model.figures import principal_directions
from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.random_faces import random_coefficients
from facerecon_lib.face.camera import pose
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.streams import forgive_streams
from facerecon_lib.fitting.losses import landmark_loss
from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.rendering.synthesis import project_landmarks

PEOPLE, FRAMES = (10, 50, 250, None), (1, 2, 4)
MODES, NODES, BATCH, UNIT = 16, 200, 96, 3.0
IDENTITY_PRIOR, SMOOTH = 0.006, 0.3


class Learner(nn.Module):
    """Landmarks to identity and expression, and the modes of identity at the nodes."""

    def __init__(self, hidden: MorphableModel):
        super().__init__()
        self.modes = nn.Parameter(0.05 * torch.randn(NODES, 3 * MODES))
        self.look = nn.Sequential(nn.Linear(139, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU())
        self.to_person = nn.Linear(128, MODES)
        self.to_frame = nn.Linear(128, hidden.sizes.expression + 6)
        nn.init.zeros_(self.to_frame.weight)
        nn.init.zeros_(self.to_frame.bias)

    def basis(self, spread: Tensor) -> Tensor:
        return UNIT * (spread @ self.modes).unflatten(1, (MODES, 3)).transpose(0, 1)


def frames_of(points: MorphableModel, seed: int, first: int, count: int, frames: int, people):
    """Identities (frame, mode) and landmarks (frame, 68, 2) of frames from `first` on."""
    index = torch.arange(first, first + count)
    group = index // frames
    person = group if people is None else group % people
    c = random_coefficients(points, CountedRandom(seed, index))
    identity = CountedRandom(seed, person).normal("identity", points.sizes.identity)
    v = pose(points.shape(identity, c.expression), c.rotation, c.scale, c.translation)
    noise = CountedRandom(seed, index).normal("landmark noise", 68, 2, sd=0.9)
    noise[:, :17] *= 2
    landmarks = project_landmarks(points, v, c.rotation, "2d") + noise
    return identity, landmarks, group - group[0]


def look(learner: Learner, points: MorphableModel, landmarks: Tensor, person: Tensor):
    """Identity of each person, expression and posed landmarks' offsets of each frame."""
    with torch.no_grad():
        start = start_from_landmarks(points, landmarks)
        mean = points.mean.expand(len(landmarks), -1, -1)
        v = pose(mean, start.rotation, start.scale, start.translation)
        off = landmarks - project_landmarks(points, v, start.rotation, "2d")
    seen = learner.look(torch.cat([off.flatten(1) / 5, start.rotation / 0.3], 1))
    identity = learner.to_person(average_frames(seen, person))
    return start, identity, learner.to_frame(seen).split([points.sizes.expression, 3, 3], 1)


def run(hidden: MorphableModel, people: int | None, frames: int, steps: int, seed: int) -> dict:
    torch.manual_seed(seed)
    points, learner = hidden.landmark_model(), Learner(hidden)
    marks = torch.cat([hidden.landmarks, hidden.contour_bands.reshape(-1)]).unique()
    spread = node_weights(hidden.mean, NODES)
    adam = torch.optim.Adam(learner.parameters(), lr=3e-3)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        _, landmarks, group = frames_of(points, seed, step * BATCH, BATCH, frames, people)
        start, identity, (expression, turn, move) = look(learner, points, landmarks, group)
        basis = learner.basis(spread[marks])
        shape = points.mean + torch.einsum("pk,kvc->pvc", identity, basis)[group]
        shape = shape + torch.einsum("fk,kvc->fvc", expression, points.expression_basis)
        translation = start.translation + move * move.new_tensor([5.0, 5.0, 20.0])
        rotation = start.rotation + 0.1 * turn
        v = pose(shape, rotation, start.scale, translation)
        drawn = project_landmarks(points, v, rotation, "2d")
        prior = identity.square().sum(1).mean() + expression.square().sum(1).mean()
        loss = landmark_loss(drawn, landmarks) + IDENTITY_PRIOR / 0.8 * prior
        loss = loss + SMOOTH * learner.modes.square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        plan.step()
    with torch.no_grad():
        truth, landmarks, group = frames_of(points, seed + 1_000_003, 0, 800, 4, None)
        _, identity, _ = look(learner, points, landmarks, group)
        basis = learner.basis(spread)
        true = hidden.shape(truth[::4])
        mean = hidden.mean.expand_as(true)
        answer = hidden.mean + torch.einsum("pk,kvc->pvc", identity, basis)
        nearest = best_shape(true - hidden.mean, basis) + hidden.mean
        main = principal_directions(hidden, MODES)
        return {
            "people": people,
            "frames": frames,
            "mm": round(float(vertex_error_mm(answer, true).mean()), 3),
            "mean_face_mm": round(float(vertex_error_mm(mean, true).mean()), 3),
            "basis_mm": round(float(vertex_error_mm(nearest, true).mean()), 3),
            "angle": round(float(subspace_angles(basis, main).mean()), 2),
        }


def main(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    steps: Annotated[int, typer.Option(help="Of each run, of 96 frames.")] = 800,
    seed: Annotated[int, typer.Option(help="Of all runs.")] = 0,
) -> None:
    """Run all; the file grows by a row per run."""
    hidden, rows = MorphableModel.load(subdivision=0), []
    for frames in FRAMES:
        for people in PEOPLE:
            rows.append(run(hidden, people, frames, steps, seed))
            typer.echo(rows[-1])
            text = json.dumps(
                {"steps": steps, "batch": BATCH, "seed": seed, "rows": rows}, indent=1
            )
            out.write_text(text + "\n")


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
