"""What the renderer promises: interpolation, the hard image, the soft one and its gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import TRIANGLE as FACE
from meshes import head

from facerecon_lib.face.camera import project_ndc
from facerecon_lib.rendering.rasterizer import rasterize
from facerecon_lib.rendering.renderer import SoftSettings, interpolate, render

SEEDS = st.integers(0, 2**31 - 1)


def flat_triangle(shift=0.0, depth=100.0):
    """A triangle parallel to the image, shifted to the left of the viewer by `shift` mm."""
    return torch.tensor([[[8.0 + shift, 8, depth], [-8.0 + shift, 8, depth], [shift, -10, depth]]])


# Interpolation


def by_hand(fragments, faces, attributes):
    """Interpolation as a chain of torch gathers."""
    packed = torch.cat([faces + b * attributes.shape[1] for b in range(len(attributes))])
    there = fragments.pix_to_face >= 0
    corners = attributes.flatten(0, 1)[packed[fragments.pix_to_face.clamp(min=0)]]
    return (fragments.bary_coords[..., None] * corners).sum(-2) * there[..., None]


@settings(max_examples=20)
@given(seed=SEEDS, k=st.sampled_from([1, 3]), channels=st.integers(1, 5))
def test_interpolation_and_its_gradients_are_those_of_gathered_corners(seed, k, channels):
    draw = torch.Generator().manual_seed(seed)
    verts = torch.rand(2, 9, 3, generator=draw, dtype=torch.float64) * 2 - 1
    verts[..., 2] += 3
    faces = torch.randint(9, (8, 3), generator=draw)
    attributes = torch.randn(2, 9, channels, generator=draw, dtype=torch.float64)
    pull, found = None, []
    for function in (interpolate, by_hand):
        v, a = verts.clone().requires_grad_(), attributes.clone().requires_grad_()
        values = function(rasterize(v, faces, 7, faces_per_pixel=k), faces, a)
        pull = torch.randn(values.shape, generator=draw).double() if pull is None else pull
        found.append((values, *torch.autograd.grad((values * pull).sum(), (v, a))))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


def test_empty_fragments_interpolate_to_zero():
    fragments = rasterize(torch.tensor([[[0.5, 0.5, 1], [-0.5, 0.5, 1], [0, -0.5, 1]]]), FACE, 8)
    values = interpolate(fragments, FACE, torch.ones(1, 3, 2))
    assert torch.equal(values[..., 0] == 0, fragments.pix_to_face < 0)


def test_only_the_gradients_that_are_asked_for_are_computed():
    verts = torch.rand(1, 3, 3) + 0.5
    fragments = rasterize(verts.requires_grad_(), FACE, 8)
    colours = torch.rand(1, 3, 3, requires_grad=True)
    interpolate(rasterize(verts.detach(), FACE, 8), FACE, colours).sum().backward()
    assert verts.grad is None
    assert colours.grad is not None
    interpolate(fragments, FACE, colours.detach()).sum().backward()
    assert verts.grad is not None


def test_interpolation_refuses_attributes_that_do_not_fit():
    fragments = rasterize(torch.rand(2, 3, 3) + 0.5, FACE, 8)
    with pytest.raises(ValueError, match=r"expected \(2, vertex, channel\), got \(1, 3, 3\)"):
        interpolate(fragments, FACE, torch.rand(1, 3, 3))
    with pytest.raises(TypeError, match=r"expected torch.float32 .* got torch.float64"):
        interpolate(fragments, FACE, torch.rand(2, 3, 3).double())


def test_interpolation_refuses_fragments_of_another_mesh():
    verts, faces = head()
    fragments = rasterize(project_ndc(verts), faces, 16)
    with pytest.raises(ValueError, match="were they rasterized from these faces"):
        interpolate(fragments, faces[:10], verts)
    with pytest.raises(ValueError, match="does the mesh belong to these vertices"):
        interpolate(fragments, faces, verts[:, :10])


# The hard image


def test_a_face_of_one_colour_is_that_colour_inside_the_mask_and_background_outside():
    verts, faces = head(batch=2)
    colours = torch.tensor([0.2, 0.5, 0.8]).expand(2, verts.shape[1], 3)
    image, mask = render(verts, faces, colours, (48, 56), background=0.3)
    assert image.shape == (2, 3, 48, 56)
    assert mask.shape == (2, 1, 48, 56)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    inside = mask[:, 0] == 1
    pixels = image.permute(0, 2, 3, 1)
    torch.testing.assert_close(pixels[inside], colours[0, :1].expand(int(inside.sum()), 3))
    assert (pixels[~inside] == 0.3).all()


def test_without_a_near_plane_a_face_before_the_camera_looks_the_same():
    verts, faces = head(batch=2)
    cut, cut_mask = render(verts, faces, verts, 32)
    free, free_mask = render(verts, faces, verts, 32, near=None)
    assert torch.equal(cut, free)
    assert torch.equal(cut_mask, free_mask)
    assert free_mask.any()


def test_without_a_near_plane_triangles_that_reach_behind_the_camera_are_left_out_whole():
    verts, faces = head()
    verts = (verts - torch.tensor([0, 0, 395.0])).requires_grad_()  # the camera is inside
    colours = torch.rand(1, verts.shape[1], 3, generator=torch.Generator().manual_seed(0))
    image, mask = render(verts, faces, colours, 32, near=None)
    image.square().sum().backward()
    before = faces[(verts[0, :, 2] > 0)[faces].all(1)]
    assert 0 < len(before) < len(faces)
    expected, expected_mask = render(verts, before, colours, 32, near=None)
    assert torch.equal(image, expected)
    assert torch.equal(mask, expected_mask)
    assert mask.any()
    assert verts.grad.isfinite().all()
    # the near plane keeps their front parts
    assert render(verts, faces, colours, 32)[1].sum() >= mask.sum()


def test_positions_rendered_as_colours_project_back_to_their_pixels():
    verts, faces = head()
    image, mask = render(verts, faces, verts, (40, 50))
    y, x = mask[0, 0].nonzero(as_tuple=True)
    ndc = project_ndc(image[0, :, y, x].T)
    half = 20
    torch.testing.assert_close(25 - half * ndc[:, 0], x + 0.5, rtol=0, atol=1e-3)
    torch.testing.assert_close(20 - half * ndc[:, 1], y + 0.5, rtol=0, atol=1e-3)
    # The nearer half of the head is what is seen.
    assert (image[0, 2, y, x] < 400).all()


@given(factor=st.sampled_from([0.25, 4.0]), soft=st.booleans())
def test_a_head_twice_as_large_and_twice_as_far_gives_the_same_image(factor, soft):
    verts, faces = head()
    colours = verts / 400
    softness = SoftSettings() if soft else None
    near, near_mask = render(verts, faces, colours, 32, soft=softness)
    far, far_mask = render(verts * factor, faces, colours, 32, soft=softness)
    torch.testing.assert_close(near, far, rtol=0, atol=2e-3)
    torch.testing.assert_close(near_mask, far_mask, rtol=0, atol=2e-3)


def test_the_background_is_black_or_a_grey_level():
    verts, faces = head(batch=2)
    colours = torch.rand(2, verts.shape[1], 3)
    for soft in (None, SoftSettings()):
        plain, mask = render(verts, faces, colours, 24, soft=soft)
        empty = (mask == 0).expand_as(plain)
        assert empty.any()
        assert (plain[empty] == 0).all()
        white, _ = render(verts, faces, colours, 24, soft=soft, background=1.0)
        torch.testing.assert_close(white[empty], torch.ones_like(white[empty]))
        full = (mask == 1).expand_as(plain)
        torch.testing.assert_close(plain[full], white[full])


def test_a_hard_image_has_gradients_in_colours_and_vertices_but_a_mask_has_none():
    verts, faces = head()
    verts, colours = verts.clone().requires_grad_(), torch.rand(verts.shape).requires_grad_()
    image, mask = render(verts, faces, colours, 24)
    image.square().sum().backward()
    assert verts.grad.any()
    assert colours.grad.any()
    assert verts.grad.isfinite().all()
    assert not mask.requires_grad


def test_a_mesh_that_reaches_behind_the_camera_renders_finite():
    verts, faces = head()
    verts = (verts - torch.tensor([0.0, 0, 380])).requires_grad_()
    for soft in (None, SoftSettings()):
        image, mask = render(verts, faces, verts, 24, soft=soft)
        assert image.isfinite().all()
        assert mask.max() > 0.99
        (gradient,) = torch.autograd.grad(image.sum() + mask.sum() * bool(soft), verts)
        assert gradient.isfinite().all()


def test_wrong_arguments_are_named():
    verts, faces = head()
    with pytest.raises(ValueError, match=r"attributes: expected .* got"):
        render(verts, faces, verts[0])
    with pytest.raises(
        ValueError, match=r"v_camera: expected \(batch, vertex, 3\), got \(192, 3\)"
    ):
        render(verts[0], faces, verts[0])


# The soft image


def test_the_blur_radius_is_where_a_triangles_say_falls_to_one_in_ten_thousand():
    softness = SoftSettings(sigma=3e-4)
    assert 1 / (1 + math.exp(softness.blur_radius / softness.sigma)) == pytest.approx(1e-4)


def test_a_soft_image_with_a_small_sigma_is_the_hard_image_away_from_the_outline():
    verts, faces = head()
    colours = verts / 400
    hard, mask = render(verts, faces, colours, 48)
    soft, soft_mask = render(verts, faces, colours, 48, soft=SoftSettings(sigma=1e-7))
    inner = torch.nn.functional.avg_pool2d(mask, 5, 1, 2) == 1
    assert inner.sum() > 100
    torch.testing.assert_close(soft_mask[inner], mask[inner], rtol=0, atol=1e-3)
    error = (soft - hard).abs()[inner.expand_as(hard)]
    assert error.median() < 1e-4
    assert error.max() < 0.02


@settings(max_examples=20)
@given(sigma=st.sampled_from([1e-4, 1e-3]), shift=st.floats(-3, 3))
def test_a_soft_mask_is_a_sigmoid_of_the_distance_to_the_outline(sigma, shift):
    verts = flat_triangle(shift)
    softness = SoftSettings(sigma=sigma, faces_per_pixel=1)
    _, mask = render(verts, FACE, torch.ones(1, 3, 1), 16, soft=softness)
    ndc = project_ndc(verts)
    fragments = rasterize(ndc, FACE, 16, softness.blur_radius)
    expected = torch.sigmoid(-fragments.dists[..., 0] / sigma)
    expected = torch.where(fragments.pix_to_face[..., 0] < 0, 0, expected)
    torch.testing.assert_close(mask[:, 0], expected)
    assert ((mask[:, 0] > 0.5) == (rasterize(ndc, FACE, 16).pix_to_face[..., 0] >= 0)).all()


def test_a_soft_mask_pulls_a_triangle_to_its_target_and_a_hard_one_cannot():
    softness = SoftSettings(sigma=1e-3)
    colour = torch.ones(1, 3, 1)
    _, target = render(flat_triangle(0.0), FACE, colour, 24, soft=softness)
    shift = torch.tensor(4.0, requires_grad=True)
    adam = torch.optim.Adam([shift], lr=0.3)
    for _ in range(70):
        verts = flat_triangle() + shift * torch.tensor([1.0, 0, 0])
        _, mask = render(verts, FACE, colour, 24, soft=softness)
        adam.zero_grad()
        (mask - target).square().sum().backward()
        adam.step()
    assert abs(shift.item()) < 0.1
    verts = flat_triangle() + shift * torch.tensor([1.0, 0, 0])
    image, _ = render(verts, FACE, colour, 24)
    (gradient,) = torch.autograd.grad((image - target).square().sum(), shift)
    assert gradient.abs() < 1e-5


def test_the_nearer_of_two_triangles_wins_a_soft_pixel_the_more_the_smaller_gamma():
    verts = torch.cat([flat_triangle(depth=100.0), flat_triangle(depth=101.0) * 1.5], 1)
    faces = torch.tensor([[3, 4, 5], [0, 1, 2]])
    colours = torch.tensor([[[1.0], [1], [1], [0], [0], [0]]])
    shares = [
        render(verts, faces, colours, 17, soft=SoftSettings(gamma=gamma))[0][0, 0, 7, 8].item()
        for gamma in (1e-2, 1e-1, 1.0)
    ]
    assert shares[0] > shares[1] > shares[2] > 0.4
    assert shares[0] > 0.99


@pytest.mark.parametrize("part", [0, 1])
def test_soft_gradients_are_those_of_finite_differences(part):
    verts = torch.cat([flat_triangle(), flat_triangle(3.0, 110.0)], 1).double()
    verts[0, 0, 2] += 5
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    colours = torch.rand(1, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    # The depth range is detached, so the mesh carries two vertices that hold it.
    ends = torch.tensor([[[500.0, 500, 60], [500, 500, 160]]]).double()

    def output(verts, colours):
        verts = torch.cat([verts, ends], 1)
        colours = torch.cat([colours, torch.zeros(1, 2, 2).double()], 1)
        # Wide enough that no fragment comes or goes inside the image.
        soft = SoftSettings(sigma=0.5, gamma=0.2, faces_per_pixel=2)
        return render(verts, faces, colours, 5, soft=soft)[part]

    inputs = (verts.requires_grad_(), colours.requires_grad_())
    assert torch.autograd.gradcheck(output, inputs, eps=1e-6, atol=1e-5)
