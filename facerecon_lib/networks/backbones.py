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
from torch import Tensor, nn

from ..files.errors import FacereconError
from .dlib_resnet import DlibResNet
from .face_networks import CHIPS, RecognitionError, check_file, load_network

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

    norm: "batch"; "group" (Wu and He, ECCV 2018), which ignores the other photos of the batch; or
    "frozen", batch normalisation that never changes; dlib_resnet29 has none. weights: "none";
    "imagenet", from torch's cache or, if allow_download, fetched; "faces", of dlib_resnet29 alone.
    Raises EncoderError for values that do not go together and for missing weights.
    """
    choices = {"backbone": BACKBONES, "norm": NORMS, "weights": WEIGHTS}
    for what, value in zip(choices, (name, norm, weights), strict=True):
        if value not in choices[what]:
            raise EncoderError(f"{what} {value!r} is unknown; choose {', '.join(choices[what])}")
    if (weights == "faces") > (name == "dlib_resnet29"):
        raise EncoderError("weights 'faces' are dlib's, for backbone 'dlib_resnet29' alone")
    try:
        if name == "dlib_resnet29":
            if weights == "imagenet":
                raise EncoderError("dlib_resnet29 has no ImageNet weights; it has weights 'faces'")
            return DlibBackbone(weights == "faces"), DlibBackbone.width
        return _torchvision(name, norm, weights == "imagenet", allow_download)
    except RecognitionError as error:
        raise EncoderError(f"{name}'s weights {weights!r}: {error}") from None


def _torchvision(
    name: str, norm: str, learned: bool, allow_download: bool
) -> tuple[nn.Module, int]:
    if learned and norm == "group":
        raise EncoderError("ImageNet's weights are for norm 'batch' or 'frozen', not 'group'")
    from torchvision import models  # slow to import, and dlib's network needs none
    from torchvision.ops import FrozenBatchNorm2d

    def group(channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(math.gcd(32, channels), channels)

    norms = {"batch": nn.BatchNorm2d, "group": group, "frozen": FrozenBatchNorm2d}
    network = getattr(models, name)(weights=None, norm_layer=norms[norm])
    if learned:
        path = imagenet_file(name)
        todo = "fetch them with allow_download (facerecon train base --download)"
        digest = path.stem.split("-")[-1]  # the file's name ends in the start of its SHA-256
        url = imagenet_url(name) if allow_download else None
        check_file("ImageNet", path, digest, todo, url=url)
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state, strict=True)
    if name == "mobilenet_v3_large":
        return network.features, network.classifier[0].in_features
    return nn.Sequential(*list(network.children())[:-2]), network.fc.in_features


def imagenet_file(backbone: str) -> Path:
    """Where torch keeps the backbone's ImageNet weights, or would."""
    return Path(torch.hub.get_dir(), "checkpoints", imagenet_url(backbone).rsplit("/", 1)[1])


def imagenet_url(backbone: str) -> str:
    """Where torchvision has them: V1, those that the report could start from."""
    from torchvision import models

    return models.get_model_weights(backbone)["IMAGENET1K_V1"].url


class DlibBackbone(DlibResNet):
    """dlib's ResNet of 29 layers, all of it trainable.

    It learned from three million real faces. Its last 256 numbers were made to forget pose and
    light, so its output holds the maps before them as well. Images are shrunk to its 150 pixels.
    """

    width = 256 + 256 * 4 * 4

    @torch.no_grad()
    def __init__(self, learned: bool):
        """learned: copy dlib's numbers; the first layer, without padding, takes on the scaling."""
        super().__init__()
        if learned:
            network = load_network("dlib")
            self.convolutions.load_state_dict(network.layers.convolutions.state_dict())
            first, scale = self.convolutions[0], 255 / network.divisor
            shift = (torch.tensor(IMAGENET_MEAN) - network.colour) * scale
            first.bias += torch.einsum("oihw,i->o", first.weight, shift)
            first.weight *= (torch.tensor(IMAGENET_SD) * scale)[:, None, None]

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch width"]:
        """x: normalised as for ImageNet."""
        size = CHIPS["dlib"].size
        if x.shape[-1] != size:
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
        maps = self.maps(x)
        return torch.cat([maps[-1].mean((2, 3)), maps[-2].flatten(1)], 1)
