"""Stage one of training: the encoder of the base branch, from photos to coefficients.

    stage = BaseStage(TrainSettings(), device)
    [coefficients] = stage.predict(stage.network(fabric), batch)

Notebook 06, section 2.1.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..face.batch import FaceBatch
from ..face.coefficients import FaceCoefficients
from ..face.measures import landmark_error, vertex_error_mm
from ..face.shapes import PerFace
from ..files.downloads import sha256_of
from ..fitting.objective import BaseObjective, Objective
from ..networks.encoder import Encoder, load_encoder, save_encoder
from ..networks.face_networks import FaceNetwork
from .logs import overlaid
from .settings import SettingsError, TrainSettings
from .stage import Stage, rows_of


class BaseStage(Stage):
    """Its predictions are FaceCoefficients."""

    settings: TrainSettings
    validation_measure = "vertex_mm"
    save, load = staticmethod(save_encoder), staticmethod(load_encoder)

    def __init__(self, settings: TrainSettings, device: torch.device):
        super().__init__(settings, device)
        if settings.skins is not None and Path(settings.skins).is_file():
            self.sources["skins"] = sha256_of(settings.skins)

    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> BaseObjective:
        s = self.settings
        return BaseObjective(self.model, weights, s.reduction, recognition, s.render_size)

    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> Encoder:
        """Raises EncoderError for missing weights, SettingsError for sync_norm on a CPU."""
        s, file = self.settings, Path(self.settings.init)
        weights = "none" if resumed or file.suffix else s.init
        kind = (s.backbone, s.norm, weights, allow_download, s.input_size)
        encoder = Encoder(self.model.sizes, *kind)
        if file.suffix and not resumed:
            encoder.take(load_encoder(file))
        if s.sync_norm and fabric.world_size > 1:
            if fabric.device.type != "cuda":
                raise SettingsError("sync_norm: only on CUDA; use norm 'group' or 'frozen' here")
            encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
        return encoder

    def predict(self, network: Callable, *parts: FaceBatch) -> list[FaceCoefficients]:
        images = torch.cat([part.image for part in parts])
        coefficients = network(images.contiguous(memory_format=torch.channels_last))
        return [coefficients[rows] for rows in rows_of(parts)]

    @torch.no_grad()
    def errors(self, prediction: FaceCoefficients, batch: FaceBatch) -> dict[str, PerFace]:
        """vertex_mm: mean distance of the vertices after similarity alignment. mean_face_mm: of the
        neutral mean face. landmark_error: as a share of the outer eye distance."""
        model, c, errors = self.model, prediction, {}
        if batch.truth is not None:
            truth = model.shape(batch.truth.identity, batch.truth.expression)
            shape = model.shape(c.identity, c.expression)
            errors["vertex_mm"] = vertex_error_mm(shape, truth).mean(1)
            errors["mean_face_mm"] = vertex_error_mm(model.mean.expand_as(truth), truth).mean(1)
        points = self.objective.landmarks(c, batch.kind)
        errors["landmark_error"] = landmark_error(points, batch.landmarks)
        return errors

    def summary(self, numbers: Mapping) -> str:
        return (
            f"held-out faces {numbers['vertex_mm']:.2f} mm off (the mean face "
            f"{numbers['mean_face_mm']:.2f}), landmarks {numbers['landmark_error']:.1%}, "
            f"loss {numbers['loss']:.4g}"
        )

    def rows(
        self, prediction: FaceCoefficients, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        return overlaid(batch.image, objective.image, objective.mask)
