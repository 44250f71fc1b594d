"""Warp kernels of the rasterizer: one Python source, compiled at first use for the CPU or for CUDA.

Vertices arrive packed, each as (NDC x, NDC y, camera z), and triangles as indices into them; mesh b
owns triangles first[b] to first[b + 1] - 1. Arrays over fragments are flat, in the order (batch,
height, width, k). Tensors are float32 or float64. Which triangle owns a pixel centre is decided in
float64, where the edge functions of float32 vertices are as good as exact, so that two triangles
never disagree about a pixel on their common edge. Weights, depths and distances are computed in the
tensors' own type and rounded step by step as PyTorch3D rounds them, so that ties fall as they do
there. Warp differentiates nothing here: the adjoints are written out, in float64.
"""

import os
import sys
from functools import lru_cache
from typing import Any

import torch
import warp as wp

wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # no banner, no compile messages
# Without fused multiply-adds an edge walked from either end gives the same number, sign apart.
wp.set_module_options({"enable_backward": False, "fuse_fp": False})

EPSILON = wp.constant(wp.float64(1e-8))  # PyTorch3D's kEpsilon, in NDC: areas, lengths, depths
MINIMUM_SUM = wp.constant(wp.float64(1e-5))  # PyTorch3D's floor under the sum of clipped weights
ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
HALF = wp.constant(wp.float64(0.5))
SLACK = wp.constant(wp.float64(1e-3))  # pixels; more than the rounding of a pixel centre
NOTHING = wp.constant(wp.uint64(2**64 - 1))  # -1 in torch's eyes
LOW_WORD = wp.constant(wp.uint64(2**32 - 1))


@wp.struct
class View:
    """The image and the switches, the same for all threads."""

    width: int
    height: int
    faces_per_pixel: int
    right: wp.float64  # NDC x of the image's left border, as the viewer sees it; y of its top is
    top: wp.float64
    per_unit: wp.float64  # pixels in one unit of NDC
    blur_radius: wp.float64
    perspective: int
    clip: int
    cull_backfaces: int


@wp.struct
class Triangle:
    """Corners and edges of a triangle for the coverage test; edge i lies opposite corner i.

    Edges run (dx, dy) with the inside on their positive side. They are measured from (ux, uy), the
    leftmost of their ends whichever way they run, so that both triangles of a shared edge get the
    same numbers, sign apart.
    """

    x: wp.vec3d
    y: wp.vec3d
    z: wp.vec3d
    ux: wp.vec3d
    uy: wp.vec3d
    dx: wp.vec3d
    dy: wp.vec3d
    area: wp.float64  # doubled; positive where the triangle faces the camera


@wp.func
def starts_at_b(a: wp.vec3d, b: wp.vec3d):
    return b[0] < a[0] or (b[0] == a[0] and b[1] < a[1])


@wp.func
def doubled_area(px: Any, py: Any, a: Any, b: Any):
    """Of the triangle p, a, b, in the type of its arguments."""
    return (px - a[0]) * (b[1] - a[1]) - (py - a[1]) * (b[0] - a[0])


@wp.func
def triangle_of(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d):
    t = Triangle()
    t.x = wp.vec3d(a[0], b[0], c[0])
    t.y = wp.vec3d(a[1], b[1], c[1])
    t.z = wp.vec3d(a[2], b[2], c[2])
    t.area = doubled_area(c[0], c[1], a, b)
    side = wp.where(t.area < ZERO, -ONE, ONE)
    bc = starts_at_b(b, c)
    ca = starts_at_b(c, a)
    ab = starts_at_b(a, b)
    t.ux = wp.vec3d(wp.where(bc, c[0], b[0]), wp.where(ca, a[0], c[0]), wp.where(ab, b[0], a[0]))
    t.uy = wp.vec3d(wp.where(bc, c[1], b[1]), wp.where(ca, a[1], c[1]), wp.where(ab, b[1], a[1]))
    t.dx = side * wp.vec3d(c[0] - b[0], a[0] - c[0], b[0] - a[0])
    t.dy = side * wp.vec3d(c[1] - b[1], a[1] - c[1], b[1] - a[1])
    return t


@wp.func
def is_drawable(t: Triangle, view: View):
    """Not degenerate, wholly in front of the camera, not culled; false where anything is NaN."""
    facing = view.cull_backfaces == 0 or t.area > ZERO
    in_front = t.z[0] >= EPSILON and t.z[1] >= EPSILON and t.z[2] >= EPSILON
    return facing and in_front and wp.abs(t.area) > EPSILON and wp.isfinite(t.area)


@wp.func
def span(low: wp.float64, high: wp.float64, border: wp.float64, per_unit: wp.float64, size: int):
    """First and last pixel whose centre may lie in [low, high]; pixels count down the NDC axis."""
    first = wp.ceil((border - high) * per_unit - HALF - SLACK)
    last = wp.floor((border - low) * per_unit - HALF + SLACK)
    limit = wp.float64(size)  # clamped before the cast: coordinates may be huge
    return int(wp.clamp(first, ZERO, limit)), int(wp.clamp(last, -ONE, limit - ONE))


@wp.func
def pixel_box(t: Triangle, margin: wp.float64, view: View):
    """First and last column, first and last row that the widened triangle may touch."""
    low = wp.min(t.x) - margin
    col0, col1 = span(low, wp.max(t.x) + margin, view.right, view.per_unit, view.width)
    low = wp.min(t.y) - margin
    row0, row1 = span(low, wp.max(t.y) + margin, view.top, view.per_unit, view.height)
    return col0, col1, row0, row1


@wp.func
def edges_at(t: Triangle, px: wp.float64, py: wp.float64):
    """Doubled areas of the point with the three edges: all positive inside."""
    return wp.vec3d(
        (px - t.ux[0]) * t.dy[0] - (py - t.uy[0]) * t.dx[0],
        (px - t.ux[1]) * t.dy[1] - (py - t.uy[1]) * t.dx[1],
        (px - t.ux[2]) * t.dy[2] - (py - t.uy[2]) * t.dx[2],
    )


@wp.func
def owns(e: wp.float64, dx: wp.float64, dy: wp.float64):
    """Top-left rule: a point exactly on an edge belongs to the triangle right of it or below it."""
    return e > ZERO or (e == ZERO and (dy < ZERO or (dy == ZERO and dx > ZERO)))


@wp.func
def covers(t: Triangle, e: wp.vec3d):
    """Whether the pixel centre with edge functions e belongs to the triangle."""
    if not (e[0] >= ZERO and e[1] >= ZERO and e[2] >= ZERO):
        return False
    first = owns(e[0], t.dx[0], t.dy[0])
    return first and owns(e[1], t.dx[1], t.dy[1]) and owns(e[2], t.dx[2], t.dy[2])


@wp.func
def weights(px: Any, py: Any, a: Any, b: Any, c: Any, perspective: int):
    """Barycentric coordinates of p before clipping."""
    area = type(px)(wp.float64(doubled_area(c[0], c[1], a, b)) + EPSILON)
    w0 = doubled_area(px, py, b, c) / area
    w1 = doubled_area(px, py, c, a) / area
    w2 = doubled_area(px, py, a, b) / area
    if perspective != 0:
        w0 = w0 * b[2] * c[2]
        w1 = w1 * a[2] * c[2]
        w2 = w2 * a[2] * b[2]
        total = wp.max(w0 + w1 + w2, type(px)(EPSILON))
        w0 = w0 / total
        w1 = w1 / total
        w2 = w2 / total
    return w0, w1, w2


@wp.func
def clipped(w0: Any, w1: Any, w2: Any, clip: int):
    """Negative weights set to zero and the rest scaled to sum to one."""
    if clip == 0:
        return w0, w1, w2
    zero = type(w0)(0.0)
    m0 = wp.max(w0, zero)
    m1 = wp.max(w1, zero)
    m2 = wp.max(w2, zero)
    total = wp.max(m0 + m1 + m2, type(w0)(MINIMUM_SUM))
    return m0 / total, m1 / total, m2 / total


@wp.func
def depth_at(px: Any, py: Any, a: Any, b: Any, c: Any, view: View):
    w0, w1, w2 = weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = clipped(w0, w1, w2, view.clip)
    return c0 * a[2] + c1 * b[2] + c2 * c[2]


@wp.func
def along(px: Any, py: Any, a: Any, b: Any):
    """Where on the segment from a (0) to b (1) the point nearest to p lies."""
    dx = b[0] - a[0]
    dy = b[1] - a[1]
    squared = dx * dx + dy * dy
    s = type(px)(1.0)
    if wp.float64(squared) > EPSILON:
        s = wp.clamp((dx * (px - a[0]) + dy * (py - a[1])) / squared, type(px)(0.0), s)
    return s


@wp.func
def to_segment(px: Any, py: Any, a: Any, b: Any):
    """Squared distance from p to the segment from a to b."""
    s = along(px, py, a, b)
    rx = px - (a[0] + s * (b[0] - a[0]))
    ry = py - (a[1] + s * (b[1] - a[1]))
    return rx * rx + ry * ry


@wp.func
def to_outline(px: Any, py: Any, a: Any, b: Any, c: Any):
    """Squared distance from p to the outline of the triangle."""
    d = wp.min(to_segment(px, py, a, b), to_segment(px, py, a, c))
    return wp.min(d, to_segment(px, py, b, c))


@wp.kernel
def draw(
    verts: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    first: wp.array(dtype=wp.int32),
    xs: wp.array(dtype=Any),
    ys: wp.array(dtype=Any),
    view: View,
    nearest: wp.array(dtype=wp.uint64),
):
    """Hard case, one thread a triangle: each pixel keeps the least (float32 depth, triangle)."""
    mesh, j = wp.tid()
    i = first[mesh] + j
    if i >= first[mesh + 1]:
        return
    corners = faces[i]
    a = verts[corners[0]]
    b = verts[corners[1]]
    c = verts[corners[2]]
    t = triangle_of(wp.vec3d(a), wp.vec3d(b), wp.vec3d(c))
    if not is_drawable(t, view):
        return
    col0, col1, row0, row1 = pixel_box(t, ZERO, view)
    for row in range(row0, row1 + 1):
        py = ys[row]
        base = (mesh * view.height + row) * view.width
        for col in range(col0, col1 + 1):
            px = xs[col]
            if covers(t, edges_at(t, wp.float64(px), wp.float64(py))):
                depth = wp.float32(depth_at(px, py, a, b, c, view))
                if depth >= wp.float32(0.0):
                    # Positive floats order like their bits; the triangle breaks ties.
                    bits = wp.uint64(wp.cast(depth, wp.uint32)) << wp.uint64(32)
                    wp.atomic_min(nearest, base + col, bits | wp.uint64(i))


@wp.func
def sample(t: Triangle, e: wp.vec3d, px: Any, py: Any, a: Any, b: Any, c: Any, view: View):
    """Whether a triangle counts at a pixel centre, its depth and its squared distance there.

    It counts where it covers the centre or comes nearer to it than the blur.
    """
    distance = to_outline(px, py, a, b, c)
    depth = depth_at(px, py, a, b, c, view)
    counts = covers(t, e) or wp.float64(distance) < view.blur_radius
    return counts and depth >= type(px)(0.0), depth, distance


@wp.kernel
def gather(
    verts: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    first: wp.array(dtype=wp.int32),
    xs: wp.array(dtype=Any),
    ys: wp.array(dtype=Any),
    view: View,
    twin: wp.array(dtype=wp.int32),
    write: int,
    cursor: wp.array(dtype=wp.int32),
    depths: wp.array(dtype=Any),
    triangles: wp.array(dtype=wp.int32),
):
    """Soft case, one thread a triangle: advances the cursor of each pixel that it may count in.

    Run once to find how long each pixel's list can get (write = 0), and again to write the lists,
    with the cursors at the exclusive prefix sum of those lengths. twin[i] is the other half of a
    triangle that the near plane cut into two, or -1: of two halves only the one nearer to the pixel
    centre counts.
    """
    mesh, j = wp.tid()
    i = first[mesh] + j
    if i >= first[mesh + 1]:
        return
    corners = faces[i]
    a = verts[corners[0]]
    b = verts[corners[1]]
    c = verts[corners[2]]
    t = triangle_of(wp.vec3d(a), wp.vec3d(b), wp.vec3d(c))
    if not is_drawable(t, view):
        return
    other = wp.int32(-1)
    if twin.shape[0] > 0:
        other = twin[i]
    radius = wp.sqrt(view.blur_radius)
    col0, col1, row0, row1 = pixel_box(t, radius, view)
    # An edge function is the distance to the edge's line times the edge's length.
    reach = -(ONE + EPSILON) * radius
    reach0 = reach * wp.sqrt(t.dx[0] * t.dx[0] + t.dy[0] * t.dy[0]) - EPSILON * EPSILON
    reach1 = reach * wp.sqrt(t.dx[1] * t.dx[1] + t.dy[1] * t.dy[1]) - EPSILON * EPSILON
    reach2 = reach * wp.sqrt(t.dx[2] * t.dx[2] + t.dy[2] * t.dy[2]) - EPSILON * EPSILON
    for row in range(row0, row1 + 1):
        py = ys[row]
        base = (mesh * view.height + row) * view.width
        for col in range(col0, col1 + 1):
            px = xs[col]
            e = edges_at(t, wp.float64(px), wp.float64(py))
            if e[0] >= reach0 and e[1] >= reach1 and e[2] >= reach2:
                if write == 0:
                    wp.atomic_add(cursor, base + col, 1)
                    continue
                counts, depth, distance = sample(t, e, px, py, a, b, c, view)
                if counts and other >= 0:
                    corners = faces[other]
                    oa = verts[corners[0]]
                    ob = verts[corners[1]]
                    oc = verts[corners[2]]
                    o = triangle_of(wp.vec3d(oa), wp.vec3d(ob), wp.vec3d(oc))
                    oe = edges_at(o, wp.float64(px), wp.float64(py))
                    rival, _depth, its = sample(o, oe, px, py, oa, ob, oc, view)
                    if rival and is_drawable(o, view):
                        counts = distance < its or (distance == its and i < other)
                if counts:
                    slot = wp.atomic_add(cursor, base + col, 1)
                    depths[slot] = depth
                    triangles[slot] = i


@wp.kernel
def keep_nearest(
    starts: wp.array(dtype=wp.int32),
    ends: wp.array(dtype=wp.int32),
    depths: wp.array(dtype=Any),
    triangles: wp.array(dtype=wp.int32),
    view: View,
    kept: wp.array(dtype=wp.uint64),
    kept_depths: wp.array(dtype=Any),
):
    """One thread a pixel: insert its list into the sorted few that are kept, ties by triangle."""
    pixel = wp.tid()
    size = view.faces_per_pixel
    base = pixel * size
    filled = wp.int32(0)
    for slot in range(starts[pixel], ends[pixel]):
        depth = depths[slot]
        triangle = wp.uint64(triangles[slot])
        k = filled
        while k > 0:
            before = kept_depths[base + k - 1]
            if depth > before or (depth == before and triangle > kept[base + k - 1]):
                break
            if k < size:
                kept[base + k] = kept[base + k - 1]
                kept_depths[base + k] = before
            k -= 1
        if k < size:
            kept[base + k] = triangle
            kept_depths[base + k] = depth
            filled = wp.min(filled + 1, size)


@wp.kernel
def describe(
    verts: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    xs: wp.array(dtype=Any),
    ys: wp.array(dtype=Any),
    view: View,
    pix_to_face: wp.array(dtype=wp.uint64),
    zbuf: wp.array(dtype=Any),
    bary: wp.array(dtype=Any),
    dists: wp.array(dtype=Any),
):
    """One thread a fragment: depth, barycentric coordinates and signed squared distance."""
    n = wp.tid()
    key = pix_to_face[n]
    if key == NOTHING:
        empty = zbuf.dtype(-1.0)
        zbuf[n] = empty
        bary[n] = bary.dtype(empty, empty, empty)
        dists[n] = empty
        return
    i = wp.int32(key & LOW_WORD)
    pixel = n / view.faces_per_pixel
    py = ys[pixel / view.width % view.height]
    px = xs[pixel % view.width]
    corners = faces[i]
    a = verts[corners[0]]
    b = verts[corners[1]]
    c = verts[corners[2]]
    w0, w1, w2 = weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = clipped(w0, w1, w2, view.clip)
    distance = to_outline(px, py, a, b, c)
    if wp.min(wp.min(w0, w1), w2) > type(px)(0.0):
        distance = -distance
    pix_to_face[n] = wp.uint64(i)
    zbuf[n] = c0 * a[2] + c1 * b[2] + c2 * c[2]
    bary[n] = bary.dtype(c0, c1, c2)
    dists[n] = distance


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
    """One thread a fragment: the weighted sum of its triangle's three vertex attributes."""
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


KERNELS = (draw, gather, keep_nearest, describe, gradient, blend, blend_gradient)
VECTORS = ("verts", "bary", "grad_verts", "grad_bary")  # the other Any arrays hold scalars


@lru_cache
def _versions(real: torch.dtype) -> dict[wp.Kernel, wp.Kernel]:
    """All kernels for tensors of one type, so that each type costs one compilation."""
    scalar, vector = {
        torch.float32: (wp.float32, wp.vec3f),
        torch.float64: (wp.float64, wp.vec3d),
    }[real]
    versions = {}
    for kernel in KERNELS:
        types = {
            arg.label: wp.array(dtype=vector if arg.label in VECTORS else scalar)
            for arg in kernel.adj.args
            if isinstance(arg.type, wp.array) and arg.type.dtype is Any
        }
        versions[kernel] = wp.overload(kernel, types)
    return versions


@lru_cache
def _start_warp() -> None:
    """Without a GPU, Warp's C++ side says so on file descriptor 2: once in every notebook."""
    try:
        stderr = None if torch.cuda.is_available() else os.dup(2)
    except OSError:  # a process without a standard error
        stderr = None
    if stderr is None:
        wp.init()
        return
    null = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    try:
        os.dup2(null, 2)
        wp.init()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def launch(kernel: wp.Kernel, real: torch.dtype, dim: int | tuple[int, int], *arguments) -> None:
    """Run a kernel's version for `real` over tensors, on their device and current stream.

    Tensors are passed flat, as triples where the kernel expects vectors, without a copy if they are
    contiguous; outputs have to be.
    """
    _start_warp()
    version = _versions(real)[kernel]
    device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    stream = None
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
    inputs = []
    for parameter, value in zip(version.adj.args, arguments, strict=True):
        if isinstance(value, torch.Tensor):
            dtype = parameter.type.dtype
            flat = value.detach().contiguous()
            flat = flat.view(-1, 3) if wp.types.type_is_vector(dtype) else flat.view(-1)
            value = wp.from_torch(flat, dtype=dtype, return_ctype=True)
        inputs.append(value)
    wp.launch(version, dim=dim, inputs=inputs, device=wp.device_from_torch(device), stream=stream)
