"""Every number of a training run, of either stage. `profiles.py` has sets of them by name.

    settings = replace(PROFILES["smoke"], steps=60, seed=1)
    settings.check()
    settings.total_steps, settings.rate(0)

A field's type says which values are valid, its line in the docstring what it means; the options of
`facerecon train` are made of both. Notebooks 06 and 09, sections 2.1 and 2.2.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from ..files.errors import FacereconError
from ..fitting.weights import (
    AUGMENTED_RENDERED_WEIGHTS,
    AUGMENTED_REPORT_WEIGHTS,
    AUGMENTED_WEIGHTS,
    RECOGNITION_WEIGHTS,
    RENDERED_WEIGHTS,
    REPORT_WEIGHTS,
    TRAIN_WEIGHTS,
)

VERSION = 3  # of a settings' file; 1 did not name it
RENAMED = {"details": "wrinkles", "light": "illumination"}  # in version 3

RULES = {
    "0 or more": lambda x: x >= 0,
    "more than 0": lambda x: x > 0,
    "less than 2^62": lambda x: x < 2**62,
    "0 (none) or a share below 1": lambda x: 0 <= x < 1,
}
Count = Annotated[int, "0 or more"]
Amount = Annotated[float, "0 or more"]
PositiveCount = Annotated[int, "more than 0"]
PositiveAmount = Annotated[float, "more than 0"]
Split = Literal["random", "person"]
Family = Literal["train", "held-out"]
Illumination = Literal["photo", "encoder", "free", "grey", "known"]


class SettingsError(FacereconError):
    """Settings that no run can have. One line: what is wrong and what to do."""


LOSSES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "base": {
        "report": {name: REPORT_WEIGHTS[name] for name in ("pixel", "landmark", "recognition")},
        "balanced": TRAIN_WEIGHTS,
        "rendered": RENDERED_WEIGHTS,
    },
    "augmented": {
        "report": AUGMENTED_REPORT_WEIGHTS,
        "balanced": AUGMENTED_WEIGHTS,
        "rendered": AUGMENTED_RENDERED_WEIGHTS,
    },
}
"""By stage: Eq. 7 or 12 as printed, for sums; ours for photos; ours for the known truth."""


def loss_weights(stage: str, losses: str, recognition: str = "none") -> dict[str, float]:
    """A row of LOSSES for a recognition network; "none" has no such term."""
    weights = dict(LOSSES[stage][losses])
    if recognition == "none":
        del weights["recognition"]
    elif losses == "report":
        weights["recognition"] = RECOGNITION_WEIGHTS[recognition]
    return weights


@dataclass(frozen=True)
class RunSettings:
    """What both stages have: the data, the steps, Adam, the losses, the log.

    profile: smoke (default), colab, full (the report's), or shipped
    face_model: a face model (.safetensors); default: $FACERECON_MODEL, or the shipped one
    subdivision: Loop steps of its mesh
    data: shards of photos; without them, rendered faces
    split: of photos: random or person
    family: light and background of rendered faces: train or held-out
    seed: of faces, of the order of photos, of the first weights
    workers: processes that read photos
    batch: faces per step, of all processes together
    steps: steps in all; default: as many as the epochs have
    epochs: instead of steps
    faces_per_epoch: of rendered faces; photos have as many as there are
    learning_rate: Adam's
    schedule: of the learning rate, after the warmup: constant, or cosine down to last_rate
    warmup: steps of a linear rise
    last_rate: the last learning rate of a cosine, as a share of the first
    weight_decay: 0 is Adam, more is AdamW
    adam_eps: gradients far below it hardly move a weight
    clip_norm: the longest gradient
    ema: what the running average of the weights keeps per step, such as 0.999; 0 for no average
    precision: 32-true, bf16-mixed (the network only), or auto: bf16-mixed if the GPU has bfloat16
    weights: of the terms of the objective
    reduction: of the objective over pixels and vertices: mean or sum
    recognition: network of Eq. 6: none, dlib or facenet
    log_every: steps between two records of the log; 0 is never, here and below
    picture_every: steps between two pictures
    checkpoint_every: steps between two checkpoints
    validate_every: steps between two validations
    validation_faces: rendered faces of a validation, and as many photos
    """

    stage: ClassVar[str]  # in the settings' file too: a run is resumed as what it began as
    network_file: ClassVar[str]
    wrinkles: ClassVar[bool] = False

    profile: str = "smoke"
    face_model: str | None = None
    subdivision: Count = 0

    data: str | None = None
    split: Split = "random"
    family: Family = "train"
    seed: Annotated[Count, "less than 2^62"] = 0
    workers: Count = 0

    batch: PositiveCount = 8
    steps: int | None = None
    epochs: PositiveAmount = 1.0
    faces_per_epoch: PositiveCount = 640
    learning_rate: PositiveAmount = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Count = 0
    last_rate: Amount = 0.02
    weight_decay: Amount = 0.0
    adam_eps: Amount = 1e-8
    clip_norm: PositiveAmount = 10.0
    ema: Annotated[float, "0 (none) or a share below 1"] = 0.0
    precision: Literal["32-true", "bf16-mixed", "auto"] = "32-true"

    weights: Mapping[str, float] = field(default_factory=dict)
    reduction: Literal["mean", "sum"] = "mean"
    recognition: Literal["none", "facenet", "dlib"] = "none"

    log_every: Count = 10
    picture_every: Count = 100
    checkpoint_every: Count = 100
    validate_every: Count = 100
    validation_faces: Count = 64

    @property
    def total_steps(self) -> int:
        if self.steps is not None:
            return self.steps
        return math.ceil(self.epochs * self.faces_per_epoch / self.batch)

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup) / max(self.total_steps - self.warmup, 1)
        wave = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return self.learning_rate * (self.last_rate + (1 - self.last_rate) * wave)

    def share(self, processes: int) -> int:
        """Faces per step and process. Raises SettingsError where the batch does not divide."""
        if self.batch % processes:
            raise SettingsError(
                f"batch {self.batch} does not divide by {processes} processes: choose a multiple "
                f"of {processes}, for it is the faces per step of all of them together"
            )
        return self.batch // processes

    def check(self) -> None:
        """Raises SettingsError for an invalid value."""
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            if isinstance(value, float) and math.isinf(value):
                raise SettingsError(f"{name} {value}: expected a finite number")
            if get_origin(kind) is Literal and value not in get_args(kind):
                choices = " or ".join(get_args(kind))
                raise SettingsError(f"{name} {value!r}: expected {choices}")
            for rule in getattr(kind, "__metadata__", ()):
                _expect(RULES[rule](value), name, value, rule)
        _expect(self.total_steps > 0, "total_steps", self.total_steps, "more than 0")
        if self.validate_every:
            _expect(self.validation_faces > 0, "validation_faces", 0, "more than 0")
        if self.data == "":
            raise SettingsError("data '': expected a folder or an address of shards")

    def as_json(self) -> dict:
        head = {"stage": self.stage, "version": VERSION}
        return head | asdict(replace(self, weights=dict(self.weights)))

    @classmethod
    def from_json(cls, data: Mapping) -> Self:
        """What `as_json` gave. Raises SettingsError where it is of another stage or version."""
        if not isinstance(data, Mapping):
            raise SettingsError("not the settings of a run")
        values = dict(data)
        stage = values.pop("stage", "base")  # it was the only one once
        version = values.pop("version", 1)
        if version < 3:
            values = {RENAMED.get(name, name): value for name, value in values.items()}
        if version == 1 and values.get("albedo") == "monk":
            values["albedo"] = None  # the word for any model's own basis, whatever it was called
        if stage != cls.stage:
            raise SettingsError(
                f"settings of the other stage; it is facerecon train {stage} that has to go on"
            )
        odd = sorted(set(values) ^ {f.name for f in fields(cls)})
        if odd:
            more = f" and {len(odd) - 3} more" * (len(odd) > 3)
            raise SettingsError(
                f"settings of another version ({', '.join(odd[:3])}{more}); start a new run"
            )
        return cls(**values)


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """A run of the base branch, section 2.1: the same settings, the same run.

    backbone: resnet50, resnet18, mobilenet_v3_large or dlib_resnet29
    norm: of the backbone: batch, group or frozen
    pretrained: none, imagenet, faces (of dlib_resnet29), or the file of an encoder to go on from
    input_size: pixels of the photo that the backbone sees
    sync_norm: batch normalisation over all processes together, on CUDA
    render_size: pixels of the rendering that losses compare
    """

    stage: ClassVar[str] = "base"
    network_file: ClassVar[str] = "encoder.safetensors"

    backbone: Literal["resnet50", "resnet18", "mobilenet_v3_large", "dlib_resnet29"] = (
        "mobilenet_v3_large"
    )
    norm: Literal["batch", "group", "frozen"] = "batch"
    pretrained: str = "none"
    input_size: int = 224
    sync_norm: bool = False
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights("base", "rendered"))
    render_size: PositiveCount = 224

    def check(self) -> None:
        """Raises SettingsError for an invalid value."""
        super().check()
        names = ("none", "imagenet", "faces")
        if self.pretrained not in names and not self.pretrained.endswith(".safetensors"):
            raise SettingsError(
                f"pretrained {self.pretrained!r}: expected {', '.join(names)}, or the "
                ".safetensors file of an encoder to go on from"
            )


@dataclass(frozen=True)
class AugmentedSettings(RunSettings):
    """A run of the augmented branch, section 2.2.

    encoder: the frozen encoder's file; default: $FACERECON_ENCODER, or the shipped one
    illumination: of the base face: photo, encoder, or solved for: free, grey, known
    albedo: basis of the base face, one of the model's; default: its own, of smoke light (pale skin)
    width: channels of the U-Net at full resolution
    depth: how often the U-Net halves the crop, 3 to 5
    norm: of the U-Net: inner (none at full resolution), group or batch
    pretrained: none, or the file of a U-Net to go on from
    space: what the maps are laid out in: image or uv
    sampling: of the maps at the vertices: bilinear or hyperbolic
    symmetry: of Eq. 9: on the mesh, or in the image
    smooth_on: Eq. 10 and 11 of the final face, or of the offsets
    wrinkles: rendered faces with wrinkles, marks and make-up
    """

    stage: ClassVar[str] = "augmented"
    network_file: ClassVar[str] = "offset_unet.safetensors"

    encoder: str | None = None
    illumination: Illumination = "photo"
    albedo: str | None = None
    width: int = 16
    depth: int = 4
    norm: str = "inner"
    pretrained: str = "none"
    space: Literal["image", "uv"] = "image"
    sampling: Literal["bilinear", "hyperbolic"] = "bilinear"
    symmetry: Literal["mesh", "image"] = "mesh"
    smooth_on: Literal["face", "offsets"] = "offsets"
    wrinkles: bool = True
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("augmented", "rendered")
    )

    def check(self) -> None:
        """Raises SettingsError for an invalid value, and for two that do not go together."""
        super().check()
        if not 0 <= self.depth <= 5:  # 224 = 7 · 2^5
            raise SettingsError(
                f"depth {self.depth}: the crop of 224 pixels cannot be halved that often; "
                "expected 3 to 5"
            )
        if self.illumination == "known" and self.data is not None:
            raise SettingsError("illumination 'known': photos come without it; take free or grey")
        if self.pretrained != "none" and not self.pretrained.endswith(".safetensors"):
            raise SettingsError(
                f"pretrained {self.pretrained!r}: expected none, or the .safetensors file of a "
                "U-Net to go on from"
            )


ANEW = ("steps", "epochs", "workers", "log_every", "picture_every", "checkpoint_every")
"""What a resumed run may change: none of it changes the steps that both would take."""


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """The settings that a resumed run may not change and does: "batch 8, not 16"."""
    free = ANEW if new.schedule == "constant" else ANEW[2:]
    a, b = old.as_json(), new.as_json()
    return [
        f"{name} {json.dumps(a[name])}, not {json.dumps(b[name])}"
        for name in a
        if name not in free and a[name] != b[name]
    ]


def _expect(valid: bool, name: str, value: float, rule: str) -> None:
    if not valid:
        raise SettingsError(f"{name} {value}: expected {rule}")
