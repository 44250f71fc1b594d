"""The base branch's objective: terms are what their equations say; none is computed unasked."""

from dataclasses import replace
from functools import lru_cache, partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_faces import model
from torch import Tensor

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix, matrix_to_axis_angle
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.lighting import sh_basis
from facerecon_lib.fitting import losses, objective
from facerecon_lib.fitting.objective import TRUTH_TERMS, BaseObjective, Objective
from facerecon_lib.fitting.photo_light import region_weights
from facerecon_lib.fitting.weights import PRIORS, RENDERED_WEIGHTS, REPORT_WEIGHTS, TRAIN_WEIGHTS
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.networks.recognition import face_features
from facerecon_lib.rendering.synthesis import synthesise

GROUPS = ("identity", "expression", "albedo", "rotation", "translation", "scale", "lighting")
EQUATION_7 = {name: REPORT_WEIGHTS[name] for name in ("pixel", "landmark", "recognition")}
WITHOUT_NETWORK = {
    n: w for n, w in (TRAIN_WEIGHTS | RENDERED_WEIGHTS).items() if n != "recognition"
}
SIZE = 112


@lru_cache
def faces() -> FaceBatch:
    """Four rendered faces, each with a hole in what may be explained."""
    batch = RenderedFaces(model(), seed=3).batch(torch.arange(4))
    for i in range(4):
        batch.valid[i, :, 100 : 120 + 10 * i, 80 : 100 + 10 * i] = 0
    return batch


def guess(seed: int = 0, batch: int = 4) -> FaceCoefficients:
    """The true faces, each group somewhat off; leaves."""
    generator = torch.Generator().manual_seed(seed)
    sd = dict(zip(GROUPS, (0.5, 0.3, 0.5, 0.1, 3.0, 0.02, 0.1), strict=True))
    truth = vars(faces().truth[:batch])
    off = {n: truth[n] + sd[n] * torch.randn(truth[n].shape, generator=generator) for n in GROUPS}
    return FaceCoefficients(**{name: value.requires_grad_() for name, value in off.items()})


network = lru_cache(partial(load_network, "dlib"))


@lru_cache
def made(reduction: str = "mean", size: int = SIZE) -> BaseObjective:
    return BaseObjective(model(), WITHOUT_NETWORK, reduction, size=size)


def term(name: str, c: FaceCoefficients, batch: FaceBatch | None = None, **settings) -> Tensor:
    found = BaseObjective(model(), {name: 2.0}, **settings)(c, batch or faces())
    assert list(found.terms) == [name]
    torch.testing.assert_close(found.loss, 2 * found.terms[name])
    return found.terms[name]


# The known truth --------------------------------------------------------------------------------


def test_learned_skin_is_a_truth_of_photos_and_takes_the_place_of_the_level_of_the_light():
    c, truth = guess(), faces().truth
    skin = truth.albedo.clone()
    skin[1] = torch.nan
    photos = replace(faces(), truth=None, true_vertices=None, true_albedo=None, skin=skin)
    weights = {"truth_albedo": 2.0, "light_level": 1.0}
    result = BaseObjective(model(), weights)(c, photos)
    known = BaseObjective(model(), weights)(c, faces()).per_face
    others = torch.tensor([1.0, 0, 1, 1])
    assert torch.equal(result.per_face["truth_albedo"], known["truth_albedo"] * others)
    assert torch.equal(result.per_face["light_level"], known["light_level"] * (1 - others))
    result.loss.backward()
    assert (c.albedo.grad.abs().sum(1) > 0).float().tolist() == others.tolist()


@pytest.mark.parametrize("name", ["shape", "expression", "albedo"])
def test_a_known_group_costs_its_mean_squared_distance_over_the_skin(name):
    skin, c, truth = model().regions["skin"], guess().detach(), faces().truth
    ours, theirs = {
        "albedo": lambda: (model().albedo(c.albedo), model().albedo(truth.albedo)),
        "shape": lambda: (model().shape(c.identity), model().shape(truth.identity)),
        "expression": lambda: (model().shape(0 * c.identity, x.expression) for x in (c, truth)),
    }[name]()
    squared = ((ours - theirs) ** 2).sum(-1)
    expected = ((squared * skin).sum(1) / skin.sum()).mean()
    torch.testing.assert_close(term(f"truth_{name}", c), expected, atol=1e-6, rtol=1e-3)


@given(st.floats(-3, 3), st.integers(0, 2))
@settings(max_examples=10)
def test_a_pose_costs_its_squared_angle_where_it_is_small(angle, axis):
    c = faces().truth.clone()
    turn = torch.zeros(4, 3)
    turn[:, axis] = angle
    turned = axis_angle_to_matrix(turn) @ axis_angle_to_matrix(faces().truth.rotation)
    c.rotation = matrix_to_axis_angle(turned)
    expected = 2 * (1 - torch.tensor(angle).cos())
    torch.testing.assert_close(term("truth_pose", c), expected, atol=2e-5, rtol=1e-4)
    if abs(angle) < 0.2:
        assert float(expected) == pytest.approx(angle**2, rel=0.01, abs=1e-6)


def test_a_light_costs_what_it_changes_on_the_half_sphere_that_is_seen():
    c = guess()
    normals = F.normalize(torch.randn(200_000, 3), dim=-1)
    normals[:, 2] = normals[:, 2].abs()
    change = sh_basis(normals) @ (c.lighting - faces().truth.lighting)
    expected = change.square().sum(-1).mean()
    torch.testing.assert_close(term("truth_light", c), expected, atol=0, rtol=0.02)


def test_the_truth_itself_costs_nothing_and_is_a_minimum():
    found, away = made()(faces().truth, faces()), made()(guess().detach(), faces())
    for name in TRUTH_TERMS:
        assert abs(float(found.terms[name])) < 1e-6, name
        assert float(away.terms[name]) > 1e-4, name


def test_faces_without_truth_are_judged_by_the_rest():
    unknown = replace(faces(), truth=None, tone=None)
    found, known = made()(guess(), unknown), made()(guess(), faces())
    others = {name: value for name, value in known.terms.items() if name not in TRUTH_TERMS}
    torch.testing.assert_close(found.terms, others)
    with pytest.raises(ValueError, match="known truth for truth_pose, which alone have a weight"):
        term("truth_pose", guess(), unknown)


# What is seen -----------------------------------------------------------------------------------


def test_the_robust_photometric_term_trusts_vertices_and_pixels_as_fitting_does():
    c, batch = guess(), faces()
    face = synthesise(model(), c)
    image, mask = face.render(SIZE)
    trust = region_weights(model())[None, :, None].expand(4, -1, 1)
    weight = face.render(SIZE, attributes=trust)[0]
    photo, valid = (F.avg_pool2d(x, 2) for x in (batch.image, batch.valid))
    weight, sigma = weight * mask * valid, BaseObjective.pixel_sigma
    expected = losses.robust_pixel_loss(image, photo, weight, sigma)
    torch.testing.assert_close(term("pixel", c, size=SIZE), expected, atol=1e-5, rtol=1e-3)


def test_sums_and_the_reports_weights_are_equation_7():
    c, batch = guess(), faces()
    found = BaseObjective(model(), EQUATION_7, "sum", network())(c, batch)
    face = synthesise(model(), c)
    image, covered = face.render(224)
    mask = (covered * batch.valid).detach()
    pixel = (mask * (image - batch.image) ** 2).sum() / 4
    landmark = (face.landmarks("2d") - batch.landmarks).abs().sum() / 68 / 4
    f = [face_features(network(), x, batch.landmarks, mask) for x in (batch.image, image)]
    recognition = (f[0] - f[1]).abs().sum() / 4
    expected = {"pixel": pixel, "landmark": landmark, "recognition": recognition}
    torch.testing.assert_close(found.terms, expected, atol=1e-3, rtol=1e-3)
    total = pixel + landmark + 20 * recognition
    torch.testing.assert_close(found.loss, total, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(found.image, image.detach(), atol=1e-3, rtol=0)
    assert torch.equal(found.mask, mask)


@pytest.mark.parametrize(
    ("kind", "reduction", "jaw"),
    [("2d", "mean", 0.3), ("2d", "sum", 1.0), ("3d", "mean", 1.0), ("3d", "sum", 1.0)],
)
def test_landmarks_are_those_of_the_detectors_kind(kind, reduction, jaw):
    c, batch = guess(), replace(faces(), kind=kind)
    distance = (synthesise(model(), c).landmarks(kind) - batch.landmarks).abs().sum(-1)
    weight = torch.cat([torch.full((17,), jaw), torch.ones(51)])
    expected = (distance * weight).sum(1).mean() / 68
    found = term("landmark", c, batch, reduction=reduction)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
    swapped = replace(batch, kind={"2d": "3d", "3d": "2d"}[kind])
    other = term("landmark", c, swapped, reduction=reduction)
    assert abs(float((found - other).detach())) > 0.01  # at the jaw


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_what_is_not_valid_does_not_count(reduction):
    batch = faces()
    other = torch.where(batch.valid > 0, batch.image, 1 - batch.image)
    assert (other != batch.image).float().mean() > 0.01
    weights = {"pixel": 1.0, "recognition": 1.0}
    judge = BaseObjective(model(), weights, reduction, network())
    for name in weights:
        a, b = (judge(guess(), replace(batch, image=x)).terms[name] for x in (batch.image, other))
        assert a.item() == b.item() > 0, name
    dark = judge(guess(), replace(batch, valid=torch.zeros_like(batch.valid)))
    assert all(value.item() == pytest.approx(0, abs=1e-5) for value in dark.terms.values())


def test_the_priors_are_those_of_losses():
    c, found = guess(), made()(guess(), faces()).terms
    expected = {
        "identity": c.identity.square().sum(1).mean(),
        "expression": c.expression.square().sum(1).mean(),
        "albedo": c.albedo.square().sum(1).mean(),
        "scale": ((c.scale.log() / 0.02) ** 2).mean(),
        "action_range": losses.action_range_prior(model().actions(c.expression)),
        **losses.light_priors(c.lighting),
    }
    found = {name: found[name] for name in PRIORS}
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


# All together -----------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_every_term():
    found = made()(guess(), faces())
    assert isinstance(found, Objective)
    assert set(found.terms) == set(WITHOUT_NETWORK)
    assert all(value.ndim == 0 and value.isfinite() for value in found.terms.values())
    total = sum(WITHOUT_NETWORK[name] * value for name, value in found.terms.items())
    torch.testing.assert_close(found.loss, total)


@pytest.mark.parametrize("kind", ["2d", "3d"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_costs_the_mean_of_its_parts(reduction, kind):
    """What makes several processes, each with its share, equal to one."""
    c, batch, judge = guess(), replace(faces(), kind=kind), made(reduction)
    whole = judge(c, batch)
    for size in (2, 1):
        cuts = [slice(i, i + size) for i in range(0, 4, size)]
        parts = [judge(c[cut], batch[cut]) for cut in cuts]
        means = {n: sum(part.terms[n] for part in parts) / len(parts) for n in whole.terms}
        torch.testing.assert_close(whole.terms, means, atol=1e-5, rtol=1e-4)
        mean = sum(part.loss for part in parts) / len(parts)
        torch.testing.assert_close(whole.loss, mean, atol=1e-3, rtol=1e-4)


def test_the_order_of_faces_does_not_matter():
    order, b = torch.tensor([2, 0, 3, 1]), faces()
    pictures = b.image[order], b.valid[order], b.landmarks[order]
    mixed = FaceBatch(*pictures, "2d", [b.names[i] for i in order], b.truth[order])
    found, expected = made()(guess()[order], mixed), made()(guess(), b)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("pixel", GROUPS),
        ("landmark", ("identity", "expression", "rotation", "translation", "scale")),
        ("truth_shape", ("identity",)),
        ("truth_expression", ("expression",)),
        ("truth_albedo", ("albedo",)),
        ("truth_pose", ("rotation",)),
        ("truth_light", ("lighting",)),
        ("identity", ("identity",)),
        ("light_level", ("lighting",)),
        pytest.param("recognition", GROUPS),
    ],
)
def test_gradients_reach_the_groups_that_a_term_knows_of(name, reached):
    c = guess()
    settings = {"recognition": network()} if name == "recognition" else {}
    term(name, c, **settings).backward()
    for group in GROUPS:
        gradient = getattr(c, group).grad
        if group in reached:
            assert gradient.isfinite().all(), group
            assert (gradient.flatten(1).abs().amax(1) > 0).all(), group  # of every face
        else:
            assert gradient is None or not gradient.any(), group


@pytest.mark.parametrize("group", ["lighting", "translation"])
def test_gradients_are_the_slopes_of_the_loss(group):
    c, objective = guess().detach(), BaseObjective(model(), {"landmark": 1.0, "truth_light": 1.0})
    direction = F.normalize(torch.randn_like(getattr(c, group)).flatten(), dim=0)
    direction = direction.view_as(getattr(c, group))

    def loss(t: float) -> Tensor:
        return objective(replace(c, **{group: getattr(c, group) + t * direction}), faces()).loss

    t = torch.zeros((), requires_grad=True)
    slope = torch.autograd.grad(loss(t), t)[0]
    measured = (loss(0.01) - loss(-0.01)) / 0.02
    torch.testing.assert_close(slope, measured, atol=1e-3, rtol=0.03)


def test_the_rendering_comes_out_detached_and_in_its_size():
    found = made()(guess(), faces())
    for value, channels in ((found.image, 3), (found.mask, 1)):
        assert value.shape == (4, channels, SIZE, SIZE)
        assert not value.requires_grad
    assert 0.2 < found.mask.mean() < 0.9


# What is not asked for --------------------------------------------------------------------------

COSTS = {
    "synthesise": {"pixel"},
    "project_landmarks": {"landmark"},
    "axis_angle_to_matrix": {"truth_pose"},
    "losses.robust_pixel_loss": {"pixel"},
    "losses.landmark_loss": {"landmark"},
    "losses.coefficient_prior": {"identity", "expression", "albedo"},
    "losses.action_range_prior": {"action_range"},
    "losses.scale_prior": {"scale"},
    "losses.light_priors": {"light_grey", "light_level", "light_bands"},
}


@pytest.mark.parametrize("function", COSTS)
def test_terms_without_a_weight_are_not_computed(function, monkeypatch):
    def not_asked_for(*_, **__):
        raise AssertionError(function)

    where, name = (losses, function[7:]) if "." in function else (objective, function)
    monkeypatch.setattr(where, name, not_asked_for)
    weights = {n: 0.0 if n in COSTS[function] else w for n, w in WITHOUT_NETWORK.items()}
    found = BaseObjective(model(), weights, size=SIZE)(guess(), faces())
    assert set(found.terms) == set(WITHOUT_NETWORK) - COSTS[function]
    with pytest.raises(AssertionError, match=function):
        made()(guess(), faces())


def test_without_photo_terms_nothing_is_rendered():
    found = BaseObjective(model(), {"identity": 1.0, "truth_shape": 1.0})(guess(), faces())
    assert found.image is found.mask is None


def test_recognition_alone_needs_no_photometric_term(monkeypatch):
    monkeypatch.setattr(losses, "robust_pixel_loss", None)
    assert term("recognition", guess(), recognition=network()).item() > 0


def test_all_is_as_it_was_afterwards():
    c, batch = guess(), faces()
    before = [x.clone() for x in (c.to_vector(), batch.image, batch.valid, batch.landmarks)]
    made()(c, batch).loss.backward()
    after = c.to_vector(), batch.image, batch.valid, batch.landmarks
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not model().mean.requires_grad


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"pixle": 1.0},), "weights: 'pixle' is unknown; there are"),
        (({"offset_l2": 1.0, "pixel": 1.0},), "weights: 'offset_l2' is unknown"),
        (({"pixel": 1.0}, "max"), "reduction: expected 'sum' or 'mean', got 'max'"),
        (({"pixel": -1.0},), "weights: expected 0 or more for 'pixel', got -1.0"),
        (({"pixel": float("nan")},), "weights: expected 0 or more for 'pixel', got nan"),
        (({"pixel": float("inf")},), "weights: expected 0 or more for 'pixel', got inf"),
        (({},), "weights: expected one or more above 0, got none"),
        (({"pixel": 0.0},), "weights: expected one or more above 0, got none"),
        ((EQUATION_7, "sum"), "recognition: a weight of 20 needs a network"),
    ],
)
def test_what_cannot_be_weighed_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BaseObjective(model(), *arguments)


def test_recognition_needs_the_whole_picture():
    with pytest.raises(ValueError, match="renderings of 224 pixels, not 112"):
        BaseObjective(model(), EQUATION_7, "sum", network(), size=112)
    BaseObjective(model(), EQUATION_7 | {"recognition": 0.0}, "sum", size=112)


@pytest.mark.gpu
def test_cuda_says_the_same():
    there = BaseObjective(model().to("cuda"), WITHOUT_NETWORK, size=SIZE)
    found = there(guess().detach().to("cuda"), faces().to("cuda"))
    for name, value in made()(guess(), faces()).terms.items():
        torch.testing.assert_close(found.terms[name].cpu(), value.detach(), atol=1e-4, rtol=5e-3)
