"""The 68 landmarks as means of MediaPipe's 478 points, learned from renders that know both.

    python data_scripts/learn_landmarks.py

Each landmark becomes a weighted mean of the points (weights add up to one, some are negative), so
that it moves, turns and grows with them: robust least squares on a thousand rendered faces and
their mirror images, near the mean of the three closest points. Landmarks of the jaw are fixed to
the head, not to its outline. Three minutes on one core. Notebook 10, section 2.1.
"""

import sys
from typing import Annotated

import torch
import typer
from face_models.binding import coarse_size, observe
from jaxtyping import Float
from torch import Tensor

from facerecon_lib.face.dense_points import OUTER_EYES, POINTS
from facerecon_lib.face.landmarks68 import INNER, JAW, MIRROR_68
from facerecon_lib.face.model_file import ModelError
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.streams import forgive_streams
from facerecon_lib.files.weights import shipped_file, write_weights
from facerecon_lib.photos.face_mesh_network import load_networks
from facerecon_lib.photos.landmarks import FORMAT, WEIGHTS

RIDGE = 1e-4  # of squared weights, beside mean squared errors in outer eye distances
CLOSEST, HUBER, ROUNDS = 3, 2.0, 3


def main(
    count: Annotated[int, typer.Option(help="Faces to render.")] = 1000, seed: int = 72
) -> None:
    """Write the weights and say how well they do, on faces that took no part."""
    torch.set_num_threads(1)
    path = shipped_file("face_model.safetensors")
    try:
        if count < 100:
            raise ModelError(f"--count {count}: fewer than 100 faces teach too little")
        model = MorphableModel.load(path)
        renders = [
            (marks, vertices[:, model.landmarks])
            for marks, vertices, _ in observe(model, coarse_size(path), count, seed)
        ]
    except FacereconError as error:
        sys.exit(f"learn_landmarks: {error}")
    points, landmarks = in_eye_distances(*map(torch.cat, zip(*renders, strict=True)))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    test, train = order[: count // 10], order[count // 10 :]
    weights = learn(points[train], landmarks[train]).float()
    write_weights(shipped_file(WEIGHTS), {"weights": weights}, {"format": FORMAT})
    off = (weights.double() @ points[test] - landmarks[test]).norm(dim=-1).mean(0)
    print(f"{WEIGHTS}: {len(test)} faces that took no part: landmarks are, of the eye distance,")
    print(f"{off[INNER].mean():.2%} off without the jaw, {off[JAW].mean():.2%} along it (means)")


def in_eye_distances(
    points: Float[Tensor, "face 478 2"], landmarks: Float[Tensor, "face 68 2"]
) -> tuple[Float[Tensor, "face 478 2"], Float[Tensor, "face 68 2"]]:
    """Both about the middle of the outer corners of the eyes, in their distances."""
    points, landmarks = points.double(), landmarks.double()
    right, left = (points[:, None, corner] for corner in OUTER_EYES)
    size = (left - right).norm(dim=-1, keepdim=True)
    return tuple((values - (left + right) / 2) / size for values in (points, landmarks))


def learn(
    points: Float[Tensor, "face 478 2"], landmarks: Float[Tensor, "face 68 2"]
) -> Float[Tensor, "68 478"]:
    """The weights, each row of the sum one. Iteratively reweighted least squares of Huber's loss.

    A row w least in mean h(|sum_k w_k p_k - l|) + RIDGE |w - w0|^2, with w0 on the CLOSEST points.
    """
    mirror = load_networks()[1].mirror
    aside = points.new_tensor([-1, 1])
    points = torch.cat([points, points[:, mirror] * aside])
    landmarks = torch.cat([landmarks, landmarks[:, MIRROR_68] * aside])
    rows = points.mT.flatten(0, 1)  # (2 faces 2, 478)
    weights = []
    for place in landmarks.unbind(1):
        away = (points - place[:, None]).norm(dim=-1).median(0).values
        start = torch.zeros_like(away)
        start[away.topk(CLOSEST, largest=False).indices] = 1 / CLOSEST
        left, trust = place.flatten() - rows @ start, torch.ones(len(rows)).to(rows)
        for _ in range(ROUNDS):
            pull = (rows * trust[:, None]).mT / len(rows)
            system = rows.new_ones(POINTS + 1, POINTS + 1)  # its last row: the change sums to 0
            system[:-1, :-1] = pull @ rows + RIDGE * torch.eye(POINTS).to(rows)
            system[-1, -1] = 0
            right = torch.cat([pull @ left, left.new_zeros(1)])
            change = torch.linalg.solve(system, right)[:-1]
            size = (left - rows @ change).view(-1, 2).norm(dim=-1)
            trust = (HUBER * size.median() / size.clamp(min=1e-9)).clamp(max=1)
            trust = trust.repeat_interleave(2)
        weights.append(start + change)
    weights = torch.stack(weights)
    return (weights + weights[MIRROR_68][:, mirror]) / 2


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
