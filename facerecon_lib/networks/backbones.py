"""The encoder's backbones: torchvision's, and dlib's face-recognition network, ready to be trained.

    features, width = backbone_features("resnet50", norm="batch", weights="imagenet")
    features(images)                                     # (B, width, h, w), or (B, width)

ResNet: He et al., CVPR 2016 (the report's is ResNet-50); MobileNetV3: Howard et al., ICCV 2019.
Learned weights that are missing are an error, never replaced by random numbers. Notebook 06.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from ..files.downloads import fetch, sha256_of
from ..files.errors import FacereconError, one_line
from .dlib_resnet import convolution_shapes, residual_maps
from .face_networks import CHIPS, RecognitionError, load_network

BACKBONES = ("resnet50", "resnet18", "mobilenet_v3_large", "dlib_resnet29")
NORMS = ("batch", "group", "frozen")
WEIGHTS = ("none", "imagenet", "faces")
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EncoderError(FacereconError):
    """An unusable encoder, backbone or file. One line: what is wrong and what to do."""


def backbone_features(
    name: str, norm: str = "batch", weights: str = "none", allow_download: bool = False
) -> tuple[nn.Module, int]:
    """The backbone without its classifier, and its number of feature maps.

    name: one of BACKBONES. norm: "batch"; "group" (Wu and He, ECCV 2018), which ignores the other
    photos of the batch; or "frozen", batch normalisation that never changes; dlib_resnet29 has
    none. weights: "none"; "imagenet", from torch's cache or, if allow_download, fetched; "faces",
    of dlib_resnet29 alone. Raises EncoderError for values that are unknown, do not go together, or
    whose weights are missing.
    """
    for what, value, choices in (("backbone", name, BACKBONES), ("norm", norm, NORMS)):
        if value not in choices:
            raise EncoderError(f"{what} {value!r} is unknown; choose {', '.join(choices)}")
    if weights not in WEIGHTS:
        raise EncoderError(f"weights {weights!r}: expected {', '.join(WEIGHTS)}")
    if (weights == "faces") > (name == "dlib_resnet29"):
        raise EncoderError("weights 'faces' are dlib's, for backbone 'dlib_resnet29' alone")
    if name == "dlib_resnet29":
        if weights == "imagenet":
            raise EncoderError("dlib_resnet29 has no ImageNet weights; it has weights 'faces'")
        return DlibResNet(weights == "faces"), DlibResNet.width
    if weights == "imagenet" and norm == "group":
        raise EncoderError("ImageNet's weights are for norm 'batch' or 'frozen', not 'group'")
    from torchvision import models  # slow to import, and dlib's network needs none

    network = getattr(models, name)(weights=None, norm_layer=_norm_layer(norm))
    if weights == "imagenet":
        network.load_state_dict(_imagenet_weights(name, allow_download), strict=True)
    if name == "mobilenet_v3_large":
        return network.features, network.classifier[0].in_features
    width = network.fc.in_features
    return nn.Sequential(*list(network.children())[:-2]), width


def _norm_layer(norm: str):
    from torchvision.ops import FrozenBatchNorm2d

    def group(channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(math.gcd(32, channels), channels)

    return {"batch": nn.BatchNorm2d, "group": group, "frozen": FrozenBatchNorm2d}[norm]


def imagenet_file(backbone: str) -> Path:
    """Where torch keeps the backbone's ImageNet weights, or would."""
    return Path(torch.hub.get_dir(), "checkpoints", imagenet_url(backbone).rsplit("/", 1)[1])


def imagenet_url(backbone: str) -> str:
    """Where torchvision has them. Raises EncoderError for a backbone without such weights."""
    from torchvision import models

    names = [name for name in BACKBONES if name != "dlib_resnet29"]
    if backbone not in names:
        raise EncoderError(f"backbone {backbone!r}: ImageNet's weights are of {', '.join(names)}")
    # V1: those that the report could start from
    return models.get_model_weights(backbone)["IMAGENET1K_V1"].url


def _imagenet_weights(backbone: str, allow_download: bool) -> dict[str, Tensor]:
    """torchvision's weights; the name of their file ends in the start of its SHA-256."""
    path, url = imagenet_file(backbone), imagenet_url(backbone)
    digest = path.stem.split("-")[-1]
    if not path.is_file() and not allow_download:
        raise EncoderError(
            f"{backbone}'s ImageNet weights: {path} is not there; fetch them with "
            "allow_download (facerecon train base --download), or train from nothing"
        )
    try:
        if not path.is_file():
            fetch(url, path, digest, Console(stderr=True))
        actual = sha256_of(path)
        if not actual.startswith(digest):
            raise EncoderError(
                f"{path}: is damaged (SHA-256 {actual[:8]}..., expected what its name ends in); "
                "delete it and fetch it again"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:
        reason = one_line(error)[:200]
        raise EncoderError(
            f"{backbone}'s ImageNet weights: cannot be had ({reason}); fetch "
            f"{url} elsewhere and put it at {path}"
        ) from None


class DlibResNet(nn.Module):
    """dlib's ResNet of 29 layers (`dlib_resnet`), all of it trainable.

    It learned from three million real faces. Its last 256 numbers were made to forget pose and
    light, so its output holds the maps before them as well. Images are shrunk to its 150 pixels.
    """

    width = 256 + 256 * 4 * 4

    def __init__(self, learned: bool):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k) for o, i, k, _ in convolution_shapes())
        if learned:
            self._learn()

    @torch.no_grad()
    def _learn(self) -> None:
        """Copy dlib's numbers; the first layer, without padding, takes on the normalisation."""
        try:
            network = load_network("dlib")
        except RecognitionError as error:
            raise EncoderError(f"dlib_resnet29's weights 'faces': {error}") from None
        for i, layer in enumerate(self.convolutions):
            layer.weight.copy_(getattr(network.layers, f"weight{i}"))
            layer.bias.copy_(getattr(network.layers, f"bias{i}"))
        first, scale = self.convolutions[0], 255 / network.divisor
        shift = (torch.tensor(IMAGENET_MEAN) - network.colour) * scale
        first.bias += torch.einsum("oihw,i->o", first.weight, shift)
        first.weight *= (torch.tensor(IMAGENET_SD) * scale)[:, None, None]

    def convolve(self, x: Tensor, i: int, stride: int, padding: int) -> Tensor:
        layer = self.convolutions[i]
        return F.conv2d(x, layer.weight, layer.bias, stride, padding)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch width"]:
        """x: normalised as for ImageNet."""
        size = CHIPS["dlib"].size
        if x.shape[-1] != size:
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
        maps = residual_maps(self.convolve, x)
        return torch.cat([maps[-1].mean((2, 3)), maps[-2].flatten(1)], 1)
