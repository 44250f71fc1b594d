"""Every number of a training run of the base branch, and the profiles.

settings = replace(PROFILES["smoke"], steps=60, seed=1)
settings.total_steps, settings.rate(0)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType

from .encoder_backbones import BACKBONES, NORMS, WEIGHTS
from .losses import RECOGNITION_WEIGHTS, RENDERED_WEIGHTS, REPORT_WEIGHTS, TRAIN_WEIGHTS


class SettingsError(ValueError):
    """Settings that cannot be trained with. One line: what is wrong and what to do."""


def report_weights(recognition: str) -> dict[str, float]:
    """Eq. 7, for sums: pixel + landmark + 20 · recognition, or what dlib has instead of the 20."""
    weights = {name: REPORT_WEIGHTS[name] for name in ("pixel", "landmark")}
    if recognition != "none":
        weights["recognition"] = RECOGNITION_WEIGHTS[recognition]
    return weights


def balanced_weights(recognition: str) -> dict[str, float]:
    """Ours, for means: TRAIN_WEIGHTS, its recognition only where there is a network."""
    weights = dict(TRAIN_WEIGHTS)
    if recognition == "none":
        weights.pop("recognition", None)
    return weights


def rendered_weights(recognition: str) -> dict[str, float]:
    """Ours, for rendered faces: RENDERED_WEIGHTS, with the known truth for most of the priors."""
    weights = dict(RENDERED_WEIGHTS)
    if recognition == "none":
        weights.pop("recognition")
    return weights


@dataclass(frozen=True)
class TrainSettings:
    """What a run is, but for where it runs: the same settings give the same run.

    backbone, norm, pretrained ("none" or "imagenet"): of `encoder.py`. sync_norm: `training.py`
    says what for. face_model: a file; None is the one that ships. subdivision: of its mesh.
    data: shards of photos; None trains on rendered faces. split: of photos, as in `splits.py`.
    family: of rendered faces. seed: of faces, of the order of photos, of weights. workers:
    processes that read photos.
    batch: faces a step, over all processes together. steps: None for epochs · faces_per_epoch /
    batch; with data an epoch is as long as they are. schedule: "constant", or "cosine" down to
    `last_rate` of the learning rate; either after `warmup` steps of a linear rise. weight_decay: 0
    is Adam, more AdamW. adam_eps: gradients far below it hardly move a weight. clip_norm: the
    longest gradient. ema: what a running average of the weights keeps of itself a step, 0.999 say;
    0 for none. precision: of the encoder; "auto" is bf16-mixed on a GPU that has bfloat16.
    weights, reduction, render_size: of `objective.py`. recognition: network of Eq. 6, or "none".
    validation_faces: of each kind. The four `..._every` count steps; 0 is never.
    """

    profile: str = "smoke"
    backbone: str = "mobilenet_v3_large"
    norm: str = "batch"
    pretrained: str = "none"
    input_size: int = 224
    sync_norm: bool = False
    face_model: str | None = None
    subdivision: int = 0

    data: str | None = None
    split: str = "random"
    family: str = "train"
    seed: int = 0
    workers: int = 0

    batch: int = 8
    steps: int | None = None
    epochs: float = 1.0
    faces_per_epoch: int = 640
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    last_rate: float = 0.02
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    clip_norm: float = 10.0
    ema: float = 0.0
    precision: str = "32-true"

    weights: Mapping[str, float] = field(default_factory=lambda: rendered_weights("none"))
    reduction: str = "mean"
    recognition: str = "none"
    render_size: int = 224

    log_every: int = 10
    picture_every: int = 100
    checkpoint_every: int = 100
    validate_every: int = 100
    validation_faces: int = 64

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
        done = (step - self.warmup) / max(self.total_steps - self.warmup, 1)
        wave = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.learning_rate * (self.last_rate + (1 - self.last_rate) * wave)

    def share(self, processes: int) -> int:
        """Faces a step for each process. Raises SettingsError where the batch does not divide."""
        if self.batch % processes:
            raise SettingsError(
                f"batch {self.batch} does not divide by {processes} processes: choose a multiple "
                f"of {processes}, for it is the faces a step of all of them together"
            )
        return self.batch // processes

    def check(self) -> None:
        """Raises SettingsError for a value that cannot be."""
        positive = ("batch", "total_steps", "learning_rate", "clip_norm", "faces_per_epoch")
        for name in positive:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} {getattr(self, name)}: expected more than 0")
        for name, choices in (
            ("schedule", ("constant", "cosine")),
            ("reduction", ("mean", "sum")),
            ("precision", ("32-true", "bf16-mixed", "auto")),
            ("backbone", BACKBONES),
            ("norm", NORMS),
            ("recognition", ("none", *RECOGNITION_WEIGHTS)),
        ):
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name} {getattr(self, name)!r}: expected {' or '.join(choices)}"
                )
        if self.pretrained not in WEIGHTS and not self.pretrained.endswith(".safetensors"):
            raise SettingsError(
                f"pretrained {self.pretrained!r}: expected {', '.join(WEIGHTS)}, or the "
                ".safetensors file of an encoder to go on from"
            )
        if not 0 <= self.ema < 1:
            raise SettingsError(f"ema {self.ema}: expected 0 (none) or a share below 1")

    def as_json(self) -> dict:
        return asdict(replace(self, weights=dict(self.weights)))

    @classmethod
    def from_json(cls, data: Mapping) -> TrainSettings:
        """What `as_json` gave. Raises SettingsError where it is of another version."""
        known = {f.name for f in fields(cls)}
        if set(data) != known:
            odd = ", ".join(sorted(set(data) ^ known))
            raise SettingsError(f"settings of another version ({odd}); start a new run")
        return cls(**data)


ANEW = ("steps", "epochs", "workers", "log_every", "picture_every", "checkpoint_every")
"""What a resumed run may change: none of it changes the steps that both would take."""


def differences(old: TrainSettings, new: TrainSettings) -> list[str]:
    """The settings that a resumed run may not change and does: "batch 8, not 16"."""
    free = ANEW if new.schedule == "constant" else ANEW[2:]
    a, b = old.as_json(), new.as_json()
    return [
        f"{name} {json.dumps(a[name])}, not {json.dumps(b[name])}"
        for name in a
        if name not in free and a[name] != b[name]
    ]


PROFILES: Mapping[str, TrainSettings] = MappingProxyType(
    {
        # Under a minute on two CPU cores: dlib's face-recognition network has seen faces before,
        # so that 512 more are enough to see it learn.
        "smoke": TrainSettings(
            profile="smoke",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            input_size=112,
            render_size=112,
            batch=8,
            faces_per_epoch=512,
            schedule="cosine",
            warmup=5,
            clip_norm=30.0,
            log_every=4,
            picture_every=32,
            checkpoint_every=16,
            validate_every=32,
            validation_faces=32,
        ),
        # One GPU, under an hour.
        "colab": TrainSettings(
            profile="colab",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            batch=64,
            steps=5000,
            learning_rate=3e-4,
            schedule="cosine",
            warmup=200,
            clip_norm=30.0,
            ema=0.999,
            precision="auto",
            log_every=50,
            picture_every=1000,
            checkpoint_every=500,
            validate_every=1000,
            validation_faces=512,
        ),
        # The first run of the encoder in the package: 13 minutes on an H100.
        "shipped": TrainSettings(
            profile="shipped",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            subdivision=1,
            batch=256,
            steps=5000,
            learning_rate=3e-4,
            schedule="cosine",
            warmup=300,
            last_rate=0.01,
            clip_norm=30.0,
            ema=0.999,
            precision="bf16-mixed",
            weights={**rendered_weights("dlib"), "recognition": 1.0},
            recognition="dlib",
            log_every=50,
            picture_every=1000,
            checkpoint_every=1000,
            validate_every=1000,
            validation_faces=512,
        ),
        # Section 2.1. Adam, the batch and the clipping are ours: the report does not name them.
        "full": TrainSettings(
            profile="full",
            backbone="resnet50",
            pretrained="imagenet",
            subdivision=1,
            batch=32,
            epochs=20,
            faces_per_epoch=114_000,
            learning_rate=3e-5,
            precision="auto",
            clip_norm=1e6,
            weights=report_weights("facenet"),
            reduction="sum",
            recognition="facenet",
            workers=8,
            log_every=50,
            picture_every=1000,
            checkpoint_every=1000,
            validate_every=3563,
            validation_faces=1024,
        ),
    }
)
