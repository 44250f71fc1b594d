"""Stage two of training, section 2.2: the U-Net of the augmented branch, on a frozen encoder.

    stage = AugmentedStage(AugmentedSettings(), device)
    [faces] = stage.predict(stage.network(fabric), batch)  # AugmentedFaces

A step renders the base face without gradients, feeds photo and rendering to the U-Net, and compares
the face with both offsets with the photo. Notebook 09, Eq. 7 to 12.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import AugmentedFaces, BaseBranch, augment, unet_inputs
from ..augmented.objective import AugmentedObjective
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.measures import albedo_error, landmark_error, photometric_error, vertex_error_mm
from ..face.model_file import ModelError
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace
from ..files.downloads import sha256_of
from ..fitting.objective import Objective
from ..fitting.photo_light import LIGHTS as SOLVED
from ..networks.encoder import ENCODER_FILE, load_encoder
from ..networks.face_networks import FaceNetwork
from ..networks.unet import DoubleHeadUNet, OffsetMaps, UNetError, load_unet, save_unet
from .logs import tiled
from .settings import AugmentedSettings, SettingsError
from .stage import Stage, rows_of

DISPLACEMENT_SHOWN = 2.0  # mm from grey to full colour


class AugmentedStage(Stage):
    """Its predictions are AugmentedFaces."""

    settings: AugmentedSettings
    load = staticmethod(load_unet)

    def __init__(self, settings: AugmentedSettings, device: torch.device):
        super().__init__(settings, device)
        self.settings = s = self.settled(settings)
        encoder = load_encoder(s.encoder, self.model, device)
        encoder = encoder.to(memory_format=torch.channels_last)
        path = Path(s.encoder) if s.encoder else ENCODER_FILE.default_path()
        self.sources["encoder"] = sha256_of(path)
        if s.albedo != (own := self.scenes.metadata["albedo"]):
            if s.illumination not in SOLVED:
                raise SettingsError(
                    f"albedo {s.albedo!r} with illumination {s.illumination!r}: the encoder's "
                    f"albedo is of the basis {own!r}; take illumination {' or '.join(SOLVED)}, "
                    "which solve for the albedo themselves"
                )
            try:
                model = MorphableModel.load(s.face_model, s.subdivision, s.albedo)
            except ModelError as error:
                raise ModelError(f"{error}; --albedo {own} is its own") from None
            self.model = model.to(device)
        self.base_branch = BaseBranch(encoder, self.model, s.illumination)
        self.facts = {name: getattr(s, name) for name in ("albedo", "space", "sampling")}
        self.facts |= {"light": s.illumination, "encoder_sha256": self.sources["encoder"]}

    def settled(self, settings: AugmentedSettings) -> AugmentedSettings:
        return replace(settings, albedo=settings.albedo or self.scenes.metadata["albedo"])

    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> AugmentedObjective:
        s = self.settings
        return AugmentedObjective(
            self.model, weights, s.reduction, recognition, s.symmetry, s.smooth_on
        )

    def network(
        self, fabric, resumed: bool = False, allow_download: bool = False
    ) -> DoubleHeadUNet:
        """Raises UNetError for invalid sizes, or sizes other than those of `init`."""
        s = self.settings
        unet = DoubleHeadUNet(s.width, s.depth, s.norm)
        if s.init == "none" or resumed:
            return unet
        trained = load_unet(Path(s.init), self.model)
        for name in ("width", "depth", "norm"):
            ours, theirs = getattr(s, name), getattr(trained, name)
            if ours != theirs:
                raise UNetError(f"{s.init}: its {name} is {theirs}, and {ours} is asked for")
        unet.load_state_dict(trained.state_dict())
        return unet

    def save(self, path: Path, network: DoubleHeadUNet, metadata: Mapping[str, str] = {}) -> None:
        save_unet(path, network, {**metadata, **self.facts}, "float32")

    def predict(self, network: Callable, *parts: FaceBatch) -> list[AugmentedFaces]:
        s, bases = self.settings, [self.base_branch(part) for part in parts]
        pairs = [unet_inputs(part.image, b, s.space) for part, b in zip(parts, bases, strict=True)]
        both = [torch.cat(images) for images in zip(*pairs, strict=True)]  # photos, renderings
        maps = network(*(x.contiguous(memory_format=torch.channels_last) for x in both))
        return [
            augment(base, OffsetMaps(*(x[rows] for x in maps)), s.sampling, s.space)
            for base, rows in zip(bases, rows_of(parts), strict=True)
        ]

    @torch.no_grad()
    def errors(self, prediction: AugmentedFaces, batch: FaceBatch) -> dict[str, PerFace]:
        """The augmented face's errors, and as base_... those of the base face.

        photometric: mean absolute difference of colours, where nothing covers the photo.
        landmark_error: share of the outer eye distance. Where the truth is known, vertex_mm: mean
        distance of the vertices after similarity alignment, and albedo_rgb: of the skin's colours.
        """
        errors = {}
        for prefix, face in (("", prediction.face), ("base_", prediction.base.face)):
            image, mask = face.render(CROP_SIZE, near=None)
            colours = photometric_error(image.clamp(0, 1), batch.image, mask * batch.valid)
            landmarks = landmark_error(face.landmarks(batch.kind), batch.landmarks)
            values = {"photometric": colours.nan_to_num(1.0)}  # of a face outside: the largest
            values["landmark_error"] = landmarks
            if batch.true_vertices is not None:
                values["vertex_mm"] = vertex_error_mm(face.vertices, batch.true_vertices).mean(1)
            if batch.true_albedo is not None:
                skin = self.model.regions["skin"]
                values["albedo_rgb"] = albedo_error(face.albedo, batch.true_albedo, skin)["rgb"]
            errors |= {prefix + name: value for name, value in values.items()}
        return errors

    def summary(self, numbers: Mapping) -> str:
        parts = {
            "photometric": "held-out colours {:.4f} (base {:.4f})",
            "landmark_error": "landmarks {:.1%} (base {:.1%})",
            "vertex_mm": "shape {:.3f} (base {:.3f}) mm",
            "albedo_rgb": "albedo {:.4f} (base {:.4f})",
        }
        lines = [
            text.format(numbers[name], numbers[f"base_{name}"])
            for name, text in parts.items()
            if name in numbers
        ]
        return ", ".join([*lines, f"loss {numbers['loss']:.4g}"])

    def rows(
        self, prediction: AugmentedFaces, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"]:
        """Photo, base rendering, augmented rendering, and both maps, where grey is zero."""
        with torch.no_grad():
            image, _ = prediction.face.render(CROP_SIZE, near=None)
        texture, displacement = prediction.maps
        shifts = 0.5 + displacement / (2 * DISPLACEMENT_SHOWN)
        return tiled([batch.image, prediction.base.image, image, 0.5 + texture, shifts])
