"""Triangles to fragments, in NVIDIA Warp: CPU and CUDA from one source, no compiler at install.

    fragments = rasterize(verts_ndc, faces, 224, perspective_correct=True)
    fragments.pix_to_face, fragments.zbuf, fragments.bary_coords, fragments.dists

The fragments are those of `pytorch3d.renderer.mesh.rasterize_meshes` (Ravi et al. 2020), by the
same conventions, so each can replace the other (rendering/pytorch3d.py), but for three faults of
PyTorch3D 0.7.9: it leaves a pixel centre exactly on a shared edge empty (here: the top-left rule);
its gradients ignore one of two cutting points at the near plane, and a clamp where the rim of a
blurred triangle leaves the view; its `cull_to_frustum` loses triangles in view.

The hard case (one triangle per pixel, no blur) fills each triangle's bounding box, with the depth
and the triangle packed into one 64-bit word for an atomic minimum. Otherwise every triangle writes
itself into the lists of the pixels that it can touch (count, prefix sum, write), and each pixel
keeps the nearest few, which the soft rasterizer blends (Liu et al. 2019). Notebook 04, section 2.1.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..face.mesh import cached
from ..face.shapes import expect
from .near_plane import PackedMesh, cut_at_near_plane
from .warp import rasterize as kernels
from .warp.cache import kernel_folder
from .warp.launch import launch
from .warp.rasterize_adjoint import gradient
from .warp.triangle import View

MOST_ENTRIES = 2**31 - 1
"""Largest index that a kernel can use."""


@dataclass(frozen=True)
class Fragments:
    """What covers each pixel: up to K triangles, nearest first, -1 in every field where none is.

    pix_to_face: the triangle, counted through the batch (b * F + f).
    zbuf: depth at the pixel centre, in the units of the vertices' z.
    bary_coords: weights of the triangle's three vertices at the pixel centre.
    dists: squared distance from the pixel centre to the triangle's outline in the NDC plane,
        negative inside.
    """

    pix_to_face: Int[Tensor, "batch height width k"]
    zbuf: Float[Tensor, "batch height width k"]
    bary_coords: Float[Tensor, "batch height width k 3"]
    dists: Float[Tensor, "batch height width k"]


def rasterize(
    verts_ndc: Float[Tensor, "batch vertex 3"],
    faces: Int[Tensor, "face 3"],
    image_size: int | tuple[int, int],
    blur_radius: float = 0.0,
    faces_per_pixel: int = 1,
    perspective_correct: bool = False,
    clip_barycentric_coords: bool = False,
    cull_backfaces: bool = False,
    z_clip_value: float | None = None,
    cull_to_frustum: bool = False,
) -> Fragments:
    """Triangles to fragments, differentiable in the vertices through zbuf, bary_coords and dists.

    verts_ndc: NDC x and y (+x left, +y up, the image's shorter side spans [-1, 1]) and camera depth
        z; float32 or float64, and so are the fragments.
    faces: one topology for the whole batch; counterclockwise seen from the front.
    image_size: side of a square image, or (height, width).
    blur_radius: a triangle also counts at pixel centres nearer than this, a squared NDC distance.
    faces_per_pixel: K, how many triangles each pixel keeps, by depth, ties by index.
    perspective_correct: bary_coords and zbuf are those of the triangle in space, not in the image.
    clip_barycentric_coords: negative weights (the blurred rim) are set to zero, the rest rescaled.
    cull_backfaces: leave out triangles that run clockwise in the image.
    z_clip_value: cut triangles off at this depth; None: leave one with a vertex behind the camera
        out whole.
    cull_to_frustum: leave out triangles wholly beyond one side of the image.

    Degenerate triangles are left out. As in PyTorch3D, weights are divided by the doubled area
    + 1e-8, and sum without perspective correction to 1 - 1e-8 / area.
    """
    expect("verts_ndc", verts_ndc, "batch vertex 3")
    one_mesh = "a batch shares one topology, give one mesh's faces" if faces.ndim == 3 else ""
    expect("faces", faces, "face 3", one_mesh)
    if verts_ndc.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"verts_ndc: expected float32 or float64, got {verts_ndc.dtype}: convert it"
        )
    if faces.is_floating_point() or faces.dtype == torch.bool:
        raise TypeError(f"faces: expected integer vertex indices, got {faces.dtype}")
    if faces.device != verts_ndc.device:
        raise ValueError(
            f"faces: expected on {verts_ndc.device} like verts_ndc, got {faces.device}: move one"
        )
    switches = perspective_correct, clip_barycentric_coords, cull_backfaces
    view = checked_view(image_size, blur_radius, faces_per_pixel, *switches)
    batch, vertex = verts_ndc.shape[:2]
    packed = checked_indices(faces, vertex)
    if batch != 1:
        offset = vertex * torch.arange(batch, dtype=torch.int32, device=faces.device)
        packed = (packed + offset[:, None, None]).reshape(-1, 3)
    first = len(faces) * torch.arange(batch + 1, dtype=torch.int32, device=faces.device)
    mesh = PackedMesh(verts_ndc.reshape(-1, 3), packed, first, len(faces), first[:0])
    return rasterize_packed(mesh, view, z_clip_value, cull_to_frustum)


def check_rasterizer(device: str = "cpu") -> str:
    """Rasterize a triangle; the folder of the compiled kernels. Raises KernelError."""
    triangle = torch.tensor([[[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]]], device=device)
    rasterize(triangle, torch.tensor([[0, 1, 2]], device=device), 8)
    return kernel_folder()


def checked_view(
    image_size: int | tuple[int, int],
    blur_radius: float,
    faces_per_pixel: int,
    perspective: bool,
    clip: bool,
    cull_backfaces: bool,
) -> View:
    """The arguments of `rasterize` as the kernels take them. Raises ValueError."""
    size = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2 or any(int(side) != side or side < 1 for side in size):
        raise ValueError(f"image_size: expected an int or (height, width), got {image_size}")
    if not 0 <= blur_radius < math.inf:
        raise ValueError(
            f"blur_radius: expected a squared NDC distance of 0 or more, got {blur_radius}"
        )
    if faces_per_pixel < 1:
        raise ValueError(f"faces_per_pixel: expected at least 1, got {faces_per_pixel}")
    view = View()
    view.height, view.width = map(int, size)
    view.right, view.top = view.width / min(size), view.height / min(size)
    view.per_unit = min(size) / 2
    view.blur_radius, view.faces_per_pixel = float(blur_radius), int(faces_per_pixel)
    view.perspective, view.clip, view.cull_backfaces = perspective, clip, cull_backfaces
    return view


def checked_indices(faces: Int[Tensor, "face 3"], vertices: int) -> Int[Tensor, "face 3"]:
    """The faces as int32, for the kernels. Raises ValueError unless they lie within the vertices.

    Cached: on CUDA each check makes the CPU wait.
    """

    def build() -> Tensor:
        if faces.numel():
            low, high = (int(v) for v in faces.aminmax())
            if low < 0 or high >= vertices:
                raise ValueError(
                    f"faces: expected vertex indices 0 to {vertices - 1}, got {low} to {high}: "
                    "does the mesh belong to these vertices?"
                )
        with torch.inference_mode(False):  # a later call may save them for its backward pass
            return torch.empty_like(faces, dtype=torch.int32).copy_(faces)

    return cached(faces, ("int32", vertices), build)


def rasterize_packed(
    mesh: PackedMesh, view: View, z_clip_value: float | None, cull_to_frustum: bool
) -> Fragments:
    """What `rasterize` does once its arguments are checked and the batch is packed."""
    cut = None
    if z_clip_value is not None or cull_to_frustum:
        cut = cut_at_near_plane(mesh, view, z_clip_value, cull_to_frustum)
    pieces = cut.mesh if cut else mesh
    fragments = Fragments(*_Rasterize.apply(pieces.verts, pieces, view))
    if cut is None:
        return fragments
    whole, bary = cut.restore(fragments.pix_to_face, fragments.bary_coords)
    return replace(fragments, pix_to_face=whole, bary_coords=bary)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def pixel_centres(height: int, width: int, real: torch.dtype, device: torch.device) -> Tensor:
    """NDC x of the columns, then y of the rows, falling; rounded as PyTorch3D rounds."""
    centres = []
    for size, other in ((width, height), (height, width)):
        extent = torch.tensor(2.0 * max(1.0, size / other), dtype=real)
        offset = extent / 2
        centre = (extent * torch.arange(size, dtype=real) + offset) / size - offset
        centres.append(centre.flip(0))
    return torch.cat(centres).to(device)


class _Rasterize(torch.autograd.Function):
    """The kernels and their hand-written adjoint, in the pieces' own triangle numbers."""

    @staticmethod
    def forward(ctx, verts: Tensor, mesh: PackedMesh, view: View):
        verts = verts.contiguous()
        real, device = verts.dtype, verts.device
        batch = len(mesh.first) - 1
        shape = (batch, view.height, view.width, view.faces_per_pixel)
        if math.prod(shape) > MOST_ENTRIES:
            raise ValueError(f"image_size: {shape} fragments are too many, take a smaller batch")
        per_triangle = (batch, mesh.most)
        centres = pixel_centres(view.height, view.width, real, device)
        pix_to_face = torch.full(shape, -1, device=device)
        zbuf, bary, dists = map(verts.new_empty, (shape, (*shape, 3), shape))

        scene = [verts, mesh.faces, mesh.first, centres, view]
        if view.faces_per_pixel == 1 and view.blur_radius == 0 and real == torch.float32:
            launch(kernels.draw, real, per_triangle, *scene, pix_to_face)
        else:
            lengths = torch.zeros(math.prod(shape[:3]), dtype=torch.int32, device=device)
            no_lists = [verts[:0, 0], lengths[:0]]
            launch(kernels.gather, real, per_triangle, *scene, mesh.twin, lengths, *no_lists)
            ends = lengths.cumsum(0)
            total = int(ends[-1]) if len(ends) else 0
            if total > MOST_ENTRIES:
                raise ValueError(
                    f"blur_radius: {total} pairs of pixel and triangle are too many: "
                    "lower it, or the batch, or the image size"
                )
            starts = (ends - lengths).int()
            cursor, lists = starts.clone(), [verts.new_empty(total), starts.new_empty(total)]
            launch(kernels.gather, real, per_triangle, *scene, mesh.twin, cursor, *lists)
            lists = [starts, cursor, *lists, view, pix_to_face, zbuf]
            launch(kernels.keep_nearest, real, len(starts), *lists)

        scene, outputs = [verts, mesh.faces, centres], [pix_to_face, zbuf, bary, dists]
        launch(kernels.fill_fragments, real, zbuf.numel(), *scene, view, *outputs)
        ctx.mark_non_differentiable(pix_to_face)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*scene, pix_to_face)
        ctx.view = view
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, _grad_pix_to_face, *grads):
        *scene, pix_to_face = ctx.saved_tensors
        verts = scene[0]
        grads = [verts[:0] if grad is None else grad for grad in grads]
        grad_verts = torch.zeros_like(verts)
        arguments = [*scene, ctx.view, pix_to_face, *grads, grad_verts]
        launch(gradient, verts.dtype, pix_to_face.numel(), *arguments)
        return grad_verts, None, None
