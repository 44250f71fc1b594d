"""Binding a model to the 478 points, from made-up faces whose points are known."""

from pathlib import Path

import bind_face_mesh
import pytest
import torch
from face_models import binding
from safetensors import safe_open
from safetensors.torch import save_file

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
    dense = binding.bind(model, *seen)
    mesh = slice(binding.FIRST_IRIS)
    assert binding.errors(dense, *seen).norm(dim=-1).median() < 0.012
    there, here = (model.mean[d.vertices[mesh]] + d.offsets[mesh] for d in (model.dense, dense))
    assert (there - here).norm(dim=1).median() < 2  # mm
    inside = model.regions["eyeballs"] + model.regions["mouth_interior"]
    assert (inside[dense.vertices[mesh]] <= 0.5).all()
    assert (dense.noise[mesh] < 0.05).all()
    assert (dense.noise[mesh.stop :] == binding.UNBOUND).all()


def test_a_file_of_no_expressions_is_bound_as_the_model_that_ships(tmp_path):
    with safe_open(shipped_file("face_model.safetensors"), "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys() if "dense" not in name}  # noqa: SIM118
        metadata = file.metadata() | {"controls": "[]", "default_subdivision": "0"}
    parts |= {"expression_basis": parts["expression_basis"][:0], "controls": torch.zeros(0, 0)}
    path = tmp_path / "still.safetensors"
    save_file(parts, path, metadata)
    assert MorphableModel.load(path).dense is None
    assert "bound to 478 points" in binding.bind_file(path, 40)
    model, shipped = MorphableModel.load(path), MorphableModel.load(subdivision=0)
    there, here = (m.mean[m.dense.vertices] + m.dense.offsets for m in (shipped, model))
    assert (there - here)[: binding.FIRST_IRIS].norm(dim=1).median() < 3  # mm
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("identity_basis"), parts["identity_basis"])


@pytest.mark.parametrize(
    ("path", "count", "says"),
    [
        (Path("none.safetensors"), 100, "no such face model"),
        (shipped_file("face_model.safetensors"), 5, "--count 5: fewer than 100"),
    ],
)
def test_wrong_input_is_told_in_one_line(path, count, says):
    with pytest.raises(SystemExit, match=f"^bind_face_mesh: .*{says}") as stopped:
        bind_face_mesh.main(path, count)
    assert "\n" not in str(stopped.value)
