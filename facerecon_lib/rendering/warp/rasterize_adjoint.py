"""The adjoint of the rasterizer's `describe`, written out, in float64: Warp differentiates nothing.

    launch(gradient, real, pix_to_face.numel(), verts, faces, xs, ys, view, pix_to_face,
           grad_zbuf, grad_bary, grad_dists, grad_verts)

Arrays are those of rendering/warp/rasterize.py.
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

# Rounds as `describe` does.
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
    """One thread a fragment: `describe` backwards, added to the triangle's three corners.

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
    q = wp.vec3d(l0 * z[1] * z[2], l1 * z[2] * z[0], l2 * z[0] * z[1])
    w0, w1, w2 = weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = clipped(w0, w1, w2, view.clip)

    # depth = c0 z0 + c1 z1 + c2 z2
    gz = gdepth * wp.vec3d(c0, c1, c2)
    gc += gdepth * z
    # c = max(w, 0) / sum of max(w, 0)
    gw = gc
    if view.clip != 0:
        total = wp.max(w0, ZERO) + wp.max(w1, ZERO) + wp.max(w2, ZERO)
        shared = wp.where(total < MINIMUM_SUM, ZERO, gc[0] * c0 + gc[1] * c1 + gc[2] * c2)
        gm = less(gc, shared) / wp.max(total, MINIMUM_SUM)
        gw[0] = wp.where(w0 < ZERO, ZERO, gm[0])
        gw[1] = wp.where(w1 < ZERO, ZERO, gm[1])
        gw[2] = wp.where(w2 < ZERO, ZERO, gm[2])
    # w = q / (q0 + q1 + q2), where q0 = l0 z1 z2 and so on round
    gl = gw
    if view.perspective != 0:
        total = q[0] + q[1] + q[2]
        shared = wp.where(total < EPSILON, ZERO, gw[0] * w0 + gw[1] * w1 + gw[2] * w2)
        gq = less(gw, shared) / wp.max(total, EPSILON)
        gl = wp.vec3d(gq[0] * z[1] * z[2], gq[1] * z[2] * z[0], gq[2] * z[0] * z[1])
        gz[0] += gq[1] * l1 * z[2] + gq[2] * l2 * z[1]
        gz[1] += gq[2] * l2 * z[0] + gq[0] * l0 * z[2]
        gz[2] += gq[0] * l0 * z[1] + gq[1] * l1 * z[0]
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
        d01 = to_segment(px, py, a, b)
        d02 = to_segment(px, py, a, c)
        d12 = to_segment(px, py, b, c)
        s = along(px, py, a, b)
        share = wp.vec3d(ONE - s, s, ZERO)
        if d02 < d01 and d02 <= d12:
            s = along(px, py, a, c)
            share = wp.vec3d(ONE - s, ZERO, s)
        elif d12 < d01:
            s = along(px, py, b, c)
            share = wp.vec3d(ZERO, ONE - s, s)
        pull = wp.float64(2.0) * gdistance
        if wp.min(wp.min(w0, w1), w2) > ZERO:
            pull = -pull
        gx -= pull * (share[0] * ax + share[1] * bx + share[2] * cx) * share
        gy -= pull * (share[0] * ay + share[1] * by + share[2] * cy) * share

    add_to(grad_verts, corners[0], gx[0], gy[0], gz[0])
    add_to(grad_verts, corners[1], gx[1], gy[1], gz[1])
    add_to(grad_verts, corners[2], gx[2], gy[2], gz[2])
