"""Our rasterizer under PyTorch3D's cameras, meshes and shaders; PyTorch3D's in place of ours.

    rasterizer = WarpMeshRasterizer(cameras, RasterizationSettings(image_size=224))
    images = MeshRenderer(rasterizer, SoftPhongShader(cameras=cameras))(meshes)
    fragments = rasterize_pytorch3d(verts_ndc, faces, 224, perspective_correct=True)

Importing this module imports no PyTorch3D; making a `WarpMeshRasterizer` and rasterizing do.
Notebook 04, section 11.
"""

from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .near_plane import PackedMesh
from .rasterizer import Fragments, checked_view, rasterize_packed


class WarpMeshRasterizer(torch.nn.Module):
    """Drop-in for `pytorch3d.renderer.MeshRasterizer`: the same call, the same fragments, faster.

    For batches of different topologies too. Settings left at None resolve as in PyTorch3D; it
    ignores `bin_size` and `max_faces_per_bin`. Raises ImportError without PyTorch3D.
    """

    def __init__(self, cameras=None, raster_settings=None) -> None:
        super().__init__()
        self.cameras = cameras
        self.raster_settings = raster_settings or _pytorch3d().RasterizationSettings()

    def to(self, device) -> Self:
        """Move the cameras, which are no torch module."""
        if self.cameras is not None:
            self.cameras = self.cameras.to(device)
        return self

    def transform(self, meshes_world, **kwargs):
        """The meshes with NDC x and y and camera-space z, as a PyTorch3D `Meshes`."""
        return _pytorch3d().MeshRasterizer.transform(self, meshes_world, **kwargs)

    def forward(self, meshes_world, **kwargs) -> Fragments:
        """Fragments of a PyTorch3D `Meshes`; kwargs may hold cameras and raster_settings."""
        meshes = self.transform(meshes_world, **kwargs)
        raster = kwargs.get("raster_settings", self.raster_settings)
        cameras = kwargs.get("cameras", self.cameras)

        perspective, clip = raster.perspective_correct, raster.clip_barycentric_coords
        if perspective is None:
            perspective = cameras.is_perspective()
        if clip is None:
            clip = raster.blur_radius > 0
        z_clip, znear = raster.z_clip_value, cameras.get_znear()
        if z_clip is None and perspective and znear is not None:
            z_clip = float(znear.min() if isinstance(znear, Tensor) else znear) / 2

        sizes = raster.image_size, raster.blur_radius, raster.faces_per_pixel
        view = checked_view(*sizes, perspective, clip, raster.cull_backfaces)
        counts = meshes.num_faces_per_mesh()
        first = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        faces, most = meshes.faces_packed().int().contiguous(), max(counts.tolist(), default=0)
        mesh = PackedMesh(meshes.verts_packed(), faces, first, most, first[:0])
        return rasterize_packed(mesh, view, z_clip, raster.cull_to_frustum)


def rasterize_pytorch3d(
    verts_ndc: Float[Tensor, "batch vertex 3"], faces: Int[Tensor, "face 3"], image_size, **settings
) -> Fragments:
    """`rasterize` by PyTorch3D (slow; for comparison), with the same settings."""
    rasterize_meshes = _pytorch3d().rasterize_meshes
    from pytorch3d.structures import Meshes

    meshes = Meshes(verts_ndc, faces[None].expand(len(verts_ndc), -1, -1))
    return Fragments(*rasterize_meshes(meshes, image_size, **{"faces_per_pixel": 1} | settings))


def _pytorch3d():
    try:
        from pytorch3d.renderer import mesh
    except ImportError as error:
        raise ImportError(
            "PyTorch3D is not installed: pip install facerecon-lib[pytorch3d] (Linux wheels only); "
            "facerecon_lib.rendering.rasterizer.rasterize gives the same fragments without it"
        ) from error
    return mesh
