"""The rasterizer beside PyTorch3D's: milliseconds, ratios and agreement, all from one run.

    python tests/benchmarks/rasterizer.py [--size 224] [--repeats 15]

Meshes: bumpy heads of about 3,400 and 14,000 triangles, and the shipped face model subdivided once,
filling the image as a face crop does. Each time is the least of the repeats: the machine
may be busy with other things. PyTorch3D's wheel rasterizes on the CPU only, so the CUDA rows, where
there is a GPU, are compared with our own CPU rows.
"""

import argparse
import math
import os
import platform
from collections.abc import Callable

import torch
from timing import seconds
from torch import Tensor

from facerecon_lib.face.camera import project_ndc
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.rendering.rasterizer import Fragments, rasterize

try:
    from pytorch3d.renderer.mesh import rasterize_meshes
    from pytorch3d.structures import Meshes
except ImportError:
    rasterize_meshes = None

HARD = dict(perspective_correct=True)
SOFT = HARD | dict(clip_barycentric_coords=True, faces_per_pixel=8, blur_radius=1e-4)
MODES = {"hard": HARD, "soft": SOFT}


def bumpy_head(rings: int, around: int) -> tuple[Tensor, Tensor]:
    """A closed head-like surface in the camera frame, mm: vertices (1, V, 3) and faces (F, 3)."""
    polar = torch.linspace(0.02, math.pi - 0.02, rings)
    angle = torch.arange(around) * 2 * math.pi / around
    polar, angle = torch.meshgrid(polar, angle, indexing="ij")
    radius = 1 + 0.06 * torch.sin(5 * polar) * torch.cos(7 * angle)
    x = 75 * radius * polar.sin() * angle.sin()
    y = 95 * radius * polar.cos()
    z = -80 * radius * polar.sin() * angle.cos()
    corner = torch.arange((rings - 1) * around).reshape(rings - 1, around)
    beside = corner.roll(-1, 1)
    upper = torch.stack([corner, corner + around, beside], -1)
    lower = torch.stack([beside, corner + around, beside + around], -1)
    return torch.stack([x, y, z], -1).reshape(1, -1, 3), torch.cat([upper, lower]).reshape(-1, 3)


def meshes() -> list[tuple[str, Tensor, Tensor]]:
    """Name, NDC vertices (1, V, 3) and faces (F, 3) of the meshes to draw."""
    model, ready = MorphableModel.load(), []
    face = model.mean[None] * torch.tensor([-1.0, 1, -1]), model.faces
    heads = ("head", *bumpy_head(34, 52)), ("head", *bumpy_head(68, 105))
    for name, verts, faces in (*heads, ("face, x1", *face)):
        verts = verts - (verts.amin(1) + verts.amax(1))[:, None] / 2
        half = verts[..., :2].abs().amax()
        # 85 % of the image, off centre: no edge of a symmetric mesh runs through pixel centres.
        depth = half / (0.85 * math.tan(math.radians(15)))
        verts = verts + torch.stack([half * 0.0013, half * 0.0029, depth])
        ready.append((name, project_ndc(verts).detach(), faces))
    return ready


def theirs(verts: Tensor, faces: Tensor, size: int, **options) -> Fragments:
    """PyTorch3D's rasterizer, called as ours is."""
    options = {"faces_per_pixel": 1} | options
    batch = Meshes(verts, faces[None].expand(len(verts), -1, -1))
    return Fragments(*rasterize_meshes(batch, size, **options))


def least(function: Callable[[], object], repeats: int, device: str) -> float:
    """Milliseconds of the fastest of some calls, after one that warms up."""
    return 1e3 * min(seconds(function, 1, device) for _ in range(repeats + 1))


def timed(rasterizer, verts, faces, size, options, repeats, device) -> tuple[float, float, float]:
    """Milliseconds forward, backward (from gradients of all three outputs), and both in one."""
    verts, faces = verts.to(device, copy=True).requires_grad_(), faces.to(device)

    def forward() -> Fragments:
        return rasterizer(verts, faces, size, **options)

    fragments = forward()
    outputs = (fragments.zbuf, fragments.bary_coords, fragments.dists)
    draw = torch.Generator().manual_seed(0)
    pulls = [torch.randn(out.shape, generator=draw).to(device) for out in outputs]

    def backward() -> None:
        torch.autograd.grad(outputs, verts, pulls, retain_graph=True)

    def both() -> None:
        fresh = forward()
        torch.autograd.grad((fresh.zbuf, fresh.bary_coords, fresh.dists), verts, pulls)

    return tuple(least(f, repeats, device) for f in (forward, backward, both))


def agreement(ours: Fragments, other: Fragments) -> str:
    """How far two sets of fragments name the same triangles, and with what weights.

    Entries that we fill and the other leaves empty because an edge runs exactly through the pixel
    centre (one weight is 0) are left out and counted.
    """
    on_edge = (other.pix_to_face < 0) & (ours.bary_coords.amin(-1) == 0)
    left_out = int((on_edge & (ours.pix_to_face >= 0)).sum())
    filled = ((ours.pix_to_face >= 0) | (other.pix_to_face >= 0)) & ~on_edge
    same = (ours.pix_to_face == other.pix_to_face) & filled
    weights = (ours.bary_coords - other.bary_coords)[same].abs().max()
    share = 100 * float(same.sum() / filled.sum())
    return (
        f"{share:.4f} % of {int(filled.sum())} fragments name the same triangle, "
        f"bary_coords within {float(weights):.1e}, {left_out} on a shared edge left out"
    )


def row(*cells: str) -> None:
    """One line of the table."""
    widths = (14, 10, 5, 5, 10, 10, 11, 13)
    print("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=224, help="side of the image in pixels")
    parser.add_argument("--repeats", type=int, default=15, help="calls of ours; the least counts")
    arguments = parser.parse_args()
    size, repeats = arguments.size, arguments.repeats
    gpu = torch.cuda.is_available()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPU cores, torch {torch.__version__}, "
        f"{torch.cuda.get_device_name() if gpu else 'no GPU'}; images {size}x{size}; milliseconds"
    )
    if rasterize_meshes is None:
        print("PyTorch3D is not installed: its rows, the ratios and the agreement are skipped")
    if gpu:
        print("PyTorch3D's wheel has no CUDA: CUDA rows are ours alone")

    notes = []
    row("mesh", "triangles", "mode", "batch", "who", "forward", "backward", "both")
    for name, verts, faces in meshes():
        for mode, options in MODES.items():
            ours = rasterize(verts, faces, size, **options)
            times = timed(rasterize, verts, faces, size, options, repeats, "cpu")
            label = (name, f"{len(faces)}", mode)
            row(*label, "1", "ours", *(f"{t:.2f}" for t in times))
            if rasterize_meshes is not None:
                slow = timed(theirs, verts, faces, size, options, 1, "cpu")
                row(*label, "1", "PyTorch3D", *(f"{t:.0f}" for t in slow))
                ratios = [f"{b / a:.0f}x" for a, b in zip(times, slow, strict=True)]
                row(*label, "1", "ratio", *ratios)
                other = theirs(verts, faces, size, **options)
                notes.append(f"{name}, {mode}, PyTorch3D: {agreement(ours, other)}")
            batch = verts.repeat(8, 1, 1)
            times = timed(rasterize, batch, faces, size, options, max(repeats // 3, 1), "cpu")
            row(*label, "8", "ours", *(f"{t:.2f}" for t in times))
            if gpu:
                for count in (1, 8, 32):
                    many = verts.repeat(count, 1, 1)
                    times = timed(rasterize, many, faces, size, options, repeats, "cuda")
                    row(*label, f"{count}", "ours, CUDA", *(f"{t:.2f}" for t in times))
                other = rasterize(verts.cuda(), faces.cuda(), size, **options)
                other = Fragments(*(t.cpu() for t in vars(other).values()))
                notes.append(f"{name}, {mode}, CPU and CUDA: {agreement(ours, other)}")
    print()
    print("\n".join(notes))


if __name__ == "__main__":
    main()
