"""A mesh is written as PLY or GLB, whole or not at all."""

import json
from unittest import mock

import numpy as np
import pytest
import torch
import trimesh

from facerecon_lib.face.colour import linear_to_srgb
from facerecon_lib.files import atomic
from facerecon_lib.reconstruction.mesh_export import export_mesh

TRIANGLE = torch.tensor([[0, 1, 2]])


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_an_exported_mesh_reads_back_in_millimetres(tmp_path, suffix):
    ball = trimesh.creation.icosphere(subdivisions=1)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    faces = torch.tensor(np.asarray(ball.faces))
    path = export_mesh(tmp_path / f"ball{suffix}", 100 * vertices, faces, vertices.abs())
    again = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(again.vertices, 100 * vertices.numpy(), atol=1e-4)
    np.testing.assert_array_equal(again.faces, faces.numpy())
    assert again.visual.vertex_colors.dtype == np.uint8


def test_ply_colours_are_srgb_and_glb_colours_linear_light(tmp_path):
    vertices = torch.eye(3)
    colors = torch.tensor([[0.0, 0.5, 1.0], [0.25, 1.5, -0.5], [0.02, 0.6, 0.8]])
    for suffix, expected in (
        ("ply", [[0, 128, 255, 255], [64, 255, 0, 255], [5, 153, 204, 255]]),
        ("glb", [[0, 55, 255, 255], [13, 255, 0, 255], [0, 81, 154, 255]]),
    ):
        path = export_mesh(tmp_path / f"t.{suffix}", vertices, TRIANGLE, colors)
        mesh = trimesh.load(path, force="mesh", process=False)
        assert mesh.visual.vertex_colors.tolist() == expected


@pytest.mark.parametrize("skin", [(61, 44, 37), (20, 9, 4), (177, 149, 152)])
def test_a_glb_keeps_every_colour_of_dark_skin(tmp_path, skin):
    vertices = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    colors = ((torch.tensor(skin) + 40 * (vertices - 0.5)).round() / 255).clamp(0, 1)
    data = export_mesh(tmp_path / "t.glb", vertices, TRIANGLE, colors).read_bytes()
    length = int.from_bytes(data[12:16], "little")
    tree, blob = json.loads(data[20 : 20 + length]), data[28 + length :]
    [attributes] = [mesh["primitives"][0]["attributes"] for mesh in tree["meshes"]]
    assert set(attributes) == {"POSITION", "COLOR_0"}
    accessor = tree["accessors"][attributes["COLOR_0"]]
    wanted = dict(componentType=5126, type="VEC3", count=500)
    assert accessor.items() >= wanted.items()
    start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
    stored = np.frombuffer(blob, "<f4", 3 * 500, start).reshape(-1, 3)
    again = linear_to_srgb(torch.from_numpy(stored.copy()))
    assert (again - colors).abs().max() < 1e-5
    assert len(np.unique((again * 255).round(), axis=0)) == len(np.unique(colors, axis=0))


def test_a_failed_export_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = export_mesh(tmp_path / "t.ply", torch.eye(3), TRIANGLE)  # without colours
    assert trimesh.load(path, process=False).vertices.shape == (3, 3)
    before = path.read_bytes()
    monkeypatch.setattr(atomic.os, "replace", mock.Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_mesh(path, 2 * torch.eye(3), TRIANGLE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "vertices", "colors", "message"),
    [
        ("t.obj", torch.eye(3), None, r"\.ply or \.glb, got 't.obj'"),
        ("t.ply", torch.eye(3)[None], None, "export one face at a time"),
        ("t.ply", torch.eye(3), torch.zeros(2, 3), r"colors: expected \(3, 3\), got \(2, 3\)"),
    ],
)
def test_a_wrong_argument_is_named(name, vertices, colors, message):
    with pytest.raises(ValueError, match=message):
        export_mesh(name, vertices, TRIANGLE, colors)
