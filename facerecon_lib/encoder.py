"""The base branch's network: a photo's crop to the coefficients of the face in it, section 2.1.

    encoder = load_encoder()                             # the one that ships, trained on renderings
    coefficients = encoder(crop.image)                   # (B, 3, 224, 224) in [0, 1]

A backbone of torchvision (He et al., CVPR 2016, for the report's ResNet-50; Howard et al., ICCV
2019, for MobileNetV3) and one linear layer. The layer starts at zero, so that an untrained encoder
answers every photo with the mean face, frontal, in ambient light; its outputs are multiplied by
fixed scales, one a group, so that one learning rate suits degrees, millimetres and light.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .coefficients import FaceCoefficients, ModelSizes
from .morphable_model import MorphableModel

FORMAT = "facerecon-encoder-1"
BACKBONES = ("resnet50", "resnet18", "mobilenet_v3_large")
NORMS = ("batch", "group", "frozen")
OUTPUT_SCALES = {
    "identity": (1.0,),
    "expression": (1.0,),
    "albedo": (1.0,),
    "rotation": (0.3, 0.3, 0.3),  # radians
    "translation": (20.0, 20.0, 60.0),  # mm
    "scale": (0.02,),  # of the logarithm
    "lighting": (0.3,),
}
"""How far each group lies from its start: what an output of 1 means."""

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LONGEST_LOG_SCALE = 0.5
"""Outputs beyond it change nothing: an early step must not send the scale to infinity."""


class EncoderError(ValueError):
    """No encoder, or not the one that was asked for. One line: what is wrong and what to do."""


class Encoder(nn.Module):
    """Crops to `FaceCoefficients`.

    sizes: (Ki, Ke, Ka) of the face model. backbone: one of BACKBONES. weights: "none", or
    "imagenet", which have to be in torch's cache (`imagenet_file`) or are fetched if
    allow_download.
    norm: "batch"; "group" (Wu and He, ECCV 2018), which knows no other photos of the batch; or
    "frozen", batch normalisation whose statistics and gains never change.
    input_size: crops are shrunk to this many pixels a side first; 112 takes a quarter of the time.
    Raises EncoderError for an unknown backbone or norm, or weights that are not here or do not fit.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        backbone: str = "resnet50",
        norm: str = "batch",
        weights: str = "none",
        allow_download: bool = False,
        input_size: int = 224,
    ):
        super().__init__()
        self.sizes, self.backbone, self.norm = ModelSizes(*sizes), backbone, norm
        self.input_size = input_size
        self.name = "untrained"  # or its file's name
        self.metadata: dict[str, str] = {}
        self.features, width = _features(backbone, norm, weights, allow_download)
        self.head = nn.Linear(width, self.sizes.vector)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        start = FaceCoefficients.mean(1, *self.sizes)
        start.scale = start.scale.log()
        scales = [torch.tensor(OUTPUT_SCALES[name]) for name in OUTPUT_SCALES]
        lengths = [*self.sizes, 3, 3, 1, 27]
        scales = [s.expand(n) for s, n in zip(scales, lengths, strict=True)]
        self.register_buffer("start", start.to_vector()[0], persistent=False)
        self.register_buffer("output_scale", torch.cat(scales), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(IMAGENET_SD)[:, None, None], persistent=False)

    def forward(self, image: Float[Tensor, "batch 3 224 224"]) -> FaceCoefficients:
        """The coefficients, in float32 whatever precision the network runs in."""
        return self.decode(self.head(self.pooled(image)))

    def pooled(self, image: Float[Tensor, "batch 3 224 224"]) -> Float[Tensor, "batch width"]:
        """What the backbone says of a photo: its last feature maps, averaged over the picture.

        Raises ValueError for anything but (batch, 3, height, width).
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(
                f"image: expected (batch, 3, 224, 224) in [0, 1], got {tuple(image.shape)}"
            )
        if image.shape[-1] != self.input_size:
            image = F.interpolate(image, (self.input_size, self.input_size), mode="area")
        x = self.features((image - self.mean) / self.sd)
        return x.mean((2, 3))

    def decode(self, outputs: Float[Tensor, "batch coefficient"]) -> FaceCoefficients:
        """start + scale · output, a group at a time; the scale through its logarithm."""
        vector = self.start + self.output_scale * outputs.float()
        c = FaceCoefficients.from_vector(vector, self.sizes)
        c.scale = c.scale.clamp(-LONGEST_LOG_SCALE, LONGEST_LOG_SCALE).exp()
        return c

    def outputs(self, coefficients: FaceCoefficients) -> Float[Tensor, "batch coefficient"]:
        """The head's outputs that `decode` would turn into these coefficients."""
        c = coefficients.clone()
        c.scale = c.scale.log()
        return (c.to_vector() - self.start) / self.output_scale


# The backbone -----------------------------------------------------------------------------------


def _features(name: str, norm: str, weights: str, allow_download: bool) -> tuple[nn.Module, int]:
    """The backbone without its classifier, and how many feature maps come out of it."""
    from torchvision import models

    if name not in BACKBONES:
        raise EncoderError(f"backbone {name!r} is unknown; choose {', '.join(BACKBONES)}")
    if norm not in NORMS:
        raise EncoderError(f"norm {norm!r} is unknown; choose {', '.join(NORMS)}")
    if weights not in ("none", "imagenet"):
        raise EncoderError(f"weights {weights!r}: expected 'none' or 'imagenet'")
    if weights == "imagenet" and norm == "group":
        raise EncoderError("ImageNet's weights are for norm 'batch' or 'frozen', not 'group'")
    network = getattr(models, name)(weights=None, norm_layer=_norm_layer(norm))
    if weights == "imagenet":
        network.load_state_dict(_imagenet_weights(name, allow_download), strict=norm == "batch")
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
    return Path(torch.hub.get_dir(), "checkpoints", _imagenet_url(backbone).rsplit("/", 1)[1])


def _imagenet_url(backbone: str) -> str:
    from torchvision import models

    if backbone not in BACKBONES:
        raise EncoderError(f"backbone {backbone!r} is unknown; choose {', '.join(BACKBONES)}")
    # The first published ones: those that the report could start from.
    return models.get_model_weights(backbone)["IMAGENET1K_V1"].url


def _imagenet_weights(backbone: str, allow_download: bool) -> dict[str, Tensor]:
    """torchvision's weights; the name of their file ends in the start of its SHA-256."""
    path = imagenet_file(backbone)
    if not path.is_file() and not allow_download:
        raise EncoderError(
            f"{backbone}'s ImageNet weights: {path} is not there; fetch them with "
            "allow_download (facerecon train base --download), or train from nothing"
        )
    try:
        if not path.is_file():
            torch.hub.download_url_to_file(
                _imagenet_url(backbone), str(path), path.stem.split("-")[-1], progress=True
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if not digest.startswith(path.stem.split("-")[-1]):
            raise EncoderError(
                f"{path}: is damaged (SHA-256 {digest[:8]}..., expected what its name ends in); "
                "delete it and fetch it again"
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"{backbone}'s ImageNet weights: cannot be had ({reason}); fetch "
            f"{_imagenet_url(backbone)} elsewhere and put it at {path}"
        ) from None


# Files ------------------------------------------------------------------------------------------


def shipped_encoder_path() -> Path:
    """The encoder in the package."""
    return Path(str(files("facerecon_lib"))) / "assets" / "base_encoder.safetensors"


def save_encoder(
    path: Path, encoder: Encoder, metadata: dict[str, str] | None = None, half: bool = False
) -> None:
    """Write the encoder to one .safetensors file, whole or not at all.

    half: convolutions and the head in float16, half the size; what normalisation layers hold stays
    in float32, for running variances leave float16's range.
    """
    state = {}
    for name, value in encoder.state_dict().items():
        wide = value.ndim > 1 and value.is_floating_point()
        state[name] = (value.half() if half and wide else value).contiguous().cpu()
    own = {
        "format": FORMAT,
        "backbone": encoder.backbone,
        "norm": encoder.norm,
        "sizes": json.dumps(list(encoder.sizes)),
        "input_size": str(encoder.input_size),
    }
    path = Path(path)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        save_file(state, partial, {**encoder.metadata, **(metadata or {}), **own})
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load_encoder(
    path: Path | None = None,
    model: MorphableModel | None = None,
    device: torch.device | str = "cpu",
) -> Encoder:
    """An encoder from its file, ready for use (in eval mode); None is the one that ships.

    model: the face model that its coefficients are for. Raises EncoderError, one line, when the
    file is missing, damaged, no encoder, or was trained with another face model.
    """
    path = shipped_encoder_path() if path is None else Path(path)
    if not path.is_file():
        raise EncoderError(f"{path}: there is no such encoder; facerecon train base makes one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EncoderError(f"{path.name}: not a readable safetensors file ({reason})") from None
    if metadata.get("format") != FORMAT:
        raise EncoderError(
            f"{path.name}: not an encoder of this project (format {metadata.get('format')!r}, "
            f"expected {FORMAT!r}); facerecon train base makes one"
        )
    try:
        sizes = ModelSizes(*json.loads(metadata["sizes"]))
        kind = (metadata["backbone"], metadata["norm"])
        encoder = Encoder(sizes, *kind, input_size=int(metadata["input_size"]))
        encoder.load_state_dict(state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"{path.name}: its parts do not fit ({reason}); train it again"
        ) from None
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise EncoderError(f"{path.name}: holds numbers that are not finite; train it again")
    if model is not None:
        _check_model(path, sizes, metadata, model)
    encoder.name, encoder.metadata = path.name, metadata
    return encoder.eval().to(device)


def _check_model(
    path: Path, sizes: ModelSizes, metadata: dict[str, str], model: MorphableModel
) -> None:
    name = model.metadata.get("name", model.metadata["file"])
    trained = metadata.get("model", name)
    if sizes != model.sizes or trained != name:
        raise EncoderError(
            f"{path.name}: was trained for {trained} ({', '.join(map(str, sizes))} modes), not for "
            f"{name} ({', '.join(map(str, model.sizes))}); train one with that model"
        )
