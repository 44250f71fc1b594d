"""Eq. 12's terms: what they are of, which reading, and what is not computed."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from small_faces import model

from facerecon_lib.augmented.branch import AugmentedFaces, BaseFaces, augment, base_faces
from facerecon_lib.augmented.objective import AugmentedObjective
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.measures import similarity_align
from facerecon_lib.fitting import losses
from facerecon_lib.fitting.photo_light import region_weights
from facerecon_lib.fitting.weights import (
    AUGMENTED_RENDERED_WEIGHTS,
    AUGMENTED_REPORT_WEIGHTS,
    AUGMENTED_WEIGHTS,
    JAW_WEIGHT,
    REPORT_WEIGHTS,
)
from facerecon_lib.networks.unet import OffsetMaps
from facerecon_lib.rendering.synthesis import pose_and_light


@lru_cache
def faces() -> FaceBatch:
    return RenderedFaces(model(), seed=5, wrinkles=True).batch(torch.arange(3))


@lru_cache
def base() -> BaseFaces:
    c = faces().truth.clone()
    c.rotation = c.rotation + 0.03
    return base_faces(model(), c, 224)


def random_maps(seed: int = 0) -> OffsetMaps:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, 3, 3, 14, 14, generator=generator)
    fine = [torch.nn.functional.interpolate(m, 224, mode="bicubic") for m in coarse]
    return OffsetMaps(0.05 * fine[0], fine[1])


def no_maps() -> OffsetMaps:
    return OffsetMaps(*(torch.zeros_like(m) for m in random_maps()))


@lru_cache
def found() -> AugmentedFaces:
    return augment(base(), random_maps())


def terms(weights, batch=None, faces_found=None, **choices) -> dict[str, float]:
    objective = AugmentedObjective(model(), weights, **choices)
    result = objective(faces_found or found(), batch or faces())
    return {name: float(value) for name, value in result.terms.items()}


ALL = {n: 1.0 for n in AUGMENTED_RENDERED_WEIGHTS if n != "recognition"}


def test_as_printed_each_term_is_its_equation():
    weights = {n: w for n, w in AUGMENTED_REPORT_WEIGHTS.items() if n != "recognition"}
    got = terms(weights, reduction="sum", symmetry="image", smooth_on="face")
    image, mask = found().face.render(224)
    maps, mesh = found().maps, model().faces
    expected = {
        "pixel": losses.pixel_loss(image, faces().image, mask * faces().valid, "sum"),
        "landmark": losses.landmark_loss(found().face.landmarks("2d"), faces().landmarks),
        "texture_l2": losses.offset_l2_loss(maps.texture),
        "displacement_l2": losses.offset_l2_loss(maps.displacement),
        "texture_symmetry": losses.offset_symmetry_loss(maps.texture, False),
        "displacement_symmetry": losses.offset_symmetry_loss(maps.displacement, True),
        "smooth_shape": losses.smoothness_loss(found().face.vertices, mesh),
        "smooth_albedo": losses.smoothness_loss(found().face.albedo, mesh),
    }
    assert got == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-4)


def test_means_do_not_grow_with_the_map_and_trust_hair_and_eyes_less():
    got = terms({"pixel": 1.0, "texture_l2": 1.0, "displacement_symmetry": 1.0, "landmark": 1.0})
    size = float(losses.offset_l2_loss(found().maps.texture))
    assert got["texture_l2"] == pytest.approx(size / 224**2, rel=1e-5)
    weights = region_weights(model())[None, :, None].expand(3, -1, 1)
    attributes = torch.cat([found().face.colours, weights], -1)
    shown, mask = found().face.render(224, attributes=attributes)
    weight, sigma = shown[:, 3:] * mask * faces().valid, AugmentedObjective.pixel_sigma
    pixel = losses.robust_pixel_loss(shown[:, :3], faces().image, weight, sigma)
    assert got["pixel"] == pytest.approx(float(pixel), rel=1e-4)
    jaw = torch.ones(68)
    jaw[:17] = JAW_WEIGHT
    landmark = losses.landmark_loss(found().face.landmarks("2d"), faces().landmarks, jaw)
    assert got["landmark"] == pytest.approx(float(landmark), rel=1e-4)


def test_symmetry_on_the_mesh_holds_in_any_pose_and_in_the_image_only_in_front():
    """Offsets alike left and right cost nothing on the mesh, however the face is turned."""
    c = model().neutral(1)
    c.rotation[:, 1] = 0.5
    turned = base_faces(model(), c, 224)
    batch = faces()[:1]
    offsets = torch.zeros(1, len(model().mean), 3)
    offsets[..., 2] = (model().mean[:, 1] / 40).sin()  # the same on both sides
    nothing = torch.zeros(1, 3, 224, 224)
    even = augment(turned, OffsetMaps(nothing, nothing))
    maps = OffsetMaps(nothing, turned.face.render(224, attributes=offsets)[0])
    even = replace(even, maps=maps, offsets=replace(even.offsets, displacement=offsets))
    weights = {"displacement_symmetry": 1.0}
    on_mesh = terms(weights, batch, even, symmetry="mesh")["displacement_symmetry"]
    in_image = terms(weights, batch, even, symmetry="image")["displacement_symmetry"]
    assert on_mesh < 1e-6
    assert in_image > 0.05


def test_a_symmetric_widening_is_symmetric():
    offsets = torch.zeros(3, len(model().mean), 3)
    offsets[..., 0] = 0.02 * model().mean[:, 0]
    wide = replace(found(), offsets=replace(found().offsets, displacement=offsets))
    for reduction, least in (("mean", 1e-6), ("sum", 1e-2)):
        cost = terms({"displacement_symmetry": 1.0}, None, wide, reduction=reduction)
        assert cost["displacement_symmetry"] < least


def test_smoothness_is_of_the_face_or_of_what_was_added():
    weights = {"smooth_shape": 1.0, "smooth_albedo": 1.0}
    added = terms(weights, smooth_on="offsets")
    whole = terms(weights, smooth_on="face")
    expected = losses.smoothness_loss(found().offsets.displacement, model().faces)
    assert added["smooth_shape"] == pytest.approx(float(expected), rel=1e-5)
    assert whole["smooth_shape"] > 5 * added["smooth_shape"]  # edges have a length of their own
    nothing = augment(base(), no_maps())
    assert terms(weights, None, nothing, smooth_on="offsets") == dict.fromkeys(weights, 0.0)


def test_truth_terms_are_zero_at_the_truth_alone():
    """The true face as if the maps had found it: its own details are then no error."""
    exact = base_faces(model(), faces().truth, 224)
    nothing = augment(exact, no_maps())
    face = pose_and_light(model(), faces().true_vertices, faces().true_albedo, faces().truth)
    truth = replace(nothing, face=face)
    weights = {"truth_texture": 1.0, "truth_normals": 1.0, "truth_vertices": 1.0}
    at_truth, at_base = terms(weights, None, truth), terms(weights, None, nothing)
    assert at_truth["truth_texture"] < 1e-10
    assert at_truth["truth_normals"] < 1e-6
    for name in weights:
        assert at_base[name] > 20 * at_truth[name] or name == "truth_vertices"
    skin = model().regions["skin"] * (1 - model().regions["border"])
    weight = skin * nothing.offsets.seen
    target = similarity_align(faces().true_vertices, exact.face.vertices)
    off = (face.vertices - target).square().sum(-1)
    expected = ((weight * off).sum(1) / weight.sum(1)).mean()
    assert at_truth["truth_vertices"] == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_photos_have_no_truth_terms():
    photo = FaceBatch(faces().image, faces().valid, faces().landmarks, "2d", faces().names)
    assert set(terms(ALL, photo)) == set(ALL) - {"truth_texture", "truth_normals", "truth_vertices"}
    with pytest.raises(ValueError, match="known truth for truth_texture"):
        terms({"truth_texture": 1.0}, photo)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_term_moves_the_maps(name):
    maps = OffsetMaps(*(m.requires_grad_() for m in random_maps(1)))
    result = AugmentedObjective(model(), {name: 1.0})(augment(base(), maps), faces())
    pulls = torch.autograd.grad(result.loss, list(maps), allow_unused=True)
    lengths = [0.0 if p is None else float(p.norm()) for p in pulls]
    of_texture = {"texture_l2", "texture_symmetry", "smooth_albedo", "truth_texture"}
    of_shape = {"landmark", "displacement_l2", "displacement_symmetry", "smooth_shape"}
    of_shape |= {"truth_normals", "truth_vertices"}
    assert (lengths[0] > 0) == (name in of_texture | {"pixel"})
    assert (lengths[1] > 0) == (name in of_shape | {"pixel"})


@pytest.mark.parametrize(
    ("weights", "choices", "message"),
    [
        ({"pixels": 1.0}, {}, "'pixels' is unknown; there are "),
        ({"pixel": 1.0}, {"symmetry": "mirror"}, "symmetry: expected mesh or image"),
        ({"pixel": 1.0}, {"smooth_on": "all"}, "smooth_on: expected offsets or face"),
    ],
)
def test_what_cannot_be_is_refused(weights, choices, message):
    with pytest.raises(ValueError, match=message):
        AugmentedObjective(model(), weights, **choices)


def test_the_named_weights_name_known_terms():
    for weights in (AUGMENTED_REPORT_WEIGHTS, AUGMENTED_WEIGHTS, AUGMENTED_RENDERED_WEIGHTS):
        weights = {n: w for n, w in weights.items() if n != "recognition"}
        assert AugmentedObjective(model(), weights).weights
    assert AUGMENTED_REPORT_WEIGHTS["texture_l2"] == REPORT_WEIGHTS["offset_l2"]
    assert AUGMENTED_REPORT_WEIGHTS["recognition"] == 20
