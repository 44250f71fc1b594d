"""Training of notebook 11: a face model, and the network that sees it in pictures.

    stage = LearnedStage(LearnedSettings(), device)
    [faces] = stage.predict(stage.network(fabric), batch)  # LearnedFaces

Frames of one person (`FaceBatch.person`) share identity and albedo. Rendered faces are of the whole
face model, whose identity and albedo bases the network never sees.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..beyond.learned_model import (
    LearnedFaces,
    LearnedModel,
    LearnedObjective,
    load_learned_model,
    person_numbers,
    save_learned_model,
)
from ..beyond.subspaces import best_shape
from ..face.batch import FaceBatch
from ..face.measures import albedo_error, landmark_error, vertex_error_mm
from ..face.shapes import PerFace
from ..fitting.objective import Objective
from ..networks.face_networks import FaceNetwork
from .logs import overlaid
from .settings import LearnedSettings, SettingsError
from .stage import Stage, rows_of


class LearnedStage(Stage):
    """Its predictions are LearnedFaces."""

    settings: LearnedSettings
    validation_measure = "vertex_mm"
    save = staticmethod(save_learned_model)

    def load(self, path: Path) -> LearnedModel:
        return load_learned_model(path, self.model)

    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> LearnedObjective:
        return LearnedObjective(self.model, weights, self.settings.render_size)

    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> LearnedModel:
        """Raises LearnedModelError for an unusable `init`, SettingsError for one of other sizes."""
        s = self.settings
        kind = (s.identity, s.albedo, s.nodes, s.width, s.input_size)
        network = LearnedModel(self.model, *kind)
        if s.init == "none" or resumed:
            return network
        trained = load_learned_model(Path(s.init), self.model)
        try:
            network.load_state_dict(trained.state_dict())
        except RuntimeError:
            sizes = ", ".join(f"{n} {trained.metadata[n]}" for n in ("modes", "nodes", "width"))
            raise SettingsError(f"init {s.init}: its sizes are others ({sizes})") from None
        return network

    def predict(self, network: Callable, *parts: FaceBatch) -> list[LearnedFaces]:
        numbers, count = [], 0
        for part in parts:
            numbers.append(person_numbers(part) + count)
            count += int(numbers[-1].max()) + 1
        size = (self.settings.input_size,) * 2  # rendered faces may be smaller than photos
        images = torch.cat([F.interpolate(part.image, size, mode="area") for part in parts])
        landmarks = torch.cat([part.landmarks for part in parts])
        faces = network(images, landmarks, torch.cat(numbers), parts[0].kind)
        return [faces[rows] for rows in rows_of(parts)]

    @torch.no_grad()
    def errors(self, prediction: LearnedFaces, batch: FaceBatch) -> dict[str, PerFace]:
        """vertex_mm: mean distance of the vertices after similarity alignment, from pixels;
        mean_face_mm: of the neutral mean face; basis_mm: of the true identity from the nearest one
        of the learned basis; albedo_rgb: of the skin's colours. landmark_error: share of the outer
        eye distance."""
        model, c, errors = prediction.model, prediction.coefficients, {}
        if batch.truth is not None:
            truth, hidden = batch.true_vertices, self.scenes
            shape = model.shape(c.identity, c.expression)
            errors["vertex_mm"] = vertex_error_mm(shape, truth).mean(1)
            errors["mean_face_mm"] = vertex_error_mm(model.mean.expand_as(truth), truth).mean(1)
            person = hidden.shape(batch.truth.identity)
            nearest = best_shape(person - model.mean, model.identity_basis) + model.mean
            errors["basis_mm"] = (nearest - person).norm(dim=-1).mean(1)
            skin = model.regions["skin"]
            errors["albedo_rgb"] = albedo_error(model.albedo(c.albedo), batch.true_albedo, skin)[
                "rgb"
            ]
        points = self.objective.landmarks(prediction, batch.kind)
        errors["landmark_error"] = landmark_error(points, batch.landmarks)
        return errors

    def summary(self, numbers: Mapping) -> str:
        return (
            f"held-out faces {numbers['vertex_mm']:.2f} mm off (the mean face "
            f"{numbers['mean_face_mm']:.2f}), the basis alone {numbers['basis_mm']:.2f}, albedo "
            f"{numbers['albedo_rgb']:.4f}, landmarks {numbers['landmark_error']:.1%}, "
            f"loss {numbers['loss']:.4g}"
        )

    def rows(
        self, prediction: LearnedFaces, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"] | None:
        return overlaid(batch.image, objective.image, objective.mask)
