"""Binding a model to the 478 points, from made-up faces whose points are known."""

import subprocess
import sys
from pathlib import Path

import bind_face_mesh
import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.random_faces import random_coefficients
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

FACES = 120


@pytest.fixture(scope="module")
def observed():
    """(model, points, vertices, jacobian): the points are those of the shipped binding, with noise,
    seen by a camera without perspective."""
    model = MorphableModel.load(subdivision=0)
    numbers = CountedRandom(1, torch.arange(FACES))
    c = random_coefficients(model, numbers, "train")
    turned = numbers.uniform("turned", 3, low=-1, high=1) * numbers.fixed(0.3, 0.6, 0.25)
    jacobian = 1.5 * (torch.diag(torch.tensor([1.0, -1, 1])) @ axis_angle_to_matrix(turned))[:, :2]
    vertices = model.shape(c.identity, c.expression) @ jacobian.mT
    offsets = torch.einsum("nij,kj->nki", jacobian, model.dense.offsets)
    noise = numbers.normal("noise", 478, 2, sd=0.5)
    return model, vertices[:, model.dense.vertices] + offsets + noise, vertices, jacobian


def test_points_are_bound_where_they_are_seen_and_never_to_an_eyeball(observed):
    model, *seen = observed
    dense = bind_face_mesh.bind(model, *seen)
    mesh = slice(bind_face_mesh.FIRST_IRIS)
    assert bind_face_mesh.errors(dense, *seen).norm(dim=-1).median() < 0.012
    there, here = (model.mean[d.vertices[mesh]] + d.offsets[mesh] for d in (model.dense, dense))
    assert (there - here).norm(dim=1).median() < 2  # mm
    inside = model.regions["eyeballs"] + model.regions["mouth_interior"]
    assert (inside[dense.vertices[mesh]] <= 0.5).all()
    assert (dense.noise[mesh] < 0.05).all()
    assert (dense.noise[mesh.stop :] == bind_face_mesh.UNBOUND).all()


def test_wrong_input_is_told_in_one_line(tmp_path):
    script = Path(bind_face_mesh.__file__)
    for arguments, says in (
        ([tmp_path / "none.safetensors"], "no such face model"),
        ([shipped_file("face_model.safetensors"), "--count", "5"], "--count 5: fewer than 100"),
    ):
        command = [sys.executable, script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("bind_face_mesh: ")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
