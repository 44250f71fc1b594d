"""Every number of a training run, of either stage. The profiles are in `training/profiles.py`.

settings = replace(PROFILES["smoke"], steps=60, seed=1)
settings.total_steps, settings.rate(0)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import ClassVar, Self

from ..augmented.branch import LIGHTS, SPACES
from ..data.rendered.scenes import FAMILIES
from ..data.splits import SPLITS
from ..face.camera import CROP_SIZE
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
from ..networks.backbones import BACKBONES, NORMS, WEIGHTS

VERSION = 3  # of a settings' file; 1 did not name it
RENAMED = {"details": "wrinkles", "light": "illumination"}  # in version 3
COUNTS = ("subdivision", "seed", "workers", "warmup", "last_rate", "weight_decay", "adam_eps")
COUNTS += ("log_every", "picture_every", "checkpoint_every", "validate_every", "validation_faces")


class SettingsError(FacereconError):
    """Settings that cannot be trained with. One line: what is wrong and what to do."""


# Weights ----------------------------------------------------------------------------------------


def report_weights(recognition: str) -> dict[str, float]:
    """Eq. 7, for sums: pixel + landmark + 20 · recognition, or what dlib has instead of the 20."""
    return _reported({name: REPORT_WEIGHTS[name] for name in ("pixel", "landmark")}, recognition)


def balanced_weights(recognition: str) -> dict[str, float]:
    """Ours, for means: TRAIN_WEIGHTS, its recognition only where there is a network."""
    return _where_seen(TRAIN_WEIGHTS, recognition)


def rendered_weights(recognition: str) -> dict[str, float]:
    """Ours, for rendered faces: RENDERED_WEIGHTS, with the known truth for most of the priors."""
    return _where_seen(RENDERED_WEIGHTS, recognition)


def augmented_report_weights(recognition: str) -> dict[str, float]:
    """Eq. 12, for sums, with what dlib has instead of the 20."""
    return _reported(AUGMENTED_REPORT_WEIGHTS, recognition)


def augmented_balanced_weights(recognition: str) -> dict[str, float]:
    """Ours, for means: AUGMENTED_WEIGHTS, its recognition only where there is a network."""
    return _where_seen(AUGMENTED_WEIGHTS, recognition)


def augmented_rendered_weights(recognition: str) -> dict[str, float]:
    """Ours, for rendered faces: AUGMENTED_RENDERED_WEIGHTS, the maps told by the known truth."""
    return _where_seen(AUGMENTED_RENDERED_WEIGHTS, recognition)


def _where_seen(weights: Mapping[str, float], recognition: str) -> dict[str, float]:
    return {k: w for k, w in weights.items() if recognition != "none" or k != "recognition"}


def _reported(weights: Mapping[str, float], recognition: str) -> dict[str, float]:
    weights = _where_seen(weights, "none")
    if recognition != "none":
        weights["recognition"] = RECOGNITION_WEIGHTS[recognition]
    return weights


# Settings ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunSettings:
    """What both stages have: the data, the steps, Adam, the losses, the log.

    face_model: a file; None is the one that ships. subdivision: of its mesh.
    data: shards of photos; None trains on rendered faces. split: of photos, as in `splits.py`.
    family: of rendered faces. seed: of faces, of the order of photos, of weights. workers:
    processes that read photos.
    batch: faces a step, over all processes together. steps: None for epochs · faces_per_epoch /
    batch; with data an epoch is as long as they are. schedule: "constant", or "cosine" down to
    `last_rate` of the learning rate; either after `warmup` steps of a linear rise. weight_decay: 0
    is Adam, more AdamW. adam_eps: gradients far below it hardly move a weight. clip_norm: the
    longest gradient. ema: what a running average of the weights keeps of itself a step, 0.999 say;
    0 for none. precision: of the network; "auto" is bf16-mixed on a GPU that has bfloat16.
    weights, reduction: of the stage's objective. recognition: network of Eq. 6, or "none".
    validation_faces: of each kind. The four `..._every` count steps; 0 is never.
    """

    stage: ClassVar[str]  # in the settings' file too: a run goes on as what it began as
    network_file: ClassVar[str]
    wrinkles: ClassVar[bool] = False  # of rendered faces: what the bases do not have

    profile: str = "smoke"
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

    weights: Mapping[str, float] = field(default_factory=dict)
    reduction: str = "mean"
    recognition: str = "none"

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
        for name, value in vars(self).items():
            if isinstance(value, float) and abs(value) == math.inf:
                raise SettingsError(f"{name} {value}: expected a finite number")
            if name in COUNTS and not value >= 0:
                raise SettingsError(f"{name} {value}: expected 0 or more")
        positive = ["learning_rate", "clip_norm", "batch", "faces_per_epoch", "epochs"]
        positive += ["total_steps"] + ["validation_faces"] * (self.validate_every > 0)
        for name in positive:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} {getattr(self, name)}: expected more than 0")
        if self.data == "":
            raise SettingsError("data '': expected a folder or an address of shards")
        if self.seed >= 2**62:
            raise SettingsError(f"seed {self.seed}: expected less than 2^62")
        self._one_of("split", SPLITS)
        self._one_of("family", FAMILIES)
        self._one_of("schedule", ("constant", "cosine"))
        self._one_of("reduction", ("mean", "sum"))
        self._one_of("precision", ("32-true", "bf16-mixed", "auto"))
        self._one_of("recognition", ("none", *RECOGNITION_WEIGHTS))
        if not 0 <= self.ema < 1:
            raise SettingsError(f"ema {self.ema}: expected 0 (none) or a share below 1")

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise SettingsError(f"{name} {getattr(self, name)!r}: expected {' or '.join(choices)}")

    def as_json(self) -> dict:
        head = {"stage": self.stage, "version": VERSION}
        return head | asdict(replace(self, weights=dict(self.weights)))

    @classmethod
    def from_json(cls, data: Mapping) -> Self:
        """What `as_json` gave. Raises SettingsError where it is of another stage or version."""
        if not isinstance(data, Mapping):
            raise SettingsError("not the settings of a run")
        given = dict(data)
        stage = given.pop("stage", "base")  # it was the only one once
        version = given.pop("version", 1)
        if version < 3:
            given = {RENAMED.get(name, name): value for name, value in given.items()}
        if version == 1 and given.get("albedo") == "monk":
            given["albedo"] = None  # the word for any model's own basis, whatever it was called
        if stage != cls.stage:
            raise SettingsError(
                f"settings of the other stage; it is facerecon train {stage} that has to go on"
            )
        known = {f.name for f in fields(cls)}
        if set(given) != known:
            odd = sorted(set(given) ^ known)
            more = f" and {len(odd) - 3} more" * (len(odd) > 3)
            raise SettingsError(
                f"settings of another version ({', '.join(odd[:3])}{more}); start a new run"
            )
        return cls(**given)


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """What a run of the base branch is, but for where it runs: the same settings, the same run.

    Beside those of `RunSettings`: backbone, norm, pretrained ("none", "imagenet", "faces", or an
    encoder's file to go on from), input_size: of `encoder.py`. sync_norm: `training/loop.py` says
    what for. render_size: of `objective.py`.
    """

    stage: ClassVar[str] = "base"
    network_file: ClassVar[str] = "encoder.safetensors"

    backbone: str = "mobilenet_v3_large"
    norm: str = "batch"
    pretrained: str = "none"
    input_size: int = 224
    sync_norm: bool = False
    weights: Mapping[str, float] = field(default_factory=lambda: rendered_weights("none"))
    render_size: int = 224

    def check(self) -> None:
        """Raises SettingsError for a value that cannot be."""
        super().check()
        self._one_of("backbone", tuple(BACKBONES))
        self._one_of("norm", NORMS)
        if self.render_size < 1:
            raise SettingsError(f"render_size {self.render_size}: expected more than 0")
        if self.pretrained not in WEIGHTS and not self.pretrained.endswith(".safetensors"):
            raise SettingsError(
                f"pretrained {self.pretrained!r}: expected {', '.join(WEIGHTS)}, or the "
                ".safetensors file of an encoder to go on from"
            )


@dataclass(frozen=True)
class AugmentedSettings(RunSettings):
    """What a run of the augmented branch is.

    Beside those of `RunSettings`: encoder: the frozen one's file; None is the one that ships.
    illumination: whose light the base face stands in, of `augmented_branch.LIGHTS`. albedo: the
    basis that the base face is made of, one of the face model's (of the one that ships "monk" or
    "light", tones 1 to 4 alone); None is the model's own default, of
    which rendered faces are, whichever it is. width, depth, norm: of `unet.py`.
    pretrained: "none", or a U-Net's file to go on from.
    space: what the maps are laid out in, "image" or "uv"; sampling: "bilinear", or "hyperbolic".
    symmetry: Eq. 9 on the "mesh" or in the "image"; smooth_on: Eq. 10 and 11 of the final "face" or
    of the "offsets". wrinkles: rendered faces with wrinkles, moles, make-up.
    """

    stage: ClassVar[str] = "augmented"
    network_file: ClassVar[str] = "offset_unet.safetensors"

    encoder: str | None = None
    illumination: str = "photo"
    albedo: str | None = None
    width: int = 16
    depth: int = 4
    norm: str = "inner"
    pretrained: str = "none"
    space: str = "image"
    sampling: str = "bilinear"
    symmetry: str = "mesh"
    smooth_on: str = "offsets"
    wrinkles: bool = True
    weights: Mapping[str, float] = field(default_factory=lambda: augmented_rendered_weights("none"))

    def check(self) -> None:
        """Raises SettingsError for a value that cannot be, and for two that do not go together."""
        super().check()
        self._one_of("illumination", LIGHTS)
        self._one_of("space", SPACES)
        if self.depth < 0 or CROP_SIZE % 2**self.depth:
            raise SettingsError(
                f"depth {self.depth}: the crop of {CROP_SIZE} pixels cannot be halved that often; "
                "expected 3 to 5"
            )
        self._one_of("sampling", ("bilinear", "hyperbolic"))
        self._one_of("symmetry", ("mesh", "image"))
        self._one_of("smooth_on", ("face", "offsets"))
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
