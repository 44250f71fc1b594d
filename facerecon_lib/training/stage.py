"""A stage of training: what the loop (`loop.py`) asks of a network.

    stage = BaseStage(settings, device)                  # or AugmentedStage
    network = stage.network(fabric)
    stage.prepare(fabric)                                # makes stage.objective
    predictions = stage.predict(network, *parts)         # the network sees all parts at once
    losses = stage.compare(predictions, parts)           # of each part
    stage.total(losses).loss.backward()
    numbers = validate(stage, network, batches, fabric)  # "loss", "landmark_error", "terms", ...

Stage one, `base_stage.py`, trains the encoder; stage two, `augmented_stage.py`, freezes it and
trains the U-Net. Notebooks 06 and 09. Those of notebooks 11 to 13 are `learned_stage.py`,
`nonlinear_stage.py` and `depth_stage.py`.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..face.batch import FaceBatch
from ..face.morphable_model import MorphableModel, default_model_path
from ..face.shapes import PerFace
from ..files.downloads import sha256_of
from ..fitting.losses import weighted_sum
from ..fitting.objective import Objective
from ..networks.face_networks import FaceNetwork, RecognitionError, load_network
from .processes import gather, in_all, in_precision
from .settings import RunSettings, SettingsError


class Stage(ABC):
    """One stage of training: its network, its losses, and how it is judged.

    model: of the reconstructions. scenes: the model of rendered faces, of the same mesh.
    sources: SHA-256 of the files that a resumed run has to share with its start.
    """

    weights: Mapping[str, float]  # of the terms of `total`
    save: Callable[..., None]  # (path, network, metadata={}): in float32, whole or not at all
    load: Callable[[Path], nn.Module]  # raises ValueError for an unusable file
    validation_measure = "loss"
    """Of held-out rendered faces: the checkpoint with the lowest one is kept."""

    def __init__(self, settings: RunSettings, device: torch.device):
        path = settings.face_model or default_model_path()
        model = MorphableModel.load(path, subdivision=settings.subdivision)
        self.settings = settings
        self.model = self.scenes = model.to(device)
        self.sources = {"face_model": sha256_of(path)}

    def settled(self, settings: RunSettings) -> RunSettings:
        """Settings with the albedo basis filled in, as a run's file holds them."""
        return settings

    def prepare(self, fabric, allow_download: bool = False) -> None:
        """Make the objective. Raises SettingsError for invalid weights."""
        s, network = self.settings, None
        if s.recognition != "none":
            try:
                with fabric.rank_zero_first():  # it may have to be fetched
                    kind = dict(device=fabric.device, allow_download=allow_download)
                    network = load_network(s.recognition, **kind)
                forward = in_precision(fabric, network.forward)
                network.forward = lambda chips: forward(chips).float()
            except RecognitionError as error:
                raise SettingsError(f"{error}; here: --download, or --recognition dlib") from error
        try:
            self.objective = self.rendered_objective = self._objective(s.weights, network)
            if s.mix is not None:
                self.rendered_objective = self._objective(s.rendered_weights, network)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        self.parts, self.weights = s.parts(fabric.world_size), s.weights
        if s.mix is not None:
            if s.reduction == "sum":
                raise SettingsError(
                    "mix: rendered faces have weights for means; take --losses balanced for photos"
                )
            share = s.share(fabric.world_size)
            tables = {"rendered": s.rendered_weights, "photos": s.weights}
            self.weights = {
                f"{part}/{name}": weight * self.parts[part] / share
                for part, table in tables.items()
                for name, weight in table.items()
            }

    @abstractmethod
    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> Callable[..., Objective]:
        """Raises ValueError for invalid weights."""

    @abstractmethod
    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> nn.Module:
        """Before the first step; the weights of a resumed run come from its checkpoint."""

    @abstractmethod
    def predict(self, network: Callable, *parts: FaceBatch) -> list:
        """What the objective takes, of each part. The network, which alone may run in bfloat16,
        sees them together."""

    def compare(self, predictions: Sequence, parts: Sequence[FaceBatch]) -> list[Objective]:
        """The losses of each part: rendered faces and photos have weights of their own."""
        return [
            (self.objective if part.truth is None else self.rendered_objective)(prediction, part)
            for prediction, part in zip(predictions, parts, strict=True)
        ]

    def total(self, losses: Sequence[Objective]) -> Objective:
        """The mean over the faces of all parts; a mix's terms are rendered/... and photos/..."""
        if len(losses) == 1:
            return losses[0]
        terms = {
            f"{part}/{name}": value
            for part, each in zip(self.parts, losses, strict=True)
            for name, value in each.terms.items()
        }
        return Objective(terms, weighted_sum(terms, self.weights), None, None)

    @abstractmethod
    def errors(self, prediction, batch: FaceBatch) -> dict[str, PerFace]:
        """Of each face against its truth, beside the terms of the objective."""

    @abstractmethod
    def summary(self, numbers: Mapping) -> str:
        """The numbers of `validate` in a line for people."""

    @abstractmethod
    def rows(
        self, prediction, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        """The first faces as one picture, or None."""


def rows_of(parts: Sequence[FaceBatch]) -> Iterator[slice]:
    """Where each part lies among the faces of all parts."""
    ends = list(accumulate(map(len, parts), initial=0))
    return map(slice, ends, ends[1:])


@torch.no_grad()
def validate(
    stage: Stage, network: nn.Module, batches: Iterable[FaceBatch], fabric, show=None
) -> dict:
    """Means over all faces of the loss, its terms and `stage.errors`; {} where there are none.

    The network has to be in eval mode. batches: this process's share; every process gets the means
    over all of them. show: called with the prediction, batch and objective of the first batch.
    Raises ShardsError in all processes if one cannot read its photos.
    """
    if fabric.world_size > 1:  # each process has running statistics of its own
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)

    def sums() -> dict[str, float]:
        """Over the faces of this process, and their number."""
        share: dict[str, float] = defaultdict(float)
        for batch in batches:
            [prediction] = stage.predict(in_precision(fabric, network), batch)
            [objective] = stage.compare([prediction], [batch])
            if show is not None and not share:
                show(prediction, batch, objective)
            means = {"loss": objective.loss, **stage.errors(prediction, batch)}
            means |= {f"terms/{name}": value for name, value in objective.terms.items()}
            values = torch.stack([value.mean() for value in means.values()]) * len(batch)
            for name, value in zip(means, values.tolist(), strict=True):
                share[name] += value
            share["faces"] += len(batch)
        return share

    totals: dict[str, float] = defaultdict(float)
    for share in gather(fabric, in_all(fabric, sums)):
        for name, value in share.items():
            totals[name] += value
    if not totals:
        return {}
    count = totals.pop("faces")
    means = {name: value / count for name, value in totals.items()}
    terms = {k.removeprefix("terms/"): means.pop(k) for k in list(means) if k[:6] == "terms/"}
    return {"faces": int(count), **means, "terms": terms}
