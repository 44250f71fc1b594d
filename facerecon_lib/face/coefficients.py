"""The numbers that describe a face in a photo: what the encoder regresses and fitting optimises.

    coefficients = FaceCoefficients.mean(batch=2, identity=80, expression=43, albedo=40)
    vector = coefficients.to_vector()                                   # (2, 197)
    again = FaceCoefficients.from_vector(vector, coefficients.sizes)

Identity, expression and albedo are in standard deviations of their basis, so the prior of each is
N(0, 1). Section 2 of the report lists the seven groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

DEFAULT_DEPTH = 350.0
"""Distance in mm at which a face of ordinary size fills the crop as in an aligned photo."""

DEFAULT_TRANSLATION = (0.0, 0.0, DEFAULT_DEPTH)
"""Translation of the start, mm, in the camera frame."""

UNIT_AMBIENT = math.sqrt(4.0 * math.pi)
"""First lighting row that alone shades with exactly 1: 1 / Y_00 = 3.545."""

_TAILS = {  # the shape after the batch; None is a size that the face model decides
    "identity": (None,),
    "expression": (None,),
    "albedo": (None,),
    "rotation": (3,),
    "translation": (3,),
    "scale": (1,),
    "lighting": (9, 3),
}


class ModelSizes(NamedTuple):
    """How many coefficients the face model's three bases take."""

    identity: int
    expression: int
    albedo: int

    @property
    def vector(self) -> int:
        """Length of the joined vector: the three bases, 3 + 3 + 1 of the pose, 27 of the light."""
        return sum(self) + 3 + 3 + 1 + 27


@dataclass(eq=False)
class FaceCoefficients:
    """A batch of faces: shape, skin, pose and light.

    Shapes are checked when an instance is made.

    identity: (batch, Ki) in standard deviations, Eq. 1.
    expression: (batch, Ke) in standard deviations, Eq. 1.
    albedo: (batch, Ka) in standard deviations, Eq. 2.
    rotation: (batch, 3) axis-angle in radians; zero is frontal.
    translation: (batch, 3) in mm, camera frame.
    scale: (batch, 1), about 1.
    lighting: (batch, 9, 3) spherical-harmonic coefficients a colour channel, Eq. 3.

    Raises ValueError where a shape, a batch size, a dtype or a device does not fit.
    """

    identity: Float[Tensor, "batch identity"]
    expression: Float[Tensor, "batch expression"]
    albedo: Float[Tensor, "batch albedo"]
    rotation: Float[Tensor, "batch 3"]
    translation: Float[Tensor, "batch 3"]
    scale: Float[Tensor, "batch 1"]
    lighting: Float[Tensor, "batch 9 3"]

    def __post_init__(self) -> None:
        for name, tail in _TAILS.items():
            value = getattr(self, name)
            expected = "(batch, " + ", ".join("K" if n is None else str(n) for n in tail) + ")"
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name}: expected a floating-point tensor, got {kind}")
            shape = tuple(value.shape)
            fits = len(shape) == len(tail) + 1 and all(
                want in (None, got) for want, got in zip(tail, shape[1:], strict=True)
            )
            if not fits:
                hint = "is the batch axis there?"
                raise ValueError(f"{name}: expected shape {expected}, got {shape}: {hint}")
            ours, theirs = _kind(self.identity), _kind(value)
            if ours != theirs:
                raise ValueError(f"{name}: expected {ours} as identity has, got {theirs}")

    @classmethod
    def mean(
        cls,
        batch: int = 1,
        identity: int = 80,
        expression: int = 43,
        albedo: int = 40,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> FaceCoefficients:
        """The mean face, neutral and frontal, at `DEFAULT_DEPTH` under unit ambient light.

        `FaceCoefficients.mean(batch, *sizes)` takes the `sizes` of another instance or of a model.
        """
        kind = {"device": device, "dtype": dtype}
        lighting = torch.zeros(batch, 9, 3, **kind)
        lighting[:, 0] = UNIT_AMBIENT
        # unlike torch.tensor, torch.full copies nothing to a GPU, for which the host would wait
        start = [torch.full((batch,), value, **kind) for value in DEFAULT_TRANSLATION]
        return cls(
            identity=torch.zeros(batch, identity, **kind),
            expression=torch.zeros(batch, expression, **kind),
            albedo=torch.zeros(batch, albedo, **kind),
            rotation=torch.zeros(batch, 3, **kind),
            translation=torch.stack(start, 1),
            scale=torch.ones(batch, 1, **kind),
            lighting=lighting,
        )

    @property
    def sizes(self) -> ModelSizes:
        """(Ki, Ke, Ka)."""
        return ModelSizes(self.identity.shape[1], self.expression.shape[1], self.albedo.shape[1])

    def to_vector(self) -> Float[Tensor, "batch coefficient"]:
        """Join everything, in the order of the fields: Ki | Ke | Ka | 3 | 3 | 1 | 27.

        Lighting is laid out row by row: (l, m) slowest, colour channel fastest. Units stay.
        """
        return torch.cat([getattr(self, name).flatten(1) for name in _TAILS], dim=1)

    @classmethod
    def from_vector(
        cls, vector: Float[Tensor, "batch coefficient"], sizes: tuple[int, int, int]
    ) -> FaceCoefficients:
        """Split what `to_vector` joined; `sizes` is (Ki, Ke, Ka).

        Raises ValueError when the length is not that of these sizes.
        """
        sizes = ModelSizes(*sizes)
        if vector.ndim != 2 or vector.shape[1] != sizes.vector:
            raise ValueError(
                f"vector: expected shape (batch, {sizes.vector}) for sizes {tuple(sizes)}, "
                f"got {tuple(vector.shape)}: pass the sizes of the model that it was made with"
            )
        identity, expression, albedo, rotation, translation, scale, lighting = vector.split(
            [*sizes, 3, 3, 1, 27], dim=1
        )
        return cls(
            identity, expression, albedo, rotation, translation, scale, lighting.reshape(-1, 9, 3)
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> FaceCoefficients:
        """A new instance with `function` applied to each of the seven tensors."""
        return type(self)(*(function(getattr(self, field.name)) for field in fields(self)))

    def to(self, *args, **kwargs) -> FaceCoefficients:
        """As `Tensor.to`: a device, a dtype or both."""
        return self.map(lambda value: value.to(*args, **kwargs))

    def detach(self) -> FaceCoefficients:
        """The same numbers, cut from the graph."""
        return self.map(Tensor.detach)

    def clone(self) -> FaceCoefficients:
        """A copy that shares no memory."""
        return self.map(Tensor.clone)

    def __len__(self) -> int:
        return self.identity.shape[0]

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> FaceCoefficients:
        """Some faces of the batch; one integer gives a batch of one, or raises IndexError."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"face {index}: expected a number under the batch's {len(self)}")
            index = slice(index % len(self), index % len(self) + 1)
        return self.map(lambda value: value[index])

    @classmethod
    def cat(cls, parts: Sequence[FaceCoefficients]) -> FaceCoefficients:
        """Join batches, in order. Raises ValueError when there is none or their sizes differ."""
        parts = list(parts)
        if not parts:
            raise ValueError("cat: expected one batch or more, got none")
        for part in parts:
            if part.sizes != parts[0].sizes:
                raise ValueError(
                    f"cat: expected sizes {tuple(parts[0].sizes)} as the first batch has, "
                    f"got {tuple(part.sizes)}: use one face model for all"
                )
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in _TAILS))

    def __repr__(self) -> str:
        kind = f"{self.identity.dtype}, {self.identity.device}".removeprefix("torch.")
        return f"FaceCoefficients(batch={len(self)}, sizes={tuple(self.sizes)}, {kind})"


def _kind(value: Tensor) -> str:
    return f"a batch of {value.shape[0]}, {value.dtype}, {value.device}"
