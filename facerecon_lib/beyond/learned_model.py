"""A face model learned from pictures, and the network that learns with it.

    network = load_learned_model()                       # the one that ships
    faces = network(batch.image, batch.landmarks, person_numbers(batch))
    faces.model.identity_basis, faces.coefficients       # a MorphableModel, FaceCoefficients
    learned_objective(faces, batch).loss.backward()      # reaches the bases too

It is given a mean face, its expressions and one skin colour. The same small network looks at every
frame of a person; the average of what it says of the person gives identity and albedo, the frame
itself expression, pose and light. A. Tewari et al., "FML: Face model learning from videos", CVPR
2019. Notebook 11.
"""

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..face.batch import FaceBatch
from ..face.camera import pose
from ..face.coefficients import FaceCoefficients, ModelSizes
from ..face.mesh import edges, once_per_mesh
from ..face.morphable_model import MorphableModel
from ..files.errors import FacereconError
from ..files.weights import write_weights
from ..fitting import losses
from ..fitting.objective import BaseObjective, Objective
from ..fitting.pose_start import start_from_landmarks
from ..networks.network_file import NetworkFile
from ..rendering.synthesis import project_landmarks


class LearnedModelError(FacereconError):
    """The file of a learned model cannot be used. One line: which and why."""


LEARNED_FILE = NetworkFile(
    format="facerecon-learned-model-1",
    shipped="learned_model.safetensors",
    variable="FACERECON_LEARNED_MODEL",
    maker="facerecon train learned",
    what="learned model",
    error=LearnedModelError,
)
SHAPE_UNIT, ALBEDO_UNIT = 3.0, 0.3  # mm and colour that a weight of 1 stands for
FIRST_BASIS = 0.05  # spread of the first weights of the bases: noise
SPARSITY = 0.9  # the power of Lp
OWN_TERMS = ("smooth_basis", "sparse_albedo")


@dataclass(eq=False)
class LearnedFaces:
    """What the network says of frames: the model of this moment, and a face per frame."""

    model: MorphableModel
    coefficients: FaceCoefficients

    def __getitem__(self, rows: slice) -> "LearnedFaces":
        return LearnedFaces(self.model, self.coefficients[rows])


class LearnedModel(nn.Module):
    """Frames to faces of a model that is learned with it.

    model: gives the mesh, the mean shape, the expressions and the mean skin colour; its identity
    and albedo bases are not looked at. identity, albedo: modes to learn. nodes: points of the mesh
    that carry the shape modes, which vary smoothly between them. input_size: pixels that the
    network sees.
    """

    def __init__(
        self,
        model: MorphableModel,
        identity: int = 32,
        albedo: int = 16,
        nodes: int = 500,
        width: int = 24,
        input_size: int = 64,
    ):
        super().__init__()
        self.template = without_bases(model)
        self.points = self.template.landmark_model()
        self.sizes = ModelSizes(identity, model.sizes.expression, albedo)
        self.nodes, self.width, self.input_size = nodes, width, input_size
        self.name, self.metadata, self.average = "untrained", {}, average_frames
        count, vertices = min(nodes, len(model.mean)), len(model.mean)
        self.register_buffer("spread", node_weights(model.mean, count), persistent=False)
        self.shape_nodes = nn.Parameter(FIRST_BASIS * torch.randn(count, identity * 3))
        self.albedo_modes = nn.Parameter(FIRST_BASIS * torch.randn(albedo, vertices, 3))
        self.albedo_change = nn.Parameter(torch.zeros(vertices, 3))
        channels = [3, width, 2 * width, 3 * width, 4 * width, 6 * width]
        self.look = nn.Sequential(
            *(conv_block(a, b) for a, b in pairwise(channels)),
            nn.Flatten(),
        )
        features = (input_size // 32) ** 2 * channels[-1] + 68 * 2 + 3
        self.frame = nn.Sequential(nn.Linear(features, 256), nn.SiLU())
        self.of_person = nn.Sequential(nn.Linear(256, 128), nn.SiLU())
        self.to_person = nn.Sequential(
            nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, identity + albedo)
        )
        self.to_frame = nn.Sequential(
            nn.Linear(256, 128), nn.SiLU(), nn.Linear(128, self.sizes.expression + 6 + 27)
        )
        nn.init.zeros_(self.to_frame[-1].weight)
        nn.init.zeros_(self.to_frame[-1].bias)

    def face_model(self) -> MorphableModel:
        """The model of this moment; its bases carry gradients to the weights."""
        t, shape = self.template, SHAPE_UNIT * (self.spread @ self.shape_nodes)
        return replace(
            t,
            identity_basis=shape.unflatten(1, (-1, 3)).transpose(0, 1).contiguous(),
            albedo_mean=t.albedo_mean + ALBEDO_UNIT * self.albedo_change,
            albedo_basis=ALBEDO_UNIT * self.albedo_modes,
            albedo_samples=t.albedo_mean.new_zeros(1, self.sizes.albedo),
        )

    def forward(
        self,
        image: Float[Tensor, "batch 3 size size"],
        landmarks: Float[Tensor, "batch 68 2"],
        person: Int[Tensor, " batch"],
        kind: str = "2d",
    ) -> LearnedFaces:
        """person: the number of each frame's person, from 0 on. landmarks: of the crop of 224."""
        start, features = self.features(image, landmarks, kind)
        shared = self.average(self.of_person(features), person)
        identity, albedo = self.to_person(shared)[person].split([self.sizes[0], self.sizes[2]], 1)
        e = self.sizes.expression
        expression, turn, move, light = self.to_frame(features).split([e, 3, 3, 27], 1)
        coefficients = replace(
            start,
            identity=identity,
            expression=expression,
            albedo=albedo,
            rotation=start.rotation + 0.1 * turn,
            translation=start.translation + move * move.new_tensor([5.0, 5.0, 20.0]),
            lighting=start.lighting + 0.3 * light.unflatten(1, (9, 3)),
        )
        return LearnedFaces(self.face_model(), coefficients)

    def features(
        self, image: Tensor, landmarks: Tensor, kind: str
    ) -> tuple[FaceCoefficients, Float[Tensor, "batch 256"]]:
        """The mean face where the landmarks put it, and what each frame looks like beside it."""
        with torch.no_grad():
            start = start_from_landmarks(self.template, landmarks)
            mean = self.points.mean.expand(len(landmarks), -1, -1)
            v_camera = pose(mean, start.rotation, start.scale, start.translation)
            off = landmarks - project_landmarks(self.points, v_camera, start.rotation, kind)
        if image.shape[-1] != self.input_size:
            image = F.interpolate(image, (self.input_size,) * 2, mode="area")
        seen = [self.look(4 * (image - 0.5)), off.flatten(1) / 5, start.rotation / 0.3]
        return start, self.frame(torch.cat(seen, 1))

    def _apply(self, function, recurse=True):
        """Also moves the parts of the face model that it was given."""
        super()._apply(function, recurse)
        if self.template.device != self.shape_nodes.device:
            self.template = self.template.to(self.shape_nodes.device)
            self.points = self.template.landmark_model()
        return self


def conv_block(channels: int, more: int) -> nn.Sequential:
    """Half the size, more channels."""
    conv = nn.Conv2d(channels, more, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(4, more), nn.SiLU())


def average_frames(
    features: Float[Tensor, "frame feature"],
    person: Int[Tensor, " frame"],
    weights: Float[Tensor, " frame"] | None = None,
) -> Float[Tensor, "person feature"]:
    """What all frames of a person say together: the weighted mean of their features.

    person: the number of each frame's person, in any order; row p of the answer is person p's.
    weights: 0 or more; None counts all frames alike. Of a person whose weights are all 0, and of a
    number that no frame has, the row is 0.
    """
    weights = features.new_ones(len(features)) if weights is None else weights
    count = int(person.max()) + 1
    total = features.new_zeros(count, features.shape[1])
    total = total.index_add(0, person, weights[:, None] * features)
    weight = features.new_zeros(count).index_add(0, person, weights)
    return total / torch.where(weight > 0, weight, 1.0)[:, None]


def person_numbers(batch: FaceBatch) -> Int[Tensor, " batch"]:
    """Numbers from 0 on for the people of a batch; a frame of nobody known is its own person."""
    numbers: dict = {}
    people = batch.person or [""] * len(batch)
    rows = [numbers.setdefault(name or i, len(numbers)) for i, name in enumerate(people)]
    return torch.tensor(rows, device=batch.image.device)


def node_weights(points: Float[Tensor, "vertex 3"], count: int) -> Float[Tensor, "vertex node"]:
    """How much each vertex follows each of `count` nodes, which lie far from each other.

    Rows sum to 1: Gaussians as wide as the nodes are apart. So modes are smooth by construction,
    as those of the paper, which deforms a coarse graph.
    """
    chosen = [0]
    nearest = (points - points[0]).square().sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    squared = (points[:, None] - points[chosen]).square().sum(-1)
    width = nearest.max().clamp(min=1e-6)  # squared distance of the worst served vertex
    return torch.softmax(-squared / width, 1)


def without_bases(model: MorphableModel) -> MorphableModel:
    """Mean shape, expressions and one skin colour: what is left where the bases are hidden."""
    skin = model.regions["skin"]
    colour = (model.albedo_mean * skin[:, None]).sum(0) / skin.sum()
    return replace(
        model,
        identity_basis=model.identity_basis[:0],
        albedo_basis=model.albedo_basis[:0],
        albedo_mean=colour.expand_as(model.albedo_mean).contiguous(),
        albedo_samples=model.albedo_samples[:1, :0],
    )


class LearnedObjective:
    """Losses of all frames through the renderer, and of the bases.

    weights: as of `BaseObjective` but for a known truth, and OWN_TERMS: smooth_basis, the mean over
    modes of the smoothness of a shape mode, mm²; sparse_albedo, the mean over edges of the length
    of the difference of two neighbours' albedo to the power of 0.9, of mean and modes: a skin of
    few colours. Raises ValueError as `BaseObjective`.
    """

    def __init__(self, model: MorphableModel, weights: Mapping[str, float], size: int = 64):
        self.weights = weights
        photo = {name: value for name, value in weights.items() if name not in OWN_TERMS}
        self.photo = BaseObjective(without_bases(model), photo, size=size)

    def __call__(self, faces: LearnedFaces, batch: FaceBatch) -> Objective:
        model, result = faces.model, self._photo(faces.model)(faces.coefficients, batch)
        modes = torch.cat([model.albedo_mean[None], model.albedo_basis])
        own = {
            "smooth_basis": losses.smoothness_loss(model.identity_basis, model.faces),
            "sparse_albedo": albedo_sparsity(model, modes),
        }
        own = {name: value for name, value in own.items() if self.weights.get(name)}
        terms, loss = result.terms | own, result.loss + losses.weighted_sum(own, self.weights)
        return replace(result, terms=terms, loss=loss)

    def landmarks(self, faces: LearnedFaces, kind: str) -> Float[Tensor, "batch 68 2"]:
        """The projected landmarks, crop pixels."""
        return self._photo(faces.model).landmarks(faces.coefficients, kind)

    def _photo(self, model: MorphableModel) -> BaseObjective:
        """Eq. 4 and 5 with the model of this moment."""
        photo = copy(self.photo)
        photo.model, photo.landmark_model = model, model.landmark_model()
        return photo


def albedo_sparsity(
    model: MorphableModel, modes: Float[Tensor, "mode vertex 3"]
) -> Float[Tensor, ""]:
    pairs = _edges(model)
    squared = (modes[:, pairs[:, 0]] - modes[:, pairs[:, 1]]).square().sum(-1)
    return (squared + 1e-6).pow(SPARSITY / 2).mean()


@once_per_mesh
def _edges(model: MorphableModel) -> Int[Tensor, "edge 2"]:
    return edges(model.faces)


def save_learned_model(
    path: Path, network: LearnedModel, metadata: Mapping[str, str] = {}, store: str = "float32"
) -> None:
    """Write network and bases to one .safetensors file, whole or not at all."""
    own = {"format": LEARNED_FILE.format, "modes": json.dumps(network.sizes)}
    own |= {name: str(getattr(network, name)) for name in ("nodes", "width", "input_size")}
    write_weights(path, network.state_dict(), {**network.metadata, **metadata, **own}, store)


def load_learned_model(
    path: Path | None = None, model: MorphableModel | None = None, device="cpu"
) -> LearnedModel:
    """From its file, in eval mode; None: $FACERECON_LEARNED_MODEL, or the one that ships.

    model: whose mesh, mean and expressions it was trained with; None: the one that ships, coarse.
    Raises LearnedModelError for a file that is missing, damaged, or of another mesh.
    """
    model = MorphableModel.load(subdivision=0) if model is None else model
    return LEARNED_FILE.load(path, model, device, partial(_build, model))


def _build(
    model: MorphableModel, state: dict[str, Tensor], metadata: dict[str, str]
) -> LearnedModel:
    identity, _, albedo = json.loads(metadata["modes"])
    sizes = (int(metadata[name]) for name in ("nodes", "width", "input_size"))
    network = LearnedModel(model, identity, albedo, *sizes)
    network.load_state_dict(state)
    return network
