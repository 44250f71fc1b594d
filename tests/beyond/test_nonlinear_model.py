"""The nonlinear model: its linear start, its maps and details, its terms, its file."""

import json

import pytest
import torch

from facerecon_lib.augmented.uv_space import uv_layout
from facerecon_lib.beyond.nonlinear_model import (
    SIZE,
    NonlinearModel,
    NonlinearModelError,
    albedo_constancy,
    albedo_symmetry,
    at_rest,
    load_nonlinear_model,
    part_boxes,
    sampled,
    save_nonlinear_model,
    window,
)
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.morphable_model import MorphableModel

CODES = 6


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load(subdivision=0)


@pytest.fixture(scope="module")
def faces(model):
    identity, _, albedo = model.random(64, torch.Generator().manual_seed(3))
    return model.shape(identity), model.albedo(albedo)


@pytest.fixture(scope="module")
def network(model, faces):
    torch.manual_seed(0)
    known = model.sizes.identity + model.sizes.albedo
    network = NonlinearModel(CODES, len(model.mean), 10, known, part_boxes(model))
    network.learn_linear(*faces, model)
    return network.eval()


def test_the_linear_model_is_pca_in_units_of_deviations(network, faces):
    code = network.project(*faces)
    torch.testing.assert_close(code.mean(0), torch.zeros(2 * CODES), atol=1e-3, rtol=0)
    torch.testing.assert_close(code.std(0), torch.ones(2 * CODES), atol=0.03, rtol=0)
    errors = [
        (ours - theirs).square().mean() / theirs.var(0).mean()
        for ours, theirs in zip(network.linear(code), faces, strict=True)
    ]
    assert max(errors) < 0.5


def test_project_undoes_linear(network):
    code = torch.randn(3, 2 * CODES, generator=torch.Generator().manual_seed(1))
    again = network.project(*network.linear(code))
    torch.testing.assert_close(again, code, atol=1e-3, rtol=1e-3)


def test_it_starts_as_the_linear_model_painted_as_a_map(network, model, faces):
    code = network.project(*faces)
    maps = network.paint(code)
    assert maps.shape.shape == (64, 3, SIZE, SIZE)
    assert not maps.shape_detail.any()
    assert not maps.albedo_detail.any()
    exposed = uv_layout(model).exposed * model.regions["skin"]
    for ours, theirs, mean in zip(
        network.on_mesh(maps, model), network.linear(code), network.mean, strict=True
    ):
        lost = ((ours - theirs).norm(dim=-1) * exposed).sum() / exposed.sum()
        whole = ((theirs - mean).norm(dim=-1) * exposed).sum() / exposed.sum()
        assert lost < 0.25 * whole


def test_readers_start_at_what_the_encoder_s_coefficients_say(network, model):
    generator = torch.Generator().manual_seed(2)
    identity, _, albedo = model.random(8, generator)
    truth = model.shape(identity), model.albedo(albedo)
    read, _ = network(torch.randn(8, 10), torch.cat([identity, albedo], 1))
    torch.testing.assert_close(read.own, network.project(*truth), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(read.linear, read.own)


def test_a_loss_at_the_vertices_teaches_proxy_global_and_local_paths(network, model):
    network.zero_grad()
    vertices, albedo = network.on_mesh(network.paint(torch.ones(2, 2 * CODES)), model)
    (vertices.square().mean() + albedo.square().mean()).backward()
    for decoder in (network.shape, network.albedo):
        layers = (decoder.proxy, decoder.last, *decoder.lasts)
        assert all(layer.weight.grad.abs().sum() > 0 for layer in layers)


def test_local_paths_lie_on_their_parts_and_fade_out(model):
    boxes = part_boxes(model)
    for top, bottom, left, right in boxes:
        assert left + right == 16  # symmetric
        assert 0 <= top < bottom <= 16
    landmarks = uv_layout(model).uv[model.landmarks] * 16
    top, bottom, left, right = boxes[2]
    mouth = landmarks[48:68]
    assert ((mouth > torch.tensor([left, top])) & (mouth < torch.tensor([right, bottom]))).all()
    fade = window(8, 12)
    assert fade[0].max() < 0.1
    assert fade[3:5, 5:7].min() > 0.9
    torch.testing.assert_close(fade, fade.flip(0, 1))


def test_a_map_of_the_uv_reads_them_back(model):
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    maps = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))[None]
    read = sampled(maps, model)[0]
    torch.testing.assert_close(read, uv_layout(model).uv, atol=1e-5, rtol=0)


def test_symmetry_sees_no_difference_on_symmetric_maps():
    maps = torch.rand(2, 3, 8, 8)
    assert not albedo_symmetry(maps + maps.flip(3)).any()
    assert (albedo_symmetry(maps) > 0).all()


def test_constancy_spares_edges_of_the_chromaticity():
    albedo = torch.zeros(1, 3, 4, 4)
    albedo[..., 2:] = 0.5
    flat = torch.full_like(albedo, 1 / 3)
    edged = flat.clone()
    edged[:, 0, :, 2:] += 0.3
    assert albedo_constancy(albedo, edged) < 1e-3 * albedo_constancy(albedo, flat)


def test_a_file_gives_the_model_back(network, tmp_path):
    path = tmp_path / "model.safetensors"
    save_nonlinear_model(path, network, {"model": "one"}, "float32")
    again = load_nonlinear_model(path)
    code = torch.ones(1, 2 * CODES)
    torch.testing.assert_close(again.paint(code), network.paint(code))
    assert again.boxes == network.boxes
    assert not again.training


def test_a_file_of_another_kind_is_refused_in_a_line(tmp_path):
    with pytest.raises(NonlinearModelError, match="there is no such nonlinear model"):
        load_nonlinear_model(tmp_path / "none.safetensors")


def test_the_one_that_ships_fits_the_model_that_ships(model):
    shipped = load_nonlinear_model(model=model)
    assert shipped.basis.shape[2] == len(model.mean)
    assert json.loads(shipped.metadata["settings"])["stage"] == "nonlinear"
    vertices, albedo = shipped.on_mesh(shipped.paint(torch.zeros(1, 2 * shipped.codes)), model)
    assert (vertices[0] - shipped.mean[0]).norm(dim=-1).median() < 0.3
    assert (albedo[0] - shipped.mean[1]).abs().median() < 0.03


def test_the_shape_at_rest_has_the_wrinkles_and_no_expression(model):
    plain, wrinkled = (
        RenderedFaces(model, 2, wrinkles=w, size=8).batch(torch.arange(3)) for w in (False, True)
    )
    torch.testing.assert_close(
        at_rest(model, plain), model.shape(plain.truth.identity), atol=1e-3, rtol=0
    )
    off = (at_rest(model, wrinkled) - at_rest(model, plain)).norm(dim=-1)
    assert 0.1 < off.max() < 3
