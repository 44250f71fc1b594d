"""Vertex attributes at fragments, and backwards: the renderer's Warp kernels.

    launch(blend, real, pix_to_face.numel(), faces, pix_to_face, bary, vertices, channels,
           attributes, values)

Arrays are flat; over fragments in the order (batch, height, width, k). Notebook 04, section 2.1.
"""

import warp as wp

from .triangle import Indices, Longs, Reals

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def rows(faces: Indices, i: int, vertices: int, channels: int):
    """Where the attributes of the three corners begin; i counts triangles through the batch."""
    mesh = i / faces.shape[0]
    return (mesh * vertices * wp.vec3i(1, 1, 1) + faces[i - mesh * faces.shape[0]]) * channels


@wp.kernel
def blend(
    faces: Indices,
    pix_to_face: Longs,
    bary: Reals,
    vertices: int,
    channels: int,
    attributes: Reals,
    values: Reals,
):
    """One thread per fragment: the weighted sum of its triangle's three vertex attributes."""
    n = wp.tid()
    i = wp.int32(pix_to_face[n])
    if i < 0:
        for k in range(channels):
            values[n * channels + k] = values.dtype(0.0)
        return
    at = rows(faces, i, vertices, channels)
    a, b, c = at[0], at[1], at[2]
    w = bary[n]
    for k in range(channels):
        value = w[0] * attributes[a + k] + w[1] * attributes[b + k] + w[2] * attributes[c + k]
        values[n * channels + k] = value


@wp.kernel
def blend_gradient(
    faces: Indices,
    pix_to_face: Longs,
    bary: Reals,
    vertices: int,
    channels: int,
    attributes: Reals,
    grad_values: Reals,
    grad_bary: Reals,
    grad_attributes: Reals,
):
    """`blend` backwards; a gradient that nothing asks for has an empty array."""
    n = wp.tid()
    i = wp.int32(pix_to_face[n])
    if i < 0:
        if grad_bary.shape[0] > 0:
            grad_bary[n] = bary[n] - bary[n]
        return
    at = rows(faces, i, vertices, channels)
    w = bary[n]
    gw = w - w
    for k in range(channels):
        g = grad_values[n * channels + k]
        for j in range(3):
            if grad_bary.shape[0] > 0:
                gw[j] += g * attributes[at[j] + k]
            if grad_attributes.shape[0] > 0:
                wp.atomic_add(grad_attributes, at[j] + k, w[j] * g)
    if grad_bary.shape[0] > 0:
        grad_bary[n] = gw
