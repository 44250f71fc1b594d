"""The encoder: what it answers untrained, what its numbers mean, and which files it takes."""

import copy
import re
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.networks.backbones import BACKBONES, NORMS, EncoderError
from facerecon_lib.networks.encoder import Encoder, load_encoder, save_encoder

SIZES = (6, 5, 4)
SMALL = "mobilenet_v3_large"


@lru_cache
def trained() -> Encoder:
    """A small encoder with numbers in every layer. Not to be changed: copy it."""
    torch.manual_seed(1)
    encoder = Encoder(SIZES, SMALL, input_size=64)
    with torch.no_grad():
        torch.nn.init.normal_(encoder.head.weight, std=0.05)
        torch.nn.init.normal_(encoder.head.bias, std=0.1)
        encoder.train()(torch.rand(4, 3, 64, 64))  # statistics that are not 0 and 1
    return encoder.eval()


@lru_cache
def photos(count: int = 3, size: int = 64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def vector(c: FaceCoefficients) -> Tensor:
    return c.to_vector().detach()


# Untrained --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_untrained_it_answers_the_mean_face_and_every_layer_can_learn(backbone, norm):
    encoder = Encoder(SIZES, backbone, norm, input_size=64)
    mean = vector(FaceCoefficients.mean(2, *SIZES))
    for mode in (True, False):
        answer = encoder.train(mode)(photos()[:2])
        assert answer.sizes == SIZES
        torch.testing.assert_close(vector(answer), mean)
    if backbone == "resnet50":
        return  # resnet18 is made of the same code, and faster
    with torch.no_grad():
        encoder.head.weight.normal_()
    encoder.train()(photos()).to_vector().square().sum().backward()
    asleep = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert asleep == []


# What outputs mean ------------------------------------------------------------------------------


def test_an_output_of_1_is_the_scale_of_its_group():
    encoder = trained()
    length = encoder.sizes.vector
    moved = encoder.decode(torch.ones(1, length))
    start = encoder.decode(torch.zeros(1, length))
    torch.testing.assert_close(vector(start), vector(FaceCoefficients.mean(1, *SIZES)))
    for name in ("identity", "expression", "albedo"):
        torch.testing.assert_close(getattr(moved, name), torch.ones_like(getattr(moved, name)))
    torch.testing.assert_close(moved.rotation, torch.full((1, 3), 0.3))
    torch.testing.assert_close(
        moved.translation - start.translation, torch.tensor([[20.0, 20.0, 60.0]])
    )
    torch.testing.assert_close(moved.scale.log(), torch.tensor([[0.02]]))
    torch.testing.assert_close(moved.lighting - start.lighting, torch.full((1, 9, 3), 0.3))


def test_the_scale_never_leaves_its_bounds():
    outputs = torch.zeros(2, trained().sizes.vector)
    outputs[:, sum(SIZES) + 6] = torch.tensor([1e6, -1e6])
    found = trained().decode(outputs).scale[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5]).exp())


def test_answers_are_float32_whatever_the_network_runs_in():
    with torch.autocast("cpu", torch.bfloat16):
        answer = trained()(photos())
    assert answer.identity.dtype == answer.lighting.dtype == torch.float32
    torch.testing.assert_close(vector(answer), vector(trained()(photos())), atol=0.5, rtol=0.05)


# What it sees -----------------------------------------------------------------------------------


def test_crops_are_shrunk_to_the_input_size_by_area(tiny):
    large, shrunk = tiny.pooled(photos(3, 128)), tiny.pooled(F.avg_pool2d(photos(3, 128), 2))
    torch.testing.assert_close(large, shrunk)
    assert shrunk.std() > 0.01


def test_photos_are_normalised_as_for_imagenet_and_maps_averaged(tiny):
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = tiny.features((photos() - mean[:, None, None]) / sd[:, None, None])
    torch.testing.assert_close(tiny.pooled(photos()), maps.mean((2, 3)))
    assert maps.std() > 0.01


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_only_batch_normalisation_in_training_knows_the_other_photos(norm):
    torch.manual_seed(0)
    encoder = Encoder(SIZES, "resnet18", norm, input_size=64).train()
    statistics = {k: v.clone() for k, v in encoder.named_buffers()}
    alone, together = encoder.pooled(photos()[:2])[0], encoder.pooled(photos())[0]
    assert torch.allclose(alone, together, atol=1e-4) == (norm != "batch")
    moved = [k for k, v in encoder.named_buffers() if not torch.equal(v, statistics[k])]
    assert bool(moved) == (norm == "batch")
    learns = {name.rsplit(".", 2)[-2] for name, _ in encoder.features.named_parameters()}
    assert any(n in learns for n in ("1", "bn1")) == (norm != "frozen")  # the norms' gains


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.rand(3, 64, 64), "(batch, 3, size, size), got (3, 64, 64)"),
        (torch.rand(1, 1, 64, 64), "(batch, 3, size, size), got (1, 1, 64, 64)"),
        (torch.rand(1, 64, 64, 3), "(batch, 3, size, size), got (1, 64, 64, 3)"),
        (torch.rand(1, 3, 64, 48), "(batch, 3, size, size), got (1, 3, 64, 48)"),
        (torch.zeros(1, 3, 64, 64).byte(), "floating point in [0, 1], got torch.uint8"),
    ],
)
def test_anything_but_square_pictures_is_refused(image, says):
    with pytest.raises(ValueError, match=re.escape(f"image: expected {says}")):
        trained()(image)


# Another's weights ------------------------------------------------------------------------------


def test_take_copies_the_weights(tiny_backbones, tiny):
    ours = Encoder(SIZES, SMALL, input_size=96)
    ours.take(tiny)
    assert ours.input_size == 96
    for (name, a), b in zip(ours.state_dict().items(), tiny.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
        assert a.data_ptr() != b.data_ptr(), name


def test_take_begins_anew_where_another_face_model_has_more_modes(tiny_backbones, tiny):
    ours = Encoder((SIZES[0], SIZES[1], SIZES[2] + 2), SMALL)
    ours.take(tiny)
    for new, old in ((ours.head.weight, tiny.head.weight), (ours.head.bias, tiny.head.bias)):
        shared, pose = SIZES[0] + SIZES[1], 3 + 3 + 1 + 27
        assert torch.equal(new[:shared], old[:shared])
        assert torch.equal(new[-pose:], old[-pose:])
        assert not new[shared:-pose].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(backbone="resnet18"), "its backbone is mobilenet_v3_large, and resnet18 was asked"),
        (dict(norm="frozen"), "its norm is batch, and frozen was asked for"),
    ],
)
def test_take_refuses_what_is_built_otherwise(change, message, tiny_backbones, tiny):
    ours = Encoder(**(dict(sizes=SIZES, backbone=SMALL) | change))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(EncoderError, match=message):
        ours.take(tiny)
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


# Files ------------------------------------------------------------------------------------------


@lru_cache
def saved(store: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(Path(folder, "x"), trained(), {"note": "so it is"}, store)
        return Path(folder, "x").read_bytes()


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
def test_what_is_saved_comes_back(store, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(saved(store))
    found = load_encoder(path)
    assert not found.training
    assert (found.sizes, found.backbone, found.norm) == (SIZES, SMALL, "batch")
    assert (found.input_size, found.name) == (64, "x.safetensors")
    assert found.metadata["note"] == "so it is"
    for (name, ours), theirs in zip(
        found.state_dict().items(), trained().state_dict().values(), strict=True
    ):
        assert ours.dtype == theirs.dtype, name
        if ours.ndim < 2 or store == "float32":
            assert torch.equal(ours, theirs), name
        elif store == "float16":
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=2**-11)
        else:  # whole 127ths of each output channel's largest
            largest = theirs.flatten(1).abs().amax(1)
            error = (ours - theirs).flatten(1).abs().amax(1)
            assert (error <= largest / 127 / 2 * 1.001).all(), name
            assert error.max() > 0, name
    answers = vector(found(photos())) - vector(trained()(photos()))
    assert answers.abs().max() < {"float32": 1e-6, "float16": 0.05, "int8": 2.0}[store]


def test_int8_is_a_quarter_of_the_size_and_float16_a_half():
    full = len(saved("float32"))
    assert len(saved("float16")) < 0.52 * full
    assert len(saved("int8")) < 0.28 * full


def test_int8_keeps_a_channel_of_zeros_and_one_much_larger(tmp_path, tiny_backbones, tiny):
    encoder = tiny
    with torch.no_grad():
        encoder.head.weight[0] = 0
        encoder.head.weight[1] *= 1e4
    save_encoder(tmp_path / "x", encoder, store="int8")
    found = load_encoder(tmp_path / "x").head.weight
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], encoder.head.weight[1], atol=200, rtol=0.01)
    torch.testing.assert_close(found[2:], encoder.head.weight[2:], atol=0.02, rtol=0.01)
