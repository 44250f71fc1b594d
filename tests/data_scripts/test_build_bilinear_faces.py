"""The acting faces: deformation transfer, and the file that ships."""

import numpy as np
import pytest
import torch
from makehuman.acting import Acting

from facerecon_lib.course.nb01_morphable_model.acting_faces import load_acting_faces
from facerecon_lib.course.nb01_morphable_model.face_samples import load_face_samples
from facerecon_lib.face.model_file import ModelError


@pytest.fixture(scope="module")
def jaw(shipped):
    """The mean, and what jawOpen moves on it."""
    moved = torch.einsum("k,kvc->vc", shipped.controls["jawOpen"], shipped.expression_basis)
    mean, moved = shipped.mean.double().numpy(), moved.double().numpy()[None]
    return mean, moved, Acting(mean, shipped.faces.numpy(), moved)


def test_on_the_mean_an_action_is_itself(jaw):
    mean, moved, carry = jaw
    assert np.allclose(carry(mean), moved, atol=1e-6)


def test_a_larger_face_opens_its_mouth_further(jaw, shipped):
    mean, moved, carry = jaw
    chin = int(shipped.landmarks[8])
    grown = np.linalg.norm(carry(1.1 * mean)[0, chin]) / np.linalg.norm(moved[0, chin])
    assert 1.05 < grown < 1.11


def test_a_face_that_is_moved_acts_alike(jaw):
    mean, moved, carry = jaw
    assert np.allclose(carry(mean + [5.0, -3.0, 8.0]), moved, atol=1e-6)


def test_the_file_that_ships_holds_150_people_who_act_by_that_rule(shipped, jaw):
    samples = load_face_samples()
    acting = load_acting_faces(samples, shipped)
    assert acting.people.shape == (132, 44, len(shipped.mean), 3)
    assert acting.held_out.shape[:2] == (18, 44)
    assert torch.equal(acting.people[:96, 0], samples.shapes)
    assert torch.equal(acting.held_out[:, 0], samples.held_out)
    pose, skin = acting.names.index("jawOpen"), shipped.regions["skin"] > 0.5
    for person in (0, 110):
        rest = acting.people[person, 0]
        true = torch.from_numpy(jaw[2](rest.double().numpy())[0]).float()
        off = (acting.people[person, pose] - rest - true)[skin].norm(dim=1)
        assert off.mean() < 0.1


def test_a_file_of_another_kind_is_refused(shipped, tmp_path):
    with pytest.raises(ModelError, match="no such set of acting faces"):
        load_acting_faces(load_face_samples(), shipped, tmp_path / "missing.safetensors")
