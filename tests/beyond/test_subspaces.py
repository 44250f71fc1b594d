"""Angles between bases, nearest shapes, and the gauge of PCA."""

import math

import pytest
import torch

from facerecon_lib.beyond.subspaces import best_shape, principal_modes, subspace_angles

X, Y, Z = torch.eye(3)[:, None]


def test_two_planes_share_a_line_and_are_45_degrees_apart_in_the_rest():
    angles = subspace_angles(torch.stack([X, Y]), torch.stack([3 * X, X + Y + Z]))
    assert angles.tolist() == pytest.approx([0, 45], abs=1e-4)


def test_the_angle_of_a_line_over_a_plane_in_either_order():
    line = (math.cos(0.3) * X + math.sin(0.3) * Z)[None]
    for pair in ((line, torch.stack([X, Y])), (torch.stack([X, Y]), line)):
        assert subspace_angles(*pair).tolist() == pytest.approx([math.degrees(0.3)], abs=1e-4)


def test_a_mode_made_of_others_is_no_direction():
    assert len(subspace_angles(torch.stack([X, Y, X + Y]), torch.stack([X, Y, Z]))) == 2


def test_bases_of_other_meshes_are_refused():
    with pytest.raises(ValueError, match="b: expected"):
        subspace_angles(torch.ones(1, 4, 3), torch.ones(1, 5, 3))


def test_the_nearest_shape_leaves_out_what_the_basis_cannot_say():
    basis = torch.stack([X + Y, X - Y])
    nearest = best_shape(torch.tensor([[[1.0, 2.0, 3.0]]]), basis)
    assert nearest[0, 0].tolist() == pytest.approx([1, 2, 0], abs=1e-5)


def test_the_gauge_of_pca_changes_no_face():
    torch.manual_seed(0)
    basis, c = torch.randn(4, 9, 3), torch.randn(30, 4) @ torch.randn(4, 4)
    modes, new = principal_modes(basis, c)
    torch.testing.assert_close(new @ modes.flatten(1), c @ basis.flatten(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new.T @ new / 30, torch.eye(4), atol=1e-4, rtol=0)
    gram = modes.flatten(1) @ modes.flatten(1).T
    torch.testing.assert_close(gram, gram.diag().diag(), atol=1e-3, rtol=0)
    assert (gram.diag().diff() <= 0).all()
