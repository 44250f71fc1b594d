"""Names of frequent shapes, and the one check of a tensor's shape, for what a user calls.

    sizes = expect("vertices", vertices, "batch vertex 3")       # {"batch": 2, "vertex": 5023}
    expect("colours", colours, "batch vertex 3", **sizes)        # the same batch and vertices
    expect("normals", normals, "... 3")                          # any axes before the last
    expect_fields(batch)                                         # a dataclass, by its annotations

Internal functions state their shapes in jaxtyping signatures alone. Every notebook shows these
messages.
"""

from dataclasses import fields
from typing import get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

Vertices = Float[Tensor, "batch vertex 3"]  # their normals and their colours too
Triangles = Int[Tensor, "face 3"]
Landmarks = Float[Tensor, "batch 68 2"]  # pixels
Images = Float[Tensor, "batch 3 height width"]
Masks = Float[Tensor, "batch 1 height width"]
PerFace = Float[Tensor, " batch"]
PerVertex = Float[Tensor, "batch vertex"]
VertexValues = Float[Tensor, "batch vertex channel"]


def expect(
    name: str, value: Tensor | np.ndarray, shape: str, hint: str = "", **sizes: int
) -> dict[str, int]:
    """The sizes of the named axes of `value`, or a ValueError: "vertices: expected (batch, vertex,
    3), got (1, 3, 5023): transpose it?"

    shape: numbers must match, names stand for any size but the same one throughout; "..." in front
    stands for any axes. hint: what to do instead; without it, the plain cases are recognised.
    sizes: of axes, from an earlier call or from the caller.
    """
    axes, got = shape.split(), tuple(value.shape)
    named = _match(axes, got, sizes)
    if named is not None:
        return named
    swapped = (*got[:-2], *got[:-3:-1])
    unbatched = axes[1:] if axes[0] == "batch" else axes
    if not hint and any(_match(a, swapped, sizes) is not None for a in (axes, unbatched)):
        hint = "transpose it?"
    elif not hint and _match(unbatched, got, sizes) is not None:
        hint = "add the batch axis with [None]"
    expected = ", ".join(str(sizes.get(axis, axis)) for axis in axes) + "," * (len(axes) == 1)
    raise ValueError(f"{name}: expected ({expected}), got {got}" + (f": {hint}" if hint else ""))


def expect_fields(instance) -> None:
    """`expect` of each tensor in a dataclass, by the jaxtyping shape of its field; None passes."""
    sizes = {}
    for field in fields(instance):
        value = getattr(instance, field.name)
        for kind in get_args(field.type) or (field.type,):
            if value is not None and hasattr(kind, "dim_str"):
                sizes = expect(field.name, value, kind.dim_str, **sizes)


def _match(axes: list[str], got: tuple[int, ...], sizes: dict[str, int]) -> dict[str, int] | None:
    """The size of each named axis, or None where the shape does not fit."""
    if axes and axes[0] == "...":
        axes = axes[1:]
        got = got[max(len(got) - len(axes), 0) :]
    if len(axes) != len(got):
        return None
    sizes = dict(sizes)
    for axis, size in zip(axes, got, strict=True):
        if size != (int(axis) if axis.isdigit() else sizes.setdefault(axis, size)):
            return None
    return sizes
