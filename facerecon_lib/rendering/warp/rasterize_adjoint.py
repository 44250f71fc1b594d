"""The adjoint of `fill_fragments`, written out, in float64: Warp differentiates nothing.

    launch(gradient, real, pix_to_face.numel(), verts, faces, centres, view, pix_to_face,
           grad_zbuf, grad_bary, grad_dists, grad_verts)

Arrays are those of rendering/warp/rasterize.py. Notebook 04, section 2.1.
"""

import warp as wp

from . import triangle as tri

# Rounds as `fill_fragments` does.
wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def less(v: wp.vec3d, s: wp.float64):
    return wp.vec3d(v[0] - s, v[1] - s, v[2] - s)


@wp.func
def clipping(gc: wp.vec3d, w: wp.vec3d, c: wp.vec3d):
    """The adjoint of c = max(w, 0) / sum of max(w, 0)."""
    total = wp.max(w[0], tri.ZERO) + wp.max(w[1], tri.ZERO) + wp.max(w[2], tri.ZERO)
    shared = wp.where(total < tri.MINIMUM_SUM, tri.ZERO, wp.dot(gc, c))
    gm = less(gc, shared) / wp.max(total, tri.MINIMUM_SUM)
    for k in range(3):
        if w[k] < tri.ZERO:
            gm[k] = tri.ZERO
    return gm


@wp.func
def perspective(gw: wp.vec3d, w: wp.vec3d, l: wp.vec3d, z: wp.vec3d):
    """The adjoint of w = q / (q0 + q1 + q2) to l and z, where q0 = l0 z1 z2 and so on round."""
    total = l[0] * z[1] * z[2] + l[1] * z[2] * z[0] + l[2] * z[0] * z[1]
    shared = wp.where(total < tri.EPSILON, tri.ZERO, wp.dot(gw, w))
    gq = less(gw, shared) / wp.max(total, tri.EPSILON)
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
    d01 = tri.to_segment(px, py, a, b)
    d02 = tri.to_segment(px, py, a, c)
    d12 = tri.to_segment(px, py, b, c)
    if d02 < d01 and d02 <= d12:
        s = tri.along(px, py, a, c)
        return wp.vec3d(tri.ONE - s, tri.ZERO, s)
    if d12 < d01:
        s = tri.along(px, py, b, c)
        return wp.vec3d(tri.ZERO, tri.ONE - s, s)
    s = tri.along(px, py, a, b)
    return wp.vec3d(tri.ONE - s, s, tri.ZERO)


@wp.kernel
def gradient(
    verts: tri.Reals,
    faces: tri.Indices,
    centres: tri.Reals,
    view: tri.View,
    pix_to_face: tri.Longs,
    grad_zbuf: tri.Reals,
    grad_bary: tri.Reals,
    grad_dists: tri.Reals,
    grad_verts: tri.Reals,
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

    column, row = tri.pixel_centre(n, centres, view)
    px = wp.float64(column)
    py = wp.float64(row)
    va, vb, vc = tri.corners_of(verts, faces, i)
    a = wp.vec3d(va)
    b = wp.vec3d(vb)
    c = wp.vec3d(vc)
    z = wp.vec3d(a[2], b[2], c[2])
    l0, l1, l2 = tri.weights(px, py, a, b, c, 0)
    w0, w1, w2 = tri.weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = tri.clipped(w0, w1, w2, view.clip)
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
    area = tri.doubled_area(c[0], c[1], a, b) + tri.EPSILON
    ge = less(gl, gl[0] * l0 + gl[1] * l1 + gl[2] * l2) / area
    x = wp.vec3d(px - a[0], px - b[0], px - c[0])
    y = wp.vec3d(py - a[1], py - b[1], py - c[1])
    gx = -wp.cross(ge, y)
    gy = wp.cross(ge, x)

    if gdistance != tri.ZERO:
        # The nearest point of the outline slides along its edge at no first-order cost.
        share = nearest_on_outline(px, py, a, b, c)
        pull = wp.float64(2.0) * gdistance
        if wp.min(wp.min(w0, w1), w2) > tri.ZERO:
            pull = -pull
        gx -= pull * wp.dot(share, x) * share
        gy -= pull * wp.dot(share, y) * share

    for k in range(3):
        move = grad_verts.dtype(wp.vec3d(gx[k], gy[k], gz[k]))
        wp.atomic_add(grad_verts, faces[i][k], move)
