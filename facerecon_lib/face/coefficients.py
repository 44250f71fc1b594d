"""The numbers that describe a face in a photo: what the encoder regresses and fitting optimises.

    coefficients = FaceCoefficients.mean(batch=2, identity=80, expression=43, albedo=25)
    vector = coefficients.to_vector()                                   # (2, 182)
    again = FaceCoefficients.from_vector(vector, coefficients.sizes)

Identity, expression and albedo are in standard deviations of their basis, so the prior of each is
N(0, 1). Notebook 01, section 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from .shapes import expect, expect_fields

DEFAULT_DEPTH = 350.0
"""Distance in mm at which a face of ordinary size fills the crop as in an aligned photo."""

DEFAULT_TRANSLATION = (0.0, 0.0, DEFAULT_DEPTH)
"""Translation of the start, mm, in the camera frame."""

UNIT_AMBIENT = math.sqrt(4.0 * math.pi)
"""First lighting row that alone shades with exactly 1: 1 / Y_00 = 3.545."""


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
    """A batch of faces: shape, skin, pose and light. Making an instance checks the shapes."""

    identity: Float[Tensor, "batch identity"]  # standard deviations, Eq. 1
    expression: Float[Tensor, "batch expression"]  # standard deviations, Eq. 1
    albedo: Float[Tensor, "batch albedo"]  # standard deviations, Eq. 2
    rotation: Float[Tensor, "batch 3"]  # axis-angle in radians; zero is frontal
    translation: Float[Tensor, "batch 3"]  # mm, camera frame
    scale: Float[Tensor, "batch 1"]  # about 1
    lighting: Float[Tensor, "batch 9 3"]  # spherical harmonics per colour channel, Eq. 3
    gaze: Float[Tensor, "batch 2 2"] | None = None  # as in `face.gaze`; None: eyes are at rest

    def __post_init__(self) -> None:
        for name, value in self._parts().items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name}: expected a floating-point tensor, got {kind}")
            if _kind(value) != _kind(self.identity):
                raise ValueError(
                    f"{name}: expected {_kind(self.identity)} as identity has, got {_kind(value)}"
                )
        expect_fields(self)

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
    ) -> Self:
        """The mean face, neutral and frontal, at `DEFAULT_DEPTH` under unit ambient light."""
        kind = {"device": device, "dtype": dtype}
        bases = [torch.zeros(batch, size, **kind) for size in (identity, expression, albedo)]
        lighting = torch.zeros(batch, 9, 3, **kind)
        lighting[:, 0] = UNIT_AMBIENT
        # unlike torch.tensor, torch.full copies nothing to a GPU, for which the host would wait
        start = [torch.full((batch,), value, **kind) for value in DEFAULT_TRANSLATION]
        rotation, scale = torch.zeros(batch, 3, **kind), torch.ones(batch, 1, **kind)
        return cls(*bases, rotation, torch.stack(start, 1), scale, lighting)

    @property
    def sizes(self) -> ModelSizes:
        """(Ki, Ke, Ka)."""
        return ModelSizes(self.identity.shape[1], self.expression.shape[1], self.albedo.shape[1])

    def to_vector(self) -> Float[Tensor, "batch coefficient"]:
        """Join all but the gaze: Ki | Ke | Ka | 3 | 3 | 1 | 27, of lighting the channel fastest."""
        parts = [value.flatten(1) for name, value in self._parts().items() if name != "gaze"]
        return torch.cat(parts, dim=1)

    @classmethod
    def from_vector(
        cls, vector: Float[Tensor, "batch coefficient"], sizes: tuple[int, int, int]
    ) -> Self:
        """Split what `to_vector` joined; `sizes` is (Ki, Ke, Ka)."""
        sizes = ModelSizes(*sizes)
        hint = "pass the sizes of the model that it was made with"
        expect("vector", vector, "batch coefficient", hint, coefficient=sizes.vector)
        *parts, lighting = vector.split([*sizes, 3, 3, 1, 27], dim=1)
        return cls(*parts, lighting.reshape(-1, 9, 3))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A new instance with `function` applied to each tensor."""
        return replace(self, **{name: function(value) for name, value in self._parts().items()})

    def _parts(self) -> dict[str, Tensor]:
        """The fields that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def to(self, *args, **kwargs) -> Self:
        """As `Tensor.to`: a device, a dtype or both."""
        return self.map(lambda value: value.to(*args, **kwargs))

    def detach(self) -> Self:
        """The same numbers, cut from the graph."""
        return self.map(Tensor.detach)

    def clone(self) -> Self:
        """A copy that shares no memory."""
        return self.map(Tensor.clone)

    def __len__(self) -> int:
        return self.identity.shape[0]

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Self:
        """Some faces of the batch; one integer gives a batch of one, or raises IndexError."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"face {index}: expected a number under the batch's {len(self)}")
            index = slice(index % len(self), index % len(self) + 1)
        return self.map(lambda value: value[index])

    @classmethod
    def cat(cls, parts: Sequence["FaceCoefficients"]) -> Self:
        """Join batches of one face model, in order; all with a gaze, or none."""
        columns = zip(*(part._parts().values() for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def __repr__(self) -> str:
        kind = _kind(self.identity)
        return f"FaceCoefficients(batch={len(self)}, sizes={tuple(self.sizes)}, {kind})"


def _kind(value: Tensor) -> str:
    return f"{value.dtype}, {value.device}".removeprefix("torch.")
