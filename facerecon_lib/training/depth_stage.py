"""The stage of notebook 13's depth network, on a frozen encoder and rendered faces.

    stage = DepthStage(DepthSettings(), device)
    [answer] = stage.predict(stage.network(fabric), batch)  # PredictedHeight

A step renders the base face without gradients, feeds photo and rendering to the network, and
compares depth and normals with those that the photo was rendered from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import BaseBranch, BaseFaces
from ..beyond.depth_maps import DepthMaps, base_maps, normals_from_depth, raised_depth, true_height
from ..beyond.depth_network import DepthError, DepthUNet, load_depth_unet, save_depth_unet
from ..face.batch import FaceBatch
from ..face.shapes import PerFace
from ..files.downloads import sha256_of
from ..fitting.objective import Objective, PhotoObjective
from ..networks.encoder import ENCODER_FILE, load_encoder
from ..networks.face_networks import FaceNetwork
from ..networks.unet import UNET_FILE, load_unet
from .logs import tiled
from .settings import DepthSettings
from .stage import Stage, rows_of

FAR = 3.0  # mm: an error of more counts hardly more
LEAST_FACING = 0.2  # cosine of normal and view, below which depth is a cliff
SHOWN = 3.0  # mm from grey to full white


@dataclass(eq=False)
class PredictedHeight:
    """The base face, its maps, and the height that the network puts on it, mm."""

    base: BaseFaces
    maps: DepthMaps
    height: Float[Tensor, "batch 1 size size"]

    def normals(self, height: Tensor) -> Float[Tensor, "batch 3 size size"]:
        """Of the base face with a height on it."""
        depth = raised_depth(self.maps, height, self.base.coefficients.scale)
        return normals_from_depth(depth, self.maps.mask)


class DepthObjective(PhotoObjective):
    """true_normals: 1 - cosine. true_depth: mm, robust, after the mean difference is taken away."""

    def __call__(self, answer: PredictedHeight, batch: FaceBatch) -> Objective:
        truth, weight = compared(answer, batch)
        off = truth - answer.height
        off = off - over(off, weight)[:, None, None, None]
        cosine = (answer.normals(answer.height) * answer.normals(truth)).sum(1, keepdim=True)
        terms = {
            "true_normals": lambda: over(1 - cosine, weight),
            "true_depth": lambda: over(FAR * torch.tanh(off.abs() / FAR), weight),
        }
        return self.weigh(terms, None, None)


def compared(answer: PredictedHeight, batch: FaceBatch) -> tuple[Tensor, Tensor]:
    """The true height, and how much each pixel counts: skin that the photo shows squarely."""
    truth, known = true_height(batch, answer.base, answer.height.shape[-1])
    facing = answer.maps.normals[:, 2:] > LEAST_FACING
    return truth, answer.maps.skin * known * facing


def over(values: Tensor, weight: Tensor) -> PerFace:
    """Weighted mean over the pixels of each face."""
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1.0)


class DepthStage(Stage):
    """Its predictions are PredictedHeight."""

    settings: DepthSettings
    load = staticmethod(load_depth_unet)
    validation_measure = "normal_deg"

    def __init__(self, settings: DepthSettings, device: torch.device):
        super().__init__(settings, device)
        encoder = load_encoder(settings.encoder, self.model, device)
        path = Path(settings.encoder) if settings.encoder else ENCODER_FILE.default_path()
        self.sources["encoder"] = sha256_of(path)
        if settings.init == "unet":
            self.sources["unet"] = sha256_of(UNET_FILE.default_path())
        self.base_branch = BaseBranch(encoder.to(memory_format=torch.channels_last), self.model)

    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> DepthObjective:
        names = ("true_normals", "true_depth")
        return DepthObjective(self.model, weights, names, "mean", None, 224)

    def network(self, fabric, resumed: bool = False, allow_download: bool = False) -> DepthUNet:
        """Raises DepthError or UNetError for invalid sizes, or sizes other than those of `init`."""
        s = self.settings
        network = DepthUNet(s.pixels, s.width, s.depth, s.norm)
        if s.init == "none" or resumed:
            return network
        unet = s.init == "unet"
        start = (load_unet if unet else load_depth_unet)(None if unet else Path(s.init), self.model)
        for name in ("width", "depth", "norm"):
            ours, theirs = getattr(s, name), getattr(start, name)
            if ours != theirs:
                raise DepthError(f"{s.init}: its {name} is {theirs}, and {ours} is asked for")
        if unet:
            network.take(start)
        else:
            network.load_state_dict(start.state_dict())
        return network

    def save(self, path: Path, network: DepthUNet, metadata: Mapping[str, str] = {}) -> None:
        facts = {"encoder_sha256": self.sources["encoder"]}
        save_depth_unet(path, network, {**metadata, **facts}, "float32")

    def predict(self, network: Callable, *parts: FaceBatch) -> list[PredictedHeight]:
        bases = [self.base_branch(part) for part in parts]
        photos, renderings = (
            torch.cat(images).contiguous(memory_format=torch.channels_last)
            for images in ([part.image for part in parts], [base.image for base in bases])
        )
        offsets = network(photos, renderings)
        return [
            PredictedHeight(base, base_maps(base), offsets[rows])
            for base, rows in zip(bases, rows_of(parts), strict=True)
        ]

    @torch.no_grad()
    def errors(self, prediction: PredictedHeight, batch: FaceBatch) -> dict[str, PerFace]:
        """normal_deg: mean angle to the true normals in the photo's pixels, over the skin; as
        base_normal_deg that of the base face."""
        truth, weight = compared(prediction, batch)
        true, ours = prediction.normals(truth), prediction.normals(prediction.height)
        base = prediction.normals(torch.zeros_like(truth))
        errors = {}
        for name, normals in (("normal_deg", ours), ("base_normal_deg", base)):
            cosine = (normals * true).sum(1, keepdim=True).clamp(-1, 1)
            errors[name] = over(cosine.acos().rad2deg(), weight)
        return errors

    def summary(self, numbers: Mapping) -> str:
        text = "held-out normals {normal_deg:.2f} degrees off (base {base_normal_deg:.2f}), "
        return (text + "loss {loss:.4g}").format(**numbers)

    def rows(
        self, prediction: PredictedHeight, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"]:
        """Photo, base rendering, height (grey is 0), normals, and the true normals."""
        with torch.no_grad():
            truth, _ = compared(prediction, batch)
            height = (0.5 + prediction.height / (2 * SHOWN)).expand(-1, 3, -1, -1)
            both = (0.5 + prediction.normals(h) / 2 for h in (prediction.height, truth))
            normals = [picture * prediction.maps.mask for picture in both]
        return tiled([batch.image, prediction.base.image, height, *normals])
