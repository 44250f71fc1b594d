"""The two stages of training, section 2.1 and 2.2: what the loop of `training.py` asks of each.

    stage = open_stage(settings, device)                 # of settings.stage
    network = stage.network(fabric)
    stage.prepare(fabric)                                # stage.objective is there from here on
    prediction = stage.predict(network, batch)
    found = stage.objective(prediction, batch)

Stage one trains the encoder. Stage two, in `training_augmented.py`, freezes it and trains the
U-Net.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .camera import pose
from .coefficients import FaceCoefficients
from .encoder import Encoder, load_encoder, save_encoder
from .evaluation import landmark_error, vertex_error_mm
from .face_batch import FaceBatch
from .morphable_model import MorphableModel, default_model_path
from .objective import BaseObjective, Objective
from .recognition import FaceNetwork, RecognitionError, load_network
from .synthesis import project_landmarks
from .training_checkpoints import sha256_of
from .training_logs import picture_rows
from .training_settings import RunSettings, SettingsError, TrainSettings


class Stage(ABC):
    """One stage of training: its network, its losses, and how it is judged.

    model: what is reconstructed. scenes: what rendered faces are made with, of the same mesh.
    sources: SHA-256 of the files that a resumed run has to have in common with its start.
    facts: what the network's file says beside its settings.
    """

    objective: Callable[..., Objective]
    validation_measure = "loss"
    """Of held-out rendered faces: the checkpoint where it is lowest is kept."""

    def __init__(self, settings: RunSettings, device: torch.device):
        path = settings.face_model or default_model_path()
        model = MorphableModel.load(path, subdivision=settings.subdivision)
        self.settings, self.file = settings, settings.network_file
        self.model = self.scenes = model.to(device)
        self.sources = {"face_model": sha256_of(path)}
        self.facts: dict[str, str] = {}

    def settled(self, settings: RunSettings) -> RunSettings:
        """The same with a name where they leave it to the face model: what a run's file says."""
        return settings

    def prepare(self, fabric, allow_download: bool = False) -> None:
        """Make the objective. Raises SettingsError for weights that cannot be."""
        s, network = self.settings, None
        if s.recognition != "none":
            try:
                with fabric.rank_zero_first():  # it may have to be fetched
                    network = load_network(
                        s.recognition, device=fabric.device, allow_download=allow_download
                    )
            except RecognitionError as error:
                raise SettingsError(f"{error}; here: --download, or --recognition dlib") from error
        try:
            self.objective = self._objective(network)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    @abstractmethod
    def _objective(self, recognition: FaceNetwork | None) -> Callable[..., Objective]:
        """Raises ValueError for weights that cannot be."""

    @abstractmethod
    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> nn.Module:
        """As it is before the first step; of a resumed run a checkpoint has the weights."""

    @abstractmethod
    def save(self, path: Path, network: nn.Module, metadata: Mapping[str, str] = {}) -> None:
        """Write the network's file, in float32, whole or not at all."""

    @abstractmethod
    def load(self, path: Path) -> nn.Module:
        """The network of a file. Raises ValueError for one that cannot be used."""

    @abstractmethod
    def predict(self, network: Callable, batch: FaceBatch):
        """What the objective takes. Of all that runs here the network alone may be in bfloat16."""

    @abstractmethod
    def errors(self, prediction, batch: FaceBatch) -> dict[str, Float[Tensor, " batch"]]:
        """Each face against what is known of it, beside the terms of the objective."""

    @abstractmethod
    def summary(self, numbers: Mapping) -> str:
        """What `validate` found, for people."""

    @abstractmethod
    def rows(
        self, prediction, batch: FaceBatch, found: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        """The first faces as one picture, where there is something to see."""


class BaseStage(Stage):
    """Section 2.1: photos to coefficients."""

    settings: TrainSettings
    validation_measure = "vertex_mm"

    def _objective(self, recognition: FaceNetwork | None) -> BaseObjective:
        s = self.settings
        return BaseObjective(self.model, s.weights, s.reduction, recognition, s.render_size)

    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> Encoder:
        """Raises EncoderError for weights that are not here, SettingsError for sync_norm."""
        s = self.settings
        pretrained = "none" if resumed else s.pretrained
        trained = pretrained.endswith(".safetensors")
        weights = "none" if trained else pretrained
        kind = (s.backbone, s.norm, weights, allow_download, s.input_size)
        encoder = Encoder(self.model.sizes, *kind)
        if trained:
            encoder.take(load_encoder(Path(pretrained), self.model))
        if s.sync_norm and fabric.world_size > 1:
            if fabric.device.type != "cuda":
                raise SettingsError("sync_norm: only on CUDA; use norm 'group' or 'frozen' here")
            encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
        return encoder

    def save(self, path: Path, network: Encoder, metadata: Mapping[str, str] = {}) -> None:
        save_encoder(path, network, dict(metadata))

    def load(self, path: Path) -> Encoder:
        return load_encoder(path)

    def predict(self, network: Callable, batch: FaceBatch) -> FaceCoefficients:
        return network(batch.image.contiguous(memory_format=torch.channels_last))

    @torch.no_grad()
    def errors(
        self, prediction: FaceCoefficients, batch: FaceBatch
    ) -> dict[str, Float[Tensor, " batch"]]:
        """vertex_mm: mean distance of the vertices after similarity alignment. mean_face_mm: that
        of the neutral mean face. landmark_error: share of the outer eye distance."""
        model, c, errors = self.model, prediction, {}
        if batch.truth is not None:
            truth = model.shape(batch.truth.identity, batch.truth.expression)
            found = model.shape(c.identity, c.expression)
            errors["vertex_mm"] = vertex_error_mm(found, truth).mean(1)
            errors["mean_face_mm"] = vertex_error_mm(model.mean.expand_as(truth), truth).mean(1)
        few = model.landmark_model()
        v_camera = pose(few.shape(c.identity, c.expression), c.rotation, c.scale, c.translation)
        points = project_landmarks(few, v_camera, c.rotation, batch.kind)
        errors["landmark_error"] = landmark_error(points, batch.landmarks)
        return errors

    def summary(self, numbers: Mapping) -> str:
        return (
            f"held-out faces {numbers['vertex_mm']:.2f} mm off (the mean face "
            f"{numbers['mean_face_mm']:.2f}), landmarks {numbers['landmark_error']:.1%}, "
            f"loss {numbers['loss']:.4g}"
        )

    def rows(
        self, prediction: FaceCoefficients, batch: FaceBatch, found: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        """Photo, rendering, and the rendering on the photo."""
        if found.image is None:
            return None
        return picture_rows(batch.image, found.image, found.mask)


def open_stage(settings: RunSettings, device: torch.device) -> Stage:
    """The stage that the settings are of. Raises ModelError or EncoderError for its files."""
    from .training_augmented import AugmentedStage

    kind = {"base": BaseStage, "augmented": AugmentedStage}[settings.stage]
    return kind(settings, device)
