"""Warp kernels of the rasterizer: one Python source, compiled at first use for the CPU or for CUDA.

    launch(draw, torch.float32, (batch, most), verts, faces, first, centres, view, nearest)  # hard
    launch(gather, ...), launch(keep_nearest, ...)                                          # soft
    launch(fill_fragments, real, zbuf.numel(), verts, faces, centres, view, ...)             # both

Vertices arrive packed and triangles as indices into them; mesh b owns triangles first[b] to
first[b + 1] - 1. Arrays over fragments are flat, in the order (batch, height, width, k).
Notebook 04, section 2.1.
"""

from typing import Any

import warp as wp

from . import triangle as tri
from .triangle import Indices, Ints, Reals, View, Words

# Without fused multiply-adds an edge walked from either end gives the same number, sign apart.
wp.set_module_options({"enable_backward": False, "fuse_fp": False})

NOTHING = wp.constant(wp.uint64(2**64 - 1))  # -1 in torch's eyes
LOW_WORD = wp.constant(wp.uint64(2**32 - 1))


@wp.kernel
def draw(verts: Reals, faces: Indices, first: Ints, centres: Reals, view: View, nearest: Words):
    """Hard case, one thread per triangle: each pixel keeps the least (float32 depth, triangle)."""
    mesh, j = wp.tid()
    i = first[mesh] + j
    if i >= first[mesh + 1]:
        return
    a, b, c = tri.corners_of(verts, faces, i)
    t = tri.triangle_of(wp.vec3d(a), wp.vec3d(b), wp.vec3d(c))
    if not tri.is_drawable(t, view):
        return
    col0, col1, row0, row1 = tri.pixel_box(t, tri.ZERO, view)
    if col0 > col1 or row0 > row1:
        return
    low, low_step, high, high_step = tri.sides(t, col0, col1, view)
    for row in range(row0, row1 + 1):
        py = centres[view.width + row]
        base = (mesh * view.height + row) * view.width
        col, last = tri.columns(row, low, low_step, high, high_step, view.width)
        while col <= last:
            px = centres[col]
            if tri.covers(t, tri.edges_at(t, wp.float64(px), wp.float64(py))):
                depth = wp.float32(tri.depth_at(px, py, a, b, c, view))
                if depth >= wp.float32(0.0):
                    # Positive floats order like their bits; the triangle breaks ties.
                    bits = wp.uint64(wp.cast(depth, wp.uint32)) << wp.uint64(32)
                    wp.atomic_min(nearest, base + col, bits | wp.uint64(i))
            col += 1


@wp.func
def sample(t: tri.Triangle, e: wp.vec3d, px: Any, py: Any, a: Any, b: Any, c: Any, view: View):
    """Whether a triangle covers a pixel centre or its blur does; its depth and squared distance."""
    distance = tri.to_outline(px, py, a, b, c)
    depth = tri.depth_at(px, py, a, b, c, view)
    counts = tri.covers(t, e) or wp.float64(distance) < view.blur_radius
    return counts and depth >= type(px)(0.0), depth, distance


@wp.kernel
def gather(
    verts: Reals,
    faces: Indices,
    first: Ints,
    centres: Reals,
    view: View,
    twin: Ints,
    cursor: Ints,
    depths: Reals,
    triangles: Ints,
):
    """Soft case, one thread per triangle: advances the cursor of each pixel that it may count in.

    Run once with empty lists, to count, and again to write the lists, with the cursors at the
    exclusive prefix sum of those counts. twin[i] is the other half of a triangle that the
    near plane cut into two, or -1: only the half nearer to the pixel centre counts.
    """
    mesh, j = wp.tid()
    i = first[mesh] + j
    if i >= first[mesh + 1]:
        return
    a, b, c = tri.corners_of(verts, faces, i)
    t = tri.triangle_of(wp.vec3d(a), wp.vec3d(b), wp.vec3d(c))
    if not tri.is_drawable(t, view):
        return
    other = wp.int32(-1)
    if twin.shape[0] > 0:
        other = twin[i]
    radius = wp.sqrt(view.blur_radius)
    col0, col1, row0, row1 = tri.pixel_box(t, radius, view)
    # An edge function is the distance to the edge's line times the edge's length.
    reach = wp.vec3d()
    for k in range(3):
        length = wp.sqrt(t.dx[k] * t.dx[k] + t.dy[k] * t.dy[k])
        reach[k] = -(tri.ONE + tri.EPSILON) * radius * length - tri.EPSILON * tri.EPSILON
    for row in range(row0, row1 + 1):
        py = centres[view.width + row]
        base = (mesh * view.height + row) * view.width
        for col in range(col0, col1 + 1):
            px = centres[col]
            e = tri.edges_at(t, wp.float64(px), wp.float64(py))
            if e[0] >= reach[0] and e[1] >= reach[1] and e[2] >= reach[2]:
                if depths.shape[0] == 0:
                    wp.atomic_add(cursor, base + col, 1)
                    continue
                counts, depth, distance = sample(t, e, px, py, a, b, c, view)
                if counts and other >= 0:
                    oa, ob, oc = tri.corners_of(verts, faces, other)
                    o = tri.triangle_of(wp.vec3d(oa), wp.vec3d(ob), wp.vec3d(oc))
                    oe = tri.edges_at(o, wp.float64(px), wp.float64(py))
                    rival, _depth, its = sample(o, oe, px, py, oa, ob, oc, view)
                    if rival and tri.is_drawable(o, view):
                        counts = distance < its or (distance == its and i < other)
                if counts:
                    slot = wp.atomic_add(cursor, base + col, 1)
                    depths[slot] = depth
                    triangles[slot] = i


@wp.kernel
def keep_nearest(
    starts: Ints,
    ends: Ints,
    depths: Reals,
    triangles: Ints,
    view: View,
    nearest: Words,
    nearest_depths: Reals,
):
    """One thread per pixel: insert its list into the few nearest, by depth, ties by triangle."""
    pixel = wp.tid()
    size = view.faces_per_pixel
    base = pixel * size
    filled = wp.int32(0)
    for slot in range(starts[pixel], ends[pixel]):
        depth = depths[slot]
        triangle = wp.uint64(triangles[slot])
        k = filled
        while k > 0:
            before = nearest_depths[base + k - 1]
            if depth > before or (depth == before and triangle > nearest[base + k - 1]):
                break
            if k < size:
                nearest[base + k] = nearest[base + k - 1]
                nearest_depths[base + k] = before
            k -= 1
        if k < size:
            nearest[base + k] = triangle
            nearest_depths[base + k] = depth
            filled = wp.min(filled + 1, size)


@wp.kernel
def fill_fragments(
    verts: Reals,
    faces: Indices,
    centres: Reals,
    view: View,
    pix_to_face: Words,
    zbuf: Reals,
    bary: Reals,
    dists: Reals,
):
    """One thread per fragment: depth, barycentric coordinates and signed squared distance."""
    n = wp.tid()
    key = pix_to_face[n]
    if key == NOTHING:
        empty = zbuf.dtype(-1.0)
        zbuf[n] = empty
        bary[n] = bary.dtype(empty, empty, empty)
        dists[n] = empty
        return
    i = wp.int32(key & LOW_WORD)
    px, py = tri.pixel_centre(n, centres, view)
    a, b, c = tri.corners_of(verts, faces, i)
    w0, w1, w2 = tri.weights(px, py, a, b, c, view.perspective)
    c0, c1, c2 = tri.clipped(w0, w1, w2, view.clip)
    distance = tri.to_outline(px, py, a, b, c)
    if wp.min(wp.min(w0, w1), w2) > type(px)(0.0):
        distance = -distance
    pix_to_face[n] = wp.uint64(i)
    zbuf[n] = c0 * a[2] + c1 * b[2] + c2 * c[2]
    bary[n] = bary.dtype(c0, c1, c2)
    dists[n] = distance
