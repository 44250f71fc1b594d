"""One triangle and one pixel: Warp functions, compiled into each kernel.

    t = triangle_of(wp.vec3d(a), wp.vec3d(b), wp.vec3d(c))
    if covers(t, edges_at(t, px, py)):
        depth = depth_at(px, py, a, b, c, view)

A vertex is (NDC x, NDC y, camera z). Coverage is decided in float64, where the edge functions of
float32 vertices are all but exact: two triangles never disagree about a pixel on their common edge.
Weights, depths and distances have the tensors' own type and are rounded as PyTorch3D rounds them,
so that ties fall as they do there. Notebook 04, section 2.1.
"""

from typing import Any

import warp as wp

Reals = wp.array(dtype=Any)  # of numbers or, by its name (`launch.VECTORS`), of triples
Ints = wp.array(dtype=wp.int32)
Indices = wp.array(dtype=wp.vec3i)
Longs = wp.array(dtype=wp.int64)
Words = wp.array(dtype=wp.uint64)

EPSILON = wp.constant(wp.float64(1e-8))  # PyTorch3D's kEpsilon, in NDC: areas, lengths, depths
MINIMUM_SUM = wp.constant(wp.float64(1e-5))  # PyTorch3D's floor under the sum of clipped weights
ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
HALF = wp.constant(wp.float64(0.5))
SLACK = wp.constant(wp.float64(1e-3))  # pixels; more than the rounding of a pixel centre
ROUNDING = wp.constant(wp.float64(1e-12))  # more than the relative rounding of a side's column


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

    Edges run (dx, dy) with the inside on their positive side, measured from (ux, uy), the leftmost
    of their ends: both triangles of a shared edge get the same numbers, sign apart.
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
def corners_of(verts: Reals, faces: Indices, i: int):
    corners = faces[i]
    return verts[corners[0]], verts[corners[1]], verts[corners[2]]


@wp.func
def pixel_centre(fragment: int, centres: Reals, view: View):
    """NDC x and y of a fragment's pixel; `centres` holds the columns' x and then the rows' y."""
    pixel = fragment / view.faces_per_pixel
    return centres[pixel % view.width], centres[view.width + pixel / view.width % view.height]


@wp.func
def starts_at_b(a: wp.vec3d, b: wp.vec3d):
    return wp.where(b[0] == a[0], b[1] < a[1], b[0] < a[0])


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
def sides(t: Triangle, col0: int, col1: int, view: View):
    """Where a row enters and leaves the triangle: at the greatest of three columns low + row * step
    and at the least of three high + row * step, wider than rounding can make them narrow."""
    low = wp.vec3d(wp.float64(col0))
    high = wp.vec3d(wp.float64(col1))
    low_step = wp.vec3d()
    high_step = wp.vec3d()
    for k in range(3):
        step = t.dx[k] / t.dy[k]
        col = (view.right - t.ux[k]) * view.per_unit - HALF
        back = ((view.top - t.uy[k]) * view.per_unit - HALF) * step
        slack = SLACK + SLACK * wp.abs(step) + ROUNDING * (wp.abs(col) + wp.abs(back))
        if t.dy[k] < ZERO:
            low[k] = col - back - slack
            low_step[k] = step
        if t.dy[k] > ZERO:
            high[k] = col - back + slack
            high_step[k] = step
    return low, low_step, high, high_step


@wp.func
def columns(
    row: int, low: wp.vec3d, low_step: wp.vec3d, high: wp.vec3d, high_step: wp.vec3d, width: int
):
    """First and last column of a row, from `sides`."""
    y = wp.float64(row)
    first = wp.min(wp.max(low + y * low_step), wp.float64(width))
    last = wp.max(wp.min(high + y * high_step), -ONE)
    return int(wp.ceil(first)), int(wp.floor(last))


@wp.func
def edges_at(t: Triangle, px: wp.float64, py: wp.float64):
    """Doubled areas of the point with the three edges: all positive inside."""
    x = wp.vec3d(px, px, px) - t.ux
    y = wp.vec3d(py, py, py) - t.uy
    return wp.cw_mul(x, t.dy) - wp.cw_mul(y, t.dx)


@wp.func
def owns(e: wp.float64, dx: wp.float64, dy: wp.float64):
    """Top-left rule: a point exactly on an edge belongs to the triangle right of it or below it."""
    return e > ZERO or (e == ZERO and (dy < ZERO or (dy == ZERO and dx > ZERO)))


@wp.func
def covers(t: Triangle, e: wp.vec3d):
    """Whether the pixel centre with edge functions e belongs to the triangle."""
    first = owns(e[0], t.dx[0], t.dy[0])
    return first and owns(e[1], t.dx[1], t.dy[1]) and owns(e[2], t.dx[2], t.dy[2])


@wp.func
def weights(px: Any, py: Any, a: Any, b: Any, c: Any, perspective: int):
    """Barycentric coordinates of p before clipping."""
    area = type(px)(wp.float64(doubled_area(c[0], c[1], a, b)) + EPSILON)
    w0 = doubled_area(px, py, b, c) / area
    w1 = doubled_area(px, py, c, a) / area
    w2 = doubled_area(px, py, a, b) / area
    if perspective == 0:
        return w0, w1, w2
    q0 = w0 * b[2] * c[2]
    q1 = w1 * a[2] * c[2]
    q2 = w2 * a[2] * b[2]
    total = wp.max(q0 + q1 + q2, type(px)(EPSILON))
    return q0 / total, q1 / total, q2 / total


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
