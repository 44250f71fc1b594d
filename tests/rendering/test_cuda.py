"""The same kernels on CUDA: fragments, gradients and images as on the CPU; skipped without one."""

import pytest
import torch

from facerecon_lib.rendering.rasterizer import rasterize
from facerecon_lib.rendering.renderer import SoftSettings, interpolate, render

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

PERSPECTIVE = {"perspective_correct": True}
BLURRED = {"blur_radius": 1e-3, "faces_per_pixel": 8}
SWITCHES = [
    {},
    PERSPECTIVE,
    PERSPECTIVE | {"cull_backfaces": True},
    PERSPECTIVE | {"faces_per_pixel": 8},
    BLURRED,
    BLURRED | PERSPECTIVE | {"clip_barycentric_coords": True},
    PERSPECTIVE | {"z_clip_value": 1.8, "faces_per_pixel": 2},
    {"cull_to_frustum": True},
]
FIELDS = ("zbuf", "bary_coords", "dists")


def soup(dtype=torch.float32, batch=3, vertices=200, faces=400):
    """Triangles of all sizes at depths 1 to 3, overlapping."""
    draw = torch.Generator().manual_seed(0)
    verts = torch.rand(batch, vertices, 3, generator=draw, dtype=torch.float64) * 2.4 - 1.2
    verts[..., 2] = verts[..., 2] / 1.2 + 2
    corners = torch.stack([torch.randperm(vertices, generator=draw)[:3] for _ in range(faces)])
    return verts.to(dtype), corners


def wavy_grid(side=60, batch=2):
    """A finely triangulated wavy sheet in camera mm, one depth a pixel."""
    line = torch.linspace(-90, 90, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    z = 400 + 20 * torch.sin(x / 17) * torch.cos(y / 23)
    verts = torch.stack([x, y, z], -1).reshape(1, -1, 3).repeat(batch, 1, 1)
    verts[1:] += 3.3
    i = torch.arange(side * side).reshape(side, side)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)])
    return verts, faces.reshape(-1, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", SWITCHES)
def test_fragments_on_cuda_are_those_of_the_cpu(options, dtype):
    verts, faces = soup(dtype)
    cpu = rasterize(verts, faces, (60, 75), **options)
    gpu = rasterize(verts.cuda(), faces.cuda(), (60, 75), **options)
    assert gpu.pix_to_face.is_cuda
    assert (cpu.pix_to_face >= 0).sum() > 1000
    same = gpu.pix_to_face.cpu() == cpu.pix_to_face
    assert same.double().mean() >= 0.9999  # depths equal to the last bits may swap
    for field in FIELDS:
        a, b = getattr(gpu, field).cpu()[same], getattr(cpu, field)[same]
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", SWITCHES)
def test_gradients_on_cuda_are_those_of_the_cpu(options, dtype):
    verts, faces = soup(dtype)
    draw = torch.Generator().manual_seed(1)
    gradients = []
    fragments = [
        rasterize(v.requires_grad_(), faces.to(v.device), (60, 75), **options)
        for v in (verts.clone(), verts.cuda())
    ]
    same = fragments[0].pix_to_face == fragments[1].pix_to_face.cpu()
    same &= fragments[0].bary_coords.detach().abs().amax(-1) < 10
    shapes = [getattr(fragments[0], field).shape for field in FIELDS]
    pulls = [torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes]
    for device, f in zip(("cpu", "cuda"), fragments, strict=True):
        v = verts.to(device).requires_grad_()
        f = rasterize(v, faces.to(device), (60, 75), **options)
        kept = same.to(device)
        loss = (f.zbuf * pulls[0].to(device) * kept).sum()
        loss = loss + (f.bary_coords * pulls[1].to(device) * kept[..., None]).sum()
        loss = loss + (f.dists * pulls[2].to(device) * kept).sum()
        gradients.append(torch.autograd.grad(loss, v)[0].cpu())
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("soft", [None, SoftSettings(sigma=1e-5)])
def test_images_and_their_gradients_on_cuda_are_those_of_the_cpu(soft):
    verts, faces = wavy_grid()
    colour = torch.rand(verts.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for device in ("cpu", "cuda"):
        v = verts.to(device).requires_grad_()
        colours = colour.to(device).requires_grad_()
        image, mask = render(v, faces.to(device), colours, 96, soft=soft)
        loss = image.square().mean() + mask.square().mean()
        found.append([t.cpu() for t in (image, mask, *torch.autograd.grad(loss, (v, colours)))])
    for cpu, gpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=1e-3, atol=1e-4 * cpu.abs().max().item())


def test_kernels_run_on_the_current_stream():
    verts, faces = wavy_grid()
    verts, faces = verts.cuda(), faces.cuda()
    colours = verts / 400
    expected, _ = render(verts, faces, colours, 128)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = verts * 0
        torch.cuda._sleep(50_000_000)  # whatever does not wait for this stream sees zeros
        late += verts
        image, _ = render(late, faces, colours, 128)
    stream.synchronize()
    torch.testing.assert_close(image, expected)


def test_repeated_steps_leave_no_memory_behind():
    verts, faces = wavy_grid()
    verts, faces = verts.cuda().requires_grad_(), faces.cuda()

    def step():
        image, mask = render(verts, faces, verts, 96, soft=SoftSettings(sigma=1e-5))
        torch.autograd.grad(image.sum() + mask.sum(), verts)

    step()
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        step()
    assert torch.cuda.memory_allocated() == before


def test_a_mesh_spread_over_two_devices_is_refused():
    verts, faces = soup()
    with pytest.raises(ValueError, match="faces: expected on cuda:0 like verts_ndc, got cpu"):
        rasterize(verts.cuda(), faces, 8)
    fragments = rasterize(verts.cuda(), faces.cuda(), 8)
    with pytest.raises(ValueError, match="attributes: expected on cuda:0"):
        interpolate(fragments, faces.cuda(), verts)


def test_recognition_features_and_gradients_are_those_of_the_cpu():
    from facerecon_lib.networks.face_networks import load_network
    from facerecon_lib.networks.recognition import face_features

    draw = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 224, 224, generator=draw)
    landmarks = 60 + 100 * torch.rand(2, 68, 2, generator=draw)
    mask = (torch.rand(2, 1, 224, 224, generator=draw) > 0.2).float()
    found = []
    for device in ("cpu", "cuda"):
        pixels = image.to(device).requires_grad_()
        network = load_network("dlib", device=device)
        with torch.backends.cudnn.flags(allow_tf32=False):  # its rounding flips signs in the relus
            features = face_features(network, pixels, landmarks.to(device), mask.to(device))
            (gradient,) = torch.autograd.grad(features.abs().sum(), pixels)
        found.append((features.detach().cpu(), gradient.cpu()))
    (features, gradient), (on_cuda, gradient_on_cuda) = found
    torch.testing.assert_close(on_cuda, features, atol=1e-4, rtol=1e-4)
    assert (gradient_on_cuda - gradient).norm() < 1e-3 * gradient.norm()
