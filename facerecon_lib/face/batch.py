"""A batch for training and evaluation: aligned crops, their landmarks, and the truth if known.

batch = RenderedFaces(model, seed=3).batch(torch.arange(16))
coefficients = encoder(batch.image)

Notebook 06, section 2.1.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .coefficients import FaceCoefficients
from .shapes import expect_fields


@dataclass(eq=False)
class FaceBatch:
    """Aligned faces.

    valid: 1 where a pixel is of the face or what the face model may cover, 0 beyond the photo's
    edge and, where that is known, on hair, glasses and hands.
    truth, tone, true_vertices, true_albedo: of rendered faces; the last two are exact, with the
    wrinkles and skin details that the bases of `truth` lack.
    flatness: of rendered faces, how much of its depth a face keeps in the picture: 1 all of it.
    skin: what was learned before of a photo's skin, albedo coefficients; NaN where nothing was.
    """

    image: Float[Tensor, "batch 3 size size"]  # in [0, 1]
    valid: Float[Tensor, "batch 1 size size"]
    landmarks: Float[Tensor, "batch 68 2"]  # crop pixels
    kind: str  # "2d" or "3d", of the landmarks' detector
    names: list[str]  # for messages and reports
    truth: FaceCoefficients | None = None
    tone: Int[Tensor, " batch"] | None = None  # Monk's, 1 to 10, of the skin without light
    person: list[str] | None = None  # of photos, "" where unknown
    points: Float[Tensor, "batch 478 2"] | None = None  # of photos: `face_mesh`'s, crop pixels
    true_vertices: Float[Tensor, "batch vertex 3"] | None = None
    true_albedo: Float[Tensor, "batch vertex 3"] | None = None
    flatness: Float[Tensor, " batch"] | None = None
    skin: Float[Tensor, "batch albedo"] | None = None

    def __post_init__(self) -> None:
        expect_fields(self)
        if self.kind not in ("2d", "3d"):
            raise ValueError(f"kind: expected '2d' or '3d', got {self.kind!r}")
        for name in ("names", "truth", "person"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self):
                raise ValueError(f"{name}: expected {len(self)} like the images, got {len(value)}")

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Self:
        """The same faces on another device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if hasattr(v, "to")}
        return replace(self, **moved)

    def __getitem__(self, part: slice) -> Self:
        """Some faces of the batch. Raises TypeError for anything but a slice."""
        if not isinstance(part, slice):
            raise TypeError(f"faces: expected a slice, as in batch[:4], got {part!r}")
        rows = {k: v[part] for k, v in vars(self).items() if v is not None and k != "kind"}
        return replace(self, **rows)
