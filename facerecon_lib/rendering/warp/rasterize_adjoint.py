"""The adjoint of `fill_fragments`, written out, in float64: Warp differentiates nothing.

    launch(gradient, real, pix_to_face.numel(), verts, faces, xs, ys, view, pix_to_face,
           grad_zbuf, grad_bary, grad_dists, grad_verts)

Arrays are those of rendering/warp/rasterize.py. Notebook 04, section 2.1.
"""

from typing import Any

import warp as wp

from .triangle import (
    EPSILON,
    MINIMUM_SUM,
    ONE,
    ZERO,
    View,
    along,
    clipped,
    doubled_area,
    to_segment,
    weights,
)

# Rounds as `fill_fragments` does.
wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def add_to(grad: wp.array(dtype=wp.vec3f), v: int, x: wp.float64, y: wp.float64, z: wp.float64):
    wp.atomic_add(grad, v, wp.vec3f(wp.float32(x), wp.float32(y), wp.float32(z)))


@wp.func
def add_to(  # noqa: F811
    grad: wp.array(dtype=wp.vec3d), v: int, x: wp.float64, y: wp.float64, z: wp.float64
):
    wp.atomic_add(grad, v, wp.vec3d(x, y, z))


@wp.func
def less(v: wp.vec3d, s: wp.float64):
    return wp.vec3d(v[0] - s, v[1] - s, v[2] - s)


@wp.func
def clipping(gc: wp.vec3d, w: wp.vec3d, c: wp.vec3d):
    """The adjoint of c = max(w, 0) / sum of max(w, 0)."""
    total = wp.max(w[0], ZERO) + wp.max(w[1], ZERO) + wp.max(w[2], ZERO)
    shared = wp.where(total < MINIMUM_SUM, ZERO, wp.dot(gc, c))
    gm = less(gc, shared) / wp.max(total, MINIMUM_SUM)
    return wp.vec3d(
        wp.where(w[0] < ZERO, ZERO, gm[0]),
        wp.where(w[1] < ZERO, ZERO, gm[1]),
        wp.where(w[2] < ZERO, ZERO, gm[2]),
    )


@wp.func
def perspective(gw: wp.vec3d, w: wp.vec3d, l: wp.vec3d, z: wp.vec3d):
    """The adjoint of w = q / (q0 + q1 + q2) to l and z, where q0 = l0 z1 z2 and so on round."""
    total = l[0] * z[1] * z[2] + l[1] * z[2] * z[0] + l[2] * z[0] * z[1]
    shared = wp.where(total < EPSILON, ZERO, wp.dot(gw, w))
    gq = less(gw, shared) / wp.max(total, EPSILON)
    gl = wp.vec3d(gq[0] * z[1] * z[2], gq[1] * z[2] * z[0], gq[2] * z[0] * z[1])
    gz = wp.vec3d(
        gq[1] * l[1] * z[2] + gq[2] * l[2] * z[1],
        gq[2] * l[2] * z[0] + gq[0] * l[0] * z[2],
        gq[0] * l[0] * z[1] + gq[1] * l[1] * z[0],
    )
    return gl, gz


@wp.func
def nearest_on_outline(px: wp.float64, py: wp.float64, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d):
    """Barycentric coordinates of the outline's point nearest to p."""
    d01 = to_segment(px, py, a, b)
    d02 = to_segment(px, py, a, c)
    d12 = to_segment(px, py, b, c)
    if d02 < d01 and d02 <= d12:
        s = along(px, py, a, c)
        return wp.vec3d(ONE - s, ZERO, s)
    if d12 < d01:
        s = along(px, py, b, c)
        return wp.vec3d(ZERO, ONE - s, s)
    s = along(px, py, a, b)
    return wp.vec3d(ONE - s, s, ZERO)


@wp.kernel
def gradient(
    verts: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    xs: wp.array(dtype=Any),
    ys: wp.array(dtype=Any),
    view: View,
    pix_to_face: wp.array(dtype=wp.int64),
    grad_zbuf: wp.array(dtype=Any),
    grad_bary: wp.array(dtype=Any),
    grad_dists: wp.array(dtype=Any),
    grad_verts: wp.array(dtype=Any),
):
    """One thread per fragment: `fill_fragments` backwards, added to the triangle's three corners.

    A gradient that nothing asks for comes as an empty array.
    """
    n = wp.tid()
    i = wp.int32(pix_to_face[n])
    if i < 0:
        return
    gc = wp.vec3d()
    gdepth = wp.float64(0.0)
    gdistance = wp.float64(0.0)
    if grad_zbuf.shape[0] > 0:
        gdepth = wp.float64(grad_zbuf[n])
    if grad_bary.shape[0] > 0:
        gc = wp.vec3d(grad_bary[n])
    if grad_dists.shape[0] > 0:
        gdistance = wp.float64(grad_dists[n])

    pixel = n / view.faces_per_pixel
    py = wp.float64(ys[pixel / view.width % view.height])
    px = wp.float64(xs[pixel % view.width])
    corners = faces[i]
    a = wp.vec3d(verts[corners[0]])
    b = wp.vec3d(verts[corners[1]])
    c = wp.vec3d(verts[corners[2]])
    z = wp.vec3d(a[2], b[2], c[2])
    l0, l1, l2 = weights(px, py, a, b, c, 0)
    w0, w1, w2 = weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = clipped(w0, w1, w2, view.clip)
    w = wp.vec3d(w0, w1, w2)

    # depth = c0 z0 + c1 z1 + c2 z2
    gz = gdepth * wp.vec3d(c0, c1, c2)
    gc += gdepth * z
    gw = gc
    if view.clip != 0:
        gw = clipping(gc, w, wp.vec3d(c0, c1, c2))
    gl = gw
    if view.perspective != 0:
        gl, gdepths = perspective(gw, w, wp.vec3d(l0, l1, l2), z)
        gz += gdepths
    # l = e / (e0 + e1 + e2 + EPSILON), where e0 is the doubled area of p, b, c and so on round
    area = doubled_area(c[0], c[1], a, b) + EPSILON
    ge = less(gl, gl[0] * l0 + gl[1] * l1 + gl[2] * l2) / area
    ax = px - a[0]
    bx = px - b[0]
    cx = px - c[0]
    ay = py - a[1]
    by = py - b[1]
    cy = py - c[1]
    gx = wp.vec3d(ge[2] * by - ge[1] * cy, ge[0] * cy - ge[2] * ay, ge[1] * ay - ge[0] * by)
    gy = wp.vec3d(ge[1] * cx - ge[2] * bx, ge[2] * ax - ge[0] * cx, ge[0] * bx - ge[1] * ax)

    if gdistance != ZERO:
        # The nearest point of the outline slides along its edge at no first-order cost.
        share = nearest_on_outline(px, py, a, b, c)
        pull = wp.float64(2.0) * gdistance
        if wp.min(wp.min(w0, w1), w2) > ZERO:
            pull = -pull
        gx -= pull * (share[0] * ax + share[1] * bx + share[2] * cx) * share
        gy -= pull * (share[0] * ay + share[1] * by + share[2] * cy) * share

    add_to(grad_verts, corners[0], gx[0], gy[0], gz[0])
    add_to(grad_verts, corners[1], gx[1], gy[1], gz[1])
    add_to(grad_verts, corners[2], gx[2], gy[2], gz[2])
