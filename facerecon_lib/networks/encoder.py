"""The base branch's network: a photo's crop to the coefficients of its face.

    encoder = load_encoder()                             # the one that ships, trained on renderings
    coefficients = encoder(crop.image)                   # (B, 3, 224, 224) in [0, 1]

A backbone and one linear layer, which starts at zero: an untrained encoder answers the mean face,
frontal, in ambient light. Its outputs are multiplied by fixed scales, one per group, so that one
learning rate suits degrees, millimetres and light. Notebook 06, section 2.1.
"""

import json
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..face.coefficients import FaceCoefficients, ModelSizes
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect
from ..files.weights import write_weights
from .backbones import IMAGENET_MEAN, IMAGENET_SD, EncoderError, backbone_features
from .network_file import NetworkFile

ENCODER_FILE = NetworkFile(
    format="facerecon-encoder-1",
    shipped="base_encoder.safetensors",
    variable="FACERECON_ENCODER",
    maker="facerecon train base",
    what="encoder",
    error=EncoderError,
)
STORES = ("float32", "float16", "int8")
STEP = ".step"  # suffix of the tensor of what 1 stands for in int8 weights, per output channel
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

LONGEST_LOG_SCALE = 0.5
"""Outputs beyond it change nothing: an early step must not send the scale to infinity."""


class Encoder(nn.Module):
    """Crops to `FaceCoefficients`.

    sizes: (Ki, Ke, Ka) of the face model. backbone, norm, weights, allow_download: as of
    `backbones.backbone_features`. input_size: crops are shrunk to this first; 112 takes a quarter
    of the time. Raises EncoderError.
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
        if input_size < 32:  # the backbones halve it five times
            raise EncoderError(f"input_size: expected 32 pixels or more, got {input_size}")
        self.sizes, self.backbone, self.norm = ModelSizes(*sizes), backbone, norm
        self.input_size = input_size
        self.name = "untrained"  # or its file's name
        self.metadata: dict[str, str] = {}
        self.features, width = backbone_features(backbone, norm, weights, allow_download)
        self.head = nn.Linear(width, self.sizes.vector)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        start = FaceCoefficients.mean(1, *self.sizes)
        start.scale = start.scale.log()
        self._lengths = [*self.sizes, 3, 3, 1, 27]
        scales = zip(OUTPUT_SCALES.values(), self._lengths, strict=True)
        for name, value in (
            ("start", start.to_vector()[0]),
            ("output_scale", torch.cat([torch.tensor(s).expand(n) for s, n in scales])),
            ("mean", torch.tensor(IMAGENET_MEAN)[:, None, None]),
            ("sd", torch.tensor(IMAGENET_SD)[:, None, None]),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, image: Float[Tensor, "batch 3 224 224"]) -> FaceCoefficients:
        """The coefficients, in float32 whatever precision the network runs in."""
        return self.decode(self.head(self.pooled(image)))

    def pooled(self, image: Float[Tensor, "batch 3 224 224"]) -> Float[Tensor, "batch width"]:
        """The backbone's last feature maps, averaged over the picture; dlib_resnet29's numbers."""
        expect("image", image, "batch 3 size size")
        if not image.is_floating_point():
            raise ValueError(f"image: expected floating point in [0, 1], got {image.dtype}")
        if image.shape[-1] != self.input_size:
            image = F.interpolate(image, (self.input_size, self.input_size), mode="area")
        x = self.features((image - self.mean) / self.sd)
        return x.mean((2, 3)) if x.ndim == 4 else x

    def take(self, other: Self) -> None:
        """Take over another encoder's weights. Of another face model, groups of as many
        coefficients; the others begin anew. Raises EncoderError for another backbone or norm."""
        for name in ("backbone", "norm"):
            if (ours := getattr(self, name)) != (theirs := getattr(other, name)):
                raise EncoderError(f"its {name} is {theirs}, and {ours} was asked for")
        self.features.load_state_dict(other.features.state_dict())
        for ours, theirs in zip(self.head.parameters(), other.head.parameters(), strict=True):
            groups = ours.data.split(self._lengths), theirs.data.split(other._lengths)
            for to, start in zip(*groups, strict=True):
                if len(to) == len(start):
                    to.copy_(start)

    def decode(self, outputs: Float[Tensor, "batch coefficient"]) -> FaceCoefficients:
        """start + scale · output; the face's scale through its logarithm."""
        vector = self.start + self.output_scale * outputs.float()
        c = FaceCoefficients.from_vector(vector, self.sizes)
        c.scale = c.scale.clamp(-LONGEST_LOG_SCALE, LONGEST_LOG_SCALE).exp()
        return c


def save_encoder(
    path: Path, encoder: Encoder, metadata: dict[str, str] | None = None, store: str = "float32"
) -> None:
    """Write the encoder to one .safetensors file, whole or not at all.

    store: of convolutions and the head: "float32"; "float16", half the size; or "int8", a quarter:
    each output channel's weights as whole 127ths of its largest. Normalisation layers and biases
    stay in float32. Raises ValueError for another `store`.
    """
    if store not in STORES:
        raise ValueError(f"store {store!r}: expected {', '.join(STORES)}")
    state = encoder.state_dict()
    if store == "int8":
        store = "float32"  # of the rest
        for name, value in list(state.items()):
            if value.ndim > 1 and value.is_floating_point():
                step = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
                state[name] = (value / _per_channel(step, value)).round().to(torch.int8)
                state[name + STEP] = step
    own = {"format": ENCODER_FILE.format, "backbone": encoder.backbone, "norm": encoder.norm}
    own |= {"sizes": json.dumps(encoder.sizes), "input_size": str(encoder.input_size)}
    write_weights(path, state, {**encoder.metadata, **(metadata or {}), **own}, store)


def load_encoder(
    path: Path | None = None, model: MorphableModel | None = None, device="cpu"
) -> Encoder:
    """An encoder from its file, in eval mode; None: $FACERECON_ENCODER, or the one that ships.

    Raises EncoderError for a file that is missing, damaged, or of another face model than `model`.
    """
    return ENCODER_FILE.load(path, model, device, _build)


def _build(state: dict[str, Tensor], metadata: dict[str, str]) -> Encoder:
    kind, size = (metadata["backbone"], metadata["norm"]), int(metadata["input_size"])
    encoder = Encoder(json.loads(metadata["sizes"]), *kind, input_size=size)
    steps = {name: state.pop(name) for name in list(state) if name.endswith(STEP)}
    for name, value in state.items():
        if value.dtype == torch.int8:
            state[name] = value * _per_channel(steps[name + STEP], value)
    encoder.load_state_dict(state)
    return encoder


def _per_channel(step: Float[Tensor, " channel"], value: Tensor) -> Tensor:
    return step.view(-1, *[1] * (value.ndim - 1))
