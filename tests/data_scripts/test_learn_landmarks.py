"""Landmarks that are means of the points are learned as such, by made-up faces."""

import pytest
import torch
from learn_landmarks import POINTS, in_eye_distances, learn

from facerecon_lib.face.dense_points import OUTER_EYES
from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.photos.face_mesh_network import load_networks

MODES, TRAIN = 12, 60


@pytest.fixture(scope="module")
def mirror():
    return load_networks()[1].mirror


@pytest.fixture(scope="module")
def faces(mirror):
    """(points, landmarks) of faces that vary in a few ways; each landmark lies at 0.6, 0.6 and -0.2
    of three points, its mirror image at those of theirs."""
    draws = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=draws)

    means = torch.zeros(68, POINTS, dtype=torch.float64)
    for row in means:
        row[torch.randperm(POINTS, generator=draws)[:3]] = torch.tensor([0.6, 0.6, -0.2]).double()
    means = (means + means[MIRROR_68][:, mirror]) / 2
    ways = normal(MODES, POINTS * 2)
    points = (normal(1, POINTS * 2) + normal(TRAIN + 20, MODES) @ ways).view(-1, POINTS, 2)
    return points, means @ points


def test_landmarks_are_met_on_faces_that_took_no_part_and_as_in_a_mirror(faces, mirror):
    points, landmarks = faces
    weights = learn(points[:TRAIN], landmarks[:TRAIN])
    torch.testing.assert_close(weights.sum(1), torch.ones(68).double())
    torch.testing.assert_close(weights[MIRROR_68][:, mirror], weights)
    off = (weights @ points - landmarks)[TRAIN:].norm(dim=-1)
    assert off.max() < 1e-4  # of coordinates of about 3


def test_a_tenth_of_wrong_faces_harms_little(faces):
    points, landmarks = faces
    wrong = landmarks[:TRAIN].clone()
    wrong[::10] += 5
    off = (learn(points[:TRAIN], wrong) @ points - landmarks)[TRAIN:].norm(dim=-1)
    assert off.median() < 0.3  # 0.9 by plain least squares


def test_points_and_landmarks_are_measured_from_the_eyes(faces):
    points, landmarks = in_eye_distances(*(7 * part + 100 for part in faces))
    right, left = points[:, OUTER_EYES].unbind(1)
    torch.testing.assert_close(right, -left)
    torch.testing.assert_close((left - right).norm(dim=1), torch.ones(len(points)).double())
    as_they_were = in_eye_distances(*faces)
    torch.testing.assert_close(landmarks, as_they_were[1])
