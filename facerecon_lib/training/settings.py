"""Every number of a training run, of every stage. `profiles.py` has sets of them by name.

    settings = replace(PROFILES["smoke"], steps=60, seed=1)
    settings.check()
    settings.total_steps, settings.rate(0)

A field's type says which values are valid, its text what it means; the options of `facerecon train`
are made of both. Notebooks 06 and 09, sections 2.1 and 2.2.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from ..data.shards.files import is_local
from ..files.errors import FacereconError
from ..fitting import weights as tables

VERSION = 4  # of a settings' file; 1 did not name it
RENAMED = {"details": "wrinkles", "light": "illumination", "pretrained": "init"}  # before 4
NEW = ("mix", "vary", "skins", "rendered_weights")  # in version 4

RULES = {
    "0 or more": lambda x: x >= 0,
    "more than 0": lambda x: x > 0,
    "less than 2^62": lambda x: x < 2**62,
    "0 (none) or a share below 1": lambda x: 0 <= x < 1,
}
Count = Annotated[int, "0 or more"]
Amount = Annotated[float, "0 or more"]
Seed = Annotated[int, "0 or more", "less than 2^62"]
Share = Annotated[float, "0 (none) or a share below 1"]
PositiveCount = Annotated[int, "more than 0"]
PositiveAmount = Annotated[float, "more than 0"]
Split = Literal["random", "person"]
Family = Literal["train", "held-out"]
Illumination = Literal["photo", "encoder", "free", "grey", "known"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["32-true", "bf16-mixed", "auto"]
Backbone = Literal["resnet50", "resnet18", "mobilenet_v3_large", "dlib_resnet29"]


class SettingsError(FacereconError):
    """Settings that no run can have. One line: what is wrong and what to do."""


LOSSES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "base": {
        "report": {k: tables.REPORT_WEIGHTS[k] for k in ("pixel", "landmark", "recognition")},
        "balanced": tables.TRAIN_WEIGHTS,
        "rendered": tables.RENDERED_WEIGHTS,
    },
    "augmented": {
        "report": tables.AUGMENTED_REPORT_WEIGHTS,
        "balanced": tables.AUGMENTED_WEIGHTS,
        "rendered": tables.AUGMENTED_RENDERED_WEIGHTS,
    },
    "learned": {"balanced": tables.LEARNED_WEIGHTS, "rendered": tables.LEARNED_WEIGHTS},
    "nonlinear": {
        "balanced": tables.NONLINEAR_WEIGHTS,
        "rendered": tables.NONLINEAR_RENDERED_WEIGHTS,
    },
    "depth": {"rendered": tables.DEPTH_WEIGHTS},
}
"""By stage: Eq. 7 or 12 as printed, for sums; ours for photos; ours for the known truth (a learned
model has none to go by)."""


def loss_weights(stage: str, losses: str, recognition: str = "none") -> dict[str, float]:
    """A row of LOSSES for a recognition network; "none" has no such term."""
    weights = dict(LOSSES[stage][losses])
    if recognition == "none":
        weights.pop("recognition", None)
    elif losses == "report":
        weights["recognition"] = tables.RECOGNITION_WEIGHTS[recognition]
    return weights


def setting(default: Any, text: str) -> Any:
    """A field and what it means: the help of its option, to which a Literal's choices are added."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class RunSettings:
    """What all stages have: the data, the steps, Adam, the losses, the log."""

    stage: ClassVar[str]  # in the settings' file too: a run is resumed as what it began as
    network_file: ClassVar[str]
    starts: ClassVar[tuple[str, ...]]  # what `init` may be beside a file
    wrinkles: ClassVar[bool] = False
    clean: ClassVar[bool] = False
    frames: ClassVar[int] = 1
    people: ClassVar[int | None] = None
    picture_size: ClassVar[int] = 224

    profile: str = setting("smoke", "smoke (default), colab, full (the report's), or shipped")
    face_model: str | None = setting(None, "a face model; else $FACERECON_MODEL or the shipped one")
    subdivision: Count = setting(0, "Loop steps of its mesh")
    init: str = setting(
        "none", "none, or a file to go on from; base also imagenet or faces, depth also unet"
    )

    data: str | None = setting(None, "shards of photos; without them, rendered faces")
    mix: str | None = setting(None, "rendered:0.5 makes half of a batch rendered faces, with data")
    vary: bool | None = setting(None, "photos in other light, also mirrored; default: with mix")
    split: Split = setting("random", "of photos")
    family: Family = setting("train", "light and background of rendered faces")
    seed: Seed = setting(0, "of faces, of the order of photos, of the first weights")
    workers: Count = setting(0, "processes that read photos")

    batch: PositiveCount = setting(8, "faces per step, of all processes together")
    steps: int | None = setting(None, "steps in all; default: as many as the epochs have")
    epochs: PositiveAmount = setting(1.0, "instead of steps")
    faces_per_epoch: PositiveCount = setting(640, "of rendered faces; photos have their number")
    learning_rate: PositiveAmount = setting(1e-3, "Adam's")
    schedule: Schedule = setting("constant", "of the learning rate, after the warmup")
    warmup: Count = setting(0, "steps of a linear rise")
    last_rate: Amount = setting(0.02, "the last learning rate of a cosine, as a share of the first")
    weight_decay: Amount = setting(0.0, "0 is Adam, more is AdamW")
    adam_eps: Amount = setting(1e-8, "gradients far below it hardly move a weight")
    clip_norm: PositiveAmount = setting(10.0, "the longest gradient")
    ema: Share = setting(0.0, "kept per step by the running average of the weights; 0: no average")
    precision: Precision = setting("32-true", "bf16-mixed: networks only; auto: if the GPU can")

    weights: Mapping[str, float] = field(default_factory=dict)  # of the objective's terms
    rendered_weights: Mapping[str, float] = field(default_factory=dict)  # of a mix's rendered faces
    reduction: Literal["mean", "sum"] = setting("mean", "of the losses, over pixels and vertices")
    recognition: Literal["none", "facenet", "dlib"] = setting("none", "network of Eq. 6")

    log_every: Count = setting(10, "steps between two records of the log; 0 is never, as below")
    picture_every: Count = setting(100, "steps between two pictures")
    checkpoint_every: Count = setting(100, "steps between two checkpoints")
    validate_every: Count = setting(100, "steps between two validations")
    validation_faces: Count = setting(64, "rendered faces of a validation, and as many photos")

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

    @property
    def varies(self) -> bool:
        """Whether photos are varied."""
        return self.mix is not None if self.vary is None else self.vary

    def parts(self, processes: int) -> dict[str, int]:
        """Faces per step and process of each kind, "rendered" before "photos".

        Raises SettingsError as `share`, and where a mix leaves nothing of one kind.
        """
        share = self.share(processes)
        if self.mix is None:
            return {"rendered" if self.data is None else "photos": share}
        rendered = round(share * float(self.mix.removeprefix("rendered:")))
        if not 0 < rendered < share:
            raise SettingsError(
                f"mix {self.mix!r}: of {share} faces {rendered} are rendered; take a larger batch"
            )
        return {"rendered": rendered, "photos": share - rendered}

    def check(self) -> None:
        """Raises SettingsError for an invalid value."""
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            if isinstance(value, float) and math.isinf(value):
                raise SettingsError(f"{name} {value}: expected a finite number")
            if get_origin(kind) is Literal and value not in get_args(kind):
                raise SettingsError(f"{name} {value!r}: expected {' or '.join(get_args(kind))}")
            self._expect(name, *getattr(kind, "__metadata__", ()))
        self._expect("total_steps", "more than 0")
        if self.validate_every:
            self._expect("validation_faces", "more than 0")
        if self.data == "":
            raise SettingsError("data '': expected a folder or an address of shards")
        if self.mix is not None:
            self._check_mix()
        if self.init not in self.starts and not self.init.endswith(".safetensors"):
            raise SettingsError(
                f"init {self.init!r}: expected {', '.join(self.starts)}, or the "
                f".safetensors file of a network to go on from, such as {self.network_file}"
            )

    def _check_mix(self) -> None:
        if not re.fullmatch(r"rendered:0?\.\d+", self.mix) or not float(self.mix[9:]):
            raise SettingsError(f"mix {self.mix!r}: expected a share, as in rendered:0.5")
        if self.data is None:
            raise SettingsError(f"mix {self.mix!r}: mixes rendered faces with photos; add --data")

    def _only(self, **values: str) -> None:
        """Raises SettingsError where one of these settings has another value than the stage can."""
        for name, value in values.items():
            if (other := getattr(self, name)) != value:
                raise SettingsError(f"{name} {other!r}: train {self.stage} takes only {value}")

    def _expect(self, name: str, *rules: str) -> None:
        value = getattr(self, name)
        for rule in rules:
            if not RULES[rule](value):
                raise SettingsError(f"{name} {value}: expected {rule}")

    def resolved(self) -> Self:
        """With the whole paths of its files: a run may be resumed from another folder."""
        paths = {name: getattr(self, name) for name in FILES if hasattr(self, name)}
        if self.init in self.starts:
            del paths["init"]
        local = {name: path for name, path in paths.items() if path and is_local(path)}
        return replace(self, **{name: str(Path(path).resolve()) for name, path in local.items()})

    def as_json(self) -> dict:
        head = {"stage": self.stage, "version": VERSION}
        weights = dict(weights=dict(self.weights), rendered_weights=dict(self.rendered_weights))
        return head | asdict(replace(self, **weights))

    @classmethod
    def from_json(cls, data: Mapping) -> Self:
        """What `as_json` gave. Raises SettingsError where it is of another stage or version."""
        if not isinstance(data, Mapping):
            raise SettingsError("not the settings of a run")
        values = dict(data)
        stage = values.pop("stage", "base")  # it was the only one once
        version = values.pop("version", 1)
        if version < 4:
            values = {RENAMED.get(name, name): value for name, value in values.items()}
            values = {n: getattr(cls(), n) for n in NEW if hasattr(cls(), n)} | values
        if version == 1 and values.get("albedo") == "monk":
            values["albedo"] = None  # the word for any model's own basis, whatever it was called
        if stage != cls.stage:
            raise SettingsError(f"a run of facerecon train {stage}, not {cls.stage}")
        odd = sorted(set(values) ^ {f.name for f in fields(cls)})
        if odd:
            more = f" and {len(odd) - 3} more" * (len(odd) > 3)
            raise SettingsError(f"settings of another version: {', '.join(odd[:3])}{more}")
        return cls(**values)


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """A run of the base branch, section 2.1: the same settings, the same run."""

    stage: ClassVar[str] = "base"
    network_file: ClassVar[str] = "encoder.safetensors"
    starts: ClassVar[tuple[str, ...]] = ("none", "imagenet", "faces")

    backbone: Backbone = setting("mobilenet_v3_large", "from photo to features")
    norm: Literal["batch", "group", "frozen"] = setting("batch", "normalisation of the backbone")
    input_size: int = setting(224, "pixels of the photo that the backbone sees")
    sync_norm: bool = setting(False, "batch normalisation over all processes together, on CUDA")
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights("base", "rendered"))
    rendered_weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("base", "rendered")
    )
    skins: str | None = setting(None, "what was learned of the photos' skin, a file")
    render_size: PositiveCount = setting(224, "pixels of the rendering that losses compare")

    def check(self) -> None:
        """Raises SettingsError for an invalid value, and for two that do not go together."""
        super().check()
        if self.skins is not None and self.data is None:
            raise SettingsError("skins: they are of photos; say where those are with --data")


@dataclass(frozen=True)
class AugmentedSettings(RunSettings):
    """A run of the augmented branch, section 2.2."""

    stage: ClassVar[str] = "augmented"
    network_file: ClassVar[str] = "offset_unet.safetensors"
    starts: ClassVar[tuple[str, ...]] = ("none",)

    encoder: str | None = setting(None, "a file; else $FACERECON_ENCODER or the shipped one")
    illumination: Illumination = setting("photo", "of the base face; free, grey: solved for")
    albedo: str | None = setting(
        None, "basis of the base face; default: its model's (smoke: light)"
    )
    width: int = setting(16, "channels of the U-Net at full resolution")
    depth: int = setting(4, "how often the U-Net halves the crop, 3 to 5")
    norm: str = setting("inner", "of the U-Net: inner (none at full resolution), group or batch")
    space: Literal["image", "uv"] = setting("image", "what the maps are laid out in")
    sampling: Literal["bilinear", "hyperbolic"] = setting("bilinear", "of the maps at the vertices")
    symmetry: Literal["mesh", "image"] = setting("mesh", "where Eq. 9 mirrors the offsets")
    smooth_on: Literal["face", "offsets"] = setting("offsets", "what Eq. 10 and 11 smooth")
    wrinkles: bool = setting(True, "rendered faces with wrinkles, marks and make-up")
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("augmented", "rendered")
    )
    rendered_weights: Mapping[str, float] = field(
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


@dataclass(frozen=True)
class DepthSettings(RunSettings):
    """A run of notebook 13's depth network."""

    stage: ClassVar[str] = "depth"
    network_file: ClassVar[str] = "depth_unet.safetensors"
    starts: ClassVar[tuple[str, ...]] = ("none", "unet")
    wrinkles: ClassVar[bool] = True

    encoder: str | None = setting(None, "a file; else $FACERECON_ENCODER or the shipped one")
    pixels: int = setting(112, "side of the picture that the network sees")
    width: int = setting(16, "channels of the network at full resolution")
    depth: int = setting(4, "how often it halves the picture, 3 to 5")
    norm: str = setting("group", "of the network: inner (none at full resolution), group or batch")
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights("depth", "rendered"))

    def check(self) -> None:
        """Raises SettingsError for an invalid value, and for photos: they come without depth."""
        super().check()
        if self.data is not None:
            raise SettingsError("data: photos come without depth; leave --data out")
        self._only(recognition="none", reduction="mean")


@dataclass(frozen=True)
class LearnedSettings(RunSettings):
    """A run that learns a face model from pictures (notebook 11)."""

    stage: ClassVar[str] = "learned"
    network_file: ClassVar[str] = "learned_model.safetensors"
    starts: ClassVar[tuple[str, ...]] = ("none",)

    identity: PositiveCount = setting(32, "modes of shape to learn")
    albedo: PositiveCount = setting(16, "modes of skin to learn")
    nodes: PositiveCount = setting(500, "points of the mesh that carry the modes of shape")
    width: PositiveCount = setting(24, "channels of the network after its first block, of four")
    input_size: PositiveCount = setting(64, "pixels of the photo that the network sees")
    render_size: PositiveCount = setting(64, "pixels of the rendering that losses compare")
    frames: PositiveCount = setting(4, "of a rendered person, in one batch")
    people: int | None = setting(None, "rendered people in all; default: no end")
    clean: bool = setting(False, "rendered faces alone on grey")
    picture_size: PositiveCount = setting(112, "pixels of rendered pictures, a multiple of 8")
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("learned", "rendered")
    )
    rendered_weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("learned", "rendered")
    )

    def check(self) -> None:
        """Raises SettingsError for an invalid value, and for two that do not go together."""
        super().check()
        # its network makes the bases too, which bfloat16 would round
        self._only(recognition="none", reduction="mean", precision="32-true")
        self.parts(1)
        if self.people is not None and self.people < 1:
            raise SettingsError(f"people {self.people}: expected more than 0")
        for name, unit in (("width", 4), ("input_size", 32), ("picture_size", 8)):
            if (value := getattr(self, name)) % unit:
                raise SettingsError(f"{name} {value}: expected a multiple of {unit}")

    def parts(self, processes: int) -> dict[str, int]:
        """As of RunSettings. Raises SettingsError also where a rendered person's frames would not
        stay together."""
        parts = super().parts(processes)
        for count in {parts.get("rendered", 0), self.share(processes)}:
            if count % self.frames:
                raise SettingsError(
                    f"batch {self.batch}: {count} faces in a process are no multiple of "
                    f"{self.frames} frames"
                )
        return parts


@dataclass(frozen=True)
class NonlinearSettings(RunSettings):
    """A run of the nonlinear model of uv maps (notebook 12)."""

    stage: ClassVar[str] = "nonlinear"
    network_file: ClassVar[str] = "nonlinear_model.safetensors"
    starts: ClassVar[tuple[str, ...]] = ("none",)

    codes: PositiveCount = setting(32, "coefficients of shape, and as many of albedo")
    linear_faces: PositiveCount = setting(2048, "of which the linear model is learned")
    render_size: PositiveCount = setting(112, "pixels of the rendering that losses compare")
    wrinkles: bool = setting(True, "rendered faces with wrinkles, marks and make-up")
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("nonlinear", "rendered")
    )
    rendered_weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights("nonlinear", "rendered")
    )

    def check(self) -> None:
        """Raises SettingsError for an invalid value, and for a mesh or term that it cannot have."""
        super().check()
        self._only(recognition="none", reduction="mean")
        if self.subdivision:
            raise SettingsError(
                "subdivision: the linear model beside it has the coarse mesh; take 0"
            )


FILES = ("data", "face_model", "encoder", "init", "skins")
"""Settings that name files."""

ANEW = ("steps", "epochs", "workers", "log_every", "picture_every", "checkpoint_every")
"""What a resumed run may change: none of it changes the steps that both would take."""


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """The settings that a resumed run may not change and does: "batch 8, not 16"."""
    free = {*(ANEW if new.schedule == "constant" else ANEW[2:]), "face_model", "encoder"}
    a, b = old.as_json(), new.as_json()
    free |= {n for n in ("data", "skins") if None not in (a.get(n), b.get(n))}  # told by content
    if "data" in free:
        free.add("faces_per_epoch")
    return [
        f"{name} {json.dumps(a[name])}, not {json.dumps(b[name])}"
        for name in a
        if name not in free and a[name] != b[name]
    ]
