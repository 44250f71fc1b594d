"""How near two bases are: the angles between what they span, and what one says of the other.

    subspace_angles(learned, hidden)                     # degrees, the smallest first
    best_shape(shapes, learned)                          # the nearest shapes that it has
    principal_modes(basis, coefficients)                 # the same faces, in one fixed gauge

A. Björck and G. Golub, "Numerical methods for computing angles between linear subspaces", 1973.
Notebook 11.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.shapes import expect

Basis = Float[Tensor, "mode vertex 3"]
RANK = 1e-6  # of the largest singular value: what is less is no direction


def orthonormal(basis: Basis) -> Float[Tensor, "number direction"]:
    """Columns of length 1 that span what the modes span, in double precision; one per independent
    mode."""
    u, size, _ = torch.linalg.svd(basis.flatten(1).double().T, full_matrices=False)
    return u[:, size > RANK * size.max()]


def subspace_angles(
    a: Float[Tensor, "mode vertex 3"], b: Float[Tensor, "other vertex 3"]
) -> Float[Tensor, " angle"]:
    """The principal angles between the spans of two bases, degrees, the smallest first.

    As many as the smaller span has directions; modes that others give count for nothing. In double
    precision: the cosine of a small angle is so near to 1 that float32 cannot tell.
    """
    expect("b", b, "mode vertex 3", vertex=a.shape[1])
    cosines = torch.linalg.svdvals(orthonormal(a).T @ orthonormal(b))
    return cosines.clamp(max=1).acos().rad2deg()


@torch.no_grad()
def best_shape(shapes: Float[Tensor, "batch vertex 3"], basis: Basis) -> Tensor:
    """The nearest shapes in the span of the basis, in least squares over all vertices; both as
    differences from the mean."""
    q = orthonormal(basis).to(shapes.dtype)
    return (shapes.flatten(1) @ q @ q.T).view_as(shapes)


def principal_modes(
    basis: Basis, coefficients: Float[Tensor, "face mode"]
) -> tuple[Basis, Float[Tensor, "face mode"]]:
    """The same faces in the gauge of PCA: coefficients of mean square 1 that do not go together,
    modes at right angles, the one that moves faces most first, its largest entry positive.

    coefficients @ basis stays what it was; the faces' mean stays in the coefficients.
    """
    flat, c = basis.flatten(1).double(), coefficients.double()
    u, r = torch.linalg.qr(c)  # only K x K matrices from here on
    v, s = torch.linalg.qr(flat.T)
    left, size, right = torch.linalg.svd(r @ s.T)
    modes, count = (v @ right.T).T, len(c) ** 0.5
    sign = modes.gather(1, modes.abs().argmax(1, keepdim=True)).sign()
    new_basis = sign * modes * (size / count)[:, None]
    new_coefficients = (u @ left) * count * sign[:, 0]
    return (
        new_basis.to(basis.dtype).view(-1, *basis.shape[1:]),
        new_coefficients.to(coefficients.dtype),
    )
