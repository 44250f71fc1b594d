"""A bare mesh in front of the camera: what its renderings show, and where on the mesh a pixel lies.

    view = MeshView(mean, faces, yaw_deg=30)               # mm, +y up, +z out of the face
    pixels = view.picture(colours)                         # (S, S, 3) uint8, under a studio light
    places = view.surface_at(points)                       # (P, 2) pixels -> (P, 3) mm

Notebook 01, Eq. 1.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from trimesh.geometry import faces_to_edges
from trimesh.graph import connected_component_labels

from face_models import Mask, Numbers, Triangles, Vertices
from facerecon_lib.face.camera import DEFAULT_FOV, axis_angle_to_matrix, pose, project_ndc
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.pictures.faces import PAPER, in_studio, to_uint8
from facerecon_lib.rendering.rasterizer import rasterize
from facerecon_lib.rendering.renderer import interpolate

SIZE = 800  # px; a head fills it, so that a pixel is about 0.4 mm
COARSE = 512  # px, to see what shows
ISLAND = 0.05
ROOM = 1.25  # of the head's extent across the picture
AROUND = [(pitch, yaw) for pitch in (-25, 0, 25) for yaw in (-60, -30, 0, 30, 60)]  # degrees


def pieces(sides: Int[np.ndarray, "polygon corner"], count: int) -> Numbers:
    """Which connected piece each of `count` vertices is in, by triangles or by edges."""
    edges = np.concatenate([sides[:, :2], sides[:, -2:]])
    return connected_component_labels(edges, count)


class MeshView:
    """One view of all of a mesh, turned by yaw and pitch."""

    def __init__(
        self,
        vertices: Vertices,
        faces: Triangles,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        size: int = SIZE,
    ):
        self.vertices = torch.as_tensor(np.array(vertices, np.float32))[None]
        self.faces = faces  # not a copy: the library caches by tensor
        rotation = torch.tensor([[math.radians(pitch_deg), math.radians(yaw_deg), 0.0]])
        self.turn = axis_angle_to_matrix(rotation)
        seen = self.vertices[0] @ self.turn[0].T
        low, high = seen.aminmax(dim=0)
        centre, reach = (low + high) / 2, ROOM * float((high - low)[:2].max()) / 2
        away = reach / math.tan(math.radians(DEFAULT_FOV / 2)) + float(high[2] - centre[2])
        shift = torch.stack([centre[0], -centre[1], centre[2] + away])[None]
        v_camera = pose(self.vertices, rotation, torch.ones(1, 1), shift)
        self.fragments = rasterize(project_ndc(v_camera), faces, size, perspective_correct=True)
        self.triangle = self.fragments.pix_to_face[0, ..., 0].numpy()

    def picture(self, colours: Vertices) -> UInt8[np.ndarray, "size size 3"]:
        """The mesh in these sRGB colours under white light from above."""
        normals = vertex_normals(self.vertices, self.faces) @ self.turn.transpose(1, 2)
        albedo = torch.as_tensor(np.array(colours, np.float32))[None]
        lit = in_studio(normals, albedo).clamp(0, 1)
        image = interpolate(self.fragments, self.faces, lit)[0, ..., 0, :].permute(2, 0, 1)
        return to_uint8(image + PAPER * torch.as_tensor(self.triangle < 0))

    def surface_at(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 3"]:
        """Where rays through points (px), or through the mesh's nearest pixels, meet it, mm."""
        _, nearest = distance_transform_edt(self.triangle < 0, return_indices=True)
        column, row = np.floor(points).astype(int).clip(0, len(self.triangle) - 1).T
        row, column = nearest[:, row, column]
        triangle = self.triangle[row, column]
        weights = self.fragments.bary_coords[0, row, column, 0].numpy()
        corners = self.vertices[0][self.faces[triangle]].numpy()
        return np.einsum("pk,pkc->pc", weights, corners)


def seen_from_around(vertices: Vertices, faces: Triangles) -> Mask:
    """The vertices of triangles whose outsides show in some view, up to 60 degrees of yaw.

    Insides do not count (from below one looks into a cropped face), nor islands smaller than ISLAND
    of their piece of the mesh (a throat seen through the gap between the lips).
    """
    seen = np.zeros(len(vertices), bool)
    for pitch, yaw in AROUND:
        view = MeshView(vertices, faces, yaw, pitch, size=COARSE)
        visible = np.unique(view.triangle[view.triangle >= 0])
        a, b, c = (view.vertices[0] @ view.turn[0].T)[faces[visible]].unbind(1)
        front = torch.linalg.cross(b - a, c - a)[:, 2] > 0
        seen[faces[visible][front].unique()] = True
    sides = faces_to_edges(faces.numpy())
    island = pieces(sides[seen[sides].all(1)], len(seen))
    piece = pieces(sides, len(seen))
    return seen & (np.bincount(island)[island] > ISLAND * np.bincount(piece)[piece])
