"""Fragments, gradients and images beside PyTorch3D's own; skipped where PyTorch3D is missing.

Fragments are equal on the CPU, ties included: both round in the same order. Gradients are compared
where PyTorch3D's are right: not at the near plane, and not `beyond_the_horizon`.
"""

import math

import pytest
import torch

pytest.importorskip("pytorch3d")

from meshes import head, soup
from pytorch3d.renderer import (
    BlendParams,
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    HardPhongShader,
    MeshRasterizer,
    MeshRenderer,
    PointLights,
    RasterizationSettings,
    SoftPhongShader,
    TexturesVertex,
    look_at_view_transform,
    softmax_rgb_blend,
)
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from small_faces import model

from facerecon_lib.face.camera import project_ndc
from facerecon_lib.rendering.pytorch3d import WarpMeshRasterizer, rasterize_pytorch3d
from facerecon_lib.rendering.rasterizer import pixel_centres, rasterize
from facerecon_lib.rendering.renderer import NEAR, SoftSettings, interpolate, render


def sphere():
    """Two turned spheres, the second one nearer, in a wide view."""
    mesh = ico_sphere(2)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    verts = mesh.verts_packed() @ turn
    verts = torch.stack(
        [verts + torch.tensor([0.05, -0.03, 3.0]), verts + torch.tensor([0, 0.3, 2.2])]
    )
    return project_ndc(verts, 50.0), mesh.faces_packed()


def bumpy():
    """A bumpy head of 700 triangles at 400 mm, through the face camera."""
    verts, faces = head(16, 24)
    return project_ndc(verts + 0.37), faces


def crossing():
    """Random large triangles that pass through one another, in a batch of two."""
    verts, faces = soup(0, batch=2, vertices=30, faces=40)
    return verts - torch.tensor([0, 0, 1.0]), faces


def shipped():
    """The shipped face model's mean, at its native density."""
    verts = model().mean * torch.tensor([-1.0, 1, -1])
    verts = verts - (verts.amin(0) + verts.amax(0)) / 2
    span = verts[:, :2].abs().max()
    verts = verts + torch.tensor([0.37, 0.11, 4.2]) * torch.tensor([1, 1, span])
    return project_ndc(verts[None]), model().faces


def through_the_camera():
    """Triangles that cross the near plane with one vertex or with two, in a batch of two."""
    draw = torch.Generator().manual_seed(3)
    verts = torch.randn(2, 40, 3, generator=draw)
    verts[..., 2] = torch.rand(2, 40, generator=draw) * 3 - 0.8
    corners = torch.stack([torch.randperm(40, generator=draw)[:3] for _ in range(30)])
    return project_ndc(verts, 60.0), corners


def on_an_edge(ours, theirs):
    """Pixels that we give to a triangle whose edge runs exactly through the centre."""
    return (ours.pix_to_face >= 0) & (theirs.pix_to_face < 0) & (ours.bary_coords.amin(-1) == 0)


EIGHT = {"faces_per_pixel": 8}
BLURRED = EIGHT | {"blur_radius": 1e-3}
CLIPPED = BLURRED | {"clip_barycentric_coords": True}
PERSPECTIVE = {"perspective_correct": True}
SWITCHES = [
    {},
    PERSPECTIVE,
    {"cull_backfaces": True},
    {"blur_radius": 1e-3},
    EIGHT | PERSPECTIVE,
    BLURRED,
    CLIPPED | {"cull_backfaces": True},
    CLIPPED | PERSPECTIVE,
]
FIELDS = ("zbuf", "bary_coords", "dists")


def assert_equal(ours, theirs, tolerance, where=...):
    assert torch.equal(ours.pix_to_face[where], theirs.pix_to_face[where])
    for field in FIELDS:
        a, b = getattr(ours, field)[where], getattr(theirs, field)[where]
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", SWITCHES)
@pytest.mark.parametrize("mesh", [sphere, bumpy, crossing])
def test_fragments_are_equal(mesh, options):
    verts, faces = mesh()
    ours = rasterize(verts, faces, (40, 52), **options)
    theirs = rasterize_pytorch3d(verts, faces, (40, 52), **options)
    assert (ours.pix_to_face >= 0).sum() > 300
    assert_equal(ours, theirs, 1e-6)


@pytest.mark.parametrize("options", [SWITCHES[1], SWITCHES[-1]])
def test_fragments_of_the_shipped_face_are_equal(options):
    verts, faces = shipped()
    ours = rasterize(verts, faces, 64, **options)
    theirs = rasterize_pytorch3d(verts, faces, 64, **options)
    left_out = on_an_edge(ours, theirs)
    same = (ours.pix_to_face == theirs.pix_to_face) | left_out
    assert (ours.pix_to_face[..., 0] >= 0).sum() > 1000
    assert same.double().mean() >= 0.999
    both = same & (theirs.pix_to_face >= 0)
    difference = (ours.bary_coords - theirs.bary_coords)[both].abs()
    assert difference.max() <= 1e-4


def test_a_pixel_centre_on_a_shared_edge_is_empty_there_and_ours_here():
    verts = torch.tensor([[[0.5, 0.5, 1], [-0.5, 0.5, 1], [-0.5, -0.5, 1], [0.5, -0.5, 1.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    ours, theirs = rasterize(verts, faces, 16), rasterize_pytorch3d(verts, faces, 16)
    left_out = on_an_edge(ours, theirs)
    assert torch.equal(left_out[0, ..., 0].nonzero(), torch.arange(4, 12)[:, None].expand(8, 2))
    assert torch.equal(ours.pix_to_face[~left_out], theirs.pix_to_face[~left_out])


def beyond_the_horizon(verts, faces, pix_to_face):
    """Fragments of a blurred rim at which the triangle's plane has already passed the camera.

    There PyTorch3D clamps a denominator, and its gradient ignores the clamp; ours does not.
    """
    height, width = pix_to_face.shape[1:3]
    packed = torch.cat([faces + b * verts.shape[1] for b in range(len(verts))])
    corner = verts.detach().double().flatten(0, 1)[packed[pix_to_face.clamp(min=0)]]
    x, y = pixel_centres(height, width, torch.float64, verts.device).split([width, height])
    x, y = x[:, None], y[:, None, None]

    def area(i, j):
        u, v = corner[..., i, :], corner[..., j, :]
        return (x - u[..., 0]) * (v[..., 1] - u[..., 1]) - (y - u[..., 1]) * (v[..., 0] - u[..., 0])

    areas = torch.stack([area(1, 2), area(2, 0), area(0, 1)], -1)
    total = (areas / corner[..., 2]).sum(-1) * areas.sum(-1).sign()
    return total < 1e-3 * areas.abs().amax(-1)


@pytest.mark.parametrize("options", SWITCHES)
@pytest.mark.parametrize("mesh", [sphere, bumpy, crossing])
def test_gradients_agree(mesh, options):
    verts, faces = mesh()
    size = (20, 26)
    draw = torch.Generator().manual_seed(0)
    found = []
    # Triangles seen edge on lose all of their digits there, in single precision.
    fragments = rasterize(verts, faces, size, **options)
    kept = (fragments.pix_to_face >= 0) & (fragments.bary_coords.abs().amax(-1) < 5)
    if options.get("perspective_correct"):
        kept &= ~beyond_the_horizon(verts, faces, fragments.pix_to_face)
    assert kept.sum() > 100
    shapes = {field: getattr(fragments, field).shape for field in FIELDS}
    pulls = {field: torch.randn(shape, generator=draw) for field, shape in shapes.items()}
    for function in (rasterize, rasterize_pytorch3d):
        v = verts.clone().requires_grad_()
        fragments = function(v, faces, size, **options)
        for field in FIELDS:
            pull = pulls[field] * (kept[..., None] if field == "bary_coords" else kept)
            loss = (getattr(fragments, field) * pull).sum()
            found.append(torch.autograd.grad(loss, v, retain_graph=True)[0])
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=2e-3 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "options",
    [{}, PERSPECTIVE, EIGHT | PERSPECTIVE | {"cull_backfaces": True}, CLIPPED | PERSPECTIVE],
)
def test_fragments_of_triangles_cut_by_the_near_plane_are_equal(options):
    verts, faces = through_the_camera()
    ours = rasterize(verts, faces, (40, 52), z_clip_value=0.3, **options)
    theirs = rasterize_pytorch3d(verts, faces, (40, 52), z_clip_value=0.3, **options)
    cut = ((verts[..., 2] < 0.3)[:, faces].sum(-1) % 3 > 0).flatten()
    assert cut[ours.pix_to_face[ours.pix_to_face >= 0]].sum() > 300
    assert_equal(ours, theirs, 1e-5)


def test_frustum_culling_agrees_where_pytorch3d_culls_what_is_out_of_view():
    verts, faces = sphere()
    verts = verts[:1] + torch.tensor([0.7, 0, 0])
    assert (verts[..., 0] > 1).any()
    assert not (verts[..., 1] > 1).any()
    for options in ({}, {"z_clip_value": 1.5, "perspective_correct": True}):
        ours = rasterize(verts, faces, 40, cull_to_frustum=True, **options)
        theirs = rasterize_pytorch3d(verts, faces, 40, cull_to_frustum=True, **options)
        assert torch.equal(ours.pix_to_face, theirs.pix_to_face)


def test_frustum_culling_keeps_a_triangle_that_pytorch3d_loses_at_a_corner():
    verts = torch.tensor([[[1.2, 1.2, 2], [-0.8, 0.9, 2], [0.1, -0.9, 2]]])
    faces = torch.tensor([[0, 1, 2]])
    whole = rasterize_pytorch3d(verts, faces, 20)
    assert (rasterize_pytorch3d(verts, faces, 20, cull_to_frustum=True).pix_to_face < 0).all()
    ours = rasterize(verts, faces, 20, cull_to_frustum=True)
    assert torch.equal(ours.pix_to_face, whole.pix_to_face)


# The drop-in


def scene():
    """Two meshes of different topologies, coloured, with cameras that look at them."""
    spheres = ico_sphere(2), ico_sphere(1)
    verts = [spheres[0].verts_packed(), 0.7 * spheres[1].verts_packed()]
    faces = [mesh.faces_packed() for mesh in spheres]
    draw = torch.Generator().manual_seed(0)
    textures = TexturesVertex([torch.rand(v.shape, generator=draw) for v in verts])
    return Meshes(verts, faces, textures)


ROTATION, TRANSLATION = look_at_view_transform(2.0, 20, 30)
CAMERAS = [
    FoVPerspectiveCameras(R=ROTATION, T=TRANSLATION),
    FoVPerspectiveCameras(R=ROTATION, T=TRANSLATION, znear=3.0),  # the near plane cuts the sphere
    FoVOrthographicCameras(R=ROTATION, T=TRANSLATION),
]
SETTINGS = [
    RasterizationSettings(image_size=32),
    RasterizationSettings(image_size=(28, 36), perspective_correct=False, cull_backfaces=True),
    RasterizationSettings(
        image_size=32, blur_radius=1e-3, faces_per_pixel=6, bin_size=0, max_faces_per_bin=7
    ),
    RasterizationSettings(image_size=32, z_clip_value=1.8, clip_barycentric_coords=True),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("cameras", CAMERAS)
def test_the_drop_in_resolves_settings_as_mesh_rasterizer_does(cameras, settings):
    meshes = scene()
    ours = WarpMeshRasterizer(cameras, settings)(meshes)
    theirs = MeshRasterizer(cameras, settings)(meshes)
    left_out = (theirs.pix_to_face < 0) & (ours.bary_coords.amin(-1) == 0)
    assert left_out.sum() < 5
    assert_equal(ours, theirs, 1e-5, ~left_out)


@pytest.mark.parametrize("shader", [SoftPhongShader, HardPhongShader])
@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[2]])
def test_pytorch3ds_shaders_give_the_same_image_on_the_drop_in(shader, settings):
    meshes, cameras = scene(), CAMERAS[0]
    shading = shader(cameras=cameras, lights=PointLights(location=[[0.0, 0, -3]]))
    images, gradients = [], []
    for rasterizer in (WarpMeshRasterizer, MeshRasterizer):
        offset = torch.zeros(len(meshes.verts_packed()), 3, requires_grad=True)
        moved = meshes.offset_verts(offset)
        image = MeshRenderer(rasterizer(cameras, settings).to("cpu"), shading)(moved)
        images.append(image.detach())
        gradients.append(torch.autograd.grad(image[..., :3].square().sum(), offset)[0])
    assert images[1][..., :3].std() > 0.05
    torch.testing.assert_close(*images, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=2e-3 * float(gradients[1].abs().max()))


def test_the_drop_in_takes_cameras_and_settings_in_the_call():
    meshes = scene()
    ours = WarpMeshRasterizer()(meshes, cameras=CAMERAS[0], raster_settings=SETTINGS[0])
    theirs = MeshRasterizer()(meshes, cameras=CAMERAS[0], raster_settings=SETTINGS[0])
    assert torch.equal(ours.pix_to_face, theirs.pix_to_face)
    with pytest.raises(ValueError, match="Cameras must be specified"):
        WarpMeshRasterizer()(meshes)


# The renderer


def face():
    ndc, faces = bumpy()
    focal = 1 / math.tan(math.radians(15))
    verts = torch.cat([ndc[..., :2] * ndc[..., 2:] / focal, ndc[..., 2:]], -1)
    return verts, faces, torch.rand(verts.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("soft", [None, SoftSettings(sigma=1e-4)])
def test_the_renderer_gives_the_same_image_on_either_rasterizer(soft, monkeypatch):
    verts, faces, colours = face()
    options = {"image_size": 40, "soft": soft, "background": 0.3}
    ours = render(verts, faces, colours, **options)
    monkeypatch.setattr("facerecon_lib.rendering.renderer.rasterize", rasterize_pytorch3d)
    theirs = render(verts, faces, colours, **options)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_soft_blending_is_pytorch3ds_softmax_blend_when_that_is_given_the_depth_range():
    verts, faces, colours = face()
    soft = SoftSettings(sigma=1e-4, gamma=1e-2)
    image, mask = render(verts, faces, colours, 40, soft=soft, background=0.5)
    fragments = rasterize(
        project_ndc(verts),
        faces,
        40,
        soft.blur_radius,
        soft.faces_per_pixel,
        perspective_correct=True,
        clip_barycentric_coords=True,
        z_clip_value=NEAR,
    )
    z = verts[..., 2]
    margin = 0.1 * (z.max() - z.min()) + 1e-3 * z.max()
    blend = BlendParams(sigma=soft.sigma, gamma=soft.gamma, background_color=(0.5, 0.5, 0.5))
    values = interpolate(fragments, faces, colours)
    depth = {"znear": float(z.min() - margin), "zfar": float(z.max() + margin)}
    expected = softmax_rgb_blend(values, fragments, blend, **depth).permute(0, 3, 1, 2)
    torch.testing.assert_close(image, expected[:, :3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mask, expected[:, 3:], rtol=1e-5, atol=1e-5)
