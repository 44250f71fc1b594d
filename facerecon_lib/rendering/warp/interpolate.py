"""Vertex attributes at fragments, and backwards: the renderer's Warp kernels.

    launch(blend, real, pix_to_face.numel(), faces, pix_to_face, bary, vertices, channels,
           attributes, values)

Arrays are flat; over fragments in the order (batch, height, width, k). Notebook 04, section 2.1.
"""

from typing import Any

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.kernel
def blend(
    faces: wp.array(dtype=wp.vec3i),
    pix_to_face: wp.array(dtype=wp.int64),
    bary: wp.array(dtype=Any),
    vertices: int,
    channels: int,
    attributes: wp.array(dtype=Any),
    values: wp.array(dtype=Any),
):
    """One thread per fragment: the weighted sum of its triangle's three vertex attributes."""
    n = wp.tid()
    i = wp.int32(pix_to_face[n])
    if i < 0:
        for k in range(channels):
            values[n * channels + k] = values.dtype(0.0)
        return
    mesh = i / faces.shape[0]
    offset = mesh * vertices
    corners = faces[i - mesh * faces.shape[0]]
    a = (offset + corners[0]) * channels
    b = (offset + corners[1]) * channels
    c = (offset + corners[2]) * channels
    w = bary[n]
    for k in range(channels):
        values[n * channels + k] = (
            w[0] * attributes[a + k] + w[1] * attributes[b + k] + w[2] * attributes[c + k]
        )


@wp.kernel
def blend_gradient(
    faces: wp.array(dtype=wp.vec3i),
    pix_to_face: wp.array(dtype=wp.int64),
    bary: wp.array(dtype=Any),
    vertices: int,
    channels: int,
    attributes: wp.array(dtype=Any),
    grad_values: wp.array(dtype=Any),
    grad_bary: wp.array(dtype=Any),
    grad_attributes: wp.array(dtype=Any),
):
    """`blend` backwards; a gradient that nothing asks for has an empty array."""
    n = wp.tid()
    i = wp.int32(pix_to_face[n])
    if i < 0:
        if grad_bary.shape[0] > 0:
            grad_bary[n] = bary[n] - bary[n]
        return
    mesh = i / faces.shape[0]
    offset = mesh * vertices
    corners = faces[i - mesh * faces.shape[0]]
    a = (offset + corners[0]) * channels
    b = (offset + corners[1]) * channels
    c = (offset + corners[2]) * channels
    w = bary[n]
    gw = w - w
    for k in range(channels):
        g = grad_values[n * channels + k]
        if grad_bary.shape[0] > 0:
            gw[0] += g * attributes[a + k]
            gw[1] += g * attributes[b + k]
            gw[2] += g * attributes[c + k]
        if grad_attributes.shape[0] > 0:
            wp.atomic_add(grad_attributes, a + k, w[0] * g)
            wp.atomic_add(grad_attributes, b + k, w[1] * g)
            wp.atomic_add(grad_attributes, c + k, w[2] * g)
    if grad_bary.shape[0] > 0:
        grad_bary[n] = gw
