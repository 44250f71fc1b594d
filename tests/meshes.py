"""Small meshes whose answers are known, for the tests of meshes and of the renderer."""

import math

import numpy as np
import torch
import trimesh
from torch import Tensor

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
TRIANGLE = torch.tensor([[0, 1, 2]])


def sphere(subdivisions: int = 2, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Unit icosphere: (1, V, 3) vertices, (F, 3) faces."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(ball.vertices, dtype=dtype)[None], torch.tensor(np.asarray(ball.faces))


def head(rings: int = 12, around: int = 16, batch: int = 1) -> tuple[Tensor, Tensor]:
    """A bumpy closed head, 150 mm high, 400 mm in front of the camera."""
    polar = torch.linspace(0.05, math.pi - 0.05, rings)
    angle = torch.arange(around) * 2 * math.pi / around
    polar, angle = torch.meshgrid(polar, angle, indexing="ij")
    radius = 75 * (1 + 0.05 * torch.sin(3 * polar) * torch.cos(4 * angle))
    x, z = radius * polar.sin() * angle.sin(), 400 - radius * polar.sin() * angle.cos()
    verts = torch.stack([x, radius * polar.cos(), z], -1).reshape(-1, 3)
    corner = torch.arange((rings - 1) * around).reshape(rings - 1, around)
    beside = corner.roll(-1, 1)
    upper = torch.stack([corner, corner + around, beside], -1)
    lower = torch.stack([beside, corner + around, beside + around], -1)
    return verts.expand(batch, -1, -1), torch.cat([upper, lower]).reshape(-1, 3)


def soup(seed, batch=1, vertices=24, faces=30, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    """Random triangles in front of the camera, many of them overlapping."""
    draw = torch.Generator().manual_seed(seed)
    verts = torch.rand(batch, vertices, 3, generator=draw, dtype=torch.float64) * 2.4 - 1.2
    verts[..., 2] += 3
    corners = torch.stack([torch.randperm(vertices, generator=draw)[:3] for _ in range(faces)])
    return verts.to(dtype), corners
