"""A stage of training: what the loop (`loop.py`) asks of the networks of sections 2.1 and 2.2.

    stage = BaseStage(settings, device)                  # or AugmentedStage
    network = stage.network(fabric)
    stage.prepare(fabric)                                # makes stage.objective
    prediction = stage.predict(network, batch)
    losses = stage.objective(prediction, batch)

Stage one, `base_stage.py`, trains the encoder; stage two, `augmented_stage.py`, freezes it and
trains the U-Net. Notebooks 06 and 09.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..face.batch import FaceBatch
from ..face.morphable_model import MorphableModel, default_model_path
from ..files.downloads import sha256_of
from ..fitting.objective import Objective
from ..networks.face_networks import FaceNetwork, RecognitionError, load_network
from .settings import RunSettings, SettingsError


class Stage(ABC):
    """One stage of training: its network, its losses, and how it is judged.

    model: of the reconstructions. scenes: the model of rendered faces, of the same mesh.
    sources: SHA-256 of the files that a resumed run has to share with its start.
    """

    objective: Callable[..., Objective]
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
            except RecognitionError as error:
                raise SettingsError(f"{error}; here: --download, or --recognition dlib") from error
        try:
            self.objective = self._objective(network)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    @abstractmethod
    def _objective(self, recognition: FaceNetwork | None) -> Callable[..., Objective]:
        """Raises ValueError for invalid weights."""

    @abstractmethod
    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> nn.Module:
        """Before the first step; the weights of a resumed run come from its checkpoint."""

    @abstractmethod
    def save(self, path: Path, network: nn.Module, metadata: Mapping[str, str] = {}) -> None:
        """Write the network's file, in float32, whole or not at all."""

    @abstractmethod
    def load(self, path: Path) -> nn.Module:
        """The network of a file. Raises ValueError for an unusable one."""

    @abstractmethod
    def predict(self, network: Callable, batch: FaceBatch):
        """What the objective takes. The network alone may run in bfloat16."""

    @abstractmethod
    def errors(self, prediction, batch: FaceBatch) -> dict[str, Float[Tensor, " batch"]]:
        """Of each face against its truth, beside the terms of the objective."""

    @abstractmethod
    def summary(self, numbers: Mapping) -> str:
        """The numbers of `validate` in a line for people."""

    @abstractmethod
    def rows(
        self, prediction, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        """The first faces as one picture, or None."""
